"""What the documents of a submission must be, beside its metadata: the rules that only a repository can judge.

ITI TF-2: 3.41.4.1.3 (expected actions of the Document Repository). All broken rules are told, not only the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from repository.document_store import Kept, Measured
from xds.actors import Provided
from xds.errors import ErrorCode, RegistryError
from xds.metadata import DocumentEntry, Submission
from xds.metadata_names import canonical_id, location, named, shown


@dataclass(frozen=True, slots=True)
class Received:
    """What arrived beside the envelope, by Content-ID.

    measured    what was staged
    too_large   what had more octets than the limit allows
    repeated    a Content-ID that came again; only the first attachment of that name was staged
    """

    measured: Mapping[str, Measured]
    too_large: frozenset[str] = frozenset()
    repeated: tuple[str, ...] = ()

    @property
    def content_ids(self) -> frozenset[str]:
        return self.too_large | self.measured.keys()


def attachments_of_entries(provided: Provided) -> dict[str, str]:
    """Content-IDs by entryUUID as sent. Of several Documents of one entry the first counts."""
    content_ids: dict[str, str] = {}
    for document_id, content_id in provided.documents:
        content_ids.setdefault(canonical_id(document_id), content_id)
    entry_uuids = (entry.entry_uuid for entry in provided.submission.document_entries)
    return {each: content_ids[canonical_id(each)] for each in entry_uuids if canonical_id(each) in content_ids}


def document_errors(
    provided: Provided,
    received: Received,
    settled: Mapping[str, Kept],
    *,
    repository_unique_id: str,
    size_limit: int | None,
) -> list[RegistryError]:
    """All that is wrong with the documents of a submission.

    settled   what this repository holds already of the submission's uniqueIds
    """
    errors = [*_document_errors(provided, received, size_limit), *_attachment_errors(provided, received)]
    attachments = attachments_of_entries(provided)
    for entry in provided.submission.document_entries:
        if entry.entry_uuid not in attachments and entry.entry_uuid not in provided.delayed:
            errors.append(_missing_document(entry))
        errors.extend(_misplaced(entry, repository_unique_id))
        measured = received.measured.get(attachments.get(entry.entry_uuid, ""))
        if measured is not None:
            errors.extend(_contradictions(entry, measured, settled.get(entry.unique_id or "")))
    return errors


def completed(submission: Submission, measured: Mapping[str, Measured], repository_unique_id: str) -> Submission:
    """The submission with what only the repository knows of its documents, given by entryUUID."""
    here = (replace(entry, repository_unique_id=repository_unique_id) for entry in submission.document_entries)
    entries = (
        replace(entry, hash=known.hash, size=str(known.size)) if (known := measured.get(entry.entry_uuid)) else entry
        for entry in here
    )
    return replace(submission, document_entries=tuple(entries))


def _missing_document(entry: DocumentEntry) -> RegistryError:
    return RegistryError(
        ErrorCode.MISSING_DOCUMENT,
        f"{named(entry)} has no document in the message; send a Document with this id.",
        entry.entry_uuid,
    )


def _document_errors(provided: Provided, received: Received, size_limit: int | None) -> Iterator[RegistryError]:
    """About each Document element: its entry, and its attachment."""
    entries = {canonical_id(entry.entry_uuid) for entry in provided.submission.document_entries}
    seen: set[str] = set()
    for document_id, content_id in provided.documents:
        if canonical_id(document_id) not in entries:
            yield RegistryError(
                ErrorCode.MISSING_DOCUMENT_METADATA,
                f"Document {shown(document_id)} is described by no DocumentEntry of the message; "
                "send the DocumentEntry with this id, or leave the Document out.",
                document_id,
            )
        elif canonical_id(document_id) in seen:
            yield RegistryError(
                ErrorCode.REPOSITORY_METADATA_ERROR,
                f"DocumentEntry {document_id} has more than one Document in the message; send one.",
                document_id,
            )
        seen.add(canonical_id(document_id))
        if content_id in received.too_large:
            yield RegistryError(
                ErrorCode.REPOSITORY_OUT_OF_RESOURCES,
                f"Document {shown(document_id)} has more than {size_limit} octets, the most that is taken here.",
                document_id,
                above_limit=True,
            )
        elif content_id not in received.measured:
            yield RegistryError(
                ErrorCode.MISSING_DOCUMENT,
                f"Document {shown(document_id)} refers to the attachment {shown(content_id)}, which is not in the "
                "message; send the attachment with this Content-ID.",
                document_id,
            )


def _attachment_errors(provided: Provided, received: Received) -> Iterator[RegistryError]:
    """About each attachment: that it is one document, and of one entry."""
    references = Counter(content_id for _, content_id in provided.documents)
    for content_id in sorted(received.content_ids):
        if not references[content_id]:
            yield RegistryError(
                ErrorCode.MISSING_DOCUMENT_METADATA,
                f"No Document refers to the attachment {shown(content_id)}; "
                "send a Document with an xop:Include of it, and its DocumentEntry, or leave the attachment out.",
            )
        if references[content_id] > 1:
            yield RegistryError(
                ErrorCode.REPOSITORY_METADATA_ERROR,
                f"{references[content_id]} Documents refer to the attachment {shown(content_id)}; "
                "send one attachment for each.",
            )
    for content_id in sorted(set(received.repeated)):
        yield RegistryError(
            ErrorCode.REPOSITORY_METADATA_ERROR,
            f"More than one attachment has the Content-ID {shown(content_id)}; send another one for each.",
        )


def _misplaced(entry: DocumentEntry, repository_unique_id: str) -> Iterator[RegistryError]:
    if entry.repository_unique_id is not None and entry.repository_unique_id != repository_unique_id:
        yield RegistryError(
            ErrorCode.REPOSITORY_METADATA_ERROR,
            f"repositoryUniqueId of {named(entry)} is {shown(entry.repository_unique_id)}, but this repository is "
            f"{repository_unique_id}; send this one, or none.",
            location(entry, "repository_unique_id"),
        )


def _contradictions(entry: DocumentEntry, measured: Measured, settled: Kept | None) -> Iterator[RegistryError]:
    """About an entry and the bytes that came for it."""
    if entry.hash is not None and entry.hash.lower() != measured.hash:
        yield RegistryError(
            ErrorCode.REPOSITORY_METADATA_ERROR,
            f"hash of {named(entry)} is {shown(entry.hash)} ({len(entry.hash)} characters), but the SHA-1 of the "
            f"{measured.size} octets received is {measured.hash} ({len(measured.hash)} characters); send this one, "
            "or none.",
            location(entry, "hash"),
        )
    # Compared as text: digits may be more than an int takes.
    if entry.size is not None and (entry.size.lstrip("0") or "0") != str(measured.size):
        yield RegistryError(
            ErrorCode.REPOSITORY_METADATA_ERROR,
            f"size of {named(entry)} is {shown(entry.size)}, but {measured.size} octets were received; send this "
            "number, or none.",
            location(entry, "size"),
        )
    if settled is not None and settled.measured != measured:
        yield RegistryError(
            ErrorCode.NON_IDENTICAL_HASH,
            f"uniqueId {shown(entry.unique_id or '')} of {named(entry)} is that of another document, which has "
            f"{settled.measured.size} octets and the hash {settled.measured.hash}; the document received has "
            f"{measured.size} octets and the hash {measured.hash}. Send it with a uniqueId of its own.",
            location(entry, "unique_id"),
        )
