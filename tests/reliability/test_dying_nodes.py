"""A node that dies in the midst of its work, and another one that goes on.

tests/reliability/dying_nodes.py does so in the midst of ITI-41, dying_assemblies.py in that of a first retrieval.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.shared_stores import SharedStores

FEWEST_DEATHS = 20
"""A replacement and an assembly make at least ten requests each, and there is a death before and after every one."""


@pytest.mark.slow
def test_whichever_request_a_node_dies_at_another_one_sees_all_of_the_submission_or_nothing(
    stores: SharedStores, tmp_path: Path
) -> None:
    assert deaths_of("tests.reliability.dying_nodes", stores, tmp_path) >= FEWEST_DEATHS


@pytest.mark.slow
def test_whichever_request_a_node_dies_at_while_it_assembles_a_document_another_one_serves_a_whole_one(
    stores: SharedStores, tmp_path: Path
) -> None:
    assert deaths_of("tests.reliability.dying_assemblies", stores, tmp_path) >= FEWEST_DEATHS


def deaths_of(script: str, stores: SharedStores, directory: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-m", script, str(directory)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **stores.environment()},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return int(done.stdout.split()[0])
