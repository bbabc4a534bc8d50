"""A document or Folder with several versions (ITI-57) is one resource to FHIR apps: the newest, under the id of all."""

from __future__ import annotations

from typing import Any

import pytest

from mhd.mapping.identifiers import resource_id
from tests.builders import (
    CONTENT,
    PATIENT,
    association,
    document_entry,
    folder,
    has_member,
    submission,
    text,
    unmeasured,
)
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.test_documents_in_and_out import entries_of
from tests.conformance.test_fhir_submissions import provided
from tests.conformance.test_find_document_references import of, some_patient
from tests.conformance.wire import Wire
from tests.mhd.recipients import bundle_of, bundle_with, sent_list
from tests.mhd.test_iti65_provide_document_bundle import PATCH
from tests.xds.broken_updates import next_version, update_of
from xds.ebxml_messages import register_request
from xds.ebxml_writer import codec
from xds.metadata import Association, AssociationType, DocumentEntry, Folder
from xds.transactions import ITI_57

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def updated(wire: Wire, *items: DocumentEntry | Folder, **more: Any) -> None:
    answer = await wire.simple(ITI_57, register_request(update_of(*items, **more)))
    assert answer.registry_response.succeeded, answer.content


async def a_document(wire: Wire, **changes: Any) -> DocumentEntry:
    """A document of a patient of its own, as it was registered."""
    entry = unmeasured(document_entry(patient_id=some_patient(), **changes))
    answer = await wire.provide(submission(entry), {entry.entry_uuid: CONTENT})
    assert answer.registry_response.succeeded, answer.content
    [stored] = await entries_of(wire, entry.unique_id or "")
    return stored


async def test_a_search_finds_the_newest_version_under_the_id_of_all(wire: Wire, app: FhirWire) -> None:
    first = await a_document(wire, title=text("First"))
    second = next_version(first, title=text("Second"))
    await updated(wire, second)
    patient = ("patient.identifier", of(first.patient_id or PATIENT))

    everything = await app.get("DocumentReference", [patient])
    superseded = await app.get("DocumentReference", [patient, ("status", "superseded")])

    assert everything.found == [resource_id(first.entry_uuid)]
    assert everything.bundle["total"] == 1
    [resource] = [each["resource"] for each in everything.bundle["entry"]]
    assert (resource["meta"]["versionId"], resource["status"]) == ("2", "current")
    assert resource["content"][0]["attachment"]["title"] == "Second"
    assert (superseded.found, superseded.bundle["total"]) == ([], 0)


@pytest.mark.parametrize("name", ["_id", "identifier"])
async def test_a_document_is_found_by_its_logical_id_and_by_every_version(wire: Wire, app: FhirWire, name: str) -> None:
    first = await a_document(wire)
    second, third = next_version(first), next_version(first)
    await updated(wire, second)
    await updated(wire, third, previous="2")
    form = resource_id if name == "_id" else str

    for each in (first, second, third):
        found = await app.get("DocumentReference", {name: form(each.entry_uuid)})
        assert found.found == [resource_id(first.entry_uuid)]
    by_all = await app.get("DocumentReference", {name: f"{form(first.entry_uuid)},{form(second.entry_uuid)}"})
    assert by_all.bundle["total"] == 1
    by_unique_id = await app.get("DocumentReference", {"identifier": f"urn:oid:{first.unique_id}"})
    assert by_unique_id.found == [resource_id(first.entry_uuid)]


async def test_a_read_by_the_id_of_any_version_gives_the_newest(wire: Wire, app: FhirWire) -> None:
    first = await a_document(wire)
    before = await app.get(f"DocumentReference/{resource_id(first.entry_uuid)}")
    second, third = next_version(first), next_version(first)
    await updated(wire, second)
    await updated(wire, third, previous="2")

    for each in (first, second, third):
        reply = await app.get(f"DocumentReference/{resource_id(each.entry_uuid)}")
        assert reply.status == 200
        assert (reply.resource["id"], reply.resource["meta"]["versionId"]) == (resource_id(first.entry_uuid), "3")
        canonical = f"{app.base}/DocumentReference/{resource_id(first.entry_uuid)}"
        assert reply.headers["Content-Location"] == canonical
    path = f"DocumentReference/{resource_id(first.entry_uuid)}"
    changed = await app.get(path, If_None_Match=before.headers["ETag"])
    assert changed.status == 200
    assert (await app.get(path, If_None_Match=changed.headers["ETag"])).status == 304


