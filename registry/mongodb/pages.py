"""Pages of a search in the metadata store on MongoDB.

There is no snapshot over several reads. What makes a page of one moment is `as_of`, the number of the last object that
the dossier had when it was asked: all reads leave out what came later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from registry.metadata_store import Criteria
from registry.mongodb.database import Document
from registry.mongodb.documents import patient_key, rendering_of
from registry.mongodb.resolver import Resolver
from registry.mongodb.search import Search
from registry.page_links import link_criteria, target_criteria, with_links
from registry.rendering_compression import RenderingCompression
from registry.search_columns import COLUMN_SHAPES, Shape
from xds.paged_search import Page, PagedObject, PagedSearch, Place

_TIE: Final = "."


async def read_page(
    search: PagedSearch, resolver: Resolver, compression: RenderingCompression, *, unmerged: bool
) -> Page:
    """The page.

    Raises ValueError, see MetadataStore.page(); with `unmerged` it may raise PatientsMerged.
    """
    if COLUMN_SHAPES[search.kind].get(search.ordered_by) not in (Shape.TIME, Shape.MOMENT):
        raise ValueError(f"{search.ordered_by} is not a column that pages can be ordered by")
    found = await Search.of(Criteria.of(search), resolver.claims, unmerged=unmerged)
    if found.remaining:
        raise ValueError("a pattern of this search can not be matched in pages")
    if found.dossiers is None:
        return Page((), False, None if search.after else 0, search.as_of or "")
    as_of = search.as_of or await _moment(search, resolver)
    wanted = {**found.dossiers, "$and": [found.objects, *_seen_then(as_of)]}
    total = None
    if search.after is None:
        total = await resolver.count_finished(wanted, {**found.dossiers, "$or": list(found.signs)})
    elif unmerged:
        await resolver.require_unmerged({patient_key(each) for each in search.patient_ids})
    documents: list[Document] = []
    if search.limit and total != 0:
        documents = await resolver.read_finished(
            {"$and": [wanted, *_after(search)]},
            sort=(_key(search), "number", "patient_key"),
            descending=search.descending,
            limit=search.limit + 1,
        )
    if unmerged and not search.patient_ids:
        await resolver.require_unmerged({document["patient_key"] for document in documents[: search.limit]})
    objects = [_object(search, document, compression) for document in documents[: search.limit]]
    return Page(await _linked(objects, resolver, compression), len(documents) > search.limit, total, as_of)


def _key(search: PagedSearch) -> str:
    """The field that pages are ordered by."""
    is_moment = COLUMN_SHAPES[search.kind][search.ordered_by] is Shape.MOMENT
    return search.ordered_by if is_moment else f"{search.ordered_by}_first"


async def _moment(search: PagedSearch, resolver: Resolver) -> str:
    """The number of the last object of the kind, where one dossier is in question."""
    if len(search.patient_ids) != 1:
        return ""
    last = await resolver.last_number(search.patient_ids[0], search.kind)
    return "" if last is None else str(last)


def _seen_then(as_of: str) -> list[Mapping[str, Any]]:
    if not as_of:
        return []
    if not as_of.isdecimal():
        raise ValueError("as_of is none that this store gave for this search")
    return [{"number": {"$lte": int(as_of)}}]


def _after(search: PagedSearch) -> list[Mapping[str, Any]]:
    """What comes after a place in the order; what has no time comes before all others in ascending order."""
    if search.after is None:
        return []
    number, _, dossier = search.after.tie.partition(_TIE)
    if not number.isdecimal():
        raise ValueError("after is no place that this store gave")
    than = "$lt" if search.descending else "$gt"
    column = _key(search)
    same: Mapping[str, Any] = {column: search.after.key} if search.after.key else {column: {"$exists": False}}
    further: list[Mapping[str, Any]] = [
        {**same, "number": {than: int(number)}},
        {**same, "number": int(number), "patient_key": {than: dossier}},
    ]
    if search.after.key:
        further.append({column: {than: search.after.key}})
    if bool(search.after.key) is search.descending:
        further.append({column: {"$exists": not search.descending}})
    return [{"$or": further}]


def _object(search: PagedSearch, document: Document, compression: RenderingCompression) -> PagedObject:
    resource = document.get("resource")
    return PagedObject(
        search.kind,
        document["entry_uuid"],
        document["patient_id"],
        Place(document.get(_key(search), ""), f"{document['number']}{_TIE}{document['patient_key']}"),
        None if resource is None else compression.restore(bytes(resource)),
        rendering_of(document, compression) if resource is None else None,
        logical_id=document.get("logical_id") or document["entry_uuid"],
        version=document.get("version") or "1",
    )


async def _linked(
    objects: list[PagedObject], resolver: Resolver, compression: RenderingCompression
) -> tuple[PagedObject, ...]:
    async def find(criteria: Criteria) -> Any:
        found = await Search.of(criteria, resolver.claims)
        return await found.found(resolver, compression, rendering=False, limit=None)

    criteria = link_criteria(objects)
    if criteria is None:
        return ()
    links = await find(criteria)
    targets = [each for of_kind in target_criteria(objects, links) for each in await find(of_kind)]
    return with_links(objects, links, targets)
