"""The sources of on-demand documents that the settings name, opened: plug-ins, and servers that are asked over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import entry_points
from typing import Any

import aiohttp

from mhd.submitting.elsewhere import Elsewhere
from repository.delayed_documents import Assembly
from repository.on_demand import Makes, OnDemandDocuments
from repository.on_demand_snapshots import Snapshots
from repository.on_demand_source import ENTRY_POINTS, OnDemandSource
from repository.registered_entries import RegisteredEntries
from server.documents_elsewhere import DocumentsElsewhere
from server.on_demand_callback import OnDemandCallback
from server.settings import Settings, SettingsProblem
from server.settings.affinity_domain import CodedValue
from server.settings.mhd import ExternalUrl
from server.settings.on_demand import OnDemandSettings
from server.settings.operation import TlsSettings
from server.tls import client_context
from xds.metadata import Code, LocalizedString


@asynccontextmanager
async def on_demand_documents(
    settings: Settings, entries: RegisteredEntries, snapshots: Snapshots, assembly: Assembly, elsewhere: Elsewhere
) -> AsyncIterator[OnDemandDocuments | None]:
    """The documents of this repository that are made when they are retrieved; None: the settings name no source.

    elsewhere   the servers that documents may be fetched from
    Raises SettingsProblem, CannotServe.
    """
    async with AsyncExitStack() as opened:
        rows = [(each, await _makes(each, settings.tls, opened)) for each in settings.on_demand]
        assemblers = [makes for each, makes in rows if each.delayed]
        if settings.mhd.external_url is ExternalUrl.ASSEMBLE:
            assemblers.append(_fetches(settings, elsewhere))
        links = _fetches(settings, elsewhere) if settings.mhd.external_url is ExternalUrl.LINK else None
        if not rows and not assemblers and links is None:
            yield None
            return
        yield OnDemandDocuments(
            sources=[makes for _, makes in rows],
            entries=entries,
            snapshots=snapshots,
            assemblers=assemblers,
            assembly=assembly,
            links=links,
            is_linked=elsewhere.has_document,
        )


async def _makes(source: OnDemandSettings, tls: TlsSettings, opened: AsyncExitStack) -> Makes:
    return Makes(
        name=source.name,
        source=await opened.enter_async_context(_opened(source, tls)),
        arcs=source.unique_ids,
        seconds=source.timeout_seconds,
        size_limit=source.document_bytes,
        persists=source.persist,
        content_type=_code(source.content_type),
    )


def _fetches(settings: Settings, elsewhere: Elsewhere) -> Makes:
    """Fetches documents from where their entries say that they are."""
    return Makes(
        name="mhd.document_servers",
        source=DocumentsElsewhere(elsewhere),
        seconds=settings.mhd.assembly_seconds,
        size_limit=settings.limits.document_bytes,
    )


def _code(configured: CodedValue | None) -> Code | None:
    if configured is None:
        return None
    display = (LocalizedString(configured.display or configured.code),)
    return Code(configured.code, configured.scheme, display)


@asynccontextmanager
async def _opened(source: OnDemandSettings, tls: TlsSettings) -> AsyncIterator[OnDemandSource]:
    if source.entry_point is not None:
        async with AsyncExitStack() as stack:
            try:
                opened = await stack.enter_async_context(plug_in(source)(source.options))
            except SettingsProblem:
                raise
            except Exception as problem:  # whatever it does with its options
                raise _unusable(source, "opened", problem) from problem
            yield opened
        return
    context = client_context(tls if source.ca is None else tls.model_copy(update={"trusted_servers": source.ca}))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield OnDemandCallback(
            source.url or "", session, retries=source.retries, authorization_file=source.authorization_file
        )


def plug_in(source: OnDemandSettings) -> Any:
    """What opens the source of a plug-in: an OpenSource (repository/on_demand_source.py). Raises SettingsProblem."""
    known = {each.name: each for each in entry_points(group=ENTRY_POINTS)}
    found = known.get(source.entry_point or "")
    if found is None:
        there = ", ".join(sorted(known)) or "none"
        raise SettingsProblem(
            f"on_demand: {source.name}: no installed package has an entry point {source.entry_point!r} in the group "
            f"{ENTRY_POINTS}; installed: {there}"
        )
    try:
        return found.load()
    except Exception as problem:  # whatever importing it does
        raise _unusable(source, "loaded", problem) from problem


def _unusable(source: OnDemandSettings, what: str, problem: Exception) -> SettingsProblem:
    why = f"{type(problem).__name__}: {problem}"
    return SettingsProblem(f"on_demand: {source.name}: the entry point {source.entry_point!r} can not be {what}: {why}")
