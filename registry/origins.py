"""Where an identifier that is in use comes from: told to whoever sent it again.

Read where something is going to be refused, and only there: what most submissions bring has new identifiers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from registry.metadata_store import Criteria, Facts, Match, MetadataStore, Questions
from xds.metadata import AssociationType, Folder, ObjectKind, SubmissionSet
from xds.metadata_names import is_uuid_urn

_IS_MEMBERSHIP = Match.any_of("association_type", (AssociationType.HAS_MEMBER.value,))


async def with_origins(facts: Facts, store: MetadataStore, differing: Collection[str] = ()) -> Facts:
    """The facts, and of each identifier that is taken the SubmissionSet that it came with, unless it was removed.

    differing   entryUUIDs of registered documents, of which the same is asked
    """
    if not facts.taken and not differing:
        return facts
    asked = (*facts.taken, *differing)
    holders = await _holders([*filter(is_uuid_urn, asked), *await _packages(facts, store)], store)
    known = await store.known(Questions(facts.patient_id, references=frozenset(holders).union(*holders.values())))
    bearers = {item.unique_id: uuid for uuid, item in known.objects.items() if isinstance(item, SubmissionSet | Folder)}
    sets = {uuid: item for uuid, item in known.objects.items() if isinstance(item, SubmissionSet)}
    origins: dict[str, SubmissionSet] = {}
    for identifier in asked:
        bearer = identifier if identifier in holders else bearers.get(identifier, "")
        candidates = [sets[uuid] for uuid in holders.get(bearer, ()) if uuid in sets]
        if candidates:  # the first: later ones refer to what was there
            origins[identifier] = min(candidates, key=_time)
    return replace(facts, origins=origins)


async def _packages(facts: Facts, store: MetadataStore) -> list[str]:
    """The entryUUIDs of the SubmissionSets and Folders that have a uniqueId among those that are taken."""
    found: list[str] = []
    for kind in (ObjectKind.SUBMISSION_SET, ObjectKind.FOLDER):
        unique_ids = tuple([each for each, of in facts.taken.items() if of is kind and not is_uuid_urn(each)])
        if unique_ids:
            criteria = Criteria(kind, (Match.any_of("unique_id", unique_ids),))
            found += [each.entry_uuid for each in await store.find(criteria, rendering=False)]
    return found


async def _holders(bearers: Iterable[str], store: MetadataStore) -> Mapping[str, frozenset[str]]:
    """By entryUUID: what it is a member of, and itself, because it may be a SubmissionSet."""
    holders = {each: {each} for each in bearers}
    if holders:
        criteria = Criteria(ObjectKind.ASSOCIATION, (_IS_MEMBERSHIP, Match.any_of("target_object", tuple(holders))))
        for link in await store.find(criteria, rendering=False):
            holders[link.target_object or ""].add(link.source_object or "")
    return {each: frozenset(found) for each, found in holders.items()}


def _time(item: SubmissionSet) -> str:
    return item.submission_time.text if item.submission_time else ""
