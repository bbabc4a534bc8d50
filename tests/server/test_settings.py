"""Settings come from several places, fit together, and keep their secrets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from server.__main__ import command_line
from server.number_checks import number_check
from server.settings import Settings, SettingsProblem, load_settings

SECRET = "correct-horse-battery-staple"  # noqa: S105 - nobody's
URL = f"mongodb://toimik:{SECRET}@db1.example,db2.example/?replicaSet=rs0"
OID = "1.2.3.4.5"
MONGODB = {"store": "mongodb", "mongodb_url": URL}
S3 = {
    "store": "s3",
    "s3_endpoint": "https://s3.example:9000",
    "s3_bucket": "documents",
    "s3_access_key": "toimik",
    "s3_secret_key": SECRET,
}


def shared(**changes: Any) -> Settings:
    """Settings of one of several servers on MongoDB and S3."""
    return load_settings(**{"metadata": MONGODB, "documents": S3, "repository_unique_id": OID, **changes})


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of secrets, still empty."""
    directory = tmp_path / "secrets"
    directory.mkdir()
    monkeypatch.setenv("TOIMIK_SECRETS", str(directory))
    return directory


def test_a_secret_is_read_from_a_file_named_like_its_variable(secrets: Path) -> None:
    (secrets / "TOIMIK_METADATA__MONGODB_URL").write_text(f"{URL}\n")
    (secrets / "toimik_documents__s3_secret_key").write_text(SECRET)
    (secrets / "somebody-elses").write_text("secret")
    settings = load_settings()
    assert settings.metadata.mongodb_url is not None
    assert settings.metadata.mongodb_url.get_secret_value() == URL
    assert settings.documents.s3_secret_key is not None
    assert settings.documents.s3_secret_key.get_secret_value() == SECRET


def test_secrets_are_found_as_kubernetes_mounts_them(secrets: Path) -> None:
    version = secrets / "..2026_11_25_10_00_00.1"
    version.mkdir()
    (version / "TOIMIK_METADATA__MONGODB_URL").write_text(URL)
    (secrets / "..data").symlink_to(version.name)
    (secrets / "TOIMIK_METADATA__MONGODB_URL").symlink_to("..data/TOIMIK_METADATA__MONGODB_URL")
    assert load_settings().metadata.mongodb_url is not None


def test_a_variable_overrides_a_secret_and_a_secret_overrides_the_file(
    secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "toimik.toml"
    file.write_text('[metadata]\nmongodb_database = "of_the_file"\nconnect_seconds = 7\n')
    (secrets / "TOIMIK_METADATA__MONGODB_DATABASE").write_text("of_the_secret")
    assert load_settings(file).metadata.mongodb_database == "of_the_secret"
    assert load_settings(file).metadata.connect_seconds == 7
    monkeypatch.setenv("TOIMIK_METADATA__MONGODB_DATABASE", "of_the_variable")
    assert load_settings(file).metadata.mongodb_database == "of_the_variable"


def test_a_directory_of_secrets_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOIMIK_SECRETS", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsProblem, match="nowhere"):
        load_settings()


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"metadata": {"store": "mongodb"}}, "mongodb_url"),
        ({"metadata": {"store": "mongodb", "mongodb_url": "http://db1.example"}}, "mongodb_url"),
        ({"metadata": {**MONGODB, "mongodb_database": "a.b"}}, "mongodb_database"),
        ({"documents": {**S3, "s3_endpoint": None}}, "s3_endpoint"),
        ({"documents": {**S3, "s3_endpoint": "s3.example:9000"}}, "s3_endpoint"),
        ({"documents": {**S3, "s3_endpoint": "https://s3.example/documents"}}, "s3_endpoint"),
        ({"documents": {**S3, "s3_bucket": None, "s3_access_key": None}}, "s3_bucket, s3_access_key"),
        ({"documents": {**S3, "s3_bucket": "Documents"}}, "s3_bucket"),
        ({"documents": {**S3, "s3_encryption": "sse-kms"}}, "s3_encryption"),
        ({"limits": {"document_bytes": 2**40}}, "s3_part_bytes"),
        ({"repository_unique_id": None}, "repository_unique_id"),
    ],
)
def test_a_shared_store_that_is_not_fully_named_is_refused_by_the_setting(changes: dict[str, Any], names: str) -> None:
    shared()
    with pytest.raises(SettingsProblem, match=names) as refused:
        shared(**changes)
    assert SECRET not in str(refused.value)


