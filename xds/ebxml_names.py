"""How ebRIM 3.0 spells XDS metadata: namespaces, and a row per attribute for reader and writer alike.

ITI TF-3: 4.2.1 (objects), 4.2.2 (associations), Tables 4.2.3.2-1, 4.2.3.3-1 and 4.2.3.4-1 (attributes); the UUIDs of
the classification and identification schemes are those of ITI TF-3: 4.2.5. What the tables have no row for is an XML
attribute or a child of its own (id, lid, status, home, Name, Description, VersionInfo, mimeType).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

from xds.hl7v2 import CX, DTM, XCN, XON, XTN, CXi
from xds.metadata import AssociationType, ObjectKind

RIM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
RS: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
LCM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
QUERY: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
XDSB: Final = "urn:ihe:iti:xds-b:2007"
RMD: Final = "urn:ihe:iti:rmd:2017"

XML_LANG: Final = "{http://www.w3.org/XML/1998/namespace}lang"

_OBJECT_TYPE: Final = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject"
REGISTRY_PACKAGE_TYPE: Final = f"{_OBJECT_TYPE}:RegistryPackage"
ASSOCIATION_TYPE: Final = f"{_OBJECT_TYPE}:Association"
CLASSIFICATION_TYPE: Final = f"{_OBJECT_TYPE}:Classification"
EXTERNAL_IDENTIFIER_TYPE: Final = f"{_OBJECT_TYPE}:ExternalIdentifier"

CODING_SCHEME: Final = "codingScheme"
"""The Slot of a code's Classification that names its coding scheme (ITI TF-3: 4.2.3.1.2)."""

ValueType: TypeAlias = type[str] | type[CX] | type[CXi] | type[XCN] | type[XON] | type[XTN] | type[DTM]


@dataclass(frozen=True, slots=True)
class SlotRow:
    """An attribute that is a Slot.

    several       it may have several values: a tuple
    indexed       a long value is cut into several, `1|...` `2|...`
    of_patient    its values say who the patient is, so that no error repeats them
    """

    attribute: str
    slot: str
    value_type: ValueType = str
    several: bool = False
    indexed: bool = False
    of_patient: bool = False


@dataclass(frozen=True, slots=True)
class CodeRow:
    """An attribute that is a Classification with a code of a coding scheme.

    several   it may have several codes: a tuple
    """

    attribute: str
    scheme: str
    several: bool = False


@dataclass(frozen=True, slots=True)
class IdentifierRow:
    """An attribute that is an ExternalIdentifier.

    name          the Name that the standard gives it
    of_patient    its value says who the patient is, so that no error repeats it
    """

    attribute: str
    scheme: str
    name: str
    value_type: ValueType = str
    of_patient: bool = False


def _by_slot(rows: tuple[SlotRow, ...]) -> Mapping[str, SlotRow]:
    return MappingProxyType({row.slot: row for row in rows})


@dataclass(frozen=True)
class Spelling:
    """How one kind of object is spelt.

    element                  local name of its element
    author_scheme            of the Classifications that are its authors
    kind_node                classificationNode that makes a RegistryPackage an object of this kind
    limited_metadata_node    classificationNode that marks limited metadata
    """

    kind: ObjectKind
    element: str
    slots: tuple[SlotRow, ...] = ()
    codes: tuple[CodeRow, ...] = ()
    identifiers: tuple[IdentifierRow, ...] = ()
    author_scheme: str | None = None
    kind_node: str | None = None
    limited_metadata_node: str | None = None
    slots_by_name: Mapping[str, SlotRow] = field(init=False)
    codes_by_scheme: Mapping[str, CodeRow] = field(init=False)
    identifiers_by_scheme: Mapping[str, IdentifierRow] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "slots_by_name", _by_slot(self.slots))
        object.__setattr__(self, "codes_by_scheme", MappingProxyType({row.scheme: row for row in self.codes}))
        object.__setattr__(
            self, "identifiers_by_scheme", MappingProxyType({row.scheme: row for row in self.identifiers})
        )


AUTHOR_SLOTS: Final = (
    SlotRow("author_person", "authorPerson", XCN),
    SlotRow("author_institution", "authorInstitution", XON, several=True),
    SlotRow("author_role", "authorRole", several=True),
    SlotRow("author_specialty", "authorSpecialty", several=True),
    SlotRow("author_telecommunication", "authorTelecommunication", XTN, several=True),
)
AUTHOR_SLOTS_BY_NAME: Final = _by_slot(AUTHOR_SLOTS)

