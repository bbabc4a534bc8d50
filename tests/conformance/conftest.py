"""One running server for the tests of a module on each kind of stores, and a client for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.conformance.fhir_wire import FhirWire
from tests.conformance.wire import Wire, running_server
from tests.shared_stores import shared_stores


@pytest.fixture(scope="module", params=["sqlite+files", "mongodb+s3"])
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """Settings that name stores, which are empty."""
    data = {"data": tmp_path_factory.mktemp("server") / "data"}
    if request.param == "sqlite+files":
        yield data
        return
    servers = (request.getfixturevalue("mongodb_server"), request.getfixturevalue("s3_server"))
    with shared_stores(*servers) as settings:
        yield {**settings, **data}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(stores: Mapping[str, Any]) -> AsyncIterator[str]:
    """The base URL of a server with settings that are default but for the stores."""
    async with running_server(**stores) as base:
        yield base


@pytest_asyncio.fixture(loop_scope="module")
async def wire(server: str) -> AsyncIterator[Wire]:
    """A client of it."""
    async with aiohttp.ClientSession() as session:
        yield Wire(server, session)


@pytest_asyncio.fixture(loop_scope="module")
async def fhir(server: str) -> AsyncIterator[FhirWire]:
    """A FHIR client of it."""
    async with aiohttp.ClientSession() as session:
        yield FhirWire(server, session)


@pytest.fixture(scope="module")
def front() -> Mapping[str, Any]:
    """Settings of a server in front of the other one that are not default."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["here", "elsewhere"])
async def app(
    request: pytest.FixtureRequest, server: str, front: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[FhirWire]:
    """An app of the server, and one of another server in front of it."""
    async with aiohttp.ClientSession() as session:
        if request.param == "here":
            yield FhirWire(server, session)
            return
        urls = {"registry_url": f"{server}/xds/registry", "repository_url": f"{server}/xds/repository"}
        async with running_server(tmp_path_factory.mktemp("front"), actors=["mhd"], **urls, **front) as base:
            yield FhirWire(base, session)
