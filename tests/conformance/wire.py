"""Whole messages over real HTTP: what a client sends, and what it gets back, byte by byte.

Every SOAP answer is parsed, and its body is validated against the official schemas where they are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from lxml import etree

from server.serving import serve
from server.settings import Settings
from tests.official_schemas import assert_valid
from tests.shared_material import IS_REQUIRED, SHARED
from xds import hl7v3_messages, soap, xml
from xds.actors import QueryRequest, QueryResponse, RegistryResponse
from xds.ebxml_messages import (
    ReceivedDocuments,
    provide_request,
    query_request,
    read_query_response,
    read_registry_response,
    read_retrieve_response,
    register_request,
)
from xds.metadata import Submission
from xds.mtom import MultipartReader, Package, PartData, PartEnded, PartStarted, PartToWrite, media_type
from xds.stored_queries import STORED_QUERIES
from xds.transactions import ITI_18, ITI_41, ITI_42, Transaction

BODY = f"{{{soap.SOAP}}}Body"
_QUERY_IDS = {row.name: row.id for row in STORED_QUERIES.values()}


@contextlib.asynccontextmanager
async def running_server(data: Path, **changes: Any) -> AsyncIterator[str]:
    """A server in this event loop on a free port of 127.0.0.1; its base URL."""
    settings = Settings(**{"data": data, "port": 0, **changes})
    stop = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(settings, stop=stop, announce=listening.set_result))
    # A server that can not start ends before it listens.
    serving.add_done_callback(lambda _: listening.done() or listening.cancel())
    try:
        await listening
    except asyncio.CancelledError:
        await serving
        raise
    try:
        yield listening.result()
    finally:
        stop.set()
        await serving


@dataclass(frozen=True)
class Reply:
    """An HTTP answer that carries SOAP.

    root    the envelope
    parts   content of the MIME parts beside the envelope, by Content-ID
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    root: etree._Element
    parts: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def body(self) -> etree._Element:
        """The element inside of the SOAP Body."""
        found = self.root.find(BODY)
        assert found is not None
        return found[0]

    @property
    def is_mtom(self) -> bool:
        return media_type(self.headers["Content-Type"]).name == "multipart/related"

    @property
    def fault(self) -> str:
        """The reason of the fault that this answer is."""
        reason = self.root.findtext(f".//{{{soap.SOAP}}}Fault/{{{soap.SOAP}}}Reason/{{{soap.SOAP}}}Text")
        assert reason is not None, etree.tostring(self.root)
        return reason

    @property
    def registry_response(self) -> RegistryResponse:
        return read_registry_response(self.body)

    @property
    def query_response(self) -> QueryResponse:
        return read_query_response(self.body)

    @property
    def retrieved(self) -> ReceivedDocuments:
        return read_retrieve_response(self.body)

    @property
    def codes(self) -> list[str]:
        """The error codes of a RegistryResponse or an AdhocQueryResponse, in order."""
        errors = self.root.iter("{urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0}RegistryError")
        return [str(error.get("errorCode")) for error in errors]


class Wire:
    """A client that sends exactly what it is told to."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self.base = base
        self.session = session

    def url(self, transaction: Transaction) -> str:
        return f"{self.base}/xds/{transaction.actor}"

    async def post(self, url: str, data: Any, headers: Mapping[str, str]) -> Reply:
        """Send bytes as they are and read a SOAP answer."""
        async with self.session.post(
            url, data=io.BytesIO(data) if isinstance(data, bytes) else data, headers=dict(headers)
        ) as response:
            return reply(response.status, response.headers, await response.read())

    async def simple(self, transaction: Transaction, body: bytes, **changes: Any) -> Reply:
        """Simple SOAP; `changes` of envelope()."""
        return await self.post(
            self.url(transaction), envelope(transaction, body, **changes), {"Content-Type": soap.CONTENT_TYPE}
        )

    async def mtom(
        self, transaction: Transaction, body: bytes, documents: Sequence[tuple[str, bytes]] = (), **changes: Any
    ) -> Reply:
        """MTOM with documents as (Content-ID, bytes)."""
        package = Package(
            envelope(transaction, body, **changes),
            [PartToWrite(content_id, "application/octet-stream", len(content)) for content_id, content in documents],
            action=transaction.action,
        )
        pieces = [package.head()]
        for index, (_, content) in enumerate(documents):
            pieces += [package.part_head(index), content]
        message = b"".join([*pieces, package.tail()])
        return await self.post(self.url(transaction), message, {"Content-Type": package.content_type})

    async def provide(self, submission: Submission, contents: Mapping[str, bytes]) -> Reply:
        """ITI-41; contents by entryUUID of the DocumentEntry."""
        names = {entry: f"document-{number}@example.org" for number, entry in enumerate(contents)}
        body = provide_request(submission, names.items())
        return await self.mtom(ITI_41, body, [(names[entry], content) for entry, content in contents.items()])

    async def register(self, submission: Submission) -> Reply:
        """ITI-42."""
        return await self.simple(ITI_42, register_request(submission))

    async def query(self, query: str, return_type: str = "LeafClass", **parameters: str | Sequence[str]) -> Reply:
        """ITI-18 or ITI-51; the query by name or id, its parameters without their `$`."""
        slots = tuple(
            (f"${name}", (value,) if isinstance(value, str) else tuple(value)) for name, value in parameters.items()
        )
        query_id = _QUERY_IDS.get(query, query)
        transaction = STORED_QUERIES[query_id].transaction if query_id in STORED_QUERIES else ITI_18
        return await self.simple(transaction, query_request(QueryRequest(query_id, return_type, slots)))


def envelope(
    transaction: Transaction, body: bytes, *, action: str | None = None, message_id: str = "urn:uuid:1"
) -> bytes:
    """A request as our own client writes it."""
    head = soap.request_head(action or transaction.action, "http://localhost/", message_id)
    return head + body + soap.ENVELOPE_TAIL


def reply(status: int, headers: Mapping[str, str], content: bytes) -> Reply:
    """Take an answer apart, and hold its body against the official schema."""
    parts: dict[str, bytes] = {}
    root = content
    if media_type(headers["Content-Type"]).name == "multipart/related":
        root, parts = _parts(headers["Content-Type"], content)
    answer = Reply(status, headers, content, etree.fromstring(root), parts)
    namespace = etree.QName(answer.body).namespace
    if namespace == hl7v3_messages.NAMESPACE:
        xml.validate(answer.body, xml.Schema.of(answer.body))  # the official schemas are not at hand
    elif namespace != soap.SOAP and (IS_REQUIRED or SHARED.exists()):
        assert_valid(answer.body)
    return answer


def _parts(content_type: str, content: bytes) -> tuple[bytes, dict[str, bytes]]:
    reader = MultipartReader(content_type)
    root = b""
    parts: dict[str, bytes] = {}
    header = None
    held = bytearray()
    for event in [*reader.feed(content), *reader.finish()]:
        match event:
            case PartStarted(part):
                header, held = part, bytearray()
            case PartData(data):
                held += data
            case PartEnded():
                assert header is not None
                if header.is_root:
                    root = bytes(held)
                else:
                    parts[header.content_id or ""] = bytes(held)
    return root, parts
