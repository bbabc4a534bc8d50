"""What MTOM messages promise: any legal multipart/related is read, and what is written is one."""

import base64
import tracemalloc
from collections.abc import Iterable, Iterator
from email import policy
from email.parser import BytesParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.mtom import (
    EXAMPLE_CONTENT_TYPE,
    MultipartLimits,
    MultipartProblem,
    MultipartReader,
    Package,
    PartData,
    PartEnded,
    PartHeader,
    PartStarted,
    PartToWrite,
    action_of,
    content_id_of,
    href_of,
    media_type,
)

CONTENT_TYPE = 'multipart/related; boundary="b1"; type="application/xop+xml"; start="<root@x>"'


def chunks_of(message: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(message), size):
        yield message[at : at + size]


def parts_of(
    content_type: str, chunks: Iterable[bytes], limits: MultipartLimits | None = None
) -> list[tuple[PartHeader, bytes]]:
    """What the reader makes of a message; its events have to come in the only order that makes sense."""
    reader = MultipartReader(content_type, limits=limits)
    events = [event for chunk in chunks for event in reader.feed(chunk)] + reader.finish()
    parts: list[tuple[PartHeader, bytes]] = []
    content: bytearray | None = None
    for event in events:
        match event:
            case PartStarted(part):
                assert content is None
                header, content = part, bytearray()
            case PartData(data):
                assert content is not None
                assert data
                content += data
            case PartEnded():
                assert content is not None
                parts.append((header, bytes(content)))
                content = None
    assert content is None
    return parts


def problem_of(content_type: str, message: bytes, limits: MultipartLimits | None = None) -> str:
    with pytest.raises(MultipartProblem) as caught:
        parts_of(content_type, [message], limits)
    return str(caught.value)


def message_of(*parts: str, boundary: str = "b1") -> bytes:
    """A message of parts that are written with their headers."""
    return "".join(f"--{boundary}\r\n{part}\r\n" for part in parts).encode() + f"--{boundary}--\r\n".encode()


ROOT = "Content-Type: application/xop+xml\r\nContent-ID: <root@x>\r\n\r\n<e/>"
DOCUMENT = "Content-Type: text/plain\r\nContent-ID: <doc@x>\r\n\r\nhello"


# ---------------------------------------------------------------------------------------------- media types


@pytest.mark.parametrize(
    ("value", "name", "parameters"),
    [
        ("text/xml", "text/xml", {}),
        ("", "", {}),
        ("Multipart/Related;Boundary=abc", "multipart/related", {"boundary": "abc"}),
        ("multipart/related ; boundary = abc ;", "multipart/related", {"boundary": "abc"}),
        ('a/b; boundary="uuid:1+2=3/4?5"', "a/b", {"boundary": "uuid:1+2=3/4?5"}),
        ("a/b; boundary=uuid:1+2=3/4?5; x=y", "a/b", {"boundary": "uuid:1+2=3/4?5", "x": "y"}),
        ("a/b; start=<root@example.org>;type=c/d", "a/b", {"start": "<root@example.org>", "type": "c/d"}),
        (r'a/b; type="c/d; action=\"urn:x\"; e"; f=g', "a/b", {"type": 'c/d; action="urn:x"; e', "f": "g"}),
        ('a/b; boundary="no end', "a/b", {"boundary": "no end"}),
        ('a/b; x="";; y ;z=1', "a/b", {"x": "", "z": "1"}),
        ("a/b; x=first; X=second", "a/b", {"x": "first"}),
        ("a/b;\r\n\tboundary=folded", "a/b", {"boundary": "folded"}),
        ("a/b; start='quote'", "a/b", {"start": "'quote'"}),
    ],
)
def test_a_content_type_is_read_however_it_is_quoted(value: str, name: str, parameters: dict[str, str]) -> None:
    read = media_type(value)

    assert (read.name, dict(read.parameters)) == (name, parameters)


@pytest.mark.parametrize(
    "value",
    [
        'application/soap+xml; charset=UTF-8; action="urn:a:b"',
        "application/soap+xml;action=urn:a:b",
        'multipart/related; start-info="application/soap+xml"; action="urn:a:b"',
        r'multipart/related; start-info="application/soap+xml; action=\"urn:a:b\""',
        r'application/xop+xml; type="application/soap+xml;action=\"urn:a:b\""',
    ],
)
def test_the_action_is_found_wherever_senders_put_it(value: str) -> None:
    assert action_of(value) == "urn:a:b"


def test_a_content_type_without_action_has_none() -> None:
    assert action_of('multipart/related; start-info="application/soap+xml"; action=""') is None


