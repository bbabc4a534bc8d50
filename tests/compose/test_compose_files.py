"""The compose files say what Docker understands, what is safe, and what Toimik's settings are called."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from server.settings import load_settings
from tests.compose.compose_files import CLUSTER, COMPOSE, EMBEDDED, FILES, ROOT, interpolated, read, services

VARIABLES = {"TOIMIK_REPOSITORY_UNIQUE_ID": "1.2.3.4"}
ONCE = {"initiate", "migrate"}
EVERY_SERVICE = [pytest.param(path, name, id=f"{path.stem} {name}") for path in FILES for name in services(path)]


def service(path: Path, name: str) -> dict[str, Any]:
    return services(path)[name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_compose_file_is_what_the_compose_specification_says(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize(("path", "name"), EVERY_SERVICE)
def test_an_image_is_named_by_its_release(path: Path, name: str) -> None:
    image = service(path, name)["image"]
    repository, _, tag = image.partition("@")[0].partition(":")
    release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert re.search(r"\d+\.\d+\.\d+|RELEASE\.\d{4}-\d\d-\d\dT", tag), image
    assert repository != "toimik" or tag == release


@pytest.mark.parametrize(("path", "name"), EVERY_SERVICE)
def test_a_container_can_write_only_where_it_is_said_and_has_no_privileges(path: Path, name: str) -> None:
    described = service(path, name)

    assert described["read_only"] is True
    assert described["cap_drop"] == ["ALL"]
    assert described["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in described
    assert "cap_add" not in described
    assert not [volume for volume in described.get("volumes", ()) if "docker.sock" in volume]


@pytest.mark.parametrize(("path", "name"), EVERY_SERVICE)
def test_a_container_can_not_take_the_machine_for_itself(path: Path, name: str) -> None:
    described = service(path, name)

    assert {"cpus", "memory"} <= set(described["deploy"]["resources"]["limits"])
    assert described["pids_limit"] > 0
    assert "max-size" in described["logging"]["options"]


@pytest.mark.parametrize(("path", "name"), EVERY_SERVICE)
def test_a_container_that_stays_says_whether_it_is_well_and_comes_back(path: Path, name: str) -> None:
    described = service(path, name)

    if name in ONCE:
        assert described["restart"] == "on-failure:3"
    else:
        assert described["restart"] == "unless-stopped"
        assert described["healthcheck"]["test"][0] == "CMD", "in exec form: an image may have no shell"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_the_proxy_is_open_to_other_machines(path: Path) -> None:
    published = {
        name: [port for port in described.get("ports", ()) if not port.startswith("127.0.0.1:")]
        for name, described in services(path).items()
    }

    assert [name for name, ports in published.items() if ports] == (["proxy"] if path == CLUSTER else [])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_and_volume_that_is_named_is_there(path: Path) -> None:
    whole = read(path)
    for name, described in whole["services"].items():
        for config in described.get("configs", ()):
            assert (COMPOSE / whole["configs"][config["source"]]["file"]).is_file(), name
        for volume in described.get("volumes", ()):
            source = volume.split(":")[0]
            assert (COMPOSE / source).is_dir() if source.startswith(".") else source in whole["volumes"], volume
        for secret in described.get("secrets", ()):
            assert secret in whole["secrets"]
        for network in described.get("networks", ()):
            assert network in whole["networks"]
        for needed in described.get("depends_on", {}):
            assert needed in whole["services"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_requests_in_flight_may_finish_before_a_container_is_killed(path: Path) -> None:
    for name, described in services(path).items():
        if name.startswith("toimik"):
            grace = int(described["stop_grace_period"].removesuffix("s"))
            assert grace > load_settings(COMPOSE / "toimik.toml").shutdown_seconds + 10  # as server/workers.py waits


# Secrets -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What make-secrets.sh makes."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl on the PATH, which makes the proxy's certificate")
    directory = tmp_path_factory.mktemp("made") / "secrets"
    make_secrets(directory)
    return directory


def make_secrets(directory: Path) -> None:
    subprocess.run(["sh", COMPOSE / "make-secrets.sh", directory], check=True, capture_output=True, timeout=60)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_every_secret_of_the_cluster_is_made(secrets: Path) -> None:
    files = {name: secret["file"] for name, secret in read(CLUSTER)["secrets"].items()}

    assert files == {name: f"./secrets/{name}" for name in contents(secrets)}
    assert all(contents(secrets).values())


def test_secrets_are_for_their_owner_alone(secrets: Path) -> None:
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {0o444}


def test_a_secret_that_is_there_is_kept_and_one_that_is_lost_is_made_again(secrets: Path) -> None:
    before = contents(secrets)
    (secrets / "grafana-admin-password").unlink()
    make_secrets(secrets)
    after = contents(secrets)

    assert after.keys() == before.keys()
    assert {name for name in before if after[name] != before[name]} == {"grafana-admin-password"}


def test_no_secret_stands_in_a_compose_file(secrets: Path) -> None:
    for path in FILES:
        for name, described in services(path).items():
            for variable in described.get("environment", {}):
                assert not re.search(r"PASSWORD$|SECRET_KEY$|MONGODB_URL$|ACCESS_KEY$", variable), f"{name}: {variable}"


# Settings ----------------------------------------------------------------------------------------------------------


def environment_of(path: Path, name: str) -> dict[str, str]:
    given = service(path, name).get("environment", {})
    return {variable: interpolated(value, VARIABLES) for variable, value in given.items()}


def test_the_embedded_server_takes_what_its_compose_file_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in environment_of(EMBEDDED, "toimik").items():
        monkeypatch.setenv(variable, value)

    settings = load_settings(COMPOSE / "toimik.toml")

    assert settings.workers == 2


@pytest.mark.parametrize("name", ["migrate", "toimik1", "toimik2"])
def test_a_node_takes_its_stores_and_secrets_from_its_compose_file(
    name: str, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment_of(CLUSTER, name).items():
        monkeypatch.setenv(variable, value)
    mounted = tmp_path / "run-secrets"
    mounted.mkdir()
    for secret in service(CLUSTER, name)["secrets"]:
        shutil.copy(secrets / secret, mounted)
    monkeypatch.setenv("TOIMIK_SECRETS", str(mounted))

    settings = load_settings(COMPOSE / "toimik.toml")

    assert settings.metadata.store == "mongodb"
    assert settings.metadata.mongodb_url is not None
    url = settings.metadata.mongodb_url.get_secret_value()
    assert (secrets / "mongodb-toimik-password").read_text(encoding="ascii") in url
    assert all(member in url for member in services(CLUSTER) if member.startswith("mongodb"))
    assert settings.documents.store == "s3"
    assert settings.documents.s3_endpoint == "http://s3:9000"
    assert settings.documents.s3_secret_key is not None
    assert settings.repository_unique_id == VARIABLES["TOIMIK_REPOSITORY_UNIQUE_ID"]


def test_audit_events_that_wait_are_on_a_volume_of_each_node() -> None:
    image = (COMPOSE / "Dockerfile").read_text(encoding="utf-8")
    nodes = [name for name in services(CLUSTER) if name.startswith("toimik")]
    volumes = [tuple(each.split(":")) for name in nodes for each in service(CLUSTER, name)["volumes"]]

    assert len(volumes) == len(set(volumes)) == len(nodes)
    for _, target in volumes:
        assert {environment_of(CLUSTER, name)["TOIMIK_AUDIT__OUTBOX"] for name in nodes} == {target}
        assert re.search(rf"install --directory --owner=10001 .* {target}$", image, re.MULTILINE), "or it is root's"


def test_prometheus_may_ask_from_the_network_it_is_in() -> None:
    subnet = read(CLUSTER)["networks"]["inside"]["ipam"]["config"][0]["subnet"]

    assert str(ip_network(subnet)) in environment_of(CLUSTER, "toimik1")["TOIMIK_METRICS__NETWORKS"]
    assert service(CLUSTER, "prometheus")["networks"] == ["inside"]


def test_every_variable_that_a_compose_file_wants_is_explained() -> None:
    example = (COMPOSE / "cluster.env.example").read_text(encoding="utf-8")
    wanted = set(re.findall(r"\$\{(\w+)", CLUSTER.read_text(encoding="utf-8")))

    assert wanted == set(re.findall(r"^(\w+)=", example, re.MULTILINE))


def test_the_script_that_initiates_mongodb_is_javascript() -> None:
    if shutil.which("node") is None:
        pytest.skip("there is no node on the PATH")
    finished = subprocess.run(
        ["node", "--check", COMPOSE / "mongodb/initiate.js"], capture_output=True, text=True, timeout=60, check=False
    )

    assert finished.returncode == 0, finished.stderr
