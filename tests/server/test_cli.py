"""The command `toimik` itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import server.cli
from server.__main__ import COMMANDS, command_line


def toimik(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(command_line([]), ["--help"])
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command.name in result.stdout


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(command_line([command]), [command, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage" in result.stdout


def test_every_command_has_a_file_of_its_name() -> None:
    (directory,) = map(Path, server.cli.__path__)
    assert [command.name for command in COMMANDS if not (directory / f"{command.name}.py").is_file()] == []


def test_the_version_is_printed() -> None:
    result = toimik("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("toimik 0.")


def test_a_command_that_does_not_exist_is_a_mistake_on_the_command_line() -> None:
    result = toimik("sbmit")
    assert result.returncode == 2
    assert "sbmit" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_loads_no_library_of_the_server() -> None:
    program = (
        "import sys; from server.__main__ import command_line; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(command_line(['--help']), ['--help']).exit_code == 0; "
        "print([name for name in ('aiohttp', 'lxml', 'pydantic', 'sqlite3', 'uvloop') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "[]\n"


def test_a_worker_loads_no_library_of_the_command_line() -> None:
    program = "import sys, server.worker; print([name for name in ('typer', 'rich') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "[]\n"
