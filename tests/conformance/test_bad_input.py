"""What is wrong is answered in words, with the standard's code, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.builders import (
    CONTENT,
    OTHER_PATIENT,
    PATIENT,
    association,
    document_entry,
    entry_uuid,
    folder,
    has_member,
    submission,
    unmeasured,
)
from tests.conformance.wire import Reply, Wire, envelope, running_server
from tests.shared_stores import left_over
from xds.actors import DocumentRequest
from xds.ebxml_messages import provide_request, register_request, retrieve_request
from xds.ebxml_reader import read_rendering
from xds.errors import ResponseStatus
from xds.metadata import AssociationType, AvailabilityStatus, DocumentEntry, Submission
from xds.transactions import ITI_18, ITI_41, ITI_42, ITI_43

pytestmark = pytest.mark.asyncio(loop_scope="module")

IDLE_SECONDS = 0.5
ENVELOPE_BYTES = 256 * 1024
DOCUMENT_BYTES = 100_000
SOAP_12 = {"Content-Type": "application/soap+xml; charset=UTF-8"}
MTOM = {"Content-Type": 'multipart/related; boundary=b; start="<root>"; type="application/xop+xml"'}
APPROVED = f"('{AvailabilityStatus.APPROVED}')"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(stores: Mapping[str, Any]) -> AsyncIterator[str]:
    """A server with narrow limits."""
    limits = {
        "idle_seconds": IDLE_SECONDS,
        "envelope_bytes": ENVELOPE_BYTES,
        "document_bytes": DOCUMENT_BYTES,
        "documents_per_submission": 5,
        "documents_per_retrieve": 5,
        "inline_answer_bytes": 50_000,
        "results": 5,
        "requests_at_once": 4,
    }
    async with running_server(**stores, limits=limits) as base:
        yield base


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def nothing_is_left(stores: Mapping[str, Any], wire: Wire) -> AsyncIterator[None]:
    """After each test, all documents that are kept are those of entries that are registered."""
    yield
    for _ in range(400):  # a connection that was cut is noticed a moment later
        left = left_over(stores)
        if not left:
            break
        await asyncio.sleep(0.05)
    assert left == []


async def is_registered(wire: Wire, entry: DocumentEntry) -> bool:
    answer = await wire.query("GetDocuments", "ObjectRef", XDSDocumentEntryUniqueId=f"('{entry.unique_id}')")
    return bool(answer.query_response.found)


def refused(answer: Reply) -> list[str]:
    """The error codes of a refusal. It is HTTP 200 with a response, not a fault, and each error has a sentence."""
    assert answer.status == 200
    response = answer.registry_response
    assert response.status is ResponseStatus.FAILURE
    assert all(error.code_context.endswith(".") for error in response.errors), response.errors
    return answer.codes


# The envelope ------------------------------------------------------------------------------------------------------

BROKEN_ENVELOPES = {
    "it is empty": (b"", "no XML"),
    "it is no XML": (b"MSH|^~\\&|", "can not be read"),
    "it ends too early": (envelope(ITI_42, b"<a>")[:300], "can not be read"),
    "it has a document type": (b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + envelope(ITI_42, b"<a>&b;</a>")[39:], "DOCTYPE"),
    "it is no envelope": (b"<a/>", "Envelope"),
    "its body is empty": (envelope(ITI_42, b""), "exactly one element"),
    "nobody knows its body": (envelope(ITI_42, b"<a/>"), "not served here"),
    "its body belongs to the other actor": (
        envelope(ITI_43, retrieve_request([DocumentRequest("1", "2")])),
        "repository's endpoint",
    ),
    "its action is another transaction's": (
        envelope(ITI_42, register_request(submission(document_entry())), action=ITI_18.action),
        "RegisterDocumentSet-b",
    ),
    "its body breaks the schema": (
        envelope(ITI_42, register_request(submission(document_entry())).replace(b"<rim:Name", b"<rim:Nahme", 1)),
        "Nahme",
    ),
}


@pytest.mark.parametrize("what", BROKEN_ENVELOPES)
async def test_a_broken_envelope_is_a_fault_that_names_the_place(wire: Wire, what: str) -> None:
    message, sentence = BROKEN_ENVELOPES[what]

    answer = await wire.post(wire.url(ITI_42), message, SOAP_12)

    assert answer.status == 400
    assert sentence in answer.fault


async def test_soap_1_1_is_told_to_be_soap_1_2(wire: Wire) -> None:
    old = envelope(ITI_42, b"<a/>").replace(
        b"http://www.w3.org/2003/05/soap-envelope", b"http://schemas.xmlsoap.org/soap/envelope/"
    )

    async with wire.session.post(wire.url(ITI_42), data=old, headers={"Content-Type": "text/xml"}) as response:
        answer = await response.text()

    assert response.status == 500
    assert "VersionMismatch" in answer
    assert "SOAP 1.2" in answer


async def test_a_header_that_must_be_understood_and_is_not_is_named(wire: Wire) -> None:
    strange = b'<z:Zeal xmlns:z="urn:zeal" s:mustUnderstand="true"/></s:Header>'
    message = envelope(ITI_42, b"<a/>").replace(b"</s:Header>", strange)

    answer = await wire.post(wire.url(ITI_42), message, SOAP_12)

    assert "{urn:zeal}Zeal" in answer.fault


async def test_a_fault_relates_to_the_message_it_answers(wire: Wire) -> None:
    answer = await wire.post(wire.url(ITI_42), envelope(ITI_42, b"<a/>", message_id="urn:uuid:4711"), SOAP_12)

    assert answer.root.findtext(".//{http://www.w3.org/2005/08/addressing}RelatesTo") == "urn:uuid:4711"


async def test_an_unknown_media_type_is_refused(wire: Wire) -> None:
    answer = await wire.post(wire.url(ITI_42), b"{}", {"Content-Type": "application/json"})

    assert answer.status == 415
    assert "application/soap+xml" in answer.fault


async def test_an_envelope_above_its_limit_is_refused_with_the_limit(wire: Wire) -> None:
    answer = await wire.post(wire.url(ITI_42), b" " * (ENVELOPE_BYTES + 1), SOAP_12)

    assert answer.status == 413
    assert str(ENVELOPE_BYTES) in answer.fault


# MTOM --------------------------------------------------------------------------------------------------------------


def mtom_parts(root: bytes, *documents: tuple[str, bytes]) -> bytes:
    parts = [b"--b\r\nContent-ID: <root>\r\nContent-Type: application/xop+xml\r\n\r\n" + root]
    parts += [f"--b\r\nContent-ID: <{name}>\r\n\r\n".encode() + content for name, content in documents]
    return b"\r\n".join([*parts, b"--b--\r\n"])


def provide_envelope(entry: DocumentEntry, name: str = "d") -> bytes:
    return envelope(ITI_41, provide_request(submission(entry), [(entry.entry_uuid, name)]))


async def test_an_mtom_message_without_its_last_boundary_is_refused(wire: Wire) -> None:
    entry = unmeasured(document_entry())
    message = mtom_parts(provide_envelope(entry), ("d", CONTENT)).removesuffix(b"--b--\r\n")

    answer = await wire.post(wire.url(ITI_41), message, MTOM)

    assert answer.status == 400
    assert "closing boundary" in answer.fault
    assert not await is_registered(wire, entry)


async def test_an_iti_42_message_without_its_last_boundary_is_not_acted_upon(wire: Wire) -> None:
    entry = document_entry()
    root = envelope(ITI_42, register_request(submission(entry)))
    message = mtom_parts(root).removesuffix(b"--b--\r\n") + b"--b\r\nContent-ID: <more>\r\n\r\n"

    answer = await wire.post(wire.url(ITI_42), message, MTOM)

    assert answer.status == 400
    assert not await is_registered(wire, entry)


@pytest.mark.parametrize(
    ("content_type", "sentence"),
    [
        ("multipart/related; type=application/xop+xml", "boundary"),
        ('multipart/related; boundary=b; start="<nothing>"', "start"),
        ("multipart/related; boundary=c", "boundary"),
        ("multipart/form-data; boundary=b", "multipart/related"),
    ],
)
async def test_a_wrong_content_type_is_answered_with_a_right_one(wire: Wire, content_type: str, sentence: str) -> None:
    message = mtom_parts(provide_envelope(unmeasured(document_entry())), ("d", CONTENT))

    answer = await wire.post(wire.url(ITI_41), message, {"Content-Type": content_type})

    assert answer.status == 400
    assert sentence in answer.fault


@pytest.mark.parametrize("href", [b"http://localhost/secret", b"file:///etc/passwd"])
async def test_nothing_outside_of_the_message_is_ever_fetched(wire: Wire, href: bytes) -> None:
    root = provide_envelope(unmeasured(document_entry())).replace(b"cid:d", href)

    answer = await wire.post(wire.url(ITI_41), mtom_parts(root), MTOM)

    assert answer.status == 400
    assert "not fetched" in answer.fault


async def test_inline_base64_that_is_none_is_refused(wire: Wire) -> None:
    entry = unmeasured(document_entry())
    body = provide_request(submission(entry), [(entry.entry_uuid, "d")])
    include = body[body.index(b"<xop:Include") : body.index(b"</xdsb:Document>")]

    answer = await wire.simple(ITI_41, body.replace(include, b"not base64!"))

    assert answer.status == 400
    assert not await is_registered(wire, entry)


# The connection ----------------------------------------------------------------------------------------------------


async def half_sent(
    wire: Wire, message: bytes, headers: dict[str, str]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which all but the last bytes of a request were sent, which is being served."""
    host, port = wire.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{name}: {value}" for name, value in {**headers, "Expect": "100-continue"}.items()]
    head = "\r\n".join(["POST /xds/repository HTTP/1.1", "Host: localhost", *lines, f"Content-Length: {len(message)}"])
    writer.write(head.encode() + b"\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    writer.write(message[:-40])
    await writer.drain()
    return reader, writer


async def test_a_client_that_stops_sending_is_answered_and_let_go(wire: Wire) -> None:
    entry = unmeasured(document_entry())
    message = mtom_parts(provide_envelope(entry), ("d", bytes(50_000)))

    reader, writer = await half_sent(wire, message, MTOM)
    answer = await reader.read(100_000)
    writer.close()
    await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"Nothing came for" in answer
    assert not await is_registered(wire, entry)


async def test_an_upload_that_is_cut_off_leaves_nothing(wire: Wire) -> None:
    entry = unmeasured(document_entry())
    message = mtom_parts(provide_envelope(entry), ("d", bytes(50_000)))

    _, writer = await half_sent(wire, message, MTOM)
    writer.transport.abort()

    assert not await is_registered(wire, entry)


async def test_more_requests_than_can_be_served_at_once_are_told_to_come_again(wire: Wire) -> None:
    message = mtom_parts(provide_envelope(unmeasured(document_entry())), ("d", bytes(50_000)))
    waiting = [await half_sent(wire, message, MTOM) for _ in range(4)]

    answer = await wire.post(wire.url(ITI_41), message, MTOM)
    for _, writer in waiting:
        writer.transport.abort()

    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert "try again" in answer.fault


# Metadata and documents --------------------------------------------------------------------------------------------


async def test_a_document_without_metadata_is_refused(wire: Wire) -> None:
    entry = unmeasured(document_entry())

    answer = await wire.provide(submission(entry), {entry.entry_uuid: CONTENT, "Document02": b"surplus"})

    assert refused(answer) == ["XDSMissingDocumentMetadata"]
    assert not await is_registered(wire, entry)


async def test_metadata_without_a_document_is_refused(wire: Wire) -> None:
    entry, other = unmeasured(document_entry()), unmeasured(document_entry())

    answer = await wire.provide(submission(entry, other), {entry.entry_uuid: CONTENT})

    assert refused(answer) == ["XDSMissingDocument"]
    assert not await is_registered(wire, entry)


async def test_a_document_element_without_its_part_is_refused(wire: Wire) -> None:
    entry = unmeasured(document_entry())

    answer = await wire.post(wire.url(ITI_41), mtom_parts(provide_envelope(entry)), MTOM)

    assert refused(answer) == ["XDSMissingDocument"]


@pytest.mark.parametrize(
    "changes", [{"hash": "0" * 40}, {"size": "7"}, {"hash": "abc"}, {"repository_unique_id": "1.2.3"}], ids=str
)
async def test_what_contradicts_the_document_is_refused(wire: Wire, changes: dict[str, Any]) -> None:
    entry = replace(unmeasured(document_entry()), **changes)

    answer = await wire.provide(submission(entry), {entry.entry_uuid: CONTENT})

    assert set(refused(answer)) == {"XDSRepositoryMetadataError"}
    assert not await is_registered(wire, entry)


async def test_a_document_above_its_limit_is_refused_with_the_limit(wire: Wire) -> None:
    entry = unmeasured(document_entry())

    answer = await wire.provide(submission(entry), {entry.entry_uuid: bytes(DOCUMENT_BYTES + 1)})

    assert refused(answer) == ["XDSRepositoryOutOfResources"]
    assert str(DOCUMENT_BYTES) in answer.registry_response.errors[0].code_context


async def test_other_bytes_under_a_known_unique_id_are_refused_and_the_first_stay(wire: Wire) -> None:
    first = unmeasured(document_entry())
    await wire.provide(submission(first), {first.entry_uuid: CONTENT})
    other = unmeasured(document_entry(unique_id=first.unique_id))

    answer = await wire.provide(submission(other), {other.entry_uuid: b"other bytes"})
    repository = await _repository_unique_id(wire, first)
    fetched = await wire.mtom(ITI_43, retrieve_request([DocumentRequest(repository, first.unique_id or "")]))

    assert "XDSNonIdenticalHash" in refused(answer)
    assert list(fetched.parts.values()) == [CONTENT]


async def _repository_unique_id(wire: Wire, entry: DocumentEntry) -> str:
    answer = await wire.query("GetDocuments", XDSDocumentEntryUniqueId=f"('{entry.unique_id}')")
    found = read_rendering(answer.query_response.found[0].ebrim or b"")
    assert isinstance(found, DocumentEntry)
    return found.repository_unique_id or ""


async def test_every_error_is_told_at_once(wire: Wire) -> None:
    entry = document_entry(class_code=None, language_code=None, creation_time=None, patient_id=OTHER_PATIENT)
    sent = submission(entry, patient_id=PATIENT, source_id=None)

    answer = await wire.register(sent)

    assert sorted(set(refused(answer))) == ["XDSPatientIdDoesNotMatch", "XDSRegistryMetadataError"]
    sentences = " ".join(error.code_context for error in answer.registry_response.errors)
    assert all(name in sentences for name in ("classCode", "languageCode", "creationTime", "sourceId"))


async def test_a_refused_submission_leaves_none_of_its_objects(wire: Wire) -> None:
    good, bad = document_entry(), document_entry(type_code=None)
    keeping = folder()

    answer = await wire.register(submission(good, bad, folders=(keeping,)))

    assert refused(answer) == ["XDSRegistryMetadataError"]
    assert not await is_registered(wire, good)
    folders = await wire.query("GetFolders", "ObjectRef", XDSFolderUniqueId=f"('{keeping.unique_id}')")
    assert folders.query_response.found == ()


async def test_a_submission_set_can_not_be_sent_twice(wire: Wire) -> None:
    sent = submission(document_entry())
    await wire.register(sent)

    again = replace(sent.submission_set, entry_uuid=entry_uuid())
    answer = await wire.register(Submission(submission_sets=(again,)))

    assert "XDSDuplicateUniqueIdInRegistry" in refused(answer)


async def test_a_replacement_of_nothing_is_refused(wire: Wire) -> None:
    entry = document_entry()
    replacing = association(AssociationType.RPLC, entry, entry_uuid())

    answer = await wire.register(submission(entry, associations=(replacing,)))

    assert refused(answer) == ["UnresolvedReferenceException"]


async def test_a_deprecated_document_can_not_be_replaced(wire: Wire) -> None:
    first, second, third = document_entry(), document_entry(), document_entry()
    await wire.register(submission(first))
    await wire.register(submission(second, associations=(association(AssociationType.RPLC, second, first),)))

    answer = await wire.register(submission(third, associations=(association(AssociationType.RPLC, third, first),)))

    assert refused(answer) == ["XDSRegistryDeprecatedDocumentError"]


async def test_a_folder_of_another_patient_takes_no_document(wire: Wire) -> None:
    theirs = folder(patient_id=OTHER_PATIENT)
    await wire.register(submission(folders=(theirs,)))
    entry = document_entry()

    answer = await wire.register(submission(entry, associations=(has_member(theirs, entry),)))

    assert refused(answer) == ["XDSPatientIdDoesNotMatch"]


# Queries -----------------------------------------------------------------------------------------------------------

PATIENT_PARAMETER = {"XDSDocumentEntryPatientId": f"'{PATIENT}'"}
WRONG_QUERIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "the query is unknown": ("urn:uuid:00000000-0000-0000-0000-000000000000", {}, "XDSUnknownStoredQuery"),
    "a parameter is missing": ("FindDocuments", {"XDSDocumentEntryStatus": APPROVED}, "XDSStoredQueryMissingParam"),
    "one value is due and two are there": (
        "FindDocuments",
        {"XDSDocumentEntryPatientId": (f"'{PATIENT}'", f"'{OTHER_PATIENT}'"), "XDSDocumentEntryStatus": APPROVED},
        "XDSStoredQueryParamNumber",
    ),
    "a code has no scheme": (
        "FindDocuments",
        {**PATIENT_PARAMETER, "XDSDocumentEntryStatus": APPROVED, "XDSDocumentEntryClassCode": "('18842-5')"},
        "XDSRegistryError",
    ),
    "two of one are given": (
        "GetDocuments",
        {"XDSDocumentEntryUniqueId": "('1.2')", "XDSDocumentEntryEntryUUID": f"('{entry_uuid()}')"},
        "XDSStoredQueryParamNumber",
    ),
}


