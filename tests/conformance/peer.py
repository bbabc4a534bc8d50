"""One client and one real server, for tests that have to know what the server keeps and what it complains of."""

from __future__ import annotations

import http.client
import json
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pymongo
import pytest
from typer.testing import CliRunner

from repository.s3_layout import Layout
from server.__main__ import command_line
from server.store_opening import DOCUMENTS_DIRECTORY, METADATA_FILE
from tests.builders import PATIENT_AUTHORITY
from tests.conformance.wire import envelope, reply
from tests.server.running_server import running_server
from tests.shared_stores import as_environment, left_over, s3_client, shared_stores
from tests.store_servers import StoreServer
from xds.mtom import Package, PartToWrite
from xds.transactions import Transaction

SECONDS: Final = 20.0
"""The longest that an answer may take. Nearly all take milliseconds; test machines do other things, too."""

SOAP_12: Final = "application/soap+xml; charset=UTF-8"
REPOSITORY_ID: Final = "2.25.7331"


@dataclass(frozen=True)
class Message:
    """One HTTP request. It is SOAP where path begins with /xds.

    documents   parts of an MTOM package beside the envelope, by Content-ID; None: simple SOAP
    """

    method: str
    path: str
    body: bytes = b""
    content_type: str = ""
    transaction: Transaction | None = None
    documents: Mapping[str, bytes] | None = None


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass
class Peer:
    """A running server, what it has stored and what it complained of.

    stores   settings that name what it stores in
    kept     tells how many changes are registered and how many documents are there
    """

    base: str
    stores: Mapping[str, Any]
    kept: Callable[[], tuple[int, int]]
    complaints: list[str] = field(default_factory=list, repr=False)

    def complained(self) -> list[str]:
        """What it complained of since this was asked."""
        complaints = list(self.complaints)
        self.complaints.clear()
        return complaints

    def send(self, message: Message) -> Answer:
        url = urlsplit(self.base)
        with closing(http.client.HTTPConnection(url.hostname or "", url.port, timeout=SECONDS)) as connection:
            headers = {"Content-Type": message.content_type} if message.content_type else {}
            connection.request(message.method, message.path, message.body or None, headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers.items()), response.read())

    def soap(self, transaction: Transaction, body: bytes, **documents: bytes) -> None:
        """Have something done that the message under test refers to."""
        message = soap(transaction, body, documents or None)
        answer = self.send(packaged(message))
        assert reply(answer.status, answer.headers, answer.content).registry_response.succeeded, answer.content


def kept_in_files(data: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(f"file:{data / METADATA_FILE}?mode=ro", uri=True)) as connection:
        (records,) = connection.execute("SELECT count(*) FROM changes").fetchone()
    return int(records), sum(1 for each in (data / DOCUMENTS_DIRECTORY).rglob("*") if each.is_file())


@contextmanager
def kept_in_servers(stores: Mapping[str, Any]) -> Iterator[Callable[[], tuple[int, int]]]:
    """What counts them in MongoDB and S3."""
    metadata, bucket = stores["metadata"], s3_client(stores["documents"])
    layout, name = Layout.under(stores["documents"]["s3_prefix"]), stores["documents"]["s3_bucket"]
    standing = {"void": {"$ne": True}}
    with pymongo.MongoClient[dict[str, Any]](metadata["mongodb_url"]) as client:
        changes = client[metadata["mongodb_database"]]["changes"]

        def kept() -> tuple[int, int]:
            if not bucket.bucket_exists(name):  # the server makes it with the first document
                return changes.count_documents(standing), 0
            listed = bucket.list_objects(name, prefix=layout.all_content, recursive=True)
            return changes.count_documents(standing), sum(1 for _ in listed)

        yield kept


class Complaints(logging.Handler):
    """What the server logs as an error, which nothing that is sent to it should bring about."""

    def __init__(self, complaints: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._complaints = complaints

    def emit(self, record: logging.LogRecord) -> None:
        self._complaints.append(logging.Formatter().format(record))


def soap(transaction: Transaction, body: bytes, documents: Mapping[str, bytes] | None = None) -> Message:
    path = f"/xds/{transaction.actor}"
    return Message("POST", path, envelope(transaction, body), SOAP_12, transaction, documents)


def packaged(message: Message) -> Message:
    """The message as it goes over the wire: an envelope and its documents are one MTOM package."""
    if message.documents is None or message.transaction is None:
        return message
    parts = [PartToWrite(name, "application/octet-stream", len(each)) for name, each in message.documents.items()]
    package = Package(message.body, parts, action=message.transaction.action)
    pieces = [package.head()]
    for index, content in enumerate(message.documents.values()):
        pieces += [package.part_head(index), content]
    body = b"".join([*pieces, package.tail()])
    return replace(message, body=body, content_type=package.content_type)


def healthy(peer: Peer) -> None:
    """Nothing is half there, and the log and the index agree.

    Documents are compared by the tests themselves: those of this repository may have been removed by ITI-86.
    """
    assert left_over(peer.stores) == []
    words = ["doctor", "--deep", "--json", "--data", str(peer.stores["data"])]
    named = as_environment({name: each for name, each in peer.stores.items() if name != "data"})
    result = CliRunner().invoke(command_line(words), words, env=named)
    assert result.stdout, result.output
    diagnoses = {each["subject"]: each for each in json.loads(result.stdout)["diagnoses"]}
    failed = {name: each["sentence"] for name, each in diagnoses.items() if each["verdict"] == "failed"}
    assert not failed, failed


@pytest.fixture(scope="module")
def near_peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """On SQLite and files."""
    data = tmp_path_factory.mktemp("peer") / "data"
    with peer_on({"data": data}, lambda: kept_in_files(data)) as peer:
        yield peer


@pytest.fixture(scope="module")
def distant_peer(
    tmp_path_factory: pytest.TempPathFactory, mongodb_server: StoreServer, s3_server: StoreServer
) -> Iterator[Peer]:
    """On MongoDB and S3."""
    data = {"data": tmp_path_factory.mktemp("peer") / "data"}
    with (
        shared_stores(mongodb_server, s3_server) as stores,
        kept_in_servers(stores) as kept,
        peer_on({**stores, **data}, kept) as peer,
    ):
        yield peer


@contextmanager
def peer_on(stores: Mapping[str, Any], kept: Callable[[], tuple[int, int]]) -> Iterator[Peer]:
    """A server on these stores, which is healthy in the end."""
    options: dict[str, Any] = {
        **stores,
        "repository_unique_id": REPOSITORY_ID,
        "patients": {"assigning_authorities": [{"oid": PATIENT_AUTHORITY}]},
        "mhd": {"simplified_publish": True, "generate_metadata": True},
    }
    with running_server(**options) as base:
        peer = Peer(base, stores, kept)
        handler = Complaints(peer.complaints)
        logging.getLogger().addHandler(handler)
        try:
            yield peer
            healthy(peer)
        finally:
            logging.getLogger().removeHandler(handler)
