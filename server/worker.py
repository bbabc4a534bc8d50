"""One worker process: `python -m server.worker`, started by server/workers.py and by nobody else."""

from __future__ import annotations

import asyncio
import os
import sys

from server.event_loop import keep_freed_memory, run, send_without_joining, spare_the_collector
from server.logs import configure_logging
from server.serving import serve
from server.settings import Settings
from server.tls import CannotServe
from server.workers import CANNOT_START


def main() -> int:
    """Read the settings that the parent sends, and serve until it asks to stop or is gone."""
    settings = Settings.model_validate_json(sys.stdin.buffer.readline())
    configure_logging(settings.log)
    spare_the_collector()
    keep_freed_memory()
    send_without_joining()
    try:
        run(_serve_while_parent_lives(settings))
    except CannotServe as problem:
        sys.stderr.write(f"{problem}\n")
        return CANNOT_START
    return 0


async def _serve_while_parent_lives(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def parent_is_gone() -> None:
        # Nothing is ever sent after the settings, so readable means closed.
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin.fileno())
            stop.set()

    loop.add_reader(sys.stdin.fileno(), parent_is_gone)
    await serve(settings, stop=stop, share_port=True)


if __name__ == "__main__":
    sys.exit(main())
