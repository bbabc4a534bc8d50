"""Records that another store committed, entered in the embedded one as they are: log and index in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from registry.dossier_log import LogRecord
from registry.fhir_resources import FhirResources
from registry.metadata_store import StoreDamaged
from registry.rendering_compression import RenderingCompression
from registry.sqlite.database import Database
from registry.sqlite.index import numbered
from registry.sqlite.log import Appended, Head, append, head_of, move_heads, next_patient
from registry.sqlite.second_writer import Content, SecondWriter
from xds.actors import ObjectCodec


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A record with all done that needs no turn."""

    record: LogRecord
    compressed_body: bytes | None
    content: Content


class Replaying:
    """Enters records beside the writer. Used by one thread at a time."""

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
        self._writer = SecondWriter(database, codec, compression, fhir, busy_seconds=busy_seconds)
        self._connection = self._writer.connection

    def enter(self, records: Sequence[LogRecord]) -> None:
        """All of them, or none.

        Raises StoreDamaged, StoreBusy, StoreFull.
        """
        prepared = [self._prepared(record) for record in records if not self._is_there(record)]
        if not prepared:
            return
        with self._writer.in_turn():
            for each in prepared:
                if not self._is_there(each.record):  # somebody else may copy the same
                    self._enter(each)

    def close(self) -> None:
        self._writer.close()

    def _is_there(self, record: LogRecord) -> bool:
        head = head_of(self._connection, record.patient_id)
        if head is None or head.sequence < record.sequence:
            return False
        row = self._connection.execute(
            "SELECT hash FROM changes WHERE id = ?", (numbered(head.patient, record.sequence),)
        ).fetchone()
        if row is None or bytes(row[0]) != record.hash:
            raise StoreDamaged(f"record {record.sequence} of a dossier is another one here; change {record.change_id}")
        return True

    def _prepared(self, record: LogRecord) -> _Prepared:
        with _named(record):
            content = self._writer.content_of(record)
        body = None if record.body is None else self._compression.compress_body(record.body)
        return _Prepared(record, body, content)

    def _enter(self, prepared: _Prepared) -> None:
        record = prepared.record
        head = head_of(self._connection, record.patient_id) or Head(next_patient(self._connection))
        with _named(record):
            if problem := record.problem_after(head.sequence, head.hash):
                raise StoreDamaged(problem)
            if self._writer.index.has_other_bytes(prepared.content.objects):
                raise StoreDamaged("a uniqueId is that of a document with another hash here")
            append(self._connection, [Appended(head.patient, record, prepared.compressed_body)])
            objects = self._writer.enter(prepared.content, head.patient, record.time, after=head.objects)
        moved = Head(head.patient, record.sequence, record.hash, objects)
        move_heads(self._connection, {record.patient_id: moved})


@contextmanager
def _named(record: LogRecord) -> Iterator[None]:
    """Have damage tell which record it is of."""
    try:
        yield
    except StoreDamaged as damage:
        raise StoreDamaged(f"{damage}; record {record.sequence}, change {record.change_id}") from damage
