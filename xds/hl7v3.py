"""What HL7 v3 messages of patient identity feeds say (ITI TF-2: 3.44), without their XML (xds/hl7v3_messages.py)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from xds.hl7v2 import CX


class DetailCode(StrEnum):
    """What is wrong with a message (HL7 v3 AcknowledgementDetailCode, 2.16.840.1.113883.5.1100)."""

    INTERNAL_ERROR = "INTERR"
    REQUIRED_ELEMENT_MISSING = "SYN105"
    DATA_TYPE_ERROR = "SYN102"
    UNKNOWN_KEY_IDENTIFIER = "KEY204"
    DUPLICATE_KEY_IDENTIFIER = "KEY205"
    RECORD_LOCKED = "KEY206"


@dataclass(frozen=True, slots=True)
class InstanceIdentifier:
    """II: root is an OID or a UUID; extension "" where there is none."""

    root: str = ""
    extension: str = ""


@dataclass(frozen=True, slots=True)
class PatientFeedMessage:
    """A message of a patient identity feed.

    patient_ids   every id of the patient; subjects is how many registrations it is about, which has to be one
    prior_ids     every id that the patient had before
    """

    message_id: InstanceIdentifier
    sender: InstanceIdentifier
    receiver: InstanceIdentifier
    processing_code: str
    subjects: int
    patient_ids: tuple[CX, ...]
    prior_ids: tuple[CX, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is refused.

    again   whether it may be accepted when it is sent again
    """

    code: DetailCode
    sentence: str
    again: bool = False
