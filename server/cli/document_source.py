"""From files to a submission: what a document source has to say of a document (ITI TF-3: 4.2.3.2, 4.2.3.3).

What the command line says comes first, then what a CDA header says, then what the affinity domain leaves no choice
about. What is still missing is assumed, and told.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from platform import node
from typing import Final

from server.cda_header import read_cda_header
from server.settings import Settings
from server.settings.affinity_domain import CodedValue
from xds.cda_header import CdaHeader
from xds.hl7v2 import CX, DTM, oid_of
from xds.metadata import (
    Association,
    AssociationType,
    Author,
    Code,
    DocumentEntry,
    LocalizedString,
    Submission,
    SubmissionSet,
)
from xds.xml import XmlProblem

CDA_MIME_TYPE: Final = "text/xml"
_SNIFFED: Final = 4096
_LARGEST_HEADER: Final = 256 * 1024 * 1024
_LONGEST_TITLE: Final = 128
_XML_START: Final = re.compile(rb"\s*<(\?xml|[A-Za-z_!])")
_MAGIC: Final = ((b"%PDF-", "application/pdf"), (b"\x89PNG\r\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))

_LOINC: Final = "2.16.840.1.113883.6.1"
_SNOMED_CT: Final = "2.16.840.1.113883.6.96"
ASSUMED_LANGUAGE: Final = "en"


def code_of(code: str, scheme: str, display: str = "") -> Code:
    """A code with its display name."""
    return Code(code, scheme, (LocalizedString(display),) if display else ())


_ASSUMED: Final = {
    "type_code": code_of("34109-9", _LOINC, "Note"),
    "format_code": code_of("urn:ihe:iti:xds:2017:mimeTypeSufficient", "1.3.6.1.4.1.19376.1.2.3", "mimeType sufficient"),
    "confidentiality_code": code_of("N", "2.16.840.1.113883.5.25", "normal"),
    "healthcare_facility_type_code": code_of("43741000", _SNOMED_CT, "Site of care"),
    "practice_setting_code": code_of("408443003", _SNOMED_CT, "General medical practice"),
}


class CanNotDescribe(Exception):
    """Metadata can not be made. The text says which option helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command line says of the documents; it goes before all else. codes: by attribute."""

    patient_id: CX | None = None
    source_patient_id: CX | None = None
    title: str | None = None
    unique_id: str | None = None
    creation_time: DTM | None = None
    language_code: str | None = None
    mime_type: str | None = None
    author: Author | None = None
    codes: dict[str, tuple[Code, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Described:
    """A file and its DocumentEntry. assumed: what nobody said, in words."""

    file: Path
    entry: DocumentEntry
    size: int
    assumed: tuple[str, ...]


def described(file: Path, wishes: Wishes, domain: Settings | None = None) -> Described:
    """The DocumentEntry of a file. Raises CanNotDescribe; OSError where the file can not be read."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, lambda: hashlib.sha1(usedforsecurity=False)).hexdigest()
        size = content.tell()
    assumed: list[str] = []
    header = _header(file, size, assumed)
    patient_id = wishes.patient_id or _patient_id(header, domain)
    if patient_id is None:
        raise CanNotDescribe(f"{file} does not say whose document it is: give --patient")
    ids = header.patient_ids if header else ()
    source_patient_id = wishes.source_patient_id or next((each for each in ids if each != patient_id), patient_id)
    codes = _Codes(wishes, domain, assumed)
    type_code = codes.one("type_code", header.type_code if header else None)
    entry = DocumentEntry(
        entry_uuid=uuid.uuid4().urn,
        unique_id=wishes.unique_id or (header.unique_id if header else None) or new_oid(),
        patient_id=patient_id,
        title=_title(wishes.title or (header.title if header else None) or file.stem, assumed),
        author=(wishes.author,) if wishes.author else header.author if header else (),
        class_code=codes.one("class_code", type_code),
        type_code=type_code,
        format_code=codes.one("format_code", header.format_code if header else None),
        confidentiality_code=codes.all("confidentiality_code", header.confidentiality_code if header else ()),
        event_code_list=codes.all("event_code_list", header.event_code_list if header else ()),
        healthcare_facility_type_code=codes.one(
            "healthcare_facility_type_code", header.healthcare_facility_type_code if header else None
        ),
        practice_setting_code=codes.one("practice_setting_code", None),
        creation_time=wishes.creation_time or _creation_time(header, file, assumed),
        language_code=wishes.language_code or _language(header, assumed),
        mime_type=wishes.mime_type or (CDA_MIME_TYPE if header else mime_type_of(file)),
        legal_authenticator=header.legal_authenticator if header else None,
        service_start_time=header.service_start_time if header else None,
        service_stop_time=header.service_stop_time if header else None,
        source_patient_id=source_patient_id,
        source_patient_info=(f"PID-3|{source_patient_id}", *header.source_patient_info) if header else (),
        hash=digest,
        size=str(size),
    )
    return Described(file, entry, size, tuple(assumed))


