"""A Document Recipient with a registry and repository of its own, without HTTP; Bundles that say metadata of XDS."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from mhd.document_recipient import DocumentRecipient
from mhd.fhir.exact_text import Json
from mhd.mapping.document_list import list_of
from mhd.mapping.document_reference import resource_of
from mhd.mapping.domain import MhdDomain
from mhd.messages import FhirAnswer, FhirRequest
from mhd.patients import NoPatientKeys
from mhd.registered_objects import RegisteredObjects
from mhd.searching.renderer import Completion, Renderer
from mhd.searching.resource_reads import read_object
from mhd.submitting.submission_options import SubmissionOptions
from registry.actor import Registry
from registry.metadata_store import Criteria, MetadataStore
from registry.metadata_store_sqlite import SqliteMetadataStore
from registry.patient_identities import OpenPatients
from repository.actor import Repository
from repository.document_store import DocumentStore
from repository.document_store_filesystem import FilesystemDocumentStore
from server.fhir_wiring import read_cda
from server.fhir_xml import to_xml
from server.registered_entries import RegistryEntries
from tests.builders import CONTENT, PATIENT_AUTHORITY, REPOSITORY, document_entry, submission_set
from xds.actors import DocumentRequest
from xds.ebxml_writer import codec
from xds.errors import ResponseStatus
from xds.metadata import AnyObject, Association, DocumentEntry, Folder, ObjectKind, SubmissionSet
from xds.metadata_rules import Tolerance

BASE = "https://mhd.example.org/fhir"
SOURCE_OF_OURS = "2.25.112764926371947310284661003947261194731"
DOMAIN = MhdDomain(base=BASE, authorities=frozenset({PATIENT_AUTHORITY}))


@dataclass(frozen=True)
class Affinity:
    """Everything of one deployment."""

    recipient: DocumentRecipient
    registry: Registry
    repository: Repository
    store: MetadataStore
    documents: DocumentStore

    async def provided(self, bundle: Json, request: FhirRequest = FhirRequest()) -> FhirAnswer:  # noqa: B008
        """The answer to ITI-65."""
        return await self.recipient.provide_document_bundle(bundle, request)

    @property
    def registered(self) -> RegisteredObjects:
        """What the registry holds."""
        return RegisteredObjects(self.registry, codec)

    async def associations_from(self, entry_uuid: str) -> list[Association]:
        """The Associations that start at an object."""
        found = await self.store.find(Criteria(ObjectKind.ASSOCIATION))
        read = [codec.read(each.ebrim) for each in found if each.ebrim and each.source_object == entry_uuid]
        return [each for each in read if isinstance(each, Association)]

    async def everything(self) -> list[AnyObject]:
        """All objects that are registered."""
        found = [await self.store.find(Criteria(kind)) for kind in ObjectKind]
        return [codec.read(each.ebrim) for objects in found for each in objects if each.ebrim]

    async def holds(self) -> tuple[int, int]:
        """How many changes were registered, and how many documents are kept."""
        records = [each async for each in self.store.records()]
        kept = [each async for each in self.documents.all_settled()]
        return len(records), len(kept)

    async def content(self, unique_id: str) -> bytes:
        """A document, by ITI-43."""
        response = await self.repository.retrieve([DocumentRequest(REPOSITORY, unique_id)])
        assert response.status is ResponseStatus.SUCCESS, response.errors
        async with response.documents[0].content() as chunks:
            return b"".join([each async for each in chunks])


@asynccontextmanager
async def affinity(
    directory: Path, domain: MhdDomain = DOMAIN, registry_settings: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[Affinity]:
    """A deployment that keeps everything in `directory`. options: of SubmissionOptions."""
    limited = options.get("minimal") == "accept"
    store = SqliteMetadataStore(directory / "registry.sqlite", codec=codec)
    documents = FilesystemDocumentStore(directory / "documents")
    patients = OpenPatients(domain.authorities)
    registry = Registry(
        store=store, patients=patients, tolerance=Tolerance(limited_metadata=limited), **registry_settings or {}
    )
    repository = Repository(
        documents=documents,
        registry=registry,
        is_registered=RegistryEntries(registry).is_registered,
        repository_unique_id=REPOSITORY,
        tolerance=Tolerance(limited_metadata=limited),
    )
    recipient = DocumentRecipient(
        repository=repository,
        registry=registry,
        codec=codec,
        stored=_Reading(registry, Completion(domain.base, Renderer(domain.code_systems), codec)),
        keys=NoPatientKeys(),
        domain=domain,
        fhir_xml=to_xml,
        read_cda=read_cda,
        options=SubmissionOptions(source_id=SOURCE_OF_OURS, **options),
    )
    try:
        yield Affinity(recipient, registry, repository, store, documents)
    finally:
        await documents.close()
        await store.close()


@dataclass(frozen=True)
class _Reading:
    """StoredResources of mhd/submitting/bundle_answer.py."""

    registry: Registry
    completion: Completion

    async def document_reference(self, resource_id: str) -> FhirAnswer:
        return await self._read("DocumentReference", resource_id, ObjectKind.DOCUMENT_ENTRY)

    async def list_resource(self, resource_id: str) -> FhirAnswer:
        return await self._read("List", resource_id, ObjectKind.SUBMISSION_SET, ObjectKind.FOLDER)

    async def _read(self, kind: str, resource_id: str, *kinds: ObjectKind) -> FhirAnswer:
        return await read_object(kind, resource_id, kinds, registry=self.registry, completion=self.completion)


# Bundles -------------------------------------------------------------------------------------------------------------


def bundle_of(*resources: Json | tuple[Json, Mapping[str, str]], level: str = "Comprehensive") -> Json:
    """A transaction of these resources, with the requests that they have; those without are POSTs.

    The fullUrl of a resource is its id as urn:uuid; the resource is sent without it.
    """
    entries = []
    for each in resources:
        resource, request = each if isinstance(each, tuple) else (each, {"method": "POST", "url": each["resourceType"]})
        sent = {name: value for name, value in resource.items() if name != "id"}
        entry: Json = {"resource": sent, "request": dict(request)}
        entries.append(({"fullUrl": f"urn:uuid:{resource['id']}"} if "id" in resource else {}) | entry)
    profile = f"https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.{level}.ProvideBundle"
    return {"resourceType": "Bundle", "meta": {"profile": [profile]}, "type": "transaction", "entry": entries}


def sent_document(entry: DocumentEntry, content: bytes = CONTENT, relates_to: Sequence[Json] = ()) -> tuple[Json, Json]:
    """The DocumentReference and the Binary of a document."""
    resource = resource_of(replace(entry, availability_status=None), domain=DOMAIN)
    binary_id = str(uuid4())
    resource["content"][0]["attachment"]["url"] = f"urn:uuid:{binary_id}"
    if relates_to:
        resource["relatesTo"] = list(relates_to)
    data = {"data": base64.b64encode(content).decode()} if content else {}
    return resource, {"resourceType": "Binary", "id": binary_id, "contentType": entry.mime_type} | data


def sent_list(item: SubmissionSet | Folder, *members: DocumentEntry | Folder) -> Json:
    """The List of a SubmissionSet or Folder, with members of the same Bundle."""
    resource = list_of(item, domain=DOMAIN)
    resource["entry"] = [{"item": {"reference": each.entry_uuid}} for each in members]
    return resource if members else {name: value for name, value in resource.items() if name != "entry"}


def bundle_with(
    *entries: DocumentEntry, content: bytes = CONTENT, relates_to: Sequence[Json] = (), **changes: Any
) -> Json:
    """A Bundle of these documents, which all have one content. changes: of the SubmissionSet."""
    documents = entries or (document_entry(),)
    item = submission_set(patient_id=documents[0].patient_id, **changes)
    parts = [part for each in documents for part in sent_document(each, content, relates_to)]
    return bundle_of(sent_list(item, *documents), *parts)
