"""Settings of a deployment: a TOML file, files with secrets over it, then environment variables, then the command line.

Every setting has a default, and with no file at all Toimik runs on ./toimik-data. A variable is named TOIMIK_ and the
setting, with two underscores between a table and its key: TOIMIK_LIMITS__ENVELOPE_BYTES=1048576. The directory that
TOIMIK_SECRETS names has files named like the variables, as container platforms mount them: a value in each.

A secret is a SecretStr: it is in no log, no traceback and no output. Settings.for_workers alone writes it out.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from pydantic import (
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from server.settings.affinity_domain import CODED_ATTRIBUTES, CodeSet, PatientSettings
from server.settings.limits import Limits, SubmissionSettings
from server.settings.mhd import ExternalUrl, MhdSettings
from server.settings.on_demand import OnDemandSettings
from server.settings.operation import AuditSettings, LogSettings, MetricsSettings, TlsSettings
from server.settings.setting_forms import IN_THE_CLEAR, SECRETS_VARIABLE, HomeCommunityId, Oid, oid
from server.settings.stores import DocumentSettings, DocumentStoreKind, MetadataSettings, MetadataStoreKind
from xds.hl7v2 import oid_of

_MOST_PARTS: Final = 10_000  # of one multipart upload, in S3
_KEPT_UNIQUE_ID: Final = "repository-unique-id"  # a file of the data directory


class SettingsProblem(Exception):
    """A setting can not be used. The text is for the operator and names each one."""


class Actor(StrEnum):
    """What this server answers for."""

    REGISTRY = "registry"
    REPOSITORY = "repository"
    MHD = "mhd"
    """FHIR at /fhir: MHD's Document Recipient and Document Responder."""


