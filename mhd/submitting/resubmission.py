"""A submission that is sent again because its answer was lost: XDS refuses it, and MHD says where everything is."""

from __future__ import annotations

from collections.abc import Iterable

from mhd.fhir.operation_outcome import Issue, IssueType, Refused, xds_issue
from mhd.mapping.identifiers import resource_id
from mhd.submitting.registered_objects import RegisteredObjects
from xds.errors import ErrorCode
from xds.metadata import AnyObject, DocumentEntry, Folder, Submission, SubmissionSet


async def answer_to_resubmission(submission: Submission, registered: RegisteredObjects) -> Issue | None:
    """What to say of a refused submission that is there already, with all its documents and Folders (409).

    None: it is another submission.
    """
    sent = submission.submission_set
    try:
        found = await registered.submission(sent.unique_id or "")
    except Refused:
        return None
    there = {_of_its_sender(each) for each in found}
    objects: tuple[AnyObject, ...] = (sent, *submission.document_entries, *submission.folders)
    if not {_of_its_sender(each) for each in objects} <= there:
        return None
    return xds_issue(
        ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY,
        "This submission is registered already: nothing is left to do.",
        "Bundle",
        issue_type=IssueType.DUPLICATE,
        diagnostics=", ".join(_locations(found)),
    )


def _of_its_sender(item: AnyObject) -> tuple[object, ...]:
    """What an object has still that its sender gave it, and that no other one has."""
    match item:
        case SubmissionSet():
            time = item.submission_time and item.submission_time.text
            return item.kind, item.unique_id, item.patient_id, item.source_id, time
        case DocumentEntry() | Folder():
            return item.kind, item.unique_id, item.patient_id
        case _:
            return (item.entry_uuid,)


def _locations(found: Iterable[AnyObject]) -> Iterable[str]:
    for each in found:
        if isinstance(each, DocumentEntry):
            yield f"DocumentReference/{resource_id(each.entry_uuid)}"
        elif isinstance(each, SubmissionSet | Folder):
            yield f"List/{resource_id(each.entry_uuid)}"
