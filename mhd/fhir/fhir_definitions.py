"""What FHIR R4 (4.0.1) says of the elements of each type, compiled from schemas/fhir/r4_elements.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import orjson

import schemas

RESOURCE: Final = "Resource"
"""The type of an element that holds a resource of any type."""

XHTML: Final = "xhtml"


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a type, as it is named in JSON: one of several types has a row for each.

    name        in JSON; in XML the same
    property    its name in FHIRPath and in messages: `value` for `valueString`
    type        name of a type, or the path of a type that stands only here (`Bundle.entry`)
    several     it may repeat, and is a list in JSON
    required    at least one must be there
    attribute   it is an attribute in XML
    codes       all codes that it may have; empty: any
    """

    name: str
    property: str
    type: str
    several: bool
    required: bool
    attribute: bool
    codes: frozenset[str] = frozenset()


@cache
def _table() -> Mapping[str, Any]:
    table: Mapping[str, Any] = orjson.loads(schemas.fhir("r4_elements.json"))
    return table


@cache
def elements_of(type_name: str) -> Mapping[str, Element]:
    """The elements of a complex type or resource by their JSON name, in the order of XML. KeyError: no such type."""
    row = _table()["types"][type_name]
    found = dict(elements_of(row["base"])) if "base" in row else {}
    for name, words in row["elements"].items():
        found.update({each.name: each for each in _elements(name, words.split())})
    return found


@cache
def required_of(type_name: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """What may not be missing: each property, with the JSON names of which one is enough."""
    names: dict[str, set[str]] = {}
    for element in elements_of(type_name).values():
        if element.required:
            names.setdefault(element.property, set()).add(element.name)
    return tuple((each, frozenset(alternatives)) for each, alternatives in names.items())


def is_type(type_name: str) -> bool:
    """Whether it is a complex type, a resource, or the path of an element with elements of its own."""
    return type_name in _table()["types"]


@cache
def is_resource(type_name: str) -> bool:
    """Whether it is a resource of which instances exist."""
    row = _table()["types"].get(type_name)
    if row is None or type_name in (RESOURCE, "DomainResource"):
        return False
    base = row.get("base")
    return base in (RESOURCE, "DomainResource")


def _elements(name: str, words: list[str]) -> list[Element]:
    bounds, *words = words
    least, _, most = bounds.partition("..")
    codes = next((frozenset(_table()["codes"][word[1:]]) for word in words if word.startswith("=")), frozenset())
    types = [word.removeprefix("@") for word in words if word[0] != "=" and word not in ("choice", "attribute")]
    is_choice = "choice" in words
    return [
        Element(
            name=f"{name}{each[:1].upper()}{each[1:]}" if is_choice else name,
            property=name,
            type=each,
            several=most != "1",
            required=least != "0",
            attribute="attribute" in words,
            codes=codes,
        )
        for each in types
    ]
