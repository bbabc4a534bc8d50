"""Copying what the write-ahead log holds to the database file, beside those who write and read.

A thread with a connection of its own: copying takes a tenth of a second for every few hundred changes, and nobody has
to wait for it. The log begins again at its start when all of it was copied and nobody reads from it; under steady
traffic that moment never comes by itself, and when the log has grown long, writers are kept waiting for it.
"""

from __future__ import annotations

import logging
import threading

from registry.sqlite.database import Database, translated

logger = logging.getLogger(__name__)

_AFTER_CHANGES = 500
_IDLE_SECONDS = 2.0
_LONG_WAL_PAGES = 16 * 1024


class Checkpoints:
    """Copies after every few hundred changes, and some time after the last one."""

    def __init__(self, database: Database, *, busy_seconds: float) -> None:
        """busy_seconds: how long to wait for the turn to write, where it is needed."""
        self._busy_seconds = busy_seconds
        self._connection = database.writer()
        self._turn = database.write_turn()
        self._news = threading.Condition()
        self._changes = 0  # written since the last checkpoint
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="registry-checkpoints", daemon=True)
        self._thread.start()

    def wrote(self, changes: int) -> None:
        """So many more changes were written."""
        with self._news:
            self._changes += changes
            self._news.notify()

    def close(self) -> None:
        """Finish what was begun. What was not copied stays in the log, where it is as safe."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()
        self._connection.close()
        self._turn.close()

    def _run(self) -> None:
        while self._due():
            try:
                self._copy()
            except Exception:
                logger.exception("The write-ahead log could not be copied to the database; it will be tried again.")

    def _due(self) -> bool:
        """Wait until it is time to copy. False: there will be nothing more."""
        with self._news:
            self._news.wait_for(lambda: self._closed or self._changes > 0)
            self._news.wait_for(lambda: self._closed or self._changes >= _AFTER_CHANGES, _IDLE_SECONDS)
            self._changes = 0
            return not self._closed

    def _copy(self) -> None:
        with translated():
            _, pages, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > _LONG_WAL_PAGES:
                with self._turn.taken(self._busy_seconds):
                    self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
