"""Metadata on its way to slow readers is held in memory. Here is what limits how much of it there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class NoRoom(Exception):
    """So many large answers are on their way already that this one has to be asked for again."""


class LargeAnswers:
    """Those of one endpoint that are being sent."""

    def __init__(self, *, larger_than: int, at_once: int) -> None:
        """larger_than: octets of metadata that an answer may have without being counted here."""
        self._larger_than = larger_than
        self._at_once = at_once
        self._under_way = 0

    def counts(self, size: int) -> bool:
        """Whether an answer of that many octets is one of them."""
        return size > self._larger_than

    @contextmanager
    def room_for_one(self) -> Iterator[None]:
        """For as long as it is sent. Raises NoRoom."""
        if self._under_way >= self._at_once:
            raise NoRoom
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
