"""Changes of one document that were judged before one of them was written, whichever dossiers they are of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias, cast

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
from xds.metadata import AnyObject, DocumentEntry, ObjectKind, Submission
from xds.paged_search import NEWEST, PagedSearch
from xds.stored_queries import STORED_QUERIES

THIRD_PATIENT = CX.of("9434765889", "2.16.840.1.113883.2.1.4.1")
PATIENTS = (PATIENT, OTHER_PATIENT, THIRD_PATIENT)
GET_DOCUMENTS = next(row.id for row in STORED_QUERIES.values() if row.name == "GetDocuments")


Request: TypeAlias = Callable[[Registry], Awaitable[RegistryResponse]]


def update(submission: Submission) -> Request:
    return lambda registry: registry.update_document_set(submission)


def removal(*objects: AnyObject) -> Request:
    return lambda registry: registry.remove_metadata([each.entry_uuid for each in objects])


@dataclass
class Meeting:
    """A store whose first changes wait for one another: all are judged before one of them is written.

    turn      is set where the first change may be written
    written   is set where it was, or was not
    """

    store: MetadataStore
    barrier: asyncio.Barrier
    turn: asyncio.Event
    written: asyncio.Event = field(default_factory=asyncio.Event)
    met: bool = field(default=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def apply(self, change: RegistryChange, facts: Facts) -> LogRecord:
        if not self.met:
            self.met = True
            await self.barrier.wait()
            await self.turn.wait()
        try:
            return await self.store.apply(change, facts)
        finally:
            self.written.set()


@dataclass
class Nodes:
    """Several registries on the same dossiers."""

    stores: list[MetadataStore]

    def registry(self) -> Registry:
        return Registry(store=self.stores[0])

    async def at_once(self, *requests: Request) -> list[RegistryResponse]:
        """Each request at a node of its own, all of them judged before one is written."""
        meetings = self._meetings(len(requests))
        for each in meetings:
            each.turn.set()
        return await self._asked(meetings, requests)

    async def one_by_one(self, *requests: Request) -> list[RegistryResponse]:
        """The same, and they are written in this order."""
        meetings = self._meetings(len(requests))
        meetings[0].turn.set()
        for before, after in pairwise(meetings):
            after.turn = before.written
        return await self._asked(meetings, requests)

    def _meetings(self, number: int) -> list[Meeting]:
        barrier = asyncio.Barrier(number)
        return [Meeting(store, barrier, asyncio.Event()) for store in self.stores[:number]]

    async def _asked(self, meetings: list[Meeting], requests: Iterable[Request]) -> list[RegistryResponse]:
        registries = [Registry(store=cast("MetadataStore", each)) for each in meetings]
        asked = [request(registry) for request, registry in zip(requests, registries, strict=True)]
        return list(await asyncio.gather(*asked))

    async def shown(self) -> list[str]:
        """The entryUUIDs of the documents that a search for the newest ones shows, whoever's they are."""
        found: list[str] = []
        for patient in PATIENTS:
            search = PagedSearch(ObjectKind.DOCUMENT_ENTRY, (NEWEST,), (patient.text,), "creation_time", 50)
            found += [each.entry_uuid for each in (await self.registry().page(search)).objects]
        return found

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
    updates = [update(update_of(next_version(first, patient_id=patient, title=text("new")))) for patient in patients]

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
    sent = update_of(next_version(first))
    registry = nodes.registry()
    assert (await registry.update_document_set(sent)).succeeded
    removed = await registry.remove_metadata([each.entry_uuid for each in sent.objects])
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


async def updated(nodes: Nodes, first: DocumentEntry, *patients: CX) -> list[Submission]:
    """What brought the versions after the first one, of these patients."""
    sent = []
    for number, patient in enumerate(patients, 1):
        sent.append(update_of(next_version(first, patient_id=patient), previous=str(number)))
        response = await nodes.registry().update_document_set(sent[-1])
        assert response.succeeded, response.errors
    return sent


@pytest.mark.parametrize("second_first", [True, False], ids=["the second before the third", "and after it"])
async def test_where_removals_of_two_versions_meet_the_one_that_is_left_is_the_newest(
    nodes: Nodes, second_first: bool
) -> None:
    first = await registered(nodes)
    removals = [removal(*sent.objects) for sent in await updated(nodes, first, *PATIENTS[1:])]

    responses = await nodes.one_by_one(*(removals if second_first else reversed(removals)))

    assert [response.errors for response in responses] == [(), ()]
    assert await nodes.shown() == [first.entry_uuid]
    assert await nodes.problems() == []


@pytest.mark.parametrize("patient", PATIENTS[:2], ids=["of the patient", "of another patient"])
async def test_an_update_that_a_removal_of_the_version_before_overtakes_is_judged_again(
    nodes: Nodes, patient: CX
) -> None:
    first = await registered(nodes)
    (second,) = await updated(nodes, first, patient)
    third = update_of(next_version(first, patient_id=THIRD_PATIENT), previous="2")

    removed, refused = await nodes.one_by_one(removal(*second.objects), update(third))

    assert removed.succeeded, removed.errors
    assert ErrorCode.METADATA_VERSION_ERROR in {error.code for error in refused.errors}
    assert [each.entry_uuid for each in await nodes.versions(first)] == await nodes.shown() == [first.entry_uuid]
    assert await nodes.problems() == []


@pytest.mark.parametrize("patient", PATIENTS[:2], ids=["of the patient", "of another patient"])
async def test_a_removal_that_an_update_overtakes_leaves_what_that_brought_the_newest(
    nodes: Nodes, patient: CX
) -> None:
    first = await registered(nodes)
    (second,) = await updated(nodes, first, patient)
    third = update_of(next_version(first, patient_id=THIRD_PATIENT), previous="2")

    responses = await nodes.one_by_one(update(third), removal(*second.objects))

    assert [response.errors for response in responses] == [(), ()]
    (entry,) = third.document_entries
    assert [each.entry_uuid for each in await nodes.versions(first)] == [first.entry_uuid, entry.entry_uuid]
    assert await nodes.shown() == [entry.entry_uuid]
    assert await nodes.problems() == []
