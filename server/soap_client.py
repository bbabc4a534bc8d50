"""SOAP 1.2 over HTTP as a client: one request, and its answer read as it arrives.

ITI TF-2: Appendix V (web services). Requests leave with a Content-Length, simple or as MTOM; answers are understood in
either form, whatever was sent. Neither direction holds a document: its octets pass in chunks.

What a failed exchange leaves behind decides its exception: NotReachable left nothing, Refused says whether it did, and
after OutcomeUnknown nobody can tell.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from errno import errorcode
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote
from uuid import uuid4

import aiohttp

from server.tracing import trace_headers
from xds import soap
from xds.actors import Attachment, MessageBroken, Opening, OutcomeUnknown
from xds.mtom import (
    MULTIPART_RELATED,
    SOAP_MEDIA_TYPE,
    XOP_MEDIA_TYPE,
    Event,
    MultipartReader,
    Package,
    PartData,
    PartStarted,
    PartToWrite,
    media_type,
)
from xds.soap import Envelope, FaultCode, SoapFault
from xds.transactions import Transaction
from xds.xml import XmlLimits, XmlProblem, parse

MIB: Final = 1024 * 1024
_READ_BUFFER_BYTES: Final = 256 * 1024
_ELEMENTS_OF_AN_ANSWER: Final = 10_000_000  # a registry may answer with more than anybody may submit at once
_TRY_LATER: Final = frozenset((HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS))

Progress = Callable[[int], None]
"""Called with the number of octets that passed since the last call."""


class NotReachable(Exception):
    """No connection could be made, so nothing was asked of the other host. The text says why."""


class Refused(Exception):
    """The other host answered, but not with the transaction's own response: a SOAP fault, or no SOAP at all.

    nothing_done   it is certain that the request was not acted on
    try_later      the host says that it can not serve now
    """

    def __init__(self, reason: str, *, nothing_done: bool, try_later: bool = False) -> None:
        super().__init__(reason)
        self.nothing_done = nothing_done
        self.try_later = try_later


class ContentChanged(Exception):
    """A document turned out to have another size than was announced, so that sending it was broken off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long another host may take, in seconds, and how much it may answer besides documents, in octets.

    connect          until a connection stands
    silence          without a byte of the answer, once the request is sent
    envelope_bytes   of one answer; documents inline as base64 count
    """

    connect: float = 10.0
    silence: float = 120.0
    envelope_bytes: int = 256 * MIB


@dataclass(frozen=True, slots=True)
class Upload:
    """A document to be sent.

    entry_id   the id of its DocumentEntry in the submission
    size       octets; exactly as many come out of `content`
    """

    entry_id: str
    mime_type: str
    size: int
    content: Opening


# ------------------------------------------------------------------------------------------------------- the request


@dataclass(frozen=True, slots=True)
class Message:
    """A request on its way out. pieces: its octets, content_length of them."""

    content_type: str
    content_length: int
    pieces: AsyncGenerator[bytes, None]


def simple(transaction: Transaction, url: str, body: bytes) -> Message:
    """Simple SOAP, as the transactions of a registry have it."""
    envelope = _envelope(transaction, url, body)

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield envelope

    return Message(f'{soap.CONTENT_TYPE}; action="{transaction.action}"', len(envelope), pieces())


def packaged(
    transaction: Transaction,
    url: str,
    body: bytes,
    documents: Sequence[Upload] = (),
    content_ids: Sequence[str] = (),
    progress: Progress | None = None,
) -> Message:
    """MTOM, as the transactions of a repository have it, with or without documents."""
    parts = [
        PartToWrite(content_id, upload.mime_type, upload.size)
        for upload, content_id in zip(documents, content_ids, strict=True)
    ]
    package = Package(_envelope(transaction, url, body), parts, action=transaction.action)

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield package.head()
        for index, upload in enumerate(documents):
            yield package.part_head(index)
            async for chunk in _content_of(upload):
                yield chunk
                if progress:
                    progress(len(chunk))
        yield package.tail()

    return Message(package.content_type, package.content_length, pieces())


def _envelope(transaction: Transaction, url: str, body: bytes) -> bytes:
    return soap.request_head(transaction.action, url, uuid4().urn) + body + soap.ENVELOPE_TAIL


async def _content_of(upload: Upload) -> AsyncIterator[bytes]:
    """The octets of a document, which must be as many as its Content-Length has announced."""
    sent = 0
    async with upload.content() as chunks:
        async for chunk in chunks:
            sent += len(chunk)
            if sent > upload.size:
                break
            yield chunk
    if sent != upload.size:
        became = "more" if sent > upload.size else str(sent)
        raise ContentChanged(f"A document of {upload.size} octets became {became} while it was sent; send it again.")


# ------------------------------------------------------------------------------------------------------ the exchange


class Host:
    """One endpoint of another host."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        *,
        patience: Patience | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """tls: None for the authorities that this machine trusts."""
        self.url = url
        self._session = session
        self._patience = patience or Patience()
        self._tls = tls

    @asynccontextmanager
    async def asked(self, message: Message) -> AsyncIterator[Answer]:
        """Send `message` and have the answer, to be read inside of the context.

        Raises NotReachable, Refused, OutcomeUnknown; what the content of documents raises passes through.
        """
        broken: list[Exception] = []
        try:
            async with self._session.post(
                self.url,
                data=_noting(message.pieces, broken),
                headers={
                    "Content-Type": message.content_type,
                    "Content-Length": str(message.content_length),
                    "Accept": f"{MULTIPART_RELATED}, {XOP_MEDIA_TYPE}, {SOAP_MEDIA_TYPE}",
                    **trace_headers(),
                },
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self._patience.connect, sock_read=self._patience.silence
                ),
                ssl=self._tls if self._tls is not None else True,
                allow_redirects=False,
                read_bufsize=_READ_BUFFER_BYTES,
            ) as response:
                yield Answer(self.url, response, self._patience.envelope_bytes)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as problem:
            raise NotReachable(
                f"{self.url!r} is no address of a web service; give one as http://host:port"
            ) from problem
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as problem:
            raise NotReachable(f"{self.url} can not be reached: {_said(problem)}") from problem
        except aiohttp.ClientError as problem:
            if broken:
                raise broken[0] from problem
            raise OutcomeUnknown(f"{self.url} gave no whole answer: {_said(problem)}") from problem
        except (XmlProblem, MessageBroken) as problem:
            raise Refused(f"{self.url} gave an answer that can not be read: {problem}", nothing_done=False) from problem


