"""Whether a resource is what a profile of MHD 4.2.4 asks, by the rows of schemas/fhir/mhd_profiles.toml.

Only for resources that are sound (mhd/fhir/fhir_structure.py). All problems are found. Identifiers are judged by their
meaning (mhd/mapping/identifiers.py), because both wire forms of MHD are taken.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import schemas
from mhd.fhir.exact_text import Json
from mhd.fhir.operation_outcome import Issue, IssueType, xds_issue
from xds.errors import ErrorCode

PROFILES: Final = frozenset(tomllib.loads(schemas.fhir("mhd_profiles.toml").decode()))
"""The names of the profiles that have rows."""

_EXTENSION: Final = "extension("


@dataclass(frozen=True, slots=True)
class Row:
    """What a profile asks of one element.

    most          None: any number
    codes         the values that it may have; none: any
    is_contained  it refers to a contained resource
    is_of_xds     XDS requires it as well
    """

    path: str
    least: int
    most: int | None
    codes: tuple[str, ...] = ()
    is_contained: bool = False
    is_of_xds: bool = False


def profile_problems(resource: Json, name: str, path: str | None = None) -> list[Issue]:
    """All that a resource lacks for a profile, each at its FHIRPath.

    name   of the profile, such as `IHE.MHD.Comprehensive.Folder`
    path   FHIRPath of the resource in what was sent; None: the resource itself was
    Raises KeyError where there is no such profile.
    """
    place = path if path is not None else str(resource["resourceType"])
    return [issue for row in rows_of(name) for issue in _row_problems(resource, row, place)]


@cache
def rows_of(name: str) -> tuple[Row, ...]:
    """The rows of a profile and of those that it builds on; of two about one element, both conditions count."""
    profile = _table()[name]
    rows = {row.path: row for row in rows_of(profile["base"])} if "base" in profile else {}
    for path, words in profile["rows"].items():
        row = _row(path, words.split())
        if path in rows:
            row = replace(
                row,
                codes=row.codes or rows[path].codes,
                is_contained=row.is_contained or rows[path].is_contained,
                is_of_xds=row.is_of_xds or rows[path].is_of_xds,
            )
        rows[path] = row
    return tuple(rows.values())


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads(schemas.fhir("mhd_profiles.toml").decode())


def _row(path: str, words: list[str]) -> Row:
    least, _, most = words[0].partition("..")
    codes = next((tuple(word[1:].split("|")) for word in words if word.startswith("=")), ())
    return Row(path, int(least), None if most == "*" else int(most), codes, "contained" in words, "xds" in words)


def _row_problems(resource: Json, row: Row, place: str) -> Iterator[Issue]:
    *parents, last = row.path.split(".")
    for holder, path in _holders(resource, parents, place):
        values, at = _values(holder, last, path)
        what = f"The extension {last[len(_EXTENSION) : -1]} of {path}" if last.startswith(_EXTENSION) else at
        if len(values) < row.least:
            code = ErrorCode.REGISTRY_METADATA_ERROR if row.is_of_xds else ErrorCode.REPOSITORY_METADATA_ERROR
            yield xds_issue(code, f"{what} is missing; MHD needs it.", at, issue_type=IssueType.REQUIRED)
        if row.most is not None and len(values) > row.most:
            wrong = (
                "is not allowed here; leave it out"
                if row.most == 0
                else f"may stand at most {row.most} times; leave the others out"
            )
            yield _refused(f"{what} {wrong}.", at, IssueType.STRUCTURE)
        for value, each in _numbered(values, holder, last, at):
            yield from _value_problems(value, row, each)


def _holders(resource: Json, parents: list[str], place: str) -> Iterator[tuple[Json, str]]:
    """What may hold an element, each with its FHIRPath. What is not there lacks nothing: a row of its own says so."""
    if not parents:
        yield resource, place
        return
    first, *others = parents
    value = resource.get(first)
    for each, path in _numbered(value if isinstance(value, list) else [value], resource, first, f"{place}.{first}"):
        if each is not None:
            yield from _holders(each, others, path)


def _values(holder: Json, name: str, path: str) -> tuple[list[Any], str]:
    if name.startswith(_EXTENSION):
        ending = f"/{name[len(_EXTENSION) : -1]}"
        return [each for each in holder.get("extension", ()) if each["url"].endswith(ending)], f"{path}.extension"
    if name not in holder:
        return ([None] if f"_{name}" in holder else []), f"{path}.{name}"
    value = holder[name]
    return (value if isinstance(value, list) else [value]), f"{path}.{name}"


def _numbered(values: list[Any], holder: Json, name: str, at: str) -> Iterator[tuple[Any, str]]:
    is_list = isinstance(holder.get(name), list)
    for number, value in enumerate(values):
        yield value, f"{at}[{number}]" if is_list else at


def _value_problems(value: Any, row: Row, at: str) -> Iterator[Issue]:
    if row.codes and value not in row.codes:
        yield _refused(f"{at} is {value!r}; send {' or '.join(row.codes)}.", at, IssueType.CODE_INVALID)
    reference = value.get("reference", "") if isinstance(value, dict) else value
    if row.is_contained and not (isinstance(reference, str) and reference.startswith("#")):
        sentence = f"{at} does not refer to a contained resource; send it contained, and refer to it as #id."
        yield _refused(sentence, at, IssueType.STRUCTURE)


def _refused(sentence: str, at: str, issue_type: IssueType) -> Issue:
    return xds_issue(ErrorCode.REPOSITORY_METADATA_ERROR, sentence, at, issue_type=issue_type)
