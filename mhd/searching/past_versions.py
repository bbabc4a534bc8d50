"""What the associations of a past version said.

A new version has associations of its own, and those of the version before are deprecated. So they are asked of the
registry by a stored query that finds what is deprecated as well: the same here and elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mhd.registered_objects import RegisteredObjects
from xds.metadata import RELATIONSHIPS, Association, AssociationType, ObjectKind
from xds.paged_search import Link, PagedObject


async def links_of_past(versions: Sequence[PagedObject], registered: RegisteredObjects) -> Mapping[str, Sequence[Link]]:
    """What begins at versions of a document or Folder that are not the newest, by their entryUUIDs. Raises Refused."""
    kinds = {each.entry_uuid: each.kind for each in versions}
    links: dict[str, list[Association]] = {each: [] for each in kinds}
    for each in await registered.all_associations(kinds):
        if each.association_type in _shown_of(kinds.get(each.source_object)):
            links[each.source_object].append(each)
    named = {each.target_object for of_version in links.values() for each in of_version}
    targets = await registered.known_documents(uuids=named, unique_ids=())
    logical_ids = {uuid: each.newest.logical_id or each.newest.entry_uuid for each in targets for uuid in each.uuids}
    return {entry_uuid: _told(of_version, logical_ids) for entry_uuid, of_version in links.items()}


def _shown_of(kind: ObjectKind | None) -> Collection[str]:
    """The associations that are told of what they begin at; None: of anything else, none is."""
    if kind is None:
        return ()
    return RELATIONSHIPS if kind is ObjectKind.DOCUMENT_ENTRY else (AssociationType.HAS_MEMBER.value,)


def _told(links: Sequence[Association], logical_ids: Mapping[str, str]) -> Sequence[Link]:
    """An association to a document was made again for each version of that: of these, one is told."""
    told = {
        (each.association_type, logical_ids.get(each.target_object, each.target_object)): each.target_object
        for each in links
    }
    return [
        Link(association_type, target, ObjectKind.DOCUMENT_ENTRY, logical_id)
        for (association_type, logical_id), target in told.items()
    ]
