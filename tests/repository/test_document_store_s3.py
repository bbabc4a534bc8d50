"""What the store in S3 promises beyond its port (repository/document_store_s3.py)."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import minio.time
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minio import Minio
from minio.commonconfig import ENABLED
from minio.datatypes import Object

from repository import s3_client
from repository.document_store import DocumentDamaged, DocumentTooLarge, Kept, Measured, StoreBusy
from repository.document_store_s3 import S3DocumentStore
from repository.s3_client import SMALLEST_PART, Bucket, S3Client
from repository.s3_layout import Layout, described, description_of
from repository.s3_objects import S3Objects
from repository.s3_reading import BLOCK
from tests.builders import document_entry, oid
from tests.repository.stand_ins import (
    RefusingRegistry,
    chunks,
    content_of,
    everything_in,
    message,
    published,
    repository_of,
    settled,
)
from tests.store_servers import StoreServer
from tests.weather import WeatherProxy, http_answer
from xds.actors import DocumentRequest
from xds.errors import ErrorCode, ResponseStatus

LARGE = 2 * SMALLEST_PART + 3
LARGE_OVER_A_SLOW_LINE = 2 * SMALLEST_PART + 1


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload under way. Times are seconds since 1970 by the server's clock.

    content      name of the object that it is to be
    begun        when its mark was written
    newest_part  when the newest of its parts arrived
    """

    content: str
    begun: float
    newest_part: float


class Operator:
    """Looks into the bucket with a plain client, as one would with `mc` or `aws s3`."""

    def __init__(self, bucket: Bucket) -> None:
        self.client = Minio(
            urlsplit(bucket.endpoint).netloc, access_key=bucket.access_key, secret_key=bucket.secret_key, secure=False
        )
        self.bucket = bucket.name

    def names(self, prefix: str, *, versions: bool = False) -> list[str]:
        """Names under a prefix, without it and without the mark that every store leaves."""
        found = self.client.list_objects(self.bucket, prefix=f"{prefix}/", recursive=True, include_version=versions)
        names = [(each.object_name or "").removeprefix(f"{prefix}/") for each in found]
        return sorted(name for name in names if name != "toimik.json")

    def get(self, name: str) -> bytes:
        with self.client.get_object(self.bucket, name) as response:
            return response.read()

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(self.bucket, name, io.BytesIO(content), len(content))

    def stat(self, name: str) -> Object:
        return self.client.stat_object(self.bucket, name)

    def only_upload(self, prefix: str) -> Upload:
        """The one upload under way to a name under this prefix."""
        (mark,) = self.names(prefix)
        content = Layout(f"{prefix}/").content_of_incoming(f"{prefix}/{mark}")
        (found,) = self.client._list_multipart_uploads(self.bucket, prefix=content).uploads
        assert found.upload_id is not None
        parts = self.client._list_parts(self.bucket, content, found.upload_id).parts
        arrived = [part.last_modified.timestamp() for part in parts if part.last_modified is not None]
        begun = self.stat(f"{prefix}/{mark}").last_modified
        assert begun is not None
        return Upload(content, begun.timestamp(), max(arrived))

    def is_uploading(self, name: str) -> bool:
        return bool(self.client._list_multipart_uploads(self.bucket, prefix=name).uploads)


@pytest.fixture
def operator(bucket: Bucket) -> Operator:
    return Operator(bucket)


@pytest.fixture
def prefix() -> str:
    return uuid4().hex


@pytest.fixture
def open_s3(bucket: Bucket, prefix: str) -> Callable[..., S3DocumentStore]:
    """Opens the store of this test, with settings of its own."""

    def opened(**settings: Any) -> S3DocumentStore:
        return S3DocumentStore(
            settings.pop("bucket", bucket), **{"prefix": prefix, "part_bytes": SMALLEST_PART, **settings}
        )

    return opened


@pytest.fixture
async def documents(open_s3: Callable[..., S3DocumentStore]) -> AsyncIterator[S3DocumentStore]:
    store = open_s3()
    yield store
    await store.close()


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[WeatherProxy]:
    url = urlsplit(bucket.endpoint)
    with WeatherProxy(url.hostname or "", url.port or 80) as proxy:
        yield proxy


