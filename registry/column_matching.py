"""Whether an object meets conditions, looked at here and not by a store: for what a registry elsewhere has found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from registry.search_columns import Column, search_columns
from xds.metadata import AnyObject
from xds.paged_search import Demand, Either
from xds.stored_queries import Condition, Operator

_NOTHING: Final[Mapping[str, Column]] = MappingProxyType({})


def is_met(item: AnyObject, demands: Sequence[Demand], beside: Mapping[str, Column] = _NOTHING) -> bool:
    """Whether an object meets all demands, as MetadataStore.page() means them.

    beside   columns that an object alone does not have; a moment as a time is (registry/search_columns.py)
    Raises KeyError where a demand is of a column that is not there.
    """
    columns = {**search_columns(item), **beside}
    return all(_answers(columns, each) for each in demands)


def _answers(columns: Mapping[str, Column], demand: Demand) -> bool:
    if isinstance(demand, Condition):
        return _met(columns, demand)
    any_is_met = any(all(_met(columns, each) for each in alternative) for alternative in demand.alternatives)
    return any_is_met is isinstance(demand, Either)


def _met(columns: Mapping[str, Column], condition: Condition) -> bool:
    column = columns[condition.attribute]
    if condition.operator is Operator.PRESENT:
        return bool(column)
    if column is None:
        return condition.operator in _IF_ANY
    if condition.operator in (Operator.AT_OR_AFTER, Operator.AT_OR_AFTER_IF_ANY):
        return column[-1] >= condition.groups[0][0]
    if condition.operator in (Operator.BEFORE, Operator.BEFORE_IF_ANY):
        return column[0] < condition.groups[0][0]
    values = (column,) if isinstance(column, str) else column
    way = _WAYS[condition.operator]
    return all(any(way(value, each) for value in values for each in group) for group in condition.groups)


def _is_like(value: str, pattern: str) -> bool:
    expression = "".join({"%": ".*", "_": "."}.get(each, re.escape(each)) for each in pattern.casefold())
    return re.fullmatch(expression, value.casefold(), re.DOTALL) is not None


_IF_ANY: Final = (Operator.AT_OR_AFTER_IF_ANY, Operator.BEFORE_IF_ANY)
_WAYS: Final[Mapping[Operator, Callable[[str, str], bool]]] = {
    Operator.EQUALS: str.__eq__,
    Operator.ANY_OF: str.__eq__,
    Operator.ALL_OF_ANY_OF: str.__eq__,
    Operator.LIKE: _is_like,
    Operator.STARTS_WITH: str.startswith,
    Operator.ENDS_WITH: str.endswith,
}
