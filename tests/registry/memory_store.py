"""A MetadataStore in plain dictionaries: for tests of what stands on the port, and to compare adapters with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from registry.change_body import ChangeBody, blanked, decoded, encoded
from registry.dossier_log import FIRST_PREVIOUS_HASH, LogRecord
from registry.fhir_resources import submitted
from registry.metadata_store import (
    AnyMatch,
    Criteria,
    Extent,
    Facts,
    FactsMoved,
    Fingerprint,
    IndexRow,
    Match,
    MetadataStore,
    Operator,
    PatientIdentity,
    PatientsMerged,
    Progress,
    Questions,
    RegistryChange,
    Removal,
    Revision,
    StoreDamaged,
    StoredObject,
    VersionName,
)
from registry.page_links import links_of
from registry.search_columns import COLUMN_SHAPES, Column, Shape, moment, registration_columns, search_columns
from xds.actors import FhirRenderer, ObjectCodec, Registration
from xds.hl7v2 import DTM
from xds.metadata import (
    AnyObject,
    Association,
    AssociationType,
    AvailabilityStatus,
    DocumentEntry,
    Folder,
    ObjectKind,
    SubmissionSet,
)
from xds.paged_search import Page, PagedObject, PagedSearch, Place
from xds.stored_queries import OF_TIMES

_OPPOSITES = {Operator.NONE_OF: Operator.ALL_OF_ANY_OF, Operator.UNLIKE: Operator.LIKE}
_DERIVED = frozenset({AssociationType.APND, AssociationType.XFRM, AssociationType.XFRM_RPLC})


class PlainCodec:
    """Renders an object as a token and remembers it: no XML."""

    def __init__(self) -> None:
        self._rendered: dict[bytes, AnyObject] = {}

    def written(self, item: AnyObject) -> bytes:
        rendering = f"{item.entry_uuid} {hashlib.sha256(repr(item).encode()).hexdigest()}".encode()
        self._rendered[rendering] = item
        return rendering

    def read(self, rendering: bytes) -> AnyObject:
        return self._rendered[rendering]


@dataclass
class MemoryStore(MetadataStore):
    """All dossiers in memory.

    codec     how objects are rendered
    renderer  makes FHIR resources
    changed_at   time of the last change of an object; submitted: when its SubmissionSet was made
    outdated  entryUUIDs of what has a newer version
    objects   every registered object as it stands, by entryUUID, oldest first
    owners    its patient
    """

    codec: ObjectCodec = field(default_factory=PlainCodec)
    renderer: FhirRenderer | None = None
    changed_at: dict[str, str] = field(default_factory=dict)
    submitted: dict[str, str | None] = field(default_factory=dict)
    outdated: set[str] = field(default_factory=set)
    objects: dict[str, AnyObject] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    removed: dict[str, Removal] = field(default_factory=dict)
    changes: dict[str, list[RegistryChange]] = field(default_factory=dict)
    log: dict[str, list[LogRecord]] = field(default_factory=dict)
    versions: set[VersionName] = field(default_factory=set)

    async def known(self, questions: Questions) -> Facts:
        relations = tuple(self._relations(questions.replaced))
        wanted = questions.references | {relation.source_object for relation in relations}
        objects = {each: self.objects[each] for each in wanted if each in self.objects}
        return Facts(
            patient_id=questions.patient_id,
            sequence=len(self.log.get(questions.patient_id, ())),
            taken={each: kind for each, kind in self._identifiers() if each in questions.identifiers}
            | {each.text: each.kind for each in self.versions if each.text in questions.identifiers},
            documents={each: found for each in questions.document_ids if (found := self._fingerprints(each))},
            objects=objects,
            owners={each: self.owners[each] for each in objects},
            relations=relations,
            identities=await self.identities(questions.identities),
        )

    async def apply(self, change: RegistryChange, facts: Facts) -> LogRecord:
        records = self.log.setdefault(change.patient_id, [])
        if len(records) != facts.sequence or any(map(self._clashes, (change, *change.elsewhere))):
            raise FactsMoved
        self.versions.update(change.versions)
        record = self._committed(change)
        for each in change.elsewhere:
            self._committed(each)
        return record

    def _committed(self, change: RegistryChange) -> LogRecord:
        records = self.log.setdefault(change.patient_id, [])
        renderings = [self.codec.written(item) for item in change.objects]
        body, body_hash = encoded(renderings, change.revisions, change.identity, change.removals)
        record = LogRecord.following(
            records[-1].hash if records else FIRST_PREVIOUS_HASH,
            patient_id=change.patient_id,
            sequence=len(records) + 1,
            change_id=change.change_id,
            time=change.time,
            body=body,
            body_hash=body_hash,
        )
        records.append(record)
        self.changes.setdefault(change.patient_id, []).append(change)
        self._take_effect(change)
        return record

    async def find(
        self, criteria: Criteria, *, rendering: bool = True, limit: int | None = None, unmerged: bool = False
    ) -> tuple[StoredObject, ...]:
        found = self._matching(criteria)[:limit]
        if unmerged:
            self._require_unmerged(criteria.patient_ids or {self.owners[item.entry_uuid] for item in found})
        return tuple(self._stored(item, rendering) for item in found)

    async def count(self, criteria: Criteria, *, unmerged: bool = False) -> int:
        if unmerged:
            self._require_unmerged(criteria.patient_ids)
        return len(self._matching(criteria))

    def _require_unmerged(self, patient_ids: Collection[str]) -> None:
        said = [(patient, change.identity) for patient, changes in self.changes.items() for change in changes]
        merges = [(patient, identity.merged_into) for patient, identity in said if identity and identity.merged_into]
        if any(patient in merge for merge in merges for patient in patient_ids):
            raise PatientsMerged

    async def page(self, search: PagedSearch, *, unmerged: bool = False) -> Page:
        if COLUMN_SHAPES[search.kind].get(search.ordered_by) not in (Shape.TIME, Shape.MOMENT):
            raise ValueError(f"{search.ordered_by} is not a column that pages can be ordered by")
        criteria = Criteria.of(search)
        in_order = list(self.objects)
        seen = int(search.as_of) if search.as_of else len(in_order)
        matching = [item for item in self._matching(criteria) if in_order.index(item.entry_uuid) < seen]

        def place(item: AnyObject) -> Place:
            columns = search_columns(item) | registration_columns(item.kind, self._registration(item.entry_uuid))
            time = columns[search.ordered_by] or ""
            return Place(time if isinstance(time, str) else time[0], f"{in_order.index(item.entry_uuid):09}")

        ordered = sorted(matching, key=place, reverse=search.descending)
        if search.after is not None:
            ordered = [item for item in ordered if (place(item) < search.after) is search.descending]
            ordered = [item for item in ordered if place(item) != search.after]
        page = [self._paged(item, place(item)) for item in ordered[: search.limit]]
        if unmerged:
            self._require_unmerged(search.patient_ids or {each.patient_id for each in page})
        references = [self._stored(each, rendering=False) for each in self.objects.values()]
        with_links = links_of(page, lambda wanted: [each for each in references if self._meets(each, wanted)])
        total = None if search.after else len(matching)
        return Page(with_links, len(ordered) > search.limit > 0, total, str(seen))

    def _meets(self, reference: StoredObject, criteria: Criteria) -> bool:
        item = self.objects[reference.entry_uuid]
        return item.kind is criteria.kind and all(self._met(item, match) for match in criteria.matches)

    def _paged(self, item: AnyObject, place: Place) -> PagedObject:
        owner = self.owners[item.entry_uuid]
        registration = self._registration(item.entry_uuid, self._key(owner))
        resource = self.renderer.rendered(item, registration) if self.renderer else None
        ebrim = None if resource is not None else self.codec.written(item)
        return PagedObject(
            item.kind, item.entry_uuid, owner, place, resource, ebrim,
            logical_id=item.logical_id or item.entry_uuid, version=item.version or "1",
        )  # fmt: skip

    def _registration(self, entry_uuid: str, key: str = "") -> Registration:
        is_outdated = entry_uuid in self.outdated
        return Registration(key, self.changed_at[entry_uuid], self.submitted[entry_uuid], is_outdated)

    def _key(self, patient_id: str) -> str:
        return hashlib.sha256(patient_id.encode()).hexdigest()[:32]

    async def patient_of(self, patient_key: str) -> str | None:
        known = {self._key(patient): patient for patient in self.log}
        return known.get(patient_key) if self.renderer else None

    async def patient_key(self, patient_id: str) -> str | None:
        return self._key(patient_id) if self.renderer and patient_id in self.log else None

    def secret_for(self, purpose: str) -> bytes:
        return hashlib.sha256(purpose.encode()).digest()

    async def identities(self, patient_ids: Collection[str]) -> Mapping[str, PatientIdentity]:
        said = {
            patient: [change.identity for change in changes if change.identity]
            for patient, changes in self.changes.items()
        }
        merged = {
            patient: next((each.merged_into for each in every if each.merged_into), None)
            for patient, every in said.items()
        }
        return {
            patient: PatientIdentity(
                merged[patient], tuple(sorted(other for other in merged if merged[other] == patient))
            )
            for patient in patient_ids
            if said.get(patient)
        }

    async def extent(self) -> Extent:
        return Extent(sum(map(len, self.log.values())), len(self.objects))

    async def records(self, patient_id: str | None = None) -> AsyncIterator[LogRecord]:
        for patient in self._patients(patient_id):
            for record in self.log[patient]:
                yield record

    async def index_rows(self, patient_id: str | None = None) -> AsyncIterator[IndexRow]:
        for patient in self._patients(patient_id):
            for item in self._dossier(patient):
                columns = search_columns(item)
                yield IndexRow(item.kind, item.entry_uuid, patient, columns, self.codec.written(item))

    async def reindex(self, progress: Progress | None = None) -> int:
        self.objects, self.owners, self.removed, self.outdated = {}, {}, {}, set()
        changes = [change for dossier in self.changes.values() for change in dossier]
        for done, change in enumerate(changes, 1):
            self._take_effect(change)
            if progress:
                progress(done, len(changes))
        return len(changes)

    async def replay(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            log = self.log.get(record.patient_id, [])
            if record.sequence <= len(log):
                if log[record.sequence - 1].hash != record.hash:
                    raise StoreDamaged("another record")
                continue
            body = decoded(record.body) if record.body is not None else ChangeBody((), ())
            objects = tuple(self.codec.read(rendering) for rendering in body.renderings)
            known = {*self.objects, *(item.entry_uuid for item in objects)}
            revisions = tuple(each for each in body.revisions if each.entry_uuid in known)
            change = RegistryChange(
                record.patient_id, record.change_id, record.time, objects, revisions, body.identity, body.removals
            )
            if record.problem(log[-1] if log else None) or self._clashes(change):
                raise StoreDamaged("a record that does not follow")
            self.log.setdefault(record.patient_id, []).append(record)
            self.changes.setdefault(record.patient_id, []).append(change)
            self._take_effect(change)

    async def check(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def _take_effect(self, change: RegistryChange) -> None:
        for item in change.objects:
            self.objects[item.entry_uuid] = item
            self.owners[item.entry_uuid] = change.patient_id
            self.changed_at[item.entry_uuid] = change.time
            self.submitted[item.entry_uuid] = submitted(change.objects)
        for revision in change.revisions:
            self.objects[revision.entry_uuid] = _revised(self.objects[revision.entry_uuid], revision)
            self.changed_at[revision.entry_uuid] = change.time
            if revision.outdated is not None:
                (self.outdated.add if revision.outdated else self.outdated.discard)(revision.entry_uuid)
        for removal in change.removals:
            self.objects.pop(removal.entry_uuid, None)
            self.owners.pop(removal.entry_uuid, None)
            self.removed[removal.entry_uuid] = removal
        if change.removals:
            self._blank(change.patient_id, {removal.entry_uuid for removal in change.removals})

    def _blank(self, patient_id: str, entry_uuids: set[str]) -> None:
        """Leave nothing of these objects in a dossier's log."""
        for number, record in enumerate(self.log[patient_id]):
            left = record.body and blanked(
                record.body, lambda rendering: self.codec.read(rendering).entry_uuid in entry_uuids
            )
            if left:
                self.log[patient_id][number] = replace(record, body=left)
        self.changes[patient_id] = [
            replace(
                change,
                objects=tuple(each for each in change.objects if each.entry_uuid not in entry_uuids),
                revisions=tuple(each for each in change.revisions if each.entry_uuid not in entry_uuids),
            )
            for change in self.changes[patient_id]
        ]

    def _clashes(self, change: RegistryChange) -> bool:
        """Whether another dossier took an identifier of the change, or its uniqueId for another document."""
        taken = {each for each, _ in self._identifiers()}
        if not self.versions.isdisjoint(change.versions):
            return True
        for item in change.objects:
            first = item.logical_id in (None, item.entry_uuid)
            unique_id = item.unique_id if first and isinstance(item, SubmissionSet | Folder) else None
            if item.entry_uuid in taken or unique_id in taken:
                return True
            if (
                isinstance(item, DocumentEntry)
                and first
                and any(
                    known.hash != (item.hash and item.hash.lower())
                    for known in self._fingerprints(item.unique_id or "")
                )
            ):
                return True
        return False

    def _identifiers(self) -> Iterator[tuple[str, ObjectKind]]:
        for item in self.objects.values():
            yield item.entry_uuid, item.kind
            if isinstance(item, SubmissionSet | Folder) and item.unique_id:
                yield item.unique_id, item.kind
        for removal in self.removed.values():
            yield removal.entry_uuid, ObjectKind(removal.kind)
            if removal.unique_id and removal.kind != ObjectKind.DOCUMENT_ENTRY:
                yield removal.unique_id, ObjectKind(removal.kind)

    def _fingerprints(self, unique_id: str) -> tuple[Fingerprint, ...]:
        return tuple(
            Fingerprint(item.entry_uuid, item.hash and item.hash.lower(), item.size)
            for item in self.objects.values()
            if isinstance(item, DocumentEntry) and item.unique_id == unique_id
        ) + tuple(
            Fingerprint(each.entry_uuid, each.hash, each.size)
            for each in self.removed.values()
            if each.unique_id == unique_id and each.kind == ObjectKind.DOCUMENT_ENTRY
        )

    def _relations(self, replaced: frozenset[str]) -> Iterator[Association]:
        """See Facts.objects."""
        approved = [
            item
            for item in self.objects.values()
            if isinstance(item, Association) and item.availability_status == AvailabilityStatus.APPROVED
        ]
        for link in approved:
            in_folder = isinstance(self.objects.get(link.source_object), Folder)
            if in_folder and link.association_type == AssociationType.HAS_MEMBER and link.target_object in replaced:
                yield link
        reached, frontier = set(replaced), set(replaced)
        while frontier:
            links = [link for link in approved if link.association_type in _DERIVED and link.target_object in frontier]
            yield from links
            frontier = {link.source_object for link in links} - reached
            reached |= frontier

    def _patients(self, patient_id: str | None) -> Iterable[str]:
        return list(self.log) if patient_id is None else [each for each in self.log if each == patient_id]

    def _dossier(self, patient_id: str) -> list[AnyObject]:
        return [item for each, item in self.objects.items() if self.owners[each] == patient_id]

    def _matching(self, criteria: Criteria) -> list[AnyObject]:
        patients = criteria.patient_ids or tuple(self.log)
        return [
            item
            for patient in patients
            for item in self._dossier(patient)
            if item.kind is criteria.kind and self._all_met(item, criteria)
        ]

    def _all_met(self, item: AnyObject, criteria: Criteria) -> bool:
        return (
            all(self._met(item, match) for match in criteria.matches)
            and all(self._any_met(item, either) for either in criteria.either)
            and not any(self._any_met(item, neither) for neither in criteria.neither)
        )

    def _any_met(self, item: AnyObject, either: AnyMatch) -> bool:
        return any(all(self._met(item, match) for match in matches) for matches in either.alternatives)

    def _met(self, item: AnyObject, match: Match) -> bool:
        columns = search_columns(item) | registration_columns(item.kind, self._registration(item.entry_uuid))
        return _matches(columns, match)

    def _stored(self, item: AnyObject, rendering: bool) -> StoredObject:
        link = item if isinstance(item, Association) else None
        time = self._registration(item.entry_uuid).last_updated if isinstance(item, DocumentEntry | Folder) else None
        return StoredObject(
            kind=item.kind,
            entry_uuid=item.entry_uuid,
            patient_id=self.owners[item.entry_uuid],
            home_community_id=item.home_community_id,
            ebrim=self.codec.written(item) if rendering else None,
            source_object=link.source_object if link else None,
            target_object=link.target_object if link else None,
            association_type=link.association_type if link else None,
            availability_status=item.availability_status if isinstance(item, DocumentEntry | Folder) else None,
            logical_id=item.logical_id if isinstance(item, DocumentEntry | Folder) else None,
            version=item.version if isinstance(item, DocumentEntry | Folder) else None,
            last_updated=moment(time) if time else None,
        )


