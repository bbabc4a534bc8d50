"""What a store can search by: one row per column, the same for every store.

A column is computed from the object when it is registered or revised; a new column is a `toimik reindex`, not a
migration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeAlias

from xds.hl7v2 import DTM
from xds.metadata import AnyObject, Author, Code, ObjectKind

Column: TypeAlias = str | tuple[str, ...] | None
"""A value, the values of a column that may have several, or None where the object has none.

A time is (first, last): the first and last second it may mean, 14 digits each.
"""


class Shape(Enum):
    """How a column is kept."""

    ONE = auto()
    SEVERAL = auto()
    TIME = auto()
    TEXTS = auto()  # several, case folded, for LIKE


@dataclass(frozen=True, slots=True)
class SearchColumn:
    """One attribute that queries can match.

    value   computes the column of an object
    """

    name: str
    shape: Shape
    value: Callable[[Any], Column]


def _plain(name: str) -> SearchColumn:
    return SearchColumn(name, Shape.ONE, lambda item: getattr(item, name))


def _code(name: str) -> SearchColumn:
    def coded(item: AnyObject) -> Column:
        code: Code | None = getattr(item, name)
        return code.coded if code else None

    return SearchColumn(name, Shape.ONE, coded)


def _codes(name: str) -> SearchColumn:
    return SearchColumn(name, Shape.SEVERAL, lambda item: tuple(code.coded for code in getattr(item, name)))


def _time(name: str) -> SearchColumn:
    def interval(item: AnyObject) -> Column:
        time: DTM | None = getattr(item, name)
        return (time.first, time.last) if time else None

    return SearchColumn(name, Shape.TIME, interval)


def _author_person(item: Any) -> Column:
    authors: tuple[Author, ...] = item.author
    return tuple(author.author_person.text.casefold() for author in authors if author.author_person)


_AUTHOR_PERSON = SearchColumn("author_person", Shape.TEXTS, _author_person)
_REFERENCE_IDS = SearchColumn(
    "reference_id_list", Shape.SEVERAL, lambda item: tuple(value.text for value in item.reference_id_list)
)

_EVERY_KIND = (_plain("entry_uuid"), _plain("logical_id"), _plain("version"), _plain("availability_status"))

SEARCH_COLUMNS: Mapping[ObjectKind, tuple[SearchColumn, ...]] = {
    ObjectKind.DOCUMENT_ENTRY: (
        *_EVERY_KIND,
        _plain("unique_id"),
        _plain("object_type"),
        _plain("repository_unique_id"),
        _code("class_code"),
        _code("type_code"),
        _code("practice_setting_code"),
        _code("healthcare_facility_type_code"),
        _code("format_code"),
        _codes("confidentiality_code"),
        _codes("event_code_list"),
        _time("creation_time"),
        _time("service_start_time"),
        _time("service_stop_time"),
        _AUTHOR_PERSON,
        _REFERENCE_IDS,
    ),
    ObjectKind.SUBMISSION_SET: (
        *_EVERY_KIND,
        _plain("unique_id"),
        _plain("source_id"),
        _code("content_type_code"),
        _time("submission_time"),
        _AUTHOR_PERSON,
    ),
    ObjectKind.FOLDER: (
        *_EVERY_KIND,
        _plain("unique_id"),
        _codes("code_list"),
        _time("last_update_time"),
    ),
    ObjectKind.ASSOCIATION: (
        *_EVERY_KIND,
        _plain("association_type"),
        _plain("source_object"),
        _plain("target_object"),
        _plain("submission_set_status"),
    ),
}


def search_columns(item: AnyObject) -> dict[str, Column]:
    """Every column of an object, by name."""
    return {column.name: column.value(item) for column in SEARCH_COLUMNS[item.kind]}
