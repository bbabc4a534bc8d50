"""Rules of FHIR R4 that neither its XML Schema nor our table of elements says, and that validators in Java know.

Each row is a constraint of the specification by its key; it judges elements of one sort, wherever they stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

Json: TypeAlias = dict[str, Any]


class Invariant(NamedTuple):
    """One constraint.

    concerns   whether an element is of the sort that it judges
    holds      whether such an element meets it
    """

    key: str
    concerns: Callable[[Json], bool]
    holds: Callable[[Json], bool]


def broken_invariants(resource: Json) -> list[str]:
    """The key of each constraint that is not met, with the element."""
    return [
        f"{row.key}: {element}"
        for element in _elements(resource)
        for row in INVARIANTS
        if row.concerns(element) and not row.holds(element)
    ]


def _elements(item: Any) -> Iterator[Json]:
    """All objects of a resource, the resource first."""
    if isinstance(item, dict):
        yield item
    for each in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
        yield from _elements(each)


_VALUE: Final = re.compile("_?value[A-Z]")


# Elements ------------------------------------------------------------------------------------------------------------


def _starts_first(period: Json) -> bool:
    """start <= end, as FHIRPath compares: of two times in UTC, one that is a part of the other is neither."""
    start, end = (re.findall(r"\d+", period[name]) for name in ("start", "end"))
    differing = next((one < other for one, other in zip(start, end, strict=False) if one != other), None)
    return start == end if differing is None else differing


def _says_one_thing(item: Json) -> bool:
    """Each extension has a value or extensions, not both."""
    extensions = [*item.get("extension", ()), *item.get("modifierExtension", ())]
    return all(
        any(name.startswith(("value", "_value")) for name in each) != ("extension" in each) for each in extensions
    )


# Contained resources -------------------------------------------------------------------------------------------------


def _named_inside(resource: Json) -> set[str]:
    """The ids of contained resources that references of a resource name."""
    references = [each["reference"] for each in _elements(resource) if isinstance(each.get("reference"), str)]
    return {each[1:] for each in references if each.startswith("#") and each != "#"}


def _contained_ids(resource: Json) -> set[str]:
    return {each["id"] for each in resource.get("contained", ())}


def _contains(item: Json) -> bool:
    return "contained" in item


def _is_of_its_own(contained: Json) -> bool:
    return not {"versionId", "lastUpdated", "security"} & contained.get("meta", {}).keys()


# Bundles -------------------------------------------------------------------------------------------------------------

_FOUND: Final = ("searchset", "history")
_ASKED: Final = ("batch", "transaction", "history")
_ANSWERED: Final = ("batch-response", "transaction-response", "history")


def _only_in(bundle: Json, name: str, *types: str) -> bool:
    return bundle["type"] in types or all(name not in each for each in bundle.get("entry", ()))


def _exactly_in(bundle: Json, name: str, *types: str) -> bool:
    return all((name in each) == (bundle["type"] in types) for each in bundle.get("entry", ()))


def _versions_differ(bundle: Json) -> bool:
    entries = [each for each in bundle.get("entry", ()) if "fullUrl" in each]
    named = [(each["fullUrl"], each.get("resource", {}).get("meta", {}).get("versionId")) for each in entries]
    return len(named) == len(set(named)) or bundle["type"] == "history"


def _is_where_it_says(entry: Json) -> bool:
    resource = entry["resource"]
    return not entry["fullUrl"].startswith("http") or entry["fullUrl"].endswith(
        f"/{resource['resourceType']}/{resource.get('id')}"
    )


def _is_answer(item: Json) -> bool:
    return item.get("resourceType") == "Bundle" and item["type"] in {*_FOUND, *_ANSWERED}


INVARIANTS: Final = (
    Invariant("per-1", lambda item: {"start", "end"} <= item.keys(), _starts_first),
    Invariant("ext-1", lambda item: "extension" in item or "modifierExtension" in item, _says_one_thing),
    Invariant(
        "att-1",
        lambda item: "data" in item and "resourceType" not in item,
        lambda item: bool({"contentType", "_contentType"} & item.keys()),
    ),
    Invariant("dom-2", _contains, lambda item: all("contained" not in e for e in item["contained"])),
    Invariant("dom-3", _contains, lambda item: _contained_ids(item) <= _named_inside(item)),
    Invariant("dom-4", _contains, lambda item: all(map(_is_of_its_own, item["contained"]))),
    Invariant("ref-1", _contains, lambda item: _named_inside(item) <= _contained_ids(item)),
    Invariant("bdl-1", _is_answer, lambda item: "total" not in item or item["type"] in _FOUND),
    Invariant("bdl-2", _is_answer, lambda item: _only_in(item, "search", "searchset")),
    Invariant("bdl-3", _is_answer, lambda item: _exactly_in(item, "request", *_ASKED)),
    Invariant("bdl-4", _is_answer, lambda item: _exactly_in(item, "response", *_ANSWERED)),
    Invariant("bdl-7", _is_answer, _versions_differ),
    Invariant("bdl-8", lambda item: "fullUrl" in item, lambda item: "/_history/" not in item["fullUrl"]),
    Invariant("fullUrl", lambda item: {"fullUrl", "resource"} <= item.keys(), _is_where_it_says),
)  # fmt: skip
"""The last is no constraint with a key: "Resource URL & Uniqueness rules in a bundle" (bundle.html)."""
