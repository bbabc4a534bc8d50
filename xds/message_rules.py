"""What a submission has to be as a whole: which objects it holds and how its associations join them.

ITI TF-3: 4.2.1 and 4.2.2; for updates, whose operations are associations, ITI TF-2: 3.57.4.1.3. Ends of associations
outside of the message are judged by registry/lifecycle.py and registry/metadata_update.py: they know what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from xds.errors import ErrorCode, Finding
from xds.metadata import (
    RELATIONSHIPS,
    REPLACING,
    UPDATE_OPERATIONS,
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
from xds.transactions import ITI_41, ITI_42, ITI_61, ITI_92, UPDATES, Transaction


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

    types          None: of every type
    problem        the end of a sentence that begins with the association's name, or None
    transactions   None: in every one
    """

    types: frozenset[str] | None
    attribute: str
    problem: Callable[[Link], str | None]
    code: ErrorCode | None = None
    transactions: frozenset[str] | None = None

    def broken(self, link: Link) -> str | None:
        """What is wrong with this association, if the rule is about it."""
        if self.types is None or link.association.association_type in self.types:
            return self.problem(link)
        return None


_UPDATES = UPDATE_OPERATIONS | {"urn:ihe:iti:2010:AssociationType:NonVersioningUpdate"}
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


def _is_operation(link: Link) -> bool:
    """A SubmissionSet's HasMember of a new version."""
    return link.source is not None and link.source.kind is ObjectKind.SUBMISSION_SET and link.target is not None


def _previous_version_is_named(link: Link) -> str | None:
    if not _is_operation(link) or link.target is None or link.target.kind not in _VERSIONED:
        return None
    if link.association.previous_version is None:
        return f"joins {named(link.target)} without a Slot PreviousVersion; send the version that it follows"
    return None


def _status_of_update(link: Link) -> str | None:
    if not _is_operation(link) or link.target is None:
        return None
    status = link.association.submission_set_status
    if link.target.kind is ObjectKind.DOCUMENT_ENTRY and status != "Original":
        return f"joins {named(link.target)} with the SubmissionSetStatus {shown(status or '')}; send Original"
    if link.target.kind is ObjectKind.FOLDER and status is not None:
        return f"joins {named(link.target)} with a SubmissionSetStatus; leave it out"
    return None


def _brings_what_is_new(link: Link) -> str | None:
    if link.source is None or link.source.kind is not ObjectKind.SUBMISSION_SET or link.target is not None:
        return None
    return (
        f"joins {link.association.target_object}, which is not in this message; an update brings new versions, and "
        "changes what is registered by UpdateAvailabilityStatus and SubmitAssociation"
    )


def _operation_of_the_set(link: Link) -> str | None:
    if link.source is not None and link.source.kind is ObjectKind.SUBMISSION_SET:
        return None
    return f"has the sourceObject {shown(link.association.source_object)}; send the SubmissionSet's id"


def _statuses_are_named(link: Link) -> str | None:
    missing = [
        name
        for name, value in (("OriginalStatus", link.association.original_status),
                            ("NewStatus", link.association.new_status))
        if value is None
    ]  # fmt: skip
    return f"has no Slot {' and no Slot '.join(missing)}; send both" if missing else None


def _status_is_of_another_message(link: Link) -> str | None:
    """But a new version may get its status with it."""
    if link.target is None or link.target.kind in _VERSIONED:
        return None
    return f"has the targetObject {named(link.target)} of this message, which is Approved when it is registered"


def _submits_an_association(link: Link) -> str | None:
    if link.target is not None and link.target.kind is ObjectKind.ASSOCIATION:
        return None
    return (
        f"has the targetObject {shown(link.association.target_object)}; send the id of an Association of this message"
    )


def _update_is_full(link: Link) -> str | None:
    return f"is a {_short(link)}, which belongs to ITI-57; with ITI-92 only DocumentEntries get new versions"


def _associations_follow(link: Link) -> str | None:
    if link.association.association_propagation != "no":
        return None
    return "has the AssociationPropagation no; in a restricted update associations always follow, leave the Slot out"


_NON_VERSIONING = frozenset({"urn:ihe:iti:2010:AssociationType:NonVersioningUpdate"})


def _non_versioning(link: Link) -> str | None:
    return f"has the type {link.association.association_type}; send a new version instead"


_NEW = frozenset({ITI_41.name, ITI_42.name, ITI_61.name})
_VERSIONED = (ObjectKind.DOCUMENT_ENTRY, ObjectKind.FOLDER)
_STATUS_UPDATE = frozenset({AssociationType.UPDATE_AVAILABILITY_STATUS})
_SUBMIT_ASSOCIATION = frozenset({AssociationType.SUBMIT_ASSOCIATION})
_RESTRICTED = frozenset({ITI_92.name})

