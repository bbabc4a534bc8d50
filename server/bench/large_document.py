"""One large document over HTTP, there and back, in blocks that nobody keeps.

Sockets are used as they are: what is measured is the server, and a client that hashes and copies as little as can be.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
from collections.abc import Callable, Iterator
from typing import Final

from server.bench.load import LoadFailed
from server.bench.messages import FIRST_NUMBER, Template, provide, retrieve
from xds.mtom import MultipartReader, PartData, PartStarted

BLOCK: Final = 1024 * 1024
_HOST: Final = "127.0.0.1"
_SILENCE_SECONDS: Final = 120.0

Taking = Callable[[bytes], object]
"""What is done with each block of a document."""


def blocks(size: int) -> Iterator[bytes]:
    """`size` octets that are made up, of which no two blocks are alike."""
    base = hashlib.shake_256(b"a large document").digest(BLOCK)
    for start in range(0, size, BLOCK):
        yield (start.to_bytes(16) + base)[: min(BLOCK, size - start)]


def send(port: int, run: int, size: int, taking: Taking | None = None) -> None:
    """ITI-41 of one document. Raises LoadFailed where it was not accepted."""
    message = provide(run, size)
    with _connection(port) as connection:
        connection.sendall(_numbered(message.head))
        for block in blocks(size):
            connection.sendall(block)
            if taking is not None:
                taking(block)
        connection.sendall(_numbered(message.tail))
        answer = _answer(connection)
        body = answer.read()
    if b"ResponseStatusType:Success" not in body:
        raise LoadFailed(f"the document was refused: {body[:2000].decode('utf-8', 'replace')}")


def fetch(port: int, run: int, taking: Taking | None = None) -> int:
    """ITI-43 of the document that `send` brought. Returns octets of it that came. Raises LoadFailed."""
    with _connection(port) as connection:
        connection.sendall(_numbered(retrieve(run).message))
        answer = _answer(connection)
        reader = MultipartReader(answer.headers["Content-Type"])
        in_document, size = False, 0
        while block := answer.read1(BLOCK):
            for event in reader.feed(block):
                match event:
                    case PartStarted(part):
                        in_document = not part.is_root
                    case PartData(data) if in_document:
                        size += len(data)
                        if taking is not None:
                            taking(data)
    return size


def _numbered(message: bytes) -> bytes:
    return Template(message).numbered(FIRST_NUMBER, 0)


def _connection(port: int) -> socket.socket:
    return socket.create_connection((_HOST, port), timeout=_SILENCE_SECONDS)


def _answer(connection: socket.socket) -> http.client.HTTPResponse:
    answer = http.client.HTTPResponse(connection, method="POST")
    answer.begin()
    if answer.status != http.client.OK:
        raise LoadFailed(f"the server answered {answer.status}: {answer.read(2000).decode('utf-8', 'replace')}")
    return answer
