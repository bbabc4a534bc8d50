"""What a document consumer may rely on when it sends Retrieve Document Set [ITI-43]."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from repository.document_store import DocumentDamaged, DocumentStore, Kept, OtherBytesSettled, StoreBusy, StoreFull
from tests.builders import REPOSITORY, document_entry, oid
from tests.repository.stand_ins import (
    RecordingRegistry,
    SilentRegistry,
    content_of,
    everything_in,
    message,
    published,
    repository_of,
    settled,
)
from xds.actors import DocumentRepository, DocumentRequest, RetrievedDocument, RetrieveResponse
from xds.errors import ErrorCode, ResponseStatus


def request_for(unique_id: str, repository_unique_id: str = REPOSITORY) -> DocumentRequest:
    return DocumentRequest(repository_unique_id, unique_id)


async def bytes_of(document: RetrievedDocument) -> bytes:
    async with document.content() as content:
        received = b"".join([chunk async for chunk in content])
    assert len(received) == document.size
    return received


def codes(response: RetrieveResponse) -> list[ErrorCode | str]:
    return [error.code for error in response.errors]


async def retrieved(documents: DocumentStore, *requests: DocumentRequest) -> RetrieveResponse:
    return await repository_of(documents, RecordingRegistry()).retrieve(requests)


# What is there


@pytest.mark.parametrize("size", [0, 1, 64 * 1024 + 1, 1024 * 1024, 1024 * 1024 + 1, 3_000_000])
async def test_a_document_comes_back_as_it_was_sent(documents: DocumentStore, size: int) -> None:
    repository: DocumentRepository = repository_of(documents, RecordingRegistry())
    entry = document_entry(mime_type="application/dicom")
    content = (b"0123456789abcde" * (size // 15 + 1))[:size]
    assert (await repository.provide_and_register(message((entry, content)))).succeeded

    response = await repository.retrieve([request_for(entry.unique_id or "")])

    assert (response.status, response.errors) == (ResponseStatus.SUCCESS, ())
    (document,) = response.documents
    assert (document.mime_type, document.size) == ("application/dicom", size)
    assert document.request == request_for(entry.unique_id or "")
    assert await bytes_of(document) == content
    assert await bytes_of(document) == content, "it may be opened again"


async def test_documents_come_in_the_order_asked_and_as_often_as_asked(documents: DocumentStore) -> None:
    first, second = await settled(documents, oid(), b"first"), await settled(documents, oid(), b"second")
    asked = [request_for(each.unique_id) for each in (second, first, second)]
    response = await retrieved(documents, *asked)
    assert response.status is ResponseStatus.SUCCESS
    assert [document.request for document in response.documents] == asked
    assert [await bytes_of(document) for document in response.documents] == [b"second", b"first", b"second"]


async def test_many_small_documents_come_back_although_they_are_not_all_held_in_memory(
    documents: DocumentStore,
) -> None:
    contents = [b"%d" % number * 300_000 for number in range(8)]
    kept = [await settled(documents, oid(), content) for content in contents]
    watched = Obstructed(documents)
    store: DocumentStore = watched  # type: ignore[assignment]
    response = await retrieved(store, *(request_for(each.unique_id) for each in kept))
    assert watched.reads == 8, "each was verified"
    assert [await bytes_of(document) for document in response.documents] == contents
    assert watched.reads == 8 + 5, "a MiB of them was held"


async def test_a_home_community_comes_back_as_it_was_asked(documents: DocumentStore) -> None:
    kept = await settled(documents, oid(), b"hello")
    asked = DocumentRequest(REPOSITORY, kept.unique_id, "urn:oid:2.25.5150")
    response = await retrieved(documents, asked)
    assert response.documents[0].request == asked


# What is not


async def test_an_unknown_document_is_an_error_that_names_it(documents: DocumentStore) -> None:
    response = await retrieved(documents, request_for("1.2.3.4"))
    assert (response.status, response.documents) == (ResponseStatus.FAILURE, ())
    (error,) = response.errors
    assert error.code == ErrorCode.DOCUMENT_UNIQUE_ID_ERROR
    assert "1.2.3.4" in error.code_context
    assert error.location == "1.2.3.4", "the standard wants the uniqueId there"


async def test_another_repository_is_an_error_that_names_it(documents: DocumentStore) -> None:
    kept = await settled(documents, oid(), b"hello")
    response = await retrieved(documents, request_for(kept.unique_id, "1.2.3"))
    assert response.documents == ()
    (error,) = response.errors
    assert error.code == ErrorCode.UNKNOWN_REPOSITORY_ID
    assert "'1.2.3'" in error.code_context
    assert REPOSITORY not in error.code_context
    assert error.location == kept.unique_id


async def test_some_of_several_documents_are_partial_success(documents: DocumentStore) -> None:
    kept = await settled(documents, oid(), b"hello")
    response = await retrieved(
        documents, request_for("1.2.3"), request_for(kept.unique_id), request_for(kept.unique_id, "1.2.3")
    )
    assert response.status is ResponseStatus.PARTIAL_SUCCESS
    assert [await bytes_of(document) for document in response.documents] == [b"hello"]
    assert codes(response) == [ErrorCode.DOCUMENT_UNIQUE_ID_ERROR, ErrorCode.UNKNOWN_REPOSITORY_ID]
    assert [error.location for error in response.errors] == ["1.2.3", kept.unique_id]


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
async def test_blank_ids_are_errors(documents: DocumentStore, blank: str) -> None:
    response = await retrieved(documents, request_for(blank), request_for("1.2.3", blank))
    assert codes(response) == [ErrorCode.REPOSITORY_ERROR] * 2
    assert [error.location for error in response.errors] == [
        "DocumentRequest[1]/DocumentUniqueId",
        "1.2.3",
    ]


async def test_a_request_for_nothing_is_an_error(documents: DocumentStore) -> None:
    response = await retrieved(documents)
    assert (response.status, codes(response)) == (ResponseStatus.FAILURE, [ErrorCode.REPOSITORY_ERROR])


async def test_a_request_for_more_documents_than_the_limit_is_an_error(documents: DocumentStore) -> None:
    kept = await settled(documents, oid(), b"hello")
    repository = repository_of(documents, RecordingRegistry(), retrieval_limit=3)
    assert len((await repository.retrieve([request_for(kept.unique_id)] * 3)).documents) == 3
    response = await repository.retrieve([request_for(kept.unique_id)] * 4)
    assert codes(response) == [ErrorCode.REPOSITORY_ERROR]
    assert "asks for 4 documents; at most 3" in response.errors[0].code_context


# What waits for the registry's answer


async def test_a_document_that_was_registered_without_an_answer_is_settled_and_served(
    documents: DocumentStore,
) -> None:
    registry = SilentRegistry(registers=True)
    entry = document_entry()
    await repository_of(documents, registry).provide_and_register(message((entry, b"hello")))
    back_again = RecordingRegistry(submissions=registry.submissions)

    response = await repository_of(documents, back_again).retrieve([request_for(entry.unique_id or "")])

    assert response.status is ResponseStatus.SUCCESS
    assert await bytes_of(response.documents[0]) == b"hello"
    assert await documents.find(entry.unique_id or "") is not None
    assert await everything_in(documents) == []


async def test_a_document_that_the_registry_does_not_list_is_not_served_and_not_withdrawn(
    documents: DocumentStore,
) -> None:
    kept = await published(documents, oid(), b"hello")
    response = await retrieved(documents, request_for(kept.unique_id))
    assert codes(response) == [ErrorCode.DOCUMENT_UNIQUE_ID_ERROR]
    assert await documents.unsettled(kept.unique_id) == (kept,), "its registration may be under way"


async def test_of_several_that_wait_the_registered_bytes_are_served(documents: DocumentStore) -> None:
    entry = document_entry()
    await published(documents, entry.unique_id or "", b"never registered")
    registry = SilentRegistry(registers=True)
    await repository_of(documents, registry).provide_and_register(message((entry, b"registered")))
    await published(documents, entry.unique_id or "", b"never registered either")
    back_again = RecordingRegistry(submissions=registry.submissions)

    response = await repository_of(documents, back_again).retrieve([request_for(entry.unique_id or "")])

    assert await bytes_of(response.documents[0]) == b"registered"


async def test_while_the_registry_does_not_answer_a_waiting_document_is_neither_served_nor_denied(
    documents: DocumentStore,
) -> None:
    kept, waiting = await settled(documents, oid(), b"hello"), await published(documents, oid(), b"wait")
    registry = SilentRegistry()
    response = await repository_of(documents, registry).retrieve(
        [request_for(waiting.unique_id), request_for(kept.unique_id)]
    )
    assert codes(response) == [ErrorCode.REGISTRY_NOT_AVAILABLE]
    assert [await bytes_of(document) for document in response.documents] == [b"hello"]
    assert registry.asked == [(waiting.unique_id, waiting.measured.hash)], "a settled document needs no registry"


# A store that can not


class Obstructed:
    """A store that counts what is read, and fails at reading some documents, or at settling."""

    def __init__(
        self,
        documents: DocumentStore,
        *,
        unreadable: dict[str, Exception] | None = None,
        unsettleable: Exception | None = None,
    ) -> None:
        self._documents = documents
        self._unreadable = unreadable or {}
        self._unsettleable = unsettleable
        self.reads = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._documents, name)

    def read(self, kept: Kept) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        self.reads += 1
        if kept.unique_id in self._unreadable:
            return _raising(self._unreadable[kept.unique_id])
        return self._documents.read(kept)

    async def settle(self, kept: Kept) -> Kept:
        if self._unsettleable is not None:
            raise self._unsettleable
        return await self._documents.settle(kept)


@asynccontextmanager
async def _raising(problem: Exception) -> AsyncIterator[AsyncIterator[bytes]]:
    async def content() -> AsyncIterator[bytes]:
        yield b"he"
        raise problem

    yield content()


def obstructed(
    documents: DocumentStore,
    *,
    unreadable: dict[str, Exception] | None = None,
    unsettleable: Exception | None = None,
) -> DocumentStore:
    store: DocumentStore = Obstructed(documents, unreadable=unreadable, unsettleable=unsettleable)  # type: ignore[assignment]
    return store


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (DocumentDamaged("3 octets of 42 are missing"), ErrorCode.REPOSITORY_ERROR),
        (StoreBusy("slow"), ErrorCode.REPOSITORY_BUSY),
        (KeyError("42"), ErrorCode.DOCUMENT_UNIQUE_ID_ERROR),
    ],
)
async def test_one_document_that_can_not_be_read_does_not_spoil_the_others(
    documents: DocumentStore, problem: Exception, code: ErrorCode
) -> None:
    bad, good = await settled(documents, oid(), b"hello"), await settled(documents, oid(), b"fine")
    response = await retrieved(
        obstructed(documents, unreadable={bad.unique_id: problem}),
        request_for(bad.unique_id),
        request_for(good.unique_id),
    )
    assert response.status is ResponseStatus.PARTIAL_SUCCESS
    assert codes(response) == [code]
    assert "42" not in response.errors[0].code_context.replace(bad.unique_id, "")
    assert [await bytes_of(document) for document in response.documents] == [b"fine"]


async def test_a_store_that_is_busy_twice_is_not_asked_for_the_others(documents: DocumentStore) -> None:
    kept = [await settled(documents, oid(), b"hello") for _ in range(5)]
    busy = Obstructed(documents, unreadable={each.unique_id: StoreBusy("slow") for each in kept[1:3]})
    store: DocumentStore = busy  # type: ignore[assignment]
    response = await retrieved(store, *(request_for(each.unique_id) for each in kept))
    assert codes(response) == [ErrorCode.REPOSITORY_BUSY] * 4
    assert [document.request.document_unique_id for document in response.documents] == [kept[0].unique_id]
    assert busy.reads == 3


async def test_a_damaged_document_is_logged(documents: DocumentStore, caplog: pytest.LogCaptureFixture) -> None:
    kept = await settled(documents, oid(), b"hello")
    broken = obstructed(documents, unreadable={kept.unique_id: DocumentDamaged("3 octets of 42 are missing")})
    await retrieved(broken, request_for(kept.unique_id))
    assert "3 octets of 42 are missing" in caplog.text


async def test_a_registered_document_is_served_where_there_is_no_room_to_settle_it(documents: DocumentStore) -> None:
    registry = SilentRegistry(registers=True)
    entry = document_entry()
    await repository_of(documents, registry).provide_and_register(message((entry, b"hello")))
    full = obstructed(documents, unsettleable=StoreFull("full"))
    back_again = RecordingRegistry(submissions=registry.submissions)
    response = await repository_of(full, back_again).retrieve([request_for(entry.unique_id or "")])
    assert await bytes_of(response.documents[0]) == b"hello"


async def test_a_document_that_can_not_be_settled_because_of_other_bytes_is_not_served(
    documents: DocumentStore,
) -> None:
    registry = SilentRegistry(registers=True)
    entry = document_entry()
    await repository_of(documents, registry).provide_and_register(message((entry, b"hello")))
    contested = obstructed(documents, unsettleable=OtherBytesSettled("other bytes"))
    back_again = RecordingRegistry(submissions=registry.submissions)
    response = await repository_of(contested, back_again).retrieve([request_for(entry.unique_id or "")])
    assert codes(response) == [ErrorCode.REPOSITORY_ERROR]


async def test_a_fault_of_ours_is_logged_and_tells_nothing_of_the_inside(
    documents: DocumentStore, caplog: pytest.LogCaptureFixture
) -> None:
    kept = await settled(documents, oid(), b"hello")
    broken = obstructed(documents, unreadable={kept.unique_id: PermissionError("/var/lib/toimik: secret")})
    response = await retrieved(broken, request_for(kept.unique_id))
    assert (response.status, codes(response)) == (ResponseStatus.FAILURE, [ErrorCode.REPOSITORY_ERROR])
    assert "secret" not in response.errors[0].code_context
    assert "secret" in caplog.text
    assert await content_of(documents, kept) == b"hello"
