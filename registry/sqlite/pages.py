"""Pages of a search in the embedded metadata store.

The order of a page is that of an index over each dossier (schemas/sql/registry_index.sql), so that a page of a large
dossier reads no more than one of a small dossier, where the search is for what the index covers. The statements are as
many whatever the page has on it.
"""

# ruff: noqa: S608 - statements are put together from names of our own; values are parameters

from __future__ import annotations

import sqlite3
from functools import lru_cache
from typing import Any, Final, NamedTuple

from registry.metadata_store import Criteria
from registry.page_links import links_of
from registry.rendering_compression import RenderingCompression
from registry.search_columns import COLUMN_SHAPES, Shape
from registry.sqlite.conditions import Sql, all_met, any_met, members
from registry.sqlite.index import NUMBER_BITS, TABLES
from registry.sqlite.search import Dossier, Search, dossiers_of, pinned_by, require_unmerged
from xds.paged_search import Page, PagedObject, PagedSearch, Place

_NUMBER: Final = 1 << NUMBER_BITS


class PageSearch(NamedTuple):
    """A page to read.

    place      which rows are in question
    dossiers   the dossiers in question; None: all of them
    """

    search: PagedSearch
    condition: Sql
    place: Sql
    dossiers: tuple[Dossier, ...] | None

    @classmethod
    def of(cls, search: PagedSearch, connection: sqlite3.Connection) -> PageSearch:
        """Raises ValueError, see MetadataStore.page()."""
        criteria = Criteria.of(search)
        if COLUMN_SHAPES[search.kind].get(search.ordered_by) is not Shape.TIME:
            raise ValueError(f"{search.ordered_by} is not a column that pages can be ordered by")
        condition = _all(
            all_met(search.kind, criteria.matches),
            *(any_met(search.kind, each.alternatives) for each in criteria.either),
        )
        pinned = pinned_by(criteria)
        if not search.patient_ids:
            return cls(search, condition, pinned or Sql("1"), None)
        dossiers = dossiers_of(search.patient_ids, connection)
        place = members_of(dossiers)
        if pinned:
            place = Sql(f"{place.text} AND {pinned.text}", (*place.values, *pinned.values))
        return cls(search, condition, place, dossiers)

    @property
    def most_rows(self) -> int | None:
        """How many rows this may have to look at; None where nobody knows."""
        return None if self.dossiers is None else sum(dossier.objects for dossier in self.dossiers)

    def read(self, connection: sqlite3.Connection, compression: RenderingCompression, *, unmerged: bool) -> Page:
        """The page. All its statements have to be of one moment. With `unmerged` it may raise PatientsMerged."""
        search = self.search
        if unmerged:
            require_unmerged(search.patient_ids, connection)
        total = None if search.after else self._count(connection)
        rows = self._rows(connection) if search.limit and total != 0 else []
        objects = [self._object(row, compression) for row in rows[: search.limit]]
        if unmerged and not search.patient_ids:
            require_unmerged({each.patient_id for each in objects}, connection)
        with_links = links_of(objects, lambda criteria: _found(criteria, connection, compression))
        return Page(with_links, len(rows) > search.limit, total, search.as_of or self._moment())

    def _count(self, connection: sqlite3.Connection) -> int:
        where = _all(self.place, self.condition)
        text = f"SELECT count(*) FROM {TABLES[self.search.kind]} AS o WHERE {where.text}"
        return int(connection.execute(text, where.values).fetchone()[0])

    def _rows(self, connection: sqlite3.Connection) -> list[Any]:
        search = self.search
        where = _all(self.place, self._seen_then(), self._after(), self.condition)
        text = _statement(search, where.text)
        return connection.execute(text, (*where.values, search.limit + 1)).fetchall()

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
        key, than = _key(self.search.ordered_by), "<" if self.search.descending else ">"
        # The first comparison is for the index, the second for those with the same key.
        return Sql(f"{key} {than}= ? AND ({key} {than} ? OR o.id {than} ?)", (after.key, after.key, int(after.tie)))

    def _object(self, row: Any, compression: RenderingCompression) -> PagedObject:
        row_id, owner, entry_uuid, key, resource, ebrim = row
        return PagedObject(
            self.search.kind,
            entry_uuid,
            owner,
            Place(key, str(row_id)),
            None if resource is None else compression.restore(resource),
            None if ebrim is None else compression.restore(ebrim),
        )


def members_of(dossiers: tuple[Dossier, ...]) -> Sql:
    """The condition that a row is of one of these dossiers."""
    if len(dossiers) == 1:
        return Sql(f"o.id >> {NUMBER_BITS} = ?", (dossiers[0].patient,))
    listed = members([str(dossier.patient) for dossier in dossiers])
    return Sql(f"CAST(o.id >> {NUMBER_BITS} AS TEXT) IN {listed.text}", listed.values) if dossiers else Sql("0")


def _found(criteria: Criteria, connection: sqlite3.Connection, compression: RenderingCompression) -> Any:
    return Search.of(criteria, connection).found(connection, compression, rendering=False, limit=None)


def _key(column: str) -> str:
    return f"coalesce(o.{column}_first, '')"


@lru_cache(maxsize=1024)
def _written(kind_table: str, ordered_by: str, descending: bool, where: str) -> str:
    direction = "DESC" if descending else "ASC"
    key = _key(ordered_by)
    # CROSS JOIN: SQLite keeps the order in which the tables are written.
    return (
        f"SELECT o.id, p.patient_id, o.entry_uuid, {key}, f.resource, iif(f.resource IS NULL, o.ebrim, NULL) "
        f"FROM {kind_table} AS o CROSS JOIN patients AS p ON p.id = o.id >> {NUMBER_BITS} "
        f"LEFT JOIN fhir_resources AS f ON f.id = o.id WHERE {where} "
        f"ORDER BY {key} {direction}, o.id {direction} LIMIT ?"
    )


def _statement(search: PagedSearch, where: str) -> str:
    return _written(TABLES[search.kind], search.ordered_by, search.descending, where)


def _all(*conditions: Sql) -> Sql:
    there = [condition for condition in conditions if condition.text]
    return Sql(
        " AND ".join(condition.text for condition in there),
        tuple(value for condition in there for value in condition.values),
    )
