"""Nodes on shared stores in this event loop, for tests that kill none of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.builders import PATIENT, document_entry, unmeasured
from tests.conformance.wire import Wire, running_server
from tests.reliability.shared_stores import SharedStores
from tests.reliability.traffic import Sent
from xds.hl7v2 import CX

_LOOKED_TIMES = 100


@asynccontextmanager
async def running_nodes(
    directory: Path, stores: SharedStores, *, nodes: int = 2, **changes: Any
) -> AsyncIterator[Sequence[Wire]]:
    """A client of each of several nodes on the same stores. changes: of the settings."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        settings = stores.settings() | changes
        yield [
            Wire(await stack.enter_async_context(running_server(directory / f"node-{number}", **settings)), session)
            for number in range(nodes)
        ]


async def swept(directory: Path, stores: SharedStores) -> list[str]:
    """What is left over where a node sweeps what is older than a second."""
    left: list[str] = []
    async with running_nodes(directory, stores, nodes=1, sweep_seconds=1):
        for _ in range(_LOOKED_TIMES):
            if not (left := await asyncio.to_thread(stores.leftovers)):
                break
            await asyncio.sleep(0.5)
    return left


def new_document(size: int = 1000, patient: CX = PATIENT, **changes: Any) -> Sent:
    """A document that was not submitted yet."""
    entry = unmeasured(document_entry(patient_id=patient, **changes))
    return Sent(entry, random.getrandbits(32), size)
