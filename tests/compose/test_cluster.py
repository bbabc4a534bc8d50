"""The cluster works as its compose file says: settings, secrets, `toimik migrate` and proxy, without containers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from tests.builders import document_entry, submission, unmeasured
from tests.compose.compose_files import CLUSTER, COMPOSE, ROOT, interpolated, services
from tests.compose.running_proxy import Proxy, needs_haproxy, running_proxy
from tests.conformance.wire import Wire
from tests.reliability.kill_the_server import deep_check
from tests.server_process import server_process
from tests.store_servers import StoreServer
from xds.actors import DocumentRequest
from xds.ebxml_messages import retrieve_request
from xds.metadata import DocumentEntry
from xds.transactions import ITI_43

REPOSITORY = "1.2.3.4"

pytestmark = [needs_haproxy, pytest.mark.slow]


@dataclass(frozen=True)
class Cluster:
    """Two nodes on the same stores, and the proxy before them."""

    proxy: Proxy
    environment: Mapping[str, str]

    async def provided(self, content: bytes) -> DocumentEntry:
        """A document with ITI-41, through the proxy."""
        entry = unmeasured(document_entry())
        async with self.proxy.session() as session:
            reply = await Wire(self.proxy.url, session).provide(submission(entry), {entry.entry_uuid: content})
        assert reply.registry_response.succeeded, reply.content
        return entry

    async def retrieved(self, entry: DocumentEntry) -> bytes:
        """The document of an entry with ITI-43, through the proxy."""
        async with self.proxy.session() as session:
            return await retrieved_from(Wire(self.proxy.url, session), entry)


async def retrieved_from(wire: Wire, entry: DocumentEntry) -> bytes:
    found = await wire.query("GetDocuments", "ObjectRef", XDSDocumentEntryUniqueId=f"('{entry.unique_id}')")
    assert [each.entry_uuid for each in found.query_response.found] == [entry.entry_uuid]
    reply = await wire.mtom(ITI_43, retrieve_request([DocumentRequest(REPOSITORY, entry.unique_id or "")]))
    (document,) = reply.retrieved.documents
    return reply.parts[document.content_id or ""]


@pytest.fixture
def environment(tmp_path: Path, mongodb_server: StoreServer, s3_server: StoreServer) -> dict[str, str]:
    """A node's, from the compose file, but for where the stores are: here, and a part of them for this test alone."""
    secrets = tmp_path / "run-secrets"
    secrets.mkdir()
    values = (mongodb_server.url, s3_server.access_key, s3_server.secret_key)
    for name, value in zip(services(CLUSTER)["toimik1"]["secrets"], values, strict=True):
        (secrets / name).write_text(value, encoding="utf-8")
    given = services(CLUSTER)["toimik1"]["environment"]
    own = uuid4().hex
    return {
        **{name: interpolated(value, {"TOIMIK_REPOSITORY_UNIQUE_ID": REPOSITORY}) for name, value in given.items()},
        "TOIMIK_SECRETS": str(secrets),
        "TOIMIK_DOCUMENTS__S3_ENDPOINT": s3_server.url,
        "TOIMIK_DOCUMENTS__S3_BUCKET": f"toimik-{own}",
        "TOIMIK_METADATA__MONGODB_DATABASE": f"toimik-{own}",
    }


@pytest.fixture
def cluster(tmp_path: Path, environment: dict[str, str]) -> Iterator[Cluster]:
    toimik(services(CLUSTER)["migrate"]["command"], environment)
    with (
        server_process(tmp_path / "node1", environment=environment) as first,
        server_process(tmp_path / "node2", environment=environment) as second,
        running_proxy(tmp_path, (first, second)) as proxy,
    ):
        yield Cluster(proxy, environment)


def toimik(arguments: list[str], environment: Mapping[str, str]) -> None:
    """Run a command as a container of the cluster does."""
    command = [word.replace("/etc/toimik.toml", str(COMPOSE / "toimik.toml")) for word in arguments]
    finished = subprocess.run(
        [sys.executable, "-m", "server", *command],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"


async def test_what_one_node_took_the_other_one_serves(cluster: Cluster) -> None:
    await cluster.proxy.ready()
    contents = [f"Toimik {number}".encode() for number in range(4)]
    entries = [await cluster.provided(content) for content in contents]

    cluster.proxy.nodes[0].kill()

    assert [await cluster.retrieved(entry) for entry in entries] == contents


async def test_a_portable_copy_of_a_working_cluster_needs_neither_mongodb_nor_s3(
    cluster: Cluster, tmp_path: Path
) -> None:
    await cluster.proxy.ready()
    entry = await cluster.provided(b"Toimik")
    portable = tmp_path / "portable"

    toimik(
        ["migrate", "--config", "/etc/toimik.toml", "--from", "mongodb", "--to", "sqlite"],
        {**cluster.environment, "TOIMIK_DATA": str(portable)},
    )

    embedded = {"TOIMIK_REPOSITORY_UNIQUE_ID": REPOSITORY}
    with server_process(portable, environment=embedded) as server:
        async with aiohttp.ClientSession() as session:
            assert await retrieved_from(Wire(server.url, session), entry) == b"Toimik"
    assert deep_check(portable) == []
