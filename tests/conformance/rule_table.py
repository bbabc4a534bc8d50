"""What a transaction answers to each condition: the rule book as one table, rule x transaction -> code.

The numbers are those of our rules' list (the reference library's validators, and what the standard adds). A row breaks
one rule in one valid message, in every transaction that it is about. tests/conformance/test_rule_table.py sends them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.builders import (
    OTHER_PATIENT,
    PATIENT,
    association,
    author,
    document_entry,
    entry_uuid,
    folder,
    has_member,
    submission_set,
)
from xds.errors import ErrorCode
from xds.hl7v2 import CX, DTM, XCN, CXi
from xds.metadata import (
    AssociationType,
    AvailabilityStatus,
    Code,
    DocumentEntryType,
    LocalizedString,
    Slot,
    Submission,
)
from xds.transactions import ITI_41, ITI_42, ITI_57, ITI_61, ITI_92, Transaction

Change = Callable[[Submission], Submission]

NEW: Final = (ITI_41, ITI_42, ITI_61)
UPDATING: Final = (ITI_57, ITI_92)
EVERY: Final = (*NEW, *UPDATING)
STABLE: Final = (ITI_41, ITI_42, ITI_57, ITI_92)

_UNRESOLVED = ErrorCode.UNRESOLVED_REFERENCE
_ANNOTATION = ErrorCode.METADATA_ANNOTATION_ERROR
_OPERATION = ErrorCode.METADATA_UPDATE_OPERATION_ERROR
_INVALID = ErrorCode.INVALID_REQUEST


@dataclass(frozen=True, slots=True)
class Condition:
    """One way of breaking a rule, in some transactions.

    rule    its number
    what    the sentence
    code    what the answer holds; None: the default of the transaction (xds/transactions.py)
    codes   where a transaction has another one
    also    codes that the answer may hold as well, because the message breaks other rules by that, too
    """

    rule: int
    what: str
    change: Change
    transactions: tuple[Transaction, ...] = EVERY
    code: ErrorCode | None = None
    codes: Mapping[str, ErrorCode] | None = None
    also: frozenset[ErrorCode] = frozenset()

    def expected(self, transaction: Transaction) -> str:
        return str((self.codes or {}).get(transaction.name) or self.code or transaction.default_code)


# How a submission is changed -----------------------------------------------------------------------------------------


def _entry(**changes: Any) -> Change:
    def change(sent: Submission) -> Submission:
        first, *others = sent.document_entries
        return replace(sent, document_entries=(replace(first, **changes), *others))

    return change


def _own(**changes: Any) -> Change:
    return lambda sent: replace(sent, submission_sets=(replace(sent.submission_set, **changes),))


def _folder(**changes: Any) -> Change:
    """Of the Folder of a message that has one."""
    return lambda sent: replace(sent, folders=(replace(sent.folders[0], **changes),))


def _link(make: Callable[[Submission], Any]) -> Change:
    return lambda sent: replace(sent, associations=(*sent.associations, make(sent)))


def _membership(**changes: Any) -> Change:
    """Of the SubmissionSet's HasMember of the document."""
    return lambda sent: replace(sent, associations=(replace(sent.associations[0], **changes), *sent.associations[1:]))


def _second_entry(**changes: Any) -> Change:
    """The document once more, by another id and uniqueId, with these changes."""

    def change(sent: Submission) -> Submission:
        first = sent.document_entries[0]
        names = {"entry_uuid": entry_uuid(), "unique_id": document_entry().unique_id, "logical_id": None}
        other = replace(first, **{**names, **changes})
        return replace(
            sent,
            document_entries=(first, other),
            associations=(*sent.associations, has_member(sent.submission_set, other)),
        )

    return change


def _same(attribute: str) -> Change:
    return lambda sent: _second_entry(**{attribute: getattr(sent.document_entries[0], attribute)})(sent)


def _two_of_one_logical_id(sent: Submission) -> Submission:
    lid = entry_uuid()
    return _second_entry(logical_id=lid)(_entry(logical_id=lid)(sent))


def _new_folder(sent: Submission) -> Submission:
    item = replace(folder(), logical_id=entry_uuid())
    link = has_member(sent.submission_set, item, previous_version="1")
    return replace(sent, folders=(item,), associations=(*sent.associations, link))


