"""Patients that feeds name and merge: what a registry answers for each of their ids, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from registry.actor import Registry
from registry.dossier_check import checked_dossiers
from registry.merged_patients import PatientsView
from registry.metadata_store import Criteria, Facts, MetadataStore, Questions
from registry.patient_identities import CheckPolicy, FedPatients, NumberCheck, OpenPatients
from registry.patient_register import FeedRefused, PatientRegister, Reason
from tests.builders import (
    OTHER_PATIENT,
    PATIENT,
    PATIENT_AUTHORITY,
    association,
    document_entry,
    submission,
)
from tests.registry.stores import ADAPTERS, opening_of
from tests.xds.broken_updates import next_version, update_of
from xds.actors import QueryRequest, QueryResponse, ReturnType
from xds.ebxml_writer import codec
from xds.errors import ErrorCode, ResponseStatus, Severity
from xds.hl7v2 import CX
from xds.metadata import Association, AssociationType, AvailabilityStatus, DocumentEntry, ObjectKind, Submission
from xds.paged_search import PagedSearch, SearchOver

THIRD_PATIENT = CX.of("4", PATIENT_AUTHORITY)
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
FIND_DOCUMENTS_OF_SEVERAL = "urn:uuid:3d1bdb10-39a2-11de-89c2-2f44d94eaa9f"
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
BOTH_STATUSES = (
    "('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved','urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated')",
)


@pytest.fixture(params=ADAPTERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MetadataStore]:
    async with opening_of(request.param, request, tmp_path, codec) as opening:
        yield await opening()


@pytest.fixture
def register(store: MetadataStore) -> PatientRegister:
    return PatientRegister(store=store, well_formed=OpenPatients(frozenset({PATIENT_AUTHORITY})))


@pytest.fixture
def registry(store: MetadataStore) -> Registry:
    return Registry(store=store, patients=FedPatients(), codec=codec)


def sent(*objects: DocumentEntry, patient: CX = PATIENT, links: tuple[Association, ...] = ()) -> Submission:
    """A submission of these entries for a patient."""
    return submission(*(objects or (document_entry(patient_id=patient),)), associations=links, patient_id=patient)


async def documents_of(registry: Registry, patient: CX) -> list[DocumentEntry]:
    """The documents that FindDocuments returns for a patient."""
    request = QueryRequest(
        FIND_DOCUMENTS,
        ReturnType.LEAF_CLASS,
        (("$XDSDocumentEntryPatientId", (f"'{patient}'",)), ("$XDSDocumentEntryStatus", BOTH_STATUSES)),
    )
    return read(await registry.stored_query(request))


def read(response: QueryResponse) -> list[DocumentEntry]:
    assert response.status is ResponseStatus.SUCCESS, response.errors
    items = [codec.read(each.ebrim) for each in response.found if each.ebrim is not None]
    return [item for item in items if isinstance(item, DocumentEntry)]


async def codes(registry: Registry, submitted: Submission) -> list[ErrorCode | str]:
    return [error.code for error in (await registry.register_document_set(submitted)).errors]


async def both_patients_with_documents(registry: Registry, register: PatientRegister) -> None:
    for patient in (PATIENT, OTHER_PATIENT):
        await register.admit([patient])
        assert await codes(registry, sent(patient=patient)) == []


async def problems(store: MetadataStore) -> list[str]:
    return [problem async for dossier in checked_dossiers(store, codec) for problem in dossier.problems]


async def test_a_document_of_a_merged_patient_is_updated(
    registry: Registry, register: PatientRegister, store: MetadataStore
) -> None:
    await both_patients_with_documents(registry, register)
    await register.merge([PATIENT], [OTHER_PATIENT])
    merged = (await documents_of(registry, PATIENT))[-1]
    new = next_version(merged, logical_id=merged.entry_uuid, patient_id=PATIENT)

    assert (await registry.update_document_set(update_of(new))).errors == ()

    shown = {each.entry_uuid: each for each in await documents_of(registry, PATIENT)}
    assert len(shown) == 2
    assert merged.entry_uuid not in shown  # it is an older version now
    assert shown[new.entry_uuid].availability_status == AvailabilityStatus.APPROVED
    assert shown[new.entry_uuid].patient_id == PATIENT
    assert await problems(store) == []


# --- known patients --------------------------------------------------------------------------------------------------


async def test_a_submission_for_a_patient_that_no_feed_named_is_refused(
    registry: Registry, register: PatientRegister
) -> None:
    response = await registry.register_document_set(sent())

    (error,) = response.errors
    assert error.code == ErrorCode.UNKNOWN_PATIENT_ID
    assert "no patient identity feed has named it" in error.code_context
    assert await documents_of(registry, PATIENT) == []

    await register.admit([PATIENT])
    assert await codes(registry, sent()) == []


async def test_a_patient_who_is_merged_while_a_submission_is_judged_is_unknown(
    store: MetadataStore, register: PatientRegister, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for patient in (PATIENT, OTHER_PATIENT):
        await register.admit([patient])
    known = store.known

    async def merged_after(questions: Questions) -> Facts:
        facts = await known(questions)
        monkeypatch.undo()
        await register.merge([OTHER_PATIENT], [PATIENT])
        return facts

    monkeypatch.setattr(store, "known", merged_after)

    assert await codes(registry, sent()) == [ErrorCode.UNKNOWN_PATIENT_ID]
    assert await documents_of(registry, OTHER_PATIENT) == []


def test_a_patient_may_be_unknown_where_the_policy_is_open() -> None:
    assert FedPatients(required=False).problem(PATIENT, None) is None


async def test_the_id_of_the_affinity_domain_is_taken_from_among_others(
    store: MetadataStore, register: PatientRegister
) -> None:
    local, own = CX("77^^^LOCAL&1.2.3&ISO^MR"), CX(f"4711^^^NHS&{PATIENT_AUTHORITY}&ISO^NH")

    assert await register.admit([local, own]) == CX.of("4711", PATIENT_AUTHORITY)
    assert await store.identities([CX.of("77", "1.2.3").text]) == {}


async def test_an_authority_may_be_named_by_its_namespace_alone(store: MetadataStore) -> None:
    register = PatientRegister(store=store, namespaces={"NHS": PATIENT_AUTHORITY})

    assert await register.admit([CX("4711^^^NHS")]) == CX.of("4711", PATIENT_AUTHORITY)


@pytest.mark.parametrize(
    ("sent_id", "reason"),
    [("", Reason.MISSING), ("4711", Reason.MALFORMED), ("4711^^^&1.2.3&ISO", Reason.MALFORMED)],
    ids=["none", "without authority", "of another authority"],
)
async def test_a_feed_without_an_id_of_the_affinity_domain_is_refused(
    register: PatientRegister, sent_id: str, reason: Reason
) -> None:
    with pytest.raises(FeedRefused) as refused:
        await register.admit([CX(sent_id)])

    assert refused.value.reason is reason


# --- merges ----------------------------------------------------------------------------------------------------------


async def test_the_surviving_id_answers_for_both_and_the_subsumed_for_nothing(
    store: MetadataStore, registry: Registry, register: PatientRegister
) -> None:
    await both_patients_with_documents(registry, register)

    await register.merge([PATIENT], [OTHER_PATIENT])

    documents = await documents_of(registry, PATIENT)
    assert [entry.patient_id for entry in documents] == [PATIENT, PATIENT]
    assert await documents_of(registry, OTHER_PATIENT) == []
    assert await codes(registry, sent(patient=OTHER_PATIENT)) == [ErrorCode.UNKNOWN_PATIENT_ID]
    assert await codes(registry, sent()) == []
    assert len(await documents_of(registry, PATIENT)) == 3
    assert await problems(store) == []


async def test_what_was_merged_stays_merged_after_a_reindex(
    store: MetadataStore, registry: Registry, register: PatientRegister
) -> None:
    await both_patients_with_documents(registry, register)
    await register.merge([PATIENT], [OTHER_PATIENT])

    await store.reindex()

    assert len(await documents_of(registry, PATIENT)) == 2
    assert await documents_of(registry, OTHER_PATIENT) == []


async def test_searches_in_pages_find_what_was_merged(registry: Registry, register: PatientRegister) -> None:
    await both_patients_with_documents(registry, register)
    search = PagedSearch(ObjectKind.DOCUMENT_ENTRY, (), (PATIENT.text,), "creation_time", limit=1)
    await register.merge([PATIENT], [OTHER_PATIENT])

    first = await registry.page(search)
    second = await registry.page(replace(search, after=first.objects[0].place, as_of=first.as_of))
    subsumed = await registry.page(replace(search, patient_ids=(OTHER_PATIENT.text,)))

    assert (first.total, first.more, second.more) == (2, True, False)
    assert [each.patient_id for page in (first, second) for each in page.objects] == [PATIENT.text] * 2
    merged = [each.ebrim for page in (first, second) for each in page.objects if each.ebrim is not None]
    assert [getattr(codec.read(ebrim), "patient_id", None) for ebrim in merged] == [PATIENT] * len(merged)
    assert (subsumed.objects, subsumed.total) == ((), 0)


@pytest.mark.parametrize("survives", [True, False])
async def test_a_search_whose_patient_is_merged_between_two_pages_is_over(
    registry: Registry, register: PatientRegister, *, survives: bool
) -> None:
    await both_patients_with_documents(registry, register)
    search = PagedSearch(ObjectKind.DOCUMENT_ENTRY, (), (PATIENT.text,), "creation_time", limit=1)
    first = await registry.page(search)
    both = ([PATIENT], [OTHER_PATIENT]) if survives else ([OTHER_PATIENT], [PATIENT])
    await register.merge(*both)

    with pytest.raises(SearchOver):
        await registry.page(replace(search, after=first.objects[0].place, as_of=first.as_of))


async def test_merges_form_a_chain(registry: Registry, register: PatientRegister) -> None:
    await both_patients_with_documents(registry, register)
    await register.admit([THIRD_PATIENT])

    await register.merge([PATIENT], [OTHER_PATIENT])
    await register.merge([THIRD_PATIENT], [PATIENT])

    assert [entry.patient_id for entry in await documents_of(registry, THIRD_PATIENT)] == [THIRD_PATIENT] * 2
    assert await documents_of(registry, PATIENT) == []


async def test_a_count_is_of_all_that_was_merged(
    store: MetadataStore, registry: Registry, register: PatientRegister
) -> None:
    await both_patients_with_documents(registry, register)
    of_patient, of_other, of_third, of_anybody = (
        Criteria(ObjectKind.DOCUMENT_ENTRY, (), tuple(patient.text for patient in patients))
        for patients in ((PATIENT,), (OTHER_PATIENT,), (THIRD_PATIENT,), ())
    )

    async def counts() -> list[int]:
        view = PatientsView(store)
        return [await view.count(each) for each in (of_patient, of_other, of_third, of_anybody)]

    assert await counts() == [1, 1, 0, 2]
    await register.merge([PATIENT], [OTHER_PATIENT])
    assert await counts() == [2, 0, 0, 2]
    await register.admit([THIRD_PATIENT])
    await register.merge([THIRD_PATIENT], [PATIENT])
    assert await counts() == [0, 0, 2, 2]


async def test_a_query_of_several_patients_finds_each_with_what_was_merged_into_it(
    store: MetadataStore, registry: Registry, register: PatientRegister
) -> None:
    await both_patients_with_documents(registry, register)
    await register.admit([THIRD_PATIENT])
    assert await codes(registry, sent(patient=THIRD_PATIENT)) == []
    patients = ",".join(f"'{patient}'" for patient in (PATIENT, OTHER_PATIENT, THIRD_PATIENT))
    request = QueryRequest(
        FIND_DOCUMENTS_OF_SEVERAL,
        ReturnType.LEAF_CLASS,
        (("$XDSDocumentEntryPatientId", (f"({patients})",)), ("$XDSDocumentEntryStatus", BOTH_STATUSES)),
    )

    async def owners() -> list[str]:
        found = read(await registry.multi_patient_query(request))
        return sorted(entry.patient_id.text for entry in found if entry.patient_id is not None)

    assert await owners() == sorted(each.text for each in (PATIENT, OTHER_PATIENT, THIRD_PATIENT))
    await register.merge([PATIENT], [OTHER_PATIENT])
    assert await owners() == sorted(each.text for each in (PATIENT, PATIENT, THIRD_PATIENT))


async def test_a_merge_while_a_query_is_answered_does_not_halve_the_answer(
    store: MetadataStore, registry: Registry, register: PatientRegister
) -> None:
    await both_patients_with_documents(registry, register)
    view, later = PatientsView(store), PatientsView(store)
    sets, entries = (
        Criteria(kind, (), (OTHER_PATIENT.text,)) for kind in (ObjectKind.SUBMISSION_SET, ObjectKind.DOCUMENT_ENTRY)
    )

    before = await view.find(sets)
    await register.merge([PATIENT], [OTHER_PATIENT])
    after = await view.find(entries)

    assert [each.patient_id for each in (*before, *after)] == [OTHER_PATIENT.text] * 2
    assert await later.find(sets) == await later.find(entries) == ()


async def test_objects_of_merged_patients_are_those_of_one_patient(
    registry: Registry, register: PatientRegister
) -> None:
    await both_patients_with_documents(registry, register)
    uuids = [
        entry.entry_uuid for patient in (PATIENT, OTHER_PATIENT) for entry in await documents_of(registry, patient)
    ]
    values = ",".join(f"'{each}'" for each in uuids)
    request = QueryRequest(GET_DOCUMENTS, ReturnType.LEAF_CLASS, (("$XDSDocumentEntryEntryUUID", (f"({values})",)),))
    (error,) = (await registry.stored_query(request)).errors
    assert error.code == ErrorCode.RESULT_NOT_SINGLE_PATIENT

    await register.merge([PATIENT], [OTHER_PATIENT])

    assert {entry.patient_id for entry in read(await registry.stored_query(request))} == {PATIENT}


async def test_the_surviving_patient_may_replace_and_append_to_what_was_the_subsumed_ones(
    store: MetadataStore, registry: Registry, register: PatientRegister
) -> None:
    await both_patients_with_documents(registry, register)
    (theirs,) = await documents_of(registry, OTHER_PATIENT)
    await register.merge([PATIENT], [OTHER_PATIENT])
    appended, replacement = document_entry(), document_entry()

    for entry, relationship in ((appended, AssociationType.APND), (replacement, AssociationType.RPLC)):
        link = association(relationship, entry, theirs.entry_uuid)
        assert await codes(registry, sent(entry, links=(link,))) == []

    statuses = {entry.unique_id: entry.availability_status for entry in await documents_of(registry, PATIENT)}
    assert len(statuses) == 4
    assert statuses[theirs.unique_id] == statuses[appended.unique_id] == AvailabilityStatus.DEPRECATED
    assert statuses[replacement.unique_id] == AvailabilityStatus.APPROVED
    assert await problems(store) == []


async def test_one_submission_refers_to_what_was_registered_for_one_of_the_merged_ids(
    registry: Registry, register: PatientRegister
) -> None:
    await both_patients_with_documents(registry, register)
    (mine,) = await documents_of(registry, PATIENT)
    (theirs,) = await documents_of(registry, OTHER_PATIENT)
    await register.merge([PATIENT], [OTHER_PATIENT])
    entry = document_entry()
    links = tuple(association(AssociationType.APND, entry, end.entry_uuid) for end in (mine, theirs))

    assert await codes(registry, sent(entry, links=links)) == [ErrorCode.REGISTRY_ERROR]


async def test_another_patients_documents_stay_out_of_reach(registry: Registry, register: PatientRegister) -> None:
    await both_patients_with_documents(registry, register)
    (theirs,) = await documents_of(registry, OTHER_PATIENT)
    entry = document_entry()
    link = association(AssociationType.APND, entry, theirs.entry_uuid)

    assert await codes(registry, sent(entry, links=(link,))) == [ErrorCode.PATIENT_ID_DOES_NOT_MATCH]


async def test_a_merge_that_is_sent_again_is_no_mistake(store: MetadataStore, register: PatientRegister) -> None:
    for patient in (PATIENT, OTHER_PATIENT):
        await register.admit([patient])
    await register.merge([PATIENT], [OTHER_PATIENT])
    records = [record async for record in store.records()]

    await register.merge([PATIENT], [OTHER_PATIENT])

    assert [record async for record in store.records()] == records


@pytest.mark.parametrize(
    ("surviving", "subsumed", "reason"),
    [
        (PATIENT, PATIENT, Reason.DUPLICATE),
        (PATIENT, CX.of("unknown", PATIENT_AUTHORITY), Reason.UNKNOWN),
        (CX.of("unknown", PATIENT_AUTHORITY), PATIENT, Reason.UNKNOWN),
        (CX.of("4711", "1.2.3"), PATIENT, Reason.MALFORMED),
        (PATIENT, CX.of("4711", "1.2.3"), Reason.MALFORMED),
        (PATIENT, CX(""), Reason.MISSING),
        (PATIENT, OTHER_PATIENT, Reason.DUPLICATE),
        (OTHER_PATIENT, PATIENT, Reason.DUPLICATE),
    ],
    ids=[
        "with itself", "of an unknown id", "into an unknown id", "into an id of another authority",
        "of an id of another authority", "of no id", "of an id that is subsumed", "into an id that is subsumed",
    ],
)  # fmt: skip
async def test_a_merge_that_can_not_be_changes_nothing(
    store: MetadataStore, register: PatientRegister, surviving: CX, subsumed: CX, reason: Reason
) -> None:
    for patient in (PATIENT, OTHER_PATIENT, THIRD_PATIENT):
        await register.admit([patient])
    await register.merge([THIRD_PATIENT], [OTHER_PATIENT])
    records = [record async for record in store.records()]

    with pytest.raises(FeedRefused) as refused:
        await register.merge([surviving], [subsumed])

    assert refused.value.reason is reason
    assert [record async for record in store.records()] == records


async def test_of_two_merges_that_would_go_around_in_a_circle_one_is_refused(
    store: MetadataStore, register: PatientRegister
) -> None:
    for patient in (PATIENT, OTHER_PATIENT):
        await register.admit([patient])

    outcomes = await asyncio.gather(
        register.merge([PATIENT], [OTHER_PATIENT]),
        register.merge([OTHER_PATIENT], [PATIENT]),
        return_exceptions=True,
    )

    assert sum(isinstance(outcome, FeedRefused) for outcome in outcomes) == 1, outcomes
    identities = await store.identities([PATIENT.text, OTHER_PATIENT.text])
    assert sorted(identity.merged_into is None for identity in identities.values()) == [False, True]


# --- national numbers ------------------------------------------------------------------------------------------------


async def test_a_number_that_its_authority_can_not_have_given_is_refused_told_or_let_pass(store: MetadataStore) -> None:
    outcomes = {}
    for policy in CheckPolicy:
        check = NumberCheck("even number", lambda number: int(number[-1]) % 2 == 0, policy)
        patients = OpenPatients(checks={PATIENT_AUTHORITY: check})
        registry = Registry(store=store, patients=patients)
        response = await registry.register_document_set(sent())
        outcomes[policy] = [(error.severity, error.code) for error in response.errors]

    assert PATIENT.id_number.endswith("9")
    assert outcomes == {
        CheckPolicy.REJECT: [(Severity.ERROR, ErrorCode.UNKNOWN_PATIENT_ID)],
        CheckPolicy.WARN: [(Severity.WARNING, ErrorCode.REGISTRY_METADATA_ERROR)],
        CheckPolicy.OFF: [],
    }
