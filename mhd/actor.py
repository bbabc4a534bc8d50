"""The MHD actors of this process, as they are reached at one base URL.

Document Recipient    document_recipient.py: Provide Document Bundle [ITI-65], Simplified Publish [ITI-105],
                      Generate Metadata [ITI-106]
Document Responder    document_responder.py: Find Document Lists [ITI-66], Find Document References [ITI-67],
                      Retrieve Document [ITI-68]
Patient identities    iti104_patient_identity_feed.py: Patient Identity Feed FHIR [ITI-104]
                      iti93_mobile_patient_identity_feed.py: Mobile Patient Identity Feed [ITI-93]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mhd.capability_statement import Capabilities, capability_statement
from mhd.document_responder import DocumentResponder
from mhd.fhir.fhir_json import written
from mhd.iti93_mobile_patient_identity_feed import MobilePatientFeed
from mhd.iti104_patient_identity_feed import PatientFeed
from mhd.messages import FhirAnswer, Recipient
from mhd.searching.one_patient import patient_of_claims
from mhd.searching.resource_reads import answer_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Mhd:
    """Document Recipient and Document Responder.

    feed, mobile_feed   None where the registry, and with it its patients, is elsewhere
    """

    base: str
    recipient: Recipient
    responder: DocumentResponder
    can: Capabilities
    feed: PatientFeed | None = None
    mobile_feed: MobilePatientFeed | None = None

    async def kept_to(self, claims: Sequence[str], *, forbids: bool) -> Mhd | None:
        """The same, whose Document Responder has nothing but what belongs to the patient whom a token's claims name.

        None: they name nobody who is known, or several. forbids: what belongs to others is refused, not hidden.
        """
        patient_id = await patient_of_claims(claims, self.responder.search.conditions.patients)
        if patient_id is None:
            return None
        return replace(self, responder=self.responder.kept_to(patient_id, forbids=forbids))

    def capabilities(self) -> FhirAnswer:
        """The CapabilityStatement."""
        return answer_of(written(capability_statement(self.base, self.can)))


class MhdAt(Protocol):
    """The MHD actors as they are reached at a base URL."""

    def __call__(self, base: str) -> Mhd:
        """base: without a slash at its end."""
        ...
