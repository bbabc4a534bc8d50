"""Registry Stored Query [ITI-18], the registry's part; it also answers what ITI-51 asks.

ITI TF-2: 3.18. What a query asks is a row of xds/stored_queries.py; here is how each kind of answer is found.
Most answers are one read of the store. The others walk along associations: a fixed number of reads, however many
objects there are, and of references only. So it is known what will be returned, how much it is and that it is of one
patient, before anything is rendered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias

from registry.metadata_store import Criteria, Finder, Match, StoredObject
from xds.actors import Found, QueryRequest, QueryResponse, ReturnType
from xds.errors import ErrorCode, ResponseStatus, XdsError
from xds.metadata import OFFLINE, UPDATE_OPERATIONS, AssociationType, AvailabilityStatus, ObjectKind
from xds.stored_queries import Answer, BoundQuery, Condition, Operator, bind
from xds.transactions import ITI_18, Transaction

Objects: TypeAlias = tuple[StoredObject, ...]


async def stored_query(
    request: QueryRequest, *, store: Finder, max_results: int | None, transaction: Transaction = ITI_18
) -> QueryResponse:
    """The objects that a stored query asks for, or references to them.

    store         finds what belongs to a patient under any of its ids (registry/merged_patients.py)
    max_results   most objects in an answer with returnType LeafClass, None: any number; references are not limited
    transaction   of which the query has to be; ITI-51 is answered here as well
    Raises XdsError with all that is wrong with the request (see bind), or XDSTooManyResults, or
    XDSResultNotSinglePatient; and StoreBusy.
    """
    query = bind(request, transaction)
    if query.return_type is ReturnType.OBJECT_REF:
        found = await _references(query, store)
    elif query.query.answer is Answer.MATCHES:
        found = await _matches_in_full(query, store, max_results)
    else:
        found = await _in_full(query, await _references(query, store), store, max_results)
    return QueryResponse(
        ResponseStatus.SUCCESS,
        tuple(
            [Found(each.kind, each.entry_uuid, each.ebrim, each.home_community_id, each.last_updated) for each in found]
        ),
    )


async def _matches_in_full(query: BoundQuery, store: Finder, max_results: int | None) -> Objects:
    found = await _find_matches(query, store, limit=None if max_results is None else max_results + 1)
    if max_results is not None and len(found) > max_results:
        return await _in_full(query, await _references(query, store), store, max_results)
    found = await _without_older_versions(query, found, store)
    _refuse_what_no_answer_may_hold(query, found, max_results)
    return found


async def _in_full(query: BoundQuery, found: Objects, store: Finder, max_results: int | None) -> Objects:
    """What was found as references, rendered."""
    _refuse_what_no_answer_may_hold(query, found, max_results)
    return await _rendered(found, store)


def _refuse_what_no_answer_may_hold(query: BoundQuery, found: Objects, max_results: int | None) -> None:
    """Raise XdsError where objects may be referred to, but not be returned in full (ITI TF-2: 3.18.4.1.3)."""
    if max_results is not None and len(found) > max_results:
        raise XdsError(
            ErrorCode.TOO_MANY_RESULTS,
            f"The query finds {len(found)} objects, and an answer with returnType LeafClass holds at most "
            f"{max_results}; narrow the query, or ask with returnType ObjectRef and fetch the objects in parts by "
            "their entryUUIDs.",
        )
    patients = len({each.patient_id for each in found})
    if patients > 1 and query.query.transaction is ITI_18:
        raise XdsError(
            ErrorCode.RESULT_NOT_SINGLE_PATIENT,
            f"The {len(found)} objects found belong to {patients} patients, and an answer with returnType "
            "LeafClass holds those of one; ask for one patient's at a time, or with returnType ObjectRef.",
        )


async def _without_older_versions(query: BoundQuery, found: Objects, store: Finder) -> Objects:
    """What is found at $MetadataLevel 1: of DocumentEntries no version that has a successor.

    Whatever has a successor is Deprecated, so most answers need no look at it. A successor may be another patient's.
    """
    if query.all_versions:
        return found
    deprecated = [each for each in found if each.availability_status == AvailabilityStatus.DEPRECATED]
    if not deprecated:
        return found
    newest: dict[str | None, int] = {}
    for kind in dict.fromkeys(each.kind for each in deprecated):
        of_kind = tuple(dict.fromkeys(each.logical_id for each in deprecated if each.kind is kind and each.logical_id))
        versions = _criteria(kind, (_any_of("logical_id", of_kind),), ())
        for each in await store.find(versions, rendering=False) if of_kind else ():
            newest[each.logical_id] = max(newest.get(each.logical_id, 0), int(each.version or 0))
    return tuple([each for each in found if newest.get(each.logical_id, 0) <= int(each.version or 0)])


async def _rendered(found: Objects, store: Finder) -> Objects:
    """The same objects with their renderings: one read for each kind of object."""
    renderings: dict[str, bytes | None] = {}
    for kind in dict.fromkeys(each.kind for each in found):
        named = _any_of("entry_uuid", _ids(each for each in found if each.kind is kind))
        for each in await store.find(_criteria(kind, (named,), _patients_of(found))):
            renderings[each.entry_uuid] = each.ebrim
    return tuple([each._replace(ebrim=renderings[each.entry_uuid]) for each in found if each.entry_uuid in renderings])


# --- what each kind of answer consists of, as references --------------------------------------------------------------


async def _references(query: BoundQuery, store: Finder) -> Objects:
    return await _ANSWERS[query.query.answer](query, store)


async def _matches(query: BoundQuery, store: Finder) -> Objects:
    return await _without_older_versions(query, await _find_matches(query, store, rendering=False), store)


async def _everything(query: BoundQuery, store: Finder) -> Objects:
    kinds = (ObjectKind.SUBMISSION_SET, ObjectKind.DOCUMENT_ENTRY, ObjectKind.FOLDER)
    objects = [
        each for kind in kinds for each in await _find(query, store, kind, _filters(query, kind), query.patient_ids)
    ]
    links = await _find(
        query, store, ObjectKind.ASSOCIATION, _filters(query, ObjectKind.ASSOCIATION), query.patient_ids
    )
    return (*objects, *_closed(objects, links))


async def _associations(query: BoundQuery, store: Finder) -> Objects:
    return await _associations_of(query.uuids, query, store, ())


async def _start_and_associations(query: BoundQuery, store: Finder) -> Objects:
    start = await _matches(query, store)
    return (*start, *await _associations_of(_ids(start), query, store, _patients_of(start)))


async def _submission_sets(query: BoundQuery, store: Finder) -> Objects:
    to_named = (_HAS_MEMBER, _any_of("target_object", query.uuids))
    links = await _find(query, store, ObjectKind.ASSOCIATION, to_named)
    sources = _any_of("entry_uuid", _sources(links))
    sets = await _find(query, store, ObjectKind.SUBMISSION_SET, (sources,), _patients_of(links))
    known = set(_ids(sets))
    return (*sets, *(link for link in links if link.source_object in known))


async def _contents(query: BoundQuery, store: Finder) -> Objects:
    objects = list(await _find(query, store, query.query.finds, query.start))
    patients = _patients_of(objects)
    from_start = (_HAS_MEMBER, _any_of("source_object", _ids(objects)), *_filters(query, ObjectKind.ASSOCIATION))
    links = list(await _find(query, store, ObjectKind.ASSOCIATION, from_start, patients))
    members = _any_of("entry_uuid", _targets(links))
    for kind in query.query.follows:
        followed = await _find(query, store, kind, (members, *_filters(query, kind)), patients)
        (links if kind is ObjectKind.ASSOCIATION else objects).extend(followed)
    return (*objects, *_closed(objects, links))


async def _folders(query: BoundQuery, store: Finder) -> Objects:
    start = await _find(query, store, query.query.finds, query.start)
    to_start = (_HAS_MEMBER, _any_of("target_object", _ids(start)), *_filters(query, ObjectKind.ASSOCIATION))
    links = await _find(query, store, ObjectKind.ASSOCIATION, to_start, _patients_of(start))
    sources = _any_of("entry_uuid", _sources(links))
    return await _find(query, store, ObjectKind.FOLDER, (sources,), _patients_of(start))


async def _related(query: BoundQuery, store: Finder) -> Objects:
    """ITI TF-2: 3.18.4.1.2.3.7.13: with any association, the document that was named is returned, whatever its type."""
    start = await _find(query, store, query.query.finds, query.start)
    patients = _patients_of(start)
    links = await _associations_of(_ids(start), query, store, patients)
    ends = _any_of("entry_uuid", (*_sources(links), *_targets(links)))
    related_ones = await _find(query, store, query.query.finds, (ends, *_filters(query, query.query.finds)), patients)
    entries = {each.entry_uuid: each for each in (*start, *related_ones)}.values()
    between_entries = _closed(entries, links)
    related = {*_sources(between_entries), *_targets(between_entries)}
    return (*[entry for entry in entries if entry.entry_uuid in related], *between_entries)


_ANSWERS: Mapping[Answer, Callable[[BoundQuery, Finder], Awaitable[Objects]]] = {
    Answer.MATCHES: _matches,
    Answer.EVERYTHING: _everything,
    Answer.ASSOCIATIONS: _associations,
    Answer.START_AND_ASSOCIATIONS: _start_and_associations,
    Answer.SUBMISSION_SETS: _submission_sets,
    Answer.CONTENTS: _contents,
    Answer.FOLDERS: _folders,
    Answer.RELATED: _related,
}


# --- steps of the walk ------------------------------------------------------------------------------------------------


async def _associations_of(
    uuids: tuple[str, ...], query: BoundQuery, store: Finder, patients: tuple[str, ...]
) -> Objects:
    """The associations that have one of the objects as source or as target, each once."""
    filters = _filters(query, ObjectKind.ASSOCIATION)
    leaving = await _find(query, store, ObjectKind.ASSOCIATION, (_any_of("source_object", uuids), *filters), patients)
    arriving = await _find(query, store, ObjectKind.ASSOCIATION, (_any_of("target_object", uuids), *filters), patients)
    return tuple({each.entry_uuid: each for each in (*leaving, *arriving)}.values())


def _closed(objects: Iterable[StoredObject], links: Iterable[StoredObject]) -> Objects:
    """The links both of whose ends are returned; an end may be another link, which must then be returned as well."""
    ids = set(_ids(objects))
    kept = {link.entry_uuid: link for link in links}
    while True:
        dangling = [
            each
            for each, link in kept.items()
            if not all(end in ids or end in kept for end in (link.source_object, link.target_object))
        ]
        if not dangling:
            return tuple(kept.values())
        for each in dangling:
            del kept[each]


async def _find(
    query: BoundQuery,
    store: Finder,
    kind: ObjectKind,
    conditions: Iterable[Condition],
    patients: tuple[str, ...] = (),
) -> Objects:
    conditions = tuple(conditions)
    if any(not group for condition in conditions for group in condition.groups):
        return ()  # nothing is any of nothing
    found = await store.find(_criteria(kind, (*conditions, *_of_level(query, kind)), patients), rendering=False)
    return await _without_older_versions(query, found, store)


async def _find_matches(
    query: BoundQuery, store: Finder, *, rendering: bool = True, limit: int | None = None
) -> Objects:
    kind = query.query.finds
    conditions = (*query.start, *_filters(query, kind), *_of_level(query, kind))
    return await store.find(_criteria(kind, conditions, query.patient_ids), rendering=rendering, limit=limit)


def _criteria(kind: ObjectKind, conditions: Iterable[Condition], patients: tuple[str, ...]) -> Criteria:
    return Criteria(kind, tuple([Match(*condition) for condition in conditions]), patients)


def _filters(query: BoundQuery, kind: ObjectKind) -> tuple[Condition, ...]:
    return tuple(query.filters.get(kind, ()))


_APPROVED = Condition("availability_status", Operator.ANY_OF, ((AvailabilityStatus.APPROVED.value,),))
_AT_FIRST_LEVEL = {  # ITI TF-2: 3.18.4.1.2.3.5.1.1
    ObjectKind.DOCUMENT_ENTRY: (Condition("document_availability", Operator.NONE_OF, ((OFFLINE,),)),),
    ObjectKind.FOLDER: (_APPROVED,),
    ObjectKind.ASSOCIATION: (
        _APPROVED,
        Condition("association_type", Operator.NONE_OF, (tuple(each.value for each in UPDATE_OPERATIONS),)),
    ),
}


def _of_level(query: BoundQuery, kind: ObjectKind) -> tuple[Condition, ...]:
    """What objects have to meet besides, where $MetadataLevel is 1."""
    return () if query.all_versions else _AT_FIRST_LEVEL.get(kind, ())


def _any_of(attribute: str, values: tuple[str, ...]) -> Condition:
    return Condition(attribute, Operator.ANY_OF, (values,))


_HAS_MEMBER = _any_of("association_type", (AssociationType.HAS_MEMBER.value,))


def _patients_of(found: Iterable[StoredObject]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.patient_id for each in found))


def _ids(found: Iterable[StoredObject]) -> tuple[str, ...]:
    return tuple(each.entry_uuid for each in found)


def _sources(links: Iterable[StoredObject]) -> tuple[str, ...]:
    return tuple(link.source_object for link in links if link.source_object is not None)


def _targets(links: Iterable[StoredObject]) -> tuple[str, ...]:
    return tuple(link.target_object for link in links if link.target_object is not None)
