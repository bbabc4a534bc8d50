"""README.md is true: what it says to type works, what it shows is what one sees, and what it names is there."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.cli.screen import ExitCode
from server.settings import Actor, load_settings
from server.settings.limits import Limits
from server.settings.setting_forms import MIB
from tests.server.running_server import running_server
from tests.server_process import ServerProcess, server_process

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted({ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")})
NOTE = str(ROOT / "schemas/samples/visit-note.txt")
PATIENT = "9990002649^^^&2.16.840.1.113883.2.1.4.1&ISO"
UNITS = {"": 1, "s": 1, "KiB": 1024, "MiB": MIB}

HEADING_OR_BLOCK = (
    r"^#+ (?P<heading>[^\n]+)$"
    r"|(?:^<!-- not run: (?P<why>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$"
)


@dataclass(frozen=True)
class Block:
    """A fenced block. not_run: why it is not for this test, as the comment before it says."""

    heading: str
    language: str
    text: str
    not_run: str | None


def blocks() -> list[Block]:
    found: list[Block] = []
    heading = ""
    for match in re.finditer(HEADING_OR_BLOCK, README, re.MULTILINE | re.DOTALL):
        if match["heading"]:
            heading = match["heading"]
        else:
            found.append(Block(heading, match["language"], match["text"], match["why"]))
    return found


def blocks_in(language: str) -> list[Block]:
    return [block for block in blocks() if block.language == language]


SERVE = ".venv/bin/toimik serve\n"
TO_RUN = [block for block in blocks_in("sh") if block.not_run is None and block.text != SERVE]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that looks like a checkout after `make test`, in which README's commands may leave what they make."""
    directory = tmp_path_factory.mktemp("checkout")
    for name in ("examples", "schemas"):
        (directory / name).symlink_to(ROOT / name)
    return directory


@pytest.fixture(scope="module")
def server(checkout: Path) -> Iterator[ServerProcess]:
    """What `toimik serve` starts, on another port than README's."""
    with server_process(checkout / "toimik-data") as running:
        _program(checkout / ".venv/bin/python", f'exec "{sys.executable}" "$@"')
        _program(
            checkout / ".venv/bin/toimik",
            f'case "$1" in submit|query|retrieve) set -- "$@" --to {running.url};; esac\n'
            f'exec "{sys.executable}" -m server "$@"',
        )
        yield running


def _program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def run(block: Block, checkout: Path, server: ServerProcess) -> subprocess.CompletedProcess[str]:
    """Run a block as somebody would who pastes it."""
    script = block.text.replace("http://127.0.0.1:8080", server.url)
    command = ["bash", "-eu", "-o", "pipefail", "-c", script]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("block", TO_RUN, ids=[f"{block.heading} {number}" for number, block in enumerate(TO_RUN, 1)])
def test_what_readme_says_to_type_works(block: Block, checkout: Path, server: ServerProcess) -> None:
    program = block.text.split(maxsplit=1)[0]
    if program == "java" and shutil.which("java") is None:
        pytest.skip("there is no java on the PATH")

    finished = run(block, checkout, server)

    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"


def test_the_server_is_started_as_readme_says() -> None:
    assert [block for block in blocks_in("sh") if block.text == SERVE], "the fixture starts something else than README"


def test_most_of_readme_is_run() -> None:
    languages = {block.language for block in blocks()}

    assert languages == {"sh", "text", "toml", "ini"}, "a block of another language would not be looked at"
    assert len(TO_RUN) >= 6
    assert [block.heading for block in blocks_in("sh") if block.not_run] == ["Two commands", "Submit from .NET"]


def test_a_document_that_an_example_submits_is_found_and_fetched_by_the_other(
    checkout: Path, server: ServerProcess
) -> None:
    (block,) = [block for block in TO_RUN if "examples/python/" in block.text]

    printed = run(block, checkout, server).stdout

    status, unique_id = printed.splitlines()[0].split(": ")
    assert status == "Success"
    assert f"fetched-by-zeep/{unique_id}" in printed
    fetched = checkout / "fetched-by-zeep" / unique_id
    assert fetched.read_bytes() == Path(NOTE).read_bytes()


