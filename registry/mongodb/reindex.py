"""Writing the index of the metadata store on MongoDB again, from the log, while the registry is in use.

Dossier by dossier and in place: every version that the log gives is compared with what is there, and put right where
it differs. So readers see each object as it was or as it should be, no second index has to be kept, sharded and
exchanged, and a run that was interrupted is simply begun again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from bson import ObjectId

from registry.metadata_store import Progress, StoreDamaged
from registry.mongodb.database import Document, MongoDatabase
from registry.mongodb.documents import (
    MERGED,
    ORDER,
    SUPERSEDED,
    UNFINISHED,
    Claim,
    Content,
    Record,
    claims_of,
    lasting_claims,
)
from registry.mongodb.index import Versions
from registry.mongodb.resolver import Resolver
from registry.mongodb.schema import CHANGES, OBJECTS, index_is_current
from registry.streams import runs, some_at_a_time

_DOSSIER_SECONDS = 120.0
_DOSSIERS_AT_ONCE = 16
_RECORDS_AT_ONCE = 500
_STRAYS_AT_ONCE = 500


class Reindexing:
    """One run."""

    def __init__(self, database: MongoDatabase, resolver: Resolver) -> None:
        self._database = database
        self._resolver = resolver

    async def run(self, progress: Progress | None) -> int:
        """Do it, and return the number of records.

        Raises StoreDamaged where the log can not be right, naming the record.
        """
        with self._database.limited():
            in_all = await self._resolver.log.estimate()
        done = 0
        logs = runs(self._resolver.log.streamed({}), lambda record: record.patient_key)
        async for dossiers in some_at_a_time(logs, _DOSSIERS_AT_ONCE, size=len, enough=_RECORDS_AT_ONCE):
            done += sum(await self._side_by_side(dossiers))
            if progress:
                progress(done, max(done, in_all))
        await self._drop_strays()
        with self._database.limited():
            await index_is_current(self._database)
        if progress:
            progress(done, done)
        return done

    async def _side_by_side(self, dossiers: Sequence[Sequence[Record]]) -> list[int]:
        """Put dossiers right, one while others wait for the server, and return how many records each has."""
        with self._database.limited():
            await self._resolver.index.remember_patients(records[0] for records in dossiers)
        try:
            async with asyncio.TaskGroup() as group:
                working = [group.create_task(self._dossier(records)) for records in dossiers]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in working]

    async def _dossier(self, records: Sequence[Record]) -> int:
        with self._database.limited(_DOSSIER_SECONDS):
            return await self._put_right_at_rest(records)

    async def _put_right_at_rest(self, records: Sequence[Record]) -> int:
        """Put one dossier right, again where it moved meanwhile, and return how many records it has."""
        key = records[0].patient_key
        while True:
            standing = [record for record in records if await self._resolver.resolved(record)]
            expected = await self._expected(standing)
            there = await self._database.find(OBJECTS, {"patient_key": key})
            if await self._is_last(records[-1]):
                there = [document for document in there if not _is_left_of(document, expected.removed)]
                was_right = await self._put_right(
                    key, expected.documents, {document["_id"]: document for document in there}
                )
                if was_right or await self._is_last(records[-1]):
                    return len(standing)
            records = [record async for record in self._resolver.log.streamed({"patient_key": key})]

    async def _is_last(self, record: Record) -> bool:
        last = await self._resolver.log.last(record.patient_key)
        return last is None or last.id == record.id

    async def _expected(self, records: Sequence[Record]) -> Versions:
        """Each version there ever was, as it should be; but for those of objects that were removed."""
        versions = Versions(self._resolver.index)
        claims: list[tuple[Record, Sequence[Claim]]] = []
        contents: dict[ObjectId, Content] = {}
        previous: Record | None = None
        for record in records:
            problem = record.log.problem(previous.log if previous else None)
            if problem:
                raise StoreDamaged(f"dossier {record.patient_key}: {problem}")
            previous = record
            contents[record.id] = self._content(record)
        has_blanks = any(content.blanks for content in contents.values())
        for record in records:
            content = contents[record.id]
            claims.append((record, claims_of(content.objects, record.id, record.versions)))
            versions.add(record, content)
            for revision in content.revisions:
                if revision.entry_uuid not in versions.current and not has_blanks:
                    raise StoreDamaged(
                        f"dossier {record.patient_key}: {revision.entry_uuid} is revised, but was never registered"
                    )
        await self._restore_identifiers(claims)
        for record in records:
            await self._resolver.claims.remember(record, lasting_claims(contents[record.id].removals))
        return versions

    def _content(self, record: Record) -> Content:
        try:
            return self._resolver.content_of(record.log.body)
        except StoreDamaged as error:
            raise StoreDamaged(f"dossier {record.patient_key}, record {record.log.sequence}: {error}") from error

    async def _restore_identifiers(self, claims: Sequence[tuple[Record, Sequence[Claim]]]) -> None:
        """Write down again who holds which identifier, where that is missing."""
        held = await self._resolver.claims.holders([claim.identifier for _, each in claims for claim in each])
        holders = {(name, slot["record"]) for name, slots in held.items() for slot in slots.values()}
        for record, names in claims:
            if all((claim.identifier, record.id) in holders for claim in names):
                continue
            if not await self._resolver.claims.taken(record, names):
                raise StoreDamaged(f"dossier {record.patient_key}: an identifier is in the log twice")

    async def _put_right(self, key: str, expected: Mapping[str, Document], there: Mapping[str, Document]) -> bool:
        """Have the index hold what is expected; whether it did before."""
        wrong = [document for version, document in expected.items() if there.get(version) != document]
        for document in wrong:
            await self._put(document, there.get(document["_id"]))
        # That somebody was merged into this patient is in the log of the other dossier.
        kept = (UNFINISHED, MERGED)
        strays = {version for version, document in there.items() if document["kind"] not in kept} - expected.keys()
        if strays:
            await self._database.delete(OBJECTS, {"patient_key": key, "_id": {"$in": sorted(strays)}})
        return not wrong and not strays

    async def _put(self, document: Document, there: Document | None) -> None:
        if there is None:
            await self._database.insert_missing(OBJECTS, [document])
        else:
            # Where it is superseded at this moment it stays so.
            await self._database.replace(OBJECTS, document, {"kind": there["kind"]})

    async def _drop_strays(self) -> None:
        """Take away what is in the index of dossiers that have no log."""
        keys: set[str] = set()
        async for document in self._database.streamed(OBJECTS, {}, ORDER, dict.fromkeys(ORDER, 1)):
            keys.add(document["patient_key"])
            if len(keys) >= _STRAYS_AT_ONCE:
                await self._drop_without_log(keys)
                keys.clear()
        await self._drop_without_log(keys)

    async def _drop_without_log(self, keys: set[str]) -> None:
        with self._database.limited():
            wanted = {"patient_key": {"$in": sorted(keys)}}
            logged = await self._database.find(
                CHANGES, {**wanted, "position": 1}, projection={"patient_key": 1, "_id": 0}
            )
            strays = keys - {document["patient_key"] for document in logged}
            if strays:
                await self._database.delete(OBJECTS, {"patient_key": {"$in": sorted(strays)}})


def _is_left_of(document: Document, removed: Collection[str]) -> bool:
    """Whether it is what tells whoever comes late that a removed object was here."""
    return document["kind"] == SUPERSEDED and document["entry_uuid"] in removed
