"""What a submission asks of the registry, what speaks against it, and what it changes. Pure: no store, no clock.

ITI TF-2: 3.42.4.1.3 (what a registry checks and does) and ITI TF-3: 4.2.2.2 (relationships between documents).
`questions` names the facts that a submission touches; on these facts `judged` finds all that speaks against it or
returns the one change that it makes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

from registry.metadata_store import Facts, Questions, RegistryChange, Removal, Revision, StoredObject
from xds.errors import ErrorCode, Finding, Severity, XdsError
from xds.hl7v2 import DTM
from xds.metadata import (
    RELATIONSHIPS,
    REPLACING,
    UPDATE_OPERATIONS,
    AnyObject,
    Association,
    AssociationType,
    AvailabilityStatus,
    DocumentEntry,
    DocumentEntryType,
    Folder,
    ObjectKind,
    Submission,
    SubmissionSet,
)
from xds.metadata_names import canonical_id, is_uuid_urn, location, named, shown, term
from xds.transactions import ITI_42

NewUuid: TypeAlias = Callable[[], UUID]

_WITHOUT_SEPARATORS = str.maketrans("", "", "-T:")
_DEPRECATED_WITH_THEIR_TARGET = frozenset({AssociationType.APND, AssociationType.XFRM})


# Questions ---------------------------------------------------------------------------------------------------------


def questions(submission: Submission) -> Questions:
    """What must be known to judge a submission. It may break rules, but it has a SubmissionSet with a patientId."""
    patient_id = submission.submission_set.patient_id
    if patient_id is None:
        raise ValueError("nothing is known about a submission without patientId")
    own = {canonical_id(item.entry_uuid) for item in submission.objects}
    packages: tuple[SubmissionSet | Folder, ...] = (*submission.submission_sets, *submission.folders)
    outside = frozenset(canonical_id(end) for _, _, end in _outside_ends(submission))
    patient_ids = [each.patient_id for each in submission.submission_sets]
    return Questions(
        patient_id=patient_id.text,
        identifiers=frozenset(
            {*filter(is_uuid_urn, own), *(package.unique_id for package in packages if package.unique_id)}
        ),
        document_ids=frozenset(entry.unique_id for entry in submission.document_entries if entry.unique_id),
        references=outside,
        replaced=outside & {canonical_id(link.target_object) for link in _replacements(submission)},
        identities=frozenset(each.text for each in patient_ids if each is not None and not each.problem()),
    )


def _outside_ends(submission: Submission) -> Iterator[tuple[Association, str, str]]:
    """(association, attribute, end) for each end that names an object outside of the message."""
    own = {canonical_id(item.entry_uuid) for item in submission.objects}
    for link in submission.associations:
        for attribute, end in (("source_object", link.source_object), ("target_object", link.target_object)):
            if is_uuid_urn(end) and canonical_id(end) not in own:
                yield link, attribute, end


def _replacements(submission: Submission) -> Iterator[Association]:
    return (link for link in submission.associations if link.association_type in REPLACING)


# What speaks against it --------------------------------------------------------------------------------------------


def conflicts(submission: Submission, facts: Facts) -> Iterator[Finding]:
    """All that contradicts what is registered."""
    yield from identifiers_in_use(submission, facts, (*submission.submission_sets, *submission.folders))
    yield from _documents_that_differ(submission, facts)
    yield from _ends_that_do_not_fit(submission, facts)
    yield from _replacements_by_themselves(submission, facts)


def identifiers_in_use(
    submission: Submission, facts: Facts, packages: Sequence[SubmissionSet | Folder]
) -> Iterator[Finding]:
    """Ids of the submission's objects and uniqueIds of `packages` that belong to something else."""
    for item in submission.objects:
        if holder := _holder(canonical_id(item.entry_uuid), facts):
            yield Finding(
                f"The id of {named(item)} is in use by a registered {holder}; "
                "send a new UUID or a symbolic id, for which the registry makes a UUID.",
                location(item, "entry_uuid"),
            )
    for package in packages:
        if package.unique_id and (holder := _holder(package.unique_id, facts)):
            yield Finding(
                f"uniqueId {package.unique_id} of {named(package)} is that of a registered {holder}; "
                f"send a new uniqueId for each {package.kind}.",
                location(package, "unique_id"),
                ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY,
            )


def _holder(identifier: str, facts: Facts) -> str | None:
    """What has the identifier, and since which submission; None where nothing has it."""
    kind = facts.taken.get(identifier)
    origin = facts.origins.get(identifier)
    if kind is None or origin is None:
        return kind
    came = "uniqueId" if kind is ObjectKind.SUBMISSION_SET else "it came with the SubmissionSet"
    return f"{kind} ({came} {_submitted(origin)})"


