"""Documents that are made when they are retrieved: registered by ITI-61, made at ITI-43 and ITI-68, over HTTP."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
import trustme
from aiohttp import web

from mhd.fhir.fhir_json import written
from tests.builders import CONTENT, REPOSITORY, code, document_entry, oid, submission, text
from tests.conformance.fhir_wire import FhirWire
from tests.conformance.summary_server import SummaryServer, summary_server
from tests.conformance.test_documents_in_and_out import asked, entries_of, provided
from tests.conformance.test_find_document_references import some_patient
from tests.conformance.wire import Reply, Wire, running_server
from tests.mhd.test_on_demand_bundles import promising
from xds.ebxml_messages import register_request, retrieve_request
from xds.ebxml_reader import read_rendering
from xds.errors import ResponseStatus
from xds.hl7v2 import DTM
from xds.metadata import AvailabilityStatus, DocumentEntry, DocumentEntryType
from xds.transactions import ITI_43, ITI_61

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIME_SECONDS = 2.0
APPROVED = f"('{AvailabilityStatus.APPROVED}')"
DEPRECATED = f"('{AvailabilityStatus.DEPRECATED}')"
MOST_OCTETS = 100_000
MOST_RESULTS = 20
KEPT = "1.3.6.1.4.1.21367.2017"
"""Documents of entries whose uniqueIds begin with it are kept."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def summaries() -> AsyncIterator[SummaryServer]:
    """What makes the documents."""
    async with summary_server() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    stores: Mapping[str, Any], summaries: SummaryServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """A server whose on-demand documents are made by `summaries`."""
    secret = tmp_path_factory.mktemp("secrets") / "authorization"
    secret.write_text("Bearer some-token\n", encoding="utf-8")
    source = {
        "name": "summaries",
        "url": summaries.url,
        "authorization_file": secret,
        "timeout_seconds": TIME_SECONDS,
        "document_bytes": MOST_OCTETS,
    }
    persisting = {**source, "name": "kept-summaries", "unique_ids": [KEPT], "persist": True}
    settings = {"repository_unique_id": REPOSITORY, **stores, "limits": {"results": MOST_RESULTS}}
    async with running_server(**settings, mhd={"on_demand_documents": True}, on_demand=[persisting, source]) as base:
        yield base


async def promised(wire: Wire, **changes: Any) -> DocumentEntry:
    """An on-demand entry that was registered, as the registry has it."""
    (known,) = {entry.repository_unique_id for entry in [await provided(wire)]}
    lacking = {"creation_time": None, "hash": None, "size": None, "repository_unique_id": known}
    sent = document_entry(**{"object_type": DocumentEntryType.ON_DEMAND, **lacking, **changes})
    answer = await wire.simple(ITI_61, register_request(submission(sent)))
    assert answer.registry_response.succeeded, answer.content
    (entry,) = await entries_of(wire, sent.unique_id or "")
    return entry


async def promised_and_kept(wire: Wire, **changes: Any) -> DocumentEntry:
    """An on-demand entry of a patient of its own, whose documents are kept."""
    unique_id = f"{KEPT}.{uuid4().int}"
    return await promised(wire, **{"unique_id": unique_id, "patient_id": some_patient(), **changes})


async def snapshots_of(wire: Wire, entry: DocumentEntry, **parameters: str) -> list[DocumentEntry]:
    """The stable documents that are found by the patient of an entry, as an XDS consumer without options finds them."""
    asked_for = {"XDSDocumentEntryPatientId": f"'{entry.patient_id}'", "XDSDocumentEntryStatus": APPROVED, **parameters}
    answer = await wire.query("FindDocuments", **asked_for)
    found = [read_rendering(each.ebrim or b"") for each in answer.query_response.found]
    return [each for each in found if isinstance(each, DocumentEntry)]


async def retrieved(wire: Wire, *entries: DocumentEntry) -> Reply:
    return await wire.mtom(ITI_43, retrieve_request([asked(entry) for entry in entries]))


