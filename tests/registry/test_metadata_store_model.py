"""Every store answers every search as one in plain dictionaries does, whatever was registered."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from registry.dossier_check import checked_dossiers
from registry.metadata_store import Criteria, Match, MetadataStore, Operator, Questions, RegistryChange, Revision
from registry.metadata_store_mongodb import MongoMetadataStore
from registry.metadata_store_sqlite import SqliteMetadataStore
from registry.search_columns import SEARCH_COLUMNS, Shape, search_columns
from tests.builders import association, document_entry, folder, registered, submission_set
from tests.registry.dossiers import change_of, commit
from tests.registry.memory_store import MemoryStore
from tests.registry.stores import some_database
from tests.store_servers import StoreServer
from xds.ebxml_writer import codec
from xds.hl7v2 import CX, DTM, XCN, CXi
from xds.metadata import AnyObject, Association, AssociationType, Author, AvailabilityStatus, Code, ObjectKind
from xds.stored_queries import OF_TIMES

PATIENTS = [CX.of(str(number), "2.25.7331") for number in range(3)]

words = st.sampled_from(["a", "b", 'a"', ",", "Õun", "ÕUN", "strauß", "a\\", "a%", "a_b", "x,y"])
codes = st.builds(Code, words, st.sampled_from(["1.2", "1.3"]))
times = st.sampled_from(["2025", "2026", "202602", "20260228", "2026022823", "20260228235959"]).map(DTM)
people = st.builds(Author, words.map(lambda name: XCN(f"1^{name}^Eva")))


def several(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=3).map(tuple)


entries = st.builds(
    lambda **changes: registered(document_entry(**changes)),
    type_code=st.none() | codes,
    event_code_list=several(codes),
    author=several(people),
    creation_time=st.none() | times,
    reference_id_list=several(words.map(CXi)),
)
sets = st.builds(
    lambda **changes: registered(submission_set(**changes)), author=several(people), submission_time=st.none() | times
)
folders = st.builds(
    lambda **changes: registered(folder(**changes)), code_list=several(codes), last_update_time=st.none() | times
)


@dataclass(frozen=True)
class Step:
    """A change of a dossier, to be completed with what is registered by then."""

    patient: CX
    objects: tuple[AnyObject, ...]
    linked: tuple[tuple[str, int, int], ...]
    deprecated: int
    removed: tuple[int, ...]


steps = st.builds(
    Step,
    st.sampled_from(PATIENTS),
    st.lists(st.one_of(entries, sets, folders), min_size=1, max_size=4).map(tuple),
    several(st.tuples(st.sampled_from(AssociationType), st.integers(0, 9), st.integers(0, 9))),
    st.integers(0, 9),
    several(st.integers(0, 9)).filter(lambda numbers: len(numbers) < 3),
)


def owned_by(patient: CX, item: AnyObject) -> AnyObject:
    return item if isinstance(item, Association) else replace(item, patient_id=patient)


def completed(step: Step, dossier: Sequence[AnyObject]) -> RegistryChange:
    """The change, with associations between what is there and what comes, and one deprecation of what is there."""
    owned = [owned_by(step.patient, item) for item in step.objects]
    ends = [*dossier, *owned]
    links = [
        registered(association(kind, ends[source % len(ends)], ends[target % len(ends)]))
        for kind, source, target in step.linked
    ]
    revisions: list[Revision] = []
    if dossier:
        item = dossier[step.deprecated % len(dossier)]
        revisions.append(Revision(item.entry_uuid, availability_status=AvailabilityStatus.DEPRECATED))
    removed = {dossier[number % len(dossier)].entry_uuid for number in step.removed if dossier} - {
        revision.entry_uuid for revision in revisions
    }
    gone = tuple(item for item in dossier if item.entry_uuid in removed)
    return change_of(*owned, *links, patient=step.patient, revisions=tuple(revisions), removed=gone)


_OPERATORS = (
    Operator.EQUALS, Operator.ANY_OF, Operator.ALL_OF_ANY_OF, Operator.NONE_OF, Operator.LIKE, Operator.UNLIKE,
    Operator.STARTS_WITH, Operator.ENDS_WITH,
)  # fmt: skip


@st.composite
def matches(draw: st.DrawFn, kind: ObjectKind, registered_objects: Sequence[AnyObject]) -> Match:
    """A match on any column, with values that occur and values that do not."""
    column = draw(st.sampled_from(SEARCH_COLUMNS[kind]))
    occurring: list[str] = []
    for item in registered_objects:
        if item.kind is kind and (value := search_columns(item)[column.name]):
            occurring += [value] if isinstance(value, str) else value
    values = st.sampled_from(occurring or ["nothing"]) | words
    group = st.lists(values, max_size=3).map(tuple)
    match column.shape:
        case Shape.TIME:
            operator = draw(st.sampled_from(sorted(OF_TIMES, key=lambda each: each.value)))
            return Match(column.name, operator, ((draw(st.sampled_from([*occurring, "20260228000000"])),),))
        case _:
            operator = draw(st.sampled_from(_OPERATORS if column.shape is not Shape.TEXTS else _OPERATORS[:6]))
    if operator is Operator.EQUALS:
        return Match(column.name, operator, ((draw(values),),))
    if operator in (Operator.ALL_OF_ANY_OF, Operator.NONE_OF):
        return Match(column.name, operator, draw(st.lists(group, min_size=1, max_size=3).map(tuple)))
    if operator in (Operator.STARTS_WITH, Operator.ENDS_WITH):
        cut = slice(0, 3) if operator is Operator.STARTS_WITH else slice(-3, None)
        return Match(
            column.name, operator, (draw(st.lists(values.map(lambda value: value[cut]), max_size=3).map(tuple)),)
        )
    if operator in (Operator.LIKE, Operator.UNLIKE):
        patterns = st.builds(lambda a, b, c: f"{a}{b}{c}", *[st.sampled_from(["%", "_", ""]) | values] * 3)
        return Match(column.name, operator, (draw(st.lists(patterns, max_size=3).map(tuple)),))
    return Match(column.name, operator, (draw(group),))


@given(st.lists(steps, min_size=1, max_size=5), st.data())
@settings(max_examples=25, deadline=None)
def test_every_search_is_answered_as_by_plain_dictionaries(given_steps: list[Step], data: st.DataObject) -> None:
    async def compare(folder_name: str) -> None:
        store = SqliteMetadataStore(Path(folder_name) / "registry.sqlite", codec=codec)
        await assert_answers_as_dictionaries(store, given_steps, data)

    with tempfile.TemporaryDirectory() as folder_name:
        asyncio.run(compare(folder_name))


@given(given_steps=st.lists(steps, min_size=1, max_size=5), data=st.data())
@settings(max_examples=25, deadline=None)
def test_every_search_is_answered_as_by_plain_dictionaries_on_mongodb(
    mongodb_server: StoreServer, given_steps: list[Step], data: st.DataObject
) -> None:
    async def compare(name: str) -> None:
        store = await MongoMetadataStore.opened(mongodb_server.url, database=name, codec=codec)
        await assert_answers_as_dictionaries(store, given_steps, data)

    with some_database(mongodb_server.url) as name:
        asyncio.run(compare(name))


async def assert_answers_as_dictionaries(
    store: MetadataStore, given_steps: Sequence[Step], data: st.DataObject
) -> None:
    model = MemoryStore(codec)
    try:
        for step in given_steps:
            dossier = [item for each, item in model.objects.items() if model.owners[each] == step.patient.text]
            change = completed(step, dossier)
            await commit(model, change)
            await commit(store, change)
        everything = list(model.objects.values())
        for _ in range(12):
            await assert_same_answers(model, store, everything, data)
        await assert_same_facts(model, store, everything, data)
        assert [dossier.problems async for dossier in checked_dossiers(store, codec) if dossier.problems] == []
    finally:
        await store.close()


async def assert_same_answers(
    model: MemoryStore, store: MetadataStore, everything: Sequence[AnyObject], data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(ObjectKind))
    patients = data.draw(st.lists(st.sampled_from([each.text for each in PATIENTS]), max_size=2, unique=True))
    criteria = Criteria(kind, tuple(data.draw(st.lists(matches(kind, everything), max_size=2))), tuple(patients))

    expected = sorted(await model.find(criteria), key=lambda each: each.patient_id)

    # The order of dossiers is the store's; the order within a dossier is promised.
    assert sorted(await store.find(criteria), key=lambda each: each.patient_id) == expected
    assert await store.count(criteria) == len(expected)


async def assert_same_facts(
    model: MemoryStore, store: MetadataStore, everything: Sequence[AnyObject], data: st.DataObject
) -> None:
    uuids = st.sampled_from([item.entry_uuid for item in everything])
    names = uuids | st.sampled_from([getattr(item, "unique_id", None) or "2.25.1" for item in everything])
    replaced = data.draw(st.frozensets(uuids, max_size=2))
    questions = Questions(
        data.draw(st.sampled_from(PATIENTS)).text,
        data.draw(st.frozensets(names, max_size=3)),
        data.draw(st.frozensets(names, max_size=3)),
        replaced | data.draw(st.frozensets(uuids, max_size=2)),
        replaced,
        data.draw(st.frozensets(st.sampled_from([each.text for each in PATIENTS]), max_size=2)),
    )

    expected, facts = await model.known(questions), await store.known(questions)

    assert replace(facts, relations=()) == replace(expected, relations=())
    by_uuid = {relation.entry_uuid: relation for relation in expected.relations}
    assert {relation.entry_uuid: relation for relation in facts.relations} == by_uuid
