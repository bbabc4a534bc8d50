"""The bodies of the four XDS.b transactions, requests and responses, read and written.

ITI TF-2: 3.18 (Registry Stored Query), 3.41 (Provide and Register Document Set-b), 3.42 (Register Document Set-b),
3.43 (Retrieve Document Set); ITI TF-3: 4.2.4 (RegistryResponse). Every body that is written declares its own
namespaces and stands in a SOAP Body as it is. What is read is expected to be valid by the schema; where a
body lacks what is read all the same, that is an XmlProblem.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from lxml.etree import QName, _Element

from xds.actors import (
    DocumentRequest,
    Found,
    QueryRequest,
    QueryResponse,
    RegistryResponse,
    RetrievedDocument,
    RetrieveResponse,
)
from xds.ebxml_names import LCM, QUERY, RIM, RMD, RS, XDSB
from xds.ebxml_reader import element_text, read_objects, read_slot, read_submission
from xds.ebxml_writer import attribute, escaped, legible, slot_element, written
from xds.errors import ErrorCode, RegistryError, ResponseStatus, Severity
from xds.metadata import Submission
from xds.metadata_names import canonical_id, shown
from xds.mtom import XOP_NAMESPACE, content_id_of, href_of
from xds.xml import XmlProblem

_SUBMIT_OBJECTS_REQUEST: Final = f"{{{LCM}}}SubmitObjectsRequest"
_ADHOC_QUERY: Final = f"{{{RIM}}}AdhocQuery"
_RESPONSE_OPTION: Final = f"{{{QUERY}}}ResponseOption"
_REGISTRY_OBJECT_LIST: Final = f"{{{RIM}}}RegistryObjectList"
_OBJECT_REF_LIST: Final = f"{{{RIM}}}ObjectRefList"
_OBJECT_REF: Final = f"{{{RIM}}}ObjectRef"
_SLOT: Final = f"{{{RIM}}}Slot"
_REGISTRY_RESPONSE: Final = f"{{{RS}}}RegistryResponse"
_REGISTRY_ERROR: Final = f"{{{RS}}}RegistryError"
_DOCUMENT: Final = f"{{{XDSB}}}Document"
_DOCUMENT_REQUEST: Final = f"{{{XDSB}}}DocumentRequest"
_DOCUMENT_RESPONSE: Final = f"{{{XDSB}}}DocumentResponse"
_HOME_COMMUNITY_ID: Final = f"{{{XDSB}}}HomeCommunityId"
_REPOSITORY_UNIQUE_ID: Final = f"{{{XDSB}}}RepositoryUniqueId"
_DOCUMENT_UNIQUE_ID: Final = f"{{{XDSB}}}DocumentUniqueId"
_NEW_REPOSITORY_UNIQUE_ID: Final = f"{{{XDSB}}}NewRepositoryUniqueId"
_NEW_DOCUMENT_UNIQUE_ID: Final = f"{{{XDSB}}}NewDocumentUniqueId"
_MIME_TYPE: Final = f"{{{XDSB}}}mimeType"
_INCLUDE: Final = f"{{{XOP_NAMESPACE}}}Include"

_DEFAULT_RETURN_TYPE: Final = "RegistryObject"  # of ebRS 3.0; no value of ITI-18, which demands one of its own


# ------------------------------------------------------------------------------------------------ reading requests


class ProvidedDocument(NamedTuple):
    """A Document element of ITI-41, with either of content_id and inline.

    document_id   id of its DocumentEntry, as xds.ebxml_reader gives it
    content_id    of the MIME part that xop:Include refers to
    inline        base64 text inside of the element
    """

    document_id: str
    content_id: str | None
    inline: str | None


def read_register_request(body: _Element) -> Submission:
    """ITI-42, ITI-57, ITI-61 and ITI-92: SubmitObjectsRequest."""
    return read_submission(body)


def read_remove_request(body: _Element) -> list[str]:
    """ITI-62: RemoveObjectsRequest, the ids of its ObjectRefs. Raises XmlProblem."""
    return [canonical_id(each.get("id", "")) for each in _child(body, _OBJECT_REF_LIST).iterchildren(_OBJECT_REF)]


def removes_by_query(body: _Element) -> bool:
    """ITI-62: whether an AdhocQuery is to say what is removed, which IHE does not have (ITI TF-2: 3.62.4.1.2)."""
    query = next(body.iterchildren(_ADHOC_QUERY), None)
    return query is not None and (bool(query.get("id") or query.get("home")) or query.find(_SLOT) is not None)


def read_provide_request(body: _Element) -> tuple[Submission, list[ProvidedDocument]]:
    """ITI-41: ProvideAndRegisterDocumentSetRequest, with its Document elements in the order sent.

    Raises XmlProblem; MultipartProblem where an xop:Include refers to anything but a part of the message.
    """
    submit_objects_request = _child(body, _SUBMIT_OBJECTS_REQUEST)
    documents = [
        ProvidedDocument(canonical_id(document.get("id", "")), *_content(document))
        for document in body.iterchildren(_DOCUMENT)
    ]
    return read_submission(submit_objects_request), documents


def read_query_request(body: _Element) -> QueryRequest:
    """ITI-18: AdhocQueryRequest. Raises XmlProblem."""
    query = _child(body, _ADHOC_QUERY)
    option = next(body.iterchildren(_RESPONSE_OPTION), None)
    slots = [read_slot(element) for element in query.iterchildren(_SLOT)]
    return QueryRequest(
        query_id=canonical_id(query.get("id", "")),
        return_type=option.get("returnType", _DEFAULT_RETURN_TYPE) if option is not None else _DEFAULT_RETURN_TYPE,
        parameters=tuple((slot.name, slot.values) for slot in slots),
        home_community_id=query.get("home") or None,
    )


def read_retrieve_request(body: _Element) -> list[DocumentRequest]:
    """ITI-43: RetrieveDocumentSetRequest; ITI-86: RemoveDocumentsRequest."""
    return [_document_request(element) for element in body.iterchildren(_DOCUMENT_REQUEST)]


def _document_request(element: _Element) -> DocumentRequest:
    return DocumentRequest(
        repository_unique_id=_child_text(element, _REPOSITORY_UNIQUE_ID),
        document_unique_id=_child_text(element, _DOCUMENT_UNIQUE_ID),
        home_community_id=_child_text(element, _HOME_COMMUNITY_ID) or None,
    )


def _content(document: _Element) -> tuple[str | None, str | None]:
    """Content-ID and inline text of a Document element, one of the two."""
    include = document.find(_INCLUDE)
    if include is None:
        return None, element_text(document)
    return content_id_of(include.get("href", "")), None


def _child(element: _Element, name: str) -> _Element:
    child = next(element.iterchildren(name), None)
    if child is None:
        wanted = QName(name)
        raise XmlProblem(
            f"{QName(element).localname} has no {wanted.localname} (namespace {wanted.namespace}); send one",
            element.sourceline,
        )
    return child


def _child_text(element: _Element, name: str) -> str:
    child = element.find(name)
    return "" if child is None else element_text(child).strip()


# ----------------------------------------------------------------------------------------------- reading responses


class ReceivedDocument(NamedTuple):
    """A DocumentResponse of ITI-43, with either of content_id and inline (see ProvidedDocument).

    new_document_unique_id, new_repository_unique_id   of an on-demand document (see RetrievedDocument)
    """

    request: DocumentRequest
    mime_type: str
    content_id: str | None
    inline: str | None
    new_document_unique_id: str | None = None
    new_repository_unique_id: str | None = None


@dataclass(frozen=True, slots=True)
class ReceivedDocuments:
    """RetrieveDocumentSetResponse as it was received: the documents themselves are somewhere in the message."""

    status: ResponseStatus
    documents: tuple[ReceivedDocument, ...] = ()
    errors: tuple[RegistryError, ...] = ()


def read_registry_response(body: _Element) -> RegistryResponse:
    """ITI-41 and ITI-42: RegistryResponse. Raises XmlProblem."""
    return RegistryResponse(_status(body), _errors_of(body))


def read_query_response(body: _Element) -> QueryResponse:
    """ITI-18: AdhocQueryResponse. Objects come as this registry would have rendered them. Raises XmlProblem."""
    objects = body.find(_REGISTRY_OBJECT_LIST)
    items = read_objects(objects, [])
    found = [Found(each.kind, each.entry_uuid, written(each), each.home_community_id) for each in items]
    references = () if objects is None else objects.iterchildren(_OBJECT_REF)
    found += [
        Found(None, canonical_id(each.get("id", "")), home_community_id=each.get("home") or None) for each in references
    ]
    return QueryResponse(_status(body), tuple(found), _errors_of(body))


def read_retrieve_response(body: _Element) -> ReceivedDocuments:
    """ITI-43: RetrieveDocumentSetResponse. Raises XmlProblem, and MultipartProblem as read_provide_request does."""
    response = _child(body, _REGISTRY_RESPONSE)
    documents = []
    for element in body.iterchildren(_DOCUMENT_RESPONSE):
        content_id, inline = _content(_child(element, _DOCUMENT))
        mime_type = _child_text(element, _MIME_TYPE)
        documents.append(
            ReceivedDocument(
                _document_request(element),
                mime_type,
                content_id,
                inline,
                _child_text(element, _NEW_DOCUMENT_UNIQUE_ID) or None,
                _child_text(element, _NEW_REPOSITORY_UNIQUE_ID) or None,
            )
        )
    return ReceivedDocuments(_status(response), tuple(documents), _errors_of(response))


_STATUS_BY_NAME: Final = {status.value.rpartition(":")[2]: status for status in ResponseStatus}
_ERROR_CODES: Final = frozenset(ErrorCode)


def _status(response: _Element) -> ResponseStatus:
    """The status, by its last part: PartialSuccess is found in either of two namespaces."""
    sent = response.get("status", "")
    status = _STATUS_BY_NAME.get(sent.rpartition(":")[2])
    if status is None:
        known = ", ".join(ResponseStatus)
        raise XmlProblem(
            f"The status of {QName(response).localname} is {shown(sent)}; send one of {known}", response.sourceline
        )
    return status


def _errors_of(response: _Element) -> tuple[RegistryError, ...]:
    return tuple(_error(element) for element in response.iter(_REGISTRY_ERROR))


def _error(element: _Element) -> RegistryError:
    code = element.get("errorCode", "")
    is_warning = element.get("severity", "").endswith(":Warning")
    return RegistryError(
        ErrorCode(code) if code in _ERROR_CODES else code,
        element.get("codeContext", ""),
        element.get("location", ""),
        Severity.WARNING if is_warning else Severity.ERROR,
    )


# ------------------------------------------------------------------------------------------------ writing requests

_SUBMIT_HEAD: Final = f'<lcm:SubmitObjectsRequest xmlns:lcm="{LCM}" xmlns:rim="{RIM}"><rim:RegistryObjectList>'.encode()
_SUBMIT_TAIL: Final = b"</rim:RegistryObjectList></lcm:SubmitObjectsRequest>"


def register_request(submission: Submission) -> bytes:
    """ITI-42: SubmitObjectsRequest. Raises ValueError for text that XML 1.0 can not carry, as all of the writers do."""
    return b"".join((_SUBMIT_HEAD, *(written(each) for each in submission.objects), _SUBMIT_TAIL))


def remove_request(entry_uuids: Iterable[str]) -> bytes:
    """ITI-62: RemoveObjectsRequest."""
    named = "".join(f"<rim:ObjectRef{attribute('id', each)}/>" for each in entry_uuids)
    return (
        f'<lcm:RemoveObjectsRequest xmlns:lcm="{LCM}" xmlns:rim="{RIM}"><rim:ObjectRefList>{named}</rim:ObjectRefList>'
        "</lcm:RemoveObjectsRequest>"
    ).encode()


def provide_request(submission: Submission, documents: Iterable[tuple[str, str]]) -> bytes:
    """ITI-41: ProvideAndRegisterDocumentSetRequest.

    documents   entryUUID of the DocumentEntry, and Content-ID of the MIME part
    """
    included = "".join(
        f'<xdsb:Document id="{escaped(entry_uuid)}">{_include(content_id)}</xdsb:Document>'
        for entry_uuid, content_id in documents
    )
    return b"".join(
        (
            f'<xdsb:ProvideAndRegisterDocumentSetRequest xmlns:xdsb="{XDSB}">'.encode(),
            register_request(submission),
            f"{included}</xdsb:ProvideAndRegisterDocumentSetRequest>".encode(),
        )
    )


def query_request(request: QueryRequest) -> bytes:
    """ITI-18: AdhocQueryRequest."""
    slots = "".join(slot_element(escaped(name), values) for name, values in request.parameters)
    return (
        f'<query:AdhocQueryRequest xmlns:query="{QUERY}" xmlns:rim="{RIM}">'
        f'<query:ResponseOption returnComposedObjects="true"{attribute("returnType", request.return_type)}/>'
        f"<rim:AdhocQuery{attribute('id', request.query_id)}{attribute('home', request.home_community_id)}>"
        f"{slots}</rim:AdhocQuery></query:AdhocQueryRequest>"
    ).encode()


def retrieve_request(requests: Iterable[DocumentRequest]) -> bytes:
    """ITI-43: RetrieveDocumentSetRequest."""
    asked = "".join(f"<xdsb:DocumentRequest>{_identification(each)}</xdsb:DocumentRequest>" for each in requests)
    return (f'<xdsb:RetrieveDocumentSetRequest xmlns:xdsb="{XDSB}">{asked}</xdsb:RetrieveDocumentSetRequest>').encode()


def remove_documents_request(requests: Iterable[DocumentRequest]) -> bytes:
    """ITI-86: RemoveDocumentsRequest."""
    asked = "".join(f"<xdsb:DocumentRequest>{_identification(each)}</xdsb:DocumentRequest>" for each in requests)
    return (
        f'<rmd:RemoveDocumentsRequest xmlns:rmd="{RMD}" xmlns:xdsb="{XDSB}">{asked}</rmd:RemoveDocumentsRequest>'
    ).encode()


def _identification(request: DocumentRequest) -> str:
    home = request.home_community_id
    return (
        f"{f'<xdsb:HomeCommunityId>{escaped(home)}</xdsb:HomeCommunityId>' if home else ''}"
        f"<xdsb:RepositoryUniqueId>{escaped(request.repository_unique_id)}</xdsb:RepositoryUniqueId>"
        f"<xdsb:DocumentUniqueId>{escaped(request.document_unique_id)}</xdsb:DocumentUniqueId>"
    )


def _new_identification(document: RetrievedDocument) -> str:
    """What an on-demand document was made as."""
    repository, unique_id = document.new_repository_unique_id, document.new_document_unique_id
    return (
        f"{f'<xdsb:NewRepositoryUniqueId>{escaped(repository)}</xdsb:NewRepositoryUniqueId>' if repository else ''}"
        f"{f'<xdsb:NewDocumentUniqueId>{escaped(unique_id)}</xdsb:NewDocumentUniqueId>' if unique_id else ''}"
    )


def _include(content_id: str) -> str:
    return f'<xop:Include xmlns:xop="{XOP_NAMESPACE}" href="{escaped(href_of(content_id))}"/>'


# ----------------------------------------------------------------------------------------------- writing responses


def registry_response(response: RegistryResponse) -> bytes:
    """ITI-41 and ITI-42: RegistryResponse."""
    return _registry_response(response.status, response.errors, f' xmlns:rs="{RS}"').encode()


def query_response(response: QueryResponse, request_id: str | None = None) -> list[bytes]:
    """ITI-18: AdhocQueryResponse, to be joined. It has a RegistryObjectList even where it has nothing to list.

    request_id   id of the AdhocQueryRequest, where it has one
    """
    head = (
        f'<query:AdhocQueryResponse xmlns:query="{QUERY}" xmlns:rs="{RS}" xmlns:rim="{RIM}" status="{response.status}"'
        f"{attribute('requestId', request_id)}>{_error_list(response.errors)}<rim:RegistryObjectList>"
    )
    return [
        head.encode(),
        *(_object_ref(each) if each.ebrim is None else each.ebrim for each in response.found),
        b"</rim:RegistryObjectList></query:AdhocQueryResponse>",
    ]


def retrieve_response(
    response: RetrieveResponse, content_ids: Sequence[str] | None = None
) -> list[bytes | RetrievedDocument]:
    """ITI-43: RetrieveDocumentSetResponse, in pieces.

    content_ids   of the documents' MIME parts, in the documents' order; without them, each document stands among the
                  pieces where its content has to be written as base64
    """
    head = (
        f'<xdsb:RetrieveDocumentSetResponse xmlns:xdsb="{XDSB}" xmlns:rs="{RS}">'
        f"{_registry_response(response.status, response.errors)}"
    )
    pieces: list[bytes | RetrievedDocument] = []
    for index, document in enumerate(response.documents):
        head += (
            f"<xdsb:DocumentResponse>{_identification(document.request)}{_new_identification(document)}"
            f"<xdsb:mimeType>{escaped(document.mime_type)}</xdsb:mimeType><xdsb:Document>"
        )
        if content_ids is None:
            pieces += (head.encode(), document)
            head = ""
        else:
            head += _include(content_ids[index])
        head += "</xdsb:Document></xdsb:DocumentResponse>"
    pieces.append(f"{head}</xdsb:RetrieveDocumentSetResponse>".encode())
    return pieces


def _object_ref(found: Found) -> bytes:
    return f"<rim:ObjectRef{attribute('id', found.entry_uuid)}{attribute('home', found.home_community_id)}/>".encode()


def _registry_response(status: ResponseStatus, errors: Sequence[RegistryError], scope: str = "") -> str:
    return f'<rs:RegistryResponse{scope} status="{status}">{_error_list(errors)}</rs:RegistryResponse>'


def _error_list(errors: Sequence[RegistryError]) -> str:
    """Nothing where there are no errors: the schema has no empty list."""
    if not errors:
        return ""
    failed = any(error.severity is Severity.ERROR for error in errors)
    highest = Severity.ERROR if failed else Severity.WARNING
    listed = "".join(
        f'<rs:RegistryError errorCode="{escaped(legible(error.code))}" severity="{error.severity}"'
        f' codeContext="{escaped(legible(error.code_context))}"'
        f"{attribute('location', legible(error.location) or None)}/>"
        for error in errors
    )
    return f'<rs:RegistryErrorList highestSeverity="{highest}">{listed}</rs:RegistryErrorList>'
