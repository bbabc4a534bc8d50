"""Register Document Set-b: all of a submission is registered, or nothing."""

# ruff: noqa: ARG002 - a store for tests takes what the port gives it

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from registry.changing import Changing
from registry.code_sets import CodeSet, CodeSets, Policy
from registry.dossier_log import LogRecord
from registry.iti42_register import register_document_set
from registry.metadata_store import Facts, FactsMoved, Questions, RegistryChange
from registry.patient_identities import OpenPatients
from tests.builders import (
    OTHER_PATIENT,
    PATIENT,
    PATIENT_AUTHORITY,
    association,
    document_entry,
    entry_uuid,
    folder,
    has_member,
    submission,
)
from tests.registry.memory_store import MemoryStore
from tests.xds.broken_submissions import BROKEN_MESSAGES, ILLEGAL_VALUES, Broken, with_changes
from xds.actors import RegistryResponse
from xds.errors import ErrorCode, Finding, RegistryError, Severity, XdsError
from xds.hl7v2 import CX
from xds.metadata import AssociationType, AvailabilityStatus, ObjectKind, Submission

NOW = datetime(2026, 3, 14, 10, 30, 15, tzinfo=UTC)
METADATA_ERROR = ErrorCode.REGISTRY_METADATA_ERROR
KNOWN_PATIENTS = OpenPatients(frozenset({PATIENT_AUTHORITY}))
NO_CODE_SETS = CodeSets()
UNKNOWN_PATIENT = CX.of("4711", "1.2.3")

ILLEGAL = [
    pytest.param(kind, attribute, value, id=f"{kind} {attribute} {words}")
    for kind, attributes in ILLEGAL_VALUES.items()
    for attribute, values in attributes.items()
    for value, words in values
]


