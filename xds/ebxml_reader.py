"""ebRIM 3.0 elements -> metadata (ITI TF-3: 4.2).

Reading judges nothing. It only tells, as findings, what the classes of xds/metadata.py have no place for: an attribute
that was sent twice, a code that names another object, a package that is neither SubmissionSet nor Folder. What is
merely unknown is kept in `extra_*`. Not kept are: the ids of Classifications and ExternalIdentifiers, slotType of
Slots that the standard defines, and Names of ExternalIdentifiers that the standard gives itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from lxml.etree import QName, _Element

from xds.ebxml_names import (
    ASSOCIATION,
    AUTHOR_SLOTS_BY_NAME,
    CODING_SCHEME,
    DOCUMENT_ENTRY,
    FOLDER,
    PACKAGE_NODES,
    RIM,
    SHORT_ASSOCIATION_TYPES,
    SUBMISSION_SET,
    XML_LANG,
    SlotRow,
    Spelling,
)
from xds.errors import ErrorCode, Finding, Severity
from xds.hl7v2 import is_oid
from xds.metadata import (
    AnyObject,
    Association,
    Author,
    Classification,
    Code,
    DocumentEntry,
    ExternalIdentifier,
    Folder,
    InternationalString,
    LocalizedString,
    ObjectKind,
    Slot,
    Submission,
    SubmissionSet,
)
from xds.metadata_names import canonical_id, shown, term
from xds.xml import parse

_REGISTRY_OBJECT_LIST: Final = f"{{{RIM}}}RegistryObjectList"
_EXTRINSIC_OBJECT: Final = f"{{{RIM}}}ExtrinsicObject"
_REGISTRY_PACKAGE: Final = f"{{{RIM}}}RegistryPackage"
_ASSOCIATION: Final = f"{{{RIM}}}Association"
_OBJECTS: Final = frozenset((_EXTRINSIC_OBJECT, _REGISTRY_PACKAGE, _ASSOCIATION))
_OBJECT_REF: Final = f"{{{RIM}}}ObjectRef"
_CLASSIFICATION: Final = f"{{{RIM}}}Classification"
_EXTERNAL_IDENTIFIER: Final = f"{{{RIM}}}ExternalIdentifier"
_SLOT: Final = f"{{{RIM}}}Slot"
_VALUE: Final = f"{{{RIM}}}Value"
_NAME: Final = f"{{{RIM}}}Name"
_DESCRIPTION: Final = f"{{{RIM}}}Description"
_LOCALIZED_STRING: Final = f"{{{RIM}}}LocalizedString"
_VERSION_INFO: Final = f"{{{RIM}}}VersionInfo"

_term: Final = cache(term)
_XML_WHITE_SPACE: Final = " \t\r\n"
_INDEXED_VALUE: Final = re.compile(r"([0-9]{1,9})\|(.*)", re.DOTALL)

_RENDERING_HEAD: Final = f'<rim:RegistryObjectList xmlns:rim="{RIM}">'.encode()
_RENDERING_TAIL: Final = b"</rim:RegistryObjectList>"


def read_submission(submit_objects_request: _Element) -> Submission:
    """All that a SubmitObjectsRequest submits, with what could not be expressed in `findings`."""
    findings: list[Finding] = []
    objects = read_objects(submit_objects_request.find(_REGISTRY_OBJECT_LIST), findings)
    return Submission(
        submission_sets=tuple(each for each in objects if isinstance(each, SubmissionSet)),
        document_entries=tuple(each for each in objects if isinstance(each, DocumentEntry)),
        folders=tuple(each for each in objects if isinstance(each, Folder)),
        associations=tuple(each for each in objects if isinstance(each, Association)),
        findings=tuple(findings),
    )


def read_object(element: _Element) -> AnyObject:
    """The object that one ebRIM element stands for, as a registry gave it.

    Raises ValueError where the element is none of the four kinds.
    """
    found = _read(element, (), (), [])
    if found is None:
        raise ValueError(f"a {QName(element).localname} is no DocumentEntry, SubmissionSet, Folder or Association")
    return found


def read_rendering(rendering: bytes) -> AnyObject:
    """The object that xds.ebxml_writer.written made these bytes of."""
    return read_object(parse(_RENDERING_HEAD + rendering + _RENDERING_TAIL)[0])


def read_objects(registry_object_list: _Element | None, findings: list[Finding]) -> list[AnyObject]:
    """The objects of a RegistryObjectList in its order; what they can not express is added to `findings`.

    Classifications and ExternalIdentifiers of the list belong to the objects that they name; ObjectRefs mean nothing
    here (ITI TF-3: 4.2.1).
    """
    elements: list[_Element] = []
    classifications: dict[str, list[_Element]] = {}
    identifiers: dict[str, list[_Element]] = {}
    for element in registry_object_list if registry_object_list is not None else ():
        tag = element.tag
        if tag in _OBJECTS:
            elements.append(element)
        elif tag == _CLASSIFICATION:
            classifications.setdefault(_id(element, "classifiedObject"), []).append(element)
        elif tag == _EXTERNAL_IDENTIFIER:
            identifiers.setdefault(_id(element, "registryObject"), []).append(element)
        elif isinstance(tag, str) and tag != _OBJECT_REF:
            findings.append(_unknown_element(element))
    objects = []
    for element in elements:
        object_id = _id(element, "id")
        found = _read(element, classifications.pop(object_id, ()), identifiers.pop(object_id, ()), findings)
        if found is not None:
            objects.append(found)
    findings.extend(_without_object("Classification", "classifiedObject", each) for each in classifications)
    findings.extend(_without_object("ExternalIdentifier", "registryObject", each) for each in identifiers)
    return objects


def _unknown_element(element: _Element) -> Finding:
    name = QName(element).localname
    return Finding(
        f"{name} {element.get('id', '')} is no object of XDS and was not kept; "
        "send ExtrinsicObject, RegistryPackage and Association.",
        element.get("id", ""),
        ErrorCode.EXTRA_METADATA_NOT_SAVED,
        Severity.WARNING,
    )


def _without_object(element: str, attribute: str, object_id: str) -> Finding:
    return Finding(
        f"The {attribute} of a top-level {element} is {shown(object_id)}, the id of no object of the message; "
        "send the id of one.",
        f"{object_id}/{element}",
    )


# ------------------------------------------------------------------------------------------------- one object


@dataclass(slots=True)
class _Sender:
    """Whose metadata is read: what findings name, and where they go."""

    name: str
    object_id: str
    findings: list[Finding]

    def is_told(self, attribute: str, sentence: str) -> None:
        """Something is wrong. The sentence follows the object's name."""
        self.findings.append(Finding(f"{self.name} {self.object_id}: {sentence}", f"{self.object_id}/{attribute}"))

    def is_told_whose(self, attribute: str, reference: str, sent: str) -> None:
        """A Classification or ExternalIdentifier inside the object names another one."""
        self.is_told(attribute, f"the {reference} of its {attribute} is {shown(sent)}; send {self.object_id}.")

    def is_warned(self, attribute: str, lost: str) -> None:
        """Something has no place in XDS and is not kept."""
        self.findings.append(
            Finding(
                f"{self.name} {self.object_id}: {lost} has no place in XDS metadata and was not kept; leave it out.",
                f"{self.object_id}/{attribute}",
                ErrorCode.EXTRA_METADATA_NOT_SAVED,
                Severity.WARNING,
            )
        )


