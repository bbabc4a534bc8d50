"""Where the embedded metadata store looks for what meets given criteria.

Rows are clustered by dossier, so there are four ways to get at them, the narrowest first:
* objects named by entryUUID, uniqueId or logicalID are looked up, wherever they are;
* a dossier's associations are looked up by their ends;
* a dossier is read from its first row to its last;
* all of a kind is read (only where neither a patient nor an identifier is given).
"""

# ruff: noqa: S608 - statements are put together from names of our own; values are parameters

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from registry.metadata_store import Criteria, Match, PatientsMerged, StoredObject
from registry.rendering_compression import RenderingCompression
from registry.sqlite.conditions import EXACT, Sql, Values, all_met, members
from registry.sqlite.index import LAST_NUMBER, NAMED_IN_A_MERGE, NUMBER_BITS, TABLES, first_id, last_id
from xds.metadata import ObjectKind

_NAMES: Final = ("entry_uuid", "unique_id", "logical_id")
_ENDS: Final = ("source_object", "target_object")
_LOOKED_UP: Final = frozenset((*_NAMES, *_ENDS))
_NOTHING_MORE: Final = -1  # after LIMIT


class Dossier(NamedTuple):
    """A dossier to read; objects: how many there are in it, at least."""

    patient: int
    patient_id: str
    objects: int


class Search(NamedTuple):
    """Criteria, with the way chosen in which they are met.

    condition    what a row has to meet
    pinned       the ids of the only objects in question
    dossiers     the only dossiers in question, where nothing is pinned; None: all of them
    end          of an association, by which it is looked up within its dossier
    at_most      how many rows this may have to look at; None where nobody knows
    """

    criteria: Criteria
    condition: Sql
    pinned: Sql | None
    dossiers: tuple[Dossier, ...] | None
    end: bool
    at_most: int | None

    @classmethod
    def of(cls, criteria: Criteria, connection: sqlite3.Connection) -> Search:
        """The search for `criteria`.

        Raises ValueError where they match a column that the kind does not have, or in a way that it can not be matched.
        """
        condition = all_met(criteria.kind, criteria.matches)
        names = _first_match(criteria, _NAMES)
        if names is not None:
            return cls(criteria, condition, _pinned(names, criteria.kind), None, False, len(names.groups[0]))
        ends = _first_match(criteria, _ENDS)
        if criteria.patient_ids:
            dossiers = dossiers_of(criteria.patient_ids, connection)
        elif ends is not None:
            dossiers = _dossiers_holding(ends.groups[0], connection)
        else:
            return cls(criteria, condition, None, None, False, None)
        size = len(ends.groups[0]) if ends else sum([dossier.objects for dossier in dossiers])
        return cls(criteria, condition, None, dossiers, ends is not None, size)

    def found(
        self,
        connection: sqlite3.Connection,
        compression: RenderingCompression,
        *,
        rendering: bool,
        limit: int | None,
        unmerged: bool = False,
    ) -> tuple[StoredObject, ...]:
        """The objects, at most `limit`. All statements have to be of one moment; see MetadataStore for `unmerged`."""
        if unmerged:
            require_unmerged(self.criteria.patient_ids, connection)
        found: list[StoredObject] = []
        for statement, patient_id in self.statements(rendering=rendering):
            remaining = _NOTHING_MORE if limit is None else limit - len(found)
            if remaining == 0:
                break
            rows = connection.execute(statement.text, (*statement.values, remaining)).fetchall()
            found += _stored(self.criteria.kind, rows, patient_id, compression)
        if unmerged and not self.criteria.patient_ids:
            require_unmerged({each.patient_id for each in found}, connection)
        return tuple(found)

    def count(self, connection: sqlite3.Connection) -> int:
        """How many there are."""
        return sum(
            connection.execute(
                f"SELECT count(*) FROM ({statement.text})", (*statement.values, _NOTHING_MORE)
            ).fetchone()[0]
            for statement, _ in self.statements(rendering=False)
        )

    def statements(self, *, rendering: bool) -> Iterator[tuple[Sql, str | None]]:
        """The statements that answer, each with the patient id of all that it finds where it does not select it.

        Their last parameter, which is not among the values, is how many rows are wanted; -1 for all.
        """
        kind, condition = self.criteria.kind, self.condition
        if self.dossiers is None:
            place = self._anywhere()
            text = _statement(kind, place.text, condition.text, rendering=rendering, of_one_dossier=False)
            yield Sql(text, (*place.values, *condition.values)), None
            return
        place_text = "o.patient = ?" if self.end else "o.id BETWEEN ? AND ?"
        text = _statement(kind, place_text, condition.text, rendering=rendering, of_one_dossier=True)
        for dossier in self.dossiers:
            yield Sql(text, (*self._place_values(dossier), *condition.values)), dossier.patient_id

    def _place_values(self, dossier: Dossier) -> Values:
        return (dossier.patient,) if self.end else (first_id(dossier.patient), last_id(dossier.patient))

    def _anywhere(self) -> Sql:
        places = [self.pinned] if self.pinned else []
        if self.criteria.patient_ids:
            owners = members(self.criteria.patient_ids)
            places.append(Sql(f"p.patient_id IN {owners.text}", owners.values))
        return Sql(
            " AND ".join(place.text for place in places), tuple(value for place in places for value in place.values)
        )


