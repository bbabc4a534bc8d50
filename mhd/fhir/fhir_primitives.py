"""What FHIR's primitive values look like (FHIR R4: datatypes.html#primitive)."""

from __future__ import annotations

import base64
import binascii
import calendar
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

_NO_XML_CHARACTER: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_DATE: Final = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:\.\d{1,9})?(Z|[+-](?:(?:0\d|1[0-3]):[0-5]\d|14:00)))?)?)?",
    re.ASCII,
)
_BASE_64: Final = re.compile(r"[0-9A-Za-z+/=\s]*", re.ASCII)
_BLANKS: Final = " \t\n\r\f\v"
_PIECE: Final = 1024 * 1024
_URI_CHARACTERS: Final = re.compile(r"\S+")

Problem = Callable[[Any], str | None]
"""What is wrong with a value, as the end of a sentence that begins with its name, or None."""


def _matching(pattern: str, send: str) -> Problem:
    matches = re.compile(pattern, re.ASCII).fullmatch

    def problem(value: Any) -> str | None:
        if not isinstance(value, str):
            return f"is {_kind(value)}; send {send}"
        if _NO_XML_CHARACTER.search(value):
            return "has a control character, which XML can not carry; leave it out"
        return None if matches(value) else f"is {_shown(value)}; send {send}"

    return problem


def _string(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"is {_kind(value)}; send a text"
    if not value:
        return "is empty; send a text, or leave it out"
    if _NO_XML_CHARACTER.search(value):
        return "has a control character, which XML can not carry; leave it out"
    return None


def _date_problem(value: Any, send: str, shortest: int, longest: int) -> str | None:
    """shortest and longest: how many of year, month, day and time there have to be."""
    if not isinstance(value, str):
        return f"is {_kind(value)}; send {send}"
    match = _DATE.fullmatch(value)
    if match is None or not shortest <= sum(each is not None for each in match.group(1, 2, 3, 4)) <= longest:
        return f"is {_shown(value)}; send {send}"
    wrong = _impossible(*(None if each is None else int(each) for each in match.group(1, 2, 3, 4, 5, 6)))
    return f"is {_shown(value)}, which names {wrong}" if wrong else None


def _impossible(
    year: int | None, month: int | None, day: int | None, hour: int | None, minute: int | None, second: int | None
) -> str | None:
    if (year or 0) < 1000:
        return "a year before 1000"
    if month is not None and not 1 <= month <= 12:
        return "a month that does not exist"
    if day is not None and not 1 <= day <= calendar.monthrange(year or 0, month or 0)[1]:
        return "a day that does not exist"
    if hour is not None and (hour > 23 or (minute or 0) > 59 or (second or 0) > 59):
        return "a time of day that does not exist"
    return None


def _date_time(value: Any) -> str | None:
    return _date_problem(value, "YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a zone such as +02:00", 1, 4)


def _date(value: Any) -> str | None:
    return _date_problem(value, "YYYY, YYYY-MM or YYYY-MM-DD", 1, 3)


def _instant(value: Any) -> str | None:
    return _date_problem(value, "YYYY-MM-DDThh:mm:ss with a zone such as +02:00", 4, 4)


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"is {_kind(value)}; send true or false"


def _whole(least: int, most: int) -> Problem:
    def problem(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"is {_kind(value)}; send a whole number"
        return None if least <= value <= most else f"is {value}; send a whole number from {least} to {most}"

    return problem


def _decimal(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return f"is {_kind(value)}; send a number"
    return None if Decimal(str(value)).is_finite() else "is no number that JSON has"


def decoded_base_64(text: str) -> bytes | None:
    """The octets, or None where it is not base64. White space in between is nothing."""
    if not _BASE_64.fullmatch(text):
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        return None


def _base_64_binary(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"is {_kind(value)}; send base64"
    if not value or value.isspace():
        return "is empty; send base64, or leave it out"
    return None if _is_base_64(value) else "is not base64; send the octets as base64"


def _is_base_64(text: str) -> bool:
    """As decoded_base_64, without holding the octets of a document, or another copy of its text."""
    rest, is_padded = "", False
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE]
        if any(blank in piece for blank in _BLANKS):
            piece = piece.translate(dict.fromkeys(map(ord, _BLANKS)))
        piece = rest + piece
        if piece and is_padded:
            return False
        whole = len(piece) - len(piece) % 4
        if not _is_strict_base_64(piece[:whole]):
            return False
        rest, is_padded = piece[whole:], is_padded or piece[:whole].endswith("=")
    return not rest


def _is_strict_base_64(text: str) -> bool:
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # not ASCII, or binascii.Error
        return False
    return True


def _uri(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"is {_kind(value)}; send a URI"
    if not _URI_CHARACTERS.fullmatch(value) or _NO_XML_CHARACTER.search(value):
        return f"is {_shown(value)}; send a URI without blanks"
    return None


def _narrative(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"is {_kind(value)}; send XHTML as a text"
    return None if value.lstrip().startswith("<div") else "is no XHTML; send a <div> element"


_MAX: Final = 2**31 - 1
PRIMITIVES: Final[Mapping[str, Problem]] = {
    "base64Binary": _base_64_binary,
    "boolean": _boolean,
    "canonical": _uri,
    "code": _matching(r"[^\s]+( [^\s]+)*", "a code: no blanks around it, single ones in it"),
    "date": _date,
    "dateTime": _date_time,
    "decimal": _decimal,
    "id": _matching(r"[A-Za-z0-9.-]{1,64}", "1 to 64 letters, digits, - and ."),
    "instant": _instant,
    "integer": _whole(-_MAX - 1, _MAX),
    "markdown": _string,
    "oid": _matching(r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+", "urn:oid: and an OID"),
    "positiveInt": _whole(1, _MAX),
    "string": _string,
    "time": _matching(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?", "hh:mm:ss"),
    "unsignedInt": _whole(0, _MAX),
    "uri": _uri,
    "url": _uri,
    "uuid": _matching(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "urn:uuid: and a UUID in lower case"),
    "xhtml": _narrative,
}

_SHOWN: Final = 60
_KINDS: Final[Mapping[type, str]] = {
    str: "a text", bool: "true or false", int: "a number", float: "a number", Decimal: "a number", dict: "an object",
    list: "a list", type(None): "null",
}  # fmt: skip


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)