def _submitted(origin: SubmissionSet) -> str:
    since = f", submissionTime {origin.submission_time}" if origin.submission_time else ""
    return f"{shown(origin.unique_id or '')}{since}"


def differing_documents(submission: Submission, facts: Facts) -> frozenset[str]:
    """The entryUUIDs of registered documents that have the uniqueId of one of the submission, and other bytes."""
    return frozenset(
        known.entry_uuid
        for entry in submission.document_entries
        for known in facts.documents.get(entry.unique_id or "", ())
        if (entry.hash and known.hash and entry.hash.lower() != known.hash.lower())
        or (entry.size and known.size and entry.size.lstrip("0") != known.size.lstrip("0"))
    )


def _documents_that_differ(submission: Submission, facts: Facts) -> Iterator[Finding]:
    """One uniqueId stands for the same bytes always; the same bytes may be registered again."""
    for entry in submission.document_entries:
        registered = facts.documents.get(entry.unique_id or "", ())
        hashes = {known.hash.lower() for known in registered if known.hash}
        sizes = {known.size.lstrip("0") for known in registered if known.size}
        origin = next((facts.origins[each.entry_uuid] for each in registered if each.entry_uuid in facts.origins), None)
        since = f" (it came with the SubmissionSet {_submitted(origin)})" if origin else ""
        what = f"uniqueId {entry.unique_id} of {named(entry)} is that of a registered document{since}"
        advice = "send another document with a uniqueId of its own"
        if entry.hash and hashes - {entry.hash.lower()}:
            yield Finding(
                f"{what} with the hash {', '.join(sorted(hashes))}, not {shown(entry.hash)}; {advice}.",
                location(entry, "hash"),
                ErrorCode.NON_IDENTICAL_HASH,
            )
        if entry.size and sizes - {entry.size.lstrip("0")}:
            yield Finding(
                f"{what} with the size {', '.join(sorted(sizes))}, not {shown(entry.size)}; {advice}.",
                location(entry, "size"),
                ErrorCode.NON_IDENTICAL_SIZE,
            )


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a registered object at an end of an association has to be."""

    kinds: tuple[ObjectKind, ...]
    sentence: str


_A_DOCUMENT = _Expected((ObjectKind.DOCUMENT_ENTRY,), "send the id of a registered DocumentEntry")
_A_FOLDER = _Expected((ObjectKind.FOLDER,), "only Folders take further members once they are registered")
_A_MEMBER = _Expected(
    (ObjectKind.DOCUMENT_ENTRY, ObjectKind.FOLDER, ObjectKind.ASSOCIATION), "a SubmissionSet is a member of nothing"
)


def _expected(link: Association, attribute: str, set_id: str) -> _Expected | None:
    """None where a broken rule of xds/message_rules.py has said all there is to say."""
    if link.association_type in RELATIONSHIPS:
        return _A_DOCUMENT if attribute == "target_object" else None
    if link.association_type != AssociationType.HAS_MEMBER:
        return None
    if attribute == "source_object":
        return _A_FOLDER
    return _A_MEMBER if canonical_id(link.source_object) == set_id else _A_DOCUMENT


def _ends_that_do_not_fit(submission: Submission, facts: Facts) -> Iterator[Finding]:
    set_id = canonical_id(submission.submission_set.entry_uuid)
    for link, attribute, end in _outside_ends(submission):
        if expected := _expected(link, attribute, set_id):
            what = f"{named(link)} has the {term(attribute)} {end}"
            for code, problem in _end_problems(link, facts, canonical_id(end), expected):
                yield Finding(f"{what}, {problem}.", location(link, attribute), code)


def _end_problems(
    link: Association, facts: Facts, end: str, expected: _Expected
) -> Iterator[tuple[ErrorCode | None, str]]:
    registered = facts.objects.get(end)
    if registered is None:
        yield (
            ErrorCode.UNRESOLVED_REFERENCE,
            "which is neither registered nor in this message; send the id of one that is",
        )
        return
    if facts.owners[end] != facts.patient_id:
        yield (
            ErrorCode.PATIENT_ID_DOES_NOT_MATCH,
            f"which belongs to another patient than the SubmissionSet, {shown(facts.patient_id)}; "
            "join objects of one patient",
        )
        return  # what else is wrong with it is no business of this patient's submission
    if registered.kind not in expected.kinds:
        yield None, f"which is a registered {registered.kind}; {expected.sentence}"
        return
    if registered.availability_status != AvailabilityStatus.APPROVED:
        code = ErrorCode.REGISTRY_DEPRECATED_DOCUMENT_ERROR if registered.kind is ObjectKind.DOCUMENT_ENTRY else None
        yield code, "which is Deprecated; send the id of the one that replaced it"
    if link.association_type == AssociationType.IS_SNAPSHOT_OF and not _is_on_demand(registered):
        yield None, "which is not an on-demand document; only those have snapshots"
    if expected is _A_MEMBER and registered.kind is ObjectKind.DOCUMENT_ENTRY and link.submission_set_status is None:
        yield None, "which is a registered document; send the SubmissionSetStatus Reference"


def _is_on_demand(item: AnyObject) -> bool:
    return isinstance(item, DocumentEntry) and item.object_type == DocumentEntryType.ON_DEMAND


def _replacements_by_themselves(submission: Submission, facts: Facts) -> Iterator[Finding]:
    sent = {canonical_id(entry.entry_uuid): entry for entry in submission.document_entries}
    for link in _replacements(submission):
        replacement = sent.get(canonical_id(link.source_object))
        replaced = facts.objects.get(canonical_id(link.target_object))
        if replacement and isinstance(replaced, DocumentEntry) and replacement.unique_id == replaced.unique_id:
            yield Finding(
                f"{named(replacement)} has the uniqueId {replacement.unique_id} of the document that it replaces; "
                "a replacement needs a new uniqueId.",
                location(replacement, "unique_id"),
            )


# What it changes ---------------------------------------------------------------------------------------------------


def judged(
    submission: Submission,
    facts: Facts,
    *,
    now: datetime,
    new_uuid: NewUuid,
    noticed: Sequence[Finding] = (),
    home_community_id: str | None = None,
) -> RegistryChange:
    """The change that a submission makes.

    home_community_id   given to every object that was sent without one
    noticed   what was found before the registry was asked; errors among it refuse the submission too
    Raises XdsError with all of `noticed` and every conflict.
    """
    found = [*noticed, *conflicts(submission, facts)]
    if any(finding.severity is Severity.ERROR for finding in found):
        raise refusal(found)
    judging = Judging.at(now, home_community_id)
    entry_uuids = entry_uuids_of(submission, new_uuid)
    sent = tuple(registered(item, entry_uuids, judging) for item in submission.objects)
    links = tuple(item for item in sent if isinstance(item, Association))
    inherited = tuple(inherited_memberships(links, sent[0], facts, new_uuid))
    return RegistryChange(
        patient_id=facts.patient_id,
        change_id=str(new_uuid()),
        time=judging.time,
        objects=(*sent, *inherited),
        revisions=tuple(revisions_of((*links, *inherited), facts, judging.update_time)),
    )


def refusal(found: Iterable[Finding]) -> XdsError:
    """The one answer to all that was found."""
    return XdsError.of(finding.reported(ITI_42.default_code) for finding in found)


@dataclass(frozen=True, slots=True)
class Judging:
    """When a submission is judged, and what it gives to what it registers.

    time          `YYYY-MM-DDThh:mm:ss.ffffffZ`
    update_time   the same in whole seconds, 14 digits
    """

    time: str
    update_time: str
    home_community_id: str | None = None

    @classmethod
    def at(cls, now: datetime, home_community_id: str | None = None) -> Judging:
        time = now.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
        return cls(time, time[:19].translate(_WITHOUT_SEPARATORS), home_community_id)


def entry_uuids_of(submission: Submission, new_uuid: NewUuid) -> Mapping[str, str]:
    """By canonical id: the entryUUID that each object of the message gets. UUIDs that were sent are kept."""
    own = (canonical_id(item.entry_uuid) for item in submission.objects)
    return {each: each if is_uuid_urn(each) else new_uuid().urn for each in own}


def registered(item: AnyObject, entry_uuids: Mapping[str, str], judging: Judging) -> AnyObject:
    """The object as it will be found: its first version, Approved, with references by entryUUID."""
    entry_uuid = entry_uuids[canonical_id(item.entry_uuid)]
    lasting: dict[str, Any] = {
        "entry_uuid": entry_uuid,
        "logical_id": entry_uuid,
        "version": "1",
        "availability_status": AvailabilityStatus.APPROVED,
    }
    if item.home_community_id is None:
        lasting["home_community_id"] = judging.home_community_id
    if isinstance(item, Association):
        for attribute in ("source_object", "target_object"):
            end = canonical_id(getattr(item, attribute))
            lasting[attribute] = entry_uuids.get(end, end)
    if isinstance(item, Folder):
        lasting["last_update_time"] = DTM(judging.update_time)
    return replace(item, **lasting)


def version_after(item: AnyObject | StoredObject) -> str:
    """The version attribute of what an update makes of this one: one more, whatever was removed (3.57.4.1.3)."""
    return str(int(item.version or "1") + 1)


def is_followed(link: Association) -> bool:
    """Whether an association may be made again where one of its ends gets a new version."""
    return link.availability_status == AvailabilityStatus.APPROVED and link.association_type not in UPDATE_OPERATIONS


def made_again(link: Association, followers: Mapping[str, str], new_uuid: NewUuid) -> Association:
    """The association of versions before as one of the new versions. followers: those, by the entryUUID before."""
    entry_uuid = new_uuid().urn
    return replace(
        link,
        entry_uuid=entry_uuid,
        logical_id=entry_uuid,
        version="1",
        source_object=followers.get(link.source_object, link.source_object),
        target_object=followers.get(link.target_object, link.target_object),
    )


def inherited_memberships(
    links: Sequence[Association],
    submission_set: AnyObject,
    facts: Facts,
    new_uuid: NewUuid,
    replacing: Sequence[Association] | None = None,
) -> Iterator[Association]:
    """A replacement takes the place of what it replaces in every Folder (ITI TF-2: 3.42.4.1.3).

    links       in which a membership is not to be made again
    replacing   those that may replace something, where it is not all of `links`
    """
    memberships = {(link.source_object, link.target_object) for link in links if is_membership(link)}
    for replacement, folder_id in _inheritances(links if replacing is None else replacing, facts):
        if (folder_id, replacement) in memberships:
            continue
        memberships.add((folder_id, replacement))
        in_folder = new_membership(folder_id, replacement, submission_set, new_uuid)
        yield in_folder
        yield new_membership(submission_set.entry_uuid, in_folder.entry_uuid, submission_set, new_uuid)


def _inheritances(links: Sequence[Association], facts: Facts) -> Iterator[tuple[str, str]]:
    """(replacement, Folder) for each Approved Folder that holds what is replaced."""
    folders = defaultdict(list)
    for relation in facts.relations:
        folder = facts.objects.get(relation.source_object)
        if isinstance(folder, Folder) and folder.availability_status == AvailabilityStatus.APPROVED:
            folders[relation.target_object].append(folder.entry_uuid)
    for link in links:
        if link.association_type in REPLACING:
            for folder_id in folders[link.target_object]:
                yield link.source_object, folder_id


def new_membership(source: str, target: str, submission_set: AnyObject, new_uuid: NewUuid) -> Association:
    entry_uuid = new_uuid().urn
    return Association(
        entry_uuid=entry_uuid,
        logical_id=entry_uuid,
        version="1",
        home_community_id=submission_set.home_community_id,
        availability_status=AvailabilityStatus.APPROVED,
        association_type=AssociationType.HAS_MEMBER,
        source_object=source,
        target_object=target,
    )


def revisions_of(links: Sequence[Association], facts: Facts, update_time: str) -> Iterator[Revision]:
    """What new associations do to what is registered."""
    yield from _deprecations(links, facts)
    yield from joined_otherwise(links, facts.objects, update_time)


def _deprecations(links: Sequence[Association], facts: Facts) -> Iterator[Revision]:
    """What is replaced, and all that was appended to it or transformed from it, and so on (ITI TF-3: 4.2.2.2)."""
    dependants = defaultdict(list)
    for relation in facts.relations:
        if relation.association_type in _DEPRECATED_WITH_THEIR_TARGET:
            dependants[relation.target_object].append(relation.source_object)
    waiting = [link.target_object for link in links if link.association_type in REPLACING]
    reached: set[str] = set()
    while waiting:
        document = waiting.pop()
        if document in reached:
            continue
        reached.add(document)
        waiting.extend(dependants[document])
        if facts.objects[document].availability_status == AvailabilityStatus.APPROVED:
            yield Revision(document, availability_status=AvailabilityStatus.DEPRECATED)


def joined_otherwise(
    links: Sequence[Association], registered: Mapping[str, AnyObject], update_time: str
) -> Iterator[Revision]:
    """What is registered and is the source of associations that come or go.

    Of a Folder whose members these are, that is its lastUpdateTime (ITI TF-3: 4.2.3.4.6).
    """
    has_other_members = {link.source_object for link in links if is_membership(link)}
    for source in dict.fromkeys(link.source_object for link in links):
        item = registered.get(source)
        if isinstance(item, Folder) and source in has_other_members:
            yield Revision(source, last_update_time=update_time)
        elif isinstance(item, DocumentEntry | Folder | SubmissionSet):
            yield Revision(source)


def removal_of(item: AnyObject) -> Removal:
    """The removal of an object, with the names that stay its own."""
    if isinstance(item, DocumentEntry):
        digest = item.hash.lower() if item.hash else None
        return Removal(item.entry_uuid, item.kind.value, item.unique_id, digest, item.size)
    unique_id = None if isinstance(item, Association) else item.unique_id
    return Removal(item.entry_uuid, item.kind.value, unique_id)


def is_membership(link: Association) -> bool:
    return link.association_type == AssociationType.HAS_MEMBER
