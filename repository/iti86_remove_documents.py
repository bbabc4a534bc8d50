"""Remove Documents [ITI-86].

ITI TF-2: 3.86. All documents that are named go, or none. Their metadata is removed by ITI-62; a document whose metadata
is still registered can not be retrieved any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from repository.document_store import DocumentStore, Kept
from repository.settling import IsRegistered, registered_document
from xds.actors import DocumentRequest, OutcomeUnknown, RegistryResponse
from xds.errors import ErrorCode, RegistryError, XdsError
from xds.metadata_names import shown


async def remove_documents(
    requests: Sequence[DocumentRequest],
    *,
    documents: DocumentStore,
    is_registered: IsRegistered,
    repository_unique_id: str,
) -> RegistryResponse:
    """Remove all of these documents, or none of them.

    Raises XdsError with all errors that were found: XDSUnknownRepositoryId, XDSDocumentUniqueIdError,
    XDSRegistryNotAvailable, XDSRemoveDocumentsError; StoreBusy.
    """
    if not requests:
        sentence = "The request names no document; send a DocumentRequest for each."
        raise XdsError(ErrorCode.REMOVE_DOCUMENTS_ERROR, sentence)
    errors: list[RegistryError] = []
    found: list[Kept] = []
    for number, request in enumerate(requests, start=1):
        try:
            kept = await _found(request, f"DocumentRequest[{number}]", documents, is_registered, repository_unique_id)
        except XdsError as refusal:
            errors += refusal.errors
        else:
            found.append(kept)
    if errors:
        raise XdsError.of(errors)
    for kept in found:
        # Copies that nobody was served yet would take its place.
        for copy in await documents.unsettled(kept.unique_id):
            if copy.measured == kept.measured:
                await documents.remove(copy)
        await documents.remove(kept)
    return RegistryResponse.of()


async def _found(
    request: DocumentRequest,
    place: str,
    documents: DocumentStore,
    is_registered: IsRegistered,
    repository_unique_id: str,
) -> Kept:
    unique_id = request.document_unique_id
    for name, value in (("RepositoryUniqueId", request.repository_unique_id), ("DocumentUniqueId", unique_id)):
        if not value.strip():
            sentence = f"{place} has no {name}; send that of the DocumentEntry."
            raise XdsError(ErrorCode.REMOVE_DOCUMENTS_ERROR, sentence, f"{place}/{name}")
    if request.repository_unique_id != repository_unique_id:
        raise XdsError(
            ErrorCode.UNKNOWN_REPOSITORY_ID,
            f"The document {shown(unique_id)} is to be removed from the repository "
            f"{shown(request.repository_unique_id)}, which is not this one; send the request to that repository.",
            f"{place}/RepositoryUniqueId",
        )
    try:
        kept = await registered_document(unique_id, documents=documents, is_registered=is_registered)
    except OutcomeUnknown as problem:
        raise XdsError(
            ErrorCode.REGISTRY_NOT_AVAILABLE,
            f"Whether the document {shown(unique_id)} is registered is not known: the Document Registry did not "
            "answer. Ask again later.",
            place,
        ) from problem
    if kept is None:
        raise XdsError(
            ErrorCode.DOCUMENT_UNIQUE_ID_ERROR,
            f"The document {shown(unique_id)} is not in this repository; send the uniqueId of one that is.",
            f"{place}/DocumentUniqueId",
        )
    return kept
