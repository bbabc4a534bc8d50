"""What every document store promises (repository/document_store.py)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repository.document_store import DocumentStore, DocumentTooLarge, OtherBytesSettled
from tests.builders import oid
from tests.repository.stand_ins import chunks, content_of, everything_in, measured, published, settled

BLOCK = 256 * 1024
PART = 5 * 1024 * 1024
"""Octets that every store sends on before a document has come to its end."""
LARGE = 2 * PART + 7
SIZES = [0, 1, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, BLOCK - 1, BLOCK, BLOCK + 1, PART, PART + 1, LARGE]


def bytes_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311


class ConnectionGone(Exception):
    """What a sender's connection raises."""


async def broken_off(content: bytes) -> AsyncIterator[bytes]:
    async for chunk in chunks(content, 50_000):
        yield chunk
    raise ConnectionGone


# Staging and publishing


@pytest.mark.parametrize("size", SIZES)
async def test_a_document_is_read_as_it_came_whatever_its_size(documents: DocumentStore, size: int) -> None:
    content = bytes_of(size)
    unique_id = oid()

    kept = await settled(documents, unique_id, content)

    assert kept.measured == measured(content)
    assert await content_of(documents, kept) == content
    found = await documents.find(unique_id)
    assert found == kept
    assert await content_of(documents, found) == content


@pytest.mark.parametrize("chunk", [1, 7, 65_536, 10_000_000])
async def test_chunks_may_have_any_length(documents: DocumentStore, chunk: int) -> None:
    content = bytes_of(20_000 if chunk < 100 else 700_000)
    async with documents.staging() as staging:
        assert await staging.add("it", chunks(content, chunk)) == measured(content)
        (kept,) = await staging.publish({"it": (oid(), "text/plain")})
    assert await content_of(documents, kept) == content


async def test_what_is_kept_tells_all_about_the_document(documents: DocumentStore) -> None:
    unique_id = oid()
    kept = await published(documents, unique_id, b"hello", "text/plain; charset=utf-8")
    assert (kept.unique_id, kept.mime_type, kept.settled) == (unique_id, "text/plain; charset=utf-8", False)
    assert await documents.unsettled(unique_id) == (kept,)
    assert await documents.settle(kept) == replace(kept, settled=True)


async def test_a_staged_document_that_is_not_published_is_gone(documents: DocumentStore) -> None:
    unique_id = oid()
    async with documents.staging() as staging:
        await staging.add("small", chunks(b"hello"))
        await staging.add("large", chunks(bytes_of(LARGE)))
        await staging.add("kept", chunks(b"I stay"))
        (kept,) = await staging.publish({"kept": (unique_id, "text/plain")})
    assert await documents.sweep_staged(older_than_seconds=-60) == 0
    assert await everything_in(documents) == [kept]


async def test_leaving_without_publishing_leaves_nothing(documents: DocumentStore) -> None:
    async def submit() -> None:
        async with documents.staging() as staging:
            await staging.add("first", chunks(bytes_of(LARGE)))
            await staging.add("second", broken_off(bytes_of(LARGE)))

    with pytest.raises(ConnectionGone):
        await submit()
    assert await documents.sweep_staged(older_than_seconds=-60) == 0
    assert await everything_in(documents) == []


async def test_several_documents_are_published_together(documents: DocumentStore) -> None:
    contents = {oid(): bytes_of(size) for size in (5, BLOCK * 3, LARGE, 200_000, 200_001, 200_002)}
    async with documents.staging() as staging:
        for unique_id, content in contents.items():
            await staging.add(unique_id, chunks(content, 60_000))
        kept = await staging.publish({unique_id: (unique_id, "text/plain") for unique_id in contents})
    assert [each.unique_id for each in kept] == list(contents)
    assert {each.unique_id: await content_of(documents, each) for each in kept} == contents


async def test_publishing_nothing_is_fine(documents: DocumentStore) -> None:
    async with documents.staging() as staging:
        assert await staging.publish({}) == ()


async def test_a_document_of_exactly_the_limit_is_taken(documents: DocumentStore) -> None:
    async with documents.staging(size_limit=300_000) as staging:
        assert (await staging.add("it", chunks(bytes_of(300_000)))).size == 300_000


@pytest.mark.parametrize("limit", [9, 300_000])
async def test_a_document_over_the_limit_is_refused_before_it_has_all_come(
    documents: DocumentStore, limit: int
) -> None:
    came = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal came
        while True:
            came += 10
            yield b"0123456789"

    with pytest.raises(DocumentTooLarge) as refusal:
        async with documents.staging(size_limit=limit) as staging:
            await staging.add("it", endless())
    assert refusal.value.size_limit == limit
    assert came <= limit + 10
    assert await documents.sweep_staged(older_than_seconds=-60) == 0


