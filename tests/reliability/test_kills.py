"""A few kills in every test run; tests/reliability/kill_the_server.py makes as many as one likes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.reliability.kill_the_server import killed_again_and_again
from tests.reliability.traffic import Fate


@pytest.mark.slow
def test_a_server_that_is_killed_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)

    outcome = killed_again_and_again(tmp_path / "data", kills=3, workers=2, seed=seed)

    assert outcome.broken == [], f"seed {seed}"
    assert outcome.memory.with_fate(Fate.ACKNOWLEDGED)
    assert outcome.memory.with_fate(Fate.REFUSED)
    assert outcome.midway > 0
