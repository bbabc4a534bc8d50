"""The one thread of a process that writes to the embedded metadata store.

Group commit: all changes that wait are written in one transaction, each in a savepoint of its own, and made durable by
one fsync. A change that is refused rolls back its savepoint and disturbs no other. Answers come after the commit.

The thread and the event loop share one interpreter: a thread that is woken for each change by itself fights for it with
the loop that is just about to bring the next one, and both lose. So changes gather in the loop until it has brought all
that it has, and the thread is woken for all of them: with 32 clients that answers half as many again. A change that
comes alone waits a few empty turns of the loop.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from registry.change_body import encoded
from registry.dossier_log import FIRST_PREVIOUS_HASH, LogRecord
from registry.metadata_store import Facts, FactsMoved, RegistryChange, Revision, StoreBusy, StoreFull
from registry.rendering_compression import RenderingCompression
from registry.sqlite_database import Database, transaction, translated
from registry.sqlite_index import IndexedObject, IndexTables, numbered
from xds.actors import ObjectCodec

logger = logging.getLogger(__name__)

_GROUP_SIZE = 256
_QUIET_TURNS = 8  # of the event loop, in which no change came: then all are there
_LONGEST_GATHERING_SECONDS = 0.03
_CHECKPOINT_CHANGES = 500
_CHECKPOINT_IDLE_SECONDS = 2.0
_LONG_WAL_PAGES = 64 * 1024


@dataclass(frozen=True, slots=True)
class PreparedChange:
    """A change with all done that can be done before it is its turn.

    expected_sequence   of the dossier, as the change was judged
    """

    patient_id: str
    change_id: str
    time: str
    expected_sequence: int
    body: bytes
    compressed_body: bytes
    objects: tuple[IndexedObject, ...]
    revisions: tuple[Revision, ...]

    @classmethod
    def of(
        cls, change: RegistryChange, facts: Facts, codec: ObjectCodec, compression: RenderingCompression
    ) -> PreparedChange:
        """`change`, rendered and compressed.

        Raises ValueError where it was judged on another dossier, or names two objects alike.
        """
        if change.patient_id != facts.patient_id:
            raise ValueError("the change is of one dossier and the facts are of another")
        renderings = [codec.written(item) for item in change.objects]
        objects = tuple(
            IndexedObject.of(item, compression.compress(rendering))
            for item, rendering in zip(change.objects, renderings, strict=True)
        )
        identifiers = [identifier for item in objects for identifier in item.identifiers]
        if len(set(identifiers)) < len(identifiers):
            raise ValueError("the change gives one identifier to two objects")
        body = encoded(renderings, change.revisions)
        return cls(
            change.patient_id,
            change.change_id,
            change.time,
            facts.sequence,
            body,
            compression.compress(body),
            objects,
            change.revisions,
        )


_Outcome: TypeAlias = LogRecord | Exception


@dataclass(slots=True)
class _Waiting:
    """A change in the queue, and who waits for it."""

    change: PreparedChange
    deadline: float
    future: asyncio.Future[LogRecord]
    loop: asyncio.AbstractEventLoop = field(init=False)

    def __post_init__(self) -> None:
        self.loop = self.future.get_loop()


class SqliteWriter:
    """Commits changes in the order in which they come."""

    def __init__(
        self, database: Database, codec: ObjectCodec, compression: RenderingCompression, *, busy_seconds: float
    ) -> None:
        """busy_seconds: after which a change that could not be begun is given up."""
        self._busy_seconds = busy_seconds
        self._connection = database.writer()
        self._turn = database.write_turn()
        self._index = IndexTables(self._connection, codec, compression)
        self._gathering: list[_Waiting] = []  # of the event loop alone
        self._queue: queue.SimpleQueue[Sequence[_Waiting] | None] = queue.SimpleQueue()
        self._closed = False
        self._unsettled_changes = 0  # written since the last checkpoint
        self._thread = threading.Thread(target=self._run, name="registry-writer", daemon=True)
        self._thread.start()

    async def commit(self, change: PreparedChange) -> LogRecord:
        """Have `change` written.

        Raises FactsMoved, StoreBusy, StoreFull, StoreDamaged.
        """
        if self._closed:
            raise StoreBusy("the metadata store is closed")
        now = time.monotonic()
        waiting = _Waiting(change, now + self._busy_seconds, asyncio.get_running_loop().create_future())
        self._gathering.append(waiting)
        if len(self._gathering) == 1:
            waiting.loop.call_soon(self._gather, waiting.loop, 1, 0, now + _LONGEST_GATHERING_SECONDS)
        return await waiting.future

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int, quiet_turns: int, deadline: float) -> None:
        """Once in each turn of the event loop: hand over what has gathered, or see whether more comes."""
        gathered = len(self._gathering)
        quiet_turns = quiet_turns + 1 if gathered == seen else 0
        if quiet_turns < _QUIET_TURNS and gathered < _GROUP_SIZE and time.monotonic() < deadline:
            loop.call_soon(self._gather, loop, gathered, quiet_turns, deadline)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        gathered, self._gathering = self._gathering, []
        if gathered:
            self._queue.put(gathered)

    async def close(self) -> None:
        """Write what waits, and stop."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            open_for_more = True
            while open_for_more:
                group, open_for_more = self._next_group()
                if group:
                    self._serve(group)
                if self._unsettled_changes >= (_CHECKPOINT_CHANGES if group else 1):
                    self._checkpoint()
        finally:
            self._connection.close()
            self._turn.close()

    def _next_group(self) -> tuple[list[_Waiting], bool]:
        """All that wait, but not many too many; nothing after a while without any. False: nothing comes after these."""
        group: list[_Waiting] = []
        try:
            gathered = self._queue.get(timeout=_CHECKPOINT_IDLE_SECONDS if self._unsettled_changes else None)
            while gathered is not None:
                group += gathered
                if len(group) >= _GROUP_SIZE:
                    return group, True
                gathered = self._queue.get_nowait()
        except queue.Empty:
            return group, True
        return group, False

    def _serve(self, group: Sequence[_Waiting]) -> None:
        now = time.monotonic()
        late = [waiting for waiting in group if waiting.deadline < now]
        _answer((waiting, StoreBusy("the metadata store has more to write than it can")) for waiting in late)
        # Who does not wait any more (his connection broke) has been told nothing, so nothing is owed to him.
        wanted = [waiting for waiting in group if waiting.deadline >= now and not waiting.future.cancelled()]
        if not wanted:
            return
        try:
            with translated(), self._turn.taken(self._busy_seconds):
                outcomes = self._commit([waiting.change for waiting in wanted])
        except Exception as error:  # noqa: BLE001 whatever it is, all who wait are told
            _log_failure("A group of changes could not be committed.", error, changes=len(wanted))
            outcomes = [error] * len(wanted)
        _answer(zip(wanted, outcomes, strict=True))
        self._unsettled_changes += sum(isinstance(outcome, LogRecord) for outcome in outcomes)

    def _commit(self, changes: Sequence[PreparedChange]) -> list[_Outcome]:
        with transaction(self._connection):
            return [self._outcome(change) for change in changes]

    def _outcome(self, change: PreparedChange) -> _Outcome:
        """Write one change, or leave no trace of it."""
        self._connection.execute("SAVEPOINT change")
        try:
            with translated():
                record = self._write(change)
        except Exception as error:
            if not self._connection.in_transaction:
                raise  # the disk is full or broken, and SQLite has rolled back the whole group
            self._connection.execute("ROLLBACK TO change")
            self._connection.execute("RELEASE change")
            if not isinstance(error, FactsMoved):
                _log_failure("A change could not be written.", error, change_id=change.change_id)
            return error
        self._connection.execute("RELEASE change")
        return record

    def _write(self, change: PreparedChange) -> LogRecord:
        patient, sequence, previous_hash, objects = self._head(change)
        record = LogRecord.following(
            previous_hash,
            patient_id=change.patient_id,
            sequence=sequence + 1,
            change_id=change.change_id,
            time=change.time,
            body=change.body,
        )
        try:
            self._index.take_identifiers(change.objects, patient, objects + 1)
        except sqlite3.IntegrityError:
            raise FactsMoved("an identifier has been taken") from None
        self._require_same_documents(change.objects)
        self._append(record, change.compressed_body, patient)
        self._index.insert(change.objects, patient, objects + 1)
        for revision in change.revisions:
            if not self._index.revise(revision, patient):
                raise ValueError(f"{revision.entry_uuid} is to be revised, but is not in the dossier")
        self._connection.execute(
            "UPDATE patients SET sequence = ?, hash = ?, objects = ? WHERE id = ?",
            (record.sequence, record.hash, objects + len(change.objects), patient),
        )
        return record

    def _head(self, change: PreparedChange) -> tuple[int, int, bytes, int]:
        """The dossier: its number, sequence, last hash, and how many object numbers it has given out."""
        row = self._connection.execute(
            "SELECT id, sequence, hash, objects FROM patients WHERE patient_id = ?", (change.patient_id,)
        ).fetchone()
        if (row[1] if row else 0) != change.expected_sequence:
            raise FactsMoved("the dossier has changed")
        if row:
            return int(row[0]), int(row[1]), bytes(row[2]), int(row[3])
        patient = self._connection.execute(
            "INSERT INTO patients (patient_id, sequence, hash, objects) VALUES (?, 0, ?, 0)",
            (change.patient_id, FIRST_PREVIOUS_HASH),
        ).lastrowid
        return int(patient or 0), 0, FIRST_PREVIOUS_HASH, 0

    def _require_same_documents(self, objects: Iterable[IndexedObject]) -> None:
        """A uniqueId means the same document everywhere, whoever registers it (ITI TF-3: 4.2.3.2.26)."""
        for item in objects:
            if item.unique_id is None or item.hash is None:
                continue
            other = self._connection.execute(
                "SELECT 1 FROM document_entries WHERE unique_id = ? AND hash <> ? LIMIT 1", (item.unique_id, item.hash)
            ).fetchone()
            if other:
                raise FactsMoved("a document with this uniqueId and another hash has been registered")

    def _append(self, record: LogRecord, compressed_body: bytes, patient: int) -> None:
        self._connection.execute(
            "INSERT INTO changes (id, change_id, time, body, body_hash, previous_hash, hash) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                numbered(patient, record.sequence),
                record.change_id,
                record.time,
                compressed_body,
                record.body_hash,
                record.previous_hash,
                record.hash,
            ),
        )

    def _checkpoint(self) -> None:
        """Copy what the write-ahead log holds to the database, between two groups and disturbing nobody.

        Readers can keep the log from being started again. When it has grown long they are waited for.
        """
        try:
            with translated():
                _, pages, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if pages > _LONG_WAL_PAGES:
                    with self._turn.taken(self._busy_seconds):
                        self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        except Exception:
            logger.exception("The write-ahead log could not be copied to the database; it will be tried again.")
        self._unsettled_changes = 0


def _log_failure(sentence: str, error: Exception, **values: str | int) -> None:
    """With a traceback where it is not for the operator alone to put right."""
    expected = isinstance(error, StoreBusy | StoreFull)
    logger.error(sentence, extra=values, exc_info=None if expected else error)


def _answer(outcomes: Iterable[tuple[_Waiting, _Outcome]]) -> None:
    """Tell those who wait, each in his event loop, with one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, _Outcome]]] = {}
    for waiting, outcome in outcomes:
        by_loop.setdefault(waiting.loop, []).append((waiting, outcome))
    for loop, answers in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, answers)


def _settle(answers: Iterable[tuple[_Waiting, _Outcome]]) -> None:
    for waiting, outcome in answers:
        if waiting.future.done():
            continue
        if isinstance(outcome, LogRecord):
            waiting.future.set_result(outcome)
        else:
            waiting.future.set_exception(outcome)
