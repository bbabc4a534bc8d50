"""The HL7 v2.5 data types inside XDS metadata (ITI TF-3: 4.2.3.1.7, Table 4.2.3.1.7-2).

Each type is the text as it was sent, with its components as properties: what comes in goes out again character
by character, whatever it holds. `problem()` says in a sentence what is wrong with it, or None.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from typing import Self
from uuid import UUID

OID_PATTERN = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_OID_LENGTH = 64
_PLAIN_AUTHORITY = re.compile(f"&({OID_PATTERN.pattern})&ISO")
_DTM_PATTERN = re.compile(r"[0-9]{4}([0-9]{2}){0,5}")
_DTM_LENGTHS = (4, 6, 8, 10, 12, 14)


def is_oid(text: str) -> bool:
    """An ISO object identifier of at most 64 characters, without leading zeros."""
    return len(text) <= _OID_LENGTH and OID_PATTERN.fullmatch(text) is not None


def oid_of(uuid: UUID) -> str:
    """A UUID as an OID (ITU-T X.667)."""
    return f"2.25.{uuid.int}"


def _component(text: str, number: int, separator: str = "^") -> str:
    parts = text.split(separator)
    return parts[number - 1] if number <= len(parts) else ""


@dataclass(frozen=True, slots=True)
class _Typed:
    text: str

    def __str__(self) -> str:
        return self.text

    def component(self, number: int) -> str:
        """Component by HL7's number (1 is the first), "" where it was not sent."""
        return _component(self.text, number)


@dataclass(frozen=True, slots=True)
class HD(_Typed):
    """Hierarchic Designator, as a component: `namespace&universalId&universalIdType`."""

    @property
    def namespace_id(self) -> str:
        return _component(self.text, 1, "&")

    @property
    def universal_id(self) -> str:
        return _component(self.text, 2, "&")

    @property
    def universal_id_type(self) -> str:
        return _component(self.text, 3, "&")

    @property
    def canonical(self) -> str | None:
        """What was most probably meant, as XDS allows it; None where no OID can be made out.

        Blanks are taken away, and what was escaped twice (`&amp;`) is read as what it was.
        """
        parts = [each.strip() for each in self.text.replace("&amp;", "&").split("&")]
        oids = [each for each in (*parts[1:], parts[0]) if is_oid(each)]
        return f"&{oids[0]}&ISO" if len(oids) == 1 else None

    def problem(self) -> str | None:
        """XDS allows only `&OID&ISO`: no namespace id, type ISO (ITI TF-3 Table 4.2.3.1.7-2, CX)."""
        plain = _PLAIN_AUTHORITY.fullmatch(self.text)
        if plain and len(plain[1]) <= _OID_LENGTH:
            return None
        if self.namespace_id:
            return f"its assigning authority has a namespace id {self.namespace_id!r}; send &OID&ISO"
        if self.universal_id_type != "ISO":
            return f"its assigning authority has the type {self.universal_id_type!r}; send &OID&ISO"
        if not is_oid(self.universal_id):
            return f"its assigning authority {self.universal_id!r} is not an OID; send &OID&ISO"
        if self.text.count("&") > 2:
            return "its assigning authority has more than three parts; send &OID&ISO"
        return None


@dataclass(frozen=True, slots=True)
class CX(_Typed):
    """Extended composite id, `idNumber^^^&OID&ISO`: a patient id."""

    @classmethod
    def of(cls, id_number: str, authority_oid: str) -> Self:
        """The patient `id_number` of the assigning authority `authority_oid`."""
        return cls(f"{id_number}^^^&{authority_oid}&ISO")

    @property
    def id_number(self) -> str:
        return self.component(1)

    @property
    def assigning_authority(self) -> HD:
        return HD(self.component(4))

    def problem(self) -> str | None:
        id_number, *rest = self.text.split("^")
        if not id_number:
            return "it has no id number; send idNumber^^^&OID&ISO"
        if len(rest) < 3 or not rest[2]:
            return "it has no assigning authority; send idNumber^^^&OID&ISO"
        # The number is a patient's: it is not repeated in the sentence.
        send = f"send idNumber^^^{self.assigning_authority.canonical or '&OID&ISO'}"
        if rest[0] or rest[1] or any(rest[3:]):
            return f"only the id number and the assigning authority may be given; {send}"
        wrong = HD(rest[2]).problem()
        return f"{wrong.partition(';')[0]}; {send}" if wrong else None