# ---------------------------------------------------------------------------------------------- Content-IDs


@pytest.mark.parametrize(
    ("href", "content_id"),
    [
        ("cid:doc@x", "doc@x"),
        ("cid:doc%40x", "doc@x"),
        ("cid:<doc@x>", "doc@x"),
        ("cid:%3Cdoc@x%3E", "doc@x"),
        (" CID:urn:uuid:1%2B2+3 ", "urn:uuid:1+2+3"),
    ],
)
def test_an_xop_href_names_a_content_id(href: str, content_id: str) -> None:
    assert content_id_of(href) == content_id


@pytest.mark.parametrize(
    "href", ["http://example.org/doc", "file:///etc/passwd", "doc@x", "", "//cid:a", "cid:", "cid:<>"]
)
def test_an_xop_href_that_is_not_cid_is_refused_and_shown(href: str) -> None:
    with pytest.raises(MultipartProblem) as caught:
        content_id_of(href)

    assert repr(href) in str(caught.value)
    assert "xop:Include" in str(caught.value)


@pytest.mark.parametrize("content_id", ["100%25@x", "a b<c>@x", "urn:uuid:1#2?3&4"])
def test_the_href_of_an_odd_content_id_names_it(content_id: str) -> None:
    assert content_id_of(href_of(content_id)) == content_id


@given(st.text(min_size=1).filter(lambda text: text == text.strip() and not text.startswith("<")))
def test_the_href_written_for_a_content_id_names_it(content_id: str) -> None:
    assert content_id_of(href_of(content_id)) == content_id


# ----------------------------------------------------------------------------------------------- the reader


def test_parts_come_with_their_headers_and_content() -> None:
    parts = parts_of(CONTENT_TYPE, [message_of(ROOT, DOCUMENT)])

    assert parts == [
        (PartHeader("root@x", "application/xop+xml", "binary", is_root=True, index=0), b"<e/>"),
        (PartHeader("doc@x", "text/plain", "binary", is_root=False, index=1), b"hello"),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
@pytest.mark.parametrize(
    "message",
    [
        pytest.param(message_of(ROOT, DOCUMENT), id="plain"),
        pytest.param(b"preamble\r\n--b1 no\r\n\r\n" + message_of(ROOT, DOCUMENT), id="preamble"),
        pytest.param(b"\r\n" + message_of(ROOT, DOCUMENT), id="line end first"),
        pytest.param(b"--b11\n--b1-\n" + message_of(ROOT, DOCUMENT), id="near-boundary first"),
        pytest.param(message_of(ROOT, DOCUMENT) + b"epilogue\r\n--b1\r\n\r\nnot a part", id="epilogue"),
        pytest.param(message_of(ROOT, DOCUMENT)[:-2], id="no last line end"),
        pytest.param(message_of(ROOT, DOCUMENT)[:-2] + b" \t\r", id="padding at the end"),
        pytest.param(message_of(ROOT, DOCUMENT).replace(b"--b1\r", b"--b1 \t \r"), id="padding"),
        pytest.param(message_of(ROOT, DOCUMENT).replace(b"\r\n", b"\n"), id="LF everywhere"),
        pytest.param(message_of(ROOT.replace("\r\n", "\n"), DOCUMENT.replace("\r\n", "\n")), id="LF in headers"),
        pytest.param(message_of(ROOT.replace("Content-ID:", "CONTENT-id \t:\r\n\t"), DOCUMENT), id="folded header"),
    ],
)
def test_what_senders_do_around_the_parts_does_not_matter(message: bytes, size: int) -> None:
    parts = parts_of(CONTENT_TYPE, chunks_of(message, size))

    assert [(header.content_id, content) for header, content in parts] == [
        ("root@x", b"<e/>"),
        ("doc@x", b"hello"),
    ]


@pytest.mark.parametrize("size", [1, 3, 4096])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b"--b1x",
        b"--b",
        b"a\r\n--b",
        b"a\r\n--b1x\r\nb",
        b"a\r\n--b1-\r\nb",
        b"a\r\n--b1--x\r\nb",
        b"a\r\n--b1 x\r\nb",
        b"a\r\n--b1" + b" " * 300 + b"\r\nb",
        b"a\r\n--b1 \rb",
        b"a\n--b1\r\nb",
        b"a\r\r\n\r\n--B1\r\n",
        b"\r\n--\r\n--b\r\n--b0",
    ],
)
def test_content_that_looks_almost_like_a_boundary_is_content(content: bytes, size: int) -> None:
    head, tail = message_of(ROOT, DOCUMENT).split(b"hello")

    parts = parts_of(CONTENT_TYPE, chunks_of(head + content + tail, size))

    assert parts[1][1] == content


