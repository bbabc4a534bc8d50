"""On-demand documents of another server, which is asked over HTTP whenever one of them is retrieved.

It is sent a POST with the entry as JSON (the standard's names; docs/operations.md shows one), and answers

    200           the document: Content-Type is that of the entry; Document-Unique-Id where it names itself
    204 404 410   there is nothing that it could be made of now
    408 429 5xx   not now; after 502, 503 and 504 it is asked again, so being asked twice must not matter to it

Anything else is a failure. No redirect is followed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import aiohttp
from yarl import URL

from repository.on_demand_source import MadeDocument, NoDocumentNow, SourceFailed, SourceUnavailable
from server.authorization import authorization_in
from server.tracing import trace_headers
from xds.metadata import Code, DocumentEntry, LocalizedString
from xds.metadata_names import term

logger = logging.getLogger(__name__)

UNIQUE_ID_HEADER: Final = "Document-Unique-Id"

_CHUNK: Final = 64 * 1024
_PAUSE_SECONDS: Final = 0.2
_NOTHING_THERE: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_TRY_AGAIN: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_NOT_NOW: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_TOLD: Final = (
    "entry_uuid", "logical_id", "unique_id", "repository_unique_id", "home_community_id", "patient_id",
    "source_patient_id", "source_patient_info", "title", "comments", "mime_type", "language_code", "class_code",
    "type_code", "format_code", "practice_setting_code", "healthcare_facility_type_code", "event_code_list",
    "confidentiality_code", "reference_id_list", "service_start_time", "service_stop_time", "availability_status",
    "uri", "object_type", "creation_time",
)  # fmt: skip
"""The attributes of an entry that the server is told."""


class OnDemandCallback:
    """An OnDemandSource (repository/on_demand_source.py)."""

    def __init__(
        self, url: str, session: aiohttp.ClientSession, *, retries: int = 0, authorization_file: Path | None = None
    ) -> None:
        self._url = URL(url)
        self._session = session
        self._retries = retries
        self._authorization_file = authorization_file

    @asynccontextmanager
    async def document(self, entry: DocumentEntry) -> AsyncIterator[MadeDocument]:
        """Ask for the document of an entry. How long that may take is for who waits."""
        try:
            async with AsyncExitStack() as opened:
                response = await self._answer(entry, opened)
                content_type = response.headers.get("Content-Type", "")
                unique_id = response.headers.get(UNIQUE_ID_HEADER) or None
                yield MadeDocument(content_type, response.content.iter_chunked(_CHUNK), unique_id)
        except aiohttp.ClientError as problem:
            raise SourceUnavailable(f"{self._url} gave no whole answer: {problem}") from problem

    async def _answer(self, entry: DocumentEntry, opened: AsyncExitStack) -> aiohttp.ClientResponse:
        """The answer with the document, after as many attempts as may be made."""
        headers = {
            "Accept": entry.mime_type or "*/*",
            "Accept-Encoding": "identity",
            **trace_headers(),
            **await self._authorization(),
        }
        attempt = 0
        while True:
            try:
                response = await self._session.post(
                    self._url, json=essentials(entry), headers=headers, allow_redirects=False, timeout=_FOREVER
                )
            except aiohttp.ClientConnectionError:
                if attempt >= self._retries:
                    raise
            else:
                opened.callback(response.close)
                if response.status not in _TRY_AGAIN or attempt >= self._retries:
                    self._require_document(response)
                    return response
                response.close()
            attempt += 1
            await asyncio.sleep(_PAUSE_SECONDS * attempt)

    def _require_document(self, response: aiohttp.ClientResponse) -> None:
        status = response.status
        if status == HTTPStatus.OK:
            return
        if status in _NOTHING_THERE:
            raise NoDocumentNow
        what = f"{self._url} answers {status}"
        if status in _NOT_NOW or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise SourceUnavailable(what)
        raise SourceFailed(what)

    async def _authorization(self) -> Mapping[str, str]:
        file = self._authorization_file
        try:
            return await authorization_in(file)
        except (OSError, ValueError) as problem:
            raise SourceFailed(f"its authorization_file {file} can not be read: {problem}") from problem


_FOREVER: Final = aiohttp.ClientTimeout(total=None)


def essentials(entry: DocumentEntry) -> dict[str, Any]:
    """An entry as JSON, by the standard's names; what it does not have is not there.

    Codes are {code, codingScheme, display}, texts {value, language}; HL7 v2 types and times are text as in ebRIM.
    """
    values = ((term(name), _plain(getattr(entry, name))) for name in _TOLD)
    return {name: value for name, value in values if value not in (None, [])}


def _plain(value: object) -> Any:
    match value:
        case None | str():
            return value
        case tuple():
            return [_plain(each) for each in value]
        case Code(code, coding_scheme, display_name):
            display = next((each.value for each in display_name), None)
            return {"code": code, "codingScheme": coding_scheme, "display": display}
        case LocalizedString(text, language):
            return {"value": text, "language": language}
        case _:
            return str(value)  # an HL7 v2 type, as it was sent
