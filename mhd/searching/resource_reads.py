"""Resources by their ids: DocumentReference, List, and Patient, which tells identifiers and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import orjson

from mhd.fhir.operation_outcome import Issue, IssueType, Refused
from mhd.mapping.identifiers import cx_identifier, entry_uuid_of
from mhd.messages import FhirAnswer
from mhd.searching.renderer import Completion
from mhd.searching.search_conditions import ORDERED_BY, VERSIONED, any_version, shown_of
from mhd.searching.search_values import one
from xds.hl7v2 import CX
from xds.metadata import ObjectKind
from xds.paged_search import PagedObject, PagedRegistry, PagedSearch
from xds.stored_queries import Condition, Operator

_FIRST = "1"


async def read_object(
    resource: str,
    resource_id: str,
    kinds: tuple[ObjectKind, ...],
    *,
    registry: PagedRegistry,
    completion: Completion,
) -> FhirAnswer:
    """The newest version of a registered object of one of these kinds.

    resource_id   its logicalID; the entryUUID of one of its versions leads there as well
    Raises Refused: 404, or 410 where it was removed; XdsError.
    """
    uuid = entry_uuid_of(resource_id)
    if uuid is None:
        raise missing(resource, resource_id)
    for kind in kinds:
        attribute = "logical_id" if kind in VERSIONED else "entry_uuid"
        for found in await _newest(one(attribute, Operator.ANY_OF, uuid), kind, registry):
            return _shown(found, completion)
    for kind in kinds:
        if kind in VERSIONED:
            for found in await _newest(await any_version([uuid], kind, registry), kind, registry):
                return _shown(found, completion)
    if await registry.removed(uuid) in kinds:
        raise Refused(gone(f"The {resource} {resource_id!r} was removed; nothing is left of it."))
    raise missing(resource, resource_id)


async def _newest(named: Condition, kind: ObjectKind, registry: PagedRegistry) -> Sequence[PagedObject]:
    search = PagedSearch(kind, (named, *shown_of(kind)), (), ORDERED_BY[kind], 1)
    return (await registry.page(search)).objects


def _shown(found: PagedObject, completion: Completion) -> FhirAnswer:
    resource = completion.with_base(completion.resource(found))
    answer = answer_of(resource)
    headers = {"Content-Location": orjson.loads(completion.with_base(completion.full_url(found)))}
    return replace(answer, etag=_etag(found, answer), headers=headers)


def _etag(found: PagedObject, answer: FhirAnswer) -> str | None:
    """The version, and a mark of what may be told otherwise under the same number.

    That is status, relations and members; and all there is after an update, as removed versions leave their numbers.
    """
    is_as_it_came = found.resource is not None and not found.links and b'"status":"current"' in found.resource
    return found.version if is_as_it_came and found.version == _FIRST else f"{found.version}.{answer.etag}"


async def read_patient(resource_id: str, *, registry: PagedRegistry) -> FhirAnswer:
    """The Patient for whom something is registered. Raises Refused (404), XdsError."""
    patient_id = await registry.patient_of(resource_id)
    if patient_id is None:
        raise missing("Patient", resource_id)
    resource = {"resourceType": "Patient", "id": resource_id, "identifier": [cx_identifier(CX(patient_id))]}
    return answer_of(orjson.dumps(resource))


def answer_of(resource: bytes) -> FhirAnswer:
    """What is answered to a read: with an ETag of what it says, which changes as soon as that does."""
    last_updated = orjson.loads(resource).get("meta", {}).get("lastUpdated")
    return FhirAnswer(resource, etag=hashlib.sha256(resource).hexdigest()[:16], last_updated=last_updated)


def gone(sentence: str, xds_code: str | None = None) -> Issue:
    """What was here once."""
    return Issue(IssueType.DELETED, sentence, xds_code=xds_code, http=410)


def missing(resource: str, resource_id: str) -> Refused:
    text = f"There is no {resource} {resource_id[:64]!r} here; search for it by its identifier."
    return Refused(Issue(IssueType.NOT_FOUND, text, http=404))
