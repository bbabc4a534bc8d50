"""A plug-in that makes on-demand documents: installed as an operator would, and found by its entry point."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner

from server.__main__ import command_line
from server.settings import SettingsProblem
from tests.builders import PATIENT, REPOSITORY, oid
from tests.conformance.test_on_demand import promised, retrieved
from tests.conformance.wire import Wire, running_server
from tests.server.running_server import running_server as running_server_beside

PLUGIN = Path(__file__).parents[2] / "examples/on-demand-plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which pip has installed the example."""
    directory = tmp_path_factory.mktemp("site-packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, *offline, "--target", str(directory), str(PLUGIN)], check=True, timeout=120)
    return directory


@pytest.fixture
def plugged_in(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed)


def source(directory: Path, **changes: Any) -> dict[str, Any]:
    options = {"directory": str(directory)}
    return {"name": "medication", "entry_point": "current-medication", "options": options, **changes}


@pytest.mark.usefixtures("plugged_in")
async def test_a_plug_in_makes_documents(tmp_path: Path) -> None:
    patients = tmp_path / "patients"
    patients.mkdir()
    settings: dict[str, Any] = {"repository_unique_id": REPOSITORY, "on_demand": [source(patients)]}
    async with running_server(tmp_path / "data", **settings) as base, aiohttp.ClientSession() as session:
        wire = Wire(base, session)
        entry = await promised(wire)
        before = await retrieved(wire, entry)
        (patients / f"{PATIENT.id_number}.txt").write_text("Simvastatin 20 mg\nLisinopril 5 mg\n", encoding="utf-8")
        after = await retrieved(wire, entry)

    assert before.codes == ["XDSDocumentUniqueIdError"]
    assert list(after.parts.values()) == [b"Simvastatin 20 mg\nLisinopril 5 mg\n"]


@pytest.mark.usefixtures("plugged_in")
def test_the_command_line_tells_as_what_a_document_was_made(tmp_path: Path) -> None:
    patients = tmp_path / "patients"
    patients.mkdir()
    (patients / f"{PATIENT.id_number}.txt").write_text("Lisinopril 5 mg\n", encoding="utf-8")
    settings: dict[str, Any] = {"repository_unique_id": REPOSITORY, "on_demand": [source(patients)]}

    async def register(base: str) -> str:
        async with aiohttp.ClientSession() as session:
            return (await promised(Wire(base, session))).unique_id or ""

    with running_server_beside(tmp_path / "data", **settings) as base:
        unique_id = asyncio.run(register(base))
        fetch = ("retrieve", unique_id, "--to", base, "-o", str(tmp_path / "out"))
        told = CliRunner().invoke(command_line(list(fetch)), list(fetch))
        again = CliRunner().invoke(command_line(["retrieve"]), [*fetch, "--force", "--json"])
        of_patient = ["retrieve", "--patient", str(PATIENT), *fetch[2:], "--force", "--json"]
        stable = CliRunner().invoke(command_line(of_patient), of_patient)
        all_of_them = CliRunner().invoke(command_line(of_patient), [*of_patient, "--on-demand"])

    assert told.exit_code == 0, told.output
    assert unique_id not in stable.stdout
    assert unique_id in all_of_them.stdout
    (document,) = json.loads(again.stdout)["documents"]
    assert (tmp_path / "out" / f"{unique_id}.txt").read_text() == "Lisinopril 5 mg\n"
    assert document["unique_id"] == unique_id
    assert document["new_repository_unique_id"] is None
    in_a_line = " ".join(told.stdout.split())
    assert f"was made on demand as {document['new_unique_id']}, not kept." in in_a_line


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"entry_point": "medication"}, "no installed package has an entry point 'medication' .* current-medication"),
        ({"options": {}}, "medication: the entry point 'current-medication' can not be opened: KeyError"),
    ],
    ids=["not there", "not opened"],
)
@pytest.mark.usefixtures("plugged_in")
async def test_a_server_does_not_start_without_a_plug_in_that_its_settings_name(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SettingsProblem, match=sentence):
        async with running_server(tmp_path, on_demand=[source(tmp_path, **changes)], repository_unique_id=oid()):
            pass


@pytest.mark.usefixtures("plugged_in")
def test_the_doctor_tells_which_sources_are_there(tmp_path: Path) -> None:
    config = tmp_path / "toimik.toml"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/documents"
        config.write_text(
            '[[on_demand]]\nname = "plugged"\nentry_point = "current-medication"\n'
            '[[on_demand]]\nname = "missing"\nentry_point = "medication"\n'
            f'[[on_demand]]\nname = "web"\nurl = "{url}"\n'
            f'[[on_demand]]\nname = "secretless"\nurl = "{url}"\nauthorization_file = "no-such-file"\n'
            '[[on_demand]]\nname = "away"\nurl = "http://127.0.0.1:9/"\n',
            encoding="utf-8",
        )
        words = ["doctor", "--config", str(config), "--data", str(tmp_path / "data"), "--json"]
        result = CliRunner().invoke(command_line(words), words)
    found = {each["subject"]: each["verdict"] for each in json.loads(result.stdout)["diagnoses"]}
    by_name = {subject.split()[2]: verdict for subject, verdict in found.items() if subject.startswith("on-demand")}
    assert by_name == {"plugged": "ok", "missing": "failed", "web": "ok", "secretless": "failed", "away": "failed"}
