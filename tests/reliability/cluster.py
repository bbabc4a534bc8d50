"""Toimik nodes on one MongoDB server and one S3 server, all of them processes of our own that can be killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.reliability.shared_stores import SharedStores
from tests.server_process import ServerProcess, free_port, server_process
from tests.store_servers import OwnStoreServer, running_mongodb, running_s3


class Node:
    """One server: `toimik serve`, which is started and killed again and again on the same port."""

    def __init__(self, data: Path, environment: Mapping[str, str], *, workers: int) -> None:
        self._data = data
        self._environment = dict(environment)
        self._workers = workers
        self._port = free_port()
        self._running = contextlib.ExitStack()
        self._server: ServerProcess | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self, **environment: str) -> None:
        """Start it, and wait until both stores answer it."""
        self._server = self._running.enter_context(
            server_process(
                self._data, workers=self._workers, port=self._port, environment=self._environment | environment
            )
        )

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        self._server = None
        self._running.close()

    def stop(self) -> int:
        """As an operator would; returns the exit code."""
        if self._server is None:
            raise RuntimeError("the node does not run")
        exit_code = self._server.stop()
        self.kill()
        return exit_code


@dataclass(frozen=True)
class Cluster:
    """Several nodes and their stores."""

    mongodb: OwnStoreServer
    s3: OwnStoreServer
    stores: SharedStores
    nodes: Sequence[Node]

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def leftovers(self) -> list[str]:
        """A sentence for everything that is neither finished nor gone, in both stores."""
        return [*self.stores.leftovers(), *self._broken_uploads()]

    def _broken_uploads(self) -> Iterator[str]:
        # The server lists uploads only of an object whose name is known; so this looks where it keeps their parts.
        for path in (self.s3.directory / "data" / ".minio.sys" / "multipart").rglob("part.*"):
            yield f"{path.name} of an upload was left behind"


@contextlib.contextmanager
def running_cluster(directory: Path, *, nodes: int = 2, workers: int = 1) -> Iterator[Cluster]:
    """Nodes that are started, and killed in the end; their logs are in `directory`.

    Raises StoreServerAbsent.
    """
    with contextlib.ExitStack() as stack:
        mongodb = stack.enter_context(running_mongodb(killable=True))
        s3 = stack.enter_context(running_s3(killable=True))
        assert isinstance(mongodb, OwnStoreServer)
        assert isinstance(s3, OwnStoreServer)
        stores = SharedStores(mongodb, s3)
        environment = stores.environment()
        toimik(environment, "migrate")
        numbers = range(1, nodes + 1)
        cluster = Cluster(
            mongodb, s3, stores, [Node(directory / f"node-{each}", environment, workers=workers) for each in numbers]
        )
        for node in cluster.nodes:
            stack.callback(node.kill)
            node.start()
        yield cluster


def toimik(environment: Mapping[str, str], *arguments: str) -> str:
    """Run a command with these settings; its output.

    Raises RuntimeError with what it has to say where it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment, "TOIMIK_PORT": "0"},
    )
    if done.returncode != 0:
        raise RuntimeError(f"toimik {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout
