"""The Document Responder: what it answers.

Find Document Lists [ITI-66]         iti66_find_document_lists.py
Find Document References [ITI-67]    iti67_find_document_references.py
Retrieve Document [ITI-68]           iti68_retrieve_document.py
Resources by their ids               resource_reads.py
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mhd.iti66_find_document_lists import LISTS, find_document_lists
from mhd.iti67_find_document_references import DOCUMENT_REFERENCES, find_document_references
from mhd.iti68_retrieve_document import FoundDocument, retrieve_document
from mhd.messages import FhirAnswer, FhirRequest
from mhd.registered_objects import RegisteredObjects
from mhd.searching.one_patient import OfOnePatient
from mhd.searching.past_versions import links_of_past
from mhd.searching.resource_history import history_request, read_history
from mhd.searching.resource_reads import read_object, read_patient, read_version
from mhd.searching.search import Search, SearchType
from mhd.searching.search_request import Pair
from xds.actors import DocumentRegistry, DocumentRepository, ObjectCodec
from xds.paged_search import Link, PagedObject


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentResponder:
    """Answers from a Document Registry and a Document Repository, in this process or elsewhere.

    is_of_one_patient   there is nothing for whoever asks but what belongs to one patient
    """

    search: Search
    registry: DocumentRegistry
    repository: DocumentRepository
    codec: ObjectCodec
    superseded_gone: bool = False
    is_of_one_patient: bool = False

    def kept_to(self, patient_id: str, *, forbids: bool) -> DocumentResponder:
        """The same for somebody who may see one patient (CX text) alone. forbids: as OfOnePatient has it."""
        registry = OfOnePatient(self.search.registry, patient_id, forbids)
        conditions = replace(self.search.conditions, registry=registry)
        search = replace(self.search, registry=registry, conditions=conditions)
        return replace(self, search=search, is_of_one_patient=True)

    async def find_document_lists(self, parameters: Iterable[Pair], said: FhirRequest) -> FhirAnswer:
        """Find Document Lists [ITI-66]. Raises Refused, XdsError."""
        return await find_document_lists(parameters, said, search=self.search)

    async def find_document_references(self, parameters: Iterable[Pair], said: FhirRequest) -> FhirAnswer:
        """Find Document References [ITI-67]. Raises Refused, XdsError."""
        return await find_document_references(parameters, said, search=self.search)

    async def document(self, resource_id: str) -> FoundDocument:
        """Retrieve Document [ITI-68]. Raises Refused, OutcomeUnknown."""
        if self.is_of_one_patient:
            await self.document_reference(resource_id)  # it has to be there for whoever asks
        return await retrieve_document(
            resource_id,
            registry=self.registry,
            removals=self.search.registry,
            repository=self.repository,
            codec=self.codec,
            superseded_gone=self.superseded_gone,
        )

    async def document_reference(self, resource_id: str) -> FhirAnswer:
        """A DocumentReference by its id. Raises Refused, XdsError."""
        found = DOCUMENT_REFERENCES
        return await read_object(
            found.resource, resource_id, found.kinds, registry=self.search.registry, completion=self.search.completion
        )

    async def list_resource(self, resource_id: str) -> FhirAnswer:
        """A List by its id. Raises Refused, XdsError."""
        return await read_object(
            LISTS.resource, resource_id, LISTS.kinds, registry=self.search.registry, completion=self.search.completion
        )

    async def document_reference_version(self, resource_id: str, version: str) -> FhirAnswer:
        """A version of a DocumentReference. Raises Refused, XdsError."""
        return await self._version(DOCUMENT_REFERENCES, resource_id, version)

    async def list_version(self, resource_id: str, version: str) -> FhirAnswer:
        """A version of a List. Raises Refused, XdsError."""
        return await self._version(LISTS, resource_id, version)

    async def document_reference_history(
        self, resource_id: str, parameters: Iterable[Pair], said: FhirRequest
    ) -> FhirAnswer:
        """The versions of a DocumentReference. Raises Refused, XdsError."""
        return await self._history(DOCUMENT_REFERENCES, resource_id, parameters, said)

    async def list_history(self, resource_id: str, parameters: Iterable[Pair], said: FhirRequest) -> FhirAnswer:
        """The versions of a List. Raises Refused, XdsError."""
        return await self._history(LISTS, resource_id, parameters, said)

    async def _version(self, kind: SearchType, resource_id: str, version: str) -> FhirAnswer:
        return await read_version(
            kind.resource,
            resource_id,
            version,
            kind.kinds,
            registry=self.search.registry,
            links=self._links_of_past,
            completion=self.search.completion,
        )

    async def _history(
        self, kind: SearchType, resource_id: str, parameters: Iterable[Pair], said: FhirRequest
    ) -> FhirAnswer:
        return await read_history(
            kind.resource,
            resource_id,
            kind.kinds,
            history_request(parameters, sizes=self.search.sizes, strict=said.strict),
            registry=self.search.registry,
            links=self._links_of_past,
            completion=self.search.completion,
            moment=self.search.now(),
        )

    async def _links_of_past(self, versions: Sequence[PagedObject]) -> Mapping[str, Sequence[Link]]:
        return await links_of_past(versions, RegisteredObjects(self.registry, self.codec))

    async def patient(self, resource_id: str) -> FhirAnswer:
        """A Patient by its id. Raises Refused, XdsError."""
        systems = self.search.completion.renderer.code_systems
        return await read_patient(resource_id, registry=self.search.registry, systems=systems)
