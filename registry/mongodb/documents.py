"""What the documents of the metadata store on MongoDB look like, and how they are made and read.

The collections are declared in schemas/mongodb/collections.toml. A version of an object is inserted once and never
altered; that is why two who write the same change at the same time can do no harm.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bson import Int64, ObjectId

from registry.change_body import decoded as decoded_body
from registry.change_body import object_of
from registry.dossier_log import LogRecord
from registry.metadata_store import (
    IdentityChange,
    IndexRow,
    PatientIdentity,
    Removal,
    Revision,
    StoreDamaged,
    VersionName,
)
from registry.mongodb.database import Document
from registry.rendering_compression import RenderingCompression
from registry.search_columns import COLUMN_SHAPES, SEARCH_COLUMNS, Column, Shape, registration_columns
from xds.actors import ObjectCodec, Registration
from xds.metadata import AnyObject, DocumentEntry, Folder, ObjectKind, SubmissionSet

UNFINISHED = "*unfinished"
"""The kind of a document that says: a change of this dossier is being written, look whether it is finished."""

SUPERSEDED = "*superseded"
"""The kind of a version that is not the newest."""

IDENTITY = "*patient"
"""The kind of a document that says what a feed said of the dossier's patient."""

MERGED = "*merged"
"""The kind of a document that says which other patient was merged into the dossier's. It belongs to that one's log."""

OF_A_MERGE: tuple[Mapping[str, Any], ...] = ({"kind": MERGED}, {"kind": IDENTITY, "merged_into": {"$exists": True}})
"""Conditions, of which one is met by what says that a dossier's patient was merged into another, or another into it."""

NO_OBJECTS = (UNFINISHED, SUPERSEDED, IDENTITY, MERGED)

ORDER = ("patient_key", "kind", "number")

_NUMBER_BITS = 20
MOST_OBJECTS = 1 << _NUMBER_BITS
"""How many objects one change can bring."""

_DOCUMENT = "document:"
_LOGICAL = "logical:"
_RECORD = "record:"


def patient_key(patient_id: str) -> str:
    """What a dossier is found by: a hash, so that ranges of it spread evenly over shards. 128 bits do not collide."""
    return hashlib.sha256(patient_id.encode()).hexdigest()[:32]


class Rendered(NamedTuple):
    """An object with its rendering, compressed."""

    item: AnyObject
    ebrim: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """What a record of the log brings, revises and removes.

    blanks   how many objects it brought that were removed since
    """

    objects: tuple[Rendered, ...]
    revisions: tuple[Revision, ...]
    identity: IdentityChange | None = None
    removals: tuple[Removal, ...] = ()
    blanks: int = 0

    @classmethod
    def of(cls, body: bytes | None, codec: ObjectCodec, compression: RenderingCompression) -> Content:
        """What the body of a record says; nothing where it was blanked.

        Raises StoreDamaged.
        """
        if body is None:
            return cls((), (), blanks=1)
        read = decoded_body(body)
        objects = tuple(
            Rendered(object_of(rendering, codec), compression.compress(rendering)) for rendering in read.renderings
        )
        return cls(objects, read.revisions, read.identity, read.removals, read.blanks)

    @property
    def removed(self) -> frozenset[str]:
        """The entryUUIDs of what it removes."""
        return frozenset(removal.entry_uuid for removal in self.removals)


# --- changes ---------------------------------------------------------------------------------------------------------


class Elsewhere(NamedTuple):
    """A part of a change that is in another dossier, kept with the record until it is in that one's log.

    body   compressed
    """

    patient_id: str
    change_id: str
    time: str
    body: bytes
    body_hash: bytes

    def record_id(self, record: ObjectId) -> ObjectId:
        """Of the part's own record: the same whoever appends it, so that nobody does so twice."""
        return ObjectId(hashlib.sha256(f"{record} {self.patient_id}".encode()).digest()[:12])


