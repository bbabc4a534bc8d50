"""On-demand documents: made when they are retrieved [ITI-43], by the source that the settings name for them.

ITI TF-1: 10.4.13, ITI TF-2: 3.43.4.2.2. The registry tells whether a uniqueId is that of an on-demand entry, and whose;
the answer names what was made by a uniqueId of its own. That follows from the entry and the octets, so that content
that has not changed has the same one, whichever worker or node makes it (docs/adr/0010-on-demand-documents.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar
from uuid import UUID, uuid5

from repository.document_store import DocumentTooLarge, Kept, Measured, StoreBusy, StoreFull
from repository.on_demand_snapshots import MadeSnapshot, Snapshots
from repository.on_demand_source import MadeDocument, NoDocumentNow, OnDemandSource, SourceFailed, SourceUnavailable
from repository.registered_entries import RegisteredEntries
from repository.scratch_file import ScratchFile
from xds import metadata_forms as forms
from xds.actors import DocumentRequest, RetrievedDocument
from xds.errors import ErrorCode, XdsError
from xds.hl7v2 import oid_of
from xds.metadata import AvailabilityStatus, Code, DocumentEntry, DocumentEntryType
from xds.metadata_names import shown
from xds.transactions import ITI_43

logger = logging.getLogger(__name__)

Written = TypeVar("Written")

UNAVAILABLE_MEANS_DOWN: Final = 2
"""After so many documents of a request that a source was not there for, it is asked for no more of them."""

_STAGED: Final = "made on demand"
_NAMESPACE: Final = UUID("d7e8de07-e8a0-4ff7-b1d5-50a1e4b3a8c0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Makes:
    """Who makes which documents, and under which conditions.

    name           of the source, for the log
    arcs           OIDs that the uniqueIds of its entries are or begin with; none: of all entries
    seconds        how long a document may take, from asking for it to its last octet
    size_limit     octets of one document; None: any number
    persists       whether what is made is kept and registered as a snapshot
    content_type   contentTypeCode of the SubmissionSets of snapshots; None: the classCode of the entry
    """

    name: str
    source: OnDemandSource
    arcs: tuple[str, ...] = ()
    seconds: float = 30.0
    size_limit: int | None = None
    persists: bool = False
    content_type: Code | None = None

    def is_for(self, unique_id: str) -> bool:
        return not self.arcs or any(
            unique_id == arc or unique_id.startswith((f"{arc}.", f"{arc}^")) for arc in self.arcs
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDemandDocuments:
    """The on-demand documents of a repository.

    sources     the first one that is for a uniqueId makes the document
    snapshots   keeps what is made where its source says so; None: nothing is kept
    """

    sources: Sequence[Makes]
    entries: RegisteredEntries
    snapshots: Snapshots | None = None

    def makes(self, unique_id: str) -> Makes | None:
        """Who makes the document of an entry with this uniqueId."""
        return next((each for each in self.sources if each.is_for(unique_id)), None)

    async def entry(self, unique_id: str, repository_unique_id: str) -> DocumentEntry | None:
        """The on-demand entry of this repository with this uniqueId; of several an Approved one."""
        found = [
            entry
            for entry in await self.entries.of_document(unique_id)
            if entry.object_type == DocumentEntryType.ON_DEMAND and entry.repository_unique_id == repository_unique_id
        ]
        found.sort(key=lambda entry: entry.availability_status != AvailabilityStatus.APPROVED)
        return found[0] if found else None


@dataclass(slots=True)
class Making:
    """The documents that are made for one request."""

    on_demand: OnDemandDocuments
    repository_unique_id: str
    _scratch: ScratchFile | None = None
    _unavailable: Counter[str] = field(default_factory=Counter)

    async def document(self, request: DocumentRequest) -> RetrievedDocument | Kept | None:
        """The document as it is now, or the snapshot as which it is kept; None where it is not one that is made here.

        Raises XdsError, OutcomeUnknown, StoreBusy, DocumentDamaged.
        """
        unique_id = request.document_unique_id
        makes = self.on_demand.makes(unique_id)
        entry = await self.on_demand.entry(unique_id, self.repository_unique_id) if makes else None
        if makes is None or entry is None:
            return None
        snapshots = self.on_demand.snapshots
        # Nothing may become a snapshot of what is Deprecated (ITI TF-3: 4.2.2.2); it can be retrieved all the same.
        if snapshots is None or not makes.persists or entry.availability_status != AvailabilityStatus.APPROVED:
            return await self._passed_on(makes, entry, request)
        try:
            return await self._kept(makes, entry, snapshots)
        except StoreFull as problem:
            logger.error("there is no room for a snapshot", extra={"source": makes.name, "problem": str(problem)})
            raise _Told(unique_id).no_room() from problem

    async def _passed_on(self, makes: Makes, entry: DocumentEntry, request: DocumentRequest) -> RetrievedDocument:
        """Made, and nowhere but in a temporary file."""
        if self._scratch is None:
            self._scratch = ScratchFile()
        made, written = await self._made(makes, entry, partial(self._scratch.add, size_limit=makes.size_limit))
        return RetrievedDocument(
            request,
            made.mime_type,
            written.measured.size,
            written.content,
            new_document_unique_id=made.unique_id or unique_id_of(entry, written.measured),
        )

    async def _kept(self, makes: Makes, entry: DocumentEntry, snapshots: Snapshots) -> Kept:
        """Made, and kept as a snapshot, or as the one that is the same."""
        async with snapshots.documents.staging(size_limit=makes.size_limit) as staging:
            made, measured = await self._made(makes, entry, partial(staging.add, _STAGED))
            unique_id = made.unique_id or unique_id_of(entry, measured)
            return await snapshots.kept(
                MadeSnapshot(
                    entry=entry,
                    unique_id=unique_id,
                    measured=measured,
                    staging=staging,
                    name=_STAGED,
                    content_type=makes.content_type,
                )
            )

    async def _made(
        self,
        makes: Makes,
        entry: DocumentEntry,
        write: Callable[[AsyncIterator[bytes]], Awaitable[Written]],
    ) -> tuple[MadeDocument, Written]:
        """Have the source make a document, and `write` take its content.

        Raises XdsError, with what is told to whoever asked; the log has the rest.
        """
        told = _Told(entry.unique_id or "")
        if self._unavailable[makes.name] >= UNAVAILABLE_MEANS_DOWN:
            raise told.unavailable()
        noticed = {"source": makes.name, "entry": entry.entry_uuid}
        try:
            async with asyncio.timeout(makes.seconds), makes.source.document(entry) as made:
                told.require_sound(made, entry)
                return made, await write(made.content)
        except XdsError as problem:
            logger.error("an on-demand document is not what its entry says", extra={**noticed, "problem": str(problem)})
            raise
        except StoreBusy:
            raise
        except NoDocumentNow as problem:
            raise told.nothing_there() from problem
        except (SourceUnavailable, TimeoutError) as problem:
            self._unavailable[makes.name] += 1
            why = str(problem) or f"it took longer than {makes.seconds:g} seconds"
            logger.warning("a source of on-demand documents is not available", extra={**noticed, "problem": why})
            raise told.unavailable() from problem
        except DocumentTooLarge as problem:
            logger.error("an on-demand document is too large", extra={**noticed, "problem": str(problem)})
            raise told.too_large(problem.size_limit) from problem
        except StoreFull as problem:
            logger.error("there is no room for on-demand documents", extra={**noticed, "problem": str(problem)})
            raise told.no_room() from problem
        except SourceFailed as problem:
            logger.error("a source of on-demand documents has failed", extra={**noticed, "problem": str(problem)})
            raise told.failed() from problem
        except Exception as problem:
            logger.exception("a source of on-demand documents has failed", extra=noticed)
            raise told.failed() from problem


def unique_id_of(entry: DocumentEntry, measured: Measured) -> str:
    """The uniqueId of these octets as the document of this entry: an OID made of a UUID (ITU-T X.667)."""
    return oid_of(uuid5(_NAMESPACE, f"{entry.unique_id} {measured.sha256}"))


@dataclass(frozen=True, slots=True)
class _Told:
    """What whoever asked for a document is told where it was not made."""

    unique_id: str

    def require_sound(self, made: MadeDocument, entry: DocumentEntry) -> None:
        """Raises XdsError where what is made is not what the entry promises (ITI TF-2: 3.43.4.2.2)."""
        if _media_type(made.mime_type) != _media_type(entry.mime_type or ""):
            raise self._error(
                ErrorCode.REPOSITORY_ERROR,
                f"was made as {shown(made.mime_type)}, and its DocumentEntry says {shown(entry.mime_type or '')}. The "
                "operator of the repository has to correct its source.",
            )
        if made.unique_id is None:
            return
        if made.unique_id == entry.unique_id or forms.DOCUMENT_UNIQUE_ID.problem(made.unique_id):
            raise self._error(
                ErrorCode.REPOSITORY_ERROR,
                f"was made with {shown(made.unique_id)} as its uniqueId, which is none of its own. The operator of the "
                "repository has to correct its source.",
            )

    def nothing_there(self) -> XdsError:
        return self._error(
            ErrorCode.DOCUMENT_UNIQUE_ID_ERROR, "can not be made: there is nothing that it could be made of now."
        )

    def unavailable(self) -> XdsError:
        return self._error(
            ErrorCode.REPOSITORY_ERROR, "can not be made now: its source does not answer in time. Ask again later."
        )

    def too_large(self, size_limit: int) -> XdsError:
        return self._error(
            ITI_43.full_code, f"has become larger than {size_limit} octets, the most that its source may make here."
        )

    def no_room(self) -> XdsError:
        return self._error(ITI_43.full_code, "can not be made now: there is no room left for it. Ask again later.")

    def failed(self) -> XdsError:
        return self._error(
            ErrorCode.REPOSITORY_ERROR, "could not be made: its source has failed. The repository's log tells more."
        )

    def _error(self, code: ErrorCode, what: str) -> XdsError:
        return XdsError(code, f"The on-demand document {shown(self.unique_id)} {what}", self.unique_id)


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()
