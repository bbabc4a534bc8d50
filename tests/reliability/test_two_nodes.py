"""Two nodes on the same stores that do the same thing at the same moment, or whose clocks do not agree."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest
from aiohttp import web

from mhd.fhir.fhir_json import written
from registry.mongodb.schema import CHANGES
from tests.builders import OTHER_PATIENT, PATIENT, document_entry, oid, submission
from tests.conformance.fhir_wire import FhirWire
from tests.conformance.summary_server import Answers, summary_server
from tests.conformance.test_documents_in_and_out import asked, entries_of
from tests.conformance.wire import Wire, envelope
from tests.mhd.recipients import bundle_with
from tests.reliability.cluster import Cluster, toimik
from tests.reliability.nodes import new_document, running_nodes, swept
from tests.reliability.shared_stores import SharedStores
from tests.reliability.traffic import Fate, Memory, Traffic, broken_invariants, replacement, send
from xds.ebxml_messages import provide_request, retrieve_request
from xds.errors import ErrorCode
from xds.metadata import HASH_OF_NOTHING
from xds.mtom import Package, PartToWrite
from xds.transactions import ITI_41, ITI_43

ROUNDS = 10
ANOTHER_CLOCK = Path(__file__).parent / "another_clock"
APART = timedelta(hours=1)


async def test_of_two_nodes_that_replace_one_document_at_the_same_moment_one_wins(
    stores: SharedStores, tmp_path: Path
) -> None:
    memory = Memory()
    async with running_nodes(tmp_path, stores) as wires:
        for _ in range(ROUNDS):
            target = new_document()
            await send(wires[0], target)
            rivals = [new_document(), new_document()]
            memory.sent += [target, *rivals]
            links = [replacement(each, target) for each in rivals]
            await asyncio.gather(
                *(send(wire, each, link) for wire, each, link in zip(wires, rivals, links, strict=True))
            )
            winner, loser = sorted(rivals, key=lambda each: each.fate.value)
            assert winner.fate is Fate.ACKNOWLEDGED
            assert loser.codes == (ErrorCode.REGISTRY_DEPRECATED_DOCUMENT_ERROR,)
        for wire in wires:
            assert await broken_invariants(wire.base, memory) == []
    assert await swept(tmp_path, stores) == []


async def test_of_two_nodes_that_register_other_bytes_under_one_unique_id_for_two_patients_one_wins(
    stores: SharedStores, tmp_path: Path
) -> None:
    winners = Memory()
    async with running_nodes(tmp_path, stores) as wires:
        for _ in range(ROUNDS):
            unique_id = oid()
            rivals = [new_document(patient=patient, unique_id=unique_id) for patient in (PATIENT, OTHER_PATIENT)]
            await asyncio.gather(*(send(wire, each) for wire, each in zip(wires, rivals, strict=True)))
            winner, loser = sorted(rivals, key=lambda each: each.fate.value)
            assert winner.fate is Fate.ACKNOWLEDGED
            assert loser.codes == (ErrorCode.NON_IDENTICAL_HASH,)
            winners.sent.append(winner)
        for wire in wires:
            # Each uniqueId is registered once, and its bytes are those of the winner.
            assert await broken_invariants(wire.base, winners) == []
    assert await swept(tmp_path, stores) == []


async def test_of_two_nodes_that_are_sent_one_bundle_without_uniqueid_at_the_same_moment_one_registers_it(
    stores: SharedStores, tmp_path: Path
) -> None:
    async with running_nodes(tmp_path, stores) as wires, aiohttp.ClientSession() as session:
        nodes = [FhirWire(wire.base, session) for wire in wires]
        for _ in range(ROUNDS):
            entry = document_entry()
            bundle = bundle_with(entry)
            del bundle["entry"][0]["resource"]["identifier"]
            sending = (
                node.send("POST", "", data=written(bundle), headers={"Content-Type": "application/fhir+json"})
                for node in nodes
            )
            accepted, refused = sorted(await asyncio.gather(*sending), key=lambda each: each.status)
            assert (accepted.status, refused.status) == (200, 409)
            locations = {each["response"]["location"] for each in accepted.bundle["entry"]}
            assert set(refused.issue["diagnostics"].split(", ")) <= locations
            found = await wires[0].query("GetDocuments", XDSDocumentEntryUniqueId=f"('{entry.unique_id}')")
            assert len(found.query_response.found) == 1
    assert await swept(tmp_path, stores) == []


async def test_two_nodes_may_register_the_same_bytes_under_one_unique_id_for_two_patients(
    stores: SharedStores, tmp_path: Path
) -> None:
    async with running_nodes(tmp_path, stores) as wires:
        for _ in range(ROUNDS):
            one, other = new_document(), new_document(patient=OTHER_PATIENT)
            other.entry, other.seed = new_document(patient=OTHER_PATIENT, unique_id=one.unique_id).entry, one.seed
            await asyncio.gather(*(send(wire, each) for wire, each in zip(wires, (one, other), strict=True)))
            assert (one.fate, other.fate) == (Fate.ACKNOWLEDGED, Fate.ACKNOWLEDGED)
            for wire in wires:
                listed = f"('{one.unique_id}')"
                found = await wire.query("GetDocuments", "ObjectRef", XDSDocumentEntryUniqueId=listed)
                assert {each.entry_uuid for each in found.query_response.found} == {
                    one.entry.entry_uuid,
                    other.entry.entry_uuid,
                }
    assert await swept(tmp_path, stores) == []


async def test_of_two_nodes_that_assemble_one_document_at_the_same_moment_both_answer_the_one_that_is_kept(
    stores: SharedStores, tmp_path: Path
) -> None:
    async with summary_server() as archive:
        source = {"name": "archive", "url": archive.url, "delayed": True}
        async with running_nodes(tmp_path, stores, on_demand=[source]) as wires:
            for _ in range(ROUNDS):
                entry = document_entry(hash=HASH_OF_NOTHING, size="0")
                assert (await wires[0].register(submission(entry))).registry_response.succeeded
                archive.answers[entry.unique_id or ""] = differing(asyncio.Barrier(len(wires)))
                request = retrieve_request([asked(entry)])
                replies = await asyncio.gather(*(wire.mtom(ITI_43, request) for wire in wires))
                (content,), (same,) = (reply.parts.values() for reply in replies)
                assert content == same
                for wire in wires:
                    (newest,) = await entries_of(wire, entry.unique_id or "")
                    sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
                    assert (newest.hash, newest.version) == (sha1, "2")
    assert await swept(tmp_path, stores) == []


def differing(everybody: asyncio.Barrier) -> Answers:
    """Gives each who asks something else, and nobody anything before everybody has asked."""
    numbers = itertools.count()

    async def answer(_: web.Request) -> web.Response:
        number = next(numbers)
        await everybody.wait()
        return web.Response(body=b"assembled %d" % number, content_type="text/plain")

    return answer


# --- clocks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def an_hour_apart(cluster: Cluster) -> Cluster:
    """The second node's clock is ahead of everybody else's, the stores' included."""
    restarted(cluster, 1)
    return cluster


