"""A source of on-demand documents: the medication of a patient as a system at hand has it when somebody retrieves it.

Here that system is a directory with a text file for each patient. Whatever takes its place, a database or a service,
is opened once in `opened` and asked in `document`, which must not block the event loop.

    [[on_demand]]
    name = "medication"
    unique_ids = ["1.2.3.4.5"]
    entry_point = "current-medication"
    options = { directory = "/srv/medication" }
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from repository.on_demand_source import MadeDocument, NoDocumentNow
from xds.metadata import DocumentEntry


class CurrentMedication:
    """An OnDemandSource."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @asynccontextmanager
    async def document(self, entry: DocumentEntry) -> AsyncIterator[MadeDocument]:
        """The patient's medication, in a few lines of text."""
        patient = entry.patient_id.id_number if entry.patient_id else ""
        try:
            text = await asyncio.to_thread((self._directory / f"{quote(patient, safe='')}.txt").read_text)
        except FileNotFoundError as problem:
            raise NoDocumentNow from problem

        async def content() -> AsyncIterator[bytes]:
            for line in text.splitlines(keepends=True):
                yield line.encode()

        yield MadeDocument("text/plain; charset=utf-8", content())


@asynccontextmanager
async def opened(options: Mapping[str, str]) -> AsyncIterator[CurrentMedication]:
    """What the entry point names: opens the source for as long as the server runs. options: as in the settings."""
    yield CurrentMedication(Path(options["directory"]))
