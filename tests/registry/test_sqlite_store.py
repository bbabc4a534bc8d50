"""What the embedded metadata store promises beyond the port: durability, several processes, look-ups without scans."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from registry.dossier_check import checked_dossiers
from registry.metadata_store import (
    Criteria,
    FactsMoved,
    Match,
    Operator,
    Questions,
    Revision,
    StoreBusy,
    StoreDamaged,
    StoreFull,
)
from registry.metadata_store_sqlite import SqliteMetadataStore
from registry.sqlite import checkpoints
from registry.sqlite.database import INDEX_VERSION, LOG_VERSION, WrongVersion
from registry.sqlite.search import Search
from registry.sqlite.write_turn import WriteTurn
from tests.builders import OTHER_PATIENT, PATIENT, document_entry, entry_uuid, folder, oid, registered
from tests.registry.dossiers import change_of, commit, found, register, submitted
from xds.ebxml_writer import codec
from xds.hl7v2 import CX
from xds.metadata import AvailabilityStatus, ObjectKind


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteMetadataStore]:
    store = SqliteMetadataStore(path, codec=codec, busy_seconds=0.3)
    yield store
    await store.close()


@pytest.fixture
def behind_its_back(store: SqliteMetadataStore, path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that the store knows nothing of."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


async def problems(store: SqliteMetadataStore) -> list[str]:
    return [problem async for dossier in checked_dossiers(store, codec) for problem in dossier.problems]


def patient(number: int) -> CX:
    return CX.of(str(number), "2.25.7331")


# --- opening ---------------------------------------------------------------------------------------------------------


async def test_what_is_committed_is_synced_to_the_write_ahead_log(store: SqliteMetadataStore) -> None:
    writer = store._writer._group_commit.connection

    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


async def test_only_its_owner_may_read_the_files(store: SqliteMetadataStore, path: Path) -> None:
    await register(store, *submitted())

    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_a_store_is_opened_and_closed_by_many_at_once(path: Path) -> None:
    def open_and_close(times: int) -> None:
        for _ in range(times):
            asyncio.run(SqliteMetadataStore(path, codec=codec).close())

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(open_and_close, [15] * 4))


async def test_a_database_of_a_newer_release_is_not_opened(
    store: SqliteMetadataStore, path: Path, behind_its_back: sqlite3.Connection
) -> None:
    await store.close()
    for name, known in (("log_version", LOG_VERSION), ("index_version", INDEX_VERSION)):
        behind_its_back.execute("UPDATE meta SET value = value + 1 WHERE name = ?", (name,))
        with pytest.raises(WrongVersion, match=rf"newer .* \({name} {known + 1}; this one knows {known}"):
            SqliteMetadataStore(path, codec=codec)
        behind_its_back.execute("UPDATE meta SET value = value - 1 WHERE name = ?", (name,))


async def test_an_index_of_an_older_release_is_written_again_first(
    store: SqliteMetadataStore, path: Path, behind_its_back: sqlite3.Connection
) -> None:
    await register(store, *submitted())
    await store.close()
    behind_its_back.execute("UPDATE meta SET value = 0 WHERE name = 'index_version'")
    with pytest.raises(WrongVersion, match="run `toimik reindex`"):
        SqliteMetadataStore(path, codec=codec)

    reindexing = SqliteMetadataStore(path, codec=codec, reindexing=True)
    await reindexing.reindex()
    await reindexing.close()

    opened = SqliteMetadataStore(path, codec=codec)
    assert await problems(opened) == []
    await opened.close()


async def test_a_database_of_somebody_else_is_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")

    with pytest.raises(WrongVersion, match="not one of a Toimik registry"):
        SqliteMetadataStore(path, codec=codec)

    assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]
    other.close()


def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    path.write_bytes(b"patients.csv\n" * 100)

    with pytest.raises(StoreDamaged, match="file is not a database"):
        SqliteMetadataStore(path, codec=codec)

    assert path.read_bytes() == b"patients.csv\n" * 100


async def test_a_python_with_an_old_sqlite_is_told_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))

    with pytest.raises(RuntimeError, match=r"SQLite 3\.37 or newer"):
        SqliteMetadataStore(path, codec=codec)


async def test_a_place_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()

    with pytest.raises(StoreBusy, match="can not be reached"):
        SqliteMetadataStore(tmp_path / "a file" / "registry.sqlite", codec=codec)


# --- looking up ------------------------------------------------------------------------------------------------------

ENTRY, SET, FOLDER, ASSOCIATION = ObjectKind


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        *((kind, (name,)) for kind in ObjectKind for name in ("entry_uuid", "logical_id")),
        *((kind, ("unique_id",)) for kind in (ENTRY, SET, FOLDER)),
        *((ASSOCIATION, ends) for ends in (("source_object",), ("target_object",), ("source_object", "target_object"))),
    ],
)
async def test_what_is_named_is_looked_up_and_never_searched_for(
    store: SqliteMetadataStore, kind: ObjectKind, attributes: tuple[str, ...]
) -> None:
    case = registered(folder())
    await register(store, *submitted(), case)
    await register(store, *submitted(), patient=OTHER_PATIENT)
    status = Match.any_of("availability_status", (AvailabilityStatus.APPROVED,))

    for names in ((case.entry_uuid,), (case.entry_uuid, *(entry_uuid() for _ in range(900)))):
        matches = (status, *(Match.any_of(name, names) for name in attributes))
        for patients in ((), (PATIENT.text,), (PATIENT.text, OTHER_PATIENT.text)):
            assert tables_read_whole(store._in_loop, Criteria(kind, matches, patients)) == []


async def test_a_dossier_is_read_from_its_first_row_to_its_last_without_sorting(store: SqliteMetadataStore) -> None:
    await register(store, *submitted())
    since = Match("creation_time", Operator.AT_OR_AFTER, (("20260101000000",),))

    for kind in ObjectKind:
        criteria = Criteria(kind, (since,) if kind is ENTRY else (), (PATIENT.text,))
        assert tables_read_whole(store._in_loop, criteria) == []
        (statement,) = plans(store._in_loop, criteria)
        assert len(statement) == 1
        assert "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in statement[0]


def plans(connection: sqlite3.Connection, criteria: Criteria) -> list[list[str]]:
    """How SQLite goes about it, for every statement."""
    return [
        [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", (*values, -1))]
        for (text, values), _ in Search.of(criteria, connection).statements(rendering=True)
    ]


def tables_read_whole(connection: sqlite3.Connection, criteria: Criteria) -> list[str]:
    steps = [step for plan in plans(connection, criteria) for step in plan]
    assert steps
    return [step for step in steps if step.startswith("SCAN") and "json_each" not in step]


# --- when writing fails ----------------------------------------------------------------------------------------------


async def test_a_store_that_another_process_holds_is_busy(store: SqliteMetadataStore, path: Path) -> None:
    other = WriteTurn(path.with_name(f"{path.name}-writing"), "busy")

    with other.taken(0), pytest.raises(StoreBusy, match="another process"):
        await register(store, *submitted())

    other.close()
    await register(store, *submitted())
    assert [record.sequence async for record in store.records()] == [1]


async def test_a_store_that_a_foreign_tool_holds_is_busy(
    store: SqliteMetadataStore, behind_its_back: sqlite3.Connection
) -> None:
    behind_its_back.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreBusy):
        await register(store, *submitted())

    behind_its_back.execute("ROLLBACK")
    await register(store, *submitted())
    assert await problems(store) == []


async def test_a_change_that_has_waited_too_long_is_given_up(
    store: SqliteMetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = await store.known(Questions(PATIENT.text))
    monkeypatch.setattr(store._writer, "_busy_seconds", -1.0)

    with pytest.raises(StoreBusy, match="more to write than it can"):
        await store.apply(change_of(*submitted()), facts)

    assert (await store.known(Questions(PATIENT.text))).sequence == 0


async def test_on_a_full_disk_nothing_of_the_group_is_acknowledged_or_kept(store: SqliteMetadataStore) -> None:
    writer = store._writer._group_commit.connection
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages + 8}")

    outcomes = await asyncio.gather(
        *(register(store, *submitted(patient=patient(n)), patient=patient(n)) for n in range(60)),
        return_exceptions=True,
    )

    acknowledged = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert any(isinstance(outcome, StoreFull) for outcome in refused)
    assert all(isinstance(outcome, StoreFull | StoreBusy) for outcome in refused)  # busy where the machine is slow
    assert await store.count(Criteria(ENTRY)) == len(acknowledged)
    assert await problems(store) == []
    writer.execute("PRAGMA max_page_count = 1000000")
    await register(store, *submitted())


class FailingCommit:
    """A connection whose COMMIT fails."""

    def __init__(self, connection: sqlite3.Connection, error: sqlite3.Error) -> None:
        self._connection = connection
        self._error = error

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "COMMIT":
            raise self._error
        return self._connection.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def test_when_the_commit_fails_nobody_is_told_that_it_did_not(
    store: SqliteMetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    with monkeypatch.context() as broken:
        group_commit = store._writer._group_commit
        broken.setattr(group_commit, "connection", FailingCommit(group_commit.connection, error))
        outcomes = await asyncio.gather(
            *(register(store, *submitted(patient=patient(n)), patient=patient(n)) for n in range(8)),
            return_exceptions=True,
        )

    assert {type(outcome) for outcome in outcomes} == {StoreBusy}
    assert await store.count(Criteria(ENTRY)) == 0
    await register(store, *submitted())
    assert await problems(store) == []


async def test_somebody_who_gives_up_waiting_disturbs_nobody(store: SqliteMetadataStore) -> None:
    facts = {n: await store.known(Questions(patient(n).text)) for n in range(20)}
    waiting = [
        asyncio.create_task(store.apply(change_of(*submitted(patient=patient(n)), patient=patient(n)), facts[n]))
        for n in range(20)
    ]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()

    outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes[::2]] == [asyncio.CancelledError] * 10
    assert len([record async for record in store.records()]) >= 10
    assert await problems(store) == []


async def test_the_write_ahead_log_does_not_grow_for_ever(
    store: SqliteMetadataStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_AFTER_CHANGES", 10)
    monkeypatch.setattr(checkpoints, "_LONG_WAL_PAGES", 200)
    for n in range(20):
        await register(store, *submitted(), patient=patient(n))
    early = path.with_name(f"{path.name}-wal").stat().st_size

    for n in range(200):
        await register(store, *submitted(), patient=patient(n))

    assert path.with_name(f"{path.name}-wal").stat().st_size < 4 * early


# --- several processes, and crashes ----------------------------------------------------------------------------------

_WRITE = """
import asyncio, sys
from pathlib import Path
from registry.metadata_store import FactsMoved
from registry.metadata_store_sqlite import SqliteMetadataStore
from tests.registry.dossiers import change_of, commit, submitted
from xds.ebxml_writer import codec
from xds.hl7v2 import CX

