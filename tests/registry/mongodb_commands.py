"""What the metadata store on MongoDB sends to its server, as a command listener tells; and what to ask it for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pymongo import monitoring

from registry.fhir_resources import FhirResources
from registry.metadata_store_mongodb import MongoMetadataStore
from registry.mongodb.database import MongoDatabase
from registry.mongodb.resolver import Resolver
from registry.mongodb.schema import prepare
from tests.builders import PATIENT, document_entry, folder, has_member, submission
from tests.registry.stores import TellingRenderer, some_database
from xds.ebxml_writer import codec
from xds.metadata import AssociationType, AvailabilityStatus, DocumentEntry, Folder, Submission

_T = TypeVar("_T")

OUTSIDE = frozenset({"hello", "ismaster", "endSessions", "ping"})
_TURNS = 20
MARKS = frozenset({"delete objects", "update changes"})
"""What is done in the background, and nobody waits for."""


@asynccontextmanager
async def watched_store(url: str, commands: Commands) -> AsyncIterator[MongoMetadataStore]:
    """A store in a database of its own that is not swept meanwhile."""
    with some_database(url) as name:
        database = _WatchedDatabase.at(url, name, busy_seconds=30, connect_seconds=10, event_listeners=[commands])
        database.commands = commands
        await prepare(database)
        # With FHIR resources, as they are kept wherever a server runs.
        store = MongoMetadataStore(database, codec=codec, fhir=FhirResources(TellingRenderer(), bytes(32)))
        yield store
        await store.close()


class _WatchedDatabase(MongoDatabase):
    """Tells how often somebody waits for the server. What is asked for at once is waited for once."""

    commands: Commands
    _under_way = 0

    async def run(self, send: Callable[[], Awaitable[_T]], *, again: bool = True) -> _T:
        if _is_a_mark():
            return await super().run(send, again=again)
        if not self._under_way:
            self.commands.waits += 1
        self._under_way += 1
        try:
            for _ in range(_TURNS):  # of the loop, in which all is asked for that needs no answer of this
                await asyncio.sleep(0)
            return await super().run(send, again=again)
        finally:
            self._under_way -= 1


def _is_a_mark() -> bool:
    """Whether what is done is done in the background."""
    task = asyncio.current_task()
    return task is not None and getattr(task.get_coro(), "__qualname__", "") == Resolver._set_marks.__qualname__


@dataclass
class Commands(monitoring.CommandListener):
    """The commands that were sent: name, collection and filter of each; and the stages of pipelines.

    written    of each document that was inserted, updated or deleted: collection, and the document or what selects it
    concerns   how much of a replica set a command asks to be told by: read and write concern of each
    awaited    `insert changes` and the like, without what is done in the background
    waits      how often somebody waited for an answer
    """

    sent: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)
    stages: set[str] = field(default_factory=set)
    written: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    concerns: list[tuple[str, object]] = field(default_factory=list)
    awaited: list[str] = field(default_factory=list)
    waits: int = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name in OUTSIDE:
            return
        wanted = event.command.get("filter") or {}
        for stage in event.command.get("pipeline", ()):
            wanted = stage.get("$match", wanted)
            self.stages |= stage.keys()
        collection = event.command[event.command_name]
        self.sent.append((event.command_name, collection, wanted))
        if not _is_a_mark():
            self.awaited.append(f"{event.command_name} {collection}")
        self.written += [(collection, each) for each in event.command.get("documents", ())]
        for kind in ("updates", "deletes"):
            self.written += [(collection, each["q"]) for each in event.command.get(kind, ())]
        told = event.command.get("readConcern", {}).get("level") or event.command.get("writeConcern", {}).get("w")
        self.concerns.append((event.command_name, told))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """The commands sent inside, as `insert changes`."""
        names: list[str] = []
        self.sent.clear()
        self.awaited.clear()
        self.waits = 0
        yield names
        names += [f"{name} {collection}" for name, collection, _ in self.sent]


@dataclass(frozen=True)
class Scene:
    """What is asked for."""

    entry: DocumentEntry
    case: Folder
    submitted: Submission

    @classmethod
    def of_one_document(cls) -> Scene:
        entry, case = document_entry(), folder()
        return cls(entry, case, submission(entry, folders=(case,), associations=(has_member(case, entry),)))

    def parameters(self) -> Mapping[str, Mapping[str, str]]:
        """By stored query: parameters that make it ask for this."""
        patient, status = f"'{PATIENT.text}'", f"('{AvailabilityStatus.APPROVED}')"
        owner, entry, case = self.submitted.submission_set, self.entry, self.case
        of_documents = {"$XDSDocumentEntryPatientId": patient, "$XDSDocumentEntryStatus": status}
        return {
            "FindDocuments": of_documents,
            "FindDocumentsByReferenceId": {**of_documents, "$XDSDocumentEntryReferenceIdList": "('1^^^^x')"},
            "FindSubmissionSets": {"$XDSSubmissionSetPatientId": patient, "$XDSSubmissionSetStatus": status},
            "FindFolders": {"$XDSFolderPatientId": patient, "$XDSFolderStatus": status},
            "GetAll": {
                "$patientId": patient, "$XDSDocumentEntryStatus": status, "$XDSSubmissionSetStatus": status,
                "$XDSFolderStatus": status,
            },
            "FindDocumentsExclude": {
                "$XDSDocumentEntryPatientId": patient, "$XDSDocumentEntryStatus": status,
                "$XDSDocumentEntryClassCodeExclude": "('a^^1.2')", "$XDSDocumentEntryAuthorPersonExclude": "('a')",
            },
            "FindDocumentsForMultiplePatients": {
                "$XDSDocumentEntryPatientId": patient, "$XDSDocumentEntryStatus": status,
            },
            "FindFoldersForMultiplePatients": {"$XDSFolderPatientId": patient, "$XDSFolderStatus": status},
            "FindDocumentsByReferenceIdForMultiplePatients": {
                "$XDSDocumentEntryPatientId": patient, "$XDSDocumentEntryStatus": status,
                "$XDSDocumentEntryReferenceIdList": "('7^^^&1.2&ISO^urn:x')",
            },
            "GetDocuments": {"$XDSDocumentEntryUniqueId": f"('{entry.unique_id}')"},
            "GetFolders": {"$XDSFolderEntryUUID": f"('{case.entry_uuid}')"},
            "GetAssociations": {"$uuid": f"('{entry.entry_uuid}')"},
            "GetDocumentsAndAssociations": {"$XDSDocumentEntryEntryUUID": f"('{entry.entry_uuid}')"},
            "GetSubmissionSets": {"$uuid": f"('{entry.entry_uuid}')"},
            "GetSubmissionSetAndContents": {"$XDSSubmissionSetUniqueId": f"'{owner.unique_id}'"},
            "GetFolderAndContents": {"$XDSFolderUniqueId": f"'{case.unique_id}'"},
            "GetFoldersForDocument": {"$XDSDocumentEntryEntryUUID": f"'{entry.entry_uuid}'"},
            "GetRelatedDocuments": {
                "$XDSDocumentEntryUniqueId": f"'{entry.unique_id}'", "$AssociationTypes": f"('{AssociationType.RPLC}')",
            },
        }  # fmt: skip
