"""Whether what is written is FHIR: structure, invariants, HL7's XML Schema and the MHD profiles."""

from __future__ import annotations

from functools import cache
from typing import Any

from lxml import etree

from mhd.fhir.canonicals import PROFILE
from mhd.fhir.fhir_json import parsed, written
from mhd.fhir.fhir_profiles import PROFILES, profile_problems
from mhd.fhir.fhir_structure import structure_problems
from server.fhir_xml import from_xml, to_xml
from tests.fhir_definitions import DEFINITIONS
from tests.fhir_invariants import broken_invariants


@cache
def _schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(DEFINITIONS / "xsd" / "fhir-single.xsd"))


def assert_is_fhir(resource: dict[str, Any]) -> None:
    """A resource is sound, meets the rules and the profiles that it claims, is valid by HL7's schema, and survives XML.

    The schema lies beside the project; where it is absent, the rest is judged.
    """
    assert structure_problems(resource) == []
    assert_meets_profiles(resource)
    assert broken_invariants(resource) == []
    as_xml = to_xml(resource)
    assert from_xml(as_xml) == parsed(written(resource))
    if DEFINITIONS.is_dir():
        _schema().assertValid(etree.fromstring(as_xml))


def assert_meets_profiles(resource: dict[str, Any]) -> None:
    """A resource is what the profiles ask that it claims."""
    for name in resource.get("meta", {}).get("profile", ()):
        if (profile := name.removeprefix(PROFILE)) in PROFILES:
            assert profile_problems(resource, profile) == []
