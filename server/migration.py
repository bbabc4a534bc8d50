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
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar

import orjson

from registry import metadata_store
from registry.dossier_log import LogRecord
from registry.metadata_store import IndexRow, MetadataStore, Questions
from registry.streams import some_at_a_time
from repository import document_store
from repository.document_store import DocumentDamaged, DocumentStore, Kept, OtherBytesSettled
from repository.settling import IsRegistered
from xds.actors import ObjectCodec

log = logging.getLogger(__name__)

_T = TypeVar("_T")

BATCH_RECORDS: Final = 500
BATCH_BYTES: Final = 16 * 1024 * 1024
"""Of bodies, in memory several times; a store looks into its log once for each batch."""
AT_ONCE: Final = 8
"""Documents that are copied or compared side by side."""
_MOST_EXAMINED: Final = 100  # dossiers
_PAUSES_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)

Advance = Callable[[int], None]
"""Told how many more are done: records and objects of the registry, or documents."""


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


async def copy_registry(source: MetadataStore, target: MetadataStore, advance: Advance) -> int:
    """Replay the log of `source` in `target`, and return the number of records.

    Raises StoreDamaged where the target holds other records under the same numbers, or a record can not be right.
    Raises StoreBusy where a store did not answer for a minute, StoreFull.
    """
    copied = 0
    read = some_at_a_time(
        source.records(), BATCH_RECORDS, size=lambda record: len(record.body or b""), enough=BATCH_BYTES
    )
    async with aclosing(_read_ahead(read)) as batches:
        async for batch in batches:
            await _patiently(partial(target.replay, batch))
            copied += len(batch)
            advance(len(batch))
    return copied


async def compare_registries(
    source: MetadataStore, target: MetadataStore, codec: ObjectCodec, advance: Advance
) -> Compared:
    """Hold the log and the index of `target` against those of `source`.

    Both stores are read from one end to the other, as they give it, at the same time; what differs is looked at again,
    one by one. `advance` is told of the records and objects of both.
    """
    compared = Compared()
    with closing(_Digests()) as digests:
        logs, found = _Side(digests, "source"), _Side(digests, "target")
        await _both(logs.read(source, advance), found.read(target, advance))
        compared.done, compared.records = logs.dossiers, logs.records
        compared.problems += found.problems
        compared.behind = digests.behind()
        compared.problems += [
            f"the target has a dossier of {records} records that the source does not have"
            for records in digests.strangers()
        ]
        for number, patient_id in enumerate(digests.differing()):
            if number == _MOST_EXAMINED:
                compared.problems.append("more dossiers differ than are looked at one by one")
                break
            problems, behind = await _patiently(partial(_dossier_compared, source, target, codec, patient_id))
            compared.problems += [problem for problem in problems if problem not in compared.problems]
            compared.behind += behind
    return compared


@dataclass(slots=True)
class _Side:
    """One of the stores, read from one end to the other. Its problems are those of its own chains."""

    digests: _Digests
    name: str
    dossiers: int = 0
    records: int = 0
    problems: list[str] = field(default_factory=list)

    async def read(self, store: MetadataStore, advance: Advance) -> None:
        async for dossier in _logs(store.records()):
            self.dossiers += 1
            self.records += dossier.records
            self.problems += dossier.problems
            self.digests.add_log(self.name, dossier)
            advance(dossier.records)
        async for patient_id, digest, objects in _indexes(store.index_rows()):
            self.digests.add_index(self.name, patient_id, digest)
            advance(objects)


@dataclass(slots=True)
class _Log:
    """The log of one dossier as a store gives it. Its problems are those of its own chain."""

    patient_id: str
    records: int = 0
    problems: list[str] = field(default_factory=list)
    _digest: Any = field(default_factory=hashlib.sha256)
    _previous: LogRecord | None = None

    def add(self, record: LogRecord) -> None:
        if problem := record.problem(self._previous):
            self.problems.append(f"{problem} ({_named(record)})")
        self.records += 1
        self._digest.update(record.hash + (b"\0" if record.body is None else b"\1"))
        self._previous = replace(record, body=b"")

    @property
    def digest(self) -> bytes:
        """SHA-256 of every record's hash, and of whether it has its body."""
        return bytes(self._digest.digest())


async def _logs(records: AsyncIterator[LogRecord]) -> AsyncIterator[_Log]:
    dossier: _Log | None = None
    async for record in records:
        if dossier is None or dossier.patient_id != record.patient_id:
            if dossier is not None:
                yield dossier
            dossier = _Log(record.patient_id)
        dossier.add(record)
    if dossier is not None:
        yield dossier


