"""Kill MongoDB, S3 or nodes at random moments of ITI-41 traffic to several nodes, and look at what comes back.

tests/reliability/kill_the_server.py runs it. Each kill is a life of its own: sources submit to all nodes, something is
killed in the midst of it, the sources go on, what was killed comes back after a while (which is sometimes longer than a
step of a transaction may take), and nobody is helped: a node has to notice by itself that a store is back.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from enum import StrEnum

from tests.builders import PATIENT_AUTHORITY
from tests.reliability.cluster import Cluster, Node, toimik
from tests.reliability.shared_stores import STORE_SECONDS
from tests.reliability.traffic import PATIENCE_SECONDS, Fate, Outcome, Traffic, broken_invariants
from tests.store_servers import OwnStoreServer
from xds.hl7v2 import CX

LIFE_SECONDS = (0.3, 2.0)
ABSENCE_SECONDS = (0.0, 1.5 * STORE_SECONDS)
RESUMED_WITHIN_SECONDS = 2 * PATIENCE_SECONDS
SWEPT_WITHIN_SECONDS = 60
LOOKED_AT_AGAIN = 50
"""Documents of earlier lives, chosen anew after each kill. In the end all are looked at."""
PATIENTS_OF_A_LIFE = 8


class Victim(StrEnum):
    """What is killed."""

    MONGODB = "mongodb"
    S3 = "s3"
    NODE = "node"


class ClusterKills:
    """Kills parts of one cluster."""

    def __init__(self, cluster: Cluster, *, seed: int) -> None:
        self._cluster = cluster
        self._chance = random.Random(seed)  # noqa: S311 - a test that can be repeated
        self.outcome = Outcome()

    def kill(self, victim: Victim) -> None:
        """One kill, and what is to be seen after it."""
        mark = len(self.outcome.memory.sent)
        number = PATIENTS_OF_A_LIFE * self.outcome.kills
        patients = [CX.of(str(number + each), PATIENT_AUTHORITY) for each in range(PATIENTS_OF_A_LIFE)]
        seed = self._chance.randrange(2**32)
        traffic = Traffic(self._cluster.urls, self.outcome.memory, seed=seed, patients=patients)
        if victim is Victim.NODE:
            node = self._chance.choice(self._cluster.nodes)
            asyncio.run(self._node_killed(traffic, node))
            # Those who are still there see all of it, before it comes back and after.
            self._look([each for each in self._cluster.nodes if each is not node], mark)
            node.start()
            self._look([node], mark)
        else:
            store = self._cluster.mongodb if victim is Victim.MONGODB else self._cluster.s3
            asyncio.run(self._store_killed(traffic, store))
            self._look(self._cluster.nodes, mark)
        self.outcome.kills += 1

    def ended(self) -> None:
        """Stop as an operator would, with nothing under way; then everything is looked at, and nothing is left over."""
        for node in self._cluster.nodes:
            if node.stop() != 0:
                self.outcome.broken.append(f"{node.url} did not stop cleanly")
            node.start(TOIMIK_SWEEP_SECONDS="1")
        self.outcome.broken += asyncio.run(broken_invariants(self._cluster.urls[0], self.outcome.memory))
        deadline = time.monotonic() + SWEPT_WITHIN_SECONDS
        while (left := self._cluster.leftovers()) and time.monotonic() < deadline:
            time.sleep(1)
        self.outcome.broken += left
        for node in self._cluster.nodes:
            node.kill()
        try:
            toimik(self._cluster.stores.environment(), "doctor", "--deep")
        except RuntimeError as problem:
            self.outcome.broken.append(str(problem))

    async def _node_killed(self, traffic: Traffic, node: Node) -> None:
        """The sources of the node that is killed are cut off; those of the others are not."""
        cut_off = self.outcome.memory.cut_off.copy()
        running = asyncio.create_task(traffic.run())
        await traffic.heard(Fate.ACKNOWLEDGED, Fate.REFUSED)
        await asyncio.sleep(self._chance.uniform(*LIFE_SECONDS))
        self.outcome.midway += not running.done()
        await asyncio.to_thread(node.kill)
        await asyncio.sleep(self._chance.uniform(*LIFE_SECONDS))
        traffic.stop()
        await running
        self._tell_of_cuts([each for each in self._cluster.nodes if each is not node], cut_off)

    async def _store_killed(self, traffic: Traffic, store: OwnStoreServer) -> None:
        """The sources go on all the time, and all of them are served again in the end."""
        cut_off = self.outcome.memory.cut_off.copy()
        running = asyncio.create_task(traffic.run())
        await traffic.heard(Fate.ACKNOWLEDGED, Fate.REFUSED)
        await asyncio.sleep(self._chance.uniform(*LIFE_SECONDS))
        self.outcome.midway += not running.done()
        await asyncio.to_thread(store.kill)
        await asyncio.sleep(self._chance.uniform(*ABSENCE_SECONDS))
        await asyncio.to_thread(store.start)
        try:
            async with asyncio.timeout(RESUMED_WITHIN_SECONDS):
                await traffic.resumed()
        except TimeoutError:
            self.outcome.broken.append(f"not every node served again after {RESUMED_WITHIN_SECONDS} seconds")
        traffic.stop()
        await running
        self._tell_of_cuts(self._cluster.nodes, cut_off)

    def _tell_of_cuts(self, nodes: Sequence[Node], before: dict[str, int]) -> None:
        for node in nodes:
            if cuts := self.outcome.memory.cut_off[node.url] - before[node.url]:
                self.outcome.broken.append(f"{node.url} was not killed and closed {cuts} connections without an answer")

    def _look(self, nodes: Sequence[Node], mark: int) -> None:
        memory = self.outcome.memory
        again = self._chance.sample(range(mark), min(LOOKED_AT_AGAIN, mark))
        chosen = [*memory.sent[mark:], *(memory.sent[each] for each in again)]
        for node in nodes:
            self.outcome.broken += asyncio.run(broken_invariants(node.url, memory, chosen))
