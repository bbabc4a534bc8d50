"""Pages of a search in the embedded metadata store.

The order of a page is that of an index over each dossier (schemas/sql/registry_index.sql), so that a page of a large
dossier reads no more than one of a small dossier, where the search is for what the index covers. The statements are as
many whatever the page has on it. Where nothing of the dossier is kept (registry/kept_dossiers.py) and the index gives
the order, one statement reads the objects of the page. Otherwise it is first read which objects those are; of them,
what is not kept is read and restored.
"""

# ruff: noqa: S608 - statements are put together from names of our own; values are parameters

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from registry.kept_dossiers import KeptDossiers, Moment
from registry.metadata_store import Criteria
from registry.page_links import links_of
from registry.rendering_compression import RenderingCompression
from registry.search_columns import COLUMN_SHAPES, Shape
from registry.sqlite.conditions import Sql, all_met, any_met, members, none_met
from registry.sqlite.index import NUMBER_BITS, TABLES
from registry.sqlite.search import Search, pinned_by, require_unmerged
from xds.metadata import RELATIONSHIPS, AssociationType, AvailabilityStatus, ObjectKind
from xds.paged_search import OUTDATED, Page, PagedObject, PagedSearch, Place

_NUMBER: Final = 1 << NUMBER_BITS

_COVERED: Final = {ObjectKind.DOCUMENT_ENTRY: "creation_time", ObjectKind.SUBMISSION_SET: "submission_time"}
"""What the index is ordered by that tells these as well, so that no rows are read."""
_ALSO_COVERED: Final = {
    ObjectKind.DOCUMENT_ENTRY: frozenset({"availability_status", OUTDATED}),
    ObjectKind.SUBMISSION_SET: frozenset({"availability_status"}),
}
_OF_THE_INDEX: Final = 8
"""Entries of an index that are looked at while one row is read."""
_RESTORED: Final = 2
"""Rows that are looked at while one resource is restored."""


class PagedDossier(NamedTuple):
    """A dossier in question: its number, its patient, how many objects it has at least, and its moment."""

    patient: int
    patient_id: str
    objects: int
    moment: Moment


class ObjectPlace(NamedTuple):
    """The id of an object's row, and the time by which it is ordered."""

    row_id: int
    key: str


ObjectRow: TypeAlias = tuple[int, str, str, str | None, str | None, int, bytes]
"""An object as it is read: its id, the time by which it is ordered, and _COLUMNS."""
_COLUMNS: Final = ", ".join(
    [
        *(f"iif(f.id IS NULL, o.{name}, f.{name})" for name in ("entry_uuid", "logical_id", "version")),
        "f.id IS NOT NULL",
        "iif(f.id IS NULL, o.ebrim, f.resource)",
    ]
)
"""The row of an object that has a resource is not read: the index and the resource say all of it."""


