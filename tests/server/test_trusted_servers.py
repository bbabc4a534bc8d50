"""What is asked of other servers: of those that the settings name what they have, of all others nothing."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import written
from server.diagnosis import Verdict
from server.settings import load_settings
from server.store_diagnosis import store_diagnoses
from server.trusted_servers import is_below
from tests.builders import CONTENT, CONTENT_HASH, PATIENT, REPOSITORY, document_entry, submission
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.wire import Wire, running_server
from tests.mhd.recipients import bundle_with
from tests.served_app import served
from xds.actors import DocumentRequest
from xds.ebxml_messages import retrieve_request
from xds.metadata import HASH_OF_NOTHING, DocumentEntry
from xds.transactions import ITI_43

EMPTY_SHA1 = "2jmj7l5rSw0yVb/vlWAYkK/YBwk="
IDENTIFIER = {"system": f"urn:oid:{PATIENT.assigning_authority.universal_id}", "value": PATIENT.id_number}


@dataclass
class OtherServer:
    """A server of somebody else, and what it was asked for."""

    url: str = ""
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        match request.path:
            case "/files/1.txt" | "/files/other.txt" as path:
                return web.Response(body=CONTENT if path == "/files/1.txt" else b"another", content_type="text/plain")
            case "/files/1.html":
                return web.Response(body=CONTENT, content_type="text/html")
            case "/files/moved.txt":
                raise web.HTTPFound("/files/1.txt")
            case "/files/silent.txt":
                await asyncio.sleep(30)
            case "/fhir/Patient/1":
                return web.json_response({"resourceType": "Patient", "identifier": [IDENTIFIER]})
            case "/fhir/Patient/in-pieces":
                return await self.in_pieces(request, written({"resourceType": "Patient", "identifier": [IDENTIFIER]}))
            case "/fhir/Patient/large":
                return web.Response(body=b" " * 1024 * 1024 + b"{}", content_type="application/fhir+json")
            case "/fhir/Patient/odd":
                return web.Response(body=b"<html>", content_type="text/html")
        raise web.HTTPNotFound

    async def in_pieces(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """The first octets, and after a while the others."""
        response = web.StreamResponse(headers={"Content-Type": "application/fhir+json"})
        await response.prepare(request)
        await response.write(body[:20])
        await asyncio.sleep(0.1)
        await response.write(body[20:])
        return response


@asynccontextmanager
async def other_server() -> AsyncIterator[OtherServer]:
    found = OtherServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    async with served(app) as found.url:
        yield found


@asynccontextmanager
async def client_of(data: Path, limits: Mapping[str, Any] | None = None, /, **mhd: Any) -> AsyncIterator[FhirWire]:
    authorities = [{"oid": PATIENT.assigning_authority.universal_id}]
    async with (
        running_server(
            data,
            mhd={"elsewhere_seconds": 0.5, **mhd},
            patients={"assigning_authorities": authorities},
            limits=limits or {},
        ) as base,
        aiohttp.ClientSession() as session,
    ):  # fmt: skip
        yield FhirWire(base, session)


async def provided(client: FhirWire, bundle: Json) -> FhirReply:
    return await client.send("POST", "", data=written(bundle), headers={"Content-Type": "application/fhir+json"})


def bundle_at(url: str, entry: DocumentEntry, **attachment: Any) -> Json:
    """A Bundle whose document lies elsewhere."""
    bundle = bundle_with(entry)
    bundle["entry"].pop()
    found = bundle["entry"][1]["resource"]["content"][0]["attachment"]
    found |= {"url": url} | attachment
    return bundle


@pytest.mark.parametrize("changes", [{}, {"size": 0, "hash": EMPTY_SHA1}], ids=["measured", "delayed assembly"])
async def test_a_document_of_a_trusted_server_is_fetched_when_it_is_submitted(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    entry = document_entry()
    async with other_server() as other:
        trusted = {"external_url": "fetch", "document_servers": [f"{other.url}/files"]}
        async with client_of(tmp_path, **trusted) as client:
            reply = await provided(client, bundle_at(f"{other.url}/files/1.txt", entry, **changes))
            assert reply.status == 200, reply.content
            document = await client.get(f"Binary/{entry.entry_uuid[9:]}")

    assert document.content == CONTENT
    assert other.asked == ["/files/1.txt"]


async def test_what_is_above_a_limit_is_refused_as_too_large_and_not_as_what_may_pass(tmp_path: Path) -> None:
    limits = {"document_bytes": len(CONTENT) - 1, "documents_per_submission": 1}
    async with (
        other_server() as other,
        client_of(tmp_path, limits, external_url="fetch", document_servers=[f"{other.url}/files"]) as client,
    ):
        large = await provided(client, bundle_at(f"{other.url}/files/1.txt", document_entry()))
        many = await provided(client, bundle_with(document_entry(), document_entry(), content=b"few"))

    for reply, sentence in ((large, "the most that is taken here"), (many, "Send several messages")):
        assert (reply.status, reply.issue["code"]) == (413, "too-costly")
        assert reply.issue["details"]["coding"] == [{"code": "XDSRepositoryOutOfResources"}]
        assert sentence in reply.issue["details"]["text"]
        assert "Retry-After" not in reply.headers


REFUSED: Sequence[tuple[str, Callable[[str], str], dict[str, Any], bool]] = (
    ("of another path", lambda base: f"{base}/other/1.txt", {}, False),
    ("out of the path", lambda base: f"{base}/files/../other/1.txt", {}, False),
    ("out of the path, encoded", lambda base: f"{base}/files/%252e%252e/other/1.txt", {}, False),
    ("of a user", lambda base: base.replace("http://", "http://user@") + "/files/1.txt", {}, False),
    ("of another server", lambda _: "http://127.0.0.1:9/files/1.txt", {}, False),
    ("that is not there", lambda base: f"{base}/files/2.txt", {}, True),
    ("of another type", lambda base: f"{base}/files/1.html", {}, True),
    ("that is elsewhere by now", lambda base: f"{base}/files/moved.txt", {}, True),
    ("of a silent server", lambda base: f"{base}/files/silent.txt", {}, True),
    ("with another hash", lambda base: f"{base}/files/1.txt", {"hash": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}, True),
)  # fmt: skip


@pytest.mark.parametrize(("url", "changes", "is_asked"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_a_document_that_can_not_be_had_is_refused_and_nothing_is_stored(
    tmp_path: Path, url: Callable[[str], str], changes: dict[str, Any], is_asked: bool
) -> None:
    entry = document_entry()
    async with other_server() as other:
        trusted = {"external_url": "fetch", "document_servers": [f"{other.url}/files"]}
        async with client_of(tmp_path, **trusted) as client:
            reply = await provided(client, bundle_at(url(other.url), entry, **changes))

            assert reply.status == 422
            place = "Bundle.entry[1].resource.content[0].attachment"
            assert reply.issue["expression"][0].startswith(place)
            assert (await client.get(f"DocumentReference/{entry.entry_uuid[9:]}")).status == 404
    assert bool(other.asked) == is_asked
    assert len(other.asked) <= 1


NOTHING = {"size": 0, "hash": EMPTY_SHA1}


async def test_a_delayed_document_of_a_trusted_server_is_fetched_once_when_it_is_first_retrieved(
    tmp_path: Path,
) -> None:
    entry = document_entry()
    async with other_server() as other:
        trusted = {"external_url": "assemble", "document_servers": [f"{other.url}/files"]}
        async with client_of(tmp_path, **trusted) as client:
            reply = await provided(client, bundle_at(f"{other.url}/files/1.txt", entry, **NOTHING))
            assert reply.status == 200, reply.content
            assert other.asked == []
            documents = [await client.get(f"Binary/{entry.entry_uuid[9:]}") for _ in range(2)]
            reference = await client.get(f"DocumentReference/{entry.entry_uuid[9:]}")

    assert [each.content for each in documents] == [CONTENT] * 2
    assert other.asked == ["/files/1.txt"]
    attachment = reference.resource["content"][0]["attachment"]
    assert (attachment["size"], attachment["hash"] == EMPTY_SHA1) == (len(CONTENT), False)
    assert attachment["url"].startswith(f"{client.base}/Binary/")


async def test_where_delayed_documents_are_fetched_at_their_retrieval_others_still_are_when_they_are_submitted(
    tmp_path: Path,
) -> None:
    async with other_server() as other:
        trusted = {"external_url": "assemble", "document_servers": [f"{other.url}/files"]}
        async with client_of(tmp_path, **trusted) as client:
            reply = await provided(client, bundle_at(f"{other.url}/files/1.txt", document_entry()))
    assert (reply.status, other.asked) == (200, ["/files/1.txt"])


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/files/2.txt", 503, "Ask again later"),
        ("/files/1.html", 500, "was made as"),
        ("/files/moved.txt", 503, "Ask again later"),
        ("/files/silent.txt", 503, "Ask again later"),
    ],
)
async def test_a_delayed_document_that_can_not_be_fetched_is_an_error_and_can_be_asked_for_again(
    tmp_path: Path, path: str, status: int, sentence: str
) -> None:
    entry = document_entry()
    async with other_server() as other:
        trusted = {"external_url": "assemble", "document_servers": [f"{other.url}/files"]}
        async with client_of(tmp_path, **trusted) as client:
            assert (await provided(client, bundle_at(f"{other.url}{path}", entry, **NOTHING))).status == 200
            for _ in range(2):
                reply = await client.get(f"Binary/{entry.entry_uuid[9:]}")
                assert (reply.status, sentence in reply.issue["details"]["text"]) == (status, True)
            reference = await client.get(f"DocumentReference/{entry.entry_uuid[9:]}")
    assert other.asked == [path, path]
    assert reference.resource["content"][0]["attachment"]["hash"] == EMPTY_SHA1


LINK: dict[str, Any] = {"external_url": "link"}


async def test_a_document_that_stays_elsewhere_is_fetched_whenever_it_is_retrieved(tmp_path: Path) -> None:
    entry = document_entry()
    async with other_server() as other:
        trusted = {**LINK, "document_servers": [f"{other.url}/files"]}
        async with (
            running_server(tmp_path, repository_unique_id=REPOSITORY, mhd=trusted) as base,
            aiohttp.ClientSession() as session,
        ):
            client = FhirWire(base, session)
            reply = await provided(client, bundle_at(f"{other.url}/files/1.txt", entry))
            assert reply.status == 200, reply.content
            assert other.asked == []
            reference = await client.get(f"DocumentReference/{entry.entry_uuid[9:]}")
            attachment = reference.resource["content"][0]["attachment"]
            by_fhir = [(await client.get(attachment["url"])).content for _ in range(2)]
            asked = [DocumentRequest(REPOSITORY, entry.unique_id or "")]
            by_soap = await Wire(base, session).mtom(ITI_43, retrieve_request(asked))

    settings = load_settings(data=tmp_path, repository_unique_id=REPOSITORY, mhd=trusted)
    looks = {each.subject: each async for each in store_diagnoses(settings, deep=True, tell=None)}
    assert looks["documents"].verdict is Verdict.OK
    assert "1 stay on other servers" in looks["documents"].sentence
    assert attachment["url"] == f"{base}/fhir/Binary/{entry.entry_uuid[9:]}"
    assert (attachment["size"], base64.b64decode(attachment["hash"]).hex()) == (len(CONTENT), CONTENT_HASH)
    assert by_fhir == [CONTENT, CONTENT]
    assert list(by_soap.parts.values()) == [CONTENT]
    assert other.asked == ["/files/1.txt"] * 3


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/files/2.txt", 503, "Ask again later"),
        ("/files/silent.txt", 503, "Ask again later"),
        ("/files/other.txt", 500, "is another one by now"),
        ("/files/1.html", 500, "was made as"),
    ],
)
async def test_nothing_else_is_answered_in_the_place_of_a_document_that_stays_elsewhere(
    tmp_path: Path, path: str, status: int, sentence: str
) -> None:
    entry = document_entry()
    async with other_server() as other:
        trusted = {**LINK, "document_servers": [f"{other.url}/files"]}
        async with client_of(tmp_path, **trusted) as client:
            assert (await provided(client, bundle_at(f"{other.url}{path}", entry))).status == 200
            reply = await client.get(f"Binary/{entry.entry_uuid[9:]}")

    assert (reply.status, sentence in reply.issue["details"]["text"]) == (status, True)


@pytest.mark.parametrize("missing", [("hash",), ("size",), ("hash", "size")])
async def test_of_a_document_that_stays_elsewhere_hash_and_size_have_to_be_told(
    tmp_path: Path, missing: tuple[str, ...]
) -> None:
    entry = document_entry()
    async with other_server() as other:
        bundle = bundle_at(f"{other.url}/files/1.txt", entry)
        for each in missing:
            del bundle["entry"][1]["resource"]["content"][0]["attachment"][each]
        async with client_of(tmp_path, **LINK, document_servers=[f"{other.url}/files"]) as client:
            reply = await provided(client, bundle)
            there = await client.get(f"DocumentReference/{entry.entry_uuid[9:]}")

    told = {each["expression"][0].rpartition(".")[2] for each in reply.resource["issue"]}
    assert (reply.status, told, there.status) == (422, set(missing), 404)


async def test_no_server_that_the_settings_do_not_name_keeps_a_document_for_others(tmp_path: Path) -> None:
    by_fhir = document_entry()
    by_soap = {"repository_unique_id": "1.2.3", "size": str(len(CONTENT)), "hash": CONTENT_HASH}
    async with other_server() as other, other_server() as foreign:
        settings = {**LINK, "document_servers": [f"{other.url}/files"]}
        async with (
            running_server(tmp_path, repository_unique_id="1.2.3", mhd=settings) as base,
            aiohttp.ClientSession() as session,
        ):
            client, wire = FhirWire(base, session), Wire(base, session)
            refused = await provided(client, bundle_at(f"{foreign.url}/files/1.txt", by_fhir))
            entry = document_entry(uri=f"{foreign.url}/files/1.txt", **by_soap)
            assert (await wire.register(submission(entry))).registry_response.succeeded
            not_there = await client.get(f"Binary/{entry.entry_uuid[9:]}")
    assert (refused.status, not_there.status) == (422, 410)
    assert (other.asked, foreign.asked) == ([], [])


async def test_no_server_that_the_settings_do_not_name_is_asked_for_a_delayed_document(tmp_path: Path) -> None:
    by_fhir = document_entry()
    ours = {"size": "0", "hash": HASH_OF_NOTHING, "repository_unique_id": "1.2.3"}
    async with other_server() as other, other_server() as foreign:
        trusted = {"external_url": "assemble", "document_servers": [f"{other.url}/files"]}
        by_soap = document_entry(uri=f"{foreign.url}/files/1.txt", **ours)
        async with (
            running_server(tmp_path, repository_unique_id="1.2.3", mhd=trusted) as base,
            aiohttp.ClientSession() as session,
        ):
            client, wire = FhirWire(base, session), Wire(base, session)
            refused = await provided(client, bundle_at(f"{foreign.url}/files/1.txt", by_fhir, **NOTHING))
            assert (await wire.register(submission(by_soap))).registry_response.succeeded
            not_there = await client.get(f"Binary/{by_soap.entry_uuid[9:]}")
    assert (refused.status, not_there.status) == (422, 404)
    assert (other.asked, foreign.asked) == ([], [])


async def test_an_on_demand_document_is_not_taken_for_one_that_is_there(tmp_path: Path) -> None:
    async with other_server() as other:
        trusted = {"external_url": "fetch", "document_servers": [f"{other.url}/files"]}
        async with client_of(tmp_path, **trusted) as client:
            reply = await provided(client, bundle_at(f"{other.url}/files/1.txt", document_entry(hash=None, size=None)))

    assert (reply.status, other.asked) == (422, [])


@pytest.mark.parametrize(
    ("path", "status", "asked"),
    [
        ("/fhir/Patient/1", 200, ["/fhir/Patient/1"]),
        ("/fhir/Patient/in-pieces", 200, ["/fhir/Patient/in-pieces"]),
        ("/fhir/Patient/large", 422, ["/fhir/Patient/large"]),
        ("/fhir/Patient/2", 422, ["/fhir/Patient/2"]),
        ("/fhir/Patient/odd", 422, ["/fhir/Patient/odd"]),
        ("/other/Patient/1", 422, []),
    ],
)
async def test_a_patient_of_a_trusted_server_is_read_once(
    tmp_path: Path, path: str, status: int, asked: list[str]
) -> None:
    bundle = bundle_with(document_entry(patient_id=PATIENT))
    async with other_server() as other:
        for number in (0, 1):
            bundle["entry"][number]["resource"]["subject"] = {"reference": f"{other.url}{path}"}
        async with client_of(tmp_path, patient_servers=[f"{other.url}/fhir"]) as client:
            reply = await provided(client, bundle)

    assert (reply.status, other.asked) == (status, asked)


@pytest.mark.parametrize(
    ("url", "base", "below"),
    [
        ("https://a.example/files/1", "https://a.example/files", True),
        ("https://a.example/files/1?x=../y", "https://a.example/files", True),
        ("https://a.example/files-of-others/1", "https://a.example/files", False),
        ("https://a.example.org/files/1", "https://a.example/files", False),
        ("https://a.example:8443/files/1", "https://a.example/files", False),
        ("http://a.example/files/1", "https://a.example/files", False),
        ("https://a.example/files\\..\\1", "https://a.example/files", False),
        ("https://a.example@b.example/files/1", "https://a.example/files", False),
        ("https://a.example:port/files/1", "https://a.example/files", False),
        ("files/1", "https://a.example/files", False),
    ],
)
def test_a_url_is_below_a_base_or_not(url: str, base: str, below: bool) -> None:
    assert is_below(url, base) == below
