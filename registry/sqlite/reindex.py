"""Writing the index of the embedded metadata store again, from the log, while the registry is in use.

A second index grows beside the first, dossier by dossier, each step a short transaction. What is registered meanwhile
goes to the first index and is caught up with; the last catching up and the exchange of the two are one transaction.
"""

# ruff: noqa: S608 - statements are put together from names of our own; values are parameters

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from registry.dossier_log import LogRecord
from registry.fhir_resources import FhirResources
from registry.metadata_store import StoreDamaged
from registry.rendering_compression import RenderingCompression
from registry.sqlite.database import (
    INDEX_TABLES,
    INDEX_VERSION,
    Database,
    create_index,
    index_generation,
)
from registry.sqlite.log import extent, records_of
from registry.sqlite.second_writer import Content, SecondWriter
from xds.actors import ObjectCodec

_NEXT = "next_"
_LAST = "last_"
_DOSSIERS_PER_STEP = 20


@dataclass(frozen=True, slots=True)
class _Behind:
    """A dossier of which the new index has less than the log, and how far each is."""

    patient: int
    patient_id: str
    sequence: int
    hash: bytes
    indexed: int
    objects: int


@dataclass(frozen=True, slots=True)
class _Entered:
    """One record, ready to be entered in the new index."""

    time: str
    content: Content


class Reindexing:
    """One run. Used by one thread at a time."""

    def __init__(
        self,
        database: Database,
        codec: ObjectCodec,
        compression: RenderingCompression,
        fhir: FhirResources,
        *,
        busy_seconds: float,
    ) -> None:
        self._compression = compression
        self._writer = SecondWriter(database, codec, compression, fhir, busy_seconds=busy_seconds, index_prefix=_NEXT)
        self._connection = self._writer.connection
        self._alone = database.reindex_turn()
        self._after = 0

    def steps(self) -> Generator[tuple[int, int], None, None]:
        """Do it, and yield (records done, records in all) after every step.

        Raises StoreDamaged where the log can not be right, naming the record; the index stays as it was.
        Raises StoreBusy, also where another run is under way.
        """
        with self._alone.taken(0):
            self._begin()
            done, in_all = 0, extent(self._connection).records
            while entered := self._step():
                done += entered
                yield done, max(done, in_all)
            done += self._exchange()
            yield done, done
            self._drop(_LAST)

    def close(self) -> None:
        self._writer.close()
        self._alone.close()

    def _begin(self) -> None:
        self._drop(_NEXT)  # what a run left that was interrupted
        self._drop(_LAST)
        with self._writer.in_turn():
            create_index(self._connection, _NEXT, index_generation(self._connection) + 1)
            self._connection.execute(
                f"CREATE TABLE {_NEXT}heads "
                "(patient INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, objects INTEGER NOT NULL) STRICT"
            )

    def _step(self) -> int:
        """Enter the next dossiers, and return how many records that were. 0: there are none left."""
        entered = 0
        for dossier in self._behind(_DOSSIERS_PER_STEP):
            prepared = list(self._prepared(dossier))
            with self._writer.in_turn():
                self._enter(dossier, prepared)
            entered += len(prepared)
            self._after = dossier.patient
        return entered

    def _exchange(self) -> int:
        """Catch up, and put the new index in the place of the old one."""
        entered = 0
        self._after = 0
        with self._writer.in_turn():
            while dossiers := self._behind(_DOSSIERS_PER_STEP):
                for dossier in dossiers:
                    prepared = list(self._prepared(dossier))
                    self._enter(dossier, prepared)
                    entered += len(prepared)
            for table in INDEX_TABLES:
                if self._exists(table):
                    self._connection.execute(f"ALTER TABLE {table} RENAME TO {_LAST}{table}")
                self._connection.execute(f"ALTER TABLE {_NEXT}{table} RENAME TO {table}")
            self._connection.execute(
                f"UPDATE patients SET objects = h.objects FROM {_NEXT}heads AS h WHERE h.patient = patients.id"
            )
            self._connection.execute(f"DROP TABLE {_NEXT}heads")
            self._connection.executemany(
                "UPDATE meta SET value = ? WHERE name = ?",
                [(INDEX_VERSION, "index_version"), (index_generation(self._connection) + 1, "index_generation")],
            )
        return entered

    def _behind(self, limit: int) -> list[_Behind]:
        rows = self._connection.execute(
            "SELECT p.id, p.patient_id, p.sequence, p.hash, coalesce(h.sequence, 0), coalesce(h.objects, 0) "
            f"FROM patients AS p LEFT JOIN {_NEXT}heads AS h ON h.patient = p.id "
            "WHERE p.id > ? AND p.sequence > coalesce(h.sequence, 0) ORDER BY p.id LIMIT ?",
            (self._after, limit),
        ).fetchall()
        return [_Behind(*row) for row in rows]

    def _prepared(self, dossier: _Behind) -> Iterator[_Entered]:
        """The records that the new index lacks, verified."""
        previous: LogRecord | None = None
        for record in records_of(
            self._connection, self._compression, dossier.patient, after=max(dossier.indexed - 1, 0)
        ):
            if record.sequence > dossier.sequence:
                break  # appended since the dossier's head was read
            known = record.sequence == dossier.indexed  # read only because the next one is chained to it
            problem = None if known else record.problem(previous)
            if problem:
                raise StoreDamaged(f"dossier {dossier.patient}: {problem}")
            previous = record
            if not known:
                yield self._read(record, dossier)
        if previous is None or previous.sequence != dossier.sequence:
            there = previous.sequence if previous else 0
            raise StoreDamaged(
                f"dossier {dossier.patient}: {dossier.sequence} records were committed, {there} are there"
            )
        if previous.hash != dossier.hash:
            raise StoreDamaged(f"dossier {dossier.patient}: record {previous.sequence} is not the one committed last")

    def _read(self, record: LogRecord, dossier: _Behind) -> _Entered:
        try:
            return _Entered(record.time, self._writer.content_of(record))
        except StoreDamaged as error:
            raise StoreDamaged(f"dossier {dossier.patient}, record {record.sequence}: {error}") from error

    def _enter(self, dossier: _Behind, prepared: list[_Entered]) -> None:
        objects = dossier.objects
        try:
            for entered in prepared:
                objects = self._writer.enter(entered.content, dossier.patient, entered.time, after=objects)
        except StoreDamaged as error:
            raise StoreDamaged(f"dossier {dossier.patient}: {error}") from error
        self._connection.execute(
            f"REPLACE INTO {_NEXT}heads (patient, sequence, objects) VALUES (?, ?, ?)",
            (dossier.patient, dossier.sequence, objects),
        )

    def _exists(self, table: str) -> bool:
        found = self._connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,))
        return found.fetchone() is not None

    def _drop(self, prefix: str) -> None:
        for table in (*INDEX_TABLES, "heads"):
            with self._writer.in_turn():
                self._connection.execute(f"DROP TABLE IF EXISTS {prefix}{table}")
