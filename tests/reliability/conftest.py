"""Servers of their own for tests that kill them, and stores that several nodes share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest

from tests.registry.stores import some_database
from tests.reliability.cluster import Cluster, running_cluster
from tests.reliability.shared_stores import SharedStores
from tests.store_servers import (
    IS_REQUIRED,
    OwnStoreServer,
    StoreServer,
    StoreServerAbsent,
    running_mongodb,
    running_s3,
)

T = TypeVar("T")


def there_or_skipped(running: AbstractContextManager[T]) -> Iterator[T]:
    """What needs servers; the test is skipped where there are none, and fails where there must be some."""
    try:
        with running as it:
            yield it
    except StoreServerAbsent as absent:
        if IS_REQUIRED:
            pytest.fail(str(absent))
        pytest.skip(str(absent))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes in processes of their own, and two stores, all of which can be killed."""
    yield from there_or_skipped(running_cluster(tmp_path))


@pytest.fixture
def own_mongodb_server() -> Iterator[OwnStoreServer]:
    """A MongoDB server that can be killed."""
    for server in there_or_skipped(running_mongodb(killable=True)):
        assert isinstance(server, OwnStoreServer)
        yield server


@pytest.fixture
def own_s3_server() -> Iterator[OwnStoreServer]:
    """An S3 server that can be killed."""
    for server in there_or_skipped(running_s3(killable=True)):
        assert isinstance(server, OwnStoreServer)
        yield server


@pytest.fixture
def stores(mongodb_server: StoreServer, s3_server: StoreServer) -> Iterator[SharedStores]:
    """A database and a prefix that no other test has."""
    with some_database(mongodb_server.url) as database:
        yield SharedStores(mongodb_server, s3_server, database=database, prefix=uuid4().hex)
