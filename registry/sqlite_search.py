"""Criteria as SQL: how the embedded metadata store finds objects.

Rows are clustered by dossier, so there are four ways to get at them, the narrowest first:
* objects named by entryUUID, uniqueId or logicalID are looked up, wherever they are;
* a dossier's associations are looked up by their ends;
* a dossier is read from its first row to its last;
* all of a kind is read (only where neither a patient nor an identifier is given).
The text of a statement depends on the shape of the criteria alone, so that SQLite compiles it once.
"""

# ruff: noqa: S608 - statements are put together from names of our own; values are parameters

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from registry.metadata_store import Criteria, Match, Operator, StoredObject
from registry.rendering_compression import RenderingCompression
from registry.search_columns import SEARCH_COLUMNS, Shape
from registry.sqlite_index import NUMBER_BITS, TABLES, as_line, first_id, last_id
from xds.metadata import ObjectKind

_PARAMETERS_SPELLED_OUT = 16
"""Longer lists of values travel as one JSON parameter: SQLite limits the number of parameters."""
_LONGEST_PATTERN_BYTES = 50_000

_EXACT = frozenset({Operator.EQUALS, Operator.ANY_OF, Operator.ALL_OF_ANY_OF})
_ENDS = frozenset({"source_object", "target_object"})

_SHAPES: Mapping[ObjectKind, Mapping[str, Shape]] = {
    kind: {column.name: column.shape for column in columns} for kind, columns in SEARCH_COLUMNS.items()
}


class Sql(NamedTuple):
    """A piece of a statement and the values of its parameters, in order."""

    text: str
    values: tuple[str | int, ...] = ()


class Dossier(NamedTuple):
    """A dossier to read; objects: how many there are in it, at least."""

    patient: int
    patient_id: str
    objects: int


@dataclass(frozen=True, slots=True)
class Search:
    """Criteria, with the way chosen in which they are met.

    pinned       the ids of the only objects in question
    dossiers     the only dossiers in question, where nothing is pinned; None: all of them
    end          of an association, by which it is looked up within its dossier
    at_most      how many rows this may have to look at; None where nobody knows
    """

    criteria: Criteria
    conditions: tuple[Sql, ...]
    pinned: Sql | None
    dossiers: tuple[Dossier, ...] | None
    end: bool
    at_most: int | None

    @classmethod
    def of(cls, criteria: Criteria, connection: sqlite3.Connection) -> Search:
        """The search for `criteria`.

        Raises ValueError where they match a column that the kind does not have, or in a way that it can not be matched.
        """
        conditions = tuple(
            condition for match in criteria.matches for condition in _conditions(match, _SHAPES[criteria.kind])
        )
        names = _first_match(criteria, ("entry_uuid", "unique_id", "logical_id"))
        if names is not None:
            return cls(criteria, conditions, _pinned(names, criteria.kind), None, False, len(names.groups[0]))
        ends = _first_match(criteria, ("source_object", "target_object"))
        if criteria.patient_ids:
            dossiers = _dossiers_of(criteria.patient_ids, connection)
        elif ends is not None:
            dossiers = _dossiers_holding(ends.groups[0], connection)
        else:
            return cls(criteria, conditions, None, None, False, None)
        size = len(ends.groups[0]) if ends else sum(dossier.objects for dossier in dossiers)
        return cls(criteria, conditions, None, dossiers, ends is not None, size)

    def found(
        self, connection: sqlite3.Connection, compression: RenderingCompression, *, rendering: bool, limit: int | None
    ) -> tuple[StoredObject, ...]:
        """The objects, at most `limit`."""
        kind = self.criteria.kind
        selected = ["o.entry_uuid", "o.home_community_id", "o.ebrim" if rendering else "NULL"]
        if kind is ObjectKind.ASSOCIATION:
            selected += ["o.source_object", "o.target_object", "o.association_type"]
        restore = compression.restore
        found: list[StoredObject] = []
        for statement, patient_id in self._statements(selected):
            remaining = -1 if limit is None else limit - len(found)
            if remaining == 0:
                break
            text = f"{statement.text} ORDER BY o.id LIMIT ?"
            rows = connection.execute(text, (*statement.values, remaining)).fetchall()
            found += [
                StoredObject(
                    kind, uuid, patient_id or owner, community, None if ebrim is None else restore(ebrim), *link
                )
                for owner, uuid, community, ebrim, *link in rows
            ]
        return tuple(found)

    def count(self, connection: sqlite3.Connection) -> int:
        """How many there are."""
        return sum(
            connection.execute(f"SELECT count(*) FROM ({statement.text})", statement.values).fetchone()[0]
            for statement, _ in self._statements([])
        )

    def _statements(self, selected: Sequence[str]) -> Iterable[tuple[Sql, str | None]]:
        """The statements that answer, each with the patient id of all that it finds where it does not select it."""
        table = TABLES[self.criteria.kind]
        columns = ", ".join(["NULL", *selected])
        if self.dossiers is None:
            yield self._anywhere(table, ", ".join(["p.patient_id", *selected])), None
            return
        for dossier in self.dossiers:
            place = (
                Sql("o.patient = ?", (dossier.patient,))
                if self.end
                else Sql("o.id BETWEEN ? AND ?", (first_id(dossier.patient), last_id(dossier.patient)))
            )
            yield _select(columns, f"{table} AS o", (place, *self.conditions)), dossier.patient_id

    def _anywhere(self, table: str, columns: str) -> Sql:
        # CROSS JOIN: SQLite keeps the order in which the tables are written.
        tables = f"{table} AS o CROSS JOIN patients AS p ON p.id = o.id >> {NUMBER_BITS}"
        places = [self.pinned] if self.pinned else []
        if self.criteria.patient_ids:
            members = _members(self.criteria.patient_ids)
            places.append(Sql(f"p.patient_id IN {members.text}", members.values))
        return _select(columns, tables, (*places, *self.conditions))