@dataclass(slots=True)
class _Parts:
    """The children of an element of RegistryObjectType, by what they are."""

    slots: list[_Element]
    name: InternationalString
    description: InternationalString
    version: _Element | None
    classifications: list[_Element]
    identifiers: list[_Element]
    others: list[_Element]


def _parts(element: _Element) -> _Parts:
    name: InternationalString = ()
    description: InternationalString = ()
    version = None
    slots, classifications, identifiers, others = [], [], [], []
    for child in element[:]:  # a slice: an iterator over the element takes three times as long
        tag = child.tag
        if tag == _SLOT:
            slots.append(child)
        elif tag == _CLASSIFICATION:
            classifications.append(child)
        elif tag == _NAME:
            name = _international_string(child)
        elif tag == _DESCRIPTION:
            description = _international_string(child)
        elif tag == _EXTERNAL_IDENTIFIER:
            identifiers.append(child)
        elif tag == _VERSION_INFO:
            version = child
        elif isinstance(tag, str):  # not a comment
            others.append(child)
    return _Parts(slots, name, description, version, classifications, identifiers, others)


_CLASSES: Final[Mapping[ObjectKind, Callable[..., AnyObject]]] = {
    ObjectKind.DOCUMENT_ENTRY: DocumentEntry,
    ObjectKind.SUBMISSION_SET: SubmissionSet,
    ObjectKind.FOLDER: Folder,
    ObjectKind.ASSOCIATION: Association,
}


