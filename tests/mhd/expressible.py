"""Metadata as MHD can express it: without what FHIR has no place for (see mhd/mapping/document_reference.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from mhd.mapping.document_reference import first_text
from mhd.mapping.identifiers import ENCOUNTER_ID
from xds.metadata import (
    Author,
    AvailabilityStatus,
    Code,
    DocumentEntry,
    Folder,
    InternationalString,
    LocalizedString,
    SubmissionSet,
)

Item = TypeVar("Item", DocumentEntry, SubmissionSet, Folder)

_NOT_IN_FHIR: dict[str, Any] = {
    "logical_id": None,
    "version": None,
    "version_comment": None,
    "extra_slots": (),
    "extra_classifications": (),
    "extra_identifiers": (),
}


def expressible(item: Item) -> Item:
    """The object with all that must come back from FHIR."""
    common: dict[str, Any] = _NOT_IN_FHIR | {
        "availability_status": item.availability_status or AvailabilityStatus.APPROVED.value,
        "title": _text(item.title),
        "comments": _text(item.comments),
    }
    return replace(item, **common | _own(item))


def _own(item: DocumentEntry | SubmissionSet | Folder) -> dict[str, Any]:
    if isinstance(item, Folder):
        return {"code_list": tuple(_code(each) for each in item.code_list)}
    authors = tuple(_author(each) for each in item.author)
    if isinstance(item, SubmissionSet):
        return {"author": authors, "content_type_code": item.content_type_code and _code(item.content_type_code)}
    codes = ("type_code", "class_code", "format_code", "healthcare_facility_type_code", "practice_setting_code")
    lists = ("confidentiality_code", "event_code_list")
    encounters = [each for each in item.reference_id_list if each.identifier_type_code == ENCOUNTER_ID]
    others = [each for each in item.reference_id_list if each.identifier_type_code != ENCOUNTER_ID]
    return {
        **{name: getattr(item, name) and _code(getattr(item, name)) for name in codes},
        **{name: tuple(_code(each) for each in getattr(item, name)) for name in lists},
        "author": authors,
        "hash": item.hash and item.hash.lower(),
        "document_availability": None,
        "is_opaque": None,
        "repository_unique_id": None,
        "uri": None,
        "reference_id_list": (*others, *encounters),
    }


def _text(text: InternationalString) -> InternationalString:
    value = first_text(text)
    return (LocalizedString(value),) if value else ()


def _code(code: Code) -> Code:
    """FHIR shows the first display, and the code itself where there is none."""
    display = code.display_name[0].value if code.display_name else ""
    return Code(code.code, code.coding_scheme, (LocalizedString(display or code.code or ""),))


def _author(author: Author) -> Author:
    return replace(author, extra_slots=())
