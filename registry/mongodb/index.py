"""Writing a record to the index: the collection `objects`.

New objects, and new versions of those that are revised, are inserted; then the versions before are superseded. Each
step may be done again, by several at once and late: what is there already stays as it is. So it needs no lock, and no
update that depends on what it finds.

While a change is being written that brings several objects of a kind or revises any, the index says so (UNFINISHED); a
reader who meets that finishes the change before he answers. So nobody sees a half of it, and reading needs no second
look.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from registry.change_body import object_of, revised
from registry.fhir_resources import FhirResources, submitted
from registry.metadata_store import Revision
from registry.mongodb.database import Document, Filter, MongoDatabase
from registry.mongodb.documents import (
    SUPERSEDED,
    SUPERSEDING,
    Content,
    Record,
    identity_documents,
    numbered,
    object_document,
    rendering_of,
    superseded_document,
    unfinished_document,
)
from registry.mongodb.schema import OBJECTS, PATIENT_KEYS
from registry.rendering_compression import RenderingCompression
from xds.actors import ObjectCodec
from xds.metadata import AnyObject
from xds.paged_search import OUTDATED


class Current(NamedTuple):
    """An object as it stood before a change, and its number."""

    item: AnyObject
    number: int
    submitted: str | None = None
    outdated: bool = False


def current_of(item: AnyObject, document: Document) -> Current:
    """The object of a document of `objects`."""
    return Current(item, document["number"], document.get("submitted"), OUTDATED in document)


class ObjectIndex:
    """Writes records to the index."""

    def __init__(
        self, database: MongoDatabase, codec: ObjectCodec, compression: RenderingCompression, fhir: FhirResources
    ) -> None:
        self._database = database
        self._codec = codec
        self._compression = compression
        self._fhir = fhir

    async def write(self, record: Record, content: Content, known: Mapping[str, Current] | None = None) -> bool:
        """Write what a record brings and revises, and leave nothing but a name of what it removes.

        known   all that it revises, as it stood before; read where it is not known
        Returns whether the index was told that the change is unfinished.
        """
        if record.log.sequence == 1:
            await self.remember_patients([record])
        documents = [*identity_documents(record, content.identity), *self.new_documents(record, content)]
        if content.revisions:
            if known is None:
                known = await self.current(record, [revision.entry_uuid for revision in content.revisions])
            documents += [document for _, document in self.revised_versions(record, content.revisions, known)]
        several = any(count > 1 for count in Counter(document["kind"] for document in documents).values())
        # A revised object has two versions for a moment.
        past = [*(revision.entry_uuid for revision in content.revisions), *sorted(content.removed)]
        is_told = several or bool(past)
        sign = [unfinished_document(record)] if is_told else []
        if past:
            await self._insert_and_supersede(record, [*sign, *documents], past)
        elif not await self._database.insert(OBJECTS, [*sign, *documents]):
            await self._insert_missing([*sign, *documents])
        return is_told

    async def _insert_and_supersede(
        self, record: Record, documents: Sequence[Document], entry_uuids: Sequence[str]
    ) -> None:
        before = _versions_before(record.patient_key, entry_uuids, record.log.sequence)
        if not await self._database.insert_and_update(OBJECTS, documents, before, SUPERSEDING):
            await self._insert_missing(documents)
            await self.supersede(record.patient_key, entry_uuids, record.log.sequence)

    async def _insert_missing(self, documents: Sequence[Document]) -> None:
        """After somebody else has begun: the sign that the change is unfinished, then the rest."""
        await self._database.insert_missing(OBJECTS, documents[:1])
        await self._database.insert_missing(OBJECTS, documents[1:])

    async def supersede(self, patient_key: str, entry_uuids: Sequence[str], sequence: int) -> None:
        """Leave of each object no version from before a change."""
        await self._database.update(OBJECTS, _versions_before(patient_key, entry_uuids, sequence), SUPERSEDING)

    async def current(self, record: Record, entry_uuids: Sequence[str]) -> dict[str, Current]:
        """The objects as they stood before a record; those that it has revised already are left out."""
        found = await self._database.find(
            OBJECTS, {"patient_key": record.patient_key, "entry_uuid": {"$in": list(entry_uuids)}}
        )
        versions: dict[str, list[Document]] = defaultdict(list)
        for document in found:
            versions[document["entry_uuid"]].append(document)
        current: dict[str, Current] = {}
        for entry_uuid, documents in versions.items():
            newest = max(documents, key=lambda document: int(document["sequence"]))
            if newest["sequence"] < record.log.sequence and newest["kind"] != SUPERSEDED:
                item = object_of(rendering_of(newest, self._compression), self._codec)
                current[entry_uuid] = current_of(item, newest)
        return current

    def new_documents(self, record: Record, content: Content) -> list[Document]:
        """The first versions of the objects that a record brings."""
        came = submitted([item for item, _ in content.objects])
        return [
            self._document(Current(item, numbered(record.log.sequence, place), came), ebrim, record)
            for place, (item, ebrim) in enumerate(content.objects)
        ]

    def _document(self, now: Current, ebrim: bytes, record: Record) -> Document:
        """The version that a record makes of an object. now: as it stands after the record."""
        registration = self._fhir.registration(
            record.log.patient_id, record.log.time, now.submitted, outdated=now.outdated
        )
        resource = self._fhir.of(now.item, registration)
        compressed = None if resource is None else self._compression.compress(resource)
        return object_document(now.item, ebrim, record, now.number, registration, compressed)

    async def remember_patients(self, records: Iterable[Record]) -> None:
        """Keep the way back from what stands for the patients of records, where FHIR resources are kept."""
        if self._fhir.are_kept:
            patient_ids = sorted({record.log.patient_id for record in records})
            ways = [{"_id": self._fhir.patient_key(each), "patient_id": each} for each in patient_ids]
            await self._database.insert_missing(PATIENT_KEYS, ways)

    def revised_versions(
        self, record: Record, revisions: Iterable[Revision], known: Mapping[str, Current]
    ) -> list[tuple[Current, Document]]:
        """The next versions of those objects that are known, and the documents to be written of them."""
        versions: list[tuple[Current, Document]] = []
        for entry_uuid, combined in _by_object(revisions).items():
            before = known.get(entry_uuid)
            if before is None:
                continue  # revised already, or removed
            now = before
            for revision in combined:
                outdated = now.outdated if revision.outdated is None else revision.outdated
                now = now._replace(item=revised(now.item, revision), outdated=outdated)
            ebrim = self._compression.compress(self._codec.written(now.item))
            versions.append((now, self._document(now, ebrim, record)))
        return versions


class Versions:
    """All versions that the records of one dossier make of its objects, one record after the other.

    current     the objects as they stand after the last record, by entryUUID
    removed     entryUUIDs of what the records remove
    documents   by _id; superseded where there is a later version
    """

    def __init__(self, index: ObjectIndex, current: Mapping[str, Current] | None = None) -> None:
        """current: what stands before the first record, where that is not the first of the dossier."""
        self._index = index
        self._newest: dict[str, str] = {}
        self.current = dict(current or {})
        self.documents: dict[str, Document] = {}
        self.removed: set[str] = set()

    def add(self, record: Record, content: Content) -> None:
        """The next record. What it revises and nobody knows is passed over."""
        for (item, _), document in zip(content.objects, self._index.new_documents(record, content), strict=True):
            self._add(current_of(item, document), document)
        self.documents.update((each["_id"], each) for each in identity_documents(record, content.identity))
        for version, document in self._index.revised_versions(record, content.revisions, self.current):
            self._add(version, document)
        for entry_uuid in content.removed:
            self.removed.add(entry_uuid)
            self.current.pop(entry_uuid, None)
            last = self._newest.pop(entry_uuid, None)
            if last is not None:
                self.documents[last] = superseded_document(self.documents[last])

    def _add(self, version: Current, document: Document) -> None:
        entry_uuid = version.item.entry_uuid
        before = self._newest.get(entry_uuid)
        if before is not None:
            self.documents[before] = superseded_document(self.documents[before])
        self.current[entry_uuid], self._newest[entry_uuid] = version, document["_id"]
        self.documents[document["_id"]] = document


def _versions_before(patient_key: str, entry_uuids: Sequence[str], sequence: int) -> Filter:
    return {"patient_key": patient_key, "entry_uuid": {"$in": list(entry_uuids)}, "sequence": {"$lt": sequence}}


def _by_object(revisions: Iterable[Revision]) -> Mapping[str, list[Revision]]:
    by_object: dict[str, list[Revision]] = {}
    for revision in revisions:
        by_object.setdefault(revision.entry_uuid, []).append(revision)
    return by_object
