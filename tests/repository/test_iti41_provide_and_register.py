"""What a document source may rely on when it sends Provide and Register Document Set-b [ITI-41]."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from repository.document_store import (
    DocumentStore,
    Kept,
    Measured,
    OtherBytesSettled,
    Staging,
    StoreBusy,
    StoreFull,
)
from tests.builders import CONTENT, CONTENT_HASH, REPOSITORY, document_entry, folder, oid, submission, unmeasured
from tests.repository.stand_ins import (
    Message,
    RecordingRegistry,
    RefusingRegistry,
    SilentRegistry,
    SlowRegistry,
    content_of,
    everything_in,
    message,
    message_of,
    repository_of,
    settled,
)
from xds.actors import Attachment, DocumentRepository, Provided, RegistryResponse
from xds.errors import ErrorCode, Finding, RegistryError, ResponseStatus, Severity
from xds.metadata import DocumentEntry, Submission
from xds.metadata_names import location


async def nothing_is_left(documents: DocumentStore, *entries: DocumentEntry) -> bool:
    """Whether the store knows nothing of these entries' documents, nor of any that waits."""
    found = [await documents.find(entry.unique_id or "") for entry in entries]
    staged = await documents.sweep_staged(older_than_seconds=-60)
    return not any(found) and await everything_in(documents) == [] and staged == 0


def codes(response: RegistryResponse) -> list[ErrorCode | str]:
    return [error.code for error in response.errors]


# What is accepted


async def test_an_accepted_document_can_be_read_and_is_what_was_sent(documents: DocumentStore) -> None:
    registry = RecordingRegistry()
    repository: DocumentRepository = repository_of(documents, registry)
    entry = document_entry(mime_type="application/pdf")
    content = bytes(range(256)) * 5000

    response = await repository.provide_and_register(message((entry, content)))

    assert response == RegistryResponse(ResponseStatus.SUCCESS)
    kept = await documents.find(entry.unique_id or "")
    assert kept is not None
    assert kept.mime_type == "application/pdf"
    assert await content_of(documents, kept) == content
    assert await everything_in(documents) == []


async def test_the_registry_gets_the_metadata_as_sent_and_what_only_the_repository_knows(
    documents: DocumentStore,
) -> None:
    registry = RecordingRegistry()
    sent = message((document_entry(), CONTENT), (document_entry(), b"another"))

    await repository_of(documents, registry).provide_and_register(sent)

    (registered,) = registry.submissions
    metadata = sent.envelope.submission
    assert registered == replace(
        metadata,
        document_entries=(
            replace(
                metadata.document_entries[0],
                hash=CONTENT_HASH,
                size=str(len(CONTENT)),
                repository_unique_id=REPOSITORY,
            ),
            replace(
                metadata.document_entries[1],
                hash=hashlib.sha1(b"another").hexdigest(),  # noqa: S324
                size="7",
                repository_unique_id=REPOSITORY,
            ),
        ),
    )


async def test_metadata_that_agrees_with_the_document_is_accepted(documents: DocumentStore) -> None:
    entry = document_entry(hash=CONTENT_HASH.upper(), size=f"00{len(CONTENT)}", repository_unique_id=REPOSITORY)
    registry = RecordingRegistry()
    response = await repository_of(documents, registry).provide_and_register(
        message_of(submission(entry), {entry.entry_uuid: CONTENT})
    )
    assert response.succeeded, response.errors
    assert registry.submissions[0].document_entries[0].hash == CONTENT_HASH


async def test_attachments_may_come_in_any_order(documents: DocumentStore) -> None:
    first, second = document_entry(), document_entry()
    sent = message((first, b"first"), (second, b"second"))
    sent.parts = list(reversed(sent.parts))

    assert (await repository_of(documents, RecordingRegistry()).provide_and_register(sent)).succeeded

    for entry, content in ((first, b"first"), (second, b"second")):
        kept = await documents.find(entry.unique_id or "")
        assert kept is not None
        assert await content_of(documents, kept) == content


async def test_a_uuid_may_be_written_in_capitals_where_the_document_names_its_entry(documents: DocumentStore) -> None:
    entry = unmeasured(document_entry())
    sent = message_of(submission(entry), {entry.entry_uuid.upper(): CONTENT})
    assert (await repository_of(documents, RecordingRegistry()).provide_and_register(sent)).succeeded


