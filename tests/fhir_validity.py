"""Whether what is written is FHIR: structure, order of Periods, HL7's XML Schema and the MHD profiles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from lxml import etree

from mhd.fhir.canonicals import PROFILE
from mhd.fhir.fhir_json import parsed, written
from mhd.fhir.fhir_profiles import PROFILES, profile_problems
from mhd.fhir.fhir_structure import structure_problems
from server.fhir_xml import from_xml, to_xml
from tests.fhir_definitions import DEFINITIONS


@cache
def _schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(DEFINITIONS / "xsd" / "fhir-single.xsd"))


def assert_is_fhir(resource: dict[str, Any]) -> None:
    """A resource is sound, meets the profiles that it claims, is valid by HL7's schema, and comes back from XML.

    The schema lies beside the project; where it is absent, the rest is judged.
    """
    assert structure_problems(resource) == []
    assert_meets_profiles(resource)
    assert [each for each in _periods(resource) if not _starts_first(each)] == []
    as_xml = to_xml(resource)
    assert from_xml(as_xml) == parsed(written(resource))
    if DEFINITIONS.is_dir():
        _schema().assertValid(etree.fromstring(as_xml))


def assert_meets_profiles(resource: dict[str, Any]) -> None:
    """A resource is what the profiles ask that it claims."""
    for name in resource.get("meta", {}).get("profile", ()):
        if (profile := name.removeprefix(PROFILE)) in PROFILES:
            assert profile_problems(resource, profile) == []


def _periods(item: Any) -> Iterator[dict[str, Any]]:
    """Whatever has a start and an end."""
    if isinstance(item, dict) and {"start", "end"} <= item.keys():
        yield item
    for each in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
        yield from _periods(each)


def _starts_first(period: dict[str, Any]) -> bool:
    """per-1, start <= end, as FHIRPath compares: of two times in UTC, one that is a part of the other is neither."""
    start, end = (re.findall(r"\d+", period[name]) for name in ("start", "end"))
    differing = next((one < other for one, other in zip(start, end, strict=False) if one != other), None)
    return start == end if differing is None else differing
