"""Which patients the registry knows (ITI TF-2: 3.42.4.1.3, XDSUnknownPatientId)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from registry.metadata_store import PatientIdentity
from xds.hl7v2 import CX


class PatientIdentities(Protocol):
    """Knows the patients of the affinity domain."""

    def problem(self, patient_id: CX, identity: PatientIdentity | None) -> str | None:
        """Why objects of this patient can not be registered, as the end of a sentence that begins with the patientId.

        identity   what feeds said of the patient id; None: nothing
        None: they can. Answers for any text, well-formed or not.
        """
        ...

    def warning(self, patient_id: CX) -> str | None:
        """What is to be told of a patientId that is accepted, as the end of the same sentence."""
        ...


class CheckPolicy(StrEnum):
    """What happens to a number that its authority can not have given out."""

    REJECT = "reject"
    WARN = "warn"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class NumberCheck:
    """How the numbers of one assigning authority are checked.

    name      of the kind of number, for people: NHS number
    is_valid  whether the authority can have given out this number
    """

    name: str
    is_valid: Callable[[str], bool]
    policy: CheckPolicy = CheckPolicy.REJECT


@dataclass(frozen=True, slots=True)
class OpenPatients:
    """Knows every patient whose id is well-formed and comes from one of these authorities.

    authorities   OIDs; none: of every authority
    checks        by the OID of the authority
    """

    authorities: frozenset[str] = frozenset()
    checks: Mapping[str, NumberCheck] = field(default_factory=dict)

    def problem(self, patient_id: CX, identity: PatientIdentity | None = None) -> str | None:  # noqa: ARG002 - it takes any
        return self.malformation(patient_id)

    def malformation(self, patient_id: CX) -> str | None:
        """What can be said against a patient id without looking it up, as the end of a sentence."""
        if malformed := patient_id.problem():
            return f"names no patient: {malformed}"
        authority = patient_id.assigning_authority.universal_id
        if self.authorities and authority not in self.authorities:
            known = ", ".join(sorted(self.authorities))
            return f"is of the assigning authority {authority}, which is unknown here; send an id of {known}"
        return self._mistake(patient_id, CheckPolicy.REJECT)

    def warning(self, patient_id: CX) -> str | None:
        return None if patient_id.problem() else self._mistake(patient_id, CheckPolicy.WARN)

    def _mistake(self, patient_id: CX, policy: CheckPolicy) -> str | None:
        check = self.checks.get(patient_id.assigning_authority.universal_id)
        if check is None or check.policy is not policy or check.is_valid(patient_id.id_number):
            return None
        return f"is no {check.name}: a digit is wrong or missing; correct the id number"


@dataclass(frozen=True, slots=True)
class FedPatients:
    """Knows the patients that patient identity feeds named (ITI-8, ITI-44, ITI-93, ITI-104), and who was merged.

    required   whether a feed must have named a patient; False: it is enough that none has merged it into another
    """

    well_formed: OpenPatients = field(default_factory=OpenPatients)
    required: bool = True

    def problem(self, patient_id: CX, identity: PatientIdentity | None) -> str | None:
        if malformed := self.well_formed.malformation(patient_id):
            return malformed
        if identity is None:
            unknown = "is not known here: no patient identity feed has named it; have the patient registered first"
            return unknown if self.required else None
        if identity.merged_into is not None:
            return "is not in use any more: it was merged into another; send the one that survived"
        return None

    def warning(self, patient_id: CX) -> str | None:
        return self.well_formed.warning(patient_id)