async def _noting(pieces: AsyncGenerator[bytes, None], broken: list[Exception]) -> AsyncIterator[bytes]:
    """The same pieces. What goes wrong with them is kept, because an HTTP client blames the connection for it."""
    try:
        async for piece in pieces:
            yield piece
    except Exception as problem:
        broken.append(problem)
        raise
    finally:
        await pieces.aclose()


def _said(problem: Exception) -> str:
    """The cause itself: what an HTTP client adds to it helps nobody."""
    cause = problem.os_error if isinstance(problem, aiohttp.ClientConnectorError) else problem
    errno = cause.errno if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) else None
    text = str(cause)
    if errno is not None and errno in errorcode:
        text = os.strerror(errno)
    return text or type(problem).__name__


# -------------------------------------------------------------------------------------------------------- the answer


class Answer:
    """An answer while it arrives, simple SOAP or MTOM."""

    def __init__(self, url: str, response: aiohttp.ClientResponse, envelope_bytes: int) -> None:
        self._url = url
        self._response = response
        self._limit = envelope_bytes
        self._root: bytes | None = None

    async def attachments(self) -> AsyncIterator[Attachment]:
        """The documents beside the envelope, in the order of the wire, each to be read to its end."""
        content_type = self._response.headers.get("Content-Type", "")
        chunks = self._response.content.iter_any()
        if media_type(content_type).name != MULTIPART_RELATED:
            self._root = await self._bounded(chunks)
            return
        events = _events(chunks, MultipartReader(content_type))
        async for event in events:
            if not isinstance(event, PartStarted):
                continue  # what is left of a document that its reader did not read to the end
            if event.part.is_root:
                self._root = await self._bounded(_content(events))
            else:
                # Some senders URL-encode the header as well as the reference.
                yield Attachment(unquote(event.part.content_id or f"part {event.part.index + 1}"), _content(events))

    async def envelope(self) -> Envelope:
        """The envelope, once all of the answer is there. Raises Refused where it is a fault, or no SOAP at all."""
        if self._root is None:
            async for _ in self.attachments():
                pass
        root = self._root or b""
        status = self._response.status
        try:
            limits = XmlLimits(max_bytes=self._limit, max_elements=_ELEMENTS_OF_AN_ANSWER)
            envelope = soap.read_envelope(parse(root, limits))
        except (XmlProblem, SoapFault) as problem:
            if status >= HTTPStatus.MULTIPLE_CHOICES:
                raise self._refusal(f"HTTP {status} {self._response.reason}") from problem
            raise self._refusal(f"what is no SOAP 1.2: {problem}") from problem
        fault = soap.fault_in(envelope)
        if fault is not None:
            raise self._refusal(" ".join(filter(None, ("a SOAP fault:", fault.reason, fault.detail))), fault.code)
        return envelope

    def _refusal(self, answered: str, fault_code: FaultCode | None = None) -> Refused:
        """What is wrong with a request is found before anything is done; in the middle of it, all can go wrong."""
        status = self._response.status
        try_later = status in _TRY_LATER
        if fault_code is None:
            sender_is_wrong = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        else:
            sender_is_wrong = fault_code is not FaultCode.RECEIVER
        return Refused(
            f"{self._url} answers {answered}", nothing_done=try_later or sender_is_wrong, try_later=try_later
        )

    async def _bounded(self, chunks: AsyncIterator[bytes]) -> bytes:
        received = bytearray()
        async for chunk in chunks:
            received += chunk
            if len(received) > self._limit:
                raise MessageBroken(f"its envelope is larger than {self._limit} octets, the limit here")
        return bytes(received)


async def _events(chunks: AsyncIterator[bytes], reader: MultipartReader) -> AsyncIterator[Event]:
    async for chunk in chunks:
        for event in reader.feed(chunk):
            yield event
    for event in reader.finish():
        yield event


async def _content(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """The content of the part that has begun."""
    async for event in events:
        if not isinstance(event, PartData):
            return
        yield event.data
