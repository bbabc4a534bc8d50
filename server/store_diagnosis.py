"""How it stands with the stores: the part of `toimik doctor` that looks at what a server keeps.

Nothing is changed, and what is not there yet is not made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from registry.dossier_check import checked_dossiers
from registry.metadata_store import Criteria, Match, MetadataStore, StoreBusy
from repository.document_store import DocumentDamaged, DocumentStore
from repository.document_store import StoreBusy as DocumentStoreBusy
from server.cli.screen import octets
from server.diagnosis import Diagnosis, Tell, Verdict
from server.settings import Actor, Settings, repository_unique_id
from server.settings.mhd import ExternalUrl, MhdSettings
from server.settings.stores import DocumentStoreKind, MetadataStoreKind
from server.store_opening import (
    DOCUMENTS_DIRECTORY,
    METADATA_FILE,
    document_store,
    metadata_store,
    mongodb_condition,
    s3_condition,
    unhurried,
)
from server.trusted_servers import is_below_any
from xds.ebxml_writer import codec
from xds.metadata import DocumentEntry, DocumentEntryType, ObjectKind

if TYPE_CHECKING:
    # Of extras that may not be installed.
    from registry.mongodb.diagnosis import MongoCondition
    from repository.s3_diagnosis import S3Condition

_SHOWN_PROBLEMS = 20


_METADATA, _DOCUMENTS = "metadata store", "document store"
_NOT_THERE = "its document is not there"

_Store = TypeVar("_Store", MetadataStore, DocumentStore)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a store is: what is to be said of it, and whether the store can be opened without making anything."""

    usable: bool
    diagnoses: tuple[Diagnosis, ...] = ()


async def store_diagnoses(settings: Settings, *, deep: bool, tell: Tell | None) -> AsyncIterator[Diagnosis]:
    """Whether the stores open, and what a deep look finds."""
    metadata: MetadataStore | None = None
    documents: DocumentStore | None = None
    try:
        if Actor.REGISTRY in settings.actors:
            place = await _place_of_metadata(settings)
            for diagnosis in place.diagnoses:
                yield diagnosis
            if place.usable:
                opening = metadata_store(unhurried(settings) if deep else settings)
                metadata, diagnosis = await _opened(opening, _METADATA, "opens and answers")
                yield diagnosis
        if Actor.REPOSITORY in settings.actors:
            place = await _place_of_documents(settings)
            for diagnosis in place.diagnoses:
                yield diagnosis
            if place.usable:
                healthy = "a document could be taken now"
                documents, diagnosis = await _opened(_document_store(settings), _DOCUMENTS, healthy)
                yield diagnosis
        if deep:
            async for diagnosis in _deep(settings, metadata, documents, tell):
                yield diagnosis
    finally:
        for store in (metadata, documents):
            if store is not None:
                await store.close()


async def _document_store(settings: Settings) -> DocumentStore:
    return document_store(settings)


async def _opened(opening: Awaitable[_Store], subject: str, healthy: str) -> tuple[_Store | None, Diagnosis]:
    """The store if it opens and works, and what to say of that."""
    try:
        store = await opening
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is the diagnosis
        return None, Diagnosis(subject, Verdict.FAILED, str(problem))
    try:
        await store.check()
    except Exception as problem:  # noqa: BLE001 - as above
        await store.close()
        return None, Diagnosis(subject, Verdict.FAILED, str(problem))
    return store, Diagnosis(subject, Verdict.OK, healthy)


async def _place_of_metadata(settings: Settings) -> _Place:
    if settings.metadata.store is MetadataStoreKind.MONGODB:
        return await _mongodb(settings)
    if (settings.data / METADATA_FILE).exists():
        return _Place(usable=True)
    return _Place(False, (Diagnosis(_METADATA, Verdict.OK, "nothing was ever registered"),))


async def _place_of_documents(settings: Settings) -> _Place:
    if settings.documents.store is DocumentStoreKind.S3:
        return await _bucket(settings)
    if (settings.data / DOCUMENTS_DIRECTORY).exists():
        return _Place(usable=True)
    return _Place(False, (Diagnosis(_DOCUMENTS, Verdict.OK, "no document was ever stored"),))


# ---------------------------------------------------------------------------------------------------------- MongoDB


