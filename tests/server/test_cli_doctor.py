"""`toimik doctor` and `toimik reindex` tell what is wrong, and what is not."""

from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp.test_utils import unused_port
from typer.testing import CliRunner, Result

from schemas.samples import SAMPLES, path
from server.__main__ import command_line
from server.audit.audit_outbox import AuditOutbox
from server.audit.audit_sink import KeptEvent
from tests.conformance.authorization_server import AuthorizationServer
from tests.server.running_server import running_server

DISCHARGE_SUMMARY = SAMPLES[0]


@pytest.fixture(autouse=True)
def _a_free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOIMIK_PORT", str(unused_port()))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of a server that has taken one document, and is stopped."""
    directory = tmp_path / "data"
    file = tmp_path / DISCHARGE_SUMMARY.file_name
    file.write_bytes(path(DISCHARGE_SUMMARY.file_name).read_bytes())
    with running_server(directory) as base:
        result = invoked("submit", file, "--to", base)
    assert result.exit_code == 0, result.output
    return directory


def invoked(*arguments: object) -> Result:
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(command_line(words), words)


def diagnoses(*arguments: object, healthy: bool = True) -> dict[str, dict[str, Any]]:
    """What the doctor finds, by subject."""
    result = invoked("doctor", *arguments, "--json")
    answer = json.loads(result.stdout)
    assert (answer["healthy"], result.exit_code) == (healthy, 0 if healthy else 1), result.stdout
    return {each["subject"]: each for each in answer["diagnoses"]}


def failed(*arguments: object) -> dict[str, str]:
    """What is wrong, by subject."""
    found = diagnoses(*arguments, healthy=False)
    return {name: each["sentence"] for name, each in found.items() if each["verdict"] == "failed"}


def settings_with_tls(directory: Path, certificate: trustme.LeafCert, **tls: Path | str) -> Path:
    certificate.cert_chain_pems[0].write_to_path(directory / "certificate.pem")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    lines = {"certificate": directory / "certificate.pem", "key": directory / "key.pem"} | tls
    config = directory / "toimik.toml"
    config.write_text("[tls]\n" + "".join(f'{name} = "{value}"\n' for name, value in lines.items()))
    return config


def test_a_server_that_never_ran_is_healthy_and_stays_untouched(tmp_path: Path) -> None:
    found = diagnoses("--data", tmp_path / "data")
    assert found["metadata store"]["sentence"] == "nothing was ever registered"
    assert list(tmp_path.iterdir()) == []


def test_a_deep_look_reads_everything(data: Path) -> None:
    found = diagnoses("--data", data, "--deep")
    assert found["log and index"]["sentence"].startswith("1 dossiers with 1 records and 3 objects")
    assert found["documents"]["sentence"].startswith("the documents of 1 entries, 12.5 kB")


def test_a_person_reads_a_table(data: Path) -> None:
    result = invoked("doctor", "--data", data, "--deep")
    assert result.exit_code == 0
    assert "opens and answers" in result.stdout
    assert "Verifying the log" in result.stderr


def document_of(data: Path) -> Path:
    (document,) = (file for file in (data / "documents" / "documents").rglob("*") if file.is_file())
    return document


def test_an_altered_document_is_found(data: Path) -> None:
    document = document_of(data)
    content = bytearray(document.read_bytes())
    content[100] ^= 1
    document.chmod(0o600)
    document.write_bytes(content)
    assert diagnoses("--data", data)["document store"]["verdict"] == "ok"
    problems = failed("--data", data, "--deep")
    assert list(problems) == ["documents"]
    assert "urn:uuid:" in problems["documents"]


def test_a_document_that_is_gone_is_found(data: Path) -> None:
    document_of(data).unlink()
    assert "its document is not there" in failed("--data", data, "--deep")["documents"]


