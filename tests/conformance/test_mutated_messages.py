"""Whatever becomes of a message on its way: the answer has the standard's form, and a refusal leaves no trace.

Valid messages of every transaction are changed a little (tests/conformance/mutations.py) and sent over HTTP. An answer
that says that the server itself failed is a defect, and so is an error in its log. The examples are the same each time;
TOIMIK_FUZZ_EXAMPLES asks for more of them, and for others each time.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from mhd.fhir.fhir_json import parsed, written
from mhd.iti93_mobile_patient_identity_feed import EVENT
from server.fhir_xml import from_xml, to_xml
from tests.builders import (
    CONTENT,
    OTHER_PATIENT,
    PATIENT,
    PATIENT_AUTHORITY,
    document_entry,
    folder,
    has_member,
    submission,
    unmeasured,
)
from tests.conformance.mutations import (
    BYTES,
    HEADERS,
    JSON,
    MEDIA_TYPE,
    ODD_VALUES,
    XML,
    Change,
    changed_bytes,
    changed_json,
    changed_media_type,
    changed_xml,
    changes,
    long_text,
)
from tests.conformance.peer import REPOSITORY_ID, Answer, Message, Peer, distant_peer, packaged, soap
from tests.conformance.peer import near_peer as peer
from tests.conformance.wire import reply
from tests.fhir_validity import assert_is_fhir
from tests.hl7v3_builders import patient_feed
from tests.mhd.recipients import bundle_with
from tests.xds.broken_updates import next_version, update_of
from xds.actors import DocumentRequest, QueryRequest
from xds.ebxml_messages import (
    provide_request,
    query_request,
    register_request,
    remove_documents_request,
    remove_request,
    retrieve_request,
)
from xds.metadata import AvailabilityStatus, DocumentEntryType, Submission
from xds.soap import SOAP, SOAP_1_1
from xds.stored_queries import STORED_QUERIES
from xds.transactions import (
    ITI_18,
    ITI_41,
    ITI_42,
    ITI_43,
    ITI_44_ADDED,
    ITI_51,
    ITI_57,
    ITI_61,
    ITI_62,
    ITI_86,
    ITI_92,
)

__all__ = ["distant_peer", "peer"]  # fixtures

ASKED_FOR = int(os.environ.get("TOIMIK_FUZZ_EXAMPLES", "0"))
EXAMPLES = ASKED_FOR or 500
FHIR_JSON, FHIR_XML = "application/fhir+json", "application/fhir+xml"


# What is sent --------------------------------------------------------------------------------------------------------


def whole_submission() -> Submission:
    """Two documents, a Folder and what joins them."""
    entry, other, in_folder = document_entry(), document_entry(), folder()
    return submission(entry, other, folders=(in_folder,), associations=(has_member(in_folder, entry),))


def provide(peer: Peer) -> Message:
    entry = unmeasured(document_entry())
    return soap(
        ITI_41, provide_request(submission(entry), [(entry.entry_uuid, "d@example.org")]), {"d@example.org": CONTENT}
    )


def provide_inline(peer: Peer) -> Message:
    entry = unmeasured(document_entry())
    whole = provide_request(submission(entry), [(entry.entry_uuid, "d")])
    return soap(ITI_41, re.sub(rb"<xop:Include[^>]*>", b64encode(CONTENT), whole))


def registered(peer: Peer) -> Submission:
    whole = whole_submission()
    peer.soap(ITI_42, register_request(whole))
    return whole


def register(peer: Peer) -> Message:
    return soap(ITI_42, register_request(whole_submission()))


def update(peer: Peer) -> Message:
    return soap(ITI_57, register_request(update_of(next_version(registered(peer).document_entries[0]))))


def restricted_update(peer: Peer) -> Message:
    return soap(ITI_92, register_request(update_of(next_version(registered(peer).document_entries[0]))))


def on_demand(peer: Peer) -> Message:
    entry = document_entry(object_type=DocumentEntryType.ON_DEMAND, creation_time=None, hash=None, size=None)
    return soap(ITI_61, register_request(submission(entry)))


def remove(peer: Peer) -> Message:
    return soap(ITI_62, remove_request([each.entry_uuid for each in registered(peer).objects]))


def stored_document(peer: Peer) -> DocumentRequest:
    entry = unmeasured(document_entry())
    peer.soap(ITI_41, provide_request(submission(entry), [(entry.entry_uuid, "d")]), d=CONTENT)
    return DocumentRequest(REPOSITORY_ID, entry.unique_id or "")


def remove_documents(peer: Peer) -> Message:
    return soap(ITI_86, remove_documents_request([stored_document(peer)]))


def retrieve(peer: Peer) -> Message:
    return soap(ITI_43, retrieve_request([stored_document(peer)]), {})


def stored_query(peer: Peer, name: str, parameters: Mapping[str, str]) -> Message:
    (row,) = [each for each in STORED_QUERIES.values() if each.name == name]
    request = QueryRequest(row.id, "LeafClass", tuple((f"${key}", (value,)) for key, value in parameters.items()))
    return soap(row.transaction, query_request(request))


def find_documents(peer: Peer) -> Message:
    return stored_query(
        peer,
        "FindDocuments",
        {
            "XDSDocumentEntryPatientId": f"'{PATIENT}'",
            "XDSDocumentEntryStatus": f"('{AvailabilityStatus.APPROVED}')",
            "XDSDocumentEntryClassCode": "('18842-5^^2.16.840.1.113883.6.1')",
            "XDSDocumentEntryCreationTimeFrom": "2025",
            "XDSDocumentEntryAuthorPerson": "('%Tamm%')",
            "XDSDocumentEntryEventCodeList": "('a^^b','c^^d')",
        },
    )


def find_by_reference(peer: Peer) -> Message:
    parameters = {
        "XDSDocumentEntryPatientId": f"'{PATIENT}'",
        "XDSDocumentEntryStatus": f"('{AvailabilityStatus.APPROVED}')",
        "XDSDocumentEntryReferenceIdList": "('1.2.3^^^^urn:ihe:iti:xds:2013:accession')",
    }
    return stored_query(peer, "FindDocumentsByReferenceId", parameters)


def get_related(peer: Peer) -> Message:
    entry = registered(peer).document_entries[0]
    parameters = {"XDSDocumentEntryEntryUUID": f"'{entry.entry_uuid}'", "AssociationTypes": "('urn:x')"}
    return stored_query(peer, "GetRelatedDocuments", parameters)


def get_folder(peer: Peer) -> Message:
    found = registered(peer).folders[0]
    return stored_query(peer, "GetFolderAndContents", {"XDSFolderUniqueId": f"'{found.unique_id}'"})


def find_documents_of_all(peer: Peer) -> Message:
    parameters = {
        "XDSDocumentEntryStatus": f"('{AvailabilityStatus.APPROVED}')",
        "XDSDocumentEntryPatientId": f"('{PATIENT}','{OTHER_PATIENT}')",
    }
    return stored_query(peer, "FindDocumentsForMultiplePatients", parameters)


def feed(peer: Peer) -> Message:
    return soap(ITI_44_ADDED, patient_feed("PRPA_IN201301UV02", PATIENT))


def fhir(path: str, resource: Any, method: str = "POST") -> Message:
    return Message(method, f"/fhir{path}", written(resource), FHIR_JSON)


def provide_bundle(peer: Peer) -> Message:
    return fhir("", bundle_with())


def provide_bundle_as_xml(peer: Peer) -> Message:
    return Message("POST", "/fhir", to_xml(bundle_with()), FHIR_XML)


def simplified_publish(peer: Peer) -> Message:
    bundle = bundle_with()
    [reference] = [
        each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == "DocumentReference"
    ]
    attachment = reference["content"][0]["attachment"]
    attachment.pop("url", None)
    attachment["data"] = "VG9pbWlr"
    return fhir("/DocumentReference", reference)


def generate_metadata(peer: Peer) -> Message:
    binary = {"resourceType": "Binary", "contentType": "text/xml", "data": "PENsaW5pY2FsRG9jdW1lbnQvPg=="}
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "document", "resource": binary}]}
    return fhir("/DocumentReference/$generate-metadata", parameters)


def patient() -> dict[str, Any]:
    identifier = {"system": f"urn:oid:{PATIENT_AUTHORITY}", "value": "9434765919"}
    return {"resourceType": "Patient", "active": True, "identifier": [identifier]}


def put_patient(peer: Peer) -> Message:
    return fhir(f"/Patient?identifier=urn:oid:{PATIENT_AUTHORITY}|9434765919", patient(), "PUT")


def patient_message(peer: Peer) -> Message:
    history = {
        "resourceType": "Bundle",
        "type": "history",
        "entry": [
            {
                "fullUrl": "urn:uuid:0b6b2f0e-6f57-4f0c-8c0f-2a5b8d7d9a11",
                "resource": patient(),
                "request": {"method": "POST", "url": "Patient"},
                "response": {"status": "200"},
            }
        ],
    }
    header = {
        "resourceType": "MessageHeader",
        "eventUri": EVENT,
        "source": {"endpoint": "http://example.org/feed"},
        "focus": [{"reference": "urn:uuid:0b6b2f0e-6f57-4f0c-8c0f-2a5b8d7d9a12"}],
    }
    entries = [
        {"fullUrl": "urn:uuid:0b6b2f0e-6f57-4f0c-8c0f-2a5b8d7d9a13", "resource": header},
        {"fullUrl": "urn:uuid:0b6b2f0e-6f57-4f0c-8c0f-2a5b8d7d9a12", "resource": history},
    ]
    return fhir("/$process-message", {"resourceType": "Bundle", "type": "message", "entry": entries})


VALID: Mapping[str, Callable[[Peer], Message]] = {
    "ITI-41": provide,
    "ITI-41 inline": provide_inline,
    "ITI-42": register,
    "ITI-57": update,
    "ITI-61": on_demand,
    "ITI-62": remove,
    "ITI-86": remove_documents,
    "ITI-92": restricted_update,
    "ITI-43": retrieve,
    "FindDocuments": find_documents,
    "FindDocumentsByReferenceId": find_by_reference,
    "GetRelatedDocuments": get_related,
    "GetFolderAndContents": get_folder,
    "ITI-51": find_documents_of_all,
    "ITI-44": feed,
    "ITI-65": provide_bundle,
    "ITI-65 as XML": provide_bundle_as_xml,
    "ITI-105": simplified_publish,
    "ITI-106": generate_metadata,
    "ITI-104": put_patient,
    "ITI-93": patient_message,
}
READING = frozenset({ITI_18.name, ITI_43.name, ITI_51.name})
AS_JSON = frozenset({"ITI-65", "ITI-105", "ITI-106", "ITI-104", "ITI-93"})


def changed(message: Message, sequence: list[Change]) -> Message:
    """The message with the changes: those of its XML or JSON, and then those of what goes over the wire."""
    is_json = message.content_type == FHIR_JSON
    body = (changed_json if is_json else changed_xml)(message.body, sequence)
    whole = packaged(replace(message, body=body))
    body = changed_bytes(whole.body, sequence)
    return replace(whole, body=body, content_type=changed_media_type(whole.content_type, sequence))


# What is answered ----------------------------------------------------------------------------------------------------


def judged(message: Message, answer: Answer) -> bool:
    """Whether the message was taken. Fails where its answer is none that the standard knows, or a failure of ours."""
    assert b"log says why" not in answer.content, answer.content
    assert b"cause in the log" not in answer.content, answer.content
    if message.path.startswith("/xds"):
        return _soap_judged(answer)
    kind = (answer.headers.get("Content-Type") or "").partition(";")[0]
    assert answer.status < 500, answer
    assert kind in (FHIR_JSON, FHIR_XML), answer
    resource = parsed(answer.content) if kind == FHIR_JSON else from_xml(answer.content)
    assert_is_fhir(resource)
    if answer.status >= 400:
        assert resource["resourceType"] == "OperationOutcome", answer
    return answer.status < 400


def _soap_judged(answer: Answer) -> bool:
    root = etree.fromstring(answer.content) if answer.content.startswith((b"<", b"\xef")) else None
    if root is not None and etree.QName(root).namespace == SOAP_1_1:
        assert b"VersionMismatch" in answer.content, answer  # the fault that SOAP 1.1 has for it
        return False
    found = reply(answer.status, answer.headers, answer.content)
    if found.body.tag == f"{{{SOAP}}}Fault":
        assert found.fault.strip(), answer
        code = found.body.findtext(f"{{{SOAP}}}Code/{{{SOAP}}}Value") or ""
        assert not code.endswith("Receiver"), answer  # it is the message that is wrong
        return False
    assert answer.status == 200, answer
    if found.body.tag == "{urn:ihe:iti:xds-b:2007}RetrieveDocumentSetResponse":
        return bool(found.retrieved)
    if found.body.tag == ITI_44_ADDED.request.replace("PRPA_IN201301UV02", "MCCI_IN000002UV01"):
        return b'typeCode code="CA"' in answer.content
    status = found.body.get("status", "")
    errors = list(found.body.iter("{urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0}RegistryError"))
    assert status.endswith(("Success", "Failure", "PartialSuccess")), answer
    assert errors or status.endswith("Success"), answer
    assert all(each.get("codeContext") and each.get("errorCode") for each in errors), answer
    return status.endswith("Success")


def tried(peer: Peer, name: str, sequence: list[Change]) -> None:
    message = changed(VALID[name](peer), sequence)
    before = peer.kept()

    answer = peer.send(message)

    assert peer.complained() == []
    taken = judged(message, answer)
    reading = message.transaction is not None and message.transaction.name in READING
    if reading or not taken:
        assert peer.kept() == before, f"what was not taken left a trace: {answer}"


def examples(share: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=max(1, int(EXAMPLES * share)),
        deadline=None,
        derandomize=not ASKED_FOR,
        print_blob=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        database=None,
    )


@pytest.mark.parametrize("name", VALID)
def test_the_messages_that_are_changed_here_are_taken_as_they_are(peer: Peer, name: str) -> None:
    message = packaged(VALID[name](peer))

    answer = peer.send(message)

    if name != "ITI-106":  # the document that is sent is none of which metadata could be made
        assert judged(message, answer), answer


@st.composite
def told_otherwise(draw: st.DrawFn) -> tuple[str, list[Change]]:
    """The name of a message, and changes of what it says."""
    name = draw(st.sampled_from(sorted(VALID)))
    return name, draw(changes(JSON if name in AS_JSON else XML))


@examples(0.6)
@given(told_otherwise())
def test_a_message_that_says_something_else_is_answered_and_leaves_no_trace(
    peer: Peer, otherwise: tuple[str, list[Change]]
) -> None:
    tried(peer, *otherwise)


@examples(0.3)
@given(name=st.sampled_from(sorted(VALID)), sequence=changes(BYTES | HEADERS | MEDIA_TYPE))
def test_a_message_that_was_damaged_is_answered_and_leaves_no_trace(
    peer: Peer, name: str, sequence: list[Change]
) -> None:
    tried(peer, name, sequence)


@examples(0.06)
@given(told_otherwise())
def test_a_message_that_says_something_else_leaves_no_trace_in_mongodb_and_s3(
    distant_peer: Peer, otherwise: tuple[str, list[Change]]
) -> None:
    tried(distant_peer, *otherwise)


@examples(0.03)
@given(name=st.sampled_from(sorted(VALID)), sequence=changes(BYTES | HEADERS | MEDIA_TYPE))
def test_a_message_that_was_damaged_leaves_no_trace_in_mongodb_and_s3(
    distant_peer: Peer, name: str, sequence: list[Change]
) -> None:
    tried(distant_peer, name, sequence)


SEARCHES = (
    "identifier", "patient", "patient.identifier", "status", "date", "creation", "period", "category", "type",
    "setting", "facility", "event", "security-label", "format", "related", "author.given", "author.family",
    "source.given", "code", "designationType", "sourceId", "_id", "_lastUpdated", "_count", "_sort", "_include",
    "_format", "_summary", "_elements", "_total", "_has:x:y:z", "x:y",
)  # fmt: skip
LONGEST_QUERY = 8_000
"""A URL above 8190 octets is refused by the HTTP library, before anybody knows that it is FHIR."""
VALUES = st.sampled_from((*ODD_VALUES, f"urn:oid:{PATIENT_AUTHORITY}|9434765919", "current", "ge2025", "lt", "a|b,c|d"))


@examples(0.1)
@given(
    path=st.sampled_from(("DocumentReference", "List", "DocumentReference/_search", "Binary/x", "Patient", "metadata")),
    parameters=st.lists(st.tuples(st.sampled_from(SEARCHES), VALUES | st.text()), max_size=4),
)
def test_whatever_is_searched_for_is_answered(peer: Peer, path: str, parameters: list[tuple[str, str]]) -> None:
    query = urlencode([(name, long_text(value).encode("utf-8", "surrogatepass")) for name, value in parameters])
    query = query[:LONGEST_QUERY]
    posted = path.endswith("_search")
    message = (
        Message("POST", f"/fhir/{path}", query.encode(), "application/x-www-form-urlencoded")
        if posted
        else Message("GET", f"/fhir/{path}?{query}")
    )
    before = peer.kept()

    answer = peer.send(message)

    assert peer.complained() == []
    judged(message, answer)
    assert peer.kept() == before
