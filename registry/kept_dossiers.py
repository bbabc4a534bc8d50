"""What was read of dossiers lately, for whoever looks at them again.

Who opens a dossier turns its pages, filters it and comes back to it, and restoring FHIR resources is most of the work.
What is kept here is named by the moment of the dossier that it was read at: the number of the last record of its log.
Whoever wants it has read that number from the store together with everything else, so what he finds is never out of
date, whichever process has written meanwhile, and nobody has to be told of a change.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, NamedTuple

from xds.paged_search import Page, PagedObject

_OBJECT_BYTES: Final = 600
_TOTAL_BYTES: Final = 400
_PAGE_BYTES: Final = 1000
"""What an object takes beside its resource, what a total takes, and what a page takes beside its objects: about."""


class Moment(NamedTuple):
    """A state of a dossier. At one moment all of its index has one content.

    dossier      the store's number of it
    sequence     of the last record of its log
    generation   of the index: a reindex makes resources anew and writes no record
    """

    dossier: int
    sequence: int
    generation: int


@dataclass(slots=True)
class _Dossier:
    moment: Moment
    objects: dict[int, PagedObject] = field(default_factory=dict)
    totals: dict[Hashable, int] = field(default_factory=dict)
    pages: dict[Hashable, Page] = field(default_factory=dict)
    octets: int = 0


class KeptDossiers:
    """Keeps what is put into it until there is more than may be kept; then the dossiers go that nobody looked at for
    longest. Used by several threads.

    counted   is told of the objects of every page: how many were kept, and how many were not
    """

    def __init__(self, most_octets: int) -> None:
        """most_octets: about how much memory this may take; 0: nothing is kept."""
        self.counted: Callable[[int, int], None] = _not_counted
        self._most_octets = most_octets
        self._octets = 0
        self._dossiers: OrderedDict[int, _Dossier] = OrderedDict()
        self._lock = Lock()

    def objects(self, moment: Moment, numbers: Iterable[int]) -> dict[int, PagedObject]:
        """Those of the objects with these numbers that are kept, with their links."""
        with self._lock:
            dossier = self._looked_at(moment)
            if dossier is None:
                return {}
            kept = dossier.objects
            return {number: kept[number] for number in numbers if number in kept}

    def are_there(self, moment: Moment) -> bool:
        """Whether any objects of the dossier are kept."""
        with self._lock:
            dossier = self._looked_at(moment)
            return dossier is not None and bool(dossier.objects)

    def total(self, moment: Moment, question: Hashable) -> int | None:
        """How many objects of the dossier a search finds, where that is kept."""
        with self._lock:
            dossier = self._looked_at(moment)
            return None if dossier is None else dossier.totals.get(question)

    def page(self, moment: Moment, question: Hashable) -> Page | None:
        """The page that a search has on it, where that is kept."""
        with self._lock:
            dossier = self._looked_at(moment)
            return None if dossier is None else dossier.pages.get(question)

    def keep(self, moment: Moment, objects: Mapping[int, PagedObject]) -> None:
        """Keep objects by their numbers."""
        if not self._most_octets:
            return
        octets = _octets(objects.values())
        with self._lock:
            dossier = self._with_room(moment, octets)
            if dossier is not None:
                # Another thread may have kept some of them: then they are counted twice, and go a little earlier.
                dossier.objects.update(objects)

    def keep_total(self, moment: Moment, question: Hashable, total: int) -> None:
        """Keep how many objects of the dossier a search finds."""
        with self._lock:
            dossier = self._with_room(moment, _TOTAL_BYTES)
            if dossier is not None:
                dossier.totals[question] = total

    def keep_page(self, moment: Moment, question: Hashable, page: Page) -> None:
        """Keep a page. It counts as its objects do, beside them: for what is made of it."""
        if not self._most_octets:
            return
        with self._lock:
            dossier = self._with_room(moment, _PAGE_BYTES + _octets(page.objects))
            if dossier is not None:
                dossier.pages[question] = page

    def _looked_at(self, moment: Moment) -> _Dossier | None:
        dossier = self._dossiers.get(moment.dossier)
        if dossier is None or dossier.moment != moment:
            return None
        self._dossiers.move_to_end(moment.dossier)
        return dossier

    def _with_room(self, moment: Moment, octets: int) -> _Dossier | None:
        """The dossier at that moment, with room for so much more; None: that is more than may be kept at all."""
        if octets > self._most_octets:
            return None
        dossier = self._dossiers.get(moment.dossier)
        if dossier is None or dossier.moment != moment:
            if dossier is not None:
                self._forget(dossier)
            dossier = _Dossier(moment)
        while self._octets + octets > self._most_octets:
            longest_ago = next(iter(self._dossiers.values()))
            self._forget(longest_ago)
            if longest_ago is dossier:
                dossier = _Dossier(moment)
        self._dossiers[moment.dossier] = dossier
        self._dossiers.move_to_end(moment.dossier)
        dossier.octets += octets
        self._octets += octets
        return dossier

    def _forget(self, dossier: _Dossier) -> None:
        del self._dossiers[dossier.moment.dossier]
        self._octets -= dossier.octets


def _octets(objects: Iterable[PagedObject]) -> int:
    return sum([_OBJECT_BYTES + len(each.resource or each.ebrim or b"") for each in objects])


def _not_counted(kept: int, read: int) -> None:
    """Nobody wants to know."""
