"""`toimik settings` prints a file that means what it says."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.resources import as_file
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from schemas.samples import AFFINITY_DOMAIN, path
from server.__main__ import command_line
from server.settings import Settings, load_settings
from server.settings.affinity_domain import CODED_ATTRIBUTES


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOIMIK_PORT", "TOIMIK_DATA", "TOIMIK_LIMITS__RESULTS"):
        monkeypatch.delenv(name, raising=False)


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(command_line(["settings"]), ["settings", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def names(table: type[BaseModel]) -> Iterator[str]:
    for name, field in table.model_fields.items():
        yield name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from names(field.annotation)


def descriptions(table: type[BaseModel]) -> Iterator[str]:
    for field in table.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from descriptions(field.annotation)
        elif field.description is not None:
            yield field.description


def test_the_file_loads_again_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "toimik.toml"
    file.write_text(printed(), encoding="utf-8")
    assert load_settings(file).model_dump() == Settings().model_dump()


def test_the_file_names_and_explains_every_setting() -> None:
    file = printed()
    missing = [name for name in names(Settings) if f"\n{name} = " not in file and f"\n# {name} =" not in file]
    assert [name for name in missing if f"[{name}" not in file] == []
    assert [sentence for sentence in descriptions(Settings) if sentence not in file] == []
    assert [attribute for attribute in CODED_ATTRIBUTES if attribute not in file] == []


def test_the_file_tells_the_bounds_of_a_number() -> None:
    assert "worker processes; about one per core (at least 1, at most 64)" in printed()


def test_settings_in_effect_load_again_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOIMIK_LIMITS__RESULTS", "77")
    file = tmp_path / "toimik.toml"
    with as_file(path(AFFINITY_DOMAIN)) as affinity_domain:
        file.write_text(printed("--config", str(affinity_domain)), encoding="utf-8")
        monkeypatch.delenv("TOIMIK_LIMITS__RESULTS")
        expected = load_settings(affinity_domain).model_dump()
    expected["limits"]["results"] = 77
    assert load_settings(file).model_dump() == expected


def test_sources_of_on_demand_documents_load_again_and_change_nothing(tmp_path: Path) -> None:
    first, again = tmp_path / "first.toml", tmp_path / "again.toml"
    first.write_text(
        '[[on_demand]]\nname = "a"\nunique_ids = ["1.2.3", "1.2.4"]\nurl = "https://a.example/documents"\nretries = 0\n'
        '[[on_demand]]\nname = "b"\nentry_point = "b"\noptions = { directory = "/srv/b", "odd key" = "õ" }\n',
        encoding="utf-8",
    )
    again.write_text(printed("--config", str(first)), encoding="utf-8")
    assert load_settings(again).on_demand == load_settings(first).on_demand != ()


def test_issuers_of_access_tokens_load_again_and_change_nothing(tmp_path: Path) -> None:
    first, again = tmp_path / "first.toml", tmp_path / "again.toml"
    first.write_text(
        '[mhd.iua]\naudience = ["https://xds.example/fhir"]\nalgorithms = ["ES384"]\nissuers = [\n'
        '    { issuer = "https://a.example", jwks_url = "https://a.example/jwks" },\n'
        '    { issuer = "https://b.example", jwks_file = "/etc/toimik/b.json" },\n]\n',
        encoding="utf-8",
    )
    again.write_text(printed("--config", str(first)), encoding="utf-8")
    assert load_settings(again).mhd.iua == load_settings(first).mhd.iua != load_settings().mhd.iua


def test_text_of_any_kind_comes_back_as_it_was(tmp_path: Path) -> None:
    name = 'quotes " and \\ and \x7f and õ and \n'
    first = tmp_path / "first.toml"
    first.write_text('[patients]\nassigning_authorities = [{ oid = "1.2.3", name = "quotes \\" and \\\\ and \\u007f '
                     'and õ and \\n" }]\n', encoding="utf-8")  # fmt: skip
    again = tomllib.loads(printed("--config", str(first)))
    (authority,) = again["patients"]["assigning_authorities"]
    assert (authority["oid"], authority["name"]) == ("1.2.3", name)


def test_a_file_that_can_not_be_used_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "toimik.toml"
    file.write_text("port = 99999\n", encoding="utf-8")
    result = CliRunner().invoke(command_line(["settings"]), ["settings", "--config", str(file)])
    assert result.exit_code == 2
    assert "port" in result.stderr
    assert result.stdout == ""
