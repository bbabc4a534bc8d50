"""Codes: Code of XDS, Coding and CodeableConcept of FHIR."""

from __future__ import annotations

from collections.abc import Sequence

from mhd.fhir.exact_text import Json, exact_text, with_exact_text
from mhd.fhir.operation_outcome import IssueType
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.domain import MhdDomain
from mhd.mapping.reading import Reading
from xds.errors import ErrorCode
from xds.hl7v2 import CX, is_oid
from xds.metadata import Code, LocalizedString


def coding_of(code: Code, systems: CodeSystems) -> Json:
    """The Coding of a code that has a code and a scheme. Its first display counts, where it says more than the code."""
    coding = _coding(code.code or "", code.coding_scheme or "", systems)
    display = code.display_name[0].value if code.display_name else ""
    if display and display != code.code:
        coding["display"] = display
    return with_exact_text(coding, code.code or "", lambda element: str(element["code"]))


def concept_of(code: Code, systems: CodeSystems) -> Json:
    return {"coding": [coding_of(code, systems)]}


def _coding(code: str, scheme: str, systems: CodeSystems) -> Json:
    return {"system": systems.system_of(scheme), "code": " ".join(code.split())}


def code_of(
    coding: Json, attribute: str, domain: MhdDomain, path: str, reading: Reading, *, text: str | None = None
) -> Code | None:
    """The code of a Coding. Where that has no display of its own, the affinity domain's is shown.

    text   what is said beside it: shown where the affinity domain has none either
    """
    if not coding.get("system") or not coding.get("code"):
        missing = "system" if not coding.get("system") else "code"
        reading.refuse(
            path,
            f"{path} has a Coding without a {missing}; send both system and code.",
            IssueType.CODE_INVALID,
            ErrorCode.REGISTRY_METADATA_ERROR,
        )
        return None
    system = coding["system"]
    if not domain.code_systems.is_known(system):
        reading.warn(
            path, f"The code system {system[:200]} has no OID here; its codes are kept with this URI as codingScheme."
        )
    scheme = domain.code_systems.scheme_of(system)
    exact = exact_text(
        {name: each for name, each in coding.items() if name in ("system", "code", "extension")},
        lambda code: _coding(code, scheme, domain.code_systems),
    )
    code = exact or coding["code"]
    display = coding.get("display") or domain.displays.get(attribute, {}).get(f"{code}^^{scheme}") or text or code
    return Code(code, scheme, (LocalizedString(display),))


def code_of_concept(concept: Json, attribute: str, domain: MhdDomain, path: str, reading: Reading) -> Code | None:
    """The one code of a CodeableConcept that XDS has room for: one of the affinity domain, else the first whole one."""
    codings: Sequence[Json] = concept.get("coding", ())
    if not codings:
        reading.refuse(
            path,
            f"{path} has no coding; send one with system and code.",
            IssueType.CODE_INVALID,
            ErrorCode.REGISTRY_METADATA_ERROR,
        )
        return None
    complete = [each for each in codings if each.get("system") and each.get("code")]
    known = domain.value_sets.get(attribute, frozenset())
    chosen = [each for each in complete if _coded(each, domain) in known] or complete or codings
    return code_of(chosen[0], attribute, domain, path, reading, text=concept.get("text"))


def _coded(coding: Json, domain: MhdDomain) -> str:
    return f"{coding['code']}^^{domain.code_systems.scheme_of(coding['system'])}"


# authorRole and authorSpecialty: a text, or a code with its authority ------------------------------------------------


def concept_of_role(role: str, systems: CodeSystems) -> Json:
    """`code^^^&OID&ISO` as a Coding, anything else as a text."""
    return with_exact_text(_role(role, systems), role, lambda element: _role_text(element, systems))


def role_of_concept(concept: Json, systems: CodeSystems, path: str, reading: Reading) -> str | None:
    exact = exact_text(concept, lambda text: _role(text, systems))
    role = exact or _role_text(concept, systems)
    if role is None:
        reading.warn(path, f"{path} has neither a coding with system and code nor a text; it is not kept.")
    return role


def _role(role: str, systems: CodeSystems) -> Json:
    value = CX(role)
    oid = value.assigning_authority.universal_id
    code = " ".join(value.id_number.split())
    if code and is_oid(oid):
        return {"coding": [{"system": systems.system_of(oid), "code": code}]}
    return {"text": role}


def _role_text(concept: Json, systems: CodeSystems) -> str | None:
    for coding in concept.get("coding", ()):
        oid = systems.scheme_of(coding.get("system", ""))
        if coding.get("code") and is_oid(oid):
            return f"{coding['code']}^^^&{oid}&ISO"
    text = concept.get("text")
    if text is None:
        shown = (coding.get("display") or coding.get("code") for coding in concept.get("coding", ()))
        text = next((each for each in shown if each), None)
    return text if text and text.strip() else None
