"""Identifiers: of documents, of lists, of patients, of what a document is about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

from mhd.fhir.canonicals import IDENTIFIER_TYPES, URI
from mhd.fhir.exact_text import Json, exact_text, with_exact_text
from mhd.mapping.code_systems import DICOM_UID, CodeSystems
from mhd.mapping.hl7v2_components import URN_OID, authority_of, authority_system, escaped, joined, unescaped
from mhd.mapping.reading import Reading
from xds.hl7v2 import CX, CXi, is_oid

URN_UUID: Final = "urn:uuid:"
UNIQUE_ID: Final = "uniqueId"
ENTRY_UUID: Final = "entryUUID"
ENCOUNTER_ID: Final = "urn:ihe:iti:xds:2015:encounterId"
_STUDY_INSTANCE_UID: Final = "urn:ihe:iti:xds:2016:studyInstanceUID"
_USES: Final = {UNIQUE_ID: "usual", ENTRY_UUID: "official"}
NAME_ITS_OID: Final = "or name its OID in the settings: mhd.code_systems, or uri of patients.assigning_authorities"
"""What to change about a system that has no OID, beside sending one."""
_URN: Final = re.compile("urn:[A-Za-z0-9-]+:.+")


# uniqueId and entryUUID ---------------------------------------------------------------------------------------------


def unique_id_identifier(unique_id: str, systems: CodeSystems) -> Json:
    """The uniqueId of a document, SubmissionSet or Folder, in the forms of MHD 4.2.4 (type) and 4.2.3 (use) at once."""
    return _typed(UNIQUE_ID) | bare_unique_id(unique_id, systems)


def bare_unique_id(unique_id: str, systems: CodeSystems) -> Json:
    """system and value alone, as in a search or a logical reference."""
    read = partial(_read_unique_id, systems=systems)
    return with_exact_text(_unique_id(unique_id, systems), unique_id, read)


def _unique_id(unique_id: str, systems: CodeSystems) -> Json:
    root, caret, extension = unique_id.partition("^")
    if is_oid(unique_id):
        return {"system": URI, "value": f"{URN_OID}{unique_id}"}
    if caret and extension and is_oid(root):
        return {"system": systems.uri_of(root), "value": extension}
    return {"system": URI, "value": unique_id}


def entry_uuid_identifier(entry_uuid: str) -> Json:
    return _typed(ENTRY_UUID) | {"system": URI, "value": entry_uuid}


def _typed(kind: str) -> Json:
    return {"use": _USES[kind], "type": {"coding": [{"system": IDENTIFIER_TYPES, "code": kind}]}}


def unique_id_of(identifier: Json, systems: CodeSystems) -> str | None:
    """The uniqueId that an Identifier stands for; None where it stands for none: the system is no OID and has none."""
    own = {name: each for name, each in identifier.items() if name in ("system", "value", "extension")}
    return exact_text(own, partial(_unique_id, systems=systems)) or _read_unique_id(identifier, systems)


def _read_unique_id(identifier: Json, systems: CodeSystems) -> str | None:
    system, value = identifier.get("system"), identifier.get("value", "")
    oid = value.removeprefix(URN_OID)
    if is_oid(oid):
        # Older clients send the OID without a system, or bare.
        return oid if system in (None, URI) else _with_root(system, value, systems)
    if system == URI or (system is None and _URN.fullmatch(value)):
        return value or None
    return _with_root(system, value, systems) if system and value else None


def _with_root(system: str, value: str, systems: CodeSystems) -> str | None:
    root = systems.scheme_of(system)
    return f"{root}^{value}" if is_oid(root) else None


def kind_of(identifier: Json) -> str | None:
    """UNIQUE_ID or ENTRY_UUID: by type, else by use, else by the look of the value. None: neither."""
    codes = [each.get("code") for each in identifier.get("type", {}).get("coding", ())]
    for kind, use in _USES.items():
        if kind in codes or (not codes and identifier.get("use") == use):
            return kind
    if codes:
        return None
    value = identifier.get("value", "")
    return ENTRY_UUID if value.startswith(URN_UUID) else UNIQUE_ID if value.startswith(URN_OID) else None


def identifiers_of_kind(identifiers: Iterable[Json], kind: str) -> list[tuple[int, Json]]:
    """Those of one kind, with their places in the list."""
    return [(number, each) for number, each in enumerate(identifiers) if kind_of(each) == kind]


def entry_uuid_of(text: str) -> str | None:
    """`urn:uuid:` and a UUID in lower case, of a UUID with or without the urn; None: it is none."""
    try:
        return UUID(text.lower().removeprefix(URN_UUID)).urn if len(text.lower().removeprefix(URN_UUID)) == 36 else None
    except ValueError:
        return None


def resource_id(logical_id: str) -> str:
    """The id of the resource of an object: its logicalID, without the urn; of a Binary the entryUUID of a version."""
    return logical_id.removeprefix(URN_UUID)


# Patients -----------------------------------------------------------------------------------------------------------


def cx_identifier(value: CX, systems: CodeSystems) -> Json:
    return with_exact_text(_cx(value.text, systems), value.text, partial(_read_cx, systems=systems))


def cx_of(identifier: Json, systems: CodeSystems) -> CX | None:
    """The CX of an Identifier; None where its system is no OID and has none, or its value is missing."""
    own = {name: each for name, each in identifier.items() if name in ("system", "value", "extension")}
    text = exact_text(own, partial(_cx, systems=systems)) or _read_cx(identifier, systems)
    return CX(text) if text else None


def cxs_of(patient: Mapping[str, Any], systems: CodeSystems) -> list[CX]:
    """The CX of each Identifier of a Patient that is one."""
    return [cx for each in patient.get("identifier") or () if (cx := cx_of(each, systems)) is not None]


def _cx(text: str, systems: CodeSystems) -> Json:
    value = CX(text)
    system = authority_system(value.assigning_authority, systems)
    return ({"system": system} if system else {}) | {"value": unescaped(value.id_number) or text}


def _read_cx(identifier: Json, systems: CodeSystems) -> str | None:
    authority = authority_of(identifier.get("system", ""), systems)
    value = identifier.get("value")
    return f"{escaped(value)}^^^{authority}" if authority and value else None


# referenceIdList ----------------------------------------------------------------------------------------------------


def cxi_identifier(value: CXi, systems: CodeSystems) -> Json:
    return with_exact_text(_cxi(value.text, systems), value.text, partial(_read_cxi, systems=systems))


def cxi_of(identifier: Json, default_type: str, systems: CodeSystems, path: str, reading: Reading) -> CXi | None:
    """The CXi of an Identifier; `default_type` where it says nothing of its type."""
    own = {name: each for name, each in identifier.items() if name in ("type", "system", "value", "extension")}
    exact = exact_text(own, partial(_cxi, systems=systems))
    if exact:
        return CXi(exact)
    if not identifier.get("value"):
        reading.warn(path, f"{path} has no identifier with a value; it is not kept.")
        return None
    text = _read_cxi({"type": {"coding": [{"code": default_type}]}} | identifier, systems)
    if text is None:
        system = identifier.get("system", "")[:200]
        reading.refuse(path, f"The system of {path} is {system!r}; send urn:oid: and an OID, {NAME_ITS_OID}.")
    return CXi(text) if text else None


def _cxi(text: str, systems: CodeSystems) -> Json:
    value = CXi(text)
    system = authority_system(value.assigning_authority, systems)
    number = unescaped(value.id_number)
    type_code = " ".join(unescaped(value.identifier_type_code).split())
    if type_code == _STUDY_INSTANCE_UID and system is None and is_oid(number):
        system, number = DICOM_UID, f"{URN_OID}{number}"
    kind: Json = {"type": {"coding": [{"system": URI, "code": type_code}]}} if type_code else {}
    return kind | ({"system": system} if system else {}) | {"value": number or text}


def _read_cxi(identifier: Json, systems: CodeSystems) -> str | None:
    codes = (each.get("code") for each in identifier.get("type", {}).get("coding", ()))
    type_code = next((each for each in codes if each), "")
    system, value = identifier.get("system", ""), identifier["value"]
    if system in (DICOM_UID, URI) or (not system and value.startswith(URN_OID)):
        return joined((escaped(value.removeprefix(URN_OID)), "", "", "", escaped(type_code)))
    authority = authority_of(system, systems)
    if system and authority is None:
        return None
    return joined((escaped(value), "", "", authority or "", escaped(type_code)))