# Settling and withdrawing


async def test_an_unsettled_document_is_not_found_but_can_be_read(documents: DocumentStore) -> None:
    unique_id = oid()
    kept = await published(documents, unique_id, b"hello")
    assert await documents.find(unique_id) is None
    assert await content_of(documents, kept) == b"hello"


async def test_settling_twice_is_settling_once(documents: DocumentStore) -> None:
    kept = await published(documents, oid(), b"hello")
    first = await documents.settle(kept)
    assert await documents.settle(kept) == first
    assert await documents.settle(first) == first
    assert await everything_in(documents) == []


async def test_of_identical_bytes_the_settled_ones_stay(documents: DocumentStore) -> None:
    unique_id = oid()
    first = await settled(documents, unique_id, b"hello")
    again = await published(documents, unique_id, b"hello")
    assert await documents.settle(again) == first
    assert await documents.find(unique_id) == first
    assert await everything_in(documents) == []


@pytest.mark.parametrize("other", [b"HELLO", b"hello, world", b"", bytes_of(LARGE)])
async def test_settled_bytes_are_never_overwritten(documents: DocumentStore, other: bytes) -> None:
    unique_id = oid()
    first = await settled(documents, unique_id, b"hello")
    second = await published(documents, unique_id, other)

    with pytest.raises(OtherBytesSettled):
        await documents.settle(second)

    assert await documents.find(unique_id) == first
    assert await content_of(documents, first) == b"hello"
    assert await documents.unsettled(unique_id) == (second,), "it stays for the operator"
    assert await content_of(documents, second) == other


async def test_a_withdrawn_document_is_gone(documents: DocumentStore) -> None:
    unique_id = oid()
    kept = await published(documents, unique_id, b"hello")
    await documents.withdraw(kept)
    assert await documents.unsettled(unique_id) == ()
    assert await everything_in(documents) == []
    with pytest.raises(KeyError):
        await content_of(documents, kept)
    with pytest.raises(KeyError):
        await documents.settle(kept)
    await documents.withdraw(kept)


async def test_withdrawing_never_touches_a_settled_document(documents: DocumentStore) -> None:
    unique_id = oid()
    unsettled = await published(documents, unique_id, b"hello")
    kept = await documents.settle(unsettled)
    await documents.withdraw(unsettled)
    await documents.withdraw(kept)
    assert await documents.find(unique_id) == kept
    assert await content_of(documents, kept) == b"hello"


async def test_withdrawing_one_submission_does_not_touch_another_of_the_same_unique_id(
    documents: DocumentStore,
) -> None:
    unique_id = oid()
    first, second = await published(documents, unique_id, b"hello"), await published(documents, unique_id, b"hello")
    await documents.withdraw(first)
    assert await documents.unsettled(unique_id) == (second,)
    assert await content_of(documents, second) == b"hello"


async def test_a_document_that_is_settled_meanwhile_is_read_all_the_same(documents: DocumentStore) -> None:
    unsettled = await published(documents, oid(), b"hello")
    await documents.settle(unsettled)
    assert await content_of(documents, unsettled) == b"hello"


async def test_a_withdrawn_document_is_not_read_as_the_settled_one_of_its_unique_id(documents: DocumentStore) -> None:
    kept = await settled(documents, oid(), b"hello")
    withdrawn = await published(documents, kept.unique_id, b"HELLO")
    await documents.withdraw(withdrawn)
    with pytest.raises(KeyError):
        await content_of(documents, withdrawn)


async def test_nothing_is_found_of_an_unknown_unique_id(documents: DocumentStore) -> None:
    assert await documents.find("1.2.3") is None
    assert await documents.unsettled("1.2.3") == ()


# Several at once


async def test_of_many_who_settle_different_bytes_one_wins(open_store: Callable[[], DocumentStore]) -> None:
    unique_id = oid()
    stores = [open_store() for _ in range(4)]
    contents = [b"version %d" % number for number in range(12)]
    rivals = [await published(stores[0], unique_id, content) for content in contents]

    outcomes = await asyncio.gather(
        *(stores[number % 4].settle(kept) for number, kept in enumerate(rivals)), return_exceptions=True
    )

    winners = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
    assert len(winners) == 1
    assert all(isinstance(outcome, OtherBytesSettled) for n, outcome in enumerate(outcomes) if n not in winners)
    found = await stores[1].find(unique_id)
    assert found is not None
    assert await content_of(stores[2], found) == contents[winners[0]]
    assert len(await stores[3].unsettled(unique_id)) == 11


