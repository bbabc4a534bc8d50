"""One page of a search: of one kind of object, or of two of them in one order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice

from mhd.searching.cursors import Resumption
from mhd.searching.search_conditions import Wanted
from xds.metadata import ObjectKind
from xds.paged_search import Page, PagedObject, PagedRegistry, PagedSearch, Place


@dataclass(frozen=True, slots=True)
class SearchPage:
    """What a page shows.

    total   how many the search finds on all its pages
    made    what was made of the objects (see Page), by a name of whoever made it
    """

    objects: tuple[PagedObject, ...]
    more: bool
    total: int
    as_of: Mapping[ObjectKind, str]
    after: Mapping[ObjectKind, Place]
    made: dict[str, bytes]


async def search_page(
    wanted: Sequence[Wanted],
    *,
    registry: PagedRegistry,
    count: int,
    ordered_by: Mapping[ObjectKind, str],
    descending: bool,
    resumed: Resumption | None = None,
) -> SearchPage:
    """The page. ordered_by: the column for each kind. One read for each kind of object. Raises XdsError."""
    searches = [_search(each, count, ordered_by[each.kind], descending, resumed) for each in wanted]
    # One search is not worth a task of its own.
    pages = [await registry.page(searches[0])] if len(searches) == 1 else await _all_at_once(registry, searches)
    shown = _together(pages, count, descending)
    after = dict(resumed.after) if resumed else {}
    # Of one kind the last is enough: on a page that is kept, nothing else of its objects is looked at.
    after.update({each.kind: each.place for each in (shown[-1:] if len(pages) == 1 else shown)})
    return SearchPage(
        shown,
        any(page.more for page in pages) or sum(len(page.objects) for page in pages) > len(shown),
        resumed.total if resumed else sum(page.total or 0 for page in pages),
        {search.kind: page.as_of for search, page in zip(searches, pages, strict=True)},
        after,
        pages[0].made if len(pages) == 1 else {},
    )


async def _all_at_once(registry: PagedRegistry, searches: Sequence[PagedSearch]) -> Sequence[Page]:
    return await asyncio.gather(*map(registry.page, searches))


def _search(wanted: Wanted, count: int, ordered_by: str, descending: bool, resumed: Resumption | None) -> PagedSearch:
    return PagedSearch(
        wanted.kind,
        wanted.conditions,
        wanted.patient_ids,
        ordered_by,
        count,
        descending,
        resumed.after.get(wanted.kind) if resumed else None,
        (resumed.as_of.get(wanted.kind) or None) if resumed else None,
    )


def _together(pages: Sequence[Page], count: int, descending: bool) -> tuple[PagedObject, ...]:
    if len(pages) == 1:
        return pages[0].objects
    in_order = merge(*(page.objects for page in pages), key=lambda each: each.place.key, reverse=descending)
    return tuple(islice(in_order, count))
