"""docs/conformance.md is made of the code's tables and names tests that exist; nothing the code knows is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable

import pytest

from tests.conformance.conformance_page import (
    PAGE,
    SUPPORT,
    Row,
    Section,
    associations,
    error_codes,
    page,
    queries,
    sections,
    transactions,
)
from tests.shared_material import ROOT
from xds.message_rules import ASSOCIATION_RULES

SECTIONS = sections()
COMPLAINTS = range(1, 30)
"""Those about registries and repositories in our list of what goes wrong in practice."""
NAMED_TESTS = sorted({each for section in SECTIONS.values() for row in section.rows for each in row.shown_by})
IN_INTRODUCTIONS = sorted(
    {each for section in SECTIONS.values() for each in re.findall(r"`(\S+::test_\w+)`", section.intro)}
)


def test_the_page_is_what_is_made_of_the_tables() -> None:
    command = "python -m tests.conformance.conformance_page"

    assert PAGE.read_text(encoding="utf-8") == page(), f"{PAGE.name} is not up to date; run: {command}"


def test_every_test_that_the_page_names_is_collected() -> None:
    """By the collection itself: a test that was renamed, or is in a module that pytest does not read, shows nothing."""
    named = {*NAMED_TESTS, *IN_INTRODUCTIONS}
    files = sorted({name.partition("::")[0] for name in named})

    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += [f"tests/{each}" for each in files]
    ended = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, env=_environment())

    collected = {line.partition("[")[0].removeprefix("tests/") for line in ended.stdout.splitlines() if "::" in line}
    assert len(named) > 80
    assert sorted(named - collected) == [], ended.stdout[-2000:] + ended.stderr[-2000:]


def _environment() -> dict[str, str]:
    """Without what belongs to the run of pytest that this is a test of."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


@pytest.mark.parametrize("section", SECTIONS.values(), ids=lambda section: section.heading)
def test_what_is_said_to_be_supported_is_shown_by_a_test(section: Section) -> None:
    assert section.rows
    for row in section.rows:
        if section.heading == "Error codes":
            assert row.support == "", row
            assert row.remark, row
            assert row.sent_by, row
        else:
            assert row.support in SUPPORT, row
        assert row.support == "no" or row.shown_by, row


@pytest.mark.parametrize(
    ("heading", "known"),
    [
        ("Transactions", transactions()),
        ("Stored queries of ITI-18", queries()),
        ("Associations", associations()),
        ("Error codes", error_codes()),
    ],
    ids=["transactions", "queries", "associations", "error codes"],
)
def test_nothing_that_the_code_knows_is_missing(heading: str, known: Iterable[str]) -> None:
    said = [row.what for row in SECTIONS[heading].rows]

    assert len(set(said)) == len(said)
    assert set(known) <= set(said)


def test_what_is_served_is_not_said_to_be_missing_and_nothing_else_is_said_to_be_there() -> None:
    rows = {row.what: row for row in SECTIONS["Transactions"].rows}

    assert {name for name, row in rows.items() if row.support == "supported"} <= set(transactions())
    assert [rows[name].what for name in transactions() if rows[name].support == "no"] == []
    assert [row.what for row in _named_in_tables() if row.support != "supported"] == []


def _named_in_tables() -> list[Row]:
    return [row for row in SECTIONS["Stored queries of ITI-18"].rows if row.what in queries()]


def test_each_of_the_complaints_about_other_systems_has_its_answer() -> None:
    rows = SECTIONS["What goes wrong between systems"].rows

    assert [row.what.partition(". ")[0] for row in rows] == [str(number) for number in COMPLAINTS]
    assert [row.what for row in rows if row.support != "supported"] == []


def test_the_associations_that_are_refused_are_those_that_the_page_says() -> None:
    (refused,) = [rule.types for rule in ASSOCIATION_RULES if rule.problem.__name__ == "_non_versioning"]

    unsupported = {row.what for row in SECTIONS["Associations"].rows if row.support == "no"}

    assert unsupported == {each.rpartition(":")[2] for each in refused or ()}


def test_error_codes_are_those_of_the_code_and_are_sent_by_what_is_served() -> None:
    rows = SECTIONS["Error codes"].rows

    assert {row.what for row in rows} == set(error_codes())
    for row in rows:
        named = re.findall(r"ITI-\d+", row.sent_by)
        assert named, row
        assert set(named) <= set(transactions()), row
