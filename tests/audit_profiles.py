"""Whether an AuditEvent meets the profiles that it claims, by the constraints that lie beside the project.

They are of MHD's profiles, with all that those of BALP ask on which they build. So a profile of BALP is one of MHD
without what MHD has added, and those of PIXm, which build on BALP as well, are one of MHD with other codes. The one of
PMIR builds on none, and is written out here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from mhd.fhir.canonicals import PROFILE
from tests.fhir_definitions import DEFINITIONS

_ROOT = "AuditEvent"
_SEARCHES = frozenset({"search", "search-type", "search-system"})
_READS = frozenset({"read", "vread"})
_BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_OF_MHD = {
    "PatientRead": ("RetrieveDocument.Audit.Responder", ("subtype:iti68", "entity:data.role")),
    "Query": ("FindDocumentReferences.Audit.Responder", ("subtype:iti67", "entity:patient")),
}
"""By profile of BALP, one of MHD that builds on it, and what that asks beyond it."""
_PIXM = "https://profiles.ihe.net/ITI/PIXm/StructureDefinition/IHE.PIXm.Feed."
_OF_PIXM = {"Create.Audit.Manager": ("create", "C"), "Update.Audit.Manager": ("update", "U")}
"""By profile of PIXm: the interaction and the action. The rest is MHD's Simplified Publish, of another transaction."""
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_PMIR = "https://profiles.ihe.net/ITI/PMIR/StructureDefinition/IHE.PMIR.Feed.Audit"
_OF_PMIR: list[dict[str, Any]] = [
    {"id": "AuditEvent.type", "patternCoding": {"system": _DCM, "code": "110110", "display": "Patient Record"}},
    {
        "id": "AuditEvent.subtype",
        "min": 1,
        "patternCoding": {
            "system": "urn:ihe:event-type-code", "code": "ITI-93", "display": "Mobile Patient Identity Feed",
        },
    },
    {"id": "AuditEvent.action", "min": 1, "patternCode": "E"},
    {"id": "AuditEvent.outcome", "min": 1},
    {"id": "AuditEvent.entity", "slicing": {"rules": "closed"}, "min": 2},
    {"id": "AuditEvent.entity:patient", "min": 1},
    {"id": "AuditEvent.entity:patient.what", "min": 1},
    {
        "id": "AuditEvent.entity:patient.type",
        "patternCoding": {
            "system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": "1", "display": "Person",
        },
    },
    {
        "id": "AuditEvent.entity:patient.role",
        "patternCoding": {
            "system": "http://terminology.hl7.org/CodeSystem/object-role", "code": "1", "display": "Patient",
        },
    },
    {"id": "AuditEvent.entity:message", "min": 1, "max": "1"},
    {"id": "AuditEvent.entity:message.what", "min": 1},
    {
        "id": "AuditEvent.entity:message.type",
        "patternCoding": {
            "system": "http://hl7.org/fhir/resource-types", "code": "MessageHeader", "display": "MessageHeader",
        },
    },
    {"id": "AuditEvent.entity:message.name", "patternString": "urn:ihe:iti:pmir:2019:patient-feed"},
    *(
        rule
        for name, code, display in (
            ("source", "110153", "Source Role ID"), ("destination", "110152", "Destination Role ID"),
        )
        for rule in (
            {"id": f"AuditEvent.agent:{name}", "min": 1, "max": "1"},
            {
                "id": f"AuditEvent.agent:{name}.type",
                "patternCodeableConcept": {"coding": [{"system": _DCM, "code": code, "display": display}]},
            },
            {"id": f"AuditEvent.agent:{name}.who", "min": 1},
            {"id": f"AuditEvent.agent:{name}.network.address", "min": 1},
            {"id": f"AuditEvent.agent:{name}.network.type", "min": 1},
        )
    ),
]  # fmt: skip
_CODES = {"AllSearchVS": _SEARCHES, "AllReadVS": _READS}


class _Rule(NamedTuple):
    """path: below the resource, or below a member of a slice. slice_of: the list and the name of the slice, or ""."""

    path: str
    said: Mapping[str, Any]
    slice_of: tuple[str, str] = ("", "")


@cache
def _profiles() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((DEFINITIONS / "mhd-4.2.4-constraints.json").read_bytes())["profiles"]
    return found


def audit_problems(event: dict[str, Any]) -> list[str]:
    """What an AuditEvent lacks for the profiles in its meta; [] where that material is absent."""
    claimed = event.get("meta", {}).get("profile", ())
    if not DEFINITIONS.is_dir():
        return []
    return [problem for each in claimed for problem in _problems(event, _rules(each))]


