"""Answers that slow readers leave in the server's memory are limited in number, not in what they hold."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest_asyncio

from tests.builders import document_entry, submission
from tests.conformance.wire import Wire, envelope, running_server
from xds import soap
from xds.actors import QueryRequest, ReturnType
from xds.ebxml_messages import query_request
from xds.metadata import DocumentEntry, Slot
from xds.transactions import ITI_18

ENTRIES = 40
MUCH = (Slot("urn:example:much", ("x" * 200,) * 1500),)
"""So much that an answer does not fit into what the operating system holds for a reader who does not read."""


@pytest_asyncio.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with (
        running_server(tmp_path / "data", limits={"large_answers_at_once": 1}) as base,
        aiohttp.ClientSession() as session,
    ):
        yield Wire(base, session)


async def registered(wire: Wire) -> list[DocumentEntry]:
    entries = [document_entry(extra_slots=MUCH) for _ in range(ENTRIES)]
    assert (await wire.register(submission(*entries))).registry_response.succeeded
    return entries


def query(entries: list[DocumentEntry]) -> bytes:
    """GetDocuments for these entries."""
    named = ",".join(f"'{each.entry_uuid}'" for each in entries)
    parameters = (("$XDSDocumentEntryEntryUUID", (f"({named})",)),)
    body = query_request(
        QueryRequest("urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4", ReturnType.LEAF_CLASS, parameters)
    )
    return envelope(ITI_18, body)


async def reader_who_does_not_read(wire: Wire, message: bytes) -> socket.socket:
    """A connection on which a query was sent, and its answer has begun to arrive."""
    url = urlsplit(wire.url(ITI_18))
    connection = socket.create_connection((url.hostname or "", url.port or 0))
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    head = f"POST {url.path} HTTP/1.1\r\nHost: x\r\nContent-Type: {soap.CONTENT_TYPE}\r\n"
    await loop.sock_sendall(connection, f"{head}Content-Length: {len(message)}\r\n\r\n".encode() + message)
    assert (await loop.sock_recv(connection, 12)).startswith(b"HTTP/1.1 200")
    return connection


async def rest_of(connection: socket.socket) -> bytes:
    """What else there is to read until the answer is complete."""
    received = bytearray()
    while not received.endswith(soap.ENVELOPE_TAIL):
        chunk = await asyncio.get_running_loop().sock_recv(connection, 1 << 20)
        assert chunk, "the answer was cut short"
        received += chunk
    return bytes(received)


async def test_more_large_answers_than_can_be_held_at_once_are_told_to_come_again(wire: Wire) -> None:
    entries = await registered(wire)
    slow = await reader_who_does_not_read(wire, query(entries))
    try:
        refused = await wire.post(wire.url(ITI_18), query(entries), {"Content-Type": soap.CONTENT_TYPE})
        small = await wire.post(wire.url(ITI_18), query(entries[:1]), {"Content-Type": soap.CONTENT_TYPE})
        answer = await rest_of(slow)
    finally:
        slow.close()

    assert refused.status == 503
    assert refused.headers["Retry-After"] == "1"
    assert "try again" in refused.fault
    assert len(small.query_response.found) == 1
    assert answer.count(b"<rim:ExtrinsicObject ") == ENTRIES
    again = await wire.post(wire.url(ITI_18), query(entries), {"Content-Type": soap.CONTENT_TYPE})
    assert len(again.query_response.found) == ENTRIES


async def test_a_reader_who_goes_away_leaves_room_for_the_next_one(wire: Wire) -> None:
    entries = await registered(wire)
    (await reader_who_does_not_read(wire, query(entries))).close()

    for _ in range(400):  # that somebody has gone is noticed a moment later
        answer = await wire.post(wire.url(ITI_18), query(entries), {"Content-Type": soap.CONTENT_TYPE})
        if answer.status == 200:
            break
        await asyncio.sleep(0.05)

    assert len(answer.query_response.found) == ENTRIES
