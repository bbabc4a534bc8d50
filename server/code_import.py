"""Code sets from the forms in which affinity domains have them: codes.xml of the NIST XDS Toolkit, FHIR ValueSets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mhd.mapping.code_systems import CodeSystems
from server.settings.affinity_domain import CodedValue
from xds import xml

_ATTRIBUTES: Final = {
    "associationDocumentation": "documentation",
    "classCode": "class_code",
    "confidentialityCode": "confidentiality_code",
    "contentTypeCode": "content_type_code",
    "eventCodeList": "event_code_list",
    "folderCodeList": "code_list",
    "formatCode": "format_code",
    "healthcareFacilityTypeCode": "healthcare_facility_type_code",
    "languageCode": "language_code",
    "mimeType": "mime_type",
    "practiceSettingCode": "practice_setting_code",
    "typeCode": "type_code",
}
"""By the standard's name, which codes.xml has and people say."""

_PLAIN: Final = frozenset({"language_code", "mime_type"})
_COMMENT: Final = re.compile(rb"<!--.*?-->", re.DOTALL)
_LIMITS: Final = xml.XmlLimits(max_bytes=64 * 1024 * 1024)

Values = tuple[CodedValue | str, ...]


class ImportProblem(ValueError):
    """A file can not be imported. The text says why."""


def attribute_named(name: str) -> str:
    """The attribute as settings call it, by either name.

    Raises ImportProblem.
    """
    if name in _ATTRIBUTES:
        return _ATTRIBUTES[name]
    if name in _ATTRIBUTES.values():
        return name
    raise ImportProblem(f"{name!r} is no coded attribute; they are {', '.join(sorted(_ATTRIBUTES))}")


def imported(content: bytes, attribute: str | None) -> Mapping[str, Values]:
    """The code sets of a file, by attribute.

    attribute   of a ValueSet, which does not say it itself; of codes.xml the only one to be taken
    Raises ImportProblem.
    """
    if content.lstrip()[:1] == b"{":
        if attribute is None:
            raise ImportProblem("a ValueSet does not say which attribute it is for; name it with --attribute")
        return {attribute: tuple(_of_value_set(content, attribute))}
    found = dict(_of_codes_xml(content))
    if attribute is None:
        return found
    if attribute not in found:
        raise ImportProblem(f"it has no codes for {attribute}")
    return {attribute: found[attribute]}


def _of_codes_xml(content: bytes) -> Iterator[tuple[str, Values]]:
    """NIST's <Codes><CodeType name="classCode"><Code code= codingScheme= display=/>."""
    try:
        # Comments in these files hold what no parser takes (two hyphens), and nobody reads them here.
        root = xml.parse(_COMMENT.sub(b"", content), _LIMITS)
    except xml.XmlProblem as problem:
        raise ImportProblem(f"it is neither a JSON ValueSet nor a codes.xml: {problem}") from problem
    found = False
    for kind in root.iter("{*}CodeType"):
        attribute = _ATTRIBUTES.get(kind.get("name", ""))
        if attribute is not None:
            found = True
            yield attribute, tuple(_value(attribute, dict(each.attrib)) for each in kind.iter("{*}Code"))
    if not found:
        raise ImportProblem("it has no CodeType of an attribute that is known here")


def _value(attribute: str, code: Mapping[Any, Any]) -> CodedValue | str:
    text = str(code.get("code", "")).strip()
    if attribute in _PLAIN:
        return text
    return CodedValue(code=text, scheme=str(code.get("codingScheme", "")).strip(), display=str(code.get("display", "")))


def _of_value_set(content: bytes, attribute: str) -> Iterator[CodedValue | str]:
    try:
        resource = json.loads(content)
    except ValueError as problem:
        raise ImportProblem(f"it is no JSON: {problem}") from problem
    if not isinstance(resource, dict) or resource.get("resourceType") != "ValueSet":
        raise ImportProblem("it is no FHIR ValueSet")
    systems = CodeSystems.default()
    found = False
    for system, concept in _concepts(resource):
        found = True
        if attribute in _PLAIN:
            yield str(concept.get("code", ""))
        else:
            scheme = systems.scheme_of(system)
            yield CodedValue(code=str(concept.get("code", "")), scheme=scheme, display=str(concept.get("display", "")))
    if not found:
        raise ImportProblem("the ValueSet lists no codes; have a terminology server expand it")


def _concepts(resource: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(code system, concept): those of the expansion, or else those that it lists."""
    contained = list((resource.get("expansion") or {}).get("contains") or [])
    if contained:
        while contained:
            concept = contained.pop(0)
            contained[:0] = concept.get("contains") or []
            if concept.get("code") and not concept.get("abstract"):
                yield str(concept.get("system", "")), concept
        return
    compose = resource.get("compose") or {}
    for include in compose.get("include") or []:
        if not include.get("concept"):
            raise ImportProblem(
                f"it includes codes of {include.get('system', 'other ValueSets')} without listing them; "
                "have a terminology server expand it"
            )
        for concept in include["concept"]:
            yield str(include.get("system", "")), concept
    if compose.get("exclude"):
        raise ImportProblem("it excludes codes; have a terminology server expand it")
