"""Metadata -> ebRIM 3.0 elements (ITI TF-3: 4.2), by joining strings.

An element is written once, when its object is registered, and joined into answers from then on. It uses the prefix
`rim`, which whatever encloses it declares. Children stand in the order of the schema.

The ids of Classifications and ExternalIdentifiers are made from the entryUUID, so that they are unique wherever their
object is and the same whenever it is written; what sources send there is often used twice, or no UUID at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha1
from itertools import count
from typing import Any, Final

from xds.actors import ObjectCodec
from xds.ebxml_names import (
    ASSOCIATION_TYPE,
    AUTHOR_SLOTS,
    CLASSIFICATION_TYPE,
    CODING_SCHEME,
    EXTERNAL_IDENTIFIER_TYPE,
    REGISTRY_PACKAGE_TYPE,
    SPELLINGS,
    IdentifierRow,
    SlotRow,
    Spelling,
)
from xds.ebxml_reader import read_rendering
from xds.metadata import (
    AnyObject,
    Association,
    Author,
    Classification,
    Code,
    DocumentEntry,
    ExternalIdentifier,
    InternationalString,
    LocalizedString,
    Slot,
    SubmissionSet,
)
from xds.metadata_names import is_uuid_urn

LONGEST_PIECE: Final = 250
"""Characters of a value that is cut into pieces; with its number a piece fits into a Value (256)."""


def written(item: AnyObject) -> bytes:
    """The object's ebRIM element as UTF-8, without a declaration of the prefix `rim`.

    Raises ValueError for text that XML 1.0 can not carry.
    """
    spelling = SPELLINGS[item.kind]
    object_id = escaped(item.entry_uuid)
    nested_ids = _nested_ids(item.entry_uuid)
    content = [
        f"<rim:{spelling.element}{_attributes(item, object_id)}>",
        _slots_of(item, spelling.slots),
        _slots(item.extra_slots),
        _international_string("Name", item.title),
        _international_string("Description", item.comments),
        _version_info(item),
        *_classifications(item, spelling, object_id, nested_ids),
        *_identifiers(item, spelling, object_id, nested_ids),
        f"</rim:{spelling.element}>",
    ]
    return "".join(content).encode()


class _EbxmlCodec:
    """Registry objects as ebRIM elements."""

    def written(self, item: AnyObject) -> bytes:
        return written(item)

    def read(self, rendering: bytes) -> AnyObject:
        return read_rendering(rendering)


codec: Final[ObjectCodec] = _EbxmlCodec()


# ----------------------------------------------------------------------------------------------------- characters

_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
_TO_ESCAPE: Final = re.compile('[&<>"\x00-\x1f\ud800-\udfff\ufffe\uffff]')


def escaped(text: str) -> str:
    """Text for the content of an element or for an attribute in double quotes.

    Raises ValueError for characters that XML 1.0 does not have.
    """
    if text.isprintable() and "<" not in text and ">" not in text and '"' not in text:
        return text.replace("&", "&amp;")  # nearly all text; several times faster than the expression
    return _TO_ESCAPE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character not in _ESCAPES:
        raise ValueError(f"the character U+{ord(character):04X} can not be written in XML 1.0; leave it out")
    return _ESCAPES[character]


def legible(text: str) -> str:
    """The text with U+FFFD in place of what XML 1.0 does not have: for sentences about what somebody sent."""
    return _TO_ESCAPE.sub(lambda match: match[0] if match[0] in _ESCAPES else "\ufffd", text)


def attribute(name: str, value: str | None) -> str:
    """An XML attribute with a blank before it, or nothing where there is no value."""
    return "" if value is None else f' {name}="{escaped(value)}"'


def _nested_ids(entry_uuid: str) -> Iterator[str]:
    """Ids for what is nested in an object: UUIDs in an object that has one, symbols in one that has a symbol."""
    if not is_uuid_urn(entry_uuid):
        return (f"{escaped(entry_uuid)}.{number}" for number in count(1))
    digest = sha1(entry_uuid.encode(), usedforsecurity=False).hexdigest()
    # The layout of a UUID made from a name (RFC 9562, version 5); the last 16 bits count.
    head = f"urn:uuid:{digest[:8]}-{digest[8:12]}-5{digest[12:15]}-8{digest[15:18]}-{digest[18:26]}"
    return (f"{head}{number:04x}" for number in count(1))


# ------------------------------------------------------------------------------------------- the object's own parts


def _attributes(item: AnyObject, object_id: str) -> str:
    common = (
        f' id="{object_id}"{attribute("lid", item.logical_id)}{attribute("home", item.home_community_id)}'
        f"{attribute('status', item.availability_status)}"
    )
    if isinstance(item, DocumentEntry):
        return (
            f"{common}{attribute('objectType', item.object_type)}{attribute('mimeType', item.mime_type)}"
            f"{attribute('isOpaque', item.is_opaque)}"
        )
    if isinstance(item, Association):
        return (
            f'{common} objectType="{ASSOCIATION_TYPE}" associationType="{escaped(item.association_type)}"'
            f' sourceObject="{escaped(item.source_object)}" targetObject="{escaped(item.target_object)}"'
        )
    return f'{common} objectType="{REGISTRY_PACKAGE_TYPE}"'


def _version_info(item: AnyObject) -> str:
    if item.version is None and item.version_comment is None:
        return ""
    return f"<rim:VersionInfo{attribute('versionName', item.version)}{attribute('comment', item.version_comment)}/>"


def _international_string(name: str, strings: InternationalString) -> str:
    if not strings:
        return ""
    localized = "".join([_localized_string(each) for each in strings])
    return f"<rim:{name}>{localized}</rim:{name}>"


def _localized_string(text: LocalizedString) -> str:
    if text.language is None and text.charset is None:
        return f'<rim:LocalizedString value="{escaped(text.value)}"/>'
    qualifiers = f"{attribute('xml:lang', text.language)}{attribute('charset', text.charset)}"
    return f'<rim:LocalizedString{qualifiers} value="{escaped(text.value)}"/>'


def _slots_of(owner: Any, rows: Iterable[SlotRow]) -> str:
    """The Slots of those attributes that the owner has."""
    slots = []
    for row in rows:
        value = getattr(owner, row.attribute)
        if value is None or value == ():
            continue
        values = value if row.several else (value,)
        texts = values if row.value_type is str else [each.text for each in values]
        slots.append(slot_element(row.slot, _pieces(texts[0]) if row.indexed else texts))
    return "".join(slots)


def _pieces(value: str) -> Sequence[str]:
    if len(value) <= LONGEST_PIECE:
        return (value,)
    starts = range(0, len(value), LONGEST_PIECE)
    return [f"{number}|{value[start : start + LONGEST_PIECE]}" for number, start in enumerate(starts, 1)]


def _slots(slots: tuple[Slot, ...]) -> str:
    return "".join(
        [slot_element(escaped(each.name), each.values, attribute("slotType", each.slot_type)) for each in slots]
    )


def slot_element(name: str, values: Sequence[str], slot_type: str = "") -> str:
    """A Slot; name and slot_type (an XML attribute) are escaped already, the values are not."""
    if len(values) == 1:
        listed = f"<rim:Value>{escaped(values[0])}</rim:Value>"
    else:
        listed = "".join([f"<rim:Value>{escaped(each)}</rim:Value>" for each in values])
    return f'<rim:Slot name="{name}"{slot_type}><rim:ValueList>{listed}</rim:ValueList></rim:Slot>'


# ------------------------------------------------------------------------- classifications and external identifiers


def _classifications(item: AnyObject, spelling: Spelling, object_id: str, nested_ids: Iterator[str]) -> Iterator[str]:
    tail = f'classifiedObject="{object_id}" objectType="{CLASSIFICATION_TYPE}"'
    if isinstance(item, DocumentEntry | SubmissionSet):
        for author in item.author:
            yield _author(author, f'<rim:Classification id="{next(nested_ids)}" {tail}', str(spelling.author_scheme))
    for row in spelling.codes:
        value = getattr(item, row.attribute)
        for code in value if row.several else (value,):
            if code is not None:
                yield _code(code, f'<rim:Classification id="{next(nested_ids)}" {tail}', row.scheme)
    for node in _nodes(item, spelling):
        yield f'<rim:Classification id="{next(nested_ids)}" {tail} classificationNode="{node}"/>'
    for extra in item.extra_classifications:
        yield _classification(extra, f'<rim:Classification id="{next(nested_ids)}" {tail}')


def _nodes(item: AnyObject, spelling: Spelling) -> Iterator[str]:
    if spelling.kind_node:
        yield spelling.kind_node
    if spelling.limited_metadata_node and not isinstance(item, Association) and item.limited_metadata:
        yield spelling.limited_metadata_node


def _author(author: Author, head: str, scheme: str) -> str:
    return (
        f'{head} classificationScheme="{scheme}">'
        f"{_slots_of(author, AUTHOR_SLOTS)}{_slots(author.extra_slots)}</rim:Classification>"
    )


def _code(code: Code, head: str, scheme: str) -> str:
    coding_scheme = "" if code.coding_scheme is None else slot_element(CODING_SCHEME, (code.coding_scheme,))
    return (
        f'{head} classificationScheme="{scheme}"{attribute("nodeRepresentation", code.code)}>{coding_scheme}'
        f"{_slots(code.extra_slots)}{_international_string('Name', code.display_name)}</rim:Classification>"
    )


def _classification(extra: Classification, head: str) -> str:
    return (
        f"{head}{attribute('classificationScheme', extra.classification_scheme)}"
        f"{attribute('classificationNode', extra.classification_node)}"
        f"{attribute('nodeRepresentation', extra.node_representation)}>"
        f"{_slots(extra.slots)}{_international_string('Name', extra.name)}"
        f"{_international_string('Description', extra.description)}</rim:Classification>"
    )


def _identifiers(item: AnyObject, spelling: Spelling, object_id: str, nested_ids: Iterator[str]) -> Iterator[str]:
    tail = f'registryObject="{object_id}" objectType="{EXTERNAL_IDENTIFIER_TYPE}"'
    for row in spelling.identifiers:
        if (value := getattr(item, row.attribute)) is not None:
            head = f'<rim:ExternalIdentifier id="{next(nested_ids)}" {tail}'
            yield _identifier(row, value if row.value_type is str else value.text, head)
    for extra in item.extra_identifiers:
        yield _extra_identifier(extra, f'<rim:ExternalIdentifier id="{next(nested_ids)}" {tail}')


def _identifier(row: IdentifierRow, value: str, head: str) -> str:
    return (
        f'{head} identificationScheme="{row.scheme}" value="{escaped(value)}"><rim:Name>'
        f'<rim:LocalizedString value="{row.name}"/></rim:Name></rim:ExternalIdentifier>'
    )


def _extra_identifier(extra: ExternalIdentifier, head: str) -> str:
    return (
        f'{head} identificationScheme="{escaped(extra.identification_scheme)}" value="{escaped(extra.value)}">'
        f"{_slots(extra.slots)}{_international_string('Name', extra.name)}"
        f"{_international_string('Description', extra.description)}</rim:ExternalIdentifier>"
    )
