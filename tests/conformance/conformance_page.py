"""Writes docs/conformance.md out of docs/conformance.toml, the code's own tables and the tests that are named.

`python -m tests.conformance.conformance_page` writes the page; tests/conformance/test_conformance_page.py holds that it
is what is committed. The TOML file has what people say: whether something is supported, a remark, and the tests that
show it. What is asked where, which queries, types and error codes there are, and what a query needs are read off the
tables.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from registry.iti8_patient_identity_feed import ADMITTING, LINKING, MERGING
from server.fhir_interactions import INTERACTIONS
from xds.errors import ErrorCode
from xds.metadata import AssociationType
from xds.stored_queries import STORED_QUERIES, Operator, Parameter, StoredQuery
from xds.transactions import ITI_18, TRANSACTIONS

DOCS: Final = Path(__file__).parents[2] / "docs"
SOURCE: Final = DOCS / "conformance.toml"
PAGE: Final = DOCS / "conformance.md"
SUPPORT: Final = ("supported", "partly", "no")
HL7_V2: Final = {
    "ITI-8": ("Patient Identity Feed", (*ADMITTING, MERGING)),
    "ITI-64": ("Notify XAD-PID Link Change", (LINKING,)),
}

_QUERIES_OF_ITI_18: Final = tuple(each for each in STORED_QUERIES.values() if each.transaction is ITI_18)


@dataclass(frozen=True, slots=True)
class Row:
    """What is said of one thing.

    what       its name in the code's tables, or in words
    support    one of SUPPORT; "" for error codes
    shown_by   tests, as file::name below tests/
    """

    what: str
    support: str = ""
    sent_by: str = ""
    remark: str = ""
    shown_by: tuple[str, ...] = ()

    @property
    def tests(self) -> str:
        return ", ".join(f"`{each}`" for each in self.shown_by)


@dataclass(frozen=True, slots=True)
class Section:
    heading: str
    intro: str
    rows: tuple[Row, ...]


def sections() -> dict[str, Section]:
    """What people say, by heading, in order."""
    return {section.heading: section for section in map(_section, _source()["section"])}


def _source() -> Mapping[str, Any]:
    return tomllib.loads(SOURCE.read_text(encoding="utf-8"))


def _section(table: Mapping[str, Any]) -> Section:
    rows = tuple(Row(**{**row, "shown_by": tuple(row.get("shown_by", ()))}) for row in table["row"])
    return Section(table["heading"], table.get("intro", "").strip(), rows)


# What the tables know ------------------------------------------------------------------------------------------------


def transactions() -> dict[str, tuple[str, str]]:
    """By name of a transaction: its title, and where and how it is asked."""
    found = {
        each.name: (each.title, f"`/xds/{each.actor}`, {'MTOM' if each.mtom else 'SOAP'}") for each in TRANSACTIONS
    }
    for name, (title, events) in HL7_V2.items():
        found[name] = (title, f"MLLP, ADT^{', '.join(events)}")
    for each in INTERACTIONS:
        if each.transaction.name.startswith("ITI-"):
            path = f"`{each.method} /fhir/{each.path}`".replace("/`", "`")
            title, before = found.get(each.transaction.name, (each.transaction.title, ""))
            found[each.transaction.name] = (title, ", ".join(filter(None, (before, path))))
    return found


def queries() -> dict[str, tuple[str, str]]:
    """By name of a stored query: its id, and what it needs."""
    return {each.name: (f"`{each.id}`", _needs(each)) for each in STORED_QUERIES.values()}


def _needs(query: StoredQuery) -> str:
    needs = [_names(each for each in query.parameters if each.required)]
    if query.one_of:
        needs.append(f"one of {_names(query.one_of)}")
    if query.narrowed_by:
        needs.append("at least one of " + ", ".join(f"`{each}`" for each in query.narrowed_by))
    repeated = _names(each for each in query.parameters if each.operator is Operator.ALL_OF_ANY_OF)
    return "; ".join([*filter(None, needs), *([f"may be repeated: {repeated}"] if repeated else [])])


def _names(parameters: Sequence[Parameter] | Iterator[Parameter]) -> str:
    return ", ".join(f"`{each.name}`" for each in parameters)


def associations() -> dict[str, tuple[str]]:
    """By short name of a type: the type."""
    return {each.value.rpartition(":")[2]: (f"`{each.value}`",) for each in AssociationType}


def error_codes() -> dict[str, tuple[str]]:
    return {str(each): ("",) for each in ErrorCode}


# The page ------------------------------------------------------------------------------------------------------------


def page() -> str:
    """The page as it is to be."""
    parts = [_source()["intro"].strip()]
    for section in sections().values():
        head, lines = _TABLES.get(section.heading, _words)(section)
        rule = "| " + " | ".join("---" for _ in head) + " |"
        table = "\n".join([_line(head), rule, *map(_line, lines)])
        parts.append("\n\n".join(filter(None, (f"## {section.heading}", section.intro, table))))
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


_Table: TypeAlias = tuple[Sequence[str], Sequence[Sequence[str]]]


def _words(section: Section) -> _Table:
    lines = [(row.what, row.support, row.remark, row.tests) for row in section.rows]
    return (section.heading.lower(), "support", "remark", "shown by"), lines


def _of_transactions(section: Section) -> _Table:
    known = transactions()
    lines = []
    for row in section.rows:
        title, asked = known.get(row.what, ("", ""))
        remark = row.remark.replace("{queries}", str(len(_QUERIES_OF_ITI_18)))
        lines.append((f"{row.what} {title}".strip(), row.support, asked, remark, row.tests))
    return ("transaction", "support", "asked at", "remark", "shown by"), lines


def _of_queries(section: Section) -> _Table:
    known = queries()
    lines = [(row.what, row.support, *known.get(row.what, ("", "")), row.remark, row.tests) for row in section.rows]
    return ("query", "support", "id", "needs", "remark", "shown by"), lines


def _of_associations(section: Section) -> _Table:
    known = associations()
    lines = [(row.what, row.support, *known.get(row.what, ("",)), row.remark, row.tests) for row in section.rows]
    return ("type", "support", "as sent", "remark", "shown by"), lines


def _of_error_codes(section: Section) -> _Table:
    lines = [(row.what, row.sent_by, row.remark, row.tests) for row in section.rows]
    return ("code", "sent by", "means", "shown by"), lines


_TABLES: Final[Mapping[str, Callable[[Section], _Table]]] = {
    "Transactions": _of_transactions,
    "Stored queries of ITI-18": _of_queries,
    "Associations": _of_associations,
    "Error codes": _of_error_codes,
}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
