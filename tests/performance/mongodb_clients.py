"""What talking to MongoDB costs the client: PyMongo's asyncio API beside Motor, on one server in one run.

    .venv/bin/python tests/performance/mongodb_clients.py [--rounds 5]

Motor is no dependency of Toimik: both drivers are installed into a virtual environment that is thrown away, with the
PyMongo that Toimik uses under both. Processes of the two take turns. Printed are CPU seconds of the whole process,
threads included, for 1,000 operations: median and range. See docs/adr/0004-pymongo-not-motor.md.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

MOTOR = "motor==3.7.*"
OPERATIONS = 1000
AT_ONCE = 16
DOSSIER = 20
"""Documents that a find of several returns."""

CLIENTS = {"PyMongo": ("pymongo", "AsyncMongoClient"), "Motor": ("motor.motor_asyncio", "AsyncIOMotorClient")}

Operation: TypeAlias = Callable[[int], Awaitable[object]]


def main() -> None:
    """Start a server, measure, and tell in a table."""
    parser = argparse.ArgumentParser(description="CPU seconds of PyMongo's asyncio API and of Motor")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=2, metavar=("CLIENT", "URL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        uvloop = importlib.import_module("uvloop")
        sys.stdout.write(json.dumps(uvloop.run(measured(*arguments.measure))))
    else:
        sys.stdout.write(table(compared(arguments.rounds)))


def compared(rounds: int) -> dict[str, list[dict[str, float]]]:
    """By client, what each of its processes measured."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.store_servers import running_mongodb

    found: dict[str, list[dict[str, float]]] = {client: [] for client in CLIENTS}
    with tempfile.TemporaryDirectory() as directory, running_mongodb() as server:
        python = installed(Path(directory))
        for turn in range(rounds):
            for client in sorted(CLIENTS, reverse=bool(turn % 2)):
                command = [python, __file__, "--measure", client, server.url]
                ran = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                found[client].append(json.loads(ran.stdout))
    return found


def installed(directory: Path) -> str:
    """The interpreter of a new virtual environment with both drivers."""
    venv.create(directory, with_pip=True)
    python = str(directory / "bin" / "python")
    packages = [MOTOR, *(f"{name}=={version(name)}" for name in ("pymongo", "uvloop"))]
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], check=True)
    return python


async def measured(client_name: str, url: str) -> dict[str, float]:
    """CPU seconds of this process for 1,000 of each kind of operation."""
    module, name = CLIENTS[client_name]
    client = getattr(importlib.import_module(module), name)(url, w="majority", readConcernLevel="majority")
    database = client[f"{client_name}-{time.time_ns()}"]
    things = database.things
    await things.create_index("dossier")
    await things.insert_many([document(f"warm{number}", "warm") for number in range(DOSSIER)])

    found: dict[str, float] = {}
    for at_once in (1, AT_ONCE):

        async def insert_one(number: int, name: str = f"{at_once} at once") -> None:
            await things.insert_one(document(f"{name} {number}", name))

        async def find_one(number: int, name: str = f"{at_once} at once") -> None:
            assert await things.find_one({"_id": f"{name} {number}"})

        async def find_dossier(number: int) -> None:
            assert len(await things.find({"dossier": "warm"}).to_list(None)) == DOSSIER

        kinds = {"insert_one": insert_one, "find_one": find_one, f"find of {DOSSIER}": find_dossier}
        for kind, operation in kinds.items():
            found[f"{kind}, {at_once} at once"] = await cpu_seconds(operation, at_once)
    await client.drop_database(database.name)
    return found


async def cpu_seconds(operation: Operation, at_once: int) -> float:
    """Of this process, all its threads together."""

    async def some(first: int) -> None:
        for number in range(first, OPERATIONS, at_once):
            await operation(number)

    before = time.process_time()
    await asyncio.gather(*(some(first) for first in range(at_once)))
    return time.process_time() - before


def document(identifier: str, dossier: str) -> dict[str, Any]:
    """About as large as a DocumentEntry in the index: its search columns, and its rendering, compressed."""
    columns = {f"column{number}": f"urn:oid:1.2.3.4.{number}" for number in range(20)}
    return {"_id": identifier, "dossier": dossier, "sequence": 1, **columns, "ebrim": bytes(1000)}


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """A line for each kind of operation."""
    lines = [
        f"CPU seconds of the client for {OPERATIONS} operations, median (range) of {len(found['PyMongo'])} processes"
    ]
    for kind in found["PyMongo"][0]:
        cells = []
        for client, runs in found.items():
            seconds = [run[kind] for run in runs]
            cells.append(f"{client} {statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})")
        lines.append(f"{kind:24} {'   '.join(cells)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
