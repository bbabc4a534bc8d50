"""The database file of the embedded metadata store: opening it, its schema and versions, and what SQLite's errors mean.

WAL, so that readers never wait; synchronous=FULL, so that what is committed survives a power failure.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from registry.fhir_resources import SECRET_BYTES
from registry.metadata_store import StoreBusy, StoreDamaged, StoreFull
from registry.sqlite.write_turn import WriteTurn

LOG_VERSION = 2
INDEX_VERSION = 7
"""Raised with every change of schemas/sql/registry_index.sql; an older index is brought up by `toimik reindex`."""

INDEX_TABLES = (
    "identifiers", "patient_identities", "document_entries", "submission_sets", "folders", "associations",
    "fhir_resources", "patient_keys", "removed_documents",
)  # fmt: skip

_OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
_CACHE_KIB = 8 * 1024  # of each connection; the operating system's cache does the rest
_WRITER_CACHE_KIB = 32 * 1024  # a change touches pages all over the file
_WRITER_BUSY_SECONDS = 1.0  # writers wait for their WriteTurn; beyond it is only what a foreign tool holds
_WAL_KEPT_BYTES = 64 * 1024 * 1024
_MAPPED_BYTES = 2**31 - 65536  # the most that SQLite maps; what lies beyond is read by calls


class WrongVersion(StoreDamaged):
    """The database was written by a release that this one does not understand, or is no registry at all."""


class Database:
    """A database file with the schema of this release. Hands out connections; the caller closes them."""

    secret: bytes
    """Made once for this database, for what must not be guessed from outside."""

    def __init__(self, path: Path, *, busy_seconds: float, reindexing: bool = False) -> None:
        """Open the file, and create it where it does not exist.

        reindexing   accept an index of an older release, because it is going to be written again
        Raises WrongVersion, StoreBusy, StoreFull; RuntimeError where Python comes with an older SQLite than 3.37.
        """
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise RuntimeError(f"Toimik needs SQLite 3.37 or newer; this Python comes with {sqlite3.sqlite_version}")
        self.path = path
        self._busy_seconds = busy_seconds
        with translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Patient data: the file, and with it SQLite's -wal and -shm, is for its owner only.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            turn = self.write_turn()
            connection = self._connect()
            try:
                with turn.taken(busy_seconds):
                    _prepare(connection)
                    self.secret = _secret(connection)
                _require_versions(connection, path, reindexing=reindexing)
            finally:
                connection.close()
                turn.close()

    def write_turn(self) -> WriteTurn:
        """A new place in the queue of those who write to this file."""
        return self._turn("writing", "another process has been writing to the metadata store for too long")

    def reindex_turn(self) -> WriteTurn:
        """A new place in the queue of those who write the index again."""
        return self._turn("reindexing", "the index is being written again already")

    def _turn(self, name: str, refusal: str) -> WriteTurn:
        return WriteTurn(self.path.with_name(f"{self.path.name}-{name}"), refusal)

    def writer(self) -> sqlite3.Connection:
        """A connection that writes durably, and leaves checkpoints to its owner."""
        connection = self._connect(_WRITER_BUSY_SECONDS)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
        return connection

    def reader(self, *, waiting: bool = True) -> sqlite3.Connection:
        """A connection that only reads. Without `waiting`: one that is busy at once where another would wait."""
        connection = self._connect()
        connection.execute("PRAGMA query_only = ON")
        # A page that is mapped costs neither a call nor a copy. Only readers map: what they do wrong harms no file.
        connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
        # Opening waits in any case: while another process closes the file as its last user, it holds it alone.
        connection.execute("SELECT value FROM meta").fetchall()
        if not waiting:
            connection.execute("PRAGMA busy_timeout = 0")
        return connection

    def _connect(self, busy_seconds: float | None = None) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=self._busy_seconds if busy_seconds is None else busy_seconds,
            isolation_level=None,  # BEGIN and COMMIT are written where they are meant
            check_same_thread=False,  # every connection is used by one thread at a time, but closed by another
            cached_statements=512,
        )
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.create_function("casefold", 1, _casefolded, deterministic=True)
        return connection


def _casefolded(text: str | None) -> str | None:
    return None if text is None else text.casefold()


class translated:  # noqa: N801 - read as a sentence: with translated()
    """SQLite's and the operating system's errors as those that the port names."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise _named(error) from error
        if isinstance(error, OSError):
            raise StoreBusy(f"the metadata store can not be reached: {error}") from error


