"""The sample documents are well made, and their metadata, headers and affinity domain agree."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from importlib.resources import as_file
from itertools import pairwise
from typing import Any

import pytest
from lxml import etree

from schemas.samples import AFFINITY_DOMAIN, SAMPLES, SOURCE_ID, Sample, SampleCode, path
from server.settings import load_settings
from server.settings.affinity_domain import Policy
from tests.server.radiology_report_pdf import radiology_report
from xds.hl7v2 import CX, DTM, XCN, XON, is_oid

CDA = {"c": "urn:hl7-org:v3"}
NHS_NUMBER = "2.16.840.1.113883.2.1.4.1"
ESTONIAN_PERSONAL_CODE = "1.3.6.1.4.1.28284.6.2.2.1"
FICTIONAL = re.compile("fictional sample|väljamõeldud näidis", re.IGNORECASE)

CDA_SAMPLES = [sample for sample in SAMPLES if sample.mime_type == "text/xml"]
CODED = (
    "class_code", "type_code", "format_code", "confidentiality_code", "healthcare_facility_type_code",
    "practice_setting_code", "event_code_list", "content_type_code",
)  # fmt: skip

# CDA R2, POCD_MT000040: the order of the children of each element that the samples use.
ORDER_OF_CHILDREN = {
    "ClinicalDocument": "realmCode typeId templateId id code title effectiveTime confidentialityCode languageCode "
    "setId versionNumber copyTime recordTarget author dataEnterer informant custodian informationRecipient "
    "legalAuthenticator authenticator participant inFulfillmentOf documentationOf relatedDocument authorization "
    "componentOf component",
    "patientRole": "id addr telecom patient providerOrganization",
    "patient": "id name administrativeGenderCode birthTime maritalStatusCode languageCommunication",
    "author": "templateId functionCode time assignedAuthor",
    "assignedAuthor": "id code addr telecom assignedPerson representedOrganization",
    "assignedEntity": "id code addr telecom assignedPerson representedOrganization",
    "representedOrganization": "id name telecom addr",
    "representedCustodianOrganization": "id name telecom addr",
    "intendedRecipient": "id addr telecom informationRecipient receivedOrganization",
    "legalAuthenticator": "time signatureCode assignedEntity",
    "serviceEvent": "id code effectiveTime performer",
    "performer": "templateId functionCode time assignedEntity",
    "encompassingEncounter": "id code effectiveTime dischargeDispositionCode responsibleParty location",
    "healthCareFacility": "id code location serviceProviderOrganization",
    "section": "templateId id code title text confidentialityCode languageCode subject author entry component",
    "entry": "templateId observation act organizer",
    "act": "templateId id code text statusCode effectiveTime entryRelationship",
    "organizer": "templateId id code statusCode effectiveTime specimen performer component",
    "observation": "templateId id code text statusCode effectiveTime value interpretationCode methodCode "
    "referenceRange",
    "observationRange": "code text value interpretationCode",
}


def _document(sample: Sample) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    return etree.fromstring(path(sample.file_name).read_bytes(), parser)


def _values(document: etree._Element, expression: str) -> list[str]:
    found = document.xpath(expression, namespaces=CDA)
    assert isinstance(found, list)
    return [str(value) for value in found]


def _only(document: etree._Element, expression: str) -> str:
    (value,) = _values(document, expression)
    return value


def _utc(hl7_time: str) -> str:
    """A time of CDA with its zone, as XDS has it: in UTC and without."""
    return datetime.strptime(hl7_time, "%Y%m%d%H%M%S%z").astimezone(UTC).strftime("%Y%m%d%H%M%S")


def _codes(sample: Sample, attribute: str) -> tuple[SampleCode, ...]:
    value = getattr(sample, attribute)
    return (value,) if isinstance(value, SampleCode) else value


def _affinity_domain() -> dict[str, Any]:
    return tomllib.loads(path(AFFINITY_DOMAIN).read_text(encoding="utf-8"))


def _patients(authority: str) -> set[str]:
    return {
        CX(sample.patient_id).id_number
        for sample in SAMPLES
        if CX(sample.patient_id).assigning_authority.universal_id == authority
    }


def _nhs_number_is_valid(number: str) -> bool:
    weighted = sum(int(digit) * weight for digit, weight in zip(number[:9], range(10, 1, -1), strict=True))
    return int(number[9]) == (11 - weighted % 11) % 11


def _personal_code_is_valid(code: str) -> bool:
    for weights in ((1, 2, 3, 4, 5, 6, 7, 8, 9, 1), (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)):
        remainder = sum(int(digit) * weight for digit, weight in zip(code[:10], weights, strict=True)) % 11
        if remainder < 10:
            return int(code[10]) == remainder
    return code[10] == "0"


def test_the_check_digits_are_computed_as_the_registers_do() -> None:
    assert _nhs_number_is_valid("9434765919")  # printed in many explanations of the number
    assert not _nhs_number_is_valid("9434765918")
    assert _personal_code_is_valid("37605030299")  # printed in many explanations of the code
    assert not _personal_code_is_valid("37605030298")


def test_the_nhs_number_is_valid_and_reserved_for_tests() -> None:
    (number,) = _patients(NHS_NUMBER)
    assert re.fullmatch("999[0-9]{7}", number)
    assert _nhs_number_is_valid(number)


def test_the_estonian_personal_code_is_valid_and_says_when_the_patient_was_born() -> None:
    (code,) = _patients(ESTONIAN_PERSONAL_CODE)
    assert re.fullmatch("[0-9]{11}", code)
    assert _personal_code_is_valid(code)
    information = {line for sample in SAMPLES if code in sample.patient_id for line in sample.source_patient_info}
    assert {f"PID-7|19{code[1:7]}", "PID-8|F"} <= information
    assert code[0] == "4"  # a woman born between 1900 and 1999


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.file_name)
def test_every_sample_says_that_it_is_fictional(sample: Sample) -> None:
    text = path(sample.file_name).read_bytes().decode("cp1252" if sample.mime_type == "application/pdf" else "utf-8")
    assert FICTIONAL.search(text)
    assert FICTIONAL.search(sample.title)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.file_name)
def test_every_sample_is_as_small_as_a_sample_should_be(sample: Sample) -> None:
    assert 1_000 < len(path(sample.file_name).read_bytes()) < 50_000


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.file_name)
def test_metadata_values_have_the_form_that_xds_asks_for(sample: Sample) -> None:
    times = (sample.creation_time, sample.service_start_time, sample.service_stop_time)
    values: list[CX | XCN | XON | DTM] = [
        CX(sample.patient_id),
        CX(sample.source_patient_id),
        XCN(sample.author_person),
    ]
    values += map(XON, sample.author_institution)
    values += map(DTM, times)
    if sample.legal_authenticator is not None:
        values.append(XCN(sample.legal_authenticator))
    assert [value.problem() for value in values] == [None] * len(values)
    assert is_oid(sample.unique_id)
    assert len(sample.title) <= 128
    assert sample.service_start_time <= sample.service_stop_time
    assert {time[:4] for time in times} == {"2026"}
    assert [line.partition("|")[0] for line in sample.source_patient_info] == ["PID-3", "PID-5", "PID-7", "PID-8"]
    assert sample.source_patient_info[0] == f"PID-3|{sample.source_patient_id}"


def test_no_two_samples_share_a_unique_id() -> None:
    assert len({sample.unique_id for sample in SAMPLES} | {SOURCE_ID}) == len(SAMPLES) + 1


def test_a_file_that_is_no_sample_is_named_in_the_error() -> None:
    with pytest.raises(FileNotFoundError, match=r"no-such\.xml"):
        path("no-such.xml")


@pytest.mark.parametrize("sample", CDA_SAMPLES, ids=lambda sample: sample.file_name)
def test_a_cda_header_agrees_with_the_metadata(sample: Sample) -> None:
    document = _document(sample)
    patient = CX(sample.patient_id)
    source_patient = CX(sample.source_patient_id)
    family, given = _only(document, "//c:patient/c:name/c:family/text()"), "//c:patient/c:name/c:given/text()"
    assert document.tag == "{urn:hl7-org:v3}ClinicalDocument"
    assert _only(document, "c:typeId/@extension") == "POCD_HD000040"
    assert _only(document, "c:id/@root") == sample.unique_id
    assert _only(document, "c:title/text()") == sample.title
    assert _only(document, "c:languageCode/@code") == sample.language_code
    assert _utc(_only(document, "c:effectiveTime/@value")) == sample.creation_time
    for header, codes in (
        ("c:code", (sample.type_code,)),
        ("c:confidentialityCode", sample.confidentiality_code),
        ("c:documentationOf/c:serviceEvent/c:code", sample.event_code_list),
    ):
        assert _values(document, f"{header}/@code") == [code.code for code in codes]
        assert _values(document, f"{header}/@codeSystem") == [code.scheme for code in codes]
        assert _values(document, f"{header}/@displayName") == [code.display for code in codes]
    event = "c:documentationOf/c:serviceEvent/c:effectiveTime"
    assert _utc(_only(document, f"{event}/c:low/@value")) == sample.service_start_time
    assert _utc(_only(document, f"{event}/c:high/@value")) == sample.service_stop_time
    for identity in (patient, source_patient):
        root = identity.assigning_authority.universal_id
        assert _only(document, f"//c:patientRole/c:id[@root='{root}']/@extension") == identity.id_number
    assert sample.source_patient_info[1].startswith(f"PID-5|{'^'.join([family, *_values(document, given)])}")
    assert sample.source_patient_info[2] == f"PID-7|{_only(document, '//c:birthTime/@value')}"
    assert sample.source_patient_info[3] == f"PID-8|{_only(document, '//c:administrativeGenderCode/@code')}"


@pytest.mark.parametrize("sample", CDA_SAMPLES, ids=lambda sample: sample.file_name)
def test_the_people_of_a_cda_header_are_those_of_the_metadata(sample: Sample) -> None:
    document = _document(sample)
    assert sample.legal_authenticator is not None
    for person, role in (
        (XCN(sample.author_person), "c:author/c:assignedAuthor"),
        (XCN(sample.legal_authenticator), "c:legalAuthenticator/c:assignedEntity"),
    ):
        assert _only(document, f"{role}/c:id/@extension") == person.id_number
        assert _only(document, f"{role}/c:id/@root") == person.assigning_authority.universal_id
        assert _only(document, f"{role}/c:assignedPerson/c:name/c:family/text()") == person.family_name
        assert _only(document, f"{role}/c:assignedPerson/c:name/c:given/text()") == person.given_name
    (institution,) = map(XON, sample.author_institution)
    organization = "c:author/c:assignedAuthor/c:representedOrganization"
    assert _only(document, f"{organization}/c:name/text()") == institution.organization_name
    assert _only(document, f"{organization}/c:id/@extension") == institution.organization_identifier


@pytest.mark.parametrize("sample", CDA_SAMPLES, ids=lambda sample: sample.file_name)
def test_the_elements_of_a_cda_are_in_the_order_of_its_schema(sample: Sample) -> None:
    for element in _document(sample).iter(etree.Element):
        order = ORDER_OF_CHILDREN.get(etree.QName(element).localname)
        if order is not None:
            # A name that is not in the row can not be there at all: index() raises ValueError.
            places = [order.split().index(etree.QName(child).localname) for child in element]
            assert all(before <= after for before, after in pairwise(places)), etree.QName(element).localname


@pytest.mark.parametrize("sample", CDA_SAMPLES, ids=lambda sample: sample.file_name)
def test_every_section_of_a_cda_can_be_read_and_references_resolve(sample: Sample) -> None:
    document = _document(sample)
    sections = document.findall(".//c:section", CDA)
    assert sections
    for section in sections:
        assert section.findtext("c:title", namespaces=CDA)
        assert section.find("c:text", CDA) is not None
    assert document.findall(".//c:section/c:text/c:table", CDA)
    references = _values(document, "//c:text/c:reference/@value")
    assert references
    assert set(references) <= {f"#{anchor}" for anchor in _values(document, "//@ID")}


def test_the_laboratory_report_says_the_same_in_its_table_as_in_its_entries() -> None:
    (sample,) = (sample for sample in CDA_SAMPLES if sample.type_code.code == "11502-2")
    document = _document(sample)
    observations = document.findall(".//c:organizer/c:component/c:observation", CDA)
    rows = document.findall(".//c:tbody/c:tr", CDA)
    assert len(observations) == len(rows) == 10
    for observation, row in zip(observations, rows, strict=True):
        value = _only(observation, "c:value/@value")
        flag = _only(observation, "c:interpretationCode/@code")
        shown = (row[1].text or "").replace(",", ".")
        assert _only(observation, "c:text/c:reference/@value") == f"#{row.get('ID')}"
        assert shown == value + (" (kõrge / high)" if flag == "H" else "")
        limits = _values(observation, ".//c:observationRange/c:value/c:high/@value")
        assert (flag == "H") == any(float(value) > float(limit) for limit in limits)


def test_the_text_note_is_utf_8_with_the_letters_of_estonian() -> None:
    (sample,) = (sample for sample in SAMPLES if sample.mime_type == "text/plain")
    text = path(sample.file_name).read_bytes().decode("utf-8")
    assert set("õäöü") <= set(text.lower())
    assert CX(sample.patient_id).id_number in text


def test_the_pdf_is_the_one_its_script_writes() -> None:
    assert path("radiology-report.pdf").read_bytes() == radiology_report()


def test_the_cross_reference_table_of_the_pdf_points_at_its_objects() -> None:
    pdf = path("radiology-report.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-1.4\n")
    assert pdf.endswith(b"%%EOF\n")
    table = int(pdf.rpartition(b"startxref\n")[2].split()[0])
    assert pdf[table:].startswith(b"xref\n")
    offsets = [int(offset) for offset in re.findall(rb"^(\d{10}) 00000 n $", pdf[table:], re.MULTILINE)]
    assert len(offsets) == pdf.count(b"\nendobj\n")
    for number, offset in enumerate(offsets, 1):
        assert pdf[offset:].startswith(b"%d 0 obj\n" % number)
    length, stream = re.findall(rb"/Length (\d+) >>\nstream\n(.*)\nendstream", pdf, re.DOTALL)[0]
    assert len(stream) == int(length)


def test_the_pdf_names_its_patient() -> None:
    (sample,) = (sample for sample in SAMPLES if sample.mime_type == "application/pdf")
    pdf = path(sample.file_name).read_bytes().decode("cp1252")
    assert CX(sample.patient_id).id_number in re.sub(r"(?<=\d) (?=\d)", "", pdf)
    assert CX(sample.source_patient_id).id_number in pdf
    assert "Margaret Elowen ASHDOWN" in pdf


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.file_name)
def test_the_affinity_domain_has_every_code_of_every_sample(sample: Sample) -> None:
    codes = _affinity_domain()["codes"]
    for attribute in CODED:
        listed = {(row["code"], row["scheme"], row["display"]) for row in codes[attribute]["values"]}
        assert {(code.code, code.scheme, code.display) for code in _codes(sample, attribute)} <= listed
    assert sample.mime_type in codes["mime_type"]["values"]
    assert sample.language_code in codes["language_code"]["values"]


def test_the_affinity_domain_knows_who_numbers_the_patients() -> None:
    authorities = {row["oid"] for row in _affinity_domain()["patients"]["assigning_authorities"]}
    assert {CX(sample.patient_id).assigning_authority.universal_id for sample in SAMPLES} == authorities


def test_no_code_is_listed_twice() -> None:
    for attribute, code_set in _affinity_domain()["codes"].items():
        keys = [row if isinstance(row, str) else (row["code"], row["scheme"]) for row in code_set["values"]]
        assert len(keys) == len(set(keys)), attribute


def test_a_server_can_be_set_up_with_the_affinity_domain() -> None:
    with as_file(path(AFFINITY_DOMAIN)) as file:
        settings = load_settings(file)
    assert settings.repository_unique_id == _affinity_domain()["repository_unique_id"]
    assert settings.codes["class_code"].policy is Policy.REJECT
