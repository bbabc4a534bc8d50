"""The answer to a search: a Bundle of resources that are JSON already (FHIR R4: search.html, 3.1.1.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlencode

import orjson

from mhd.searching.renderer import Completion
from xds.paged_search import PagedObject

_MATCH: Final = b',"search":{"mode":"match"}}'
_BETWEEN: Final = _MATCH + b',{"fullUrl":'


def searchset(
    objects: Sequence[PagedObject],
    *,
    total: int,
    links: Mapping[str, str],
    completion: Completion,
    moment: str,
    made: dict[str, bytes],
) -> tuple[bytes, bytes]:
    """The Bundle as JSON, in two pieces: the second may have been made before, and be kept.

    total    how many there are on all pages
    links    by relation, absolute
    moment   an instant: when this was found
    made     holds the entries of these objects by base URL, where they were made before; is given them where not: those
             of one base URL
    """
    head = {
        "resourceType": "Bundle",
        "type": "searchset",
        "timestamp": moment,
        "total": total,
        "link": [{"relation": relation, "url": url} for relation, url in links.items()],
    }
    entries = made.get(completion.base)
    if entries is None:
        entries = _entries(objects, completion)
        made.clear()
        made[completion.base] = entries
    return orjson.dumps(head)[:-1], entries


def _entries(objects: Sequence[PagedObject], completion: Completion) -> bytes:
    """What follows after the head of the Bundle."""
    if not objects:
        return b"}"
    parts: list[bytes] = []
    before = b',"entry":[{"fullUrl":'
    for each in objects:
        resource = each.whole_resource or completion.resource(each)
        parts += (before, completion.full_url(each), b',"resource":', resource)
        before = _BETWEEN
    parts.append(_MATCH + b"]}")
    return completion.with_base(b"".join(parts))


def search_url(base: str, resource: str, parameters: Sequence[tuple[str, str]]) -> str:
    """The URL of a search."""
    return (
        f"{base}/{resource}?{urlencode(parameters, quote_via=quote, safe=':')}" if parameters else f"{base}/{resource}"
    )
