"""Trains the dictionary that renderings and log bodies are compressed with (schemas/dictionaries).

    .venv/bin/python -m tests.performance.train_rendering_dictionary 2

writes `renderings-2.zdict` and prints how small renderings get that it was not trained on. A dictionary that was ever
shipped is never written again: train the next number. The metadata is made up, and varied on purpose: a dictionary that
knew the codes and names of the samples would do well here and nowhere else.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar
from uuid import UUID

import zstandard

import schemas
from mhd.mapping.code_systems import CodeSystems
from mhd.searching.renderer import Renderer
from registry.change_body import encoded
from tests.builders import (
    association,
    code,
    document_entry,
    folder,
    full_document_entry,
    has_member,
    submission_set,
    text,
)
from xds.actors import Registration
from xds.ebxml_writer import codec
from xds.hl7v2 import CX, DTM, XCN, XON, XTN, CXi
from xds.metadata import (
    AnyObject,
    AssociationType,
    Author,
    AvailabilityStatus,
    Code,
    DocumentEntry,
    DocumentEntryType,
    LocalizedString,
)

_T = TypeVar("_T")

_SIZE = 112 * 1024
_PRIVATE_NUMBERS = 1 << 15  # zstd reserves dictionary numbers below this for a registrar
_TRAINED_ON = 1500
_TRIED_ON = 200

_SCHEMES = (
    "2.16.840.1.113883.6.1", "2.16.840.1.113883.6.96", "2.16.840.1.113883.5.25", "1.3.6.1.4.1.19376.1.2.3",
    "1.3.6.1.4.1.19376.1.2.6.1", "1.2.840.10008.2.16.4", "2.16.840.1.113883.5.111", "1.3.6.1.4.1.28284.6.2.2.1",
)  # fmt: skip
_MIME_TYPES = ("application/pdf", "text/xml", "text/plain", "image/jpeg", "application/dicom", "application/fhir+json")
_FORMATS = (
    "urn:ihe:iti:xds-sd:pdf:2008", "urn:ihe:iti:xds-sd:text:2008", "urn:ihe:pcc:xphr:2007", "urn:ihe:pcc:xds-ms:2007",
    "urn:ihe:lab:xd-lab:2008", "1.2.840.10008.5.1.4.1.1.88.59", "urn:ihe:iti:xds:2017:mimeTypeSufficient",
)  # fmt: skip
_LANGUAGES = ("en-US", "en-GB", "et-EE", "de-DE", "de-CH", "fr-FR", "it-IT", "fi-FI", "nl-NL", "es-ES")
_WORDS = (
    "summary", "report", "of", "the", "laboratory", "discharge", "visit", "care", "plan", "history", "and", "physical",
    "imaging", "study", "medicine", "general", "hospital", "note", "normal", "clinic", "document", "referral", "with",
)  # fmt: skip
_REFERENCE_TYPES = (
    "urn:ihe:iti:xds:2013:accession", "urn:ihe:iti:xds:2013:order", "urn:ihe:iti:xds:2013:uniqueId",
    "urn:ihe:iti:xds:2013:referral", "urn:ihe:iti:xds:2016:studyInstanceUID", "urn:ihe:iti:xds:2015:encounterId",
)  # fmt: skip


class Variety:
    """Made-up metadata; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 nobody guards anything with these

    def dossier(self) -> list[AnyObject]:
        """What one submission registers."""
        entries = [self._entry() for _ in range(self._random.choice((1, 1, 1, 2, 3)))]
        patient = entries[0].patient_id
        owner = submission_set(
            **self._ids(), patient_id=patient, author=self._authors(), content_type_code=self._code(),
            source_id=self._oid(), submission_time=self.time(),
            title=self._words(), comments=self._perhaps(self._words()),
            intended_recipient=self._perhaps((f"{self._organization()}|{self._person()}",)),
        )  # fmt: skip
        objects: list[AnyObject] = [*entries, owner]
        if self._random.random() < 0.2:
            objects.append(folder(**self._ids(), patient_id=patient, code_list=(self._code(),), title=self._words(),
                                  last_update_time=DTM(self.time().text[:14])))  # fmt: skip
        objects += [replace(has_member(owner, item), entry_uuid=self._urn()) for item in objects if item is not owner]
        kind = self._random.choice((AssociationType.RPLC, AssociationType.APND, AssociationType.XFRM, None, None, None))
        if kind:
            objects.append(association(kind, entries[0], self._urn(), entry_uuid=self._urn()))
        lasting: dict[str, Any] = {"availability_status": AvailabilityStatus.APPROVED, "version": "1"}
        return [replace(item, logical_id=item.entry_uuid, **lasting) for item in objects]

    def _entry(self) -> DocumentEntry:
        start = full_document_entry if self._random.random() < 0.1 else document_entry
        return start(
            **self._ids(), patient_id=self._patient(), source_patient_id=self._patient(),
            title=self._words(), comments=self._perhaps(self._words()), author=self._authors(),
            class_code=self._code(), type_code=self._code(), practice_setting_code=self._code(),
            healthcare_facility_type_code=self._code(), confidentiality_code=(self._code(),),
            format_code=code(self._random.choice(_FORMATS), self._random.choice(_SCHEMES), self._word()),
            event_code_list=tuple(self._code() for _ in range(self._random.choice((0, 0, 1, 2)))),
            creation_time=self.time(), service_start_time=self.time(), service_stop_time=self.time(),
            hash=self._random.randbytes(20).hex(), size=str(self._random.randrange(500, 5_000_000)),
            language_code=self._random.choice(_LANGUAGES), mime_type=self._random.choice(_MIME_TYPES),
            legal_authenticator=self._perhaps_none(XCN(self._person())), repository_unique_id=self._oid(),
            object_type=DocumentEntryType.ON_DEMAND if self._random.random() < 0.03 else DocumentEntryType.STABLE,
            reference_id_list=self._perhaps((CXi(f"{self._digits(8)}^^^&{self._oid()}&ISO^{self._random.choice(_REFERENCE_TYPES)}"),)),
            source_patient_info=(
                f"PID-3|{self._patient()}", f"PID-5|{self._name()}^{self._name()}^^^",
                f"PID-7|{self.time().text[:8]}", f"PID-8|{self._random.choice('MFOU')}",
                f"PID-11|{self._name()} {self._digits(2)}^^{self._name()}^^{self._digits(5)}^{self._name()}",
            ),
            home_community_id=self._perhaps_none(f"urn:oid:{self._oid()}"),
            uri=self._perhaps_none(f"{self._word()}.xml"),
        )  # fmt: skip

    def _ids(self) -> dict[str, str]:
        return {"entry_uuid": self._urn(), "unique_id": self._oid()}

    def _urn(self) -> str:
        return UUID(int=self._random.getrandbits(128), version=4).urn

    def _oid(self) -> str:
        if self._random.random() < 0.3:
            return f"2.25.{self._random.getrandbits(122)}"
        return "1.3.6.1.4.1." + ".".join(str(self._random.randrange(1, 99999)) for _ in range(5))

    def _digits(self, count: int) -> str:
        return "".join(self._random.choices("0123456789", k=count))

    def _patient(self) -> CX:
        return CX.of(self._digits(10), self._oid())

    def _name(self) -> str:
        return "".join(self._random.choices("aeioubdgklmnrstvh", k=self._random.randrange(4, 9))).capitalize()

    def _word(self) -> str:
        return self._random.choice(_WORDS) if self._random.random() < 0.6 else self._name().lower()

    def _words(self) -> tuple[LocalizedString, ...]:
        words = " ".join(self._word() for _ in range(self._random.randrange(1, 5))).capitalize()
        return text(words, self._perhaps_none(self._random.choice(_LANGUAGES)), self._perhaps_none("UTF-8"))

    def time(self) -> DTM:
        month, day = self._random.randrange(1, 13), self._random.randrange(1, 29)
        return DTM(
            f"20{self._random.randrange(10, 30)}{month:02}{day:02}{self._random.randrange(10, 24)}{self._digits(2)}00"
        )

    def key(self) -> str:
        """What stands for a patient in FHIR resources."""
        return f"{self._random.getrandbits(128):032x}"

    def moment(self) -> str:
        """When something was registered."""
        text = self.time().text
        return f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:12]}:{self._digits(2)}.{self._digits(6)}Z"

    def _code(self) -> Code:
        scheme = self._random.choice((*_SCHEMES, self._oid()))
        return Code(f"{self._digits(5)}-{self._digits(1)}", scheme, self._words())

    def _person(self) -> str:
        return (
            f"{self._digits(6)}^{self._name()}^{self._name()}^^^{self._perhaps_none('Dr') or ''}^^^&{self._oid()}&ISO"
        )

    def _organization(self) -> str:
        return f"{self._name()} {self._word()}^^^^^&{self._oid()}&ISO^^^^{self._digits(6)}"

    def _authors(self) -> tuple[Author, ...]:
        return tuple(
            Author(
                author_person=XCN(self._person()),
                author_institution=(XON(self._organization()),),
                author_role=self._perhaps((self._word(),)),
                author_specialty=self._perhaps((self._word(),)),
                author_telecommunication=self._perhaps((XTN(f"^^Internet^{self._name().lower()}@example.org"),)),
            )
            for _ in range(self._random.choice((1, 1, 2)))
        )

    def _perhaps(self, value: tuple[_T, ...]) -> tuple[_T, ...]:
        return value if self._random.random() < 0.4 else ()

    def _perhaps_none(self, value: _T) -> _T | None:
        return value if self._random.random() < 0.4 else None


