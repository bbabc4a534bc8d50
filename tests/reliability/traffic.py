"""ITI-41 traffic with replacements and refusals mixed in, and a memory of what was acknowledged.

The invariants are those of a server that may be killed at any moment, and so may what it stores in:
* what was acknowledged is registered, and comes back byte for byte;
* what was refused is neither registered nor retrievable, and a refusal touches nothing that was there;
* what was neither is there as a whole or not at all;
* an acknowledged replacement has deprecated what it replaced, and only one replacement of a document stands;
* whatever is refused is refused with the standard's code for it, or because something is busy.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from functools import partial

import aiohttp

from tests.builders import PATIENT_AUTHORITY, association, document_entry, oid, submission, unmeasured
from tests.conformance.wire import Reply, Wire
from xds.actors import DocumentRequest
from xds.ebxml_messages import retrieve_request
from xds.ebxml_reader import read_rendering
from xds.errors import ErrorCode, ResponseStatus
from xds.hl7v2 import CX
from xds.metadata import Association, AssociationType, AvailabilityStatus, DocumentEntry
from xds.transactions import ITI_43

PATIENTS = tuple(CX.of(str(number), PATIENT_AUTHORITY) for number in range(1, 9))
LARGEST = 300_000
UPLOADED_IN_PARTS = 9_000_000
"""Octets of one document in a hundred: more than a part of a multipart upload."""
AT_ONCE = 50
PATIENCE_SECONDS = 30
"""Whoever has no answer by then is not served at all."""

BUSY = frozenset({ErrorCode.REGISTRY_BUSY, ErrorCode.REPOSITORY_BUSY})
_ASKED_AGAIN = BUSY | {ErrorCode.REGISTRY_NOT_AVAILABLE}


class Fate(Enum):
    """What the source of a document was told."""

    ACKNOWLEDGED = auto()
    REFUSED = auto()
    UNKNOWN = auto()


@dataclass
class Sent:
    """One document that was submitted.

    seed, size   of its bytes
    replaces     entryUUID
    may_lose     the codes with which it may be refused, beside BUSY
    node         the server it was sent to
    codes        the errors it was answered with
    seconds      how long the answer took
    """

    entry: DocumentEntry
    seed: int
    size: int
    replaces: str | None = None
    may_lose: frozenset[ErrorCode] = frozenset()
    node: str = ""
    fate: Fate = Fate.UNKNOWN
    codes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def unique_id(self) -> str:
        return self.entry.unique_id or ""

    @property
    def content(self) -> bytes:
        return random.Random(self.seed).randbytes(self.size)  # noqa: S311 - to be made again, so that memory holds all


@dataclass
class Memory:
    """All that was sent, over all lives of the servers.

    clashing   other bytes under the uniqueId of an acknowledged document
    unheard    sentences about those who waited in vain
    cut_off    how often a server closed a connection instead of answering
    """

    sent: list[Sent] = field(default_factory=list)
    clashing: list[Sent] = field(default_factory=list)
    unheard: list[str] = field(default_factory=list)
    cut_off: Counter[str] = field(default_factory=Counter)

    def with_fate(self, fate: Fate) -> list[Sent]:
        return [each for each in self.sent if each.fate is fate]

    def is_busy(self) -> int:
        """How many were refused because something was busy."""
        return sum(bool(BUSY.intersection(each.codes)) for each in [*self.sent, *self.clashing])

    def slowest(self) -> float:
        """Seconds that the longest answer took."""
        return max((each.seconds for each in [*self.sent, *self.clashing]), default=0.0)

    def related(self, chosen: Iterable[Sent]) -> list[Sent]:
        """These documents, those that they replace, and all that replace any of them or one another."""
        by_uuid = {each.entry.entry_uuid: each for each in self.sent}
        replacing: dict[str | None, list[Sent]] = defaultdict(list)
        for each in self.sent:
            replacing[each.replaces].append(each)
        found: dict[str, Sent] = {}
        waiting = list(chosen)
        waiting += [by_uuid[each.replaces] for each in waiting if each.replaces in by_uuid]
        while waiting:
            each = waiting.pop()
            if each.unique_id not in found:
                found[each.unique_id] = each
                waiting += replacing[each.entry.entry_uuid]
        return list(found.values())


@dataclass
class Outcome:
    """What a run of several kills came to.

    midway   kills that came while a submission was under way
    """

    memory: Memory = field(default_factory=Memory)
    broken: list[str] = field(default_factory=list)
    kills: int = 0
    midway: int = 0


class Traffic:
    """Several sources that submit without pause, each to one of the servers, until they are stopped or it is gone."""

    def __init__(
        self, bases: list[str], memory: Memory, *, seed: int, sources: int = 8, patients: Sequence[CX] = PATIENTS
    ) -> None:
        self._bases = bases
        self._memory = memory
        self._random = random.Random(seed)  # noqa: S311 - a test that can be repeated
        self._sources = sources
        self._patients = patients
        self._stopped = False
        self._ended = False
        self._answered = asyncio.Event()
        # Only documents of earlier lives and of this one that nobody is replacing at this moment.
        replaced = _replaced(memory.sent)
        self._replaceable = [
            each for each in memory.with_fate(Fate.ACKNOWLEDGED) if each.entry.entry_uuid not in replaced
        ]

    async def run(self) -> None:
        """Submit until stop() or until no server can be reached."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS)) as session:
            wires = [Wire(base, session) for base in self._bases]
            try:
                await asyncio.gather(*(self._source(wires[each % len(wires)]) for each in range(self._sources)))
            finally:
                self._ended = True
                self._answered.set()

    def stop(self) -> None:
        self._stopped = True

    async def resumed(self) -> None:
        """Wait until every server has acknowledged a document that was sent to it after this was called."""
        mark = len(self._memory.sent)
        while {each.node for each in self._memory.sent[mark:] if each.fate is Fate.ACKNOWLEDGED} != set(self._bases):
            self._answered.clear()
            await self._answered.wait()

    async def heard(self, *fates: Fate) -> None:
        """Wait until some source was told each of these, in this life or an earlier one, or until the traffic ends."""
        while not self._ended and any(not self._memory.with_fate(fate) for fate in fates):
            self._answered.clear()
            await self._answered.wait()

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
            except TimeoutError:
                self._memory.unheard.append(f"{wire.base} has not answered for {PATIENCE_SECONDS} seconds")
                return
            except (aiohttp.ClientError, OSError):
                self._memory.cut_off[wire.base] += 1
                return  # the server is gone, and with it the answer

    async def _submitted(self, wire: Wire, *, replacing: bool) -> None:
        target = self._target() if replacing else None
        sent = self._new(target)
        if target is not None:
            sent.may_lose = frozenset({ErrorCode.REGISTRY_DEPRECATED_DOCUMENT_ERROR})
        self._memory.sent.append(sent)
        links = (association(AssociationType.RPLC, sent.entry, target.entry.entry_uuid),) if target is not None else ()
        await self._send(wire, sent, links)
        if sent.fate is Fate.ACKNOWLEDGED:
            self._replaceable.append(sent)
        elif target is not None and BUSY.intersection(sent.codes):
            self._replaceable.append(target)

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
            sent.may_lose = frozenset({ErrorCode.REPOSITORY_METADATA_ERROR})
            await self._send(wire, sent, ())
        else:
            sent.may_lose = frozenset({ErrorCode.UNRESOLVED_REFERENCE})
            await self._send(wire, sent, (association(AssociationType.RPLC, sent.entry, document_entry()),))
        if sent.fate is Fate.ACKNOWLEDGED:
            raise AssertionError("a submission that had to be refused was acknowledged")

    async def _clash(self, wire: Wire) -> None:
        """Other bytes under a uniqueId that is taken."""
        known = self._memory.with_fate(Fate.ACKNOWLEDGED)
        if not known:
            return
        sent, taken = self._new(None), self._random.choice(known)
        if sent.content == taken.content:
            sent.size += 1  # a quarter of all documents has one octet, and identical ones may be submitted again
        sent.entry = replace(sent.entry, unique_id=taken.unique_id)
        sent.may_lose = frozenset({ErrorCode.NON_IDENTICAL_HASH, ErrorCode.NON_IDENTICAL_SIZE})
        self._memory.clashing.append(sent)
        await self._send(wire, sent, ())
        if sent.fate is Fate.ACKNOWLEDGED:
            raise AssertionError(f"{sent.size} other octets were taken for the {taken.size} of {taken.unique_id}")

    async def _send(self, wire: Wire, sent: Sent, links: tuple[Association, ...]) -> None:
        await send(wire, sent, *links)
        self._answered.set()

    def _new(self, target: Sent | None) -> Sent:
        size = int(self._random.paretovariate(0.4)) % LARGEST
        if self._random.random() < 0.01:
            size = UPLOADED_IN_PARTS
        patient = target.entry.patient_id if target else self._random.choice(self._patients)
        entry = unmeasured(document_entry(patient_id=patient, unique_id=oid()))
        return Sent(entry, self._random.randrange(2**32), size, target.entry.entry_uuid if target else None)


