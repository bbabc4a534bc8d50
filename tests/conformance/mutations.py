"""What goes wrong with messages on their way: small changes of XML, of JSON, of MIME headers and of bytes.

A change names no element: it has numbers, which are taken modulo whatever there is. So hypothesis draws it without
knowing the message, and makes it smaller without losing it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from lxml import etree

_T = TypeVar("_T")

_LONG: Final[Mapping[str, str]] = {
    "257 x": "x" * 257,
    "70000 x": "x" * 70_000,
    "5000 ^": "^" * 5_000,
    "500 values": "('" + "','".join("x" * 500) + "')",
    "5000 nines": "9" * 5_000,
}
"""Long values by name."""

ODD_VALUES: Final[Sequence[str]] = (
    "", " ", "\t\n ", "0", "-1", "1e999", "99999999999999999999999999", "NaN", "null", "true", "%s%n{0}${x}",
    "'", "('", "')", "''", "('a','b')", "('a'", "\"", "<", "]]>", "&amp;", "\\", "|", "^", "^^^&&", "^^^&1.2.3&ISO",
    "1.2.3", "1..2", "0.1.2", "urn:oid:", "urn:uuid:", "urn:uuid:xyz", "urn:uuid:00000000-0000-0000-0000-000000000000",
    "../../../etc/passwd", "http://127.0.0.1:1/", "file:///etc/passwd", "cid:", "cid:%", "cid:%ZZ@", "#", "%", "%00",
    "2026", "20261399", "20260230", "2026031410150000", "2026-03-14T10:15:00Z", "0001-01-01T00:00:00Z", "24:00",
    "\u0130\u0131\u00df", "e\u0301", "\u202egnihton", "\u200b", "\ufeff", "\ufffd", "\U0001f600", "\u0085", "\u2028",
    "\u0660\u0661", "\u00b2", "\U000e0041", "Original", "Reference", "text/plain", "application/xop+xml",
    *_LONG,
)  # fmt: skip
_ODD_NAMES: Final = ("Slot", "ValueList", "x", "Envelope", "Body", "\u00e9", "ObjectRef", "RegistryPackage", "Include")
_ODD_NAMESPACES: Final = ("", "urn:nobody", "http://www.w3.org/2004/08/xop/include", "http://hl7.org/fhir")
_ODD_HEADERS: Final = (
    "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: quoted-printable", "Content-Transfer-Encoding:",
    "Content-ID: ", "Content-ID: <>", "Content-ID: <" + "x" * 3_000 + ">", "Content-Type: text/html", "Content-Type:",
    "Content-Type: application/xop+xml; charset=utf-7", "no colon at all", ": no name", "X-Long: " + "y" * 9_000,
    "Content-ID: \u00e9", "Content-Length: 5", "\x00: \x00",
)  # fmt: skip
_ODD_MEDIA_TYPES: Final = (
    "", "text/html", "text/xml", "application/xml", "*/*", ";", "multipart/related", "multipart/related; boundary=",
    'multipart/related; boundary="x"; type="application/xop+xml"; start="<nobody>"', "multipart/form-data; boundary=x",
    "application/fhir+json; charset=utf-16", "application/fhir+xml", "application/fhir+json", "application/json",
    'application/soap+xml; action="urn:nobody"', 'application/soap+xml; charset="utf-7"', "application/soap+xml; a=\"",
)  # fmt: skip
_ODD_JSON: Final[Sequence[Any]] = (
    None, True, 0, -1, 1e300, 10**40, "", [], {}, [[]], [None], {"value": 1}, {"resourceType": "Patient"}, [{}] * 500,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    where, other   which of all that could be changed, and what else takes part
    value          what is said instead, or the name of it where it is long
    """

    how: str
    where: int
    other: int
    value: str

    @property
    def text(self) -> str:
        return long_text(self.value)


def long_text(value: str) -> str:
    """What a value of ODD_VALUES stands for: long ones have names, because examples are printed."""
    return _LONG.get(value, value)


