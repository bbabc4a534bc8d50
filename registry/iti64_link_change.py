"""Notify XAD-PID Link Change [ITI-64]: a local patient id goes from one patient of the affinity domain to another.

ITI TF-2: 3.64.4.1.3. Judged between reads of what it touches and one atomic write, as an update is
(registry/iti57_update.py); what it does is in registry/link_change.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from registry.lifecycle import Judging, is_followed, is_membership
from registry.link_change import LinkChange, Linked, relinked
from registry.merged_patients import dossiers_of
from registry.metadata_store import Criteria, Facts, FactsMoved, Match, MetadataStore, Questions
from registry.next_versions import next_versions
from registry.patient_register import PatientRegister
from xds.hl7v2 import CX
from xds.metadata import Association, AvailabilityStatus, Code, DocumentEntry, Folder, ObjectKind

_IS_APPROVED = Match.any_of("availability_status", (AvailabilityStatus.APPROVED.value,))


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanges:
    """Takes link changes. content_type_code: of the SubmissionSets that are made."""

    register: PatientRegister
    content_type_code: Code
    home_community_id: str | None = None

    async def take(self, change: LinkChange) -> int:
        """Do what it says, and tell how many documents got a new version. What was done before is not done again.

        change   of patients that are known
        Raises StoreBusy.
        """
        dossiers = await dossiers_of(change.previous.text, self.register.store)
        return sum([await self._in_dossier(change, each) for each in dossiers])

    async def _in_dossier(self, change: LinkChange, dossier: str) -> int:
        register = self.register

        async def relink() -> int:
            linked = await _linked(change, dossier, register)
            if linked.entries:
                judging = Judging.at(register.clock(), self.home_community_id)
                changed = relinked(change, linked, judging, self.content_type_code, register.new_uuid)
                await register.store.apply(changed, linked.facts)
            return len(linked.entries)

        return await register.until_it_holds(relink)


async def _linked(change: LinkChange, dossier: str, register: PatientRegister) -> Linked:
    """What the change touches in a dossier; nothing of it is older than the dossier's sequence.

    Raises FactsMoved where that has moved meanwhile.
    """
    store = register.store
    before = await store.known(Questions(dossier))
    approved = await store.find(Criteria(ObjectKind.DOCUMENT_ENTRY, (_IS_APPROVED,), (dossier,)), rendering=False)
    of_dossier = await store.known(Questions(dossier, references=frozenset(each.entry_uuid for each in approved)))
    wanted = {each.text for each in change.local_ids}
    entries = {
        uuid: item
        for uuid, item in of_dossier.objects.items()
        if isinstance(item, DocumentEntry) and _local_id(item, register) in wanted
    }
    if not entries:
        return Linked(of_dossier, {}, {}, ())
    links = await _links(store, dossier, ("source_object", "target_object"), entries)
    holders = {each.source_object for each in links if is_membership(each)}
    memberships = await _links(store, dossier, ("source_object",), holders)
    ends = {end for each in (*links, *memberships) for end in (each.source_object, each.target_object)}
    uuids = {each.entry_uuid for each in links}
    facts = await store.known(Questions(dossier, references=frozenset({*entries, *uuids, *ends})))
    if facts.sequence != before.sequence:
        raise FactsMoved("the dossier has changed")
    folders = {} if change.is_of_one_patient else _folders_of(memberships, facts, wanted, register)
    followed = await next_versions((*entries.values(), *folders.values()), store)
    return Linked(facts, entries, folders, tuple(filter(is_followed, links)), followed)


async def _links(
    store: MetadataStore, dossier: str, attributes: Iterable[str], ends: Iterable[str]
) -> list[Association]:
    """The Approved associations that have one of these ends."""
    named = tuple(sorted(ends))
    if not named:
        return []
    found = {
        each.entry_uuid
        for attribute in attributes
        for each in await store.find(
            Criteria(ObjectKind.ASSOCIATION, (_IS_APPROVED, Match.any_of(attribute, named))), rendering=False
        )
    }
    objects = (await store.known(Questions(dossier, references=frozenset(found)))).objects
    return [item for each in sorted(found) if isinstance(item := objects.get(each), Association)]


def _folders_of(
    memberships: Iterable[Association], facts: Facts, wanted: Iterable[str], register: PatientRegister
) -> Mapping[str, Folder]:
    """The Folders all of whose documents are of the local ids: they go, too (ITI TF-2: 3.64.4.1.3.1.6)."""
    local_ids: dict[str, set[str]] = {}
    for link in memberships:
        item, member = facts.objects.get(link.source_object), facts.objects.get(link.target_object)
        if isinstance(item, Folder) and isinstance(member, DocumentEntry):
            local_ids.setdefault(item.entry_uuid, set()).add(_local_id(member, register))
    return {
        uuid: item
        for uuid, ids in local_ids.items()
        if ids <= set(wanted)
        and isinstance(item := facts.objects[uuid], Folder)
        and item.availability_status == AvailabilityStatus.APPROVED
    }


def _local_id(entry: DocumentEntry, register: PatientRegister) -> str:
    """sourcePatientId in its canonical form."""
    return register.canonical(entry.source_patient_id or CX("")).text
