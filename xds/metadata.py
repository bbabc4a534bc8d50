"""XDS metadata: DocumentEntry, SubmissionSet, Folder, Association (ITI TF-3: 4.2).

The attributes have the standard's names. Three things hold for every object:
* what was sent and has no attribute here is kept in `extra_*` and comes back as sent;
* text in a language is an `InternationalString`, every version with its language and charset;
* an attribute that was not sent is None, "" never stands for it.
Attributes that the standard requires may be None here: metadata that breaks rules must be expressible, so that
all that is wrong with it can be told (xds/metadata_rules.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from xds.errors import Finding
from xds.hl7v2 import CX, DTM, XCN, XON, XTN, CXi


class ObjectKind(StrEnum):
    """The four kinds of registry objects of XDS."""

    DOCUMENT_ENTRY = "DocumentEntry"
    SUBMISSION_SET = "SubmissionSet"
    FOLDER = "Folder"
    ASSOCIATION = "Association"


class AvailabilityStatus(StrEnum):
    """ITI TF-3: 4.2.3.2.2 and 4.2.2.1 (for associations), as sent."""

    APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
    DEPRECATED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"


class DocumentEntryType(StrEnum):
    """objectType of a DocumentEntry (ITI TF-3: 4.2.5.2)."""

    STABLE = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
    ON_DEMAND = "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"


class AssociationType(StrEnum):
    """ITI TF-3: 4.2.2.2, Table 4.2.2.2-1, as sent."""

    HAS_MEMBER = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
    RPLC = "urn:ihe:iti:2007:AssociationType:RPLC"
    APND = "urn:ihe:iti:2007:AssociationType:APND"
    XFRM = "urn:ihe:iti:2007:AssociationType:XFRM"
    XFRM_RPLC = "urn:ihe:iti:2007:AssociationType:XFRM_RPLC"
    SIGNS = "urn:ihe:iti:2007:AssociationType:signs"
    IS_SNAPSHOT_OF = "urn:ihe:iti:2010:AssociationType:IsSnapshotOf"
    UPDATE_AVAILABILITY_STATUS = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"
    SUBMIT_ASSOCIATION = "urn:ihe:iti:2010:AssociationType:SubmitAssociation"


REPLACING = frozenset({AssociationType.RPLC, AssociationType.XFRM_RPLC})
"""Associations whose target is deprecated by the submission (ITI TF-3: 4.2.2.2.3, 4.2.2.2.4)."""

RELATIONSHIPS = frozenset(
    {AssociationType.RPLC, AssociationType.APND, AssociationType.XFRM, AssociationType.XFRM_RPLC,
     AssociationType.SIGNS, AssociationType.IS_SNAPSHOT_OF}
)  # fmt: skip
"""Associations from one DocumentEntry to another (ITI TF-3: 4.2.2.2)."""


UPDATE_OPERATIONS = frozenset({AssociationType.UPDATE_AVAILABILITY_STATUS, AssociationType.SUBMIT_ASSOCIATION})
"""Associations from a SubmissionSet that say what an update does (ITI TF-2: 3.57.4.1.3.3)."""

OFFLINE = "urn:ihe:iti:2010:DocumentAvailability:Offline"
"""documentAvailability of a document that can not be retrieved (ITI TF-3: 4.2.3.2.30)."""


@dataclass(frozen=True, slots=True)
class LocalizedString:
    """Text in one language. language and charset are None where they were not sent."""

    value: str
    language: str | None = None
    charset: str | None = None


InternationalString: TypeAlias = tuple[LocalizedString, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """A named list of values, outside of what the standard names."""

    name: str
    values: tuple[str, ...] = ()
    slot_type: str | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """A code of a coding scheme: an ebRIM Classification with nodeRepresentation and codingScheme.

    The ids of Classifications and ExternalIdentifiers name nothing that anybody refers to, so they are not kept:
    what is written gets ids of its own (xds/ebxml_writer.py).
    """

    code: str | None
    coding_scheme: str | None
    display_name: InternationalString = ()
    extra_slots: tuple[Slot, ...] = ()

    @property
    def coded(self) -> str:
        """`code^^scheme`, the form in which stored queries name it (ITI TF-2: 3.18.4.1.2.3.4)."""
        return f"{self.code or ''}^^{self.coding_scheme or ''}"


@dataclass(frozen=True, slots=True)
class Author:
    """ITI TF-3: 4.2.3.2.1 and 4.2.3.3.1."""

    author_person: XCN | None = None
    author_institution: tuple[XON, ...] = ()
    author_role: tuple[str, ...] = ()
    author_specialty: tuple[str, ...] = ()
    author_telecommunication: tuple[XTN, ...] = ()
    extra_slots: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True)
class Classification:
    """A classification that XDS has no attribute for, as sent."""

    classification_scheme: str | None
    node_representation: str | None = None
    classification_node: str | None = None
    slots: tuple[Slot, ...] = ()
    name: InternationalString = ()
    description: InternationalString = ()


@dataclass(frozen=True, slots=True)
class ExternalIdentifier:
    """An external identifier that XDS has no attribute for, as sent."""

    identification_scheme: str
    value: str
    name: InternationalString = ()
    description: InternationalString = ()
    slots: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryObject:
    """What all four kinds share.

    entry_uuid    `urn:uuid:` + lower-case UUID; before registration it may be a symbolic id (ITI TF-3: 4.2.3.2.7)
    logical_id    entryUUID of the first version (ITI TF-3: 4.2.3.2.32); None before registration
    version       VersionInfo.versionName, a number that counts from 1 (ITI TF-3: 4.2.3.2.34)
    """

    entry_uuid: str
    logical_id: str | None = None
    version: str | None = None
    version_comment: str | None = None
    home_community_id: str | None = None
    availability_status: str | None = None
    title: InternationalString = ()
    comments: InternationalString = ()
    extra_slots: tuple[Slot, ...] = ()
    extra_classifications: tuple[Classification, ...] = ()
    extra_identifiers: tuple[ExternalIdentifier, ...] = ()


HASH_OF_NOTHING: Final = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
"""The SHA-1 of no octets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentEntry(RegistryObject):
    """One document's metadata (ITI TF-3: 4.2.3.2, Table 4.2.3.2-1).

    hash    SHA-1 of the document as 40 hex digits, as sent (compared without regard to case)
    size    octets, as the digits sent
    """

    unique_id: str | None = None
    patient_id: CX | None = None
    author: tuple[Author, ...] = ()
    class_code: Code | None = None
    confidentiality_code: tuple[Code, ...] = ()
    creation_time: DTM | None = None
    document_availability: str | None = None
    event_code_list: tuple[Code, ...] = ()
    format_code: Code | None = None
    hash: str | None = None
    healthcare_facility_type_code: Code | None = None
    is_opaque: str | None = None
    language_code: str | None = None
    legal_authenticator: XCN | None = None
    limited_metadata: bool = False
    mime_type: str | None = None
    object_type: str | None = DocumentEntryType.STABLE
    practice_setting_code: Code | None = None
    reference_id_list: tuple[CXi, ...] = ()
    repository_unique_id: str | None = None
    service_start_time: DTM | None = None
    service_stop_time: DTM | None = None
    size: str | None = None
    source_patient_id: CX | None = None
    source_patient_info: tuple[str, ...] = ()
    type_code: Code | None = None
    uri: str | None = None

    kind = ObjectKind.DOCUMENT_ENTRY

    @property
    def says_delayed(self) -> bool:
        """Whether it says what that of a delayed document says, one that is assembled when it is first retrieved.

        ITI TF-2: 3.42.4.1.2.1. The entry of an empty document that is in its repository says the same.
        """
        is_stable = self.object_type == DocumentEntryType.STABLE
        return is_stable and (self.hash or "").lower() == HASH_OF_NOTHING and (self.size or "").strip("0") == ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionSet(RegistryObject):
    """A group of objects submitted together (ITI TF-3: 4.2.3.3, Table 4.2.3.3-1).

    intended_recipient   `XON|XCN|XTN` each, any part may be empty
    """

    unique_id: str | None = None
    patient_id: CX | None = None
    author: tuple[Author, ...] = ()
    content_type_code: Code | None = None
    intended_recipient: tuple[str, ...] = ()
    limited_metadata: bool = False
    source_id: str | None = None
    submission_time: DTM | None = None

    kind = ObjectKind.SUBMISSION_SET


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder(RegistryObject):
    """A lasting collection of documents (ITI TF-3: 4.2.3.4, Table 4.2.3.4-1).

    last_update_time   the registry's, in whole seconds; what a source sends is not kept (ITI TF-3: 4.2.3.4.6)
    """

    unique_id: str | None = None
    patient_id: CX | None = None
    code_list: tuple[Code, ...] = ()
    last_update_time: DTM | None = None
    limited_metadata: bool = False

    kind = ObjectKind.FOLDER


