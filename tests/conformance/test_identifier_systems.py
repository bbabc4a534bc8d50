"""Apps call systems of identifiers by URIs, and XDS knows their OIDs: everybody finds the same, in his own words."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio

from mhd.iti93_mobile_patient_identity_feed import EVENT
from server.settings import Settings, SettingsProblem
from server.store_opening import metadata_store
from tests.builders import (
    CONTENT,
    PATIENT_AUTHORITY,
    document_entry,
    folder,
    oid,
    submission,
    submission_set,
    unmeasured,
)
from tests.conformance.authorization_server import AUDIENCE, authorization_server
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.test_patient_feeds import documents_of
from tests.conformance.wire import Wire, running_server
from tests.mhd.recipients import bundle_of, sent_document, sent_list
from xds.errors import ErrorCode
from xds.hl7v2 import CX, XCN, XON, CXi
from xds.metadata import Author, DocumentEntry

pytestmark = pytest.mark.asyncio(loop_scope="module")

NHS_NUMBER = "https://fhir.nhs.uk/Id/nhs-number"
HOSPITAL = "2.25.7331"
HOSPITAL_NUMBER = "https://hospital.example/id/patient"
ORDERS = "2.25.7332"
ORDER_NUMBER = "https://hospital.example/id/order"
DOCUMENTS = "2.25.7333"
DOCUMENT_NUMBER = "urn:uuid:1479257a-ce8f-482a-89fa-429ac066c158"
NPI = "http://hl7.org/fhir/sid/us-npi"
NPI_OID = "2.16.840.1.113883.4.6"
FHIR_JSON = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}

NAMED = {HOSPITAL: HOSPITAL_NUMBER, ORDERS: ORDER_NUMBER, DOCUMENTS: DOCUMENT_NUMBER}
PATIENTS: Mapping[str, Any] = {
    "policy": "known",
    "assigning_authorities": [{"oid": PATIENT_AUTHORITY, "namespace_id": "NHS", "uri": NHS_NUMBER}],
}


def named_systems(directory: Path) -> dict[str, Any]:
    """Settings of [mhd] that name the systems of the hospital."""
    file = directory / "systems.toml"
    file.write_text(systems_file(NAMED))
    return {"code_systems": file}


def systems_file(named: Mapping[str, str]) -> str:
    return "".join(f'[[code_system]]\noid = "{each}"\nuri = "{uri}"\n' for each, uri in named.items())


def some_patient() -> CX:
    return CX.of(uuid4().hex[:12], PATIENT_AUTHORITY)


def by_uri(patient: CX) -> str:
    return f"{NHS_NUMBER}|{patient.id_number}"


def by_oid(patient: CX) -> str:
    return f"urn:oid:{PATIENT_AUTHORITY}|{patient.id_number}"


def nhs_number(patient: CX) -> dict[str, str]:
    return {"system": NHS_NUMBER, "value": patient.id_number}


def some_entry(patient: CX, **changes: Any) -> DocumentEntry:
    """An entry, of which every identifier is of an authority that has a URI."""
    author = Author(
        author_person=XCN(f"1234567893^Tamm^Mari^^^^^^&{NPI_OID}&ISO"),
        author_institution=(XON(f"Ward 7^^^^^&{HOSPITAL}&ISO^^^^W7"),),
    )
    entry = document_entry(
        patient_id=patient,
        unique_id=f"{DOCUMENTS}^{uuid4().hex[:12]}",
        author=(author,),
        legal_authenticator=XCN(f"1234567894^Kask^Jaan^^^^^^&{NPI_OID}&ISO"),
        source_patient_id=CX.of("T-4711", HOSPITAL),
        source_patient_info=(f"PID-3|T-4711^^^&{HOSPITAL}&ISO", "PID-5|Saar^Liis"),
        reference_id_list=(CXi(f"{uuid4().hex[:12]}^^^&{ORDERS}&ISO^urn:ihe:iti:xds:2013:order"),),
    )
    return unmeasured(replace(entry, **changes))


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Settings by which patients have to be fed, and whoever numbers them or anything else has a URI."""
    return {"patients": PATIENTS, "mhd": named_systems(tmp_path_factory.mktemp("settings"))}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(stores: Mapping[str, Any], front: Mapping[str, Any]) -> AsyncIterator[str]:
    async with running_server(**stores, **front) as base:
        yield base


