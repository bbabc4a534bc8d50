"""What an update of metadata asks of the registry, what speaks against it, what it changes. Pure: no store, no clock.

ITI TF-2: 3.57.4.1.3 (Update Document Set [ITI-57]) and 3.92.4.1.3 (Restricted Update Document Set [ITI-92]).
A new version has a new entryUUID, the logicalID of the first version and the next version number; the version before it
is deprecated. The Approved associations of the version before are made again for the new one and deprecated, unless
AssociationPropagation is `no`; so whatever is Approved joins newest versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from registry.lifecycle import (
    Judging,
    NewUuid,
    entry_uuids_of,
    identifiers_in_use,
    inherited_memberships,
    is_followed,
    is_membership,
    made_again,
    registered,
    revisions_of,
    version_after,
)
from registry.metadata_store import Facts, RegistryChange, Revision, VersionName
from xds.errors import ErrorCode, Finding, Severity, XdsError
from xds.metadata import (
    UPDATE_OPERATIONS,
    AnyObject,
    Association,
    AssociationType,
    AvailabilityStatus,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)
from xds.metadata_names import canonical_id, is_uuid_urn, location, named, shown, term
from xds.transactions import ITI_57, Transaction

Versioned: TypeAlias = DocumentEntry | Folder

_APPROVED, _DEPRECATED = AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED
_UNMODIFIABLE = ("repository_unique_id", "home_community_id", "hash")
"""What a restricted update leaves as it is, beside the identifiers (ITI TF-2: 3.92.4.1.2)."""


@dataclass(frozen=True, slots=True)
class Known:
    """What an update is judged on.

    facts    with what is in any dossier of the patient as the patient's
    dossier  the facts of the dossier that the update belongs to
    newest   by logicalID: the newest version
    links    all associations of those and of the targets of status updates, whatever their status
    next     by logicalID: the name that comes after that of the newest version
    """

    facts: Facts
    dossier: Facts
    newest: Mapping[str, AnyObject]
    links: tuple[Association, ...]
    next: Mapping[str, VersionName]

    def object(self, entry_uuid: str) -> AnyObject | None:
        return self.facts.objects.get(canonical_id(entry_uuid))


def new_versions(submission: Submission) -> tuple[Versioned, ...]:
    """The objects of an update that are new versions of what is registered."""
    return (*submission.document_entries, *submission.folders)


def logical_ids(submission: Submission) -> frozenset[str]:
    """Of what the update brings new versions."""
    return frozenset(canonical_id(item.logical_id) for item in new_versions(submission) if item.logical_id)


def targets(submission: Submission) -> frozenset[str]:
    """The entryUUIDs outside of the message that its associations name."""
    own = {canonical_id(item.entry_uuid) for item in submission.objects}
    ends = {canonical_id(end) for link in submission.associations for end in (link.source_object, link.target_object)}
    return frozenset(filter(is_uuid_urn, ends - own))


# What speaks against it --------------------------------------------------------------------------------------------


def conflicts(submission: Submission, known: Known, transaction: Transaction) -> Iterator[Finding]:
    """All that contradicts what is registered."""
    yield from identifiers_in_use(submission, known.facts, (submission.submission_set,))
    for item in new_versions(submission):
        yield from _version_conflicts(item, submission, known, transaction)
    for link in submission.associations:
        if link.association_type == AssociationType.UPDATE_AVAILABILITY_STATUS:
            yield from _status_conflicts(link, submission, known)
        elif link.association_type not in UPDATE_OPERATIONS and not _is_of_set(link, submission):
            yield from _link_conflicts(link, submission, known)


def _version_conflicts(
    item: Versioned, submission: Submission, known: Known, transaction: Transaction
) -> Iterator[Finding]:
    if not item.logical_id:
        return  # a broken rule, and told as such
    before = known.newest.get(canonical_id(item.logical_id))
    if before is None:
        yield Finding(
            f"{named(item)} is a new version of {item.logical_id}, and no version of that is registered; "
            "send the logicalID of a registered object.",
            location(item, "logical_id"),
            ErrorCode.METADATA_VERSION_ERROR,
        )
        return
    if before.kind is not item.kind:
        yield Finding(
            f"{named(item)} is a new version of a {before.kind}; send a {before.kind}.", location(item, "logical_id")
        )
        return
    operation = _operation(item, submission)
    if operation and operation.previous_version and operation.previous_version != before.version:
        yield Finding(
            f"{named(item)} has the PreviousVersion {operation.previous_version}, and the newest version registered is "
            f"{before.version}; fetch that one and update it.",
            location(operation, "previous_version"),
            ErrorCode.METADATA_VERSION_ERROR,
        )
    yield from _changed_identifiers(item, before, transaction)
    yield from _change_of_patient(item, before, known, transaction)
    if transaction is ITI_57 and before.availability_status != _APPROVED:
        yield Finding(
            f"{named(item)} is a new version of what is Deprecated; set its status to Approved first.",
            location(item, "logical_id"),
        )


def _changed_identifiers(item: Versioned, before: AnyObject, transaction: Transaction) -> Iterator[Finding]:
    restricted = transaction is not ITI_57
    if item.unique_id and item.unique_id != getattr(before, "unique_id", None):
        yield Finding(
            f"uniqueId of {named(item)} is {shown(item.unique_id)}, that of the version before is "
            f"{shown(getattr(before, 'unique_id', None) or '')}; all versions have the same.",
            location(item, "unique_id"),
            ErrorCode.METADATA_IDENTIFIER_ERROR if restricted else None,
        )
    if not isinstance(item, DocumentEntry) or not isinstance(before, DocumentEntry):
        return
    if item.object_type and item.object_type != before.object_type:
        yield Finding(
            f"objectType of {named(item)} is not that of the version before, {before.object_type}; send that.",
            location(item, "object_type"),
            ErrorCode.UNMODIFIABLE_METADATA_ERROR if restricted else None,
        )
    for attribute in _UNMODIFIABLE if restricted else ():
        value, former = getattr(item, attribute), getattr(before, attribute)
        if value is not None and former is not None and value.lower() != former.lower():
            yield Finding(
                f"{term(attribute)} of {named(item)} is not that of the version before; a restricted update leaves it "
                "as it is.",
                location(item, attribute),
                ErrorCode.UNMODIFIABLE_METADATA_ERROR,
            )


def _change_of_patient(item: Versioned, before: AnyObject, known: Known, transaction: Transaction) -> Iterator[Finding]:
    """Another patient may get what is connected with nothing of the first one (ITI TF-2: 3.57.4.1.3.3.1.7)."""
    if known.facts.owners[before.entry_uuid] == known.facts.patient_id:
        return
    if transaction is ITI_57 and not [link for link in known.links if _propagates(link, before.entry_uuid, known)]:
        return
    why = (
        "it is in a Folder, has members or is related to a document of that patient; take it out of those first"
        if transaction is ITI_57
        else "a restricted update leaves the patientId as it is"
    )
    yield Finding(
        f"patientId of {named(item)} is not that of the version before: {why}.",
        location(item, "patient_id"),
        ErrorCode.PATIENT_ID_RECONCILIATION_ERROR,
    )


def _status_conflicts(link: Association, submission: Submission, known: Known) -> Iterator[Finding]:
    own = {canonical_id(item.entry_uuid) for item in submission.objects}
    if canonical_id(link.target_object) in own or not is_uuid_urn(link.target_object):
        return
    what = f"{named(link)} has the targetObject {link.target_object}, "
    target = known.object(link.target_object)
    if target is None:
        yield Finding(
            f"{what}which is not registered; send the id of what is.",
            location(link, "target_object"),
            ErrorCode.UNRESOLVED_REFERENCE,
        )
        return
    if known.facts.owners[target.entry_uuid] != known.facts.patient_id:
        yield Finding(
            f"{what}which belongs to another patient; send the SubmissionSet of the same one.",
            location(link, "target_object"),
            ErrorCode.PATIENT_ID_RECONCILIATION_ERROR,
        )
        return
    if isinstance(target, SubmissionSet):
        yield Finding(f"{what}a SubmissionSet, which is always Approved.", location(link, "target_object"))
        return
    newest = known.newest.get(target.logical_id or target.entry_uuid, target)
    if newest.entry_uuid != target.entry_uuid:
        yield Finding(
            f"{what}which has been updated; send the id of its newest version, {newest.entry_uuid}.",
            location(link, "target_object"),
            ErrorCode.METADATA_VERSION_ERROR,
        )
    if link.original_status != target.availability_status:
        yield Finding(
            f"{named(link)} has the OriginalStatus {shown(link.original_status or '')}, and that of the target is "
            f"{target.availability_status}; send that.",
            location(link, "original_status"),
        )


def _link_conflicts(link: Association, submission: Submission, known: Known) -> Iterator[Finding]:
    """A submitted association joins Approved objects of the patient (ITI TF-2: 3.57.4.1.3.3.5)."""
    own = {canonical_id(item.entry_uuid) for item in submission.objects}
    for attribute, end in (("source_object", link.source_object), ("target_object", link.target_object)):
        if canonical_id(end) in own or not is_uuid_urn(end):
            continue
        what = f"{named(link)} has the {term(attribute)} {end}, which"
        item = known.object(end)
        if item is None:
            yield Finding(
                f"{what} is not registered; send the id of what is.",
                location(link, attribute),
                ErrorCode.UNRESOLVED_REFERENCE,
            )
        elif known.facts.owners[item.entry_uuid] != known.facts.patient_id:
            yield Finding(
                f"{what} belongs to another patient; join objects of one patient.",
                location(link, attribute),
                ErrorCode.PATIENT_ID_RECONCILIATION_ERROR,
            )
        else:
            for problem in _end_problems(link, attribute, item):
                yield Finding(f"{what} {problem}.", location(link, attribute))


def _end_problems(link: Association, attribute: str, item: AnyObject) -> Iterator[str]:
    if link.association_type == AssociationType.HAS_MEMBER and attribute == "source_object":
        if not isinstance(item, Folder):
            yield f"is a {item.kind}; only Folders take further members"
            return
    elif not isinstance(item, DocumentEntry):
        yield f"is a {item.kind}; send the id of a DocumentEntry"
        return
    if item.availability_status != _APPROVED:
        yield "is Deprecated; send the id of what is Approved"


def _is_of_set(link: Association, submission: Submission) -> bool:
    return canonical_id(link.source_object) == canonical_id(submission.submission_set.entry_uuid)


def _operation(item: Versioned, submission: Submission) -> Association | None:
    """The SubmissionSet's HasMember of a new version."""
    for link in submission.associations:
        if (
            link.association_type == AssociationType.HAS_MEMBER
            and canonical_id(link.target_object) == canonical_id(item.entry_uuid)
            and _is_of_set(link, submission)
        ):
            return link
    return None


