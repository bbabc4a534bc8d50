"""The reference material beside the project: ../shared. Tests that use it skip where it is absent.

Where TOIMIK_REQUIRE_SHARED is set (the gate sets it), absence is a failure instead.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
"""The project."""

SHARED = ROOT.parent / "shared"
IS_REQUIRED = bool(os.environ.get("TOIMIK_REQUIRE_SHARED"))


def shared(name: str) -> Path:
    """The path of `name` in ../shared; skips the test that asks where it is absent."""
    path = SHARED / name
    if not path.exists():
        if IS_REQUIRED:
            pytest.fail(f"../shared/{name} is required here and absent")
        pytest.skip(f"../shared/{name} is absent")
    return path
