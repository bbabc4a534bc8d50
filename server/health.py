"""What a load balancer asks: is this process alive, and can it do its work now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from server.wiring import Check

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 5.0


class Health:
    """/health/live and /health/ready."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    async def live(self, _: web.Request) -> web.Response:
        """200 as long as the event loop turns."""
        return web.json_response({"status": "live"})

    async def ready(self, _: web.Request) -> web.Response:
        """200 where every store answers, 503 where one does not; the body says which."""
        found = await self.parts()
        ready = all(found.values())
        return web.json_response(
            {"status": _said(ready), "parts": {part: _said(is_ready) for part, is_ready in found.items()}},
            status=HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE,
        )

    async def parts(self) -> dict[str, bool]:
        """Each part of the server, and whether it can do its work now."""
        return dict(zip(self._checks, await asyncio.gather(*map(_is_ready, self._checks.items())), strict=True))


def _said(ready: bool) -> str:
    return "ready" if ready else "not ready"


async def _is_ready(part: tuple[str, Check]) -> bool:
    name, check = part
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await check()
    except Exception:  # whatever it is, this part can not work now
        log.exception("A part of the server is not ready", extra={"part": name})
        return False
    return True
