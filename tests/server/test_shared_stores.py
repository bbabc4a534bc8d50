"""Servers that share a MongoDB database and an S3 bucket: started, answering as one, and keeping their secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from aiohttp.test_utils import unused_port
from typer.testing import CliRunner, Result

from schemas.samples import SAMPLES, path
from server.__main__ import command_line
from tests.server_process import server_process
from tests.shared_stores import as_environment, shared_stores
from tests.store_servers import StoreServer

PATIENT = "9990002649^^^&2.16.840.1.113883.2.1.4.1&ISO"


def invoked(*arguments: object) -> Result:
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(command_line(words), words)


def test_two_servers_with_two_workers_each_answer_as_one_and_log_no_secret(
    tmp_path: Path, mongodb_server: StoreServer, s3_server: StoreServer
) -> None:
    file = tmp_path / SAMPLES[0].file_name
    file.write_bytes(path(SAMPLES[0].file_name).read_bytes())
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    with shared_stores(mongodb_server, s3_server) as settings:
        environment = as_environment(settings)
        for name in ("TOIMIK_METADATA__MONGODB_URL", "TOIMIK_DOCUMENTS__S3_SECRET_KEY"):
            (secrets / name).write_text(environment.pop(name))
        environment |= {"TOIMIK_SECRETS": str(secrets), "TOIMIK_LOG__LEVEL": "debug"}
        with (
            server_process(tmp_path / "first", workers=2, environment=environment) as first,
            server_process(tmp_path / "second", workers=2, environment=environment) as second,
        ):
            submitted = invoked("submit", file, "--patient", PATIENT, "--to", first.url)
            assert submitted.exit_code == 0, submitted.output
            fetched = invoked("retrieve", "--patient", PATIENT, "--to", second.url, "--output", tmp_path / "out")
            assert fetched.exit_code == 0, fetched.output
            assert [each.read_bytes() for each in (tmp_path / "out").iterdir()] == [file.read_bytes()]
            assert first.stop() == second.stop() == 0
    for log in ("first.log", "second.log"):
        said = (tmp_path / log).read_text(encoding="utf-8")
        assert "Listening" in said
        assert s3_server.secret_key not in said
    assert not (tmp_path / "first").exists()


def test_a_store_that_can_not_be_reached_at_the_start_is_told_apart_from_a_mistake(tmp_path: Path) -> None:
    secret = "correct-horse"  # noqa: S105 - nobody's
    variables = {
        "TOIMIK_ACTORS": '["registry"]',
        "TOIMIK_METADATA__STORE": "mongodb",
        "TOIMIK_METADATA__MONGODB_URL": f"mongodb://toimik:{secret}@127.0.0.1:{unused_port()}/",
        "TOIMIK_METADATA__CONNECT_SECONDS": "0.5",
        "TOIMIK_LIMITS__STORE_SECONDS": "1",
        "TOIMIK_PORT": str(unused_port()),
    }
    for workers in ("1", "2"):
        command = [sys.executable, "-m", "server", "serve", "--workers", workers, "--data", str(tmp_path / "data")]
        ended = subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == 3, ended.stderr
        assert "can not be reached" in ended.stderr
        assert secret not in ended.stderr
    command = [sys.executable, "-m", "server", "doctor", "--data", str(tmp_path / "data")]
    looked = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=60
    )
    assert looked.returncode == 1
    assert "can not be reached" in looked.stdout
    assert secret not in looked.stdout + looked.stderr
