"""Apps that run in a browser (CORS): those of an origin that the settings name may ask, and read what is answered."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from server.cors import EXPOSED_HEADERS
from tests.builders import document_entry, submission, unmeasured
from tests.conformance.authorization_server import AUDIENCE, AuthorizationServer, authorization_server
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.test_find_document_references import of, some_patient
from tests.conformance.wire import Wire, running_server
from tests.served_app import served
from xds.hl7v2 import CX

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = Path(__file__).parent / "browser/app.html"
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE_SECONDS = 60
APP = "https://app.hospital.example"
STRANGER = "https://app.hospital.example.evil.example"
CONTENT = b"A document of another origin"
DOCUMENT = "Binary/00000000-0000-4000-8000-000000000000"
PREFLIGHT = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
ANYWAY = {"cache-control", "content-length", "content-type"}
"""What any page may read of an answer (Fetch Standard, 2.2.3: CORS-safelisted response-header name)."""
OF_NO_USE = {
    "access-control-allow-origin", "access-control-expose-headers", "date", "server", "vary", "x-content-type-options",
}  # fmt: skip
"""What is for the browser itself, or for nobody."""


@dataclass(frozen=True)
class Guarded:
    """A server that asks for access tokens, leaves audit events, and lets apps of one origin ask."""

    base: str
    fhir: FhirWire
    wire: Wire
    issuer: AuthorizationServer
    audit: Path

    async def asked(self, method: str, path: str, origin: str = APP, scope: str = "", **headers: str) -> FhirReply:
        """headers: with _ in place of -"""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        token = {"Authorization": f"Bearer {self.issuer.token(scope)}"} if scope else {}
        return await self.fhir.send(method, path, headers={"Origin": origin} | token | sent)

    async def kept(self) -> tuple[CX, str]:
        """A patient with one document, and its id."""
        entry = unmeasured(document_entry(patient_id=(patient := some_patient())))
        assert (await self.wire.provide(submission(entry), {entry.entry_uuid: CONTENT})).registry_response.succeeded
        return patient, entry.entry_uuid.removeprefix("urn:uuid:")


@asynccontextmanager
async def guarded_server(data: Path, *origins: str) -> AsyncIterator[Guarded]:
    async with authorization_server() as issuer, aiohttp.ClientSession() as session:
        issuers = [{"issuer": issuer.issuer, "jwks_url": issuer.url}]
        settings = {"iua": {"issuers": issuers, "audience": [AUDIENCE]}, "cors_origins": list(origins)}
        events = data / "events.jsonl"
        async with running_server(data, mhd=settings, audit={"file": events}) as base:
            yield Guarded(base, FhirWire(base, session), Wire(base, session), issuer, events)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    async with guarded_server(tmp_path_factory.mktemp("guarded"), APP) as found:
        yield found


def of_cors(headers: Mapping[str, str]) -> set[str]:
    return {name for name in headers if name.startswith("Access-Control-")}


async def test_a_browser_is_told_which_requests_a_page_may_make_without_a_token_or_an_audit_event(
    guarded: Guarded,
) -> None:
    for path in ("", "metadata", "DocumentReference", DOCUMENT, "nothing/at/all"):
        reply = await guarded.fhir.send("OPTIONS", path, headers={"Origin": APP, **PREFLIGHT})

        assert (reply.status, reply.content) == (204, b"")
        assert reply.headers["Access-Control-Allow-Origin"] == APP
        assert reply.headers["Access-Control-Allow-Methods"] == "GET, HEAD, POST, PUT"
        allowed = {each.strip().lower() for each in reply.headers["Access-Control-Allow-Headers"].split(",")}
        assert {"accept", "authorization", "content-type", "if-none-match", "prefer", "range"} < allowed
        assert "*" not in allowed
        assert "Origin" in reply.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in reply.headers
    assert not guarded.audit.exists() or "00000000-0000-4000-8000" not in guarded.audit.read_text()


async def test_every_answer_says_who_may_read_it_also_where_a_request_is_refused(guarded: Guarded) -> None:
    for method, path, scope, status in (
        ("GET", "metadata", "", 200),
        ("GET", DOCUMENT, "", 401),
        ("GET", DOCUMENT, "ITI-68", 404),
        ("GET", "nothing/at/all", "", 404),
        ("PUT", "List", "", 405),
        ("OPTIONS", "List", "", 405),  # without what makes it a preflight
    ):
        for origin in (APP, STRANGER, APP.upper(), "null", ""):
            reply = await guarded.asked(method, path, origin, scope)

            assert (reply.status, reply.headers["Vary"]) == (status, "Origin")
            assert reply.headers.get("Access-Control-Allow-Origin") == (APP if origin == APP else None)
            assert len(of_cors(reply.headers)) == (2 if origin == APP else 0)


async def test_an_origin_that_is_not_named_is_not_let_in_by_a_preflight(guarded: Guarded) -> None:
    for origin in (STRANGER, "null", "*", ""):
        reply = await guarded.fhir.send("OPTIONS", "metadata", headers={"Origin": origin, **PREFLIGHT})

        assert reply.status == 405
        assert not of_cors(reply.headers)


async def test_nothing_but_fhir_is_for_pages_of_other_origins(guarded: Guarded) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("/", "/health/live", "/metrics", "/xds/registry?wsdl", "/fhirs"):
            async with session.get(f"{guarded.base}{path}", headers={"Origin": APP}) as response:
                assert not of_cors(response.headers)
                assert "Vary" not in response.headers


async def test_all_that_an_answer_tells_by_its_headers_can_be_read(guarded: Guarded) -> None:
    _, document = await guarded.kept()
    url = f"Binary/{document}"
    replies = [
        await guarded.asked("GET", url, scope="ITI-68", X_Request_Id="1", Range="bytes=1-2"),
        await guarded.asked("GET", f"DocumentReference/{document}", scope="ITI-67"),
        await guarded.asked("GET", url),
        await guarded.asked("PUT", "List"),
    ]

    sent = {name.lower() for reply in replies for name in reply.headers}
    exposed = set(replies[0].headers["Access-Control-Expose-Headers"].lower().split(", "))
    assert [reply.status for reply in replies] == [206, 200, 401, 405]
    assert sent - ANYWAY - OF_NO_USE <= exposed == {each.lower() for each in EXPOSED_HEADERS}
    # Those two come with what is created (Location) and with 503.
    assert exposed - sent == {"location", "retry-after"}


async def test_a_server_that_is_too_busy_says_so_to_apps_in_a_browser(tmp_path: Path) -> None:
    limits = {"requests_at_once": 1}
    async with (
        running_server(tmp_path, limits=limits, mhd={"cors_origins": [APP]}) as base,
        aiohttp.ClientSession() as session,
    ):
        fhir = FhirWire(base, session)
        end = asyncio.Event()

        async def unfinished() -> AsyncIterator[bytes]:
            yield b"{"
            await end.wait()

        json_type = {"Content-Type": "application/fhir+json"}
        asking = asyncio.create_task(fhir.send("POST", "", data=unfinished(), headers=json_type))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                reply = await fhir.get("metadata", Origin=APP)
                if reply.status == 503:
                    break
        preflight = await fhir.send("OPTIONS", "metadata", headers={"Origin": APP, **PREFLIGHT})
        end.set()
        await asking

    assert reply.headers["Access-Control-Allow-Origin"] == APP
    assert "Retry-After" in reply.headers["Access-Control-Expose-Headers"]
    assert preflight.status == 204


async def test_any_origin_is_any_origin_and_never_with_credentials(tmp_path: Path) -> None:
    async with running_server(tmp_path, mhd={"cors_origins": ["*"]}) as base, aiohttp.ClientSession() as session:
        fhir = FhirWire(base, session)
        for reply in (
            await fhir.get("metadata", Origin=STRANGER),
            await fhir.get("metadata"),
            await fhir.send("OPTIONS", "", headers={"Origin": STRANGER, **PREFLIGHT}),
        ):
            assert reply.headers["Access-Control-Allow-Origin"] == "*"
            assert "Access-Control-Allow-Credentials" not in reply.headers
            assert "Vary" not in reply.headers


async def test_without_the_setting_no_header_is_sent_and_the_capability_statement_says_so(tmp_path: Path) -> None:
    async with running_server(tmp_path) as base, aiohttp.ClientSession() as session:
        fhir = FhirWire(base, session)
        preflight = await fhir.send("OPTIONS", "metadata", headers={"Origin": APP, **PREFLIGHT})
        reply = await fhir.get("metadata", Origin=APP)

    assert preflight.status == 405
    for each in (preflight, reply):
        assert not of_cors(each.headers)
        assert "Vary" not in each.headers
    assert reply.resource["rest"][0]["security"]["cors"] is False


# In a browser --------------------------------------------------------------------------------------------------------


@dataclass
class AppServer:
    """Where an app was loaded from."""

    url: str = ""
    found: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    async def page(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE)

    async def take(self, request: web.Request) -> web.Response:
        await self.found.put(await request.json())
        return web.Response()


@asynccontextmanager
async def app_server() -> AsyncIterator[AppServer]:
    server = AppServer()
    app = web.Application()
    app.router.add_get("/", server.page)
    app.router.add_post("/found", server.take)
    async with served(app) as server.url:
        yield server


async def found_by(app: AppServer, asked: Mapping[str, Any], profile: Path) -> dict[str, Any]:
    """What the app found when a browser opened it."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"there is no browser on the PATH, such as {BROWSERS[0]}")
    process = await asyncio.create_subprocess_exec(
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--remote-debugging-port=0", f"--user-data-dir={profile}", f"{app.url}/#{quote(json.dumps(asked))}",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await app.found.get()
    finally:
        # The program may be a script that has started the browser, which has processes of its own.
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def test_a_page_of_a_named_origin_searches_reads_and_downloads_and_one_of_another_is_not_let_in(
    tmp_path: Path,
) -> None:
    async with (
        app_server() as app,
        app_server() as stranger,
        guarded_server(tmp_path / "data", app.url) as guarded,
    ):
        patient, document = await guarded.kept()
        tokens = {scope: guarded.issuer.token(scope) for scope in ("ITI-67", "ITI-68")}
        asked = {"base": guarded.fhir.base, "patient": of(patient), "tokens": tokens}

        found = await found_by(app, asked, tmp_path / "app")
        strangers = await found_by(stranger, asked, tmp_path / "stranger")

    challenge = found["refused"][1]
    assert found == {
        "cors": True,
        "requestId": "app-1",
        "id": document,
        "location": f"{guarded.fhir.base}/DocumentReference/{document}",
        "notModified": 304,
        "document": CONTENT.decode(),
        "disposition": found["disposition"],
        "part": "docu",
        "range": f"bytes 2-5/{len(CONTENT)}",
        "refused": [401, challenge, "OperationOutcome"],
        "unknown": [404, "not-found"],
    }
    assert found["disposition"].startswith("attachment")
    assert challenge.startswith("Bearer ")
    assert strangers == {"problem": "TypeError"}