async def _indexes(rows: AsyncIterator[IndexRow]) -> AsyncIterator[tuple[str, bytes, int]]:
    """For each dossier the digest of its index, in whatever order its rows come, and how many they are."""
    patient_id: str | None = None
    digests: list[bytes] = []
    async for row in rows:
        if patient_id is not None and row.patient_id != patient_id:
            yield patient_id, hashlib.sha256(b"".join(sorted(digests))).digest(), len(digests)
            digests = []
        patient_id = row.patient_id
        digests.append(_digest(row))
    if patient_id is not None:
        yield patient_id, hashlib.sha256(b"".join(sorted(digests))).digest(), len(digests)


class _Digests:
    """What both stores say of every dossier, put side by side in a temporary file: stores differ in their order.

    The file has no name and is gone with the process; a hundred octets or two for each dossier.
    """

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute(
            "CREATE TABLE dossiers (patient_id TEXT PRIMARY KEY, source_records INTEGER NOT NULL DEFAULT 0, "
            "target_records INTEGER NOT NULL DEFAULT 0, source_log BLOB, target_log BLOB, source_index BLOB, "
            "target_index BLOB) WITHOUT ROWID"
        )

    def close(self) -> None:
        self._connection.close()

    def add_log(self, side: str, log: _Log) -> None:
        """side: source or target."""
        self._put(side, log.patient_id, records=log.records, log=log.digest)

    def add_index(self, side: str, patient_id: str, digest: bytes) -> None:
        self._put(side, patient_id, index=digest)

    def _put(self, side: str, patient_id: str, **values: bytes | int) -> None:
        names = [f"{side}_{name}" for name in values]
        self._connection.execute(
            f"INSERT INTO dossiers (patient_id, {', '.join(names)}) VALUES (?{', ?' * len(names)}) "  # noqa: S608 ours
            f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in names)}",
            (patient_id, *values.values()),
        )

    def behind(self) -> int:
        """How many records the source has more, in dossiers where the target has fewer."""
        found = self._connection.execute(
            "SELECT coalesce(sum(source_records - target_records), 0) FROM dossiers "
            "WHERE target_records < source_records"
        )
        return int(found.fetchone()[0])

    def strangers(self) -> list[int]:
        """The numbers of records of dossiers that the target alone has."""
        found = self._connection.execute(
            "SELECT target_records FROM dossiers WHERE source_records = 0 AND source_index IS NULL LIMIT ?",
            (_MOST_EXAMINED,),
        )
        return [int(row[0]) for row in found]

    def differing(self) -> Iterator[str]:
        """The patients of dossiers that have as many records in both and are not the same."""
        found = self._connection.execute(
            "SELECT patient_id FROM dossiers WHERE source_records > 0 AND target_records >= source_records "
            "AND (source_log IS NOT target_log OR source_index IS NOT target_index)"
        )
        return (str(row[0]) for row in found)


async def _dossier_compared(
    source: MetadataStore, target: MetadataStore, codec: ObjectCodec, patient_id: str
) -> tuple[list[str], int]:
    """What differs in one dossier, and how many records are not there yet."""
    expected = [record async for record in source.records(patient_id)]
    found = [record async for record in target.records(patient_id)]
    problems = _log_problems(expected, found)
    behind = max(len(expected) - len(found), 0)
    if problems or behind:
        return problems, behind
    problems = await _index_compared(source, target, codec, patient_id)
    if problems and (moved := await _sequence(source, patient_id) - len(expected)) > 0:
        return [], moved  # the source went on while it was looked at
    return problems, 0


def _log_problems(expected: Sequence[LogRecord], found: Sequence[LogRecord]) -> list[str]:
    """The first thing that is wrong with the records that the target has."""
    previous: LogRecord | None = None
    for number, record in enumerate(found):
        if problem := record.problem(previous):
            return [f"{problem} ({_named(record)})"]
        if number >= len(expected):
            return [f"the target has a record that the source does not have ({_named(record)})"]
        if record.hash != expected[number].hash:
            return [f"the target has another record than the source ({_named(record)})"]
        if (record.body is None) != (expected[number].body is None):
            return [f"the body of a record is blanked in one of the stores alone ({_named(record)})"]
        previous = record
    return []


def _named(record: LogRecord) -> str:
    return f"record {record.sequence}, change {record.change_id}"


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


async def _both(one: Coroutine[Any, Any, None], other: Coroutine[Any, Any, None]) -> None:
    """Do both at the same time. The first one that fails ends the other."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(one)
            group.create_task(other)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _read_ahead(items: AsyncIterator[_T]) -> AsyncGenerator[_T, None]:
    """The same, but each is read while the one before it is still being worked on."""
    reading = asyncio.ensure_future(anext(items, None))
    try:
        while (item := await reading) is not None:
            reading = asyncio.ensure_future(anext(items, None))
            yield item
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _patiently(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do it again where a store can not answer now: a copy of hours outlives a primary that steps down."""
    for pause in _PAUSES_SECONDS:
        try:
            return await work()
        except (metadata_store.StoreBusy, document_store.StoreBusy) as problem:
            log.warning("A store does not answer; the copy waits for it", extra={"problem": str(problem)})
            await asyncio.sleep(pause)
    return await work()