@pytest.fixture
def through_proxy(bucket: Bucket, proxy: WeatherProxy) -> Bucket:
    return replace(bucket, endpoint=f"http://127.0.0.1:{proxy.port}")


# What is in the bucket


@pytest.mark.parametrize("size", [0, 5, SMALLEST_PART, LARGE])
async def test_the_refused_leave_no_object_at_all(
    documents: S3DocumentStore, operator: Operator, prefix: str, size: int
) -> None:
    repository = repository_of(documents, RefusingRegistry())
    assert not (await repository.provide_and_register(message((document_entry(), b"x" * size)))).succeeded
    assert operator.names(prefix) == []


@pytest.mark.parametrize("size", [0, 5, LARGE])
async def test_an_operator_finds_a_document_with_any_s3_tool(
    documents: S3DocumentStore, operator: Operator, prefix: str, size: int
) -> None:
    await settled(documents, "1.2.3", b"x" * size, "text/plain")

    # printf %s 1.2.3 | sha256sum
    name = "c47f5b18b8a430e698b9fe15e51f6119984e78334bcf3f45e210d30c37ef2f9e"
    description = json.loads(operator.get(f"{prefix}/documents/{name[:4]}/{name}"))
    content = operator.get(f"{prefix}/content/{description['key'][:4]}/{description['key']}")

    assert (description["unique_id"], description["mime_type"]) == ("1.2.3", "text/plain")
    assert content == b"x" * size
    assert len(operator.names(prefix)) == 2


async def test_identical_bytes_are_kept_once(documents: S3DocumentStore, operator: Operator, prefix: str) -> None:
    for _ in range(3):
        await settled(documents, "1.2.3", b"hello")
    assert len(operator.names(prefix)) == 2


