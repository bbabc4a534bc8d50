"""Clients of the two actors on other hosts, whoever made them.

RemoteRegistry speaks Register Document Set-b [ITI-42] and Registry Stored Query [ITI-18] for a repository that has no
registry in its own process (ITI TF-2: 3.42, 3.18). RemoteRepository is the document source and consumer of the command
line: Provide and Register Document Set-b [ITI-41] and Retrieve Document Set [ITI-43] (ITI TF-2: 3.41, 3.43).
"""

from __future__ import annotations

import asyncio
import binascii
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from server.soap_client import Host, NotReachable, Patience, Progress, Refused, Upload, packaged, simple
from xds import ebxml_messages
from xds.actors import (
    Attachment,
    DocumentRequest,
    MessageBroken,
    Opening,
    OutcomeUnknown,
    QueryRequest,
    QueryResponse,
    RegistryResponse,
)
from xds.errors import ErrorCode, RegistryError, ResponseStatus
from xds.metadata import Submission
from xds.transactions import ITI_18, ITI_41, ITI_42, ITI_43, ITI_57, ITI_61, Transaction

_CHUNK: Final = 256 * 1024

Receive = Callable[[Attachment], Awaitable[None]]
"""Takes one document as it arrives: its content is to be read to the end."""


@dataclass(frozen=True, slots=True)
class Received:
    """A document of an answer, and the content_id of the Attachment in which its octets were handed over.

    new_document_unique_id, new_repository_unique_id   of an on-demand document (see RetrievedDocument of xds/actors.py)
    """

    request: DocumentRequest
    mime_type: str
    content_id: str
    new_document_unique_id: str | None = None
    new_repository_unique_id: str | None = None


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The answer to ITI-43, after all its documents were handed over."""

    status: ResponseStatus
    documents: tuple[Received, ...] = ()
    errors: tuple[RegistryError, ...] = ()


class RemoteRegistry:
    """A Document Registry on another host."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        *,
        patience: Patience | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """tls: None for the authorities that this machine trusts."""
        self._host = Host(url, session, patience=patience, tls=tls)

    async def register_document_set(self, submission: Submission) -> RegistryResponse:
        """See DocumentRegistry: refusals are responses. Raises OutcomeUnknown."""
        return await self._registered(submission, ITI_42)

    async def register_on_demand(self, submission: Submission) -> RegistryResponse:
        """Register On-Demand Document Entry [ITI-61], likewise."""
        return await self._registered(submission, ITI_61)

    async def update_document_set(self, submission: Submission) -> RegistryResponse:
        """Update Document Set [ITI-57], likewise."""
        return await self._registered(submission, ITI_57)

    async def _registered(self, submission: Submission, transaction: Transaction) -> RegistryResponse:
        message = simple(transaction, self._host.url, ebxml_messages.register_request(submission))
        try:
            async with self._host.asked(message) as answer:
                return ebxml_messages.read_registry_response((await answer.envelope()).body)
        except NotReachable as problem:
            return RegistryResponse.of([_not_available(problem)])
        except Refused as problem:
            if not problem.nothing_done:
                raise OutcomeUnknown(str(problem)) from problem
            return RegistryResponse.of([_refusal(problem)])

    async def stored_query(self, request: QueryRequest) -> QueryResponse:
        """See DocumentRegistry: refusals are responses. Raises OutcomeUnknown."""
        message = simple(ITI_18, self._host.url, ebxml_messages.query_request(request))
        try:
            async with self._host.asked(message) as answer:
                return ebxml_messages.read_query_response((await answer.envelope()).body)
        except NotReachable as problem:
            return QueryResponse(ResponseStatus.FAILURE, errors=(_not_available(problem),))
        except Refused as problem:
            return QueryResponse(ResponseStatus.FAILURE, errors=(_refusal(problem),))


def _not_available(problem: Exception) -> RegistryError:
    return RegistryError(ErrorCode.REGISTRY_NOT_AVAILABLE, str(problem))