def submission_of(
    entries: Sequence[DocumentEntry],
    *,
    source_id: str,
    content_type_code: Code | None,
    replaced: str | None = None,
    title: str | None = None,
) -> Submission:
    """One SubmissionSet with these documents of one patient.

    replaced   entryUUID of the registered document that the first one replaces
    """
    owner = SubmissionSet(
        entry_uuid=uuid.uuid4().urn,
        unique_id=new_oid(),
        patient_id=entries[0].patient_id,
        title=(LocalizedString(title),) if title else (),
        author=entries[0].author,
        content_type_code=content_type_code,
        source_id=source_id,
        submission_time=DTM(datetime.now(UTC).strftime("%Y%m%d%H%M%S")),
    )
    associations = [
        Association(
            entry_uuid=uuid.uuid4().urn,
            association_type=AssociationType.HAS_MEMBER,
            source_object=owner.entry_uuid,
            target_object=entry.entry_uuid,
            submission_set_status="Original",
        )
        for entry in entries
    ]
    if replaced is not None:
        replacement = Association(
            entry_uuid=uuid.uuid4().urn,
            association_type=AssociationType.RPLC,
            source_object=entries[0].entry_uuid,
            target_object=replaced,
        )
        associations.append(replacement)
    return Submission(submission_sets=(owner,), document_entries=tuple(entries), associations=tuple(associations))


def new_oid() -> str:
    """An OID that nobody has: made from a UUID (ITU-T X.667)."""
    return oid_of(uuid.uuid4())


def this_source() -> str:
    """The sourceId of this machine: always the same, and no other machine's."""
    return oid_of(uuid.uuid5(uuid.NAMESPACE_DNS, f"{node()}.{uuid.getnode():x}"))


def mime_type_of(file: Path) -> str:
    """By the first octets where they tell, else by the name, else whether it is text."""
    with file.open("rb") as content:
        start = content.read(_SNIFFED)
    for magic, mime_type in _MAGIC:
        if start.startswith(magic):
            return mime_type
    guessed, encoding = mimetypes.guess_type(file.name)
    if guessed and encoding is None:
        return CDA_MIME_TYPE if guessed == "application/xml" else guessed
    if _XML_START.match(start.removeprefix(b"\xef\xbb\xbf")):
        return CDA_MIME_TYPE
    return "text/plain" if _is_text(start) else "application/octet-stream"


def _is_text(start: bytes) -> bool:
    try:
        text = start[: max(len(start) - 3, 0)] if len(start) == _SNIFFED else start
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return bool(decoded) and "\x00" not in decoded


def _header(file: Path, size: int, assumed: list[str]) -> CdaHeader | None:
    with file.open("rb") as content:
        start = content.read(_SNIFFED).removeprefix(b"\xef\xbb\xbf")
        if not _XML_START.match(start):
            return None
        if size > _LARGEST_HEADER:
            assumed.append(f"nothing is read from it, because it is larger than {_LARGEST_HEADER} octets")
            return None
        content.seek(0)
        document = content.read()
    try:
        return read_cda_header(document)
    except XmlProblem as problem:
        assumed.append(f"nothing is read from it, because {problem}")
        return None


def _patient_id(header: CdaHeader | None, domain: Settings | None) -> CX | None:
    """The id that the affinity domain goes by; the first where nothing says which that is."""
    ids = header.patient_ids if header else ()
    authorities = {each.oid for each in domain.patients.assigning_authorities} if domain else set()
    known = (each for each in ids if each.assigning_authority.universal_id in authorities)
    return next(known, ids[0] if ids else None)


def _title(title: str, assumed: list[str]) -> tuple[LocalizedString, ...]:
    if len(title) > _LONGEST_TITLE:
        assumed.append(f"title is cut to the {_LONGEST_TITLE} characters that a registry takes")
        title = title[: _LONGEST_TITLE - 3] + "..."
    return (LocalizedString(title),)


def _creation_time(header: CdaHeader | None, file: Path, assumed: list[str]) -> DTM:
    if header and header.creation_time:
        return header.creation_time
    changed = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    assumed.append("creationTime is assumed: when the file was last changed")
    return DTM(changed.strftime("%Y%m%d%H%M%S"))


def _language(header: CdaHeader | None, assumed: list[str]) -> str:
    if header and header.language_code:
        return header.language_code
    assumed.append(f"languageCode is assumed: {ASSUMED_LANGUAGE}")
    return ASSUMED_LANGUAGE


class _Codes:
    """Where codes come from, one attribute after the other."""

    def __init__(self, wishes: Wishes, domain: Settings | None, assumed: list[str]) -> None:
        self._wished = wishes.codes
        self._domain = domain.codes if domain else {}
        self._assumed = assumed

    def one(self, attribute: str, said: Code | None) -> Code | None:
        return next(iter(self.all(attribute, (said,) if said else ())), None)

    def all(self, attribute: str, said: Iterable[Code]) -> tuple[Code, ...]:
        codes = self._wished.get(attribute) or tuple(said) or self._only_one(attribute)
        if not codes and attribute in _ASSUMED:
            codes = (_ASSUMED[attribute],)
            self._assumed.append(f"{_camel(attribute)} is assumed: {codes[0].coded} ({codes[0].display_name[0].value})")
        return tuple(self._displayed(attribute, code) for code in codes)

    def _values(self, attribute: str) -> list[CodedValue]:
        code_set = self._domain.get(attribute)
        return [each for each in code_set.values if isinstance(each, CodedValue)] if code_set else []

    def _only_one(self, attribute: str) -> tuple[Code, ...]:
        """The affinity domain's code where it has no other, for an attribute that must have one."""
        values = self._values(attribute)
        if attribute not in _ASSUMED or len(values) != 1:
            return ()
        return (code_of(values[0].code, values[0].scheme, values[0].display),)

    def _displayed(self, attribute: str, code: Code) -> Code:
        """The code with the affinity domain's display name, where it has none of its own."""
        if code.display_name:
            return code
        displays = (each.display for each in self._values(attribute) if f"{each.code}^^{each.scheme}" == code.coded)
        return code_of(code.code or "", code.coding_scheme or "", next(displays, ""))


def _camel(attribute: str) -> str:
    first, *others = attribute.split("_")
    return first + "".join(each.capitalize() for each in others)
