"""Documents on their way out that are in no store: octets in one temporary file, until nobody needs them any more."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from repository.document_store import DocumentTooLarge, Measured, StoreFull
from repository.uninterrupted import in_thread

_CHUNK: Final = 256 * 1024
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class ScratchFile:
    """As many documents as are added, one after the other. The file is gone when the last of them is let go."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by what is in the next line
        weakref.finalize(self, self._file.close)
        self._end = 0

    async def add(self, content: AsyncIterator[bytes], *, size_limit: int | None = None) -> Scratch:
        """Write one document as its octets arrive, when the one before it is there.

        Raises DocumentTooLarge, StoreFull; what `content` raises passes through.
        """
        start, size = self._end, 0
        sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
        async for chunk in content:
            if size_limit is not None and size + len(chunk) > size_limit:
                raise DocumentTooLarge(size_limit)
            await in_thread(self._write, chunk, start + size)
            sha1.update(chunk)
            sha256.update(chunk)
            size += len(chunk)
        self._end = start + size
        return Scratch(self, start, Measured(size, sha1.hexdigest(), sha256.hexdigest()))

    async def read(self, at: int, size: int) -> bytes:
        """So many octets from there on, or fewer."""
        return await in_thread(self._read, at, size)

    def _write(self, chunk: bytes, at: int) -> None:
        octets = memoryview(chunk)
        try:
            while octets:
                written = os.pwrite(self._file.fileno(), octets, at)
                octets, at = octets[written:], at + written
        except OSError as problem:
            if problem.errno in _NO_ROOM:
                raise StoreFull("there is no room for temporary files") from problem
            raise

    def _read(self, at: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, at)


@dataclass(frozen=True, slots=True)
class Scratch:
    """A document in a ScratchFile, from octet `start` on."""

    file: ScratchFile
    start: int
    measured: Measured

    @asynccontextmanager
    async def content(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """An Opening (xds/actors.py)."""
        yield self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        at, end = self.start, self.start + self.measured.size
        while at < end:
            chunk = await self.file.read(at, min(_CHUNK, end - at))
            if not chunk:
                raise OSError("a temporary file ends before the documents in it")
            yield chunk
            at += len(chunk)
