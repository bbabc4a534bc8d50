"""Retrieve Document [ITI-68] over HTTP: as it is, in part, or in a Binary."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.builders import association, document_entry, submission, text, unmeasured
from tests.conformance.fhir_wire import FhirWire
from tests.conformance.test_find_document_references import some_patient
from tests.conformance.wire import Wire
from xds.metadata import AssociationType, DocumentEntry

pytestmark = pytest.mark.asyncio(loop_scope="module")

PDF = b"%PDF-1.7 " + bytes(range(256)) * 2000


async def kept(wire: Wire, content: bytes = PDF, **changes: Any) -> str:
    """A document's path below the FHIR base."""
    entry = unmeasured(document_entry(**{"patient_id": some_patient(), "mime_type": "application/pdf"} | changes))
    assert (await wire.provide(submission(entry), {entry.entry_uuid: content})).registry_response.succeeded
    return path_of(entry)


def path_of(entry: DocumentEntry) -> str:
    return f"Binary/{entry.entry_uuid.removeprefix('urn:uuid:')}"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "raw"),
        ("*/*", "raw"),
        ("application/*", "raw"),
        ("application/pdf", "raw"),
        ("application/pdf;q=0.1, application/fhir+json", "raw"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "raw"),
        ("application/fhir+json", "json"),
        ("application/fhir+xml;q=1.0, application/fhir+json;q=0.9", "xml"),
        ("application/json", "none"),
        ("application/fhir+json;fhirVersion=5.0", "none"),
        ("application/fhir+json;fhirVersion=5.0, application/fhir+xml;fhirVersion=4.0", "xml"),
        ("text/html", "none"),
        ("application/pdf;q=0", "none"),
    ],
)
async def test_accept_says_in_which_form_a_document_is_sent(
    wire: Wire, fhir: FhirWire, accept: str | None, form: str
) -> None:
    path = await kept(wire)

    reply = await fhir.get(path, Accept=accept or "")

    match form:
        case "raw":
            assert (reply.status, reply.content) == (200, PDF)
            assert reply.headers["Content-Type"] == "application/pdf"
            assert reply.headers["Content-Length"] == str(len(PDF))
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert reply.headers["Cache-Control"] == "private, no-store"
        case "none":
            assert reply.status == 406
            assert reply.issue["code"] == "not-supported"
        case _:
            assert reply.headers["Content-Type"].startswith(f"application/fhir+{form}")
            assert reply.resource["contentType"] == "application/pdf"
            assert base64.b64decode(reply.resource["data"]) == PDF


async def test_a_fhir_document_is_sent_as_it_is_to_whoever_asks_for_fhir(wire: Wire, fhir: FhirWire) -> None:
    document = b'{"resourceType": "Bundle",   "type": "document"}'
    path = await kept(wire, document, mime_type="application/fhir+json")

    assert (await fhir.get(path, Accept="application/fhir+json")).content == document
    wrapped = await fhir.get(path, {"_format": "json"}, Accept="application/fhir+json")
    assert base64.b64decode(wrapped.resource["data"]) == document
    as_xml = await fhir.get(path, Accept="application/fhir+xml")
    assert as_xml.resource["resourceType"] == "Binary"


async def test_the_head_of_a_document_tells_all_but_the_document(wire: Wire, fhir: FhirWire) -> None:
    path = await kept(wire)

    whole, head = await fhir.get(path), await fhir.send("HEAD", path)

    assert head.status == 200
    assert head.content == b""
    assert {**head.headers, "Date": ""} == {**whole.headers, "Date": ""}


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-299", 100, 300),
        ("bytes=500000-", 500_000, len(PDF)),
        ("bytes=-10", len(PDF) - 10, len(PDF)),
        ("bytes=-9999999", 0, len(PDF)),
        ("bytes=512008-99999999", 512_008, len(PDF)),
    ],
)
async def test_a_part_of_a_document_is_sent_to_whoever_asks_for_it(
    wire: Wire, fhir: FhirWire, asked: str, start: int, end: int
) -> None:
    reply = await fhir.get(await kept(wire), Range=asked)

    assert reply.status == 206
    assert reply.content == PDF[start:end]
    assert reply.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(PDF)}"


