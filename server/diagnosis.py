"""What `toimik doctor` says of one thing that it looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How it stands with one thing."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was looked at, how it stands, and a sentence that says why or what to do."""

    subject: str
    verdict: Verdict
    sentence: str


Tell = Callable[[str], None]
"""Told what is going to take a while."""
