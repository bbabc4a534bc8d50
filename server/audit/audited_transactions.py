"""What an audit event says of each transaction: one row for each (MHD 4.2.4: 3.65.5.1 to 3.106.5.1; BALP 1.1).

The profiles compare displays letter by letter. A transaction that has no row leaves no event.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from mhd.fhir.canonicals import profile
from xds.audit import AccessedKind

_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_EVENT_TYPES: Final = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_INTERACTIONS: Final = "http://hl7.org/fhir/restful-interaction"
_IHE: Final = "urn:ihe:event-type-code"
_OBJECT_ROLES: Final = "http://terminology.hl7.org/CodeSystem/object-role"
_BALP: Final = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."


class Coding(NamedTuple):
    """A code as FHIR writes it."""

    system: str
    code: str
    display: str


class Action(Enum):
    """What was done, as AuditEvent.action has it."""

    CREATE = "C"
    READ = "R"
    EXECUTE = "E"


SOURCE: Final = Coding(_DCM, "110153", "Source Role ID")
DESTINATION: Final = Coding(_DCM, "110152", "Destination Role ID")

IMPORT: Final = Coding(_DCM, "110107", "Import")
REST: Final = Coding(_EVENT_TYPES, "rest", "Restful Operation")

SEARCH: Final = Coding(_INTERACTIONS, "search-type", "search-type")
READ: Final = Coding(_INTERACTIONS, "read", "read")
VREAD: Final = Coding(_INTERACTIONS, "vread", "vread")
CREATE: Final = Coding(_INTERACTIONS, "create", "create")

JOB: Final = Coding(_OBJECT_ROLES, "20", "Job")
QUERY: Final = Coding(_OBJECT_ROLES, "24", "Query")
REPORT: Final = Coding(_OBJECT_ROLES, "3", "Report")
DOMAIN_RESOURCE: Final = Coding(_OBJECT_ROLES, "4", "Domain Resource")


class AuditedTransaction(NamedTuple):
    """What is always the same in the events of a transaction, seen from the server.

    client, server       the roles of the two: data flows from Source to Destination
    object_role          of what was read or made; QUERY: it is a search, whose event holds the request itself
    of_id                what the id in a URL is of, where there is one
    profile              that an event of a success meets
    profile_of_nobody    the same where no patient was concerned; "": there is none
    """

    name: str
    type: Coding
    subtypes: tuple[Coding, ...]
    action: Action
    client: Coding
    server: Coding
    object_role: Coding
    profile: str
    profile_of_nobody: str = ""
    of_id: AccessedKind | None = None

    @property
    def is_search(self) -> bool:
        return self.object_role is QUERY


def _iti(number: int, title: str) -> Coding:
    return Coding(_IHE, f"ITI-{number}", title)


def _search(number: int, title: str, name: str) -> AuditedTransaction:
    return AuditedTransaction(
        f"ITI-{number}", REST, (SEARCH, _iti(number, title)), Action.EXECUTE, SOURCE, DESTINATION, QUERY,
        profile(f"IHE.MHD.{name}.Audit.Responder"), f"{_BALP}Query",
    )  # fmt: skip


def _create(number: int, title: str, name: str) -> AuditedTransaction:
    return AuditedTransaction(
        f"ITI-{number}", REST, (CREATE, _iti(number, title)), Action.CREATE, SOURCE, DESTINATION, DOMAIN_RESOURCE,
        profile(f"IHE.MHD.{name}.Audit.Recipient"),
    )  # fmt: skip


def _read(name: str, interaction: Coding) -> AuditedTransaction:
    return AuditedTransaction(
        name, REST, (interaction,), Action.READ, DESTINATION, SOURCE, DOMAIN_RESOURCE, f"{_BALP}PatientRead"
    )


AUDITED_TRANSACTIONS: Final = {
    each.name: each
    for each in (
        AuditedTransaction(
            "ITI-65", IMPORT, (_iti(65, "Provide Document Bundle"),), Action.CREATE, SOURCE, DESTINATION, JOB,
            profile("IHE.MHD.ProvideBundle.Audit.Recipient"),
        ),
        _search(66, "Find Document Lists", "FindDocumentLists"),
        _search(67, "Find Document References", "FindDocumentReferences"),
        AuditedTransaction(
            "ITI-68", REST, (READ, _iti(68, "Retrieve Document")), Action.READ, DESTINATION, SOURCE, REPORT,
            profile("IHE.MHD.RetrieveDocument.Audit.Responder"), of_id=AccessedKind.DOCUMENT,
        ),
        _create(105, "Simplified Publish", "SimplifiedPublish"),
        _create(106, "Generate Metadata", "GenerateMetadata"),
        _read("FHIR-read", READ),
        _read("FHIR-vread", VREAD),
    )
}  # fmt: skip
"""By name of the transaction, as logs and metrics have it; they do not tell a read of a version from another."""
