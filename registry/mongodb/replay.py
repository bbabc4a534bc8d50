"""Records that were copied from another store, appended to the log of this one exactly as they are.

For many at once: a copy of a registry would take days otherwise. Each step may be interrupted; what was appended is
finished by the next run, or by whoever finds it.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bson import ObjectId

from registry.dossier_log import LogRecord
from registry.metadata_store import StoreBusy, StoreDamaged
from registry.mongodb.database import Document, MongoDatabase
from registry.mongodb.documents import Content, Record, claims_of, patient_key
from registry.mongodb.index import Versions
from registry.mongodb.resolver import Resolver
from registry.mongodb.schema import CHANGES, IDENTIFIERS, OBJECTS
from registry.rendering_compression import RenderingCompression

_DOCUMENTS_AT_ONCE = 1000
_ATTEMPTS = 50
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class _Copied:
    """A record that is not here yet."""

    record: Record
    content: Content
    document: Document


@dataclass(slots=True)
class _Dossier:
    """What is here of a dossier. position: of its last record, be that void."""

    records: list[LogRecord] = field(default_factory=list)
    position: int = 0


class Replay:
    """Appends copied records."""

    def __init__(self, database: MongoDatabase, resolver: Resolver, compression: RenderingCompression) -> None:
        self._database = database
        self._resolver = resolver
        self._compression = compression

    async def append(self, records: Sequence[LogRecord]) -> None:
        """Append those that are not here yet, and write them to the index.

        Raises StoreDamaged where one does not follow the log of its dossier, or brings an identifier that is held.
        """
        keys = {record.patient_id: patient_key(record.patient_id) for record in records}
        copied = await self._appended(records, keys)
        if not copied:
            return
        with self._database.limited():
            await self._take_identifiers(copied)
        await self._write(_by_dossier(copied))
        with self._database.limited():
            await self._resolver.log.make_finished(keys.values(), [each.record.id for each in copied])

    async def _appended(self, records: Sequence[LogRecord], keys: Mapping[str, str]) -> list[_Copied]:
        """Insert what is not here yet in the log."""
        for _ in range(_ATTEMPTS):
            with self._database.limited():
                dossiers = await self._dossiers(keys.values())
            copied = list(self._new(records, keys, dossiers))
            with self._database.limited():
                if await self._database.insert(CHANGES, [each.document for each in copied]):
                    return copied
            # Somebody else copies, too, or registers: look what is here now.
            await asyncio.sleep(_PAUSE_SECONDS * random.random())  # noqa: S311 - a pause is no secret
        raise StoreBusy("others write to the same dossiers all the time")

    async def _dossiers(self, keys: Iterable[str]) -> dict[str, _Dossier]:
        """What is here of these dossiers, finished."""
        dossiers: dict[str, _Dossier] = defaultdict(_Dossier)
        for record in await self._resolver.log.headers(set(keys)):
            dossier = dossiers[record.patient_key]
            dossier.position = record.position
            if await self._resolver.resolved(record):
                dossier.records.append(record.log)
        return dossiers

    def _new(
        self, records: Iterable[LogRecord], keys: Mapping[str, str], dossiers: dict[str, _Dossier]
    ) -> Iterable[_Copied]:
        for copied in records:
            key = keys[copied.patient_id]
            dossier = dossiers[key]
            if copied.sequence <= len(dossier.records):
                if dossier.records[copied.sequence - 1].hash != copied.hash:
                    raise StoreDamaged(f"dossier {key}: record {copied.sequence} is here already, and is another one")
                continue
            problem = copied.problem(dossier.records[-1] if dossier.records else None)
            if problem:
                raise StoreDamaged(f"dossier {key}: {problem}")
            dossier.records.append(copied)
            dossier.position += 1
            record = Record(ObjectId(), key, dossier.position, True, False, copied)
            body = None if copied.body is None else self._compression.compress_body(copied.body)
            content = self._resolver.content_of(copied.body)
            yield _Copied(record, content, record.document(body))

    async def _take_identifiers(self, copied: Sequence[_Copied]) -> None:
        claims = [(each.record, claims_of(each.content.objects, each.record.id)) for each in copied]
        first = [
            claim.document(claim.entry_uuid if claim.listed else 0, record) for record, each in claims for claim in each
        ]
        if await self._database.insert(IDENTIFIERS, first):
            return
        for place, (record, each) in enumerate(claims):
            if await self._resolver.claims.taken(record, each):
                continue
            for later, _ in claims[place:]:
                if later.patient_key == record.patient_key:
                    await self._resolver.log.make_void(later)
            raise StoreDamaged(
                f"dossier {record.patient_key}: record {record.log.sequence} brings an identifier that is held"
            )

    async def _write(self, dossiers: Sequence[Sequence[_Copied]]) -> None:
        """Write records to the index: of each object the last version, and that it had others."""
        with self._database.limited():
            await self._resolver.index.remember_patients(dossier[0].record for dossier in dossiers)
        # As many as come together in one round trip, because most dossiers are small.
        documents: list[Document] = []
        for dossier in dossiers:
            with self._database.limited():
                documents += await self._documents(dossier)
                if len(documents) >= _DOCUMENTS_AT_ONCE:
                    await self._database.insert_missing(OBJECTS, documents)
                    documents.clear()
        with self._database.limited():
            await self._database.insert_missing(OBJECTS, documents)
        for dossier in dossiers:
            with self._database.limited():
                await self._take_past(dossier)

    async def _documents(self, dossier: Sequence[_Copied]) -> Iterable[Document]:
        """All that the records of a dossier add to the index."""
        older = _older(dossier)
        known = await self._resolver.index.current(dossier[0].record, older) if older else None
        versions = Versions(self._resolver.index, known)
        for each in dossier:
            versions.add(each.record, each.content)
        return versions.documents.values()

    async def _take_past(self, dossier: Sequence[_Copied]) -> None:
        """Take from the index and the log what is no more once the records of a dossier are there."""
        for entry_uuid in _older(dossier):
            # Of its versions in the index the last one of these stays.
            last = max(each.record.log.sequence for each in dossier if entry_uuid in _past(each.content))
            await self._resolver.index.supersede(dossier[0].record.patient_key, [entry_uuid], last)
        for each in dossier:
            if each.content.removals:  # what was copied before the other store removed it
                await self._resolver.forget(each.record, each.content)


def _older(dossier: Sequence[_Copied]) -> list[str]:
    """The entryUUIDs of what these records revise or remove and do not bring: it is in the index already."""
    brought = {item.entry_uuid for each in dossier for item, _ in each.content.objects}
    return sorted({entry_uuid for each in dossier for entry_uuid in _past(each.content)} - brought)


def _past(content: Content) -> frozenset[str]:
    """The entryUUIDs of what a record revises or removes."""
    return content.removed | {revision.entry_uuid for revision in content.revisions}


def _by_dossier(copied: Iterable[_Copied]) -> Sequence[Sequence[_Copied]]:
    dossiers: dict[str, list[_Copied]] = defaultdict(list)
    for each in copied:
        dossiers[each.record.patient_key].append(each)
    return list(dossiers.values())