async def test_the_etag_tells_the_version_and_what_else_is_told_with_it(wire: Wire, fhir: FhirWire) -> None:
    first = await a_document(wire)
    path = f"DocumentReference/{resource_id(first.entry_uuid)}"
    assert (await fhir.get(path)).headers["ETag"] == 'W/"1"'
    await updated(wire, next_version(first))
    second = (await fhir.get(path)).headers["ETag"]
    assert second.startswith('W/"2.')
    assert (await fhir.get(path, If_None_Match=second)).status == 304

    target = {"reference": path}
    new = document_entry(patient_id=first.patient_id)
    assert (await provided(fhir, bundle_with(new, relates_to=[{"code": "replaces", "target": target}]))).status == 200

    replaced = await fhir.get(path, If_None_Match=second)
    assert (replaced.status, replaced.resource["status"]) == (200, "superseded")
    assert replaced.resource["meta"]["versionId"] == "2"
    assert replaced.headers["ETag"].startswith('W/"2.')


async def test_the_url_of_a_document_stays_good_when_there_is_a_new_version(wire: Wire, app: FhirWire) -> None:
    first = await a_document(wire)
    second = next_version(first)
    await updated(wire, second)

    for each in (first, second):
        document = await app.get(f"Binary/{resource_id(each.entry_uuid)}")
        assert (document.status, document.content) == (200, CONTENT)


async def test_references_lead_to_the_ids_that_are_served(wire: Wire, app: FhirWire) -> None:
    patient = some_patient()
    entry, case = document_entry(patient_id=patient), folder(patient_id=patient)
    addendum = document_entry(patient_id=patient)
    assert (
        await wire.register(submission(entry, folders=(case,), associations=(has_member(case, entry),)))
    ).registry_response.succeeded
    appended = submission(addendum, associations=(association(AssociationType.APND, addendum, entry),))
    assert (await wire.register(appended)).registry_response.succeeded
    await updated(wire, next_version(entry))
    await updated(wire, next_version(case, title=text("Renamed")), submission_set_status=None)

    lists = await app.get("List", [("patient.identifier", of(patient))])
    documents = await app.get("DocumentReference", [("patient.identifier", of(patient))])

    served = {f"List/{each}" for each in lists.found} | {f"DocumentReference/{each}" for each in documents.found}
    assert f"List/{resource_id(case.entry_uuid)}" in served
    assert f"DocumentReference/{resource_id(entry.entry_uuid)}" in served
    entries = [each for found in lists.bundle["entry"] for each in found["resource"].get("entry", ())]
    relations = [each for found in documents.bundle["entry"] for each in found["resource"].get("relatesTo", ())]
    assert {each["item"]["reference"] for each in entries} <= served
    assert [each["target"]["reference"] for each in relations] == [f"DocumentReference/{resource_id(entry.entry_uuid)}"]
    [renamed] = [each["resource"] for each in lists.bundle["entry"] if each["resource"].get("title") == "Renamed"]
    assert (renamed["id"], renamed["meta"]["versionId"]) == (resource_id(case.entry_uuid), "2")


@pytest.mark.parametrize("named", [0, 1, 2], ids=["by its logicalID", "by an older version", "by the newest version"])
async def test_what_is_replaced_may_be_named_by_any_version(wire: Wire, app: FhirWire, named: int) -> None:
    first = await a_document(wire)
    second, third = next_version(first), next_version(first)
    await updated(wire, second)
    await updated(wire, third, previous="2")
    name = f"DocumentReference/{resource_id((first, second, third)[named].entry_uuid)}"
    new = document_entry(patient_id=first.patient_id)
    bundle = bundle_with(new, relates_to=[{"code": "replaces", "target": {"reference": name}}])
    bundle["entry"].append({"resource": PATCH, "request": {"method": "PATCH", "url": name}})

    reply = await provided(app, bundle)

    assert reply.status == 200, reply.content
    canonical = f"DocumentReference/{resource_id(first.entry_uuid)}"
    assert reply.bundle["entry"][-1]["response"]["location"] == canonical
    assert (await app.get(canonical)).resource["status"] == "superseded"
    superseded = await app.get(
        "DocumentReference", [("patient.identifier", of(first.patient_id or PATIENT)), ("status", "superseded")]
    )
    assert superseded.found == [resource_id(first.entry_uuid)]


@pytest.mark.parametrize("named", [0, 1], ids=["by its logicalID", "by the newest version"])
async def test_a_folder_is_added_to_by_the_id_of_any_version(wire: Wire, app: FhirWire, named: int) -> None:
    patient = some_patient()
    case, entry = folder(patient_id=patient), document_entry(patient_id=patient)
    sent = submission(entry, folders=(case,))
    assert (await wire.register(sent)).registry_response.succeeded
    new = next_version(case, title=text("Renamed"))
    await updated(wire, new, submission_set_status=None)
    name = f"List/{resource_id((case, new)[named].entry_uuid)}"
    added = {"item": {"reference": f"DocumentReference/{resource_id(entry.entry_uuid)}"}}
    held = sent_list(case) | {"entry": [added]}
    bundle = bundle_with(document_entry(patient_id=patient))
    bundle["entry"][0]["resource"]["entry"].append({"item": {"reference": name}})
    bundle["entry"].append(
        bundle_of((held, {"method": "PUT", "url": name}))["entry"][0] | {"fullUrl": f"{app.base}/{name}"}
    )

    reply = await provided(app, bundle)

    assert reply.status == 200, reply.content
    location = f"List/{resource_id(case.entry_uuid)}"
    assert reply.bundle["entry"][-1]["response"]["location"] == location
    assert [each["item"]["reference"] for each in (await app.get(location)).resource["entry"]] == [
        f"DocumentReference/{resource_id(entry.entry_uuid)}"
    ]


