"""What happened becomes AuditEvents, and those are kept before it is answered. Nobody waits for them to be sent.

Events of requests that end at the same moment are kept together: one sync of the disk is enough for them.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from mhd.fhir.fhir_json import written
from server.audit.audit_outbox import AuditOutbox
from server.audit.audit_sink import AuditSink, KeptEvent, NotKept
from server.audit.fhir_audit_event import Observer, audit_events
from server.audit.happened import AuditUnavailable, Happened

log = logging.getLogger(__name__)

_TURNS: Final = 4
"""Of the event loop, which a request takes to be read and answered where nothing has to be waited for; and one more."""


class AuditTrail:
    """An AuditPort."""

    def __init__(
        self, sinks: Sequence[AuditSink], observer: Observer, *, required: bool, outbox: AuditOutbox | None = None
    ) -> None:
        """required: nothing is answered whose event can not be kept. outbox: one of the sinks; None: there is none."""
        self.outbox = outbox
        self.counted: Callable[[int, bool], None] = lambda _events, _kept: None
        self._sinks = sinks
        self._observer = observer
        self._required = required
        self._has_room = True
        self._waiting: list[tuple[Sequence[KeptEvent], asyncio.Future[None]]] = []
        self._keeping: asyncio.Task[None] | None = None

    async def begun(self) -> None:
        if self._required and not self._looked_for_room():
            self.counted(1, False)
            raise AuditUnavailable("there is no room for an audit event")

    async def told(self, *happened: Happened) -> None:
        expected = sum(len(each.accessed.patient_ids) or 1 for each in happened)
        try:
            await self._kept([event for each in happened for event in self._events(each)])
        except NotKept as problem:
            self.counted(expected, False)
            log.error("An audit event is not kept", extra={"why": str(problem)})
        except Exception:
            self.counted(expected, False)
            log.exception("An audit event can not be made")
        else:
            self.counted(expected, True)
            return
        if self._required:
            raise AuditUnavailable("an audit event is not kept")

    async def check(self) -> None:
        """Whether requests can be answered now, as /health/ready asks. Raises AuditUnavailable."""
        if self._required and not self._looked_for_room():
            raise AuditUnavailable("there is no room for audit events: the audit record repository takes none")

    async def close(self) -> None:
        """Keep what waits, and close files."""
        if self._keeping is not None:
            await self._keeping
        for each in self._sinks:
            each.close()

    def _events(self, happened: Happened) -> list[KeptEvent]:
        now = datetime.now(UTC)
        made = audit_events(happened, self._observer, now)
        return [KeptEvent(str(uuid.uuid4()), now.timestamp(), written(each)) for each in made]

    def _looked_for_room(self) -> bool:
        has_room = all(each.has_room() for each in self._sinks)
        if has_room is not self._has_room:
            self._has_room = has_room
            if has_room:
                log.info("There is room for audit events again")
            else:
                log.error("There is no room for audit events, and requests are refused; see audit.outbox_bytes")
        return has_room

    # Keeping together what comes at the same moment ----------------------------------------------------------------

    async def _kept(self, events: Sequence[KeptEvent]) -> None:
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((events, kept))
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep_what_waits())
        await kept

    async def _gathered(self) -> None:
        """Wait for requests that are under way already, as long as the loop goes on to bring some to their end.

        Without this the first of many would be kept by a sync of its own, and the others wait for two.
        """
        there = 0
        while there < len(self._waiting):
            there = len(self._waiting)
            for _ in range(_TURNS):
                await asyncio.sleep(0)

    async def _keep_what_waits(self) -> None:
        while self._waiting:
            await self._gathered()
            group, self._waiting = self._waiting, []
            together = [each for events, _ in group for each in events]
            try:
                problem = await asyncio.to_thread(self._problem_of_keeping, together)
            except Exception as fault:  # nobody may wait for ever
                log.exception("Keeping audit events failed")
                problem = NotKept(str(fault))
            for _, kept in group:
                if kept.done():  # who waited was cancelled
                    continue
                if problem is None:
                    kept.set_result(None)
                else:
                    kept.set_exception(problem)
        self._keeping = None

    def _problem_of_keeping(self, events: Sequence[KeptEvent]) -> NotKept | None:
        """Keep events wherever they can be kept; what is wrong where they can not."""
        problems = []
        for sink in self._sinks:
            try:
                # Where events are required there was room when the request began.
                if not self._required and not sink.has_room():
                    raise NotKept("there is no room for it: the outbox has as much as audit.outbox_bytes")  # noqa: TRY301
                sink.keep(events)
            except NotKept as problem:
                problems.append(problem)
        return NotKept("; ".join(map(str, problems))) if problems else None
