"""Work that is not left half done when nobody waits for it any more.

A client that hangs up cancels its request. A thread can not be cancelled, and a registration that has begun should be
followed by what it decides; so whoever is cancelled waits for the end of such work, and is cancelled then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


async def uninterrupted(work: Awaitable[Result]) -> Result:
    """What `work` results in. A cancellation of the caller is passed on when the work has come to its end."""
    under_way = asyncio.ensure_future(work)
    cancellation: asyncio.CancelledError | None = None
    while not under_way.done():
        try:
            await asyncio.wait([under_way])
        except asyncio.CancelledError as cancelled:
            cancellation = cancelled
    if cancellation is not None:
        raise cancellation from (None if under_way.cancelled() else under_way.exception())
    return under_way.result()


def begun(work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Awaitable[Result]:
    """Blocking work, begun in a thread at once. It must be waited for with `uninterrupted`."""

    def whole() -> Result:
        return work(*args, **kwargs)

    return asyncio.get_running_loop().run_in_executor(None, whole)


async def in_thread(work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    """What blocking work results in; it is over when this returns, also where the caller was cancelled."""
    return await uninterrupted(begun(work, *args, **kwargs))
