"""Access tokens that are for one patient [ITI-72], over HTTP: what is his is found and read, and nothing else is."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from mhd.fhir.fhir_json import written
from tests.builders import CONTENT, document_entry, submission_set, unmeasured
from tests.conformance.authorization_server import AUDIENCE, AuthorizationServer, authorization_server
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.test_find_document_references import of, some_patient
from tests.conformance.test_patient_feeds import fhir_patient, identifier_of
from tests.conformance.wire import running_server
from tests.mhd.recipients import bundle_of, sent_document, sent_list
from xds.hl7v2 import CX
from xds.metadata import DocumentEntry

pytestmark = pytest.mark.asyncio(loop_scope="module")

READING = "ITI-66 ITI-67 ITI-68"


@dataclass(frozen=True)
class Dossier:
    """What there is of a patient, and the ids of its resources."""

    patient: CX
    entry: DocumentEntry
    document: str
    submission_set: str
    key: str

    @property
    def named(self) -> dict[str, str]:
        return {"patient.identifier": of(self.patient)}


@dataclass(frozen=True)
class World:
    """Two servers on the same stores, one of which hides what it must not show and the other forbids it."""

    issuer: AuthorizationServer
    servers: Mapping[str, FhirWire]
    own: Dossier
    others: Dossier

    async def get(self, policy: str, path: str, parameters: Any = (), **claims: Any) -> FhirReply:
        """Asked by somebody who has a token for the first patient, if it is not said otherwise."""
        token = self.issuer.token(READING, **(claims or {"patient": self.own.key}))
        return await self.servers[policy].get(path, parameters, Authorization=f"Bearer {token}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(stores: Mapping[str, Any]) -> AsyncIterator[World]:
    async with AsyncExitStack() as opened:
        issuer = await opened.enter_async_context(authorization_server())
        session = await opened.enter_async_context(aiohttp.ClientSession())
        servers = {}
        for policy in ("hide", "forbid"):
            iua = {
                "issuers": [{"issuer": issuer.issuer, "jwks_url": issuer.url}],
                "audience": [AUDIENCE],
                "patient_tokens": policy,
            }
            base = await opened.enter_async_context(running_server(**stores, mhd={"iua": iua}))
            servers[policy] = FhirWire(base, session)
        own, others = [await submitted(servers["hide"], issuer) for _ in range(2)]
        yield World(issuer, servers, own, others)


async def submitted(fhir: FhirWire, issuer: AuthorizationServer) -> Dossier:
    """A document of a new patient."""
    headers = {"Authorization": f"Bearer {issuer.token(f'ITI-65 {READING}')}"}
    patient = some_patient()
    entry, item = unmeasured(document_entry(patient_id=patient)), submission_set(patient_id=patient)
    body = io.BytesIO(written(bundle_of(sent_list(item, entry), *sent_document(entry))))
    sent = await fhir.send("POST", "", data=body, headers={"Content-Type": "application/fhir+json", **headers})
    assert sent.status == 200, sent.content
    whose = {"patient.identifier": of(patient)}
    [found] = (await fhir.send("GET", "DocumentReference", whose, headers=headers)).bundle["entry"]
    [listed] = (await fhir.send("GET", "List", whose, headers=headers)).found
    key = found["resource"]["subject"]["reference"].rpartition("/")[2]
    return Dossier(patient, entry, found["resource"]["id"], listed, key)


POLICIES = pytest.mark.parametrize("policy", ["hide", "forbid"])


@POLICIES
async def test_what_is_his_is_found_and_read(world: World, policy: str) -> None:
    own = world.own
    for parameters in ({"patient": own.key}, {"patient": f"Patient/{own.key}"}, own.named, {"_id": own.document}):
        assert (await world.get(policy, "DocumentReference", parameters)).found == [own.document]
        counted = await world.get(policy, "DocumentReference", {**parameters, "_count": "0"})
        assert counted.bundle["total"] == 1
    for missing, expected in (("true", [own.document]), ("false", [])):
        for named in (own.named, {"_id": own.document}):
            assert (
                await world.get(policy, "DocumentReference", {**named, "relatesto:missing": missing})
            ).found == expected
    identifier = {"identifier": f"urn:oid:{own.entry.unique_id}"}
    assert (await world.get(policy, "DocumentReference", identifier)).found == [own.document]
    assert (await world.get(policy, "List", own.named)).found == [own.submission_set]
    assert (await world.get(policy, f"Binary/{own.document}")).content == CONTENT
    for path in (
        f"DocumentReference/{own.document}",
        f"DocumentReference/{own.document}/_history/1",
        f"DocumentReference/{own.document}/_history",
        f"List/{own.submission_set}",
        f"List/{own.submission_set}/_history",
        f"Patient/{own.key}",
    ):
        assert (await world.get(policy, path)).status == 200


@POLICIES
async def test_a_search_for_another_patient_finds_nothing_or_is_forbidden(world: World, policy: str) -> None:
    others = world.others
    searches = [
        ("DocumentReference", others.named),
        ("DocumentReference", {"patient": others.key}),
        ("DocumentReference", {"_id": others.document}),
        ("DocumentReference", {"identifier": f"urn:oid:{others.entry.unique_id}"}),
        ("DocumentReference", {"identifier": f"urn:uuid:{others.document}"}),
        ("DocumentReference", {**others.named, "_count": "0"}),
        ("DocumentReference", {**others.named, "relatesto:missing": "true"}),
        ("DocumentReference", {"_id": others.document, "relatesto:missing": "true"}),
        ("List", others.named),
        ("List", {"_id": others.submission_set}),
        ("List", {**others.named, "code": "folder"}),
    ]
    for path, parameters in searches:
        reply = await world.get(policy, path, parameters)
        if policy == "forbid":
            assert (reply.status, reply.issue["code"]) == (403, "forbidden"), (path, parameters)
        else:
            assert (reply.found, reply.bundle["total"]) == ([], 0), (path, parameters)


@POLICIES
async def test_of_several_patients_only_he_is_found(world: World, policy: str) -> None:
    both = {"patient.identifier": f"{of(world.own.patient)},{of(world.others.patient)}"}
    reply = await world.get(policy, "DocumentReference", both)
    assert (reply.found, reply.bundle["total"]) == ([world.own.document], 1)


@POLICIES
async def test_what_belongs_to_another_patient_is_not_there_or_is_forbidden(world: World, policy: str) -> None:
    others = world.others
    expected = (404, "not-found") if policy == "hide" else (403, "forbidden")
    for path in (
        f"DocumentReference/{others.document}",
        f"DocumentReference/{others.document}/_history/1",
        f"DocumentReference/{others.document}/_history",
        f"List/{others.submission_set}/_history",
        f"List/{others.submission_set}",
        f"List/{others.submission_set}/_history/1",
        f"Patient/{others.key}",
        f"Binary/{others.document}",
    ):
        reply = await world.get(policy, path)
        assert (reply.status, reply.issue["code"]) == expected, path
        assert others.patient.id_number.encode() not in reply.content
    token = world.issuer.token("ITI-68", patient=world.own.key)
    head = await world.servers[policy].send(
        "HEAD", f"Binary/{others.document}", headers={"Authorization": f"Bearer {token}"}
    )
    assert head.status == expected[0]


@POLICIES
async def test_what_never_was_is_not_there(world: World, policy: str) -> None:
    for kind in ("DocumentReference", "List", "Binary", "Patient"):
        assert (await world.get(policy, f"{kind}/7c6f2f44-5d5b-4b1f-9f57-0c4d3e1d2a10")).status == 404


async def test_a_page_of_a_search_of_somebody_else_goes_on_with_nothing(world: World) -> None:
    """With a cursor that was sealed for whoever may see that patient."""
    headers = {"Authorization": f"Bearer {world.issuer.token(f'ITI-65 {READING}')}"}
    entry = unmeasured(document_entry(patient_id=world.others.patient))
    item = submission_set(patient_id=world.others.patient)
    body = io.BytesIO(written(bundle_of(sent_list(item, entry), *sent_document(entry))))
    fhir = world.servers["hide"]
    assert (
        await fhir.send("POST", "", data=body, headers={"Content-Type": "application/fhir+json", **headers})
    ).status == 200
    first = await fhir.send("GET", "DocumentReference", {**world.others.named, "_count": "1"}, headers=headers)
    following = first.link("next")
    assert following is not None
    assert len((await fhir.send("GET", following, headers=headers)).found) == 1
    assert (await world.get("hide", following)).found == []
    assert (await world.get("forbid", following.replace(fhir.base, world.servers["forbid"].base))).status == 403


CLAIMS: Mapping[str, Callable[[Dossier], dict[str, Any]]] = {
    "the Patient's id": lambda own: {"patient": own.key},
    "a reference": lambda own: {"patient": f"Patient/{own.key}"},
    "IUA's person": lambda own: {"extensions": {"ihe_iua": {"person_id": own.patient.text}}},
    "BPPC's patient": lambda own: {"extensions": {"ihe_bppc": {"patient_id": own.patient.text}}},
    "both": lambda own: {"patient": own.key, "extensions": {"ihe_iua": {"person_id": own.patient.text}}},
}


@pytest.mark.parametrize("name", CLAIMS)
async def test_a_token_may_name_him_in_several_ways(world: World, name: str) -> None:
    claims = CLAIMS[name](world.own)
    assert (await world.get("hide", "DocumentReference", world.own.named, **claims)).found == [world.own.document]
    assert (await world.get("hide", "DocumentReference", world.others.named, **claims)).found == []


@POLICIES
async def test_a_token_that_names_nobody_or_two_opens_nothing(world: World, policy: str) -> None:
    named: Sequence[dict[str, Any]] = (
        {"patient": "unheard-of"},
        {"patient": 7},
        {"patient": {}},
        {"patient": "https://other.example/fhir/Patient/1"},
        {"extensions": {"ihe_iua": {"person_id": "urn:uuid:fb45ea81-33f3-4600-9940-95cd46852e84"}}},
        {"extensions": {"ihe_iua": {"person_id": "1^^^"}}},
        {"patient": world.own.key, "extensions": {"ihe_bppc": {"patient_id": world.others.patient.text}}},
        {"patient": world.own.key, "extensions": {"ihe_bppc": {"patient_id": "unheard-of"}}},
    )
    for claims in named:
        reply = await world.get(policy, "DocumentReference", world.own.named, **claims)
        assert (reply.status, reply.issue["code"]) == (401, "forbidden"), claims
        assert reply.headers["WWW-Authenticate"].startswith("Bearer ")


@POLICIES
@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "", "ITI-65"),
        ("POST", "DocumentReference", "ITI-105"),
        ("POST", "DocumentReference/$generate-metadata", "ITI-106"),
        ("PUT", "Patient", "ITI-104"),
        ("POST", "$process-message", "ITI-93"),
    ],
)
async def test_such_a_token_sends_nothing(world: World, policy: str, method: str, path: str, scope: str) -> None:
    token = world.issuer.token(scope, patient=world.own.key)
    reply = await world.servers[policy].send(method, path, data=b"{}", headers={"Authorization": f"Bearer {token}"})
    assert (reply.status, reply.issue["code"]) == (401, "forbidden")


@POLICIES
async def test_in_front_of_another_registry_it_is_the_same(world: World, policy: str, tmp_path: Path) -> None:
    behind = world.servers[policy].base.removesuffix("/fhir")
    urls = {"registry_url": f"{behind}/xds/registry", "repository_url": f"{behind}/xds/repository"}
    iua = {
        "issuers": [{"issuer": world.issuer.issuer, "jwks_url": world.issuer.url}],
        "audience": [AUDIENCE],
        "patient_tokens": policy,
    }
    async with (
        running_server(tmp_path, actors=["mhd"], mhd={"iua": iua}, **urls) as base,
        aiohttp.ClientSession() as session,
    ):
        elsewhere = World(world.issuer, {policy: FhirWire(base, session)}, world.own, world.others)
        him = {"extensions": {"ihe_iua": {"person_id": world.own.patient.text}}}
        found = await elsewhere.get(policy, "DocumentReference", world.own.named, **him)
        assert found.found == [world.own.document]
        assert (await elsewhere.get(policy, f"Binary/{world.own.document}", **him)).content == CONTENT
        refused = 404 if policy == "hide" else 403
        for path in (f"DocumentReference/{world.others.document}", f"Binary/{world.others.document}"):
            assert (await elsewhere.get(policy, path, **him)).status == refused
        searched = await elsewhere.get(policy, "DocumentReference", world.others.named, **him)
        assert searched.found == [] if policy == "hide" else searched.status == 403


@POLICIES
async def test_who_survives_a_merge_sees_all_of_it_and_who_does_not_sees_nothing(world: World, policy: str) -> None:
    jane, john = [await submitted(world.servers["hide"], world.issuer) for _ in range(2)]
    link = [{"type": "replaced-by", "other": {"identifier": identifier_of(jane.patient)}}]
    reply = await world.servers["hide"].send(
        "PUT",
        "Patient",
        {"identifier": of(john.patient)},
        data=written(fhir_patient(john.patient, active=False, link=link)),
        headers={"Content-Type": "application/fhir+json", "Authorization": f"Bearer {world.issuer.token('ITI-104')}"},
    )
    assert reply.status in (200, 201), reply.content

    found = await world.get(policy, "DocumentReference", jane.named, patient=jane.key)
    assert set(found.found) == {jane.document, john.document}
    for path in (f"DocumentReference/{john.document}", f"Binary/{john.document}"):
        assert (await world.get(policy, path, patient=jane.key)).status == 200
        assert (await world.get(policy, path, patient=john.key)).status == (404 if policy == "hide" else 403)
    assert (await world.get("hide", "DocumentReference", john.named, patient=john.key)).found == []
