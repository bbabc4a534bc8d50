"""Code sets in a file: imported, read again while the server runs, and counted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from registry.code_sets import CodeSet, Policy
from server.__main__ import command_line
from server.code_file import ChangingCodes, read_code_file
from server.code_import import ImportProblem, imported
from server.metrics import Metrics
from server.settings import SettingsProblem
from server.settings.affinity_domain import CodedValue
from tests.builders import code, document_entry, submission
from tests.shared_material import SHARED
from xds.errors import Severity

CODES_XML = b"""<?xml version="1.0"?>
<!-- what -- no parser takes -->
<Codes xmlns=""><AssigningAuthority id="1.2.3"/>
<CodeType name="classCode" classScheme="urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a">
  <Code code="REPORT" codingScheme="1.3.6.1" display="Reports"/><Code code="IMAGE" codingScheme="1.3.6.1"/>
</CodeType><CodeType name="mimeType"><Code code="application/pdf" codingScheme="IANA"/></CodeType>
<CodeType name="folderCodeList"><Code code="F" codingScheme="1.3"/></CodeType></Codes>"""
FORMATS = {
    "resourceType": "ValueSet",
    "compose": {
        "include": [
            {"system": "http://loinc.org", "concept": [{"code": "11488-4", "display": "Consult note"}]},
            {
                "system": "urn:oid:1.3.6.1.4.1.19376.1.2.3",
                "concept": [{"code": "urn:ihe:pcc:xds-ms:2007"}],
            },
        ]
    },
}


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command_line(arguments), list(arguments))
    return result.exit_code, result.output


def test_codes_of_nists_form_are_imported_with_their_comments_ignored(tmp_path: Path) -> None:
    (tmp_path / "codes.xml").write_bytes(CODES_XML)
    into = tmp_path / "codes.toml"

    exit_code, output = run("codes", "import", str(tmp_path / "codes.xml"), "--into", str(into), "--policy", "warn")

    assert exit_code == 0, output
    codes = read_code_file(into)
    assert codes["class_code"].values == (
        CodedValue(code="REPORT", scheme="1.3.6.1", display="Reports"),
        CodedValue(code="IMAGE", scheme="1.3.6.1"),
    )
    assert codes["mime_type"].values == ("application/pdf",)
    assert {each.policy for each in codes.values()} == {Policy.WARN.value}


def test_value_sets_are_imported_for_the_attribute_that_is_named_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "codes.xml").write_bytes(CODES_XML)
    (tmp_path / "formats.json").write_text(json.dumps(FORMATS))
    into = str(tmp_path / "codes.json")
    run("codes", "import", str(tmp_path / "codes.xml"), "--into", into)

    exit_code, output = run(
        "codes", "import", str(tmp_path / "formats.json"), "--attribute", "formatCode", "--into", into
    )

    assert exit_code == 0, output
    codes = read_code_file(Path(into))
    assert sorted(codes) == ["class_code", "code_list", "format_code", "mime_type"]
    schemes = [each.scheme for each in codes["format_code"].values if isinstance(each, CodedValue)]
    assert schemes == ["2.16.840.1.113883.6.1", "1.3.6.1.4.1.19376.1.2.3"]


def test_an_expansion_is_taken_with_all_that_is_below(tmp_path: Path) -> None:
    below = [{"system": "urn:oid:1.2", "code": "b"}, {"system": "urn:oid:1.2", "code": "c", "abstract": True}]
    value_set = {"resourceType": "ValueSet", "expansion": {"contains": [{"abstract": True, "contains": below}]}}

    values = imported(json.dumps(value_set).encode(), "class_code")

    assert values == {"class_code": (CodedValue(code="b", scheme="1.2"),)}


@pytest.mark.parametrize(
    ("content", "attribute", "why"),
    [
        (b"<Codes/>", None, "no CodeType"),
        (b"hello", None, "neither a JSON ValueSet nor a codes.xml"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><Codes>&b;</Codes>", None, "neither a JSON ValueSet nor a codes.xml"),
        (CODES_XML, "type_code", "no codes for type_code"),
        (b'{"resourceType":"ValueSet"}', None, "name it with --attribute"),
        (b'{"resourceType":"ValueSet"}', "type_code", "lists no codes"),
        (b'{"resourceType":"Patient"}', "type_code", "no FHIR ValueSet"),
        (b'{"resourceType"', "type_code", "no JSON"),
        (
            b'{"resourceType":"ValueSet","compose":{"include":[{"system":"http://loinc.org"}]}}',
            "type_code",
            "without listing them",
        ),
    ],
)
def test_what_can_not_be_imported_is_told(content: bytes, attribute: str | None, why: str) -> None:
    with pytest.raises(ImportProblem, match=why):
        imported(content, attribute)


@pytest.mark.skipif(not SHARED.exists(), reason="the reference material is not there")
def test_the_codes_of_the_nist_toolkit_are_imported(tmp_path: Path) -> None:
    into = tmp_path / "codes.toml"
    codes_xml = SHARED / "nist-testkit" / "reference" / "codes.xml"

    exit_code, output = run("codes", "import", str(codes_xml), "--into", str(into))

    assert exit_code == 0, output
    assert len(read_code_file(into)) == 11


# --- while the server runs -------------------------------------------------------------------------------------------


def written(path: Path, content: dict[str, Any]) -> None:
    """Written as editors do, with another time stamp each time."""
    path.write_text(json.dumps(content))
    written.count += 1  # type: ignore[attr-defined]
    os.utime(path, ns=(written.count, written.count))  # type: ignore[attr-defined]


written.count = 1  # type: ignore[attr-defined]


def outcome(codes: ChangingCodes) -> list[Severity]:
    entry = document_entry(class_code=code("X", "1.2.3"), type_code=code("Y", "1.2.3"))
    return [finding.severity for finding in codes.findings(submission(entry))]


def test_codes_follow_their_file_without_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "codes.json"
    written(path, {"class_code": {"policy": "reject"}})
    codes = ChangingCodes({}, path)
    assert outcome(codes) == [Severity.ERROR]

    written(path, {"class_code": {"policy": "warn"}, "type_code": {"policy": "reject"}})
    assert sorted(outcome(codes)) == [Severity.ERROR, Severity.WARNING]

    written(path, {"class_code": {"policy": "reject", "values": [{"code": "X", "scheme": "1.2.3"}]}})
    assert outcome(codes) == []

    path.write_text("{ not JSON")
    assert outcome(codes) == []
    assert "can not be used" in caplog.text

    path.unlink()
    assert outcome(codes) == []


def test_the_file_counts_where_the_settings_have_the_same_attribute(tmp_path: Path) -> None:
    path = tmp_path / "codes.json"
    written(path, {"class_code": {"policy": "accept"}})
    fixed = {each: CodeSet(frozenset(), Policy.REJECT) for each in ("class_code", "type_code")}

    assert outcome(ChangingCodes(fixed, None)) == [Severity.ERROR, Severity.ERROR]
    assert outcome(ChangingCodes(fixed, path)) == [Severity.ERROR]


@pytest.mark.parametrize("content", ["[]", '{"colour": {}}', '{"class_code": {"policy": "perhaps"}}', "{"])
def test_a_server_does_not_start_on_a_file_of_codes_that_can_not_be_used(tmp_path: Path, content: str) -> None:
    path = tmp_path / "codes.json"
    path.write_text(content)

    with pytest.raises(SettingsProblem, match=r"codes\.json: "):
        ChangingCodes({}, path)


def test_unknown_codes_are_counted_by_attribute_and_source(tmp_path: Path) -> None:
    path = tmp_path / "codes.json"
    values = [{"code": "A", "scheme": "1.2"}]
    written(path, {"class_code": {"policy": "accept", "values": values}, "type_code": {"policy": "reject"}})
    codes, metrics = ChangingCodes({}, path), Metrics()
    codes.counted = metrics.unknown_code
    entry = document_entry(class_code=code("X", "1.2.3"), type_code=code("Y", "1.2.3"))

    for source in ("1.2.840.1", "1.2.840.1", "nobody's"):
        codes.findings(submission(entry, source_id=source))

    text = metrics.text().decode()
    assert 'toimik_unknown_codes_total{attribute="class_code",source="1.2.840.1"} 2.0' in text
    assert 'toimik_unknown_codes_total{attribute="type_code",source="other"} 1.0' in text
