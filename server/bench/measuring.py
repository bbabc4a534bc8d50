"""What is measured, and how: every operation in turn, each right after the reference, and all of that several times.

Machines drift: the same test differs by a factor of two within an hour. What was measured within the same seconds can
be compared, so an operation's ratio is taken within a round, and its spread over the rounds is part of the result.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Final

from server.bench.dossiers import Population
from server.bench.large_document import BLOCK, blocks, fetch, send
from server.bench.load import Job, LoadFailed, Outcome, answer_to, outcome_of
from server.bench.messages import FIRST_NUMBER, Template, bare_post, find_documents, provide, register, retrieve

BARE: Final = "bare aiohttp: POST of 2 kB, answer of 5 B"
SHA_1: Final = "SHA-1 in memory"
COPY: Final = "write to a file, with fsync"
DOCUMENT_BYTES: Final = 10_000

_SUCCESS: Final = b"ResponseStatusType:Success"
_NUMBERS_OF_A_JOB: Final = 10_000_000
_REFERENCE_SHARE: Final = 1 / 3  # of the time of an operation, for the reference before it
_WARM_UP_SHARE: Final = 1 / 4
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    seconds   for each operation of each round
    large     octets of the large document, 0 for none
    """

    seconds: float
    rounds: int
    clients: int
    large: int


@dataclass(frozen=True, slots=True)
class Target:
    """What is measured: two servers, and what is in the registry. run is a number that no run before had."""

    port: int
    bare_port: int
    population: Population
    run: int


@dataclass(frozen=True, slots=True)
class Operation:
    """A row of the table.

    patients        whom the requests are about
    reads_again     the operation that brought the documents which this one fetches
    """

    name: str
    template: Template
    clients: int
    patients: range = field(default=range(1))
    reads_again: str | None = None


@dataclass(slots=True)
class Measured:
    """An operation in every round. ratios: to the reference that ran before it, with as many clients."""

    name: str
    clients: int
    outcomes: list[Outcome] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        return [outcome.rate for outcome in self.outcomes]

    def milliseconds(self, percent: float) -> float:
        return median(outcome.percentile(percent) for outcome in self.outcomes) * 1000


@dataclass(slots=True)
class Transferred:
    """A large document, or a reference, in every round: megabytes (10^6 octets) per second."""

    name: str
    rates: list[float] = field(default_factory=list)


def operations(target: Target, clients: int) -> tuple[Operation, ...]:
    """The rows, in the order in which they are measured."""
    run, population = target.run, target.population
    found = find_documents()
    provided = provide(run, DOCUMENT_BYTES)
    upload = Template(provided.head + b"".join(blocks(DOCUMENT_BYTES)) + provided.tail)
    return (
        Operation("ITI-18 FindDocuments, 10 documents", found, clients, population.read_of_ten),
        Operation("ITI-18 FindDocuments, 100 documents", found, clients, population.read_of_a_hundred),
        Operation("ITI-42, 1 document", register(run), clients, population.written),
        Operation("ITI-42, 1 document", register(run), 1, population.written),
        Operation(_PROVIDE, upload, clients, population.written),
        Operation("ITI-43 MTOM, the same documents", retrieve(run), clients, reads_again=_PROVIDE),
    )


_PROVIDE: Final = "ITI-41 MTOM, 1 document of 10 kB"


def check(target: Target) -> None:
    """Look once at what is going to be measured. Raises LoadFailed."""
    population = target.population
    for patients, expected in ((population.read_of_ten, 10), (population.read_of_a_hundred, 100)):
        answer = answer_to(target.port, find_documents().numbered(FIRST_NUMBER, patients[-1]))
        found = answer.count(b"<rim:ExtrinsicObject ")
        if found != expected:
            raise LoadFailed(f"FindDocuments finds {found} documents of a patient who has {expected}")


