"""MTOM: a SOAP envelope and the documents it refers to, as one multipart/related message.

The reader takes a message in chunks as they arrive and holds no more of it than a chunk, one part's headers
or one boundary line. The writer knows every length beforehand, so that an answer carries a Content-Length.

ITI TF-2: Appendix V (web services), for Provide and Register Document Set-b [ITI-41] and Retrieve Document
Set [ITI-43]. Multipart syntax is RFC 2046 section 5.1, multipart/related is RFC 2387, cid: is RFC 2392, the
package is XML-binary Optimized Packaging (XOP).
"""

import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, unquote
from uuid import uuid4

from xds.actors import MessageBroken

XOP_NAMESPACE: Final = "http://www.w3.org/2004/08/xop/include"
XOP_MEDIA_TYPE: Final = "application/xop+xml"
SOAP_MEDIA_TYPE: Final = "application/soap+xml"
MULTIPART_RELATED: Final = "multipart/related"

EXAMPLE_CONTENT_TYPE: Final = (
    f'{MULTIPART_RELATED}; boundary="MIMEBoundary_1f0c"; type="{XOP_MEDIA_TYPE}"; '
    f'start="<envelope@example.org>"; start-info="{SOAP_MEDIA_TYPE}"'
)

# RFC 2046 ends boundaries at 70 characters. Longer ones do no harm, as long as there is an end.
_LONGEST_BOUNDARY: Final = 256
_WHITE_SPACE: Final = b" \t\r\n"
# What follows the boundary in its line; padding is endured to a length that no sender needs.
_REST_OF_LINE: Final = re.compile(rb"(--)?[ \t]{0,256}(\r?\n)")
_BEGUN_REST_OF_LINE: Final = re.compile(rb"-{0,2}[ \t]{0,256}\r?")
_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")
_FOLDED_LINE: Final = re.compile(rb"\r?\n[ \t]+")
_PARAMETER: Final = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^;]*))', re.DOTALL)
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)


class MultipartProblem(MessageBroken):
    """A message that can not be read as MTOM. The text is a sentence that says what to change."""


# ---------------------------------------------------------------------------------------------- media types


@dataclass(frozen=True, slots=True)
class MediaType:
    """A Content-Type, taken apart.

    name        in lower case, without parameters: "multipart/related"
    parameters  by name in lower case; values as sent, without quotes
    """

    name: str
    parameters: Mapping[str, str]


def media_type(value: str) -> MediaType:
    """Read a Content-Type as generously as it can be understood.

    Values may be quoted or not (an unquoted one ends at the next semicolon, whatever it contains), the first
    of several parameters of one name counts, and what is no parameter is passed over.
    """
    parameters: dict[str, str] = {}
    for name, quoted, bare in _PARAMETER.findall(value):
        parameters.setdefault(name.lower(), _QUOTED_PAIR.sub(r"\1", quoted or bare).strip())
    return MediaType(value.partition(";")[0].strip().lower(), MappingProxyType(parameters))


def action_of(content_type: str) -> str | None:
    """The SOAP action that an HTTP Content-Type names, in any of the places where senders put it."""
    parameters = media_type(content_type).parameters
    if parameters.get("action"):
        return parameters["action"]
    for name in ("start-info", "type"):
        inner = media_type(parameters.get(name, "")).parameters.get("action")
        if inner:
            return inner
    return None


# ---------------------------------------------------------------------------------------------- Content-IDs


def content_id_of(href: str) -> str:
    """The Content-ID an xop:Include refers to: URL-decoded, without angle brackets.

    Raises MultipartProblem for all but cid: references, which is to say that nothing outside of the message
    is ever fetched.
    """
    scheme, _, reference = href.strip().partition(":")
    if scheme.lower() != "cid":
        raise MultipartProblem(
            f"The href of an xop:Include has to be 'cid:' and the Content-ID of a part of the same message; "
            f"{_shown(href)} is not, and is not fetched."
        )
    content_id = _without_brackets(unquote(reference))
    if not content_id:
        raise MultipartProblem(
            f"The href of an xop:Include, {_shown(href)}, names no Content-ID; "
            'write for example href="cid:document1@example.org".'
        )
    return content_id


