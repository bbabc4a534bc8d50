"""What a server answers that was asked, to its end, and no more of it than it may have."""

from __future__ import annotations

import aiohttp


async def bounded_body(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    """The body, in however many pieces it comes; None: it has more than `most` octets, and is read no further."""
    received = bytearray()
    async for piece in response.content.iter_any():
        received += piece
        if len(received) > most:
            return None
    return bytes(received)
