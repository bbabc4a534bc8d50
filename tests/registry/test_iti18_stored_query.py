"""What each stored query of ITI-18 finds, on every store."""

# ruff: noqa: ARG002 - a store for tests takes what the port gives it

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from registry.actor import Registry
from registry.iti18_stored_query import stored_query
from registry.iti51_multi_patient_query import multi_patient_query
from registry.metadata_store import (
    Criteria,
    MetadataStore,
    Questions,
    RegistryChange,
    Revision,
    StoreBusy,
    StoredObject,
)
from registry.search_columns import SEARCH_COLUMNS, Shape
from tests.builders import (
    CONFIDENTIALITY,
    FORMATS,
    OTHER_PATIENT,
    PATIENT,
    association,
    author,
    code,
    document_entry,
    entry_uuid,
    folder,
    has_member,
    oid,
    registered,
    submission,
    submission_set,
)
from tests.registry.memory_store import MemoryStore, PlainCodec
from tests.registry.stores import ADAPTERS, opening_of
from xds.actors import ObjectCodec, QueryRequest, QueryResponse, ReturnType
from xds.errors import ErrorCode, RegistryError, ResponseStatus, XdsError
from xds.hl7v2 import CX, DTM, XCN, CXi
from xds.metadata import (
    AnyObject,
    Association,
    AssociationType,
    AvailabilityStatus,
    DocumentEntry,
    DocumentEntryType,
    Folder,
    ObjectKind,
    SubmissionSet,
)
from xds.stored_queries import METADATA_LEVEL, STORED_QUERIES, Operator, Parameter, StoredQuery
from xds.transactions import ITI_51

IDS = {row.name: row.id for row in STORED_QUERIES.values()}
APPROVED, DEPRECATED = AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED
STABLE, ON_DEMAND = DocumentEntryType.STABLE, DocumentEntryType.ON_DEMAND
ANY_STATUS = f"('{APPROVED}','{DEPRECATED}')"
ANY_TYPE = f"('{STABLE}','{ON_DEMAND}')"
UPDATED = DTM("20260314103015")

Sent = tuple[str, str]


@dataclass
class Archive:
    """A registry to put objects into as they shall be found, and to ask."""

    store: MetadataStore
    codec: ObjectCodec

    async def keep(self, *objects: AnyObject, patient: CX = PATIENT) -> None:
        """Register objects, whatever the lifecycle would say to them."""
        await self._change(patient, tuple(objects), ())

    async def deprecate(self, item: AnyObject, patient: CX = PATIENT) -> None:
        await self._change(patient, (), (Revision(item.entry_uuid, availability_status=DEPRECATED),))

    async def _change(self, patient: CX, objects: tuple[AnyObject, ...], revisions: tuple[Revision, ...]) -> None:
        facts = await self.store.known(Questions(patient.text))
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        await self.store.apply(RegistryChange(patient.text, str(uuid4()), time, objects, revisions), facts)

    async def ask(
        self, query: str, *sent: Sent, return_type: str = ReturnType.LEAF_CLASS, max_results: int | None = None
    ) -> QueryResponse:
        slots = tuple((name, (text,)) for name, text in sent)
        request = QueryRequest(IDS[query], return_type, slots)
        if STORED_QUERIES[request.query_id].transaction is ITI_51:
            return await multi_patient_query(request, store=self.store, max_results=max_results)
        return await stored_query(request, store=self.store, max_results=max_results)

    async def refused(self, query: str, *sent: Sent, max_results: int | None = None) -> tuple[RegistryError, ...]:
        with pytest.raises(XdsError) as refusal:
            await self.ask(query, *sent, max_results=max_results)
        return refusal.value.errors

    async def found(self, query: str, *sent: Sent) -> set[str]:
        """The entryUUIDs that a query finds; the same for both return types, and rendered where that is asked for."""
        whole = await self.ask(query, *sent)
        references = await self.ask(query, *sent, return_type=ReturnType.OBJECT_REF)
        assert whole.status is references.status is ResponseStatus.SUCCESS
        assert whole.errors == references.errors == ()
        assert [each.ebrim for each in references.found] == [None] * len(references.found)
        rendered = [self.codec.read(each.ebrim or b"") for each in whole.found]
        assert [(each.kind, each.entry_uuid) for each in whole.found] == [(x.kind, x.entry_uuid) for x in rendered]
        assert [(x.kind, x.entry_uuid, x.home_community_id) for x in whole.found] == [
            (x.kind, x.entry_uuid, x.home_community_id) for x in references.found
        ]
        ids = [each.entry_uuid for each in whole.found]
        assert len(ids) == len(set(ids)), "an object is returned twice"
        return set(ids)


@pytest.fixture(params=("memory", *ADAPTERS))
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Archive]:
    """An empty registry on each store."""
    codec = PlainCodec()
    if request.param == "memory":
        yield Archive(MemoryStore(codec), codec)
        return
    async with opening_of(request.param, request, tmp_path, codec) as opening:
        yield Archive(await opening(), codec)


def entry(**changes: Any) -> DocumentEntry:
    return registered(document_entry(), **changes)


def set_of(*members: AnyObject, patient: CX = PATIENT, **changes: Any) -> tuple[AnyObject, ...]:
    """A SubmissionSet and its HasMember associations."""
    owner = registered(submission_set(patient_id=patient), **changes)
    return (owner, *(registered(has_member(owner, member)) for member in members))


def folder_of(*members: DocumentEntry, **changes: Any) -> tuple[Folder, tuple[Association, ...]]:
    """A Folder and its HasMember associations."""
    holder = registered(folder(), last_update_time=UPDATED, **changes)
    return holder, tuple(registered(has_member(holder, member)) for member in members)


def link(association_type: str, source: AnyObject, target: AnyObject, **changes: Any) -> Association:
    return registered(association(association_type, source, target), **changes)


def ids(*objects: AnyObject) -> set[str]:
    return {each.entry_uuid for each in objects}


def named(*objects: AnyObject) -> str:
    """The objects as a list of entryUUIDs."""
    return f"({','.join(repr(each.entry_uuid) for each in objects)})"


DOCUMENTS: tuple[Sent, ...] = (
    ("$XDSDocumentEntryPatientId", f"'{PATIENT}'"),
    ("$XDSDocumentEntryStatus", ANY_STATUS),
)
SETS: tuple[Sent, ...] = (("$XDSSubmissionSetPatientId", f"'{PATIENT}'"), ("$XDSSubmissionSetStatus", ANY_STATUS))
FOLDERS: tuple[Sent, ...] = (("$XDSFolderPatientId", f"'{PATIENT}'"), ("$XDSFolderStatus", ANY_STATUS))
ALL: tuple[Sent, ...] = (
    ("$patientId", f"'{PATIENT}'"),
    ("$XDSDocumentEntryStatus", ANY_STATUS),
    ("$XDSSubmissionSetStatus", ANY_STATUS),
    ("$XDSFolderStatus", ANY_STATUS),
)
BY_REFERENCE: tuple[Sent, ...] = (*DOCUMENTS, ("$XDSDocumentEntryReferenceIdList", "('7^^^&1.2&ISO^urn:x')"))

