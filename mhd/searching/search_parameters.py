"""The search parameters of Find Document Lists [ITI-66] and Find Document References [ITI-67]: one row each.

ITI TF-2: 3.66.4.1.2, 3.67.4.1.2 (MHD 4.2.4), and parameters of FHIR R4 that cost nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Final

from mhd.fhir.canonicals import MHD
from mhd.searching.search_values import (
    Meaning,
    coded,
    encounter,
    literal_reference,
    moment,
    oid,
    period,
    related,
    status,
    text_code,
)
from xds.metadata import ObjectKind

_FHIR: Final = "http://hl7.org/fhir/SearchParameter/"
_IHE: Final = f"{MHD}SearchParameter/"


class ParameterType(StrEnum):
    """Types of search parameters (FHIR R4: search.html, 3.1.1.4)."""

    TOKEN = "token"  # noqa: S105 - a type, not a secret
    DATE = "date"
    STRING = "string"
    REFERENCE = "reference"
    URI = "uri"


class Role(Enum):
    """What a parameter does to a search."""

    CONDITION = auto()  # its values are conditions on a column
    PATIENT = auto()  # references to the patient
    PATIENT_IDENTIFIER = auto()  # identifiers of the patient
    IDENTIFIER = auto()  # uniqueIds or entryUUIDs
    ID = auto()  # ids of resources
    FAMILY = auto()  # of an author, of whom given names are asked for as well
    GIVEN = auto()
    TEXT = auto()  # the beginning of a text, without regard to case and accents
    RELATES_TO = auto()  # references to documents that a document relates to
    MISSING = auto()  # whether there is a value; nothing else is asked of the column
    LIST_TYPE = auto()  # SubmissionSets, or Folders
    COMMUNITY = auto()


@dataclass(frozen=True, slots=True)
class SearchParameter:
    """One parameter.

    names        spellings; the first is the one that the CapabilityStatement tells
    columns      the search column of each kind of object; a kind that is not there does not heed the parameter
    definition   canonical of the SearchParameter; "" for a chain, which has none
    """

    names: tuple[str, ...]
    type: ParameterType
    columns: Mapping[ObjectKind, str] = field(default_factory=dict)
    meaning: Meaning | None = None
    role: Role = Role.CONDITION
    definition: str = ""

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def modifiers(self) -> frozenset[str]:
        """Those that are understood; none of what an identifier of something else is asked for by."""
        return frozenset() if ":" in self.name else _MODIFIERS.get((self.role, self.type), frozenset())


_ENTRY, _SET, _FOLDER = ObjectKind.DOCUMENT_ENTRY, ObjectKind.SUBMISSION_SET, ObjectKind.FOLDER
_TOKEN, _DATE, _STRING, _REFERENCE = (
    ParameterType.TOKEN, ParameterType.DATE, ParameterType.STRING, ParameterType.REFERENCE,
)  # fmt: skip
NOT: Final = "not"
MISSING: Final = "missing"
_OF_STRINGS: Final = frozenset({"exact", "contains", MISSING})
_MODIFIERS: Final[Mapping[tuple[Role, ParameterType], frozenset[str]]] = {
    (Role.CONDITION, _TOKEN): frozenset({NOT, MISSING}),
    (Role.CONDITION, _DATE): frozenset({MISSING}),
    (Role.CONDITION, _REFERENCE): frozenset({MISSING}),
    (Role.ID, _TOKEN): frozenset({NOT}),
    (Role.IDENTIFIER, _TOKEN): frozenset({NOT}),
    (Role.LIST_TYPE, _TOKEN): frozenset({NOT}),
    (Role.FAMILY, _STRING): _OF_STRINGS,
    (Role.GIVEN, _STRING): _OF_STRINGS,
    (Role.TEXT, _STRING): _OF_STRINGS,
    (Role.RELATES_TO, _REFERENCE): frozenset({MISSING}),
}
"""Those of FHIR R4: search.html, "Modifiers". An id, an identifier and a code of a List are never missing."""


def _chains(base: str, chain: str, target: str) -> tuple[str, ...]:
    """How a chained parameter is spelt, the type of its target named or not."""
    return (f"{base}.{chain}", f"{base}:{target}.{chain}")


_COMMON: Final = (
    SearchParameter(("_id",), _TOKEN, role=Role.ID, definition=f"{_FHIR}Resource-id"),
    SearchParameter(
        ("_lastUpdated",), _DATE, dict.fromkeys((_ENTRY, _SET, _FOLDER), "last_updated"), moment,
        definition=f"{_FHIR}Resource-lastUpdated",
    ),
    SearchParameter(("identifier",), _TOKEN, role=Role.IDENTIFIER, definition=f"{_FHIR}clinical-identifier"),
    SearchParameter(
        ("patient", "subject", "patient:Patient", "subject:Patient"), _REFERENCE, role=Role.PATIENT,
        definition=f"{_FHIR}clinical-patient",
    ),
    SearchParameter(
        (
            *_chains("patient", "identifier", "Patient"), *_chains("subject", "identifier", "Patient"),
            "patient:identifier", "subject:identifier",
        ),
        _TOKEN, role=Role.PATIENT_IDENTIFIER,
    ),
    SearchParameter(
        ("targetCommunityIdList",), ParameterType.URI, role=Role.COMMUNITY,
        definition=f"{_IHE}DocumentReference-TargetCommunityIdList",
    ),
)  # fmt: skip

DOCUMENT_REFERENCE: Final = (
    *_COMMON,
    SearchParameter(
        ("status",), _TOKEN, {_ENTRY: "availability_status"}, status, definition=f"{_FHIR}DocumentReference-status"
    ),
    SearchParameter(
        ("author.family", "author:Practitioner.family"), _STRING, {_ENTRY: "author_name"}, role=Role.FAMILY
    ),
    SearchParameter(("author.given", "author:Practitioner.given"), _STRING, {_ENTRY: "author_name"}, role=Role.GIVEN),
    SearchParameter(("author:missing",), _TOKEN, {_ENTRY: "author"}, role=Role.MISSING),
    SearchParameter(
        ("description",), _STRING, {_ENTRY: "comments"}, role=Role.TEXT,
        definition=f"{_FHIR}DocumentReference-description",
    ),
    SearchParameter(
        ("relatesto", "relatesto:DocumentReference"), _REFERENCE, role=Role.RELATES_TO,
        definition=f"{_FHIR}DocumentReference-relatesto",
    ),
    SearchParameter(
        ("category",), _TOKEN, {_ENTRY: "class_code"}, coded, definition=f"{_FHIR}DocumentReference-category"
    ),
    SearchParameter(("type",), _TOKEN, {_ENTRY: "type_code"}, coded, definition=f"{_FHIR}clinical-type"),
    SearchParameter(
        ("setting",), _TOKEN, {_ENTRY: "practice_setting_code"}, coded,
        definition=f"{_FHIR}DocumentReference-setting",
    ),
    SearchParameter(
        ("facility",), _TOKEN, {_ENTRY: "healthcare_facility_type_code"}, coded,
        definition=f"{_FHIR}DocumentReference-facility",
    ),
    SearchParameter(
        ("event",), _TOKEN, {_ENTRY: "event_code_list"}, coded, definition=f"{_FHIR}DocumentReference-event"
    ),
    SearchParameter(
        ("security-label",), _TOKEN, {_ENTRY: "confidentiality_code"}, coded,
        definition=f"{_FHIR}DocumentReference-security-label",
    ),
    SearchParameter(
        ("format",), _TOKEN, {_ENTRY: "format_code"}, coded, definition=f"{_FHIR}DocumentReference-format"
    ),
    SearchParameter(
        ("contenttype",), _TOKEN, {_ENTRY: "mime_type"}, text_code, definition=f"{_FHIR}DocumentReference-contenttype"
    ),
    SearchParameter(
        ("language",), _TOKEN, {_ENTRY: "language_code"}, text_code, definition=f"{_FHIR}DocumentReference-language"
    ),
    SearchParameter(
        ("creation",), _DATE, {_ENTRY: "creation_time"}, moment, definition=f"{_IHE}DocumentReference-Creation"
    ),
    SearchParameter(("date",), _DATE, {_ENTRY: "submitted"}, moment, definition=f"{_FHIR}DocumentReference-date"),
    SearchParameter(
        ("period",), _DATE, {_ENTRY: "service_period"}, period, definition=f"{_FHIR}DocumentReference-period"
    ),
    SearchParameter(
        ("related",), _REFERENCE, {_ENTRY: "reference_id_list"}, literal_reference,
        definition=f"{_FHIR}DocumentReference-related",
    ),
    SearchParameter(("related:identifier", "related.identifier"), _TOKEN, {_ENTRY: "reference_id_list"}, related),
    SearchParameter(
        ("encounter:identifier", *_chains("encounter", "identifier", "Encounter")), _TOKEN,
        {_ENTRY: "reference_id_list"}, encounter,
    ),
)  # fmt: skip

LIST: Final = (
    *_COMMON,
    SearchParameter(("code",), _TOKEN, role=Role.LIST_TYPE, definition=f"{_FHIR}clinical-code"),
    SearchParameter(
        ("status",), _TOKEN, dict.fromkeys((_SET, _FOLDER), "availability_status"), status,
        definition=f"{_FHIR}List-status",
    ),
    SearchParameter(
        ("date",), _DATE, {_SET: "submission_time", _FOLDER: "last_update_time"}, moment,
        definition=f"{_FHIR}clinical-date",
    ),
    SearchParameter(
        ("designationType",), _TOKEN, {_SET: "content_type_code", _FOLDER: "code_list"}, coded,
        definition=f"{_IHE}List-DesignationType",
    ),
    SearchParameter(("sourceId",), _TOKEN, {_SET: "source_id"}, oid, definition=f"{_IHE}List-SourceId"),
    SearchParameter(
        ("source.family", "source:Practitioner.family"), _STRING, {_SET: "author_name"}, role=Role.FAMILY
    ),
    SearchParameter(("source.given", "source:Practitioner.given"), _STRING, {_SET: "author_name"}, role=Role.GIVEN),
)  # fmt: skip

HEEDED_RESULT_PARAMETERS: Final = frozenset({"_count", "_format", "_sort", "_summary", "_total", "_page"})
