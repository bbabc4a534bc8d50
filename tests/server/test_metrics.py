"""/metrics tells how much is done, how fast and what fails, for all workers, and nothing about patients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import psutil
import pytest

from server.settings import SettingsProblem, load_settings
from tests.builders import CONTENT, PATIENT, PATIENT_AUTHORITY, document_entry, submission, unmeasured
from tests.conformance.wire import Reply, Wire, running_server
from tests.server.scraped_metrics import ScrapedMetrics
from tests.server.test_serving import half_sent
from tests.server_process import server_process

PATIENCE_SECONDS = 20


async def provided(base: str) -> Reply:
    """One document with ITI-41, on a connection of its own."""
    entry = unmeasured(document_entry())
    async with aiohttp.ClientSession() as session:
        return await Wire(base, session).provide(submission(entry), {entry.entry_uuid: CONTENT})


async def eventually(base: str, is_so: Callable[[ScrapedMetrics], bool]) -> ScrapedMetrics:
    """The first metrics of which something is true; an AssertionError where that never comes."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so(metrics := await ScrapedMetrics.of(base)):
        assert time.monotonic() < deadline, metrics.text
        await asyncio.sleep(0.1)
    return metrics


async def test_requests_are_counted_by_transaction_and_outcome(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data") as base:
        reply = await provided(base)
        metrics = await ScrapedMetrics.of(base)

    assert reply.registry_response.succeeded
    assert metrics.value("toimik_requests_total", transaction="ITI-41", outcome="success") == 1
    assert metrics.value("toimik_requests_total") == 1
    assert metrics.value("toimik_documents_kept_total") == 1
    assert metrics.value("toimik_received_bytes_total", transaction="ITI-41") > len(CONTENT)
    assert metrics.value("toimik_sent_bytes_total", transaction="ITI-41") == len(reply.content)


async def test_durations_are_told_as_a_histogram(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data") as base:
        await provided(base)
        metrics = await ScrapedMetrics.of(base)

    assert metrics.value("toimik_request_seconds_count", transaction="ITI-41") == 1
    assert metrics.value("toimik_request_seconds_bucket", transaction="ITI-41", le="+Inf") == 1
    assert 0 < metrics.value("toimik_request_seconds_sum", transaction="ITI-41") < PATIENCE_SECONDS


async def test_errors_are_counted_by_the_code_that_was_answered(tmp_path: Path) -> None:
    entry = replace(unmeasured(document_entry()), hash="0" * 40)
    async with running_server(tmp_path / "data") as base, aiohttp.ClientSession() as session:
        reply = await Wire(base, session).provide(submission(entry), {entry.entry_uuid: CONTENT})
        metrics = await ScrapedMetrics.of(base)

    assert reply.codes == ["XDSRepositoryMetadataError"]
    assert metrics.value("toimik_errors_total", transaction="ITI-41", code="XDSRepositoryMetadataError") == 1
    assert metrics.value("toimik_requests_total", transaction="ITI-41", outcome="failure") == 1
    assert metrics.value("toimik_documents_kept_total") == 0


async def test_resources_that_were_shown_again_without_reading_them_are_counted(tmp_path: Path) -> None:
    patient = f"patient.identifier=urn:oid:{PATIENT_AUTHORITY}"
    async with running_server(tmp_path / "data") as base, aiohttp.ClientSession() as session:
        await provided(base)
        for _ in range(3):
            url = f"{base}/fhir/DocumentReference?{patient}|{PATIENT.id_number}"
            async with session.get(url) as found:
                assert (await found.json(content_type=None))["total"] == 1
        metrics = await ScrapedMetrics.of(base)

    assert metrics.value("toimik_fhir_resources_total", **{"from": "store"}) == 1
    assert metrics.value("toimik_fhir_resources_total", **{"from": "memory"}) == 2


async def test_a_store_that_can_not_take_a_document_shows_in_errors_and_in_readiness(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data", limits={"min_free_bytes": 2**62}) as base:
        await provided(base)
        metrics = await ScrapedMetrics.of(base)

    assert metrics.value("toimik_errors_total", code="XDSRepositoryOutOfResources") == 1
    assert metrics.value("toimik_part_ready", part="document store") == 0
    assert metrics.value("toimik_part_ready", part="metadata store") == 1
    assert metrics.value("toimik_data_free_bytes") > 0


async def test_a_message_that_can_not_be_read_is_counted_as_a_fault_of_no_transaction(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data") as base, aiohttp.ClientSession() as session:
        await Wire(base, session).post(
            f"{base}/xds/registry", b"this is no XML", {"Content-Type": "application/soap+xml"}
        )
        metrics = await ScrapedMetrics.of(base)

    assert metrics.value("toimik_requests_total", transaction="none", outcome="fault") == 1


async def test_what_is_turned_away_for_want_of_room_is_counted_as_busy(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data", limits={"requests_at_once": 1}) as base:
        _, writer, _ = await half_sent(base)
        await eventually(base, lambda metrics: metrics.value("toimik_requests_in_flight") == 1)
        reply = await provided(base)
        metrics = await ScrapedMetrics.of(base)
        writer.close()
        after = await eventually(base, lambda metrics: metrics.value("toimik_requests_in_flight") == 0)

    assert reply.status == 503
    assert metrics.value("toimik_requests_total", transaction="none", outcome="busy") == 1
    assert after.value("toimik_requests_total", outcome="client_gone") == 1


async def test_whichever_worker_is_asked_answers_for_all(tmp_path: Path) -> None:
    with server_process(tmp_path / "data", workers=2) as server:
        await eventually(server.url, lambda metrics: metrics.value("toimik_workers") == 2)
        for _ in range(10):  # each on a connection of its own, so that both workers get some
            assert (await provided(server.url)).registry_response.succeeded
        answers = [await ScrapedMetrics.of(server.url) for _ in range(10)]

    assert {metrics.value("toimik_documents_kept_total") for metrics in answers} == {10}
    assert {metrics.value("toimik_workers") for metrics in answers} == {2}


async def test_what_a_worker_did_stays_counted_when_it_is_gone_and_what_it_was_doing_does_not(tmp_path: Path) -> None:
    with server_process(tmp_path / "data", workers=2) as server:
        for _ in range(4):
            await provided(server.url)
        held = [await half_sent(server.url) for _ in range(4)]
        await eventually(server.url, lambda metrics: metrics.value("toimik_requests_in_flight") == 4)
        killed = psutil.Process(server.process.pid).children()
        for worker in killed:
            worker.kill()
        await asyncio.to_thread(psutil.wait_procs, killed, PATIENCE_SECONDS)
        for _, writer, _ in held:
            writer.close()
        metrics = await _when_back(server.url)

    assert metrics.value("toimik_documents_kept_total") == 4
    assert metrics.value("toimik_requests_in_flight") == 0


async def _when_back(base: str) -> ScrapedMetrics:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await eventually(base, lambda metrics: metrics.value("toimik_workers") == 2)
        except (aiohttp.ClientError, ConnectionError):
            assert time.monotonic() < deadline, "the workers do not come back"
            await asyncio.sleep(0.1)


async def test_nothing_of_a_patient_or_a_document_is_told(tmp_path: Path) -> None:
    entry = unmeasured(document_entry())
    async with running_server(tmp_path / "data") as base, aiohttp.ClientSession() as session:
        wire = Wire(base, session)
        await wire.provide(submission(entry), {entry.entry_uuid: CONTENT})
        await wire.query("GetDocuments", "LeafClass", XDSDocumentEntryUniqueId=f"('{entry.unique_id}')")
        metrics = await ScrapedMetrics.of(base)

    assert metrics.value("toimik_requests_total", transaction="ITI-18", outcome="success") == 1
    for secret in (PATIENT.id_number, str(entry.unique_id), entry.entry_uuid):
        assert secret not in metrics.text


async def test_only_configured_networks_may_ask(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path / "data", metrics={"networks": ["10.1.0.0/16"]}) as base,
        aiohttp.ClientSession() as session,
        session.get(f"{base}/metrics") as response,
    ):
        assert response.status == 403
        assert "metrics.networks" in await response.text()


async def test_metrics_can_be_turned_off(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path / "data", metrics={"enabled": False}) as base,
        aiohttp.ClientSession() as session,
        session.get(f"{base}/metrics") as response,
    ):
        assert response.status == 404


def test_a_network_that_is_none_is_named(tmp_path: Path) -> None:
    config = tmp_path / "toimik.toml"
    config.write_text('[metrics]\nnetworks = ["10.0.0.1/8"]\n')

    with pytest.raises(SettingsProblem, match=r"10\.0\.0\.1/8"):
        load_settings(config)
