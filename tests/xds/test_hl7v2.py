"""The HL7 v2.5 data types in metadata: what was sent stays, its components are found, and what is wrong is said."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import PATIENT_IDS, TEXTS, TIMES
from xds.hl7v2 import CX, DTM, HD, XCN, XON, XTN, CXi, is_oid

TYPES = (HD, CX, CXi, XCN, XON, XTN, DTM)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("1.2.840.113619.6.197", True),
        ("2.25.0", True),
        ("0.9", True),
        ("1", False),
        ("3.1", False),
        ("1.2.", False),
        ("1..2", False),
        ("1.02", False),
        (" 1.2", False),
        ("1.2\n", False),
        ("urn:oid:1.2", False),
        ("1.²", False),
        ("1." + "2" * 62, True),
        ("1." + "2" * 63, False),
        ("", False),
    ],
)
def test_an_oid_has_at_most_64_characters_and_no_leading_zeros(text: str, is_one: bool) -> None:
    assert is_oid(text) is is_one


@given(TEXTS, st.sampled_from(TYPES))
def test_whatever_was_sent_is_kept_and_judged_without_failing(text: str, kind: type[XCN]) -> None:
    value = kind(text)

    assert (value.text, str(value)) == (text, text)
    assert value.problem() != ""
    assert [value.component(number) for number in range(1, text.count("^") + 3)] == [*text.split("^"), ""]


@pytest.mark.parametrize("kind", [CX, CXi, XCN, XON, XTN, DTM])
def test_nothing_is_no_value_of_any_type(kind: type[XCN]) -> None:
    assert kind("").problem() is not None


def test_values_of_two_types_are_never_equal() -> None:
    assert len({kind("1") for kind in TYPES}) == len(TYPES)


def test_a_patient_id_has_an_id_and_an_authority() -> None:
    patient = CX.of("9434765919", "2.16.840.1.113883.2.1.4.1")

    assert patient.text == "9434765919^^^&2.16.840.1.113883.2.1.4.1&ISO"
    assert patient.id_number == "9434765919"
    assert patient.assigning_authority.universal_id == "2.16.840.1.113883.2.1.4.1"
    assert patient.assigning_authority.universal_id_type == "ISO"
    assert patient.assigning_authority.namespace_id == ""


@given(PATIENT_IDS)
def test_a_patient_id_made_of_its_parts_is_in_order(patient: CX) -> None:
    assert patient.problem() is None
    assert CX.of(patient.id_number, patient.assigning_authority.universal_id) == patient


PROBLEMS = [
    (CX("^^^&1.2&ISO"), "no id number"),
    (CX("7"), "no assigning authority"),
    (CX("7^^^"), "no assigning authority"),
    (CX("7^^^NHS&1.2&ISO"), "namespace id 'NHS'"),
    (CX("7^^^&1.2"), "type ''"),
    (CX("7^^^&1.2&UUID"), "type 'UUID'"),
    (CX("7^^^& 1.2&ISO"), "' 1.2' is not an OID"),
    (CX("7^^^&1.2&ISO&"), "more than three parts"),
    (CX("7^8^^&1.2&ISO"), "only the id number and the assigning authority"),
    (CX("7^^^&1.2&ISO^MR"), "only the id number and the assigning authority"),
    (CXi("^^^&1.2&ISO^t"), "no id number"),
    (CXi("7^^^&1.2&ISO"), "no identifier type code"),
    (CXi("7^^^&x&ISO^t"), "'x' is not an OID"),
    (XCN("^^^Jr"), "neither an id nor a name"),
    (XCN("7^^^^^^^^&x&ISO"), "'x' is not an OID"),
    (XON("^^^^^&1.2&ISO^^^^7"), "no organization name"),
    (XON("Kliinikum^^^^^&1.2&DNS^^^^7"), "type 'DNS'"),
    (XTN("^^"), "it is empty"),
    (XTN("^^Internet"), "no address"),
    (DTM("2026-03-14"), "is not a time"),
    (DTM("202603141"), "is not a time"),
    (DTM("20260314101500+0200"), "is not a time"),
    (DTM("２０２６"), "is not a time"),  # noqa: RUF001 - digits, but not those of ASCII
    (DTM("00000101"), "names a day that does not exist"),
    (DTM("20261301"), "names a day that does not exist"),
    (DTM("202600"), "names a day that does not exist"),
    (DTM("20260229"), "names a day that does not exist"),
    (DTM("2026022824"), "names a time of day that does not exist"),
    (DTM("202602282360"), "names a time of day that does not exist"),
    (DTM("20260228235960"), "names a time of day that does not exist"),
]


@pytest.mark.parametrize(("value", "problem"), PROBLEMS, ids=[f"{type(each).__name__} {each}" for each, _ in PROBLEMS])
def test_what_is_wrong_is_told(value: CX | CXi | XCN | XON | XTN | DTM, problem: str) -> None:
    assert problem in (value.problem() or "nothing")


@pytest.mark.parametrize(
    "value",
    [
        CXi("7^^^&1.2&ISO^urn:ihe:iti:xds:2013:accession"),
        CXi("7^^^^urn:ihe:iti:xds:2016:studyInstanceUID"),
        CXi("7^^^NHS&1.2&ISO^t"),
        CXi("7^^^&1.2&ISO^t^&1.3&ISO"),
        XCN("7"),
        XCN("^Tamm"),
        XCN("^^Mari"),
        XCN("7^Tamm^Mari^^^^dr^^&1.2&ISO"),
        XON("Kliinikum"),
        XON("Kliinikum^^^^^&1.2&ISO^^^^7"),
        XON("Kliinikum^^^^^^^^^1.2.3"),
        XTN("^^Internet^mari@example.org"),
        XTN("^PRN^PH^^372^7^1234567"),
        DTM("20240229"),
        DTM("20260314235959"),
    ],
    ids=lambda value: f"{type(value).__name__} {value}",
)
def test_legal_values_have_no_problem(value: CXi | XCN | XON | XTN | DTM) -> None:
    assert value.problem() is None


def test_persons_and_organizations_are_known_by_their_components() -> None:
    person = XCN("40112^Kask^Jaan^^^^dr^^&2.25.7331&ISO")
    organization = XON("Kliinikum^^^^^&2.25.7331&ISO^^^^90001478")
    reference = CXi("7^^^&1.2&ISO^urn:t")
    mail = XTN("^^Internet^mari@example.org")

    assert (person.id_number, person.family_name, person.given_name) == ("40112", "Kask", "Jaan")
    assert person.assigning_authority == HD("&2.25.7331&ISO")
    assert (organization.organization_name, organization.organization_identifier) == ("Kliinikum", "90001478")
    assert organization.assigning_authority == HD("&2.25.7331&ISO")
    assert (reference.id_number, reference.identifier_type_code) == ("7", "urn:t")
    assert reference.assigning_authority == HD("&1.2&ISO")
    assert (mail.equipment_type, mail.email_address) == ("Internet", "mari@example.org")


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026", "20260101000000", "20261231235959"),
        ("202602", "20260201000000", "20260228235959"),
        ("202402", "20240201000000", "20240229235959"),
        ("20260314", "20260314000000", "20260314235959"),
        ("2026031410", "20260314100000", "20260314105959"),
        ("202603141015", "20260314101500", "20260314101559"),
        ("20260314101507", "20260314101507", "20260314101507"),
    ],
)
def test_a_time_stands_for_all_seconds_that_it_may_mean(text: str, first: str, last: str) -> None:
    assert (DTM(text).first, DTM(text).last) == (first, last)


@given(TIMES)
def test_the_ends_of_a_time_are_seconds_of_the_calendar(time: DTM) -> None:
    assert time.problem() is None
    first, last = (datetime.strptime(each, "%Y%m%d%H%M%S") for each in (time.first, time.last))  # noqa: DTZ007 - XDS times carry no zone
    assert first <= last
    assert time.first.startswith(time.text)
    assert time.last.startswith(time.text)
