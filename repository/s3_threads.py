"""Threads in which an S3 server is waited for: as many as requests are made at once, and of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from repository.s3_client import S3Client
from repository.uninterrupted import uninterrupted

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class S3Threads:
    """Blocking work with the client, each piece of which is over within `seconds`, waiting for a thread included."""

    def __init__(self, client: S3Client, *, at_once: int, seconds: float) -> None:
        self._client = client
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="s3")
        self._seconds = seconds

    def begun(
        self, work: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Awaitable[Result]:
        """Begin it at once. It must be waited for with `uninterrupted`."""
        return self._begun(self._seconds, partial(work, *args, **kwargs))

    async def done(
        self, work: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """What it results in; it is over when this returns, also where the caller was cancelled."""
        return await uninterrupted(self.begun(work, *args, **kwargs))

    async def done_within(self, seconds: float, work: Callable[[], Result]) -> Result:
        """The same, for work that may not take as long as others."""
        return await uninterrupted(self._begun(min(seconds, self._seconds), work))

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    def _begun(self, seconds: float, work: Callable[[], Result]) -> Awaitable[Result]:
        deadline = time.monotonic() + seconds
        whole = partial(self._client.before, deadline, work)
        return asyncio.get_running_loop().run_in_executor(self._threads, whole)
