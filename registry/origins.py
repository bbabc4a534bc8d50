"""Where an identifier that is in use comes from: told to whoever sent it again.

Read where something is going to be refused, and only there: what most submissions bring has new identifiers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from registry.metadata_store import Criteria, Facts, Match, MetadataStore, Questions
from xds.metadata import AssociationType, ObjectKind, SubmissionSet
from xds.metadata_names import is_uuid_urn

_IS_MEMBERSHIP = Match.any_of("association_type", (AssociationType.HAS_MEMBER.value,))


async def with_origins(facts: Facts, store: MetadataStore) -> Facts:
    """The facts, and of each identifier that is taken the SubmissionSet that it came with, unless it was removed."""
    if not facts.taken:
        return facts
    bearers = {
        identifier: identifier if is_uuid_urn(identifier) else await _bearer(identifier, kind, store)
        for identifier, kind in facts.taken.items()
    }
    holders = await _holders(filter(None, bearers.values()), store)
    known = await store.known(Questions(facts.patient_id, references=frozenset().union(*holders.values())))
    sets = {uuid: item for uuid, item in known.objects.items() if isinstance(item, SubmissionSet)}
    origins: dict[str, SubmissionSet] = {}
    for identifier, bearer in bearers.items():
        candidates = [sets[uuid] for uuid in holders.get(bearer or "", ()) if uuid in sets]
        if candidates:  # the first: later ones refer to what was there
            origins[identifier] = min(candidates, key=_time)
    return replace(facts, origins=origins)


async def _bearer(unique_id: str, kind: ObjectKind, store: MetadataStore) -> str | None:
    """The entryUUID of the SubmissionSet or Folder with this uniqueId."""
    criteria = Criteria(kind, (Match.any_of("unique_id", (unique_id,)),))
    found = await store.find(criteria, rendering=False, limit=1)
    return found[0].entry_uuid if found else None


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
