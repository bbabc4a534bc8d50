"""Group commit in the embedded metadata store: changes that wait are judged and written together, with one fsync.

While a group is written nobody else writes, so what is read of the dossiers, identifiers and documents that it touches
holds until it is committed. On that, each change is found to fit or to have been overtaken; those that fit are written
table by table (registry/sqlite/rows.py). A change that fits and can not be written after all does not take the others
with it: each is then written by itself.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from registry.change_body import encoded
from registry.dossier_log import LogRecord
from registry.fhir_resources import FhirResources
from registry.metadata_store import (
    Facts,
    FactsMoved,
    IdentityChange,
    RegistryChange,
    Removal,
    Revision,
    StoreBusy,
    StoreFull,
    VersionName,
)
from registry.rendering_compression import RenderingCompression
from registry.sqlite.blanking import Blanking, overwriting
from registry.sqlite.database import transaction, translated
from registry.sqlite.index import IndexedObject, IndexTables, PlacedObject, indexed_objects, placed
from registry.sqlite.log import Appended, Head, append, move_heads, next_patient
from registry.sqlite.rows import selected
from xds.actors import ObjectCodec

logger = logging.getLogger(__name__)

Outcome: TypeAlias = LogRecord | Exception
"""What became of a change."""

_HEADS = (
    "SELECT json_group_array(json_array(patient_id, id, sequence, hex(hash), objects)) "
    "FROM patients WHERE patient_id IN (SELECT value FROM json_each(?))"
)
_TAKEN = "SELECT json_group_array(identifier) FROM identifiers WHERE identifier IN (SELECT value FROM json_each(?))"
# The condition stands in both halves: around them it would have all entries read.
_DOCUMENTS = (
    "WITH wanted AS MATERIALIZED (SELECT value FROM json_each(?)) "
    "SELECT json_group_array(json_array(unique_id, hash)) FROM ("
    "SELECT unique_id, hash FROM document_entries WHERE unique_id IN wanted AND hash IS NOT NULL UNION ALL "
    "SELECT unique_id, hash FROM removed_documents WHERE unique_id IN wanted AND hash IS NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class PreparedChange:
    """A change with all done that can be done before it is its turn.

    expected_sequence   of the dossier, as the change was judged; None: whatever it is
    """

    patient_id: str
    change_id: str
    time: str
    expected_sequence: int | None
    body: bytes
    body_hash: bytes
    compressed_body: bytes
    objects: tuple[IndexedObject, ...]
    revisions: tuple[Revision, ...]
    identity: IdentityChange | None
    removals: tuple[Removal, ...]
    versions: tuple[VersionName, ...]
    elsewhere: tuple[PreparedChange, ...]

    @classmethod
    def of(
        cls,
        change: RegistryChange,
        facts: Facts | None,
        codec: ObjectCodec,
        compression: RenderingCompression,
        fhir: FhirResources,
    ) -> PreparedChange:
        """`change`, rendered and compressed.

        facts   that it was judged on; None: it is the part of another change that is in another dossier
        Raises ValueError where it was judged on another dossier, or names two objects alike.
        """
        if facts is not None and change.patient_id != facts.patient_id:
            raise ValueError("the change is of one dossier and the facts are of another")
        renderings = [codec.written(item) for item in change.objects]
        rendered = list(zip(change.objects, renderings, strict=True))
        objects = indexed_objects(rendered, change.patient_id, change.time, compression, fhir)
        identifiers = [identifier for item in objects for identifier in item.identifiers]
        if len(set(identifiers)) < len(identifiers):
            raise ValueError("the change gives one identifier to two objects")
        body, body_hash = encoded(renderings, change.revisions, change.identity, change.removals)
        return cls(
            change.patient_id,
            change.change_id,
            change.time,
            None if facts is None else facts.sequence,
            body,
            body_hash,
            compression.compress_body(body),
            objects,
            change.revisions,
            change.identity,
            change.removals,
            change.versions,
            tuple([cls.of(each, None, codec, compression, fhir) for each in change.elsewhere]),
        )

    @property
    def parts(self) -> tuple[PreparedChange, ...]:
        """Itself and what it is in other dossiers."""
        return (self, *self.elsewhere)


class GroupCommit:
    """Writes groups of changes. Used by one thread, whose turn it is to write."""

    def __init__(
        self, connection: sqlite3.Connection, codec: ObjectCodec, compression: RenderingCompression, fhir: FhirResources
    ) -> None:
        self.connection = connection
        self._index = IndexTables(connection, codec, compression, fhir)
        self._blanking = Blanking(connection, codec, compression)

    def outcomes(self, changes: Sequence[PreparedChange]) -> list[Outcome]:
        """What becomes of each change, in their order. The records among them are durable.

        Raises StoreBusy, StoreFull where nothing at all could be written; where there is one change, whatever is wrong.
        """
        try:
            return self._written(changes)
        except (StoreBusy, StoreFull):
            raise
        except Exception:
            if len(changes) == 1:
                raise
            logger.warning("A group of changes could not be written; each is tried by itself.", exc_info=True)
        return [self._alone(change) for change in changes]

    def _alone(self, change: PreparedChange) -> Outcome:
        try:
            return self._written([change])[0]
        except Exception as error:
            logger.exception("A change could not be written.", extra={"change_id": change.change_id})
            return error

    def _written(self, changes: Sequence[PreparedChange]) -> list[Outcome]:
        removing = any(change.removals for change in changes)
        with translated(), overwriting(self.connection, removing), transaction(self.connection):
            group = _Group(self.connection, changes)
            outcomes = [group.outcome(change) for change in changes]
            group.write(self._index, self._blanking)
            return outcomes


class _Group:
    """The changes of one transaction that fit, and what they were found to fit to."""

    def __init__(self, connection: sqlite3.Connection, changes: Sequence[PreparedChange]) -> None:
        self._connection = connection
        parts = [part for change in changes for part in change.parts]
        items = [item for part in parts for item in part.objects]
        names = [name for item in items for name in item.identifiers]
        names += [version.text for part in parts for version in part.versions]
        documents = {item.unique_id for item in items if item.unique_id}
        self._heads = {
            patient_id: Head(patient, sequence, bytes.fromhex(digest), objects)
            for patient_id, patient, sequence, digest, objects in selected(
                connection, _HEADS, {part.patient_id for part in parts}
            )
        }
        self._taken: set[str] = set(selected(connection, _TAKEN, names))
        self._hashes: dict[str, set[str]] = {}
        for unique_id, digest in selected(connection, _DOCUMENTS, documents):
            self._hashes.setdefault(unique_id, set()).add(digest)
        self._next_patient = next_patient(connection)
        self._moved: dict[str, Head] = {}
        self._placed: list[PlacedObject] = []
        self._versions: list[VersionName] = []
        self._appended: list[Appended] = []
        self._revisions: list[tuple[Revision, int, PreparedChange]] = []
        self._identities: list[tuple[str, IdentityChange, int]] = []
        self._removals: dict[int, list[Removal]] = {}

    def outcome(self, change: PreparedChange) -> Outcome:
        """Take the change with all of its parts, or tell why it does not fit any more."""
        for part in change.parts:
            if overtaken := self._overtaken(part, self._heads.get(part.patient_id)):
                return FactsMoved(overtaken)
        record, *_ = [self._record_of(part) for part in change.parts]
        return record

    def _record_of(self, change: PreparedChange) -> LogRecord:
        head = self._heads.get(change.patient_id)
        if head is None:
            head = Head(self._next_patient)
            self._next_patient += 1
        record = LogRecord.following(
            head.hash,
            patient_id=change.patient_id,
            sequence=head.sequence + 1,
            change_id=change.change_id,
            time=change.time,
            body=change.body,
            body_hash=change.body_hash,
        )
        self._take(change, record, head)
        return record

    def _overtaken(self, change: PreparedChange, head: Head | None) -> str | None:
        if change.expected_sequence not in (None, head.sequence if head else 0):
            return "the dossier has changed"
        if not self._taken.isdisjoint([version.text for version in change.versions]):
            return "another change has brought the same version"
        for item in change.objects:
            if not self._taken.isdisjoint(item.identifiers):
                return "an identifier has been taken"
            # A uniqueId means the same document everywhere, whoever registers it (ITI TF-3: 4.2.3.2.26).
            if item.unique_id and item.hash and self._hashes.get(item.unique_id, set()) - {item.hash}:
                return "a document with this uniqueId and another hash has been registered"
        return None

    def _take(self, change: PreparedChange, record: LogRecord, head: Head) -> None:
        self._appended.append(Appended(head.patient, record, change.compressed_body))
        self._placed += placed(change.objects, head.patient, head.objects + 1)
        self._revisions += [(revision, head.patient, change) for revision in change.revisions]
        if change.identity is not None:
            self._identities.append((change.patient_id, change.identity, head.patient))
        if change.removals:
            self._removals.setdefault(head.patient, []).extend(change.removals)
        self._versions += change.versions
        self._taken.update([version.text for version in change.versions])
        for item in change.objects:
            self._taken.update(item.identifiers)
            if item.unique_id and item.hash:
                self._hashes.setdefault(item.unique_id, set()).add(item.hash)
        moved = Head(head.patient, record.sequence, record.hash, head.objects + len(change.objects))
        self._heads[change.patient_id] = self._moved[change.patient_id] = moved

    def write(self, index: IndexTables, blanking: Blanking) -> None:
        """Write all that was taken."""
        move_heads(self._connection, self._moved)
        append(self._connection, self._appended)
        index.take_identifiers(self._placed)
        index.take_versions(self._versions)
        index.insert(self._placed)
        for identified in self._identities:
            index.identify(*identified)
        for revision, patient, change in self._revisions:
            is_there = index.revise(revision, patient, change.time)
            if not is_there and change.expected_sequence is not None:
                raise ValueError(f"{revision.entry_uuid} is to be revised, but is not in the dossier")
        for patient, removals in self._removals.items():
            for removal in removals:
                index.remove(removal, patient)
            blanking.blank(patient, frozenset(removal.entry_uuid for removal in removals))
