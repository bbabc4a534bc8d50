"""The collections of the metadata store on MongoDB: creating, sharding and recognising them.

They are declared in schemas/mongodb/collections.toml.
"""

from __future__ import annotations

import logging
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from registry.fhir_resources import SECRET_BYTES
from registry.metadata_store import StoreBusy, StoreDamaged
from registry.mongodb.database import MongoDatabase

logger = logging.getLogger(__name__)

LOG_VERSION = 2
INDEX_VERSION = 5
"""Raised where what the index keeps of an object changes; an older index is brought up by `toimik reindex`."""

CHANGES = "changes"
IDENTIFIERS = "identifiers"
OBJECTS = "objects"
PATIENT_KEYS = "patient_keys"
META = "meta"
VERSIONS = "versions"

_PREPARING_SECONDS = 120.0
_ALREADY_SHARDED = 23
SHARDED = "isdbgrid"


class WrongVersion(StoreDamaged):
    """The database was written by a release that this one does not understand."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index as declared. keys: fields, ascending."""

    name: str
    keys: tuple[str, ...]
    unique: bool = False
    sparse: bool = False


def declared() -> Mapping[str, tuple[str, tuple[Index, ...]]]:
    """By collection: its shard key and its indexes."""
    text = (resources.files("schemas") / "mongodb" / "collections.toml").read_text(encoding="utf-8")
    return {
        name: (content["shard_key"], tuple(_index(index) for index in content["indexes"]))
        for name, content in tomllib.loads(text).items()
    }


def _index(content: Mapping[str, Any]) -> Index:
    return Index(content["name"], tuple(content["keys"]), content.get("unique", False), content.get("sparse", False))


async def prepare(database: MongoDatabase, *, shard: bool = False) -> None:
    """Create what is missing of the collections and indexes; for `toimik migrate`, and an empty database.

    shard   have a sharded cluster spread them, each by its key (`toimik migrate --shard`)
    Raises ValueError where the cluster is not sharded; StoreBusy.
    """
    with database.limited(_PREPARING_SECONDS):
        for collection, (_, indexes) in declared().items():
            for index in indexes:
                options = {name: True for name in ("unique", "sparse") if getattr(index, name)}
                await database.create_index(collection, index.keys, name=index.name, **options)
        if shard:
            await _shard(database)
        # Last: who finds the versions finds all that was created before.
        versions = {"_id": VERSIONS, "log_version": LOG_VERSION, "index_version": INDEX_VERSION}
        await database.insert_missing(META, [versions])


async def _shard(database: MongoDatabase) -> None:
    if (await database.command("hello")).get("msg") != SHARDED:
        raise ValueError("the metadata store is not on a sharded cluster; leave --shard out, or name its mongos")
    await database.command("enableSharding", on_admin=True, value=database.name)
    for collection, (shard_key, _) in declared().items():
        # Ranges of the key, not of its hash: patient_key is a hash already, and the unique indexes begin with the key.
        await database.command(
            "shardCollection", on_admin=True, value=f"{database.name}.{collection}", key={shard_key: 1}
        )


async def require_versions(database: MongoDatabase, *, reindexing: bool) -> None:
    """See that this release understands the database; an empty one is prepared.

    reindexing   accept an index of an older release, because it is going to be written again
    Raises WrongVersion, StoreBusy.
    """
    with database.limited():
        found = await _versions(database)
    if not found:
        await prepare(database)
        with database.limited():
            found = await _versions(database)
    if not found:
        raise StoreBusy("the metadata store was prepared, and does not say so yet")
    for name, mine in (("log_version", LOG_VERSION), ("index_version", INDEX_VERSION)):
        if found[0][name] > mine:
            raise WrongVersion(
                f"the database {database.name} was written by a newer release of Toimik ({name} {found[0][name]}; "
                f"this one knows {mine}); run that release, or a newer one"
            )
    if found[0]["index_version"] < INDEX_VERSION and not reindexing:
        raise WrongVersion(f"the index of {database.name} is that of an older release of Toimik; run `toimik reindex`")


async def index_is_current(database: MongoDatabase) -> None:
    """Write down that the index is one of this release."""
    await database.update(META, {"_id": VERSIONS}, {"$set": {"index_version": INDEX_VERSION}})


async def secret_of(database: MongoDatabase) -> bytes:
    """The secret of the database, made by who asks first; for what must not be guessed from outside."""
    with database.limited():
        if not (found := await database.find(META, {"_id": "made_once"})):
            await database.insert_missing(META, [{"_id": "made_once", "secret": secrets.token_bytes(SECRET_BYTES)}])
            found = await database.find(META, {"_id": "made_once"})
    if not found:
        raise StoreBusy("the metadata store was prepared, and does not say so yet")
    return bytes(found[0]["secret"])


async def _versions(database: MongoDatabase) -> list[dict[str, Any]]:
    return await database.find(META, {"_id": VERSIONS})


async def warn_of_single_server(database: MongoDatabase) -> None:
    """Say so where the server is a single one: what it acknowledged is lost with its disk."""
    with database.limited():
        hello = await database.command("hello")
    if "setName" not in hello and hello.get("msg") != SHARDED:
        logger.warning(
            "The metadata store is a single MongoDB server, without replication: what it acknowledged is as safe as "
            "its disk, and it is away whenever that server is."
        )
