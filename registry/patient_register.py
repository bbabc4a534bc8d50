"""What patient identity feeds do, whatever they speak: HL7 v2 [ITI-8], HL7 v3 [ITI-44], FHIR [ITI-93, ITI-104], CSV.

ITI TF-2: 3.8.4.1.4 and 3.8.4.2.4. A registry remembers which patient ids there are and which was merged into which, and
nothing else of what a feed brings. What is said is a record of the dossier's log
(docs/adr/0007-a-merge-is-a-record.md).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID, uuid4

from registry.metadata_store import (
    FactsMoved,
    IdentityChange,
    MetadataStore,
    PatientIdentity,
    Questions,
    RegistryChange,
    StoreBusy,
)
from registry.patient_identities import OpenPatients
from xds.errors import XdsError
from xds.hl7v2 import CX, HD
from xds.metadata_names import shown
from xds.patient_feeds import FeedRefused as FeedRefused
from xds.patient_feeds import PatientFeeds, Told
from xds.patient_feeds import Reason as Reason
from xds.transactions import ITI_42

_T = TypeVar("_T")

_LONGEST_PAUSE_SECONDS = 2.0


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientRegister:
    """Takes what feeds say.

    well_formed   tells which patient ids can be: those of other authorities are ignored where a feed names several
    namespaces    OID of the assigning authority by its namespace id, for senders that send no more than that
    required      whether patients that are merged must have been named before; False: every well-formed id is a patient
    attempts      how often something is tried again when other changes of the dossier come in between
    """

    store: MetadataStore
    well_formed: OpenPatients = field(default_factory=OpenPatients)
    namespaces: Mapping[str, str] = field(default_factory=dict)
    required: bool = True
    clock: Callable[[], datetime] = now
    new_uuid: Callable[[], UUID] = uuid4
    attempts: int = 10
    pause_seconds: float = 0.01

    async def admit(self, patient_ids: Sequence[CX]) -> CX:
        """Remember a patient, of whom a feed sent these ids; the id that is remembered.

        Raises FeedRefused where none of them is one of this affinity domain, or it was merged into another; StoreBusy.
        """
        patient_id = self._own(patient_ids)
        if (await self._identity(patient_id)) is None:
            await self._say(patient_id, IdentityChange())
        return patient_id

    async def merge(self, surviving: Sequence[CX], subsumed: Sequence[CX]) -> tuple[CX, CX]:
        """Have one patient answer for another as well, for good; the surviving and the subsumed id.

        A merge that was recorded before is not recorded again, and no mistake: its sender missed the answer.
        Raises FeedRefused, StoreBusy.
        """
        into, patient_id = self._two(surviving, subsumed)
        await self.until_it_holds(lambda: self._merge_once(into, patient_id))
        return into, patient_id

    async def _merge_once(self, into: CX, patient_id: CX) -> None:
        of_survivor = await self.store.known(Questions(into.text))
        of_subsumed = await self.store.known(Questions(patient_id.text))
        identities = await self.store.identities([into.text, patient_id.text])
        if self._is_merged(into, patient_id, identities):
            return
        # The survivor's dossier moves too: of two merges that would go around in a circle, one is judged again.
        await self.store.apply(self._change(into, IdentityChange()), of_survivor)
        await self.store.apply(self._change(patient_id, IdentityChange(into.text)), of_subsumed)

    def _two(self, surviving: Sequence[CX], subsumed: Sequence[CX]) -> tuple[CX, CX]:
        into, patient_id = self._own(surviving), self._own(subsumed)
        if into == patient_id:
            raise FeedRefused(Reason.DUPLICATE, "The surviving and the subsumed patient id are the same; send two.")
        return into, patient_id

    def _is_merged(self, into: CX, patient_id: CX, identities: Mapping[str, PatientIdentity]) -> bool:
        """Whether this very merge is there already. Raises FeedRefused where it can not be."""
        there = identities.get(patient_id.text)
        if there is not None and there.merged_into == into.text:
            return True
        for role, each in (("surviving", into), ("subsumed", patient_id)):
            self._require_active(role, each, identities.get(each.text))
        return False

    async def judge(self, message: Sequence[Told]) -> None:
        """See PatientFeeds: what each part of a message says is judged on what the parts before it will have done."""
        said: dict[str, PatientIdentity] = {}
        for number, told in enumerate(message):
            try:
                await self._judge(told, said)
            except FeedRefused as refusal:
                raise FeedRefused(refusal.reason, str(refusal), number) from refusal

    async def _judge(self, told: Told, said: dict[str, PatientIdentity]) -> None:
        """said: by patient id, what the message will have made of it; what this part says is added."""
        if not told.surviving:
            patient_id = self._own(told.patient_ids)
            there = {**await self.store.identities([patient_id.text]), **said}.get(patient_id.text)
            if there is not None:
                self._require_active("sent", patient_id, there)
            said[patient_id.text] = there or PatientIdentity()
            return
        into, patient_id = self._two(told.surviving, told.patient_ids)
        identities = {**await self.store.identities([into.text, patient_id.text]), **said}
        if not self._is_merged(into, patient_id, identities):
            said[into.text], said[patient_id.text] = PatientIdentity(), PatientIdentity(into.text)

    async def until_it_holds(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """What an attempt answers that no other change came into: it reads and writes, and is made anew.

        The pause is longer each time, and never as long as the other one's: two that stand in each other's way would go
        on so. Raises StoreBusy, and what the attempt raises but FactsMoved.
        """
        for number in range(self.attempts):
            try:
                return await attempt()
            except FactsMoved:
                longest = min(self.pause_seconds * 2**number, _LONGEST_PAUSE_SECONDS)
                await asyncio.sleep(longest * random.random())  # noqa: S311 - no secret
        raise StoreBusy("other changes of the same patient came in between all the time")

    async def is_active(self, patient_id: CX) -> bool:
        """Whether a feed named this patient, and none merged it into another."""
        identity = (await self.store.identities([patient_id.text])).get(patient_id.text)
        return identity is not None and identity.merged_into is None

    async def require_active(self, role: str, patient_id: CX) -> None:
        """Raise FeedRefused where an id can not be one of this affinity domain, is not known or was merged."""
        if problem := self.well_formed.malformation(patient_id):
            raise FeedRefused(Reason.MALFORMED, f"The {role} patient id {shown(patient_id.text)} {problem}.")
        identities = await self.store.identities([patient_id.text])
        self._require_active(role, patient_id, identities.get(patient_id.text))

    def own(self, patient_ids: Sequence[CX]) -> CX | None:
        """See PatientFeeds."""
        try:
            return self._own(patient_ids)
        except FeedRefused:
            return None

    def canonical(self, patient_id: CX) -> CX:
        """The patient id as XDS writes it: number and OID of the authority, and nothing else."""
        authority = patient_id.assigning_authority
        oid = authority.universal_id or self.namespaces.get(authority.namespace_id, "")
        if authority.universal_id and authority.universal_id_type not in ("ISO", ""):
            return CX(f"{patient_id.id_number}^^^{HD(authority.text)}")
        return CX.of(patient_id.id_number.strip(), oid.strip().removeprefix("urn:oid:"))

    def _own(self, patient_ids: Sequence[CX]) -> CX:
        """The first id that can be one of this affinity domain; those of other authorities are none of its business."""
        if not any(each.id_number for each in patient_ids):
            raise FeedRefused(Reason.MISSING, "There is no patient id; send one with its assigning authority.")
        problems: list[str] = []
        for each in map(self.canonical, patient_ids):
            problem = self.well_formed.malformation(each)
            if problem is None:
                return each
            problems.append(f"{shown(each.text)} {problem}")
        raise FeedRefused(Reason.MALFORMED, f"Patient id {'; patient id '.join(problems)}.")

    async def _identity(self, patient_id: CX) -> PatientIdentity | None:
        identity = (await self.store.identities([patient_id.text])).get(patient_id.text)
        if identity is not None and identity.merged_into is not None:
            self._require_active("sent", patient_id, identity)
        return identity

    def _require_active(self, role: str, patient_id: CX, identity: PatientIdentity | None) -> None:
        if identity is None and self.required:
            raise FeedRefused(
                Reason.UNKNOWN,
                f"The {role} patient id {shown(patient_id.text)} is not known here; register the patient first.",
            )
        if identity is not None and identity.merged_into is not None:
            raise FeedRefused(
                Reason.DUPLICATE,
                f"The {role} patient id {shown(patient_id.text)} was merged into another already and is not in use any "
                "more; send the one that survived.",
            )

    async def _say(self, patient_id: CX, identity: IdentityChange) -> None:
        async def say() -> None:
            facts = await self.store.known(Questions(patient_id.text))
            await self.store.apply(self._change(patient_id, identity), facts)

        await self.until_it_holds(say)

    def _change(self, patient_id: CX, identity: IdentityChange) -> RegistryChange:
        time = self.clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return RegistryChange(patient_id.text, str(self.new_uuid()), time, (), (), identity)


@dataclass(frozen=True, slots=True)
class FeedsOfOthers(PatientFeeds):
    """The register, for services that do not know stores."""

    register: PatientRegister

    async def admit(self, patient_ids: Sequence[CX]) -> CX:
        with _busy_told():
            return await self.register.admit(patient_ids)

    async def merge(self, surviving: Sequence[CX], subsumed: Sequence[CX]) -> tuple[CX, CX]:
        with _busy_told():
            return await self.register.merge(surviving, subsumed)

    async def judge(self, message: Sequence[Told]) -> None:
        with _busy_told():
            await self.register.judge(message)

    def own(self, patient_ids: Sequence[CX]) -> CX | None:
        return self.register.own(patient_ids)

    async def is_active(self, patient_id: CX) -> bool:
        with _busy_told():
            return await self.register.is_active(patient_id)


@contextmanager
def _busy_told() -> Iterator[None]:
    try:
        yield
    except StoreBusy as busy:
        raise XdsError(ITI_42.busy_code, "The registry is busy; send the message again later.") from busy
