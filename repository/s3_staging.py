"""The documents of one submission on their way into a bucket.

A small document stays in memory until it is published, in one request. Of a larger one a part is hashed and sent while
the next one arrives; it is a multipart upload, of which nothing can be read until it is completed, on publishing.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final
from uuid import uuid4

from repository.document_store import DocumentTooLarge, Kept, Measured, StoreBusy, StoreFull
from repository.s3_client import MOST_PARTS
from repository.s3_objects import S3Objects
from repository.s3_threads import S3Threads
from repository.uninterrupted import uninterrupted

logger = logging.getLogger(__name__)

HASHED_IN_THE_LOOP: Final = 64 * 1024
"""Octets that are hashed about as fast as a thread is woken."""
PUBLISHED_AT_ONCE: Final = 8
"""Documents of one submission; more would keep others waiting for a thread."""
UNDONE_WITHIN: Final = 2.0
"""Seconds for undoing what has failed: its sender waits, and the sweeper does it later."""


class S3Staging:
    """A Staging of repository/document_store.py.

    ready        has the bucket prepared: before the first document, so that its sender is heard to the end all the same
    part_bytes   octets of a part, of which a transfer holds two: one on its way in and one on its way out;
                 and the most that small documents of one submission take in memory
    """

    def __init__(
        self,
        objects: S3Objects,
        threads: S3Threads,
        ready: Callable[[], Awaitable[None]],
        *,
        part_bytes: int,
        size_limit: int | None,
    ) -> None:
        self._objects = objects
        self._threads = threads
        self._ready = ready
        self._part_bytes = part_bytes
        largest = part_bytes * MOST_PARTS
        self._size_limit = largest if size_limit is None else min(size_limit, largest)
        self._arrivals: list[_Arrival] = []
        self._staged: dict[str, _Arrival] = {}
        self._held = 0
        self._published = False

    async def add(self, name: str, content: AsyncIterator[bytes]) -> Measured:
        if name in self._staged:
            raise ValueError(f"a document named {name!r} is staged already")
        await self._ready()
        arrival = _Arrival(self._objects, self._threads)
        self._arrivals.append(arrival)
        rest = await self._all_but_the_last_part(arrival, content)
        if arrival.is_uploaded or self._held + len(rest) > self._part_bytes:
            await arrival.end(rest)
        else:
            self._held += len(rest)
            await arrival.hold(rest)
        self._staged[name] = arrival
        return arrival.measured

    async def _all_but_the_last_part(self, arrival: _Arrival, content: AsyncIterator[bytes]) -> bytearray:
        """Have a document sent as it comes, and return what is still to be sent. All parts but the last are equal."""
        part = bytearray()
        filled = size = 0
        async for chunk in content:
            size += len(chunk)
            if size > self._size_limit:
                raise DocumentTooLarge(self._size_limit)
            rest = memoryview(chunk)
            while rest:
                if filled == self._part_bytes:
                    part = await arrival.take(part)
                    filled = 0
                piece = rest[: self._part_bytes - filled]
                part[filled : filled + len(piece)] = piece
                filled += len(piece)
                rest = rest[len(piece) :]
        await arrival.idle()
        del part[filled:]
        return part

    async def publish(self, documents: Mapping[str, tuple[str, str]]) -> tuple[Kept, ...]:
        if self._published:
            raise RuntimeError("the documents of a submission are published once")
        self._published = True
        named = [(self._staged[name], unique_id, mime_type) for name, (unique_id, mime_type) in documents.items()]
        begun: list[Kept] = []
        try:
            return await self._all_published(named, begun)
        except BaseException:
            await self._unpublished(begun)
            raise

    async def _all_published(self, named: list[tuple[_Arrival, str, str]], begun: list[Kept]) -> tuple[Kept, ...]:
        """Publish some at a time. Where one fails, no more are begun, and those under way come to their end."""
        turns = asyncio.Semaphore(PUBLISHED_AT_ONCE)
        failures: list[BaseException] = []

        async def published(arrival: _Arrival, unique_id: str, mime_type: str) -> Kept | None:
            async with turns:
                if failures:
                    return None
                kept = arrival.described(unique_id, mime_type)
                begun.append(kept)
                try:
                    await arrival.publish(kept)
                except BaseException as failure:
                    failures.append(failure)
                    if isinstance(failure, StoreBusy):
                        # The server may still be at it. The description stays, so that bytes that come late are found.
                        begun.remove(kept)
                    raise
                return kept

        outcomes = await uninterrupted(asyncio.gather(*(published(*each) for each in named), return_exceptions=True))
        if failures:
            raise failures[0]
        return tuple(outcome for outcome in outcomes if isinstance(outcome, Kept))

    async def _unpublished(self, begun: list[Kept]) -> None:
        """Withdraw what was published of a submission that could not be published whole."""
        for kept in begun:
            try:
                await self._threads.done_within(UNDONE_WITHIN, partial(self._objects.withdraw, kept))
            except (StoreBusy, StoreFull) as problem:
                logger.warning(
                    "a document that was not published is left to the sweeper", extra={"problem": str(problem)}
                )
                return

    async def left(self) -> None:
        """Throw away what is still staged."""
        for arrival in self._arrivals:
            with suppress(StoreBusy, StoreFull):  # told by `add`
                await arrival.idle()
        for arrival in self._arrivals:
            try:
                await arrival.abort()
            except (StoreBusy, StoreFull) as problem:
                logger.warning("a broken upload is left to the sweeper", extra={"problem": str(problem)})
                return


class _Arrival:
    """A document on its way in: one part is sent while the next one arrives. Its methods are called in turn."""

    def __init__(self, objects: S3Objects, threads: S3Threads) -> None:
        self._objects = objects
        self._threads = threads
        self._key = uuid4().hex
        self._held = bytearray()
        self._sent = bytearray()
        self._upload_id: str | None = None
        self._etags: list[str] = []
        self._under_way: Awaitable[None] | None = None
        self._is_begun = False
        self._size = 0
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    @property
    def is_uploaded(self) -> bool:
        """Whether there is anything to be aborted."""
        return self._is_begun

    @property
    def measured(self) -> Measured:
        return Measured(size=self._size, hash=self._sha1.hexdigest(), sha256=self._sha256.hexdigest())

    async def hold(self, content: bytearray) -> None:
        """Take all of a small document, and send it when it is published."""
        self._held = content
        if len(content) <= HASHED_IN_THE_LOOP:
            self._measure(content)
        else:
            await self._threads.done(self._measure, content)

    async def take(self, part: bytearray) -> bytearray:
        """Send a part, and return the one before it to be written over: a transfer has two, and allocates no more."""
        await self.idle()
        free, self._sent = self._sent, part
        self._is_begun = True
        self._under_way = self._threads.begun(self._send, part)
        return free

    async def idle(self) -> None:
        """Wait until no thread works on the document."""
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            await uninterrupted(under_way)

    async def end(self, part: bytearray) -> None:
        await self.take(part)
        await self.idle()
        self._sent = bytearray()

    def described(self, unique_id: str, mime_type: str) -> Kept:
        return Kept(
            key=self._key,
            unique_id=unique_id,
            mime_type=mime_type,
            measured=self.measured,
            settled=False,
            published_at=self._objects.now(),
        )

    async def publish(self, kept: Kept) -> None:
        if self._upload_id is None:
            await self._threads.done(self._objects.publish_small, kept, self._held)
        else:
            await self._threads.done(self._objects.publish_uploaded, kept, self._upload_id, self._etags)
        self._is_begun = False
        self._held = bytearray()

    async def abort(self) -> None:
        if self._is_begun:
            self._is_begun = False
            abort = partial(self._objects.abort_upload, self._key, self._upload_id)
            await self._threads.done_within(UNDONE_WITHIN, abort)

    def _send(self, part: bytearray) -> None:
        self._measure(part)
        if self._upload_id is None:
            self._upload_id = self._objects.begin_upload(self._key)
        self._etags.append(self._objects.upload_part(self._key, self._upload_id, len(self._etags) + 1, part))

    def _measure(self, content: bytearray) -> None:
        self._size += len(content)
        self._sha1.update(content)
        self._sha256.update(content)
