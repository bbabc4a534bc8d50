"""The clients of actors on other hosts, against servers that behave, and servers that do not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from server.remote_actors import Received, RemoteRegistry, RemoteRepository, Retrieval, file_content
from server.soap_client import ContentChanged, NotReachable, Patience, Refused, Upload
from tests import builders
from xds import ebxml_messages, mtom, soap
from xds.actors import (
    Attachment,
    DocumentRequest,
    Found,
    Opening,
    OutcomeUnknown,
    QueryRequest,
    QueryResponse,
    RegistryResponse,
    RetrievedDocument,
    RetrieveResponse,
)
from xds.ebxml_writer import codec
from xds.errors import ErrorCode, RegistryError, ResponseStatus, Severity
from xds.metadata import ObjectKind, Submission
from xds.mtom import MultipartReader, PartData, PartStarted
from xds.soap import FaultCode, SoapFault
from xds.transactions import ITI_18, ITI_41, ITI_42, ITI_43, Transaction
from xds.xml import parse

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

FIND_DOCUMENTS = QueryRequest(
    "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d",
    "LeafClass",
    (("$XDSDocumentEntryPatientId", (f"'{builders.PATIENT}'",)),),
)
WANTED = DocumentRequest(builders.REPOSITORY, "1.2.3")
ALSO_WANTED = DocumentRequest(builders.REPOSITORY, "1.2.4")
IMPATIENT = Patience(connect=5, silence=0.3)
SUCCESS = RegistryResponse(ResponseStatus.SUCCESS)
MISSING = RegistryError(ErrorCode.DOCUMENT_UNIQUE_ID_ERROR, "There is no document 1.2.4 here.", "1.2.4")


@asynccontextmanager
async def answering(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The URL of a server whose every answer is the handler's."""
    app = web.Application()
    app.router.add_post("/anywhere", handler)
    server = TestServer(app)
    await server.start_server(ssl=tls)
    try:
        yield str(server.make_url("/anywhere"))
    finally:
        await server.close()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


def envelope(transaction: Transaction, body: bytes) -> bytes:
    return soap.envelope_head(transaction.response_action) + body + soap.ENVELOPE_TAIL


def soap_answer(transaction: Transaction, body: bytes, status: int = 200) -> web.Response:
    return web.Response(status=status, body=envelope(transaction, body), headers={"Content-Type": soap.CONTENT_TYPE})


