"""Patient Identity Feed HL7 V3 [ITI-44].

ITI TF-2: 3.44. A record that is added or revised makes a patient known; resolved duplicates merge two.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from registry.metadata_store import StoreBusy
from registry.patient_register import FeedRefused, PatientRegister, Reason
from xds.hl7v2 import CX
from xds.hl7v3 import DetailCode, PatientFeedMessage, Refusal

log = logging.getLogger(__name__)

_CODES: Final[Mapping[Reason, DetailCode]] = {
    Reason.MISSING: DetailCode.REQUIRED_ELEMENT_MISSING,
    Reason.MALFORMED: DetailCode.DATA_TYPE_ERROR,
    Reason.UNKNOWN: DetailCode.UNKNOWN_KEY_IDENTIFIER,
    Reason.DUPLICATE: DetailCode.DUPLICATE_KEY_IDENTIFIER,
}


@dataclass(frozen=True, slots=True)
class PatientIdentityFeedV3:
    """Answers the messages of a patient identity feed. None: accepted. Whatever is wrong is a Refusal that says so."""

    register: PatientRegister

    async def added_or_revised(self, message: PatientFeedMessage) -> Refusal | None:
        """Patient Registry Record Added or Revised (PRPA_IN201301UV02, PRPA_IN201302UV02)."""
        if message.prior_ids:
            return Refusal(
                DetailCode.DATA_TYPE_ERROR,
                "The message has a replacementOf; send PRPA_IN201304UV02 to merge patients.",
            )
        return await self._taken(message)

    async def duplicates_resolved(self, message: PatientFeedMessage) -> Refusal | None:
        """Patient Registry Duplicates Resolved (PRPA_IN201304UV02)."""
        if not message.prior_ids:
            return Refusal(
                DetailCode.REQUIRED_ELEMENT_MISSING,
                "There is no priorRegisteredRole with an id; send the patient id that is not used any more.",
            )
        return await self._taken(message, message.prior_ids)

    async def _taken(self, message: PatientFeedMessage, prior_ids: Sequence[CX] = ()) -> Refusal | None:
        if message.subjects > 1:
            return Refusal(
                DetailCode.DATA_TYPE_ERROR,
                f"The message has {message.subjects} subjects; send one message for each patient.",
            )
        try:
            if prior_ids:
                await self.register.merge(message.patient_ids, prior_ids)
            else:
                await self.register.admit(message.patient_ids)
        except FeedRefused as problem:
            return Refusal(_CODES[problem.reason], str(problem))
        except StoreBusy:
            log.warning("The metadata store is busy.", exc_info=True, extra={"transaction": "ITI-44"})
            return Refusal(DetailCode.RECORD_LOCKED, "The registry is busy; send the message again.", again=True)
        except Exception:
            log.exception("A message of a patient identity feed failed.", extra={"transaction": "ITI-44"})
            return Refusal(
                DetailCode.INTERNAL_ERROR, "The registry failed; its operator finds why in the log.", again=True
            )
        return None
