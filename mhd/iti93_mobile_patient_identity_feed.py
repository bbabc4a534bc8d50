"""Mobile Patient Identity Feed [ITI-93], as a Document Registry takes it.

PMIR 2:3.93. A message is a Bundle: a MessageHeader, and a history of Patients that were created, updated or replaced.
All of it is judged before any of it is taken: a message that can not be, be it by itself or by what is registered,
changes nothing. It is taken patient by patient, each whole. Where the server fails in the midst of it, or another feed
merges one of its patients meanwhile, some were taken; sent again it does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from mhd.fhir.fhir_structure import structure_problems
from mhd.fhir.operation_outcome import Issue, IssueType, Refused, outcome_of
from mhd.iti104_patient_identity_feed import REPLACED_BY, refused
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.identifiers import NAME_ITS_OID, cx_of, cxs_of
from mhd.messages import FhirAnswer, Json
from xds.audit import Accessed, AccessedKind, AccessedObject
from xds.errors import XdsError
from xds.hl7v2 import CX
from xds.patient_feeds import FeedRefused, PatientFeeds, Told

EVENT: Final = "urn:ihe:iti:pmir:2019:patient-feed"
_TAKEN: Final = ("POST", "PUT")


@dataclass(frozen=True, slots=True)
class MobilePatientFeed:
    """Takes messages. systems: of the identifiers in them."""

    feeds: PatientFeeds
    systems: CodeSystems

    async def process(self, message: Any) -> FhirAnswer:
        """The message that says how it went.

        message   what was sent, not yet judged
        Raises Refused.
        """
        if problems := structure_problems(message, "Bundle"):
            raise Refused(*problems)
        header = _header(message)
        history = _history(message)
        by_url = {str(entry.get("fullUrl", "")): _patient(entry) for entry in history}
        sent = AccessedObject(AccessedKind.MESSAGE, _name_of(message, header))
        try:
            judged = [_judged(number, entry, by_url, self.systems) for number, entry in enumerate(history)]
            concerned = await self._taken(judged)
        except Refused as refusal:
            refusal.accessed = Accessed(self._named(history), (sent,))
            raise
        except XdsError as refusal:
            accessed = Accessed(self._named(history), (sent,))
            raise Refused(*outcome_of(refusal.errors).issues, accessed=accessed) from refusal
        return FhirAnswer(_response(header), accessed=Accessed(_each_once(concerned), (sent,)))

    def _named(self, history: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """Everybody of whom a message is that was refused; whoever has no id of this domain, by the first he has."""
        named = (cxs_of(_patient(each), self.systems) for each in history)
        return _each_once(self.feeds.own(each) or each[0] for each in named if each)

    async def _taken(self, judged: Sequence[Told]) -> list[CX]:
        """Take what a message says; everybody whom that concerns. Raises Refused."""
        concerned: list[CX] = []
        try:
            await self.feeds.judge(judged)
        except FeedRefused as refusal:
            raise _refused(refusal, refusal.number) from refusal
        for number, told in enumerate(judged):
            try:
                if told.surviving:
                    concerned += await self.feeds.merge(told.surviving, told.patient_ids)
                else:
                    concerned.append(await self.feeds.admit(told.patient_ids))
            except FeedRefused as refusal:
                raise _refused(refusal, number) from refusal
        return concerned


def _refused(refusal: FeedRefused, number: int) -> Refused:
    return refused(refusal, f"Bundle.entry[1].resource.entry[{number}].resource.identifier")


def _each_once(patient_ids: Iterable[CX]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.text for each in patient_ids))


def _name_of(message: Json, header: Json) -> str:
    """What its sender calls the MessageHeader: its URL, or its id; "" where it has neither."""
    return str(message["entry"][0].get("fullUrl") or header.get("id") or "")


def _header(message: Json) -> Json:
    entries = message.get("entry") or []
    header = (entries[0].get("resource") or {}) if entries else {}
    if message.get("resourceType") != "Bundle" or message.get("type") != "message":
        raise Refused(Issue(IssueType.VALUE, "Send a Bundle of the type message.", "Bundle.type"))
    if header.get("resourceType") != "MessageHeader" or header.get("eventUri") != EVENT:
        raise Refused(
            Issue(
                IssueType.NOT_SUPPORTED,
                f"The first entry is no MessageHeader with the eventUri {EVENT}; other messages are not taken.",
                "Bundle.entry[0].resource",
            )
        )
    return dict(header)


def _history(message: Json) -> list[Mapping[str, Any]]:
    bundles = [(entry.get("resource") or {}) for entry in message["entry"][1:]]
    if len(bundles) != 1 or bundles[0].get("resourceType") != "Bundle" or bundles[0].get("type") != "history":
        raise Refused(
            Issue(IssueType.REQUIRED, "The second entry is to be one Bundle of the type history.", "Bundle.entry[1]")
        )
    return list(bundles[0].get("entry") or [])


def _patient(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return entry.get("resource") or {}


def _judged(
    number: int, entry: Mapping[str, Any], by_url: Mapping[str, Mapping[str, Any]], systems: CodeSystems
) -> Told:
    patient, place = _patient(entry), f"Bundle.entry[1].resource.entry[{number}]"
    if patient.get("resourceType") != "Patient":
        raise Refused(Issue(IssueType.VALUE, "The entry holds no Patient; send Patients only.", place))
    if (entry.get("request") or {}).get("method") not in _TAKEN:
        raise Refused(
            Issue(
                IssueType.NOT_SUPPORTED,
                "The entry is neither a POST nor a PUT; a registry forgets no patient.",
                f"{place}.request.method",
                http=422,
            )
        )
    survivors: list[CX] = []
    for link in patient.get("link") or ():
        if link.get("type") == REPLACED_BY:
            survivors = list(_survivors(link.get("other") or {}, by_url, systems))
            if not survivors:
                raise Refused(
                    Issue(
                        IssueType.VALUE,
                        "The link names no patient; send the other Patient in the same message, or other.identifier "
                        f"with an OID as system, {NAME_ITS_OID}.",
                        f"{place}.resource.link",
                    )
                )
    return Told(cxs_of(patient, systems), survivors)


def _survivors(other: Mapping[str, Any], by_url: Mapping[str, Mapping[str, Any]], systems: CodeSystems) -> Iterator[CX]:
    named = cx_of(other.get("identifier") or {}, systems)
    if named is not None:
        yield named
        return
    reference = str(other.get("reference", ""))
    for url, patient in by_url.items():
        if reference and (url == reference or url.endswith(f"/{reference}")):
            yield from cxs_of(patient, systems)


def _response(header: Json) -> Json:
    identifier = str(header.get("id") or "unknown")
    answer = {
        "resourceType": "MessageHeader",
        "eventUri": EVENT,
        "source": {"name": "Toimik", "endpoint": "urn:toimik"},
        "response": {"identifier": identifier, "code": "ok"},
    }
    return {
        "resourceType": "Bundle",
        "type": "message",
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "entry": [{"fullUrl": uuid4().urn, "resource": answer}],
    }
