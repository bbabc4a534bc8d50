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