ASSOCIATION_RULES = (  # ITI TF-3: 4.2.2
    AssociationRule(None, "association_type", _type_is_known, ErrorCode.REGISTRY_METADATA_ERROR, UPDATES),
    AssociationRule(None, "association_type", _type_is_known, None, _NEW),
    AssociationRule(_UPDATES, "association_type", _type_is_an_update, None, _NEW),
    AssociationRule(_NON_VERSIONING, "association_type", _non_versioning, None, UPDATES),
    AssociationRule(None, "source_object", _source_is_named, ErrorCode.UNRESOLVED_REFERENCE),
    AssociationRule(None, "target_object", _target_is_named, ErrorCode.UNRESOLVED_REFERENCE),
    AssociationRule(RELATIONSHIPS, "source_object", _relationship_starts_here, ErrorCode.UNRESOLVED_REFERENCE, _NEW),
    AssociationRule(RELATIONSHIPS, "target_object", _relationship_joins_documents),
    AssociationRule(REPLACING, "target_object", _replaced_is_registered),
    AssociationRule(REPLACING, "target_object", _replaced_once),
    AssociationRule(_SNAPSHOT, "source_object", _snapshot_is_stable),
    AssociationRule(_MEMBERSHIP, "source_object", _membership_starts_at_a_package),
    AssociationRule(_MEMBERSHIP, "target_object", _membership_ends_at_a_member),
    AssociationRule(_MEMBERSHIP, "submission_set_status", _status_of_membership, None, _NEW),
    AssociationRule(
        _MEMBERSHIP, "previous_version", _previous_version_is_named, ErrorCode.METADATA_VERSION_ERROR, UPDATES
    ),
    AssociationRule(_MEMBERSHIP, "submission_set_status", _status_of_update, None, UPDATES),
    AssociationRule(_MEMBERSHIP, "target_object", _brings_what_is_new, None, UPDATES),
    AssociationRule(
        _MEMBERSHIP, "association_propagation", _associations_follow, ErrorCode.METADATA_ANNOTATION_ERROR, _RESTRICTED
    ),
    AssociationRule(_STATUS_UPDATE | _SUBMIT_ASSOCIATION, "source_object", _operation_of_the_set, None, UPDATES),
    AssociationRule(_STATUS_UPDATE, "original_status", _statuses_are_named, None, UPDATES),
    AssociationRule(_STATUS_UPDATE, "target_object", _status_is_of_another_message, None, UPDATES),
    AssociationRule(_SUBMIT_ASSOCIATION, "target_object", _submits_an_association, None, UPDATES),
    AssociationRule(_STATUS_UPDATE | _SUBMIT_ASSOCIATION, "association_type", _update_is_full, None, _RESTRICTED),
    AssociationRule(None, "documentation", _documentation_is_about_documents),
)


def _association_findings(message: Message, transaction: Transaction) -> Iterator[Finding]:
    rules = [rule for rule in ASSOCIATION_RULES if rule.transactions is None or transaction.name in rule.transactions]
    for link in message.links():
        for rule in rules:
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


def _logical_ids_differ(message: Message, transaction: Transaction) -> Iterator[Finding]:
    submission = message.submission
    code = ErrorCode.METADATA_UPDATE_OPERATION_ERROR if transaction.name in UPDATES else None
    for items in (submission.document_entries, submission.folders, submission.associations):
        for first, other in _repeated(items, lambda item: item.logical_id and canonical_id(item.logical_id)):
            yield Finding(
                f"logicalID of {named(other)} is that of {named(first)} too; a message holds one version of an object.",
                location(other, "logical_id"),
                code,
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


def _all_are_members(message: Message, transaction: Transaction) -> Iterator[Finding]:
    submission = message.submission
    code = ErrorCode.METADATA_ANNOTATION_ERROR if transaction.name == ITI_92.name else None
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
                code,
            )


def _restricted_to_documents(message: Message, transaction: Transaction) -> Iterator[Finding]:
    if transaction.name != ITI_92.name:
        return
    for item in message.submission.folders:
        yield Finding(
            f"{named(item)} is a Folder; with ITI-92 only DocumentEntries are updated, send it with ITI-57.",
            location(item, "entry_uuid"),
            ErrorCode.OBJECT_TYPE_ERROR,
        )


def _operations_are_there(message: Message, transaction: Transaction) -> Iterator[Finding]:
    """An update does something, and every association in it is submitted by an operation."""
    if transaction.name not in UPDATES or len(message.submission.submission_sets) != 1:
        return
    links = message.submission.associations
    operations = {*UPDATE_OPERATIONS, AssociationType.HAS_MEMBER}
    set_id = canonical_id(message.submission.submission_set.entry_uuid)
    of_set = [each for each in links if canonical_id(each.source_object) == set_id]
    if not any(each.association_type in operations for each in of_set):
        yield Finding(
            "The update has no operation; send a HasMember with PreviousVersion, UpdateAvailabilityStatus or "
            "SubmitAssociation from the SubmissionSet.",
            code=ErrorCode.METADATA_UPDATE_OPERATION_ERROR,
        )
    submitted = {canonical_id(each.target_object) for each in of_set}
    for link in links:
        if link not in of_set and canonical_id(link.entry_uuid) not in submitted:
            yield Finding(
                f"{named(link)} is submitted by no operation; send a SubmitAssociation from the SubmissionSet to it.",
                location(link, "entry_uuid"),
                ErrorCode.METADATA_UPDATE_OPERATION_ERROR,
            )


def _statuses_change_once(message: Message, transaction: Transaction) -> Iterator[Finding]:
    changes = tuple(link for link in message.submission.associations if link.association_type in _STATUS_UPDATE)
    for first, other in _repeated(changes, lambda link: canonical_id(link.target_object)):
        yield Finding(
            f"{named(other)} has the targetObject of {named(first)}; a message changes the status of an object once.",
            location(other, "target_object"),
            ErrorCode.METADATA_UPDATE_OPERATION_ERROR if transaction.name in UPDATES else None,
        )


MESSAGE_RULES: tuple[MessageRule, ...] = (
    _one_submission_set,
    _ids_differ,
    _unique_ids_differ,
    _logical_ids_differ,
    _one_patient,
    _all_are_members,
    _restricted_to_documents,
    _operations_are_there,
    _statuses_change_once,
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
    yield from _association_findings(message, transaction)
