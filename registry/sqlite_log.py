"""Reading the log of the embedded metadata store, page by page, so that no reader keeps the database from moving on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from registry.dossier_log import LogRecord
from registry.metadata_store import StoreDamaged
from registry.rendering_compression import RenderingCompression
from registry.sqlite_index import LAST_NUMBER, NUMBER_BITS, first_id, last_id

_PAGE_RECORDS = 100
_LAST_OF_ALL = (1 << 63) - 1


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
                patient_id, sequence, change_id, time, None if body is None else _restored(body, compression), *hashes
            )
        if len(page) < _PAGE_RECORDS:
            return
        after = page[-1][0]


def _restored(body: bytes, compression: RenderingCompression) -> bytes:
    """The body; where it can not be restored, what is there instead: its hash tells, and the others can be read."""
    try:
        return compression.restore(body)
    except StoreDamaged:
        return body
