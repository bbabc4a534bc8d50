"""Requests that are being answered, so that a server can stop without losing one.

aiohttp's own shutdown stops reading from connections at once: an upload under way would never be finished.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware


class InFlight:
    """Counts requests under way."""

    def __init__(self) -> None:
        self._count = 0
        self._stopping = False
        self._none = asyncio.Event()
        self._none.set()

    def middleware(self) -> Middleware:
        """Counts every request of an application."""

        @web.middleware
        async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._count += 1
            self._none.clear()
            try:
                response = await handler(request)
            finally:
                self._count -= 1
                if not self._count:
                    self._none.set()
            if self._stopping:
                response.force_close()  # the client asks somebody else next
            return response

        return counted

    async def finished(self, seconds: float) -> int:
        """Wait until nothing is under way, at most so long; how many requests are left."""
        self._stopping = True
        try:
            async with asyncio.timeout(seconds):
                await self._none.wait()
        except TimeoutError:
            pass
        return self._count
