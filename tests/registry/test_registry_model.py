"""Whatever is submitted, updated and removed, every query finds what a registry in plain lists finds.

After each step all queries are asked, each with a $MetadataLevel by chance. The seed is printed.
TOIMIK_MODEL_SEED repeats a run, TOIMIK_MODEL_SEQUENCES says how many.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest

from registry.actor import Registry
from registry.dossier_check import checked_dossier
from registry.metadata_store import Criteria, MetadataStore
from registry.metadata_store_mongodb import MongoMetadataStore
from registry.metadata_store_sqlite import SqliteMetadataStore
from tests.builders import association, code, document_entry, folder, has_member, submission, submission_set
from tests.registry.plain_registry import ENTRY, FOLDER, HAS_MEMBER, SET, Edge, Item, Key, PlainRegistry
from tests.registry.stores import PATIENT_SECONDS, some_database
from tests.store_servers import StoreServer
from tests.xds.broken_updates import next_version, status_update, submitted
from xds.actors import QueryRequest, ReturnType
from xds.ebxml_writer import codec
from xds.hl7v2 import CX, CXi
from xds.metadata import AssociationType, AvailabilityStatus, DocumentEntry, ObjectKind, Submission
from xds.paged_search import NEWEST, PagedSearch
from xds.stored_queries import METADATA_LEVEL, STORED_QUERIES
from xds.transactions import ITI_51

APPROVED, DEPRECATED = AvailabilityStatus.APPROVED.value, AvailabilityStatus.DEPRECATED.value
ANY_STATUS = f"('{APPROVED}','{DEPRECATED}')"
RELATIONS = (AssociationType.APND, AssociationType.XFRM, AssociationType.RPLC, AssociationType.SIGNS)
ALL_RELATIONS = f"({','.join(repr(each.value) for each in RELATIONS)})"
SEQUENCES = int(os.environ.get("TOIMIK_MODEL_SEQUENCES") or 0)
ROWS = {row.name: row for row in STORED_QUERIES.values()}


@dataclass
class Dossier:
    """One patient in both registries."""

    registry: Registry
    store: MetadataStore
    patient: CX
    chance: random.Random
    plain: PlainRegistry = field(default_factory=PlainRegistry)
    sent: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    # --- steps -------------------------------------------------------------------------------------------------------

    async def step(self) -> None:
        entries, folders = self._current(ENTRY), self._current(FOLDER)
        steps = [self._register]
        if entries:
            steps += [self._update_entry, self._update_entry, self._change_status, self._remove, self._remove]
        if folders and entries:
            steps.append(self._update_folder)
        if len(entries) > 1:
            steps.append(self._submit)
        await self.chance.choice(steps)()
        await self._compare()

    async def _register(self) -> None:
        entries = [self._entry() for _ in range(self.chance.randint(1, 2))]
        folders = [folder(entry_uuid=self._uuid(), unique_id=self._oid(), patient_id=self.patient)]
        folders = folders[: self.chance.randint(0, 1)]
        known = [item.uuid for item in self._current(FOLDER) if item.approved]
        holders = [each.entry_uuid for each in folders] + known
        members = (
            [(self.chance.choice(holders), each.entry_uuid) for each in entries if self.chance.random() < 0.6]
            if holders
            else []
        )
        targets = [item for item in self._current(ENTRY) if item.approved]
        relation = None
        links = [association(HAS_MEMBER, *each) for each in members]
        if targets and self.chance.random() < 0.6:
            target, kind = self.chance.choice(targets), self.chance.choice(RELATIONS)
            relation = Edge(kind.value, entries[0].entry_uuid, target.uuid)
            links.append(association(kind, entries[0], target.uuid))
        sent = submission(*entries, folders=tuple(folders), associations=tuple(links), **self._owner())
        response = await self.registry.register_document_set(sent)
        assert response.succeeded, (response.errors, self.log)
        items = [self._item(each) for each in (*entries, *folders)]
        self.plain.register(self._item(sent.submission_set), items, members, relation)
        self.log.append(f"register {len(entries)} entries, {len(folders)} Folders, {members}, {relation}")

    async def _update_entry(self) -> None:
        entries = self._current(ENTRY)
        number = 2 if len(entries) > 1 and self.chance.random() < 0.3 else 1
        await self._update(*self.chance.sample(entries, number), restricted=self.chance.random() < 0.3)

    async def _update_folder(self) -> None:
        both = [self.chance.choice(self._current(FOLDER))]
        if self.chance.random() < 0.3:
            both.append(self.chance.choice(self._current(ENTRY)))
        await self._update(*both)

    async def _update(self, *befores: Item, restricted: bool = False) -> None:
        """New versions of these objects in one submission, some of them not of the newest one."""
        owner = submission_set(**self._owner())
        update = Submission(submission_sets=(owner,))
        items: dict[str, tuple[Item, bool]] = {}
        for before in befores:
            previous = before.version + (self.chance.random() < 0.15)
            follows = restricted or self.chance.random() < 0.8
            new = next_version(self.sent[before.lid], entry_uuid=self._uuid(), logical_id=before.lid)
            link = has_member(
                owner,
                new,
                previous_version=str(previous),
                submission_set_status="Original" if before.kind is ENTRY else None,
                association_propagation=None if follows else "no",
            )
            update = replace(
                update,
                document_entries=(*update.document_entries, *([new] if before.kind is ENTRY else [])),
                folders=(*update.folders, *([new] if before.kind is FOLDER else [])),
                associations=(*update.associations, link),
            )
            items[before.lid] = (
                Item(new.entry_uuid, before.kind, before.lid, before.unique_id, previous + 1),
                follows,
            )
        registry = self.registry
        serve = registry.restricted_update_document_set if restricted else registry.update_document_set
        response = await serve(update)
        accepted = self.plain.update(self._item(owner), items, restricted=restricted)
        self.log.append(f"update {befores} to {list(items.values())}, restricted {restricted}: {accepted}")
        assert response.succeeded is accepted, (response.errors, self.log)

    async def _change_status(self) -> None:
        kinds = [*self.plain.seen(ENTRY, 2), *self.plain.seen(FOLDER, 2)]
        target = self.chance.choice(kinds)
        approved = self.chance.random() < 0.5
        before, after = (DEPRECATED, APPROVED) if approved else (APPROVED, DEPRECATED)
        update = self._owned(status_update(target.uuid, before, after))
        response = await self.registry.update_document_set(update)
        accepted = self.plain.change_status(self._item(update.submission_set), target, approved)
        self.log.append(f"status of {target.uuid} to {approved}: {accepted}")
        assert response.succeeded is accepted, (response.errors, self.log)

    async def _submit(self) -> None:
        source, target = self.chance.sample(self._current(ENTRY), 2)
        folders = self._current(FOLDER)
        kind = self.chance.choice(RELATIONS).value
        if folders and self.chance.random() < 0.5:
            source, kind = self.chance.choice(folders), HAS_MEMBER
        edge = Edge(kind, source.uuid, target.uuid)
        if edge.key in {each.key for each in self.plain.edges}:
            return
        update = self._owned(submitted(association(kind, source.uuid, target.uuid)))
        response = await self.registry.update_document_set(update)
        accepted = self.plain.submit(self._item(update.submission_set), edge)
        self.log.append(f"submit {edge.key}: {accepted}")
        assert response.succeeded is accepted, (response.errors, self.log)

    async def _remove(self) -> None:
        items, edges = self._to_remove()
        ids = {key: uuid for uuid, key in (await self._keys()).items()}
        named = [item.uuid for item in items] + [ids[edge.key] for edge in edges]
        response = await self.registry.remove_metadata(named)
        accepted = self.plain.remove(items, edges)
        self.log.append(f"remove {[item.uuid for item in items]}, {[edge.key for edge in edges]}: {accepted}")
        assert response.succeeded is accepted, (response.errors, self.log)

    def _to_remove(self) -> tuple[list[Item], list[Edge]]:
        """All that hangs on a SubmissionSet, or one object with its associations, or an association."""
        sets = self.plain.seen(SET, 2)
        choice = self.chance.random()
        if choice < 0.2:
            edge = self.chance.choice(self.plain.edges)
            return [], [edge, *(each for each in self.plain.edges if each.target is edge)]
        items = [self.chance.choice(sets if choice < 0.8 else list(self.plain.items.values()))]
        edges: list[Edge] = []
        while True:
            more = [
                edge
                for edge in self.plain.edges
                if edge not in edges and (any(edge.touches(item.uuid) for item in items) or edge.target in edges)
            ]
            brought = [
                self.plain.items[edge.target]
                for edge in more
                if choice < 0.8 and isinstance(edge.target, str) and self.plain.items[edge.source].kind is SET
            ]
            if not more:
                return items, edges
            edges += more
            items += [item for item in dict.fromkeys(brought) if item not in items]

    # --- what is compared --------------------------------------------------------------------------------------------

    async def _compare(self) -> None:
        await self._compare_versions()
        keys = await self._keys()
        for at_1, at_2 in zip(self._questions(1), self._questions(2), strict=True):
            level = self.chance.choice((1, 2))
            query, sent, expected = at_1 if level == 1 else at_2
            found = [keys.get(each, each) for each in await self._found(query, level, sent)]
            assert sorted(map(repr, found)) == sorted(map(repr, expected)), (query, level, sent, self.log)

    async def _compare_versions(self) -> None:
        """Numbers and statuses; and which version a search for the newest ones shows."""
        for kind, ordered_by in ((ENTRY, "creation_time"), (FOLDER, "last_update_time")):
            found = await self.store.find(Criteria(kind, (), (self.patient.text,)), rendering=False)
            items = self.plain.seen(kind, 2)
            assert {each.entry_uuid: (each.logical_id, each.version, each.availability_status) for each in found} == {
                item.uuid: (item.lid, str(item.version), APPROVED if item.approved else DEPRECATED) for item in items
            }, self.log
            newest = PagedSearch(kind, (NEWEST,), (self.patient.text,), ordered_by, 100)
            shown = [each.entry_uuid for each in (await self.registry.page(newest)).objects]
            assert sorted(shown) == sorted(item.uuid for item in self._current(kind)), self.log

    def _questions(self, level: int) -> list[tuple[str, dict[str, str], set[Any]]]:
        plain, patient = self.plain, f"'{self.patient}'"
        seen = {kind: plain.seen(kind, level) for kind in (ENTRY, SET, FOLDER)}
        ids = {kind: {item.uuid for item in items} for kind, items in seen.items()}
        approved = {kind: {item.uuid for item in items if item.approved} for kind, items in seen.items()}
        of_patient = {"$XDSDocumentEntryPatientId": patient, "$XDSDocumentEntryStatus": ANY_STATUS}
        folders = {"$XDSFolderPatientId": patient, "$XDSFolderStatus": ANY_STATUS}
        sets = {"$XDSSubmissionSetPatientId": patient, "$XDSSubmissionSetStatus": ANY_STATUS}
        reference = {"$XDSDocumentEntryReferenceIdList": "('7^^^&1.2&ISO^urn:x')"}
        questions: list[tuple[str, dict[str, str], set[Any]]] = [
            ("FindDocuments", of_patient, ids[ENTRY]),
            ("FindDocuments", {**of_patient, "$XDSDocumentEntryStatus": f"('{APPROVED}')"}, approved[ENTRY]),
            ("FindDocumentsForMultiplePatients", of_patient, ids[ENTRY]),
            ("FindDocumentsByReferenceId", of_patient | reference, ids[ENTRY]),
            ("FindDocumentsByReferenceIdForMultiplePatients", of_patient | reference, ids[ENTRY]),
            ("FindDocumentsExclude", {**of_patient, "$XDSDocumentEntryClassCodeExclude": "('x^^1.2')"}, ids[ENTRY]),
            ("FindDocumentsExclude", {**of_patient, "$XDSDocumentEntryClassCodeExclude": "('a^^1.2')"}, set()),
            ("FindFolders", folders, ids[FOLDER]),
            ("FindFoldersForMultiplePatients", folders, ids[FOLDER]),
            ("FindSubmissionSets", sets, ids[SET]),
            ("GetAll", {"$patientId": patient, "$XDSDocumentEntryStatus": ANY_STATUS,
                        "$XDSSubmissionSetStatus": ANY_STATUS, "$XDSFolderStatus": ANY_STATUS}, plain.all_of(level)),
        ]  # fmt: skip
        if plain.items:
            any_item = self.chance.choice(list(plain.items.values()))
            named = f"('{any_item.uuid}')"
            questions += [
                ("GetAssociations", {"$uuid": named}, plain.associations(any_item.uuid, level)),
                ("GetSubmissionSets", {"$uuid": named}, plain.sets_of(any_item.uuid, level)),
            ]
        for kind in (SET, FOLDER):
            if some := plain.seen(kind, 2):
                item = self.chance.choice(some)
                name = "SubmissionSet" if kind is SET else "Folder"
                sent = {f"$XDS{name}EntryUUID": f"'{item.uuid}'"}
                questions.append((f"Get{name}AndContents", sent, plain.contents(item, level)))
        for kind, name in ((ENTRY, "Documents"), (FOLDER, "Folders")):
            if some := plain.seen(kind, 2):
                item = self.chance.choice(some)
                prefix = "$XDSDocumentEntry" if kind is ENTRY else "$XDSFolder"
                logical = {each.uuid for each in seen[kind] if each.lid == item.lid}
                questions += [
                    (f"Get{name}", {f"{prefix}EntryUUID": f"('{item.uuid}')"}, {item.uuid} & ids[kind]),
                    (f"Get{name}", {f"{prefix}UniqueId": f"('{item.unique_id}')"}, logical),
                    (f"Get{name}", {f"{prefix}LogicalID": f"('{item.lid}')"}, logical),
                ]
                if kind is ENTRY:
                    one = {"$XDSDocumentEntryEntryUUID": f"'{item.uuid}'"}
                    there = {item.uuid} & ids[kind]
                    links = plain.associations(item.uuid, level) if there else set()
                    questions += [
                        ("GetDocumentsAndAssociations", one, there | links),
                        ("GetFoldersForDocument", one, plain.folders_of(item, level)),
                        ("GetRelatedDocuments", {**one, "$AssociationTypes": ALL_RELATIONS},
                         plain.related(item, RELATIONS, level)),
                    ]  # fmt: skip
        return questions

    async def _found(self, query: str, level: int, sent: dict[str, str]) -> list[str]:
        row = ROWS[query]
        slots = tuple((name, (value,)) for name, value in {**sent, METADATA_LEVEL: str(level)}.items())
        request = QueryRequest(row.id, ReturnType.OBJECT_REF, slots)
        ask = self.registry.multi_patient_query if row.transaction is ITI_51 else self.registry.stored_query
        response = await ask(request)
        assert not response.errors, response.errors
        return [each.entry_uuid for each in response.found]

    async def _keys(self) -> dict[str, Key]:
        """By entryUUID: what each association joins."""
        criteria = Criteria(ObjectKind.ASSOCIATION, (), (self.patient.text,))
        links = {each.entry_uuid: each for each in await self.store.find(criteria, rendering=False)}

        def key(uuid: str) -> Key:
            link = links.get(uuid)
            return uuid if link is None else (
                str(link.association_type), str(link.source_object), key(str(link.target_object))
            )  # fmt: skip

        return {uuid: key(uuid) for uuid in links}

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _current(self, kind: ObjectKind) -> list[Item]:
        return [item for item in self.plain.seen(kind, 2) if self.plain.newest(item.lid) is item]

    def _item(self, sent: Any) -> Item:
        self.sent[sent.entry_uuid] = sent
        return Item(sent.entry_uuid, sent.kind, sent.logical_id or sent.entry_uuid, sent.unique_id)

    def _entry(self) -> DocumentEntry:
        entry: DocumentEntry = document_entry(
            entry_uuid=self._uuid(),
            unique_id=self._oid(),
            patient_id=self.patient,
            class_code=code("a", "1.2"),
            reference_id_list=(CXi("7^^^&1.2&ISO^urn:x"),),
        )
        return entry

    def _owner(self) -> dict[str, Any]:
        return {"patient_id": self.patient}

    def _owned(self, update: Submission) -> Submission:
        """With a SubmissionSet of this patient."""
        return replace(update, submission_sets=(replace(update.submission_set, patient_id=self.patient),))

    def _uuid(self) -> str:
        return UUID(int=self.chance.getrandbits(128), version=4).urn

    def _oid(self) -> str:
        return f"2.25.{self.chance.getrandbits(120)}"


async def compared(store: MetadataStore, sequences: int) -> None:
    """Random sequences, each with a patient of its own."""
    seed = int(os.environ.get("TOIMIK_MODEL_SEED") or random.SystemRandom().getrandbits(32))
    print(f"TOIMIK_MODEL_SEED={seed}")  # noqa: T201 - shown with a failure
    registry = Registry(store=store)
    for number in range(sequences):
        chance = random.Random(f"{seed} {number}")  # noqa: S311 - it is to be repeated
        patient = CX.of(f"{seed}-{number}", "2.25.7331")
        dossier = Dossier(registry, store, patient, chance)
        for _ in range(chance.choice((2, 2, 2, 3, 3, 3, 4, 6, 10))):
            await dossier.step()
        if number % 20 == 0:
            assert (await checked_dossier(store, codec, patient.text)).problems == (), dossier.log


@pytest.mark.slow
@pytest.mark.timeout(1200 + SEQUENCES)
async def test_random_sequences_leave_what_a_registry_in_plain_lists_has(tmp_path: Any) -> None:
    store = SqliteMetadataStore(tmp_path / "registry.sqlite", codec=codec)
    try:
        await compared(store, SEQUENCES or 2000)
    finally:
        await store.close()


@pytest.mark.timeout(1200 + SEQUENCES)
async def test_random_sequences_leave_the_same_on_mongodb(mongodb_server: StoreServer) -> None:
    with some_database(mongodb_server.url) as name:
        store = await MongoMetadataStore.opened(
            mongodb_server.url, database=name, codec=codec, busy_seconds=PATIENT_SECONDS
        )
        try:
            await compared(store, SEQUENCES or 25)
        finally:
            await store.close()
