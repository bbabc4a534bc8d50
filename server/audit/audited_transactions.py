"""What an audit event says of each transaction: one row for each.

MHD 4.2.4: 3.65.5.1 to 3.106.5.1; PIXm 3.0.5: 3.104.5.1; PMIR 1.6: 3.93.5.1; BALP 1.1.4 for what is read beside these.
ITI TF-2: 3.18.5.1, 3.41.5.1, 3.42.5.1, 3.43.6.1 and 3.61.5.1 for what others are asked; ITI-57 is told like ITI-42.
The profiles compare displays letter by letter. A transaction that has no row leaves no event.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from mhd.fhir.canonicals import profile
from xds.transactions import ITI_18, ITI_41, ITI_42, ITI_43, ITI_57, ITI_61, Transaction

_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_EVENT_TYPES: Final = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_INTERACTIONS: Final = "http://hl7.org/fhir/restful-interaction"
_IHE: Final = "urn:ihe:event-type-code"
_OBJECT_ROLES: Final = "http://terminology.hl7.org/CodeSystem/object-role"
_BALP: Final = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_PIXM: Final = "https://profiles.ihe.net/ITI/PIXm/StructureDefinition/IHE.PIXm."
_PMIR: Final = "https://profiles.ihe.net/ITI/PMIR/StructureDefinition/IHE.PMIR."


class Coding(NamedTuple):
    """A code as FHIR writes it."""

    system: str
    code: str
    display: str


class Action(Enum):
    """What was done, as AuditEvent.action has it."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    EXECUTE = "E"


SOURCE: Final = Coding(_DCM, "110153", "Source Role ID")
DESTINATION: Final = Coding(_DCM, "110152", "Destination Role ID")

IMPORT: Final = Coding(_DCM, "110107", "Import")
EXPORT: Final = Coding(_DCM, "110106", "Export")
QUERY_EVENT: Final = Coding(_DCM, "110112", "Query")
PATIENT_RECORD: Final = Coding(_DCM, "110110", "Patient Record")
REST: Final = Coding(_EVENT_TYPES, "rest", "Restful Operation")

SEARCH: Final = Coding(_INTERACTIONS, "search-type", "search-type")
READ: Final = Coding(_INTERACTIONS, "read", "read")
VREAD: Final = Coding(_INTERACTIONS, "vread", "vread")
HISTORY: Final = Coding(_INTERACTIONS, "history-instance", "history-instance")
CREATE: Final = Coding(_INTERACTIONS, "create", "create")
UPDATE: Final = Coding(_INTERACTIONS, "update", "update")

JOB: Final = Coding(_OBJECT_ROLES, "20", "Job")
QUERY: Final = Coding(_OBJECT_ROLES, "24", "Query")
REPORT: Final = Coding(_OBJECT_ROLES, "3", "Report")
DOMAIN_RESOURCE: Final = Coding(_OBJECT_ROLES, "4", "Domain Resource")


class AuditedTransaction(NamedTuple):
    """What is always the same in the events of a transaction, seen from this server.

    client, server       the roles of the two: data flows from Source to Destination
    object_role          of what was read or made; QUERY: it is a search, whose event holds the request itself
    profile              that an event of a success meets; "": there is none, as of what is SOAP
    profile_of_nobody    the same where no patient was concerned; "": there is none
    is_closed            that profile knows no entities but its own: an event with an X-Request-Id does not meet it
    has_patient_ids      patients are told by their identifiers alone, and not by references to their resources
    where_new            what is different where something new was made; None: nothing
    """

    name: str
    type: Coding
    subtypes: tuple[Coding, ...]
    action: Action
    client: Coding
    server: Coding
    object_role: Coding
    profile: str = ""
    profile_of_nobody: str = ""
    is_closed: bool = False
    has_patient_ids: bool = False
    where_new: AuditedTransaction | None = None

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


def _feed(interaction: Coding, action: Action, name: str, where_new: AuditedTransaction | None) -> AuditedTransaction:
    return AuditedTransaction(
        "ITI-104", REST, (interaction, _iti(104, "Patient Identity Feed FHIR")), action, SOURCE, DESTINATION,
        DOMAIN_RESOURCE, f"{_PIXM}Feed.{name}.Audit.Manager", has_patient_ids=True, where_new=where_new,
    )  # fmt: skip


def _sent(transaction: Transaction, action: Action = Action.READ) -> AuditedTransaction:
    return AuditedTransaction(transaction.name, EXPORT, (_of(transaction),), action, SOURCE, DESTINATION, JOB)


def _of(transaction: Transaction) -> Coding:
    return Coding(_IHE, transaction.name, transaction.title)


def _read(name: str, *interactions: Coding) -> AuditedTransaction:
    return AuditedTransaction(
        name, REST, interactions, Action.READ, DESTINATION, SOURCE, DOMAIN_RESOURCE, f"{_BALP}PatientRead"
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
            profile("IHE.MHD.RetrieveDocument.Audit.Responder"),
        ),
        AuditedTransaction(
            "ITI-93", PATIENT_RECORD, (_iti(93, "Mobile Patient Identity Feed"),), Action.EXECUTE, SOURCE, DESTINATION,
            DOMAIN_RESOURCE, f"{_PMIR}Feed.Audit", is_closed=True,
        ),
        _feed(UPDATE, Action.UPDATE, "Update", _feed(CREATE, Action.CREATE, "Create", None)),
        _create(105, "Simplified Publish", "SimplifiedPublish"),
        _create(106, "Generate Metadata", "GenerateMetadata"),
        _read("FHIR-read", READ),
        _read("FHIR-vread", VREAD),
        _read("FHIR-history", VREAD, HISTORY),  # the profile has it that one of them is a read or a vread
    )
}  # fmt: skip
"""By name of the transaction, as logs and metrics have it; they do not tell a read of a version from another."""

ASKED_TRANSACTIONS: Final = {
    each.name: each
    for each in (
        AuditedTransaction("ITI-18", QUERY_EVENT, (_of(ITI_18),), Action.EXECUTE, SOURCE, DESTINATION, QUERY),
        AuditedTransaction("ITI-43", IMPORT, (_of(ITI_43),), Action.CREATE, DESTINATION, SOURCE, REPORT),
        _sent(ITI_41),
        _sent(ITI_42),
        _sent(ITI_57, Action.UPDATE),
        _sent(ITI_61),
    )
}
"""By name: those that this server asks of others, as their clients tell them."""
