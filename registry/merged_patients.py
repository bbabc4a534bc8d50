"""One patient with several patient ids: what a merge means to those who ask.

ITI TF-2: 3.8.4.2.4 and 3.18.4.1.2.3.9. The surviving id answers for all that were merged into it, and a subsumed one
for nothing. No object is moved: each stays in the dossier that it was registered in, and is shown as the survivor's
(docs/adr/0007-a-merge-is-a-record.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from registry.metadata_store import (
    Criteria,
    Facts,
    Finder,
    MetadataStore,
    PatientsMerged,
    Questions,
    StoredObject,
)
from xds.actors import ObjectCodec
from xds.errors import ErrorCode, XdsError
from xds.hl7v2 import CX
from xds.metadata import Association
from xds.paged_search import Page, PagedObject, PagedSearch, SearchOver, Survivor

_NOBODY: Final = ("",)
"""No patient has this id."""


async def dossiers_of(patient_id: str, store: MetadataStore) -> tuple[str, ...]:
    """The patient ids whose dossiers are this patient's, its own first; none where it was merged into another."""
    identity = (await store.identities([patient_id])).get(patient_id)
    if identity is None:
        return (patient_id,)
    if identity.merged_into is not None:
        return ()
    dossiers, merged = [patient_id], identity.merged_from
    while merged:
        dossiers += merged
        further = await store.identities(merged)
        merged = tuple(sorted({each for one in further.values() for each in one.merged_from} - set(dossiers)))
    return tuple(dossiers)


async def survivors(patient_ids: Collection[str], store: MetadataStore) -> Mapping[str, str]:
    """By patient id: the one that answers for it now."""
    found = {patient_id: patient_id for patient_id in patient_ids}
    asked = set(patient_ids)
    while asked:
        identities = await store.identities(asked)
        merged = {each: one.merged_into for each, one in identities.items() if one.merged_into is not None}
        found = {each: merged.get(survivor, survivor) for each, survivor in found.items()}
        asked = set(merged.values())
    return found


async def known_of_patient(
    questions: Questions, store: MetadataStore, beside: Collection[str] = ()
) -> tuple[Facts, Facts]:
    """The facts of the dossier that a submission belongs to, and the same as the submission is to be judged on.

    It belongs to the patient's own dossier, or to the merged one that all of the objects it refers to are in. What is
    in any of the patient's dossiers is the patient's to whoever judges.
    beside   those of the references that it does not refer to
    Raises XdsError where the objects are in several dossiers of the patient: one change is in one of them.
    """
    facts = await store.known(questions)
    owners = set(facts.owners.values())
    if owners <= {questions.patient_id}:
        return facts, facts
    dossiers = await dossiers_of(questions.patient_id, store)
    own = {owner for each, owner in facts.owners.items() if each not in beside} & set(dossiers)
    if len(own) > 1:
        raise XdsError(
            ErrorCode.REGISTRY_ERROR,
            "The submission refers to objects that were registered before and after patient ids were merged, or for "
            "several of those ids; send one submission for the objects of each.",
        )
    if own and own != {questions.patient_id}:
        facts = await store.known(replace(questions, patient_id=own.pop()))
    seen = {each: questions.patient_id if owner in dossiers else owner for each, owner in facts.owners.items()}
    return facts, replace(facts, patient_id=questions.patient_id, owners=seen)


