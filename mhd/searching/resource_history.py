"""The versions of a resource, the newest first (FHIR R4: http.html, "history"; bundle.html, bdl-3 and bdl-4).

What was removed [ITI-62] has left nothing that could be told. A history goes on by the number of the last version that
was shown, so that what is registered meanwhile does not come between its pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from mhd.fhir.fhir_primitives import PRIMITIVES
from mhd.fhir.operation_outcome import Issue, IssueType, Refused
from mhd.messages import FhirAnswer
from mhd.searching.renderer import Completion
from mhd.searching.resource_reads import LinksOfPast, newest_of, older_versions, shown
from mhd.searching.search_request import PageSizes, Pair, invalid
from mhd.searching.searchset import search_url
from xds.audit import Accessed, AccessedObject
from xds.metadata import ObjectKind
from xds.paged_search import PagedObject, PagedRegistry

_FIRST: Final = 1
_NEVER_HEEDED: Final = ("_at", "_list")
_FORMAT: Final = "_format"


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """What of a history is asked for.

    count    versions of a page; 0: only how many there are
    before   the page has what is older than the version of this number; None: it begins with the newest
    since    what was registered then or later is wanted; None: everything
    used     what was heeded, in the order sent: the self link
    """

    count: int
    before: int | None
    since: datetime | None
    used: tuple[Pair, ...]


def history_request(parameters: Iterable[Pair], *, sizes: PageSizes, strict: bool) -> HistoryRequest:
    """Read the parameters of a history. Raises Refused (400) with all that is wrong.

    strict   what is not known is refused, not ignored
    """
    issues: list[Issue] = []
    heeded: dict[str, str] = {}
    for name, value in parameters:
        if name in _FORMS:
            form, example = _FORMS[name]
            if form(value):
                heeded[name] = value
            else:
                issues.append(invalid(name, f"is {value[:60]!r}; send {example}"))
        elif name in _NEVER_HEEDED or (strict and name != _FORMAT):
            text = (
                f"The parameter {name[:100]!r} is not known of a history here; leave it out, and send _since or _count."
            )
            issues.append(Issue(IssueType.NOT_SUPPORTED, text, name[:100]))
        elif name == _FORMAT:
            heeded[name] = value
    if issues:
        raise Refused(*issues)
    count = min(int(heeded["_count"]), sizes.largest) if "_count" in heeded else sizes.usual
    before = int(heeded["_page"]) if "_page" in heeded else None
    since = datetime.fromisoformat(_with_plus(heeded["_since"])) if "_since" in heeded else None
    return HistoryRequest(count, before, since, tuple(heeded.items()))


def _is_instant(value: str) -> bool:
    return PRIMITIVES["instant"](_with_plus(value)) is None


def _with_plus(instant: str) -> str:
    """A plus sign that was not encoded has become a blank."""
    return instant.replace(" ", "+")


def _is_number(value: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", value) is not None


_FORMS: Final = {
    "_count": (_is_number, "a number such as 50"),
    "_page": (_is_number, "the URL of link.next as it is"),
    "_since": (_is_instant, "an instant such as 2026-03-01T10:00:00Z"),
}


async def read_history(
    resource: str,
    resource_id: str,
    kinds: tuple[ObjectKind, ...],
    request: HistoryRequest,
    *,
    registry: PagedRegistry,
    links: LinksOfPast,
    completion: Completion,
    moment: str,
) -> FhirAnswer:
    """The versions of a registered object of one of these kinds, each as it is read by its number.

    resource_id   as for read_object()
    moment        an instant: now
    Raises Refused: 404, or 410 where the object was removed; XdsError.
    """
    newest = await newest_of(resource, resource_id, kinds, registry)
    older = sorted(await older_versions(newest, registry), key=_number, reverse=True)
    wanted = [each for each in (newest, *older) if _is_wanted(each, request, completion)]
    left = [each for each in wanted if request.before is None or _number(each) < request.before]
    page = left[: request.count]
    now = shown(newest, completion)
    [(kind, logical_id)] = now.accessed.objects
    head: dict[str, Any] = {
        "resourceType": "Bundle",
        "type": "history",
        "timestamp": moment,
        "total": len(wanted),
        "link": _links(now.headers["Content-Location"], request, page, is_last=len(page) == len(left)),
    }
    entries = [_entry(resource, each, completion) for each in await _with_links(page, newest, links)]
    return FhirAnswer(
        orjson.dumps(head)[:-1] + (b',"entry":[' + b",".join(entries) + b"]}" if entries else b"}"),
        accessed=Accessed(
            tuple(dict.fromkeys(each.patient_id for each in (newest, *page))),
            (AccessedObject(kind, f"{logical_id}/_history"),),
        ),
    )


async def _with_links(page: Sequence[PagedObject], newest: PagedObject, links: LinksOfPast) -> Sequence[PagedObject]:
    """The versions of a page with what their associations said; those of the newest are known. Raises Refused."""
    past = [each for each in page if each is not newest]
    links_of = await links(past) if past else {}
    return [each if each is newest else each._replace(links=tuple(links_of[each.entry_uuid])) for each in page]


def _is_wanted(found: PagedObject, request: HistoryRequest, completion: Completion) -> bool:
    """Raises Refused where it can not be told."""
    if request.since is None:
        return True
    last_updated = shown(found, completion).last_updated
    if last_updated is None:
        text = "_since can not be heeded: the registry does not tell when this was changed. Leave it out."
        raise Refused(Issue(IssueType.NOT_SUPPORTED, text, "_since"))
    return datetime.fromisoformat(last_updated) >= request.since


def _number(found: PagedObject) -> int:
    return int(found.version) if found.version.isdecimal() else _FIRST


def _links(
    url: str, request: HistoryRequest, page: Sequence[PagedObject], *, is_last: bool
) -> Sequence[Mapping[str, str]]:
    base, resource, resource_id = url.rsplit("/", 2)
    path = f"{resource}/{resource_id}/_history"
    links = [{"relation": "self", "url": search_url(base, path, request.used)}]
    if page and not is_last:
        used = [*(each for each in request.used if each[0] != "_page"), ("_page", page[-1].version)]
        links.append({"relation": "next", "url": search_url(base, path, used)})
    return links


def _entry(resource: str, found: PagedObject, completion: Completion) -> bytes:
    """One version: what it is, and what brought it."""
    told = shown(found, completion)
    url = told.headers["Content-Location"]
    is_new = _number(found) == _FIRST
    path = resource if is_new else "/".join(url.rsplit("/", 2)[-2:])
    response = {"status": "201 Created" if is_new else "200 OK", "etag": f'W/"{told.etag}"'}
    if told.last_updated:
        response["lastModified"] = told.last_updated
    parts = {
        "fullUrl": url,
        "resource": orjson.Fragment(completion.with_base(completion.resource(found))),
        "request": {"method": "POST" if is_new else "PUT", "url": path},
        "response": response,
    }
    return orjson.dumps(parts)