def _first(sent: Submission) -> Any:
    return sent.document_entries[0]


_NOT_IN_DOMAIN = CX("4711^^^NAME&1.2.3&ISO")
_UPDATE_STATUS = AssociationType.UPDATE_AVAILABILITY_STATUS
_SUBMIT = AssociationType.SUBMIT_ASSOCIATION
_NON_VERSIONING = "urn:ihe:iti:2010:AssociationType:NonVersioningUpdate"
_APPROVED, _DEPRECATED = AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED
_CODED = ("class_code", "format_code", "healthcare_facility_type_code", "practice_setting_code", "type_code")

# What a message breaks by the way: a second document of an update follows no version, a reference ends nowhere.
_VERSION = frozenset({ErrorCode.METADATA_VERSION_ERROR})
_SECOND = _VERSION | {ErrorCode.METADATA_UPDATE_ERROR, _INVALID}
_PATIENT = frozenset({ErrorCode.PATIENT_ID_DOES_NOT_MATCH, ErrorCode.PATIENT_ID_RECONCILIATION_ERROR})
_UNMODIFIABLE = frozenset({ErrorCode.UNMODIFIABLE_METADATA_ERROR})
_IDENTIFIER = frozenset({ErrorCode.METADATA_IDENTIFIER_ERROR})
_NOWHERE = frozenset({_UNRESOLVED, _OPERATION})

# The table -----------------------------------------------------------------------------------------------------------

