"""Searches in pages: what every metadata store promises of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.kept_dossiers import KeptDossiers
from registry.metadata_store import MetadataStore, Revision
from registry.metadata_store_mongodb import MongoMetadataStore
from registry.metadata_store_sqlite import SqliteMetadataStore
from tests.builders import (
    OTHER_PATIENT,
    PATIENT,
    association,
    author,
    document_entry,
    folder,
    has_member,
    registered,
    submission_set,
    text,
)
from tests.registry.dossiers import register, submitted
from tests.registry.memory_store import MemoryStore
from tests.registry.stores import ADAPTERS, TellingRenderer, some_database
from xds.ebxml_writer import codec
from xds.hl7v2 import DTM
from xds.metadata import AssociationType, AvailabilityStatus, Code, DocumentEntry, ObjectKind
from xds.paged_search import Demand, Either, Link, Neither, Page, PagedSearch
from xds.stored_queries import Condition, Operator

ENTRIES = ObjectKind.DOCUMENT_ENTRY
CURRENT = Condition("availability_status", Operator.ANY_OF, ((AvailabilityStatus.APPROVED.value,),))
LAST = {
    ENTRIES: "creation_time",
    ObjectKind.SUBMISSION_SET: "submission_time",
    ObjectKind.FOLDER: "last_update_time",
}


@pytest.fixture(params=["memory", *ADAPTERS, "sqlite that keeps what it shows"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MetadataStore]:
    match request.param:
        case "memory":
            yield MemoryStore(codec, TellingRenderer())
        case "sqlite" | "sqlite that keeps what it shows":
            kept = KeptDossiers(0 if request.param == "sqlite" else 1024 * 1024)
            path = tmp_path / "registry.sqlite"
            store = SqliteMetadataStore(path, codec=codec, renderer=TellingRenderer(), kept=kept)
            yield store
            await store.close()
        case _:
            server = request.getfixturevalue("mongodb_server")
            with some_database(server.url) as name:
                opened = await MongoMetadataStore.opened(
                    server.url, database=name, codec=codec, renderer=TellingRenderer()
                )
                yield opened
                await opened.close()


def first_page(
    *conditions: Demand,
    kind: ObjectKind = ENTRIES,
    limit: int = 50,
    patients: tuple[str, ...] = (PATIENT.text,),
) -> PagedSearch:
    return PagedSearch(kind, conditions, patients, LAST[kind], limit)


async def walked(store: MetadataStore, search: PagedSearch) -> list[str]:
    """The entryUUIDs of all pages."""
    found: list[str] = []
    while True:
        page = await store.page(search)
        found += [each.entry_uuid for each in page.objects]
        if not page.more:
            return found
        search = replace(search, after=page.objects[-1].place, as_of=page.as_of)


def created(*times: str | None) -> list[DocumentEntry]:
    return [registered(document_entry(creation_time=time and DTM(time))) for time in times]


async def test_pages_come_in_the_order_of_time_the_latest_first(store: MetadataStore) -> None:
    entries = created("2026", "20260314", None, "2024", "20251231235959")
    await register(store, *submitted(*entries))

    found = await walked(store, first_page(limit=2))

    assert found == [entries[place].entry_uuid for place in (1, 0, 4, 3, 2)]


async def test_pages_can_come_the_earliest_first(store: MetadataStore) -> None:
    entries = created("2026", "20260314", None, "2024", "2024")
    await register(store, *submitted(*entries))

    found = await walked(store, replace(first_page(limit=2), descending=False))

    assert found == [entries[place].entry_uuid for place in (2, 3, 4, 0, 1)]


async def test_objects_of_one_time_are_met_once(store: MetadataStore) -> None:
    entries = created(*["20260314"] * 7, *[None] * 4)
    await register(store, *submitted(*entries))

    found = await walked(store, first_page(limit=3))

    assert sorted(found) == sorted(entry.entry_uuid for entry in entries)
    assert len(found) == len(entries)


async def test_pages_can_come_in_the_order_of_submission(store: MetadataStore) -> None:
    entries = created("2024", "2026", "2025", None)
    for entry, time in zip(entries, ("2026", "20240301", "20240301", "2023"), strict=True):
        owner = registered(submission_set(submission_time=DTM(time)))
        await register(store, owner, entry, registered(has_member(owner, entry)))
    by_submission = replace(first_page(limit=1), ordered_by="submitted")

    latest_first = await walked(store, by_submission)
    earliest_first = await walked(store, replace(by_submission, descending=False))

    assert latest_first == [entries[place].entry_uuid for place in (0, 2, 1, 3)]
    assert earliest_first == latest_first[::-1]


async def test_pages_are_not_ordered_by_what_is_no_time(store: MetadataStore) -> None:
    await register(store, *submitted())

    with pytest.raises(ValueError, match="ordered by"):
        await store.page(replace(first_page(), ordered_by="comments"))


async def test_what_is_registered_meanwhile_is_not_among_the_pages(store: MetadataStore) -> None:
    entries = created("2026", "2025", "2024")
    await register(store, *submitted(*entries))
    first = await store.page(first_page(limit=1))

    await register(store, *submitted(*created("2027", "20250601", "2023", None)))
    rest = await walked(store, replace(first_page(limit=1), after=first.objects[-1].place, as_of=first.as_of))

    assert [first.objects[0].entry_uuid, *rest] == [entry.entry_uuid for entry in entries]


async def test_the_first_page_tells_how_many_there_are_in_all(store: MetadataStore) -> None:
    entries = created("2026", "2025", "2024", None)
    deprecated = replace(entries[3], availability_status=AvailabilityStatus.DEPRECATED)
    await register(store, *submitted(*entries[:3], deprecated))
    await register(store, *submitted(registered(document_entry(patient_id=OTHER_PATIENT))), patient=OTHER_PATIENT)

    page = await store.page(first_page(CURRENT, limit=2))
    after = await store.page(replace(first_page(CURRENT), after=page.objects[-1].place, as_of=page.as_of))

    assert (page.total, page.more, len(page.objects)) == (3, True, 2)
    assert (after.total, after.more, len(after.objects)) == (None, False, 1)


async def test_a_page_of_nothing_tells_the_number_alone(store: MetadataStore) -> None:
    await register(store, *submitted(*created("2026", "2025")))

    page = await store.page(first_page(limit=0))

    assert (page.objects, page.total) == ((), 2)


async def test_an_unknown_patient_has_no_pages(store: MetadataStore) -> None:
    page = await store.page(first_page())

    assert (page.objects, page.more, page.total) == ((), False, 0)


async def test_objects_are_found_by_their_names_without_a_patient(store: MetadataStore) -> None:
    entries = created("2026", "2025")
    await register(store, *submitted(*entries))
    named = Condition("unique_id", Operator.ANY_OF, ((entries[1].unique_id or "",),))

    page = await store.page(first_page(named, patients=()))

    assert [(each.entry_uuid, each.patient_id) for each in page.objects] == [(entries[1].entry_uuid, PATIENT.text)]


async def test_a_resource_is_made_of_what_was_registered_and_when(store: MetadataStore) -> None:
    owner = registered(submission_set(submission_time=DTM("202603141020")))
    entry = registered(document_entry())
    record = await register(store, owner, entry, registered(has_member(owner, entry)))

    (found,) = (await store.page(first_page())).objects

    key = await store.patient_key(PATIENT.text)
    assert json.loads(found.resource or b"") == [
        entry.entry_uuid, AvailabilityStatus.APPROVED, key, record.time, "20260314102000",
    ]  # fmt: skip
    assert found.ebrim is None


async def test_a_revised_object_has_a_new_resource(store: MetadataStore) -> None:
    objects = submitted(registered(document_entry()))
    await register(store, *objects)
    before = (await store.page(first_page())).objects[0]

    deprecation = Revision(objects[1].entry_uuid, availability_status=AvailabilityStatus.DEPRECATED)
    await register(store, *submitted(*created("2020")), revisions=(deprecation,))

    (after,) = (await store.page(first_page(limit=1))).objects
    was, now = json.loads(before.resource or b""), json.loads(after.resource or b"")
    assert now[1] == AvailabilityStatus.DEPRECATED
    assert now[-1] == was[-1] == "20260314102000"
    assert (await store.page(first_page(CURRENT, limit=1))).objects[0].entry_uuid != objects[1].entry_uuid


async def test_when_an_object_was_submitted_and_changed_can_be_searched_by(store: MetadataStore) -> None:
    owner = registered(submission_set(submission_time=DTM("20260101")))
    entry = registered(document_entry())
    await register(store, owner, entry, registered(has_member(owner, entry)))

    async def found(attribute: str, operator: Operator, time: str) -> bool:
        return bool((await store.page(first_page(Condition(attribute, operator, ((time,),))))).objects)

    assert await found("submitted", Operator.AT_OR_AFTER, "20260101000000")
    assert not await found("submitted", Operator.AT_OR_AFTER, "20260101000001")
    assert await found("last_updated", Operator.BEFORE, "20260314102001")
    assert not await found("last_updated", Operator.BEFORE, "20260314102000")


async def test_one_of_several_alternatives_is_enough_and_needs_all_of_its_conditions(store: MetadataStore) -> None:
    entries = [
        registered(document_entry(creation_time=DTM(time), type_code=Code(code, "1.2")))
        for time, code in (("2026", "A"), ("2025", "A-1"), ("2024", "B"), ("2023", "B"))
    ]
    await register(store, *submitted(*entries))
    exactly_a = Condition("type_code", Operator.ANY_OF, (("A^^1.2",),))
    any_b = Condition("type_code", Operator.STARTS_WITH, (("B^^",),))
    late = Condition("creation_time", Operator.AT_OR_AFTER, (("20240101000000",),))

    found = await walked(store, first_page(CURRENT, Either(((exactly_a,), (any_b, late))), limit=1))
    nothing = await store.page(first_page(Either(())))

    assert found == [entries[0].entry_uuid, entries[2].entry_uuid]
    assert (nothing.objects, nothing.total) == ((), 0)


async def test_of_what_is_not_wanted_no_alternative_is_met_also_by_what_has_no_value(store: MetadataStore) -> None:
    entries = [
        registered(document_entry(creation_time=time and DTM(time), type_code=kind, event_code_list=events))
        for time, kind, events in (
            ("2026", Code("A", "1.2"), (Code("x", "1.2"), Code("y", "1.2"))),
            ("2025", Code("B", "1.2"), (Code("y", "1.3"),)),
            ("2024", None, ()),
            (None, Code("A-1", "1.2"), (Code("z", "1.2"),)),
        )
    ]
    await register(store, *submitted(*entries))

    async def found(*conditions: Demand) -> list[int]:
        uuids = await walked(store, first_page(*conditions, limit=1))
        assert (await store.page(first_page(*conditions, limit=0))).total == len(uuids)
        return [[entry.entry_uuid for entry in entries].index(each) for each in uuids]

    any_a = (Condition("type_code", Operator.STARTS_WITH, (("A^^",),)),)
    exactly_b = (Condition("type_code", Operator.ANY_OF, (("B^^1.2",),)),)
    x = (Condition("event_code_list", Operator.ANY_OF, (("x^^1.2",),)),)
    of_scheme = (Condition("event_code_list", Operator.ENDS_WITH, (("^^1.3",),)),)
    later = (Condition("creation_time", Operator.AT_OR_AFTER, (("20250101000000",),)),)

    assert await found(Either((any_a,))) == [0]
    assert await found(Neither((any_a,))) == [1, 2, 3]
    assert await found(Neither((any_a, exactly_b))) == [2, 3]
    assert await found(Neither((x,))) == [1, 2, 3]
    assert await found(Neither((x, of_scheme))) == [2, 3]
    assert await found(Neither((later,))) == [2, 3]
    assert await found(Neither((x,)), Neither((of_scheme,)), Either((later, exactly_b))) == []
    assert await found(Neither(())) == [0, 1, 2, 3]
    assert await found(CURRENT, Neither(((CURRENT,),))) == []


@pytest.mark.parametrize(
    ("kind", "attribute", "having"),
    [
        (ENTRIES, "type_code", {"type_code": Code("A", "1.2")}),
        (ENTRIES, "event_code_list", {"event_code_list": (Code("A", "1.2"),)}),
        (ENTRIES, "creation_time", {"creation_time": DTM("2026")}),
        (ENTRIES, "service_period", {"service_stop_time": DTM("2026")}),
        (ENTRIES, "folded_comments", {"comments": text("Any")}),
        (ENTRIES, "author_name", {"author": (author(),)}),
        (ObjectKind.FOLDER, "code_list", {"code_list": (Code("A", "1.2"),)}),
        (ObjectKind.SUBMISSION_SET, "content_type_code", {"content_type_code": Code("A", "1.2")}),
    ],
)
async def test_what_has_a_value_at_all_is_told_from_what_has_none(
    store: MetadataStore, kind: ObjectKind, attribute: str, having: dict[str, Any]
) -> None:
    make: Callable[..., Any] = {
        ENTRIES: document_entry, ObjectKind.FOLDER: folder, ObjectKind.SUBMISSION_SET: submission_set,
    }[kind]  # fmt: skip
    without = {name: () if isinstance(value, tuple) else None for name, value in having.items()}
    some, none = registered(make(**having)), registered(make(**without))
    others = [] if kind is ObjectKind.SUBMISSION_SET else [registered(submission_set())]
    await register(store, *others, some, none)
    present = Condition(attribute, Operator.PRESENT, ((),))

    assert await walked(store, first_page(present, kind=kind)) == [some.entry_uuid]
    assert await walked(store, first_page(Neither(((present,),)), kind=kind)) == [none.entry_uuid]


async def test_of_what_came_without_a_time_of_submission_that_is_missing(store: MetadataStore) -> None:
    some, none = registered(document_entry()), registered(document_entry())
    await register(store, *submitted(some))
    await register(store, none)
    present = Condition("submitted", Operator.PRESENT, ((),))

    assert await walked(store, first_page(present)) == [some.entry_uuid]
    assert await walked(store, first_page(Neither(((present,),)))) == [none.entry_uuid]


async def test_a_document_shows_its_relations_on_the_page(store: MetadataStore) -> None:
    old, new = created("2025", "2026")
    append = registered(association(AssociationType.APND, new, old))
    await register(store, *submitted(old, new), append)

    page = await store.page(first_page())

    appended = Link(AssociationType.APND, old.entry_uuid, ENTRIES, old.entry_uuid)
    assert [each.links for each in page.objects] == [(appended,), ()]


async def test_a_submission_set_shows_its_documents_and_folders(store: MetadataStore) -> None:
    owner, entry, held = registered(submission_set()), registered(document_entry()), registered(folder())
    membership = registered(has_member(held, entry))
    links = [registered(has_member(owner, each)) for each in (entry, held, membership)]
    await register(store, owner, entry, held, membership, *links)

    sets = await store.page(first_page(kind=ObjectKind.SUBMISSION_SET))
    folders = await store.page(first_page(kind=ObjectKind.FOLDER))

    assert {(link.target, link.target_kind) for link in sets.objects[0].links} == {
        (entry.entry_uuid, ENTRIES),
        (held.entry_uuid, ObjectKind.FOLDER),
    }
    assert [link.target for link in folders.objects[0].links] == [entry.entry_uuid]


async def test_a_patient_key_stands_for_a_patient_and_does_not_tell_the_id(store: MetadataStore) -> None:
    assert await store.patient_key(PATIENT.text) is None
    await register(store, *submitted())

    key = await store.patient_key(PATIENT.text)

    assert key is not None
    assert PATIENT.id_number not in key
    assert await store.patient_of(key) == PATIENT.text
    assert await store.patient_of("0" * 32) is None


async def test_a_secret_is_of_one_purpose_and_lasts(store: MetadataStore) -> None:
    before = store.secret_for("one")
    await register(store, *submitted())
    await store.reindex()

    assert len(before) == 32
    assert store.secret_for("one") == before
    assert store.secret_for("another") != before


async def test_reindexing_makes_the_same_pages(store: MetadataStore) -> None:
    old, new = created("2025", "2026")
    await register(store, *submitted(old))
    deprecation = Revision(old.entry_uuid, availability_status=AvailabilityStatus.DEPRECATED)
    await register(
        store, *submitted(new), registered(association(AssociationType.RPLC, new, old)), revisions=(deprecation,)
    )
    before = await store.page(first_page())

    await store.reindex()

    assert shown(await store.page(first_page())) == shown(before)


def shown(page: Page) -> list[tuple[bytes | None, tuple[Link, ...]]]:
    return [(each.resource, each.links) for each in page.objects]


async def test_a_place_that_nobody_gave_is_refused(store: MetadataStore) -> None:
    await register(store, *submitted(*created("2026")))
    page = await store.page(first_page())

    for changes in ({"after": page.objects[0].place._replace(tie="x")}, {"as_of": "x"}, {"ordered_by": "type_code"}):
        if isinstance(store, MemoryStore):
            continue  # believes everything
        with pytest.raises(ValueError, match=r"store gave|can be ordered by"):
            await store.page(replace(first_page(), **changes))


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_an_older_registry_gets_its_resources_by_reindexing(
    adapter: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async def check(without: MetadataStore, with_renderer: MetadataStore) -> None:
        entry = registered(document_entry())
        await register(without, *submitted(entry))
        (bare,) = (await without.page(first_page())).objects
        assert bare.resource is None
        assert codec.read(bare.ebrim or b"") == entry

        await with_renderer.reindex()

        (found,) = (await with_renderer.page(first_page())).objects
        assert json.loads(found.resource or b"")[0] == entry.entry_uuid
        assert await with_renderer.patient_key(PATIENT.text) is not None
        await without.close()
        await with_renderer.close()

    if adapter == "sqlite":
        path = tmp_path / "registry.sqlite"
        await check(
            SqliteMetadataStore(path, codec=codec),
            SqliteMetadataStore(path, codec=codec, renderer=TellingRenderer()),
        )
        return
    url = request.getfixturevalue("mongodb_server").url
    with some_database(url) as name:
        await check(
            await MongoMetadataStore.opened(url, database=name, codec=codec),
            await MongoMetadataStore.opened(url, database=name, codec=codec, renderer=TellingRenderer()),
        )


async def test_a_page_takes_as_many_statements_whatever_the_size_of_the_dossier(tmp_path: Path) -> None:
    # One reader: what is counted is asked by it or by the event loop.
    store = SqliteMetadataStore(tmp_path / "registry.sqlite", codec=codec, renderer=TellingRenderer(), reader_threads=1)
    for patient, entries in ((PATIENT, 60), (OTHER_PATIENT, 2000)):
        brought = [registered(document_entry(patient_id=patient)) for _ in range(entries)]
        await register(store, *submitted(*brought, patient=patient), patient=patient)
    statements: list[str] = []
    reading = [store._in_loop, await store._in_thread(store._thread_connection)]
    for connection in reading:
        connection.set_trace_callback(statements.append)

    async def counted(patient: str) -> int:
        statements.clear()
        page = await store.page(first_page(CURRENT, patients=(patient,)))
        assert len(page.objects) == 50
        return sum(each.startswith("SELECT") for each in statements)

    small, large = await counted(PATIENT.text), await counted(OTHER_PATIENT.text)

    # A large dossier is looked up once by the event loop, before it is handed to a thread.
    assert (small, large) == (4, 5)

    def plan(part: str) -> str:
        statement = next(each for each in statements if part in each)
        return " ".join(detail for *_, detail in store._in_loop.execute(f"EXPLAIN QUERY PLAN {statement}"))

    assert "document_entries_by_creation_time" in plan("ORDER BY coalesce")
    assert "TEMP B-TREE" not in plan("ORDER BY coalesce")
    # However many members a dossier's SubmissionSets and Folders have.
    assert "COVERING INDEX associations_by_association_type" in plan("associations")
    await store.close()
