"""Bad weather between two nodes and their stores, in whole messages.

In between, whoever needs what is away is told so within the time limit, and whoever does not is served. After it,
nothing acknowledged is lost, nothing refused is visible, and the nodes go on by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pymongo
import pytest

from tests.builders import REPOSITORY
from tests.conformance.wire import Wire
from tests.reliability.nodes import new_document, running_nodes, swept
from tests.reliability.shared_stores import STORE_SECONDS, SharedStores
from tests.reliability.traffic import (
    PATIENCE_SECONDS,
    UPLOADED_IN_PARTS,
    Fate,
    Memory,
    Sent,
    Traffic,
    broken_invariants,
    send,
)
from tests.store_servers import OwnStoreServer, StoreServer
from tests.weather import Weather, WeatherProxy, http_answer
from xds.actors import DocumentRequest
from xds.ebxml_messages import retrieve_request
from xds.errors import ErrorCode
from xds.transactions import ITI_43

RESUMED_WITHIN_SECONDS = 2 * PATIENCE_SECONDS
LONG_ABSENCE_SECONDS = 30


async def retrieved(wire: Wire, sent: Sent) -> list[str]:
    """The codes of ITI-43; where there are none, the document has come back as it was sent."""
    answer = await wire.mtom(ITI_43, retrieve_request([DocumentRequest(REPOSITORY, sent.unique_id)]))
    if not answer.codes:
        assert list(answer.parts.values()) == [sent.content]
    return answer.codes


async def queried(wire: Wire, sent: Sent) -> list[str]:
    """The codes of ITI-18."""
    return (await wire.query("GetDocuments", "ObjectRef", XDSDocumentEntryUniqueId=f"('{sent.unique_id}')")).codes


async def submitted(wire: Wire, memory: Memory, size: int = 1000) -> Sent:
    """A document that was sent, with what was answered."""
    sent = new_document(size)
    memory.sent.append(sent)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await send(wire, sent)
    return sent


async def all_is_well(wires: list[Wire], memory: Memory) -> None:
    """Every node serves again, and the invariants hold."""
    for wire in wires:
        assert (await submitted(wire, memory, UPLOADED_IN_PARTS)).fate is Fate.ACKNOWLEDGED
    for wire in wires:
        assert await broken_invariants(wire.base, memory) == []


# --- MongoDB ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ended", [OwnStoreServer.kill, OwnStoreServer.pause], ids=["killed", "silent"])
@pytest.mark.parametrize(
    "seconds", [1.5 * STORE_SECONDS, pytest.param(LONG_ABSENCE_SECONDS, marks=pytest.mark.slow)], ids=["short", "long"]
)
async def test_while_mongodb_is_away_submissions_are_answered_busy_and_go_on_as_soon_as_it_is_back(
    own_mongodb_server: OwnStoreServer,
    s3_server: StoreServer,
    tmp_path: Path,
    ended: Callable[[OwnStoreServer], None],
    seconds: float,
) -> None:
    stores = SharedStores(own_mongodb_server, s3_server, prefix=uuid4().hex)
    memory = Memory()
    async with running_nodes(tmp_path, stores) as wires:
        traffic = Traffic([wire.base for wire in wires], memory, seed=0)
        running = asyncio.create_task(traffic.run())
        await traffic.resumed()
        known = memory.with_fate(Fate.ACKNOWLEDGED)[0]
        await asyncio.to_thread(ended, own_mongodb_server)
        away = asyncio.create_task(asyncio.sleep(seconds))
        for wire in wires:
            assert await queried(wire, known) == [ErrorCode.REGISTRY_BUSY]
            assert await retrieved(wire, known) == []  # the registry is not needed for it
        await away
        back = own_mongodb_server.start if ended is OwnStoreServer.kill else own_mongodb_server.resume
        await asyncio.to_thread(back)
        async with asyncio.timeout(RESUMED_WITHIN_SECONDS):
            await traffic.resumed()
        traffic.stop()
        await running
        assert memory.cut_off.total() == 0
        assert memory.is_busy() > 0
        await all_is_well(list(wires), memory)
    assert await swept(tmp_path, stores) == []


async def test_while_a_primary_steps_down_submissions_wait_or_are_answered_busy(
    stores: SharedStores, tmp_path: Path
) -> None:
    if not is_replica_set(stores.mongodb.url):
        pytest.skip("the MongoDB server is no replica set: name one by TOIMIK_TEST_MONGODB_URL to see it step down")
    memory = Memory()
    async with running_nodes(tmp_path, stores) as wires:
        traffic = Traffic([wire.base for wire in wires], memory, seed=0)
        running = asyncio.create_task(traffic.run())
        await traffic.resumed()
        await asyncio.to_thread(step_down, stores.mongodb.url)
        async with asyncio.timeout(RESUMED_WITHIN_SECONDS):
            await traffic.resumed()
        traffic.stop()
        await running
        assert memory.cut_off.total() == 0
        await all_is_well(list(wires), memory)
    assert await swept(tmp_path, stores) == []


def is_replica_set(url: str) -> bool:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        return "setName" in client.admin.command("hello")


def step_down(url: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        # By force, so that it can be seen on a set of one member as well, which elects itself again.
        client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5, force=True)


# --- S3 --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(s3_server: StoreServer) -> Iterator[WeatherProxy]:
    url = urlsplit(s3_server.url)
    with WeatherProxy(url.hostname or "", url.port or 80) as proxy:
        yield proxy


FULL = http_answer("507 Insufficient Storage", b"<Error><Code>XMinioStorageFull</Code></Error>")

AWAY = {
    "refusing": Weather(refuses=True),
    "silent": Weather(silent=True),
    "slow": Weather(octets_per_second=200),
}


def behind(stores: SharedStores, proxy: WeatherProxy) -> SharedStores:
    reached = StoreServer(f"http://127.0.0.1:{proxy.port}", stores.s3.access_key, stores.s3.secret_key)
    return replace(stores, s3=reached)


@pytest.mark.parametrize("weather", AWAY.values(), ids=AWAY)
async def test_while_s3_is_away_documents_are_answered_busy_and_queries_are_answered(
    stores: SharedStores, proxy: WeatherProxy, tmp_path: Path, weather: Weather
) -> None:
    memory = Memory()
    async with running_nodes(tmp_path, behind(stores, proxy)) as wires:
        known = await submitted(wires[0], memory)
        proxy.turn(weather)
        sizes = (1000, UPLOADED_IN_PARTS)
        refused = await asyncio.gather(*(submitted(wire, memory, size) for wire in wires for size in sizes))
        assert [sent.codes for sent in refused] == [(ErrorCode.REPOSITORY_BUSY,)] * 4
        assert await asyncio.gather(*(retrieved(wire, known) for wire in wires)) == [[ErrorCode.REPOSITORY_BUSY]] * 2
        assert await asyncio.gather(*(queried(wire, known) for wire in wires)) == [[], []]
        proxy.clear_up()
        await all_is_well(list(wires), memory)
    assert await swept(tmp_path, stores) == []


async def test_an_upload_to_s3_that_is_cut_in_the_middle_is_answered_busy_and_leaves_nothing(
    stores: SharedStores, proxy: WeatherProxy, tmp_path: Path
) -> None:
    memory = Memory()
    async with running_nodes(tmp_path, behind(stores, proxy)) as wires:
        known = await submitted(wires[0], memory)
        proxy.cut_after(UPLOADED_IN_PARTS // 2)
        refused = await asyncio.gather(*(submitted(wire, memory, UPLOADED_IN_PARTS) for wire in wires))
        assert [sent.codes for sent in refused] == [(ErrorCode.REPOSITORY_BUSY,)] * 2
        assert (await submitted(wires[1], memory)).fate is Fate.ACKNOWLEDGED
        assert await retrieved(wires[1], known) == []
        proxy.clear_up()
        await all_is_well(list(wires), memory)
    assert await swept(tmp_path, stores) == []


async def test_a_full_s3_server_is_told_to_the_source_and_what_it_has_is_served(
    stores: SharedStores, proxy: WeatherProxy, tmp_path: Path
) -> None:
    memory = Memory()
    async with running_nodes(tmp_path, behind(stores, proxy)) as wires:
        known = await submitted(wires[0], memory)
        proxy.answer(b"PUT", FULL)
        proxy.answer(b"POST", FULL)
        refused = [await submitted(wire, memory, size) for wire in wires for size in (1000, UPLOADED_IN_PARTS)]
        assert [sent.codes for sent in refused] == [(ErrorCode.REPOSITORY_OUT_OF_RESOURCES,)] * 4
        for sent in refused:
            sent.may_lose = frozenset({ErrorCode.REPOSITORY_OUT_OF_RESOURCES})
        assert await retrieved(wires[1], known) == []
        proxy.clear_up()
        await all_is_well(list(wires), memory)
    assert await swept(tmp_path, stores) == []
