"""Whether what is written is FHIR: structure, HL7's XML Schema and the MHD profiles."""

from __future__ import annotations

from functools import cache
from typing import Any

from lxml import etree

from mhd.fhir_json import parsed, written
from mhd.fhir_structure import structure_problems
from server.fhir_xml import from_xml, to_xml
from tests.fhir_definitions import DEFINITIONS


@cache
def _schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(DEFINITIONS / "xsd" / "fhir-single.xsd"))


def assert_is_fhir(resource: dict[str, Any]) -> None:
    """A resource is sound, valid by HL7's schema where that is at hand, and comes back from XML as it is."""
    assert structure_problems(resource) == []
    as_xml = to_xml(resource)
    assert from_xml(as_xml) == parsed(written(resource))
    if DEFINITIONS.is_dir():
        _schema().assertValid(etree.fromstring(as_xml))
