"""Other servers that a deployment trusts. Whatever a message refers to, nothing else is ever asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NoReturn, Protocol

from mhd.fhir.exact_text import Json


class Unreachable(Exception):
    """A trusted server did not give what it was asked for: the end of a sentence that begins with `The document`."""


@dataclass(frozen=True, slots=True)
class FetchedDocument:
    """A document of another server while it comes.

    mime_type   None: the server does not say
    """

    mime_type: str | None
    content: AsyncIterator[bytes]


class Elsewhere(Protocol):
    """The servers that are trusted."""

    def has_document(self, url: str) -> bool:
        """Whether the document at an absolute URL may be fetched."""
        ...

    def document(self, url: str) -> AbstractAsyncContextManager[FetchedDocument]:
        """Fetches it. Only where has_document(). Raises Unreachable, and so does reading it."""
        ...

    async def patient(self, url: str) -> Json | None:
        """The Patient at an absolute URL; None: it is on no trusted server, or not to be had."""
        ...


class Nowhere:
    """Elsewhere of a deployment that trusts nobody else."""

    def has_document(self, _url: str) -> bool:
        return False

    def document(self, url: str) -> NoReturn:
        raise Unreachable(f"is at {url}, which is not trusted")

    async def patient(self, _url: str) -> Json | None:
        return None
