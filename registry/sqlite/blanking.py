"""Removal of metadata from the log of the embedded metadata store: the objects go, the records and their chain stay.

registry/change_body.py says what is left in an object's place. What becomes free in the file is overwritten while this
is done; older copies of it are in the write-ahead log until SQLite begins that again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from registry.change_body import blanked, renders_one_of
from registry.rendering_compression import RenderingCompression
from registry.sqlite.index import first_id, last_id
from xds.actors import ObjectCodec


class Blanking:
    """Blanks objects in records, within a transaction that the caller has begun."""

    def __init__(self, connection: sqlite3.Connection, codec: ObjectCodec, compression: RenderingCompression) -> None:
        self._connection = connection
        self._codec = codec
        self._compression = compression

    def blank(self, patient: int, entry_uuids: frozenset[str]) -> None:
        """Leave nothing of these objects in the log of a dossier."""
        is_removed = renders_one_of(entry_uuids, self._codec)
        between = (first_id(patient), last_id(patient))
        for (row_id,) in self._connection.execute(
            "SELECT id FROM changes WHERE id > ? AND id <= ? AND body IS NOT NULL", between
        ).fetchall():
            (body,) = self._connection.execute("SELECT body FROM changes WHERE id = ?", (row_id,)).fetchone()
            left = blanked(self._compression.restore(body), is_removed)
            if left is not None:
                self._connection.execute(
                    "UPDATE changes SET body = ? WHERE id = ?", (self._compression.compress_body(left), row_id)
                )


def has_blanks(connection: sqlite3.Connection, compression: RenderingCompression, patient: int) -> bool:
    """Whether metadata was removed from a dossier, so that a revision may be of an object that is gone."""
    bodies = connection.execute(
        "SELECT body FROM changes WHERE id > ? AND id <= ?", (first_id(patient), last_id(patient))
    )
    return any(body is None or b'"sha256":' in compression.restore(body) for (body,) in bodies)


@contextmanager
def overwriting(connection: sqlite3.Connection, removing: bool) -> Iterator[None]:
    """Have SQLite overwrite what is deleted, where something is removed. Entered outside of transactions."""
    if not removing:
        yield
        return
    connection.execute("PRAGMA secure_delete = ON")
    try:
        yield
    finally:
        connection.execute("PRAGMA secure_delete = OFF")