def changes(hows: Iterable[str]) -> SearchStrategy[list[Change]]:
    """A few changes of these kinds."""
    number = st.integers(0, 9_999)
    each = st.builds(Change, st.sampled_from(sorted(hows)), number, number, st.sampled_from(ODD_VALUES) | st.text())
    return st.lists(each, min_size=1, max_size=4)


def _one(things: Sequence[_T], number: int) -> _T:
    return things[number % len(things)]


# XML -----------------------------------------------------------------------------------------------------------------


def _for_xml(text: str) -> str:
    """What of a text can be written in XML."""
    return "".join(each for each in text if each in "\t\n\r" or " " <= each <= "\ud7ff" or "\ue000" <= each <= "\ufffd"
                   or each >= "\U00010000")  # fmt: skip


def _drop(element: etree._Element, change: Change, root: etree._Element) -> None:
    if (parent := element.getparent()) is not None:
        parent.remove(element)


def _repeat(element: etree._Element, change: Change, root: etree._Element) -> None:
    if (parent := element.getparent()) is not None:
        for _ in range(_one((1, 1, 2, 300), change.other)):
            parent.insert(parent.index(element), deepcopy(element))


def _move(element: etree._Element, change: Change, root: etree._Element) -> None:
    target = _one([each for each in root.iter(etree.Element) if not _contains(element, each)] or [root], change.other)
    if element.getparent() is not None:
        target.insert(change.other % (len(target) + 1), element)


def _contains(element: etree._Element, other: etree._Element) -> bool:
    return element is other or any(each is element for each in other.iterancestors())


def _rename(element: etree._Element, change: Change, root: etree._Element) -> None:
    name = etree.QName(element)
    local, namespace = _one((*_ODD_NAMES, name.localname), change.other), _one(
        (*_ODD_NAMESPACES, *[name.namespace or ""] * 4), change.where
    )  # fmt: skip
    element.tag = f"{{{namespace}}}{local}" if namespace else local


def _text(element: etree._Element, change: Change, root: etree._Element) -> None:
    element.text = _for_xml(change.text)


def _nest(element: etree._Element, change: Change, root: etree._Element) -> None:
    for _ in range(_one((1, 3, 300), change.other)):
        element = etree.SubElement(element, element.tag)


def _insert(element: etree._Element, change: Change, root: etree._Element) -> None:
    kinds = (etree.Comment("a comment"), etree.ProcessingInstruction("php", "exit"), etree.Element("{urn:nobody}x"))
    element.insert(change.other % (len(element) + 1), _one(kinds, change.other))


def _exchange(element: etree._Element, change: Change, root: etree._Element) -> None:
    other = _one(list(root.iter(etree.Element)), change.other)
    element.text, other.text = other.text, element.text


def _attribute(element: etree._Element, change: Change, root: etree._Element) -> None:
    """Of the attributes of all elements: drop, rename or set one."""
    named = [each for each in root.iter(etree.Element) if each.attrib]
    element = _one(named or [element], change.where)
    name = _one(sorted(map(str, element.attrib)) or ["id"], change.other)
    before = element.attrib.pop(name, "")
    match change.other % 4:
        case 0:
            pass
        case 1:
            element.set(_one(("id", "value", "name", "{urn:nobody}x"), change.where), before)
        case _:
            element.set(name, _for_xml(change.text))


_XML: Final[Mapping[str, Callable[[etree._Element, Change, etree._Element], None]]] = {
    "drop": _drop, "repeat": _repeat, "move": _move, "rename": _rename, "text": _text, "nest": _nest,
    "insert": _insert, "exchange": _exchange, "attribute": _attribute,
}  # fmt: skip
XML: Final = frozenset(_XML)


def changed_xml(message: bytes, sequence: Iterable[Change]) -> bytes:
    """The same XML with those of the changes that are for XML; at least as well-formed as before."""
    root = etree.fromstring(message)
    for change in sequence:
        if change.how in _XML:
            _XML[change.how](_one(list(root.iter(etree.Element)), change.where), change, root)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


