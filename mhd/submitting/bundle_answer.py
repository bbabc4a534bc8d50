"""The transaction-response to a Bundle: one entry for each that was sent, in the same order, with where it is now."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import parsed
from mhd.fhir.operation_outcome import Issue, IssueSeverity, IssueType, Outcome, Refused
from mhd.mapping.domain import MhdDomain
from mhd.mapping.identifiers import resource_id
from mhd.mapping.reading import Reading
from mhd.mapping.times import to_the_millisecond
from mhd.messages import FhirAnswer, FhirRequest, PreferReturn
from mhd.patients import PatientKeys
from mhd.searching.resource_reads import AS_IT_CAME
from mhd.submitting.submission_draft import Draft
from mhd.submitting.submission_references import own_entry_uuid
from mhd.submitting.transaction_bundle import BundleEntry, Part, TransactionBundle
from xds.actors import RegistryResponse
from xds.audit import Accessed, AccessedKind, AccessedObject
from xds.errors import XdsError
from xds.metadata import AnyObject, Association, DocumentEntry, DocumentEntryType


class StoredResources(Protocol):
    """The resources of registered objects, as they are read (mhd/document_responder.py). Raises Refused."""

    async def document_reference(self, resource_id: str) -> FhirAnswer:
        """A DocumentReference."""
        ...

    async def list_resource(self, resource_id: str) -> FhirAnswer:
        """A List."""
        ...


logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_CREATED: Final = "201 Created"
_OK: Final = "200 OK"
_FINE: Final = Issue(IssueType.INFORMATIONAL, "Done as it was sent.", severity=IssueSeverity.INFORMATION)


@dataclass(frozen=True, slots=True)
class Submitted:
    """What was kept and registered, and of what.

    documents   by number of the entry that holds a document: that of its DocumentReference
    reading     what there was to warn of
    """

    bundle: TransactionBundle
    draft: Draft
    documents: Mapping[int, int]
    reading: Reading
    response: RegistryResponse

    @property
    def document_entries(self) -> tuple[DocumentEntry, ...]:
        return self.draft.submission.document_entries

    @property
    def documents_kept(self) -> int:
        """How many documents the repository keeps of it."""
        return sum(each.object_type != DocumentEntryType.ON_DEMAND for each in self.document_entries)


@dataclass(frozen=True, slots=True)
class Answering:
    """What an answer is made with."""

    domain: MhdDomain
    keys: PatientKeys
    stored: StoredResources


async def answer_of(submitted: Submitted, request: FhirRequest, answering: Answering) -> FhirAnswer:
    """The answer to a submission that is kept and registered."""
    warnings = _warnings(submitted)
    resources: Mapping[str, FhirAnswer] = {}
    if request.prefer_return is PreferReturn.REPRESENTATION:
        resources = await representations(submitted, answering.stored)
    entries = []
    for entry in submitted.bundle.entries:
        stored = resources.get(submitted.draft.entry_uuids.get(entry.number, ""))
        response = await _response(entry, submitted, answering) | _validators(entry, submitted, stored)
        issues = warnings.get(entry.number, [])
        if not issues and request.prefer_return is PreferReturn.OPERATION_OUTCOME:
            issues = [_FINE]
        if issues:
            response["outcome"] = Outcome(tuple(issues)).resource()
        entries.append(({"resource": _as_json(stored.resource)} if stored else {}) | {"response": response})
    return FhirAnswer(
        {"resourceType": "Bundle", "type": "transaction-response", "entry": entries},
        errors=submitted.response.errors,
        documents_kept=submitted.documents_kept,
        accessed=_accessed(submitted),
    )


def _accessed(submitted: Submitted) -> Accessed:
    draft = submitted.draft
    number = next(each.number for each in submitted.bundle.entries if each.part is Part.SUBMISSION_SET)
    list_id = resource_id(draft.registered.logical_id(draft.entry_uuids[number]))
    return Accessed.of(draft.patient_id, AccessedObject(AccessedKind.SUBMISSION_SET, list_id))


async def _response(entry: BundleEntry, submitted: Submitted, answering: Answering) -> Json:
    is_new, location = await _place(entry, submitted, answering)
    response: Json = {"status": _CREATED if is_new else _OK}
    return response | ({"location": location} if location else {})


def _validators(entry: BundleEntry, submitted: Submitted, read: FhirAnswer | None) -> Json:
    """etag and lastModified, where they are known: they are those of a read.

    read   the resource, where it was read
    """
    if read is not None:
        etag, time = read.etag, read.last_updated
    else:
        etag, time = _etag(entry, submitted), submitted.response.changed_at if _is_changed(entry, submitted) else None
    return ({"etag": f'W/"{etag}"'} if etag else {}) | ({"lastModified": to_the_millisecond(time)} if time else {})


def _is_changed(entry: BundleEntry, submitted: Submitted) -> bool:
    """Whether what an entry is about was made or revised. Patients are not, nor is what was there already."""
    submission = submitted.draft.submission
    joined = {each.source_object for each in submission.associations}
    match entry.part:
        case Part.FOLDER:
            uuid = submitted.draft.entry_uuids[entry.number]
            return uuid in joined or any(each.entry_uuid == uuid for each in submission.folders)
        case Part.SUBMISSION_SET | Part.DOCUMENT | Part.BINARY | Part.FHIR_DOCUMENT:
            return not _is_as_it_was(entry, submitted)
        case part:
            return part is Part.PATCH


def _etag(entry: BundleEntry, submitted: Submitted) -> str | None:
    """Of a document that was made now; that of a List has a mark of its members, and is not known."""
    number = submitted.documents.get(entry.number, entry.number)
    uuid = submitted.draft.entry_uuids.get(number)
    made = next((each for each in submitted.document_entries if each.entry_uuid == uuid), None)
    if made is None:
        return None
    if entry.part is Part.DOCUMENT:
        relates = any(each.source_object == uuid for each in submitted.draft.submission.associations)
        return None if relates or submitted.response.changed_at is None else AS_IT_CAME
    is_kept = entry.part in (Part.BINARY, Part.FHIR_DOCUMENT) and not made.says_delayed
    return (made.hash or "").lower() or None if is_kept else None


def _is_as_it_was(entry: BundleEntry, submitted: Submitted) -> bool:
    """Whether an entry made or changed nothing, because what it makes was there."""
    there = submitted.draft.registered.there
    return entry.number in there or submitted.documents.get(entry.number) in there


async def _place(entry: BundleEntry, submitted: Submitted, answering: Answering) -> tuple[bool, str]:
    """Whether an entry made something new, and where that is."""
    uuids = submitted.draft.entry_uuids
    match entry.part:
        case Part.SUBMISSION_SET | Part.DOCUMENT | Part.FOLDER:
            kind = "DocumentReference" if entry.part is Part.DOCUMENT else "List"
            is_new = any(each.entry_uuid == uuids[entry.number] for each in submitted.draft.submission.objects)
            return is_new, f"{kind}/{resource_id(submitted.draft.registered.logical_id(uuids[entry.number]))}"
        case Part.BINARY | Part.FHIR_DOCUMENT:
            is_new = not _is_as_it_was(entry, submitted)
            return is_new, f"Binary/{resource_id(uuids[submitted.documents[entry.number]])}"
        case Part.PATCH:
            patched = own_entry_uuid(entry.url, answering.domain) or ""
            return False, f"DocumentReference/{resource_id(submitted.draft.registered.logical_id(patched))}"
        case _:
            patient_id = submitted.draft.patient_id
            key = await unless_unable(answering.keys.patient_key(patient_id.text)) if patient_id else None
            return False, f"Patient/{key}" if key else ""


def _warnings(submitted: Submitted) -> Mapping[int, list[Issue]]:
    """What is to be said of each entry; what is of none goes to the SubmissionSet."""
    found: dict[int, list[Issue]] = defaultdict(list)
    of_set = next(each.number for each in submitted.bundle.entries if each.part is Part.SUBMISSION_SET)
    issues = [*submitted.reading.distinct(), *submitted.draft.places.issues(submitted.response.errors)]
    for issue in issues:
        entries = (e.number for e in submitted.bundle.entries if f"{issue.expression}.".startswith(f"{e.path}."))
        found[next(entries, of_set)].append(issue)
    return found


async def representations(submitted: Submitted, stored: StoredResources) -> Mapping[str, FhirAnswer]:
    """The Lists and DocumentReferences of a submission as they are read from now on, by entryUUID."""
    found = {}
    for each in (*submitted.draft.submission.objects, *submitted.draft.registered.there.values()):
        read = None if isinstance(each, Association) else await unless_unable(stored_resource(each, stored))
        if read is not None:
            found[each.entry_uuid] = read
    return found


async def stored_resource(item: AnyObject, stored: StoredResources) -> FhirAnswer:
    """The resource of an object that was registered."""
    read = stored.document_reference if isinstance(item, DocumentEntry) else stored.list_resource
    return await read(resource_id(item.entry_uuid))


async def unless_unable(asked: Awaitable[Answer]) -> Answer | None:
    """What was asked, or None where the registry can not answer: what is registered is answered all the same."""
    try:
        return await asked
    except (Refused, XdsError) as problem:
        logger.warning("a submission is answered in part", extra={"problem": str(problem)})
        return None


def _as_json(resource: Any) -> Json:
    found: Json = parsed(resource) if isinstance(resource, bytes) else resource
    return found
