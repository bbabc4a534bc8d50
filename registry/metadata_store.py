"""Where the registry keeps what it knows: the port, and what passes through it.

A dossier is all that is registered for one patient. It is a log of changes; what queries read is an index of it that
can be written again at any time (docs/adr/0002-a-dossier-is-a-log.md). The port has three sides:
* `known` and `apply` serve a submission: read the facts, judge them (registry/lifecycle.py), commit all or nothing;
* `find` and `count` serve queries; `page` serves searches in pages, with the FHIR resources that were made once;
* `identities` tells which patient ids stand for one patient; who reads `unmerged` is told of merges by the same read;
* `extent`, `records`, `index_rows`, `reindex` and `replay` serve whoever checks, rebuilds or copies a registry.
Renderings enter and leave as bytes; the adapter is handed an ObjectCodec and knows no XML.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from registry.dossier_log import LogRecord
from registry.search_columns import Column
from xds.metadata import AnyObject, Association, ObjectKind, SubmissionSet
from xds.paged_search import Either, Neither, Page, PagedSearch
from xds.stored_queries import Condition
from xds.stored_queries import Operator as Operator  # part of this port


@dataclass(frozen=True, slots=True)
class Match:
    """One condition on one search column.

    attribute   a column of registry/search_columns.py
    groups      the values: one group, but for ALL_OF_ANY_OF and NONE_OF
    """

    attribute: str
    operator: Operator
    groups: tuple[tuple[str, ...], ...]

    @classmethod
    def any_of(cls, attribute: str, values: tuple[str, ...]) -> Match:
        return cls(attribute, Operator.ANY_OF, (values,))


@dataclass(frozen=True, slots=True)
class AnyMatch:
    """Alternatives, of which one has to hold: all of its matches."""

    alternatives: tuple[tuple[Match, ...], ...]

    @classmethod
    def of(cls, alternatives: Iterable[Iterable[Condition]]) -> AnyMatch:
        """The same, as a search has it."""
        return cls(tuple(tuple(Match(*each) for each in alternative) for alternative in alternatives))


@dataclass(frozen=True, slots=True)
class Criteria:
    """Objects of one kind that meet all of `matches`, of each of `either` an alternative, and of `neither` none.

    patient_ids   only these dossiers (CX text); empty: all of them. A store finds within a dossier much faster,
                  so whoever knows the patient says so.
    """

    kind: ObjectKind
    matches: tuple[Match, ...] = ()
    patient_ids: tuple[str, ...] = ()
    either: tuple[AnyMatch, ...] = ()
    neither: tuple[AnyMatch, ...] = ()

    @classmethod
    def of(cls, search: PagedSearch) -> Criteria:
        """What a search in pages asks for."""
        plain = tuple(Match(*each) for each in search.conditions if isinstance(each, Condition))
        either = tuple(AnyMatch.of(each.alternatives) for each in search.conditions if isinstance(each, Either))
        neither = tuple(AnyMatch.of(each.alternatives) for each in search.conditions if isinstance(each, Neither))
        return cls(search.kind, plain, search.patient_ids, either, neither)


class StoredObject(NamedTuple):
    """One object that was found. ebrim is None where no rendering was asked for.

    The association's ends and type are None for other kinds. Status, logicalID, version and last_updated (the second
    of Registration.last_updated, 14 digits) are those of a DocumentEntry or Folder, and None for other kinds. A tuple,
    because answers have hundreds of them, and a frozen dataclass takes three times as long.
    """

    kind: ObjectKind
    entry_uuid: str
    patient_id: str
    home_community_id: str | None = None
    ebrim: bytes | None = None
    source_object: str | None = None
    target_object: str | None = None
    association_type: str | None = None
    availability_status: str | None = None
    logical_id: str | None = None
    version: str | None = None
    last_updated: str | None = None


@dataclass(frozen=True, slots=True)
class Questions:
    """What must be known to judge a submission.

    patient_id      CX text of the SubmissionSet
    identifiers     entryUUIDs, uniqueIds of SubmissionSets and Folders, and texts of VersionNames, that the submission
                    brings: are they taken?
    document_ids    uniqueIds of the documents it brings: are they known, with which hash?
    references      entryUUIDs outside of the submission that its associations point at
    replaced        those of `references` that would be deprecated: their relatives are fetched too
    identities      patient ids (CX text): what did feeds say of them?
    """

    patient_id: str
    identifiers: frozenset[str] = frozenset()
    document_ids: frozenset[str] = frozenset()
    references: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()
    identities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a registered document with some uniqueId looks like; hash in lower case, either may be None."""

    entry_uuid: str
    hash: str | None
    size: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """The answers to Questions, as they stood at one moment.

    sequence          of the dossier's last change; 0 where there is none
    taken             those of `identifiers` that are in use, or were until removed, and by which kind of object
    documents         by uniqueId: every document that has it, be it registered or removed
    objects           by entryUUID: those of `references` that exist (of any patient), and the relatives of `replaced`:
                      - the sources of Approved APND, XFRM and XFRM_RPLC associations to them, and to those, and so on
                      - the Folders that hold any of the replaced
    owners            by entryUUID: patient id (CX text) of each of `objects`
    relations         the Approved associations that led from `replaced` to their relatives
    identities        by patient id: what feeds said of those that were asked for; those that no feed named are left out
    origins           by identifier of `taken`, and by entryUUID of documents that differ: the SubmissionSet that it
                      came with, where that was asked (origins.py)
    """

    patient_id: str
    sequence: int = 0
    taken: Mapping[str, ObjectKind] = field(default_factory=dict)
    documents: Mapping[str, tuple[Fingerprint, ...]] = field(default_factory=dict)
    objects: Mapping[str, AnyObject] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    relations: tuple[Association, ...] = ()
    identities: Mapping[str, PatientIdentity] = field(default_factory=dict)
    origins: Mapping[str, SubmissionSet] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Revision:
    """What a change does to an object that is registered already. None: this attribute stays.

    Where all of them stay, the object is changed by what its associations say: its FHIR resource tells that, too.

    last_update_time   14 digits, Folders only
    outdated           whether there is a newer version of the object, in any dossier
    """

    entry_uuid: str
    availability_status: str | None = None
    last_update_time: str | None = None
    outdated: bool | None = None


