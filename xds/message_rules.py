"""What a submission has to be as a whole: which objects it holds and how its associations join them.

ITI TF-3: 4.2.1 and 4.2.2, for ITI-41 and ITI-42. Ends of associations outside of the message are judged by
registry/lifecycle.py, which knows what is registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Link:
    """An association of a message with the objects of the message at its ends, None for ends outside of it.

    rival   the association before it that replaces the same document, where it replaces one
    """

    association: Association
    source: AnyObject | None
    target: AnyObject | None
    rival: Association | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A submission and its objects by canonical id."""

    submission: Submission
    objects: Mapping[str, AnyObject]

    @classmethod
    def of(cls, submission: Submission) -> Message:
        return cls(submission, {canonical_id(item.entry_uuid): item for item in submission.objects})

    def find(self, object_id: str) -> AnyObject | None:
        return self.objects.get(object_id) or self.objects.get(canonical_id(object_id))

    def links(self) -> Iterator[Link]:
        """Every association of the message with its ends."""
        replacing: dict[str, Association] = {}
        for each in self.submission.associations:
            rival = None
            if each.association_type in REPLACING:
                first = replacing.setdefault(canonical_id(each.target_object), each)
                rival = first if first is not each else None
            yield Link(each, self.find(each.source_object), self.find(each.target_object), rival)


# An association within its message ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AssociationRule:
    """One demand on associations of these types.

    types     None: of every type
    problem   the end of a sentence that begins with the association's name, or None
    """

    types: frozenset[str] | None
    attribute: str
    problem: Callable[[Link], str | None]
    code: ErrorCode | None = None

    def broken(self, link: Link) -> str | None:
        """What is wrong with this association, if the rule is about it."""
        if self.types is None or link.association.association_type in self.types:
            return self.problem(link)
        return None


_UPDATES = frozenset(
    {AssociationType.UPDATE_AVAILABILITY_STATUS, AssociationType.SUBMIT_ASSOCIATION,
     "urn:ihe:iti:2010:AssociationType:NonVersioningUpdate"}
)  # fmt: skip
_KNOWN_TYPES = frozenset(AssociationType) | _UPDATES
_DOCUMENTED = frozenset({AssociationType.RPLC, AssociationType.APND, AssociationType.XFRM, AssociationType.XFRM_RPLC})
_MEMBERSHIP = frozenset({AssociationType.HAS_MEMBER})
_SNAPSHOT = frozenset({AssociationType.IS_SNAPSHOT_OF})
_PACKAGES = (ObjectKind.SUBMISSION_SET, ObjectKind.FOLDER)


def _type_is_known(link: Link) -> str | None:
    if link.association.association_type in _KNOWN_TYPES:
        return None
    known = ", ".join(sorted(kind.rpartition(":")[2] for kind in _KNOWN_TYPES - _UPDATES))
    return f"has the type {shown(link.association.association_type)}, which does not exist; send one of {known} as URN"


def _type_is_an_update(link: Link) -> str | None:
    return f"has the type {link.association.association_type}; metadata is updated with ITI-57, leave it out"


def _source_is_named(link: Link) -> str | None:
    return _unresolved("source_object", link.association.source_object) if link.source is None else None


def _target_is_named(link: Link) -> str | None:
    return _unresolved("target_object", link.association.target_object) if link.target is None else None


def _unresolved(attribute: str, end: str) -> str | None:
    """What is neither in the message nor a UUID can be nowhere."""
    if not end:
        return f"has no {term(attribute)}; send the id of an object"
    if is_uuid_urn(end):
        return None
    with_prefix = f"urn:uuid:{end}"
    hint = with_prefix if is_uuid_urn(with_prefix) else "the id of one of its objects, or a UUID as urn:uuid:..."
    return f"has the {term(attribute)} {shown(end)}, which is no object of this message; send {hint}"


def _relationship_starts_here(link: Link) -> str | None:
    source = link.association.source_object
    if link.source or not is_uuid_urn(source):
        return None
    return f"has the sourceObject {source}, which is not in this message; send the related document with it"


def _relationship_joins_documents(link: Link) -> str | None:
    for name, end in (("sourceObject", link.source), ("targetObject", link.target)):
        if end and end.kind is not ObjectKind.DOCUMENT_ENTRY:
            return f"has the {name} {named(end)}; {_short(link)} joins two DocumentEntries"
    if link.source and link.source is link.target:
        return f"joins {named(link.source)} with itself; send the id of the other document as targetObject"
    return None


