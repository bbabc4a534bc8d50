"""What matches a search asks for, as SQL.

The text depends on the shape of the matches alone (which columns, how, how many values), so it is put together once for
each shape, and SQLite compiles it once; the values are parameters.
"""

# ruff: noqa: S608 - statements are put together from names of our own; values are parameters

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

import orjson

from registry.metadata_store import Match, Operator
from registry.search_columns import COLUMN_SHAPES, Shape
from registry.sqlite.index import NO_LINES, as_line
from xds.metadata import ObjectKind

EXACT: Final = frozenset({Operator.EQUALS, Operator.ANY_OF, Operator.ALL_OF_ANY_OF})
"""The operators that name values, rather than describe them."""

_OPPOSITES: Final = {Operator.NONE_OF: Operator.ALL_OF_ANY_OF, Operator.UNLIKE: Operator.LIKE}
_SPELLED_OUT: Final = 16
"""Longer lists of values travel as one JSON parameter: SQLite limits the number of parameters."""
_LONGEST_PATTERN_BYTES: Final = 50_000

Values: TypeAlias = tuple[str | int, ...]


class Sql(NamedTuple):
    """A piece of a statement and the values of its parameters, in order."""

    text: str
    values: Values = ()


def members(values: Sequence[str]) -> Sql:
    """What comes after IN."""
    return Sql(_members_text(len(values)), _members_values(values))


def _members_text(count: int) -> str:
    return f"({', '.join('?' * count)})" if count <= _SPELLED_OUT else "(SELECT value FROM json_each(?))"


def _members_values(values: Sequence[str]) -> Values:
    return tuple(values) if len(values) <= _SPELLED_OUT else (orjson.dumps(values).decode(),)


def all_met(kind: ObjectKind, matches: Sequence[Match]) -> Sql:
    """The condition that all of `matches` hold for a row `o`; without text where there are none.

    Raises ValueError where one is of a column that the kind does not have, or that can not be matched like this.
    """
    shapes = tuple([(each.attribute, each.operator, tuple(map(len, each.groups))) for each in matches])
    values: list[str | int] = []
    for match in matches:
        parameters = _way(kind, match.attribute, match.operator).values
        for group in match.groups:
            values += parameters(group)
    return Sql(_text(kind, shapes), tuple(values))


def any_met(kind: ObjectKind, alternatives: Sequence[Sequence[Match]]) -> Sql:
    """The condition that all matches of one of the alternatives hold for a row `o`. Raises ValueError as all_met()."""
    met = [all_met(kind, matches) for matches in alternatives]
    return Sql(
        _either([f"({each.text or '1'})" for each in met]), tuple(value for each in met for value in each.values)
    )


def none_met(kind: ObjectKind, alternatives: Sequence[Sequence[Match]]) -> Sql:
    """The condition that of each alternative a match does not hold for a row `o`. Raises ValueError as all_met()."""
    met = any_met(kind, alternatives)
    return Sql(f"({met.text}) IS NOT TRUE", met.values)


@lru_cache(maxsize=1024)
def _text(kind: ObjectKind, shapes: tuple[tuple[str, Operator, tuple[int, ...]], ...]) -> str:
    conditions: list[str] = []
    for attribute, operator, counts in shapes:
        of_groups = [_way(kind, attribute, operator).text(f"o.{attribute}", count) for count in counts]
        # IS NOT TRUE: what has no value is not among them either.
        conditions += [f"({' AND '.join(of_groups)}) IS NOT TRUE"] if operator in _OPPOSITES else of_groups
    return " AND ".join(conditions)


class _Way(NamedTuple):
    """How one group of values is looked for in a column.

    text     of the column and how many values there are
    values   the parameters
    """

    text: Callable[[str, int], str]
    values: Callable[[Sequence[str]], Values]


@lru_cache(maxsize=1024)
def _way(kind: ObjectKind, attribute: str, operator: Operator) -> _Way:
    shape = COLUMN_SHAPES[kind].get(attribute)
    if shape is None:
        raise ValueError(f"{attribute} is not a column that can be searched")
    # EQUALS is ANY_OF one value, ALL_OF_ANY_OF is ANY_OF for every group.
    looked_for = _OPPOSITES.get(operator, operator)
    way = _WAYS.get((Operator.ANY_OF if looked_for in EXACT else looked_for, shape))
    if way is None:
        raise ValueError(f"{attribute} can not be searched by {operator.name}")
    return way


def _any_line(column: str, count: int) -> str:
    if not count:
        return "0"
    if count <= _SPELLED_OUT:
        return f"({' OR '.join([f'instr({column}, ?)'] * count)})"
    return f"EXISTS (SELECT 1 FROM json_each(?) AS each WHERE instr({column}, each.value))"


