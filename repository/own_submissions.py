"""What a repository submits to the registry by itself, of documents that were made here."""

from __future__ import annotations

from xds.hl7v2 import DTM
from xds.metadata import Code, DocumentEntry, SubmissionSet


def own_submission_set(
    entry: DocumentEntry,
    *,
    entry_uuid: str,
    unique_id: str,
    content_type: Code | None,
    source_id: str,
    now: DTM,
) -> SubmissionSet:
    """The SubmissionSet of what was made of an entry. content_type: None for the classCode of the entry."""
    return SubmissionSet(
        entry_uuid=entry_uuid,
        unique_id=unique_id,
        patient_id=entry.patient_id,
        author=entry.author,
        title=entry.title,
        content_type_code=content_type or entry.class_code,
        limited_metadata=entry.limited_metadata,
        source_id=source_id,
        submission_time=now,
    )
