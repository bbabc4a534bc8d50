"""Answers of every size are whole where headers and bodies are sent without being joined."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
import trustme
from aiohttp import http_writer, web

from server.event_loop import run, send_without_joining
from server.pieces import in_pieces
from tests.served_app import served

LARGE = bytes(range(256)) * 4096


async def _large(_request: web.Request) -> web.Response:
    return web.Response(body=LARGE, headers={"ETag": '"large"'})


PIECES = ((b"alone",), (b"head", LARGE), (b"head", b"body"), (LARGE, b"end"), (b"", b"head", LARGE, b"end"))


async def _in_pieces(request: web.Request) -> web.Response:
    return in_pieces(PIECES[int(request.match_info["number"])])


async def _small(_request: web.Request) -> web.Response:
    return web.Response(body=b"small")


@asynccontextmanager
async def _served(tls: ssl.SSLContext | None) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/large", _large)
    app.router.add_get("/pieces/{number}", _in_pieces)
    app.router.add_get("/small", _small)
    async with served(app, tls=tls) as base:
        yield base.replace("127.0.0.1", "localhost")


@pytest.fixture(autouse=True)
def _unjoined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_writer, "SKIP_WRITELINES", http_writer.SKIP_WRITELINES)
    send_without_joining()


@pytest.mark.parametrize("has_tls", [False, True])
def test_an_answer_arrives_whole_and_the_connection_goes_on(*, has_tls: bool) -> None:
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)

    async def asked() -> None:
        connector = aiohttp.TCPConnector(ssl=client, limit=1)
        async with _served(server if has_tls else None) as base, aiohttp.ClientSession(connector=connector) as session:
            for _ in range(2):
                async with session.get(f"{base}/large") as answer:
                    assert await answer.read() == LARGE
                    assert answer.headers["Content-Length"] == str(len(LARGE))
                    assert answer.headers["ETag"] == '"large"'
                async with session.head(f"{base}/large") as answer:
                    assert answer.headers["Content-Length"] == str(len(LARGE))
                    assert await answer.read() == b""
                for number, pieces in enumerate(PIECES):
                    async with session.get(f"{base}/pieces/{number}") as answer:
                        assert await answer.read() == b"".join(pieces)
                    async with session.head(f"{base}/pieces/{number}") as answer:
                        assert answer.headers["Content-Length"] == str(sum(map(len, pieces)))
                async with session.get(f"{base}/small") as answer:
                    assert await answer.read() == b"small"

    run(asked())
