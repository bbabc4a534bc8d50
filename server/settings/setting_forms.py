"""Forms of single settings: a sentence for whatever has another one, and what is common to all tables."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Final
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
)

from mhd.mapping.code_systems import FORMS_OF_VALUES
from server.number_checks import number_check
from xds.hl7v2 import is_oid

MIB = 1024 * 1024
SECRETS_VARIABLE: Final = "TOIMIK_SECRETS"
"""Names the directory of secrets. It is no setting: it says where settings are."""

IN_THE_CLEAR: Final = "secrets in the clear"
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_USUAL_PORT: Final = re.compile(r"^http:.*:80$|^https:.*:443$")
_ABSOLUTE_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_OF_THIS_MACHINE: Final = ("127.0.0.1", "::1", "localhost")


def oid(value: str) -> str:
    if not is_oid(value):
        raise ValueError(f"{value!r} is not an OID such as 1.2.40.0.13")
    return value


def _system_uri(value: str) -> str:
    if value and (value.lower().startswith("urn:oid:") or not _ABSOLUTE_URI.fullmatch(value)):
        raise ValueError(
            f"{value!r} is not a URI such as https://fhir.nhs.uk/Id/nhs-number; an OID is known without it"
        )
    if value in FORMS_OF_VALUES:
        raise ValueError(
            f"{value!r} says what an identifier looks like, not who gave it; give a URI of the authority's own"
        )
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


def _origin(value: str) -> str:
    if value != "*" and (not _ORIGIN.fullmatch(value) or _USUAL_PORT.search(value)):
        raise ValueError(
            f"{value!r} is not an origin as browsers say it, such as https://app.hospital.example: scheme, host, and a "
            "port unless it is the usual one, in lower case, without a path or a slash at the end"
        )
    return value


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
    return secret.get_secret_value() if info.context == IN_THE_CLEAR else str(secret)


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


Oid = Annotated[str, AfterValidator(oid)]
HomeCommunityId = Annotated[str, AfterValidator(_home)]
Secret = Annotated[SecretStr, Field(min_length=1), PlainSerializer(_serialized, return_type=str, when_used="json")]
MongodbUrl = Annotated[Secret, AfterValidator(_mongodb_url)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
Origin = Annotated[str, AfterValidator(_origin)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
KeysAddress = Annotated[str, AfterValidator(_keys_address)]
SystemUri = Annotated[str, AfterValidator(_system_uri)]
NumberKind = Annotated[str, AfterValidator(_number_kind)]
Network = Annotated[str, AfterValidator(_network)]


class Table(BaseModel):
    """A table of settings: nothing else may stand in it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
