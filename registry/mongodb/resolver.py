"""What becomes of a record of the log: it stands or is void, and then the index is written.

Any process may do this for any record, at any time, twice at once, and after the crash of another; the outcome is the
same. A record stands when it has all its identifiers; it is void when one of them is held by a record that stands. An
identifier is never given up but by a void record, and a record that is void stays so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import NamedTuple

from bson import ObjectId

from registry.change_body import renders_one_of
from registry.dossier_log import LogRecord
from registry.fhir_resources import FhirResources
from registry.metadata_store import PatientsMerged, StoreBusy, StoreDamaged, StoreFull
from registry.mongodb.claims import Claims
from registry.mongodb.database import Document, Filter, MongoDatabase
from registry.mongodb.documents import (
    IDENTITY,
    MERGED,
    OF_A_MERGE,
    UNFINISHED,
    Content,
    Record,
    claims_of,
    lasting_claims,
    patient_key,
    unfinished_document,
)
from registry.mongodb.index import Current, ObjectIndex
from registry.mongodb.log import NO_RECORDS, ChangeLog, Head
from registry.mongodb.schema import OBJECTS
from registry.rendering_compression import RenderingCompression
from xds.actors import ObjectCodec
from xds.metadata import ObjectKind

logger = logging.getLogger(__name__)

_REMEMBERED = 100_000
_PAUSE_SECONDS = 0.5
_OF_A_MERGE = frozenset({MERGED, IDENTITY})


class _Outcome(NamedTuple):
    """What became of a record, and since when this process knows (by the monotonic clock)."""

    stands: bool
    since: float


class Resolver:
    """Resolves records, and remembers which it has. Marks are set in the background: they only save work."""

    def __init__(
        self, database: MongoDatabase, codec: ObjectCodec, compression: RenderingCompression, fhir: FhirResources
    ) -> None:
        self._database = database
        self._codec = codec
        self._compression = compression
        self._outcomes: OrderedDict[ObjectId, _Outcome] = OrderedDict()
        self._resolving: dict[ObjectId, asyncio.Event] = {}
        self._withdrawn: set[ObjectId] = set()
        self._half_elsewhere: set[ObjectId] = set()
        self._left: list[Record] = []
        self._marks: list[tuple[Record, bool]] = []
        self._marking: asyncio.Task[None] | None = None
        self.log = ChangeLog(database, compression)
        self.index = ObjectIndex(database, codec, compression, fhir)
        self.claims = Claims(database, self._stands)

    async def head(self, patient_key: str) -> Head:
        """Where a dossier's log ends, once its last record is resolved."""
        last = await self.log.last(patient_key)
        if last is None:
            return NO_RECORDS
        return Head.after(last, stands=await self.resolved(last))

    async def resolved(self, record: Record, *, elsewhere: bool = True) -> bool:
        """Whether a record stands, of which all that follows is written by now. Its body is read where it is needed.

        elsewhere   whether what follows in other dossiers is written by now, too
        """
        known = self._outcome(record)
        if known is None and (resolving := self._resolving.get(record.id)):
            # Somebody of this process is at it. Processes do not wait for one another.
            await self._database.wait(resolving)
            known = self._remembered(record.id)
        if known is not None:
            return known
        return await self._resolved_in_turn(record, elsewhere)

    async def _resolved_in_turn(self, record: Record, elsewhere: bool) -> bool:
        """Resolve a record after those before it: copied ones are appended many at a time."""
        stands = True  # unless it is among these: others may have finished it meanwhile
        void: set[bytes] = set()
        for each in await self.log.unresolved(record):
            outcome = self._outcome(each)
            if outcome is None and each.log.previous_hash in void:
                # It was copied together with one that lost an identifier, and does not follow without it.
                await self.log.make_void(each)
                self._remember(each.id, stands=False)
                outcome = False
            elif outcome is None:
                outcome = await self.resolve(each, self.content_of(each.log.body), elsewhere=elsewhere)
            if not outcome:
                void.add(each.log.hash)
            if each.id == record.id:
                stands = outcome
        return stands

    def content_of(self, body: bytes | None) -> Content:
        """What a record's body tells. Raises StoreDamaged."""
        return Content.of(body, self._codec, self._compression)

    async def resolve(
        self,
        record: Record,
        content: Content,
        known: Mapping[str, Current] | None = None,
        *,
        elsewhere: bool = True,
    ) -> bool:
        """Take a record's identifiers and write it to the index; or make it void, and return False.

        known   see ObjectIndex.write; elsewhere: see resolved()
        """
        whole = elsewhere or not record.elsewhere
        with self._alone(record):
            told = await self._settled(record, content, known)
            if told is None or whole:
                self._remember(record.id, stands=told is not None)
        # Nobody waits for what is done from here on, so that of two changes in one another's dossiers neither does.
        if told is not None and whole:
            if record.elsewhere:
                await self._write_elsewhere(record)
            self._mark(record, told)
        while elsewhere and self._left:
            await self.resolved(self._left.pop())
        return told is not None

    async def _settled(self, record: Record, content: Content, known: Mapping[str, Current] | None) -> bool | None:
        """Write to its dossier what follows from a record. None: it is void; else: see ObjectIndex.write."""
        claims = claims_of(content.objects, record.id, record.versions)
        if record.id in self._withdrawn:
            await self.claims.withdrawn(record, claims)
        if not await self.claims.taken(record, claims):
            await self.log.make_void(record)
            return None
        told = await self.index.write(record, content, known)
        if content.removals:
            await self.forget(record, content)
        return told

    async def _write_elsewhere(self, record: Record) -> None:
        """Append what of a change is in other dossiers to their logs."""
        self._half_elsewhere.add(record.id)
        try:
            await self._append_elsewhere(record)
        except BaseException:
            self._outcomes.pop(record.id, None)  # whoever asks next goes on
            raise
        finally:
            self._half_elsewhere.discard(record.id)

    async def _append_elsewhere(self, record: Record) -> None:
        for part in record.elsewhere:
            key, record_id = patient_key(part.patient_id), part.record_id(record.id)
            while not await self.log.has(key, record_id):
                head = await self.head(key)
                body = self._compression.restore(part.body)
                log = LogRecord.following(
                    head.hash,
                    patient_id=part.patient_id,
                    sequence=head.sequence + 1,
                    change_id=part.change_id,
                    time=part.time,
                    body=body,
                    body_hash=part.body_hash,
                )
                appended = Record(record_id, key, head.position + 1, True, False, log)
                if await self.log.append(appended, part.body):
                    break
            await self.resolved(await self.log.record(key, record_id))

    async def forget(self, record: Record, content: Content) -> None:
        """Leave nothing of what a record removes in the log before it, but the names that nobody may have after it."""
        await self.claims.remember(record, lasting_claims(content.removals))
        await self.log.blank(record, renders_one_of(content.removed, self._codec))

    # --- reading what is whole ---------------------------------------------------------------------------------------

    async def read_finished(
        self,
        wanted: Filter,
        *,
        projection: Mapping[str, int] | None = None,
        sort: Sequence[str] = (),
        descending: bool = False,
        limit: int = 0,
        merges: bool = False,
    ) -> list[Document]:
        """Documents of `objects`; where among them a change is unfinished, it is finished, and they are read again.

        limit   of what is no sign of an unfinished change; 0: none
        merges  what is of a merge is wanted, too
        Raises PatientsMerged where one of them is of a merge, and that was not wanted.
        """
        room = 0  # for signs
        while True:
            began, asked = time.monotonic(), limit and limit + room
            documents = await self._database.find(
                OBJECTS, wanted, projection=projection, sort=sort, descending=descending, limit=asked
            )
            if not merges:
                _require_unmerged(documents)
            objects = [document for document in documents if document["kind"] != UNFINISHED]
            signs = [document for document in documents if document["kind"] == UNFINISHED]
            room = len(signs)
            unfinished = [sign for sign in signs if not self._was_finished(sign, began)]
            if not unfinished and (not limit or len(objects) >= limit or len(documents) < asked):
                return objects[:limit] if limit else objects
            await self._finish(unfinished)

    async def count_finished(self, wanted: Filter, signs_of: Filter) -> int:
        """How many objects there are, once no change among them is unfinished.

        signs_of   selects the signs of unfinished changes, and what else is not to be overlooked
        Raises PatientsMerged where one of those is of a merge.
        """
        while True:
            began = time.monotonic()
            count = await self._database.count(OBJECTS, wanted)
            signs = await self._database.find(OBJECTS, signs_of)
            _require_unmerged(signs)
            unfinished = [sign for sign in signs if not self._was_finished(sign, began)]
            if not unfinished:
                return count
            await self._finish(unfinished)

    async def require_unmerged(self, patient_keys: Collection[str]) -> None:
        """Raise PatientsMerged where one of the patients was merged into another, or another into it."""
        if patient_keys:
            named = {"patient_key": {"$in": sorted(patient_keys)}, "$or": list(OF_A_MERGE)}
            _require_unmerged(await self._database.find(OBJECTS, named, limit=1))

    async def last_number(self, patient_id: str, kind: ObjectKind) -> int | None:
        """The number of the last object of a kind in a dossier, superseded or not; None where there is none."""
        wanted = {"patient_key": patient_key(patient_id), "kind": kind.value}
        found = await self._database.find(OBJECTS, wanted, sort=("number",), descending=True, limit=1)
        return int(found[0]["number"]) if found else None

    def _was_finished(self, sign: Document, moment: float) -> bool:
        """Whether this process had finished the change by then; the sign of it is about to be taken away."""
        outcome = self._outcomes.get(sign["record"])
        return outcome is not None and outcome.since <= moment

    async def _finish(self, signs: Sequence[Document]) -> None:
        """Resolve the records of which the index says that they are being written, and have it say so no longer."""
        keys, ids = {sign["patient_key"] for sign in signs}, {sign["record"] for sign in signs}
        for record in await self.log.records(keys, ids) if signs else ():
            if await self.resolved(record) and record.id not in self._half_elsewhere:
                self._remember(record.id, stands=True)
                self._mark(record, told=True)

    @contextmanager
    def _alone(self, record: Record) -> Iterator[None]:
        """Let others of this process wait for what is done here. It does no harm where they do not."""
        done = asyncio.Event()
        self._resolving.setdefault(record.id, done)
        try:
            yield
        finally:
            done.set()
            if self._resolving.get(record.id) is done:
                del self._resolving[record.id]

    async def _stands(self, patient_key: str, record_id: ObjectId) -> bool:
        """Whether a record has its identifiers, for one that wants one of them and is itself not settled yet."""
        known = self._remembered(record_id)
        if known is not None:
            return known
        record = await self.log.record(patient_key, record_id)
        if record.open and record.elsewhere:
            # That may be in the dossier of the one that asks, and come after it.
            self._left.append(record)
        return await self.resolved(record, elsewhere=False)

    def _outcome(self, record: Record) -> bool | None:
        """Whether a record stands, where that is known and nothing is left to do."""
        if record.void:
            return False
        if not record.open:
            return True
        return self._remembered(record.id)

    def _remembered(self, record_id: ObjectId) -> bool | None:
        outcome = self._outcomes.get(record_id)
        return None if outcome is None else outcome.stands

    def _remember(self, record_id: ObjectId, *, stands: bool) -> None:
        self._outcomes.setdefault(record_id, _Outcome(stands, time.monotonic()))
        if len(self._outcomes) > _REMEMBERED:
            self._outcomes.popitem(last=False)

    # --- marks, in the background ------------------------------------------------------------------------------------

    def _mark(self, record: Record, told: bool) -> None:
        self._marks.append((record, told))
        if self._marking is None or self._marking.done():
            # In a context of its own: the time limit of who is being served is not its limit.
            self._marking = asyncio.get_running_loop().create_task(self._set_marks(), context=Context())

    async def _set_marks(self) -> None:
        """Write down which records are finished; all that came meanwhile at once."""
        while self._marks:
            marks, self._marks = self._marks, []
            keys = {record.patient_key for record, _ in marks}
            told = [unfinished_document(record)["_id"] for record, told in marks if told]
            try:
                with self._database.limited():
                    if told:
                        wanted = {"patient_key": {"$in": sorted(keys)}, "_id": {"$in": told}}
                        await self._database.delete(OBJECTS, wanted)
                    await self.log.make_finished(keys, [record.id for record, _ in marks])
            except (StoreBusy, StoreFull, StoreDamaged) as problem:
                # They stay open, and are found so by the next one who looks.
                logger.warning("Finished changes could not be marked as such.", extra={"problem": str(problem)})

    async def settle(self) -> None:
        """Wait until all marks are set."""
        while self._marking is not None and not self._marking.done():
            await asyncio.wait([self._marking])

    # --- withdrawal, in the background -------------------------------------------------------------------------------

    async def taken_back(self, record: Record, content: Content) -> bool:
        """Have a record be void that may be in the log or on its way to it. False: it has its identifiers already.

        The record is void for whoever resolves it, even if it arrives later.
        """
        if not await self.claims.withdrawn(record, claims_of(content.objects, record.id, record.versions)):
            return False
        await self.log.make_void(record)
        self._remember(record.id, stands=False)
        return True

    async def withdraw(self, record: Record, content: Content) -> None:
        """Take a record back as soon as the server can be asked. Until then this process finishes it for nobody.

        Where it has its identifiers already it stands, and is finished then.
        It ends when the process ends; then the record is finished by whoever finds it.
        """
        self._withdrawn.add(record.id)
        while True:
            try:
                with self._database.limited():
                    taken_back = await self.taken_back(record, content)
                    if not taken_back:
                        await self.resolved(record)
                break
            except (StoreBusy, StoreFull):
                await asyncio.sleep(_PAUSE_SECONDS)
        self._withdrawn.discard(record.id)
        if not taken_back:
            logger.warning(
                "A change took effect whose sender was told that its outcome is open.",
                extra={"change_id": record.log.change_id},
            )


def _require_unmerged(documents: Iterable[Document]) -> None:
    if any(document["kind"] in _OF_A_MERGE for document in documents):
        raise PatientsMerged