@pytest.mark.parametrize("size", [1, 4096])
def test_a_part_may_have_neither_headers_nor_content(size: int) -> None:
    message = b"--b1\r\n\r\n--b1\r\nX: y\r\n\r\n--b1\r\n\r\n\r\n--b1--"

    parts = parts_of("multipart/related; boundary=b1", chunks_of(message, size))

    assert [(header.content_id, header.content_type, content) for header, content in parts] == [(None, "", b"")] * 3


def test_content_is_passed_on_as_it_arrives() -> None:
    reader = MultipartReader(CONTENT_TYPE)
    reader.feed(message_of(ROOT, DOCUMENT).split(b"hello")[0])

    assert reader.feed(b"some content") == [PartData(b"some content")]
    assert reader.feed(b"more\r\n--b") == [PartData(b"more")]
    assert reader.feed(b"0") == [PartData(b"\r\n--b0")]


def test_memory_does_not_grow_with_the_size_of_a_document() -> None:
    reader = MultipartReader(CONTENT_TYPE)
    reader.feed(message_of(ROOT, DOCUMENT).split(b"hello")[0])
    chunk = b"0123456789abcde\r" * 4096  # ends with what may begin a boundary
    tracemalloc.start()
    try:
        for _ in range(200):
            reader.feed(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 5 * len(chunk)


@pytest.mark.parametrize(
    ("start", "root"),
    [
        ("", 0),
        ('; start=""', 0),
        ('; start="<>"', 0),
        ('; start="<root@x>"', 0),
        ('; start="doc@x"', 1),
        ("; start=<doc@x>", 1),
        ('; start="<doc%40x>"', 1),
        ('; START="doc@x"; start-info="text/xml"', 1),
        ('; start="root@x"; start-info="nonsense"; type="text/xml"', 0),
    ],
)
def test_the_root_is_the_part_that_start_names_or_the_first(start: str, root: int) -> None:
    parts = parts_of("multipart/related; boundary=b1" + start, [message_of(ROOT, DOCUMENT)])

    assert [header.is_root for header, _ in parts] == [index == root for index in range(2)]


def test_start_finds_a_root_whose_content_id_is_url_encoded() -> None:
    parts = parts_of(CONTENT_TYPE, [message_of(DOCUMENT, ROOT.replace("root@x", "root%40x"))])

    assert [header.is_root for header, _ in parts] == [False, True]


def test_a_start_that_names_no_part_is_refused_with_the_content_ids_there_are() -> None:
    problem = problem_of(CONTENT_TYPE.replace("root@x", "rot@x"), message_of(ROOT, DOCUMENT))

    assert "start" in problem
    assert "'rot@x'" in problem
    assert "'root@x', 'doc@x'" in problem


def test_a_reference_finds_a_part_whose_content_id_is_url_encoded_or_not() -> None:
    header = PartHeader("a%40x", "", "binary", is_root=False, index=1)

    assert header.is_named("a@x")
    assert header.is_named("a%40x")
    assert not header.is_named("b@x")
    assert not PartHeader(None, "", "binary", is_root=False, index=1).is_named("")


@pytest.mark.parametrize("encoding", ["7bit", "8bit", "BINARY", " Binary "])
def test_plain_transfer_encodings_pass_through(encoding: str) -> None:
    part = f"Content-Transfer-Encoding: {encoding}\r\nContent-ID: <root@x>\r\n\r\nä=3D"

    assert parts_of(CONTENT_TYPE, [message_of(part)])[0][1] == "ä=3D".encode()


@given(st.binary(max_size=300), st.integers(1, 50))
def test_base64_is_decoded_as_it_arrives(content: bytes, size: int) -> None:
    head = "Content-Transfer-Encoding: Base64\r\nContent-ID: <root@x>\r\n\r\n"
    message = message_of(head + base64.encodebytes(content).decode().replace("\n", "\r\n"))

    ((header, decoded),) = parts_of(CONTENT_TYPE, chunks_of(message, size))

    assert decoded == content
    assert header.transfer_encoding == "base64"


@pytest.mark.parametrize("size", [1, 4096])
@pytest.mark.parametrize("wrong", ["QUJ", "Q!JD", "QQ==QUJD", "QUI=\r\nQUJD", "=", "QUJDQ==="])
def test_wrong_base64_is_refused(wrong: str, size: int) -> None:
    message = message_of(ROOT, "Content-Transfer-Encoding: base64\r\n\r\n" + wrong)

    with pytest.raises(MultipartProblem, match=r"^Part 2 says Content-Transfer-Encoding: base64, but"):
        parts_of(CONTENT_TYPE, chunks_of(message, size))


def test_other_transfer_encodings_are_refused_and_the_known_ones_named() -> None:
    problem = problem_of(CONTENT_TYPE, message_of(ROOT, "Content-Transfer-Encoding: quoted-printable\r\n\r\n"))

    assert "Part 2" in problem
    assert "'quoted-printable'" in problem
    assert "binary, 8bit, 7bit or base64" in problem


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        ("application/soap+xml", "'application/soap+xml'"),
        ("multipart/form-data; boundary=b1", "'multipart/form-data; boundary=b1'"),
        ("multipart/related", "no boundary parameter"),
        ('multipart/related; boundary=""', "no boundary parameter"),
        ('multipart/related; boundary="a\\\r\nb"', "printable"),
        (f"multipart/related; boundary={'b' * 300}", "70"),
    ],
)
def test_a_content_type_that_can_not_work_is_refused_with_an_example(content_type: str, says: str) -> None:
    with pytest.raises(MultipartProblem) as caught:
        MultipartReader(content_type)

    assert says in str(caught.value)
    assert EXAMPLE_CONTENT_TYPE in str(caught.value)