# What each parameter of the Find queries matches, and what it does not: attribute and value of an object.
DOCUMENT_PARAMETERS: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("Status", {"availability_status": DEPRECATED}, [f"('{DEPRECATED}')", ANY_STATUS], [f"('{APPROVED}')"]),
    ("ClassCode", {"class_code": code("a")}, ["('b^^2.1','a^^2.16.840.1.113883.6.1')"], ["('a^^2.1')"]),
    ("TypeCode", {"type_code": code("a", "1.2")}, ["('a^^1.2')"], ["('A^^1.2')", "('b^^1.2')"]),
    ("PracticeSettingCode", {"practice_setting_code": code("a", "1.2")}, ["('a^^1.2')"], ["('b^^1.2')"]),
    (
        "HealthcareFacilityTypeCode",
        {"healthcare_facility_type_code": code("a", "1.2")},
        ["('a^^1.2')"],
        ["('b^^1.2')"],
    ),
    ("FormatCode", {"format_code": code("urn:a", "1.2")}, ["('urn:a^^1.2')"], ["('urn:b^^1.2')"]),
    (
        "EventCodeList",
        {"event_code_list": (code("a", "1.2"), code("b", "1.2"))},
        ["('a^^1.2')", "('x^^1.2','b^^1.2')"],
        ["('x^^1.2')", "('a^^1.3')"],
    ),
    (
        "ConfidentialityCode",
        {"confidentiality_code": (code("R", "1.2"), code("V", "1.2"))},
        ["('R^^1.2')", "('N^^1.2','V^^1.2')"],
        ["('N^^1.2')"],
    ),
    (
        "CreationTimeFrom",
        {"creation_time": DTM("20041224")},
        ["20041224", "2004", "'20040101'", "20041224235959"],
        ["20041225", "2005"],
    ),
    ("CreationTimeTo", {"creation_time": DTM("20041224")}, ["20041225", "20041224000001"], ["20041224", "2004"]),
    ("ServiceStartTimeFrom", {"service_start_time": DTM("2004")}, ["20041231"], ["2005"]),
    ("ServiceStartTimeTo", {"service_start_time": DTM("2004")}, ["20040102"], ["2004"]),
    ("ServiceStopTimeFrom", {"service_stop_time": DTM("200412")}, ["20041231"], ["2005"]),
    ("ServiceStopTimeTo", {"service_stop_time": DTM("200412")}, ["20041202"], ["200412"]),
    (
        "AuthorPerson",
        {"author": (author(), author(author_person=XCN("7^O'Brien^Öie")))},
        ["('%O''Brien%')", "('x','%ö_e')", "%tamm%"],
        ["('O''Brien')", "('%Brian%')"],
    ),
    ("Type", {"object_type": ON_DEMAND}, [f"('{ON_DEMAND}')", ANY_TYPE], [f"('{STABLE}')"]),
]
SET_PARAMETERS: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("Status", {"availability_status": APPROVED}, [f"('{APPROVED}')"], [f"('{DEPRECATED}')"]),
    ("SourceId", {"source_id": "1.2.3"}, ["('1.2.4','1.2.3')"], ["('1.2.4')"]),
    ("SubmissionTimeFrom", {"submission_time": DTM("20260314102000")}, ["20260314102000"], ["20260314102001"]),
    ("SubmissionTimeTo", {"submission_time": DTM("20260314102000")}, ["20260314102001"], ["20260314102000"]),
    ("AuthorPerson", {"author": (author(author_person=XCN("^Tamm^Mari")),)}, ["'%tamm%'"], ["'tamm'"]),
    ("ContentType", {"content_type_code": code("a", "1.2")}, ["('a^^1.2')"], ["('b^^1.2')"]),
]
FOLDER_PARAMETERS: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("Status", {"availability_status": APPROVED}, [f"('{APPROVED}')"], [f"('{DEPRECATED}')"]),
    ("LastUpdateTimeFrom", {"last_update_time": UPDATED}, [UPDATED.text, "2026"], ["20260314103016"]),
    ("LastUpdateTimeTo", {"last_update_time": UPDATED}, ["20260314103016"], [UPDATED.text, "2026"]),
    ("CodeList", {"code_list": (code("a", "1.2"), code("b", "1.2"))}, ["('b^^1.2')"], ["('x^^1.2')"]),
]


def with_parameter(sent: Sequence[Sent], name: str, text: str) -> tuple[Sent, ...]:
    return (*(each for each in sent if each[0] != name), (name, text))


# Rows --------------------------------------------------------------------------------------------------------------

EVERY_PARAMETER = [(row, each) for row in STORED_QUERIES.values() for each in (*row.one_of, *row.parameters)]


@pytest.mark.parametrize(("row", "parameter"), EVERY_PARAMETER, ids=lambda each: str(each.name))
def test_every_parameter_is_compared_with_a_column_that_can_be_matched_that_way(
    row: StoredQuery, parameter: Parameter
) -> None:
    if parameter.of is None:
        assert parameter.attribute in ("patient_id", "entry_uuid")
        return
    shapes = {column.name: column.shape for column in SEARCH_COLUMNS[parameter.of]}

    assert (
        shapes[parameter.attribute]
        in {
            Operator.EQUALS: (Shape.ONE,),
            Operator.ANY_OF: (Shape.ONE,),
            Operator.ALL_OF_ANY_OF: (Shape.SEVERAL,),
            Operator.AT_OR_AFTER: (Shape.TIME,),
            Operator.BEFORE: (Shape.TIME,),
            Operator.AT_OR_AFTER_IF_ANY: (Shape.TIME,),
            Operator.BEFORE_IF_ANY: (Shape.TIME,),
            Operator.LIKE: (Shape.TEXTS,),
            Operator.UNLIKE: (Shape.TEXTS,),
            Operator.NONE_OF: (Shape.ONE, Shape.SEVERAL),
        }[parameter.operator]
    )


# Find --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["FindDocuments", "FindDocumentsByReferenceId"])
@pytest.mark.parametrize(("name", "attributes", "matching", "excluding"), DOCUMENT_PARAMETERS)
async def test_a_parameter_selects_documents(
    archive: Archive, query: str, name: str, attributes: dict[str, Any], matching: list[str], excluding: list[str]
) -> None:
    reference_ids = (CXi("7^^^&1.2&ISO^urn:x"),)
    item = entry(reference_id_list=reference_ids, **attributes)
    await archive.keep(item)
    required = with_parameter(BY_REFERENCE, "$XDSDocumentEntryType", ANY_TYPE)

    for text in matching:
        sent = with_parameter(required, f"$XDSDocumentEntry{name}", text)
        assert await archive.found(query, *sent) == ids(item), text
    for text in excluding:
        sent = with_parameter(required, f"$XDSDocumentEntry{name}", text)
        assert await archive.found(query, *sent) == set(), text


def test_every_parameter_that_selects_documents_is_tried() -> None:
    tried = {f"$XDSDocumentEntry{name}" for name, *_ in DOCUMENT_PARAMETERS} | {"$XDSDocumentEntryPatientId"}

    assert tried == {parameter.name for parameter in STORED_QUERIES[IDS["FindDocuments"]].parameters}


@pytest.mark.parametrize(("name", "attributes", "matching", "excluding"), SET_PARAMETERS)
async def test_a_parameter_selects_submission_sets(
    archive: Archive, name: str, attributes: dict[str, Any], matching: list[str], excluding: list[str]
) -> None:
    item = registered(submission_set(**attributes))
    await archive.keep(item)

    for text in matching:
        sent = with_parameter(SETS, f"$XDSSubmissionSet{name}", text)
        assert await archive.found("FindSubmissionSets", *sent) == ids(item), text
    for text in excluding:
        sent = with_parameter(SETS, f"$XDSSubmissionSet{name}", text)
        assert await archive.found("FindSubmissionSets", *sent) == set(), text


