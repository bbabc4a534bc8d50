"""Delayed documents: assembled once, when they are first retrieved, kept, and told to the registry.

ITI TF-1: 10.2.10, ITI TF-2: 3.43.4.1.3.2. The entry says size 0 and the hash of nothing until then. What was assembled
is published in the store, the registry is told its hash and size by Update Document Set [ITI-57], and it is settled:
the way of every document (docs/adr/0003-a-document-is-kept-before-it-is-listed.md). Of two that were assembled at the
same moment the registry takes one, and that is what both answer (docs/adr/0017-delayed-documents.md).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from repository.document_store import Kept, Measured, Staging
from repository.making_errors import Told
from repository.own_submissions import OwnSubmissions
from repository.settling import settled, withdrawn
from repository.uninterrupted import uninterrupted
from xds.actors import OutcomeUnknown, RegistryResponse, UpdatableRegistry
from xds.errors import ResponseStatus, XdsError
from xds.metadata import Association, AssociationType, AvailabilityStatus, Code, DocumentEntry, Submission

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 5
"""How often the registry is told of a document when others change its entry in between."""
_PAUSE_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Assembled:
    """A delayed document that was assembled, on its way to being kept.

    entries   that wait for it: the newest versions, Approved, all with its uniqueId
    name      of the document in `staging`
    """

    entries: Sequence[DocumentEntry]
    measured: Measured
    staging: Staging
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly(OwnSubmissions):
    """Where the delayed documents of a repository are kept, and the registry that is told of them."""

    registry: UpdatableRegistry

    async def kept(self, made: Assembled) -> Kept:
        """The document of the entries from now on: this one, or the one that another assembled at the same moment.

        Raises XdsError where the registry refuses the update, and nothing of the document stays; OutcomeUnknown, and
        the document waits for the registry's answer; StoreBusy, StoreFull, DocumentDamaged, OtherBytesSettled.
        """
        # One entry decides, the same for everybody.
        first, *others = sorted(made.entries, key=_logical_id)
        content_type = await self.entries.content_type(first)
        return await uninterrupted(self._published(made, first, others, content_type))

    async def _published(
        self, made: Assembled, first: DocumentEntry, others: Sequence[DocumentEntry], content_type: Code | None
    ) -> Kept:
        unique_id = first.unique_id or ""
        (published,) = await made.staging.publish({made.name: (unique_id, first.mime_type or "")})
        # What OutcomeUnknown leaves open is for whoever asks for the document, or the sweeper.
        try:
            is_it = await self._is_told(first, made.measured, content_type)
        except XdsError:
            await withdrawn(published, self.documents)
            raise
        if is_it:
            await self._tell(others, made.measured)
            if problem := await settled(published, self.documents):
                raise XdsError.of([problem])
            return await self.documents.find(unique_id) or published
        await withdrawn(published, self.documents)
        kept = await self.found(unique_id)
        if kept is None:
            raise Told(first).not_kept_now()
        return kept

    async def completed(self, kept: Kept) -> None:
        """See to it that all entries of a document have heard of it, where a crash may have come in between."""
        try:
            found = await self.entries.of_document(kept.unique_id)
        except OutcomeUnknown as problem:
            logger.warning("whether entries wait for a document is not known", extra={"problem": str(problem)})
            return
        waiting = [each for each in found if _waits(each) and each.repository_unique_id == self.repository_unique_id]
        if waiting and kept.measured.size:
            await uninterrupted(self._tell(waiting, kept.measured))

    async def _tell(self, entries: Sequence[DocumentEntry], measured: Measured) -> None:
        """Have more entries say what the first one says. A message holds a uniqueId once, so each is its own update."""
        for entry in entries:
            try:
                await self._is_told(entry, measured, await self.entries.content_type(entry))
            except (XdsError, OutcomeUnknown) as problem:
                noticed = {"entry": entry.entry_uuid, "problem": str(problem)}
                logger.error("an entry of a document that was assembled keeps the hash of nothing", extra=noticed)

    async def _is_told(self, entry: DocumentEntry, measured: Measured, content_type: Code | None) -> bool:
        """Have an entry say the hash and size of the document; False: it waits for none any more.

        Raises XdsError, OutcomeUnknown.
        """
        for attempt in range(ATTEMPTS):
            response = await self.registry.update_document_set(self._update(entry, measured, content_type))
            if response.succeeded:
                return True
            if response.status is not ResponseStatus.FAILURE:
                raise OutcomeUnknown(f"the registry answered {response.status}")
            now = await self._newest_after(entry, response)
            if now is None or not _waits(now):
                return False
            if now.entry_uuid == entry.entry_uuid:
                raise Told(entry).refused(response)
            entry = now
            await asyncio.sleep(_PAUSE_SECONDS * (attempt + random.random()))  # noqa: S311 - a pause is no secret
        raise Told(entry).overtaken(ATTEMPTS)

    async def _newest_after(self, entry: DocumentEntry, response: RegistryResponse) -> DocumentEntry | None:
        """What an entry has become after a refusal; it stays one where the registry does not tell. Raises XdsError."""
        try:
            found = await self.entries.of_document(entry.unique_id or "")
        except OutcomeUnknown as problem:
            raise Told(entry).refused(response) from problem
        return next((each for each in found if _logical_id(each) == _logical_id(entry)), None)

    def _update(self, entry: DocumentEntry, measured: Measured, content_type: Code | None) -> Submission:
        """ITI TF-2: 3.57.4.1.2. The time of creation is that of the assembly (3.43.4.1.3.2)."""
        now = self.now()
        submission_set = self.submission_set(entry, now, content_type)
        version = replace(
            entry,
            entry_uuid=self.new_uuid().urn,
            logical_id=_logical_id(entry),
            version=None,
            version_comment=None,
            availability_status=None,
            creation_time=now,
            hash=measured.hash,
            size=str(measured.size),
        )
        link = Association(
            entry_uuid=self.new_uuid().urn,
            association_type=AssociationType.HAS_MEMBER,
            source_object=submission_set.entry_uuid,
            target_object=version.entry_uuid,
            submission_set_status="Original",
            previous_version=entry.version or "1",
        )
        return Submission(submission_sets=(submission_set,), document_entries=(version,), associations=(link,))


def _waits(entry: DocumentEntry) -> bool:
    """Whether a delayed document may become that of this entry."""
    return entry.says_delayed and entry.availability_status == AvailabilityStatus.APPROVED


def _logical_id(entry: DocumentEntry) -> str:
    return entry.logical_id or entry.entry_uuid