def _rules(profile: str) -> list[dict[str, Any]]:
    if profile == _PMIR:
        return _OF_PMIR
    if profile.startswith(_PIXM):
        return _rules_of_pixm(*_OF_PIXM[profile.removeprefix(_PIXM)])
    name = profile.removeprefix(_BALP)
    if name not in _OF_MHD:
        found: list[dict[str, Any]] = _profiles()[profile]["rules"]
        return found
    other, added = _OF_MHD[name]
    rules = _profiles()[f"{PROFILE}IHE.MHD.{other}"]["rules"]
    own = [each for each in rules if not each["id"].removeprefix(f"{_ROOT}.").startswith(added)]
    # How many slices a list has at least is the sum of those of MHD; each slice says itself whether it is needed.
    return [{**each, "min": 1} if "slicing" in each else each for each in own]


def _rules_of_pixm(interaction: str, action: str) -> list[dict[str, Any]]:
    published: list[dict[str, Any]] = _profiles()[f"{PROFILE}IHE.MHD.SimplifiedPublish.Audit.Recipient"]["rules"]
    changed: dict[str, dict[str, Any]] = {
        "AuditEvent.subtype:anyCreate": {
            "patternCoding": {"system": "http://hl7.org/fhir/restful-interaction", "code": interaction}
        },
        "AuditEvent.subtype:iti105": {
            "patternCoding": {
                "system": "urn:ihe:event-type-code", "code": "ITI-104", "display": "Patient Identity Feed FHIR",
            }
        },
        "AuditEvent.action": {"patternCode": action},
    }  # fmt: skip
    added: list[dict[str, Any]] = [
        {"id": "AuditEvent.entity:patient.what.identifier", "min": 1},
        {"id": "AuditEvent.entity:patient.what.reference", "max": "0"},
    ]
    return [*({**each, **changed.get(each["id"], {})} for each in published), *added]


def _problems(event: dict[str, Any], rules: list[dict[str, Any]]) -> Iterator[str]:
    slices: dict[tuple[str, str], list[_Rule]] = {}
    for rule in (_rule(each) for each in rules):
        if rule.slice_of == ("", ""):
            yield from _broken(event, rule, _ROOT)
        else:
            slices.setdefault(rule.slice_of, []).append(rule)
    for name in (each["id"].partition(".")[2] for each in rules if each.get("slicing", {}).get("rules") == "closed"):
        of_name = [own for (list_name, _), own in slices.items() if list_name == name]
        strange = [each for each in event.get(name, ()) if not any(_is_member(each, own) for own in of_name)]
        if strange:
            yield f"{name} has what belongs to no slice: {strange}"
    for (name, slice_name), own in slices.items():
        head = next(each for each in own if not each.path)
        members = [each for each in event.get(name, ()) if _is_member(each, own)]
        where = f"{name}:{slice_name}"
        yield from _count(len(members), head.said, where)
        for member in members:
            for each in own:
                if each.path:
                    yield from _broken(member, each, where)


def _rule(said: dict[str, Any]) -> _Rule:
    below = said["id"].removeprefix(f"{_ROOT}.")
    name, colon, rest = below.partition(":")
    if not colon:
        return _Rule(below, said)
    slice_name, _, path = rest.partition(".")
    return _Rule(path, said, (name, slice_name))


def _is_member(value: Any, rules: list[_Rule]) -> bool:
    """By the pattern of the slice, its value set, or the pattern of its type: how the profiles tell slices apart."""
    head = next(each for each in rules if not each.path)
    if (pattern := _pattern(head.said)) is not None:
        return _fits(value, pattern)
    if "requiredBinding" in head.said:
        return value.get("code") in _CODES[head.said["requiredBinding"].rpartition("/")[2]]
    of_type = next(each for each in rules if each.path == "type")
    return _fits(value.get("type"), _pattern(of_type.said))


def _broken(holder: dict[str, Any], rule: _Rule, where: str) -> Iterator[str]:
    """What stands at the path of a rule, in each of the elements that may hold it."""
    *parents, last = rule.path.split(".")
    holders = [holder]
    for parent in parents:
        below = [each[parent] for each in holders if parent in each]
        holders = [item for each in below for item in (each if isinstance(each, list) else [each])]
    for each in holders:
        value = each.get(last)
        values = [] if value is None else value if isinstance(value, list) else [value]
        if last.endswith("[x]"):
            values = [found for name, found in each.items() if name.startswith(last.removesuffix("[x]"))]
        yield from _count(len(values), rule.said, f"{where}.{rule.path}")
        pattern = _pattern(rule.said)
        if pattern is not None and values and not all(_fits(found, pattern) for found in values):
            yield f"{where}.{rule.path} is {values}, not {pattern}"


def _count(number: int, said: Mapping[str, Any], where: str) -> Iterator[str]:
    if number < said.get("min", 0):
        yield f"{where} is missing"
    if said.get("max", "*") != "*" and number > int(said["max"]):
        yield f"{where} stands {number} times"


def _pattern(said: Mapping[str, Any]) -> Any:
    return next((value for name, value in said.items() if name.startswith("pattern")), None)


def _fits(value: Any, pattern: Any) -> bool:
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(_fits(value.get(name), each) for name, each in pattern.items())
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(_fits(found, each) for found in value) for each in pattern)
    return bool(value == pattern)
