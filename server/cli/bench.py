"""`toimik bench`: what this machine does, as rates and as ratios to references that ran within the same seconds."""

from __future__ import annotations

import asyncio
import os
import platform
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import typer
from rich.progress import Progress

from registry.metadata_store import StoreBusy
from server.bench.dossiers import REPOSITORY, Population
from server.bench.filling import NotOurs, fill, population_of
from server.bench.load import LoadFailed
from server.bench.measuring import SHA_1, Measured, Plan, Rounds, Target, Transferred, check, load_process, transfers
from server.bench.servers import ServerFailed, bare_aiohttp, toimik
from server.bench.shared_stores import stores_for_a_while
from server.cli.screen import ExitCode, counting_bar, output, print_json, stopped, table
from server.settings import Settings, SettingsProblem, load_settings
from server.settings.operation import LogSettings
from server.settings.setting_forms import MIB
from server.settings.stores import DocumentStoreKind, MetadataStoreKind

_REGISTRY = "registry.sqlite"
_LARGE_TRANSFERS = 4  # rows of them


def run(
    entries: Annotated[int, typer.Option(min=1000, help="DocumentEntries in the registry.")] = 100_000,
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="For each operation of a round.")] = 3.0,
    rounds: Annotated[int, typer.Option(min=1, max=25, help="How often everything is measured.")] = 5,
    clients: Annotated[int, typer.Option(min=2, max=200, help="Requests under way at once.")] = 32,
    workers: Annotated[
        int, typer.Option(min=0, max=64, help="Processes of the server, and of the reference; 0: one per core.")
    ] = 0,
    large: Annotated[int, typer.Option(min=0, max=4096, help="MiB of the large document; 0 for none.")] = 256,
    data: Annotated[
        Path | None, typer.Option(help="Keep the filled registry in this directory, or take the one that is there.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Measure the MongoDB and S3 of these settings as well."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
) -> None:
    """Measure a server on a registry of made-up dossiers.

    With --config everything is measured twice, on the embedded stores and on
    the MongoDB and S3 servers that the settings name: in a database and under
    a prefix of its own, which are gone afterwards.

    Both servers and the load generator are processes of this machine and share its cores. Every measurement stands
    beside one of a bare aiohttp server from the same seconds: trust the ratios more than the rates.
    """
    workers = workers or os.cpu_count() or 1
    plan = Plan(seconds, rounds, clients, large * MIB)
    try:
        named = load_settings(config) if config is not None else None
        with _room(data) as room:
            population = _filled_registry(room, data, entries)
            results = [_measured(_settings(room, workers), population, plan)]
            if named is not None:
                with stores_for_a_while(named) as stores:
                    settings = _settings(room / "shared", workers).on_stores_of(stores)
                    _fill(settings, population)
                    results.append(_measured(settings, population, plan))
    except SettingsProblem as problem:
        raise stopped(problem, ExitCode.USAGE) from problem
    except (NotOurs, ServerFailed, LoadFailed, StoreBusy, OSError) as problem:
        raise stopped(problem, ExitCode.REFUSED) from problem
    if as_json:
        first, *others = (_as_json(result, population, plan, workers) for result in results)
        print_json(first | {"beside": others})
    else:
        for result in results:
            _print(result, population, plan, workers)


@contextmanager
def _room(data: Path | None) -> Iterator[Path]:
    """A directory for what is gone afterwards, on the disk where data would be: /tmp may be no disk at all."""
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="toimik-bench-", dir=data or Path.cwd()) as room:
        yield Path(room)


def _filled_registry(room: Path, data: Path | None, entries: int) -> Population:
    """Have a registry in `room`. One that is kept is copied, so that every run begins with the same."""
    kept = data or room
    population = population_of(kept)
    if population is None:
        population = Population.of(entries)
        _fill(_settings(kept), population)
    if data is not None:
        shutil.copyfile(data / _REGISTRY, room / _REGISTRY)
    return population


def _fill(settings: Settings, population: Population) -> None:
    with counting_bar() as progress:
        task = progress.add_task(f"Filling a registry ({settings.metadata.store})", total=population.entries)
        asyncio.run(fill(settings, population, lambda count: progress.advance(task, count)))


