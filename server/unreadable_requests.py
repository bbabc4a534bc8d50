"""What is answered to a request that can not be read as HTTP: in the words of whoever is at the path that it names.

Such a request reaches no application: the HTTP library answers it in plain text. A FHIR app gets an OperationOutcome in
its place, and whoever posts SOAP a fault. The library does not say which path it was; it is read off the octets that
came, where a piece of them begins as a request does. Of a connection that names none of these paths, or none that can
be seen so, the answer is plain text still. That FHIR is wanted as XML, or by an app in a browser (CORS), is said by
headers, which were not read.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from aiohttp import http_exceptions, web

from mhd.fhir import fhir_json
from mhd.fhir.operation_outcome import Issue, IssueType, Outcome
from mhd.messages import FHIR_JSON
from xds import soap
from xds.soap import FaultCode, SoapFault

log = logging.getLogger(__name__)

_BEGINNING: Final = re.compile(rb"([!-~]{1,30}) (/[!->@-~]{0,200})")
"""A method, and a path up to its query (RFC 9112, 3)."""


class _Named(NamedTuple):
    method: str
    path: str


@dataclass(frozen=True)
class Endpoints:
    """In whose form is answered.

    fhir                      path below which FHIR is spoken; None: nowhere
    soap                      paths to which SOAP is posted
    url_bytes, header_bytes   longest URL and longest header, in octets
    """

    fhir: str | None
    soap: frozenset[str]
    url_bytes: int
    header_bytes: int


class _Told(NamedTuple):
    status: HTTPStatus
    issue_type: IssueType
    sentence: str


class Connection(web.RequestHandler):
    """The library's connection, but for what it answers to what it can not read."""

    __slots__ = ("_endpoints", "_named")

    def __init__(self, manager: web.Server, *, endpoints: Endpoints, **arguments: Any) -> None:
        super().__init__(manager, **arguments)
        self._endpoints = endpoints
        self._named = _Named("", "")

    def data_received(self, data: bytes) -> None:
        begun = _BEGINNING.match(data)
        if begun is not None:
            self._named = _Named(begun[1].decode(), begun[2].decode())
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what can not be read. That to anything else is the library's."""
        if not isinstance(exc, http_exceptions.HttpProcessingError) or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        told = _told(exc, self._endpoints)
        log.info(
            "What came is no HTTP, or too long, and was refused.",
            extra={"peer": request.remote, "status": told.status, "why": told.sentence},
        )
        response = self._answer(told)
        response.force_close()
        return response

    def _answer(self, told: _Told) -> web.Response:
        method, path = self._named
        base = self._endpoints.fhir
        if base is not None and (path == base or path.startswith(f"{base}/")):
            issue = Issue(told.issue_type, told.sentence, http=told.status)
            body = fhir_json.written(Outcome((issue,)).resource())
            return _response(told.status, body, f"{FHIR_JSON}; charset=utf-8")
        if method == "POST" and path in self._endpoints.soap:
            fault = SoapFault(FaultCode.SENDER, told.sentence)
            return _response(told.status, soap.fault_envelope(fault, None), fault.content_type)
        return web.Response(status=told.status, text=f"{told.sentence}\n")


def _response(status: HTTPStatus, body: bytes, content_type: str) -> web.Response:
    headers: Mapping[str, str] = {"Content-Type": content_type, "X-Content-Type-Options": "nosniff"}
    return web.Response(status=status, body=body, headers=headers)


def _told(problem: http_exceptions.HttpProcessingError, endpoints: Endpoints) -> _Told:
    """What to say of it, without what was sent."""
    if isinstance(problem, http_exceptions.ContentEncodingError):
        sentence = "The Content-Encoding is not read here; send gzip, deflate, or none."
        return _Told(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, IssueType.NOT_SUPPORTED, sentence)
    if isinstance(problem, http_exceptions.LineTooLong):
        sentence = (
            f"The URL has more than {endpoints.url_bytes} octets, or a header more than {endpoints.header_bytes}, the "
            "limits here; send a long search by POST."
        )
        return _Told(HTTPStatus.BAD_REQUEST, IssueType.TOO_COSTLY, sentence)
    if isinstance(problem, http_exceptions.BadHttpMethod):
        return _Told(HTTPStatus.BAD_REQUEST, IssueType.NOT_SUPPORTED, "The request has no method that HTTP knows.")
    return _Told(HTTPStatus.BAD_REQUEST, IssueType.STRUCTURE, "The request is no HTTP that can be read.")
