"""How it stands with a database of a MongoDB server, without changing anything in it: for `toimik doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from registry.mongodb.database import MongoDatabase
from registry.mongodb.schema import INDEX_VERSION, LOG_VERSION, META, SHARDED, VERSIONS, declared


class Topology(StrEnum):
    """What kind of server it is."""

    SINGLE = "single server"
    REPLICA_SET = "replica set"
    SHARDED = "sharded cluster"


@dataclass(frozen=True, slots=True)
class MongoCondition:
    """What was found.

    server            its version
    topology          of a replica set with the number of its members that hold data, else 0
    prepared          whether the collections of a registry are there
    index_is_current  whether the index is one of this release
    too_new           whether a newer release has written the database
    missing_indexes   "collection.index" of those that are declared and not there
    """

    server: str
    topology: Topology
    members: int = 0
    prepared: bool = False
    index_is_current: bool = True
    too_new: bool = False
    missing_indexes: tuple[str, ...] = ()


async def condition_of(database: MongoDatabase) -> MongoCondition:
    """Look at the database.

    Raises StoreBusy where the server does not answer, or does not let this one in.
    """
    with database.limited():
        hello = await database.command("hello")
        server = str((await database.command("buildInfo")).get("version", "of an unknown version"))
        topology = Topology.SINGLE
        if hello.get("msg") == SHARDED:
            topology = Topology.SHARDED
        elif "setName" in hello:
            topology = Topology.REPLICA_SET
        members = len(hello.get("hosts", ())) + len(hello.get("passives", ()))
        found = await database.find(META, {"_id": VERSIONS})
        if not found:
            return MongoCondition(server, topology, members)
        versions = found[0]
        return MongoCondition(
            server,
            topology,
            members,
            prepared=True,
            index_is_current=versions["index_version"] >= INDEX_VERSION,
            too_new=versions["log_version"] > LOG_VERSION or versions["index_version"] > INDEX_VERSION,
            missing_indexes=await _missing_indexes(database),
        )


async def _missing_indexes(database: MongoDatabase) -> tuple[str, ...]:
    missing: list[str] = []
    for collection, (_, indexes) in declared().items():
        there = await database.index_names(collection)
        missing += [f"{collection}.{index.name}" for index in indexes if index.name not in there]
    return tuple(missing)
