"""What is found wrong while FHIR is read as XDS: all of it, each thing at its FHIRPath."""

from __future__ import annotations

from dataclasses import dataclass, field

from mhd.fhir.operation_outcome import Issue, IssueType, xds_issue
from xds.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class Reading:
    """Collects issues. Readers go on after an error, so that the sender hears of all of them."""

    issues: list[Issue] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return any(each.is_error for each in self.issues)

    def distinct(self) -> list[Issue]:
        """The issues, one of each kind at a place: a profile and the mapping may miss the same thing."""
        return list({(each.expression, each.code, each.xds_code): each for each in reversed(self.issues)}.values())[
            ::-1
        ]

    def refuse(
        self,
        path: str,
        text: str,
        issue_type: IssueType = IssueType.VALUE,
        code: str = ErrorCode.REPOSITORY_METADATA_ERROR,
        diagnostics: str = "",
    ) -> None:
        """An error at `path`."""
        self.issues.append(xds_issue(code, text, path, issue_type=issue_type, diagnostics=diagnostics))

    def warn(self, path: str, text: str) -> None:
        """Something that is not kept, or not as it was sent."""
        self.issues.append(xds_issue(ErrorCode.EXTRA_METADATA_NOT_SAVED, text, path).as_warning())