def href_of(content_id: str) -> str:
    """The href of the xop:Include that refers to this Content-ID."""
    return "cid:" + quote(content_id, safe="@:!$'()*+,;=~")


def _without_brackets(content_id: str) -> str:
    content_id = content_id.strip()
    if content_id.startswith("<") and content_id.endswith(">"):
        content_id = content_id[1:-1].strip()
    return content_id


def _shown(value: str | bytes, longest: int = 120) -> str:
    """A sender's value inside a sentence: quoted, on one line, of bearable length."""
    if isinstance(value, bytes):
        value = value[: longest + 1].decode("utf-8", "replace")
    cut = value if len(value) <= longest else value[:longest] + "..."
    return repr(cut)


# ----------------------------------------------------------------------------------------------- the reader


@dataclass(frozen=True, slots=True)
class MultipartLimits:
    """How much of a message is accepted besides the content of its parts, which the caller measures.

    header_bytes       the headers of one part
    parts              parts of one message
    surrounding_bytes  text before the first and after the last boundary (each)
    """

    header_bytes: int = 16 * 1024
    parts: int = 2000
    surrounding_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class PartHeader:
    """What stands above a part.

    content_id         as given, without angle brackets; None where there is none
    content_type       as given; "" where there is none
    transfer_encoding  in lower case; already undone in the data
    is_root            this part is the envelope
    index              0 for the first part of the message
    """

    content_id: str | None
    content_type: str
    transfer_encoding: str
    is_root: bool
    index: int

    @property
    def names(self) -> tuple[str, ...]:
        """What a reference may call this part. Some senders URL-encode the header as well as the href."""
        return () if self.content_id is None else (self.content_id, unquote(self.content_id))

    def is_named(self, content_id: str) -> bool:
        """Whether a reference means this part."""
        return content_id in self.names


@dataclass(frozen=True, slots=True)
class PartStarted:
    """The headers of a part have been read."""

    part: PartHeader


@dataclass(frozen=True, slots=True)
class PartData:
    """Some more content of the part that started last; never empty."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The part that started last is complete."""


Event = PartStarted | PartData | PartEnded


