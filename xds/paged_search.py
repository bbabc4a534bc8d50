"""A search in pages: what MHD asks of a Document Registry beside the stored queries of ITI-18.

The same criteria as those of a stored query (xds/stored_queries.py, Condition), answered in an order, some objects at a
time, with the links that a FHIR resource shows. A page goes on where the one before it ended, by the place of its last
object and not by a number of objects to skip; so nothing is skipped or repeated while others register.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeAlias

from xds.metadata import ObjectKind
from xds.stored_queries import Condition, Operator

OUTDATED: Final = "outdated"
IS_OUTDATED: Final = "yes"
"""A search column of DocumentEntries and Folders, and its value where there is a newer version of the object."""

NEWEST: Final = Condition(OUTDATED, Operator.NONE_OF, ((IS_OUTDATED,),))
"""Met by the newest version of an object alone (ITI TF-2: 3.57.4.1.3)."""


class Place(NamedTuple):
    """Where an object stands in the order of a search.

    key   the time it is ordered by, 14 digits, or "" where it has none
    tie   the store's own, to tell objects with one key apart
    """

    key: str
    tie: str


class Link(NamedTuple):
    """An Approved association of an object that was found, seen from its source.

    target_kind         of the object at its other end; None where nobody asked
    target_logical_id   logicalID of that; "" where it is not known
    """

    association_type: str
    target: str
    target_kind: ObjectKind | None = None
    target_logical_id: str = ""


class Either(NamedTuple):
    """Alternatives, of which one has to be met: all of its conditions."""

    alternatives: tuple[tuple[Condition, ...], ...]


@dataclass(frozen=True, slots=True)
class Neither:
    """Alternatives, of which none may be met. No tuple, which would be equal to the Either of the same alternatives."""

    alternatives: tuple[tuple[Condition, ...], ...]


Demand: TypeAlias = Condition | Either | Neither
"""What an object has to meet."""


@dataclass(frozen=True, slots=True)
class PagedSearch:
    """A page of the objects of one kind that meet all conditions.

    patient_ids   only these dossiers (CX text); empty: all of them
    ordered_by    a search column that is a time or a moment; objects without it come last in descending order
    limit         most objects of the page; 0: none, only `total` is asked for
    after         the place of the last object of the page before; None: the first page
    as_of         Page.as_of of the first page: what was registered later is not found
    """

    kind: ObjectKind
    conditions: tuple[Demand, ...]
    patient_ids: tuple[str, ...]
    ordered_by: str
    limit: int
    descending: bool = True
    after: Place | None = None
    as_of: str | None = None


class Survivor(NamedTuple):
    """Who answers for a patient that was merged. patient_key: as of Registration; None: there is none."""

    patient_id: str
    patient_key: str | None


class PagedObject(NamedTuple):
    """One object of a page.

    resource   its FHIR resource as JSON, as a FhirRenderer made it; None where it was registered without one
    ebrim      its ebRIM element, only where there is no resource
    links      associations to documents, of a DocumentEntry; to members, of a SubmissionSet or Folder
    version    as registered
    submitted   of a DocumentEntry without resource: submissionTime of the SubmissionSet that brought it, 14 digits
    survivor    whose it is by now, where the resource names a patient that was merged since
    """

    kind: ObjectKind
    entry_uuid: str
    patient_id: str
    place: Place
    resource: bytes | None
    ebrim: bytes | None
    links: tuple[Link, ...] = ()
    logical_id: str = ""
    version: str = "1"
    submitted: str | None = None
    survivor: Survivor | None = None

    @property
    def whole_resource(self) -> bytes | None:
        """The resource where it is shown as it is: nothing is joined to it or told otherwise."""
        return self.resource if not self.links and self.survivor is None else None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a search.

    more    whether there are objects after these
    total   how many objects the search finds on all its pages; None on pages but the first
    as_of   the moment of the first page, to be given with the next ones
    made    what was made of the objects, by a name of whoever made it: as long as nothing changes, a registry may give
            the same page again, and what is here with it
    """

    objects: tuple[PagedObject, ...]
    more: bool
    total: int | None
    as_of: str
    made: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)


class SearchOver(Exception):
    """The patient of a search was merged since its first page: what follows is no part of what that page began."""


class PagedRegistry(Protocol):
    """The Document Registry in this process, as MHD searches it."""

    async def page(self, search: PagedSearch) -> Page:
        """Raises XdsError: XDSRegistryBusy where the store can not answer now; SearchOver."""
        ...

    async def patient_of(self, patient_key: str) -> str | None:
        """The patient id (CX text) for which a Registration's patient_key stands. Raises XdsError as page() does."""
        ...

    async def patient_key(self, patient_id: str) -> str | None:
        """The other way round; None where nothing was registered for the patient."""
        ...

    async def survivor_of(self, patient_id: str) -> str:
        """The patient id (CX text) that answers for one that was merged; any other itself.

        Raises XdsError as page() does.
        """
        ...

    async def related_to(self, entry_uuids: Collection[str]) -> Collection[str]:
        """The entryUUIDs of the documents from which an Approved relation leads to one of these documents.

        Raises XdsError as page() does.
        """
        ...

    async def relating(self, patient_ids: Collection[str]) -> Collection[str]:
        """The entryUUIDs of these patients' documents from which an Approved relation leads anywhere.

        Raises XdsError as page() does.
        """
        ...

    async def removed(self, entry_uuid: str) -> ObjectKind | None:
        """What an object was that had this entryUUID and was removed [ITI-62]; None: there was none, or it is there.

        Raises XdsError as page() does.
        """
        ...

    def secret_for(self, purpose: str) -> bytes:
        """32 octets: for one purpose always the same, in every process that serves this registry."""
        ...
