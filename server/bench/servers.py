"""The servers that are measured: processes of their own on 127.0.0.1, which end with the block that started them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from server.metrics import counted_together
from server.settings import Settings
from server.workers import reserve_port

_HOST: Final = "127.0.0.1"
LISTENING: Final = "Listening"
"""What a process writes when it can be asked."""
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0


class ServerFailed(Exception):
    """A server did not start; the text says what it wrote."""


@contextmanager
def toimik(settings: Settings, log: Path) -> Iterator[int]:
    """Worker processes on a free port, which is given. They log as in production, to the file `log`."""
    with _port() as port:
        with_port = settings.model_copy(update={"host": _HOST, "port": port})
        command = [sys.executable, "-m", "server.worker"]
        with (
            counted_together() as environment,
            _processes(command, with_port.for_workers(), settings.workers, log, environment),
        ):
            yield port


@contextmanager
def bare_aiohttp(workers: int, log: Path) -> Iterator[int]:
    """The reference with as many processes; its port."""
    with _port() as port, _processes([sys.executable, "-m", "server.bench.bare", str(port)], b"", workers, log):
        yield port


@contextmanager
def _port() -> Iterator[int]:
    held = reserve_port(_HOST, 0)
    try:
        yield int(held.getsockname()[1])
    finally:
        held.close()


@contextmanager
def _processes(
    command: Sequence[str], greeting: bytes, count: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Processes that all listen; each says so in its log."""
    with ExitStack() as started, log.open("wb") as output:
        processes: list[subprocess.Popen[bytes]] = []
        started.callback(_stop, processes)
        for _ in range(count):
            process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
            )
            processes.append(process)
            assert process.stdin is not None  # noqa: S101 - for the type checker; PIPE was asked for
            process.stdin.write(greeting)
            process.stdin.flush()
        _wait_until_all_listen(processes, log)
        yield


def _wait_until_all_listen(processes: Sequence[subprocess.Popen[bytes]], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while (said := log.read_text(encoding="utf-8", errors="replace")).count(LISTENING) < len(processes):
        ended = [process.returncode for process in processes if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise ServerFailed(f"a server of the benchmark did not start; it wrote: {said[-2000:] or 'nothing'}")
        time.sleep(0.05)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
        if process.stdin is not None:
            process.stdin.close()
    for process in processes:
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
