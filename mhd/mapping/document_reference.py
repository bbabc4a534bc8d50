"""DocumentEntry and DocumentReference: the same document's metadata, in XDS and in FHIR (MHD 4.2.4, Volume 3).

The id of the resource is the logicalID, and its meta.versionId the version; neither is read from what is submitted.
XDS -> FHIR -> XDS is the identity for all that MHD has a place for. It has none for: other languages of a text than the
first, documentAvailability, isOpaque, repositoryUniqueId and URI (the URL stands for both), Slots of codes and authors,
and whatever XDS has no attribute for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mhd.fhir.canonicals import HOME_COMMUNITY_ID, URI, profile
from mhd.fhir.exact_text import Json, exact_primitive, put_exact
from mhd.fhir.operation_outcome import IssueType
from mhd.mapping.authors import authenticator_of, authenticator_reference, author_of, author_reference
from mhd.mapping.codes import code_of, code_of_concept, coding_of, concept_of
from mhd.mapping.contained import ContainedResources, contained_by_reference
from mhd.mapping.domain import MhdDomain
from mhd.mapping.hashes import LARGEST_SIZE, base_64_of, hash_problem, hex_of
from mhd.mapping.hl7v2_components import URN_OID
from mhd.mapping.identifiers import (
    ENCOUNTER_ID,
    ENTRY_UUID,
    NAME_ITS_OID,
    cx_identifier,
    cx_of,
    cxi_identifier,
    cxi_of,
    entry_uuid_identifier,
    entry_uuid_of,
    identifiers_of_kind,
    resource_id,
    unique_id_identifier,
    unique_id_of,
)
from mhd.mapping.reading import Reading
from mhd.mapping.source_patient import patient_resource, source_patient_id_of, source_patient_info_of
from mhd.mapping.times import period_of, put_time, time_at, times_of_period
from xds.errors import ErrorCode
from xds.hl7v2 import CX, CXi, is_oid
from xds.metadata import (
    Association,
    AssociationType,
    Author,
    AvailabilityStatus,
    Code,
    DocumentEntry,
    DocumentEntryType,
    Folder,
    InternationalString,
    LocalizedString,
    SubmissionSet,
)

_LANGUAGE: Final = re.compile("[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")  # what xml:lang can say
COMPREHENSIVE: Final = "IHE.MHD.Comprehensive.DocumentReference"
MINIMAL: Final = "IHE.MHD.Minimal.DocumentReference"


# Rows: an attribute of XDS and its place in FHIR --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CodeRow:
    """A coded attribute.

    path      of its CodeableConcept in the DocumentReference
    several   the attribute is a tuple, the element a list
    listed    the attribute is one code, the element a list of one
    """

    attribute: str
    path: tuple[str, ...]
    several: bool = False
    listed: bool = False


CODES: Final = (
    CodeRow("type_code", ("type",)),
    CodeRow("class_code", ("category",), listed=True),
    CodeRow("confidentiality_code", ("securityLabel",), several=True),
    CodeRow("healthcare_facility_type_code", ("context", "facilityType")),
    CodeRow("practice_setting_code", ("context", "practiceSetting")),
    CodeRow("event_code_list", ("context", "event"), several=True),
)

STATUSES: Final[Mapping[str, str]] = {
    "current": AvailabilityStatus.APPROVED,
    "superseded": AvailabilityStatus.DEPRECATED,
}

RELATIONS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (AssociationType.RPLC, ("replaces",)),
    (AssociationType.APND, ("appends",)),
    (AssociationType.XFRM, ("transforms",)),
    (AssociationType.XFRM_RPLC, ("transforms", "replaces")),
    (AssociationType.SIGNS, ("signs",)),
    (AssociationType.IS_SNAPSHOT_OF, ("transforms",)),
)
"""Associations and the relatesTo.code of each; from FHIR the first row with the same codes counts."""

PLACES: Final[Mapping[str, str]] = {
    "unique_id": "masterIdentifier",
    "entry_uuid": "identifier",
    "availability_status": "status",
    "type_code": "type",
    "class_code": "category",
    "patient_id": "subject",
    "author": "author",
    "legal_authenticator": "authenticator",
    "comments": "description",
    "confidentiality_code": "securityLabel",
    "mime_type": "content[0].attachment.contentType",
    "language_code": "content[0].attachment.language",
    "hash": "content[0].attachment.hash",
    "size": "content[0].attachment.size",
    "title": "content[0].attachment.title",
    "creation_time": "content[0].attachment.creation",
    "format_code": "content[0].format",
    "event_code_list": "context.event",
    "service_start_time": "context.period.start",
    "service_stop_time": "context.period.end",
    "healthcare_facility_type_code": "context.facilityType",
    "practice_setting_code": "context.practiceSetting",
    "reference_id_list": "context.related",
    "source_patient_id": "context.sourcePatientInfo",
    "source_patient_info": "context.sourcePatientInfo",
    "home_community_id": "extension",
}
"""FHIRPath in the DocumentReference of each attribute."""

_OF_COMPREHENSIVE: Final = (
    "type_code", "class_code", "patient_id", "confidentiality_code", "language_code", "creation_time", "format_code",
    "healthcare_facility_type_code", "practice_setting_code", "source_patient_id",
)  # fmt: skip


# XDS -> FHIR --------------------------------------------------------------------------------------------------------


def resource_of(
    entry: DocumentEntry,
    relations: Sequence[Association] = (),
    *,
    domain: MhdDomain,
    patient_key: str | None = None,
    date: str | None = None,
) -> Json:
    """The DocumentReference of a registered DocumentEntry.

    relations     Associations from this document to others, in the order in which they are to be told
    patient_key   id of the Patient resource; None: the patient is told by identifier alone
    date          an instant, when the reference was made; None: it is not told
    """
    contained = ContainedResources()
    is_complete = not entry.limited_metadata and all(getattr(entry, each) for each in _OF_COMPREHENSIVE)
    body: Json = {
        "meta": version_of(entry) | {"profile": [profile(COMPREHENSIVE if is_complete else MINIMAL)]},
        "extension": [*home_community_extensions(entry.home_community_id), *_repository_extensions(entry, domain)],
        "masterIdentifier": unique_id_identifier(entry.unique_id, domain.code_systems) if entry.unique_id else None,
        "identifier": object_identifiers(entry.unique_id, entry.entry_uuid, domain),
        "status": "superseded" if entry.availability_status == AvailabilityStatus.DEPRECATED else "current",
        "subject": subject_of(entry.patient_id, domain, patient_key),
        "date": date,
        "description": first_text(entry.comments),
    }
    context = _context(entry, domain, contained)
    body["author"] = [
        each
        for number, author in enumerate(entry.author, 1)
        if (each := author_reference(author, f"author{number}", domain, contained))
    ]
    if entry.legal_authenticator:
        body["authenticator"] = authenticator_reference(entry.legal_authenticator, domain, contained)
    body["relatesTo"] = [
        relation for each in relations for relation in relates_to(each.association_type, each.target_object)
    ]
    body["content"] = [_content(entry, domain)]
    for row in CODES:
        _put_codes(body if len(row.path) == 1 else context, row, getattr(entry, row.attribute), domain)
    body["context"] = context
    body["contained"] = contained.resources
    number = resource_id(entry.logical_id or entry.entry_uuid)
    return {"resourceType": "DocumentReference", "id": number} | without_nothing(body)


def relates_to(association_type: str, target_entry_uuid: str, target_logical_id: str = "") -> list[Json]:
    """relatesTo for an Association from this document to another: one element or two, none where FHIR has no code."""
    target = {
        "reference": f"DocumentReference/{resource_id(target_logical_id or target_entry_uuid)}",
        "type": "DocumentReference",
        "identifier": {"system": URI, "value": target_entry_uuid},
    }
    codes = next((codes for each, codes in RELATIONS if each == association_type), ())
    return [{"code": code, "target": target} for code in codes]


def version_of(item: DocumentEntry | SubmissionSet | Folder) -> Json:
    """meta of the version of an object: nothing where it is registered nowhere."""
    return {"versionId": item.version} if item.version else {}


def subject_of(patient_id: CX | None, domain: MhdDomain, patient_key: str | None) -> Json | None:
    """The Reference to the patient. A consumer who can not read the Patient has the identifier still."""
    if patient_id is None:
        return None
    reference = {"reference": f"{domain.base}/Patient/{patient_key}"} if patient_key else {}
    return reference | {"type": "Patient", "identifier": cx_identifier(patient_id, domain.code_systems)}


def first_text(text: InternationalString) -> str | None:
    """The first version of a text that says anything."""
    return next((each.value for each in text if each.value), None)


def object_identifiers(unique_id: str | None, entry_uuid: str, domain: MhdDomain) -> list[Json]:
    """The identifiers of a DocumentReference or List."""
    unique = [unique_id_identifier(unique_id, domain.code_systems)] if unique_id else []
    return [*unique, entry_uuid_identifier(entry_uuid)]


def home_community_extensions(home_community_id: str | None) -> list[Json]:
    """The extension for the community that answers for an object; none where it is no OID."""
    if home_community_id is None or not is_oid(home_community_id.removeprefix(URN_OID)):
        return []
    return [{"url": HOME_COMMUNITY_ID, "valueOid": f"{URN_OID}{home_community_id.removeprefix(URN_OID)}"}]


def _repository_extensions(entry: DocumentEntry, domain: MhdDomain) -> list[Json]:
    """The extension for the repository that has the document, where one is asked for: MHD has no place for it."""
    if domain.repository_extension is None or not is_oid(entry.repository_unique_id or ""):
        return []
    return [{"url": domain.repository_extension, "valueOid": f"{URN_OID}{entry.repository_unique_id}"}]


def _content(entry: DocumentEntry, domain: MhdDomain) -> Json:
    attachment: Json = {}
    if entry.mime_type:
        put_exact(attachment, "contentType", entry.mime_type, *[" ".join(entry.mime_type.split())] * 2)
    if entry.language_code:
        attachment["language"] = entry.language_code
    attachment["url"] = document_url(entry.entry_uuid, domain)
    if entry.size is not None:
        number = _rendered_size(entry.size)
        put_exact(attachment, "size", entry.size, number, None if number is None else str(number))
    if entry.hash and (encoded := base_64_of(entry.hash)):
        attachment["hash"] = encoded
    if title := first_text(entry.title):
        attachment["title"] = title
    put_time(attachment, "creation", entry.creation_time)
    content: Json = {"attachment": attachment}
    if entry.format_code and entry.format_code.code:
        content["format"] = coding_of(entry.format_code, domain.code_systems)
    return content


def document_url(entry_uuid: str, domain: MhdDomain) -> str:
    """Where a document is retrieved [ITI-68]."""
    return f"{domain.base}/Binary/{resource_id(entry_uuid)}"


def _context(entry: DocumentEntry, domain: MhdDomain, contained: ContainedResources) -> Json:
    context: Json = {}
    patient = patient_resource(entry.source_patient_id, entry.source_patient_info, domain.code_systems)
    if patient is not None:
        context["sourcePatientInfo"] = contained.reference("srcpat", patient)
    for each in entry.reference_id_list:
        element = "encounter" if each.identifier_type_code == ENCOUNTER_ID else "related"
        context.setdefault(element, []).append({"identifier": cxi_identifier(each, domain.code_systems)})
    period = period_of(entry.service_start_time, entry.service_stop_time)
    return context | ({"period": period} if period else {})


def _put_codes(target: Json, row: CodeRow, value: Any, domain: MhdDomain) -> None:
    codes: Sequence[Code] = value if row.several else (value,) if value else ()
    concepts = [concept_of(each, domain.code_systems) for each in codes if each.code and each.coding_scheme]
    if concepts:
        target[row.path[-1]] = concepts if row.several or row.listed else concepts[0]


def without_nothing(body: Json) -> Json:
    """The elements that say something: FHIR has no empty ones."""
    return {name: each for name, each in body.items() if each not in (None, [], {})}


# FHIR -> XDS --------------------------------------------------------------------------------------------------------


def entry_of(
    resource: Json,
    *,
    domain: MhdDomain,
    patient_id: CX | None = None,
    entry_uuid: str | None = None,
    path: str = "DocumentReference",
    reading: Reading | None = None,
) -> DocumentEntry:
    """The DocumentEntry of a DocumentReference that is sound (mhd/fhir/fhir_structure.py).

    patient_id   whom the subject names; None: the subject's identifier says it
    entry_uuid   where the resource names none
    path         FHIRPath of the resource in what was sent
    reading      takes what is wrong; the entry then lacks it. None: nothing may be wrong
    Raises ValueError for a reading of None where something is wrong.
    """
    found = reading if reading is not None else Reading()
    reader = _Reader(resource, domain, path, found)
    entry = DocumentEntry(
        entry_uuid=reader.entry_uuid() or entry_uuid or "",
        patient_id=patient_id or patient_of_subject(resource.get("subject", {}), domain),
        **reader.identity(),
        **reader.attachment(),
        **reader.context(),
        **reader.codes(),
        **reader.people(),
    )
    if reading is None and found.failed:
        raise ValueError("; ".join(each.text for each in found.issues if each.is_error))
    return entry


def patient_of_subject(subject: Json, domain: MhdDomain) -> CX | None:
    """The patient whom the identifier of a subject names."""
    return cx_of(subject["identifier"], domain.code_systems) if "identifier" in subject else None


def entry_uuid_in(resource: Json) -> str | None:
    """The entryUUID that an identifier of a DocumentReference or List names; None where none is a UUID."""
    named = identifiers_of_kind(resource.get("identifier", ()), ENTRY_UUID)
    return next((uuid for _, each in named if (uuid := entry_uuid_of(each.get("value", "")))), None)


def text_of(value: str | None, resource: Json) -> InternationalString:
    """A text of a resource, in the language that the resource is in, where it says so."""
    language = resource.get("language", "")
    return (LocalizedString(value, language if _LANGUAGE.fullmatch(language) else None),) if value else ()


class _Reader:
    """Reads one DocumentReference, part by part."""

    def __init__(self, resource: Json, domain: MhdDomain, path: str, reading: Reading) -> None:
        self._resource = resource
        self._domain = domain
        self._path = path
        self._reading = reading
        self._context: Json = resource.get("context", {})
        self._contained = contained_by_reference(resource)

    def entry_uuid(self) -> str | None:
        return entry_uuid_in(self._resource)

    def identity(self) -> dict[str, Any]:
        resource = self._resource
        return {
            "unique_id": self._unique_id(),
            "availability_status": STATUSES.get(resource.get("status", "")),
            "comments": text_of(resource.get("description"), resource),
            "home_community_id": _home_community_of(resource),
        }

    def _unique_id(self) -> str | None:
        master = self._resource.get("masterIdentifier")
        if master is None:
            return None
        unique_id = unique_id_of(master, self._domain.code_systems)
        if unique_id is None:
            path = f"{self._path}.masterIdentifier"
            self._reading.refuse(
                path,
                f"{path} is no uniqueId; send the system {URI} with a urn:oid: or another URI as value, or the OID of "
                f"a system (urn:oid:...) with the value that is unique there, {NAME_ITS_OID}.",
            )
        return unique_id

    def attachment(self) -> dict[str, Any]:
        content = self._resource.get("content", [{}])[0]
        attachment = content.get("attachment", {})
        path = f"{self._path}.content[0]"
        format_coding = content.get("format")
        found = {
            "mime_type": exact_primitive(attachment, "contentType", lambda text: " ".join(text.split()))
            or attachment.get("contentType"),
            "language_code": attachment.get("language"),
            "title": text_of(attachment.get("title"), self._resource),
            "creation_time": time_at(attachment, "creation"),
            "hash": self._hash(attachment, f"{path}.attachment.hash"),
            "size": _size(attachment),
            "format_code": code_of(format_coding, "format_code", self._domain, f"{path}.format", self._reading)
            if format_coding
            else None,
        }
        is_on_demand = "hash" not in attachment and found["size"] is None
        return found | {
            "object_type": (DocumentEntryType.ON_DEMAND if is_on_demand else DocumentEntryType.STABLE).value
        }

    def _hash(self, attachment: Json, path: str) -> str | None:
        encoded = attachment.get("hash")
        if encoded is None:
            return None
        if problem := hash_problem(encoded):
            self._reading.refuse(path, f"{path} {problem}.", diagnostics=problem)
        return hex_of(encoded)

    def context(self) -> dict[str, Any]:
        start, stop = times_of_period(self._context.get("period", {}))
        found: dict[str, Any] = {
            "service_start_time": start,
            "service_stop_time": stop,
            "reference_id_list": tuple(self._reference_ids()),
        }
        if "sourcePatientInfo" in self._context:
            found |= self._source_patient(self._context["sourcePatientInfo"])
        return found

    def _reference_ids(self) -> Iterator[CXi]:
        for element, default_type in (("related", "urn:ihe:iti:xds:2013:uniqueId"), ("encounter", ENCOUNTER_ID)):
            for number, reference in enumerate(self._context.get(element, ())):
                path = f"{self._path}.context.{element}[{number}]"
                identifier = reference.get("identifier", {})
                value = cxi_of(identifier, default_type, self._domain.code_systems, path, self._reading)
                if value:
                    yield value

    def _source_patient(self, reference: Json) -> dict[str, Any]:
        path = f"{self._path}.context.sourcePatientInfo"
        patient = self._contained.get(reference.get("reference", ""))
        if patient is None or patient["resourceType"] != "Patient":
            self._reading.refuse(
                path,
                f"{path} does not refer to a contained Patient; send the patient as a contained resource and refer to "
                "it as #id.",
                IssueType.STRUCTURE,
            )
            return {}
        source_patient_id = source_patient_id_of(patient, self._domain)
        if source_patient_id is None:
            number = next(place for place, each in enumerate(self._resource["contained"]) if each is patient)
            place = f"{self._path}.contained[{number}].identifier"
            self._reading.refuse(
                place,
                "The contained Patient of sourcePatientInfo has no identifier with a value and a system that has an "
                f"OID; send one with urn:oid: and the OID: XDS needs it as sourcePatientId; {NAME_ITS_OID}.",
                IssueType.REQUIRED,
                ErrorCode.REGISTRY_METADATA_ERROR,
            )
        return {
            "source_patient_id": source_patient_id,
            "source_patient_info": source_patient_info_of(patient, self._domain),
        }

    def codes(self) -> dict[str, Any]:
        return {row.attribute: self._codes(row) for row in CODES}

    def _codes(self, row: CodeRow) -> Any:
        holder = self._resource if len(row.path) == 1 else self._context
        value = holder.get(row.path[-1], [])
        path = ".".join((self._path, *row.path))
        concepts = (
            [(path, value)] if isinstance(value, dict) else [(f"{path}[{n}]", each) for n, each in enumerate(value)]
        )
        found = [code_of_concept(each, row.attribute, self._domain, at, self._reading) for at, each in concepts]
        codes = tuple(each for each in found if each)
        return codes if row.several else next(iter(codes), None)

    def people(self) -> dict[str, Any]:
        authors: list[Author | None] = [
            author_of(each, self._contained, self._domain, f"{self._path}.author[{number}]", self._reading)
            for number, each in enumerate(self._resource.get("author", ()))
        ]
        found: dict[str, Any] = {"author": tuple(each for each in authors if each)}
        if "authenticator" in self._resource:
            path = f"{self._path}.authenticator"
            found["legal_authenticator"] = authenticator_of(
                self._resource["authenticator"], self._contained, self._domain, path, self._reading
            )
        return found


def _size(attachment: Json) -> str | None:
    exact = exact_primitive(attachment, "size", _rendered_size)
    if exact is not None:
        return exact
    return str(attachment["size"]) if "size" in attachment else None


def _rendered_size(text: str) -> int | None:
    if not text.isdigit() or len(text) > 10:
        return None
    number = int(text)
    return number if number <= LARGEST_SIZE else None


def _home_community_of(resource: Json) -> str | None:
    extensions = resource.get("extension", ())
    return next((each.get("valueOid") for each in extensions if each["url"] == HOME_COMMUNITY_ID), None)
