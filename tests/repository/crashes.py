"""Kills ITI-41 at every step it takes on the disk, and checks what a restart finds.

`python -m tests.repository.crashes DIRECTORY` forks a process for each step, which ends with os._exit before or after
that step, as a killed process does. What the registry has registered is told by a file beside the store. Exits with 1
and a sentence where a promise is broken.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from repository.document_store import DocumentStore
from repository.document_store_filesystem import FilesystemDocumentStore
from repository.sweeper import sweep
from tests.builders import document_entry
from tests.repository.stand_ins import RecordingRegistry, message, repository_of
from xds.actors import DocumentRequest, RegistryResponse
from xds.errors import ErrorCode, RegistryError
from xds.metadata import Submission

STEPS = ("open", "write", "fsync", "close", "mkdir", "rename", "link", "unlink")
KILLED = 9
CONTENTS = (b"small", b"large" * 150_000)


@dataclass(frozen=True)
class Attempt:
    """One submission of a small and a large document, into a store that all attempts share.

    opened   opens that store
    """

    directory: Path
    opened: Callable[[], DocumentStore]
    contents: Sequence[bytes]
    number: int
    refuses: bool

    @property
    def unique_ids(self) -> Sequence[str]:
        return [f"1.2.{self.number}.{place}" for place, _ in enumerate(self.contents)]

    @property
    def registered(self) -> Path:
        """There when the registry has committed."""
        return self.directory / f"registered {self.number}"

    @property
    def acknowledged(self) -> Path:
        """There when the source has its answer."""
        return self.directory / f"acknowledged {self.number}"


class RegistryBesideTheStore(RecordingRegistry):
    """Registers by making a file, as a commit does: it is there or it is not."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__()
        self._attempt = attempt

    async def register_document_set(self, submission: Submission) -> RegistryResponse:
        if self._attempt.refuses:
            return RegistryResponse.of([RegistryError(ErrorCode.UNKNOWN_PATIENT_ID, "Not this one.")])
        os.mkdir(self._attempt.registered)  # noqa: PTH102  (a step that may be the last one)
        return await super().register_document_set(submission)

    async def is_registered(self, unique_id: str, hash_: str) -> bool:
        assert hash_
        return self._attempt.registered.exists() and unique_id in self._attempt.unique_ids


def submit(attempt: Attempt) -> None:
    entries = [document_entry(unique_id=unique_id) for unique_id in attempt.unique_ids]
    repository = repository_of(attempt.opened(), RegistryBesideTheStore(attempt))
    response = asyncio.run(repository.provide_and_register(message(*zip(entries, attempt.contents, strict=True))))
    if response.succeeded is attempt.refuses:
        raise SystemExit(f"the submission was answered with {response}")
    if response.succeeded:
        attempt.acknowledged.mkdir()


def killed_at(step: int, after: bool) -> None:
    """Have this process end at its `step`th step on the disk, counted over all its threads."""
    steps = itertools.count(1)

    def counted(system_call: Callable[..., Any]) -> Callable[..., Any]:
        def last(*args: Any, **kwargs: Any) -> Any:
            is_last = next(steps) == step
            if is_last and not after:
                os._exit(KILLED)
            result = system_call(*args, **kwargs)
            if is_last:
                os._exit(KILLED)
            return result

        return last

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def was_killed(attempt: Attempt, prepare: Callable[[], None]) -> bool:
    """Submit in a process of its own, which `prepare` has end at some step. False where it takes fewer steps."""
    child = os.fork()
    if not child:
        prepare()
        submit(attempt)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    exit_code = os.waitstatus_to_exitcode(status)
    if exit_code not in (0, KILLED):
        raise SystemExit(f"the submission failed with {exit_code}")
    return exit_code == KILLED


async def broken_promises(attempt: Attempt) -> Sequence[str]:
    """What is not as promised after a restart, before and after the leftovers were swept."""
    registry = RegistryBesideTheStore(attempt)
    documents = attempt.opened()
    repository = repository_of(documents, registry)
    registered = attempt.registered.exists()
    broken = []
    if attempt.acknowledged.exists() and not registered:
        broken.append("a submission was acknowledged that is not registered")
    for when in ("before sweeping", "after sweeping"):
        for unique_id, content in zip(attempt.unique_ids, attempt.contents, strict=True):
            response = await repository.retrieve([DocumentRequest(repository.repository_unique_id, unique_id)])
            received = [await _bytes_of(document.content()) for document in response.documents]
            if received != ([content] if registered else []):
                broken.append(f"{unique_id} is answered with {len(received)} documents {when}: {response.errors}")
        await sweep(documents, registry.is_registered, older_than_seconds=-60)
    await documents.close()
    return broken


def registered_in(directory: Path) -> int:
    """How many submissions the registry has committed."""
    return len([*directory.glob("registered *")])


def crashes_of(
    directory: Path,
    opened: Callable[[], DocumentStore],
    contents: Sequence[bytes],
    *,
    killed_at: Callable[[int, bool], None],
    left_over: Callable[[], Sequence[str]],
) -> int:
    """Kill a submission before and after each of its steps, one that is accepted and one that is refused.

    killed_at   has this process end at a step, counted from 1; after it, where the second argument is true
    left_over   what is in the store that should not be there
    """
    crashes = 0
    numbers = itertools.count(1)
    for refuses, after in itertools.product((False, True), repeat=2):
        for step in itertools.count(1):
            attempt = Attempt(directory, opened, contents, next(numbers), refuses)
            killed = was_killed(attempt, partial(killed_at, step, after))
            if broken := [*asyncio.run(broken_promises(attempt)), *left_over()]:
                sys.exit(f"killed {'after' if after else 'before'} step {step}: {'; '.join(broken)}")
            if not killed:
                break
            crashes += 1
    return crashes


async def _bytes_of(opening: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> bytes:
    async with opening as content:
        return b"".join([chunk async for chunk in content])


def main(directory: Path) -> int:
    """Kill at each step that the store of files takes on the disk."""
    documents = FilesystemDocumentStore(directory / "documents")

    def left_over() -> Sequence[str]:
        files = [path for path in (directory / "documents").rglob("*") if path.is_file()]
        expected = len(CONTENTS) * registered_in(directory)
        return [] if len(files) == expected else [f"{len(files)} files are left, {expected} documents are registered"]

    return crashes_of(directory, lambda: documents, CONTENTS, killed_at=killed_at, left_over=left_over)


if __name__ == "__main__":
    sys.stdout.write(f"{main(Path(sys.argv[1]))} crashes\n")
