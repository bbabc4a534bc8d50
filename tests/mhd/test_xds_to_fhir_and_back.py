"""XDS -> FHIR -> XDS is the identity on whatever MHD can express, by JSON and by XML."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mhd.fhir.exact_text import Json
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.document_list import folder_of, list_of, submission_set_of
from mhd.mapping.document_reference import entry_of, resource_of
from mhd.mapping.domain import MhdDomain
from server.fhir_xml import from_xml, to_xml
from tests import strategies
from tests.builders import author, document_entry, full_document_entry, registered, submission_set
from tests.fhir_validity import assert_is_fhir
from tests.mhd.expressible import expressible
from xds.hl7v2 import CX, DTM, XCN, XON, XTN, CXi
from xds.metadata import Author, Code, DocumentEntry, Folder, LocalizedString, SubmissionSet

DOMAIN = MhdDomain(base="https://mhd.example.org/fhir")
NAMED = MhdDomain(
    base=DOMAIN.base,
    code_systems=CodeSystems.default(
        [
            ("2.25.1", "https://hospital.example/id/patient"),
            ("2.25.7", "urn:uuid:1479257a-ce8f-482a-89fa-429ac066c158"),
            ("2.25.7", "https://hospital.example/id/staff"),
            ("1.2.3", "https://hospital.example/id/document"),
            ("2.25.5150", "urn:oid:2.25.7331"),  # the name of another one
            ("2.16.840.1.113883.4.873", "urn:ietf:rfc:3986"),
        ]
    ),
)
"""A domain that has URIs of authorities, also such as nobody should choose."""
DOMAINS = pytest.mark.parametrize("domain", [DOMAIN, NAMED], ids=["by OID", "by URI"])

_AWKWARD = st.sampled_from(["^", "&", "\\", "~", "|", "\\E\\", "\\S\\", "  ", " ", "ä", "漢", "a b", "x", "\t"])
_COMPONENTS = st.lists(_AWKWARD, max_size=4).map("".join)
_HL7 = st.lists(_COMPONENTS, max_size=13).map("^".join)
_OIDS = st.sampled_from(
    ["2.25.1", "2.16.840.1.113883.6.1", "2.25.7", "2.25.5150", "2.25.7331", "2.16.840.1.113883.4.873"]
)
_PATIENT_IDS = st.builds(CX.of, _COMPONENTS.filter(str.strip).map(lambda text: text.replace("^", "_")), _OIDS)
_SCHEMES = st.sampled_from(
    [
        "2.16.840.1.113883.6.1",
        "2.25.7",
        "http://loinc.org",
        "urn:oid:2.25.7",
        "urn:uuid:x",
        "Connect-a-thon types",
        "%41",
    ]
)
_CODES = st.builds(
    Code, st.sampled_from(["a", "a b", "a  b", "ä\u00a0b"]), _SCHEMES, st.just((LocalizedString("shown"),))
)
_ROLES = _HL7.filter(str.strip) | st.sampled_from(["ATT^^^&2.25.7&ISO", "ATT^^^&2.16.840.1.113883.6.96&ISO", "doctor"])
_PERSONS = _HL7.filter(str.strip) | st.builds(
    lambda number, oid: f"{number}^Tamm^Mari^^^dr^^^&{oid}&ISO", _COMPONENTS, _OIDS
)
_ORGANIZATIONS = _HL7.filter(str.strip) | st.builds(
    lambda number, oid: f"Ward^^^^^&{oid}&ISO^^^^{number}", _COMPONENTS, _OIDS
)
_AUTHORS = st.builds(
    Author,
    st.none() | _PERSONS.map(XCN),
    st.lists(_ORGANIZATIONS.map(XON), max_size=3).map(tuple),
    st.lists(_ROLES, max_size=2).map(tuple),
    st.lists(_ROLES, max_size=2).map(tuple),
    st.lists(_HL7.filter(str.strip).map(XTN), max_size=2).map(tuple),
).filter(lambda each: bool(each.author_person or each.author_institution or each.author_telecommunication))
_UNIQUE_IDS = st.sampled_from(
    [
        "1.2.3",
        "1.2.3^x",
        "1.2.3^",
        "^x",
        "urn:uuid:4f3b9b0e-0000-4000-8000-000000000003",
        "urn:oid:1.2",
        "http://a/b",
        "x",
    ]
)
_PID_LINES = st.builds(
    lambda field, value: f"PID-{field}|{value}",
    st.sampled_from([1, 3, 5, 7, 8, 11, 13]),
    _HL7 | st.just("19800229") | _PATIENT_IDS.map(lambda patient_id: patient_id.text),
)


def _there_and_back(resource: Json) -> Json:
    assert_is_fhir(resource)
    return from_xml(to_xml(resource))


@DOMAINS
@given(strategies.document_entries())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_document_entry_comes_back_from_fhir(domain: MhdDomain, entry: DocumentEntry) -> None:
    resource = _there_and_back(resource_of(entry, domain=domain, patient_key="p1", date="2026-03-04T09:15:01Z"))

    assert entry_of(resource, domain=domain) == expressible(entry)


@DOMAINS
@given(
    strategies.document_entries(
        author=st.lists(_AUTHORS, max_size=3).map(tuple),
        type_code=_CODES,
        event_code_list=st.lists(_CODES, max_size=3).map(tuple),
        patient_id=_PATIENT_IDS,
        source_patient_id=_PATIENT_IDS,
        source_patient_info=st.lists(_PID_LINES, max_size=4).map(tuple),
        legal_authenticator=st.none() | _PERSONS.map(XCN),
        reference_id_list=st.lists(
            st.builds(lambda number, oid, kind: CXi(f"{number}^^^&{oid}&ISO^{kind}"), _COMPONENTS, _OIDS, _COMPONENTS),
            max_size=3,
        ).map(tuple),
        unique_id=_UNIQUE_IDS,
        service_stop_time=strategies.TIMES,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_stands_in_components_comes_back_from_fhir(domain: MhdDomain, entry: DocumentEntry) -> None:
    assert entry_of(_there_and_back(resource_of(entry, domain=domain)), domain=domain) == expressible(entry)


def _recipients() -> SearchStrategy[str]:
    parts = st.tuples(*(_HL7.map(lambda text: text.replace("|", "/")) for _ in range(3)))
    return parts.map("|".join).filter(lambda text: bool(text.replace("|", "").replace("^", "").strip()))


@DOMAINS
@given(
    strategies.submission_sets(
        intended_recipient=st.lists(_recipients(), max_size=2).map(tuple),
        author=st.lists(_AUTHORS, max_size=3).map(tuple),
    )
)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_submission_set_comes_back_from_fhir(domain: MhdDomain, item: SubmissionSet) -> None:
    assert submission_set_of(_there_and_back(list_of(item, domain=domain)), domain=domain) == expressible(item)


@given(strategies.folders(last_update_time=strategies.TIMES))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_folder_comes_back_from_fhir(item: Folder) -> None:
    assert folder_of(_there_and_back(list_of(item, domain=DOMAIN)), domain=DOMAIN) == expressible(item)


@DOMAINS
def test_an_entry_with_every_attribute_comes_back_from_fhir(domain: MhdDomain) -> None:
    entry = registered(full_document_entry())

    resource = _there_and_back(resource_of(entry, domain=domain))

    assert entry_of(resource, domain=domain) == expressible(entry)


def test_what_fhir_says_exactly_has_no_text_of_ours_beside_it() -> None:
    entry = document_entry(
        author=(author(author_person=XCN("D-1^Tamm^Mari^^^dr^^^&2.25.7&ISO")),),
        source_patient_info=("PID-3|T-4711^^^&2.25.7331&ISO", "PID-5|Saar^Liis", "PID-7|19800229", "PID-8|F"),
    )

    assert "xds-text" not in str(resource_of(entry, domain=DOMAIN))


def test_a_changed_element_counts_more_than_the_text_beside_it() -> None:
    resource = resource_of(document_entry(creation_time=DTM("2026031410")), domain=DOMAIN)
    attachment = resource["content"][0]["attachment"]
    assert "_creation" in attachment
    attachment["creation"] = "2026-03-15T10:00:00Z"

    assert entry_of(resource, domain=DOMAIN).creation_time == DTM("20260315100000")


@pytest.mark.parametrize(
    ("fhir", "xds"),
    [
        ("2026", "2026"),
        ("2026-03", "202603"),
        ("2026-03-04", "20260304"),
        ("2026-03-04T00:30:00+01:00", "20260303233000"),
        ("2026-03-04T10:15:30.999Z", "20260304101530"),
    ],
)
def test_times_are_in_utc_and_as_exact_as_they_were(fhir: str, xds: str) -> None:
    resource = resource_of(document_entry(), domain=DOMAIN)
    resource["content"][0]["attachment"]["creation"] = fhir

    assert entry_of(resource, domain=DOMAIN).creation_time == DTM(xds)


_CLOSE_TIMES = st.sampled_from(
    ["2026", "202603", "20260314", "2026031410", "202603141015", "20260314101500", "20260314100000", "20251231", "0999"]
).map(DTM)


@given(_CLOSE_TIMES, _CLOSE_TIMES)
def test_a_service_time_comes_back_and_never_ends_before_it_starts(start: DTM, stop: DTM) -> None:
    entry = document_entry(service_start_time=start, service_stop_time=stop)

    back = entry_of(_there_and_back(resource_of(entry, domain=DOMAIN)), domain=DOMAIN)

    assert (back.service_start_time, back.service_stop_time) == (start, stop)


@pytest.mark.parametrize(
    ("start", "stop", "period"),
    [
        ("202603", "20260314101500", {"start": "2026-03", "end": "2026-03"}),
        ("20260314101500", "20260314", {"start": "2026-03-14", "end": "2026-03-14"}),
        ("202603141015", "2026031410", {"start": "2026-03-14", "end": "2026-03-14"}),
        ("202602", "20260314", {"start": "2026-02", "end": "2026-03-14"}),
        ("2026", "20251231", {"start": "2026"}),
    ],
)
def test_a_service_time_is_as_exact_as_fhir_can_compare_it(start: str, stop: str, period: dict[str, str]) -> None:
    entry = document_entry(service_start_time=DTM(start), service_stop_time=DTM(stop))

    told = resource_of(entry, domain=DOMAIN)["context"]["period"]

    assert {name: each for name, each in told.items() if not name.startswith("_")} == period


def test_a_changed_end_counts_more_than_the_text_beside_it() -> None:
    entry = document_entry(service_start_time=DTM("202603"), service_stop_time=DTM("20260314"))
    resource = resource_of(entry, domain=DOMAIN)
    resource["context"]["period"]["end"] = "2026-04"

    back = entry_of(resource, domain=DOMAIN)

    assert (back.service_start_time, back.service_stop_time) == (DTM("202603"), DTM("202604"))


def test_a_list_tells_all_authors_and_its_members() -> None:
    item = submission_set(author=(author(), author(author_institution=())))

    resource = list_of(item, domain=DOMAIN)

    assert len(submission_set_of(resource, domain=DOMAIN).author) == 2
