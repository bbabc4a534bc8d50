"""The sources of on-demand documents that the settings name, opened: plug-ins, and servers that are asked over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import entry_points
from typing import Any

import aiohttp

from repository.on_demand import Makes, OnDemandDocuments
from repository.on_demand_snapshots import Snapshots
from repository.on_demand_source import ENTRY_POINTS, OnDemandSource
from repository.registered_entries import RegisteredEntries
from server.on_demand_callback import OnDemandCallback
from server.settings import CodedValue, OnDemandSettings, Settings, SettingsProblem, TlsSettings
from server.tls import client_context
from xds.metadata import Code, LocalizedString


@asynccontextmanager
async def on_demand_documents(
    settings: Settings, entries: RegisteredEntries, snapshots: Snapshots
) -> AsyncIterator[OnDemandDocuments | None]:
    """The on-demand documents of this repository; None: the settings name no source.

    Raises SettingsProblem, CannotServe.
    """
    async with AsyncExitStack() as opened:
        sources = [
            Makes(
                name=each.name,
                source=await opened.enter_async_context(_opened(each, settings.tls)),
                arcs=each.unique_ids,
                seconds=each.timeout_seconds,
                size_limit=each.document_bytes,
                persists=each.persist,
                content_type=_code(each.content_type),
            )
            for each in settings.on_demand
        ]
        yield OnDemandDocuments(sources=sources, entries=entries, snapshots=snapshots) if sources else None


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
