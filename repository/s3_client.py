"""One bucket of an S3 server: the requests that the document store makes, tried again while there is time for it.

The `minio` client speaks the protocol; this makes of it what the store needs: every request has a deadline, any of them
may be repeated (fresh names, conditional creates and deletes are idempotent), no exception of the client's leaves, and
a clock that differs from the server's does no harm. All of it blocks; repository/s3_threads.py puts it into threads.
"""

from __future__ import annotations

import itertools
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.credentials.credentials import Credentials
from minio.datatypes import Part
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from minio.helpers import check_bucket_name
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, LifecycleConfig, Rule
from minio.time import from_http_header, to_amz_date, utcnow
from minio.versioningconfig import VersioningConfig
from urllib3.response import BaseHTTPResponse

from repository.document_store import StoreBusy, StoreFull

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

SMALLEST_PART: Final = 5 * 1024 * 1024
"""Octets that every part of a multipart upload has at least, but for the last one (the S3 API's limit)."""
MOST_PARTS: Final = 10_000
"""Parts of one multipart upload (the S3 API's limit)."""
_READ_AT_ONCE: Final = 256 * 1024
_FULL: Final = frozenset(
    {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage", "NoSpaceLeft"}
)
_ANSWERED_LATER: Final = frozenset(
    {
        "SlowDown",
        "ServiceUnavailable",
        "InternalError",
        "RequestTimeout",
        "OperationAborted",
        "ConditionalRequestConflict",
    }
)
_LONGEST_PAUSE: Final = 2.0
_BREAKS_AT_ONE_PLACE: Final = 4


class Absent(Exception):
    """There is no object of this name."""


class Present(Exception):
    """There is an object of this name, and it stays as it is."""


class Unreadable(Exception):
    """The server begins to send an object and breaks off, each time at the same place: it can not read its disk."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing. modified: seconds since 1970 by the server's clock."""

    name: str
    modified: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where the documents go, and how to get there.

    endpoint     URL of the server: http(s)://host:port
    region       of the bucket; None: the server is asked
    encryption   "none"; "sse-s3": with the server's own key; "sse-kms:KEY": with this key of its key management
    authorities  PEM file with the authorities whose servers are trusted; None: those of the system
    """

    endpoint: str
    name: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str | None = None
    encryption: str = "none"
    authorities: Path | None = None


class _Deadline(threading.local):
    """When the work of a thread must be over (time.monotonic)."""

    at: float = 0.0

    @property
    def left(self) -> float:
        return max(0.0, self.at - time.monotonic())


class _Connections(urllib3.PoolManager):
    """Connections on which a request waits as long as its deadline allows, and is sent once."""

    def __init__(self, deadline: _Deadline, **settings: Any) -> None:
        super().__init__(**settings)
        self._deadline = deadline

    def urlopen(  # type: ignore[override]  # as in PoolManager itself
        self, method: str, url: str, redirect: bool = True, **kw: Any
    ) -> BaseHTTPResponse:
        # urllib3 sends under the connect timeout and receives under the read timeout.
        left = max(0.001, self._deadline.left)
        timeout = urllib3.Timeout(connect=left, read=left)
        return super().urlopen(method, url, redirect, timeout=timeout, retries=False, **kw)


@contextmanager
def _in_the_ports_words() -> Iterator[None]:
    """What the server refuses for good is for its operator to put right; to a sender the store is busy meanwhile."""
    try:
        yield
    except S3Error as problem:
        raise StoreBusy(f"the S3 server refuses a request: {problem.code}, {problem.message}") from problem
    except (MinioException, ParseError, ValueError) as problem:
        raise StoreBusy(f"the S3 server's answer can not be read: {problem}") from problem


class S3Client(Minio):
    """Requests to one bucket. Used by many threads at a time.

    Each method raises StoreBusy where the server has not answered in time or refuses, StoreFull where it has no room.
    """

    def __init__(self, bucket: Bucket, *, connections: int) -> None:
        url = urlsplit(bucket.endpoint)
        if url.scheme not in {"http", "https"} or not url.netloc:
            raise ValueError(f"{bucket.endpoint!r} is no URL of an S3 server such as https://s3.example:9000")
        check_bucket_name(bucket.name)
        secure = url.scheme == "https"
        self._deadline = _Deadline()
        super().__init__(
            url.netloc,
            access_key=bucket.access_key,
            secret_key=bucket.secret_key,
            secure=secure,
            region=bucket.region,
            http_client=_Connections(
                self._deadline,
                maxsize=connections,
                **({"ssl_context": ssl.create_default_context(cafile=bucket.authorities)} if secure else {}),
            ),
        )
        self._bucket = bucket.name
        self._encryption = _encryption_headers(bucket.encryption)
        self._clock_differs_by = timedelta(0)
        self.versioned = False
        """Whether deleting an object would leave a version of it behind."""

    def before(
        self, deadline: float, work: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Do blocking work in this thread whose requests are over by then (time.monotonic)."""
        self._deadline.at = deadline
        return work(*args, **kwargs)

    def disconnect(self) -> None:
        """Let go of the connections."""
        self._http.clear()

    # The bucket

    @_in_the_ports_words()
    def store_clock(self) -> float:
        """Seconds since 1970 by the server's clock.

        Raises Absent where there is no such bucket.
        """
        with _absence_told("NoSuchBucket"):
            response = self._execute("HEAD", self._bucket)
        self._compare_clocks(response)
        return self.now()

    def now(self) -> float:
        """The same without asking, from what the clocks differed by when they were compared last."""
        return (utcnow() + self._clock_differs_by).timestamp()

    @_in_the_ports_words()
    def make(self) -> None:
        """Make the bucket; somebody else may have made it meanwhile."""
        try:
            self.make_bucket(self._bucket)
        except S3Error as problem:
            if problem.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    @_in_the_ports_words()
    def see_versioning(self, *, switch_on: bool) -> None:
        """Learn whether the bucket keeps versions, and have it keep them where that is wanted."""
        try:
            enabled = self.get_bucket_versioning(self._bucket).status == ENABLED
        except S3Error:
            if switch_on:
                raise
            enabled = False  # a server without versions, or one that does not tell
        if switch_on and not enabled:
            self.set_bucket_versioning(self._bucket, VersioningConfig(ENABLED))
        self.versioned = enabled or switch_on

    def abort_old_uploads_after(self, days: int, prefix: str, rule_id: str) -> str | None:
        """Have the server itself end what is left of broken uploads. Other rules of the bucket stay.

        Returns what the server says where it can not, or None.
        """
        try:
            present = self.get_bucket_lifecycle(self._bucket)
            rules = list(present.rules) if present is not None else []
            if all(rule.rule_id != rule_id for rule in rules):
                aborting = AbortIncompleteMultipartUpload(days)
                rule = Rule(
                    ENABLED,
                    rule_filter=Filter(prefix=prefix),
                    rule_id=rule_id,
                    abort_incomplete_multipart_upload=aborting,
                )
                self.set_bucket_lifecycle(self._bucket, LifecycleConfig([*rules, rule]))
        except (MinioException, ParseError, ValueError) as problem:
            return str(problem)
        return None

    def ends_old_uploads(self, prefix: str) -> bool:
        """Whether a rule of the bucket ends broken uploads to such names. False where the server does not tell."""
        try:
            present = self.get_bucket_lifecycle(self._bucket)
        except (MinioException, ParseError, ValueError):
            return False
        return any(
            rule.status == ENABLED
            and rule.abort_incomplete_multipart_upload is not None
            and prefix.startswith((rule.rule_filter and rule.rule_filter.prefix) or "")
            for rule in (present.rules if present is not None else ())
        )

    # Objects

    @_in_the_ports_words()
    def put(self, name: str, content: bytes | bytearray, content_type: str = "application/octet-stream") -> None:
        """Write an object of a name that nobody else writes."""
        self._put_object(self._bucket, name, content, self._encrypted(content_type))  # type: ignore[arg-type]

    @_in_the_ports_words()
    def create(self, name: str, content: bytes, content_type: str) -> None:
        """Write an object where there is none of this name: of all who try at once, one does.

        Raises Present where there is one, which may be from an earlier try of this very call.
        """
        headers = {**self._encrypted(content_type), "If-None-Match": "*"}
        try:
            self._put_object(self._bucket, name, content, headers)
        except S3Error as problem:
            if problem.code == "PreconditionFailed":
                raise Present(name) from problem
            raise

    @_in_the_ports_words()
    def get(self, name: str) -> bytes:
        """All of a small object.

        Raises Absent.
        """
        with _absence_told():
            return self._execute("GET", self._bucket, name).data

    @_in_the_ports_words()
    def get_range(self, name: str, start: int, octets: int) -> tuple[bytearray, int]:
        """Octets of an object from `start` on, at most so many (not 0), and how many it has in all.

        Raises Absent, Unreadable.
        """
        breaks: Counter[int] = Counter()
        with _absence_told():
            try:
                return self._tried(partial(self._received, name, f"bytes={start}-{start + octets - 1}", breaks))
            except S3Error as problem:
                if problem.code == "InvalidRange":
                    return bytearray(), self.size(name)
                raise

    def _received(self, name: str, wanted: str, breaks: Counter[int]) -> tuple[bytearray, int]:
        """One try. breaks: how often it was broken off after so many octets."""
        response = self._execute("GET", self._bucket, name, headers={"Range": wanted}, preload_content=False)
        content = bytearray()
        try:
            while block := response.read1(_READ_AT_ONCE):
                content += block
                if not self._deadline.left:
                    raise TimeoutError(f"{len(content)} octets came in time")  # noqa: TRY301  (tried again or told)
            response.release_conn()
        except urllib3.exceptions.ProtocolError as problem:
            response.close()
            breaks[len(content)] += 1
            if breaks[len(content)] == _BREAKS_AT_ONE_PLACE:
                raise Unreadable(f"the S3 server breaks off {name} after {len(content)} of {wanted}") from problem
            raise
        except BaseException:
            response.close()
            raise
        whole = response.headers.get("content-range", "").rpartition("/")[2]
        return content, int(whole or len(content))

    @_in_the_ports_words()
    def size(self, name: str) -> int:
        """How many octets an object has.

        Raises Absent.
        """
        with _absence_told():
            return self.stat_object(self._bucket, name).size or 0

    @_in_the_ports_words()
    def delete(self, name: str) -> None:
        """Have no object of this name, also where there was none. In a bucket with versions, none of it stays."""
        version = None
        if self.versioned:
            try:
                with _absence_told():
                    version = self.stat_object(self._bucket, name).version_id
            except Absent:
                return
        try:
            with _absence_told():
                self.remove_object(self._bucket, name, version_id=version)
        except Absent:
            return

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Objects whose names begin so, in the order of their names. Requests are made as it is gone through."""
        with _in_the_ports_words():
            for each in self.list_objects(self._bucket, prefix=prefix, recursive=True):
                if each.object_name is not None and each.last_modified is not None:
                    yield Listed(each.object_name, each.last_modified.timestamp())

    # Multipart uploads

    @_in_the_ports_words()
    def begin_upload(self, name: str, content_type: str = "application/octet-stream") -> str:
        """The id of a new upload, which is no object until it is completed."""
        return self._create_multipart_upload(self._bucket, name, self._encrypted(content_type))

    @_in_the_ports_words()
    def upload_part(self, name: str, upload_id: str, number: int, content: bytes | bytearray) -> str:
        """Send one part, counted from 1; returns its ETag."""
        return self._upload_part(self._bucket, name, content, None, upload_id, number)  # type: ignore[arg-type]

    @_in_the_ports_words()
    def complete_upload(self, name: str, upload_id: str, etags: Sequence[str], size: int) -> None:
        """Make an object of `size` octets of the parts."""
        parts = [Part(number, etag) for number, etag in enumerate(etags, start=1)]
        try:
            self._tried(lambda: self._completed(name, upload_id, parts))
        except S3Error as problem:
            if problem.code != "NoSuchUpload":
                raise
            # An earlier try may have done it, and its answer was lost.
            try:
                if self.size(name) == size:
                    return
            except Absent:
                pass
            raise

    def _completed(self, name: str, upload_id: str, parts: list[Part]) -> None:
        result = self._complete_multipart_upload(self._bucket, name, upload_id, parts)
        if result.etag is None:
            # The status is sent before the work is done, so that a late failure comes as 200 with an error in it.
            raise ConnectionError("the S3 server has failed to put the parts together")

    @_in_the_ports_words()
    def abort_upload(self, name: str, upload_id: str) -> None:
        """Forget an upload and its parts; one that is gone already is no error."""
        try:
            self._abort_multipart_upload(self._bucket, name, upload_id)
        except S3Error as problem:
            if problem.code != "NoSuchUpload":
                raise

    @_in_the_ports_words()
    def uploads_of(self, name: str) -> Sequence[str]:
        """Ids of the uploads under way to exactly this name.

        Some servers list uploads only of a whole name, so that no more is asked for.
        """
        found = self._list_multipart_uploads(self._bucket, prefix=name).uploads
        return [each.upload_id for each in found if each.object_name == name and each.upload_id]

    @_in_the_ports_words()
    def newest_part(self, name: str, upload_id: str) -> float | None:
        """When the newest part of an upload arrived, in seconds since 1970 by the server's clock. None: it has none.

        Raises Absent where there is no such upload any more.
        """
        newest: float | None = None
        after: str | None = None
        while True:
            with _absence_told("NoSuchUpload"):
                page = self._list_parts(self._bucket, name, upload_id, part_number_marker=after)
            arrived = [part.last_modified.timestamp() for part in page.parts if part.last_modified is not None]
            newest = max([*arrived, newest] if newest is not None else arrived, default=None)
            if not page.is_truncated or page.next_part_number_marker in {None, after}:
                return newest
            after = page.next_part_number_marker

    # What the client's requests go through

    def _encrypted(self, content_type: str) -> dict[str, str | list[str] | tuple[str]]:
        return {"Content-Type": content_type, **self._encryption}

    def _url_open(self, method: str, region: str, **request: Any) -> BaseHTTPResponse:  # type: ignore[override]
        send = super()._url_open
        # Signing adds to the headers that it is given, so that each try gets its own.
        headers = request.pop("headers", None) or {}
        return self._tried(lambda: send(method, region, headers=dict(headers), **request))

    def _build_headers(
        self,
        host: str,
        headers: dict[str, str | list[str] | tuple[str]] | None = None,
        body: bytes | None = None,
        creds: Credentials | None = None,
    ) -> tuple[dict[str, str | list[str] | tuple[str]], datetime]:
        """Signs with the time of the server's clock: it refuses what was signed a quarter of an hour away from it."""
        headers, date = super()._build_headers(host, headers, body, creds)
        date += self._clock_differs_by
        headers["x-amz-date"] = to_amz_date(date)
        return headers, date

    def _tried(self, request: Callable[[], Result]) -> Result:
        """Make a request until it is answered, or until there is no time for it."""
        problem: Exception
        for number in itertools.count():
            try:
                return request()
            except S3Error as refusal:
                problem = refusal
                if _is_full(refusal):
                    raise StoreFull(f"the S3 server has no room left: {refusal.code}") from refusal
                if refusal.response.status == HTTPStatus.FORBIDDEN and self._compare_clocks(refusal.response):
                    continue
                if not _is_answered_later(refusal):
                    raise
            except (MinioException, urllib3.exceptions.HTTPError, ParseError, OSError) as failure:
                problem = failure
                if _status_of(failure) == HTTPStatus.INSUFFICIENT_STORAGE:
                    raise StoreFull("the S3 server has no room left") from failure
            pause = random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE, 0.05 * 2**number)  # noqa: S311
            if self._deadline.left <= pause:
                break
            time.sleep(pause)
        raise StoreBusy(f"the S3 server did not answer in time: {_told(problem)}") from problem

    def _compare_clocks(self, response: BaseHTTPResponse) -> bool:
        """See what the server's clock says. Whether it matters: it is not as it was the last time."""
        date = response.headers.get("date")
        if date is None:
            return False
        before, differs_by = self._clock_differs_by, from_http_header(date) - utcnow()
        # The header has whole seconds.
        self._clock_differs_by = timedelta(0) if abs(differs_by) < timedelta(seconds=2) else differs_by
        return abs(differs_by - before) > timedelta(minutes=1)


