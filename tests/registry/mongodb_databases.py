"""Databases for tests on a MongoDB server: one for each test, dropped when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pymongo


def database_name() -> str:
    """A name that no other test has."""
    return f"toimik-test-{uuid4().hex[:16]}"


def drop_database(url: str, name: str) -> None:
    """Drop a database, and all that is in it."""
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(url)
    try:
        client.drop_database(name)
    finally:
        client.close()


@contextmanager
def some_database(url: str) -> Iterator[str]:
    """The name of a database that is there for a while."""
    name = database_name()
    yield name
    drop_database(url, name)