@dataclass(frozen=True, slots=True)
class IdentityChange:
    """What a patient identity feed says of the patient whose dossier it changes.

    merged_into   patient id (CX text) that answers for this one from now on, for good; None: the patient is known
    """

    merged_into: str | None = None


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """What all feeds together said of a patient id.

    merged_into   see IdentityChange
    merged_from   the patient ids that were merged into this one directly, sorted
    """

    merged_into: str | None = None
    merged_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """An object that a change removes, and what is kept of it: names that nobody may have after it.

    kind        of ObjectKind
    unique_id   of the object, where it has one
    hash, size  of a document, hash in lower case: its uniqueId means these bytes for ever
    """

    entry_uuid: str
    kind: str
    unique_id: str | None = None
    hash: str | None = None
    size: str | None = None


class VersionName(NamedTuple):
    """What only one change can take of those that were judged on the same versions of an object.

    kind         of the object
    logical_id   its own, whatever the entryUUID and the patient of the version
    number       of the version after the newest one; or a greater one, where that is taken: what a removal took, and
                 what removed versions took, stays taken
    """

    kind: ObjectKind
    logical_id: str
    number: int

    @property
    def text(self) -> str:
        """Among identifiers, of which it is none that anybody could send."""
        return f"{self.logical_id}#{self.number}"

    @property
    def next(self) -> VersionName:
        return self._replace(number=self.number + 1)


@dataclass(frozen=True, slots=True)
class RegistryChange:
    """What one accepted submission does to one dossier: the unit that is committed, logged and replayed.

    change_id   a UUID, new for every change
    time        when it was judged: UTC, `YYYY-MM-DDThh:mm:ss.ffffffZ`
    objects     new objects, complete: entryUUIDs, logicalIDs, versions and statuses are as they will be found
    identity    what a feed says of the patient
    removals    objects that are gone afterwards, in the index and in all records of the log; not among `revisions`
    versions    names for the versions that it brings, here and elsewhere, and for those that it removes but first ones;
                no other change takes them; not in the log
    elsewhere   changes of other dossiers that are one with this: where it is committed they are, and where it is not
                they are not. Those dossiers are taken as they are by then. What such a change brings has new names;
                what it revises may be gone by then, and is passed over
    """

    patient_id: str
    change_id: str
    time: str
    objects: tuple[AnyObject, ...]
    revisions: tuple[Revision, ...] = ()
    identity: IdentityChange | None = None
    removals: tuple[Removal, ...] = ()
    versions: tuple[VersionName, ...] = ()
    elsewhere: tuple[RegistryChange, ...] = ()


class FactsMoved(Exception):
    """Another change came between known() and apply(). Nothing was written; read and judge again."""


class StoreBusy(Exception):
    """The store can not answer now (locked, gone, too slow). Nothing was written. Answered as XDSRegistryBusy."""


class StoreFull(Exception):
    """No room is left. Nothing was written. Answered as XDSRegistryOutOfResources."""


class OutcomeOpen(Exception):
    """The store did not answer whether a change was committed. It is being taken back, but may stand by then.

    Whoever asked for it asks for its objects before he tries again.
    """


class PatientsMerged(Exception):
    """A patient who was asked for, or whose object was found, was merged with another: `identities` tells with whom."""


