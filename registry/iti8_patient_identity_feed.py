"""Patient Identity Feed [ITI-8] and Notify XAD-PID Link Change [ITI-64], as HL7 v2 messages.

ITI TF-2: 3.8 and 3.64. Admissions, registrations and updates (A01, A04, A05, A08) make a patient known; A40 merges two;
A43 says that a local id is another patient's (registry/iti64_link_change.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from registry.iti64_link_change import LinkChanges
from registry.link_change import LinkChange
from registry.metadata_store import OutcomeOpen, StoreBusy
from registry.patient_register import FeedRefused, PatientRegister, Reason, now
from xds.hl7v2 import is_oid
from xds.hl7v2_messages import (
    AcknowledgmentCode,
    AdtMessage,
    ConditionCode,
    Header,
    MessageRefused,
    Place,
    acknowledgment,
    read_adt,
)

log = logging.getLogger(__name__)

ADMITTING: Final = ("A01", "A04", "A05", "A08")
MERGING: Final = "A40"
LINKING: Final = "A43"

_CONDITIONS: Mapping[Reason, ConditionCode] = {
    Reason.MISSING: ConditionCode.REQUIRED_FIELD_MISSING,
    Reason.MALFORMED: ConditionCode.DATA_TYPE_ERROR,
    Reason.UNKNOWN: ConditionCode.UNKNOWN_KEY_IDENTIFIER,
    Reason.DUPLICATE: ConditionCode.DUPLICATE_KEY_IDENTIFIER,
}


@dataclass(frozen=True, slots=True)
class PatientIdentityFeed:
    """Answers the messages of a patient identity feed."""

    register: PatientRegister
    links: LinkChanges

    async def acknowledged(self, message: bytes) -> bytes:
        """The ACK to one message. Never raises: whatever is wrong is an AE or AR that says so."""
        header = Header.of(message)
        transaction = "ITI-64" if header.trigger_event == LINKING else "ITI-8"
        refusal: MessageRefused | None = None
        try:
            # Taking apart what is made to be hard to take apart takes a while: others go on meanwhile.
            await self._take(await asyncio.to_thread(read_adt, message))
        except MessageRefused as problem:
            refusal = problem
        except FeedRefused as problem:
            refusal = MessageRefused(_CONDITIONS[problem.reason], str(problem), Place("PID", 3))
        except (StoreBusy, OutcomeOpen):
            log.warning("The metadata store is busy.", exc_info=True, extra={"transaction": transaction})
            refusal = _later(ConditionCode.APPLICATION_RECORD_LOCKED, "The registry is busy; send the message again.")
        except Exception:
            log.exception("A message of a patient identity feed failed.", extra={"transaction": transaction})
            refusal = _later(
                ConditionCode.APPLICATION_INTERNAL_ERROR,
                "The registry failed; its operator finds the cause in the log.",
            )
        log.info(
            "Acknowledged",
            extra={
                "transaction": transaction,
                "trigger_event": header.trigger_event,
                "code": str(refusal.code if refusal else AcknowledgmentCode.ACCEPT),
                "condition": str(refusal.condition) if refusal else None,
            },
        )
        return acknowledgment(header, refusal, control_id=uuid4().hex[:20], now=now())

    async def _take(self, message: AdtMessage) -> None:
        take = self._takes.get(message.trigger_event)
        if take is None:
            raise MessageRefused(
                ConditionCode.UNSUPPORTED_EVENT_CODE,
                f"The trigger event {message.trigger_event!r} is not served here; send {', '.join(self._takes)}.",
                Place("MSH", 9),
                AcknowledgmentCode.REJECT,
            )
        await take(message)

    @property
    def _takes(self) -> Mapping[str, Callable[[AdtMessage], Awaitable[None]]]:
        return {**dict.fromkeys(ADMITTING, self._admit), MERGING: self._merge, LINKING: self._link}

    async def _admit(self, message: AdtMessage) -> None:
        await self.register.admit(message.patient_ids)

    async def _merge(self, message: AdtMessage) -> None:
        if not message.prior_ids:
            raise MessageRefused(
                ConditionCode.REQUIRED_FIELD_MISSING,
                "There is no MRG-1; send the patient id that is not used any more.",
                Place("MRG", 1),
            )
        await self.register.merge(message.patient_ids, message.prior_ids)

    async def _link(self, message: AdtMessage) -> None:
        change = link_change(message, self.register)
        await self.register.require_active("new", change.new)
        try:
            await self.register.require_active("previous", change.previous)
        except FeedRefused as problem:
            raise MessageRefused(_CONDITIONS[problem.reason], str(problem), Place("MRG", 1)) from problem
        await self.links.take(change)


def link_change(message: AdtMessage, register: PatientRegister) -> LinkChange:
    """What an A43 says (ITI TF-2: 3.64.4.1.2). Raises MessageRefused."""
    if len(message.patient_ids) != 2:
        raise MessageRefused(
            ConditionCode.REQUIRED_FIELD_MISSING,
            "PID-3 is to have two ids: send that of the patient that the local id is linked to now, and the local id.",
            Place("PID", 3),
        )
    if len(message.prior_ids) not in (1, 2):
        raise MessageRefused(
            ConditionCode.REQUIRED_FIELD_MISSING,
            "MRG-1 is to have one id or two: send that of the patient that the local id was linked to and, where there "
            "is one, the local id that is not used any more.",
            Place("MRG", 1),
        )
    new, local = map(register.canonical, message.patient_ids)
    previous, *subsumed = map(register.canonical, message.prior_ids)
    for place, each in (("PID", local), *(("MRG", each) for each in subsumed)):
        if not is_oid(each.assigning_authority.universal_id) or not each.id_number:
            raise MessageRefused(
                ConditionCode.DATA_TYPE_ERROR,
                "The local id is no id with the OID of its assigning authority; send 4711^^^&1.2.3&ISO.",
                Place(place, 3 if place == "PID" else 1),
            )
    if subsumed and subsumed[0].assigning_authority != local.assigning_authority:
        raise MessageRefused(
            ConditionCode.DATA_TYPE_ERROR,
            "The local ids are of two assigning authorities; send those of one.",
            Place("MRG", 1),
        )
    if (new, None if not subsumed else subsumed[0]) in ((previous, None), (previous, local)):
        raise MessageRefused(
            ConditionCode.DUPLICATE_KEY_IDENTIFIER,
            "The message changes nothing; send two patients, or two local ids.",
            Place("MRG", 1),
        )
    return LinkChange(local, new, previous, subsumed[0] if subsumed else None, _sender(message.header))


def _sender(header: Header) -> str:
    """The OID in MSH-3 (ITI TF-2: 3.64.4.1.2.1): the namespace id, or the universal id."""
    for part in header.sending[0].split(header.encoding_characters[0]):
        if is_oid(part):
            return part
    raise MessageRefused(
        ConditionCode.DATA_TYPE_ERROR,
        "MSH-3 has no OID; send that of the system that cross-references patients.",
        Place("MSH", 3),
    )


def _later(condition: ConditionCode, sentence: str) -> MessageRefused:
    return MessageRefused(condition, sentence, code=AcknowledgmentCode.REJECT)
