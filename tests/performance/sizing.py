"""What an entry takes on the disk, and what a submission asks of it: the figures of docs/operations.md.

    .venv/bin/python tests/performance/sizing.py [--entries 20000] [--submissions 300] [--mongodb URL]

Fills stores with made-up dossiers, ten documents for each of nine tenths of the entries and a hundred for the rest, and
tells what each table, collection and index takes for one entry. Then a server is asked, and its system calls and the
octets that it wrote are counted (Linux; fsyncs with strace, where that is on the PATH). --mongodb: also fill a database
there, of a name of its own, which is dropped afterwards. How long anything takes is not looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import SystemRandom

if __name__ == "__main__":  # started as a file, its own directory is where Python looks for modules
    sys.path.insert(0, str(Path(__file__).parents[2]))

import psutil
from pydantic import SecretStr

from registry.metadata_store import MetadataStore
from server.bench.dossiers import REPOSITORY, Dossiers, Population, patient
from server.bench.filling import fill
from server.bench.load import answer_to
from server.bench.messages import FIRST_NUMBER, Template, find_documents, provide, register
from server.settings import Settings
from server.settings.stores import MetadataSettings, MetadataStoreKind
from server.store_opening import METADATA_FILE, metadata_store
from server.wiring import local_registry
from tests.server_process import ServerProcess, server_process

MIB = 1024 * 1024
DOCUMENT_BYTES = 100 * 1024
_AT_ONCE = 32
_SEED = 20261125
_SYNCS = ("fsync", "fdatasync")
_WRITES = ("write", "pwrite64", "writev", "pwritev")


@dataclass(frozen=True, slots=True)
class Taken:
    """What one table, collection or index takes: its name, octets, and rows (None: an index)."""

    name: str
    octets: int
    rows: int | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request of many asked of the disk, on average. syncs and writes: None without strace."""

    name: str
    clients: int
    written: float
    syncs: float | None
    writes: float | None


# Octets --------------------------------------------------------------------------------------------------------------


async def filled_at_once(settings: Settings, population: Population) -> None:
    """A registry to which every dossier came in one submission, as a migration might bring it."""
    await fill(settings, population, lambda _: None)


async def filled_one_by_one(settings: Settings, population: Population) -> None:
    """A registry to which every document came in a submission of its own, as most sources send them."""
    settings.data.mkdir(parents=True, exist_ok=True)
    store = await metadata_store(settings)
    try:
        await register_one_by_one(settings, store, population)
    finally:
        await store.close()


async def register_one_by_one(settings: Settings, store: MetadataStore, population: Population) -> None:
    registry = local_registry(settings, store)
    dossiers = Dossiers(_SEED)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def dossier(number: int) -> None:
        async with turns:
            for _ in range(population.documents_of(number)):
                response = await registry.register_document_set(dossiers.submission(patient(number)))
                if not response.succeeded:
                    raise RuntimeError(f"a made-up submission was refused: {response.errors}")

    await asyncio.gather(*map(dossier, population.numbers))


def taken_in_sqlite(file: Path) -> list[Taken]:
    """Every b-tree of the database, by the virtual table dbstat."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sizes = database.execute("SELECT name, SUM(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC").fetchall()
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        return [Taken(name, size, _rows(database, name) if name in tables else None) for name, size in sizes]


def _rows(database: sqlite3.Connection, table: str) -> int:
    return int(database.execute(f'SELECT COUNT(*) FROM "{table}"').fetchone()[0])  # noqa: S608 - a name of ours


def taken_in_mongodb(url: str, database_name: str) -> tuple[str, list[Taken]]:
    """What the server calls itself; its collections and indexes. BSON is the same on every server, the rest is not."""
    import bson  # the extra `mongodb`, which not everybody has
    import pymongo

    with pymongo.MongoClient[dict[str, object]](url) as client:
        build = client.admin.command("buildInfo")
        # FerretDB gives the version of the MongoDB that it behaves like.
        product = f"MongoDB {build['version']}"
        if "ferretdbVersion" in build:
            product = f"FerretDB in the place of {product}"
        found: list[Taken] = []
        database = client[database_name]
        for name in sorted(database.list_collection_names()):
            rows = database[name].count_documents({})
            sampled = [len(bson.encode(document)) for document in database[name].find().limit(5000)]
            mean = sum(sampled) / max(1, len(sampled))
            found.append(Taken(f"{name}: BSON", round(mean * rows), rows))
            stored = database.command("collStats", name)
            found.append(Taken(f"{name}: as the server says", int(stored["storageSize"]), rows))
            found.append(Taken(f"{name}: its indexes, as the server says", int(stored["totalIndexSize"]), None))
        return product, found


# What requests ask of the disk ---------------------------------------------------------------------------------------


class Requests:
    """Requests of a kind, each different from all before. Blocking."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._numbers = count(FIRST_NUMBER)
        self._runs = count(SystemRandom().randrange(10**6, 10**8))
        self._register = register(next(self._runs))
        provided = provide(next(self._runs), DOCUMENT_BYTES)
        self._provide = Template(provided.head + os.urandom(DOCUMENT_BYTES) + provided.tail)
        self._find = find_documents()

    def register(self) -> None:
        """ITI-42 of one entry, each for a patient of its own."""
        number = next(self._numbers)
        _succeeded(answer_to(self._port, self._register.numbered(number, number % 10**9)))

    def provide(self) -> None:
        """ITI-41 of one document, each for a patient of its own."""
        number = next(self._numbers)
        _succeeded(answer_to(self._port, self._provide.numbered(number, number % 10**9)))

    def find(self, number: int) -> None:
        """ITI-18, FindDocuments, of a patient's dossier."""
        _succeeded(answer_to(self._port, self._find.numbered(next(self._numbers), number)))