async def fed(wire: Wire, patient: CX, **more: Any) -> FhirReply:
    """ITI-104, as an app of the NHS sends it."""
    body = {"resourceType": "Patient", "identifier": [nhs_number(patient)], **more}
    return await FhirWire(wire.base, wire.session).send(
        "PUT", "Patient", {"identifier": by_uri(patient)}, data=json.dumps(body), headers=FHIR_JSON
    )


async def known_patient(wire: Wire) -> CX:
    patient = some_patient()
    assert (await fed(wire, patient)).status == HTTPStatus.CREATED
    return patient


def named_by_uris(resource: Any) -> Any:
    """A resource with URIs of systems in place of their OIDs, as an app writes it that knows no OIDs."""
    text = json.dumps(resource)
    for each, uri in {PATIENT_AUTHORITY: NHS_NUMBER, NPI_OID: NPI, **NAMED}.items():
        text = text.replace(f'"urn:oid:{each}"', f'"{uri}"')
    return json.loads(text)


async def provided(app: FhirWire, entry: DocumentEntry) -> FhirReply:
    """ITI-65 with a Folder, of which nothing is named by an OID that has a URI."""
    patient = entry.patient_id
    item, ward = submission_set(patient_id=patient, author=entry.author), folder(patient_id=patient)
    bundle = named_by_uris(bundle_of(sent_list(item, entry, ward), sent_list(ward, entry), *sent_document(entry)))
    assert PATIENT_AUTHORITY not in json.dumps(bundle)
    return await app.send("POST", "", data=json.dumps(bundle), headers=FHIR_JSON)


def systems_in(resource: Any) -> set[str]:
    """The systems of all Identifiers of a resource."""
    if isinstance(resource, list):
        return {system for each in resource for system in systems_in(each)}
    if not isinstance(resource, dict):
        return set()
    own = {str(resource["system"])} if "system" in resource and "value" in resource else set()
    return own | {system for each in resource.values() for system in systems_in(each)}


EVERYTHING = {NHS_NUMBER, HOSPITAL_NUMBER, ORDER_NUMBER, DOCUMENT_NUMBER, NPI, "urn:ietf:rfc:3986"}


async def test_what_an_app_submits_by_uris_is_found_by_xds_by_oids(wire: Wire, app: FhirWire) -> None:
    entry = some_entry(await known_patient(wire))

    sent = await provided(app, entry)
    assert sent.status == HTTPStatus.OK, sent.content
    [found] = await documents_of(wire, entry.patient_id or some_patient())

    for attribute in (
        "patient_id", "unique_id", "author", "legal_authenticator", "source_patient_id", "source_patient_info",
        "reference_id_list",
    ):  # fmt: skip
        assert getattr(found, attribute) == getattr(entry, attribute)


async def test_what_xds_submits_by_oids_is_told_to_apps_by_uris(wire: Wire, app: FhirWire) -> None:
    entry = some_entry(patient := await known_patient(wire))
    sent = await wire.provide(submission(entry, author=entry.author), {entry.entry_uuid: CONTENT})
    assert sent.registry_response.succeeded

    for resource_type, systems in (
        ("DocumentReference", EVERYTHING),
        ("List", EVERYTHING - {ORDER_NUMBER, DOCUMENT_NUMBER}),
    ):
        for token in (by_uri(patient), by_oid(patient)):
            reply = await app.get(resource_type, {"patient.identifier": token})
            [found] = [each["resource"] for each in reply.bundle["entry"]]
            assert found["subject"]["identifier"] == nhs_number(patient)
            assert systems_in(found) == systems


