"""Which trace a request belongs to (W3C Trace Context): told in the log, and passed on to the servers that are asked.

Whoever follows a request through several systems sends `traceparent`. What is not of its form is left out: it would go
to logs and to other servers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

TRACEPARENT: Final = "traceparent"
_FORM: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_traceparent: ContextVar[str] = ContextVar("traceparent", default="")


@web.middleware
async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Everything that is done for a request is done in its trace."""
    sent = request.headers.get(TRACEPARENT, "")
    if not _FORM.fullmatch(sent):
        return await handler(request)
    token = _traceparent.set(sent)
    try:
        return await handler(request)
    finally:
        _traceparent.reset(token)


def trace_headers() -> Mapping[str, str]:
    """What a server is sent that is asked on behalf of the request under way."""
    return {TRACEPARENT: sent} if (sent := _traceparent.get()) else {}


def trace_facts() -> Mapping[str, str]:
    """What is logged of the trace."""
    found = _FORM.fullmatch(_traceparent.get())
    return {"trace_id": found[1]} if found else {}
