"""OIDs and URIs that name the same code system, in both directions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhd.mapping.code_systems import CodeSystems, CodeSystemsDiffer, pairs_of_naming_system

SYSTEMS = CodeSystems.default()
FORMATS = "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode"


@pytest.mark.parametrize(
    ("system", "scheme"),
    [
        ("http://loinc.org", "2.16.840.1.113883.6.1"),
        (FORMATS, "1.3.6.1.4.1.19376.1.2.3"),
        ("urn:oid:2.25.7", "2.25.7"),
        ("urn:x-xds-scheme:Connect-a-thon%20types", "Connect-a-thon types"),
        ("http://example.org/codes", "http://example.org/codes"),
        ("http://example.org:8080/a%20b?c#d", "http://example.org:8080/a%20b?c#d"),
        ("urn:x-xds-scheme:urn%3A%5Ba%5D%2B%3A", "urn:[a]+:"),
        ("urn:x-xds-scheme:http%3A%2F%2Fa%3Ab%3Ac", "http://a:b:c"),
    ],
)
def test_a_code_system_has_a_name_in_each_world(system: str, scheme: str) -> None:
    assert SYSTEMS.scheme_of(system) == scheme
    assert SYSTEMS.system_of(scheme) == system


@pytest.mark.parametrize(
    "older", ["urn:oid:1.3.6.1.4.1.19376.1.2.3", "http://ihe.net/fhir/ValueSet/IHE.FormatCode.codesystem"]
)
def test_older_names_of_the_format_codes_are_read(older: str) -> None:
    assert SYSTEMS.scheme_of(older) == "1.3.6.1.4.1.19376.1.2.3"


@given(st.text(min_size=1) | st.sampled_from(["http://loinc.org", "urn:oid:1.2.3", "urn:x-xds-scheme:a"]))
def test_every_coding_scheme_comes_back(scheme: str) -> None:
    try:
        scheme.encode()
    except UnicodeEncodeError:
        return  # no text that a message can carry
    assert SYSTEMS.scheme_of(SYSTEMS.system_of(scheme)) == scheme


def test_what_a_deployment_says_counts_before_the_defaults() -> None:
    systems = CodeSystems.default([("2.16.840.1.113883.6.1", "http://example.org/loinc")])

    assert systems.system_of("2.16.840.1.113883.6.1") == "http://example.org/loinc"
    assert systems.scheme_of("http://loinc.org") == "2.16.840.1.113883.6.1"


def test_one_uri_with_two_oids_is_refused() -> None:
    with pytest.raises(CodeSystemsDiffer, match="has the OID"):
        CodeSystems.of([("1.2.3", "http://example.org"), ("1.2.4", "http://example.org")])


def test_a_naming_system_tells_oid_and_uris_the_preferred_first() -> None:
    resource = {
        "resourceType": "NamingSystem",
        "uniqueId": [
            {"type": "oid", "value": "2.25.7"},
            {"type": "uri", "value": "http://example.org/old"},
            {"type": "uri", "value": "http://example.org/new", "preferred": True},
        ],
    }
    bundle = {"resourceType": "Bundle", "entry": [{"resource": resource}, {"resource": {"resourceType": "Patient"}}]}

    assert pairs_of_naming_system(bundle) == [
        ("2.25.7", "http://example.org/new"),
        ("2.25.7", "http://example.org/old"),
    ]


NPI = "http://hl7.org/fhir/sid/us-npi"


@pytest.mark.parametrize(
    ("system", "oid"),
    [
        (NPI, "2.16.840.1.113883.4.6"),
        ("http://hl7.org/fhir/sid/us-ssn", "2.16.840.1.113883.4.1"),
        ("http://hl7.org/fhir/sid/us-medicare", "2.16.840.1.113883.4.572"),
        ("http://hl7.org/fhir/sid/us-mbi", "2.16.840.1.113883.4.927"),
        ("urn:oid:2.25.7", "2.25.7"),
    ],
)
def test_a_system_of_identifiers_has_a_name_in_each_world(system: str, oid: str) -> None:
    assert SYSTEMS.oid_of(system) == oid
    assert SYSTEMS.oid_of(f"urn:oid:{oid}") == oid
    assert SYSTEMS.uri_of(oid) == system


@pytest.mark.parametrize("system", ["", "2.25.7", "urn:oid:", "urn:oid:2.25.07", "https://hospital.example/id"])
def test_a_system_of_identifiers_that_is_no_oid_and_has_none_stands_for_no_authority(system: str) -> None:
    assert SYSTEMS.oid_of(system) is None


@pytest.mark.parametrize("form", ["urn:ietf:rfc:3986", "urn:dicom:uid"])
def test_what_says_how_a_value_looks_is_no_authority_whatever_a_naming_system_says(form: str) -> None:
    systems = CodeSystems.default([("2.25.7", form), ("2.25.8", "a code system")])

    assert systems.oid_of(form) is None
    assert systems.uri_of("2.25.7") == "urn:oid:2.25.7"


def test_a_naming_system_whose_oid_is_none_gives_no_authority() -> None:
    assert CodeSystems.default([("local", "https://hospital.example/id")]).oid_of("https://hospital.example/id") is None


@given(
    st.lists(st.tuples(st.sampled_from(["1.2", "1.3", "1.4"]), st.sampled_from(["urn:a:b", "urn:oid:1.3", NPI]))),
    st.sampled_from(["1.2", "1.3", "1.5", "2.16.840.1.113883.4.6"]),
)
def test_no_map_gives_an_authority_the_system_of_another(pairs: list[tuple[str, str]], oid: str) -> None:
    try:
        systems = CodeSystems.default(pairs)
    except CodeSystemsDiffer:
        return
    written = systems.uri_of(oid)

    assert systems.oid_of(written) == oid or written == f"urn:oid:{oid}"