async def test_an_on_demand_document_is_made_anew_each_time_it_is_retrieved(
    wire: Wire, summaries: SummaryServer
) -> None:
    entry = await promised(wire)
    ids: list[str | None] = []
    for content in (b"monday", b"tuesday", b"tuesday"):
        summaries.gives(entry.unique_id or "", content)
        answer = await retrieved(wire, entry)
        assert answer.retrieved.status is ResponseStatus.SUCCESS, answer.content
        assert list(answer.parts.values()) == [content]
        (document,) = answer.retrieved.documents
        assert (document.request, document.mime_type) == (asked(entry), "text/plain")
        assert document.new_repository_unique_id is None, "it is not kept"
        ids.append(document.new_document_unique_id)

    assert ids[0] != ids[1] == ids[2], "other content has another uniqueId"
    assert not {None, entry.unique_id} & set(ids)
    as_made = document_entry(unique_id=ids[0], repository_unique_id=entry.repository_unique_id)
    unknown = await retrieved(wire, as_made)
    assert unknown.codes == ["XDSDocumentUniqueIdError"]


async def test_a_document_that_a_fhir_app_promises_is_made_when_it_is_retrieved(
    wire: Wire, fhir: FhirWire, summaries: SummaryServer
) -> None:
    sent = document_entry()
    headers = {"Content-Type": "application/fhir+json"}
    reply = await fhir.send("POST", "", data=written(promising(sent)), headers=headers)
    assert reply.status == 200, reply.content
    summaries.gives(sent.unique_id or "", b"made for FHIR and SOAP")

    location = reply.bundle["entry"][1]["response"]["location"]
    url = (await fhir.get(location)).resource["content"][0]["attachment"]["url"]
    by_fhir = await fhir.get(url)
    (entry,) = await entries_of(wire, sent.unique_id or "")
    by_soap = await retrieved(wire, entry)

    assert entry.object_type == DocumentEntryType.ON_DEMAND
    assert by_fhir.content == b"made for FHIR and SOAP"
    assert list(by_soap.parts.values()) == [by_fhir.content]


async def test_its_source_is_told_what_is_registered(wire: Wire, summaries: SummaryServer) -> None:
    entry = await promised(
        wire, title=text("Summary", "en"), service_start_time=DTM("2026"), event_code_list=(code("29303009"),)
    )
    summaries.gives(entry.unique_id or "", b"made")

    await retrieved(wire, entry)

    headers, told = summaries.asked[-1]
    assert headers["Content-Type"].startswith("application/json")
    assert (headers["Accept"], headers["Authorization"]) == ("text/plain", "Bearer some-token")
    expected = {
        "entryUUID": entry.entry_uuid,
        "logicalID": entry.logical_id,
        "uniqueId": entry.unique_id,
        "repositoryUniqueId": entry.repository_unique_id,
        "patientId": str(entry.patient_id),
        "sourcePatientId": str(entry.source_patient_id),
        "title": [{"value": "Summary", "language": "en"}],
        "mimeType": "text/plain",
        "languageCode": "et-EE",
        "typeCode": {
            "code": "11490-0",
            "codingScheme": "2.16.840.1.113883.6.1",
            "display": "Physician discharge summary",
        },
        "serviceStartTime": "2026",
        "availabilityStatus": "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved",
    }
    assert {name: told.get(name) for name in expected} == expected
    assert [each["code"] for each in told["eventCodeList"]] == ["29303009"]
    assert "serviceStopTime" not in told, "what the entry does not have is not there"


async def test_a_document_may_name_itself(wire: Wire, summaries: SummaryServer) -> None:
    entry = await promised(wire)
    summaries.gives(entry.unique_id or "", b"made", **{"Document-Unique-Id": "1.2.3^summary"})
    (document,) = (await retrieved(wire, entry)).retrieved.documents
    assert document.new_document_unique_id == "1.2.3^summary"


