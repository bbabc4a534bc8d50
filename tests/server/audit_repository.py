"""An audit record repository of somebody else: what it was sent, and what a test tells it to answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from yarl import URL

from tests.served_app import served
from tests.server_process import free_port

_PATIENCE_SECONDS = 60


@dataclass
class AuditRepository:
    """url: where AuditEvents are posted.

    events, ids     those that it took, in order, and their X-Request-Id
    headers         of the last request
    statuses        what it answers to the next requests; afterwards 201
    together        of how many requests it answers none before all are there; afterwards 1
    silent          it takes requests and answers none
    """

    url: str
    events: list[Any] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    together: int = 1
    silent: bool = False
    asked: int = 0
    _asked: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def answer(self, request: web.Request) -> web.Response:
        event = orjson.loads(await request.read())
        status = self.statuses.pop(0) if self.statuses else HTTPStatus.CREATED
        async with self._asked:
            self.asked += 1
            self.headers = dict(request.headers)
            if status == HTTPStatus.CREATED and not self.silent:
                self.events.append(event)
                self.ids.append(request.headers["X-Request-Id"])
            self._asked.notify_all()
        await self.was_asked(self.together)
        if self.silent:
            await asyncio.sleep(_PATIENCE_SECONDS)
        return web.Response(status=status)

    async def has_taken(self, events: int) -> None:
        """Wait until it has as many."""
        await self._until(lambda: len(self.events) >= events)

    async def was_asked(self, times: int) -> None:
        """Wait until it was sent something so often, whatever it answered."""
        await self._until(lambda: self.asked >= times)

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(_PATIENCE_SECONDS), self._asked:
            await self._asked.wait_for(holds)

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """It can be reached as long as this is open."""
        app = web.Application()
        app.router.add_post("/fhir/AuditEvent", self.answer)
        async with served(app, port=URL(self.url).port or 0):
            yield


def audit_repository() -> AuditRepository:
    """One that is not up yet."""
    return AuditRepository(f"http://127.0.0.1:{free_port()}/fhir/AuditEvent")
