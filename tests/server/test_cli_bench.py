"""`toimik bench` measures what it says, and leaves nothing behind. What the figures are is promised nowhere."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pymongo
import pytest
from minio import Minio
from typer.testing import CliRunner, Result

from server.__main__ import command_line
from server.bench.dossiers import Dossiers, Population, as_registered, patient
from server.bench.filling import fill
from server.bench.load import Job, LoadFailed, outcome_of
from server.bench.messages import FIRST_NUMBER, bare_post, find_documents, provide, register, retrieve
from server.bench.servers import ServerFailed, bare_aiohttp, toimik
from server.settings import Settings
from tests.shared_stores import shared_stores
from tests.store_servers import StoreServer
from xds.ebxml_writer import written
from xds.metadata import DocumentEntry
from xds.metadata_rules import findings
from xds.transactions import ITI_42

QUICK = ("--entries", "1000", "--seconds", "0.1", "--rounds", "2", "--clients", "4", "--large", "1")


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(command_line(["bench"]), ["bench", *QUICK, *arguments])


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_every_operation_is_measured_beside_the_reference_and_nothing_is_left(tmp_path: Path) -> None:
    result = bench("--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    names = [operation["name"][:6].rstrip() for operation in told["operations"]]
    assert names == ["bare a", "bare a", "ITI-18", "ITI-18", "ITI-42", "ITI-42", "ITI-41", "ITI-43"]
    for operation in told["operations"][2:]:
        assert len(operation["per_second"]) == len(operation["ratio_to_bare"]) == 2
        assert 0 < operation["p50_milliseconds"] <= operation["p99_milliseconds"]
    assert [row["name"].split()[0] for row in told["large_document"]] == ["SHA-1", "write", "ITI-41", "ITI-43"]
    assert list((tmp_path / "here").iterdir()) == []


def test_shared_stores_are_measured_beside_the_embedded_ones_and_nothing_is_left_in_them(
    tmp_path: Path, mongodb_server: StoreServer, s3_server: StoreServer
) -> None:
    with (
        shared_stores(mongodb_server, s3_server) as settings,
        pymongo.MongoClient[dict[str, object]](mongodb_server.url) as client,
    ):
        config = tmp_path / "toimik.toml"
        tables = (
            f"[{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in settings[name].items())
            for name in ("metadata", "documents")
        )
        config.write_text(f'repository_unique_id = "{settings["repository_unique_id"]}"\n' + "".join(tables))
        before = client.list_database_names()
        result = bench("--json", "--config", str(config))
        assert result.exit_code == 0, result.output
        assert client.list_database_names() == before
    told = json.loads(result.stdout)
    (beside,) = told["beside"]
    assert (told["stores"], beside["stores"]) == ("sqlite and filesystem", "mongodb and s3")
    for field in ("operations", "large_document"):
        assert [each["name"] for each in beside[field]] == [each["name"] for each in told[field]]
    s3 = Minio(s3_server.url.removeprefix("http://"), s3_server.access_key, s3_server.secret_key, secure=False)
    assert not [each for each in s3.list_objects("toimik") if (each.object_name or "").startswith("toimik-bench")]
    assert list((tmp_path / "here").iterdir()) == []


def test_settings_without_shared_stores_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "toimik.toml"
    config.write_text("port = 9090\n")
    result = bench("--config", str(config))
    assert result.exit_code == 2
    assert "MongoDB and S3" in result.stderr


def test_a_registry_that_is_kept_is_measured_again_as_it_was_filled(tmp_path: Path) -> None:
    data = tmp_path / "data"
    asyncio.run(fill(Settings(data=data), Population.of(1000), lambda _: None))
    filled = (data / "registry.sqlite").read_bytes()

    again = bench("--data", str(data), "--entries", "50000", "--large", "0")

    assert again.exit_code == 0, again.output
    assert "1000 DocumentEntries" in again.stdout
    assert (data / "registry.sqlite").read_bytes() == filled
    assert sorted(path.name for path in data.iterdir() if not path.name.startswith("registry.sqlite")) == [
        "filled-by-bench.json"
    ]


def test_a_registry_that_somebody_uses_is_not_touched(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "registry.sqlite").write_bytes(b"precious")
    result = bench("--data", str(data))
    assert result.exit_code == 1
    assert "did not fill" in result.stderr
    assert (data / "registry.sqlite").read_bytes() == b"precious"


def test_an_answer_that_is_no_success_ends_the_measurement(tmp_path: Path) -> None:
    with bare_aiohttp(1, tmp_path / "log") as port:
        good = Job(port, bare_post(), clients=2, seconds=0.05, expected=b"hello", first_number=FIRST_NUMBER)
        assert outcome_of(good).rate > 0
        with pytest.raises(LoadFailed, match="not as expected"):
            outcome_of(Job(port, find_documents(), 2, 0.05, b"hello", FIRST_NUMBER))


def test_a_server_that_does_not_start_is_told_with_what_it_wrote(tmp_path: Path) -> None:
    unusable = tmp_path / "a file"
    unusable.touch()
    with pytest.raises(ServerFailed, match="a file"), toimik(Settings(data=unusable), tmp_path / "log"):
        pass


def test_made_up_submissions_break_no_rule_and_are_as_large_as_real_ones() -> None:
    submission = Dossiers(seed=4711).submission(patient(7), documents=10)
    assert list(findings(submission, ITI_42)) == []
    sizes = [len(written(each)) for each in as_registered(submission) if isinstance(each, DocumentEntry)]
    assert all(8_000 < size < 11_000 for size in sizes)


def test_a_population_has_about_as_many_entries_as_were_asked_for() -> None:
    assert Population.of(100_000) == Population(of_ten=9_000, of_a_hundred=100)
    assert Population.of(100_000).entries == 100_000


def test_a_request_keeps_its_length_whatever_its_number() -> None:
    for template in (bare_post(), find_documents(), register(123456789), retrieve(123456789)):
        one, other = template.numbered(FIRST_NUMBER, 0), template.numbered(FIRST_NUMBER + 987_654_321, 3_000_000)
        assert len(one) == len(other) == len(template.message)
        head, _, body = one.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head


def test_a_provided_document_fits_its_announced_length() -> None:
    message = provide(123456789, size=5)
    head, _, body = (message.head + b"hello" + message.tail).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
