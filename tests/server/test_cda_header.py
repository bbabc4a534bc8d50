"""What is read off the header of a CDA document."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.samples import SAMPLES, Sample, path
from server.cda_header import read_cda_header
from xds.cda_header import CdaHeader
from xds.hl7v2 import CX, DTM, XCN, XON, XTN
from xds.metadata import Code, LocalizedString
from xds.xml import XmlProblem

CDA_SAMPLES = [sample for sample in SAMPLES if sample.mime_type == "text/xml"]
PEOPLE = "1.2.40.0.13"


def header(content: str) -> CdaHeader:
    found = read_cda_header(f'<ClinicalDocument xmlns="urn:hl7-org:v3">{content}</ClinicalDocument>'.encode())
    assert found is not None
    return found


def creation_time(value: str) -> DTM | None:
    return header(f'<effectiveTime value="{value}"/>').creation_time


def author(content: str) -> str:
    return f"<author><assignedAuthor>{content}</assignedAuthor></author>"


def patient(content: str) -> str:
    return f"<recordTarget><patientRole>{content}</patientRole></recordTarget>"


@pytest.mark.parametrize("sample", CDA_SAMPLES, ids=lambda sample: sample.file_name)
def test_the_header_of_a_sample_gives_the_metadata_of_the_sample(sample: Sample) -> None:
    found = read_cda_header(path(sample.file_name).read_bytes())
    assert found is not None
    assert found.unique_id == sample.unique_id
    assert found.title == sample.title
    assert found.language_code == sample.language_code
    assert found.creation_time == DTM(sample.creation_time)
    assert found.service_start_time == DTM(sample.service_start_time)
    assert found.service_stop_time == DTM(sample.service_stop_time)
    for codes, samples in (
        ((found.type_code,), (sample.type_code,)),
        (found.confidentiality_code, sample.confidentiality_code),
        (found.event_code_list, sample.event_code_list),
    ):
        expected = [Code(each.code, each.scheme, (LocalizedString(each.display),)) for each in samples]
        assert list(codes) == expected
    assert [each.author_person for each in found.author] == [XCN(sample.author_person)]
    assert found.author[0].author_institution == tuple(map(XON, sample.author_institution))
    assert found.legal_authenticator == XCN(sample.legal_authenticator or "")
    assert {CX(sample.patient_id), CX(sample.source_patient_id)} == set(found.patient_ids)
    assert found.source_patient_info == sample.source_patient_info[1:]


def test_the_format_and_facility_of_the_samples_are_found() -> None:
    formats = [read_cda_header(path(sample.file_name).read_bytes()) for sample in CDA_SAMPLES]
    assert [each.format_code.code for each in formats if each and each.format_code] == ["urn:ihe:lab:xd-lab:2008"]
    assert [each.healthcare_facility_type_code.code for each in formats if each and each.healthcare_facility_type_code]


def test_an_empty_header_says_nothing() -> None:
    found = header("")
    assert {field.name: getattr(found, field.name) for field in fields(found)} == {
        field.name: () if "tuple" in str(field.type) else None for field in fields(found)
    }


def test_xml_of_another_kind_is_no_cda() -> None:
    assert read_cda_header(b"<ClinicalDocument/>") is None
    assert read_cda_header(b'<Bundle xmlns="http://hl7.org/fhir"/>') is None


@pytest.mark.parametrize("document", [b"", b"%PDF-1.4", b'<!DOCTYPE x [<!ENTITY e "e">]><x>&e;</x>'])
def test_what_can_not_be_read_safely_is_refused(document: bytes) -> None:
    with pytest.raises(XmlProblem):
        read_cda_header(document)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("20260512132500+0300", "20260512102500"),
        ("20260101003000+0300", "20251231213000"),
        ("202605121325-0500", "202605121825"),
        ("20260512132500.1234+0300", "20260512102500"),
        ("2026051213+0530", "202605120730"),
        ("2026051213+0300", "2026051210"),
        ("20260512132500", "20260512132500"),
        ("20260512", "20260512"),
        ("20260512+0300", "20260512"),
        ("202605", "202605"),
        ("2026", "2026"),
    ],
)
def test_times_are_given_in_utc_as_exact_as_they_were(sent: str, kept: str) -> None:
    assert creation_time(sent) == DTM(kept)


@pytest.mark.parametrize("sent", ["", "yesterday", "20261301", "20260230", "2026051", "20260512132500+9900", "+0300"])
def test_a_time_that_does_not_exist_is_left_out(sent: str) -> None:
    assert creation_time(sent) is None


def test_a_time_without_a_zone_is_read_in_the_zone_that_the_caller_names() -> None:
    document = b'<ClinicalDocument xmlns="urn:hl7-org:v3"><effectiveTime value="20260512132500"/></ClinicalDocument>'
    found = read_cda_header(document, local_zone=timezone(timedelta(hours=3)))
    assert found is not None
    assert found.creation_time == DTM("20260512102500")


@given(st.from_regex(r"[0-9]{4,16}(\.[0-9]{1,4})?([+-][0-9]{4})?", fullmatch=True))
def test_whatever_stands_for_a_time_gives_a_valid_one_or_none(sent: str) -> None:
    found = creation_time(sent)
    assert found is None or found.problem() is None


def test_a_point_in_time_is_both_ends_of_a_service() -> None:
    event = '<documentationOf><serviceEvent><effectiveTime value="20260512"/></serviceEvent></documentationOf>'
    assert (header(event).service_start_time, header(event).service_stop_time) == (DTM("20260512"), DTM("20260512"))


def test_an_encounter_tells_the_time_of_service_where_no_event_does() -> None:
    encounter = (
        "<componentOf><encompassingEncounter><effectiveTime><low value='20260301'/><high nullFlavor='UNK'/>"
        "</effectiveTime></encompassingEncounter></componentOf>"
    )
    assert (header(encounter).service_start_time, header(encounter).service_stop_time) == (DTM("20260301"), None)


@pytest.mark.parametrize(
    ("element", "unique_id"),
    [
        ('<id root="1.2.3" extension="77"/>', "1.2.3^77"),
        ('<id root="1.2.3"/>', "1.2.3"),
        ('<id root="00000000-0000-0000-0000-000000000010"/>', "2.25.16"),
        ('<id root="not an oid" extension="77"/>', None),
        ('<id nullFlavor="NI"/>', None),
    ],
)
def test_the_unique_id_is_root_and_extension(element: str, unique_id: str | None) -> None:
    assert header(element).unique_id == unique_id
    assert header(element.replace("<id", "<setId")).set_id == unique_id


def test_a_null_flavor_says_nothing() -> None:
    found = header(
        '<code nullFlavor="UNK"/><confidentialityCode code="N" codeSystem="1.2" nullFlavor="UNK"/>'
        '<languageCode nullFlavor="UNK"/><effectiveTime nullFlavor="UNK"/>' + author('<id nullFlavor="UNK"/>')
    )
    assert found == header("")


def test_a_code_without_a_scheme_is_left_out() -> None:
    assert header('<code code="18842-5"/>').type_code is None


def test_a_name_without_parts_is_a_family_name() -> None:
    found = header(author("<assignedPerson><name> Dr Mari\n  Tamm </name></assignedPerson>"))
    assert found.author[0].author_person == XCN("^Dr Mari Tamm")


def test_delimiters_in_a_name_are_escaped() -> None:
    found = header(
        author(
            "<assignedPerson><name><given>A^B</given><family>C&amp;D</family></name></assignedPerson>"
            "<representedOrganization><name>E|F~G\\H</name></representedOrganization>"
        )
    )
    assert found.author[0].author_person == XCN("^C\\T\\D^A\\S\\B")
    assert found.author[0].author_institution == (XON("E\\F\\F\\R\\G\\E\\H"),)


def test_a_comment_in_a_name_does_not_belong_to_it() -> None:
    found = header(author("<assignedPerson><name><family>Ta<!-- x -->mm</family></name></assignedPerson>"))
    assert found.author[0].author_person == XCN("^Tamm")


def test_an_author_that_is_a_device_is_told_by_its_organization() -> None:
    found = header(
        author(
            f'<id root="{PEOPLE}" extension="dev-1"/>'
            "<assignedAuthoringDevice><softwareName>X</softwareName></assignedAuthoringDevice>"
            f'<representedOrganization><id root="{PEOPLE}" extension="7"/><name>Lab</name></representedOrganization>'
        )
    )
    assert found.author[0].author_person is None
    assert found.author[0].author_institution == (XON(f"Lab^^^^^&{PEOPLE}&ISO^^^^7"),)


def test_role_specialty_and_telecommunication_of_an_author_are_told() -> None:
    found = header(
        '<author><functionCode displayName="Attending"/><assignedAuthor><code displayName="Cardiology"/>'
        '<telecom value="mailto:mari@example.org"/><telecom value="tel:+372-5555"/><telecom value="x-unknown:1"/>'
        "<assignedPerson><name><family>Tamm</family></name></assignedPerson></assignedAuthor></author>"
    )
    (found_author,) = found.author
    assert found_author.author_role == ("Attending",)
    assert found_author.author_specialty == ("Cardiology",)
    assert found_author.author_telecommunication == (XTN("^^Internet^mari@example.org"), XTN("^^PH^^^^^^^^^+372-5555"))
    assert found_author.author_telecommunication[1].component(12) == "+372-5555"


def test_what_people_are_called_is_valid_metadata() -> None:
    for sample in CDA_SAMPLES:
        found = read_cda_header(path(sample.file_name).read_bytes())
        assert found is not None
        people = [person for each in found.author if (person := each.author_person)]
        assert [person.problem() for person in people] == [None] * len(people)
        assert [each.problem() for each in found.patient_ids] == [None] * len(found.patient_ids)


def test_an_undifferentiated_sex_becomes_other_and_an_unknown_one_is_left_out() -> None:
    sexes = [
        header(patient(f'<patient><administrativeGenderCode code="{code}"/></patient>')).source_patient_info
        for code in ("UN", "F", "?")
    ]
    assert sexes == [("PID-8|O",), ("PID-8|F",), ()]


def test_a_time_of_birth_becomes_a_date() -> None:
    found = header(patient('<patient><birthTime value="198002290115+0200"/></patient>'))
    assert found.source_patient_info == ("PID-7|19800229",)


def test_patient_ids_without_a_number_are_left_out() -> None:
    found = header(patient(f'<id root="{PEOPLE}"/><id extension="1"/><id root="{PEOPLE}" extension="2"/>'))
    assert found.patient_ids == (CX.of("2", PEOPLE),)


@pytest.mark.parametrize(("media_type", "kind"), [("application/pdf", "pdf"), ("text/plain", "text")])
def test_a_scanned_document_says_what_was_scanned(media_type: str, kind: str) -> None:
    found = header(
        '<templateId root="1.3.6.1.4.1.19376.1.2.20"/>'
        f'<component><nonXMLBody><text mediaType="{media_type}">c2Nhbg==</text></nonXMLBody></component>'
    )
    assert found.format_code is not None
    assert found.format_code.code == f"urn:ihe:iti:xds-sd:{kind}:2008"
