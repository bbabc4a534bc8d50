"""The port of what keeps audit events, and the one exception that its adapters let out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class KeptEvent(NamedTuple):
    """An event to be kept.

    id         a UUID, which stays the same however often it is sent
    recorded   seconds since 1970
    resource   the AuditEvent as JSON, on one line
    """

    id: str
    recorded: float
    resource: bytes


class NotKept(Exception):
    """The events are not kept: no room, or the disk fails. The text is for the log."""


class AuditSink(Protocol):
    """Keeps events. keep() blocks, and is called by one thread at a time; has_room() may be at the same moment."""

    def has_room(self) -> bool:
        """Whether events can be kept now, as far as can be told beforehand."""
        ...

    def keep(self, events: Sequence[KeptEvent]) -> None:
        """Keep all of them, or none; on the disk when this returns, whether there is room by the settings or not.

        Raises NotKept.
        """
        ...

    def close(self) -> None:
        """Let go of files."""
        ...
