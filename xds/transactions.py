"""The transactions that Toimik speaks: one row each.

The names of the bodies are `{namespace}local`, the actions those of WS-Addressing (ITI TF-2: the SOAP binding of each
transaction). default_code is what a broken rule without a code of its own is reported as.
"""

from __future__ import annotations

from dataclasses import dataclass

from xds.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction of the Technical Framework.

    actor          who answers it: `registry` or `repository`, as in the URL of its endpoint
    mtom           the standard's own form is MTOM/XOP; simple SOAP is taken as well and answered as such
    default_code   of findings in metadata
    fault_code     of faults of ours
    busy_code      when it can not be served now
    full_code      when there is no room
    answered_as    the action of the response, where it is not that of the request with Response appended
    """

    name: str
    title: str
    actor: str
    action: str
    request: str
    mtom: bool
    default_code: ErrorCode
    fault_code: ErrorCode
    busy_code: ErrorCode
    full_code: ErrorCode
    answered_as: str | None = None

    @property
    def response_action(self) -> str:
        return self.answered_as or f"{self.action}Response"


ITI_18 = Transaction(
    name="ITI-18",
    title="Registry Stored Query",
    actor="registry",
    action="urn:ihe:iti:2007:RegistryStoredQuery",
    request="{urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0}AdhocQueryRequest",
    mtom=False,
    default_code=ErrorCode.REGISTRY_ERROR,
    fault_code=ErrorCode.REGISTRY_ERROR,
    busy_code=ErrorCode.REGISTRY_BUSY,
    full_code=ErrorCode.REGISTRY_OUT_OF_RESOURCES,
)
ITI_41 = Transaction(
    name="ITI-41",
    title="Provide and Register Document Set-b",
    actor="repository",
    action="urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b",
    request="{urn:ihe:iti:xds-b:2007}ProvideAndRegisterDocumentSetRequest",
    mtom=True,
    default_code=ErrorCode.REPOSITORY_METADATA_ERROR,
    fault_code=ErrorCode.REPOSITORY_ERROR,
    busy_code=ErrorCode.REPOSITORY_BUSY,
    full_code=ErrorCode.REPOSITORY_OUT_OF_RESOURCES,
)
ITI_42 = Transaction(
    name="ITI-42",
    title="Register Document Set-b",
    actor="registry",
    action="urn:ihe:iti:2007:RegisterDocumentSet-b",
    request="{urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0}SubmitObjectsRequest",
    mtom=False,
    default_code=ErrorCode.REGISTRY_METADATA_ERROR,
    fault_code=ErrorCode.REGISTRY_ERROR,
    busy_code=ErrorCode.REGISTRY_BUSY,
    full_code=ErrorCode.REGISTRY_OUT_OF_RESOURCES,
)
ITI_43 = Transaction(
    name="ITI-43",
    title="Retrieve Document Set",
    actor="repository",
    action="urn:ihe:iti:2007:RetrieveDocumentSet",
    request="{urn:ihe:iti:xds-b:2007}RetrieveDocumentSetRequest",
    mtom=True,
    default_code=ErrorCode.REPOSITORY_ERROR,
    fault_code=ErrorCode.REPOSITORY_ERROR,
    busy_code=ErrorCode.REPOSITORY_BUSY,
    full_code=ErrorCode.REPOSITORY_OUT_OF_RESOURCES,
)

ITI_51 = Transaction(
    name="ITI-51",
    title="Multi-Patient Stored Query",
    actor="registry",
    action="urn:ihe:iti:2009:MultiPatientStoredQuery",
    request="{urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0}AdhocQueryRequest",
    mtom=False,
    default_code=ErrorCode.REGISTRY_ERROR,
    fault_code=ErrorCode.REGISTRY_ERROR,
    busy_code=ErrorCode.REGISTRY_BUSY,
    full_code=ErrorCode.REGISTRY_OUT_OF_RESOURCES,
)
ITI_57 = Transaction(
    name="ITI-57",
    title="Update Document Set",
    actor="registry",
    action="urn:ihe:iti:2010:UpdateDocumentSet",
    request="{urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0}SubmitObjectsRequest",
    mtom=False,
    default_code=ErrorCode.METADATA_UPDATE_ERROR,
    fault_code=ErrorCode.REGISTRY_ERROR,
    busy_code=ErrorCode.REGISTRY_BUSY,
    full_code=ErrorCode.REGISTRY_OUT_OF_RESOURCES,
)
ITI_61 = Transaction(
    name="ITI-61",
    title="Register On-Demand Document Entry",
    actor="registry",
    action="urn:ihe:iti:2010:RegisterOnDemandDocumentEntry",
    request="{urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0}SubmitObjectsRequest",
    mtom=False,
    default_code=ErrorCode.REGISTRY_METADATA_ERROR,
    fault_code=ErrorCode.REGISTRY_ERROR,
    busy_code=ErrorCode.REGISTRY_BUSY,
    full_code=ErrorCode.REGISTRY_OUT_OF_RESOURCES,
)
ITI_62 = Transaction(
    name="ITI-62",
    title="Remove Metadata",
    actor="registry",
    action="urn:ihe:iti:2010:DeleteDocumentSet",
    request="{urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0}RemoveObjectsRequest",
    mtom=False,
    default_code=ErrorCode.REGISTRY_ERROR,
    fault_code=ErrorCode.REGISTRY_ERROR,
    busy_code=ErrorCode.REGISTRY_BUSY,
    full_code=ErrorCode.REGISTRY_OUT_OF_RESOURCES,
)
ITI_86 = Transaction(
    name="ITI-86",
    title="Remove Documents",
    actor="repository",
    action="urn:ihe:iti:2017:RemoveDocuments",
    request="{urn:ihe:iti:rmd:2017}RemoveDocumentsRequest",
    mtom=False,
    default_code=ErrorCode.REMOVE_DOCUMENTS_ERROR,
    fault_code=ErrorCode.REPOSITORY_ERROR,
    busy_code=ErrorCode.REPOSITORY_BUSY,
    full_code=ErrorCode.REPOSITORY_OUT_OF_RESOURCES,
)
ITI_92 = Transaction(
    name="ITI-92",
    title="Restricted Update Document Set",
    actor="registry",
    action="urn:ihe:iti:2018:RestrictedUpdateDocumentSet",
    request="{urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0}SubmitObjectsRequest",
    mtom=False,
    default_code=ErrorCode.METADATA_UPDATE_ERROR,
    fault_code=ErrorCode.REGISTRY_ERROR,
    busy_code=ErrorCode.REGISTRY_BUSY,
    full_code=ErrorCode.REGISTRY_OUT_OF_RESOURCES,
)


def _patient_feed(interaction: str) -> Transaction:
    """ITI-44 is three interactions of HL7 v3 with one acknowledgement."""
    return Transaction(
        name="ITI-44",
        title="Patient Identity Feed HL7 V3",
        actor="registry",
        action=f"urn:hl7-org:v3:{interaction}",
        request=f"{{urn:hl7-org:v3}}{interaction}",
        mtom=False,
        default_code=ErrorCode.REGISTRY_ERROR,
        fault_code=ErrorCode.REGISTRY_ERROR,
        busy_code=ErrorCode.REGISTRY_BUSY,
        full_code=ErrorCode.REGISTRY_OUT_OF_RESOURCES,
        answered_as="urn:hl7-org:v3:MCCI_IN000002UV01",
    )


ITI_44_ADDED = _patient_feed("PRPA_IN201301UV02")
ITI_44_REVISED = _patient_feed("PRPA_IN201302UV02")
ITI_44_DUPLICATES_RESOLVED = _patient_feed("PRPA_IN201304UV02")
ITI_44 = (ITI_44_ADDED, ITI_44_REVISED, ITI_44_DUPLICATES_RESOLVED)

TRANSACTIONS: tuple[Transaction, ...] = (
    ITI_18, ITI_41, ITI_42, ITI_43, ITI_51, ITI_57, ITI_61, ITI_62, ITI_86, ITI_92, *ITI_44,
)  # fmt: skip
UPDATES = frozenset({ITI_57.name, ITI_92.name})
"""The transactions that bring new versions of what is registered."""