class Settings(BaseSettings):
    """All settings; see `toimik settings` for a file with every default explained."""

    model_config = SettingsConfigDict(
        env_prefix="TOIMIK_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
        hide_input_in_errors=True,
    )

    data: Path = Field(Path("toimik-data"), description="directory of the embedded stores")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every one")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 for any free one")
    workers: int = Field(1, ge=1, le=64, description="worker processes; about one per core")
    actors: tuple[Actor, ...] = Field(
        (Actor.REGISTRY, Actor.REPOSITORY, Actor.MHD), min_length=1, description="what this server answers for"
    )
    registry_url: str | None = Field(
        None, description="a registry on another host (ITI-42, ITI-18), for a server that has none of its own"
    )
    repository_url: str | None = Field(
        None, description="a repository on another host (ITI-41, ITI-43), for FHIR at a server that has none of its own"
    )
    public_url: str | None = Field(
        None,
        description="how clients reach this server, for ?wsdl and every URL in FHIR; by default ?wsdl names what they "
        "asked for, and FHIR the address that this server listens on",
    )
    repository_unique_id: Oid | None = Field(
        None,
        description="repositoryUniqueId; by default an OID made once and kept in the data directory, "
        "but given, the same for every server, where the stores are MongoDB or S3",
    )
    home_community_id: HomeCommunityId | None = Field(
        None, description="homeCommunityId of this community, given to every object that is registered without one"
    )
    shutdown_seconds: float = Field(30.0, ge=0, description="how long requests may finish after a stop was asked for")
    sweep_seconds: float = Field(
        3600.0, gt=0, description="how long nothing was added to a broken upload before its leftovers are swept"
    )
    patients: PatientSettings = Field(default_factory=PatientSettings)
    codes_file: Path | None = Field(
        None,
        description="more code sets, a file of TOML or JSON as `toimik codes import` writes it; read again when it "
        "changes. Where [codes] has the same attribute, the file counts",
    )
    codes: dict[str, CodeSet] = Field(default_factory=dict)
    submissions: SubmissionSettings = Field(default_factory=SubmissionSettings)
    metadata: MetadataSettings = Field(default_factory=MetadataSettings)
    documents: DocumentSettings = Field(default_factory=DocumentSettings)
    limits: Limits = Field(default_factory=Limits)
    tls: TlsSettings = Field(default_factory=TlsSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    audit: AuditSettings = Field(default_factory=AuditSettings)
    mhd: MhdSettings = Field(default_factory=MhdSettings)
    on_demand: tuple[OnDemandSettings, ...] = Field(
        (), description="who makes documents when they are retrieved; of several, the first one that is for a uniqueId"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        unknown = sorted(set(self.codes) - CODED_ATTRIBUTES)
        if unknown:
            raise ValueError(f"codes: {', '.join(unknown)}: not among {', '.join(sorted(CODED_ATTRIBUTES))}")
        if Actor.REGISTRY not in self.actors and self.registry_url is None:
            raise ValueError("registry_url: a server without a registry of its own needs one on another host")
        if Actor.MHD in self.actors and Actor.REPOSITORY not in self.actors and self.repository_url is None:
            raise ValueError("repository_url: FHIR without a repository of its own needs one on another host")
        if Actor.REPOSITORY in self.actors and self.has_shared_store and self.repository_unique_id is None:
            raise ValueError(f"repository_unique_id: {self._why_an_oid()}")
        if self.patients.mllp_port == 0 and self.workers > 1:
            raise ValueError("patients.mllp_port: several workers share one port, so it has to be a certain one, not 0")
        if self.on_demand and Actor.REPOSITORY not in self.actors:
            raise ValueError("on_demand: documents are made by a repository, which is not one of the actors")
        if self.mhd.external_url in (ExternalUrl.ASSEMBLE, ExternalUrl.LINK) and Actor.REPOSITORY not in self.actors:
            raise ValueError(
                f"mhd.external_url is {self.mhd.external_url}: a repository fetches documents when they are retrieved, "
                "and it is not one of the actors"
            )
        if self.mhd.on_demand_documents and not self.on_demand:
            raise ValueError("mhd.on_demand_documents: no [[on_demand]] says who makes the documents")
        if len({each.name for each in self.on_demand}) < len(self.on_demand):
            raise ValueError("on_demand: each source needs a name of its own")
        uploaded = self.documents.s3_part_bytes * _MOST_PARTS
        if self.documents.store is DocumentStoreKind.S3 and self.limits.document_bytes > uploaded:
            raise ValueError(
                f"documents.s3_part_bytes: of {_MOST_PARTS} parts at most, a document has no more than {uploaded} "
                f"octets; limits.document_bytes allows {self.limits.document_bytes}"
            )
        return self

    @property
    def assembles_documents(self) -> bool:
        """Whether entries may be of delayed documents, which are not there until they are first retrieved."""
        return self.mhd.external_url is ExternalUrl.ASSEMBLE or any(each.delayed for each in self.on_demand)

    @property
    def has_shared_store(self) -> bool:
        """Whether other servers may use the same stores."""
        return (
            self.metadata.store is not MetadataStoreKind.SQLITE
            or self.documents.store is not DocumentStoreKind.FILESYSTEM
        )

    def on(self, *, metadata: MetadataStoreKind | None = None, documents: DocumentStoreKind | None = None) -> Settings:
        """These settings on other stores; None: on the same one.

        Raises SettingsProblem where they do not say how to reach those.
        """
        tables = {"metadata": (self.metadata, metadata), "documents": (self.documents, documents)}
        wanted = {name: {**dict(table), "store": store} for name, (table, store) in tables.items() if store is not None}
        with _problems_named("settings"):
            return type(self).model_validate({**dict(self), **wanted})

    def on_stores_of(self, other: Settings) -> Settings:
        """These settings on the stores that others name."""
        tls = self.tls.model_copy(update={"trusted_servers": other.tls.trusted_servers})
        return self.model_copy(update={"metadata": other.metadata, "documents": other.documents, "tls": tls})

    def _why_an_oid(self) -> str:
        sentence = "with MongoDB or S3 it must be given, because every server of this repository needs the same"
        kept = self.data / _KEPT_UNIQUE_ID
        if kept.exists():
            return f'{sentence}; this data directory was given "{kept.read_text(encoding="ascii").strip()}"'
        return f"{sentence}; an OID of yours, or one made from a UUID: {oid_of(uuid.uuid4())}"

    @property
    def has_embedded_store(self) -> bool:
        """Whether anything is kept in the data directory."""
        registry_here = Actor.REGISTRY in self.actors and self.metadata.store is MetadataStoreKind.SQLITE
        documents_here = Actor.REPOSITORY in self.actors and self.documents.store is DocumentStoreKind.FILESYSTEM
        return registry_here or documents_here

    def for_workers(self) -> bytes:
        """One line of JSON with the secrets in the clear: for a pipe to a process of our own, and for nothing else."""
        return self.model_dump_json(context=IN_THE_CLEAR).encode() + b"\n"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        secrets = NestedSecretsSettingsSource(
            file_secret_settings, secrets_dir=os.environ.get(SECRETS_VARIABLE) or None, secrets_dir_missing="error"
        )
        return (init_settings, env_settings, secrets, TomlConfigSettingsSource(settings_cls))


def load_settings(config: Path | None = None, **options: Any) -> Settings:
    """The settings of `config`, the environment and the command line; options that are None were not given.

    Raises SettingsProblem, naming every setting that is wrong.
    """
    if config is not None and not config.is_file():
        raise SettingsProblem(f"{config}: there is no such file")
    given = {name: value for name, value in options.items() if value is not None}

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    with _problems_named(str(config or "environment")):
        return FromFile(**given)


@contextlib.contextmanager
def _problems_named(source: str) -> Iterator[None]:
    """Whatever is wrong with settings as a SettingsProblem, without the values: some are secrets."""
    try:
        yield
    except ValidationError as problem:
        lines = []
        for error in problem.errors():
            name = ".".join(str(part) for part in error["loc"]) or "settings"
            lines.append(f"{name}: {error['msg'].removeprefix('Value error, ')}")
        raise SettingsProblem("\n".join(lines)) from problem
    except (ValueError, OSError) as problem:  # TOML or a secret that can not be read, a variable that is no JSON
        raise SettingsProblem(f"{source}: {problem}") from problem


def repository_unique_id(settings: Settings) -> str:
    """The configured repositoryUniqueId, or the one this data directory was given when it was first used."""
    if settings.repository_unique_id is not None:
        return settings.repository_unique_id
    kept = settings.data / _KEPT_UNIQUE_ID
    if not kept.exists():
        settings.data.mkdir(parents=True, exist_ok=True)
        made = kept.with_name(f".repository-unique-id-{os.getpid()}")
        made.write_text(f"{oid_of(uuid.uuid4())}\n", encoding="ascii")
        # Of several processes that start at once, the first link decides.
        with contextlib.suppress(FileExistsError):
            kept.hardlink_to(made)
        made.unlink()
    return oid(kept.read_text(encoding="ascii").strip())
