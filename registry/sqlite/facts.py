"""The facts that a submission is judged on, as the embedded metadata store reads them.

For an ordinary submission (new ids, no references) these are three look-ups in an index.
"""

# ruff: noqa: S608 - statements are put together from names of our own; values are parameters

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any

from registry.metadata_store import Facts, Fingerprint, Questions
from registry.rendering_compression import RenderingCompression
from registry.sqlite.index import NUMBER_BITS, TABLES, identities, read
from xds.actors import ObjectCodec
from xds.metadata import AnyObject, Association, AssociationType, AvailabilityStatus, ObjectKind

_AT_ONCE = 200
"""How many values one statement looks up."""

_DERIVED = (AssociationType.APND.value, AssociationType.XFRM.value, AssociationType.XFRM_RPLC.value)


class FactFinder:
    """Answers Questions from one connection, within a snapshot that the caller has begun."""

    def __init__(self, connection: sqlite3.Connection, codec: ObjectCodec, compression: RenderingCompression) -> None:
        self._connection = connection
        self._codec = codec
        self._compression = compression

    def known(self, questions: Questions) -> Facts:
        """The facts.

        Raises StoreDamaged.
        """
        relations = self._relations(questions.replaced)
        wanted = questions.references | {relation.source_object for relation in relations}
        objects, owners = self._objects(wanted) if wanted else ({}, {})
        return Facts(
            patient_id=questions.patient_id,
            sequence=self._sequence(questions.patient_id),
            taken=self._taken(questions.identifiers),
            documents=self._documents(questions.document_ids),
            objects=objects,
            owners=owners,
            relations=relations,
            identities=identities(self._connection, questions.identities),
        )

    def _sequence(self, patient_id: str) -> int:
        row = self._connection.execute("SELECT sequence FROM patients WHERE patient_id = ?", (patient_id,)).fetchone()
        return row[0] if row else 0

    def _taken(self, identifiers: frozenset[str]) -> dict[str, ObjectKind]:
        rows = self._look_up("SELECT identifier, kind FROM identifiers WHERE identifier IN", identifiers)
        return {identifier: ObjectKind(kind) for identifier, kind in rows}

    def _documents(self, unique_ids: frozenset[str]) -> dict[str, tuple[Fingerprint, ...]]:
        documents: dict[str, tuple[Fingerprint, ...]] = {}
        for table in ("document_entries", "removed_documents"):
            statement = f"SELECT unique_id, entry_uuid, hash, size FROM {table} WHERE unique_id IN"
            for unique_id, *fingerprint in self._look_up(statement, unique_ids):
                documents[unique_id] = (*documents.get(unique_id, ()), Fingerprint(*fingerprint))
        return documents

    def _objects(self, entry_uuids: Collection[str]) -> tuple[dict[str, AnyObject], dict[str, str]]:
        """Objects and their owners, by entryUUID."""
        objects: dict[str, AnyObject] = {}
        owners: dict[str, str] = {}
        for identifier, kind, row_id in self._look_up(
            "SELECT identifier, kind, object FROM identifiers WHERE identifier IN", entry_uuids
        ):
            row = self._connection.execute(
                f"SELECT o.entry_uuid, o.ebrim, p.patient_id FROM {TABLES[ObjectKind(kind)]} AS o "
                f"JOIN patients AS p ON p.id = o.id >> {NUMBER_BITS} WHERE o.id = ?",
                (row_id,),
            ).fetchone()
            if row and row[0] == identifier:  # and not the uniqueId of a SubmissionSet or Folder
                objects[identifier] = read(row[1], self._codec, self._compression)
                owners[identifier] = row[2]
        return objects, owners

    def _relations(self, replaced: frozenset[str]) -> tuple[Association, ...]:
        """The Approved associations that lead from `replaced` to what hangs on them, and to the Folders that hold them.

        Appendices and transformations of appendices and transformations are followed to the end.
        """
        found: dict[str, Association] = {}
        for association in self._leading_to(replaced, (AssociationType.HAS_MEMBER.value,), only_folders=True):
            found[association.entry_uuid] = association
        seen, frontier = set(replaced), set(replaced)
        while frontier:
            sources: set[str] = set()
            for association in self._leading_to(frontier, _DERIVED, only_folders=False):
                found[association.entry_uuid] = association
                sources.add(association.source_object)
            frontier = sources - seen
            seen |= frontier
        return tuple(found.values())

    def _leading_to(
        self, targets: Collection[str], types: tuple[str, ...], *, only_folders: bool
    ) -> Iterator[Association]:
        from_folder = (
            f"AND EXISTS (SELECT 1 FROM identifiers AS s WHERE s.identifier = o.source_object "
            f"AND s.kind = '{ObjectKind.FOLDER.value}')"
            if only_folders
            else ""
        )
        for target in targets:
            for (ebrim,) in self._connection.execute(
                f"SELECT o.ebrim FROM identifiers AS t CROSS JOIN associations AS o "
                f"ON o.patient = t.object >> {NUMBER_BITS} AND o.target_object = t.identifier "
                f"WHERE t.identifier = ? AND o.association_type IN ({', '.join('?' * len(types))}) "
                f"AND o.availability_status = ? {from_folder} ORDER BY o.id",
                (target, *types, AvailabilityStatus.APPROVED.value),
            ):
                association = read(ebrim, self._codec, self._compression)
                if isinstance(association, Association):
                    yield association

    def _look_up(self, statement: str, values: Iterable[str]) -> Iterator[tuple[Any, ...]]:
        """The rows of `statement`, which ends in IN, for all of `values`."""
        remaining = iter(sorted(values))
        while portion := tuple(islice(remaining, _AT_ONCE)):
            yield from self._connection.execute(f"{statement} ({', '.join('?' * len(portion))})", portion)
