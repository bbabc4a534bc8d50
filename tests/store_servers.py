"""Real MongoDB and S3 servers for tests: found, or started on loopback and stopped again.

In this order: the server that the environment names (TOIMIK_TEST_MONGODB_URL; TOIMIK_TEST_S3_URL with
TOIMIK_TEST_S3_ACCESS_KEY and TOIMIK_TEST_S3_SECRET_KEY); one of our own from `mongod` or `minio` on the PATH; one of
our own from what `make test-servers` built. Tests skip where there is none, and fail where
TOIMIK_REQUIRE_STORE_SERVERS is set.

Tests take the fixtures `mongodb_server` and `s3_server`: one of each for the whole session, on which each test has a
database, or a bucket or prefix, of its own. Tests that kill servers, and scripts, take `running_mongodb` and
`running_s3`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import pymongo
import pytest
import urllib3
from minio import Minio
from minio.error import MinioException
from pymongo.errors import PyMongoError

from tests.server_process import free_port

BUILT = Path(__file__).parents[1] / ".test-servers"
IS_REQUIRED = bool(os.environ.get("TOIMIK_REQUIRE_STORE_SERVERS"))

_T = TypeVar("_T")

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0

# Outlives the tests, however they end, and then leaves neither the server nor its data. Reads the server's process id,
# or an empty line when there is none.
_GUARD = """
while read -r pid; do server=$pid; done
[ -z "$server" ] || kill -KILL "$server" 2>/dev/null
for attempt in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" 2>/dev/null && exit; sleep 0.2; done
"""

# Nothing calls out, and there is no console to bind to an address.
_MINIO = {
    "MINIO_ROOT_USER": "toimik-tests",
    "MINIO_ROOT_PASSWORD": "toimik-tests-secret",
    "MINIO_BROWSER": "off",
    "MINIO_UPDATE": "off",
    "MINIO_CALLHOME_ENABLE": "off",
    "MINIO_KMS_SECRET_KEY": "toimik-tests:dG9pbWlrLXRlc3RzLXRvaW1pay10ZXN0cy0zMi1iLi4=",
}


class StoreServerAbsent(LookupError):
    """Nothing to test with; the sentence says what would help."""


@dataclass
class StoreServer:
    """A server that the environment names: somebody else's, so it can not be killed.

    url          mongodb://... or http(s)://host:port
    access_key   of S3, empty for MongoDB; secret_key likewise
    """

    url: str
    access_key: str = ""
    secret_key: str = ""
    is_ours: bool = field(default=False, init=False)

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        raise self._not_ours()

    def start(self) -> None:
        """Start it again after `kill`, on the same port and data, and wait until it answers."""
        raise self._not_ours()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered, until `resume`."""
        raise self._not_ours()

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        raise self._not_ours()

    def _not_ours(self) -> Exception:
        host = urlsplit(self.url).netloc.rpartition("@")[2]
        return PermissionError(
            f"{host} is named by the environment: only a server that the tests started can be killed"
        )


