"""The embedded metadata store: one SQLite file.

Writes go through one thread with group commit (registry/sqlite/writer.py). What reads little is read in the event
loop, because handing it to a thread would cost more than the reading; what may read much is read in threads, so that
the loop is free for others. Several processes may use one file (registry/sqlite/write_turn.py).
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, nullcontext, suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from registry.dossier_log import LogRecord
from registry.fhir_resources import FhirResources
from registry.kept_dossiers import KeptDossiers
from registry.metadata_store import (
    Criteria,
    Extent,
    Facts,
    IndexRow,
    PatientIdentity,
    Progress,
    Questions,
    RegistryChange,
    StoreBusy,
    StoredObject,
)
from registry.rendering_compression import RenderingCompression
from registry.sqlite.database import Database, snapshot, translated
from registry.sqlite.facts import FactFinder
from registry.sqlite.group_commit import PreparedChange
from registry.sqlite.index import identities, rows
from registry.sqlite.log import all_records, extent, records_of
from registry.sqlite.pages import PageSearch, dossiers_in_question, kept_page
from registry.sqlite.reindex import Reindexing
from registry.sqlite.replay import Replaying
from registry.sqlite.search import Search, found_in_small_dossier, require_unmerged
from registry.sqlite.writer import SqliteWriter
from xds.actors import FhirRenderer, ObjectCodec
from xds.paged_search import Page, PagedSearch

_T = TypeVar("_T")

_SMALL_ROWS = 256
"""What may look at more rows than this is read in a thread: it would keep the event loop for some milliseconds."""
_SMALL_REFERENCES = 8
_SMALL_OBJECTS = 32
_STREAMED_AT_ONCE = 100


class SqliteMetadataStore:
    """Keeps dossiers in one file of SQLite 3.37 or newer. Used by one event loop at a time."""

    def __init__(
        self,
        path: Path,
        *,
        codec: ObjectCodec,
        compression: RenderingCompression | None = None,
        renderer: FhirRenderer | None = None,
        kept: KeptDossiers | None = None,
        busy_seconds: float = 10.0,
        reader_threads: int = 4,
        reindexing: bool = False,
    ) -> None:
        """Open the store, and create it where there is none. Opened after a fork, never carried across one.

        renderer       makes the FHIR resources that are kept with what is registered; None: none are
        kept           holds what pages showed lately; None: nothing is held
        busy_seconds   how long anything waits for its turn before StoreBusy
        reindexing     accept an index of an older release, because reindex() is going to be called
        Raises WrongVersion (a StoreDamaged), StoreBusy, StoreFull; RuntimeError where SQLite is too old.
        """
        self._codec = codec
        self._compression = compression or RenderingCompression.shipped()
        self._busy_seconds = busy_seconds
        self._database = Database(path, busy_seconds=busy_seconds, reindexing=reindexing)
        with translated():
            self._in_loop = self._database.reader(waiting=False)
            self._fhir = FhirResources(renderer, self._database.secret)
            self._writer = SqliteWriter(self._database, codec, self._compression, self._fhir, busy_seconds=busy_seconds)
        self._kept = kept or KeptDossiers(0)
        self._threads = ThreadPoolExecutor(reader_threads, thread_name_prefix="registry-reader")
        self._of_thread = threading.local()
        self._connections = [self._in_loop]
        self._closed = False

    async def known(self, questions: Questions) -> Facts:
        def read(connection: sqlite3.Connection) -> Facts:
            with snapshot(connection):
                return FactFinder(connection, self._codec, self._compression).known(questions)

        small = (
            not questions.replaced
            and len(questions.references) <= _SMALL_REFERENCES
            and len(questions.identifiers) + len(questions.document_ids) <= _SMALL_ROWS
        )
        return await self._read(read, small=small)

    async def apply(self, change: RegistryChange, facts: Facts) -> LogRecord:
        if len(change.objects) <= _SMALL_OBJECTS:
            prepared = PreparedChange.of(change, facts, self._codec, self._compression, self._fhir)
        else:
            prepared = await asyncio.to_thread(
                PreparedChange.of, change, facts, self._codec, self._compression, self._fhir
            )
        return await self._writer.commit(prepared)

    async def find(
        self, criteria: Criteria, *, rendering: bool = True, limit: int | None = None, unmerged: bool = False
    ) -> tuple[StoredObject, ...]:
        if _may_be_small(criteria) and not self._closed:
            found = self._found_in_loop(criteria, rendering, limit, unmerged)
            if found is not None:
                return found

        def read(connection: sqlite3.Connection) -> tuple[StoredObject, ...]:
            with _one_moment(connection, criteria, unmerged):
                search = Search.of(criteria, connection)
                return search.found(connection, self._compression, rendering=rendering, limit=limit, unmerged=unmerged)

        return await self._in_thread(lambda: read(self._thread_connection()))

    def _found_in_loop(
        self, criteria: Criteria, rendering: bool, limit: int | None, unmerged: bool
    ) -> tuple[StoredObject, ...] | None:
        """The objects where there is little to read and nothing in the way; None: it is for a thread."""
        connection, compression = self._in_loop, self._compression
        most = _SMALL_ROWS if limit is None else min(limit, _SMALL_ROWS)
        try:
            with translated():
                found = found_in_small_dossier(
                    criteria, connection, compression,
                    most_objects=_SMALL_ROWS, rendering=rendering, limit=most, unmerged=unmerged,
                )  # fmt: skip
                if found:
                    return found
                with _one_moment(connection, criteria, unmerged):
                    search = Search.of(criteria, connection)
                    if search.at_most is None or search.at_most > _SMALL_ROWS:
                        return None
                    found = search.found(connection, compression, rendering=rendering, limit=most, unmerged=unmerged)
        except StoreBusy:
            return None  # the loop does not wait; a thread may
        # An identifier may stand for many objects: a Folder has as many associations as it has members.
        return None if len(found) == _SMALL_ROWS and most != limit else found

    async def count(self, criteria: Criteria, *, unmerged: bool = False) -> int:
        def read(connection: sqlite3.Connection) -> int:
            with _one_moment(connection, criteria, unmerged):
                if unmerged:
                    require_unmerged(criteria.patient_ids, connection)
                return Search.of(criteria, connection).count(connection)

        return await self._read(read, small=False)

    async def page(self, search: PagedSearch, *, unmerged: bool = False) -> Page:
        def read(connection: sqlite3.Connection, most_rows: int | None = None) -> Page | None:
            with snapshot(connection):
                dossiers = dossiers_in_question(search, connection)
                kept = kept_page(search, dossiers, self._kept)
                if kept is not None:  # then what was asked need not be made a statement
                    if unmerged:
                        require_unmerged(search.patient_ids, connection)
                    self._kept.counted(len(kept.objects), 0)
                    return kept
                pages = PageSearch.of(search, dossiers)
                if most_rows is not None:
                    rows = pages.most_rows(self._kept)
                    if rows is None or rows > most_rows:
                        return None  # for a thread
                return pages.read(connection, self._compression, self._kept, unmerged=unmerged)

        page = None
        if not self._closed:
            with suppress(StoreBusy), translated():
                page = read(self._in_loop, _SMALL_ROWS)
        if page is None:
            page = await self._in_thread(lambda: read(self._thread_connection()))
        assert page is not None  # noqa: S101 - without most_rows there is one
        return page

    async def patient_of(self, patient_key: str) -> str | None:
        def read(connection: sqlite3.Connection) -> str | None:
            text = "SELECT patient_id FROM patients WHERE id = (SELECT patient FROM patient_keys WHERE patient_key = ?)"
            row = connection.execute(text, (patient_key,)).fetchone()
            return None if row is None else str(row[0])

        return await self._read(read, small=True)

    async def patient_key(self, patient_id: str) -> str | None:
        key = self._fhir.patient_key(patient_id)
        return key if await self.patient_of(key) == patient_id else None

    def secret_for(self, purpose: str) -> bytes:
        return self._fhir.secret_for(purpose)

    async def identities(self, patient_ids: Collection[str]) -> Mapping[str, PatientIdentity]:
        def read(connection: sqlite3.Connection) -> Mapping[str, PatientIdentity]:
            with nullcontext() if len(patient_ids) == 1 else snapshot(connection):
                return identities(connection, patient_ids)

        return await self._read(read, small=len(patient_ids) <= _SMALL_REFERENCES)

    async def extent(self) -> Extent:
        return await self._read(extent, small=False)

    async def records(self, patient_id: str | None = None) -> AsyncIterator[LogRecord]:
        def read(connection: sqlite3.Connection) -> Iterator[LogRecord]:
            if patient_id is None:
                yield from all_records(connection, self._compression)
            for patient, _ in _dossiers(connection, patient_id) if patient_id is not None else ():
                yield from records_of(connection, self._compression, patient)

        async with aclosing(self._streamed(read)) as records:
            async for record in records:
                yield record

    async def index_rows(self, patient_id: str | None = None) -> AsyncIterator[IndexRow]:
        def read(connection: sqlite3.Connection) -> Iterator[IndexRow]:
            for patient, owner in _dossiers(connection, patient_id):
                yield from rows(connection, patient, owner, self._compression)

        async with aclosing(self._streamed(read)) as found:
            async for row in found:
                yield row

    async def reindex(self, progress: Progress | None = None) -> int:
        with translated():
            run = Reindexing(
                self._database, self._codec, self._compression, self._fhir, busy_seconds=self._busy_seconds
            )
        done = 0
        steps = run.steps()
        try:
            while (step := await self._to_its_end(lambda: next(steps, None))) is not None:
                done, in_all = step
                if progress:
                    progress(done, in_all)
        finally:
            steps.close()
            run.close()
        return done

    async def replay(self, records: Sequence[LogRecord]) -> None:
        with translated():
            replaying = Replaying(
                self._database, self._codec, self._compression, self._fhir, busy_seconds=self._busy_seconds
            )
        try:
            await self._to_its_end(lambda: replaying.enter(records))
        finally:
            replaying.close()

    async def check(self) -> None:
        await self._read(lambda connection: connection.execute("SELECT 1 FROM meta").fetchone(), small=False)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._writer.close()
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()

    async def _read(self, read: Callable[[sqlite3.Connection], _T], *, small: bool) -> _T:
        """The answer of `read`: from this thread where it is small and nothing is in its way."""
        if small and not self._closed:
            try:
                with translated():
                    return read(self._in_loop)
            except StoreBusy:
                pass  # the loop does not wait; a thread may
        return await self._in_thread(lambda: read(self._thread_connection()))

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        def translating() -> _T:
            with translated():
                return work()

        if self._closed:
            raise StoreBusy("the metadata store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, translating)

    async def _to_its_end(self, work: Callable[[], _T]) -> _T:
        """What `work` does in a thread. Who cancels this waits for it: what it works on is about to be closed."""
        working = asyncio.ensure_future(self._in_thread(work))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.gather(working, return_exceptions=True)
            raise

    def _thread_connection(self) -> sqlite3.Connection:
        try:
            connection: sqlite3.Connection = self._of_thread.connection
        except AttributeError:
            connection = self._of_thread.connection = self._database.reader()
            self._connections.append(connection)
        return connection

    async def _streamed(self, read: Callable[[sqlite3.Connection], Iterator[_T]]) -> AsyncGenerator[_T, None]:
        """What `read` yields, some at a time, from a connection of its own."""
        with translated():
            connection = self._database.reader()
        try:
            source = read(connection)
            while portion := await self._to_its_end(lambda: list(islice(source, _STREAMED_AT_ONCE))):
                for each in portion:
                    yield each
        finally:
            connection.close()


def _one_moment(connection: sqlite3.Connection, criteria: Criteria, unmerged: bool) -> AbstractContextManager[None]:
    """A snapshot where one is needed. One dossier is read by one statement, which is of one moment by itself; that the
    dossier exists, and its number, never changes."""
    return nullcontext() if len(criteria.patient_ids) == 1 and not unmerged else snapshot(connection)


def _may_be_small(criteria: Criteria) -> bool:
    """Whether it is worth a look how much there is to read."""
    return bool(criteria.matches or criteria.patient_ids) and len(criteria.patient_ids) <= _SMALL_ROWS


def _dossiers(connection: sqlite3.Connection, patient_id: str | None) -> Iterator[tuple[int, str]]:
    """Number and patient id of one dossier, or of all in the order in which they were begun."""
    if patient_id is not None:
        yield from connection.execute(
            "SELECT id, patient_id FROM patients WHERE patient_id = ?", (patient_id,)
        ).fetchall()
        return
    after = 0
    while page := connection.execute(
        "SELECT id, patient_id FROM patients WHERE id > ? ORDER BY id LIMIT 500", (after,)
    ).fetchall():
        yield from page
        after = page[-1][0]
