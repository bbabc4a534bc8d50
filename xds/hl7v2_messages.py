"""HL7 v2 messages of patient identity feeds: ADT in, ACK out (ITI TF-2: 3.8, 3.64, C.2).

hl7apy takes messages apart; what a feed is asked for is here. Identifiers keep their escapes: CX is written alike in
HL7 v2 and in XDS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from hl7apy.exceptions import HL7apyException, InvalidEncodingChars, UnsupportedVersion
from hl7apy.parser import parse_message

from xds.hl7v2 import CX

SEPARATORS: Final = r"^~\&"
_LINE_ENDS = re.compile("\r\n|\n")
_HEADER_FIELDS = 18
_LONGEST_SEGMENT = 4096
"""Thousands of repetitions take the library seconds."""

_CHARSETS = {
    "": "utf-8", "ASCII": "utf-8", "UNICODE UTF-8": "utf-8", "UNICODE": "utf-8", "UTF-8": "utf-8",
    **{f"8859/{number}": f"iso8859-{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
}  # fmt: skip


class AcknowledgmentCode(StrEnum):
    """MSA-1 in original mode (HL7 table 0008)."""

    ACCEPT = "AA"
    ERROR = "AE"
    """What the message says can not be; sent again it is refused again."""
    REJECT = "AR"
    """The message is none that is served here, or it can not be served now (HL7 v2.5: 2.9.2)."""


class ConditionCode(StrEnum):
    """What is wrong with a message (HL7 table 0357)."""

    SEGMENT_SEQUENCE_ERROR = "100"
    REQUIRED_FIELD_MISSING = "101"
    DATA_TYPE_ERROR = "102"
    UNSUPPORTED_MESSAGE_TYPE = "200"
    UNSUPPORTED_EVENT_CODE = "201"
    UNSUPPORTED_VERSION_ID = "203"
    UNKNOWN_KEY_IDENTIFIER = "204"
    DUPLICATE_KEY_IDENTIFIER = "205"
    APPLICATION_RECORD_LOCKED = "206"
    APPLICATION_INTERNAL_ERROR = "207"

    @property
    def text(self) -> str:
        """What the table says of it."""
        return self.name.replace("_", " ").capitalize()


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a message something is wrong. field 0: in the segment as a whole."""

    segment: str
    field: int = 0


class MessageRefused(Exception):
    """A message that is answered AE or AR. The text is a sentence for its sender."""

    def __init__(
        self,
        condition: ConditionCode,
        sentence: str,
        place: Place | None = None,
        code: AcknowledgmentCode = AcknowledgmentCode.ERROR,
    ) -> None:
        super().__init__(sentence)
        self.condition = condition
        self.place = place
        self.code = code


@dataclass(frozen=True, slots=True)
class Header:
    """What of MSH an acknowledgment repeats; all of it as sent, "" where it was not.

    version   MSH-12
    """

    field_separator: str = "|"
    encoding_characters: str = SEPARATORS
    sending: tuple[str, str] = ("", "")
    receiving: tuple[str, str] = ("", "")
    message_type: str = ""
    control_id: str = ""
    processing_id: str = "P"
    version: str = ""

    @classmethod
    def of(cls, message: bytes) -> Header:
        """As much as can be told from the beginning of a message, whatever it is."""
        line = re.split(r"[\r\n]", message[:4096].decode("utf-8", "replace"), maxsplit=1)[0]
        if not line.startswith("MSH") or len(line) < 8 or line[3].isalnum():
            return cls()
        fields = [line[3], *line[4:].split(line[3])]
        fields += [""] * (_HEADER_FIELDS - len(fields))
        return cls(
            fields[0],
            fields[1] or SEPARATORS,
            (fields[2], fields[3]),
            (fields[4], fields[5]),
            fields[8],
            fields[9],
            fields[10] or "P",
            fields[11],
        )

    @property
    def trigger_event(self) -> str:
        """MSH-9.2: A01."""
        parts = self.message_type.split(self.encoding_characters[0])
        return parts[1] if len(parts) > 1 else ""


@dataclass(frozen=True, slots=True)
class AdtMessage:
    """A message of a patient identity feed.

    trigger_event   A01
    patient_ids     PID-3, every repetition
    prior_ids       MRG-1, every repetition; empty where there is no MRG
    """

    header: Header
    trigger_event: str
    patient_ids: tuple[CX, ...]
    prior_ids: tuple[CX, ...] = ()


def read_adt(message: bytes) -> AdtMessage:
    """A message, taken apart.

    Raises MessageRefused.
    """
    header = Header.of(message)
    parsed = _parsed(_of_interest(_decoded(message, header)))
    kind = header.message_type.split(header.encoding_characters[0])
    if kind[0] != "ADT":
        raise _rejected(
            ConditionCode.UNSUPPORTED_MESSAGE_TYPE, f"MSH-9 is {header.message_type!r}; send an ADT message.", 9
        )
    if not header.control_id:
        raise MessageRefused(
            ConditionCode.REQUIRED_FIELD_MISSING, "MSH-10 is empty; send a message control id.", Place("MSH", 10)
        )
    segments: dict[str, list[Any]] = {}
    for segment in parsed.children:
        segments.setdefault(segment.name, []).append(segment)
    for name in ("PID", "MRG"):
        if len(segments.get(name, ())) > 1:
            raise MessageRefused(
                ConditionCode.SEGMENT_SEQUENCE_ERROR,
                f"There are {len(segments[name])} {name} segments; send one message for each patient.",
                Place(name),
            )
    return AdtMessage(
        header,
        header.trigger_event,
        _identifiers(segments.get("PID", ()), "pid_3", header),
        _identifiers(segments.get("MRG", ()), "mrg_1", header),
    )


