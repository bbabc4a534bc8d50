"""Large answers, whose headers are handed over before their bodies, are as any other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from server.headers_first import headers_first

LARGE = bytes(range(256)) * 4096


async def _large(_request: web.Request) -> web.Response:
    return web.Response(body=LARGE, headers={"ETag": '"large"'})


async def _small(_request: web.Request) -> web.Response:
    return web.Response(body=b"small")


@pytest.fixture
async def client() -> AsyncIterator[TestClient[web.Request, web.Application]]:
    app = web.Application(middlewares=[headers_first])
    app.router.add_get("/large", _large)
    app.router.add_get("/small", _small)
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_it_arrives_whole_and_the_connection_goes_on(client: TestClient[web.Request, web.Application]) -> None:
    for _ in range(2):
        async with client.get("/large") as answer:
            assert await answer.read() == LARGE
            assert answer.headers["Content-Length"] == str(len(LARGE))
            assert answer.headers["ETag"] == '"large"'
        async with client.get("/small") as answer:
            assert await answer.read() == b"small"


async def test_who_asks_for_the_headers_gets_no_more(client: TestClient[web.Request, web.Application]) -> None:
    async with client.head("/large") as answer:
        assert answer.headers["Content-Length"] == str(len(LARGE))
        assert await answer.read() == b""
    async with client.get("/small") as answer:
        assert await answer.read() == b"small"
