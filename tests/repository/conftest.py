"""Stores to run each promise on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from repository.document_store import DocumentStore
from repository.document_store_filesystem import FilesystemDocumentStore

ADAPTERS: dict[str, Callable[[Path], DocumentStore]] = {
    "filesystem": lambda place: FilesystemDocumentStore(place / "documents"),
}


@pytest.fixture(params=sorted(ADAPTERS))
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], DocumentStore]:
    """Opens the same store each time, as several worker processes do."""
    adapter = ADAPTERS[request.param]
    return lambda: adapter(tmp_path)


@pytest.fixture
async def documents(open_store: Callable[[], DocumentStore]) -> AsyncIterator[DocumentStore]:
    """An empty store of each kind."""
    store = open_store()
    yield store
    await store.close()
