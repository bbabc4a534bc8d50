"""`toimik doctor --deep`: does the index say what the log says, and is the log what was written?

For any MetadataStore, and while it is in use. Every dossier's chain is verified, its log is replayed in memory, and
the index must hold exactly what comes out: every column, every rendering, every identifier.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, replace

from registry.change_body import decoded, revised
from registry.dossier_log import LogRecord
from registry.metadata_store import (
    Facts,
    Fingerprint,
    IndexRow,
    MetadataStore,
    PatientIdentity,
    Questions,
    Removal,
    StoreDamaged,
)
from registry.search_columns import search_columns
from registry.streams import runs, some_at_a_time
from xds.actors import ObjectCodec
from xds.metadata import AnyObject, DocumentEntry, Folder, ObjectKind, SubmissionSet

_ATTEMPTS = 5
_DOSSIERS_AT_ONCE = 16
_OBJECTS_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class CheckedDossier:
    """What the check of one dossier found.

    records    of its log
    objects    that its index should hold
    problems   in sentences; they name records and entryUUIDs, and no patient
    """

    patient_id: str
    records: int
    objects: int
    problems: tuple[str, ...] = ()


async def checked_dossiers(store: MetadataStore, codec: ObjectCodec) -> AsyncIterator[CheckedDossier]:
    """Check every dossier, and yield each as it is done. Memory is that of the largest dossier, or some small ones.

    Log and index are read beside each other, each once; a dossier that differs is looked at again by itself.
    """
    dossiers = some_at_a_time(
        _beside(store, codec), _DOSSIERS_AT_ONCE, size=lambda each: len(each.rows), enough=_OBJECTS_AT_ONCE
    )
    async with aclosing(dossiers):
        async for some in dossiers:
            for checked in await asyncio.gather(*(_checked(store, codec, each) for each in some)):
                yield checked


async def _checked(store: MetadataStore, codec: ObjectCodec, dossier: _Dossier) -> CheckedDossier:
    checked = await _compared(store, dossier)
    # Perhaps it has moved since it was read.
    return await checked_dossier(store, codec, dossier.patient_id) if checked.problems else checked


async def checked_dossier(store: MetadataStore, codec: ObjectCodec, patient_id: str) -> CheckedDossier:
    """Check one dossier. If it moves while it is looked at, it is looked at again."""
    for _ in range(_ATTEMPTS):
        sequence = await _sequence(store, patient_id)
        rows = [row async for row in store.index_rows(patient_id)]
        replay = await anext(_replays(store.records(patient_id), codec), None)
        checked = await _compared(store, _Dossier(patient_id, replay, rows))
        if not checked.problems or await _sequence(store, patient_id) == sequence:
            return checked
    return replace(checked, problems=("the dossier changes faster than it can be checked; check it again",))


async def _replays(records: AsyncIterator[LogRecord], codec: ObjectCodec) -> AsyncIterator[_Replay]:
    """Each dossier, replayed to its end."""
    replay: _Replay | None = None
    async for record in records:
        if replay is None or record.patient_id != replay.patient_id:
            if replay is not None:
                yield replay
            replay = _Replay(codec, record.patient_id)
        replay.add(record)
    if replay is not None:
        yield replay


@dataclass(frozen=True, slots=True)
class _Dossier:
    """What log and index say of a patient. replay: None where the log has no record."""

    patient_id: str
    replay: _Replay | None
    rows: Sequence[IndexRow]


async def _beside(store: MetadataStore, codec: ObjectCodec) -> AsyncIterator[_Dossier]:
    """Every dossier of log or index, once. Both give them in the same order, but may move while they are read."""
    async with aclosing(runs(store.index_rows(), lambda row: row.patient_id)) as indexed:
        with closing(_Seen()) as seen:
            index = await anext(indexed, None)
            async for replay in _replays(store.records(), codec):
                patient_id = replay.patient_id
                while index is not None and index[0].patient_id in seen:
                    index = await anext(indexed, None)
                seen.add(patient_id)
                if index is not None and index[0].patient_id == patient_id:
                    yield _Dossier(patient_id, replay, index)
                    index = await anext(indexed, None)
                else:  # nothing but the patient was registered, or the index is behind or ahead
                    yield _Dossier(patient_id, replay, [row async for row in store.index_rows(patient_id)])
            while index is not None:
                if index[0].patient_id not in seen:
                    yield _Dossier(index[0].patient_id, None, index)
                index = await anext(indexed, None)


class _Seen:
    """Patients, in a temporary file without a name: some ten octets for each."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("CREATE TABLE patients (patient_id TEXT PRIMARY KEY) WITHOUT ROWID")

    def add(self, patient_id: str) -> None:
        self._connection.execute("INSERT INTO patients VALUES (?)", (patient_id,))

    def __contains__(self, patient_id: str) -> bool:
        found = self._connection.execute("SELECT 1 FROM patients WHERE patient_id = ?", (patient_id,))
        return found.fetchone() is not None

    def close(self) -> None:
        self._connection.close()