@pytest.mark.parametrize(
    "name", ["patient.identifier", "subject.identifier", "patient:identifier", "subject:identifier"]
)
async def test_a_patient_is_found_by_the_uri_and_by_the_oid_of_who_numbers_him(
    wire: Wire, app: FhirWire, name: str
) -> None:
    entry = some_entry(patient := await known_patient(wire))
    assert (await provided(app, entry)).status == HTTPStatus.OK

    for resource_type, number in (("DocumentReference", 1), ("List", 2)):
        found = {
            tuple(sorted((await app.get(resource_type, {name: token})).found))
            for token in (by_uri(patient), by_oid(patient), patient.id_number)
        }
        assert [len(each) for each in found] == [number]
        for other in (f"https://other.example|{patient.id_number}", f"|{patient.id_number}", f"{NHS_NUMBER}|0"):
            assert (await app.get(resource_type, {name: other})).found == []
    searched = await app.get("DocumentReference", {"patient": f"Patient?identifier={by_uri(patient)}"})
    assert len(searched.found) == 1


async def test_documents_are_found_by_the_uri_and_by_the_oid_of_what_numbers_them_or_their_orders(
    wire: Wire, app: FhirWire
) -> None:
    entry = some_entry(await known_patient(wire))
    assert (await provided(app, entry)).status == HTTPStatus.OK
    number = (entry.unique_id or "").partition("^")[2]
    order = entry.reference_id_list[0].id_number
    patient = by_uri(entry.patient_id or some_patient())

    for system in (DOCUMENT_NUMBER, f"urn:oid:{DOCUMENTS}"):
        assert len((await app.get("DocumentReference", {"identifier": f"{system}|{number}"})).found) == 1
    for system in (ORDER_NUMBER, f"urn:oid:{ORDERS}"):
        parameters = {"patient.identifier": patient, "related:identifier": f"{system}|{order}"}
        assert len((await app.get("DocumentReference", parameters)).found) == 1
    for parameters in (
        {"identifier": f"{ORDER_NUMBER}|{number}"},
        {"patient.identifier": patient, "related:identifier": f"{DOCUMENT_NUMBER}|{order}"},
    ):
        assert (await app.get("DocumentReference", parameters)).found == []


async def test_a_document_is_made_once_where_the_condition_names_it_by_a_uri(wire: Wire, app: FhirWire) -> None:
    entry = some_entry(await known_patient(wire))
    number = (entry.unique_id or "").partition("^")[2]
    condition = {"ifNoneExist": f"identifier={DOCUMENT_NUMBER}|{number}"}
    locations = []
    for status in ("201", "200"):
        reference, binary = sent_document(entry)
        request = {"method": "POST", "url": "DocumentReference", **condition}
        item = submission_set(patient_id=entry.patient_id)
        bundle = named_by_uris(bundle_of(sent_list(item, entry), (reference, request), binary))
        sent = await app.send("POST", "", data=json.dumps(bundle), headers=FHIR_JSON)
        answered = sent.bundle["entry"][1]["response"]
        assert answered["status"].startswith(status)
        locations.append(answered["location"])

    assert locations[0] == locations[1]


async def test_the_extension_of_a_unique_id_finds_documents_of_a_patient_who_is_named(
    wire: Wire, app: FhirWire
) -> None:
    patient, number = await known_patient(wire), uuid4().hex[:12]
    named, other = some_entry(patient, unique_id=f"{DOCUMENTS}^{number}"), some_entry(patient)
    whole = some_entry(patient, unique_id=f"{DOCUMENTS}^x{number}")
    foreign = some_entry(await known_patient(wire), unique_id=f"1.2.3^{number}")
    for each in (named, other, whole, foreign):
        assert (await provided(app, each)).status == HTTPStatus.OK

    async def found(**parameters: str) -> list[str]:
        asked = {"patient.identifier": by_uri(patient), **parameters}
        references = [each["resource"] for each in (await app.get("DocumentReference", asked)).bundle.get("entry", ())]
        return sorted(each["masterIdentifier"]["value"] for each in references)

    extensions = [(each.unique_id or "").partition("^")[2] for each in (named, other, whole)]
    assert await found(identifier=number) == [number]
    assert await found(identifier=f"{number},{extensions[1]}") == sorted(extensions[:2])
    assert await found(identifier=f"{number},{DOCUMENT_NUMBER}|{extensions[2]}") == sorted([number, extensions[2]])
    assert await found(**{"identifier:not": number}) == sorted(extensions[1:])
    for nothing in (f"|{number}", f"^{number}", f"{number[1:]}", f"{ORDER_NUMBER}|{number}"):
        assert await found(identifier=nothing) == []
    assert (await app.get("DocumentReference", {"identifier": number})).found == []