def _refusal(problem: Refused) -> RegistryError:
    return _not_available(problem) if problem.try_later else RegistryError(ErrorCode.REGISTRY_ERROR, str(problem))


class RemoteRepository:
    """A Document Repository on another host, as sources and consumers of documents see it."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        *,
        patience: Patience | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """tls: None for the authorities that this machine trusts."""
        self._host = Host(url, session, patience=patience, tls=tls)

    async def provide_and_register(
        self, submission: Submission, documents: Sequence[Upload], *, progress: Progress | None = None
    ) -> RegistryResponse:
        """Provide and Register Document Set-b [ITI-41]: one document after the other, none of them held in memory.

        progress   counts octets of documents as they leave
        Raises NotReachable, Refused, OutcomeUnknown, ContentChanged; what a document's content raises passes through.
        """
        content_ids = [f"document{number}@toimik" for number in range(1, len(documents) + 1)]
        pairs = [(upload.entry_id, content_id) for upload, content_id in zip(documents, content_ids, strict=True)]
        body = ebxml_messages.provide_request(submission, pairs)
        async with self._host.asked(packaged(ITI_41, self._host.url, body, documents, content_ids, progress)) as answer:
            return ebxml_messages.read_registry_response((await answer.envelope()).body)

    async def retrieve(
        self, requests: Sequence[DocumentRequest], receive: Receive, *, progress: Progress | None = None
    ) -> Retrieval:
        """Retrieve Document Set [ITI-43]: each document is handed to `receive` as it arrives, in the order of the wire.

        Which document it was is known only when all have come: see Received.content_id.
        progress   counts octets of documents as they come
        Raises NotReachable, Refused, OutcomeUnknown (the connection broke); what `receive` raises passes through.
        """
        handed_over: set[str] = set()

        async def hand_over(content_id: str, content: AsyncIterator[bytes]) -> None:
            handed_over.add(content_id)
            await receive(Attachment(content_id, _counted(content, progress) if progress else content))

        message = packaged(ITI_43, self._host.url, ebxml_messages.retrieve_request(requests))
        async with self._host.asked(message) as answer:
            async for attachment in answer.attachments():
                await hand_over(attachment.content_id, attachment.content)
            response = ebxml_messages.read_retrieve_response((await answer.envelope()).body)
            documents = []
            for number, each in enumerate(response.documents, 1):
                content_id = each.content_id
                if content_id is None:
                    content_id = f"inline {number}"
                    await hand_over(content_id, _decoded(each.inline or ""))
                elif content_id not in handed_over:
                    raise MessageBroken(
                        f"it lists the document {each.request.document_unique_id}, but no part of it is {content_id}"
                    )
                made_as = (each.new_document_unique_id, each.new_repository_unique_id)
                documents.append(Received(each.request, each.mime_type, content_id, *made_as))
        return Retrieval(response.status, tuple(documents), response.errors)


async def _counted(content: AsyncIterator[bytes], progress: Progress) -> AsyncIterator[bytes]:
    async for chunk in content:
        progress(len(chunk))
        yield chunk


async def _decoded(base64: str) -> AsyncIterator[bytes]:
    """The content of a document that stands in the envelope."""
    characters = "".join(base64.split())
    for at in range(0, len(characters), _CHUNK):  # a multiple of four
        try:
            yield binascii.a2b_base64(characters[at : at + _CHUNK], strict_mode=True)
        except ValueError as problem:
            raise MessageBroken(f"a document in it is not base64: {problem}") from problem


def file_content(file: Path) -> Opening:
    """Opens a file as the content of an Upload."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        handle = await asyncio.to_thread(file.open, "rb")

        async def chunks() -> AsyncIterator[bytes]:
            while chunk := await asyncio.to_thread(handle.read, _CHUNK):
                yield chunk

        try:
            yield chunks()
        finally:
            await asyncio.to_thread(handle.close)

    return opened


def bytes_content(content: bytes) -> Opening:
    """Octets in memory as the content of an Upload."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield content

        yield chunks()

    return opened