@dataclass(frozen=True, slots=True)
class Record:
    """A document of `changes`.

    position   within the dossier, counting from 1
    open       not all that follows from it is known to be written
    void       it lost an identifier and never took effect; its sequence is used again
    log        the record as the port names it; its body is not to be relied on where it was not asked for
    elsewhere  what of its change is in other dossiers; nothing once it is not open
    versions   see RegistryChange
    """

    id: ObjectId
    patient_key: str
    position: int
    open: bool
    void: bool
    log: LogRecord
    elsewhere: tuple[Elsewhere, ...] = ()
    versions: tuple[VersionName, ...] = ()

    @classmethod
    def of(cls, document: Document, compression: RenderingCompression | None = None) -> Record:
        """compression: restores the body; None: it is left away."""
        body = document.get("body")
        if body is not None:
            body = compression.restored_or_as_is(bytes(body)) if compression else None
        return cls(
            id=document["_id"],
            patient_key=document["patient_key"],
            position=document["position"],
            open=document.get("open", False),
            void=document.get("void", False),
            log=LogRecord(
                document["patient_id"],
                document["sequence"],
                document["change_id"],
                document["time"],
                body,
                bytes(document["body_hash"]),
                bytes(document["previous_hash"]),
                bytes(document["hash"]),
            ),
            elsewhere=tuple(
                Elsewhere(**{**each, "body": bytes(each["body"]), "body_hash": bytes(each["body_hash"])})
                for each in document.get("elsewhere", ())
            ),
            versions=tuple(
                VersionName(ObjectKind(each["kind"]), each["logical_id"], each["number"])
                for each in document.get("versions", ())
            ),
        )

    def document(self, compressed_body: bytes | None) -> Document:
        document: Document = {
            "_id": self.id,
            "patient_key": self.patient_key,
            "position": Int64(self.position),
            "patient_id": self.log.patient_id,
            "sequence": Int64(self.log.sequence),
            "change_id": self.log.change_id,
            "time": self.log.time,
            "body_hash": self.log.body_hash,
            "previous_hash": self.log.previous_hash,
            "hash": self.log.hash,
        }
        if compressed_body is not None:
            document["body"] = compressed_body
        if self.open:
            document["open"] = True
        if self.elsewhere:
            document["elsewhere"] = [each._asdict() for each in self.elsewhere]
        if self.versions:
            document["versions"] = [{**each._asdict(), "kind": each.kind.value} for each in self.versions]
        return document


# --- identifiers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """A name that a record holds.

    listed   several objects may have it: this is one of them, in a slot of its own
    hash     of a document: whoever has the same may have the name, too
    """

    identifier: str
    kind: str
    entry_uuid: str
    listed: bool = False
    hash: str | None = None
    size: str | None = None

    def document(self, slot: int | str, record: Record, *, withdrawn: bool = False) -> Document:
        document: Document = {
            "identifier": self.identifier,
            "slot": slot,
            "kind": self.kind,
            "entry_uuid": self.entry_uuid,
            "patient_key": record.patient_key,
            "record": record.id,
        }
        if self.hash is not None:
            document["hash"] = self.hash
        if self.size is not None:
            document["size"] = self.size
        if withdrawn:
            document["withdrawn"] = True
        return document


def claims_of(objects: Sequence[Rendered], record: ObjectId, versions: Sequence[VersionName] = ()) -> tuple[Claim, ...]:
    """All names that a change's objects bear, sorted, so that two changes never wait for each other.

    Raises ValueError where two objects have a name that one object has for itself alone.
    """
    claims: dict[tuple[str, str], Claim] = {}
    for claim in _claims(objects):
        place = (claim.identifier, claim.entry_uuid if claim.listed else "")
        if place in claims:
            if not claim.hash:
                raise ValueError("the change gives one identifier to two objects")
            # Another entry of the same document: the first one holds the name.
            claims[claim.identifier, claim.entry_uuid] = _listed(claim)
        else:
            claims[place] = claim
    for version in versions:
        claims[version.text, ""] = Claim(version.text, version.kind.value, version.text)
    if all(claim.listed for claim in claims.values()):
        name = f"{_RECORD}{record}"  # a record without any name could not be withdrawn
        claims[name, ""] = Claim(name, "", "")
    return tuple(claims[place] for place in sorted(claims))


def _claims(objects: Iterable[Rendered]) -> Iterator[Claim]:
    for item, _ in objects:
        kind, entry_uuid = item.kind.value, item.entry_uuid
        yield Claim(entry_uuid, kind, entry_uuid)
        if item.logical_id is not None and item.logical_id != entry_uuid:
            yield Claim(logical_name(item.logical_id), kind, entry_uuid, listed=True)
        if isinstance(item, SubmissionSet | Folder) and item.unique_id:
            # The versions of a Folder have one uniqueId: the first one takes it.
            yield Claim(item.unique_id, kind, entry_uuid, listed=item.logical_id not in (None, entry_uuid))
        elif isinstance(item, DocumentEntry) and item.unique_id:
            folded = item.hash.lower() if item.hash else None
            # Without a hash a document contradicts no other, so it keeps none away. An update may correct the hash.
            listed = folded is None or item.logical_id not in (None, entry_uuid)
            yield Claim(document_name(item.unique_id), kind, entry_uuid, listed, folded, item.size)


def lasting_claims(removals: Iterable[Removal]) -> tuple[Claim, ...]:
    """The names that nobody may have after what was removed, sorted."""
    claims: list[Claim] = []
    for removal in removals:
        claims.append(Claim(removal.entry_uuid, removal.kind, removal.entry_uuid))
        if removal.unique_id and removal.kind == ObjectKind.DOCUMENT_ENTRY:
            name = document_name(removal.unique_id)
            claims.append(Claim(name, removal.kind, removal.entry_uuid, False, removal.hash, removal.size))
        elif removal.unique_id:
            claims.append(Claim(removal.unique_id, removal.kind, removal.entry_uuid))
    return tuple(sorted(claims, key=lambda claim: claim.identifier))


def _listed(claim: Claim) -> Claim:
    return Claim(claim.identifier, claim.kind, claim.entry_uuid, listed=True, hash=claim.hash, size=claim.size)


def document_name(unique_id: str) -> str:
    """A document's uniqueId among `identifiers`, which may be that of a SubmissionSet, too."""
    return _DOCUMENT + unique_id


