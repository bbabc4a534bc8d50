"""What is done with documents in a bucket, one step after the other, and what a crash between two requests leaves.

Blocking. The order of requests is the promise (docs/adr/0006-documents-in-s3.md):
* The description of an unsettled document is written before its bytes are, and deleted after them. So whatever bytes
  are in the bucket, a description leads to them; one without bytes is of a document that never was, or is no more.
* Bytes have a name of their own, which is random, and are complete or not there: no object is ever written again.
* A document is settled by creating the one object that its uniqueId gives the name to, which of several who try at once
  one succeeds in. That object is never altered or deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from repository.document_store import DocumentDamaged, Kept, OtherBytesSettled, StoreBusy
from repository.s3_client import Absent, Listed, Present, S3Client, Unreadable
from repository.s3_layout import DESCRIPTION_TYPE, MARK, Layout, described, description_of

logger = logging.getLogger(__name__)

_DAYS_OF_AN_UPLOAD: Final = 7
_RULE: Final = "toimik-broken-uploads"


class S3Objects:
    """The documents of one repository."""

    def __init__(self, client: S3Client, layout: Layout) -> None:
        self._client = client
        self._layout = layout

    def prepare(self, *, versioning: bool) -> None:
        """Find the bucket, or make it, and see that it can keep documents.

        Raises StoreBusy with a sentence for the operator where it can not.
        """
        try:
            self._client.store_clock()
        except Absent:
            self._client.make()
            logger.warning("the bucket for documents was not there and was made")
            self._client.store_clock()
        self._client.see_versioning(switch_on=versioning)
        self._require_conditional_writes()
        prefix = self._layout.all_content
        problem = self._client.abort_old_uploads_after(_DAYS_OF_AN_UPLOAD, prefix, f"{_RULE}:{prefix}")
        if problem is not None:
            logger.info(
                "the S3 server takes no lifecycle rule for broken uploads; the sweeper ends those that it finds",
                extra={"problem": problem},
            )

    def _require_conditional_writes(self) -> None:
        """The mark is there, or is created now; a server that creates it a second time can not settle safely."""
        for _ in range(2):
            try:
                self._client.create(self._layout.mark, MARK, DESCRIPTION_TYPE)
            except Present:
                return
        raise StoreBusy(
            "the S3 server writes an object anew that was to be created only where there was none (If-None-Match: *). "
            "Two documents could overwrite each other on it; use a server that knows conditional writes."
        )

    def probe(self, key: str) -> None:
        """Write something and delete it."""
        self._client.put(self._layout.incoming(key), b"")
        self._client.delete(self._layout.incoming(key))

    # On the way in

    def begin_upload(self, key: str) -> str:
        """The id of a new upload to the content of this key. From its mark, the sweeper knows where to look for it."""
        self._client.put(self._layout.incoming(key), b"")
        return self._client.begin_upload(self._layout.content(key))

    def upload_part(self, key: str, upload_id: str, number: int, part: bytearray) -> str:
        return self._client.upload_part(self._layout.content(key), upload_id, number, part)

    def abort_upload(self, key: str, upload_id: str | None) -> None:
        """Undo what begin_upload has done, if only in part."""
        content = self._layout.content(key)
        for each in self._client.uploads_of(content) if upload_id is None else [upload_id]:
            self._client.abort_upload(content, each)
        self._client.delete(self._layout.incoming(key))

    def publish_small(self, kept: Kept, content: bytearray) -> None:
        self._describe_unsettled(kept)
        self._client.put(self._layout.content(kept.key), content)

    def publish_uploaded(self, kept: Kept, upload_id: str, etags: Sequence[str]) -> None:
        self._describe_unsettled(kept)
        self._client.complete_upload(self._layout.content(kept.key), upload_id, etags, kept.measured.size)
        try:
            self._client.delete(self._layout.incoming(kept.key))
        except StoreBusy as problem:
            # It is published all the same; the sweeper finds no upload by this mark, and removes it.
            logger.warning("the mark of an upload is left to the sweeper", extra={"problem": str(problem)})

    def _describe_unsettled(self, kept: Kept) -> None:
        self._client.put(self._layout.unsettled(kept), described(kept), DESCRIPTION_TYPE)

    # Settling and withdrawing

    def settle(self, kept: Kept) -> Kept:
        """See DocumentStore.settle."""
        stays: Kept | None = None
        if self.has_content(kept):
            try:
                self._client.create(self._layout.settled(kept.unique_id), described(kept), DESCRIPTION_TYPE)
                stays = replace(kept, settled=True)
            except Present:
                pass
        if stays is None:
            stays = self.find(kept.unique_id)
        if stays is None:
            raise KeyError(kept.key)
        if stays.measured != kept.measured:
            raise OtherBytesSettled(f"other bytes are settled than those of {kept.key}")
        if stays.key != kept.key:
            self._client.delete(self._layout.content(kept.key))
        self._client.delete(self._layout.unsettled(kept))
        return stays

    def withdraw(self, kept: Kept) -> None:
        """See DocumentStore.withdraw."""
        stays = self.find(kept.unique_id)
        if stays is None or stays.key != kept.key:
            self._client.delete(self._layout.content(kept.key))
        self._client.delete(self._layout.unsettled(kept))

    def remove(self, kept: Kept) -> None:
        """See DocumentStore.remove. The bytes go first: a description without bytes is nobody's document."""
        self._client.delete(self._layout.content(kept.key))
        self._client.delete(self._layout.settled(kept.unique_id) if kept.settled else self._layout.unsettled(kept))

    # Finding

    def find(self, unique_id: str) -> Kept | None:
        try:
            kept = description_of(self._client.get(self._layout.settled(unique_id)), settled=True)
        except Absent:
            return None
        if kept.unique_id != unique_id:
            raise DocumentDamaged("the object describes the document of another uniqueId")
        return kept

    def unsettled(self, unique_id: str) -> tuple[Kept, ...]:
        names = [each.name for each in self._client.listed(self._layout.unsettled_of(unique_id))]
        described_ones = [self.described_by(name, settled=False) for name in names]
        return tuple(kept for kept in described_ones if kept is not None and self._is_whole(kept))

    def described_by(self, name: str, *, settled: bool) -> Kept | None:
        """What the object of this name tells; None where it is gone or tells nothing."""
        try:
            return description_of(self._client.get(name), settled=settled)
        except Absent:
            return None
        except DocumentDamaged as problem:
            logger.error("the description of a document is damaged", extra={"object": name, "problem": str(problem)})
            return None

    def has_content(self, kept: Kept) -> bool:
        """Whether the bytes are there, as far as can be told without reading them."""
        try:
            size = self._client.size(self._layout.content(kept.key))
        except Absent:
            return False
        if size != kept.measured.size:
            raise DocumentDamaged(f"{kept.key} has {size} octets instead of {kept.measured.size}")
        return True

    def _is_whole(self, kept: Kept) -> bool:
        try:
            return self.has_content(kept)
        except DocumentDamaged as problem:
            # Nobody was promised this one. It stays for the operator to look at.
            logger.error("an unsettled document is damaged", extra={"key": kept.key, "problem": str(problem)})
            return False

    def content(self, kept: Kept, start: int, octets: int) -> tuple[bytearray, int]:
        """Octets of a document's bytes from `start` on, at most so many, and how many the object has in all.

        Raises Absent, DocumentDamaged.
        """
        name = self._layout.content(kept.key)
        if not kept.measured.size:
            return bytearray(), self._client.size(name)
        try:
            return self._client.get_range(name, start, octets)
        except Unreadable as problem:
            raise DocumentDamaged(str(problem)) from problem

    def settled_instead_of(self, kept: Kept) -> Kept:
        """The settled document that has the bytes of one which is gone: another process has settled it meanwhile.

        Raises KeyError where there is none, DocumentDamaged where the bytes of a settled document are missing.
        """
        stays = self.find(kept.unique_id)
        if stays is None or stays.measured != kept.measured:
            raise KeyError(kept.key)
        if stays.key == kept.key:
            raise DocumentDamaged(f"the bytes of {kept.key} are missing")
        return stays

    # Sweeping

    def now(self) -> float:
        """Seconds since 1970 by the server's clock, as far as it is known."""
        return self._client.now()

    def store_clock(self) -> float:
        """The same, asked for."""
        return self._client.store_clock()

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Objects whose names begin so. Requests are made as it is gone through."""
        return self._client.listed(prefix)

    def sweep_incoming(self, mark: Listed, idle_since: float) -> bool:
        """End the uploads of an old mark to which nothing was added since. Whether there were any.

        Of a published document there are none any more, and only the mark goes.
        idle_since   seconds since 1970 by the server's clock, and not before the mark was written
        """
        content = self._layout.content_of_incoming(mark.name)
        uploads = self._client.uploads_of(content)
        if any(self._is_active(content, upload_id, idle_since) for upload_id in uploads):
            return False
        for upload_id in uploads:
            self._client.abort_upload(content, upload_id)
        self._client.delete(mark.name)
        return bool(uploads)

    def _is_active(self, content: str, upload_id: str, idle_since: float) -> bool:
        """Whether a part has arrived since: what comes over a slow line is long under way, and not left behind."""
        try:
            newest = self._client.newest_part(content, upload_id)
        except Absent:
            return False
        return newest is not None and newest > idle_since
