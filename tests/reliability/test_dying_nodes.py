"""A node that dies in the midst of ITI-41, and another one that goes on: tests/reliability/dying_nodes.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.shared_stores import SharedStores

FEWEST_DEATHS = 20
"""A replacement makes at least ten requests, and there is a death before and after each."""


@pytest.mark.slow
def test_whichever_request_a_node_dies_at_another_one_sees_all_of_the_submission_or_nothing(
    stores: SharedStores, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.dying_nodes", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **stores.environment()},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout.split()[0]) >= FEWEST_DEATHS