def logical_name(logical_id: str) -> str:
    """A logicalID among `identifiers`, where it is not the object's own entryUUID."""
    return _LOGICAL + logical_id


# --- objects ---------------------------------------------------------------------------------------------------------


def version_id(entry_uuid: str, sequence: int) -> str:
    """The _id of the version that change `sequence` made of an object."""
    return f"{entry_uuid} {sequence}"


def numbered(sequence: int, place: int) -> int:
    """The number of the object that is at `place` (0, 1, 2 ...) among those that change `sequence` brings."""
    return sequence << _NUMBER_BITS | place


def object_document(
    item: AnyObject,
    ebrim: bytes,
    record: Record,
    number: int,
    registration: Registration,
    resource: bytes | None = None,
) -> Document:
    """The version of an object that a record makes. resource: its FHIR resource, compressed like ebrim."""
    document: Document = {
        "_id": version_id(item.entry_uuid, record.log.sequence),
        "patient_key": record.patient_key,
        "kind": item.kind.value,
        "number": Int64(number),
        "sequence": Int64(record.log.sequence),
        "patient_id": record.log.patient_id,
    }
    for column in SEARCH_COLUMNS[item.kind]:
        document.update(_stored(column.name, column.shape, column.value(item)))
    for name, value in registration_columns(item.kind, registration).items():
        document.update({} if value is None else {name: value})
    if item.home_community_id is not None:
        document["home_community_id"] = item.home_community_id
    if resource is not None:
        document["resource"] = resource
    document["ebrim"] = ebrim
    return document


def superseded_document(document: Document) -> Document:
    """What is left of a version when the next one is there: SUPERSEDING makes the same of it."""
    return {
        **{name: document[name] for name in ("_id", "patient_key", "number", "sequence", "entry_uuid")},
        "kind": SUPERSEDED,
    }


def unfinished_document(record: Record) -> Document:
    """What is in the index while a record is being written to it."""
    return {
        "_id": f"{UNFINISHED} {record.id}",
        "patient_key": record.patient_key,
        "kind": UNFINISHED,
        "number": Int64(record.position),
        "record": record.id,
    }


