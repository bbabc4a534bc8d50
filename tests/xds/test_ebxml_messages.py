"""The bodies of ITI-18, ITI-41, ITI-42 and ITI-43: what one side writes the other side reads, and the schema agrees."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import pytest
from lxml import etree

from tests.builders import REPOSITORY, document_entry, folder, full_document_entry, registered, submission
from tests.official_schemas import assert_valid, needs_official_schemas
from xds.actors import (
    DocumentRequest,
    Found,
    QueryRequest,
    QueryResponse,
    RegistryResponse,
    RetrievedDocument,
    RetrieveResponse,
)
from xds.ebxml_messages import (
    ReceivedDocument,
    provide_request,
    query_request,
    query_response,
    read_provide_request,
    read_query_request,
    read_query_response,
    read_register_request,
    read_registry_response,
    read_retrieve_request,
    read_retrieve_response,
    register_request,
    registry_response,
    retrieve_request,
    retrieve_response,
)
from xds.ebxml_names import QUERY, RIM, RS, XDSB
from xds.ebxml_writer import written
from xds.errors import ErrorCode, RegistryError, ResponseStatus, Severity
from xds.metadata import AnyObject
from xds.mtom import MultipartProblem
from xds.xml import XmlProblem, parse

FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
HOME = "urn:oid:2.25.5150"
ERRORS = (
    RegistryError(
        ErrorCode.UNKNOWN_PATIENT_ID, 'The patient "9434765919^^^&1.2&ISO" is <unknown>; register it.', "x/y"
    ),
    RegistryError(ErrorCode.EXTRA_METADATA_NOT_SAVED, "Something was not kept.", severity=Severity.WARNING),
    RegistryError("FOREIGN_CODE", ""),
)


def found(item: AnyObject) -> Found:
    return Found(item.kind, item.entry_uuid, written(item), item.home_community_id)


def opened() -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
    raise AssertionError("a response is written without opening its documents")


def document(request: DocumentRequest, mime_type: str = "text/plain") -> RetrievedDocument:
    return RetrievedDocument(request, mime_type, 6, opened)


# ------------------------------------------------------------------------------------------------ ITI-42 and ITI-41


def test_a_submission_arrives_as_it_was_sent() -> None:
    sent = submission(full_document_entry(), document_entry(), folders=(folder(),))

    assert read_register_request(parse(register_request(sent))) == sent


def test_documents_arrive_with_the_content_ids_of_their_parts() -> None:
    first, second = document_entry(), document_entry()
    sent = submission(first, second)
    documents = [(second.entry_uuid, "2@toimik.example"), (first.entry_uuid, "a b<1>&%@toimik.example")]

    arrived, parts = read_provide_request(parse(provide_request(sent, documents)))

    assert arrived == sent
    assert parts == [(second.entry_uuid, "2@toimik.example", None), (first.entry_uuid, "a b<1>&%@toimik.example", None)]


def test_a_document_may_be_inline_and_its_id_is_compared_as_those_of_entries() -> None:
    body = provide_request(submission(), []).replace(
        b"</xdsb:Provide",
        b'<xdsb:Document id="URN:UUID:0A1B2C3D-0000-4000-8000-00000000000F">VG9p\nbWlr</xdsb:Document>'
        b'<xdsb:Document id="Doc1"/></xdsb:Provide',
    )

    _, parts = read_provide_request(parse(body))

    assert parts == [("urn:uuid:0a1b2c3d-0000-4000-8000-00000000000f", None, "VG9p\nbWlr"), ("Doc1", None, "")]


def test_a_submission_without_documents_is_provided() -> None:
    assert read_provide_request(parse(provide_request(submission(), [])))[1] == []


def test_nothing_outside_of_the_message_is_referred_to() -> None:
    body = provide_request(submission(), [("Doc1", "1@toimik.example")]).replace(b"cid:", b"http://toimik.example/")

    with pytest.raises(MultipartProblem, match="is not fetched"):
        read_provide_request(parse(body))


def test_a_provided_set_without_metadata_can_not_be_read() -> None:
    body = f'<ProvideAndRegisterDocumentSetRequest xmlns="{XDSB}"/>'.encode()

    with pytest.raises(XmlProblem, match="ProvideAndRegisterDocumentSetRequest has no SubmitObjectsRequest"):
        read_provide_request(parse(body))


@needs_official_schemas
def test_submissions_are_valid() -> None:
    sent = submission(full_document_entry(), document_entry(), folders=(folder(),))

    assert_valid(register_request(sent))
    assert_valid(provide_request(sent, [(each.entry_uuid, "1@toimik.example") for each in sent.document_entries]))


# ---------------------------------------------------------------------------------------------------------- ITI-18

QUERIES = [
    QueryRequest(
        FIND_DOCUMENTS,
        "LeafClass",
        (
            ("$XDSDocumentEntryPatientId", ("'9434765919^^^&2.16.840.1.113883.2.1.4.1&ISO'",)),
            ("$XDSDocumentEntryStatus", ("('urn:a')", "('urn:b')")),
            ("$XDSDocumentEntryEventCodeList", ("('a^^b')",)),
            ("$XDSDocumentEntryEventCodeList", ("('c^^d')",)),
            ("$XDSDocumentEntryTitle<>", ()),
        ),
    ),
    QueryRequest("urn:uuid:00000000-0000-4000-8000-000000000000", "ObjectRef", (), HOME),
]


@pytest.mark.parametrize("query", QUERIES, ids=["with parameters", "without"])
def test_a_query_arrives_as_it_was_asked(query: QueryRequest) -> None:
    assert read_query_request(parse(query_request(query))) == query


def test_a_query_that_names_no_return_type_has_the_default_of_ebrs() -> None:
    body = f"""<q:AdhocQueryRequest xmlns:q="{QUERY}"><q:ResponseOption/>
      <AdhocQuery xmlns="{RIM}" id="{FIND_DOCUMENTS.upper()}"/></q:AdhocQueryRequest>"""

    assert read_query_request(parse(body.encode())) == QueryRequest(FIND_DOCUMENTS, "RegistryObject", ())


def test_a_request_without_query_can_not_be_read() -> None:
    with pytest.raises(XmlProblem, match="AdhocQueryRequest has no AdhocQuery"):
        read_query_request(parse(f'<AdhocQueryRequest xmlns="{QUERY}"/>'.encode()))


RESPONSES = {
    "objects": QueryResponse(
        ResponseStatus.SUCCESS,
        tuple(found(each) for each in submission(registered(full_document_entry()), folders=(folder(),)).objects),
    ),
    "references": QueryResponse(
        ResponseStatus.SUCCESS,
        (Found(None, document_entry().entry_uuid), Found(None, document_entry().entry_uuid, home_community_id=HOME)),
    ),
    "nothing": QueryResponse(ResponseStatus.SUCCESS),
    "some and errors": QueryResponse(ResponseStatus.PARTIAL_SUCCESS, (found(document_entry()),), ERRORS),
    "failure": QueryResponse(ResponseStatus.FAILURE, (), ERRORS[:1]),
}


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES.keys())
def test_the_answer_to_a_query_arrives_as_it_was_given(response: QueryResponse) -> None:
    arrived = read_query_response(parse(b"".join(query_response(response))))

    assert (arrived.status, arrived.errors) == (response.status, response.errors)
    assert sorted(arrived.found, key=lambda each: each.entry_uuid) == sorted(
        response.found, key=lambda each: each.entry_uuid
    )


@needs_official_schemas
@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES.keys())
def test_the_answer_to_a_query_is_valid(response: QueryResponse) -> None:
    assert_valid(b"".join(query_response(response, "urn:uuid:0a1b2c3d-0000-4000-8000-00000000000f")))


@needs_official_schemas
@pytest.mark.parametrize("query", QUERIES, ids=["with parameters", "without"])
def test_a_query_is_valid(query: QueryRequest) -> None:
    assert_valid(query_request(query))


def test_a_failed_query_has_its_errors_before_an_empty_list_of_objects() -> None:
    body = etree.fromstring(b"".join(query_response(RESPONSES["failure"])))

    assert [etree.QName(child).localname for child in body] == ["RegistryErrorList", "RegistryObjectList"]
    assert len(body[1]) == 0


def test_a_reference_is_answered_without_the_object() -> None:
    answer = b"".join(query_response(QueryResponse(ResponseStatus.SUCCESS, (Found(None, "urn:uuid:1", None, HOME),))))

    assert f'<rim:ObjectRef id="urn:uuid:1" home="{HOME}"/>'.encode() in answer


# ---------------------------------------------------------------------------------------------- RegistryResponse


@pytest.mark.parametrize("status", ResponseStatus)
@pytest.mark.parametrize("errors", [(), ERRORS], ids=["without errors", "with errors"])
def test_a_registry_response_arrives_as_it_was_given(status: ResponseStatus, errors: tuple[RegistryError, ...]) -> None:
    response = RegistryResponse(status, errors)

    assert read_registry_response(parse(registry_response(response))) == response


@needs_official_schemas
@pytest.mark.parametrize("errors", [(), ERRORS], ids=["without errors", "with errors"])
def test_a_registry_response_is_valid(errors: tuple[RegistryError, ...]) -> None:
    assert_valid(registry_response(RegistryResponse.of(errors)))


@pytest.mark.parametrize(("errors", "highest"), [(ERRORS, Severity.ERROR), (ERRORS[1:2], Severity.WARNING)])
def test_the_list_of_errors_tells_the_highest_severity(errors: tuple[RegistryError, ...], highest: Severity) -> None:
    body = etree.fromstring(registry_response(RegistryResponse.of(errors)))

    assert body[0].get("highestSeverity") == highest


def test_a_known_error_code_is_read_as_such() -> None:
    response = read_registry_response(parse(registry_response(RegistryResponse.of(ERRORS))))

    assert isinstance(response.errors[0].code, ErrorCode)
    assert not isinstance(response.errors[2].code, ErrorCode)


def test_an_error_that_quotes_what_xml_can_not_carry_is_answered_all_the_same() -> None:
    response = RegistryResponse.of([RegistryError(ErrorCode.REPOSITORY_ERROR, "The part \x00 is unknown.", "\x01")])

    (error,) = read_registry_response(parse(registry_response(response))).errors

    assert (error.code_context, error.location) == ("The part \ufffd is unknown.", "\ufffd")


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:PartialSuccess", ResponseStatus.PARTIAL_SUCCESS),
        ("Success", ResponseStatus.SUCCESS),
    ],
)
def test_a_status_is_known_by_its_last_part(sent: str, meant: ResponseStatus) -> None:
    assert read_registry_response(parse(f'<RegistryResponse xmlns="{RS}" status="{sent}"/>'.encode())).status is meant


def test_a_response_without_status_can_not_be_read() -> None:
    with pytest.raises(XmlProblem, match="The status of RegistryResponse is ''; send one of urn:oasis"):
        read_registry_response(parse(f'<RegistryResponse xmlns="{RS}"/>'.encode()))


# ---------------------------------------------------------------------------------------------------------- ITI-43

REQUESTS = [DocumentRequest(REPOSITORY, "1.2.3^<a>"), DocumentRequest(REPOSITORY, "1.2.4", HOME)]


def test_the_documents_asked_for_arrive_as_they_were_named() -> None:
    assert read_retrieve_request(parse(retrieve_request(REQUESTS))) == REQUESTS


@needs_official_schemas
def test_a_retrieve_request_is_valid() -> None:
    assert_valid(retrieve_request(REQUESTS))


def test_retrieved_documents_arrive_with_the_content_ids_of_their_parts() -> None:
    documents = (document(REQUESTS[0]), document(REQUESTS[1], "text/xml; charset=UTF-8"))
    response = RetrieveResponse(ResponseStatus.PARTIAL_SUCCESS, documents, ERRORS)

    (body,) = retrieve_response(response, ["1@toimik.example", "2@toimik.example"])
    assert isinstance(body, bytes)
    arrived = read_retrieve_response(parse(body))

    assert (arrived.status, arrived.errors) == (response.status, response.errors)
    assert arrived.documents == (
        ReceivedDocument(REQUESTS[0], "text/plain", "1@toimik.example", None),
        ReceivedDocument(REQUESTS[1], "text/xml; charset=UTF-8", "2@toimik.example", None),
    )


@pytest.mark.parametrize("repository", [None, REPOSITORY])
def test_what_an_on_demand_document_was_made_as_arrives(repository: str | None) -> None:
    made = replace(document(REQUESTS[0]), new_document_unique_id="1.2.9<", new_repository_unique_id=repository)

    (body,) = retrieve_response(RetrieveResponse(ResponseStatus.SUCCESS, (made,)), ["1@toimik.example"])
    assert isinstance(body, bytes)
    (arrived,) = read_retrieve_response(parse(body)).documents

    assert arrived == ReceivedDocument(REQUESTS[0], "text/plain", "1@toimik.example", None, "1.2.9<", repository)


def test_documents_that_go_inline_stand_where_their_content_has_to_be_written() -> None:
    documents = (document(REQUESTS[0]), document(REQUESTS[1]))
    pieces = retrieve_response(RetrieveResponse(ResponseStatus.SUCCESS, documents))

    body = b"".join(piece if isinstance(piece, bytes) else b"VG9pbWlr" for piece in pieces)

    assert [piece for piece in pieces if not isinstance(piece, bytes)] == list(documents)
    assert [(each.request, each.inline) for each in read_retrieve_response(parse(body)).documents] == [
        (request, "VG9pbWlr") for request in REQUESTS
    ]


@needs_official_schemas
@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("errors", [(), ERRORS], ids=["without errors", "with errors"])
def test_a_retrieve_response_is_valid(count: int, errors: tuple[RegistryError, ...]) -> None:
    documents = tuple(document(each) for each in REQUESTS[:count])
    response = RetrieveResponse(ResponseStatus.PARTIAL_SUCCESS, documents, errors)

    pieces = retrieve_response(response)
    (body,) = retrieve_response(response, ["1@toimik.example", "2@toimik.example"][:count])

    assert_valid(b"".join(piece if isinstance(piece, bytes) else b"VG9pbWlr" for piece in pieces))
    assert isinstance(body, bytes)
    assert_valid(body)
