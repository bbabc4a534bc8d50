"""Nodes and stores that can be killed, and stores that several nodes share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.registry.stores import some_database
from tests.reliability.cluster import Cluster, running_cluster
from tests.reliability.shared_stores import SharedStores
from tests.store_servers import StoreServer, there_or_skipped


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes in processes of their own, and two stores, all of which can be killed."""
    yield from there_or_skipped(running_cluster(tmp_path))


@pytest.fixture
def stores(mongodb_server: StoreServer, s3_server: StoreServer) -> Iterator[SharedStores]:
    """A database and a prefix that no other test has."""
    with some_database(mongodb_server.url) as database:
        yield SharedStores(mongodb_server, s3_server, database=database, prefix=uuid4().hex)
