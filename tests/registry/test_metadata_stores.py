"""The promises of registry/metadata_store.py, on every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from registry.dossier_check import checked_dossiers
from registry.dossier_log import LogRecord
from registry.metadata_store import (
    Criteria,
    FactsMoved,
    Fingerprint,
    IndexRow,
    Match,
    MetadataStore,
    Operator,
    PatientIdentity,
    Questions,
    RegistryChange,
    Revision,
    StoreBusy,
    StoreDamaged,
)
from registry.search_columns import search_columns
from tests.builders import (
    CONTENT_HASH,
    OTHER_PATIENT,
    PATIENT,
    association,
    author,
    code,
    document_entry,
    entry_uuid,
    folder,
    full_document_entry,
    has_member,
    oid,
    registered,
    submission_set,
    text,
)
from tests.registry.dossiers import change_of, commit, found, identify, register, submitted
from tests.registry.memory_store import MemoryStore
from tests.registry.stores import ADAPTERS, Opening, opening_of
from xds.ebxml_writer import codec
from xds.hl7v2 import CX, DTM, XCN, CXi
from xds.metadata import AnyObject, AssociationType, AvailabilityStatus, DocumentEntry, Folder, ObjectKind

APPROVED, DEPRECATED = AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED
ENTRY, SET, FOLDER, ASSOCIATION = ObjectKind


@pytest.fixture
async def original() -> MetadataStore:
    """A registry to copy from: dossiers with revisions, over several records."""
    memory = MemoryStore(codec)
    for number in range(12):
        old = entry(patient_id=patient(number))
        await register(memory, *submitted(old, patient=patient(number)), patient=patient(number))
        deprecation = Revision(old.entry_uuid, availability_status=DEPRECATED)
        await register(memory, *submitted(patient=patient(number)), patient=patient(number), revisions=(deprecation,))
    return memory


@pytest.fixture(params=ADAPTERS)
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opening]:
    """Opens the same store, as often as it is called."""
    async with opening_of(request.param, request, tmp_path, codec) as opening:
        yield opening


@pytest.fixture
async def store(opened: Opening) -> MetadataStore:
    return await opened()


async def problems(store: MetadataStore) -> list[str]:
    """What a deep check finds."""
    return [problem async for dossier in checked_dossiers(store, codec) for problem in dossier.problems]


def patient(number: int) -> CX:
    return CX.of(str(number), "2.25.7331")


def entry(**changes: object) -> DocumentEntry:
    return registered(document_entry(**changes))


# --- apply -----------------------------------------------------------------------------------------------------------


async def test_what_was_committed_is_found_as_it_was_registered(store: MetadataStore) -> None:
    full = registered(full_document_entry())
    objects = submitted(full)

    await register(store, *objects)

    for item in objects:
        (stored,) = await store.find(Criteria(item.kind, (Match.any_of("entry_uuid", (item.entry_uuid,)),)))
        assert stored.ebrim == codec.written(item)
        assert codec.read(stored.ebrim) == item
        assert (stored.kind, stored.patient_id) == (item.kind, PATIENT.text)
        assert stored.home_community_id == item.home_community_id


async def test_another_process_and_a_restart_see_what_was_committed(opened: Opening) -> None:
    first, second = await opened(), await opened()
    item = entry()

    await register(first, item)
    assert await found(second, ENTRY, patients=(PATIENT,)) == [item.entry_uuid]

    await first.close()
    await second.close()
    assert await found(await opened(), ENTRY, patients=(PATIENT,)) == [item.entry_uuid]


async def test_a_change_answers_with_its_record_of_the_log(store: MetadataStore) -> None:
    change = change_of(*submitted())

    record = await commit(store, change)

    assert (record.patient_id, record.sequence) == (PATIENT.text, 1)
    assert (record.change_id, record.time) == (change.change_id, change.time)
    assert [each async for each in store.records()] == [record]


async def test_of_two_changes_judged_on_the_same_facts_one_is_committed(store: MetadataStore) -> None:
    await register(store, *submitted())
    facts = await store.known(Questions(PATIENT.text))
    items = [entry(), entry()]

    outcomes = await asyncio.gather(*(store.apply(change_of(item), facts) for item in items), return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {LogRecord, FactsMoved}
    winner = items[[isinstance(outcome, LogRecord) for outcome in outcomes].index(True)]
    assert (await found(store, ENTRY, patients=(PATIENT,)))[1:] == [winner.entry_uuid]
    assert await problems(store) == []


async def test_facts_that_have_moved_leave_no_trace_of_the_change(store: MetadataStore) -> None:
    facts = await store.known(Questions(PATIENT.text))
    await register(store, *submitted())
    late = submitted()

    with pytest.raises(FactsMoved):
        await store.apply(change_of(*late), facts)

    known = await store.known(Questions(PATIENT.text, identifiers=frozenset(item.entry_uuid for item in late)))
    assert (known.sequence, known.taken) == (1, {})
    assert await problems(store) == []


async def test_many_dossiers_are_written_at_once(store: MetadataStore) -> None:
    async def register_ten(number: int) -> None:
        for _ in range(10):
            await register(store, *submitted(patient=patient(number)), patient=patient(number))

    await asyncio.gather(*(register_ten(number) for number in range(32)))

    assert await store.count(Criteria(ENTRY)) == 320
    assert await problems(store) == []


async def test_writers_of_one_dossier_follow_one_another_without_gaps(store: MetadataStore) -> None:
    async def register_until_accepted() -> None:
        change = change_of(*submitted())
        while True:
            try:
                await commit(store, change)
            except FactsMoved:
                continue
            return

    await asyncio.gather(*(register_until_accepted() for _ in range(12)))

    assert [record.sequence async for record in store.records(PATIENT.text)] == list(range(1, 13))
    assert await problems(store) == []


@pytest.mark.parametrize("kind", ["entryUUID", "uniqueId of a SubmissionSet", "uniqueId of a Folder"])
async def test_one_identifier_is_not_given_to_objects_of_two_dossiers(store: MetadataStore, kind: str) -> None:
    def bearing(identifier: str, owner: CX) -> AnyObject:
        match kind:
            case "entryUUID":
                return entry(entry_uuid=identifier, patient_id=owner)
            case "uniqueId of a SubmissionSet":
                return registered(submission_set(unique_id=identifier, patient_id=owner))
            case _:
                return registered(folder(unique_id=identifier, patient_id=owner))

    identifier = entry_uuid() if kind == "entryUUID" else oid()
    outcomes = await asyncio.gather(
        *(register(store, bearing(identifier, patient(number)), patient=patient(number)) for number in range(4)),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes].count(FactsMoved) == 3
    assert sum([await store.count(Criteria(each)) for each in ObjectKind]) == 1
    assert await problems(store) == []


async def test_one_unique_id_does_not_name_documents_with_different_hashes(store: MetadataStore) -> None:
    unique_id = oid()
    items = [entry(unique_id=unique_id, patient_id=patient(number), hash=f"{number:040x}") for number in range(4)]

    outcomes = await asyncio.gather(
        *(register(store, item, patient=patient(number)) for number, item in enumerate(items)), return_exceptions=True
    )

    assert [type(outcome) for outcome in outcomes].count(FactsMoved) == 3
    assert await store.count(Criteria(ENTRY)) == 1
    assert await problems(store) == []


async def test_one_document_may_be_in_several_dossiers_whatever_the_case_of_its_hash(store: MetadataStore) -> None:
    unique_id = oid()

    await register(store, entry(unique_id=unique_id, hash=CONTENT_HASH.upper()))
    await register(
        store, entry(unique_id=unique_id, patient_id=OTHER_PATIENT, hash=CONTENT_HASH), patient=OTHER_PATIENT
    )

    assert await store.count(Criteria(ENTRY, (Match.any_of("unique_id", (unique_id,)),))) == 2


async def test_a_change_is_committed_whole_or_not_at_all(store: MetadataStore) -> None:
    first = submitted()
    await register(store, *first)
    new = entry(patient_id=OTHER_PATIENT)

    with pytest.raises(FactsMoved):
        await register(store, new, replace(new, entry_uuid=first[0].entry_uuid), patient=OTHER_PATIENT)

    assert await found(store, ENTRY, patients=(OTHER_PATIENT,)) == []
    assert [record async for record in store.records(OTHER_PATIENT.text)] == []
    assert (await store.known(Questions(OTHER_PATIENT.text))).sequence == 0


async def test_a_change_of_one_dossier_is_not_judged_on_the_facts_of_another(store: MetadataStore) -> None:
    facts = await store.known(Questions(OTHER_PATIENT.text))

    with pytest.raises(ValueError, match="the facts are of another"):
        await store.apply(change_of(entry()), facts)


async def test_a_change_does_not_give_one_identifier_to_two_objects(store: MetadataStore) -> None:
    item = entry()

    with pytest.raises(ValueError, match="one identifier to two objects"):
        await register(store, item, item)


async def test_a_revision_changes_what_is_found(store: MetadataStore) -> None:
    old, kept = entry(), entry()
    case = registered(folder(last_update_time=DTM("20260101000000")))
    await register(store, old, kept, case)

    await register(
        store,
        revisions=(
            Revision(old.entry_uuid, availability_status=DEPRECATED),
            Revision(case.entry_uuid, last_update_time="20260314102000"),
        ),
    )

    status = Match.any_of("availability_status", (DEPRECATED,))
    (stored,) = await store.find(Criteria(ENTRY, (status,), (PATIENT.text,)))
    assert codec.read(stored.ebrim or b"") == replace(old, availability_status=DEPRECATED)
    (updated,) = await store.find(Criteria(FOLDER, (), (PATIENT.text,)))
    assert codec.read(updated.ebrim or b"") == replace(case, last_update_time=DTM("20260314102000"))
    since = Match("last_update_time", Operator.AT_OR_AFTER, (("20260314102000",),))
    assert await found(store, FOLDER, since, patients=(PATIENT,)) == [case.entry_uuid]
    assert await found(store, ENTRY, patients=(PATIENT,)) == [old.entry_uuid, kept.entry_uuid]
    assert await problems(store) == []


async def test_a_revision_reaches_no_other_dossier(store: MetadataStore) -> None:
    item = entry()
    await register(store, item)

    with pytest.raises(ValueError, match="is not in the dossier"):
        await register(
            store, revisions=(Revision(item.entry_uuid, availability_status=DEPRECATED),), patient=OTHER_PATIENT
        )

    assert await found(store, ENTRY, Match.any_of("availability_status", (APPROVED,))) == [item.entry_uuid]
    assert (await store.known(Questions(OTHER_PATIENT.text))).sequence == 0


async def test_a_refused_change_does_not_disturb_those_that_are_written_with_it(store: MetadataStore) -> None:
    taken = entry()
    await register(store, taken)
    facts = {number: await store.known(Questions(patient(number).text)) for number in range(20)}

    outcomes = await asyncio.gather(
        *(
            store.apply(
                change_of(
                    *((taken,) if number % 5 == 0 else submitted(patient=patient(number))), patient=patient(number)
                ),
                facts[number],
            )
            for number in range(20)
        ),
        return_exceptions=True,
    )

    assert [isinstance(outcome, FactsMoved) for outcome in outcomes] == [number % 5 == 0 for number in range(20)]
    assert await store.count(Criteria(ENTRY)) == 17
    assert await problems(store) == []


async def test_a_large_submission_is_one_change(store: MetadataStore) -> None:
    objects = submitted(*(entry() for _ in range(300)))

    await register(store, *objects)

    everything = await store.find(Criteria(ENTRY, (), (PATIENT.text,)))
    assert [codec.read(each.ebrim or b"") for each in everything] == list(objects[1:301])
    assert len([record async for record in store.records()]) == 1


# --- changes of several dossiers -------------------------------------------------------------------------------------


def move(item: DocumentEntry, to: CX, *more: AnyObject) -> tuple[RegistryChange, DocumentEntry]:
    """The change that gives another patient a document, and its new version."""
    new = entry(patient_id=to, logical_id=item.entry_uuid, unique_id=item.unique_id)
    there = change_of(new, *more, patient=to)
    here = change_of(patient=item.patient_id or PATIENT, revisions=(Revision(item.entry_uuid, DEPRECATED),))
    return replace(here, elsewhere=(there,)), new


async def test_a_change_of_two_dossiers_is_in_both_and_survives_a_reindex(opened: Opening) -> None:
    store = await opened()
    item = entry()
    await register(store, item)
    change, new = move(item, OTHER_PATIENT)

    record = await commit(store, change)

    assert (record.patient_id, record.sequence) == (PATIENT.text, 2)
    for each in (store, await opened()):
        approved = Match.any_of("availability_status", (APPROVED,))
        assert await found(each, ENTRY, approved, patients=(PATIENT,)) == []
        assert await found(each, ENTRY, approved, patients=(OTHER_PATIENT,)) == [new.entry_uuid]
    assert await problems(store) == []
    await store.reindex()
    assert await found(store, ENTRY, patients=(OTHER_PATIENT,)) == [new.entry_uuid]
    assert await problems(store) == []


async def test_a_change_of_two_dossiers_that_was_overtaken_is_in_neither(store: MetadataStore) -> None:
    item, taken = entry(), entry(patient_id=OTHER_PATIENT)
    await register(store, item)
    facts = await store.known(Questions(PATIENT.text))
    await register(store)
    await register(store, taken, patient=OTHER_PATIENT)
    change, new = move(item, OTHER_PATIENT)
    records = [each async for each in store.records()]

    with pytest.raises(FactsMoved):
        await store.apply(change, facts)

    assert await found(store, ENTRY, patients=(OTHER_PATIENT,)) == [taken.entry_uuid]
    assert [each async for each in store.records()] == records
    assert (await store.known(Questions(PATIENT.text, frozenset({new.entry_uuid})))).taken == {}


async def test_what_a_change_revises_elsewhere_may_be_gone(store: MetadataStore) -> None:
    mine, theirs = entry(), entry(patient_id=OTHER_PATIENT)
    await register(store, *submitted(mine))
    await register(store, theirs, patient=OTHER_PATIENT)
    await register(store, patient=OTHER_PATIENT, removed=(theirs,))
    elsewhere = change_of(patient=OTHER_PATIENT, revisions=(Revision(theirs.entry_uuid, DEPRECATED),))

    await commit(store, replace(change_of(), elsewhere=(elsewhere,)))

    assert await found(store, ENTRY, patients=(OTHER_PATIENT,)) == []
    assert await problems(store) == []
    await store.reindex()
    assert await problems(store) == []


async def test_changes_of_two_dossiers_in_opposite_directions_do_not_wait_for_each_other(
    opened: Opening,
) -> None:
    stores = [await opened(), await opened()]
    pairs = [(entry(), entry(patient_id=OTHER_PATIENT)) for _ in range(5)]
    for pair in pairs:
        for item in pair:
            await register(stores[0], item, patient=item.patient_id or PATIENT)

    async def moved(number: int, item: DocumentEntry) -> None:
        change, _ = move(item, OTHER_PATIENT if item.patient_id == PATIENT else PATIENT)
        while True:
            try:
                await commit(stores[number % 2], change)
            except FactsMoved:
                await asyncio.sleep(0)
            else:
                return

    await asyncio.gather(*(moved(number, item) for number, pair in enumerate(pairs) for item in pair))

    approved = Match.any_of("availability_status", (APPROVED,))
    for each in (PATIENT, OTHER_PATIENT):
        assert len(await found(stores[0], ENTRY, approved, patients=(each,))) == len(pairs)
    assert await problems(stores[1]) == []


# --- known -----------------------------------------------------------------------------------------------------------


async def test_nothing_is_known_of_a_new_patient(store: MetadataStore) -> None:
    asked = Questions(PATIENT.text, frozenset({entry_uuid()}), frozenset({oid()}), frozenset({entry_uuid()}))

    facts = await store.known(asked)

    assert (facts.patient_id, facts.sequence) == (PATIENT.text, 0)
    assert (facts.taken, facts.documents, facts.objects, facts.owners, facts.relations) == ({}, {}, {}, {}, ())


async def test_identifiers_are_known_as_taken_whoever_has_them(store: MetadataStore) -> None:
    owner, item, case = registered(submission_set()), entry(), registered(folder())
    link = registered(has_member(owner, item))
    await register(store, owner, item, case, link)
    names = {owner.entry_uuid: SET, item.entry_uuid: ENTRY, case.entry_uuid: FOLDER, link.entry_uuid: ASSOCIATION}
    unique = {owner.unique_id or "": SET, case.unique_id or "": FOLDER}

    facts = await store.known(
        Questions(OTHER_PATIENT.text, frozenset(names) | frozenset(unique) | {item.unique_id or "", entry_uuid()})
    )

    assert facts.taken == names | unique


async def test_documents_are_known_by_unique_id_with_hash_and_size(store: MetadataStore) -> None:
    first = entry(hash=CONTENT_HASH.upper(), size="6")
    again = entry(unique_id=first.unique_id, patient_id=OTHER_PATIENT, hash=None, size=None)
    await register(store, first)
    await register(store, again, patient=OTHER_PATIENT)

    facts = await store.known(Questions(PATIENT.text, document_ids=frozenset({first.unique_id or "", oid()})))

    assert set(facts.documents) == {first.unique_id}
    assert set(facts.documents[first.unique_id or ""]) == {
        Fingerprint(first.entry_uuid, CONTENT_HASH, "6"),
        Fingerprint(again.entry_uuid, None, None),
    }


async def test_references_are_known_with_their_owners(store: MetadataStore) -> None:
    mine, other = entry(), entry(patient_id=OTHER_PATIENT)
    await register(store, mine)
    await register(store, other, patient=OTHER_PATIENT)

    facts = await store.known(
        Questions(PATIENT.text, references=frozenset({mine.entry_uuid, other.entry_uuid, entry_uuid()}))
    )

    assert facts.objects == {mine.entry_uuid: mine, other.entry_uuid: other}
    assert facts.owners == {mine.entry_uuid: PATIENT.text, other.entry_uuid: OTHER_PATIENT.text}


async def test_a_unique_id_is_no_reference(store: MetadataStore) -> None:
    case = registered(folder())
    await register(store, case)

    facts = await store.known(Questions(PATIENT.text, references=frozenset({case.unique_id or ""})))

    assert facts.objects == {}


async def test_what_hangs_on_a_replaced_document_is_known_to_the_end(store: MetadataStore) -> None:
    replaced, appendix, transformation, last = entry(), entry(), entry(), entry()
    bystander, gone = entry(), entry()
    relations = [
        registered(association(AssociationType.APND, appendix, replaced)),
        registered(association(AssociationType.XFRM, transformation, appendix)),
        registered(association(AssociationType.XFRM_RPLC, last, transformation)),
        registered(association(AssociationType.APND, replaced, last)),  # a circle, which must come to an end
    ]
    others = [
        registered(association(AssociationType.RPLC, bystander, replaced)),
        registered(association(AssociationType.SIGNS, bystander, replaced)),
        registered(association(AssociationType.APND, replaced, bystander)),
        registered(association(AssociationType.APND, gone, replaced), availability_status=DEPRECATED),
    ]
    await register(store, replaced, appendix, transformation, last, bystander, gone, *relations, *others)

    facts = await store.known(
        Questions(PATIENT.text, references=frozenset({replaced.entry_uuid}), replaced=frozenset({replaced.entry_uuid}))
    )

    expected = (replaced, appendix, transformation, last)
    assert facts.objects == {item.entry_uuid: item for item in expected}
    assert {relation.entry_uuid: relation for relation in facts.relations} == {
        relation.entry_uuid: relation for relation in relations
    }
    assert set(facts.owners.values()) == {PATIENT.text}


async def test_the_folders_of_a_replaced_document_are_known(store: MetadataStore) -> None:
    replaced, appendix = entry(), entry()
    holding, empty, left = (registered(folder()) for _ in range(3))
    owner = registered(submission_set())
    link = registered(association(AssociationType.APND, appendix, replaced))
    membership = registered(has_member(holding, replaced))
    await register(
        store, replaced, appendix, holding, empty, left, owner, link, membership,
        registered(has_member(owner, replaced)), registered(has_member(empty, appendix)),
        registered(has_member(left, replaced), availability_status=DEPRECATED),
    )  # fmt: skip

    facts = await store.known(Questions(PATIENT.text, replaced=frozenset({replaced.entry_uuid})))

    assert set(facts.objects) == {holding.entry_uuid, appendix.entry_uuid}
    assert {relation.entry_uuid for relation in facts.relations} == {link.entry_uuid, membership.entry_uuid}


@pytest.mark.parametrize("referring", [False, True], ids=["of new objects", "with references"])
async def test_what_feeds_said_of_a_patient_is_among_the_facts(store: MetadataStore, referring: bool) -> None:
    item = entry(patient_id=patient(1))
    await register(store, item, patient=patient(1))
    patients = frozenset(patient(number).text for number in range(1, 5))
    references = frozenset({item.entry_uuid} if referring else ())
    asked = Questions(patient(1).text, references=references, identities=patients)
    assert (await store.known(asked)).identities == {}

    for number in (1, 2, 3):
        await identify(store, patient(number))
    await identify(store, patient(2), merged_into=patient(1))

    facts = await store.known(asked)
    assert facts.identities == {
        patient(1).text: PatientIdentity(merged_from=(patient(2).text,)),
        patient(2).text: PatientIdentity(merged_into=patient(1).text),
        patient(3).text: PatientIdentity(),
    }
    assert facts.identities == await store.identities(patients)
    assert set(facts.objects) == references


async def test_a_change_does_not_follow_a_merge_that_its_facts_do_not_tell(store: MetadataStore) -> None:
    for number in (1, 2):
        await identify(store, patient(number))
    facts = await store.known(Questions(patient(1).text, identities=frozenset({patient(1).text})))
    assert facts.identities[patient(1).text].merged_into is None

    await identify(store, patient(1), merged_into=patient(2))

    with pytest.raises(FactsMoved):
        await store.apply(change_of(entry(patient_id=patient(1)), patient=patient(1)), facts)


async def test_many_questions_are_answered_at_once(store: MetadataStore) -> None:
    entries = [entry() for _ in range(450)]
    await register(store, *entries)

    facts = await store.known(
        Questions(
            PATIENT.text,
            frozenset(item.entry_uuid for item in entries),
            frozenset(item.unique_id or "" for item in entries),
            frozenset(item.entry_uuid for item in entries),
        )
    )

    assert len(facts.taken) == len(facts.documents) == len(facts.objects) == len(facts.owners) == 450


# --- find and count --------------------------------------------------------------------------------------------------


async def assert_finds(store: MetadataStore, criterion: Match, *expected: AnyObject, kind: ObjectKind = ENTRY) -> None:
    """Both with and without the patient, and by counting."""
    uuids = [item.entry_uuid for item in expected]
    assert await found(store, kind, criterion, patients=(PATIENT,)) == uuids
    assert await found(store, kind, criterion) == uuids
    assert await store.count(Criteria(kind, (criterion,), (PATIENT.text,))) == len(uuids)


async def test_one_value_is_matched_exactly(store: MetadataStore) -> None:
    item, other = entry(type_code=code("11490-0")), entry(type_code=code("11490-00"))
    none = entry(type_code=None)
    await register(store, item, other, none)
    coded = item.type_code.coded if item.type_code else ""

    await assert_finds(store, Match("type_code", Operator.EQUALS, ((coded,),)), item)
    await assert_finds(store, Match.any_of("type_code", (coded, "11490-00^^2.16.840.1.113883.6.1")), item, other)
    await assert_finds(store, Match.any_of("type_code", (coded.upper() + " ", "%", "_")))
    await assert_finds(store, Match.any_of("type_code", ()))


async def test_a_column_with_several_values_matches_where_one_does(store: MetadataStore) -> None:
    a, b, c = (code(name, "1.2") for name in ("a", "b", "c"))
    first, second, third = entry(event_code_list=(a, b)), entry(event_code_list=(b, c)), entry(event_code_list=())
    await register(store, first, second, third)

    await assert_finds(store, Match.any_of("event_code_list", ("a^^1.2",)), first)
    await assert_finds(store, Match.any_of("event_code_list", ("a^^1.2", "c^^1.2")), first, second)
    await assert_finds(store, Match.any_of("event_code_list", ("a^^1.2", *(f"{n}^^1" for n in range(99)))), first)
    await assert_finds(store, Match("event_code_list", Operator.EQUALS, (("b^^1.2",),)), first, second)
    both = Match("event_code_list", Operator.ALL_OF_ANY_OF, (("a^^1.2", "x^^1.2"), ("b^^1.2",)))
    await assert_finds(store, both, first)
    await assert_finds(store, Match("event_code_list", Operator.ALL_OF_ANY_OF, (("a^^1.2",), ("c^^1.2",))))
    await assert_finds(store, Match.any_of("event_code_list", ()))


@pytest.mark.parametrize("value", ['"', ",", '","', "\\", '\\"', "\n", "[", "é", "%", "a\nb", "' OR 1=1 --", "\u2028"])
async def test_no_character_of_a_value_means_anything(store: MetadataStore, value: str) -> None:
    item = entry(reference_id_list=(CXi(f"x{value}y"), CXi(value)), type_code=code(value, "1.2"))
    other = entry(reference_id_list=(CXi(f"x{value}y"), CXi("xy"), CXi("x"), CXi("y")), type_code=code("v", "1.2"))
    await register(store, item, other)

    await assert_finds(store, Match.any_of("reference_id_list", (value,)), item)
    await assert_finds(store, Match.any_of("reference_id_list", (f"x{value}y",)), item, other)
    await assert_finds(store, Match.any_of("type_code", (f"{value}^^1.2",)), item)


async def test_a_time_matches_by_all_that_it_may_mean(store: MetadataStore) -> None:
    year, month, second = entry(creation_time=DTM("2026")), entry(creation_time=DTM("202603")), entry()
    never = entry(creation_time=None)
    await register(store, year, month, second, never)

    def after(time: str) -> Match:
        return Match("creation_time", Operator.AT_OR_AFTER, ((time,),))

    def before(time: str) -> Match:
        return Match("creation_time", Operator.BEFORE, ((time,),))

    await assert_finds(store, after("20260314101500"), year, month, second)
    await assert_finds(store, after("20260314101501"), year, month)
    await assert_finds(store, after("20260401000000"), year)
    await assert_finds(store, after("20270101000000"))
    await assert_finds(store, before("20260101000000"))
    await assert_finds(store, before("20260101000001"), year)
    await assert_finds(store, before("20260314101500"), year, month)
    await assert_finds(store, before("20260314101501"), year, month, second)
    for operator, time in ((Operator.AT_OR_AFTER_IF_ANY, "20260401000000"), (Operator.BEFORE_IF_ANY, "20260101000001")):
        await assert_finds(store, Match("creation_time", operator, ((time,),)), year, never)


async def test_a_pattern_matches_without_regard_to_case(store: MetadataStore) -> None:
    mari = entry(author=(author(author_person=XCN("^Õunapuu^Mari^^^^dr")), author(author_person=XCN("7^Kask^Jaan"))))
    straw = entry(author=(author(author_person=XCN("^Strauß^Eva\\a")),))
    none = entry(author=(author(author_person=None),))
    await register(store, mari, straw, none)

    def like(*patterns: str) -> Match:
        return Match("author_person", Operator.LIKE, (patterns,))

    await assert_finds(store, like("%õunapuu%"), mari)
    await assert_finds(store, like("%ÕUNAPUU%"), mari)
    await assert_finds(store, like("_^kask^J__n"), mari)
    await assert_finds(store, like("_^kask^J_n"))
    await assert_finds(store, like("kask"))
    await assert_finds(store, like("%STRAUSS%"), straw)
    await assert_finds(store, like("%kask%", "%strauß%"), mari, straw)
    await assert_finds(store, like("%dr%jaan"))  # no pattern reaches from one author to the next
    await assert_finds(store, like("%\\a"), straw)
    await assert_finds(store, like("%\\%"), straw)
    await assert_finds(store, like("%"), mari, straw)
    await assert_finds(store, like("%[a-z]%", "*"))
    await assert_finds(store, like("%" * 100_000 + "mari%"), mari)
    await assert_finds(store, like("a" * 100_000))


async def test_any_text_column_can_be_matched_by_a_pattern(store: MetadataStore) -> None:
    item = entry(repository_unique_id="2.25.ABC", reference_id_list=(CXi("Case-1^^^&2.25&ISO^x"),))
    await register(store, item, entry())

    await assert_finds(store, Match("repository_unique_id", Operator.LIKE, (("%.abc",),)), item)
    await assert_finds(store, Match("reference_id_list", Operator.LIKE, (("case-_^%",),)), item)


async def test_all_criteria_must_be_met(store: MetadataStore) -> None:
    item = entry(mime_type="text/plain", type_code=code("a", "1"), class_code=code("b", "1"))
    other = entry(type_code=code("a", "1"), class_code=code("c", "1"))
    await register(store, item, other)

    matches = (Match.any_of("type_code", ("a^^1",)), Match.any_of("class_code", ("b^^1",)))
    assert await found(store, ENTRY, *matches, patients=(PATIENT,)) == [item.entry_uuid]
    pinned = Match.any_of("entry_uuid", (item.entry_uuid, other.entry_uuid))
    assert await found(store, ENTRY, *matches, pinned) == [item.entry_uuid]
    assert await found(store, ENTRY, pinned, patients=(OTHER_PATIENT,)) == []


async def test_a_dossier_is_found_oldest_first_and_within_the_limit(store: MetadataStore) -> None:
    first, second, third = entry(), entry(), entry()
    for item in (first, second, third):
        await register(store, *submitted(item))
    await register(store, entry(patient_id=OTHER_PATIENT), patient=OTHER_PATIENT)

    uuids = [first.entry_uuid, second.entry_uuid, third.entry_uuid]
    assert await found(store, ENTRY, patients=(PATIENT,)) == uuids
    assert await found(store, ENTRY, patients=(PATIENT,), limit=2) == uuids[:2]
    assert await found(store, ENTRY, patients=(PATIENT,), limit=0) == []
    assert await found(store, ENTRY, patients=(CX("nobody"),)) == []


async def test_several_dossiers_are_found_each_oldest_first(store: MetadataStore) -> None:
    expected: dict[str, list[str]] = {patient(number).text: [] for number in range(3)}
    for number in (2, 0, 1, 0, 2, 1):
        item = entry(patient_id=patient(number))
        await register(store, item, patient=patient(number))
        expected[patient(number).text].append(item.entry_uuid)

    stored = await store.find(Criteria(ENTRY, (), tuple(expected)))

    by_patient: dict[str, list[str]] = {}
    for each in stored:
        by_patient.setdefault(each.patient_id, []).append(each.entry_uuid)
    assert by_patient == expected
    assert len(await found(store, ENTRY, patients=(patient(0), patient(2)), limit=3)) == 3
    assert await store.count(Criteria(ENTRY, (), (patient(0).text, patient(1).text))) == 4


async def test_objects_are_found_by_each_of_their_names(store: MetadataStore) -> None:
    item, case, owner = entry(), registered(folder()), registered(submission_set())
    version_2 = replace(entry(), logical_id=item.entry_uuid, version="2")
    orphan = replace(entry(), logical_id=entry_uuid())
    await register(store, item, case, owner, version_2, orphan)

    await assert_finds(store, Match.any_of("entry_uuid", (item.entry_uuid, entry_uuid())), item)
    await assert_finds(store, Match.any_of("unique_id", (item.unique_id or "",)), item)
    await assert_finds(store, Match.any_of("unique_id", (case.unique_id or "", oid())), case, kind=FOLDER)
    await assert_finds(store, Match.any_of("unique_id", (owner.unique_id or "",)), owner, kind=SET)
    await assert_finds(store, Match.any_of("logical_id", (item.entry_uuid,)), item, version_2)
    await assert_finds(store, Match.any_of("logical_id", (orphan.logical_id or "",)), orphan)
    await assert_finds(store, Match.any_of("logical_id", (orphan.entry_uuid,)))
    await assert_finds(store, Match.any_of("entry_uuid", (case.unique_id or "",)), kind=FOLDER)
    await assert_finds(store, Match.any_of("unique_id", (case.entry_uuid,)), kind=FOLDER)
    await assert_finds(store, Match.any_of("entry_uuid", (case.entry_uuid,)))


async def test_any_number_of_names_can_be_asked_for(store: MetadataStore) -> None:
    items = [entry() for _ in range(40)]
    await register(store, *items)
    asked = tuple(entry_uuid() for _ in range(3000)) + tuple(item.entry_uuid for item in items)

    await assert_finds(store, Match.any_of("entry_uuid", asked), *items)
    await assert_finds(store, Match.any_of("type_code", tuple(f"{n}^^1" for n in range(3000))))


async def test_associations_are_found_by_their_ends(store: MetadataStore) -> None:
    owner, first, second = registered(submission_set()), entry(), entry()
    links = [registered(has_member(owner, first)), registered(has_member(owner, second))]
    append = registered(association(AssociationType.APND, second, first))
    await register(store, owner, first, second, *links, append)
    await register(store, *submitted())

    await assert_finds(store, Match.any_of("source_object", (owner.entry_uuid,)), *links, kind=ASSOCIATION)
    await assert_finds(
        store, Match.any_of("target_object", (first.entry_uuid, entry_uuid())), links[0], append, kind=ASSOCIATION
    )
    criteria = Criteria(
        ASSOCIATION,
        (
            Match.any_of("source_object", (second.entry_uuid,)),
            Match.any_of("target_object", (first.entry_uuid,)),
            Match.any_of("association_type", (AssociationType.APND,)),
        ),
    )
    (stored,) = await store.find(criteria, rendering=False)
    assert (stored.entry_uuid, stored.ebrim, stored.patient_id) == (append.entry_uuid, None, PATIENT.text)
    assert (stored.source_object, stored.target_object) == (second.entry_uuid, first.entry_uuid)
    assert stored.association_type == AssociationType.APND


async def test_a_folder_with_more_members_than_a_small_answer_holds_is_found_whole(store: MetadataStore) -> None:
    case = registered(folder())
    links = [registered(has_member(case, entry_uuid())) for _ in range(700)]
    await register(store, case, *links)

    await assert_finds(store, Match.any_of("source_object", (case.entry_uuid,)), *links, kind=ASSOCIATION)
    by_end = Match.any_of("source_object", (case.entry_uuid,))
    assert len(await found(store, ASSOCIATION, by_end, limit=256)) == 256
    assert len(await found(store, ASSOCIATION, by_end, limit=300)) == 300


async def test_only_columns_can_be_searched_and_only_in_their_ways(store: MetadataStore) -> None:
    with pytest.raises(ValueError, match="title is not a column"):
        await found(store, ENTRY, Match.any_of("title", ("x",)))
    with pytest.raises(ValueError, match="creation_time can not be searched by LIKE"):
        await found(store, ENTRY, Match("creation_time", Operator.LIKE, (("2026%",),)))


# --- log, index, reindex ---------------------------------------------------------------------------------------------


async def test_the_log_comes_dossier_by_dossier_and_in_sequence(store: MetadataStore) -> None:
    for number in (1, 0, 1, 1, 0):
        await register(store, *submitted(patient=patient(number)), patient=patient(number))

    records = [(record.patient_id, record.sequence) async for record in store.records()]

    one, zero = patient(1).text, patient(0).text
    assert sorted(records) == sorted([(one, 1), (one, 2), (one, 3), (zero, 1), (zero, 2)])
    assert [sequence for owner, sequence in records if owner == one] == [1, 2, 3]
    assert len({owner for owner, sequence in records if sequence == 1}) == 2
    assert records.index((one, 3)) - records.index((one, 1)) == 2
    assert [record.sequence async for record in store.records(zero)] == [1, 2]
    assert [record async for record in store.records("nobody")] == []


async def test_a_long_log_and_a_large_index_are_read_in_portions(store: MetadataStore) -> None:
    for _ in range(120):
        await register(store, *submitted(entry(), entry()))

    assert [record.sequence async for record in store.records()] == list(range(1, 121))
    assert len({row.entry_uuid async for row in store.index_rows()}) == 600


async def test_the_index_says_what_was_registered(store: MetadataStore) -> None:
    objects = (*submitted(registered(full_document_entry())), registered(folder()))
    await register(store, *objects)
    await register(store, entry(patient_id=OTHER_PATIENT), patient=OTHER_PATIENT)

    rows = {row.entry_uuid: row async for row in store.index_rows(PATIENT.text)}

    assert set(rows) == {item.entry_uuid for item in objects}
    for item in objects:
        row = rows[item.entry_uuid]
        assert (row.kind, row.patient_id) == (item.kind, PATIENT.text)
        assert row.columns == search_columns(item)
        assert row.ebrim == codec.written(item)
    assert len([row async for row in store.index_rows()]) == len(objects) + 1


async def test_an_index_written_again_is_the_same(store: MetadataStore) -> None:
    for number in range(30):
        old = entry(patient_id=patient(number))
        await register(store, *submitted(old, patient=patient(number)), patient=patient(number))
        deprecation = Revision(old.entry_uuid, availability_status=DEPRECATED)
        await register(store, *submitted(patient=patient(number)), patient=patient(number), revisions=(deprecation,))
    before = [row async for row in store.index_rows()]
    progress: list[tuple[int, int]] = []

    assert await store.reindex(lambda done, in_all: progress.append((done, in_all))) == 60

    assert [row async for row in store.index_rows()] == before
    assert progress[-1] == (60, 60)
    assert await problems(store) == []
    assert await store.reindex() == 60
    await register(store, *submitted())
    assert await problems(store) == []


async def test_the_registry_is_used_while_its_index_is_written_again(store: MetadataStore) -> None:
    for number in range(40):
        await register(store, *submitted(patient=patient(number)), patient=patient(number))
    over = asyncio.Event()

    async def keep_registering() -> int:
        registrations = 0
        while not over.is_set():
            owner = patient(registrations % 50)
            old = await found(store, ENTRY, patients=(owner,), limit=1)
            deprecations = tuple(Revision(each, availability_status=DEPRECATED) for each in old)
            await register(store, *submitted(patient=owner), patient=owner, revisions=deprecations)
            registrations += 1
            assert await store.count(Criteria(ENTRY)) == 40 + registrations
        return registrations

    registering = asyncio.create_task(keep_registering())
    await store.reindex()
    over.set()

    assert await registering > 0
    assert await problems(store) == []


async def test_an_empty_registry_can_be_checked_and_reindexed(store: MetadataStore) -> None:
    assert await store.reindex() == 0
    assert await problems(store) == []


# --- removal ---------------------------------------------------------------------------------------------------------


async def listed(store: MetadataStore) -> set[str]:
    return {each for kind in ObjectKind for each in await found(store, kind)}


async def removed_in_part(store: MetadataStore) -> tuple[tuple[AnyObject, ...], tuple[AnyObject, ...]]:
    """A dossier of which some is removed: that, and what stays; the second of three records brought both."""
    first, second = entry(title=text("The first secret")), entry(title=text("The second secret"))
    case = registered(folder(), last_update_time=DTM("20260314101500"))
    owner, *objects = submitted(first, second)
    memberships = [registered(has_member(case, each)) for each in (first, second)]
    await register(store, *submitted())
    await register(store, owner, case, *objects, *memberships)
    deprecation = Revision(first.entry_uuid, availability_status=DEPRECATED)
    await register(store, *submitted(), revisions=(deprecation,))
    gone = (first, case, objects[2], *memberships)
    await register(store, removed=gone)
    return gone, (owner, second, objects[3])


async def test_what_was_removed_is_not_found_and_the_rest_is(store: MetadataStore) -> None:
    gone, left = await removed_in_part(store)

    there = await listed(store)

    assert there.isdisjoint(item.entry_uuid for item in gone)
    assert there >= {item.entry_uuid for item in left}
    assert not (await store.known(Questions(PATIENT.text, references=frozenset({gone[0].entry_uuid})))).objects
    assert [row.entry_uuid async for row in store.index_rows() if row.entry_uuid not in there] == []


async def test_what_was_removed_is_blanked_in_the_log_and_the_chain_verifies(store: MetadataStore) -> None:
    gone, _ = await removed_in_part(store)

    previous = None
    bodies = []
    async for record in store.records(PATIENT.text):
        assert record.problem(previous) is None
        previous = record
        bodies.append(record.body or b"")

    assert len(bodies) == 4
    assert not any(b"The first secret" in body for body in bodies)
    assert b"The second secret" in bodies[1]
    assert all(b'id=\\"' + item.entry_uuid.encode() not in body for item in gone for body in bodies)
    assert await problems(store) == []


async def test_an_index_written_again_does_not_bring_back_what_was_removed(opened: Opening) -> None:
    store = await opened()
    gone, _ = await removed_in_part(store)
    before, order = await listed(store), await found(store, ENTRY, patients=(PATIENT,))

    await store.reindex()

    assert await listed(store) == before
    assert await found(store, ENTRY, patients=(PATIENT,)) == order
    assert await problems(store) == []
    identifiers = frozenset({gone[0].entry_uuid, getattr(gone[1], "unique_id", "")})
    facts = await (await opened()).known(Questions(PATIENT.text, identifiers=identifiers))
    assert facts.taken == {gone[0].entry_uuid: ENTRY, getattr(gone[1], "unique_id", ""): FOLDER}


@pytest.mark.parametrize("again", [False, True])
async def test_the_names_of_what_was_removed_are_given_to_nothing_else(store: MetadataStore, again: bool) -> None:
    gone, _ = await removed_in_part(store)
    if again:
        await store.reindex()
    old, case = gone[0], gone[1]
    assert isinstance(old, DocumentEntry)
    assert isinstance(case, Folder)

    for item in (
        entry(entry_uuid=old.entry_uuid, logical_id=old.entry_uuid),
        registered(folder(unique_id=case.unique_id)),
        entry(unique_id=old.unique_id, hash="0" * 40),
    ):
        with pytest.raises(FactsMoved):
            await register(store, item)
    same = entry(unique_id=old.unique_id, hash=old.hash)
    facts = await store.known(Questions(PATIENT.text, document_ids=frozenset({old.unique_id or ""})))
    await register(store, same)

    assert facts.documents == {old.unique_id: (Fingerprint(old.entry_uuid, old.hash, old.size),)}
    assert same.entry_uuid in await listed(store)


async def test_a_registry_of_which_something_was_removed_is_copied_without_it(store: MetadataStore) -> None:
    original = MemoryStore(codec)
    gone, _ = await removed_in_part(original)

    records = [record async for record in original.records()]
    await store.replay(records)

    assert await listed(store) == await listed(original)
    assert [record async for record in store.records()] == records
    assert await problems(store) == []
    with pytest.raises(FactsMoved):
        await register(store, entry(entry_uuid=gone[0].entry_uuid, logical_id=gone[0].entry_uuid))


async def test_what_was_copied_before_it_was_removed_is_removed_by_the_next_copy(store: MetadataStore) -> None:
    original = MemoryStore(codec)
    first = entry(title=text("The first secret"))
    objects = submitted(first)
    await register(original, *objects)
    await store.replay([record async for record in original.records()])

    await register(original, removed=objects)
    await store.replay([record async for record in original.records()])

    assert await listed(store) == set()
    assert [record async for record in store.records()] == [record async for record in original.records()]
    assert await problems(store) == []


async def test_a_later_version_may_have_another_hash_and_the_folders_unique_id(store: MetadataStore) -> None:
    first, case = entry(), registered(folder(), last_update_time=DTM("20260314101500"))
    later = replace(first, entry_uuid=entry_uuid(), version="2", hash="0" * 40)
    next_case = replace(case, entry_uuid=entry_uuid(), version="2")
    await register(store, first, case)

    await register(store, later, next_case)

    by_name = [Match.any_of("unique_id", (item.unique_id or "",)) for item in (first, case)]
    assert await found(store, ENTRY, by_name[0]) == [first.entry_uuid, later.entry_uuid]
    assert await found(store, FOLDER, by_name[1]) == [case.entry_uuid, next_case.entry_uuid]
    assert await problems(store) == []
    await store.reindex()
    assert await problems(store) == []
    with pytest.raises(FactsMoved):
        await register(store, registered(folder(unique_id=case.unique_id)))


# --- replay ----------------------------------------------------------------------------------------------------------


async def everything(store: MetadataStore) -> tuple[dict[str, list[LogRecord]], dict[str, IndexRow]]:
    """The log by dossier, and the index by entryUUID."""
    log: dict[str, list[LogRecord]] = {}
    async for record in store.records():
        log.setdefault(record.patient_id, []).append(record)
    return log, {row.entry_uuid: row async for row in store.index_rows()}


async def test_a_registry_replayed_is_the_same_registry(original: MetadataStore, store: MetadataStore) -> None:
    await store.replay([record async for record in original.records()])

    assert await everything(store) == await everything(original)
    assert await problems(store) == []
    assert await store.reindex() == 24
    assert await everything(store) == await everything(original)


async def test_what_was_replayed_can_be_added_to(original: MetadataStore, opened: Opening) -> None:
    store = await opened()
    await store.replay([record async for record in original.records()])
    old = (await found(store, ENTRY, patients=(patient(3),)))[0]
    revision = Revision(old, availability_status=APPROVED)

    record = await register(store, *submitted(patient=patient(3)), patient=patient(3), revisions=(revision,))

    assert record.sequence == 3
    assert await problems(await opened()) == []


async def test_a_replay_that_was_interrupted_is_begun_again(original: MetadataStore, opened: Opening) -> None:
    records = [record async for record in original.records()]
    first = await opened()
    await first.replay(records[:9])
    await first.close()

    store = await opened()
    await store.replay(records[4:15])
    await store.replay(records)
    await store.replay(records)
    await store.replay([])

    assert await everything(store) == await everything(original)


async def test_two_copies_at_once_make_one_registry(original: MetadataStore, opened: Opening) -> None:
    records = [record async for record in original.records()]
    stores = [await opened(), await opened()]

    await asyncio.gather(*(store.replay(records) for store in stores))

    assert await everything(stores[0]) == await everything(original)
    assert await problems(stores[1]) == []


async def test_a_record_without_a_body_keeps_its_place_in_the_chain(store: MetadataStore) -> None:
    memory = MemoryStore(codec)
    gone, stays = entry(), entry()
    await register(memory, *submitted(gone))
    deprecations = tuple(Revision(each.entry_uuid, availability_status=DEPRECATED) for each in (gone, stays))
    await register(memory, *submitted(stays))
    await register(memory, *submitted(), revisions=deprecations)
    records = [record async for record in memory.records()]
    records[0] = replace(records[0], body=None)

    await store.replay(records)

    assert [record async for record in store.records()] == records
    assert len(await found(store, ENTRY, patients=(PATIENT,))) == 2
    assert stays.entry_uuid in await found(store, ENTRY, Match.any_of("availability_status", (DEPRECATED,)))
    assert await problems(store) == []
    assert (await register(store, *submitted())).sequence == 4
    assert await store.reindex() == 4
    assert await problems(store) == []


async def test_a_record_that_does_not_follow_its_log_is_refused(original: MetadataStore, store: MetadataStore) -> None:
    first, second = [record async for record in original.records(patient(1).text)]
    elsewhere = MemoryStore(codec)
    other = await register(elsewhere, *submitted(patient=patient(1)), patient=patient(1))
    foreign = await register(elsewhere, *submitted(patient=patient(1)), patient=patient(1))

    for record in (second, replace(first, body=b"{}"), replace(first, time="2026-01-01T00:00:00.000000Z")):
        with pytest.raises(StoreDamaged):
            await store.replay([record])
    assert await everything(store) == ({}, {})

    await store.replay([first])
    for record in (other, foreign):
        with pytest.raises(StoreDamaged):
            await store.replay([record])
    await store.replay([first, second])
    assert await problems(store) == []
    assert len((await everything(store))[0][patient(1).text]) == 2


@pytest.mark.parametrize("clash", ["entryUUID", "uniqueId", "document"])
async def test_a_record_whose_identifier_means_something_else_is_refused_and_nothing_of_it_found(
    store: MetadataStore, clash: str
) -> None:
    there = entry(hash="a" * 40)
    owner = registered(submission_set())
    await register(store, owner, there, registered(has_member(owner, there)))
    coming = entry(patient_id=OTHER_PATIENT)
    changes: dict[str, AnyObject] = {
        "entryUUID": registered(document_entry(patient_id=OTHER_PATIENT, entry_uuid=there.entry_uuid)),
        "uniqueId": registered(submission_set(patient_id=OTHER_PATIENT, unique_id=owner.unique_id)),
        "document": entry(patient_id=OTHER_PATIENT, unique_id=there.unique_id, hash="b" * 40),
    }
    record = await register(MemoryStore(codec), coming, changes[clash], patient=OTHER_PATIENT)

    with pytest.raises(StoreDamaged):
        await store.replay([record])

    assert await found(store, ENTRY, patients=(OTHER_PATIENT,)) == []
    assert await found(store, ENTRY, Match.any_of("entry_uuid", (coming.entry_uuid,))) == []


# --- check and close -------------------------------------------------------------------------------------------------


async def test_a_store_tells_about_how_much_it_holds(store: MetadataStore) -> None:
    assert await store.extent() == (0, 0)
    for number in range(3):
        await register(store, *submitted(patient=patient(number)), patient=patient(number))

    records, objects = await store.extent()

    assert (records, objects) == (3, len([row async for row in store.index_rows()]))


async def test_a_store_answers_until_it_is_closed(store: MetadataStore) -> None:
    await store.check()
    facts = await store.known(Questions(PATIENT.text))

    await store.close()
    await store.close()

    with pytest.raises(StoreBusy):
        await store.check()
    with pytest.raises(StoreBusy):
        await store.known(Questions(PATIENT.text))
    with pytest.raises(StoreBusy):
        await found(store, ENTRY, patients=(PATIENT,))
    with pytest.raises(StoreBusy):
        await store.apply(change_of(entry()), facts)


async def test_closing_finishes_what_was_begun(opened: Opening) -> None:
    store = await opened()
    facts = {number: await store.known(Questions(patient(number).text)) for number in range(50)}
    writing = [
        asyncio.create_task(store.apply(change_of(*submitted(patient=patient(n)), patient=patient(n)), facts[n]))
        for n in range(50)
    ]
    await asyncio.sleep(0)

    await store.close()

    assert len(await asyncio.gather(*writing)) == 50
    assert await (await opened()).count(Criteria(ENTRY)) == 50


# --- what feeds say of patients --------------------------------------------------------------------------------------


async def test_a_patient_is_known_as_soon_as_a_feed_has_named_it(opened: Opening) -> None:
    first, second = await opened(), await opened()
    await register(first, *submitted(patient=patient(2)), patient=patient(2))

    await identify(first, patient(1))
    await identify(first, patient(1))

    known = await second.identities([patient(1).text, patient(2).text, patient(3).text])
    assert known == {patient(1).text: PatientIdentity()}
    assert await problems(second) == []


async def test_a_merge_is_told_of_both_patients(store: MetadataStore) -> None:
    for number in (1, 2, 3):
        await identify(store, patient(number))

    await identify(store, patient(1), merged_into=patient(3))
    await identify(store, patient(2), merged_into=patient(3))

    assert await store.identities([patient(number).text for number in (1, 2, 3)]) == {
        patient(1).text: PatientIdentity(merged_into=patient(3).text),
        patient(2).text: PatientIdentity(merged_into=patient(3).text),
        patient(3).text: PatientIdentity(merged_from=(patient(1).text, patient(2).text)),
    }
    assert await problems(store) == []


async def test_what_is_said_after_a_merge_does_not_undo_it(store: MetadataStore) -> None:
    for number in (1, 2):
        await identify(store, patient(number))
    await identify(store, patient(1), merged_into=patient(2))

    await identify(store, patient(1))

    assert await store.identities([patient(1).text]) == {patient(1).text: PatientIdentity(patient(2).text)}
    assert await problems(store) == []


async def test_what_feeds_said_outlives_a_reindex(store: MetadataStore) -> None:
    for number in (1, 2):
        await identify(store, patient(number))
        await register(store, *submitted(patient=patient(number)), patient=patient(number))
    await identify(store, patient(1), merged_into=patient(2))
    before = await store.identities([patient(1).text, patient(2).text])

    await store.reindex()

    assert await store.identities([patient(1).text, patient(2).text]) == before
    assert len(await found(store, ENTRY, patients=(patient(1), patient(2)))) == 2
    assert await problems(store) == []


async def test_what_feeds_said_is_copied_with_the_log(store: MetadataStore, original: MetadataStore) -> None:
    await identify(original, patient(0))
    await identify(original, patient(1), merged_into=patient(0))

    await store.replay([record async for record in original.records()])

    both = [patient(0).text, patient(1).text]
    assert await store.identities(both) == await original.identities(both)
    assert await problems(store) == []
