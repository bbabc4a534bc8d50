"""A FHIR search from its parameters to its Bundle: what Find Document Lists and Find Document References share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mhd.fhir.operation_outcome import Refused
from mhd.messages import FhirAnswer, FhirRequest
from mhd.searching.cursors import MERGED, Cursors, Resumption
from mhd.searching.renderer import Completion
from mhd.searching.search_conditions import SearchConditions, Wanted
from mhd.searching.search_pages import SearchPage, search_page
from mhd.searching.search_parameters import SearchParameter
from mhd.searching.search_request import PageSizes, Pair, SearchRequest, search_request
from mhd.searching.searchset import search_url, searchset
from xds.audit import Accessed
from xds.metadata import ObjectKind
from xds.paged_search import PagedRegistry, SearchOver

_FORMAT: Final = "_format"


@dataclass(frozen=True, slots=True)
class SearchType:
    """What can be searched for.

    resource   type of the resources
    sorts      by the parameters for _sort: the column of each kind; the first where nobody says
    """

    resource: str
    kinds: tuple[ObjectKind, ...]
    parameters: tuple[SearchParameter, ...]
    sorts: Mapping[str, Mapping[ObjectKind, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Searches, and goes on with searches."""

    registry: PagedRegistry
    conditions: SearchConditions
    completion: Completion
    cursors: Cursors
    sizes: PageSizes
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def answered(self, kind: SearchType, parameters: Iterable[Pair], said: FhirRequest) -> FhirAnswer:
        """The Bundle. Raises Refused (400, 410, 422), XdsError."""
        sent = list(parameters)
        request = self._read(kind, sent, said.strict)
        resumed = None
        if request.page is not None:
            resumed = self.cursors.opened(request.page, kind.resource)
            request = self._read(kind, resumed.used, strict=False)
        wanted = await self.conditions.of(request, kind.kinds)
        try:
            page = await search_page(
                wanted,
                registry=self.registry,
                count=request.count,
                ordered_by=kind.sorts[request.sorted_by],
                descending=request.descending,
                resumed=resumed,
            )
        except SearchOver:
            raise Refused(MERGED) from None
        formats = [(name, value) for name, value in sent if name == _FORMAT]
        links = self._links(kind, request, page, formats, [pair for pair in sent if pair[0] == "_page"])
        body = searchset(
            page.objects,
            total=page.total,
            links=links,
            completion=self.completion,
            moment=self.now(),
            made=page.made,
        )
        return FhirAnswer(body, accessed=Accessed(_whose(wanted, page)))

    def now(self) -> str:
        """An instant."""
        return self.clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _read(self, kind: SearchType, parameters: Iterable[Pair], strict: bool) -> SearchRequest:
        return search_request(parameters, kind.parameters, sizes=self.sizes, strict=strict, sorts=tuple(kind.sorts))

    def _links(
        self, kind: SearchType, request: SearchRequest, page: SearchPage, formats: list[Pair], cursor: Sequence[Pair]
    ) -> dict[str, str]:
        base = self.completion.base
        links = {"self": search_url(base, kind.resource, [*(cursor or request.used), *formats])}
        if page.more:
            going_on = Resumption(kind.resource, request.used, page.total, page.as_of, page.after)
            next_page = [("_page", self.cursors.sealed(going_on)), *formats]
            links["next"] = search_url(base, kind.resource, next_page)
        return links


def _whose(wanted: Sequence[Wanted], page: SearchPage) -> tuple[str, ...]:
    """Whose objects were asked for; where nobody was named, whose are shown."""
    asked = [patient_id for each in wanted for patient_id in each.patient_ids]
    return tuple(dict.fromkeys(asked or (each.patient_id for each in page.objects)))
