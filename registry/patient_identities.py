"""Which patients the registry knows (ITI TF-2: 3.42.4.1.3, XDSUnknownPatientId)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from xds.hl7v2 import CX


class PatientIdentities(Protocol):
    """Knows the patients of the affinity domain."""

    async def problem(self, patient_id: CX) -> str | None:
        """Why objects of this patient can not be registered, as the end of a sentence that begins with the patientId.

        None: they can. Answers for any text, well-formed or not.
        """
        ...


@dataclass(frozen=True, slots=True)
class OpenPatients:
    """Knows every patient whose id is well-formed and comes from one of these authorities.

    authorities   OIDs; none: of every authority
    """

    authorities: frozenset[str] = frozenset()

    async def problem(self, patient_id: CX) -> str | None:
        if malformed := patient_id.problem():
            return f"names no patient: {malformed}"
        authority = patient_id.assigning_authority.universal_id
        if not self.authorities or authority in self.authorities:
            return None
        known = ", ".join(sorted(self.authorities))
        return f"is of the assigning authority {authority}, which is unknown here; send an id of {known}"
