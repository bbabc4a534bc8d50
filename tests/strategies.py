"""Arbitrary valid metadata for property tests: every attribute there or not, texts of any characters XML can carry.

What is drawn passes the rules of Register Document Set-b [ITI-42], except that objects may be versions that a registry
returned (status, logicalID, version).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.builders import PATIENT, submission
from xds.hl7v2 import CX, DTM, XCN, XON, XTN, CXi
from xds.metadata import (
    AnyObject,
    Association,
    AssociationType,
    Author,
    AvailabilityStatus,
    Classification,
    Code,
    DocumentEntry,
    DocumentEntryType,
    ExternalIdentifier,
    Folder,
    InternationalString,
    LocalizedString,
    Slot,
    Submission,
    SubmissionSet,
)

T = TypeVar("T")

_NOT_IN_XML = "\ufffe\uffff" + "".join(chr(each) for each in range(0x20) if chr(each) not in "\t\n\r")
_CHARACTERS = st.one_of(
    st.sampled_from("""&<>"'^|~\\-_. \tÄäõŠ漢字\U0001f984\xa0\u2028"""),
    st.characters(exclude_categories=["Cs"], exclude_characters=_NOT_IN_XML),
)
_ASCII = st.characters(min_codepoint=0x21, max_codepoint=0x7E)

TEXTS = st.text(_CHARACTERS, max_size=20)
"""Any text that XML 1.0 can carry."""


def _trimmed(text: str) -> str:
    return text.strip(" \t\r\n")


VALUES = TEXTS.map(_trimmed).filter(lambda text: text.strip())
"""Values of Slots: what white space surrounds them is not theirs."""

_COMPONENTS = VALUES.map(lambda text: text.translate({ord(each): "_" for each in "^&|~"}))
_OIDS = st.lists(st.integers(0, 2**40), min_size=1, max_size=4).map(
    lambda arcs: "2.25." + ".".join(str(arc) for arc in arcs)
)
UUIDS = st.uuids().map(lambda value: value.urn)
PATIENT_IDS = st.builds(CX.of, _COMPONENTS, _OIDS)
_PERSONS = st.builds(
    lambda id_number, family, given, oid: XCN(f"{id_number}^{family}^{given}^^^^^^{f'&{oid}&ISO' if oid else ''}"),
    _COMPONENTS, _COMPONENTS, _COMPONENTS, st.none() | _OIDS,
)  # fmt: skip
_ORGANIZATIONS = st.builds(lambda name, oid: XON(f"{name}^^^^^&{oid}&ISO^^^^7"), _COMPONENTS, _OIDS)
_TELECOMMUNICATIONS = _COMPONENTS.map(lambda address: XTN(f"^^Internet^{address}"))
_REFERENCE_IDS = st.builds(
    lambda number, oid, kind: CXi(f"{number}^^^&{oid}&ISO^{kind}"), _COMPONENTS, _OIDS, _COMPONENTS
)
TIMES = st.builds(
    lambda time, digits: DTM(time.strftime("%Y%m%d%H%M%S").zfill(14)[:digits]),
    st.datetimes(),
    st.sampled_from((4, 6, 8, 10, 12, 14)),
)

_LANGUAGES = st.sampled_from((None, "en", "et-EE", "zh-Hant"))
INTERNATIONAL_STRINGS: SearchStrategy[InternationalString] = st.lists(
    st.builds(LocalizedString, TEXTS, _LANGUAGES, st.sampled_from((None, "UTF-8"))), max_size=3
).map(tuple)


def _tuples(values: SearchStrategy[T], *, at_least: int = 0) -> SearchStrategy[tuple[T, ...]]:
    return st.lists(values, min_size=at_least, max_size=at_least + 2).map(tuple)


_SLOTS = st.lists(
    st.builds(
        Slot,
        VALUES.map(lambda name: f"urn:{name}"),
        _tuples(TEXTS.map(_trimmed)),
        st.none() | VALUES.map(lambda name: f"urn:type:{name}"),
    ),
    max_size=2,
    unique_by=lambda slot: slot.name,
).map(tuple)
CODES = st.builds(Code, VALUES, VALUES, INTERNATIONAL_STRINGS, _SLOTS)
AUTHORS = st.builds(
    Author,
    _PERSONS,
    _tuples(_ORGANIZATIONS),
    _tuples(_COMPONENTS),
    _tuples(_COMPONENTS),
    _tuples(_TELECOMMUNICATIONS),
    _SLOTS,
)
_CLASSIFICATIONS = st.builds(
    Classification, UUIDS, st.none() | TEXTS, st.none() | UUIDS, _SLOTS, INTERNATIONAL_STRINGS, INTERNATIONAL_STRINGS
)
_IDENTIFIERS = st.builds(ExternalIdentifier, UUIDS, TEXTS, INTERNATIONAL_STRINGS, INTERNATIONAL_STRINGS, _SLOTS)
_HASHES = st.text("0123456789abcdefABCDEF", min_size=40, max_size=40)
_SIZES = st.integers(0, 2**50).map(str)
_DOCUMENT_UNIQUE_IDS = st.text(_ASCII, min_size=1, max_size=128)
_URIS = st.text(_ASCII, min_size=1, max_size=600)