class MultipartReader:
    """Reads one multipart/related message, fed in chunks of any length.

        reader = MultipartReader(content_type)
        for chunk in chunks:
            for event in reader.feed(chunk): ...
        for event in reader.finish(): ...

    The line end of the first boundary line is taken for the line end of all of them: CRLF, as it has to be,
    or LF alone from senders who know no better. After a MultipartProblem the reader is of no further use.
    """

    def __init__(self, content_type: str, *, limits: MultipartLimits | None = None) -> None:
        """Raises MultipartProblem when the Content-Type is not one of a multipart/related message."""
        declared = media_type(content_type)
        self._start = _without_brackets(declared.parameters.get("start", ""))
        self._limits = limits or MultipartLimits()
        self._dashes = b"--" + _usable_boundary(content_type, declared)
        self._line_end = b"\r\n"
        self._step: Callable[[bytes, int], int] = self._first_line
        self._events: list[Event] = []
        self._held = b""
        self._received = 0
        self._surrounding = 0
        self._part: PartHeader | None = None
        self._part_bytes = 0
        self._ends_with_cr = False
        self._base64: _Base64 | None = None
        self._part_count = 0
        self._content_ids: dict[str, None] = {}  # in order
        self._root_seen = False

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes of the message and tell what they bring. Raises MultipartProblem."""
        self._received += len(data)
        if self._held:
            data = self._held + data
        self._events = []
        at = 0
        while True:
            step = self._step
            at = step(data, at)
            if self._step is step:  # it has taken what it can
                break
        self._held = data[at:]
        return self._events

    def finish(self) -> list[Event]:
        """Say that the message has ended. Raises MultipartProblem when it ended too early."""
        # Many a sender leaves out the line end after the closing boundary.
        closed = self._held.rstrip(b" \t\r").endswith(self._dashes + b"--")
        events = self.feed(b"\n") if closed else []
        if self._step != self._epilogue:
            raise MultipartProblem(self._truncation())
        return events

    # Each step takes data from a place on, and returns the place from which on it has to see it again.
    # A step that has replaced self._step is done; one that has not waits for more.

    def _first_line(self, data: bytes, at: int) -> int:
        """A message usually begins with its first boundary line, which has no line end before it."""
        decided, line = self._boundary_line_at(data, at)
        if line:
            return self._after_first_boundary(line)
        if decided:
            self._step = self._preamble
        return at

    def _preamble(self, data: bytes, at: int) -> int:
        end, line = self._next_boundary(data, at, b"\n")
        self._pass_over(end - at, "before the first boundary line")
        if line is None:
            return end
        return self._after_first_boundary(line)

    def _after_first_boundary(self, line: re.Match[bytes]) -> int:
        self._line_end = line[2]
        return self._after_boundary(line)

    def _after_boundary(self, line: re.Match[bytes]) -> int:
        self._surrounding = 0
        if line[1]:
            self._check_complete()
            self._step = self._epilogue
            return line.end()
        self._step = self._headers
        # The line end is left in place, so that a part without headers begins with an empty line, too.
        return line.end() - 1

    def _headers(self, data: bytes, at: int) -> int:
        empty_line = _EMPTY_LINE.search(data, at)
        block = data[at : empty_line.start() if empty_line else len(data)]
        number = self._part_count + 1
        if b"\n" + self._dashes in block:
            raise MultipartProblem(
                f"Part {number} has no empty line between its headers and its content; put one there."
            )
        if len(block) > self._limits.header_bytes:
            raise MultipartProblem(
                f"The headers of part {number} are longer than {self._limits.header_bytes} bytes, the limit here; "
                "an empty line between headers and content may be missing."
            )
        if empty_line is None:
            return at
        self._start_part(block)
        self._step = self._first_content
        return empty_line.end()

    def _first_content(self, data: bytes, at: int) -> int:
        """The empty line's own line end may belong to a boundary already: then the part has no content."""
        decided, line = self._boundary_line_at(data, at)
        if line:
            return self._end_part(line)
        if decided:
            self._step = self._content
        return at

    def _content(self, data: bytes, at: int) -> int:
        end, line = self._next_boundary(data, at, self._line_end)
        if end > at:
            self._add_content(data[at:end])
        if line is None:
            return end
        if self._ends_with_cr and self._line_end == b"\n":
            raise MultipartProblem(
                f"Line ends are mixed: the first boundary line ends with LF, but there is a CR before the one "
                f"that ends part {self._part_count}. End every boundary and header line with CRLF."
            )
        return self._end_part(line)

    def _epilogue(self, data: bytes, at: int) -> int:
        self._pass_over(len(data) - at, "after the closing boundary line")
        return len(data)

    def _next_boundary(self, data: bytes, at: int, line_end: bytes) -> tuple[int, re.Match[bytes] | None]:
        """Where the content from here on ends, as far as that can be seen, and the boundary line that ends it.

        The line end before a boundary line belongs to the boundary (RFC 2046 section 5.1.1). A line that
        merely begins like a boundary is content.
        """
        delimiter = line_end + self._dashes
        search_from = at
        while (found := data.find(delimiter, search_from)) >= 0:
            decided, line = self._boundary_line_at(data, found + len(line_end))
            if line or not decided:
                return found, line
            search_from = found + len(delimiter)
        # A delimiter has one line end, at its beginning; so only the last one in sight may begin another.
        tail = data.rfind(line_end[:1], max(search_from, len(data) - len(delimiter) + 1))
        if tail >= 0 and delimiter.startswith(data[tail:]):
            return tail, None
        return len(data), None

    def _boundary_line_at(self, data: bytes, at: int) -> tuple[bool, re.Match[bytes] | None]:
        """Whether enough has arrived to tell if a boundary line begins here, and the line if one does."""
        begun = data[at : at + len(self._dashes)]
        if begun != self._dashes:
            return not self._dashes.startswith(begun), None
        line = _REST_OF_LINE.match(data, at + len(begun))
        return line is not None or not _BEGUN_REST_OF_LINE.fullmatch(data, at + len(begun)), line

    def _start_part(self, block: bytes) -> None:
        index = self._part_count
        if index >= self._limits.parts:
            raise MultipartProblem(f"The message has more than {self._limits.parts} parts, the limit here.")
        headers = _headers_in(block, index + 1)
        content_id = _without_brackets(headers.get("content-id", "")) or None
        if content_id is not None:
            if content_id in self._content_ids:
                raise MultipartProblem(f"Two parts have the Content-ID {_shown(content_id)}; give each part its own.")
            self._content_ids[content_id] = None
        encoding = headers.get("content-transfer-encoding", "").lower() or "binary"
        self._base64 = _decoder(encoding, index + 1)
        is_root = not self._root_seen and (index == 0 if not self._start else self._is_start(content_id))
        self._root_seen = self._root_seen or is_root
        self._part_count += 1
        self._part = PartHeader(content_id, headers.get("content-type", ""), encoding, is_root, index)
        self._part_bytes = 0
        self._ends_with_cr = False
        self._events.append(PartStarted(self._part))

    def _is_start(self, content_id: str | None) -> bool:
        if content_id is None:
            return False
        start = self._start
        return content_id in (start, unquote(start)) or unquote(content_id) == start

    def _add_content(self, content: bytes) -> None:
        self._part_bytes += len(content)
        self._ends_with_cr = content.endswith(b"\r")
        if self._base64 is not None:
            content = self._base64.decode(content)
        if content:
            self._events.append(PartData(content))

    def _end_part(self, line: re.Match[bytes]) -> int:
        if self._base64 is not None:
            self._base64.finish()
        self._part = None
        self._events.append(PartEnded())
        return self._after_boundary(line)

    def _pass_over(self, count: int, where: str) -> None:
        self._surrounding += count
        if self._surrounding > self._limits.surrounding_bytes:
            raise MultipartProblem(
                f"There are more than {self._limits.surrounding_bytes} bytes {where} "
                f"{_shown(self._dashes)}. Compare the boundary parameter of Content-Type with the message."
            )

    def _check_complete(self) -> None:
        if self._part_count == 0:
            raise MultipartProblem("The multipart message has no parts; the first has to be the SOAP envelope.")
        if not self._root_seen:
            seen = ", ".join(_shown(known) for known in islice(self._content_ids, 10)) or "none"
            raise MultipartProblem(
                f"The start parameter of Content-Type names the part {_shown(self._start)}, but the Content-IDs "
                f"in the message are: {seen}. Name the part that holds the SOAP envelope, or leave start out "
                "where that is the first part."
            )

    def _truncation(self) -> str:
        arrived = f"The message ended after {self._received} bytes"
        closing = f"the closing boundary line {_shown(self._dashes + b'--')}"
        if self._part is not None:
            named = f" (Content-ID {_shown(self._part.content_id)})" if self._part.content_id else ""
            return (
                f"{arrived}, inside part {self._part.index + 1}{named}, of which {self._part_bytes} bytes had "
                f"arrived, and before {closing}. It was cut off on the way, or that line is missing."
            )
        if self._part_count or self._step == self._headers:
            return f"{arrived}, inside the headers of part {self._part_count + 1} and before {closing}."
        return (
            f"{arrived} without a boundary line. The boundary parameter of Content-Type says that one reads "
            f"{_shown(self._dashes)}. A correct example: Content-Type: {EXAMPLE_CONTENT_TYPE}, and the message "
            "begins with the line --MIMEBoundary_1f0c"
        )


