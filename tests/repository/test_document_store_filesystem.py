"""What the store of files promises beyond its port (repository/document_store_filesystem.py)."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repository.document_file import described, description_of
from repository.document_store import DocumentDamaged, Kept, Measured, StoreBusy, StoreFull
from repository.document_store_filesystem import BLOCK, FilesystemDocumentStore
from tests.builders import document_entry, oid
from tests.repository.stand_ins import (
    RecordingRegistry,
    RefusingRegistry,
    chunks,
    content_of,
    everything_in,
    message,
    published,
    repository_of,
    settled,
)
from xds.actors import DocumentRequest
from xds.errors import ErrorCode, ResponseStatus


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "documents"


@pytest.fixture
def documents(root: Path) -> FilesystemDocumentStore:
    return FilesystemDocumentStore(root)


def files_in(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def modes_of(paths: Iterable[Path]) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in paths}


def open_files(root: Path) -> list[str]:
    """Those below a directory that this process has open, whatever others have left open."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the look itself
            found.append(str(each.readlink()))
    return sorted(each for each in found if each.startswith(str(root)))


# Files


@pytest.mark.parametrize("size", [0, 5, 2 * BLOCK + 3])
async def test_the_refused_leave_no_file_at_all(documents: FilesystemDocumentStore, root: Path, size: int) -> None:
    repository = repository_of(documents, RefusingRegistry())
    assert not (await repository.provide_and_register(message((document_entry(), b"x" * size)))).succeeded
    assert files_in(root) == []


async def test_a_document_is_one_file_that_begins_with_its_bytes(
    documents: FilesystemDocumentStore, root: Path
) -> None:
    await settled(documents, "1.2.3", b"hello, world")
    (file,) = files_in(root)
    assert file.read_bytes().startswith(b'hello, world{"unique_id": "1.2.3"')


async def test_identical_bytes_are_kept_once(documents: FilesystemDocumentStore, root: Path) -> None:
    for _ in range(3):
        await settled(documents, "1.2.3", b"hello")
    assert len(files_in(root)) == 1


@pytest.mark.parametrize("unique_id", ["../../../escaped", "/tmp/escaped", "a/b", ".", "..", "nul\0", "x" * 5000])  # noqa: S108
async def test_no_unique_id_leads_out_of_the_directory(
    documents: FilesystemDocumentStore, tmp_path: Path, root: Path, unique_id: str
) -> None:
    await published(documents, unique_id, b"waiting")
    await settled(documents, unique_id, b"hello")
    assert len(files_in(root)) == 2
    assert files_in(tmp_path) == files_in(root)


async def test_nobody_else_on_the_host_can_read_documents(documents: FilesystemDocumentStore, root: Path) -> None:
    await settled(documents, oid(), b"hello")
    await published(documents, oid(), b"x" * 2 * BLOCK)
    directories = {file.parent for file in files_in(root)}
    assert modes_of([root, *directories, *(each.parent for each in directories)]) == {0o700}
    assert modes_of(files_in(root)) == {0o600}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="/proc tells the open files; it is not here")
async def test_files_are_let_go_of(documents: FilesystemDocumentStore, root: Path) -> None:
    await settled(documents, oid(), b"x" * 2 * BLOCK)
    before = open_files(root)
    for content in (b"small", b"x" * 2 * BLOCK):
        kept = await settled(documents, oid(), content)
        async with documents.read(kept) as content_of_it:
            await anext(content_of_it)
            was_open = len(open_files(root)) > len(before)
            assert was_open or content == b"small"
    async with documents.staging() as staging:
        await staging.add("it", chunks(b"x" * 2 * BLOCK))
        assert open_files(root) == before
    assert open_files(root) == before


@given(
    unique_id=st.text(),
    mime_type=st.text(),
    key=st.text(),
    size=st.integers(min_value=0, max_value=9000),
    published_at=st.floats(min_value=0, max_value=1e11),
)
def test_a_file_tells_all_that_was_known_of_its_document(
    tmp_path_factory: pytest.TempPathFactory, unique_id: str, mime_type: str, key: str, size: int, published_at: float
) -> None:
    kept = Kept(key, unique_id, mime_type, Measured(size, "ab" * 20, "cd" * 32), False, published_at)
    path = tmp_path_factory.getbasetemp() / "described"
    path.write_bytes(bytes(size) + described(kept))
    with path.open("rb") as file:
        assert description_of(file.fileno(), settled=False) == kept


# Damage


