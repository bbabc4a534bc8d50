"""Kills a node at every request that the first retrieval of a delayed document makes to MongoDB and S3.

`python -m tests.reliability.dying_assemblies DIRECTORY`, with the settings of the stores in the environment. For each
request, before it: a process is forked, which is a node that assembles one document and kills itself there; a second
one is asked for the same document, which its source would give other octets for by then. It answers a whole document,
the entry says its hash, and who asks again gets the same. Exits with a sentence where that is not so.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp

from tests.builders import document_entry, submission
from tests.conformance.summary_server import summary_server
from tests.conformance.test_documents_in_and_out import asked, entries_of
from tests.conformance.wire import Wire, running_server
from tests.reliability.dying_nodes import in_a_process, killed_at
from xds.ebxml_messages import retrieve_request
from xds.metadata import HASH_OF_NOTHING, DocumentEntry
from xds.transactions import ITI_43

DYING, OTHER = b"of the node that dies", b"of the other node"


@asynccontextmanager
async def node(directory: Path, entry: DocumentEntry, content: bytes) -> AsyncIterator[Wire]:
    """A node, whose source gives this content of the document of an entry."""
    async with summary_server() as archive, aiohttp.ClientSession() as session:
        archive.gives(entry.unique_id or "", content)
        source = {"name": "archive", "url": archive.url, "delayed": True}
        async with running_server(directory, on_demand=[source]) as base:
            yield Wire(base, session)


async def assembled(directory: Path, entry: DocumentEntry, *, dies: Callable[[], None]) -> None:
    """A node that takes the entry of a delayed document, and is asked for it; it dies from then on."""
    async with node(directory, entry, DYING) as wire:
        answer = await wire.register(submission(entry))
        if not answer.registry_response.succeeded:
            raise SystemExit(f"the entry was refused with {answer.codes}")
        dies()
        await wire.mtom(ITI_43, retrieve_request([asked(entry)]))
        os._exit(0)


async def looked_at(directory: Path, entry: DocumentEntry) -> None:
    """Another node that is asked for the document, twice."""
    async with node(directory, entry, OTHER) as wire:
        answers = [await wire.mtom(ITI_43, retrieve_request([asked(entry)])) for _ in range(2)]
        if refused := [code for answer in answers for code in answer.codes]:
            raise SystemExit(f"the document was refused with {refused}: {answers[0].content!r}")
        (first,), (second,) = (answer.parts.values() for answer in answers)
        (newest,) = await entries_of(wire, entry.unique_id or "")
    told = (newest.hash, newest.size, newest.version)
    if first != second or first not in (DYING, OTHER):
        raise SystemExit(f"{first!r} was answered, and then {second!r}")
    if told != (hashlib.sha1(first, usedforsecurity=False).hexdigest(), str(len(first)), "2"):
        raise SystemExit(f"{first!r} was answered, and the entry says {told}")


def main(directory: Path) -> int:
    """How many deaths there were."""
    for step in itertools.count(1):
        entry = document_entry(hash=HASH_OF_NOTHING, size="0")
        dies = partial(killed_at, step, after=False)
        code = in_a_process(partial(assembled, directory / "dying", entry, dies=dies))
        if code not in (0, -signal.SIGKILL):
            raise SystemExit(f"a node that was to die at request {step} ended with {code}")
        if in_a_process(partial(looked_at, directory / "other", entry)):
            raise SystemExit(f"a node died at request {step}: see above")
        if code == 0:
            return step - 1
    raise AssertionError


if __name__ == "__main__":
    sys.stdout.write(f"{main(Path(sys.argv[1]))} deaths\n")
