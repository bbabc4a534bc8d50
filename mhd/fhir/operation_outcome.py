"""What went wrong, in FHIR's words: OperationOutcome, and what becomes of XDS error codes.

MHD leaves the HTTP status and the issue types open; the tables here are ours. The XDS code stands in
`details.coding.code` without a system, because there is no official one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from xds.audit import NOTHING_ACCESSED, Accessed
from xds.errors import MOST_REPORTED, ErrorCode, RegistryError, Severity


class IssueSeverity(StrEnum):
    """OperationOutcome.issue.severity."""

    FATAL = "fatal"
    ERROR = "error"
    WARNING = "warning"
    INFORMATION = "information"


class IssueType(StrEnum):
    """OperationOutcome.issue.code: the issue types of FHIR R4 that are used here."""

    STRUCTURE = "structure"
    REQUIRED = "required"
    VALUE = "value"
    INVARIANT = "invariant"
    INVALID = "invalid"
    LOGIN = "login"
    EXPIRED = "expired"
    FORBIDDEN = "forbidden"
    PROCESSING = "processing"
    NOT_SUPPORTED = "not-supported"
    DUPLICATE = "duplicate"
    MULTIPLE_MATCHES = "multiple-matches"
    NOT_FOUND = "not-found"
    DELETED = "deleted"
    TOO_LONG = "too-long"
    CODE_INVALID = "code-invalid"
    EXTENSION = "extension"
    TOO_COSTLY = "too-costly"
    BUSINESS_RULE = "business-rule"
    CONFLICT = "conflict"
    TRANSIENT = "transient"
    THROTTLED = "throttled"
    EXCEPTION = "exception"
    INFORMATIONAL = "informational"


class MhdCode(StrEnum):
    """Error codes that MHD itself defines (ITI TF-2: 3.65.4.1.3)."""

    FHIR_DOCUMENT_NOT_SUPPORTED = "FHIRDocumentNotSupported"
    UNKNOWN_RECIPIENT = "UnknownRecipient"
    UNAVAILABLE_RECIPIENT = "UnavailableRecipient"


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that is wrong, or worth a warning.

    text         a sentence that tells the sender what to change
    expression   FHIRPath of the place, from the resource that was sent; "" where there is none
    xds_code     an ErrorCode, MhdCode or the code of a foreign registry
    diagnostics  detail for whoever looks into it; never more of the patient than the sender sent. "": the sentence
                 again, because many clients (HAPI FHIR's, for one) show their users nothing else of an OperationOutcome
    http         status of an answer that says only this
    """

    code: IssueType
    text: str
    expression: str = ""
    xds_code: str | None = None
    diagnostics: str = ""
    severity: IssueSeverity = IssueSeverity.ERROR
    http: int = 400

    @property
    def is_error(self) -> bool:
        return self.severity in (IssueSeverity.ERROR, IssueSeverity.FATAL)

    def at(self, path: str) -> Issue:
        """The same, of a resource that stands at `path` of another."""
        own = self.expression
        inner = own[own.find(".") + 1 :] if "." in own else ""
        return replace(self, expression=f"{path}.{inner}" if inner else path)

    def as_warning(self) -> Issue:
        return replace(self, severity=IssueSeverity.WARNING)

    def element(self) -> dict[str, Any]:
        """Its OperationOutcome.issue."""
        details: dict[str, Any] = {"coding": [{"code": self.xds_code}]} if self.xds_code else {}
        found: dict[str, Any] = {
            "severity": self.severity.value,
            "code": self.code.value,
            "details": details | {"text": _carried(self.text)},
            "diagnostics": _carried(self.diagnostics or self.text),
        }
        if self.expression:
            found["expression"] = [_carried(self.expression)]
        return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that is to be said about a request."""

    issues: tuple[Issue, ...]

    @property
    def http_status(self) -> int:
        """That of the gravest error; 200 where there are only warnings."""
        statuses = {each.http for each in self.issues if each.is_error}
        return next((each for each in _GRAVITY if each in statuses), max(statuses, default=200))

    @property
    def is_for_now(self) -> bool:
        """Whether it says nothing of the request, but that it could not be answered at this moment."""
        return self.http_status == HTTPStatus.SERVICE_UNAVAILABLE

    def resource(self) -> dict[str, Any]:
        """The OperationOutcome; of more than a thousand issues, the first thousand."""
        return {"resourceType": "OperationOutcome", "issue": [each.element() for each in self.issues[:MOST_REPORTED]]}


_GRAVITY: Final = (500, 503, 401, 403, 413, 415, 406, 404, 410, 400, 422, 412, 409)
"""409 last: a message with other errors has to be changed, not only given new ids."""


class Refused(Exception):
    """A FHIR request is refused. `outcome` is all that was found, never only the first.

    accessed   what the audit trail is told
    """

    def __init__(self, *issues: Issue, accessed: Accessed = NOTHING_ACCESSED) -> None:
        if not issues:
            raise ValueError("a refusal needs at least one issue")
        super().__init__("; ".join(f"{each.xds_code or each.code}: {each.text}" for each in issues[:MOST_REPORTED]))
        self.outcome = Outcome(issues)
        self.accessed = accessed


@dataclass(frozen=True, slots=True)
class _Answer:
    http: int
    code: IssueType


_ANSWERS: Final[Mapping[str, _Answer]] = MappingProxyType(
    {
        ErrorCode.MISSING_DOCUMENT: _Answer(422, IssueType.NOT_FOUND),
        ErrorCode.MISSING_DOCUMENT_METADATA: _Answer(422, IssueType.BUSINESS_RULE),
        ErrorCode.REGISTRY_METADATA_ERROR: _Answer(422, IssueType.VALUE),
        ErrorCode.REPOSITORY_METADATA_ERROR: _Answer(422, IssueType.VALUE),
        ErrorCode.UNKNOWN_PATIENT_ID: _Answer(422, IssueType.NOT_FOUND),
        ErrorCode.PATIENT_ID_DOES_NOT_MATCH: _Answer(422, IssueType.BUSINESS_RULE),
        ErrorCode.REGISTRY_DUPLICATE_UNIQUE_ID_IN_MESSAGE: _Answer(422, IssueType.DUPLICATE),
        ErrorCode.REPOSITORY_DUPLICATE_UNIQUE_ID_IN_MESSAGE: _Answer(422, IssueType.DUPLICATE),
        ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY: _Answer(409, IssueType.DUPLICATE),
        ErrorCode.NON_IDENTICAL_HASH: _Answer(409, IssueType.CONFLICT),
        ErrorCode.NON_IDENTICAL_SIZE: _Answer(409, IssueType.CONFLICT),
        ErrorCode.UNRESOLVED_REFERENCE: _Answer(422, IssueType.NOT_FOUND),
        ErrorCode.REGISTRY_DEPRECATED_DOCUMENT_ERROR: _Answer(422, IssueType.BUSINESS_RULE),
        MhdCode.FHIR_DOCUMENT_NOT_SUPPORTED: _Answer(422, IssueType.NOT_SUPPORTED),
        MhdCode.UNKNOWN_RECIPIENT: _Answer(422, IssueType.NOT_FOUND),
        MhdCode.UNAVAILABLE_RECIPIENT: _Answer(422, IssueType.TRANSIENT),
        "XDSUnknownCommunity": _Answer(422, IssueType.NOT_FOUND),
        "XDSUnavailableCommunity": _Answer(503, IssueType.TRANSIENT),
        ErrorCode.STORED_QUERY_MISSING_PARAM: _Answer(400, IssueType.REQUIRED),
        ErrorCode.STORED_QUERY_PARAM_NUMBER: _Answer(400, IssueType.INVALID),
        ErrorCode.UNKNOWN_STORED_QUERY: _Answer(400, IssueType.NOT_SUPPORTED),
        ErrorCode.RESULT_NOT_SINGLE_PATIENT: _Answer(400, IssueType.BUSINESS_RULE),
        ErrorCode.TOO_MANY_RESULTS: _Answer(400, IssueType.TOO_COSTLY),
        ErrorCode.UNKNOWN_REPOSITORY_ID: _Answer(404, IssueType.NOT_FOUND),
        ErrorCode.DOCUMENT_UNIQUE_ID_ERROR: _Answer(404, IssueType.NOT_FOUND),
        ErrorCode.REGISTRY_BUSY: _Answer(503, IssueType.TRANSIENT),
        ErrorCode.REPOSITORY_BUSY: _Answer(503, IssueType.TRANSIENT),
        ErrorCode.REGISTRY_OUT_OF_RESOURCES: _Answer(503, IssueType.THROTTLED),
        ErrorCode.REPOSITORY_OUT_OF_RESOURCES: _Answer(503, IssueType.THROTTLED),
        ErrorCode.REGISTRY_NOT_AVAILABLE: _Answer(503, IssueType.TRANSIENT),
        ErrorCode.EXTRA_METADATA_NOT_SAVED: _Answer(422, IssueType.BUSINESS_RULE),
        ErrorCode.REGISTRY_ERROR: _Answer(500, IssueType.EXCEPTION),
        ErrorCode.REPOSITORY_ERROR: _Answer(500, IssueType.EXCEPTION),
    }
)
_OF_FOREIGN_CODES: Final = _Answer(422, IssueType.PROCESSING)


def xds_issue(
    code: str, text: str, expression: str = "", *, issue_type: IssueType | None = None, diagnostics: str = ""
) -> Issue:
    """An error with an XDS code: its status and, where `issue_type` is None, its issue type are those of the table."""
    answer = _ANSWERS.get(code, _OF_FOREIGN_CODES)
    return Issue(issue_type or answer.code, text, expression, str(code), diagnostics, http=answer.http)


def issue_of(error: RegistryError, expression: str = "", issue_type: IssueType | None = None) -> Issue:
    """What a registry or repository said, as an issue.

    expression   FHIRPath of what it speaks about; without one its location goes to the diagnostics
    """
    found = xds_issue(
        error.code,
        error.code_context,
        expression,
        issue_type=issue_type,
        diagnostics="" if expression else error.location,
    )
    if error.severity is Severity.WARNING:
        return found.as_warning()
    if error.above_limit:
        return replace(found, code=IssueType.TOO_COSTLY, http=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return replace(found, code=IssueType.TRANSIENT, http=HTTPStatus.SERVICE_UNAVAILABLE) if error.for_now else found


def outcome_of(errors: Sequence[RegistryError]) -> Outcome:
    """What a registry or repository said to a request that has no places of its own to point at."""
    return Outcome(tuple(issue_of(each) for each in errors))


_SURROGATES_AND_CONTROLS: Final = {
    **{each: "\ufffd" for each in range(0x20) if chr(each) not in "\t\n\r"},
    **dict.fromkeys((*range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\ufffd"),
}


def _carried(text: str) -> str:
    """Text that JSON and XML can both carry: what was sent is told again, and may be anything."""
    return text.translate(_SURROGATES_AND_CONTROLS) or "-"