def test_the_example_is_one_the_reader_takes() -> None:
    message = message_of(ROOT.replace("root@x", "envelope@example.org"), boundary="MIMEBoundary_1f0c")

    assert len(parts_of(EXAMPLE_CONTENT_TYPE, [message])) == 1


@pytest.mark.parametrize("message", [b"", b"--b", b"--b1", b"\r\n", b"--other\r\n\r\n\r\n--other--"])
def test_a_message_without_its_boundary_is_told_which_boundary_was_expected(message: bytes) -> None:
    problem = problem_of(CONTENT_TYPE, message)

    assert f"ended after {len(message)} bytes" in problem
    assert "'--b1'" in problem
    assert EXAMPLE_CONTENT_TYPE in problem


def test_a_message_cut_off_in_a_document_is_told_where() -> None:
    message = message_of(ROOT, DOCUMENT)
    cut = message[: message.index(b"hello") + 3]

    problem = problem_of(CONTENT_TYPE, cut)

    assert f"ended after {len(cut)} bytes" in problem
    assert "part 2 (Content-ID 'doc@x'), of which 3 bytes" in problem
    assert "'--b1--'" in problem


def test_no_message_cut_off_anywhere_is_taken_for_complete() -> None:
    message = message_of(ROOT, DOCUMENT)
    complete = len(message) - len("\r\n")

    for length in range(complete):
        with pytest.raises(MultipartProblem, match=f"^The message ended after {length} bytes"):
            parts_of(CONTENT_TYPE, [message[:length]])
    assert len(parts_of(CONTENT_TYPE, [message[:complete]])) == 2


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"--b1--\r\n", "no parts"),
        (message_of(ROOT, ROOT), "Two parts have the Content-ID 'root@x'"),
        (message_of(ROOT, "Content-Type: text/plain\r\nhello"), "Part 2 has no empty line"),
        (message_of(ROOT, "hello\r\n\r\n"), "'hello', which is no header"),
        (message_of(ROOT, DOCUMENT).replace(b"\r\n", b"\n").replace(b"hello\n", b"hello\r\n"), "CRLF"),
    ],
)
def test_a_broken_message_is_told_what_is_broken(message: bytes, says: str) -> None:
    assert says in problem_of(CONTENT_TYPE, message)


@pytest.mark.parametrize("size", [1, 4096])
@pytest.mark.parametrize(
    ("limits", "message", "says"),
    [
        (MultipartLimits(parts=1), message_of(ROOT, DOCUMENT), "more than 1 parts"),
        (MultipartLimits(header_bytes=60), message_of("\r\n", f"X: {'y' * 99}\r\n\r\n"), "part 2"),
        (MultipartLimits(header_bytes=60), message_of(f"X: {'y' * 99}\r\n\r\n"), "60 bytes"),
        (MultipartLimits(surrounding_bytes=50), b"x" * 99 + message_of(ROOT), "50 bytes before"),
        (MultipartLimits(surrounding_bytes=50), message_of(ROOT) + b"x" * 99, "50 bytes after"),
    ],
)
def test_limits_are_kept_and_named(limits: MultipartLimits, message: bytes, says: str, size: int) -> None:
    with pytest.raises(MultipartProblem, match=says):
        parts_of(CONTENT_TYPE, chunks_of(message, size), limits)


def test_text_before_and_after_the_parts_is_limited_each_by_itself() -> None:
    message = b"x" * 40 + b"\r\n" + message_of(ROOT) + b"x" * 40

    assert len(parts_of(CONTENT_TYPE, [message], MultipartLimits(surrounding_bytes=50))) == 1