async def test_a_submission_without_documents_is_registered(documents: DocumentStore) -> None:
    registry = RecordingRegistry()
    sent = message_of(submission(folders=(folder(),)), {})
    assert (await repository_of(documents, registry).provide_and_register(sent)).succeeded
    assert registry.submissions == [sent.envelope.submission]


async def test_an_empty_document_is_a_document(documents: DocumentStore) -> None:
    entry = document_entry()
    registry = RecordingRegistry()
    assert (await repository_of(documents, registry).provide_and_register(message((entry, b"")))).succeeded
    (registered,) = registry.submissions[0].document_entries
    assert (registered.size, registered.hash) == ("0", "da39a3ee5e6b4b0d3255bfef95601890afd80709")
    kept = await documents.find(entry.unique_id or "")
    assert kept is not None
    assert await content_of(documents, kept) == b""


async def test_the_same_document_may_be_sent_in_another_submission(documents: DocumentStore) -> None:
    entry = document_entry()
    repository = repository_of(documents, RecordingRegistry())
    assert (await repository.provide_and_register(message((entry, CONTENT)))).succeeded
    assert (await repository.provide_and_register(message((entry, CONTENT)))).succeeded
    assert await everything_in(documents) == []


async def test_warnings_of_the_registry_reach_the_source_and_the_document_is_kept(documents: DocumentStore) -> None:
    warning = RegistryError(ErrorCode.EXTRA_METADATA_NOT_SAVED, "A Slot was left out.", "", Severity.WARNING)
    entry = document_entry()
    response = await repository_of(documents, RecordingRegistry(warnings=(warning,))).provide_and_register(
        message((entry, CONTENT))
    )
    assert response == RegistryResponse(ResponseStatus.SUCCESS, (warning,))
    assert await documents.find(entry.unique_id or "") is not None


async def test_a_warning_about_the_metadata_is_told_once(documents: DocumentStore) -> None:
    finding = Finding("A Slot was left out.", "", ErrorCode.EXTRA_METADATA_NOT_SAVED, Severity.WARNING)
    warning = finding.reported(ErrorCode.REPOSITORY_METADATA_ERROR)
    sent = message((document_entry(), CONTENT))
    sent.envelope = replace(sent.envelope, submission=replace(sent.envelope.submission, findings=(finding,)))
    for registry in (RecordingRegistry(), RecordingRegistry(warnings=(warning,))):
        response = await repository_of(documents, registry).provide_and_register(sent)
        assert response == RegistryResponse(ResponseStatus.SUCCESS, (warning,))


# What the registry refuses


@pytest.mark.parametrize("size", [0, 6, 1_000_000])
async def test_a_refused_submission_leaves_nothing_behind(documents: DocumentStore, size: int) -> None:
    registry = RefusingRegistry()
    entry = document_entry()

    response = await repository_of(documents, registry).provide_and_register(message((entry, b"x" * size)))

    assert response.errors == (RegistryError(ErrorCode.UNKNOWN_PATIENT_ID, "Not this one.", "somewhere"),)
    assert len(registry.refused) == 1
    assert await nothing_is_left(documents, entry)


async def test_a_busy_registry_has_refused(documents: DocumentStore) -> None:
    entry = document_entry()
    response = await repository_of(documents, RefusingRegistry(code=ErrorCode.REGISTRY_BUSY)).provide_and_register(
        message((entry, CONTENT))
    )
    assert codes(response) == [ErrorCode.REGISTRY_BUSY]
    assert await nothing_is_left(documents, entry)


async def test_a_refused_document_does_not_touch_the_one_that_was_accepted_before(documents: DocumentStore) -> None:
    entry = document_entry()
    assert (
        await repository_of(documents, RecordingRegistry()).provide_and_register(message((entry, CONTENT)))
    ).succeeded
    refusing = repository_of(documents, RefusingRegistry(code=ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY))
    assert not (await refusing.provide_and_register(message((entry, CONTENT)))).succeeded
    kept = await documents.find(entry.unique_id or "")
    assert kept is not None
    assert await content_of(documents, kept) == CONTENT


# What the repository refuses


def contradiction(response: RegistryResponse, entry: DocumentEntry, attribute: str) -> str:
    """The sentence of the one error, which must be about this attribute."""
    (error,) = (each for each in response.errors if each.location == location(entry, attribute))
    assert error.code == ErrorCode.REPOSITORY_METADATA_ERROR
    return error.code_context