@pytest.mark.parametrize("size", [0, MOST_OCTETS])
async def test_a_document_of_any_size_that_is_allowed_is_made(wire: Wire, summaries: SummaryServer, size: int) -> None:
    entry = await promised(wire, mime_type="application/pdf")
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    summaries.gives(entry.unique_id or "", content, "Application/PDF; version=1.7")
    assert list((await retrieved(wire, entry)).parts.values()) == [content]


async def test_it_is_sent_inline_to_whoever_asks_in_simple_soap(wire: Wire, summaries: SummaryServer) -> None:
    entry = await promised(wire)
    summaries.gives(entry.unique_id or "", b"made")
    answer = await wire.simple(ITI_43, retrieve_request([asked(entry)]))
    (document,) = answer.retrieved.documents
    assert document.inline == "bWFkZQ=="
    assert document.new_document_unique_id


async def test_a_source_that_stumbles_is_asked_again(wire: Wire, summaries: SummaryServer) -> None:
    entry = await promised(wire)
    summaries.refuses(entry.unique_id or "", 503)
    assert list((await retrieved(wire, entry)).parts.values()) == [b"made"]


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def slow(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    await response.write(b"it begins")
    await asyncio.sleep(60)
    return response


async def cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"it begins")
    assert request.transport is not None
    request.transport.abort()
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65536)


async def moved(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/elsewhere")


async def a_page(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"<p>Please log in</p>", content_type="text/html")


async def its_own_id(request: web.Request) -> web.StreamResponse:
    unique_id = (await request.json())["uniqueId"]
    return web.Response(body=b"made", content_type="text/plain", headers={"Document-Unique-Id": unique_id})


def status(code: int) -> Any:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text="secret")

    return answer


BROKEN: Sequence[tuple[str, Any, str, str]] = (
    ("204", status(204), "XDSDocumentUniqueIdError", "nothing that it could be made of now"),
    ("404", status(404), "XDSDocumentUniqueIdError", "nothing that it could be made of now"),
    ("410", status(410), "XDSDocumentUniqueIdError", "nothing that it could be made of now"),
    ("401", status(401), "XDSRepositoryError", "its source has failed"),
    ("429", status(429), "XDSRepositoryError", "Ask again later"),
    ("500", status(500), "XDSRepositoryError", "Ask again later"),
    ("503 again and again", status(503), "XDSRepositoryError", "Ask again later"),
    ("a redirect", moved, "XDSRepositoryError", "its source has failed"),
    ("another type", a_page, "XDSRepositoryError", "made as 'text/html', and its DocumentEntry says 'text/plain'"),
    ("the uniqueId of the entry", its_own_id, "XDSRepositoryError", "as its uniqueId"),
    ("silence", silent, "XDSRepositoryError", "does not answer in time"),
    ("an answer that stops", slow, "XDSRepositoryError", "does not answer in time"),
    ("an answer that is cut off", cut_off, "XDSRepositoryError", "Ask again later"),
    ("an answer without an end", endless, "XDSRepositoryError", f"larger than {MOST_OCTETS} octets"),
)  # fmt: skip


@pytest.mark.parametrize(("answer", "error_code", "sentence"), [row[1:] for row in BROKEN],
                         ids=[row[0] for row in BROKEN])  # fmt: skip
async def test_whatever_a_source_does_its_document_is_an_error_and_the_others_are_answered(
    wire: Wire, summaries: SummaryServer, answer: Any, error_code: str, sentence: str
) -> None:
    bad, good, kept = await promised(wire), await promised(wire), await provided(wire)
    summaries.answers[bad.unique_id or ""] = answer
    summaries.gives(good.unique_id or "", b"made")

    reply = await retrieved(wire, bad, good, kept)

    assert reply.retrieved.status is ResponseStatus.PARTIAL_SUCCESS
    assert list(reply.parts.values()) == [b"made", CONTENT]
    (error,) = reply.retrieved.errors
    assert error.code == error_code
    assert sentence in error.code_context
    assert "secret" not in error.code_context


