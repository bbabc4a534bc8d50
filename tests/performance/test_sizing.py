"""What the manual says that an entry takes on the disk is what it takes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from server.bench.dossiers import REPOSITORY, Population
from server.settings import Settings
from server.store_opening import METADATA_FILE
from tests.performance.sizing import filled_at_once, filled_one_by_one, taken_in_sqlite

OPERATIONS = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
POPULATION = Population.of(1000)


@pytest.mark.parametrize(
    ("filling", "column"),
    [pytest.param(filled_one_by_one, 0, id="one by one"), pytest.param(filled_at_once, 1, id="at once")],
)
def test_an_entry_takes_what_the_manual_says(
    filling: Callable[[Settings, Population], Coroutine[None, None, None]], column: int, tmp_path: Path
) -> None:
    said = re.findall(r"^\| \*\*in all\*\* \| (\d+|\*\*\d+\*\*) \| (\d+|\*\*\d+\*\*) \|$", OPERATIONS, re.MULTILINE)

    asyncio.run(filling(Settings(data=tmp_path, repository_unique_id=REPOSITORY), POPULATION))
    taken = sum(each.octets for each in taken_in_sqlite(tmp_path / METADATA_FILE)) / POPULATION.entries

    assert taken == pytest.approx(float(said[0][column].strip("*")), rel=0.05)