CONDITIONS: Final[tuple[Condition, ...]] = (
    Condition(1, "two SubmissionSets",
              lambda sent: replace(sent, submission_sets=(*sent.submission_sets, submission_set()))),
    Condition(2, "a Slot without a name", _entry(extra_slots=(Slot("", ("a",)),))),
    Condition(2, "a Slot value of 257 characters", _entry(extra_slots=(Slot("urn:x:a", ("x" * 257,)),))),
    Condition(2, "a Slot name twice", _entry(extra_slots=(Slot("urn:x:a", ("1",)), Slot("urn:x:a", ("2",))))),
    Condition(2, "a Slot name twice in a Classification",
              _entry(type_code=Code("1", "1.2.3", extra_slots=(Slot("a", ("1",)), Slot("a", ("2",)))))),
    Condition(3, "one id for two documents", _same("entry_uuid"), also=_SECOND),
    Condition(4, "a document without uniqueId", _entry(unique_id=None)),
    Condition(4, "a SubmissionSet without uniqueId", _own(unique_id=None)),
    Condition(4, "a Folder without uniqueId", _folder(unique_id=None), (*NEW, ITI_57)),
    Condition(4, "a uniqueId of 129 characters", _entry(unique_id="1" * 129), also=_IDENTIFIER),
    Condition(5, "one uniqueId for two documents", _same("unique_id"),
              code=ErrorCode.REGISTRY_DUPLICATE_UNIQUE_ID_IN_MESSAGE,
              codes={"ITI-41": ErrorCode.REPOSITORY_DUPLICATE_UNIQUE_ID_IN_MESSAGE}, also=_SECOND),
    Condition(6, "a uniqueId with a blank", _entry(unique_id="1.2.3 4"), also=_IDENTIFIER),
    Condition(6, "a SubmissionSet's uniqueId that is no OID", _own(unique_id="Set-1")),
    Condition(6, "a Folder's uniqueId that is no OID", _folder(unique_id="Folder-1"), (*NEW, ITI_57)),
    Condition(7, "a document of another patient", _entry(patient_id=OTHER_PATIENT),
              code=ErrorCode.PATIENT_ID_DOES_NOT_MATCH),
    Condition(7, "a Folder of another patient", _folder(patient_id=OTHER_PATIENT), (*NEW, ITI_57),
              ErrorCode.PATIENT_ID_DOES_NOT_MATCH),
    Condition(8, "no submissionTime", _own(submission_time=None)),
    Condition(8, "a submissionTime that is none", _own(submission_time=DTM("yesterday"))),
    Condition(8, "no contentTypeCode", _own(content_type_code=None)),
    Condition(8, "no sourceId", _own(source_id=None)),
    Condition(8, "a sourceId that is no OID", _own(source_id="Source 7")),
    Condition(8, "a SubmissionSet's patientId with a namespace id", _own(patient_id=_NOT_IN_DOMAIN), also=_PATIENT),
    Condition(8, "a SubmissionSet that is Deprecated", _own(availability_status=_DEPRECATED)),
    Condition(9, "an intendedRecipient without parts", _own(intended_recipient=("||",))),
    Condition(10, "an author without a name", _entry(author=(author(author_person=None, author_institution=()),))),
    Condition(10, "an authorPerson without id and name", _entry(author=(author(author_person=XCN("^^")),))),
    Condition(11, "no creationTime", _entry(creation_time=None), STABLE),
    Condition(11, "a creationTime of what is not made yet", _entry(creation_time=DTM("2026")), (ITI_61,)),
    Condition(12, "a service that stops before it starts",
              _entry(service_start_time=DTM("2026"), service_stop_time=DTM("202512"))),
    Condition(13, "no hash", _entry(hash=None), (ITI_42,)),
    Condition(13, "no size", _entry(size=None), (ITI_42,)),
    Condition(13, "a hash of three digits", _entry(hash="abc"), STABLE, also=_UNMODIFIABLE),
    Condition(13, "a size that is no number", _entry(size="1 KiB"), STABLE),
    Condition(13, "a hash of what is not made yet", _entry(hash="0" * 40), (ITI_61,)),
    Condition(14, "no languageCode", _entry(language_code=None)),
    Condition(14, "a languageCode that is none", _entry(language_code="Estonian language")),
    Condition(14, "no sourcePatientId", _entry(source_patient_id=None)),
    Condition(14, "a sourcePatientId without an authority", _entry(source_patient_id=CX("4711"))),
    Condition(14, "a legalAuthenticator without id and name", _entry(legal_authenticator=XCN("^^")), STABLE),
    Condition(14, "a legalAuthenticator of what is not made yet", _entry(legal_authenticator=XCN("1^T")), (ITI_61,)),
    Condition(15, "sourcePatientInfo with PID-19", _entry(source_patient_info=("PID-19|1",))),
    Condition(15, "sourcePatientInfo with PID-40", _entry(source_patient_info=("PID-40|1",))),
    *(Condition(16, f"no {attribute}", _entry(**{attribute: None})) for attribute in _CODED),
    Condition(16, "no confidentialityCode", _entry(confidentiality_code=())),
    Condition(16, "a code without a scheme", _entry(event_code_list=(Code("1", None),))),
    Condition(17, "a document without patientId", _entry(patient_id=None)),
    Condition(17, "a patientId without an authority", _entry(patient_id=CX("4711")), also=_PATIENT),
    Condition(18, "no repositoryUniqueId", _entry(repository_unique_id=None), (ITI_42, ITI_61)),
    Condition(18, "a repositoryUniqueId that is no OID", _entry(repository_unique_id="1.02.3"), also=_UNMODIFIABLE),
    Condition(19, "a referenceId without a type", _entry(reference_id_list=(CXi("4711^^^&1.2.3&ISO"),))),
    Condition(20, "a title that is not UTF-8", _entry(title=(LocalizedString("a", "et", "ISO-8859-1"),))),
    Condition(20, "a title of 129 characters", _entry(title=(LocalizedString("x" * 129),))),
    Condition(21, "no mimeType", _entry(mime_type=None)),
    Condition(21, "a mimeType without a subtype", _entry(mime_type="pdf")),
    Condition(22, "a stable document", _entry(object_type=DocumentEntryType.STABLE), (ITI_61,)),
    Condition(22, "an on-demand document",
              _entry(object_type=DocumentEntryType.ON_DEMAND, creation_time=None, hash=None, size=None),
              (ITI_41, ITI_42)),
    Condition(23, "limited metadata", _entry(limited_metadata=True)),
    Condition(24, "one logicalID for two documents", _two_of_one_logical_id,
              codes={"ITI-57": _OPERATION, "ITI-92": _OPERATION}, also=_VERSION),
    Condition(25, "a Folder without a code", _folder(code_list=()), (*NEW, ITI_57)),
    Condition(25, "a Folder without a name", _folder(title=()), (*NEW, ITI_57)),
    Condition(25, "a lastUpdateTime without seconds", _folder(last_update_time=DTM("20260314")), (*NEW, ITI_57)),
    Condition(25, "a Folder's patientId without an authority", _folder(patient_id=CX("4711")), (*NEW, ITI_57),
              also=_PATIENT),
    Condition(25, "a Folder that is Deprecated", _folder(availability_status=_DEPRECATED), (*NEW, ITI_57)),
    Condition(26, "a Folder", _new_folder, (ITI_92,), ErrorCode.OBJECT_TYPE_ERROR, also=_VERSION),
    Condition(27, "an association of unknown type",
              _link(lambda sent: association("urn:x:a", _first(sent), entry_uuid())),
              codes={"ITI-57": ErrorCode.REGISTRY_METADATA_ERROR, "ITI-92": ErrorCode.REGISTRY_METADATA_ERROR},
              also=_NOWHERE),
    Condition(27, "no SubmissionSetStatus", _membership(submission_set_status=None)),
    Condition(27, "an unknown SubmissionSetStatus", _membership(submission_set_status="Copy")),
    Condition(27, "an Original that is not in the message",
              _link(lambda sent: has_member(sent.submission_set, entry_uuid(), submission_set_status="Original")),
              also=_NOWHERE),
    Condition(27, "a HasMember that is documented", _membership(documentation=Code("1", "1.2.3"))),
    Condition(28, "a snapshot that is on-demand",
              _link(lambda sent: association(AssociationType.IS_SNAPSHOT_OF, _first(sent), entry_uuid())), (ITI_61,),
              also=_NOWHERE),
    Condition(29, "a status update that is not of the SubmissionSet",
              _link(lambda sent: association(_UPDATE_STATUS, _first(sent), entry_uuid(), original_status=_APPROVED,
                                             new_status=_DEPRECATED)), also=_NOWHERE),
    Condition(29, "a status update without OriginalStatus",
              _link(lambda sent: association(_UPDATE_STATUS, sent.submission_set, entry_uuid(),
                                             new_status=_DEPRECATED)), (ITI_57,), also=_NOWHERE),
    Condition(30, "a submission of what is no association of the message",
              _link(lambda sent: association(_SUBMIT, sent.submission_set, entry_uuid()))),
    Condition(31, "a NonVersioningUpdate",
              _link(lambda sent: association(_NON_VERSIONING, sent.submission_set, _first(sent)))),
    Condition(32, "a replacement that starts elsewhere",
              _link(lambda _: association(AssociationType.RPLC, entry_uuid(), entry_uuid())), NEW, _UNRESOLVED),
    Condition(35, "no logicalID", _entry(logical_id=None), UPDATING, codes={"ITI-92": _INVALID}),
    Condition(35, "its own logicalID", lambda sent: _entry(logical_id=_first(sent).entry_uuid)(sent), UPDATING,
              codes={"ITI-92": _INVALID}, also=_VERSION),
    Condition(35, "a logicalID that is no UUID", _entry(logical_id="Document01"), UPDATING,
              codes={"ITI-92": _INVALID}, also=_VERSION),
    # ITI TF-2: 3.57.4.1.3.3: an update without an operation is XDSMetadataUpdateOperationError.
    Condition(36, "a document that is no member of the SubmissionSet", lambda sent: replace(sent, associations=()),
              UPDATING, _ANNOTATION, {"ITI-57": _OPERATION},
              also=frozenset({ErrorCode.METADATA_UPDATE_ERROR, _OPERATION})),
    Condition(37, "no PreviousVersion", _membership(previous_version=None), UPDATING, ErrorCode.METADATA_VERSION_ERROR),
    Condition(37, "a PreviousVersion that is not the newest", _membership(previous_version="7"), UPDATING,
              ErrorCode.METADATA_VERSION_ERROR),
    Condition(38, "AssociationPropagation no", _membership(association_propagation="no"), (ITI_92,), _ANNOTATION),
)  # fmt: skip

WITHOUT_METADATA: Final = {33, 34, 40, 41, 42, 43}
"""Rules about documents, removals, retrieval, queries and answers: in tests/conformance/test_rule_table.py as well."""

NOT_ASKED_OF_US: Final[Mapping[int, str]] = {
    39: "the home of an update is asked for by the Forward Update Option and by ITI-80, which are not served here",
    44: "about answers of gateways [ITI-38, ITI-39]",
}
"""Rules that no message to this server can break."""

PATIENTS: Final = (PATIENT, OTHER_PATIENT)
