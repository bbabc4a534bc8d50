"""Restates what HL7 says of FHIR R4's elements as our own table, schemas/fhir/r4_elements.json.

    python -m tests.fhir_definitions      writes the table again from the material beside the project

The order of elements comes from the snapshots, cardinalities and required codes from HL7's XML Schema.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

from lxml import etree

from tests.shared_material import SHARED

DEFINITIONS = SHARED / "mhd-examples" / "definitions"
TABLE = Path(__file__).parents[1] / "schemas" / "fhir" / "r4_elements.json"

_XS = "{http://www.w3.org/2001/XMLSchema}"
Table: TypeAlias = dict[str, Any]


def restated() -> Table:
    """The table: of each type its base and its own elements in order, and the value sets of codes."""
    snapshots = json.loads((DEFINITIONS / "r4-elements.json").read_bytes())
    schema = _Schema()
    types: Table = {}
    waiting = [(name, name) for name in snapshots["elements"] if "." not in name]
    while waiting:
        path, type_name = waiting.pop(0)
        if type_name not in schema.types:
            continue
        base, children = schema.own(type_name)
        rows = {}
        for name, _, kinds, *flag in snapshots["elements"][path]:
            child = children.get(name) or children.get(f"{name}{_capital(kinds[0])}")
            if child is None:
                continue
            below = [each for each in kinds if each.startswith(f"{path}.")]
            waiting += [(each, child.type) for each in below]
            rows[name] = _row(child, kinds, flag[0] if flag else "", schema)
        types[path] = ({"base": base} if base else {}) | {"elements": rows}
    return {"types": dict(sorted(types.items())), "codes": dict(sorted(schema.used.items()))}


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


class _Element:
    def __init__(self, least: str, most: str, type_name: str) -> None:
        self.least, self.most, self.type = least, most, type_name


def _row(child: _Element, kinds: list[str], flag: str, schema: _Schema) -> str:
    """`min..max type`, in full `min..max choice|attribute type type... =value set`."""
    kinds = ["string" if each == "String" else each for each in kinds]
    if child.type == "ResourceContainer":  # Bundle.entry.response.outcome, of whose resource the type is known
        kinds = ["Resource"]
    words = [f"{child.least}..{child.most}", *({"x": ["choice"], "attr": ["attribute"]}.get(flag, [])), *kinds]
    if kinds == ["code"] and (codes := schema.codes(child.type)):
        schema.used[child.type] = codes
        words.append(f"={child.type}")
    return " ".join(words)


class _Schema:
    """HL7's XML Schema of all resources."""

    def __init__(self) -> None:
        root = etree.parse(DEFINITIONS / "xsd" / "fhir-single.xsd").getroot()
        self.types = {each.get("name", ""): each for each in root.iterfind(f"{_XS}complexType")}
        self._lists = {each.get("name", ""): each for each in root.iterfind(f"{_XS}simpleType")}
        self.used: Table = {}

    def own(self, type_name: str) -> tuple[str, dict[str, _Element]]:
        """The base of a type, and the elements and attributes that it adds to it."""
        found = self.types[type_name]
        extension = next(found.iter(f"{_XS}extension"), None)
        children = {}
        for each in found.iter(f"{_XS}element"):
            name = each.get("name") or (each.get("ref") or "").rpartition(":")[2]
            parent = each.getparent()
            options = parent if parent is not None and parent.tag == f"{_XS}choice" else None
            bounds = options if options is not None else each
            most = bounds.get("maxOccurs", "1").replace("unbounded", "*")
            children[name] = _Element(bounds.get("minOccurs", "1"), most, each.get("type", "xhtml"))
        for each in found.iter(f"{_XS}attribute"):
            least = "1" if each.get("use") == "required" else "0"
            children[each.get("name", "")] = _Element(least, "1", each.get("type", ""))
        base = extension.get("base", "") if extension is not None else ""
        return ("" if base.startswith("xs:") else base), children

    def codes(self, type_name: str) -> list[str]:
        found = self._lists.get(f"{type_name}-list")
        return [] if found is None else [each.get("value", "") for each in found.iter(f"{_XS}enumeration")]


def written(table: Table) -> bytes:
    return (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode()


if __name__ == "__main__":
    TABLE.write_bytes(written(restated()))
