"""The main job over HTTP: a document in by ITI-41, found by ITI-18, out by ITI-43."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from tests.builders import (
    CONTENT,
    PATIENT_AUTHORITY,
    association,
    document_entry,
    full_document_entry,
    has_member,
    oid,
    submission,
    submission_set,
    unmeasured,
)
from tests.conformance.wire import Wire, envelope
from xds.actors import DocumentRequest, QueryRequest
from xds.ebxml_messages import provide_request, query_request, retrieve_request
from xds.ebxml_reader import read_rendering
from xds.errors import ResponseStatus
from xds.hl7v2 import CX
from xds.metadata import AssociationType, AvailabilityStatus, DocumentEntry, Submission
from xds.transactions import ITI_18, ITI_41, ITI_43

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def entries_of(wire: Wire, unique_id: str) -> list[DocumentEntry]:
    """What GetDocuments finds under a uniqueId."""
    answer = await wire.query("GetDocuments", XDSDocumentEntryUniqueId=f"('{unique_id}')")
    assert answer.query_response.status is ResponseStatus.SUCCESS
    found = [read_rendering(each.ebrim or b"") for each in answer.query_response.found]
    return [each for each in found if isinstance(each, DocumentEntry)]


async def entry_of(wire: Wire, unique_id: str) -> DocumentEntry:
    (entry,) = await entries_of(wire, unique_id)
    return entry


def asked(entry: DocumentEntry) -> DocumentRequest:
    return DocumentRequest(entry.repository_unique_id or "", entry.unique_id or "")


async def provided(wire: Wire, content: bytes = CONTENT) -> DocumentEntry:
    """A document that was submitted, as the registry has it."""
    entry = unmeasured(document_entry())
    answer = await wire.provide(submission(entry), {entry.entry_uuid: content})
    assert answer.registry_response.succeeded, answer.content
    return await entry_of(wire, entry.unique_id or "")


@pytest.mark.parametrize("size", [0, 1, 2, 65_535, 65_536, 65_537, 3_000_001])
async def test_a_document_of_any_size_comes_back_byte_for_byte(wire: Wire, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)

    entry = await provided(wire, content)
    answer = await wire.mtom(ITI_43, retrieve_request([asked(entry)]))

    assert list(answer.parts.values()) == [content]
    assert (entry.size, entry.hash) == (str(size), hashlib.sha1(content, usedforsecurity=False).hexdigest())


async def test_a_submitted_document_is_found_by_its_patient(wire: Wire) -> None:
    entry = await provided(wire)

    answer = await wire.query(
        "FindDocuments",
        XDSDocumentEntryPatientId=f"'{entry.patient_id}'",
        XDSDocumentEntryStatus=f"('{AvailabilityStatus.APPROVED}')",
    )

    assert entry.entry_uuid in [found.entry_uuid for found in answer.query_response.found]


async def test_documents_of_several_patients_are_found_in_one_answer(wire: Wire) -> None:
    entries = [document_entry(patient_id=CX.of(oid(), PATIENT_AUTHORITY)) for _ in range(2)]
    for entry in entries:
        assert (await wire.register(submission(entry))).registry_response.succeeded
    asked_for = {
        "XDSDocumentEntryPatientId": f"({','.join(repr(str(entry.patient_id)) for entry in entries)})",
        "XDSDocumentEntryStatus": f"('{AvailabilityStatus.APPROVED}')",
    }

    answer = await wire.query("FindDocumentsForMultiplePatients", **asked_for)
    request = QueryRequest("urn:uuid:3d1bdb10-39a2-11de-89c2-2f44d94eaa9f", "LeafClass", ())
    refused = await wire.simple(ITI_18, query_request(request))

    assert {found.entry_uuid for found in answer.query_response.found} == {entry.entry_uuid for entry in entries}
    assert refused.codes == ["XDSRegistryError"]


async def test_metadata_comes_back_as_it_was_sent(wire: Wire) -> None:
    sent = unmeasured(full_document_entry(logical_id=None))
    answer = await wire.provide(submission(sent), {sent.entry_uuid: CONTENT})
    assert answer.registry_response.succeeded, answer.content

    stored = await entry_of(wire, sent.unique_id or "")

    lasting: dict[str, Any] = {
        name: getattr(stored, name) for name in ("logical_id", "hash", "size", "repository_unique_id")
    }
    assert stored == replace(sent, **lasting)


async def test_several_documents_of_one_submission_come_back_in_the_order_asked_for(wire: Wire) -> None:
    contents = [b"first", b"second", b"third"]
    entries = [unmeasured(document_entry()) for _ in contents]
    by_entry = {entry.entry_uuid: content for entry, content in zip(entries, contents, strict=True)}
    await wire.provide(submission(*entries), by_entry)
    stored = [await entry_of(wire, entry.unique_id or "") for entry in reversed(entries)]

    answer = await wire.mtom(ITI_43, retrieve_request([asked(entry) for entry in stored]))

    assert [answer.parts[document.content_id or ""] for document in answer.retrieved.documents] == contents[::-1]


async def test_a_document_inline_as_base64_is_taken_and_given(wire: Wire) -> None:
    entry = unmeasured(document_entry())
    body = provide_request(submission(entry), [(entry.entry_uuid, "x")])
    include = body[body.index(b"<xop:Include") : body.index(b"</xdsb:Document>")]
    inline = body.replace(include, base64.b64encode(CONTENT))

    answer = await wire.simple(ITI_41, inline)
    stored = await entry_of(wire, entry.unique_id or "")
    fetched = await wire.simple(ITI_43, retrieve_request([asked(stored)]))

    assert answer.registry_response.succeeded
    assert not answer.is_mtom
    assert [base64.b64decode(document.inline or "") for document in fetched.retrieved.documents] == [CONTENT]


async def test_an_answer_has_the_form_of_its_question(wire: Wire) -> None:
    entry = await provided(wire)

    assert (await wire.mtom(ITI_43, retrieve_request([asked(entry)]))).is_mtom
    assert not (await wire.simple(ITI_43, retrieve_request([asked(entry)]))).is_mtom


async def test_symbolic_ids_are_resolved_to_uuids(wire: Wire) -> None:
    entry = replace(unmeasured(document_entry()), entry_uuid="Document01")
    owner = replace(submission_set(), entry_uuid="SubmissionSet01")
    sent = Submission(
        submission_sets=(owner,), document_entries=(entry,), associations=(has_member(owner, entry, entry_uuid="as01"),)
    )

    await wire.provide(sent, {"Document01": CONTENT})

    stored = await entry_of(wire, entry.unique_id or "")
    assert stored.entry_uuid.startswith("urn:uuid:")
    assert stored.logical_id == stored.entry_uuid


async def test_a_replacement_deprecates_what_it_replaces(wire: Wire) -> None:
    first = await provided(wire, b"first version")
    second = unmeasured(document_entry())
    replacing = association(AssociationType.RPLC, second, first)

    answer = await wire.provide(submission(second, associations=(replacing,)), {second.entry_uuid: b"second version"})

    assert answer.registry_response.succeeded, answer.content
    old = await entry_of(wire, first.unique_id or "")
    new = await entry_of(wire, second.unique_id or "")
    assert (old.availability_status, new.availability_status) == (
        AvailabilityStatus.DEPRECATED,
        AvailabilityStatus.APPROVED,
    )
    fetched = await wire.mtom(ITI_43, retrieve_request([asked(old), asked(new)]))
    assert list(fetched.parts.values()) == [b"first version", b"second version"]


async def test_the_same_bytes_may_be_submitted_again(wire: Wire) -> None:
    first = await provided(wire)

    again = unmeasured(document_entry(unique_id=first.unique_id))
    answer = await wire.provide(submission(again), {again.entry_uuid: CONTENT})

    assert answer.registry_response.succeeded, answer.content
    assert len(await entries_of(wire, first.unique_id or "")) == 2


async def test_documents_before_the_envelope_are_taken(wire: Wire) -> None:
    entry = unmeasured(document_entry())
    body = provide_request(submission(entry), [(entry.entry_uuid, "d@example.org")])
    head = (
        b"--b\r\nContent-ID: <d@example.org>\r\nContent-Type: text/plain\r\n\r\nToimik\r\n--b\r\nContent-ID: <root>\r\n"
    )
    message = head + b"Content-Type: application/xop+xml\r\n\r\n" + envelope(ITI_41, body) + b"\r\n--b--\r\n"
    content_type = 'multipart/related; boundary=b; start="<root>"; type="application/xop+xml"'

    answer = await wire.post(wire.url(ITI_41), message, {"Content-Type": content_type})

    assert answer.registry_response.succeeded, answer.content
    assert (await entry_of(wire, entry.unique_id or "")).hash == hashlib.sha1(
        CONTENT, usedforsecurity=False
    ).hexdigest()


async def test_what_is_there_is_given_though_other_documents_are_not(wire: Wire) -> None:
    entry = await provided(wire)
    missing = DocumentRequest(entry.repository_unique_id or "", oid())
    elsewhere = DocumentRequest("1.2.3.4", entry.unique_id or "")

    answer = await wire.mtom(ITI_43, retrieve_request([missing, asked(entry), elsewhere]))

    assert answer.retrieved.status is ResponseStatus.PARTIAL_SUCCESS
    assert answer.codes == ["XDSDocumentUniqueIdError", "XDSUnknownRepositoryId"]
    assert list(answer.parts.values()) == [CONTENT]
