"""A registry and its documents, copied from one store to another and compared: for `toimik migrate`.

The registry is copied by replaying its log, so that the copy has the same records with the same hashes and an index of
its own. What is there already is skipped: a copy that was interrupted at any moment is begun again, and one that was
made while a server was writing is completed by another run. Nothing of the source is ever changed.

Whoever compares believes no copier: he reads both sides again, the chain of every dossier, every row of the index and
every octet of the documents in the target.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

import orjson

from registry import metadata_store
from registry.change_body import decoded
from registry.dossier_log import LogRecord
from registry.metadata_store import Criteria, IndexRow, MetadataStore, Questions
from repository import document_store
from repository.document_store import DocumentDamaged, DocumentStore, Kept, OtherBytesSettled
from repository.settling import IsRegistered
from xds.actors import ObjectCodec
from xds.metadata import ObjectKind

log = logging.getLogger(__name__)

_T = TypeVar("_T")

BATCH_RECORDS: Final = 64
BATCH_BYTES: Final = 4 * 1024 * 1024
AT_ONCE: Final = 8
"""Dossiers that are compared, and documents that are copied or compared, side by side."""
_PAUSES_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)

Advance = Callable[[int], None]
"""Told how many more are done: objects of the registry, or documents."""


@dataclass(slots=True)
class Compared:
    """What a comparison found.

    done       dossiers, or documents
    records    of the log, where a registry was compared
    behind     records or documents that came to the source after it was copied: copy again
    problems   in sentences that name change ids, entryUUIDs and uniqueIds, and no patient
    """

    done: int = 0
    records: int = 0
    behind: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        return not self.problems and not self.behind


# ------------------------------------------------------------------------------------------------------ the registry


async def objects_in(store: MetadataStore) -> int:
    """How many objects the index has: what a copy counts by."""
    return sum([await store.count(Criteria(kind)) for kind in ObjectKind])


async def copy_registry(source: MetadataStore, target: MetadataStore, advance: Advance) -> int:
    """Replay the log of `source` in `target`, and return the number of records.

    Raises StoreDamaged where the target holds other records under the same numbers, or a record can not be right.
    Raises StoreBusy where a store did not answer for a minute, StoreFull.
    """
    copied = 0
    async for batch in _batches(source.records()):
        await _patiently(partial(target.replay, batch))
        copied += len(batch)
        advance(sum(_objects_of(record) for record in batch))
    return copied


async def _batches(records: AsyncIterator[LogRecord]) -> AsyncIterator[Sequence[LogRecord]]:
    batch: list[LogRecord] = []
    size = 0
    async for record in records:
        batch.append(record)
        size += len(record.body or b"")
        if len(batch) == BATCH_RECORDS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _objects_of(record: LogRecord) -> int:
    return len(decoded(record.body).renderings) if record.body is not None else 0


async def compare_registries(
    source: MetadataStore, target: MetadataStore, codec: ObjectCodec, advance: Advance
) -> Compared:
    """Hold the log and the index of `target` against those of `source`."""
    compared = Compared()

    async def compare(dossier: _Dossier) -> None:
        problems, behind = await _patiently(lambda: _dossier_compared(source, target, codec, dossier))
        compared.done += 1
        compared.records += dossier.records
        compared.behind += behind
        compared.problems += problems
        advance(dossier.objects)

    await _side_by_side(_dossiers(source.records()), compare)
    if not compared.behind and (more := await objects_in(target) - await objects_in(source)) > 0:
        compared.problems.append(f"the target holds {more} objects that the source does not")
    return compared


@dataclass(slots=True)
class _Dossier:
    """What is held against the other store: of each record its hash, and whether it has its body."""

    patient_id: str
    chain: list[tuple[bytes, bool]] = field(default_factory=list)
    objects: int = 0

    @property
    def records(self) -> int:
        return len(self.chain)

    def add(self, record: LogRecord) -> None:
        self.chain.append((record.hash, record.body is not None))
        self.objects += _objects_of(record)


async def _dossiers(records: AsyncIterator[LogRecord]) -> AsyncIterator[_Dossier]:
    dossier: _Dossier | None = None
    async for record in records:
        if dossier is None or dossier.patient_id != record.patient_id:
            if dossier is not None:
                yield dossier
            dossier = _Dossier(record.patient_id)
        dossier.add(record)
    if dossier is not None:
        yield dossier


async def _dossier_compared(
    source: MetadataStore, target: MetadataStore, codec: ObjectCodec, dossier: _Dossier
) -> tuple[list[str], int]:
    """What differs, and how many records are not there yet."""
    problems, there = await _log_compared(target, dossier)
    behind = dossier.records - there
    if problems or behind:
        return problems, max(behind, 0)
    problems = await _index_compared(source, target, codec, dossier.patient_id)
    if problems and (moved := await _sequence(source, dossier.patient_id) - dossier.records) > 0:
        return [], moved  # the source went on while it was looked at
    return problems, 0


async def _log_compared(target: MetadataStore, dossier: _Dossier) -> tuple[list[str], int]:
    """What is wrong with the target's log of the dossier, and how many records it has."""
    previous: LogRecord | None = None
    there = 0
    async for record in target.records(dossier.patient_id):
        there += 1
        named = f"record {record.sequence}, change {record.change_id}"
        if problem := record.problem(previous):
            return [f"in the target, {problem} ({named})"], there
        if there > dossier.records:
            return [f"the target has a record that the source does not have ({named})"], there
        expected_hash, has_body = dossier.chain[there - 1]
        if record.hash != expected_hash:
            return [f"the target has another record than the source ({named})"], there
        if has_body != (record.body is not None):
            return [f"the body of a record is blanked in one of the stores alone ({named})"], there
        previous = record
    return [], there


