"""One submission for each way of breaking a rule of xds/metadata_rules.py and xds/message_rules.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.builders import (
    OTHER_PATIENT,
    PATIENT,
    association,
    author,
    code,
    document_entry,
    entry_uuid,
    folder,
    has_member,
    oid,
    submission,
    submission_set,
)
from xds.errors import ErrorCode
from xds.hl7v2 import CX, DTM, XCN, XON, XTN, CXi
from xds.metadata import (
    Association,
    AssociationType,
    AvailabilityStatus,
    Classification,
    Code,
    DocumentEntryType,
    ExternalIdentifier,
    LocalizedString,
    ObjectKind,
    Slot,
    Submission,
)

LONG = "x" * 257


@dataclass(frozen=True)
class Broken:
    """A submission that breaks one rule.

    words   of the sentence
    code    None: the default of the transaction
    """

    name: str
    submission: Submission
    words: str
    code: ErrorCode | None = None


def with_changes(kind: ObjectKind, **changes: Any) -> Submission:
    """A valid submission with one object of each kind, of which the one of `kind` is changed."""
    entry, package = document_entry(), folder()
    if kind is ObjectKind.DOCUMENT_ENTRY:
        entry = replace(entry, **changes)
    if kind is ObjectKind.FOLDER:
        package = replace(package, **changes)
    whole = submission(entry, folders=(package,), associations=(has_member(package, entry),), patient_id=PATIENT)
    if kind is ObjectKind.SUBMISSION_SET:
        whole = _with_set(whole, **changes)
    if kind is ObjectKind.ASSOCIATION:
        *others, last = whole.associations
        whole = replace(whole, associations=(*others, replace(last, **changes)))
    return whole


def _with_set(whole: Submission, **changes: Any) -> Submission:
    """Changes the SubmissionSet, and with its id the associations from it."""
    old = whole.submission_set.entry_uuid
    new = changes.get("entry_uuid", old)
    links = tuple(
        replace(link, source_object=new) if link.source_object == old else link for link in whole.associations
    )
    return replace(whole, submission_sets=(replace(whole.submission_set, **changes),), associations=links)


_ILLEGAL_ANYWHERE: Mapping[str, tuple[tuple[Any, str], ...]] = {
    "entry_uuid": (("urn:uuid:4711", "is not a UUID"),),
    "extra_slots": (
        ((Slot("", ("a",)),), "has no name"),
        ((Slot("urn:example:note", (LONG,)),), "257 characters"),
    ),
    "extra_classifications": (
        ((Classification(entry_uuid(), "x", slots=(Slot("a"), Slot("a"))),), "has two Slots 'a'"),
        ((Classification(entry_uuid(), "x", slots=(Slot(""),)),), "a Slot without a name"),
        ((Classification(entry_uuid(), "x", slots=(Slot("a", (LONG,)),)),), "257 characters"),
    ),
    "extra_identifiers": (((ExternalIdentifier(entry_uuid(), "x", slots=(Slot("a"), Slot("a"))),), "has two Slots"),),
}
_ILLEGAL_CODES = (
    (Code(None, "1.2.3"), "has no nodeRepresentation"),
    (Code("N", None), "without a coding scheme"),
    (Code("N", LONG), "257 characters"),
    (Code("N", "1.2.3", extra_slots=(Slot("a"), Slot("a"))), "has two Slots"),
)
_ILLEGAL_PATIENT_IDS = (
    (CX("4711"), "no assigning authority"),
    (CX("4711^^^NAME&1.2.3&ISO"), "namespace id"),
    (CX("^^^&1.2.3&ISO"), "no id number"),
    (CX("4711^^^& 1.2.3&ISO"), "is not an OID"),
)
_ILLEGAL_AUTHORS = (
    (author(author_person=None, author_institution=()), "names nobody"),
    (author(author_person=XCN("^^")), "neither an id nor a name"),
    (author(author_person=XCN(LONG)), "257 characters"),
    (author(author_institution=(XON("^^^^^&1.2.3&ISO"),)), "no organization name"),
    (author(author_telecommunication=(XTN("^^Internet^"),)), "no address"),
    (author(author_role=(" ",)), "is empty"),
    (author(author_role=("attending^physician",)), "send a text or code"),
    (author(author_specialty=("C1^^^HOSPITAL&1.2.3&ISO",)), "namespace id"),
    (author(extra_slots=(Slot("a"), Slot("a"))), "has two Slots"),
)
_ILLEGAL_TITLES = (
    (LocalizedString("Epikriis", "et", "ISO-8859-1"), "send UTF-8"),
    (LocalizedString("x" * 129), "129 characters"),
)


def _each(illegal: tuple[tuple[Any, str], ...]) -> tuple[tuple[Any, str], ...]:
    return tuple(((value,), words) for value, words in illegal)


ILLEGAL_VALUES: Mapping[ObjectKind, Mapping[str, tuple[tuple[Any, str], ...]]] = {
    ObjectKind.DOCUMENT_ENTRY: {
        **_ILLEGAL_ANYWHERE,
        "author": _each(_ILLEGAL_AUTHORS),
        "class_code": _ILLEGAL_CODES,
        "confidentiality_code": _each(_ILLEGAL_CODES),
        "creation_time": (
            (DTM("2026-03-14"), "is not a time"),
            (DTM("20260230"), "a day that does not exist"),
        ),
        "document_availability": ((LONG, "257 characters"),),
        "event_code_list": _each(_ILLEGAL_CODES),
        "format_code": _ILLEGAL_CODES,
        "hash": (("abc", "40 hexadecimal digits"), ("0" * 64, "40 hexadecimal digits")),
        "healthcare_facility_type_code": _ILLEGAL_CODES,
        "language_code": (("Estonian language", "a language tag"),),
        "legal_authenticator": ((XCN("^^"), "neither an id nor a name"),),
        "limited_metadata": ((True, "limitedMetadata Classification"),),
        "mime_type": (("pdf", "type/subtype"),),
        "object_type": (
            (DocumentEntryType.ON_DEMAND, "registered with ITI-61"),
            ("urn:uuid:4711", "registered with ITI-61"),
        ),
        "patient_id": _ILLEGAL_PATIENT_IDS,
        "practice_setting_code": _ILLEGAL_CODES,
        "reference_id_list": _each(
            ((CXi("^^^&1.2.3&ISO^urn:example:case"), "no id number"), (CXi("4711^^^&1.2.3&ISO"), "type code"))
        ),
        "repository_unique_id": (("1.02.3", "not an OID"),),
        "service_start_time": ((DTM("202613"), "a day that does not exist"),),
        "service_stop_time": ((DTM("2026031425"), "a time of day that does not exist"),),
        "size": (("1 KiB", "in digits"), ("-1", "in digits")),
        "source_patient_id": _ILLEGAL_PATIENT_IDS,
        "source_patient_info": _each(
            (("Saar, Liis", "not a field of a PID segment"), ("PID-19|1", "must not be sent"), ("PID-40|1", "1 to 39"),
             (f"PID-5|{LONG}", "characters long"))
        ),
        "title": _each(_ILLEGAL_TITLES),
        "type_code": _ILLEGAL_CODES,
        "unique_id": (("1.2.3 4", "without blanks"), ("1" * 129, "at most 128"), ("süda", "ASCII")),
    },
    ObjectKind.SUBMISSION_SET: {
        **_ILLEGAL_ANYWHERE,
        "author": _each(_ILLEGAL_AUTHORS),
        "availability_status": ((AvailabilityStatus.DEPRECATED, "the status Approved, or none"),),
        "content_type_code": _ILLEGAL_CODES,
        "intended_recipient": _each(
            (("||", "one of them at least"), ("Kliinik|^Tamm|^^Internet^a@b|x", "one of them at least"),
             ("^^^^^&1.2.3&ISO", "no organization name"), (LONG, "257 characters"))
        ),
        "limited_metadata": ((True, "limitedMetadata Classification"),),
        "patient_id": _ILLEGAL_PATIENT_IDS,
        "source_id": (("Source 7", "not an OID"),),
        "submission_time": ((DTM("yesterday"), "is not a time"),),
        "unique_id": ((f"urn:uuid:{entry_uuid()}", "not an OID"), ("2.25." + "1" * 60, "not an OID")),
    },
    ObjectKind.FOLDER: {
        **_ILLEGAL_ANYWHERE,
        "availability_status": ((AvailabilityStatus.DEPRECATED, "the status Approved, or none"),),
        "code_list": _each(_ILLEGAL_CODES),
        "last_update_time": ((DTM("20260314"), "with seconds"), (DTM("x"), "is not a time")),
        "limited_metadata": ((True, "limitedMetadata Classification"),),
        "patient_id": _ILLEGAL_PATIENT_IDS,
        "title": _each(_ILLEGAL_TITLES),
        "unique_id": (("Folder-1", "not an OID"),),
    },
    ObjectKind.ASSOCIATION: {
        **_ILLEGAL_ANYWHERE,
        "association_propagation": (("yes", "ITI-57"),),
        "documentation": _ILLEGAL_CODES,
        "new_status": ((AvailabilityStatus.DEPRECATED, "ITI-57"),),
        "original_status": ((AvailabilityStatus.APPROVED, "ITI-57"),),
        "previous_version": (("1", "ITI-57"),),
    },
}  # fmt: skip
"""For every attribute rule: values that break it, and words of the sentence."""


def _linked(make: Callable[[Any, Any, Any], Association]) -> Submission:
    """A document, a Folder and one more association, made from the SubmissionSet, the document and the Folder."""
    entry, package = document_entry(), folder()
    whole = submission(entry, folders=(package,))
    return replace(whole, associations=(*whole.associations, make(whole.submission_set, entry, package)))


def _two_replacements() -> Submission:
    first, second, replaced = document_entry(), document_entry(), entry_uuid()
    links = (association(AssociationType.RPLC, first, replaced), association(AssociationType.RPLC, second, replaced))
    return submission(first, second, associations=links)


def _folder_in_folder() -> Submission:
    outer, inner = folder(), folder()
    return submission(folders=(outer, inner), associations=(has_member(outer, inner),))


def _bare(link: Association) -> Submission:
    whole = submission(document_entry())
    return replace(whole, associations=(*whole.associations, link))


def _two_sets() -> Submission:
    whole = submission(document_entry())
    return replace(whole, submission_sets=(*whole.submission_sets, submission_set()))


def _original_by_reference() -> Submission:
    return _linked(lambda package, _, __: has_member(package, entry_uuid(), submission_set_status="Original"))


def _status_of_document(status: str | None) -> Submission:
    whole = submission(document_entry())
    [link] = whole.associations
    return replace(whole, associations=(replace(link, submission_set_status=status),))


_UUID = entry_uuid()
_OID = oid()
_UNRESOLVED = ErrorCode.UNRESOLVED_REFERENCE

BROKEN_MESSAGES = (
    Broken("no SubmissionSet", Submission(document_entries=(document_entry(),)), "has no SubmissionSet"),
    Broken("two SubmissionSets", _two_sets(), "has 2 SubmissionSets"),
    Broken(
        "two objects with one id",
        submission(document_entry(entry_uuid=_UUID), document_entry(entry_uuid=_UUID.upper())),
        "has the same id as a DocumentEntry of this message",
    ),
    Broken(
        "two objects with one uniqueId",
        submission(document_entry(unique_id=_OID), folders=(folder(unique_id=_OID),)),
        f"uniqueId '{_OID}' of Folder",
        ErrorCode.REGISTRY_DUPLICATE_UNIQUE_ID_IN_MESSAGE,
    ),
    Broken(
        "two versions of one object",
        submission(document_entry(logical_id=_UUID), document_entry(logical_id=_UUID)),
        "a message holds one version of an object",
    ),
    Broken("a version of another object", submission(document_entry(logical_id=_UUID)), "registered with ITI-57"),
    Broken(
        "a document of another patient",
        submission(document_entry(patient_id=OTHER_PATIENT), patient_id=PATIENT),
        f"is '{OTHER_PATIENT}', that of the SubmissionSet is '{PATIENT}'",
        ErrorCode.PATIENT_ID_DOES_NOT_MATCH,
    ),
    Broken(
        "a Folder of another patient",
        submission(folders=(folder(patient_id=OTHER_PATIENT),), patient_id=PATIENT),
        f"is '{OTHER_PATIENT}', that of the SubmissionSet is '{PATIENT}'",
        ErrorCode.PATIENT_ID_DOES_NOT_MATCH,
    ),
    Broken(
        "a document that is no member of the SubmissionSet",
        replace(submission(document_entry()), associations=()),
        "is not a member of the SubmissionSet; send a HasMember",
    ),
    Broken(
        "service that stops before it starts",
        submission(document_entry(service_start_time=DTM("2026"), service_stop_time=DTM("202512"))),
        "before the serviceStartTime 2026",
    ),
    Broken(
        "a Slot name twice",
        submission(document_entry(extra_slots=(Slot("urn:example:a"), Slot("urn:example:a")))),
        "has the Slot 'urn:example:a' 2 times",
    ),
    Broken(
        "an association of unknown type",
        _linked(lambda _, entry, __: association("urn:ihe:iti:2007:AssociationType:APND_TXFM", entry, entry_uuid())),
        "which does not exist; send one of APND",
    ),
    Broken(
        "an update of a status",
        _linked(lambda own, entry, _: association(AssociationType.UPDATE_AVAILABILITY_STATUS, own, entry)),
        "metadata is updated with ITI-57",
    ),
    Broken(
        "a submission of an association",
        _linked(lambda own, entry, _: association(AssociationType.SUBMIT_ASSOCIATION, own, entry)),
        "metadata is updated with ITI-57",
    ),
    Broken(
        "an update without a version",
        _linked(lambda own, entry, _: association("urn:ihe:iti:2010:AssociationType:NonVersioningUpdate", own, entry)),
        "metadata is updated with ITI-57",
    ),
    Broken(
        "a sourceObject that is nowhere",
        _bare(association(AssociationType.HAS_MEMBER, "Folder01", entry_uuid())),
        "has the sourceObject 'Folder01', which is no object of this message",
        _UNRESOLVED,
    ),
    Broken(
        "a targetObject that is nowhere",
        _linked(lambda _, __, package: has_member(package, "Document02")),
        "has the targetObject 'Document02', which is no object of this message",
        _UNRESOLVED,
    ),
    Broken(
        "a reference by UUID without its prefix",
        _linked(lambda _, __, package: has_member(package, _UUID.removeprefix("urn:uuid:"))),
        f"send {_UUID}",
        _UNRESOLVED,
    ),
    Broken(
        "no targetObject", _linked(lambda _, __, package: has_member(package, "")), "has no targetObject", _UNRESOLVED
    ),
    Broken(
        "a relationship that starts elsewhere",
        _linked(lambda _, entry, __: association(AssociationType.APND, entry_uuid(), entry)),
        "which is not in this message; send the related document with it",
        _UNRESOLVED,
    ),
    Broken(
        "a relationship that starts at a Folder",
        _linked(lambda _, __, package: association(AssociationType.XFRM, package, entry_uuid())),
        "XFRM joins two DocumentEntries",
    ),
    Broken(
        "a relationship that ends at a Folder",
        _linked(lambda _, entry, package: association(AssociationType.SIGNS, entry, package)),
        "signs joins two DocumentEntries",
    ),
    Broken(
        "a document that is appended to itself",
        _linked(lambda _, entry, __: association(AssociationType.APND, entry, entry)),
        "with itself",
    ),
    Broken(
        "a replacement of what is sent in the same message",
        _linked(lambda _, entry, __: association(AssociationType.RPLC, entry, entry)),
        "which is sent in the same message",
    ),
    Broken("two replacements of one document", _two_replacements(), "a document has one replacement"),
    Broken(
        "a snapshot that is on-demand",
        submission(
            snapshot := document_entry(object_type=DocumentEntryType.ON_DEMAND),
            associations=(association(AssociationType.IS_SNAPSHOT_OF, snapshot, entry_uuid()),),
        ),
        "is not a stable document",
    ),
    Broken(
        "a document with members",
        _linked(lambda _, entry, package: association(AssociationType.HAS_MEMBER, entry, package)),
        "only a SubmissionSet or Folder has members",
    ),
    Broken(
        "a SubmissionSet in itself",
        _linked(lambda own, _, __: has_member(own, own, submission_set_status="Original")),
        "a SubmissionSet is a member of nothing",
    ),
    Broken(
        "a Folder in a Folder",
        _folder_in_folder(),
        "only DocumentEntries are members of a Folder",
    ),
    Broken("an unknown SubmissionSetStatus", _status_of_document("Copy"), "send Original or Reference"),
    Broken("no SubmissionSetStatus", _status_of_document(None), "send the SubmissionSetStatus Original"),
    Broken("a Reference to what is sent", _status_of_document("Reference"), "send the SubmissionSetStatus Original"),
    Broken("an Original that is not sent", _original_by_reference(), "send Reference"),
    Broken(
        "a HasMember that is documented",
        _linked(lambda _, entry, package: has_member(package, entry, documentation=code("1", "1.2.3"))),
        "is a HasMember with a Classification that documents",
    ),
    Broken(
        "a signature that is documented",
        _linked(
            lambda _, entry, __: association(AssociationType.SIGNS, entry, _UUID, documentation=code("1", "1.2.3"))
        ),
        "is a signs with a Classification that documents",
    ),
)
