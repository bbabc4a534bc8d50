"""A document on its way out of a bucket: one block is fetched while the one before it is taken.

Each block is a request of its own. A reader that is slow holds no connection, and a broken one costs one block.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable
from contextlib import suppress
from typing import Final

from repository.document_store import DocumentDamaged, Kept, StoreBusy
from repository.s3_client import Absent
from repository.s3_objects import S3Objects
from repository.s3_threads import S3Threads
from repository.uninterrupted import uninterrupted

BLOCK: Final = 4 * 1024 * 1024
"""Octets of one request. A transfer holds two blocks."""
CHUNK: Final = 256 * 1024
"""Octets that are given at once."""


class S3Reading:
    """Blocks of one document, verified: the last one is given when all of them were found to be right."""

    def __init__(self, kept: Kept, objects: S3Objects, threads: S3Threads) -> None:
        self._kept = kept
        self._objects = objects
        self._threads = threads
        self._sha256 = hashlib.sha256()
        self._at = 0
        self._first = bytearray()
        self._ahead: Awaitable[bytearray] | None = None

    async def open(self) -> None:
        """Fetch the first block, which is all of most documents.

        Raises KeyError where the document is gone, DocumentDamaged.
        """
        self._first = await self._threads.done(self._next_block)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        block = self._first
        self._first = bytearray()
        while block:
            self._ahead = self._threads.begun(self._next_block) if self._at < self._kept.measured.size else None
            with memoryview(block) as view:
                for start in range(0, len(block), CHUNK):
                    yield bytes(view[start : start + CHUNK])
            block = await uninterrupted(self._ahead) if self._ahead is not None else bytearray()

    async def close(self) -> None:
        if self._ahead is not None:
            with suppress(KeyError, DocumentDamaged, StoreBusy):  # told by `chunks`, or no longer of interest
                await uninterrupted(self._ahead)

    def _next_block(self) -> bytearray:
        size = self._kept.measured.size
        octets = min(BLOCK, size - self._at)
        try:
            block, whole = self._objects.content(self._kept, self._at, octets)
        except Absent:
            self._kept = self._objects.settled_instead_of(self._kept)
            block, whole = self._objects.content(self._kept, self._at, octets)
        if whole != size or len(block) != octets:
            raise DocumentDamaged(f"{self._kept.key} has {whole} octets instead of {size}")
        self._sha256.update(block)
        self._at += len(block)
        if self._at == size and self._sha256.hexdigest() != self._kept.measured.sha256:
            raise DocumentDamaged(f"the bytes of {self._kept.key} were altered")
        return block
