"""What tests of the registry are given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.metadata_store import MetadataStore
from tests.registry.memory_store import MemoryStore
from tests.registry.stores import ADAPTERS, opening_of
from xds.ebxml_writer import codec


@pytest.fixture(params=("memory", *ADAPTERS))
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MetadataStore]:
    """An empty store of each adapter, and the one in memory that is what they should be."""
    if request.param == "memory":
        yield MemoryStore(codec)
        return
    async with opening_of(request.param, request, tmp_path, codec) as opening:
        yield await opening()
