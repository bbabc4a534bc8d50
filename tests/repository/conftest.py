"""Stores to run each promise on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from repository.document_store import DocumentStore
from repository.document_store_filesystem import FilesystemDocumentStore
from repository.document_store_s3 import S3DocumentStore
from repository.s3_client import SMALLEST_PART, Bucket
from tests.store_servers import StoreServer


def _on_filesystem(request: pytest.FixtureRequest) -> Callable[[], DocumentStore]:
    place: Path = request.getfixturevalue("tmp_path")
    return lambda: FilesystemDocumentStore(place / "documents")


def _on_s3(request: pytest.FixtureRequest) -> Callable[[], DocumentStore]:
    bucket: Bucket = request.getfixturevalue("bucket")
    prefix = uuid4().hex
    return lambda: S3DocumentStore(bucket, prefix=prefix, part_bytes=SMALLEST_PART)


ADAPTERS: dict[str, Callable[[pytest.FixtureRequest], Callable[[], DocumentStore]]] = {
    "filesystem": _on_filesystem,
    "s3": _on_s3,
}


@pytest.fixture
def bucket(s3_server: StoreServer) -> Bucket:
    """A bucket that all tests share; each test has a prefix of its own in it."""
    return Bucket(
        endpoint=s3_server.url, name="toimik", access_key=s3_server.access_key, secret_key=s3_server.secret_key
    )


@pytest.fixture(params=sorted(ADAPTERS))
def open_store(request: pytest.FixtureRequest) -> Callable[[], DocumentStore]:
    """Opens the same store each time, as several worker processes do."""
    return ADAPTERS[request.param](request)


@pytest.fixture
async def documents(open_store: Callable[[], DocumentStore]) -> AsyncIterator[DocumentStore]:
    """An empty store of each kind."""
    store = open_store()
    yield store
    await store.close()
