"""Documents in a directory: the embedded default, for one host or for several that share a filesystem.

What is on the disk when, and what a crash leaves, is told in repository/document_tree.py, which does the blocking
work. Here that work is put into threads: a small document costs one thread to publish, one to settle and one to read;
a large one is hashed and written while its next block arrives.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from repository.document_store import DocumentDamaged, DocumentTooLarge, Kept, Measured, Staging, StoreBusy, StoreFull
from repository.document_tree import DocumentTree, IncomingFile, OutgoingFile
from repository.uninterrupted import begun, in_thread, uninterrupted

BLOCK: Final = 256 * 1024
"""Octets per piece of blocking work. A transfer holds two: one at the disk and one at the network."""
FEW_CHUNKS: Final = 64
"""Chunks of a block that are written one by one."""
HASHED_IN_THE_LOOP: Final = 64 * 1024
"""Octets that are hashed about as fast as a thread is woken."""
HELD: Final = 512 * 1024
"""Octets of small documents that one submission holds in memory until they are published."""


class FilesystemDocumentStore:
    """One file per document. Staged under the same root, so that publishing is a rename.

    min_free_bytes   what stays free on the filesystem: nothing is written that would leave less
    """

    def __init__(self, root: Path, *, min_free_bytes: int = 64 * 1024 * 1024) -> None:
        self._tree = DocumentTree(root, min_free_bytes=min_free_bytes)

    @asynccontextmanager
    async def staging(self, *, size_limit: int | None = None) -> AsyncIterator[Staging]:
        staging = _FilesystemStaging(self._tree, size_limit)
        try:
            yield staging
        finally:
            await uninterrupted(staging.left())

    async def settle(self, kept: Kept) -> Kept:
        return await in_thread(self._tree.settle, kept)

    async def withdraw(self, kept: Kept) -> None:
        await in_thread(self._tree.withdraw, kept)

    async def remove(self, kept: Kept) -> None:
        await in_thread(self._tree.remove, kept)

    async def find(self, unique_id: str) -> Kept | None:
        return await in_thread(self._tree.find, unique_id)

    async def unsettled(self, unique_id: str) -> tuple[Kept, ...]:
        return await in_thread(self._tree.unsettled, unique_id)

    async def all_unsettled(self, *, older_than_seconds: float) -> AsyncIterator[Kept]:
        published_until = time.time() - older_than_seconds
        for directory in await in_thread(self._tree.unsettled_directories):
            for kept in await in_thread(self._tree.unsettled_in, directory, published_until):
                yield kept

    async def all_settled(self) -> AsyncIterator[Kept]:
        damaged = 0
        for directory in await in_thread(self._tree.settled_directories):
            documents, unreadable = await in_thread(self._tree.settled_in, directory)
            damaged += unreadable
            for kept in documents:
                yield kept
        if damaged:
            raise DocumentDamaged(
                f"{damaged} files of settled documents do not tell what they hold; the log names them"
            )

    async def sweep_staged(self, *, older_than_seconds: float) -> int:
        return await in_thread(self._tree.sweep_incoming, time.time() - older_than_seconds)

    @asynccontextmanager
    async def read(self, kept: Kept) -> AsyncIterator[AsyncIterator[bytes]]:
        reading = _Reading(OutgoingFile(kept, self._tree))
        try:
            await in_thread(reading.open)
            async with aclosing(reading.blocks()) as blocks:
                yield blocks
        finally:
            await reading.close()

    async def check(self) -> None:
        await in_thread(self._tree.probe)

    async def close(self) -> None:
        """Nothing is held between calls."""


class _FilesystemStaging:
    def __init__(self, tree: DocumentTree, size_limit: int | None) -> None:
        self._tree = tree
        self._size_limit = size_limit
        self._arrivals: list[_Arrival] = []
        self._staged: dict[str, IncomingFile] = {}
        self._held = 0
        self._published = False

    async def add(self, name: str, content: AsyncIterator[bytes]) -> Measured:
        if name in self._staged:
            raise ValueError(f"a document named {name!r} is staged already")
        arrival = _Arrival(self._tree.new_file())
        self._arrivals.append(arrival)
        rest = await self._all_but_the_last_block(arrival, content)
        size = sum(map(len, rest))
        if arrival.file.on_disk or self._held + size > HELD:
            await arrival.end(rest)
        else:
            self._held += size
            await arrival.hold(b"".join(rest))
        self._staged[name] = arrival.file
        return arrival.file.measured

    async def _all_but_the_last_block(self, arrival: _Arrival, content: AsyncIterator[bytes]) -> Sequence[bytes]:
        """Have a document written as it comes, and return the chunks that are still to be written."""
        chunks: list[bytes] = []
        waiting = size = 0
        async for chunk in content:
            waiting += len(chunk)
            size += len(chunk)
            if self._size_limit is not None and size > self._size_limit:
                raise DocumentTooLarge(self._size_limit)
            chunks.append(chunk)
            if waiting >= BLOCK:
                await arrival.take(_fit_to_write(chunks))
                chunks, waiting = [], 0
        await arrival.idle()
        return _fit_to_write(chunks)

    async def publish(self, documents: Mapping[str, tuple[str, str]]) -> tuple[Kept, ...]:
        if self._published:
            raise RuntimeError("the documents of a submission are published once")
        self._published = True
        if not documents:
            return ()
        files = [(self._staged[name], unique_id, mime_type) for name, (unique_id, mime_type) in documents.items()]
        return await in_thread(self._tree.publish, files)

    async def left(self) -> None:
        """Throw away what is still staged."""
        for arrival in self._arrivals:
            with suppress(OSError, StoreBusy, StoreFull):  # told by `add`, or no longer of interest
                await arrival.idle()
        left_over = [arrival.file for arrival in self._arrivals if arrival.file.on_disk]
        if left_over:
            await in_thread(_discard, left_over)


def _discard(files: Sequence[IncomingFile]) -> None:
    for file in files:
        file.discard()


def _fit_to_write(chunks: Sequence[bytes]) -> Sequence[bytes]:
    """The chunks of a block; very small ones joined, because each is a system call."""
    return chunks if len(chunks) <= FEW_CHUNKS else [b"".join(chunks)]


class _Arrival:
    """A document on its way in: one block is written while the next one arrives."""

    def __init__(self, file: IncomingFile) -> None:
        self.file = file
        self._writing: Awaitable[None] | None = None

    async def take(self, chunks: Sequence[bytes]) -> None:
        await self.idle()
        self._writing = begun(self.file.write, chunks)

    async def idle(self) -> None:
        """Wait until no thread works on the file."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await uninterrupted(writing)

    async def end(self, chunks: Sequence[bytes]) -> None:
        await in_thread(self.file.end, chunks)

    async def hold(self, content: bytes) -> None:
        if len(content) <= HASHED_IN_THE_LOOP:
            self.file.hold(content)
        else:
            await in_thread(self.file.hold, content)


class _Reading:
    """A document on its way out: one block is read while the one before it is taken."""

    def __init__(self, file: OutgoingFile) -> None:
        self._file = file
        self._first = b""
        self._ahead: Awaitable[bytes] | None = None

    def open(self) -> None:
        """Blocking. Most documents have one block, and are read and verified with this."""
        self._file.open()
        self._first = self._file.next_block(BLOCK)

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        block = self._first
        while block:
            self._ahead = begun(self._file.next_block, BLOCK) if self._file.left else None
            yield block
            block = await uninterrupted(self._ahead) if self._ahead is not None else b""

    async def close(self) -> None:
        if self._ahead is not None:
            with suppress(OSError, DocumentDamaged, StoreBusy):  # told by `blocks`, or no longer of interest
                await uninterrupted(self._ahead)
        self._file.close()