def damaged_at(file: Path, offset: int) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("size", [1, BLOCK, BLOCK + 1, 5 * BLOCK])
@pytest.mark.parametrize("place", ["first", "last"])
async def test_a_flipped_bit_is_found_before_the_last_byte_is_given(
    documents: FilesystemDocumentStore, root: Path, size: int, place: str
) -> None:
    kept = await settled(documents, oid(), b"x" * size)
    damaged_at(files_in(root)[0], 0 if place == "first" else size - 1)
    given_out = 0

    async def read() -> None:
        nonlocal given_out
        async with documents.read(kept) as content:
            async for chunk in content:
                given_out += len(chunk)

    with pytest.raises(DocumentDamaged):
        await read()
    assert given_out < size


@pytest.mark.parametrize("size", [1, 5 * BLOCK])
async def test_a_file_that_was_cut_is_damaged(documents: FilesystemDocumentStore, root: Path, size: int) -> None:
    kept = await settled(documents, oid(), b"x" * size)
    for length in (size + 50, size, size - 1, 0):
        os.truncate(files_in(root)[0], length)
        with pytest.raises(DocumentDamaged):
            await documents.find(kept.unique_id)
    with pytest.raises(DocumentDamaged):
        await content_of(documents, kept)


async def test_every_bit_of_the_description_counts(documents: FilesystemDocumentStore, root: Path) -> None:
    kept = await settled(documents, oid(), b"hello")
    (file,) = files_in(root)
    whole = file.read_bytes()
    for offset in range(5, len(whole)):
        damaged_at(file, offset)
        with pytest.raises(DocumentDamaged):
            await documents.find(kept.unique_id)
        file.write_bytes(whole)
    assert await documents.find(kept.unique_id) == kept


async def test_the_file_of_another_document_is_not_taken_for_this_one(
    documents: FilesystemDocumentStore, root: Path
) -> None:
    await settled(documents, "1.2.3", b"hello")
    (file,) = files_in(root)
    other = await settled(documents, "1.2.4", b"other")
    (other_file,) = (each for each in files_in(root) if each != file)
    shutil.copy(file, other_file)
    with pytest.raises(DocumentDamaged):
        await documents.find(other.unique_id)


@pytest.mark.parametrize("size", [100, BLOCK * 3])
async def test_a_damaged_document_is_an_error_of_the_answer(
    documents: FilesystemDocumentStore, root: Path, size: int
) -> None:
    kept = await settled(documents, oid(), b"x" * size)
    damaged_at(files_in(root)[0], size - 1)
    repository = repository_of(documents, RecordingRegistry())
    response = await repository.retrieve([DocumentRequest(repository.repository_unique_id, kept.unique_id)])
    assert response.status is ResponseStatus.FAILURE
    assert [error.code for error in response.errors] == [ErrorCode.REPOSITORY_ERROR]