def _read(
    element: _Element,
    classifications: Sequence[_Element],
    identifiers: Sequence[_Element],
    findings: list[Finding],
) -> AnyObject | None:
    """One object with what stands beside it; None for a package that is neither SubmissionSet nor Folder."""
    object_id = _id(element, "id")
    parts = _parts(element)
    parts.classifications.extend(classifications)
    parts.identifiers.extend(identifiers)
    spelling = _spelling(element, parts.classifications, object_id, findings)
    if spelling is None:
        return None
    sender = _Sender(spelling.kind, object_id, findings)
    for other in parts.others:
        sender.is_warned(QName(other).localname, f"its {QName(other).localname}")
    attributes = _xml_attributes(element, spelling, sender)
    attributes["title"] = parts.name
    attributes["comments"] = parts.description
    if parts.version is not None:
        attributes["version"] = parts.version.get("versionName")
        attributes["version_comment"] = parts.version.get("comment")
    attributes["extra_slots"] = _read_slots(parts.slots, spelling.slots_by_name, attributes, sender)
    _read_classifications(parts.classifications, spelling, attributes, sender)
    _read_identifiers(parts.identifiers, spelling, attributes, sender)
    return _CLASSES[spelling.kind](**attributes)


def _spelling(
    element: _Element, classifications: Iterable[_Element], object_id: str, findings: list[Finding]
) -> Spelling | None:
    tag = element.tag
    if tag == _EXTRINSIC_OBJECT:
        return DOCUMENT_ENTRY
    if tag == _ASSOCIATION:
        return ASSOCIATION
    if tag != _REGISTRY_PACKAGE:
        return None
    kinds = {
        PACKAGE_NODES[node].kind: PACKAGE_NODES[node]
        for each in classifications
        if (node := _id(each, "classificationNode")) in PACKAGE_NODES
    }
    if len(kinds) != 1:
        wrong = "both a SubmissionSet and a Folder" if kinds else "neither a SubmissionSet nor a Folder"
        _Sender("RegistryPackage", object_id, findings).is_told(
            "Classification",
            f"it is {wrong}; send one Classification with the classificationNode "
            f"{SUBMISSION_SET.kind_node} (SubmissionSet) or {FOLDER.kind_node} (Folder).",
        )
    return next(iter(kinds.values()), None)


def _home(sent: str | None) -> str | None:
    """A homeCommunityId is a URN; many a sender leaves its beginning out."""
    return f"urn:oid:{sent}" if sent and is_oid(sent) else sent or None


def _xml_attributes(element: _Element, spelling: Spelling, sender: _Sender) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "entry_uuid": sender.object_id,
        "logical_id": _id(element, "lid") or None,
        "home_community_id": _home(element.get("home")),
        "availability_status": element.get("status") or None,
    }
    if spelling is DOCUMENT_ENTRY:
        attributes["mime_type"] = element.get("mimeType") or None
        attributes["is_opaque"] = element.get("isOpaque") or None
        attributes["object_type"] = _id(element, "objectType") or None
    elif spelling is ASSOCIATION:
        attributes["association_type"] = _association_type(element.get("associationType", ""), sender)
        attributes["source_object"] = _id(element, "sourceObject")
        attributes["target_object"] = _id(element, "targetObject")
    return attributes


def _association_type(sent: str, sender: _Sender) -> str:
    known = SHORT_ASSOCIATION_TYPES.get(sent)
    if known is None:
        return sent
    sender.is_told("associationType", f"associationType is {shown(sent)}, as in XDS.a; send {known.value}.")
    return known.value


# ------------------------------------------------------------------------------------------ slots and their values


def read_slot(element: _Element) -> Slot:
    """A Slot as it was sent. Its name is "" where it has none."""
    return Slot(element.get("name", ""), _values(element), element.get("slotType"))


def _values(slot: _Element) -> tuple[str, ...]:
    """The values of a Slot, without the white space that pretty printing puts around them."""
    values = slot[0][:] if len(slot) == 1 else [value for value_list in slot[:] for value in value_list[:]]
    if len(values) == 1 and values[0].tag == _VALUE:
        return (element_text(values[0]).strip(_XML_WHITE_SPACE),)
    return tuple([element_text(value).strip(_XML_WHITE_SPACE) for value in values if value.tag == _VALUE])


