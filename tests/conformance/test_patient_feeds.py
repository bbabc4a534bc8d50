"""A hospital feeds patients, and what the registry answers follows; on every kind of stores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio

from mhd.iti93_mobile_patient_identity_feed import EVENT
from mhd.mapping.identifiers import resource_id
from tests.builders import (
    PATIENT_AUTHORITY,
    association,
    document_entry,
    submission,
    unmeasured,
)
from tests.conformance.fhir_wire import FhirWire
from tests.conformance.test_find_document_references import of
from tests.conformance.wire import Reply, Wire, running_server
from tests.hl7v3_builders import patient_feed
from tests.server.hl7v2_sender import Sender, adt, link_change
from tests.server_process import free_port
from xds.ebxml_reader import read_rendering
from xds.errors import ErrorCode, ResponseStatus
from xds.hl7v2 import CX
from xds.metadata import AssociationType, AvailabilityStatus, DocumentEntry
from xds.transactions import ITI_44, Transaction

pytestmark = pytest.mark.asyncio(loop_scope="module")

FEED_PORT = free_port()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(stores: Mapping[str, Any]) -> AsyncIterator[str]:
    """A server that knows the patients that are fed to it, and no others."""
    patients = {
        "policy": "known",
        "assigning_authorities": [{"oid": PATIENT_AUTHORITY, "namespace_id": "NHS"}],
        "mllp_port": FEED_PORT,
    }
    async with running_server(**stores, patients=patients) as base:
        yield base


@pytest_asyncio.fixture(loop_scope="module")
async def wire(server: str) -> AsyncIterator[Wire]:
    async with aiohttp.ClientSession() as session:
        yield Wire(server, session)


async def feed(*messages: bytes) -> list[str]:
    """Send HL7 v2 messages, and return how each was acknowledged."""

    def send() -> list[str]:
        with Sender(FEED_PORT) as sender:
            return [sender.send(message)["MSA"][1] for message in messages]

    return await asyncio.to_thread(send)


def new_patients(*names: str) -> list[CX]:
    return [CX.of(f"{name}-{uuid4().hex}", PATIENT_AUTHORITY) for name in names]


async def submit(wire: Wire, patient: CX) -> Reply:
    entry = unmeasured(document_entry(patient_id=patient))
    return await wire.provide(submission(entry), {entry.entry_uuid: b"of " + patient.text.encode()})


async def documents_of(wire: Wire, patient: CX) -> list[DocumentEntry]:
    answer = await wire.query(
        "FindDocuments",
        XDSDocumentEntryPatientId=f"'{patient}'",
        XDSDocumentEntryStatus=f"('{AvailabilityStatus.APPROVED}')",
    )
    assert answer.query_response.status is ResponseStatus.SUCCESS
    found = [read_rendering(each.ebrim or b"") for each in answer.query_response.found]
    return [each for each in found if isinstance(each, DocumentEntry)]


async def test_a_patient_has_to_be_fed_before_documents_come(wire: Wire) -> None:
    (patient,) = new_patients("jane")

    assert (await submit(wire, patient)).codes == [ErrorCode.UNKNOWN_PATIENT_ID]
    assert await feed(adt("A01", f"{patient.id_number}^^^NHS")) == ["AA"]
    assert (await submit(wire, patient)).registry_response.succeeded
    assert len(await documents_of(wire, patient)) == 1


async def test_a_merge_by_a40_gives_the_survivor_all_documents(wire: Wire) -> None:
    jane, john = new_patients("jane", "john")
    await feed(adt("A04", jane.text), adt("A05", john.text))
    for patient in (jane, john):
        assert (await submit(wire, patient)).registry_response.succeeded

    assert await feed(adt("A40", jane.text, john.text)) == ["AA"]

    assert [entry.patient_id for entry in await documents_of(wire, jane)] == [jane, jane]
    assert await documents_of(wire, john) == []
    assert (await submit(wire, john)).codes == [ErrorCode.UNKNOWN_PATIENT_ID]


async def test_a_link_change_by_a43_gives_the_documents_of_a_local_id_to_another_patient(wire: Wire) -> None:
    jane, john = new_patients("jane", "john")
    await feed(adt("A01", jane.text), adt("A01", john.text))
    assert (await submit(wire, john)).registry_response.succeeded
    (before,) = await documents_of(wire, john)
    message = link_change(jane.text, (before.source_patient_id or jane).text, john.text)

    assert await feed(message, message) == ["AA", "AA"]  # whoever gets no answer sends again

    (entry,) = await documents_of(wire, jane)
    assert (entry.patient_id, entry.logical_id, entry.version) == (jane, before.entry_uuid, "2")
    assert await documents_of(wire, john) == []
    found = await references(wire, jane)
    assert [each["subject"]["identifier"]["value"] for each in found] == [jane.id_number]
    assert await references(wire, john) == []


async def references(wire: Wire, patient: CX) -> list[dict[str, Any]]:
    """What FHIR finds of a patient."""
    named = identifier_of(patient)
    query = {"patient.identifier": f"{named['system']}|{named['value']}", "status": "current"}
    async with wire.session.get(f"{wire.base}/fhir/DocumentReference", params=query) as response:
        bundle = await response.json(content_type=None)
    return [each["resource"] for each in bundle.get("entry", ())]


# --- HL7 v3 ----------------------------------------------------------------------------------------------------------

ADDED, REVISED, RESOLVED = ITI_44


async def feed_v3(wire: Wire, transaction: Transaction, message: bytes) -> tuple[str, str]:
    """Send an HL7 v3 message, and return how it was acknowledged, and the code of what is wrong with it."""
    answer = await wire.simple(transaction, message)
    assert answer.status == HTTPStatus.OK
    type_code = answer.root.find(".//{urn:hl7-org:v3}typeCode")
    detail = answer.root.find(".//{urn:hl7-org:v3}acknowledgementDetail/{urn:hl7-org:v3}code")
    target = answer.root.find(".//{urn:hl7-org:v3}targetMessage/{urn:hl7-org:v3}id")
    assert type_code is not None
    assert target is not None
    assert target.get("extension") == "35423"
    return type_code.get("code", ""), "" if detail is None else detail.get("code", "")


async def test_a_patient_may_be_added_and_merged_by_hl7_v3(wire: Wire) -> None:
    jane, john = new_patients("jane", "john")
    other = '<id root="1.2.3" extension="0815"/><id root="1.2.4"/>'

    assert await feed_v3(wire, ADDED, patient_feed("PRPA_IN201301UV02", jane, extra=other)) == ("CA", "")
    assert await feed_v3(wire, REVISED, patient_feed("PRPA_IN201302UV02", john)) == ("CA", "")
    for patient in (jane, john):
        assert (await submit(wire, patient)).registry_response.succeeded
    assert await feed_v3(wire, RESOLVED, patient_feed("PRPA_IN201304UV02", jane, john)) == ("CA", "")

    assert [entry.patient_id for entry in await documents_of(wire, jane)] == [jane, jane]
    assert (await submit(wire, john)).codes == [ErrorCode.UNKNOWN_PATIENT_ID]
    assert await feed_v3(wire, REVISED, patient_feed("PRPA_IN201302UV02", john)) == ("CE", "KEY205")


@pytest.mark.parametrize(
    ("interaction", "patient", "prior", "code"),
    [
        (0, None, None, "SYN105"),
        (0, CX.of("4711", "1.2.3"), None, "SYN102"),
        (1, CX.of("4711", PATIENT_AUTHORITY), CX.of("4712", PATIENT_AUTHORITY), "SYN102"),
        (2, CX.of("4711", PATIENT_AUTHORITY), None, "SYN105"),
        (2, CX.of("never", PATIENT_AUTHORITY), CX.of("neither", PATIENT_AUTHORITY), "KEY204"),
        (2, CX.of("never", PATIENT_AUTHORITY), CX.of("never", PATIENT_AUTHORITY), "KEY205"),
    ],
    ids=["no id", "another authority", "a merge as a revision", "a merge of nobody", "unknown patients", "with itself"],
)
async def test_what_hl7_v3_can_not_mean_is_refused_with_its_code(
    wire: Wire, interaction: int, patient: CX | None, prior: CX | None, code: str
) -> None:
    transaction = ITI_44[interaction]
    name = transaction.action.rpartition(":")[2]

    assert await feed_v3(wire, transaction, patient_feed(name, patient, prior)) == ("CE", code)


async def test_hl7_v3_that_is_not_in_order_is_a_fault_that_names_the_place(wire: Wire) -> None:
    message = patient_feed("PRPA_IN201301UV02", new_patients("jane")[0])

    answer = await wire.simple(ADDED, message.replace(b"registrationEvent", b"registration"))

    assert "hl7:subject" in answer.fault
    assert "registrationEvent" in answer.fault


async def test_hl7_v3_with_a_document_type_is_refused_unread(wire: Wire) -> None:
    message = patient_feed("PRPA_IN201301UV02", None, extra="&xxe;")

    assert (await wire.simple(ADDED, message)).status == HTTPStatus.BAD_REQUEST


# --- FHIR ------------------------------------------------------------------------------------------------------------


def fhir_patient(patient: CX, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:oid:1.2.3", "value": "0815"}, identifier_of(patient)],
        "name": [{"family": "Doe"}],
        **more,
    }


def identifier_of(patient: CX) -> dict[str, str]:
    return {"system": f"urn:oid:{patient.assigning_authority.universal_id}", "value": patient.id_number}


async def put(wire: Wire, patient: CX | None, body: Any) -> tuple[int, str]:
    """ITI-104: the HTTP status, and the code of the first issue."""
    named = identifier_of(patient) if patient is not None else {}
    query = {"identifier": f"{named['system']}|{named['value']}"} if named else {}
    async with wire.session.put(
        f"{wire.base}/fhir/Patient",
        params=query,
        data=json.dumps(body),
        headers={"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"},
    ) as response:
        return response.status, (await response.json(content_type=None))["issue"][0]["code"]


async def introduce(wire: Wire, *patients: CX) -> None:
    """Feed patients whom nobody named before (ITI-104)."""
    for patient in patients:
        status, code = await put(wire, patient, fhir_patient(patient))
        assert status == HTTPStatus.CREATED, code


async def test_a_patient_may_be_fed_and_merged_by_fhir(wire: Wire) -> None:
    jane, john = new_patients("jane", "john")

    for patient in (jane, john):
        assert (await put(wire, patient, fhir_patient(patient)))[0] == HTTPStatus.CREATED
        assert (await put(wire, patient, fhir_patient(patient)))[0] == HTTPStatus.OK
        assert (await submit(wire, patient)).registry_response.succeeded
    link = [{"type": "replaced-by", "other": {"identifier": identifier_of(jane)}}]
    assert (await put(wire, john, fhir_patient(john, active=False, link=link)))[0] == HTTPStatus.OK

    assert [entry.patient_id for entry in await documents_of(wire, jane)] == [jane, jane]
    assert await put(wire, john, fhir_patient(john)) == (HTTPStatus.UNPROCESSABLE_ENTITY, "duplicate")


async def test_a_patient_that_was_merged_tells_by_whom_it_was_replaced(wire: Wire) -> None:
    jane, john, joan = new_patients("jane", "john", "joan")
    await introduce(wire, jane, john, joan)
    for patient in (jane, john):
        await submit(wire, patient)
    of_jane, of_john = [(await references(wire, each))[0]["subject"]["reference"] for each in (jane, john)]
    fhir = FhirWire(wire.base, wire.session)
    assert "link" not in (await fhir.get(of_john)).resource

    for old, new in ((john, jane), (jane, joan)):
        link = [{"type": "replaced-by", "other": {"identifier": identifier_of(new)}}]
        assert (await put(wire, old, fhir_patient(old, active=False, link=link)))[0] == HTTPStatus.OK
        if new == jane:
            [link] = (await fhir.get(of_john)).resource["link"]
            assert link["type"] == "replaced-by"
            assert link["other"]["identifier"] == identifier_of(jane)
            assert of_jane.endswith(link["other"]["reference"])
    merged = [(await fhir.get(each)).resource["link"] for each in (of_john, of_jane)]

    assert {each["other"]["identifier"]["value"] for (each,) in merged} == {joan.id_number}


@pytest.mark.parametrize("has_documents", [True, False])
async def test_what_was_registered_for_a_merged_patient_is_told_as_before_but_about_the_survivor(
    wire: Wire, has_documents: bool
) -> None:
    jane, john = new_patients("jane", "john")
    await introduce(wire, jane, john)
    for patient in (john, jane) if has_documents else (john,):
        await submit(wire, patient)
    fhir = FhirWire(wire.base, wire.session)
    [document] = await references(wire, john)
    found = await fhir.get("List", {"patient.identifier": of(john), "status": "current", "code": "submissionset"})
    paths = [f"DocumentReference/{document['id']}", f"List/{found.found[0]}"]
    before = [await fhir.get(each) for each in paths]

    link = [{"type": "replaced-by", "other": {"identifier": identifier_of(jane)}}]
    assert (await put(wire, john, fhir_patient(john, active=False, link=link)))[0] == HTTPStatus.OK

    for path, told in zip(paths, before, strict=True):
        kind, name = path.split("/")
        now = await fhir.get(path)
        searched = await fhir.get(kind, {"patient.identifier": of(jane), "status": "current", "_id": name})
        assert [each["resource"] for each in searched.resource["entry"]] == [now.resource]
        subject = now.resource["subject"]
        assert subject["identifier"] == identifier_of(jane)
        survivor = await fhir.get(subject["reference"])
        assert survivor.resource["identifier"] == [identifier_of(jane)]
        # When the patient was merged is not known; all else is what it was.
        assert now.headers["ETag"] != told.headers["ETag"]
        del told.resource["subject"], told.resource["meta"]["lastUpdated"], now.resource["subject"]
        assert now.resource == told.resource
        assert "date" in now.resource


async def test_relations_between_documents_are_told_whenever_their_patients_were_merged(wire: Wire) -> None:
    jane, john = new_patients("jane", "john")
    await introduce(wire, jane, john)
    of_john, of_jane = (document_entry(patient_id=each) for each in (john, jane))
    for entry in (of_john, of_jane):
        assert (await wire.register(submission(entry))).registry_response.succeeded
    link = [{"type": "replaced-by", "other": {"identifier": identifier_of(jane)}}]
    assert (await put(wire, john, fhir_patient(john, active=False, link=link)))[0] == HTTPStatus.OK
    assert not any("relatesTo" in each for each in await references(wire, jane))

    appendices = {}
    for appended in (of_john, of_jane):
        entry = document_entry(patient_id=jane)
        related = submission(entry, associations=(association(AssociationType.APND, entry, appended),))
        assert (await wire.register(related)).registry_response.succeeded
        appendices[resource_id(entry.entry_uuid)] = f"DocumentReference/{resource_id(appended.entry_uuid)}"

    told = {
        each["id"]: relation["target"]["reference"].removeprefix(f"{wire.base}/fhir/")
        for each in await references(wire, jane)
        for relation in each.get("relatesTo", ())
    }
    assert told == appendices
    for name, reference in appendices.items():
        read = await FhirWire(wire.base, wire.session).get(f"DocumentReference/{name}")
        assert read.resource["relatesTo"][0]["target"]["reference"].endswith(reference)


async def test_a_fhir_search_ends_where_its_patient_is_merged_between_two_pages(wire: Wire) -> None:
    jane, john = new_patients("jane", "john")
    await introduce(wire, jane, john)
    await submit(wire, jane)
    await submit(wire, jane)
    named = identifier_of(jane)
    query = {"patient.identifier": f"{named['system']}|{named['value']}", "status": "current", "_count": "1"}
    async with wire.session.get(f"{wire.base}/fhir/DocumentReference", params=query) as response:
        first = await response.json(content_type=None)
    link = [{"type": "replaced-by", "other": {"identifier": named}}]
    assert (await put(wire, john, fhir_patient(john, active=False, link=link)))[0] == HTTPStatus.OK

    following = next(each["url"] for each in first["link"] if each["relation"] == "next")
    async with wire.session.get(following) as response:
        outcome = await response.json(content_type=None)

    assert response.status == HTTPStatus.GONE
    assert outcome["issue"][0]["code"] == "expired"


async def test_a_patient_that_replaces_another_may_say_so_itself(wire: Wire) -> None:
    jane, john = new_patients("jane", "john")
    await introduce(wire, john)
    named = identifier_of(john)
    reference = f"Patient?identifier={named['system']}|{named['value']}"
    link = [{"type": "replaces", "other": {"reference": reference}}, {"type": "seealso", "other": {"display": "Joan"}}]

    assert (await put(wire, jane, fhir_patient(jane, link=link)))[0] == HTTPStatus.CREATED

    assert (await submit(wire, john)).codes == [ErrorCode.UNKNOWN_PATIENT_ID]


@pytest.mark.parametrize(
    ("named", "body", "status", "code"),
    [
        (None, fhir_patient(CX.of("1", PATIENT_AUTHORITY)), 400, "required"),
        (CX.of("2", PATIENT_AUTHORITY), fhir_patient(CX.of("1", PATIENT_AUTHORITY)), 400, "value"),
        (CX.of("0815", "1.2.3"), fhir_patient(CX.of("1", PATIENT_AUTHORITY)), 422, "value"),
        (CX.of("1", PATIENT_AUTHORITY), {"resourceType": "Person"}, 400, "structure"),
        (CX.of("1", PATIENT_AUTHORITY), [fhir_patient(CX.of("1", PATIENT_AUTHORITY))], 400, "structure"),
        (CX.of("1", PATIENT_AUTHORITY), None, 400, "structure"),
        (
            CX.of("1", PATIENT_AUTHORITY),
            fhir_patient(CX.of("1", PATIENT_AUTHORITY), identifier=["1"]),
            400,
            "structure",
        ),
        (
            CX.of("1", PATIENT_AUTHORITY),
            fhir_patient(CX.of("1", PATIENT_AUTHORITY), identifier=[{"system": ["urn:oid:1.2"], "value": "1"}]),
            400,
            "structure",
        ),
        (
            CX.of("1", PATIENT_AUTHORITY),
            fhir_patient(CX.of("1", PATIENT_AUTHORITY), link=[{"type": "replaced-by", "other": {"display": "Jane"}}]),
            400,
            "value",
        ),
        (
            CX.of("never", PATIENT_AUTHORITY),
            fhir_patient(
                CX.of("never", PATIENT_AUTHORITY),
                link=[{"type": "replaced-by", "other": {"identifier": identifier_of(CX.of("no", PATIENT_AUTHORITY))}}],
            ),
            422,
            "not-found",
        ),
    ],
    ids=[
        "no identifier",
        "another identifier",
        "another authority",
        "no Patient",
        "several Patients",
        "nothing",
        "an identifier that is a string",
        "a system that is an array",
        "a link to a name",
        "unknown patients",
    ],
)
async def test_what_a_fhir_feed_can_not_mean_is_refused(
    wire: Wire, named: CX | None, body: Any, status: int, code: str
) -> None:
    assert await put(wire, named, body) == (status, code)


def fhir_message(*patients: dict[str, Any], method: str = "PUT", event: str = EVENT) -> dict[str, Any]:
    history = {
        "resourceType": "Bundle",
        "type": "history",
        "entry": [
            {
                "fullUrl": f"https://pmir.example/Patient/{number}",
                "resource": patient,
                "request": {"method": method, "url": f"Patient/{number}"},
                "response": {"status": "200"},
            }
            for number, patient in enumerate(patients)
        ],
    }
    header = {"resourceType": "MessageHeader", "id": "m1", "eventUri": event, "source": {"endpoint": "urn:x"}}
    return {
        "resourceType": "Bundle",
        "type": "message",
        "entry": [{"fullUrl": "urn:uuid:1", "resource": header}, {"fullUrl": "urn:uuid:2", "resource": history}],
    }


async def process(wire: Wire, message: Any) -> tuple[int, dict[str, Any]]:
    async with wire.session.post(
        f"{wire.base}/fhir/$process-message",
        data=json.dumps(message),
        headers={"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"},
    ) as response:
        return response.status, await response.json(content_type=None)


async def test_patients_may_be_fed_and_merged_by_fhir_messages(wire: Wire) -> None:
    jane, john = new_patients("jane", "john")
    link = [{"type": "replaced-by", "other": {"reference": "Patient/1"}}]

    status, answer = await process(wire, fhir_message(fhir_patient(jane), fhir_patient(john), method="POST"))
    merged, _ = await process(wire, fhir_message(fhir_patient(john, active=False, link=link), fhir_patient(jane)))

    assert (status, merged) == (HTTPStatus.OK, HTTPStatus.OK)
    assert answer["entry"][0]["resource"]["response"] == {"identifier": "m1", "code": "ok"}
    assert (await submit(wire, jane)).registry_response.succeeded
    assert (await submit(wire, john)).codes == [ErrorCode.UNKNOWN_PATIENT_ID]


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"method": "DELETE"}, 422), ({"event": "urn:other"}, 400)],
    ids=["a removal", "another event"],
)
async def test_a_fhir_message_that_can_not_be_taken_changes_nothing(
    wire: Wire, changes: dict[str, Any], status: int
) -> None:
    (jane,) = new_patients("jane")

    assert (await process(wire, fhir_message(fhir_patient(jane), **changes)))[0] == status
    assert (await submit(wire, jane)).codes == [ErrorCode.UNKNOWN_PATIENT_ID]


async def test_a_fhir_message_of_several_patients_of_whom_one_can_not_be_taken_changes_nothing(wire: Wire) -> None:
    jane, john, jack, judy = new_patients("jane", "john", "jack", "judy")
    merged = fhir_patient(john, link=[{"type": "replaced-by", "other": {"identifier": identifier_of(jane)}}])
    assert (await process(wire, fhir_message(fhir_patient(jane), fhir_patient(john), merged)))[0] == HTTPStatus.OK
    into_john = fhir_patient(jane, link=[{"type": "replaced-by", "other": {"identifier": identifier_of(john)}}])

    updated = await process(wire, fhir_message(fhir_patient(jack), fhir_patient(john)))
    replaced = await process(wire, fhir_message(fhir_patient(judy), into_john))
    circle = await process(
        wire,
        fhir_message(
            fhir_patient(jack),
            fhir_patient(judy),
            fhir_patient(jack, link=[{"type": "replaced-by", "other": {"identifier": identifier_of(judy)}}]),
            fhir_patient(judy, link=[{"type": "replaced-by", "other": {"identifier": identifier_of(jack)}}]),
        ),
    )

    assert [status for status, _ in (updated, replaced, circle)] == [422] * 3
    assert [answer["issue"][0]["expression"][0].split(".")[3] for _, answer in (updated, replaced, circle)] == [
        "entry[1]", "entry[1]", "entry[3]",
    ]  # fmt: skip
    for never_named in (jack, judy):
        assert (await submit(wire, never_named)).codes == [ErrorCode.UNKNOWN_PATIENT_ID]


@pytest.mark.parametrize(
    "message",
    [
        [],
        None,
        {"resourceType": "Bundle", "type": "message", "entry": [["x"]]},
        {"resourceType": "Bundle", "entry": "x"},
    ],
    ids=["an array", "nothing", "an entry that is an array", "entries that are a string"],
)
async def test_a_fhir_message_of_another_form_is_refused_by_name(wire: Wire, message: Any) -> None:
    status, answer = await process(wire, message)

    assert status == 400
    assert {issue["code"] for issue in answer["issue"]} <= {"structure", "required", "value"}
