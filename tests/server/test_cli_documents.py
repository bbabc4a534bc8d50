"""`toimik submit`, `query` and `retrieve`, against a real server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from importlib.resources import as_file
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp.test_utils import unused_port
from typer.testing import CliRunner, Result

from schemas.samples import AFFINITY_DOMAIN, SAMPLES, path
from server.__main__ import command_line
from server.cli.retrieve import Download, Wanted, saved
from server.remote_actors import Received, Retrieval
from tests import builders
from tests.server.running_server import running_server
from xds.actors import Attachment, DocumentRequest
from xds.errors import ResponseStatus
from xds.metadata import HASH_OF_NOTHING

AUTHORITY = "2.16.840.1.113883.2.1.4.1"
DISCHARGE_SUMMARY, RADIOLOGY_REPORT, LABORATORY_REPORT, VISIT_NOTE = SAMPLES


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("data")) as base:
        yield base


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with the samples in it."""
    for sample in SAMPLES:
        (tmp_path / sample.file_name).write_bytes(path(sample.file_name).read_bytes())
    return tmp_path


@pytest.fixture
def patient() -> str:
    """A patient whom no other test knows."""
    return f"{uuid4().hex}^^^&{AUTHORITY}&ISO"


def invoked(*arguments: object) -> Result:
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(command_line(words), words)


def answered(*arguments: object, exit_code: int = 0) -> Any:
    """What a command prints as JSON."""
    result = invoked(*arguments, "--json")
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def text_file(directory: Path, name: str = "note.txt", content: str = "A note.") -> Path:
    file = directory / name
    file.write_text(content, encoding="utf-8")
    return file


# ----------------------------------------------------------------------------------------------------------- submit


def test_a_cda_document_says_by_itself_what_it_is(server: str, files: Path) -> None:
    answer = answered("submit", files / LABORATORY_REPORT.file_name, "--to", server)
    (document,) = answer["documents"]
    assert answer["status"] == "success"
    assert document["unique_id"] == LABORATORY_REPORT.unique_id
    assert document["patient_id"] == LABORATORY_REPORT.patient_id
    (entry,) = answered("query", "--to", server, "-p", LABORATORY_REPORT.patient_id)["objects"]
    assert entry["entry_uuid"] == document["entry_uuid"]
    assert entry["title"] == [{"value": LABORATORY_REPORT.title}]
    assert entry["creation_time"] == LABORATORY_REPORT.creation_time
    assert entry["format_code"]["code"] == LABORATORY_REPORT.format_code.code
    assert entry["source_patient_info"] == list(LABORATORY_REPORT.source_patient_info)
    assert entry["mime_type"] == "text/xml"
    assert entry["hash"] == document["hash"]


def test_the_affinity_domain_says_which_patient_id_counts(server: str, files: Path, tmp_path: Path) -> None:
    file = files / DISCHARGE_SUMMARY.file_name
    content = file.read_text(encoding="utf-8")
    first, second = (line for line in content.splitlines() if "assigningAuthorityName" in line)
    file.write_text(content.replace(first, "X").replace(second, first).replace("X\n", second + "\n"), encoding="utf-8")
    with as_file(path(AFFINITY_DOMAIN)) as domain:
        answer = answered("submit", file, "--to", server, "--config", domain, "--unique-id", "1.2.3.4")
    assert answer["documents"][0]["patient_id"] == DISCHARGE_SUMMARY.patient_id


