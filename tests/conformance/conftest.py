"""One running server for the tests of a module, and a client for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.conformance.wire import Wire, running_server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The base URL of a server with default settings."""
    async with running_server(tmp_path_factory.mktemp("server") / "data") as base:
        yield base


@pytest_asyncio.fixture(loop_scope="module")
async def wire(server: str) -> AsyncIterator[Wire]:
    """A client of it."""
    async with aiohttp.ClientSession() as session:
        yield Wire(server, session)