def _named(error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"the metadata store has no room left: {error}")
    if code in _UNAVAILABLE:
        return StoreBusy(f"the metadata store can not answer now: {error}")
    return StoreDamaged(f"the metadata store is not as it should be: {error}")


_UNAVAILABLE = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
     sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_PROTOCOL}
)  # fmt: skip


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything inside is written, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is read inside is of the same moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        # SQLite may have ended the transaction by itself after an I/O error.
        if connection.in_transaction:
            connection.execute("COMMIT")


def create_index(connection: sqlite3.Connection, prefix: str = "", generation: int = 1) -> None:
    """Create the empty tables of the index, each name after `prefix`.

    generation   tells the names of SQLite's indexes from those of the tables that are there already; they can not be
                 renamed with their table
    """
    tables = "|".join(INDEX_TABLES)
    text = re.sub(r"--[^\n]*", "", _schema("registry_index.sql"))
    text = re.sub(rf"\b({tables})_by_(\w+)", rf"\1_by_\2_{generation}", text)
    text = re.sub(rf"\b({tables})\b", rf"{prefix}\1", text)
    _execute_each(connection, text)


def index_generation(connection: sqlite3.Connection) -> int:
    """How often the index was written again, counting from 1."""
    return _meta(connection)["index_generation"]


def _prepare(connection: sqlite3.Connection) -> None:
    """Create the schema in an empty file."""
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    with transaction(connection):
        _execute_each(connection, re.sub(r"--[^\n]*", "", _schema("registry_log.sql")))
        create_index(connection)
        connection.executemany(
            "INSERT INTO meta (name, value) VALUES (?, ?)",
            [("log_version", LOG_VERSION), ("index_version", INDEX_VERSION), ("index_generation", 1)],
        )


def _secret(connection: sqlite3.Connection) -> bytes:
    """The secret of the database, which a release that did not know of it lacks."""
    if connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'").fetchone()[0] == 0:
        return b""  # not one of ours, and about to be refused
    with transaction(connection):
        connection.execute("CREATE TABLE IF NOT EXISTS store_secret (secret BLOB NOT NULL) STRICT")
        connection.execute(
            "INSERT INTO store_secret (secret) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM store_secret)",
            (secrets.token_bytes(SECRET_BYTES),),
        )
        return bytes(connection.execute("SELECT secret FROM store_secret").fetchone()[0])


def _require_versions(connection: sqlite3.Connection, path: Path, *, reindexing: bool) -> None:
    if not connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'").fetchone()[0]:
        raise WrongVersion(f"{path} is a database, but not one of a Toimik registry")
    meta = _meta(connection)
    for name, mine in (("log_version", LOG_VERSION), ("index_version", INDEX_VERSION)):
        if meta[name] > mine:
            raise WrongVersion(
                f"{path} was written by a newer release of Toimik ({name} {meta[name]}; this one knows {mine}); "
                f"run that release, or a newer one"
            )
    if meta["index_version"] < INDEX_VERSION and not reindexing:
        raise WrongVersion(f"the index of {path} is that of an older release of Toimik; run `toimik reindex`")


def _meta(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT name, value FROM meta").fetchall())


def _schema(name: str) -> str:
    return (resources.files("schemas") / "sql" / name).read_text(encoding="utf-8")


def _execute_each(connection: sqlite3.Connection, script: str) -> None:
    """Run the statements of a script one by one: executescript() would commit the transaction it is part of."""
    for statement in script.split(";"):
        if statement.strip():
            connection.execute(statement)
