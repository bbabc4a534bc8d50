"""What a submission has to be as a whole: which objects it holds and how its associations join them.

ITI TF-3: 4.2.1 and 4.2.2, for ITI-41 and ITI-42. Ends of associations outside of the message are judged by
registry/lifecycle.py, which knows what is registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

from xds.errors import ErrorCode, Finding
from xds.metadata import (
    RELATIONSHIPS,
    REPLACING,
    AnyObject,
    Association,
    AssociationType,
    DocumentEntry,
    DocumentEntryType,
    Folder,
    ObjectKind,
    Submission,
)
from xds.metadata_names import canonical_id, is_uuid_urn, location, named, shown, term
from xds.transactions import Transaction

_NON_VERSIONING_UPDATE = "urn:ihe:iti:2010:AssociationType:NonVersioningUpdate"
_UPDATES = frozenset(
    {AssociationType.UPDATE_AVAILABILITY_STATUS, AssociationType.SUBMIT_ASSOCIATION, _NON_VERSIONING_UPDATE}
)
_KNOWN_TYPES = frozenset(AssociationType) | _UPDATES
_DOCUMENTED = frozenset({AssociationType.RPLC, AssociationType.APND, AssociationType.XFRM, AssociationType.XFRM_RPLC})
_STATUSES = ("Original", "Reference")


# What is required of an association within its message -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Message:
    """The objects of a message by canonical id."""

    submission: Submission
    objects: Mapping[str, AnyObject]

    @classmethod
    def of(cls, submission: Submission) -> _Message:
        return cls(submission, {canonical_id(item.entry_uuid): item for item in submission.objects})

    def find(self, object_id: str) -> AnyObject | None:
        return self.objects.get(canonical_id(object_id))


@dataclass(frozen=True, slots=True)
class AssociationRule:
    """One demand on an association of a message.

    problem   the end of a sentence that begins with the association's name, or None
    """

    attribute: str
    problem: Callable[[Association, _Message], str | None]
    code: ErrorCode | None = None


def _type_is_known(link: Association, _: _Message) -> str | None:
    if link.association_type in _KNOWN_TYPES:
        return None
    return f"has the type {shown(link.association_type)}, which does not exist; send {AssociationType.HAS_MEMBER} ..."


def _type_belongs_here(link: Association, _: _Message) -> str | None:
    if link.association_type not in _UPDATES:
        return None
    return f"has the type {link.association_type}; metadata is updated with ITI-57, leave it out"


def _end_is_named(attribute: str) -> Callable[[Association, _Message], str | None]:
    """Rule 32 and references by symbol: whatever is no UUID has to be in the message."""

    def problem(link: Association, message: _Message) -> str | None:
        end: str = getattr(link, attribute)
        if not end:
            return f"has no {term(attribute)}; send the id of an object"
        if is_uuid_urn(end) or message.find(end):
            return None
        hint = (
            f"urn:uuid:{end}"
            if is_uuid_urn(f"urn:uuid:{end}")
            else "the id of an object of the message, or urn:uuid:..."
        )
        return f"has the {term(attribute)} {shown(end)}, which is no object of this message; send {hint}"

    return problem


def _relationship_starts_here(link: Association, message: _Message) -> str | None:
    if link.association_type not in RELATIONSHIPS or not is_uuid_urn(link.source_object):
        return None
    if message.find(link.source_object):
        return None
    return f"has the sourceObject {link.source_object}, which is not in this message; send the related document with it"


def _relationship_joins_documents(link: Association, message: _Message) -> str | None:
    if link.association_type not in RELATIONSHIPS:
        return None
    for attribute in ("source_object", "target_object"):
        end = message.find(getattr(link, attribute))
        if end and end.kind is not ObjectKind.DOCUMENT_ENTRY:
            return f"has the {term(attribute)} {named(end)}; {_short(link)} joins two DocumentEntries"
    if canonical_id(link.source_object) == canonical_id(link.target_object):
        return f"joins {link.source_object} with itself; send the id of the other document as targetObject"
    return None


def _replaced_is_registered(link: Association, message: _Message) -> str | None:
    if link.association_type not in REPLACING or not message.find(link.target_object):
        return None
    return (
        f"replaces {link.target_object}, which is sent in the same message; "
        "send the id of a registered document as targetObject"
    )


def _replaced_once(link: Association, message: _Message) -> str | None:
    if link.association_type not in REPLACING:
        return None
    target = canonical_id(link.target_object)
    for other in message.submission.associations:
        if other is link:
            return None
        if other.association_type in REPLACING and canonical_id(other.target_object) == target:
            return f"replaces {target}, as {named(other)} does; a document has one replacement"
    return None


def _membership_starts_at_a_package(link: Association, message: _Message) -> str | None:
    source = message.find(link.source_object)
    if link.association_type != AssociationType.HAS_MEMBER or source is None:
        return None
    if source.kind in (ObjectKind.SUBMISSION_SET, ObjectKind.FOLDER):
        return None
    return f"has the sourceObject {named(source)}; only a SubmissionSet or Folder has members"


def _membership_ends_at_a_member(link: Association, message: _Message) -> str | None:
    target, source = message.find(link.target_object), message.find(link.source_object)
    if link.association_type != AssociationType.HAS_MEMBER or target is None:
        return None
    if target.kind is ObjectKind.SUBMISSION_SET:
        return f"has the targetObject {named(target)}; a SubmissionSet is a member of nothing"
    in_folder = source.kind is ObjectKind.FOLDER if source else True  # a registered source can only be a Folder
    if in_folder and target.kind is not ObjectKind.DOCUMENT_ENTRY:
        return f"has the targetObject {named(target)}; only DocumentEntries are members of a Folder"
    return None


def _status_of_membership(link: Association, message: _Message) -> str | None:
    source, target = message.find(link.source_object), message.find(link.target_object)
    if link.association_type != AssociationType.HAS_MEMBER or not source:
        return None
    if source.kind is not ObjectKind.SUBMISSION_SET:
        return None
    status = link.submission_set_status
    if status is not None and status not in _STATUSES:
        return f"has the SubmissionSetStatus {shown(status)}; send Original or Reference"
    if target is None and status == "Original":
        return (
            f"has the SubmissionSetStatus Original, but {link.target_object} is not in this message; "
            "send Reference, or send the DocumentEntry"
        )
    if target and target.kind is ObjectKind.DOCUMENT_ENTRY and status != "Original":
        return f"joins the DocumentEntry {target.entry_uuid} of this message; send the SubmissionSetStatus Original"
    return None


def _documentation_is_about_documents(link: Association, _: _Message) -> str | None:
    if link.documentation is None or link.association_type in _DOCUMENTED:
        return None
    return f"is a {_short(link)} with an association documentation Classification; leave it out"


def _snapshot_is_stable(link: Association, message: _Message) -> str | None:
    source = message.find(link.source_object)
    if link.association_type != AssociationType.IS_SNAPSHOT_OF or not isinstance(source, DocumentEntry):
        return None
    if source.object_type == DocumentEntryType.STABLE:
        return None
    return f"has the sourceObject {named(source)}, which is not a stable document; send a stable one"


def _short(link: Association) -> str:
    return link.association_type.rpartition(":")[2]


MESSAGE_ASSOCIATION_RULES = (  # ITI TF-3: 4.2.2
    AssociationRule("association_type", _type_is_known),
    AssociationRule("association_type", _type_belongs_here),
    AssociationRule("source_object", _end_is_named("source_object"), ErrorCode.UNRESOLVED_REFERENCE),
    AssociationRule("target_object", _end_is_named("target_object"), ErrorCode.UNRESOLVED_REFERENCE),
    AssociationRule("source_object", _relationship_starts_here, ErrorCode.UNRESOLVED_REFERENCE),
    AssociationRule("target_object", _relationship_joins_documents),
    AssociationRule("target_object", _replaced_is_registered),
    AssociationRule("target_object", _replaced_once),
    AssociationRule("source_object", _snapshot_is_stable),
    AssociationRule("source_object", _membership_starts_at_a_package),
    AssociationRule("target_object", _membership_ends_at_a_member),
    AssociationRule("submission_set_status", _status_of_membership),
    AssociationRule("documentation", _documentation_is_about_documents),
)


def _association_findings(message: _Message) -> Iterator[Finding]:
    for link in message.submission.associations:
        for rule in MESSAGE_ASSOCIATION_RULES:
            if problem := rule.problem(link, message):
                yield Finding(f"{named(link)} {problem}.", location(link, rule.attribute), rule.code)


# What is required of the message -----------------------------------------------------------------------------------

MessageRule: TypeAlias = Callable[[_Message, Transaction], Iterator[Finding]]


def _one_submission_set(message: _Message, _: Transaction) -> Iterator[Finding]:
    sets = message.submission.submission_sets
    if not sets:
        yield Finding(
            "The message has no SubmissionSet; send one RegistryPackage with the SubmissionSet's Classification."
        )
    if len(sets) > 1:
        names = ", ".join(item.entry_uuid for item in sets)
        yield Finding(f"The message has {len(sets)} SubmissionSets ({names}); send one.")


def _ids_differ(message: _Message, _: Transaction) -> Iterator[Finding]:
    if len(message.objects) == len(message.submission.objects):
        return
    for first, other in _repeated(message.submission.objects, lambda item: canonical_id(item.entry_uuid)):
        yield Finding(
            f"{named(other)} has the same id as the {first.kind} of this message; send another one.",
            location(other, "entry_uuid"),
        )


def _unique_ids_differ(message: _Message, transaction: Transaction) -> Iterator[Finding]:
    submission = message.submission
    code = (
        ErrorCode.REPOSITORY_DUPLICATE_UNIQUE_ID_IN_MESSAGE
        if transaction.actor == "repository"
        else ErrorCode.REGISTRY_DUPLICATE_UNIQUE_ID_IN_MESSAGE
    )
    bearers = (*submission.submission_sets, *submission.document_entries, *submission.folders)
    for first, other in _repeated(bearers, lambda item: item.unique_id):
        yield Finding(
            f"uniqueId {shown(other.unique_id or '')} of {named(other)} is that of {named(first)} too; "
            "send another one for each object.",
            location(other, "unique_id"),
            code,
        )


def _logical_ids_differ(message: _Message, _: Transaction) -> Iterator[Finding]:
    submission = message.submission
    for items in (submission.document_entries, submission.folders, submission.associations):
        for first, other in _repeated(items, lambda item: item.logical_id and canonical_id(item.logical_id)):
            yield Finding(
                f"logicalID of {named(other)} is that of {named(first)} too; a message holds one version of an object.",
                location(other, "logical_id"),
            )


def _one_patient(message: _Message, _: Transaction) -> Iterator[Finding]:
    submission = message.submission
    if not submission.submission_sets or (patient_id := submission.submission_set.patient_id) is None:
        return
    owned: tuple[DocumentEntry | Folder, ...] = (*submission.document_entries, *submission.folders)
    for item in owned:
        if item.patient_id is not None and item.patient_id != patient_id:
            yield Finding(
                f"patientId of {named(item)} is {shown(item.patient_id.text)}, that of the SubmissionSet is "
                f"{shown(patient_id.text)}; send the objects of one patient in one submission.",
                location(item, "patient_id"),
                ErrorCode.PATIENT_ID_DOES_NOT_MATCH,
            )


def _all_are_members(message: _Message, _: Transaction) -> Iterator[Finding]:
    submission = message.submission
    if len(submission.submission_sets) != 1:
        return
    set_id = canonical_id(submission.submission_set.entry_uuid)
    members = {
        canonical_id(link.target_object)
        for link in submission.associations
        if link.association_type == AssociationType.HAS_MEMBER and canonical_id(link.source_object) == set_id
    }
    contents: tuple[DocumentEntry | Folder, ...] = (*submission.document_entries, *submission.folders)
    for item in contents:
        if canonical_id(item.entry_uuid) not in members:
            yield Finding(
                f"{named(item)} is not a member of the SubmissionSet; "
                f"send a HasMember association from {submission.submission_set.entry_uuid} to it.",
                location(item, "entry_uuid"),
            )


MESSAGE_RULES: tuple[MessageRule, ...] = (
    _one_submission_set,
    _ids_differ,
    _unique_ids_differ,
    _logical_ids_differ,
    _one_patient,
    _all_are_members,
)


def _repeated(items: tuple[Any, ...], key: Callable[[Any], Any]) -> Iterator[tuple[Any, Any]]:
    """Each item whose key an earlier one has, with that earlier one. A key that is None or "" repeats nothing."""
    if len(items) < 2:
        return
    seen: dict[Any, Any] = {}
    for item in items:
        value = key(item)
        if value and seen.setdefault(value, item) is not item:
            yield seen[value], item


def message_findings(submission: Submission, transaction: Transaction) -> Iterator[Finding]:
    """Every rule of this module that a submission breaks."""
    message = _Message.of(submission)
    yield from chain.from_iterable(rule(message, transaction) for rule in MESSAGE_RULES)
    yield from _association_findings(message)
