"""One FHIR request as it comes in, and the answer as it goes out: bodies, formats, headers.

Nothing is read beyond limits.fhir_bytes, and a sender who falls silent is not waited for (limits.idle_seconds).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qsl

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import ContentEncodingError

from mhd.fhir import fhir_json
from mhd.fhir.operation_outcome import Issue, IssueType, Refused
from mhd.messages import FHIR_JSON, FhirAnswer, FhirRequest
from server.conditional_reads import has_already, http_date
from server.fhir_negotiation import Format, format_of_body, format_wanted, preferences
from server.fhir_xml import FhirXmlProblem, from_xml, to_xml
from server.pieces import in_pieces
from server.requester import Requester
from server.settings.limits import Limits
from xds.audit import Accessed
from xds.xml import XmlLimits

FORM: Final = "application/x-www-form-urlencoded"

_CONTENT_TYPES: Final = {each: f"{each.value}; charset=utf-8" for each in Format}
_LONG: Final = 256 * 1024  # octets; what takes longer to convert than others should wait goes to a thread
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")
_LONGEST_FORM: Final = 1024 * 1024
_CODINGS: Final = ("", "identity", "gzip", "deflate")  # what the HTTP library undoes by itself, and nothing


_Response = TypeVar("_Response", bound=web.StreamResponse)


Disclosing: TypeAlias = Callable[[Accessed], Awaitable[None]]
"""Told of what is about to be sent; what it raises keeps it from being sent."""


async def _to_nobody(_accessed: Accessed) -> None:
    pass


class ClientGone(Exception):
    """The connection was lost in the middle of the request: there is nobody to answer."""


class Exchange:
    """One request and its answer.

    requester    who asks, as an access token says; None: nobody was asked for one
    form_body    of a search that was posted, as it came
    disclosing   asked before a document is sent
    """

    def __init__(self, request: web.Request, limits: Limits) -> None:
        self.http = request
        self.received = 0
        self.requester: Requester | None = None
        self._limits = limits
        self._form: Sequence[tuple[str, str]] = ()
        self.form_body = b""
        self.disclosing: Disclosing = _to_nobody

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def request_id(self) -> str:
        """X-Request-Id, "" where there is none that can be sent back."""
        sent = self.http.headers.get("X-Request-Id", "")
        return sent if _REQUEST_ID.fullmatch(sent) else ""

    @property
    def parameters(self) -> Sequence[tuple[str, str]]:
        """Those of the URL, and after them those of the form."""
        return [*self._query, *self._form]

    @cached_property
    def _query(self) -> Sequence[tuple[str, str]]:
        return parse_qsl(self.http.rel_url.raw_query_string, keep_blank_values=True, encoding="utf-8", errors="replace")

    @property
    def format(self) -> Format:
        """In which form to answer. Raises Refused (406)."""
        given = [value for name, value in self.parameters if name == "_format"]
        return format_wanted(given[-1] if given else None, self.http.headers.get("Accept", ""))

    @property
    def format_of_errors(self) -> Format:
        """The same; JSON where nothing is wanted that there is."""
        try:
            return self.format
        except Refused:
            return Format.JSON

    def said(self) -> FhirRequest:
        """What headers say, beside the form of a body."""
        wanted, strict = preferences(", ".join(self.http.headers.getall("Prefer", ())))
        return FhirRequest(FHIR_JSON, wanted, strict, self.request_id, self.http.headers.get("If-None-Exist"))

    def said_of_body(self) -> FhirRequest:
        """What headers say, also of the body that comes with them. Raises Refused (415)."""
        return replace(self.said(), mime_type=format_of_body(self.http.headers.get("Content-Type", "")).value)

    async def read_form(self) -> None:
        """Take the parameters of a search that is posted. Raises Refused (413, 415)."""
        if not self.http.body_exists:
            return
        content_type = self.http.headers.get("Content-Type", FORM)
        body = await self._body(min(self._limits.fhir_bytes, _LONGEST_FORM))
        if not body:
            return
        if content_type.partition(";")[0].strip().lower() != FORM:
            raise Refused(
                Issue(
                    IssueType.NOT_SUPPORTED,
                    f"The Content-Type {content_type[:100]!r} is not read here; send a search as {FORM}.",
                    http=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                )
            )
        self.form_body = body
        self._form = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)

    async def resource(self) -> Any:
        """What the body says, in JSON's terms, not yet judged. Raises Refused (400, 406, 413, 415), ClientGone."""
        self._require_an_answer_that_is_wanted()
        form = format_of_body(self.http.headers.get("Content-Type", ""))
        body = await self._body(self._limits.fhir_bytes)
        read = self._read_json if form is Format.JSON else self._read_xml
        return read(body) if len(body) < _LONG else await asyncio.to_thread(read, body)

    def _require_an_answer_that_is_wanted(self) -> None:
        """Who could not be answered would not know what was stored. Raises Refused (406)."""
        _ = self.format

    def _read_json(self, body: bytes) -> Any:
        return fhir_json.parsed(body)

    def _read_xml(self, body: bytes) -> Any:
        try:
            return from_xml(body, XmlLimits(max_bytes=self._limits.fhir_bytes))
        except FhirXmlProblem as problem:
            raise Refused(Issue(IssueType.STRUCTURE, str(problem))) from None

    async def _body(self, most: int) -> bytes:
        coding = self.http.headers.get("Content-Encoding", "").strip().lower()
        if coding not in _CODINGS:
            text = f"The Content-Encoding {coding[:100]!r} is not read here; send gzip, deflate, or none."
            raise Refused(Issue(IssueType.NOT_SUPPORTED, text, http=HTTPStatus.UNSUPPORTED_MEDIA_TYPE))
        if (self.http.content_length or 0) > most:
            raise _too_large(most)
        received = bytearray()
        while chunk := await self._chunk():
            received += chunk
            self.received = len(received)
            if len(received) > most:
                raise _too_large(most)
        return bytes(received)

    async def _chunk(self) -> bytes:
        seconds = self._limits.idle_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self.http.content.readany()
        except TimeoutError:
            text = f"Nothing came for {seconds:g} seconds; send the request again without such a pause."
            raise Refused(Issue(IssueType.TRANSIENT, text, http=HTTPStatus.REQUEST_TIMEOUT)) from None
        except (ClientPayloadError, ConnectionError, web.RequestPayloadError) as gone:
            if isinstance(gone.__cause__, ContentEncodingError):
                text = "The body is not what Content-Encoding says it is; send it so, or without that header."
                raise Refused(Issue(IssueType.STRUCTURE, text)) from None
            raise ClientGone(f"the connection was lost after {self.received} bytes") from gone

    async def response(self, answer: FhirAnswer, form: Format) -> web.Response:
        """The answer as HTTP has it; 304 where the client has this representation already."""
        headers = dict(answer.headers)
        if answer.location:
            headers["Location"] = answer.location
        if answer.last_updated:
            headers["Last-Modified"] = http_date(answer.last_updated)
        if answer.etag:
            headers["ETag"] = f'W/"{answer.etag}"'
        if answer.status == HTTPStatus.OK and has_already(self.http, answer.etag, answer.last_updated):
            return self.sent(web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers))
        if answer.resource is None:
            return self.sent(web.Response(status=answer.status, headers=headers))
        headers["Content-Type"] = _CONTENT_TYPES[form]
        if isinstance(answer.resource, tuple) and form is Format.JSON:
            return self.sent(in_pieces(answer.resource, status=answer.status, headers=headers))
        body = await _written(answer.resource, form)
        return self.sent(web.Response(status=answer.status, body=body, headers=headers))

    def sent(self, response: _Response) -> _Response:
        """The response, with what every response has."""
        if self.request_id:
            response.headers["X-Request-Id"] = self.request_id
        response.headers.setdefault("Cache-Control", "private, no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response


async def _written(resource: Any, form: Format) -> bytes:
    if isinstance(resource, tuple):
        resource = b"".join(resource)
    if form is Format.JSON:
        return resource if isinstance(resource, bytes) else fhir_json.written(resource)
    if isinstance(resource, bytes):
        return await asyncio.to_thread(lambda: to_xml(fhir_json.parsed(resource)))
    return to_xml(resource)


def _too_large(most: int) -> Refused:
    return Refused(
        Issue(
            IssueType.TOO_COSTLY,
            f"The body has more than {most} octets, the limit here; send less at once, or large documents by ITI-41.",
            http=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
    )