async def _mongodb(settings: Settings) -> _Place:
    """What a MongoDB server has to be and to have."""
    subject = f"MongoDB database {settings.metadata.mongodb_database}"
    try:
        found = await mongodb_condition(settings)
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is the diagnosis
        return _Place(False, (Diagnosis(subject, Verdict.FAILED, str(problem)),))
    usable = found.prepared and not found.too_new and found.index_is_current
    return _Place(usable, (_replication(found), *_schema(subject, found)))


def _replication(found: MongoCondition) -> Diagnosis:
    subject = f"MongoDB {found.server}"
    if found.topology == "single server":
        return Diagnosis(
            subject,
            Verdict.WARNING,
            "a single server: what it acknowledged is as safe as its disk, and it is away whenever that server is",
        )
    members = f" of {found.members} members" if found.members else ""
    return Diagnosis(subject, Verdict.OK, f"a {found.topology}{members}")


def _schema(subject: str, found: MongoCondition) -> Iterator[Diagnosis]:
    if not found.prepared:
        yield Diagnosis(subject, Verdict.WARNING, "is empty; `toimik migrate` prepares it")
    elif found.too_new:
        yield Diagnosis(
            subject, Verdict.FAILED, "was written by a newer release of Toimik; run that one, or a newer one"
        )
    elif not found.index_is_current:
        yield Diagnosis(subject, Verdict.FAILED, "its index is that of an older release; run `toimik reindex`")
    elif found.missing_indexes:
        missing = ", ".join(found.missing_indexes)
        yield Diagnosis(subject, Verdict.FAILED, f"lacks the indexes {missing}; `toimik migrate` makes them")
    else:
        yield Diagnosis(subject, Verdict.OK, "has the collections and indexes of this release")


# --------------------------------------------------------------------------------------------------------------- S3


async def _bucket(settings: Settings) -> _Place:
    """What an S3 server has to be and to have."""
    subject = f"bucket {settings.documents.s3_bucket} at {settings.documents.s3_endpoint}"
    try:
        found = await s3_condition(settings)
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is the diagnosis
        return _Place(False, (Diagnosis(subject, Verdict.FAILED, str(problem)),))
    if not found.there:
        return _Place(False, (Diagnosis(subject, Verdict.WARNING, "is not there; `toimik migrate` makes it"),))
    if not found.prepared:
        return _Place(False, (Diagnosis(subject, Verdict.WARNING, "is empty; `toimik migrate` prepares it"),))
    return _Place(True, tuple(_bucket_in_use(settings, subject, found)))


def _bucket_in_use(settings: Settings, subject: str, found: S3Condition) -> Iterator[Diagnosis]:
    yield Diagnosis(subject, Verdict.OK, "is there and answers")
    if found.conditional_writes:
        yield Diagnosis("conditional writes", Verdict.OK, "the S3 server creates no object twice")
    else:
        unsafe = "the S3 server creates an object a second time, so that one document could overwrite another"
        yield Diagnosis("conditional writes", Verdict.FAILED, unsafe)
    wanted = settings.documents.s3_versioning
    yield Diagnosis(
        "versioning",
        Verdict.WARNING if wanted and not found.versioned else Verdict.OK,
        f"{'on' if found.versioned else 'off'}; documents.s3_versioning is {'true' if wanted else 'false'}",
    )
    ending = "a rule of the bucket and the sweeper end them" if found.ends_uploads else "the sweeper ends them"
    yield Diagnosis("broken uploads", Verdict.OK, ending)


# ------------------------------------------------------------------------------------------------------ a deep look


async def _deep(
    settings: Settings, metadata: MetadataStore | None, documents: DocumentStore | None, tell: Tell | None
) -> AsyncIterator[Diagnosis]:
    if metadata is None:
        yield Diagnosis("log and index", Verdict.WARNING, "there is no registry here to look into")
        return
    if tell:
        tell("Verifying the log of every dossier, and comparing it with the index ...")
    yield await _unless_away("log and index", _log_and_index(metadata))
    if documents is None:
        return
    if tell:
        tell("Reading every document that this repository should hold ...")
    yield await _unless_away("documents", _documents(metadata, documents, settings))


async def _unless_away(subject: str, look: Awaitable[Diagnosis]) -> Diagnosis:
    """What a look found, or that a store went away in the midst of it."""
    try:
        return await look
    except (StoreBusy, DocumentStoreBusy) as problem:
        return Diagnosis(subject, Verdict.FAILED, f"it could not be looked at to its end: {problem}; do it again")