async def _index_compared(
    source: MetadataStore, target: MetadataStore, codec: ObjectCodec, patient_id: str
) -> list[str]:
    expected = {row.entry_uuid: _digest(row) async for row in source.index_rows(patient_id)}
    found = {row.entry_uuid: _digest(row) async for row in target.index_rows(patient_id)}
    if expected == found:
        return []
    problems = [f"{each} is missing from the index of the target" for each in expected.keys() - found.keys()]
    problems += [f"{each} is in the index of the target alone" for each in found.keys() - expected.keys()]
    differing = {each for each, digest in expected.items() if found.get(each, digest) != digest}
    rows = {row.entry_uuid: row async for row in source.index_rows(patient_id) if row.entry_uuid in differing}
    async for row in target.index_rows(patient_id):
        if row.entry_uuid in rows and not _alike(rows[row.entry_uuid], row, codec):
            problems.append(f"the index of the target says of {row.entry_uuid} what that of the source does not")
    return problems


def _digest(row: IndexRow) -> bytes:
    """SHA-256 of all that the index says of an object, its rendering included."""
    columns = orjson.dumps([row.kind.value, dict(row.columns)], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(b"%d:%b%b" % (len(columns), columns, row.ebrim)).digest()


def _alike(one: IndexRow, other: IndexRow, codec: ObjectCodec) -> bool:
    """Whether two rows say the same. What a change revises is rendered by the release that replays it, perhaps not
    byte by byte as by the one that wrote it first."""
    if (one.kind, dict(one.columns)) != (other.kind, dict(other.columns)):
        return False
    try:
        return one.ebrim == other.ebrim or codec.read(one.ebrim) == codec.read(other.ebrim)
    except Exception:  # noqa: BLE001 what can not be read is not the same
        return False


async def _sequence(store: MetadataStore, patient_id: str) -> int:
    return (await store.known(Questions(patient_id))).sequence


# ----------------------------------------------------------------------------------------------------- the documents


@dataclass(slots=True)
class CopiedDocuments:
    """What was copied, what was there already, and what could not be copied, in sentences."""

    copied: int = 0
    there: int = 0
    problems: list[str] = field(default_factory=list)


async def copy_documents(
    source: DocumentStore, target: DocumentStore, is_registered: IsRegistered, advance: Advance
) -> CopiedDocuments:
    """Copy every document that the source serves or, once asked for, would serve.

    A damaged one is reported and keeps no other from being copied.
    Raises StoreBusy where a store did not answer for a minute, StoreFull.
    """
    done = CopiedDocuments()

    async def copy(kept: Kept) -> None:
        try:
            was_there = await _patiently(lambda: _copied(kept, source, target))
        except (DocumentDamaged, OtherBytesSettled, KeyError) as problem:
            done.problems.append(f"{kept.unique_id} was not copied: {problem}")
        else:
            if was_there:
                done.there += 1
            else:
                done.copied += 1
        advance(1)

    try:
        await _side_by_side(_to_be_copied(source, is_registered), copy)
    except DocumentDamaged as problem:
        done.problems.append(str(problem))
    return done


async def _to_be_copied(source: DocumentStore, is_registered: IsRegistered) -> AsyncIterator[Kept]:
    # These first: one of them that is settled meanwhile comes again, and not the other way round.
    async for kept in source.all_unsettled(older_than_seconds=-3600.0):
        if await is_registered(kept.unique_id, kept.measured.hash):
            yield kept
    async for kept in source.all_settled():
        yield kept


async def _copied(kept: Kept, source: DocumentStore, target: DocumentStore) -> bool:
    """Have the document in the target; whether it was there."""
    there = await target.find(kept.unique_id)
    if there is not None:
        if there.measured != kept.measured:
            raise OtherBytesSettled("the target has other bytes under this uniqueId")
        return True
    published = next((each for each in await target.unsettled(kept.unique_id) if each.measured == kept.measured), None)
    if published is None:
        async with source.read(kept) as content, target.staging() as staging:
            measured = await staging.add("document", content)
            if measured != kept.measured:
                raise DocumentDamaged("its bytes are not those that the source measured")
            (published,) = await staging.publish({"document": (kept.unique_id, kept.mime_type)})
    await target.settle(published)
    return False


async def compare_documents(
    source: DocumentStore, target: DocumentStore, is_registered: IsRegistered, advance: Advance
) -> Compared:
    """Read every document of the source in the target, and hold SHA-256, size and mimeType against the source's."""
    compared = Compared()

    async def compare(kept: Kept) -> None:
        compared.done += 1
        problem = await _patiently(lambda: _document_problem(kept, target))
        if problem:
            compared.problems.append(f"{kept.unique_id}: {problem}")
        advance(1)

    try:
        await _side_by_side(_to_be_copied(source, is_registered), compare)
    except DocumentDamaged as problem:
        compared.problems.append(str(problem))
    return compared


async def _document_problem(kept: Kept, target: DocumentStore) -> str | None:
    found = await target.find(kept.unique_id)
    if found is None:
        return "the target does not have it"
    if found.measured != kept.measured:
        return "the target has other bytes"
    if found.mime_type != kept.mime_type:
        return f"its mimeType is {found.mime_type} in the target and {kept.mime_type} in the source"
    sha256 = hashlib.sha256()
    try:
        async with target.read(found) as content:
            async for chunk in content:
                sha256.update(chunk)
    except (DocumentDamaged, KeyError) as problem:
        return f"it can not be read in the target: {problem}"
    return None if sha256.hexdigest() == kept.measured.sha256 else "its SHA-256 in the target is another one"


# --------------------------------------------------------------------------------------------------------- in common


async def _side_by_side(items: AsyncIterator[_T], work: Callable[[_T], Awaitable[None]]) -> None:
    """Do `work` for every item, for some at the same time. The first one that fails ends all of it.

    What `items` raises comes after the work on those before it.
    """
    free = asyncio.Semaphore(AT_ONCE)
    ended: Exception | None = None

    async def done(item: _T) -> None:
        try:
            await work(item)
        finally:
            free.release()

    try:
        async with asyncio.TaskGroup() as group:
            try:
                async for item in items:
                    await free.acquire()
                    group.create_task(done(item))
            except Exception as problem:  # noqa: BLE001 raised below
                ended = problem
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    if ended is not None:
        raise ended


async def _patiently(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do it again where a store can not answer now: a copy of hours outlives a primary that steps down."""
    for pause in _PAUSES_SECONDS:
        try:
            return await work()
        except (metadata_store.StoreBusy, document_store.StoreBusy) as problem:
            log.warning("A store does not answer; the copy waits for it", extra={"problem": str(problem)})
            await asyncio.sleep(pause)
    return await work()
