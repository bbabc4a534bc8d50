"""Several worker processes on one port, watched by the process that was started.

Each worker binds the port itself (SO_REUSEPORT) and the kernel spreads connections over them. A worker that dies is
replaced. SIGTERM and SIGINT let requests in flight finish. A worker's standard input brings its settings and then
stays open: when it closes, this process is gone, and the worker stops as if it had been asked to.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from types import FrameType

from server.metrics import counted_together, ended_worker
from server.settings import Settings

log = logging.getLogger(__name__)

CANNOT_START = 2
"""Exit code of a worker that would not start another time either: its settings or stores can not be used."""

_PAUSE_SECONDS = 0.2
_RESTART_PAUSE_SECONDS = 1.0
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def reserve_port(host: str, port: int) -> socket.socket:
    """A socket that keeps `port` (0: any free one) for the workers' own sockets, without listening itself.

    Raises OSError where the address can not be had.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    # Nobody may be listening yet: with SO_REUSEPORT alone, two servers would silently share the port.
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except OSError:
        held.close()
        raise
    return held


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    started_at: float


class Workers:
    """The worker processes of one server."""

    def __init__(self, settings: Settings) -> None:
        """settings.port must be a real port, not 0."""
        self._settings = settings
        self._environment: dict[str, str] = {}
        self._stopping = threading.Event()
        self._workers: list[_Worker] = []

    def run(self) -> int:
        """Serve until told to stop, and return the exit code."""
        with counted_together() as self._environment:
            return self._run()

    def _run(self) -> int:
        earlier = {number: signal.signal(number, self._stop) for number in _STOP_SIGNALS}
        try:
            self._workers = [self._started() for _ in range(self._settings.workers)]
            exit_code = 0
            while not self._stopping.wait(_PAUSE_SECONDS):
                if any(worker.process.poll() == CANNOT_START for worker in self._workers):
                    exit_code = CANNOT_START
                    break
                self._workers = [self._alive(worker) for worker in self._workers]
            return self._finished() or exit_code
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler's signature
        self._stopping.set()

    def _started(self) -> _Worker:
        process = subprocess.Popen(
            [sys.executable, "-m", "server.worker"], stdin=subprocess.PIPE, env={**os.environ, **self._environment}
        )
        assert process.stdin is not None  # noqa: S101 - for the type checker; PIPE was asked for
        process.stdin.write(self._settings.for_workers())
        process.stdin.flush()
        return _Worker(process, time.monotonic())

    def _alive(self, worker: _Worker) -> _Worker:
        exit_code = worker.process.poll()
        if exit_code is None:
            return worker
        log.error("A worker ended; another one is started", extra={"exit_code": exit_code, "pid": worker.process.pid})
        ended_worker(worker.process.pid, self._environment)
        if time.monotonic() - worker.started_at < _RESTART_PAUSE_SECONDS:
            self._stopping.wait(_RESTART_PAUSE_SECONDS)
        return self._started()

    def _finished(self) -> int:
        """Ask every worker to stop, wait as long as requests may take, then end what is left."""
        for worker in self._workers:
            worker.process.terminate()
        # The workers keep to shutdown_seconds by themselves; the rest is for letting go of the stores.
        deadline = time.monotonic() + self._settings.shutdown_seconds + 10
        exit_code = 0
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("A worker did not stop in time and is killed", extra={"pid": worker.process.pid})
                worker.process.kill()
                worker.process.wait()
                exit_code = 1
            if worker.process.stdin is not None:
                worker.process.stdin.close()
        return exit_code
