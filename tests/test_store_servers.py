"""What tests may expect of the servers they run against."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pymongo
import pytest
from minio import Minio
from minio.sse import SseS3
from pymongo.errors import ConnectionFailure

from tests import store_servers
from tests.store_servers import (
    OwnStoreServer,
    StoreServer,
    StoreServerAbsent,
    running_mongodb,
    running_s3,
    there_or_skipped,
)

Running = Callable[..., AbstractContextManager[StoreServer]]


def mongodb_client(server: StoreServer, seconds: float = 60) -> pymongo.MongoClient[dict[str, object]]:
    return pymongo.MongoClient(
        server.url, serverSelectionTimeoutMS=int(seconds * 1000), socketTimeoutMS=int(seconds * 1000)
    )


def s3_client(server: StoreServer) -> Minio:
    return Minio(urlsplit(server.url).netloc, access_key=server.access_key, secret_key=server.secret_key, secure=False)


def listening_addresses(server: OwnStoreServer) -> set[str]:
    connections = psutil.Process(server.pid).net_connections("inet")
    return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}


def test_what_a_killed_mongodb_server_acknowledged_is_there_when_it_is_back(own_mongodb_server: OwnStoreServer) -> None:
    with mongodb_client(own_mongodb_server) as client:
        client.test.things.insert_one({"_id": "one"})
    own_mongodb_server.kill()
    with mongodb_client(own_mongodb_server, seconds=0.2) as client, pytest.raises(ConnectionFailure):
        client.admin.command("ping")

    own_mongodb_server.start()

    with mongodb_client(own_mongodb_server) as client:
        assert client.test.things.find_one({"_id": "one"}) == {"_id": "one"}


def test_what_a_killed_s3_server_acknowledged_is_there_when_it_is_back(own_s3_server: OwnStoreServer) -> None:
    s3_client(own_s3_server).make_bucket("things")
    s3_client(own_s3_server).put_object("things", "one", BytesIO(b"kept"), 4)
    own_s3_server.kill()

    own_s3_server.start()

    with s3_client(own_s3_server).get_object("things", "one") as kept:
        assert kept.read() == b"kept"


def test_of_two_updates_of_one_document_at_once_none_is_lost(own_mongodb_server: OwnStoreServer) -> None:
    with mongodb_client(own_mongodb_server) as client, ThreadPoolExecutor(2) as both:
        things = client.test.things
        numbers = range(100)
        things.insert_many({"_id": number, "open": True, "body": b"as it was"} for number in numbers)
        for number in numbers:
            updates = ({"$unset": {"open": ""}}, {"$set": {"body": b"blanked"}})
            list(both.map(things.update_one, [{"_id": number}] * 2, updates))

        assert list(things.find(sort=["_id"])) == [{"_id": number, "body": b"blanked"} for number in numbers]


def test_a_paused_server_answers_nothing_until_it_is_resumed(own_mongodb_server: OwnStoreServer) -> None:
    own_mongodb_server.pause()
    with mongodb_client(own_mongodb_server, seconds=0.5) as client, pytest.raises(ConnectionFailure):
        client.admin.command("ping")

    own_mongodb_server.resume()

    with mongodb_client(own_mongodb_server) as client:
        assert client.admin.command("ping")["ok"] == 1


def test_the_s3_server_can_encrypt_at_rest(own_s3_server: OwnStoreServer) -> None:
    s3_client(own_s3_server).make_bucket("things")

    s3_client(own_s3_server).put_object("things", "one", BytesIO(b"secret"), 6, sse=SseS3())

    encryption = s3_client(own_s3_server).stat_object("things", "one").metadata
    assert encryption is not None
    assert encryption["x-amz-server-side-encryption"] == "AES256"


def test_servers_listen_on_loopback_alone(own_mongodb_server: OwnStoreServer, own_s3_server: OwnStoreServer) -> None:
    assert listening_addresses(own_mongodb_server) == {"127.0.0.1"}
    assert listening_addresses(own_s3_server) <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("running", [running_mongodb, running_s3])
def test_a_server_that_was_stopped_leaves_neither_process_nor_data(running: Running) -> None:
    for server in there_or_skipped(running(killable=True)):
        assert isinstance(server, OwnStoreServer)
        process, directory = psutil.Process(server.pid), server.directory
        assert directory.is_dir()

    assert not process.is_running()
    assert not directory.exists()


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_tests_that_are_interrupted_leave_neither_process_nor_data(
    own_mongodb_server: OwnStoreServer, ending: signal.Signals
) -> None:
    script = (
        "import time; from tests.store_servers import running_mongodb\n"
        "with running_mongodb(killable=True) as server: print(server.pid, server.directory, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tests:
        assert tests.stdout is not None
        pid, directory = tests.stdout.readline().decode().split()
        server = psutil.Process(int(pid))

        tests.send_signal(ending)

    server.wait(timeout=30)
    while Path(directory).exists():
        time.sleep(0.05)


def test_a_server_that_the_environment_names_is_taken_and_is_never_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOIMIK_TEST_MONGODB_URL", "mongodb://somebody:secret@mongodb.example/")

    with running_mongodb() as server:
        assert not server.is_ours
        for act in (server.kill, server.start, server.pause, server.resume):
            with pytest.raises(PermissionError, match=r"^mongodb\.example is named by the environment"):
                act()


def test_where_there_is_no_server_one_sentence_says_what_would_help(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TOIMIK_TEST_MONGODB_URL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(store_servers, "BUILT", tmp_path)

    with pytest.raises(StoreServerAbsent, match="make test-servers"), running_mongodb():
        pass


@pytest.mark.parametrize(("required", "outcome"), [("", "1 skipped"), ("1", "1 error")])
def test_absent_servers_skip_tests_unless_they_are_required(required: str, outcome: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "from pathlib import Path\n"
        "from tests import store_servers\n"
        "from tests.store_servers import mongodb_server\n"
        "store_servers.BUILT = Path('nowhere')\n"
        "def test_it(mongodb_server): pass\n",
        encoding="ascii",
    )
    environment = {
        "PATH": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "TOIMIK_REQUIRE_STORE_SERVERS": required,
    }

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert outcome in ran.stdout, ran.stdout + ran.stderr
