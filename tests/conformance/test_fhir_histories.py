"""The versions of a resource as a history Bundle (FHIR R4: http.html, "history")."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mhd.mapping.identifiers import resource_id
from tests.builders import document_entry, entry_uuid, folder, has_member, submission, text
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.test_fhir_removals import assert_gone, assert_never_was, simple
from tests.conformance.test_fhir_versions import a_document, a_document_with_an_addendum_and_in_a_folder, updated
from tests.conformance.test_find_document_references import some_patient
from tests.conformance.wire import Wire, running_server
from tests.xds.broken_updates import next_version, update_of
from xds.ebxml_messages import register_request, remove_request
from xds.metadata import DocumentEntry
from xds.transactions import ITI_57, ITI_62

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def a_document_of_three_versions(wire: Wire) -> DocumentEntry:
    first = await a_document(wire, title=text("First"))
    await updated(wire, next_version(first, title=text("Second")))
    await updated(wire, next_version(first, title=text("Third")), previous="2")
    return first


def versions(reply: FhirReply) -> list[str]:
    assert reply.bundle["type"] == "history"
    return [each["resource"]["meta"]["versionId"] for each in reply.bundle.get("entry", ())]


async def test_a_history_tells_every_version_as_it_is_read_the_newest_first(wire: Wire, app: FhirWire) -> None:
    first = await a_document_of_three_versions(wire)
    path = f"DocumentReference/{resource_id(first.entry_uuid)}"

    reply = await app.get(f"{path}/_history")

    assert versions(reply) == ["3", "2", "1"]
    assert reply.bundle["total"] == 3
    assert (reply.link("self"), reply.link("next")) == (f"{app.base}/{path}/_history", None)
    for entry in reply.bundle["entry"]:
        number = entry["resource"]["meta"]["versionId"]
        read = await app.get(f"{path}/_history/{number}")
        assert entry["resource"] == read.resource
        assert entry["fullUrl"] == f"{app.base}/{path}"
        assert entry["response"]["etag"] == read.headers["ETag"]
        assert entry["response"].get("lastModified") == read.resource["meta"].get("lastUpdated")
        is_new = number == "1"
        assert entry["request"] == (
            {"method": "POST", "url": "DocumentReference"} if is_new else {"method": "PUT", "url": path}
        )
        assert entry["response"]["status"] == ("201 Created" if is_new else "200 OK")


async def test_a_history_is_the_same_by_the_id_of_any_version_and_in_every_form(wire: Wire, app: FhirWire) -> None:
    first = await a_document(wire)
    second = next_version(first)
    await updated(wire, second)
    path = f"DocumentReference/{resource_id(first.entry_uuid)}/_history"
    history = await app.get(path)

    by_other = await app.get(f"DocumentReference/{resource_id(second.entry_uuid)}/_history")
    in_xml = await app.get(path, Accept="application/fhir+xml")
    in_xml_by_url = await app.get(path, {"_format": "xml"})

    assert by_other.bundle["entry"] == history.bundle["entry"] == in_xml.bundle["entry"]
    assert in_xml_by_url.headers["Content-Type"].startswith("application/fhir+xml")
    assert (await app.send("HEAD", path)).status == 200
    assert (await app.send("POST", path)).status == 405


async def test_pages_of_a_history_go_on_where_they_stopped_whatever_is_registered_meanwhile(
    wire: Wire, app: FhirWire
) -> None:
    first = await a_document_of_three_versions(wire)
    path = f"DocumentReference/{resource_id(first.entry_uuid)}/_history"

    page = await app.get(path, {"_count": "2"})
    await updated(wire, next_version(first, title=text("Fourth")), previous="3")
    following = await app.get(page.link("next") or "")
    counted = await app.get(path, {"_count": "0"})

    assert (versions(page), page.bundle["total"]) == (["3", "2"], 3)
    assert (versions(following), following.link("next")) == (["1"], None)
    assert (versions(counted), counted.bundle["total"], counted.link("next")) == ([], 4, None)
    assert [versions(await app.get(path, {"_count": each})) for each in ("1", "4", "999999")] == [
        ["4"], ["4", "3", "2", "1"], ["4", "3", "2", "1"],
    ]  # fmt: skip


async def test_a_history_tells_what_each_version_related_to_and_held(wire: Wire, app: FhirWire) -> None:
    entry, addendum, case = await a_document_with_an_addendum_and_in_a_folder(wire)
    for previous in ("1", "2"):
        await updated(wire, next_version(addendum), previous=previous)
        await updated(wire, next_version(case, title=text("Renamed")), previous=previous, submission_set_status=None)

    document = f"DocumentReference/{resource_id(entry.entry_uuid)}"
    of_addendum = await app.get(f"DocumentReference/{resource_id(addendum.entry_uuid)}/_history")
    of_case = await app.get(f"List/{resource_id(case.entry_uuid)}/_history")

    assert (versions(of_addendum), versions(of_case)) == (["3", "2", "1"], ["3", "2", "1"])
    for each in of_addendum.bundle["entry"]:
        assert [relation["target"]["reference"] for relation in each["resource"]["relatesTo"]] == [document]
    for each in of_case.bundle["entry"]:
        assert [member["item"]["reference"] for member in each["resource"]["entry"]] == [document]
    assert {each["request"]["url"] for each in of_case.bundle["entry"]} == {
        "List", f"List/{resource_id(case.entry_uuid)}",
    }  # fmt: skip


@asynccontextmanager
async def telling_at_once(directory: Path, most: int) -> AsyncIterator[tuple[FhirWire, Wire]]:
    """A server whose registry gives so many objects at once."""
    async with running_server(directory, limits={"results": most}) as base, aiohttp.ClientSession() as session:
        yield FhirWire(base, session), Wire(base, session)


async def path_of_a_folder_with_two_documents(wire: Wire, *, versions: int) -> str:
    """Of its history. Each of its versions has three Associations."""
    patient = some_patient()
    entries, case = [document_entry(patient_id=patient) for _ in range(2)], folder(patient_id=patient)
    sent = submission(*entries, folders=(case,), associations=tuple(has_member(case, each) for each in entries))
    assert (await wire.register(sent)).registry_response.succeeded
    for previous in range(1, versions):
        await updated(wire, next_version(case), previous=str(previous), submission_set_status=None)
    return f"List/{resource_id(case.entry_uuid)}/_history"


async def test_a_history_needs_no_answer_that_is_larger_than_that_of_one_version(tmp_path: Path) -> None:
    async with telling_at_once(tmp_path, 4) as (fhir, wire):
        history = await fhir.get(await path_of_a_folder_with_two_documents(wire, versions=3))

    assert [len(each["resource"]["entry"]) for each in history.bundle["entry"]] == [2, 2, 2]


async def test_a_past_version_that_the_registry_can_not_tell_whole_is_refused(tmp_path: Path) -> None:
    async with telling_at_once(tmp_path, 2) as (fhir, wire):
        path = await path_of_a_folder_with_two_documents(wire, versions=2)

        for each in (path, f"{path}/1"):
            reply = await fhir.get(each)
            assert (reply.status, reply.issue["code"]) == (400, "too-costly")
        assert (await fhir.get(f"{path}/2")).status == 200


async def test_the_history_of_a_submission_set_is_its_one_version(wire: Wire, app: FhirWire) -> None:
    sent = submission(document_entry(patient_id=some_patient()))
    assert (await wire.register(sent)).registry_response.succeeded
    path = f"List/{resource_id(sent.submission_set.entry_uuid)}"

    reply = await app.get(f"{path}/_history")

    assert [each["resource"] for each in reply.bundle["entry"]] == [(await app.get(path)).resource]


async def test_a_history_since_a_moment_tells_what_was_registered_then_or_later(wire: Wire, fhir: FhirWire) -> None:
    first = await a_document_of_three_versions(wire)
    path = f"DocumentReference/{resource_id(first.entry_uuid)}/_history"
    moments = [each["response"]["lastModified"] for each in (await fhir.get(path)).bundle["entry"]]
    after = datetime.fromisoformat(moments[0]) + timedelta(seconds=1)

    for moment in (*moments, after.isoformat()):
        reply = await fhir.get(path, {"_since": moment})
        expected = [each for each in moments if datetime.fromisoformat(each) >= datetime.fromisoformat(moment)]
        assert [each["response"]["lastModified"] for each in reply.bundle.get("entry", ())] == expected
        assert reply.bundle["total"] == len(expected)
    assert versions(await fhir.get(path, {"_since": after.isoformat()})) == []


@pytest.mark.parametrize(
    ("name", "value", "issue"),
    [
        ("_count", "many", "invalid"),
        ("_count", "-1", "invalid"),
        ("_page", "x", "invalid"),
        ("_since", "2026-03", "invalid"),
        ("_since", "2026-02-30T10:00:00Z", "invalid"),
        ("_at", "2026", "not-supported"),
        ("_list", "List/1", "not-supported"),
    ],
)
async def test_what_a_history_can_not_be_asked_for_is_refused(
    wire: Wire, app: FhirWire, name: str, value: str, issue: str
) -> None:
    first = await a_document(wire)
    reply = await app.get(f"DocumentReference/{resource_id(first.entry_uuid)}/_history", {name: value})

    assert (reply.status, reply.issue["code"], reply.issue["expression"]) == (400, issue, [name])


async def test_what_is_not_known_of_a_history_is_ignored_unless_the_app_is_strict(wire: Wire, app: FhirWire) -> None:
    first = await a_document(wire)
    path = f"DocumentReference/{resource_id(first.entry_uuid)}/_history"

    lenient = await app.get(path, {"_pretty": "true"})
    strict = await app.get(path, {"_pretty": "true"}, Prefer="handling=strict")

    assert (lenient.status, lenient.link("self")) == (200, f"{app.base}/{path}")
    assert (strict.status, strict.issue["code"]) == (400, "not-supported")


async def test_in_front_of_a_registry_that_does_not_tell_when_a_moment_is_refused(wire: Wire, app: FhirWire) -> None:
    first = await a_document(wire)
    path = f"DocumentReference/{resource_id(first.entry_uuid)}/_history"
    is_told = "lastModified" in (await app.get(path)).bundle["entry"][0]["response"]

    reply = await app.get(path, {"_since": "2020-01-01T00:00:00Z"})

    assert (reply.status, reply.resource["resourceType"]) == ((200, "Bundle") if is_told else (400, "OperationOutcome"))


@pytest.mark.parametrize("path", ["DocumentReference/{}", "List/{}", "DocumentReference/x", "List/x"])
async def test_what_never_was_has_no_history(app: FhirWire, path: str) -> None:
    assert_never_was(await app.get(f"{path.format(resource_id(entry_uuid()))}/_history"))


async def test_what_has_no_versions_has_no_history(app: FhirWire) -> None:
    for path in ("Binary/1/_history", "Patient/1/_history", "_history", "List/_history/1", "List/1/_history/1/2"):
        assert (await app.get(path)).status == 404


async def test_a_removed_version_is_missing_and_what_was_removed_whole_is_gone(wire: Wire, fhir: FhirWire) -> None:
    entry = document_entry()
    sent = submission(entry)
    assert (await wire.register(sent)).registry_response.succeeded
    updates: list[Any] = [update_of(next_version(entry), previous=previous) for previous in ("1", "2")]
    for update in updates:
        await simple(wire, ITI_57, register_request(update))
    path = f"DocumentReference/{resource_id(entry.entry_uuid)}/_history"

    await simple(wire, ITI_62, remove_request([item.entry_uuid for item in updates[0].objects]))
    assert versions(await fhir.get(path)) == ["3", "1"]
    for each in (sent, updates[1]):
        await simple(wire, ITI_62, remove_request([item.entry_uuid for item in each.objects]))

    assert_gone(await fhir.get(path))


async def test_the_capability_statement_says_that_there_are_histories(app: FhirWire) -> None:
    [rest] = (await app.get("metadata")).resource["rest"]

    told = {each["type"] for each in rest["resource"] if {"code": "history-instance"} in each["interaction"]}
    assert told == {"DocumentReference", "List"}
