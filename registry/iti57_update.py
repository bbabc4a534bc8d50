"""Update Document Set [ITI-57].

ITI TF-2: 3.57. An update is judged by rules between reads of what it touches and one atomic write, as a submission is
(registry/iti42_register.py). Reads come after the dossier's sequence: if that moves meanwhile, all is judged again.
A document that goes to another patient is one write in the dossier of each: first it is there, then it is gone here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from registry.code_sets import CodeSets
from registry.iti42_register import busy, names_a_patient, unknown_patient
from registry.lifecycle import NewUuid, questions
from registry.merged_patients import known_of_patient
from registry.metadata_store import Criteria, Facts, FactsMoved, Match, MetadataStore, Questions, StoredObject
from registry.metadata_update import Known, Update, judged, logical_ids, targets
from registry.patient_identities import PatientIdentities
from xds.actors import RegistryResponse
from xds.errors import XdsError
from xds.metadata import AnyObject, Association, ObjectKind, Submission
from xds.metadata_rules import findings
from xds.transactions import ITI_57, Transaction

_VERSIONED = (ObjectKind.DOCUMENT_ENTRY, ObjectKind.FOLDER)


async def update_document_set(
    submission: Submission,
    *,
    store: MetadataStore,
    patients: PatientIdentities,
    code_sets: CodeSets,
    clock: Callable[[], datetime],
    new_uuid: NewUuid,
    home_community_id: str | None = None,
    limited_metadata: bool = False,
    transaction: Transaction = ITI_57,
    attempts: int = 10,
    pause_seconds: float = 0.01,
) -> RegistryResponse:
    """Do all that an update asks for, or nothing. The response holds the warnings.

    transaction   ITI-92 is served here as well
    Raises XdsError with all errors that were found, XDSRegistryBusy; StoreBusy, StoreFull.
    """
    noticed = [*findings(submission, transaction, limited_metadata=limited_metadata), *code_sets.findings(submission)]
    noticed += [finding async for finding in unknown_patient(submission, patients)]
    if not names_a_patient(submission):
        raise XdsError.of(finding.reported(transaction.default_code) for finding in noticed)
    for attempt in range(attempts):
        known = await _known(submission, store)
        update = judged(
            submission,
            known,
            transaction,
            now=clock(),
            new_uuid=new_uuid,
            noticed=noticed,
            home_community_id=home_community_id,
        )
        try:
            await store.apply(replace(update.change, patient_id=known.dossier.patient_id), known.dossier)
            await _deprecate_elsewhere(update, store, attempts)
        except FactsMoved:
            await asyncio.sleep(pause_seconds * (attempt + random.random()))  # noqa: S311 - a pause is no secret
        else:
            return RegistryResponse.of([finding.reported(transaction.default_code) for finding in noticed])
    raise busy(attempts)


async def _deprecate_elsewhere(update: Update, store: MetadataStore, attempts: int) -> None:
    """Deprecate in other dossiers the versions before those that went to this one."""
    for patient_id, revisions in update.elsewhere.items():
        for attempt in range(attempts):
            facts = await store.known(Questions(patient_id))
            change = replace(
                update.change,
                patient_id=patient_id,
                change_id=f"{update.change.change_id} {patient_id}",
                objects=(),
                revisions=revisions,
            )
            try:
                await store.apply(change, facts)
                break
            except FactsMoved:
                if attempt + 1 == attempts:
                    raise busy(attempts) from None


async def _known(submission: Submission, store: MetadataStore, dossier: str | None = None) -> Known:
    """What the update is judged on; of the dossier, nothing is older than its sequence."""
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
    facts, seen = await known_of_patient(
        Questions(
            asked.patient_id,
            identifiers=asked.identifiers,
            references=asked.references | ends | links | await _folders(store, links),
            replaced=asked.replaced,
        ),
        store,
    )
    if (facts.patient_id, facts.sequence) != (before.patient_id, before.sequence):
        return await _known(submission, store, facts.patient_id)
    return Known(
        seen,
        facts,
        {lid: facts.objects[each.entry_uuid] for lid, each in newest.items() if each.entry_uuid in facts.objects},
        tuple(_associations(facts, links)),
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


async def _folders(store: MetadataStore, links: Iterable[str]) -> frozenset[str]:
    """What the associations come from: the Folders that hold a document get new members."""
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