def _replaced_is_registered(link: Link) -> str | None:
    if link.target is None:
        return None
    return (
        f"replaces {named(link.target)}, which is sent in the same message; "
        "send the id of a registered document as targetObject"
    )


def _replaced_once(link: Link) -> str | None:
    if link.rival is None:
        return None
    return f"replaces {link.association.target_object}, as {named(link.rival)} does; a document has one replacement"


def _snapshot_is_stable(link: Link) -> str | None:
    if not isinstance(link.source, DocumentEntry) or link.source.object_type == DocumentEntryType.STABLE:
        return None
    return f"has the sourceObject {named(link.source)}, which is not a stable document; send a stable one"


def _membership_starts_at_a_package(link: Link) -> str | None:
    if link.source is None or link.source.kind in _PACKAGES:
        return None
    return f"has the sourceObject {named(link.source)}; only a SubmissionSet or Folder has members"


def _membership_ends_at_a_member(link: Link) -> str | None:
    if link.target is None:
        return None
    if link.target.kind is ObjectKind.SUBMISSION_SET:
        return f"has the targetObject {named(link.target)}; a SubmissionSet is a member of nothing"
    # A source outside of the message can only be a Folder: a SubmissionSet is complete once it is registered.
    in_folder = link.source is None or link.source.kind is ObjectKind.FOLDER
    if in_folder and link.target.kind is not ObjectKind.DOCUMENT_ENTRY:
        return f"has the targetObject {named(link.target)}; only DocumentEntries are members of a Folder"
    return None


def _status_of_membership(link: Link) -> str | None:
    if link.source is None or link.source.kind is not ObjectKind.SUBMISSION_SET:
        return None
    status, target = link.association.submission_set_status, link.target
    if status not in (None, "Original", "Reference"):
        return f"has the SubmissionSetStatus {shown(status)}; send Original or Reference"
    if target is None and status == "Original":
        return (
            f"has the SubmissionSetStatus Original, but {link.association.target_object} is not in this message; "
            "send Reference, or send the DocumentEntry with it"
        )
    if target and target.kind is ObjectKind.DOCUMENT_ENTRY and status != "Original":
        return f"joins the {named(target)} of this message; send the SubmissionSetStatus Original"
    return None


def _documentation_is_about_documents(link: Link) -> str | None:
    if link.association.documentation is None or link.association.association_type in _DOCUMENTED:
        return None
    return f"is a {_short(link)} with a Classification that documents the association; leave the Classification out"


def _short(link: Link) -> str:
    return link.association.association_type.rpartition(":")[2]


ASSOCIATION_RULES = (  # ITI TF-3: 4.2.2
    AssociationRule(None, "association_type", _type_is_known),
    AssociationRule(_UPDATES, "association_type", _type_is_an_update),
    AssociationRule(None, "source_object", _source_is_named, ErrorCode.UNRESOLVED_REFERENCE),
    AssociationRule(None, "target_object", _target_is_named, ErrorCode.UNRESOLVED_REFERENCE),
    AssociationRule(RELATIONSHIPS, "source_object", _relationship_starts_here, ErrorCode.UNRESOLVED_REFERENCE),
    AssociationRule(RELATIONSHIPS, "target_object", _relationship_joins_documents),
    AssociationRule(REPLACING, "target_object", _replaced_is_registered),
    AssociationRule(REPLACING, "target_object", _replaced_once),
    AssociationRule(_SNAPSHOT, "source_object", _snapshot_is_stable),
    AssociationRule(_MEMBERSHIP, "source_object", _membership_starts_at_a_package),
    AssociationRule(_MEMBERSHIP, "target_object", _membership_ends_at_a_member),
    AssociationRule(_MEMBERSHIP, "submission_set_status", _status_of_membership),
    AssociationRule(None, "documentation", _documentation_is_about_documents),
)


def _association_findings(message: Message) -> Iterator[Finding]:
    for link in message.links():
        for rule in ASSOCIATION_RULES:
            if problem := rule.broken(link):
                yield Finding(
                    f"{named(link.association)} {problem}.", location(link.association, rule.attribute), rule.code
                )


