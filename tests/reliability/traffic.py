"""ITI-41 traffic with replacements and refusals mixed in, and a memory of what was acknowledged.

The invariants are those of a server that may be killed at any moment:
* what was acknowledged is registered, and comes back byte for byte;
* what was refused is neither registered nor retrievable, and a refusal touches nothing that was there;
* what was neither is there as a whole or not at all;
* an acknowledged replacement has deprecated what it replaced, and only one replacement of a document stands.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, auto

import aiohttp

from tests.builders import PATIENT_AUTHORITY, association, document_entry, oid, submission, unmeasured
from tests.conformance.wire import Wire
from xds.actors import DocumentRequest
from xds.ebxml_messages import retrieve_request
from xds.ebxml_reader import read_rendering
from xds.errors import ResponseStatus
from xds.hl7v2 import CX
from xds.metadata import Association, AssociationType, AvailabilityStatus, DocumentEntry
from xds.transactions import ITI_43

PATIENTS = tuple(CX.of(str(number), PATIENT_AUTHORITY) for number in range(1, 9))
LARGEST = 300_000
AT_ONCE = 50


class Fate(Enum):
    """What the source of a document was told."""

    ACKNOWLEDGED = auto()
    REFUSED = auto()
    UNKNOWN = auto()


@dataclass
class Sent:
    """One document that was submitted."""

    entry: DocumentEntry
    content: bytes
    replaces: str | None = None  # entryUUID
    fate: Fate = Fate.UNKNOWN

    @property
    def unique_id(self) -> str:
        return self.entry.unique_id or ""


@dataclass
class Memory:
    """All that was sent, over all lives of the server."""

    sent: list[Sent] = field(default_factory=list)
    clashing: list[Sent] = field(default_factory=list)  # other bytes under the uniqueId of an acknowledged document

    def with_fate(self, fate: Fate) -> list[Sent]:
        return [each for each in self.sent if each.fate is fate]


class Traffic:
    """Several sources that submit without pause until the server is gone."""

    def __init__(self, base: str, memory: Memory, *, seed: int, sources: int = 8) -> None:
        self._base = base
        self._memory = memory
        self._random = random.Random(seed)  # noqa: S311 - a test that can be repeated
        self._sources = sources
        self._stopped = False
        # Only documents of earlier lives and of this one that nobody is replacing at this moment.
        self._replaceable = [
            each for each in memory.with_fate(Fate.ACKNOWLEDGED) if each.entry.entry_uuid not in _replaced(memory.sent)
        ]

    async def run(self) -> None:
        """Submit until stop() or until the server can not be reached."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            wire = Wire(self._base, session)
            await asyncio.gather(*(self._source(wire) for _ in range(self._sources)))

    def stop(self) -> None:
        self._stopped = True

    async def _source(self, wire: Wire) -> None:
        while not self._stopped:
            chosen = self._random.random()
            try:
                if chosen < 0.15:
                    await self._clash(wire)
                elif chosen < 0.3:
                    await self._refused(wire)
                else:
                    await self._submitted(wire, replacing=chosen < 0.6)
            except (aiohttp.ClientError, TimeoutError, OSError):
                return  # the server is gone, and with it the answer

    async def _submitted(self, wire: Wire, *, replacing: bool) -> None:
        target = self._target() if replacing else None
        sent = self._new(target)
        self._memory.sent.append(sent)
        links = (association(AssociationType.RPLC, sent.entry, target.entry.entry_uuid),) if target is not None else ()
        await self._send(wire, sent, links)
        if sent.fate is Fate.ACKNOWLEDGED:
            self._replaceable.append(sent)

    def _target(self) -> Sent | None:
        if not self._replaceable:
            return None
        index = self._random.randrange(len(self._replaceable))
        # Now and then two sources replace the same document: one of them has to lose.
        return self._replaceable[index] if self._random.random() < 0.3 else self._replaceable.pop(index)

    async def _refused(self, wire: Wire) -> None:
        """A document whose metadata contradicts it, or that replaces what never was."""
        sent = self._new(None)
        self._memory.sent.append(sent)
        if self._random.random() < 0.5:
            sent.entry = replace(sent.entry, hash="0" * 40)
            await self._send(wire, sent, ())
        else:
            await self._send(wire, sent, (association(AssociationType.RPLC, sent.entry, document_entry()),))
        if sent.fate is Fate.ACKNOWLEDGED:
            raise AssertionError("a submission that had to be refused was acknowledged")

    async def _clash(self, wire: Wire) -> None:
        """Other bytes under a uniqueId that is taken."""
        known = self._memory.with_fate(Fate.ACKNOWLEDGED)
        if not known:
            return
        sent = self._new(None)
        sent.entry = replace(sent.entry, unique_id=self._random.choice(known).unique_id)
        self._memory.clashing.append(sent)
        await self._send(wire, sent, ())
        if sent.fate is Fate.ACKNOWLEDGED:
            raise AssertionError("other bytes were taken under a known uniqueId")

    async def _send(self, wire: Wire, sent: Sent, links: tuple[Association, ...]) -> None:
        answer = await wire.provide(submission(sent.entry, associations=links), {sent.entry.entry_uuid: sent.content})
        sent.fate = Fate.ACKNOWLEDGED if answer.registry_response.succeeded else Fate.REFUSED

    def _new(self, target: Sent | None) -> Sent:
        size = int(self._random.paretovariate(0.4)) % LARGEST
        patient = target.entry.patient_id if target else self._random.choice(PATIENTS)
        entry = unmeasured(document_entry(patient_id=patient, unique_id=oid()))
        return Sent(entry, self._random.randbytes(size), target.entry.entry_uuid if target else None)