async def send(wire: Wire, sent: Sent, *links: Association) -> None:
    """Submit a document with ITI-41, and note what was answered."""
    sent.node = wire.base
    content = sent.content
    began = time.monotonic()
    answer = await wire.provide(submission(sent.entry, associations=links), {sent.entry.entry_uuid: content})
    sent.seconds = time.monotonic() - began
    response = answer.registry_response
    sent.codes = tuple(str(error.code) for error in response.errors)
    if response.succeeded:
        sent.fate = Fate.ACKNOWLEDGED
    elif ErrorCode.REGISTRY_NOT_AVAILABLE not in sent.codes:  # which says that nobody knows
        sent.fate = Fate.REFUSED


def replacement(sent: Sent, target: Sent) -> Association:
    """What makes a document replace another one of the same patient."""
    sent.replaces = target.entry.entry_uuid
    sent.may_lose = frozenset({ErrorCode.REGISTRY_DEPRECATED_DOCUMENT_ERROR})
    return association(AssociationType.RPLC, sent.entry, target.entry.entry_uuid)


def _replaced(sent: Iterable[Sent]) -> set[str]:
    return {each.replaces for each in sent if each.replaces is not None and each.fate is not Fate.REFUSED}


async def broken_invariants(base: str, memory: Memory, chosen: Iterable[Sent] | None = None) -> list[str]:
    """A sentence for every invariant that does not hold, as one server sees it.

    chosen   only these documents and what is related to them; None: all
    """
    chosen = memory.sent if chosen is None else memory.related(chosen)
    async with aiohttp.ClientSession() as session:
        wire = Wire(base, session)
        registered, retrieved = await _seen(wire, chosen)
    return [
        *_of_documents(chosen, registered, retrieved),
        *_of_replacements(chosen, registered),
        *_of_answers([*chosen, *memory.clashing]),
        *memory.unheard,
    ]


