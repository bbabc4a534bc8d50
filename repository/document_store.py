"""Where the repository keeps documents: the port.

The way of a document (docs/adr/0003-a-document-is-kept-before-it-is-listed.md):
  stage      bytes arrive and are measured; a crash leaves nothing that can be read
  publish    they are durable under a key of their own; nobody is served them yet, but for `unsettled`
  settle     the registry has said yes: they are what their uniqueId means
  withdraw   the registry has said no: nothing stays
  remove     an administrator has said so (ITI-86): nothing stays
A crash or an unknown outcome between publish and settle leaves an unsettled document. Whoever needs to know
(a retrieval, the sweeper) asks the registry whether uniqueId and hash are registered, and settles or withdraws it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Measured:
    """What a store learns while the bytes pass.

    size     octets (ITI TF-3: 4.2.3.2.21)
    hash     SHA-1 as 40 lower-case hex digits (ITI TF-3: 4.2.3.2.10)
    sha256   64 lower-case hex digits, for our own integrity checks
    """

    size: int
    hash: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A document that a store holds, published or settled.

    key   names these bytes in this store and no others, ever
    """

    key: str
    unique_id: str
    mime_type: str
    measured: Measured
    settled: bool
    published_at: float  # seconds since 1970, of the store's clock


class Staging(Protocol):
    """The documents of one submission, on their way in. Leaving it withdraws what was not published."""

    async def add(self, name: str, content: AsyncIterator[bytes]) -> Measured:
        """Write one document as its bytes arrive.

        name      anything that tells this document from the others of the submission
        content   chunks in order, of any length; never held in memory as a whole
        Raises DocumentTooLarge, StoreFull, StoreBusy; what `content` raises passes through.
        """
        ...

    async def publish(self, documents: Mapping[str, tuple[str, str]]) -> tuple[Kept, ...]:
        """Make staged documents durable, each as (uniqueId, mimeType) by its staged name; once, and all or none.

        What was staged and is not named here is thrown away.
        Raises StoreFull, StoreBusy.
        """
        ...


class DocumentStore(Protocol):
    """Keeps documents by uniqueId. Settled bytes are never altered or overwritten; only `remove` takes them away.

    Every method may raise StoreBusy, and DocumentDamaged where the store can not tell what it holds.
    """

    def staging(self, *, size_limit: int | None = None) -> AbstractAsyncContextManager[Staging]:
        """Room for the documents of one submission; none of them may have more than `size_limit` octets."""
        ...

    async def settle(self, kept: Kept) -> Kept:
        """The registry has said yes to this document. Settled already: nothing happens.

        Where identical bytes are settled under the uniqueId, those stay and these go; the result tells which stay.
        Raises OtherBytesSettled where the uniqueId means other bytes: these stay unsettled, for the operator.
        Raises KeyError where the document is gone, StoreFull where there is no room to settle it.
        """
        ...

    async def withdraw(self, kept: Kept) -> None:
        """The registry has said no. Only an unsettled document goes; one that is gone already is no error."""
        ...

    async def remove(self, kept: Kept) -> None:
        """Somebody who may do so wants the document gone, settled or not; one that is gone already is no error.

        When this returns, nobody is served its bytes any more, and they are not in the store.
        """
        ...

    async def find(self, unique_id: str) -> Kept | None:
        """The settled document of this uniqueId."""
        ...

    async def unsettled(self, unique_id: str) -> tuple[Kept, ...]:
        """Published documents of this uniqueId that were neither settled nor withdrawn."""
        ...

    def all_unsettled(self, *, older_than_seconds: float) -> AsyncIterator[Kept]:
        """Every unsettled document published longer ago than that: what a sweeper looks at."""
        ...

    def all_settled(self) -> AsyncIterator[Kept]:
        """Every settled document, in any order: what is copied to another store.

        One that is settled meanwhile may be among them or not. Raises DocumentDamaged, after all the others, where
        the store can not tell what it holds: nobody is to believe that a copy is whole.
        """
        ...

    async def sweep_staged(self, *, older_than_seconds: float) -> int:
        """Throw away what was never published and has not grown for longer than that; return how many documents."""
        ...

    def read(self, kept: Kept) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes, in order. All of them are verified against sha256 before the last chunk is given.

        Raises DocumentDamaged, on opening or from the iterator, before its end, where they are not what was received.
        Raises KeyError on opening where the document is gone.
        """
        ...

    async def check(self) -> None:
        """Raise StoreBusy or StoreFull where a document could not be taken now: for /health/ready."""
        ...

    async def close(self) -> None:
        """Let go of files and connections."""
        ...


class DocumentTooLarge(Exception):
    """A document has more octets than the limit allows."""

    def __init__(self, size_limit: int) -> None:
        super().__init__(f"a document has more than {size_limit} octets")
        self.size_limit = size_limit


class DocumentDamaged(Exception):
    """The stored bytes are not those that were received."""


class OtherBytesSettled(Exception):
    """The uniqueId is that of a settled document with other bytes."""


class StoreBusy(Exception):
    """The store can not answer now. Answered as XDSRepositoryBusy."""


class StoreFull(Exception):
    """No room is left. Answered as XDSRepositoryOutOfResources."""
