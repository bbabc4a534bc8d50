"""What a transaction tells the audit trail of what it read or made: whose it is, and which objects those are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Self

from xds.hl7v2 import CX


class AccessedKind(StrEnum):
    """What was read or made."""

    SUBMISSION_SET = "SubmissionSet"
    FOLDER = "Folder"
    DOCUMENT_ENTRY = "DocumentEntry"
    DOCUMENT = "Document"
    PATIENT = "Patient"
    MESSAGE = "Message"


class AccessedObject(NamedTuple):
    """One object.

    id   logicalID of a registered object, entryUUID of the entry of a document, patient_key of a patient, as in a URL;
         of a message what its sender called it, "" where he called it nothing
    """

    kind: AccessedKind
    id: str


@dataclass(frozen=True, slots=True)
class Accessed:
    """What a transaction read or made, or was asked for.

    patient_ids   CX text of everybody whose data that is; also of who was asked for and has none
    is_new        by a transaction that makes something or changes it: it was made
    """

    patient_ids: tuple[str, ...] = ()
    objects: tuple[AccessedObject, ...] = ()
    is_new: bool = False

    @classmethod
    def of(cls, patient_id: CX | None, *objects: AccessedObject) -> Self:
        """Objects of one patient; None: nobody is known."""
        return cls((patient_id.text,) if patient_id else (), objects)


NOTHING_ACCESSED: Final = Accessed()
