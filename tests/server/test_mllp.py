"""Patient identity feeds in HL7 v2 over MLLP [ITI-8], against a real server."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from server.mllp import MllpServer
from server.settings import SettingsProblem, load_settings
from server.tls import CannotServe
from tests.builders import OTHER_PATIENT, PATIENT, PATIENT_AUTHORITY
from tests.server.hl7v2_sender import Sender, adt, link_change
from tests.server.running_server import running_server
from tests.server_process import free_port

AUTHORITIES = [{"oid": PATIENT_AUTHORITY}]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A server that listens for HL7 v2 there, knows no patient, and does not wait for long."""
    port = free_port()
    patients = {
        "policy": "known", "assigning_authorities": AUTHORITIES, "mllp_port": port, "mllp_message_bytes": 8192,
        "mllp_idle_seconds": 1.0, "mllp_connections": 2,
    }  # fmt: skip
    with running_server(tmp_path, patients=patients, limits={"idle_seconds": 0.5}):
        yield port


def test_every_message_of_a_feed_is_acknowledged(port: int) -> None:
    with Sender(port) as sender:
        for number, event in enumerate(("A01", "A04", "A05", "A08")):
            ack = sender.send(adt(event, PATIENT.text, control_id=str(number)))
            assert ack["MSA"][1:3] == ["AA", str(number)]
            assert ack["MSH"][8] == f"ACK^{event}^ACK"


def test_a_merge_is_acknowledged_and_a_merge_that_can_not_be_is_not(port: int) -> None:
    with Sender(port) as sender:
        unknown = sender.send(adt("A40", PATIENT.text, OTHER_PATIENT.text))
        for patient in (PATIENT, OTHER_PATIENT):
            sender.send(adt("A01", patient.text))
        merged = sender.send(adt("A40", PATIENT.text, OTHER_PATIENT.text))
        subsumed = sender.send(adt("A08", OTHER_PATIENT.text))

    assert (unknown["MSA"][1], unknown["ERR"][3]) == ("AE", "204^Unknown key identifier^HL70357")
    assert merged["MSA"][1] == "AA"
    assert (subsumed["MSA"][1], subsumed["ERR"][3]) == ("AE", "205^Duplicate key identifier^HL70357")


@pytest.mark.parametrize(
    ("message", "code", "condition"),
    [
        (adt("A40", PATIENT.text), "AE", "101"),
        (adt("A01", ""), "AE", "101"),
        (adt("A01", "4711"), "AE", "102"),
        (adt("A01", "4711^^^&1.2.3&ISO"), "AE", "102"),
        (adt("A03", PATIENT.text), "AR", "201"),
        (b"nothing", "AR", "100"),
    ],
    ids=["no MRG", "no id", "no authority", "another authority", "a discharge", "no HL7"],
)
def test_what_can_not_be_is_answered_with_where_and_why(port: int, message: bytes, code: str, condition: str) -> None:
    with Sender(port) as sender:
        ack = sender.send(message)
        assert ack["MSA"][1] == code
        assert condition in "|".join(ack["ERR"])
        assert sender.send(adt("A01", PATIENT.text))["MSA"][1] == "AA"


LOCAL, ANOTHER = "T-4711^^^&2.25.7331&ISO", "T-4712^^^&2.25.7331&ISO"


def test_a_link_change_is_acknowledged_and_one_of_unknown_patients_is_not(port: int) -> None:
    message = link_change(PATIENT.text, LOCAL, OTHER_PATIENT.text)
    with Sender(port) as sender:
        unknown = sender.send(message)
        sender.send(adt("A01", PATIENT.text))
        unknown_before = sender.send(message)
        sender.send(adt("A01", OTHER_PATIENT.text))
        taken = sender.send(message)

    assert (unknown["MSA"][1], unknown["ERR"][2:4]) == ("AE", ["PID^1^3", "204^Unknown key identifier^HL70357"])
    assert (unknown_before["MSA"][1], unknown_before["ERR"][2]) == ("AE", "MRG^1^1")
    assert taken["MSA"][1] == "AA"
    assert taken["MSH"][8] == "ACK^A43^ACK"


