"""The proxy of the cluster, as it is configured, in front of two real servers. Needs haproxy on the PATH."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import trustme

from tests.builders import document_entry, submission, unmeasured
from tests.compose.compose_files import CLUSTER, COMPOSE, services
from tests.conformance.wire import Wire, envelope
from tests.server_process import ServerProcess, free_port, server_process
from xds.ebxml_messages import provide_request
from xds.mtom import Package, PartToWrite
from xds.transactions import ITI_41

CONFIGURATION = COMPOSE / "haproxy/haproxy.cfg"
PATIENCE_SECONDS = 20
MIB = 1024 * 1024

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="there is no haproxy on the PATH")


@dataclass(frozen=True)
class Proxy:
    """A proxy before two nodes."""

    url: str
    metrics: str
    tls: ssl.SSLContext
    nodes: tuple[ServerProcess, ServerProcess]
    data: tuple[Path, Path]

    def session(self) -> aiohttp.ClientSession:
        """Each has connections of its own."""
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.tls))


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    """haproxy.cfg as it is, but for its timeouts, which are a thirtieth: what depends on them need not take minutes."""
    authority = trustme.CA()
    certificate = tmp_path / "proxy.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    configuration = tmp_path / "haproxy.cfg"
    shortened = CONFIGURATION.read_text(encoding="utf-8").replace(" 75s", " 2500ms")
    assert shortened.count(" 2500ms") == 2
    configuration.write_text(shortened, encoding="utf-8")
    data = (tmp_path / "node1", tmp_path / "node2")
    with server_process(data[0]) as first, server_process(data[1]) as second:
        variables = {
            "PROXY_BIND": f"127.0.0.1:{free_port()}",
            "PROXY_METRICS_BIND": f"127.0.0.1:{free_port()}",
            "PROXY_CERTIFICATE": str(certificate),
            "TOIMIK_NODE_1": first.url.removeprefix("http://"),
            "TOIMIK_NODE_2": second.url.removeprefix("http://"),
        }
        assert variables.keys() == services(CLUSTER)["proxy"]["environment"].keys()
        environment = {**os.environ, **variables}
        checked = subprocess.run(
            ["haproxy", "-c", "-f", configuration], env=environment, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
        assert "WARNING" not in checked.stderr
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with (tmp_path / "haproxy.log").open("wb") as log:
            process = subprocess.Popen(["haproxy", "-db", "-f", configuration], env=environment, stdout=log, stderr=log)
        try:
            url, metrics = f"https://{variables['PROXY_BIND']}", f"http://{variables['PROXY_METRICS_BIND']}"
            yield Proxy(url, metrics, context, (first, second), data)
        finally:
            process.kill()
            process.wait()


async def ready(proxy: Proxy) -> None:
    """Until the proxy listens and has seen both nodes."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (both := await up(proxy)) != 2:
        assert time.monotonic() < deadline, both
        await asyncio.sleep(0.1)


async def up(proxy: Proxy) -> int:
    """How many nodes the proxy takes for able to work."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{proxy.metrics}/metrics") as response:
            lines = (await response.text()).splitlines()
    except aiohttp.ClientError:
        return 0
    checked = [line for line in lines if line.startswith("haproxy_server_check_status{") and 'state="L7OK"' in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in checked)


async def provided(proxy: Proxy, content: bytes) -> str:
    """An ITI-41 through the proxy; the status it was answered with."""
    entry = unmeasured(document_entry())
    async with proxy.session() as session:
        reply = await Wire(proxy.url, session).provide(submission(entry), {entry.entry_uuid: content})
    return reply.registry_response.status.name


async def test_documents_pass_through_the_proxy(proxy: Proxy) -> None:
    await ready(proxy)

    assert await provided(proxy, b"x" * MIB) == "SUCCESS"


async def test_metrics_and_health_are_not_told_to_the_world(proxy: Proxy) -> None:
    await ready(proxy)
    async with proxy.session() as session:
        for path, status in (("/metrics", 404), ("/health/ready", 404), ("/", 200), ("/xds/registry?wsdl", 200)):
            async with session.get(f"{proxy.url}{path}") as response:
                assert response.status == status, path


async def test_a_node_gets_a_document_while_it_is_sent_however_long_that_takes(proxy: Proxy) -> None:
    """No part of a request waits in the proxy, and its timeouts are about silence, not about duration."""
    await ready(proxy)
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
            seen.append(stored_bytes(proxy))
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


def stored_bytes(proxy: Proxy) -> int:
    files = [path for data in proxy.data for path in (data / "documents").rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)


async def test_when_a_node_is_killed_the_other_one_takes_over(proxy: Proxy) -> None:
    await ready(proxy)
    proxy.nodes[0].kill()

    # At once: nobody has noticed yet, and a refused connection is tried on the other node.
    assert [await provided(proxy, b"Toimik") for _ in range(6)] == ["SUCCESS"] * 6


def test_requests_are_not_held_back_in_the_proxy() -> None:
    text = "\n".join(line.partition("#")[0] for line in CONFIGURATION.read_text(encoding="utf-8").splitlines())

    assert "http-buffer-request" not in text
    assert "retry-on" not in text, "a request that was sent must not be sent again"