# JSON ----------------------------------------------------------------------------------------------------------------


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every member of every object and array, as (object or array, name or index)."""
    found: list[tuple[Any, Any]] = []
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        found.append((value, name))
        found += _places(member)
    return found


def _changed_member(holder: Any, name: Any, change: Change, places: Sequence[tuple[Any, Any]]) -> None:
    match change.how:
        case "json drop":
            del holder[name]
        case "json value":
            holder[name] = deepcopy(_one((change.text, *_ODD_JSON), change.other))
        case "json array":
            holder[name] = [holder[name]] * _one((1, 2, 100), change.other)
        case "json rename" if isinstance(holder, dict):
            holder[_one((change.value[:50], f"_{name}", "id", "resourceType"), change.other)] = holder.pop(name)
        case "json nest":
            for _ in range(_one((1, 3, 30), change.other)):
                holder[name] = {"extension": [{"url": "urn:nobody", "x": holder[name]}]}
        case "json copy":
            other, there = _one(places, change.other)
            if isinstance(other, dict) or there < len(other):
                holder[name] = deepcopy(other.get(there) if isinstance(other, dict) else other[there])
        case _:
            pass


JSON: Final = frozenset({"json drop", "json value", "json array", "json rename", "json nest", "json copy"})


def changed_json(message: bytes, sequence: Iterable[Change]) -> bytes:
    """The same JSON with those of the changes that are for JSON; it is JSON still."""
    whole = {"": json.loads(message)}
    for change in sequence:
        places = _places(whole)
        if change.how in JSON and places:
            _changed_member(*_one(places, change.where), change, places)
    return json.dumps(whole.get("")).encode("utf-8", "surrogatepass")


# MIME headers and bytes ----------------------------------------------------------------------------------------------

MEDIA_TYPE: Final = frozenset({"media type", "boundary"})


def changed_media_type(media_type: str, sequence: Iterable[Change]) -> str:
    """The same with the changes that are for the Content-Type of the whole message."""
    for change in sequence:
        if change.how == "media type":
            media_type = _one(_ODD_MEDIA_TYPES, change.other)
        elif change.how == "boundary":
            at = change.where % (len(media_type) + 1)
            media_type = media_type[:at] + media_type[at + 1 + _one(_SMALL, change.other) :]
    return media_type


_HEADER: Final = re.compile(rb"^(?:--|[A-Za-z-]+:).*$", re.MULTILINE)
HEADERS: Final = frozenset({"header drop", "header change", "header add"})
BYTES: Final = frozenset({"truncate", "flip", "cut", "insert bytes", "again"})
_SMALL: Final = (0, 1, 2, 7, 60)


def changed_bytes(message: bytes, sequence: Iterable[Change]) -> bytes:
    """The same with the changes that are for lines of headers, and for bytes."""
    for change in sequence:
        at = change.where * max(1, len(message) // 10_000) % (len(message) + 1)
        if change.how in HEADERS:
            message = _changed_header(message, change)
            continue
        match change.how:
            case "truncate":
                message = message[:at]
            case "flip" if message:
                at %= len(message)
                message = message[:at] + bytes([message[at] ^ (1 + change.other % 255)]) + message[at + 1 :]
            case "cut":
                message = message[:at] + message[at + 1 + _one(_SMALL, change.other) :]
            case "insert bytes":
                odd = (
                    b"\x00",
                    b"\xff\xfe",
                    b"\r\n",
                    b"\r\n--",
                    b"<!DOCTYPE a>",
                    b"&x;",
                    b"\xc3",
                    b"<![CDATA[",
                    b"{",
                    b"[" * 5_000,
                    b"<a>" * 500,
                )
                message = message[:at] + _one(odd, change.other) + message[at:]
            case "again":
                message = message[:at] + message[at : at + 40 * _one(_SMALL, change.other)] + message[at:]
            case _:
                pass
    return message


def _changed_header(message: bytes, change: Change) -> bytes:
    lines = list(_HEADER.finditer(message))
    if not lines:
        return message
    line = _one(lines, change.where)
    odd = _one((*_ODD_HEADERS, change.value), change.other).encode("utf-8", "surrogatepass")
    match change.how:
        case "header drop":
            odd, start = b"", line.start()
        case "header change":
            start = line.start()
        case _:
            odd, start = b"\n" + odd, line.end()
    return message[:start] + odd + message[line.end() :]