@pytest.mark.parametrize(
    ("message", "place", "condition"),
    [
        (link_change(PATIENT.text, "", OTHER_PATIENT.text), "PID^1^3", "101"),
        (adt("A43", f"{PATIENT.text}~{LOCAL}"), "MRG^1^1", "101"),
        (link_change(PATIENT.text, LOCAL, OTHER_PATIENT.text, f"{ANOTHER}~{LOCAL}"), "MRG^1^1", "101"),
        (link_change(PATIENT.text, "4711^^^LOCAL", OTHER_PATIENT.text), "PID^1^3", "102"),
        (link_change(PATIENT.text, LOCAL, OTHER_PATIENT.text, "4711^^^&2.25.1&ISO"), "MRG^1^1", "102"),
        (link_change("4711^^^&1.2.3&ISO", LOCAL, OTHER_PATIENT.text), "PID^1^3", "102"),
        (link_change(PATIENT.text, LOCAL, PATIENT.text), "MRG^1^1", "205"),
        (link_change(PATIENT.text, LOCAL, OTHER_PATIENT.text, application="XREF"), "MSH^1^3", "102"),
    ],
    ids=[
        "no local id", "no MRG", "three prior ids", "a local id without an OID", "a subsumed id of another authority",
        "a patient of another authority", "nothing that changes", "a sender without an OID",
    ],
)  # fmt: skip
def test_a_link_change_that_can_not_be_is_answered_with_where_and_why(
    port: int, message: bytes, place: str, condition: str
) -> None:
    with Sender(port) as sender:
        for patient in (PATIENT, OTHER_PATIENT):
            sender.send(adt("A01", patient.text))
        ack = sender.send(message)

    assert (ack["MSA"][1], ack["ERR"][2], ack["ERR"][3][:3]) == ("AE", place, condition)


def test_a_message_above_the_limit_is_refused_with_the_limit(port: int) -> None:
    with Sender(port) as sender:
        ack = sender.send(adt("A01", PATIENT.text) + b"ZZZ|" + b"x" * 10_000)
        assert ack["MSA"][1] == "AR"
        assert ack["MSA"][2] == "1"
        assert "more than 8192 octets" in ack["MSA"][3]
        assert sender.is_closed_by_the_server()


def test_a_message_that_does_not_end_is_not_waited_for(port: int) -> None:
    with Sender(port) as sender:
        sender.socket.sendall(b"\x0b" + adt("A01", PATIENT.text))
        assert sender.is_closed_by_the_server()


def test_a_silent_connection_is_closed(port: int) -> None:
    with Sender(port) as sender:
        assert sender.is_closed_by_the_server()


def test_what_is_not_framed_is_not_read(port: int) -> None:
    with Sender(port) as sender:
        sender.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert sender.is_closed_by_the_server()


def test_a_connection_too_many_is_closed_at_once(port: int) -> None:
    with Sender(port) as first, Sender(port) as second:
        for sender in (first, second):
            sender.send(adt("A01", PATIENT.text))
        with Sender(port) as third:
            assert third.is_closed_by_the_server()
        assert first.send(adt("A01", PATIENT.text))["MSA"][1] == "AA"


def test_a_feed_is_encrypted_and_its_sender_authenticated_as_the_soap_port(tmp_path: Path) -> None:
    authority, port = trustme.CA(), free_port()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    tls = {
        "certificate": tmp_path / "server.pem", "key": tmp_path / "server.pem", "client_ca": tmp_path / "ca.pem",
        "client_certificate": "required",
    }  # fmt: skip
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    known = ssl.create_default_context()
    authority.configure_trust(known)
    authority.issue_cert("hospital.example").configure_cert(known)

    with running_server(tmp_path / "data", patients={"mllp_port": port}, tls=tls):
        with Sender(port, known) as sender:
            assert sender.send(adt("A01", PATIENT.text))["MSA"][1] == "AA"
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)), Sender(port, trusting) as stranger:
            stranger.send(adt("A01", PATIENT.text))


def test_several_workers_need_a_certain_port(tmp_path: Path) -> None:
    with pytest.raises(SettingsProblem, match=r"patients\.mllp_port: several workers share one port"):
        load_settings(data=tmp_path, workers=2, patients={"mllp_port": 0})


async def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    async def never(_: bytes) -> bytes:
        raise AssertionError

    server = MllpServer(never, message_bytes=8192, pause_seconds=1, idle_seconds=1, connections=1)
    async with server.listening("127.0.0.1", 0, tls=None, share_port=False, shutdown_seconds=1) as port:
        with pytest.raises(CannotServe, match=str(port)):
            async with server.listening("127.0.0.1", port, tls=None, share_port=False, shutdown_seconds=1):
                pass


async def test_what_is_being_answered_is_finished_before_the_server_stops(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    began, may_end = asyncio.Event(), asyncio.Event()

    async def slow(message: bytes) -> bytes:
        began.set()
        await may_end.wait()
        return message

    server = MllpServer(slow, message_bytes=8192, pause_seconds=5, idle_seconds=5, connections=5)
    async with server.listening("127.0.0.1", 0, tls=None, share_port=False, shutdown_seconds=30) as port:
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x0bmessage\x1c\r")
        await began.wait()
        asyncio.get_running_loop().call_later(0.2, may_end.set)

    assert await reader.read() == b"\x0bmessage\x1c\r"
    assert await idle_reader.read() == b""
    for each in (writer, idle_writer):
        each.close()
