"""What one may rely on where documents that are made on demand are kept: Persistence of Retrieved Documents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from repository.actor import Repository
from repository.document_store import DocumentStore, Kept, StoreBusy, StoreFull
from repository.on_demand import Makes, OnDemandDocuments
from repository.on_demand_snapshots import ATTEMPTS, Snapshots
from repository.on_demand_source import NoDocumentNow, SourceUnavailable
from tests.builders import REPOSITORY, code, registered
from tests.repository.stand_ins import RecordingRegistry, everything_in, published, settled
from tests.repository.test_iti43_retrieve import bytes_of, codes, request_for
from tests.repository.test_on_demand import Source, on_demand_entry
from xds.actors import OutcomeUnknown, RegistryResponse, RetrievedDocument
from xds.errors import ErrorCode, RegistryError, ResponseStatus
from xds.metadata import AssociationType, AvailabilityStatus, Code, DocumentEntry, DocumentEntryType, Submission
from xds.metadata_rules import findings
from xds.transactions import ITI_42

Before = Callable[[], Awaitable[None]]


@dataclass
class SnapshotRegistry(RecordingRegistry):
    """Registers snapshots as a registry does: a set once, a replacement of what is Approved, all of it or nothing.

    before    what happens before each of the next registrations is judged
    answers   what the next registrations are answered, whatever they are
    """

    promised: list[DocumentEntry] = field(default_factory=list)
    approved: dict[str, DocumentEntry] = field(default_factory=dict)
    before: list[Before] = field(default_factory=list)
    answers: list[RegistryResponse | Exception] = field(default_factory=list)
    silent: bool = False

    async def register_document_set(self, submission: Submission) -> RegistryResponse:
        if self.before:
            await self.before.pop(0)()
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        assert [each.code_context for each in findings(submission, ITI_42)] == []
        if any(each.submission_set.unique_id == submission.submission_set.unique_id for each in self.submissions):
            return refusal(ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY)
        replaced = targets(submission, AssociationType.RPLC)
        if not set(replaced) <= self.approved.keys():
            return refusal(ErrorCode.REGISTRY_DEPRECATED_DOCUMENT_ERROR)
        for each in replaced:
            del self.approved[each]
        self.approved |= {entry.entry_uuid: registered(entry) for entry in submission.document_entries}
        return await super().register_document_set(submission)

    async def of_document(self, unique_id: str) -> Sequence[DocumentEntry]:
        return [entry for entry in self.promised if entry.unique_id == unique_id]

    async def content_type(self, entry: DocumentEntry) -> Code | None:
        raise AssertionError(f"a snapshot is no update of {entry}")

    async def snapshots(self, entry: DocumentEntry) -> Sequence[DocumentEntry]:
        if self.silent:
            raise OutcomeUnknown("the connection was lost")
        of_it = {
            link.source_object
            for submission in self.submissions
            for link in submission.associations
            if (link.association_type, link.target_object) == (AssociationType.IS_SNAPSHOT_OF, entry.entry_uuid)
        }
        return [each for each in reversed(self.approved.values()) if each.entry_uuid in of_it]


def refusal(*error_codes: ErrorCode) -> RegistryResponse:
    return RegistryResponse.of([RegistryError(each, "Not this one, of patient 9434765919.") for each in error_codes])


def targets(submission: Submission, kind: AssociationType) -> list[str]:
    return [link.target_object for link in submission.associations if link.association_type == kind]


def repository_with(
    documents: DocumentStore, registry: SnapshotRegistry, source: Source, **conditions: Any
) -> Repository:
    snapshots = Snapshots(
        documents=documents,
        registry=registry,
        entries=registry,
        is_registered=registry.is_registered,
        repository_unique_id=REPOSITORY,
    )
    makes = Makes(**{"name": "summaries", "source": source, "persists": True, **conditions})
    return Repository(
        documents=documents,
        registry=registry,
        is_registered=registry.is_registered,
        repository_unique_id=REPOSITORY,
        on_demand=OnDemandDocuments(sources=(makes,), entries=registry, snapshots=snapshots),
    )


async def retrieved(repository: Repository, entry: DocumentEntry) -> RetrievedDocument:
    response = await repository.retrieve([request_for(entry.unique_id or "")])
    assert (response.status, response.errors) == (ResponseStatus.SUCCESS, ())
    (document,) = response.documents
    return document


async def all_settled(documents: DocumentStore) -> list[Kept]:
    return [kept async for kept in documents.all_settled()]


# What is kept


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
async def test_what_was_made_is_kept_and_registered_before_it_is_answered(documents: DocumentStore, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    entry = on_demand_entry()
    registry = SnapshotRegistry(promised=[entry])
    repository = repository_with(documents, registry, Source([content]), content_type=code("34133-9"))

    document = await retrieved(repository, entry)

    assert document.request == request_for(entry.unique_id or "")
    assert document.new_repository_unique_id == REPOSITORY
    assert document.new_document_unique_id not in (None, entry.unique_id)
    assert await bytes_of(document) == content
    again = await repository.retrieve([request_for(document.new_document_unique_id or "")])
    assert await bytes_of(again.documents[0]) == content
    assert again.documents[0].new_document_unique_id is None, "it is a stable document now"
    assert await everything_in(documents) == []


async def test_a_snapshot_is_a_stable_document_with_the_metadata_of_its_entry(documents: DocumentStore) -> None:
    entry = on_demand_entry(version="3", logical_id="urn:uuid:7f2e8b1e-9d43-4a64-9a3e-0f6f5b2a4c11")
    registry = SnapshotRegistry(promised=[entry])
    repository = repository_with(documents, registry, Source([b"Toimik"]), content_type=code("34133-9"))

    made_as = (await retrieved(repository, entry)).new_document_unique_id

    (submission,) = registry.submissions
    (snapshot,) = submission.document_entries
    its_own = {"entry_uuid", "unique_id", "object_type", "creation_time", "hash", "size", "logical_id", "version",
               "availability_status"}  # fmt: skip
    kept = {name: getattr(entry, name) for name in DocumentEntry.__dataclass_fields__ if name not in its_own}
    assert {name: getattr(snapshot, name) for name in kept} == kept
    assert (snapshot.unique_id, snapshot.object_type) == (made_as, DocumentEntryType.STABLE)
    assert (snapshot.hash, snapshot.size) == ("5def7502f927c545618411960264a12dc2d46267", "6")
    assert snapshot.creation_time is not None
    assert targets(submission, AssociationType.IS_SNAPSHOT_OF) == [entry.entry_uuid]
    assert targets(submission, AssociationType.RPLC) == []
    assert (submission.submission_set.content_type_code, submission.submission_set.source_id) == (
        code("34133-9"),
        REPOSITORY,
    )


async def test_new_content_replaces_the_snapshot_before_it_and_equal_content_is_that_snapshot(
    documents: DocumentStore,
) -> None:
    entry = on_demand_entry()
    registry = SnapshotRegistry(promised=[entry])
    repository = repository_with(documents, registry, Source([b"one", b"one", b"two", b"two", b"one"]))

    made = [(await retrieved(repository, entry)).new_document_unique_id for _ in range(5)]

    assert made[0] == made[1] != made[2] == made[3]
    assert made[4] == made[0], "the same content is the same document"
    first, second, third = registry.submissions
    assert targets(second, AssociationType.RPLC) == [first.document_entries[0].entry_uuid]
    assert targets(third, AssociationType.RPLC) == [second.document_entries[0].entry_uuid]
    (approved,) = registry.approved.values()
    assert approved.unique_id == made[4], "the one that is current is Approved"
    assert await everything_in(documents) == []
    assert sorted(kept.unique_id for kept in await all_settled(documents)) == sorted({made[0] or "", made[2] or ""})


async def test_a_document_that_names_itself_is_kept_by_that_name(documents: DocumentStore) -> None:
    entry = on_demand_entry()
    registry = SnapshotRegistry(promised=[entry])
    document = await retrieved(repository_with(documents, registry, Source(unique_id="1.2.3^cda")), entry)
    assert document.new_document_unique_id == "1.2.3^cda"
    assert await documents.find("1.2.3^cda") is not None


async def test_snapshots_of_two_entries_have_nothing_to_do_with_each_other(documents: DocumentStore) -> None:
    first, second = on_demand_entry(), on_demand_entry()
    registry = SnapshotRegistry(promised=[first, second])
    repository = repository_with(documents, registry, Source([b"the same"]))
    made = {(await retrieved(repository, each)).new_document_unique_id for each in (first, second)}
    assert len(made) == len(registry.approved) == 2


async def test_a_deprecated_entry_is_made_and_gets_no_snapshot(documents: DocumentStore) -> None:
    entry = on_demand_entry(availability_status=AvailabilityStatus.DEPRECATED)
    registry = SnapshotRegistry(promised=[entry])
    document = await retrieved(repository_with(documents, registry, Source([b"made"])), entry)
    assert await bytes_of(document) == b"made"
    assert document.new_document_unique_id is not None
    assert document.new_repository_unique_id is None
    assert (registry.submissions, await all_settled(documents)) == ([], [])


async def test_a_snapshot_whose_octets_were_removed_is_there_again(documents: DocumentStore) -> None:
    entry = on_demand_entry()
    registry = SnapshotRegistry(promised=[entry])
    repository = repository_with(documents, registry, Source([b"made"]))
    first = await retrieved(repository, entry)
    removed = await repository.remove_documents([request_for(first.new_document_unique_id or "")])
    assert removed.succeeded

    again = await retrieved(repository, entry)

    assert again.new_document_unique_id == first.new_document_unique_id
    assert await bytes_of(again) == b"made"
    assert len(registry.submissions) == 1


async def test_a_snapshot_whose_metadata_was_removed_is_registered_again(documents: DocumentStore) -> None:
    entry = on_demand_entry()
    registry = SnapshotRegistry(promised=[entry])
    repository = repository_with(documents, registry, Source([b"made"]))
    await retrieved(repository, entry)
    registry.approved.clear()  # ITI-62; its names stay taken

    document = await retrieved(repository, entry)

    assert await bytes_of(document) == b"made"
    assert len(registry.submissions) == 2
    assert len({each.submission_set.unique_id for each in registry.submissions}) == 2


# Several at once


async def test_equal_content_at_the_same_moment_is_one_snapshot(documents: DocumentStore) -> None:
    entry = on_demand_entry()
    registry = SnapshotRegistry(promised=[entry])
    repository = repository_with(documents, registry, Source([b"made"]))
    found = await asyncio.gather(*(retrieved(repository, entry) for _ in range(8)))
    assert len({document.new_document_unique_id for document in found}) == 1
    assert [await bytes_of(document) for document in found] == [b"made"] * 8
    assert len(registry.submissions) == 1
    assert await everything_in(documents) == []


async def test_of_different_content_at_the_same_moment_one_snapshot_stands(documents: DocumentStore) -> None:
    entry = on_demand_entry()
    registry = SnapshotRegistry(promised=[entry])
    other = repository_with(documents, registry, Source([b"other"]))

    async def other_comes_first() -> None:
        await retrieved(other, entry)

    repository = repository_with(documents, registry, Source([b"made"]))
    for again in (False, True):
        registry.before = [other_comes_first]
        document = await retrieved(repository, entry)
        assert await bytes_of(document) == b"made", again
        (approved,) = registry.approved.values()
        assert approved.unique_id == document.new_document_unique_id
    assert await everything_in(documents) == []


async def test_who_is_overtaken_again_and_again_is_told_to_ask_later(documents: DocumentStore) -> None:
    entry = on_demand_entry()
    refusals = [refusal(ErrorCode.REGISTRY_DEPRECATED_DOCUMENT_ERROR)] * ATTEMPTS
    registry = SnapshotRegistry(promised=[entry], answers=[*refusals])
    response = await repository_with(documents, registry, Source()).retrieve([request_for(entry.unique_id or "")])
    assert codes(response) == [ErrorCode.REPOSITORY_BUSY]
    assert (await everything_in(documents), await all_settled(documents)) == ([], [])
    assert registry.answers == []


# What is refused leaves no trace


@pytest.mark.parametrize(
    ("answered", "code_of_answer"),
    [
        (ErrorCode.UNKNOWN_PATIENT_ID, ErrorCode.REPOSITORY_ERROR),
        (ErrorCode.REGISTRY_METADATA_ERROR, ErrorCode.REPOSITORY_ERROR),
        (ErrorCode.REGISTRY_BUSY, ErrorCode.REPOSITORY_BUSY),
        (ErrorCode.REGISTRY_NOT_AVAILABLE, ErrorCode.REGISTRY_NOT_AVAILABLE),
    ],
)
async def test_a_snapshot_that_the_registry_refuses_is_an_error_and_leaves_no_trace(
    documents: DocumentStore, caplog: pytest.LogCaptureFixture, answered: ErrorCode, code_of_answer: ErrorCode
) -> None:
    entry = on_demand_entry()
    registry = SnapshotRegistry(promised=[entry], answers=[refusal(answered)])
    response = await repository_with(documents, registry, Source()).retrieve([request_for(entry.unique_id or "")])
    assert (response.status, codes(response)) == (ResponseStatus.FAILURE, [code_of_answer])
    assert answered in response.errors[0].code_context
    assert "9434765919" not in response.errors[0].code_context + caplog.text
    assert (await everything_in(documents), await all_settled(documents)) == ([], [])


@pytest.mark.parametrize("is_registered", [True, False])
async def test_where_the_registry_does_not_answer_nothing_is_lost_and_nothing_stays_that_is_not_registered(
    documents: DocumentStore, is_registered: bool
) -> None:
    entry = on_demand_entry()
    registry = SnapshotRegistry(promised=[entry])
    repository = repository_with(documents, registry, Source([b"made"]))

    async def answer_is_lost() -> None:
        registry.answers = [OutcomeUnknown("the connection was lost")]

    registry.before = [answer_is_lost]
    response = await repository.retrieve([request_for(entry.unique_id or "")])

    assert codes(response) == [ErrorCode.REGISTRY_NOT_AVAILABLE]
    (waiting,) = await everything_in(documents)
    if is_registered:
        stable = replace(entry, object_type=DocumentEntryType.STABLE, hash=waiting.measured.hash)
        snapshot = replace(stable, unique_id=waiting.unique_id)
        registry.submissions.append(Submission(document_entries=(snapshot,)))
    found = await repository.retrieve([request_for(waiting.unique_id)])
    assert codes(found) == ([] if is_registered else [ErrorCode.DOCUMENT_UNIQUE_ID_ERROR])


async def test_where_the_registry_does_not_tell_which_snapshots_there_are_nothing_is_kept(
    documents: DocumentStore,
) -> None:
    entry = on_demand_entry()
    registry = SnapshotRegistry(promised=[entry], silent=True)
    response = await repository_with(documents, registry, Source()).retrieve([request_for(entry.unique_id or "")])
    assert codes(response) == [ErrorCode.REGISTRY_NOT_AVAILABLE]
    assert (await everything_in(documents), await all_settled(documents)) == ([], [])


async def test_a_document_by_the_name_of_another_is_not_kept(documents: DocumentStore) -> None:
    other, entry = await settled(documents, "1.2.3", b"other"), on_demand_entry()
    registry = SnapshotRegistry(promised=[entry])
    source = Source([b"made"], unique_id="1.2.3")
    response = await repository_with(documents, registry, source).retrieve([request_for(entry.unique_id or "")])
    assert codes(response) == [ErrorCode.REPOSITORY_ERROR]
    assert (await everything_in(documents), await all_settled(documents)) == ([], [other])
    assert registry.submissions == []


@pytest.mark.parametrize(
    ("source", "conditions"),
    [
        (Source(problem=NoDocumentNow()), {}),
        (Source([b"x" * 5000], problem_in_content=SourceUnavailable("gone")), {}),
        (Source([b"x" * 5000], hangs=True), {"seconds": 0.2}),
        (Source([b"12345"]), {"size_limit": 4}),
        (Source(mime_type="text/html"), {}),
    ],
    ids=["nothing there", "broken off", "too slow", "too large", "of another type"],
)
async def test_what_was_not_made_leaves_no_trace(
    documents: DocumentStore, source: Source, conditions: dict[str, Any]
) -> None:
    entry = on_demand_entry()
    registry = SnapshotRegistry(promised=[entry])
    response = await repository_with(documents, registry, source, **conditions).retrieve(
        [request_for(entry.unique_id or "")]
    )
    assert response.status is ResponseStatus.FAILURE
    assert (await everything_in(documents), await all_settled(documents)) == ([], [])
    assert registry.submissions == []


@pytest.mark.parametrize(
    ("problem", "error_code"),
    [
        (StoreBusy("slow"), ErrorCode.REPOSITORY_BUSY),
        (StoreFull("full"), ErrorCode.REPOSITORY_OUT_OF_RESOURCES),
    ],
)
async def test_a_store_that_can_not_keep_it_is_told_and_the_others_are_answered(
    documents: DocumentStore, problem: Exception, error_code: ErrorCode
) -> None:
    kept, entry = await settled(documents, "1.2.3", b"kept"), on_demand_entry()
    registry = SnapshotRegistry(promised=[entry])
    unable: DocumentStore = Unable(documents, problem)
    response = await repository_with(unable, registry, Source()).retrieve(
        [request_for(entry.unique_id or ""), request_for(kept.unique_id)]
    )
    assert (response.status, codes(response)) == (ResponseStatus.PARTIAL_SUCCESS, [error_code])
    assert [await bytes_of(document) for document in response.documents] == [b"kept"]
    assert registry.submissions == []


@dataclass
class Unable:
    """A store that takes nothing."""

    documents: DocumentStore
    problem: Exception

    def staging(self, **_: Any) -> Any:
        raise self.problem

    def __getattr__(self, name: str) -> Any:
        return getattr(self.documents, name)


async def test_a_client_that_goes_leaves_nothing_half_done(documents: DocumentStore) -> None:
    entry, asked, may_answer = on_demand_entry(), asyncio.Event(), asyncio.Event()
    registry = SnapshotRegistry(promised=[entry])

    async def slowly() -> None:
        asked.set()
        await may_answer.wait()

    registry.before = [slowly]
    repository = repository_with(documents, registry, Source([b"made"]))
    waiting = asyncio.create_task(repository.retrieve([request_for(entry.unique_id or "")]))
    await asked.wait()
    waiting.cancel()
    may_answer.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    (snapshot,) = registry.approved.values()
    assert await documents.find(snapshot.unique_id or "") is not None
    assert await everything_in(documents) == []


async def test_an_equal_document_that_another_worker_has_published_does_no_harm(documents: DocumentStore) -> None:
    entry = on_demand_entry()
    registry = SnapshotRegistry(promised=[entry])
    repository = repository_with(documents, registry, Source([b"made"], unique_id="1.2.3"))
    left = await published(documents, "1.2.3", b"made")

    document = await retrieved(repository, entry)

    assert await bytes_of(document) == b"made"
    assert [kept.key for kept in await everything_in(documents)] == [left.key], "its own worker, or the sweeper, cares"