async def _compared(store: MetadataStore, dossier: _Dossier) -> CheckedDossier:
    """What is wrong with the dossier's log, and with what the store makes of it."""
    replay = dossier.replay
    if replay is None:
        stray = [f"the index has {dossier.rows[0].entry_uuid}, and the log nothing at all"] if dossier.rows else []
        return CheckedDossier(dossier.patient_id, 0, 0, tuple(stray))
    problems = [*replay.problems, *_index_problems(dossier.rows, replay)]
    problems += replay.fact_problems(await store.known(replay.questions()))
    problems += replay.identity_problems(await store.identities([replay.patient_id]))
    return CheckedDossier(replay.patient_id, replay.records, len(replay.objects), tuple(problems))


async def _sequence(store: MetadataStore, patient_id: str) -> int:
    return (await store.known(Questions(patient_id))).sequence


def _index_problems(rows: Sequence[IndexRow], replay: _Replay) -> Iterator[str]:
    missing = dict.fromkeys(replay.objects)
    for row in rows:
        missing.pop(row.entry_uuid, None)
        problem = replay.row_problem(row)
        if problem:
            yield problem
    for entry_uuid in missing:
        yield f"{entry_uuid} is missing from the index"


class _Replay:
    """One dossier as its log tells it."""

    def __init__(self, codec: ObjectCodec, patient_id: str) -> None:
        self.patient_id = patient_id
        self._codec = codec
        self._last: LogRecord | None = None
        self._blanked = False
        self.records = 0
        self.problems: list[str] = []
        self.objects: dict[str, AnyObject] = {}
        self._identity: PatientIdentity | None = None
        self._renderings: dict[str, bytes] = {}  # of objects that were never revised: as logged
        self._brought: dict[str, int] = {}  # by which record, as far as it is not blanked
        self._removals: list[Removal] = []

    def add(self, record: LogRecord) -> None:
        self.records += 1
        problem = record.problem(self._last)
        if problem:
            self.problems.append(problem)
        self._last = record
        if record.body is None:
            self._blanked = True
            return
        try:
            self._replay(record.body)
        except Exception as error:  # noqa: BLE001 whatever is wrong with a record is what this is looking for
            self.problems.append(f"record {record.sequence} can not be replayed: {error}")

    def _replay(self, body: bytes) -> None:
        change = decoded(body)
        if change.identity is not None:
            merged = self._identity.merged_into if self._identity else None
            self._identity = PatientIdentity(merged or change.identity.merged_into)
        self._blanked |= bool(change.blanks)
        for rendering in change.renderings:
            item = self._codec.read(rendering)
            self.objects[item.entry_uuid] = item
            self._renderings[item.entry_uuid] = rendering
            self._brought[item.entry_uuid] = self.records
        for revision in change.revisions:
            item_before = self.objects.get(revision.entry_uuid)
            if item_before is not None:
                self.objects[revision.entry_uuid] = revised(item_before, revision)
                self._renderings.pop(revision.entry_uuid, None)
            elif not self._blanked:
                raise StoreDamaged(f"{revision.entry_uuid} is revised, but was never registered")
        for removal in change.removals:
            self._remove(removal)

    def _remove(self, removal: Removal) -> None:
        record = self._brought.get(removal.entry_uuid)
        if record is not None:
            self.problems.append(f"record {record} still holds {removal.entry_uuid}, which was removed")
        self.objects.pop(removal.entry_uuid, None)
        self._renderings.pop(removal.entry_uuid, None)
        self._removals.append(removal)

    def row_problem(self, row: IndexRow) -> str | None:
        """What the index says otherwise than the log, in a sentence."""
        item = self.objects.get(row.entry_uuid)
        if item is None:
            return f"{row.entry_uuid} is in the index, but not in the log"
        if row.kind is not item.kind:
            return f"{row.entry_uuid} is a {item.kind} in the log and a {row.kind} in the index"
        expected = search_columns(item)
        for name, value in row.columns.items():
            if value != expected[name]:
                return f"{name} of {row.entry_uuid} is {value!r} in the index and should be {expected[name]!r}"
        if not self._same_rendering(row.entry_uuid, row.ebrim):
            return f"the rendering of {row.entry_uuid} is not the one that the log gives"
        return None

    def _same_rendering(self, entry_uuid: str, ebrim: bytes) -> bool:
        logged = self._renderings.get(entry_uuid)
        if logged is not None:
            return ebrim == logged
        # A revised object was rendered by the release that revised it, perhaps not byte by byte as by this one.
        try:
            return self._codec.read(ebrim) == self.objects[entry_uuid]
        except Exception:  # noqa: BLE001 what can not be read is not the same
            return False

    def identity_problems(self, identities: Mapping[str, PatientIdentity]) -> Iterator[str]:
        """What the store says otherwise of the patient than the log, in sentences."""
        stored = identities.get(self.patient_id)
        if (stored is None) is not (self._identity is None):
            yield "whether the patient is known is not what the log gives"
        elif stored is not None and self._identity is not None and stored.merged_into != self._identity.merged_into:
            yield "what the patient was merged into is not what the log gives"

    def questions(self) -> Questions:
        """What the store must know if its identifiers are right."""
        return Questions(
            self.patient_id,
            identifiers=frozenset(
                {
                    *(name for item in self.objects.values() for name in _identifiers(item)),
                    *(removal.entry_uuid for removal in self._removals),
                }
            ),
            document_ids=frozenset(filter(None, self._document_ids())),
        )

    def _document_ids(self) -> Iterator[str | None]:
        yield from (each.unique_id for each in self.objects.values() if isinstance(each, DocumentEntry))
        yield from (each.unique_id for each in self._removals if each.kind == ObjectKind.DOCUMENT_ENTRY)

    def fact_problems(self, facts: Facts) -> Iterator[str]:
        """What the store knows otherwise than the log, in sentences."""
        sequence = self._last.sequence if self._last else 0
        if facts.sequence != sequence:
            yield f"the log ends with record {sequence}, and {facts.sequence} were committed"
        for item in self.objects.values():
            for identifier in _identifiers(item):
                if facts.taken.get(identifier) is not item.kind:
                    yield f"{identifier} of a {item.kind} is not among the identifiers that are taken"
            if isinstance(item, DocumentEntry) and item.unique_id:
                fingerprint = Fingerprint(item.entry_uuid, item.hash.lower() if item.hash else None, item.size)
                if fingerprint not in facts.documents.get(item.unique_id, ()):
                    yield f"hash and size of {item.entry_uuid} are not found by its uniqueId"
        for removal in self._removals:
            if facts.taken.get(removal.entry_uuid) != removal.kind:
                yield f"{removal.entry_uuid}, which was removed, is not among the identifiers that are taken"
            if removal.kind != ObjectKind.DOCUMENT_ENTRY or not removal.unique_id:
                continue
            left = Fingerprint(removal.entry_uuid, removal.hash, removal.size)
            if left not in facts.documents.get(removal.unique_id, ()):
                yield f"hash and size of {removal.entry_uuid}, which was removed, are not found by its uniqueId"


def _identifiers(item: AnyObject) -> tuple[str, ...]:
    """The names that the object takes for itself alone."""
    if isinstance(item, SubmissionSet | Folder) and item.unique_id:
        return (item.entry_uuid, item.unique_id)
    return (item.entry_uuid,)
