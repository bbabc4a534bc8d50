"""How registry objects, attributes and values are called in sentences and locations of errors."""

from __future__ import annotations

import re

from xds.metadata import AnyObject

_SHOWN = 80
_UUID_URN = re.compile("[uU][rR][nN]:[uU]{2}[iI][dD]:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_IRREGULAR_TERMS = {
    "entry_uuid": "entryUUID",
    "logical_id": "logicalID",
    "uri": "URI",
    "extra_slots": "Slot",
    "extra_classifications": "Classification",
    "extra_identifiers": "ExternalIdentifier",
}


def term(attribute: str) -> str:
    """The standard's spelling of an attribute of xds/metadata.py: `class_code` is classCode."""
    if attribute in _IRREGULAR_TERMS:
        return _IRREGULAR_TERMS[attribute]
    first, *others = attribute.split("_")
    return first + "".join(other.capitalize() for other in others)


def named(item: AnyObject) -> str:
    """An object in a sentence."""
    return f"{item.kind} {item.entry_uuid}"


def location(item: AnyObject, attribute: str) -> str:
    """RegistryError.location of an attribute of an object."""
    return f"{item.entry_uuid}/{term(attribute)}"


def shown(text: str) -> str:
    """A value in a sentence: quoted, and cut where it is long."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."


def is_uuid_urn(text: str) -> bool:
    return _UUID_URN.fullmatch(text) is not None


def canonical_id(object_id: str) -> str:
    """An id as the registry compares it: UUIDs without regard to case, symbolic ids as they are."""
    lower = object_id.lower()  # nearly always the same, and then nothing is left to decide
    return lower if lower != object_id and is_uuid_urn(object_id) else object_id
