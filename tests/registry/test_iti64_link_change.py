"""Notify XAD-PID Link Change [ITI-64]: documents of a local patient id go to another patient, on every store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.actor import Registry
from registry.change_body import decoded
from registry.iti64_link_change import LinkChanges
from registry.link_change import LinkChange
from registry.metadata_store import MetadataStore
from registry.patient_register import PatientRegister
from tests.builders import OTHER_PATIENT, PATIENT, association, code, document_entry, folder, has_member, submission
from tests.registry.test_merged_patients import (
    THIRD_PATIENT,
    codes,
    documents_of,
    problems,
    register,
    registry,
    sent,
    store,
)
from tests.xds.broken_updates import next_version, update_of
from xds.actors import QueryRequest, ReturnType
from xds.ebxml_writer import codec
from xds.errors import ResponseStatus
from xds.hl7v2 import CX
from xds.metadata import (
    AnyObject,
    Association,
    AssociationType,
    AvailabilityStatus,
    DocumentEntry,
    Folder,
    Submission,
    SubmissionSet,
)
from xds.stored_queries import STORED_QUERIES

__all__ = ["register", "registry", "store"]  # fixtures

LOCAL, ANOTHER = CX.of("T-4711", "2.25.7331"), CX.of("T-4712", "2.25.7331")
SENDER = "2.25.98765"
CODE = code("ITI-64", "IHE Transactions")
APPROVED, DEPRECATED = AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED
BOTH = f"('{APPROVED}','{DEPRECATED}')"


@pytest.fixture
def links(register: PatientRegister) -> LinkChanges:
    return LinkChanges(register=register, content_type_code=CODE)


def change(
    local: CX = LOCAL, new: CX = OTHER_PATIENT, previous: CX = PATIENT, subsumed: CX | None = None
) -> LinkChange:
    return LinkChange(local, new, previous, subsumed, SENDER)


async def known(registry: Registry, register: PatientRegister, *submissions: Submission) -> None:
    for patient in (PATIENT, OTHER_PATIENT, THIRD_PATIENT):
        await register.admit([patient])
    for each in submissions:
        assert await codes(registry, each) == []


async def asked(registry: Registry, query: str, **parameters: str) -> list[AnyObject]:
    """What a stored query returns."""
    (query_id,) = [row.id for row in STORED_QUERIES.values() if row.name == query]
    request = QueryRequest(
        query_id, ReturnType.LEAF_CLASS, tuple((f"${name}", (each,)) for name, each in parameters.items())
    )
    response = await registry.stored_query(request)
    assert response.status is ResponseStatus.SUCCESS, response.errors
    return [codec.read(each.ebrim) for each in response.found if each.ebrim is not None]


async def everything_of(registry: Registry, patient: CX) -> list[AnyObject]:
    return await asked(
        registry,
        "GetAll",
        patientId=f"'{patient}'",
        XDSDocumentEntryStatus=BOTH,
        XDSSubmissionSetStatus=BOTH,
        XDSFolderStatus=BOTH,
        MetadataLevel="2",
    )


async def test_the_documents_of_a_local_id_are_those_of_the_other_patient(
    registry: Registry, register: PatientRegister, links: LinkChanges, store: MetadataStore
) -> None:
    mine, other = document_entry(), document_entry(source_patient_id=ANOTHER)
    await known(registry, register, sent(mine), sent(other))

    assert await links.take(change()) == 1

    for _ in range(2):  # and after a reindex
        assert [each.entry_uuid for each in await documents_of(registry, PATIENT)] == [other.entry_uuid]
        (moved,) = await documents_of(registry, OTHER_PATIENT)
        assert (moved.patient_id, moved.source_patient_id, moved.unique_id) == (OTHER_PATIENT, LOCAL, mine.unique_id)
        assert (moved.version, moved.logical_id, moved.availability_status) == ("2", mine.entry_uuid, APPROVED)
        by_unique_id = await asked(registry, "GetDocuments", XDSDocumentEntryUniqueId=f"('{mine.unique_id}')")
        assert by_unique_id == [moved]
        (former,) = await asked(
            registry, "GetDocuments", XDSDocumentEntryEntryUUID=f"('{mine.entry_uuid}')", MetadataLevel="2"
        )
        assert (former.patient_id, former.availability_status) == (PATIENT, DEPRECATED)  # type: ignore[union-attr]
        assert await problems(store) == []
        await store.reindex()


async def test_a_submission_set_says_what_a_link_change_did(
    registry: Registry, register: PatientRegister, links: LinkChanges
) -> None:
    await known(registry, register, sent())

    await links.take(change())

    found = await everything_of(registry, OTHER_PATIENT)
    (owner,) = [each for each in found if isinstance(each, SubmissionSet)]
    (entry,) = [each for each in found if isinstance(each, DocumentEntry)]
    (link,) = [each for each in found if isinstance(each, Association)]
    assert (owner.patient_id, owner.source_id, owner.content_type_code) == (OTHER_PATIENT, SENDER, CODE)
    assert owner.author == ()
    assert (link.source_object, link.target_object) == (owner.entry_uuid, entry.entry_uuid)
    assert (link.submission_set_status, link.previous_version) == ("Original", "1")


async def test_a_link_change_that_is_sent_again_changes_nothing(
    registry: Registry, register: PatientRegister, links: LinkChanges, store: MetadataStore
) -> None:
    await known(registry, register, sent())
    await links.take(change())
    records = [each async for each in store.records()]

    assert await links.take(change()) == 0

    assert [each async for each in store.records()] == records


async def test_a_document_may_go_on_and_come_back(
    registry: Registry, register: PatientRegister, links: LinkChanges, store: MetadataStore
) -> None:
    await known(registry, register, sent())

    for previous, new in ((PATIENT, OTHER_PATIENT), (OTHER_PATIENT, THIRD_PATIENT), (THIRD_PATIENT, PATIENT)):
        assert await links.take(change(new=new, previous=previous)) == 1

    (entry,) = await documents_of(registry, PATIENT)
    assert (entry.version, entry.patient_id) == ("4", PATIENT)
    assert await documents_of(registry, OTHER_PATIENT) == await documents_of(registry, THIRD_PATIENT) == []
    assert await problems(store) == []


async def test_what_is_deprecated_stays(registry: Registry, register: PatientRegister, links: LinkChanges) -> None:
    old, new = document_entry(), document_entry()
    await known(
        registry, register, sent(old), sent(new, links=(association(AssociationType.RPLC, new, old.entry_uuid),))
    )

    await links.take(change())

    assert [each.entry_uuid for each in await documents_of(registry, PATIENT)] == [old.entry_uuid]
    assert [each.unique_id for each in await documents_of(registry, OTHER_PATIENT)] == [new.unique_id]


async def test_a_folder_goes_along_where_all_its_documents_are_of_the_local_id(
    registry: Registry, register: PatientRegister, links: LinkChanges, store: MetadataStore
) -> None:
    entries = (document_entry(), document_entry())
    case = folder()
    members = tuple(has_member(case, each) for each in entries)
    await known(registry, register, submission(*entries, folders=(case,), associations=members))

    await links.take(change())

    found = await everything_of(registry, OTHER_PATIENT)
    (moved,) = [each for each in found if isinstance(each, Folder)]
    assert (moved.unique_id, moved.version, moved.patient_id) == (case.unique_id, "2", OTHER_PATIENT)
    in_folder = await asked(registry, "GetFolderAndContents", XDSFolderUniqueId=f"'{case.unique_id}'")
    assert {each.unique_id for each in in_folder if isinstance(each, DocumentEntry)} == {
        each.unique_id for each in entries
    }
    (own,) = [each for each in found if isinstance(each, SubmissionSet)]
    of_set = {
        each.target_object for each in found if isinstance(each, Association) and each.source_object == own.entry_uuid
    }
    assert {each.entry_uuid for each in in_folder} <= of_set  # the Folder, the documents and what joins them
    assert await problems(store) == []


async def test_a_folder_with_documents_of_other_local_ids_stays_without_those_that_go(
    registry: Registry, register: PatientRegister, links: LinkChanges, store: MetadataStore
) -> None:
    mine, other = document_entry(), document_entry(source_patient_id=ANOTHER)
    case = folder()
    members = (has_member(case, mine), has_member(case, other))
    await known(registry, register, submission(mine, other, folders=(case,), associations=members))

    await links.take(change())

    found = await asked(registry, "GetFolderAndContents", XDSFolderUniqueId=f"'{case.unique_id}'")
    assert [each.unique_id for each in found if isinstance(each, DocumentEntry)] == [other.unique_id]
    assert [each for each in await everything_of(registry, OTHER_PATIENT) if isinstance(each, Folder)] == []
    assert await problems(store) == []
    # It was changed by that, and FHIR tells when.
    *_, last = [each async for each in store.records(PATIENT.text)]
    assert case.entry_uuid in {each.entry_uuid for each in decoded(last.body or b"").revisions}


@pytest.mark.parametrize(("local", "is_related"), [(LOCAL, True), (ANOTHER, False)], ids=["both go", "one goes"])
async def test_documents_stay_related_where_they_stay_those_of_one_patient(
    registry: Registry, register: PatientRegister, links: LinkChanges, local: CX, is_related: bool
) -> None:
    first, appended = document_entry(), document_entry(source_patient_id=local)
    link = association(AssociationType.APND, appended, first)
    await known(registry, register, submission(first, appended, associations=(link,)))

    await links.take(change())

    versions = {each.unique_id: each.entry_uuid for each in await documents_of(registry, OTHER_PATIENT)}
    found = [
        link
        for each in (first.entry_uuid, appended.entry_uuid, *versions.values())
        for link in await asked(registry, "GetAssociations", uuid=f"('{each}')")
    ]
    related = {
        each for each in found if isinstance(each, Association) and each.association_type == AssociationType.APND
    }
    assert len(related) == is_related
    if is_related:
        (copy,) = related
        assert (copy.source_object, copy.target_object) == (versions[appended.unique_id], versions[first.unique_id])


async def test_a_submission_set_goes_on_referring_to_what_went(
    registry: Registry, register: PatientRegister, links: LinkChanges
) -> None:
    mine = document_entry()
    referring = submission(document_entry(source_patient_id=ANOTHER))
    owner = referring.submission_set
    reference = has_member(owner, mine.entry_uuid, submission_set_status="Reference")
    referring = replace(referring, associations=(*referring.associations, reference))
    await known(registry, register, sent(mine), referring)

    await links.take(change())

    (moved,) = await documents_of(registry, OTHER_PATIENT)
    found = await asked(registry, "GetAssociations", uuid=f"('{moved.entry_uuid}')")
    referred = [each for each in found if isinstance(each, Association) and each.submission_set_status == "Reference"]
    assert [(each.source_object, each.target_object) for each in referred] == [(owner.entry_uuid, moved.entry_uuid)]


@pytest.mark.parametrize("new", [PATIENT, OTHER_PATIENT], ids=["of one patient", "and of another patient"])
async def test_a_local_id_that_is_merged_is_shown_as_the_one_that_is_left(
    registry: Registry, register: PatientRegister, links: LinkChanges, store: MetadataStore, new: CX
) -> None:
    mine, subsumed = document_entry(), document_entry(source_patient_id=ANOTHER)
    link = association(AssociationType.APND, subsumed, mine)
    await known(registry, register, submission(mine, subsumed, associations=(link,)))

    assert await links.take(change(new=new, subsumed=ANOTHER)) == (1 if new == PATIENT else 2)

    approved = [each for each in await documents_of(registry, new) if each.availability_status == APPROVED]
    assert {each.unique_id: each.source_patient_id for each in approved} == {
        mine.unique_id: LOCAL,
        subsumed.unique_id: LOCAL,
    }
    assert len(read_links(await everything_of(registry, new))) == 1
    assert await problems(store) == []


def read_links(found: list[AnyObject]) -> list[Association]:
    links = [each for each in found if isinstance(each, Association) and each.availability_status == APPROVED]
    return [each for each in links if each.association_type == AssociationType.APND]


async def test_documents_of_patients_that_were_merged_go_too(
    registry: Registry, register: PatientRegister, links: LinkChanges, store: MetadataStore
) -> None:
    await known(registry, register, sent(), sent(patient=THIRD_PATIENT))
    await register.merge([PATIENT], [THIRD_PATIENT])

    assert await links.take(change()) == 2

    assert await documents_of(registry, PATIENT) == []
    assert [each.patient_id for each in await documents_of(registry, OTHER_PATIENT)] == [OTHER_PATIENT] * 2
    assert await problems(store) == []


async def test_what_went_is_updated_after_its_patients_were_merged(
    registry: Registry, register: PatientRegister, links: LinkChanges, store: MetadataStore
) -> None:
    mine = document_entry()
    referring = submission(document_entry(source_patient_id=ANOTHER))
    reference = has_member(referring.submission_set, mine.entry_uuid, submission_set_status="Reference")
    referring = replace(referring, associations=(*referring.associations, reference))
    await known(registry, register, sent(mine), referring)
    await links.take(change())
    await register.merge([PATIENT], [OTHER_PATIENT])
    moved = next(each for each in await documents_of(registry, PATIENT) if each.unique_id == mine.unique_id)

    response = await registry.update_document_set(update_of(next_version(moved), previous="2"))

    assert response.errors == ()
    newest = next(each for each in await documents_of(registry, PATIENT) if each.unique_id == mine.unique_id)
    assert newest.version == "3"
    assert await problems(store) == []
