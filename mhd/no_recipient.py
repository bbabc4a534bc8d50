"""A Document Recipient that takes nothing."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from mhd.messages import FhirAnswer, FhirRequest
from mhd.operation_outcome import Issue, IssueType, Refused

_NOTHING: Final = Issue(
    IssueType.NOT_SUPPORTED, "This server takes no documents by FHIR; send them by ITI-41, as SOAP.", http=405
)


class NoRecipient:
    """Refuses whatever is submitted."""

    async def provide_document_bundle(self, _resource: Any, _request: FhirRequest) -> FhirAnswer:
        """Raises Refused."""
        _refuse()

    async def simplified_publish(self, _resource: Any, _request: FhirRequest) -> FhirAnswer:
        """Raises Refused."""
        _refuse()

    async def generate_metadata(self, _resource: Any, _request: FhirRequest) -> FhirAnswer:
        """Raises Refused."""
        _refuse()


def _refuse() -> NoReturn:
    raise Refused(_NOTHING)
