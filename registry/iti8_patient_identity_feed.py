"""Patient Identity Feed [ITI-8] and Notify XAD-PID Link Change [ITI-64], as HL7 v2 messages.

ITI TF-2: 3.8 and 3.64. Admissions, registrations and updates (A01, A04, A05, A08) make a patient known; A40 merges two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from registry.metadata_store import StoreBusy
from registry.patient_register import FeedRefused, PatientRegister, Reason, now
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

    async def acknowledged(self, message: bytes) -> bytes:
        """The ACK to one message. Never raises: whatever is wrong is an AE or AR that says so."""
        header = Header.of(message)
        refusal: MessageRefused | None = None
        try:
            # Taking apart what is made to be hard to take apart takes a while: others go on meanwhile.
            await self._take(await asyncio.to_thread(read_adt, message))
        except MessageRefused as problem:
            refusal = problem
        except FeedRefused as problem:
            refusal = MessageRefused(_CONDITIONS[problem.reason], str(problem), Place("PID", 3))
        except StoreBusy:
            log.warning("The metadata store is busy.", exc_info=True, extra={"transaction": "ITI-8"})
            refusal = _later(ConditionCode.APPLICATION_RECORD_LOCKED, "The registry is busy; send the message again.")
        except Exception:
            log.exception("A message of a patient identity feed failed.", extra={"transaction": "ITI-8"})
            refusal = _later(
                ConditionCode.APPLICATION_INTERNAL_ERROR,
                "The registry failed; its operator finds the cause in the log.",
            )
        log.info(
            "Acknowledged",
            extra={
                "transaction": "ITI-8",
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
        return {**dict.fromkeys(ADMITTING, self._admit), MERGING: self._merge}

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


def _later(condition: ConditionCode, sentence: str) -> MessageRefused:
    return MessageRefused(condition, sentence, code=AcknowledgmentCode.REJECT)