@pytest.mark.parametrize("what", WRONG_QUERIES)
async def test_a_wrong_query_is_refused_with_its_code(wire: Wire, what: str) -> None:
    query, parameters, code = WRONG_QUERIES[what]

    answer = await wire.query(query, **parameters)

    assert answer.status == 200
    assert answer.query_response.status is ResponseStatus.FAILURE
    assert answer.codes == [code]
    assert answer.body.find("{urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0}RegistryObjectList") is not None


async def test_an_unknown_return_type_is_refused(wire: Wire) -> None:
    answer = await wire.query("GetDocuments", "RegistryObject", XDSDocumentEntryUniqueId="('1.2')")

    assert answer.codes == ["XDSRegistryError"]


async def test_too_many_results_are_counted_and_not_sent(wire: Wire) -> None:
    await wire.register(submission(*(document_entry(patient_id=OTHER_PATIENT) for _ in range(6))))
    parameters = {"XDSDocumentEntryPatientId": f"'{OTHER_PATIENT}'", "XDSDocumentEntryStatus": APPROVED}

    leaves = await wire.query("FindDocuments", **parameters)
    references = await wire.query("FindDocuments", "ObjectRef", **parameters)

    assert leaves.codes == ["XDSTooManyResults"]
    assert "6" in leaves.query_response.errors[0].code_context
    assert "ObjectRef" in leaves.query_response.errors[0].code_context
    assert len(references.query_response.found) == 6