def identity_documents(record: Record, identity: IdentityChange | None) -> list[Document]:
    """What a record says of its patient; of a merge first what the other dossier is told."""
    if identity is None:
        return []
    said: Document = {
        "_id": f"{IDENTITY} {record.patient_key} {record.log.sequence}",
        "patient_key": record.patient_key,
        "kind": IDENTITY,
        "number": Int64(numbered(record.log.sequence, 0)),
        "sequence": Int64(record.log.sequence),
        "patient_id": record.log.patient_id,
    }
    if identity.merged_into is None:
        return [said]
    told: Document = {
        "_id": f"{MERGED} {record.patient_key} {record.log.sequence}",
        "patient_key": patient_key(identity.merged_into),
        "kind": MERGED,
        "number": Int64(0),
        "merged_from": record.log.patient_id,
    }
    return [told, {**said, "merged_into": identity.merged_into}]


def said_of(patient_ids: Iterable[str]) -> Mapping[str, Any]:
    """What the documents meet that say what feeds said of patients."""
    return {
        "patient_key": {"$in": sorted(patient_key(each) for each in patient_ids)},
        "kind": {"$in": [IDENTITY, MERGED]},
    }


def identities_in(documents: Iterable[Document], patient_ids: Iterable[str]) -> dict[str, PatientIdentity]:
    """By patient id: what feeds said of it. documents: see said_of; others are passed over."""
    said: dict[str, list[Document]] = {}
    for document in sorted(documents, key=lambda document: int(document["number"])):
        if document["kind"] in (IDENTITY, MERGED):
            said.setdefault(document["patient_key"], []).append(document)
    patients = {patient_id: said.get(patient_key(patient_id), ()) for patient_id in patient_ids}
    return {
        patient_id: PatientIdentity(
            next((each["merged_into"] for each in documents if "merged_into" in each), None),
            tuple(sorted({each["merged_from"] for each in documents if each["kind"] == MERGED})),
        )
        for patient_id, documents in patients.items()
        if any(each["kind"] == IDENTITY for each in documents)
    }


def index_row(document: Document, compression: RenderingCompression) -> IndexRow:
    """What a document of `objects` says."""
    kind = ObjectKind(document["kind"])
    columns = {column.name: _column(document, column.name, column.shape) for column in SEARCH_COLUMNS[kind]}
    ebrim = document.get("ebrim")
    ebrim = compression.restored_or_as_is(ebrim) if isinstance(ebrim, bytes) else b""
    return IndexRow(kind, document["entry_uuid"], document["patient_id"], columns, ebrim)


def rendering_of(document: Document, compression: RenderingCompression) -> bytes:
    """The rendering of an object.

    Raises StoreDamaged.
    """
    ebrim = document.get("ebrim")
    if not isinstance(ebrim, bytes):
        raise StoreDamaged(f"{document['entry_uuid']} has no rendering in the index")
    return compression.restore(ebrim)


def _stored(name: str, shape: Shape, value: Column) -> Mapping[str, Any]:
    if value is None:
        return {}
    match shape:
        case Shape.TIME:
            return {f"{name}_first": value[0], f"{name}_last": value[1]}
        case Shape.SEVERAL | Shape.TEXTS:
            return {name: list(value)} if value else {}
        case Shape.ONE | Shape.MOMENT:
            return {name: str(value)}


def _column(document: Document, name: str, shape: Shape) -> Column:
    match shape:
        case Shape.TIME:
            first = document.get(f"{name}_first")
            return None if first is None else (first, document[f"{name}_last"])
        case Shape.SEVERAL | Shape.TEXTS:
            return tuple(document.get(name, ()))
        case Shape.ONE | Shape.MOMENT:
            value: str | None = document.get(name)
            return value


def _names_of_columns() -> Iterator[str]:
    for shapes in COLUMN_SHAPES.values():
        for name, shape in shapes.items():
            if name != "entry_uuid":
                yield from ((f"{name}_first", f"{name}_last") if shape is Shape.TIME else (name,))


SUPERSEDING: Mapping[str, Any] = {
    "$set": {"kind": SUPERSEDED},
    "$unset": dict.fromkeys(sorted({*_names_of_columns(), "patient_id", "home_community_id", "resource", "ebrim"}), ""),
}
"""The update that takes all but its name from a version. It may be done again, and by two at once."""