def _succeeded(answer: bytes) -> None:
    if b"ResponseStatusType:Success" not in answer:
        raise RuntimeError(answer.decode("utf-8", "replace"))


async def asked_of_the_disk(
    server: ServerProcess, name: str, request: Callable[[], None], *, clients: int, times: int
) -> Asked:
    """Send `times` requests by so many clients at once, once for the octets and once more under strace."""
    before = _written(server)
    await _sent(request, clients, times)
    written = (_written(server) - before) / times
    if shutil.which("strace") is None:
        return Asked(name, clients, written, None, None)
    with _traced(server) as calls:
        await _sent(request, clients, times)
    counted = calls()
    return Asked(
        name,
        clients,
        written,
        sum(counted.get(call, 0) for call in _SYNCS) / times,
        sum(counted.get(call, 0) for call in _WRITES) / times,
    )


async def _sent(request: Callable[[], None], clients: int, times: int) -> None:
    left = iter(range(times))

    async def client() -> None:
        for _ in left:
            await asyncio.to_thread(request)

    await asyncio.gather(*(client() for _ in range(clients)))


def _written(server: ServerProcess) -> int:
    """Octets that all processes of the server had written to a disk, or to its cache."""
    processes = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    return sum(process.io_counters().write_bytes for process in processes)


def _read(server: ServerProcess) -> int:
    return psutil.Process(server.process.pid).io_counters().read_bytes


@contextmanager
def _traced(server: ServerProcess) -> Iterator[Callable[[], dict[str, int]]]:
    """Count system calls on files. What is given tells them, once the block is left."""
    with tempfile.TemporaryDirectory() as room:
        output = Path(room) / "calls"
        # -y names the file of each descriptor, by which sockets and the log are told from files.
        command = ["strace", "-f", "-qq", "-y", "-e", f"trace={','.join((*_SYNCS, *_WRITES))}", "-o", str(output), "-p"]
        process = subprocess.Popen([*command, str(server.process.pid)], stderr=subprocess.PIPE)
        while not output.exists() or not _is_traced(server.process.pid):
            if process.poll() is not None:
                raise RuntimeError("strace does not trace here")
            time.sleep(0.05)
        counted: dict[str, int] = {}
        try:
            yield lambda: counted
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
            for line in output.read_text(errors="replace").splitlines():
                call = re.match(r"^\d+\s+(\w+)\((?:\d+<(?P<file>[^>]*)>)?", line)
                if call and not re.match(r"socket:|pipe:|anon_inode:|TCP|UDP|.*\.log$", call["file"] or ""):
                    counted[call[1]] = counted.get(call[1], 0) + 1


def _is_traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return re.search(r"^TracerPid:\s+[1-9]", status, re.MULTILINE) is not None