# What it changes ---------------------------------------------------------------------------------------------------


def judged(
    submission: Submission,
    known: Known,
    transaction: Transaction,
    *,
    now: datetime,
    new_uuid: NewUuid,
    noticed: Sequence[Finding] = (),
    home_community_id: str | None = None,
) -> RegistryChange:
    """What an update does in the dossier of its patient, and in those from which something goes to that one.

    Raises XdsError with all of `noticed` and every conflict.
    """
    found = [*noticed, *conflicts(submission, known, transaction)]
    if any(finding.severity is Severity.ERROR for finding in found):
        raise XdsError.of(finding.reported(transaction.default_code) for finding in found)
    judging = Judging.at(now, home_community_id)
    entry_uuids = entry_uuids_of(submission, new_uuid)
    statuses = _statuses_of_new_versions(submission, known)
    sent: list[AnyObject] = []
    versions: list[VersionName] = []
    for item in submission.objects:
        made = registered(item, entry_uuids, judging)
        if isinstance(item, DocumentEntry | Folder):
            before = known.newest[canonical_id(item.logical_id or "")]
            status = statuses.get(canonical_id(item.entry_uuid), _status_after(before, transaction))
            made = _next_version(made, before, status)
            versions.append(known.next[before.logical_id or before.entry_uuid])
        sent.append(made)
    followers = {
        known.newest[canonical_id(item.logical_id or "")].entry_uuid: entry_uuids[canonical_id(item.entry_uuid)]
        for item in new_versions(submission)
        if (operation := _operation(item, submission)) is None or operation.association_propagation != "no"
    }
    copies = tuple(_copies(known, followers, new_uuid))
    links = tuple(item for item in sent if isinstance(item, Association))
    current = [link for link in known.links if link.availability_status == _APPROVED]
    inherited = tuple(inherited_memberships((*links, *current), sent[0], known.facts, new_uuid, replacing=links))
    members = tuple(filter(is_membership, copies))  # a copy of a replacement replaces nothing again
    by_dossier = _revisions(submission, known, followers, (*links, *members, *inherited), judging.update_time)
    change = RegistryChange(
        patient_id=known.facts.patient_id,
        change_id=str(new_uuid()),
        time=judging.time,
        objects=(*sent, *copies, *inherited),
        revisions=by_dossier.pop(known.facts.patient_id, ()),
        versions=tuple(versions),
    )
    elsewhere = tuple(
        RegistryChange(patient_id, str(new_uuid()), judging.time, (), revisions)
        for patient_id, revisions in by_dossier.items()
    )
    return replace(change, elsewhere=elsewhere)


