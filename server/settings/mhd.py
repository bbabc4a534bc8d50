"""[mhd] and [mhd.iua]: FHIR, and who may ask for it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import (
    Field,
    model_validator,
)

from server.settings.affinity_domain import CODED_ATTRIBUTES
from server.settings.setting_forms import MIB, BaseUrl, KeysAddress, Oid, Origin, Secret, Table, TimeZone, WebAddress


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
    LINK = "link"


class DefaultCode(Table):
    """The code of an attribute where none was sent."""

    attribute: str = Field(description="such as type_code")
    code: str
    scheme: str = Field(description="codingScheme: an OID, or whatever the affinity domain agreed on")
    display: str = ""


class CodeOfCode(Table):
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


class TokenIssuer(Table):
    """Who issues access tokens, and where its public keys are (a JWK Set, RFC 7517)."""

    issuer: str = Field(min_length=1, description="iss of its tokens, exactly")
    jwks_url: KeysAddress | None = Field(None, description="where its keys are, over https")
    jwks_file: Path | None = Field(None, description="or the file that has them; read again like the URL")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("give either jwks_url or jwks_file")
        return self


class IuaSettings(Table):
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


class MhdSettings(Table):
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
        "document_servers when it is submitted; assemble: the same, but where its size is 0 and its hash that of "
        "nothing it is fetched once, when it is first retrieved; or link: it stays there, and is fetched, and compared "
        "with its hash, each time that it is retrieved",
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
    cors_origins: tuple[Origin, ...] = Field(
        (),
        description="origins, such as https://app.hospital.example, of apps that run in a browser and may ask here "
        '(CORS); ["*"]: any; none: a browser lets only pages of this server itself ask',
    )
    code_systems: Path | None = Field(
        None,
        description="OIDs and URIs of code systems, and of systems of identifiers, beside the usual ones: a TOML file "
        "with [[code_system]] tables of oid and uri, or the JSON of a NamingSystem or of a Bundle of them. What is "
        "registered is told by them after toimik reindex",
    )

    iua: IuaSettings = Field(default_factory=IuaSettings)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.uncontained:
            raise ValueError("uncontained is true, but this is XDS on FHIR: authors and patients have to be contained")
        if self.external_url is not ExternalUrl.REFUSE and not self.document_servers:
            raise ValueError(f"external_url is {self.external_url}, and document_servers does not say from where")
        if "*" in self.cors_origins and len(self.cors_origins) > 1:
            raise ValueError('cors_origins: "*" is any origin, so it stands alone')
        if unknown := {each.attribute for each in self.defaults} - CODED_ATTRIBUTES:
            raise ValueError(f"defaults: {', '.join(sorted(unknown))} is no coded attribute")
        return self
