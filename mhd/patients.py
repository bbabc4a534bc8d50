"""Whom a Reference to a patient means, in submissions and in searches alike.

The affinity domain has one id for a patient, and FHIR has many ways to name him. All that a Reference says has to mean
the same patient. What lies on a server of somebody else is never fetched, unless a deployment names that server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import parse_qsl

from mhd.fhir.exact_text import Json
from mhd.fhir.operation_outcome import Issue, xds_issue
from mhd.mapping.domain import MhdDomain
from mhd.mapping.identifiers import NAME_ITS_OID, cx_of
from xds.errors import ErrorCode
from xds.hl7v2 import CX

_PATIENT: Final = "Patient/"
_QUERY: Final = "Patient?"

ForeignPatient = Callable[[str], Awaitable[Json | None]]
"""The Patient at an absolute URL of a server that the deployment trusts; None for every other URL, without asking."""


class PatientKeys(Protocol):
    """Knows which patient the id of a Patient resource of this server stands for."""

    async def patient_of(self, patient_key: str) -> str | None:
        """The patient id (CX text); None: there is no such Patient."""
        ...

    async def patient_key(self, patient_id: str) -> str | None:
        """The other way round; None where nothing is known of the patient."""
        ...


class AskedOnce:
    """PatientKeys for one request, which may name a patient a thousand times and asks once."""

    def __init__(self, keys: PatientKeys) -> None:
        self._keys = keys
        self._patients: dict[str, str | None] = {}

    async def patient_of(self, patient_key: str) -> str | None:
        if patient_key not in self._patients:
            self._patients[patient_key] = await self._keys.patient_of(patient_key)
        return self._patients[patient_key]

    async def patient_key(self, patient_id: str) -> str | None:
        return await self._keys.patient_key(patient_id)


class NoPatientKeys:
    """PatientKeys of a server that has no Patient resources."""

    async def patient_of(self, _patient_key: str) -> str | None:
        return None

    async def patient_key(self, _patient_id: str) -> str | None:
        return None


async def no_foreign_patient(_url: str) -> Json | None:
    """ForeignPatient of a deployment that trusts no other server."""
    return None


@dataclass(frozen=True, slots=True)
class Named:
    """Whom a Reference names.

    patient_id   None: nobody whom the affinity domain knows
    problem      what is wrong with the Reference; its expression is to be filled in
    """

    patient_id: CX | None = None
    problem: Issue | None = None


@dataclass(frozen=True, slots=True)
class PatientResolver:
    """Finds out whom a Reference or an Identifier means."""

    domain: MhdDomain
    keys: PatientKeys
    foreign: ForeignPatient = no_foreign_patient

    async def of_reference(self, reference: str) -> CX | None:
        """The patient of `Patient/id`, `id`, an absolute URL or `Patient?identifier=system|value`; None: unknown."""
        if reference.startswith(_QUERY):
            return self._of_query(reference)
        key = self._own_key(reference)
        if key is not None:
            found = await self.keys.patient_of(key)
            return CX(found) if found else None
        patient = await self.foreign(reference) if "://" in reference else None
        return self.of_patient(patient) if patient else None

    def of_identifier(self, system: str | None, value: str) -> CX | None:
        """The patient of an Identifier; None where its system is not of the affinity domain."""
        return self._ours({"system": system or "", "value": value})

    def of_patient(self, patient: Json) -> CX | None:
        """The first identifier of a Patient that is the affinity domain's."""
        return next((found for each in patient.get("identifier", ()) if (found := self._ours(each))), None)

    async def of_subject(self, subject: Json, resources: Mapping[str, Json], path: str) -> Named:
        """Whom a subject names.

        resources   Patients that it may refer to: `#id` of those contained, the fullUrl of those in the Bundle
        path        FHIRPath of the subject
        """
        known = dict.fromkeys(each.text for each in await self._claims(subject, resources) if each)
        if len(known) > 1:
            return Named(problem=_differing(subject, self.domain, path))
        if known:
            return Named(CX(next(iter(known))))
        return Named(problem=_unknown(subject, path))

    async def _claims(self, subject: Json, resources: Mapping[str, Json]) -> Sequence[CX | None]:
        """Everything that a subject says of who it is; None for what says nothing."""
        identifier, reference = subject.get("identifier"), subject.get("reference", "")
        claims = [self._ours(identifier)] if identifier else []
        if reference in resources:
            claims.append(self.of_patient(resources[reference]))
        elif reference:
            claims.append(await self.of_reference(reference))
        return claims

    def _ours(self, identifier: Json) -> CX | None:
        """The patient id that an Identifier stands for, where the affinity domain takes ids of its authority."""
        found = cx_of(identifier, self.domain.code_systems)
        return found if found and self.domain.is_authority(found.assigning_authority.universal_id) else None

    def _own_key(self, reference: str) -> str | None:
        """The id of a Patient of this server; None where the reference is to anything else."""
        own = reference.removeprefix(f"{self.domain.base}/")
        key = own.removeprefix(_PATIENT)
        return key if key and not set(key) - _OF_IDS else None

    def _of_query(self, reference: str) -> CX | None:
        parameters = parse_qsl(reference.removeprefix(_QUERY))
        if [name for name, _ in parameters] != ["identifier"]:
            return None
        system, _, value = parameters[0][1].rpartition("|")
        return self.of_identifier(system, value)


_OF_IDS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.")


def as_sent(subject: Json, domain: MhdDomain) -> str:
    """What a sender said of a patient, to be told again: what is known beside it is nobody's business."""
    patient_id = cx_of(subject.get("identifier", {}), domain.code_systems)
    said = (subject.get("reference"), patient_id.text if patient_id else None)
    return " and ".join(each[:200] for each in said if each) or "nothing"


def _differing(subject: Json, domain: MhdDomain, path: str) -> Issue:
    sentence = "The reference and the identifier of the subject name different patients; send one patient."
    return xds_issue(
        ErrorCode.PATIENT_ID_DOES_NOT_MATCH, sentence, path, diagnostics=f"The subject has {as_sent(subject, domain)}"
    )


def _unknown(subject: Json, path: str) -> Issue:
    named = subject.get("reference") or subject.get("identifier", {}).get("system") or "no reference and no identifier"
    return xds_issue(
        ErrorCode.UNKNOWN_PATIENT_ID,
        f"The subject ({named[:200]}) is no patient of this affinity domain; send the patient's identifier there, as "
        f"subject.identifier with system urn:oid:... and value, {NAME_ITS_OID}. References to other servers are not "
        "followed.",
        path,
    )