def test_an_altered_index_is_found_and_reindexing_mends_it(data: Path) -> None:
    with closing(sqlite3.connect(data / "registry.sqlite")) as connection:
        connection.execute("DELETE FROM document_entries")
        connection.commit()
    problems = failed("--data", data, "--deep")
    assert "log and index" in problems
    assert "9990002649" not in problems["log and index"]
    result = invoked("reindex", "--data", data)
    assert result.exit_code == 0, result.output
    assert "1 records" in result.stdout
    assert diagnoses("--data", data, "--deep")["log and index"]["verdict"] == "ok"


def test_a_store_that_is_no_store_is_found(tmp_path: Path) -> None:
    (tmp_path / "registry.sqlite").write_bytes(b"I am no database, but long enough to be looked at." * 100)
    assert list(failed("--data", tmp_path)) == ["metadata store"]
    result = invoked("reindex", "--data", tmp_path)
    assert result.exit_code == 1
    assert "metadata store" in result.stderr


def test_a_data_directory_that_is_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    assert f"data directory {tmp_path / 'data'}" in failed("--data", tmp_path / "data")


def test_too_little_room_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOIMIK_LIMITS__MIN_FREE_BYTES", str(10**18))
    assert "free space" in failed("--data", tmp_path)


def test_a_port_where_something_listens_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("TOIMIK_PORT", str(port))
        found = diagnoses("--data", tmp_path)
    assert found[f"port 127.0.0.1:{port}"]["verdict"] == "warning"


def test_an_address_that_is_not_of_this_machine_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOIMIK_HOST", "192.0.2.1")
    assert [name for name in failed("--data", tmp_path) if name.startswith("port 192.0.2.1")]


def test_a_registry_elsewhere_that_does_not_answer_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOIMIK_ACTORS", '["repository"]')
    monkeypatch.setenv("TOIMIK_REGISTRY_URL", f"http://127.0.0.1:{unused_port()}/xds/registry")
    assert [name for name in failed("--data", tmp_path) if name.startswith("registry http")]
    with running_server(tmp_path / "other", actors=("registry",)) as base:
        monkeypatch.setenv("TOIMIK_REGISTRY_URL", f"{base}/xds/registry")
        assert diagnoses("--data", tmp_path)[f"registry {base}/xds/registry"]["verdict"] == "ok"


def test_keys_of_access_tokens_that_can_not_be_had_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "keys.json"
    there.write_text(json.dumps(AuthorizationServer().key_set), encoding="utf-8")
    issuers = [
        {"issuer": "https://a.example", "jwks_file": str(there)},
        {"issuer": "https://b.example", "jwks_file": str(tmp_path / "none.json")},
        {"issuer": "https://c.example", "jwks_url": f"http://127.0.0.1:{unused_port()}/jwks"},
    ]
    monkeypatch.setenv("TOIMIK_MHD__IUA__ISSUERS", json.dumps(issuers))
    monkeypatch.setenv("TOIMIK_MHD__IUA__AUDIENCE", '["https://xds.example/fhir"]')
    found = diagnoses("--data", tmp_path, healthy=False)
    assert found["audience of access tokens"]["sentence"].endswith("in aud https://xds.example/fhir")
    verdicts = {name: each["verdict"] for name, each in found.items() if name.startswith("keys of ")}
    assert verdicts == {
        "keys of https://a.example": "ok",
        "keys of https://b.example": "failed",
        "keys of https://c.example": "failed",
    }


