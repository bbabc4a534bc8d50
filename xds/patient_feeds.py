"""What a patient identity feed may ask of a Document Registry, in whatever form it comes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple, Protocol

from xds.hl7v2 import CX


class Reason(Enum):
    """Why what a feed says is refused: each protocol has a code of its own for it."""

    MISSING = auto()
    MALFORMED = auto()
    UNKNOWN = auto()
    DUPLICATE = auto()


class FeedRefused(Exception):
    """What a feed says can not be; nothing was changed. The text is a sentence for its sender.

    number   which of several patients of a message it is about, from 0 on
    """

    def __init__(self, reason: Reason, sentence: str, number: int = 0) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.number = number


class Told(NamedTuple):
    """What a message says of one of several patients: his ids, and those of who survives where he was merged."""

    patient_ids: Sequence[CX]
    surviving: Sequence[CX] = ()


class PatientFeeds(Protocol):
    """Takes what feeds say. Raises FeedRefused, and XdsError: XDSRegistryBusy where the store can not answer now."""

    async def admit(self, patient_ids: Sequence[CX]) -> CX:
        """Remember a patient, of whom a feed sent these ids; the id that is remembered."""
        ...

    async def merge(self, surviving: Sequence[CX], subsumed: Sequence[CX]) -> tuple[CX, CX]:
        """Have one patient answer for another as well, for good; the surviving and the subsumed id."""
        ...

    async def judge(self, message: Sequence[Told]) -> None:
        """Refuse a message of several patients before any of it is taken, in the order in which it says it."""
        ...

    def own(self, patient_ids: Sequence[CX]) -> CX | None:
        """Which of one patient's ids is that of this affinity domain; None: none can be."""
        ...

    async def is_active(self, patient_id: CX) -> bool:
        """Whether a feed named this patient, and none merged it into another."""
        ...
