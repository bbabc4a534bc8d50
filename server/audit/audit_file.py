"""Audit events in a file, a line of JSON for each; several processes add to one file, one after the other.

Who rotates it renames it: the next events go to a new file of the old name.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from server.audit.audit_sink import KeptEvent, NotKept

_MODE: Final = 0o600  # it names patients


class AuditFile:
    """An AuditSink."""

    def __init__(self, path: Path) -> None:
        """Raises NotKept where it can not be written."""
        self._path = path
        self._descriptor = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as problem:
            raise NotKept(f"{path} can not be written: {problem}") from problem

    def has_room(self) -> bool:
        return True

    def keep(self, events: Sequence[KeptEvent]) -> None:
        try:
            if self._was_renamed():
                self._open()
            self._append(b"".join([each.resource + b"\n" for each in events]))
        except OSError as problem:
            raise NotKept(f"{self._path} can not be written: {problem}") from problem

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        opened = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
        self.close()
        self._descriptor = opened
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _was_renamed(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        return not os.path.samestat(there, os.fstat(self._descriptor))

    def _append(self, lines: bytes) -> None:
        """All of the lines, or none; where a crash has left half a line, it is ended first."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            size = os.fstat(self._descriptor).st_size
            text = lines if self._ends_a_line(size) else b"\n" + lines
            try:
                written = os.write(self._descriptor, text)
                if written < len(text):
                    raise OSError(f"of {len(text)} octets only {written} were written")  # noqa: TRY301
                os.fsync(self._descriptor)
            except OSError:
                os.ftruncate(self._descriptor, size)
                raise
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _ends_a_line(self, size: int) -> bool:
        return size == 0 or os.pread(self._descriptor, 1, size - 1) == b"\n"
