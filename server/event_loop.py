"""The event loop of a server: uvloop where it is there, which answers about a quarter more requests."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from aiohttp import http_writer

T = TypeVar("T")

_M_TRIM_THRESHOLD: Final = -1  # malloc.h of the GNU C library
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 8 * 1024 * 1024
_LARGE_BYTES: Final = 4 * 1024 * 1024


def run(main: Coroutine[Any, Any, T]) -> T:
    """Like asyncio.run."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def spare_the_collector() -> None:
    """For a process that is going to serve: modules and classes stay, so no garbage collection need look at them.

    Otherwise each of its thorough collections stops all requests for a tenth of a second. A submission makes some
    thousand objects, hardly ever in cycles, so that more of them may be made before a collection begins.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def keep_freed_memory() -> None:
    """For a process that is going to serve: the next answer is put together where the last one was.

    The GNU C library gives memory of more than 128 KiB back to the system as soon as it is free, and for the next
    answer every page of it is mapped and zeroed again: for half a megabyte that takes several times as long as sending
    it. Now 8 MiB stay, and what is larger than 4 MiB is given back at once. Other C libraries are left as they are.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def send_without_joining() -> None:
    """For a process that is going to serve: the headers of an answer and its body are sent by one call, as they are.

    aiohttp joins them first where Python's own event loop is not to be trusted with several pieces (CVE-2024-12254, and
    before that it joined them itself). That is a copy of each large answer. uvloop hands the pieces to the system; if
    headers were sent by themselves, the client would be woken twice. Another event loop is left as it is.
    """
    if _loop_factory() is not None:
        http_writer.SKIP_WRITELINES = False


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not made for this platform
        return None
    return uvloop.new_event_loop
