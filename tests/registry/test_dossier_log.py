"""Promises of the dossier log: a chain in which nothing can be altered, left out or moved unnoticed."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import change_body
from registry.change_body import ChangeBody, revised
from registry.dossier_log import FIRST_PREVIOUS_HASH, LogRecord, hash_of
from registry.metadata_store import Removal, Revision, StoreDamaged
from tests.builders import document_entry, folder
from xds.hl7v2 import DTM
from xds.metadata import AvailabilityStatus, ObjectKind


def record_after(previous: LogRecord | None, body: bytes = b"body") -> LogRecord:
    return LogRecord.following(
        previous.hash if previous else FIRST_PREVIOUS_HASH,
        patient_id="1^^^&1.2&ISO",
        sequence=previous.sequence + 1 if previous else 1,
        change_id="a change",
        time="2026-03-14T10:15:00.000000Z",
        body=body,
    )


def test_records_that_follow_one_another_have_no_problem() -> None:
    first = record_after(None)
    second = record_after(first)

    assert first.problem(None) is None
    assert second.problem(first) is None


def test_the_hash_covers_every_part_with_its_length() -> None:
    record = record_after(None)
    body_hash = hashlib.sha256(b"body").digest()
    parts = (bytes(32), b"1^^^&1.2&ISO", b"1", b"a change", b"2026-03-14T10:15:00.000000Z", body_hash)

    assert record.hash == hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in parts)).digest()


@pytest.mark.parametrize(
    "alteration",
    [
        {"patient_id": "2^^^&1.2&ISO"},
        {"change_id": "another change"},
        {"time": "2026-03-14T10:15:00.000001Z"},
        {"body_hash": bytes(32), "body": None},
        {"hash": bytes(32)},
    ],
)
def test_an_altered_record_is_noticed(alteration: dict[str, object]) -> None:
    assert replace(record_after(None), **alteration).problem(None) == "record 1 was altered"  # type: ignore[arg-type]


def test_an_altered_body_is_noticed() -> None:
    assert replace(record_after(None), body=b"Body").problem(None) == "the body of record 1 was altered"


def test_a_missing_record_is_noticed() -> None:
    first = record_after(None)
    third = record_after(record_after(first))

    assert third.problem(first) == "record 2 is missing; the next one there is 3"
    assert third.problem(None) == "record 1 is missing; the next one there is 3"


def test_a_record_put_in_the_place_of_another_is_noticed() -> None:
    first, other_first = record_after(None), record_after(None, b"another body")

    assert record_after(first).problem(other_first) == "record 2 is not chained to the record before it"


def test_a_blanked_body_leaves_the_chain_whole() -> None:
    first = record_after(None)
    second = record_after(first)

    assert replace(first, body=None).problem(None) is None
    assert second.problem(replace(first, body=None)) is None


renderings = st.lists(st.text(st.characters(exclude_categories=["Cs"])).map(str.encode), max_size=4).map(tuple)
revisions = st.builds(Revision, st.text(), st.none() | st.sampled_from(AvailabilityStatus), st.none() | st.text())


removals = st.builds(Removal, st.text(), st.sampled_from(ObjectKind), st.none() | st.text(), st.none() | st.text())


@given(renderings, st.lists(revisions, max_size=3).map(tuple), st.lists(removals, max_size=2).map(tuple))
def test_a_body_reads_as_it_was_written(
    new: tuple[bytes, ...], changed: tuple[Revision, ...], gone: tuple[Removal, ...]
) -> None:
    body, digest = change_body.encoded(new, changed, removals=gone)

    assert change_body.decoded(body) == ChangeBody(new, changed, None, gone)
    assert hash_of(body) == digest


@given(renderings, st.lists(revisions, max_size=3).map(tuple), st.data())
def test_what_is_left_of_a_body_has_the_hash_of_the_whole(
    new: tuple[bytes, ...], changed: tuple[Revision, ...], data: st.DataObject
) -> None:
    body, digest = change_body.encoded(new, changed)
    gone = set(data.draw(st.lists(st.sampled_from(new), max_size=3))) if new else set()

    left = change_body.blanked(body, gone.__contains__)

    assert (left is None) == (not gone)
    assert hash_of(left or body) == digest
    assert change_body.decoded(left or body).renderings == tuple(each for each in new if each not in gone)
    assert change_body.decoded(left or body).blanks == sum(each in gone for each in new)
    assert change_body.blanked(left or body, gone.__contains__) is None


def test_a_blanked_object_can_not_be_exchanged_for_another() -> None:
    body, digest = change_body.encoded([b"<a/>", b"<b/>"], ())
    left = change_body.blanked(body, b"<a/>".__eq__) or b""

    assert hash_of(left.replace(b"<b/>", b"<c/>")) != digest
    assert hash_of(left.replace(b'{"sha256":"', b'{"sha256":"0')) != digest


def test_a_body_says_its_version() -> None:
    assert change_body.encoded([b"<a/>"], [Revision("urn:uuid:1", last_update_time="20260314101500")])[0] == (
        b'{"v":2,"objects":["<a/>"],"revisions":[{"entry_uuid":"urn:uuid:1","last_update_time":"20260314101500"}]}'
    )
    with pytest.raises(StoreDamaged, match="has version 3, this release reads version 2"):
        change_body.decoded(b'{"v":3}')


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"v":2,"objects":[1],"revisions":[]}', b'{"v":2}'])
def test_a_body_that_was_never_written_is_damaged(body: bytes) -> None:
    with pytest.raises(StoreDamaged):
        change_body.decoded(body)


def test_a_revision_changes_only_what_it_names() -> None:
    entry, registered_folder = document_entry(title=()), folder()

    deprecated = revised(entry, Revision(entry.entry_uuid, availability_status=AvailabilityStatus.DEPRECATED))
    updated = revised(registered_folder, Revision(registered_folder.entry_uuid, last_update_time="20260314101500"))

    assert deprecated == replace(entry, availability_status=AvailabilityStatus.DEPRECATED)
    assert updated == replace(registered_folder, last_update_time=DTM("20260314101500"))


def test_only_a_folder_has_a_last_update_time() -> None:
    entry = document_entry()

    with pytest.raises(ValueError, match="only a Folder has a lastUpdateTime"):
        revised(entry, Revision(entry.entry_uuid, last_update_time="20260314101500"))
