"""Persistence of Retrieved Documents: what was made on demand is kept and registered before it is answered.

ITI TF-2: 3.43.4.2.3. A document that was made is published in the store, registered by Register Document Set-b [ITI-42]
as a stable one, with an IsSnapshotOf to the on-demand entry, and settled: the way of every document
(docs/adr/0003-a-document-is-kept-before-it-is-listed.md). It replaces the snapshot before it, so that one is Approved;
where that has the same octets, nothing is kept and it is answered (docs/adr/0010-on-demand-documents.md).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID, uuid5

from repository.document_store import Kept, Measured, Staging
from repository.making_errors import Told
from repository.own_submissions import OwnSubmissions
from repository.settling import settled, withdrawn
from repository.uninterrupted import uninterrupted
from xds.actors import DocumentRegistry, OutcomeUnknown, RegistryResponse
from xds.errors import ErrorCode, ResponseStatus, XdsError
from xds.hl7v2 import oid_of
from xds.metadata import (
    Association,
    AssociationType,
    Code,
    DocumentEntry,
    DocumentEntryType,
    Submission,
)

ATTEMPTS: Final = 5
"""How often a snapshot is registered when others of the same entry come in between."""
_PAUSE_SECONDS: Final = 0.01
_NAMESPACE: Final = UUID("0f9e1b76-3f5f-4b36-8a5e-0f2a4f9a1b7d")
_OVERTAKEN: Final = frozenset(
    {
        ErrorCode.REGISTRY_DEPRECATED_DOCUMENT_ERROR,  # what it replaces was replaced by another
        ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY,  # another has come after the same one
        ErrorCode.UNRESOLVED_REFERENCE,  # what it replaces was removed
    }
)
"""Answers of the registry to a snapshot that was judged on what is not so any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeSnapshot:
    """A document that was made, on its way to being kept.

    unique_id      of its own
    name           of the document in `staging`
    content_type   contentTypeCode of its SubmissionSet; None: the classCode of the entry
    """

    entry: DocumentEntry
    unique_id: str
    measured: Measured
    staging: Staging
    name: str
    content_type: Code | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots(OwnSubmissions):
    """Where the snapshots of a repository are kept and registered."""

    registry: DocumentRegistry

    async def kept(self, made: MadeSnapshot) -> Kept:
        """The document as a snapshot of its entry, registered: it, or an Approved one that is the same.

        Raises XdsError where the registry refuses it, and nothing of it stays; OutcomeUnknown, and it waits for the
        registry's answer; StoreBusy, StoreFull, DocumentDamaged.
        """
        standing = await self._standing(made.entry)
        same = _same(standing, made.measured)
        if same is not None:
            kept = await self.found(same.unique_id or "")
            if kept is not None:
                return kept
            # Its octets were removed (ITI-86), and its entry was not: they are back.
            made = replace(made, unique_id=same.unique_id or made.unique_id)
        other = await self.documents.find(made.unique_id)
        if other is not None and other.measured != made.measured:
            raise Told(made.entry).wrong_unique_id()
        return await uninterrupted(self._published(made, standing, is_registered=same is not None))

    async def _standing(self, entry: DocumentEntry) -> Sequence[DocumentEntry]:
        """The Approved snapshots that are in this repository, the newest first."""
        found = await self.entries.snapshots(entry)
        return [each for each in found if each.repository_unique_id == self.repository_unique_id]

    async def _published(self, made: MadeSnapshot, standing: Sequence[DocumentEntry], *, is_registered: bool) -> Kept:
        (published,) = await made.staging.publish({made.name: (made.unique_id, made.entry.mime_type or "")})
        # What OutcomeUnknown leaves open is for whoever asks for the document, or the sweeper.
        try:
            instead = None if is_registered else await self._registered_instead(made, standing)
        except XdsError:
            await withdrawn(published, self.documents)
            raise
        if instead is not None and instead.unique_id != published.unique_id:
            await withdrawn(published, self.documents)
            kept = await self.found(instead.unique_id or "")
        else:
            if problem := await settled(published, self.documents):
                raise XdsError.of([problem])
            kept = await self.documents.find(published.unique_id) or published
        if kept is None:
            raise Told(made.entry).not_kept_now()
        return kept

    async def _registered_instead(self, made: MadeSnapshot, standing: Sequence[DocumentEntry]) -> DocumentEntry | None:
        """Register a published document, or return an equal one that was registered meanwhile.

        Raises XdsError where the registry refuses it; OutcomeUnknown.
        """
        set_id = _set_id(made.entry, standing)
        for attempt in range(ATTEMPTS):
            response = await self.registry.register_document_set(self._submission(made, standing, set_id))
            if response.succeeded:
                return None
            if response.status is not ResponseStatus.FAILURE:
                raise OutcomeUnknown(f"the registry answered {response.status}")
            if not _OVERTAKEN & {error.code for error in response.errors}:
                raise Told(made.entry).refused(response)
            await asyncio.sleep(_PAUSE_SECONDS * (attempt + random.random()))  # noqa: S311 - a pause is no secret
            now = await self._standing_after(made, response)
            if same := _same(now, made.measured):
                return same
            is_moved = {each.entry_uuid for each in now} != {each.entry_uuid for each in standing}
            # Where nothing has moved, the name is that of something that was removed, and is not given out again.
            set_id = _set_id(made.entry, now) if is_moved else oid_of(self.new_uuid())
            standing = now
        raise Told(made.entry).overtaken(ATTEMPTS)

    async def _standing_after(self, made: MadeSnapshot, response: RegistryResponse) -> Sequence[DocumentEntry]:
        """What stands after a refusal; it stays a refusal where the registry does not tell. Raises XdsError."""
        try:
            return await self._standing(made.entry)
        except OutcomeUnknown as problem:
            raise Told(made.entry).refused(response) from problem

    def _submission(self, made: MadeSnapshot, replaced: Sequence[DocumentEntry], set_id: str) -> Submission:
        now = self.now()
        snapshot = replace(
            made.entry,
            entry_uuid=self.new_uuid().urn,
            logical_id=None,
            version=None,
            version_comment=None,
            availability_status=None,
            document_availability=None,
            object_type=DocumentEntryType.STABLE,
            unique_id=made.unique_id,
            creation_time=now,
            hash=made.measured.hash,
            size=str(made.measured.size),
        )
        submission_set = self.submission_set(made.entry, now, made.content_type, set_id)
        links = [
            self._link(AssociationType.HAS_MEMBER, submission_set.entry_uuid, snapshot, status="Original"),
            self._link(AssociationType.IS_SNAPSHOT_OF, snapshot.entry_uuid, made.entry),
            *(self._link(AssociationType.RPLC, snapshot.entry_uuid, each) for each in replaced),
        ]
        return Submission(submission_sets=(submission_set,), document_entries=(snapshot,), associations=tuple(links))

    def _link(
        self, kind: AssociationType, source: str, target: DocumentEntry, *, status: str | None = None
    ) -> Association:
        return Association(
            entry_uuid=self.new_uuid().urn,
            association_type=kind,
            source_object=source,
            target_object=target.entry_uuid,
            submission_set_status=status,
        )


def _same(standing: Sequence[DocumentEntry], measured: Measured) -> DocumentEntry | None:
    """The newest snapshot, where these are its octets."""
    newest = standing[0] if standing else None
    return newest if newest is not None and (newest.hash or "").lower() == measured.hash else None


def _set_id(entry: DocumentEntry, standing: Sequence[DocumentEntry]) -> str:
    """The uniqueId of the SubmissionSet that follows these snapshots: of two that follow the same, one is refused."""
    before = " ".join(sorted(each.entry_uuid for each in standing))
    return oid_of(uuid5(_NAMESPACE, f"{entry.entry_uuid} {before}"))