def _select(columns: str, tables: str, conditions: Sequence[Sql]) -> Sql:
    where = f" WHERE {' AND '.join(condition.text for condition in conditions)}" if conditions else ""
    values = tuple(value for condition in conditions for value in condition.values)
    return Sql(f"SELECT {columns} FROM {tables}{where}", values)


def _members(values: Sequence[str]) -> Sql:
    """What comes after IN."""
    if len(values) <= _PARAMETERS_SPELLED_OUT:
        return Sql(f"({', '.join('?' * len(values))})", tuple(values))
    return Sql("(SELECT value FROM json_each(?))", (orjson.dumps(values).decode(),))


# --- where to look ---------------------------------------------------------------------------------------------------


def _first_match(criteria: Criteria, attributes: Sequence[str]) -> Match | None:
    """The first match that names objects by one of `attributes`."""
    for attribute in attributes:
        for match in criteria.matches:
            if match.attribute == attribute and match.operator in _EXACT and match.groups:
                return match
    return None


def _pinned(match: Match, kind: ObjectKind) -> Sql:
    """Which ids can be meant where `match` holds."""
    table = TABLES[kind]
    members = _members(match.groups[0])
    by_identifier = f"SELECT object FROM identifiers WHERE identifier IN {members.text}"
    if match.attribute == "logical_id":
        # An object's first version has its logicalID as entryUUID; later versions are in the index of the others.
        later = f"SELECT id FROM {table} WHERE logical_id IN {members.text} AND logical_id <> entry_uuid"
        return Sql(f"o.id IN ({by_identifier} UNION ALL {later})", members.values * 2)
    if match.attribute == "unique_id" and kind is ObjectKind.DOCUMENT_ENTRY:
        return Sql(f"o.id IN (SELECT id FROM {table} WHERE unique_id IN {members.text})", members.values)
    return Sql(f"o.id IN ({by_identifier})", members.values)


def _dossiers_of(patient_ids: Sequence[str], connection: sqlite3.Connection) -> tuple[Dossier, ...]:
    members = _members(patient_ids)
    return _dossiers(Sql(f"patient_id IN {members.text}", members.values), connection)