def _settings(data: Path, workers: int = 1) -> Settings:
    """Those of production: everything is logged, every limit holds. The stores are embedded, whatever the environment
    says: nobody's registry is filled with what is made up."""
    settings = Settings(data=data, workers=workers, repository_unique_id=REPOSITORY, log=LogSettings())
    return settings.on(metadata=MetadataStoreKind.SQLITE, documents=DocumentStoreKind.FILESYSTEM)


class _Result(NamedTuple):
    """What was measured on one kind of stores."""

    stores: str
    measured: Sequence[Measured]
    transferred: Sequence[Transferred]


def _measured(settings: Settings, population: Population, plan: Plan) -> _Result:
    room, workers = settings.data, settings.workers
    stores = f"{settings.metadata.store} and {settings.documents.store}"
    with (
        toimik(settings, room / "server.log") as port,
        bare_aiohttp(workers, room / "bare.log") as bare_port,
        load_process() as load,
        counting_bar() as progress,
    ):
        target = Target(port, bare_port, population, run=random.SystemRandom().randrange(10**8, 10**9))
        check(target)
        rounds = Rounds(target, plan, load)
        rounds.run(_ticking(progress, "Measuring", rounds.steps))
        transferred = []
        if plan.large:
            tick = _ticking(progress, "Sending a large document", plan.rounds * _LARGE_TRANSFERS)
            transferred = transfers(target, plan, room, tick)
        return _Result(stores, [*rounds.references.values(), *rounds.measured], transferred)


def _ticking(progress: Progress, description: str, total: int) -> Callable[[], None]:
    task = progress.add_task(description, total=total)
    return lambda: progress.advance(task)


def _print(result: _Result, population: Population, plan: Plan, workers: int) -> None:
    _, measured, transferred = result
    console = output()
    console.print(
        f"{_machine()}\n{population.entries} DocumentEntries in {result.stores}; {workers} worker(s), "
        f"{plan.rounds} rounds of {plan.seconds:g} s; median (lowest-highest) of the rounds\n"
    )
    numbers = ("clients", "per second", "p50 ms", "p99 ms", "to bare")
    rows = table(console, "operation", *numbers, right=numbers)
    for each in measured:
        rows.add_row(
            each.name,
            str(each.clients),
            _spread(each.rates, "{:.0f}"),
            f"{each.milliseconds(50):.2f}",
            f"{each.milliseconds(99):.2f}",
            _spread([1 / ratio for ratio in each.ratios], "1/{:.1f}"),
        )
    console.print(rows)
    if not transferred:
        return
    rows = table(console, "one large document", "MB/s", "to SHA-1", right=("MB/s", "to SHA-1"))
    for row, ratios in zip(transferred, _ratios_to_sha_1(transferred), strict=True):
        rows.add_row(row.name, _spread(row.rates, "{:.0f}"), _spread(ratios, "{:.2f}"))
    console.print()
    console.print(rows)


def _spread(values: Sequence[float], form: str) -> str:
    """The median, and in brackets the lowest and the highest."""
    lowest, highest = (form.format(value).removeprefix("1/") for value in (min(values), max(values)))
    return f"{form.format(median(values))} ({lowest}-{highest})"


def _ratios_to_sha_1(transferred: Sequence[Transferred]) -> list[list[float]]:
    reference = next(row for row in transferred if row.name == SHA_1)
    return [[rate / hashed for rate, hashed in zip(row.rates, reference.rates, strict=True)] for row in transferred]


def _as_json(result: _Result, population: Population, plan: Plan, workers: int) -> dict[str, Any]:
    stores, measured, transferred = result
    return {
        "machine": _machine(),
        "stores": stores,
        "document_entries": population.entries,
        "workers": workers,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "operations": [
            {
                "name": each.name,
                "clients": each.clients,
                "per_second": each.rates,
                "p50_milliseconds": each.milliseconds(50),
                "p99_milliseconds": each.milliseconds(99),
                "ratio_to_bare": each.ratios,
            }
            for each in measured
        ],
        "large_document": [
            {"name": row.name, "megabytes_per_second": row.rates, "ratio_to_sha_1": ratios}
            for row, ratios in zip(transferred, _ratios_to_sha_1(transferred) if transferred else [], strict=True)
        ],
    }


def _machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{_processor()}, {os.cpu_count()} cores; {platform.system()} {platform.release()}; {python}"


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