def samples(seed: int, count: int) -> Iterator[bytes]:
    """Renderings, the log bodies that hold them (where every quotation mark is escaped), and FHIR resources."""
    variety = Variety(seed)
    renderer = Renderer(CodeSystems.default())
    for _ in range(count):
        objects = variety.dossier()
        renderings = [codec.written(item) for item in objects]
        yield from renderings
        yield encoded(renderings, ())[0]
        registration = Registration(variety.key(), variety.moment(), variety.time().text)
        yield from filter(None, [renderer.rendered(item, registration) for item in objects])


def main(number: int) -> None:
    path = Path(schemas.__file__).parent / "dictionaries" / f"renderings-{number}.zdict"
    if path.exists():
        raise SystemExit(f"{path} has been shipped; train the next number")
    dictionary = zstandard.train_dictionary(
        _SIZE, list(samples(1, _TRAINED_ON)), level=3, dict_id=_PRIVATE_NUMBERS + number, threads=2
    )
    path.write_bytes(dictionary.as_bytes())
    compressor = zstandard.ZstdCompressor(level=3, dict_data=dictionary, write_checksum=True)
    ratios = [len(sample) / len(compressor.compress(sample)) for sample in samples(2, _TRIED_ON)]
    sys.stdout.write(f"{path.name}: {path.stat().st_size} bytes; others are compressed {median(ratios):.1f} times\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
