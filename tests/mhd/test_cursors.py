"""Cursors hold what was sealed in them, short or long, and nothing that anybody could change."""

from __future__ import annotations

import pytest

from mhd.fhir.operation_outcome import Refused
from mhd.searching.cursors import Cursors, Resumption
from xds.metadata import ObjectKind
from xds.paged_search import Place

KIND = ObjectKind.DOCUMENT_ENTRY


def going_on(values: int) -> Resumption:
    used = (("status", "current"), *(("type", f"http://loinc.org|{number:05}-1") for number in range(values)))
    return Resumption("DocumentReference", used, 100, {KIND: "201"}, {KIND: Place("20260101000000", "7")})


@pytest.mark.parametrize("values", [0, 1, 30, 400])
def test_a_cursor_holds_a_search_of_any_length_and_does_not_show_it(values: int) -> None:
    cursors = Cursors(bytes(32), 60)
    sealed = cursors.sealed(going_on(values))

    assert cursors.opened(sealed, "DocumentReference") == going_on(values)
    assert "loinc" not in sealed
    assert len(sealed) < 4000


@pytest.mark.parametrize("values", [0, 400])
def test_a_cursor_that_was_changed_is_refused(values: int) -> None:
    cursors = Cursors(bytes(32), 60)
    sealed = cursors.sealed(going_on(values))
    changed = sealed[:100] + ("A" if sealed[100] != "A" else "B") + sealed[101:]

    with pytest.raises(Refused) as refused:
        cursors.opened(changed, "DocumentReference")
    assert refused.value.outcome.http_status == 400
