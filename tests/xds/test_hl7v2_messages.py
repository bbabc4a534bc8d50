"""HL7 v2 messages of patient identity feeds, and the acknowledgments to them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.hl7v2 import CX
from xds.hl7v2_messages import (
    AcknowledgmentCode,
    ConditionCode,
    Header,
    MessageRefused,
    Place,
    acknowledgment,
    read_adt,
)

NOW = datetime(2026, 3, 14, 10, 30, 15, tzinfo=UTC)
MSH = r"MSH|^~\&|ADT|HOSPITAL|TOIMIK|REGION|20260314103015||{kind}|77|P|{version}"
PID = "PID|||4711^^^NHS&2.16.840.1.113883.2.1.4.1&ISO^NH~0815^^^&1.2.3&ISO^MR||Doe^Jane"


def message(*segments: str, kind: str = "ADT^A01", version: str = "2.3.1") -> bytes:
    lines = [MSH.format(kind=kind, version=version), *(segments or ("EVN||20260314", PID, "PV1||I"))]
    return "".join(f"{line}\r" for line in lines).encode()


def refusal_of(sent: bytes) -> MessageRefused:
    with pytest.raises(MessageRefused) as refused:
        read_adt(sent)
    return refused.value


def test_patient_ids_are_read_with_all_repetitions() -> None:
    read = read_adt(message())

    assert read.trigger_event == "A01"
    assert read.patient_ids == (CX("4711^^^NHS&2.16.840.1.113883.2.1.4.1&ISO^NH"), CX("0815^^^&1.2.3&ISO^MR"))
    assert read.prior_ids == ()
    assert read.header.control_id == "77"


def test_a_merge_names_the_prior_id() -> None:
    assert read_adt(message(PID, "MRG|12^^^&1.2.3&ISO", kind="ADT^A40^ADT_A39")).prior_ids == (CX("12^^^&1.2.3&ISO"),)


@pytest.mark.parametrize("version", ["2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.8"])
def test_every_version_in_use_is_read(version: str) -> None:
    assert len(read_adt(message(version=version)).patient_ids) == 2


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_segments_may_end_as_files_do(end: str) -> None:
    assert len(read_adt(message().replace(b"\r", end.encode())).patient_ids) == 2


def test_other_segments_may_be_anything() -> None:
    assert len(read_adt(message(PID, "PI?|x", "ZZZ|1", "nonsense", "")).patient_ids) == 2


def test_other_separators_are_understood() -> None:
    sent = b"MSH#*!\\%#A#B#C#D#2026##ADT*A01#77#P#2.5\rPID###4711***%1.2.3%ISO!12***%1.2.4%ISO\r"

    assert read_adt(sent).patient_ids == (CX("4711^^^&1.2.3&ISO"), CX("12^^^&1.2.4&ISO"))


def test_a_message_in_latin_1_is_read_whether_it_says_so_or_not() -> None:
    name = PID.replace("Jane", "Jõgi").encode("latin-1", "replace")
    said = message("x").replace(b"2.3.1", b"2.3.1||||||8859/1").replace(b"x", name)

    for sent in (message("x").replace(b"x\r", name.replace(b"?", b"\xf5") + b"\r"), said):
        assert len(read_adt(sent).patient_ids) == 2


@pytest.mark.parametrize(
    ("sent", "condition", "code"),
    [
        (b"", ConditionCode.SEGMENT_SEQUENCE_ERROR, AcknowledgmentCode.REJECT),
        (b"GET / HTTP/1.1\r\n", ConditionCode.SEGMENT_SEQUENCE_ERROR, AcknowledgmentCode.REJECT),
        (b"MSH", ConditionCode.SEGMENT_SEQUENCE_ERROR, AcknowledgmentCode.REJECT),
        (PID.encode(), ConditionCode.SEGMENT_SEQUENCE_ERROR, AcknowledgmentCode.REJECT),
        (message(version="2.9"), ConditionCode.UNSUPPORTED_VERSION_ID, AcknowledgmentCode.REJECT),
        (message(version=""), ConditionCode.UNSUPPORTED_VERSION_ID, AcknowledgmentCode.REJECT),
        (message(kind="ORU^R01"), ConditionCode.UNSUPPORTED_MESSAGE_TYPE, AcknowledgmentCode.REJECT),
        (message().replace(b"|77|", b"||"), ConditionCode.REQUIRED_FIELD_MISSING, AcknowledgmentCode.ERROR),
        (message().replace(rb"^~\&", b"^^^^", 1), ConditionCode.DATA_TYPE_ERROR, AcknowledgmentCode.REJECT),
        (message(PID, PID), ConditionCode.SEGMENT_SEQUENCE_ERROR, AcknowledgmentCode.ERROR),
        (message("PID|||" + "1~" * 3000), ConditionCode.DATA_TYPE_ERROR, AcknowledgmentCode.ERROR),
        (message(version="2.5||||||EBCDIC"), ConditionCode.DATA_TYPE_ERROR, AcknowledgmentCode.REJECT),
        (
            message(version="2.5||||||UNICODE UTF-8").replace(b"Jane", b"J\xf5gi"),
            ConditionCode.DATA_TYPE_ERROR,
            AcknowledgmentCode.REJECT,
        ),
    ],
    ids=[
        "nothing", "HTTP", "half a header", "no header", "version 2.9", "no version", "a result", "no control id",
        "separators alike", "two patients", "a long segment", "an unknown character set", "not what MSH-18 says",
    ],
)  # fmt: skip
def test_what_can_not_be_read_is_refused(sent: bytes, condition: ConditionCode, code: AcknowledgmentCode) -> None:
    refusal = refusal_of(sent)

    assert (refusal.condition, refusal.code) == (condition, code)


@given(st.binary(max_size=400))
def test_whatever_comes_is_read_or_refused_and_can_be_acknowledged(sent: bytes) -> None:
    refusal = None
    try:
        read_adt(b"MSH|^~\\&|" + sent)
    except MessageRefused as problem:
        refusal = problem

    assert b"\rMSA|A" in acknowledgment(Header.of(sent), refusal, control_id="1", now=NOW)


def test_an_acknowledgment_goes_back_to_the_sender() -> None:
    ack = acknowledgment(Header.of(message()), None, control_id="1", now=NOW)

    assert ack.decode() == ("MSH|^~\\&|TOIMIK|REGION|ADT|HOSPITAL|20260314103015+0000||ACK^A01|1|P|2.3.1\rMSA|AA|77\r")


@pytest.mark.parametrize(
    ("version", "err"),
    [
        ("2.3.1", "ERR|PID^1^3^204&Unknown key identifier&HL70357"),
        ("2.5", "ERR||PID^1^3|204^Unknown key identifier^HL70357|E||||Not known\\T\\here."),
    ],
)
def test_a_refusal_says_where_and_why_as_the_version_has_it(version: str, err: str) -> None:
    refusal = MessageRefused(ConditionCode.UNKNOWN_KEY_IDENTIFIER, "Not known&here.", Place("PID", 3))

    ack = acknowledgment(Header.of(message(version=version)), refusal, control_id="1", now=NOW).decode()

    assert ack.split("\r")[1:] == ["MSA|AE|77|Not known\\T\\here.", err, ""]