class PageSearch(NamedTuple):
    """A page to read.

    place      which rows are in question
    dossiers   the dossiers in question; None: all of them
    covered    whether the index alone says which objects are found
    """

    search: PagedSearch
    condition: Sql
    place: Sql
    dossiers: tuple[PagedDossier, ...] | None
    covered: bool

    @classmethod
    def of(cls, search: PagedSearch, dossiers: tuple[PagedDossier, ...] | None) -> PageSearch:
        """dossiers: see dossiers_in_question(). Raises ValueError, see MetadataStore.page()."""
        criteria = Criteria.of(search)
        if COLUMN_SHAPES[search.kind].get(search.ordered_by) not in (Shape.TIME, Shape.MOMENT):
            raise ValueError(f"{search.ordered_by} is not a column that pages can be ordered by")
        condition = _all(
            all_met(search.kind, criteria.matches),
            *(any_met(search.kind, each.alternatives) for each in criteria.either),
            *(none_met(search.kind, each.alternatives) for each in criteria.neither),
        )
        covered = (
            search.ordered_by == _COVERED.get(search.kind)
            and not criteria.either
            and not criteria.neither
            and all(match.attribute in _ALSO_COVERED[search.kind] for match in criteria.matches)
        )
        pinned = pinned_by(criteria)
        if dossiers is None:
            return cls(search, condition, pinned or Sql("1"), None, covered)
        place = members_of(dossiers)
        if pinned:
            place = Sql(f"{place.text} AND {pinned.text}", (*place.values, *pinned.values))
        return cls(search, condition, place, dossiers, covered)

    def most_rows(self, kept: KeptDossiers) -> int | None:
        """As much work as reading so many rows, at most; None where nobody knows."""
        if self.dossiers is None:
            return None
        objects = sum([dossier.objects for dossier in self.dossiers])
        shown = min(self.search.limit, objects) * _RESTORED
        if not self.covered:
            return objects + shown
        counted = 0 if self.search.after or self._kept_total(kept) is not None else objects // _OF_THE_INDEX
        return counted + shown

    def read(
        self, connection: sqlite3.Connection, compression: RenderingCompression, kept: KeptDossiers, *, unmerged: bool
    ) -> Page:
        """The page. All its statements have to be of one moment. With `unmerged` it may raise PatientsMerged."""
        search = self.search
        if unmerged:
            require_unmerged(search.patient_ids, connection)
        page = self._read_now(connection, compression, kept, unmerged=unmerged)
        if self.dossiers is not None and len(self.dossiers) == 1:
            kept.keep_page(self.dossiers[0].moment, search, page)
        return page

    def _read_now(
        self, connection: sqlite3.Connection, compression: RenderingCompression, kept: KeptDossiers, *, unmerged: bool
    ) -> Page:
        search = self.search
        total = None if search.after else self._total(connection, kept)
        objects, more = self._objects(connection, compression, kept) if search.limit and total != 0 else ((), False)
        if unmerged and not search.patient_ids:
            require_unmerged({each.patient_id for each in objects}, connection)
        return Page(objects, more, total, search.as_of or self._moment())

    def _objects(
        self, connection: sqlite3.Connection, compression: RenderingCompression, kept: KeptDossiers
    ) -> tuple[tuple[PagedObject, ...], bool]:
        """The objects of the page, and whether there are more after them."""
        limit = self.search.limit
        objects = _Objects(self.search.kind, connection, compression, kept)
        dossier = self._dossier_in_order
        if dossier is not None and not kept.are_there(dossier.moment):
            rows = self._rows(connection)
            return objects.of(rows[:limit], dossier), len(rows) > limit
        places = self._places(connection)
        return objects.at(places[:limit], self.dossiers), len(places) > limit

    @property
    def _dossier_in_order(self) -> PagedDossier | None:
        """The one whose objects an index gives one after the other, so that none is read that is not shown."""
        ordered = self.search.ordered_by == _COVERED.get(self.search.kind)
        return self.dossiers[0] if ordered and self.dossiers is not None and len(self.dossiers) == 1 else None

    def _rows(self, connection: sqlite3.Connection) -> list[ObjectRow]:
        """The objects of the page, and one more, read at once."""
        where, values = self._found()
        return connection.execute(_rows_statement(self.search, where), values).fetchall()

    def _total(self, connection: sqlite3.Connection, kept: KeptDossiers) -> int:
        total = self._kept_total(kept)
        if total is None:
            total = self._count(connection)
            if self.dossiers is not None and len(self.dossiers) == 1:
                kept.keep_total(self.dossiers[0].moment, self._question, total)
        return total

    def _kept_total(self, kept: KeptDossiers) -> int | None:
        if self.dossiers is None or len(self.dossiers) != 1:
            return None
        return kept.total(self.dossiers[0].moment, self._question)

    @property
    def _question(self) -> Hashable:
        return self.search.kind, self.search.conditions

    def _count(self, connection: sqlite3.Connection) -> int:
        where = _all(self.place, self.condition)
        text = f"SELECT count(*) FROM {TABLES[self.search.kind]} AS o WHERE {where.text}"
        return int(connection.execute(text, where.values).fetchone()[0])

    def _places(self, connection: sqlite3.Connection) -> list[ObjectPlace]:
        """Where the objects of the page are, and that of one more."""
        where, values = self._found()
        return list(map(ObjectPlace._make, connection.execute(_places_statement(self.search, where), values)))

    def _found(self) -> Sql:
        """The condition of what is on the page, or comes after it; its values, and how many rows are wanted."""
        where = _all(self.place, self._seen_then(), self._after(), self.condition)
        return Sql(where.text, (*where.values, self.search.limit + 1))

    def _moment(self) -> str:
        """What is registered by now: the last number that the one dossier in question has given out."""
        return str(self.dossiers[0].objects) if self.dossiers and len(self.dossiers) == 1 else ""

    def _seen_then(self) -> Sql:
        if not self.search.as_of or not self.dossiers:
            return Sql("")
        if len(self.dossiers) != 1 or not self.search.as_of.isdecimal():
            raise ValueError("as_of is none that this store gave for this search")
        return Sql("o.id <= ?", (self.dossiers[0].patient * _NUMBER + int(self.search.as_of),))

    def _after(self) -> Sql:
        after = self.search.after
        if after is None:
            return Sql("")
        if not after.tie.isdecimal():
            raise ValueError("after is no place that this store gave")
        key, than = _key(self.search), "<" if self.search.descending else ">"
        # The first comparison is for the index, the second for those with the same key.
        return Sql(f"{key} {than}= ? AND ({key} {than} ? OR o.id {than} ?)", (after.key, after.key, int(after.tie)))


