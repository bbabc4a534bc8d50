"""Retrieve Document Set [ITI-43].

ITI TF-2: 3.43. Each document is answered for itself: those that are there are returned, and those that are made on
demand (repository/on_demand.py); each of the others is an error, and the status tells whether that was all, some or
none of them.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from repository.document_store import DocumentDamaged, DocumentStore, Kept, OtherBytesSettled, StoreBusy
from repository.on_demand import Making, OnDemandDocuments
from repository.settling import IsRegistered, registered_document
from xds.actors import DocumentRequest, Opening, OutcomeUnknown, RetrievedDocument, RetrieveResponse
from xds.errors import ErrorCode, RegistryError, ResponseStatus, XdsError
from xds.metadata_names import shown

logger = logging.getLogger(__name__)

VERIFIED_FIRST: Final = 1024 * 1024
"""A document of so many octets is verified before the answer begins: damage becomes an error of the answer.

A larger one is verified while it is sent, and damage then cuts the answer off.
"""
HELD: Final = 1024 * 1024
"""So many octets that were verified stay in memory until they are sent. What is beyond is read again."""

BUSY_MEANS_DOWN: Final = 2
"""After so many documents of a request that found the store busy, each for as long as it may take, no more is asked."""


async def retrieve(
    requests: Sequence[DocumentRequest],
    *,
    documents: DocumentStore,
    is_registered: IsRegistered,
    repository_unique_id: str,
    on_demand: OnDemandDocuments | None = None,
    documents_limit: int | None = None,
) -> RetrieveResponse:
    """Find the documents asked for, in the order asked.

    on_demand         makes those that are made when they are asked for
    documents_limit   documents of one answer
    Raises XdsError where the request as a whole can not be answered.
    """
    if not requests:
        raise XdsError(ErrorCode.REPOSITORY_ERROR, "The request asks for no document; send a DocumentRequest for each.")
    if documents_limit is not None and len(requests) > documents_limit:
        raise XdsError(
            ErrorCode.REPOSITORY_ERROR,
            f"The request asks for {len(requests)} documents; at most {documents_limit} are returned at once. "
            "Send several requests.",
        )
    making = None if on_demand is None else Making(on_demand, repository_unique_id)
    shelf = _Shelf(documents, is_registered, repository_unique_id, making)
    found: list[RetrievedDocument] = []
    errors: list[RegistryError] = []
    for number, request in enumerate(requests, start=1):
        try:
            _require_whole(request, f"DocumentRequest[{number}]")
            found.append(await shelf.document(request))
        except XdsError as refusal:
            errors.extend(refusal.errors)
    if not errors:
        status = ResponseStatus.SUCCESS
    else:
        status = ResponseStatus.PARTIAL_SUCCESS if found else ResponseStatus.FAILURE
    return RetrieveResponse(status, tuple(found), tuple(errors))


@dataclass(slots=True)
class _Shelf:
    """Where one request's documents are looked for."""

    documents: DocumentStore
    is_registered: IsRegistered
    repository_unique_id: str
    making: Making | None
    room: int = HELD
    found_busy: int = 0

    async def document(self, request: DocumentRequest) -> RetrievedDocument:
        """Raises XdsError, located at the uniqueId (ITI TF-2: 3.43.5)."""
        self._require_own(request)
        unique_id = request.document_unique_id
        if self.found_busy >= BUSY_MEANS_DOWN:
            raise _busy(unique_id)
        try:
            kept = await self.documents.find(unique_id) or await self._left_behind(unique_id)
            if kept is None:
                return await self._made(request)
            return RetrievedDocument(request, kept.mime_type, kept.measured.size, await self._content(kept))
        except KeyError as problem:
            raise _not_here(unique_id) from problem
        except OutcomeUnknown as problem:
            logger.warning("the registry did not answer about an unsettled document", extra={"problem": str(problem)})
            raise XdsError(
                ErrorCode.REGISTRY_NOT_AVAILABLE,
                f"Whether the document {shown(unique_id)} is registered is not known: the Document Registry did not "
                "answer. Ask again later.",
                unique_id,
            ) from problem
        except StoreBusy as problem:
            logger.warning("the document store is busy", extra={"problem": str(problem)})
            self.found_busy += 1
            raise _busy(unique_id) from problem
        except (DocumentDamaged, OtherBytesSettled) as problem:
            logger.exception("a document is damaged", extra={"problem": str(problem)})
            raise XdsError(
                ErrorCode.REPOSITORY_ERROR,
                f"The document {shown(unique_id)} is damaged in this repository and is not returned. Its operator "
                "finds the details in the log.",
                unique_id,
            ) from problem

    async def _left_behind(self, unique_id: str) -> Kept | None:
        """A document that a crash or a lost answer has left unsettled. Raises as registered_document does."""
        kept = await registered_document(unique_id, documents=self.documents, is_registered=self.is_registered)
        if kept is not None and self.making is not None:
            await self.making.completed(kept)
        return kept

    async def _made(self, request: DocumentRequest) -> RetrievedDocument:
        """A document that is made now. Raises XdsError, OutcomeUnknown, StoreBusy, DocumentDamaged, KeyError."""
        made = None if self.making is None else await self.making.document(request)
        if made is None:
            raise _not_here(request.document_unique_id)
        if not isinstance(made, Kept):
            return made
        content = await self._content(made)
        is_its_own = made.unique_id == request.document_unique_id
        new_ids = (None, None) if is_its_own else (made.unique_id, self.repository_unique_id)
        return RetrievedDocument(request, made.mime_type, made.measured.size, content, *new_ids)

    def _require_own(self, request: DocumentRequest) -> None:
        if request.repository_unique_id != self.repository_unique_id:
            raise XdsError(
                ErrorCode.UNKNOWN_REPOSITORY_ID,
                f"The document {shown(request.document_unique_id)} is asked for from the repository "
                f"{shown(request.repository_unique_id)}, which is not this one; send the request to that repository.",
                request.document_unique_id,
            )

    async def _content(self, kept: Kept) -> Opening:
        """Opens the document when the answer is written; a small one is verified here."""
        if kept.measured.size > VERIFIED_FIRST:
            return partial(self.documents.read, kept)
        chunks: list[bytes] | None = [] if kept.measured.size <= self.room else None
        async with self.documents.read(kept) as content:
            async for chunk in content:
                if chunks is not None:
                    chunks.append(chunk)
        if chunks is None:
            return partial(self.documents.read, kept)
        self.room -= kept.measured.size
        return partial(_in_memory, chunks)


