"""A copied registry is the same registry, a comparison finds what is not, and an interrupted copy is begun again."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from registry import metadata_store
from registry.dossier_log import LogRecord
from registry.metadata_store import MetadataStore, Revision, StoreDamaged
from registry.metadata_store_sqlite import SqliteMetadataStore
from repository import document_store
from repository.document_store import DocumentStore, Kept
from repository.document_store_filesystem import FilesystemDocumentStore
from server import migration
from server.migration import (
    AT_ONCE,
    compare_documents,
    compare_registries,
    copy_documents,
    copy_registry,
)
from tests.builders import document_entry, oid, registered
from tests.registry.dossiers import register, submitted
from tests.registry.memory_store import MemoryStore
from tests.repository.stand_ins import content_of, published, settled
from xds.ebxml_writer import codec
from xds.hl7v2 import CX
from xds.metadata import AvailabilityStatus

DOSSIERS = 3 * AT_ONCE


def ignore(_: int) -> None:
    pass


def patient(number: int) -> CX:
    return CX.of(str(number), "2.25.7331")


async def another_submission(store: MetadataStore, number: int) -> None:
    """A document that replaces the dossier's one before."""
    old = registered(document_entry(patient_id=patient(number)))
    await register(store, *submitted(old, patient=patient(number)), patient=patient(number))
    deprecation = Revision(old.entry_uuid, availability_status=AvailabilityStatus.DEPRECATED)
    await register(store, *submitted(patient=patient(number)), patient=patient(number), revisions=(deprecation,))


@pytest.fixture
async def registry() -> MetadataStore:
    """A registry to copy from."""
    memory = MemoryStore(codec)
    for number in range(DOSSIERS):
        await another_submission(memory, number)
    return memory


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[SqliteMetadataStore]:
    """A store to copy to, still empty."""
    store = SqliteMetadataStore(tmp_path / "registry.sqlite", codec=codec)
    yield store
    await store.close()


@pytest.fixture
def documents(tmp_path: Path) -> FilesystemDocumentStore:
    """Documents to copy from."""
    return FilesystemDocumentStore(tmp_path / "here", min_free_bytes=0)


@pytest.fixture
def elsewhere(tmp_path: Path) -> FilesystemDocumentStore:
    """A store to copy documents to, still empty."""
    return FilesystemDocumentStore(tmp_path / "elsewhere", min_free_bytes=0)


async def nothing_is_registered(unique_id: str, sha1: str) -> bool:
    return False


def altered(tmp_path: Path, *statements: str) -> None:
    """Have the copy say something else."""
    with closing(sqlite3.connect(tmp_path / "registry.sqlite")) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount, statement
        connection.commit()


async def test_a_copied_registry_is_the_same(registry: MetadataStore, target: SqliteMetadataStore) -> None:
    told: list[int] = []

    assert await copy_registry(registry, target, told.append) == 2 * DOSSIERS

    compared = await compare_registries(registry, target, codec, ignore)
    assert compared.same
    assert (compared.done, compared.records) == (DOSSIERS, 2 * DOSSIERS)
    assert sum(told) == 2 * DOSSIERS


class Interrupted(Exception):
    """The power is gone."""


class Failing(MemoryStore):
    """Ends after so many records, as often as it is tried."""

    left = 0

    async def records(self, patient_id: str | None = None) -> AsyncIterator[LogRecord]:
        async for record in super().records(patient_id):
            if not self.left:
                raise Interrupted
            self.left -= 1
            yield record


async def test_a_copy_that_was_interrupted_is_begun_again(
    registry: MemoryStore, target: SqliteMetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "BATCH_RECORDS", 5)
    source = Failing(codec)
    await source.replay([record async for record in registry.records()])
    for left in (17, 31):
        source.left = left
        with pytest.raises(Interrupted):
            await copy_registry(source, target, ignore)
        assert not (await compare_registries(registry, target, codec, ignore)).same
    assert await copy_registry(registry, target, ignore) == 2 * DOSSIERS
    assert (await compare_registries(registry, target, codec, ignore)).same