DOCUMENT_ENTRY: Final = Spelling(
    ObjectKind.DOCUMENT_ENTRY,
    "ExtrinsicObject",
    slots=(
        SlotRow("creation_time", "creationTime", DTM),
        SlotRow("document_availability", "documentAvailability"),
        SlotRow("hash", "hash"),
        SlotRow("language_code", "languageCode"),
        SlotRow("legal_authenticator", "legalAuthenticator", XCN),
        SlotRow("reference_id_list", "urn:ihe:iti:xds:2013:referenceIdList", CXi, several=True),
        SlotRow("repository_unique_id", "repositoryUniqueId"),
        SlotRow("service_start_time", "serviceStartTime", DTM),
        SlotRow("service_stop_time", "serviceStopTime", DTM),
        SlotRow("size", "size"),
        SlotRow("source_patient_id", "sourcePatientId", CX, of_patient=True),
        SlotRow("source_patient_info", "sourcePatientInfo", several=True, of_patient=True),
        SlotRow("uri", "URI", indexed=True),
    ),
    codes=(
        CodeRow("class_code", "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a"),
        CodeRow("confidentiality_code", "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f", several=True),
        CodeRow("event_code_list", "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4", several=True),
        CodeRow("format_code", "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"),
        CodeRow("healthcare_facility_type_code", "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1"),
        CodeRow("practice_setting_code", "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead"),
        CodeRow("type_code", "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"),
    ),
    identifiers=(
        IdentifierRow(
            "patient_id",
            "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427",
            "XDSDocumentEntry.patientId",
            CX,
            of_patient=True,
        ),
        IdentifierRow("unique_id", "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab", "XDSDocumentEntry.uniqueId"),
    ),
    author_scheme="urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d",
    limited_metadata_node="urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85",
)
SUBMISSION_SET: Final = Spelling(
    ObjectKind.SUBMISSION_SET,
    "RegistryPackage",
    slots=(
        SlotRow("intended_recipient", "intendedRecipient", several=True),
        SlotRow("submission_time", "submissionTime", DTM),
    ),
    codes=(CodeRow("content_type_code", "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500"),),
    identifiers=(
        IdentifierRow(
            "patient_id",
            "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446",
            "XDSSubmissionSet.patientId",
            CX,
            of_patient=True,
        ),
        IdentifierRow("source_id", "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832", "XDSSubmissionSet.sourceId"),
        IdentifierRow("unique_id", "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8", "XDSSubmissionSet.uniqueId"),
    ),
    author_scheme="urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d",
    kind_node="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd",
    limited_metadata_node="urn:uuid:5003a9db-8d8d-49e6-bf0c-990e34ac7707",
)
FOLDER: Final = Spelling(
    ObjectKind.FOLDER,
    "RegistryPackage",
    slots=(SlotRow("last_update_time", "lastUpdateTime", DTM),),
    codes=(CodeRow("code_list", "urn:uuid:1ba97051-7806-41a8-a48b-8fce7af683c5", several=True),),
    identifiers=(
        IdentifierRow(
            "patient_id", "urn:uuid:f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a", "XDSFolder.patientId", CX, of_patient=True
        ),
        IdentifierRow("unique_id", "urn:uuid:75df8f67-9973-4fbe-a900-df66cefecc5a", "XDSFolder.uniqueId"),
    ),
    kind_node="urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2",
    limited_metadata_node="urn:uuid:2c144a76-29a9-4b7c-af54-b25409fe7d03",
)
ASSOCIATION: Final = Spelling(
    ObjectKind.ASSOCIATION,
    "Association",
    slots=(
        SlotRow("submission_set_status", "SubmissionSetStatus"),
        SlotRow("previous_version", "PreviousVersion"),
        SlotRow("original_status", "OriginalStatus"),
        SlotRow("new_status", "NewStatus"),
        SlotRow("association_propagation", "AssociationPropagation"),
    ),
    codes=(CodeRow("documentation", "urn:uuid:abd807a3-4432-4053-87b4-fd82c643d1f3"),),
)
SPELLINGS: Final[Mapping[ObjectKind, Spelling]] = MappingProxyType(
    {spelling.kind: spelling for spelling in (DOCUMENT_ENTRY, SUBMISSION_SET, FOLDER, ASSOCIATION)}
)
PACKAGE_NODES: Final[Mapping[str, Spelling]] = MappingProxyType(
    {
        node: spelling
        for spelling in (SUBMISSION_SET, FOLDER)
        for node in (spelling.kind_node, spelling.limited_metadata_node)
        if node
    }
)
"""What a RegistryPackage is, by the classificationNodes of its Classifications (ITI TF-3: 4.2.1.2, 4.2.1.3)."""

SHORT_ASSOCIATION_TYPES: Final[Mapping[str, AssociationType]] = MappingProxyType(
    {each.value.rpartition(":")[2]: each for each in AssociationType}
)
"""Association types as XDS.a wrote them, without the URN in front."""