def test_a_certificate_is_read_with_its_key_and_its_last_day(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    expires = datetime.now(UTC) + timedelta(days=100, hours=1)
    certificate = authority.issue_cert("toimik.example", not_after=expires)
    ca: dict[str, Path | str] = {"client_ca": tmp_path / "ca.pem", "client_certificate": "required"}
    found = diagnoses("--config", settings_with_tls(tmp_path, certificate, **ca), "--data", tmp_path)
    assert found[f"certificate {tmp_path / 'certificate.pem'}"]["sentence"].endswith("expires in 100 days")
    assert found[f"client authorities {tmp_path / 'ca.pem'}"]["verdict"] == "ok"


@pytest.mark.parametrize(("days", "verdict"), [(29, "warning"), (-1, "failed")])
def test_a_certificate_that_expires_is_told(tmp_path: Path, days: int, verdict: str) -> None:
    expires = datetime.now(UTC) + timedelta(days=days, hours=1)
    started = datetime.now(UTC) - timedelta(days=50)
    certificate = trustme.CA().issue_cert("toimik.example", not_before=started, not_after=expires)
    config = settings_with_tls(tmp_path, certificate)
    found = diagnoses("--config", config, "--data", tmp_path, healthy=verdict != "failed")
    diagnosis = found[f"certificate {tmp_path / 'certificate.pem'}"]
    assert diagnosis["verdict"] == verdict
    assert "expire" in diagnosis["sentence"]


def test_a_key_of_another_certificate_is_found(tmp_path: Path) -> None:
    authority = trustme.CA()
    config = settings_with_tls(tmp_path, authority.issue_cert("toimik.example"))
    authority.issue_cert("other.example").private_key_pem.write_to_path(tmp_path / "key.pem")
    assert f"certificate {tmp_path / 'certificate.pem'}" in failed("--config", config, "--data", tmp_path)


def test_plain_http_for_everybody_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOIMIK_HOST", "0.0.0.0")  # noqa: S104
    assert diagnoses("--data", tmp_path)["TLS"]["verdict"] == "warning"


@pytest.mark.parametrize("command", ["doctor", "reindex"])
def test_settings_that_can_not_be_read_are_named(command: str) -> None:
    result = invoked(command, "--config", "no-such.toml")
    assert result.exit_code == 2
    assert "no-such.toml" in result.stderr


def test_where_nothing_is_kept_there_is_nothing_to_reindex(tmp_path: Path) -> None:
    result = invoked("reindex", "--data", tmp_path)
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_tells_whether_audit_events_can_be_written(tmp_path: Path) -> None:
    config = tmp_path / "toimik.toml"
    file = tmp_path / "audit" / "events.jsonl"
    config.write_text(f'[audit]\nfile = "{file}"\n')

    to_be_made = diagnoses("--config", config, "--data", tmp_path / "data")[f"audit file {file}"]
    assert not file.parent.exists()
    file.parent.mkdir()
    file.write_bytes(b"{}\n")
    there = diagnoses("--config", config, "--data", tmp_path / "data")[f"audit file {file}"]
    file.unlink()
    file.mkdir()
    in_the_way = diagnoses("--config", config, "--data", tmp_path / "data", healthy=False)[f"audit file {file}"]

    assert (to_be_made["verdict"], there["verdict"], in_the_way["verdict"]) == ("ok", "ok", "failed")
    assert there["sentence"] == "can be written to"


def test_the_doctor_tells_whether_audit_events_can_be_sent_and_what_waits(tmp_path: Path) -> None:
    config = tmp_path / "toimik.toml"
    config.write_text(f'[audit]\nfeed_url = "http://127.0.0.1:{unused_port()}/fhir/AuditEvent"\n')
    outbox = AuditOutbox(tmp_path / "data" / "audit", most_octets=1)
    outbox.keep([KeptEvent("1", 0.0, b"{}"), KeptEvent("2", 0.0, b"{}")])
    outbox.sent([], refused=["1"])
    outbox.close()

    found = diagnoses("--config", config, "--data", tmp_path / "data", healthy=False)

    [repository] = [each for name, each in found.items() if name.startswith("audit record repository")]
    assert repository["verdict"] == "failed"
    waiting = found[f"audit outbox {tmp_path / 'data' / 'audit'}"]
    assert waiting["verdict"] == "warning"
    assert waiting["sentence"].startswith("2 events wait")
    assert waiting["sentence"].endswith("has refused 1 of them")
