"""docs/conformance.md claims nothing that no test shows, and leaves out nothing that the code knows."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from server.fhir_interactions import INTERACTIONS
from xds.errors import ErrorCode
from xds.message_rules import ASSOCIATION_RULES
from xds.metadata import AssociationType
from xds.stored_queries import STORED_QUERIES, StoredQuery
from xds.transactions import TRANSACTIONS

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "conformance.md").read_text(encoding="utf-8")
NAMED_TESTS = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))


def section(heading: str) -> str:
    """What stands under a heading."""
    return PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the table under a heading, by their first cell."""
    lines = [line.strip("|") for line in section(heading).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines[2:]]
    return {row[0]: row for row in cells}


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of the tests in a module."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


@pytest.mark.parametrize(("file", "test"), NAMED_TESTS, ids=str)
def test_a_test_that_the_page_names_exists(file: str, test: str) -> None:
    assert test in names_in(file)


def test_every_test_is_named_in_the_one_form_that_is_checked() -> None:
    assert len(NAMED_TESTS) > 80
    assert PAGE.count("::test_") == len(re.findall(r"`[\w/]+\.py::test_\w+`", PAGE))


@pytest.mark.parametrize(
    "heading",
    ["Transactions", "Options of the actors", "Deployments", "Stored queries of ITI-18", "Associations", "Metadata",
     "Messages"],
)  # fmt: skip
def test_what_is_said_to_be_supported_is_shown_by_a_test(heading: str) -> None:
    found = rows(heading)

    assert found
    for row in found.values():
        assert len(row) == 4, row
        assert row[1] in {"supported", "partly", "no"}, row
        assert row[1] == "no" or "::test_" in row[3], row


def test_every_transaction_that_is_served_is_supported() -> None:
    supported = {name for name, row in rows("Transactions").items() if row[1] == "supported"}
    by_soap = {f"{each.name} {each.title}" for each in TRANSACTIONS}
    by_fhir = {f"{each.transaction.name} {each.transaction.title}" for each in INTERACTIONS}

    by_hl7_v2 = {"ITI-8 Patient Identity Feed"}

    assert by_soap | by_hl7_v2 <= supported <= by_soap | by_fhir | by_hl7_v2


@pytest.mark.parametrize("query", STORED_QUERIES.values(), ids=lambda query: query.name)
def test_every_stored_query_is_listed(query: StoredQuery) -> None:
    assert rows("Stored queries of ITI-18")[query.name][1] == "supported"


def test_every_type_of_association_is_listed() -> None:
    listed = rows("Associations")

    for each in AssociationType:
        assert each.value.rpartition(":")[2] in listed


def test_the_associations_that_are_refused_are_those_that_the_page_says() -> None:
    (refused,) = [rule.types for rule in ASSOCIATION_RULES if rule.problem.__name__ == "_non_versioning"]

    unsupported = {name for name, row in rows("Associations").items() if row[1] == "no"}

    assert unsupported == {each.rpartition(":")[2] for each in refused or ()}


def test_every_error_code_is_explained_and_shown_by_a_test() -> None:
    listed = rows("Error codes")

    assert sorted(listed) == sorted(ErrorCode)
    for row in listed.values():
        assert len(row) == 4, row
        assert "ITI-" in row[1]
        assert row[2]
        assert "::test_" in row[3]
