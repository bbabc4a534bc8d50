"""`toimik demo` shows what it promises, and says so when something is not as it should be."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner, Result

from schemas.samples import SAMPLES, Sample
from server.__main__ import command_line
from server.cli import demo
from xds.actors import RegistryResponse
from xds.errors import ResponseStatus
from xds.metadata import Code, DocumentEntry


def demonstrated(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(["demo"]), ["demo", *arguments])


def test_the_demonstration_succeeds_and_explains_itself() -> None:
    result = demonstrated()
    assert result.exit_code == 0, result.output
    for sample in SAMPLES:
        assert sample.title in result.stdout
    assert result.stdout.count("identical") == len(SAMPLES)
    for word in ("ITI-41", "ITI-18", "ITI-43", "XDSRepositoryMetadataError", "Deprecated", "toimik serve"):
        assert word in result.stdout
    assert "Everything went as it should" in result.stdout


def test_the_demonstration_is_plain_text_in_a_file() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run(
        [sys.executable, "-m", "server", "demo"], capture_output=True, env=environment, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.isascii()
    assert b"\x1b" not in result.stdout
    assert result.stderr == b""


def test_samples_that_are_refused_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_of = demo._entry

    def with_a_wrong_hash(sample: Sample) -> DocumentEntry:
        return replace(entry_of(sample), hash="0" * 40)

    monkeypatch.setattr(demo, "_entry", with_a_wrong_hash)
    result = demonstrated()
    assert result.exit_code == 1
    assert "refused" in result.stderr
    assert "Everything went" not in result.stdout


def test_a_server_that_takes_what_it_should_refuse_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    provided = demo._provided

    async def generous(server: demo.Server, documents: list[demo.Document], *rest: Code) -> RegistryResponse:
        if documents[0].entry.hash:
            return RegistryResponse(ResponseStatus.SUCCESS)
        return await provided(server, documents, *rest)

    monkeypatch.setattr(demo, "_provided", generous)
    result = demonstrated()
    assert result.exit_code == 1
    assert "has to be refused" in result.stderr


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = demonstrated("--port", str(port))
    assert result.exit_code == 2
    assert str(port) in result.stderr


def test_it_goes_on_serving_when_asked_to_and_stops_when_told_to() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "server", "demo", "--keep"], stdout=subprocess.PIPE, text=True
    ) as kept:
        assert kept.stdout is not None
        output = ""
        try:
            for line in kept.stdout:
                output += line
                if "toimik submit --to" in line:
                    break
            match = re.search(r"toimik retrieve --to http://127\.0\.0\.1:(\d+) ", output)
            assert match, output
            connection = http.client.HTTPConnection("127.0.0.1", int(match[1]), timeout=30)
            connection.request("GET", "/health/ready")
            assert connection.getresponse().status == 200
            connection.close()
        finally:
            kept.send_signal(signal.SIGINT)
        kept.stdout.read()
        assert kept.wait(60) == 0
