"""A large document passes through a server whole, and never lies in its memory. No times are promised here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.performance.big_document import MIB, differences, server_for_large_documents, there_and_back
from tests.server_process import ServerProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from Linux's /proc"),
]


GROWTH_LIMITS = {"filesystem": 32 * MIB, "s3": 48 * MIB}
"""A transfer to S3 has two parts of 8 MiB in memory."""


@pytest.fixture(params=sorted(GROWTH_LIMITS))
def documents(request: pytest.FixtureRequest) -> str:
    """Where the server keeps them."""
    kind: str = request.param
    return kind


@pytest.fixture
def server(documents: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    s3 = request.getfixturevalue("s3_server") if documents == "s3" else None
    with server_for_large_documents(tmp_path / "data", s3=s3) as server:
        yield server


def test_a_large_document_comes_back_identical_without_having_been_in_memory(
    server: ServerProcess, documents: str
) -> None:
    small = there_and_back(server, 1, MIB)
    assert list(differences(server, *small)) == []
    after_a_small_one = server.peak_resident_bytes()

    large = there_and_back(server, 2, 64 * MIB)

    assert list(differences(server, *large)) == []
    grown = {process: peak - after_a_small_one[process] for process, peak in server.peak_resident_bytes().items()}
    assert max(grown.values()) < GROWTH_LIMITS[documents]
