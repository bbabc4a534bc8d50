"""Record Audit Event [ITI-20], FHIR Feed: AuditEvents are posted to an audit record repository, some at a time.

The interaction of RESTful ATNA (Trial Implementation). Of several processes with one outbox, the one that holds the
lock file sends, the oldest first; while the repository can not be asked, one event at a time tries. An event leaves the
outbox when the repository has said that it took it, so after a crash some are sent twice, with the same X-Request-Id.

    2xx                   taken
    400 409 413 415 422   this event is refused: it is set aside, and sent once more when a server starts
    anything else         not now: it is tried again, after pauses that grow
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from mhd.messages import FHIR_JSON
from server.audit.audit_outbox import AuditOutbox
from server.audit.audit_sink import KeptEvent, NotKept
from server.authorization import authorization_in

log = logging.getLogger(__name__)

_LOCK: Final = "sender.lock"
_READ_AT_A_TIME: Final = 64
_NOTHING_TO_SEND_SECONDS: Final = 0.2
_ANOTHER_SENDS_SECONDS: Final = 1.0
_FIRST_PAUSE_SECONDS: Final = 0.2
_REFUSALS: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)


class _Said(Enum):
    """What the repository says of an event."""

    TAKEN = auto()
    REFUSED = auto()


class _NotNow(Exception):
    """The repository can not be asked. The text is for the log."""


class AuditFeed:
    """Sends what is in an outbox."""

    def __init__(
        self,
        outbox: AuditOutbox,
        session: aiohttp.ClientSession,
        url: str,
        *,
        directory: Path,
        at_once: int,
        seconds: float,
        longest_pause_seconds: float,
        authorization_file: Path | None = None,
    ) -> None:
        """directory: of the lock file. at_once: most events on their way. seconds: in which the repository answers."""
        self._outbox = outbox
        self._session = session
        self._url = URL(url)
        self._directory = directory
        self._at_once = at_once
        self._timeout = aiohttp.ClientTimeout(total=seconds)
        self._longest_pause = longest_pause_seconds
        self._authorization_file = authorization_file

    async def run(self) -> None:
        """Send for ever; whatever goes wrong is tried again."""
        while True:
            try:
                with _locked(self._directory / _LOCK) as is_ours:
                    if is_ours:
                        await self._sending()
            except Exception:
                log.exception("Sending audit events failed; it is tried again")
            await asyncio.sleep(_ANOTHER_SENDS_SECONDS)

    async def _sending(self) -> None:
        pause = 0.0
        is_first = True
        while True:
            try:
                if is_first:
                    await asyncio.to_thread(self._outbox.try_again)
                    is_first = False
                there_were_some = await self._send_some(1 if pause else _READ_AT_A_TIME)
            except (_NotNow, NotKept) as problem:
                if not pause:
                    log.warning("Audit events can not be sent, and wait in the outbox", extra={"why": str(problem)})
                pause = min(max(pause * 2, _FIRST_PAUSE_SECONDS), self._longest_pause)
                await asyncio.sleep(pause)
                continue
            if pause:
                log.info("Audit events are sent again")
                pause = 0.0
            if not there_were_some:
                await asyncio.sleep(_NOTHING_TO_SEND_SECONDS)

    async def _send_some(self, most: int) -> bool:
        """Whether there was anything to send. Raises _NotNow, NotKept."""
        events = await asyncio.to_thread(self._outbox.oldest, most)
        said: dict[str, _Said] = {}
        try:
            await self._send(events, said)
        finally:
            if said:
                taken = [each for each, answer in said.items() if answer is _Said.TAKEN]
                refused = [each for each, answer in said.items() if answer is _Said.REFUSED]
                await asyncio.to_thread(self._outbox.sent, taken, refused)
        return bool(events)

    async def _send(self, events: Sequence[KeptEvent], said: dict[str, _Said]) -> None:
        """said: what the repository says of an event is added by its id.

        Raises the first problem when all that is on its way was answered: what was taken is not to be sent again.
        """
        waiting = iter(events)

        async def one_after_another() -> None:
            for each in waiting:
                said[each.id] = await self._sent(each)

        outcomes = await asyncio.gather(*(one_after_another() for _ in range(self._at_once)), return_exceptions=True)
        for problem in outcomes:
            if problem is not None:
                raise problem

    async def _sent(self, event: KeptEvent) -> _Said:
        headers = {
            "Content-Type": FHIR_JSON,
            "Accept": FHIR_JSON,
            "Prefer": "return=minimal",
            "X-Request-Id": event.id,
            **await self._authorization(),
        }
        try:
            async with self._session.post(
                self._url, data=event.resource, headers=headers, allow_redirects=False, timeout=self._timeout
            ) as response:
                status = response.status
                await response.read()
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise _NotNow(f"{self._url.host} gives no answer: {str(problem) or 'not in time'}") from problem
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return _Said.TAKEN
        if status in _REFUSALS:
            log.error(
                "The audit record repository refuses an event, which is set aside",
                extra={"status": status, "event": event.id},
            )
            return _Said.REFUSED
        raise _NotNow(f"{self._url.host} answers {status}")

    async def _authorization(self) -> Mapping[str, str]:
        file = self._authorization_file
        try:
            return await authorization_in(file)
        except (OSError, ValueError) as problem:
            raise _NotNow(f"audit.feed_authorization_file {file} can not be read: {problem}") from problem


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether this process holds the lock, which it does until the end of the block, or of the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