class StoreDamaged(Exception):
    """What is stored can not be right: a rendering that does not decode, a log with a gap. For the operator."""


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One object of the index with all that the index says of it, for comparison with the log."""

    kind: ObjectKind
    entry_uuid: str
    patient_id: str
    columns: Mapping[str, Column]
    ebrim: bytes


Progress: TypeAlias = Callable[[int, int], None]
"""Called with (records done, records in all, about) from time to time."""


class Extent(NamedTuple):
    """About how much a store holds: for progress bars, and for nothing that has to be right."""

    records: int
    objects: int


class Finder(Protocol):
    """Finds objects. Every method may raise StoreBusy."""

    async def find(
        self, criteria: Criteria, *, rendering: bool = True, limit: int | None = None
    ) -> tuple[StoredObject, ...]:
        """The objects that meet `criteria`, oldest first within a dossier, at most `limit`."""
        ...

    async def count(self, criteria: Criteria) -> int:
        """How many objects meet `criteria`."""
        ...


class MetadataStore(Finder, Protocol):
    """Keeps dossiers. Every method may raise StoreBusy, those that write also StoreFull.

    Criteria and searches are of dossiers. With `unmerged`, reads raise PatientsMerged instead of answering where those
    may not be all: where one of the patient ids that are given was merged into another or another into it; where none
    is given, the patient of an object that is found, or would be by fewer conditions. Every merge is told that was
    committed before the read began.
    """

    async def find(
        self, criteria: Criteria, *, rendering: bool = True, limit: int | None = None, unmerged: bool = False
    ) -> tuple[StoredObject, ...]:
        """See Finder."""
        ...

    async def count(self, criteria: Criteria, *, unmerged: bool = False) -> int:
        """See Finder."""
        ...

    async def known(self, questions: Questions) -> Facts:
        """The facts, all of the same moment."""
        ...

    async def apply(self, change: RegistryChange, facts: Facts) -> LogRecord:
        """Commit `change`, judged on `facts`, whole and durably with all that it is elsewhere; its log record.

        When this returns, the change survives a crash of the process and of the machine, and every query of every
        process sees it. Of two changes judged on the same sequence of a dossier one is committed; two changes of
        different dossiers that bring the same identifier or version can not both be committed, nor two that bring the
        same document uniqueId with different hashes (but as versions of one DocumentEntry).
        What it removes is blanked in the log: in the records that brought it there is nothing left but its SHA-256.
        Raises FactsMoved; OutcomeOpen, where the store is on another host.
        """
        ...

    async def page(self, search: PagedSearch, *, unmerged: bool = False) -> Page:
        """A page of a search, all of it of one moment, and in as many reads whatever its size (xds/paged_search.py).

        Whoever goes from page to page meets every object once that met the criteria when he began and does still.
        Raises ValueError where a condition is of no column, the order of none that is a time, or `after` or `as_of` are
        none that this store gave.
        """
        ...

    async def patient_of(self, patient_key: str) -> str | None:
        """The patient id (CX text) for which a Registration's patient_key stands; None: nothing was registered."""
        ...

    async def patient_key(self, patient_id: str) -> str | None:
        """The patient_key of a dossier; None: nothing was registered for the patient, or without a FhirRenderer."""
        ...

    def secret_for(self, purpose: str) -> bytes:
        """32 octets: for one purpose always the same, and the same for everybody who uses this store."""
        ...

    async def identities(self, patient_ids: Collection[str]) -> Mapping[str, PatientIdentity]:
        """By patient id: what feeds said of it. A patient id that no feed named is left out."""
        ...

    async def extent(self) -> Extent:
        """About how much there is, told without reading it: it takes no longer where there are billions."""
        ...

    def records(self, patient_id: str | None = None) -> AsyncIterator[LogRecord]:
        """The log, dossier by dossier, each in sequence; or that of one dossier."""
        ...

    def index_rows(self, patient_id: str | None = None) -> AsyncIterator[IndexRow]:
        """The index, dossier by dossier in the order of records(); or that of one dossier.

        Of a rendering that can not be restored a row has what is there instead, so that the others can be read.
        """
        ...

    async def reindex(self, progress: Progress | None = None) -> int:
        """Write the index again from the log, and return the number of records. Readers see the old one until then."""
        ...

    async def replay(self, records: Sequence[LogRecord]) -> None:
        """Append records that another store committed, exactly as they are, and bring the index up to date.

        records   as records() of the other store gives them: each after those of its dossier that come before it.
                  A body may be None; then the record brings nothing but its place in the chain
        A record that is there already, with this hash, is skipped: a copy that was interrupted is begun again. When
        this returns, the records and what the index says of them are durable, as after apply().
        Raises StoreDamaged where a record does not follow its dossier's log, can not be read, or brings an identifier
        or a document's uniqueId that means something else here; no query ever finds what it would bring. The records
        before it may be there.
        """
        ...

    async def check(self) -> None:
        """Answer a trivial read, or raise StoreBusy: for /health/ready."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of files and connections."""
        ...
