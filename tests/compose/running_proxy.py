"""The proxy of the cluster, run as it is configured, in front of two servers of a test. Needs haproxy on the PATH."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import trustme

from tests.compose.compose_files import CLUSTER, COMPOSE, services
from tests.server_process import ServerProcess, free_port

CONFIGURATION = COMPOSE / "haproxy/haproxy.cfg"
_PATIENCE_SECONDS = 20

needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="there is no haproxy on the PATH")


@dataclass(frozen=True)
class Proxy:
    """A proxy before two nodes."""

    url: str
    metrics: str
    tls: ssl.SSLContext
    nodes: tuple[ServerProcess, ServerProcess]

    def session(self) -> aiohttp.ClientSession:
        """Each has connections of its own."""
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.tls))

    async def ready(self) -> None:
        """Wait until the proxy listens, and takes both nodes for able to work."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (number := await self._nodes_up()) != len(self.nodes):
            assert time.monotonic() < deadline, number
            await asyncio.sleep(0.1)

    async def _nodes_up(self) -> int:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.metrics}/metrics") as response:
                lines = (await response.text()).splitlines()
        except aiohttp.ClientError:
            return 0
        checked = [each for each in lines if each.startswith("haproxy_server_check_status{") and 'state="L7OK"' in each]
        return sum(int(float(each.rpartition(" ")[2])) for each in checked)


@contextmanager
def running_proxy(directory: Path, nodes: tuple[ServerProcess, ServerProcess]) -> Iterator[Proxy]:
    """haproxy.cfg as it is, but for its timeouts, which are a thirtieth: what depends on them need not take minutes."""
    authority = trustme.CA()
    certificate = directory / "proxy.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    configuration = directory / "haproxy.cfg"
    shortened = CONFIGURATION.read_text(encoding="utf-8").replace(" 75s", " 2500ms")
    assert shortened.count(" 2500ms") == 2
    configuration.write_text(shortened, encoding="utf-8")
    variables = {
        "PROXY_BIND": f"127.0.0.1:{free_port()}",
        "PROXY_METRICS_BIND": f"127.0.0.1:{free_port()}",
        "PROXY_CERTIFICATE": str(certificate),
        "TOIMIK_NODE_1": nodes[0].url.removeprefix("http://"),
        "TOIMIK_NODE_2": nodes[1].url.removeprefix("http://"),
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
    with (directory / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(["haproxy", "-db", "-f", configuration], env=environment, stdout=log, stderr=log)
    try:
        yield Proxy(f"https://{variables['PROXY_BIND']}", f"http://{variables['PROXY_METRICS_BIND']}", context, nodes)
    finally:
        process.kill()
        process.wait()
