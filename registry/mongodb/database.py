"""The MongoDB server as the metadata store uses it: a few commands, a time limit over them, and what errors mean.

Every command here may be sent twice without harm, so what a server means to be tried again is tried again until the
limit. Nothing is asked of the server but that an insert under a unique key is atomic, and the update of one document.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self, TypeAlias, TypeVar

import pymongo
from bson.errors import BSONError
from pymongo import AsyncMongoClient, UpdateMany, UpdateOne
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from registry.metadata_store import StoreBusy, StoreDamaged, StoreFull

_T = TypeVar("_T")

Document: TypeAlias = dict[str, Any]
Filter: TypeAlias = Mapping[str, Any]

_DUPLICATE_KEY = 11000
_NAMESPACE_NOT_FOUND = 26
_LONGEST_PAUSE_SECONDS = 0.5
_FIRST_PAUSE_SECONDS = 0.01
_ALL_IN_ONE_BATCH = 100_000  # documents; the server ends a batch at 16 MiB in any case
_STREAMED_AT_ONCE = 200
_STREAMED_BY_ONE_CURSOR = 1_000_000

_TRY_AGAIN = frozenset(
    {
        1,  # InternalError; of servers over SQLite: the database is locked
        6, 7, 89, 91, 9001,  # HostUnreachable, HostNotFound, NetworkTimeout, ShutdownInProgress, SocketException
        112, 24, 46,  # WriteConflict, LockTimeout, LockBusy
        133, 134, 189, 246,  # no server to read from yet, majority not known yet, stepped down, no snapshot yet
        10107, 11600, 11602, 13388, 13435, 13436, 63, 150, 234,  # not primary, interrupted, stale routing
    }
)  # fmt: skip
_TOO_LATE = frozenset({50, 64, 202, 262})  # MaxTimeMSExpired, WriteConcernFailed and the like
_FULL = frozenset({14031, 12501, 75, 10334, 17280, 17419, 17420})  # OutOfDiskSpace, quota, document too large
_NOT_ALLOWED = frozenset({13, 18, 8000})

_deadline: ContextVar[float | None] = ContextVar("registry_mongodb_deadline", default=None)


class NothingSent(StoreBusy):
    """There is no server to send a command to; so it was not done, and will not be."""


class MongoDatabase:
    """One database of a server, replica set or sharded cluster. Used by one event loop."""

    def __init__(
        self,
        client: AsyncMongoClient[Document],
        name: str,
        *,
        busy_seconds: float = 10.0,
        connect_seconds: float = 5.0,
    ) -> None:
        """What is in a database.

        busy_seconds      how long one operation of the store may take before StoreBusy
        connect_seconds   how long a server to write to is looked for, where none is known
        """
        self.name = name
        self.client = client
        self.busy_seconds = busy_seconds
        self._connect_seconds = connect_seconds
        self._database = client.get_database(
            name, read_concern=ReadConcern("majority"), write_concern=WriteConcern(w="majority")
        )

    @classmethod
    def at(cls, url: str, name: str, *, busy_seconds: float, connect_seconds: float, **options: Any) -> Self:
        """The database of the server at a URL. Nothing is connected yet.

        url       mongodb:// or mongodb+srv://, with what the operator wants to set
        options   more of AsyncMongoClient
        Raises ValueError where the URL can not be read.
        """
        milliseconds = int(connect_seconds * 1000)
        options = {"serverSelectionTimeoutMS": milliseconds, "connectTimeoutMS": milliseconds, **options}
        try:
            client: AsyncMongoClient[Document] = AsyncMongoClient(url, appname="toimik", **options)
        except (PyMongoError, ValueError) as error:
            raise ValueError(f"the URL of the metadata store can not be read: {error}") from error
        return cls(client, name, busy_seconds=busy_seconds, connect_seconds=connect_seconds)

    @contextmanager
    def limited(self, seconds: float | None = None) -> Iterator[None]:
        """All that is done inside is done within `seconds` (None: busy_seconds), or raises StoreBusy.

        Inside of another limit the earlier end counts.
        """
        end = time.monotonic() + (self.busy_seconds if seconds is None else seconds)
        outer = _deadline.get()
        token = _deadline.set(end if outer is None else min(end, outer))
        try:
            with pymongo.timeout(_remaining()):
                yield
        finally:
            _deadline.reset(token)

    async def close(self) -> None:
        await self.client.close()

    async def command(self, name: str, *, on_admin: bool = False, **arguments: Any) -> Document:
        """The answer of a command, of the database or of the whole server."""
        database = self.client.get_database("admin") if on_admin else self._database
        return await self.run(lambda: database.command(name, **arguments))

    async def find(
        self,
        collection: str,
        wanted: Filter,
        *,
        projection: Mapping[str, int] | None = None,
        sort: Sequence[str] = (),
        descending: bool = False,
        limit: int = 0,
    ) -> list[Document]:
        """The documents in one answer of the server, up to 16 MiB; more than that comes in further ones."""
        direction = pymongo.DESCENDING if descending else pymongo.ASCENDING

        async def find() -> list[Document]:
            cursor = self._database[collection].find(
                wanted,
                projection,
                sort=[(name, direction) for name in sort] or None,
                limit=limit,
                batch_size=_ALL_IN_ONE_BATCH,
            )
            async with cursor:
                return await cursor.to_list()

        return await self.run(find)

    async def streamed(
        self,
        collection: str,
        wanted: Filter,
        order: tuple[str, ...],
        projection: Mapping[str, int] | None = None,
    ) -> AsyncGenerator[Document, None]:
        """Any number of documents, in the order of these fields, which name each of them."""
        last: Document | None = None
        while True:
            condition = {"$and": [wanted, _after(last, order)]} if last else wanted
            count = 0
            cursor = self._database[collection].find(
                condition, projection, sort=[(name, pymongo.ASCENDING) for name in order], batch_size=_STREAMED_AT_ONCE
            )
            async with cursor:
                while count < _STREAMED_BY_ONE_CURSOR:
                    with self.limited():
                        portion = await self._portion(cursor.to_list)
                    if not portion:
                        return
                    for last in portion:
                        yield last
                    count += len(portion)

    async def _portion(self, to_list: Callable[[int], Awaitable[list[Document]]]) -> list[Document]:
        return await self.run(lambda: to_list(_STREAMED_AT_ONCE), again=False)

    async def count(self, collection: str, wanted: Filter) -> int:
        return await self.run(lambda: self._database[collection].count_documents(wanted))

    async def estimate(self, collection: str) -> int:
        """About how many documents there are, from what the server keeps of the collection: it reads none of them.

        The command `count` is as cheap on MongoDB; other servers read all documents for it.
        """
        unread = self._database[collection].with_options(read_concern=ReadConcern("local"))  # it takes no other

        async def told() -> int:
            async with await unread.aggregate([{"$collStats": {"count": {}}}]) as shards:
                return sum([each["count"] async for each in shards])

        return await self.run(told)

    async def insert(self, collection: str, documents: Sequence[Document]) -> bool:
        """Insert in this order, up to the first whose key is there already: then False, and none after it."""
        return not await self._inserted(collection, documents, ordered=True)

    async def insert_missing(self, collection: str, documents: Sequence[Document]) -> None:
        """Insert all but those whose keys are there already."""
        await self._inserted(collection, documents, ordered=False)

    async def _inserted(self, collection: str, documents: Sequence[Document], *, ordered: bool) -> bool:
        """Whether a key was there already."""
        if not documents:
            return False

        async def insert() -> bool:
            try:
                await self._database[collection].insert_many(documents, ordered=ordered)
            except BulkWriteError as error:
                problem = _first_but_duplicates(error)
                if problem is not None:
                    raise problem from error
                return True
            return False

        return await self.run(insert)

    async def update(self, collection: str, wanted: Filter, change: Mapping[str, Any]) -> None:
        await self.run(lambda: self._database[collection].update_many(wanted, change))

    async def insert_and_update(
        self, collection: str, documents: Sequence[Document], wanted: Filter, change: Mapping[str, Any]
    ) -> bool:
        """Insert those documents that are not there, then update others, in one round trip.

        False: somebody inserts the same at this moment, and nobody knows which of it was done.
        """
        statements: list[UpdateOne | UpdateMany] = [
            UpdateOne(
                {name: document[name] for name in ("_id", "patient_key")},
                {"$setOnInsert": {name: document[name] for name in document.keys() - {"_id", "patient_key"}}},
                upsert=True,
            )
            for document in documents
        ]
        statements.append(UpdateMany(wanted, change))

        async def write() -> bool:
            try:
                await self._database[collection].bulk_write(statements)
            except BulkWriteError as error:
                problem = _first_but_duplicates(error)
                if problem is not None:
                    raise problem from error
                return False
            except KeyError:
                return False  # servers over SQLite answer a collision without what PyMongo expects to be counted
            return True

        return await self.run(write)

    async def replace(self, collection: str, document: Document, expected: Filter) -> None:
        """Put a document in the place of the one with its _id and patient_key, where that is as expected."""
        place = {**expected, "_id": document["_id"], "patient_key": document["patient_key"]}
        await self.run(lambda: self._database[collection].replace_one(place, document))

    async def delete(self, collection: str, wanted: Filter) -> None:
        await self.run(lambda: self._database[collection].delete_many(wanted))

    async def create_index(self, collection: str, keys: Sequence[str], **options: Any) -> None:
        index = [(name, pymongo.ASCENDING) for name in keys]
        await self.run(lambda: self._database[collection].create_index(index, **options))

    async def drop(self) -> None:
        """Drop the database, and all that is in it."""
        with self.limited():
            await self.run(lambda: self.client.drop_database(self.name))

    async def index_names(self, collection: str) -> frozenset[str]:
        """The names of the indexes that a collection has; none where there is no such collection."""

        async def listed() -> frozenset[str]:
            try:
                cursor = await self._database[collection].list_indexes()
                return frozenset([str(each["name"]) async for each in cursor])
            except OperationFailure as error:
                if error.code == _NAMESPACE_NOT_FOUND:
                    return frozenset()
                raise

        return await self.run(listed)

    async def wait(self, event: asyncio.Event) -> None:
        """Wait until `event` is set.

        Raises StoreBusy.
        """
        try:
            async with asyncio.timeout(_remaining()):
                await event.wait()
        except TimeoutError:
            raise StoreBusy("the metadata store is too slow: another change of the dossier is being written") from None

    async def run(self, send: Callable[[], Awaitable[_T]], *, again: bool = True) -> _T:
        """What `send` answers; sent again, after a pause, where the server means it to be.

        Raises StoreBusy, StoreFull, StoreDamaged.
        """
        pause = _FIRST_PAUSE_SECONDS
        sent = False
        while True:
            try:
                await self._find_a_server()
                return await send()
            except (TimeoutError, PyMongoError, BSONError, OSError) as error:
                if isinstance(error, ServerSelectionTimeoutError) and not sent:
                    raise NothingSent(f"the metadata store can not be reached: {_without_topology(error)}") from error
                sent = True
                if not again or not _to_be_tried_again(error) or _remaining() <= 0:
                    raise _named(error) from error
            await asyncio.sleep(min(pause * (0.5 + random.random()), _remaining()))  # noqa: S311 - a pause is no secret
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _find_a_server(self) -> None:
        """Under a limit PyMongo would look for one until its end."""
        if not self.client.topology_description.has_writable_server():
            with pymongo.timeout(min(self._connect_seconds, _remaining())):
                await self.client.admin.command("ping")


def _remaining() -> float:
    """Seconds until the limit that is set."""
    deadline = _deadline.get()
    if deadline is None:
        raise RuntimeError("a command was sent outside of MongoDatabase.limited()")
    return max(0.0, deadline - time.monotonic())


def _after(last: Document, order: Sequence[str]) -> Filter:
    """What comes after `last` in the order of these fields."""
    return {
        "$or": [
            {**{name: last[name] for name in order[:place]}, order[place]: {"$gt": last[order[place]]}}
            for place in range(len(order))
        ]
    }


def _first_but_duplicates(error: BulkWriteError) -> OperationFailure | None:
    """What went wrong with an insert other than that the key was there already."""
    details = error.details or {}
    problems = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    for problem in problems:
        if problem.get("code") != _DUPLICATE_KEY:
            return OperationFailure(str(problem.get("errmsg")), problem.get("code"), problem)
    return None


def _to_be_tried_again(error: Exception) -> bool:
    if isinstance(error, ServerSelectionTimeoutError):
        return False  # it was tried for connect_seconds
    if isinstance(error, ConnectionFailure):
        return True
    if isinstance(error, OperationFailure):
        return error.code in _TRY_AGAIN or error.has_error_label("RetryableWriteError")
    return False


def _without_topology(error: Exception) -> str:
    """The sentence without what the driver knows of every server: an operator reads this."""
    return str(error).partition(", Timeout: ")[0]


def _named(error: Exception) -> Exception:  # noqa: PLR0911 - a table of errors
    """The error as the port names it."""
    if isinstance(error, DocumentTooLarge):
        return StoreFull(f"a change is larger than the metadata store can keep: {error}")
    if isinstance(error, ConnectionFailure | WTimeoutError | TimeoutError | OSError):
        return StoreBusy(f"the metadata store can not be reached: {_without_topology(error)}")
    if isinstance(error, InvalidOperation):
        return StoreBusy(f"the metadata store is closed: {error}")
    if isinstance(error, OperationFailure):
        if error.code in _FULL:
            return StoreFull(f"the metadata store has no room left: {error}")
        if error.code in _TRY_AGAIN | _TOO_LATE or error.timeout:
            return StoreBusy(f"the metadata store can not answer now: {error}")
        if error.code in _NOT_ALLOWED:
            return StoreBusy(f"the metadata store does not let this server in: {error}")
    if isinstance(error, PyMongoError) and error.timeout:
        return StoreBusy(f"the metadata store is too slow: {error}")
    return StoreDamaged(f"the metadata store is not as it should be: {error}")
