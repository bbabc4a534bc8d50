"""A change, made ready to be committed to the metadata store on MongoDB."""

from __future__ import annotations

from dataclasses import dataclass

from bson import ObjectId

from registry.change_body import encoded
from registry.dossier_log import LogRecord
from registry.metadata_store import Facts, RegistryChange, StoreFull
from registry.mongodb.documents import MOST_OBJECTS, Content, Elsewhere, Record, Rendered, claims_of, patient_key
from registry.mongodb.log import Head
from registry.rendering_compression import RenderingCompression
from xds.actors import ObjectCodec

LARGEST_BYTES = 16 * 1024 * 1024 - 64 * 1024
"""A document holds 16 MiB; what else is in it takes much less than the rest."""


@dataclass(frozen=True, slots=True)
class PreparedChange:
    """A change, rendered and compressed. record_id is new for every attempt to commit it."""

    patient_key: str
    record_id: ObjectId
    change: RegistryChange
    body: bytes
    body_hash: bytes
    compressed_body: bytes
    content: Content
    elsewhere: tuple[Elsewhere, ...] = ()

    @classmethod
    def of(
        cls, change: RegistryChange, facts: Facts, codec: ObjectCodec, compression: RenderingCompression
    ) -> PreparedChange:
        """`change`, ready for its first attempt.

        Raises ValueError where it was judged on another dossier, or names two objects alike; StoreFull.
        """
        if change.patient_id != facts.patient_id:
            raise ValueError("the change is of one dossier and the facts are of another")
        if len(change.objects) > MOST_OBJECTS:
            raise StoreFull(f"a change can bring {MOST_OBJECTS} objects, and this one has more")
        renderings = [codec.written(item) for item in change.objects]
        objects = tuple(
            Rendered(item, compression.compress(rendering))
            for item, rendering in zip(change.objects, renderings, strict=True)
        )
        record_id = ObjectId()
        claims_of(objects, record_id, change.versions)
        body, body_hash = encoded(renderings, change.revisions, change.identity, change.removals)
        compressed_body = compression.compress_body(body)
        content = Content(objects, change.revisions, change.identity, change.removals)
        elsewhere = tuple([_elsewhere(each, codec, compression) for each in change.elsewhere])
        body_bytes = len(compressed_body) + sum([len(each.body) for each in elsewhere])
        if max([body_bytes, *(len(ebrim) for _, ebrim in objects)]) > LARGEST_BYTES:
            raise StoreFull("the change is larger than a MongoDB server keeps: 16 MiB, compressed")
        key = patient_key(change.patient_id)
        return cls(key, record_id, change, body, body_hash, compressed_body, content, elsewhere)

    def record(self, head: Head) -> Record:
        """The record that comes after the end of the dossier's log."""
        log = LogRecord.following(
            head.hash,
            patient_id=self.change.patient_id,
            sequence=head.sequence + 1,
            change_id=self.change.change_id,
            time=self.change.time,
            body=self.body,
            body_hash=self.body_hash,
        )
        return Record(
            self.record_id, self.patient_key, head.position + 1, True, False, log, self.elsewhere, self.change.versions
        )


def _elsewhere(change: RegistryChange, codec: ObjectCodec, compression: RenderingCompression) -> Elsewhere:
    """The part of a change that is in another dossier, ready to be appended there."""
    renderings = [codec.written(item) for item in change.objects]
    body, body_hash = encoded(renderings, change.revisions, change.identity, change.removals)
    return Elsewhere(change.patient_id, change.change_id, change.time, compression.compress_body(body), body_hash)
