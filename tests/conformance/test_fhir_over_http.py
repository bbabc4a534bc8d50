"""How FHIR is spoken at /fhir: forms, headers, methods, limits; every error is an OperationOutcome."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from server.fhir_xml import from_xml
from tests.builders import association, document_entry, submission, unmeasured
from tests.conformance.fhir_wire import FhirWire
from tests.conformance.test_find_document_references import FORM, of, register, some_patient
from tests.conformance.wire import Wire, running_server
from xds.metadata import AssociationType

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOBODY = {"patient": "nobody"}


@pytest.mark.parametrize(
    ("accept", "given", "form"),
    [
        ("", None, "json"),
        ("*/*", None, "json"),
        ("application/fhir+json", None, "json"),
        ("application/json", None, "json"),
        ("text/json", None, "json"),
        ("application/fhir+xml", None, "xml"),
        ("text/xml", None, "xml"),
        ("application/xml;q=0.9, application/fhir+json;q=0.5", None, "xml"),
        ("text/html, application/fhir+xml;fhirVersion=4.0, */*;q=0.1", None, "xml"),
        ("application/*", None, "json"),
        ("application/fhir+json", "xml", "xml"),
        ("text/html", "json", "json"),
        ("", "application/fhir+xml", "xml"),
        ("", "application/fhir xml", "xml"),
        ("", "text/xml", "xml"),
    ],
)
async def test_an_app_gets_the_form_that_it_asks_for(fhir: FhirWire, accept: str, given: str | None, form: str) -> None:
    parameters = NOBODY | ({"_format": given} if given else {})

    reply = await fhir.get("DocumentReference", parameters, Accept=accept)

    assert reply.headers["Content-Type"] == f"application/fhir+{form}; charset=utf-8"
    assert reply.bundle["total"] == 0


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("text/html", None),
        ("application/fhir+json;fhirVersion=5.0", None),
        ("application/fhir+json;q=0", None),
        ("*/*", "turtle"),
        ("*/*", ""),
    ],
)
async def test_a_form_that_there_is_not_is_answered_406(fhir: FhirWire, accept: str, given: str | None) -> None:
    parameters = NOBODY | ({"_format": given} if given is not None else {})

    reply = await fhir.get("DocumentReference", parameters, Accept=accept)

    assert reply.status == 406
    assert reply.issue["code"] == "not-supported"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "DocumentReference/1", "GET, HEAD"),
        ("PUT", "List/1", "GET, HEAD"),
        ("PATCH", "DocumentReference/1", "GET, HEAD"),
        ("GET", "", "POST"),
        ("POST", "List", "GET, HEAD"),
        ("GET", "DocumentReference/$generate-metadata", "POST"),
        ("POST", "DocumentReference", "GET, HEAD"),  # mhd.simplified_publish is not set
    ],
)
async def test_a_method_that_is_not_answered_is_refused_with_those_that_are(
    fhir: FhirWire, method: str, path: str, allowed: str
) -> None:
    headers = {"Accept": "application/fhir+xml", "Content-Type": "application/fhir+json"}
    reply = await fhir.send(method, path, data=b'{"resourceType": "DocumentReference"}', headers=headers)

    assert reply.status == 405
    assert reply.headers["Allow"] == allowed
    assert reply.issue["code"] == "not-supported"
    assert reply.headers["Content-Type"].startswith("application/fhir+xml")


@pytest.mark.parametrize(
    "path",
    [
        "Bundle", "Observation", "Observation/1", "DocumentReference/1/_history", "DocumentReference/_history",
        "DocumentReference/a_b", "DocumentReference/" + "1" * 65, "metadata/x", "List/..%2f..%2fxds", "%00",
        "List/%c3%28", "List/x%0d%0aSet-Cookie:%20x",
        "DocumentReference/00000000-0000-4000-8000-000000000000", "List/1", "Patient/1",
    ],
)  # fmt: skip
async def test_there_is_nothing_where_nothing_is(fhir: FhirWire, path: str) -> None:
    reply = await fhir.send("GET", f"{fhir.base}/{path}")

    assert reply.status == 404
    assert reply.issue["code"] == "not-found"


async def test_the_sentence_of_an_error_stands_wherever_clients_look_for_it(fhir: FhirWire) -> None:
    """Some show `details.text`; HAPI FHIR's makes the message of its exception of `diagnostics` alone."""
    issue = (await fhir.get("DocumentReference", {"status": "current"})).issue

    assert "patient" in issue["details"]["text"]
    assert issue["diagnostics"] == issue["details"]["text"]


