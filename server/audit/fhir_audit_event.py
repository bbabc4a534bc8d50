"""AuditEvents of FHIR R4 that say what happened (BALP 1.1): one for each patient."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote, urlsplit

from mhd.fhir.exact_text import Json
from mhd.iti93_mobile_patient_identity_feed import EVENT
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.identifiers import cx_identifier
from server.audit.audited_transactions import AuditedTransaction, Coding
from server.audit.happened import Client, Happened, Named, User
from server.requester import PurposeOfUse
from xds.audit import AccessedKind, AccessedObject
from xds.hl7v2 import CX

_ENTITY_TYPES: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_PERSON: Final = Coding(_ENTITY_TYPES, "1", "Person")
_SYSTEM_OBJECT: Final = Coding(_ENTITY_TYPES, "2", "System Object")
_PATIENT: Final = Coding("http://terminology.hl7.org/CodeSystem/object-role", "1", "Patient")
_MESSAGE: Final = {
    "type": {"system": "http://hl7.org/fhir/resource-types", "code": "MessageHeader", "display": "MessageHeader"},
    "name": EVENT,
}
_REQUEST_ID: Final = {
    "system": "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType",
    "code": "XrequestId",
}
_APPLICATION_SERVER: Final = Coding(
    "http://terminology.hl7.org/CodeSystem/security-source-type", "4", "Application Server"
)
_USER: Final = Coding("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP", "information recipient")
_OAUTH_USER: Final = Coding(
    "https://profiles.ihe.net/ITI/BALP/CodeSystem/UserAgentTypes", "UserOauthAgent", "User OAuth Agent participant"
)
_JTI: Final = "urn:ietf:params:oauth:jti:"
_OF_URIS: Final = ":/?#[]@!$&'()*+,;=%"
_MACHINE_NAME: Final = "1"
_IP_ADDRESS: Final = "2"
_URI: Final = "5"

_RESOURCES: Final = {
    AccessedKind.SUBMISSION_SET: "List",
    AccessedKind.FOLDER: "List",
    AccessedKind.DOCUMENT_ENTRY: "DocumentReference",
    AccessedKind.DOCUMENT: "Binary",
    AccessedKind.PATIENT: "Patient",
}


@dataclass(frozen=True, slots=True)
class Observer:
    """Who writes the events: the server itself.

    id             a URI
    site           "": it has no name
    code_systems   of identifiers, as this server calls them in FHIR
    """

    id: str
    site: str = ""
    code_systems: CodeSystems = field(default_factory=CodeSystems.default)

    @property
    def reference(self) -> Json:
        return {"identifier": {"value": self.id}}


def audit_events(happened: Happened, observer: Observer, now: datetime) -> list[Json]:
    """The events: one for each patient concerned, or one where nobody is."""
    return [_event(happened, observer, now, each) for each in happened.accessed.patient_ids or ("",)]


def _event(happened: Happened, observer: Observer, now: datetime, patient_id: str) -> Json:
    row = happened.transaction
    profile = _profile(happened, patient_id)
    return {
        "resourceType": "AuditEvent",
        **({"meta": {"profile": [profile]}} if profile else {}),
        "type": row.type._asdict(),
        "subtype": [each._asdict() for each in row.subtypes],
        "action": row.action.value,
        "recorded": now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "outcome": happened.outcome.value,
        **({"outcomeDesc": happened.description} if happened.description else {}),
        "agent": [
            *_both_sides(happened, observer),
            *([_user(happened.user)] if happened.user else ()),
        ],
        "source": {
            **({"site": observer.site} if observer.site else {}),
            "observer": observer.reference,
            "type": [_APPLICATION_SERVER._asdict()],
        },
        **_entities(happened, patient_id, observer.code_systems),
    }


def _profile(happened: Happened, patient_id: str) -> str:
    """The profile that it meets; "": none, for those are of what succeeded."""
    row = happened.transaction
    if happened.outcome.is_failure or (row.is_closed and happened.request_id):
        return ""
    return row.profile if patient_id else row.profile_of_nobody


# Who ---------------------------------------------------------------------------------------------------------------


def _both_sides(happened: Happened, observer: Observer) -> tuple[Json, Json]:
    """Client and server; one of the two is this server."""
    row = happened.transaction
    if happened.client is not None:
        return _client(happened.client, row), _server(observer.reference, _at_url(happened.url), row)
    own = {
        "type": {"coding": [row.client._asdict()]},
        "who": observer.reference,
        "requestor": False,
        "network": _at_host(happened.base),
    }
    return own, _server({"identifier": {"value": happened.url}}, _at_host(happened.url), row)


def _client(client: Client, row: AuditedTransaction) -> Json:
    return {
        "type": {"coding": [row.client._asdict()]},
        "who": {
            **({"identifier": {"value": client.id}} if client.id else {}),
            "display": client.name or client.address,
        },
        "requestor": False,
        "network": {"address": client.address, "type": _IP_ADDRESS},
    }


def _server(who: Json, network: Json, row: AuditedTransaction) -> Json:
    return {"type": {"coding": [row.server._asdict()]}, "who": who, "requestor": False, "network": network}


def _at_url(url: str) -> Json:
    return {"address": url, "type": _URI}


def _at_host(url: str) -> Json:
    """The host alone, as audit messages of SOAP transactions have it (NetworkAccessPointID)."""
    host = urlsplit(url).hostname or url
    try:
        ip_address(host)
    except ValueError:
        return {"address": host, "type": _MACHINE_NAME}
    return {"address": host, "type": _IP_ADDRESS}


def _user(user: User) -> Json:
    purposes = [{"coding": [_named(each)]} for each in user.purposes_of_use]
    return {
        "type": {"coding": [_USER._asdict(), _OAUTH_USER._asdict()]},
        "who": {"identifier": {"system": user.issuer, "value": user.subject}, "display": user.subject},
        "requestor": True,
        **({"policy": [_JTI + quote(user.jti, safe=_OF_URIS)]} if user.jti else {}),
        **({"purposeOfUse": purposes} if purposes else {}),
    }


def _named(purpose: PurposeOfUse) -> Json:
    return {**({"system": purpose.system} if purpose.system else {}), "code": purpose.code}


# About whom and what -----------------------------------------------------------------------------------------------


def _entities(happened: Happened, patient_id: str, systems: CodeSystems) -> Json:
    entities = list(_each_entity(happened, patient_id, systems))
    return {"entity": entities} if entities else {}


def _each_entity(happened: Happened, patient_id: str, systems: CodeSystems) -> Iterator[Json]:
    row = happened.transaction
    if patient_id:
        yield {"what": _patient(happened, patient_id, systems), "type": _PERSON._asdict(), "role": _PATIENT._asdict()}
    for each in happened.accessed.objects:
        if each.kind is AccessedKind.MESSAGE:
            yield {"what": _named_message(each), **_MESSAGE}
            continue
        yield {
            "what": _what(each, happened.base),
            "type": _SYSTEM_OBJECT._asdict(),
            "role": row.object_role._asdict(),
        }
    query = {"query": base64.b64encode(happened.query).decode()} if happened.query else {}
    for name in happened.named:
        yield {**_by_name(name), "type": _SYSTEM_OBJECT._asdict(), "role": row.object_role._asdict(), **query}
    if query and not happened.named:
        yield {"type": _SYSTEM_OBJECT._asdict(), "role": row.object_role._asdict(), **query}
    if happened.request_id:
        yield {"what": {"identifier": {"value": happened.request_id}}, "type": _REQUEST_ID}


def _patient(happened: Happened, patient_id: str, systems: CodeSystems) -> Json:
    key = None if happened.transaction.has_patient_ids else happened.patient_keys.get(patient_id)
    return {
        **({"reference": f"{happened.base}/Patient/{key}"} if key else {}),
        "type": "Patient",
        "identifier": cx_identifier(CX(patient_id), systems),
    }


def _by_name(named: Named) -> Json:
    details = [{"type": kind, "valueString": value} for kind, value in named.details]
    return {"what": {"identifier": {"value": named.id}}, **({"detail": details} if details else {})}


def _named_message(accessed: AccessedObject) -> Json:
    """A message is kept nowhere, so that it has a name and no URL."""
    return {"type": "MessageHeader", **({"identifier": {"value": accessed.id}} if accessed.id else {})}


def _what(accessed: AccessedObject, base: str) -> Json:
    resource = _RESOURCES[accessed.kind]
    return {"reference": f"{base}/{resource}/{accessed.id}", "type": resource}