class BusyDossier(MemoryStore):
    """A store in which other changes come in between a number of times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def apply(self, change: RegistryChange, facts: Facts) -> LogRecord:
        if self.times:
            self.times -= 1
            raise FactsMoved
        return await super().apply(change, facts)


class UnaskedStore(MemoryStore):
    async def known(self, questions: Questions) -> Facts:
        raise AssertionError("there is nothing to ask for")


class PatientStore(MemoryStore):
    """A store that lets others run between reading and writing."""

    async def known(self, questions: Questions) -> Facts:
        facts = await super().known(questions)
        await asyncio.sleep(0)
        return facts


async def register(
    store: MemoryStore, whole: Submission, *, code_sets: CodeSets = NO_CODE_SETS, attempts: int = 10
) -> RegistryResponse:
    return await register_document_set(
        whole,
        Changing(
            store=store,
            patients=KNOWN_PATIENTS,
            code_sets=code_sets,
            clock=lambda: NOW,
            new_uuid=uuid4,
            attempts=attempts,
            pause_seconds=0.0,
        ),
    )


async def refused(
    store: MemoryStore, whole: Submission, *, code_sets: CodeSets = NO_CODE_SETS, attempts: int = 10
) -> tuple[RegistryError, ...]:
    with pytest.raises(XdsError) as refusal:
        await register(store, whole, code_sets=code_sets, attempts=attempts)
    return refusal.value.errors


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def test_a_submission_is_registered_whole(store: MemoryStore) -> None:
    entry, package = document_entry(), folder()
    whole = submission(entry, folders=(package,), associations=(has_member(package, entry),))

    response = await register(store, whole)

    assert response.succeeded
    assert response.errors == ()
    assert set(store.objects) == {item.entry_uuid for item in whole.objects}
    assert [record.time for record in store.log[PATIENT.text]] == ["2026-03-14T10:30:15.000000Z"]


async def test_a_submission_may_bring_a_folder_and_no_document(store: MemoryStore) -> None:
    assert (await register(store, submission(folders=(folder(),)))).succeeded


@pytest.mark.parametrize(("kind", "attribute", "value"), ILLEGAL)
async def test_nothing_is_stored_of_a_submission_with_an_illegal_attribute(
    store: MemoryStore, kind: ObjectKind, attribute: str, value: Any
) -> None:
    errors = await refused(store, with_changes(kind, **{attribute: value}))

    assert METADATA_ERROR in {error.code for error in errors}
    assert (store.objects, store.log) == ({}, {})


@pytest.mark.parametrize("broken", BROKEN_MESSAGES, ids=lambda broken: broken.name)
async def test_nothing_is_stored_of_a_submission_that_breaks_a_rule(store: MemoryStore, broken: Broken) -> None:
    errors = await refused(store, broken.submission)

    told = {error.code for error in errors if broken.words in error.code_context}
    assert told == {broken.code or METADATA_ERROR}
    assert (store.objects, store.log) == ({}, {})


async def test_nothing_is_stored_of_a_submission_that_contradicts_the_registry(store: MemoryStore) -> None:
    await register(store, submission(known := document_entry()))
    before = dict(store.objects)

    whole = submission(document_entry(), document_entry(unique_id=known.unique_id, hash="0" * 40))
    errors = await refused(store, whole)

    assert [error.code for error in errors] == [ErrorCode.NON_IDENTICAL_HASH]
    assert store.objects == before
    assert len(store.log[PATIENT.text]) == 1


async def test_a_submission_without_patient_is_refused_without_asking_the_store() -> None:
    errors = await refused(UnaskedStore(), submission(document_entry(), patient_id=None))

    assert [error.location.rpartition("/")[2] for error in errors] == ["patientId"]


async def test_broken_rules_and_contradictions_are_told_together(store: MemoryStore) -> None:
    await register(store, submission(known := document_entry()))
    entry = document_entry(unique_id=known.unique_id, hash="0" * 40, class_code=None, patient_id=UNKNOWN_PATIENT)
    link = association(AssociationType.APND, entry, entry_uuid())
    code_sets = CodeSets({"type_code": CodeSet(frozenset({"1^^1.2.3"}))})

    errors = await refused(store, submission(entry, associations=(link,)), code_sets=code_sets)

    assert [(error.code, error.location.rpartition("/")[2]) for error in errors] == [
        (METADATA_ERROR, "classCode"),
        (METADATA_ERROR, "typeCode"),
        (ErrorCode.UNKNOWN_PATIENT_ID, "patientId"),
        (ErrorCode.NON_IDENTICAL_HASH, "hash"),
        (ErrorCode.UNRESOLVED_REFERENCE, "targetObject"),
    ]


async def test_what_the_reader_found_refuses_the_submission(store: MemoryStore) -> None:
    unread = Finding("creationTime was sent twice.", "Document01/creationTime")

    errors = await refused(store, replace(submission(document_entry()), findings=(unread,)))

    assert errors == (RegistryError(METADATA_ERROR, unread.code_context, unread.location),)


async def test_a_warning_of_the_reader_comes_back_with_success(store: MemoryStore) -> None:
    warning = Finding("note was not kept.", "", ErrorCode.EXTRA_METADATA_NOT_SAVED, Severity.WARNING)

    response = await register(store, replace(submission(document_entry()), findings=(warning,)))

    assert response.succeeded
    assert [(error.code, error.severity) for error in response.errors] == [
        (ErrorCode.EXTRA_METADATA_NOT_SAVED, Severity.WARNING)
    ]


# Patients


async def test_an_unknown_patient_is_refused_with_the_id(store: MemoryStore) -> None:
    [error] = await refused(store, submission(document_entry(patient_id=UNKNOWN_PATIENT)))

    assert error.code is ErrorCode.UNKNOWN_PATIENT_ID
    assert UNKNOWN_PATIENT.text in error.code_context
    assert store.log == {}


async def test_unknown_patients_that_differ_are_told_as_both(store: MemoryStore) -> None:
    entry = document_entry(patient_id=CX.of("4712", "1.2.3"))

    errors = await refused(store, submission(entry, patient_id=UNKNOWN_PATIENT))

    assert [error.code for error in errors] == [
        ErrorCode.PATIENT_ID_DOES_NOT_MATCH,
        ErrorCode.UNKNOWN_PATIENT_ID,
    ]


async def test_a_malformed_patient_id_is_told_once(store: MemoryStore) -> None:
    errors = await refused(store, submission(document_entry(patient_id=PATIENT), patient_id=CX("4711")))

    assert ErrorCode.UNKNOWN_PATIENT_ID not in {error.code for error in errors}


async def test_each_patient_has_a_log_of_its_own(store: MemoryStore) -> None:
    for patient in (PATIENT, OTHER_PATIENT):
        await register(store, submission(document_entry(patient_id=patient)))

    assert {patient: len(records) for patient, records in store.log.items()} == {
        PATIENT.text: 1, OTHER_PATIENT.text: 1,
    }  # fmt: skip


# Codes


async def test_a_code_to_be_rejected_refuses_the_submission(store: MemoryStore) -> None:
    code_sets = CodeSets({"class_code": CodeSet(frozenset({"1^^1.2.3"}), Policy.REJECT)})

    [error] = await refused(store, submission(document_entry()), code_sets=code_sets)

    assert error.code is METADATA_ERROR
    assert "which this affinity domain does not have; send 1^^1.2.3" in error.code_context
    assert store.log == {}


async def test_a_code_to_be_told_comes_back_with_success(store: MemoryStore) -> None:
    code_sets = CodeSets({"class_code": CodeSet(frozenset({"1^^1.2.3"}), Policy.WARN)})

    response = await register(store, submission(document_entry()), code_sets=code_sets)

    assert response.succeeded
    assert [error.severity for error in response.errors] == [Severity.WARNING]
    assert len(store.log[PATIENT.text]) == 1


async def test_warnings_are_told_with_the_errors_of_a_refusal(store: MemoryStore) -> None:
    code_sets = CodeSets({"class_code": CodeSet(frozenset({"1^^1.2.3"}), Policy.WARN)})

    errors = await refused(store, submission(document_entry(hash="abc")), code_sets=code_sets)

    assert {error.severity for error in errors} == {Severity.ERROR, Severity.WARNING}


# Submissions that meet


@pytest.mark.parametrize("times", [1, 9])
async def test_a_submission_is_judged_again_when_another_came_in_between(times: int) -> None:
    store = BusyDossier(times)

    assert (await register(store, submission(document_entry()))).succeeded
    assert len(store.log[PATIENT.text]) == 1


async def test_a_dossier_that_never_rests_is_busy() -> None:
    store = BusyDossier(times=3)

    [error] = await refused(store, submission(document_entry()), attempts=3)

    assert error.code is ErrorCode.REGISTRY_BUSY
    assert "send the submission again" in error.code_context
    assert store.objects == {}


async def test_of_two_replacements_that_meet_one_wins() -> None:
    store = PatientStore()
    await register(store, submission(old := document_entry()))

    outcomes = await asyncio.gather(
        *(
            register(store, submission(entry, associations=(association(AssociationType.RPLC, entry, old),)))
            for entry in (document_entry(), document_entry())
        ),
        return_exceptions=True,
    )

    refusals = [outcome for outcome in outcomes if isinstance(outcome, XdsError)]
    [refusal] = refusals
    assert [error.code for error in refusal.errors] == [ErrorCode.REGISTRY_DEPRECATED_DOCUMENT_ERROR]
    assert store.objects[old.entry_uuid].availability_status == AvailabilityStatus.DEPRECATED
    assert len(store.log[PATIENT.text]) == 2


async def test_of_two_documents_with_one_uniqueid_that_meet_one_wins() -> None:
    store = PatientStore()
    first = document_entry()
    second = document_entry(unique_id=first.unique_id, hash="0" * 40, patient_id=OTHER_PATIENT)

    outcomes = await asyncio.gather(
        register(store, submission(first)), register(store, submission(second)), return_exceptions=True
    )

    [refusal] = [outcome for outcome in outcomes if isinstance(outcome, XdsError)]
    assert [error.code for error in refusal.errors] == [ErrorCode.NON_IDENTICAL_HASH]


async def test_many_submissions_for_one_patient_are_all_registered() -> None:
    store = PatientStore()

    responses = await asyncio.gather(*(register(store, submission(document_entry()), attempts=50) for _ in range(10)))

    assert all(response.succeeded for response in responses)
    assert [record.sequence for record in store.log[PATIENT.text]] == list(range(1, 11))
