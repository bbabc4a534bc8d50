"""Answers that are in pieces are sent as they are.

Putting half a megabyte together for every answer takes longer than the copy itself: it drives what the next request
needs out of the processor's caches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload


class _Pieces(Payload):
    """A body in pieces."""

    _value: Sequence[bytes]

    async def write(self, writer: AbstractStreamWriter) -> None:
        for piece in self._value:
            await writer.write(piece)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)


def in_pieces(
    pieces: Sequence[bytes], *, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A response whose body is these pieces, one after the other."""
    length = str(sum([len(piece) for piece in pieces]))
    return web.Response(status=status, body=_Pieces(pieces), headers={**(headers or {}), "Content-Length": length})
