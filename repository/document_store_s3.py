"""Documents in a bucket of an S3 server: MinIO, or any other that knows conditional writes.

What is in the bucket when, and what a crash leaves, is told in repository/s3_objects.py, which makes the requests.
Here that work is put into threads. A small document costs two requests to publish, three to settle, and two to find and
read; a large one is hashed and sent while its next part arrives. docs/adr/0006-documents-in-s3.md tells why it is so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from itertools import islice
from typing import Final
from uuid import uuid4

from repository.document_store import DocumentDamaged, Kept, Staging
from repository.s3_client import SMALLEST_PART, Bucket, Listed, S3Client
from repository.s3_layout import Layout
from repository.s3_objects import S3Objects
from repository.s3_reading import S3Reading
from repository.s3_staging import S3Staging
from repository.s3_threads import S3Threads
from repository.uninterrupted import uninterrupted

PART_BYTES: Final = 8 * 1024 * 1024
REQUEST_SECONDS: Final = 20.0
PROBED_WITHIN: Final = 3.0
"""Seconds: whoever asks whether the store is ready does not wait as long as whoever sends a document."""
_LISTED_AT_ONCE: Final = 1000
_DESCRIBED_AT_ONCE: Final = 16


class S3DocumentStore:
    """Two objects per document: its bytes, and a description under the name that its uniqueId gives.

    Nothing is asked of the server before the first use, which makes the bucket where it is not there.

    bucket            where the documents go
    prefix            what the names of all objects begin with, up to a slash: "" or for example "toimik"
    versioning        have the bucket keep versions, against whoever overwrites or deletes objects past this program
    part_bytes        octets of a part of a large document; its transfer holds two parts in memory. At least 5 MiB, and
                      of no document more than 10,000 parts are taken
    request_seconds   how long a step may take, tries again included, before the store is busy
    requests_at_once  connections to the server, each with a thread
    Raises ValueError where one of them can not be used.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        prefix: str = "",
        versioning: bool = False,
        part_bytes: int = PART_BYTES,
        request_seconds: float = REQUEST_SECONDS,
        requests_at_once: int = 32,
    ) -> None:
        if part_bytes < SMALLEST_PART:
            raise ValueError(f"a part of a document has at least {SMALLEST_PART} octets in S3, not {part_bytes}")
        self._client = S3Client(bucket, connections=requests_at_once)
        self._layout = Layout.under(prefix)
        self._objects = S3Objects(self._client, self._layout)
        self._threads = S3Threads(self._client, at_once=requests_at_once, seconds=request_seconds)
        self._versioning = versioning
        self._part_bytes = part_bytes
        self._prepared: asyncio.Future[None] | None = None

    @asynccontextmanager
    async def staging(self, *, size_limit: int | None = None) -> AsyncIterator[Staging]:
        staging = S3Staging(
            self._objects, self._threads, self._ready, part_bytes=self._part_bytes, size_limit=size_limit
        )
        try:
            yield staging
        finally:
            await uninterrupted(staging.left())

    async def settle(self, kept: Kept) -> Kept:
        await self._ready()
        return await self._threads.done(self._objects.settle, kept)

    async def withdraw(self, kept: Kept) -> None:
        await self._ready()
        await self._threads.done(self._objects.withdraw, kept)

    async def remove(self, kept: Kept) -> None:
        await self._ready()
        await self._threads.done(self._objects.remove, kept)

    async def find(self, unique_id: str) -> Kept | None:
        await self._ready()
        return await self._threads.done(self._objects.find, unique_id)

    async def unsettled(self, unique_id: str) -> tuple[Kept, ...]:
        await self._ready()
        return await self._threads.done(self._objects.unsettled, unique_id)

    async def all_unsettled(self, *, older_than_seconds: float) -> AsyncIterator[Kept]:
        await self._ready()
        published_until = await self._threads.done(self._objects.store_clock) - older_than_seconds
        async for page in self._listed(self._layout.all_unsettled):
            old = [each.name for each in page if each.modified <= published_until]
            async for kept in self._described(old, settled=False):
                yield kept

    async def all_settled(self) -> AsyncIterator[Kept]:
        await self._ready()
        damaged = 0
        async for page in self._listed(self._layout.all_settled):
            seen = 0
            async for kept in self._described([each.name for each in page], settled=True):
                seen += 1
                yield kept
            damaged += len(page) - seen
        if damaged:
            raise DocumentDamaged(f"{damaged} objects of {self._layout.all_settled} describe no document")

    async def sweep_staged(self, *, older_than_seconds: float) -> int:
        await self._ready()
        idle_since = await self._threads.done(self._objects.store_clock) - older_than_seconds
        swept = 0
        async for page in self._listed(self._layout.all_incoming):
            for mark in page:
                if mark.modified <= idle_since:
                    swept += await self._threads.done(self._objects.sweep_incoming, mark, idle_since)
        return swept

    @asynccontextmanager
    async def read(self, kept: Kept) -> AsyncIterator[AsyncIterator[bytes]]:
        await self._ready()
        reading = S3Reading(kept, self._objects, self._threads)
        await reading.open()
        try:
            async with aclosing(reading.chunks()) as chunks:
                yield chunks
        finally:
            await reading.close()

    async def check(self) -> None:
        await self._ready()
        await self._threads.done_within(PROBED_WITHIN, partial(self._objects.probe, uuid4().hex))

    async def close(self) -> None:
        self._threads.close()
        self._client.disconnect()

    async def _ready(self) -> None:
        """Have the bucket prepared, once; whoever comes meanwhile waits for the same outcome."""
        if self._prepared is None:
            prepare = partial(self._objects.prepare, versioning=self._versioning)
            self._prepared = asyncio.ensure_future(self._threads.begun(prepare))
        prepared = self._prepared
        if not prepared.done():
            await asyncio.wait([prepared])
        if prepared.exception() is not None and self._prepared is prepared:
            self._prepared = None  # the next one tries again
        prepared.result()

    async def _listed(self, prefix: str) -> AsyncIterator[list[Listed]]:
        objects = self._objects.listed(prefix)
        while page := await self._threads.done(_next_page, objects):
            yield page

    async def _described(self, names: list[str], *, settled: bool) -> AsyncIterator[Kept]:
        described_by = partial(self._objects.described_by, settled=settled)
        for start in range(0, len(names), _DESCRIBED_AT_ONCE):
            some = names[start : start + _DESCRIBED_AT_ONCE]
            for kept in await asyncio.gather(*(self._threads.done(described_by, name) for name in some)):
                if kept is not None:
                    yield kept


def _next_page(objects: Iterator[Listed]) -> list[Listed]:
    return list(islice(objects, _LISTED_AT_ONCE))
