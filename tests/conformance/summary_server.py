"""A server of somebody else that makes documents when it is asked over HTTP: what a test tells it to answer."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.served_app import served

Answers = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class SummaryServer:
    """answers: by uniqueId of the entry; asked: the requests, each as its headers and its JSON."""

    url: str = ""
    answers: dict[str, Answers] = field(default_factory=dict)
    asked: list[tuple[dict[str, str], Any]] = field(default_factory=list)

    def gives(self, unique_id: str, content: bytes, mime_type: str = "text/plain", **headers: str) -> None:
        """From now on this is the document of an entry."""

        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=content, headers={"Content-Type": mime_type, **headers})

        self.answers[unique_id] = answer

    def refuses(self, unique_id: str, *statuses: int, content: bytes = b"made") -> None:
        """Answer with each of these statuses in turn, and then with the document."""
        left = list(statuses)

        async def answer(_: web.Request) -> web.Response:
            if left:
                return web.Response(status=left.pop(0))
            return web.Response(body=content, content_type="text/plain")

        self.answers[unique_id] = answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        entry = await request.json()
        self.asked.append((dict(request.headers), entry))
        return await self.answers[entry["uniqueId"]](request)


@asynccontextmanager
async def summary_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[SummaryServer]:
    """One on a free port of this machine."""
    server = SummaryServer()
    app = web.Application()
    app.router.add_post("/documents", server.answer)
    async with served(app, tls=tls) as base:
        server.url = f"{base}/documents"
        yield server