async def refused(documents: DocumentStore, sent: Message, **settings: object) -> RegistryResponse:
    """The answer to a message that never reaches the registry and leaves nothing."""
    registry = RecordingRegistry()
    response = await repository_of(documents, registry, **settings).provide_and_register(sent)
    assert response.status is ResponseStatus.FAILURE
    assert registry.submissions == []
    assert await nothing_is_left(documents, *sent.envelope.submission.document_entries)
    return response


async def test_a_hash_that_is_not_the_documents_is_refused_with_both(documents: DocumentStore) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    entry = replace(unmeasured(document_entry()), hash=sha256)
    response = await refused(documents, message_of(submission(entry), {entry.entry_uuid: CONTENT}))
    errors = [error.code_context for error in response.errors if error.location == location(entry, "hash")]
    sentence = errors[-1]
    assert all(part in sentence for part in (sha256, "64 characters", CONTENT_HASH, "40 characters", "6 octets"))


@pytest.mark.parametrize("size", ["7", "06x", "9" * 5000, "٦"])
async def test_a_size_that_is_not_the_documents_is_refused(documents: DocumentStore, size: str) -> None:
    entry = replace(unmeasured(document_entry()), size=size)
    response = await refused(documents, message_of(submission(entry), {entry.entry_uuid: CONTENT}))
    assert {error.location for error in response.errors} == {location(entry, "size")}
    assert "6 octets were received" in response.errors[-1].code_context


async def test_a_document_of_another_repository_is_refused(documents: DocumentStore) -> None:
    entry = replace(unmeasured(document_entry()), repository_unique_id="1.2.3")
    response = await refused(documents, message_of(submission(entry), {entry.entry_uuid: CONTENT}))
    assert REPOSITORY in contradiction(response, entry, "repository_unique_id")


async def test_an_entry_without_a_document_is_refused(documents: DocumentStore) -> None:
    entry = unmeasured(document_entry())
    response = await refused(documents, message_of(submission(entry), {}))
    assert [(error.code, error.location) for error in response.errors] == [
        (ErrorCode.MISSING_DOCUMENT, entry.entry_uuid)
    ]


async def test_a_document_whose_attachment_did_not_come_is_refused(documents: DocumentStore) -> None:
    sent = message((document_entry(), CONTENT))
    sent.parts = []
    response = await refused(documents, sent)
    assert codes(response) == [ErrorCode.MISSING_DOCUMENT]
    assert "1@source.example" in response.errors[0].code_context


async def test_a_document_without_an_entry_is_refused(documents: DocumentStore) -> None:
    entry = unmeasured(document_entry())
    response = await refused(documents, message_of(submission(entry), {entry.entry_uuid: CONTENT, "Document07": b"?"}))
    assert codes(response) == [ErrorCode.MISSING_DOCUMENT_METADATA]
    assert "Document07" in response.errors[0].code_context


async def test_an_attachment_that_nobody_refers_to_is_refused(documents: DocumentStore) -> None:
    sent = message((document_entry(), CONTENT))
    sent.parts = [*sent.parts, ("stray@source.example", b"?")]
    response = await refused(documents, sent)
    assert codes(response) == [ErrorCode.MISSING_DOCUMENT_METADATA]
    assert "stray@source.example" in response.errors[0].code_context


async def test_one_attachment_is_the_document_of_one_entry(documents: DocumentStore) -> None:
    first, second = unmeasured(document_entry()), unmeasured(document_entry())
    sent = message_of(submission(first, second), {first.entry_uuid: CONTENT})
    shared = sent.parts[0][0]
    sent.envelope = replace(sent.envelope, documents=((first.entry_uuid, shared), (second.entry_uuid, shared)))
    assert codes(await refused(documents, sent)) == [ErrorCode.REPOSITORY_METADATA_ERROR]


async def test_one_entry_has_one_document(documents: DocumentStore) -> None:
    entry = unmeasured(document_entry())
    sent = message_of(submission(entry), {entry.entry_uuid: CONTENT})
    sent.envelope = replace(
        sent.envelope, documents=((entry.entry_uuid, "1@source.example"), (entry.entry_uuid, "2@source.example"))
    )
    sent.parts = [("1@source.example", CONTENT), ("2@source.example", b"?")]
    assert codes(await refused(documents, sent)) == [ErrorCode.REPOSITORY_METADATA_ERROR]