@asynccontextmanager
async def _in_memory(chunks: Sequence[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    yield _each(chunks)


async def _each(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def _require_whole(request: DocumentRequest, place: str) -> None:
    """place: where in the message the request stands, which may have no uniqueId to be named by."""
    if not request.document_unique_id.strip():
        raise XdsError(
            ErrorCode.REPOSITORY_ERROR,
            f"{place} has no DocumentUniqueId; send the uniqueId of the DocumentEntry.",
            f"{place}/DocumentUniqueId",
        )
    if not request.repository_unique_id.strip():
        raise XdsError(
            ErrorCode.REPOSITORY_ERROR,
            f"{place} has no RepositoryUniqueId; send the repositoryUniqueId of the DocumentEntry.",
            request.document_unique_id,
        )


def _busy(unique_id: str) -> XdsError:
    return XdsError(
        ErrorCode.REPOSITORY_BUSY, f"The document {shown(unique_id)} can not be read now. Ask again later.", unique_id
    )


def _not_here(unique_id: str) -> XdsError:
    return XdsError(
        ErrorCode.DOCUMENT_UNIQUE_ID_ERROR,
        f"The document {shown(unique_id)} is not available in this repository; "
        "send the uniqueId and the repositoryUniqueId of one DocumentEntry.",
        unique_id,
    )
