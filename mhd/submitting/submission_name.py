"""What a SubmissionSet and Folders without uniqueId are called: a name that follows from what was sent.

So a submission that is sent again, because its answer was lost, has the names that it had the first time. A registry
takes the uniqueId of a SubmissionSet once, also of two that come at the same moment to two nodes (docs/adr/0014).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import UUID, uuid5

from mhd.fhir.exact_text import Json
from xds.hl7v2 import oid_of

_NAMESPACE: Final = UUID("5b0e5a0c-6e0d-4a53-8f0f-2d3e8b0c7f61")
_URN: Final = re.compile(r"urn:uuid:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|urn:oid:[0-9.]+")
_PIECE: Final = 1024 * 1024  # characters of base64


def submission_name(sent: Json) -> UUID:
    """The name of all that a sound Bundle, or another resource, says.

    Whoever makes a Bundle anew gives its entries other fullUrls: they count by their place. Neither does it matter
    whether it was JSON or XML, nor in which order the elements stand.
    """
    hashing = hashlib.sha256()
    for piece in _said(sent):
        hashing.update(piece)
    return uuid5(_NAMESPACE, hashing.hexdigest())


def next_name(submission: UUID) -> UUID:
    """The name of a submission whose name was that of one which says the same, and was removed since."""
    return uuid5(submission, "again")


def unique_id_in(submission: UUID, number: int) -> str:
    """The uniqueId of what one entry of the Bundle makes."""
    return oid_of(uuid5(submission, str(number)))


def _said(sent: Json) -> Iterator[bytes]:
    """What is sent, a part at a time; documents, which may be large, by themselves."""
    entries = sent.get("entry", ()) if sent.get("resourceType") == "Bundle" else ()
    places = {each["fullUrl"]: f"entry[{number}]" for number, each in enumerate(entries) if "fullUrl" in each}
    yield _text({name: value for name, value in sent.items() if not entries or name != "entry"}, places)
    for entry in entries:
        resource = entry.get("resource", {})
        data = resource.get("data", "") if resource.get("resourceType") == "Binary" else ""
        without = {name: value for name, value in resource.items() if not data or name != "data"}
        yield _text(entry | {"resource": without}, places)
        for start in range(0, len(data), _PIECE):
            yield data[start : start + _PIECE].encode()


def _text(value: Any, places: Mapping[str, str]) -> bytes:
    text = json.dumps(value, sort_keys=True, default=str)
    return _URN.sub(lambda found: places.get(found[0], found[0]), text).encode()
