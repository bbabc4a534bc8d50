"""Provide and Register Document Set-b [ITI-41], the repository's part.

ITI TF-2: 3.41. The repository keeps the bytes, completes the metadata with what only it can know (hash, size,
repositoryUniqueId) and passes the metadata on as Register Document Set-b [ITI-42]. What is on the disk at which
moment, and why in this order: docs/adr/0003-a-document-is-kept-before-it-is-listed.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from repository.document_rules import Received, attachments_of_entries, completed, document_errors
from repository.document_store import (
    DocumentStore,
    DocumentTooLarge,
    Kept,
    Measured,
    Staging,
    StoreBusy,
    StoreFull,
)
from repository.settling import settled, withdrawn
from repository.uninterrupted import uninterrupted
from xds.actors import DocumentRegistry, OutcomeUnknown, ProvideAndRegisterRequest, RegistryResponse
from xds.errors import ErrorCode, RegistryError, ResponseStatus, Severity, XdsError
from xds.metadata import DocumentEntry, Submission
from xds.metadata_names import shown
from xds.metadata_rules import STRICT, Tolerance, findings
from xds.transactions import ITI_41

logger = logging.getLogger(__name__)


async def provide_and_register(
    request: ProvideAndRegisterRequest,
    *,
    documents: DocumentStore,
    registry: DocumentRegistry,
    repository_unique_id: str,
    size_limit: int | None = None,
    documents_limit: int | None = None,
    tolerance: Tolerance = STRICT,
) -> RegistryResponse:
    """Keep the documents of a submission and have its metadata registered.

    size_limit         octets of one document
    documents_limit    documents of one submission
    tolerance          what is taken although the standard would not
    Raises XdsError with all that is wrong; StoreBusy, StoreFull; what `request` raises passes through.
    """
    async with documents.staging(size_limit=size_limit) as staging:
        received = await _staged(request, staging, documents_limit)
        provided = request.provided()
        submission = provided.submission
        attachments = attachments_of_entries(provided)

        broken = findings(submission, ITI_41, tolerance)
        found = [finding.reported(ITI_41.default_code) for finding in broken]
        found += document_errors(
            provided,
            received,
            await _settled_already(submission.document_entries, documents),
            repository_unique_id=repository_unique_id,
            size_limit=size_limit,
        )
        if any(each.severity is Severity.ERROR for each in found):
            raise XdsError.of(found)

        measured = {uuid: received.measured[content_id] for uuid, content_id in attachments.items()}
        response = await uninterrupted(
            _kept_and_registered(
                completed(submission, measured, repository_unique_id),
                attachments,
                staging=staging,
                documents=documents,
                registry=registry,
            )
        )
        return _with_warnings(found, response)


async def _staged(request: ProvideAndRegisterRequest, staging: Staging, documents_limit: int | None) -> Received:
    """Write the documents as they come. All of the message is read, so that its sender hears what is wrong with it."""
    measured: dict[str, Measured] = {}
    too_large: set[str] = set()
    repeated: list[str] = []
    number = 0
    unable: StoreBusy | StoreFull | None = None
    async for attachment in request.attachments():
        number += 1
        if attachment.content_id in measured or attachment.content_id in too_large:
            repeated.append(attachment.content_id)
        elif unable is None and (documents_limit is None or number <= documents_limit):
            try:
                measured[attachment.content_id] = await staging.add(attachment.content_id, attachment.content)
            except DocumentTooLarge:
                too_large.add(attachment.content_id)
            except (StoreBusy, StoreFull) as problem:
                unable = problem
        async for _ in attachment.content:
            pass
    if unable is not None:
        raise unable
    if documents_limit is not None and number > documents_limit:
        most = f"at most {documents_limit} are taken at once"
        sentence = f"The message has {number} documents; {most}. Send several messages."
        raise XdsError.of([RegistryError(ErrorCode.REPOSITORY_OUT_OF_RESOURCES, sentence, above_limit=True)])
    return Received(measured, frozenset(too_large), tuple(repeated))


async def _settled_already(entries: Sequence[DocumentEntry], documents: DocumentStore) -> Mapping[str, Kept]:
    """What the repository holds of these entries' uniqueIds."""
    unique_ids = {entry.unique_id for entry in entries if entry.unique_id}
    held = await asyncio.gather(*(documents.find(unique_id) for unique_id in unique_ids))
    return {kept.unique_id: kept for kept in held if kept is not None}


async def _kept_and_registered(
    submission: Submission,
    attachments: Mapping[str, str],
    *,
    staging: Staging,
    documents: DocumentStore,
    registry: DocumentRegistry,
) -> RegistryResponse:
    """Publish the documents, register the metadata, and do with the documents what the registry says."""
    # Publish first: an unlisted document does no harm, a listed one that is missing does.
    published = await staging.publish(
        {
            attachments[entry.entry_uuid]: (entry.unique_id or "", entry.mime_type or "")
            for entry in submission.document_entries
            if entry.entry_uuid in attachments
        }
    )
    # Whatever is raised from here on leaves the outcome open: the documents stay until the registry was asked.
    try:
        response = await registry.register_document_set(submission)
    except OutcomeUnknown as problem:
        logger.warning(
            "the registry did not answer; documents stay unsettled",
            extra={"submission_set": submission.submission_set.entry_uuid, "problem": str(problem)},
        )
        return RegistryResponse.of([_outcome_unknown(submission)])
    if response.status is ResponseStatus.FAILURE:
        await asyncio.gather(*(withdrawn(kept, documents) for kept in published))
    elif response.succeeded:
        unsettled = await asyncio.gather(*(settled(kept, documents) for kept in published))
        if errors := [error for error in unsettled if error is not None]:
            return RegistryResponse.of([*response.errors, *errors])
    return response


def _outcome_unknown(submission: Submission) -> RegistryError:
    unique_id = shown(submission.submission_set.unique_id or "")
    return RegistryError(
        ErrorCode.REGISTRY_NOT_AVAILABLE,
        "The Document Registry did not answer: the submission may be registered or not, and its documents are kept. "
        f"Ask the registry for the SubmissionSet with the uniqueId {unique_id}. If it is there, nothing is left to do, "
        "and sending it again would be refused as a duplicate; if it is not, send the submission again.",
    )


def _with_warnings(found: Sequence[RegistryError], response: RegistryResponse) -> RegistryResponse:
    """The registry's answer, and before it the warnings that it did not give itself, with a code of its own."""
    given = {error.code_context for error in response.errors}
    own = tuple(warning for warning in found if warning.code_context not in given)
    return replace(response, errors=(*own, *response.errors)) if own else response
