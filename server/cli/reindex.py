"""`toimik reindex`: the tables that queries read, written again from the log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from registry.metadata_store import StoreBusy, StoreDamaged, StoreFull
from server.cli.screen import ExitCode, counting_bar, output, stopped
from server.settings import Actor, Settings, SettingsProblem, load_settings
from server.settings.stores import MetadataStoreKind
from server.store_opening import METADATA_FILE, metadata_store, unhurried


def run(
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="Settings.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where everything is kept.")] = None,
) -> None:
    """Write the registry's index again from its log, after an update of Toimik or when `doctor --deep` says so.

    A server may go on answering meanwhile: it reads the old index until the new one is complete.

    Exit code: 0 done, 1 it can not be done, 2 a mistake in the settings.
    """
    try:
        settings = load_settings(config, data=data)
    except SettingsProblem as problem:
        raise stopped(problem, ExitCode.USAGE) from problem
    if Actor.REGISTRY not in settings.actors:
        raise stopped("this server has no registry of its own, so there is nothing to reindex", ExitCode.USAGE)
    if settings.metadata.store is MetadataStoreKind.SQLITE and not (settings.data / METADATA_FILE).exists():
        raise stopped(f"{settings.data} holds no registry; --data or --config says where it is", ExitCode.USAGE)
    try:
        records = asyncio.run(_reindexed(settings))
    except SettingsProblem as problem:
        raise stopped(problem, ExitCode.USAGE) from problem
    except (StoreBusy, StoreDamaged, StoreFull) as problem:
        raise stopped(problem, ExitCode.REFUSED) from problem
    output().print(f"The index is written again from {records} records.")


async def _reindexed(settings: Settings) -> int:
    store = await metadata_store(unhurried(settings), reindexing=True)
    try:
        with counting_bar() as bar:
            task = bar.add_task("Reindexing", total=None)
            return await store.reindex(lambda done, in_all: bar.update(task, completed=done, total=in_all))
    finally:
        await store.close()