async def test_what_came_to_the_source_after_the_copy_is_told_and_copied_by_the_next_run(
    registry: MetadataStore, target: SqliteMetadataStore
) -> None:
    await copy_registry(registry, target, ignore)
    await another_submission(registry, 1)
    await another_submission(registry, DOSSIERS)
    compared = await compare_registries(registry, target, codec, ignore)
    assert (compared.behind, compared.problems, compared.same) == (4, [], False)
    await copy_registry(registry, target, ignore)
    assert (await compare_registries(registry, target, codec, ignore)).same


async def test_a_record_without_a_body_is_copied_as_it_is(target: SqliteMetadataStore, registry: MemoryStore) -> None:
    log = registry.log[patient(3).text]
    log[0] = replace(log[0], body=None)
    source = MemoryStore(codec)
    await source.replay([record async for record in registry.records()])
    await copy_registry(source, target, ignore)
    assert (await compare_registries(source, target, codec, ignore)).same


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM document_entries WHERE id = (SELECT min(id) FROM document_entries)", "missing from the index"),
        ("UPDATE document_entries SET type_code = 'x' WHERE id = (SELECT max(id) FROM document_entries)", "says of"),
        ("UPDATE changes SET body = NULL WHERE id = (SELECT min(id) FROM changes)", "is blanked"),
        ("UPDATE changes SET change_id = 'x' WHERE id = (SELECT min(id) FROM changes)", "was altered"),
        ("DELETE FROM changes WHERE id = (SELECT min(id) FROM changes)", "is missing"),
    ],
)
async def test_whatever_is_not_the_same_in_a_copy_is_found(
    registry: MetadataStore, target: SqliteMetadataStore, tmp_path: Path, statement: str, problem: str
) -> None:
    await copy_registry(registry, target, ignore)
    altered(tmp_path, statement)
    compared = await compare_registries(registry, target, codec, ignore)
    assert len(compared.problems) == 1
    assert problem in compared.problems[0]
    assert "7331" not in compared.problems[0]


async def test_a_rendering_that_says_something_else_is_found(
    registry: MetadataStore, target: SqliteMetadataStore, tmp_path: Path
) -> None:
    await copy_registry(registry, target, ignore)
    altered(tmp_path, "UPDATE associations SET ebrim = (SELECT ebrim FROM associations LIMIT 1)")
    compared = await compare_registries(registry, target, codec, ignore)
    assert len(compared.problems) == 2 * DOSSIERS - 1


async def test_a_target_with_dossiers_of_its_own_is_found(registry: MetadataStore, target: SqliteMetadataStore) -> None:
    await copy_registry(registry, target, ignore)
    await another_submission(target, DOSSIERS)
    compared = await compare_registries(registry, target, codec, ignore)
    assert compared.problems == ["the target has a dossier of 2 records that the source does not have"]


async def test_a_target_that_went_on_by_itself_takes_no_copy(
    registry: MetadataStore, target: SqliteMetadataStore
) -> None:
    await another_submission(target, 1)
    with pytest.raises(StoreDamaged, match="another one here"):
        await copy_registry(registry, target, ignore)


async def test_a_store_that_is_busy_for_a_while_is_waited_for(
    registry: MetadataStore, target: SqliteMetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "_PAUSES_SECONDS", (0.0, 0.0))
    refusals = [metadata_store.StoreBusy("a primary steps down")] * 2
    replay = target.replay

    async def replay_or_refuse(records: list[LogRecord]) -> None:
        if refusals:
            raise refusals.pop()
        await replay(records)

    monkeypatch.setattr(target, "replay", replay_or_refuse)
    await copy_registry(registry, target, ignore)
    assert (await compare_registries(registry, target, codec, ignore)).same


# Documents


async def filled(store: DocumentStore) -> list[Kept]:
    """Documents of several sizes."""
    return [
        await settled(store, oid(), bytes([number]) * (1 if number % 3 else 400_000), f"text/x-{number}")
        for number in range(2 * AT_ONCE + 1)
    ]


async def test_copied_documents_are_the_same(
    documents: FilesystemDocumentStore, elsewhere: FilesystemDocumentStore
) -> None:
    kept = await filled(documents)
    done = await copy_documents(documents, elsewhere, nothing_is_registered, ignore)
    assert (done.copied, done.there, done.problems) == (len(kept), 0, [])
    for each in kept:
        copy = await elsewhere.find(each.unique_id)
        assert copy is not None
        assert (copy.measured, copy.mime_type) == (each.measured, each.mime_type)
        assert await content_of(elsewhere, copy) == await content_of(documents, each)
    compared = await compare_documents(documents, elsewhere, nothing_is_registered, ignore)
    assert (compared.done, compared.same) == (len(kept), True)


