"""What becomes of documents that a crash or an unanswered registration left behind."""

from __future__ import annotations

import logging

import pytest

from repository.document_store import DocumentStore
from repository.sweeper import Swept, sweep
from tests.builders import document_entry, oid, submission
from tests.repository.stand_ins import (
    RecordingRegistry,
    SilentRegistry,
    chunks,
    content_of,
    everything_in,
    measured,
    published,
    settled,
)

NOW = -60  # seconds old: everything


def registry_with(*documents: tuple[str, bytes]) -> RecordingRegistry:
    """A registry that lists these uniqueIds with the hashes of these bytes."""
    entries = [document_entry(unique_id=unique_id, hash=measured(content).hash) for unique_id, content in documents]
    return RecordingRegistry(submissions=[submission(*entries)])


async def test_what_is_registered_is_settled_and_what_is_not_is_withdrawn(documents: DocumentStore) -> None:
    listed = await published(documents, oid(), b"listed")
    unlisted = await published(documents, oid(), b"unlisted")
    other_bytes = await published(documents, listed.unique_id, b"other bytes")
    registry = registry_with((listed.unique_id, b"listed"))

    swept = await sweep(documents, registry.is_registered, older_than_seconds=NOW)

    assert swept == Swept(settled=1, withdrawn=2)
    found = await documents.find(listed.unique_id)
    assert found is not None
    assert await content_of(documents, found) == b"listed"
    assert await documents.find(unlisted.unique_id) is None
    assert await documents.unsettled(other_bytes.unique_id) == ()
    assert await everything_in(documents) == []


async def test_nothing_is_decided_while_the_registry_does_not_answer(documents: DocumentStore) -> None:
    kept = {await published(documents, oid(), b"hello %d" % number) for number in range(3)}
    registry = SilentRegistry()
    assert await sweep(documents, registry.is_registered, older_than_seconds=NOW) == Swept(left=3)
    assert set(await everything_in(documents)) == kept
    assert len(registry.asked) == 1, "a registry that does not answer is not asked again in the same round"


async def test_what_is_on_its_way_is_left_alone(documents: DocumentStore) -> None:
    await published(documents, oid(), b"its registration is under way")
    async with documents.staging() as staging:
        await staging.add("it", chunks(b"x" * 1_000_000))
        assert await sweep(documents, RecordingRegistry().is_registered, older_than_seconds=3600) == Swept()
    assert len(await everything_in(documents)) == 1


async def test_settled_documents_are_not_swept(documents: DocumentStore) -> None:
    kept = await settled(documents, oid(), b"hello")
    assert await sweep(documents, RecordingRegistry().is_registered, older_than_seconds=NOW) == Swept()
    assert await documents.find(kept.unique_id) == kept


async def test_a_registered_document_whose_unique_id_means_other_bytes_is_left_for_the_operator(
    documents: DocumentStore, caplog: pytest.LogCaptureFixture
) -> None:
    kept = await settled(documents, oid(), b"hello")
    contested = await published(documents, kept.unique_id, b"other bytes")
    registry = registry_with((kept.unique_id, b"other bytes"))
    assert await sweep(documents, registry.is_registered, older_than_seconds=NOW) == Swept(left=1)
    assert await documents.unsettled(kept.unique_id) == (contested,)
    assert await documents.find(kept.unique_id) == kept
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_two_sweepers_do_not_hinder_each_other(documents: DocumentStore) -> None:
    listed = await published(documents, oid(), b"listed")
    unlisted = await published(documents, oid(), b"unlisted")
    other_sweeper = registry_with((listed.unique_id, b"listed"))

    async def asked_while_the_other_is_quicker(unique_id: str, hash_: str) -> bool:
        await sweep(documents, other_sweeper.is_registered, older_than_seconds=NOW)
        return await other_sweeper.is_registered(unique_id, hash_)

    await sweep(documents, asked_while_the_other_is_quicker, older_than_seconds=NOW)

    assert await documents.find(listed.unique_id) is not None
    assert await documents.find(unlisted.unique_id) is None
    assert await everything_in(documents) == []


async def test_a_round_is_logged_in_numbers_where_there_was_something(
    documents: DocumentStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "repository.sweeper")
    await sweep(documents, RecordingRegistry().is_registered, older_than_seconds=NOW)
    assert caplog.records == []
    await published(documents, oid(), b"hello")
    await sweep(documents, RecordingRegistry().is_registered, older_than_seconds=NOW)
    (record,) = caplog.records
    assert record.__dict__["withdrawn"] == 1