async def _log_and_index(metadata: MetadataStore) -> Diagnosis:
    dossiers = records = objects = 0
    problems: list[str] = []
    async for checked in checked_dossiers(metadata, codec):
        dossiers += 1
        records += checked.records
        objects += checked.objects
        problems += checked.problems
    looked_at = f"{dossiers} dossiers with {records} records and {objects} objects"
    return _summary("log and index", looked_at, problems, "whole, and the same in both")


async def _documents(metadata: MetadataStore, documents: DocumentStore, settings: Settings) -> Diagnosis:
    """Every stable entry of this repository that is neither delayed nor linked has its document, and that its hash."""
    repository = repository_unique_id(settings)
    looked_at = 0
    delayed = linked = 0
    total = 0
    problems: list[str] = []
    async for row in metadata.index_rows():
        try:
            entry = codec.read(row.ebrim)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, its document can not be asked for
            problems.append(f"{row.entry_uuid}: what the index has of it can not be read")
            continue
        if not isinstance(entry, DocumentEntry) or entry.repository_unique_id != repository:
            continue
        if entry.object_type == DocumentEntryType.ON_DEMAND or await _was_assembled_since(entry, metadata):
            continue
        looked_at += 1
        problem, size = await _document(entry, documents)
        total += size
        if problem == _NOT_THERE and entry.says_delayed and settings.assembles_documents:
            delayed += 1
        elif problem == _NOT_THERE and _stays_elsewhere(entry, settings.mhd):
            linked += 1
        elif problem:
            problems.append(f"{entry.entry_uuid}: {problem}")
    waiting = f", of which {delayed} have yet to be assembled" if delayed else ""
    staying = f", of which {linked} stay on other servers" if linked else ""
    looked_at_them = f"the documents of {looked_at} entries, {octets(total)}{waiting}{staying}"
    return _summary("documents", looked_at_them, problems, "there, and as they came")


def _stays_elsewhere(entry: DocumentEntry, mhd: MhdSettings) -> bool:
    """Whether its document is on another server, and is fetched whenever it is retrieved."""
    return mhd.external_url is ExternalUrl.LINK and is_below_any(entry.uri or "", mhd.document_servers)


async def _was_assembled_since(entry: DocumentEntry, metadata: MetadataStore) -> bool:
    """Whether a newer version says what has become of a delayed document."""
    if not entry.says_delayed or not entry.logical_id:
        return False
    versions = Criteria(ObjectKind.DOCUMENT_ENTRY, (Match.any_of("logical_id", (entry.logical_id,)),))
    found = await metadata.find(versions, rendering=False)
    return any(int(each.version or 0) > int(entry.version or 0) for each in found)


async def _document(entry: DocumentEntry, documents: DocumentStore) -> tuple[str | None, int]:
    """What is wrong with the document of an entry, and its size."""
    unique_id = entry.unique_id or ""
    settled = await documents.find(unique_id)
    # A crash may have left it unsettled: the first retrieval settles it.
    candidates = [settled] if settled else list(await documents.unsettled(unique_id))
    if not candidates:
        return _NOT_THERE, 0
    expected = (entry.hash or "").lower()
    kept = next((each for each in candidates if each.measured.hash == expected), None)
    if kept is None:
        return f"the document that is there has the hash {candidates[0].measured.hash}, not {expected or 'any'}", 0
    try:
        async with documents.read(kept) as content:
            async for _ in content:
                pass
    except (DocumentDamaged, KeyError) as problem:
        return f"its document can not be read: {problem}", kept.measured.size
    return None, kept.measured.size


def _summary(subject: str, looked_at: str, problems: list[str], healthy: str) -> Diagnosis:
    if not problems:
        return Diagnosis(subject, Verdict.OK, f"{looked_at}: {healthy}")
    more = [f"... and {len(problems) - _SHOWN_PROBLEMS} more"] if len(problems) > _SHOWN_PROBLEMS else []
    listed = "\n".join([*problems[:_SHOWN_PROBLEMS], *more])
    return Diagnosis(subject, Verdict.FAILED, f"{looked_at}, {len(problems)} problems:\n{listed}")