# The message -------------------------------------------------------------------------------------------------------


MessageRule: TypeAlias = Callable[[Message, Transaction], Iterator[Finding]]


def _one_submission_set(message: Message, _: Transaction) -> Iterator[Finding]:
    sets = message.submission.submission_sets
    if not sets:
        yield Finding(
            "The message has no SubmissionSet; send one RegistryPackage with the SubmissionSet's Classification."
        )
    if len(sets) > 1:
        names = ", ".join(item.entry_uuid for item in sets)
        yield Finding(f"The message has {len(sets)} SubmissionSets ({names}); send one.")


def _ids_differ(message: Message, _: Transaction) -> Iterator[Finding]:
    if len(message.objects) == len(message.submission.objects):
        return
    for first, other in _repeated(message.submission.objects, lambda item: canonical_id(item.entry_uuid)):
        yield Finding(
            f"{named(other)} has the same id as a {first.kind} of this message; send another one.",
            location(other, "entry_uuid"),
        )


def _unique_ids_differ(message: Message, transaction: Transaction) -> Iterator[Finding]:
    submission = message.submission
    code = (
        ErrorCode.REPOSITORY_DUPLICATE_UNIQUE_ID_IN_MESSAGE
        if transaction.actor == "repository"
        else ErrorCode.REGISTRY_DUPLICATE_UNIQUE_ID_IN_MESSAGE
    )
    bearers = (*submission.submission_sets, *submission.document_entries, *submission.folders)
    for first, other in _repeated(bearers, lambda item: item.unique_id):
        yield Finding(
            f"uniqueId {shown(other.unique_id)} of {named(other)} is that of {named(first)} too; "
            "send another one for each object.",
            location(other, "unique_id"),
            code,
        )


def _logical_ids_differ(message: Message, _: Transaction) -> Iterator[Finding]:
    submission = message.submission
    for items in (submission.document_entries, submission.folders, submission.associations):
        for first, other in _repeated(items, lambda item: item.logical_id and canonical_id(item.logical_id)):
            yield Finding(
                f"logicalID of {named(other)} is that of {named(first)} too; a message holds one version of an object.",
                location(other, "logical_id"),
            )


def _one_patient(message: Message, _: Transaction) -> Iterator[Finding]:
    submission = message.submission
    if not submission.submission_sets or (patient_id := submission.submission_set.patient_id) is None:
        return
    for item in _contents(submission):
        if item.patient_id is not None and item.patient_id != patient_id:
            yield Finding(
                f"patientId of {named(item)} is {shown(item.patient_id.text)}, that of the SubmissionSet is "
                f"{shown(patient_id.text)}; send the objects of one patient in one submission.",
                location(item, "patient_id"),
                ErrorCode.PATIENT_ID_DOES_NOT_MATCH,
            )


def _all_are_members(message: Message, _: Transaction) -> Iterator[Finding]:
    submission = message.submission
    if len(submission.submission_sets) != 1:
        return
    set_id = submission.submission_set.entry_uuid
    canonical_set_id = canonical_id(set_id)
    members = {
        canonical_id(link.target_object)
        for link in submission.associations
        if link.association_type == AssociationType.HAS_MEMBER and canonical_id(link.source_object) == canonical_set_id
    }
    for item in _contents(submission):
        if canonical_id(item.entry_uuid) not in members:
            yield Finding(
                f"{named(item)} is not a member of the SubmissionSet; send a HasMember from {set_id} to it.",
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


def _contents(submission: Submission) -> tuple[DocumentEntry | Folder, ...]:
    return (*submission.document_entries, *submission.folders)


def _repeated(items: tuple[Any, ...], key: Callable[[Any], Any]) -> Iterator[tuple[Any, Any]]:
    """Each item whose key an earlier one has, with that earlier one. None and "" repeat nothing."""
    if len(items) < 2:
        return
    seen: dict[Any, Any] = {}
    for item in items:
        value = key(item)
        if value and seen.setdefault(value, item) is not item:
            yield seen[value], item


def message_findings(submission: Submission, transaction: Transaction) -> Iterator[Finding]:
    """Every rule of this module that a submission breaks."""
    message = Message.of(submission)
    for rule in MESSAGE_RULES:
        yield from rule(message, transaction)
    yield from _association_findings(message)
