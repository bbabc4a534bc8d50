"""Fills a registry with made-up dossiers, through the metadata store and not through HTTP: as a migration would.

A filled registry can be measured again. A file beside it says what is in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from uuid import uuid4

import orjson

from registry.metadata_store import Facts, MetadataStore, RegistryChange
from server.bench.dossiers import Dossiers, Population, as_registered, patient
from server.settings import Settings
from server.store_opening import metadata_store

_AT_ONCE = 64
_SEED = 20260314


class NotOurs(Exception):
    """The directory holds a registry that was not filled here."""


def population_of(data: Path) -> Population | None:
    """Who is in the registry that was filled here before, if one was. Raises NotOurs."""
    note = _note(data)
    if note.exists():
        return Population(**orjson.loads(note.read_bytes()))
    if (data / "registry.sqlite").exists():
        raise NotOurs(f"{data} holds a registry that `toimik bench` did not fill, or not to the end; name another one")
    return None


async def fill(settings: Settings, population: Population, progress: Callable[[int], None]) -> None:
    """Fill an empty registry. progress is told the number of new DocumentEntries."""
    settings.data.mkdir(parents=True, exist_ok=True)
    store = await metadata_store(settings)
    try:
        dossiers = Dossiers(_SEED)
        numbers = iter(population.numbers)
        # So many at once, because changes that wait together are committed together.
        while changes := list(islice(_changes(dossiers, population, numbers), _AT_ONCE)):
            await asyncio.gather(*(_applied(change, store) for change in changes))
            progress(sum(len(change.objects) // 2 for change in changes))  # each entry has a HasMember
    finally:
        await store.close()
    content = {"of_ten": population.of_ten, "of_a_hundred": population.of_a_hundred}
    _note(settings.data).write_bytes(orjson.dumps(content))


def _changes(dossiers: Dossiers, population: Population, numbers: Iterator[int]) -> Iterator[RegistryChange]:
    """One change per dossier."""
    for number in numbers:
        patient_id = patient(number)
        submission = dossiers.submission(patient_id, population.documents_of(number))
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        yield RegistryChange(patient_id.text, str(uuid4()), now, as_registered(submission))


async def _applied(change: RegistryChange, store: MetadataStore) -> None:
    await store.apply(change, Facts(change.patient_id))


def _note(data: Path) -> Path:
    return data / "filled-by-bench.json"