async def test_whoever_copies_documents_is_told_of_a_damaged_one_after_all_others(
    documents: FilesystemDocumentStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await settled(documents, oid(), b"damaged")
    damaged_at(files_in(root)[0], -1)
    sound = {await settled(documents, oid(), b"sound %d" % number) for number in range(3)}
    copying = documents.all_settled()
    assert {await anext(copying) for _ in sound} == sound
    with pytest.raises(DocumentDamaged, match="1 files"):
        await anext(copying)
    assert "a settled document is damaged" in caplog.text


async def test_a_damaged_unsettled_file_hides_no_other(
    documents: FilesystemDocumentStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await published(documents, "1.2.3", b"hello")
    damaged_at(files_in(root)[0], -1)
    kept = await published(documents, "1.2.3", b"hello")
    assert await documents.unsettled("1.2.3") == (kept,)
    assert await everything_in(documents) == [kept]
    assert "an unsettled document is damaged" in caplog.text
    assert len(files_in(root)) == 2


# A disk that can not


def failing_with(number: int) -> Callable[..., Any]:
    def failing(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return failing


@pytest.mark.parametrize("size", [5, 3 * BLOCK])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename", "mkdir"])
@pytest.mark.parametrize(
    ("number", "problem"),
    [(errno.ENOSPC, StoreFull), (errno.EDQUOT, StoreFull), (errno.EMFILE, StoreBusy), (errno.EIO, OSError)],
)
async def test_what_the_disk_refuses_is_told_and_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, size: int, call: str, number: int, problem: type[Exception]
) -> None:
    documents = FilesystemDocumentStore(root)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing_with(number))
        with pytest.raises(problem):
            await published(documents, oid(), b"x" * size)
    assert files_in(root) == []
    assert len(await everything_in(documents)) == 0


async def test_of_several_documents_none_is_published_where_the_last_can_not_be(
    documents: FilesystemDocumentStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renames = 0
    rename = os.rename

    def second_fails(*args: Any, **kwargs: Any) -> None:
        nonlocal renames
        renames += 1
        if renames == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(*args, **kwargs)

    async def publish_two() -> None:
        async with documents.staging() as staging:
            await staging.add("first", chunks(b"first"))
            await staging.add("second", chunks(b"second"))
            await staging.publish({"first": ("1.2.3", "text/plain"), "second": ("1.2.4", "text/plain")})

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(StoreFull):
        await publish_two()
    assert renames == 2
    assert files_in(root) == []


async def test_some_room_always_stays_free(root: Path) -> None:
    documents = FilesystemDocumentStore(root, min_free_bytes=2**62)
    for content in (b"small", b"x" * 3 * BLOCK):
        with pytest.raises(StoreFull):
            await published(documents, oid(), content)
    with pytest.raises(StoreFull):
        await documents.check()
    assert files_in(root) == []


async def test_a_document_can_be_settled_and_read_when_nothing_more_is_taken(
    documents: FilesystemDocumentStore, root: Path
) -> None:
    kept = await published(documents, oid(), b"hello")
    full = FilesystemDocumentStore(root, min_free_bytes=2**62)
    assert await content_of(full, await full.settle(kept)) == b"hello"


async def test_a_directory_that_can_not_be_written_to_is_not_ready(
    documents: FilesystemDocumentStore, root: Path
) -> None:
    await documents.check()
    (root / "incoming").rmdir()
    with pytest.raises(StoreBusy):
        await documents.check()
    assert files_in(root) == []


# Crashes


async def test_each_step_is_on_the_disk_before_the_next_one_is_taken(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = FilesystemDocumentStore(root)
    await settled(documents, "1.2.3", b"the directories are there after this")
    steps: list[str] = []

    def recorded(name: str) -> None:
        call = getattr(os, name)

        def recording(*args: Any, **kwargs: Any) -> Any:
            place = args[-1] if name in {"rename", "link"} else args[0]
            if isinstance(place, int):
                place = Path(f"/proc/self/fd/{place}").readlink()
            if str(place).startswith(str(root)):
                steps.append(f"{name} {Path(place).relative_to(root).parts[0]}")
            return call(*args, **kwargs)

        monkeypatch.setattr(os, name, recording)

    for name in ("fsync", "rename", "link", "unlink"):
        recorded(name)
    kept = await published(documents, "1.2.3", b"the directories are there after this")
    await documents.settle(kept)
    await settled(documents, "1.2.3", b"the directories are there after this")

    publishing = ["fsync incoming", "rename unsettled", "fsync unsettled"]
    settling = ["link documents", "fsync documents", "unlink unsettled"]
    assert steps == (publishing + settling) * 2


async def test_a_document_that_has_both_names_after_a_crash_loses_only_the_unsettled_one(
    documents: FilesystemDocumentStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await published(documents, oid(), b"hello")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", failing_with(errno.EIO))
        with pytest.raises(OSError, match="Input/output"):
            await documents.settle(kept)
    assert len(files_in(root)) == 2
    again = FilesystemDocumentStore(root)
    settled_one = await again.find(kept.unique_id)
    assert await again.unsettled(kept.unique_id) == (kept,)

    await again.withdraw(kept)

    assert await again.find(kept.unique_id) == settled_one
    assert len(files_in(root)) == 1


async def test_what_a_crash_left_half_written_is_swept_by_age(documents: FilesystemDocumentStore, root: Path) -> None:
    (root / "incoming" / "left").write_bytes(b"half of a docu")
    os.utime(root / "incoming" / "left", (1_000_000_000, 1_000_000_000))
    (root / "incoming" / "on its way").write_bytes(b"half of a docu")
    assert await documents.sweep_staged(older_than_seconds=3600) == 1
    assert [path.name for path in files_in(root)] == ["on its way"]


def test_a_process_may_be_killed_at_every_step(tmp_path: Path) -> None:
    """tests/repository/crashes.py tells what is checked after each of them."""
    outcome = subprocess.run(
        [sys.executable, "-m", "tests.repository.crashes", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    crashes = int(outcome.stdout.split()[0])
    assert crashes > 60


async def test_a_cancelled_submission_waits_for_its_threads(
    documents: FilesystemDocumentStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    is_writing = asyncio.Event()
    write = os.write

    def slow(descriptor: int, content: bytes) -> int:
        loop.call_soon_threadsafe(is_writing.set)
        written = write(descriptor, content)
        os.fstat(descriptor)  # fails where the file was closed under the thread
        return written

    monkeypatch.setattr(os, "write", slow)
    submission = asyncio.create_task(published(documents, oid(), b"x" * 8 * BLOCK))
    await is_writing.wait()
    submission.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submission
    assert files_in(root) == []
