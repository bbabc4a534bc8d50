"""Update Document Set and Restricted Update Document Set: new versions, and what becomes of what is registered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from registry.actor import Registry
from registry.dossier_check import checked_dossiers
from registry.metadata_store import MetadataStore
from tests.builders import (
    OTHER_PATIENT,
    PATIENT,
    association,
    document_entry,
    entry_uuid,
    folder,
    has_member,
    oid,
    submission,
    text,
)
from tests.registry.memory_store import MemoryStore
from tests.xds.broken_submissions import Broken
from tests.xds.broken_updates import (
    BROKEN_UPDATES,
    DEPRECATED,
    next_version,
    status_update,
    submitted,
    update_of,
)
from xds.actors import QueryRequest, RegistryResponse, ReturnType
from xds.ebxml_writer import codec
from xds.errors import ErrorCode, ResponseStatus
from xds.hl7v2 import CX
from xds.metadata import (
    AnyObject,
    Association,
    AssociationType,
    AvailabilityStatus,
    DocumentEntry,
    DocumentEntryType,
    Folder,
    Submission,
)
from xds.stored_queries import STORED_QUERIES
from xds.transactions import ITI_57, ITI_92, Transaction

APPROVED = AvailabilityStatus.APPROVED
ANY_STATUS = f"('{APPROVED}','{DEPRECATED}')"
IDS = {row.name: row.id for row in STORED_QUERIES.values()}


@dataclass
class Desk:
    """A registry, and what is asked of it in these tests."""

    store: MetadataStore
    registry: Registry

    async def register(self, *entries: DocumentEntry, **more: Any) -> None:
        response = await self.registry.register_document_set(submission(*entries, **more))
        assert response.succeeded, response.errors

    async def update(self, update: Submission) -> None:
        response = await self.registry.update_document_set(update)
        assert response.succeeded, response.errors

    async def refused(self, update: Submission, transaction: Transaction = ITI_57) -> list[str]:
        """The codes of a refusal, which changes nothing."""
        before = [record.hash async for record in self.store.records()]
        serve = (
            self.registry.update_document_set if transaction is ITI_57 else self.registry.restricted_update_document_set
        )
        response = await serve(update)
        assert response.status is ResponseStatus.FAILURE
        assert [record.hash async for record in self.store.records()] == before
        return [str(error.code) for error in response.errors]

    async def ask(self, query: str, level: str = "1", **sent: str) -> list[Any]:
        slots = tuple((f"${name}", (value,)) for name, value in sent.items())
        request = QueryRequest(IDS[query], ReturnType.LEAF_CLASS, (*slots, ("$MetadataLevel", (level,))))
        response = await self.registry.stored_query(request)
        assert response.status is ResponseStatus.SUCCESS, response.errors
        return [codec.read(found.ebrim or b"") for found in response.found]

    async def versions(self, item: AnyObject) -> list[Any]:
        """All versions of a DocumentEntry or Folder, oldest first."""
        kind, query = ("Folder", "GetFolders") if isinstance(item, Folder) else ("DocumentEntry", "GetDocuments")
        found = await self.ask(query, "2", **{f"XDS{kind}LogicalID": f"('{item.logical_id or item.entry_uuid}')"})
        return sorted(found, key=lambda each: int(each.version or 0))

    async def links(self, *items: AnyObject | str, level: str = "2") -> list[Association]:
        named = ",".join(repr(item if isinstance(item, str) else item.entry_uuid) for item in items)
        return await self.ask("GetAssociations", level, uuid=f"({named})", XDSAssociationStatus=ANY_STATUS)

    async def problems(self) -> list[str]:
        return [problem async for dossier in checked_dossiers(self.store, codec) for problem in dossier.problems]


@pytest.fixture
def desk(any_store: MetadataStore) -> Desk:
    return Desk(any_store, Registry(store=any_store))


@pytest.fixture
def quick() -> Desk:
    """In memory: for what is decided without the store."""
    store = MemoryStore(codec)
    return Desk(store, Registry(store=store))


def ends(links: Iterable[Association]) -> set[tuple[str, str, str]]:
    return {(link.association_type, link.source_object, link.target_object) for link in links}


# New versions ------------------------------------------------------------------------------------------------------


async def test_a_new_version_follows_the_one_before_which_is_deprecated(desk: Desk) -> None:
    first = document_entry()
    await desk.register(first)
    second = next_version(first, title=text("Corrected"), hash=None, size=None, repository_unique_id=None)

    await desk.update(update_of(second))

    old, new = await desk.versions(first)
    assert (old.entry_uuid, old.version, old.availability_status) == (first.entry_uuid, "1", DEPRECATED)
    assert (new.entry_uuid, new.version, new.availability_status) == (second.entry_uuid, "2", APPROVED)
    assert new.logical_id == old.logical_id == first.entry_uuid
    assert new.title == text("Corrected")
    assert (new.hash, new.size, new.repository_unique_id) == (old.hash, old.size, old.repository_unique_id)
    assert await desk.problems() == []


async def test_a_version_chain_of_fifty_updates_stays_right_in_every_query(desk: Desk) -> None:
    first, other, case = document_entry(), document_entry(), folder()
    appended = association(AssociationType.APND, other, first)
    await desk.register(first, folders=(case,), associations=(has_member(case, first),))
    await desk.register(other, associations=(appended,))
    entry, holder = first, case

    for number in range(1, 51):
        entry = next_version(entry, title=text(f"Version {number + 1}"))
        if number % 10 == 0:
            holder = next_version(holder, title=text(f"Version {number // 10 + 1}"))
            await desk.update(update_of(holder, previous=str(number // 10), submission_set_status=None))
        await desk.update(update_of(entry, previous=str(number)))

    all_versions = await desk.versions(first)
    assert [each.version for each in all_versions] == [str(number) for number in range(1, 52)]
    assert [each.availability_status for each in all_versions] == [DEPRECATED] * 50 + [APPROVED]
    patient = {"XDSDocumentEntryPatientId": f"'{PATIENT}'", "XDSDocumentEntryStatus": ANY_STATUS}
    assert {each.entry_uuid for each in await desk.ask("FindDocuments", **patient)} == {
        entry.entry_uuid,
        other.entry_uuid,
    }
    assert len(await desk.ask("FindDocuments", "2", **patient)) == 52
    contents = await desk.ask("GetFolderAndContents", XDSFolderUniqueId=f"'{case.unique_id}'")
    assert {each.entry_uuid for each in contents if not isinstance(each, Association)} == {
        holder.entry_uuid,
        entry.entry_uuid,
    }
    related = await desk.ask(
        "GetRelatedDocuments",
        XDSDocumentEntryEntryUUID=f"'{entry.entry_uuid}'",
        AssociationTypes=f"('{AssociationType.APND}')",
    )
    assert {each.entry_uuid for each in related if isinstance(each, DocumentEntry)} == {
        entry.entry_uuid,
        other.entry_uuid,
    }
    holders = await desk.ask("GetFoldersForDocument", XDSDocumentEntryEntryUUID=f"'{entry.entry_uuid}'")
    assert [each.entry_uuid for each in holders] == [holder.entry_uuid]
    everything = await desk.ask(
        "GetAll",
        patientId=f"'{PATIENT}'",
        XDSDocumentEntryStatus=ANY_STATUS,
        XDSSubmissionSetStatus=ANY_STATUS,
        XDSFolderStatus=ANY_STATUS,
    )
    approved = [each for each in everything if isinstance(each, Association)]
    assert {(AssociationType.HAS_MEMBER, holder.entry_uuid, entry.entry_uuid),
            (AssociationType.APND, other.entry_uuid, entry.entry_uuid)} <= ends(approved)  # fmt: skip
    assert await desk.problems() == []


async def test_what_an_update_does_survives_the_index_being_written_again(desk: Desk) -> None:
    first, case = document_entry(), folder()
    await desk.register(first, folders=(case,), associations=(has_member(case, first),))
    await desk.update(update_of(next_version(first)))
    before = await desk.versions(first), await desk.links(case)

    await desk.store.reindex()

    assert (await desk.versions(first), await desk.links(case)) == before
    assert await desk.problems() == []


async def test_associations_follow_a_new_version_and_those_of_the_one_before_are_deprecated(desk: Desk) -> None:
    first, case, other = document_entry(), folder(), document_entry()
    await desk.register(first, folders=(case,), associations=(has_member(case, first),))
    await desk.register(other, associations=(association(AssociationType.XFRM, other, first),))
    second = next_version(first)

    await desk.update(update_of(second))

    links = [
        link for link in await desk.links(case, other) if link.source_object in (case.entry_uuid, other.entry_uuid)
    ]
    approved = ends(link for link in links if link.availability_status == APPROVED)
    assert approved == {
        (AssociationType.HAS_MEMBER, case.entry_uuid, second.entry_uuid),
        (AssociationType.XFRM, other.entry_uuid, second.entry_uuid),
    }
    assert {link.target_object for link in links if link.availability_status == DEPRECATED} == {first.entry_uuid}


async def test_associations_stay_where_they_are_not_to_follow(quick: Desk) -> None:
    first, case = document_entry(), folder()
    await quick.register(first, folders=(case,), associations=(has_member(case, first),))

    await quick.update(update_of(next_version(first), association_propagation="no"))

    assert [each.entry_uuid for each in await quick.ask("GetFolderAndContents", XDSFolderUniqueId=f"'{case.unique_id}'")
            ] == [case.entry_uuid]  # fmt: skip


async def test_the_members_of_a_folder_go_with_its_new_version(desk: Desk) -> None:
    first, second, case = document_entry(), document_entry(), folder()
    members = (has_member(case, first), has_member(case, second))
    await desk.register(first, second, folders=(case,), associations=members)

    await desk.update(update_of(next_version(case), submission_set_status=None))

    found = await desk.ask("GetFolderAndContents", XDSFolderUniqueId=f"'{case.unique_id}'")
    assert {each.entry_uuid for each in found if isinstance(each, DocumentEntry)} == {
        first.entry_uuid,
        second.entry_uuid,
    }
    assert [each.version for each in found if isinstance(each, Folder)] == ["2"]


async def test_a_document_goes_to_another_patient_where_it_is_connected_with_nothing(desk: Desk) -> None:
    first = document_entry()
    await desk.register(first)

    await desk.update(update_of(next_version(first, patient_id=OTHER_PATIENT)))

    old, new = await _both(desk, first)
    assert (old.patient_id, old.availability_status) == (PATIENT, DEPRECATED)
    assert (new.patient_id, new.availability_status, new.version) == (OTHER_PATIENT, APPROVED, "2")
    for patient, expected in ((PATIENT, []), (OTHER_PATIENT, [new.entry_uuid])):
        found = await desk.ask(
            "FindDocuments", XDSDocumentEntryPatientId=f"'{patient}'", XDSDocumentEntryStatus=ANY_STATUS
        )
        assert [each.entry_uuid for each in found] == expected
    assert await desk.problems() == []


async def _both(desk: Desk, first: DocumentEntry) -> tuple[Any, Any]:
    """The versions in the dossiers of both patients, which no one query returns."""
    found = []
    for patient in (PATIENT, OTHER_PATIENT):
        found += await desk.ask(
            "FindDocuments", "2", XDSDocumentEntryPatientId=f"'{patient}'", XDSDocumentEntryStatus=ANY_STATUS
        )
    first_one, second_one = found
    assert first_one.entry_uuid == first.entry_uuid
    return first_one, second_one


async def test_a_document_in_a_folder_does_not_go_to_another_patient(quick: Desk) -> None:
    first, case = document_entry(), folder()
    await quick.register(first, folders=(case,), associations=(has_member(case, first),))

    codes = await quick.refused(update_of(next_version(first, patient_id=OTHER_PATIENT)))

    assert codes == ["XDSPatientIDReconciliationError"]


# Statuses and associations -----------------------------------------------------------------------------------------


async def test_a_status_is_changed_there_and_back(desk: Desk) -> None:
    first = document_entry()
    await desk.register(first)

    await desk.update(status_update(first))
    assert [each.availability_status for each in await desk.versions(first)] == [DEPRECATED]
    await desk.update(status_update(first, DEPRECATED, APPROVED))

    assert [each.availability_status for each in await desk.versions(first)] == [APPROVED]
    assert await desk.problems() == []


async def test_a_new_version_may_get_its_status_with_it(quick: Desk) -> None:
    first = document_entry()
    await quick.register(first)
    second = next_version(first)
    both = update_of(second)
    change = status_update(first).associations[-1]
    change = replace(change, source_object=both.submission_set.entry_uuid)

    await quick.update(replace(both, associations=(*both.associations, change)))

    assert [each.availability_status for each in await quick.versions(first)] == [DEPRECATED, DEPRECATED]


async def test_an_association_is_submitted_between_what_is_registered(desk: Desk) -> None:
    first, second, case = document_entry(), document_entry(), folder()
    await desk.register(first, second, folders=(case,))
    link = association(AssociationType.APND, second, first)
    member = has_member(case, first)

    await desk.update(submitted(link))
    await desk.update(submitted(member))

    assert {link.entry_uuid, member.entry_uuid} <= {each.entry_uuid for each in await desk.links(first)}
    found = await desk.ask("GetFolderAndContents", XDSFolderUniqueId=f"'{case.unique_id}'")
    assert first.entry_uuid in {each.entry_uuid for each in found}


async def test_a_submitted_replacement_deprecates_what_it_replaces(desk: Desk) -> None:
    old, new, case = document_entry(), document_entry(), folder()
    await desk.register(old, new, folders=(case,), associations=(has_member(case, old),))

    await desk.update(submitted(association(AssociationType.RPLC, new, old)))

    assert [each.availability_status for each in await desk.versions(old)] == [DEPRECATED]
    found = await desk.ask("GetFolderAndContents", XDSFolderUniqueId=f"'{case.unique_id}'")
    assert new.entry_uuid in {each.entry_uuid for each in found}


async def test_a_replacement_that_gets_a_new_version_replaces_nothing_again(desk: Desk) -> None:
    old, new = document_entry(), document_entry()
    await desk.register(old, new)
    await desk.update(submitted(association(AssociationType.RPLC, new, old)))
    await desk.update(status_update(old, DEPRECATED, APPROVED))

    await desk.update(update_of(next_version(new)))
    await desk.update(update_of(next_version(old)))

    for each in (old, new):
        assert [version.availability_status for version in await desk.versions(each)] == [DEPRECATED, APPROVED]


# Refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("transaction", "broken"), BROKEN_UPDATES, ids=lambda each: each.name)
async def test_an_update_that_breaks_a_rule_is_refused_and_changes_nothing(
    quick: Desk, transaction: Transaction, broken: Broken
) -> None:
    await quick.register(document_entry())

    assert str(broken.code or transaction.default_code) in await quick.refused(broken.submission, transaction)


async def test_a_version_of_what_is_not_registered_is_refused(quick: Desk) -> None:
    assert await quick.refused(update_of(next_version(document_entry()))) == ["XDSMetadataVersionError"]


@pytest.mark.parametrize("previous", ["2", "7"])
async def test_a_version_that_does_not_follow_the_newest_is_refused(quick: Desk, previous: str) -> None:
    first = document_entry()
    await quick.register(first)

    assert await quick.refused(update_of(next_version(first), previous=previous)) == ["XDSMetadataVersionError"]


async def test_a_version_that_another_one_has_overtaken_is_refused(desk: Desk) -> None:
    first = document_entry()
    await desk.register(first)
    await desk.update(update_of(next_version(first)))

    assert await desk.refused(update_of(next_version(first))) == ["XDSMetadataVersionError"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"unique_id": oid()}, "XDSMetadataUpdateError"),
        ({"object_type": DocumentEntryType.ON_DEMAND, "creation_time": None, "hash": None, "size": None},
         "XDSMetadataUpdateError"),
    ],
)  # fmt: skip
async def test_all_versions_have_the_same_unique_id_and_type(quick: Desk, changes: dict[str, Any], code: str) -> None:
    first = document_entry()
    await quick.register(first)

    assert await quick.refused(update_of(next_version(first, **changes))) == [code]


async def test_a_deprecated_entry_gets_no_new_version_by_iti_57(quick: Desk) -> None:
    first = document_entry()
    await quick.register(first)
    await quick.update(status_update(first))

    assert await quick.refused(update_of(next_version(first))) == ["XDSMetadataUpdateError"]


@pytest.mark.parametrize("before", [DEPRECATED, APPROVED])
async def test_a_status_update_names_the_status_as_it_is_and_the_newest_version(quick: Desk, before: str) -> None:
    first = document_entry()
    await quick.register(first)
    if before == APPROVED:
        await quick.update(update_of(next_version(first)))
        assert "XDSMetadataVersionError" in await quick.refused(status_update(first, DEPRECATED, APPROVED))
    else:
        assert await quick.refused(status_update(first, before, APPROVED)) == ["XDSMetadataUpdateError"]


async def test_the_status_of_a_submission_set_or_of_nothing_is_not_changed(quick: Desk) -> None:
    own = submission(document_entry())
    assert (await quick.registry.register_document_set(own)).succeeded

    assert "XDSMetadataUpdateError" in await quick.refused(status_update(own.submission_set))
    assert await quick.refused(status_update(entry_uuid())) == ["UnresolvedReferenceException"]


async def test_associations_of_two_patients_or_with_what_is_deprecated_are_refused(quick: Desk) -> None:
    mine, old, others = document_entry(), document_entry(), document_entry(patient_id=OTHER_PATIENT)
    await quick.register(mine, old)
    await quick.register(others)
    await quick.update(status_update(old))

    for target, code in (
        (others, "XDSPatientIDReconciliationError"),
        (old, "XDSMetadataUpdateError"),
        (document_entry(), "UnresolvedReferenceException"),
    ):
        assert await quick.refused(submitted(association(AssociationType.APND, mine, target))) == [code]


# Restricted --------------------------------------------------------------------------------------------------------


async def test_a_restricted_update_leaves_the_status_as_it_is(desk: Desk) -> None:
    first = document_entry()
    await desk.register(first)
    await desk.update(status_update(first))

    response = await desk.registry.restricted_update_document_set(update_of(next_version(first, title=text("New"))))

    assert response.succeeded, response.errors
    assert [(each.version, each.availability_status) for each in await desk.versions(first)] == [
        ("1", DEPRECATED),
        ("2", DEPRECATED),
    ]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"unique_id": oid()}, ErrorCode.METADATA_IDENTIFIER_ERROR),
        ({"repository_unique_id": "1.2.3.4"}, ErrorCode.UNMODIFIABLE_METADATA_ERROR),
        ({"hash": "0" * 40}, ErrorCode.UNMODIFIABLE_METADATA_ERROR),
        ({"patient_id": CX.of("4711", "2.25.7331")}, ErrorCode.PATIENT_ID_RECONCILIATION_ERROR),
    ],
)
async def test_a_restricted_update_leaves_what_identifies_a_document(
    quick: Desk, changes: dict[str, Any], code: ErrorCode
) -> None:
    first = document_entry()
    await quick.register(first)

    assert await quick.refused(update_of(next_version(first, **changes)), ITI_92) == [code]


# On-demand documents -----------------------------------------------------------------------------------------------


async def test_an_on_demand_entry_is_registered_and_has_a_snapshot(desk: Desk) -> None:
    entry = document_entry(object_type=DocumentEntryType.ON_DEMAND, creation_time=None, hash=None, size=None)
    response: RegistryResponse = await desk.registry.register_on_demand(submission(entry))
    assert response.succeeded, response.errors
    snapshot = document_entry()

    await desk.register(snapshot, associations=(association(AssociationType.IS_SNAPSHOT_OF, snapshot, entry),))

    patient = {"XDSDocumentEntryPatientId": f"'{PATIENT}'", "XDSDocumentEntryStatus": ANY_STATUS}
    stable = await desk.ask("FindDocuments", **patient)
    on_demand = await desk.ask(
        "FindDocuments", **patient, XDSDocumentEntryType=f"('{DocumentEntryType.ON_DEMAND.value}')"
    )
    assert [each.entry_uuid for each in stable] == [snapshot.entry_uuid]
    assert [each.entry_uuid for each in on_demand] == [entry.entry_uuid]
