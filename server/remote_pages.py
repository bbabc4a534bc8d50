"""A Document Registry on another host, as MHD searches it: in pages, by the stored queries of ITI-18.

What a stored query has a parameter for is asked of the registry; the rest of the conditions, the order and the pages
are seen to here. A search that asks for what no registry tells is refused. There is no moment to go back to: what is
registered between two pages may be on the later one, but nothing is skipped, and nothing is on both.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, NamedTuple

from mhd.fhir.operation_outcome import Issue, IssueType, Refused, outcome_of
from registry.column_matching import is_met
from registry.metadata_store import StoredObject
from registry.page_links import with_links
from registry.search_columns import REGISTRATION_COLUMNS, Column, search_columns
from xds.actors import DocumentRegistry, ObjectCodec, OutcomeUnknown, QueryRequest, QueryResponse, ReturnType
from xds.errors import ErrorCode, ResponseStatus, XdsError
from xds.metadata import (
    RELATIONSHIPS,
    AnyObject,
    Association,
    AssociationType,
    AvailabilityStatus,
    DocumentEntryType,
    ObjectKind,
    SubmissionSet,
)
from xds.paged_search import NEWEST, Demand, Page, PagedObject, PagedSearch, Place
from xds.stored_queries import (
    METADATA_LEVEL,
    OF_TIMES,
    STORED_QUERIES,
    Condition,
    Operator,
    Parameter,
    StoredQuery,
    coded_parameter,
)

log = logging.getLogger(__name__)

_QUERIES: Final = {row.name: row for row in STORED_QUERIES.values()}
_FIND: Final = {
    ObjectKind.DOCUMENT_ENTRY: _QUERIES["FindDocuments"],
    ObjectKind.SUBMISSION_SET: _QUERIES["FindSubmissionSets"],
    ObjectKind.FOLDER: _QUERIES["FindFolders"],
}
_GET: Final = {
    ObjectKind.DOCUMENT_ENTRY: _QUERIES["GetDocuments"],
    ObjectKind.SUBMISSION_SET: _QUERIES["GetSubmissionSetAndContents"],
    ObjectKind.FOLDER: _QUERIES["GetFolders"],
}
_GET_ASSOCIATIONS: Final = _QUERIES["GetAssociations"]
_GET_SUBMISSION_SETS: Final = _QUERIES["GetSubmissionSets"]
_EVERYTHING: Final = {
    "availability_status": tuple(each.value for each in AvailabilityStatus),
    "object_type": tuple(each.value for each in DocumentEntryType),
}
"""Values of parameters that leave something out where they are not sent."""
_ASKED_FOR: Final = {
    Operator.EQUALS: frozenset({Operator.EQUALS, Operator.ANY_OF, Operator.ALL_OF_ANY_OF}),
    Operator.ANY_OF: frozenset({Operator.ANY_OF, Operator.ALL_OF_ANY_OF}),
    Operator.ALL_OF_ANY_OF: frozenset({Operator.ALL_OF_ANY_OF}),
    Operator.AT_OR_AFTER: frozenset({Operator.AT_OR_AFTER}),
    Operator.BEFORE: frozenset({Operator.BEFORE}),
}
"""By the operator of a condition: those of the parameters that ask for the same. Patterns are not left to others."""
_MOST_AT_ONCE: Final = 4
_NAMED_AT_ONCE: Final = 100
_SUBMITTED: Final = "submitted"
"""A column of DocumentEntries that the SubmissionSet tells which brought them."""


class RemotePages:
    """A PagedRegistry (xds/paged_search.py)."""

    def __init__(self, registry: DocumentRegistry, codec: ObjectCodec, secret: bytes) -> None:
        """secret: 32 octets, the same for every process that serves these searches."""
        self._registry = registry
        self._codec = codec
        self._secret = secret

    async def page(self, search: PagedSearch) -> Page:
        """See PagedRegistry. Raises Refused for what no registry tells, XdsError as the registry says."""
        _refuse_what_no_registry_tells(search)
        demands = [each for each in search.conditions if each != NEWEST]
        at_first = [each for each in demands if not _is_of_submission(each)]
        met = [each for each in await self._found(search) if is_met(each, at_first)]
        times: Mapping[str, Column] = {}
        if search.ordered_by == _SUBMITTED or len(at_first) < len(demands):
            times = await self._submitted(met)
            met = [each for each in met if is_met(each, demands, {_SUBMITTED: times.get(each.entry_uuid)})]
        places = ((_place(each, search, times.get(each.entry_uuid)), each) for each in met)
        ordered = sorted(places, key=_by_place, reverse=search.descending)
        following = [each for each in ordered if search.after is None or _is_after(each[0], search)]
        shown = following[: search.limit]
        linked, dates = await asyncio.gather(
            self._linked([_paged(place, item, self._codec) for place, item in shown]),
            self._dates([item for _, item in shown], times),
        )
        dated = tuple(each._replace(submitted=dates.get(each.entry_uuid)) for each in linked)
        return Page(dated, len(following) > search.limit > 0, None if search.after else len(met), "")

    async def _dates(self, shown: Sequence[AnyObject], known: Mapping[str, Column]) -> Mapping[str, str]:
        """When the documents of a page were submitted, 14 digits; a page without that is better than none."""
        if not known and shown and shown[0].kind is ObjectKind.DOCUMENT_ENTRY:
            try:
                known = await self._submitted(shown)
            except (Refused, XdsError):
                log.warning("The registry did not tell when documents were submitted.")
        return {uuid: each[0] for uuid, each in known.items() if isinstance(each, tuple)}

    async def patient_of(self, _patient_key: str) -> str | None:
        """None: without a store of its own a server has no keys of patients."""
        return None

    async def patient_key(self, _patient_id: str) -> str | None:
        """None: patients are told by their identifiers."""
        return None

    async def survivor_of(self, patient_id: str) -> str:
        """The same: no query tells who was merged."""
        return patient_id

    async def related_to(self, entry_uuids: Collection[str]) -> Collection[str]:
        """See PagedRegistry. Raises XdsError as the registry says."""
        found = await self._objects([_request(_GET_ASSOCIATIONS, {"entry_uuid": (tuple(sorted(entry_uuids)),)})])
        links = [each for each in found if isinstance(each, Association) and each.association_type in RELATIONSHIPS]
        return {each.source_object for each in links if each.target_object in entry_uuids}

    async def relating(self, patient_ids: Collection[str]) -> Collection[str]:
        """See PagedRegistry. All documents of the patients are asked about. Raises XdsError as the registry says."""
        everything = PagedSearch(ObjectKind.DOCUMENT_ENTRY, (), tuple(patient_ids), "creation_time", 0)
        documents = sorted(each.entry_uuid for each in await self._found(everything))
        parts = [documents[start : start + _NAMED_AT_ONCE] for start in range(0, len(documents), _NAMED_AT_ONCE)]
        found = await self._objects([_request(_GET_ASSOCIATIONS, {"entry_uuid": (tuple(each),)}) for each in parts])
        links = [each for each in found if isinstance(each, Association) and each.association_type in RELATIONSHIPS]
        return {each.source_object for each in links}.intersection(documents)

    async def removed(self, _entry_uuid: str) -> ObjectKind | None:
        """None: no stored query tells what was removed."""
        return None

    def secret_for(self, purpose: str) -> bytes:
        """See PagedRegistry."""
        return hmac.new(self._secret, purpose.encode(), hashlib.sha256).digest()

    async def _found(self, search: PagedSearch) -> list[AnyObject]:
        """What may meet the conditions, each once."""
        named = [each for each in search.conditions if isinstance(each, Condition) and each.attribute in _NAMES]
        if named:
            objects = await self._named(search.kind, named[0], all_versions=NEWEST not in search.conditions)
        else:
            requests = [_request_for_patient(_FIND[search.kind], search, each) for each in search.patient_ids]
            objects = await self._objects(requests)
        found = {item.entry_uuid: item for item in objects if item.kind is search.kind}
        return [each for each in found.values() if not search.patient_ids or _patient(each) in search.patient_ids]

    async def _named(self, kind: ObjectKind, named: Condition, *, all_versions: bool) -> list[AnyObject]:
        """Objects by their names.

        Without `all_versions` the newest ones: a registry that knows versions leaves out the others at $MetadataLevel
        1. One that knows none refuses logicalIDs and the level, and then the entryUUID is all there is to go by.
        """
        if all_versions and kind is not ObjectKind.SUBMISSION_SET:
            requests = [_at_second_level(each) for each in _requests_by_name(_GET[kind], named)]
            with _where_versions_are_known():
                return await self._objects(requests)
        if named.attribute != "logical_id":
            return await self._objects(list(_requests_by_name(_GET[kind], named)))
        by_entry_uuid = Condition("entry_uuid", named.operator, named.groups)
        found = await self._objects(list(_requests_by_name(_GET[kind], by_entry_uuid)))
        others = set(named.groups[0]) - {each.logical_id for each in found}
        if others:
            by_logical_id = Condition("logical_id", named.operator, (tuple(sorted(others)),))
            with _where_versions_are_known():
                found += await self._objects(list(_requests_by_name(_GET[kind], by_logical_id)))
        return found

    async def _submitted(self, entries: Sequence[AnyObject]) -> Mapping[str, Column]:
        """By entryUUID: the time of the SubmissionSet that brought it; what is told of none is left out."""
        of_patients: dict[str, list[str]] = {}
        for each in entries:
            of_patients.setdefault(_patient(each), []).append(each.entry_uuid)
        requests = [
            _request(_GET_SUBMISSION_SETS, {"entry_uuid": (tuple(uuids[start : start + _NAMED_AT_ONCE]),)})
            for uuids in of_patients.values()
            for start in range(0, len(uuids), _NAMED_AT_ONCE)
        ]
        found = await self._objects(requests)
        times = {each.entry_uuid: each.submission_time for each in found if isinstance(each, SubmissionSet)}
        links = [each for each in found if isinstance(each, Association) and each.submission_set_status != "Reference"]
        known = [(each.target_object, times.get(each.source_object)) for each in links]
        return {uuid: (time.first, time.first) for uuid, time in known if time and not time.problem()}

    async def _objects(self, requests: Sequence[QueryRequest]) -> list[AnyObject]:
        """What the queries find. What has no logicalID is the first version of itself."""
        asking = asyncio.Semaphore(_MOST_AT_ONCE)

        async def asked(request: QueryRequest) -> QueryResponse:
            async with asking:
                return await _answered(self._registry.stored_query(request))

        responses = await asyncio.gather(*map(asked, requests))
        items = [self._codec.read(found.ebrim) for each in responses for found in each.found if found.ebrim is not None]
        return [each if each.logical_id else replace(each, logical_id=each.entry_uuid) for each in items]

    async def _linked(self, objects: Sequence[PagedObject]) -> tuple[PagedObject, ...]:
        """One query for the associations of the page; where there are any, one or two more for what they lead to."""
        if not objects:
            return ()
        request = _request(_GET_ASSOCIATIONS, {"entry_uuid": ((*(each.entry_uuid for each in objects),),)})
        shown = RELATIONSHIPS if objects[0].kind is ObjectKind.DOCUMENT_ENTRY else {AssociationType.HAS_MEMBER.value}
        links = [
            _reference(each)
            for each in await self._objects([request])
            if isinstance(each, Association) and each.association_type in shown
        ]
        targets = Condition("entry_uuid", Operator.ANY_OF, (tuple({each.target_object or "" for each in links}),))
        of_sets = objects[0].kind is ObjectKind.SUBMISSION_SET
        kinds = [ObjectKind.DOCUMENT_ENTRY, *([ObjectKind.FOLDER] if of_sets else [])]
        found = [
            item for kind in kinds for item in (await self._named(kind, targets, all_versions=True) if links else ())
        ]
        return with_links(objects, links, [_reference(each) for each in found])


_NAMES: Final = ("entry_uuid", "logical_id", "unique_id")


def _refuse_what_no_registry_tells(search: PagedSearch) -> None:
    untold = REGISTRATION_COLUMNS[search.kind].keys() - {_SUBMITTED}
    if any(each.attribute in untold for demand in search.conditions if demand != NEWEST for each in _parts(demand)):
        text = "The registry behind this server does not tell when it changed something; leave that parameter out."
        raise Refused(Issue(IssueType.NOT_SUPPORTED, text, "_lastUpdated"))


def _is_of_submission(demand: Demand) -> bool:
    return any(each.attribute == _SUBMITTED for each in _parts(demand))


def _parts(demand: Demand) -> Iterator[Condition]:
    if isinstance(demand, Condition):
        yield demand
    else:
        yield from (condition for alternative in demand.alternatives for condition in alternative)


# What is asked of the registry -------------------------------------------------------------------------------------


class _Slot(NamedTuple):
    name: str
    values: tuple[str, ...]


def _request_for_patient(row: StoredQuery, search: PagedSearch, patient_id: str) -> QueryRequest:
    """The stored query for as much of a search as it has parameters for."""
    wanted: dict[str, tuple[tuple[str, ...], ...]] = {"patient_id": ((patient_id,),)}
    of_times: list[_Slot] = []
    for condition in search.conditions:
        parameter = _parameter_for(row, condition) if isinstance(condition, Condition) else None
        if parameter is None or not isinstance(condition, Condition):
            continue
        if condition.operator in OF_TIMES:
            of_times.append(_Slot(parameter.name, (condition.groups[0][0],)))
        elif parameter.operator is Operator.ALL_OF_ANY_OF:
            wanted[condition.attribute] = (*wanted.get(condition.attribute, ()), *condition.groups)
        else:
            wanted.setdefault(condition.attribute, condition.groups)
    request = _request(row, wanted)
    times = {each.name: each.values for each in reversed(of_times)}  # a time may be asked for once
    return QueryRequest(request.query_id, request.return_type, (*request.parameters, *times.items()))


def _parameter_for(row: StoredQuery, condition: Condition) -> Parameter | None:
    """The parameter that asks for the same; None: there is none, or it can not carry what is asked for."""
    asking = _ASKED_FOR.get(condition.operator, frozenset())
    for parameter in row.parameters:
        if parameter.attribute == condition.attribute and parameter.operator in asking:
            return parameter if _can_carry(parameter, condition) else None
    return None


def _can_carry(parameter: Parameter, condition: Condition) -> bool:
    try:
        for value in (value for group in condition.groups for value in group):
            if parameter.read:
                parameter.read(value)
    except ValueError:
        return False
    return all(condition.groups)


def _requests_by_name(row: StoredQuery, named: Condition) -> Iterator[QueryRequest]:
    """One query, or where it takes one name at a time, one for each."""
    parameter = next(each for each in row.one_of if each.attribute == named.attribute)
    names = named.groups[0]
    for some in [names] if parameter.operator is Operator.ANY_OF else [(each,) for each in names]:
        yield _request(row, {named.attribute: (some,)})


def _request(row: StoredQuery, wanted: dict[str, tuple[tuple[str, ...], ...]]) -> QueryRequest:
    slots: list[_Slot] = []
    for parameter in (*row.one_of, *row.parameters):
        if parameter.operator in OF_TIMES or parameter.instead_of:
            continue
        everything = _EVERYTHING.get(parameter.attribute) if parameter.of is not ObjectKind.ASSOCIATION else None
        groups = wanted.get(parameter.attribute) or ((everything,) if everything else ())
        slots += [_Slot(*coded_parameter(row.id, parameter.name, group)) for group in groups]
    return QueryRequest(row.id, ReturnType.LEAF_CLASS, tuple((each.name, each.values) for each in slots))


@contextmanager
def _where_versions_are_known() -> Iterator[None]:
    """Passes over what a registry that knows no versions refuses; that it can not answer now says nothing of that."""
    try:
        yield
    except XdsError as refusal:
        if outcome_of(refusal.errors).is_for_now:
            raise


async def _answered(asking: Awaitable[QueryResponse]) -> QueryResponse:
    """The answer. Raises XdsError where there is none, or it is a refusal."""
    try:
        response = await asking
    except OutcomeUnknown as problem:
        raise XdsError(ErrorCode.REGISTRY_NOT_AVAILABLE, "The registry did not answer; try again later.") from problem
    if response.status is ResponseStatus.FAILURE:
        raise XdsError.of(response.errors)
    return response


# What is made of the answer ----------------------------------------------------------------------------------------


def _place(item: AnyObject, search: PagedSearch, submitted: Column) -> Place:
    time = submitted if search.ordered_by == _SUBMITTED else search_columns(item)[search.ordered_by]
    return Place(time[0] if time else "", item.entry_uuid)


def _by_place(each: tuple[Place, AnyObject]) -> Place:
    return each[0]


def _is_after(place: Place, search: PagedSearch) -> bool:
    after = search.after
    return after is None or (place < after if search.descending else place > after)


def _patient(item: AnyObject) -> str:
    return item.patient_id.text if not isinstance(item, Association) and item.patient_id else ""


def _paged(place: Place, item: AnyObject, codec: ObjectCodec) -> PagedObject:
    return PagedObject(
        item.kind,
        item.entry_uuid,
        _patient(item),
        place,
        None,
        codec.written(item),
        logical_id=item.logical_id or item.entry_uuid,
        version=item.version or "1",
    )


def _reference(item: AnyObject) -> StoredObject:
    link = item if isinstance(item, Association) else None
    return StoredObject(
        item.kind,
        item.entry_uuid,
        "",
        source_object=link.source_object if link else None,
        target_object=link.target_object if link else None,
        association_type=link.association_type if link else None,
        logical_id=item.logical_id,
    )


def _at_second_level(request: QueryRequest) -> QueryRequest:
    return replace(request, parameters=(*request.parameters, (METADATA_LEVEL, ("2",))))
