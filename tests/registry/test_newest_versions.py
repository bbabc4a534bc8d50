"""Of an object with several versions, pages show the newest alone, whoever's it is and whatever was removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from registry.actor import Registry
from registry.metadata_store import MetadataStore
from tests.builders import (
    OTHER_PATIENT,
    PATIENT,
    association,
    document_entry,
    folder,
    has_member,
    submission,
    text,
)
from tests.xds.broken_updates import next_version, status_update, update_of
from xds.actors import RegistryResponse
from xds.hl7v2 import CX
from xds.metadata import AssociationType, AvailabilityStatus, DocumentEntry, Folder, ObjectKind
from xds.paged_search import NEWEST, Page, PagedSearch
from xds.stored_queries import Condition, Operator

DEPRECATED = Condition("availability_status", Operator.ANY_OF, ((AvailabilityStatus.DEPRECATED.value,),))
ORDERED_BY = {ObjectKind.DOCUMENT_ENTRY: "creation_time", ObjectKind.FOLDER: "last_update_time"}


@dataclass
class Desk:
    """A registry, and what its pages show."""

    store: MetadataStore
    registry: Registry

    async def done(self, answer: Any) -> None:
        response: RegistryResponse = await answer
        assert response.succeeded, response.errors

    async def register(self, *entries: DocumentEntry, **more: Any) -> None:
        await self.done(self.registry.register_document_set(submission(*entries, **more)))

    async def update(self, *items: DocumentEntry | Folder, **more: Any) -> None:
        await self.done(self.registry.update_document_set(update_of(*items, **more)))

    async def remove(self, *entry_uuids: str) -> None:
        await self.done(self.registry.remove_metadata(entry_uuids))

    async def page(self, *conditions: Condition, patient: CX = PATIENT, of: Any = ObjectKind.DOCUMENT_ENTRY) -> Page:
        search = PagedSearch(of, (NEWEST, *conditions), (patient.text,), ORDERED_BY[of], 50)
        return await self.registry.page(search)

    async def shown(self, *conditions: Condition, patient: CX = PATIENT) -> list[str]:
        """The entryUUIDs of the documents of a patient that are shown."""
        page = await self.page(*conditions, patient=patient)
        assert page.total == len(page.objects)
        return [each.entry_uuid for each in page.objects]


@pytest.fixture
def desk(any_store: MetadataStore) -> Desk:
    return Desk(any_store, Registry(store=any_store))


async def test_the_newest_version_is_shown_alone_with_the_id_that_all_have(desk: Desk) -> None:
    first = document_entry()
    await desk.register(first)
    second = next_version(first, title=text("Corrected"))

    await desk.update(second)

    [found] = (await desk.page()).objects
    assert (found.entry_uuid, found.logical_id, found.version) == (second.entry_uuid, first.entry_uuid, "2")
    assert await desk.shown(DEPRECATED) == []


async def test_a_document_that_is_deprecated_without_a_new_version_is_shown_still(desk: Desk) -> None:
    first = document_entry()
    await desk.register(first)
    second = next_version(first)
    await desk.update(second)

    await desk.done(desk.registry.update_document_set(status_update(second)))

    assert await desk.shown(DEPRECATED) == [second.entry_uuid]


async def test_a_version_of_what_is_deprecated_takes_its_place_too(desk: Desk) -> None:
    first = document_entry()
    await desk.register(first)
    await desk.done(desk.registry.update_document_set(status_update(first)))
    second = next_version(first)

    await desk.done(desk.registry.restricted_update_document_set(update_of(second)))

    assert await desk.shown(DEPRECATED) == [second.entry_uuid]


async def test_nothing_is_shown_of_a_document_that_went_to_another_patient(desk: Desk) -> None:
    first = document_entry()
    await desk.register(first)
    second = next_version(first, patient_id=OTHER_PATIENT)

    await desk.update(second)

    assert await desk.shown() == []
    assert await desk.shown(patient=OTHER_PATIENT) == [second.entry_uuid]


async def test_of_a_folder_the_newest_version_is_shown_with_what_it_holds(desk: Desk) -> None:
    entry, case = document_entry(), folder()
    await desk.register(entry, folders=(case,), associations=(has_member(case, entry),))
    new = next_version(case, title=text("Renamed"))
    newer = next_version(entry, title=text("Corrected"))
    await desk.update(new, submission_set_status=None)
    await desk.update(newer)

    [found] = (await desk.page(of=ObjectKind.FOLDER)).objects

    assert (found.entry_uuid, found.logical_id, found.version) == (new.entry_uuid, case.entry_uuid, "2")
    [link] = found.links
    assert (link.target, link.target_logical_id) == (newer.entry_uuid, entry.entry_uuid)


async def test_a_relation_tells_the_logical_id_of_what_it_leads_to(desk: Desk) -> None:
    old, new = document_entry(), document_entry()
    await desk.register(old)
    await desk.register(new, associations=(association(AssociationType.APND, new, old),))
    newer = next_version(old)
    await desk.update(newer)

    found = {each.entry_uuid: each for each in (await desk.page()).objects}

    [link] = found[new.entry_uuid].links
    assert (link.target, link.target_logical_id) == (newer.entry_uuid, old.entry_uuid)


@pytest.mark.parametrize("patient", [PATIENT, OTHER_PATIENT], ids=["of the patient", "of another patient"])
async def test_the_version_before_is_shown_again_where_the_newest_was_removed(desk: Desk, patient: CX) -> None:
    first = document_entry()
    await desk.register(first)
    second = next_version(first, patient_id=patient)
    sent = update_of(second)
    await desk.done(desk.registry.update_document_set(sent))
    assert await desk.shown(DEPRECATED) == []

    await desk.remove(*(item.entry_uuid for item in sent.objects))

    assert await desk.shown(DEPRECATED) == [first.entry_uuid]


async def test_pages_are_the_same_after_the_index_was_written_again(desk: Desk) -> None:
    gone, stays, removed = document_entry(), document_entry(), document_entry()
    for each in (gone, stays, removed):
        await desk.register(each)
    await desk.update(next_version(gone, patient_id=OTHER_PATIENT))
    await desk.update(next_version(stays))
    sent = update_of(next_version(removed))
    await desk.done(desk.registry.update_document_set(sent))
    await desk.remove(*(item.entry_uuid for item in sent.objects))
    before = [sorted(await desk.shown(patient=each)) for each in (PATIENT, OTHER_PATIENT)]
    assert [len(each) for each in before] == [2, 1]

    await desk.store.reindex()

    assert [sorted(await desk.shown(patient=each)) for each in (PATIENT, OTHER_PATIENT)] == before


async def test_pages_follow_when_a_revised_version_is_revised_once_more(desk: Desk) -> None:
    entry, case = document_entry(), folder()
    membership = has_member(case, entry)
    sent = submission(entry, folders=(case,), associations=(membership,))
    await desk.done(desk.registry.register_document_set(sent))
    new = next_version(case)
    await desk.update(new, submission_set_status=None, association_propagation="no")

    links = [each for each in sent.associations if membership.entry_uuid in (each.entry_uuid, each.target_object)]
    await desk.remove(*(each.entry_uuid for each in links))

    found = (await desk.page(of=ObjectKind.FOLDER)).objects
    assert [each.entry_uuid for each in found] == [new.entry_uuid]