@dataclass(kw_only=True)
class OwnStoreServer(StoreServer):
    """A server process of our own.

    command      what to run, also after a kill
    directory    all that it writes, its log included
    is_ready     whether it answers as it should
    """

    command: list[str]
    directory: Path
    environment: Mapping[str, str]
    is_ready: Callable[[StoreServer], bool]
    is_ours: bool = field(default=True, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _guard: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        guard = ["/bin/sh", "-c", _GUARD, "sh", str(self.directory)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)

    @property
    def pid(self) -> int:
        """The process id; it is another one after each start."""
        return self._running().pid

    def start(self) -> None:
        if self._process is not None:
            raise RuntimeError("the server runs already")
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.environment),
                cwd=self.directory,
                start_new_session=True,  # Ctrl-C is for the tests: they stop the server
            )
        self._tell_guard(str(self._process.pid))
        self._wait_until_ready(self._process)

    def kill(self) -> None:
        self._running().kill()
        self._reap()

    def pause(self) -> None:
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it if it runs, and remove its data."""
        if self._process is not None:
            self._process.terminate()
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._reap()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process

    def _reap(self) -> None:
        self._running().wait()
        self._process = None
        self._tell_guard("")

    def _tell_guard(self, pid: str) -> None:
        if self._guard.stdin is not None:
            self._guard.stdin.write(f"{pid}\n".encode())
            self._guard.stdin.flush()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self.is_ready(self):
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self.directory / "log").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"{self.command[0]} is not ready (exit code {process.poll()}): {log[-2000:]}")
            time.sleep(0.05)


@contextlib.contextmanager
def running_mongodb(*, killable: bool = False) -> Iterator[StoreServer]:
    """A MongoDB server; ours is empty at first and stopped at the end.

    killable   start one of our own, even if the environment names another

    Raises StoreServerAbsent.
    """
    url = os.environ.get("TOIMIK_TEST_MONGODB_URL")
    if url and not killable:
        yield StoreServer(url)
        return
    program = _program("mongod", "toimik-mongodb-stand-in")
    port = free_port()
    with _scratch_directory() as directory:
        data = directory / "data"
        data.mkdir()
        if program.name == "mongod":
            command = [str(program), "--bind_ip", "127.0.0.1", "--port", str(port), "--dbpath", str(data)]
        else:
            command = [str(program), "--address", f"127.0.0.1:{port}", "--directory", str(data)]
        server = OwnStoreServer(
            url=f"mongodb://127.0.0.1:{port}/",
            command=command,
            directory=directory,
            environment=_environment(directory),
            is_ready=_mongodb_is_ready,
        )
        with _started(server):
            yield server


@contextlib.contextmanager
def running_s3(*, killable: bool = False) -> Iterator[StoreServer]:
    """An S3 server that can encrypt at rest: see `running_mongodb`.

    Raises StoreServerAbsent.
    """
    url = os.environ.get("TOIMIK_TEST_S3_URL")
    if url and not killable:
        keys = (os.environ["TOIMIK_TEST_S3_ACCESS_KEY"], os.environ["TOIMIK_TEST_S3_SECRET_KEY"])
        yield StoreServer(url, *keys)
        return
    program = _program("minio", "minio")
    port = free_port()
    with _scratch_directory() as directory:
        server = OwnStoreServer(
            url=f"http://127.0.0.1:{port}",
            access_key=_MINIO["MINIO_ROOT_USER"],
            secret_key=_MINIO["MINIO_ROOT_PASSWORD"],
            command=[str(program), "server", "--quiet", "--address", f"127.0.0.1:{port}", str(directory / "data")],
            directory=directory,
            environment=_environment(directory) | _MINIO,
            is_ready=_s3_is_ready,
        )
        with _started(server):
            yield server


def _program(name: str, built: str) -> Path:
    if on_the_path := shutil.which(name):
        return Path(on_the_path)
    if (BUILT / built).exists():
        return BUILT / built
    variable = {"mongod": "TOIMIK_TEST_MONGODB_URL", "minio": "TOIMIK_TEST_S3_URL"}[name]
    raise StoreServerAbsent(f"no {name}: set {variable}, put {name} on the PATH, or run `make test-servers` (needs Go)")


def _environment(directory: Path) -> dict[str, str]:
    """Nothing of the caller's settings reaches the server, and nothing of the server's the caller's home."""
    return {"HOME": str(directory), "PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(directory)}


@contextlib.contextmanager
def _scratch_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="toimik-test-server-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _started(server: OwnStoreServer) -> Iterator[None]:
    try:
        server.start()
        yield
    finally:
        server.stop()


def _mongodb_is_ready(server: StoreServer) -> bool:
    with pymongo.MongoClient[dict[str, object]](server.url, serverSelectionTimeoutMS=500) as client:
        try:
            client.admin.command("ping")
        except PyMongoError:
            return False
    return True


def _s3_is_ready(server: StoreServer) -> bool:
    url = urlsplit(server.url)
    http = urllib3.PoolManager(timeout=2, retries=False)
    client = Minio(
        url.netloc,
        access_key=server.access_key,
        secret_key=server.secret_key,
        secure=url.scheme == "https",
        region="us-east-1",  # otherwise it asks
        http_client=http,
    )
    try:
        client.list_buckets()
    except (MinioException, urllib3.exceptions.HTTPError):
        return False
    finally:
        http.clear()
    return True


def there_or_skipped(running: contextlib.AbstractContextManager[_T]) -> Iterator[_T]:
    """What needs servers, for a fixture: tests are skipped where there are none, and fail where there must be some."""
    with contextlib.ExitStack() as stack:
        try:
            it = stack.enter_context(running)
        except StoreServerAbsent as absent:
            if IS_REQUIRED:
                pytest.fail(str(absent))
            pytest.skip(str(absent))
        yield it


@pytest.fixture(scope="session")
def mongodb_server() -> Iterator[StoreServer]:
    """The MongoDB server of this session; take a database of your own in it."""
    yield from there_or_skipped(running_mongodb())


@pytest.fixture(scope="session")
def s3_server() -> Iterator[StoreServer]:
    """The S3 server of this session; take a bucket or a prefix of your own in it."""
    yield from there_or_skipped(running_s3())


@pytest.fixture
def own_mongodb_server() -> Iterator[OwnStoreServer]:
    """A MongoDB server that can be killed."""
    for server in there_or_skipped(running_mongodb(killable=True)):
        assert isinstance(server, OwnStoreServer)
        yield server


@pytest.fixture
def own_s3_server() -> Iterator[OwnStoreServer]:
    """An S3 server that can be killed."""
    for server in there_or_skipped(running_s3(killable=True)):
        assert isinstance(server, OwnStoreServer)
        yield server
