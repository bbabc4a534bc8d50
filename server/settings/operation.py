"""[tls], [log], [metrics] and [audit]: what surrounds the transactions."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import (
    Field,
    model_validator,
)

from server.settings.setting_forms import MIB, Network, Oid, Table, WebAddress


class ClientCertificate(StrEnum):
    """Whether a client has to show a certificate."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class TlsSettings(Table):
    """[tls]: without certificate and key the server speaks plain HTTP."""

    certificate: Path | None = Field(None, description="PEM file: the server's certificate and its chain")
    key: Path | None = Field(None, description="PEM file: the server's private key")
    client_ca: Path | None = Field(None, description="PEM file: authorities whose client certificates are accepted")
    client_certificate: ClientCertificate = Field(
        ClientCertificate.NONE, description="none, optional or required (mutual TLS, as ITI-19 has it)"
    )

    trusted_servers: Path | None = Field(
        None,
        description="PEM file: authorities of the servers that this one asks, such as registry_url and s3_endpoint; "
        "by default those that the machine trusts. certificate and key are shown to them",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key are given together or not at all")
        if self.client_certificate is not ClientCertificate.NONE and self.certificate is None:
            raise ValueError("client certificates need TLS: give certificate and key")
        if self.client_certificate is not ClientCertificate.NONE and self.client_ca is None:
            raise ValueError("client_ca says whose client certificates are accepted; give it")
        return self


class LogFormat(StrEnum):
    """How log lines look."""

    JSON = "json"
    TEXT = "text"


class LogSettings(Table):
    """[log]: what happens, without patient data, on standard error."""

    level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")
    format: LogFormat = Field(LogFormat.JSON, description="json for machines, text for people")


class MetricsSettings(Table):
    """[metrics]"""

    enabled: bool = Field(
        True,
        description="whether /metrics tells Prometheus how much is done, how fast, and what fails; no patient data",
    )
    networks: tuple[Network, ...] = Field(
        ("127.0.0.0/8", "::1/128"),
        description="who may ask for /metrics; behind a proxy of this machine everybody may, if it passes that path on",
    )


class AuditSettings(Table):
    """[audit]"""

    file: Path | None = Field(
        None,
        description="file to which an AuditEvent is added for each FHIR request, a line of JSON; by default none",
    )
    feed_url: WebAddress | None = Field(
        None,
        description="where they are posted (ITI-20, FHIR Feed), such as https://audit.example/fhir/AuditEvent; "
        "by default nowhere",
    )
    feed_authorization_file: Path | None = Field(
        None, description="file with the value of the header Authorization, a secret; read whenever it is needed"
    )
    feed_seconds: float = Field(10.0, gt=0, description="how long feed_url may take to answer")
    feed_at_once: int = Field(8, ge=1, description="most events on their way to feed_url; with 1 they come in order")
    feed_pause_seconds: float = Field(
        30.0, gt=0, description="longest pause before an event is sent again that feed_url did not take"
    )
    outbox: Path | None = Field(
        None,
        description="directory where they wait to be sent, on a local disk; by default audit in the data directory",
    )
    outbox_bytes: int = Field(1024 * MIB, ge=1, description="most octets of events that wait, some 2,000 each")
    required: bool = Field(
        True,
        description="whether a request is refused (503) whose event can not be kept; otherwise it is answered, and the "
        "log has an error",
    )
    source_id: Oid | None = Field(None, description="OID of this server in events; by default the repositoryUniqueId")
    site: str = Field("", description="name of this site in events")

    @property
    def is_on(self) -> bool:
        """Whether events are made at all."""
        return self.file is not None or self.feed_url is not None

    @model_validator(mode="after")
    def _sent_somewhere(self) -> Self:
        if self.feed_url is None and self.feed_authorization_file is not None:
            raise ValueError("feed_authorization_file is for feed_url, which is not given")
        return self