@dataclass(frozen=True, slots=True, kw_only=True)
class Association(RegistryObject):
    """A link between two objects (ITI TF-3: 4.2.2).

    association_type        URN; an AssociationType where the standard knows it
    submission_set_status   `Original` or `Reference`, on HasMember from a SubmissionSet to a DocumentEntry
    documentation           why two documents are related, on relationships (ITI TF-3: 4.2.2.2.6)
    """

    association_type: str
    source_object: str
    target_object: str
    documentation: Code | None = None
    submission_set_status: str | None = None
    previous_version: str | None = None
    original_status: str | None = None
    new_status: str | None = None
    association_propagation: str | None = None

    kind = ObjectKind.ASSOCIATION


AnyObject: TypeAlias = DocumentEntry | SubmissionSet | Folder | Association


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """All objects of one SubmitObjectsRequest, in the order sent.

    submission_sets   exactly one in a sound submission
    findings          what the reader could not express in these classes: a single-valued attribute sent twice, a
                      slot without a name, ... They are reported together with all else that is wrong.
    """

    submission_sets: tuple[SubmissionSet, ...] = ()
    document_entries: tuple[DocumentEntry, ...] = ()
    folders: tuple[Folder, ...] = ()
    associations: tuple[Association, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def submission_set(self) -> SubmissionSet:
        """The one SubmissionSet. Only for a submission that passed the rules."""
        return self.submission_sets[0]

    @property
    def objects(self) -> tuple[AnyObject, ...]:
        return (*self.submission_sets, *self.document_entries, *self.folders, *self.associations)