async def test_a_related_identifier_that_is_a_uri_by_itself_is_found_as_it_was_sent(wire: Wire, app: FhirWire) -> None:
    related = f"urn:oid:{oid()}"
    entry = some_entry(await known_patient(wire), reference_id_list=())
    reference, binary = sent_document(entry)
    reference["context"]["related"] = [{"identifier": {"system": "urn:ietf:rfc:3986", "value": related}}]
    item = submission_set(patient_id=entry.patient_id)
    bundle = bundle_of(sent_list(item, entry), reference, binary)
    assert (await app.send("POST", "", data=json.dumps(bundle), headers=FHIR_JSON)).status == HTTPStatus.OK

    for token in (f"urn:ietf:rfc:3986|{related}", related, f"|{related}"):
        parameters = {"patient.identifier": by_uri(entry.patient_id or some_patient()), "related:identifier": token}
        assert len((await app.get("DocumentReference", parameters)).found) == 1


async def test_a_patient_is_read_and_found_by_his_id_as_well(wire: Wire, fhir: FhirWire) -> None:
    entry = some_entry(patient := await known_patient(wire))
    assert (await provided(fhir, entry)).status == HTTPStatus.OK
    [found] = (await fhir.get("DocumentReference", {"patient.identifier": by_uri(patient)})).bundle["entry"]
    reference = found["resource"]["subject"]["reference"]

    read = (await fhir.get(reference)).resource

    assert read["identifier"] == [nhs_number(patient)]
    assert (await fhir.get("DocumentReference", {"patient": reference})).found == [found["resource"]["id"]]


async def test_a_merge_may_name_patients_by_uris(wire: Wire, fhir: FhirWire) -> None:
    jane, john, joan = [await known_patient(wire) for _ in range(3)]
    for patient in (jane, john, joan):
        assert (await provided(fhir, some_entry(patient))).status == HTTPStatus.OK
    [before] = (await fhir.get("DocumentReference", {"patient.identifier": by_uri(john)})).bundle["entry"]

    link = [{"type": "replaced-by", "other": {"identifier": nhs_number(jane)}}]
    assert (await fed(wire, john, active=False, link=link)).status == HTTPStatus.OK
    link = [{"type": "replaced-by", "other": {"reference": f"Patient?identifier={by_uri(jane)}"}}]
    assert (await fed(wire, joan, active=False, link=link)).status == HTTPStatus.OK

    assert len(await documents_of(wire, jane)) == 3
    [link] = (await fhir.get(before["resource"]["subject"]["reference"])).resource["link"]
    assert link["other"]["identifier"] == nhs_number(jane)


async def test_a_message_of_patients_may_name_them_by_uris(wire: Wire, fhir: FhirWire) -> None:
    patient, survivor = some_patient(), await known_patient(wire)
    link = [{"type": "replaced-by", "other": {"identifier": nhs_number(survivor)}}]
    resources: list[dict[str, Any]] = [
        {"resourceType": "Patient", "identifier": [nhs_number(patient)]},
        {"resourceType": "Patient", "identifier": [nhs_number(patient)], "active": False, "link": link},
    ]
    for resource in resources:
        entry = {"resource": resource, "request": {"method": "PUT", "url": "Patient"}, "response": {"status": "200"}}
        header = {
            "resourceType": "MessageHeader", "id": uuid4().hex, "eventUri": EVENT,
            "source": {"endpoint": "http://source.example"},
        }  # fmt: skip
        history = {"resourceType": "Bundle", "type": "history", "entry": [entry]}
        message = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": header}, {"resource": history}]}
        sent = await fhir.send("POST", "$process-message", data=json.dumps(message), headers=FHIR_JSON)
        assert sent.status == HTTPStatus.OK, sent.content

    assert (await provided(fhir, some_entry(survivor))).status == HTTPStatus.OK
    refused = await provided(fhir, some_entry(patient))
    assert ErrorCode.UNKNOWN_PATIENT_ID in refused.content.decode()