def test_any_file_is_sent_with_what_the_command_line_says(server: str, tmp_path: Path, patient: str) -> None:
    file = text_file(tmp_path)
    answered(
        "submit", file, "--to", server, "-p", patient, "--title", "Õie märkus", "--type", "11488-4^^1.2 Consult note",
        "--class", "C^^1.2", "--format", "F^^1.2", "--confidentiality", "R^^1.2", "--confidentiality", "V^^1.2",
        "--event", "E^^1.2", "--facility", "H^^1.2", "--practice", "P^^1.2", "--content-type", "T^^1.2",
        "--author", "^Tamm^Mari", "--institution", "Haigla", "--language", "et", "--mime-type", "text/x-note",
        "--created", "2026", "--source-patient", f"7^^^&{AUTHORITY}&ISO", "--source-id", "1.2.3",
    )  # fmt: skip
    (entry,) = answered("query", "--to", server, "-p", patient)["objects"]
    assert entry["title"] == [{"value": "Õie märkus"}]
    assert entry["type_code"]["code"] == "11488-4"
    assert entry["type_code"]["display_name"] == [{"value": "Consult note"}]
    assert [code["code"] for code in entry["confidentiality_code"]] == ["R", "V"]
    assert [code["code"] for code in entry["event_code_list"]] == ["E"]
    assert entry["class_code"]["code"] + entry["format_code"]["code"] == "CF"
    assert entry["healthcare_facility_type_code"]["code"] + entry["practice_setting_code"]["code"] == "HP"
    assert entry["author"] == [{"author_person": "^Tamm^Mari", "author_institution": ["Haigla"]}]
    assert (entry["language_code"], entry["mime_type"], entry["creation_time"]) == ("et", "text/x-note", "2026")
    assert entry["source_patient_id"] == f"7^^^&{AUTHORITY}&ISO"
    asked = {"PatientId": patient, "Status": "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"}
    parameters = [f"--param=$XDSSubmissionSet{name}={value}" for name, value in asked.items()]
    (owner,) = answered("query", "--to", server, "-q", "FindSubmissionSets", *parameters)["objects"]
    assert owner["content_type_code"]["code"] == "T"
    assert owner["source_id"] == "1.2.3"


def test_what_nobody_said_is_assumed_and_told(server: str, tmp_path: Path, patient: str) -> None:
    result = invoked("submit", text_file(tmp_path), "--to", server, "-p", patient)
    assert result.exit_code == 0
    for attribute in ("typeCode", "formatCode", "confidentialityCode", "practiceSettingCode", "languageCode"):
        assert f"{attribute} is assumed" in result.stderr
    assert "assumed" not in result.stdout


def test_what_was_registered_is_printed(server: str, tmp_path: Path, patient: str) -> None:
    result = invoked("submit", text_file(tmp_path, content="12345"), "--to", server, "-p", patient, "--title", "[a]")
    assert "[a]" in result.stdout
    assert hashlib.sha1(b"12345", usedforsecurity=False).hexdigest() in result.stdout
    assert "5 B" in result.stdout


def test_several_documents_are_one_submission(server: str, tmp_path: Path, patient: str) -> None:
    files = [text_file(tmp_path, f"{number}.txt") for number in range(3)]
    answer = answered("submit", *files, "--to", server, "-p", patient.partition("^")[0], "--authority", AUTHORITY)
    asked = ("query", "--to", server, "-q", "GetSubmissionSetAndContents", "--param")
    content = answered(*asked, f"XDSSubmissionSetEntryUUID={answer['submission_set']['entry_uuid']}")["objects"]
    assert sorted(each["kind"] for each in content) == ["Association"] * 3 + ["DocumentEntry"] * 3 + ["SubmissionSet"]


def test_a_document_replaces_another(server: str, tmp_path: Path, patient: str) -> None:
    file = text_file(tmp_path)
    (older,) = answered("submit", file, "--to", server, "-p", patient)["documents"]
    (newer,) = answered("submit", file, "--to", server, "-p", patient, "--replace", older["entry_uuid"])["documents"]
    entries = answered("query", "--to", server, "-p", patient, "--status", "all")["objects"]
    statuses = {entry["entry_uuid"]: entry["availability_status"].rpartition(":")[2] for entry in entries}
    assert statuses == {older["entry_uuid"]: "Deprecated", newer["entry_uuid"]: "Approved"}


def test_a_refusal_is_told_with_code_and_sentence(server: str, tmp_path: Path, patient: str) -> None:
    result = invoked("submit", text_file(tmp_path), "--to", server, "-p", patient, "--replace", uuid4().urn)
    assert result.exit_code == 1
    assert "UnresolvedReferenceException" in result.stderr
    assert result.stdout == ""
    assert answered("query", "--to", server, "-p", patient)["objects"] == []