def _status_after(before: AnyObject, transaction: Transaction) -> str:
    """A restricted update leaves the status as it is."""
    return _APPROVED if transaction is ITI_57 else before.availability_status or _APPROVED


def _statuses_of_new_versions(submission: Submission, known: Known) -> dict[str, str]:
    """By id in the message: the status that an UpdateAvailabilityStatus of the same message gives a new version."""
    by_version = {canonical_id(item.entry_uuid): canonical_id(item.entry_uuid) for item in new_versions(submission)}
    for item in new_versions(submission):
        before = known.newest.get(canonical_id(item.logical_id or ""))
        if before is not None:
            by_version[before.entry_uuid] = canonical_id(item.entry_uuid)
    return {
        by_version[canonical_id(link.target_object)]: link.new_status
        for link in submission.associations
        if link.association_type == AssociationType.UPDATE_AVAILABILITY_STATUS
        and link.new_status
        and canonical_id(link.target_object) in by_version
    }


def _next_version(item: AnyObject, before: AnyObject, status: str) -> AnyObject:
    """The new version, complete. What only a repository knows is as it was where it was not sent."""
    item = replace(
        item,
        logical_id=before.logical_id,
        version=version_after(before),
        availability_status=status,
        home_community_id=before.home_community_id or item.home_community_id,
    )
    if isinstance(item, DocumentEntry) and isinstance(before, DocumentEntry):
        return replace(
            item,
            hash=item.hash or before.hash,
            size=item.size or before.size,
            repository_unique_id=item.repository_unique_id or before.repository_unique_id,
        )
    return item


