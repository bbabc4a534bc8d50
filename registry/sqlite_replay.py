"""Records that another store committed, entered in the embedded one as they are: log and index in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from registry.change_body import decoded as decoded_body
from registry.dossier_log import LogRecord
from registry.fhir_resources import FhirResources
from registry.metadata_store import Revision, StoreDamaged
from registry.rendering_compression import RenderingCompression
from registry.sqlite_database import Database, transaction
from registry.sqlite_index import (
    IndexedObject,
    IndexTables,
    decoded,
    first_id,
    indexed_objects,
    last_id,
    numbered,
    placed,
)
from registry.sqlite_log import Appended, Head, append, head_of, move_heads, next_patient
from xds.actors import ObjectCodec


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A record with all done that needs no turn."""

    record: LogRecord
    compressed_body: bytes | None
    objects: tuple[IndexedObject, ...] = ()
    revisions: tuple[Revision, ...] = ()


class Replaying:
    """Enters records beside the writer, in turn with it. Used by one thread at a time."""

    def __init__(
        self,
        database: Database,
        codec: ObjectCodec,
        compression: RenderingCompression,
        fhir: FhirResources,
        *,
        busy_seconds: float,
    ) -> None:
        self._codec = codec
        self._compression = compression
        self._fhir = fhir
        self._busy_seconds = busy_seconds
        self._connection = database.writer()
        self._connection.execute("PRAGMA wal_autocheckpoint = 1000")
        self._turn = database.write_turn()
        self._index = IndexTables(self._connection, codec, compression, fhir)

    def enter(self, records: Sequence[LogRecord]) -> None:
        """All of them, or none.

        Raises StoreDamaged, StoreBusy, StoreFull.
        """
        prepared = [self._prepared(record) for record in records if not self._is_there(record)]
        if not prepared:
            return
        with self._turn.taken(self._busy_seconds), transaction(self._connection):
            for each in prepared:
                if not self._is_there(each.record):  # somebody else may copy the same
                    self._enter(each)

    def close(self) -> None:
        self._connection.close()
        self._turn.close()

    def _is_there(self, record: LogRecord) -> bool:
        head = head_of(self._connection, record.patient_id)
        if head is None or head.sequence < record.sequence:
            return False
        row = self._connection.execute(
            "SELECT hash FROM changes WHERE id = ?", (numbered(head.patient, record.sequence),)
        ).fetchone()
        if row is None or bytes(row[0]) != record.hash:
            raise StoreDamaged(f"record {record.sequence} of a dossier is another one here; {_named(record)}")
        return True

    def _prepared(self, record: LogRecord) -> _Prepared:
        if record.body is None:
            return _Prepared(record, None)
        try:
            body = decoded_body(record.body)
            rendered = [(decoded(rendering, self._codec), rendering) for rendering in body.renderings]
            objects = indexed_objects(rendered, record.patient_id, record.time, self._compression, self._fhir)
        except StoreDamaged as error:
            raise StoreDamaged(f"{error}; {_named(record)}") from error
        return _Prepared(record, self._compression.compress_body(record.body), objects, body.revisions)

    def _enter(self, prepared: _Prepared) -> None:
        record = prepared.record
        head = head_of(self._connection, record.patient_id) or Head(next_patient(self._connection))
        problem = record.problem_after(head.sequence, head.hash)
        if problem:
            raise StoreDamaged(f"{problem}; {_named(record)}")
        objects = placed(prepared.objects, head.patient, head.objects + 1)
        try:
            self._index.take_identifiers(objects)
        except sqlite3.IntegrityError:
            raise StoreDamaged(f"an identifier is held by another record already; {_named(record)}") from None
        if self._index.has_other_bytes(prepared.objects):
            raise StoreDamaged(f"a uniqueId is that of a document with another hash here; {_named(record)}")
        append(self._connection, [Appended(head.patient, record, prepared.compressed_body)])
        self._index.insert(objects)
        for revision in prepared.revisions:
            if not self._index.revise(revision, head.patient, record.time) and not self._has_blanks(head.patient):
                raise StoreDamaged(f"{revision.entry_uuid} is revised, but was never registered; {_named(record)}")
        moved = Head(head.patient, record.sequence, record.hash, head.objects + len(objects))
        move_heads(self._connection, {record.patient_id: moved})

    def _has_blanks(self, patient: int) -> bool:
        """Whether metadata was removed from the dossier, so that a revision may be of an object that is gone."""
        return (
            self._connection.execute(
                "SELECT 1 FROM changes WHERE id > ? AND id <= ? AND body IS NULL LIMIT 1",
                (first_id(patient), last_id(patient)),
            ).fetchone()
            is not None
        )


def _named(record: LogRecord) -> str:
    return f"record {record.sequence}, change {record.change_id}"