async def test_a_bundle_that_is_sent_to_bundle_is_told_where_it_belongs(fhir: FhirWire) -> None:
    headers = {"Content-Type": "application/fhir+json"}

    reply = await fhir.send("POST", "Bundle", data=b'{"resourceType": "Bundle"}', headers=headers)

    assert reply.status == 404
    assert "sent to the base URL" in reply.issue["details"]["text"]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("text/plain", 415),
        ("json", 415),
        ("application/soap+xml", 415),
        ("application/fhir+json; fhirVersion=5.0", 415),
        ("application/fhir+json; charset=utf-16", 415),
        ("application/fhir+json", 400),
        ("application/json; charset=UTF-8", 400),
        ("application/fhir+xml; fhirVersion=4.0", 400),
        ("text/xml", 400),
    ],
)
async def test_what_can_not_be_read_is_refused(fhir: FhirWire, content_type: str, status: int) -> None:
    reply = await fhir.send("POST", "", data=b"nonsense", headers={"Content-Type": content_type})

    assert reply.status == status
    assert reply.issue["code"] == ("not-supported" if status == 415 else "structure")


@pytest.mark.parametrize(
    ("coding", "status", "code"),
    [("gzip", 400, "structure"), ("deflate", 400, "structure"), ("rot13", 415, "not-supported")],
)
async def test_a_body_that_is_not_encoded_as_it_says_is_refused(
    fhir: FhirWire, coding: str, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/fhir+json", "Content-Encoding": coding}

    reply = await fhir.send("POST", "", data=b'{"resourceType": "Bundle"}', headers=headers)

    assert (reply.status, reply.issue["code"]) == (status, code)


async def test_a_compressed_body_is_read(fhir: FhirWire) -> None:
    headers = {**FORM, "Content-Encoding": "gzip"}

    reply = await fhir.send("POST", "List/_search", data=gzip.compress(b"patient=nobody"), headers=headers)

    assert reply.bundle["total"] == 0


async def test_a_search_for_as_many_ids_as_may_be_has_pages_too(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    sent = await register(wire, *(document_entry(patient_id=patient) for _ in range(3)))
    there = [each.entry_uuid.removeprefix("urn:uuid:") for each in sent.document_entries]
    ids = ",".join([*there, *(str(uuid4()) for _ in range(497))])

    first = await fhir.send("POST", "DocumentReference/_search", data={"_id": ids, "_count": "2"}, headers=FORM)
    second = await fhir.get(first.link("next") or "")

    assert sorted(first.found + second.found) == sorted(there)
    assert second.link("next") is None


async def test_a_search_that_has_no_room_in_the_url_of_its_next_page_is_refused(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    await register(wire, *(document_entry(patient_id=patient) for _ in range(2)))
    types = ",".join(["x", *("".join(str(uuid4()) for _ in range(5)) for _ in range(400))])
    search = {"patient.identifier": of(patient), "type:not": types}

    whole = await fhir.send("POST", "DocumentReference/_search", data=search, headers=FORM)
    first = await fhir.send("POST", "DocumentReference/_search", data=search | {"_count": "1"}, headers=FORM)

    assert len(whole.found) == 2
    assert (first.status, first.issue["code"]) == (400, "too-costly")


async def test_a_search_is_posted_as_a_form_and_its_url_counts_too(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    entry = document_entry(patient_id=patient)
    await register(wire, entry)
    path = "DocumentReference/_search"

    in_both = await fhir.send("POST", path, {"patient.identifier": of(patient)}, data={"type": "x"}, headers=FORM)
    without_body = await fhir.send("POST", path, {"patient.identifier": of(patient)})
    by_get = await fhir.get(path, {"patient.identifier": of(patient)})
    as_json = await fhir.send("POST", path, data=b"{}", headers={"Content-Type": "application/json"})

    assert in_both.found == []
    assert without_body.found == by_get.found == [entry.entry_uuid.removeprefix("urn:uuid:")]
    assert as_json.status == 415


async def test_a_request_is_answered_with_its_request_id(fhir: FhirWire) -> None:
    for path in ("metadata", "nothing", "DocumentReference"):
        assert (await fhir.get(path, X_Request_Id="a-1")).headers["X-Request-Id"] == "a-1"
    assert "X-Request-Id" not in (await fhir.get("metadata")).headers
    assert "X-Request-Id" not in (await fhir.get("metadata", X_Request_Id="x" * 300)).headers


async def test_a_resource_that_has_not_changed_is_not_sent_again(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    sent = await register(wire, document_entry(patient_id=patient))
    path = f"DocumentReference/{sent.document_entries[0].entry_uuid.removeprefix('urn:uuid:')}"
    reply = await fhir.get(path)

    again = await fhir.get(path, If_None_Match=reply.headers["ETag"])
    head = await fhir.send("HEAD", path)

    assert reply.headers["ETag"].startswith('W/"')
    assert reply.headers["Last-Modified"].endswith("GMT")
    assert (again.status, again.content) == (304, b"")
    assert (head.status, head.content, head.headers["ETag"]) == (200, b"", reply.headers["ETag"])
    assert (await fhir.get(path, If_None_Match='W/"0", "7"')).status == 200
    addendum = submission(document_entry(patient_id=patient))
    assert (await wire.register(addendum)).registry_response.succeeded
    assert (await fhir.get(path)).headers["ETag"] == reply.headers["ETag"]


async def test_a_searchset_says_how_long_it_is_and_head_says_the_same_without_it(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    await register(wire, *(document_entry(patient_id=patient) for _ in range(30)))

    for count in ("30", "2", "0"):
        search = {"patient.identifier": of(patient), "_count": count}
        for _ in range(2):  # the second time it may be kept
            reply = await fhir.get("DocumentReference", search)
            head = await fhir.send("HEAD", "DocumentReference", search)

            assert reply.bundle["total"] == 30
            assert reply.headers["Content-Length"] == head.headers["Content-Length"] == str(len(reply.content))
            assert (head.status, head.content) == (200, b"")


async def test_the_capability_statement_tells_what_is_there_in_both_forms(fhir: FhirWire) -> None:
    reply = await fhir.get("metadata")
    as_xml = await fhir.get("metadata", {"_format": "xml", "mode": "normative"})

    statement = reply.resource
    assert from_xml(as_xml.content) == statement
    assert statement["fhirVersion"] == "4.0.1"
    assert statement["implementation"]["url"] == fhir.base
    (rest,) = statement["rest"]
    of_type = {each["type"]: each for each in rest["resource"]}
    for name, kind in (("DocumentReference", "DocumentReference"), ("List", "List")):
        for parameter in of_type[name]["searchParam"]:
            refused = await fhir.get(kind, [(parameter["name"], ""), *NOBODY.items()])
            assert refused.issue["expression"] == [parameter["name"]]
    assert [each["name"] for each in rest["operation"]] == ["process-message"]
    # Without a homeCommunityId of its own, a server knows no community that could be asked for.
    names = {each["name"] for name in ("DocumentReference", "List") for each in of_type[name]["searchParam"]}
    assert "_lastUpdated" in names
    assert "targetCommunityIdList" not in names
    assert (await fhir.get("metadata", If_None_Match=reply.headers["ETag"])).status == 304


async def test_bodies_beyond_the_limit_are_refused_before_they_are_read(tmp_path: Path) -> None:
    async with running_server(tmp_path, limits={"fhir_bytes": 64 * 1024}) as base, aiohttp.ClientSession() as session:
        fhir = FhirWire(base, session)
        headers = {"Content-Type": "application/fhir+json"}

        async def undeclared() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b" " * 10_000

        for data in (b" " * 100_000, undeclared()):
            reply = await fhir.send("POST", "", data=data, headers=headers)
            assert reply.status == 413
            assert reply.issue["code"] == "too-costly"


async def test_a_sender_who_falls_silent_is_not_waited_for(tmp_path: Path) -> None:
    async with running_server(tmp_path, limits={"idle_seconds": 0.2}) as base, aiohttp.ClientSession() as session:

        async def falling_silent() -> AsyncIterator[bytes]:
            yield b'{"resourceType":'
            await asyncio.sleep(30)

        headers = {"Content-Type": "application/fhir+json"}
        reply = await FhirWire(base, session).send("POST", "", data=falling_silent(), headers=headers)

        assert reply.status == 408
        assert reply.issue["code"] == "transient"


async def test_cursors_and_sizes_of_pages_are_as_configured(wire: Wire, tmp_path: Path) -> None:
    settings = {"page_size": 2, "largest_page": 3, "cursor_seconds": 1}
    async with running_server(tmp_path, mhd=settings) as base, aiohttp.ClientSession() as session:
        fhir, own = FhirWire(base, session), Wire(base, session)
        patient = some_patient()
        await register(own, *(document_entry(patient_id=patient) for _ in range(5)))

        usual = await fhir.get("DocumentReference", {"patient.identifier": of(patient)})
        largest = await fhir.get("DocumentReference", {"patient.identifier": of(patient), "_count": "100"})
        await asyncio.sleep(2.1)
        expired = await fhir.get(usual.link("next") or "")

        assert (len(usual.found), len(largest.found)) == (2, 3)
        assert expired.status == 410
        assert expired.issue["code"] == "expired"


async def test_superseded_documents_are_gone_where_a_deployment_says_so(tmp_path: Path) -> None:
    async with running_server(tmp_path, mhd={"superseded_gone": True}) as base, aiohttp.ClientSession() as session:
        fhir, wire = FhirWire(base, session), Wire(base, session)
        old, new = (unmeasured(document_entry()) for _ in range(2))
        replacing = submission(new, associations=(association(AssociationType.RPLC, new, old),))
        assert (await wire.provide(submission(old), {old.entry_uuid: b"old"})).registry_response.succeeded
        assert (await wire.provide(replacing, {new.entry_uuid: b"new"})).registry_response.succeeded

        reply = await fhir.get(f"Binary/{old.entry_uuid.removeprefix('urn:uuid:')}")

        assert reply.status == 410
        assert reply.issue["code"] == "deleted"


async def test_urls_are_those_of_the_public_address_whatever_a_client_calls_the_server(tmp_path: Path) -> None:
    public = "https://records.hospital.example/toimik/"
    async with running_server(tmp_path, public_url=public) as base, aiohttp.ClientSession() as session:
        fhir, wire = FhirWire(base, session), Wire(base, session)
        patient = some_patient()
        await register(wire, document_entry(patient_id=patient), document_entry(patient_id=patient))

        reply = await fhir.get(
            "DocumentReference", {"patient.identifier": of(patient), "_count": "1"}, Host="evil.example"
        )

        resource = reply.bundle["entry"][0]["resource"]
        key = resource["subject"]["reference"].rpartition("/")[2]
        for url in (
            reply.link("self"), reply.link("next"), reply.bundle["entry"][0]["fullUrl"],
            resource["subject"]["reference"], resource["content"][0]["attachment"]["url"],
        ):  # fmt: skip
            assert str(url).startswith("https://records.hospital.example/toimik/fhir/")
        assert "evil" not in reply.content.decode()
        by_url = await fhir.get("DocumentReference", {"patient": f"{public}fhir/Patient/{key}", "_count": "0"})
        assert by_url.bundle["total"] == 2


async def test_a_server_without_the_mhd_actor_answers_no_fhir(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, actors=["registry", "repository"]) as base,
        aiohttp.ClientSession() as session,
        session.get(f"{base}/fhir/metadata") as response,
    ):
        assert response.status == 404
