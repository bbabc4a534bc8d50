"""[metadata] and [documents]: where things are kept."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Self

from pydantic import (
    Field,
    model_validator,
)

from server.settings.setting_forms import MIB, SECRETS_VARIABLE, Endpoint, MongodbUrl, Secret, Table


class MetadataStoreKind(StrEnum):
    """Where the registry keeps what it knows."""

    SQLITE = "sqlite"
    MONGODB = "mongodb"


class MetadataSettings(Table):
    """[metadata]"""

    store: MetadataStoreKind = Field(
        MetadataStoreKind.SQLITE,
        description="sqlite: a file in the data directory; "
        "mongodb: for several servers (pip install 'toimik[mongodb]', then toimik migrate)",
    )
    mongodb_url: MongodbUrl | None = Field(
        None,
        description="how MongoDB is reached, a secret: mongodb://user:password@host1,host2,host3/?replicaSet=rs0&tls=true",
    )
    mongodb_database: str = Field(
        "toimik",
        pattern=r"^[A-Za-z0-9_-]{1,63}$",
        description="name of the database, the same for every server of this registry",
    )
    connect_seconds: float = Field(
        5.0, gt=0, description="how long MongoDB may take to accept a connection, or to have a primary"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.store is MetadataStoreKind.MONGODB and self.mongodb_url is None:
            raise ValueError(f"store is mongodb, and mongodb_url does not say where that is; {_as_secret('metadata')}")
        return self


class DocumentStoreKind(StrEnum):
    """Where the repository keeps documents."""

    FILESYSTEM = "filesystem"
    S3 = "s3"


class DocumentSettings(Table):
    """[documents]"""

    store: DocumentStoreKind = Field(
        DocumentStoreKind.FILESYSTEM,
        description="filesystem: in the data directory; s3: MinIO or any S3 (pip install 'toimik[s3]', "
        "then toimik migrate)",
    )
    s3_endpoint: Endpoint | None = Field(None, description="https://host:port of the S3 server")
    s3_bucket: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="bucket that holds the documents"
    )
    s3_access_key: Secret | None = Field(None, description="access key, a secret")
    s3_secret_key: Secret | None = Field(None, description="secret key, a secret")
    s3_region: str | None = Field(None, description="region of the bucket, where the S3 server has several")
    s3_prefix: str = Field(
        "",
        pattern=r"^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*/?)?$",
        description="what the names of all objects begin with, for a bucket that holds other things as well",
    )
    s3_encryption: str = Field(
        "none",
        pattern=r"^(none|sse-s3|sse-kms:\S+)$",
        description="how the S3 server encrypts documents: none (or as the bucket says), sse-s3, or sse-kms:KEY with "
        "the id of a key",
    )
    s3_versioning: bool = Field(
        False,
        description="whether the store turns on the bucket's versioning, so that a deleted object can come back",
    )
    s3_part_bytes: int = Field(
        8 * MIB,
        ge=5 * MIB,
        le=5120 * MIB,
        description="octets of one part of an upload; each transfer holds a part or two in memory",
    )
    _NEEDED: ClassVar = ("s3_endpoint", "s3_bucket", "s3_access_key", "s3_secret_key")

    request_seconds: float = Field(20.0, gt=0, description="how long the S3 server may take to answer one request")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [name for name in self._NEEDED if getattr(self, name) is None]
        if self.store is DocumentStoreKind.S3 and missing:
            raise ValueError(f"store is s3, and these are missing: {', '.join(missing)}; {_as_secret('documents')}")
        return self

    @property
    def names_s3(self) -> bool:
        """Whether an S3 server is named, be it the store or not."""
        return any(getattr(self, name) is not None for name in self._NEEDED)


def _as_secret(table: str) -> str:
    example = {"metadata": "MONGODB_URL", "documents": "S3_SECRET_KEY"}[table]
    return f"a secret can be the file TOIMIK_{table.upper()}__{example} in the directory that {SECRETS_VARIABLE} names"
