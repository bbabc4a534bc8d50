"""One database and one part of a bucket that several nodes share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pymongo
from minio import Minio

from registry.mongodb.documents import UNFINISHED
from registry.mongodb.schema import CHANGES, OBJECTS
from tests.builders import REPOSITORY
from tests.store_servers import StoreServer

STORE_SECONDS = 3
"""How long a step may take in these tests. Some absences are shorter, and some are longer."""


@dataclass(frozen=True)
class SharedStores:
    """What nodes are told to use, and what is in it.

    prefix   what the names of all objects begin with
    """

    mongodb: StoreServer
    s3: StoreServer
    database: str = "toimik"
    bucket: str = "toimik"
    prefix: str = ""

    def settings(self) -> dict[str, Any]:
        """The settings that all nodes have in common."""
        return {
            "repository_unique_id": REPOSITORY,
            "metadata": {"store": "mongodb", "mongodb_url": self.mongodb.url, "mongodb_database": self.database},
            "documents": {
                "store": "s3",
                "s3_endpoint": self.s3.url,
                "s3_bucket": self.bucket,
                "s3_access_key": self.s3.access_key,
                "s3_secret_key": self.s3.secret_key,
                "s3_prefix": self.prefix,
                "request_seconds": STORE_SECONDS,
            },
            "limits": {"store_seconds": STORE_SECONDS},
        }

    def environment(self) -> dict[str, str]:
        """The same as variables."""
        variables: dict[str, str] = {}
        for name, value in self.settings().items():
            if isinstance(value, dict):
                variables.update({f"TOIMIK_{name}__{key}".upper(): str(each) for key, each in value.items()})
            else:
                variables[f"TOIMIK_{name}".upper()] = str(value)
        return variables

    def leftovers(self) -> list[str]:
        """A sentence for everything that is neither finished nor gone."""
        return [*self._unfinished_changes(), *self._stray_objects()]

    def _unfinished_changes(self) -> Iterator[str]:
        with pymongo.MongoClient[dict[str, object]](self.mongodb.url) as client:
            database = client.get_database(self.database)
            if unfinished := database[CHANGES].count_documents({"open": True}):
                yield f"{unfinished} changes of the log are open"
            if unfinished := database[OBJECTS].count_documents({"kind": UNFINISHED}):
                yield f"the index says of {unfinished} changes that they are being written"

    def _stray_objects(self) -> Iterator[str]:
        prefix = f"{self.prefix}/" if self.prefix else ""
        listed = self._s3_client().list_objects(self.bucket, prefix=prefix, recursive=True)
        names = [(each.object_name or "").removeprefix(prefix) for each in listed]
        yield from (f"{name} was left behind" for name in names if name.startswith(("incoming/", "unsettled/")))
        contents, described = (sum(name.startswith(part) for name in names) for part in ("content/", "documents/"))
        if contents != described:
            yield f"there are the bytes of {contents} documents, and {described} descriptions"

    def _s3_client(self) -> Minio:
        url = urlsplit(self.s3.url)
        return Minio(
            url.netloc,
            access_key=self.s3.access_key,
            secret_key=self.s3.secret_key,
            secure=url.scheme == "https",
            region="us-east-1",
        )
