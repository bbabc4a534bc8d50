"""A large answer leaves its memory once.

aiohttp joins headers and body to send them with one call (on most releases of Python, see SKIP_WRITELINES in its
http_writer.py): for half a megabyte that is another copy, and another half megabyte of memory. The event loop sends
what was written one after the other with one call as well.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

_LARGE_BYTES: Final = 64 * 1024


@web.middleware
async def headers_first(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Hands the headers of a large answer over before its body. The outermost middleware: headers are complete."""
    response = await handler(request)
    body = response.body if isinstance(response, web.Response) else None
    if isinstance(body, bytes) and len(body) >= _LARGE_BYTES and request.method != "HEAD":
        # Whoever is gone is noticed again when the body is sent, where aiohttp expects it.
        with suppress(ConnectionError):
            writer = await response.prepare(request)
            if writer is not None:
                writer.send_headers()
    return response
