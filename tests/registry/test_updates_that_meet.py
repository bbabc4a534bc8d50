"""Of updates of one document that were judged on the same version one is committed, whichever dossiers they are of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from registry.actor import Registry
from registry.dossier_check import checked_dossiers
from registry.dossier_log import LogRecord
from registry.metadata_store import Facts, MetadataStore, RegistryChange
from tests.builders import OTHER_PATIENT, PATIENT, document_entry, submission, text
from tests.registry.memory_store import MemoryStore
from tests.registry.stores import ADAPTERS, opening_of
from tests.xds.broken_updates import APPROVED, DEPRECATED, next_version, status_update, update_of
from xds.actors import QueryRequest, RegistryResponse, ReturnType
from xds.ebxml_writer import codec
from xds.errors import ErrorCode
from xds.hl7v2 import CX
from xds.metadata import DocumentEntry, Submission
from xds.stored_queries import STORED_QUERIES

THIRD_PATIENT = CX.of("9434765889", "2.16.840.1.113883.2.1.4.1")
PATIENTS = (PATIENT, OTHER_PATIENT, THIRD_PATIENT)
GET_DOCUMENTS = next(row.id for row in STORED_QUERIES.values() if row.name == "GetDocuments")


@dataclass
class Meeting:
    """A store whose first changes wait for one another: all are judged before one of them is written."""

    store: MetadataStore
    barrier: asyncio.Barrier
    met: bool = field(default=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def apply(self, change: RegistryChange, facts: Facts) -> LogRecord:
        if not self.met:
            self.met = True
            await self.barrier.wait()
        return await self.store.apply(change, facts)


@dataclass
class Nodes:
    """Several registries on the same dossiers."""

    stores: list[MetadataStore]

    def registry(self) -> Registry:
        return Registry(store=self.stores[0])

    async def at_once(self, *updates: Submission) -> list[RegistryResponse]:
        """Each update at a node of its own, all of them judged before one is written."""
        barrier = asyncio.Barrier(len(updates))
        meetings = [
            cast("MetadataStore", Meeting(store, barrier)) for store, _ in zip(self.stores, updates, strict=False)
        ]
        asked: list[Awaitable[RegistryResponse]] = [
            Registry(store=store).update_document_set(update) for store, update in zip(meetings, updates, strict=True)
        ]
        return list(await asyncio.gather(*asked))

    async def versions(self, first: DocumentEntry) -> list[DocumentEntry]:
        """All versions of a document, oldest first, of whichever patient."""
        slots = (("$XDSDocumentEntryLogicalID", (f"('{first.entry_uuid}')",)), ("$MetadataLevel", ("2",)))
        references = await self.registry().stored_query(QueryRequest(GET_DOCUMENTS, ReturnType.OBJECT_REF, slots))
        found: list[Any] = []
        for each in references.found:
            named = (("$XDSDocumentEntryEntryUUID", (f"('{each.entry_uuid}')",)), ("$MetadataLevel", ("2",)))
            answer = await self.registry().stored_query(QueryRequest(GET_DOCUMENTS, ReturnType.LEAF_CLASS, named))
            found += [codec.read(one.ebrim or b"") for one in answer.found]
        return sorted(found, key=lambda each: (int(each.version), each.patient_id.text))

    async def problems(self) -> list[str]:
        return [problem async for dossier in checked_dossiers(self.stores[0], codec) for problem in dossier.problems]


@pytest.fixture(params=("memory", *ADAPTERS))
async def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Nodes]:
    if request.param == "memory":
        yield Nodes([MemoryStore(codec)] * 3)
        return
    async with opening_of(request.param, request, tmp_path, codec) as opening:
        yield Nodes([await opening() for _ in range(3)])


async def registered(nodes: Nodes) -> DocumentEntry:
    first = document_entry()
    response = await nodes.registry().register_document_set(submission(first))
    assert response.succeeded, response.errors
    return first


@pytest.mark.parametrize("patients", [PATIENTS[:1] * 2, PATIENTS[:2], PATIENTS[1:], PATIENTS], ids=len)
async def test_of_updates_of_one_document_that_meet_one_wins_whichever_patients_they_give_it_to(
    nodes: Nodes, patients: tuple[CX, ...]
) -> None:
    first = await registered(nodes)
    updates = [update_of(next_version(first, patient_id=patient, title=text("new"))) for patient in patients]

    responses = await nodes.at_once(*updates)

    refusals = [response for response in responses if not response.succeeded]
    assert len(refusals) == len(updates) - 1
    assert {error.code for refusal in refusals for error in refusal.errors} <= {
        ErrorCode.METADATA_VERSION_ERROR,
        ErrorCode.PATIENT_ID_RECONCILIATION_ERROR,  # the winner's version belongs to a patient that this one is not of
    }
    old, new = await nodes.versions(first)
    assert (old.version, old.availability_status) == ("1", DEPRECATED)
    assert (new.version, new.availability_status) == ("2", APPROVED)
    assert await nodes.problems() == []


async def test_where_the_newest_version_was_removed_the_next_one_follows_the_one_that_is_left(nodes: Nodes) -> None:
    first = await registered(nodes)
    update = update_of(next_version(first))
    registry = nodes.registry()
    assert (await registry.update_document_set(update)).succeeded
    removed = await registry.remove_metadata([each.entry_uuid for each in update.objects])
    assert removed.succeeded, removed.errors
    again = await registry.update_document_set(status_update(first, before=DEPRECATED, after=APPROVED))
    assert again.succeeded, again.errors

    moved = next_version(first, patient_id=OTHER_PATIENT)
    for previous, new in enumerate((moved, next_version(moved), next_version(moved)), 1):
        response = await registry.update_document_set(update_of(new, previous=str(previous)))
        assert response.succeeded, response.errors

    assert [(each.version, each.availability_status, each.patient_id) for each in await nodes.versions(first)] == [
        ("1", DEPRECATED, first.patient_id),
        ("2", DEPRECATED, OTHER_PATIENT),
        ("3", DEPRECATED, OTHER_PATIENT),
        ("4", APPROVED, OTHER_PATIENT),
    ]
    assert await nodes.problems() == []
