"""One update for each way of breaking a rule that is about updates alone (ITI-57, ITI-92)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.builders import association, document_entry, entry_uuid, folder, has_member, submission, submission_set
from tests.xds.broken_submissions import Broken
from xds.errors import ErrorCode
from xds.metadata import Association, AssociationType, AvailabilityStatus, DocumentEntry, Folder, Submission
from xds.transactions import ITI_57, ITI_92, Transaction

APPROVED, DEPRECATED = AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED
STATUS = AssociationType.UPDATE_AVAILABILITY_STATUS
NON_VERSIONING = "urn:ihe:iti:2010:AssociationType:NonVersioningUpdate"
SUBMIT = AssociationType.SUBMIT_ASSOCIATION


def next_version(item: DocumentEntry | Folder, **changes: Any) -> Any:
    """A new version of an object, as it is sent."""
    new: dict[str, Any] = {"entry_uuid": entry_uuid(), "logical_id": item.logical_id or item.entry_uuid}
    return replace(item, **new | {"version": None, "availability_status": None} | changes)


def update_of(
    *items: DocumentEntry | Folder, previous: str = "1", associations: tuple[Association, ...] = (), **changes: Any
) -> Submission:
    """An update with these new versions; `changes` are of the HasMember of each."""
    patients = [item.patient_id for item in items]
    owner = submission_set(**({"patient_id": patients[0]} if patients else {}))
    slots: dict[str, Any] = {"previous_version": previous, **changes}
    return Submission(
        submission_sets=(owner,),
        document_entries=tuple(item for item in items if isinstance(item, DocumentEntry)),
        folders=tuple(item for item in items if isinstance(item, Folder)),
        associations=(*(has_member(owner, item, **slots) for item in items), *associations),
    )


def with_operation(make: Callable[[Any], tuple[Association, ...]], *items: DocumentEntry | Folder) -> Submission:
    """An update with further associations, made from its SubmissionSet."""
    whole = update_of(*items)
    return replace(whole, associations=(*whole.associations, *make(whole.submission_set)))


def status_update(target: Any, before: str = APPROVED, after: str = DEPRECATED, **changes: Any) -> Submission:
    """A change of the status of what is registered."""
    slots: dict[str, Any] = {"original_status": before, "new_status": after}
    return with_operation(lambda own: (association(STATUS, own, target, **slots | changes),))


def submitted(link: Association) -> Submission:
    """The submission of an association between what is registered."""
    return with_operation(lambda own: (association(SUBMIT, own, link), link))


def _entry(**changes: Any) -> DocumentEntry:
    entry: DocumentEntry = next_version(document_entry(), **changes)
    return entry


def _submitted_and_deprecated(own: Any) -> tuple[Association, ...]:
    link = association(AssociationType.APND, entry_uuid(), entry_uuid())
    status = association(STATUS, own, link.entry_uuid, original_status=APPROVED, new_status=DEPRECATED)
    return (association(SUBMIT, own, link), link, status)


_UUID = entry_uuid()
_SAME = _entry()

BROKEN_UPDATES: tuple[tuple[Transaction, Broken], ...] = (
    (ITI_57, Broken("a first version", update_of(document_entry()), "has no logicalID")),
    (
        ITI_92,
        Broken("a first version", update_of(document_entry()), "has no logicalID", ErrorCode.INVALID_REQUEST),
    ),
    (ITI_57, Broken("a logicalID that is no UUID", update_of(_entry(logical_id="Doc")), "has the logicalID 'Doc'")),
    (
        ITI_57,
        Broken("its own logicalID", update_of(_entry(entry_uuid=_UUID, logical_id=_UUID)), "has its logicalID as id"),
    ),
    (
        ITI_57,
        Broken(
            "no PreviousVersion",
            update_of(_entry(), previous_version=None),
            "without a Slot PreviousVersion",
            ErrorCode.METADATA_VERSION_ERROR,
        ),
    ),
    (ITI_57, Broken("a PreviousVersion that is no number", update_of(_entry(), previous="first"), "a number")),
    (
        ITI_57,
        Broken("no SubmissionSetStatus", update_of(_entry(), submission_set_status=None), "send Original"),
    ),
    (
        ITI_57,
        Broken(
            "a Folder with a SubmissionSetStatus",
            update_of(next_version(folder()), submission_set_status="Original"),
            "with a SubmissionSetStatus; leave it out",
        ),
    ),
    (ITI_57, Broken("AssociationPropagation maybe", update_of(_entry(), association_propagation="maybe"), "yes or no")),
    (
        ITI_92,
        Broken(
            "no AssociationPropagation",
            update_of(_entry(), association_propagation="no"),
            "associations always follow",
            ErrorCode.METADATA_ANNOTATION_ERROR,
        ),
    ),
    (
        ITI_92,
        Broken(
            "a Folder", update_of(next_version(folder())), "send it with ITI-57", ErrorCode.OBJECT_TYPE_ERROR
        ),
    ),
    (
        ITI_92,
        Broken(
            "a document that is no member",
            replace(update_of(_entry()), associations=()),
            "is not a member of the SubmissionSet",
            ErrorCode.METADATA_ANNOTATION_ERROR,
        ),
    ),
    (ITI_92, Broken("a status update", status_update(_UUID), "belongs to ITI-57")),
    (
        ITI_57,
        Broken(
            "two versions of one document",
            update_of(_SAME, next_version(_SAME)),
            "a message holds one version",
            ErrorCode.METADATA_UPDATE_OPERATION_ERROR,
        ),
    ),
    (
        ITI_57,
        Broken(
            "nothing to do",
            submission(),
            "has no operation",
            ErrorCode.METADATA_UPDATE_OPERATION_ERROR,
        ),
    ),
    (
        ITI_57,
        Broken(
            "an association that nothing submits",
            with_operation(lambda _: (association(AssociationType.APND, _UUID, entry_uuid()),), _entry()),
            "is submitted by no operation",
            ErrorCode.METADATA_UPDATE_OPERATION_ERROR,
        ),
    ),
    (
        ITI_57,
        Broken(
            "a HasMember of what is registered",
            with_operation(lambda own: (has_member(own, _UUID),)),
            "which is not in this message; an update brings new versions",
        ),
    ),
    (
        ITI_57,
        Broken(
            "a status update that is not of the SubmissionSet",
            with_operation(
                lambda _: (association(STATUS, _UUID, _UUID, original_status=APPROVED, new_status=DEPRECATED),)
            ),
            "send the SubmissionSet's id",
        ),
    ),
    (ITI_57, Broken("no OriginalStatus", status_update(_UUID, original_status=None), "has no Slot OriginalStatus")),
    (ITI_57, Broken("no NewStatus", status_update(_UUID, new_status=None), "has no Slot NewStatus")),
    (ITI_57, Broken("an unknown status", status_update(_UUID, after="Withdrawn"), "newStatus of Association")),
    (
        ITI_57,
        Broken(
            "the status of an association of the message",
            with_operation(_submitted_and_deprecated),
            "which is Approved when it is registered",
        ),
    ),
    (
        ITI_57,
        Broken(
            "the status of its SubmissionSet",
            with_operation(
                lambda own: (association(STATUS, own, own, original_status=APPROVED, new_status=DEPRECATED),)
            ),
            "which is Approved when it is registered",
        ),
    ),
    (
        ITI_57,
        Broken(
            "two statuses of one object",
            with_operation(
                lambda own: tuple(
                    association(STATUS, own, _UUID, original_status=APPROVED, new_status=status)
                    for status in (DEPRECATED, APPROVED)
                )
            ),
            "a message changes the status of an object once",
            ErrorCode.METADATA_UPDATE_OPERATION_ERROR,
        ),
    ),
    (
        ITI_57,
        Broken(
            "a submission of something else",
            with_operation(lambda own: (association(SUBMIT, own, _UUID),)),
            "send the id of an Association",
        ),
    ),
    (
        ITI_57,
        Broken(
            "an unknown type",
            submitted(association("urn:ihe:iti:2007:AssociationType:APND_TXFM", _UUID, entry_uuid())),
            "which does not exist",
            ErrorCode.REGISTRY_METADATA_ERROR,
        ),
    ),
    (
        ITI_57,
        Broken(
            "an update without a version",
            with_operation(lambda own: (association(NON_VERSIONING, own, _UUID),)),
            "send a new version instead",
        ),
    ),
)  # fmt: skip
