"""The prototype's test of the commit on MongoDB, as a promise: whatever crashes wherever, nothing is half or lost.

Sixteen clients on eight nodes submit for four patients: they compete for identifiers, for uniqueIds of documents and
for the replacement of the same documents. Every command to the server may be stalled, and may be the last one that its
node sends, before the server got it or after. Meanwhile readers look whether they see halves of anything.
Each run has a seed, which is in the name of the test; TOIMIK_TEST_SEED adds to it, TOIMIK_TEST_RUNS is their number.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient

from registry.change_body import decoded
from registry.changing import Changing
from registry.code_sets import CodeSets
from registry.dossier_check import checked_dossiers
from registry.fhir_resources import FhirResources
from registry.iti42_register import register_document_set
from registry.iti64_link_change import LinkChanges
from registry.link_change import LinkChange
from registry.metadata_store import Criteria, Match, StoreBusy
from registry.metadata_store_mongodb import MongoMetadataStore
from registry.mongodb.database import Document, MongoDatabase
from registry.mongodb.schema import CHANGES, OBJECTS, PATIENT_KEYS, prepare
from registry.patient_identities import OpenPatients
from registry.patient_register import PatientRegister
from tests.builders import association, code, document_entry, entry_uuid, folder, has_member, oid, submission
from tests.registry.stores import TellingRenderer, some_database
from tests.store_servers import StoreServer
from xds.ebxml_writer import codec
from xds.errors import XdsError
from xds.hl7v2 import CX
from xds.metadata import (
    AnyObject,
    Association,
    AssociationType,
    AvailabilityStatus,
    DocumentEntry,
    Folder,
    ObjectKind,
    Submission,
    SubmissionSet,
)

T = TypeVar("T")

RUNS = int(os.environ.get("TOIMIK_TEST_RUNS", "200"))
FIRST_SEED = int(os.environ.get("TOIMIK_TEST_SEED", "0"))
CLIENTS, NODES, SUBMISSIONS = 16, 8, 1
CRASHES, STALLS, LONGEST_STALL_SECONDS = 0.03, 0.10, 0.02

PATIENTS = [CX.of(str(number), "2.25.7331") for number in range(4)]
LINEAGE = code("lineage")
FHIR = FhirResources(TellingRenderer(), b"the store's secret")
APPROVED = Match.any_of("availability_status", (AvailabilityStatus.APPROVED.value,))


class NodeCrashed(Exception):
    """The process is gone: nobody catches this, and nothing it had in mind is done."""


class StormyDatabase(MongoDatabase):
    """A database that stalls and crashes those who use it."""

    def __init__(self, client: AsyncMongoClient[Document], name: str, chance: random.Random) -> None:
        super().__init__(client, name)
        self._chance = chance
        self.crashed = False

    async def run(self, send: Callable[[], Awaitable[T]], *, again: bool = True) -> T:
        await self._weather()
        answer = await super().run(send, again=again)
        await self._weather()
        return answer

    async def _weather(self) -> None:
        if self._chance.random() < STALLS:
            await asyncio.sleep(self._chance.random() * LONGEST_STALL_SECONDS)
        # A probability for each command, which has one chance before it is sent and one after.
        self.crashed = self.crashed or self._chance.random() < CRASHES / 2
        if self.crashed:
            raise NodeCrashed


@dataclass
class Storm:
    """One run.

    acknowledged, refused   SubmissionSets' uniqueIds, by what their senders were told
    """

    client: AsyncMongoClient[Document]
    database: str
    chance: random.Random
    sent: list[Submission] = field(default_factory=list)
    acknowledged: list[Submission] = field(default_factory=list)
    refused: list[Submission] = field(default_factory=list)
    crashes: int = 0
    over: bool = False

    def __post_init__(self) -> None:
        self.set_ids = [oid() for _ in range(2)]
        self.entry_uuids = [entry_uuid() for _ in range(2)]
        self.document_ids = [oid() for _ in range(2)]
        self.nodes = [self.new_node() for _ in range(NODES)]
        self.folders = {patient: folder(patient_id=patient) for patient in PATIENTS}

    def new_node(self) -> MongoMetadataStore:
        return MongoMetadataStore(StormyDatabase(self.client, self.database, self.chance), codec=codec, fhir=FHIR)

    async def send(self, submitted: Submission, store: MongoMetadataStore) -> None:
        self.sent.append(submitted)
        try:
            await register_document_set(
                submitted,
                Changing(
                    store=store,
                    patients=OpenPatients(),
                    code_sets=CodeSets(),
                    clock=lambda: datetime.now(UTC),
                    new_uuid=uuid4,
                    pause_seconds=0.001,
                ),
            )
        except (XdsError, StoreBusy):
            self.refused.append(submitted)
        else:
            self.acknowledged.append(submitted)

    async def submit(self, number: int) -> None:
        """One client: a few submissions, from a node that is started again when it has crashed."""
        for _ in range(SUBMISSIONS):
            node = number % NODES
            try:
                await self.send(await self.next_submission(self.nodes[node]), self.nodes[node])
            except NodeCrashed:
                self.crashes += 1
                self.nodes[node] = self.new_node()

    async def link(self, number: int, local_ids: Sequence[CX]) -> None:
        """One client who has documents go from patient to patient."""
        for _ in range(2):
            node = number % NODES
            new, previous = self.chance.sample(PATIENTS, 2)
            change = LinkChange(self.chance.choice(local_ids), new, previous, None, "2.25.1")
            register = PatientRegister(store=self.nodes[node], required=False, pause_seconds=0.001)
            try:
                await LinkChanges(register=register, content_type_code=LINEAGE).take(change)
            except StoreBusy:
                continue
            except NodeCrashed:
                self.crashes += 1
                self.nodes[node] = self.new_node()

    async def next_submission(self, store: MongoMetadataStore) -> Submission:
        patient = self.chance.choice(PATIENTS)
        if self.chance.random() < 0.5:
            (current,) = await lineage(store, patient)
            item = document_entry(patient_id=patient, type_code=LINEAGE)
            link = association(AssociationType.RPLC, item, current)
            return submission(item, associations=(link,), unique_id=self.perhaps(self.set_ids))
        items = [
            document_entry(
                patient_id=patient,
                entry_uuid=self.perhaps(self.entry_uuids, entry_uuid()),
                unique_id=self.perhaps(self.document_ids),
                hash=self.chance.choice(["a" * 40, "b" * 40]),
            ),
            document_entry(patient_id=patient),
        ]
        link = has_member(self.folders[patient], items[1])
        return submission(*items, associations=(link,), unique_id=self.perhaps(self.set_ids))

    def perhaps(self, shared: list[str], own: str | None = None) -> str:
        return self.chance.choice(shared) if self.chance.random() < 0.5 else own or oid()

    async def read(self, store: MongoMetadataStore) -> None:
        """One reader, on a node of its own: of each lineage one document is Approved, at every moment."""
        while not self.over:
            await lineage(store, self.chance.choice(PATIENTS))
            patient = self.chance.choice(PATIENTS).text
            found = [each.entry_uuid for each in await store.find(Criteria(ObjectKind.DOCUMENT_ENTRY, (), (patient,)))]
            assert len(set(found)) == len(found)
            for submitted in self.sent:
                entries = {entry.entry_uuid for entry in submitted.document_entries} - set(self.entry_uuids)
                assert len({each in found for each in entries}) == 1, "a half of a submission was found"
            await asyncio.sleep(0.02)


async def lineage(store: MongoMetadataStore, patient: CX) -> list[str]:
    """The Approved documents of a patient that replaced one another."""
    wanted = Criteria(
        ObjectKind.DOCUMENT_ENTRY, (APPROVED, Match.any_of("type_code", (LINEAGE.coded,))), (patient.text,)
    )
    found = [each.entry_uuid for each in await store.find(wanted, rendering=False)]
    assert len(found) == 1, f"{len(found)} Approved documents of one lineage were found"
    return found


@pytest.fixture(autouse=True)
async def nothing_fails_in_the_background() -> AsyncIterator[None]:
    """What nobody waits for ends well or by a crash: the background work of a crashed node ends with it.

    Without a handler asyncio writes a traceback of each whenever the garbage collector finds the task. That hides real
    failures among crashes; and in the midst of parsing Python, of which writing a traceback is a case itself, it is
    "SystemError: AST constructor recursion depth mismatch" (python/cpython#106905, up to 3.11.7).
    """
    failures: list[BaseException] = []

    def told(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failure = context.get("exception") or RuntimeError(context["message"])
        if not isinstance(failure, NodeCrashed):
            failures.append(failure)

    asyncio.get_running_loop().set_exception_handler(told)
    yield
    gc.collect()
    assert failures == []


@pytest.fixture
async def client(mongodb_server: StoreServer) -> AsyncIterator[AsyncMongoClient[Document]]:
    async with AsyncMongoClient[Document](mongodb_server.url) as client:
        yield client


@asynccontextmanager
async def stormy(
    seed: int, client: AsyncMongoClient[Document], server: StoreServer
) -> AsyncIterator[tuple[Storm, MongoDatabase]]:
    """A storm over a database of its own, and that database as it is for whoever is spared."""
    with some_database(server.url) as name:
        calm = MongoDatabase(client, name)
        await prepare(calm)
        yield Storm(client, name, random.Random(seed)), calm  # noqa: S311 - no secret


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + RUNS))
async def test_whatever_crashes_nothing_is_half_or_lost(
    seed: int, client: AsyncMongoClient[Document], mongodb_server: StoreServer
) -> None:
    async with stormy(seed, client, mongodb_server) as (storm, calm):
        observer = MongoMetadataStore(calm, codec=codec, fhir=FHIR)
        for patient in PATIENTS:
            first = document_entry(patient_id=patient, type_code=LINEAGE)
            case = storm.folders[patient]
            await storm.send(submission(first, folders=(case,), associations=(has_member(case, first),)), observer)
        assert len(storm.acknowledged) == len(PATIENTS)

        reading = asyncio.create_task(storm.read(observer))
        await asyncio.gather(*(storm.submit(number) for number in range(CLIENTS)))
        storm.over = True
        await reading
        await asyncio.gather(*(node._resolver.settle() for node in storm.nodes))

        await assert_whole(MongoMetadataStore(calm, codec=codec, fhir=FHIR), calm, storm)


async def assert_whole(
    store: MongoMetadataStore, database: MongoDatabase, storm: Storm, *, lineages: bool = True
) -> None:
    """lineages: whether each patient has one, see lineage()"""
    await store.sweep()
    await store._resolver.settle()
    with database.limited():
        assert await database.find(CHANGES, {"open": True}) == []
    # Chains without gaps, and an index that says what the log says.
    assert [dossier.problems async for dossier in checked_dossiers(store, codec) if dossier.problems] == []
    objects = [
        codec.read(rendering)
        async for record in store.records()
        for rendering in decoded(record.body or b"").renderings
    ]
    assert [name for name, count in Counter(names(objects)).items() if count > 1] == []
    hashes = defaultdict(set)
    for item in objects:
        if isinstance(item, DocumentEntry):
            hashes[item.unique_id].add(item.hash)
    assert [unique_id for unique_id, several in hashes.items() if len(several) > 1] == []
    replaced = Counter(
        item.target_object
        for item in objects
        if isinstance(item, Association) and item.association_type == AssociationType.RPLC
    )
    assert [target for target, replacements in replaced.items() if replacements > 1] == []
    for patient in PATIENTS if lineages else ():
        await lineage(store, patient)
    registered = {item.entry_uuid for item in objects}
    for submitted in storm.acknowledged:
        assert {entry.entry_uuid for entry in submitted.document_entries} <= registered
    own = {item.unique_id for item in objects if isinstance(item, SubmissionSet)} - set(storm.set_ids)
    for submitted in storm.refused:
        assert submitted.submission_set.unique_id not in own
    # A node that crashed may have left the sign of a change that others had finished: who reads takes it away.
    await store.count(Criteria(ObjectKind.DOCUMENT_ENTRY))
    await store._resolver.settle()
    with database.limited():
        assert await database.find(OBJECTS, {"kind": "*unfinished"}) == []
    # Written again from the log, every version is what it was to the last octet, its FHIR resource included.
    written = await everything_in(database)
    await store.reindex()
    assert await everything_in(database) == written


async def everything_in(database: MongoDatabase) -> dict[str, Document]:
    """All of the index: by _id, the documents of objects and of patients' keys."""
    with database.limited():
        found = [*await database.find(OBJECTS, {}), *await database.find(PATIENT_KEYS, {})]
    return {document["_id"]: document for document in found}


def names(objects: list[AnyObject]) -> list[str]:
    """All that may be borne by one object only."""
    uuids = [item.entry_uuid for item in objects]
    return uuids + [item.unique_id or "" for item in objects if isinstance(item, SubmissionSet | Folder)]


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + max(1, RUNS // 8)))
async def test_whatever_crashes_a_document_that_goes_is_with_one_patient(
    seed: int, client: AsyncMongoClient[Document], mongodb_server: StoreServer
) -> None:
    async with stormy(seed, client, mongodb_server) as (storm, calm):
        observer = MongoMetadataStore(calm, codec=codec, fhir=FHIR)
        local_ids = [CX.of(f"T-{number}", "2.25.7331") for number in range(3)]
        for patient, local_id in zip(PATIENTS, local_ids, strict=False):
            entries = [document_entry(patient_id=patient, source_patient_id=local_id) for _ in range(2)]
            await storm.send(submission(*entries), observer)
        sent = [entry for each in storm.acknowledged for entry in each.document_entries]
        assert len(sent) == 2 * len(local_ids)

        await asyncio.gather(*(storm.link(number, local_ids) for number in range(CLIENTS)))
        await asyncio.gather(*(node._resolver.settle() for node in storm.nodes))

        store = MongoMetadataStore(calm, codec=codec, fhir=FHIR)
        await assert_whole(store, calm, storm, lineages=False)
        approved = await store.find(Criteria(ObjectKind.DOCUMENT_ENTRY, (APPROVED,)))
        assert sorted(each.logical_id or "" for each in approved) == sorted(entry.entry_uuid for entry in sent)
