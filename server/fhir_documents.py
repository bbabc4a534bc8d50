"""Documents as ITI-68 answers them: as they are, in part, or wrapped in a Binary.

MHD wants the document, and FHIR a Binary that holds it. A document is sent as it is where its own type is acceptable,
also by a wildcard; else as a Binary where FHIR is asked for in so many words, by Accept or by _format; else it is 406.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import quote

from aiohttp import web

from mhd.fhir.operation_outcome import Issue, IssueType, Outcome, Refused
from mhd.iti68_retrieve_document import FoundDocument
from mhd.mapping.identifiers import resource_id
from mhd.messages import FhirAnswer
from server.conditional_reads import has_already, http_date
from server.fhir_exchange import Exchange
from server.fhir_negotiation import Format, takes, wraps_document
from server.outgoing_message import streamed

_ANY: Final = "application/octet-stream"
_MEDIA_TYPE: Final = re.compile(r"[\x21-\x7e][\x20-\x7e]*")
_ONE_RANGE: Final = re.compile(r"bytes\s*=\s*([0-9]*)\s*-\s*([0-9]*)\s*")
_NOT_IN_A_NAME: Final = re.compile(r"[\x00-\x1f\x7f\"\\/:*?<>|]+")
_LONGEST_NAME: Final = 120


class _Part(NamedTuple):
    """Octets of a document: from the first up to, and without, the end."""

    start: int
    end: int


async def retrieved(found: FoundDocument, exchange: Exchange) -> web.StreamResponse:
    """Send a document. Raises Refused: 406, 413."""
    try:
        return await _sent(found, exchange)
    except Refused as refusal:
        refusal.accessed = found.accessed
        raise


async def _sent(found: FoundDocument, exchange: Exchange) -> web.StreamResponse:
    media_type = _media_type(found)
    accept = exchange.http.headers.get("Accept", "")
    form = exchange.format if any(name == "_format" for name, _ in exchange.parameters) else None
    if form is None and takes(accept, media_type):
        await exchange.disclosing(found.accessed)
        return await _as_it_is(found, media_type, exchange)
    form = form or wraps_document(accept)
    if form is None:
        text = f"The document is {media_type}, which Accept does not take; ask for that, for */*, or for FHIR."
        raise Refused(Issue(IssueType.NOT_SUPPORTED, text, http=HTTPStatus.NOT_ACCEPTABLE))
    response = await _wrapped(found, media_type, exchange, form)
    await exchange.disclosing(found.accessed)
    return response


async def _as_it_is(found: FoundDocument, media_type: str, exchange: Exchange) -> web.StreamResponse:
    size = found.document.size
    headers = {"Content-Type": media_type, "Content-Disposition": _disposition(found, media_type)}
    is_made_anew = found.document.new_document_unique_id is not None
    if not is_made_anew:
        headers["Accept-Ranges"] = "bytes"
    tag = _tag(found)
    if tag is not None:
        headers["ETag"] = f'"{tag}"'
    if found.last_updated is not None:
        headers["Last-Modified"] = http_date(found.last_updated)
    if has_already(exchange.http, tag, found.last_updated):
        return exchange.sent(web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers))
    # Two parts of a document that is made on demand may be of two documents.
    part = None if is_made_anew else _part_asked_for(exchange.http, headers.get("ETag"), size)
    if part is not None and part.start >= part.end:
        return await _out_of_range(exchange, size)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{size}"
    status = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
    part = part or _Part(0, size)
    headers["Content-Length"] = str(part.end - part.start)
    if exchange.http.method == "HEAD":
        return exchange.sent(web.Response(status=status, headers=headers))
    response = exchange.sent(web.StreamResponse(status=status, headers=headers))
    return await streamed(exchange.http, response, _pieces(found, part))


def _tag(found: FoundDocument) -> str | None:
    """What tells these octets from others: the hash, or what a document that was made on demand was made as."""
    made_as = found.document.new_document_unique_id
    if made_as is not None:
        return hashlib.sha256(made_as.encode()).hexdigest()
    return (found.entry.hash or "").lower() or None


async def _pieces(found: FoundDocument, part: _Part) -> AsyncIterator[bytes]:
    position = 0
    async with found.document.content() as chunks:
        async for chunk in chunks:
            piece = chunk[max(part.start - position, 0) : max(part.end - position, 0)]
            position += len(chunk)
            if piece:
                yield piece
            # A whole document is read to its end: only then it is known to be undamaged.
            if position >= part.end and part.end < found.document.size:
                return


def _part_asked_for(request: web.Request, etag: str | None, size: int) -> _Part | None:
    """What Range asks for (RFC 9110, 14.2), be it there or not; None: the whole, also for several ranges."""
    asked = _ONE_RANGE.fullmatch(request.headers.get("Range", ""))
    if asked is None or request.method != "GET" or request.headers.get("If-Range", etag) != etag:
        return None
    first, last = asked.groups()
    if not first and not last:
        return None
    if not first:
        part = _Part(max(size - int(last), 0), size)
    else:
        part = _Part(int(first), min(int(last) + 1 if last else size, size))
        if last and int(last) < int(first):
            return None
    return part


async def _out_of_range(exchange: Exchange, size: int) -> web.Response:
    text = f"The document has {size} octets; ask for a range within them."
    outcome = Outcome((Issue(IssueType.VALUE, text),))
    headers = {"Content-Range": f"bytes */{size}"}
    answer = FhirAnswer(outcome.resource(), HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
    return await exchange.response(answer, exchange.format_of_errors)


async def _wrapped(found: FoundDocument, media_type: str, exchange: Exchange, form: Format) -> web.Response:
    """The document in a Binary."""
    most = exchange.limits.inline_answer_bytes
    if found.document.size > most:
        text = (
            f"The document has {found.document.size} octets; at most {most} are sent in a Binary. Ask for it as it is: "
            f"Accept: {media_type}"
        )
        raise Refused(Issue(IssueType.TOO_COSTLY, text, http=HTTPStatus.REQUEST_ENTITY_TOO_LARGE))
    content = b"".join([piece async for piece in _pieces(found, _Part(0, found.document.size))])
    binary = {
        "resourceType": "Binary",
        "id": resource_id(found.entry.entry_uuid),
        "contentType": media_type,
        "data": base64.b64encode(content).decode(),
    }
    return await exchange.response(FhirAnswer(binary, etag=_tag(found), last_updated=found.last_updated), form)


def _media_type(found: FoundDocument) -> str:
    """As it was registered, where HTTP can carry that."""
    media_type = " ".join((found.entry.mime_type or found.document.mime_type).split())
    return media_type if _MEDIA_TYPE.fullmatch(media_type) else _ANY


def _disposition(found: FoundDocument, media_type: str) -> str:
    """For whoever saves it: a name that is no path and has no line breaks (RFC 6266)."""
    title = next((each.value for each in found.entry.title if each.value), "")
    name = _NOT_IN_A_NAME.sub(" ", title).strip(" .")[:_LONGEST_NAME] or resource_id(found.entry.entry_uuid)
    extension = mimetypes.guess_extension(media_type.partition(";")[0].strip()) or ""
    if not name.lower().endswith(extension):
        name += extension
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
