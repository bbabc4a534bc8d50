"""Whether a resource is FHIR R4 at all: every element known, in the right form, nothing required missing.

Driven by schemas/fhir/r4_elements.json. All problems are found, not only the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from mhd.fhir.fhir_definitions import RESOURCE, Element, elements_of, is_resource, is_type, required_of
from mhd.fhir.fhir_primitives import PRIMITIVES
from mhd.fhir.operation_outcome import Issue, IssueType
from xds.errors import MOST_REPORTED

DEEPEST: Final = 60
"""Elements inside each other in one resource. Real submissions have about twelve."""


def structure_problems(resource: Any, expected: str | None = None) -> list[Issue]:
    """All that is wrong with the form of a resource, each at its FHIRPath; at most a thousand.

    expected   the type that it has to be; None: any
    """
    if not isinstance(resource, dict):
        return [_structure("The body is not a resource; send a JSON object with a resourceType.", "")]
    name = resource.get("resourceType")
    if expected is not None and name != expected:
        return [_structure(f"The resource is {_named(name)}; send a {expected} here.", _path_of(name))]
    return list(islice(_resource_problems(resource, _path_of(name), 1), MOST_REPORTED))


def _path_of(name: Any) -> str:
    return name if isinstance(name, str) and is_resource(name) else "Resource"


def _named(name: Any) -> str:
    return f"{name[:40]!r}" if isinstance(name, str) else "of no type"


def _structure(text: str, path: str) -> Issue:
    return Issue(IssueType.STRUCTURE, text, path)


def _resource_problems(resource: Any, path: str, depth: int) -> Iterator[Issue]:
    if not isinstance(resource, dict):
        yield _structure(f"{path} is not an object; send a resource.", path)
        return
    name = resource.get("resourceType")
    if not isinstance(name, str) or not is_resource(name):
        yield _structure(f"resourceType is {_named(name)}; send the name of a resource of FHIR R4.", path)
        return
    yield from _problems(resource, name, path, depth)
    # id is a plain string in HL7's schema, and an id in the specification.
    if "id" in resource and isinstance(resource["id"], str) and (wrong := PRIMITIVES["id"](resource["id"])):
        yield Issue(IssueType.VALUE, f"id {wrong}.", f"{path}.id")


def _problems(item: dict[str, Any], type_name: str, path: str, depth: int) -> Iterator[Issue]:
    if depth > DEEPEST:
        yield Issue(IssueType.TOO_COSTLY, f"Elements lie more than {DEEPEST} deep; send a flatter resource.", path)
        return
    elements = elements_of(type_name)
    yield from _unknown(item, type_name, path)
    yield from _missing(item, type_name, path)
    for name, value in item.items():
        element = elements.get(name)
        if element is not None:
            yield from _element_problems(element, value, f"{path}.{element.property}", depth, item.get(f"_{name}"))
    for name in item:
        element = elements.get(name[1:]) if name.startswith("_") else None
        if element is not None and element.type in PRIMITIVES:
            yield from _extension_problems(element, item[name], f"{path}.{element.property}", depth)
    yield from _several_choices(item, type_name, path)


def _unknown(item: dict[str, Any], type_name: str, path: str) -> Iterator[Issue]:
    elements = elements_of(type_name)
    if not item or (len(item) == 1 and "resourceType" in item and type_name not in ("Parameters", "Bundle")):
        yield Issue(IssueType.INVARIANT, f"{path} is empty; leave it out, or send its elements.", path)
    for name in item:
        known = name in elements or (name == "resourceType" and is_resource(type_name))
        if not known and name.startswith("_") and name[1:] in elements:
            known = elements[name[1:]].type in PRIMITIVES
        if not known:
            place = f"{path}.{name}" if name.isidentifier() else path
            yield _structure(f"{type_name} has no element {_named(name)}; leave it out.", place)


def _missing(item: dict[str, Any], type_name: str, path: str) -> Iterator[Issue]:
    for name, alternatives in required_of(type_name):
        if not any(each in item or f"_{each}" in item for each in alternatives):
            yield Issue(IssueType.REQUIRED, f"{path}.{name} is missing; send it.", f"{path}.{name}")


def _several_choices(item: dict[str, Any], type_name: str, path: str) -> Iterator[Issue]:
    chosen: dict[str, str] = {}
    for name in item:
        element = elements_of(type_name).get(name.removeprefix("_"))
        if element is None or element.name == element.property:
            continue
        if chosen.setdefault(element.property, element.name) != element.name:
            other = chosen[element.property]
            yield _structure(
                f"{path} has both {other} and {element.name}; send one of them.", f"{path}.{element.property}"
            )


def _element_problems(element: Element, value: Any, path: str, depth: int, extensions: Any) -> Iterator[Issue]:
    if element.several != isinstance(value, list):
        yield _structure(f"{path} is {'not a list' if element.several else 'a list'}; send {_form(element)}.", path)
        return
    if not element.several:
        yield from _value_problems(element, value, path, depth)
        return
    if not value:
        yield _structure(f"{path} is an empty list; leave it out.", path)
    for number, each in enumerate(value):
        if each is None and isinstance(extensions, list) and number < len(extensions) and extensions[number]:
            continue  # a value that is only an extension
        yield from _value_problems(element, each, f"{path}[{number}]", depth)


def _form(element: Element) -> str:
    return "a list of them" if element.several else "one value"


def _value_problems(element: Element, value: Any, path: str, depth: int) -> Iterator[Issue]:
    if element.type == RESOURCE:
        yield from _resource_problems(value, path, depth + 1)
    elif is_type(element.type):
        if isinstance(value, dict):
            yield from _problems(value, element.type, path, depth + 1)
        else:
            yield _structure(f"{path} is not an object; send a {element.type} as an object.", path)
    elif wrong := PRIMITIVES[element.type](value):
        yield Issue(IssueType.VALUE, f"{path} {wrong}.", path)
    elif element.codes and value not in element.codes:
        codes = ", ".join(sorted(element.codes)[:12])
        yield Issue(IssueType.VALUE, f"{path} is {_named(value)}; send one of {codes}.", path)


def _extension_problems(element: Element, value: Any, path: str, depth: int) -> Iterator[Issue]:
    """About the object beside a primitive, `_name`, that carries its extensions."""
    if element.several and not isinstance(value, list):
        yield _structure(
            f"{path} has extensions that are not a list; send a list with null where there are none.", path
        )
        return
    for each in value if element.several else [value]:
        if each is None and element.several:
            continue
        if isinstance(each, dict):
            yield from _problems(each, "Element", path, depth + 1)
        else:
            yield _structure(f"{path} has extensions that are not an object; send one.", path)
