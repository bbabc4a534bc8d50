"""What the values of metadata attributes look like (ITI TF-3: 4.2.3.1 and Table 4.2.3.1.7-2).

A form judges one value. It never looks at the object around it: that is what the rows of xds/metadata_rules.py do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from xds.hl7v2 import CX, DTM, XCN, XON, XTN, is_oid
from xds.metadata import Author, AvailabilityStatus, Classification, Code, DocumentEntryType, LocalizedString, Slot
from xds.metadata_names import is_uuid_urn, shown

LONGEST_SLOT_VALUE = 256
"""Characters in one Value of a Slot (ebRIM 3.0, LongName)."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a value has to look like.

    send      what to send, for whoever sent nothing or something else
    problem   what is wrong with a value, as the end of a sentence that begins with the name of the attribute, or None
    """

    send: str
    problem: Callable[[Any], str | None]


class _Typed(Protocol):
    @property
    def text(self) -> str: ...

    def problem(self) -> str | None: ...


def too_long(text: str, longest: int = LONGEST_SLOT_VALUE) -> str | None:
    if len(text) <= longest:
        return None
    return f"is {shown(text)}, {len(text)} characters long; send at most {longest}"


def _hl7(send: str) -> Form:
    def problem(value: _Typed) -> str | None:
        wrong = value.problem()
        return f"is {shown(value.text)}: {wrong}" if wrong else too_long(value.text)

    return Form(send, problem)


def _pattern(expression: str, send: str, longest: int = LONGEST_SLOT_VALUE) -> Form:
    matches = re.compile(expression).fullmatch

    def problem(text: str) -> str | None:
        return too_long(text, longest) if matches(text) else f"is {shown(text)}; send {send}"

    return Form(send, problem)


def _oid(text: str) -> str | None:
    return None if is_oid(text) else f"is {shown(text)}, which is not an OID; send an OID such as 1.2.840.113619.6.197"


def _code(code: Code) -> str | None:
    if not code.code:
        return "has no nodeRepresentation; send the code there"
    if not code.coding_scheme:
        return f"has the code {shown(code.code)} without a coding scheme; send it in the Slot codingScheme"
    return too_long(code.coding_scheme) or (_slots(code.extra_slots) if code.extra_slots else None)


def _slots(slots: tuple[Slot, ...]) -> str | None:
    """Rule 2: what is wrong with a list of slots; the first problem only, they are seldom and alike."""
    names: set[str] = set()
    for slot in slots:
        if not slot.name:
            return "has a Slot without a name; send a name"
        if slot.name in names:
            return f"has two Slots {shown(slot.name)}; send one with all values"
        names.add(slot.name)
        for value in slot.values:
            if wrong := too_long(value):
                return f"has a Slot {shown(slot.name)} whose value {wrong}"
    return None


def _cx_with_optional_authority(text: str) -> str | None:
    """authorRole and authorSpecialty: a plain text, or a code with its authority."""
    if not text.strip():
        return "is empty; send a text or code^^^&OID&ISO"
    if "^" not in text:
        return too_long(text)
    value = CX(text)
    if value.component(4):
        wrong = value.problem()
        return f"is {shown(text)}: {wrong}" if wrong else too_long(text)
    if not value.id_number or any(text.split("^")[1:]):
        return f"is {shown(text)}; send a text or code^^^&OID&ISO"
    return too_long(text)


def _author(author: Author) -> str | None:
    if not (author.author_person or author.author_institution or author.author_telecommunication):
        return "names nobody; send at least one of authorPerson, authorInstitution and authorTelecommunication"
    typed = (("authorPerson", (author.author_person,) if author.author_person else ()),
             ("authorInstitution", author.author_institution),
             ("authorTelecommunication", author.author_telecommunication))  # fmt: skip
    for name, values in typed:
        for value in values:
            if wrong := value.problem():
                return f"has an {name} {shown(value.text)}: {wrong}"
            if wrong := too_long(value.text):
                return f"has an {name} that {wrong}"
    for name, texts in (("authorRole", author.author_role), ("authorSpecialty", author.author_specialty)):
        for text in texts:
            if wrong := _cx_with_optional_authority(text):
                return f"has an {name} that {wrong}"
    return _slots(author.extra_slots) if author.extra_slots else None


def _recipient(text: str) -> str | None:
    """Rule 9: `XON|XCN|XTN`."""
    parts = text.split("|")
    if len(parts) > 3 or not any(parts):
        return f"is {shown(text)}; send organization|person|telecommunication, one of them at least"
    kinds: tuple[Callable[[str], _Typed], ...] = (XON, XCN, XTN)
    for part, kind in zip(parts, kinds, strict=False):
        if part and (wrong := kind(part).problem()):
            return f"is {shown(text)}: of {shown(part)}, {wrong}"
    return too_long(text)


_NOT_IN_PATIENT_INFO = frozenset({2, 4, 12, 19})
_DATE_OF_BIRTH = 7
_PATIENT_INFO = re.compile(r"PID-([1-9][0-9]?)\|(.*)", re.DOTALL)


def _patient_info(text: str) -> str | None:
    """Rule 15. The value is a patient's: it is not repeated in the sentence."""
    found = _PATIENT_INFO.fullmatch(text)
    if not found or int(found[1]) > 39:
        return "has a value that is not a field of a PID segment; send PID-n|value with n from 1 to 39"
    if int(found[1]) in _NOT_IN_PATIENT_INFO:
        return f"has the field PID-{found[1]}, which must not be sent; leave it out"
    if int(found[1]) == _DATE_OF_BIRTH and (born := found[2].split("^")[0]) and DTM(born).problem():
        return "has a PID-7 (date of birth) that is not a time; send YYYY[MM[DD[hh[mm[ss]]]]], without dashes"
    return too_long(text)


