"""People and organizations: XCN, XON and XTN of XDS; Practitioner, Organization and ContactPoint of FHIR.

ITI TF-3: 4.2.3.1.7. The texts of XDS come back as they were (mhd/fhir/exact_text.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from mhd.fhir.canonicals import URI
from mhd.fhir.exact_text import Json, exact_text, with_exact_text
from mhd.fhir.operation_outcome import IssueType
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.hl7v2_components import URN_OID, authority_of, authority_system, components, escaped, joined
from mhd.mapping.identifiers import NAME_ITS_OID
from mhd.mapping.reading import Reading
from xds.hl7v2 import HD, XCN, XON, XTN, is_oid

# Names --------------------------------------------------------------------------------------------------------------


def human_name(parts: Sequence[str]) -> Json:
    """A HumanName of family, given, further given names, suffix and prefix (components of XPN, XCN from the second)."""
    family, given, further, suffix, prefix = parts
    name: Json = {}
    if family.strip():
        name["family"] = family
    if givens := [each for each in (given, *further.split()) if each.strip()]:
        name["given"] = givens
    if prefix.strip():
        name["prefix"] = [prefix]
    if suffix.strip():
        name["suffix"] = [suffix]
    return name


def name_components(name: Json) -> list[str]:
    """family, given, further given names, suffix, prefix, escaped. A name without parts counts as a family name."""
    given = name.get("given", [])
    family = name.get("family") or ("" if given else name.get("text", ""))
    parts = (
        family,
        given[0] if given else "",
        " ".join(given[1:]),
        " ".join(name.get("suffix", ())),
        " ".join(name.get("prefix", ())),
    )
    return [escaped(each) for each in parts]


# Persons ------------------------------------------------------------------------------------------------------------


def person_element(person: XCN, systems: CodeSystems) -> Json:
    """identifier and name of a Practitioner."""
    return with_exact_text(_person(person.text, systems), person.text, partial(_read_person, systems=systems))


def person_of(resource: Json, systems: CodeSystems) -> XCN | None:
    """The XCN of a Practitioner, Patient or RelatedPerson; None where it has neither identifier nor name."""
    own = {name: each for name, each in resource.items() if name in ("identifier", "name", "extension")}
    text = exact_text(own, partial(_person, systems=systems)) or _read_person(resource, systems)
    return XCN(text) if text else None


def _person(text: str, systems: CodeSystems) -> Json:
    number, *name = components(text, 6)
    found: Json = {}
    if number.strip():
        system = authority_system(XCN(text).assigning_authority, systems)
        found["identifier"] = [({"system": system} if system else {}) | {"value": number}]
    if named := human_name(name):
        found["name"] = [named]
    return found


def _read_person(resource: Json, systems: CodeSystems) -> str | None:
    number, authority = _first_id(resource.get("identifier", ()), systems)
    names = resource.get("name", ())
    name = name_components(names[0]) if names else [""] * 5
    return joined((number, *name, "", "", authority)) or None


def _first_id(identifiers: Sequence[Json], systems: CodeSystems) -> tuple[str, str]:
    """Number and authority of the Identifier that is kept."""
    kept = _kept_identifier(identifiers, systems)
    return escaped(kept.get("value", "")), authority_of(kept.get("system", ""), systems) or ""


def _kept_identifier(identifiers: Sequence[Json], systems: CodeSystems) -> Json:
    """The first that has a number and an authority, else the first that has a number; {}: there is none."""
    given = [each for each in identifiers if each.get("value")]
    known = (each for each in given if authority_of(each.get("system", ""), systems))
    return next(known, next(iter(given), {}))


def warn_of_lost_system(resource: Json, systems: CodeSystems, path: str, reading: Reading) -> None:
    """Say so where a number is kept without its system, for which XCN and XON have no place."""
    identifiers = resource.get("identifier", ())
    system = _kept_identifier(identifiers, systems).get("system")
    if not system or authority_of(system, systems) or any(each.get("system") == URI for each in identifiers):
        return
    whose = f"of the identifier of the {resource['resourceType']}"
    sentence = (
        f"The system {system[:200]!r} {whose} is no OID and is not kept; send urn:oid: and an OID, {NAME_ITS_OID}."
    )
    reading.warn(path, sentence)


# Organizations ------------------------------------------------------------------------------------------------------


def organization_element(organization: XON, systems: CodeSystems) -> Json:
    """identifier and name of an Organization."""
    read = partial(_read_organization, systems=systems)
    return with_exact_text(_organization(organization.text, systems), organization.text, read)


def organization_of(resource: Json, systems: CodeSystems, display: str | None = None) -> XON | None:
    """The XON of an Organization; one without name is called by `display`, or by its identifier."""
    own = {name: each for name, each in resource.items() if name in ("identifier", "name", "extension")}
    text = exact_text(own, partial(_organization, systems=systems)) or _read_organization(resource, systems, display)
    return XON(text) if text else None


def _organization(text: str, systems: CodeSystems) -> Json:
    value = XON(text)
    name, *_ = components(text, 1)
    number = components(text, 10)[9]
    found: Json = {}
    if number.strip():
        system = authority_system(HD(value.component(6)), systems)
        if system is None and is_oid(number):
            system, number = URI, f"{URN_OID}{number}"
        found["identifier"] = [({"system": system} if system else {}) | {"value": number}]
    if name.strip():
        found["name"] = name
    return found


def _read_organization(resource: Json, systems: CodeSystems, display: str | None = None) -> str | None:
    for identifier in resource.get("identifier", ()):
        value = identifier.get("value", "")
        if is_oid(value.removeprefix(URN_OID)) and identifier.get("system", URI) == URI:
            number, authority = value.removeprefix(URN_OID), ""
            break
    else:
        number, authority = _first_id(resource.get("identifier", ()), systems)
    name = escaped(resource.get("name") or display or "") or number
    return joined((name, "", "", "", "", authority, "", "", "", number)) or None


# Telecommunication --------------------------------------------------------------------------------------------------

_PHONE_USES: Final[Mapping[str, str]] = {"home": "PRN", "work": "WPN", "mobile": "", "temp": "", "old": ""}
_EQUIPMENT: Final[Mapping[str, str]] = {"phone": "PH", "fax": "FX", "pager": "BP", "sms": "CP", "email": "Internet"}
_SYSTEMS: Final = {equipment: system for system, equipment in _EQUIPMENT.items()} | {"CP": "phone"}
_USE_OF_CODE: Final = {code: use for use, code in _PHONE_USES.items() if code}


def contact_point(telecommunication: XTN) -> Json:
    return with_exact_text(_contact(telecommunication.text), telecommunication.text, _read_contact)


def telecommunication_of(contact: Json) -> XTN | None:
    """The XTN of a ContactPoint that has a value."""
    text = exact_text(contact, _contact) or _read_contact(contact)
    return XTN(text) if text else None


def _contact(text: str) -> Json:
    _, code, equipment, address, country, area, number, extension, _, _, _, free = components(text, 12)
    if equipment in ("Internet", "X.400"):
        value = address
        system = "url" if "://" in address else "email"
    else:
        parts = (f"+{country}" if country else "", area, number, f"x{extension}" if extension else "")
        value = free or " ".join(each for each in parts if each)
        system = _SYSTEMS.get(equipment, "other" if equipment else "phone")
    use = "mobile" if equipment == "CP" else _USE_OF_CODE.get(code)
    found = {"system": system, "value": value if value.strip() else text}
    return found | ({"use": use} if use and system != "email" else {})


def _read_contact(contact: Json) -> str | None:
    value = escaped(contact.get("value", ""))
    if not value.strip():
        return None
    system, use = contact.get("system", ""), contact.get("use", "")
    if system in ("email", "url") or (not system and "@" in value):
        return f"^^Internet^{value}"
    equipment = "CP" if use == "mobile" else _EQUIPMENT.get(system, "PH")
    return f"^{_PHONE_USES.get(use, '')}^{equipment}^^^^^^^^^{value}"


def telecommunications_of(resource: Json, path: str, reading: Reading) -> tuple[XTN, ...]:
    """Those of a resource; a ContactPoint without value is nothing that anybody can call."""
    found = []
    for number, contact in enumerate(resource.get("telecom", ())):
        telecommunication = telecommunication_of(contact)
        if telecommunication is None:
            reading.refuse(f"{path}.telecom[{number}]", "A telecom has no value; send it.", IssueType.REQUIRED)
        else:
            found.append(telecommunication)
    return tuple(found)