def found_in_small_dossier(
    criteria: Criteria,
    connection: sqlite3.Connection,
    compression: RenderingCompression,
    *,
    most_objects: int,
    rendering: bool,
    limit: int,
    unmerged: bool,
) -> tuple[StoredObject, ...]:
    """The objects, where the criteria are of one dossier as a whole and it has at most `most_objects`; else nothing.

    One statement, where a Search needs one to learn how large the dossier is, one for merges, and then another.
    unmerged   find nothing where the patient was merged with another
    """
    if len(criteria.patient_ids) != 1 or any(match.attribute in _LOOKED_UP for match in criteria.matches):
        return ()
    kind, (patient_id,) = criteria.kind, criteria.patient_ids
    condition = all_met(kind, criteria.matches)
    merged = (patient_id, patient_id) if unmerged else ()
    values = (patient_id, most_objects, *merged, *condition.values, limit)
    text = _small_dossier_statement(kind, condition.text, rendering=rendering, unmerged=unmerged)
    return tuple(_stored(kind, connection.execute(text, values).fetchall(), patient_id, compression))


def _stored(
    kind: ObjectKind, rows: Sequence[Sequence[Any]], patient_id: str | None, compression: RenderingCompression
) -> list[StoredObject]:
    """What the rows of a statement stand for. patient_id: of all of them, where they do not say it."""
    restore = compression.restore
    return [
        StoredObject(kind, uuid, patient_id or owner, community, None if ebrim is None else restore(ebrim), *link)
        for owner, uuid, community, ebrim, *link in rows
    ]


@lru_cache(maxsize=1024)
def _statement(kind: ObjectKind, place: str, condition: str, *, rendering: bool, of_one_dossier: bool) -> str:
    tables = f"{TABLES[kind]} AS o"
    if not of_one_dossier:
        # CROSS JOIN: SQLite keeps the order in which the tables are written.
        tables += f" CROSS JOIN patients AS p ON p.id = o.id >> {NUMBER_BITS}"
    where = " AND ".join(filter(None, (place, condition)))
    columns = _columns(kind, rendering=rendering, owner=not of_one_dossier)
    return f"SELECT {columns} FROM {tables}{f' WHERE {where}' if where else ''} ORDER BY o.id LIMIT ?"


