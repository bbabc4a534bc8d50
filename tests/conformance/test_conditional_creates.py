"""ifNoneExist in a Bundle [ITI-65]: what is there is answered and referred to, what is not is made, all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
import pytest_asyncio

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import written
from mhd.mapping.identifiers import resource_id
from tests.builders import CONTENT, document_entry, folder, submission, submission_set, text, unmeasured
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.test_documents_in_and_out import entries_of
from tests.conformance.test_fhir_submissions import JSON, XML, by_soap, provided
from tests.conformance.test_fhir_versions import updated
from tests.conformance.test_find_document_references import of, some_patient
from tests.conformance.wire import Wire, running_server
from tests.mhd.recipients import bundle_of, sent_document, sent_list
from tests.mhd.test_iti65_provide_document_bundle import PATCH
from tests.mhd.test_iti105_simplified_publish import published
from tests.xds.broken_updates import next_version, status_update
from xds.ebxml_messages import register_request
from xds.hl7v2 import CX
from xds.metadata import Association, DocumentEntry, Folder, SubmissionSet
from xds.transactions import ITI_57

pytestmark = pytest.mark.asyncio(loop_scope="module")


def named(item: DocumentEntry | SubmissionSet | Folder) -> str:
    """What asks for an object by its uniqueId."""
    return f"identifier=urn:ietf:rfc:3986|urn:oid:{item.unique_id}"


def where_not_there(bundle: Json, *numbers: int, query: str | None = None) -> Json:
    """The Bundle, with these entries made only where they are not there. query: None: by their own uniqueId."""
    for number in numbers:
        entry = bundle["entry"][number]
        resource = entry["resource"]
        own = resource.get("masterIdentifier") or next(
            each for each in resource["identifier"] if each["use"] == "usual"
        )
        entry["request"]["ifNoneExist"] = query or f"identifier={own['system']}|{own['value']}"
    return bundle


def statuses(reply: FhirReply) -> list[str]:
    return [each["response"]["status"][:3] for each in reply.bundle["entry"]]


def locations(reply: FhirReply) -> list[str]:
    return [each["response"]["location"] for each in reply.bundle["entry"]]


def a_document(patient: CX) -> DocumentEntry:
    return document_entry(patient_id=patient)


async def held(app: FhirWire, patient: CX) -> tuple[int, int]:
    """How many documents and Lists the patient has."""
    of_patient = {"patient.identifier": of(patient)}
    documents, lists = await app.get("DocumentReference", of_patient), await app.get("List", of_patient)
    return documents.bundle["total"], lists.bundle["total"]


async def registered(app: FhirWire, entry: DocumentEntry) -> None:
    assert (await provided(app, submission_of(entry))).status == 200


def submission_of(*entries: DocumentEntry, item: SubmissionSet | None = None) -> Json:
    """A SubmissionSet, and behind it DocumentReference and Binary of each document."""
    owner = item or submission_set(patient_id=entries[0].patient_id)
    return bundle_of(sent_list(owner, *entries), *(part for each in entries for part in sent_document(each)))


@pytest.mark.parametrize("kind", [JSON, XML])
async def test_a_document_that_is_there_is_not_made_again_and_the_submission_refers_to_it(
    wire: Wire, app: FhirWire, kind: str
) -> None:
    patient = some_patient()
    there, new = a_document(patient), a_document(patient)
    await registered(app, there)
    owner = submission_set(patient_id=patient)
    again = document_entry(patient_id=patient, unique_id=there.unique_id, title=text("Sent again"))
    bundle = where_not_there(submission_of(again, new, item=owner), 1, 3)

    reply = await provided(app, bundle, kind)

    assert statuses(reply) == ["201", "200", "200", "201", "201"]
    old, other = resource_id(there.entry_uuid), resource_id(new.entry_uuid)
    assert locations(reply)[1:] == [
        f"DocumentReference/{old}", f"Binary/{old}", f"DocumentReference/{other}", f"Binary/{other}",
    ]  # fmt: skip
    is_told = app.base == f"{wire.base}/fhir"  # a registry elsewhere does not tell times
    made = [is_told, False, False, is_told, is_told]
    assert ["lastModified" in each["response"] for each in reply.bundle["entry"]] == made
    assert (await app.get(locations(reply)[1])).resource["content"][0]["attachment"]["title"] != "Sent again"
    assert (await app.get(locations(reply)[2])).content == CONTENT
    held_by_set = (await app.get(locations(reply)[0])).resource["entry"]
    assert {each["item"]["reference"] for each in held_by_set} == {f"DocumentReference/{each}" for each in (old, other)}
    assert await held(app, patient) == (2, 2)
    found = await by_soap(wire, owner.unique_id or "")
    links = [each for each in found if isinstance(each, Association) and each.source_object == owner.entry_uuid]
    assert {each.target_object: each.submission_set_status for each in links} == {
        there.entry_uuid: "Reference", new.entry_uuid: "Original",
    }  # fmt: skip


async def test_a_submission_may_hold_nothing_but_what_is_there(app: FhirWire) -> None:
    patient = some_patient()
    there = a_document(patient)
    await registered(app, there)

    reply = await provided(app, where_not_there(submission_of(there), 1))

    assert statuses(reply) == ["201", "200", "200"]
    [member] = (await app.get(locations(reply)[0])).resource["entry"]
    assert member["item"]["reference"] == f"DocumentReference/{resource_id(there.entry_uuid)}"
    assert await held(app, patient) == (1, 2)


async def test_a_bundle_that_is_there_as_a_whole_may_be_sent_again(app: FhirWire) -> None:
    patient = some_patient()
    entry, case, owner = a_document(patient), folder(patient_id=patient), submission_set(patient_id=patient)
    bundle = where_not_there(
        bundle_of(sent_list(owner, entry, case), sent_list(case, entry), *sent_document(entry)), 0, 1, 2
    )

    first, second = await provided(app, bundle), await provided(app, bundle)
    as_stored = await app.send(
        "POST", "", data=written(bundle), headers={"Content-Type": JSON, "Prefer": "return=representation"}
    )

    assert statuses(first) == ["201"] * 4
    assert statuses(second) == statuses(as_stored) == ["200"] * 4
    assert locations(first) == locations(second)
    assert [each["resource"]["resourceType"] for each in as_stored.bundle["entry"] if "resource" in each] == [
        "List", "List", "DocumentReference",
    ]  # fmt: skip
    assert await held(app, patient) == (1, 2)


async def test_of_bundles_that_are_sent_at_once_one_is_registered_and_all_are_answered(app: FhirWire) -> None:
    patient = some_patient()
    bundle = where_not_there(submission_of(a_document(patient)), 0, 1)

    replies = await asyncio.gather(*(provided(app, bundle) for _ in range(6)))

    assert [each.status for each in replies] == [200] * 6
    assert len({tuple(locations(each)) for each in replies}) == 1
    assert sorted(tuple(statuses(each)) for each in replies) == [("200",) * 3] * 5 + [("201",) * 3]
    assert await held(app, patient) == (1, 1)


async def test_a_submission_set_that_is_there_takes_nothing_more(app: FhirWire) -> None:
    patient = some_patient()
    owner, new = submission_set(patient_id=patient), a_document(patient)
    assert (await provided(app, submission_of(a_document(patient), item=owner))).status == 200

    reply = await provided(app, where_not_there(submission_of(new, item=owner), 0, 1))

    assert reply.status == 409
    assert reply.issue["code"] == "conflict"
    assert reply.issue["expression"] == ["Bundle.entry[0].request.ifNoneExist"]
    assert "Bundle.entry[1]" in reply.issue["details"]["text"]
    assert await held(app, patient) == (1, 1)


async def test_what_several_have_is_not_made(wire: Wire, app: FhirWire) -> None:
    patient = some_patient()
    first = a_document(patient)
    second = document_entry(patient_id=patient, unique_id=first.unique_id)
    for each in (first, second):
        sent = submission(unmeasured(each))
        assert (await wire.provide(sent, {each.entry_uuid: CONTENT})).registry_response.succeeded
    new = a_document(patient)

    reply = await provided(app, where_not_there(submission_of(first, new), 1))

    assert reply.status == 412
    assert reply.issue["code"] == "multiple-matches"
    assert reply.issue["expression"] == ["Bundle.entry[1].request.ifNoneExist"]
    assert await held(app, patient) == (2, 2)


async def test_a_folder_that_is_there_stays_as_it_is_and_that_is_told(app: FhirWire) -> None:
    patient = some_patient()
    case, entry, new = folder(patient_id=patient), a_document(patient), a_document(patient)
    owner = submission_set(patient_id=patient)
    assert (
        await provided(app, bundle_of(sent_list(owner, entry, case), sent_list(case, entry), *sent_document(entry)))
    ).status == 200
    later = submission_set(patient_id=patient)
    bundle = bundle_of(sent_list(later, new, case), sent_list(case, new), *sent_document(new))

    reply = await provided(app, where_not_there(bundle, 1, 2))

    assert statuses(reply) == ["201", "200", "201", "201"]
    assert locations(reply)[1] == f"List/{resource_id(case.entry_uuid)}"
    [issue] = reply.bundle["entry"][1]["response"]["outcome"]["issue"]
    assert (issue["severity"], issue["expression"]) == ("warning", ["Bundle.entry[1].resource.entry"])
    [member] = (await app.get(locations(reply)[1])).resource["entry"]
    assert member["item"]["reference"] == f"DocumentReference/{resource_id(entry.entry_uuid)}"


async def test_a_new_folder_may_hold_a_document_that_is_there(app: FhirWire) -> None:
    patient = some_patient()
    there, case = a_document(patient), folder(patient_id=patient)
    await registered(app, there)
    owner = submission_set(patient_id=patient)
    bundle = bundle_of(sent_list(owner, there, case), sent_list(case, there), *sent_document(there))

    reply = await provided(app, where_not_there(bundle, 1, 2))

    assert statuses(reply) == ["201", "201", "200", "200"]
    [member] = (await app.get(locations(reply)[1])).resource["entry"]
    assert member["item"]["reference"] == f"DocumentReference/{resource_id(there.entry_uuid)}"


async def test_a_replacement_may_be_sent_again_with_its_patch(app: FhirWire) -> None:
    patient = some_patient()
    old, new, owner = a_document(patient), a_document(patient), submission_set(patient_id=patient)
    await registered(app, old)
    name = f"DocumentReference/{resource_id(old.entry_uuid)}"
    parts = sent_document(new, relates_to=[{"code": "replaces", "target": {"reference": name}}])
    bundle = bundle_of(sent_list(owner, new), *parts, (PATCH, {"method": "PATCH", "url": name}))

    first = await provided(app, where_not_there(bundle, 0, 1))
    second = await provided(app, bundle)

    assert statuses(first) == ["201", "201", "201", "200"]
    assert statuses(second) == ["200"] * 4
    assert locations(second) == locations(first)
    assert (await app.get(name)).resource["status"] == "superseded"


@pytest.mark.parametrize("version", [0, 1], ids=["by its logicalID", "by a version"])
async def test_what_is_there_may_be_named_by_any_of_its_ids(wire: Wire, app: FhirWire, version: int) -> None:
    patient = some_patient()
    there = a_document(patient)
    await registered(app, there)
    [stored] = await entries_of(wire, there.unique_id or "")
    second, third = next_version(stored), next_version(stored)
    await updated(wire, second)
    await updated(wire, third, previous="2")
    uuid = (stored, second)[version].entry_uuid

    by_uuid = where_not_there(submission_of(a_document(patient)), 1, query=f"identifier=urn:ietf:rfc:3986|{uuid}")
    by_unique_id = where_not_there(submission_of(there), 1)

    for bundle in (by_uuid, by_unique_id):
        reply = await provided(app, bundle)
        assert statuses(reply) == ["201", "200", "200"]
        assert locations(reply)[1] == f"DocumentReference/{resource_id(there.entry_uuid)}"
        [member] = (await app.get(locations(reply)[0])).resource["entry"]
        assert member["item"]["reference"] == locations(reply)[1]
    assert (await held(app, patient))[0] == 1


async def test_what_is_there_counts_also_where_it_is_deprecated(wire: Wire, app: FhirWire) -> None:
    patient = some_patient()
    case, entry, new = folder(patient_id=patient), a_document(patient), a_document(patient)
    first = bundle_of(sent_list(submission_set(patient_id=patient), entry, case), sent_list(case, entry))
    first["entry"] += bundle_of(*sent_document(entry))["entry"]
    assert (await provided(app, first)).status == 200
    for each in (case, entry):
        update = status_update(each.entry_uuid)
        owner = replace(update.submission_set, patient_id=patient)
        answer = await wire.simple(ITI_57, register_request(replace(update, submission_sets=(owner,))))
        assert answer.registry_response.succeeded, answer.content
    later = bundle_of(sent_list(submission_set(patient_id=patient), new, case), sent_list(case), *sent_document(new))

    reply = await provided(app, where_not_there(later, 1, 2))
    of_deprecated = await provided(app, where_not_there(submission_of(entry), 1))

    assert statuses(reply) == ["201", "200", "201", "201"]
    assert locations(reply)[1] == f"List/{resource_id(case.entry_uuid)}"
    assert of_deprecated.status == 422  # as for any other association to it
    assert of_deprecated.issue["details"]["coding"][0]["code"] == "XDSRegistryDeprecatedDocumentError"


async def test_a_document_of_another_patient_is_not_submitted_for_this_one(app: FhirWire) -> None:
    patient, other = some_patient(), some_patient()
    there = a_document(other)
    await registered(app, there)
    sent = document_entry(patient_id=patient, unique_id=there.unique_id)

    reply = await provided(app, where_not_there(submission_of(sent), 1))

    assert reply.status == 422
    assert reply.issue["details"]["coding"][0]["code"] == "XDSPatientIdDoesNotMatch"
    assert await held(app, patient) == (0, 0)


NOT_TOLD = [
    (1, "_id=1"),
    (1, "identifier=urn:ietf:rfc:3986|urn:oid:1.2.3&status=current"),
    (1, "identifier=urn:ietf:rfc:3986|urn:oid:1.2.3,urn:ietf:rfc:3986|urn:oid:1.2.4"),
    (1, "identifier:not=urn:ietf:rfc:3986|urn:oid:1.2.3"),
    (1, "identifier=http://hospital.example/documents|17"),
    (1, "identifier=urn:ietf:rfc:3986|"),
    (1, "identifier=|urn:oid:1.2.3"),
    (1, "List?identifier=urn:ietf:rfc:3986|urn:oid:1.2.3"),
    (1, "identifier"),
    (0, "code=submissionset"),
    (2, "identifier=urn:ietf:rfc:3986|urn:oid:1.2.3"),
    (3, "identifier=urn:oid:1.2.3|4711"),
]


@pytest.mark.parametrize(("number", "query"), NOT_TOLD)
async def test_what_can_not_be_told_is_refused_and_never_passed_over(app: FhirWire, number: int, query: str) -> None:
    patient = some_patient()
    bundle = submission_of(a_document(patient))
    bundle["entry"].append(_patient(patient))
    bundle["entry"][number]["request"]["ifNoneExist"] = query

    reply = await provided(app, bundle)

    assert reply.status == 422
    assert reply.issue["expression"] == [f"Bundle.entry[{number}].request.ifNoneExist"]
    assert reply.issue["code"] == "not-supported"
    assert await held(app, patient) == (0, 0)


def _patient(patient: CX) -> Json:
    authority = patient.assigning_authority.universal_id
    resource = {
        "resourceType": "Patient",
        "identifier": [{"system": f"urn:oid:{authority}", "value": patient.id_number}],
    }
    return {"resource": resource, "request": {"method": "POST", "url": "Patient"}}


async def test_the_patient_of_a_bundle_is_there_whoever_asks(app: FhirWire) -> None:
    patient = some_patient()
    bundle = submission_of(a_document(patient))
    bundle["entry"].append(_patient(patient))
    bundle["entry"][3]["request"]["ifNoneExist"] = f"identifier={of(patient)}"

    reply = await provided(app, bundle)

    assert [each["response"]["status"][:3] for each in reply.bundle["entry"]] == ["201", "201", "201", "200"]


async def test_a_condition_stands_with_a_post_alone(app: FhirWire) -> None:
    patient = some_patient()
    case, entry = folder(patient_id=patient), a_document(patient)
    owner = submission_set(patient_id=patient)
    changed = (sent_list(case, entry), {"method": "PUT", "url": f"List?{named(case)}", "ifNoneExist": named(case)})

    reply = await provided(app, bundle_of(sent_list(owner, entry, case), changed, *sent_document(entry)))

    assert (reply.status, reply.issue["expression"]) == (422, ["Bundle.entry[1].request.ifNoneExist"])


async def test_all_conditions_that_can_not_be_told_are_told_at_once(app: FhirWire) -> None:
    bundle = submission_of(a_document(some_patient()))
    for entry in bundle["entry"]:
        entry["request"]["ifNoneExist"] = "name=x"

    reply = await provided(app, bundle)

    assert reply.status == 422
    assert len({tuple(each["expression"]) for each in reply.resource["issue"]}) == 3


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["here", "elsewhere"])
async def publishing(
    request: pytest.FixtureRequest, server: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[FhirWire]:
    """An app of a server where Simplified Publish is offered, and of one in front of another server."""
    settings: dict[str, Any] = {"mhd": {"simplified_publish": True}}
    if request.param == "elsewhere":
        settings |= {"actors": ["mhd"], "registry_url": f"{server}/xds/registry"}
        settings |= {"repository_url": f"{server}/xds/repository"}
    async with (
        running_server(tmp_path_factory.mktemp("publishing"), **settings) as base,
        aiohttp.ClientSession() as session,
    ):
        yield FhirWire(base, session)


async def test_a_document_is_published_where_it_is_not_there(publishing: FhirWire) -> None:
    patient = some_patient()
    entry = a_document(patient)

    async def publish(resource: Json, query: str) -> FhirReply:
        headers = {"Content-Type": JSON, "If-None-Exist": query}
        return await publishing.send("POST", "DocumentReference", data=written(resource), headers=headers)

    first = await publish(published(entry), named(entry))
    second = await publish(published(entry, description="Sent again"), named(entry))
    refused = await publish(published(a_document(patient)), "title=x")

    assert (first.status, second.status, refused.status) == (201, 200, 422)
    assert second.headers["Location"] == first.headers["Location"]
    assert second.resource["id"] == first.resource["id"]
    assert "description" not in second.resource
    assert refused.issue["details"]["text"].startswith("If-None-Exist is 'title=x'")
    assert await held(publishing, patient) == (1, 1)


@pytest.mark.parametrize(
    "before", ["?", "DocumentReference?", "https://other.example/fhir/DocumentReference?_format=xml&"]
)
async def test_a_condition_may_be_the_url_of_a_search(publishing: FhirWire, before: str) -> None:
    patient = some_patient()
    entry = a_document(patient)
    headers = {
        "Content-Type": JSON,
        "If-None-Exist": before + urlencode({"identifier": named(entry).partition("=")[2]}),
    }
    bundle = submission_of(a_document(patient), document_entry(patient_id=patient, unique_id=entry.unique_id))

    sent = [
        await publishing.send("POST", "DocumentReference", data=written(published(entry)), headers=headers)
        for _ in range(2)
    ]
    in_a_bundle = await provided(publishing, where_not_there(bundle, 3, query=f"{before}{named(entry)}"))

    assert [each.status for each in sent] == [201, 200]
    assert statuses(in_a_bundle) == ["201", "201", "201", "200", "200"]


async def test_a_condition_is_no_search_for_another_type(publishing: FhirWire) -> None:
    entry = a_document(some_patient())
    headers = {"Content-Type": JSON, "If-None-Exist": f"List?{named(entry)}"}

    refused = await publishing.send("POST", "DocumentReference", data=written(published(entry)), headers=headers)

    assert (refused.status, refused.issue["code"]) == (422, "not-supported")


async def test_the_capability_statement_says_that_conditions_are_understood(app: FhirWire) -> None:
    [rest] = (await app.get("metadata")).resource["rest"]

    told = {each["type"]: each.get("conditionalCreate", False) for each in rest["resource"]}

    assert (told["DocumentReference"], told["List"], told["Binary"]) == (True, True, False)


async def test_a_submission_set_that_is_too_large_to_be_told_is_refused(tmp_path: Path) -> None:
    patient = some_patient()
    bundle = where_not_there(submission_of(*(a_document(patient) for _ in range(2))), 0)
    async with running_server(tmp_path, limits={"results": 4}) as base, aiohttp.ClientSession() as session:
        fhir = FhirWire(base, session)
        assert (await provided(fhir, bundle)).status == 200

        reply = await provided(fhir, bundle)

        assert (reply.status, reply.issue["code"]) == (400, "too-costly")
        assert await held(fhir, patient) == (2, 1)
