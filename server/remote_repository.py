"""A Document Repository on another host in the place of one in this process: for FHIR in front of it.

Documents on their way in are in memory already, because FHIR brings them so. One on its way out goes through a
temporary file: its size has to be known before its first octet is sent on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from repository.scratch_file import Scratch, ScratchFile
from server.remote_actors import RemoteRepository, bytes_content
from server.soap_client import ContentChanged, NotReachable, Refused, Upload
from xds.actors import (
    Attachment,
    DocumentRequest,
    MessageBroken,
    OutcomeUnknown,
    ProvideAndRegisterRequest,
    RegistryResponse,
    RetrievedDocument,
    RetrieveResponse,
)
from xds.errors import ErrorCode, RegistryError, ResponseStatus
from xds.metadata import DocumentEntry


class RepositoryElsewhere:
    """A DocumentRepository (xds/actors.py)."""

    def __init__(self, remote: RemoteRepository) -> None:
        self._remote = remote

    async def provide_and_register(self, request: ProvideAndRegisterRequest) -> RegistryResponse:
        """See DocumentRepository. Raises OutcomeUnknown."""
        contents = {each.content_id: await _read(each.content) async for each in request.attachments()}
        provided = request.provided()
        entries = {each.entry_uuid: each for each in provided.submission.document_entries}
        uploads = [
            _upload(entry_id, entries.get(entry_id), contents[content_id])
            for entry_id, content_id in provided.documents
        ]
        try:
            return await self._remote.provide_and_register(provided.submission, uploads)
        except NotReachable as problem:
            return RegistryResponse.of([_not_available(problem)])
        except Refused as problem:
            if not problem.nothing_done:
                raise OutcomeUnknown(str(problem)) from problem
            return RegistryResponse.of([_refusal(problem)])
        except ContentChanged as problem:
            raise OutcomeUnknown(str(problem)) from problem

    async def retrieve(self, requests: Sequence[DocumentRequest]) -> RetrieveResponse:
        """See DocumentRepository."""
        scratch = await asyncio.to_thread(ScratchFile)
        kept: dict[str, Scratch] = {}

        async def receive(attachment: Attachment) -> None:
            kept[attachment.content_id] = await scratch.add(attachment.content)

        try:
            retrieval = await self._remote.retrieve(requests, receive)
        except Refused as problem:
            return RetrieveResponse(ResponseStatus.FAILURE, errors=(_refusal(problem),))
        except (NotReachable, OutcomeUnknown, MessageBroken) as problem:
            return RetrieveResponse(ResponseStatus.FAILURE, errors=(_not_available(problem),))
        documents = tuple(
            RetrievedDocument(
                each.request,
                each.mime_type,
                document.measured.size,
                document.content,
                each.new_document_unique_id,
                each.new_repository_unique_id,
            )
            for each in retrieval.documents
            for document in (kept[each.content_id],)
        )
        return RetrieveResponse(retrieval.status, documents, retrieval.errors)


def _upload(entry_id: str, entry: DocumentEntry | None, content: bytes) -> Upload:
    mime_type = (entry.mime_type if entry else None) or "application/octet-stream"
    return Upload(entry_id, mime_type, len(content), bytes_content(content))


async def _read(content: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in content])


def _not_available(problem: Exception) -> RegistryError:
    return RegistryError(ErrorCode.REGISTRY_NOT_AVAILABLE, f"The repository can not be reached: {problem}")


def _refusal(problem: Refused) -> RegistryError:
    return _not_available(problem) if problem.try_later else RegistryError(ErrorCode.REPOSITORY_ERROR, str(problem))