async def test_one_content_id_names_one_attachment(documents: DocumentStore) -> None:
    sent = message((document_entry(), CONTENT))
    sent.parts = [*sent.parts, *sent.parts]
    assert codes(await refused(documents, sent)) == [ErrorCode.REPOSITORY_METADATA_ERROR]


async def test_a_unique_id_of_another_document_is_refused_and_that_document_stays(documents: DocumentStore) -> None:
    entry = document_entry()
    first = await settled(documents, entry.unique_id or "", CONTENT)
    registry = RecordingRegistry()

    response = await repository_of(documents, registry).provide_and_register(message((entry, b"other bytes")))

    assert codes(response) == [ErrorCode.NON_IDENTICAL_HASH]
    assert CONTENT_HASH in response.errors[0].code_context
    assert registry.submissions == []
    assert await documents.find(entry.unique_id or "") == first
    assert await content_of(documents, first) == CONTENT
    assert await everything_in(documents) == []


async def test_everything_that_is_wrong_is_told_in_one_answer(documents: DocumentStore) -> None:
    wrong = replace(unmeasured(document_entry(type_code=None)), hash="0" * 40, size="1", repository_unique_id="1.2.3")
    without = unmeasured(document_entry())
    response = await refused(
        documents, message_of(submission(wrong, without), {wrong.entry_uuid: CONTENT, "Document07": b"?"})
    )
    assert {(error.code, error.location) for error in response.errors} == {
        (ErrorCode.REPOSITORY_METADATA_ERROR, location(wrong, "type_code")),
        (ErrorCode.REPOSITORY_METADATA_ERROR, location(wrong, "hash")),
        (ErrorCode.REPOSITORY_METADATA_ERROR, location(wrong, "size")),
        (ErrorCode.REPOSITORY_METADATA_ERROR, location(wrong, "repository_unique_id")),
        (ErrorCode.MISSING_DOCUMENT, without.entry_uuid),
        (ErrorCode.MISSING_DOCUMENT_METADATA, "Document07"),
    }


# Limits, and a store that can not


async def test_a_document_that_is_too_large_is_refused_when_all_of_the_message_was_read(
    documents: DocumentStore,
) -> None:
    sent = message((document_entry(), b"x" * 900_000), (document_entry(), b"y" * 5))
    response = await refused(documents, sent, size_limit=10_000)
    assert codes(response) == [ErrorCode.REPOSITORY_OUT_OF_RESOURCES]
    assert "10000 octets" in response.errors[0].code_context
    assert response.errors[0].location == sent.envelope.submission.document_entries[0].entry_uuid
    assert sent.octets_read == 900_005


async def test_more_documents_than_the_limit_are_refused_when_all_of_the_message_was_read(
    documents: DocumentStore,
) -> None:
    sent = message(*((document_entry(), b"%d" % number) for number in range(5)))
    response = await refused(documents, sent, submission_limit=4)
    assert codes(response) == [ErrorCode.REPOSITORY_OUT_OF_RESOURCES]
    assert "has 5 documents; at most 4" in response.errors[0].code_context
    assert sent.complete


class OneThingFails:
    """A store of which one step does not work: it raises before or after it was done."""

    def __init__(
        self, documents: DocumentStore, step: str, problem: BaseException, *, afterwards: bool = False
    ) -> None:
        self._documents = documents
        self._step = step
        self._problem = problem
        self._afterwards = afterwards

    def _fails(self, step: str, *, afterwards: bool) -> None:
        if step == self._step and afterwards is self._afterwards:
            raise self._problem

    def __getattr__(self, name: str) -> object:
        return getattr(self._documents, name)

    @asynccontextmanager
    async def staging(self, *, size_limit: int | None = None) -> AsyncIterator[Staging]:
        async with self._documents.staging(size_limit=size_limit) as staging:
            yield _StagingThatFails(self, staging)

    async def settle(self, kept: Kept) -> Kept:
        self._fails("settle", afterwards=False)
        settled_one = await self._documents.settle(kept)
        self._fails("settle", afterwards=True)
        return settled_one

    async def withdraw(self, kept: Kept) -> None:
        self._fails("withdraw", afterwards=False)
        await self._documents.withdraw(kept)
        self._fails("withdraw", afterwards=True)