def _lines(values: Sequence[str]) -> Values:
    return _members_values([as_line(value) for value in values])


def _like(array: str, text: str) -> str:
    """SQLite's % and _ are the standard's, and without ESCAPE there is nothing else."""
    return (
        f"EXISTS (SELECT 1 FROM json_each({array}) AS text JOIN json_each(?) AS pattern "
        f"WHERE {text} LIKE pattern.value)"
    )


def _patterns(values: Sequence[str]) -> Values:
    folded = (re.sub("%+", "%", pattern.casefold()) for pattern in values)
    # SQLite refuses longer patterns. No text is long enough to be like one of them.
    possible = [pattern for pattern in folded if len(pattern.encode()) <= _LONGEST_PATTERN_BYTES]
    return (orjson.dumps(possible).decode(),)


def _starts(column: str, count: int) -> str:
    return _either([f"substr({column}, 1, length(?)) = ?"] * count)


def _ends(column: str, count: int) -> str:
    return _either([f"substr({column}, -length(?)) = ?"] * count)


def _part_of_line(column: str, count: int) -> str:
    return _either([f"instr({column}, ?)"] * count)


def _either(conditions: Sequence[str]) -> str:
    return f"({' OR '.join(conditions)})" if conditions else "0"


def _twice(values: Sequence[str]) -> Values:
    return tuple(value for value in values for _ in range(2))


def _beginnings(values: Sequence[str]) -> Values:
    return tuple(as_line(value).removesuffix('"\n') for value in values)


def _ends_of_lines(values: Sequence[str]) -> Values:
    return tuple(as_line(value).removeprefix('\n"') for value in values)


def _first(values: Sequence[str]) -> Values:
    return (values[0],)


def _none(_: Sequence[str]) -> Values:
    return ()


_ONE_OF_SEVERAL = _Way(_any_line, _lines)
_IS_THERE = _Way(lambda column, _: f"{column} IS NOT NULL", _none)
_HAS_LINES = _Way(lambda column, _: f"{column} <> '{NO_LINES}'", _none)
_WAYS: Final[Mapping[tuple[Operator, Shape], _Way]] = {
    (Operator.ANY_OF, Shape.ONE): _Way(lambda column, count: f"{column} IN {_members_text(count)}", _members_values),
    (Operator.ANY_OF, Shape.SEVERAL): _ONE_OF_SEVERAL,
    (Operator.ANY_OF, Shape.TEXTS): _ONE_OF_SEVERAL,
    (Operator.LIKE, Shape.ONE): _Way(
        lambda column, _: _like(f"json_array({column})", "casefold(text.value)"), _patterns
    ),
    (Operator.LIKE, Shape.SEVERAL): _Way(lambda column, _: _like(column, "casefold(text.value)"), _patterns),
    (Operator.LIKE, Shape.TEXTS): _Way(lambda column, _: _like(column, "text.value"), _patterns),
    (Operator.AT_OR_AFTER, Shape.TIME): _Way(lambda column, _: f"{column}_last >= ?", _first),
    (Operator.BEFORE, Shape.TIME): _Way(lambda column, _: f"{column}_first < ?", _first),
    (Operator.AT_OR_AFTER_IF_ANY, Shape.TIME): _Way(
        lambda column, _: f"({column}_last >= ? OR {column}_last IS NULL)", _first
    ),
    (Operator.BEFORE_IF_ANY, Shape.TIME): _Way(
        lambda column, _: f"({column}_first < ? OR {column}_first IS NULL)", _first
    ),
    (Operator.AT_OR_AFTER, Shape.MOMENT): _Way(lambda column, _: f"{column} >= ?", _first),
    (Operator.BEFORE, Shape.MOMENT): _Way(lambda column, _: f"{column} < ?", _first),
    (Operator.STARTS_WITH, Shape.ONE): _Way(_starts, _twice),
    (Operator.STARTS_WITH, Shape.SEVERAL): _Way(_part_of_line, _beginnings),
    (Operator.ENDS_WITH, Shape.ONE): _Way(_ends, _twice),
    (Operator.ENDS_WITH, Shape.SEVERAL): _Way(_part_of_line, _ends_of_lines),
    (Operator.PRESENT, Shape.ONE): _IS_THERE,
    (Operator.PRESENT, Shape.MOMENT): _IS_THERE,
    (Operator.PRESENT, Shape.TIME): _Way(lambda column, _: f"{column}_first IS NOT NULL", _none),
    (Operator.PRESENT, Shape.SEVERAL): _HAS_LINES,
    (Operator.PRESENT, Shape.TEXTS): _HAS_LINES,
}