@pytest.mark.parametrize(("name", "attributes", "matching", "excluding"), FOLDER_PARAMETERS)
async def test_a_parameter_selects_folders(
    archive: Archive, name: str, attributes: dict[str, Any], matching: list[str], excluding: list[str]
) -> None:
    item = registered(folder(), **{"last_update_time": UPDATED} | attributes)
    await archive.keep(item)

    for text in matching:
        sent = with_parameter(FOLDERS, f"$XDSFolder{name}", text)
        assert await archive.found("FindFolders", *sent) == ids(item), text
    for text in excluding:
        sent = with_parameter(FOLDERS, f"$XDSFolder{name}", text)
        assert await archive.found("FindFolders", *sent) == set(), text


@pytest.mark.parametrize(
    ("query", "sent"), [("FindDocuments", DOCUMENTS), ("FindSubmissionSets", SETS), ("FindFolders", FOLDERS)]
)
async def test_only_one_patients_objects_are_found(archive: Archive, query: str, sent: tuple[Sent, ...]) -> None:
    own = (entry(), registered(submission_set()), registered(folder(), last_update_time=UPDATED))
    others = (
        entry(patient_id=OTHER_PATIENT),
        registered(submission_set(patient_id=OTHER_PATIENT)),
        registered(folder(patient_id=OTHER_PATIENT), last_update_time=UPDATED),
    )
    await archive.keep(*own)
    await archive.keep(*others, patient=OTHER_PATIENT)
    nobody = CX.of("nobody", "1.2.3")

    for patient, expected in ((PATIENT, own), (OTHER_PATIENT, others), (nobody, ())):
        asked = tuple((name, f"'{patient}'" if name.endswith("PatientId") else text) for name, text in sent)
        kind = STORED_QUERIES[IDS[query]].finds
        assert await archive.found(query, *asked) == ids(*(each for each in expected if each.kind is kind))


async def test_repeated_event_codes_must_all_be_there(archive: Archive) -> None:
    both = entry(event_code_list=(code("a", "1.2"), code("b", "1.2")))
    one = entry(event_code_list=(code("a", "1.2"),))
    await archive.keep(both, one, entry())
    event = "$XDSDocumentEntryEventCodeList"

    assert await archive.found("FindDocuments", *DOCUMENTS, (event, "('a^^1.2','b^^1.2')")) == ids(both, one)
    assert await archive.found("FindDocuments", *DOCUMENTS, (event, "('a^^1.2')"), (event, "('b^^1.2')")) == ids(both)


async def test_reference_ids_find_documents(archive: Archive) -> None:
    first, second = CXi("7^^^&1.2&ISO^urn:x"), CXi("8^^^&1.2&ISO^urn:x")
    both, one, none = entry(reference_id_list=(first, second)), entry(reference_id_list=(first,)), entry()
    await archive.keep(both, one, none)
    reference = "$XDSDocumentEntryReferenceIdList"

    async def found(*texts: str) -> set[str]:
        return await archive.found("FindDocumentsByReferenceId", *DOCUMENTS, *((reference, text) for text in texts))

    assert await found(f"('{first}')") == ids(both, one)
    assert await found(f"('{second}','9^^^&1.2&ISO^urn:x')") == ids(both)
    assert await found(f"('{first}')", f"('{second}')") == ids(both)
    assert await found("('7')") == set()


async def test_on_demand_documents_are_found_only_where_they_are_asked_for(archive: Archive) -> None:
    stable, on_demand = entry(), entry(object_type=ON_DEMAND)
    await archive.keep(stable, on_demand)

    assert await archive.found("FindDocuments", *DOCUMENTS) == ids(stable)
    both = (*DOCUMENTS, ("$XDSDocumentEntryType", ANY_TYPE))
    assert await archive.found("FindDocuments", *both) == ids(stable, on_demand)


@pytest.mark.parametrize("attribute", ["serviceStartTime", "serviceStopTime"])
async def test_a_document_without_a_time_of_service_is_found_whatever_that_has_to_be(
    archive: Archive, attribute: str
) -> None:
    without = entry(service_start_time=None, service_stop_time=None)
    long_ago = entry(service_start_time=DTM("1990"), service_stop_time=DTM("1990"))
    to_come = entry(service_start_time=DTM("2050"), service_stop_time=DTM("2050"))
    await archive.keep(without, long_ago, to_come)
    name = f"$XDSDocumentEntryS{attribute[1:]}"

    since = await archive.found("FindDocuments", *DOCUMENTS, (f"{name}From", "'2020'"))
    until = await archive.found("FindDocuments", *DOCUMENTS, (f"{name}To", "'2020'"))

    assert since == ids(without, to_come)
    assert until == ids(without, long_ago)


@pytest.mark.parametrize("times", [{"From": "2026"}, {"To": "2026"}, {"From": "2024", "To": "2026"}], ids=str)
async def test_on_demand_documents_are_found_whatever_their_creation_time_has_to_be(
    archive: Archive, times: dict[str, str]
) -> None:
    early, late = entry(creation_time=DTM("2025")), entry(creation_time=DTM("2027"))
    on_demand = entry(object_type=ON_DEMAND, creation_time=None)
    await archive.keep(early, late, on_demand)
    asked = (*DOCUMENTS, *((f"$XDSDocumentEntryCreationTime{name}", f"'{time}'") for name, time in times.items()))

    stable = await archive.found("FindDocuments", *asked)
    both = await archive.found("FindDocuments", *asked, ("$XDSDocumentEntryType", ANY_TYPE))
    alone = await archive.found("FindDocuments", *asked, ("$XDSDocumentEntryType", f"('{ON_DEMAND}')"))
    other_type = await archive.found(
        "FindDocuments", *asked, ("$XDSDocumentEntryType", ANY_TYPE), ("$XDSDocumentEntryTypeCode", "('x^^1.2')")
    )

    assert stable == ids(late if times == {"From": "2026"} else early)
    assert both == stable | ids(on_demand)
    assert alone == ids(on_demand)
    assert other_type == set()


async def test_a_status_is_found_as_it_stands(archive: Archive) -> None:
    item = entry()
    await archive.keep(item)
    await archive.deprecate(item)

    assert (
        await archive.found("FindDocuments", *with_parameter(DOCUMENTS, "$XDSDocumentEntryStatus", f"'{APPROVED}'"))
        == set()
    )
    assert await archive.found("FindDocuments", *DOCUMENTS) == ids(item)


# Get by identifier -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "prefix"), [("GetDocuments", "$XDSDocumentEntry"), ("GetFolders", "$XDSFolder")])
async def test_objects_are_found_by_each_of_their_identifiers(archive: Archive, query: str, prefix: str) -> None:
    def item(**changes: Any) -> DocumentEntry | Folder:
        holder = registered(folder(), last_update_time=UPDATED, **changes)
        return entry(**changes) if query == "GetDocuments" else holder

    first = item()
    second = item(logical_id=first.entry_uuid, version="2")
    third = item()
    await archive.keep(first, second, third)

    async def found(name: str, text: str) -> set[str]:
        return await archive.found(query, (f"{prefix}{name}", text))

    assert await found("EntryUUID", named(first, third)) == ids(first, third)
    assert await found("EntryUUID", named(first).upper()) == ids(first)
    assert await found("UniqueId", f"('{second.unique_id}','1.2.3')") == ids(second)
    assert await found("LogicalID", named(first)) == ids(first, second)
    assert await found("EntryUUID", f"('{entry_uuid()}')") == set()


async def test_documents_of_any_type_and_status_are_found_by_their_ids(archive: Archive) -> None:
    items = entry(object_type=ON_DEMAND), entry(availability_status=DEPRECATED)
    await archive.keep(*items)

    assert await archive.found("GetDocuments", ("$XDSDocumentEntryEntryUUID", named(*items))) == ids(*items)


