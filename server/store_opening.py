"""How the stores that the settings name are opened, prepared and looked at: the one place that names adapters.

An adapter for more than one machine is imported where it was asked for, because its library is an extra.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from registry.kept_dossiers import KeptDossiers
from registry.metadata_store import MetadataStore
from registry.metadata_store_sqlite import SqliteMetadataStore
from repository.document_store import DocumentStore
from repository.document_store_filesystem import FilesystemDocumentStore
from server.fhir_wiring import fhir_renderer
from server.settings import Actor, Settings, SettingsProblem
from server.settings.stores import DocumentStoreKind, MetadataStoreKind
from xds.actors import FhirRenderer
from xds.ebxml_writer import codec

if TYPE_CHECKING:
    from registry.mongodb.database import MongoDatabase
    from registry.mongodb.diagnosis import MongoCondition
    from repository.s3_client import Bucket
    from repository.s3_diagnosis import S3Condition

_T = TypeVar("_T")

METADATA_FILE = "registry.sqlite"
DOCUMENTS_DIRECTORY = "documents"
"""Where the embedded stores lie in the data directory."""

_STEP_SECONDS = 900.0


def unhurried(settings: Settings) -> Settings:
    """The same for what is nobody's request: a migration, a look at everything. A step of it may take long."""
    limits = settings.limits
    longer = {"store_seconds": max(limits.store_seconds, _STEP_SECONDS)}
    return settings.model_copy(update={"limits": limits.model_copy(update=longer)})


async def metadata_store(
    settings: Settings, *, reindexing: bool = False, kept: KeptDossiers | None = None
) -> MetadataStore:
    """The metadata store that the settings name, opened.

    kept         holds what searches showed lately, where the store can tell that it is not out of date
    reindexing   an index of an older release is accepted, because it is going to be written again
    Raises SettingsProblem where its library is not installed.
    """
    if settings.metadata.store is MetadataStoreKind.MONGODB:
        return await _mongodb_metadata_store(settings, reindexing=reindexing)
    return SqliteMetadataStore(
        settings.data / METADATA_FILE,
        codec=codec,
        renderer=_renderer(settings),
        kept=kept,
        busy_seconds=settings.limits.store_seconds,
        reindexing=reindexing,
    )


def _renderer(settings: Settings) -> FhirRenderer | None:
    """What makes the FHIR resources that are kept; None: this server answers no FHIR, so none are."""
    return fhir_renderer(settings) if Actor.MHD in settings.actors else None


def document_store(settings: Settings) -> DocumentStore:
    """The document store that the settings name, opened.

    Raises SettingsProblem where its library is not installed.
    """
    if settings.documents.store is DocumentStoreKind.S3:
        return _s3_document_store(settings)
    return FilesystemDocumentStore(settings.data / DOCUMENTS_DIRECTORY, min_free_bytes=settings.limits.min_free_bytes)


async def prepared_metadata_store(settings: Settings, *, shard: bool = False) -> Sequence[str]:
    """Make what the metadata store needs and does not have yet; sentences that say how it stands.

    shard   have MongoDB's collections sharded
    Raises SettingsProblem where there is nothing to shard.
    """
    if settings.metadata.store is MetadataStoreKind.MONGODB:
        return await _prepared_mongodb(settings, shard=shard)
    if shard:
        raise SettingsProblem("--shard is for MongoDB, and metadata.store is sqlite")
    await (await metadata_store(settings)).close()
    return (f"SQLite: {settings.data / METADATA_FILE} is ready.",)


async def prepared_document_store(settings: Settings) -> Sequence[str]:
    """Make what the document store needs and does not have yet; sentences that say how it stands."""
    store = document_store(settings)
    try:
        await store.check()
    finally:
        await store.close()
    configured = settings.documents
    if configured.store is DocumentStoreKind.S3:
        return (f"S3: the bucket {configured.s3_bucket} at {configured.s3_endpoint} is ready.",)
    return (f"Documents: {settings.data / DOCUMENTS_DIRECTORY} is ready.",)


async def _mongodb_metadata_store(settings: Settings, *, reindexing: bool) -> MetadataStore:
    with _extra("mongodb", "pymongo"):
        from registry.metadata_store_mongodb import MongoMetadataStore
    with _url_of_mongodb_read():
        return await MongoMetadataStore.opened(
            **_mongodb_options(settings),
            codec=codec,
            renderer=_renderer(settings),
            reindexing=reindexing,
        )