@contextmanager
def _absence_told(code: str = "NoSuchKey") -> Iterator[None]:
    """A missing bucket is no missing object: nobody is to believe that documents are gone."""
    try:
        yield
    except S3Error as problem:
        if problem.code == code:
            raise Absent(str(problem.resource)) from problem
        raise


def _encryption_headers(encryption: str) -> Mapping[str, str]:
    kind, _, key = encryption.partition(":")
    match kind:
        case "none":
            return {}
        case "sse-s3":
            return {"X-Amz-Server-Side-Encryption": "AES256"}
        case "sse-kms" if key:
            return {
                "X-Amz-Server-Side-Encryption": "aws:kms",
                "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": key,
            }
    raise ValueError(f"{encryption!r} is neither none nor sse-s3 nor sse-kms:KEY")


def _is_full(refusal: S3Error) -> bool:
    return refusal.code in _FULL or refusal.response.status == HTTPStatus.INSUFFICIENT_STORAGE


def _is_answered_later(refusal: S3Error) -> bool:
    status = refusal.response.status
    return (
        refusal.code in _ANSWERED_LATER
        or status == HTTPStatus.TOO_MANY_REQUESTS
        or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED)
    )


def _status_of(failure: Exception) -> int | None:
    """The status of an answer without a body that S3 would have sent, if it is one."""
    if isinstance(failure, ServerError):
        return failure.status_code
    return failure._code if isinstance(failure, InvalidResponseError) else None  # noqa: SLF001  (told nowhere else)


def _told(problem: Exception) -> str:
    return f"{problem.code}, {problem.message}" if isinstance(problem, S3Error) else f"{problem}"