def element_text(element: _Element) -> str:
    """The text in it. It is all there is: xds.xml.parse leaves no comments that it could be divided by."""
    return element.text or ""


def _international_string(element: _Element) -> InternationalString:
    return tuple([_localized_string(each) for each in element[:] if each.tag == _LOCALIZED_STRING])


def _localized_string(element: _Element) -> LocalizedString:
    get = element.get
    return LocalizedString(get("value", ""), get(XML_LANG), get("charset"))


def _read_slots(
    slots: Iterable[_Element],
    rows: Mapping[str, SlotRow],
    attributes: dict[str, Any],
    sender: _Sender,
    within: str = "",
) -> tuple[Slot, ...]:
    """Put what the rows know into `attributes`; the other Slots are returned.

    within   the attribute whose Slots these are, where they are not the object's own
    """
    unknown: dict[str, Slot] = {}
    for slot in slots:
        name = slot.get("name", "")
        values = _values(slot)
        row = rows.get(name)
        if not name:
            sender.is_told(within or "Slot", f"a Slot with {_listed(values)} has no name; send its name.")
        elif name in unknown or (row and row.attribute in attributes):
            sender.is_told(
                within or name,
                f"{_whose(name, within)} is repeated, with {_listed(values, row)}; send one Slot with all its values.",
            )
        elif row is None:
            unknown[name] = Slot(name, values, slot.get("slotType"))
        elif row.several:
            make = row.value_type
            attributes[row.attribute] = values if make is str else tuple([make(each) for each in values])
        else:
            value = _single_value(values, row, sender, within)
            attributes[row.attribute] = value and row.value_type(value)
    return tuple(unknown.values())


def _single_value(values: tuple[str, ...], row: SlotRow, sender: _Sender, within: str) -> str | None:
    if len(values) == 1 and values[0]:
        return values[0]
    if row.indexed and (joined := _joined(values)):
        return joined
    sender.is_told(
        within or _term(row.attribute),
        f"{_whose(row.slot, within)} has {_listed(values, row)}; send exactly one, or leave the Slot out.",
    )
    return (values[0] or None) if values else None


def _whose(name: str, within: str) -> str:
    return f"the Slot {name} of its {within}" if within else f"the Slot {name}"


def _joined(values: Iterable[str]) -> str | None:
    """A value that came in pieces, `1|...` and `2|...`, in any order."""
    pieces = {int(match[1]): match[2] for each in values if (match := _INDEXED_VALUE.fullmatch(each))}
    if sorted(pieces) != list(range(1, len(tuple(values)) + 1)):
        return None
    return "".join(pieces[number] for number in sorted(pieces))


def _listed(values: Sequence[str], row: SlotRow | None = None) -> str:
    if not any(values):
        return "no value"
    if row and row.of_patient:
        return f"{len(values)} value{'s' if len(values) > 1 else ''}"
    return f"the value{'s' if len(values) > 1 else ''} {', '.join(shown(each) for each in values)}"


# ------------------------------------------------------------------------- classifications and external identifiers


def _read_classifications(
    elements: Iterable[_Element], spelling: Spelling, attributes: dict[str, Any], sender: _Sender
) -> None:
    authors: list[Author] = []
    codes: dict[str, list[Code]] = {}
    extra: list[Classification] = []
    for element in elements:
        scheme = _id(element, "classificationScheme")
        classified = element.get("classifiedObject")
        row = spelling.codes_by_scheme.get(scheme)
        if classified is not None and classified != sender.object_id and canonical_id(classified) != sender.object_id:
            sender.is_told_whose(_term(row.attribute) if row else "Classification", "classifiedObject", classified)
        if row is not None:
            codes.setdefault(row.attribute, []).append(_read_code(element, _term(row.attribute), sender))
        elif scheme and scheme == spelling.author_scheme:
            authors.append(_read_author(element, sender))
        elif not scheme and (node := _id(element, "classificationNode")) in _marks(spelling):
            if node == spelling.limited_metadata_node:
                attributes["limited_metadata"] = True
        else:
            extra.append(_read_classification(element, sender))
    if authors:
        attributes["author"] = tuple(authors)
    for row in spelling.codes:
        if sent := codes.get(row.attribute):
            attributes[row.attribute] = tuple(sent) if row.several else _single_code(sent, row.attribute, sender)
    attributes["extra_classifications"] = tuple(extra)