async def main(path, changes):
    store = SqliteMetadataStore(Path(path), codec=codec)

    async def write(n):
        patient = CX.of(str(n % 7), "2.25.7331")
        change = change_of(*submitted(patient=patient), patient=patient)
        while True:
            try:
                await commit(store, change)
            except FactsMoved:
                continue
            print(change.change_id, flush=True)
            return

    for start in range(0, changes, 8):
        await asyncio.gather(*(write(n) for n in range(start, start + 8)))
    await store.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def writing_process(path: Path, changes: int) -> subprocess.Popen[bytes]:
    """Registers, in seven dossiers, and prints the id of every change that was acknowledged."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(path), str(changes)], stdout=subprocess.PIPE, env=environment
    )


async def test_processes_write_to_one_store_at_the_same_time(path: Path) -> None:
    processes = [writing_process(path, 80) for _ in range(2)]
    outputs = [await asyncio.to_thread(process.communicate) for process in processes]

    store = SqliteMetadataStore(path, codec=codec)
    acknowledged = {line for output, _ in outputs for line in output.decode().split()}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(acknowledged) == 160
    assert {record.change_id async for record in store.records()} == acknowledged
    assert await problems(store) == []
    await store.close()


@pytest.mark.parametrize("after", [1, 30, 77])
async def test_what_was_acknowledged_survives_a_kill_at_any_moment(path: Path, after: int) -> None:
    process = writing_process(path, 100_000)
    assert process.stdout is not None
    acknowledged = {process.stdout.readline() for _ in range(after)}
    process.send_signal(signal.SIGKILL)
    acknowledged |= set(process.stdout.read().splitlines(keepends=True))
    process.wait()
    process.stdout.close()

    store = SqliteMetadataStore(path, codec=codec)
    logged = {f"{record.change_id}\n".encode() async for record in store.records()}
    assert logged >= {line for line in acknowledged if line.endswith(b"\n")}
    assert await problems(store) == []
    assert await store.reindex() == len(logged)
    assert await problems(store) == []
    await store.close()


def test_who_is_next_to_write_can_not_be_overtaken_by_who_has_written(tmp_path: Path) -> None:
    first, second = (WriteTurn(tmp_path / "writing", "busy") for _ in range(2))
    order: list[str] = []
    taken, waiting = threading.Event(), threading.Event()

    def wait_for_turn() -> None:
        taken.wait()
        waiting.set()
        with second.taken(10):
            order.append("second")

    thread = threading.Thread(target=wait_for_turn)
    thread.start()
    with first.taken(10):
        taken.set()
        waiting.wait()
        while not second_is_next(tmp_path):
            pass
        order.append("first")
    with first.taken(10):
        order.append("first again")
    thread.join()

    assert order == ["first", "second", "first again"]
    first.close()
    second.close()


def second_is_next(folder: Path) -> bool:
    probe = WriteTurn(folder / "writing", "somebody is next")
    try:
        with probe.taken(0):
            return False
    except StoreBusy:
        descriptor = os.open(folder / "writing.next", os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False
    finally:
        probe.close()


# --- damage ----------------------------------------------------------------------------------------------------------

LOG_DAMAGE = {
    "an altered body": ("UPDATE changes SET body = x'00' WHERE id & 0xFFFFFF = 2", "body of record 2 was altered"),
    "an altered time": ("UPDATE changes SET time = 'yesterday' WHERE id & 0xFFFFFF = 2", "record 2 was altered"),
    "a missing record": ("DELETE FROM changes WHERE id & 0xFFFFFF = 2", "record 2 is missing"),
    "a missing last record": ("DELETE FROM changes WHERE id & 0xFFFFFF = 3", "record"),
    "an exchanged head": ("UPDATE patients SET sequence = 4", "record"),
}
INDEX_DAMAGE = {
    "an altered column": ("UPDATE document_entries SET type_code = 'x'", "type_code of urn:uuid:"),
    "an altered rendering": (
        "UPDATE document_entries SET ebrim = (SELECT ebrim FROM submission_sets)", "the rendering of urn:uuid:"
    ),
    "a broken rendering": ("UPDATE document_entries SET ebrim = x'00'", "the rendering of urn:uuid:"),
    "a missing row": ("DELETE FROM associations", "is missing from the index"),
    "a row too many": (
        "INSERT INTO folders (id, entry_uuid, code_list, ebrim) "
        "SELECT id + 1000, 'urn:uuid:x', '[]', ebrim FROM submission_sets LIMIT 1", "but not in the log"
    ),
    "a missing identifier": ("DELETE FROM identifiers WHERE kind = 'SubmissionSet'", "not among the identifiers"),
    "an altered hash": ("UPDATE document_entries SET hash = '00'", "are not found by its uniqueId"),
    "a revision undone": (
        "UPDATE document_entries SET availability_status = replace(availability_status, 'Deprecated', 'Approved')",
        "availability_status of urn:uuid:"
    ),
}  # fmt: skip


async def fill(store: SqliteMetadataStore) -> None:
    """Three records: a document, another, and the deprecation of the first."""
    old = registered(document_entry())
    await register(store, *submitted(old))
    await register(store, *submitted())
    await register(store, revisions=(Revision(old.entry_uuid, availability_status=AvailabilityStatus.DEPRECATED),))


@pytest.mark.parametrize(("statement", "sentence"), LOG_DAMAGE.values(), ids=LOG_DAMAGE)
async def test_a_damaged_log_is_noticed_and_no_index_is_made_from_it(
    store: SqliteMetadataStore, behind_its_back: sqlite3.Connection, statement: str, sentence: str
) -> None:
    await fill(store)
    await register(store, *submitted(), patient=OTHER_PATIENT)
    before = [row async for row in store.index_rows()]

    assert behind_its_back.execute(statement).rowcount

    assert any(sentence in problem for problem in await problems(store))
    with pytest.raises(StoreDamaged, match=r"dossier 1.*record"):
        await store.reindex()
    assert [row async for row in store.index_rows()] == before
    await register(store, *submitted(), patient=patient(1))


@pytest.mark.parametrize(("statement", "sentence"), INDEX_DAMAGE.values(), ids=INDEX_DAMAGE)
async def test_a_damaged_index_is_noticed_and_can_be_written_again(
    store: SqliteMetadataStore, behind_its_back: sqlite3.Connection, statement: str, sentence: str
) -> None:
    await fill(store)
    assert await problems(store) == []

    assert behind_its_back.execute(statement).rowcount

    assert any(sentence in problem for problem in await problems(store))
    await store.reindex()
    assert await problems(store) == []


async def test_an_index_without_a_log_is_noticed(
    store: SqliteMetadataStore, behind_its_back: sqlite3.Connection
) -> None:
    await fill(store)
    await register(store, *submitted(), patient=OTHER_PATIENT)
    behind_its_back.execute("DELETE FROM changes WHERE id >> 24 = 2")

    (problem,) = await problems(store)

    assert problem.endswith("and the log nothing at all")


async def test_an_index_that_was_thrown_away_can_be_written_again(
    store: SqliteMetadataStore, path: Path, behind_its_back: sqlite3.Connection
) -> None:
    await fill(store)
    await store.close()
    for table in ("document_entries", "folders", "identifiers"):
        behind_its_back.execute(f"DROP TABLE {table}")

    again = SqliteMetadataStore(path, codec=codec, reindexing=True)
    await again.reindex()

    assert await problems(again) == []
    assert len(await found(again, ENTRY, patients=(PATIENT,))) == 2
    await again.close()


async def test_a_store_without_its_tables_says_so(
    store: SqliteMetadataStore, behind_its_back: sqlite3.Connection
) -> None:
    await fill(store)
    behind_its_back.execute("DROP TABLE document_entries")

    with pytest.raises(StoreDamaged, match="no such table"):
        await found(store, ENTRY, patients=(PATIENT,))
    with pytest.raises(StoreDamaged, match="no such table"):
        await register(store, *submitted())


async def test_a_reindexing_that_was_interrupted_leaves_the_old_index_and_can_be_done_again(
    store: SqliteMetadataStore,
) -> None:
    for number in range(50):
        await register(store, *submitted(patient=patient(number)), patient=patient(number))
    before = [row async for row in store.index_rows()]

    class Interrupted(Exception):
        pass

    def interrupt(done: int, in_all: int) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        await store.reindex(interrupt)

    assert [row async for row in store.index_rows()] == before
    assert await store.reindex() == 50
    assert [row async for row in store.index_rows()] == before


async def test_whoever_reads_or_reindexes_may_give_up_at_any_moment(store: SqliteMetadataStore) -> None:
    for number in range(50):
        await register(store, *submitted(patient=patient(number)), patient=patient(number))

    async def read_all() -> None:
        while True:
            assert len([row async for row in store.index_rows()]) == 150

    for pause in (0.0, 0.001, 0.005, 0.02):
        tasks = [asyncio.ensure_future(work) for work in (read_all(), store.reindex())]
        await asyncio.sleep(pause)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert isinstance(outcomes[1], asyncio.CancelledError | int)

    assert await store.reindex() == 50
    assert await problems(store) == []


async def test_the_index_is_written_again_by_one_at_a_time(store: SqliteMetadataStore) -> None:
    for number in range(50):
        await register(store, *submitted(patient=patient(number)), patient=patient(number))

    outcomes = await asyncio.gather(store.reindex(), store.reindex(), return_exceptions=True)

    assert sorted(map(str, outcomes)) == ["50", "the index is being written again already"]


async def test_a_blanked_body_is_no_damage(store: SqliteMetadataStore, behind_its_back: sqlite3.Connection) -> None:
    await fill(store)
    behind_its_back.execute("UPDATE changes SET body = NULL WHERE id & 0xFFFFFF = 1")

    records = [record async for record in store.records()]
    assert [record.body is None for record in records] == [True, False, False]
    assert not any("record" in problem for problem in await problems(store))

    assert await store.reindex() == 3
    assert await problems(store) == []
    assert len(await found(store, ENTRY, patients=(PATIENT,))) == 1


async def test_objects_of_one_change_come_in_the_order_given(store: SqliteMetadataStore) -> None:
    items = [registered(document_entry(unique_id=oid())) for _ in range(5)]
    await commit(store, change_of(*items))

    assert await found(store, ENTRY, patients=(PATIENT,)) == [item.entry_uuid for item in items]
    with pytest.raises(FactsMoved):
        await commit(store, change_of(items[0]))
