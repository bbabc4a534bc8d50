"""What can go wrong, in the standard's words.

ITI TF-3: 4.2.4.1 lists the error codes (Table 4.2.4.1-2) and says how a RegistryError carries them.
A rule that finds something wrong makes a `Finding`; the transaction turns findings into `RegistryError`s, because
the same broken rule has another default code in ITI-41 than in ITI-42 (`default_code` in xds/transactions.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class ErrorCode(StrEnum):
    """Error codes of ITI TF-3 Table 4.2.4.1-2; the value is what goes on the wire."""

    MISSING_DOCUMENT = "XDSMissingDocument"
    MISSING_DOCUMENT_METADATA = "XDSMissingDocumentMetadata"
    REGISTRY_NOT_AVAILABLE = "XDSRegistryNotAvailable"
    REGISTRY_ERROR = "XDSRegistryError"
    REPOSITORY_ERROR = "XDSRepositoryError"
    REGISTRY_DUPLICATE_UNIQUE_ID_IN_MESSAGE = "XDSRegistryDuplicateUniqueIdInMessage"
    REPOSITORY_DUPLICATE_UNIQUE_ID_IN_MESSAGE = "XDSRepositoryDuplicateUniqueIdInMessage"
    DUPLICATE_UNIQUE_ID_IN_REGISTRY = "XDSDuplicateUniqueIdInRegistry"
    NON_IDENTICAL_HASH = "XDSNonIdenticalHash"
    NON_IDENTICAL_SIZE = "XDSNonIdenticalSize"
    REGISTRY_BUSY = "XDSRegistryBusy"
    REPOSITORY_BUSY = "XDSRepositoryBusy"
    REGISTRY_OUT_OF_RESOURCES = "XDSRegistryOutOfResources"
    REPOSITORY_OUT_OF_RESOURCES = "XDSRepositoryOutOfResources"
    REGISTRY_METADATA_ERROR = "XDSRegistryMetadataError"
    REPOSITORY_METADATA_ERROR = "XDSRepositoryMetadataError"
    TOO_MANY_RESULTS = "XDSTooManyResults"
    EXTRA_METADATA_NOT_SAVED = "XDSExtraMetadataNotSaved"
    UNKNOWN_PATIENT_ID = "XDSUnknownPatientId"
    PATIENT_ID_DOES_NOT_MATCH = "XDSPatientIdDoesNotMatch"
    UNKNOWN_STORED_QUERY = "XDSUnknownStoredQuery"
    STORED_QUERY_MISSING_PARAM = "XDSStoredQueryMissingParam"
    STORED_QUERY_PARAM_NUMBER = "XDSStoredQueryParamNumber"
    REGISTRY_DEPRECATED_DOCUMENT_ERROR = "XDSRegistryDeprecatedDocumentError"
    UNKNOWN_REPOSITORY_ID = "XDSUnknownRepositoryId"
    DOCUMENT_UNIQUE_ID_ERROR = "XDSDocumentUniqueIdError"
    RESULT_NOT_SINGLE_PATIENT = "XDSResultNotSinglePatient"
    UNRESOLVED_REFERENCE = "UnresolvedReferenceException"
    METADATA_UPDATE_ERROR = "XDSMetadataUpdateError"
    METADATA_UPDATE_OPERATION_ERROR = "XDSMetadataUpdateOperationError"
    METADATA_VERSION_ERROR = "XDSMetadataVersionError"
    METADATA_IDENTIFIER_ERROR = "XDSMetadataIdentifierError"
    METADATA_ANNOTATION_ERROR = "XDSMetadataAnnotationError"
    PATIENT_ID_RECONCILIATION_ERROR = "XDSPatientIDReconciliationError"
    UNMODIFIABLE_METADATA_ERROR = "UnmodifiableMetadataError"
    INVALID_REQUEST = "XDSInvalidRequestException"
    OBJECT_TYPE_ERROR = "XDSObjectTypeError"
    REFERENCES_EXIST = "ReferencesExistException"
    UNREFERENCED_OBJECT = "XDSUnreferencedObjectException"
    METADATA_MODEL = "XDSMetadataModelException"
    REMOVE_DOCUMENTS_ERROR = "XDSRemoveDocumentsError"


MOST_REPORTED = 1000
"""Errors in one response. Nobody reads more, and a hostile message would make millions."""


class Severity(StrEnum):
    """ebRS 3.0 ErrorSeverityType, as sent."""

    ERROR = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error"
    WARNING = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Warning"


class ResponseStatus(StrEnum):
    """Status of a response (ITI TF-3: 4.2.4.2), as sent."""

    SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
    FAILURE = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
    PARTIAL_SUCCESS = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"


@dataclass(frozen=True, slots=True)
class RegistryError:
    """One error or warning of a response.

    code_context   a sentence that tells the sender what to change
    location       the object and attribute, or "" where the sentence says it all
    for_now        the same request may be answered later, though the code does not say so. ebRS has no place for it: it
                   is told in this process alone
    above_limit    the request is more than is taken here at once, or ever, where the code may mean what passes; told in
                   this process alone
    """

    code: ErrorCode | str  # a foreign registry may send codes that we do not know
    code_context: str
    location: str = ""
    severity: Severity = Severity.ERROR
    for_now: bool = False
    above_limit: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong in metadata, before a transaction gave it a code.

    code   None: the default code of the transaction that reports it
    """

    code_context: str
    location: str = ""
    code: ErrorCode | None = None
    severity: Severity = Severity.ERROR

    def reported(self, default: ErrorCode) -> RegistryError:
        """This finding, as the transaction whose default code is `default` reports it."""
        return RegistryError(self.code or default, self.code_context, self.location, self.severity)


class XdsError(Exception):
    """A transaction is refused. `errors` is all that was found, never only the first."""

    def __init__(self, code: ErrorCode, code_context: str, location: str = "", *, for_now: bool = False) -> None:
        super().__init__(f"{code}: {code_context}")
        self.errors: tuple[RegistryError, ...] = (RegistryError(code, code_context, location, for_now=for_now),)

    @classmethod
    def of(cls, errors: Iterable[RegistryError]) -> XdsError:
        """One refusal for several errors; of more than a thousand, the first thousand and how many there are.

        Raises ValueError where there are none: nothing is refused without a reason.
        """
        found = tuple(errors)
        if not found:
            raise ValueError("a refusal needs at least one error")
        refusal = cls(ErrorCode.REGISTRY_ERROR, found[0].code_context)
        refusal.args = ("; ".join(f"{error.code}: {error.code_context}" for error in found[:MOST_REPORTED]),)
        if len(found) > MOST_REPORTED:
            more = f"{len(found)} errors were found; these are the first {MOST_REPORTED}."
            found = (*found[:MOST_REPORTED], RegistryError(ErrorCode(found[0].code), more))
        refusal.errors = found
        return refusal
