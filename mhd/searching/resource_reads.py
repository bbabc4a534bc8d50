"""Resources by their ids: DocumentReference, List, and Patient, which tells identifiers and nothing else."""

from __future__ import annotations

import hashlib

import orjson

from mhd.fhir.operation_outcome import Issue, IssueType, Refused
from mhd.mapping.identifiers import cx_identifier, entry_uuid_of
from mhd.messages import FhirAnswer
from mhd.searching.renderer import Completion
from mhd.searching.search_conditions import ORDERED_BY
from mhd.searching.search_values import one
from xds.hl7v2 import CX
from xds.metadata import ObjectKind
from xds.paged_search import PagedRegistry, PagedSearch
from xds.stored_queries import Operator


async def read_object(
    resource: str,
    resource_id: str,
    kinds: tuple[ObjectKind, ...],
    *,
    registry: PagedRegistry,
    completion: Completion,
) -> FhirAnswer:
    """The resource of a registered object of one of these kinds. Raises Refused (404), XdsError."""
    uuid = entry_uuid_of(resource_id)
    if uuid is not None:
        for kind in kinds:
            named = one("entry_uuid", Operator.ANY_OF, uuid)
            page = await registry.page(PagedSearch(kind, (named,), (), ORDERED_BY[kind], 1))
            for found in page.objects:
                return answer_of(completion.with_base(completion.resource(found)))
    raise missing(resource, resource_id)


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


def missing(resource: str, resource_id: str) -> Refused:
    text = f"There is no {resource} {resource_id[:64]!r} here; search for it by its identifier."
    return Refused(Issue(IssueType.NOT_FOUND, text, http=404))