@dataclass
class _StagingThatFails:
    store: OneThingFails
    staging: Staging

    async def add(self, name: str, content: AsyncIterator[bytes]) -> Measured:
        self.store._fails("add", afterwards=False)
        measured = await self.staging.add(name, content)
        self.store._fails("add", afterwards=True)
        return measured

    async def publish(self, documents: Mapping[str, tuple[str, str]]) -> tuple[Kept, ...]:
        self.store._fails("publish", afterwards=False)
        kept = await self.staging.publish(documents)
        self.store._fails("publish", afterwards=True)
        return kept


def failing(documents: DocumentStore, step: str, problem: BaseException, *, afterwards: bool = False) -> DocumentStore:
    store: DocumentStore = OneThingFails(documents, step, problem, afterwards=afterwards)  # type: ignore[assignment]
    return store


@pytest.mark.parametrize("step", ["add", "publish"])
@pytest.mark.parametrize(
    ("problem", "code"),
    [(StoreFull("full"), ErrorCode.REPOSITORY_OUT_OF_RESOURCES), (StoreBusy("busy"), ErrorCode.REPOSITORY_BUSY)],
)
async def test_a_store_that_can_not_take_a_document_is_told_with_the_standards_code(
    documents: DocumentStore, step: str, problem: Exception, code: ErrorCode
) -> None:
    registry = RecordingRegistry()
    entry = document_entry()
    sent = message((entry, CONTENT), (document_entry(), b"another"))

    response = await repository_of(failing(documents, step, problem), registry).provide_and_register(sent)

    assert codes(response) == [code]
    assert sent.complete, "a sender that is cut off hears nothing"
    assert registry.submissions == []
    assert await nothing_is_left(documents, entry)


async def test_a_fault_of_ours_is_logged_and_tells_nothing_of_the_inside(
    documents: DocumentStore, caplog: pytest.LogCaptureFixture
) -> None:
    broken = failing(documents, "publish", RuntimeError("/var/lib/toimik: secret"))
    response = await repository_of(broken, RecordingRegistry()).provide_and_register(
        message((document_entry(), CONTENT))
    )
    assert codes(response) == [ErrorCode.REPOSITORY_ERROR]
    assert "secret" not in response.errors[0].code_context
    assert "secret" in caplog.text


class BrokenMessage(Exception):
    """What a message raises that can not be read."""


@dataclass
class MessageThatBreaks(Message):
    """A message that ends in the middle of a document, or has no readable envelope."""

    where: str = "content"

    async def attachments(self) -> AsyncIterator[Attachment]:
        async for attachment in super().attachments():
            yield attachment
            if self.where == "attachments":
                raise BrokenMessage

    async def _content(self, content: bytes) -> AsyncIterator[bytes]:
        async for chunk in super()._content(content):
            yield chunk
        if self.where == "content":
            raise BrokenMessage

    def provided(self) -> Provided:
        raise BrokenMessage


@pytest.mark.parametrize("where", ["content", "attachments", "envelope"])
async def test_a_message_that_can_not_be_read_is_left_to_whoever_reads_it(documents: DocumentStore, where: str) -> None:
    sound = message((document_entry(), b"x" * 1_000_000))
    with pytest.raises(BrokenMessage):
        await repository_of(documents, RecordingRegistry()).provide_and_register(
            MessageThatBreaks(sound.envelope, sound.parts, where=where)
        )
    assert await nothing_is_left(documents, *sound.envelope.submission.document_entries)


# A registry that does not answer


async def test_an_unknown_outcome_keeps_the_documents_and_tells_what_to_do(documents: DocumentStore) -> None:
    entry = document_entry()
    sent = message((entry, CONTENT))

    response = await repository_of(documents, SilentRegistry()).provide_and_register(sent)

    assert codes(response) == [ErrorCode.REGISTRY_NOT_AVAILABLE]
    unique_id = sent.envelope.submission.submission_set.unique_id
    assert unique_id is not None
    assert unique_id in response.errors[0].code_context
    (kept,) = await documents.unsettled(entry.unique_id or "")
    assert await content_of(documents, kept) == CONTENT
    assert await documents.find(entry.unique_id or "") is None


