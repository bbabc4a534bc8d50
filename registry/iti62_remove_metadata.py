"""Remove Metadata [ITI-62].

ITI TF-2: 3.62. All objects that are named go, or none: what remains must not refer to what goes, and must belong to a
SubmissionSet still. They are blanked in the log as well (registry/dossier_log.py); nothing of them is left but names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from registry.changing import Changing
from registry.lifecycle import Judging, is_membership, joined_otherwise, removal_of
from registry.metadata_store import (
    Criteria,
    Facts,
    Match,
    MetadataStore,
    Questions,
    RegistryChange,
    Revision,
    StoredObject,
)
from registry.next_versions import next_versions
from xds.actors import RegistryResponse
from xds.errors import ErrorCode, Finding, XdsError
from xds.metadata import REPLACING, AnyObject, Association, DocumentEntry, Folder, ObjectKind, SubmissionSet
from xds.metadata_names import canonical_id, named, shown
from xds.transactions import ITI_62


async def remove_metadata(entry_uuids: Sequence[str], changing: Changing) -> RegistryResponse:
    """Remove all of these objects, or none of them.

    Raises XdsError with all errors that were found, XDSRegistryBusy; StoreBusy, StoreFull.
    """
    wanted = frozenset(map(canonical_id, entry_uuids))
    if not wanted:
        raise XdsError(ITI_62.default_code, "The request names no object; send an ObjectRef for each.", "ObjectRefList")

    async def remove() -> None:
        removed = await _removed(wanted, changing.store)
        found = list(conflicts(removed))
        if found:
            raise XdsError.of(finding.reported(ITI_62.default_code) for finding in found)
        judging = Judging.at(changing.clock())
        versions = await _versions(removed, changing.store)
        names = await next_versions([each[-1] for each in versions.values()], changing.store)
        newest_again = _newest_again(removed, versions)
        here = removed.facts.patient_id
        change = RegistryChange(
            patient_id=here,
            change_id=str(changing.new_uuid()),
            time=judging.time,
            objects=(),
            revisions=(
                *joined_otherwise(removed.removed_links, removed.left, judging.update_time),
                *newest_again.pop(here, ()),
            ),
            removals=tuple(removal_of(item) for item in removed.objects),
            versions=tuple(names.values()),
            elsewhere=tuple(
                RegistryChange(patient_id, str(changing.new_uuid()), judging.time, (), tuple(revisions))
                for patient_id, revisions in newest_again.items()
            ),
        )
        await changing.store.apply(change, removed.facts)

    await changing.until_it_holds(remove)
    return RegistryResponse.of()


@dataclass(frozen=True, slots=True)
class Removed:
    """What is to go, and what it is joined with.

    links   all associations of `wanted`, and of the ends of associations among them
    """

    wanted: frozenset[str]
    facts: Facts
    links: tuple[Association, ...]

    @property
    def objects(self) -> tuple[AnyObject, ...]:
        return tuple(self.facts.objects[each] for each in sorted(self.wanted) if each in self.facts.objects)

    @property
    def left(self) -> Mapping[str, AnyObject]:
        """By entryUUID: what stays."""
        return {uuid: item for uuid, item in self.facts.objects.items() if uuid not in self.wanted}

    @property
    def removed_links(self) -> tuple[Association, ...]:
        return tuple(item for item in self.objects if isinstance(item, Association))

    @property
    def remaining_links(self) -> Iterator[Association]:
        return (link for link in self.links if link.entry_uuid not in self.wanted)


async def _removed(wanted: frozenset[str], store: MetadataStore) -> Removed:
    """What is named, as it is in its dossier; nothing is older than the dossier's sequence."""
    named_objects = await store.known(Questions("", references=wanted))
    patient_id = next(iter(named_objects.owners.values()), "")
    sequence = (await store.known(Questions(patient_id))).sequence
    objects = (await store.known(Questions(patient_id, references=wanted))).objects
    ends = {
        end
        for item in objects.values()
        if isinstance(item, Association)
        for end in (item.source_object, item.target_object)
    }
    links = await _links(store, wanted | ends)
    more = frozenset(end for link in links.values() for end in link)
    facts = await store.known(Questions(patient_id, references=wanted | ends | links.keys() | more))
    if facts.sequence != sequence:
        return await _removed(wanted, store)
    items: Iterable[AnyObject] = (facts.objects[each] for each in sorted(links) if each in facts.objects)
    return Removed(wanted, facts, tuple(item for item in items if isinstance(item, Association)))