async def test_all_entries_of_a_document_are_found_by_its_unique_id(archive: Archive) -> None:
    unique_id = oid()
    items = entry(unique_id=unique_id), entry(unique_id=unique_id)
    await archive.keep(*items)

    assert await archive.found("GetDocuments", ("$XDSDocumentEntryUniqueId", f"'{unique_id}'")) == ids(*items)


async def test_the_id_of_another_kind_of_object_finds_nothing(archive: Archive) -> None:
    item = entry()
    holder, links = folder_of(item)
    await archive.keep(item, holder, *links)

    assert await archive.found("GetDocuments", ("$XDSDocumentEntryEntryUUID", named(holder, *links))) == set()
    assert await archive.found("GetFolders", ("$XDSFolderEntryUUID", named(item))) == set()
    assert await archive.found("GetFolderAndContents", ("$XDSFolderEntryUUID", named(item))) == set()
    assert await archive.found("GetSubmissionSetAndContents", ("$XDSSubmissionSetEntryUUID", named(item))) == set()
    assert await archive.found("GetDocumentsAndAssociations", ("$XDSDocumentEntryEntryUUID", named(holder))) == set()
    assert await archive.found("GetFoldersForDocument", ("$XDSDocumentEntryEntryUUID", named(holder))) == set()


# Associations ------------------------------------------------------------------------------------------------------


async def test_associations_are_found_by_either_end(archive: Archive) -> None:
    old, new, other = entry(), entry(), entry()
    replacement = link(AssociationType.RPLC, new, old)
    owner, to_new = set_of(new)
    await archive.keep(old, new, other, replacement, owner, to_new)

    assert await archive.found("GetAssociations", ("$uuid", named(old))) == ids(replacement)
    assert await archive.found("GetAssociations", ("$uuid", named(new))) == ids(replacement, to_new)
    assert await archive.found("GetAssociations", ("$uuid", named(old, new))) == ids(replacement, to_new)
    assert await archive.found("GetAssociations", ("$uuid", named(owner).upper())) == ids(to_new)
    assert await archive.found("GetAssociations", ("$uuid", named(other))) == set()


async def test_an_association_may_be_the_end_of_another(archive: Archive) -> None:
    item = entry()
    holder, (in_folder,) = folder_of(item)
    owner, *brought = set_of(item, holder, in_folder)
    await archive.keep(item, holder, in_folder, owner, *brought)

    assert await archive.found("GetAssociations", ("$uuid", named(in_folder))) == ids(brought[2])
    assert await archive.found("GetAssociations", ("$uuid", named(owner))) == ids(*brought)


async def test_documents_come_with_their_associations(archive: Archive) -> None:
    old, new, other = entry(), entry(), entry()
    replacement = link(AssociationType.RPLC, new, old)
    owner, to_new = set_of(new)
    await archive.keep(old, new, other, replacement, owner, to_new)
    query = "GetDocumentsAndAssociations"

    new_and_its_own = ids(new, replacement, to_new)
    assert await archive.found(query, ("$XDSDocumentEntryEntryUUID", named(new))) == new_and_its_own
    assert await archive.found(query, ("$XDSDocumentEntryUniqueId", f"'{new.unique_id}'")) == new_and_its_own
    assert await archive.found(query, ("$XDSDocumentEntryEntryUUID", named(old, other))) == ids(old, other, replacement)


async def test_submission_sets_are_found_by_what_they_brought(archive: Archive) -> None:
    item, unbrought = entry(), entry()
    holder, (in_folder,) = folder_of(item)
    first, *of_first = set_of(item, holder, in_folder)
    second, of_second = set_of(item)
    await archive.keep(item, unbrought, holder, in_folder, first, *of_first, second, of_second)
    query = "GetSubmissionSets"

    both = ids(first, of_first[0], second, of_second)
    assert await archive.found(query, ("$uuid", named(item))) == both
    assert await archive.found(query, ("$uuid", named(holder))) == ids(first, of_first[1])
    assert await archive.found(query, ("$uuid", named(item, holder))) == both | ids(of_first[1])
    assert await archive.found(query, ("$uuid", named(unbrought))) == set()
    assert await archive.found(query, ("$uuid", named(first))) == set()


async def test_deprecated_associations_are_followed_only_where_they_are_asked_for(archive: Archive) -> None:
    old, new = entry(), entry()
    appended = link(AssociationType.APND, new, old)
    holder, (in_folder,) = folder_of(new)
    await archive.keep(old, new, appended, holder, in_folder)
    await archive.deprecate(appended)
    await archive.deprecate(in_folder)
    related = (("$XDSDocumentEntryEntryUUID", named(old)), ("$AssociationTypes", f"('{AssociationType.APND}')"))
    contents = ("$XDSFolderEntryUUID", named(holder))
    folders = ("$XDSDocumentEntryEntryUUID", named(new))
    any_status = (("$XDSAssociationStatus", ANY_STATUS), (METADATA_LEVEL, "2"))

    assert await archive.found("GetRelatedDocuments", *related) == set()
    assert await archive.found("GetRelatedDocuments", *related, any_status[0]) == set()
    assert await archive.found("GetRelatedDocuments", *related, *any_status) == ids(old, new, appended)
    assert await archive.found("GetAssociations", ("$uuid", named(old))) == set()
    assert await archive.found("GetAssociations", ("$uuid", named(old)), *any_status) == ids(appended)
    assert await archive.found("GetDocumentsAndAssociations", folders) == ids(new)
    assert await archive.found("GetDocumentsAndAssociations", folders, *any_status) == ids(new, appended, in_folder)
    assert await archive.found("GetFolderAndContents", contents) == ids(holder)
    assert await archive.found("GetFolderAndContents", contents, *any_status) == ids(holder, new, in_folder)
    assert await archive.found("GetFoldersForDocument", folders) == set()
    assert await archive.found("GetFoldersForDocument", folders, *any_status) == ids(holder)
    assert await archive.found("GetAll", *ALL) == ids(old, new, holder)
    assert await archive.found("GetAll", *ALL, *any_status) == ids(old, new, holder, appended, in_folder)


# Related documents -------------------------------------------------------------------------------------------------


async def test_related_documents_are_those_at_the_other_end_of_the_types_asked_for(archive: Archive) -> None:
    old, new, addition, unrelated = entry(), entry(), entry(), entry()
    replacement, appended = link(AssociationType.RPLC, new, old), link(AssociationType.APND, addition, new)
    await archive.keep(old, new, addition, unrelated, replacement, appended)

    async def related(item: DocumentEntry, *types: AssociationType) -> set[str]:
        listed = ("$AssociationTypes", f"({','.join(repr(each.value) for each in types)})")
        by_uuid = await archive.found("GetRelatedDocuments", ("$XDSDocumentEntryEntryUUID", named(item)), listed)
        by_unique_id = ("$XDSDocumentEntryUniqueId", f"'{item.unique_id}'")
        assert await archive.found("GetRelatedDocuments", by_unique_id, listed) == by_uuid
        return by_uuid

    assert await related(new, AssociationType.RPLC) == ids(new, old, replacement)
    assert await related(old, AssociationType.RPLC) == ids(new, old, replacement)
    assert await related(new, AssociationType.APND) == ids(new, addition, appended)
    both = await related(new, AssociationType.RPLC, AssociationType.APND)
    assert both == ids(new, old, addition, replacement, appended)
    assert await related(old, AssociationType.APND) == set()
    assert await related(unrelated, AssociationType.RPLC, AssociationType.APND) == set()