def test_a_refusal_is_told_to_programs(server: str, tmp_path: Path, patient: str) -> None:
    answer = answered(
        "submit", text_file(tmp_path), "--to", server, "-p", patient, "--replace", uuid4().urn, exit_code=1
    )
    assert answer["status"] == "failure"
    assert [error["code"] for error in answer["errors"]] == ["UnresolvedReferenceException"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("{file}",), "--patient"),
        (("{file}", "-p", "77"), "--authority"),
        (("{file}", "-p", "77^^^&not an oid&ISO"), "OID"),
        (("{file}", "-p", "{patient}", "--type", "11488-4"), "code^^codingScheme"),
        (("{file}", "-p", "{patient}", "--created", "yesterday"), "YYYY"),
        (("{file}", "-p", "{patient}", "--source-id", "me"), "OID"),
        (("{file}", "{file}", "-p", "{patient}", "--unique-id", "1.2"), "one FILE"),
        (("{file}", "-p", "{patient}", "--config", "no-such.toml"), "no-such.toml"),
        (("{file}", "-p", "{patient}", "--ca", "no-such.pem"), "no-such.pem"),
        (("{file}", "-p", "{patient}", "--key", "{file}"), "--certificate"),
        (("no-such-file", "-p", "{patient}"), "no-such-file"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(
    tmp_path: Path, patient: str, arguments: tuple[str, ...], told: str
) -> None:
    file = str(text_file(tmp_path))
    result = invoked("submit", *(each.format(file=file, patient=patient) for each in arguments))
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())


def test_documents_of_several_patients_are_not_sent_together(files: Path) -> None:
    result = invoked("submit", files / DISCHARGE_SUMMARY.file_name, files / LABORATORY_REPORT.file_name)
    assert result.exit_code == 2
    assert "several patients" in result.stderr


def test_xml_that_can_not_be_read_safely_is_sent_as_it_is(server: str, tmp_path: Path, patient: str) -> None:
    file = tmp_path / "odd.xml"
    file.write_bytes(b'<!DOCTYPE x [<!ENTITY e "e">]><x>&e;</x>')
    answer = answered("submit", file, "--to", server, "-p", patient)
    assert any("nothing is read from it" in each for each in answer["documents"][0]["assumed"])


@pytest.mark.parametrize(
    ("name", "content", "mime_type"),
    [
        ("report.pdf", b"%PDF-1.4\n", "application/pdf"),
        ("report", b"%PDF-1.4\n", "application/pdf"),
        ("note", "märkus".encode(), "text/plain"),
        ("note.xml", b"<x/>", "text/xml"),
        ("note.json", b"{}", "application/json"),
        ("picture", b"\x89PNG\r\n\x1a\n", "image/png"),
        ("scan", b"\x00\x01\xff", "application/octet-stream"),
        ("empty", b"", "application/octet-stream"),
    ],
)
def test_the_kind_of_a_file_is_seen(
    server: str, tmp_path: Path, patient: str, name: str, content: bytes, mime_type: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    (document,) = answered("submit", file, "--to", server, "-p", patient)["documents"]
    assert document["mime_type"] == mime_type


# ------------------------------------------------------------------------------------------------------------ query


def test_documents_are_printed_for_a_person(server: str, files: Path) -> None:
    answered("submit", files / DISCHARGE_SUMMARY.file_name, "--to", server)
    result = invoked("query", "--to", server, "-p", DISCHARGE_SUMMARY.patient_id)
    assert result.exit_code == 0
    for cell in ("Discharge summary", "2026-03-06 14:30", "Dr Ngozi Okafor", "Approved", DISCHARGE_SUMMARY.unique_id):
        assert cell in result.stdout


def test_filters_reach_the_registry(server: str, tmp_path: Path, patient: str) -> None:
    for code, created in (("A", "2025"), ("B", "2026")):
        file = text_file(tmp_path, f"{code}.txt")
        wanted = ("--type", f"{code}^^1.2", "--created", created, "--author", f"^Author{code}")
        answered("submit", file, "--to", server, "-p", patient, *wanted)

    def found(*filters: str) -> list[str]:
        objects = answered("query", "--to", server, "-p", patient, *filters)["objects"]
        return [each["type_code"]["code"] for each in objects]

    assert found() == ["A", "B"]
    assert found("--type", "A^^1.2") == ["A"]
    assert found("--type", "A^^1.2", "--type", "B^^1.2") == ["A", "B"]
    assert found("--from", "2026") == ["B"]
    assert found("--until", "2026") == ["A"]
    assert found("--author", "%AuthorB%") == ["B"]
    assert found("--status", "deprecated") == []


def test_references_are_printed_one_to_a_line(server: str, tmp_path: Path, patient: str) -> None:
    (document,) = answered("submit", text_file(tmp_path), "--to", server, "-p", patient)["documents"]
    result = invoked("query", "--to", server, "-p", patient, "--object-ref")
    assert result.stdout == document["entry_uuid"] + "\n"


def test_associations_are_printed_as_what_they_join(server: str, tmp_path: Path, patient: str) -> None:
    (document,) = answered("submit", text_file(tmp_path), "--to", server, "-p", patient)["documents"]
    asked = ("-q", "GetDocumentsAndAssociations", "--param", f"$XDSDocumentEntryUniqueId={document['unique_id']}")
    result = invoked("query", "--to", server, *asked)
    assert "HasMember" in result.stdout
    assert f"-> {document['entry_uuid']}" in result.stdout


def test_nothing_found_is_no_failure(server: str, patient: str) -> None:
    result = invoked("query", "--to", server, "-p", patient)
    assert result.exit_code == 0
    assert "Nothing matches" in result.stderr


def test_a_query_that_the_registry_refuses_is_told(server: str) -> None:
    result = invoked("query", "--to", server, "-q", "GetDocuments", "--param", "x=y")
    assert result.exit_code == 1
    assert "XDSStoredQueryMissingParam" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--patient"),
        (("-q", "FindEverything"), "FindDocuments"),
        (("-q", "GetAll", "-p", "1^^^&1.2&ISO"), "FindDocuments"),
        (("-q", "GetAll", "--param", "patientId"), "'$Name=value'"),
        (("-p", "1^^^&1.2&ISO", "--status", "new"), "deprecated"),
    ],
)
def test_a_query_that_can_not_be_asked_is_named(arguments: tuple[str, ...], told: str) -> None:
    result = invoked("query", *arguments)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", ["query", "submit", "retrieve"])
