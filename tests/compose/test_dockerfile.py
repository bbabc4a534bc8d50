"""The steps of the Dockerfile make a server that runs: tried in a plain virtual environment, where no Docker is needed.

The build's RUN lines are carried out in a directory that has only what its COPY lines name. What was installed is made
read-only, and runs as in a container: without the capability by which root could write all the same, and with the
image's environment alone.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.compose.compose_files import COMPOSE, EMBEDDED, ROOT, services
from tests.compose.dockerfile import Stage, stages
from tests.server_process import free_port

DOCKERFILE = COMPOSE / "Dockerfile"
BUILD, RUN = stages(DOCKERFILE)
START_SECONDS = 60

pytestmark = pytest.mark.slow


def copied(stage: Stage) -> list[tuple[list[str], str]]:
    """Sources and target of each COPY from the checkout."""
    words = [each.arguments.split() for each in stage.all("COPY") if not each.arguments.startswith("--from")]
    return [(sources, target) for *sources, target in words]


@dataclass(frozen=True)
class Image:
    """Where the parts of the image lie on this machine."""

    root: Path

    @property
    def toimik(self) -> Path:
        return self.root / "opt/toimik"

    def located(self, text: str) -> str:
        """A path of the image as one of this machine."""
        return text.replace("/opt/toimik", str(self.toimik))


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The build stage, carried out."""
    with tempfile.TemporaryDirectory(prefix="toimik-image-") as name:
        made = Image(Path(name))
        context = made.root / "build"
        context.mkdir()
        for sources, target in copied(BUILD):
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, context / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, context / target)
        for run in BUILD.all("RUN"):
            carry_out(re.sub(r"^python\b", shlex.quote(sys.executable), made.located(run.command)), context)
        shutil.rmtree(context)  # what runs has nothing of it
        read_only(made.toimik)
        yield made
        writable(made.toimik)


def carry_out(command: str, directory: Path) -> None:
    finished = subprocess.run(
        ["sh", "-euc", command], cwd=directory, capture_output=True, text=True, timeout=280, check=False
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    assert "does not provide the extra" not in finished.stderr, finished.stderr


def read_only(tree: Path) -> None:
    subprocess.run(["chmod", "-R", "a-w,a+rX", tree], check=True)


def writable(tree: Path) -> None:
    subprocess.run(["chmod", "-R", "u+w", tree], check=True)


@pytest.fixture(scope="module")
def environment(image: Image) -> dict[str, str]:
    """What the image's ENV sets, and nothing of this test's."""
    data = image.root / "var/lib/toimik"
    data.mkdir(parents=True)
    scratch = image.root / "tmp"
    scratch.mkdir()
    given = {name: image.located(value) for name, value in RUN.environment.items()}
    path = given["PATH"].replace("$PATH", "/usr/local/bin:/usr/bin:/bin")
    assert given["TOIMIK_DATA"] == "/var/lib/toimik"
    # The container has an address of its own; this machine is shared.
    assert given["TOIMIK_HOST"] == "0.0.0.0"  # noqa: S104
    changes = {"PATH": path, "TOIMIK_DATA": str(data), "TOIMIK_HOST": "127.0.0.1", "TOIMIK_PORT": str(free_port())}
    return {**given, **changes, "TMPDIR": str(scratch)}


def started(environment: dict[str, str], command: list[str]) -> subprocess.Popen[str]:
    """A process as a container has it: no capabilities, the working directory of the image, no other variables."""
    dropping = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    program = shutil.which(command[0], path=environment["PATH"])
    assert program is not None, command
    return subprocess.Popen(
        [*dropping, program, *command[1:]],
        cwd=environment["TOIMIK_DATA"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def result(environment: dict[str, str], command: list[str]) -> tuple[int, str]:
    process = started(environment, command)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def health_check(image: Image, environment: dict[str, str]) -> list[str]:
    """The command of HEALTHCHECK, for the port that the server has here."""
    (instruction,) = RUN.all("HEALTHCHECK")
    command = re.sub(r"^.*?CMD ", "", instruction.arguments)
    port = environment["TOIMIK_PORT"]
    listed = [image.located(word) for word in json.loads(command)]
    return [word.replace("127.0.0.1:8080", f"127.0.0.1:{port}") for word in listed]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_the_dockerfile_installs_serves_as_its_command_says(
    image: Image, environment: dict[str, str], workers: str
) -> None:
    (entrypoint,), (command,) = RUN.all("ENTRYPOINT"), RUN.all("CMD")
    process = started({**environment, "TOIMIK_WORKERS": workers}, [*entrypoint.listed, *command.listed])
    try:
        deadline = time.monotonic() + START_SECONDS
        while (answer := result(environment, health_check(image, environment)))[0] != 0:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, answer[1]
            time.sleep(0.2)
        process.terminate()  # as `docker stop` does
        output, _ = process.communicate(timeout=45)
    finally:
        process.kill()

    assert process.returncode == 0, output
    assert '"message":"Listening"' in output


def test_the_health_check_fails_where_nothing_answers(image: Image, environment: dict[str, str]) -> None:
    returned, _ = result({**environment, "TOIMIK_PORT": str(free_port())}, health_check(image, environment))

    assert returned == 1


def test_the_image_has_both_clients_of_the_scaled_out_stores(image: Image, environment: dict[str, str]) -> None:
    returned, output = result(environment, ["python", "-c", "import pymongo, minio"])

    assert returned == 0, output


def test_the_program_is_installed_and_not_linked_to_a_checkout(image: Image, environment: dict[str, str]) -> None:
    returned, output = result(environment, ["python", "-c", "import server, schemas; print(server.__file__)"])

    assert returned == 0, output
    assert output.startswith(str(image.toimik))


def test_everything_the_program_reads_is_compiled(image: Image) -> None:
    """A read-only root filesystem could not be given the bytecode later, and each start would compile it again."""
    (package,) = image.toimik.glob("lib/python*/site-packages/server")
    compiled = {path.name.split(".")[0] for path in (package / "__pycache__").iterdir()}

    assert {path.stem for path in package.glob("*.py")} <= compiled


def test_a_container_is_no_root_and_both_stages_have_the_same_python() -> None:
    (user,) = RUN.all("USER")

    assert user.arguments == "10001:10001"
    assert BUILD.image == RUN.image
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", RUN.image)


def test_the_builder_is_sent_what_is_copied_and_nothing_else() -> None:
    lines = (COMPOSE / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}

    assert "*" in lines
    assert sent == {source for sources, _ in copied(BUILD) for source in sources}


def test_the_compose_file_asks_for_health_as_the_image_does(image: Image, environment: dict[str, str]) -> None:
    asked = [image.located(word) for word in services(EMBEDDED)["toimik"]["healthcheck"]["test"][1:]]

    assert [
        word.replace("127.0.0.1:8080", f"127.0.0.1:{environment['TOIMIK_PORT']}") for word in asked
    ] == health_check(image, environment)


def test_the_program_can_not_change_what_was_installed(environment: dict[str, str]) -> None:
    """Otherwise this page would show nothing about a read-only root filesystem."""
    returned, output = result(environment, ["python", "-c", "import server; open(server.__file__, 'a')"])

    assert returned == 1
    assert "PermissionError" in output
