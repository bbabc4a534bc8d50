"""What is kept of dossiers is never out of date, and never more than it may be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.kept_dossiers import KeptDossiers, Moment
from registry.metadata_store import MetadataStore, PatientsMerged, Revision
from registry.metadata_store_sqlite import SqliteMetadataStore
from registry.patient_identities import OpenPatients
from registry.patient_register import PatientRegister
from tests.builders import OTHER_PATIENT, PATIENT, PATIENT_AUTHORITY, association, document_entry, registered
from tests.registry.dossiers import identify, register, submitted
from tests.registry.stores import TellingRenderer
from tests.registry.test_pages import CURRENT, first_page
from xds.actors import Registration
from xds.ebxml_writer import codec
from xds.metadata import AnyObject, AssociationType, AvailabilityStatus, ObjectKind
from xds.paged_search import Link, Page, PagedObject, Place

_ENOUGH = 1024 * 1024


@dataclass
class Shown:
    """How many objects of pages were kept, and how many were read."""

    kept: int = 0
    read: int = 0

    def counted(self, kept: int, read: int) -> None:
        self.kept, self.read = kept, read


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
async def store(tmp_path: Path, shown: Shown) -> AsyncIterator[MetadataStore]:
    """A store of a process that keeps what it shows."""
    kept = KeptDossiers(_ENOUGH)
    kept.counted = shown.counted
    store = SqliteMetadataStore(tmp_path / "registry.sqlite", codec=codec, renderer=TellingRenderer(), kept=kept)
    yield store
    await store.close()


@pytest.fixture
async def other(tmp_path: Path, store: MetadataStore) -> AsyncIterator[MetadataStore]:
    """The same store as another process has it."""
    opened = SqliteMetadataStore(tmp_path / "registry.sqlite", codec=codec, renderer=TellingRenderer())
    yield opened
    await opened.close()


async def test_what_was_shown_is_not_read_again(store: MetadataStore, shown: Shown) -> None:
    await register(store, *submitted(*[registered(document_entry()) for _ in range(5)]))
    first = await store.page(first_page(CURRENT))
    assert (shown.kept, shown.read) == (0, 5)

    again = await store.page(first_page(CURRENT))
    filtered = await store.page(first_page(limit=2))

    assert again == first
    assert filtered.objects == first.objects[:2]
    assert (shown.kept, shown.read) == (2, 0)


async def test_what_was_made_of_a_page_comes_with_it_until_the_dossier_changes(
    store: MetadataStore, other: MetadataStore, shown: Shown
) -> None:
    await register(store, *submitted(*[registered(document_entry()) for _ in range(5)]))
    first = await store.page(first_page(CURRENT))
    first.made["answer"] = b"of five documents"

    again = await store.page(first_page(CURRENT))
    another = await store.page(first_page(CURRENT, limit=3))
    await register(other, *submitted(registered(document_entry())))
    later = await store.page(first_page(CURRENT))

    assert again.made == {"answer": b"of five documents"}
    assert (another.made, later.made) == ({}, {})
    assert (len(later.objects), later.total) == (6, 6)
    assert (shown.kept, shown.read) == (0, 6)


async def test_a_page_of_a_patient_who_is_merged_meanwhile_is_not_given_as_it_was(store: MetadataStore) -> None:
    patients = PatientRegister(store=store, well_formed=OpenPatients(frozenset({PATIENT_AUTHORITY})))
    for patient in (PATIENT, OTHER_PATIENT):
        await identify(store, patient)
    await register(store, *submitted())
    await store.page(first_page(), unmerged=True)

    await patients.merge([OTHER_PATIENT], [PATIENT])

    with pytest.raises(PatientsMerged):
        await store.page(first_page(), unmerged=True)


async def test_what_another_process_changes_is_shown_at_once(
    store: MetadataStore, other: MetadataStore, shown: Shown
) -> None:
    old, new = registered(document_entry()), registered(document_entry())
    await register(store, *submitted(old))
    assert (await store.page(first_page())).total == 1

    await register(
        other,
        *submitted(new),
        registered(association(AssociationType.RPLC, new.entry_uuid, old.entry_uuid)),
        revisions=(Revision(old.entry_uuid, AvailabilityStatus.DEPRECATED.value),),
    )
    page = await store.page(first_page())

    assert page == await other.page(first_page())
    assert page.total == 2
    statuses = {each.entry_uuid: json.loads(each.resource or b"")[1] for each in page.objects}
    assert statuses == {old.entry_uuid: AvailabilityStatus.DEPRECATED.value, new.entry_uuid: new.availability_status}
    links = {each.entry_uuid: each.links for each in page.objects}
    replaced = Link(AssociationType.RPLC.value, old.entry_uuid, ObjectKind.DOCUMENT_ENTRY, old.entry_uuid)
    assert links[new.entry_uuid] == (replaced,)
    assert [each.entry_uuid for each in (await store.page(first_page(CURRENT))).objects] == [new.entry_uuid]


async def test_what_another_process_removes_is_not_shown(store: MetadataStore, other: MetadataStore) -> None:
    owner, entry, member = submitted(registered(document_entry()))
    await register(store, owner, entry, member)
    assert (await store.page(first_page())).total == 1

    await register(other, removed=(owner, entry, member))
    page = await store.page(first_page())

    assert (page.objects, page.total) == ((), 0)


async def test_an_index_that_another_process_writes_again_is_shown_at_once(
    store: MetadataStore, tmp_path: Path
) -> None:
    class OtherRenderer:
        def rendered(self, item: AnyObject, registration: Registration) -> bytes | None:  # noqa: ARG002
            return b'["otherwise"]'

    await register(store, *submitted())
    await store.page(first_page())
    other = SqliteMetadataStore(tmp_path / "registry.sqlite", codec=codec, renderer=OtherRenderer())

    await other.reindex()
    await other.close()

    assert [each.resource for each in (await store.page(first_page())).objects] == [b'["otherwise"]']


async def test_other_dossiers_stay_kept_when_one_changes(store: MetadataStore, shown: Shown) -> None:
    await register(store, *submitted())
    await register(store, *submitted(registered(document_entry(patient_id=OTHER_PATIENT))), patient=OTHER_PATIENT)
    both = (PATIENT.text, OTHER_PATIENT.text)
    await store.page(first_page(patients=both))

    await register(store, *submitted())
    page = await store.page(first_page(patients=both))

    assert len(page.objects) == 3
    assert (shown.kept, shown.read) == (1, 2)


# Without a store ----------------------------------------------------------------------------------------------------


def moment(dossier: int, sequence: int = 1) -> Moment:
    return Moment(dossier, sequence, 1)


def shown_object(octets: int) -> PagedObject:
    return PagedObject(ObjectKind.DOCUMENT_ENTRY, "urn:uuid:1", PATIENT.text, Place("", "1"), b"x" * octets, None)


def test_the_dossier_that_nobody_looked_at_for_longest_makes_room() -> None:
    kept = KeptDossiers(40_000)
    for dossier in (1, 2, 3):
        kept.keep(moment(dossier), {dossier: shown_object(10_000)})
    assert kept.objects(moment(1), [1])

    kept.keep(moment(4), {4: shown_object(10_000)})

    assert [dossier for dossier in (1, 2, 3, 4) if kept.objects(moment(dossier), [dossier])] == [1, 3, 4]


def test_a_dossier_that_is_too_large_keeps_what_was_shown_last() -> None:
    kept = KeptDossiers(40_000)

    for number in range(10):
        kept.keep(moment(1), {number: shown_object(15_000)})

    assert list(kept.objects(moment(1), range(10))) == [8, 9]


def test_pages_count_with_what_is_made_of_them() -> None:
    kept = KeptDossiers(40_000)
    page = Page((shown_object(15_000),), more=False, total=1, as_of="1")

    for question in ("first", "second", "third"):
        kept.keep_page(moment(1), question, page)

    assert [each for each in ("first", "second", "third") if kept.page(moment(1), each)] == ["third"]


def test_nothing_of_another_moment_is_found() -> None:
    kept = KeptDossiers(40_000)
    kept.keep(moment(1), {1: shown_object(10)})
    kept.keep_total(moment(1), "all", 7)

    assert not kept.objects(moment(1, sequence=2), [1])
    assert kept.total(moment(1, sequence=2), "all") is None
    assert not kept.objects(moment(1)._replace(generation=2), [1])
    assert kept.total(moment(1), "all") == 7
    kept.keep_page(moment(1), "all", Page((), more=False, total=0, as_of="1"))
    assert kept.page(moment(1, sequence=2), "all") is None


@pytest.mark.parametrize("most", [0, 500])
def test_what_is_larger_than_all_that_may_be_kept_is_not_kept(most: int) -> None:
    kept = KeptDossiers(most)

    kept.keep(moment(1), {1: shown_object(1_000)})

    assert not kept.objects(moment(1), [1])
