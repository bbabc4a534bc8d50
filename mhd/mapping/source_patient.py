"""The patient as the source knew him: sourcePatientId and sourcePatientInfo; a contained Patient in FHIR.

ITI TF-3: 4.2.3.2.22 and 4.2.3.2.23. Each line of sourcePatientInfo is one field of a PID segment: `PID-5|Saar^Liis`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mhd.fhir.canonicals import XDS_TEXT
from mhd.fhir.exact_text import Json
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.domain import MhdDomain
from mhd.mapping.hl7v2_components import components, escaped, joined
from mhd.mapping.identifiers import cx_identifier, cx_of, cxs_of
from mhd.mapping.people import human_name, name_components
from mhd.mapping.times import date_of
from xds.hl7v2 import CX

_GENDERS: Final[Mapping[str, str]] = {
    "F": "female",
    "M": "male",
    "U": "unknown",
    "O": "other",
    "A": "other",
    "N": "other",
}
_SEXES: Final[Mapping[str, str]] = {"female": "F", "male": "M", "unknown": "U", "other": "O"}


# XDS -> FHIR --------------------------------------------------------------------------------------------------------


def patient_resource(source_patient_id: CX | None, lines: Sequence[str], systems: CodeSystems) -> Json | None:
    """A Patient to be contained, without id. None: nothing is known about him."""
    if source_patient_id is None and not lines:
        return None
    patient = _patient(source_patient_id, lines, systems)
    if _lines(patient, systems) != list(lines):
        patient["extension"] = [{"url": XDS_TEXT, "valueString": line} for line in lines]
        if not lines:
            patient["extension"] = [{"url": XDS_TEXT, "valueString": "-"}]
    return patient


def _patient(source_patient_id: CX | None, lines: Sequence[str], systems: CodeSystems) -> Json:
    patient: Json = {"resourceType": "Patient"}
    for line in lines:
        field, _, value = line.partition("|")
        if field in _FIELDS:
            _FIELDS[field](patient, value, systems)
    if source_patient_id is not None:
        _mark_source_id(patient, cx_identifier(source_patient_id, systems))
    return patient


def _mark_source_id(patient: Json, identifier: Json) -> None:
    """The sourcePatientId is the usual one of the identifiers."""
    identifiers = patient.setdefault("identifier", [])
    if identifier in identifiers:
        identifiers[identifiers.index(identifier)] = {"use": "usual"} | identifier
    else:
        identifiers.insert(0, {"use": "usual"} | identifier)


def _identifier(patient: Json, value: str, systems: CodeSystems) -> None:
    for each in value.split("~"):
        if each:
            patient.setdefault("identifier", []).append(cx_identifier(CX(each), systems))


def _name(patient: Json, value: str, _: CodeSystems) -> None:
    for each in value.split("~"):
        if name := human_name(components(each, 5)):
            patient.setdefault("name", []).append(name)


def _birth_date(patient: Json, value: str, _: CodeSystems) -> None:
    if day := date_of(value):
        patient["birthDate"] = day


def _gender(patient: Json, value: str, _: CodeSystems) -> None:
    if value in _GENDERS:
        patient["gender"] = _GENDERS[value]


_ADDRESS: Final = ("line", "", "city", "state", "postalCode", "country", "", "", "district")


def _address(patient: Json, value: str, _: CodeSystems) -> None:
    for each in value.split("~"):
        parts = dict(zip(_ADDRESS, components(each, len(_ADDRESS)), strict=True))
        address: Json = {name: part for name, part in parts.items() if name and part.strip()}
        if "line" in address:
            address["line"] = [address["line"]]
        if address:
            patient.setdefault("address", []).append(address)


_FIELDS: Final[Mapping[str, Callable[[Json, str, CodeSystems], None]]] = {
    "PID-3": _identifier,
    "PID-5": _name,
    "PID-7": _birth_date,
    "PID-8": _gender,
    "PID-11": _address,
}


# FHIR -> XDS --------------------------------------------------------------------------------------------------------


def source_patient_id_of(patient: Json, domain: MhdDomain) -> CX | None:
    """The usual identifier, else the first that is not the affinity domain's, else the first."""
    known = [(each, cx) for each in patient.get("identifier", ()) if (cx := cx_of(each, domain.code_systems))]
    usual = [cx for each, cx in known if each.get("use") == "usual"]
    foreign = [cx for _, cx in known if not domain.is_authority(cx.assigning_authority.universal_id)]
    return next(iter([*usual, *foreign, *(cx for _, cx in known)]), None)


def source_patient_info_of(patient: Json, domain: MhdDomain) -> tuple[str, ...]:
    """The lines of sourcePatientInfo: those beside the Patient, where they still say what the Patient says."""
    said = [
        each["valueString"]
        for each in patient.get("extension", ())
        if each["url"] == XDS_TEXT and "valueString" in each
    ]
    if said:
        lines = [] if said == ["-"] else said
        plain = {name: value for name, value in patient.items() if name not in ("id", "extension")}
        if _patient(source_patient_id_of(patient, domain), lines, domain.code_systems) == plain:
            return tuple(lines)
    return tuple(_lines(patient, domain.code_systems))


def _lines(patient: Json, systems: CodeSystems) -> list[str]:
    lines = [f"PID-3|{cx.text}" for cx in cxs_of(patient, systems)]
    lines += [f"PID-5|{name}" for each in patient.get("name", ()) if (name := joined(name_components(each)))]
    if "birthDate" in patient:
        lines.append(f"PID-7|{patient['birthDate'].replace('-', '')}")
    if "gender" in patient:
        lines.append(f"PID-8|{_SEXES[patient['gender']]}")
    lines += [f"PID-11|{address}" for each in patient.get("address", ()) if (address := _address_components(each))]
    return lines


def _address_components(address: Json) -> str:
    street = ", ".join(address.get("line", ())) or ("" if "city" in address else address.get("text", ""))
    named = address | {"line": street}
    return joined(escaped(named.get(name, "")) if name else "" for name in _ADDRESS)