class Rounds:
    """Measures all operations, again and again."""

    def __init__(self, target: Target, plan: Plan, load: ProcessPoolExecutor) -> None:
        self._target = target
        self._plan = plan
        self._load = load
        self._operations = operations(target, plan.clients)
        self._jobs = 0
        self.measured = [Measured(each.name, each.clients) for each in self._operations]
        self.references = {
            clients: Measured(BARE, clients) for clients in sorted({each.clients for each in self._operations})[::-1]
        }

    @property
    def steps(self) -> int:
        """How many operations there are to measure, the warming up included."""
        return (self._plan.rounds + 1) * len(self._operations)

    def run(self, done: Callable[[], None]) -> None:
        """Warm up, then measure. done is called after each operation. Raises LoadFailed."""
        self._round(self._plan.seconds * _WARM_UP_SHARE, done, counts=False)
        for _ in range(self._plan.rounds):
            self._round(self._plan.seconds, done, counts=True)

    def _round(self, seconds: float, done: Callable[[], None], *, counts: bool) -> None:
        brought: dict[str, tuple[int, int]] = {}  # numbers of an operation's requests: the first, and how many
        for operation, measured in zip(self._operations, self.measured, strict=True):
            reference = self._asked(self._reference_job(operation.clients, seconds * _REFERENCE_SHARE))
            job = self._job(operation, seconds, brought)
            outcome = self._asked(job)
            brought[operation.name] = job.first_number, len(outcome.times)
            if counts:
                self.references[operation.clients].outcomes.append(reference)
                self.references[operation.clients].ratios.append(1.0)
                measured.outcomes.append(outcome)
                measured.ratios.append(outcome.rate / reference.rate)
            done()

    def _asked(self, job: Job) -> Outcome:
        try:
            return self._load.submit(outcome_of, job).result()
        except BrokenProcessPool as problem:
            raise LoadFailed("the load generator's process ended") from problem

    def _reference_job(self, clients: int, seconds: float) -> Job:
        return Job(self._target.bare_port, bare_post(), clients, seconds, b"hello", FIRST_NUMBER)

    def _job(self, operation: Operation, seconds: float, brought: dict[str, tuple[int, int]]) -> Job:
        if operation.reads_again is None:
            first_number, numbers = FIRST_NUMBER + self._jobs * _NUMBERS_OF_A_JOB, None
            self._jobs += 1
        else:
            first_number, numbers = brought[operation.reads_again]
        return Job(
            self._target.port,
            operation.template,
            operation.clients,
            seconds,
            _SUCCESS,
            first_number,
            numbers,
            operation.patients,
        )


@contextmanager
def load_process() -> Iterator[ProcessPoolExecutor]:
    """A process for the load generator alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_leave_interrupts_to_the_parent) as pool:
        yield pool


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def transfers(target: Target, plan: Plan, room: Path, done: Callable[[], None]) -> list[Transferred]:
    """One large document there and back, beside what hashing and writing alone take. Raises LoadFailed, OSError."""
    size = plan.large
    rows: list[tuple[str, Callable[[int], None]]] = [
        (SHA_1, lambda _: _hashed(size)),
        (COPY, lambda _: _written(size, room / "copy")),
        (f"ITI-41 MTOM, 1 document of {size / _MEGABYTE:.0f} MB", lambda run: send(target.port, run, size)),
        ("ITI-43 MTOM, the same document", lambda run: _fetched(target.port, run, size)),
    ]
    transferred = [Transferred(name) for name, _ in rows]
    for number in range(plan.rounds):
        for (_, transfer), result in zip(rows, transferred, strict=True):
            started = time.perf_counter()
            transfer(target.run + 1 + number)
            result.rates.append(size / _MEGABYTE / (time.perf_counter() - started))
            done()
    return transferred


def _hashed(size: int) -> None:
    sha1 = hashlib.sha1(usedforsecurity=False)
    for block in blocks(size):
        sha1.update(block)


def _written(size: int, path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for block in blocks(size):
            file.write(block)
        os.fsync(file.fileno())
    path.unlink()


def _fetched(port: int, run: int, size: int) -> None:
    received = fetch(port, run)
    if received != size:
        raise LoadFailed(f"{received} octets of {size} came back (in blocks of {BLOCK} at most)")
