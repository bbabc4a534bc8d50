"""How often the metadata store on MongoDB asks its server, and of which shard: counted by a command listener."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from registry.actor import Registry
from registry.changing import Changing
from registry.code_sets import CodeSets
from registry.dossier_check import checked_dossiers
from registry.iti18_stored_query import stored_query
from registry.iti42_register import register_document_set
from registry.metadata_store_mongodb import MongoMetadataStore
from registry.mongodb.database import MongoDatabase
from registry.mongodb.schema import declared, prepare
from registry.patient_identities import OpenPatients
from tests.builders import OTHER_PATIENT, PATIENT, association, document_entry, folder, has_member, submission
from tests.registry.dossiers import identify, submitted
from tests.registry.dossiers import register as register_in_dossier
from tests.registry.memory_store import MemoryStore
from tests.registry.mongodb_commands import MARKS, Commands, Scene, watched_store
from tests.registry.stores import some_database
from tests.store_servers import StoreServer
from xds.actors import QueryRequest, ReturnType
from xds.ebxml_writer import codec
from xds.hl7v2 import CX
from xds.metadata import AssociationType, AvailabilityStatus, Submission
from xds.stored_queries import STORED_QUERIES

SHARDED_URL = os.environ.get("TOIMIK_TEST_MONGODB_SHARDED_URL")


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
async def store(mongodb_server: StoreServer, commands: Commands) -> AsyncIterator[MongoMetadataStore]:
    """A store that is not swept meanwhile."""
    async with watched_store(mongodb_server.url, commands) as store:
        yield store


async def register(store: MongoMetadataStore, submitted: Submission) -> None:
    response = await register_document_set(
        submitted,
        Changing(
            store=store,
            patients=OpenPatients(),
            code_sets=CodeSets(),
            clock=lambda: datetime.now(UTC),
            new_uuid=uuid4,
        ),
    )
    assert response.succeeded


READING = ["find changes", "find identifiers", "find objects"]
WRITING = ["insert changes", "insert identifiers", "insert objects"]
KEY_OF_A_PATIENT = "insert patient_keys"


@pytest.mark.parametrize("documents", [1, 300])
async def test_a_registration_takes_five_round_trips_however_many_objects_it_has(
    store: MongoMetadataStore, commands: Commands, documents: int
) -> None:
    case = folder()
    entries = [document_entry() for _ in range(documents)]
    links = tuple(has_member(case, entry) for entry in entries)

    # Of the patient of the first submission nothing was said, because there is no dossier yet; its key is written.
    with commands.counted():
        await register(store, submission(*entries, folders=(case,), associations=links))
    assert commands.awaited == [*READING[:2], *WRITING[:2], KEY_OF_A_PATIENT, *WRITING[2:]]
    assert commands.waits == 5

    with commands.counted():
        await register(store, submission(document_entry()))
    assert commands.awaited == [*READING, *WRITING]
    assert commands.waits == 5


async def test_what_is_marked_in_the_background_is_marked_for_many_at_once(
    store: MongoMetadataStore, commands: Commands
) -> None:
    with commands.counted() as sent:
        await register(store, submission(document_entry(), document_entry()))
        await store._resolver.settle()
    assert sorted(each for each in sent if each in MARKS) == sorted(MARKS)


@pytest.mark.parametrize("documents", [1, 40])
async def test_a_replacement_takes_five_round_trips_however_many_objects_it_replaces(
    store: MongoMetadataStore, commands: Commands, documents: int
) -> None:
    case = folder()
    old = [document_entry() for _ in range(documents)]
    links = tuple(has_member(case, entry) for entry in old)
    await register(store, submission(*old, folders=(case,), associations=links))
    new = [document_entry() for _ in range(documents)]
    replacements = tuple(
        association(AssociationType.RPLC, entry, replaced) for entry, replaced in zip(new, old, strict=True)
    )

    with commands.counted():
        await register(store, submission(*new, associations=replacements))

    assert commands.awaited == [*READING, *WRITING[:2], "update objects"]
    assert commands.waits == 5


@pytest.mark.parametrize(("beside", "deep"), [(1, 1), (12, 1), (1, 12)], ids=["one", "many", "a chain"])
async def test_appendices_of_what_is_replaced_take_one_round_trip_more_however_many_and_however_deep(
    store: MongoMetadataStore, commands: Commands, beside: int, deep: int
) -> None:
    old, new = document_entry(), document_entry()
    await register(store, submission(old))
    hanging = [document_entry() for _ in range(beside)]
    links = [association(AssociationType.APND, each, old) for each in hanging]
    await register(store, submission(*hanging, associations=tuple(links)))
    for _ in range(deep - 1):
        further = document_entry()
        link = association(AssociationType.XFRM, further, hanging[-1])
        await register(store, submission(further, associations=(link,)))
        hanging.append(further)

    with commands.counted():
        await register(store, submission(new, associations=(association(AssociationType.RPLC, new, old),)))

    assert commands.awaited == [*READING, "find objects", *WRITING[:2], "update objects"]
    assert commands.waits == 6
    deprecated = await asked(
        store,
        "FindDocuments",
        ("$XDSDocumentEntryPatientId", (f"'{PATIENT}'",)),
        ("$XDSDocumentEntryStatus", (f"('{AvailabilityStatus.DEPRECATED}')",)),
    )
    assert deprecated == 1 + beside + deep - 1


@pytest.mark.parametrize("documents", [1, 40])
async def test_documents_that_are_registered_already_take_no_round_trip_more_however_many_they_are(
    store: MongoMetadataStore, commands: Commands, documents: int
) -> None:
    known = [document_entry(patient_id=OTHER_PATIENT) for _ in range(documents)]
    await register(store, submission(*known))
    await register(store, submission(document_entry()))
    again = [document_entry(unique_id=each.unique_id) for each in known]

    with commands.counted():
        await register(store, submission(*again))

    assert sorted(commands.awaited) == sorted([*READING, "find changes", *WRITING])
    assert commands.waits == 5


async def asked(store: MongoMetadataStore, name: str, *slots: tuple[str, tuple[str, ...]]) -> int:
    """How many objects a stored query finds."""
    (query,) = (row for row in STORED_QUERIES.values() if row.name == name)
    response = await Registry(store=store).stored_query(QueryRequest(query.id, ReturnType.LEAF_CLASS, slots))
    assert response.errors == ()
    return len(response.found)


async def test_find_documents_takes_one_round_trip(store: MongoMetadataStore, commands: Commands) -> None:
    await identify(store, PATIENT)
    await register(store, submission(*(document_entry() for _ in range(250))))

    with commands.counted() as sent:
        found = await asked(
            store,
            "FindDocuments",
            ("$XDSDocumentEntryPatientId", (f"'{PATIENT}'",)),
            ("$XDSDocumentEntryStatus", (f"('{AvailabilityStatus.APPROVED}')",)),
            ("$XDSDocumentEntryAuthorPerson", ("('%')",)),
        )

    assert found == 250
    assert [each for each in sent if each not in MARKS] == ["find objects"]


async def test_get_documents_takes_two_round_trips(store: MongoMetadataStore, commands: Commands) -> None:
    entries = [document_entry() for _ in range(20)]
    await register(store, submission(*entries))
    unique_ids = ",".join(f"'{each.unique_id}'" for each in entries)

    with commands.counted() as sent:
        assert await asked(store, "GetDocuments", ("$XDSDocumentEntryUniqueId", (f"({unique_ids})",))) == 20

    assert [each for each in sent if each not in MARKS] == ["find identifiers", "find objects"]


async def test_only_where_patients_were_merged_it_is_asked_who_stands_for_whom(
    store: MongoMetadataStore, commands: Commands
) -> None:
    for patient in (PATIENT, OTHER_PATIENT):
        await identify(store, patient)
        await register(store, submission(document_entry(patient_id=patient), patient_id=patient))
    await identify(store, OTHER_PATIENT, merged_into=PATIENT)

    with commands.counted() as sent:
        found = await asked(
            store,
            "FindDocuments",
            ("$XDSDocumentEntryPatientId", (f"'{PATIENT}'",)),
            ("$XDSDocumentEntryStatus", (f"('{AvailabilityStatus.APPROVED}')",)),
        )

    assert found == 2
    # Told of the merge; who was merged into the one, and who into the other; the objects of both.
    assert [each for each in sent if each not in MARKS] == ["find objects"] * 4


def patient(number: int) -> CX:
    return CX.of(str(number), "2.25.7331")


async def test_a_copy_takes_as_many_round_trips_for_one_dossier_as_for_many(
    store: MongoMetadataStore, commands: Commands
) -> None:
    copied = MemoryStore(codec)
    for number in range(31):
        await register_in_dossier(copied, *submitted(patient=patient(number)), patient=patient(number))
    first, *others = [record async for record in copied.records()]

    with commands.counted() as of_one:
        await store.replay([first])
    with commands.counted() as of_thirty:
        await store.replay(others)

    # What is there of the dossiers; the records, their identifiers and objects; that they are finished.
    assert of_one == of_thirty == [*READING[:1], *WRITING[:2], KEY_OF_A_PATIENT, *WRITING[2:], "update changes"]


async def test_how_much_there_is_is_told_without_reading_it(store: MongoMetadataStore, commands: Commands) -> None:
    await register(store, submission(document_entry()))
    await store._resolver.settle()

    commands.sent.clear()
    assert await store.extent() == (1, 3)

    assert [(name, collection) for name, collection, _ in commands.sent] == [
        ("aggregate", "changes"), ("aggregate", "objects")
    ]  # fmt: skip
    assert commands.stages == {"$collStats"}


async def test_to_hold_the_index_against_the_log_it_is_read_in_one_go(
    store: MongoMetadataStore, commands: Commands
) -> None:
    for number in range(5):
        await register_in_dossier(store, *submitted(patient=patient(number)), patient=patient(number))
    await store._resolver.settle()

    with commands.counted() as sent:
        assert [each.problems async for each in checked_dossiers(store, codec)] == [()] * 5

    assert sent.count("find objects") == 1 + 5  # what feeds said of each patient


# --- every stored query says which shard -----------------------------------------------------------------------------


@pytest.mark.parametrize("query", STORED_QUERIES.values(), ids=lambda row: row.name)
@pytest.mark.parametrize("return_type", ReturnType)
async def test_every_stored_query_asks_the_shard_of_its_patient(
    store: MongoMetadataStore, commands: Commands, query: Any, return_type: ReturnType
) -> None:
    scene = Scene.of_one_document()
    await register(store, scene.submitted)
    await store._resolver.settle()
    slots = tuple((name, (value,)) for name, value in scene.parameters()[query.name].items())

    commands.sent.clear()
    request = QueryRequest(query.id, return_type, slots)
    response = await stored_query(request, store=store, max_results=1000, transaction=query.transaction)

    assert response.found or "ByReferenceId" in query.name or query.name == "GetRelatedDocuments"
    assert commands.sent
    keys = {name: shard_key for name, (shard_key, _) in declared().items()}
    assert [each for each in commands.sent if keys[each[1]] not in each[2]] == []
    # Who names the patient needs not be told it by the identifiers.
    if any(parameter.attribute == "patient_id" for parameter in query.parameters):
        assert {collection for _, collection, _ in commands.sent} == {"objects"}


async def a_bit_of_everything(store: MongoMetadataStore) -> None:
    """Register, refer to, replace, remove, search, copy and reindex."""
    old, new, appendix = document_entry(), document_entry(), document_entry()
    await identify(store, PATIENT)
    await register(store, submission(old))
    await register(store, submission(appendix, associations=(association(AssociationType.APND, appendix, old),)))
    await register(store, submission(new, associations=(association(AssociationType.RPLC, new, old),)))
    assert await asked(store, "GetDocuments", ("$XDSDocumentEntryUniqueId", (f"('{new.unique_id}')",))) == 1
    gone = submission(document_entry())
    await register(store, gone)
    uuids = [each.entry_uuid for each in (gone.submission_set, *gone.document_entries, *gone.associations)]
    assert (await Registry(store=store).remove_metadata(uuids)).succeeded
    copied = MemoryStore(codec)
    await register_in_dossier(copied, *submitted(patient=OTHER_PATIENT), patient=OTHER_PATIENT)
    await store.replay([record async for record in copied.records()])
    await store.reindex()
    await store._resolver.settle()


async def test_all_that_is_read_and_written_is_what_the_majority_of_a_replica_set_has(
    store: MongoMetadataStore, commands: Commands
) -> None:
    commands.concerns.clear()
    await a_bit_of_everything(store)

    assert {name for name, _ in commands.concerns} >= {"find", "insert", "update", "delete"}
    # But for the estimate of a progress bar, of which a server gives no more.
    assert {told for name, told in commands.concerns if name != "aggregate"} == {"majority"}


async def test_whatever_is_written_names_its_shard(store: MongoMetadataStore, commands: Commands) -> None:
    commands.written.clear()
    await a_bit_of_everything(store)

    keys = {name: shard_key for name, (shard_key, _) in declared().items()}
    assert {collection for collection, _ in commands.written} >= {"changes", "identifiers", "objects"}
    of_shards = [(collection, each) for collection, each in commands.written if collection in keys]  # meta is on one
    assert [each for collection, each in of_shards if keys[collection] not in each] == []


@pytest.mark.skipif(SHARDED_URL is None, reason="set TOIMIK_TEST_MONGODB_SHARDED_URL to that of a mongos")
@pytest.mark.parametrize("query", STORED_QUERIES.values(), ids=lambda row: row.name)
async def test_on_a_sharded_cluster_every_stored_query_is_answered_by_one_shard(query: Any) -> None:
    assert SHARDED_URL is not None
    commands = Commands()
    with some_database(SHARDED_URL) as name:
        database = MongoDatabase.at(SHARDED_URL, name, busy_seconds=30, connect_seconds=10)
        await prepare(database, shard=True)
        store = await MongoMetadataStore.opened(SHARDED_URL, database=name, codec=codec, event_listeners=[commands])
        scene = Scene.of_one_document()
        await register(store, scene.submitted)
        await store._resolver.settle()
        slots = tuple((name, (value,)) for name, value in scene.parameters()[query.name].items())
        commands.sent.clear()
        request = QueryRequest(query.id, ReturnType.LEAF_CLASS, slots)
        await stored_query(request, store=store, max_results=1000, transaction=query.transaction)
        with database.limited():
            for _, collection, wanted in [each for each in commands.sent if each[0] == "find"]:
                explained = await database.command("explain", value={"find": collection, "filter": wanted})
                assert len(explained["queryPlanner"]["winningPlan"]["shards"]) == 1
        await store.close()
        await database.close()
