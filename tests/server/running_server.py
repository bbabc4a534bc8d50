"""A real server beside the test, in a thread with an event loop of its own: commands have theirs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from server.serving import serve
from server.settings import load_settings

_PATIENCE_SECONDS = 60
_TURNS_OF_ACCEPTING = 5  # of the event loop: one to accept a connection, one to begin it, and some to spare


@contextmanager
def running_server(data: Path, config: Path | None = None, **options: Any) -> Iterator[str]:
    """The base URL of a server on a free port of this machine, which keeps everything in `data`."""
    settings = load_settings(config, data=data, host="127.0.0.1", port=0, **options)
    listening = threading.Event()
    bases: list[str] = []
    stopping: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def announce(base: str) -> None:
        bases.append(base)
        listening.set()

    async def run() -> None:
        stop = asyncio.Event()
        stopping.append((asyncio.get_running_loop(), stop))
        await serve(settings, stop=stop, announce=announce)

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="server")
    thread.start()
    try:
        assert listening.wait(_PATIENCE_SECONDS), "the server does not listen"
        yield bases[0]
    finally:
        for loop, stop in stopping:
            asyncio.run_coroutine_threadsafe(_stop(stop), loop)
        thread.join(_PATIENCE_SECONDS)
        assert not thread.is_alive(), "the server does not stop"


async def _stop(stop: asyncio.Event) -> None:
    """Take the connections that were opened by now, and then stop.

    asyncio leaves one open that it accepts in the same moment as its server closes (python/cpython issue 109564).
    """
    for _ in range(_TURNS_OF_ACCEPTING):
        await asyncio.sleep(0)
    stop.set()