async def test_many_who_send_identical_bytes_all_succeed(open_store: Callable[[], DocumentStore]) -> None:
    unique_id = oid()
    stores = [open_store() for _ in range(4)]

    kept = await asyncio.gather(*(settled(stores[number % 4], unique_id, b"hello") for number in range(12)))

    assert len({each.key for each in kept}) == 1
    assert await everything_in(stores[0]) == []
    assert await content_of(stores[0], kept[0]) == b"hello"


async def test_documents_that_arrive_at_once_do_not_mix(documents: DocumentStore) -> None:
    contents = {oid(): bytes_of(size) for size in range(1, 1_000_000, 90_001)}
    kept = await asyncio.gather(*(settled(documents, unique_id, content) for unique_id, content in contents.items()))
    assert {each.unique_id: await content_of(documents, each) for each in kept} == contents


async def test_a_submission_that_is_cancelled_leaves_nothing(documents: DocumentStore) -> None:
    has_begun = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        async for chunk in chunks(bytes_of(LARGE), BLOCK):
            yield chunk
        has_begun.set()
        await asyncio.Event().wait()

    async def submit() -> None:
        async with documents.staging() as staging:
            await staging.add("it", stalled())

    submission = asyncio.create_task(submit())
    await has_begun.wait()
    submission.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submission
    assert await documents.sweep_staged(older_than_seconds=-60) == 0
    assert await everything_in(documents) == []


async def test_a_reader_may_stop_early(documents: DocumentStore) -> None:
    content = bytes_of(LARGE)
    kept = await settled(documents, oid(), content)
    async with documents.read(kept) as chunks_of_it:
        first = await anext(chunks_of_it)
    assert content.startswith(first)
    assert await content_of(documents, kept) == content


# What a restart finds


async def test_another_process_finds_what_was_kept(open_store: Callable[[], DocumentStore]) -> None:
    kept = await settled(open_store(), oid(), b"hello")
    waiting = await published(open_store(), oid(), b"wait")
    after = open_store()
    assert await after.find(kept.unique_id) == kept
    assert await after.unsettled(waiting.unique_id) == (waiting,)
    assert await content_of(after, kept) == b"hello"


async def test_a_sweeper_sees_only_what_is_old(documents: DocumentStore) -> None:
    kept = {await published(documents, oid(), b"hello %d" % number) for number in range(3)}
    await settled(documents, oid(), b"not for the sweeper")
    assert [each async for each in documents.all_unsettled(older_than_seconds=3600)] == []
    assert {each async for each in documents.all_unsettled(older_than_seconds=-60)} == kept


async def test_a_copier_sees_what_is_settled_and_nothing_else(documents: DocumentStore) -> None:
    assert [kept async for kept in documents.all_settled()] == []
    kept = {await settled(documents, oid(), b"hello %d" % number, f"text/x-{number}") for number in range(5)}
    await published(documents, oid(), b"the registry has not said yes")
    await documents.withdraw(await published(documents, oid(), b"the registry has said no"))
    seen = [each async for each in documents.all_settled()]
    assert len(seen) == 5
    assert set(seen) == kept


async def test_a_document_on_its_way_is_not_swept_by_age(documents: DocumentStore) -> None:
    async with documents.staging() as staging:
        await staging.add("it", chunks(bytes_of(LARGE)))
        assert await documents.sweep_staged(older_than_seconds=3600) == 0
        assert len(await staging.publish({"it": (oid(), "text/plain")})) == 1


async def test_a_store_with_room_takes_documents(documents: DocumentStore) -> None:
    await documents.check()


# uniqueIds

TRICKS = ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "nul\0", "*", "1.2.3^4", "x" * 5000, "🙂"]


@pytest.mark.parametrize("unique_id", TRICKS)
async def test_a_unique_id_means_a_document_and_no_path(documents: DocumentStore, unique_id: str) -> None:
    kept = await settled(documents, unique_id, b"hello")
    assert await documents.find(unique_id) == kept
    assert await documents.find(unique_id + "x") is None
    assert await content_of(documents, kept) == b"hello"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(unique_ids=st.sets(st.text(min_size=1, max_size=40), min_size=1, max_size=4))
def test_every_unique_id_has_its_own_document(open_store: Callable[[], DocumentStore], unique_ids: set[str]) -> None:
    async def kept_and_read() -> dict[str, bytes]:
        store = open_store()
        kept = [await settled(store, unique_id, unique_id.encode()) for unique_id in unique_ids]
        return {each.unique_id: await content_of(store, each) for each in kept}

    assert asyncio.run(kept_and_read()) == {unique_id: unique_id.encode() for unique_id in unique_ids}
