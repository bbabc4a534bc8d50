"""What the associations of the objects on a page say, found in a fixed number of reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from registry.metadata_store import Criteria, Finder, Match, StoredObject
from xds.metadata import RELATIONSHIPS, AssociationType, AvailabilityStatus, ObjectKind
from xds.paged_search import Link, PagedObject

Find = Callable[[Criteria], Sequence[StoredObject]]
"""Finds references: as a store does, without renderings."""


def links_of(objects: Sequence[PagedObject], find: Find) -> tuple[PagedObject, ...]:
    """The objects with their links. One read, and where there are links one more for each kind they may lead to."""
    criteria = link_criteria(objects)
    if criteria is None:
        return tuple(objects)
    links = find(criteria)
    return with_links(objects, links, [each for of_kind in target_criteria(objects, links) for each in find(of_kind)])


def link_criteria(objects: Sequence[PagedObject]) -> Criteria | None:
    """What finds the associations that begin at objects of one kind; None where there are no objects."""
    if not objects:
        return None
    shown = _SHOWN[objects[0].kind]
    return Criteria(
        ObjectKind.ASSOCIATION,
        (
            Match.any_of("source_object", tuple(each.entry_uuid for each in objects)),
            Match.any_of("association_type", shown),
            _APPROVED,
        ),
        _patients(objects),
    )


async def sources_of(targets: Iterable[str], store: Finder) -> frozenset[str]:
    """Where Approved relations to these documents begin."""
    of_targets = Match.any_of("target_object", tuple(sorted(targets)))
    return await _sources(Criteria(ObjectKind.ASSOCIATION, (of_targets, *_relations())), store)


async def sources_in(patient_ids: Collection[str], store: Finder) -> frozenset[str]:
    """Where Approved relations between these patients' documents begin."""
    return await _sources(Criteria(ObjectKind.ASSOCIATION, _relations(), tuple(patient_ids)), store)


def _relations() -> tuple[Match, ...]:
    return (Match.any_of("association_type", _SHOWN[ObjectKind.DOCUMENT_ENTRY]), _APPROVED)


async def _sources(criteria: Criteria, store: Finder) -> frozenset[str]:
    return frozenset(each.source_object for each in await store.find(criteria, rendering=False) if each.source_object)


def target_criteria(objects: Sequence[PagedObject], links: Iterable[StoredObject]) -> tuple[Criteria, ...]:
    """What finds the documents and Folders that links lead to; those of SubmissionSets lead to associations as well."""
    targets = Match.any_of("entry_uuid", tuple({link.target_object for link in links if link.target_object}))
    kinds = _TARGETS[objects[0].kind] if objects and targets.groups[0] else ()
    return tuple(Criteria(kind, (targets,), _patients(objects)) for kind in kinds)


def with_links(
    objects: Sequence[PagedObject], links: Sequence[StoredObject], targets: Iterable[StoredObject]
) -> tuple[PagedObject, ...]:
    """The objects, each with the links that begin at it, oldest first.

    targets   documents and Folders that they lead to: of SubmissionSets, links to anything else are left out
    """
    if not links:
        return tuple(objects)
    by_source: dict[str, list[Link]] = defaultdict(list)
    of_sets = bool(objects) and objects[0].kind is ObjectKind.SUBMISSION_SET
    known = {each.entry_uuid: each for each in targets}
    for link in links:
        if link.source_object is None or link.target_object is None or link.association_type is None:
            continue
        target = known.get(link.target_object)
        if target is not None or not of_sets:
            kind = target.kind if target else ObjectKind.DOCUMENT_ENTRY
            logical_id = (target.logical_id if target else None) or link.target_object
            by_source[link.source_object].append(Link(link.association_type, link.target_object, kind, logical_id))
    return tuple(each._replace(links=tuple(by_source.get(each.entry_uuid, ()))) for each in objects)


_APPROVED = Match.any_of("availability_status", (AvailabilityStatus.APPROVED.value,))
_SHOWN = {
    ObjectKind.DOCUMENT_ENTRY: tuple(sorted(RELATIONSHIPS)),
    ObjectKind.SUBMISSION_SET: (AssociationType.HAS_MEMBER.value,),
    ObjectKind.FOLDER: (AssociationType.HAS_MEMBER.value,),
}

_TARGETS = {
    ObjectKind.DOCUMENT_ENTRY: (ObjectKind.DOCUMENT_ENTRY,),
    ObjectKind.SUBMISSION_SET: (ObjectKind.DOCUMENT_ENTRY, ObjectKind.FOLDER),
    ObjectKind.FOLDER: (ObjectKind.DOCUMENT_ENTRY,),
}


def _patients(objects: Iterable[PagedObject]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.patient_id for each in objects))
