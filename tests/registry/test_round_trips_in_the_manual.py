"""How often an operation asks MongoDB is what the manual says: docs/operations.md, counted by a command listener."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from registry.actor import Registry
from registry.iti18_stored_query import stored_query
from registry.metadata_store_mongodb import MongoMetadataStore
from registry.patient_identities import FedPatients, OpenPatients
from registry.patient_register import PatientRegister
from tests.builders import OTHER_PATIENT, PATIENT, PATIENT_AUTHORITY, association, document_entry, folder, submission
from tests.registry.dossiers import identify
from tests.registry.mongodb_commands import Commands, Scene, watched_store
from tests.store_servers import StoreServer
from tests.xds.broken_updates import next_version, status_update, update_of
from xds.actors import QueryRequest, ReturnType
from xds.hl7v2 import CX
from xds.metadata import AnyObject, AssociationType, DocumentEntry, Folder, ObjectKind
from xds.paged_search import PagedSearch
from xds.stored_queries import STORED_QUERIES

MANUAL = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
HAS_MEMBER = AssociationType.HAS_MEMBER
CHAPTER = MANUAL.partition("### Round trips to MongoDB")[2].partition("\n### ")[0]


def table(header: str) -> dict[str, tuple[int, int]]:
    """What the manual says below this header: by what is in the first column, the numbers beside it."""
    lines = CHAPTER.partition(f"| {header} |")[2].partition("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.search(r"\d", line)]
    return {cells[0]: (int(cells[1]), int(cells[2])) for cells in rows}


OPERATIONS = table("operation")
QUERIES = {name: numbers for names, numbers in table("stored query").items() for name in names.split(", ")}


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
async def store(mongodb_server: StoreServer, commands: Commands) -> AsyncIterator[MongoMetadataStore]:
    async with watched_store(mongodb_server.url, commands) as store:
        yield store


@dataclass
class Counting:
    """How many commands operations sent and how often they waited, by what the manual calls them."""

    store: MongoMetadataStore
    commands: Commands
    counted: dict[str, tuple[int, int]] = field(default_factory=dict)

    async def of(self, name: str, operation: Awaitable[Any]) -> Any:
        """What the operation answers."""
        await self.store._resolver.settle()
        with self.commands.counted():
            answer = await operation
        await self.store._resolver.settle()
        assert not getattr(answer, "errors", ()), answer.errors
        counted = len(self.commands.awaited), self.commands.waits
        assert self.counted.setdefault(name, counted) == counted, name
        return answer


async def registered_as_the_manual_says(
    registry: Registry, counting: Counting, *entries: DocumentEntry, folders: tuple[Folder, ...]
) -> None:
    """Register these and others, in all the ways that the manual tells of."""

    async def registers(
        name: str,
        *entries: DocumentEntry,
        folders: tuple[Folder, ...] = (),
        links: Iterable[tuple[str, AnyObject, AnyObject]] = (),
    ) -> None:
        associations = tuple(association(*each) for each in links)
        whole = submission(*entries, folders=folders, associations=associations)
        await counting.of(name, registry.register_document_set(whole))

    plain, held, old, chained = (document_entry() for _ in range(4))
    case, new = folders[0], "ITI-42, ITI-41: new objects"
    await registers(new, *entries, plain, held, old, chained, folders=folders, links=[(HAS_MEMBER, case, held)])
    await registers(new, document_entry())
    stranger = document_entry(patient_id=CX.of("4716", PATIENT_AUTHORITY))
    await registers("... the first of a patient", stranger)

    addendum, replacing, referring = document_entry(), document_entry(), "... that refer to registered ones"
    await registers(referring, addendum, links=[(AssociationType.APND, addendum, plain)])
    await registers(referring, links=[(HAS_MEMBER, case, plain)])
    await registers(referring, replacing, links=[(AssociationType.RPLC, replacing, held)])

    several = [document_entry() for _ in range(3)]
    await registers(referring, *several, links=[(AssociationType.APND, each, old) for each in several])
    for _ in range(5):
        further, before = document_entry(), several[-1]
        await registers(referring, further, links=[(AssociationType.XFRM, further, before)])
        several.append(further)
    appended = "... and replace what has appendices, and these others"
    for replaced in (plain, old):
        replacement = document_entry()
        await registers(appended, replacement, links=[(AssociationType.RPLC, replacement, replaced)])

    def again() -> list[DocumentEntry]:
        return [document_entry(unique_id=each.unique_id) for each in (*entries, stranger)]

    known = "... with documents that are registered already"
    await registers(known, again()[0])
    await registers(known, *again())
    appendix, last = document_entry(), document_entry()
    await registers(referring, appendix, links=[(AssociationType.APND, appendix, chained)])
    both = "... and replace what has appendices, beside them"
    await registers(both, last, *again(), links=[(AssociationType.RPLC, last, chained)])


async def found_as_the_manual_says(registry: Registry, counting: Counting) -> None:
    """Search for objects that are all joined with others, whichever of them is on which page."""
    patient = CX.of("4717", PATIENT_AUTHORITY)
    entries, cases = [document_entry(patient_id=patient) for _ in "12"], [folder(patient_id=patient) for _ in "12"]
    appended = association(AssociationType.APND, *reversed(entries))
    for entry, case, links in zip(entries, cases, ((), (appended,)), strict=True):
        held = association(HAS_MEMBER, case, entry)
        whole = submission(entry, folders=(case,), associations=(held, *links), patient_id=patient)
        assert (await registry.register_document_set(whole)).succeeded
    for kind, column, name in (
        (ObjectKind.DOCUMENT_ENTRY, "creation_time", "ITI-67: DocumentReference"),
        (ObjectKind.SUBMISSION_SET, "submission_time", "ITI-66: List of a SubmissionSet"),
        (ObjectKind.FOLDER, "last_update_time", "ITI-66: List of a Folder"),
    ):
        search = PagedSearch(kind, (), (patient.text,), column, 1)
        page = await counting.of(f"{name}, the first page", registry.page(search))
        further = replace(search, after=page.objects[-1].place, as_of=page.as_of)
        await counting.of(f"{name}, a later page", registry.page(further))


async def test_operations_take_as_many_round_trips_as_the_manual_says(
    store: MongoMetadataStore, commands: Commands
) -> None:
    counting = Counting(store, commands)
    registry = Registry(store=store, patients=FedPatients(required=False))
    feed = PatientRegister(store=store, well_formed=OpenPatients(), required=True)
    await counting.of("ITI-8, ITI-44, ITI-104: a patient", feed.admit([PATIENT]))
    versioned, ended = document_entry(), document_entry()
    await registered_as_the_manual_says(registry, counting, versioned, ended, folders=(folder(), folder()))
    await counting.of("ITI-57: a new version", registry.update_document_set(update_of(next_version(versioned))))
    await counting.of("ITI-57: another status", registry.update_document_set(status_update(ended)))
    wrong = submission(document_entry())
    await registry.register_document_set(wrong)
    gone = [wrong.submission_set, *wrong.document_entries, *wrong.associations]
    await counting.of("ITI-62: all of a submission", registry.remove_metadata([each.entry_uuid for each in gone]))
    await found_as_the_manual_says(registry, counting)
    await feed.admit([OTHER_PATIENT])
    await counting.of("... that is merged into another", feed.merge([PATIENT], [OTHER_PATIENT]))

    assert counting.counted == OPERATIONS


@pytest.mark.parametrize("name", [row.name for row in STORED_QUERIES.values()])
async def test_a_stored_query_takes_as_many_round_trips_as_the_manual_says(
    store: MongoMetadataStore, commands: Commands, name: str
) -> None:
    counting = Counting(store, commands)
    scene = Scene.of_one_document()
    await identify(store, PATIENT)
    assert (await Registry(store=store).register_document_set(scene.submitted)).succeeded
    (query,) = (row for row in STORED_QUERIES.values() if row.name == name)
    slots = tuple((parameter, (value,)) for parameter, value in scene.parameters()[name].items())

    for return_type in ReturnType:
        request = QueryRequest(query.id, return_type, slots)
        await counting.of(
            return_type, stored_query(request, store=store, max_results=1000, transaction=query.transaction)
        )

    commands_sent = tuple(counting.counted[each][0] for each in (ReturnType.OBJECT_REF, ReturnType.LEAF_CLASS))
    assert commands_sent == QUERIES[name]
