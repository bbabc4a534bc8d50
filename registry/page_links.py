"""What the associations of the objects on a page say, found in a fixed number of reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from registry.metadata_store import Criteria, Match, StoredObject
from xds.metadata import RELATIONSHIPS, AssociationType, AvailabilityStatus, ObjectKind
from xds.paged_search import Link, PagedObject

Find = Callable[[Criteria], Sequence[StoredObject]]
"""Finds references: as a store does, without renderings."""


def links_of(objects: Sequence[PagedObject], find: Find) -> tuple[PagedObject, ...]:
    """The objects with their links. One read for documents and Folders, three for SubmissionSets."""
    criteria = link_criteria(objects)
    if criteria is None:
        return tuple(objects)
    links = find(criteria)
    kinds: dict[str, ObjectKind] = {}
    if objects[0].kind is ObjectKind.SUBMISSION_SET:
        for of_kind in member_criteria(objects, links):
            kinds.update((each.entry_uuid, each.kind) for each in find(of_kind))
    return with_links(objects, links, kinds)


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
            Match.any_of("availability_status", (AvailabilityStatus.APPROVED.value,)),
        ),
        _patients(objects),
    )


def member_criteria(objects: Sequence[PagedObject], links: Iterable[StoredObject]) -> tuple[Criteria, ...]:
    """What finds which members of SubmissionSets are documents and which Folders; the others are associations."""
    members = Match.any_of("entry_uuid", tuple({link.target_object for link in links if link.target_object}))
    kinds = (ObjectKind.DOCUMENT_ENTRY, ObjectKind.FOLDER)
    return tuple(Criteria(kind, (members,), _patients(objects)) for kind in kinds) if members.groups[0] else ()


def with_links(
    objects: Sequence[PagedObject], links: Sequence[StoredObject], kinds: dict[str, ObjectKind]
) -> tuple[PagedObject, ...]:
    """The objects, each with the links that begin at it, oldest first.

    kinds   of the members of SubmissionSets: links to what is not among them are left out
    """
    if not links:
        return tuple(objects)
    by_source: dict[str, list[Link]] = defaultdict(list)
    of_sets = bool(objects) and objects[0].kind is ObjectKind.SUBMISSION_SET
    for link in links:
        if link.source_object is None or link.target_object is None or link.association_type is None:
            continue
        kind = kinds.get(link.target_object) if of_sets else ObjectKind.DOCUMENT_ENTRY
        if kind is not None:
            by_source[link.source_object].append(Link(link.association_type, link.target_object, kind))
    return tuple(each._replace(links=tuple(by_source.get(each.entry_uuid, ()))) for each in objects)


_SHOWN = {
    ObjectKind.DOCUMENT_ENTRY: tuple(sorted(RELATIONSHIPS)),
    ObjectKind.SUBMISSION_SET: (AssociationType.HAS_MEMBER.value,),
    ObjectKind.FOLDER: (AssociationType.HAS_MEMBER.value,),
}


def _patients(objects: Iterable[PagedObject]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.patient_id for each in objects))