# ----------------------------------------------------------------------------------------------- the writer


def written(package: Package, contents: list[bytes]) -> bytes:
    parts = b"".join(package.part_head(index) + content for index, content in enumerate(contents))
    return package.head() + parts + package.tail()


BOUNDARY_CHARACTERS = "abcXYZ019'()+_,-./:=?"
boundaries = st.text(BOUNDARY_CHARACTERS, min_size=1, max_size=70)


@st.composite
def packages(draw: st.DrawFn) -> tuple[Package, list[bytes]]:
    """Packages whose contents are as close to their own boundary lines as is allowed."""
    boundary = draw(boundaries)
    dashes = b"--" + boundary.encode()
    pieces = st.sampled_from(
        [b"\r\n" + dashes[:-1], dashes, dashes + b"-", b"\r", b"\n", b"\r\n", b"--", b"\r\n--", b"x", b" "]
    )
    content = (
        st.lists(pieces | st.binary(max_size=8), max_size=12)
        .map(b"".join)
        .filter(lambda content: b"\r\n" + dashes not in b"\r\n" + content)
    )
    contents = draw(st.lists(content, max_size=4))
    parts = [
        PartToWrite(f"{index}.doc@example.org", "application/pdf", len(content))
        for index, content in enumerate(contents)
    ]
    root = draw(content)
    action = draw(st.none() | st.sampled_from(["urn:ihe:iti:2007:RetrieveDocumentSet", 'a"b\\c;d']))
    return Package(root, parts, action, boundary), contents


@given(packages(), st.integers(1, 40))
def test_what_is_written_is_read_back_however_it_is_chunked(
    package_and_contents: tuple[Package, list[bytes]], size: int
) -> None:
    package, contents = package_and_contents
    message = written(package, contents)

    parts = parts_of(package.content_type, chunks_of(message, size))

    assert [content for _, content in parts] == [package.root, *contents]
    assert [header.content_id for header, _ in parts[1:]] == [part.content_id for part in package.parts]
    assert [header.content_type for header, _ in parts[1:]] == [part.content_type for part in package.parts]
    assert [header.is_root for header, _ in parts] == [True] + [False] * len(contents)
    assert action_of(package.content_type) == package.action


@given(packages())
def test_the_content_length_is_the_length(package_and_contents: tuple[Package, list[bytes]]) -> None:
    package, contents = package_and_contents

    assert package.content_length == len(written(package, contents))


@pytest.mark.parametrize("action", [None, "urn:ihe:iti:2007:RetrieveDocumentSetResponse"])
def test_another_parser_reads_the_same_message(action: str | None) -> None:
    contents = [b"hello", b"", bytes(range(256)).replace(b"\r", b"").replace(b"\n", b"")]
    parts = [PartToWrite(f"doc{index}@x", "application/pdf", len(c)) for index, c in enumerate(contents)]
    package = Package(b"<e/>", parts, action)
    head = f"MIME-Version: 1.0\r\nContent-Type: {package.content_type}\r\n\r\n".encode()

    message = BytesParser(policy=policy.HTTP).parsebytes(head + written(package, contents))

    assert not message.defects
    assert message.get_content_type() == "multipart/related"
    assert message.get_param("type") == "application/xop+xml"
    assert message.get_param("start-info") == "application/soap+xml"
    assert message.get_param("action") == action
    root, *documents = message.iter_parts()
    assert root["Content-ID"] == message.get_param("start")
    assert root.get_content_type() == "application/xop+xml"
    assert root.get_param("type") == "application/soap+xml"
    assert [part.get_payload(decode=True) for part in (root, *documents)] == [b"<e/>", *contents]
    assert [part["Content-ID"] for part in documents] == ["<doc0@x>", "<doc1@x>", "<doc2@x>"]


def test_no_two_packages_share_a_boundary() -> None:
    assert Package(b"").boundary != Package(b"").boundary


@pytest.mark.parametrize("value", ["text/plain\r\nX-Evil: 1", "a\nb", "a\x00b"])
def test_no_value_can_add_a_header(value: str) -> None:
    with pytest.raises(ValueError, match="can not stand in a header"):
        Package(b"", [PartToWrite("doc@x", value, 0)]).part_head(0)
    with pytest.raises(ValueError, match="can not stand in a header"):
        Package(b"", [PartToWrite(value, "text/plain", 0)]).part_head(0)
    with pytest.raises(ValueError, match="can not stand in a header"):
        _ = Package(b"", action=value).content_type