@pytest.mark.parametrize("put_by", [0, 1, 2], ids=["PUT by its logicalID", "by an older version", "by the newest"])
async def test_a_folder_and_a_document_that_are_named_by_ids_of_two_versions_are_one(
    wire: Wire, app: FhirWire, put_by: int
) -> None:
    patient = some_patient()
    case, entry, new = (
        folder(patient_id=patient),
        document_entry(patient_id=patient),
        document_entry(patient_id=patient),
    )
    assert (await wire.register(submission(entry, folders=(case,)))).registry_response.succeeded
    folders, entries = [case], [entry]
    for previous in ("1", "2"):
        folders.append(next_version(case, title=text(f"After {previous}")))
        await updated(wire, folders[-1], previous=previous, submission_set_status=None)
        entries.append(next_version(entry))
        await updated(wire, entries[-1], previous=previous)
    lists = [f"List/{resource_id(each.entry_uuid)}" for each in folders]
    documents = [{"item": {"reference": f"DocumentReference/{resource_id(each.entry_uuid)}"}} for each in entries]
    listed_as = lists[(put_by + 1) % 3]
    bundle = bundle_with(new)
    bundle["entry"][0]["resource"]["entry"] += [{"item": {"reference": listed_as}}, *documents]
    held = sent_list(case) | {"entry": documents}
    bundle["entry"] += bundle_of((held, {"method": "PUT", "url": lists[put_by]}))["entry"]
    del bundle["entry"][-1]["fullUrl"]

    reply = await provided(app, bundle)

    assert reply.status == 200, reply.content
    response = reply.bundle["entry"][-1]["response"]
    assert (response["status"], response["location"]) == ("200 OK", lists[0])
    for location in (lists[0], reply.bundle["entry"][0]["response"]["location"]):
        members = [each["item"]["reference"] for each in (await app.get(location)).resource["entry"]]
        assert members.count(documents[0]["item"]["reference"]) == 1
        assert len(members) == len(set(members)) == (1 if location == lists[0] else 2)
    [owner] = [each for each in await links_of(wire, reply) if each.target_object == entries[2].entry_uuid]
    assert owner.submission_set_status == "Reference"


async def links_of(wire: Wire, reply: FhirReply) -> list[Association]:
    """The Associations from the SubmissionSet of an answer."""
    owner = f"urn:uuid:{reply.bundle['entry'][0]['response']['location'].removeprefix('List/')}"
    answer = await wire.query("GetAssociations", uuid=f"('{owner}')")
    found = [codec.read(each.ebrim) for each in answer.query_response.found if each.ebrim]
    return [each for each in found if isinstance(each, Association) and each.source_object == owner]


async def test_a_folder_is_put_once(wire: Wire, app: FhirWire) -> None:
    patient = some_patient()
    case, entry = folder(patient_id=patient), document_entry(patient_id=patient)
    assert (await wire.register(submission(entry, folders=(case,)))).registry_response.succeeded
    renamed = next_version(case, title=text("Renamed"))
    await updated(wire, renamed, submission_set_status=None)
    names = [f"List/{resource_id(each.entry_uuid)}" for each in (case, renamed)]
    bundle = bundle_with(document_entry(patient_id=patient))
    bundle["entry"][0]["resource"]["entry"].append({"item": {"reference": names[0]}})
    for name in names:
        bundle["entry"] += bundle_of((sent_list(case), {"method": "PUT", "url": name}))["entry"]
        bundle["entry"][-1]["fullUrl"] = f"{app.base}/{name}"

    reply = await provided(app, bundle)

    [error] = [each for each in reply.resource["issue"] if each["severity"] == "error"]
    assert (reply.status, error["code"]) == (422, "duplicate")
    assert error["expression"] == ["Bundle.entry[4].request.url"]


# Versions by their numbers -------------------------------------------------------------------------------------------