def _title(text: LocalizedString) -> str | None:
    if text.charset and text.charset.upper() != "UTF-8":
        return f"has the charset {shown(text.charset)}; send UTF-8"
    return too_long(text.value, 128)


def _slot(slot: Slot) -> str | None:
    if not slot.name:
        return "has no name; send a name"
    for value in slot.values:
        if wrong := too_long(value):
            return f"{shown(slot.name)} has a value that {wrong}"
    return None


def _classification(classification: Classification) -> str | None:
    return _slots(classification.slots) if classification.slots else None


def _entry_uuid(text: str) -> str | None:
    if not text:
        return "is empty; send a UUID as urn:uuid:..., or any name that is used only once in the message"
    if text[:9].lower() == "urn:uuid:" and not is_uuid_urn(text):
        return f"is {shown(text)}, which is not a UUID; send urn:uuid: and 36 characters, or a symbolic id"
    return None


TIME = Form(
    "the time in UTC as YYYY[MM[DD[hh[mm[ss]]]]]",
    lambda value: f"can not be read: {wrong}" if (wrong := value.problem()) else None,
)
TIME_WITH_SECONDS = Form(
    "the time in UTC as YYYYMMDDhhmmss",
    lambda value: TIME.problem(value) or (None if len(value.text) == 14 else f"is {value}; send it with seconds"),
)
PATIENT_ID = _hl7("idNumber^^^&OID&ISO")
REFERENCE_ID = _hl7("idNumber^^^&OID&ISO^typeCode")
PERSON = _hl7("id^family^given^^^^^^&OID&ISO")
OID = Form("an OID such as 1.2.840.113619.6.197", _oid)
DOCUMENT_UNIQUE_ID = _pattern(
    r"[!-~]{1,128}", "an OID, OID^extension or URI: at most 128 printable ASCII characters without blanks"
)
HASH = _pattern("[0-9a-fA-F]{40}", "the SHA-1 of the document as 40 hexadecimal digits")
SIZE = _pattern("[0-9]{1,18}", "the document's length in octets, in digits")
LANGUAGE = _pattern("[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*", "a language tag such as et-EE")
MIME_TYPE = _pattern(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(\s*;.*)?", "type/subtype, such as application/pdf")
CODE = Form("one Classification with nodeRepresentation and the Slot codingScheme", _code)
AUTHOR = Form("a Classification with the Slots authorPerson, authorInstitution, ...", _author)
RECIPIENT = Form("organization|person|telecommunication", _recipient)
PATIENT_INFO = Form("PID-n|value", _patient_info)
TITLE = Form("a Name", _title)
SLOT = Form("a name and values", _slot)
CLASSIFICATION = Form("a Classification", _classification)
ENTRY_UUID = Form("a UUID or a symbolic id", _entry_uuid)
TEXT = Form("a text", too_long)


def exactly(value: str, send: str) -> Form:
    """One value is legal."""
    return Form(send, lambda text: None if text == value else f"is {shown(text)}; send {send}")


def never(instead: str) -> Form:
    """Any value is wrong here."""
    return Form(instead, lambda _: f"is not allowed here; {instead}")


def one_of(values: Sequence[str], send: str) -> Form:
    """Each of some values is legal."""
    return Form(send, lambda text: None if text in values else f"is {shown(text)}; send {send}")


ENTRY_TYPE = one_of([each.value for each in DocumentEntryType], " or ".join(each.value for each in DocumentEntryType))
STATUS = one_of([each.value for each in AvailabilityStatus], " or ".join(each.value for each in AvailabilityStatus))
VERSION = _pattern("[1-9][0-9]{0,17}", "the version that the new one follows, a number")
YES_OR_NO = one_of(("yes", "no"), "yes or no")
