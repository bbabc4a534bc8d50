"""Documents as files in a directory tree: the blocking half of repository/document_store_filesystem.py.

    incoming/<token>                              staged: on its way in, or left behind by a crash
    unsettled/<a>/<SHA-256 of uniqueId>.<key>     published
    documents/<aa>/<SHA-256 of uniqueId>          settled

Each is one file (repository/document_file.py). A crash between any two steps leaves one of these behind:
* a file in incoming, whole or not: nobody reads it, the sweeper removes it;
* an unsettled file, which is whole: its bytes and its description were on the disk before it got that name;
* a settled file that has its unsettled name as well: settling or withdrawing it again removes that name alone.
A file gets its settled name by link(2), which never overwrites, so of several processes that settle different bytes one
wins. The root must be one filesystem with hard links, and may be shared by any number of processes.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import uuid4

from repository.document_file import described, description_of
from repository.document_store import DocumentDamaged, Kept, Measured, OtherBytesSettled, StoreBusy, StoreFull

logger = logging.getLogger(__name__)

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_BUSY: Final = frozenset(
    {errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}
)


@contextmanager
def _in_the_ports_words() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if problem.errno in _FULL:
            raise StoreFull("no room is left for documents") from problem
        if problem.errno in _BUSY:
            raise StoreBusy(f"the directory of documents does not answer: {problem.strerror}") from problem
        raise


class DocumentTree:
    """The tree of one repository.

    min_free_bytes   what stays free on the filesystem: nothing is written that would leave less
    """

    def __init__(self, root: Path, *, min_free_bytes: int) -> None:
        self._root = root
        self._min_free_bytes = min_free_bytes
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _flush_directory(root.parent)
        self._lasting: set[Path] = set()  # directories that this process has seen to survive a crash: a cache, no more
        for name in ("incoming", "unsettled", "documents"):
            self._directory(root / name)

    def new_file(self) -> IncomingFile:
        """A file for a document on its way in. Nothing is on the disk yet."""
        return IncomingFile(self._root / "incoming" / uuid4().hex, self)

    def require_room(self, octets: int) -> None:
        """Raise StoreFull where writing so much would leave less free than is to stay free."""
        filesystem = os.statvfs(self._root)
        if filesystem.f_bavail * filesystem.f_frsize - octets < self._min_free_bytes:
            raise StoreFull(f"less than {self._min_free_bytes} octets would stay free")

    @_in_the_ports_words()
    def publish(self, documents: Sequence[tuple[IncomingFile, str, str]]) -> tuple[Kept, ...]:
        """Make all of them unsettled documents, durable, or none. Each comes with its uniqueId and mimeType."""
        published: list[Path] = []
        try:
            kept = tuple(document.completed(unique_id, mime_type) for document, unique_id, mime_type in documents)
            for (document, _, _), each in zip(documents, kept, strict=True):
                path = self._unsettled_path(each)
                self._directory(path.parent)
                document.renamed(path)
                published.append(path)
            for directory in {path.parent for path in published}:
                _flush_directory(directory)
        except BaseException:
            for path in published:
                path.unlink(missing_ok=True)
            raise
        return kept

    @_in_the_ports_words()
    def settle(self, kept: Kept) -> Kept:
        """Give an unsettled document its settled name; see DocumentStore.settle."""
        unsettled, settled = self._unsettled_path(kept), self._settled_path(kept.unique_id)
        self._directory(settled.parent)
        try:
            os.link(unsettled, settled)
            stays = replace(kept, settled=True)
        except (FileExistsError, FileNotFoundError):
            stays = self._settled_before(kept)
        # The settled name must be there to stay before the other one goes, whoever has given it.
        _flush_directory(settled.parent)
        unsettled.unlink(missing_ok=True)
        return stays

    def _settled_before(self, kept: Kept) -> Kept:
        stays = self.find(kept.unique_id)
        if stays is None:
            raise KeyError(kept.key)
        if stays.measured != kept.measured:
            raise OtherBytesSettled(f"other bytes are settled than those of {kept.key}")
        return stays

    @_in_the_ports_words()
    def withdraw(self, kept: Kept) -> None:
        self._unsettled_path(kept).unlink(missing_ok=True)

    @_in_the_ports_words()
    def remove(self, kept: Kept) -> None:
        """Take a document away for good; see DocumentStore.remove."""
        path = self._settled_path(kept.unique_id) if kept.settled else self._unsettled_path(kept)
        path.unlink(missing_ok=True)
        if path.parent.exists():
            _flush_directory(path.parent)

    @_in_the_ports_words()
    def find(self, unique_id: str) -> Kept | None:
        kept = _kept_in(self._settled_path(unique_id), settled=True)
        if kept is not None and kept.unique_id != unique_id:
            raise DocumentDamaged("the file holds the document of another uniqueId")
        return kept

    @_in_the_ports_words()
    def unsettled(self, unique_id: str) -> tuple[Kept, ...]:
        name = _name_of(unique_id)
        return tuple(_unsettled_in(self._unsettled_directory(name), prefix=f"{name}."))

    def unsettled_directories(self) -> Sequence[Path]:
        """Where unsettled documents are: what `unsettled_in` takes."""
        return sorted((self._root / "unsettled").iterdir())

    @_in_the_ports_words()
    def unsettled_in(self, directory: Path, published_until: float) -> Sequence[Kept]:
        return [kept for kept in _unsettled_in(directory) if kept.published_at <= published_until]

    def settled_directories(self) -> Sequence[Path]:
        """Where settled documents are: what `settled_in` takes."""
        return sorted((self._root / "documents").iterdir())

    @_in_the_ports_words()
    def settled_in(self, directory: Path) -> tuple[Sequence[Kept], int]:
        """The documents of a directory, and how many files there are none that can be served."""
        found = list(_documents_in(directory, settled=True))
        kept = [each for each in found if each is not None]
        return kept, len(found) - len(kept)

    @_in_the_ports_words()
    def sweep_incoming(self, written_until: float) -> int:
        """Remove files that nobody has written to since, and tell how many."""
        removed = 0
        for path in (self._root / "incoming").iterdir():
            with suppress(FileNotFoundError):  # published or thrown away meanwhile
                if path.stat().st_mtime <= written_until:
                    path.unlink()
                    removed += 1
        return removed

    @_in_the_ports_words()
    def opened(self, kept: Kept) -> int:
        """The descriptor of a document's file, at its start.

        Raises KeyError where the document is gone.
        """
        if not kept.settled:
            with suppress(FileNotFoundError):
                return os.open(self._unsettled_path(kept), os.O_RDONLY)
            # Another process may have settled it meanwhile, or have settled other bytes.
            stays = self.find(kept.unique_id)
            if stays is None or stays.measured != kept.measured:
                raise KeyError(kept.key)
        try:
            return os.open(self._settled_path(kept.unique_id), os.O_RDONLY)
        except FileNotFoundError as problem:
            raise KeyError(kept.key) from problem

    def probe(self) -> None:
        """Raise StoreBusy or StoreFull where nothing could be written now."""
        probe = self.new_file()
        try:
            with _in_the_ports_words():
                probe.write([])
        except OSError as problem:
            raise StoreBusy(f"the directory of documents can not be written to: {problem.strerror}") from problem
        finally:
            probe.discard()

    def _settled_path(self, unique_id: str) -> Path:
        name = _name_of(unique_id)
        return self._root / "documents" / name[:2] / name

    def _unsettled_path(self, kept: Kept) -> Path:
        name = _name_of(kept.unique_id)
        return self._unsettled_directory(name) / f"{name}.{kept.key}"

    def _unsettled_directory(self, name: str) -> Path:
        return self._root / "unsettled" / name[:1]

    def _directory(self, path: Path) -> None:
        """Make a directory that survives a crash, also where another process has only just made it."""
        if path not in self._lasting:
            path.mkdir(mode=0o700, exist_ok=True)
            _flush_directory(path.parent)
            self._lasting.add(path)


class IncomingFile:
    """A document while it arrives. It may stay in memory until it is published (`held`), if it is small.

    Used by one thread at a time.
    """

    def __init__(self, path: Path, tree: DocumentTree) -> None:
        self._path = path
        self._tree = tree
        self._descriptor: int | None = None
        self._on_disk = False
        self._held = b""
        self._size = 0
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    @property
    def on_disk(self) -> bool:
        """Whether there is anything to be discarded."""
        return self._on_disk

    @property
    def measured(self) -> Measured:
        return Measured(size=self._size, hash=self._sha1.hexdigest(), sha256=self._sha256.hexdigest())

    def hold(self, content: bytes) -> None:
        """Take all of a small document, and write it when it is published."""
        self._held = content
        self._measure(content)

    @_in_the_ports_words()
    def write(self, chunks: Sequence[bytes]) -> None:
        """Write what has come. Chunks are not joined first: that would cost as much as hashing them."""
        self._tree.require_room(sum(map(len, chunks)))
        if self._descriptor is None:
            self._descriptor = _created(self._path)
            self._on_disk = True
        for chunk in chunks:
            _write_whole(self._descriptor, chunk)
            self._measure(chunk)

    @_in_the_ports_words()
    def end(self, chunks: Sequence[bytes]) -> None:
        """Write what came last and let go of the file: a submission may have more documents than files may be open."""
        self.write(chunks)
        self._close()

    def completed(self, unique_id: str, mime_type: str) -> Kept:
        """Have the document and its description on the disk, there to stay. Nobody knows the file's name yet."""
        kept = Kept(
            key=uuid4().hex,
            unique_id=unique_id,
            mime_type=mime_type,
            measured=self.measured,
            settled=False,
            published_at=time.time(),
        )
        rest = self._held + described(kept)
        self._tree.require_room(len(rest))
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND) if self._on_disk else _created(self._path)
        self._on_disk = True
        try:
            _write_whole(self._descriptor, rest)
            os.fsync(self._descriptor)
        finally:
            self._close()
        return kept

    def renamed(self, path: Path) -> None:
        self._path.rename(path)
        self._on_disk = False

    def discard(self) -> None:
        self._close()
        if self._on_disk:
            self._path.unlink(missing_ok=True)
            self._on_disk = False

    def _measure(self, chunk: bytes) -> None:
        self._size += len(chunk)
        self._sha1.update(chunk)
        self._sha256.update(chunk)

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


