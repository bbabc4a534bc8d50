"""The index tables of the embedded metadata store: how an object becomes a row, and rows are written and read again.

The tables are declared in schemas/sql/registry_index.sql.
"""

# ruff: noqa: S608 - statements are put together from names of our own; values are parameters

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

from registry.change_body import object_of, revised
from registry.fhir_resources import FhirResources, submitted
from registry.metadata_store import (
    IdentityChange,
    IndexRow,
    PatientIdentity,
    Removal,
    Revision,
    StoreFull,
    VersionName,
)
from registry.rendering_compression import RenderingCompression
from registry.search_columns import REGISTRATION_COLUMNS, SEARCH_COLUMNS, Column, Shape, registration_columns
from registry.sqlite.rows import Row, insert_rows
from xds.actors import ObjectCodec, Registration
from xds.metadata import AnyObject, Association, DocumentEntry, Folder, ObjectKind, SubmissionSet
from xds.paged_search import OUTDATED

TABLES = {
    ObjectKind.DOCUMENT_ENTRY: "document_entries",
    ObjectKind.SUBMISSION_SET: "submission_sets",
    ObjectKind.FOLDER: "folders",
    ObjectKind.ASSOCIATION: "associations",
}

NUMBER_BITS = 24
LAST_NUMBER = (1 << NUMBER_BITS) - 1

_PAGE_ROWS = 200
_FIRST_VERSION = "1"


def first_id(patient: int) -> int:
    """The id before the first one of a dossier's objects or records: numbers count from 1."""
    return patient << NUMBER_BITS


def last_id(patient: int) -> int:
    """The highest id that one of a dossier's objects or records can have."""
    return patient << NUMBER_BITS | LAST_NUMBER


def numbered(patient: int, number: int) -> int:
    """The id of the object or record `number` of a dossier.

    Raises StoreFull.
    """
    if number > LAST_NUMBER:
        raise StoreFull(f"a dossier can have {LAST_NUMBER} objects and as many changes, and this one has them")
    return patient << NUMBER_BITS | number


def as_lines(values: Iterable[str]) -> str:
    """A column's several values: a JSON array with every element on a line of its own."""
    return f"[{','.join(map(as_line, values))}]"


def as_line(value: str) -> str:
    """What as_lines() holds where, and only where, one of the values is `value`: JSON strings hold no line breaks."""
    return f"\n{orjson.dumps(value).decode()}\n"


NO_LINES: Final = as_lines(())
"""A column of several values of which an object has none."""


@dataclass(frozen=True, slots=True)
class IndexedObject:
    """An object, ready to be written to the index.

    identifiers   the names that it takes for itself alone
    row           all columns but the ids
    resource      the columns of its FHIR resource but the id; None: it has none
    """

    kind: ObjectKind
    identifiers: tuple[str, ...]
    row: Row
    unique_id: str | None = None
    hash: str | None = None
    resource: Row | None = None
    patient_key: str | None = None

    @classmethod
    def of(
        cls, item: AnyObject, compressed: bytes, registration: Registration, resource: bytes | None
    ) -> IndexedObject:
        """`item`, whose compressed rendering and FHIR resource are given."""
        row = _row(item, compressed, registration)
        key = registration.patient_key if resource is not None else None
        shown = None if resource is None else _resource_row(item, resource)
        match item:
            case SubmissionSet() | Folder():
                # The versions of a Folder have one uniqueId: the first one takes it.
                names = (item.entry_uuid, item.unique_id) if is_first_version(item) else (item.entry_uuid,)
                identifiers = tuple(name for name in names if name)
                return cls(item.kind, identifiers, row, resource=shown, patient_key=key)
            case DocumentEntry() if is_first_version(item):
                digest = folded_hash(item)
                return cls(item.kind, (item.entry_uuid,), row, item.unique_id, digest, shown, key)
            case DocumentEntry():  # an update may correct the hash
                return cls(item.kind, (item.entry_uuid,), row, resource=shown, patient_key=key)
            case Association():
                return cls(item.kind, (item.entry_uuid,), row)