@pytest.mark.parametrize("asked", ["bytes=5-4", "bytes=0-1,5-6", "pages=1-2", "bytes=-", "bytes=x-y"])
async def test_ranges_that_mean_nothing_here_are_not_heeded(wire: Wire, fhir: FhirWire, asked: str) -> None:
    reply = await fhir.get(await kept(wire), Range=asked)

    assert (reply.status, reply.content) == (200, PDF)


async def test_a_range_beyond_the_document_is_refused(wire: Wire, fhir: FhirWire) -> None:
    path = await kept(wire)

    for asked in (f"bytes={len(PDF)}-", "bytes=-0"):
        reply = await fhir.get(path, Range=asked)
        assert reply.status == 416
        assert reply.headers["Content-Range"] == f"bytes */{len(PDF)}"
    changed = await fhir.get(path, Range="bytes=0-1", If_Range='"another"')
    assert changed.status == 200


async def test_a_document_that_an_app_has_already_is_not_sent_again(wire: Wire, fhir: FhirWire) -> None:
    path = await kept(wire)
    etag = (await fhir.get(path)).headers["ETag"]

    assert (await fhir.get(path, If_None_Match=etag)).status == 304
    assert (await fhir.get(path, If_None_Match='"another"')).status == 200
    assert (await fhir.get(path, If_Unmodified_Since="Mon, 01 Jan 2001 00:00:00 GMT")).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "Binary/00000000-0000-4000-8000-000000000000",
        "Binary/1",
        "Binary/..",
        "Binary/%2e%2e%2fDocumentReference",
        "Binary/..%2f..%2fetc%2fpasswd",
        "Binary/%00",
    ],
)
async def test_there_is_no_document_where_none_was_kept(fhir: FhirWire, path: str) -> None:
    reply = await fhir.get(f"{fhir.base}/{path}")

    assert reply.status == 404
    assert reply.issue["code"] == "not-found"


async def test_an_entry_whose_document_another_repository_holds_is_answered_404(wire: Wire, fhir: FhirWire) -> None:
    entry = document_entry(patient_id=some_patient(), repository_unique_id="1.2.3")
    assert (await wire.register(submission(entry))).registry_response.succeeded

    reply = await fhir.get(path_of(entry))

    assert reply.status == 404
    assert reply.issue["details"]["coding"] == [{"code": "XDSUnknownRepositoryId"}]


async def test_a_superseded_document_is_retrieved_as_any_other(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    old, new = (unmeasured(document_entry(patient_id=patient)) for _ in range(2))
    assert (await wire.provide(submission(old), {old.entry_uuid: b"old"})).registry_response.succeeded
    replacing = submission(new, associations=(association(AssociationType.RPLC, new, old),))
    assert (await wire.provide(replacing, {new.entry_uuid: b"new"})).registry_response.succeeded

    assert (await fhir.get(path_of(old))).content == b"old"
    assert (await fhir.get(path_of(new))).content == b"new"


async def test_a_title_can_not_break_the_headers_or_name_a_path(wire: Wire, fhir: FhirWire) -> None:
    title = 'a"; filename="../../etc/passwd"\u2028\u0160\u012b\\:'
    path = await kept(wire, title=text(title))
    bare = await kept(wire, title=())

    disposition = (await fhir.get(path)).headers["Content-Disposition"]

    assert disposition.startswith('attachment; filename="a ; filename= .. .. etc passwd')
    assert disposition.count('"') == 2
    assert "/" not in disposition
    assert bare.removeprefix("Binary/") in (await fhir.get(bare)).headers["Content-Disposition"]


async def test_a_media_type_that_http_can_not_carry_is_sent_as_octets(wire: Wire, fhir: FhirWire) -> None:
    strange = await kept(wire, mime_type="application/pdf; name=\u0160")
    with_charset = await kept(wire, mime_type="text/plain; charset=ISO-8859-13")

    assert (await fhir.get(strange)).headers["Content-Type"] == "application/octet-stream"
    reply = await fhir.get(with_charset, Accept="text/plain")
    assert reply.headers["Content-Type"] == "text/plain; charset=ISO-8859-13"


async def test_an_empty_document_is_a_document(wire: Wire, fhir: FhirWire) -> None:
    reply = await fhir.get(await kept(wire, b""))

    assert (reply.status, reply.content, reply.headers["Content-Length"]) == (200, b"", "0")
