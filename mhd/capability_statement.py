"""What this server does, as FHIR tells it (FHIR R4: capabilitystatement.html), from its running configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mhd.fhir.canonicals import MHD, profile
from mhd.iti66_find_document_lists import LISTS
from mhd.iti67_find_document_references import DOCUMENT_REFERENCES
from mhd.messages import FHIR_JSON, FHIR_XML, Json
from mhd.searching.search import SearchType

_CHANGED: Final = "2026-11-30"  # the day on which what is told here was last changed
_SECURITY_TYPES: Final = "http://profiles.ihe.net/fhir/ihe.securityTypes/CodeSystem/securityTypes"
_BY_ETAG: Final = "not-match"  # If-None-Match is heeded; there is no time that If-Modified-Since could be compared with
_BY_ETAG_OR_TIME: Final = "full-support"
_PROCESS_MESSAGE: Final = "http://hl7.org/fhir/OperationDefinition/MessageHeader-process-message"
_STATEMENT: Final = f"{MHD}CapabilityStatement/IHE.MHD."


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a deployment has turned on.

    version       of Toimik
    submissions   ITI-65 is answered
    patients      there are Patient resources
    patient_feed  ITI-93 and ITI-104 are answered
    access_tokens   a token is asked for (IUA)
    cors            apps in a browser that come from elsewhere may ask
    times_of_change   it is known when something was changed: _lastUpdated, Last-Modified
    """

    version: str
    submissions: bool = False
    simplified_publish: bool = False
    generate_metadata: bool = False
    fhir_documents: bool = False
    target_communities: bool = False
    patients: bool = True
    patient_feed: bool = True
    access_tokens: bool = False
    cors: bool = False
    times_of_change: bool = True

    @property
    def parameters_left_out(self) -> frozenset[str]:
        """Search parameters that would be refused, whatever their value."""
        left_out = {"targetCommunityIdList": self.target_communities, "_lastUpdated": self.times_of_change}
        return frozenset(name for name, is_there in left_out.items() if not is_there)


def capability_statement(base: str, capabilities: Capabilities) -> Json:
    """The CapabilityStatement of a server at a base URL."""
    rest: Json = {
        "mode": "server",
        "security": _security(capabilities),
        "resource": list(_resources(capabilities)),
    }
    if capabilities.submissions:
        rest["interaction"] = [{"code": "transaction"}]
    if capabilities.patient_feed:
        rest["operation"] = [{"name": "process-message", "definition": _PROCESS_MESSAGE}]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _CHANGED,
        "kind": "instance",
        "instantiates": [f"{_STATEMENT}{each}" for each in _statements(capabilities)],
        "software": {"name": "Toimik", "version": capabilities.version},
        "implementation": {"description": "MHD 4.2.4 on an XDS.b registry and repository", "url": base},
        "fhirVersion": "4.0.1",
        "format": [FHIR_JSON, FHIR_XML],
        "rest": [rest],
    }


def _security(capabilities: Capabilities) -> Json:
    """Who may ask. That access tokens are needed is said as IUA has it (ITI TF-1: 34.1.1.3)."""
    certificates = "TLS with client certificates where the deployment asks for them"
    if not capabilities.access_tokens:
        return {"cors": capabilities.cors, "description": certificates}
    tokens = "an access token (IUA, ITI-72) whose scope is the transaction, such as ITI-67"
    coding = {"system": _SECURITY_TYPES, "code": "IUA"}
    return {"cors": capabilities.cors, "service": [{"coding": [coding]}], "description": f"{certificates}; {tokens}"}


def _statements(capabilities: Capabilities) -> Iterator[str]:
    """The requirements of IHE that are met."""
    yield "DocumentResponder"
    if capabilities.target_communities:
        yield "DocumentResponder.Target"
    if capabilities.submissions:
        yield "DocumentRecipient.Comprehensive"
    if capabilities.simplified_publish:
        yield "DocumentRecipient.Simplified"
    if capabilities.generate_metadata:
        yield "DocumentRecipient.Generate"
    if capabilities.fhir_documents:
        yield "DocumentRecipient.Fdoc"


def _resources(capabilities: Capabilities) -> Iterator[Json]:
    yield {"type": "Binary", "interaction": [{"code": "read"}], "conditionalRead": _conditional_read(capabilities)}
    references = _searchable(DOCUMENT_REFERENCES, capabilities, "DocumentReference")
    if capabilities.simplified_publish:
        references["interaction"].append({"code": "create"})
    if capabilities.generate_metadata:
        definition = f"{MHD}OperationDefinition/generate-metadata"
        references["operation"] = [{"name": "generate-metadata", "definition": definition}]
    lists = _searchable(LISTS, capabilities, "SubmissionSet", "Folder")
    if capabilities.submissions:
        # Of DocumentReferences and Lists in a transaction, and of a DocumentReference where that may be created.
        for each in (references, lists):
            each["conditionalCreate"] = True
    yield references
    yield lists
    if capabilities.patients:
        feed = {"conditionalUpdate": True} if capabilities.patient_feed else {}
        interactions = ["read", *(["update"] if capabilities.patient_feed else [])]
        yield {
            "type": "Patient",
            "interaction": [{"code": each} for each in interactions],
            "conditionalRead": _BY_ETAG,
            **feed,
        }


def _conditional_read(capabilities: Capabilities) -> str:
    return _BY_ETAG_OR_TIME if capabilities.times_of_change else _BY_ETAG


def _searchable(kind: SearchType, capabilities: Capabilities, *profiles: str) -> Json:
    return {
        "type": kind.resource,
        "supportedProfile": [
            profile(f"IHE.MHD.{level}.{each}") for each in profiles for level in ("Minimal", "Comprehensive")
        ],
        "interaction": [{"code": "read"}, {"code": "vread"}, {"code": "history-instance"}, {"code": "search-type"}],
        "versioning": "versioned",
        "readHistory": True,
        "conditionalRead": _conditional_read(capabilities),
        "searchParam": [
            {"name": each.name}
            | ({"definition": each.definition} if each.definition else {})
            | {"type": each.type.value}
            for each in sorted(kind.parameters, key=lambda each: each.name)
            if ":" not in each.name and each.name not in capabilities.parameters_left_out
        ],
    }
