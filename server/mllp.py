"""HL7 v2 messages over TCP: the Minimal Lower Layer Protocol (ITI TF-2: C.2.1; HL7 v2.5, appendix C).

A message lies between <VT> and <FS><CR>, and is answered by one before the next is read. Whatever the peer sends, what
is held of it is bounded, and a pause in the middle of a message ends the connection.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

from registry.patient_register import now
from server.tls import CannotServe
from xds.hl7v2_messages import AcknowledgmentCode, ConditionCode, Header, MessageRefused, acknowledgment

log = logging.getLogger(__name__)

_START: Final = b"\x0b"
_END: Final = b"\x1c\r"
_WRITE_SECONDS: Final = 30.0

Acknowledged = Callable[[bytes], Awaitable[bytes]]
"""The answer to one message."""


class MllpServer:
    """Answers the messages of any number of connections, those of each in their order."""

    def __init__(
        self,
        acknowledged: Acknowledged,
        *,
        message_bytes: int,
        pause_seconds: float,
        idle_seconds: float,
        connections: int,
    ) -> None:
        """message_bytes   largest message
        pause_seconds   how long a sender may pause in the middle of a message
        idle_seconds    how long a connection may be without a message
        connections     most at a time; further ones are closed at once
        """
        self._acknowledged = acknowledged
        self._message_bytes = message_bytes
        self._pause_seconds = pause_seconds
        self._idle_seconds = idle_seconds
        self._most = connections
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._stopping = False

    @asynccontextmanager
    async def listening(
        self, host: str, port: int, *, tls: ssl.SSLContext | None, share_port: bool, shutdown_seconds: float
    ) -> AsyncIterator[int]:
        """Listen on a port (0: any free one) and give it; in the end finish what is being answered.

        Raises CannotServe.
        """
        try:
            server = await asyncio.start_server(
                self._connected,
                host,
                port,
                ssl=tls,
                reuse_port=share_port or None,
                limit=self._message_bytes + len(_END),
            )
        except OSError as problem:
            raise CannotServe(f"{host}:{port} can not be listened on: {problem}") from problem
        listening_on: int = server.sockets[0].getsockname()[1]
        log.info("Listening for HL7 v2", extra={"port": listening_on, "tls": tls is not None})
        try:
            yield listening_on
        finally:
            server.close()
            await self._stopped(shutdown_seconds)

    async def _stopped(self, seconds: float) -> None:
        """Let go of who waits for his next message at once, and of who is being answered afterwards."""
        self._stopping = True
        for task in self._connections.keys() - self._answering:
            task.cancel()
        if self._connections:
            _, left = await asyncio.wait(set(self._connections), timeout=seconds)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this in a task
        peer = {"peer": str((writer.get_extra_info("peername") or ("",))[0])}
        try:
            if len(self._connections) >= self._most or self._stopping:
                log.warning("An HL7 v2 connection too many was closed.", extra=peer)
                return
            self._connections[task] = writer
            await self._serve(reader, writer, task)
        except TimeoutError:
            log.info("An HL7 v2 connection was silent for too long and is closed.", extra=peer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError) as problem:
            log.info("An HL7 v2 connection broke.", extra={**peer, "why": str(problem)})
        except asyncio.CancelledError:
            log.info("An HL7 v2 connection is closed, because the server stops.", extra=peer)
        finally:
            self._connections.pop(task, None)
            self._answering.discard(task)
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> None:
        while not self._stopping:
            if not await self._next_begins(reader):
                return
            try:
                async with asyncio.timeout(self._pause_seconds):
                    message = (await reader.readuntil(_END))[: -len(_END)]
            except asyncio.LimitOverrunError:
                await self._answer(writer, self._too_large(await reader.read(4096)))
                return  # where the next message begins nobody knows
            self._answering.add(task)
            await self._answer(writer, await self._acknowledged(message))
            self._answering.discard(task)

    async def _next_begins(self, reader: asyncio.StreamReader) -> bool:
        """Wait for the next message. False: there is none, or what comes is no HL7."""
        async with asyncio.timeout(self._idle_seconds):
            while (octet := await reader.read(1)) in (b"\r", b"\n"):
                pass
        if octet and octet != _START:
            log.info("An HL7 v2 connection does not begin a message with <VT>, and is closed.")
        return octet == _START

    async def _answer(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        writer.write(_START + answer + _END)
        async with asyncio.timeout(_WRITE_SECONDS):
            await writer.drain()

    def _too_large(self, beginning: bytes) -> bytes:
        refusal = MessageRefused(
            ConditionCode.DATA_TYPE_ERROR,
            f"The message has more than {self._message_bytes} octets; send a smaller one.",
            code=AcknowledgmentCode.REJECT,
        )
        return acknowledgment(Header.of(beginning), refusal, control_id=uuid4().hex[:20], now=now())
