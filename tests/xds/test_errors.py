"""What refusals promise."""

from __future__ import annotations

import pytest

from xds.errors import MOST_REPORTED, ErrorCode, Finding, RegistryError, XdsError


def errors(count: int) -> list[RegistryError]:
    return [RegistryError(ErrorCode.REGISTRY_METADATA_ERROR, f"error {number}.") for number in range(count)]


def test_a_refusal_tells_every_error() -> None:
    assert XdsError.of(errors(3)).errors == tuple(errors(3))


def test_nothing_is_refused_without_a_reason() -> None:
    with pytest.raises(ValueError, match="at least one"):
        XdsError.of([])


def test_more_errors_than_anybody_reads_are_counted() -> None:
    refusal = XdsError.of(errors(MOST_REPORTED + 5))

    assert len(refusal.errors) == MOST_REPORTED + 1
    assert str(MOST_REPORTED + 5) in refusal.errors[-1].code_context


def test_a_finding_without_a_code_has_that_of_its_transaction() -> None:
    finding = Finding("It is wrong.", "here")

    assert finding.reported(ErrorCode.REPOSITORY_METADATA_ERROR) == RegistryError(
        ErrorCode.REPOSITORY_METADATA_ERROR, "It is wrong.", "here"
    )
