"""A FHIR search finds what the stored query finds that asks for the same (ITI TF-2: 3.67.4.1.3).

That is the stored query at $MetadataLevel 1: of a document with several versions the newest, where that is what is
asked for, under the id that all of them have.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.actor import Registry
from registry.metadata_store import MetadataStore
from registry.metadata_store_mongodb import MongoMetadataStore
from registry.metadata_store_sqlite import SqliteMetadataStore
from server.remote_pages import RemotePages
from tests.builders import OTHER_PATIENT, PATIENT, document_entry, registered
from tests.mhd.responders import RENDERER, Searching
from tests.registry.dossiers import register, submitted
from tests.registry.stores import some_database
from tests.store_servers import StoreServer
from tests.xds.broken_updates import next_version, status_update, update_of
from xds.actors import QueryRequest, ReturnType
from xds.ebxml_writer import codec
from xds.errors import ResponseStatus
from xds.hl7v2 import DTM, XCN, CXi
from xds.metadata import Author, AvailabilityStatus, Code, DocumentEntry
from xds.stored_queries import STORED_QUERIES

QUERY_IDS = {row.name: row.id for row in STORED_QUERIES.values()}
LOINC = "2.16.840.1.113883.6.1"
SYSTEMS = {LOINC: "http://loinc.org", "1.2.3": "urn:oid:1.2.3", "Old & odd": "urn:x-xds-scheme:Old%20%26%20odd"}
FAMILIES, GIVENS = ("Tamm", "Tammik", "Kask"), ("Mari", "Maris", "Jaan")
CODED = {
    "category": ("class_code", "ClassCode"),
    "type": ("type_code", "TypeCode"),
    "setting": ("practice_setting_code", "PracticeSettingCode"),
    "facility": ("healthcare_facility_type_code", "HealthcareFacilityTypeCode"),
    "format": ("format_code", "FormatCode"),
}
CODED_MANY = {
    "event": ("event_code_list", "EventCodeList"),
    "security-label": ("confidentiality_code", "ConfidentialityCode"),
}

codes = st.builds(Code, st.sampled_from(("a", "ab", "b")), st.sampled_from(tuple(SYSTEMS)))
times = st.sampled_from(("2025", "2026", "202602", "20260228", "2026022823", "20260228235959")).map(DTM)
people = st.builds(
    lambda family, given: Author(XCN(f"1^{family}^{given}")), st.sampled_from(FAMILIES), st.sampled_from(GIVENS)
)
reference_ids = st.builds(
    lambda number: CXi(f"{number}^^^&1.2.3&ISO^urn:ihe:iti:xds:2013:accession"), st.sampled_from(("A", "AB", "B"))
)


def several(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=2).map(tuple)


entries = st.builds(
    lambda status, patient, **changes: replace(
        registered(document_entry(patient_id=patient, **changes)), availability_status=status.value
    ),
    st.sampled_from(AvailabilityStatus),
    st.sampled_from((PATIENT, PATIENT, PATIENT, OTHER_PATIENT)),
    **{attribute: codes for attribute, _ in CODED.values()},
    **{attribute: several(codes) for attribute, _ in CODED_MANY.values()},
    creation_time=times,
    author=several(people),
    reference_id_list=several(reference_ids),
)


@dataclass(frozen=True)
class Question:
    """One and the same question in FHIR and as parameters of FindDocuments, without their prefix."""

    fhir: tuple[tuple[str, str], ...] = ()
    xds: tuple[tuple[str, tuple[str, ...]], ...] = ()
    by_reference: bool = False

    def __add__(self, other: Question) -> Question:
        return Question(self.fhir + other.fhir, self.xds + other.xds, self.by_reference or other.by_reference)


def quoted(values: Sequence[str]) -> str:
    return "(" + ",".join(f"'{each}'" for each in values) + ")"


def asked_for_codes(name: str, slot: str) -> st.SearchStrategy[Question]:
    def question(wanted: list[Code]) -> Question:
        tokens = ",".join(f"{SYSTEMS[each.coding_scheme or '']}|{each.code}" for each in wanted)
        return Question(((name, tokens),), ((slot, (quoted([each.coded for each in wanted]),)),))

    return st.lists(codes, min_size=1, max_size=2).map(question)


def asked_for_all_codes(name: str, slot: str) -> st.SearchStrategy[Question]:
    # Each list of values is a slot of its own.
    return st.lists(asked_for_codes(name, slot), min_size=1, max_size=2).map(lambda each: sum(each, Question()))


def asked_for_time(prefix: str, slot: str) -> st.SearchStrategy[Question]:
    def question(time: DTM) -> Question:
        text = time.text
        date = "-".join(part for part in (text[:4], text[4:6], text[6:8]) if part)
        clock = f"T{text[8:10]}:{text[10:12] or '00'}:{text[12:14] or '00'}Z" if len(text) > 8 else ""
        return Question((("creation", f"{prefix}{date}{clock}"),), ((slot, (text,)),))

    return times.map(question)


def asked_for_author(family: str | None, given: str | None) -> Question:
    fhir = [("author.family", family), ("author.given", given)]
    pattern = f"1^{family or ''}%^{given or ''}%"
    return Question(tuple((name, value) for name, value in fhir if value), (("AuthorPerson", (quoted([pattern]),)),))


parts = [
    *(asked_for_codes(name, slot) for name, (_, slot) in CODED.items()),
    *(asked_for_all_codes(name, slot) for name, (_, slot) in CODED_MANY.items()),
    asked_for_time("ge", "CreationTimeFrom"),
    asked_for_time("lt", "CreationTimeTo"),
    st.builds(asked_for_author, st.sampled_from(FAMILIES), st.none() | st.sampled_from(GIVENS)),
    st.sampled_from(GIVENS).map(lambda name: asked_for_author(None, name)),
    reference_ids.map(
        lambda each: Question(
            (("related:identifier", f"urn:oid:1.2.3|{each.id_number}"),),
            (("ReferenceIdList", (quoted([each.text]),)),),
            by_reference=True,
        )
    ),
]
statuses = st.sampled_from(
    [
        Question((("status", "current"),), (("Status", (quoted([AvailabilityStatus.APPROVED]),)),)),
        Question((("status", "superseded"),), (("Status", (quoted([AvailabilityStatus.DEPRECATED]),)),)),
        Question(
            (("status", "current,superseded"),),
            (("Status", (quoted([AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED]),)),),
        ),
    ]
)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    chosen = draw(st.lists(st.sampled_from(range(len(parts))), max_size=3, unique=True))
    author = [each for each in chosen if each in (len(parts) - 2, len(parts) - 3)]
    return sum((draw(parts[each]) for each in chosen if each not in author[1:]), draw(statuses))


@dataclass(frozen=True)
class Update:
    """What happens to one of the documents: a new version, and that may be another patient's; or it is deprecated.

    number   of the document, among those that were given
    version  where the attributes of the new version come from
    """

    number: int
    version: DocumentEntry
    deprecates: bool

    async def done(self, newest: list[DocumentEntry], registry: Registry) -> None:
        """newest: the newest version of each document, before and afterwards"""
        place = self.number % len(newest)
        before = newest[place]
        is_current = before.availability_status == AvailabilityStatus.APPROVED
        if self.deprecates and is_current:
            update, after = status_update(before), replace(before, availability_status=AvailabilityStatus.DEPRECATED)
            update = replace(update, submission_sets=(replace(update.submission_set, patient_id=before.patient_id),))
            response = await registry.update_document_set(update)
        else:
            valid = document_entry()  # of some attributes an update has to have one at least
            changes = {name: getattr(self.version, name) or getattr(valid, name) for name in _CHANGED}
            patient = self.version.patient_id if is_current else before.patient_id
            after = next_version(before, patient_id=patient, **changes)
            serve = registry.update_document_set if is_current else registry.restricted_update_document_set
            response = await serve(update_of(after, previous=before.version or ""))
            status = before.availability_status
            after = replace(after, version=str(int(before.version or "1") + 1), availability_status=status)
        assert response.succeeded, response.errors
        newest[place] = after


_CHANGED = (
    *(attribute for attribute, _ in (*CODED.values(), *CODED_MANY.values())), "creation_time", "author",
    "reference_id_list",
)  # fmt: skip
updates = st.lists(st.builds(Update, st.integers(0, 11), entries, st.booleans()), max_size=6)


async def assert_same_answer(store: MetadataStore, question: Question) -> None:
    registry = Registry(store=store, max_results=100_000)
    patient = f"urn:oid:{PATIENT.assigning_authority.universal_id}|{PATIENT.id_number}"
    asked = (("patient.identifier", patient), *question.fhir, ("_count", "3"))
    by_fhir = await Searching.of(store).walked(*asked)
    assert sorted(await Searching.of(store).walked(*asked, ("_sort", "-date"))) == sorted(by_fhir)
    elsewhere = RemotePages(registry, codec, b"a secret of thirty-two octets...")
    for sort in ("-creation", "-date"):
        assert sorted(await Searching.in_front_of(elsewhere).walked(*asked, ("_sort", sort))) == sorted(by_fhir)
    name = "FindDocumentsByReferenceId" if question.by_reference else "FindDocuments"
    slots = (("PatientId", (f"'{PATIENT.text}'",)), *question.xds)
    response = await registry.stored_query(
        QueryRequest(
            QUERY_IDS[name], ReturnType.LEAF_CLASS, tuple((f"$XDSDocumentEntry{slot}", each) for slot, each in slots)
        )
    )
    assert response.status is ResponseStatus.SUCCESS, response.errors
    assert sorted(by_fhir) == sorted(codec.read(each.ebrim or b"").logical_id or "" for each in response.found)


async def assert_not_is_the_rest(store: MetadataStore, question: Question) -> None:
    """What has none of the values, and what has one, are all; here and in front of a registry."""
    patient = ("patient.identifier", f"urn:oid:{PATIENT.assigning_authority.universal_id}|{PATIENT.id_number}")
    elsewhere = RemotePages(Registry(store=store, max_results=100_000), codec, b"a secret of thirty-two octets...")
    for searching in (Searching.of(store), Searching.in_front_of(elsewhere)):
        everything = sorted(await searching.walked(patient, ("_count", "3")))
        for name, value in question.fhir:
            opposites = [((f"{name}:missing", "true"), (f"{name}:missing", "false"))]
            if name in (*CODED, *CODED_MANY, "status"):
                opposites.append(((name, value), (f"{name}:not", value)))
            for one, other in opposites if name in _MODIFIED else ():
                parts = await searching.walked(patient, one), await searching.walked(patient, other)
                assert sorted([*parts[0], *parts[1]]) == everything


_MODIFIED = {"status", "creation", "author.family", "author.given", *CODED, *CODED_MANY}


async def assert_same_answers(
    store: MetadataStore, given_entries: list[DocumentEntry], updated: list[Update], asked: list[Question]
) -> None:
    for patient in (PATIENT, OTHER_PATIENT):
        own = [each for each in given_entries if each.patient_id == patient]
        if own:
            await register(store, *submitted(*own, patient=patient), patient=patient)
    newest = list(given_entries)
    for update in updated if newest else ():
        await update.done(newest, Registry(store=store))
    for question in asked:
        await assert_same_answer(store, question)
    await assert_not_is_the_rest(store, sum(asked, Question()))


@given(st.lists(entries, max_size=12), updates, st.lists(questions(), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_search_finds_what_the_stored_query_finds(
    given_entries: list[DocumentEntry], updated: list[Update], asked: list[Question]
) -> None:
    async def compare(folder: str) -> None:
        store = SqliteMetadataStore(Path(folder) / "registry.sqlite", codec=codec, renderer=RENDERER)
        try:
            await assert_same_answers(store, given_entries, updated, asked)
        finally:
            await store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(folder))


@given(
    given_entries=st.lists(entries, max_size=12), updated=updates, asked=st.lists(questions(), min_size=1, max_size=8)
)
@settings(max_examples=15, deadline=None)
def test_a_search_finds_what_the_stored_query_finds_on_mongodb(
    mongodb_server: StoreServer, given_entries: list[DocumentEntry], updated: list[Update], asked: list[Question]
) -> None:
    async def compare(name: str) -> None:
        store = await MongoMetadataStore.opened(mongodb_server.url, database=name, codec=codec, renderer=RENDERER)
        try:
            await assert_same_answers(store, given_entries, updated, asked)
        finally:
            await store.close()

    with some_database(mongodb_server.url) as name:
        asyncio.run(compare(name))


@pytest.mark.parametrize("size", [10, 100])
async def test_a_page_of_any_size_takes_as_many_statements(tmp_path: Path, size: int) -> None:
    store = SqliteMetadataStore(tmp_path / "registry.sqlite", codec=codec, renderer=RENDERER, reader_threads=1)
    await register(store, *submitted(*(registered(document_entry()) for _ in range(150))))
    statements: list[str] = []
    reading = [store._in_loop, await store._in_thread(store._thread_connection)]
    for connection in reading:
        connection.set_trace_callback(statements.append)
    patient = f"urn:oid:{PATIENT.assigning_authority.universal_id}|{PATIENT.id_number}"

    bundle = await Searching.of(store).documents(("patient.identifier", patient), ("_count", str(size)))

    assert (len(bundle["entry"]), bundle["total"]) == (size, 150)
    # Who was merged, whose dossier it is, how many there are, the page, and whether any of its documents are related.
    selects = [each for each in statements if each.startswith("SELECT")]
    assert len(selects) == 5, statements
    await store.close()
