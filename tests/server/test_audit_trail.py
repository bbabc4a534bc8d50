"""Events of requests that end together are kept together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from server.audit.audit_sink import KeptEvent
from server.audit.audit_trail import AuditTrail
from tests.server.test_fhir_audit_event import OBSERVER, happened


class Groups:
    """An AuditSink that tells what was kept at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def has_room(self) -> bool:
        return True

    def keep(self, events: Sequence[KeptEvent]) -> None:
        self.sizes.append(len(events))

    def close(self) -> None:
        pass


async def test_requests_that_come_in_one_after_the_other_are_kept_by_one_sync() -> None:
    sink = Groups()
    trail = AuditTrail([sink], OBSERVER, required=True)

    async def answered(number: int) -> None:
        for _ in range(number):  # each is read a turn of the loop later than the one before
            await asyncio.sleep(0)
        await trail.told(happened("ITI-67"))

    await asyncio.gather(*map(answered, range(8)))
    await trail.close()

    assert sink.sizes == [8]


async def test_a_request_that_is_alone_waits_for_nobody() -> None:
    sink = Groups()
    trail = AuditTrail([sink], OBSERVER, required=True)

    for _ in range(3):
        await trail.told(happened("ITI-67"))
    await trail.close()

    assert sink.sizes == [1, 1, 1]
