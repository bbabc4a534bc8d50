"""Where in a Bundle stands what a registry or repository complains of: its locations as FHIRPath."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mhd.fhir.operation_outcome import Issue, IssueType, issue_of
from mhd.mapping.document_list import FOLDER_PLACES, SUBMISSION_SET_PLACES
from mhd.mapping.document_reference import PLACES
from xds.errors import ErrorCode, RegistryError
from xds.metadata import AnyObject, ObjectKind
from xds.metadata_names import canonical_id, term

_ATTRIBUTES: Final[Mapping[ObjectKind, Mapping[str, str]]] = {
    ObjectKind.DOCUMENT_ENTRY: {term(name): path for name, path in PLACES.items()},
    ObjectKind.SUBMISSION_SET: {term(name): path for name, path in SUBMISSION_SET_PLACES.items()},
    ObjectKind.FOLDER: {term(name): path for name, path in FOLDER_PLACES.items()},
}
_NAMES: Final = {term(name): name for table in (PLACES, SUBMISSION_SET_PLACES, FOLDER_PLACES) for name in table}
_CODED: Final = frozenset(
    {"classCode", "codeList", "confidentialityCode", "contentTypeCode", "eventCodeList", "formatCode",
     "healthcareFacilityTypeCode", "languageCode", "practiceSettingCode", "typeCode"}
)  # fmt: skip
_OF_METADATA: Final = frozenset({ErrorCode.REGISTRY_METADATA_ERROR, ErrorCode.REPOSITORY_METADATA_ERROR})


@dataclass(frozen=True, slots=True)
class _Place:
    path: str
    item: AnyObject | None


@dataclass(slots=True)
class Places:
    """The FHIRPath of each object of a submission."""

    _by_id: dict[str, _Place] = field(default_factory=dict)

    def put(self, item: AnyObject, path: str) -> None:
        """Say where an object comes from. An Association has no attributes in FHIR: it is its place as a whole."""
        kept = None if item.kind is ObjectKind.ASSOCIATION else item
        self._by_id[canonical_id(item.entry_uuid)] = _Place(path, kept)

    def issues(self, errors: Iterable[RegistryError]) -> list[Issue]:
        """What was said of a submission, each at its place in the Bundle."""
        return [self._issue(each) for each in errors]

    def _issue(self, error: RegistryError) -> Issue:
        entry_uuid, _, attribute = error.location.rpartition("/")
        place = self._by_id.get(canonical_id(entry_uuid)) or self._by_id.get(canonical_id(error.location))
        if place is None:
            return issue_of(error)
        if place.item is None:
            return issue_of(error, place.path)
        inner = _ATTRIBUTES[place.item.kind].get(attribute)
        path = f"{place.path}.{inner}" if inner else place.path
        return issue_of(error, path, _issue_type(error, place.item, attribute))


def _issue_type(error: RegistryError, item: AnyObject, attribute: str) -> IssueType | None:
    """Metadata errors have one code for everything; what is missing and what is a wrong code is seen in the object."""
    if error.code not in _OF_METADATA or attribute not in _NAMES:
        return None
    if getattr(item, _NAMES[attribute], None) in (None, (), ""):
        return IssueType.REQUIRED
    return IssueType.CODE_INVALID if attribute in _CODED else None
