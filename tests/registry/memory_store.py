"""A MetadataStore in plain dictionaries: for tests of what stands on the port, and to compare adapters with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from registry.change_body import ChangeBody, decoded, encoded
from registry.dossier_log import FIRST_PREVIOUS_HASH, LogRecord
from registry.metadata_store import (
    Criteria,
    Facts,
    FactsMoved,
    Fingerprint,
    IndexRow,
    Match,
    MetadataStore,
    Operator,
    Progress,
    Questions,
    RegistryChange,
    Revision,
    StoreDamaged,
    StoredObject,
)
from registry.search_columns import Column, search_columns
from xds.actors import ObjectCodec
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

_DERIVED = frozenset({AssociationType.APND, AssociationType.XFRM, AssociationType.XFRM_RPLC})


class PlainCodec:
    """Renders an object as a token and remembers it: no XML."""

    def __init__(self) -> None:
        self._rendered: dict[bytes, AnyObject] = {}

    def written(self, item: AnyObject) -> bytes:
        rendering = hashlib.sha256(repr(item).encode()).hexdigest().encode()
        self._rendered[rendering] = item
        return rendering

    def read(self, rendering: bytes) -> AnyObject:
        return self._rendered[rendering]


@dataclass
class MemoryStore(MetadataStore):
    """All dossiers in memory.

    codec     how objects are rendered
    objects   every registered object as it stands, by entryUUID, oldest first
    owners    its patient
    """

    codec: ObjectCodec = field(default_factory=PlainCodec)
    objects: dict[str, AnyObject] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    changes: dict[str, list[RegistryChange]] = field(default_factory=dict)
    log: dict[str, list[LogRecord]] = field(default_factory=dict)

    async def known(self, questions: Questions) -> Facts:
        relations = tuple(self._relations(questions.replaced))
        wanted = questions.references | {relation.source_object for relation in relations}
        objects = {each: self.objects[each] for each in wanted if each in self.objects}
        return Facts(
            patient_id=questions.patient_id,
            sequence=len(self.log.get(questions.patient_id, ())),
            taken={each: kind for each, kind in self._identifiers() if each in questions.identifiers},
            documents={each: found for each in questions.document_ids if (found := self._fingerprints(each))},
            objects=objects,
            owners={each: self.owners[each] for each in objects},
            relations=relations,
        )

    async def apply(self, change: RegistryChange, facts: Facts) -> LogRecord:
        records = self.log.setdefault(change.patient_id, [])
        if len(records) != facts.sequence or self._clashes(change):
            raise FactsMoved
        record = LogRecord.following(
            records[-1].hash if records else FIRST_PREVIOUS_HASH,
            patient_id=change.patient_id,
            sequence=len(records) + 1,
            change_id=change.change_id,
            time=change.time,
            body=encoded([self.codec.written(item) for item in change.objects], change.revisions),
        )
        records.append(record)
        self.changes.setdefault(change.patient_id, []).append(change)
        self._take_effect(change)
        return record

    async def find(
        self, criteria: Criteria, *, rendering: bool = True, limit: int | None = None
    ) -> tuple[StoredObject, ...]:
        found = self._matching(criteria)
        return tuple(self._stored(item, rendering) for item in (found if limit is None else found[:limit]))

    async def count(self, criteria: Criteria) -> int:
        return len(self._matching(criteria))

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
        self.objects, self.owners = {}, {}
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
            revisions = tuple(each for each in body.revisions if each.entry_uuid in self.objects)
            change = RegistryChange(record.patient_id, record.change_id, record.time, objects, revisions)
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
        for revision in change.revisions:
            self.objects[revision.entry_uuid] = _revised(self.objects[revision.entry_uuid], revision)

    def _clashes(self, change: RegistryChange) -> bool:
        """Whether another dossier took an identifier of the change, or its uniqueId for another document."""
        taken = {each for each, _ in self._identifiers()}
        for item in change.objects:
            if item.entry_uuid in taken or (isinstance(item, SubmissionSet | Folder) and item.unique_id in taken):
                return True
            if isinstance(item, DocumentEntry) and any(
                known.hash != (item.hash and item.hash.lower()) for known in self._fingerprints(item.unique_id or "")
            ):
                return True
        return False

    def _identifiers(self) -> Iterator[tuple[str, ObjectKind]]:
        for item in self.objects.values():
            yield item.entry_uuid, item.kind
            if isinstance(item, SubmissionSet | Folder) and item.unique_id:
                yield item.unique_id, item.kind

    def _fingerprints(self, unique_id: str) -> tuple[Fingerprint, ...]:
        return tuple(
            Fingerprint(item.entry_uuid, item.hash and item.hash.lower(), item.size)
            for item in self.objects.values()
            if isinstance(item, DocumentEntry) and item.unique_id == unique_id
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
            if item.kind is criteria.kind and all(_matches(search_columns(item), match) for match in criteria.matches)
        ]

    def _stored(self, item: AnyObject, rendering: bool) -> StoredObject:
        link = item if isinstance(item, Association) else None
        return StoredObject(
            kind=item.kind,
            entry_uuid=item.entry_uuid,
            patient_id=self.owners[item.entry_uuid],
            home_community_id=item.home_community_id,
            ebrim=self.codec.written(item) if rendering else None,
            source_object=link.source_object if link else None,
            target_object=link.target_object if link else None,
            association_type=link.association_type if link else None,
        )


def _revised(item: AnyObject, revision: Revision) -> AnyObject:
    changes: dict[str, Any] = {}
    if revision.availability_status is not None:
        changes["availability_status"] = revision.availability_status
    if revision.last_update_time is not None:
        changes["last_update_time"] = DTM(revision.last_update_time)
    return replace(item, **changes)


def _matches(columns: dict[str, Column], match: Match) -> bool:
    column = columns[match.attribute]
    if column is None:
        return False
    groups = match.groups
    if match.operator is Operator.AT_OR_AFTER:
        return column[1] >= groups[0][0]
    if match.operator is Operator.BEFORE:
        return column[0] < groups[0][0]
    values = (column,) if isinstance(column, str) else column
    if match.operator is Operator.LIKE:
        return any(_like(pattern, value) for pattern in groups[0] for value in values)
    return all(any(value in group for value in values) for group in groups)


def _like(pattern: str, value: str) -> bool:
    """% any text, _ one character, without regard to case."""
    expression = "".join({"%": ".*", "_": "."}.get(each, re.escape(each)) for each in pattern.casefold())
    return re.fullmatch(expression, value.casefold(), re.DOTALL) is not None