def dossiers_in_question(search: PagedSearch, connection: sqlite3.Connection) -> tuple[PagedDossier, ...] | None:
    """The dossiers that a search is for; None: all of them."""
    if not search.patient_ids:
        return None
    owners = members(search.patient_ids)
    return _dossiers(f"patient_id IN {owners.text}", owners.values, connection)


def kept_page(search: PagedSearch, dossiers: tuple[PagedDossier, ...] | None, kept: KeptDossiers) -> Page | None:
    """The page of a search where it is kept as these dossiers are now."""
    if dossiers is None or len(dossiers) != 1:
        return None
    return kept.page(dossiers[0].moment, search)


class _Objects(NamedTuple):
    """Reads objects of one kind."""

    kind: ObjectKind
    connection: sqlite3.Connection
    compression: RenderingCompression
    kept: KeptDossiers

    def at(self, places: Sequence[ObjectPlace], dossiers: tuple[PagedDossier, ...] | None) -> tuple[PagedObject, ...]:
        """The objects at these places, with their links. dossiers: those that they are in; None: nobody knows."""
        if dossiers is None:
            numbers = members([str(number) for number in {each.row_id >> NUMBER_BITS for each in places}])
            dossiers = _dossiers(f"CAST(id AS TEXT) IN {numbers.text}", numbers.values, self.connection)
        found: dict[int, PagedObject] = {}
        by_dossier: dict[int, list[ObjectPlace]] = defaultdict(list)
        for place in places:
            by_dossier[place.row_id >> NUMBER_BITS].append(place)
        moments = {each.patient: each.moment for each in dossiers}
        for patient, inside in by_dossier.items():
            found.update(self.kept.objects(moments[patient], [each.row_id for each in inside]))
        missing = [place for place in places if place.row_id not in found]
        self.kept.counted(len(found), len(missing))
        if missing:
            read = self._read(missing, {each.patient: each.patient_id for each in dossiers})
            for patient in {row_id >> NUMBER_BITS for row_id in read}:
                self.kept.keep(moments[patient], {each: read[each] for each in read if each >> NUMBER_BITS == patient})
            found.update(read)
        return tuple([_placed(found[place.row_id], place) for place in places])

    def of(self, rows: Sequence[ObjectRow], dossier: PagedDossier) -> tuple[PagedObject, ...]:
        """The objects of these rows, with their links. None of them is kept; now they are. Raises StoreDamaged."""
        found = self._with_links(self._restored(rows, {dossier.patient: dossier.patient_id}), (dossier.patient,))
        self.kept.counted(0, len(found))
        self.kept.keep(dossier.moment, {row[0]: each for row, each in zip(rows, found, strict=True)})
        return found

    def _read(self, places: Sequence[ObjectPlace], patients: Mapping[int, str]) -> dict[int, PagedObject]:
        """By row id. Raises StoreDamaged."""
        keys = dict(places)
        # In the order in which they lie in the file.
        wanted = orjson.dumps(sorted(keys)).decode()
        found = {row[0]: row for row in self.connection.execute(_objects(TABLES[self.kind]), (wanted,))}
        rows = [(row_id, keys[row_id], *found[row_id][2:]) for row_id in keys]
        return dict(zip(keys, self._with_links(self._restored(rows, patients), tuple(patients)), strict=True))

    def _restored(self, rows: Sequence[ObjectRow], patients: Mapping[int, str]) -> list[PagedObject]:
        """Without links. patients: by the number of the dossier."""
        kind = self.kind
        restored = self.compression.restore_all([row[-1] for row in rows])
        return [
            PagedObject(
                kind,
                entry_uuid,
                patients[row_id >> NUMBER_BITS],
                Place(key, str(row_id)),
                rendering if is_resource else None,
                None if is_resource else rendering,
                (),
                logical_id or entry_uuid,
                version or "1",
            )
            for (row_id, key, entry_uuid, logical_id, version, is_resource, _), rendering in zip(
                rows, restored, strict=True
            )
        ]

    def _with_links(self, objects: Sequence[PagedObject], patients: Sequence[int]) -> tuple[PagedObject, ...]:
        """patients: the numbers of their dossiers."""
        if self.kind is ObjectKind.DOCUMENT_ENTRY and not _are_related(patients, self.connection):
            return tuple(objects)
        return links_of(objects, self._linked)

    def _linked(self, criteria: Criteria) -> Any:
        found = Search.of(criteria, self.connection)
        return found.found(self.connection, self.compression, rendering=False, limit=None)


