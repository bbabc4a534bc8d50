"""The PATCH of a replaced document: MHD 4.2 has a source say what XDS does by itself.

A replacement deprecates what it replaces. A Bundle may say so with a FHIRPath Patch of the old DocumentReference, or
leave it out; it may say nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mhd.fhir.exact_text import Json
from mhd.fhir.operation_outcome import IssueType
from mhd.mapping.domain import MhdDomain
from mhd.mapping.reading import Reading
from mhd.submitting.submission_draft import Draft
from mhd.submitting.submission_references import own_entry_uuid
from mhd.submitting.transaction_bundle import Part, TransactionBundle

_ONLY: Final[Mapping[str, Any]] = {"type": "replace", "path": "DocumentReference.status", "value": "superseded"}


def judge_patches(bundle: TransactionBundle, draft: Draft, domain: MhdDomain, reading: Reading) -> None:
    """Each PATCH says that a document is superseded that the same Bundle replaces."""
    for entry in bundle.of(Part.PATCH):
        if _operations(entry.resource) != [_ONLY]:
            sentence = "A PATCH replaces DocumentReference.status by superseded and does nothing else; send that alone."
            reading.refuse(entry.resource_path, sentence, IssueType.NOT_SUPPORTED)
        patched = draft.registered.current_uuid(own_entry_uuid(entry.url, domain) or "")
        if patched not in draft.replaced | draft.registered.superseded:
            reading.refuse(
                f"{entry.path}.request.url",
                "No DocumentReference of the Bundle replaces the document that is patched; send relatesTo with the "
                "code replaces and this document as target.",
                IssueType.BUSINESS_RULE,
            )


def _operations(parameters: Json) -> list[Mapping[str, Any]]:
    """What the Parameters of a FHIRPath Patch say (FHIR R4: fhirpatch.html)."""
    return [
        {part["name"]: _value(part) for part in parameter.get("part", ())}
        for parameter in parameters.get("parameter", ())
    ]


def _value(part: Json) -> Any:
    return next((value for name, value in part.items() if name.startswith("value")), None)