def always(response: Callable[[], web.StreamResponse]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        async for _ in request.content.iter_any():
            pass
        return response()

    return handler


def fault(code: FaultCode, status: int) -> Handler:
    body = soap.fault_envelope(SoapFault(code, "The reason.", detail="Look here."))
    return always(lambda: web.Response(status=status, body=body, headers={"Content-Type": soap.CONTENT_TYPE}))


def content(*chunks: bytes) -> Opening:
    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        async def each() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        yield each()

    return opened


def provided(*documents: bytes) -> tuple[Submission, list[Upload]]:
    entries = [builders.document_entry() for _ in documents]
    uploads = [
        Upload(entry.entry_uuid, "text/plain", len(octets), content(octets))
        for entry, octets in zip(entries, documents, strict=True)
    ]
    return builders.submission(*entries), uploads


class Sink:
    """Keeps what is handed over."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.passed = 0

    async def receive(self, attachment: Attachment) -> None:
        self.contents[attachment.content_id] = b"".join([chunk async for chunk in attachment.content])

    def count(self, octets: int) -> None:
        self.passed += octets

    def of(self, received: Received) -> bytes:
        return self.contents[received.content_id]


async def retrieved(url: str, session: aiohttp.ClientSession, sink: Sink) -> Retrieval:
    return await RemoteRepository(url, session).retrieve([WANTED, ALSO_WANTED], sink.receive, progress=sink.count)


def retrieve_body(*content_ids: str, contents: tuple[bytes, ...], errors: tuple[RegistryError, ...] = ()) -> bytes:
    """A RetrieveDocumentSetResponse; without content_ids the documents stand in it as base64."""
    requests = (WANTED, ALSO_WANTED)
    documents = tuple(
        RetrievedDocument(request, "text/plain", len(octets), content(octets))
        for request, octets in zip(requests, contents, strict=False)
    )
    status = ResponseStatus.PARTIAL_SUCCESS if errors else ResponseStatus.SUCCESS
    response = RetrieveResponse(status, documents, errors)
    pieces = ebxml_messages.retrieve_response(response, list(content_ids) or None)
    inline = iter(contents)
    return b"".join(piece if isinstance(piece, bytes) else base64.encodebytes(next(inline)) for piece in pieces)


# ----------------------------------------------------------------------------------------------- the registry: ITI-42


async def test_a_submission_is_registered(session: aiohttp.ClientSession) -> None:
    requests: list[tuple[str, soap.Envelope]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        received = await request.read()
        assert request.content_length == len(received)
        requests.append((request.headers["Content-Type"], soap.read_envelope(parse(received))))
        return soap_answer(ITI_42, ebxml_messages.registry_response(SUCCESS))

    submission = builders.submission(builders.full_document_entry())
    async with answering(handler) as url:
        response = await RemoteRegistry(url, session).register_document_set(submission)
    ((content_type, sent),) = requests
    assert response == SUCCESS
    assert mtom.action_of(content_type) == sent.action == ITI_42.action
    assert sent.to == url
    assert sent.message_id is not None
    assert ebxml_messages.read_register_request(sent.body).document_entries == submission.document_entries


async def test_a_refusal_of_a_registry_is_its_response(session: aiohttp.ClientSession) -> None:
    refusal = RegistryResponse.of(
        [
            RegistryError(ErrorCode.UNKNOWN_PATIENT_ID, "Nobody knows the patient.", "patientId"),
            RegistryError("TheirOwnCode", "Something of theirs.", severity=Severity.WARNING),
        ]
    )
    async with answering(always(lambda: soap_answer(ITI_42, ebxml_messages.registry_response(refusal)))) as url:
        assert await RemoteRegistry(url, session).register_document_set(builders.submission()) == refusal


@pytest.mark.parametrize("boundary", ["b", "MIMEBoundary=_'x"])
async def test_a_registry_may_answer_with_mtom(session: aiohttp.ClientSession, boundary: str) -> None:
    package = mtom.Package(envelope(ITI_42, ebxml_messages.registry_response(SUCCESS)), boundary=boundary)
    body = package.head() + package.tail()
    handler = always(lambda: web.Response(body=body, headers={"Content-Type": package.content_type}))
    async with answering(handler) as url:
        assert await RemoteRegistry(url, session).register_document_set(builders.submission()) == SUCCESS


async def test_a_registry_that_nobody_runs_is_not_available(session: aiohttp.ClientSession) -> None:
    url = f"http://127.0.0.1:{unused_port()}/xds/registry"
    response = await RemoteRegistry(url, session).register_document_set(builders.submission())
    assert [error.code for error in response.errors] == [ErrorCode.REGISTRY_NOT_AVAILABLE]
    assert url in response.errors[0].code_context


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (fault(FaultCode.SENDER, 400), ErrorCode.REGISTRY_ERROR),
        (fault(FaultCode.SENDER, 500), ErrorCode.REGISTRY_ERROR),
        (fault(FaultCode.MUST_UNDERSTAND, 500), ErrorCode.REGISTRY_ERROR),
        (fault(FaultCode.RECEIVER, 503), ErrorCode.REGISTRY_NOT_AVAILABLE),
        (always(lambda: web.Response(status=404, text="not here")), ErrorCode.REGISTRY_ERROR),
        (always(lambda: web.Response(status=302, headers={"Location": "/login"})), ErrorCode.REGISTRY_ERROR),
        (always(lambda: web.Response(status=503, text="later")), ErrorCode.REGISTRY_NOT_AVAILABLE),
    ],
)
async def test_what_is_refused_before_anything_is_done_is_a_failure(
    session: aiohttp.ClientSession, handler: Handler, code: ErrorCode
) -> None:
    async with answering(handler) as url:
        response = await RemoteRegistry(url, session).register_document_set(builders.submission())
    assert response.status is ResponseStatus.FAILURE
    assert [error.code for error in response.errors] == [code]


async def test_the_reason_of_a_fault_is_passed_on(session: aiohttp.ClientSession) -> None:
    async with answering(fault(FaultCode.SENDER, 400)) as url:
        response = await RemoteRegistry(url, session).register_document_set(builders.submission())
    assert response.errors[0].code_context.endswith("a SOAP fault: The reason. Look here.")


def cut_off() -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": soap.CONTENT_TYPE})
        await response.prepare(request)
        await response.write(b"<s:Envelope")
        assert request.transport is not None
        request.transport.close()
        return response

    return handler


def hung_up() -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return handler


def silent() -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": soap.CONTENT_TYPE})
        await response.prepare(request)
        while await request.content.readany():
            pass
        connection = request.transport
        while connection is not None and not connection.is_closing():  # noqa: ASYNC110 - it offers nothing to wait for
            await asyncio.sleep(0.02)
        return response

    return handler


UNCERTAIN = [
    fault(FaultCode.RECEIVER, 500),
    always(lambda: web.Response(status=502, text="<html>bad gateway</html>", content_type="text/html")),
    always(lambda: web.Response(text="I am no SOAP.")),
    always(lambda: web.Response(body=b"")),
    always(lambda: web.Response(body=b"--b\r\n", headers={"Content-Type": 'multipart/related; boundary="b"'})),
    always(lambda: soap_answer(ITI_42, b'<x:Other xmlns:x="urn:x"/>')),
    cut_off(),
    hung_up(),
    silent(),
]


@pytest.mark.parametrize("handler", UNCERTAIN)
async def test_where_nobody_can_tell_what_was_done_the_outcome_is_unknown(
    session: aiohttp.ClientSession, handler: Handler
) -> None:
    async with answering(handler) as url:
        registry = RemoteRegistry(url, session, patience=IMPATIENT)
        with pytest.raises(OutcomeUnknown, match="http://127"):
            await registry.register_document_set(builders.submission())


async def test_text_that_xml_can_not_carry_is_refused_before_it_is_sent(session: aiohttp.ClientSession) -> None:
    submission = builders.submission(title=builders.text("bell \x07"))
    with pytest.raises(ValueError, match=r"U\+0007"):
        await RemoteRegistry("http://127.0.0.1:9/", session).register_document_set(submission)


# ----------------------------------------------------------------------------------------------- the registry: ITI-18


async def test_a_stored_query_is_asked_and_its_objects_come_back(session: aiohttp.ClientSession) -> None:
    entry = builders.registered(builders.full_document_entry())
    asked: list[QueryRequest] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(ebxml_messages.read_query_request(soap.read_envelope(parse(await request.read())).body))
        found = Found(ObjectKind.DOCUMENT_ENTRY, entry.entry_uuid, codec.written(entry))
        response = QueryResponse(ResponseStatus.SUCCESS, (found,))
        return soap_answer(ITI_18, b"".join(ebxml_messages.query_response(response)))

    async with answering(handler) as url:
        response = await RemoteRegistry(url, session).stored_query(FIND_DOCUMENTS)
    assert asked == [FIND_DOCUMENTS]
    assert [codec.read(found.ebrim or b"") for found in response.found] == [entry]


@pytest.mark.parametrize("handler", UNCERTAIN[:6])
async def test_a_query_that_is_answered_with_something_else_has_failed(
    session: aiohttp.ClientSession, handler: Handler
) -> None:
    async with answering(handler) as url:
        response = await RemoteRegistry(url, session).stored_query(FIND_DOCUMENTS)
    assert response.status is ResponseStatus.FAILURE
    assert [error.code for error in response.errors] == [ErrorCode.REGISTRY_ERROR]


@pytest.mark.parametrize("handler", [cut_off(), hung_up(), silent()])
async def test_a_query_without_an_answer_has_an_unknown_outcome(
    session: aiohttp.ClientSession, handler: Handler
) -> None:
    async with answering(handler) as url:
        with pytest.raises(OutcomeUnknown):
            await RemoteRegistry(url, session, patience=IMPATIENT).stored_query(FIND_DOCUMENTS)


async def test_an_answer_larger_than_the_limit_is_not_read(session: aiohttp.ClientSession) -> None:
    response = ebxml_messages.registry_response(SUCCESS)
    async with answering(always(lambda: soap_answer(ITI_18, response + b" " * 5000))) as url:
        answer = await RemoteRegistry(url, session, patience=Patience(envelope_bytes=4000)).stored_query(FIND_DOCUMENTS)
    assert "larger than 4000 octets" in answer.errors[0].code_context


# --------------------------------------------------------------------------------------------- the repository: ITI-41


async def test_documents_are_sent_as_mtom_with_their_length(session: aiohttp.ClientSession) -> None:
    contents: list[bytes] = []
    roots: list[bytes] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        reader = MultipartReader(request.headers["Content-Type"])
        received = await request.read()
        assert request.content_length == len(received)
        for event in (*reader.feed(received), *reader.finish()):
            if isinstance(event, PartStarted):
                parts = roots if event.part.is_root else contents
                parts.append(b"")
            elif isinstance(event, PartData):
                parts[-1] += event.data
        return soap_answer(ITI_41, ebxml_messages.registry_response(SUCCESS))

    submission, uploads = provided(b"first\r\n--", b"", b"\x00" * 100_000)
    sent: list[int] = []
    async with answering(handler) as url:
        repository = RemoteRepository(url, session)
        response = await repository.provide_and_register(submission, uploads, progress=sent.append)
    assert response == SUCCESS
    assert contents == [b"first\r\n--", b"", b"\x00" * 100_000]
    assert sum(sent) == 9 + 100_000
    _, documents = ebxml_messages.read_provide_request(soap.read_envelope(parse(roots[0])).body)
    assert [document.document_id for document in documents] == [upload.entry_id for upload in uploads]


async def test_a_file_of_any_size_is_sent_in_chunks(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as written:
        written.truncate(24 * 1024 * 1024)
    digest = hashlib.sha1(usedforsecurity=False)

    async def handler(request: web.Request) -> web.StreamResponse:
        reader = MultipartReader(request.headers["Content-Type"])
        root = True
        async for chunk in request.content.iter_any():
            for event in reader.feed(chunk):
                if isinstance(event, PartStarted):
                    root = event.part.is_root
                elif isinstance(event, PartData) and not root:
                    digest.update(event.data)
        return soap_answer(ITI_41, ebxml_messages.registry_response(SUCCESS))

    submission = builders.submission(builders.document_entry())
    upload = Upload(submission.document_entries[0].entry_uuid, "x/y", file.stat().st_size, file_content(file))
    chunks: list[int] = []
    async with answering(handler) as url:
        await RemoteRepository(url, session).provide_and_register(submission, [upload], progress=chunks.append)
    assert digest.hexdigest() == hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
    assert max(chunks) <= 1024 * 1024


@pytest.mark.parametrize("announced", [4, 6])
async def test_a_document_of_another_size_than_announced_is_not_sent_to_its_end(
    session: aiohttp.ClientSession, announced: int
) -> None:
    submission, (upload,) = provided(b"12345")
    wrong = Upload(upload.entry_id, upload.mime_type, announced, upload.content)
    async with answering(always(lambda: soap_answer(ITI_41, ebxml_messages.registry_response(SUCCESS)))) as url:
        with pytest.raises(ContentChanged, match=f"{announced} octets"):
            await RemoteRepository(url, session).provide_and_register(submission, [wrong])


async def test_a_document_that_can_not_be_read_ends_its_submission(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    submission, (upload,) = provided(b"12345")
    gone = Upload(upload.entry_id, upload.mime_type, 5, file_content(tmp_path / "gone"))
    async with answering(always(lambda: soap_answer(ITI_41, ebxml_messages.registry_response(SUCCESS)))) as url:
        with pytest.raises(FileNotFoundError):
            await RemoteRepository(url, session).provide_and_register(submission, [gone])


async def test_a_repository_that_nobody_runs_is_not_reachable(session: aiohttp.ClientSession) -> None:
    submission, uploads = provided(b"12345")
    repository = RemoteRepository(f"http://127.0.0.1:{unused_port()}/", session)
    with pytest.raises(NotReachable):
        await repository.provide_and_register(submission, uploads)
    with pytest.raises(NotReachable):
        await repository.retrieve([WANTED], Sink().receive)


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/", "http://"])
async def test_an_address_that_is_none_is_not_reachable(session: aiohttp.ClientSession, url: str) -> None:
    with pytest.raises(NotReachable):
        await RemoteRepository(url, session).retrieve([WANTED], Sink().receive)


async def test_a_fault_of_a_repository_is_a_refusal(session: aiohttp.ClientSession) -> None:
    submission, uploads = provided(b"12345")
    async with answering(fault(FaultCode.SENDER, 400)) as url:
        with pytest.raises(Refused, match="The reason") as refused:
            await RemoteRepository(url, session).provide_and_register(submission, uploads)
    assert refused.value.nothing_done


# --------------------------------------------------------------------------------------------- the repository: ITI-43


def mtom_answer(root: bytes, contents: dict[str, bytes], order: Callable[[list[bytes]], list[bytes]]) -> web.Response:
    """A package whose parts stand in an order of their own."""
    parts = [b"--b\r\nContent-Type: application/xop+xml\r\nContent-ID: <root>\r\n\r\n" + root + b"\r\n"]
    for content_id, octets in contents.items():
        parts.append(f"--b\r\nContent-ID: <{content_id}>\r\n\r\n".encode() + octets + b"\r\n")
    content_type = 'multipart/related; boundary="b"; type="application/xop+xml"; start="<root>"'
    return web.Response(body=b"".join((*order(parts), b"--b--")), headers={"Content-Type": content_type})


@pytest.mark.parametrize("order", [list, lambda parts: list(reversed(parts))])
async def test_documents_arrive_in_any_order(
    session: aiohttp.ClientSession, order: Callable[[list[bytes]], list[bytes]]
) -> None:
    contents = {"a%20b@x": b"first", "2@x": b"second" * 1000}
    root = envelope(ITI_43, retrieve_body("a b@x", "2@x", contents=tuple(contents.values())))
    sink = Sink()
    async with answering(always(lambda: mtom_answer(root, contents, order))) as url:
        answer = await retrieved(url, session, sink)
    assert answer.status is ResponseStatus.SUCCESS
    assert [(each.request, sink.of(each)) for each in answer.documents] == [
        (WANTED, b"first"),
        (ALSO_WANTED, b"second" * 1000),
    ]
    assert sink.passed == 5 + 6000


async def test_documents_inside_of_the_envelope_are_handed_over_as_well(session: aiohttp.ClientSession) -> None:
    contents = (b"first", bytes(range(256)) * 3000)
    async with answering(always(lambda: soap_answer(ITI_43, retrieve_body(contents=contents)))) as url:
        sink = Sink()
        answer = await retrieved(url, session, sink)
    assert tuple(sink.of(each) for each in answer.documents) == contents


async def test_what_is_missing_is_told_beside_what_is_there(session: aiohttp.ClientSession) -> None:
    body = retrieve_body("1@x", contents=(b"first",), errors=(MISSING,))
    sink = Sink()
    async with answering(always(lambda: mtom_answer(envelope(ITI_43, body), {"1@x": b"first"}, list))) as url:
        answer = await retrieved(url, session, sink)
    assert answer.status is ResponseStatus.PARTIAL_SUCCESS
    assert answer.errors == (MISSING,)
    assert [each.request for each in answer.documents] == [WANTED]


async def test_a_document_that_is_listed_and_not_sent_is_no_document(session: aiohttp.ClientSession) -> None:
    root = envelope(ITI_43, retrieve_body("1@x", contents=(b"first",)))
    async with answering(always(lambda: mtom_answer(root, {}, list))) as url:
        with pytest.raises(Refused, match="1@x"):
            await retrieved(url, session, Sink())


async def test_a_document_that_is_no_base64_is_refused(session: aiohttp.ClientSession) -> None:
    body = retrieve_body(contents=(b"first",)).replace(base64.encodebytes(b"first"), b"Zm=yc3Q=")
    async with answering(always(lambda: soap_answer(ITI_43, body))) as url:
        with pytest.raises(Refused, match="base64"):
            await retrieved(url, session, Sink())


async def test_a_transfer_that_breaks_is_told(session: aiohttp.ClientSession) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        headers = {"Content-Type": 'multipart/related; boundary="b"', "Content-Length": "100000"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(b"--b\r\nContent-ID: <root>\r\n\r\n<x/>\r\n--b\r\nContent-ID: <1>\r\n\r\nhalf of a docu")
        assert request.transport is not None
        request.transport.close()
        return response

    async with answering(handler) as url:
        with pytest.raises(OutcomeUnknown):
            await retrieved(url, session, Sink())


async def test_what_goes_wrong_with_the_receiver_passes_through(session: aiohttp.ClientSession) -> None:
    async def full(_: Attachment) -> None:
        raise OSError("no space left")

    root = envelope(ITI_43, retrieve_body("1@x", contents=(b"first",)))
    async with answering(always(lambda: mtom_answer(root, {"1@x": b"first"}, list))) as url:
        with pytest.raises(OSError, match="no space left"):
            await RemoteRepository(url, session).retrieve([WANTED], full)


# ------------------------------------------------------------------------------------------------------------- TLS


async def test_a_server_is_spoken_to_by_tls_when_its_authority_is_trusted(session: aiohttp.ClientSession) -> None:
    authority = trustme.CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    handler = always(lambda: soap_answer(ITI_42, ebxml_messages.registry_response(SUCCESS)))
    async with answering(handler, theirs) as url:
        assert url.startswith("https:")
        trusting = RemoteRegistry(url, session, tls=ours)
        assert await trusting.register_document_set(builders.submission()) == SUCCESS
        distrusting = RemoteRegistry(url, session)
        response = await distrusting.register_document_set(builders.submission())
    assert [error.code for error in response.errors] == [ErrorCode.REGISTRY_NOT_AVAILABLE]
    assert "certificate" in response.errors[0].code_context