def restarted(cluster: Cluster, number: int) -> None:
    """A node looks for leftovers when it starts."""
    ahead = {"PYTHONPATH": str(ANOTHER_CLOCK), "TOIMIK_TEST_CLOCK_SECONDS": str(APART.total_seconds())}
    cluster.nodes[number].kill()
    cluster.nodes[number].start(**(ahead if number else {}))


@pytest.mark.slow
async def test_nodes_whose_clocks_are_an_hour_apart_keep_one_log_and_one_truth(an_hour_apart: Cluster) -> None:
    memory = Memory()
    traffic = Traffic(an_hour_apart.urls, memory, seed=0, patients=(PATIENT, OTHER_PATIENT))
    running = asyncio.create_task(traffic.run())
    for _ in range(5):
        await traffic.resumed()
    traffic.stop()
    await running
    for url in an_hour_apart.urls:
        assert await broken_invariants(url, memory) == []
    times = await asyncio.to_thread(times_of_the_log, an_hour_apart.stores)
    steps = [after - before for log in times for before, after in pairwise(log)]
    # The clocks were apart indeed: time went on by an hour in the log, and back again.
    assert max(steps) > APART / 2
    assert min(steps) < -APART / 2
    for node in an_hour_apart.nodes:
        assert await asyncio.to_thread(node.stop) == 0
    await asyncio.to_thread(toimik, an_hour_apart.stores.environment(), "doctor", "--deep")


def times_of_the_log(stores: SharedStores) -> list[list[datetime]]:
    """Of each dossier, in the order of its log."""
    with pymongo.MongoClient[dict[str, Any]](stores.mongodb.url) as client:
        records = list(client.get_database(stores.database)[CHANGES].find({"void": {"$ne": True}}))
    logs: dict[str, list[dict[str, Any]]] = {}
    for record in sorted(records, key=lambda record: int(record["sequence"])):
        logs.setdefault(record["patient_key"], []).append(record)
    return [[datetime.fromisoformat(record["time"]) for record in log] for log in logs.values()]


@pytest.mark.slow
@pytest.mark.parametrize("sender", [0, 1], ids=["sent to the one behind", "sent to the one ahead"])
async def test_a_node_whose_clock_is_wrong_does_not_sweep_what_is_on_its_way_to_another(
    an_hour_apart: Cluster, sender: int
) -> None:
    sent = new_document(size=20_000_000)
    half_way, go_on = asyncio.Event(), asyncio.Event()

    async def message() -> AsyncIterator[bytes]:
        yield package.head() + package.part_head(0)
        for start in range(0, sent.size, 1_000_000):
            if start > sent.size / 2:
                half_way.set()
                await go_on.wait()
            yield content[start : start + 1_000_000]
        yield package.tail()

    content = sent.content
    body = provide_request(submission(sent.entry), [(sent.entry.entry_uuid, "it@example.org")])
    part = PartToWrite("it@example.org", "application/octet-stream", sent.size)
    package = Package(envelope(ITI_41, body), [part], action=ITI_41.action)
    async with aiohttp.ClientSession() as session:
        wire = Wire(an_hour_apart.urls[sender], session)
        answering = asyncio.create_task(wire.post(wire.url(ITI_41), message(), {"Content-Type": package.content_type}))
        await half_way.wait()
        await asyncio.to_thread(restarted, an_hour_apart, 1 - sender)
        go_on.set()
        assert (await answering).registry_response.succeeded
    sent.fate = Fate.ACKNOWLEDGED
    for url in an_hour_apart.urls:
        assert await broken_invariants(url, Memory([sent])) == []
