"""A submission that is sent again because its answer was lost: XDS refuses it, and MHD says where everything is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mhd.fhir.operation_outcome import Issue, IssueType, Refused, xds_issue
from mhd.mapping.identifiers import resource_id
from mhd.registered_objects import RegisteredObjects
from mhd.submitting.submission_draft import Draft
from xds.actors import RegistryResponse
from xds.errors import ErrorCode
from xds.metadata import AnyObject, Association, DocumentEntry, DocumentEntryType, Folder, Submission, SubmissionSet

_OTHER_OCTETS = frozenset({ErrorCode.NON_IDENTICAL_HASH, ErrorCode.NON_IDENTICAL_SIZE})


async def answer_to_resubmission(
    submission: Submission, response: RegistryResponse, registered: RegisteredObjects
) -> Issue | None:
    """What to say of a refused submission that is there already, with all its documents and Folders (409).

    None: it is another submission, or not all of it is there any more.
    """
    if any(each.code in _OTHER_OCTETS for each in response.errors):
        return None
    sent = submission.submission_set
    try:
        found = await registered.submission(sent.unique_id or "", on_demand=_is_on_demand(submission))
    except Refused:
        return None
    there = {_of_its_sender(each) for each in found if not isinstance(each, Association)}
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


async def was_removed(draft: Draft, response: RegistryResponse, registered: RegisteredObjects) -> bool:
    """Whether a refused submission has the name that this server gave to one which was removed since [ITI-62].

    Names of what was removed stay taken, and its sender knows none that it could change.
    """
    if response.succeeded:
        return False
    sent = draft.submission.submission_set
    is_taken = any(
        each.code == ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY and each.location.startswith(f"{sent.entry_uuid}/")
        for each in response.errors
    )
    if not is_taken or sent.unique_id is None or sent.unique_id not in draft.named_here:
        return False
    return not await registered.submission(sent.unique_id)


def _is_on_demand(submission: Submission) -> bool:
    return any(each.object_type == DocumentEntryType.ON_DEMAND for each in submission.document_entries)


def _of_its_sender(item: AnyObject) -> AnyObject:
    """What its sender said of an object: all but what registry and repository add or change by themselves.

    Hash and size were compared with those of the octets. A SubmissionSet that is made here, or anew by its sender, has
    the time at which that was.
    """
    plain = replace(
        item,
        entry_uuid="",
        logical_id=None,
        version=None,
        home_community_id=None,
        availability_status=None,
    )
    match plain:
        case DocumentEntry():
            return replace(plain, hash=None, size=None, repository_unique_id=None, uri=None, document_availability=None)
        case Folder():
            return replace(plain, last_update_time=None)
        case SubmissionSet():
            return replace(plain, submission_time=None)
        case _:
            return plain


def _locations(found: Iterable[AnyObject]) -> Iterable[str]:
    for each in found:
        if isinstance(each, DocumentEntry):
            yield f"DocumentReference/{resource_id(each.logical_id or each.entry_uuid)}"
        elif isinstance(each, SubmissionSet | Folder):
            yield f"List/{resource_id(each.logical_id or each.entry_uuid)}"
