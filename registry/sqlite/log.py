"""The log of the embedded metadata store: appended to, and read.

It is read page by page, so that no reader keeps the database from moving on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from registry.dossier_log import FIRST_PREVIOUS_HASH, LogRecord
from registry.metadata_store import Extent, StoreDamaged
from registry.rendering_compression import RenderingCompression
from registry.sqlite.index import LAST_NUMBER, NUMBER_BITS, first_id, last_id, numbered
from registry.sqlite.rows import insert_rows

_PAGE_RECORDS = 100
_LAST_OF_ALL = (1 << 63) - 1


class Head(NamedTuple):
    """Where a dossier's log ends.

    patient    its number
    sequence   of the last record; 0 where there is none
    hash       of the last record
    objects    how many object numbers are given out
    """

    patient: int
    sequence: int = 0
    hash: bytes = FIRST_PREVIOUS_HASH
    objects: int = 0


def head_of(connection: sqlite3.Connection, patient_id: str) -> Head | None:
    """The head of a dossier that exists."""
    row = connection.execute(
        "SELECT id, sequence, hash, objects FROM patients WHERE patient_id = ?", (patient_id,)
    ).fetchone()
    return Head(*row) if row else None


class Appended(NamedTuple):
    """A record to be written."""

    patient: int
    record: LogRecord
    compressed_body: bytes | None


def append(connection: sqlite3.Connection, appended: Iterable[Appended]) -> None:
    """Write records; the heads of their dossiers have to be moved too."""
    rows = [
        (
            numbered(patient, record.sequence),
            record.change_id,
            record.time,
            compressed_body,
            record.body_hash,
            record.previous_hash,
            record.hash,
        )
        for patient, record, compressed_body in appended
    ]
    columns = "id, change_id, time, body, body_hash, previous_hash, hash"
    insert_rows(connection, f"INSERT INTO changes ({columns})", rows)


def next_patient(connection: sqlite3.Connection) -> int:
    """The number of the next dossier that is begun. Asked by who writes: nobody else begins one meanwhile."""
    return int(connection.execute("SELECT coalesce(max(id), 0) + 1 FROM patients").fetchone()[0])


def move_heads(connection: sqlite3.Connection, heads: Mapping[str, Head]) -> None:
    """Write down where these logs end now, by patient id; those of new dossiers too."""
    rows = [(head.patient, patient_id, head.sequence, head.hash, head.objects) for patient_id, head in heads.items()]
    insert_rows(
        connection,
        "INSERT INTO patients (id, patient_id, sequence, hash, objects)",
        rows,
        "ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash, objects = excluded.objects",
    )


def extent(connection: sqlite3.Connection) -> Extent:
    """How many records there are, and objects, the removed ones included: as the heads tell, one for each dossier."""
    return Extent(
        *connection.execute("SELECT coalesce(sum(sequence), 0), coalesce(sum(objects), 0) FROM patients").fetchone()
    )


def all_records(connection: sqlite3.Connection, compression: RenderingCompression) -> Iterator[LogRecord]:
    """The log, dossier by dossier in the order in which they were begun.

    Raises StoreDamaged.
    """
    yield from _records(connection, compression, 0, _LAST_OF_ALL)


def records_of(
    connection: sqlite3.Connection, compression: RenderingCompression, patient: int, after: int = 0
) -> Iterator[LogRecord]:
    """The log of one dossier, from the record after number `after`.

    Raises StoreDamaged.
    """
    yield from _records(connection, compression, first_id(patient) + after, last_id(patient))


def _records(
    connection: sqlite3.Connection, compression: RenderingCompression, after: int, until: int
) -> Iterator[LogRecord]:
    while True:
        page = connection.execute(
            "SELECT c.id, p.patient_id, c.change_id, c.time, c.body, c.body_hash, c.previous_hash, c.hash "
            "FROM changes AS c LEFT JOIN patients AS p ON p.id = c.id >> ? "
            "WHERE c.id > ? AND c.id <= ? ORDER BY c.id LIMIT ?",
            (NUMBER_BITS, after, until, _PAGE_RECORDS),
        ).fetchall()
        for row_id, patient_id, change_id, time, body, *hashes in page:
            sequence = row_id & LAST_NUMBER
            if patient_id is None:
                raise StoreDamaged(f"the log has a record of dossier {row_id >> NUMBER_BITS}, which does not exist")
            yield LogRecord(
                patient_id,
                sequence,
                change_id,
                time,
                None if body is None else compression.restored_or_as_is(body),
                *hashes,
            )
        if len(page) < _PAGE_RECORDS:
            return
        after = page[-1][0]
