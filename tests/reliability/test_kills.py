"""A few kills in every test run; tests/reliability/kill_the_server.py makes as many as one likes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.reliability.cluster import Cluster
from tests.reliability.cluster_kills import ClusterKills, Victim
from tests.reliability.kill_the_server import killed_again_and_again
from tests.reliability.traffic import Fate, Outcome


@pytest.fixture
def seed() -> int:
    return random.SystemRandom().randrange(2**32)


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a busy machine every start takes its time
def test_a_server_that_is_killed_loses_nothing_it_acknowledged(tmp_path: Path, seed: int) -> None:
    assert_nothing_broken(killed_again_and_again(tmp_path / "data", kills=3, workers=2, seed=seed), seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", Victim)
def test_whatever_is_killed_of_two_nodes_and_their_stores_nothing_acknowledged_is_lost_and_service_resumes(
    cluster: Cluster, victim: Victim, seed: int
) -> None:
    kills = ClusterKills(cluster, seed=seed)
    for _ in range(3):
        kills.kill(victim)
    kills.ended()
    assert_nothing_broken(kills.outcome, seed)


def assert_nothing_broken(outcome: Outcome, seed: int) -> None:
    assert outcome.broken == [], f"seed {seed}"
    assert outcome.memory.with_fate(Fate.ACKNOWLEDGED)
    assert outcome.memory.with_fate(Fate.REFUSED)
    assert outcome.midway > 0