async def test_what_is_no_document_is_not_related(archive: Archive) -> None:
    item = entry()
    holder, (in_folder,) = folder_of(item)
    owner, *brought = set_of(item, holder)
    await archive.keep(item, holder, in_folder, owner, *brought)
    sent = ("$XDSDocumentEntryEntryUUID", named(item)), ("$AssociationTypes", f"('{AssociationType.HAS_MEMBER}')")

    assert await archive.found("GetRelatedDocuments", *sent) == set()


async def test_an_on_demand_document_is_related_where_its_type_is_asked_for(archive: Archive) -> None:
    on_demand, snapshot = entry(object_type=ON_DEMAND), entry()
    taken = link(AssociationType.IS_SNAPSHOT_OF, snapshot, on_demand)
    await archive.keep(on_demand, snapshot, taken)
    sent = (
        ("$XDSDocumentEntryEntryUUID", named(snapshot)),
        ("$AssociationTypes", f"('{AssociationType.IS_SNAPSHOT_OF}')"),
    )

    assert await archive.found("GetRelatedDocuments", *sent) == set()
    every_type = ("$XDSDocumentEntryType", ANY_TYPE)
    assert await archive.found("GetRelatedDocuments", *sent, every_type) == ids(on_demand, snapshot, taken)


async def test_an_on_demand_document_that_is_named_has_stable_ones_related_to_it(archive: Archive) -> None:
    on_demand, snapshot, other = entry(object_type=ON_DEMAND), entry(), entry(object_type=ON_DEMAND)
    taken = link(AssociationType.IS_SNAPSHOT_OF, snapshot, on_demand)
    between = link(AssociationType.APND, other, on_demand)
    await archive.keep(on_demand, snapshot, other, taken, between)
    sent = (
        ("$XDSDocumentEntryEntryUUID", named(on_demand)),
        ("$AssociationTypes", f"('{AssociationType.IS_SNAPSHOT_OF}','{AssociationType.APND}')"),
    )

    assert await archive.found("GetRelatedDocuments", *sent) == ids(on_demand, snapshot, taken)


