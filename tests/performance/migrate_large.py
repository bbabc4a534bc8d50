"""Migrate a registry of 100,000 DocumentEntries and 1,000 documents, kill the migration twice, and finish it.

`python tests/performance/migrate_large.py [--entries N] [--documents N] [--back]`: from SQLite and files to MongoDB and
S3 (tests/store_servers.py), each time by `toimik migrate` as an operator types it. The first run is killed (SIGKILL)
while it copies the registry, the second while it copies documents. The last has to find both sides the same. `--back`
goes on to copy everything back to a new directory in the same way, and holds that against the original.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pymongo
from minio import Minio

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

# Run as a script, the project's root has to be found first.
from repository.document_store_filesystem import FilesystemDocumentStore  # noqa: E402
from repository.s3_layout import Layout  # noqa: E402
from server.bench.dossiers import Population  # noqa: E402
from server.bench.filling import fill  # noqa: E402
from server.settings import load_settings  # noqa: E402
from server.store_opening import DOCUMENTS_DIRECTORY, metadata_store  # noqa: E402
from tests.shared_stores import as_environment, shared_stores  # noqa: E402
from tests.store_servers import StoreServer, running_mongodb, running_s3  # noqa: E402
from xds.ebxml_writer import codec  # noqa: E402
from xds.metadata import DocumentEntry  # noqa: E402

_LARGEST = 200_000
_AT_ONCE = 16
_POLL_SECONDS = 0.05


def main() -> int:
    """Fill, migrate, kill, finish; the figures go to standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--documents", type=int, default=1_000)
    parser.add_argument("--back", action="store_true")
    arguments = parser.parse_args()
    with ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="toimik-migrate-", dir=Path.cwd())))
        mongodb, s3 = running.enter_context(running_mongodb()), running.enter_context(running_s3())
        settings = running.enter_context(shared_stores(mongodb, s3, used=False))
        data = directory / "here"
        began = time.monotonic()
        octets = asyncio.run(_filled(data, arguments.entries, arguments.documents))
        _say(f"{arguments.entries} entries, {arguments.documents} documents of {octets} octets", began)
        target = _Target(settings, mongodb, s3)
        if not _migrated(settings, data, ("sqlite", "mongodb"), (target.records, target.documents)):
            return 1
        if not arguments.back:
            return 0
        back = directory / "back"
        return 0 if _migrated(settings, back, ("mongodb", "sqlite"), (_records_in(back), _documents_in(back))) else 1


async def _filled(data: Path, entries: int, documents: int) -> int:
    """Have a registry, and for its first entries documents under their uniqueIds; how many octets these are."""
    settings = load_settings(data=data)
    await fill(settings, Population.of(entries), lambda _: None)
    unique_ids = await _first_unique_ids(data, documents)
    store = FilesystemDocumentStore(data / DOCUMENTS_DIRECTORY)
    drawn = random.Random(1)  # noqa: S311 - nobody guards anything with these
    octets = 0
    for start in range(0, len(unique_ids), _AT_ONCE):
        contents = {each: drawn.randbytes(drawn.randrange(_LARGEST)) for each in unique_ids[start : start + _AT_ONCE]}
        async with store.staging() as staging:
            for name, content in contents.items():
                await staging.add(name, _chunks(content))
            published = await staging.publish({name: (name, "application/octet-stream") for name in contents})
        for kept in published:
            await store.settle(kept)
        octets += sum(map(len, contents.values()))
    return octets


async def _first_unique_ids(data: Path, count: int) -> list[str]:
    store = await metadata_store(load_settings(data=data))
    found: list[str] = []
    try:
        async for row in store.index_rows():
            entry = codec.read(row.ebrim) if len(found) < count else None
            if isinstance(entry, DocumentEntry) and entry.unique_id:
                found.append(entry.unique_id)
            if len(found) >= count:
                break
    finally:
        await store.close()
    return found


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 65_536):
        yield content[start : start + 65_536]


class _Target:
    """How far MongoDB and S3 have come."""

    def __init__(self, settings: Mapping[str, Mapping[str, str]], mongodb: StoreServer, s3: StoreServer) -> None:
        self._changes = pymongo.MongoClient[dict[str, object]](mongodb.url)[settings["metadata"]["mongodb_database"]]
        url = urlsplit(s3.url)
        self._s3 = Minio(url.netloc, s3.access_key, s3.secret_key, secure=url.scheme == "https")
        self._bucket, prefix = settings["documents"]["s3_bucket"], settings["documents"]["s3_prefix"]
        self._layout = Layout.under(prefix)

    def records(self) -> int:
        return self._changes["changes"].estimated_document_count()

    def documents(self) -> int:
        if not self._s3.bucket_exists(self._bucket):
            return 0
        return sum(1 for _ in self._s3.list_objects(self._bucket, prefix=self._layout.all_settled, recursive=True))


def _records_in(data: Path) -> Callable[[], int]:
    """Of SQLite the size of its files tells enough: something is being copied."""
    return lambda: sum(file.stat().st_size for file in data.glob("registry.sqlite-wal"))


def _documents_in(data: Path) -> Callable[[], int]:
    return lambda: sum(1 for file in (data / DOCUMENTS_DIRECTORY / "documents").rglob("*") if file.is_file())


def _migrated(
    settings: Mapping[str, object], data: Path, way: tuple[str, str], how_far: tuple[Callable[[], int], ...]
) -> bool:
    """Two runs that are killed, each as soon as there is something of what it copies, and one to the end."""
    source, target = way
    command = [sys.executable, "-m", "server", "migrate", "--data", str(data), "--from", source, "--to", target]
    environment = {**os.environ, **as_environment(settings)}
    for name, progress in zip(("registry", "documents"), how_far, strict=True):
        began = time.monotonic()
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            before = 0
            while process.poll() is None and before == 0:
                time.sleep(_POLL_SECONDS)
                before = progress()
            time.sleep(1.0)
            ended = process.poll()
            process.kill()
        if ended is not None:
            sys.stderr.write(f"the migration ended with {ended} before it could be killed; take more entries\n")
            return False
        _say(f"{way[0]} to {way[1]}: killed while it copied the {name}, at {progress()}", began)
    began = time.monotonic()
    outcome = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    sys.stdout.write(outcome.stdout)
    sys.stderr.write(outcome.stderr)
    _say(f"{way[0]} to {way[1]}: finished and compared, exit code {outcome.returncode}", began)
    return outcome.returncode == 0


def _say(sentence: str, began: float) -> None:
    sys.stdout.write(f"{sentence} ({time.monotonic() - began:.1f} s)\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