def test_a_server_that_is_not_there_has_an_exit_code_of_its_own(tmp_path: Path, patient: str, command: str) -> None:
    nowhere = ("--to", f"http://127.0.0.1:{unused_port()}", "-p", patient)
    files = [text_file(tmp_path)] if command == "submit" else []
    result = invoked(command, *files, *nowhere)
    assert result.exit_code == 3
    assert "can not be reached" in result.stderr
    assert result.stdout == ""


# --------------------------------------------------------------------------------------------------------- retrieve


def test_documents_come_back_as_they_were_sent(server: str, files: Path, tmp_path: Path) -> None:
    answered("submit", files / VISIT_NOTE.file_name, "--to", server, "-p", VISIT_NOTE.patient_id,
             "--unique-id", VISIT_NOTE.unique_id)  # fmt: skip
    answered("submit", files / DISCHARGE_SUMMARY.file_name, "--to", server)
    target = tmp_path / "out"
    ids = (VISIT_NOTE.unique_id, DISCHARGE_SUMMARY.unique_id)
    answer = answered("retrieve", *ids, "--to", server, "--output", target)
    assert [each["unique_id"] for each in answer["documents"]] == list(ids)
    assert all(each["verified"] for each in answer["documents"])
    for sample, suffix in ((VISIT_NOTE, ".txt"), (DISCHARGE_SUMMARY, ".xml")):
        assert (target / f"{sample.unique_id}{suffix}").read_bytes() == path(sample.file_name).read_bytes()
    assert len(list(target.iterdir())) == 2