# Contents ----------------------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """One SubmissionSet that brings a Folder with two documents, and objects around it.

    public, secret   the documents; they differ in format and confidentiality
    brought          the HasMember associations of the set to: public, secret, the Folder, and its two links
    later            a document that another set put into the Folder, without the Folder in it
    """

    public: DocumentEntry = field(
        default_factory=lambda: entry(
            format_code=code("urn:ihe:pcc:aps:2007", FORMATS), confidentiality_code=(code("N", CONFIDENTIALITY),)
        )
    )
    secret: DocumentEntry = field(
        default_factory=lambda: entry(
            format_code=code("urn:other", FORMATS), confidentiality_code=(code("R", CONFIDENTIALITY),)
        )
    )
    later: DocumentEntry = field(default_factory=entry)

    def __post_init__(self) -> None:
        self.holder, (self.to_public, self.to_secret) = folder_of(self.public, self.secret)
        members = (self.public, self.secret, self.holder, self.to_public, self.to_secret)
        self.owner, *self.brought = set_of(*members)
        self.replacement = link(AssociationType.RPLC, self.later, self.public)
        self.to_later = registered(has_member(self.holder, self.later))
        self.later_owner, *self.brought_later = set_of(self.later, self.to_later)

    @property
    def objects(self) -> tuple[AnyObject, ...]:
        first = (self.public, self.secret, self.holder, self.to_public, self.to_secret, self.owner, *self.brought)
        return (*first, self.later, self.replacement, self.to_later, self.later_owner, *self.brought_later)

    @property
    def of_set(self) -> set[str]:
        members = (self.public, self.secret, self.holder, self.to_public, self.to_secret)
        return ids(self.owner, *members, *self.brought)

    @property
    def of_folder(self) -> set[str]:
        links = (self.to_public, self.to_secret, self.to_later)
        return ids(self.holder, self.public, self.secret, self.later, *links)


SECRET_ONLY: list[Sent] = [
    ("$XDSDocumentEntryFormatCode", f"('urn:other^^{FORMATS}')"),
    ("$XDSDocumentEntryConfidentialityCode", f"('R^^{CONFIDENTIALITY}','V^^{CONFIDENTIALITY}')"),
]


async def test_a_submission_set_comes_with_its_contents(archive: Archive) -> None:
    scene = Scene()
    await archive.keep(*scene.objects)
    unique_id = scene.owner.unique_id if isinstance(scene.owner, SubmissionSet) else None
    query = "GetSubmissionSetAndContents"

    assert await archive.found(query, ("$XDSSubmissionSetEntryUUID", f"'{scene.owner.entry_uuid}'")) == scene.of_set
    assert await archive.found(query, ("$XDSSubmissionSetUniqueId", f"'{unique_id}'")) == scene.of_set
    assert await archive.found(query, ("$XDSSubmissionSetUniqueId", "'1.2.3'")) == set()


async def test_a_submission_set_without_its_folder_comes_without_the_links_of_that_folder(archive: Archive) -> None:
    scene = Scene()
    await archive.keep(*scene.objects)

    found = await archive.found("GetSubmissionSetAndContents", ("$XDSSubmissionSetEntryUUID", named(scene.later_owner)))

    assert found == ids(scene.later_owner, scene.later, scene.brought_later[0])


@pytest.mark.parametrize("filtered", SECRET_ONLY)
async def test_what_a_filter_leaves_out_of_a_submission_set_takes_its_links_with_it(
    archive: Archive, filtered: Sent
) -> None:
    scene = Scene()
    await archive.keep(*scene.objects)

    found = await archive.found(
        "GetSubmissionSetAndContents", ("$XDSSubmissionSetEntryUUID", named(scene.owner)), filtered
    )

    # SubmissionSet to document, to Folder and to the Folder's link, and that link
    links = (scene.brought[1], scene.brought[2], scene.brought[4], scene.to_secret)
    assert found == ids(scene.owner, scene.secret, scene.holder, *links)


async def test_a_folder_comes_with_its_documents(archive: Archive) -> None:
    scene = Scene()
    await archive.keep(*scene.objects)

    assert await archive.found("GetFolderAndContents", ("$XDSFolderEntryUUID", named(scene.holder))) == scene.of_folder
    by_unique_id = ("$XDSFolderUniqueId", f"'{scene.holder.unique_id}'")
    assert await archive.found("GetFolderAndContents", by_unique_id) == scene.of_folder
    assert await archive.found("GetFolderAndContents", ("$XDSFolderUniqueId", "'1.2.3'")) == set()


@pytest.mark.parametrize("filtered", SECRET_ONLY)
async def test_what_a_filter_leaves_out_of_a_folder_takes_its_links_with_it(archive: Archive, filtered: Sent) -> None:
    scene = Scene()
    await archive.keep(*scene.objects)

    found = await archive.found("GetFolderAndContents", ("$XDSFolderEntryUUID", named(scene.holder)), filtered)

    assert found == ids(scene.holder, scene.secret, scene.to_secret)


@pytest.mark.parametrize("query", ["GetSubmissionSetAndContents", "GetFolderAndContents"])
async def test_contents_are_of_the_types_asked_for(archive: Archive, query: str) -> None:
    on_demand, stable = entry(object_type=ON_DEMAND), entry()
    holder, in_folder = folder_of(on_demand, stable)
    owner, *brought = set_of(on_demand, stable)
    await archive.keep(on_demand, stable, holder, *in_folder, owner, *brought)
    start, links, name = (
        (owner, brought, "$XDSSubmissionSetEntryUUID")
        if query == "GetSubmissionSetAndContents"
        else (holder, in_folder, "$XDSFolderEntryUUID")
    )

    async def found(*sent: Sent) -> set[str]:
        return await archive.found(query, (name, named(start)), *sent)

    assert await found() == ids(start, stable, links[1])
    assert await found(("$XDSDocumentEntryType", f"('{ON_DEMAND}')")) == ids(start, on_demand, links[0])
    assert await found(("$XDSDocumentEntryType", ANY_TYPE)) == ids(start, on_demand, stable, *links)


async def test_a_link_that_was_not_submitted_with_the_set_is_not_part_of_it(archive: Archive) -> None:
    item = entry()
    holder, (in_folder,) = folder_of(item)
    owner, *brought = set_of(item, holder)
    await archive.keep(item, holder, owner, *brought)
    await archive.keep(in_folder)

    found = await archive.found("GetSubmissionSetAndContents", ("$XDSSubmissionSetEntryUUID", named(owner)))

    assert found == ids(owner, item, holder, *brought)


async def test_folders_are_found_by_their_documents(archive: Archive) -> None:
    scene = Scene()
    second, (in_second,) = folder_of(scene.public)
    await archive.keep(*scene.objects)
    await archive.keep(second, in_second)
    query = "GetFoldersForDocument"

    assert await archive.found(query, ("$XDSDocumentEntryEntryUUID", named(scene.secret))) == ids(scene.holder)
    by_unique_id = ("$XDSDocumentEntryUniqueId", f"'{scene.public.unique_id}'")
    assert await archive.found(query, by_unique_id) == ids(scene.holder, second)
    assert await archive.found(query, ("$XDSDocumentEntryEntryUUID", f"'{entry_uuid()}'")) == set()


# Everything --------------------------------------------------------------------------------------------------------


async def test_all_of_a_patient_is_found_with_all_links_in_it(archive: Archive) -> None:
    scene = Scene()
    await archive.keep(*scene.objects)
    await archive.keep(entry(patient_id=OTHER_PATIENT), patient=OTHER_PATIENT)

    assert await archive.found("GetAll", *ALL) == ids(*scene.objects)


@pytest.mark.parametrize(
    ("parameter", "gone"),
    [
        ("$XDSFolderStatus", lambda scene: (scene.holder, scene.to_public, scene.to_secret, scene.to_later,
                                            scene.brought[2], *scene.brought[3:], scene.brought_later[1])),
        ("$XDSSubmissionSetStatus", lambda scene: (scene.owner, *scene.brought,
                                                   scene.later_owner, *scene.brought_later)),
        ("$XDSDocumentEntryStatus", lambda scene: (
            scene.public, scene.secret, scene.later, scene.replacement, scene.to_public, scene.to_secret,
            scene.to_later, *scene.brought[:2], *scene.brought[3:], *scene.brought_later)),
    ],
)  # fmt: skip
async def test_objects_of_another_status_are_left_out_with_their_links(
    archive: Archive, parameter: str, gone: Callable[[Scene], tuple[AnyObject, ...]]
) -> None:
    scene = Scene()
    await archive.keep(*scene.objects)

    found = await archive.found("GetAll", *with_parameter(ALL, parameter, f"('{DEPRECATED}')"))

    assert found == ids(*scene.objects) - ids(*gone(scene))


@pytest.mark.parametrize("filtered", SECRET_ONLY)
async def test_documents_that_a_filter_leaves_out_of_all_take_their_links_with_them(
    archive: Archive, filtered: Sent
) -> None:
    scene = Scene()
    await archive.keep(*scene.objects)

    found = await archive.found("GetAll", *ALL, filtered)

    gone = (scene.public, scene.later, scene.replacement, scene.to_public, scene.to_later, scene.brought[0],
            scene.brought[3], *scene.brought_later)  # fmt: skip
    assert found == ids(*scene.objects) - ids(*gone)


async def test_all_of_a_patient_is_stable_unless_on_demand_is_asked_for(archive: Archive) -> None:
    on_demand = entry(object_type=ON_DEMAND)
    owner, brought = set_of(on_demand)
    await archive.keep(on_demand, owner, brought)

    assert await archive.found("GetAll", *ALL) == ids(owner)
    every_type = ("$XDSDocumentEntryType", ANY_TYPE)
    assert await archive.found("GetAll", *ALL, every_type) == ids(on_demand, owner, brought)


async def test_what_was_registered_by_the_rules_is_counted_as_the_nist_test_plans_count_it(archive: Archive) -> None:
    """Plans 12346 (what is registered), 15803, 11897, 11899, 11903 and 11906 (what is found)."""
    registry = Registry(store=archive.store)
    replaced, with_folder, first, second = (document_entry() for _ in range(4))
    alone, in_folder = folder(), folder()
    new = document_entry()
    single = submission(document_entry())
    for whole in (
        single,
        submission(with_folder, folders=(alone,), associations=(has_member(alone, with_folder),)),
        submission(
            first,
            second,
            folders=(in_folder,),
            associations=(has_member(in_folder, first), has_member(in_folder, second)),
        ),
        submission(replaced),
        submission(new, associations=(association(AssociationType.RPLC, new, replaced),)),
    ):
        assert (await registry.register_document_set(whole)).succeeded

    counts = Counter(each.kind for each in (await archive.ask("GetAll", *ALL)).found)
    assert counts == {
        ObjectKind.DOCUMENT_ENTRY: 6,
        ObjectKind.SUBMISSION_SET: 5,
        ObjectKind.FOLDER: 2,
        ObjectKind.ASSOCIATION: 15,
    }
    approved = with_parameter(DOCUMENTS, "$XDSDocumentEntryStatus", f"('{APPROVED}')")
    assert len(await archive.found("FindDocuments", *approved)) == 5
    assert len(await archive.found("FindFolders", *FOLDERS)) == 2
    assert len(await archive.found("GetAssociations", ("$uuid", named(with_folder)))) == 2
    of_set = ("$XDSSubmissionSetEntryUUID", named(single.submission_set))
    assert len(await archive.found("GetSubmissionSetAndContents", of_set)) == 3


# Several patients, many objects ------------------------------------------------------------------------------------


async def two_patients(archive: Archive) -> tuple[tuple[AnyObject, ...], tuple[AnyObject, ...]]:
    """For each of two patients a document, a Folder that holds it, a SubmissionSet, and their links."""
    dossiers = []
    for patient in (PATIENT, OTHER_PATIENT):
        item = entry(patient_id=patient)
        holder, (in_folder,) = folder_of(item, patient_id=patient)
        owner, *brought = set_of(item, holder, in_folder, patient=patient)
        dossiers.append((item, holder, in_folder, owner, *brought))
        await archive.keep(*dossiers[-1], patient=patient)
    return dossiers[0], dossiers[1]


@pytest.mark.parametrize(
    ("query", "name", "position"),
    [
        ("GetDocuments", "$XDSDocumentEntryEntryUUID", 0),
        ("GetFolders", "$XDSFolderEntryUUID", 1),
        ("GetAssociations", "$uuid", 0),
        ("GetDocumentsAndAssociations", "$XDSDocumentEntryEntryUUID", 0),
        ("GetSubmissionSets", "$uuid", 1),
    ],
)
async def test_objects_of_two_patients_are_referred_to_but_not_returned(
    archive: Archive, query: str, name: str, position: int
) -> None:
    first, second = await two_patients(archive)
    sent = (name, named(first[position], second[position]))

    [error] = await archive.refused(query, sent)
    references = await archive.ask(query, sent, return_type=ReturnType.OBJECT_REF)

    assert error.code == ErrorCode.RESULT_NOT_SINGLE_PATIENT
    assert PATIENT.id_number not in error.code_context
    assert references.status is ResponseStatus.SUCCESS
    of_one = [await archive.found(query, (name, named(each))) for each in (first[position], second[position])]
    assert {each.entry_uuid for each in references.found} == of_one[0] | of_one[1]
    assert all(of_one)


async def test_ends_of_associations_of_two_patients_are_all_asked_for(archive: Archive) -> None:
    """The first dossier is known by a source, the second only by a target."""
    first, second = await two_patients(archive)
    owner, item = first[3], second[0]

    response = await archive.ask("GetAssociations", ("$uuid", named(owner, item)), return_type=ReturnType.OBJECT_REF)

    assert {each.entry_uuid for each in response.found} == ids(*first[4:], second[2], second[4])


QUERIES_OF_A_SCENE: list[tuple[str, Callable[[Scene], tuple[Sent, ...]]]] = [
    ("FindDocuments", lambda _: DOCUMENTS),
    ("FindSubmissionSets", lambda _: SETS),
    ("GetAll", lambda _: ALL),
    ("GetDocuments", lambda scene: (("$XDSDocumentEntryEntryUUID", named(scene.public, scene.secret)),)),
    ("GetAssociations", lambda scene: (("$uuid", named(scene.public)),)),
    ("GetDocumentsAndAssociations", lambda scene: (("$XDSDocumentEntryEntryUUID", named(scene.public)),)),
    ("GetSubmissionSets", lambda scene: (("$uuid", named(scene.public, scene.later)),)),
    ("GetSubmissionSetAndContents", lambda scene: (("$XDSSubmissionSetEntryUUID", named(scene.owner)),)),
    ("GetFolderAndContents", lambda scene: (("$XDSFolderEntryUUID", named(scene.holder)),)),
    ("GetRelatedDocuments", lambda scene: (
        ("$XDSDocumentEntryEntryUUID", named(scene.public)), ("$AssociationTypes", f"('{AssociationType.RPLC}')"))),
]  # fmt: skip


@pytest.mark.parametrize(("query", "sent"), QUERIES_OF_A_SCENE)
async def test_an_answer_that_is_too_large_is_refused_with_its_size_and_a_way_out(
    archive: Archive, query: str, sent: Callable[[Scene], tuple[Sent, ...]]
) -> None:
    scene = Scene()
    await archive.keep(*scene.objects)
    size = len(await archive.found(query, *sent(scene)))

    [error] = await archive.refused(query, *sent(scene), max_results=size - 1)
    fitting = await archive.ask(query, *sent(scene), max_results=size)
    references = await archive.ask(query, *sent(scene), return_type=ReturnType.OBJECT_REF, max_results=1)

    assert error.code == ErrorCode.TOO_MANY_RESULTS
    assert f" {size} " in error.code_context
    assert "ObjectRef" in error.code_context
    assert len(fitting.found) == len(references.found) == size > 1


# Excluding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "attributes", "matching", "excluding"),
    [each for each in DOCUMENT_PARAMETERS if each[0] != "Status" and not each[0].endswith(("TimeFrom", "TimeTo"))],
)
async def test_a_parameter_that_excludes_leaves_out_what_the_other_one_finds(
    archive: Archive, name: str, attributes: dict[str, Any], matching: list[str], excluding: list[str]
) -> None:
    item = entry(**attributes)
    without = entry(class_code=None, event_code_list=(), author=(), reference_id_list=())
    await archive.keep(item, without)

    for text in matching:
        sent = (*DOCUMENTS, (f"$XDSDocumentEntry{name}Exclude", text))
        assert item.entry_uuid not in await archive.found("FindDocumentsExclude", *sent), text
    for text in excluding:
        sent = (*DOCUMENTS, (f"$XDSDocumentEntry{name}Exclude", text))
        if name != "Type":
            assert await archive.found("FindDocumentsExclude", *sent) == ids(item, without), text


async def test_what_has_no_value_is_not_excluded(archive: Archive) -> None:
    without = entry(event_code_list=(), author=(), reference_id_list=(), practice_setting_code=None)
    await archive.keep(without)

    for name in ("EventCodeList", "PracticeSettingCode"):
        sent = (*DOCUMENTS, (f"$XDSDocumentEntry{name}Exclude", "('a^^1.2')"))
        assert await archive.found("FindDocumentsExclude", *sent) == ids(without)
    for name in ("AuthorPerson", "ReferenceIdList"):
        sent = (*DOCUMENTS, (f"$XDSDocumentEntry{name}Exclude", "('%')"))
        assert await archive.found("FindDocumentsExclude", *sent) == ids(without)


async def test_repeated_codes_are_excluded_where_they_are_all_there(archive: Archive) -> None:
    both = entry(event_code_list=(code("a", "1.2"), code("b", "1.2")))
    one = entry(event_code_list=(code("a", "1.2"),))
    await archive.keep(both, one)

    sent = [("$XDSDocumentEntryEventCodeListExclude", f"('{each}^^1.2')") for each in ("a", "b")]

    assert await archive.found("FindDocumentsExclude", *DOCUMENTS, *sent) == ids(one)
    assert await archive.found("FindDocumentsExclude", *DOCUMENTS, sent[0]) == set()


# Any number of patients --------------------------------------------------------------------------------------------


async def test_documents_and_folders_of_several_patients_are_found_in_one_answer(archive: Archive) -> None:
    first, second = await two_patients(archive)
    patients = f"('{PATIENT}','{OTHER_PATIENT}')"

    for query, prefix, position in (("FindDocuments", "DocumentEntry", 0), ("FindFolders", "Folder", 1)):
        status = (f"$XDS{prefix}Status", ANY_STATUS)
        both = await archive.found(f"{query}ForMultiplePatients", (f"$XDS{prefix}PatientId", patients), status)
        one = await archive.found(f"{query}ForMultiplePatients", (f"$XDS{prefix}PatientId", f"'{PATIENT}'"), status)
        assert both == ids(first[position], second[position])
        assert one == ids(first[position])


async def test_documents_of_whatever_patient_are_found_by_code_and_by_reference(archive: Archive) -> None:
    of_both = [
        entry(patient_id=patient, class_code=code("a", "1.2"), reference_id_list=(CXi("7^^^&1.2&ISO^urn:x"),))
        for patient in (PATIENT, OTHER_PATIENT)
    ]
    for item, patient in zip(of_both, (PATIENT, OTHER_PATIENT), strict=True):
        await archive.keep(item, entry(patient_id=patient), patient=patient)
    status = ("$XDSDocumentEntryStatus", f"('{APPROVED}')")

    by_code = await archive.found(
        "FindDocumentsForMultiplePatients", status, ("$XDSDocumentEntryClassCode", "('a^^1.2')")
    )
    by_reference = await archive.found("FindDocumentsByReferenceIdForMultiplePatients", status, BY_REFERENCE[-1])

    assert by_code == by_reference == ids(*of_both)


# Versions ----------------------------------------------------------------------------------------------------------


@dataclass
class Versions:
    """Three versions of a document and of the Folder that holds it; the newest are Approved."""

    entries: tuple[DocumentEntry, ...]
    folders: tuple[Folder, ...]
    links: tuple[Association, ...]

    @classmethod
    def some(cls) -> Versions:
        entries, folders = [entry()], [registered(folder(), last_update_time=UPDATED)]
        for version in ("2", "3"):
            newer: dict[str, Any] = {"entry_uuid": entry_uuid(), "version": version}
            entries.append(replace(entries[0], **newer))
            folders.append(replace(folders[0], **newer | {"entry_uuid": entry_uuid()}))
        older: dict[str, Any] = {"availability_status": DEPRECATED}
        entries[:2] = [replace(each, **older) for each in entries[:2]]
        folders[:2] = [replace(each, **older) for each in folders[:2]]
        links = [registered(has_member(each, of)) for each in folders for of in entries]
        return cls(tuple(entries), tuple(folders), tuple(links))


OF_ALL_VERSIONS = (METADATA_LEVEL, "2")


async def test_older_versions_are_found_only_at_the_second_level_of_metadata(archive: Archive) -> None:
    versions = Versions.some()
    await archive.keep(*versions.entries, *versions.folders)
    newest = versions.entries[-1]

    asked: list[tuple[str, tuple[Sent, ...], tuple[AnyObject, ...]]] = [
        ("FindDocuments", DOCUMENTS, versions.entries),
        ("FindFolders", FOLDERS, versions.folders),
        ("GetDocuments", (("$XDSDocumentEntryUniqueId", f"('{newest.unique_id}')"),), versions.entries),
        ("GetDocuments", (("$XDSDocumentEntryLogicalID", f"('{newest.logical_id}')"),), versions.entries),
        ("GetDocuments", (("$XDSDocumentEntryEntryUUID", named(*versions.entries)),), versions.entries),
        ("GetFolders", (("$XDSFolderLogicalID", f"('{versions.folders[0].entry_uuid}')"),), versions.folders),
    ]
    for query, sent, objects in asked:
        assert await archive.found(query, *sent) == ids(objects[-1]), query
        assert await archive.found(query, *sent, OF_ALL_VERSIONS) == ids(*objects), query


async def test_a_newest_version_is_found_though_it_is_deprecated(archive: Archive) -> None:
    versions = Versions.some()
    await archive.keep(*versions.entries)
    await archive.deprecate(versions.entries[-1])

    assert await archive.found("FindDocuments", *DOCUMENTS) == ids(versions.entries[-1])


async def test_a_version_that_went_to_another_patient_is_not_found_with_the_first_one(archive: Archive) -> None:
    before = entry(availability_status=DEPRECATED)
    after = replace(
        before, entry_uuid=entry_uuid(), version="2", patient_id=OTHER_PATIENT, availability_status=APPROVED
    )
    await archive.keep(before)
    await archive.keep(after, patient=OTHER_PATIENT)

    assert await archive.found("FindDocuments", *DOCUMENTS) == set()
    assert await archive.found("FindDocuments", *DOCUMENTS, OF_ALL_VERSIONS) == ids(before)


async def test_what_is_not_current_is_found_only_at_the_second_level_of_metadata(archive: Archive) -> None:
    offline = entry(document_availability="urn:ihe:iti:2010:DocumentAvailability:Offline")
    online = entry(document_availability="urn:ihe:iti:2010:DocumentAvailability:Online")
    case = registered(folder(), last_update_time=UPDATED)
    owner = registered(submission_set())
    update = link(AssociationType.UPDATE_AVAILABILITY_STATUS, owner, online)
    await archive.keep(offline, online, case, owner, update)
    await archive.deprecate(case)

    for query, sent, current, others in (
        ("FindDocuments", DOCUMENTS, (online,), (offline,)),
        ("FindFolders", FOLDERS, (), (case,)),
        ("GetAssociations", (("$uuid", named(owner)),), (), (update,)),
    ):
        assert await archive.found(query, *sent) == ids(*current)
        assert await archive.found(query, *sent, OF_ALL_VERSIONS) == ids(*current, *others)


async def test_older_versions_do_not_count_for_the_size_of_an_answer(archive: Archive) -> None:
    versions = Versions.some()
    await archive.keep(*versions.entries)

    fitting = await archive.ask("FindDocuments", *DOCUMENTS, max_results=1)
    [error] = await archive.refused("FindDocuments", *DOCUMENTS, OF_ALL_VERSIONS, max_results=2)

    assert [each.entry_uuid for each in fitting.found] == [versions.entries[-1].entry_uuid]
    assert " 3 " in error.code_context


async def test_contents_have_the_newest_versions_and_no_links_to_others(archive: Archive) -> None:
    versions = Versions.some()
    await archive.keep(*versions.entries, *versions.folders, *versions.links)
    newest = (versions.folders[-1], versions.entries[-1], versions.links[-1])

    assert await archive.found("GetAll", *ALL) == ids(*newest)
    found = await archive.found("GetFolderAndContents", ("$XDSFolderUniqueId", f"'{newest[0].unique_id}'"))
    assert found == ids(*newest)


# What is asked of the store ----------------------------------------------------------------------------------------


class WatchedStore(MemoryStore):
    """A store that remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Criteria, bool]] = []

    async def find(
        self, criteria: Criteria, *, rendering: bool = True, limit: int | None = None, unmerged: bool = False
    ) -> tuple[StoredObject, ...]:
        self.asked.append((criteria, rendering))
        return await super().find(criteria, rendering=rendering, limit=limit, unmerged=unmerged)