def _replaced(sent: Iterable[Sent]) -> set[str]:
    return {each.replaces for each in sent if each.replaces is not None and each.fate is not Fate.REFUSED}


async def broken_invariants(base: str, memory: Memory) -> list[str]:
    """A sentence for every invariant that does not hold."""
    async with aiohttp.ClientSession() as session:
        wire = Wire(base, session)
        registered = await _registered(wire, {each.unique_id for each in memory.sent})
        retrieved = await _retrieved(wire, memory.sent, registered)
    return [*_of_documents(memory, registered, retrieved), *_of_replacements(memory, registered)]


def _of_documents(
    memory: Memory, registered: dict[str, list[DocumentEntry]], retrieved: dict[str, bytes]
) -> Iterator[str]:
    for sent in memory.sent:
        entries, content = registered.get(sent.unique_id, []), retrieved.get(sent.unique_id)
        name = f"document {sent.unique_id} ({sent.fate.name}, {len(sent.content)} octets)"
        if sent.fate is Fate.ACKNOWLEDGED and len(entries) != 1:
            yield f"{name} is registered {len(entries)} times"
        if sent.fate is Fate.REFUSED and (entries or content is not None):
            yield f"{name} left a trace: {len(entries)} entries, content {content is not None}"
        if len(entries) > 1:
            yield f"{name} is registered {len(entries)} times"
        if bool(entries) != (content is not None):
            yield f"{name}: {len(entries)} entries, but content is {'there' if content is not None else 'absent'}"
        if content is not None and content != sent.content:
            yield f"{name} came back altered"


def _of_replacements(memory: Memory, registered: dict[str, list[DocumentEntry]]) -> Iterator[str]:
    standing: dict[str, list[Sent]] = {}
    for sent in memory.sent:
        if sent.replaces is not None and registered.get(sent.unique_id):
            standing.setdefault(sent.replaces, []).append(sent)
    for sent in memory.sent:
        for entry in registered.get(sent.unique_id, []):
            replacements = standing.get(entry.entry_uuid, [])
            if len(replacements) > 1:
                yield f"document {sent.unique_id} was replaced {len(replacements)} times"
            expected = AvailabilityStatus.DEPRECATED if replacements else AvailabilityStatus.APPROVED
            if entry.availability_status != expected:
                yield f"document {sent.unique_id} with {len(replacements)} replacements is {entry.availability_status}"


async def _registered(wire: Wire, unique_ids: set[str]) -> dict[str, list[DocumentEntry]]:
    found: dict[str, list[DocumentEntry]] = {}
    for some in _in_groups(sorted(unique_ids)):
        listed = ",".join(f"'{unique_id}'" for unique_id in some)
        # Documents of several patients: each is asked for by reference first, which may mix patients.
        references = await wire.query("GetDocuments", "ObjectRef", XDSDocumentEntryUniqueId=f"({listed})")
        assert references.query_response.status is ResponseStatus.SUCCESS, references.content
        answers = await asyncio.gather(
            *(
                wire.query("GetDocuments", XDSDocumentEntryEntryUUID=f"('{each.entry_uuid}')")
                for each in references.query_response.found
            )
        )
        for answer in answers:
            for each in answer.query_response.found:
                entry = read_rendering(each.ebrim or b"")
                assert isinstance(entry, DocumentEntry)
                found.setdefault(entry.unique_id or "", []).append(entry)
    return found


async def _retrieved(wire: Wire, sent: list[Sent], registered: dict[str, list[DocumentEntry]]) -> dict[str, bytes]:
    repositories = [entry.repository_unique_id for entries in registered.values() for entry in entries]
    repository = repositories[0] if repositories and repositories[0] else "1.2.3"
    found: dict[str, bytes] = {}
    for some in _in_groups(sorted({each.unique_id for each in sent})):
        requests = [DocumentRequest(repository, unique_id) for unique_id in some]
        answer = await wire.mtom(ITI_43, retrieve_request(requests))
        for document in answer.retrieved.documents:
            found[document.request.document_unique_id] = answer.parts[document.content_id or ""]
    return found


def _in_groups(items: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]
