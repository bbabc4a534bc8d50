"""The audit trail that the settings ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from server.audit.audit_feed import AuditFeed
from server.audit.audit_file import AuditFile
from server.audit.audit_outbox import AuditOutbox
from server.audit.audit_sink import AuditSink, NotKept
from server.audit.audit_trail import AuditTrail
from server.audit.fhir_audit_event import Observer
from server.fhir_wiring import code_systems
from server.meanwhile import meanwhile
from server.settings import Settings, repository_unique_id
from server.tls import CannotServe, client_context

_DIRECTORY: Final = "audit"  # of the data directory


@asynccontextmanager
async def audit_trail(settings: Settings) -> AsyncIterator[AuditTrail | None]:
    """The trail; None: none is asked for. As long as this is open, what is in the outbox is sent.

    Raises CannotServe.
    """
    configured = settings.audit
    if not configured.is_on:
        yield None
        return
    async with AsyncExitStack() as opened:
        sinks: list[AuditSink] = []
        outbox = None
        try:
            if configured.file is not None:
                sinks.append(AuditFile(configured.file))
            if configured.feed_url is not None:
                outbox = AuditOutbox(outbox_directory(settings), most_octets=configured.outbox_bytes)
                sinks.append(outbox)
        except NotKept as problem:
            raise CannotServe(f"audit: {problem}") from problem
        source = f"urn:oid:{configured.source_id or repository_unique_id(settings)}"
        observer = Observer(source, configured.site, code_systems(settings))
        trail = AuditTrail(sinks, observer, required=configured.required, outbox=outbox)
        opened.push_async_callback(trail.close)
        if outbox is not None and configured.feed_url is not None:
            await opened.enter_async_context(_sending(outbox, configured.feed_url, settings))
        yield trail


@asynccontextmanager
async def _sending(outbox: AuditOutbox, url: str, settings: Settings) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(ssl=client_context(settings.tls))
    async with aiohttp.ClientSession(connector=connector) as session:
        feed = AuditFeed(
            outbox,
            session,
            url,
            directory=outbox_directory(settings),
            at_once=settings.audit.feed_at_once,
            seconds=settings.audit.feed_seconds,
            longest_pause_seconds=settings.audit.feed_pause_seconds,
            authorization_file=settings.audit.feed_authorization_file,
        )
        async with meanwhile(feed.run()):
            yield


def outbox_directory(settings: Settings) -> Path:
    """Where events wait to be sent."""
    return settings.audit.outbox or settings.data / _DIRECTORY