def _propagates(link: Association, entry_uuid: str, known: Known) -> bool:
    """Whether an association joins a version with something else that a new version is to be joined with, too.

    What a SubmissionSet brought it brought once: its HasMember stays with the version that it brought.
    """
    if not is_followed(link):
        return False
    if entry_uuid == link.source_object:
        return True
    return entry_uuid == link.target_object and not isinstance(known.object(link.source_object), SubmissionSet)


def _copies(known: Known, followers: Mapping[str, str], new_uuid: NewUuid) -> Iterator[Association]:
    """The associations of the versions before, made again for the new ones."""
    for link in known.links:
        if any(_propagates(link, end, known) for end in followers):
            yield made_again(link, followers, new_uuid)


def _revisions(
    submission: Submission,
    known: Known,
    followers: Mapping[str, str],
    links: Sequence[Association],
    update_time: str,
) -> dict[str, tuple[Revision, ...]]:
    """By dossier: what becomes of what is registered."""
    revisions: dict[str, Revision] = {}
    versions = {known.newest[each].entry_uuid for each in logical_ids(submission)}
    for entry_uuid in versions:
        before = known.newest[_logical_id(entry_uuid, known)].availability_status
        status = _DEPRECATED if before != _DEPRECATED else None
        revisions[entry_uuid] = Revision(entry_uuid, availability_status=status, outdated=True)
    for link in known.links:
        if any(_propagates(link, end, known) for end in followers):
            revisions[link.entry_uuid] = Revision(link.entry_uuid, availability_status=_DEPRECATED)
    for link in submission.associations:
        target = known.object(link.target_object)
        if link.association_type != AssociationType.UPDATE_AVAILABILITY_STATUS or target is None:
            continue
        if target.entry_uuid not in versions:
            revisions[target.entry_uuid] = Revision(target.entry_uuid, availability_status=link.new_status)
        if isinstance(target, Association) and (source := known.object(target.source_object)) is not None:
            revisions.setdefault(source.entry_uuid, Revision(source.entry_uuid))
    for each in revisions_of(links, known.facts, update_time):
        if each.entry_uuid not in versions:
            former = revisions.get(each.entry_uuid, Revision(each.entry_uuid))
            revisions[each.entry_uuid] = Revision(
                each.entry_uuid,
                each.availability_status or former.availability_status,
                each.last_update_time or former.last_update_time,
            )
    by_dossier: dict[str, tuple[Revision, ...]] = {}
    for entry_uuid, revision in revisions.items():
        owner = known.facts.owners[entry_uuid]
        by_dossier[owner] = (*by_dossier.get(owner, ()), revision)
    return by_dossier


def _logical_id(entry_uuid: str, known: Known) -> str:
    return next(each for each, item in known.newest.items() if item.entry_uuid == entry_uuid)