def _usable_boundary(content_type: str, declared: MediaType) -> bytes:
    example = f"A correct example: Content-Type: {EXAMPLE_CONTENT_TYPE}"
    if declared.name != MULTIPART_RELATED:
        raise MultipartProblem(
            f"The Content-Type of an MTOM message has to be {MULTIPART_RELATED}, but is {_shown(content_type)}. "
            + example
        )
    boundary = declared.parameters.get("boundary", "")
    if not boundary:
        raise MultipartProblem(f"Content-Type has no boundary parameter. {example}")
    encoded = boundary.encode("utf-8", "surrogateescape")
    if len(encoded) > _LONGEST_BOUNDARY or not boundary.isprintable():
        raise MultipartProblem(
            f"The boundary parameter of Content-Type, {_shown(boundary)}, has to be 1 to 70 printable characters. "
            + example
        )
    return encoded


def _headers_in(block: bytes, number: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw in _FOLDED_LINE.sub(b" ", block).split(b"\n"):
        line = raw.strip(_WHITE_SPACE)
        if not line:
            continue
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if not colon:
            raise MultipartProblem(
                f"In the headers of part {number} stands {_shown(line)}, which is no header; "
                "between headers and content there has to be an empty line."
            )
        headers.setdefault(name.strip().lower(), value.strip())
    return headers


class _Base64:
    """Undoes base64 as it arrives, holding back at most three characters."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._held = b""
        self._ended = False

    def decode(self, data: bytes) -> bytes:
        characters = self._held + data.translate(None, _WHITE_SPACE)
        usable = len(characters) - len(characters) % 4
        self._held = characters[usable:]
        if not characters:
            return b""
        if self._ended:
            raise self._problem("has characters after the '=' that ends it")
        whole = characters[:usable]
        self._ended = whole.endswith(b"=")
        try:
            return binascii.a2b_base64(whole, strict_mode=True)
        except binascii.Error as error:
            raise self._problem("is not base64") from error

    def finish(self) -> None:
        if self._held:
            raise self._problem("is not base64 of full length: it does not end on a group of four characters")

    def _problem(self, what: str) -> MultipartProblem:
        return MultipartProblem(f"Part {self._number} says Content-Transfer-Encoding: base64, but its content {what}.")


def _decoder(encoding: str, number: int) -> _Base64 | None:
    """What undoes a Content-Transfer-Encoding; None where there is nothing to undo."""
    if encoding in ("7bit", "8bit", "binary"):
        return None
    if encoding == "base64":
        return _Base64(number)
    raise MultipartProblem(
        f"Part {number} has Content-Transfer-Encoding {_shown(encoding)}, which is not read here; "
        "send the part as binary, 8bit, 7bit or base64."
    )


# ----------------------------------------------------------------------------------------------- the writer


@dataclass(frozen=True, slots=True)
class PartToWrite:
    """A document to be sent.

    content_id    without angle brackets
    content_type  the document's mimeType
    size          octets
    """

    content_id: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Package:
    """A multipart/related message to be sent: head(), then part_head(i) and content for each part, then tail().

    root      the SOAP envelope
    action    repeated in the Content-Type, where the SOAP 1.2 HTTP binding has it; optional
    boundary  must occur in no content, which 122 random bits ensure without looking
    """

    root: bytes
    parts: Sequence[PartToWrite] = ()
    action: str | None = None
    boundary: str = field(default_factory=lambda: f"MIMEBoundary_{uuid4().hex}")
    root_content_id: str = "envelope@toimik"

    @property
    def content_type(self) -> str:
        """The Content-Type of the HTTP message."""
        parameters = {
            "boundary": self.boundary,
            "type": XOP_MEDIA_TYPE,
            "start": f"<{self.root_content_id}>",
            "start-info": SOAP_MEDIA_TYPE,
        }
        if self.action:
            parameters["action"] = self.action
        return "; ".join([MULTIPART_RELATED, *(f"{name}={_quoted(value)}" for name, value in parameters.items())])

    @property
    def content_length(self) -> int:
        """Octets of the whole message."""
        heads = sum(len(self.part_head(index)) for index in range(len(self.parts)))
        return len(self.head()) + heads + sum(part.size for part in self.parts) + len(self.tail())

    def head(self) -> bytes:
        """All up to and including the envelope."""
        kind = f'{XOP_MEDIA_TYPE}; charset=UTF-8; type="{SOAP_MEDIA_TYPE}"'
        return self._heading("", kind, self.root_content_id) + self.root

    def part_head(self, index: int) -> bytes:
        """What goes before the content of a part."""
        part = self.parts[index]
        return self._heading("\r\n", part.content_type, part.content_id)

    def tail(self) -> bytes:
        """What goes after the last content."""
        return f"\r\n--{self.boundary}--\r\n".encode()

    def _heading(self, line_end: str, content_type: str, content_id: str) -> bytes:
        return (
            f"{line_end}--{self.boundary}\r\n"
            f"Content-Type: {_header_value(content_type)}\r\n"
            "Content-Transfer-Encoding: binary\r\n"
            f"Content-ID: <{_header_value(content_id)}>\r\n"
            "\r\n"
        ).encode()


def _quoted(value: str) -> str:
    return '"' + _header_value(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _header_value(value: str) -> str:
    """The value itself. A line end in it would begin a header of somebody else's choosing."""
    if not value.isprintable():
        raise ValueError(f"{_shown(value)} can not stand in a header")
    return value
