"""Whose turn it is to write to a database, among threads and processes of one machine.

SQLite lets one writer in and makes the others poll, without an order: under load some wait for seconds. Here they
queue at two lock files. Who holds `next` is the next to write, and lets it go only when he writes; who has written
can not be faster than the one who was next. A process that dies lets go of both.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.metadata_store import StoreBusy

_FIRST_PAUSE_SECONDS = 0.0001
_LONGEST_PAUSE_SECONDS = 0.002


class WriteTurn:
    """One place in the queue; used by one thread at a time."""

    def __init__(self, path: Path, refusal: str) -> None:
        """path: of the lock files, to which `.next` and `.now` are added; refusal: the sentence of StoreBusy."""
        self._refusal = refusal
        self._next, self._now = (
            os.open(path.with_name(f"{path.name}.{which}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            for which in ("next", "now")
        )

    @contextmanager
    def taken(self, seconds: float) -> Iterator[None]:
        """Wait for the turn, at most `seconds`, and keep it until the end of the block.

        Raises StoreBusy.
        """
        deadline = time.monotonic() + seconds
        self._lock(self._next, deadline)
        try:
            self._lock(self._now, deadline)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._now, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the lock files."""
        os.close(self._next)
        os.close(self._now)

    def _lock(self, descriptor: int, deadline: float) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreBusy(self._refusal) from None
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                return