EXAMPLES = [
    pytest.param([sys.executable, "examples/python/submit.py"], id="Python"),
    pytest.param(
        ["java", "examples/java/Submit.java"],
        id="Java",
        marks=pytest.mark.skipif(shutil.which("java") is None, reason="there is no java on the PATH"),
    ),
]


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize(
    ("actor", "patient_id", "told"),
    [
        pytest.param("repository", "no CX", "XDSRepositoryMetadataError: patientId of", id="an error"),
        pytest.param("registry", "1^^^&1.2.3&ISO", "Fault: The body", id="a fault"),
    ],
)
def test_an_example_tells_why_it_was_refused(
    example: list[str], actor: str, patient_id: str, told: str, server: ServerProcess
) -> None:
    arguments = [f"{server.url}/xds/{actor}", patient_id, NOTE]

    finished = subprocess.run(
        [*example, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )

    assert finished.returncode == 1, finished.stderr
    assert finished.stdout.startswith(told)


def test_the_examples_send_codes_of_the_sample_affinity_domain(tmp_path: Path) -> None:
    with running_server(tmp_path / "data", ROOT / "schemas/samples/affinity-domain.toml") as base:
        finished = subprocess.run(
            [sys.executable, "examples/python/submit.py", f"{base}/xds/repository", PATIENT, NOTE],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    # One line alone: a code that is not listed would be told as an error or as a warning.
    assert re.fullmatch(r"Success: 2\.25\.\d+\n", finished.stdout)


def test_the_demonstration_prints_what_readme_shows() -> None:
    (shown,) = blocks_in("text")

    finished = subprocess.run(
        [sys.executable, "-m", "server", "demo"], capture_output=True, text=True, timeout=120, check=True
    )

    printed = _blanks_joined(finished.stdout)
    lines = [_blanks_joined(line) for line in shown.text.splitlines() if line.strip(" .")]
    assert lines
    for line in lines:
        assert line.removesuffix(" ...") in printed


def _blanks_joined(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("block", blocks_in("toml"), ids=lambda block: block.text.split("\n", 1)[0])
def test_settings_that_readme_shows_can_be_loaded(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "toimik.toml"
    file.write_text(block.text, encoding="utf-8")

    settings = load_settings(file)

    assert settings != load_settings()


def test_a_repository_may_stand_alone_in_front_of_a_registry(tmp_path: Path) -> None:
    (alone,) = [block.text for block in blocks_in("toml") if "registry_url" in block.text]
    settings = tmp_path / "toimik.toml"
    with running_server(tmp_path / "registry", actors=[Actor.REGISTRY]) as registry:
        settings.write_text(re.sub('"http://.*"', f'"{registry}/xds/registry"', alone), encoding="utf-8")
        with running_server(tmp_path / "repository", settings) as repository:
            endpoints = ["--repository", f"{repository}/xds/repository", "--registry", f"{registry}/xds/registry"]
            toimik("submit", NOTE, "--patient", PATIENT, *endpoints[:2], cwd=tmp_path)
            toimik("retrieve", "--patient", PATIENT, *endpoints, cwd=tmp_path)

    (fetched,) = tmp_path.glob("2.25.*.txt")
    assert fetched.read_bytes() == Path(NOTE).read_bytes()


def toimik(*arguments: str, cwd: Path) -> None:
    command = [sys.executable, "-m", "server", *arguments]
    subprocess.run(command, cwd=cwd, capture_output=True, timeout=60, check=True)


def test_the_service_runs_what_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = blocks_in("ini")
    unit = configparser.ConfigParser(interpolation=None, comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(block.text)
    service = unit["Service"]
    variable, _, value = service["Environment"].partition("=")
    monkeypatch.setenv(variable, value)

    settings = load_settings()

    assert service["ExecStart"] == "/opt/toimik/bin/toimik serve --config /etc/toimik.toml"
    assert settings.data == Path("/var/lib") / service["StateDirectory"]
    assert float(service["TimeoutStopSec"]) > settings.shutdown_seconds + 10  # what workers are given, see workers.py
    assert int(service["RestartPreventExitStatus"]) == ExitCode.USAGE


def test_every_limit_is_listed_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) ?(\w*) \|", README, re.MULTILINE)

    listed = {name: int(number) * UNITS[unit] for name, number, unit in rows}

    assert listed == Limits().model_dump()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), f"{target} in {page.name}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_readme_can_be_read_at_one_sitting() -> None:
    assert len(README.splitlines()) <= 260
