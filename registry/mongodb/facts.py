"""The facts that a submission is judged on, as the metadata store on MongoDB reads them.

First the end of the dossier's log and the identifiers are read at once; then in one read what feeds said of the
patient, the objects that the submission names, and what leads to what hangs on them; then that, however long the chain.
What is of the dossier is read after its log; if the dossier moves meanwhile, apply() refuses.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bson import ObjectId

from registry.change_body import object_of
from registry.metadata_store import Facts, Fingerprint, PatientIdentity, Questions
from registry.mongodb.claims import Slots
from registry.mongodb.database import Document
from registry.mongodb.documents import (
    IDENTITY,
    MERGED,
    SUPERSEDED,
    UNFINISHED,
    document_name,
    identities_in,
    patient_key,
    rendering_of,
    said_of,
)
from registry.mongodb.index import Current, current_of
from registry.mongodb.log import Head
from registry.mongodb.resolver import Resolver
from registry.rendering_compression import RenderingCompression
from xds.actors import ObjectCodec
from xds.metadata import Association, AssociationType, AvailabilityStatus, Folder, ObjectKind

_DERIVED = (AssociationType.APND.value, AssociationType.XFRM.value, AssociationType.XFRM_RPLC.value)


class Known(NamedTuple):
    """Facts, and what a store remembers beside them. places: of the facts' objects, see Current."""

    facts: Facts
    head: Head
    places: Mapping[str, tuple[int, str | None]]


@dataclass(slots=True)
class _Found:
    """What was read: objects by entryUUID, and what is said of patients.

    owners      patient ids, by entryUUID
    identities  by patient id
    """

    objects: dict[str, Current] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    identities: dict[str, PatientIdentity] = field(default_factory=dict)


class FactFinder:
    """Answers Questions."""

    def __init__(self, resolver: Resolver, codec: ObjectCodec, compression: RenderingCompression) -> None:
        self._resolver = resolver
        self._codec = codec
        self._compression = compression

    async def known(self, questions: Questions) -> Known:
        """The facts, and what else was learnt.

        Raises StoreDamaged.
        """
        documents = {document_name(unique_id): unique_id for unique_id in questions.document_ids}
        named = {*questions.identifiers, *documents, *questions.references, *questions.replaced}
        head, held = await asyncio.gather(
            self._resolver.head(patient_key(questions.patient_id)), self._resolver.claims.holders(named)
        )
        keys = {name: _keys(held[name]) for name in questions.references | questions.replaced if name in held}
        standing, (found, relations) = await asyncio.gather(
            self._standing(held[name] for name in {*questions.identifiers, *documents} & held.keys()),
            self._of_dossiers(questions, head, keys),
        )
        for name in documents.keys() & held.keys():
            self._resolver.claims.remember_holder(name, held[name], standing)
        facts = Facts(
            patient_id=questions.patient_id,
            sequence=head.sequence,
            taken={
                name: ObjectKind(holder["kind"])
                for name in questions.identifiers & held.keys()
                for holder in _of(held[name], standing)
            },
            documents={
                unique_id: fingerprints
                for name, unique_id in documents.items()
                if name in held and (fingerprints := tuple(map(_fingerprint, _of(held[name], standing))))
            },
            objects={entry_uuid: current.item for entry_uuid, current in found.objects.items()},
            owners=found.owners,
            relations=relations,
            identities=found.identities,
        )
        return Known(facts, head, {name: (each.number, each.submitted) for name, each in found.objects.items()})

    async def _standing(self, held: Iterable[Slots]) -> set[ObjectId]:
        """Which of the records that are written down as holders take effect; all of them resolved by now."""
        holders = [holder for slots in held for holder in slots.values() if not holder.get("withdrawn")]
        if not holders:
            return set()
        keys, ids = {holder["patient_key"] for holder in holders}, {holder["record"] for holder in holders}
        records = await self._resolver.log.records(keys, ids)
        return {record.id for record in records if await self._resolver.resolved(record)}

    async def _of_dossiers(
        self, questions: Questions, head: Head, keys: Mapping[str, set[str]]
    ) -> tuple[_Found, tuple[Association, ...]]:
        """What feeds said of patients, what is referred to, and what hangs on what is replaced.

        keys   of the dossiers of what is referred to and known
        """
        # Of whoever has no log yet, no feed has said anything.
        patients = [each for each in questions.identities if head.sequence or each != questions.patient_id]
        if keys:
            return await self._objects(questions, keys, patients)
        documents = await self._resolver.read_finished(said_of(patients), merges=True) if patients else []
        return _Found(identities=identities_in(documents, patients)), ()

    async def _objects(
        self, questions: Questions, keys: Mapping[str, set[str]], patients: Collection[str]
    ) -> tuple[_Found, tuple[Association, ...]]:
        """What is referred to, what hangs on what is replaced, and what feeds said of patients."""
        of_referred = {key for name in questions.references & keys.keys() for key in keys[name]}
        of_replaced = {key for name in questions.replaced & keys.keys() for key in keys[name]}
        wanted = [{"patient_key": {"$in": sorted(of_referred)}, "entry_uuid": {"$in": sorted(questions.references)}}]
        if of_replaced:
            wanted += _hanging_on(sorted(of_replaced), sorted(questions.replaced))
        read = await self._read(of_referred | of_replaced, wanted, patients)
        links = [each.item for each in read.objects.values() if isinstance(each.item, Association)]
        relations = _relations(links, read.objects, questions.replaced) if of_replaced else ()
        needed = questions.references | {relation.source_object for relation in relations}
        if missing := needed - read.objects.keys() - (questions.references - questions.replaced):
            more = await self._read(
                of_replaced, [{"patient_key": {"$in": sorted(of_replaced)}, "entry_uuid": {"$in": sorted(missing)}}]
            )
            read.objects.update(more.objects)
            read.owners.update(more.owners)
        return (
            _Found(
                {name: read.objects[name] for name in needed if name in read.objects},
                {name: read.owners[name] for name in needed if name in read.owners},
                read.identities,
            ),
            relations,
        )

    async def _read(self, keys: Collection[str], wanted: list[Document], patients: Collection[str] = ()) -> _Found:
        """Objects and what feeds said of patients, once nothing in their dossiers is unfinished."""
        all_keys = {*keys, *map(patient_key, patients)}
        alternatives = [*wanted, *([said_of(patients)] if patients else []), {"kind": UNFINISHED}]
        condition = {"patient_key": {"$in": sorted(all_keys)}, "$or": alternatives}
        documents = await self._resolver.read_finished(condition, projection={"resource": 0}, merges=True)
        found = _Found(identities=identities_in(documents, patients))
        for document in documents:
            if document["kind"] not in (SUPERSEDED, IDENTITY, MERGED):
                item = object_of(rendering_of(document, self._compression), self._codec)
                found.objects[item.entry_uuid] = current_of(item, document)
                found.owners[item.entry_uuid] = document["patient_id"]
        return found