class OutgoingFile:
    """A document while it is read. Used by one thread at a time."""

    def __init__(self, kept: Kept, tree: DocumentTree) -> None:
        self._kept = kept
        self._tree = tree
        self._descriptor: int | None = None
        self._sha256 = hashlib.sha256()
        self._left = kept.measured.size

    @property
    def left(self) -> int:
        """Octets that were not read yet."""
        return self._left

    def open(self) -> None:
        """Raises KeyError where the document is gone."""
        self._descriptor = self._tree.opened(self._kept)

    @_in_the_ports_words()
    def next_block(self, octets: int) -> bytes:
        """The bytes that follow, at most so many. The last ones are given when all of them were found to be right.

        Raises DocumentDamaged.
        """
        if self._descriptor is None:
            raise RuntimeError("a document is opened before it is read")
        try:
            block = os.read(self._descriptor, min(octets, self._left))
        except OSError as problem:
            if problem.errno == errno.EIO:
                raise DocumentDamaged(f"the disk can not read {self._kept.key}") from problem
            raise
        self._sha256.update(block)
        self._left -= len(block)
        if self._left and not block:
            raise DocumentDamaged(f"{self._left} octets of {self._kept.key} are missing")
        if not self._left and self._sha256.hexdigest() != self._kept.measured.sha256:
            raise DocumentDamaged(f"the bytes of {self._kept.key} were altered")
        return block

    def close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


