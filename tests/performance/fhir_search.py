"""How fast FHIR searches are beside an HTTP server that does nothing, and whether a large dossier makes them slower.

    .venv/bin/python tests/performance/fhir_search.py [--seconds 3] [--rounds 3] [--large 10000]

Fills a registry with dossiers of 100 documents and one of 10,000, and asks one worker with one client at a time and
with eight: for 100 documents, for the first page of 50 of 100, and for the first page of 50 of 10,000. Each is measured
right after two references, a bare GET of aiohttp that answers 5 octets, and one that answers as many as the search
does; ratios are taken within a round. Beside rates it tells the time that the processors worked for an answer, which
other work on the machine disturbs less. All of it is measured twice: of a worker that keeps what it showed
(mhd.kept_bytes, as shipped), where everything is shown again and again, and of one that keeps nothing, which is how the
first look at each dossier is answered. Exit code 1 where, with what is shipped, a search for 100 documents has less
than 1/15 of the bare GET's rate, or a page of the large dossier takes more than three times as long as one of a small
dossier.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import quote
from uuid import uuid4

import psutil

if __name__ == "__main__":  # started as a file, its own directory is where Python looks for modules
    sys.path.insert(0, str(Path(__file__).parents[2]))

from registry.metadata_store import Questions, RegistryChange
from server.bench.dossiers import AUTHORITY, Dossiers, as_registered, patient
from server.bench.load import Job, Outcome, answer_to, outcome_of
from server.bench.measuring import load_process
from server.bench.messages import FIRST_NUMBER, Template
from server.bench.servers import bare_aiohttp, toimik
from server.settings import Settings, load_settings
from server.store_opening import metadata_store

SMALL: Final = range(20)
LARGE: Final = 20
_CLIENTS: Final = (1, 8)
_MOST_AT_ONCE: Final = 500
_WORKER: Final = "server.worker"
_BARE_ONE: Final = "server.bench.bare"


@dataclass(frozen=True, slots=True)
class Operation:
    """What is asked: entries of a page, and of whom."""

    name: str
    count: int
    patients: range


@dataclass(frozen=True, slots=True)
class Row:
    """An operation with so many clients: rates, and ratios to the bare GETs, of every round."""

    operation: Operation
    clients: int
    rates: tuple[float, ...]
    ratios: tuple[float, ...]
    same_octets: tuple[float, ...]
    milliseconds: float
    cpu_microseconds: float
    cpu_ratio: float


def bare(octets: int | None = None) -> Template:
    """A GET of the reference, which answers so many octets; by default five."""
    return Template(f"GET /{'' if octets is None else octets} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())


def search(count: int) -> Template:
    """All current documents of a patient, `count` on a page."""
    marked = patient(8_999_999_999).id_number
    token = quote(f"urn:oid:{AUTHORITY}|{marked}", safe="")
    path = f"/fhir/DocumentReference?patient.identifier={token}&status=current&_count={count}"
    return Template(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())


async def fill(settings: Settings, large: int) -> None:
    """Through the store, as a migration would."""
    dossiers = Dossiers(20261125)
    store = await metadata_store(settings)
    try:
        for number, documents in (*((each, 100) for each in SMALL), (LARGE, large)):
            patient_id = patient(number)
            for some in _portions(documents):
                objects = as_registered(dossiers.submission(patient_id, some))
                now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                change = RegistryChange(patient_id.text, str(uuid4()), now, objects)
                await store.apply(change, await store.known(Questions(patient_id.text)))
    finally:
        await store.close()


def _portions(documents: int) -> Iterator[int]:
    for begun in range(0, documents, _MOST_AT_ONCE):
        yield min(_MOST_AT_ONCE, documents - begun)


def measured(port: int, bare_port: int, operations: Mapping[Operation, int], seconds: float, rounds: int) -> list[Row]:
    """Every operation, each right after the references, so many times; the first round warms up.

    operations   with the octets of its answer
    """
    rows = []
    with load_process() as load:

        def asked(job: Job, module: str) -> tuple[Outcome, float]:
            worked = _worked(module)
            outcome = load.submit(outcome_of, job).result()
            return outcome, (_worked(module) - worked) / len(outcome.times)

        def nothing(clients: int, octets: int | None = None) -> tuple[Outcome, float]:
            return asked(Job(bare_port, bare(octets), clients, seconds / 2, b"hello", FIRST_NUMBER), _BARE_ONE)

        for clients in _CLIENTS:
            for operation, octets in operations.items():
                outcomes, ratios, same_octets, costs, bare_costs = [], [], [], [], []
                for number in range(rounds + 1):
                    least, bare_cost = nothing(clients)
                    as_large, _ = nothing(clients, octets)
                    job = Job(
                        port, search(operation.count), clients, seconds, b'"searchset"', FIRST_NUMBER,
                        patients=operation.patients,
                    )  # fmt: skip
                    outcome, cost = asked(job, _WORKER)
                    if number:
                        outcomes.append(outcome)
                        ratios.append(least.rate / outcome.rate)
                        same_octets.append(as_large.rate / outcome.rate)
                        costs.append(cost)
                        bare_costs.append(bare_cost)
                rates = tuple(each.rate for each in outcomes)
                milliseconds = median(each.percentile(50) for each in outcomes) * 1000
                cost, bare_cost = median(costs), median(bare_costs)
                rows.append(
                    Row(
                        operation,
                        clients,
                        rates,
                        tuple(ratios),
                        tuple(same_octets),
                        milliseconds,
                        cost * 1e6,
                        cost / bare_cost,
                    )
                )
    return rows


def _worked(module: str) -> float:
    """Seconds for which the processors have worked for the server that is this module."""
    times = [each.cpu_times() for each in psutil.Process().children(recursive=True) if module in each.cmdline()]
    return sum(each.user + each.system for each in times)


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=10_000, help="documents of the large dossier")
    asked = parser.parse_args()
    operations = (
        Operation("100 documents", 100, SMALL),
        Operation("page of 50 of 100", 50, SMALL),
        Operation(f"page of 50 of {asked.large}", 50, range(LARGE, LARGE + 1)),
    )
    with tempfile.TemporaryDirectory() as room:
        shipped = load_settings(data=Path(room) / "data", workers=1)
        asyncio.run(fill(shipped, asked.large))
        nothing_kept = shipped.model_copy(update={"mhd": shipped.mhd.model_copy(update={"kept_bytes": 0})})
        _tell("Nothing is kept:")
        _of_server(nothing_kept, Path(room), operations, asked.seconds, asked.rounds)
        _tell("As shipped, with what was shown kept:")
        rows = _of_server(shipped, Path(room), operations, asked.seconds, asked.rounds)
    return _judged(rows)


def _of_server(
    settings: Settings, room: Path, operations: tuple[Operation, ...], seconds: float, rounds: int
) -> list[Row]:
    """What a server with these settings does, measured and told."""
    with ExitStack() as servers:
        port = servers.enter_context(toimik(settings, room / "log"))
        bare_port = servers.enter_context(bare_aiohttp(1, room / "bare-log"))
        octets = {each: len(answer_to(port, search(each.count).numbered(0, each.patients[0]))) for each in operations}
        rows = measured(port, bare_port, octets, seconds, rounds)
    for row in rows:
        _tell(
            f"{row.operation.name:22} {octets[row.operation] // 1000:4} kB  {row.clients} at once  "
            f"{median(row.rates):7.0f}/s  {row.milliseconds:6.2f} ms  of a bare GET: {_ratios(row.ratios)}; "
            f"of one of as many octets: {_ratios(row.same_octets)}; "
            f"processors: {row.cpu_microseconds:.0f} us, 1/{row.cpu_ratio:.1f}"
        )
    return rows


def _ratios(ratios: Sequence[float]) -> str:
    return ", ".join(f"1/{each:.1f}" for each in ratios)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _judged(rows: list[Row]) -> int:
    fails = []
    for clients in _CLIENTS:
        hundred, small, large = (each for each in rows if each.clients == clients)
        if median(hundred.ratios) > 15:
            fails.append(f"100 documents, {clients} at once: 1/{median(hundred.ratios):.1f} of a bare GET, not 1/15")
        if large.milliseconds > 3 * small.milliseconds:
            fails.append(
                f"a page of the large dossier takes {large.milliseconds / small.milliseconds:.1f} times as long"
            )
        else:
            _tell(f"{clients} at once: large dossier / small one: {large.milliseconds / small.milliseconds:.2f}")
    for each in fails:
        _tell(f"FAILED: {each}")
    return 1 if fails else 0


if __name__ == "__main__":
    sys.exit(main())
