"""A change that was begun on MongoDB and left half: nobody sees the half, and whoever can finishes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import pytest
from pymongo import AsyncMongoClient

from registry.actor import Registry
from registry.dossier_check import checked_dossiers
from registry.dossier_log import LogRecord
from registry.metadata_store import (
    Criteria,
    Facts,
    Match,
    MetadataStore,
    OutcomeOpen,
    RegistryChange,
    Revision,
    StoreBusy,
)
from registry.metadata_store_mongodb import MongoMetadataStore
from registry.mongodb.database import Document, Filter, MongoDatabase
from registry.mongodb.schema import CHANGES, IDENTIFIERS, OBJECTS, prepare
from tests.builders import OTHER_PATIENT, association, document_entry, registered, submission
from tests.registry.dossiers import register, submitted
from tests.registry.stores import some_database
from tests.store_servers import StoreServer
from tests.xds.broken_updates import next_version, update_of
from xds.ebxml_writer import codec
from xds.errors import ErrorCode
from xds.metadata import AnyObject, AssociationType, AvailabilityStatus, ObjectKind

T = TypeVar("T")

DEPRECATED = AvailabilityStatus.DEPRECATED


class NodeCrashed(Exception):
    """The process is gone."""


class CrashedBetweenInsertAndUpdate(MongoDatabase):
    """Both go to the server in one command, which does one after the other."""

    async def insert_and_update(
        self,
        collection: str,
        documents: Sequence[Document],
        wanted: Filter,  # noqa: ARG002 - never done
        change: Mapping[str, Any],  # noqa: ARG002
    ) -> bool:
        await self.insert_missing(collection, documents)
        raise NodeCrashed


class GoneAfter(MongoDatabase):
    """A server that can not be reached any more once it has inserted into some collection."""

    last = IDENTIFIERS
    is_gone = False

    async def run(self, send: Callable[[], Awaitable[T]], *, again: bool = True) -> T:
        if self.is_gone:
            raise StoreBusy("gone")
        return await super().run(send, again=again)

    async def insert(self, collection: str, documents: Sequence[Document]) -> bool:
        inserted = await super().insert(collection, documents)
        self.is_gone = self.is_gone or collection == self.last
        return inserted


class CrashesOnceClaimed(MongoDatabase):
    """A node that is gone as soon as a change of its has its identifiers."""

    async def insert(self, collection: str, documents: Sequence[Document]) -> bool:
        inserted = await super().insert(collection, documents)
        if collection == IDENTIFIERS:
            raise NodeCrashed
        return inserted


@dataclass
class Overtaken:
    """A store before whose first change another one is written."""

    store: MongoMetadataStore
    other: Callable[[], Awaitable[None]] | None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def apply(self, change: RegistryChange, facts: Facts) -> LogRecord:
        other, self.other = self.other, None
        if other is not None:
            await other()
        return await self.store.apply(change, facts)


@pytest.fixture
async def client(mongodb_server: StoreServer) -> AsyncIterator[AsyncMongoClient[Document]]:
    async with AsyncMongoClient[Document](mongodb_server.url) as client:
        yield client


@pytest.fixture
async def database(client: AsyncMongoClient[Document], mongodb_server: StoreServer) -> AsyncIterator[MongoDatabase]:
    with some_database(mongodb_server.url) as name:
        database = MongoDatabase(client, name)
        await prepare(database)
        yield database


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "deprecated alone"])
@pytest.mark.parametrize("column", ["entry_uuid", "unique_id", "logical_id", "type_code"])
async def test_of_an_object_whose_revision_is_half_written_one_version_is_found(
    database: MongoDatabase, replaced: bool, column: str
) -> None:
    old, new = registered(document_entry()), registered(document_entry())
    await register(MongoMetadataStore(database, codec=codec), *submitted(old))
    brought: tuple[AnyObject, ...] = ()
    if replaced:
        brought = (*submitted(new), registered(association(AssociationType.RPLC, new, old)))
    crashing = MongoMetadataStore(CrashedBetweenInsertAndUpdate(database.client, database.name), codec=codec)
    with pytest.raises(NodeCrashed):
        await register(crashing, *brought, revisions=(Revision(old.entry_uuid, availability_status=DEPRECATED),))

    values = {
        "entry_uuid": old.entry_uuid,
        "unique_id": old.unique_id or "",
        "logical_id": old.logical_id or "",
        "type_code": old.type_code.coded if old.type_code else "",
    }
    wanted = Criteria(ObjectKind.DOCUMENT_ENTRY, (Match.any_of(column, (values[column],)),))
    other = MongoMetadataStore(database, codec=codec)
    found = [codec.read(each.ebrim or b"") for each in await other.find(wanted)]
    assert [each.availability_status for each in found if each.entry_uuid == old.entry_uuid] == [DEPRECATED]
    assert await other.count(wanted) == len(found)
    await other._resolver.settle()


async def test_a_change_that_stands_after_all_is_finished_by_the_node_that_began_it(database: MongoDatabase) -> None:
    gone = GoneAfter(database.client, database.name, busy_seconds=1)
    store = MongoMetadataStore(gone, codec=codec)
    entry = registered(document_entry())
    with pytest.raises(OutcomeOpen):
        await register(store, *submitted(entry))

    gone.is_gone, gone.last = False, ""
    await asyncio.wait(store._withdrawing)
    await store._resolver.settle()
    with database.limited():
        assert await database.find(CHANGES, {"open": True}) == []
        assert len(await database.find(OBJECTS, {"kind": ObjectKind.DOCUMENT_ENTRY.value})) == 1


async def test_an_update_that_a_half_one_of_another_dossier_overtook_is_refused_at_once(
    database: MongoDatabase,
) -> None:
    first = document_entry()
    store = MongoMetadataStore(database, codec=codec)
    assert (await Registry(store=store).register_document_set(submission(first))).succeeded
    crashing = MongoMetadataStore(CrashesOnceClaimed(database.client, database.name), codec=codec)

    async def half_an_update() -> None:
        moved = update_of(next_version(first, patient_id=OTHER_PATIENT))
        response = await Registry(store=crashing).update_document_set(moved)
        assert [error.code for error in response.errors] == [ErrorCode.REGISTRY_ERROR]  # a crash, for who is left

    overtaken = cast("MetadataStore", Overtaken(store, half_an_update))
    response = await Registry(store=overtaken).update_document_set(update_of(next_version(first)))

    assert ErrorCode.METADATA_VERSION_ERROR in {error.code for error in response.errors}
    await store._resolver.settle()
    with database.limited():
        assert await database.find(CHANGES, {"open": True}) == []
    assert [each.problems async for each in checked_dossiers(store, codec) if each.problems] == []
