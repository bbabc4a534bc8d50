"""What keeps audit events: each promise on the file and on the outbox."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from server.audit.audit_file import AuditFile
from server.audit.audit_outbox import FILE, AuditOutbox
from server.audit.audit_sink import AuditSink, KeptEvent, NotKept

RECORDED = 1_790_000_000.0
Opened = Callable[[Path], AuditSink]


def event(text: str = "") -> KeptEvent:
    return KeptEvent(str(uuid4()), RECORDED, f'{{"outcomeDesc":"{text}"}}'.encode())


def outbox_at(path: Path, most_octets: int = 1024 * 1024) -> AuditOutbox:
    return AuditOutbox(path, most_octets=most_octets)


@contextmanager
def opened(path: Path, **changes: int) -> Iterator[AuditOutbox]:
    outbox = outbox_at(path, **changes)
    try:
        yield outbox
    finally:
        outbox.close()


def in_file(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def in_outbox(path: Path) -> list[bytes]:
    with opened(path) as outbox:
        return [each.resource for each in outbox.oldest(10_000)]


@pytest.fixture(params=["file", "outbox"])
def kind(request: pytest.FixtureRequest) -> tuple[Opened, Callable[[Path], list[bytes]]]:
    """How a sink is opened, and how it is read."""
    return (AuditFile, in_file) if request.param == "file" else (outbox_at, in_outbox)


Kind = tuple[Opened, Callable[[Path], list[bytes]]]


def test_what_is_kept_is_there_in_order_when_it_is_opened_again(tmp_path: Path, kind: Kind) -> None:
    open_, kept = kind
    events = [event(str(number)) for number in range(5)]
    for part in (events[:3], events[3:]):
        sink = open_(tmp_path / "sink")
        sink.keep(part)
        sink.close()

    assert kept(tmp_path / "sink") == [each.resource for each in events]


def test_several_that_keep_at_once_lose_and_mix_nothing(tmp_path: Path, kind: Kind) -> None:
    open_, kept = kind
    groups = [[event(f"{number} {'x' * 3000}") for number in range(20)] for _ in range(8)]

    def keep(group: Sequence[KeptEvent]) -> None:
        sink = open_(tmp_path / "sink")
        for each in group:
            sink.keep([each])
        sink.close()

    with ThreadPoolExecutor(len(groups)) as threads:
        list(threads.map(keep, groups))

    assert sorted(kept(tmp_path / "sink")) == sorted(each.resource for group in groups for each in group)


def test_what_is_kept_survives_a_process_that_dies_at_once(tmp_path: Path, kind: Kind) -> None:
    open_, kept = kind
    opening = "AuditFile(path)" if open_ is AuditFile else "AuditOutbox(path, most_octets=1)"
    program = (
        "import os, pathlib, sys\n"
        "from server.audit.audit_file import AuditFile\n"
        "from server.audit.audit_outbox import AuditOutbox\n"
        "from server.audit.audit_sink import KeptEvent\n"
        "path = pathlib.Path(sys.argv[1])\n"
        f"{opening}.keep([KeptEvent('1', 1.0, b'{{}}')])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path / "sink")], check=False)

    assert ended.returncode == -9
    assert kept(tmp_path / "sink") == [b"{}"]


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path, kind: Kind) -> None:
    open_, _ = kind
    in_the_way = tmp_path / "file"
    in_the_way.touch()

    with pytest.raises(NotKept):
        open_(in_the_way / "sink")


def test_they_are_for_their_owner_only(tmp_path: Path, kind: Kind) -> None:
    open_, _ = kind
    open_(tmp_path / "sink").close()

    files = [each for each in (tmp_path / "sink", *(tmp_path / "sink").glob("*")) if each.exists()]
    assert [oct(each.stat().st_mode & 0o077) for each in files] == ["0o0"] * len(files)


# The file ------------------------------------------------------------------------------------------------------------


def test_a_file_that_was_renamed_is_begun_anew(tmp_path: Path) -> None:
    path, old = tmp_path / "events.jsonl", tmp_path / "events.jsonl.1"
    sink = AuditFile(path)
    first, second = event("1"), event("2")

    sink.keep([first])
    path.rename(old)
    sink.keep([second])
    sink.close()

    assert (in_file(old), in_file(path)) == ([first.resource], [second.resource])


def test_half_a_line_of_a_crash_spoils_no_other_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"resourceType":"Aud')
    sink = AuditFile(path)
    whole = event("whole")

    sink.keep([whole])
    sink.close()

    assert in_file(path)[1:] == [whole.resource]


def test_a_file_that_can_not_be_written_for_a_while_is_told_and_is_of_use_again(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = AuditFile(path)
    path.unlink()
    path.mkdir()

    for _ in range(2):
        with pytest.raises(NotKept):
            sink.keep([event("not kept")])
    path.rmdir()
    kept = event("kept")
    sink.keep([kept])
    sink.close()

    assert in_file(path) == [kept.resource]


# The outbox ----------------------------------------------------------------------------------------------------------


def test_what_was_sent_leaves_the_outbox_and_what_was_refused_waits_for_another_try(tmp_path: Path) -> None:
    events = [event(str(number)) for number in range(4)]
    with opened(tmp_path) as outbox:
        outbox.keep(events)

        outbox.sent([events[0].id], refused=[events[1].id])

        assert outbox.oldest(10) == events[2:]
        assert outbox.state()[:3] == (3, sum(len(each.resource) for each in events[1:]), 1)
        outbox.try_again()
        assert outbox.oldest(2) == events[1:3]
        assert outbox.state().set_aside == 0


def test_the_outbox_has_room_up_to_its_octets_and_keeps_what_comes_beyond(tmp_path: Path) -> None:
    first, second = event("1"), event("2")
    with opened(tmp_path, most_octets=len(first.resource)) as outbox:
        assert outbox.has_room()
        outbox.keep([first])
        assert not outbox.has_room()

        outbox.keep([second])  # its request began before

        assert outbox.oldest(10) == [first, second]
        outbox.sent([first.id, second.id])
        assert outbox.has_room()
        assert outbox.state() == (0, 0, 0, 0.0)


def test_the_age_is_that_of_the_oldest(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        outbox.keep([event()._replace(recorded=RECORDED - 1000), event()])
        older = outbox.state().age_seconds
        outbox.sent([outbox.oldest(1)[0].id])

        assert older - outbox.state().age_seconds == pytest.approx(1000, abs=100)


def test_an_outbox_that_is_damaged_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 1000)

    with pytest.raises(NotKept):
        outbox_at(tmp_path)


def test_of_events_that_can_not_all_be_kept_none_is(tmp_path: Path) -> None:
    known, new = event("1"), event("2")
    with opened(tmp_path) as outbox:
        outbox.keep([known])

        with pytest.raises(NotKept):
            outbox.keep([new, known])

        assert outbox.oldest(10) == [known]