async def test_a_registry_that_fails_leaves_the_outcome_open(documents: DocumentStore) -> None:
    class FailingRegistry(RecordingRegistry):
        async def register_document_set(self, submission: Submission) -> RegistryResponse:
            await super().register_document_set(submission)
            raise RuntimeError("a fault of ours, after the commit")

    entry = document_entry()
    response = await repository_of(documents, FailingRegistry()).provide_and_register(message((entry, CONTENT)))
    assert codes(response) == [ErrorCode.REPOSITORY_ERROR]
    assert len(await documents.unsettled(entry.unique_id or "")) == 1


async def test_a_registry_that_registers_some_of_it_leaves_the_outcome_open(documents: DocumentStore) -> None:
    class HalfRegistry(RecordingRegistry):
        async def register_document_set(self, submission: Submission) -> RegistryResponse:
            await super().register_document_set(submission)
            return RegistryResponse(ResponseStatus.PARTIAL_SUCCESS)

    entry = document_entry()
    response = await repository_of(documents, HalfRegistry()).provide_and_register(message((entry, CONTENT)))
    assert response.status is ResponseStatus.PARTIAL_SUCCESS
    assert len(await documents.unsettled(entry.unique_id or "")) == 1


@pytest.mark.parametrize("refuses", [False, True])
async def test_a_registration_that_has_begun_is_finished_when_the_source_hangs_up(
    documents: DocumentStore, refuses: bool
) -> None:
    registry = SlowRegistry(refuses=refuses)
    entry = document_entry()
    request = asyncio.create_task(repository_of(documents, registry).provide_and_register(message((entry, CONTENT))))
    await registry.asked.wait()
    request.cancel()
    await asyncio.sleep(0)
    request.cancel()
    registry.may_answer.set()

    with pytest.raises(asyncio.CancelledError):
        await request

    assert await everything_in(documents) == []
    assert (await documents.find(entry.unique_id or "") is None) is refuses


# What a settled or withdrawn document is worth


async def test_a_registered_document_that_could_not_be_settled_yet_is_accepted(documents: DocumentStore) -> None:
    entry = document_entry()
    registry = RecordingRegistry()
    full = failing(documents, "settle", StoreFull("full"))
    assert (await repository_of(full, registry).provide_and_register(message((entry, CONTENT)))).succeeded
    (kept,) = await documents.unsettled(entry.unique_id or "")
    assert await content_of(documents, kept) == CONTENT


@pytest.mark.parametrize("problem", [OtherBytesSettled("other bytes"), KeyError("gone")])
async def test_a_registered_document_that_can_not_be_served_is_told_and_logged(
    documents: DocumentStore, caplog: pytest.LogCaptureFixture, problem: Exception
) -> None:
    broken = failing(documents, "settle", problem)
    response = await repository_of(broken, RecordingRegistry()).provide_and_register(
        message((document_entry(), CONTENT))
    )
    assert codes(response) == [ErrorCode.REPOSITORY_ERROR]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_the_source_hears_the_refusal_where_withdrawing_fails(documents: DocumentStore) -> None:
    busy = failing(documents, "withdraw", StoreBusy("busy"))
    response = await repository_of(busy, RefusingRegistry()).provide_and_register(message((document_entry(), CONTENT)))
    assert codes(response) == [ErrorCode.UNKNOWN_PATIENT_ID]


async def test_of_two_who_send_one_unique_id_with_different_bytes_the_registered_one_is_served(
    documents: DocumentStore,
) -> None:
    class CarefulRegistry(RecordingRegistry):
        """One uniqueId has one hash, as every registry sees to."""

        async def register_document_set(self, submission: Submission) -> RegistryResponse:
            known = {e.unique_id: e.hash for each in self.submissions for e in each.document_entries}
            for entry in submission.document_entries:
                if known.get(entry.unique_id, entry.hash) != entry.hash:
                    return RegistryResponse.of([RegistryError(ErrorCode.NON_IDENTICAL_HASH, "Another hash.")])
            return await super().register_document_set(submission)

    registry = CarefulRegistry()
    unique_id = oid()
    rivals = [message((document_entry(unique_id=unique_id), b"version %d" % number)) for number in range(8)]

    responses = await asyncio.gather(
        *(repository_of(documents, registry).provide_and_register(sent) for sent in rivals)
    )

    (winner,) = (number for number, response in enumerate(responses) if response.succeeded)
    assert {code for response in responses for code in codes(response)} == {ErrorCode.NON_IDENTICAL_HASH}
    kept = await documents.find(unique_id)
    assert kept is not None
    assert await content_of(documents, kept) == b"version %d" % winner
    assert await everything_in(documents) == []
