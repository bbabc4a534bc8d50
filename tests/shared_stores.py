"""Settings of servers that share a MongoDB database and an S3 bucket, for tests and scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from minio import Minio

from repository.s3_layout import Layout
from tests.registry.stores import some_database
from tests.store_servers import StoreServer

REPOSITORY: Final = "2.25.31337731"
"""The repositoryUniqueId of all servers on the same stores."""


@contextmanager
def shared_stores(mongodb: StoreServer, s3: StoreServer, *, used: bool = True) -> Iterator[Mapping[str, Any]]:
    """Settings that name a database and a place in a bucket that nobody else has; the database is dropped in the end.

    used   whether they are the stores, or only named beside the embedded ones
    """
    with some_database(mongodb.url) as name:
        metadata = {"mongodb_url": mongodb.url, "mongodb_database": name}
        documents = {
            "s3_endpoint": s3.url,
            "s3_bucket": "toimik",
            "s3_prefix": name,
            "s3_access_key": s3.access_key,
            "s3_secret_key": s3.secret_key,
        }
        if used:
            metadata["store"], documents["store"] = "mongodb", "s3"
        yield {"repository_unique_id": REPOSITORY, "metadata": metadata, "documents": documents}


def as_environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """The same as environment variables, for a process."""
    variables: dict[str, str] = {}
    for name, value in settings.items():
        table = {f"{name}__{key}": each for key, each in value.items()} if isinstance(value, Mapping) else {name: value}
        variables |= {f"TOIMIK_{key.upper()}": str(each) for key, each in table.items()}
    return variables


def left_over(settings: Mapping[str, Any]) -> list[str]:
    """Names of files or objects of documents that are neither settled nor gone."""
    if "documents" not in settings:
        places = [settings["data"] / "documents" / folder for folder in ("incoming", "unsettled")]
        return [str(path) for place in places for path in place.rglob("*") if path.is_file()]
    named = settings["documents"]
    client, layout = s3_client(named), Layout.under(named["s3_prefix"])
    if not client.bucket_exists(named["s3_bucket"]):
        return []  # a server makes it when it first needs it
    return [
        str(each.object_name)
        for prefix in (layout.all_incoming, layout.all_unsettled)
        for each in client.list_objects(named["s3_bucket"], prefix=prefix, recursive=True)
    ]


def s3_client(named: Mapping[str, Any]) -> Minio:
    """A client of the server that the settings of [documents] name."""
    url = urlsplit(named["s3_endpoint"])
    return Minio(url.netloc, named["s3_access_key"], named["s3_secret_key"], secure=url.scheme == "https")
