"""Writing records to the embedded store's tables beside its writer: what replaying a log and reindexing do alike."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from registry.change_body import decoded as decoded_body
from registry.change_body import object_of
from registry.dossier_log import LogRecord
from registry.fhir_resources import FhirResources
from registry.metadata_store import IdentityChange, Removal, Revision, StoreDamaged
from registry.rendering_compression import RenderingCompression
from registry.sqlite.blanking import Blanking, has_blanks
from registry.sqlite.database import Database, transaction
from registry.sqlite.index import IndexedObject, IndexTables, indexed_objects, placed
from xds.actors import ObjectCodec


@dataclass(frozen=True, slots=True)
class Content:
    """What a record gives the index, made ready before its turn comes. Of a body that was blanked, nothing.

    identified   the patient, and what a feed says of it
    """

    objects: tuple[IndexedObject, ...] = ()
    revisions: tuple[Revision, ...] = ()
    identified: tuple[str, IdentityChange] | None = None
    removals: tuple[Removal, ...] = ()


class SecondWriter:
    """A connection that writes in turn with the writer. Used by one thread at a time.

    busy_seconds   how long it waits for its turn
    index_prefix   what the names of the index tables begin with that it writes
    """

    def __init__(
        self,
        database: Database,
        codec: ObjectCodec,
        compression: RenderingCompression,
        fhir: FhirResources,
        *,
        busy_seconds: float,
        index_prefix: str = "",
    ) -> None:
        self._codec = codec
        self._compression = compression
        self._fhir = fhir
        self._busy_seconds = busy_seconds
        self.connection = database.writer()
        self.connection.execute("PRAGMA wal_autocheckpoint = 1000")
        self._turn = database.write_turn()
        self.index = IndexTables(self.connection, codec, compression, fhir, index_prefix)
        self._blanking = Blanking(self.connection, codec, compression)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """A transaction, once it is this writer's turn.

        Raises StoreBusy.
        """
        with self._turn.taken(self._busy_seconds), transaction(self.connection):
            yield

    def content_of(self, record: LogRecord) -> Content:
        """Raises StoreDamaged where the body can not be read."""
        if record.body is None:
            return Content()
        body = decoded_body(record.body)
        rendered = [(object_of(rendering, self._codec), rendering) for rendering in body.renderings]
        objects = indexed_objects(rendered, record.patient_id, record.time, self._compression, self._fhir)
        identified = None if body.identity is None else (record.patient_id, body.identity)
        return Content(objects, body.revisions, identified, body.removals)

    def enter(self, content: Content, patient: int, time: str, *, after: int) -> int:
        """Write a record to the index; how many objects the dossier has then.

        after   how many it had
        Raises StoreDamaged where it does not follow from what is there.
        """
        objects = placed(content.objects, patient, after + 1)
        try:
            self.index.take_identifiers(objects)
        except sqlite3.IntegrityError:
            raise StoreDamaged("an identifier is held by another record already") from None
        self.index.insert(objects)
        if content.identified is not None:
            self.index.identify(*content.identified, patient)
        for revision in content.revisions:
            if self.index.revise(revision, patient, time):
                continue
            if not has_blanks(self.connection, self._compression, patient):
                raise StoreDamaged(f"{revision.entry_uuid} is revised, but was never registered")
        for removal in content.removals:
            self.index.remove(removal, patient)
        if content.removals:  # what was copied before it was removed, perhaps
            self._blanking.blank(patient, frozenset(removal.entry_uuid for removal in content.removals))
        return after + len(objects)

    def close(self) -> None:
        self.connection.close()
        self._turn.close()
