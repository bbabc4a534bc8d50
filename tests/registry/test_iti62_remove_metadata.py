"""Remove Metadata: all that is named goes, or nothing, and nothing is left that refers to it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from registry.actor import Registry
from registry.dossier_check import checked_dossiers
from registry.metadata_store import Criteria, MetadataStore
from tests.builders import (
    OTHER_PATIENT,
    association,
    document_entry,
    entry_uuid,
    folder,
    has_member,
    submission,
    text,
)
from tests.xds.broken_updates import next_version, status_update, update_of
from xds.ebxml_writer import codec
from xds.errors import ErrorCode, ResponseStatus
from xds.metadata import AnyObject, Association, AssociationType, Folder, ObjectKind, Submission


@dataclass
class Desk:
    """A registry, and what is asked of it in these tests."""

    store: MetadataStore
    registry: Registry

    async def register(self, sent: Submission) -> Submission:
        response = await self.registry.register_document_set(sent)
        assert response.succeeded, response.errors
        return sent

    async def there(self) -> dict[str, AnyObject]:
        """All that is registered."""
        found = [each for kind in ObjectKind for each in await self.store.find(Criteria(kind))]
        return {each.entry_uuid: codec.read(each.ebrim or b"") for each in found}

    async def remove(self, *items: AnyObject) -> None:
        response = await self.registry.remove_metadata([item.entry_uuid for item in items])
        assert response.succeeded, response.errors

    async def refused(self, *items: AnyObject) -> set[str]:
        """The codes of a refusal, which removes nothing."""
        before = await self.there()
        response = await self.registry.remove_metadata([item.entry_uuid for item in items])
        assert response.status is ResponseStatus.FAILURE
        assert await self.there() == before
        return {str(error.code) for error in response.errors}

    async def problems(self) -> list[str]:
        return [problem async for dossier in checked_dossiers(self.store, codec) for problem in dossier.problems]


@pytest.fixture
def desk(any_store: MetadataStore) -> Desk:
    return Desk(any_store, Registry(store=any_store))


def link_between(sent: Submission, source: AnyObject, target: AnyObject) -> Association:
    [link] = [
        each
        for each in sent.associations
        if (each.source_object, each.target_object) == (source.entry_uuid, target.entry_uuid)
    ]
    return link


async def test_a_submission_is_removed_whole_and_nothing_of_it_is_left_in_the_log(desk: Desk) -> None:
    stays = await desk.register(submission(document_entry()))
    gone = await desk.register(submission(document_entry(title=text("A secret of the patient"))))

    await desk.remove(*gone.objects)

    assert (await desk.there()).keys() == {item.entry_uuid for item in stays.objects}
    bodies = [record.body or b"" async for record in desk.store.records()]
    assert len(bodies) == 3
    assert not any(b"A secret of the patient" in body for body in bodies)
    assert await desk.problems() == []
    await desk.store.reindex()
    assert (await desk.there()).keys() == {item.entry_uuid for item in stays.objects}
    assert await desk.problems() == []


async def test_the_registry_tells_what_was_removed_from_what_never_was(desk: Desk) -> None:
    sent, kept = submission(document_entry()), submission(document_entry())
    for each in (sent, kept):
        await desk.register(each)

    await desk.remove(*sent.objects)

    for item in sent.objects:
        assert await desk.registry.removed(item.entry_uuid) is item.kind
    for unremoved in (*kept.objects, document_entry()):
        assert await desk.registry.removed(unremoved.entry_uuid) is None


async def test_what_was_removed_can_not_be_updated_or_removed_again(desk: Desk) -> None:
    entry = document_entry()
    gone = await desk.register(submission(entry))
    await desk.remove(*gone.objects)

    response = await desk.registry.update_document_set(update_of(next_version(entry)))

    assert [error.code for error in response.errors] == [ErrorCode.METADATA_VERSION_ERROR]
    assert await desk.refused(entry) == {"UnresolvedReferenceException"}


async def test_what_another_object_refers_to_stays(desk: Desk) -> None:
    entry = document_entry()
    sent = await desk.register(submission(entry))

    assert await desk.refused(sent.submission_set) == {"ReferencesExistException"}
    assert await desk.refused(entry) == {"ReferencesExistException"}


async def test_nothing_is_left_without_its_submission_set_nor_that_without_anything(desk: Desk) -> None:
    entry, case = document_entry(), folder()
    sent = await desk.register(submission(entry, folders=(case,), associations=(has_member(case, entry),)))
    links = sent.associations

    assert await desk.refused(link_between(sent, sent.submission_set, case)) == {"XDSUnreferencedObjectException"}
    assert await desk.refused(entry, case, *links) == {"XDSUnreferencedObjectException"}


async def test_a_change_of_its_status_is_no_membership_of_a_document(desk: Desk) -> None:
    entry = document_entry()
    sent = await desk.register(submission(entry))
    change = status_update(entry)
    assert (await desk.registry.update_document_set(change)).succeeded

    assert await desk.refused(sent.submission_set, *sent.associations) == {"XDSUnreferencedObjectException"}

    await desk.remove(*sent.objects, *change.objects)
    assert await desk.there() == {}


async def test_a_document_is_taken_out_of_a_folder_whose_update_time_tells(desk: Desk) -> None:
    entry, case = document_entry(), folder()
    member = has_member(case, entry)
    sent = await desk.register(submission(entry, folders=(case,), associations=(member,)))

    await desk.remove(member, link_between(sent, sent.submission_set, member))

    there = await desk.there()
    assert there.keys() == {item.entry_uuid for item in sent.objects if item is not member} - {
        link_between(sent, sent.submission_set, member).entry_uuid
    }
    left = there[case.entry_uuid]
    assert isinstance(left, Folder)
    assert left.last_update_time is not None


async def test_what_was_replaced_goes_with_what_says_so(desk: Desk) -> None:
    old, new = document_entry(), document_entry()
    first = await desk.register(submission(old))
    replacing = association(AssociationType.RPLC, new, old)
    second = await desk.register(submission(new, associations=(replacing,)))

    assert await desk.refused(replacing) == {"XDSMetadataModelException"}
    assert "ReferencesExistException" in await desk.refused(new, second.submission_set, second.associations[0])
    await desk.remove(replacing, *first.objects)

    assert new.entry_uuid in await desk.there()


async def test_objects_of_two_patients_are_not_removed_together(desk: Desk) -> None:
    first = await desk.register(submission(document_entry()))
    second = await desk.register(submission(document_entry(patient_id=OTHER_PATIENT)))

    assert await desk.refused(*first.objects, *second.objects) == {"XDSPatientIdDoesNotMatch"}


async def test_all_versions_of_a_document_are_removed_with_what_brought_them(desk: Desk) -> None:
    entry = document_entry()
    first = await desk.register(submission(entry))
    update = update_of(next_version(entry))
    assert (await desk.registry.update_document_set(update)).succeeded

    await desk.remove(*first.objects, *update.objects)

    assert await desk.there() == {}
    assert await desk.problems() == []


async def test_every_wrong_reference_is_told_and_none_at_all_is_an_error(desk: Desk) -> None:
    unknown = [entry_uuid(), entry_uuid()]

    both = await desk.registry.remove_metadata(unknown)
    none = await desk.registry.remove_metadata([])

    assert sorted(error.location for error in both.errors) == sorted(unknown)
    assert [error.code for error in none.errors] == [ErrorCode.REGISTRY_ERROR]