def _name_of(unique_id: str) -> str:
    """A uniqueId as a file name: of one length, and without a meaning in a path."""
    return hashlib.sha256(unique_id.encode("utf-8", "surrogatepass")).hexdigest()


def _created(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _write_whole(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _flush_directory(path: Path) -> None:
    """Make the names in a directory survive a crash."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _kept_in(path: Path, *, settled: bool) -> Kept | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return description_of(descriptor, settled=settled)
    finally:
        os.close(descriptor)


def _unsettled_in(directory: Path, prefix: str = "") -> Iterator[Kept]:
    # Nobody was promised one that is damaged. It stays for the operator to look at.
    return (kept for kept in _documents_in(directory, settled=False, prefix=prefix) if kept is not None)


def _documents_in(directory: Path, *, settled: bool, prefix: str = "") -> Iterator[Kept | None]:
    """The documents in a directory, and None in the place of each that is damaged."""
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if entry.name.startswith(prefix))
    except FileNotFoundError:
        return
    for name in names:
        try:
            kept = _kept_in(directory / name, settled=settled)
        except DocumentDamaged as problem:
            said = "a settled document is damaged" if settled else "an unsettled document is damaged"
            logger.error(said, extra={"file": name, "problem": str(problem)})
            yield None
            continue
        if kept is not None:  # not gone since the directory was read
            yield kept
