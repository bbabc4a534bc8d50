"""The metadata stores that promises are tested on, and databases on a MongoDB server: one for each test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import pymongo
import pytest

from registry.metadata_store import MetadataStore
from registry.metadata_store_mongodb import MongoMetadataStore
from registry.metadata_store_sqlite import SqliteMetadataStore
from tests.store_servers import StoreServer
from xds.actors import ObjectCodec, Registration
from xds.metadata import AnyObject, Association

ADAPTERS = ("sqlite", "mongodb")

PATIENT_SECONDS = 60.0
"""How long a store may be busy before it says so, where a test is not about that: other tests may keep the machine."""

Opening: TypeAlias = Callable[[], Awaitable[MetadataStore]]


class TellingRenderer:
    """Renders what it was told, in place of FHIR."""

    def rendered(self, item: AnyObject, registration: Registration) -> bytes | None:
        if isinstance(item, Association):
            return None
        told = (registration.patient_key, registration.last_updated, registration.submitted)
        return json.dumps([item.entry_uuid, item.availability_status, *told]).encode()


@asynccontextmanager
async def opening_of(
    adapter: str, request: pytest.FixtureRequest, directory: Path, codec: ObjectCodec
) -> AsyncIterator[Opening]:
    """What opens one and the same store, as often as it is called. All are closed in the end."""
    stores: list[MetadataStore] = []

    async def open_sqlite() -> MetadataStore:
        stores.append(SqliteMetadataStore(directory / "registry.sqlite", codec=codec, busy_seconds=PATIENT_SECONDS))
        return stores[-1]

    if adapter == "sqlite":
        yield open_sqlite
        for store in stores:
            await store.close()
        return

    server: StoreServer = request.getfixturevalue("mongodb_server")
    with some_database(server.url) as name:

        async def open_mongodb() -> MetadataStore:
            opened = MongoMetadataStore.opened(server.url, database=name, codec=codec, busy_seconds=PATIENT_SECONDS)
            stores.append(await opened)
            return stores[-1]

        yield open_mongodb
        for store in stores:
            await store.close()


@contextmanager
def some_database(url: str) -> Iterator[str]:
    """The name of a database that no other test has, and that is dropped in the end."""
    name = f"toimik-test-{uuid4().hex[:16]}"
    yield name
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(url)
    try:
        client.drop_database(name)
    finally:
        client.close()
