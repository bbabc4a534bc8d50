"""A submission that is sent again because its answer was lost: XDS refuses it, and MHD says where everything is."""

from __future__ import annotations

from collections.abc import Iterable

from mhd.identifiers import resource_id
from mhd.operation_outcome import Issue, IssueType, Refused, xds_issue
from mhd.registered_objects import RegisteredObjects
from xds.errors import ErrorCode
from xds.metadata import AnyObject, DocumentEntry, Folder, Submission, SubmissionSet


async def answer_to_resubmission(submission: Submission, registered: RegisteredObjects) -> Issue | None:
    """What to say of a refused submission whose documents are all there, in a SubmissionSet with its uniqueId (409).

    None: it is another submission.
    """
    sent = submission.submission_set
    try:
        found = await registered.submission(sent.unique_id or "")
    except Refused:
        return None
    patients = {each.patient_id for each in found if isinstance(each, SubmissionSet)}
    there = {each.unique_id for each in found if isinstance(each, DocumentEntry)}
    if patients != {sent.patient_id} or not {each.unique_id for each in submission.document_entries} <= there:
        return None
    return xds_issue(
        ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY,
        "This submission is registered already: nothing is left to do.",
        "Bundle",
        issue_type=IssueType.DUPLICATE,
        diagnostics=", ".join(_locations(found)),
    )


def _locations(found: Iterable[AnyObject]) -> Iterable[str]:
    for each in found:
        if isinstance(each, DocumentEntry):
            yield f"DocumentReference/{resource_id(each.entry_uuid)}"
        elif isinstance(each, SubmissionSet | Folder):
            yield f"List/{resource_id(each.entry_uuid)}"