async def test_a_system_that_has_no_oid_is_refused_with_the_settings_that_may_give_it_one(
    wire: Wire, app: FhirWire
) -> None:
    entry = some_entry(patient := await known_patient(wire))
    foreign = {"system": "http://fhir.de/sid/gkv/kvid-10", "value": patient.id_number}
    item = submission_set(patient_id=patient)
    document, binary = sent_document(entry)
    listed = sent_list(item, entry)
    listed["subject"] = document["subject"] = {"identifier": foreign}
    document["context"]["related"] = [{"identifier": foreign}]
    document["masterIdentifier"] = foreign
    bundle = bundle_of(listed, document, binary)

    outcome = (await app.send("POST", "", data=json.dumps(bundle), headers=FHIR_JSON)).resource

    places = [
        each["expression"][0]
        for each in outcome["issue"]
        if "patients.assigning_authorities" in each["details"]["text"]
    ]
    assert [each.rpartition(".resource.")[2] for each in sorted(places)] == [
        "subject", "context.related[0]", "masterIdentifier", "subject",
    ]  # fmt: skip


async def test_the_number_of_an_author_is_kept_with_a_warning_where_its_system_has_no_oid(
    wire: Wire, app: FhirWire
) -> None:
    entry = some_entry(await known_patient(wire))
    reference, binary = sent_document(entry)
    text = json.dumps(reference).replace(NPI, "http://fhir.de/sid/bundesaerztekammer/efn")
    bundle = bundle_of(sent_list(submission_set(patient_id=entry.patient_id), entry), json.loads(text), binary)

    sent = await app.send("POST", "", data=json.dumps(bundle), headers=FHIR_JSON)

    assert sent.status == HTTPStatus.OK, sent.content
    assert "mhd.code_systems" in sent.content.decode()
    [found] = await documents_of(wire, entry.patient_id or some_patient())
    assert found.author[0].author_person == XCN("1234567893^Tamm^Mari")


# --- tokens, audit, settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claims",
    [
        {"patient": "Patient?identifier={by_uri}"},
        {"extensions": {"ihe_iua": {"person_id": "{number}^^^&{system}&URI"}}},
        {"extensions": {"ihe_iua": {"person_id": "{number}^^^&{oid}&ISO"}}, "patient": "Patient?identifier={by_uri}"},
    ],
    ids=["a reference", "a person_id", "both"],
)
async def test_a_token_of_a_patient_may_name_him_by_the_uri(
    stores: Mapping[str, Any], tmp_path: Path, claims: Mapping[str, Any]
) -> None:
    own, other = some_patient(), some_patient()
    filled = json.dumps(claims)
    for name, value in (
        ("by_uri", by_uri(own)), ("number", own.id_number), ("system", NHS_NUMBER), ("oid", PATIENT_AUTHORITY)
    ):  # fmt: skip
        filled = filled.replace(f"{{{name}}}", value)
    async with AsyncExitStack() as opened:
        issuer = await opened.enter_async_context(authorization_server())
        session = await opened.enter_async_context(aiohttp.ClientSession())
        iua = {
            "issuers": [{"issuer": issuer.issuer, "jwks_url": issuer.url}],
            "audience": [AUDIENCE],
            "patient_tokens": "hide",
        }
        patients = {**PATIENTS, "policy": "open"}
        settings: dict[str, Any] = {"patients": patients, "mhd": {**named_systems(tmp_path), "iua": iua}}
        base = await opened.enter_async_context(running_server(**stores, **settings))
        for patient in (own, other):
            entry = some_entry(patient)
            await Wire(base, session).provide(submission(entry), {entry.entry_uuid: CONTENT})
        token = issuer.token("ITI-67", **json.loads(filled))
        headers = {"Authorization": f"Bearer {token}"}
        found = [
            len((await FhirWire(base, session).send("GET", "DocumentReference", parameters, headers=headers)).found)
            for parameters in (
                {"patient.identifier": by_uri(own)},
                {"patient.identifier": by_oid(own)},
                {"patient.identifier": by_uri(other)},
            )
        ]

    assert found == [1, 1, 0]


