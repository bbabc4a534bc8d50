"""The log of the metadata store on MongoDB: the collection `changes`.

A record is appended by inserting it under a unique key, the dossier and the position after the last one: of several
who try, one is first. That insert is the commit. Whether the record then stands or is void is settled by
registry/mongodb/resolver.py, the same by whoever does it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from typing import NamedTuple

from bson import ObjectId

from registry.change_body import blanked
from registry.dossier_log import FIRST_PREVIOUS_HASH
from registry.metadata_store import StoreBusy
from registry.mongodb.database import Document, Filter, MongoDatabase
from registry.mongodb.documents import Record
from registry.mongodb.schema import CHANGES
from registry.rendering_compression import RenderingCompression

_WITHOUT_BODY = {"body": 0}
_UNFINISHED_AT_ONCE = 1000


class Head(NamedTuple):
    """Where a dossier's log ends: the last position, and sequence and hash of the last record that stands."""

    position: int
    sequence: int
    hash: bytes

    @classmethod
    def after(cls, record: Record, *, stands: bool) -> Head:
        if stands:
            return cls(record.position, record.log.sequence, record.log.hash)
        return cls(record.position, record.log.sequence - 1, record.log.previous_hash)


NO_RECORDS = Head(0, 0, FIRST_PREVIOUS_HASH)


class ChangeLog:
    """Reads and appends records."""

    def __init__(self, database: MongoDatabase, compression: RenderingCompression) -> None:
        self._database = database
        self._compression = compression

    async def last(self, patient_key: str) -> Record | None:
        """The last record of a dossier, whatever became of it, without its body."""
        found = await self._database.find(
            CHANGES,
            {"patient_key": patient_key},
            projection=_WITHOUT_BODY,
            sort=("patient_key", "position"),
            descending=True,
            limit=1,
        )
        return Record.of(found[0]) if found else None

    async def append(self, record: Record, compressed_body: bytes | None) -> bool:
        """Insert a record at its position. False: somebody else was first."""
        if await self._database.insert(CHANGES, [record.document(compressed_body)]):
            return True
        # An answer may have been lost on its way, and the record been sent again.
        there = await self._database.find(
            CHANGES,
            {"patient_key": record.patient_key, "position": record.position},
            projection=_WITHOUT_BODY,
        )
        return any(document["_id"] == record.id for document in there)

    async def records(self, patient_keys: Collection[str], ids: Collection[ObjectId]) -> list[Record]:
        """These records of these dossiers, with their bodies."""
        wanted = {"patient_key": {"$in": sorted(patient_keys)}, "_id": {"$in": list(ids)}}
        return [Record.of(document, self._compression) for document in await self._database.find(CHANGES, wanted)]

    async def has(self, patient_key: str, record_id: ObjectId) -> bool:
        """Whether a record is in the log."""
        wanted = {"patient_key": patient_key, "_id": record_id}
        return bool(await self._database.find(CHANGES, wanted, projection={"position": 1}))

    async def record(self, patient_key: str, record_id: ObjectId) -> Record:
        """One record, with its body.

        Raises StoreBusy where it is not to be seen.
        """
        found = await self._database.find(CHANGES, {"patient_key": patient_key, "_id": record_id})
        if not found:
            # Another server of the set has just become the first, and does not show all that was acknowledged yet.
            raise StoreBusy("the metadata store does not show a record that it has")
        return Record.of(found[0], self._compression)

    async def unresolved(self, record: Record) -> list[Record]:
        """The open records of a dossier, and the void ones, up to this one; with their bodies."""
        wanted = {
            "patient_key": record.patient_key,
            "position": {"$lte": record.position},
            "$or": [{"open": True}, {"void": True}],
        }
        found = await self._database.find(CHANGES, wanted, sort=("patient_key", "position"))
        return [Record.of(document, self._compression) for document in found]

    async def streamed(self, wanted: Filter) -> AsyncGenerator[Record, None]:
        """Records, dossier by dossier and in the order of their positions, with their bodies."""
        documents = self._database.streamed(CHANGES, wanted, ("patient_key", "position"))
        async for document in documents:
            yield Record.of(document, self._compression)

    async def headers(self, patient_keys: Collection[str]) -> list[Record]:
        """All records of these dossiers, without their bodies, in the order of their positions."""
        found = await self._database.find(
            CHANGES,
            {"patient_key": {"$in": sorted(patient_keys)}},
            projection=_WITHOUT_BODY,
            sort=("patient_key", "position"),
        )
        return [Record.of(document) for document in found]

    async def unfinished(self) -> list[Document]:
        """_id and patient_key of records that are not known to be finished; not all where there are very many."""
        return await self._database.find(
            CHANGES, {"open": True}, projection={"patient_key": 1}, limit=_UNFINISHED_AT_ONCE
        )

    async def make_void(self, record: Record) -> None:
        """Mark a record that lost an identifier, and take its body."""
        await self._database.update(
            CHANGES,
            {"patient_key": record.patient_key, "_id": record.id},
            {"$set": {"void": True}, "$unset": {"open": "", "body": "", "elsewhere": ""}},
        )

    async def make_finished(self, patient_keys: Collection[str], ids: Collection[ObjectId]) -> None:
        """Mark records from which nothing is left to be done."""
        wanted = {"patient_key": {"$in": sorted(patient_keys)}, "_id": {"$in": list(ids)}}
        await self._database.update(CHANGES, wanted, {"$unset": {"open": "", "elsewhere": ""}})

    async def blank(self, record: Record, is_removed: Callable[[bytes], bool]) -> None:
        """Leave in the dossier's records before this one nothing of the renderings of which that is true.

        It may be done again, and by two at once: what somebody else has blanked meanwhile is looked at again.
        """
        earlier = {"patient_key": record.patient_key, "position": {"$lt": record.position}, "body": {"$exists": True}}
        for found in await self._database.find(CHANGES, earlier, projection={"body": 1}):
            key, body = {"patient_key": record.patient_key, "_id": found["_id"]}, found.get("body")
            while body is not None:
                left = blanked(self._compression.restore(bytes(body)), is_removed)
                if left is None:
                    break
                update = {"$set": {"body": self._compression.compress_body(left)}}
                await self._database.update(CHANGES, {**key, "body": body}, update)
                documents = await self._database.find(CHANGES, key, projection={"body": 1})
                body = documents[0].get("body") if documents else None

    async def estimate(self) -> int:
        """About how many records there are, the void ones included."""
        return await self._database.estimate(CHANGES)