@dataclass(frozen=True, slots=True)
class PatientsView(Finder):
    """Finds objects as if each had been registered for the patient that it belongs to now.

    Most patients were never merged, and that is told by the read that finds the objects. Who stands for whom is asked
    only where somebody was. A patient's dossiers are the same for as long as the view is used: for one request.

    codec   renders an object again where its patientId is another one now; None: it is shown as it was registered
    """

    store: MetadataStore
    codec: ObjectCodec | None = None
    _dossiers: dict[str, tuple[str, ...]] = field(default_factory=dict)

    async def find(
        self, criteria: Criteria, *, rendering: bool = True, limit: int | None = None
    ) -> tuple[StoredObject, ...]:
        if not self._are_known(criteria.patient_ids):
            try:
                found = await self.store.find(criteria, rendering=rendering, limit=limit, unmerged=True)
            except PatientsMerged:
                pass
            else:
                self._are_unmerged(criteria.patient_ids or [each.patient_id for each in found])
                return found
        meant = await self._meant(criteria)
        if meant is None:
            return ()
        found = await self.store.find(meant, rendering=rendering, limit=limit)
        owners = await self._owners(criteria.patient_ids, found)
        return tuple([self._shown(each, owners[each.patient_id]) for each in found])

    async def count(self, criteria: Criteria) -> int:
        if not self._are_known(criteria.patient_ids):
            try:
                return await self.store.count(criteria, unmerged=True)
            except PatientsMerged:
                pass
        meant = await self._meant(criteria)
        return 0 if meant is None else await self.store.count(meant)

    def _are_known(self, patient_ids: Collection[str]) -> bool:
        """Whether all dossiers of these patients are known; never where no patient is named."""
        return bool(patient_ids) and self._dossiers.keys() >= set(patient_ids)

    def _are_unmerged(self, patient_ids: Iterable[str]) -> None:
        """Remember that each of these patients has one dossier."""
        for each in patient_ids:
            self._dossiers.setdefault(each, (each,))

    async def _meant(self, criteria: Criteria) -> Criteria | None:
        """The same with all dossiers of the patients; None: there are none."""
        if not criteria.patient_ids:
            return criteria
        dossiers = await self._dossiers_of(criteria.patient_ids)
        return replace(criteria, patient_ids=dossiers) if dossiers else None

    async def _dossiers_of(self, patient_ids: Iterable[str]) -> tuple[str, ...]:
        dossiers: list[str] = []
        for each in patient_ids:
            known = self._dossiers.get(each)
            if known is None:
                known = self._dossiers[each] = await dossiers_of(each, self.store)
            dossiers += known
        return tuple(dossiers)

    async def _owners(
        self, patient_ids: Iterable[str], found: Iterable[StoredObject | PagedObject]
    ) -> Mapping[str, str]:
        """By dossier: whose objects those are that were found in it, for these patients or for anybody."""
        if patient_ids:
            return {dossier: patient for patient in patient_ids for dossier in self._dossiers[patient]}
        return await survivors({each.patient_id for each in found}, self.store)

    async def page(self, search: PagedSearch) -> Page:
        """See PagedRegistry."""
        try:
            return await self.store.page(search, unmerged=True)
        except PatientsMerged:
            return await self._page_of_merged(search)

    async def _page_of_merged(self, search: PagedSearch) -> Page:
        if search.patient_ids:
            dossiers = await self._dossiers_of(search.patient_ids)
            if search.as_of and dossiers != search.patient_ids:  # the moment is one of a single dossier
                raise SearchOver
            page = await self.store.page(replace(search, patient_ids=dossiers or _NOBODY))
        else:
            page = await self.store.page(search)
        owners = await self._owners(search.patient_ids, page.objects)
        shown = {each.patient_id: owners[each.patient_id] for each in page.objects}
        merged = {dossier: owner for dossier, owner in shown.items() if owner != dossier}
        if not merged:
            return page
        now = {owner: Survivor(owner, await self.store.patient_key(owner)) for owner in set(merged.values())}
        objects = [
            self._of_survivor(each, now[merged[each.patient_id]]) if each.patient_id in merged else each
            for each in page.objects
        ]
        return replace(page, objects=tuple(objects), made={})

    def _of_survivor(self, found: PagedObject, survivor: Survivor) -> PagedObject:
        """The object as it is shown. A resource stays as it is: who shows it has it name the survivor."""
        owner = survivor.patient_id
        if found.resource is not None:
            return found._replace(patient_id=owner, survivor=survivor)
        return found._replace(patient_id=owner, ebrim=self._naming(owner, found.ebrim))

    def _shown(self, found: StoredObject, owner: str) -> StoredObject:
        if found.patient_id == owner:
            return found
        return found._replace(patient_id=owner, ebrim=self._naming(owner, found.ebrim))

    def _naming(self, patient_id: str, ebrim: bytes | None) -> bytes | None:
        """The rendering of an object, rendered again with this patientId."""
        if ebrim is None or self.codec is None:
            return ebrim
        item = self.codec.read(ebrim)
        return ebrim if isinstance(item, Association) else self.codec.written(replace(item, patient_id=CX(patient_id)))
