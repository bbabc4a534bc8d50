"""The reference: an HTTP server that does nothing, with the library, the event loop and the settings of ours.

`python -m server.bench.bare PORT`; it answers GET and POST with five bytes, or a GET of /N with N of them, and ends
when its standard input closes.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import lru_cache

from aiohttp import web

from server.event_loop import run


async def _serve(port: int) -> None:
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def parent_is_gone() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin.fileno())
            closed.set()

    loop.add_reader(sys.stdin.fileno(), parent_is_gone)
    app = web.Application()
    app.router.add_post("/", _answer)
    app.router.add_get("/", _answer)
    app.router.add_get("/{octets:[0-9]{1,9}}", _octets)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, reuse_port=True).start()
        sys.stderr.write("Listening\n")
        sys.stderr.flush()
        await closed.wait()
    finally:
        await runner.cleanup()


async def _answer(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=b"hello")


async def _octets(request: web.Request) -> web.Response:
    return web.Response(body=_so_many(int(request.match_info["octets"])))


@lru_cache(maxsize=8)
def _so_many(octets: int) -> bytes:
    return b"hello".ljust(octets, b".")


if __name__ == "__main__":
    run(_serve(int(sys.argv[1])))
