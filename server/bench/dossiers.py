"""Made-up dossiers of about the size of real ones: a rendered DocumentEntry has about nine kilobytes.

Everything follows from a Random, so that one seed always makes the same dossiers. Nobody in them exists.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha1
from random import Random
from typing import Any, TypeVar
from uuid import UUID

from xds.hl7v2 import CX, DTM, XCN, XON, XTN, CXi
from xds.metadata import (
    AnyObject,
    Association,
    AssociationType,
    Author,
    AvailabilityStatus,
    Code,
    DocumentEntry,
    InternationalString,
    LocalizedString,
    Submission,
    SubmissionSet,
)

REPOSITORY = "2.25.268418107204180276174413417231862104113"
AUTHORITY = "2.25.171927264350093467720438231184120917420"
_SOURCE = "2.25.201736458112909337455100928173645518112"
_PEOPLE = "2.25.309442816650183720114593820164573910228"
_REQUESTS = "2.25.118264019375546210983374651029384756473"
_LOINC = "2.16.840.1.113883.6.1"
_SNOMED_CT = "2.16.840.1.113883.6.96"
_CONFIDENTIALITY = "2.16.840.1.113883.5.25"
_FORMATS = "1.3.6.1.4.1.19376.1.2.3"

_Registrable = TypeVar("_Registrable", DocumentEntry, SubmissionSet, Association)

_SYLLABLES = ("ka", "le", "mar", "ti", "no", "vel", "sa", "ru", "jo", "han", "ek", "lin", "tor", "mi", "pa", "es")
_SUBJECTS = ("Cardiology", "Respiratory medicine", "Clinical chemistry", "Radiology", "General practice", "Surgery")
_TYPES = ("Discharge summary", "Outpatient letter", "Laboratory report", "Imaging report", "Referral note", "Care plan")
_KINDS_OF_DOCUMENT = (
    ("application/pdf", "urn:ihe:iti:xds-sd:pdf:2008"),
    ("text/xml", "urn:ihe:pcc:xds-ms:2007"),
    ("text/xml", "urn:ihe:lab:xd-lab:2008"),
    ("text/plain", "urn:ihe:iti:xds:2017:mimeTypeSufficient"),
)
_REFERENCES = ("urn:ihe:iti:xds:2013:accession", "urn:ihe:iti:xds:2013:order", "urn:ihe:iti:xds:2015:encounterId")


def patient(number: int) -> CX:
    """The patient who is numbered so: always ten digits."""
    return CX.of(f"{1_000_000_000 + number}", AUTHORITY)


@dataclass(frozen=True, slots=True)
class Population:
    """Who is in a filled registry: patients with ten documents, then those with a hundred, numbered from 0."""

    of_ten: int
    of_a_hundred: int

    @classmethod
    def of(cls, entries: int) -> Population:
        """About `entries` DocumentEntries, every tenth of them in a large dossier."""
        of_a_hundred = max(1, entries // 1000)
        return cls(max(2, (entries - 100 * of_a_hundred) // 10), of_a_hundred)

    @property
    def entries(self) -> int:
        return 10 * self.of_ten + 100 * self.of_a_hundred

    @property
    def read_of_ten(self) -> range:
        """Patients whose dossiers nothing is added to, so that an answer has ten entries."""
        return range(self.of_ten // 2)

    @property
    def written(self) -> range:
        """Patients whose dossiers grow."""
        return range(self.of_ten // 2, self.of_ten)

    @property
    def read_of_a_hundred(self) -> range:
        return range(self.of_ten, self.of_ten + self.of_a_hundred)

    def documents_of(self, number: int) -> int:
        """How many documents a patient begins with."""
        return 10 if number < self.of_ten else 100

    @property
    def numbers(self) -> range:
        return range(self.of_ten + self.of_a_hundred)


class Dossiers:
    """Makes submissions up."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - nobody guards anything with these

    def submission(self, patient_id: CX, documents: int = 1) -> Submission:
        """A SubmissionSet with so many DocumentEntries, as a source sends it with ITI-42."""
        entries = tuple(self._entry(patient_id) for _ in range(documents))
        owner = SubmissionSet(
            entry_uuid=self._urn(),
            unique_id=self._oid(),
            patient_id=patient_id,
            title=_text(self._random.choice(_TYPES)),
            author=(self._author(),),
            content_type_code=self._code(_SNOMED_CT, self._random.choice(_SUBJECTS)),
            source_id=_SOURCE,
            submission_time=self._time(),
        )
        members = tuple(
            Association(
                entry_uuid=self._urn(),
                association_type=AssociationType.HAS_MEMBER,
                source_object=owner.entry_uuid,
                target_object=entry.entry_uuid,
                submission_set_status="Original",
            )
            for entry in entries
        )
        return Submission(submission_sets=(owner,), document_entries=entries, associations=members)

    def _entry(self, patient_id: CX) -> DocumentEntry:
        kind, subject = self._random.choice(_TYPES), self._random.choice(_SUBJECTS)
        mime_type, format_code = self._random.choice(_KINDS_OF_DOCUMENT)
        started = self._time()
        own_number = f"H{self._digits(7)}^^^&{_PEOPLE}&ISO"
        unique_id = self._oid()
        return DocumentEntry(
            entry_uuid=self._urn(),
            unique_id=unique_id,
            patient_id=patient_id,
            title=(LocalizedString(f"{kind}: {subject}", "en"), LocalizedString(f"{self._words(5)}", "et")),
            comments=_text(self._words(12), "en"),
            author=(self._author(), self._author()),
            class_code=self._code(_LOINC, kind),
            type_code=self._code(_LOINC, f"{kind} {subject}"),
            format_code=Code(format_code, _FORMATS, _text(format_code.rpartition(":")[0])),
            practice_setting_code=self._code(_SNOMED_CT, subject),
            healthcare_facility_type_code=self._code(_SNOMED_CT, "Hospital"),
            confidentiality_code=(Code("N", _CONFIDENTIALITY, _text("normal")),),
            event_code_list=tuple(self._code(_SNOMED_CT, self._words(3)) for _ in range(2)),
            creation_time=started,
            service_start_time=started,
            service_stop_time=started,
            hash=sha1(unique_id.encode(), usedforsecurity=False).hexdigest(),
            size=str(self._random.randrange(2_000, 2_000_000)),
            language_code=self._random.choice(("en-GB", "et-EE", "de-CH")),
            legal_authenticator=XCN(self._person()),
            mime_type=mime_type,
            reference_id_list=tuple(
                CXi(f"{self._digits(9)}^^^&{_REQUESTS}&ISO^{reference}")
                for reference in self._random.sample(_REFERENCES, 2)
            ),
            repository_unique_id=REPOSITORY,
            source_patient_id=CX(own_number),
            source_patient_info=(
                f"PID-3|{own_number}",
                f"PID-5|{self._name()}^{self._name()}^^^",
                f"PID-7|19{self._random.randrange(30, 99)}0{self._random.randrange(1, 9)}1{self._digits(1)}",
                f"PID-8|{self._random.choice('FM')}",
                f"PID-11|{self._name()} {self._digits(2)}^^{self._name()}^^{self._digits(5)}^EE",
            ),
            uri=f"{self._digits(12)}.dat",
        )

    def _author(self) -> Author:
        return Author(
            author_person=XCN(self._person()),
            author_institution=(XON(f"{self._name()} Hospital^^^^^&{_PEOPLE}&ISO^^^^{self._digits(8)}"),),
            author_role=("Attending physician",),
            author_specialty=(self._random.choice(_SUBJECTS),),
            author_telecommunication=(XTN(f"^^Internet^{self._name().lower()}@example.org"),),
        )

    def _person(self) -> str:
        return f"{self._digits(6)}^{self._name()}^{self._name()}^^^Dr^^^&{_PEOPLE}&ISO"

    def _code(self, scheme: str, display: str) -> Code:
        return Code(f"{self._digits(5)}-{self._digits(1)}", scheme, _text(display, "en"))

    def _time(self) -> DTM:
        drawn = self._random.randrange
        return DTM(f"{drawn(2012, 2026)}{drawn(1, 13):02}{drawn(1, 29):02}{drawn(24):02}{drawn(60):02}{drawn(60):02}")

    def _urn(self) -> str:
        return UUID(int=self._random.getrandbits(128), version=4).urn

    def _oid(self) -> str:
        return f"2.25.{self._random.getrandbits(122)}"

    def _digits(self, count: int) -> str:
        return f"{self._random.randrange(10**count):0{count}}"

    def _name(self) -> str:
        return "".join(self._random.choices(_SYLLABLES, k=3)).capitalize()

    def _words(self, count: int) -> str:
        return " ".join(self._name().lower() for _ in range(count)).capitalize()


def as_registered(submission: Submission) -> tuple[AnyObject, ...]:
    """The objects as a registry keeps them: Approved, first version."""
    return (
        *map(_registered, submission.submission_sets),
        *map(_registered, submission.document_entries),
        *map(_registered, submission.associations),
    )


def _registered(item: _Registrable) -> _Registrable:
    lasting: dict[str, Any] = {
        "logical_id": item.entry_uuid,
        "version": "1",
        "availability_status": AvailabilityStatus.APPROVED,
    }
    return replace(item, **lasting)


def _text(value: str, language: str | None = None) -> InternationalString:
    return (LocalizedString(value, language),)
