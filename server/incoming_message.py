"""A SOAP request on its way in, simple or MTOM, read as its bytes arrive.

ITI TF-2: Appendix V. Nothing is held but the envelope, which has a limit, and one chunk. Whatever is wrong with the
message becomes a fault whose reason a sender can act on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import lru_cache
from http import HTTPStatus

from aiohttp import ClientPayloadError, web
from lxml.etree import QName, _Element

from server.settings.limits import Limits
from xds.actors import Attachment, MessageBroken
from xds.mtom import (
    Event,
    MultipartLimits,
    MultipartProblem,
    MultipartReader,
    PartData,
    PartHeader,
    PartStarted,
    action_of,
    media_type,
)
from xds.soap import Envelope, FaultCode, SoapFault, message_id_of, read_envelope
from xds.xml import XmlLimits, XmlProblem, parse, prefixed
from xds.xop import Include, includes_elsewhere, put_back

_SURPLUS_PARTS = 1000
_SIMPLE = frozenset({"application/soap+xml", "application/xml", "text/xml", ""})


class Unreadable(MessageBroken):
    """The message can not be acted on. `fault` says why, `http_status` goes with it."""

    def __init__(self, fault: SoapFault, http_status: int | None = None) -> None:
        super().__init__(fault.reason)
        self.fault = fault
        self.http_status = http_status or fault.http_status


class ClientGone(MessageBroken):
    """The connection was lost in the middle of the message, or of its answer: there is nobody to answer."""


def unreadable(reason: str, http_status: int = HTTPStatus.BAD_REQUEST) -> Unreadable:
    """The sender has to change something before this message can be read."""
    return Unreadable(SoapFault(FaultCode.SENDER, reason), http_status)


class IncompleteEnvelope:
    """An envelope to which some of the parts after it belong, see xds/xop.py."""

    def __init__(self, root: _Element, includes: Sequence[Include], limit: int) -> None:
        """limit: octets that may be put back, counted wherever they are put back: a part may be referred to often."""
        self.root = root
        self._missing: dict[str, list[Include]] = {}
        for include in includes:
            self._missing.setdefault(include.content_id, []).append(include)
        self._limit = limit
        self._room = limit

    @property
    def is_complete(self) -> bool:
        return not self._missing

    def wants(self, part: PartHeader) -> bool:
        return not self._missing.keys().isdisjoint(part.names)

    async def take(self, part: PartHeader, content: AsyncIterator[bytes]) -> None:
        """Put a part where it belongs. Raises Unreadable."""
        wanted = [include for name in part.names for include in self._missing.pop(name, ())]
        received = bytearray()
        async for chunk in content:
            received += chunk
            if len(received) * len(wanted) > self._room:
                raise unreadable(
                    f"What xop:Include refers to outside of Document elements is larger than {self._limit} bytes, the "
                    "limit here; only documents may be larger.",
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                )
        self._room -= len(received) * len(wanted)
        for include in wanted:
            put_back(include, bytes(received))

    def lack(self, passed: Sequence[PartHeader]) -> str:
        """Why the envelope can not be completed from the parts after it."""
        include = next(iter(self._missing.values()))[0]
        what = f"The xop:Include in {prefixed(QName(include.element).text)} refers to the part {include.content_id!r}"
        if any(part.is_named(include.content_id) for part in passed):
            return f"{what}, which came before the envelope; send the envelope as the first part."
        return f"{what}, which the message does not have; send it after the envelope."


class IncomingMessage:
    """One request, from its first byte to its last.

    Read either until its envelope is there (`read_envelope`), or as its documents come (`documents`), or first the one
    and then the other. `on_envelope` is called with the envelope the moment it is there, also in the midst of
    documents; what it raises (SoapFault, XmlProblem) is why the message is unreadable. Where parts belong into the
    envelope (xds/xop.py), it is there when the last of them is.
    """

    def __init__(self, request: web.Request, limits: Limits) -> None:
        """Raises Unreadable where the Content-Type is none of SOAP 1.2 or MTOM."""
        content_type = request.headers.get("Content-Type", "")
        kind, self.http_action = _declared(content_type)
        self.is_mtom = kind.startswith("multipart/")
        self.on_envelope: Callable[[Envelope], None] | None = None
        self.parts: list[PartHeader] = []
        self.received = 0
        self.message_id: str | None = None
        self._envelope: Envelope | None = None
        self._incomplete: IncompleteEnvelope | None = None
        self._limits = limits
        self._body = request.content
        self._chunks = self._arriving()
        self._events: deque[Event] = deque()
        self._ended = False
        if not self.is_mtom and kind not in _SIMPLE:
            raise unreadable(
                f"The Content-Type {kind!r} is not read here; send application/soap+xml, "
                "or multipart/related for MTOM/XOP.",
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            )
        if self.is_mtom:
            # Whoever sends a few documents too many hears it from the repository, in the standard's words.
            parts = MultipartLimits(parts=limits.documents_per_submission + _SURPLUS_PARTS)
            try:
                self._reader = MultipartReader(content_type, limits=parts)
            except MultipartProblem as problem:
                raise unreadable(str(problem)) from problem

    @property
    def envelope(self) -> Envelope:
        """The envelope. Only after it was read."""
        if self._envelope is None:
            raise RuntimeError("the envelope has not been read yet")
        return self._envelope

    async def read_envelope(self) -> bool:
        """Read until the envelope is there (True), or a document comes before it (False). Raises MessageBroken."""
        if not self.is_mtom:
            self._take_envelope(self._short_message() or await self._bounded(self._chunks))
            self._ended = True
            return True
        while (event := await self._next_event()) is not None:
            if isinstance(event, PartStarted):
                if not event.part.is_root and not self._belongs_inside(event.part):
                    self._events.appendleft(event)
                    return False
                await self._take_part_of_envelope(event.part)
                if self._envelope is not None:
                    return True
        self._check_envelope_is_there()
        raise unreadable("The message has no envelope.")  # the reader has said so before, in its own words

    async def documents(self) -> AsyncIterator[Attachment]:
        """The parts that are not the envelope, in the order of the wire. Raises MessageBroken."""
        if not self.is_mtom:
            return
        while (event := await self._next_event()) is not None:
            if not isinstance(event, PartStarted):
                continue  # what is left of a document that its reader did not read to the end
            if event.part.is_root or self._belongs_inside(event.part):
                await self._take_part_of_envelope(event.part)
            else:
                self.parts.append(event.part)
                yield Attachment(content_id_of(event.part), self._content())
        self._check_envelope_is_there()

    async def read_to_end(self) -> None:
        """Take what is left of the message, and have the envelope if there is one. Raises MessageBroken."""
        if not self._ended:
            async for _ in self.documents():
                pass

    def _short_message(self) -> bytes:
        """A simple message that is there to its last byte, as most are when they are looked at; else nothing."""
        content = self._body
        if not content.is_eof() or content.exception() is not None or content.total_bytes > self._limits.envelope_bytes:
            return b""
        self.received = content.total_bytes
        return content.read_nowait()

    async def _content(self) -> AsyncIterator[bytes]:
        while True:
            event = await self._next_event()
            if not isinstance(event, PartData):
                return
            yield event.data

    async def _next_event(self) -> Event | None:
        while not self._events:
            if self._ended:
                return None
            chunk = await anext(self._chunks, None)
            try:
                if chunk is None:
                    self._ended = True
                    self._events.extend(self._reader.finish())
                else:
                    self._events.extend(self._reader.feed(chunk))
            except MultipartProblem as problem:
                raise unreadable(str(problem)) from problem
        return self._events.popleft()

    async def _bounded(self, content: AsyncIterator[bytes]) -> bytes:
        """The whole of an envelope."""
        received = bytearray()
        async for chunk in content:
            received += chunk
            if len(received) > self._limits.envelope_bytes:
                raise unreadable(
                    f"The envelope is larger than {self._limits.envelope_bytes} bytes, the limit here; "
                    "send documents as MTOM parts instead of inline, or split the submission.",
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                )
        return bytes(received)

    def _belongs_inside(self, part: PartHeader) -> bool:
        return self._incomplete is not None and self._incomplete.wants(part)

    async def _take_part_of_envelope(self, part: PartHeader) -> None:
        """The root, or a part that belongs inside of it."""
        if part.is_root:
            self._take_envelope(await self._bounded(self._content()))
        elif (incomplete := self._incomplete) is not None:
            await incomplete.take(part, self._content())
            if incomplete.is_complete:
                self._incomplete = None
                self._act_on(incomplete.root)

    def _check_envelope_is_there(self) -> None:
        if self._incomplete is not None:
            raise unreadable(self._incomplete.lack(self.parts))

    def _take_envelope(self, data: bytes) -> None:
        try:
            root = parse(data, _xml_limits(self._limits.envelope_bytes))
            includes = includes_elsewhere(root) if self.is_mtom else []
        except (XmlProblem, MultipartProblem) as problem:
            raise unreadable(f"The envelope can not be read: {problem}") from problem
        if includes:
            self.message_id = message_id_of(root)
            self._incomplete = IncompleteEnvelope(root, includes, self._limits.included_bytes)
        else:
            self._act_on(root)

    def _act_on(self, root: _Element) -> None:
        try:
            self._envelope = read_envelope(root)
            self.message_id = self._envelope.message_id
            if self.on_envelope:
                self.on_envelope(self._envelope)
        except XmlProblem as problem:
            raise unreadable(f"The envelope can not be read: {problem}") from problem
        except SoapFault as fault:
            # Also an envelope that must not be acted on has a MessageID, to which the fault relates.
            self.message_id = message_id_of(root)
            raise Unreadable(fault) from fault

    async def _arriving(self) -> AsyncIterator[bytes]:
        """The body of the HTTP request, chunk by chunk."""
        idle_seconds = self._limits.idle_seconds
        while True:
            try:
                # What is there already is not waited for, and waiting costs more than the rest of this.
                chunk = self._body.read_nowait()
                if not chunk and not self._body.at_eof():
                    async with asyncio.timeout(idle_seconds):
                        chunk = await self._body.readany()
            except TimeoutError as silence:
                raise unreadable(
                    f"Nothing came for {idle_seconds:g} seconds after {self.received} bytes of the message; "
                    "send it again without such a pause.",
                    HTTPStatus.REQUEST_TIMEOUT,
                ) from silence
            except (ClientPayloadError, ConnectionError, web.RequestPayloadError) as gone:
                raise ClientGone(f"the connection was lost after {self.received} bytes of the message") from gone
            if not chunk:
                return
            self.received += len(chunk)
            yield chunk


@lru_cache(maxsize=1)
def _xml_limits(envelope_bytes: int) -> XmlLimits:
    return XmlLimits(max_bytes=envelope_bytes)


@lru_cache(maxsize=64)
def _declared(content_type: str) -> tuple[str, str | None]:
    """The media type and the SOAP action. A client sends its simple messages with one Content-Type always."""
    return media_type(content_type).name, action_of(content_type)


def content_id_of(part: PartHeader) -> str:
    """A name for a part: its Content-ID, or its place where it has none."""
    return part.content_id if part.content_id is not None else f"part {part.index + 1}"