def _dossiers_holding(identifiers: Sequence[str], connection: sqlite3.Connection) -> tuple[Dossier, ...]:
    """The dossiers of the objects with these identifiers: an association is in that of its ends."""
    members = _members(identifiers)
    holding = f"id IN (SELECT object >> {NUMBER_BITS} FROM identifiers WHERE identifier IN {members.text})"
    return _dossiers(Sql(holding, members.values), connection)


def _dossiers(condition: Sql, connection: sqlite3.Connection) -> tuple[Dossier, ...]:
    text = f"SELECT id, patient_id, objects FROM patients WHERE {condition.text} ORDER BY id"
    return tuple(map(Dossier._make, connection.execute(text, condition.values).fetchall()))


# --- what to look for ------------------------------------------------------------------------------------------------


def _conditions(match: Match, shapes: Mapping[str, Shape]) -> Iterable[Sql]:
    shape = shapes.get(match.attribute)
    if shape is None:
        raise ValueError(f"{match.attribute} is not a column that can be searched")
    condition = _CONDITIONS.get((_manner(match.operator), shape))
    if condition is None:
        raise ValueError(f"{match.attribute} can not be searched by {match.operator.name}")
    column = f"o.{match.attribute}"
    return (condition(column, group) for group in match.groups)


def _manner(operator: Operator) -> Operator:
    """EQUALS is ANY_OF one value, ALL_OF_ANY_OF is ANY_OF for every group."""
    return Operator.ANY_OF if operator in _EXACT else operator


def _one_is_any_of(column: str, values: Sequence[str]) -> Sql:
    members = _members(values)
    return Sql(f"{column} IN {members.text}", members.values)


def _one_of_several_is_any_of(column: str, values: Sequence[str]) -> Sql:
    lines = tuple(as_line(value) for value in values)
    if not lines:
        return Sql("0")
    if len(lines) <= _PARAMETERS_SPELLED_OUT:
        return Sql(f"({' OR '.join([f'instr({column}, ?)'] * len(lines))})", lines)
    return Sql(
        f"EXISTS (SELECT 1 FROM json_each(?) AS each WHERE instr({column}, each.value))",
        (orjson.dumps(lines).decode(),),
    )


def _text_is_like(column: str, patterns: Sequence[str]) -> Sql:
    """SQLite's % and _ are the standard's, and without ESCAPE there is nothing else."""
    return _like(column, "text.value", patterns)


def _one_of_several_is_like(column: str, patterns: Sequence[str]) -> Sql:
    return _like(column, "casefold(text.value)", patterns)


def _one_is_like(column: str, patterns: Sequence[str]) -> Sql:
    return _like(f"json_array({column})", "casefold(text.value)", patterns)


def _like(array: str, text: str, patterns: Sequence[str]) -> Sql:
    folded = (re.sub("%+", "%", pattern.casefold()) for pattern in patterns)
    # SQLite refuses longer patterns. No text is long enough to be like one of them.
    possible = [pattern for pattern in folded if len(pattern.encode()) <= _LONGEST_PATTERN_BYTES]
    return Sql(
        f"EXISTS (SELECT 1 FROM json_each({array}) AS text JOIN json_each(?) AS pattern "
        f"WHERE {text} LIKE pattern.value)",
        (orjson.dumps(possible).decode(),),
    )


def _at_or_after(column: str, values: Sequence[str]) -> Sql:
    return Sql(f"{column}_last >= ?", (values[0],))


def _before(column: str, values: Sequence[str]) -> Sql:
    return Sql(f"{column}_first < ?", (values[0],))


_CONDITIONS = {
    (Operator.ANY_OF, Shape.ONE): _one_is_any_of,
    (Operator.ANY_OF, Shape.SEVERAL): _one_of_several_is_any_of,
    (Operator.ANY_OF, Shape.TEXTS): _one_of_several_is_any_of,
    (Operator.LIKE, Shape.ONE): _one_is_like,
    (Operator.LIKE, Shape.SEVERAL): _one_of_several_is_like,
    (Operator.LIKE, Shape.TEXTS): _text_is_like,
    (Operator.AT_OR_AFTER, Shape.TIME): _at_or_after,
    (Operator.BEFORE, Shape.TIME): _before,
}
