"""AuditEvents reach the audit record repository (ITI-20), whatever happens to it or to us, and nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.settings import SettingsProblem, load_settings
from tests.builders import CONTENT, document_entry
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.test_fhir_submissions import provided
from tests.conformance.test_find_document_references import of, some_patient
from tests.conformance.wire import running_server
from tests.mhd.recipients import bundle_with
from tests.server.audit_repository import AuditRepository, audit_repository
from tests.server.scraped_metrics import ScrapedMetrics
from tests.server.test_metrics import eventually
from tests.server_process import server_process

QUICKLY = {"feed_pause_seconds": 0.2}
IN_ORDER = {"feed_at_once": 1}


@asynccontextmanager
async def server(tmp_path: Path, repository: AuditRepository, **audit: Any) -> AsyncIterator[FhirWire]:
    """A server that sends its events there."""
    settings = {"feed_url": repository.url, **QUICKLY, **audit}
    async with running_server(tmp_path / "data", audit=settings) as base, aiohttp.ClientSession() as session:
        yield FhirWire(base, session)


def root(fhir: FhirWire) -> str:
    return fhir.base.removesuffix("/fhir")


async def searched(fhir: FhirWire, request_id: str = "") -> FhirReply:
    """A search, which leaves one event."""
    sought = {"patient.identifier": of(some_patient())}
    return await fhir.send("GET", "DocumentReference", sought, headers={"X-Request-Id": request_id})


def request_ids(repository: AuditRepository) -> list[str]:
    """Of the requests whose events it took."""
    entities = [each for event in repository.events for each in event["entity"]]
    return [each["what"]["identifier"]["value"] for each in entities if each["type"]["code"] == "XrequestId"]


async def test_an_event_is_posted_and_leaves_the_outbox(tmp_path: Path) -> None:
    repository = audit_repository()
    async with repository.up(), server(tmp_path, repository) as fhir:
        await searched(fhir, "r-1")
        await repository.has_taken(1)
        metrics = await eventually(root(fhir), lambda seen: seen.value("toimik_audit_outbox_events") == 0)

    assert repository.events[0]["resourceType"] == "AuditEvent"
    assert request_ids(repository) == ["r-1"]
    assert repository.headers["Content-Type"] == "application/fhir+json"
    assert "Authorization" not in repository.headers
    assert metrics.value("toimik_audit_events_total", kept="yes") == 1
    assert metrics.value("toimik_audit_outbox_age_seconds") == 0


async def test_events_wait_for_a_repository_that_is_down_and_come_in_order(tmp_path: Path) -> None:
    repository = audit_repository()
    asked = [f"r-{number}" for number in range(7)]
    async with server(tmp_path, repository, **IN_ORDER) as fhir:
        for each in asked:
            assert (await searched(fhir, each)).status == 200
        metrics = await ScrapedMetrics.of(root(fhir))
        async with repository.up():
            await repository.has_taken(len(asked))

    assert metrics.value("toimik_audit_outbox_events") == len(asked)
    assert metrics.value("toimik_audit_outbox_bytes") > len(asked) * 500
    assert metrics.value("toimik_audit_outbox_age_seconds") > 0
    assert request_ids(repository) == asked


async def waiting(tmp_path: Path, repository: AuditRepository, events: int) -> list[str]:
    """Leave events in the outbox of a server that ends before the repository is up; the ids of their requests."""
    asked = [f"r-{number}" for number in range(events)]
    async with server(tmp_path, repository) as fhir:
        for each in asked:
            await searched(fhir, each)
    return asked


async def test_several_events_are_on_their_way_at_once(tmp_path: Path) -> None:
    repository = audit_repository()
    repository.together = 8
    asked = await waiting(tmp_path, repository, 20)
    async with repository.up(), server(tmp_path, repository) as fhir:
        await repository.has_taken(len(asked))
        metrics = await eventually(root(fhir), lambda seen: seen.value("toimik_audit_outbox_events") == 0)

    assert sorted(request_ids(repository)) == sorted(asked)
    assert metrics.value("toimik_audit_outbox_set_aside") == 0


async def test_what_was_taken_beside_an_event_that_was_not_is_not_sent_again(tmp_path: Path) -> None:
    repository = audit_repository()
    repository.together, repository.statuses = 8, [201, 503, 201, 400, 201, 201, 503, 201]
    asked = await waiting(tmp_path, repository, 8)
    async with repository.up(), server(tmp_path, repository) as fhir:
        await repository.has_taken(7)
        metrics = await eventually(root(fhir), lambda seen: seen.value("toimik_audit_outbox_events") == 1)

    taken = request_ids(repository)
    assert len(set(taken)) == len(taken) == 7
    assert set(taken) < set(asked)
    assert metrics.value("toimik_audit_outbox_set_aside") == 1


async def test_sending_goes_on_after_a_fault_that_nobody_foresaw(tmp_path: Path) -> None:
    repository = audit_repository()
    lock = tmp_path / "data" / "audit" / "sender.lock"
    lock.mkdir(parents=True)  # in the place of a file
    async with repository.up(), server(tmp_path, repository) as fhir:
        await searched(fhir, "r-1")
        lock.rmdir()
        await repository.has_taken(1)

    assert request_ids(repository) == ["r-1"]


async def test_nobody_waits_for_a_repository_that_says_nothing(tmp_path: Path) -> None:
    repository = audit_repository()
    repository.silent = True
    async with repository.up(), server(tmp_path, repository, feed_seconds=50) as fhir:
        for _ in range(3):
            assert (await searched(fhir)).status == 200
        await repository.was_asked(1)
        assert (await searched(fhir)).status == 200

    assert repository.events == []


@pytest.mark.parametrize("status", [302, 401, 404, 429, 500, 503])
async def test_an_event_that_is_not_taken_now_is_sent_again_as_the_same(tmp_path: Path, status: int) -> None:
    repository = audit_repository()
    repository.statuses = [status, status]
    async with repository.up(), server(tmp_path, repository, **IN_ORDER) as fhir:
        await searched(fhir, "r-1")
        await searched(fhir, "r-2")
        await repository.has_taken(2)

    assert request_ids(repository) == ["r-1", "r-2"]


@pytest.mark.parametrize("status", [400, 422])
async def test_an_event_that_is_refused_is_set_aside_and_sent_again_at_the_next_start(
    tmp_path: Path, status: int
) -> None:
    repository = audit_repository()
    repository.statuses = [status]
    async with repository.up():
        async with server(tmp_path, repository, **IN_ORDER) as fhir:
            await searched(fhir, "refused")
            await searched(fhir, "taken")
            await repository.has_taken(1)
            await eventually(root(fhir), lambda seen: seen.value("toimik_audit_outbox_set_aside") == 1)
        assert request_ids(repository) == ["taken"]
        async with server(tmp_path, repository):
            await repository.has_taken(2)

    assert request_ids(repository) == ["taken", "refused"]


async def test_the_authorization_is_read_from_its_file_each_time(tmp_path: Path) -> None:
    repository = audit_repository()
    file = tmp_path / "authorization"
    async with repository.up(), server(tmp_path, repository, feed_authorization_file=file) as fhir:
        await searched(fhir)  # the file is not there yet
        file.write_text("Bearer first\n", encoding="utf-8")
        await repository.has_taken(1)
        first = repository.headers["Authorization"]
        file.write_text("Bearer second\n", encoding="utf-8")
        await searched(fhir)
        await repository.has_taken(2)

    assert (first, repository.headers["Authorization"]) == ("Bearer first", "Bearer second")


# Where an event can not be kept --------------------------------------------------------------------------------------


async def test_where_the_outbox_is_full_requests_are_refused_until_it_is_not(tmp_path: Path) -> None:
    repository = audit_repository()
    entry = document_entry()
    async with server(tmp_path, repository, outbox_bytes=1) as fhir:
        assert (await searched(fhir)).status == 200  # there is room for one, whatever its size

        refused = await provided(fhir, bundle_with(entry))
        not_given = await fhir.get(f"Binary/{entry.entry_uuid.removeprefix('urn:uuid:')}")
        async with aiohttp.ClientSession() as session, session.get(f"{root(fhir)}/health/ready") as ready:
            parts = (await ready.json())["parts"]
        metrics = await ScrapedMetrics.of(root(fhir))
        async with repository.up():
            await repository.has_taken(1)
            await eventually(root(fhir), lambda seen: seen.value("toimik_audit_outbox_events") == 0)
            taken = await provided(fhir, bundle_with(entry))

    assert (refused.status, not_given.status) == (503, 503)
    assert refused.headers["Retry-After"]
    assert refused.issue["code"] == "transient"
    assert "audit event" in refused.issue["details"]["text"]
    assert parts["audit trail"] == "not ready"
    assert metrics.value("toimik_audit_events_total", kept="no") == 2
    assert metrics.value("toimik_documents_kept_total") == 0
    assert taken.status == 200  # and so nothing of it was there


async def test_where_events_are_not_required_requests_are_answered_without_them(tmp_path: Path) -> None:
    repository = audit_repository()
    async with server(tmp_path, repository, outbox_bytes=1, required=False) as fhir:
        for _ in range(3):
            assert (await searched(fhir)).status == 200
        metrics = await ScrapedMetrics.of(root(fhir))

    assert metrics.value("toimik_audit_events_total", kept="yes") == 1
    assert metrics.value("toimik_audit_events_total", kept="no") == 2
    assert metrics.value("toimik_part_ready", part="audit trail") == 1


async def test_nothing_is_answered_whose_event_can_not_be_written_and_what_was_sent_may_be_sent_again(
    tmp_path: Path,
) -> None:
    repository = audit_repository()
    file = tmp_path / "events.jsonl"
    patient = some_patient()
    bundle = bundle_with(document_entry(patient_id=patient))
    async with server(tmp_path, repository, file=file) as fhir:
        with unwritable(file):
            unanswered = await provided(fhir, bundle)
        again = await provided(fhir, bundle)
        [document] = (await fhir.get("DocumentReference", {"patient.identifier": of(patient)})).found
        with unwritable(file):
            not_given = await fhir.get(f"Binary/{document}")
        given = await fhir.get(f"Binary/{document}")

    assert (unanswered.status, again.status) == (503, 409)
    assert (not_given.status, given.status) == (503, 200)
    assert CONTENT not in not_given.content
    assert len(file.read_bytes().splitlines()) == 3  # one of each request but those two


@contextmanager
def unwritable(file: Path) -> Iterator[None]:
    """Nothing can be added to a file as long as this is open."""
    aside = file.with_suffix(".aside")
    file.rename(aside)
    file.mkdir()
    try:
        yield
    finally:
        file.rmdir()
        aside.rename(file)


# Several processes, and their end -------------------------------------------------------------------------------------


async def test_what_was_answered_is_sent_although_the_server_is_killed(tmp_path: Path) -> None:
    repository = audit_repository()
    asked = [f"r-{number}" for number in range(10)]
    environment = {"TOIMIK_AUDIT__FEED_URL": repository.url, "TOIMIK_AUDIT__FEED_PAUSE_SECONDS": "0.2"}
    with server_process(tmp_path / "data", environment=environment) as process:
        async with aiohttp.ClientSession() as session:
            fhir = FhirWire(process.url, session)
            for each in asked:
                assert (await searched(fhir, each)).status == 200
        process.kill()
    async with repository.up():
        with server_process(tmp_path / "data", environment=environment):
            await repository.has_taken(len(asked))

    assert request_ids(repository) == asked


async def test_of_several_workers_one_sends_what_all_of_them_have(tmp_path: Path) -> None:
    repository = audit_repository()
    asked = sorted(f"r-{number:02}" for number in range(40))
    environment = {"TOIMIK_AUDIT__FEED_URL": repository.url, "TOIMIK_AUDIT__FEED_PAUSE_SECONDS": "0.2"}
    async with repository.up():
        with server_process(tmp_path / "data", workers=2, environment=environment) as process:
            await asyncio.gather(*(_on_a_connection(process.url, each) for each in asked))
            await repository.has_taken(len(asked))

    assert sorted(request_ids(repository)) == asked
    assert len(set(repository.ids)) == len(asked)


async def _on_a_connection(url: str, request_id: str) -> None:
    """A search on a connection of its own, which any worker may take."""
    async with aiohttp.ClientSession() as session:
        assert (await searched(FhirWire(url, session), request_id)).status == 200


# Settings -------------------------------------------------------------------------------------------------------------


async def test_without_settings_there_are_no_events(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data") as base, aiohttp.ClientSession() as session:
        await searched(FhirWire(base, session))
        metrics = await ScrapedMetrics.of(base)

    assert not any(name.startswith("toimik_audit") for name in metrics.names)
    assert not (tmp_path / "data" / "audit").exists()


def test_an_authorization_needs_somebody_to_be_shown_to(tmp_path: Path) -> None:
    with pytest.raises(SettingsProblem, match="feed_url"):
        load_settings(audit={"feed_authorization_file": tmp_path / "authorization"})
