"""What a change of a patient link [ITI-64] does to what is registered. Pure: no store, no clock.

ITI TF-2: 3.64.4.1.3.1. What is Approved and has the local id gets a new version with the patient's new id, in a
SubmissionSet that the registry makes. An association that then would join objects of two patients is not made again
(docs/adr/0011-what-joined-two-patients-is-dropped.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from registry.lifecycle import Judging, NewUuid, is_membership, made_again, new_membership, version_after
from registry.metadata_store import Facts, RegistryChange, Revision, VersionName
from xds.hl7v2 import CX, DTM, oid_of
from xds.metadata import (
    REPLACING,
    AnyObject,
    Association,
    AvailabilityStatus,
    Code,
    DocumentEntry,
    Folder,
    SubmissionSet,
)

_APPROVED, _DEPRECATED = AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED


@dataclass(frozen=True, slots=True)
class LinkChange:
    """What a message says, in the canonical form of ids.

    local       the id by which a source knows the patient: sourcePatientId
    new         who it is of the affinity domain's patients
    previous    who it was until now; the same where only local ids are merged
    subsumed    another local id, which is not used any more; None: there is none
    source_id   OID of who sent it
    """

    local: CX
    new: CX
    previous: CX
    subsumed: CX | None
    source_id: str

    @property
    def is_of_one_patient(self) -> bool:
        return self.new == self.previous

    @property
    def local_ids(self) -> tuple[CX, ...]:
        """Whose documents get a new version."""
        merged = () if self.subsumed is None else (self.subsumed,)
        return merged if self.is_of_one_patient else (self.local, *merged)


@dataclass(frozen=True, slots=True)
class Linked:
    """What a link change touches in a dossier.

    facts     of the dossier; `objects` has all that is named here
    entries   the documents that go, by entryUUID
    folders   the Folders that go with them, by entryUUID
    links     the Approved associations of those documents
    next      by logicalID: the name that comes after that of each of them
    """

    facts: Facts
    entries: Mapping[str, DocumentEntry]
    folders: Mapping[str, Folder]
    links: tuple[Association, ...]
    next: Mapping[str, VersionName] = field(default_factory=dict)


def relinked(
    change: LinkChange, linked: Linked, judging: Judging, content_type_code: Code, new_uuid: NewUuid
) -> RegistryChange:
    """The change of the dossier, and of that of the new patient."""
    followers = {before: new_uuid().urn for before in (*linked.entries, *linked.folders)}
    owner = _submission_set(change, judging, content_type_code, new_uuid)
    versions = [_next_version(item, followers, change, judging) for item in linked.entries.values()]
    folders = [_next_version(item, followers, change, judging) for item in linked.folders.values()]
    copies = list(_copies(change, linked, followers, new_uuid))
    before: dict[str, DocumentEntry | Folder] = {**linked.entries, **linked.folders}
    members = [_operation(owner, followers[each], item, new_uuid) for each, item in before.items()]
    memberships = [link for link in copies if is_membership(link) and link.submission_set_status is None]
    members += [new_membership(owner.entry_uuid, link.entry_uuid, owner, new_uuid) for link in memberships]
    objects = (owner, *versions, *folders, *members, *copies)
    return _by_dossier(change, linked, objects, _revisions(change, linked, followers), judging, new_uuid)


def _submission_set(change: LinkChange, judging: Judging, content_type_code: Code, new_uuid: NewUuid) -> SubmissionSet:
    """ITI TF-2: Table 3.64.4.1.3.1.1-1."""
    entry_uuid = new_uuid().urn
    return SubmissionSet(
        entry_uuid=entry_uuid,
        logical_id=entry_uuid,
        version="1",
        availability_status=_APPROVED,
        home_community_id=judging.home_community_id,
        unique_id=oid_of(new_uuid()),
        patient_id=change.new,
        source_id=change.source_id,
        content_type_code=content_type_code,
        submission_time=DTM(judging.update_time),
    )


def _next_version(
    item: DocumentEntry | Folder,
    followers: Mapping[str, str],
    change: LinkChange,
    judging: Judging,
) -> AnyObject:
    new = replace(
        item,
        entry_uuid=followers[item.entry_uuid],
        logical_id=item.logical_id or item.entry_uuid,
        version=version_after(item),
        patient_id=change.new,
        availability_status=_APPROVED,
    )
    if isinstance(new, Folder):
        return replace(new, last_update_time=DTM(judging.update_time))
    return replace(new, source_patient_id=change.local)


def _operation(owner: SubmissionSet, entry_uuid: str, before: DocumentEntry | Folder, new_uuid: NewUuid) -> Association:
    return replace(
        new_membership(owner.entry_uuid, entry_uuid, owner, new_uuid),
        previous_version=before.version or "1",
        submission_set_status="Original" if isinstance(before, DocumentEntry) else None,
    )


def _copies(
    change: LinkChange, linked: Linked, followers: Mapping[str, str], new_uuid: NewUuid
) -> Iterator[Association]:
    """The associations of what goes, made again for the new versions where both ends are of one patient then."""
    for link in linked.links:
        if _goes(link, change, linked, followers):
            yield made_again(link, followers, new_uuid)


def _goes(link: Association, change: LinkChange, linked: Linked, followers: Mapping[str, str]) -> bool:
    if _is_of_a_set(link, linked):
        # The one association that may join two patients (ITI TF-2: 3.64.4.1.3.1).
        return link.submission_set_status == "Reference"
    return change.is_of_one_patient or all(end in followers for end in (link.source_object, link.target_object))


def _is_of_a_set(link: Association, linked: Linked) -> bool:
    return isinstance(linked.facts.objects.get(link.source_object), SubmissionSet)


def _revisions(change: LinkChange, linked: Linked, followers: Mapping[str, str]) -> Iterator[Revision]:
    """What is there deprecated for: what has a new version, what was made again, and what would join two patients."""
    for before in followers:
        yield Revision(before, availability_status=_DEPRECATED, outdated=True)
    for link in linked.links:
        stays = _is_of_a_set(link, linked) or link.association_type in REPLACING  # what was once so
        if not stays or _goes(link, change, linked, followers):
            yield Revision(link.entry_uuid, availability_status=_DEPRECATED)
            if link.source_object not in followers:
                yield Revision(link.source_object)


def _by_dossier(
    change: LinkChange,
    linked: Linked,
    objects: tuple[AnyObject, ...],
    revisions: Iterator[Revision],
    judging: Judging,
    new_uuid: NewUuid,
) -> RegistryChange:
    here = linked.facts.patient_id
    there = here if change.is_of_one_patient else change.new.text
    revised = defaultdict(list)
    for revision in revisions:
        revised[linked.facts.owners[revision.entry_uuid]].append(revision)
    parts = {
        dossier: RegistryChange(
            dossier,
            str(new_uuid()),
            judging.time,
            objects if dossier == there else (),
            tuple(revised[dossier]),
        )
        for dossier in dict.fromkeys((here, there, *revised))
    }
    return replace(parts.pop(here), versions=tuple(linked.next.values()), elsewhere=tuple(parts.values()))