def forgotten(file: Path) -> None:
    """Have the kernel drop what it holds of a file."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# The page ------------------------------------------------------------------------------------------------------------


def print_taken(title: str, population: Population, taken: Sequence[Taken]) -> None:
    sys.stdout.write(f"\n{title}; {population.entries} DocumentEntries\n")
    for each in taken:
        rows = (
            ""
            if each.rows is None
            else f"{each.rows / population.entries:6.2f} rows of {each.octets / max(1, each.rows):6.0f}"
        )
        sys.stdout.write(f"  {each.octets / population.entries:8.0f} octets an entry  {each.name:48} {rows}\n")
    whole = sum(each.octets for each in taken if "BSON" not in each.name)
    sys.stdout.write(f"  {whole / population.entries:8.0f} octets an entry  in all\n")


def print_asked(asked: Sequence[Asked]) -> None:
    sys.stdout.write("\nof one request                                clients   fsyncs   writes   octets written\n")
    for each in asked:
        syncs, writes = ("     -" if value is None else f"{value:6.2f}" for value in (each.syncs, each.writes))
        sys.stdout.write(f"{each.name:45} {each.clients:7} {syncs:>8} {writes:>8} {each.written:16.0f}\n")


async def asked_of_a_server(room: Path, submissions: int) -> list[Asked]:
    """ITI-42 and ITI-41, one after the other and many at once, of a server with one worker."""
    with server_process(room, environment={"TOIMIK_REPOSITORY_UNIQUE_ID": REPOSITORY}) as server:
        requests = Requests(_port(server))
        requests.register()
        requests.provide()
        asked = []
        for clients in (1, _AT_ONCE):
            asked.append(
                await asked_of_the_disk(
                    server, "ITI-42, one entry", requests.register, clients=clients, times=submissions
                )
            )
            name = f"ITI-41, one document of {DOCUMENT_BYTES // 1024} KiB"
            asked.append(await asked_of_the_disk(server, name, requests.provide, clients=clients, times=submissions))
        resident = max(server.peak_resident_bytes().values())
    sys.stdout.write(f"\nresident at most, one worker under this load: {resident / MIB:.0f} MiB\n")
    return asked


def print_read(room: Path, population: Population, queries: int = 100) -> None:
    """What a FindDocuments reads from the disk when nothing of the registry is in memory."""
    forgotten(room / METADATA_FILE)
    with server_process(room, environment={"TOIMIK_REPOSITORY_UNIQUE_ID": REPOSITORY}) as server:
        requests = Requests(_port(server))
        for title, patients in (("10", population.read_of_ten), ("100", population.read_of_a_hundred)):
            numbers = [patients[index * len(patients) // queries] for index in range(min(queries, len(patients)))]
            before = _read(server)
            for number in numbers:
                requests.find(number)
            read = (_read(server) - before) / len(numbers)
            sys.stdout.write(f"FindDocuments of {title} entries, nothing of it in memory: {read / 1024:.0f} KiB read\n")


def _port(server: ServerProcess) -> int:
    return int(server.url.rpartition(":")[2])


def main() -> int:
    parser = argparse.ArgumentParser(description="What an entry takes, and what a submission asks of the disk.")
    parser.add_argument("--entries", type=int, default=20_000, help="DocumentEntries to fill with (default 20000)")
    parser.add_argument("--submissions", type=int, default=300, help="of each kind to count for (default 300)")
    parser.add_argument("--mongodb", metavar="URL", help="a MongoDB server to fill a database of")
    arguments = parser.parse_args()
    population = Population.of(arguments.entries)
    with tempfile.TemporaryDirectory(prefix="sizing-", dir=Path.cwd()) as name:  # /tmp may be memory
        room = Path(name)
        for kept, title, filling in (
            (room / "at-once", "SQLite, a dossier in one submission", filled_at_once),
            (room / "one-by-one", "SQLite, each document in a submission of its own", filled_one_by_one),
        ):
            asyncio.run(filling(Settings(data=kept, repository_unique_id=REPOSITORY), population))
            print_taken(title, population, taken_in_sqlite(kept / METADATA_FILE))
        if arguments.mongodb:
            print_mongodb(arguments.mongodb, room, population)
        sys.stdout.write("\n")
        print_read(room / "one-by-one", population)
        print_asked(asyncio.run(asked_of_a_server(room / "one-by-one", arguments.submissions)))
    return 0


def print_mongodb(url: str, room: Path, population: Population) -> None:
    """Fill a database of the server, each document in a submission of its own, and leave nothing of it."""
    import pymongo  # the extra `mongodb`, which not everybody has

    database = f"toimik-sizing-{os.getpid()}"
    metadata = MetadataSettings(store=MetadataStoreKind.MONGODB, mongodb_url=SecretStr(url), mongodb_database=database)
    settings = Settings(data=room / "mongodb", metadata=metadata, repository_unique_id=REPOSITORY)
    try:
        asyncio.run(filled_one_by_one(settings, population))
        product, taken = taken_in_mongodb(url, database)
    finally:
        with pymongo.MongoClient[dict[str, object]](url) as client:
            client.drop_database(database)
    print_taken(f"{product}, each document in a submission of its own", population, taken)


if __name__ == "__main__":
    sys.exit(main())