def _marks(spelling: Spelling) -> tuple[str | None, str | None]:
    return spelling.kind_node, spelling.limited_metadata_node


def _single_code(codes: Sequence[Code], attribute: str, sender: _Sender) -> Code:
    if len(codes) > 1:
        sent = ", ".join(shown(each.coded) for each in codes)
        sender.is_told(_term(attribute), f"{_term(attribute)} is sent {len(codes)} times, as {sent}; send one.")
    return codes[0]


_CODE_SLOTS: Final = {CODING_SCHEME: SlotRow("coding_scheme", CODING_SCHEME)}


def _read_code(element: _Element, name: str, sender: _Sender) -> Code:
    parts = _parts(element)
    attributes: dict[str, Any] = {}
    extra_slots = _read_slots(parts.slots, _CODE_SLOTS, attributes, sender, name)
    if parts.description:
        sender.is_warned(name, f"the Description of its {name}")
    _warn_of_nested(parts, name, sender)
    return Code(element.get("nodeRepresentation") or None, attributes.get("coding_scheme"), parts.name, extra_slots)


def _read_author(element: _Element, sender: _Sender) -> Author:
    if code := element.get("nodeRepresentation"):
        sender.is_told("author", f"the nodeRepresentation of its author is {shown(code)}; send none.")
    parts = _parts(element)
    attributes: dict[str, Any] = {}
    extra_slots = _read_slots(parts.slots, AUTHOR_SLOTS_BY_NAME, attributes, sender, "author")
    if parts.name or parts.description:
        sender.is_warned("author", "the Name or Description of an author's Classification")
    _warn_of_nested(parts, "author", sender)
    return Author(**attributes, extra_slots=extra_slots)


def _read_classification(element: _Element, sender: _Sender) -> Classification:
    parts = _parts(element)
    _warn_of_nested(parts, "Classification", sender)
    return Classification(
        _id(element, "classificationScheme") or None,
        element.get("nodeRepresentation"),
        _id(element, "classificationNode") or None,
        _read_slots(parts.slots, {}, {}, sender, "Classification"),
        parts.name,
        parts.description,
    )


def _read_identifiers(
    elements: Iterable[_Element], spelling: Spelling, attributes: dict[str, Any], sender: _Sender
) -> None:
    extra: list[ExternalIdentifier] = []
    for element in elements:
        scheme = _id(element, "identificationScheme")
        value = element.get("value", "")
        row = spelling.identifiers_by_scheme.get(scheme)
        name = _term(row.attribute) if row else "ExternalIdentifier"
        identified = element.get("registryObject")
        if identified is not None and identified != sender.object_id and canonical_id(identified) != sender.object_id:
            sender.is_told_whose(name, "registryObject", identified)
        if row is None:
            extra.append(_read_identifier(element, scheme, value, sender))
        elif row.attribute in attributes:
            again = "" if row.of_patient else f", as {shown(value)}"
            sender.is_told(name, f"{name} is sent again{again}; send one ExternalIdentifier for it.")
        else:
            attributes[row.attribute] = row.value_type(value) if value else None
            parts = _parts(element)
            if parts.description or parts.slots:
                sender.is_warned(name, f"a Description or Slot of its {name}")
            _warn_of_nested(parts, name, sender)
    attributes["extra_identifiers"] = tuple(extra)


def _read_identifier(element: _Element, scheme: str, value: str, sender: _Sender) -> ExternalIdentifier:
    parts = _parts(element)
    _warn_of_nested(parts, "ExternalIdentifier", sender)
    slots = _read_slots(parts.slots, {}, {}, sender, "ExternalIdentifier")
    return ExternalIdentifier(scheme, value, parts.name, parts.description, slots)


def _warn_of_nested(parts: _Parts, name: str, sender: _Sender) -> None:
    if parts.classifications or parts.identifiers or parts.others:
        sender.is_warned(name, f"what is nested in its {name}")


def _id(element: _Element, attribute: str) -> str:
    """An id as it is compared: UUIDs in lower case, symbols as they are; "" where there is none."""
    sent = element.get(attribute, "")
    return sent if sent == sent.lower() else canonical_id(sent)
