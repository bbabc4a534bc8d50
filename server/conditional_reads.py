"""Whether whoever reads has it already (FHIR R4: http.html, 3.1.0.5.1; RFC 9110: 13.1.2, 13.1.3, 13.2.2)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

from aiohttp import hdrs, web


def http_date(instant: str) -> str:
    """An instant as HTTP says it (RFC 9110, 5.6.7)."""
    return format_datetime(_to_the_second(instant), usegmt=True)


def has_already(request: web.Request, etag: str | None, last_modified: str | None = None) -> bool:
    """Whether a GET or HEAD is answered 304.

    Where If-None-Match is sent, it alone counts, compared weakly (RFC 9110, 8.8.3.2). A date that can not be read does
    not count.

    etag            without W/ and quotes; None: there is none
    last_modified   instant; None: it is not known
    """
    if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
        return False
    if hdrs.IF_NONE_MATCH in request.headers:
        sent = ",".join(request.headers.getall(hdrs.IF_NONE_MATCH))
        known = [each.strip().removeprefix("W/") for each in sent.split(",")]
        return etag is not None and ("*" in known or f'"{etag}"' in known)
    since = request.if_modified_since
    return since is not None and last_modified is not None and _to_the_second(last_modified) <= since


def _to_the_second(instant: str) -> datetime:
    return datetime.fromisoformat(instant).astimezone(UTC).replace(microsecond=0)
