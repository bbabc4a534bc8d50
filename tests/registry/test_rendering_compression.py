"""Promises of the compression of renderings and log bodies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from importlib import resources

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from registry.metadata_store import StoreDamaged
from registry.rendering_compression import RenderingCompression
from tests.builders import full_document_entry, registered
from xds.ebxml_writer import codec

SHIPPED = RenderingCompression.shipped()


def dictionary(number: int) -> bytes:
    samples: list[bytes | bytearray | memoryview] = [
        f"<dictionary n='{number}'>{n * number}</dictionary>".encode() * 9 for n in range(2000)
    ]
    return zstandard.train_dictionary(2048, samples, dict_id=number).as_bytes()


@given(st.binary(max_size=5000))
def test_what_is_restored_is_what_was_compressed(content: bytes) -> None:
    assert SHIPPED.restore(SHIPPED.compress(content)) == content
    assert SHIPPED.restore(SHIPPED.compress_body(content)) == content


def test_a_rendering_is_a_small_part_of_its_size() -> None:
    rendering = codec.written(registered(full_document_entry()))

    assert len(SHIPPED.compress(rendering)) < len(rendering) / 4
    assert len(SHIPPED.compress_body(rendering)) < len(rendering) / 5


@pytest.mark.parametrize("size", [200_000, 3_000_000])
def test_a_rendering_may_be_larger_than_what_is_looked_back_at(size: int) -> None:
    content = b"".join([b"<rim:Slot name='%d'/>" % number for number in range(size // 20)])

    for compressed in (SHIPPED.compress(content), SHIPPED.compress_body(content)):
        assert len(compressed) < len(content) / 2
        assert SHIPPED.restore(compressed) == content


def test_what_is_compressed_says_how_long_it_was_and_with_which_dictionary() -> None:
    for compressed in (SHIPPED.compress(b"a rendering"), SHIPPED.compress_body(b"a body")):
        said = zstandard.get_frame_parameters(compressed)

        assert said.has_checksum
        assert said.dict_id == (1 << 15) + 2
        assert said.content_size in (len(b"a rendering"), len(b"a body"))


def test_threads_do_not_disturb_one_another() -> None:
    def round_trips(number: int) -> bool:
        contents = [b"%d %d" % (number, n) * 300 for n in range(300)]
        return all(SHIPPED.restore(SHIPPED.compress(content)) == content for content in contents)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(round_trips, range(8)))


def test_what_an_older_dictionary_compressed_is_restored_with_it() -> None:
    older = RenderingCompression([dictionary(40_001)])
    newer = RenderingCompression([dictionary(40_001), dictionary(40_002)])
    content = b"<dictionary n='40001'>7</dictionary>"

    assert newer.restore(older.compress(content)) == content
    assert newer.restore(newer.compress(content)) == content
    with pytest.raises(StoreDamaged, match="dictionary 40002, which this release lacks"):
        older.restore(newer.compress(content))


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("ebrim-1", "0412b838a72c402cbb0ee8899d2adcdd175871acc09fc8fd94d9ab206caa7504"),
        ("renderings-2", "008e15266788f7b41161290cf1154f30e4868e0a508a67a0130556c8c5ede5e3"),
    ],
)
def test_a_dictionary_that_was_shipped_never_changes(name: str, digest: str) -> None:
    shipped = (resources.files("schemas") / "dictionaries" / f"{name}.zdict").read_bytes()

    assert sha256(shipped).hexdigest() == digest


@pytest.mark.parametrize("place", [0, 5, 10, -1])
def test_altered_bytes_are_noticed(place: int) -> None:
    compressed = bytearray(SHIPPED.compress(b"a rendering, as it was registered" * 9))
    compressed[place] ^= 0x55

    with pytest.raises(StoreDamaged):
        SHIPPED.restore(bytes(compressed))


@pytest.mark.parametrize("content", [b"", b"<rim:ExtrinsicObject/>", b"\x28\xb5\x2f\xfd"])
def test_what_was_never_compressed_is_damaged(content: bytes) -> None:
    with pytest.raises(StoreDamaged):
        SHIPPED.restore(content)
