"""Kills a node at every request that ITI-41 makes to MongoDB and S3, and asks another node what there is.

`python -m tests.reliability.dying_nodes DIRECTORY`, with the settings of the stores in the environment. For each
request, before it and after it: a process is forked, which is a node that serves one replacement and kills itself
there; a second one sees either nothing or all of it, and goes on with the dossier. So the node dies between each two of
staged, published, registered and settled, and in the midst of each. Exits with a sentence where a promise is broken.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from minio import Minio

from registry.mongodb.database import MongoDatabase
from tests.conformance.wire import Wire, running_server
from tests.reliability.nodes import new_document
from tests.reliability.traffic import Fate, Memory, Sent, broken_invariants, replacement, send


def killed_at(step: int, *, after: bool) -> None:
    """Have this process end at its `step`th request from now on."""
    steps = itertools.count(1)
    ask_mongodb, ask_s3 = MongoDatabase.run, Minio._url_open

    def end() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def run(database: MongoDatabase, send: Callable[[], Awaitable[Any]], **options: Any) -> Any:
        is_last = next(steps) == step
        if is_last and not after:
            end()
        answer = await ask_mongodb(database, send, **options)
        if is_last:
            end()
        return answer

    def url_open(client: Minio, *args: Any, **kwargs: Any) -> Any:
        is_last = next(steps) == step
        if is_last and not after:
            end()
        answer = ask_s3(client, *args, **kwargs)
        if is_last:
            end()
        return answer

    MongoDatabase.run = run  # type: ignore[method-assign,assignment]
    Minio._url_open = url_open  # type: ignore[method-assign,assignment]


async def served(directory: Path, *documents: tuple[Sent, Sent | None], dies: Callable[[], None] | None = None) -> None:
    """One node, which takes these documents, each of which may replace another one; it may die from then on."""
    async with running_server(directory) as base, aiohttp.ClientSession() as session:
        wire = Wire(base, session)
        if dies is not None:
            dies()
        for document, target in documents:
            await send(wire, document, *([] if target is None else [replacement(document, target)]))
            if document.fate is not Fate.ACKNOWLEDGED:
                raise SystemExit(f"a document was refused with {document.codes}")


async def looked_at(directory: Path, memory: Memory, next_target: Sent) -> None:
    """Another node: nothing or all of what was sent is there; and it takes the next document."""
    async with running_server(directory) as base:
        if broken := await broken_invariants(base, memory):
            raise SystemExit("; ".join(broken))
    await served(directory, (next_target, None))


def in_a_process(work: Callable[[], Awaitable[None]]) -> int:
    """Do it in a process of its own; returns its exit code, which is negative where it was killed."""
    child = os.fork()
    if not child:
        exit_code = 1
        try:
            asyncio.run(work())  # type: ignore[arg-type]
            exit_code = 0
        except SystemExit as told:
            sys.stderr.write(f"{told}\n")
        finally:
            os._exit(exit_code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def main(directory: Path) -> int:
    """How many deaths there were."""
    target, deaths = new_document(), 0
    if in_a_process(partial(served, directory / "first", (target, None))):
        raise SystemExit("the first document was not taken")
    for step in itertools.count(1):
        codes = []
        for after in (False, True):
            target.fate = Fate.ACKNOWLEDGED
            sent, following = new_document(), new_document()
            sent.replaces = target.entry.entry_uuid
            dies = partial(killed_at, step, after=after)
            codes.append(in_a_process(partial(served, directory / "dying", (sent, target), dies=dies)))
            if codes[-1] == 0:
                sent.fate = Fate.ACKNOWLEDGED
            if in_a_process(partial(looked_at, directory / "other", Memory([target, sent]), following)):
                raise SystemExit(f"a node died at request {step}, {'after' if after else 'before'} it: see above")
            target = following
        if codes == [0, 0]:
            return deaths
        if set(codes) - {-signal.SIGKILL, 0}:
            raise SystemExit(f"a node that was to die at request {step} ended with {codes}")
        deaths += codes.count(-signal.SIGKILL)
    raise AssertionError


if __name__ == "__main__":
    sys.stdout.write(f"{main(Path(sys.argv[1]))} deaths\n")