# Retrieval ---------------------------------------------------------------------------------------------------------


async def test_an_unknown_document_is_a_failure(wire: Wire) -> None:
    entry = unmeasured(document_entry())
    await wire.provide(submission(entry), {entry.entry_uuid: CONTENT})
    repository = await _repository_unique_id(wire, entry)

    answer = await wire.mtom(ITI_43, retrieve_request([DocumentRequest(repository, "1.2.3.4.5")]))

    assert answer.retrieved.status is ResponseStatus.FAILURE
    assert answer.codes == ["XDSDocumentUniqueIdError"]


async def test_more_documents_than_the_limit_are_not_retrieved_at_once(wire: Wire) -> None:
    answer = await wire.mtom(ITI_43, retrieve_request([DocumentRequest("1.2", f"1.3.{n}") for n in range(6)]))

    assert answer.retrieved.status is ResponseStatus.FAILURE
    assert "5" in answer.retrieved.errors[0].code_context


async def test_large_documents_are_not_sent_inline(wire: Wire) -> None:
    entry = unmeasured(document_entry())
    await wire.provide(submission(entry), {entry.entry_uuid: bytes(60_000)})
    repository = await _repository_unique_id(wire, entry)

    answer = await wire.simple(ITI_43, retrieve_request([DocumentRequest(repository, entry.unique_id or "")]))

    assert answer.retrieved.status is ResponseStatus.FAILURE
    assert "MTOM" in answer.retrieved.errors[0].code_context


# HTTP --------------------------------------------------------------------------------------------------------------


async def test_a_browser_at_an_endpoint_is_told_what_it_is(server: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{server}/xds/registry") as response:
        assert response.status == 405
        assert "?wsdl" in await response.text()


async def test_an_unknown_schema_is_not_found(server: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{server}/xds/registry?xsd=../setup.py") as response:
        assert response.status == 404


async def test_a_browser_at_the_server_is_told_where_to_go(server: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(server) as response:
        text = await response.text()

    assert response.status == 200
    assert f"{server}/xds/registry?wsdl" in text
    assert f"{server}/xds/repository?wsdl" in text


async def test_more_documents_than_the_limit_are_refused_with_the_limit(wire: Wire) -> None:
    entries = [unmeasured(document_entry()) for _ in range(6)]

    answer = await wire.provide(submission(*entries), {entry.entry_uuid: CONTENT for entry in entries})

    assert refused(answer) == ["XDSRepositoryOutOfResources"]
    assert "at most 5" in answer.registry_response.errors[0].code_context
