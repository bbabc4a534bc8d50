"""`toimik patients`: the patients that the registry knows, from a file."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from registry.metadata_store import StoreBusy, StoreDamaged, StoreFull
from registry.patient_register import FeedRefused, PatientRegister
from server.affinity_domain import patient_register
from server.cli.screen import ExitCode, messages, output, plain, stopped
from server.settings import Actor, Settings, SettingsProblem, load_settings
from server.store_opening import metadata_store
from xds.hl7v2 import CX

_MOST_TOLD = 20
_AT_ONCE = 64


class Action(StrEnum):
    """What to do."""

    IMPORT = "import"


def run(
    action: Annotated[Action, typer.Argument(help="import: make the patients of a file known.")],
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="Columns patient_id, and perhaps authority and merged_into.")
    ],
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="Settings.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where everything is kept.")] = None,
) -> None:
    """Make patients known to the registry, and merge them, as a patient identity feed would.

    A patient_id is `number^^^&OID&ISO`, or a number where the column authority, or the settings, name its authority.
    merged_into names the patient that answers for this one. A server may run meanwhile; what is known already stays.

    Exit code: 0 done, 1 some lines were refused, 2 a mistake in settings or file.
    """
    del action  # there is one
    try:
        settings = load_settings(config, data=data)
        if Actor.REGISTRY not in settings.actors:
            raise stopped("this server has no registry of its own, so it knows no patients", ExitCode.USAGE)
        taken, refused = asyncio.run(_imported(settings, file))
    except (SettingsProblem, OSError, ValueError) as problem:
        raise stopped(problem, ExitCode.USAGE) from problem
    except (StoreBusy, StoreDamaged, StoreFull) as problem:
        raise stopped(problem, ExitCode.NOT_REACHABLE) from problem
    for line in refused[:_MOST_TOLD]:
        messages().print(plain(line))
    if len(refused) > _MOST_TOLD:
        messages().print(f"... and {len(refused) - _MOST_TOLD} lines more")
    output().print(f"{taken} lines taken, {len(refused)} refused.")
    if refused:
        raise typer.Exit(ExitCode.REFUSED)


async def _imported(settings: Settings, file: Path) -> tuple[int, list[str]]:
    store = await metadata_store(settings)
    try:
        register = patient_register(settings, store)
        rows = list(_rows(settings, file))
        refused: list[str] = []
        for start in range(0, len(rows), _AT_ONCE):
            portion = rows[start : start + _AT_ONCE]
            refused += filter(None, await asyncio.gather(*[_admitted(register, *row) for row in portion]))
        # A line may name a survivor that comes later; merges are made when all are known, and in the file's order.
        known = {line.partition(":")[0] for line in refused}
        for number, patient, merged_into in rows:
            if merged_into is not None and f"line {number}" not in known:
                refused += filter(None, [await _merged(register, number, patient, merged_into)])
        return len(rows) - len(refused), refused
    finally:
        await store.close()


async def _admitted(register: PatientRegister, number: int, patient: CX, merged_into: CX | None) -> str | None:
    """What is wrong with a line, or None."""
    try:
        await register.admit([patient])
    except FeedRefused as problem:
        # A merge of the file that was made before says so itself when it is tried.
        return None if merged_into is not None else f"line {number}: {problem}"
    return None


async def _merged(register: PatientRegister, number: int, patient: CX, merged_into: CX) -> str | None:
    try:
        await register.merge([merged_into], [patient])
    except FeedRefused as problem:
        return f"line {number}: {problem}"
    return None


def _rows(settings: Settings, file: Path) -> Iterator[tuple[int, CX, CX | None]]:
    """(number of the line, patient, the one that it was merged into).

    Raises ValueError where the file has no column patient_id.
    """
    authorities = settings.patients.assigning_authorities
    only = authorities[0].oid if len(authorities) == 1 else ""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        if "patient_id" not in (reader.fieldnames or ()):
            raise ValueError(f"{file}: its first line has to name the columns, and among them patient_id")
        for row in reader:
            authority = (row.get("authority") or "").strip() or only
            patient, merged_into = (
                _id((row.get(name) or "").strip(), authority) for name in ("patient_id", "merged_into")
            )
            if patient is not None:
                yield reader.line_num, patient, merged_into


def _id(text: str, authority: str) -> CX | None:
    if not text:
        return None
    return CX(text) if "^" in text else CX.of(text, authority)