def _revised(item: AnyObject, revision: Revision) -> AnyObject:
    changes: dict[str, Any] = {}
    if revision.availability_status is not None:
        changes["availability_status"] = revision.availability_status
    if revision.last_update_time is not None:
        changes["last_update_time"] = DTM(revision.last_update_time)
    return replace(item, **changes)


def _matches(columns: Mapping[str, Column], match: Match) -> bool:
    column = columns[match.attribute]
    if opposite := _OPPOSITES.get(match.operator):
        return not _matches(columns, replace(match, operator=opposite))
    if match.operator is Operator.PRESENT:
        return bool(column)
    if column is None:
        return match.operator in (Operator.AT_OR_AFTER_IF_ANY, Operator.BEFORE_IF_ANY)
    groups = match.groups
    if match.operator in OF_TIMES:
        first, last = (column, column) if isinstance(column, str) else column
        is_from = match.operator in (Operator.AT_OR_AFTER, Operator.AT_OR_AFTER_IF_ANY)
        return last >= groups[0][0] if is_from else first < groups[0][0]
    values = (column,) if isinstance(column, str) else column
    meets = _WAYS.get(match.operator, str.__eq__)
    return all(any(meets(value, each) for value in values for each in group) for group in groups)


def _like(pattern: str, value: str) -> bool:
    """% any text, _ one character, without regard to case."""
    expression = "".join({"%": ".*", "_": "."}.get(each, re.escape(each)) for each in pattern.casefold())
    return re.fullmatch(expression, value.casefold(), re.DOTALL) is not None


_WAYS: Mapping[Operator, Callable[[str, str], bool]] = {
    Operator.LIKE: lambda value, pattern: _like(pattern, value),
    Operator.STARTS_WITH: lambda value, text: value.startswith(text),
    Operator.ENDS_WITH: lambda value, text: value.endswith(text),
}
