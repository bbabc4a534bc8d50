"""What docs/operations.md says to type backs a server up while it works, and restores it."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from tests.builders import submission
from tests.conformance.wire import Wire
from tests.reliability.kill_the_server import deep_check
from tests.reliability.traffic import Fate, Memory, Sent, Traffic, broken_invariants
from tests.server_process import ServerProcess, server_process

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
IDENTITY = "repository-unique-id"
TRAFFIC_SECONDS = 2.0
CAME_LATER = re.compile(r"document (?P<unique_id>\S+) \(UNKNOWN, .*: 0 entries, but content is there")
"""A document that was copied after the registry: it is not listed until its source sends it again."""

pytestmark = pytest.mark.slow


def procedures() -> tuple[str, str]:
    """The scripts of the section "One machine": backing up, restoring."""
    section = OPERATIONS.partition("\n### One machine\n")[2].partition("\n### ")[0]
    back_up, restore = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return back_up, restore


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory where commands are typed as in a checkout."""
    binaries = tmp_path / ".venv/bin"
    binaries.mkdir(parents=True)
    for name, command in (
        ("python", f'exec "{sys.executable}" "$@"'),
        ("toimik", f'exec "{sys.executable}" -m server "$@"'),
    ):
        program = binaries / name
        program.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
        program.chmod(0o755)
    return tmp_path


@pytest.fixture
def server(checkout: Path) -> Iterator[ServerProcess]:
    with server_process(checkout / "toimik-data", workers=2) as running:
        yield running


async def typed(script: str, checkout: Path) -> None:
    """Run a script as somebody would who pastes it. Its exit code has to be 0."""
    command = ["bash", "-eu", "-o", "pipefail", "-c", script]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "TOIMIK_PORT": "0"}
    finished = await asyncio.to_thread(
        subprocess.run,
        command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"


async def backed_up_in_the_midst(server: ServerProcess, memory: Memory, seed: int, checkout: Path) -> set[str]:
    """Back up while sources submit. What had been acknowledged when the backup began, by uniqueId."""
    back_up, _ = procedures()
    traffic = Traffic([server.url], memory, seed=seed)
    running = asyncio.create_task(traffic.run())
    await asyncio.sleep(TRAFFIC_SECONDS)
    acknowledged = {each.unique_id for each in memory.with_fate(Fate.ACKNOWLEDGED)}
    await typed(back_up, checkout)
    sent_when_it_was_done = len(memory.sent)
    await asyncio.sleep(TRAFFIC_SECONDS / 4)
    traffic.stop()
    await running
    assert len(memory.sent) > sent_when_it_was_done, "nothing came while it was backed up, so nothing was shown"
    return acknowledged


def as_known_to(memory: Memory, acknowledged: set[str]) -> Memory:
    """What a backup has to hold. Whether anything later is in it is open; if it is, then as a whole."""
    return Memory(
        [
            replace(each, fate=Fate.UNKNOWN)
            if each.fate is Fate.ACKNOWLEDGED and each.unique_id not in acknowledged
            else each
            for each in memory.sent
        ],
        memory.clashing,
    )


def read(path: Path) -> str:
    return path.read_text(encoding="ascii")


def later(broken: Iterable[str]) -> set[str]:
    return {match["unique_id"] for each in broken if (match := CAME_LATER.match(each))}


async def sent_again(base: str, lost: Sequence[Sent]) -> None:
    """What sources do when a server has lost something; replacements alone, since their targets may be lost."""
    async with aiohttp.ClientSession() as session:
        wire = Wire(base, session)
        for each in lost:
            answer = await wire.provide(submission(each.entry), {each.entry.entry_uuid: each.content})
            assert answer.registry_response.succeeded, answer.content
    alone = Memory([replace(each, fate=Fate.ACKNOWLEDGED, replaces=None) for each in lost])
    assert await broken_invariants(base, alone) == []


async def test_a_backup_of_a_working_server_holds_all_that_was_acknowledged_before_it_began(
    server: ServerProcess, checkout: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    memory = Memory()
    _, restore = procedures()

    # The second one finds the first one's copies.
    for attempt in range(2):
        acknowledged = await backed_up_in_the_midst(server, memory, seed + attempt, checkout)
        assert acknowledged
        await typed(restore.replace("restored", f"restored-{attempt}"), checkout)  # its last line is the doctor
        restored = checkout / f"restored-{attempt}"
        assert read(restored / IDENTITY) == read(checkout / "toimik-data" / IDENTITY)
        assert (restored / "registry.sqlite").stat().st_mode & 0o077 == 0, "it is for its owner alone"
        with server_process(restored) as again:
            broken = await broken_invariants(again.url, as_known_to(memory, acknowledged))
            assert [each for each in broken if not CAME_LATER.match(each)] == [], f"seed {seed}"
            await sent_again(again.url, [each for each in memory.sent if each.unique_id in later(broken)])
        assert deep_check(restored) == []


async def test_restoring_over_data_is_refused(checkout: Path) -> None:
    _, restore = procedures()
    (checkout / "restored").mkdir()
    (checkout / "backup").mkdir()

    with pytest.raises(AssertionError, match="File exists"):
        await typed(restore, checkout)


async def test_the_doctor_says_so_when_a_restored_document_is_missing(server: ServerProcess, checkout: Path) -> None:
    back_up, restore = procedures()
    memory = Memory()
    traffic = Traffic([server.url], memory, seed=1, sources=1)
    running = asyncio.create_task(traffic.run())
    await traffic.resumed()
    traffic.stop()
    await running
    await typed(back_up, checkout)
    documents = [path for path in (checkout / "backup/documents/documents").rglob("*") if path.is_file()]
    max(documents, key=lambda path: path.stat().st_size).unlink()

    with pytest.raises(AssertionError, match="its document is not there"):
        await typed(restore, checkout)
