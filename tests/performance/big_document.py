"""One document of a gibibyte there and back through a real server, and how much memory that took.

    .venv/bin/python tests/performance/big_document.py [--size 1GiB] [--workers 1] [--documents s3]

Sends a made-up document by ITI-41, fetches it by ITI-43, compares SHA-1 both ways, and prints MB/s and the largest
resident set (VmHWM) of every process of the server. Exit code 1 where octets differ or a process had 100 MiB or more;
150 MiB with documents in S3, for which tests/store_servers.py finds or starts a server.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

if __name__ == "__main__":  # started as a file, its own directory is where Python looks for modules
    sys.path.insert(0, str(Path(__file__).parents[2]))

from server.bench.dossiers import REPOSITORY
from server.bench.large_document import fetch, send
from server.bench.load import answer_to
from server.bench.messages import FIRST_NUMBER, find_documents
from tests.server_process import ServerProcess, server_process
from tests.store_servers import StoreServer, running_s3

MIB = 1024 * 1024
PEAK_LIMITS = {"filesystem": 100 * MIB, "s3": 150 * MIB}

_UNITS = {"": 1, "KIB": 1024, "MIB": MIB, "GIB": 1024 * MIB}


@dataclass(frozen=True, slots=True)
class Passage:
    """A document, once through a connection; the client's hashing is part of the time."""

    size: int
    sha1: str
    seconds: float


def there_and_back(server: ServerProcess, run: int, size: int) -> tuple[Passage, Passage]:
    """ITI-41 and ITI-43 of a document of `size` octets. run: a number that this server has not had yet."""
    return (
        _passage(lambda taking: send(port_of(server), run, size, taking)),
        _passage(lambda taking: fetch(port_of(server), run, taking)),
    )


def port_of(server: ServerProcess) -> int:
    return int(server.url.rpartition(":")[2])


def _passage(transfer: Callable[[Callable[[bytes], object]], object]) -> Passage:
    size, sha1 = 0, hashlib.sha1(usedforsecurity=False)

    def taking(block: bytes) -> None:
        nonlocal size
        size += len(block)
        sha1.update(block)

    started = time.perf_counter()
    transfer(taking)
    return Passage(size, sha1.hexdigest(), time.perf_counter() - started)


@contextmanager
def server_for_large_documents(
    data: Path, *, workers: int = 1, s3: StoreServer | None = None
) -> Iterator[ServerProcess]:
    """A server whose repositoryUniqueId the messages know; its documents are in the data directory, or in S3."""
    environment = {"TOIMIK_REPOSITORY_UNIQUE_ID": REPOSITORY} | (_settings_for(s3) if s3 is not None else {})
    with server_process(data, workers=workers, environment=environment) as server:
        yield server


def _settings_for(s3: StoreServer) -> dict[str, str]:
    return {
        "TOIMIK_DOCUMENTS__STORE": "s3",
        "TOIMIK_DOCUMENTS__S3_ENDPOINT": s3.url,
        "TOIMIK_DOCUMENTS__S3_BUCKET": f"toimik-{uuid4().hex}",
        "TOIMIK_DOCUMENTS__S3_ACCESS_KEY": s3.access_key,
        "TOIMIK_DOCUMENTS__S3_SECRET_KEY": s3.secret_key,
    }


def octets(text: str) -> int:
    """`1GiB`, `64MiB` or a plain number."""
    match = re.fullmatch(r"(\d+)\s*([KMG]iB|)", text, re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 64MiB or 1GiB")
    return int(match[1]) * _UNITS[match[2].upper()]


def main() -> int:
    parser = argparse.ArgumentParser(description="One large document there and back, and the memory it took.")
    parser.add_argument("--size", type=octets, default=octets("1GiB"), help="of the document (default 1GiB)")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server (default 1)")
    parser.add_argument("--documents", choices=sorted(PEAK_LIMITS), default="filesystem", help="where they are kept")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="big-document-", dir=Path.cwd()) as room,  # /tmp may be memory
        running_s3() if arguments.documents == "s3" else nullcontext() as s3,
        server_for_large_documents(Path(room) / "data", workers=arguments.workers, s3=s3) as server,
    ):
        before = server.peak_resident_bytes()
        sent, fetched = there_and_back(server, 1, arguments.size)
        peaks = server.peak_resident_bytes()
        wrong = [*differences(server, sent, fetched), *too_large(peaks, PEAK_LIMITS[arguments.documents])]
    for transaction, passage in (("ITI-41", sent), ("ITI-43", fetched)):
        rate = passage.size / 1e6 / passage.seconds
        sys.stdout.write(f"{transaction}: {passage.size} octets, SHA-1 {passage.sha1}, {rate:.0f} MB/s\n")
    for process, peak in peaks.items():
        at_start = before[process] / MIB
        sys.stdout.write(f"process {process}: {peak / MIB:.1f} MiB resident at most, {at_start:.1f} MiB at the start\n")
    sys.stderr.write("".join(f"{sentence}\n" for sentence in wrong))
    return 1 if wrong else 0


def differences(server: ServerProcess, sent: Passage, fetched: Passage) -> Iterator[str]:
    """What is not as it was sent: the document that came back, or what the registry says of it."""
    if (sent.size, sent.sha1) != (fetched.size, fetched.sha1):
        yield "the octets that came back are not those that were sent"
    registered = answer_to(port_of(server), find_documents().numbered(FIRST_NUMBER, 0))
    if f"<rim:Value>{sent.sha1}</rim:Value>".encode() not in registered:
        yield "the registry has another hash than that of the octets that were sent"


def too_large(peaks: Mapping[int, int], limit: int) -> Iterator[str]:
    for process, peak in peaks.items():
        if peak >= limit:
            yield f"process {process} had {limit // MIB} MiB or more"


if __name__ == "__main__":
    sys.exit(main())
