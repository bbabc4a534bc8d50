"""Renderings and log bodies, compressed: zstd with a dictionary of what ebRIM and FHIR resources repeat.

A compressed rendering names its dictionary, so several live side by side: new bytes use the newest, old ones stay as
they are. A dictionary that was ever shipped must be shipped for ever (schemas/dictionaries).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from importlib import resources
from typing import TypeAlias

import zstandard

from registry.metadata_store import StoreDamaged

_LEVEL_OF_RENDERINGS = -1
"""A rendering is restored for every answer it is part of: this is a quarter larger than level 3 and restored in two
thirds of the time."""
_LEVEL_OF_BODIES = 3
"""The body of a log record is restored when the index is written again, and hardly ever else."""

Compress: TypeAlias = Callable[[bytes], bytes]
Decompress: TypeAlias = Callable[[bytes], bytes]


class RenderingCompression:
    """Compresses and restores bytes in any thread.

    A zstd context used by two threads at once corrupts memory: each thread is given its own.
    """

    def __init__(self, dictionaries: Sequence[bytes]) -> None:
        """dictionaries: oldest first; the last one is used for what is compressed from now on."""
        if not dictionaries:
            raise ValueError("there must be a dictionary to compress with")
        loaded = [zstandard.ZstdCompressionDict(dictionary) for dictionary in dictionaries]
        self._dictionaries = {dictionary.dict_id(): dictionary for dictionary in loaded}
        self._newest = loaded[-1]
        self._prepared = {
            level: _prepared(dictionaries[-1], level) for level in (_LEVEL_OF_RENDERINGS, _LEVEL_OF_BODIES)
        }
        self._own = threading.local()

    @classmethod
    def shipped(cls) -> RenderingCompression:
        """With the dictionaries that come with this release."""
        folder = resources.files("schemas") / "dictionaries"
        names = sorted(
            (entry.name for entry in folder.iterdir() if entry.name.endswith(".zdict")),
            key=lambda name: int(name.removesuffix(".zdict").rpartition("-")[2]),
        )
        return cls([(folder / name).read_bytes() for name in names])

    def compress(self, rendering: bytes) -> bytes:
        """`rendering` compressed, with a checksum and the number of its dictionary."""
        try:
            compress: Compress = self._own.compress
        except AttributeError:
            compress = self._own.compress = self._compressor(_LEVEL_OF_RENDERINGS)
        return compress(rendering)

    def compress_body(self, body: bytes) -> bytes:
        """The body of a log record, compressed likewise."""
        try:
            compress: Compress = self._own.compress_body
        except AttributeError:
            compress = self._own.compress_body = self._compressor(_LEVEL_OF_BODIES)
        return compress(body)

    def _compressor(self, level: int) -> Compress:
        return zstandard.ZstdCompressor(level=level, dict_data=self._prepared[level], write_checksum=True).compress

    def restore(self, compressed: bytes) -> bytes:
        """What was compressed.

        Raises StoreDamaged where the bytes are not those that compress() returned.
        """
        try:
            decompress: Decompress = self._own.decompress
        except AttributeError:
            decompress = self._own.decompress = zstandard.ZstdDecompressor(dict_data=self._newest).decompress
        try:
            return decompress(compressed)
        except zstandard.ZstdError:
            return self._restore_with_older(compressed)

    def restored_or_as_is(self, compressed: bytes) -> bytes:
        """What was compressed, or what is there instead: for whoever compares it with what it should be."""
        try:
            return self.restore(compressed)
        except StoreDamaged:
            return compressed

    def _restore_with_older(self, compressed: bytes) -> bytes:
        try:
            number = zstandard.get_frame_parameters(compressed).dict_id
            dictionary = self._dictionaries.get(number)
            if dictionary is None:
                raise StoreDamaged(f"a rendering is compressed with dictionary {number}, which this release lacks")
            return zstandard.ZstdDecompressor(dict_data=dictionary).decompress(compressed)
        except zstandard.ZstdError as error:
            raise StoreDamaged(f"a rendering can not be decompressed: {error}") from error


def _prepared(dictionary: bytes, level: int) -> zstandard.ZstdCompressionDict:
    prepared = zstandard.ZstdCompressionDict(dictionary)
    prepared.precompute_compress(level=level)
    return prepared
