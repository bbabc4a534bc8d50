"""A load generator that costs little: whole requests go out as bytes, and of answers only the length is looked at.

It runs in a process of its own. One Python process of it asks several times as fast as a server of this kind answers,
which the bare reference shows in every run.
"""

from __future__ import annotations

import asyncio
import http.client
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, cast

from server.bench.messages import Template
from server.event_loop import run

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\nContent-Length: "
_GRACE_SECONDS: Final = 60.0
_LOOKED_AT: Final = 4096
_HOST: Final = "127.0.0.1"


class LoadFailed(Exception):
    """An answer was not what it should be, or did not come."""


@dataclass(frozen=True, slots=True)
class Job:
    """Requests to be sent by so many clients at once for so many seconds.

    first_number, numbers   of the requests: counting from the first; or, if `numbers` is given, drawn from so many
    patients                whose documents the requests are about, drawn
    expected                what the first bytes of a good answer hold
    """

    port: int
    template: Template
    clients: int
    seconds: float
    expected: bytes
    first_number: int
    numbers: int | None = None
    patients: range = field(default=range(1))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job. Times in seconds, sorted."""

    seconds: float
    times: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.times) / self.seconds

    def percentile(self, percent: float) -> float:
        """The time within which so many of a hundred answers came."""
        return self.times[min(len(self.times) - 1, int(len(self.times) * percent / 100))]


def outcome_of(job: Job) -> Outcome:
    """Do a job. Raises LoadFailed."""
    return run(_outcome_of(job))


async def _outcome_of(job: Job) -> Outcome:
    loop = asyncio.get_running_loop()
    shift = _Shift(job)

    def fault_of_ours(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        shift.failed(f"the load generator failed: {context.get('exception') or context['message']!r}")

    loop.set_exception_handler(fault_of_ours)
    try:
        async with asyncio.timeout(job.seconds + _GRACE_SECONDS):
            for _ in range(job.clients):
                await loop.create_connection(lambda: _Client(shift), _HOST, job.port)
            await shift.over
    except (OSError, TimeoutError) as problem:
        raise LoadFailed(f"the server did not answer: {problem!r}") from problem
    finally:
        shift.hang_up()
        await asyncio.sleep(0)
    return Outcome(shift.ended - shift.started, tuple(sorted(shift.times)))


class _Shift:
    """What the clients of one job share."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.times: list[float] = []
        self.started = self.ended = 0.0
        self._random = Random(job.first_number)  # noqa: S311 - which patient is asked for is no secret
        self._number = job.first_number
        self._connected = 0
        self._working = 0
        self._clients: list[_Client] = []

    def joined(self, client: _Client) -> None:
        """All begin when the last one is there."""
        self._clients.append(client)
        if len(self._clients) == self.job.clients:
            self.started = time.perf_counter()
            self._working = self.job.clients
            for each in self._clients:
                each.ask(self.next_request())

    def next_request(self) -> bytes:
        job = self.job
        if job.numbers is None:
            number = self._number
            self._number += 1
        else:
            number = job.first_number + int(self._random.random() * job.numbers)
        return job.template.numbered(number, job.patients[int(self._random.random() * len(job.patients))])

    def answered(self, client: _Client, seconds: float) -> None:
        self.times.append(seconds)
        now = time.perf_counter()
        if now - self.started < self.job.seconds:
            client.ask(self.next_request())
            return
        client.leave()
        self._working -= 1
        self.ended = now
        if not self._working and not self.over.done():
            self.over.set_result(None)

    def hang_up(self) -> None:
        """Leave no connection open, whatever has happened."""
        for client in self._clients:
            client.leave()

    def failed(self, why: str) -> None:
        if not self.over.done():
            self.over.set_exception(LoadFailed(why))


class _Client(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, shift: _Shift) -> None:
        self._shift = shift
        self._transport: asyncio.WriteTransport | None = None
        self._head = b""
        self._missing = 0
        self._asked = 0.0
        self._done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is one, but does not say so
        self._shift.joined(self)

    def ask(self, request: bytes) -> None:
        assert self._transport is not None  # noqa: S101 - it is connected
        self._asked = time.perf_counter()
        self._transport.write(request)

    def leave(self) -> None:
        self._done = True
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            self._head += data
            end = self._head.find(_HEAD_END)
            # Enough of the body has to be there to tell a success from a failure.
            if end < 0 or not self._begins_well(end + len(_HEAD_END)):
                return
        else:
            self._missing -= len(data)
        if self._missing <= 0:
            self._head = b""
            self._missing = 0
            self._shift.answered(self, time.perf_counter() - self._asked)

    def _begins_well(self, body: int) -> bool:
        """Whether an answer can be judged already. One that is not good ends the job."""
        at = self._head.find(_LENGTH, 0, body)
        if at < 0:
            self._shift.failed("an answer has no Content-Length")
            return False
        length = int(self._head[at + len(_LENGTH) : self._head.index(b"\r", at + len(_LENGTH))])
        self._missing = body + length - len(self._head)
        if self._missing > 0 and len(self._head) < _LOOKED_AT:
            self._missing = 0
            return False
        if not self._head.startswith(b"HTTP/1.1 200 ") or self._shift.job.expected not in self._head:
            self._shift.failed(f"an answer is not as expected: {self._head[:2000].decode('utf-8', 'replace')}")
            return False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done:
            self._shift.failed(f"the server closed a connection: {exc or 'without an answer'}")


def answer_to(port: int, request: bytes) -> bytes:
    """The body of one answer, for a look at what is measured. Raises LoadFailed."""
    connection = http.client.HTTPConnection(_HOST, port, timeout=_GRACE_SECONDS)
    try:
        connection.connect()
        connection.sock.sendall(request)
        answer = http.client.HTTPResponse(connection.sock, method="POST")
        answer.begin()
        body = answer.read()
    except (OSError, http.client.HTTPException) as problem:
        raise LoadFailed(f"the server did not answer: {problem}") from problem
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise LoadFailed(f"the server answered {answer.status}: {body[:2000].decode('utf-8', 'replace')}")
    return body