def head(*headers: bytes) -> bytes:
    """An answer of four octets, with more headers or others."""
    return b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Length: 4", *headers, b"", b""))


TEXT = b"Content-Type: text/plain"
ODD: Sequence[tuple[str, bytes]] = (
    ("nothing", b""),
    ("noise", bytes(range(256))),
    ("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n"),
    ("half a head", head(TEXT)[:-9]),
    ("a head without an end", head(b"X: " + b"x" * 100_000)[:-4]),
    ("two lengths", head(TEXT, b"Content-Length: 5") + b"made"),
    ("broken chunks", b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nmade"),
    ("what is not compressed", head(TEXT, b"Content-Encoding: gzip") + b"made"),
    ("no status of HTTP", b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"),
    ("no type", head() + b"made"),
    ("a type that is none", head(b"Content-Type: \xff\xfe") + b"made"),
    ("an id that is none", head(TEXT, b"Document-Unique-Id: a b") + b"made"),
    ("fewer octets than it says", head(TEXT) + b"mad"),
)  # fmt: skip


@pytest.mark.parametrize("octets", [row[1] for row in ODD], ids=[row[0] for row in ODD])
@pytest.mark.parametrize("persist", [False, True], ids=["passed on", "kept"])
async def test_whatever_octets_a_source_answers_are_an_error_and_none_is_kept(
    wire: Wire, server: str, tmp_path: Path, octets: bytes, persist: bool
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(octets)
        writer.close()

    here = oid()
    settings = {"actors": ["repository"], "registry_url": f"{server}/xds/registry", "repository_unique_id": here}
    entry = await promised(wire, repository_unique_id=here, patient_id=some_patient())
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as odd:
        url = f"http://127.0.0.1:{odd.sockets[0].getsockname()[1]}/"
        source = {"name": "odd", "url": url, "persist": persist, "retries": 0, "timeout_seconds": TIME_SECONDS}
        async with running_server(tmp_path, **settings, on_demand=[source]) as base:
            reply = await retrieved(Wire(base, wire.session), entry)

    assert reply.codes == ["XDSRepositoryError"]
    assert documents_in(tmp_path) == set()
    assert await snapshots_of(wire, entry) == []


async def test_an_entry_of_another_repository_is_not_made_here(wire: Wire, summaries: SummaryServer) -> None:
    entry = await promised(wire, repository_unique_id=oid())
    summaries.gives(entry.unique_id or "", b"made")
    assert (await retrieved(wire, entry)).codes == ["XDSUnknownRepositoryId"]


async def test_fhir_apps_retrieve_what_is_made_for_them(wire: Wire, fhir: FhirWire, summaries: SummaryServer) -> None:
    entry = await promised(wire)
    path = f"Binary/{entry.entry_uuid.removeprefix('urn:uuid:')}"
    tags = []
    for content in (b"monday", b"tuesday"):
        summaries.gives(entry.unique_id or "", content)
        reply = await fhir.get(path, Range="bytes=0-2")
        assert (reply.status, reply.content) == (200, content), "parts of two documents would make none"
        assert reply.headers["Content-Type"] == "text/plain"
        tags.append(reply.headers["ETag"])
        assert "Accept-Ranges" not in reply.headers
    assert tags[0] != tags[1]
    assert (await fhir.get(path, If_None_Match=tags[1])).status == 304
    binary = await fhir.get(path, Accept="application/fhir+json")
    assert binary.resource["data"] == "dHVlc2RheQ=="


TOLD_TO_APPS: Sequence[tuple[str, Any, int, str, str]] = (
    ("404", status(404), 404, "not-found", "nothing that it could be made of now"),
    ("401", status(401), 500, "exception", "its source has failed"),
    ("429", status(429), 503, "transient", "Ask again later"),
    ("503 again and again", status(503), 503, "transient", "Ask again later"),
    ("silence", silent, 503, "transient", "Ask again later"),
    ("an answer that is cut off", cut_off, 503, "transient", "Ask again later"),
    ("an answer without an end", endless, 500, "exception", f"larger than {MOST_OCTETS} octets"),
)


@pytest.mark.parametrize(
    ("answer", "http", "issue", "sentence"), [row[1:] for row in TOLD_TO_APPS], ids=[row[0] for row in TOLD_TO_APPS]
)
@pytest.mark.parametrize("kept", [False, True], ids=["made for each", "kept"])
async def test_fhir_apps_are_told_why_a_document_is_not_made_and_whether_to_come_again(
    wire: Wire, fhir: FhirWire, summaries: SummaryServer, kept: bool, answer: Any, http: int, issue: str, sentence: str
) -> None:
    entry = await (promised_and_kept(wire) if kept else promised(wire))
    summaries.answers[entry.unique_id or ""] = answer

    reply = await fhir.get(f"Binary/{entry.entry_uuid.removeprefix('urn:uuid:')}")

    assert (reply.status, reply.issue["code"]) == (http, issue)
    assert sentence in reply.issue["details"]["text"]
    assert ("Retry-After" in reply.headers) is (http == 503)
    code_of_xds = "XDSDocumentUniqueIdError" if http == 404 else "XDSRepositoryError"
    assert reply.issue["details"]["coding"] == [{"code": code_of_xds}]


async def test_a_repository_in_front_of_a_registry_elsewhere_makes_documents_as_well(
    server: str, summaries: SummaryServer, tmp_path: Path
) -> None:
    here = oid()
    settings = {"actors": ["repository"], "registry_url": f"{server}/xds/registry", "repository_unique_id": here}
    source = {"name": "summaries", "url": summaries.url}
    async with (
        running_server(tmp_path, **settings, on_demand=[source]) as base,
        aiohttp.ClientSession() as session,
    ):
        entry = await promised(Wire(server, session), repository_unique_id=here)
        summaries.gives(entry.unique_id or "", b"made")
        reply = await retrieved(Wire(base, session), entry)
    assert list(reply.parts.values()) == [b"made"]


async def test_fhir_in_front_of_a_repository_elsewhere_passes_on_what_is_made_there(
    wire: Wire, server: str, summaries: SummaryServer, tmp_path: Path
) -> None:
    entry = await promised(wire)
    summaries.gives(entry.unique_id or "", b"made")
    urls = {"registry_url": f"{server}/xds/registry", "repository_url": f"{server}/xds/repository"}
    async with running_server(tmp_path, actors=["mhd"], **urls) as base, aiohttp.ClientSession() as session:
        reply = await FhirWire(base, session).get(f"Binary/{entry.entry_uuid.removeprefix('urn:uuid:')}")
    assert (reply.status, reply.content) == (200, b"made")
    assert reply.headers["ETag"]


@pytest.mark.parametrize("trusted", [True, False], ids=["its authority", "another authority"])
async def test_a_source_is_asked_over_tls_and_has_to_be_of_the_authority_that_is_set(
    wire: Wire, server: str, tmp_path: Path, trusted: bool
) -> None:
    authority, other, here = trustme.CA(), trustme.CA(), oid()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    (authority if trusted else other).cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings = {"actors": ["repository"], "registry_url": f"{server}/xds/registry", "repository_unique_id": here}
    entry = await promised(wire, repository_unique_id=here)
    async with summary_server(context) as summaries:
        summaries.gives(entry.unique_id or "", b"made")
        source = {"name": "summaries", "url": summaries.url, "ca": tmp_path / "ca.pem"}
        async with running_server(tmp_path / "data", **settings, on_demand=[source]) as base:
            reply = await retrieved(Wire(base, wire.session), entry)
    assert (list(reply.parts.values()), reply.codes) == (([b"made"], []) if trusted else ([], ["XDSRepositoryError"]))


# Persistence of Retrieved Documents ---------------------------------------------------------------------------------


async def test_what_is_made_is_kept_as_a_snapshot_that_can_be_found_and_retrieved(
    wire: Wire, summaries: SummaryServer
) -> None:
    entry = await promised_and_kept(wire)
    summaries.gives(entry.unique_id or "", b"monday")

    answer = await retrieved(wire, entry)

    assert list(answer.parts.values()) == [b"monday"]
    (document,) = answer.retrieved.documents
    assert document.new_repository_unique_id == entry.repository_unique_id
    (snapshot,) = await snapshots_of(wire, entry)
    assert (snapshot.unique_id, snapshot.size) == (document.new_document_unique_id, "6")
    assert snapshot.type_code == entry.type_code
    related = await wire.query(
        "GetRelatedDocuments",
        XDSDocumentEntryEntryUUID=f"'{entry.entry_uuid}'",
        AssociationTypes="('urn:ihe:iti:2010:AssociationType:IsSnapshotOf')",
        XDSDocumentEntryType="('" + "','".join(DocumentEntryType) + "')",
    )
    assert snapshot.entry_uuid in {each.entry_uuid for each in related.query_response.found}
    summaries.refuses(entry.unique_id or "", 404)
    assert list((await retrieved(wire, snapshot)).parts.values()) == [b"monday"], "it is there without its source"


async def test_a_snapshot_replaces_the_one_before_it_and_unchanged_content_brings_none(
    wire: Wire, summaries: SummaryServer
) -> None:
    entry = await promised_and_kept(wire)
    made_as = []
    for content in (b"monday", b"monday", b"tuesday", b"tuesday", b"monday"):
        summaries.gives(entry.unique_id or "", content)
        (document,) = (await retrieved(wire, entry)).retrieved.documents
        made_as.append(document.new_document_unique_id)

    assert made_as[0] == made_as[1] == made_as[4] != made_as[2] == made_as[3]
    assert [each.unique_id for each in await snapshots_of(wire, entry)] == [made_as[4]]
    before = await snapshots_of(wire, entry, XDSDocumentEntryStatus=DEPRECATED)
    assert sorted(each.unique_id or "" for each in before) == sorted({made_as[0] or "", made_as[2] or ""})
    for each, content in ((made_as[0], b"monday"), (made_as[2], b"tuesday")):
        snapshot = document_entry(unique_id=each, repository_unique_id=entry.repository_unique_id)
        assert list((await retrieved(wire, snapshot)).parts.values()) == [content]


@pytest.mark.parametrize("differ", [False, True], ids=["equal", "different"])
async def test_whatever_is_retrieved_at_the_same_moment_one_snapshot_stands(
    wire: Wire, summaries: SummaryServer, differ: bool
) -> None:
    entry, number = await promised_and_kept(wire), iter(range(100))

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"made %d" % (next(number) if differ else 0), content_type="text/plain")

    summaries.answers[entry.unique_id or ""] = answer
    replies = await asyncio.gather(*(retrieved(wire, entry) for _ in range(4)))

    (standing,) = await snapshots_of(wire, entry)
    made = [document for reply in replies for document in reply.retrieved.documents]
    assert standing.unique_id in {document.new_document_unique_id for document in made}
    assert {error.code for reply in replies for error in reply.retrieved.errors} <= {"XDSRepositoryBusy"}
    if not differ:
        assert len(made) == 4
        assert await snapshots_of(wire, entry, XDSDocumentEntryStatus=DEPRECATED) == []


async def test_there_may_be_more_snapshots_than_a_query_answers(wire: Wire, summaries: SummaryServer) -> None:
    entry = await promised_and_kept(wire)
    for number in range(MOST_RESULTS + 2):
        summaries.gives(entry.unique_id or "", b"made %d" % number)
        reply = await retrieved(wire, entry)
        assert list(reply.parts.values()) == [b"made %d" % number], reply.content
    assert len(await snapshots_of(wire, entry)) == 1


async def test_fhir_apps_retrieve_a_snapshot(wire: Wire, fhir: FhirWire, summaries: SummaryServer) -> None:
    entry = await promised_and_kept(wire)
    summaries.gives(entry.unique_id or "", b"made")
    reply = await fhir.get(f"Binary/{entry.entry_uuid.removeprefix('urn:uuid:')}")
    assert (reply.status, reply.content) == (200, b"made")
    (snapshot,) = await snapshots_of(wire, entry)
    reference = await fhir.get(f"DocumentReference/{snapshot.entry_uuid.removeprefix('urn:uuid:')}")
    (relation,) = reference.resource["relatesTo"]
    assert relation["code"] == "transforms"
    assert relation["target"]["reference"].endswith(entry.entry_uuid.removeprefix("urn:uuid:"))


def documents_in(data: Path) -> set[Path]:
    """The files of documents in a data directory."""
    return {path for path in (data / "documents").rglob("*") if path.is_file()}


async def test_a_snapshot_that_the_registry_refuses_is_an_error_and_leaves_no_trace(
    summaries: SummaryServer, tmp_path: Path
) -> None:
    listed = {"code": "34133-9", "scheme": "2.16.840.1.113883.6.1"}
    source = {"name": "summaries", "url": summaries.url, "persist": True}
    settings = {"codes": {"content_type_code": {"policy": "reject", "values": [listed]}}, "mhd": {}}
    async with aiohttp.ClientSession() as session:
        async with running_server(tmp_path, **settings, on_demand=[source]) as base:
            wire = Wire(base, session)
            entry = await promised(wire)
            summaries.gives(entry.unique_id or "", b"made")
            there = documents_in(tmp_path)
            refused = await retrieved(wire, entry)
            assert documents_in(tmp_path) == there
            assert [each.object_type for each in await entries_of(wire, entry.unique_id or "")] == [entry.object_type]
        async with running_server(tmp_path, **settings, on_demand=[{**source, "content_type": listed}]) as base:
            kept = await retrieved(Wire(base, session), entry)

    assert refused.codes == ["XDSRepositoryError"]
    assert "XDSRegistryMetadataError" in refused.retrieved.errors[0].code_context
    assert list(kept.parts.values()) == [b"made"]


async def test_a_repository_registers_snapshots_at_a_registry_elsewhere(
    wire: Wire, server: str, summaries: SummaryServer, tmp_path: Path
) -> None:
    here = oid()
    settings = {"actors": ["repository"], "registry_url": f"{server}/xds/registry", "repository_unique_id": here}
    source = {"name": "summaries", "url": summaries.url, "persist": True}
    entry = await promised(wire, repository_unique_id=here, patient_id=some_patient())
    summaries.gives(entry.unique_id or "", b"made")
    async with running_server(tmp_path, **settings, on_demand=[source]) as base:
        replies = [await retrieved(Wire(base, wire.session), entry) for _ in range(2)]
    assert [list(reply.parts.values()) for reply in replies] == [[b"made"]] * 2
    assert [each.repository_unique_id for each in await snapshots_of(wire, entry)] == [here]


async def test_where_the_registry_elsewhere_is_away_nothing_is_kept(summaries: SummaryServer, tmp_path: Path) -> None:
    settings = {"actors": ["repository"], "registry_url": "http://127.0.0.1:9/", "repository_unique_id": REPOSITORY}
    source = {"name": "summaries", "url": summaries.url, "persist": True}
    async with (
        running_server(tmp_path, **settings, on_demand=[source]) as base,
        aiohttp.ClientSession() as session,
    ):
        reply = await retrieved(Wire(base, session), document_entry())
    assert reply.codes == ["XDSRegistryNotAvailable"]
