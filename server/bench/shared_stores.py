"""A database and a place in a bucket for a benchmark, which are there for a while and leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from server.settings import Settings, SettingsProblem
from server.settings.stores import DocumentStoreKind, MetadataStoreKind
from server.store_opening import removed_stores


@contextmanager
def stores_for_a_while(settings: Settings) -> Iterator[Settings]:
    """These settings with names that nobody else has for database and prefix.

    Raises SettingsProblem where the stores are not MongoDB and S3.
    """
    if settings.metadata.store is not MetadataStoreKind.MONGODB or settings.documents.store is not DocumentStoreKind.S3:
        raise SettingsProblem("--config: the embedded stores are measured anyway; let it name MongoDB and S3")
    name = f"toimik-bench-{uuid4().hex[:12]}"
    own = settings.model_copy(
        update={
            "metadata": settings.metadata.model_copy(update={"mongodb_database": name}),
            "documents": settings.documents.model_copy(update={"s3_prefix": name}),
        }
    )
    try:
        yield own
    finally:
        asyncio.run(removed_stores(own))
