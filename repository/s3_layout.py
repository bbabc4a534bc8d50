"""What is where in the bucket, and how a document's description is written.

    <prefix>toimik.json                                       tells what this is; made first
    <prefix>content/<aaaa>/<key>                              a document's bytes, and nothing else
    <prefix>unsettled/<SHA-256 of uniqueId>.<key>             description of a published document
    <prefix>documents/<aaaa>/<SHA-256 of uniqueId>            description of the settled document
    <prefix>incoming/<key>                                    empty: a multipart upload of these bytes is under way

docs/adr/0006-documents-in-s3.md tells why.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import Final

from repository.document_store import DocumentDamaged, Kept, Measured

DESCRIPTION_TYPE: Final = "application/json"
MARK: Final = json.dumps(
    {"toimik": "documents of an XDS Document Repository", "layout": 1, "told_in": "docs/adr/0006-documents-in-s3.md"}
).encode()


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of objects. prefix: what all of them begin with."""

    prefix: str

    @classmethod
    def under(cls, prefix: str) -> Layout:
        """The layout under a prefix as the settings give it: with or without a slash at its end, or empty."""
        return cls(f"{prefix.removesuffix('/')}/" if prefix else "")

    @property
    def mark(self) -> str:
        return f"{self.prefix}toimik.json"

    @property
    def all_content(self) -> str:
        return f"{self.prefix}content/"

    @property
    def all_unsettled(self) -> str:
        return f"{self.prefix}unsettled/"

    @property
    def all_settled(self) -> str:
        return f"{self.prefix}documents/"

    @property
    def all_incoming(self) -> str:
        return f"{self.prefix}incoming/"

    def content(self, key: str) -> str:
        return f"{self.all_content}{key[:4]}/{key}"

    def incoming(self, key: str) -> str:
        return f"{self.all_incoming}{key}"

    def content_of_incoming(self, name: str) -> str:
        return self.content(name.removeprefix(self.all_incoming))

    def settled(self, unique_id: str) -> str:
        name = _name_of(unique_id)
        return f"{self.all_settled}{name[:4]}/{name}"

    def unsettled(self, kept: Kept) -> str:
        return f"{self.unsettled_of(kept.unique_id)}{kept.key}"

    def unsettled_of(self, unique_id: str) -> str:
        """What the names of all unsettled documents of this uniqueId begin with."""
        return f"{self.all_unsettled}{_name_of(unique_id)}."


def described(kept: Kept) -> bytes:
    """The description of a document, as it is written."""
    values = {
        "unique_id": kept.unique_id,
        "mime_type": kept.mime_type,
        "size": kept.measured.size,
        "sha1": kept.measured.hash,
        "sha256": kept.measured.sha256,
        "published_at": kept.published_at,
        "key": kept.key,
    }
    return json.dumps({**values, "crc32": _checksum(values)}).encode()


def description_of(written: bytes, *, settled: bool) -> Kept:
    """What a description tells.

    Raises DocumentDamaged where it was altered.
    """
    try:
        values = json.loads(written)
        checksum = values.pop("crc32")
        if checksum != _checksum(values):
            raise DocumentDamaged("the description of a document was altered")
        return Kept(
            key=values["key"],
            unique_id=values["unique_id"],
            mime_type=values["mime_type"],
            measured=Measured(size=values["size"], hash=values["sha1"], sha256=values["sha256"]),
            settled=settled,
            published_at=values["published_at"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DocumentDamaged("an object is no description of a document") from problem


def _checksum(values: dict[str, object]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _name_of(unique_id: str) -> str:
    """A uniqueId as part of a name: of one length, and of letters that need no escaping."""
    return hashlib.sha256(unique_id.encode("utf-8", "surrogatepass")).hexdigest()
