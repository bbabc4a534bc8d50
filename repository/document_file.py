"""One document as one file: its bytes from offset 0, and after them what is known about them.

    document | description (JSON) | CRC-32 and length of the description | magic

One file is one fsync, and a directory of such files is all that is needed to rebuild a repository. The document can be
read without this program: it is the first `size` octets, and the description is text that `tail` shows.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from typing import Final

from repository.document_store import DocumentDamaged, Kept, Measured

MAGIC: Final = b"TOIMIK1\n"
_ENDING: Final = struct.Struct(f">II{len(MAGIC)}s")
_READ_AT_ONCE: Final = 4096  # octets, more than nearly every description has
_LONGEST_DESCRIPTION: Final = 1 << 20


def described(kept: Kept) -> bytes:
    """What is written after the bytes of a document."""
    description = json.dumps(
        {
            "unique_id": kept.unique_id,
            "mime_type": kept.mime_type,
            "size": kept.measured.size,
            "sha1": kept.measured.hash,
            "sha256": kept.measured.sha256,
            "published_at": kept.published_at,
            "key": kept.key,
        }
    ).encode()
    return description + _ENDING.pack(zlib.crc32(description), len(description), MAGIC)


def description_of(descriptor: int, *, settled: bool) -> Kept:
    """What the open file tells about the document in it.

    Raises DocumentDamaged where it is not a whole file of this form. The document's own bytes are not looked at.
    """
    length = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _READ_AT_ONCE, max(0, length - _READ_AT_ONCE))
    if len(tail) < _ENDING.size:
        raise DocumentDamaged("the file is too short to hold a document")
    checksum, described_in, magic = _ENDING.unpack(tail[-_ENDING.size :])
    size = length - described_in - _ENDING.size
    if magic != MAGIC or described_in > _LONGEST_DESCRIPTION or size < 0:
        raise DocumentDamaged("the file does not end as a document's file ends")
    description = os.pread(descriptor, described_in, size)
    if zlib.crc32(description) != checksum:
        raise DocumentDamaged("the description of the document was altered")
    values = json.loads(description)
    if values["size"] != size:
        raise DocumentDamaged(f"the file holds {size} octets of a document of {values['size']}")
    return Kept(
        key=values["key"],
        unique_id=values["unique_id"],
        mime_type=values["mime_type"],
        measured=Measured(size=size, hash=values["sha1"], sha256=values["sha256"]),
        settled=settled,
        published_at=values["published_at"],
    )
