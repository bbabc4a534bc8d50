"""`toimik migrate` copies a registry and its documents to other stores and back, whole or not as if it were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import unused_port
from typer.testing import CliRunner, Result

from schemas.samples import SAMPLES, path
from server import migration
from server.__main__ import command_line
from server.cli import migrate
from server.cli.migrate import CannotMigrate, Plan, planned
from server.settings import SettingsProblem, load_settings
from server.settings.stores import DocumentStoreKind, MetadataStoreKind
from tests.registry.stores import some_database
from tests.server.running_server import running_server
from tests.shared_stores import REPOSITORY, as_environment, shared_stores
from tests.store_servers import StoreServer

SQLITE, MONGODB = MetadataStoreKind
FILESYSTEM, S3 = DocumentStoreKind
PATIENT = "9990002649^^^&2.16.840.1.113883.2.1.4.1&ISO"
SUBMISSIONS = 8
DOCUMENTS = 5
"""One that is submitted again and again, and one that is new in every second submission: 12 entries."""


def invoked(*arguments: object) -> Result:
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(command_line(words), words)


@pytest.fixture
def stores(
    mongodb_server: StoreServer, s3_server: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mapping[str, Any]]:
    """Settings that use a database and a bucket; the environment names both, beside the embedded stores."""
    with shared_stores(mongodb_server, s3_server) as settings:
        for name, value in as_environment(settings).items():
            if not name.endswith("__STORE"):
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("TOIMIK_PORT", str(unused_port()))
        yield settings


@pytest.fixture
def data(tmp_path: Path, stores: Mapping[str, Any]) -> Path:
    """The data directory of a server that has taken documents and is stopped."""
    directory = tmp_path / "data"
    with running_server(directory) as base:
        submit(base, tmp_path)
    return directory


def submit(base: str, directory: Path, times: int = SUBMISSIONS) -> None:
    """Submissions of one sample document, and every second time of another one as well."""
    for sample in SAMPLES:
        (directory / sample.file_name).write_bytes(path(sample.file_name).read_bytes())
    for number in range(times):
        files = [directory / sample.file_name for sample in SAMPLES[: 1 + number % 2]]
        result = invoked("submit", *files, "--patient", PATIENT, "--to", base)
        assert result.exit_code == 0, result.output


def fetched(base: str, directory: Path) -> dict[str, bytes]:
    """All documents of the patient, by file name."""
    result = invoked("retrieve", "--patient", PATIENT, "--to", base, "--output", directory)
    assert result.exit_code == 0, result.output
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def migrated(*arguments: object) -> str:
    result = invoked("migrate", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def deeply_healthy(*arguments: object) -> dict[str, str]:
    result = invoked("doctor", "--deep", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return {each["subject"]: each["sentence"] for each in json.loads(result.stdout)["diagnoses"]}


def test_a_registry_and_its_documents_go_to_mongodb_and_s3_and_back(
    data: Path, stores: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_server(data) as base:
        expected = fetched(base, tmp_path / "before")
    assert len(expected) == DOCUMENTS

    told = migrated("--data", data, "--from", "sqlite", "--to", "mongodb")

    assert "Registry: 1 dossiers with 8 records compared: the same on both sides." in told
    assert "Documents: 5 compared: the same on both sides." in told
    with running_server(tmp_path / "unused", **stores) as base:
        assert fetched(base, tmp_path / "there") == expected
        submit(base, tmp_path, 1)
    assert not (tmp_path / "unused").exists()

    back = tmp_path / "back"
    told = migrated("--data", back, "--from", "mongodb", "--to", "sqlite")

    assert "1 dossiers with 9 records compared: the same on both sides." in told
    with running_server(back) as base:
        assert fetched(base, tmp_path / "again").items() >= expected.items()
    found = deeply_healthy("--data", back)
    assert found["log and index"].startswith("1 dossiers with 9 records")
    assert found["documents"].startswith("the documents of 13 entries")


def test_the_doctor_looks_at_shared_stores_and_makes_nothing(
    data: Path, stores: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in as_environment(stores).items():
        monkeypatch.setenv(name, value)
    database = f"MongoDB database {stores['metadata']['mongodb_database']}"
    for _ in range(2):
        result = invoked("doctor", "--json")
        found = {each["subject"]: each for each in json.loads(result.stdout)["diagnoses"]}
        assert found[database]["sentence"] == "is empty; `toimik migrate` prepares it"
        assert "metadata store" not in found
    assert "are ready" in migrated()
    migrated("--from", "sqlite", "--to", "mongodb", "--data", data)
    healthy = deeply_healthy()
    assert healthy[database] == "has the collections and indexes of this release"
    assert healthy["conditional writes"] == "the S3 server creates no object twice"
    assert healthy["documents"].startswith("the documents of 12 entries")
    assert not [subject for subject in healthy if subject.startswith("data directory")]
    result = invoked("reindex")
    assert (result.exit_code, "8 records" in result.stdout) == (0, True), result.output


@contextmanager
def interrupting(where: str, calls: int) -> Iterator[None]:
    """Ctrl-C after so much progress there."""
    counted = migrate._counted

    @contextmanager
    def interrupted(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        left = calls if what == where else -1
        with counted(what, total) as advance:

            def advance_or_interrupt(count: int) -> None:
                nonlocal left
                left -= 1
                if not left:
                    raise KeyboardInterrupt
                advance(count)

            yield advance_or_interrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "_counted", interrupted)
        patch.setattr(migration, "BATCH_RECORDS", 2)
        patch.setattr(migration, "AT_ONCE", 1)
        yield


def test_a_copy_goes_on_where_it_was_interrupted_in_both_directions(data: Path, tmp_path: Path) -> None:
    for directory, source, target in ((data, "sqlite", "mongodb"), (tmp_path / "back", "mongodb", "sqlite")):
        command = ("migrate", "--data", directory, "--from", source, "--to", target)
        for where, left in (("Copying the registry", 2), ("Copying documents", 3)):
            with interrupting(where, left):
                result = invoked(*command)
            assert result.exit_code == 1
            assert "goes on where it was" in result.stderr
        told = migrated(*command[1:])
        assert "1 dossiers with 8 records compared: the same on both sides." in told
        assert "Documents: 0 copied" not in told
        assert "Documents: 5 compared: the same on both sides." in told
    assert deeply_healthy("--data", tmp_path / "back")["documents"].startswith("the documents of 12 entries")


def test_what_came_while_it_was_copied_is_told_and_comes_with_the_next_run(data: Path, tmp_path: Path) -> None:
    migrated("--data", data, "--from", "sqlite", "--to", "mongodb")
    with running_server(data) as base:
        submit(base, tmp_path, 2)
    command = ("migrate", "--data", data, "--from", "sqlite", "--to", "mongodb")
    result = invoked(*command, "--verify")
    assert result.exit_code == 1
    assert "2 came to the source meanwhile" in result.stdout
    told = migrated(*command[1:])
    assert "Documents: 1 copied to s3, 5 were there." in told
    migrated(*command[1:], "--verify")


def test_documents_go_alone_and_stay_alone(data: Path) -> None:
    told = migrated("--data", data, "--documents-from", "filesystem", "--documents-to", "s3")
    assert "Registry" not in told
    assert "Documents: 5 copied to s3, 0 were there." in told
    told = migrated("--data", data, "--from", "sqlite", "--to", "mongodb", "--documents-stay")
    assert "Documents stay where they are (filesystem)." in told


def test_what_differs_is_named_and_is_no_success(data: Path) -> None:
    command = ("migrate", "--data", data, "--from", "sqlite", "--to", "mongodb")
    migrated(*command[1:])
    (document, *_) = (file for file in (data / "documents" / "documents").rglob("*") if file.is_file())
    content = document.read_bytes()
    document.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    result = invoked(*command)
    assert result.exit_code == 1
    assert "do not tell what they hold" in result.stdout


# What is asked for


def test_the_settings_and_options_say_what_goes_where() -> None:
    named = {"s3_endpoint": "http://s3", "s3_bucket": "toimik", "s3_access_key": "a", "s3_secret_key": "b"}
    mongodb = {"mongodb_url": "mongodb://db"}
    both = load_settings(metadata=mongodb, documents=named, repository_unique_id=REPOSITORY)
    alone = load_settings(metadata=mongodb, repository_unique_id=REPOSITORY)

    def stores(plan: Plan) -> list[tuple[str, str]]:
        registry = [tuple(each.metadata.store.value for each in plan.registry)] if plan.registry else []
        documents = [tuple(each.documents.store.value for each in plan.documents)] if plan.documents else []
        return registry + documents  # type: ignore[return-value]

    there, back, neither = (SQLITE, MONGODB), (MONGODB, SQLITE), (None, None)
    assert stores(planned(both, there, neither)) == [("sqlite", "mongodb"), ("filesystem", "s3")]
    assert stores(planned(both, back, neither)) == [("mongodb", "sqlite"), ("s3", "filesystem")]
    assert stores(planned(both, there, neither, stay=True)) == [("sqlite", "mongodb")]
    assert stores(planned(alone, there, neither)) == [("sqlite", "mongodb")]
    assert stores(planned(both, neither, (FILESYSTEM, S3))) == [("filesystem", "s3")]
    assert planned(both, neither, neither) == Plan()
    with pytest.raises(CannotMigrate, match="given together"):
        planned(both, (SQLITE, None), neither)
    with pytest.raises(CannotMigrate, match="the same store"):
        planned(both, (SQLITE, SQLITE), neither)
    with pytest.raises(CannotMigrate, match="given together"):
        planned(both, neither, (None, S3))
    with pytest.raises(CannotMigrate, match="not both"):
        planned(both, there, (FILESYSTEM, S3), stay=True)
    with pytest.raises(SettingsProblem, match="s3_endpoint"):
        planned(alone, there, (FILESYSTEM, S3))
    with pytest.raises(SettingsProblem, match="mongodb_url"):
        planned(load_settings(repository_unique_id=REPOSITORY), there, neither)


def test_without_options_it_prepares_the_stores_that_the_settings_name(tmp_path: Path) -> None:
    told = migrated("--data", tmp_path / "data")
    assert "SQLite" in told
    assert (tmp_path / "data" / "registry.sqlite").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--shard"], "--shard is for MongoDB"),
        (["--verify"], "--from and --to say which"),
        (["--from", "sqlite"], "given together"),
        (["--from", "sqlite", "--to", "mongodb"], "mongodb_url"),
        (["--config", "no-such.toml"], "no-such.toml"),
    ],
)
def test_a_mistake_in_the_command_is_told_and_nothing_is_made(
    tmp_path: Path, options: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = invoked("migrate", "--data", tmp_path / "data", *options)
    assert (result.exit_code, sentence in result.stderr) == (2, True), result.output
    assert not (tmp_path / "data").exists()


def test_what_is_no_sharded_cluster_is_not_sharded(tmp_path: Path, mongodb_server: StoreServer) -> None:
    with some_database(mongodb_server.url) as name:
        metadata = {"store": "mongodb", "mongodb_url": mongodb_server.url, "mongodb_database": name}
        named = as_environment({"repository_unique_id": REPOSITORY, "metadata": metadata})
        environment = {**os.environ, **named, "TOIMIK_DATA": str(tmp_path)}
        command = [sys.executable, "-m", "server", "migrate", "--shard"]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "is not on a sharded cluster; leave --shard out, or name its mongos" in " ".join(ended.stderr.split())


def test_where_nothing_is_kept_there_is_nothing_to_copy(tmp_path: Path, stores: Mapping[str, Any]) -> None:
    result = invoked("migrate", "--data", tmp_path / "data", "--from", "sqlite", "--to", "mongodb")
    assert result.exit_code == 2
    assert "there is no registry to copy" in result.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("library", "store"), [("pymongo", "metadata"), ("minio", "documents")])
def test_a_store_whose_library_is_not_installed_says_what_to_install(library: str, store: str, tmp_path: Path) -> None:
    script = f"import sys; sys.modules[{library!r}] = None; from server.__main__ import main; main()"
    named = {"metadata": ("mongodb", "MONGODB_URL=mongodb://db"), "documents": ("s3", "S3_ENDPOINT=http://s3")}
    kind, place = named[store]
    name, _, value = place.partition("=")
    variables = {f"TOIMIK_{store.upper()}__STORE": kind, f"TOIMIK_{store.upper()}__{name}": value}
    variables |= {f"TOIMIK_DOCUMENTS__S3_{each}": "toimik" for each in ("BUCKET", "ACCESS_KEY", "SECRET_KEY")}
    variables |= {"TOIMIK_REPOSITORY_UNIQUE_ID": REPOSITORY, "TOIMIK_DATA": str(tmp_path)}
    for command in ("migrate", "serve"):
        ended = subprocess.run(
            [sys.executable, "-c", script, command], env=variables, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 2, ended.stderr
        assert f"pip install 'toimik[{kind}]'" in ended.stderr


def test_libraries_of_what_is_not_used_are_not_imported() -> None:
    script = "import server.serving, server.cli.migrate, server.cli.doctor, sys; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pymongo", "bson", "minio", "jwt"} & set(imported)
