"""Components of HL7 v2 data types and the text in them (HL7 v2.5: 2.7.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from mhd.mapping.code_systems import CodeSystems
from xds.hl7v2 import HD, is_oid

_ESCAPES: Final = {"|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\\": "\\E\\"}
_CHARACTERS: Final = {escape: character for character, escape in _ESCAPES.items()}
_TO_ESCAPE: Final = re.compile(r"[\\|^&~]")
_ESCAPED: Final = re.compile(r"\\[FSTRE]\\")

URN_OID: Final = "urn:oid:"


def escaped(text: str) -> str:
    """Text for a component: the delimiters of HL7 v2 as its escapes."""
    return _TO_ESCAPE.sub(lambda match: _ESCAPES[match[0]], text)


def unescaped(text: str) -> str:
    """The text of a component."""
    return _ESCAPED.sub(lambda match: _CHARACTERS[match[0]], text) if "\\" in text else text


def components(text: str, number: int) -> list[str]:
    """The first `number` components, unescaped; "" for those that were not sent."""
    parts = [unescaped(each) for each in text.split("^")]
    return [*parts[:number], *[""] * (number - len(parts))]


def joined(parts: Iterable[str]) -> str:
    """Components as one text, without the delimiters at its end."""
    return "^".join(parts).rstrip("^")


def authority_system(authority: HD, systems: CodeSystems) -> str | None:
    """The system of an Identifier for an assigning authority."""
    return systems.uri_of(authority.universal_id) if is_oid(authority.universal_id) else None


def authority_of(system: str, systems: CodeSystems) -> str | None:
    """`&OID&ISO` for the system of an Identifier; None where it is no OID and has none."""
    oid = systems.oid_of(system)
    return f"&{oid}&ISO" if oid else None
