"""A real server in a process of its own, for tests that kill it, measure it or talk to it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

_START_SECONDS = 60.0
_END_SECONDS = 60.0
_NEVER_CONNECTED_FROM = (15_000, 32_000)
"""Ports below those that Linux takes for the near end of a connection (net.ipv4.ip_local_port_range)."""


def _shuffled_ports() -> Iterator[int]:
    """All of them, but for those of other worker processes of the tests."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    first, last = _NEVER_CONNECTED_FROM
    ports = list(range(first + worker, last, workers))
    random.SystemRandom().shuffle(ports)
    return iter(ports)


_PORTS = _shuffled_ports()


@dataclass
class ServerProcess:
    """`toimik serve`, and all processes it started."""

    process: subprocess.Popen[bytes]
    url: str

    @property
    def registry(self) -> str:
        return f"{self.url}/xds/registry"

    @property
    def repository(self) -> str:
        return f"{self.url}/xds/repository"

    def kill(self) -> None:
        """SIGKILL to every process of the server at once: no handler runs, nothing is flushed.

        Returns when all of them are gone. A worker that is still dying would hold its port, and its locks.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        members = _members_of(self.process.pid)
        self.process.wait()
        deadline = time.monotonic() + _END_SECONDS
        while any(_runs(member) for member in members):
            if time.monotonic() > deadline:
                raise RuntimeError(f"a killed server still runs after {_END_SECONDS:g} seconds")
            time.sleep(0.01)

    def stop(self) -> int:
        """Ask it to stop, as an operator would, and return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=60)

    def peak_resident_bytes(self) -> dict[int, int]:
        """The largest resident set each process of the server has had so far, by process id (Linux)."""
        processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        return {process.pid: _peak(process.pid) for process in processes}


def _members_of(group: int) -> list[psutil.Process]:
    """The processes of a group."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == group:
                members.append(process)
    return members


def _runs(process: psutil.Process) -> bool:
    """Whether it is there, other than as a line of the process table that nobody has read yet."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no VmHWM for process {pid}")


def free_port() -> int:
    """A port that nobody listens on at this moment, and that no other test was given.

    It is none of those that connections are made from: a server that is killed and started again finds it free still.
    """
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("all ports were given away")


@contextlib.contextmanager
def server_process(
    data: Path,
    *,
    workers: int = 1,
    port: int | None = None,
    environment: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[ServerProcess]:
    """Start a server on `data`, wait until it is ready, and kill it at the end if it still runs.

    environment   variables beside those of this process, such as the settings of shared stores (tests/shared_stores.py)
    tls           how it is spoken to where those name a certificate
    """
    port = port or free_port()
    command = [sys.executable, "-m", "server", "serve", "--port", str(port), "--workers", str(workers)]
    command += ["--data", str(data)]
    with (data.parent / f"{data.name}.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **(environment or {})}
        )
    server = ServerProcess(process, f"{'https' if tls else 'http'}://127.0.0.1:{port}")
    try:
        _wait_until_ready(server, tls)
        yield server
    finally:
        server.kill()


def _wait_until_ready(server: ServerProcess, tls: ssl.SSLContext | None) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"the server ended with {server.process.returncode} before it was ready")
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"{server.url}/health/ready", timeout=5, context=tls) as response,  # noqa: S310 - our own
        ):
            if json.load(response)["status"] == "ready":
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server was not ready after {_START_SECONDS:g} seconds")