def _keys(slots: Slots) -> set[str]:
    return {holder["patient_key"] for holder in slots.values()}


def _of(slots: Slots, standing: Collection[ObjectId]) -> list[Document]:
    return [holder for holder in slots.values() if holder["record"] in standing and not holder.get("withdrawn")]


def _fingerprint(holder: Document) -> Fingerprint:
    return Fingerprint(holder["entry_uuid"], holder.get("hash"), holder.get("size"))


def _hanging_on(keys: list[str], replaced: list[str]) -> list[Document]:
    """Conditions: the Approved associations that may lead to what hangs on documents, and all Folders."""
    approved = {
        "patient_key": {"$in": keys},
        "kind": ObjectKind.ASSOCIATION.value,
        "availability_status": AvailabilityStatus.APPROVED.value,
    }
    return [
        {**approved, "association_type": {"$in": list(_DERIVED)}},
        {**approved, "association_type": AssociationType.HAS_MEMBER.value, "target_object": {"$in": replaced}},
        {"patient_key": {"$in": keys}, "kind": ObjectKind.FOLDER.value},
    ]


def _relations(
    links: Iterable[Association], objects: Mapping[str, Current], replaced: frozenset[str]
) -> tuple[Association, ...]:
    """The associations from `replaced` to what hangs on them, and on that, and to the Folders that hold them."""
    relations: dict[str, Association] = {}
    leading_to: dict[str, list[Association]] = defaultdict(list)
    for link in links:
        if link.availability_status != AvailabilityStatus.APPROVED:
            continue
        if link.association_type in _DERIVED:
            leading_to[link.target_object].append(link)
        elif link.association_type == AssociationType.HAS_MEMBER and link.target_object in replaced:
            source = objects.get(link.source_object)
            if source is not None and isinstance(source.item, Folder):
                relations[link.entry_uuid] = link
    seen, frontier = set(replaced), set(replaced)
    while frontier:
        reached = [link for target in frontier for link in leading_to[target]]
        relations.update((link.entry_uuid, link) for link in reached)
        frontier = {link.source_object for link in reached} - seen
        seen |= frontier
    return tuple(relations.values())
