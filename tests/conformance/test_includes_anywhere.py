"""MTOM engines that take every base64 text out of the envelope: what they refer to is put back, and bounded."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from tests.builders import CONTENT, document_entry, submission, unmeasured
from tests.conformance.test_documents_in_and_out import entry_of
from tests.conformance.wire import Reply, Wire, envelope, running_server
from xds.actors import QueryRequest
from xds.ebxml_messages import provide_request, query_request
from xds.metadata import DocumentEntry, Slot
from xds.soap import WSSE
from xds.stored_queries import FIND_DOCUMENTS
from xds.transactions import ITI_18, ITI_41

pytestmark = pytest.mark.asyncio(loop_scope="module")

INCLUDED_BYTES = 10_000
BOUNDARY = "MIMEBoundary_1f0c"
MTOM = {"Content-Type": f'multipart/related; boundary={BOUNDARY}; start="<root>"; type="application/xop+xml"'}
INCLUDE = b'<xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:%s"/>'
WARD = b"ward 7, in base64 as the engine sent it"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(stores: Mapping[str, Any]) -> AsyncIterator[str]:
    async with running_server(**stores, limits={"included_bytes": INCLUDED_BYTES}) as base:
        yield base


def secured(root: bytes, href: bytes = b"certificate@example.org") -> bytes:
    """The envelope with a WS-Security header whose certificate is in a part."""
    token = b"<w:BinarySecurityToken>" + INCLUDE % href + b"</w:BinarySecurityToken>"
    security = b'<w:Security xmlns:w="' + WSSE.encode() + b'">' + token + b"</w:Security>"
    return re.sub(rb"(</\w*:?Header>)", security + rb"\1", root, count=1)


def with_a_slot_in_a_part(entry: DocumentEntry, *hrefs: bytes) -> tuple[bytes, DocumentEntry]:
    """ITI-41 of an entry with a Slot whose Values are in parts."""
    entry = unmeasured(entry)
    marks = tuple(f"mark{number}" for number in range(len(hrefs)))
    sent = document_entry(
        entry_uuid=entry.entry_uuid,
        unique_id=entry.unique_id,
        hash=None,
        size=None,
        repository_unique_id=None,
        extra_slots=(Slot("urn:example:ward", marks),),
    )
    body = provide_request(submission(sent), [(sent.entry_uuid, "document@example.org")])
    for mark, href in zip(marks, hrefs, strict=True):
        body = body.replace(b">" + mark.encode() + b"<", b">" + INCLUDE % href + b"<")
    return envelope(ITI_41, body), sent


async def sent(wire: Wire, root: bytes, *parts: tuple[bytes, bytes]) -> Reply:
    """Post the root and the parts, in this order, as MTOM."""
    pieces = [(b"root", root), *parts] if not root.startswith(b"--") else list(parts)
    lines = [
        b"--%s\r\nContent-ID: <%s>\r\nContent-Type: application/octet-stream\r\n\r\n%s\r\n"
        % (BOUNDARY.encode(), name, content)
        for name, content in pieces
    ]
    return await wire.post(wire.url(ITI_41), b"".join([*lines, b"--%s--\r\n" % BOUNDARY.encode()]), MTOM)


@pytest.mark.parametrize("order", ["the parts of the envelope first", "the document first"])
async def test_parts_of_the_envelope_are_put_back_wherever_they_belong(wire: Wire, order: str) -> None:
    root, entry = with_a_slot_in_a_part(document_entry(), b"ward@example.org")
    parts = [
        (b"certificate@example.org", b"\x30\x82 a certificate"),
        (b"ward@example.org", WARD),
        (b"document@example.org", CONTENT),
    ]

    answer = await sent(wire, secured(root), *(parts if order.startswith("the parts") else reversed(parts)))

    assert answer.registry_response.succeeded, answer.content
    stored = await entry_of(wire, entry.unique_id or "")
    assert [slot.values for slot in stored.extra_slots] == [(base64.b64encode(WARD).decode(),)]


async def test_a_query_may_have_its_certificate_in_a_part(wire: Wire) -> None:
    parameters = (
        ("$XDSDocumentEntryPatientId", ("'1^^^&1.2.3&ISO'",)),
        ("$XDSDocumentEntryStatus", ("('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')",)),
    )
    root = secured(envelope(ITI_18, query_request(QueryRequest(FIND_DOCUMENTS, "LeafClass", parameters))))
    message = (
        f"--{BOUNDARY}\r\nContent-ID: <root>\r\n\r\n".encode()
        + root
        + f"\r\n--{BOUNDARY}\r\nContent-ID: <certificate@example.org>\r\n\r\nX\r\n--{BOUNDARY}--\r\n".encode()
    )

    answer = await wire.post(wire.url(ITI_18), message, MTOM)

    assert answer.query_response.found == ()
    assert answer.is_mtom


async def test_a_part_that_did_not_come_is_named_in_a_fault(wire: Wire) -> None:
    root, _ = with_a_slot_in_a_part(document_entry(), b"ward@example.org")

    answer = await sent(wire, root, (b"document@example.org", CONTENT))

    assert answer.status == 400
    assert "rim:Value" in answer.fault
    assert "ward@example.org" in answer.fault


async def test_a_part_that_came_before_its_envelope_is_asked_for_after_it(wire: Wire) -> None:
    root, _ = with_a_slot_in_a_part(document_entry(), b"ward@example.org")

    answer = await sent(wire, b"--", (b"ward@example.org", WARD), (b"root", root), (b"document@example.org", CONTENT))

    assert answer.status == 400
    assert "send the envelope as the first part" in answer.fault


@pytest.mark.parametrize("href", [b"http://localhost/secret", b"file:///etc/passwd"])
async def test_nothing_outside_of_the_message_is_fetched_for_any_element(wire: Wire, href: bytes) -> None:
    root = secured(envelope(ITI_41, provide_request(submission(unmeasured(document_entry())), []))).replace(
        b"cid:certificate@example.org", href
    )

    answer = await sent(wire, root)

    assert answer.status == 400
    assert "not fetched" in answer.fault


@pytest.mark.parametrize("times", [1, 11])
async def test_what_is_put_back_has_a_limit_however_often_it_is_referred_to(wire: Wire, times: int) -> None:
    root, _ = with_a_slot_in_a_part(document_entry(), *[b"ward@example.org"] * times)
    content = b"x" * (INCLUDED_BYTES // times + 1)

    answer = await sent(wire, root, (b"ward@example.org", content), (b"document@example.org", CONTENT))

    assert answer.status == 413
    assert str(INCLUDED_BYTES) in answer.fault


async def test_an_include_beside_other_content_is_refused(wire: Wire) -> None:
    root, _ = with_a_slot_in_a_part(document_entry(), b"ward@example.org")

    answer = await sent(wire, root.replace(b"<xop:Include", b"ward <xop:Include", 1), (b"ward@example.org", WARD))

    assert answer.status == 400
    assert "alone" in answer.fault
