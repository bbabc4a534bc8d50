"""Resources by their ids: DocumentReference, List, and Patient, which tells identifiers and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import orjson

from mhd.fhir.exact_text import Json
from mhd.fhir.operation_outcome import Issue, IssueType, Refused
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.identifiers import cx_identifier, entry_uuid_of
from mhd.mapping.identifiers import resource_id as id_of
from mhd.messages import FhirAnswer
from mhd.searching.renderer import Completion
from mhd.searching.search_conditions import ORDERED_BY, VERSIONED, any_version, meeting, shown_of
from mhd.searching.search_values import one
from xds.audit import Accessed, AccessedKind, AccessedObject
from xds.hl7v2 import CX
from xds.metadata import ObjectKind
from xds.paged_search import Link, PagedObject, PagedRegistry, PagedSearch
from xds.stored_queries import Condition, Operator

AS_IT_CAME = "1"
"""The ETag of a DocumentReference of which there is one version, as long as it tells what was registered, no more."""
_FIRST = "1"
_ACCESSED = {
    ObjectKind.DOCUMENT_ENTRY: AccessedKind.DOCUMENT_ENTRY,
    ObjectKind.SUBMISSION_SET: AccessedKind.SUBMISSION_SET,
    ObjectKind.FOLDER: AccessedKind.FOLDER,
}


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
    return shown(await newest_of(resource, resource_id, kinds, registry), completion)


async def read_version(
    resource: str,
    resource_id: str,
    version: str,
    kinds: tuple[ObjectKind, ...],
    *,
    registry: PagedRegistry,
    links: LinksOfPast,
    completion: Completion,
) -> FhirAnswer:
    """A version of a registered object of one of these kinds (FHIR R4: http.html, "vread").

    The newest is told as it is now. A past one is told as it was registered, with what its associations said, and
    superseded, as the registry says of it.

    resource_id   as for read_object()
    links         tells what the associations of a past version said
    Raises Refused: 404, or 410 where the object, or this version of it, was removed; XdsError.
    """
    newest = await newest_of(resource, resource_id, kinds, registry)
    found: PagedObject | None = newest
    if newest.version != version:
        found = next((each for each in await older_versions(newest, registry) if each.version == version), None)
        if found is None:
            raise _no_version(f"{resource} {resource_id!r}", version, newest.version)
        found = found._replace(links=tuple((await links([found]))[found.entry_uuid]))
    told = shown(found or newest, completion)
    of_version = f"/_history/{version}"
    accessed = tuple(each._replace(id=f"{each.id}{of_version}") for each in told.accessed.objects)
    return replace(
        told,
        headers={"Content-Location": f"{told.headers['Content-Location']}{of_version}"},
        accessed=replace(told.accessed, objects=accessed),
    )


LinksOfPast: TypeAlias = Callable[[Sequence[PagedObject]], Awaitable[Mapping[str, Sequence[Link]]]]
"""By entryUUID: what begins at versions that are not the newest, whatever became of it since. Raises Refused."""


async def newest_of(
    resource: str, resource_id: str, kinds: tuple[ObjectKind, ...], registry: PagedRegistry
) -> PagedObject:
    """The newest version of a registered object. Raises Refused: 404, or 410 where it was removed; XdsError."""
    uuid = entry_uuid_of(resource_id)
    found = await _named(uuid, kinds, registry) if uuid else None
    if found is None:
        raise await _not_there(resource, resource_id, kinds, registry)
    return found


async def _named(uuid: str, kinds: Sequence[ObjectKind], registry: PagedRegistry) -> PagedObject | None:
    """The newest version of the object that has this logicalID, or a version with this entryUUID."""
    for kind in kinds:
        attribute = "logical_id" if kind in VERSIONED else "entry_uuid"
        for found in await _newest(one(attribute, Operator.ANY_OF, uuid), kind, registry):
            return found
    for kind in kinds:
        if kind in VERSIONED:
            for found in await _newest(await any_version([uuid], kind, registry), kind, registry):
                return found
    return None


async def older_versions(newest: PagedObject, registry: PagedRegistry) -> Sequence[PagedObject]:
    """The versions of an object but the newest, in no order. Raises XdsError."""
    if newest.kind not in VERSIONED:
        return ()
    named = one("logical_id", Operator.ANY_OF, newest.logical_id or newest.entry_uuid)
    return [each for each in await meeting(named, newest.kind, registry) if each.entry_uuid != newest.entry_uuid]


def _no_version(what: str, version: str, newest: str) -> Refused:
    """Versions follow one another without gap, so what is missing before the newest was removed."""
    if version.isdecimal() and newest.isdecimal() and 0 < int(version) < int(newest) and not version.startswith("0"):
        return Refused(gone(f"The version {version} of {what} was removed; the newest is {newest}."))
    text = f"There is no version {version[:64]!r} of {what}; the newest is {newest}."
    return Refused(Issue(IssueType.NOT_FOUND, text, http=404))


async def _not_there(
    resource: str, resource_id: str, kinds: Collection[ObjectKind], registry: PagedRegistry
) -> Refused:
    uuid = entry_uuid_of(resource_id)
    if uuid and await registry.removed(uuid) in kinds:
        return Refused(gone(f"The {resource} {resource_id!r} was removed; nothing is left of it."))
    return missing(resource, resource_id)


async def _newest(named: Condition, kind: ObjectKind, registry: PagedRegistry) -> Sequence[PagedObject]:
    search = PagedSearch(kind, (named, *shown_of(kind)), (), ORDERED_BY[kind], 1)
    return (await registry.page(search)).objects


def shown(found: PagedObject, completion: Completion) -> FhirAnswer:
    """An object as it is answered to a read of it."""
    resource = completion.with_base(completion.resource(found))
    answer = answer_of(resource)
    headers = {"Content-Location": orjson.loads(completion.with_base(completion.full_url(found)))}
    objects = (AccessedObject(_ACCESSED[found.kind], id_of(found.logical_id or found.entry_uuid)),)
    accessed = Accessed((found.patient_id,), objects)
    return replace(answer, etag=_etag(found, answer), headers=headers, accessed=accessed)


def _etag(found: PagedObject, answer: FhirAnswer) -> str | None:
    """The version, and a mark of what may be told otherwise under the same number.

    That is status, relations and members; and all there is after an update, as removed versions leave their numbers.
    """
    is_as_it_came = b'"status":"current"' in (found.whole_resource or b"")
    return AS_IT_CAME if is_as_it_came and found.version == _FIRST else f"{found.version}.{answer.etag}"


async def read_patient(resource_id: str, *, registry: PagedRegistry, systems: CodeSystems) -> FhirAnswer:
    """The Patient for whom something is registered; of one that was merged, also by whom it was replaced.

    systems   of identifiers

    Raises Refused (404), XdsError.
    """
    patient_id = await registry.patient_of(resource_id)
    if patient_id is None:
        raise missing("Patient", resource_id)
    identifier = cx_identifier(CX(patient_id), systems)
    resource: Json = {"resourceType": "Patient", "id": resource_id, "identifier": [identifier]}
    survivor = await registry.survivor_of(patient_id)
    if survivor != patient_id:
        key = await registry.patient_key(survivor)
        other: Json = {"reference": f"Patient/{key}"} if key else {}
        other |= {"type": "Patient", "identifier": cx_identifier(CX(survivor), systems)}
        resource["link"] = [{"other": other, "type": "replaced-by"}]
    accessed = Accessed((patient_id,), (AccessedObject(AccessedKind.PATIENT, resource_id),))
    return replace(answer_of(orjson.dumps(resource)), accessed=accessed)


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
