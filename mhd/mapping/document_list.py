"""SubmissionSet, Folder and List: the same groups of documents, in XDS and in FHIR (MHD 4.2.4, Volume 3).

XDS -> FHIR -> XDS is the identity as far as mhd/mapping/document_reference.py says it of documents. What a List holds
is told by Associations in XDS: members come and go beside the object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from mhd.fhir.canonicals import (
    AUTHOR_ORG,
    DESIGNATION_TYPE,
    FURTHER_AUTHOR,
    HOME_COMMUNITY_ID,
    INTENDED_RECIPIENT,
    LIST_TYPES,
    SOURCE_ID,
    profile,
)
from mhd.fhir.exact_text import Json, exact_text, with_exact_text
from mhd.fhir.operation_outcome import IssueType
from mhd.mapping.authors import (
    RECIPIENTS,
    author_of,
    author_reference,
    organization_references,
    recipient_of,
    recipient_resource,
)
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.codes import code_of_concept, concept_of
from mhd.mapping.contained import ContainedResources, contained_by_reference
from mhd.mapping.document_reference import (
    entry_uuid_in,
    first_text,
    home_community_extensions,
    object_identifiers,
    patient_of_subject,
    subject_of,
    text_of,
    version_of,
    without_nothing,
)
from mhd.mapping.domain import MhdDomain
from mhd.mapping.identifiers import UNIQUE_ID, bare_unique_id, identifiers_of_kind, resource_id, unique_id_of
from mhd.mapping.people import organization_of
from mhd.mapping.reading import Reading
from mhd.mapping.times import put_time, time_at
from xds.hl7v2 import CX
from xds.metadata import Author, AvailabilityStatus, Code, Folder, ObjectKind, SubmissionSet

SUBMISSION_SET: Final = "submissionset"
FOLDER: Final = "folder"

SUBMISSION_SET_PLACES: Final[Mapping[str, str]] = {
    "unique_id": "identifier",
    "entry_uuid": "identifier",
    "availability_status": "status",
    "patient_id": "subject",
    "author": "source",
    "content_type_code": "extension",
    "source_id": "extension",
    "intended_recipient": "extension",
    "submission_time": "date",
    "title": "title",
    "comments": "note",
}
"""FHIRPath in the List of each attribute of a SubmissionSet."""

FOLDER_PLACES: Final[Mapping[str, str]] = {
    "unique_id": "identifier",
    "entry_uuid": "identifier",
    "availability_status": "status",
    "patient_id": "subject",
    "code_list": "extension",
    "last_update_time": "date",
    "title": "title",
    "comments": "note",
}
"""FHIRPath in the List of each attribute of a Folder."""


# XDS -> FHIR --------------------------------------------------------------------------------------------------------


def list_of(
    item: SubmissionSet | Folder,
    members: Sequence[tuple[ObjectKind, str]] = (),
    *,
    domain: MhdDomain,
    patient_key: str | None = None,
) -> Json:
    """The List of a registered SubmissionSet or Folder.

    members       (kind, logicalID) of what it holds, in the order in which it is to be told
    patient_key   id of the Patient resource; None: the patient is told by identifier alone
    """
    contained = ContainedResources()
    is_set = isinstance(item, SubmissionSet)
    body: Json = {
        "meta": version_of(item) | {"profile": [profile(_profile_name(item))]},
        "extension": [*_extensions(item, domain, contained), *home_community_extensions(item.home_community_id)],
        "identifier": object_identifiers(item.unique_id, item.entry_uuid, domain),
        "status": "retired" if item.availability_status == AvailabilityStatus.DEPRECATED and not is_set else "current",
        "mode": "working",
        "title": first_text(item.title),
        "code": {"coding": [{"system": LIST_TYPES, "code": SUBMISSION_SET if is_set else FOLDER}]},
        "subject": subject_of(item.patient_id, domain, patient_key),
    }
    put_time(body, "date", item.submission_time if isinstance(item, SubmissionSet) else item.last_update_time)
    if isinstance(item, SubmissionSet) and item.author:
        body["source"] = _source(item.author[0], domain, contained)
        body["extension"] += _further_authors(item.author[1:], domain, contained)
    comments = first_text(item.comments)
    body["note"] = [{"text": comments}] if comments else []
    body["entry"] = [list_entry(kind, logical_id) for kind, logical_id in members]
    body["contained"] = contained.resources
    return {"resourceType": "List", "id": resource_id(item.logical_id or item.entry_uuid)} | without_nothing(body)


def list_entry(kind: ObjectKind, logical_id: str) -> Json:
    """List.entry for a document or Folder."""
    resource_type = "DocumentReference" if kind is ObjectKind.DOCUMENT_ENTRY else "List"
    return {"item": {"reference": f"{resource_type}/{resource_id(logical_id)}", "type": resource_type}}


def _profile_name(item: SubmissionSet | Folder) -> str:
    if isinstance(item, SubmissionSet):
        is_complete = bool(item.content_type_code and item.patient_id)
        name = "SubmissionSet"
    else:
        is_complete = bool(item.code_list and item.patient_id and first_text(item.title))
        name = "Folder"
    return f"IHE.MHD.{'Comprehensive' if is_complete and not item.limited_metadata else 'Minimal'}.{name}"


def _extensions(item: SubmissionSet | Folder, domain: MhdDomain, contained: ContainedResources) -> Iterator[Json]:
    codes = item.code_list if isinstance(item, Folder) else (item.content_type_code,)
    for code in codes:
        if code and code.code and code.coding_scheme:
            yield {"url": DESIGNATION_TYPE, "valueCodeableConcept": concept_of(code, domain.code_systems)}
    if isinstance(item, Folder):
        return
    if item.source_id:
        yield {"url": SOURCE_ID, "valueIdentifier": bare_unique_id(item.source_id, domain.code_systems)}
    for number, recipient in enumerate(item.intended_recipient, 1):
        yield {"url": INTENDED_RECIPIENT, "valueReference": _recipient(recipient, number, domain, contained)}


def _recipient(recipient: str, number: int, domain: MhdDomain, contained: ContainedResources) -> Json:
    systems = domain.code_systems
    resource = recipient_resource(recipient, systems)
    reference = contained.reference(f"recipient{number}", resource)
    return with_exact_text(reference, recipient, lambda _: recipient_of(resource, systems, "", Reading()))


def _source(author: Author, domain: MhdDomain, contained: ContainedResources) -> Json:
    """The first author: a reference to the person or role, and the institution in an extension."""
    reference = author_reference(author, "author1", domain, contained) or {}
    organizations = organization_references(author, "author1", domain, contained)
    extension = [{"url": AUTHOR_ORG, "valueReference": each} for each in organizations[:1]]
    if reference in organizations:
        return {"extension": extension}
    return ({"extension": extension} if extension else {}) | reference


def _further_authors(authors: Sequence[Author], domain: MhdDomain, contained: ContainedResources) -> Iterator[Json]:
    for number, author in enumerate(authors, 2):
        if reference := author_reference(author, f"author{number}", domain, contained):
            yield {"url": FURTHER_AUTHOR, "valueReference": reference}


# FHIR -> XDS --------------------------------------------------------------------------------------------------------


def kind_of_list(resource: Json) -> str | None:
    """SUBMISSION_SET or FOLDER, by the code of the List; None: it is neither."""
    for coding in resource.get("code", {}).get("coding", ()):
        if coding.get("code") in (SUBMISSION_SET, FOLDER) and coding.get("system", LIST_TYPES) == LIST_TYPES:
            return str(coding["code"])
    return None


def submission_set_of(
    resource: Json,
    *,
    domain: MhdDomain,
    patient_id: CX | None = None,
    entry_uuid: str | None = None,
    path: str = "List",
    reading: Reading | None = None,
) -> SubmissionSet:
    """The SubmissionSet of a List that is sound. Parameters and errors as of document_reference.entry_of."""
    found = reading if reading is not None else Reading()
    reader = _Reader(resource, domain, path, found)
    submission_set = SubmissionSet(
        **reader.common(patient_id, entry_uuid),
        author=tuple(reader.authors()),
        content_type_code=next(iter(reader.codes("content_type_code")), None),
        intended_recipient=tuple(reader.recipients()),
        source_id=reader.source_id(),
        submission_time=time_at(resource, "date"),
    )
    _raise_if_failed(reading, found)
    return submission_set


def folder_of(
    resource: Json,
    *,
    domain: MhdDomain,
    patient_id: CX | None = None,
    entry_uuid: str | None = None,
    path: str = "List",
    reading: Reading | None = None,
) -> Folder:
    """The Folder of a List that is sound. Parameters and errors as of document_reference.entry_of."""
    found = reading if reading is not None else Reading()
    reader = _Reader(resource, domain, path, found)
    folder = Folder(
        **reader.common(patient_id, entry_uuid),
        code_list=tuple(reader.codes("code_list")),
        last_update_time=time_at(resource, "date"),
    )
    _raise_if_failed(reading, found)
    return folder


def _raise_if_failed(asked: Reading | None, found: Reading) -> None:
    if asked is None and found.failed:
        raise ValueError("; ".join(each.text for each in found.issues if each.is_error))


class _Reader:
    """Reads one List, part by part."""

    def __init__(self, resource: Json, domain: MhdDomain, path: str, reading: Reading) -> None:
        self._resource = resource
        self._domain = domain
        self._path = path
        self._reading = reading
        self._contained = contained_by_reference(resource)

    def common(self, patient_id: CX | None, entry_uuid: str | None) -> dict[str, Any]:
        resource = self._resource
        notes = resource.get("note", ())
        retired = resource.get("status") == "retired"
        return {
            "entry_uuid": entry_uuid_in(resource) or entry_uuid or "",
            "patient_id": patient_id or patient_of_subject(resource.get("subject", {}), self._domain),
            "unique_id": self._unique_id(),
            "availability_status": (AvailabilityStatus.DEPRECATED if retired else AvailabilityStatus.APPROVED).value,
            "title": text_of(resource.get("title"), resource),
            "comments": text_of(notes[0].get("text") if notes else None, resource),
            "home_community_id": next((each.get("valueOid") for _, each in self._extensions(HOME_COMMUNITY_ID)), None),
        }

    def _unique_id(self) -> str | None:
        for number, identifier in identifiers_of_kind(self._resource.get("identifier", ()), UNIQUE_ID):
            unique_id = unique_id_of(identifier, self._domain.code_systems)
            if unique_id is None:
                path = f"{self._path}.identifier[{number}]"
                self._reading.refuse(path, f"{path} is no uniqueId; send urn:ietf:rfc:3986 and a urn:oid: as value.")
            return unique_id
        return None

    def _extensions(self, url: str) -> Iterator[tuple[str, Json]]:
        """The extensions of one kind, each with its FHIRPath."""
        for number, extension in enumerate(self._resource.get("extension", ())):
            if extension["url"] == url:
                yield f"{self._path}.extension[{number}]", extension

    def codes(self, attribute: str) -> Iterator[Code]:
        for path, extension in self._extensions(DESIGNATION_TYPE):
            concept = extension.get("valueCodeableConcept", {})
            code = code_of_concept(concept, attribute, self._domain, f"{path}.value", self._reading)
            if code:
                yield code

    def source_id(self) -> str | None:
        for path, extension in self._extensions(SOURCE_ID):
            source_id = unique_id_of(extension.get("valueIdentifier", {}), self._domain.code_systems)
            if source_id is None:
                self._reading.refuse(f"{path}.value", "The sourceId is no OID; send urn:oid: and an OID as value.")
            return source_id
        return None

    def recipients(self) -> Iterator[str]:
        for path, extension in self._extensions(INTENDED_RECIPIENT):
            reference = extension.get("valueReference", {})
            resource = self._contained.get(reference.get("reference", ""))
            if resource is None or resource["resourceType"] not in RECIPIENTS:
                self._reading.refuse(
                    f"{path}.value",
                    "The intendedRecipient refers to no contained resource that can be a recipient; contain who it is, "
                    "and refer to that.",
                    IssueType.STRUCTURE,
                )
                continue
            systems = self._domain.code_systems
            said = exact_text(reference, partial(_reference_to, resource, reference, systems))
            recipient = said or recipient_of(resource, systems, f"{path}.value", self._reading)
            if recipient:
                yield recipient
            else:
                self._reading.refuse(f"{path}.value", "The intendedRecipient names nobody; send who it is.")

    def authors(self) -> Iterator[Author]:
        source = self._resource.get("source")
        if source is not None and (first := self._source_author(source, f"{self._path}.source")):
            yield first
        for path, extension in self._extensions(FURTHER_AUTHOR):
            reference = extension.get("valueReference", {})
            author = author_of(reference, self._contained, self._domain, f"{path}.value", self._reading)
            if author:
                yield author

    def _source_author(self, source: Json, path: str) -> Author | None:
        author = None
        if "reference" in source:
            author = author_of(source, self._contained, self._domain, path, self._reading)
        organizations = [each for each in source.get("extension", ()) if each["url"] == AUTHOR_ORG]
        for extension in organizations:
            reference = extension.get("valueReference", {})
            resource = self._contained.get(reference.get("reference", ""))
            institution = None
            if resource is not None and resource["resourceType"] == "Organization":
                institution = organization_of(resource, self._domain.code_systems, reference.get("display"))
            if institution is None:
                self._reading.refuse(path, "The authorOrg names no contained Organization; send one, and refer to it.")
            elif author is None:
                author = Author(author_institution=(institution,))
            elif institution not in author.author_institution:
                author = Author(
                    author.author_person,
                    (*author.author_institution, institution),
                    author.author_role,
                    author.author_specialty,
                    author.author_telecommunication,
                )
        return author


def _reference_to(resource: Json, reference: Json, systems: CodeSystems, recipient: str) -> Json:
    """The reference, where the resource still says who the recipient is; else none."""
    described = {name: each for name, each in resource.items() if name != "id"}
    plain = {name: each for name, each in reference.items() if name != "extension"}
    return plain if recipient_resource(recipient, systems) == described else {}
