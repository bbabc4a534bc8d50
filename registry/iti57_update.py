"""Update Document Set [ITI-57].

ITI TF-2: 3.57. An update is judged by rules between reads of what it touches and one atomic write, as a submission is
(registry/iti42_register.py). Reads come after the dossier's sequence: if that moves meanwhile, all is judged again.
A document that goes to another patient is one change of the dossiers of both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from registry.changing import Changing
from registry.lifecycle import questions
from registry.merged_patients import known_of_patient
from registry.metadata_store import Criteria, Facts, FactsMoved, Match, MetadataStore, Questions, StoredObject
from registry.metadata_update import Known, judged, logical_ids, targets
from registry.next_versions import next_versions
from registry.origins import with_origins
from xds.actors import RegistryResponse
from xds.errors import Finding
from xds.metadata import AnyObject, Association, DocumentEntry, Folder, ObjectKind, Submission
from xds.transactions import ITI_57, Transaction

_VERSIONED = (ObjectKind.DOCUMENT_ENTRY, ObjectKind.FOLDER)


async def update_document_set(
    submission: Submission, changing: Changing, transaction: Transaction = ITI_57
) -> RegistryResponse:
    """Do all that an update asks for, or nothing. The response holds the warnings.

    transaction   ITI-92 is served here as well
    Raises XdsError with all errors that were found, XDSRegistryBusy; StoreBusy, StoreFull.
    """
    noticed = changing.noticed(submission, transaction)

    async def do() -> list[Finding]:
        known = await _known(submission, changing.store)
        found = [*noticed, *changing.noticed_of_patients(submission, known.facts)]
        change = judged(
            submission,
            known,
            transaction,
            now=changing.clock(),
            new_uuid=changing.new_uuid,
            noticed=found,
            home_community_id=changing.home_community_id,
        )
        await changing.store.apply(replace(change, patient_id=known.dossier.patient_id), known.dossier)
        return found

    found = await changing.until_it_holds(do)
    return RegistryResponse.of([finding.reported(transaction.default_code) for finding in found])


async def _known(submission: Submission, store: MetadataStore, dossier: str | None = None) -> Known:
    """What the update is judged on; of the dossier, nothing is older than its sequence.

    Raises FactsMoved where what is of another dossier has changed meanwhile.
    """
    asked = questions(submission)
    named = targets(submission)
    before = await store.known(Questions(dossier or asked.patient_id, references=named))
    wanted = logical_ids(submission) | {item.logical_id or uuid for uuid, item in before.objects.items()}
    newest = _newest(await _found(store, _VERSIONED, "logical_id", wanted))
    ends = frozenset(each.entry_uuid for each in newest.values()) | named
    links = {
        each.entry_uuid
        for attribute in ("source_object", "target_object")
        for each in await _found(store, (ObjectKind.ASSOCIATION,), attribute, ends)
    }
    referred = asked.references | ends
    beside = (links | await _sources(store, links | named)) - referred
    facts, seen = await known_of_patient(
        Questions(
            asked.patient_id,
            identifiers=asked.identifiers,
            references=referred | beside,
            replaced=asked.replaced,
            identities=asked.identities,
        ),
        store,
        beside,
    )
    if (facts.patient_id, facts.sequence) != (before.patient_id, before.sequence):
        return await _known(submission, store, facts.patient_id)
    if any(each.entry_uuid not in facts.objects for each in newest.values()):
        raise FactsMoved("a version was removed from another dossier")
    objects = {lid: facts.objects[each.entry_uuid] for lid, each in newest.items()}
    updated = [objects[lid] for lid in sorted(logical_ids(submission) & objects.keys())]
    return Known(
        await with_origins(seen, store),
        facts,
        objects,
        tuple(_associations(facts, links)),
        await next_versions([item for item in updated if isinstance(item, DocumentEntry | Folder)], store),
    )


def _newest(found: Iterable[StoredObject]) -> dict[str, StoredObject]:
    """By logicalID: the newest version."""
    newest: dict[str, StoredObject] = {}
    for each in found:
        lid = each.logical_id or each.entry_uuid
        if lid not in newest or int(each.version or 0) > int(newest[lid].version or 0):
            newest[lid] = each
    return newest


def _associations(facts: Facts, links: Iterable[str]) -> Iterable[Association]:
    items: Iterable[AnyObject] = (facts.objects[each] for each in sorted(links) if each in facts.objects)
    return (item for item in items if isinstance(item, Association))


async def _sources(store: MetadataStore, links: Iterable[str]) -> frozenset[str]:
    """What the associations come from: Folders get new members, and a SubmissionSet brings nothing again."""
    found = await _found(store, (ObjectKind.ASSOCIATION,), "entry_uuid", links)
    return frozenset(each.source_object for each in found if each.source_object)


async def _found(
    store: MetadataStore, kinds: Iterable[ObjectKind], attribute: str, values: Iterable[str]
) -> list[StoredObject]:
    wanted = tuple(sorted(set(values)))
    if not wanted:
        return []
    match = Match.any_of(attribute, wanted)
    return [each for kind in kinds for each in await store.find(Criteria(kind, (match,)), rendering=False)]
