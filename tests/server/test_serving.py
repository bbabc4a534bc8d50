"""A server's life: TLS, several workers, stopping without losing an answer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import time
from pathlib import Path

import aiohttp
import psutil
import pytest
import trustme

from server.settings.operation import TlsSettings
from server.tls import CannotServe, server_context
from tests.builders import CONTENT, document_entry, submission, unmeasured
from tests.conformance.wire import Wire, envelope, running_server
from tests.server_process import server_process
from xds.ebxml_messages import provide_request
from xds.mtom import Package, PartToWrite
from xds.transactions import ITI_41


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificates(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """PEM files of a server, as an operator would configure them."""
    folder = tmp_path_factory.mktemp("certificates")
    issued = authority.issue_cert("127.0.0.1")
    paths = {name: folder / f"{name}.pem" for name in ("certificate", "key", "client_ca")}
    issued.private_key_pem.write_to_path(paths["key"])
    authority.cert_pem.write_to_path(paths["client_ca"])
    with paths["certificate"].open("wb") as file:
        file.writelines(blob.bytes() for blob in issued.cert_chain_pems)
    return paths


def client_context(authority: trustme.CA, *, with_certificate: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if with_certificate:
        authority.issue_cert("client@example.org").configure_cert(context)
    return context


async def is_live(base: str, context: ssl.SSLContext) -> bool:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.get(f"{base}/health/live") as response,
    ):
        return response.status == 200


def told_of_handshakes(log: pytest.LogCaptureFixture) -> set[str]:
    """Why handshakes failed, of which there may be two: some clients try again."""
    return {record.__dict__["why"] for record in log.records if record.name == "server.tls"}


async def test_a_server_with_a_certificate_speaks_tls(
    tmp_path: Path, authority: trustme.CA, certificates: dict[str, Path]
) -> None:
    tls = {"certificate": certificates["certificate"], "key": certificates["key"]}

    async with running_server(tmp_path / "data", tls=tls) as base:
        assert base.startswith("https://")
        assert await is_live(base, client_context(authority, with_certificate=False))


async def test_a_client_without_a_certificate_is_turned_away_where_one_is_required_and_the_log_says_why(
    tmp_path: Path, authority: trustme.CA, certificates: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    async with running_server(tmp_path / "data", tls={**certificates, "client_certificate": "required"}) as base:
        assert await is_live(base, client_context(authority, with_certificate=True))
        with pytest.raises((aiohttp.ClientError, ConnectionError, ssl.SSLError)):
            await is_live(base, client_context(authority, with_certificate=False))

    assert told_of_handshakes(caplog) == {"PEER_DID_NOT_RETURN_A_CERTIFICATE"}


async def test_a_client_certificate_may_be_left_out_where_it_is_optional(
    tmp_path: Path, authority: trustme.CA, certificates: dict[str, Path]
) -> None:
    async with running_server(tmp_path / "data", tls={**certificates, "client_certificate": "optional"}) as base:
        assert await is_live(base, client_context(authority, with_certificate=False))


async def test_a_client_of_another_authority_is_turned_away_and_the_log_says_why(
    tmp_path: Path, authority: trustme.CA, certificates: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    stranger = client_context(authority, with_certificate=False)
    trustme.CA().issue_cert("stranger@example.org").configure_cert(stranger)

    async with running_server(tmp_path / "data", tls={**certificates, "client_certificate": "optional"}) as base:
        with pytest.raises((aiohttp.ClientError, ConnectionError, ssl.SSLError)):
            await is_live(base, stranger)

    assert told_of_handshakes(caplog) == {"unable to get local issuer certificate"}


def test_a_certificate_that_can_not_be_read_is_named(tmp_path: Path, certificates: dict[str, Path]) -> None:
    missing = tmp_path / "nothing.pem"

    with pytest.raises(CannotServe, match=r"nothing\.pem"):
        server_context(TlsSettings(certificate=missing, key=certificates["key"]))


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotServe, match=str(port)):
            async with running_server(tmp_path / "data", port=port):
                pass


async def test_readiness_names_the_part_that_can_not_work(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path / "data", limits={"min_free_bytes": 2**62}) as base,
        aiohttp.ClientSession() as session,
        session.get(f"{base}/health/ready") as response,
    ):
        assert response.status == 503
        assert (await response.json())["parts"] == {"metadata store": "ready", "document store": "not ready"}


# Processes ---------------------------------------------------------------------------------------------------------


def provide_message() -> tuple[bytes, str]:
    """An ITI-41 as bytes, and its Content-Type."""
    entry = unmeasured(document_entry())
    root = envelope(ITI_41, provide_request(submission(entry), [(entry.entry_uuid, "d@example.org")]))
    package = Package(root, [PartToWrite("d@example.org", "text/plain", len(CONTENT))])
    return package.head() + package.part_head(0) + CONTENT + package.tail(), package.content_type


async def half_sent(base: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """A request that is being served, of which the last bytes are still to come."""
    message, content_type = provide_message()
    host, port = base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /xds/repository HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(message)}"
    writer.write(f"{head}\r\nExpect: 100-continue\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    writer.write(message[:-10])
    await writer.drain()
    return reader, writer, message[-10:]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_request_in_flight_is_finished_before_the_server_stops(tmp_path: Path, workers: int) -> None:
    with server_process(tmp_path / "data", workers=workers) as server:
        reader, writer, rest = await half_sent(server.url)
        server.process.terminate()
        await asyncio.sleep(0.5)

        writer.write(rest)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()

        assert b"ResponseStatusType:Success" in answer
        assert server.process.wait(timeout=20) == 0


async def test_several_workers_answer_as_one_server(tmp_path: Path) -> None:
    with server_process(tmp_path / "data", workers=2) as server:
        for _ in range(10):  # each on a connection of its own, so that both workers get some
            entry = unmeasured(document_entry())
            async with aiohttp.ClientSession() as session:
                provided = await Wire(server.url, session).provide(submission(entry), {entry.entry_uuid: CONTENT})
            async with aiohttp.ClientSession() as session:
                found = await Wire(server.url, session).query(
                    "GetDocuments", "ObjectRef", XDSDocumentEntryUniqueId=f"('{entry.unique_id}')"
                )
            assert provided.registry_response.succeeded
            assert [each.entry_uuid for each in found.query_response.found] == [entry.entry_uuid]


async def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    with server_process(tmp_path / "data", workers=2) as server:
        workers = psutil.Process(server.process.pid).children()
        workers[0].kill()

        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            alive = {child.pid for child in psutil.Process(server.process.pid).children()} - {workers[0].pid}
            if len(alive) == 2:
                break
            await asyncio.sleep(0.1)

        assert len(alive) == 2


async def test_workers_do_not_outlive_the_process_that_started_them(tmp_path: Path) -> None:
    with server_process(tmp_path / "data", workers=2) as server:
        workers = psutil.Process(server.process.pid).children()
        server.process.send_signal(signal.SIGKILL)

        with contextlib.suppress(psutil.NoSuchProcess):
            _, alive = await asyncio.to_thread(psutil.wait_procs, workers, 20)
            assert alive == []


# Other servers -----------------------------------------------------------------------------------------------------


async def test_a_repository_shows_its_certificate_to_a_registry_that_wants_one(
    tmp_path: Path, authority: trustme.CA, certificates: dict[str, Path]
) -> None:
    shown = {name: certificates[name] for name in ("certificate", "key")}
    entry = unmeasured(document_entry())

    async with (
        running_server(
            tmp_path / "registry", actors=["registry"], tls={**certificates, "client_certificate": "required"}
        ) as registry,
        running_server(
            tmp_path / "repository",
            actors=["repository"],
            registry_url=f"{registry}/xds/registry",
            tls={**shown, "trusted_servers": certificates["client_ca"]},
        ) as repository,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=client_context(authority, with_certificate=True))
        ) as session,
    ):
        provided = await Wire(repository, session).provide(submission(entry), {entry.entry_uuid: CONTENT})
        found = await Wire(registry, session).query(
            "GetDocuments", "ObjectRef", XDSDocumentEntryUniqueId=f"('{entry.unique_id}')"
        )

    assert provided.registry_response.succeeded, provided.content
    assert [each.entry_uuid for each in found.query_response.found] == [entry.entry_uuid]


async def test_a_repository_whose_registry_is_gone_says_so_and_keeps_nothing(tmp_path: Path) -> None:
    entry = unmeasured(document_entry())

    async with (
        running_server(
            tmp_path / "data", actors=["repository"], registry_url="http://127.0.0.1:9/xds/registry"
        ) as repository,
        aiohttp.ClientSession() as session,
    ):
        answer = await Wire(repository, session).provide(submission(entry), {entry.entry_uuid: CONTENT})

    assert answer.codes == ["XDSRegistryNotAvailable"]
    assert [path for path in (tmp_path / "data" / "documents").rglob("*") if path.is_file()] == []


def test_the_log_quotes_nothing_of_a_request_that_is_no_http(tmp_path: Path) -> None:
    with server_process(tmp_path / "data") as server, socket.create_connection(_address(server.url)) as connection:
        connection.sendall(b"GET /fhir/DocumentReference?patient.identifier=" + b"SECRET" * 2000 + b" HTTP/1.1\r\n\r\n")
        answer = connection.recv(1000)

    log = (tmp_path / "data.log").read_text()
    assert b" 400 " in answer.splitlines()[0]
    assert "is no HTTP, or too long" in log
    assert "SECRET" not in log


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)