@dataclass(frozen=True, slots=True)
class CXi(_Typed):
    """CX with id type, `idNumber^^^authority^identifierTypeCode^homeCommunityId`: a referenceIdList value."""

    @property
    def id_number(self) -> str:
        return self.component(1)

    @property
    def assigning_authority(self) -> HD:
        return HD(self.component(4))

    @property
    def identifier_type_code(self) -> str:
        return self.component(5)

    def problem(self) -> str | None:
        if not self.id_number:
            return "it has no id number; send idNumber^^^&OID&ISO^typeCode"
        if not self.identifier_type_code:
            return "it has no identifier type code (component 5); send idNumber^^^&OID&ISO^typeCode"
        authority = self.assigning_authority
        if authority.text and not authority.namespace_id:
            return authority.problem()
        return None


@dataclass(frozen=True, slots=True)
class XCN(_Typed):
    """Extended composite id and name of a person: author, legal authenticator, recipient."""

    @property
    def id_number(self) -> str:
        return self.component(1)

    @property
    def family_name(self) -> str:
        return self.component(2)

    @property
    def given_name(self) -> str:
        return self.component(3)

    @property
    def assigning_authority(self) -> HD:
        return HD(self.component(9))

    def problem(self) -> str | None:
        if not (self.id_number or self.family_name or self.given_name):
            return "it has neither an id nor a name; send id^family^given^^^^^^&OID&ISO"
        authority = self.assigning_authority
        return authority.problem() if authority.universal_id else None


@dataclass(frozen=True, slots=True)
class XON(_Typed):
    """Extended composite name and id of an organization: `name^^^^^&OID&ISO^^^^id`."""

    @property
    def organization_name(self) -> str:
        return self.component(1)

    @property
    def assigning_authority(self) -> HD:
        return HD(self.component(6))

    @property
    def organization_identifier(self) -> str:
        return self.component(10)

    def problem(self) -> str | None:
        if not self.organization_name:
            return "it has no organization name; send name^^^^^&OID&ISO^^^^id"
        authority = self.assigning_authority
        return authority.problem() if authority.universal_id else None


@dataclass(frozen=True, slots=True)
class XTN(_Typed):
    """Extended telecommunication number: `^^Internet^address` or `^^PH^^country^area^number`."""

    @property
    def equipment_type(self) -> str:
        return self.component(3)

    @property
    def email_address(self) -> str:
        return self.component(4)

    def problem(self) -> str | None:
        if not any(self.text.split("^")):
            return "it is empty; send ^^Internet^name@example.org or ^^PH^^countryCode^areaCode^number"
        if self.equipment_type in ("Internet", "X.400") and not self.email_address:
            return "it has no address (component 4); send ^^Internet^name@example.org"
        return None


@dataclass(frozen=True, slots=True)
class DTM(_Typed):
    """Date and time in UTC, `YYYY[MM[DD[hh[mm[ss]]]]]`: as exact as the source knew it.

    It stands for an interval: `first` and `last` are its first and last second, as 14 digits.
    """

    def problem(self) -> str | None:
        if not _DTM_PATTERN.fullmatch(self.text) or len(self.text) not in _DTM_LENGTHS:
            return f"{self.text!r} is not a time; send YYYY[MM[DD[hh[mm[ss]]]]] in UTC, without a zone"
        year, month, day = int(self.text[:4]), int(self.text[4:6] or 1), int(self.text[6:8] or 1)
        if year == 0 or not 1 <= month <= 12 or not 1 <= day <= calendar.monthrange(year, month)[1]:
            return f"{self.text!r} names a day that does not exist"
        if int(self.text[8:10] or 0) > 23 or int(self.text[10:12] or 0) > 59 or int(self.text[12:14] or 0) > 59:
            return f"{self.text!r} names a time of day that does not exist"
        return None

    @property
    def first(self) -> str:
        """The first second of the interval, 14 digits. Only for a DTM without problem()."""
        return self.text + "00000101000000"[len(self.text) :]

    @property
    def last(self) -> str:
        """The last second of the interval, 14 digits. Only for a DTM without problem()."""
        text = self.text
        if len(text) == 4:
            text += "12"
        if len(text) == 6:
            text += f"{calendar.monthrange(int(text[:4]), int(text[4:6]))[1]:02}"
        return text + "00000000235959"[len(text) :]
