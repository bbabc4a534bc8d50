"""Apps that run in a browser, and were loaded from elsewhere, may ask (CORS: Fetch Standard, 3.2).

A browser keeps from a page what a server of another origin answers, unless the answer says that this origin may have
it; and it asks first, by a preflight, before it sends what no link or form could send. What is said is the same for all
of /fhir. Credentials of the browser's own (cookies, certificates) are never asked for: an app sends its access token.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from server.fhir_interactions import INTERACTIONS

log = logging.getLogger(__name__)

ANY_ORIGIN: Final = "*"

HEEDED_METHODS: Final = tuple(sorted({"HEAD", *(each.method for each in INTERACTIONS)}))
HEEDED_HEADERS: Final = (
    "Accept", "Authorization", "Content-Encoding", "Content-Type", "If-Modified-Since", "If-None-Exist",
    "If-None-Match", "If-Range", "Prefer", "Range", "traceparent", "X-Request-Id",
)  # fmt: skip
"""Of a request: those that make a difference at /fhir and that a page can set."""
EXPOSED_HEADERS: Final = (
    "Accept-Ranges", "Allow", "Content-Disposition", "Content-Location", "Content-Range", "ETag", "Last-Modified",
    "Location", "Retry-After", "WWW-Authenticate", "X-Request-Id",
)  # fmt: skip
"""Of an answer: those that are sent at /fhir and mean something to an app."""
_PREFLIGHT_SECONDS: Final = 7200  # how long a browser need not ask again; Chromium takes no more


class CrossOrigin:
    """Lets pages of some origins read what is answered below a path."""

    def __init__(self, origins: Sequence[str], *, below: str) -> None:
        """origins: as browsers say them, or ANY_ORIGIN alone."""
        self._origins = frozenset(origins)
        self._below = below

    async def tell(self, request: web.Request, response: web.StreamResponse) -> None:
        """Say who may read a response, just before its headers are sent: a signal of the application."""
        if request.path != self._below and not request.path.startswith(f"{self._below}/"):
            return
        if ANY_ORIGIN not in self._origins:
            # Also without Origin: what a cache keeps of it is not for whoever comes with one.
            response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        allowed = self._allowed(request)
        if allowed is not None:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = allowed
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = ", ".join(EXPOSED_HEADERS)

    def _allowed(self, request: web.Request) -> str | None:
        if ANY_ORIGIN in self._origins:
            return ANY_ORIGIN
        origin = request.headers.get(hdrs.ORIGIN)
        return origin if origin in self._origins else None

    def answering_preflights(self, handler: Handler) -> Handler:
        """The handler, without those requests by which a browser asks whether a page may make another one.

        There is neither a token with them, nor anything in them to be audited.
        """

        async def answer(request: web.Request) -> web.StreamResponse:
            asks = request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
            if not asks or hdrs.ORIGIN not in request.headers or self._allowed(request) is None:
                return await handler(request)
            log.info("Answered a preflight", extra={"origin": request.headers[hdrs.ORIGIN][:200]})
            return web.Response(
                status=HTTPStatus.NO_CONTENT,
                headers={
                    hdrs.ACCESS_CONTROL_ALLOW_METHODS: ", ".join(HEEDED_METHODS),
                    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: ", ".join(HEEDED_HEADERS),
                    hdrs.ACCESS_CONTROL_MAX_AGE: str(_PREFLIGHT_SECONDS),
                },
            )

        return answer
