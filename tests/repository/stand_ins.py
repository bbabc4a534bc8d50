"""Registries that answer as a test wants, and messages without a wire."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from repository.actor import Repository
from repository.document_store import DocumentStore, Kept, Measured
from tests.builders import REPOSITORY, submission, unmeasured
from xds.actors import (
    Attachment,
    OutcomeUnknown,
    Provided,
    QueryRequest,
    QueryResponse,
    RegistryResponse,
)
from xds.errors import ErrorCode, RegistryError
from xds.metadata import DocumentEntry, Submission


@dataclass
class RecordingRegistry:
    """Registers whatever it is given, and remembers it."""

    submissions: list[Submission] = field(default_factory=list)
    warnings: tuple[RegistryError, ...] = ()

    async def register_document_set(self, submission: Submission) -> RegistryResponse:
        self.submissions.append(submission)
        return RegistryResponse.of(self.warnings)

    async def stored_query(self, request: QueryRequest) -> QueryResponse:
        raise AssertionError(f"a repository asks through is_registered, not {request}")

    async def is_registered(self, unique_id: str, hash_: str) -> bool:
        return any(
            entry.unique_id == unique_id and entry.hash == hash_
            for submission in self.submissions
            for entry in submission.document_entries
        )


@dataclass
class RefusingRegistry(RecordingRegistry):
    """Refuses whatever it is given."""

    code: ErrorCode = ErrorCode.UNKNOWN_PATIENT_ID
    refused: list[Submission] = field(default_factory=list)

    async def register_document_set(self, submission: Submission) -> RegistryResponse:
        self.refused.append(submission)
        return RegistryResponse.of([RegistryError(self.code, "Not this one.", "somewhere")])


@dataclass
class SilentRegistry(RecordingRegistry):
    """Never answers. What it was given may be registered all the same."""

    registers: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def register_document_set(self, submission: Submission) -> RegistryResponse:
        if self.registers:
            self.submissions.append(submission)
        raise OutcomeUnknown("the connection was lost")

    async def is_registered(self, unique_id: str, hash_: str) -> bool:
        self.asked.append((unique_id, hash_))
        raise OutcomeUnknown("the connection was lost")


@dataclass
class SlowRegistry(RecordingRegistry):
    """Begins to register, and answers when it is allowed to."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    refuses: bool = False

    async def register_document_set(self, submission: Submission) -> RegistryResponse:
        self.asked.set()
        await self.may_answer.wait()
        if self.refuses:
            return RegistryResponse.of([RegistryError(ErrorCode.UNKNOWN_PATIENT_ID, "Not this one.")])
        return await super().register_document_set(submission)


def repository_of(documents: DocumentStore, registry: RecordingRegistry, **settings: Any) -> Repository:
    """The repository REPOSITORY of tests/builders.py, in front of this registry."""
    return Repository(
        documents=documents,
        registry=registry,
        is_registered=registry.is_registered,
        repository_unique_id=REPOSITORY,
        **settings,
    )


@dataclass
class Message:
    """An ITI-41 message: attachments by Content-ID in the order of the wire, and its envelope."""

    envelope: Provided
    parts: Sequence[tuple[str, bytes]]
    chunk: int = 1000
    octets_read: int = 0
    complete: bool = False

    async def attachments(self) -> AsyncIterator[Attachment]:
        for content_id, content in self.parts:
            yield Attachment(content_id, self._content(content))
        self.complete = True

    async def _content(self, content: bytes) -> AsyncIterator[bytes]:
        async for chunk in chunks(content, self.chunk):
            self.octets_read += len(chunk)
            yield chunk

    def provided(self) -> Provided:
        assert self.complete, "the envelope is known when all attachments were read"
        return self.envelope


def message(*documents: tuple[DocumentEntry, bytes]) -> Message:
    """What a source sends: these documents, with metadata that a repository still has to complete."""
    return message_of(
        submission(*(unmeasured(entry) for entry, _ in documents)),
        {entry.entry_uuid: content for entry, content in documents},
    )


def message_of(metadata: Submission, contents: Mapping[str, bytes]) -> Message:
    """These metadata, and contents by the id of the Document."""
    names = {document_id: f"{number}@source.example" for number, document_id in enumerate(contents, start=1)}
    return Message(
        Provided(metadata, tuple(names.items())),
        [(names[document_id], content) for document_id, content in contents.items()],
    )


async def chunks(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def measured(content: bytes) -> Measured:
    return Measured(len(content), hashlib.sha1(content).hexdigest(), hashlib.sha256(content).hexdigest())  # noqa: S324


async def published(store: DocumentStore, unique_id: str, content: bytes, mime_type: str = "text/plain") -> Kept:
    """A document that waits for the registry's answer."""
    async with store.staging() as staging:
        await staging.add("it", chunks(content, 100_000))
        (kept,) = await staging.publish({"it": (unique_id, mime_type)})
    return kept


async def settled(store: DocumentStore, unique_id: str, content: bytes, mime_type: str = "text/plain") -> Kept:
    """A document that is what its uniqueId means."""
    return await store.settle(await published(store, unique_id, content, mime_type))


async def content_of(store: DocumentStore, kept: Kept) -> bytes:
    async with store.read(kept) as content:
        return b"".join([chunk async for chunk in content])


async def everything_in(store: DocumentStore) -> list[Kept]:
    """Whatever is published and not settled."""
    return [kept async for kept in store.all_unsettled(older_than_seconds=-60)]
