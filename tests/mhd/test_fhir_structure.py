"""What is FHIR R4, and what is not: every problem found, at its place."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mhd.fhir import fhir_primitives
from mhd.fhir.fhir_json import parsed, written
from mhd.fhir.fhir_primitives import PRIMITIVES, decoded_base_64
from mhd.fhir.fhir_structure import DEEPEST, structure_problems
from mhd.fhir.operation_outcome import IssueType, Refused
from server.fhir_xml import FhirXmlProblem, from_xml, to_xml
from tests.fhir_definitions import TABLE, restated
from tests.fhir_definitions import written as table_text
from tests.fhir_validity import assert_is_fhir
from tests.shared_material import shared

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "active": True,
    "name": [{"family": "Tamm", "given": ["Mari", "Liis"], "_given": [None, {"id": "second"}]}],
    "birthDate": "1980-02-29",
    "multipleBirthInteger": 2,
    "extension": [{"url": "http://example.org/weight", "valueDecimal": 3.5}],
}

EXAMPLES_WITH_DEFECTS = ("CapabilityStatement-IHE.MHD.", "invalid-27")  # no date; 30 February


def problems(**changes: Any) -> list[tuple[str, str]]:
    changed = copy.deepcopy(PATIENT) | changes
    return [(each.code.value, each.expression) for each in structure_problems(changed)]


def test_a_sound_resource_has_no_problems() -> None:
    assert_is_fhir(PATIENT)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"nickname": "M"}, ("structure", "Patient.nickname")),
        ({"name": {"family": "Tamm"}}, ("structure", "Patient.name")),
        ({"name": []}, ("structure", "Patient.name")),
        ({"name": [{}]}, ("invariant", "Patient.name[0]")),
        ({"name": [{"family": ["Tamm"]}]}, ("structure", "Patient.name[0].family")),
        ({"name": [{"family": ""}]}, ("value", "Patient.name[0].family")),
        ({"name": [{"family": "a\x00b"}]}, ("value", "Patient.name[0].family")),
        ({"active": "true"}, ("value", "Patient.active")),
        ({"gender": "feminine"}, ("value", "Patient.gender")),
        ({"birthDate": "1981-02-29"}, ("value", "Patient.birthDate")),
        ({"birthDate": "0999-01-01"}, ("value", "Patient.birthDate")),
        ({"birthDate": "1981-13"}, ("value", "Patient.birthDate")),
        ({"birthDate": "1981-01-01T00:00:00Z"}, ("value", "Patient.birthDate")),
        ({"deceasedDateTime": "2026-01-01T24:00:00Z"}, ("value", "Patient.deceased")),
        ({"deceasedDateTime": "2026-01-01T10:00:60Z"}, ("value", "Patient.deceased")),
        ({"deceasedDateTime": "2026-01-01T10:00:00"}, ("value", "Patient.deceased")),
        ({"deceasedDateTime": "2026-01-01T10:00Z"}, ("value", "Patient.deceased")),
        ({"multipleBirthBoolean": True}, ("structure", "Patient.multipleBirth")),
        ({"id": "../p1"}, ("value", "Patient.id")),
        ({"extension": [{"valueString": "x"}]}, ("required", "Patient.extension[0].url")),
        ({"photo": [{"size": -1}]}, ("value", "Patient.photo[0].size")),
        ({"photo": [{"data": "a"}]}, ("value", "Patient.photo[0].data")),
        ({"photo": [{"url": "a b"}]}, ("value", "Patient.photo[0].url")),
        ({"language": " et"}, ("value", "Patient.language")),
        ({"contained": [{"resourceType": "Person"}]}, ("invariant", "Patient.contained[0]")),
        ({"contained": [{"resourceType": "Dog"}]}, ("structure", "Patient.contained[0]")),
        ({"contained": ["x"]}, ("structure", "Patient.contained[0]")),
        ({"text": {"status": "generated", "div": "<p>x</p>"}}, ("value", "Patient.text.div")),
        ({"_birthDate": "x"}, ("structure", "Patient.birthDate")),
    ],
)
def test_a_problem_is_told_at_its_place(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert problems(**changes) == [expected]


def test_all_problems_are_told() -> None:
    assert len(problems(active=1, birthDate="x", gender="y")) == 3


@pytest.mark.parametrize("body", [None, [], "x", 1, {}, {"resourceType": 1}, {"resourceType": "DomainResource"}])
def test_what_is_no_resource_is_told(body: Any) -> None:
    assert [each.code for each in structure_problems(body)] == [IssueType.STRUCTURE]


def test_elements_that_lie_too_deep_are_refused() -> None:
    extension: dict[str, Any] = {"url": "http://example.org/x"}
    for _ in range(DEEPEST):
        extension = {"url": "http://example.org/x", "extension": [extension]}

    found = structure_problems(PATIENT | {"extension": [extension]})

    assert [each.code for each in found] == [IssueType.TOO_COSTLY]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"a": 1, "a": 2}', b'{"a": NaN}', b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"],
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        parsed(body)

    assert refusal.value.outcome.http_status == 400


def test_decimals_keep_their_digits() -> None:
    assert written(parsed(b'{"value":1.10}')) == b'{"value":1.10}'


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        ("<Patient xmlns='http://hl7.org/fhir'><nickname value='x'/></Patient>", "no element of Patient"),
        ("<Patient xmlns='http://hl7.org/fhir' id='x'/>", "attribute 'id'"),
        ("<Patient/>", "not in the namespace"),
        ("<Dog xmlns='http://hl7.org/fhir'/>", "no resource"),
        ("<Patient xmlns='http://hl7.org/fhir'><active/></Patient>", "no value"),
        ("<Patient xmlns='http://hl7.org/fhir'><active value='true'>x</active></Patient>", "text in it"),
        ("<Patient xmlns='http://hl7.org/fhir'><active value='true'/><active value='true'/></Patient>", "twice"),
        ("<!DOCTYPE Patient [<!ENTITY a 'b'>]><Patient xmlns='http://hl7.org/fhir'/>", "document type"),
    ],
)
def test_what_is_no_fhir_xml_is_refused(xml: str, says: str) -> None:
    with pytest.raises(FhirXmlProblem, match=says):
        from_xml(xml.encode())


def test_texts_survive_xml_with_every_blank_in_them() -> None:
    text = " a\tb\nc\rd  e\xa0\u2028<&>\"'"

    assert from_xml(to_xml(PATIENT | {"name": [{"text": text}]}))["name"] == [{"text": text}]


@pytest.mark.bench_shared
def test_the_examples_of_mhd_are_fhir() -> None:
    examples = shared("mhd-examples")
    found = sorted([*examples.glob("*.json"), *examples.glob("ig-4.2.4/*.json")])
    assert found
    for path in found:
        resource = parsed(path.read_bytes())
        if "resourceType" in resource and not path.name.startswith(EXAMPLES_WITH_DEFECTS):
            assert_is_fhir(resource)


@pytest.mark.bench_shared
def test_the_table_of_elements_is_what_hl7_defines() -> None:
    shared("mhd-examples")

    assert TABLE.read_bytes() == table_text(restated())


@given(
    st.text(alphabet="ABab01+/= \n\u00e4", max_size=40)
    | st.binary(max_size=40).map(lambda octets: base64.b64encode(octets).decode())
)
@settings(max_examples=500, deadline=None)
def test_base64_is_judged_in_pieces_as_it_is_decoded_whole(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fhir_primitives, "_PIECE", 8)
        problem = PRIMITIVES["base64Binary"](text)

    decoded = decoded_base_64(text)
    if problem is None:
        assert decoded is not None
    elif decoded is not None and text.strip():
        # More padding than there is to pad is nothing that the standard decoder minds.
        assert "=" in text
        assert base64.b64encode(decoded).decode() != "".join(text.split())
