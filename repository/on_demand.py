"""Documents that are made when they are retrieved [ITI-43], by the source that the settings name for them.

ITI TF-1: 10.4.13, ITI TF-2: 3.43.4.2.2. The registry tells whether a uniqueId is that of an on-demand entry, and whose;
the answer names what was made by a uniqueId of its own. That follows from the entry and the octets, so that content
that has not changed has the same one, whichever worker or node makes it (docs/adr/0010-on-demand-documents.md).
A delayed document is made once, and is the document of its entry from then on (repository/delayed_documents.py). One
that stays elsewhere is fetched each time, and answered if it is what was registered (docs/adr/0022).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar
from uuid import UUID, uuid5

from repository.delayed_documents import Assembled, Assembly
from repository.document_store import DocumentTooLarge, Kept, Measured, StoreBusy, StoreFull
from repository.making_errors import Told
from repository.on_demand_snapshots import MadeSnapshot, Snapshots
from repository.on_demand_source import MadeDocument, NoDocumentNow, OnDemandSource, SourceFailed, SourceUnavailable
from repository.registered_entries import RegisteredEntries
from repository.scratch_file import Scratch, ScratchFile
from xds.actors import DocumentRequest, RetrievedDocument
from xds.errors import XdsError
from xds.hl7v2 import oid_of
from xds.metadata import AvailabilityStatus, Code, DocumentEntry, DocumentEntryType

logger = logging.getLogger(__name__)

Written = TypeVar("Written")

UNAVAILABLE_MEANS_DOWN: Final = 2
"""After so many documents of a request that a source was not there for, it is asked for no more of them."""

_STAGED: Final = "made"
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
    """The documents of a repository that are made when they are retrieved.

    sources      the first one that is for a uniqueId makes an on-demand document
    snapshots    keeps what is made where its source says so; None: nothing is kept
    assemblers   the first one that is for a uniqueId assembles a delayed document
    assembly     keeps those; None: there are none
    links        fetches documents that stay elsewhere; None: there are none
    is_linked    whether the document of an entry with this URI may be fetched
    """

    sources: Sequence[Makes]
    entries: RegisteredEntries
    snapshots: Snapshots | None = None
    assemblers: Sequence[Makes] = ()
    assembly: Assembly | None = None
    links: Makes | None = None
    is_linked: Callable[[str], bool] = field(default=lambda _uri: False)

    def makes(self, unique_id: str) -> Makes | None:
        """Who makes the document of an on-demand entry with this uniqueId."""
        return _first_for(unique_id, self.sources)

    def assembles(self, unique_id: str) -> Makes | None:
        """Who makes the document of an entry with this uniqueId that says that it is delayed."""
        return _first_for(unique_id, self.assemblers)

    async def entries_of(self, unique_id: str, repository_unique_id: str) -> Sequence[DocumentEntry]:
        """The entries of this repository with this uniqueId, the Approved ones first."""
        found = await self.entries.of_document(unique_id)
        here = (each for each in found if each.repository_unique_id == repository_unique_id)
        return sorted(here, key=lambda each: each.availability_status != AvailabilityStatus.APPROVED)


def _first_for(unique_id: str, sources: Sequence[Makes]) -> Makes | None:
    return next((each for each in sources if each.is_for(unique_id)), None)


@dataclass(slots=True)
class Making:
    """The documents that are made for one request."""

    on_demand: OnDemandDocuments
    repository_unique_id: str
    _scratch: ScratchFile | None = None
    _unavailable: Counter[str] = field(default_factory=Counter)

    async def document(self, request: DocumentRequest) -> RetrievedDocument | Kept | None:
        """The document as it is now, or as it is kept; None where it is not one that is made here.

        Raises XdsError, OutcomeUnknown, StoreBusy, DocumentDamaged, OtherBytesSettled.
        """
        unique_id = request.document_unique_id
        makes, assembles = self.on_demand.makes(unique_id), self.on_demand.assembles(unique_id)
        links = self.on_demand.links
        if makes is None and assembles is None and links is None:
            return None
        entries = await self.on_demand.entries_of(unique_id, self.repository_unique_id)
        promised = [each for each in entries if each.object_type == DocumentEntryType.ON_DEMAND]
        if makes is not None and promised:
            return await self._made_anew(makes, promised[0], request)
        linked = [each for each in entries if each.uri and not each.says_delayed and self.on_demand.is_linked(each.uri)]
        if links is not None and linked:
            return await self._fetched(links, linked[0], request)
        assembly = self.on_demand.assembly
        if assembles is None or assembly is None or not entries:
            return None
        delayed = [each for each in entries if each.says_delayed]
        if delayed:
            return await self._assembled(assembles, delayed, assembly)
        # Another may have assembled it after it was looked for in the store, and before its entry was.
        return await assembly.found(unique_id)

    async def completed(self, kept: Kept) -> None:
        """See to it that all entries of a delayed document say its hash, where it was found as a crash has left it."""
        if self.on_demand.assembly is not None and self.on_demand.assembles(kept.unique_id) is not None:
            await self.on_demand.assembly.completed(kept)

    async def _made_anew(
        self, makes: Makes, entry: DocumentEntry, request: DocumentRequest
    ) -> RetrievedDocument | Kept:
        """The document of an on-demand entry."""
        snapshots = self.on_demand.snapshots
        # Nothing may become a snapshot of what is Deprecated (ITI TF-3: 4.2.2.2); it can be retrieved all the same.
        if snapshots is None or not makes.persists or entry.availability_status != AvailabilityStatus.APPROVED:
            return await self._passed_on(makes, entry, request)
        with _no_room_told(makes, entry):
            return await self._kept(makes, entry, snapshots)

    async def _assembled(self, makes: Makes, entries: Sequence[DocumentEntry], assembly: Assembly) -> Kept:
        """The document of entries that wait for it: made, kept, and told to the registry, by whomsoever."""
        waiting = [each for each in entries if each.availability_status == AvailabilityStatus.APPROVED]
        if not waiting:
            raise Told(entries[0]).deprecated()
        with _no_room_told(makes, waiting[0]):
            async with assembly.documents.staging(size_limit=makes.size_limit) as staging:
                _, measured = await self._made(makes, waiting[0], partial(staging.add, _STAGED))
                if measured.size == 0:
                    logger.error("a delayed document was made empty", extra={"source": makes.name})
                    raise Told(waiting[0]).empty()
                return await assembly.kept(Assembled(waiting, measured, staging, _STAGED))

    async def _passed_on(self, makes: Makes, entry: DocumentEntry, request: DocumentRequest) -> RetrievedDocument:
        """Made, and nowhere but in a temporary file."""
        made, written = await self._in_scratch(makes, entry)
        return RetrievedDocument(
            request,
            made.mime_type,
            written.measured.size,
            written.content,
            new_document_unique_id=made.unique_id or unique_id_of(entry, written.measured),
        )

    async def _in_scratch(self, makes: Makes, entry: DocumentEntry) -> tuple[MadeDocument, Scratch]:
        if self._scratch is None:
            self._scratch = ScratchFile()
        return await self._made(makes, entry, partial(self._scratch.add, size_limit=makes.size_limit))

    async def _fetched(self, makes: Makes, entry: DocumentEntry, request: DocumentRequest) -> RetrievedDocument:
        """The document of an entry that stays elsewhere, if it is the one that was registered."""
        _, written = await self._in_scratch(makes, entry)
        measured = written.measured
        if measured.hash != (entry.hash or "").lower() or str(measured.size) != entry.size:
            noticed = {"source": makes.name, "entry": entry.entry_uuid}
            logger.error("a document that stays elsewhere is another one by now", extra=noticed)
            raise Told(entry).another_by_now()
        return RetrievedDocument(request, entry.mime_type or "", measured.size, written.content)

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
        told = Told(entry)
        if self._unavailable[makes.name] >= UNAVAILABLE_MEANS_DOWN:
            raise told.unavailable()
        noticed = {"source": makes.name, "entry": entry.entry_uuid}
        try:
            async with asyncio.timeout(makes.seconds), makes.source.document(entry) as made:
                told.require_sound(made)
                return made, await write(made.content)
        except XdsError as problem:
            logger.error("a document was not made as its entry says", extra={**noticed, "problem": str(problem)})
            raise
        except StoreBusy:
            raise
        except NoDocumentNow as problem:
            raise told.nothing_there() from problem
        except (SourceUnavailable, TimeoutError) as problem:
            self._unavailable[makes.name] += 1
            why = str(problem) or f"it took longer than {makes.seconds:g} seconds"
            logger.warning("a source of documents is not available", extra={**noticed, "problem": why})
            raise told.unavailable() from problem
        except DocumentTooLarge as problem:
            logger.error("a document was made too large", extra={**noticed, "problem": str(problem)})
            raise told.too_large(problem.size_limit) from problem
        except StoreFull as problem:
            logger.error("there is no room to make a document", extra={**noticed, "problem": str(problem)})
            raise told.no_room() from problem
        except SourceFailed as problem:
            logger.error("a source of documents has failed", extra={**noticed, "problem": str(problem)})
            raise told.failed() from problem
        except Exception as problem:
            logger.exception("a source of documents has failed", extra=noticed)
            raise told.failed() from problem


@contextmanager
def _no_room_told(makes: Makes, entry: DocumentEntry) -> Iterator[None]:
    """Where a document that is to be kept finds no room. Raises XdsError."""
    try:
        yield
    except StoreFull as problem:
        logger.error("there is no room for a document", extra={"source": makes.name, "problem": str(problem)})
        raise Told(entry).no_room() from problem


def unique_id_of(entry: DocumentEntry, measured: Measured) -> str:
    """The uniqueId of these octets as the document of this entry: an OID made of a UUID (ITU-T X.667)."""
    return oid_of(uuid5(_NAMESPACE, f"{entry.unique_id} {measured.sha256}"))