async def test_an_audit_event_tells_the_patient_as_apps_call_him(tmp_path: Path) -> None:
    patient, file = some_patient(), tmp_path / "events.jsonl"
    patients = {**PATIENTS, "policy": "open"}
    async with (
        running_server(tmp_path / "data", patients=patients, audit={"file": file}) as base,
        aiohttp.ClientSession() as session,
    ):
        assert (
            await FhirWire(base, session).get("DocumentReference", {"patient.identifier": by_oid(patient)})
        ).found == []

    [event] = [json.loads(line) for line in file.read_text().splitlines()]
    [told] = [each["what"]["identifier"] for each in event["entity"] if "identifier" in each.get("what", {})]
    assert told == nhs_number(patient)


async def test_what_was_rendered_before_is_found_all_the_same_and_told_anew_after_a_reindex(
    stores: Mapping[str, Any], tmp_path: Path
) -> None:
    entry = some_entry(patient := some_patient())
    before: dict[str, Any] = {"patients": {"assigning_authorities": [{"oid": PATIENT_AUTHORITY}]}}
    after: dict[str, Any] = {"patients": {**PATIENTS, "policy": "open"}, "mhd": named_systems(tmp_path)}
    number = (entry.unique_id or "").partition("^")[2]
    told = []
    async with aiohttp.ClientSession() as session:
        async with running_server(**stores, **before) as base:
            await Wire(base, session).provide(submission(entry), {entry.entry_uuid: CONTENT})
        for reindexed in (False, True):
            if reindexed:
                store = await metadata_store(Settings(**stores, **after), reindexing=True)
                await store.reindex(lambda _done, _all: None)
                await store.close()
            async with running_server(**stores, **after) as base:
                app = FhirWire(base, session)
                for parameters in (
                    {"patient.identifier": by_uri(patient)},
                    {"patient.identifier": by_oid(patient)},
                    {"identifier": f"{DOCUMENT_NUMBER}|{number}"},
                    {"identifier": f"urn:oid:{DOCUMENTS}|{number}"},
                    {
                        "patient.identifier": by_uri(patient),
                        "related:identifier": f"{ORDER_NUMBER}|{entry.reference_id_list[0].id_number}",
                    },
                ):
                    [found] = (await app.get("DocumentReference", parameters)).bundle["entry"]
                told.append(systems_in(found["resource"]))

    by_oids = {f"urn:oid:{each}" for each in (PATIENT_AUTHORITY, *NAMED)} | {NPI, "urn:ietf:rfc:3986"}
    assert told == [by_oids, EVERYTHING]


@pytest.mark.parametrize(
    ("uris", "named", "sentence"),
    [
        (
            (NHS_NUMBER, NHS_NUMBER),
            {},
            f"patients.assigning_authorities: {NHS_NUMBER} has the OID 1.2.3 and the OID 1.2.4",
        ),
        ((NHS_NUMBER, ""), {"1.2.4": NHS_NUMBER}, "patients.assigning_authorities and mhd.code_systems"),
        (("", ""), {"1.2.3": NHS_NUMBER, "1.2.4": NHS_NUMBER}, "mhd.code_systems"),
    ],
    ids=["two authorities", "an authority and the file", "the file"],
)
async def test_a_server_does_not_start_where_one_uri_names_two_authorities(
    tmp_path: Path, uris: tuple[str, str], named: Mapping[str, str], sentence: str
) -> None:
    file = tmp_path / "systems.toml"
    file.write_text(systems_file(named))
    rows = [{"oid": each, "uri": uri} for each, uri in zip(("1.2.3", "1.2.4"), uris, strict=True)]
    mhd = {"code_systems": file} if named else {}

    with pytest.raises(SettingsProblem, match=re.escape(sentence)) as refused:
        async with running_server(tmp_path / "data", patients={"assigning_authorities": rows}, mhd=mhd):
            pass

    assert "name one of them" in str(refused.value)