async def _links(store: MetadataStore, ends: Iterable[str]) -> dict[str, tuple[str, str]]:
    """By entryUUID: the ends of each association that has one of these."""
    links: dict[str, tuple[str, str]] = {}
    values = tuple(sorted(ends))
    for attribute in ("source_object", "target_object"):
        criteria = Criteria(ObjectKind.ASSOCIATION, (Match.any_of(attribute, values),))
        for each in await store.find(criteria, rendering=False):
            links[each.entry_uuid] = (each.source_object or "", each.target_object or "")
    return links


async def _versions(removed: Removed, store: MetadataStore) -> dict[str, list[StoredObject]]:
    """By logicalID: all versions, oldest first, of objects of which a version after the first one is removed."""
    versions: dict[str, list[StoredObject]] = defaultdict(list)
    later = [item for item in removed.objects if item.logical_id not in (None, item.entry_uuid)]
    for kind in dict.fromkeys(item.kind for item in later):
        logical_ids = tuple(sorted({item.logical_id or "" for item in later if item.kind is kind}))
        criteria = Criteria(kind, (Match.any_of("logical_id", logical_ids),))
        found = await store.find(criteria, rendering=False)
        for each in sorted(found, key=lambda each: int(each.version or 0)):
            versions[each.logical_id or each.entry_uuid].append(each)
    return versions


def _newest_again(removed: Removed, versions: Mapping[str, Sequence[StoredObject]]) -> dict[str, list[Revision]]:
    """By dossier: versions of objects that are the newest ones once the versions after them are gone."""
    again: dict[str, list[Revision]] = defaultdict(list)
    for each in versions.values():
        left = [version for version in each if version.entry_uuid not in removed.wanted]
        if left and left[-1] is not each[-1]:
            again[left[-1].patient_id].append(Revision(left[-1].entry_uuid, outdated=False))
    return again


# What speaks against it --------------------------------------------------------------------------------------------


def conflicts(removed: Removed) -> Iterator[Finding]:
    """All that keeps the objects from being removed."""
    for entry_uuid in sorted(removed.wanted - removed.facts.objects.keys()):
        yield Finding(
            f"{shown(entry_uuid)} is not registered; send the entryUUIDs of what is.",
            entry_uuid,
            ErrorCode.UNRESOLVED_REFERENCE,
        )
    owners = {removed.facts.owners[item.entry_uuid] for item in removed.objects}
    if len(owners) > 1:
        yield Finding(
            f"The objects belong to {len(owners)} patients; remove those of one patient at a time.",
            code=ErrorCode.PATIENT_ID_DOES_NOT_MATCH,
        )
        return
    yield from _references_left(removed)
    yield from _left_alone(removed)
    yield from _left_deprecated(removed)


def _references_left(removed: Removed) -> Iterator[Finding]:
    for link in removed.remaining_links:
        for end in (link.source_object, link.target_object):
            if end in removed.wanted:
                yield Finding(
                    f"{end} is joined by the {named(link)}, which is not removed; remove that, too.",
                    end,
                    ErrorCode.REFERENCES_EXIST,
                )


def _left_alone(removed: Removed) -> Iterator[Finding]:
    """What would belong to no SubmissionSet any more, and SubmissionSets that would have brought nothing."""
    facts = removed.facts
    remaining = tuple(removed.remaining_links)
    sets = {each for each, item in facts.objects.items() if isinstance(item, SubmissionSet)}
    brought = {link.target_object for link in remaining if link.source_object in sets and is_membership(link)}
    bringing = {link.source_object for link in remaining}
    losing = {
        end
        for item in removed.objects
        if isinstance(item, Association) and item.source_object in sets
        for end in (item.source_object, item.target_object)
    }
    for end in sorted(losing - removed.wanted):
        item = facts.objects.get(end)
        if isinstance(item, SubmissionSet) and end not in bringing:
            yield Finding(
                f"{named(item)} would have brought nothing any more; remove it, too.",
                end,
                ErrorCode.UNREFERENCED_OBJECT,
            )
        elif isinstance(item, DocumentEntry | Folder) and end not in brought:
            yield Finding(
                f"{named(item)} would belong to no SubmissionSet any more; remove it, too.",
                end,
                ErrorCode.UNREFERENCED_OBJECT,
            )


def _left_deprecated(removed: Removed) -> Iterator[Finding]:
    """A document that was replaced is Deprecated because of what replaced it."""
    for item in removed.objects:
        if (
            isinstance(item, Association)
            and item.association_type in REPLACING
            and item.target_object in removed.facts.objects
            and item.target_object not in removed.wanted
        ):
            yield Finding(
                f"{named(item)} says why {item.target_object} is Deprecated; remove that document with it.",
                item.entry_uuid,
                ErrorCode.METADATA_MODEL,
            )
