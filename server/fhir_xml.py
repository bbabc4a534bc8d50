"""FHIR's XML and JSON, each as the other (FHIR R4: xml.html, json.html), by the table of elements.

Read by the one hardened parser (xds/xml.py): no DTD, no entities, bounded. Whether what was read is a resource is for
mhd/fhir/fhir_structure.py to say; here only what has no place in JSON is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from lxml import etree

from mhd.fhir.fhir_definitions import RESOURCE, XHTML, Element, elements_of, is_resource, is_type
from xds.xml import DEFAULT_LIMITS, XmlLimits, XmlProblem, parse

FHIR: Final = "http://hl7.org/fhir"
_XHTML: Final = "http://www.w3.org/1999/xhtml"
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_INTEGERS: Final = frozenset({"integer", "positiveInt", "unsignedInt"})


class FhirXmlProblem(ValueError):
    """What was sent as FHIR XML can not be read as such; the sentence says where and why."""


# Reading -----------------------------------------------------------------------------------------------------------


def from_xml(data: bytes, limits: XmlLimits = DEFAULT_LIMITS) -> dict[str, Any]:
    """A resource as JSON has it. Raises FhirXmlProblem."""
    try:
        root = parse(data, limits)
    except XmlProblem as problem:
        raise FhirXmlProblem(f"The body can not be read: {problem}.") from None
    return _resource(root)


def _resource(element: etree._Element) -> dict[str, Any]:
    name = _name(element)
    if not is_resource(name):
        raise _misplaced(element, "is no resource of FHIR R4")
    return {"resourceType": name} | _complex(element, name)


def _complex(element: etree._Element, type_name: str) -> dict[str, Any]:
    """The elements and attributes of one element, in the order in which they stand."""
    elements = elements_of(type_name)
    found: dict[str, Any] = {}
    for attribute, value in element.attrib.items():
        row = elements.get(str(attribute))
        if row is None or not row.attribute:
            raise _misplaced(element, f"has the attribute {str(attribute)[:60]!r}, which {type_name} does not have")
        found[row.name] = str(value)
    _no_text(element)
    for child in element:
        row = elements.get(_name(child))
        if row is None or row.attribute:
            raise _misplaced(child, f"is no element of {type_name}")
        _add(found, row, child)
    return found


def _add(found: dict[str, Any], row: Element, child: etree._Element) -> None:
    if is_type(row.type):
        value = _contained(child) if row.type == RESOURCE else _complex(child, row.type)
        _keep(found, row, value, child)
        return
    value, beside = _primitive(child, row.type)
    if not row.several:
        if row.name in found or f"_{row.name}" in found:
            raise _misplaced(child, "stands twice; send it once")
        found.update({name: each for name, each in ((row.name, value), (f"_{row.name}", beside)) if each is not None})
        return
    values = found.setdefault(row.name, [])
    if beside is not None or f"_{row.name}" in found:
        extensions = found.setdefault(f"_{row.name}", [None] * len(values))
        extensions.append(beside)
    values.append(value)


def _keep(found: dict[str, Any], row: Element, value: Any, child: etree._Element) -> None:
    if row.several:
        found.setdefault(row.name, []).append(value)
    elif row.name in found:
        raise _misplaced(child, "stands twice; send it once")
    else:
        found[row.name] = value


def _contained(element: etree._Element) -> dict[str, Any]:
    """The resource in an element such as Bundle.entry.resource."""
    _no_text(element)
    if len(element) != 1 or element.attrib:
        raise _misplaced(element, "does not hold one resource")
    return _resource(element[0])


def _primitive(element: etree._Element, type_name: str) -> tuple[Any, dict[str, Any] | None]:
    """A value, and what stands beside it in JSON: its id and extensions."""
    if type_name == XHTML:
        return _narrative(element), None
    text = element.get("value")
    value = None if text is None else _typed(str(text), type_name)
    beside: dict[str, Any] = {}
    for attribute, each in element.attrib.items():
        if attribute == "id":
            beside["id"] = str(each)
        elif attribute != "value":
            raise _misplaced(element, f"has the attribute {str(attribute)[:60]!r}; a {type_name} has value and id")
    _no_text(element)
    for child in element:
        if _name(child) != "extension":
            raise _misplaced(child, f"is no element of {type_name}")
        beside.setdefault("extension", []).append(_complex(child, "Extension"))
    if value is None and not beside:
        raise _misplaced(element, "has no value; leave it out, or send one")
    return value, beside or None


def _typed(text: str, type_name: str) -> Any:
    """As JSON has it; what does not look like its type stays text, and is found wrong as such."""
    if type_name == "boolean" and text in ("true", "false"):
        return text == "true"
    if type_name in _INTEGERS and _INTEGER.fullmatch(text):
        return int(text)
    if type_name == "decimal" and _DECIMAL.fullmatch(text):
        return Decimal(text)
    return text


def _narrative(element: etree._Element) -> str:
    if element.tag != f"{{{_XHTML}}}div":
        raise _misplaced(element, "is no <div> of XHTML")
    etree.cleanup_namespaces(element)
    return etree.tostring(element, encoding="unicode", with_tail=False)


def _name(element: etree._Element) -> str:
    """The local name of an element of FHIR, or of XHTML where a Narrative has one."""
    name = etree.QName(element)
    if name.namespace != FHIR and not (name.namespace == _XHTML and name.localname == "div"):
        raise _misplaced(element, f"is not in the namespace {FHIR}")
    return name.localname


def _no_text(element: etree._Element) -> None:
    if (element.text or "").strip() or any((child.tail or "").strip() for child in element):
        raise _misplaced(element, "has text in it; values are sent as the attribute value")


def _misplaced(element: etree._Element, what: str) -> FhirXmlProblem:
    return FhirXmlProblem(f"Line {element.sourceline}: <{etree.QName(element).localname[:60]}> {what}.")


# Writing -----------------------------------------------------------------------------------------------------------


def to_xml(resource: dict[str, Any]) -> bytes:
    """The XML of a resource that is sound (mhd/fhir/fhir_structure.py), as UTF-8."""
    root = etree.Element(f"{{{FHIR}}}{resource['resourceType']}", nsmap={None: FHIR})
    _write(root, resource, resource["resourceType"])
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + etree.tostring(root, encoding="utf-8")


def _write(parent: etree._Element, item: dict[str, Any], type_name: str) -> None:
    for row in elements_of(type_name).values():
        value, beside = item.get(row.name), item.get(f"_{row.name}")
        if value is None and beside is None:
            continue
        if row.attribute:
            parent.set(row.name, str(value))
            continue
        for each, extensions in _pairs(row, value, beside):
            _write_element(parent, row, each, extensions)


def _pairs(row: Element, value: Any, beside: Any) -> Iterator[tuple[Any, Any]]:
    if not row.several:
        yield value, beside
        return
    values, extensions = value or [], beside or []
    for number in range(max(len(values), len(extensions))):
        yield (
            values[number] if number < len(values) else None,
            extensions[number] if number < len(extensions) else None,
        )


def _write_element(parent: etree._Element, row: Element, value: Any, beside: Any) -> None:
    if row.type == XHTML:
        parent.append(parse(value.encode()))
        return
    child = etree.SubElement(parent, f"{{{FHIR}}}{row.name}")
    if row.type == RESOURCE:
        _write(etree.SubElement(child, f"{{{FHIR}}}{value['resourceType']}"), value, value["resourceType"])
    elif is_type(row.type):
        _write(child, value, row.type)
    else:
        if value is not None:
            child.set("value", _text(value))
        if beside:
            _write(child, beside, "Element")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
