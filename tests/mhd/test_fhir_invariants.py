"""What tests/fhir_invariants.py says of a resource: each of its rows tells what breaks it, and nothing else does."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from tests.fhir_invariants import INVARIANTS, broken_invariants

PEOPLE = [{"resourceType": "Patient", "id": "p"}]
SOUND: dict[str, Any] = {
    "resourceType": "Bundle",
    "type": "searchset",
    "total": 1,
    "entry": [
        {
            "fullUrl": "https://mhd.example.org/fhir/DocumentReference/1",
            "search": {"mode": "match"},
            "resource": {
                "resourceType": "DocumentReference",
                "id": "1",
                "contained": PEOPLE,
                "content": [{"attachment": {"contentType": "text/plain", "data": "QQ=="}}],
                "context": {
                    "period": {"start": "2026-03", "end": "2026-04-01"},
                    "sourcePatientInfo": {"reference": "#p", "extension": [{"url": "x", "valueString": "y"}]},
                },
            },
        }
    ],
}
RESOURCE = "entry.0.resource"
CONTEXT = f"{RESOURCE}.context"
BREAKING: dict[str, list[tuple[str, Any]]] = {
    "per-1": [(f"{CONTEXT}.period.end", "2026-03-31T10:00:00Z"), (f"{CONTEXT}.period.end", "2025")],
    "ext-1": [(f"{CONTEXT}.sourcePatientInfo.extension", [{"url": "x"}])],
    "att-1": [(f"{RESOURCE}.content", [{"attachment": {"data": "QQ=="}}])],
    "dom-2": [(f"{RESOURCE}.contained", [{**PEOPLE[0], "contained": []}])],
    "dom-3": [(f"{RESOURCE}.contained", [*PEOPLE, {"resourceType": "Practitioner", "id": "q"}])],
    "dom-4": [(f"{RESOURCE}.contained", [{**PEOPLE[0], "meta": {"versionId": "1"}}])],
    "ref-1": [(f"{RESOURCE}.subject", {"reference": "#q"})],
    "bdl-1": [("type", "transaction-response")],
    "bdl-2": [("type", "transaction-response")],
    "bdl-3": [("entry.0.request", {"method": "GET", "url": "x"}), ("type", "history")],
    "bdl-4": [("entry.0.response", {"status": "200"}), ("type", "history")],
    "bdl-7": [("entry", SOUND["entry"] * 2)],
    "bdl-8": [("entry.0.fullUrl", "https://mhd.example.org/fhir/DocumentReference/1/_history/1")],
    "fullUrl": [("entry.0.fullUrl", "https://mhd.example.org/fhir/List/1")],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The sound Bundle with another value at a path."""
    bundle = deepcopy(SOUND)
    *parents, last = path.split(".")
    holder: Any = bundle
    for each in parents:
        holder = holder[int(each) if each.isdigit() else each]
    holder[last] = value
    return bundle


def test_what_is_sound_breaks_nothing() -> None:
    assert broken_invariants(SOUND) == []


def test_every_row_is_tried() -> None:
    assert {row.key for row in INVARIANTS} == BREAKING.keys()


@pytest.mark.parametrize(
    ("key", "path", "value"), [(key, path, value) for key, rows in BREAKING.items() for path, value in rows]
)
def test_what_breaks_a_rule_is_told_by_its_key(key: str, path: str, value: Any) -> None:
    told = {each.partition(":")[0] for each in broken_invariants(changed(path, value))}

    assert key in told
    assert path == "type" or told <= {key, "bdl-8", "fullUrl"}
