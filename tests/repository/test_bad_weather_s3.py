"""Bad weather between the repository and its S3 server: what is answered meanwhile, and what is there afterwards.

After each: nothing acknowledged is lost, nothing refused is visible, and service resumes by itself. In between, every
answer comes within the time limit and carries XDSRepositoryBusy, or XDSRepositoryOutOfResources where there is no room.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from repository.actor import Repository
from repository.document_store import StoreBusy, StoreFull
from repository.document_store_s3 import S3DocumentStore
from repository.s3_client import SMALLEST_PART, Bucket
from repository.s3_reading import BLOCK
from repository.sweeper import sweep
from tests.builders import document_entry, oid
from tests.repository.stand_ins import (
    RecordingRegistry,
    RefusingRegistry,
    chunks,
    content_of,
    everything_in,
    message,
    repository_of,
    settled,
)
from tests.store_servers import OwnStoreServer, StoreServer
from tests.weather import Weather, WeatherProxy, http_answer
from xds.actors import DocumentRequest, RegistryResponse
from xds.errors import ErrorCode, ResponseStatus

SECONDS = 1.0
"""How long a step of the store may take here."""
HANGS = 60.0
"""Far more than any answer here may need: whoever is still waiting hangs."""
LARGE = 2 * SMALLEST_PART + 3

BUSY = [ErrorCode.REPOSITORY_BUSY]
FULL = [ErrorCode.REPOSITORY_OUT_OF_RESOURCES]


@dataclass
class Traffic:
    """A source that submits and reads, and knows what it was told."""

    repository: Repository
    registry: RecordingRegistry
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    async def submit(self, *sizes: int) -> RegistryResponse:
        entries = [document_entry() for _ in sizes]
        contents = [entry.entry_uuid[-1:].encode() * size for entry, size in zip(entries, sizes, strict=True)]
        sent = replace(message(*zip(entries, contents, strict=True)), chunk=100_000)
        async with asyncio.timeout(HANGS):
            response = await self.repository.provide_and_register(sent)
        unique_ids = [entry.unique_id or "" for entry in entries]
        if response.succeeded:
            self.acknowledged.update(zip(unique_ids, contents, strict=True))
        else:
            self.refused.extend(unique_ids)
        return response

    async def retrieve_all(self) -> list[ErrorCode | str]:
        """Read whatever was acknowledged, in one request; returns the errors."""
        wanted = [DocumentRequest(self.repository.repository_unique_id, each) for each in self.acknowledged]
        async with asyncio.timeout(HANGS):
            response = await self.repository.retrieve(wanted)
        return [error.code for error in response.errors]


@pytest.fixture
def proxy(s3_server: StoreServer) -> Iterator[WeatherProxy]:
    url = urlsplit(s3_server.url)
    with WeatherProxy(url.hostname or "", url.port or 80) as proxy:
        yield proxy


@pytest.fixture
def prefix() -> str:
    return uuid4().hex


@pytest.fixture
async def documents(bucket: Bucket, proxy: WeatherProxy, prefix: str) -> AsyncIterator[S3DocumentStore]:
    """A store that reaches its server through the proxy."""
    store = store_at(replace(bucket, endpoint=f"http://127.0.0.1:{proxy.port}"), prefix)
    yield store
    await store.close()


def store_at(bucket: Bucket, prefix: str) -> S3DocumentStore:
    return S3DocumentStore(bucket, prefix=prefix, part_bytes=SMALLEST_PART, request_seconds=SECONDS)


@pytest.fixture
def traffic(documents: S3DocumentStore) -> Traffic:
    registry = RecordingRegistry()
    return Traffic(repository_of(documents, registry), registry)


async def all_is_well(traffic: Traffic, documents: S3DocumentStore) -> None:
    """Service has resumed, nothing acknowledged is lost and nothing refused visible; sweeping leaves nothing else."""
    assert (await traffic.submit(5, LARGE)).succeeded
    for _ in range(2):
        assert await traffic.retrieve_all() == []
        for unique_id, content in traffic.acknowledged.items():
            kept = await documents.find(unique_id)
            assert kept is not None
            assert await content_of(documents, kept) == content
        for unique_id in traffic.refused:
            response = await traffic.repository.retrieve(
                [DocumentRequest(traffic.repository.repository_unique_id, unique_id)]
            )
            assert [error.code for error in response.errors] == [ErrorCode.DOCUMENT_UNIQUE_ID_ERROR]
        await sweep(documents, traffic.registry.is_registered, older_than_seconds=-60)
    assert await everything_in(documents) == []
    kept_ones = [kept async for kept in documents.all_settled()]
    assert {kept.unique_id for kept in kept_ones} == set(traffic.acknowledged)
    layout = documents._layout
    described = {name for kept in kept_ones for name in (layout.content(kept.key), layout.settled(kept.unique_id))}
    assert await names_in(documents) == described | {layout.mark}


async def names_in(documents: S3DocumentStore) -> set[str]:
    """Every object of the store."""
    names = documents._objects.listed(documents._layout.prefix)
    return await documents._threads.done(lambda: {each.name for each in names})


WEATHERS = {
    "refusing": Weather(refuses=True),
    "silent": Weather(silent=True),
    "slow": Weather(octets_per_second=200),
    "cutting": Weather(octets_until_cut=200),
    "unavailable": Weather(answers=((b"/", http_answer("503 Service Unavailable")),)),
    "asking to slow down": Weather(
        answers=((b"/", http_answer("503 Slow Down", b"<Error><Code>SlowDown</Code></Error>")),)
    ),
    "no S3 server": Weather(answers=((b"/", http_answer("502 Bad Gateway", b"<html>", content_type="text/html")),)),
}


@pytest.mark.parametrize("weather", WEATHERS.values(), ids=WEATHERS)
async def test_while_the_server_can_not_be_used_answers_are_busy_and_come_in_time(
    traffic: Traffic, documents: S3DocumentStore, proxy: WeatherProxy, weather: Weather
) -> None:
    assert (await traffic.submit(5, LARGE)).succeeded
    proxy.turn(weather)

    submitted = await asyncio.gather(*(traffic.submit(size) for size in (5, 5, LARGE)))
    assert [[error.code for error in response.errors] for response in submitted] == [BUSY] * 3
    assert await traffic.retrieve_all() == BUSY * 2
    with pytest.raises(StoreBusy):
        await documents.check()

    proxy.clear_up()
    await all_is_well(traffic, documents)


@pytest.mark.parametrize("weather", WEATHERS.values(), ids=WEATHERS)
async def test_a_server_that_is_not_there_at_the_start_is_used_as_soon_as_it_is(
    traffic: Traffic, documents: S3DocumentStore, proxy: WeatherProxy, weather: Weather
) -> None:
    proxy.turn(weather)
    submitted = await asyncio.gather(*(traffic.submit(5) for _ in range(20)))
    assert [[error.code for error in response.errors] for response in submitted] == [BUSY] * 20
    proxy.clear_up()
    await all_is_well(traffic, documents)


async def test_a_retrieval_of_many_documents_does_not_wait_for_each_of_them(
    traffic: Traffic, documents: S3DocumentStore, proxy: WeatherProxy
) -> None:
    for _ in range(100):
        traffic.acknowledged[oid()] = b""
    await documents.check()
    proxy.fall_silent()
    assert await traffic.retrieve_all() == BUSY * 100
    traffic.acknowledged.clear()
    proxy.clear_up()
    await all_is_well(traffic, documents)


@pytest.mark.parametrize("octets", [100, SMALLEST_PART // 2, SMALLEST_PART + 100_000])
async def test_an_upload_that_is_cut_in_the_middle_leaves_nothing_that_can_be_read(
    traffic: Traffic, documents: S3DocumentStore, proxy: WeatherProxy, octets: int
) -> None:
    await documents.check()
    proxy.cut_after(octets)
    submitted = await asyncio.gather(traffic.submit(LARGE), traffic.submit(SMALLEST_PART), traffic.submit(5, LARGE))
    for response in submitted:
        assert response.succeeded or [error.code for error in response.errors] == BUSY
    proxy.clear_up()
    await all_is_well(traffic, documents)


async def test_a_connection_that_is_cut_now_and_then_costs_a_second_try_and_nothing_else(
    traffic: Traffic, documents: S3DocumentStore, proxy: WeatherProxy
) -> None:
    await documents.check()
    # More than one part and less than two on one connection, over and over.
    proxy.cut_after(SMALLEST_PART + 1_000_000)
    assert (await traffic.submit(5, LARGE)).succeeded
    proxy.clear_up()
    await all_is_well(traffic, documents)


@pytest.mark.parametrize("step", [b"PUT", b"unsettled/", b"/content/", b"uploadId", b"documents/", b"DELETE", b"HEAD"])
@pytest.mark.parametrize("sizes", [(5,), (LARGE,), (5, 5, LARGE)])
async def test_whichever_request_fails_a_submission_is_acknowledged_whole_or_leaves_nothing(
    traffic: Traffic, documents: S3DocumentStore, proxy: WeatherProxy, step: bytes, sizes: Sequence[int]
) -> None:
    await documents.check()
    proxy.answer(step, http_answer("503 Service Unavailable"))
    response = await traffic.submit(*sizes)
    assert response.succeeded or [error.code for error in response.errors] == BUSY
    proxy.clear_up()
    await all_is_well(traffic, documents)


async def test_a_refused_document_that_can_not_be_withdrawn_is_never_served(
    documents: S3DocumentStore, proxy: WeatherProxy
) -> None:
    await documents.check()
    registry = RefusingRegistry()
    traffic = Traffic(repository_of(documents, registry), registry)
    proxy.answer(b"DELETE", http_answer("503 Service Unavailable"))
    response = await traffic.submit(5, LARGE)
    assert [error.code for error in response.errors] == [ErrorCode.UNKNOWN_PATIENT_ID]
    proxy.clear_up()
    working = RecordingRegistry()
    await all_is_well(Traffic(repository_of(documents, working), working, refused=traffic.refused), documents)


async def test_bytes_that_come_when_their_sender_was_told_that_the_server_is_busy_are_swept(
    traffic: Traffic, documents: S3DocumentStore, proxy: WeatherProxy
) -> None:
    """A server may go on with what it was sent after its connection was given up."""
    await documents.check()
    proxy.answer(b"/content/", http_answer("503 Service Unavailable"))
    assert [error.code for error in (await traffic.submit(5)).errors] == BUSY
    proxy.clear_up()
    (kept,) = await everything_in(documents)
    late = partial(documents._client.put, documents._layout.content(kept.key), b"12345")
    await documents._threads.done(late)
    await all_is_well(traffic, documents)


FULL_SERVERS = {
    "a full disk": http_answer(
        "507 Insufficient Storage", b"<Error><Code>XMinioStorageFull</Code><Message>Full.</Message></Error>"
    ),
    "a quota": http_answer("400 Bad Request", b"<Error><Code>XMinioAdminBucketQuotaExceeded</Code></Error>"),
    "a full disk behind a gateway": http_answer("507 Insufficient Storage", b"full", content_type="text/plain"),
}


@pytest.mark.parametrize("answer", FULL_SERVERS.values(), ids=FULL_SERVERS)
async def test_a_full_server_takes_nothing_and_serves_what_it_has(
    traffic: Traffic, documents: S3DocumentStore, proxy: WeatherProxy, answer: bytes
) -> None:
    assert (await traffic.submit(5, LARGE)).succeeded
    proxy.answer(b"PUT", answer)
    proxy.answer(b"POST", answer)
    for sizes in [(5,), (LARGE,), (5, LARGE)]:
        assert [error.code for error in (await traffic.submit(*sizes)).errors] == FULL
    assert await traffic.retrieve_all() == []
    with pytest.raises(StoreFull):
        await documents.check()
    proxy.clear_up()
    await all_is_well(traffic, documents)


async def test_a_bucket_over_its_quota_is_full_until_it_has_room(bucket: Bucket, s3_server: StoreServer) -> None:
    if not isinstance(s3_server, OwnStoreServer):
        pytest.skip("the S3 server is not ours: no quota is set on it")
    small = replace(bucket, name=f"toimik-{uuid4().hex}")
    documents = store_at(small, "")
    registry = RecordingRegistry()
    traffic = Traffic(repository_of(documents, registry), registry)
    await documents.check()
    admin = MinioAdmin(
        endpoint=urlsplit(bucket.endpoint).netloc,
        credentials=StaticProvider(bucket.access_key, bucket.secret_key),
        secure=False,
    )
    admin.bucket_quota_set(small.name, 1_000_000)
    assert (await traffic.submit(5)).succeeded
    for sizes in [(2_000_000,), (LARGE,), (5, 2_000_000)]:
        assert [error.code for error in (await traffic.submit(*sizes)).errors] == FULL
    assert await traffic.retrieve_all() == []
    admin.bucket_quota_clear(small.name)
    await all_is_well(traffic, documents)
    await documents.close()


async def test_a_connection_that_breaks_while_a_document_is_read_is_not_noticed_by_its_reader(
    documents: S3DocumentStore, proxy: WeatherProxy
) -> None:
    content = b"x" * (3 * BLOCK)
    kept = await settled(documents, oid(), content)
    received = b""
    async with documents.read(kept) as chunks_of_it:
        async for chunk in chunks_of_it:
            if len(received) in {0, BLOCK, 2 * BLOCK}:
                proxy.clear_up()  # resets whatever is open
            received += chunk
    assert received == content


async def test_a_server_that_is_gone_while_a_document_is_read_is_told_to_the_reader(
    documents: S3DocumentStore, proxy: WeatherProxy
) -> None:
    kept = await settled(documents, oid(), b"x" * (3 * BLOCK))

    async def read() -> None:
        async with documents.read(kept) as content:
            proxy.refuse()
            async for _ in content:
                pass

    with pytest.raises(StoreBusy):
        async with asyncio.timeout(HANGS):
            await read()


async def test_a_document_that_is_settled_under_its_reader_by_a_rival_is_read_to_its_end(
    documents: S3DocumentStore,
) -> None:
    """Of identical bytes those that were settled first stay, and the others go."""
    content = b"x" * (3 * BLOCK)
    async with documents.staging() as staging:
        await staging.add("first", chunks(content, 100_000))
        await staging.add("second", chunks(content, 100_000))
        first, second = await staging.publish({"first": ("1.2.3", "text/plain"), "second": ("1.2.3", "text/plain")})
    received = b""
    async with documents.read(second) as chunks_of_it:
        received += await anext(chunks_of_it)
        await documents.settle(first)
        await documents.settle(second)
        async for chunk in chunks_of_it:
            received += chunk
    assert received == content


# A server of our own to kill


@pytest.mark.parametrize("ended", [OwnStoreServer.kill, OwnStoreServer.pause])
async def test_a_server_that_is_killed_during_traffic_and_comes_back_has_lost_nothing(
    own_s3_server: OwnStoreServer, ended: Callable[[OwnStoreServer], None]
) -> None:
    bucket = Bucket(
        endpoint=own_s3_server.url,
        name="toimik",
        access_key=own_s3_server.access_key,
        secret_key=own_s3_server.secret_key,
    )
    documents = store_at(bucket, "")
    registry = RecordingRegistry()
    traffic = Traffic(repository_of(documents, registry), registry)
    await documents.check()
    over = asyncio.Event()
    responses: list[RegistryResponse] = []

    async def source(size: int) -> None:
        while not over.is_set():
            responses.append(await traffic.submit(size))

    sources = [asyncio.create_task(source(size)) for size in (5, 5, 100_000, LARGE)]
    await asyncio.sleep(0.5)
    await asyncio.to_thread(ended, own_s3_server)
    await asyncio.sleep(2 * SECONDS)
    await asyncio.to_thread(own_s3_server.resume if ended is OwnStoreServer.pause else own_s3_server.start)
    await asyncio.sleep(0.5)
    over.set()
    await asyncio.gather(*sources)

    assert traffic.acknowledged
    assert traffic.refused, "nobody sent anything while the server was gone"
    failed = [response for response in responses if response.status is not ResponseStatus.SUCCESS]
    assert {error.code for response in failed for error in response.errors} == set(BUSY)
    await all_is_well(traffic, documents)
    await documents.close()
