"""Sample documents, and the metadata that their source would send with them (ITI TF-3: 4.2.3.2).

`toimik demo` submits them to a registry set up by `affinity-domain.toml`. Patients, people and places are made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

AFFINITY_DOMAIN = "affinity-domain.toml"
SOURCE_ID = "2.25.40088112459728969682723928270531072981"
"""sourceId of the SubmissionSets in which the samples are sent (ITI TF-3: 4.2.3.3.9)."""

_NHS_NUMBER = "2.16.840.1.113883.2.1.4.1"
_ESTONIAN_PERSONAL_CODE = "1.3.6.1.4.1.28284.6.2.2.1"
_ASHCOMBE_VALE_HOSPITAL_NUMBER = "2.25.157461298049474640403897447099007385741"
_PEOPLE_AND_PLACES = "2.25.278580204850924071595764937064956025537"
_LOINC = "2.16.840.1.113883.6.1"
_SNOMED_CT = "2.16.840.1.113883.6.96"
_IHE_FORMAT = "1.3.6.1.4.1.19376.1.2.3"
_CONFIDENTIALITY = "2.16.840.1.113883.5.25"
_DICOM = "1.2.840.10008.2.16.4"


@dataclass(frozen=True, slots=True)
class SampleCode:
    """A code of a coding scheme, which is named by its OID."""

    code: str
    scheme: str
    display: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One document, with the attributes of its DocumentEntry under their names in XDS.

    Values are in the form in which XDS sends them: times as DTM in UTC, people as XCN, institutions as XON, patient ids
    as CX, `source_patient_info` as `PID-n|...`. hash and size are left to whoever reads the bytes.

    content_type_code   of the SubmissionSet in which the document is sent
    """

    file_name: str
    mime_type: str
    unique_id: str
    title: str
    language_code: str
    class_code: SampleCode
    type_code: SampleCode
    format_code: SampleCode
    confidentiality_code: tuple[SampleCode, ...]
    healthcare_facility_type_code: SampleCode
    practice_setting_code: SampleCode
    event_code_list: tuple[SampleCode, ...]
    content_type_code: SampleCode
    creation_time: str
    service_start_time: str
    service_stop_time: str
    author_person: str
    author_institution: tuple[str, ...]
    author_role: tuple[str, ...]
    author_specialty: tuple[str, ...]
    legal_authenticator: str | None
    patient_id: str
    source_patient_id: str
    source_patient_info: tuple[str, ...]


def path(name: str) -> Traversable:
    """A file of this folder by its name: a sample's, or `AFFINITY_DOMAIN`. Read it with `read_bytes()`.

    Raises FileNotFoundError where there is none.
    """
    file = files(__name__).joinpath(name)
    if not file.is_file():
        raise FileNotFoundError(f"there is no sample file {name!r}")
    return file


def _patient_id(number: str, authority: str) -> str:
    return f"{number}^^^&{authority}&ISO"


def _person(number: str, family: str, given: str) -> str:
    return f"{number}^{family}^{given}^^^Dr^^^&{_PEOPLE_AND_PLACES}&ISO"


def _institution(number: str, name: str) -> str:
    return f"{name}^^^^^&{_PEOPLE_AND_PLACES}&ISO^^^^{number}"


_NORMAL = SampleCode("N", _CONFIDENTIALITY, "normal")
_HOSPITAL = SampleCode("22232009", _SNOMED_CT, "Hospital")
_DISCHARGE_SUMMARY = SampleCode("18842-5", _LOINC, "Discharge summary")
_PROGRESS_NOTE = SampleCode("11506-3", _LOINC, "Progress note")
_LABORATORY_TEST = SampleCode("15220000", _SNOMED_CT, "Laboratory test")
_MIME_TYPE_SUFFICIENT = SampleCode("urn:ihe:iti:xds:2017:mimeTypeSufficient", _IHE_FORMAT, "mimeType sufficient")
_ASHCOMBE_VALE = _institution("ZZ-AVH01", "Ashcombe Vale NHS Foundation Trust")

_ASHDOWN = _patient_id("9990002649", _NHS_NUMBER)
_ASHDOWN_IN_HOSPITAL = _patient_id("AV204417", _ASHCOMBE_VALE_HOSPITAL_NUMBER)
_ASHDOWN_INFO = (
    f"PID-3|{_ASHDOWN_IN_HOSPITAL}",
    "PID-5|Ashdown^Margaret^Elowen^^Mrs",
    "PID-7|19480917",
    "PID-8|F",
)
_SYVAMAE = _patient_id("45703159985", _ESTONIAN_PERSONAL_CODE)
_SYVAMAE_INFO = (f"PID-3|{_SYVAMAE}", "PID-5|Süvamäe^Õie", "PID-7|19570315", "PID-8|F")

