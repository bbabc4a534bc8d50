"""What a repository asks the registry, here or elsewhere, about its documents: by stored queries (ITI TF-2: 3.18)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from xds.actors import DocumentRegistry, Found, OutcomeUnknown, QueryRequest, QueryResponse, ReturnType
from xds.ebxml_writer import codec
from xds.errors import ErrorCode, ResponseStatus
from xds.metadata import (
    AnyObject,
    Association,
    AssociationType,
    AvailabilityStatus,
    Code,
    DocumentEntry,
    SubmissionSet,
)
from xds.stored_queries import (
    FIND_DOCUMENTS,
    GET_ASSOCIATIONS,
    GET_DOCUMENTS,
    GET_SUBMISSION_SETS,
    METADATA_LEVEL,
    listed,
    quoted,
)

_Parameter: TypeAlias = tuple[str, tuple[str, ...]]


class RegistryEntries:
    """A RegisteredEntries (repository/registered_entries.py)."""

    def __init__(self, registry: DocumentRegistry) -> None:
        self._registry = registry

    async def of_document(self, unique_id: str) -> Sequence[DocumentEntry]:
        return await self._documents(unique_id, "1")

    async def snapshots(self, entry: DocumentEntry) -> Sequence[DocumentEntry]:
        # Not by GetRelatedDocuments: that gives all there ever were, and after some years too many for one answer.
        found = await self._asked(
            FIND_DOCUMENTS,
            ("$XDSDocumentEntryPatientId", (quoted(str(entry.patient_id or "")),)),
            ("$XDSDocumentEntryStatus", listed([AvailabilityStatus.APPROVED])),
            *_coded("$XDSDocumentEntryTypeCode", entry.type_code),
            *_coded("$XDSDocumentEntryFormatCode", entry.format_code),
        )
        documents = {each.entry_uuid: each for each in found if isinstance(each, DocumentEntry)}
        if not documents:
            return []
        links = await self._asked(GET_ASSOCIATIONS, ("$uuid", listed(documents)))
        snapshots = [
            documents[link.source_object]
            for link in links
            if isinstance(link, Association)
            and link.association_type == AssociationType.IS_SNAPSHOT_OF
            and link.target_object == entry.entry_uuid
            and link.source_object in documents
        ]
        return sorted(snapshots, key=lambda each: str(each.creation_time), reverse=True)

    async def content_type(self, entry: DocumentEntry) -> Code | None:
        found = await self._asked(GET_SUBMISSION_SETS, ("$uuid", listed([entry.entry_uuid])))
        return next((each.content_type_code for each in found if isinstance(each, SubmissionSet)), None)

    async def is_registered(self, unique_id: str, sha1: str) -> bool:
        """An IsRegistered (repository/settling.py)."""
        return any((entry.hash or "").lower() == sha1 for entry in await self._documents(unique_id, "2"))

    async def _documents(self, unique_id: str, metadata_level: str) -> list[DocumentEntry]:
        asked = (("$XDSDocumentEntryUniqueId", listed([unique_id])), (METADATA_LEVEL, (metadata_level,)))
        response = await self._answer(ReturnType.LEAF_CLASS, GET_DOCUMENTS, *asked)
        if {error.code for error in response.errors} == {ErrorCode.RESULT_NOT_SINGLE_PATIENT}:
            # Entries of several patients are not described in one answer (ITI TF-2: 3.18.4.1.2.3.4).
            references = _found(await self._answer(ReturnType.OBJECT_REF, GET_DOCUMENTS, *asked))
            by_uuid = [(("$XDSDocumentEntryEntryUUID", listed([each.entry_uuid])), asked[1]) for each in references]
            found = [item for each in by_uuid for item in await self._asked(GET_DOCUMENTS, *each)]
        else:
            found = _read(response)
        return [each for each in found if isinstance(each, DocumentEntry)]

    async def _asked(self, query_id: str, *parameters: _Parameter) -> list[AnyObject]:
        """Raises OutcomeUnknown where the registry answers anything but Success."""
        return _read(await self._answer(ReturnType.LEAF_CLASS, query_id, *parameters))

    async def _answer(self, return_type: ReturnType, query_id: str, *parameters: _Parameter) -> QueryResponse:
        return await self._registry.stored_query(QueryRequest(query_id, return_type, parameters))


def _found(response: QueryResponse) -> Sequence[Found]:
    """Raises OutcomeUnknown where the registry answers anything but Success."""
    if response.status is not ResponseStatus.SUCCESS:
        told = ", ".join(str(error.code) for error in response.errors)
        raise OutcomeUnknown(f"the registry could not say what it knows of a document: {told}")
    return response.found


def _read(response: QueryResponse) -> list[AnyObject]:
    """The objects of an answer. Raises OutcomeUnknown."""
    return [codec.read(found.ebrim) for found in _found(response) if found.ebrim is not None]


def _coded(parameter: str, code: Code | None) -> tuple[_Parameter, ...]:
    return () if code is None else ((parameter, listed([code.coded])),)