@pytest.mark.parametrize("count", [1, 3])
async def test_many_documents_of_one_submission_take_no_more_memory_than_a_part(
    open_s3: Callable[..., S3DocumentStore], operator: Operator, prefix: str, count: int
) -> None:
    documents = open_s3()
    content = b"x" * (SMALLEST_PART // 2 + 1)
    async with documents.staging() as staging:
        for number in range(count):
            await staging.add(str(number), chunks(content, 100_000))
        uploads = [name for name in operator.names(prefix) if name.startswith("incoming/")]
        assert len(uploads) == count - 1, "what does not stay in memory is an upload"
        kept = await staging.publish({str(number): (oid(), "text/plain") for number in range(count)})
    assert [await content_of(documents, each) for each in kept] == [content] * count
    await documents.close()


@given(
    unique_id=st.text(),
    mime_type=st.text(),
    key=st.text(),
    size=st.integers(min_value=0, max_value=2**50),
    published_at=st.floats(min_value=0, max_value=1e11),
)
def test_a_description_tells_all_that_was_known_of_its_document(
    unique_id: str, mime_type: str, key: str, size: int, published_at: float
) -> None:
    kept = Kept(key, unique_id, mime_type, Measured(size, "ab" * 20, "cd" * 32), False, published_at)
    assert description_of(described(kept), settled=False) == kept


def test_every_letter_of_a_description_counts() -> None:
    written = described(Kept("a" * 32, "1.2.3", "text/plain", Measured(7, "ab" * 20, "cd" * 32), False, 1.5))
    for place in range(len(written)):
        for altered in (written[:place], written[:place] + bytes([written[place] ^ 1]) + written[place + 1 :]):
            with pytest.raises(DocumentDamaged):
                description_of(altered, settled=False)


# Damage


@pytest.mark.parametrize("size", [5, BLOCK + 5])
@pytest.mark.parametrize("damage", ["altered", "shorter", "longer"])
async def test_damaged_bytes_are_noticed_before_the_last_of_them_is_given(
    documents: S3DocumentStore, operator: Operator, prefix: str, size: int, damage: str
) -> None:
    kept = await settled(documents, oid(), b"x" * size)
    damaged = {"altered": b"x" * (size - 1) + b"y", "shorter": b"x" * (size - 1), "longer": b"x" * (size + 1)}
    operator.put(Layout(f"{prefix}/").content(kept.key), damaged[damage])
    given: list[bytes] = []

    async def read() -> None:
        async with documents.read(kept) as content:
            given.extend([chunk async for chunk in content])

    with pytest.raises(DocumentDamaged):
        await read()
    assert sum(map(len, given)) < size


async def test_a_damaged_document_is_an_error_of_the_answer(
    documents: S3DocumentStore, operator: Operator, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    damaged, missing, sound = [await settled(documents, oid(), b"hello") for _ in range(3)]
    operator.put(Layout(f"{prefix}/").content(damaged.key), b"HELLO")
    operator.client.remove_object(operator.bucket, Layout(f"{prefix}/").content(missing.key))
    repository = repository_of(documents, RefusingRegistry())

    response = await repository.retrieve(
        [DocumentRequest(repository.repository_unique_id, kept.unique_id) for kept in (damaged, missing, sound)]
    )

    assert response.status is ResponseStatus.PARTIAL_SUCCESS
    assert [error.code for error in response.errors] == [ErrorCode.REPOSITORY_ERROR] * 2
    assert [document.size for document in response.documents] == [5]
    assert "a document is damaged" in caplog.text


async def test_bytes_that_the_server_can_not_read_from_its_disk_are_damaged(
    documents: S3DocumentStore, s3_server: StoreServer
) -> None:
    directory: Path | None = getattr(s3_server, "directory", None)
    if directory is None:
        pytest.skip("the S3 server is not ours: its disk is out of reach")
    kept = await settled(documents, oid(), b"x" * SMALLEST_PART)
    (part,) = (directory / "data").rglob(f"*/{kept.key}/*/part.1")
    with part.open("r+b") as file:
        file.seek(SMALLEST_PART // 2)
        file.write(b"y")
    with pytest.raises(DocumentDamaged):
        await content_of(documents, kept)


async def test_an_altered_description_is_damage_and_hides_no_other(
    documents: S3DocumentStore, operator: Operator, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    layout = Layout(f"{prefix}/")
    unsound, sound = [await published(documents, "1.2.3", content) for content in (b"hello", b"world")]
    operator.put(layout.unsettled(unsound), b"{}")
    assert await documents.unsettled("1.2.3") == (sound,)
    assert await everything_in(documents) == [sound]
    assert "the description of a document is damaged" in caplog.text

    kept, other = [await settled(documents, oid(), content) for content in (b"hello", b"world")]
    operator.put(layout.settled(kept.unique_id), operator.get(layout.settled(other.unique_id)))
    with pytest.raises(DocumentDamaged):
        await documents.find(kept.unique_id)
    operator.put(layout.settled(kept.unique_id), b"nonsense")
    with pytest.raises(DocumentDamaged):
        await documents.find(kept.unique_id)
    copying = documents.all_settled()
    assert await anext(copying) == other
    with pytest.raises(DocumentDamaged, match="1 objects"):
        await anext(copying)


# Uploads


async def test_what_a_crash_left_half_sent_is_swept_by_age(
    documents: S3DocumentStore, operator: Operator, prefix: str
) -> None:
    async with documents.staging() as staging:
        await staging.add("it", chunks(b"x" * LARGE, 100_000))
        content = operator.only_upload(prefix).content
        assert await documents.sweep_staged(older_than_seconds=3600) == 0
        assert await documents.sweep_staged(older_than_seconds=-60) == 1
        assert operator.names(prefix) == []
        assert not operator.is_uploading(content)


async def over_a_slow_line() -> AsyncIterator[bytes]:
    yield b"x" * (SMALLEST_PART + 1)
    await asyncio.sleep(1.5)
    yield b"x" * SMALLEST_PART


async def test_an_upload_begun_long_ago_is_not_swept_while_parts_arrive(
    documents: S3DocumentStore, operator: Operator, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with documents.staging() as staging:
        measured = await staging.add("it", over_a_slow_line())
        upload = operator.only_upload(prefix)
        limit = upload.newest_part - upload.begun - 0.5
        monkeypatch.setattr(S3Objects, "store_clock", lambda _: upload.newest_part + limit / 2)
        assert await documents.sweep_staged(older_than_seconds=limit) == 0
        (kept,) = await staging.publish({"it": ("1.2.3", "text/plain")})
    assert kept.measured == measured
    assert await content_of(documents, kept) == b"x" * LARGE_OVER_A_SLOW_LINE


async def test_an_upload_to_which_no_part_came_for_long_is_swept(
    documents: S3DocumentStore, operator: Operator, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with documents.staging() as staging:
        await staging.add("it", over_a_slow_line())
        upload = operator.only_upload(prefix)
        monkeypatch.setattr(S3Objects, "store_clock", lambda _: upload.newest_part + 3600)
        assert await documents.sweep_staged(older_than_seconds=3600) == 1
        assert operator.names(prefix) == []
        assert not operator.is_uploading(upload.content)


async def test_the_newest_part_is_looked_for_on_every_page_of_the_list(
    proxy: WeatherProxy, through_proxy: Bucket
) -> None:
    def page(parts: str, rest: str) -> bytes:
        xml = f'<ListPartsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{rest}{parts}</ListPartsResult>'
        return http_answer("200 OK", xml.encode())

    def part(number: int, minute: int) -> str:
        arrived = f"2026-11-25T10:{minute:02}:00.000Z"
        return (
            f"<Part><PartNumber>{number}</PartNumber><LastModified>{arrived}</LastModified><ETag>e</ETag>"
            f"<Size>5</Size></Part>"
        )

    truncated = "<IsTruncated>true</IsTruncated><NextPartNumberMarker>{}</NextPartNumberMarker>"
    proxy.answer(b"part-number-marker=3", page(part(4, 40), "<IsTruncated>false</IsTruncated>"))
    proxy.answer(b"part-number-marker=2", page(part(3, 50), truncated.format(3)))  # sent again
    proxy.answer(b"uploadId=", page(part(1, 10) + part(2, 20), truncated.format(2)))
    client = S3Client(replace(through_proxy, region="us-east-1"), connections=1)
    newest = client.before(time.monotonic() + 10, client.newest_part, "content/it", "an upload")
    client.disconnect()
    assert newest == datetime(2026, 11, 25, 10, 50, tzinfo=UTC).timestamp()


async def test_a_document_has_no_more_parts_than_s3_takes(
    open_s3: Callable[..., S3DocumentStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repository.s3_staging.MOST_PARTS", 2)
    documents = open_s3()
    async with documents.staging(size_limit=10**12) as staging:
        assert (await staging.add("two parts", chunks(b"x" * 2 * SMALLEST_PART, 100_000))).size == 2 * SMALLEST_PART
        with pytest.raises(DocumentTooLarge):
            await staging.add("more", chunks(b"x" * LARGE, 100_000))
    await documents.close()


async def test_the_server_is_asked_to_end_broken_uploads_and_keeps_its_other_rules(
    open_s3: Callable[..., S3DocumentStore], proxy: WeatherProxy, through_proxy: Bucket
) -> None:
    """MinIO takes no such rule (it ends them by itself), so that what S3 would be sent is looked at here."""
    other = (
        b'<LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule><ID>of-the-operator</ID>'
        b"<Status>Enabled</Status><Filter><Prefix>logs/</Prefix></Filter><Expiration><Days>3</Days></Expiration>"
        b"</Rule></LifecycleConfiguration>"
    )
    proxy.answer(b"GET /toimik?lifecycle", http_answer("200 OK", other))
    proxy.answer(b"PUT /toimik?lifecycle", http_answer("200 OK"))
    documents = open_s3(bucket=through_proxy)
    await settled(documents, oid(), b"hello")
    (put,) = [request for request in proxy.requests if request.startswith(b"PUT")]
    assert b"of-the-operator" in put
    assert b"<AbortIncompleteMultipartUpload><DaysAfterInitiation>7<" in put
    await documents.close()


# Servers that are not as they should be


async def test_a_server_without_conditional_writes_is_refused_with_a_sentence(
    open_s3: Callable[..., S3DocumentStore], proxy: WeatherProxy, through_proxy: Bucket
) -> None:
    proxy.answer(b"PUT ", http_answer("200 OK"))
    documents = open_s3(bucket=through_proxy)
    with pytest.raises(StoreBusy, match="use a server that knows conditional writes"):
        await documents.check()
    with pytest.raises(StoreBusy, match="conditional writes"):
        await published(documents, oid(), b"hello")
    await documents.close()


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SomethingNew"])
async def test_what_the_server_refuses_for_good_is_told_to_the_operator(
    open_s3: Callable[..., S3DocumentStore], proxy: WeatherProxy, through_proxy: Bucket, code: str
) -> None:
    documents = open_s3(bucket=through_proxy)
    await documents.check()
    body = f"<Error><Code>{code}</Code><Message>Not you.</Message></Error>".encode()
    proxy.answer(b"PUT ", http_answer("403 Forbidden", body))
    with pytest.raises(StoreBusy, match=f"refuses a request: {code}, Not you."):
        await published(documents, oid(), b"hello")
    await documents.close()


async def test_a_bucket_that_has_vanished_does_not_make_documents_look_unknown(
    open_s3: Callable[..., S3DocumentStore], versioned: Bucket, prefix: str
) -> None:
    documents = open_s3(bucket=versioned)
    kept = await settled(documents, oid(), b"hello")
    waiting = await published(documents, oid(), b"wait")
    operator = Operator(versioned)
    for name in [*operator.names(prefix), "toimik.json"]:
        operator.client.remove_object(versioned.name, f"{prefix}/{name}")
    operator.client.remove_bucket(versioned.name)
    for using in (
        documents.find(kept.unique_id),
        documents.unsettled(waiting.unique_id),
        documents.settle(waiting),
        documents.withdraw(waiting),
        content_of(documents, kept),
        published(documents, oid(), b"another"),
    ):
        with pytest.raises(StoreBusy, match="NoSuchBucket"):
            await using
    await documents.close()


async def test_a_wrong_key_is_told_at_once(open_s3: Callable[..., S3DocumentStore], bucket: Bucket) -> None:
    documents = open_s3(bucket=replace(bucket, secret_key="not-the-one"))  # noqa: S106
    with pytest.raises(StoreBusy):
        await documents.check()
    await documents.close()


def test_a_secret_is_never_shown(bucket: Bucket) -> None:
    assert bucket.secret_key not in repr(bucket)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"endpoint": "s3.example:9000"}, "no URL of an S3 server"),
        ({"endpoint": "ftp://s3.example"}, "no URL of an S3 server"),
        ({"name": "b"}, "invalid bucket name b"),
        ({"encryption": "rot13"}, "neither none nor sse-s3 nor sse-kms:KEY"),
        ({"encryption": "sse-kms:"}, "neither none nor sse-s3 nor sse-kms:KEY"),
    ],
)
def test_a_setting_that_can_not_be_used_is_told_when_the_store_is_opened(
    settings: dict[str, Any], sentence: str
) -> None:
    sound = Bucket(endpoint="http://127.0.0.1:9", name="toimik", access_key="a", secret_key="b")  # noqa: S106
    with pytest.raises(ValueError, match=sentence):
        S3DocumentStore(replace(sound, **settings))


def test_a_part_is_not_smaller_than_s3_takes(bucket: Bucket) -> None:
    with pytest.raises(ValueError, match="at least 5242880 octets"):
        S3DocumentStore(bucket, part_bytes=SMALLEST_PART - 1)


# Clocks


@pytest.mark.parametrize("region", [None, "us-east-1"])
@pytest.mark.parametrize("hours", [-1, 1, 30])
async def test_a_node_whose_clock_is_wrong_works_all_the_same(
    open_s3: Callable[..., S3DocumentStore],
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    hours: int,
    region: str | None,
) -> None:
    right = open_s3()
    kept = await settled(right, oid(), b"hello")
    waiting = await published(right, oid(), b"wait")
    with monkeypatch.context() as patch:

        def wrong() -> datetime:
            return now() + timedelta(hours=hours)

        now = minio.time.utcnow
        patch.setattr(minio.time, "utcnow", wrong)
        patch.setattr(s3_client, "utcnow", wrong)
        node = open_s3(bucket=replace(bucket, region=region))
        assert await node.find(kept.unique_id) == kept
        assert [each async for each in node.all_unsettled(older_than_seconds=600)] == []
        assert [each async for each in node.all_unsettled(older_than_seconds=-600)] == [waiting]
        of_the_node = await published(node, oid(), b"by the store's clock")
        assert abs(of_the_node.published_at - waiting.published_at) < 300
        await node.close()
    await right.close()


# Encryption and versions


@pytest.mark.parametrize("size", [5, LARGE])
@pytest.mark.parametrize(("encryption", "expected"), [("sse-s3", "AES256"), ("sse-kms:toimik-tests", "aws:kms")])
async def test_all_that_is_written_is_encrypted_where_that_is_set(
    open_s3: Callable[..., S3DocumentStore],
    bucket: Bucket,
    operator: Operator,
    prefix: str,
    size: int,
    encryption: str,
    expected: str,
) -> None:
    documents = open_s3(bucket=replace(bucket, encryption=encryption))
    kept = await settled(documents, oid(), b"x" * size)
    await published(documents, oid(), b"wait")
    assert await content_of(documents, kept) == b"x" * size
    for name in [*operator.names(prefix), "toimik.json"]:
        metadata = operator.stat(f"{prefix}/{name}").metadata
        assert metadata is not None
        assert metadata["x-amz-server-side-encryption"] == expected, name
    await documents.close()


@pytest.fixture
def versioned(bucket: Bucket) -> Bucket:
    """A bucket of its own: versions are kept for a whole bucket."""
    return replace(bucket, name=f"toimik-{uuid4().hex}")


async def test_a_bucket_with_versions_gives_back_what_somebody_has_deleted(
    open_s3: Callable[..., S3DocumentStore], versioned: Bucket, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    documents = open_s3(bucket=versioned, versioning=True)
    kept = await settled(documents, oid(), b"hello")
    assert "the bucket for documents was not there and was made" in caplog.text
    operator = Operator(versioned)
    name = Layout(f"{prefix}/").content(kept.key)
    assert operator.client.get_bucket_versioning(versioned.name).status == ENABLED

    operator.client.remove_object(versioned.name, name)
    with pytest.raises(DocumentDamaged, match="missing"):
        await content_of(documents, kept)
    (marker,) = [
        each
        for each in operator.client.list_objects(versioned.name, prefix=name, include_version=True)
        if each.is_delete_marker
    ]
    operator.client.remove_object(versioned.name, name, version_id=marker.version_id)

    assert await content_of(documents, kept) == b"hello"
    await documents.close()


@pytest.mark.parametrize("versioning", [True, False])
async def test_in_a_bucket_with_versions_the_refused_leave_none(
    open_s3: Callable[..., S3DocumentStore], versioned: Bucket, prefix: str, versioning: bool
) -> None:
    first = open_s3(bucket=versioned, versioning=True)
    await first.check()
    await first.close()
    documents = open_s3(bucket=versioned, versioning=versioning)
    await documents.check()
    await documents.withdraw(await published(documents, oid(), b"refused"))
    async with documents.staging() as staging:
        await staging.add("broken off", chunks(b"x" * LARGE, 100_000))
    kept = await settled(documents, oid(), b"x" * LARGE)
    names = Operator(versioned).names(prefix, versions=True)
    layout = Layout("")
    assert names == sorted([layout.content(kept.key), layout.settled(kept.unique_id)])
    await documents.close()


# Crashes


@pytest.mark.slow
@pytest.mark.timeout(900)  # a hundred processes and two hundred sweeps; half a minute on an idle machine
def test_a_process_may_be_killed_between_any_two_requests(s3_server: StoreServer, tmp_path: Path) -> None:
    """tests/repository/crashes_s3.py tells what is checked after each of them."""
    outcome = subprocess.run(
        [sys.executable, "-m", "tests.repository.crashes_s3", s3_server.url, str(tmp_path)],
        env={"S3_ACCESS_KEY": s3_server.access_key, "S3_SECRET_KEY": s3_server.secret_key},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    crashes = int(outcome.stdout.split()[0])
    assert crashes > 80
