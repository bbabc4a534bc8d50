"""Where a search goes on: sealed, so that nobody can read or change it, and of no use after a while.

A cursor holds the search itself, so the URL of the next page has no data of patients in it, also where the search was
posted; and nothing is kept here between two pages.
"""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from cryptography.fernet import Fernet, InvalidToken

from mhd.fhir.operation_outcome import Issue, IssueType, Refused
from mhd.searching.search_request import Pair
from xds.metadata import ObjectKind
from xds.paged_search import Place

_MOST_INSIDE: Final = 200_000
_WORTH_COMPRESSING: Final = 1000
"""Compressing fewer octets takes more than three times as long as sealing them."""
_OBJECT: Final = b"{"  # which is not what compressed octets begin with


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a search goes on.

    search    DocumentReference or List
    used      its parameters
    total     how many it found when it began
    as_of     by kind of object: the moment of the first page
    after     by kind: the last object that was told; a kind of which none was has none
    """

    search: str
    used: tuple[Pair, ...]
    total: int
    as_of: Mapping[ObjectKind, str]
    after: Mapping[ObjectKind, Place]


class Cursors:
    """Seals and opens cursors."""

    def __init__(self, secret: bytes, seconds: int, *, longest: int = 20_000) -> None:
        """Cursors for URLs of a certain length.

        secret    32 octets, the same for every process that is asked
        seconds   how long a cursor is of use
        longest   characters that it may have
        """
        self._fernet = Fernet(base64.urlsafe_b64encode(secret))
        self._seconds = seconds
        self._longest = longest

    def sealed(self, resumption: Resumption) -> str:
        """The text that stands for it in a URL. Raises Refused: the search is too long for that."""
        inside = orjson.dumps(
            {
                "search": resumption.search,
                "used": resumption.used,
                "total": resumption.total,
                "as_of": {kind.value: each for kind, each in resumption.as_of.items()},
                "after": {kind.value: tuple(each) for kind, each in resumption.after.items()},
            }
        )
        short = inside if len(inside) < _WORTH_COMPRESSING else zlib.compress(inside)
        sealed = self._fernet.encrypt(short).decode()
        if len(sealed) > self._longest or len(inside) > _MOST_INSIDE:
            raise Refused(_TOO_LONG)
        return sealed

    def opened(self, text: str, search: str) -> Resumption:
        """What was sealed. Raises Refused: 410 where it is too old, 400 where nothing of ours was sealed in it."""
        token = text.encode() if text.isascii() and len(text) <= self._longest else b""
        try:
            if self._fernet.extract_timestamp(token) + self._seconds < time.time():
                raise Refused(_EXPIRED)
            inside = self._fernet.decrypt(token)
            if not inside.startswith(_OBJECT):
                inside = zlib.decompressobj().decompress(inside, _MOST_INSIDE)
        except InvalidToken:
            raise Refused(_NOT_OURS) from None
        found = _read(orjson.loads(inside))
        if found.search != search:
            raise Refused(_NOT_OURS)
        return found


def _read(inside: Mapping[str, Any]) -> Resumption:
    return Resumption(
        inside["search"],
        tuple((name, value) for name, value in inside["used"]),
        inside["total"],
        {ObjectKind(kind): each for kind, each in inside["as_of"].items()},
        {ObjectKind(kind): Place(*each) for kind, each in inside["after"].items()},
    )


MERGED: Final = Issue(
    IssueType.EXPIRED,
    "The patient was merged with another since the search began; search again from its first page.",
    "_page",
    http=410,
)
"""Of a cursor whose search no longer has a next page."""
_TOO_LONG: Final = Issue(
    IssueType.TOO_COSTLY,
    "The search has so many values that the URL of its next page would be too long; ask for fewer of them at a time, "
    "or with a _count that has room for all that is found.",
    http=400,
)
_EXPIRED: Final = Issue(
    IssueType.EXPIRED, "This page of the search is no longer kept; search again from its first page.", "_page", http=410
)
_NOT_OURS: Final = Issue(
    IssueType.INVALID, "_page is no cursor of this search; take the URL from link.next as it is.", "_page"
)
