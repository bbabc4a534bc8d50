"""Bad weather between Toimik and a store: a proxy that refuses, falls silent, is slow, cuts, or answers itself.

    with WeatherProxy("127.0.0.1", 9000) as proxy:
        ...                      # connect to proxy.port instead
        proxy.refuse()
        ...
        proxy.clear_up()

It listens on loopback, in a thread of its own, so that it works whatever the test's event loop does. It passes octets
on, whatever the protocol; only `answer` knows HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Self

_AT_ONCE: Final = 64 * 1024
_PAUSE: Final = 0.05
"""Seconds between two chunks of a slow connection."""


@dataclass(frozen=True)
class Weather:
    """What happens to connections, those that are open included.

    refuses            nobody listens
    silent             what comes is taken; nothing is passed on and nothing answered
    octets_per_second  in each direction of a connection; None: as fast as it goes
    octets_until_cut   that a client may send on one connection before it is reset
    answers            what the proxy answers itself, as (part of the first line of an HTTP request, whole response)
    """

    refuses: bool = False
    silent: bool = False
    octets_per_second: int | None = None
    octets_until_cut: int | None = None
    answers: tuple[tuple[bytes, bytes], ...] = ()


FAIR: Final = Weather()


def http_answer(status: str, body: bytes = b"", *, content_type: str = "application/xml") -> bytes:
    """A response for `answer`."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class WeatherProxy:
    """Passes connections on to one server.

    port      where to connect instead
    requests  heads and bodies of the requests that the proxy has answered itself
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._weather = FAIR
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="weather", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.requests: list[bytes] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self._in_loop(self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._in_loop(self._closed)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def clear_up(self) -> None:
        """Fair weather."""
        self.turn(FAIR)

    def refuse(self) -> None:
        """Nobody listens any more, and open connections are reset."""
        self.turn(Weather(refuses=True))

    def fall_silent(self) -> None:
        """Connections are taken and stay open; nothing is ever answered."""
        self.turn(Weather(silent=True))

    def slow_down(self, octets_per_second: int) -> None:
        """Everything passes, at this rate and no faster."""
        self.turn(Weather(octets_per_second=octets_per_second))

    def cut_after(self, octets: int) -> None:
        """Every connection is reset as soon as its client has sent more than this."""
        self.turn(Weather(octets_until_cut=octets))

    def answer(self, first_line_has: bytes, response: bytes) -> None:
        """HTTP requests with this in their first line get this response; the server sees nothing of them.

        May be called several times: of what fits a request, what was said first holds.
        """
        self.turn(replace(self._weather, answers=(*self._weather.answers, (first_line_has, response))))

    def turn(self, weather: Weather) -> None:
        """Have this weather from now on. Connections that are open are reset, so that none is half in the old one."""

        async def turned() -> None:
            self._weather = weather
            await self._closed()
            if not weather.refuses:
                await self._listen()

        self._in_loop(turned)

    def _in_loop(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _closed(self) -> None:
        """Listen no more, and reset what is open."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in self._writers:
            writer.transport.abort()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        if server is not None:
            await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        if connection is None:
            raise RuntimeError("a connection is served by a task")
        self._connections.add(connection)
        self._writers.add(writer)
        try:
            await self._served(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # one side has gone, which is what the test is about
        except asyncio.CancelledError:
            pass  # the weather turns, and nobody waits for this task
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._connections.discard(connection)

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._weather.silent:
            while await reader.read(_AT_ONCE):
                pass
            return
        to_server = from_server = None
        try:
            from_server, to_server = await asyncio.open_connection(*self._target)
            answering = asyncio.create_task(self._passed_on(from_server, writer))
            asking = asyncio.create_task(
                self._asked(reader, writer, to_server) if self._weather.answers else self._sent(reader, to_server)
            )
            try:
                await asyncio.wait([answering, asking], return_when=asyncio.FIRST_COMPLETED)
            finally:
                answering.cancel()
                asking.cancel()
                await asyncio.gather(answering, asking, return_exceptions=True)
        finally:
            if to_server is not None:
                to_server.transport.abort()

    async def _sent(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        await self._passed_on(reader, to_server, self._weather.octets_until_cut)

    async def _passed_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, at_most: int | None = None
    ) -> None:
        rate = self._weather.octets_per_second
        at_once = _AT_ONCE if rate is None else max(1, int(rate * _PAUSE))
        while chunk := await reader.read(at_once):
            if at_most is not None:
                at_most -= len(chunk)
                if at_most < 0:
                    return
            writer.write(chunk)
            await writer.drain()
            if rate is not None:
                await asyncio.sleep(_PAUSE)

    async def _asked(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_server: asyncio.StreamWriter
    ) -> None:
        """Go through the requests of an HTTP connection, each of them with a length."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            lengths = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")]
            body = await reader.readexactly(sum(lengths))
            first_line = head.partition(b"\r\n")[0]
            for first_line_has, response in self._weather.answers:
                if first_line_has in first_line:
                    self.requests.append(head + body)
                    writer.write(response)
                    await writer.drain()
                    break
            else:
                to_server.write(head + body)
                with contextlib.suppress(ConnectionError):
                    await to_server.drain()
