"""What a search asks for, read by the rows of mhd/searching/search_parameters.py; nothing is looked up yet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mhd.fhir.operation_outcome import Issue, IssueType, Refused, xds_issue
from mhd.searching.search_parameters import HEEDED_RESULT_PARAMETERS, NOT, Role, SearchParameter
from mhd.searching.search_values import split
from xds.errors import ErrorCode

Pair = tuple[str, str]

_MOST_VALUES: Final = 500
_LONGEST_VALUE: Final = 1000
_NO_TEXT: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_SELECTING: Final = (Role.PATIENT, Role.PATIENT_IDENTIFIER, Role.IDENTIFIER, Role.ID)


@dataclass(frozen=True, slots=True)
class PageSizes:
    """usual: entries of a page where nobody says how many; largest: most of them."""

    usual: int = 50
    largest: int = 500


class Occurrence(NamedTuple):
    """A parameter as it stands once in a request. Several occurrences all have to be met; of the values, one.

    values   as sent, escapes included
    """

    parameter: SearchParameter
    modifier: str
    values: tuple[str, ...]
    sent_as: str


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A search that can be read.

    count        entries of a page; 0: only how many there are
    sorted_by    the parameter by which entries are in order
    descending   the latest first
    used         what was heeded, in the order sent: the self link
    page         the cursor of a page that goes on; None: the first page
    """

    occurrences: tuple[Occurrence, ...]
    count: int
    sorted_by: str
    descending: bool
    used: tuple[Pair, ...]
    page: str | None = None

    def of(self, *roles: Role) -> list[Occurrence]:
        return [each for each in self.occurrences if each.parameter.role in roles]


def search_request(
    parameters: Iterable[Pair], rows: Sequence[SearchParameter], *, sizes: PageSizes, strict: bool, sorts: Sequence[str]
) -> SearchRequest:
    """Read the parameters of a search.

    strict    what is not known is refused, not ignored
    sorts     the parameters by which entries can be in order; the first where nobody says
    Raises Refused (400) with all that is wrong.
    """
    reader = _Reader(rows, sizes, strict, sorts)
    for name, value in parameters:
        reader.take(name, value)
    return reader.request()


class _Reader:
    """Takes parameters one by one and keeps what is wrong with them."""

    def __init__(self, rows: Sequence[SearchParameter], sizes: PageSizes, strict: bool, sorts: Sequence[str]) -> None:
        self._by_name = {name: row for row in rows for name in row.names}
        self._sizes = sizes
        self._strict = strict
        self._sorts = sorts
        self._sorted_by = sorts[0]
        self._occurrences: list[Occurrence] = []
        self._used: list[Pair] = []
        self._issues: list[Issue] = []
        self._count = sizes.usual
        self._only_total = False
        self._descending = True
        self._page: str | None = None

    def take(self, name: str, value: str) -> None:
        if name in HEEDED_RESULT_PARAMETERS:
            self._control(name, value)
            return
        row = self._by_name.get(name)
        base, _, modifier = name.rpartition(":")
        if row is None and modifier and modifier in getattr(self._by_name.get(base), "modifiers", ()):
            row = self._by_name[base]
        elif row is None:
            self._unknown(name)
            return
        else:
            modifier = ""
        self._search(Occurrence(row, modifier, tuple(split(value, ",")), name), value)

    def request(self) -> SearchRequest:
        found = SearchRequest(
            tuple(self._occurrences), 0 if self._only_total else self._count, self._sorted_by, self._descending,
            tuple(self._used), self._page,
        )  # fmt: skip
        if self._page is None:
            self._issues += _missing(found, self._strict)
        if self._issues:
            raise Refused(*self._issues)
        return found

    def _unknown(self, name: str) -> None:
        base, colon, modifier = name.partition(":")
        if colon and any(base == each.partition(":")[0] for each in self._by_name):
            known = self._by_name.get(base)
            others = ", ".join(sorted(known.modifiers)) if known and known.modifiers else "none of those that change it"
            text = f"The modifier :{modifier[:40]} of {base} is not supported here; {base} knows {others}."
            self._issues.append(Issue(IssueType.NOT_SUPPORTED, text, name[:100]))
        elif self._strict:
            text = f"The parameter {name[:100]!r} is not known here; leave it out, or ask without handling=strict."
            self._issues.append(Issue(IssueType.NOT_SUPPORTED, text, name[:100]))

    def _search(self, occurrence: Occurrence, value: str) -> None:
        wrong = _problem(value)
        if not wrong and sum(len(each.values) for each in self._occurrences) + len(occurrence.values) > _MOST_VALUES:
            wrong = f"and the parameters before it have more than {_MOST_VALUES} values; ask in several searches"
        if not wrong and not all(each.strip() for each in occurrence.values):
            wrong = "has an empty value; leave that out"
        if wrong:
            self._issues.append(invalid(occurrence.sent_as, wrong))
            return
        self._occurrences.append(occurrence)
        self._used.append((occurrence.sent_as, value))

    def _control(self, name: str, value: str) -> None:
        match name:
            case "_count":
                self._take_count(value)
            case "_sort":
                self._take_sort(value)
            case "_summary":
                self._take_summary(value)
            case "_page":
                self._page = value

    def _take_count(self, value: str) -> None:
        if not re.fullmatch("[0-9]{1,9}", value):
            self._issues.append(invalid("_count", f"is {value[:40]!r}; send a number such as {self._sizes.usual}"))
            return
        self._count = min(int(value), self._sizes.largest)
        self._used = [each for each in self._used if each[0] != "_count"]
        self._used.append(("_count", str(self._count)))

    def _take_sort(self, value: str) -> None:
        if value.removeprefix("-") in self._sorts:
            self._sorted_by, self._descending = value.removeprefix("-"), value.startswith("-")
            self._used = [each for each in self._used if each[0] != "_sort"]
            self._used.append(("_sort", value))
        elif self._strict:
            known = ", ".join(f"{each}, -{each}" for each in self._sorts)
            text = f"_sort is {value[:100]!r}; here it can be one of {known}."
            self._issues.append(Issue(IssueType.NOT_SUPPORTED, text, "_sort"))

    def _take_summary(self, value: str) -> None:
        if value == "count":
            self._only_total = True
            self._used.append(("_summary", value))
        elif self._strict and value != "false":
            text = f"_summary is {value[:40]!r}; here it can be count or false."
            self._issues.append(Issue(IssueType.NOT_SUPPORTED, text, "_summary"))


def _missing(request: SearchRequest, strict: bool) -> Iterator[Issue]:
    if not any(each.modifier != NOT for each in request.of(*_SELECTING)):
        yield xds_issue(
            ErrorCode.STORED_QUERY_MISSING_PARAM,
            "The search names no patient; send patient, patient.identifier, identifier or _id.",
            "patient",
        )
    if strict and not any(each.parameter.name == "status" for each in request.occurrences):
        yield xds_issue(
            ErrorCode.STORED_QUERY_MISSING_PARAM,
            "The search names no status, which MHD requires; send status=current, or status=current,superseded.",
            "status",
        )


def _problem(value: str) -> str | None:
    if _NO_TEXT.search(value):
        return "has a control character in it, or what is no character at all; leave that out"
    if any(len(each) > _LONGEST_VALUE for each in value.split(",")):
        return f"has a value of more than {_LONGEST_VALUE} characters; send a shorter one"
    return None


def invalid(name: str, predicate: str) -> Issue:
    """A parameter that can not be read."""
    return Issue(IssueType.INVALID, f"{name} {predicate}.", name)
