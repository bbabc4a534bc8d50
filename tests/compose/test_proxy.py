"""The proxy of the cluster passes everything on as it comes, and only to nodes that can work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.builders import document_entry, submission, unmeasured
from tests.compose.running_proxy import CONFIGURATION, Proxy, needs_haproxy, running_proxy
from tests.conformance.wire import Wire, envelope
from tests.server_process import server_process
from xds.ebxml_messages import provide_request
from xds.mtom import Package, PartToWrite
from xds.transactions import ITI_41

MIB = 1024 * 1024

pytestmark = needs_haproxy


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path]:
    """Where the nodes keep what they get: each its own."""
    return tmp_path / "node1", tmp_path / "node2"


@pytest.fixture
def proxy(tmp_path: Path, data: tuple[Path, Path]) -> Iterator[Proxy]:
    with (
        server_process(data[0]) as first,
        server_process(data[1]) as second,
        running_proxy(tmp_path, (first, second)) as running,
    ):
        yield running


async def provided(proxy: Proxy, content: bytes) -> str:
    """An ITI-41 through the proxy; the status it was answered with."""
    entry = unmeasured(document_entry())
    async with proxy.session() as session:
        reply = await Wire(proxy.url, session).provide(submission(entry), {entry.entry_uuid: content})
    return reply.registry_response.status.name


async def test_documents_pass_through_the_proxy(proxy: Proxy) -> None:
    await proxy.ready()

    assert await provided(proxy, b"x" * MIB) == "SUCCESS"


async def test_metrics_and_health_are_not_told_to_the_world(proxy: Proxy) -> None:
    await proxy.ready()
    async with proxy.session() as session:
        for path, status in (
            ("/metrics", 404),
            ("/health/ready", 404),
            ("/", 200),
            ("/xds/registry?wsdl", 200),
            ("/fhir", 405),
            ("/fhir/metadata", 200),
            ("/fhirx", 404),
        ):
            async with session.get(f"{proxy.url}{path}") as response:
                assert response.status == status, path


async def test_a_node_gets_a_document_while_it_is_sent_however_long_that_takes(
    proxy: Proxy, data: tuple[Path, Path]
) -> None:
    """No part of a request waits in the proxy, and its timeouts are about silence, not about duration."""
    await proxy.ready()
    entry = unmeasured(document_entry())
    size = 4 * MIB
    root = envelope(ITI_41, provide_request(submission(entry), [(entry.entry_uuid, "d@example.org")]))
    package = Package(root, [PartToWrite("d@example.org", "text/plain", size)])
    seen: list[int] = []

    async def slowly() -> AsyncIterator[bytes]:
        yield package.head() + package.part_head(0)
        for _ in range(4):  # as long as two timeouts
            yield b"x" * (size // 4)
            await asyncio.sleep(1.4)
            seen.append(stored_bytes(data))
        yield package.tail()

    async with (
        proxy.session() as session,
        session.post(
            f"{proxy.url}/xds/repository", data=slowly(), headers={"Content-Type": package.content_type}
        ) as response,
    ):
        answer = await response.text()

    assert "ResponseStatusType:Success" in answer
    # What had been sent was with a node, but for what is under way in buffers.
    assert all(stored > sent * MIB - MIB for sent, stored in enumerate(seen, 1)), seen


def stored_bytes(data: tuple[Path, Path]) -> int:
    files = [path for each in data for path in (each / "documents").rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)


async def test_when_a_node_is_killed_the_other_one_takes_over(proxy: Proxy) -> None:
    await proxy.ready()
    proxy.nodes[0].kill()

    # At once: nobody has noticed yet, and a refused connection is tried on the other node.
    assert [await provided(proxy, b"Toimik") for _ in range(6)] == ["SUCCESS"] * 6


def test_requests_are_not_held_back_in_the_proxy() -> None:
    text = "\n".join(line.partition("#")[0] for line in CONFIGURATION.read_text(encoding="utf-8").splitlines())

    assert "http-buffer-request" not in text
    assert "retry-on" not in text, "a request that was sent must not be sent again"
