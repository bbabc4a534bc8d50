"""What a submission changes, and what is registered already that speaks against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

from registry.lifecycle import judged, questions
from registry.metadata_store import Facts, RegistryChange, Revision
from tests.builders import (
    CONTENT_HASH,
    OTHER_PATIENT,
    PATIENT,
    association,
    document_entry,
    entry_uuid,
    folder,
    has_member,
    oid,
    submission,
)
from tests.registry.memory_store import MemoryStore
from xds.errors import ErrorCode, Finding, RegistryError, Severity, XdsError
from xds.hl7v2 import DTM
from xds.metadata import (
    AnyObject,
    Association,
    AssociationType,
    AvailabilityStatus,
    DocumentEntry,
    DocumentEntryType,
    Folder,
    Submission,
    SubmissionSet,
)
from xds.metadata_rules import findings
from xds.transactions import ITI_42

NOW = datetime(2026, 3, 14, 10, 30, 15, 250, tzinfo=UTC)
UPDATE_TIME = "20260314103015"
METADATA_ERROR = ErrorCode.REGISTRY_METADATA_ERROR

RELATIONS = (AssociationType.RPLC, AssociationType.APND, AssociationType.XFRM, AssociationType.XFRM_RPLC,
             AssociationType.SIGNS)  # fmt: skip


class Dossiers:
    """A registry without rules but those of the lifecycle."""

    def __init__(self) -> None:
        self.store = MemoryStore()

    async def facts(self, whole: Submission) -> Facts:
        return await self.store.known(questions(whole))

    async def judge(self, whole: Submission, *, now: datetime = NOW, noticed: Sequence[Finding] = ()) -> RegistryChange:
        return judged(whole, await self.facts(whole), now=now, new_uuid=uuid4, noticed=noticed)

    async def register(self, whole: Submission, *, now: datetime = NOW) -> RegistryChange:
        assert findings(whole, ITI_42) == []
        facts = await self.facts(whole)
        change = judged(whole, facts, now=now, new_uuid=uuid4)
        await self.store.apply(change, facts)
        return change

    async def refused(self, whole: Submission) -> tuple[RegistryError, ...]:
        with pytest.raises(XdsError) as refusal:
            await self.judge(whole)
        return refusal.value.errors

    async def document(self, **changes: Any) -> DocumentEntry:
        """A registered document."""
        entry = document_entry(**changes)
        await self.register(submission(entry))
        return entry

    async def related(self, association_type: str, target: DocumentEntry) -> DocumentEntry:
        """A registered document that is related to a registered one."""
        entry = document_entry()
        await self.register(related(association_type, entry, target))
        return entry

    async def deprecated(self) -> DocumentEntry:
        entry = await self.document()
        await self.related(AssociationType.RPLC, entry)
        return entry

    async def folder_of(self, *entries: DocumentEntry) -> Folder:
        """A registered Folder that holds registered documents."""
        package = folder()
        links = tuple(has_member(package, entry) for entry in entries)
        await self.register(submission(folders=(package,), associations=links))
        return package

    def status(self, item: AnyObject) -> str | None:
        return self.store.objects[item.entry_uuid].availability_status

    def members(self, package: AnyObject) -> set[str]:
        return {
            item.target_object
            for item in self.store.objects.values()
            if isinstance(item, Association)
            and item.association_type == AssociationType.HAS_MEMBER
            and item.source_object == package.entry_uuid
        }


def related(association_type: str, entry: DocumentEntry, target: AnyObject | str, **changes: Any) -> Submission:
    return submission(entry, associations=(association(association_type, entry, target),), **changes)


def into_folder(package: Folder | str, entry: DocumentEntry) -> Submission:
    source = package if isinstance(package, str) else package.entry_uuid
    return submission(entry, associations=(association(AssociationType.HAS_MEMBER, source, entry),))


def by_reference(target: AnyObject | str, status: str | None = "Reference") -> Submission:
    whole = submission(document_entry())
    link = has_member(whole.submission_set, target, submission_set_status=status)
    return replace(whole, associations=(*whole.associations, link))


@pytest.fixture
def dossiers() -> Dossiers:
    return Dossiers()


# What becomes of the objects that are sent


async def test_every_object_is_registered_as_the_approved_first_version_of_itself(dossiers: Dossiers) -> None:
    entry, package = document_entry(), folder()
    whole = submission(entry, folders=(package,), associations=(has_member(package, entry),))

    change = await dossiers.judge(whole)

    assert [item.entry_uuid for item in change.objects] == [item.entry_uuid for item in whole.objects]
    for item in change.objects:
        assert (item.logical_id, item.version) == (item.entry_uuid, "1")
        assert item.availability_status == AvailabilityStatus.APPROVED


async def test_a_status_that_was_sent_is_not_kept(dossiers: Dossiers) -> None:
    change = await dossiers.judge(submission(document_entry(availability_status=AvailabilityStatus.DEPRECATED)))

    assert {item.availability_status for item in change.objects} == {AvailabilityStatus.APPROVED}


async def test_what_was_sent_is_kept_beside_what_the_registry_gives(dossiers: Dossiers) -> None:
    entry = document_entry(hash=CONTENT_HASH.upper())

    change = await dossiers.judge(submission(entry))

    registered = change.objects[1]
    assert isinstance(registered, DocumentEntry)
    assert replace(registered, logical_id=None, version=None, availability_status=None) == entry


async def test_symbolic_ids_become_uuids_wherever_they_are_used(dossiers: Dossiers) -> None:
    entry, package = document_entry(entry_uuid="Document01"), folder(entry_uuid="Folder01")
    in_folder = has_member(package, entry, entry_uuid="as01")
    whole = submission(entry, folders=(package,), associations=(in_folder,), entry_uuid="SubmissionSet01")

    change = await dossiers.judge(whole)

    uuids = {item.entry_uuid for item in change.objects}
    assert len(uuids) == len(whole.objects)
    assert all(UUID(each.removeprefix("urn:uuid:")).version == 4 for each in uuids)
    links = [item for item in change.objects if isinstance(item, Association)]
    assert {end for link in links for end in (link.source_object, link.target_object)} <= uuids


async def test_uuids_that_were_sent_are_kept_in_lower_case(dossiers: Dossiers) -> None:
    lower = entry_uuid()
    entry = document_entry(entry_uuid=lower.upper())

    change = await dossiers.judge(submission(entry))

    registered, link = change.objects[1], change.objects[2]
    assert (registered.entry_uuid, registered.logical_id) == (lower, lower)
    assert isinstance(link, Association)
    assert link.target_object == lower


async def test_a_reference_to_a_registered_object_is_kept_in_lower_case(dossiers: Dossiers) -> None:
    target = await dossiers.document()

    change = await dossiers.judge(related(AssociationType.APND, document_entry(), target.entry_uuid.upper()))

    link = change.objects[-1]
    assert isinstance(link, Association)
    assert link.target_object == target.entry_uuid


async def test_the_registry_alone_says_when_a_folder_was_updated(dossiers: Dossiers) -> None:
    change = await dossiers.judge(submission(folders=(folder(last_update_time=DTM("19990101000000")),)))

    assert [item.last_update_time for item in change.objects if isinstance(item, Folder)] == [DTM(UPDATE_TIME)]


async def test_times_are_in_utc_wherever_the_registry_stands(dossiers: Dossiers) -> None:
    in_tallinn = NOW.astimezone(timezone(timedelta(hours=2)))

    change = await dossiers.judge(submission(folders=(folder(),)), now=in_tallinn)

    assert change.time == "2026-03-14T10:30:15.000250Z"
    assert [item.last_update_time for item in change.objects if isinstance(item, Folder)] == [DTM(UPDATE_TIME)]


async def test_a_change_is_of_the_submissions_patient_and_has_an_id_of_its_own(dossiers: Dossiers) -> None:
    whole = submission(document_entry())

    first, second = await dossiers.judge(whole), await dossiers.judge(whole)

    assert first.patient_id == PATIENT.text
    assert UUID(first.change_id) != UUID(second.change_id)


async def test_warnings_do_not_refuse_a_submission(dossiers: Dossiers) -> None:
    warning = Finding("classCode is unknown.", severity=Severity.WARNING)

    change = await dossiers.judge(submission(document_entry()), noticed=[warning])

    assert len(change.objects) == 3


# Identifiers


async def test_an_entryuuid_in_use_is_refused_with_its_holder(dossiers: Dossiers) -> None:
    known = await dossiers.document()

    [error] = await dossiers.refused(submission(document_entry(entry_uuid=known.entry_uuid.upper())))

    assert error.code is METADATA_ERROR
    assert "in use by a registered DocumentEntry; send a new UUID or a symbolic id" in error.code_context


async def test_an_association_can_not_take_the_entryuuid_of_another(dossiers: Dossiers) -> None:
    package = await dossiers.folder_of()
    entry = document_entry()
    link = has_member(package, entry, entry_uuid=package.entry_uuid)

    errors = await dossiers.refused(submission(entry, associations=(link,)))

    assert any("in use by a registered Folder" in error.code_context for error in errors)


async def test_a_submission_can_not_be_sent_twice(dossiers: Dossiers) -> None:
    sent = submission(document_entry(entry_uuid="Document01"), entry_uuid="SubmissionSet01")
    whole = replace(sent, associations=tuple(replace(link, entry_uuid="as01") for link in sent.associations))
    await dossiers.register(whole)

    [error] = await dossiers.refused(whole)

    assert error.code is ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY
    assert f"uniqueId {whole.submission_set.unique_id} of SubmissionSet SubmissionSet01" in error.code_context


async def test_a_folder_can_not_take_the_uniqueid_of_another(dossiers: Dossiers) -> None:
    known = await dossiers.folder_of()

    [error] = await dossiers.refused(submission(folders=(folder(unique_id=known.unique_id),)))

    assert error.code is ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY
    assert f"uniqueId {known.unique_id} of Folder" in error.code_context


async def test_the_same_document_may_be_registered_again(dossiers: Dossiers) -> None:
    known = await dossiers.document(hash=CONTENT_HASH, size="6")
    again = document_entry(unique_id=known.unique_id, hash=CONTENT_HASH.upper(), size="06")

    await dossiers.register(submission(again))

    assert dossiers.status(known) == dossiers.status(again) == AvailabilityStatus.APPROVED


async def test_another_document_with_the_same_uniqueid_is_refused(dossiers: Dossiers) -> None:
    known = await dossiers.document()
    other = document_entry(unique_id=known.unique_id, hash="0" * 40)

    [error] = await dossiers.refused(submission(other))

    assert error.code is ErrorCode.NON_IDENTICAL_HASH
    assert f"uniqueId {known.unique_id} of DocumentEntry {other.entry_uuid}" in error.code_context
    assert CONTENT_HASH in error.code_context


async def test_the_same_hash_with_another_size_is_refused(dossiers: Dossiers) -> None:
    known = await dossiers.document()

    [error] = await dossiers.refused(submission(document_entry(unique_id=known.unique_id, size="7")))

    assert error.code is ErrorCode.NON_IDENTICAL_SIZE


async def test_the_uniqueid_of_a_document_is_compared_across_patients(dossiers: Dossiers) -> None:
    known = await dossiers.document(patient_id=OTHER_PATIENT)

    [error] = await dossiers.refused(submission(document_entry(unique_id=known.unique_id, hash="0" * 40)))

    assert error.code is ErrorCode.NON_IDENTICAL_HASH


async def test_a_replacement_with_the_uniqueid_of_what_it_replaces_is_told_to_take_a_new_one(
    dossiers: Dossiers,
) -> None:
    known = await dossiers.document()

    [error] = await dossiers.refused(related(AssociationType.RPLC, document_entry(unique_id=known.unique_id), known))

    assert error.code is METADATA_ERROR
    assert "a replacement needs a new uniqueId" in error.code_context


async def test_everything_that_speaks_against_a_submission_is_told_at_once(dossiers: Dossiers) -> None:
    known, old = await dossiers.document(), await dossiers.deprecated()
    entry = document_entry(unique_id=known.unique_id, hash="0" * 40)
    links = (association(AssociationType.APND, entry, old), association(AssociationType.XFRM, entry, entry_uuid()))

    with pytest.raises(XdsError) as refusal:
        await dossiers.judge(submission(entry, associations=links), noticed=[Finding("classCode is missing.")])

    assert [error.code for error in refusal.value.errors] == [
        METADATA_ERROR,
        ErrorCode.NON_IDENTICAL_HASH,
        ErrorCode.REGISTRY_DEPRECATED_DOCUMENT_ERROR,
        ErrorCode.UNRESOLVED_REFERENCE,
    ]


# Ends of associations


@pytest.mark.parametrize("association_type", RELATIONS)
async def test_a_relationship_to_an_approved_document_is_registered(dossiers: Dossiers, association_type: str) -> None:
    target = await dossiers.document()

    entry = await dossiers.related(association_type, target)

    assert dossiers.status(entry) == AvailabilityStatus.APPROVED


@pytest.mark.parametrize("association_type", RELATIONS)
async def test_a_relationship_to_a_document_that_is_not_registered_is_refused(
    dossiers: Dossiers, association_type: str
) -> None:
    nowhere = entry_uuid()

    [error] = await dossiers.refused(related(association_type, document_entry(), nowhere))

    assert error.code is ErrorCode.UNRESOLVED_REFERENCE
    assert f"has the targetObject {nowhere}, which is neither registered nor in this message" in error.code_context


@pytest.mark.parametrize("association_type", RELATIONS)
async def test_a_relationship_to_a_deprecated_document_is_refused(dossiers: Dossiers, association_type: str) -> None:
    target = await dossiers.deprecated()

    [error] = await dossiers.refused(related(association_type, document_entry(), target))

    assert error.code is ErrorCode.REGISTRY_DEPRECATED_DOCUMENT_ERROR
    assert target.entry_uuid in error.code_context


@pytest.mark.parametrize("association_type", RELATIONS)
async def test_a_relationship_to_a_document_of_another_patient_is_refused(
    dossiers: Dossiers, association_type: str
) -> None:
    target = await dossiers.document(patient_id=OTHER_PATIENT)

    [error] = await dossiers.refused(related(association_type, document_entry(), target))

    assert error.code is ErrorCode.PATIENT_ID_DOES_NOT_MATCH
    assert PATIENT.text in error.code_context
    assert OTHER_PATIENT.text not in error.code_context


@pytest.mark.parametrize("association_type", RELATIONS)
async def test_a_relationship_to_a_folder_is_refused(dossiers: Dossiers, association_type: str) -> None:
    package = await dossiers.folder_of()

    [error] = await dossiers.refused(related(association_type, document_entry(), package))

    assert error.code is METADATA_ERROR
    assert "which is a registered Folder; send the id of a registered DocumentEntry" in error.code_context


async def test_only_on_demand_documents_have_snapshots(dossiers: Dossiers) -> None:
    target = await dossiers.document()
    on_demand = document_entry(object_type=DocumentEntryType.ON_DEMAND)
    dossiers.store.objects[on_demand.entry_uuid] = replace(on_demand, availability_status=AvailabilityStatus.APPROVED)
    dossiers.store.owners[on_demand.entry_uuid] = PATIENT.text

    [error] = await dossiers.refused(related(AssociationType.IS_SNAPSHOT_OF, document_entry(), target))

    assert "only those have snapshots" in error.code_context
    change = await dossiers.judge(related(AssociationType.IS_SNAPSHOT_OF, document_entry(), on_demand))
    assert change.revisions == ()


async def test_documents_of_one_submission_may_be_related(dossiers: Dossiers) -> None:
    first, second = document_entry(), document_entry()
    links = (association(AssociationType.SIGNS, first, second), association(AssociationType.XFRM, first, second))

    change = await dossiers.register(submission(first, second, associations=links))

    assert change.revisions == ()


async def test_a_registered_document_may_be_a_member_by_reference(dossiers: Dossiers) -> None:
    target = await dossiers.document()

    change = await dossiers.register(by_reference(target))

    assert target.entry_uuid in dossiers.members(change.objects[0])


async def test_a_registered_document_is_a_member_by_reference_only(dossiers: Dossiers) -> None:
    target = await dossiers.document()

    [error] = await dossiers.refused(by_reference(target, status=None))

    assert "send the SubmissionSetStatus Reference" in error.code_context


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda _: entry_uuid(), ErrorCode.UNRESOLVED_REFERENCE),
        (lambda dossiers: dossiers.deprecated(), ErrorCode.REGISTRY_DEPRECATED_DOCUMENT_ERROR),
        (lambda dossiers: dossiers.document(patient_id=OTHER_PATIENT), ErrorCode.PATIENT_ID_DOES_NOT_MATCH),
    ],
    ids=["unknown", "deprecated", "another patient's"],
)
async def test_a_member_by_reference_has_to_be_an_approved_document_of_the_patient(
    dossiers: Dossiers, make: Callable[[Dossiers], Any], code: ErrorCode
) -> None:
    target = make(dossiers)

    [error] = await dossiers.refused(by_reference(target if isinstance(target, str) else await target))

    assert error.code is code


async def test_a_submissionset_is_no_member_by_reference(dossiers: Dossiers) -> None:
    change = await dossiers.register(submission(document_entry()))

    [error] = await dossiers.refused(by_reference(change.objects[0]))

    assert "which is a registered SubmissionSet; a SubmissionSet is a member of nothing" in error.code_context


async def test_a_registered_submissionset_takes_no_further_members(dossiers: Dossiers) -> None:
    change = await dossiers.register(submission(document_entry()))

    [error] = await dossiers.refused(into_folder(change.objects[0].entry_uuid, document_entry()))

    assert error.code is METADATA_ERROR
    assert "only Folders take further members" in error.code_context


async def test_a_folder_has_to_be_registered_to_take_a_document(dossiers: Dossiers) -> None:
    [error] = await dossiers.refused(into_folder(entry_uuid(), document_entry()))

    assert error.code is ErrorCode.UNRESOLVED_REFERENCE


async def test_a_folder_takes_no_document_of_another_patient(dossiers: Dossiers) -> None:
    package = await dossiers.folder_of()

    [error] = await dossiers.refused(into_folder(package, document_entry(patient_id=OTHER_PATIENT)))

    assert error.code is ErrorCode.PATIENT_ID_DOES_NOT_MATCH


async def test_a_deprecated_folder_takes_no_document(dossiers: Dossiers) -> None:
    package = await dossiers.folder_of()
    known = dossiers.store.objects[package.entry_uuid]
    dossiers.store.objects[package.entry_uuid] = replace(known, availability_status=AvailabilityStatus.DEPRECATED)

    [error] = await dossiers.refused(into_folder(package, document_entry()))

    assert error.code is METADATA_ERROR
    assert "which is Deprecated" in error.code_context


async def test_a_new_folder_takes_registered_documents_that_are_approved(dossiers: Dossiers) -> None:
    entry, old = await dossiers.document(), await dossiers.deprecated()
    package = folder()

    await dossiers.register(submission(folders=(package,), associations=(has_member(package, entry),)))
    [error] = await dossiers.refused(
        submission(folders=(another := folder(),), associations=(has_member(another, old),))
    )

    assert dossiers.members(package) == {entry.entry_uuid}
    assert error.code is ErrorCode.REGISTRY_DEPRECATED_DOCUMENT_ERROR


# What happens to what is registered


async def test_a_document_in_a_registered_folder_updates_the_folder(dossiers: Dossiers) -> None:
    package = await dossiers.folder_of()

    change = await dossiers.register(into_folder(package, document_entry()))

    assert change.revisions == (Revision(package.entry_uuid, last_update_time=UPDATE_TIME),)


async def test_a_document_without_relationships_changes_nothing_else(dossiers: Dossiers) -> None:
    assert (await dossiers.judge(submission(document_entry(), folders=(folder(),)))).revisions == ()


@pytest.mark.parametrize("association_type", [AssociationType.RPLC, AssociationType.XFRM_RPLC])
async def test_what_is_replaced_is_deprecated(dossiers: Dossiers, association_type: str) -> None:
    old = await dossiers.document()

    new = await dossiers.related(association_type, old)

    assert dossiers.status(old) == AvailabilityStatus.DEPRECATED
    assert dossiers.status(new) == AvailabilityStatus.APPROVED


@pytest.mark.parametrize("association_type", [AssociationType.APND, AssociationType.XFRM, AssociationType.SIGNS])
async def test_what_is_appended_to_transformed_or_signed_stays_approved(
    dossiers: Dossiers, association_type: str
) -> None:
    target = await dossiers.document()

    await dossiers.related(association_type, target)

    assert dossiers.status(target) == AvailabilityStatus.APPROVED


@pytest.mark.parametrize("outer", [AssociationType.APND, AssociationType.XFRM])
@pytest.mark.parametrize("inner", [AssociationType.APND, AssociationType.XFRM])
async def test_appendices_and_transformations_are_deprecated_with_what_they_hang_on(
    dossiers: Dossiers, inner: str, outer: str
) -> None:
    old = await dossiers.document()
    dependant = await dossiers.related(inner, old)
    dependant_of_it = await dossiers.related(outer, dependant)

    await dossiers.related(AssociationType.RPLC, old)

    statuses = {dossiers.status(each) for each in (old, dependant, dependant_of_it)}
    assert statuses == {AvailabilityStatus.DEPRECATED}


async def test_what_a_replaced_document_was_appended_to_stays_approved(dossiers: Dossiers) -> None:
    whole = await dossiers.document()
    appendix = await dossiers.related(AssociationType.APND, whole)

    await dossiers.related(AssociationType.RPLC, appendix)

    assert dossiers.status(whole) == AvailabilityStatus.APPROVED
    assert dossiers.status(appendix) == AvailabilityStatus.DEPRECATED


async def test_a_signature_stays_approved_when_what_it_signs_is_replaced(dossiers: Dossiers) -> None:
    old = await dossiers.document()
    signature = await dossiers.related(AssociationType.SIGNS, old)

    await dossiers.related(AssociationType.RPLC, old)

    assert dossiers.status(signature) == AvailabilityStatus.APPROVED


async def test_an_object_is_deprecated_once_however_many_ways_lead_to_it(dossiers: Dossiers) -> None:
    old = await dossiers.document()
    appendix = document_entry()
    links = (association(AssociationType.APND, appendix, old), association(AssociationType.XFRM, appendix, old))
    await dossiers.register(submission(appendix, associations=links))

    change = await dossiers.register(related(AssociationType.RPLC, document_entry(), old))

    assert sorted(revision.entry_uuid for revision in change.revisions) == sorted([old.entry_uuid, appendix.entry_uuid])


async def test_the_submissionset_and_its_associations_stay_approved(dossiers: Dossiers) -> None:
    entry = document_entry()
    first = await dossiers.register(submission(entry))

    await dossiers.related(AssociationType.RPLC, entry)

    others = [item for item in first.objects if not isinstance(item, DocumentEntry)]
    assert {dossiers.status(item) for item in others} == {AvailabilityStatus.APPROVED}


async def test_one_document_may_replace_several(dossiers: Dossiers) -> None:
    first, second = await dossiers.document(), await dossiers.document()
    entry = document_entry()
    links = (association(AssociationType.RPLC, entry, first), association(AssociationType.RPLC, entry, second))

    await dossiers.register(submission(entry, associations=links))

    assert dossiers.status(first) == dossiers.status(second) == AvailabilityStatus.DEPRECATED


# Folders inherit replacements


@pytest.mark.parametrize("association_type", [AssociationType.RPLC, AssociationType.XFRM_RPLC])
async def test_a_replacement_joins_every_folder_of_what_it_replaces(dossiers: Dossiers, association_type: str) -> None:
    old = await dossiers.document()
    packages = [await dossiers.folder_of(old), await dossiers.folder_of(old)]

    new = await dossiers.related(association_type, old)

    for package in packages:
        assert dossiers.members(package) == {old.entry_uuid, new.entry_uuid}
        registered = dossiers.store.objects[package.entry_uuid]
        assert isinstance(registered, Folder)
        assert registered.last_update_time == DTM(UPDATE_TIME)


async def test_an_inherited_membership_belongs_to_the_submissionset(dossiers: Dossiers) -> None:
    old = await dossiers.document()
    package = await dossiers.folder_of(old)
    later = NOW + timedelta(days=1)

    change = await dossiers.register(related(AssociationType.RPLC, document_entry(), old), now=later)

    owner = change.objects[0]
    assert isinstance(owner, SubmissionSet)
    in_folder, of_submission = change.objects[-2:]
    assert isinstance(in_folder, Association)
    assert isinstance(of_submission, Association)
    assert (in_folder.source_object, in_folder.target_object) == (package.entry_uuid, change.objects[1].entry_uuid)
    assert (of_submission.source_object, of_submission.target_object) == (owner.entry_uuid, in_folder.entry_uuid)
    for link in (in_folder, of_submission):
        assert (link.logical_id, link.version, link.availability_status) == (
            link.entry_uuid, "1", AvailabilityStatus.APPROVED,
        )  # fmt: skip
    assert Revision(package.entry_uuid, last_update_time="20260315103015") in change.revisions


async def test_a_membership_that_was_sent_is_not_made_again(dossiers: Dossiers) -> None:
    old = await dossiers.document()
    package = await dossiers.folder_of(old)
    new = document_entry()
    links = (association(AssociationType.RPLC, new, old), has_member(package, new))

    change = await dossiers.register(submission(new, associations=links))

    assert len(change.objects) == len(submission(new, associations=links).objects)
    assert dossiers.members(package) == {old.entry_uuid, new.entry_uuid}


async def test_the_replacement_of_two_documents_joins_their_folder_once(dossiers: Dossiers) -> None:
    first, second = await dossiers.document(), await dossiers.document()
    package = await dossiers.folder_of(first, second)
    new = document_entry()
    links = (association(AssociationType.RPLC, new, first), association(AssociationType.RPLC, new, second))

    change = await dossiers.register(submission(new, associations=links))

    made = [item for item in change.objects if isinstance(item, Association) and item.target_object == new.entry_uuid]
    assert [link.source_object for link in made].count(package.entry_uuid) == 1


async def test_a_deprecated_folder_inherits_nothing(dossiers: Dossiers) -> None:
    old = await dossiers.document()
    package = await dossiers.folder_of(old)
    known = dossiers.store.objects[package.entry_uuid]
    dossiers.store.objects[package.entry_uuid] = replace(known, availability_status=AvailabilityStatus.DEPRECATED)

    await dossiers.related(AssociationType.RPLC, old)

    assert dossiers.members(package) == {old.entry_uuid}


async def test_an_appendix_does_not_join_the_folder_of_its_document(dossiers: Dossiers) -> None:
    entry = await dossiers.document()
    package = await dossiers.folder_of(entry)

    await dossiers.related(AssociationType.APND, entry)

    assert dossiers.members(package) == {entry.entry_uuid}


# Questions


def test_a_submission_asks_for_all_that_it_touches_and_for_nothing_else() -> None:
    old, package = entry_uuid(), entry_uuid()
    entry = document_entry(entry_uuid="Document01")
    links = (
        association(AssociationType.RPLC, entry, old.upper()),
        association(AssociationType.HAS_MEMBER, package, entry, entry_uuid="as01"),
    )
    whole = submission(entry, associations=links)

    asked = questions(whole)

    assert asked.patient_id == PATIENT.text
    assert asked.identifiers == {
        whole.submission_set.unique_id,
        *(item.entry_uuid for item in whole.objects if item.entry_uuid not in ("Document01", "as01")),
    }
    assert asked.document_ids == {entry.unique_id}
    assert asked.references == {old, package}
    assert asked.replaced == {old}


def test_a_submission_without_a_patient_asks_nothing() -> None:
    with pytest.raises(ValueError, match="without patientId"):
        questions(submission(document_entry(), patient_id=None, unique_id=oid()))


def test_objects_without_a_home_get_that_of_this_community_and_others_keep_theirs() -> None:
    ours, theirs = document_entry(), document_entry(home_community_id="urn:oid:1.2.3")

    change = judged(
        submission(ours, theirs), Facts(PATIENT.text), now=NOW, new_uuid=uuid4, home_community_id="urn:oid:4.5.6"
    )

    homes = {item.entry_uuid: item.home_community_id for item in change.objects}
    assert homes.pop(theirs.entry_uuid) == "urn:oid:1.2.3"
    assert set(homes.values()) == {"urn:oid:4.5.6"}
