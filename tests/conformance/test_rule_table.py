"""Each rule of the rule book is broken by a whole message, in every transaction that it is about.

The answer is the standard's: HTTP 200 with a Failure, the code of the table, a sentence; and nothing was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from tests.builders import CONTENT, document_entry, entry_uuid, folder, submission, unmeasured
from tests.conformance.peer import REPOSITORY_ID, Message, Peer, distant_peer, packaged, soap
from tests.conformance.peer import near_peer as peer
from tests.conformance.rule_table import CONDITIONS, NOT_ASKED_OF_US, PATIENTS, WITHOUT_METADATA, Condition
from tests.conformance.wire import Reply, reply
from tests.xds.broken_updates import next_version, update_of
from xds.actors import DocumentRequest, QueryRequest, RegistryResponse
from xds.ebxml_messages import (
    provide_request,
    query_request,
    register_request,
    remove_documents_request,
    remove_request,
    retrieve_request,
)
from xds.errors import ErrorCode, ResponseStatus, Severity
from xds.metadata import DocumentEntry, DocumentEntryType, Folder, Submission
from xds.stored_queries import STORED_QUERIES, StoredQuery
from xds.transactions import ITI_18, ITI_41, ITI_42, ITI_43, ITI_51, ITI_57, ITI_61, ITI_62, ITI_86, ITI_92, Transaction

__all__ = ["distant_peer", "peer"]  # fixtures

RULES = range(1, 45)
ROWS = [(condition, transaction) for condition in CONDITIONS for transaction in condition.transactions]
FIRST_ROWS = list({(condition.rule, transaction.name): (condition, transaction)
                   for condition, transaction in reversed(ROWS)}.values())  # fmt: skip
"""One way of breaking each rule in each transaction: enough to see that another store makes no difference."""


def registered(peer: Peer, entry: DocumentEntry | None = None, *folders: Folder) -> Submission:
    sent = submission(entry or document_entry(), folders=folders)
    peer.soap(ITI_42, register_request(sent))
    return sent


def on_demand() -> DocumentEntry:
    return document_entry(object_type=DocumentEntryType.ON_DEMAND, creation_time=None, hash=None, size=None)


def valid(transaction: Transaction, peer: Peer) -> Submission:
    """A submission that the transaction would take: of a document, and of a Folder where it takes any."""
    if transaction is ITI_41:
        return submission(unmeasured(document_entry()), folders=(folder(),))
    if transaction is ITI_42:
        return submission(document_entry(), folders=(folder(),))
    if transaction is ITI_61:
        return submission(on_demand(), folders=(folder(),))
    before = registered(peer, None, folder())
    entry = next_version(before.document_entries[0])
    if transaction is ITI_92:
        return update_of(entry)
    case = next_version(before.folders[0])
    sent = update_of(entry, case)
    links = [replace(each, submission_set_status=None) if each.target_object == case.entry_uuid else each
             for each in sent.associations]  # fmt: skip
    return replace(sent, associations=tuple(links))


def message(transaction: Transaction, sent: Submission) -> Message:
    if transaction is not ITI_41:
        return soap(transaction, register_request(sent))
    names = {entry.entry_uuid: f"d{number}@example.org" for number, entry in enumerate(sent.document_entries)}
    return soap(ITI_41, provide_request(sent, names.items()), dict.fromkeys(names.values(), CONTENT))


def answered(peer: Peer, asked: Message) -> Reply:
    """The answer, which has to be a refusal that leaves no trace."""
    before = peer.kept()
    answer = peer.send(packaged(asked))
    assert peer.complained() == []
    assert peer.kept() == before
    return reply(answer.status, answer.headers, answer.content)


def codes(response: RegistryResponse) -> list[str]:
    """The codes of a refusal. Each error has a sentence that ends."""
    assert not response.succeeded
    assert all(error.code_context.endswith(".") for error in response.errors), response.errors
    return [str(error.code) for error in response.errors]


@pytest.mark.parametrize("transaction", [ITI_41, ITI_42, ITI_57, ITI_61, ITI_92], ids=lambda each: each.name)
def test_what_is_broken_here_is_taken_as_it_is(peer: Peer, transaction: Transaction) -> None:
    answer = peer.send(packaged(message(transaction, valid(transaction, peer))))

    assert reply(answer.status, answer.headers, answer.content).registry_response.succeeded, answer.content


def named(rows: list[tuple[Condition, Transaction]]) -> list[str]:
    return [f"{condition.rule}-{transaction.name}-{condition.what}" for condition, transaction in rows]


@pytest.mark.parametrize(("condition", "transaction"), ROWS, ids=named(ROWS))
def test_a_broken_rule_has_the_code_of_the_table_and_nothing_is_stored(
    peer: Peer, condition: Condition, transaction: Transaction
) -> None:
    assert_refused(peer, condition, transaction)


@pytest.mark.parametrize(("condition", "transaction"), FIRST_ROWS, ids=named(FIRST_ROWS))
def test_a_broken_rule_has_the_same_code_on_mongodb_and_s3_and_nothing_is_stored(
    distant_peer: Peer, condition: Condition, transaction: Transaction
) -> None:
    assert_refused(distant_peer, condition, transaction)


def assert_refused(peer: Peer, condition: Condition, transaction: Transaction) -> None:
    sent = condition.change(valid(transaction, peer))

    answer = answered(peer, message(transaction, sent))

    assert answer.status == 200, answer.content
    found = set(codes(answer.registry_response))
    assert condition.expected(transaction) in found
    assert found <= {condition.expected(transaction), *map(str, condition.also)}, answer.registry_response.errors


def test_every_rule_has_a_row() -> None:
    rows = {condition.rule for condition in CONDITIONS}

    assert sorted([*rows, *WITHOUT_METADATA, *NOT_ASKED_OF_US]) == list(RULES)


# Documents -----------------------------------------------------------------------------------------------------------


def test_a_document_entry_without_its_document_is_refused(peer: Peer) -> None:
    """Rule 33."""
    answer = answered(peer, soap(ITI_41, provide_request(submission(unmeasured(document_entry())), ()), {}))

    assert codes(answer.registry_response) == [ErrorCode.MISSING_DOCUMENT]


def test_a_document_without_its_document_entry_is_refused(peer: Peer) -> None:
    """Rule 34."""
    entry = unmeasured(document_entry())
    documents = [(entry.entry_uuid, "a"), (entry_uuid(), "b")]

    answer = answered(peer, soap(ITI_41, provide_request(submission(entry), documents), {"a": CONTENT, "b": CONTENT}))

    assert ErrorCode.MISSING_DOCUMENT_METADATA in codes(answer.registry_response)


# Removal and retrieval -----------------------------------------------------------------------------------------------


def removal(change: Callable[[bytes], bytes]) -> Callable[[Peer], Message]:
    return lambda peer: soap(ITI_62, change(remove_request([item.entry_uuid for item in registered(peer).objects])))


def without_references(body: bytes) -> bytes:
    start, end = body.index(b"<rim:ObjectRefList"), body.index(b"</rim:ObjectRefList>") + len(b"</rim:ObjectRefList>")
    return body[:start] + b"<rim:ObjectRefList/>" + body[end:]


def with_query(body: bytes) -> bytes:
    at = body.index(b"<rim:ObjectRefList")
    return body[:at] + b'<rim:AdhocQuery id="urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"/>' + body[at:]


def documents_of(transaction: Transaction, *requests: DocumentRequest) -> Callable[[Peer], Message]:
    body = retrieve_request(requests) if transaction is ITI_43 else remove_documents_request(requests)
    return lambda _: soap(transaction, body, {} if transaction.mtom else None)


_HERE, _NOWHERE = DocumentRequest(REPOSITORY_ID, "1.2.3.4"), DocumentRequest("1.2.3", "1.2.3.4")
REQUESTS: Mapping[str, tuple[int, Callable[[Peer], Message], str]] = {
    "a removal of nothing": (40, removal(without_references), "XDSRegistryError"),
    "a removal by query": (40, removal(with_query), "XDSRegistryError"),
    "a removal of what is referred to": (
        40, lambda peer: soap(ITI_62, remove_request([registered(peer).document_entries[0].entry_uuid])),
        "ReferencesExistException"),
    "a removal of what is not there": (
        40, lambda _: soap(ITI_62, remove_request([entry_uuid()])), "UnresolvedReferenceException"),
    "a retrieval without a repositoryUniqueId": (
        41, documents_of(ITI_43, DocumentRequest("", "1.2.3.4")), "XDSRepositoryError"),
    "a retrieval without a documentUniqueId": (
        41, documents_of(ITI_43, DocumentRequest(REPOSITORY_ID, "")), "XDSRepositoryError"),
    "a retrieval of what is not there": (41, documents_of(ITI_43, _HERE), "XDSDocumentUniqueIdError"),
    "a retrieval from another repository": (41, documents_of(ITI_43, _NOWHERE), "XDSUnknownRepositoryId"),
    "a removal of a document without a repositoryUniqueId": (
        41, documents_of(ITI_86, DocumentRequest("", "1.2.3.4")), "XDSRemoveDocumentsError"),
    "a removal of a document without a documentUniqueId": (
        41, documents_of(ITI_86, DocumentRequest(REPOSITORY_ID, "")), "XDSRemoveDocumentsError"),
    "a removal of a document that is not there": (41, documents_of(ITI_86, _HERE), "XDSDocumentUniqueIdError"),
    "a removal from another repository": (41, documents_of(ITI_86, _NOWHERE), "XDSUnknownRepositoryId"),
}  # fmt: skip


@pytest.mark.parametrize("what", REQUESTS, ids=lambda what: f"{REQUESTS[what][0]}-{what}")
@pytest.mark.parametrize("stores", ["peer", "distant_peer"], ids=["sqlite+files", "mongodb+s3"])
def test_a_request_that_can_not_be_has_the_code_of_the_table(
    request: pytest.FixtureRequest, stores: str, what: str
) -> None:
    peer: Peer = request.getfixturevalue(stores)
    _, make, code = REQUESTS[what]

    answer = answered(peer, make(peer))

    assert code in answer.codes, answer.content


@pytest.mark.parametrize("stores", ["peer", "distant_peer"], ids=["sqlite+files", "mongodb+s3"])
def test_an_answer_with_documents_says_all_of_each_document_and_of_each_error(
    request: pytest.FixtureRequest, stores: str
) -> None:
    """Rule 42: it is ours to keep."""
    peer: Peer = request.getfixturevalue(stores)
    entry = unmeasured(document_entry())
    peer.soap(ITI_41, provide_request(submission(entry), [(entry.entry_uuid, "d")]), d=CONTENT)
    there = DocumentRequest(REPOSITORY_ID, entry.unique_id or "")

    answer = peer.send(packaged(soap(ITI_43, retrieve_request([there, _HERE, _NOWHERE]), {})))

    received = reply(answer.status, answer.headers, answer.content)
    assert received.retrieved.status is ResponseStatus.PARTIAL_SUCCESS
    (document,) = received.retrieved.documents
    assert document.request == there
    assert (document.mime_type, list(received.parts.values())) == (entry.mime_type, [CONTENT])
    assert document.new_document_unique_id is None
    assert [(error.code, error.severity) for error in received.retrieved.errors] == [
        (ErrorCode.DOCUMENT_UNIQUE_ID_ERROR, Severity.ERROR),
        (ErrorCode.UNKNOWN_REPOSITORY_ID, Severity.ERROR),
    ]


# Queries: 1b of the list ---------------------------------------------------------------------------------------------

_VALUES = {"patient": f"'{PATIENTS[0]}'", "status": "('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')"}


def value_of(name: str) -> str:
    """A value that a parameter takes."""
    lowered = name.lower()
    if "patientid" in lowered:
        return _VALUES["patient"]
    if "status" in lowered:
        return _VALUES["status"]
    if "associationtypes" in lowered:
        return "('urn:ihe:iti:2007:AssociationType:APND')"
    if "uuid" in lowered or "logicalid" in lowered:
        return f"('{entry_uuid()}')"
    if "code" in lowered:
        return "('1^^1.2.3')"
    return "('1.2.3')"


def complete(query: StoredQuery) -> dict[str, tuple[str, ...]]:
    """What a query needs."""
    needed = [each.name for each in query.parameters if each.required]
    needed += [query.one_of[0].name] if query.one_of else []
    needed += [query.narrowed_by[0]] if query.narrowed_by and query.narrowed_by[0] not in needed else []
    return {name: (value_of(name),) for name in needed}


def asked(
    query: str, parameters: Mapping[str, tuple[str, ...]], transaction: Transaction = ITI_18, returns: str = "LeafClass"
) -> Message:
    return soap(transaction, query_request(QueryRequest(query, returns, tuple(parameters.items()))))


QUERIES = list(STORED_QUERIES.values())
NEEDS = [(query, name) for query in QUERIES for name in complete(query)]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_a_query_with_what_it_needs_is_answered(peer: Peer, query: StoredQuery) -> None:
    answer = peer.send(asked(query.id, complete(query), query.transaction, "ObjectRef"))

    assert reply(answer.status, answer.headers, answer.content).codes == []


@pytest.mark.parametrize(("query", "name"), NEEDS, ids=[f"{query.name}-{name}" for query, name in NEEDS])
def test_a_query_without_something_that_it_needs_is_refused(peer: Peer, query: StoredQuery, name: str) -> None:
    parameters = complete(query)
    del parameters[name]

    assert "XDSStoredQueryMissingParam" in answered(peer, asked(query.id, parameters, query.transaction)).codes


TWICE = [query for query in QUERIES if len(query.one_of) > 1]


@pytest.mark.parametrize("query", TWICE, ids=lambda query: query.name)
def test_a_query_with_two_of_what_exclude_each_other_is_refused(peer: Peer, query: StoredQuery) -> None:
    parameters = complete(query) | {each.name: (value_of(each.name),) for each in query.one_of[:2]}

    assert "XDSStoredQueryParamNumber" in answered(peer, asked(query.id, parameters, query.transaction)).codes


FIND = next(each for each in QUERIES if each.name == "FindDocuments")
MULTIPLE = next(each for each in QUERIES if each.transaction is ITI_51)
PATIENT_ID = "$XDSDocumentEntryPatientId"
ASKED: Mapping[str, tuple[Callable[[], Message], str]] = {
    "an unknown query": (lambda: asked("urn:uuid:00000000-0000-4000-8000-000000000000", {}), "XDSUnknownStoredQuery"),
    "a query of another transaction": (lambda: asked(MULTIPLE.id, complete(MULTIPLE)), "XDSRegistryError"),
    "another returnType": (lambda: asked(FIND.id, complete(FIND), returns="RegistryObject"), "XDSRegistryError"),
    "a code without a scheme": (
        lambda: asked(FIND.id, complete(FIND) | {"$XDSDocumentEntryClassCode": ("('1')",)}), "XDSRegistryError"),
    "two values where there is one": (
        lambda: asked(FIND.id, complete(FIND) | {PATIENT_ID: (f"('{PATIENTS[0]}','{PATIENTS[1]}')",)}),
        "XDSStoredQueryParamNumber"),
    "a time that is none": (
        lambda: asked(FIND.id, complete(FIND) | {"$XDSDocumentEntryCreationTimeFrom": ("yesterday",)}),
        "XDSRegistryError"),
}  # fmt: skip


@pytest.mark.parametrize("what", ASKED)
def test_a_query_that_can_not_be_is_refused_with_the_code_of_the_table(peer: Peer, what: str) -> None:
    make, code = ASKED[what]

    assert code in answered(peer, make()).codes


def test_a_parameter_that_is_repeated_where_it_may_not_is_refused(peer: Peer) -> None:
    once = tuple((name, value) for name, value in complete(FIND).items())
    request = QueryRequest(FIND.id, "LeafClass", (*once, once[0]))

    answer = answered(peer, soap(ITI_18, query_request(request)))

    assert "XDSStoredQueryParamNumber" in answer.codes


def test_objects_of_two_patients_are_not_answered_in_full(peer: Peer) -> None:
    """Rule 43."""
    uuids = [registered(peer, document_entry(patient_id=each)).document_entries[0].entry_uuid for each in PATIENTS]
    query = next(each for each in QUERIES if each.name == "GetDocuments")
    parameters = {"$XDSDocumentEntryEntryUUID": ("(" + ",".join(f"'{each}'" for each in uuids) + ")",)}

    assert answered(peer, asked(query.id, parameters)).codes == ["XDSResultNotSinglePatient"]
