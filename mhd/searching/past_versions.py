"""What the associations of a past version said.

A new version has associations of its own, and those of the version before are deprecated. So they are asked of the
registry by a stored query that finds what is deprecated as well: the same here and elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from mhd.registered_objects import RegisteredObjects
from xds.metadata import RELATIONSHIPS, AssociationType, ObjectKind
from xds.paged_search import Link, PagedObject


async def links_of_past(found: PagedObject, registered: RegisteredObjects) -> Sequence[Link]:
    """What begins at a version of a document or Folder that is not the newest. Raises Refused."""
    shown = RELATIONSHIPS if found.kind is ObjectKind.DOCUMENT_ENTRY else {AssociationType.HAS_MEMBER.value}
    links = [
        each
        for each in await registered.all_associations(found.entry_uuid)
        if each.source_object == found.entry_uuid and each.association_type in shown
    ]
    targets = await registered.known_documents(uuids={each.target_object for each in links}, unique_ids=())
    logical_ids = {uuid: each.newest.logical_id or each.newest.entry_uuid for each in targets for uuid in each.uuids}
    # An association to a document was made again for each version of that.
    told = {
        (each.association_type, logical_ids.get(each.target_object, each.target_object)): each.target_object
        for each in links
    }
    return [
        Link(association_type, target, ObjectKind.DOCUMENT_ENTRY, logical_id)
        for (association_type, logical_id), target in told.items()
    ]
