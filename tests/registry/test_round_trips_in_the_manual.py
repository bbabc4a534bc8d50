"""How often an operation asks MongoDB is what the manual says: docs/operations.md, counted by a command listener."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from registry.actor import Registry
from registry.iti18_stored_query import stored_query
from registry.metadata_store_mongodb import MongoMetadataStore
from registry.patient_identities import FedPatients, OpenPatients
from registry.patient_register import PatientRegister
from tests.builders import OTHER_PATIENT, PATIENT, association, document_entry, folder, has_member, submission
from tests.registry.dossiers import identify
from tests.registry.mongodb_commands import MARKS, Commands, Scene, watched_store
from tests.store_servers import StoreServer
from tests.xds.broken_updates import next_version, status_update, update_of
from xds.actors import QueryRequest, ReturnType
from xds.metadata import AssociationType, ObjectKind
from xds.paged_search import PagedSearch
from xds.stored_queries import STORED_QUERIES

MANUAL = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in MANUAL.partition("### Round trips to MongoDB")[2].partition("\n### ")[0].splitlines()
    if re.search(r"\d", line) and line.startswith("|")
]
OPERATIONS = {cells[0]: int(cells[1]) for cells in ROWS if len(cells) == 2}
QUERIES = {name: (int(cells[1]), int(cells[2])) for cells in ROWS if len(cells) == 3 for name in cells[0].split(", ")}


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
async def store(mongodb_server: StoreServer, commands: Commands) -> AsyncIterator[MongoMetadataStore]:
    async with watched_store(mongodb_server.url, commands) as store:
        yield store


@dataclass
class Counting:
    """How many round trips operations took, by what the manual calls them."""

    store: MongoMetadataStore
    commands: Commands
    counted: dict[str, int] = field(default_factory=dict)

    async def of(self, name: str, operation: Awaitable[Any]) -> Any:
        """What the operation answers."""
        await self.store._resolver.settle()
        with self.commands.counted() as sent:
            answer = await operation
        await self.store._resolver.settle()
        assert not getattr(answer, "errors", ()), answer.errors
        self.counted[name] = len([each for each in sent if each not in MARKS])
        return answer


async def test_operations_take_as_many_round_trips_as_the_manual_says(
    store: MongoMetadataStore, commands: Commands
) -> None:
    counting = Counting(store, commands)
    registry = Registry(store=store, patients=FedPatients(store))
    feed = PatientRegister(store=store, well_formed=OpenPatients(), required=True)
    await counting.of("ITI-8, ITI-44, ITI-104: a patient", feed.admit([PATIENT]))
    old, versioned, ended, appendix, new = (document_entry() for _ in range(5))
    case, other_case = folder(), folder()
    await counting.of(
        "ITI-42, ITI-41: new objects",
        registry.register_document_set(
            submission(old, versioned, ended, folders=(case, other_case), associations=(has_member(case, old),))
        ),
    )
    appended = association(AssociationType.APND, appendix, old)
    await counting.of(
        "... that refer to registered ones",
        registry.register_document_set(submission(appendix, associations=(appended,))),
    )
    replacement = association(AssociationType.RPLC, new, old)
    await counting.of(
        "... and replace what has an appendix",
        registry.register_document_set(submission(new, associations=(replacement,))),
    )
    await counting.of("ITI-57: a new version", registry.update_document_set(update_of(next_version(versioned))))
    await counting.of("ITI-57: another status", registry.update_document_set(status_update(ended)))
    wrong = submission(document_entry())
    await registry.register_document_set(wrong)
    gone = [wrong.submission_set, *wrong.document_entries, *wrong.associations]
    await counting.of("ITI-62: all of a submission", registry.remove_metadata([each.entry_uuid for each in gone]))
    for kind, column, name in (
        (ObjectKind.DOCUMENT_ENTRY, "creation_time", "ITI-67: DocumentReference"),
        (ObjectKind.SUBMISSION_SET, "submission_time", "ITI-66: List of a SubmissionSet"),
        (ObjectKind.FOLDER, "last_update_time", "ITI-66: List of a Folder"),
    ):
        search = PagedSearch(kind, (), (PATIENT.text,), column, 1)
        page = await counting.of(f"{name}, the first page", registry.page(search))
        further = replace(search, after=page.objects[-1].place, as_of=page.as_of)
        await counting.of(f"{name}, a later page", registry.page(further))
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

    assert (counting.counted[ReturnType.OBJECT_REF], counting.counted[ReturnType.LEAF_CLASS]) == QUERIES[name]