def indexed_objects(
    objects: Sequence[tuple[AnyObject, bytes]],
    patient_id: str,
    time: str,
    compression: RenderingCompression,
    fhir: FhirResources,
) -> tuple[IndexedObject, ...]:
    """All objects that one change of this time brings, each with its rendering, ready to be written."""
    registration = fhir.registration(patient_id, time, submitted([item for item, _ in objects]))
    indexed = []
    for item, rendering in objects:
        resource = fhir.of(item, registration)
        compressed = None if resource is None else compression.compress(resource)
        indexed.append(IndexedObject.of(item, compression.compress(rendering), registration, compressed))
    return tuple(indexed)


def is_first_version(item: AnyObject) -> bool:
    """Whether there is no version of the object before this one."""
    return item.logical_id in (None, item.entry_uuid)


def folded_hash(entry: DocumentEntry) -> str | None:
    """The hash as it is compared."""
    return entry.hash.lower() if entry.hash else None


class PlacedObject(NamedTuple):
    """An object and the id that its row gets."""

    row_id: int
    item: IndexedObject


def placed(objects: Iterable[IndexedObject], patient: int, first_number: int) -> list[PlacedObject]:
    """The objects, numbered from `first_number` within the dossier.

    Raises StoreFull.
    """
    return [PlacedObject(numbered(patient, number), item) for number, item in enumerate(objects, first_number)]


_IS_NAMED = "SELECT 1 FROM patient_identities WHERE patient_id = ?"
_SAID_OF_PATIENT = "SELECT patient_id, merged_into FROM patient_identities WHERE patient_id = ? OR merged_into = ?"

NAMED_IN_A_MERGE = (
    "SELECT 1 FROM patient_identities WHERE patient_id {0} AND merged_into IS NOT NULL "
    "UNION ALL SELECT 1 FROM patient_identities WHERE merged_into {0}"
)
"""Selects something where a patient was merged into another, or another into it. {0}: how it is told, twice."""