def _common(**attributes: SearchStrategy[Any]) -> dict[str, SearchStrategy[Any]]:
    return {
        "entry_uuid": UUIDS,
        "version": st.none() | st.integers(1, 99).map(str),
        "version_comment": st.none() | TEXTS,
        "home_community_id": st.none() | _OIDS.map(lambda oid: f"urn:oid:{oid}"),
        "availability_status": st.sampled_from((None, AvailabilityStatus.APPROVED.value)),
        "title": INTERNATIONAL_STRINGS,
        "comments": INTERNATIONAL_STRINGS,
        "extra_slots": _SLOTS,
        "extra_classifications": _tuples(_CLASSIFICATIONS),
        "extra_identifiers": _tuples(_IDENTIFIERS),
        **attributes,
    }


def document_entries(**attributes: SearchStrategy[Any]) -> SearchStrategy[DocumentEntry]:
    """Stable DocumentEntries; `attributes` are strategies in place of the usual ones."""
    usual = _common(
        unique_id=_DOCUMENT_UNIQUE_IDS,
        patient_id=PATIENT_IDS,
        author=_tuples(AUTHORS),
        class_code=CODES,
        confidentiality_code=_tuples(CODES, at_least=1),
        creation_time=TIMES,
        document_availability=st.none() | VALUES,
        event_code_list=_tuples(CODES),
        format_code=CODES,
        hash=_HASHES,
        healthcare_facility_type_code=CODES,
        is_opaque=st.sampled_from((None, "true", "false")),
        language_code=st.sampled_from(("en", "et-EE", "de-CH")),
        legal_authenticator=st.none() | _PERSONS,
        mime_type=st.sampled_from(("text/plain", "application/pdf", "text/xml; charset=UTF-8")),
        object_type=st.just(DocumentEntryType.STABLE.value),
        practice_setting_code=CODES,
        reference_id_list=_tuples(_REFERENCE_IDS),
        repository_unique_id=_OIDS,
        service_start_time=st.none() | TIMES,
        size=_SIZES,
        source_patient_id=PATIENT_IDS,
        source_patient_info=_tuples(_COMPONENTS.map(lambda name: f"PID-5|{name}^^^^")),
        type_code=CODES,
        uri=st.none() | _URIS,
    )
    return st.builds(DocumentEntry, **usual | attributes)


def submission_sets(**attributes: SearchStrategy[Any]) -> SearchStrategy[SubmissionSet]:
    usual = _common(
        unique_id=_OIDS,
        patient_id=PATIENT_IDS,
        author=_tuples(AUTHORS),
        content_type_code=CODES,
        intended_recipient=_tuples(_ORGANIZATIONS.map(lambda organization: organization.text)),
        source_id=_OIDS,
        submission_time=TIMES,
    )
    return st.builds(SubmissionSet, **usual | attributes)


def folders(**attributes: SearchStrategy[Any]) -> SearchStrategy[Folder]:
    usual = _common(
        unique_id=_OIDS,
        patient_id=PATIENT_IDS,
        code_list=_tuples(CODES, at_least=1),
        title=INTERNATIONAL_STRINGS.filter(bool),
    )
    return st.builds(Folder, **usual | attributes)


def associations(**attributes: SearchStrategy[Any]) -> SearchStrategy[Association]:
    usual = _common(
        association_type=st.sampled_from([each.value for each in AssociationType]),
        source_object=UUIDS,
        target_object=UUIDS,
        documentation=st.none() | CODES,
        submission_set_status=st.sampled_from((None, "Original", "Reference")),
    )
    return st.builds(Association, **usual | attributes)


def objects() -> SearchStrategy[AnyObject]:
    """An object of any of the four kinds."""
    return st.one_of(document_entries(), submission_sets(), folders(), associations())


def submissions() -> SearchStrategy[Submission]:
    """A SubmissionSet of PATIENT with up to three entries and two Folders, as a source sends it."""
    patient = st.just(PATIENT)
    return st.builds(
        _submission,
        st.lists(document_entries(patient_id=patient), max_size=3, unique_by=lambda entry: entry.unique_id),
        st.lists(folders(patient_id=patient), max_size=2, unique_by=lambda folder: folder.unique_id),
        st.lists(UUIDS, min_size=5, max_size=5, unique=True),
        AUTHORS,
    )


def _submission(
    entries: list[DocumentEntry], folders_: list[Folder], entry_uuids: list[str], author: Author
) -> Submission:
    return submission(
        *(replace(entry, entry_uuid=entry_uuid) for entry, entry_uuid in zip(entries, entry_uuids, strict=False)),
        folders=tuple(
            replace(folder, entry_uuid=entry_uuid)
            for folder, entry_uuid in zip(folders_, reversed(entry_uuids), strict=False)
        ),
        author=(author,),
    )
