"""Who holds which identifier: the collection `identifiers`, unique across all dossiers.

A record takes its identifiers by inserting them under a unique key (identifier, slot), in sorted order, so that two
records never wait for each other. Slot 0 is held by the record that is named there, unless that one is void; then
slot 1 counts, and so on. So nothing is ever deleted, and a name that one record lost can not be taken from the one
that has it now: many servers find what they delete first and delete it later.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from bson import ObjectId

from registry.mongodb.database import Document, MongoDatabase
from registry.mongodb.documents import Claim, Record
from registry.mongodb.schema import IDENTIFIERS

_PAUSE_SECONDS = 0.01
_NAMES_AT_ONCE = 10_000
_REMEMBERED_DOCUMENTS = 100_000

Slots: TypeAlias = Mapping[int | str, Document]
Stands: TypeAlias = Callable[[str, ObjectId], Awaitable[bool]]
"""Whether the record (patient_key, _id) stands; it is resolved where nobody has done so yet."""


class _Lost(Exception):
    """An identifier is held by a record that stands, or this one was withdrawn."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Takes identifiers for records.

    stands      see above; it may take the identifiers of other records in turn
    documents   names of documents, and the hash of the one that holds each for good
    """

    database: MongoDatabase
    stands: Stands
    documents: OrderedDict[str, str] = field(default_factory=OrderedDict)

    async def taken(self, record: Record, claims: Sequence[Claim]) -> bool:
        """Take all identifiers of a record, and tell whether it has them. The same is told to whoever tries."""
        first = [claim.document(claim.entry_uuid if self._is_listed(claim) else 0, record) for claim in claims]
        if await self.database.insert(IDENTIFIERS, first):
            return True
        while True:
            held = await self.holders([claim.identifier for claim in claims])
            try:
                missing = [place async for place in self._missing(record, claims, held)]
            except _Lost:
                return False
            if await self.database.insert(IDENTIFIERS, missing):
                return True
            await asyncio.sleep(_PAUSE_SECONDS * random.random())  # noqa: S311 - a pause is no secret

    def _is_listed(self, claim: Claim) -> bool:
        """Whether a claim is one of several, as far as is known."""
        return claim.listed or (claim.hash is not None and self.documents.get(claim.identifier) == claim.hash)

    def remember_holder(self, identifier: str, slots: Slots, standing: Collection[ObjectId]) -> None:
        """Keep who has the name of a document, which is for good: then another one of it need not try to be the first.

        standing   the records among the holders that take effect
        """
        for slot, holder in slots.items():
            is_held = holder["record"] in standing and not holder.get("withdrawn")
            if isinstance(slot, int) and is_held and "hash" in holder:
                self.documents[identifier] = holder["hash"]
                if len(self.documents) > _REMEMBERED_DOCUMENTS:
                    self.documents.popitem(last=False)

    async def withdrawn(self, record: Record, claims: Sequence[Claim]) -> bool:
        """Have a record lose, and tell whether that came in time. It need not have arrived in the log."""
        claim = [claim for claim in claims if not claim.listed][-1]
        while True:
            held = await self.holders([claim.identifier])
            try:
                slot = await self._slot(record, claim, held.get(claim.identifier, {}))
            except _Lost:
                return True
            if not isinstance(slot, int):
                return False
            if await self.database.insert(IDENTIFIERS, [claim.document(slot, record, withdrawn=True)]):
                return True
            await asyncio.sleep(_PAUSE_SECONDS * random.random())  # noqa: S311 - a pause is no secret

    async def remember(self, record: Record, claims: Sequence[Claim]) -> None:
        """Write down for a record what nobody holds: names of what was removed, where that is not known any more."""
        held = await self.holders([claim.identifier for claim in claims])
        missing = [claim for claim in claims if 0 not in held.get(claim.identifier, {})]
        if missing:
            await self.database.insert(IDENTIFIERS, [claim.document(0, record) for claim in missing])

    async def holders(self, identifiers: Collection[str]) -> dict[str, dict[int | str, Document]]:
        """By identifier and slot: all that is written down."""
        held: dict[str, dict[int | str, Document]] = defaultdict(dict)
        for names in _portions(sorted(set(identifiers))):
            for document in await self.database.find(IDENTIFIERS, {"identifier": {"$in": names}}):
                held[document["identifier"]][document["slot"]] = document
        return held

    async def _missing(
        self, record: Record, claims: Sequence[Claim], held: Mapping[str, Slots]
    ) -> AsyncIterator[Document]:
        """What is left to be inserted for the record to have its identifiers."""
        for claim in claims:
            slot = await self._slot(record, claim, held.get(claim.identifier, {}))
            if slot is not None:
                yield claim.document(slot, record)

    async def _slot(self, record: Record, claim: Claim, held: Slots) -> int | str | None:
        """Where the record's claim is to be inserted; None: it is there.

        Raises _Lost.
        """
        listing = None if claim.entry_uuid in held else claim.entry_uuid
        if claim.listed:
            return listing
        slot = 0
        while holder := held.get(slot):
            if holder["record"] == record.id:
                if holder.get("withdrawn"):
                    raise _Lost
                return None
            if await self.holds(holder):
                if claim.hash is not None and holder.get("hash") == claim.hash:
                    return listing  # another entry of the same document
                raise _Lost
            slot += 1
        return slot

    async def holds(self, holder: Document) -> bool:
        """Whether the record that is written down here takes effect."""
        return not holder.get("withdrawn") and await self.stands(holder["patient_key"], holder["record"])


def _portions(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _NAMES_AT_ONCE):
        yield names[start : start + _NAMES_AT_ONCE]
