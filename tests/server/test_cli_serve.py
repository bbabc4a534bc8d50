"""`toimik serve` serves, stops when told to, and says why it can not serve."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port


@contextmanager
def served(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "server", "serve", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def health(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status
    finally:
        connection.close()


def port_logged(process: subprocess.Popen[str]) -> int:
    """The port that the first "Listening" of the log names."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        record = json.loads(line)
        if record["message"] == "Listening":
            return int(record["url"].rpartition(":")[2])
    raise AssertionError("".join(lines))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_told_to_stop(tmp_path: Path, workers: int, stop: signal.Signals) -> None:
    with served("--data", tmp_path / "data", "--port", 0, "--workers", workers) as process:
        port = port_logged(process)
        assert health(port) == 200
        process.send_signal(stop)
        process.communicate(timeout=60)
        assert process.returncode == 0


def refused(*arguments: object) -> str:
    """What is said on standard error, where the command can not serve."""
    with served(*arguments) as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert output == ""
    assert "Traceback" not in errors
    return errors


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken_is_named(tmp_path: Path, workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert str(port) in refused("--data", tmp_path, "--port", port, "--workers", workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_certificate_that_can_not_be_read_is_named(tmp_path: Path, workers: int) -> None:
    config = tmp_path / "toimik.toml"
    config.write_text('[tls]\ncertificate = "gone.pem"\nkey = "gone.key"\n')
    assert "gone.pem" in refused("--config", config, "--data", tmp_path, "--port", 0, "--workers", workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_that_is_none_is_named(tmp_path: Path, workers: int) -> None:
    (tmp_path / "registry.sqlite").write_bytes(b"I am no database, but long enough to be looked at." * 100)
    errors = refused("--data", tmp_path, "--port", unused_port(), "--workers", workers)
    assert "metadata store" in errors
    assert "toimik doctor" in errors


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_can_not_be_written_to_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "denied" in refused("--data", tmp_path / "data", "--port", 0)


def test_settings_that_are_wrong_are_named(tmp_path: Path) -> None:
    config = tmp_path / "toimik.toml"
    config.write_text("port = 'high'\nunknown = 1\n")
    errors = refused("--config", config)
    assert "port" in errors
    assert "unknown" in errors
    assert "no-such.toml" in refused("--config", "no-such.toml")
