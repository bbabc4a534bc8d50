"""Requests that are no HTTP, or more than is read: answered in the form of the endpoint that they name.

They are answered before any of our handlers is asked, by a subclass of the HTTP library's connection. If a release of
aiohttp no longer asks that one, these tests fail.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from mhd.fhir.fhir_json import parsed
from tests.conformance.wire import reply, running_server
from tests.fhir_validity import assert_is_fhir

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = {"url_bytes": 8192}
PATIENT = b"45703159985"
LONG = b"?patient.identifier=urn:oid:1.2.3%7C" + PATIENT + b"&type=" + b"x" * 9000
PATIENCE_SECONDS = 60


class Answer(NamedTuple):
    status: int
    headers: Message
    content: bytes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with running_server(tmp_path_factory.mktemp("server"), limits=LIMITS) as base:
        yield base


async def answered(server: str, *pieces: bytes) -> Answer:
    """What is answered to these octets, until the server closes the connection."""
    url = urlsplit(server)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    line, _, headers = head.partition(b"\r\n")
    return Answer(int(line.split()[1]), message_from_bytes(headers), content)


def head(method: bytes, target: bytes, *headers: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join((b" ".join((method, target, version)), b"Host: a.example", *headers, b"", b""))


UNREADABLE = (
    ("a long URL", lambda path: head(b"GET", path + LONG), 400, "too-costly", "more than 8192 octets"),
    ("a long header", lambda path: head(b"POST", path, b"X: " + b"x" * 9000), 400, "too-costly", "a header"),
    ("too many headers", lambda path: head(b"POST", path, *[b"X: 1"] * 300), 400, "structure", "no HTTP"),
    ("a method that nobody knows", lambda path: head(b"FOO", path), 400, "not-supported", "no method that HTTP knows"),
    ("another HTTP", lambda path: head(b"POST", path, version=b"HTTP/7.3"), 400, "structure", "no HTTP"),
    ("a length that is none", lambda path: head(b"POST", path, b"Content-Length: x"), 400, "structure", "no HTTP"),
    (
        "a chunk without a length",
        lambda path: head(b"POST", path, b"Transfer-Encoding: chunked") + b"nonsense\r\n",
        400, "structure", "no HTTP",
    ),
)  # fmt: skip
OF_A_CODING = ("br", "zstd")
"""Which the HTTP library may be able to undo, with others beside it."""


@pytest.mark.parametrize("path", [b"/fhir", b"/fhir/DocumentReference", b"/fhir/Binary/1"])
@pytest.mark.parametrize(
    ("request_to", "status", "code", "sentence"), [row[1:] for row in UNREADABLE], ids=[row[0] for row in UNREADABLE]
)
async def test_a_fhir_app_gets_an_operation_outcome(  # type: ignore[no-untyped-def]
    server: str, path: bytes, request_to, status: int, code: str, sentence: str
) -> None:
    answer = await answered(server, request_to(path))

    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/fhir+json; charset=utf-8")
    resource = parsed(answer.content)
    assert_is_fhir(resource)
    [issue] = resource["issue"]
    assert (resource["resourceType"], issue["code"]) == ("OperationOutcome", code)
    assert sentence in issue["details"]["text"]
    assert PATIENT not in answer.content


@pytest.mark.parametrize("path", [b"/xds/registry", b"/xds/repository"])
@pytest.mark.parametrize(
    ("request_to", "status", "sentence"),
    [(*row[1:3], row[4]) for row in UNREADABLE],
    ids=[row[0] for row in UNREADABLE],
)
async def test_who_posts_soap_gets_a_fault_and_others_there_plain_text(  # type: ignore[no-untyped-def]
    server: str, path: bytes, request_to, status: int, sentence: str
) -> None:
    sent = request_to(path)
    answer = await answered(server, sent)

    assert answer.status == status
    if sent.startswith(b"POST"):
        assert sentence in reply(answer.status, dict(answer.headers.items()), answer.content).fault
    else:
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert sentence in answer.content.decode()


@pytest.mark.parametrize("coding", OF_A_CODING)
async def test_a_body_in_a_coding_that_is_not_read_is_415_at_every_endpoint(server: str, coding: str) -> None:
    headers = (f"Content-Encoding: {coding}".encode(), b"Content-Type: application/fhir+json", b"Content-Length: 4")

    by_fhir = await answered(server, head(b"POST", b"/fhir", *headers, b"Connection: close") + b"{}{}")

    # With a library for it, the body is read, and is not what it says it is.
    assert by_fhir.status in (415, 400)
    assert parsed(by_fhir.content)["issue"][0]["code"] in ("not-supported", "structure")


@pytest.mark.parametrize(
    "sent", [head(b"FOO", b"/"), head(b"FOO", b"/fhirs"), b"\x16\x03\x01\x02\x00\x01", b"x\r\n\r\n"]
)
async def test_what_names_no_endpoint_is_answered_in_plain_text(server: str, sent: bytes) -> None:
    answer = await answered(server, sent)

    assert (answer.status, answer.headers.get_content_type()) == (400, "text/plain")
    assert answer.content.decode().endswith(".\n")


async def test_a_long_url_that_comes_in_pieces_is_told_as_well(server: str) -> None:
    sent = head(b"GET", b"/fhir/DocumentReference" + LONG)

    # The last piece makes it too long: nothing is on its way to a connection that was closed after the answer.
    answer = await answered(server, *(sent[at : at + 1500] for at in range(0, 7500, 1500)), sent[7500:])

    assert parsed(answer.content)["issue"][0]["code"] == "too-costly"


async def test_a_connection_is_told_of_the_request_that_can_not_be_read_not_of_the_one_before(server: str) -> None:
    url = urlsplit(server)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    async with asyncio.timeout(PATIENCE_SECONDS):
        writer.write(head(b"GET", b"/health/live"))
        first = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(message_from_bytes(first.partition(b"\r\n")[2])["Content-Length"]))
        writer.write(head(b"FOO", b"/fhir/metadata"))
        second = await reader.read()
    writer.close()

    assert b" 200 " in first.partition(b"\r\n")[0]
    assert b"OperationOutcome" in second


async def test_nothing_of_what_was_sent_is_in_the_log(server: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await answered(server, head(b"GET", b"/fhir/DocumentReference" + LONG))
        await answered(server, head(b"FOO", b"/fhir/DocumentReference?patient=" + PATIENT))

    assert [each.message for each in caplog.records].count("What came is no HTTP, or too long, and was refused.") == 2
    assert PATIENT.decode() not in caplog.text


async def test_without_the_mhd_actor_there_is_nobody_who_speaks_fhir(tmp_path: Path) -> None:
    async with running_server(tmp_path, actors=["registry", "repository"]) as base:
        answer = await answered(base, head(b"FOO", b"/fhir"))

    assert answer.headers.get_content_type() == "text/plain"