async def test_each_version_of_a_document_is_read_by_its_number(wire: Wire, app: FhirWire) -> None:
    first = await a_document(wire, title=text("First"))
    path = f"DocumentReference/{resource_id(first.entry_uuid)}"
    alone = await app.get(f"{path}/_history/1")
    second = next_version(first, title=text("Second"))
    await updated(wire, second)
    await updated(wire, next_version(first, title=text("Third")), previous="2")

    replies = [await app.get(f"{path}/_history/{version}") for version in (1, 2, 3)]
    newest = await app.get(path)

    assert [each.status for each in replies] == [200] * 3
    assert [each.resource["meta"]["versionId"] for each in replies] == ["1", "2", "3"]
    assert {each.resource["id"] for each in replies} == {resource_id(first.entry_uuid)}
    titles = [each.resource["content"][0]["attachment"]["title"] for each in replies]
    assert titles == ["First", "Second", "Third"]
    assert [each.resource["status"] for each in replies] == ["superseded", "superseded", "current"]
    for version, each in enumerate(replies, 1):
        assert each.headers["ETag"].startswith(f'W/"{version}')
        assert each.headers["Content-Location"] == f"{app.base}/{path}/_history/{version}"
    assert (replies[2].resource, replies[2].headers["ETag"]) == (newest.resource, newest.headers["ETag"])
    assert (alone.resource["meta"]["versionId"], alone.resource["status"]) == ("1", "current")
    by_other = await app.get(f"DocumentReference/{resource_id(second.entry_uuid)}/_history/1")
    assert by_other.resource == replies[0].resource
    assert (await app.get(f"{path}/_history/1", If_None_Match=replies[0].headers["ETag"])).status == 304
    in_xml = await app.get(f"{path}/_history/2", Accept="application/fhir+xml")
    assert in_xml.resource == replies[1].resource
    assert (await app.send("HEAD", f"{path}/_history/2")).status == 200


async def a_document_with_an_addendum_and_in_a_folder(wire: Wire) -> tuple[DocumentEntry, DocumentEntry, Folder]:
    """The document, its addendum, and the Folder that holds it."""
    patient = some_patient()
    entry, case = document_entry(patient_id=patient), folder(patient_id=patient)
    addendum = document_entry(patient_id=patient)
    sent = submission(entry, folders=(case,), associations=(has_member(case, entry),))
    assert (await wire.register(sent)).registry_response.succeeded
    appended = submission(addendum, associations=(association(AssociationType.APND, addendum, entry),))
    assert (await wire.register(appended)).registry_response.succeeded
    return entry, addendum, case


async def test_a_past_version_tells_what_it_related_to_and_what_it_held(wire: Wire, app: FhirWire) -> None:
    entry, addendum, case = await a_document_with_an_addendum_and_in_a_folder(wire)
    await updated(wire, next_version(entry))
    await updated(wire, next_version(addendum))
    await updated(wire, next_version(case, title=text("Renamed")), submission_set_status=None)

    past = await app.get(f"DocumentReference/{resource_id(addendum.entry_uuid)}/_history/1")
    of_case = await app.get(f"List/{resource_id(case.entry_uuid)}/_history/1")

    document = f"DocumentReference/{resource_id(entry.entry_uuid)}"
    assert [each["target"]["reference"] for each in past.resource["relatesTo"]] == [document]
    assert [each["item"]["reference"] for each in of_case.resource["entry"]] == [document]
    assert (of_case.resource["title"], of_case.resource["meta"]["versionId"]) == ("Heart failure 2026", "1")
    assert (await app.get(f"List/{resource_id(case.entry_uuid)}/_history/2")).resource["title"] == "Renamed"


async def test_a_submission_set_has_one_version(wire: Wire, app: FhirWire) -> None:
    sent = submission(document_entry(patient_id=some_patient()))
    assert (await wire.register(sent)).registry_response.succeeded
    path = f"List/{resource_id(sent.submission_set.entry_uuid)}"

    assert (await app.get(f"{path}/_history/1")).resource == (await app.get(path)).resource
    assert (await app.get(f"{path}/_history/2")).status == 404


@pytest.mark.parametrize("version", ["2", "0", "01", "one", "1.0", "99999999999999999999"])
async def test_a_version_that_never_was_is_not_found(wire: Wire, app: FhirWire, version: str) -> None:
    first = await a_document(wire)

    reply = await app.get(f"DocumentReference/{resource_id(first.entry_uuid)}/_history/{version}")

    assert (reply.status, reply.issue["code"]) == (404, "not-found")
    for unknown in ("00000000-0000-4000-8000-000000000000", "x"):
        assert (await app.get(f"DocumentReference/{unknown}/_history/1")).status == 404
    of_list = await app.get(f"List/{resource_id(first.entry_uuid)}/_history/1")
    assert of_list.status == 404


async def test_the_capability_statement_says_that_versions_are_read(app: FhirWire) -> None:
    [rest] = (await app.get("metadata")).resource["rest"]

    for each in rest["resource"]:
        if each["type"] in ("DocumentReference", "List"):
            assert {"code": "vread"} in each["interaction"]
            assert each["readHistory"]