async def test_documents_that_are_there_are_not_copied_again(
    documents: FilesystemDocumentStore, elsewhere: FilesystemDocumentStore
) -> None:
    first, second, *_ = kept = await filled(documents)
    await settled(elsewhere, first.unique_id, await content_of(documents, first), first.mime_type)
    before = await published(elsewhere, second.unique_id, await content_of(documents, second), second.mime_type)
    done = await copy_documents(documents, elsewhere, nothing_is_registered, ignore)
    assert (done.copied, done.there) == (len(kept) - 1, 1)
    copy = await elsewhere.find(second.unique_id)
    assert copy is not None
    assert copy.key == before.key
    assert await elsewhere.unsettled(second.unique_id) == ()


async def test_a_document_that_is_registered_and_not_settled_is_copied_and_no_other_unsettled_one(
    documents: FilesystemDocumentStore, elsewhere: FilesystemDocumentStore
) -> None:
    listed, unknown = [await published(documents, oid(), b"hello") for _ in range(2)]

    async def is_registered(unique_id: str, sha1: str) -> bool:
        return unique_id == listed.unique_id

    assert (await copy_documents(documents, elsewhere, is_registered, ignore)).copied == 1
    assert await elsewhere.find(listed.unique_id) is not None
    assert await elsewhere.find(unknown.unique_id) is None
    assert await documents.unsettled(listed.unique_id) == (listed,)
    assert (await compare_documents(documents, elsewhere, is_registered, ignore)).same


def flipped(root: Path, kept: Kept, offset: int) -> None:
    """Have one octet of a document's file be another one."""
    (file,) = (
        each for each in (root / "documents").rglob("*") if each.is_file() and kept.key.encode() in each.read_bytes()
    )
    content = bytearray(file.read_bytes())
    content[offset] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("offset", [0, -1])
async def test_a_damaged_document_is_reported_and_keeps_no_other_from_being_copied(
    documents: FilesystemDocumentStore, elsewhere: FilesystemDocumentStore, tmp_path: Path, offset: int
) -> None:
    kept = await filled(documents)
    flipped(tmp_path / "here", kept[4], offset)
    done = await copy_documents(documents, elsewhere, nothing_is_registered, ignore)
    assert done.copied == len(kept) - 1
    assert len(done.problems) == 1
    assert not (await compare_documents(documents, elsewhere, nothing_is_registered, ignore)).same


async def test_a_copy_that_is_not_the_same_is_found(
    documents: FilesystemDocumentStore, elsewhere: FilesystemDocumentStore, tmp_path: Path
) -> None:
    altered_one, missing, other, mistyped = [await settled(documents, oid(), b"hello") for _ in range(4)]
    copy = await settled(elsewhere, altered_one.unique_id, b"hello")
    flipped(tmp_path / "elsewhere", copy, 0)
    await settled(elsewhere, other.unique_id, b"goodbye")
    await settled(elsewhere, mistyped.unique_id, b"hello", "text/html")
    compared = await compare_documents(documents, elsewhere, nothing_is_registered, ignore)
    found = dict(problem.split(": ", 1) for problem in compared.problems)
    assert "can not be read" in found[altered_one.unique_id]
    assert found[missing.unique_id] == "the target does not have it"
    assert found[other.unique_id] == "the target has other bytes"
    assert "text/html" in found[mistyped.unique_id]
    done = await copy_documents(documents, elsewhere, nothing_is_registered, ignore)
    assert [other.unique_id in problem for problem in done.problems] == [True]


async def test_a_store_without_room_ends_the_copy(documents: FilesystemDocumentStore, tmp_path: Path) -> None:
    await filled(documents)
    full = FilesystemDocumentStore(tmp_path / "full", min_free_bytes=2**60)
    with pytest.raises(document_store.StoreFull):
        await copy_documents(documents, full, nothing_is_registered, ignore)
