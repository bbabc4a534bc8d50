"""Kill the whole server at random moments of ITI-41 traffic and look at what a restart finds.

`python tests/reliability/kill_the_server.py [--kills 20] [--workers 2] [--seed N]`: exit code 0 where every invariant
of tests/reliability/traffic.py held after every kill and `toimik doctor --deep` found nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.reliability.traffic import Fate, Memory, Traffic, broken_invariants  # noqa: E402 - run as a script
from tests.server_process import free_port, server_process  # noqa: E402

LIFE_SECONDS = (0.3, 2.5)


@dataclass
class Outcome:
    """What a run of several kills came to."""

    memory: Memory
    broken: list[str]
    kills: int
    midway: int  # kills that came while a submission was under way


def killed_again_and_again(data: Path, *, kills: int, workers: int, seed: int) -> Outcome:
    """Start, submit, kill; start again and look; and so on."""
    chance = random.Random(seed)  # noqa: S311 - a test that can be repeated
    memory, broken, midway = Memory(), [], 0
    port = free_port()
    for kill in range(kills):
        with server_process(data, workers=workers, port=port) as server:
            broken += asyncio.run(broken_invariants(server.url, memory))
            traffic = Traffic(server.url, memory, seed=chance.randrange(2**32))
            midway += asyncio.run(_until_killed(traffic, server.kill, chance.uniform(*LIFE_SECONDS)))
        broken += deep_check(data)
        print(f"kill {kill + 1}: {_counted(memory)}; broken: {len(broken)}", flush=True)  # noqa: T201
        if broken:
            return Outcome(memory, broken, kill + 1, midway)
    # The last life ends as an operator would end it, with nothing under way.
    with server_process(data, workers=workers, port=port, environment={"TOIMIK_SWEEP_SECONDS": "1"}) as server:
        broken += asyncio.run(broken_invariants(server.url, memory))
        time.sleep(3)
        broken += leftovers(data)
        if server.stop() != 0:
            broken.append("the server did not stop cleanly")
    broken += deep_check(data)
    return Outcome(memory, broken, kills, midway)


async def _until_killed(traffic: Traffic, kill: Callable[[], None], seconds: float) -> bool:
    """Whether something was under way at the moment of the kill."""
    running = asyncio.create_task(traffic.run())
    await asyncio.sleep(seconds)
    under_way = not running.done()
    await asyncio.to_thread(kill)
    await running
    return under_way


def deep_check(data: Path) -> list[str]:
    """What `toimik doctor --deep` has to say of the data of a server that is not running."""
    command = [sys.executable, "-m", "server", "doctor", "--deep"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "TOIMIK_DATA": str(data)}
    )
    return [] if done.returncode == 0 else [f"toimik doctor --deep: {done.stdout}{done.stderr}"]


def leftovers(data: Path) -> list[str]:
    """Files of submissions that were never acknowledged, after the sweeper came by."""
    folders = [data / "documents" / name for name in ("incoming", "unsettled")]
    return [f"{path} was left behind" for folder in folders for path in folder.rglob("*") if path.is_file()]


def _counted(memory: Memory) -> str:
    counts = (f"{len(memory.with_fate(fate))} {fate.name.lower()}" for fate in Fate)
    return ", ".join([*counts, f"{len(memory.clashing)} clashing"])


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="toimik-kills-") as directory:
        outcome = killed_again_and_again(
            Path(directory) / "data", kills=arguments.kills, workers=arguments.workers, seed=arguments.seed
        )
    for sentence in outcome.broken:
        print(sentence)  # noqa: T201
    print(  # noqa: T201
        f"{outcome.kills} kills ({outcome.midway} in the midst of submissions): {_counted(outcome.memory)}; "
        f"{len(outcome.broken)} invariants broken"
    )
    return 1 if outcome.broken or not outcome.memory.with_fate(Fate.ACKNOWLEDGED) else 0


if __name__ == "__main__":
    sys.exit(main())