def _are_related(patients: Sequence[int], connection: sqlite3.Connection) -> bool:
    """Whether there are Approved relations between documents of these dossiers."""
    of_one = len(patients) == 1
    asked = patients[0] if of_one else orjson.dumps(patients).decode()
    text = _RELATED.format("= ?" if of_one else "IN (SELECT value FROM json_each(?))")
    values = (asked, AvailabilityStatus.APPROVED.value, *_RELATIONSHIPS)
    return connection.execute(text, values).fetchone() is not None


_RELATIONSHIPS: Final = tuple(sorted(RELATIONSHIPS))
_RELATED: Final = (
    f"SELECT 1 FROM associations WHERE association_type <> '{AssociationType.HAS_MEMBER.value}' AND patient {{0}} "
    f"AND availability_status = ? AND association_type IN ({', '.join('?' * len(RELATIONSHIPS))}) LIMIT 1"
)
"""The first condition is that of the index. {0}: which dossiers are in question."""


@cache
def _objects(table: str) -> str:
    # CROSS JOIN: SQLite keeps the order in which the tables are written.
    return (
        f"SELECT o.id, NULL, {_COLUMNS} "
        f"FROM json_each(?) AS wanted CROSS JOIN {table} AS o ON o.id = wanted.value "
        "LEFT JOIN fhir_resources AS f ON f.id = o.id"
    )


def _placed(found: PagedObject, place: ObjectPlace) -> PagedObject:
    """The object where it stands in the order of this search, which may be another than when it was kept."""
    return found if found.place.key == place.key else found._replace(place=Place(place.key, found.place.tie))


def _dossiers(condition: str, values: Sequence[str | int], connection: sqlite3.Connection) -> tuple[PagedDossier, ...]:
    text = (
        "SELECT id, patient_id, objects, sequence, (SELECT value FROM meta WHERE name = 'index_generation') "
        f"FROM patients WHERE {condition} ORDER BY id"
    )
    return tuple(
        [
            PagedDossier(number, patient_id, objects, Moment(number, sequence, generation))
            for number, patient_id, objects, sequence, generation in connection.execute(text, tuple(values))
        ]
    )


def members_of(dossiers: tuple[PagedDossier, ...]) -> Sql:
    """The condition that a row is of one of these dossiers."""
    if len(dossiers) == 1:
        return Sql(f"o.id >> {NUMBER_BITS} = ?", (dossiers[0].patient,))
    listed = members([str(dossier.patient) for dossier in dossiers])
    return Sql(f"CAST(o.id >> {NUMBER_BITS} AS TEXT) IN {listed.text}", listed.values) if dossiers else Sql("0")


def _key(search: PagedSearch) -> str:
    is_moment = COLUMN_SHAPES[search.kind][search.ordered_by] is Shape.MOMENT
    return f"coalesce(o.{search.ordered_by}{'' if is_moment else '_first'}, '')"


@lru_cache(maxsize=1024)
def _written(columns: str, tables: str, key: str, descending: bool, where: str) -> str:
    direction = "DESC" if descending else "ASC"
    return (
        f"SELECT o.id, {key}{columns} FROM {tables} WHERE {where} ORDER BY {key} {direction}, o.id {direction} LIMIT ?"
    )


def _places_statement(search: PagedSearch, where: str) -> str:
    return _written("", f"{TABLES[search.kind]} AS o", _key(search), search.descending, where)


def _rows_statement(search: PagedSearch, where: str) -> str:
    tables = f"{TABLES[search.kind]} AS o LEFT JOIN fhir_resources AS f ON f.id = o.id"
    return _written(f", {_COLUMNS}", tables, _key(search), search.descending, where)


def _all(*conditions: Sql) -> Sql:
    there = [condition for condition in conditions if condition.text]
    return Sql(
        " AND ".join(condition.text for condition in there),
        tuple(value for condition in there for value in condition.values),
    )
