"""`toimik serve`: the server, in this process or in several workers."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from registry import metadata_store
from repository import document_store
from server.cli.screen import ExitCode, messages, plain, stopped
from server.event_loop import keep_freed_memory, spare_the_collector
from server.event_loop import run as run_in_event_loop
from server.logs import configure_logging
from server.serving import serve
from server.settings import Actor, Settings, SettingsProblem, load_settings
from server.tls import CannotServe, server_context
from server.wiring import wired
from server.workers import Workers, reserve_port

_STORE_PROBLEMS = (
    metadata_store.StoreDamaged,
    metadata_store.StoreFull,
    document_store.StoreFull,
    OSError,
)
"""What opening a store may end with, and would end with another time too."""


def run(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="A file as `toimik settings` prints it."),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for any free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; about one per core.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where everything is kept.")] = None,
    actors: Annotated[
        list[Actor] | None, typer.Option(help="What this server answers for; several times for several. Default: all.")
    ] = None,
    registry_url: Annotated[
        str | None, typer.Option(metavar="URL", help="A registry elsewhere, for a server that has none.")
    ] = None,
    repository_url: Annotated[
        str | None, typer.Option(metavar="URL", help="A repository elsewhere, for FHIR at a server that has none.")
    ] = None,
) -> None:
    """Answer requests until told to stop (Ctrl-C, SIGTERM); requests in flight are finished first.

    With no settings at all it listens on 127.0.0.1:8080 and keeps everything in ./toimik-data.

    Exit code: 0 stopped as asked, 2 it can not serve like this, 3 a store can not be reached now.
    """
    try:
        settings = load_settings(
            config,
            host=host,
            port=port,
            workers=workers,
            data=data,
            actors=actors or None,
            registry_url=registry_url,
            repository_url=repository_url,
        )
        configure_logging(settings.log)
        if settings.workers == 1:
            spare_the_collector()
            keep_freed_memory()
            run_in_event_loop(serve(settings, stop=asyncio.Event(), announce=lambda base: _announce(base, settings)))
            return
        raise typer.Exit(_run_workers(settings))
    except (SettingsProblem, CannotServe) as problem:
        raise stopped(problem, ExitCode.USAGE) from problem
    except (metadata_store.StoreBusy, document_store.StoreBusy) as problem:
        raise stopped(f"{problem}; `toimik doctor` says more", ExitCode.NOT_REACHABLE) from problem
    except _STORE_PROBLEMS as problem:
        raise stopped(f"{problem}; `toimik doctor` says more", ExitCode.USAGE) from problem


def _run_workers(settings: Settings) -> int:
    """Several processes on one port, which has to be known before they start."""
    tls = server_context(settings.tls)
    run_in_event_loop(_opened_once(settings))
    with _held(settings.host, settings.port) as held, _held_for_feeds(settings):
        port = held.getsockname()[1]
        settings = settings.model_copy(update={"port": port})
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        _announce(f"{'https' if tls else 'http'}://{host}:{port}", settings)
        return Workers(settings).run()


def _held(host: str, port: int) -> socket.socket:
    try:
        return reserve_port(host, port)
    except OSError as problem:
        raise CannotServe(f"{host}:{port} can not be listened on: {problem}") from problem


def _held_for_feeds(settings: Settings) -> AbstractContextManager[object]:
    port = settings.patients.mllp_port
    return nullcontext() if port is None else _held(settings.host, port)


async def _opened_once(settings: Settings) -> None:
    """What keeps the stores from opening is told here, once, and not by every worker again and again."""
    async with wired(settings):
        pass


def _announce(base: str, settings: Settings) -> None:
    """For a person; programs read the log."""
    if not sys.stderr.isatty():
        return
    screen = messages()
    screen.print(f"[bold]Toimik[/] serves here, and keeps everything in [bold]{plain(settings.data)}[/]:")
    if Actor.REGISTRY in settings.actors:
        screen.print(f"  Registry    [cyan]{base}/xds/registry[/]    (ITI-42, ITI-18)")
    if Actor.REPOSITORY in settings.actors:
        screen.print(f"  Repository  [cyan]{base}/xds/repository[/]  (ITI-41, ITI-43)")
    if Actor.MHD in settings.actors:
        screen.print(f"  FHIR        [cyan]{base}/fhir[/]            (ITI-65 to 68)")
    screen.print("Stop it with Ctrl-C.")