def _decoded(message: bytes, header: Header) -> str:
    line = message[:4096].decode("latin-1").split("\r", 1)[0].split(header.field_separator)
    named = line[17].split("~")[0].strip() if len(line) > 17 else ""
    charset = _CHARSETS.get(named.upper())
    if charset is None:
        raise _rejected(
            ConditionCode.DATA_TYPE_ERROR, f"MSH-18 is {named!r}; send UNICODE UTF-8, ASCII or 8859/1 to 8859/15.", 18
        )
    try:
        return message.decode(charset)
    except UnicodeDecodeError:
        if named:
            raise _rejected(
                ConditionCode.DATA_TYPE_ERROR, f"The message is not in the character set of MSH-18, {named}.", 18
            ) from None
        return message.decode("latin-1")  # many senders do not say what they write


def _of_interest(text: str) -> str:
    """The segments that are looked at. Others may be anything, and taking them apart takes its time.

    Raises MessageRefused where one of them is longer than any patient needs.
    """
    segments = [each for each in _LINE_ENDS.sub("\r", text).split("\r") if each[:3] in ("MSH", "PID", "MRG")]
    for each in segments:
        if len(each) > _LONGEST_SEGMENT:
            raise MessageRefused(
                ConditionCode.DATA_TYPE_ERROR,
                f"The segment has {len(each)} characters; send at most {_LONGEST_SEGMENT}.",
                Place(each[:3]),
            )
    return "".join(f"{each}\r" for each in segments)


def _parsed(text: str) -> Any:
    """The message as hl7apy has it: segments in their order, with no regard to groups."""
    try:
        return parse_message(text, find_groups=False)
    except UnsupportedVersion:
        raise _rejected(
            ConditionCode.UNSUPPORTED_VERSION_ID, "MSH-12 is no version of HL7 that is read here; send 2.3.1.", 12
        ) from None
    except InvalidEncodingChars:
        raise _rejected(
            ConditionCode.DATA_TYPE_ERROR, r"MSH-2 does not hold four different characters; send ^~\&.", 2
        ) from None
    except HL7apyException as problem:
        raise MessageRefused(
            ConditionCode.SEGMENT_SEQUENCE_ERROR,
            f"This is no HL7 v2 message ({problem}); send segments that end with a carriage return, MSH first.",
            code=AcknowledgmentCode.REJECT,
        ) from None


def _rejected(condition: ConditionCode, sentence: str, field: int) -> MessageRefused:
    return MessageRefused(condition, sentence, Place("MSH", field), AcknowledgmentCode.REJECT)


def _identifiers(segments: Iterable[Any], field: str, header: Header) -> tuple[CX, ...]:
    ours = str.maketrans(header.encoding_characters[:4].ljust(4), SEPARATORS)
    texts = (repetition.to_er7().translate(ours) for segment in segments for repetition in getattr(segment, field))
    return tuple(CX(text.strip()) for text in texts if text.strip())


def acknowledgment(header: Header, refusal: MessageRefused | None, *, control_id: str, now: datetime) -> bytes:
    """The ACK to a message in original mode: AA, or why it is refused (HL7 v2.5: 2.9.2, 2.15.5).

    control_id   of the acknowledgment itself
    """
    accepts = refusal is None
    code = AcknowledgmentCode.ACCEPT if refusal is None else refusal.code
    time = now.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
    trigger = header.trigger_event
    kind = "ACK" if not trigger else rf"ACK^{trigger}" if _is_old(header) else rf"ACK^{trigger}^ACK"
    lines = [
        ["MSH", SEPARATORS, *header.receiving, *header.sending, time, "", kind, control_id, header.processing_id,
         header.version or "2.3.1"],
        ["MSA", code.value, header.control_id, *([] if accepts else [_escaped(str(refusal))[:80]])],
    ]  # fmt: skip
    if refusal is not None:
        lines.append(_err(refusal, header))
    return "".join("|".join(line) + "\r" for line in lines).encode()


def _err(refusal: MessageRefused, header: Header) -> list[str]:
    condition = refusal.condition
    coded = f"{condition.value}^{condition.text}^HL70357"
    place = refusal.place
    if _is_old(header):  # one field: segment^sequence^field^code&text&table (HL7 v2.3.1: 2.24.2)
        where = f"{place.segment}^1^{place.field or ''}" if place else "^^"
        return ["ERR", f"{where}^{coded.replace('^', '&')}"]
    where = "" if place is None else f"{place.segment}^1" + (f"^{place.field}" if place.field else "")
    return ["ERR", "", where, coded, "E", "", "", "", _escaped(str(refusal))]


def _is_old(header: Header) -> bool:
    """Whether the version is before 2.5, where ERR was made anew."""
    return header.version.split("^")[0] < "2.5"


def _escaped(text: str) -> str:
    return (
        text.replace("\\", r"\E\ ".strip())
        .replace("|", r"\F\ ".strip())
        .replace("^", r"\S\ ".strip())
        .replace("&", r"\T\ ".strip())
        .replace("~", r"\R\ ".strip())
        .replace("\r", " ")
        .replace("\n", " ")
    )
