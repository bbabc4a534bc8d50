"""What one may rely on where delayed documents are assembled, whatever comes in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from repository.actor import Repository
from repository.delayed_documents import ATTEMPTS, Assembly
from repository.document_store import DocumentStore, StoreBusy, StoreFull
from repository.on_demand import Makes, OnDemandDocuments
from repository.on_demand_source import NoDocumentNow
from repository.sweeper import Swept, sweep
from tests.builders import REPOSITORY, code, document_entry, registered, text
from tests.repository.stand_ins import RecordingRegistry, everything_in, settled
from tests.repository.test_iti43_retrieve import bytes_of, codes, request_for
from tests.repository.test_on_demand import Source
from tests.repository.test_on_demand_snapshots import refusal
from tests.xds.broken_updates import next_version
from xds.actors import OutcomeUnknown, RegistryResponse
from xds.errors import ErrorCode, ResponseStatus
from xds.metadata import HASH_OF_NOTHING, AvailabilityStatus, Code, DocumentEntry, Submission
from xds.metadata_rules import findings
from xds.transactions import ITI_57

Before = Callable[[], Awaitable[None]]
CONTENT_TYPE = code("34133-9")


def delayed_entry(**changes: Any) -> DocumentEntry:
    """The entry of a delayed document of this repository, as the registry has it."""
    entry = document_entry(hash=HASH_OF_NOTHING, size="0")
    return registered(entry, logical_id=entry.entry_uuid, version="1", **changes)


@dataclass
class UpdatableRegistry(RecordingRegistry):
    """Takes updates as a registry does: of the newest version, by its number.

    newest    of each entry
    before    what happens before each of the next updates is judged
    answers   what the next updates are answered, whatever they are; those that raise are done all the same
    silent, goes_away   it tells nothing; or nothing more, once it has told the entries of a document
    """

    newest: list[DocumentEntry] = field(default_factory=list)
    before: list[Before] = field(default_factory=list)
    answers: list[RegistryResponse | Exception | None] = field(default_factory=list)
    silent: bool = False
    goes_away: bool = False

    async def update_document_set(self, submission: Submission) -> RegistryResponse:
        if self.before:
            await self.before.pop(0)()
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, RegistryResponse):
            return answer
        assert [each.code_context for each in findings(submission, ITI_57)] == []
        (version,), (link,) = submission.document_entries, submission.associations
        known = next((each for each in self.newest if each.logical_id == version.logical_id), None)
        if known is None or link.previous_version != known.version:
            return refusal(ErrorCode.METADATA_VERSION_ERROR)
        self.becomes(known, version)
        self.submissions.append(submission)
        if answer is not None:
            raise answer
        return RegistryResponse.of()

    def becomes(self, known: DocumentEntry, version: DocumentEntry) -> None:
        """The newest version of an entry from now on."""
        number = str(int(known.version or 0) + 1)
        done = replace(version, version=number, availability_status=AvailabilityStatus.APPROVED)
        self.newest = [done if each is known else each for each in self.newest]

    async def of_document(self, unique_id: str) -> Sequence[DocumentEntry]:
        if self.silent:
            raise OutcomeUnknown("the connection was lost")
        return [entry for entry in self.newest if entry.unique_id == unique_id]

    async def snapshots(self, entry: DocumentEntry) -> Sequence[DocumentEntry]:
        raise AssertionError(f"a delayed document is no snapshot of {entry}")

    async def content_type(self, entry: DocumentEntry) -> Code | None:
        if self.goes_away:
            raise OutcomeUnknown("the connection was lost")
        return CONTENT_TYPE if entry.version == "1" else None


def repository_with(
    documents: DocumentStore, registry: UpdatableRegistry, source: Source, **conditions: Any
) -> Repository:
    assembly = Assembly(
        documents=documents,
        registry=registry,
        entries=registry,
        is_registered=registry.is_registered,
        repository_unique_id=REPOSITORY,
    )
    makes = Makes(**{"name": "archive", "source": source, **conditions})
    return Repository(
        documents=documents,
        registry=registry,
        is_registered=registry.is_registered,
        repository_unique_id=REPOSITORY,
        on_demand=OnDemandDocuments(sources=(), entries=registry, assemblers=(makes,), assembly=assembly),
    )


async def retrieved(repository: Repository, entry: DocumentEntry) -> bytes:
    """The octets of its document, which is the document of that uniqueId."""
    response = await repository.retrieve([request_for(entry.unique_id or "")])
    assert (response.status, response.errors) == (ResponseStatus.SUCCESS, ())
    (document,) = response.documents
    assert (document.new_document_unique_id, document.new_repository_unique_id) == (None, None)
    return await bytes_of(document)


async def refused(repository: Repository, entry: DocumentEntry) -> list[str]:
    response = await repository.retrieve([request_for(entry.unique_id or "")])
    assert response.documents == ()
    return codes(response)


# What is kept


@pytest.mark.parametrize("size", [1, 5, 3_000_000])
async def test_what_was_assembled_is_kept_and_served_without_its_source_from_then_on(
    documents: DocumentStore, size: int
) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    entry = delayed_entry()
    registry, source = UpdatableRegistry(newest=[entry]), Source([content, b"something else"])
    repository = repository_with(documents, registry, source)

    assert [await retrieved(repository, entry) for _ in range(2)] == [content] * 2

    assert len(source.asked) == len(registry.submissions) == 1
    assert await everything_in(documents) == []
    kept = await documents.find(entry.unique_id or "")
    assert kept is not None
    assert (registry.newest[0].hash, registry.newest[0].size) == (kept.measured.hash, str(size))


async def test_the_update_is_submitted_as_the_entry_was(documents: DocumentStore) -> None:
    entry = delayed_entry(title=text("Discharge summary"))
    registry = UpdatableRegistry(newest=[entry])
    await retrieved(repository_with(documents, registry, Source()), entry)
    (submission,) = registry.submissions
    owner = submission.submission_set
    assert (owner.content_type_code, owner.title, owner.source_id) == (CONTENT_TYPE, entry.title, REPOSITORY)
    assert owner.patient_id == entry.patient_id


async def test_a_document_may_say_its_own_unique_id_and_no_other(documents: DocumentStore) -> None:
    entry = delayed_entry()
    registry = UpdatableRegistry(newest=[entry])
    assert await refused(repository_with(documents, registry, Source(unique_id="1.2.3")), entry) == [
        ErrorCode.REPOSITORY_ERROR
    ]
    assert await retrieved(repository_with(documents, registry, Source(unique_id=entry.unique_id)), entry) == b"hello"


@pytest.mark.parametrize(
    "changes",
    [{"repository_unique_id": "1.2.3"}, {"size": "5"}, {"hash": "da39a3ee5e6b4b0d3255bfef95601890afd80700"}],
    ids=str,
)
async def test_an_entry_that_is_not_that_of_a_delayed_document_here_is_not_assembled(
    documents: DocumentStore, changes: dict[str, Any]
) -> None:
    entry, source = delayed_entry(**changes), Source()
    repository = repository_with(documents, UpdatableRegistry(newest=[entry]), source)
    assert await refused(repository, entry) == [ErrorCode.DOCUMENT_UNIQUE_ID_ERROR]
    assert source.asked == []


# What comes between


@pytest.mark.parametrize("away", [{"silent": True}, {"goes_away": True}], ids=["all the time", "from then on"])
async def test_where_the_registry_is_away_before_it_is_told_nothing_is_kept(
    documents: DocumentStore, away: dict[str, Any]
) -> None:
    entry = delayed_entry()
    registry = UpdatableRegistry(newest=[entry], **away)
    repository = repository_with(documents, registry, Source())
    assert await refused(repository, entry) == [ErrorCode.REGISTRY_NOT_AVAILABLE]
    assert (await everything_in(documents), registry.newest) == ([], [entry])


async def test_a_crash_after_the_update_is_made_good_at_the_next_retrieval(documents: DocumentStore) -> None:
    entry = delayed_entry()
    registry = UpdatableRegistry(newest=[entry], answers=[OutcomeUnknown("the connection was lost")])
    source = Source([b"assembled"])
    repository = repository_with(documents, registry, source)

    assert await refused(repository, entry) == [ErrorCode.REGISTRY_NOT_AVAILABLE]
    source.problem = NoDocumentNow()

    assert await retrieved(repository, entry) == b"assembled"
    assert await everything_in(documents) == []
    assert [each.version for each in registry.newest] == ["2"]


async def test_a_crash_before_the_update_is_made_good_at_the_next_retrieval_and_the_sweeper_clears_up(
    documents: DocumentStore,
) -> None:
    entry = delayed_entry()
    unknown = RegistryResponse(ResponseStatus.PARTIAL_SUCCESS)
    registry = UpdatableRegistry(newest=[entry], answers=[unknown])
    repository = repository_with(documents, registry, Source([b"first", b"second"]))

    assert await refused(repository, entry) == [ErrorCode.REGISTRY_NOT_AVAILABLE]
    assert registry.newest == [entry]

    assert await retrieved(repository, entry) == b"second", "nobody was ever served the first"
    assert await sweep(documents, registry.is_registered, older_than_seconds=0) == Swept(withdrawn=1)
    assert await retrieved(repository, entry) == b"second"


async def test_a_crash_between_the_updates_of_two_entries_is_made_good_at_the_next_retrieval(
    documents: DocumentStore,
) -> None:
    first = delayed_entry()
    second = delayed_entry(unique_id=first.unique_id)
    registry = UpdatableRegistry(newest=[first, second], answers=[OutcomeUnknown("the connection was lost")])
    repository = repository_with(documents, registry, Source([b"assembled"]))

    assert await refused(repository, first) == [ErrorCode.REGISTRY_NOT_AVAILABLE]
    assert sorted(each.version or "" for each in registry.newest) == ["1", "2"]

    assert await retrieved(repository, first) == b"assembled"
    assert {(each.version, each.size) for each in registry.newest} == {("2", "9")}


async def test_an_entry_that_was_updated_meanwhile_is_updated_again(documents: DocumentStore) -> None:
    entry = delayed_entry()
    registry = UpdatableRegistry(newest=[entry])

    async def corrected() -> None:
        registry.becomes(registry.newest[0], next_version(registry.newest[0], title=text("Corrected")))

    registry.before = [corrected]
    assert await retrieved(repository_with(documents, registry, Source([b"assembled"])), entry) == b"assembled"
    (newest,) = registry.newest
    assert (newest.version, newest.title, newest.size) == ("3", text("Corrected"), "9")
    assert await everything_in(documents) == []


async def test_an_entry_that_is_updated_again_and_again_is_busy_and_nothing_stays(documents: DocumentStore) -> None:
    entry = delayed_entry()
    registry = UpdatableRegistry(newest=[entry])

    async def updated() -> None:
        registry.becomes(registry.newest[0], next_version(registry.newest[0]))

    registry.before = [updated] * ATTEMPTS
    repository = repository_with(documents, registry, Source())
    assert await refused(repository, entry) == [ErrorCode.REPOSITORY_BUSY]
    assert (await everything_in(documents), registry.submissions) == ([], [])
    assert await retrieved(repository, entry) == b"hello"


async def test_what_another_has_assembled_at_the_same_moment_is_answered(documents: DocumentStore) -> None:
    entry = delayed_entry()
    registry = UpdatableRegistry(newest=[entry])
    others = repository_with(documents, registry, Source([b"theirs"]))

    async def overtaken() -> None:
        assert await retrieved(others, entry) == b"theirs"

    registry.before = [overtaken]
    assert await retrieved(repository_with(documents, registry, Source([b"ours"])), entry) == b"theirs"
    assert len(registry.submissions) == 1
    assert await everything_in(documents) == []


async def test_what_another_assembles_between_the_looks_into_store_and_registry_is_found(
    documents: DocumentStore,
) -> None:
    entry = delayed_entry()
    others = UpdatableRegistry(newest=[entry])

    class Overtaken(UpdatableRegistry):
        async def of_document(self, unique_id: str) -> Sequence[DocumentEntry]:
            await retrieved(repository_with(documents, others, Source([b"theirs"])), entry)
            self.submissions = others.submissions
            return await others.of_document(unique_id)

    source = Source([b"ours"])
    assert await retrieved(repository_with(documents, Overtaken(), source), entry) == b"theirs"
    assert source.asked == []


@pytest.mark.parametrize("becomes", ["removed", "Deprecated"])
async def test_a_document_whose_entry_is_gone_by_then_is_not_kept(documents: DocumentStore, becomes: str) -> None:
    entry = delayed_entry()
    registry = UpdatableRegistry(newest=[entry])

    async def gone() -> None:
        deprecated = replace(entry, availability_status=AvailabilityStatus.DEPRECATED, version="9")
        registry.newest = [deprecated] if becomes == "Deprecated" else []

    registry.before = [gone]
    assert await refused(repository_with(documents, registry, Source()), entry) == [ErrorCode.REPOSITORY_BUSY]
    assert (await everything_in(documents), await documents.find(entry.unique_id or "")) == ([], None)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (ErrorCode.REGISTRY_BUSY, ErrorCode.REPOSITORY_BUSY),
        (ErrorCode.REGISTRY_NOT_AVAILABLE, ErrorCode.REGISTRY_NOT_AVAILABLE),
        (ErrorCode.UNKNOWN_PATIENT_ID, ErrorCode.REPOSITORY_ERROR),
        (ErrorCode.REGISTRY_ERROR, ErrorCode.REPOSITORY_ERROR),
    ],
)
async def test_where_the_registry_takes_no_update_nothing_is_kept_and_the_next_try_works(
    documents: DocumentStore, answer: ErrorCode, told: ErrorCode
) -> None:
    entry = delayed_entry()
    registry = UpdatableRegistry(newest=[entry], answers=[refusal(answer)])
    repository = repository_with(documents, registry, Source())

    response = await repository.retrieve([request_for(entry.unique_id or "")])

    assert codes(response) == [told]
    assert "9434765919" not in response.errors[0].code_context
    assert (await everything_in(documents), registry.newest) == ([], [entry])
    assert await retrieved(repository, entry) == b"hello"


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (StoreFull("no room"), ErrorCode.REPOSITORY_OUT_OF_RESOURCES),
        (StoreBusy("too slow"), ErrorCode.REPOSITORY_BUSY),
    ],
    ids=["full", "busy"],
)
async def test_where_the_store_takes_no_document_the_entry_stays_as_it_is(
    documents: DocumentStore, problem: Exception, told: ErrorCode
) -> None:
    entry = delayed_entry()
    registry = UpdatableRegistry(newest=[entry])
    repository = repository_with(documents, registry, Source(problem_in_content=problem))
    assert await refused(repository, entry) == [told]
    assert registry.newest == [entry]


async def test_no_more_than_the_limit_of_its_source_is_written(documents: DocumentStore) -> None:
    entry = delayed_entry()
    registry = UpdatableRegistry(newest=[entry])
    repository = repository_with(documents, registry, Source([bytes(5001)]), size_limit=5000)
    assert await refused(repository, entry) == [ErrorCode.REPOSITORY_ERROR]
    assert (await everything_in(documents), registry.newest) == ([], [entry])


async def test_an_empty_document_that_is_in_the_repository_is_not_assembled(documents: DocumentStore) -> None:
    entry, source = delayed_entry(), Source()
    await settled(documents, entry.unique_id or "", b"")
    repository = repository_with(documents, UpdatableRegistry(newest=[entry]), source)
    assert await retrieved(repository, entry) == b""
    assert source.asked == []