def test_the_oid_that_a_data_directory_was_given_is_named_to_whoever_moves_to_a_shared_store(tmp_path: Path) -> None:
    (tmp_path / "repository-unique-id").write_text("2.25.42\n")
    with pytest.raises(SettingsProblem, match=r'this data directory was given "2\.25\.42"'):
        shared(data=tmp_path, repository_unique_id=None)


def test_a_registry_alone_needs_no_oid_of_a_repository() -> None:
    assert load_settings(metadata=MONGODB, actors=("registry",)).repository_unique_id is None


def test_a_secret_is_in_nothing_that_is_printed_or_logged(tmp_path: Path) -> None:
    settings = shared()
    file = tmp_path / "toimik.toml"
    metadata = "".join(f'{name} = "{value}"\n' for name, value in MONGODB.items())
    documents = "".join(f'{name} = "{value}"\n' for name, value in S3.items())
    file.write_text(f'repository_unique_id = "{OID}"\n[metadata]\n{metadata}[documents]\n{documents}')
    printed = CliRunner().invoke(command_line(["settings"]), ["settings", "--config", str(file)])
    assert printed.exit_code == 0, printed.output
    assert "# mongodb_url = (it is set; a secret is not printed)" in printed.output
    for told in (printed.output, repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert SECRET not in told


def test_a_worker_process_gets_the_secrets_in_the_clear() -> None:
    settings = shared()
    assert Settings.model_validate_json(settings.for_workers()).model_dump() == settings.model_dump()


def test_the_settings_of_several_servers_in_the_documentation_can_be_loaded(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    (block,) = (text for text in re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if "s3_" in text)
    file = tmp_path / "toimik.toml"
    file.write_text(block, encoding="utf-8")
    settings = load_settings(file)
    assert (settings.metadata.store, settings.documents.store) == ("mongodb", "s3")


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"uncontained": True}, "XDS on FHIR"),
        ({"defaults": [{"attribute": "colour", "code": "x", "scheme": "2.25.1"}]}, "colour"),
    ],
)
def test_what_can_not_be_done_with_fhir_is_refused_by_the_setting(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(SettingsProblem, match=names):
        load_settings(mhd=changes)


def test_a_kind_of_number_that_nobody_can_check_is_refused() -> None:
    authority = {"oid": OID, "number": "gb.library-card"}
    with pytest.raises(
        SettingsProblem, match=r"patients\.assigning_authorities\.0\.number: 'gb.library-card' is no kind"
    ):
        load_settings(patients={"assigning_authorities": [authority]})


@pytest.mark.parametrize(
    ("kind", "right", "wrong"), [("gb.nhs", "9434765919", "9434765918"), ("ee.ik", "36805280109", "36805280108")]
)
def test_national_numbers_are_checked_by_their_digits(kind: str, right: str, wrong: str) -> None:
    is_valid = number_check(kind)
    assert is_valid(right)
    assert not is_valid(wrong)


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        ([{"name": "a"}], "give either url or entry_point"),
        ([{"name": "a", "url": "https://a.example", "entry_point": "a"}], "give either url or entry_point"),
        ([{"name": "a", "url": "ftp://a.example"}], "it is not a URL such as"),
        ([{"name": "a", "entry_point": "a", "ca": "ca.pem"}], "are for a url"),
        ([{"name": "a", "url": "https://a.example", "options": {"x": "y"}}], "options are for an entry_point"),
        ([{"name": "a", "entry_point": "a", "unique_ids": ["abc"]}], "'abc' is not an OID"),
        ([{"name": "a", "entry_point": "a"}, {"name": "a", "entry_point": "b"}], "needs a name of its own"),
    ],
)
def test_sources_of_on_demand_documents_fit_together(sources: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(SettingsProblem, match=re.escape(sentence)):
        load_settings(on_demand=sources)


def test_nobody_promises_documents_that_nobody_makes() -> None:
    with pytest.raises(SettingsProblem, match="on_demand_documents"):
        load_settings(mhd={"on_demand_documents": True})


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example",
        "http://localhost:8081",
        "http://[::1]:3000",
        "capacitor://localhost",
        "https://a.example:80",
    ],
)
def test_apps_of_an_origin_as_browsers_say_it_may_ask(origin: str) -> None:
    assert load_settings(mhd={"cors_origins": [origin]}).mhd.cors_origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        "app.example", "https://app.example/", "https://app.example/app", "https://App.example", "https://",
        "https://app.example:443", "http://app.example:80", "https://*.example", "https://user@app.example",
        "https://app.example?x", "null", "", "https://app.example\n",
    ],
)  # fmt: skip
def test_an_origin_that_no_browser_would_say_is_refused_by_the_setting(origin: str) -> None:
    with pytest.raises(SettingsProblem, match="is not an origin as browsers say it, such as https"):
        load_settings(mhd={"cors_origins": [origin]})


