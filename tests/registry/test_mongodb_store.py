"""What the metadata store on MongoDB promises beyond its port: bad weather, unfinished work, damage."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import pymongo
import pytest
from pymongo.database import Database
from pymongo.errors import AutoReconnect

from registry.actor import Registry
from registry.dossier_check import checked_dossiers
from registry.metadata_store import (
    Criteria,
    FactsMoved,
    OutcomeOpen,
    Questions,
    Revision,
    StoreBusy,
    StoreDamaged,
    StoreFull,
)
from registry.metadata_store_mongodb import MongoMetadataStore
from registry.mongodb.database import MongoDatabase
from registry.mongodb.schema import INDEX_VERSION, LOG_VERSION, WrongVersion, declared, prepare
from tests.builders import OTHER_PATIENT, PATIENT, document_entry, registered, submission, submission_set, text
from tests.registry.dossiers import change_of, found, register, submitted
from tests.registry.stores import some_database
from tests.server_process import free_port
from tests.store_servers import OwnStoreServer, StoreServer
from xds.actors import OutcomeUnknown
from xds.ebxml_writer import codec
from xds.metadata import AvailabilityStatus, ObjectKind

T = TypeVar("T")

ENTRY = ObjectKind.DOCUMENT_ENTRY
DEPRECATED = AvailabilityStatus.DEPRECATED


# PyMongo leaves a socket that was being connected when it looked for a server to the garbage collector.
leaving_sockets = pytest.mark.filterwarnings(
    "ignore:.*unclosed <socket:pytest.PytestUnraisableExceptionWarning", "ignore:unclosed <socket:ResourceWarning"
)


class Crashed(Exception):
    """The process ended here."""


class UnreliableDatabase(MongoDatabase):
    """A database that fails where it is told to. sent: how many commands it was given."""

    sent = 0
    failing: Callable[[int], Exception | None] = staticmethod(lambda _: None)
    losing_answers: Callable[[int], bool] = staticmethod(lambda _: False)

    async def run(self, send: Callable[[], Awaitable[T]], *, again: bool = True) -> T:
        async def really() -> T:
            self.sent += 1
            number = self.sent
            problem = self.failing(number)
            if problem is not None:
                raise problem
            answer = await send()
            if self.losing_answers(number):
                raise AutoReconnect("the answer was lost")
            return answer

        return await super().run(really, again=again)


@pytest.fixture
def name(mongodb_server: StoreServer) -> Iterator[str]:
    with some_database(mongodb_server.url) as name:
        yield name


@pytest.fixture
def behind_its_back(mongodb_server: StoreServer, name: str) -> Iterator[Database[dict[str, Any]]]:
    """The database, for a look at what is there, and to damage it."""
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongodb_server.url)
    yield client[name]
    client.close()


@pytest.fixture
async def database(mongodb_server: StoreServer, name: str) -> AsyncIterator[UnreliableDatabase]:
    database = UnreliableDatabase.at(mongodb_server.url, name, busy_seconds=10, connect_seconds=5)
    await prepare(database)
    yield database
    await database.close()


@pytest.fixture
async def unreliable(database: UnreliableDatabase) -> AsyncIterator[MongoMetadataStore]:
    """A store whose database fails where it is told to."""
    database.sent = 0
    store = MongoMetadataStore(database, codec=codec)
    yield store
    database.failing = lambda _: None
    await store.close()


@pytest.fixture
async def store(
    mongodb_server: StoreServer, name: str, database: UnreliableDatabase
) -> AsyncIterator[MongoMetadataStore]:
    """Another node with the same database."""
    store = await MongoMetadataStore.opened(mongodb_server.url, database=name, codec=codec)
    yield store
    await store.close()


async def problems(store: MongoMetadataStore) -> list[str]:
    return [problem async for dossier in checked_dossiers(store, codec) for problem in dossier.problems]


# --- opening ---------------------------------------------------------------------------------------------------------


async def test_a_single_server_is_warned_of(
    mongodb_server: StoreServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongodb_server.url)
    hello = client.admin.command("hello")
    client.close()
    caplog.set_level(logging.WARNING)

    store = await MongoMetadataStore.opened(mongodb_server.url, database=name, codec=codec)
    await store.close()

    is_single = "setName" not in hello and hello.get("msg") != "isdbgrid"
    assert ("single MongoDB server" in caplog.text) is is_single


async def test_an_empty_database_gets_the_declared_indexes(
    store: MongoMetadataStore, behind_its_back: Database[dict[str, Any]]
) -> None:
    for collection, (shard_key, indexes) in declared().items():
        there = behind_its_back[collection].index_information()
        for index in indexes:
            assert [name for name, _ in there[index.name]["key"]] == list(index.keys)
            assert there[index.name].get("unique", False) is index.unique
        # A sharded cluster keeps unique only what begins with the shard key.
        assert all(index.keys[0] == shard_key for index in indexes if index.unique)


async def test_a_database_of_a_newer_release_is_not_opened(
    mongodb_server: StoreServer, name: str, store: MongoMetadataStore, behind_its_back: Database[dict[str, Any]]
) -> None:
    for version, known in (("log_version", LOG_VERSION), ("index_version", INDEX_VERSION)):
        behind_its_back.meta.update_one({}, {"$inc": {version: 1}})
        with pytest.raises(
            WrongVersion, match=rf"newer release of Toimik \({version} {known + 1}; this one knows {known}\)"
        ):
            await MongoMetadataStore.opened(mongodb_server.url, database=name, codec=codec)
        behind_its_back.meta.update_one({}, {"$inc": {version: -1}})


async def test_an_index_of_an_older_release_is_written_again_first(
    mongodb_server: StoreServer, name: str, store: MongoMetadataStore, behind_its_back: Database[dict[str, Any]]
) -> None:
    await register(store, *submitted())
    behind_its_back.meta.update_one({}, {"$set": {"index_version": 0}})
    with pytest.raises(WrongVersion, match="run `toimik reindex`"):
        await MongoMetadataStore.opened(mongodb_server.url, database=name, codec=codec)

    reindexing = await MongoMetadataStore.opened(mongodb_server.url, database=name, codec=codec, reindexing=True)
    await reindexing.reindex()
    await reindexing.close()

    opened = await MongoMetadataStore.opened(mongodb_server.url, database=name, codec=codec)
    assert await problems(opened) == []
    await opened.close()


async def test_a_url_that_can_not_be_read_is_told() -> None:
    with pytest.raises(ValueError, match="can not be read"):
        await MongoMetadataStore.opened("http://127.0.0.1/", codec=codec)


@leaving_sockets
async def test_a_server_that_is_not_there_is_busy() -> None:
    with pytest.raises(StoreBusy, match="can not be reached"):
        await MongoMetadataStore.opened(f"mongodb://127.0.0.1:{free_port()}/", codec=codec, connect_seconds=0.2)
    gc.collect()


# --- bad weather -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def store_at(server: StoreServer) -> AsyncIterator[MongoMetadataStore]:
    store = await MongoMetadataStore.opened(server.url, codec=codec, busy_seconds=3, connect_seconds=1)
    try:
        yield store
    finally:
        await store.close()
        gc.collect()


async def is_back(store: MongoMetadataStore, *, seconds: float = 30) -> None:
    """Wait until the store answers: the driver finds a server that is back when it looks for it next."""
    end = time.monotonic() + seconds
    while True:
        try:
            return await store.check()
        except StoreBusy:
            if time.monotonic() > end:
                raise


@leaving_sockets
async def test_a_server_that_is_killed_is_busy_until_it_is_back(own_mongodb_server: OwnStoreServer) -> None:
    async with store_at(own_mongodb_server) as store:
        first = document_entry()
        await register(store, *submitted(registered(first)))
        facts = await store.known(Questions(PATIENT.text))
        own_mongodb_server.kill()
        with pytest.raises(StoreBusy):
            await found(store, ENTRY, patients=(PATIENT,))
        with pytest.raises(StoreBusy):
            await store.known(Questions(PATIENT.text))
        with pytest.raises(StoreBusy):
            await store.apply(change_of(*submitted()), facts)
        with pytest.raises(StoreBusy):
            await store.check()

        own_mongodb_server.start()

        await is_back(store)
        assert await found(store, ENTRY, patients=(PATIENT,)) == [first.entry_uuid]
        await register(store, *submitted())
        assert await problems(store) == []


@leaving_sockets
async def test_a_server_that_answers_nothing_is_busy_and_nobody_hangs(own_mongodb_server: OwnStoreServer) -> None:
    async with store_at(own_mongodb_server) as store:
        await register(store, *submitted())
        facts = await store.known(Questions(PATIENT.text))
        own_mongodb_server.pause()
        outcomes = await asyncio.gather(
            found(store, ENTRY, patients=(PATIENT,)),
            store.count(Criteria(ENTRY)),
            store.known(Questions(PATIENT.text)),
            store.apply(change_of(*submitted()), facts),
            return_exceptions=True,
        )
        own_mongodb_server.resume()
        await is_back(store)

        assert [type(outcome) for outcome in outcomes[:3]] == [StoreBusy] * 3
        # It may have been sent before nothing came back.
        assert isinstance(outcomes[3], StoreBusy | OutcomeOpen)
        await asyncio.gather(*store._withdrawing)
        await register(store, *submitted())
        assert len(await found(store, ENTRY, patients=(PATIENT,))) == 2
        assert await problems(store) == []


@pytest.mark.parametrize("command", range(1, 6))
async def test_an_answer_that_is_lost_is_asked_for_again(
    unreliable: MongoMetadataStore, database: UnreliableDatabase, store: MongoMetadataStore, command: int
) -> None:
    old = registered(document_entry())
    await register(unreliable, *submitted(old))
    await unreliable._resolver.settle()
    database.sent = 0
    database.losing_answers = lambda number: number == command
    new = registered(document_entry())

    record = await register(
        unreliable, *submitted(new), revisions=(Revision(old.entry_uuid, availability_status=DEPRECATED),)
    )

    assert database.sent > command
    assert record.sequence == 2
    assert await found(store, ENTRY, patients=(PATIENT,)) == [old.entry_uuid, new.entry_uuid]
    await unreliable._resolver.settle()
    assert await problems(store) == []


async def test_a_change_whose_sender_hears_that_nothing_was_done_is_taken_back(
    unreliable: MongoMetadataStore, database: UnreliableDatabase, store: MongoMetadataStore
) -> None:
    await register(unreliable, *submitted())
    await unreliable._resolver.settle()
    facts = await unreliable.known(Questions(PATIENT.text))
    database.sent = 0
    database.failing = lambda number: StoreBusy("too slow") if number == 2 else None  # the identifiers
    change = change_of(*submitted())

    with pytest.raises(StoreBusy, match="too slow"):
        await unreliable.apply(change, facts)

    assert len(await found(store, ENTRY, patients=(PATIENT,))) == 1
    assert len([record async for record in store.records()]) == 1
    await store.apply(change, await store.known(Questions(PATIENT.text)))
    assert await problems(store) == []


async def test_a_change_that_can_not_be_taken_back_any_more_is_finished(
    unreliable: MongoMetadataStore, database: UnreliableDatabase, store: MongoMetadataStore
) -> None:
    await register(unreliable, *submitted())
    await unreliable._resolver.settle()
    facts = await unreliable.known(Questions(PATIENT.text))
    database.sent = 0
    database.failing = lambda number: StoreBusy("too slow") if number == 3 else None  # the objects

    assert (await unreliable.apply(change_of(*submitted()), facts)).sequence == 2

    assert len(await found(store, ENTRY, patients=(PATIENT,))) == 2
    assert await problems(store) == []


async def test_a_change_that_nobody_knows_of_is_taken_back_when_the_server_can_be_asked(
    unreliable: MongoMetadataStore, database: UnreliableDatabase, store: MongoMetadataStore
) -> None:
    await register(unreliable, *submitted())
    await unreliable._resolver.settle()
    facts = await unreliable.known(Questions(PATIENT.text))
    database.sent = 0
    database.failing = lambda number: StoreBusy("gone") if number > 1 else None  # after the record
    change = change_of(*submitted())

    with pytest.raises(OutcomeOpen):
        await unreliable.apply(change, facts)
    database.failing = lambda _: None
    await asyncio.gather(*unreliable._withdrawing)

    assert len(await found(store, ENTRY, patients=(PATIENT,))) == 1
    await store.apply(change, await store.known(Questions(PATIENT.text)))
    assert len(await found(store, ENTRY, patients=(PATIENT,))) == 2
    assert await problems(store) == []


async def test_a_registration_with_an_open_outcome_is_no_refusal(
    unreliable: MongoMetadataStore, database: UnreliableDatabase
) -> None:
    """A repository deletes the documents of a refused submission."""
    database.failing = lambda number: StoreBusy("gone") if number > 3 else None

    with pytest.raises(OutcomeUnknown):
        await Registry(store=unreliable).register_document_set(submission(document_entry()))


async def test_a_change_that_is_too_large_for_a_document_is_refused(unreliable: MongoMetadataStore) -> None:
    noise = registered(document_entry(comments=text(_noise(36_000_000))))

    with pytest.raises(StoreFull):
        await register(unreliable, noise)

    assert await found(unreliable, ENTRY, patients=(PATIENT,)) == []
    assert await problems(unreliable) == []


def _noise(characters: int) -> str:
    return random.Random(1).randbytes(characters // 2).hex()  # noqa: S311 - nothing compresses it below a half


async def test_who_gives_up_waiting_leaves_nothing_unfinished(
    unreliable: MongoMetadataStore, store: MongoMetadataStore
) -> None:
    facts = await unreliable.known(Questions(PATIENT.text))
    applying = asyncio.create_task(unreliable.apply(change_of(*submitted()), facts))
    await asyncio.sleep(0)

    applying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await applying
    await unreliable.close()

    assert len(await found(store, ENTRY, patients=(PATIENT,))) == 1
    assert await problems(store) == []


# --- unfinished work -------------------------------------------------------------------------------------------------


async def crash_while_replacing(
    crashing: MongoMetadataStore, database: UnreliableDatabase, command: int
) -> tuple[str, str]:
    """Register a document and crash after some commands of its replacement. Returns both entryUUIDs."""
    old, new = registered(document_entry()), registered(document_entry())
    await register(crashing, *submitted(old))
    await crashing._resolver.settle()
    facts = await crashing.known(Questions(PATIENT.text))
    database.sent = 0
    database.failing = lambda number: Crashed() if number > command else None
    revisions = (Revision(old.entry_uuid, availability_status=DEPRECATED),)
    with pytest.raises(Crashed):
        await crashing.apply(change_of(*submitted(new), revisions=revisions), facts)
    return old.entry_uuid, new.entry_uuid


@pytest.mark.parametrize("command", [1, 2, 3])
@pytest.mark.parametrize("finder", ["reads facts", "sweeps", "reads the log"])
async def test_a_change_that_was_begun_is_finished_by_whoever_finds_it(
    unreliable: MongoMetadataStore,
    database: UnreliableDatabase,
    store: MongoMetadataStore,
    behind_its_back: Database[dict[str, Any]],
    command: int,
    finder: str,
) -> None:
    old, new = await crash_while_replacing(unreliable, database, command)

    match finder:
        case "reads facts":
            assert (await store.known(Questions(PATIENT.text))).sequence == (1 if command == 1 else 2)
        case "sweeps":
            await store.sweep()
        case _:
            assert len([record async for record in store.records()]) == (1 if command == 1 else 2)

    # The first of the commands reads what is replaced; the second one is the commit.
    assert await found(store, ENTRY, patients=(PATIENT,)) == ([old] if command == 1 else [old, new])
    await store._resolver.settle()
    assert behind_its_back.changes.count_documents({"open": True}) == 0
    assert await problems(store) == []


async def test_a_reader_who_finds_a_change_unfinished_finishes_it(
    unreliable: MongoMetadataStore,
    database: UnreliableDatabase,
    store: MongoMetadataStore,
    behind_its_back: Database[dict[str, Any]],
) -> None:
    old, new = await crash_while_replacing(unreliable, database, 3)
    record = behind_its_back.changes.find_one({"position": 2})
    owner = behind_its_back.changes.find_one({"position": 1})
    assert record is not None
    assert owner is not None
    sign = {"kind": "*unfinished", "patient_key": owner["patient_key"], "number": 2, "record": record["_id"]}
    behind_its_back.objects.insert_one({"_id": f"*unfinished {record['_id']}", **sign})

    assert await found(store, ENTRY, patients=(PATIENT,)) == [old, new]
    assert await store.count(Criteria(ENTRY, (), (PATIENT.text,))) == 2

    await store._resolver.settle()
    assert behind_its_back.objects.count_documents({"kind": "*unfinished"}) == 0
    assert await problems(store) == []


async def test_a_change_that_lost_an_identifier_leaves_no_body(
    unreliable: MongoMetadataStore, store: MongoMetadataStore, behind_its_back: Database[dict[str, Any]]
) -> None:
    owner = registered(submission_set())
    late = registered(submission_set(unique_id=owner.unique_id, patient_id=OTHER_PATIENT))
    facts = await unreliable.known(Questions(OTHER_PATIENT.text))
    await register(store, owner)

    with pytest.raises(FactsMoved):
        await unreliable.apply(change_of(late, patient=OTHER_PATIENT), facts)

    (void,) = behind_its_back.changes.find({"void": True})
    assert "body" not in void
    assert "open" not in void
    entry = registered(document_entry(patient_id=OTHER_PATIENT))
    assert (await register(unreliable, entry, patient=OTHER_PATIENT)).sequence == 1
    assert await problems(store) == []


# --- damage ----------------------------------------------------------------------------------------------------------


async def test_a_damaged_index_is_noticed_and_can_be_written_again(
    store: MongoMetadataStore, behind_its_back: Database[dict[str, Any]]
) -> None:
    old, kept, gone = (registered(document_entry()) for _ in range(3))
    await register(store, *submitted(old, kept, gone))
    await register(store, *submitted(), revisions=(Revision(old.entry_uuid, availability_status=DEPRECATED),))
    await store._resolver.settle()
    objects = behind_its_back.objects
    objects.update_one({"entry_uuid": kept.entry_uuid}, {"$set": {"type_code": "x^^y"}})
    objects.delete_one({"entry_uuid": gone.entry_uuid})
    stray = objects.find_one({"entry_uuid": kept.entry_uuid})
    assert stray is not None
    objects.insert_one({**stray, "_id": "stray 1", "entry_uuid": "stray"})
    objects.insert_one({**stray, "_id": "nobody's 1", "entry_uuid": "nobody's", "patient_key": "0", "patient_id": "x"})
    behind_its_back.identifiers.delete_one({"identifier": gone.entry_uuid})
    assert await problems(store) != []

    assert await store.reindex() == 2

    assert await problems(store) == []
    assert objects.count_documents({"kind": "DocumentEntry"}) == 4


async def test_a_damaged_log_is_noticed_and_no_index_is_made_from_it(
    store: MongoMetadataStore, behind_its_back: Database[dict[str, Any]]
) -> None:
    await register(store, *submitted())
    await register(store, *submitted())
    before = list(behind_its_back.objects.find())
    behind_its_back.changes.update_one({"position": 2}, {"$set": {"body": b"x"}})

    with pytest.raises(StoreDamaged, match="the body of record 2 was altered"):
        await store.reindex()

    assert list(behind_its_back.objects.find()) == before
    assert any("the body of record 2 was altered" in problem for problem in await problems(store))


async def test_a_blanked_body_is_no_damage(
    store: MongoMetadataStore, behind_its_back: Database[dict[str, Any]]
) -> None:
    gone, stays = registered(document_entry()), registered(document_entry())
    await register(store, *submitted(gone))
    deprecation = Revision(gone.entry_uuid, availability_status=DEPRECATED)
    await register(store, *submitted(stays), revisions=(deprecation,))
    behind_its_back.changes.update_one({"position": 1}, {"$unset": {"body": ""}})

    assert await store.reindex() == 2

    assert await found(store, ENTRY, patients=(PATIENT,)) == [stays.entry_uuid]
    assert await problems(store) == []


async def test_a_store_closes_though_the_driver_loses_the_cancellation_of_its_sweep(
    mongodb_server: StoreServer,
) -> None:
    with some_database(mongodb_server.url) as name:
        store = await MongoMetadataStore.opened(mongodb_server.url, database=name, codec=codec, sweep_seconds=3600)
        looking = asyncio.Event()

        async def unfinished() -> list[Any]:
            looking.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
            return []

        store._resolver.log.unfinished = unfinished  # type: ignore[method-assign]
        store._sweeping.cancel()  # type: ignore[union-attr]
        store.keep_swept(3600)
        await looking.wait()

        await store.close()
