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
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    SerializationInfo,
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

from server.number_checks import number_check
from xds.hl7v2 import is_oid, oid_of

MIB = 1024 * 1024
SECRETS_VARIABLE: Final = "TOIMIK_SECRETS"
"""Names the directory of secrets. It is no setting: it says where settings are."""

_IN_THE_CLEAR: Final = "secrets in the clear"
_OF_THIS_MACHINE: Final = ("127.0.0.1", "::1", "localhost")
_MOST_PARTS: Final = 10_000  # of one multipart upload, in S3
_KEPT_UNIQUE_ID: Final = "repository-unique-id"  # a file of the data directory


class SettingsProblem(Exception):
    """A setting can not be used. The text is for the operator and names each one."""


def _oid(value: str) -> str:
    if not is_oid(value):
        raise ValueError(f"{value!r} is not an OID such as 1.2.40.0.13")
    return value


def _home(value: str) -> str:
    if not value.startswith("urn:oid:") or not is_oid(value.removeprefix("urn:oid:")):
        raise ValueError(f"{value!r} is not a homeCommunityId such as urn:oid:1.2.40.0.13")
    return value


def _endpoint(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("it is not a URL such as https://s3.hospital.example:9000")
    if url.path not in ("", "/") or url.query or url.fragment or url.username is not None:
        raise ValueError("it is a URL with scheme, host and port alone; bucket and keys have settings of their own")
    return value.rstrip("/")


def _base_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or url.username is not None:
        raise ValueError("it is not a base URL such as https://documents.hospital.example/files")
    return value.rstrip("/")


def _time_zone(value: str) -> str:
    try:
        if value != "UTC":  # which is known where no others are
            ZoneInfo(value)
    except (ValueError, OSError, ZoneInfoNotFoundError) as problem:
        raise ValueError("it is no time zone that this system knows, such as Europe/Tallinn") from problem
    return value


def _web_address(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname or url.fragment or url.username is not None:
        raise ValueError("it is not a URL such as https://summaries.hospital.example/documents")
    return value


def _mongodb_url(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("mongodb://", "mongodb+srv://")):
        raise ValueError("it is not a URL such as mongodb://host:27017/?replicaSet=rs0")
    return value


def _serialized(secret: SecretStr, info: SerializationInfo) -> str:
    return secret.get_secret_value() if info.context == _IN_THE_CLEAR else str(secret)


def _number_kind(value: str) -> str:
    try:
        if value:
            number_check(value)
    except KeyError:
        raise ValueError(f"{value!r} is no kind of number that python-stdnum knows, such as gb.nhs or ee.ik") from None
    return value


def _network(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError as problem:
        raise ValueError(f"{value!r} is not a network such as 10.0.0.0/8: {problem}") from problem


def _keys_address(value: str) -> str:
    url = urlsplit(_web_address(value))
    if url.scheme != "https" and url.hostname not in _OF_THIS_MACHINE:
        raise ValueError("keys are trusted, so they come over https, or over http from this machine")
    return value


Oid = Annotated[str, AfterValidator(_oid)]
HomeCommunityId = Annotated[str, AfterValidator(_home)]
Secret = Annotated[SecretStr, Field(min_length=1), PlainSerializer(_serialized, return_type=str, when_used="json")]
MongodbUrl = Annotated[Secret, AfterValidator(_mongodb_url)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
KeysAddress = Annotated[str, AfterValidator(_keys_address)]
NumberKind = Annotated[str, AfterValidator(_number_kind)]
Network = Annotated[str, AfterValidator(_network)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Policy(StrEnum):
    """What happens to a value that is not as it should be."""

    REJECT = "reject"
    WARN = "warn"
    ACCEPT = "accept"


class PatientPolicy(StrEnum):
    """Which patient ids a submission may name."""

    OPEN = "open"
    KNOWN = "known"


class NumberPolicy(StrEnum):
    """What happens to a number that its authority can not have given out."""

    REJECT = "reject"
    WARN = "warn"
    OFF = "off"


class AssigningAuthority(_Table):
    """Who numbers patients."""

    oid: Oid = Field(description="OID of the assigning authority")
    name: str = Field("", description="for people")
    namespace_id: str = Field("", description="what HL7 v2 senders write instead of the OID: 123^^^NHS")
    number: NumberKind = Field(
        "", description="kind of number, whose check digits are checked: gb.nhs, ee.ik, or another of python-stdnum"
    )
    number_policy: NumberPolicy = Field(
        NumberPolicy.REJECT, description="reject, warn of, or with off let pass a number that can not be right"
    )


class PatientSettings(_Table):
    """[patients]"""

    policy: PatientPolicy = Field(
        PatientPolicy.OPEN,
        description="open: any well-formed id of one of assigning_authorities is a known patient; "
        "known: only those that a feed or `toimik patients import` has named",
    )
    assigning_authorities: tuple[AssigningAuthority, ...] = Field(
        (), description="authorities whose ids are accepted; none: every authority"
    )
    mllp_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port to listen on for HL7 v2 over MLLP, which brings patient identity feeds (ITI-8, ITI-64), with "
        "TLS as [tls] says; 0 for any free one; by default none",
    )
    link_change_code: str = Field(
        "ITI-64^^IHE Transactions",
        pattern=r"^[^^]+\^\^[^^]+$",
        description="contentTypeCode, as code^^scheme, of the SubmissionSets that ITI-64 makes",
    )
    mllp_message_bytes: int = Field(1 * MIB, ge=4096, description="largest HL7 v2 message")
    mllp_idle_seconds: float = Field(
        3600.0, gt=0, description="how long a connection for HL7 v2 may be without a message"
    )
    mllp_connections: int = Field(64, ge=1, description="most connections for HL7 v2 at a time, of one worker")


class CodedValue(_Table):
    """One code of a code set."""

    code: str
    scheme: str = Field(description="codingScheme: an OID, or whatever the affinity domain agreed on")
    display: str = ""


class CodeSet(_Table):
    """[codes.<attribute>]: the codes that an attribute may have."""

    policy: Policy = Field(Policy.ACCEPT, description="reject, warn or accept a code that is not among values")
    values: tuple[CodedValue | str, ...] = Field(
        (), description="{code, scheme, display}; plain text for mime_type and language_code"
    )


CODED_ATTRIBUTES = frozenset(
    {
        "class_code", "code_list", "confidentiality_code", "content_type_code", "documentation", "event_code_list",
        "format_code",
        "healthcare_facility_type_code", "language_code", "mime_type", "practice_setting_code", "type_code",
    }
)  # fmt: skip


class InlineDocuments(StrEnum):
    """What becomes of documents that come as base64 in a message without MTOM."""

    LENIENT = "lenient"
    STRICT = "strict"


class SubmissionSettings(_Table):
    """[submissions]"""

    inline_documents: InlineDocuments = Field(
        InlineDocuments.LENIENT,
        description="what becomes of an ITI-41 without MTOM, with its documents inside as base64: taken, with a "
        "warning in the log, one for each source (lenient), or refused with a fault that asks for MTOM (strict)",
    )
    source_patient_info: Policy = Field(
        Policy.REJECT,
        description="reject, warn of or accept a sourcePatientInfo that breaks the rules, such as PID-7 with a date "
        "that is not YYYYMMDD; it comes back as it was sent in any case",
    )


class Limits(_Table):
    """[limits]: each one is answered in words when a message crosses it."""

    envelope_bytes: int = Field(
        16 * MIB,
        ge=64 * 1024,
        description="largest SOAP envelope; documents sent inline as base64 count, MTOM parts do not",
    )
    included_bytes: int = Field(
        1 * MIB,
        ge=0,
        description="most octets of MTOM parts that an envelope refers to elsewhere than in a Document, such as "
        "certificates",
    )
    document_bytes: int = Field(4096 * MIB, ge=1, description="largest document of a submission")
    fhir_bytes: int = Field(
        64 * MIB,
        ge=64 * 1024,
        description="largest FHIR resource that is sent here; the documents in a Bundle count, as base64",
    )
    fhir_entries: int = Field(3000, ge=3, description="most entries of a Bundle that is sent here")
    url_bytes: int = Field(
        32 * 1024,
        ge=8 * 1024,
        description="longest URL of a request. That of the next page of a FHIR search holds the search, so a proxy "
        "should let as long ones pass",
    )
    documents_per_submission: int = Field(1000, ge=1, description="most documents in one ITI-41")
    documents_per_retrieve: int = Field(1000, ge=1, description="most documents asked for in one ITI-43")
    inline_answer_bytes: int = Field(
        64 * MIB,
        ge=1,
        description="most octets of documents in one ITI-43 answer without MTOM, where they become base64",
    )
    results: int = Field(1000, ge=1, description="most objects in one ITI-18 answer with LeafClass")
    requests_at_once: int = Field(256, ge=1, description="requests served at the same time by one worker")
    large_answer_bytes: int = Field(
        MIB, ge=1, description="an answer with more octets of metadata is a large one, and is sent piece by piece"
    )
    large_answers_at_once: int = Field(
        32, ge=1, description="large answers that one worker sends at the same time; it is busy for further ones"
    )
    idle_seconds: float = Field(60.0, gt=0, description="how long a sender may pause in the middle of a message")
    store_seconds: float = Field(20.0, gt=0, description="how long a transaction may wait for the metadata store")
    min_free_bytes: int = Field(
        64 * MIB, ge=0, description="documents are refused when the disk has less room than this"
    )


class MetadataStoreKind(StrEnum):
    """Where the registry keeps what it knows."""

    SQLITE = "sqlite"
    MONGODB = "mongodb"


class MetadataSettings(_Table):
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


class DocumentSettings(_Table):
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


class ClientCertificate(StrEnum):
    """Whether a client has to show a certificate."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class TlsSettings(_Table):
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


class LogSettings(_Table):
    """[log]: what happens, without patient data, on standard error."""

    level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")
    format: LogFormat = Field(LogFormat.JSON, description="json for machines, text for people")


class MetricsSettings(_Table):
    """[metrics]"""

    enabled: bool = Field(
        True,
        description="whether /metrics tells Prometheus how much is done, how fast, and what fails; no patient data",
    )
    networks: tuple[Network, ...] = Field(
        ("127.0.0.0/8", "::1/128"),
        description="who may ask for /metrics; behind a proxy of this machine everybody may, if it passes that path on",
    )


class AuditSettings(_Table):
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


class Minimal(StrEnum):
    """What becomes of documents with minimal metadata."""

    REJECT = "reject"
    FILL = "fill"
    ACCEPT = "accept"


class ExternalUrl(StrEnum):
    """What becomes of documents on other servers."""

    REFUSE = "refuse"
    FETCH = "fetch"
    ASSEMBLE = "assemble"


class DefaultCode(_Table):
    """The code of an attribute where none was sent."""

    attribute: str = Field(description="such as type_code")
    code: str
    scheme: str = Field(description="codingScheme: an OID, or whatever the affinity domain agreed on")
    display: str = ""


class CodeOfCode(_Table):
    """A code that follows from another one."""

    of: str = Field(description="code^^scheme of the other one")
    code: str
    scheme: str = Field(description="codingScheme: an OID, or whatever the affinity domain agreed on")
    display: str = ""


class SignatureAlgorithm(StrEnum):
    """How an access token may be signed (RFC 7518, 3.1): with a private key alone, never with a shared one."""

    RS256 = "RS256"
    RS384 = "RS384"
    RS512 = "RS512"
    PS256 = "PS256"
    PS384 = "PS384"
    PS512 = "PS512"
    ES256 = "ES256"
    ES384 = "ES384"
    ES512 = "ES512"
    EDDSA = "EdDSA"


class PatientToken(StrEnum):
    """What becomes of an access token that is for one patient."""

    REFUSE = "refuse"
    HIDE = "hide"
    FORBID = "forbid"
    IGNORE = "ignore"


class TokenIssuer(_Table):
    """Who issues access tokens, and where its public keys are (a JWK Set, RFC 7517)."""

    issuer: str = Field(min_length=1, description="iss of its tokens, exactly")
    jwks_url: KeysAddress | None = Field(None, description="where its keys are, over https")
    jwks_file: Path | None = Field(None, description="or the file that has them; read again like the URL")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("give either jwks_url or jwks_file")
        return self


class IuaSettings(_Table):
    """[mhd.iua]: FHIR for those alone who bring an access token (IUA, ITI-72), as soon as there are issuers."""

    issuers: tuple[TokenIssuer, ...] = Field(
        (),
        description="authorization servers whose access tokens are taken, each as { issuer = iss of its tokens, "
        "jwks_url = where its keys are, over https } or, for keys in a file, { issuer, jwks_file }; none: FHIR is "
        "answered without tokens (needs: pip install 'toimik[iua]')",
    )
    audience: tuple[str, ...] = Field(
        (), description="what this server is called in aud; a token has to name one of them, such as the base URL"
    )
    algorithms: tuple[SignatureAlgorithm, ...] = Field(
        (SignatureAlgorithm.RS256, SignatureAlgorithm.ES256),
        min_length=1,
        description=f"how tokens may be signed: {', '.join(SignatureAlgorithm)}; no token is taken without"
        " a signature, nor with that of a shared key",
    )
    patient_tokens: PatientToken = Field(
        PatientToken.REFUSE,
        description="tokens that are for one patient (patient, extensions.ihe_iua.person_id, "
        "extensions.ihe_bppc.patient_id): refuse them; let them find and read what is his, and hide the rest, as if it "
        "were not there, or forbid it (403); or ignore whom they are for, and take them for all patients",
    )
    leeway_seconds: float = Field(
        30.0, ge=0, le=300, description="how far the clocks of an issuer and of this server may differ"
    )
    token_bytes: int = Field(8192, ge=512, le=65536, description="longest access token")
    keys_seconds: float = Field(300.0, gt=0, description="how long keys are used until they are asked for again")
    keys_last_seconds: float = Field(
        3600.0,
        gt=0,
        description="how long they are used at most where asking fails; after that the answer is 503 until it works",
    )
    keys_pause_seconds: float = Field(
        10.0,
        ge=0,
        description="least time between two times that an issuer is asked, also for a key that is not known; until "
        "then a token with such a key is refused",
    )
    keys_wait_seconds: float = Field(5.0, gt=0, description="how long an issuer may take to answer")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.issuers and not self.audience:
            raise ValueError("audience does not say what this server is called in aud; without it any token would do")
        if len({each.issuer for each in self.issuers}) < len(self.issuers):
            raise ValueError("issuers: each issuer is named once")
        return self


class MhdSettings(_Table):
    """[mhd]: FHIR at /fhir."""

    minimal: Minimal = Field(
        Minimal.REJECT,
        description="documents with minimal metadata are refused (reject: XDS needs more), filled in from defaults and "
        "default_language (fill), or registered as limited metadata, also by ITI-41 and ITI-42 (accept)",
    )
    defaults: tuple[DefaultCode, ...] = Field((), description="codes of documents that have none, by attribute")
    default_language: str | None = Field(None, description="language of documents that have none, such as et-EE")
    uncontained: bool = Field(
        False, description="references to authors and patients on other servers; XDS can not hold them, so only false"
    )
    fhir_documents: bool = Field(False, description="whether a Bundle may hold a document Bundle in place of a Binary")
    external_url: ExternalUrl = Field(
        ExternalUrl.REFUSE,
        description="what becomes of a document that is not in the Bundle: refuse; fetch it from one of "
        "document_servers when it is submitted; or assemble: the same, but where its size is 0 and its hash that of "
        "nothing it is fetched once, when it is first retrieved",
    )
    document_servers: tuple[BaseUrl, ...] = Field(
        (), description="base URLs, such as https://documents.hospital.example/files, below which documents are fetched"
    )
    patient_servers: tuple[BaseUrl, ...] = Field(
        (), description="base URLs of FHIR servers whose Patients are read where a subject refers to them"
    )
    elsewhere_seconds: float = Field(5.0, gt=0, description="how long such a server may say nothing")
    assembly_seconds: float = Field(
        30.0, gt=0, description="how long a document may take that is fetched when it is retrieved, to its last octet"
    )
    simplified_publish: bool = Field(False, description="whether ITI-105 is answered: one DocumentReference with data")
    generate_metadata: bool = Field(False, description="whether ITI-106 is answered: a CDA or FHIR document alone")
    on_demand_documents: bool = Field(
        False,
        description="whether ITI-65 takes documents that are not in the Bundle and have neither hash nor size: a "
        "source of on_demand makes them when they are retrieved",
    )
    repository_extension: WebAddress | None = Field(
        None,
        description="URL of an extension in which DocumentReferences tell the repositoryUniqueId, as valueOid; none: "
        "it is not told, because MHD has no place for it. What is registered gets it, or loses it, by toimik reindex",
    )
    source_id: Oid | None = Field(
        None,
        description="sourceId of the SubmissionSets that are made here for ITI-105 and ITI-106; by default the "
        "repositoryUniqueId",
    )
    content_types: tuple[CodeOfCode, ...] = Field(
        (), description="contentTypeCode of those SubmissionSets, by the document's classCode; by default the same code"
    )
    classes: tuple[CodeOfCode, ...] = Field(
        (), description="classCode of a document that comes by ITI-106, by its typeCode; else that of defaults"
    )

    time_zone: TimeZone = Field(
        "UTC",
        description="the zone of times without one in searches, such as Europe/Tallinn; XDS itself knows UTC alone",
    )
    page_size: int = Field(50, ge=1, description="entries of a search answer where the app does not say _count")
    largest_page: int = Field(500, ge=1, le=5000, description="most entries of a search answer, whatever _count says")
    kept_bytes: int = Field(
        32 * MIB,
        ge=0,
        description="octets of memory of each worker for FHIR resources that were shown lately, so that a dossier in "
        "use is shown faster; 0: none. Of use where metadata.store is sqlite",
    )
    cursor_seconds: int = Field(
        3600,
        ge=1,
        description="how long an app may take from one page of a search to the next; then it is answered 410",
    )
    secret: Secret | None = Field(
        None,
        description="for FHIR without a registry here: what seals the cursors of searches, a secret; any long text, "
        "the same for every server; by default made once and kept in the data directory",
    )
    superseded_gone: bool = Field(
        False,
        description="whether a superseded document is answered 410 by ITI-68; by default it is retrieved as any other",
    )
    code_systems: Path | None = Field(
        None,
        description="OIDs and URIs of code systems beside the usual ones: a TOML file with [[code_system]] tables of "
        "oid and uri, or the JSON of a NamingSystem or of a Bundle of them",
    )

    iua: IuaSettings = Field(default_factory=IuaSettings)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.uncontained:
            raise ValueError("uncontained is true, but this is XDS on FHIR: authors and patients have to be contained")
        if self.external_url is not ExternalUrl.REFUSE and not self.document_servers:
            raise ValueError(f"external_url is {self.external_url}, and document_servers does not say from where")
        if unknown := {each.attribute for each in self.defaults} - CODED_ATTRIBUTES:
            raise ValueError(f"defaults: {', '.join(sorted(unknown))} is no coded attribute")
        return self


class OnDemandSettings(_Table):
    """[[on_demand]]: who makes documents when they are retrieved."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="of the source, for the log")
    unique_ids: tuple[Oid, ...] = Field(
        (), description="OIDs that the uniqueIds of its entries are, or begin with; none: it is for all of them"
    )
    url: WebAddress | None = Field(None, description="where it is asked over HTTP: a POST of the entry as JSON")
    entry_point: str | None = Field(
        None, description="or the name of a plug-in: an entry point in the group toimik.on_demand_sources"
    )
    options: dict[str, str] = Field(default_factory=dict, description="what is handed to the plug-in")
    authorization_file: Path | None = Field(
        None, description="file with the value of the header Authorization, a secret; read whenever it is needed"
    )
    ca: Path | None = Field(
        None, description="PEM file: authorities of the server at url; by default tls.trusted_servers"
    )
    retries: int = Field(
        1, ge=0, le=5, description="how often url is asked again where it can not be reached or answers 502, 503 or 504"
    )
    timeout_seconds: float = Field(30.0, gt=0, description="how long a document may take, from first to last octet")
    document_bytes: int = Field(64 * MIB, ge=1, description="largest document that it may make")
    persist: bool = Field(
        False, description="whether what it makes is kept, and registered as a snapshot that replaces the one before"
    )
    content_type: CodedValue | None = Field(
        None, description="contentTypeCode of the SubmissionSets of snapshots; by default the classCode of the entry"
    )
    delayed: bool = Field(
        False,
        description="whether it also makes delayed documents, registered with size 0 and the hash of nothing: once, "
        "when they are first retrieved",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.url is None) == (self.entry_point is None):
            raise ValueError("give either url or entry_point")
        if self.url is None and (self.authorization_file is not None or self.ca is not None):
            raise ValueError("authorization_file and ca are for a url; a plug-in is told by options")
        if self.url is not None and self.options:
            raise ValueError("options are for an entry_point")
        return self


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
        if self.mhd.external_url is ExternalUrl.ASSEMBLE and Actor.REPOSITORY not in self.actors:
            raise ValueError(
                "mhd.external_url is assemble: documents are assembled by a repository, which is not one of the actors"
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
        return self.model_dump_json(context=_IN_THE_CLEAR).encode() + b"\n"

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
    return _oid(kept.read_text(encoding="ascii").strip())
