"""Kill servers at random moments of ITI-41 traffic and look at what is there afterwards.

    python tests/reliability/kill_the_server.py [--kills 20] [--workers 2] [--seed N]
    python tests/reliability/kill_the_server.py --stores mongodb+s3 --victim mongodb|s3|node|all [--kills 50] ...

The first kills the whole server on the embedded stores, and looks at what a restart finds. The second has two nodes on
one MongoDB server and one S3 server, and kills one of these (tests/reliability/cluster_kills.py); `all` is `--kills` of
each. Exit code 0 where every invariant of tests/reliability/traffic.py held after every kill, nothing was left over in
the end, and `toimik doctor --deep` found nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.reliability.cluster import running_cluster, toimik  # noqa: E402 - run as a script
from tests.reliability.cluster_kills import SWEPT_WITHIN_SECONDS, ClusterKills, Victim  # noqa: E402
from tests.reliability.traffic import Fate, Memory, Outcome, Traffic, broken_invariants  # noqa: E402
from tests.server_process import free_port, server_process  # noqa: E402

LIFE_SECONDS = (0.3, 2.5)


def killed_again_and_again(data: Path, *, kills: int, workers: int, seed: int) -> Outcome:
    """Start, submit, kill; start again and look; and so on."""
    chance = random.Random(seed)  # noqa: S311 - a test that can be repeated
    memory, broken, midway = Memory(), [], 0
    port = free_port()
    for kill in range(kills):
        with server_process(data, workers=workers, port=port) as server:
            broken += asyncio.run(broken_invariants(server.url, memory))
            traffic = Traffic([server.url], memory, seed=chance.randrange(2**32))
            midway += asyncio.run(_until_killed(traffic, server.kill, chance.uniform(*LIFE_SECONDS)))
        broken += deep_check(data)
        print(f"kill {kill + 1}: {counted(memory)}; broken: {len(broken)}", flush=True)  # noqa: T201
        if broken:
            return Outcome(memory, broken, kill + 1, midway)
    # The last life ends as an operator would end it, with nothing under way.
    with server_process(data, workers=workers, port=port, environment={"TOIMIK_SWEEP_SECONDS": "1"}) as server:
        broken += asyncio.run(broken_invariants(server.url, memory))
        broken += _left_after_sweeping(data)
        if server.stop() != 0:
            broken.append("the server did not stop cleanly")
    broken += deep_check(data)
    return Outcome(memory, broken, kills, midway)


async def _until_killed(traffic: Traffic, kill: Callable[[], None], seconds: float) -> bool:
    """Whether something was under way at the moment of the kill."""
    running = asyncio.create_task(traffic.run())
    await traffic.heard(Fate.ACKNOWLEDGED, Fate.REFUSED)
    await asyncio.sleep(seconds)
    under_way = not running.done()
    await asyncio.to_thread(kill)
    await running
    return under_way


def deep_check(data: Path) -> list[str]:
    """What `toimik doctor --deep` has to say of the data of a server that is not running."""
    try:
        toimik({"TOIMIK_DATA": str(data)}, "doctor", "--deep")
    except RuntimeError as problem:
        return [str(problem)]
    return []


def _left_after_sweeping(data: Path) -> list[str]:
    """What is still left over when the sweeper had all the time that it may need."""
    deadline = time.monotonic() + SWEPT_WITHIN_SECONDS
    while (left := leftovers(data)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def leftovers(data: Path) -> list[str]:
    """Files of submissions that were never acknowledged, after the sweeper came by."""
    folders = [data / "documents" / name for name in ("incoming", "unsettled")]
    return [f"{path} was left behind" for folder in folders for path in folder.rglob("*") if path.is_file()]


def counted(memory: Memory) -> str:
    """What became of all that was sent."""
    counts = [f"{len(memory.with_fate(fate))} {fate.name.lower()}" for fate in Fate]
    counts += [f"{len(memory.clashing)} clashing", f"{memory.is_busy()} of them all answered busy"]
    return f"{', '.join(counts)}; slowest answer {memory.slowest():.1f} s"


def embedded(directory: Path, arguments: argparse.Namespace) -> Outcome:
    """The whole server, on the embedded stores."""
    return killed_again_and_again(
        directory / "data", kills=arguments.kills, workers=arguments.workers, seed=arguments.seed
    )


def in_a_cluster(directory: Path, arguments: argparse.Namespace) -> Outcome:
    """MongoDB, S3 or a node of two, each as often as was asked for."""
    victims = list(Victim) if arguments.victim == "all" else [Victim(arguments.victim)]
    with running_cluster(directory, workers=arguments.workers) as cluster:
        kills = ClusterKills(cluster, seed=arguments.seed)
        outcome = kills.outcome
        for victim in victims:
            for _ in range(arguments.kills):
                kills.kill(victim)
                print(  # noqa: T201
                    f"kill {outcome.kills} ({victim}): {counted(outcome.memory)}; broken: {len(outcome.broken)}",
                    flush=True,
                )
                if outcome.broken:
                    return outcome
        kills.ended()
    return outcome


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", choices=("embedded", "mongodb+s3"), default="embedded")
    parser.add_argument("--victim", choices=(*Victim, "all"), default="all", help="with --stores mongodb+s3")
    parser.add_argument("--kills", type=int, default=20, help="of each victim")
    parser.add_argument("--workers", type=int, default=2, help="processes of one server")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--logs", type=Path, help="a directory that keeps the servers' logs")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)  # noqa: T201
    began = time.monotonic()
    run = embedded if arguments.stores == "embedded" else in_a_cluster
    with tempfile.TemporaryDirectory(prefix="toimik-kills-") as directory:
        outcome = run(arguments.logs or Path(directory), arguments)
    for sentence in outcome.broken:
        print(sentence)  # noqa: T201
    print(  # noqa: T201
        f"{outcome.kills} kills ({outcome.midway} in the midst of submissions): {counted(outcome.memory)}; "
        f"{len(outcome.broken)} invariants broken; {time.monotonic() - began:.0f} s, seed {arguments.seed}"
    )
    return 1 if outcome.broken or not outcome.memory.with_fate(Fate.ACKNOWLEDGED) else 0


if __name__ == "__main__":
    sys.exit(main())
