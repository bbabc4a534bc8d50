"""The one thread of a process that writes to the embedded metadata store.

All changes that wait are written as one group (registry/sqlite/group_commit.py). Answers come after the commit.

The thread and the event loop share one interpreter: a thread that is woken for each change by itself fights for it with
the loop that is just about to bring the next one, and both lose. So changes gather in the loop until it has brought all
that it has, and the thread is woken for all of them: with 32 clients that answers half as many again. A change that
comes alone waits a few empty turns of the loop.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from registry.dossier_log import LogRecord
from registry.fhir_resources import FhirResources
from registry.metadata_store import StoreBusy, StoreFull
from registry.rendering_compression import RenderingCompression
from registry.sqlite.checkpoints import Checkpoints
from registry.sqlite.database import Database, translated
from registry.sqlite.group_commit import GroupCommit, Outcome, PreparedChange
from xds.actors import ObjectCodec

logger = logging.getLogger(__name__)

_GROUP_SIZE = 256
_QUIET_TURNS = 8  # of the event loop, in which no change came: then all are there
_LONGEST_GATHERING_SECONDS = 0.03


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
        self,
        database: Database,
        codec: ObjectCodec,
        compression: RenderingCompression,
        fhir: FhirResources,
        *,
        busy_seconds: float,
    ) -> None:
        """busy_seconds: after which a change that could not be begun is given up."""
        self._busy_seconds = busy_seconds
        self._group_commit = GroupCommit(database.writer(), codec, compression, fhir)
        self._turn = database.write_turn()
        self._checkpoints = Checkpoints(database, busy_seconds=busy_seconds)
        self._gathering: list[_Waiting] = []  # of the event loop alone
        self._queue: queue.SimpleQueue[Sequence[_Waiting] | None] = queue.SimpleQueue()
        self._closed = False
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
        finally:
            self._checkpoints.close()
            self._group_commit.connection.close()
            self._turn.close()

    def _next_group(self) -> tuple[list[_Waiting], bool]:
        """All that wait, but not many too many. False: nothing comes after these."""
        group: list[_Waiting] = []
        try:
            gathered = self._queue.get()
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
                outcomes = self._group_commit.outcomes([waiting.change for waiting in wanted])
        except Exception as error:  # noqa: BLE001 whatever it is, all who wait are told
            _log_failure("A group of changes could not be committed.", error, changes=len(wanted))
            outcomes = [error] * len(wanted)
        _answer(zip(wanted, outcomes, strict=True))
        self._checkpoints.wrote(sum(isinstance(outcome, LogRecord) for outcome in outcomes))


def _log_failure(sentence: str, error: Exception, **values: str | int) -> None:
    """With a traceback where it is not for the operator alone to put right."""
    expected = isinstance(error, StoreBusy | StoreFull)
    logger.error(sentence, extra=values, exc_info=None if expected else error)


def _answer(outcomes: Iterable[tuple[_Waiting, Outcome]]) -> None:
    """Tell those who wait, each in his event loop, with one call for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Outcome]]] = {}
    for waiting, outcome in outcomes:
        by_loop.setdefault(waiting.loop, []).append((waiting, outcome))
    for loop, answers in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, answers)


def _settle(answers: Iterable[tuple[_Waiting, Outcome]]) -> None:
    for waiting, outcome in answers:
        if waiting.future.done():
            continue
        if isinstance(outcome, LogRecord):
            waiting.future.set_result(outcome)
        else:
            waiting.future.set_exception(outcome)
