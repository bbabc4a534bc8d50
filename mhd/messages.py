"""What passes between the rim (server/fhir_endpoint.py) and MHD: resources, and what HTTP says beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from xds.audit import NOTHING_ACCESSED, Accessed
from xds.errors import RegistryError

Json: TypeAlias = dict[str, Any]
Body: TypeAlias = Json | bytes | tuple[bytes, ...]
"""A resource, or one that is JSON already, which may be in pieces."""

FHIR_JSON: Final = "application/fhir+json"
FHIR_XML: Final = "application/fhir+xml"


class FhirTransaction(NamedTuple):
    """A transaction that FHIR apps ask for; `name` is how logs and metrics call it."""

    name: str
    title: str


ITI_65: Final = FhirTransaction("ITI-65", "Provide Document Bundle")
ITI_66: Final = FhirTransaction("ITI-66", "Find Document Lists")
ITI_67: Final = FhirTransaction("ITI-67", "Find Document References")
ITI_68: Final = FhirTransaction("ITI-68", "Retrieve Document")
ITI_93: Final = FhirTransaction("ITI-93", "Mobile Patient Identity Feed")
ITI_104: Final = FhirTransaction("ITI-104", "Patient Identity Feed FHIR")
ITI_105: Final = FhirTransaction("ITI-105", "Simplified Publish")
ITI_106: Final = FhirTransaction("ITI-106", "Generate Metadata")
FHIR_READ: Final = FhirTransaction("FHIR-read", "read")
FHIR_HISTORY: Final = FhirTransaction("FHIR-history", "history")
FHIR_CAPABILITIES: Final = FhirTransaction("FHIR-capabilities", "capabilities")


class PreferReturn(StrEnum):
    """What a sender wants to get back (FHIR R4: http.html, 3.1.0.1.9)."""

    MINIMAL = "minimal"
    REPRESENTATION = "representation"
    OPERATION_OUTCOME = "OperationOutcome"


@dataclass(frozen=True, slots=True)
class FhirRequest:
    """What a request says beside the resource in it.

    mime_type       of the body: FHIR_JSON or FHIR_XML, whatever synonym was sent
    prefer_return   None: nothing was said
    strict          Prefer: handling=strict: what is not understood is refused, not ignored
    request_id      X-Request-Id, "" where none was sent
    if_none_exist   If-None-Exist: the search that has to find nothing, or else nothing is made; None: it was not sent
    """

    mime_type: str = FHIR_JSON
    prefer_return: PreferReturn | None = None
    strict: bool = False
    request_id: str = ""
    if_none_exist: str | None = None


@dataclass(frozen=True, slots=True)
class FhirAnswer:
    """What is answered.

    resource          None: nothing
    location          URL of what was made
    etag              of the representation, without W/ and quotes
    last_updated      instant
    errors            what a registry or repository warned of, for the metrics
    documents_kept    how many documents were stored and registered
    accessed          what the audit trail is told
    """

    resource: Body | None
    status: int = 200
    location: str | None = None
    etag: str | None = None
    last_updated: str | None = None
    errors: tuple[RegistryError, ...] = ()
    documents_kept: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    accessed: Accessed = NOTHING_ACCESSED


class Recipient(Protocol):
    """The Document Recipient. What it does not do raises Refused with not-supported."""

    async def provide_document_bundle(self, resource: Any, request: FhirRequest) -> FhirAnswer:
        """Provide Document Bundle [ITI-65]. resource: what the body says, not yet judged. Raises Refused."""
        ...

    async def simplified_publish(self, resource: Any, request: FhirRequest) -> FhirAnswer:
        """Simplified Publish [ITI-105]. Raises Refused."""
        ...

    async def generate_metadata(self, resource: Any, request: FhirRequest) -> FhirAnswer:
        """Generate Metadata [ITI-106]. Raises Refused."""
        ...