def test_all_documents_of_a_patient_are_fetched(server: str, tmp_path: Path, patient: str) -> None:
    files = [text_file(tmp_path, f"{number}.txt", str(number)) for number in range(3)]
    answered("submit", *files, "--to", server, "-p", patient)
    result = invoked("retrieve", "--to", server, "-p", patient, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert sorted(file.read_text() for file in (tmp_path / "out").iterdir()) == ["0", "1", "2"]


def test_a_file_that_is_there_is_not_overwritten(server: str, tmp_path: Path, patient: str) -> None:
    (document,) = answered("submit", text_file(tmp_path), "--to", server, "-p", patient)["documents"]
    there = tmp_path / "out" / f"{document['unique_id']}.txt"
    there.parent.mkdir()
    there.write_text("mine")
    fetch = ("retrieve", document["unique_id"], "--to", server, "-o", there.parent)
    result = invoked(*fetch)
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert there.read_text() == "mine"
    assert list(there.parent.iterdir()) == [there]
    assert invoked(*fetch, "--force").exit_code == 0
    assert there.read_text() == "A note."


async def test_what_is_not_what_the_registry_says_is_not_saved(tmp_path: Path) -> None:
    entry = builders.document_entry(unique_id="1.2", size="5", hash="0" * 40)
    wanted = Wanted(DocumentRequest(builders.REPOSITORY, "1.2"), entry)
    answer = Retrieval(ResponseStatus.SUCCESS, (Received(wanted.request, "text/plain", "part"),))

    async def content(octets: bytes) -> AsyncIterator[bytes]:
        yield octets

    problems = []
    for octets in (b"1234", b"12345"):
        with Download(tmp_path) as download:
            await download.receive(Attachment("part", content(octets)))
            problems += [each.problem for each in saved([wanted], answer, download, force=True)]
        assert [*tmp_path.iterdir()] == []  # noqa: ASYNC240 - a directory of a test
    assert problems == [
        "it has 4 octets; the registry says 5",
        f"its SHA-1 is 8cb2237d0679ca88db6464eac60da96345513964; the registry says {'0' * 40}",
    ]


async def test_a_delayed_document_is_not_compared_with_what_is_said_before_it_is_assembled(tmp_path: Path) -> None:
    entry = builders.document_entry(unique_id="1.2", size="0", hash=HASH_OF_NOTHING)
    wanted = Wanted(DocumentRequest(builders.REPOSITORY, "1.2"), entry)
    answer = Retrieval(ResponseStatus.SUCCESS, (Received(wanted.request, "text/plain", "part"),))

    async def content() -> AsyncIterator[bytes]:
        yield b"assembled"

    with Download(tmp_path) as download:
        await download.receive(Attachment("part", content()))
        (document,) = saved([wanted], answer, download, force=True)
    assert (document.problem, document.size, document.verified) == (None, 9, False)


async def test_documents_whose_names_would_be_the_same_get_several(tmp_path: Path) -> None:
    requests = [DocumentRequest(builders.REPOSITORY, unique_id) for unique_id in ("a/b", "a:b")]
    received = tuple(Received(request, "text/plain", request.document_unique_id) for request in requests)

    async def content() -> AsyncIterator[bytes]:
        yield b"1"

    with Download(tmp_path) as download:
        for request in requests:
            await download.receive(Attachment(request.document_unique_id, content()))
        named = list(
            saved(list(map(Wanted, requests)), Retrieval(ResponseStatus.SUCCESS, received), download, force=True)
        )
    assert [each.file for each in named] == [tmp_path / "a_b.txt", tmp_path / "a_b-2.txt"]


def test_a_unique_id_never_leads_out_of_the_directory(server: str, tmp_path: Path, patient: str) -> None:
    unique_id = "../../.ssh/authorized_keys^x"
    answered("submit", text_file(tmp_path), "--to", server, "-p", patient, "--unique-id", unique_id)
    (document,) = answered("retrieve", unique_id, "--to", server, "-o", tmp_path / "out")["documents"]
    assert document["file"] == str(tmp_path / "out" / "ssh_authorized_keys_x.txt")


def test_a_document_that_no_registry_knows_is_named(server: str, tmp_path: Path) -> None:
    result = invoked("retrieve", "1.2.3.9.9", "--to", server, "-o", tmp_path)
    assert result.exit_code == 1
    assert "1.2.3.9.9" in result.stderr
    assert "--repository-id" in result.stderr


def test_without_a_registry_nothing_is_verified(server: str, tmp_path: Path, patient: str) -> None:
    (document,) = answered("submit", text_file(tmp_path), "--to", server, "-p", patient)["documents"]
    (entry,) = answered("query", "--to", server, "-p", patient)["objects"]
    where = ("--repository", f"{server}/xds/repository", "--repository-id", entry["repository_unique_id"])
    fetched = answered(
        "retrieve", document["unique_id"], *where, "--registry", "http://nowhere.invalid/", "-o", tmp_path / "o"
    )
    assert [(each["verified"], each["size"]) for each in fetched["documents"]] == [(False, 7)]


def test_errors_of_a_repository_are_told(server: str, tmp_path: Path) -> None:
    fetched = answered("retrieve", "1.2", "--to", server, "--repository-id", "1.2.3", "-o", tmp_path / "o", exit_code=1)
    assert [error["code"] for error in fetched["errors"]] == ["XDSUnknownRepositoryId"]
    assert fetched["documents"][0]["file"] is None


@pytest.mark.parametrize(
    "arguments", [(), ("1.2", "-p", "1^^^&1.2&ISO"), ("-p", "1^^^&1.2&ISO", "--repository-id", "1.2")]
)
def test_what_to_fetch_has_to_be_clear(arguments: tuple[str, ...]) -> None:
    assert invoked("retrieve", *arguments).exit_code == 2