async def _seen(wire: Wire, chosen: Sequence[Sent]) -> tuple[dict[str, list[DocumentEntry]], dict[str, bytes]]:
    """What is registered of these documents, and what comes back, as at one moment.

    A submission whose source was told nothing may be finished by another node while it is being looked at; then all of
    it is looked at again.
    """
    unknown = {each.unique_id for each in chosen if each.fate is Fate.UNKNOWN}
    while True:
        registered = await _registered(wire, {each.unique_id for each in chosen})
        retrieved = await _retrieved(wire, chosen, registered)
        if (await _registered(wire, unknown)).keys() == registered.keys() & unknown:
            return registered, retrieved


def _of_answers(sent: Iterable[Sent]) -> Iterator[str]:
    for each in sent:
        allowed = BUSY | each.may_lose | {ErrorCode.REGISTRY_NOT_AVAILABLE}
        if each.fate is not Fate.ACKNOWLEDGED and not allowed.issuperset(each.codes):
            yield f"document {each.unique_id} was refused with {', '.join(each.codes)}"


def _of_documents(
    documents: Sequence[Sent], registered: dict[str, list[DocumentEntry]], retrieved: dict[str, bytes]
) -> Iterator[str]:
    for sent in documents:
        entries, content = registered.get(sent.unique_id, []), retrieved.get(sent.unique_id)
        name = f"document {sent.unique_id} ({sent.fate.name}, {sent.size} octets)"
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


def _of_replacements(documents: Sequence[Sent], registered: dict[str, list[DocumentEntry]]) -> Iterator[str]:
    standing: dict[str, list[Sent]] = {}
    for sent in documents:
        if sent.replaces is not None and registered.get(sent.unique_id):
            standing.setdefault(sent.replaces, []).append(sent)
    for sent in documents:
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
        references = await _served(
            partial(wire.query, "GetDocuments", "ObjectRef", XDSDocumentEntryUniqueId=f"({listed})")
        )
        answers = await asyncio.gather(
            *(
                _served(partial(wire.query, "GetDocuments", XDSDocumentEntryEntryUUID=f"('{each.entry_uuid}')"))
                for each in references.query_response.found
            )
        )
        for answer in (references, *answers):
            assert answer.query_response.status is ResponseStatus.SUCCESS, answer.content
        for answer in answers:
            for each in answer.query_response.found:
                entry = read_rendering(each.ebrim or b"")
                assert isinstance(entry, DocumentEntry)
                found.setdefault(entry.unique_id or "", []).append(entry)
    return found


async def _served(ask: Callable[[], Awaitable[Reply]]) -> Reply:
    """An answer that says what there is. A store may be busy for a moment, which says nothing about what it holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while busy := _ASKED_AGAIN.intersection((answer := await ask()).codes):
        assert time.monotonic() < deadline, f"{', '.join(busy)} is answered for {PATIENCE_SECONDS} seconds"
        await asyncio.sleep(0.2)
    return answer


async def _retrieved(wire: Wire, sent: Sequence[Sent], registered: dict[str, list[DocumentEntry]]) -> dict[str, bytes]:
    repositories = [entry.repository_unique_id for entries in registered.values() for entry in entries]
    repository = repositories[0] if repositories and repositories[0] else "1.2.3"
    found: dict[str, bytes] = {}
    for some in _in_groups(sorted({each.unique_id for each in sent})):
        requests = [DocumentRequest(repository, unique_id) for unique_id in some]
        answer = await _served(partial(wire.mtom, ITI_43, retrieve_request(requests)))
        for document in answer.retrieved.documents:
            found[document.request.document_unique_id] = answer.parts[document.content_id or ""]
    return found


def _in_groups(items: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]
