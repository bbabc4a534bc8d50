"""The example messages of MHD become the metadata that they must become, and that becomes the answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import parsed
from mhd.fhir.operation_outcome import Outcome, outcome_of
from mhd.mapping.document_list import list_of, submission_set_of
from mhd.mapping.document_reference import entry_of, resource_of
from mhd.mapping.domain import MhdDomain
from mhd.mapping.hashes import hash_problem
from mhd.mapping.reading import Reading
from tests.fhir_validity import assert_is_fhir
from tests.shared_material import shared
from xds.errors import ErrorCode, RegistryError, Severity
from xds.metadata import Author, Code, ObjectKind
from xds.metadata_names import term

DOMAIN = MhdDomain(base="https://mhd.example.org/fhir")
SET_UUID = "urn:uuid:4f3b9b0e-0000-4000-8000-000000000003"
EXAMPLES = pytest.mark.bench_shared


def example(name: str) -> Any:
    return parsed((shared("mhd-examples") / name).read_bytes())


def submitted(number: int) -> Json:
    resource: Json = example("valid-03-comprehensive-full.json")["entry"][number]["resource"]
    return resource


def plain(value: Any) -> Any:
    """Metadata as the golden file writes it."""
    match value:
        case Code():
            return [value.code, value.coding_scheme, value.display_name[0].value]
        case Author():
            names = (
                "author_person",
                "author_institution",
                "author_role",
                "author_specialty",
                "author_telecommunication",
            )
            return {term(name): plain(getattr(value, name)) for name in names}
        case tuple():
            return [plain(each) for each in value]
        case None:
            return None
        case _:
            return getattr(value, "text", value)


def assert_golden(item: Any, golden: dict[str, Any]) -> None:
    attributes = {term(name): name for name in type(item).__dataclass_fields__}
    for attribute, expected in golden.items():
        found = plain(getattr(item, attributes[attribute]))
        if attribute in ("title", "comments"):
            found = found[0].value
        if attribute == "contentTypeCode" and not isinstance(found[0], str):
            found = found[0]
        assert found == expected, attribute


@EXAMPLES
def test_a_document_reference_becomes_the_golden_document_entry() -> None:
    entry = entry_of(submitted(1), domain=DOMAIN)

    assert_golden(entry, example("expected-xds-valid-03.json")["DocumentEntry"])


@EXAMPLES
def test_a_list_becomes_the_golden_submission_set() -> None:
    assert_golden(
        submission_set_of(submitted(0), domain=DOMAIN), example("expected-xds-valid-03.json")["SubmissionSet"]
    )


def _without_what_xds_has_not(resource: Json) -> Json:
    """Displays of roles have no place in XDS; lastUpdated is the store's."""
    del resource["meta"]["lastUpdated"]
    for each in resource["contained"]:
        for concept in (*each.get("code", ()), *each.get("specialty", ())):
            for coding in concept["coding"]:
                coding.pop("display", None)
    return resource


@EXAMPLES
def test_a_document_entry_is_found_as_the_golden_document_reference() -> None:
    golden = example("expected-iti67-searchset-valid-03.json")["entry"][0]["resource"]
    entry = replace(entry_of(submitted(1), domain=DOMAIN), home_community_id="urn:oid:2.999.40.1")

    resource = resource_of(entry, domain=DOMAIN, patient_key="pat-anna", date="2026-03-04T09:15:01Z")

    assert_is_fhir(resource)
    assert resource == _without_what_xds_has_not(golden)


@EXAMPLES
def test_a_submission_set_is_found_as_the_golden_list() -> None:
    golden = example("expected-iti66-searchset-valid-03.json")["entry"][0]["resource"]
    item = replace(submission_set_of(submitted(0), domain=DOMAIN), entry_uuid=SET_UUID)
    members = [(ObjectKind.DOCUMENT_ENTRY, "urn:uuid:9b5f3a52-2f4e-4b0c-8d3f-0a53c0de0003")]

    resource = list_of(item, members, domain=DOMAIN, patient_key="pat-anna")

    assert_is_fhir(resource)
    assert resource == _without_what_xds_has_not(golden)


@EXAMPLES
@pytest.mark.parametrize(
    ("name", "path", "code"),
    [
        ("invalid-08-hash-hex-instead-of-base64", "content[0].attachment.hash", "XDSRepositoryMetadataError"),
        ("invalid-21-comprehensive-uncontained-author", "author[0]", "XDSRepositoryMetadataError"),
        ("invalid-29-comprehensive-no-sourcepatientid", "contained[0].identifier", "XDSRegistryMetadataError"),
    ],
)
def test_what_the_mapping_can_not_express_is_told_at_its_place(name: str, path: str, code: str) -> None:
    place = "Bundle.entry[1].resource"
    reading = Reading()

    entry_of(example(f"{name}.json")["entry"][1]["resource"], domain=DOMAIN, path=place, reading=reading)

    assert [(each.expression, each.xds_code, each.http) for each in reading.issues] == [(f"{place}.{path}", code, 422)]


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ("2dc2a8edcccefdcc2a701f816b9c3e16d420b190", "looks like hex"),
        ("MmRjMmE4ZWRjY2NlZmRjYzJhNzAxZjgxNmI5YzNlMTZkNDIwYjE5MA==", "base64 of the 40 hex digits"),
        ("AAAA", "3 bytes"),
        ("*", "not base64"),
    ],
)
def test_a_wrong_hash_is_told_for_what_it_is(sent: str, says: str) -> None:
    assert says in (hash_problem(sent) or "")


def test_the_answer_has_the_status_of_its_gravest_error() -> None:
    def status(*codes: ErrorCode) -> int:
        return outcome_of([RegistryError(code, "Send another one.") for code in codes]).http_status

    assert status(ErrorCode.NON_IDENTICAL_HASH) == 409
    assert status(ErrorCode.NON_IDENTICAL_HASH, ErrorCode.REGISTRY_METADATA_ERROR) == 422
    assert status(ErrorCode.REGISTRY_METADATA_ERROR, ErrorCode.REPOSITORY_BUSY) == 503
    warning = RegistryError(ErrorCode.REGISTRY_METADATA_ERROR, "Look at it.", severity=Severity.WARNING)
    assert outcome_of([warning]).http_status == 200


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_error_of_xds_has_an_outcome(code: ErrorCode) -> None:
    answer: Outcome = outcome_of([RegistryError(code, "What was sent: \x00", "entry/typeCode")])

    assert answer.http_status in (400, 404, 409, 422, 500, 503)
    assert answer.resource()["issue"][0]["details"]["coding"] == [{"code": code.value}]
    assert_is_fhir(answer.resource())