class IndexTables:
    """Writes to the index, or with a `prefix` to one that is going to take its place."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        codec: ObjectCodec,
        compression: RenderingCompression,
        fhir: FhirResources,
        prefix: str = "",
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._compression = compression
        self._fhir = fhir
        self._resources = f"INTO {prefix}fhir_resources (id, entry_uuid, logical_id, version, resource)"
        self._patient_keys = f"INSERT INTO {prefix}patient_keys (patient_key, patient)"
        self._identifiers = f"{prefix}identifiers"
        self._identities = f"{prefix}patient_identities"
        self._removed = f"{prefix}removed_documents"
        self._resource_table = f"{prefix}fhir_resources"
        self._tables = {kind: f"{prefix}{table}" for kind, table in TABLES.items()}
        self._inserts = {kind: _written("INSERT", kind, table) for kind, table in self._tables.items()}
        self._replacements = {kind: _written("REPLACE", kind, table) for kind, table in self._tables.items()}

    def take_identifiers(self, objects: Iterable[PlacedObject]) -> None:
        """Write down who holds the objects' identifiers.

        Raises sqlite3.IntegrityError where one of them is held already.
        """
        held = [(name, item.kind.value, row_id) for row_id, item in objects for name in item.identifiers]
        insert_rows(self._connection, f"INSERT INTO {self._identifiers} (identifier, kind, object)", held)

    def take_versions(self, versions: Iterable[VersionName]) -> None:
        """Write down which versions there are, or were until they were removed. They name no row."""
        held = [(version.text, version.kind.value, 0) for version in versions]
        insert_rows(self._connection, f"INSERT INTO {self._identifiers} (identifier, kind, object)", held)

    def has_other_bytes(self, objects: Iterable[IndexedObject]) -> bool:
        """Whether a uniqueId of the objects is registered with another hash.

        It means the same document everywhere, whoever registers it (ITI TF-3: 4.2.3.2.26).
        """
        entries = self._tables[ObjectKind.DOCUMENT_ENTRY]
        return any(
            self._connection.execute(
                f"SELECT 1 FROM {entries} WHERE unique_id = ?1 AND hash <> ?2 UNION ALL "
                f"SELECT 1 FROM {self._removed} WHERE unique_id = ?1 AND hash <> ?2 LIMIT 1",
                (item.unique_id, item.hash),
            ).fetchone()
            for item in objects
            if item.unique_id is not None and item.hash is not None
        )

    def insert(self, objects: Sequence[PlacedObject]) -> None:
        """Write the objects' rows."""
        for kind, into in self._inserts.items():
            rows = [_with_ids(kind, row_id, item.row) for row_id, item in objects if item.kind is kind]
            insert_rows(self._connection, into, rows)
        resources = [(row_id, *item.resource) for row_id, item in objects if item.resource is not None]
        insert_rows(self._connection, f"INSERT {self._resources}", resources)
        keys = {item.patient_key: row_id >> NUMBER_BITS for row_id, item in objects if item.patient_key}
        insert_rows(self._connection, self._patient_keys, list(keys.items()), "ON CONFLICT DO NOTHING")

    def identify(self, patient_id: str, identity: IdentityChange, patient: int) -> None:
        """Write down what a feed says of a patient. A merge stays, whatever is said later."""
        if self._fhir.are_kept:
            keys = [(self._fhir.patient_key(patient_id), patient)]
            insert_rows(self._connection, self._patient_keys, keys, "ON CONFLICT DO NOTHING")
        self._connection.execute(
            f"INSERT INTO {self._identities} (patient_id, merged_into) VALUES (?, ?) "
            "ON CONFLICT (patient_id) DO UPDATE SET merged_into = coalesce(merged_into, excluded.merged_into)",
            (patient_id, identity.merged_into),
        )

    def revise(self, revision: Revision, patient: int, time: str) -> bool:
        """Write one object's row again as the revision leaves it. False where the dossier has no such object.

        time   of the change that revises it

        Raises StoreDamaged.
        """
        holder = self._connection.execute(
            f"SELECT kind, object FROM {self._identifiers} WHERE identifier = ?",
            (revision.entry_uuid,),
        ).fetchone()
        if holder is None or holder[1] >> NUMBER_BITS != patient:
            return False
        kind, row_id = ObjectKind(holder[0]), holder[1]
        beside = [name if name in REGISTRATION_COLUMNS[kind] else "NULL" for name in ("submitted", OUTDATED)]
        stored = self._connection.execute(
            f"SELECT ebrim, {', '.join(beside)} FROM {self._tables[kind]} WHERE id = ?",
            (row_id,),
        ).fetchone()
        if stored is None:
            return False  # it was removed
        item = revised(read(stored[0], self._codec, self._compression), revision)
        owner = item.patient_id.text if not isinstance(item, Association) and item.patient_id else ""
        outdated = stored[2] is not None if revision.outdated is None else revision.outdated
        registration = self._fhir.registration(owner, time, stored[1], outdated=outdated)
        row = _row(item, self._compression.compress(self._codec.written(item)), registration)
        insert_rows(self._connection, self._replacements[kind], [_with_ids(kind, row_id, row)])
        resource = self._fhir.of(item, registration)
        if resource is not None:
            compressed = self._compression.compress(resource)
            shown = _resource_row(item, compressed)
            insert_rows(self._connection, f"REPLACE {self._resources}", [(row_id, *shown)])
        return True

    def remove(self, removal: Removal, patient: int) -> None:
        """Delete one object's row, where it is there, and write down what nobody may have after it."""
        kind = ObjectKind(removal.kind)
        holder = self._connection.execute(
            f"SELECT object FROM {self._identifiers} WHERE identifier = ?", (removal.entry_uuid,)
        ).fetchone()
        if holder is not None:
            self._connection.execute(f"DELETE FROM {self._tables[kind]} WHERE id = ?", holder)
            self._connection.execute(f"DELETE FROM {self._resource_table} WHERE id = ?", holder)
        if kind is ObjectKind.DOCUMENT_ENTRY and removal.unique_id:
            self._connection.execute(
                f"REPLACE INTO {self._removed} (unique_id, entry_uuid, hash, size) VALUES (?, ?, ?, ?)",
                (removal.unique_id, removal.entry_uuid, removal.hash, removal.size),
            )
        package = kind in (ObjectKind.SUBMISSION_SET, ObjectKind.FOLDER)
        for name in (removal.entry_uuid, removal.unique_id if package else None):
            if name:  # in the log there is nothing left of it by which it would be taken
                held = f"INSERT INTO {self._identifiers} (identifier, kind, object) VALUES (?, ?, ?)"
                self._connection.execute(f"{held} ON CONFLICT DO NOTHING", (name, removal.kind, first_id(patient)))


def read(compressed: bytes, codec: ObjectCodec, compression: RenderingCompression) -> AnyObject:
    """The object that a stored rendering stands for.

    Raises StoreDamaged.
    """
    return object_of(compression.restore(compressed), codec)


