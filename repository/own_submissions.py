"""What a repository keeps and submits to the registry by itself: documents that were made here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from repository.document_store import DocumentStore, Kept
from repository.registered_entries import RegisteredEntries
from repository.settling import IsRegistered, registered_document
from xds.hl7v2 import DTM, oid_of
from xds.metadata import Code, DocumentEntry, SubmissionSet


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSubmissions:
    """Where what was made is kept, and what is registered of it."""

    documents: DocumentStore
    entries: RegisteredEntries
    is_registered: IsRegistered
    repository_unique_id: str
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    new_uuid: Callable[[], UUID] = uuid4

    async def found(self, unique_id: str) -> Kept | None:
        """A document that is kept and registered by now. Raises as registered_document does."""
        return await registered_document(unique_id, documents=self.documents, is_registered=self.is_registered)

    def now(self) -> DTM:
        return DTM(self.clock().strftime("%Y%m%d%H%M%S"))

    def submission_set(
        self, entry: DocumentEntry, now: DTM, content_type: Code | None, unique_id: str | None = None
    ) -> SubmissionSet:
        """The SubmissionSet of what was made of an entry.

        content_type   None: the classCode of the entry
        unique_id      None: a new one
        """
        return SubmissionSet(
            entry_uuid=self.new_uuid().urn,
            unique_id=unique_id or oid_of(self.new_uuid()),
            patient_id=entry.patient_id,
            author=entry.author,
            title=entry.title,
            content_type_code=content_type or entry.class_code,
            limited_metadata=entry.limited_metadata,
            source_id=self.repository_unique_id,
            submission_time=now,
        )