@lru_cache(maxsize=1024)
def _small_dossier_statement(kind: ObjectKind, condition: str, *, rendering: bool, unmerged: bool) -> str:
    dossier = f"o.id BETWEEN p.id << {NUMBER_BITS} AND (p.id << {NUMBER_BITS}) + {LAST_NUMBER}"
    not_merged = f"NOT EXISTS ({NAMED_IN_A_MERGE.format('= ?')})" if unmerged else ""
    where = " AND ".join(filter(None, ("p.patient_id = ? AND p.objects <= ?", not_merged, condition)))
    columns = _columns(kind, rendering=rendering, owner=False)
    return (
        f"SELECT {columns} FROM patients AS p CROSS JOIN {TABLES[kind]} AS o ON {dossier} "
        f"WHERE {where} ORDER BY o.id LIMIT ?"
    )


def _columns(kind: ObjectKind, *, rendering: bool, owner: bool) -> str:
    columns = ["p.patient_id" if owner else "NULL", "o.entry_uuid", "o.home_community_id"]
    columns.append("o.ebrim" if rendering else "NULL")
    if kind is ObjectKind.ASSOCIATION:
        columns += ["o.source_object", "o.target_object", "o.association_type"]
    elif kind is not ObjectKind.SUBMISSION_SET:
        columns += ["NULL", "NULL", "NULL", "o.availability_status", "o.logical_id", "o.version", "o.last_updated"]
    return ", ".join(columns)


def _first_match(criteria: Criteria, attributes: Sequence[str]) -> Match | None:
    """The first match that names objects by one of `attributes`, which stand in the order of preference."""
    named = [match for match in criteria.matches if match.attribute in attributes and match.operator in EXACT]
    return min(
        (match for match in named if match.groups), key=lambda match: attributes.index(match.attribute), default=None
    )


def _pinned(match: Match, kind: ObjectKind) -> Sql:
    """Which ids can be meant where `match` holds."""
    table = TABLES[kind]
    named = members(match.groups[0])
    by_identifier = f"SELECT object FROM identifiers WHERE identifier IN {named.text}"
    if match.attribute == "logical_id":
        # An object's first version has its logicalID as entryUUID; later versions are in the index of the others.
        later = f"SELECT id FROM {table} WHERE logical_id IN {named.text} AND logical_id <> entry_uuid"
        return Sql(f"o.id IN ({by_identifier} UNION ALL {later})", named.values * 2)
    if match.attribute == "unique_id" and kind is not ObjectKind.SUBMISSION_SET:
        return Sql(f"o.id IN (SELECT id FROM {table} WHERE unique_id IN {named.text})", named.values)
    return Sql(f"o.id IN ({by_identifier})", named.values)


def pinned_by(criteria: Criteria) -> Sql | None:
    """Which ids can be meant by criteria that name objects; None where they do not."""
    names = _first_match(criteria, _NAMES)
    return None if names is None else _pinned(names, criteria.kind)


def require_unmerged(patient_ids: Collection[str], connection: sqlite3.Connection) -> None:
    """Raise PatientsMerged where one of the patients was merged into another, or another into it."""
    if patient_ids:
        named = members(tuple(patient_ids))
        text = NAMED_IN_A_MERGE.format(f"IN {named.text}")
        if connection.execute(text, named.values * 2).fetchone():
            raise PatientsMerged


def dossiers_of(patient_ids: Sequence[str], connection: sqlite3.Connection) -> tuple[Dossier, ...]:
    """The dossiers of these patients, as far as there are any."""
    owners = members(patient_ids)
    return _dossiers(f"patient_id IN {owners.text}", owners.values, connection)


def _dossiers_holding(identifiers: Sequence[str], connection: sqlite3.Connection) -> tuple[Dossier, ...]:
    """The dossiers of the objects with these identifiers: an association is in that of its ends."""
    named = members(identifiers)
    holding = f"id IN (SELECT object >> {NUMBER_BITS} FROM identifiers WHERE identifier IN {named.text})"
    return _dossiers(holding, named.values, connection)


def _dossiers(condition: str, values: Values, connection: sqlite3.Connection) -> tuple[Dossier, ...]:
    text = f"SELECT id, patient_id, objects FROM patients WHERE {condition} ORDER BY id"
    return tuple(map(Dossier._make, connection.execute(text, values).fetchall()))