def identities(connection: sqlite3.Connection, patient_ids: Iterable[str]) -> dict[str, PatientIdentity]:
    """What feeds said of these patients; of each by one statement, which is of one moment."""
    found: dict[str, PatientIdentity] = {}
    for patient_id in set(patient_ids):
        if connection.execute(_IS_NAMED, (patient_id,)).fetchone() is None:
            continue  # of most patients nothing was ever said
        said = dict(connection.execute(_SAID_OF_PATIENT, (patient_id, patient_id)).fetchall())
        into = said.pop(patient_id, None)
        found[patient_id] = PatientIdentity(into, tuple(sorted(said)))
    return found


def rows(
    connection: sqlite3.Connection, patient: int, patient_id: str, compression: RenderingCompression
) -> Iterator[IndexRow]:
    """Every row of a dossier, kind by kind. No statement stays open between two rows."""
    for kind, table in TABLES.items():
        names = ", ".join(_search_names(kind))
        after = first_id(patient)
        while True:
            page = connection.execute(
                f"SELECT id, ebrim, {names} FROM {table} WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
                (after, last_id(patient), _PAGE_ROWS),
            ).fetchall()
            for _, compressed, *values in page:
                columns = _columns(kind, values)
                entry_uuid = str(columns["entry_uuid"])
                yield IndexRow(kind, entry_uuid, patient_id, columns, compression.restored_or_as_is(compressed))
            if len(page) < _PAGE_ROWS:
                break
            after = page[-1][0]


def _search_names(kind: ObjectKind) -> list[str]:
    """The SQL columns of a kind's search columns."""
    names: list[str] = []
    for column in SEARCH_COLUMNS[kind]:
        names += [f"{column.name}_first", f"{column.name}_last"] if column.shape is Shape.TIME else [column.name]
    return names


def _written(verb: str, kind: ObjectKind, table: str) -> str:
    """The beginning of the statement that writes rows."""
    ids = ["id", "patient"] if kind is ObjectKind.ASSOCIATION else ["id"]
    measured = ["hash", "size"] if kind is ObjectKind.DOCUMENT_ENTRY else []
    names = [*ids, *_search_names(kind), *REGISTRATION_COLUMNS[kind], *measured, "home_community_id", "ebrim"]
    return f"{verb} INTO {table} ({', '.join(names)})"


def _with_ids(kind: ObjectKind, row_id: int, row: Row) -> Row:
    return (row_id, row_id >> NUMBER_BITS, *row) if kind is ObjectKind.ASSOCIATION else (row_id, *row)


def _row(item: AnyObject, compressed: bytes, registration: Registration) -> Row:
    values: list[str | None] = []
    for value_of, stored in _STORED[item.kind]:
        values += stored(value_of(item))
    values += registration_columns(item.kind, registration).values()
    if isinstance(item, DocumentEntry):
        values += (folded_hash(item), item.size)
    return (*values, item.home_community_id, compressed)


def _resource_row(item: AnyObject, compressed: bytes) -> Row:
    """Most objects have one version, of which there is no more to be read than that."""
    if is_first_version(item) and item.version in (None, _FIRST_VERSION):
        return (item.entry_uuid, None, None, compressed)
    return (item.entry_uuid, item.logical_id, item.version, compressed)


def _one(value: Column) -> tuple[str | None, ...]:
    return (value,) if value is None or isinstance(value, str) else (str(value),)


def _time(value: Column) -> tuple[str | None, ...]:
    return tuple(value) if value else (None, None)


def _several(value: Column) -> tuple[str | None, ...]:
    return (as_lines(value or ()),)


_STORERS = {Shape.ONE: _one, Shape.TIME: _time, Shape.SEVERAL: _several, Shape.TEXTS: _several}
_STORED = {
    kind: tuple((column.value, _STORERS[column.shape]) for column in columns)
    for kind, columns in SEARCH_COLUMNS.items()
}


def _columns(kind: ObjectKind, stored: Sequence[str | None]) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    values = iter(stored)
    for column in SEARCH_COLUMNS[kind]:
        value = next(values)
        match column.shape:
            case Shape.ONE:
                columns[column.name] = value
            case Shape.TIME:
                last = next(values)
                columns[column.name] = None if value is None or last is None else (value, last)
            case Shape.SEVERAL | Shape.TEXTS:
                columns[column.name] = tuple(orjson.loads(value or "[]"))
    return columns
