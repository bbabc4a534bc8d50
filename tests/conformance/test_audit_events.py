"""Each FHIR request leaves an AuditEvent (MHD 4.2.4, ITI TF-2: 3.65.5.1 and others): who asked for what, of whom."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import trustme
from yarl import URL

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import written
from mhd.mapping.identifiers import resource_id
from schemas.samples import path as sample
from tests.audit_profiles import audit_problems
from tests.builders import (
    CONTENT,
    PATIENT,
    PATIENT_AUTHORITY,
    REPOSITORY,
    document_entry,
    submission,
    submission_set,
    unmeasured,
)
from tests.conformance.authorization_server import AUDIENCE, AuthorizationServer, authorization_server
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.test_fhir_submissions import JSON, provided
from tests.conformance.test_find_document_references import FORM, of, some_patient
from tests.conformance.test_patient_feeds import fhir_message, fhir_patient, identifier_of, process, put
from tests.conformance.wire import Wire, running_server
from tests.fhir_validity import assert_is_fhir
from tests.mhd.recipients import bundle_of, bundle_with, sent_document, sent_list
from tests.mhd.test_iti105_simplified_publish import published
from tests.mhd.test_iti106_generate_metadata import DEFAULTS, SAMPLE, parameters
from tests.server.test_serving import authority, certificates, client_context
from tests.shared_material import shared
from xds.hl7v2 import CX
from xds.metadata import Submission

__all__ = ["authority", "certificates"]

BASE = "https://toimik.example/fhir"
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
OF_ONE_AUTHORITY = {"assigning_authorities": [{"oid": PATIENT_AUTHORITY}]}


class Audited:
    """A server, a client of it, and the events that it has written since they were last asked for."""

    def __init__(self, base: str, session: aiohttp.ClientSession, file: Path) -> None:
        self.fhir = FhirWire(base, session)
        self.wire = Wire(base, session)
        self._file = file
        self._seen = 0

    def events(self) -> list[Json]:
        """Each of them is FHIR, and meets the profile that it claims."""
        lines = self._file.read_bytes().splitlines()
        found = [orjson.loads(each) for each in lines[self._seen :]]
        self._seen = len(lines)
        for each in found:
            assert_is_fhir(each)
            assert audit_problems(each) == []
        return found

    def event(self) -> Json:
        """The one event."""
        [found] = self.events()
        return found

    async def registered(self, *patients: CX) -> list[str]:
        """A document of each patient, by SOAP; the ids of their resources."""
        entries = [unmeasured(document_entry(patient_id=each)) for each in patients]
        for each in entries:
            reply = await self.wire.provide(submission(each), {each.entry_uuid: CONTENT})
            assert reply.registry_response.succeeded
        return [resource_id(each.entry_uuid) for each in entries]


@asynccontextmanager
async def audited(tmp_path: Path, **settings: Any) -> AsyncIterator[Audited]:
    """A server that adds its events to a file."""
    file = tmp_path / "audit" / "events.jsonl"
    options = {"public_url": BASE.removesuffix("/fhir"), "repository_unique_id": REPOSITORY, "audit": {"file": file}}
    async with running_server(tmp_path / "data", **{**options, **settings}) as base, aiohttp.ClientSession() as session:
        yield Audited(base, session, file)


def entities(event: Json, role: str) -> list[Json]:
    """Those with a role, by its display."""
    return [each for each in event.get("entity", ()) if each.get("role", {}).get("display") == role]


def whats(event: Json, role: str) -> list[str]:
    return [each["what"]["reference"] for each in entities(event, role)]


def patients(event: Json) -> list[str]:
    """As system|value."""
    found = [each["what"]["identifier"] for each in entities(event, "Patient")]
    return [f"{each['system']}|{each['value']}" for each in found]


def query(event: Json) -> str:
    [entity] = entities(event, "Query")
    return base64.b64decode(entity["query"]).decode()


def displays(event: Json) -> list[str]:
    return [each["display"] for each in event["subtype"]]


def roles(event: Json) -> list[str]:
    """Of client and server."""
    return [each["type"]["coding"][0]["display"] for each in event["agent"]]


async def test_a_bundle_leaves_an_event_of_its_patient_and_its_submissionset(tmp_path: Path) -> None:
    entry, item = document_entry(), submission_set()
    async with audited(tmp_path) as server:
        bundle = bundle_of(sent_list(item, entry), *sent_document(entry))

        reply = await provided(server.fhir, bundle)

        event = server.event()
    assert (event["outcome"], event["action"], event["type"]["display"]) == ("0", "C", "Import")
    assert event["meta"]["profile"] == [
        "https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.ProvideBundle.Audit.Recipient"
    ]
    assert displays(event) == ["Provide Document Bundle"]
    assert roles(event) == ["Source Role ID", "Destination Role ID"]
    assert item.patient_id is not None
    assert patients(event) == [of(item.patient_id)]
    assert whats(event, "Job") == [f"{BASE}/{reply.bundle['entry'][0]['response']['location']}"]


async def test_client_and_server_are_told_and_the_server_is_the_observer(tmp_path: Path) -> None:
    async with audited(tmp_path) as server:
        await server.fhir.get("DocumentReference", {"patient.identifier": of(some_patient())})
        event = server.event()

    client, own = event["agent"]
    assert client["network"] == {"address": "127.0.0.1", "type": "2"}
    assert own["network"] == {"address": BASE, "type": "5"}
    assert own["who"] == event["source"]["observer"] == {"identifier": {"value": f"urn:oid:{REPOSITORY}"}}


@pytest.mark.parametrize(
    ("path", "title"), [("DocumentReference", "Find Document References"), ("List", "Find Document Lists")]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_search_leaves_an_event_with_the_search_itself(
    tmp_path: Path, path: str, title: str, method: str
) -> None:
    patient = some_patient()
    sought = {"patient.identifier": of(patient), "status": "current"}
    async with audited(tmp_path) as server:
        await server.registered(patient)

        if method == "GET":
            reply = await server.fhir.get(path, sought)
        else:
            reply = await server.fhir.send("POST", f"{path}/_search", data=sought, headers=FORM)

        event = server.event()
    assert reply.bundle["total"] == 1
    assert (event["outcome"], event["action"], event["type"]["code"]) == ("0", "E", "rest")
    assert displays(event) == ["search-type", title]
    assert roles(event) == ["Source Role ID", "Destination Role ID"]
    assert patients(event) == [of(patient)]
    [about] = entities(event, "Patient")
    assert about["what"]["reference"].startswith(f"{BASE}/Patient/")
    assert query(event).startswith(f"{method} /fhir/{path}")
    assert patient.id_number in query(event)
    assert query(event).endswith("status=current")


async def test_a_document_leaves_an_event_of_data_that_flowed_to_the_client(tmp_path: Path) -> None:
    patient = some_patient()
    async with audited(tmp_path) as server:
        [document] = await server.registered(patient)

        reply = await server.fhir.get(f"Binary/{document}")

        event = server.event()
    assert reply.content == CONTENT
    assert (event["outcome"], event["action"]) == ("0", "R")
    assert displays(event) == ["read", "Retrieve Document"]
    assert roles(event) == ["Destination Role ID", "Source Role ID"]
    assert patients(event) == [of(patient)]
    assert whats(event, "Report") == [f"{BASE}/Binary/{document}"]


@pytest.mark.parametrize(
    "headers",
    [{"Accept": "application/fhir+json"}, {"Range": "bytes=1-2"}, {"Range": "bytes=900-"}, {"If-None-Match": "*"}],
)
async def test_a_document_is_told_once_however_it_is_answered(tmp_path: Path, headers: dict[str, str]) -> None:
    async with audited(tmp_path) as server:
        [document] = await server.registered(some_patient())

        await server.fhir.send("GET", f"Binary/{document}", headers=headers)

        assert server.event()["outcome"] == "0"


async def test_a_read_leaves_an_event(tmp_path: Path) -> None:
    patient = some_patient()
    async with audited(tmp_path) as server:
        [document] = await server.registered(patient)

        await server.fhir.get(f"DocumentReference/{document}")

        event = server.event()
        key = entities(event, "Patient")[0]["what"]["reference"].removeprefix(f"{BASE}/")
        await server.fhir.get(key)
        of_patient = server.event()
    assert whats(event, "Domain Resource") == [f"{BASE}/DocumentReference/{document}"]
    assert displays(event) == ["read"]
    assert patients(event) == patients(of_patient) == [of(patient)]
    assert whats(of_patient, "Domain Resource") == [f"{BASE}/{key}"]


async def test_a_read_of_a_version_leaves_an_event_of_that_version(tmp_path: Path) -> None:
    async with audited(tmp_path) as server:
        [document] = await server.registered(some_patient())
        path = f"DocumentReference/{document}/_history/1"

        assert (await server.fhir.get(path)).status == 200

        event = server.event()
    assert displays(event) == ["vread"]
    assert whats(event, "Domain Resource") == [f"{BASE}/{path}"]


async def test_a_history_leaves_an_event_of_all_versions(tmp_path: Path) -> None:
    patient = some_patient()
    async with audited(tmp_path) as server:
        [document] = await server.registered(patient)
        path = f"DocumentReference/{document}/_history"

        assert (await server.fhir.get(path)).status == 200

        event = server.event()
    assert displays(event) == ["vread", "history-instance"]
    assert whats(event, "Domain Resource") == [f"{BASE}/{path}"]
    assert patients(event) == [of(patient)]


async def test_a_server_in_front_of_another_registry_leaves_events_as_well(tmp_path: Path) -> None:
    patient = some_patient()
    async with running_server(tmp_path / "behind") as behind, aiohttp.ClientSession() as session:
        entry = unmeasured(document_entry(patient_id=patient))
        await Wire(behind, session).provide(submission(entry), {entry.entry_uuid: CONTENT})
        urls = {"registry_url": f"{behind}/xds/registry", "repository_url": f"{behind}/xds/repository"}
        async with audited(tmp_path, actors=["mhd"], **urls) as server:
            await server.fhir.get("DocumentReference", {"patient.identifier": of(patient)})
            await server.fhir.get(f"Binary/{resource_id(entry.entry_uuid)}")
            await server.fhir.get("Binary/5e3f3a8e-1111-4222-8333-944445555666")
            events = [each for each in server.events() if not is_of_what_others_were_asked(each)]

    assert [each["outcome"] for each in events] == ["0", "0", "4"]
    assert [patients(each) for each in events] == [[of(patient)], [of(patient)], []]


def is_of_what_others_were_asked(event: Json) -> bool:
    """This server is the client in it."""
    return bool(event["agent"][0]["who"] == event["source"]["observer"])


@asynccontextmanager
async def in_front_of(behind: str, tmp_path: Path, **settings: Any) -> AsyncIterator[Audited]:
    """A server that adds its events to a file, and has neither registry nor repository."""
    urls = {"registry_url": f"{behind}/xds/registry", "repository_url": f"{behind}/xds/repository"}
    async with audited(tmp_path, **{"actors": ["mhd"], **urls, **settings}) as server:
        yield server


async def test_a_registry_elsewhere_that_is_asked_for_a_search_leaves_an_event_of_each_stored_query(
    tmp_path: Path,
) -> None:
    patient = some_patient()
    async with (
        running_server(tmp_path / "behind") as behind,
        authorization_server() as issuer,
        in_front_of(behind, tmp_path, mhd=asking_tokens_of(issuer)) as server,
    ):
        await Wire(behind, server.wire.session).provide(*one_document_of(patient))
        headers = {"Authorization": f"Bearer {issuer.token('ITI-67')}", "X-Request-Id": "r-7"}

        await server.fhir.send("GET", "DocumentReference", {"patient.identifier": of(patient)}, headers=headers)

        searched, found, *others = server.events()

    assert displays(searched) == ["search-type", "Find Document References"]
    assert others  # of the associations of what was found, and more
    for event in (found, *others):
        assert (event["type"]["code"], event["action"], event["outcome"]) == ("110112", "E", "0")
        assert displays(event) == ["Registry Stored Query"]
        assert roles(event)[:2] == ["Source Role ID", "Destination Role ID"]
        own, registry, user = event["agent"]
        assert own["who"] == event["source"]["observer"] == {"identifier": {"value": f"urn:oid:{REPOSITORY}"}}
        assert own["network"] == {"address": "toimik.example", "type": "1"}
        assert registry["who"] == {"identifier": {"value": f"{behind}/xds/registry"}}
        assert registry["network"] == {"address": "127.0.0.1", "type": "2"}
        assert user == searched["agent"][2]
        assert patients(event) == [of(patient)]
        assert event["entity"][-1] == searched["entity"][-1]  # the X-Request-Id
    [asked] = entities(found, "Query")
    assert asked["what"] == {"identifier": {"value": FIND_DOCUMENTS}}
    assert asked["detail"] == [{"type": "QueryEncoding", "valueString": "UTF-8"}]
    assert query(found).startswith("<query:AdhocQueryRequest")
    assert patient.text.replace("&", "&amp;") in query(found)


async def test_a_repository_elsewhere_that_is_asked_for_a_document_leaves_an_event_of_it(tmp_path: Path) -> None:
    patient = some_patient()
    async with (
        running_server(tmp_path / "behind", repository_unique_id=REPOSITORY) as behind,
        in_front_of(behind, tmp_path) as server,
    ):
        sent, contents = one_document_of(patient)
        await Wire(behind, server.wire.session).provide(sent, contents)
        [entry] = sent.document_entries

        assert (await server.fhir.get(f"Binary/{resource_id(entry.entry_uuid)}")).content == CONTENT

        events = server.events()

    [event] = [each for each in events if displays(each) == ["Retrieve Document Set"]]
    assert (event["type"]["display"], event["action"], event["outcome"]) == ("Import", "C", "0")
    assert roles(event) == ["Destination Role ID", "Source Role ID"]
    assert is_of_what_others_were_asked(event)
    assert event["agent"][1]["who"] == {"identifier": {"value": f"{behind}/xds/repository"}}
    assert patients(event) == [of(patient)]
    [document] = entities(event, "Report")
    assert document["what"] == {"identifier": {"value": entry.unique_id}}
    assert document["detail"] == [{"type": "Repository Unique ID", "valueString": REPOSITORY}]


async def test_a_bundle_that_is_passed_on_leaves_an_event_of_the_submission_as_well(tmp_path: Path) -> None:
    entry, item = document_entry(), submission_set()
    async with (
        running_server(tmp_path / "behind", repository_unique_id=REPOSITORY) as behind,
        in_front_of(behind, tmp_path) as server,
    ):
        reply = await provided(server.fhir, bundle_of(sent_list(item, entry), *sent_document(entry)))
        events = server.events()

    assert reply.status == 200
    [event] = [each for each in events if displays(each) == ["Provide and Register Document Set-b"]]
    assert (event["type"]["display"], event["action"], event["outcome"]) == ("Export", "R", "0")
    assert roles(event) == ["Source Role ID", "Destination Role ID"]
    assert item.patient_id is not None
    assert patients(event) == [of(item.patient_id)]
    assert [each["what"] for each in entities(event, "Job")] == [{"identifier": {"value": item.unique_id}}]


async def test_a_repository_with_fhir_in_front_of_a_registry_leaves_an_event_of_what_it_registers(
    tmp_path: Path,
) -> None:
    async with (
        running_server(tmp_path / "behind") as behind,
        in_front_of(behind, tmp_path, actors=["repository", "mhd"], repository_url=None) as server,
    ):
        assert (await provided(server.fhir, bundle_with())).status == 200
        by_fhir = server.events()
        assert (await server.wire.provide(*one_document_of(some_patient()))).registry_response.succeeded
        by_soap = server.events()

    assert ["Register Document Set-b"] in [displays(each) for each in by_fhir]
    assert by_soap == []


async def test_a_registry_elsewhere_that_refuses_or_is_away_leaves_an_event_of_a_failure(tmp_path: Path) -> None:
    sought = {"patient.identifier": of(some_patient())}
    async with running_server(tmp_path / "behind", limits={"results": 1}) as behind:
        patient = some_patient()
        async with in_front_of(behind, tmp_path) as server:
            for _ in range(2):
                await Wire(behind, server.wire.session).provide(*one_document_of(patient))
            status = (await server.fhir.get("DocumentReference", {"patient.identifier": of(patient)})).status
            searched, refused = server.events()
    assert status == 400
    assert (searched["outcome"], refused["outcome"]) == ("4", "4")
    assert refused["outcomeDesc"] == "XDSTooManyResults"
    assert patients(refused) == [of(patient)]

    async with in_front_of(behind, tmp_path / "again") as server:
        assert (await server.fhir.get("DocumentReference", sought)).status == 503
        searched, unanswered = server.events()
    assert (searched["outcome"], unanswered["outcome"]) == ("8", "8")
    assert unanswered["outcomeDesc"] == "XDSRegistryNotAvailable"


def one_document_of(patient: CX) -> tuple[Submission, dict[str, bytes]]:
    entry = unmeasured(document_entry(patient_id=patient))
    return submission(entry), {entry.entry_uuid: CONTENT}


async def test_the_user_of_an_access_token_the_app_and_the_purpose_are_told(tmp_path: Path) -> None:
    patient = some_patient()
    purpose = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}
    async with authorization_server() as issuer, audited(tmp_path, mhd=asking_tokens_of(issuer)) as server:
        token = issuer.token("ITI-67", extensions={"ihe_iua": {"purpose_of_use": [purpose]}})

        reply = await server.fhir.get(
            "DocumentReference", {"patient.identifier": of(patient)}, Authorization=f"Bearer {token}"
        )

        event = server.event()
    assert reply.status == 200
    client, _, user = event["agent"]
    assert client["who"] == {"identifier": {"value": "app-1"}, "display": "127.0.0.1"}
    assert user["who"]["identifier"] == {"system": issuer.issuer, "value": "user-1"}
    assert user["requestor"] is True
    assert user["policy"] == ["urn:ietf:params:oauth:jti:1"]
    assert user["purposeOfUse"] == [{"coding": [purpose]}]
    assert token not in str(event)


async def test_whoever_is_not_let_in_leaves_no_event_and_can_not_fill_the_outbox(tmp_path: Path) -> None:
    sought = {"patient.identifier": of(some_patient())}
    async with authorization_server() as issuer, audited(tmp_path, mhd=asking_tokens_of(issuer)) as server:
        for headers in ({}, {"Authorization": f"Bearer {issuer.token('ITI-66')}"}):
            assert (await server.fhir.get("DocumentReference", sought, **headers)).status == 401

        assert server.events() == []


async def test_what_is_forbidden_to_a_token_of_another_patient_leaves_an_event_of_its_user(tmp_path: Path) -> None:
    own, other = some_patient(), some_patient()
    async with (
        authorization_server() as issuer,
        audited(tmp_path, mhd=asking_tokens_of(issuer, patient_tokens="forbid")) as server,
    ):
        await server.registered(own, other)
        token = issuer.token("ITI-67", extensions={"ihe_iua": {"person_id": own.text}})

        reply = await server.fhir.get(
            "DocumentReference", {"patient.identifier": of(other)}, Authorization=f"Bearer {token}"
        )

        event = server.event()
    assert reply.status == 403
    assert (event["outcome"], event["agent"][2]["who"]["display"]) == ("4", "user-1")


def asking_tokens_of(issuer: AuthorizationServer, **iua: Any) -> Json:
    """Settings of [mhd]."""
    issuers = [{"issuer": issuer.issuer, "jwks_url": issuer.url}]
    return {"iua": {"issuers": issuers, "audience": [AUDIENCE], **iua}}


async def test_the_client_is_named_by_its_certificate(
    tmp_path: Path, authority: trustme.CA, certificates: dict[str, Path]
) -> None:
    tls = {**certificates, "client_certificate": "required"}
    connector = aiohttp.TCPConnector(ssl=client_context(authority, with_certificate=True))
    file = tmp_path / "events.jsonl"
    async with (
        running_server(tmp_path / "data", tls=tls, audit={"file": file}) as base,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        await FhirWire(base, session).get("List", {"patient.identifier": of(some_patient())})

    [event] = [orjson.loads(each) for each in file.read_bytes().splitlines()]
    name = event["agent"][0]["who"]["display"]
    assert name.startswith("organizationName=trustme")
    assert name != event["agent"][0]["network"]["address"]


async def test_a_simplified_publish_leaves_an_event_of_its_documentreference(tmp_path: Path) -> None:
    entry = document_entry()
    async with audited(tmp_path, mhd={"simplified_publish": True}) as server:
        body = io.BytesIO(written(published(entry)))

        reply = await server.fhir.send("POST", "DocumentReference", data=body, headers={"Content-Type": JSON})

        event = server.event()
    assert reply.status == 201
    assert (event["outcome"], event["action"]) == ("0", "C")
    assert displays(event) == ["create", "Simplified Publish"]
    assert whats(event, "Domain Resource") == [reply.headers["Location"]]


async def test_generated_metadata_leaves_an_event_of_its_documentreference(tmp_path: Path) -> None:
    defaults = [
        {"attribute": name, "code": each.code, "scheme": each.coding_scheme}
        for name, codes in DEFAULTS.items()
        for each in codes
    ]
    sent = parameters(sample(SAMPLE.file_name).read_bytes())
    async with audited(tmp_path, mhd={"generate_metadata": True, "defaults": defaults}) as server:
        answers = [await generated(server.fhir, sent) for _ in range(2)]
        events = server.events()

    for answer, event in zip(answers, events, strict=True):
        assert answer.status == 200, answer.content
        made = answer.resource["parameter"][0]["valueReference"]["reference"]
        assert displays(event) == ["create", "Generate Metadata"]
        assert whats(event, "Domain Resource") == [f"{BASE}/{made}"]
        assert len(patients(event)) == 1


async def generated(fhir: FhirWire, sent: Json) -> FhirReply:
    path = "DocumentReference/$generate-metadata"
    return await fhir.send("POST", path, data=io.BytesIO(written(sent)), headers={"Content-Type": JSON})


async def test_a_patient_who_is_fed_leaves_an_event_of_a_creation_and_then_of_an_update(tmp_path: Path) -> None:
    patient = some_patient()
    async with audited(tmp_path) as server:
        wire = server.wire
        answers = [(await put(wire, patient, fhir_patient(patient)))[0] for _ in range(2)]
        created, updated = server.events()

    assert answers == [201, 200]
    assert (created["action"], updated["action"]) == ("C", "U")
    assert displays(created) == ["create", "Patient Identity Feed FHIR"]
    assert displays(updated) == ["update", "Patient Identity Feed FHIR"]
    assert roles(created) == roles(updated) == ["Source Role ID", "Destination Role ID"]
    assert patients(created) == patients(updated) == [of(patient)]
    assert whats(created, "Domain Resource") == whats(updated, "Domain Resource")
    assert created["meta"]["profile"] == [
        "https://profiles.ihe.net/ITI/PIXm/StructureDefinition/IHE.PIXm.Feed.Create.Audit.Manager"
    ]


async def test_a_merge_leaves_an_event_of_each_of_the_two(tmp_path: Path) -> None:
    survivor, subsumed = some_patient(), some_patient()
    link = [{"type": "replaced-by", "other": {"identifier": identifier_of(survivor)}}]
    async with audited(tmp_path) as server:
        for each in (survivor, subsumed):
            await put(server.wire, each, fhir_patient(each))
        server.events()

        assert (await put(server.wire, subsumed, fhir_patient(subsumed, active=False, link=link)))[0] == 200

        events = server.events()
    assert sorted(patients(each) for each in events) == sorted([[of(survivor)], [of(subsumed)]])
    assert {each["action"] for each in events} == {"U"}


async def test_a_message_of_a_feed_leaves_an_event_of_each_of_its_patients(tmp_path: Path) -> None:
    jane, john = some_patient(), some_patient()
    async with audited(tmp_path, patients=OF_ONE_AUTHORITY) as server:
        status, _ = await process(server.wire, fhir_message(fhir_patient(jane), fhir_patient(john)))
        events = server.events()

    assert status == 200
    assert sorted(patients(each) for each in events) == sorted([[of(jane)], [of(john)]])
    for event in events:
        assert (event["outcome"], event["action"], event["type"]["display"]) == ("0", "E", "Patient Record")
        assert displays(event) == ["Mobile Patient Identity Feed"]
        assert event["meta"]["profile"] == ["https://profiles.ihe.net/ITI/PMIR/StructureDefinition/IHE.PMIR.Feed.Audit"]
        assert event["entity"][1]["what"] == {"type": "MessageHeader", "identifier": {"value": "urn:uuid:1"}}


async def test_a_feed_that_is_refused_leaves_an_event_of_a_failure_with_its_patients(tmp_path: Path) -> None:
    jane, stranger = some_patient(), some_patient()
    lost = {"type": "replaced-by", "other": {"display": "somebody"}}
    async with audited(tmp_path, patients=OF_ONE_AUTHORITY) as server:
        assert (await put(server.wire, jane, fhir_patient(stranger)))[0] == 400
        by_put = server.event()
        status, _ = await process(server.wire, fhir_message(fhir_patient(jane), fhir_patient(stranger, link=[lost])))
        by_message = server.events()

    assert status == 400
    assert (by_put["outcome"], patients(by_put)) == ("4", [of(jane)])
    assert {each["outcome"] for each in by_message} == {"4"}
    assert sorted(patients(each) for each in by_message) == sorted([[of(jane)], [of(stranger)]])
    assert all("meta" not in each for each in [by_put, *by_message])


@pytest.mark.parametrize("path", ["DocumentReference", "List", "Patient", "Binary"])
async def test_a_read_of_what_is_not_there_leaves_an_event_of_what_was_asked_for(tmp_path: Path, path: str) -> None:
    asked = f"{path}/5e3f3a8e-1111-4222-8333-944445555666"
    async with audited(tmp_path) as server:
        assert (await server.fhir.get(asked)).status == 404
        event = server.event()

    assert event["outcome"] == "4"
    assert [each["what"]["reference"] for each in event["entity"]] == [f"{BASE}/{asked}"]


async def test_each_page_of_a_search_leaves_an_event_of_its_patient(tmp_path: Path) -> None:
    patient = some_patient()
    async with audited(tmp_path, public_url=None) as server:
        await server.registered(patient, patient)
        sought = {"patient.identifier": of(patient), "_count": "1"}
        first = await server.fhir.get("DocumentReference", sought)
        server.events()

        following = next(each["url"] for each in first.bundle["link"] if each["relation"] == "next")
        second = await server.fhir.send("GET", following)

        event = server.event()
    assert second.status == 200
    assert patients(event) == [of(patient)]
    assert query(event) == f"GET {URL(following).raw_path_qs}"


@pytest.mark.parametrize("kept", ["hide", "forbid"])
async def test_who_seeks_another_patient_with_a_token_of_one_leaves_an_event_that_shows_it(
    tmp_path: Path, kept: str
) -> None:
    own, other = some_patient(), some_patient()
    async with (
        authorization_server() as issuer,
        audited(tmp_path, mhd=asking_tokens_of(issuer, patient_tokens=kept)) as server,
    ):
        [_, document] = await server.registered(own, other)
        token = issuer.token("ITI-66 ITI-67 ITI-68", extensions={"ihe_iua": {"person_id": own.text}})
        headers = {"Authorization": f"Bearer {token}"}

        await server.fhir.send("GET", "DocumentReference", {"patient.identifier": of(other)}, headers=headers)
        searched = server.event()
        await server.fhir.send("GET", f"Binary/{document}", headers=headers)
        read = server.event()

    assert of(other).rpartition("|")[2] in query(searched)
    assert searched["agent"][2]["who"]["display"] == read["agent"][2]["who"]["display"] == "user-1"
    assert whats(read, "Report") == [f"{BASE}/Binary/{document}"]
    assert read["outcome"] == "4"


async def test_each_patient_of_a_search_has_an_event_of_their_own(tmp_path: Path) -> None:
    asked, other = some_patient(), some_patient()
    async with audited(tmp_path) as server:
        documents = await server.registered(asked, other)

        await server.fhir.get("DocumentReference", {"patient.identifier": f"{of(asked)},{of(other)}"})
        asked_for = server.events()
        await server.fhir.get("DocumentReference", {"_id": ",".join(documents)})
        shown = server.events()

    assert sorted(patients(each) for each in asked_for) == sorted([[of(asked)], [of(other)]])
    assert sorted(patients(each) for each in shown) == sorted([[of(asked)], [of(other)]])


async def test_a_patient_who_has_nothing_was_asked_for_all_the_same(tmp_path: Path) -> None:
    patient = some_patient()
    async with audited(tmp_path) as server:
        await server.fhir.get("DocumentReference", {"patient.identifier": of(patient)})
        event = server.event()

    assert patients(event) == [of(patient)]
    assert "reference" not in entities(event, "Patient")[0]["what"]


async def test_a_search_that_concerns_nobody_leaves_an_event_without_patient(tmp_path: Path) -> None:
    async with audited(tmp_path) as server:
        await server.fhir.get("DocumentReference", {"identifier": "urn:oid:1.2.3|4"})
        event = server.event()

    assert event["outcome"] == "0"
    assert patients(event) == []
    assert event["meta"]["profile"] == ["https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.Query"]


async def test_the_request_id_is_told(tmp_path: Path) -> None:
    async with audited(tmp_path) as server:
        headers = {"X-Request-Id": "4a8dca3c-2205"}
        await server.fhir.send("GET", "List", {"patient.identifier": of(some_patient())}, headers=headers)
        event = server.event()

    [entity] = [each for each in event["entity"] if each["type"]["code"] == "XrequestId"]
    assert entity["what"]["identifier"]["value"] == "4a8dca3c-2205"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", ["access_token", "Access%5FToken"])
async def test_a_token_is_nowhere_in_an_event(tmp_path: Path, method: str, name: str) -> None:
    sought = f"patient.identifier={of(some_patient())}&{name}=c2VjcmV0&status=current"
    async with audited(tmp_path) as server:
        headers = {"Authorization": "Bearer c2VjcmV0"}
        if method == "GET":
            await server.fhir.send("GET", f"{server.fhir.base}/List?{sought}", headers=headers)
        else:
            await server.fhir.send("POST", "List/_search", data=sought, headers={**FORM, **headers})
        event = server.event()

    assert b"c2VjcmV0" not in written(event)
    assert "c2VjcmV0" not in query(event)
    assert query(event).endswith(f"&{name}=(removed)&status=current")


async def test_no_content_of_a_document_is_in_an_event(tmp_path: Path) -> None:
    async with audited(tmp_path) as server:
        await provided(server.fhir, bundle_with())
        event = written(server.event())

    assert CONTENT not in event
    assert base64.b64encode(CONTENT) not in event


# What is refused -----------------------------------------------------------------------------------------------------


async def test_a_refused_bundle_leaves_one_event_of_a_failure(tmp_path: Path) -> None:
    bundle = bundle_with()
    del bundle["entry"][1]["resource"]["masterIdentifier"]
    async with audited(tmp_path) as server:
        assert (await provided(server.fhir, bundle)).status == 422
        event = server.event()

    assert (event["outcome"], event["outcomeDesc"]) == ("4", "HTTP 422: XDSRepositoryMetadataError")
    assert displays(event) == ["Provide Document Bundle"]
    assert patients(event) == [of(PATIENT)]
    assert "meta" not in event


@pytest.mark.parametrize("sent", ["publication", "document"])
async def test_what_is_refused_of_the_options_leaves_one_event_of_a_failure_with_the_patient(
    tmp_path: Path, sent: str
) -> None:
    mhd = {"simplified_publish": True, "generate_metadata": True}
    body = published(document_entry()) if sent == "publication" else parameters(sample(SAMPLE.file_name).read_bytes())
    path = "DocumentReference" if sent == "publication" else "DocumentReference/$generate-metadata"
    if sent == "publication":
        del body["category"]
    async with audited(tmp_path, mhd=mhd) as server:
        reply = await server.fhir.send("POST", path, data=io.BytesIO(written(body)), headers={"Content-Type": JSON})
        event = server.event()

    assert reply.status == 422
    assert event["outcome"] == "4"
    assert len(patients(event)) == 1


async def test_a_body_that_can_not_be_read_leaves_one_event_of_a_failure(tmp_path: Path) -> None:
    async with audited(tmp_path) as server:
        reply = await server.fhir.send("POST", "", data=b"{", headers={"Content-Type": JSON})
        event = server.event()

    assert reply.status == 400
    assert (event["outcome"], event["outcomeDesc"]) == ("4", "HTTP 400: structure")


async def test_a_search_that_is_refused_leaves_an_event_with_the_search(tmp_path: Path) -> None:
    async with audited(tmp_path) as server:
        assert (await server.fhir.get("DocumentReference", {"status": "current"})).status == 400
        event = server.event()

    assert event["outcome"] == "4"
    assert query(event) == "GET /fhir/DocumentReference?status=current"


async def test_a_search_whose_answer_is_in_no_form_that_is_wanted_leaves_an_event_of_a_failure(tmp_path: Path) -> None:
    async with audited(tmp_path) as server:
        patient = some_patient()
        await server.registered(patient)

        reply = await server.fhir.get("DocumentReference", {"patient.identifier": of(patient)}, Accept="text/html")

        event = server.event()
    assert reply.status == 406
    assert (event["outcome"], event["outcomeDesc"]) == ("4", "HTTP 406: not-supported")


@pytest.mark.parametrize(
    ("path", "accept", "status"), [("Binary/5e3f3a8e-1111-4222-8333-944445555666", "*/*", 404), ("", "text/html", 406)]
)
async def test_a_document_that_is_not_given_leaves_an_event_of_a_failure(
    tmp_path: Path, path: str, accept: str, status: int
) -> None:
    async with audited(tmp_path) as server:
        [document] = await server.registered(some_patient())
        path = path or f"Binary/{document}"

        assert (await server.fhir.get(path, Accept=accept)).status == status

        event = server.event()
    assert event["outcome"] == "4"
    assert len(patients(event)) == (status == 406)  # a document that is not there is nobody's
    assert whats(event, "Report") == [f"{BASE}/{path}"]


async def test_what_is_no_transaction_leaves_no_event(tmp_path: Path) -> None:
    async with audited(tmp_path) as server:
        await server.fhir.get("metadata")
        await server.fhir.get("Observation")
        assert server.events() == []


# By the examples -----------------------------------------------------------------------------------------------------


async def test_events_have_the_form_of_the_examples(tmp_path: Path) -> None:
    examples = shared("mhd-examples")
    patient = some_patient()
    async with audited(tmp_path) as server:
        entry, item = document_entry(patient_id=patient), submission_set(patient_id=patient)
        bundle = bundle_of(sent_list(item, entry), *sent_document(entry))
        headers = {"X-Request-Id": ""}
        reply = await provided(server.fhir, bundle)
        await server.fhir.send("GET", "DocumentReference", {"patient.identifier": of(patient)}, headers=headers)
        binary = reply.bundle["entry"][2]["response"]["location"]
        await server.fhir.get(binary)
        events = server.events()

    names = ("iti65-recipient", "iti67-responder", "iti68-responder")
    for name, event in zip(names, events, strict=True):
        expected = orjson.loads((examples / f"expected-auditevent-{name}.json").read_bytes())
        assert _form(event) == _form(expected), name


def _form(event: Json) -> Json:
    """An event without what differs from one request to the next."""

    def agent(value: Json) -> Json:
        return {**value, "who": "", "network": value["network"]["type"]}

    def entity(value: Json) -> Json:
        return {name: each if name in ("type", "role") else "" for name, each in value.items()}

    return {
        **event,
        "recorded": "",
        "agent": [agent(each) for each in event["agent"]],
        "source": event["source"]["type"],
        "entity": [entity(each) for each in event["entity"]],
    }