SAMPLES: tuple[Sample, ...] = (
    Sample(
        file_name="discharge-summary.xml",
        mime_type="text/xml",
        unique_id="2.25.147341538107332151765339854743546651571",
        title="Discharge summary: community-acquired pneumonia (fictional sample)",
        language_code="en-GB",
        class_code=_DISCHARGE_SUMMARY,
        type_code=_DISCHARGE_SUMMARY,
        format_code=SampleCode("urn:ihe:pcc:xds-ms:2007", _IHE_FORMAT, "Medical Summaries (XDS-MS)"),
        confidentiality_code=(_NORMAL,),
        healthcare_facility_type_code=_HOSPITAL,
        practice_setting_code=SampleCode("394802001", _SNOMED_CT, "General medicine"),
        event_code_list=(SampleCode("32485007", _SNOMED_CT, "Hospital admission"),),
        content_type_code=SampleCode("58000006", _SNOMED_CT, "Patient discharge"),
        creation_time="20260306143000",
        service_start_time="20260302092000",
        service_stop_time="20260306150000",
        author_person=_person("ZZ-P1042", "Okafor", "Ngozi"),
        author_institution=(_ASHCOMBE_VALE,),
        author_role=("Specialty registrar",),
        author_specialty=("Respiratory medicine",),
        legal_authenticator=_person("ZZ-P1007", "Marlowe-Finch", "Helen"),
        patient_id=_ASHDOWN,
        source_patient_id=_ASHDOWN_IN_HOSPITAL,
        source_patient_info=_ASHDOWN_INFO,
    ),
    Sample(
        file_name="radiology-report.pdf",
        mime_type="application/pdf",
        unique_id="2.25.142912066184838154063710942104364601576",
        title="Radiology report: chest radiograph (fictional sample)",
        language_code="en-GB",
        class_code=SampleCode("18726-0", _LOINC, "Radiology studies (set)"),
        type_code=SampleCode("24648-8", _LOINC, "XR Chest PA upright"),
        format_code=_MIME_TYPE_SUFFICIENT,
        confidentiality_code=(_NORMAL,),
        healthcare_facility_type_code=_HOSPITAL,
        practice_setting_code=SampleCode("394914008", _SNOMED_CT, "Radiology"),
        event_code_list=(
            SampleCode("DX", _DICOM, "Digital Radiography"),
            SampleCode("51185008", _SNOMED_CT, "Thoracic structure"),
        ),
        content_type_code=SampleCode("363679005", _SNOMED_CT, "Imaging"),
        creation_time="20260302111500",
        service_start_time="20260302100500",
        service_stop_time="20260302100500",
        author_person=_person("ZZ-P1088", "Pembroke", "Idris"),
        author_institution=(_ASHCOMBE_VALE,),
        author_role=("Consultant",),
        author_specialty=("Radiology",),
        legal_authenticator=_person("ZZ-P1088", "Pembroke", "Idris"),
        patient_id=_ASHDOWN,
        source_patient_id=_ASHDOWN_IN_HOSPITAL,
        source_patient_info=_ASHDOWN_INFO,
    ),
    Sample(
        file_name="laboratory-report.xml",
        mime_type="text/xml",
        unique_id="2.25.126499646718345067019400695917852219599",
        title="Laborivastus: kliiniline keemia / Laboratory report: clinical chemistry (väljamõeldud näidis)",
        language_code="et-EE",
        class_code=SampleCode("26436-6", _LOINC, "Laboratory studies (set)"),
        type_code=SampleCode("11502-2", _LOINC, "Laboratory report"),
        format_code=SampleCode("urn:ihe:lab:xd-lab:2008", _IHE_FORMAT, "Laboratory Report (XD-LAB)"),
        confidentiality_code=(_NORMAL,),
        healthcare_facility_type_code=_HOSPITAL,
        practice_setting_code=SampleCode("394596001", _SNOMED_CT, "Chemical pathology"),
        event_code_list=(_LABORATORY_TEST,),
        content_type_code=_LABORATORY_TEST,
        creation_time="20260512102500",
        service_start_time="20260512044000",
        service_stop_time="20260512101000",
        author_person=_person("EE-D2051", "Mõtus", "Anneli"),
        author_institution=(_institution("EE-Z301", "Kivisilla Haigla AS, labor"),),
        author_role=("Laboriarst",),
        author_specialty=("Laborimeditsiin",),
        legal_authenticator=_person("EE-D2051", "Mõtus", "Anneli"),
        patient_id=_SYVAMAE,
        source_patient_id=_SYVAMAE,
        source_patient_info=_SYVAMAE_INFO,
    ),
    Sample(
        file_name="visit-note.txt",
        mime_type="text/plain",
        unique_id="2.25.322540966095173908379292129537876801036",
        title="Visiidi märge: 2. tüüpi diabeedi kontroll (väljamõeldud näidis)",
        language_code="et-EE",
        class_code=_PROGRESS_NOTE,
        type_code=_PROGRESS_NOTE,
        format_code=_MIME_TYPE_SUFFICIENT,
        confidentiality_code=(_NORMAL,),
        healthcare_facility_type_code=SampleCode("35971002", _SNOMED_CT, "Ambulatory care site"),
        practice_setting_code=SampleCode("408443003", _SNOMED_CT, "General medical practice"),
        event_code_list=(),
        content_type_code=SampleCode("11429006", _SNOMED_CT, "Consultation"),
        creation_time="20260515074500",
        service_start_time="20260515072000",
        service_stop_time="20260515074000",
        author_person=_person("EE-D4417", "Lõhmus", "Tõnu"),
        author_institution=(_institution("EE-Z420", "Kivisilla Perearstikeskus OÜ"),),
        author_role=("Perearst",),
        author_specialty=("Peremeditsiin",),
        legal_authenticator=None,
        patient_id=_SYVAMAE,
        source_patient_id=_SYVAMAE,
        source_patient_info=_SYVAMAE_INFO,
    ),
)
