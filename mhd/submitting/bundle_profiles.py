"""Which level of MHD a Bundle claims, and whether its entries are what the profiles of that level ask."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_profiles import profile_problems
from mhd.fhir.operation_outcome import Issue, IssueSeverity, IssueType
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.document_reference import STATUSES
from mhd.mapping.identifiers import ENTRY_UUID, UNIQUE_ID, entry_uuid_of, identifiers_of_kind, unique_id_of
from mhd.mapping.reading import Reading
from mhd.submitting.submission_options import Minimal
from mhd.submitting.transaction_bundle import BundleEntry, Part, TransactionBundle
from xds.hl7v2 import is_oid


class Level(StrEnum):
    """How much metadata a Bundle promises to have."""

    MINIMAL = "Minimal"
    COMPREHENSIVE = "Comprehensive"


_BASES: Final = (
    "https://profiles.ihe.net/ITI/MHD/StructureDefinition/",
    "http://profiles.ihe.net/ITI/MHD/StructureDefinition/",
    "http://ihe.net/fhir/StructureDefinition/",
)
_LEVELS: Final = {
    "IHE.MHD.Minimal.ProvideBundle": Level.MINIMAL,
    "IHE.MHD.Comprehensive.ProvideBundle": Level.COMPREHENSIVE,
    "IHE.MHD.UnContained.Comprehensive.ProvideBundle": Level.COMPREHENSIVE,
    "IHE.MHD.ProvideDocumentBundle.Minimal": Level.MINIMAL,
    "IHE.MHD.ProvideDocumentBundle.Comprehensive": Level.COMPREHENSIVE,
    "IHE_MHD_Provide_Minimal_DocumentBundle": Level.MINIMAL,
    "IHE_MHD_Provide_Comprehensive_DocumentBundle": Level.COMPREHENSIVE,
}
"""Names of the profile in MHD 4.2, 4.0 and 3.2, each below any of _BASES."""

_PROFILES: Final = {
    Part.SUBMISSION_SET: "SubmissionSet",
    Part.DOCUMENT: "DocumentReference",
    Part.FOLDER: "Folder",
}


def claimed_level(bundle: Json) -> Level | None:
    """The level that meta.profile names; None where it names none that is known."""
    for canonical in bundle.get("meta", {}).get("profile", ()):
        url = canonical.partition("|")[0]
        for base in _BASES:
            if url.startswith(base) and url.removeprefix(base) in _LEVELS:
                return _LEVELS[url.removeprefix(base)]
    return None


def judge_profiles(bundle: TransactionBundle, minimal: Minimal, reading: Reading, *, strict: bool = False) -> Level:
    """Have each List and DocumentReference judged by its profile; the level that counted: that of XDS in doubt.

    strict   a Bundle has to claim a profile that is known
    """
    said = claimed_level(bundle.resource)
    if said is None and strict:
        path = "Bundle.meta.profile"
        reading.refuse(
            path, f"{path} names no profile of MHD; send {_BASES[0]}{next(iter(_LEVELS))}.", IssueType.REQUIRED
        )
    claimed = said or Level.COMPREHENSIVE
    level = Level.COMPREHENSIVE if minimal is Minimal.REJECT else claimed
    before = len(reading.issues)
    for entry in bundle.entries:
        if entry.part in _PROFILES:
            name = f"IHE.MHD.{level}.{_PROFILES[entry.part]}"
            reading.issues.extend(profile_problems(entry.resource, name, entry.resource_path))
        reading.issues.extend(_own_rules(entry))
    if claimed is not level and len(reading.issues) > before:
        reading.issues.append(_ONLY_COMPREHENSIVE)
    return level


_ONLY_COMPREHENSIVE: Final = Issue(
    IssueType.INFORMATIONAL,
    "The Bundle claims minimal metadata; this server takes comprehensive metadata alone.",
    "Bundle.meta.profile",
    severity=IssueSeverity.INFORMATION,
)


def _own_rules(entry: BundleEntry) -> Iterator[Issue]:
    """What the profiles say in words or invariants."""
    reading = Reading()
    if entry.part is Part.SUBMISSION_SET:
        for number, identifier in identifiers_of_kind(entry.resource.get("identifier", ()), UNIQUE_ID):
            unique_id = unique_id_of(identifier, CodeSystems())
            if unique_id is None or not is_oid(unique_id):
                path = f"{entry.resource_path}.identifier[{number}].value"
                reading.refuse(path, f"The uniqueId of a SubmissionSet is {identifier.get('value', '')[:100]!r}; "
                                     "send urn:oid: and an OID.")  # fmt: skip
        for number, identifier in identifiers_of_kind(entry.resource.get("identifier", ()), ENTRY_UUID):
            if "type" in identifier and entry_uuid_of(identifier.get("value", "")) is None:
                path = f"{entry.resource_path}.identifier[{number}].value"
                reading.refuse(path, f"The entryUUID of a SubmissionSet is {identifier.get('value', '')[:100]!r}; "
                                     "send urn:uuid: and a UUID.")  # fmt: skip
    if entry.part is Part.DOCUMENT and STATUSES.get(entry.resource["status"]) == STATUSES["superseded"]:
        path = f"{entry.resource_path}.status"
        sentence = "A document that is submitted is current; send current. What it replaces becomes superseded."
        reading.refuse(path, sentence, IssueType.CODE_INVALID)
    yield from reading.issues
