"""On-demand documents in a Bundle: DocumentReferences without document, hash and size.

MHD 4.2.4, ITI TF-2: 3.65.4.1.2.1. Their entries are registered by Register On-Demand Document Entry [ITI-61] where
somebody is configured who makes them when they are retrieved (docs/adr/0010-on-demand-documents.md). The URL that their
source gave is not kept: they are retrieved here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

from mhd.fhir.exact_text import Json
from mhd.fhir.operation_outcome import IssueType
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.identifiers import unique_id_of
from mhd.mapping.reading import Reading
from mhd.submitting.transaction_bundle import BundleEntry, Part, TransactionBundle
from xds.actors import RegistryResponse
from xds.errors import ErrorCode
from xds.metadata import DocumentEntry, DocumentEntryType, Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDemand:
    """Who makes on-demand documents, and where they are registered.

    register               Register On-Demand Document Entry [ITI-61]
    is_made                whether somebody makes the documents of an entry with this uniqueId
    repository_unique_id   of the repository where they are retrieved
    """

    register: Callable[[Submission], Awaitable[RegistryResponse]]
    is_made: Callable[[str], bool]
    repository_unique_id: str

    async def registered(self, submission: Submission) -> RegistryResponse:
        """The registry's answer to a submission of on-demand entries. Raises OutcomeUnknown."""
        entries = (
            replace(each, repository_unique_id=self.repository_unique_id) for each in submission.document_entries
        )
        return await self.register(replace(submission, document_entries=tuple(entries)))


def says_on_demand(attachment: Json) -> bool:
    """Whether an attachment that is not in the Bundle is that of an on-demand document."""
    return "hash" not in attachment and "size" not in attachment and "://" in attachment.get("url", "")


def judge_on_demand(
    bundle: TransactionBundle,
    numbers: Collection[int],
    on_demand: OnDemand | None,
    systems: CodeSystems,
    reading: Reading,
) -> None:
    """What speaks against the on-demand documents of a Bundle. numbers: of their entries."""
    others = any(each.number not in numbers for each in bundle.of(Part.DOCUMENT))
    for entry in (bundle.entries[number] for number in numbers):
        path = f"{entry.resource_path}.content[0].attachment"
        if on_demand is None:
            reading.refuse(f"{path}.url", _NOT_TAKEN, IssueType.NOT_FOUND, ErrorCode.MISSING_DOCUMENT)
            continue
        unique_id = unique_id_of(entry.resource.get("masterIdentifier", {}), systems)
        if unique_id is not None and not on_demand.is_made(unique_id):
            sentence = (
                "Nobody here makes the on-demand document with this masterIdentifier; send one for which a source is "
                "configured, or send the document in the Bundle, as a Binary."
            )
            path_of_id = f"{entry.resource_path}.masterIdentifier"
            reading.refuse(path_of_id, sentence, IssueType.BUSINESS_RULE, ErrorCode.MISSING_DOCUMENT)
        if others:
            sentence = "On-demand documents are registered by themselves; send the others in a Bundle of their own."
            reading.refuse(path, sentence, IssueType.BUSINESS_RULE)


def promised(document: DocumentEntry, entry: BundleEntry, reading: Reading) -> DocumentEntry:
    """The entry of an on-demand document: nobody knows yet when it will be made (ITI TF-3: Table 4.3.1.2-1)."""
    if document.creation_time is not None:
        path = f"{entry.resource_path}.content[0].attachment.creation"
        reading.warn(path, "An on-demand document is created when it is retrieved; this time is not kept.")
    return replace(document, object_type=DocumentEntryType.ON_DEMAND, creation_time=None)


_NOT_TAKEN: Final = (
    "A DocumentReference without hash and size whose document is not in the Bundle is that of an on-demand document; "
    "those are not taken here. Send the document in the Bundle, as a Binary."
)
