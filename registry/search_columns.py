"""What a store can search by: one row per column, the same for every store.

A column is computed from the object when it is registered or revised; a new column is a `toimik reindex`, not a
migration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeAlias

from xds.actors import Registration
from xds.hl7v2 import DTM
from xds.metadata import AnyObject, Author, Code, InternationalString, ObjectKind
from xds.paged_search import IS_OUTDATED, OUTDATED
from xds.person_names import folded, name_parts, searchable_name

Column: TypeAlias = str | tuple[str, ...] | None
"""A value, the values of a column that may have several, or None where the object has none.

A time is (first, last): the first and last second it may mean, 14 digits each.
"""


class Shape(Enum):
    """How a column is kept."""

    ONE = auto()
    SEVERAL = auto()
    TIME = auto()
    MOMENT = auto()  # one second, 14 digits
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


def _author_name(item: Any) -> Column:
    return tuple(searchable_name(author.author_person) for author in item.author if author.author_person)


def _author_name_part(item: Any) -> Column:
    people = [author.author_person for author in item.author if author.author_person]
    return tuple(dict.fromkeys(part for person in people for part in name_parts(person)))


def _author(item: Any) -> Column:
    """Whether there is any: a person, or an institution."""
    return IS_THERE if item.author else None


IS_THERE = "yes"


def _service_period(item: Any) -> Column:
    start: DTM | None = item.service_start_time
    stop: DTM | None = item.service_stop_time
    if start is None and stop is None:
        return None
    return (start.first if start else _EARLIEST, stop.last if stop else _LATEST)


_EARLIEST, _LATEST = "00000101000000", "99991231235959"


def _comments(item: Any) -> Column:
    texts: InternationalString = item.comments
    return tuple(each.value for each in texts if each.value)


def _folded_comments(item: Any) -> Column:
    return tuple(map(folded, _comments(item) or ()))


_AUTHOR_NAME = SearchColumn("author_name", Shape.TEXTS, _author_name)
_AUTHOR_NAME_PART = SearchColumn("author_name_part", Shape.SEVERAL, _author_name_part)
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
        _plain("document_availability"),
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
        SearchColumn("service_period", Shape.TIME, _service_period),
        _plain("mime_type"),
        _plain("language_code"),
        SearchColumn("author", Shape.ONE, _author),
        _AUTHOR_PERSON,
        _AUTHOR_NAME,
        _AUTHOR_NAME_PART,
        _REFERENCE_IDS,
        SearchColumn("comments", Shape.SEVERAL, _comments),
        SearchColumn("folded_comments", Shape.TEXTS, _folded_comments),
    ),
    ObjectKind.SUBMISSION_SET: (
        *_EVERY_KIND,
        _plain("unique_id"),
        _plain("source_id"),
        _code("content_type_code"),
        _time("submission_time"),
        _AUTHOR_PERSON,
        _AUTHOR_NAME,
        _AUTHOR_NAME_PART,
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


_CHANGED = {"last_updated": Shape.MOMENT}
_OUTDATED = {OUTDATED: Shape.ONE}

REGISTRATION_COLUMNS: Mapping[ObjectKind, Mapping[str, Shape]] = {
    ObjectKind.DOCUMENT_ENTRY: {"submitted": Shape.MOMENT} | _CHANGED | _OUTDATED,
    ObjectKind.SUBMISSION_SET: _CHANGED,
    ObjectKind.FOLDER: _CHANGED | _OUTDATED,
    ObjectKind.ASSOCIATION: {},
}
"""Columns of what is known beside the object (xds/actors.py, Registration)."""

COLUMN_SHAPES: Mapping[ObjectKind, Mapping[str, Shape]] = {
    kind: {**{column.name: column.shape for column in columns}, **REGISTRATION_COLUMNS[kind]}
    for kind, columns in SEARCH_COLUMNS.items()
}
"""How each column that can be matched is kept."""


def registration_columns(kind: ObjectKind, registration: Registration) -> dict[str, str | None]:
    """Those of REGISTRATION_COLUMNS, by name."""
    values = {
        "submitted": registration.submitted,
        "last_updated": moment(registration.last_updated),
        OUTDATED: IS_OUTDATED if registration.outdated else None,
    }
    return {name: values[name] for name in REGISTRATION_COLUMNS[kind]}


def moment(time: str) -> str:
    """The second of a time `YYYY-MM-DDThh:mm:ss.ffffffZ`, 14 digits."""
    return "".join(each for each in time[:19] if each.isdigit())


def search_columns(item: AnyObject) -> dict[str, Column]:
    """Every column of an object, by name."""
    return {column.name: column.value(item) for column in SEARCH_COLUMNS[item.kind]}
