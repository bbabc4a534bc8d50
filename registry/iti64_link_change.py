"""Notify XAD-PID Link Change [ITI-64]: a local patient id goes from one patient of the affinity domain to another.

ITI TF-2: 3.64.4.1.3. Judged between reads of what it touches and one atomic write, as an update is
(registry/iti57_update.py); what it does is in registry/link_change.py.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from registry.lifecycle import Judging, NewUuid, is_membership
from registry.link_change import LinkChange, Linked, is_followed, relinked
from registry.merged_patients import dossiers_of
from registry.metadata_store import Criteria, Facts, FactsMoved, Match, MetadataStore, Questions, StoreBusy
from registry.patient_register import PatientRegister, now
from xds.hl7v2 import CX
from xds.metadata import Association, AvailabilityStatus, Code, DocumentEntry, Folder, ObjectKind

_IS_APPROVED = Match.any_of("availability_status", (AvailabilityStatus.APPROVED.value,))
_LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanges:
    """Takes link changes.

    content_type_code   of the SubmissionSets that are made
    attempts            how often one is judged again when other changes of the dossier come in between
    """

    register: PatientRegister
    content_type_code: Code
    home_community_id: str | None = None
    clock: Callable[[], datetime] = now
    new_uuid: NewUuid = uuid4
    attempts: int = 10
    pause_seconds: float = 0.01

    async def take(self, change: LinkChange) -> int:
        """Do what it says, and tell how many documents got a new version. What was done before is not done again.

        change   of patients that are known
        Raises StoreBusy.
        """
        dossiers = await dossiers_of(change.previous.text, self.register.store)
        return sum([await self._in_dossier(change, each) for each in dossiers])

    async def _in_dossier(self, change: LinkChange, dossier: str) -> int:
        store = self.register.store
        for attempt in range(self.attempts):
            try:
                linked = await _linked(change, dossier, self.register)
                if linked.entries:
                    judging = Judging.at(self.clock(), self.home_community_id)
                    changed = relinked(change, linked, judging, self.content_type_code, self.new_uuid)
                    await store.apply(changed, linked.facts)
            except FactsMoved:
                longest = min(self.pause_seconds * 2**attempt, _LONGEST_PAUSE_SECONDS)
                await asyncio.sleep(longest * random.random())  # noqa: S311 - no secret
            else:
                return len(linked.entries)
        raise StoreBusy("other changes of the same patient came in between all the time")


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
    return Linked(facts, entries, folders, tuple(filter(is_followed, links)))


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
