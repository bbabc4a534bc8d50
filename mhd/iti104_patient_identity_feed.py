"""Patient Identity Feed FHIR [ITI-104], as a Document Registry takes it: which patients there are, and who was merged.

PIXm 2:3.104. A Patient is put to `Patient?identifier=system|value`. Nothing of it is kept but its id; there is nothing
to be read back. One that was replaced says so by a link, and so does the one that replaces it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from mhd.fhir.fhir_structure import structure_problems
from mhd.fhir.operation_outcome import Issue, IssueSeverity, IssueType, Outcome, Refused, outcome_of
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.identifiers import NAME_ITS_OID, cx_of, cxs_of
from mhd.messages import FhirAnswer, Json
from mhd.patients import PatientKeys
from xds.audit import Accessed, AccessedKind, AccessedObject
from xds.errors import XdsError
from xds.hl7v2 import CX
from xds.patient_feeds import FeedRefused, PatientFeeds, Reason

_ISSUES: Final = {
    Reason.MISSING: IssueType.REQUIRED,
    Reason.MALFORMED: IssueType.VALUE,
    Reason.UNKNOWN: IssueType.NOT_FOUND,
    Reason.DUPLICATE: IssueType.DUPLICATE,
}
REPLACED_BY: Final = "replaced-by"
_REPLACES: Final = "replaces"


@dataclass(frozen=True, slots=True)
class PatientFeed:
    """Takes Patients. systems: of their identifiers."""

    base: str
    feeds: PatientFeeds
    keys: PatientKeys
    systems: CodeSystems

    async def put(self, patient: Any, parameters: Sequence[tuple[str, str]]) -> FhirAnswer:
        """The Patient whose identifier the parameters name.

        patient   what was sent, not yet judged
        Raises Refused.
        """
        if problems := structure_problems(patient, "Patient"):
            raise Refused(*problems)
        named = _named(parameters, self.systems)
        try:
            return await self._put(named, patient)
        except Refused as refusal:
            refusal.accessed = Accessed.of(named)
            raise
        except XdsError as refusal:
            raise Refused(*outcome_of(refusal.errors).issues, accessed=Accessed.of(named)) from refusal

    async def _put(self, named: CX, patient: Json) -> FhirAnswer:
        if named not in cxs_of(patient, self.systems):
            raise Refused(
                Issue(
                    IssueType.VALUE,
                    "The identifier of the URL is none of Patient.identifier; send the same in both.",
                    "Patient.identifier",
                )
            )
        try:
            return await self._taken(named, patient)
        except FeedRefused as refusal:
            raise refused(refusal, "Patient.identifier") from refusal

    async def _taken(self, named: CX, patient: Json) -> FhirAnswer:
        was_active = await self.feeds.is_active(named)
        successors, predecessors = (list(_linked(patient, kind, self.systems)) for kind in (REPLACED_BY, _REPLACES))
        concerned: list[CX] = []
        for survivor in successors:
            concerned += await self.feeds.merge([survivor], [named])
        if not successors:
            named = await self.feeds.admit([named])
            concerned.append(named)
        for subsumed in predecessors:
            concerned += await self.feeds.merge([named], [subsumed])
        known = Issue(IssueType.INFORMATIONAL, "The patient is known.", severity=IssueSeverity.INFORMATION)
        key = await self.keys.patient_key(named.text)
        location = f"{self.base}/Patient/{key}" if key is not None else None
        is_new = not (was_active or successors)
        objects = (AccessedObject(AccessedKind.PATIENT, key),) if key is not None else ()
        patient_ids = tuple(dict.fromkeys(each.text for each in concerned))
        return FhirAnswer(
            Outcome((known,)).resource(),
            201 if is_new else 200,
            location,
            accessed=Accessed(patient_ids, objects, is_new),
        )


def refused(refusal: FeedRefused, expression: str) -> Refused:
    """What a registry says of a feed, in FHIR's words."""
    return Refused(Issue(_ISSUES[refusal.reason], str(refusal), expression, http=422))


def _named(parameters: Sequence[tuple[str, str]], systems: CodeSystems) -> CX:
    values = [value for name, value in parameters if name == "identifier"]
    patient_id = _token(values[0], systems) if len(values) == 1 else None
    if patient_id is None:
        raise Refused(
            Issue(
                IssueType.REQUIRED,
                "The URL does not name the patient; put it to Patient?identifier=urn:oid:1.2.3|4711, with an OID as "
                f"system, {NAME_ITS_OID}.",
            )
        )
    return patient_id


def _token(text: str, systems: CodeSystems) -> CX | None:
    system, bar, value = text.partition("|")
    return cx_of({"system": system, "value": value}, systems) if bar and value else None


def _linked(patient: Json, kind: str, systems: CodeSystems) -> Iterator[CX]:
    """The patients at the ends of links of a type. Raises Refused where one is not named by an identifier."""
    for number, link in enumerate(patient.get("link") or ()):
        if link.get("type") != kind:
            continue
        other = link.get("other") or {}
        identified = cx_of(other.get("identifier") or {}, systems)
        found = identified or _of_reference(str(other.get("reference", "")), systems)
        if found is None:
            raise Refused(
                Issue(
                    IssueType.VALUE,
                    f"The link does not name a patient; send other.identifier with an OID as system, {NAME_ITS_OID}.",
                    f"Patient.link[{number}].other",
                )
            )
        yield found


def _of_reference(reference: str, systems: CodeSystems) -> CX | None:
    """Patient?identifier=system|value."""
    query = reference.partition("Patient?")[2]
    values = [value for name, value in parse_qsl(query) if name == "identifier"]
    return _token(values[0], systems) if len(values) == 1 else None