def _mongodb_options(settings: Settings) -> dict[str, Any]:
    """How the server is reached, and for how long it is waited for."""
    configured = settings.metadata
    url = _given(configured.mongodb_url).get_secret_value()
    options = {
        "url": url,
        "database": configured.mongodb_database,
        "busy_seconds": settings.limits.store_seconds,
        "connect_seconds": configured.connect_seconds,
    }
    if settings.tls.trusted_servers is not None and re.search(r"[?&](tls|ssl)=true|^mongodb\+srv:", url):
        options["tlsCAFile"] = str(settings.tls.trusted_servers)
    return options


@contextmanager
def _url_of_mongodb_read() -> Iterator[None]:
    try:
        yield
    except ValueError:
        # The library's sentence may quote the URL, and with it a password.
        raise SettingsProblem(
            "metadata.mongodb_url can not be read; it looks like mongodb://user:password@host:27017/?replicaSet=rs0, "
            "and whatever is not a letter or a digit in user and password is percent-encoded (RFC 3986)"
        ) from None


@asynccontextmanager
async def _mongodb(settings: Settings) -> AsyncIterator[MongoDatabase]:
    """The database that the settings name. Nothing is connected yet."""
    with _extra("mongodb", "pymongo"):
        from registry.mongodb.database import MongoDatabase
    options = _mongodb_options(settings)
    with _url_of_mongodb_read():
        database = MongoDatabase.at(options.pop("url"), options.pop("database"), **options)
    try:
        yield database
    finally:
        await database.close()


async def mongodb_condition(settings: Settings) -> MongoCondition:
    """How it stands with the database that the settings name. Raises StoreBusy."""
    async with _mongodb(settings) as database:
        from registry.mongodb.diagnosis import condition_of

        return await condition_of(database)


async def removed_stores(settings: Settings) -> None:
    """Drop MongoDB's database and delete all that is under S3's prefix: for who made them up, and for nobody else."""
    async with _mongodb(settings) as database:
        await database.drop()
    with _extra("s3", "minio"):
        from repository.s3_diagnosis import removed
    configured = settings.documents
    await asyncio.to_thread(removed, s3_bucket(settings), prefix=configured.s3_prefix)


async def _prepared_mongodb(settings: Settings, *, shard: bool) -> Sequence[str]:
    async with _mongodb(settings) as database:
        from registry.mongodb.schema import prepare

        try:
            await prepare(database, shard=shard)
        except ValueError as problem:
            raise SettingsProblem(f"--shard: {problem}") from problem
    sharded = " and sharded" if shard else ""
    return (f"MongoDB: the collections and indexes of the database {database.name} are ready{sharded}.",)


def _s3_document_store(settings: Settings) -> DocumentStore:
    with _extra("s3", "minio"):
        from repository.document_store_s3 import S3DocumentStore
    configured = settings.documents
    try:
        return S3DocumentStore(
            s3_bucket(settings),
            prefix=configured.s3_prefix,
            versioning=configured.s3_versioning,
            part_bytes=configured.s3_part_bytes,
            request_seconds=configured.request_seconds,
        )
    except ValueError as problem:
        raise SettingsProblem(f"documents: {problem}") from problem


def s3_bucket(settings: Settings) -> Bucket:
    """Where the documents go, and how to get there."""
    with _extra("s3", "minio"):
        from repository.s3_client import Bucket
    configured = settings.documents
    return Bucket(
        endpoint=_given(configured.s3_endpoint),
        name=_given(configured.s3_bucket),
        access_key=_given(configured.s3_access_key).get_secret_value(),
        secret_key=_given(configured.s3_secret_key).get_secret_value(),
        region=configured.s3_region,
        encryption=configured.s3_encryption,
        authorities=settings.tls.trusted_servers,
    )


async def s3_condition(settings: Settings) -> S3Condition:
    """How it stands with the bucket that the settings name. Raises StoreBusy."""
    with _extra("s3", "minio"):
        from repository.s3_diagnosis import condition_of
    configured = settings.documents
    return await asyncio.to_thread(
        condition_of, s3_bucket(settings), prefix=configured.s3_prefix, seconds=configured.request_seconds
    )


@contextmanager
def _extra(extra: str, library: str) -> Iterator[None]:
    """Import an adapter whose library is there only where it was asked for."""
    try:
        yield
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] != library:
            raise
        raise SettingsProblem(
            f"the settings name a store that needs {library}: pip install 'toimik[{extra}]'"
        ) from problem


def _given(value: _T | None) -> _T:
    if value is None:
        raise RuntimeError("a store is used that the settings do not name in full")  # Settings refuses this
    return value
