"""Reads that tell of merges: a patient's dossier is not all of a patient who was merged. On every store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from registry.metadata_store import Criteria, Match, MetadataStore, PatientsMerged
from tests.builders import document_entry, registered
from tests.registry.dossiers import identify, register, submitted
from tests.registry.memory_store import MemoryStore
from tests.registry.stores import ADAPTERS, Opening, opening_of
from xds.ebxml_writer import codec
from xds.hl7v2 import CX
from xds.metadata import DocumentEntry, ObjectKind
from xds.paged_search import PagedSearch
from xds.stored_queries import Condition, Operator

ENTRY = ObjectKind.DOCUMENT_ENTRY
SURVIVOR, SUBSUMED, OTHER, UNHEARD = (CX.of(str(number), "2.25.7331") for number in range(4))


@pytest.fixture(params=["memory", *ADAPTERS])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opening]:
    """Opens the same store, as often as it is called."""
    if request.param == "memory":
        memory = MemoryStore(codec)

        async def open_memory() -> MetadataStore:
            return memory

        yield open_memory
        return
    async with opening_of(request.param, request, tmp_path, codec) as opening:
        yield opening


@pytest.fixture
async def store(opened: Opening) -> MetadataStore:
    return await opened()


def entry(patient: CX) -> DocumentEntry:
    return registered(document_entry(patient_id=patient))


async def documents_for(store: MetadataStore, *patients: CX, each: int = 1) -> list[DocumentEntry]:
    """One dossier for every patient, with as many documents; the patients are known to a feed."""
    entries = []
    for patient in patients:
        await identify(store, patient)
        of_patient = [entry(patient) for _ in range(each)]
        await register(store, *submitted(*of_patient, patient=patient), patient=patient)
        entries += of_patient
    return entries


async def find(store: MetadataStore, *patients: CX) -> int:
    return len(await store.find(Criteria(ENTRY, (), texts(*patients)), unmerged=True))


async def count(store: MetadataStore, *patients: CX) -> int:
    return await store.count(Criteria(ENTRY, (), texts(*patients)), unmerged=True)


async def page(store: MetadataStore, *patients: CX) -> int:
    return len((await store.page(search(*patients), unmerged=True)).objects)


def texts(*patients: CX) -> tuple[str, ...]:
    return tuple(patient.text for patient in patients)


def search(*patients: CX, limit: int = 50) -> PagedSearch:
    return PagedSearch(ENTRY, (), texts(*patients), "creation_time", limit)


def named(*entries: DocumentEntry) -> tuple[Match, ...]:
    return (Match.any_of("entry_uuid", tuple(each.entry_uuid for each in entries)),)


each_read = pytest.mark.parametrize("read", [find, count, page])
Read = Callable[..., Awaitable[int]]


@each_read
async def test_patients_who_were_never_merged_are_read_as_ever(store: MetadataStore, read: Read) -> None:
    await documents_for(store, SURVIVOR, SUBSUMED, OTHER)
    await register(store, *submitted(patient=UNHEARD), patient=UNHEARD)
    await identify(store, SUBSUMED, merged_into=SURVIVOR)

    assert await read(store, OTHER) == 1
    assert await read(store, UNHEARD) == 1
    assert await read(store, OTHER, UNHEARD) == 2
    assert await read(store, CX.of("nobody", "2.25.7331")) == 0


@each_read
@pytest.mark.parametrize("each", [0, 1, 300], ids=["no documents", "a document", "many documents"])
@pytest.mark.parametrize("patient", [SURVIVOR, SUBSUMED], ids=["survivor", "subsumed"])
async def test_both_patients_of_a_merge_are_told_of_it(
    store: MetadataStore, read: Read, each: int, patient: CX
) -> None:
    await documents_for(store, SURVIVOR, SUBSUMED, each=each)
    await identify(store, SUBSUMED, merged_into=SURVIVOR)

    with pytest.raises(PatientsMerged):
        await read(store, patient)


@each_read
async def test_all_patients_of_a_chain_of_merges_are_told_of_it(store: MetadataStore, read: Read) -> None:
    await documents_for(store, SURVIVOR, SUBSUMED, OTHER)
    await identify(store, SUBSUMED, merged_into=OTHER)
    await identify(store, OTHER, merged_into=SURVIVOR)

    for patient in (SURVIVOR, SUBSUMED, OTHER):
        with pytest.raises(PatientsMerged):
            await read(store, patient)


@each_read
async def test_a_merge_between_two_reads_is_told_by_the_second_in_every_process(opened: Opening, read: Read) -> None:
    first, second = await opened(), await opened()
    await documents_for(first, SURVIVOR, SUBSUMED)
    for patient in (SURVIVOR, SUBSUMED):
        assert await read(second, patient) == 1

    await identify(first, SUBSUMED, merged_into=SURVIVOR)

    for patient in (SURVIVOR, SUBSUMED):
        with pytest.raises(PatientsMerged):
            await read(second, patient)


@each_read
async def test_of_several_patients_one_who_was_merged_is_enough(store: MetadataStore, read: Read) -> None:
    await documents_for(store, SURVIVOR, SUBSUMED, OTHER, UNHEARD)
    await identify(store, SUBSUMED, merged_into=SURVIVOR)

    for merged in (SURVIVOR, SUBSUMED):
        with pytest.raises(PatientsMerged):
            await read(store, OTHER, merged, UNHEARD)


async def test_a_limit_hides_no_merge(store: MetadataStore) -> None:
    patients = [CX.of(str(number), "2.25.7332") for number in range(4)]
    await documents_for(store, *patients, SURVIVOR, SUBSUMED, each=2)
    await identify(store, SUBSUMED, merged_into=SURVIVOR)

    for merged in (SURVIVOR, SUBSUMED):
        criteria = Criteria(ENTRY, (), texts(*patients, merged))
        for limit in (1, 3):
            with pytest.raises(PatientsMerged):
                await store.find(criteria, limit=limit, unmerged=True)
    assert len(await store.find(Criteria(ENTRY, (), texts(*patients)), limit=3, unmerged=True)) == 3


async def test_a_merge_between_two_pages_is_told_by_the_second(store: MetadataStore) -> None:
    await documents_for(store, SURVIVOR, SUBSUMED, each=3)
    for patient in (SURVIVOR, SUBSUMED):
        whole = search(patient, limit=2)
        first = await store.page(whole, unmerged=True)
        assert (len(first.objects), first.total) == (2, 3)

    await identify(store, SUBSUMED, merged_into=SURVIVOR)

    for patient in (SURVIVOR, SUBSUMED):
        first = await store.page(search(patient, limit=2))
        following = PagedSearch(
            ENTRY, (), texts(patient), "creation_time", 2, after=first.objects[-1].place, as_of=first.as_of
        )
        with pytest.raises(PatientsMerged):
            await store.page(following, unmerged=True)
        assert len((await store.page(following)).objects) == 1


async def test_objects_that_are_named_without_a_patient_tell_of_their_patient(store: MetadataStore) -> None:
    of_survivor, of_subsumed, of_other = await documents_for(store, SURVIVOR, SUBSUMED, OTHER)
    await identify(store, SUBSUMED, merged_into=SURVIVOR)

    (only,) = await store.find(Criteria(ENTRY, named(of_other)), unmerged=True)
    assert only.patient_id == OTHER.text
    for merged in (of_survivor, of_subsumed):
        with pytest.raises(PatientsMerged):
            await store.find(Criteria(ENTRY, named(merged, of_other)), unmerged=True)
    condition = Condition("entry_uuid", Operator.ANY_OF, ((of_subsumed.entry_uuid, of_other.entry_uuid),))
    with pytest.raises(PatientsMerged):
        await store.page(PagedSearch(ENTRY, (condition,), (), "creation_time", 50), unmerged=True)


async def test_objects_that_nothing_but_their_kind_is_known_of_tell_of_their_patient(store: MetadataStore) -> None:
    await documents_for(store, OTHER, SUBSUMED)
    everything = PagedSearch(ENTRY, (), (), "creation_time", 50)
    assert len(await store.find(Criteria(ENTRY), unmerged=True)) == 2
    assert len((await store.page(everything, unmerged=True)).objects) == 2

    await identify(store, SUBSUMED, merged_into=SURVIVOR)

    with pytest.raises(PatientsMerged):
        await store.find(Criteria(ENTRY), unmerged=True)
    with pytest.raises(PatientsMerged):
        await store.page(everything, unmerged=True)


@each_read
async def test_merges_are_told_after_a_reindex(store: MetadataStore, read: Read) -> None:
    await documents_for(store, SURVIVOR, SUBSUMED, OTHER)
    await identify(store, SUBSUMED, merged_into=SURVIVOR)

    await store.reindex()

    for patient in (SURVIVOR, SUBSUMED):
        with pytest.raises(PatientsMerged):
            await read(store, patient)
    assert await read(store, OTHER) == 1


async def test_who_asks_for_dossiers_is_answered_whatever_was_merged(store: MetadataStore) -> None:
    await documents_for(store, SURVIVOR, SUBSUMED)
    await identify(store, SUBSUMED, merged_into=SURVIVOR)

    both = Criteria(ENTRY, (), texts(SURVIVOR, SUBSUMED))
    assert len(await store.find(both)) == await store.count(both) == 2
    assert len(await store.find(Criteria(ENTRY, (), texts(SUBSUMED)))) == 1
    assert len((await store.page(search(SURVIVOR, SUBSUMED))).objects) == 2
