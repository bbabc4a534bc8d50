"""Answers that are in pieces are sent as they are.

Putting half a megabyte together for every answer takes longer than the copy itself: it drives what the next request
needs out of the processor's caches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

_TAKEN_ALONG: Final = 16 * 1024


class _Pieces(Payload):
    """A body in pieces."""

    _value: Sequence[bytes]

    async def write(self, writer: AbstractStreamWriter) -> None:
        for piece in _led_by_more(self._value):
            await writer.write(piece)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)


def _led_by_more(pieces: Sequence[bytes]) -> Iterable[bytes | memoryview]:
    """The same, where a short first piece takes the beginning of the next one along.

    Each piece is sent by itself, and the head of a searchset alone would be a packet for which a client is woken.
    """
    first, second, *rest = (*pieces, b"", b"")
    if len(first) > _TAKEN_ALONG:
        return pieces
    led: tuple[bytes | memoryview, ...] = (first + second[:_TAKEN_ALONG], memoryview(second)[_TAKEN_ALONG:], *rest)
    return [each for each in led if each]


def in_pieces(
    pieces: Sequence[bytes], *, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A response whose body is these pieces, one after the other."""
    length = str(sum([len(piece) for piece in pieces]))
    return web.Response(status=status, body=_Pieces(pieces), headers={**(headers or {}), "Content-Length": length})
