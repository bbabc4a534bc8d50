"""docs/fhir.md is true: what it says to type works, in the order in which it stands there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mhd.fhir.fhir_json import parsed
from server.settings import load_settings
from tests.fhir_validity import assert_is_fhir
from tests.server.running_server import running_server

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "fhir.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
EXAMPLES = sorted((ROOT / "examples" / "fhir").glob("*.json"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a server with the settings of the page."""
    directory = tmp_path_factory.mktemp("fhir")
    (settings,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (directory / "toimik.toml").write_text(settings, encoding="utf-8")
    assert load_settings(directory / "toimik.toml").mhd.generate_metadata
    with running_server(directory / "data", directory / "toimik.toml") as base:
        yield base


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on the PATH")
def test_what_the_page_says_to_type_works_in_its_order(server: str) -> None:
    assert len(BLOCKS) >= 7
    for heading, text in BLOCKS:
        script = text.replace("http://127.0.0.1:8080", server)
        command = ["bash", "-eu", "-o", "pipefail", "-c", script]
        finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert finished.returncode == 0, f"{heading}: {finished.stdout}\n{finished.stderr}"
        for line in finished.stdout.replace("}{", "}\n{").splitlines():
            assert_is_fhir(json.loads(line))


def test_the_settings_of_access_tokens_can_be_used(tmp_path: Path) -> None:
    (settings,) = re.findall(r"^```text\n(\[mhd\.iua\]\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "toimik.toml").write_text(settings, encoding="utf-8")
    assert load_settings(tmp_path / "toimik.toml").mhd.iua.issuers


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_what_its_profiles_ask(example: Path) -> None:
    assert_is_fhir(parsed(example.read_bytes()))
    assert f"examples/fhir/{example.name}" in PAGE
