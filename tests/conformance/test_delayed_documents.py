"""Delayed documents over HTTP: registered without one, assembled when they are first retrieved, kept for good."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import written
from mhd.mapping.identifiers import resource_id
from server.diagnosis import Verdict
from server.settings import Settings
from server.store_diagnosis import store_diagnoses
from tests.builders import (
    CONTENT,
    REPOSITORY,
    association,
    code,
    document_entry,
    folder,
    has_member,
    oid,
    submission,
    submission_set,
    text,
    unmeasured,
)
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.summary_server import SummaryServer, summary_server
from tests.conformance.test_documents_in_and_out import asked, entries_of, entry_of, provided
from tests.conformance.test_find_document_references import some_patient
from tests.conformance.test_on_demand import (
    BROKEN,
    MOST_OCTETS,
    TIME_SECONDS,
    documents_in,
    its_own_id,
    promised,
    retrieved,
)
from tests.conformance.test_patient_feeds import ADDED, RESOLVED, feed_v3
from tests.conformance.wire import Wire, running_server
from tests.hl7v3_builders import patient_feed
from tests.mhd.recipients import bundle_of, sent_document, sent_list
from tests.server.test_cli_documents import invoked
from tests.shared_stores import left_over
from tests.xds.broken_updates import next_version, status_update, update_of
from xds.ebxml_messages import register_request, remove_documents_request
from xds.ebxml_reader import read_rendering
from xds.errors import ResponseStatus
from xds.metadata import HASH_OF_NOTHING, AssociationType, AvailabilityStatus, DocumentEntry
from xds.transactions import ITI_57, ITI_86

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOT_OURS = "1.2.3.4711"
"""Nobody assembles documents whose uniqueIds begin with it."""
ELSEWHERE = "https://archive.example.org/documents/1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def archive() -> AsyncIterator[SummaryServer]:
    """What assembles the documents."""
    async with summary_server() as made:
        yield made


def assembled_by(archive: SummaryServer, **changes: Any) -> dict[str, Any]:
    """A row of settings."""
    conditions = {"timeout_seconds": TIME_SECONDS, "document_bytes": MOST_OCTETS, "delayed": True}
    return {"name": "archive", "url": archive.url, **conditions, **changes}


@pytest.fixture(scope="module")
def settings(stores: Mapping[str, Any], archive: SummaryServer) -> Mapping[str, Any]:
    rows = [assembled_by(archive, name="others", unique_ids=[NOT_OURS], delayed=False),
            assembled_by(archive, unique_ids=["2.25", "1.3.6"])]  # fmt: skip
    return {"repository_unique_id": REPOSITORY, **stores, "on_demand": rows, "mhd": {"on_demand_documents": True}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(settings: Mapping[str, Any]) -> AsyncIterator[str]:
    async with running_server(**settings) as base:
        yield base


def delayed_entry(**changes: Any) -> DocumentEntry:
    """The entry of a delayed document, as a source registers it."""
    ours = {"size": "0", "hash": HASH_OF_NOTHING, "patient_id": some_patient()}
    return document_entry(**{**ours, **changes})


async def delayed(wire: Wire, **changes: Any) -> DocumentEntry:
    """One that was registered by ITI-42, as the registry has it."""
    (known,) = {entry.repository_unique_id for entry in [await provided(wire)]}
    sent = delayed_entry(**{"repository_unique_id": known, **changes})
    answer = await wire.register(submission(sent))
    assert answer.registry_response.succeeded, answer.content
    return await entry_of(wire, sent.unique_id or "")


async def versions_of(wire: Wire, entry: DocumentEntry) -> list[DocumentEntry]:
    """All versions, the oldest first."""
    listed = f"('{entry.logical_id}')"
    answer = await wire.query("GetDocuments", XDSDocumentEntryLogicalID=listed, MetadataLevel="2")
    found = [read_rendering(each.ebrim or b"") for each in answer.query_response.found]
    entries = [each for each in found if isinstance(each, DocumentEntry)]
    return sorted(entries, key=lambda each: int(each.version or 0))


def measures(content: bytes) -> tuple[str, str]:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest(), str(len(content))


def says(reply: FhirReply) -> tuple[str, int]:
    """Hash, in hex, and size of a DocumentReference."""
    attachment = reply.resource["content"][0]["attachment"]
    return base64.b64decode(attachment["hash"]).hex(), attachment["size"]


async def problems_told(settings: Mapping[str, Any]) -> list[str]:
    """What a deep look of the doctor finds wrong."""
    found = [each async for each in store_diagnoses(Settings(**settings), deep=True, tell=None)]
    return [each.sentence for each in found if each.verdict is Verdict.FAILED]


# What becomes of it -------------------------------------------------------------------------------------------------


async def test_a_delayed_document_is_assembled_once_and_its_entry_says_hash_and_size_from_then_on(
    wire: Wire, fhir: FhirWire, archive: SummaryServer
) -> None:
    entry = await delayed(wire)
    path = f"DocumentReference/{resource_id(entry.entry_uuid)}"
    assert says(await fhir.get(path)) == (HASH_OF_NOTHING, 0)
    archive.gives(entry.unique_id or "", b"assembled")

    first = await retrieved(wire, entry)

    assert first.retrieved.status is ResponseStatus.SUCCESS, first.content
    assert list(first.parts.values()) == [b"assembled"]
    (document,) = first.retrieved.documents
    assert (document.request, document.mime_type) == (asked(entry), "text/plain")
    assert (document.new_document_unique_id, document.new_repository_unique_id) == (None, None)
    newest = await entry_of(wire, entry.unique_id or "")
    assert (newest.hash, newest.size) == measures(b"assembled")
    assert (newest.version, newest.logical_id) == ("2", entry.logical_id)
    assert newest.creation_time != entry.creation_time, "ITI TF-2: 3.43.4.1.3.2"
    its_own = {"entry_uuid", "version", "hash", "size", "creation_time"}
    for name in set(DocumentEntry.__dataclass_fields__) - its_own:
        assert getattr(newest, name) == getattr(entry, name), name
    assert says(await fhir.get(path)) == (measures(b"assembled")[0], 9)

    archive.gives(entry.unique_id or "", b"something else")
    for version in await versions_of(wire, entry):
        assert list((await retrieved(wire, version)).parts.values()) == [b"assembled"]
        assert (await fhir.get(f"Binary/{resource_id(version.entry_uuid)}")).content == b"assembled"
    assert [told["uniqueId"] for _, told in archive.asked].count(entry.unique_id) == 1


async def test_fhir_searches_tell_the_hash_and_size_of_what_was_assembled(
    wire: Wire, fhir: FhirWire, archive: SummaryServer
) -> None:
    entry = await delayed(wire)
    archive.gives(entry.unique_id or "", b"assembled")
    search = {"patient.identifier": f"urn:oid:{entry.patient_id and entry.patient_id.assigning_authority.universal_id}"
              f"|{entry.patient_id and entry.patient_id.id_number}", "status": "current"}  # fmt: skip
    before = (await fhir.get("DocumentReference", search)).bundle["entry"][0]["resource"]
    await retrieved(wire, entry)
    [after] = (await fhir.get("DocumentReference", search)).bundle["entry"]

    assert before["content"][0]["attachment"]["size"] == 0
    attachment = after["resource"]["content"][0]["attachment"]
    assert (attachment["size"], base64.b64decode(attachment["hash"]).hex()) == (9, measures(b"assembled")[0])
    assert (after["resource"]["id"], after["resource"]["meta"]["versionId"]) == (before["id"], "2")


async def test_its_source_is_told_of_which_kind_it_is(wire: Wire, archive: SummaryServer) -> None:
    entry, summary = await delayed(wire), await promised(wire)
    for each in (entry, summary):
        archive.gives(each.unique_id or "", b"made")
        await retrieved(wire, each)
    told = {each["uniqueId"]: each for _, each in archive.asked}
    assert told[entry.unique_id]["objectType"] == "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
    assert told[entry.unique_id]["creationTime"] == str(entry.creation_time)
    assert told[summary.unique_id]["objectType"] == "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"


async def test_folders_and_relations_follow_what_was_assembled(wire: Wire, archive: SummaryServer) -> None:
    patient = some_patient()
    here = {"patient_id": patient, "repository_unique_id": (await provided(wire)).repository_unique_id}
    original = delayed_entry(**here)
    holder = folder(patient_id=patient)
    sent = submission(original, folders=(holder,), associations=(has_member(holder, original),))
    assert (await wire.register(sent)).registry_response.succeeded
    addendum = unmeasured(document_entry(patient_id=patient))
    link = association(AssociationType.APND, addendum, original)
    added = await wire.provide(
        submission(addendum, patient_id=patient, associations=(link,)), {addendum.entry_uuid: CONTENT}
    )
    assert added.registry_response.succeeded, added.content
    archive.gives(original.unique_id or "", b"assembled")

    await retrieved(wire, original)

    newest = await entry_of(wire, original.unique_id or "")
    listed = f"('{newest.entry_uuid}')"
    folders = await wire.query("GetFoldersForDocument", XDSDocumentEntryEntryUUID=f"'{newest.entry_uuid}'")
    assert [each.entry_uuid for each in folders.query_response.found] == [holder.entry_uuid]
    links = await wire.query("GetAssociations", uuid=listed)
    found = [read_rendering(each.ebrim or b"") for each in links.query_response.found]
    assert (AssociationType.APND, addendum.entry_uuid) in {
        (getattr(each, "association_type", None), getattr(each, "source_object", None)) for each in found
    }


async def test_an_entry_that_was_updated_before_it_was_retrieved_is_updated_once_more(
    wire: Wire, archive: SummaryServer
) -> None:
    entry = await delayed(wire)
    changed = next_version(entry, title=text("Corrected"), hash=None, size=None)
    answer = await wire.simple(ITI_57, register_request(update_of(changed)))
    assert answer.registry_response.succeeded, answer.content
    archive.gives(entry.unique_id or "", b"assembled")

    assert list((await retrieved(wire, entry)).parts.values()) == [b"assembled"]

    newest = await entry_of(wire, entry.unique_id or "")
    assert (newest.version, newest.title, newest.size) == ("3", text("Corrected"), "9")


async def test_entries_of_one_delayed_document_all_say_its_hash_and_size(wire: Wire, archive: SummaryServer) -> None:
    first = await delayed(wire)
    entries = [first]
    for patient in (first.patient_id, some_patient()):
        again = delayed_entry(
            unique_id=first.unique_id, patient_id=patient, repository_unique_id=first.repository_unique_id
        )
        entries.append(replace(again, logical_id=again.entry_uuid))
        assert (await wire.register(submission(again))).registry_response.succeeded
    archive.gives(first.unique_id or "", b"assembled")

    await retrieved(wire, first)

    for each in entries:
        newest = (await versions_of(wire, each))[-1]
        assert (newest.hash, newest.size, newest.version) == (*measures(b"assembled"), "2")


async def test_the_document_of_a_patient_who_was_merged_is_assembled_for_the_survivor(
    wire: Wire, archive: SummaryServer
) -> None:
    survivor, merged = some_patient(), some_patient()
    entry = await delayed(wire, patient_id=merged)
    for patient in (survivor, merged):
        await feed_v3(wire, ADDED, patient_feed("PRPA_IN201301UV02", patient))
    assert await feed_v3(wire, RESOLVED, patient_feed("PRPA_IN201304UV02", survivor, merged)) == ("CA", "")
    archive.gives(entry.unique_id or "", b"assembled")

    assert list((await retrieved(wire, entry)).parts.values()) == [b"assembled"]

    newest = await entry_of(wire, entry.unique_id or "")
    assert (newest.patient_id, newest.version, newest.size) == (survivor, "2", "9")


async def test_what_was_assembled_can_not_be_registered_with_other_octets(wire: Wire, archive: SummaryServer) -> None:
    entry = await delayed(wire)
    archive.gives(entry.unique_id or "", b"assembled")
    await retrieved(wire, entry)
    for sent in (delayed_entry(unique_id=entry.unique_id), document_entry(unique_id=entry.unique_id)):
        assert "XDSNonIdenticalHash" in (await wire.register(submission(sent))).codes


async def test_an_assembled_document_that_was_removed_is_not_assembled_again(
    archive: SummaryServer, tmp_path: Path
) -> None:
    async with (
        running_server(tmp_path, on_demand=[assembled_by(archive)]) as base,
        aiohttp.ClientSession() as session,
    ):
        wire, fhir = Wire(base, session), FhirWire(base, session)
        entry = await delayed(wire)
        archive.gives(entry.unique_id or "", b"assembled")
        await retrieved(wire, entry)
        removed = await wire.simple(ITI_86, remove_documents_request([asked(entry)]))
        assert removed.registry_response.succeeded, removed.content

        assert (await retrieved(wire, entry)).codes == ["XDSDocumentUniqueIdError"]
        assert (await fhir.get(f"Binary/{resource_id(entry.entry_uuid)}")).status == 410


async def test_an_empty_document_that_is_in_the_repository_is_served_as_such(
    wire: Wire, fhir: FhirWire, archive: SummaryServer
) -> None:
    entry = await provided(wire, b"")
    assert (entry.hash, entry.size) == (HASH_OF_NOTHING, "0")

    answer = await retrieved(wire, entry)
    by_fhir = await fhir.get(f"Binary/{resource_id(entry.entry_uuid)}")

    assert list(answer.parts.values()) == [b""]
    assert (by_fhir.status, by_fhir.content) == (200, b"")
    assert [each.version for each in await versions_of(wire, entry)] == ["1"]
    assert entry.unique_id not in {told["uniqueId"] for _, told in archive.asked}


# At the same moment -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("differ", [False, True], ids=["equal", "different"])
async def test_whoever_retrieves_it_at_the_same_moment_gets_the_same_octets_and_there_is_one_update(
    wire: Wire, settings: Mapping[str, Any], archive: SummaryServer, differ: bool
) -> None:
    entry, number, everybody = await delayed(wire), iter(range(100)), asyncio.Barrier(4)

    async def answer(_: web.Request) -> web.Response:
        content = b"assembled %d" % (next(number) if differ else 0)
        await everybody.wait()
        return web.Response(body=content, content_type="text/plain")

    archive.answers[entry.unique_id or ""] = answer
    replies = await asyncio.gather(*(retrieved(wire, entry) for _ in range(4)))

    answered = {content for reply in replies for content in reply.parts.values()}
    assert [reply.retrieved.status for reply in replies] == [ResponseStatus.SUCCESS] * 4, replies[0].content
    assert len(answered) == 1
    assert [each.version for each in await versions_of(wire, entry)] == ["1", "2"]
    newest = await entry_of(wire, entry.unique_id or "")
    assert (newest.hash, newest.size) == measures(answered.pop())
    assert left_over(settings) == []


# What goes wrong ----------------------------------------------------------------------------------------------------


async def empty(_: web.Request) -> web.Response:
    return web.Response(body=b"", content_type="text/plain")


async def another_id(_: web.Request) -> web.Response:
    return web.Response(body=b"made", content_type="text/plain", headers={"Document-Unique-Id": "1.2.3"})


BROKEN_ASSEMBLIES: Sequence[tuple[str, Any, str, str]] = (
    *(row for row in BROKEN if row[1] is not its_own_id),
    ("nothing", empty, "XDSRepositoryError", "without a single octet"),
    ("another uniqueId", another_id, "XDSRepositoryError", "not that of its DocumentEntry"),
)


@pytest.mark.parametrize(("answer", "error_code", "sentence"), [row[1:] for row in BROKEN_ASSEMBLIES],
                         ids=[row[0] for row in BROKEN_ASSEMBLIES])  # fmt: skip
async def test_whatever_its_source_does_nothing_is_kept_and_the_next_try_works(
    wire: Wire,
    fhir: FhirWire,
    settings: Mapping[str, Any],
    archive: SummaryServer,
    answer: Any,
    error_code: str,
    sentence: str,
) -> None:
    entry, kept = await delayed(wire), await provided(wire)
    archive.answers[entry.unique_id or ""] = answer

    reply = await retrieved(wire, entry, kept)
    by_fhir = await fhir.get(f"Binary/{resource_id(entry.entry_uuid)}")

    assert reply.retrieved.status is ResponseStatus.PARTIAL_SUCCESS
    assert list(reply.parts.values()) == [CONTENT]
    (error,) = reply.retrieved.errors
    assert (error.code, sentence in error.code_context) == (error_code, True), error.code_context
    assert "on-demand" not in error.code_context
    assert "secret" not in error.code_context
    assert by_fhir.resource["resourceType"] == "OperationOutcome"
    assert (by_fhir.status >= 400, by_fhir.status != 410) == (True, True)
    assert by_fhir.status == 503 or "Ask again later" not in sentence
    assert sentence in by_fhir.issue["details"]["text"]
    assert left_over(settings) == []
    assert await entry_of(wire, entry.unique_id or "") == entry

    archive.gives(entry.unique_id or "", b"assembled", **{"Document-Unique-Id": entry.unique_id or ""})
    assert list((await retrieved(wire, entry)).parts.values()) == [b"assembled"]


async def test_a_deprecated_entry_is_not_assembled_and_whoever_asks_is_told_why(
    wire: Wire, fhir: FhirWire, archive: SummaryServer
) -> None:
    entry = await delayed(wire)
    new = unmeasured(document_entry(patient_id=entry.patient_id))
    link = association(AssociationType.RPLC, new, entry)
    replacing = submission(new, patient_id=entry.patient_id, associations=(link,))
    assert (await wire.provide(replacing, {new.entry_uuid: CONTENT})).registry_response.succeeded
    archive.gives(entry.unique_id or "", b"assembled")

    reply = await retrieved(wire, entry)
    by_fhir = await fhir.get(f"Binary/{resource_id(entry.entry_uuid)}")

    assert reply.codes == ["XDSDocumentUniqueIdError"]
    sentence = reply.retrieved.errors[0].code_context
    assert "before its DocumentEntry became Deprecated" in sentence
    assert (by_fhir.status, by_fhir.issue["code"], by_fhir.issue["details"]["text"]) == (404, "not-found", sentence)
    assert (await entry_of(wire, entry.unique_id or "")).availability_status == AvailabilityStatus.DEPRECATED


async def test_a_deprecated_entry_that_is_approved_for_a_while_is_assembled_and_says_so_from_then_on(
    wire: Wire, archive: SummaryServer
) -> None:
    entry = await delayed(wire)
    archive.gives(entry.unique_id or "", b"assembled")

    async def becomes(status: AvailabilityStatus, before: AvailabilityStatus) -> None:
        now = await entry_of(wire, entry.unique_id or "")
        update = status_update(now.entry_uuid, before=before, after=status)
        owner = replace(update.submission_set, patient_id=entry.patient_id)
        answer = await wire.simple(ITI_57, register_request(replace(update, submission_sets=(owner,))))
        assert answer.registry_response.succeeded, answer.content

    await becomes(AvailabilityStatus.DEPRECATED, AvailabilityStatus.APPROVED)
    assert (await retrieved(wire, entry)).codes == ["XDSDocumentUniqueIdError"]
    await becomes(AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED)
    assert list((await retrieved(wire, entry)).parts.values()) == [b"assembled"]
    await becomes(AvailabilityStatus.DEPRECATED, AvailabilityStatus.APPROVED)

    assert list((await retrieved(wire, entry)).parts.values()) == [b"assembled"]
    newest = await entry_of(wire, entry.unique_id or "")
    assert (newest.availability_status, newest.hash) == (AvailabilityStatus.DEPRECATED, measures(b"assembled")[0])


async def test_what_nobody_assembles_is_not_available(wire: Wire, fhir: FhirWire, archive: SummaryServer) -> None:
    entry = await delayed(wire, unique_id=f"{NOT_OURS}.{oid().rpartition('.')[2]}")
    archive.gives(entry.unique_id or "", b"assembled")
    assert (await retrieved(wire, entry)).codes == ["XDSDocumentUniqueIdError"]
    assert (await fhir.get(f"Binary/{resource_id(entry.entry_uuid)}")).status == 404


async def test_a_source_has_to_send_documents_with_provide_and_register(wire: Wire) -> None:
    answer = await wire.provide(submission(delayed_entry(repository_unique_id=None)), {})
    assert answer.codes == ["XDSMissingDocument"], "ITI TF-2: 3.41: only ITI-42 registers what is assembled later"


async def test_an_update_that_the_registry_refuses_is_an_error_and_leaves_no_trace(
    archive: SummaryServer, tmp_path: Path
) -> None:
    listed = {"code": "11490-0", "scheme": "2.16.840.1.113883.6.1"}
    codes = {"codes": {"type_code": {"policy": "reject", "values": [listed]}}}
    async with aiohttp.ClientSession() as session:
        async with running_server(tmp_path, on_demand=[assembled_by(archive)]) as base:
            wire = Wire(base, session)
            entry = await delayed(wire, type_code=code("34133-9"))
        archive.gives(entry.unique_id or "", b"assembled")
        async with running_server(tmp_path, **codes, on_demand=[assembled_by(archive)]) as base:
            wire = Wire(base, session)
            there = documents_in(tmp_path)
            refused = await retrieved(wire, entry)
            assert documents_in(tmp_path) == there
            assert await entry_of(wire, entry.unique_id or "") == entry
    assert refused.codes == ["XDSRepositoryError"]
    assert "XDSMetadataUpdateError" in refused.retrieved.errors[0].code_context


# FHIR ---------------------------------------------------------------------------------------------------------------


def delayed_reference(entry: DocumentEntry, **attachment: Any) -> Json:
    """The DocumentReference of a delayed document."""
    resource, _ = sent_document(entry)
    said = {"url": ELSEWHERE, "size": 0, "hash": "2jmj7l5rSw0yVb/vlWAYkK/YBwk="}
    resource["content"][0]["attachment"] |= {**said, **attachment}
    return resource


async def sent(fhir: FhirWire, bundle: Json) -> FhirReply:
    return await fhir.send("POST", "", data=written(bundle), headers={"Content-Type": "application/fhir+json"})


async def test_a_fhir_app_registers_a_delayed_document_beside_one_that_is_there(
    wire: Wire, fhir: FhirWire, archive: SummaryServer
) -> None:
    patient = some_patient()
    later, now = (document_entry(patient_id=patient) for _ in range(2))
    listed = sent_list(submission_set(patient_id=patient), later, now)
    reply = await sent(fhir, bundle_of(listed, delayed_reference(later), *sent_document(now)))
    assert reply.status == 200, reply.content
    archive.gives(later.unique_id or "", b"assembled")

    location = reply.bundle["entry"][1]["response"]["location"]
    reference = await fhir.get(location)
    path = reference.resource["content"][0]["attachment"]["url"]
    part = await fhir.get(path, Range="bytes=2-4")
    whole = await fhir.get(path)

    assert says(reference) == (HASH_OF_NOTHING, 0)
    assert (part.status, part.content) == (206, b"sem"), "it is the document from the first retrieval on"
    assert (whole.status, whole.content) == (200, b"assembled")
    assert part.headers["ETag"] == whole.headers["ETag"] == f'"{measures(b"assembled")[0]}"'
    assert says(await fhir.get(location)) == (measures(b"assembled")[0], 9)
    (entry,) = await entries_of(wire, later.unique_id or "")
    assert entry.uri is None, "whoever assembles it knows where it is"
    assert list((await retrieved(wire, entry)).parts.values()) == [b"assembled"]
    assert list((await retrieved(wire, *await entries_of(wire, now.unique_id or ""))).parts.values()) == [CONTENT]


async def test_an_app_that_remembers_the_hash_of_nothing_is_given_the_document(
    wire: Wire, fhir: FhirWire, archive: SummaryServer
) -> None:
    entry = await delayed(wire)
    archive.gives(entry.unique_id or "", b"assembled")
    reply = await fhir.get(f"Binary/{resource_id(entry.entry_uuid)}", If_None_Match=f'"{HASH_OF_NOTHING}"')
    assert (reply.status, reply.content) == (200, b"assembled")


@pytest.mark.parametrize(
    ("attachment", "unique_id"),
    [({"size": 5}, None), ({}, f"{NOT_OURS}.1")],
    ids=["with another size", "that nobody assembles"],
)
async def test_a_delayed_document_that_can_not_be_assembled_is_refused_and_nothing_is_stored(
    wire: Wire, fhir: FhirWire, attachment: dict[str, Any], unique_id: str | None
) -> None:
    entry = document_entry(**({"unique_id": unique_id} if unique_id else {}))
    reply = await sent(fhir, bundle_of(sent_list(submission_set(), entry), delayed_reference(entry, **attachment)))
    assert reply.status == 422
    assert reply.issue["expression"] == ["Bundle.entry[1].resource.content[0].attachment.url"]
    assert await entries_of(wire, entry.unique_id or "") == []


async def test_fhir_in_front_of_a_repository_elsewhere_tells_what_was_assembled_there_and_takes_no_delayed_ones(
    wire: Wire, server: str, archive: SummaryServer, tmp_path: Path
) -> None:
    entry, other = await delayed(wire), document_entry()
    archive.gives(entry.unique_id or "", b"assembled")
    urls = {"registry_url": f"{server}/xds/registry", "repository_url": f"{server}/xds/repository"}
    async with running_server(tmp_path, actors=["mhd"], **urls) as base, aiohttp.ClientSession() as session:
        fhir = FhirWire(base, session)
        reply = await fhir.get(f"Binary/{resource_id(entry.entry_uuid)}")
        refused = await sent(fhir, bundle_of(sent_list(submission_set(), other), delayed_reference(other)))
    assert (reply.status, reply.content) == (200, b"assembled")
    assert reply.headers["ETag"] == f'"{measures(b"assembled")[0]}"'
    assert (refused.status, "Nobody here assembles" in refused.issue["details"]["text"]) == (422, True)


# Somewhere else -----------------------------------------------------------------------------------------------------


async def test_a_repository_updates_the_entry_at_a_registry_elsewhere(
    wire: Wire, server: str, archive: SummaryServer, tmp_path: Path
) -> None:
    here = oid()
    settings = {"actors": ["repository"], "registry_url": f"{server}/xds/registry", "repository_unique_id": here}
    entry = await delayed(wire, repository_unique_id=here)
    archive.gives(entry.unique_id or "", b"assembled")
    async with running_server(tmp_path, **settings, on_demand=[assembled_by(archive)]) as base:
        replies = [await retrieved(Wire(base, wire.session), entry) for _ in range(2)]
    assert [list(reply.parts.values()) for reply in replies] == [[b"assembled"]] * 2
    newest = await entry_of(wire, entry.unique_id or "")
    assert (newest.hash, newest.size, newest.version) == (*measures(b"assembled"), "2")


async def test_where_the_registry_elsewhere_is_away_nothing_is_assembled(
    archive: SummaryServer, tmp_path: Path
) -> None:
    settings = {"actors": ["repository"], "registry_url": "http://127.0.0.1:9/", "repository_unique_id": REPOSITORY}
    entry = delayed_entry()
    async with (
        running_server(tmp_path, **settings, on_demand=[assembled_by(archive)]) as base,
        aiohttp.ClientSession() as session,
    ):
        reply = await retrieved(Wire(base, session), entry)
    assert reply.codes == ["XDSRegistryNotAvailable"]
    assert entry.unique_id not in {told["uniqueId"] for _, told in archive.asked}


async def test_a_deep_look_finds_nothing_wrong_with_what_was_assembled_and_what_was_not_yet(
    wire: Wire, settings: Mapping[str, Any], archive: SummaryServer
) -> None:
    entry, _, _ = await delayed(wire), await delayed(wire), await promised(wire)
    archive.gives(entry.unique_id or "", b"assembled")
    await retrieved(wire, entry)
    assert await problems_told(settings) == []
    without = {**settings, "on_demand": [], "mhd": {}}
    [lacking] = await problems_told(without)
    assert "its document is not there" in lacking, "where nobody assembles documents they are missing"


async def test_the_command_line_fetches_what_is_assembled_then(
    wire: Wire, server: str, archive: SummaryServer, tmp_path: Path
) -> None:
    entry = await delayed(wire)
    archive.gives(entry.unique_id or "", b"assembled")
    arguments = ("retrieve", "--to", server, "--patient", entry.patient_id, "--output", tmp_path)
    result = await asyncio.to_thread(invoked, *arguments)
    assert result.exit_code == 0, result.output
    assert "assembled now" in result.output
    (file,) = tmp_path.iterdir()  # noqa: ASYNC240 - a directory of a test
    assert file.read_bytes() == b"assembled"
