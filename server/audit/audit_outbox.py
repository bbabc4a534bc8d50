"""Audit events that wait to be sent, in an SQLite file of this machine: all its worker processes share it.

What was kept is on the disk (WAL, synchronous=FULL), and stays until the audit record repository has taken it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

from server.audit.audit_sink import KeptEvent, NotKept

FILE: Final = "outbox.sqlite3"
_BUSY_SECONDS: Final = 10.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    recorded REAL NOT NULL,
    resource BLOB NOT NULL,
    set_aside INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS events_set_aside ON events (number) WHERE set_aside;
CREATE TABLE IF NOT EXISTS totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    events INTEGER NOT NULL,
    octets INTEGER NOT NULL,
    set_aside INTEGER NOT NULL
) STRICT;
INSERT INTO totals VALUES (1, 0, 0, 0) ON CONFLICT DO NOTHING;
CREATE TRIGGER IF NOT EXISTS event_kept AFTER INSERT ON events BEGIN
    UPDATE totals SET events = events + 1, octets = octets + length(NEW.resource);
END;
CREATE TRIGGER IF NOT EXISTS event_sent AFTER DELETE ON events BEGIN
    UPDATE totals SET events = events - 1, octets = octets - length(OLD.resource),
        set_aside = set_aside - OLD.set_aside;
END;
CREATE TRIGGER IF NOT EXISTS event_set_aside AFTER UPDATE OF set_aside ON events BEGIN
    UPDATE totals SET set_aside = set_aside + NEW.set_aside - OLD.set_aside;
END;
"""


class OutboxState(NamedTuple):
    """How it stands with the outbox.

    events        all that are there
    octets        of their resources
    set_aside     those that the repository refused, and that wait for the next start
    age_seconds   of the oldest; 0 where there is none
    """

    events: int
    octets: int
    set_aside: int
    age_seconds: float


class AuditOutbox:
    """An AuditSink, and what is sent from it."""

    def __init__(self, directory: Path, *, most_octets: int) -> None:
        """Open it, and make it where it is not there. Raises NotKept."""
        self._most_octets = most_octets
        with _as_not_kept():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = directory / FILE
            path.touch(mode=0o600)
            self._writing, self._reading = _Connection(path), _Connection(path)
        with self._writing.used() as connection:
            connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")

    def has_room(self) -> bool:
        try:
            with self._reading.used() as connection:
                [octets] = connection.execute("SELECT octets FROM totals").fetchone()
        except NotKept:
            return False
        return bool(octets < self._most_octets)

    def state(self) -> OutboxState:
        """How many there are, and since when. Never waits for who writes. Raises NotKept."""
        with self._reading.used() as connection:
            events, octets, set_aside = connection.execute("SELECT events, octets, set_aside FROM totals").fetchone()
            oldest = connection.execute("SELECT recorded FROM events ORDER BY number LIMIT 1").fetchone()
        return OutboxState(events, octets, set_aside, max(time.time() - oldest[0], 0.0) if oldest else 0.0)

    def keep(self, events: Sequence[KeptEvent]) -> None:
        with self._writing.transaction() as connection:
            connection.executemany("INSERT INTO events (id, recorded, resource) VALUES (?, ?, ?)", events)

    def oldest(self, most: int) -> list[KeptEvent]:
        """Those that are next to be sent. Raises NotKept."""
        text = "SELECT id, recorded, resource FROM events WHERE NOT set_aside ORDER BY number LIMIT ?"
        with self._reading.used() as connection:
            return [KeptEvent(*row) for row in connection.execute(text, (most,))]

    def sent(self, taken: Sequence[str], refused: Sequence[str] = ()) -> None:
        """Forget what was taken and set aside what was refused, by ids. Raises NotKept."""
        with self._writing.transaction() as connection:
            connection.executemany("DELETE FROM events WHERE id = ?", [(each,) for each in taken])
            connection.executemany("UPDATE events SET set_aside = 1 WHERE id = ?", [(each,) for each in refused])

    def try_again(self) -> None:
        """Have what was refused sent once more. Raises NotKept."""
        with self._writing.transaction() as connection:
            connection.execute("UPDATE events SET set_aside = 0 WHERE set_aside")

    def close(self) -> None:
        self._writing.close()
        self._reading.close()


class _Connection:
    """A connection that one thread uses at a time."""

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def used(self) -> Iterator[sqlite3.Connection]:
        """Raises NotKept."""
        with self._lock, _as_not_kept():
            yield self._connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The same, and all that is done is written, or nothing."""
        with self.used() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        with self._lock:
            self._connection.close()


@contextmanager
def _as_not_kept() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as problem:
        raise NotKept(f"the outbox of audit events can not be used: {problem}") from problem
