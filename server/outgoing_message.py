"""A SOAP answer on its way out, simple or MTOM.

Every length is known before the first byte goes, so that answers carry a Content-Length, and no document is ever held
as a whole: its bytes pass from the store to the connection.
"""

from __future__ import annotations

import binascii
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from server.incoming_message import ClientGone
from server.large_answers import LargeAnswers
from xds import mtom, soap
from xds.actors import RetrievedDocument
from xds.errors import RegistryError, ResponseStatus


@dataclass(frozen=True, slots=True)
class Answer:
    """What a transaction answers.

    body        the body element, in pieces; a document among them is written there as base64
    documents   documents to attach as MIME parts, each under its content_id
    documents_kept   how many documents were stored and registered before this was answered
    """

    action: str
    status: ResponseStatus
    body: Sequence[bytes | RetrievedDocument]
    errors: tuple[RegistryError, ...] = ()
    documents: tuple[tuple[str, RetrievedDocument], ...] = ()
    documents_kept: int = 0


async def sent(
    request: web.Request, answer: Answer, *, large: LargeAnswers, is_mtom: bool, relates_to: str | None
) -> web.StreamResponse:
    """Send `answer` and return what was sent. A document that fails on the way cuts the connection.

    Raises NoRoom before anything is sent; ClientGone.
    """
    head = soap.envelope_head(answer.action, relates_to)
    if large.counts(sum([len(piece) for piece in answer.body if isinstance(piece, bytes)])):
        with large.room_for_one():
            return await (_mtom if is_mtom else _in_pieces)(request, answer, head)
    if is_mtom:
        return _whole_package(answer, head) if not answer.documents else await _mtom(request, answer, head)
    if all(isinstance(piece, bytes) for piece in answer.body):
        return web.Response(body=_root(answer, head), headers={"Content-Type": _simple_content_type(answer.action)})
    return await _in_pieces(request, answer, head)


def _simple_content_type(action: str) -> str:
    return f'{soap.CONTENT_TYPE}; action="{action}"'


def _root(answer: Answer, head: bytes) -> bytes:
    """The envelope, which holds no document."""
    return b"".join((head, *(piece for piece in answer.body if isinstance(piece, bytes)), soap.ENVELOPE_TAIL))


def _whole_package(answer: Answer, head: bytes) -> web.Response:
    package = mtom.Package(_root(answer, head), [], action=answer.action)
    return web.Response(
        body=package.head() + package.tail(), headers={"Content-Type": package.content_type, "MIME-Version": "1.0"}
    )


async def _mtom(request: web.Request, answer: Answer, head: bytes) -> web.StreamResponse:
    parts = [
        mtom.PartToWrite(content_id, document.mime_type, document.size) for content_id, document in answer.documents
    ]
    package = mtom.Package(_root(answer, head), parts, action=answer.action)

    async def pieces() -> AsyncIterator[bytes]:
        yield package.head()
        for index, (_, document) in enumerate(answer.documents):
            yield package.part_head(index)
            async with document.content() as chunks:
                async for chunk in chunks:
                    yield chunk
        yield package.tail()

    return await _streamed(request, package.content_type, package.content_length, pieces())


async def _in_pieces(request: web.Request, answer: Answer, head: bytes) -> web.StreamResponse:
    everything: tuple[bytes | RetrievedDocument, ...] = (head, *answer.body, soap.ENVELOPE_TAIL)
    length = sum(len(piece) if isinstance(piece, bytes) else _base64_length(piece.size) for piece in everything)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in everything:
            if isinstance(piece, bytes):
                yield piece
                continue
            async with piece.content() as chunks:
                async for encoded in _base64(chunks):
                    yield encoded

    return await _streamed(request, _simple_content_type(answer.action), length, pieces())


async def _streamed(
    request: web.Request, content_type: str, length: int, pieces: AsyncIterator[bytes]
) -> web.StreamResponse:
    response = web.StreamResponse(
        status=HTTPStatus.OK, headers={"Content-Type": content_type, "Content-Length": str(length)}
    )
    return await streamed(request, response, pieces)


async def streamed(
    request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Send a response whose headers are complete. What fails on the way cuts the connection."""
    await response.prepare(request)
    try:
        async for piece in pieces:
            await _written(response, piece)
        await response.write_eof()
    except BaseException:
        # The status line has gone already: a connection cut short of its Content-Length is all that can still be said.
        if request.transport is not None:
            request.transport.abort()
        raise
    return response


async def _written(response: web.StreamResponse, piece: bytes) -> None:
    try:
        await response.write(piece)
    except ConnectionError as gone:
        raise ClientGone("the connection was lost in the middle of the answer") from gone


def _base64_length(size: int) -> int:
    return (size + 2) // 3 * 4


async def _base64(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    held = b""
    async for chunk in chunks:
        data = held + chunk
        whole = len(data) - len(data) % 3
        held = data[whole:]
        if whole:
            yield binascii.b2a_base64(data[:whole], newline=False)
    if held:
        yield binascii.b2a_base64(held, newline=False)
