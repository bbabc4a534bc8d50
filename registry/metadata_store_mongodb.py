"""The metadata store on MongoDB: a replica set, a sharded cluster or, with a warning, a single server.

How a change is committed without transactions: docs/adr/0005-commit-on-mongodb-by-unique-inserts.md. The insert of a
record in `changes` is the commit (registry/mongodb/log.py); what becomes of it is the same whoever works it out
(registry/mongodb/resolver.py); any number of processes may use one database.

Round trips, however many objects there are: FindDocuments takes one, which also tells whether the patient was merged
with another; then who stands for whom is asked as well. A registration takes five (the end of the log and at once the
identifiers; its patient and what it refers to; the record, its identifiers, its objects), and six where it replaces
what has appendices. Marks that save others work follow in the background, those of many changes in one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from contextvars import Context
from typing import Any, Self, TypeVar

from bson import ObjectId

from registry.dossier_log import LogRecord
from registry.fhir_resources import FhirResources
from registry.metadata_store import (
    Criteria,
    Extent,
    Facts,
    FactsMoved,
    IndexRow,
    OutcomeOpen,
    PatientIdentity,
    Progress,
    Questions,
    RegistryChange,
    StoreBusy,
    StoreDamaged,
    StoredObject,
    StoreFull,
)
from registry.mongodb.commit import PreparedChange
from registry.mongodb.database import MongoDatabase, NothingSent
from registry.mongodb.documents import (
    NO_OBJECTS,
    ORDER,
    Record,
    identities_in,
    index_row,
    patient_key,
    said_of,
)
from registry.mongodb.facts import FactFinder
from registry.mongodb.index import Current
from registry.mongodb.log import Head
from registry.mongodb.pages import read_page
from registry.mongodb.reindex import Reindexing
from registry.mongodb.replay import Replay
from registry.mongodb.resolver import Resolver
from registry.mongodb.schema import OBJECTS, PATIENT_KEYS, require_versions, secret_of, warn_of_single_server
from registry.mongodb.search import Search
from registry.rendering_compression import RenderingCompression
from xds.actors import FhirRenderer, ObjectCodec
from xds.metadata import AvailabilityStatus
from xds.paged_search import Page, PagedSearch

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_SMALL_OBJECTS = 32
_REMEMBERED_HEADS = 20_000
_REMEMBERED_PLACES = 100_000
_CLOSING_SECONDS = 10.0
_SHARE_FOR_COMMITTING = 0.75


class MongoMetadataStore:
    """Keeps dossiers in one database of a MongoDB server. Used by one event loop."""

    def __init__(
        self,
        database: MongoDatabase,
        *,
        codec: ObjectCodec,
        compression: RenderingCompression | None = None,
        fhir: FhirResources | None = None,
    ) -> None:
        """The store in `database`, which is prepared already. See opened()."""
        self._fhir = fhir or FhirResources(None, b"")
        self._database = database
        self._codec = codec
        self._compression = compression or RenderingCompression.shipped()
        self._resolver = Resolver(database, codec, self._compression, self._fhir)
        self._facts = FactFinder(self._resolver, codec, self._compression)
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._places: OrderedDict[str, tuple[int, str | None]] = OrderedDict()
        self._working: set[asyncio.Task[Any]] = set()
        self._withdrawing: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def opened(
        cls,
        url: str,
        *,
        database: str = "toimik",
        codec: ObjectCodec,
        compression: RenderingCompression | None = None,
        renderer: FhirRenderer | None = None,
        busy_seconds: float = 10.0,
        connect_seconds: float = 5.0,
        sweep_seconds: float = 30.0,
        reindexing: bool = False,
        **options: Any,
    ) -> Self:
        """Connect to the server, and create what an empty database lacks.

        url               mongodb://user:password@host,host/?replicaSet=name&tls=true
        renderer          makes the FHIR resources that are kept with what is registered; None: none are
        busy_seconds      how long anything waits for the server before StoreBusy
        connect_seconds   how long a server to write to is looked for
        sweep_seconds     how often it is looked for changes that were begun and not finished
        reindexing        accept an index of an older release, because reindex() is going to be called
        options           more of AsyncMongoClient
        Raises WrongVersion (a StoreDamaged), StoreBusy, StoreFull; ValueError where the URL can not be read.
        """
        connected = MongoDatabase.at(
            url, database, busy_seconds=busy_seconds, connect_seconds=connect_seconds, **options
        )
        try:
            await warn_of_single_server(connected)
            await require_versions(connected, reindexing=reindexing)
            fhir = FhirResources(renderer, await secret_of(connected))
        except BaseException:
            await connected.close()
            raise
        store = cls(connected, codec=codec, compression=compression, fhir=fhir)
        store.keep_swept(sweep_seconds)
        return store

    async def known(self, questions: Questions) -> Facts:
        with self._open():
            known = await self._facts.known(questions)
        _remember(self._heads, patient_key(questions.patient_id), known.head, _REMEMBERED_HEADS)
        for entry_uuid, place in known.places.items():
            _remember(self._places, entry_uuid, place, _REMEMBERED_PLACES)
        return known.facts

    async def apply(self, change: RegistryChange, facts: Facts) -> LogRecord:
        # What was begun is finished, even if whoever asked for it waits no longer.
        return await self._to_its_end(self._applied(change, facts))

    async def _applied(self, change: RegistryChange, facts: Facts) -> LogRecord:
        with self._database.limited():
            if len(change.objects) <= _SMALL_OBJECTS:
                prepared = PreparedChange.of(change, facts, self._codec, self._compression)
            else:
                prepared = await asyncio.to_thread(PreparedChange.of, change, facts, self._codec, self._compression)
            head = await self._head(prepared.patient_key, facts.sequence)
            if head.sequence != facts.sequence:
                raise FactsMoved("the dossier has changed")
            record = prepared.record(head)
            known = await self._known(prepared, record, facts)
            self._heads.pop(record.patient_key, None)
            try:
                # What is left of the limit is for finding out what became of it if that is not told.
                with self._database.limited(_SHARE_FOR_COMMITTING * self._database.busy_seconds):
                    stands = await self._committed(prepared, record, known)
            except NothingSent:
                raise
            except (StoreBusy, StoreFull) as problem:
                stands = await self._stands_after(problem, prepared, record)
            _remember(self._heads, record.patient_key, Head.after(record, stands=stands), _REMEMBERED_HEADS)
            if not stands:
                raise FactsMoved("an identifier has been taken")
            return record.log

    async def _committed(self, prepared: PreparedChange, record: Record, known: Mapping[str, Current]) -> bool:
        """Append the record and do all that follows from it. False: it lost an identifier.

        Raises FactsMoved where another record was first.
        """
        if not await self._resolver.log.append(record, prepared.compressed_body):
            raise FactsMoved("the dossier has changed")
        try:
            return await self._resolver.resolve(record, prepared.content, known)
        except NothingSent as problem:
            raise StoreBusy(str(problem)) from problem  # but the record is in the log

    async def _stands_after(self, problem: StoreBusy | StoreFull, prepared: PreparedChange, record: Record) -> bool:
        """Whether a record stands that may be in the log or not; if it can be, it is taken back.

        Raises `problem` where that was done: then nothing was written. Raises OutcomeOpen where nobody can tell.
        """
        try:
            if await self._resolver.taken_back(record, prepared.content):
                raise problem
            return await self._resolver.resolved(record)
        except (StoreBusy, StoreFull) as error:
            if error is problem:
                raise
        self._in_background(self._resolver.withdraw(record, prepared.content), self._withdrawing)
        raise OutcomeOpen(f"it is not known whether a change was committed: {problem}") from problem

    async def _head(self, key: str, sequence: int) -> Head:
        """Where the log ends: as this process knows it, or as it is. The first may be old; then the append fails."""
        head = self._heads.get(key)
        return head if head is not None and head.sequence == sequence else await self._resolver.head(key)

    async def _known(self, prepared: PreparedChange, record: Record, facts: Facts) -> Mapping[str, Current]:
        """What the change revises, as it stands.

        Raises ValueError where something of it is not in the dossier.
        """
        revised = {revision.entry_uuid for revision in prepared.content.revisions}
        # A place stays what it was. What is Deprecated may have a newer version by now: that is read.
        known = {
            each: Current(facts.objects[each], *self._places[each])
            for each in revised
            if each in self._places
            and facts.owners.get(each) == facts.patient_id
            and facts.objects[each].availability_status != AvailabilityStatus.DEPRECATED
        }
        if missing := revised - known.keys():
            known.update(await self._resolver.index.current(record, sorted(missing)))
        for each in revised - known.keys():
            raise ValueError(f"{each} is to be revised, but is not in the dossier")
        return known

    async def find(
        self, criteria: Criteria, *, rendering: bool = True, limit: int | None = None, unmerged: bool = False
    ) -> tuple[StoredObject, ...]:
        with self._open():
            search = await Search.of(criteria, self._resolver.claims, unmerged=unmerged)
            return await search.found(self._resolver, self._compression, rendering=rendering, limit=limit)

    async def count(self, criteria: Criteria, *, unmerged: bool = False) -> int:
        with self._open():
            search = await Search.of(criteria, self._resolver.claims, unmerged=unmerged)
            return await search.count(self._resolver)

    async def page(self, search: PagedSearch, *, unmerged: bool = False) -> Page:
        with self._open():
            return await read_page(search, self._resolver, self._compression, unmerged=unmerged)

    async def patient_of(self, patient_key: str) -> str | None:
        with self._open():
            found = await self._database.find(PATIENT_KEYS, {"_id": patient_key})
        return str(found[0]["patient_id"]) if found else None

    async def patient_key(self, patient_id: str) -> str | None:
        key = self._fhir.patient_key(patient_id)
        return key if await self.patient_of(key) == patient_id else None

    def secret_for(self, purpose: str) -> bytes:
        return self._fhir.secret_for(purpose)

    async def identities(self, patient_ids: Collection[str]) -> Mapping[str, PatientIdentity]:
        with self._open():
            found = await self._database.find(OBJECTS, said_of(patient_ids))
        return identities_in(found, patient_ids)

    async def extent(self) -> Extent:
        with self._open():
            return Extent(await self._resolver.log.estimate(), await self._database.estimate(OBJECTS))

    async def records(self, patient_id: str | None = None) -> AsyncIterator[LogRecord]:
        wanted = {} if patient_id is None else {"patient_key": patient_key(patient_id)}
        async with aclosing(self._resolver.log.streamed(wanted)) as records:
            async for record in records:
                with self._open():
                    stands = await self._resolver.resolved(record)
                if stands:
                    yield record.log

    async def index_rows(self, patient_id: str | None = None) -> AsyncIterator[IndexRow]:
        wanted: dict[str, Any] = {"kind": {"$nin": list(NO_OBJECTS)}}
        if patient_id is not None:
            wanted["patient_key"] = patient_key(patient_id)
        async with aclosing(self._database.streamed(OBJECTS, wanted, ORDER)) as documents:
            async for document in documents:
                yield index_row(document, self._compression)

    async def reindex(self, progress: Progress | None = None) -> int:
        self._require_open()
        return await Reindexing(self._database, self._resolver).run(progress)

    async def replay(self, records: Sequence[LogRecord]) -> None:
        self._require_open()
        await self._to_its_end(Replay(self._database, self._resolver, self._compression).append(records))

    async def check(self) -> None:
        with self._open():
            await self._database.find(OBJECTS, {"patient_key": ""}, limit=1)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
        if self._working:
            await asyncio.wait(self._working)
        if self._withdrawing:
            _, unfinished = await asyncio.wait(self._withdrawing, timeout=_CLOSING_SECONDS)
            for task in unfinished:
                task.cancel()
        await self._resolver.settle()
        await self._database.close()

    # --- unfinished work ---------------------------------------------------------------------------------------------

    def keep_swept(self, seconds: float) -> None:
        """Look for unfinished changes now and then, from now on."""
        self._sweeping = asyncio.get_running_loop().create_task(self._keep_swept(seconds), context=Context())

    async def sweep(self) -> int:
        """Finish all that was begun by anybody and left, and return how much that was."""
        with self._open():
            unfinished = await self._resolver.log.unfinished()
        return await self._finish(unfinished)

    async def _keep_swept(self, seconds: float) -> None:
        """At once whatever there is; later what was there the last time: most of what is new is being finished."""
        seen: set[ObjectId] | None = None
        while True:
            try:
                with self._open():
                    unfinished = await self._resolver.log.unfinished()
                await self._finish([each for each in unfinished if seen is None or each["_id"] in seen])
                seen = {each["_id"] for each in unfinished}
            except (StoreBusy, StoreFull) as problem:
                logger.warning("Unfinished changes could not be looked for.", extra={"problem": str(problem)})
            if self._closed:  # a cancellation that comes while the driver connects may be lost in there
                return
            await asyncio.sleep(seconds)

    async def _finish(self, unfinished: Sequence[Mapping[str, Any]]) -> int:
        for each in unfinished:
            try:
                with self._open():
                    await self._resolver.resolved(await self._resolver.log.record(each["patient_key"], each["_id"]))
            except StoreDamaged:
                logger.exception("An unfinished change can not be finished.", extra={"record": str(each["_id"])})
        return len(unfinished)

    # --- bookkeeping -------------------------------------------------------------------------------------------------

    def _require_open(self) -> None:
        if self._closed:
            raise StoreBusy("the metadata store is closed")

    @contextmanager
    def _open(self) -> Iterator[None]:
        self._require_open()
        with self._database.limited():
            yield

    def _in_background(self, work: Coroutine[Any, Any, _T], tasks: set[asyncio.Task[_T]]) -> asyncio.Task[_T]:
        # In a context of its own: the time limit of who asked for it is not its limit.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    async def _to_its_end(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._closed:
            work.close()
            raise StoreBusy("the metadata store is closed")
        task = self._in_background(work, self._working)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_outcome)
            raise


def _log_outcome(task: asyncio.Task[Any]) -> None:
    """Of work whose end nobody waited for."""
    if not task.cancelled() and (problem := task.exception()) is not None:
        logger.info("A change whose sender was gone did not take effect.", extra={"problem": str(problem)})


def _remember(memory: OrderedDict[str, _T], name: str, value: _T, most: int) -> None:
    memory[name] = value
    memory.move_to_end(name)
    if len(memory) > most:
        memory.popitem(last=False)