def test_any_origin_stands_alone() -> None:
    assert load_settings(mhd={"cors_origins": ["*"]}).mhd.cors_origins == ("*",)
    with pytest.raises(SettingsProblem, match="stands alone"):
        load_settings(mhd={"cors_origins": ["*", "https://app.example"]})


@pytest.mark.parametrize("value", ["fetch", "assemble"])
def test_documents_of_other_servers_are_had_from_servers_that_are_named(value: str) -> None:
    with pytest.raises(SettingsProblem, match=f"external_url is {value}, and document_servers does not say from where"):
        load_settings(mhd={"external_url": value})


@pytest.mark.parametrize("external_url", ["assemble", "link"])
def test_only_a_repository_fetches_documents_when_they_are_retrieved(external_url: str) -> None:
    trusted = {"external_url": external_url, "document_servers": ["https://a.example/files"]}
    elsewhere: dict[str, Any] = {
        "registry_url": "https://a.example/registry",
        "repository_url": "https://a.example/repository",
    }
    assert load_settings(mhd=trusted).assembles_documents is (external_url == "assemble")
    with pytest.raises(SettingsProblem, match=f"is {external_url}: a repository fetches documents"):
        load_settings(actors=["mhd"], mhd=trusted, **elsewhere)


def test_only_a_repository_makes_on_demand_documents() -> None:
    with pytest.raises(SettingsProblem, match="made by a repository, which is not one of the actors"):
        load_settings(actors=["registry"], on_demand=[{"name": "a", "entry_point": "a"}])


@pytest.mark.parametrize(
    ("iua", "sentence"),
    [
        ({"issuers": [{"issuer": "https://a.example", "jwks_url": "http://a.example/jwks"}]}, "over https"),
        ({"issuers": [{"issuer": "https://a.example"}]}, "jwks_url or jwks_file"),
        ({"issuers": [{"issuer": "https://a.example", "jwks_url": "https://a.example/jwks"}]}, "audience"),
        ({"issuers": [{"issuer": "a", "jwks_file": "a"}] * 2, "audience": ["x"]}, "named once"),
        ({"algorithms": ["HS256"]}, "HS|RS256"),
        ({"algorithms": ["none"]}, "RS256"),
        ({"algorithms": []}, "algorithms"),
    ],
)
def test_access_tokens_are_asked_for_safely_or_not_at_all(iua: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsProblem, match=sentence):
        load_settings(mhd={"iua": iua})


@pytest.mark.parametrize(
    "uri",
    ["urn:oid:1.2.3", "URN:OID:1.2.3", "nhs-number", "https://nhs.example/a b", "urn:ietf:rfc:3986", "urn:dicom:uid"],
)
def test_an_authority_has_a_uri_that_could_not_be_anything_else(uri: str) -> None:
    with pytest.raises(SettingsProblem, match=r"uri.*give a URI|uri.*is not a URI such as"):
        load_settings(patients={"assigning_authorities": [{"oid": OID, "uri": uri}]})


@pytest.mark.parametrize(
    "uri", ["", "https://fhir.nhs.uk/Id/nhs-number", "urn:uuid:1479257a-ce8f-482a-89fa-429ac066c158"]
)
def test_an_authority_may_have_a_uri(uri: str) -> None:
    [authority] = load_settings(
        patients={"assigning_authorities": [{"oid": OID, "uri": uri}]}
    ).patients.assigning_authorities

    assert authority.uri == uri
