"""What a document consumer may rely on when it retrieves a document that is made on demand [ITI-43]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from repository.document_store import DocumentStore
from repository.on_demand import Makes, OnDemandDocuments
from repository.on_demand_source import MadeDocument, NoDocumentNow, SourceFailed, SourceUnavailable
from tests.builders import document_entry, oid, registered
from tests.repository.stand_ins import RecordingRegistry, chunks, repository_of, settled
from tests.repository.test_iti43_retrieve import bytes_of, codes, request_for
from xds.actors import OutcomeUnknown, RetrieveResponse
from xds.errors import ErrorCode, ResponseStatus
from xds.metadata import AvailabilityStatus, Code, DocumentEntry, DocumentEntryType


def on_demand_entry(**changes: Any) -> DocumentEntry:
    """An on-demand entry of this repository, as the registry has it."""
    lacking = {"creation_time": None, "hash": None, "size": None}
    return registered(document_entry(object_type=DocumentEntryType.ON_DEMAND, **lacking), **changes)


@dataclass
class Source:
    """Makes what it is told to, and remembers for whom. Each content is made once, the last one again and again."""

    contents: list[bytes] = field(default_factory=lambda: [b"hello"])
    mime_type: str = "text/plain"
    unique_id: str | None = None
    problem: Exception | None = None
    problem_in_content: Exception | None = None
    hangs: bool = False
    hung: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[DocumentEntry] = field(default_factory=list)
    closed: int = 0

    @asynccontextmanager
    async def document(self, entry: DocumentEntry) -> AsyncIterator[MadeDocument]:
        self.asked.append(entry)
        if self.problem is not None:
            raise self.problem
        content = self.contents.pop(0) if len(self.contents) > 1 else self.contents[0]
        try:
            yield MadeDocument(self.mime_type, self._content(content), self.unique_id)
        finally:
            self.closed += 1

    async def _content(self, content: bytes) -> AsyncIterator[bytes]:
        async for chunk in chunks(content):
            yield chunk
        if self.hangs:
            self.hung.set()
            await asyncio.Event().wait()
        if self.problem_in_content is not None:
            raise self.problem_in_content


@dataclass
class Entries:
    """What a registry has registered."""

    entries: Sequence[DocumentEntry] = ()
    silent: bool = False
    asked: list[str] = field(default_factory=list)

    async def of_document(self, unique_id: str) -> Sequence[DocumentEntry]:
        self.asked.append(unique_id)
        if self.silent:
            raise OutcomeUnknown("the connection was lost")
        return [entry for entry in self.entries if entry.unique_id == unique_id]

    async def content_type(self, entry: DocumentEntry) -> Code | None:
        raise AssertionError(f"nothing is to be kept of {entry}")

    async def snapshots(self, entry: DocumentEntry) -> Sequence[DocumentEntry]:
        raise AssertionError(f"nothing is to be kept of {entry}")


async def retrieved(
    documents: DocumentStore, makes: Makes | Sequence[Makes], entries: Entries, *unique_ids: str
) -> RetrieveResponse:
    sources = (makes,) if isinstance(makes, Makes) else tuple(makes)
    repository = repository_of(
        documents, RecordingRegistry(), on_demand=OnDemandDocuments(sources=sources, entries=entries)
    )
    return await repository.retrieve([request_for(each) for each in unique_ids])


def makes(source: Source, **conditions: Any) -> Makes:
    return Makes(**{"name": "summaries", "source": source, **conditions})


async def made(documents: DocumentStore, source: Source, entry: DocumentEntry) -> tuple[str, bytes]:
    """The uniqueId and the octets of what is made for an entry."""
    response = await retrieved(documents, makes(source), Entries([entry]), entry.unique_id or "")
    assert (response.status, response.errors) == (ResponseStatus.SUCCESS, ())
    (document,) = response.documents
    return document.new_document_unique_id or "", await bytes_of(document)


# What is made


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
async def test_a_document_is_made_when_it_is_retrieved(documents: DocumentStore, size: int) -> None:
    content = (b"0123456789abcde" * (size // 15 + 1))[:size]
    entry, source = on_demand_entry(), Source([content])

    response = await retrieved(documents, makes(source), Entries([entry]), entry.unique_id or "")

    assert (response.status, response.errors) == (ResponseStatus.SUCCESS, ())
    (document,) = response.documents
    assert document.request == request_for(entry.unique_id or "")
    assert (document.mime_type, document.size) == ("text/plain", size)
    assert document.new_document_unique_id not in (None, "", entry.unique_id)
    assert document.new_repository_unique_id is None
    assert await bytes_of(document) == content
    assert await bytes_of(document) == content, "it may be opened again"
    assert source.asked == [entry], "its source knows all that is registered of it"
    assert source.closed == 1


async def test_content_that_has_not_changed_has_the_same_unique_id_and_other_content_another(
    documents: DocumentStore,
) -> None:
    source, entry, other = Source([b"one", b"one", b"two", b"one"]), on_demand_entry(), on_demand_entry()
    first, again, changed, back = [(await made(documents, source, entry))[0] for _ in range(4)]
    assert first == again == back != changed
    assert (await made(documents, Source([b"one"]), other))[0] != first, "of another entry it is another document"


async def test_a_document_may_name_itself(documents: DocumentStore) -> None:
    assert await made(documents, Source(unique_id="1.2.3^summary"), on_demand_entry()) == ("1.2.3^summary", b"hello")


async def test_the_first_source_that_is_for_a_unique_id_makes_its_document(documents: DocumentStore) -> None:
    ids = {"1.2.3": b"arc", "1.2.3.4": b"arc", "1.2.3^x": b"arc", "1.2.33": b"rest", "2.25.7": b"rest"}
    entries = Entries([on_demand_entry(unique_id=each) for each in ids])
    sources = [makes(Source([b"arc"]), arcs=("1.9", "1.2.3")), makes(Source([b"rest"]))]
    response = await retrieved(documents, sources, entries, *ids)
    assert [await bytes_of(document) for document in response.documents] == list(ids.values())


async def test_an_approved_entry_goes_before_a_deprecated_one(documents: DocumentStore) -> None:
    old = on_demand_entry(unique_id="1.2.3", availability_status=AvailabilityStatus.DEPRECATED)
    new, source = on_demand_entry(unique_id="1.2.3"), Source()
    await retrieved(documents, makes(source), Entries([old, new]), "1.2.3")
    assert source.asked == [new]
    await retrieved(documents, makes(source), Entries([old]), "1.2.3")
    assert source.asked == [new, old], "a deprecated document can be retrieved, made on demand or not"


async def test_documents_that_are_kept_and_documents_that_are_made_come_in_the_order_asked(
    documents: DocumentStore,
) -> None:
    kept, entry, second = await settled(documents, oid(), b"kept"), on_demand_entry(), on_demand_entry()
    source = Source([b"one", b"two"])
    response = await retrieved(
        documents,
        makes(source),
        Entries([entry, second]),
        entry.unique_id or "",
        kept.unique_id,
        second.unique_id or "",
    )
    assert [await bytes_of(document) for document in response.documents] == [b"one", b"kept", b"two"]


async def test_a_document_that_is_kept_is_never_made(documents: DocumentStore) -> None:
    kept, source = await settled(documents, "1.2.3", b"kept"), Source()
    entries = Entries([on_demand_entry(unique_id="1.2.3")])
    response = await retrieved(documents, makes(source), entries, kept.unique_id)
    assert [await bytes_of(document) for document in response.documents] == [b"kept"]
    assert (source.asked, entries.asked) == ([], [])


# What is not


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [registered(document_entry(unique_id="1.2.3"))],
        [on_demand_entry(unique_id="1.2.3", repository_unique_id="1.9")],
        [on_demand_entry(unique_id="1.2.4")],
    ],
    ids=["nothing", "a stable document", "that of another repository", "another one"],
)
async def test_only_on_demand_entries_of_this_repository_are_made(
    documents: DocumentStore, entries: Sequence[DocumentEntry]
) -> None:
    source = Source()
    response = await retrieved(documents, makes(source), Entries(entries), "1.2.3")
    assert (response.status, codes(response)) == (ResponseStatus.FAILURE, [ErrorCode.DOCUMENT_UNIQUE_ID_ERROR])
    assert source.asked == []


async def test_a_unique_id_that_no_source_is_for_is_not_asked_about(documents: DocumentStore) -> None:
    entries = Entries([on_demand_entry(unique_id="1.2.3")])
    response = await retrieved(documents, makes(Source(), arcs=("1.9",)), entries, "1.2.3")
    assert codes(response) == [ErrorCode.DOCUMENT_UNIQUE_ID_ERROR]
    assert entries.asked == []


NOT_MADE: Sequence[tuple[str, Source, dict[str, Any], ErrorCode, str]] = (
    ("nothing there", Source(problem=NoDocumentNow()), {}, ErrorCode.DOCUMENT_UNIQUE_ID_ERROR,
     "can not be made: there is nothing that it could be made of now"),
    ("not available", Source(problem=SourceUnavailable("secret")), {}, ErrorCode.REPOSITORY_ERROR, "Ask again later"),
    ("broken off", Source(problem_in_content=SourceUnavailable("secret")), {}, ErrorCode.REPOSITORY_ERROR,
     "Ask again later"),
    ("too slow", Source(hangs=True), {"seconds": 0.05}, ErrorCode.REPOSITORY_ERROR, "does not answer in time"),
    ("too large", Source([b"12345"]), {"size_limit": 4}, ErrorCode.REPOSITORY_ERROR,
     "larger than 4 octets"),
    ("of another type", Source(mime_type="text/html"), {}, ErrorCode.REPOSITORY_ERROR,
     "made as 'text/html', and its DocumentEntry says 'text/plain'"),
    ("without a type", Source(mime_type=""), {}, ErrorCode.REPOSITORY_ERROR, "made as ''"),
    ("no uniqueId", Source(unique_id="a b"), {}, ErrorCode.REPOSITORY_ERROR, "'a b' as its uniqueId"),
    ("failed", Source(problem=SourceFailed("secret")), {}, ErrorCode.REPOSITORY_ERROR, "its source has failed"),
    ("a fault of the plug-in", Source(problem=KeyError("secret")), {}, ErrorCode.REPOSITORY_ERROR,
     "its source has failed"),
    ("a fault in the middle", Source(problem_in_content=OSError("secret")), {}, ErrorCode.REPOSITORY_ERROR,
     "its source has failed"),
)  # fmt: skip


@pytest.mark.parametrize(("source", "conditions", "code", "sentence"), [row[1:] for row in NOT_MADE],
                         ids=[row[0] for row in NOT_MADE])  # fmt: skip
async def test_a_document_that_can_not_be_made_is_an_error_and_the_others_are_answered(
    documents: DocumentStore,
    caplog: pytest.LogCaptureFixture,
    source: Source,
    conditions: dict[str, Any],
    code: ErrorCode,
    sentence: str,
) -> None:
    bad, good = on_demand_entry(unique_id="1.2.3"), on_demand_entry()
    sources = [makes(source, arcs=("1.2.3",), **conditions), makes(Source([b"fine"]), name="others")]

    response = await retrieved(documents, sources, Entries([bad, good]), "1.2.3", good.unique_id or "")

    assert response.status is ResponseStatus.PARTIAL_SUCCESS
    assert [await bytes_of(document) for document in response.documents] == [b"fine"]
    (error,) = response.errors
    assert (error.code, error.location) == (code, "1.2.3")
    assert sentence in error.code_context
    assert "1.2.3" in error.code_context
    assert "secret" not in error.code_context
    assert code == ErrorCode.DOCUMENT_UNIQUE_ID_ERROR or caplog.records, "its operator is told"
    assert str(bad.patient_id) not in caplog.text


async def test_a_document_that_names_itself_by_the_unique_id_of_its_entry_is_an_error(documents: DocumentStore) -> None:
    entry = on_demand_entry(unique_id="1.2.3")
    response = await retrieved(documents, makes(Source(unique_id="1.2.3")), Entries([entry]), "1.2.3")
    assert codes(response) == [ErrorCode.REPOSITORY_ERROR]


async def test_a_source_that_is_not_there_twice_is_not_asked_for_the_others(documents: DocumentStore) -> None:
    entries = [on_demand_entry() for _ in range(5)]
    away, there = Source(problem=SourceUnavailable("away")), Source()
    sources = [makes(away, arcs=tuple(each.unique_id or "" for each in entries[:4])), makes(there, name="others")]
    response = await retrieved(documents, sources, Entries(entries), *(each.unique_id or "" for each in entries))
    assert codes(response) == [ErrorCode.REPOSITORY_ERROR] * 4
    assert [document.request.document_unique_id for document in response.documents] == [entries[4].unique_id]
    assert len(away.asked) == 2


async def test_a_registry_that_does_not_answer_is_told(documents: DocumentStore) -> None:
    response = await retrieved(documents, makes(Source()), Entries(silent=True), "1.2.3")
    assert codes(response) == [ErrorCode.REGISTRY_NOT_AVAILABLE]


async def test_a_document_that_was_broken_off_leaves_nothing_in_those_after_it(documents: DocumentStore) -> None:
    bad, good = on_demand_entry(unique_id="1.2.3"), on_demand_entry()
    broken = Source([b"x" * 5000], problem_in_content=OSError("gone"))
    sources = [makes(broken, arcs=("1.2.3",)), makes(Source([b"fine"]), name="others")]
    response = await retrieved(documents, sources, Entries([bad, good]), "1.2.3", good.unique_id or "")
    assert [await bytes_of(document) for document in response.documents] == [b"fine"]


async def test_a_client_that_goes_stops_the_making(documents: DocumentStore) -> None:
    entry, source = on_demand_entry(), Source(hangs=True)
    waiting = asyncio.create_task(retrieved(documents, makes(source), Entries([entry]), entry.unique_id or ""))
    await source.hung.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert source.closed == 1
