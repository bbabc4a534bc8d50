"""Retrieve Document [ITI-68], the Document Responder's part.

ITI TF-2: 3.68 (MHD 4.2.4). The registry tells which document an entry stands for, and in which repository; that gives
the bytes. In which form they are answered is for server/fhir_documents.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from mhd.fhir.operation_outcome import Issue, IssueType, Refused, issue_of
from mhd.mapping.identifiers import entry_uuid_of, resource_id
from mhd.mapping.times import instant_of
from mhd.searching.resource_reads import gone
from xds.actors import (
    DocumentRegistry,
    DocumentRepository,
    DocumentRequest,
    ObjectCodec,
    QueryRequest,
    RetrievedDocument,
    ReturnType,
)
from xds.audit import Accessed, AccessedKind, AccessedObject
from xds.errors import ErrorCode, ResponseStatus
from xds.hl7v2 import DTM
from xds.metadata import AvailabilityStatus, DocumentEntry, DocumentEntryType, ObjectKind
from xds.paged_search import PagedRegistry
from xds.stored_queries import GET_DOCUMENTS, METADATA_LEVEL, listed


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A document and what is registered of it.

    last_updated   instant at which that was changed last; None: nobody tells, or the document is made anew each time
    """

    entry: DocumentEntry
    document: RetrievedDocument
    last_updated: str | None = None

    @property
    def accessed(self) -> Accessed:
        """What the audit trail is told."""
        document = AccessedObject(AccessedKind.DOCUMENT, resource_id(self.entry.entry_uuid))
        return Accessed.of(self.entry.patient_id, document)


async def retrieve_document(
    resource_id: str,
    *,
    registry: DocumentRegistry,
    removals: PagedRegistry,
    repository: DocumentRepository,
    codec: ObjectCodec,
    superseded_gone: bool = False,
) -> FoundDocument:
    """The document of a DocumentReference.

    removals          the same registry: it tells what was removed from it
    superseded_gone   a superseded document is not served
    Raises Refused: 404 where there is none, 410 where it was removed or is superseded, or what registry and repository
    say. Raises OutcomeUnknown.
    """
    entry, last_updated = await _entry(resource_id, registry, removals, codec)
    if superseded_gone and entry.availability_status == AvailabilityStatus.DEPRECATED:
        text = "The document is superseded and is not served any more; search for the one that replaces it."
        raise Refused(gone(text))
    if not entry.repository_unique_id or not entry.unique_id:
        raise Refused(_missing(resource_id))
    asked = DocumentRequest(entry.repository_unique_id, entry.unique_id, entry.home_community_id)
    response = await repository.retrieve([asked])
    if not response.documents:
        if _was_kept(entry) and {each.code for each in response.errors} == {ErrorCode.DOCUMENT_UNIQUE_ID_ERROR}:
            text = "The document is registered, and was removed from its repository; its metadata is all that is left."
            raise Refused(gone(text, ErrorCode.DOCUMENT_UNIQUE_ID_ERROR))
        raise Refused(*map(issue_of, response.errors)) if response.errors else Refused(_missing(resource_id))
    document = response.documents[0]
    if entry.says_delayed and document.size:
        # It was assembled just now, and the registry has its hash.
        entry, last_updated = await _entry(resource_id, registry, removals, codec)
    is_made_anew = document.new_document_unique_id is not None
    return FoundDocument(entry, document, None if is_made_anew else last_updated)


def _was_kept(entry: DocumentEntry) -> bool:
    """Whether its document was in a repository when it was registered: an on-demand or delayed one was not."""
    return entry.object_type != DocumentEntryType.ON_DEMAND and not entry.says_delayed


async def _entry(
    resource_id: str, registry: DocumentRegistry, removals: PagedRegistry, codec: ObjectCodec
) -> tuple[DocumentEntry, str | None]:
    """What is registered, and the instant at which that was changed last, where the registry tells."""
    uuid = entry_uuid_of(resource_id)
    if uuid is None:
        raise Refused(_missing(resource_id))
    by_entry_uuid = ("$XDSDocumentEntryEntryUUID", listed([uuid]))
    for found in await _entries(registry, codec, by_entry_uuid):
        return found
    # At level 1 no version is found that has a successor; the URL of its document leads to the same document still.
    for found in await _entries(registry, codec, by_entry_uuid, (METADATA_LEVEL, ("2",))):
        by_logical_id = ("$XDSDocumentEntryLogicalID", listed([found[0].logical_id or uuid]))
        return next(iter(await _entries(registry, codec, by_logical_id)), found)
    if await removals.removed(uuid) is ObjectKind.DOCUMENT_ENTRY:
        raise Refused(gone(f"The document {resource_id!r} was removed.", ErrorCode.DOCUMENT_UNIQUE_ID_ERROR))
    raise Refused(_missing(resource_id))


async def _entries(
    registry: DocumentRegistry, codec: ObjectCodec, *parameters: tuple[str, tuple[str, ...]]
) -> list[tuple[DocumentEntry, str | None]]:
    response = await registry.stored_query(QueryRequest(GET_DOCUMENTS, ReturnType.LEAF_CLASS, parameters))
    if response.status is not ResponseStatus.SUCCESS:
        raise Refused(*map(issue_of, response.errors))
    return [
        (item, instant_of(DTM(found.last_updated)) if found.last_updated else None)
        for found in response.found
        if found.ebrim is not None and isinstance(item := codec.read(found.ebrim), DocumentEntry)
    ]


def _missing(resource_id: str) -> Issue:
    return Issue(
        IssueType.NOT_FOUND,
        f"There is no document {resource_id[:64]!r} here; take its URL from DocumentReference.content.attachment.url.",
        xds_code=ErrorCode.DOCUMENT_UNIQUE_ID_ERROR,
        http=404,
    )
