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

_OF_RENDERINGS = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST,
    min_match=7,
    target_length=1,  # with this strategy: what is not repeated stays as it is
    hash_log=15,  # all of the dictionary is found again
    window_log=17,
    write_checksum=True,
    write_dict_id=True,
)
"""A rendering is restored for every answer it is part of, and what that takes is how many repetitions it is made of. A
few long ones are restored in some two thirds of the time that level -1 takes, and are smaller; level 3 is a fifth
smaller still, and takes longer than either."""
_OF_BODIES = zstandard.ZstdCompressionParameters.from_level(3, write_checksum=True, write_dict_id=True)
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
        self._for_renderings = _prepared(dictionaries[-1], _OF_RENDERINGS)
        self._for_bodies = _prepared(dictionaries[-1], _OF_BODIES)
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
            compress = self._own.compress = _compressor(_OF_RENDERINGS, self._for_renderings)
        return compress(rendering)

    def compress_body(self, body: bytes) -> bytes:
        """The body of a log record, compressed likewise."""
        try:
            compress: Compress = self._own.compress_body
        except AttributeError:
            compress = self._own.compress_body = _compressor(_OF_BODIES, self._for_bodies)
        return compress(body)

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

    def restore_all(self, compressed: Sequence[bytes]) -> list[bytes]:
        """What was compressed, one by one, as restore() has it."""
        if not compressed:
            return []
        restored = [self.restore(compressed[0])]  # and this thread has what it restores with
        try:
            restored += map(self._own.decompress, compressed[1:])
        except zstandard.ZstdError:
            return [self.restore(each) for each in compressed]
        return restored

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


def _prepared(dictionary: bytes, parameters: zstandard.ZstdCompressionParameters) -> zstandard.ZstdCompressionDict:
    prepared = zstandard.ZstdCompressionDict(dictionary)
    prepared.precompute_compress(compression_params=parameters)
    return prepared


def _compressor(parameters: zstandard.ZstdCompressionParameters, prepared: zstandard.ZstdCompressionDict) -> Compress:
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=prepared).compress
