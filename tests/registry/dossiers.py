"""Changes and dossiers to fill a metadata store with."""

from __future__ import annotations

from uuid import uuid4

from registry.dossier_log import LogRecord
from registry.lifecycle import removal_of
from registry.metadata_store import (
    Criteria,
    IdentityChange,
    Match,
    MetadataStore,
    Questions,
    RegistryChange,
    Revision,
)
from tests.builders import PATIENT, document_entry, has_member, registered, submission_set
from xds.hl7v2 import CX
from xds.metadata import AnyObject, DocumentEntry, ObjectKind

TIME = "2026-03-14T10:20:00.000000Z"


def change_of(
    *objects: AnyObject,
    patient: CX = PATIENT,
    revisions: tuple[Revision, ...] = (),
    removed: tuple[AnyObject, ...] = (),
) -> RegistryChange:
    """A change that brings these objects, which are complete already, revises others and removes others."""
    removals = tuple(map(removal_of, removed))
    return RegistryChange(patient.text, str(uuid4()), TIME, objects, revisions, removals=removals)


def submitted(*entries: DocumentEntry, patient: CX = PATIENT) -> tuple[AnyObject, ...]:
    """What a submission of these entries registers; of one entry where none is given."""
    entries = entries or (registered(document_entry(patient_id=patient)),)
    owner = registered(submission_set(patient_id=patient))
    return (owner, *entries, *(registered(has_member(owner, entry)) for entry in entries))


async def commit(store: MetadataStore, change: RegistryChange) -> LogRecord:
    """Apply a change to the dossier as it stands."""
    return await store.apply(change, await store.known(Questions(change.patient_id)))


async def register(
    store: MetadataStore,
    *objects: AnyObject,
    patient: CX = PATIENT,
    revisions: tuple[Revision, ...] = (),
    removed: tuple[AnyObject, ...] = (),
) -> LogRecord:
    """Commit a change that brings these objects."""
    return await commit(store, change_of(*objects, patient=patient, revisions=revisions, removed=removed))


async def identify(store: MetadataStore, patient: CX, merged_into: CX | None = None) -> LogRecord:
    """Commit what a feed says of a patient: that it is known, or into which one it was merged."""
    identity = IdentityChange(merged_into.text if merged_into else None)
    return await commit(store, RegistryChange(patient.text, str(uuid4()), TIME, (), (), identity))


async def found(
    store: MetadataStore, kind: ObjectKind, *matches: Match, patients: tuple[CX, ...] = (), limit: int | None = None
) -> list[str]:
    """The entryUUIDs that a search finds, in order."""
    criteria = Criteria(kind, matches, tuple(patient.text for patient in patients))
    return [each.entry_uuid for each in await store.find(criteria, rendering=False, limit=limit)]
