"""Documents and Patients of other servers that the settings name, for mhd/submitting/elsewhere.py.

No redirect is followed.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import aiohttp
from yarl import URL

from mhd.fhir import fhir_json
from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_structure import structure_problems
from mhd.fhir.operation_outcome import Refused
from mhd.messages import FHIR_JSON
from mhd.submitting.elsewhere import FetchedDocument, Unreachable
from server.bounded_body import bounded_body
from server.tracing import trace_headers

_CHUNK: Final = 64 * 1024
_LARGEST_PATIENT: Final = 1024 * 1024
_PATIENTS_KEPT: Final = 1000
_PATIENT_KEPT_SECONDS: Final = 60.0


class TrustedServers:
    """An Elsewhere."""

    def __init__(
        self, session: aiohttp.ClientSession, *, documents: Sequence[str], patients: Sequence[str], seconds: float
    ) -> None:
        """documents, patients: base URLs. seconds: how long a server may say nothing."""
        self._session = session
        self._documents = documents
        self._patients = patients
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=seconds, sock_read=seconds)
        self._known: dict[str, tuple[float, Json | None]] = {}

    def has_document(self, url: str) -> bool:
        return is_below_any(url, self._documents)

    @asynccontextmanager
    async def document(self, url: str) -> AsyncIterator[FetchedDocument]:
        try:
            async with self._get(url) as response:
                if response.status != HTTPStatus.OK:
                    raise Unreachable(f"is not to be had: its server answers {response.status}")
                named = response.headers.get("Content-Type")
                yield FetchedDocument(named, response.content.iter_chunked(_CHUNK))
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise Unreachable(f"is not to be had: {str(problem) or 'its server does not answer in time'}") from problem

    async def patient(self, url: str) -> Json | None:
        if not is_below_any(url, self._patients):
            return None
        now = time.monotonic()
        known = self._known.get(url)
        if known is not None and known[0] > now:
            return known[1]
        if len(self._known) >= _PATIENTS_KEPT:
            self._known.clear()
        found = await self._patient(url)
        self._known[url] = (now + _PATIENT_KEPT_SECONDS, found)
        return found

    async def _patient(self, url: str) -> Json | None:
        try:
            async with self._get(url, Accept=FHIR_JSON) as response:
                body = await bounded_body(response, _LARGEST_PATIENT) if response.status == HTTPStatus.OK else None
                patient: Any = fhir_json.parsed(body) if body is not None else None
        except (aiohttp.ClientError, TimeoutError, Refused):
            return None
        return patient if patient is not None and not structure_problems(patient, "Patient") else None

    def _get(self, url: str, **headers: str) -> Any:
        return self._session.get(
            URL(url, encoded=True),
            allow_redirects=False,
            timeout=self._timeout,
            headers={"Accept-Encoding": "identity", **trace_headers(), **headers},
        )


def is_below_any(url: str, bases: Iterable[str]) -> bool:
    """Whether a URL lies below one of several base URLs."""
    return any(is_below(url, base) for base in bases)


def is_below(url: str, base: str) -> bool:
    """Whether a URL lies below a base URL: the same server, and a path that does not lead out of it again."""
    try:
        asked, trusted = urlsplit(url), urlsplit(base)
        same = (asked.scheme, asked.hostname, asked.port) == (trusted.scheme, trusted.hostname, trusted.port)
    except ValueError:
        return False
    segments = unquote(unquote(asked.path)).replace("\\", "/").split("/")
    is_plain = asked.username is None and asked.password is None and not {".", ".."} & set(segments)
    return same and is_plain and asked.path.startswith(f"{trusted.path.rstrip('/')}/")