@pytest.mark.parametrize(("query", "sent"), QUERIES_OF_A_SCENE)
async def test_references_are_answered_without_rendering_anything(
    query: str, sent: Callable[[Scene], tuple[Sent, ...]]
) -> None:
    store, scene = WatchedStore(), Scene()
    archive = Archive(store, store.codec)
    await archive.keep(*scene.objects)

    await archive.ask(query, *sent(scene), return_type=ReturnType.OBJECT_REF)

    assert store.asked
    assert not any(rendering for _, rendering in store.asked)


async def test_the_store_is_asked_no_more_often_for_many_objects_than_for_few() -> None:
    async def questions(members: int) -> int:
        store = WatchedStore()
        archive = Archive(store, store.codec)
        entries = tuple(entry() for _ in range(members))
        holder, in_folder = folder_of(*entries)
        owner, *brought = set_of(*entries, holder, *in_folder)
        await archive.keep(*entries, holder, *in_folder, owner, *brought)
        response = await archive.ask("GetSubmissionSetAndContents", ("$XDSSubmissionSetEntryUUID", named(owner)))
        assert len(response.found) == 3 + 4 * members
        return len(store.asked)

    assert await questions(1) == await questions(30) <= 9


@pytest.mark.parametrize(("query", "sent"), QUERIES_OF_A_SCENE)
async def test_once_the_patient_is_known_the_store_is_told(
    query: str, sent: Callable[[Scene], tuple[Sent, ...]]
) -> None:
    store, scene = WatchedStore(), Scene()
    archive = Archive(store, store.codec)
    await archive.keep(*scene.objects)

    await archive.ask(query, *sent(scene))

    to_find_the_patient = 2 if query == "GetAssociations" else 1
    assert all(criteria.patient_ids == (PATIENT.text,) for criteria, _ in store.asked[to_find_the_patient:])


async def test_a_busy_store_is_answered_as_busy() -> None:
    class BusyStore(MemoryStore):
        async def find(
            self, criteria: Criteria, *, rendering: bool = True, limit: int | None = None, unmerged: bool = False
        ) -> tuple[StoredObject, ...]:
            raise StoreBusy("locked")

    request = QueryRequest(IDS["FindDocuments"], ReturnType.LEAF_CLASS, tuple((n, (t,)) for n, t in DOCUMENTS))

    response = await Registry(store=BusyStore()).stored_query(request)

    assert response.status is ResponseStatus.FAILURE
    assert [error.code for error in response.errors] == [ErrorCode.REGISTRY_BUSY]


async def test_a_query_that_is_wrong_asks_the_store_nothing() -> None:
    store = WatchedStore()

    response = await Registry(store=store).stored_query(QueryRequest(IDS["GetAll"], "x", ()))

    assert response.status is ResponseStatus.FAILURE
    assert len(response.errors) == 5
    assert store.asked == []
