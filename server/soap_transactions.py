"""The transactions as SOAP endpoints see them: body in, actor asked, body out. One row each."""

from __future__ import annotations

import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from registry.iti44_patient_identity_feed_v3 import PatientIdentityFeedV3
from registry.patient_register import PatientRegister
from server.incoming_message import IncomingMessage, content_id_of, unreadable
from server.inline_documents import InlinePolicy
from server.outgoing_message import Answer
from server.settings.limits import Limits
from server.soap_endpoint import Handler
from xds.actors import (
    Attachment,
    FullDocumentRegistry,
    FullDocumentRepository,
    Provided,
    QueryResponse,
    RegistryResponse,
    RetrieveResponse,
)
from xds.ebxml_messages import (
    ProvidedDocument,
    query_response,
    read_provide_request,
    read_query_request,
    read_register_request,
    read_remove_request,
    read_retrieve_request,
    registry_response,
    removes_by_query,
    retrieve_response,
)
from xds.errors import RegistryError, ResponseStatus
from xds.hl7v3 import InstanceIdentifier, PatientFeedMessage, Refusal
from xds.hl7v3_messages import acknowledgement, read_patient_feed
from xds.metadata import Submission
from xds.transactions import (
    ITI_18,
    ITI_41,
    ITI_42,
    ITI_43,
    ITI_44_ADDED,
    ITI_44_DUPLICATES_RESOLVED,
    ITI_44_REVISED,
    ITI_51,
    ITI_57,
    ITI_61,
    ITI_62,
    ITI_86,
    ITI_92,
    Transaction,
)

_INLINE_BLOCK = 1024 * 1024  # characters of base64 decoded at once; a multiple of four

_NO_QUERY = RegistryError(
    ITI_62.default_code,
    "The request has an AdhocQuery; leave it out, and name what is to be removed in ObjectRefs alone.",
    "RemoveObjectsRequest/AdhocQuery",
)


def registry_handlers(
    registry: FullDocumentRegistry, patients: PatientRegister | None = None
) -> Mapping[Transaction, Handler]:
    """What the registry's endpoint answers."""

    def submitted(
        transaction: Transaction, serve: Callable[[Submission], Awaitable[RegistryResponse]]
    ) -> tuple[Transaction, Handler]:
        async def answered(message: IncomingMessage) -> Answer:
            return _registry_answer(transaction, await serve(read_register_request(message.envelope.body)))

        return transaction, answered

    async def remove_metadata(message: IncomingMessage) -> Answer:
        body = message.envelope.body
        if removes_by_query(body):
            return _registry_answer(ITI_62, RegistryResponse.of([_NO_QUERY]))
        return _registry_answer(ITI_62, await registry.remove_metadata(read_remove_request(body)))

    async def stored_query(message: IncomingMessage) -> Answer:
        body = message.envelope.body
        return _query_answer(ITI_18, await registry.stored_query(read_query_request(body)), body.get("id"))

    async def multi_patient_query(message: IncomingMessage) -> Answer:
        body = message.envelope.body
        return _query_answer(ITI_51, await registry.multi_patient_query(read_query_request(body)), body.get("id"))

    feed = {} if patients is None else patient_feed_handlers(patients)
    served = dict(
        (
            submitted(ITI_42, registry.register_document_set),
            submitted(ITI_61, registry.register_on_demand),
            submitted(ITI_57, registry.update_document_set),
            submitted(ITI_92, registry.restricted_update_document_set),
            (ITI_62, remove_metadata),
            (ITI_18, stored_query),
            (ITI_51, multi_patient_query),
        )
    )
    return {**served, **feed}


def patient_feed_handlers(patients: PatientRegister) -> Mapping[Transaction, Handler]:
    """What the registry's endpoint answers to patient identity feeds."""
    feed = PatientIdentityFeedV3(patients)

    def handler(take: Callable[[PatientFeedMessage], Awaitable[Refusal | None]]) -> Handler:
        async def acknowledged(message: IncomingMessage) -> Answer:
            read = read_patient_feed(message.envelope.body)
            refusal = await take(read)
            own_id = InstanceIdentifier(str(uuid4()))
            body = acknowledgement(read, refusal, message_id=own_id, now=datetime.now(UTC))
            status = ResponseStatus.SUCCESS if refusal is None else ResponseStatus.FAILURE
            return Answer(ITI_44_ADDED.response_action, status, [body])

        return acknowledged

    taken = handler(feed.added_or_revised)
    resolved = handler(feed.duplicates_resolved)
    return {ITI_44_ADDED: taken, ITI_44_REVISED: taken, ITI_44_DUPLICATES_RESOLVED: resolved}


def repository_handlers(
    repository: FullDocumentRepository, *, limits: Limits, inline: InlinePolicy
) -> Mapping[Transaction, Handler]:
    """What the repository's endpoint answers."""

    async def provide_and_register(message: IncomingMessage) -> Answer:
        provided = ProvideMessage(message, inline)
        response = await repository.provide_and_register(provided)
        kept = len(provided.provided().documents) if response.succeeded else 0
        return replace(_registry_answer(ITI_41, response), documents_kept=kept)

    async def retrieve(message: IncomingMessage) -> Answer:
        response = await repository.retrieve(read_retrieve_request(message.envelope.body))
        if message.is_mtom:
            return _attached(response)
        return _inline(response, limits)

    async def remove_documents(message: IncomingMessage) -> Answer:
        response = await repository.remove_documents(read_retrieve_request(message.envelope.body))
        return _registry_answer(ITI_86, response)

    return {ITI_41: provide_and_register, ITI_43: retrieve, ITI_86: remove_documents}


class ProvideMessage:
    """An ITI-41 message while it arrives: a ProvideAndRegisterRequest of xds/actors.py."""

    def __init__(self, message: IncomingMessage, inline: InlinePolicy) -> None:
        self._message = message
        self._inline = inline
        self._provided: Provided | None = None

    async def attachments(self) -> AsyncIterator[Attachment]:
        """The parts of the message, then the documents inside of its envelope."""
        async for attachment in self._message.documents():
            yield attachment
        submission, documents = read_provide_request(self._message.envelope.body)
        if not self._message.is_mtom:
            self._inline.came(sum(document.inline is not None for document in documents), submission)
        names = tuple(self._name(number, document) for number, document in enumerate(documents))
        self._provided = Provided(
            submission, tuple((document.document_id, name) for document, name in zip(documents, names, strict=True))
        )
        for document, name in zip(documents, names, strict=True):
            if document.inline is not None:
                yield Attachment(name, _decoded(document.inline))

    def provided(self) -> Provided:
        """The envelope."""
        if self._provided is None:
            raise RuntimeError("the message has not been read to its end")
        return self._provided

    def _name(self, number: int, document: ProvidedDocument) -> str:
        """What the attachment of a Document element is called: as its part is, however the href spells it."""
        if document.content_id is None:
            return f"\0inline {number}"  # no Content-ID holds a NUL
        wanted = document.content_id
        return next((content_id_of(part) for part in self._message.parts if part.is_named(wanted)), wanted)


async def _decoded(base64_text: str) -> AsyncIterator[bytes]:
    characters = "".join(base64_text.split())
    for start in range(0, len(characters), _INLINE_BLOCK):
        try:
            yield binascii.a2b_base64(characters[start : start + _INLINE_BLOCK], strict_mode=True)
        except ValueError as problem:
            raise unreadable(f"A Document element holds what is not base64: {problem}.") from problem


def _query_answer(transaction: Transaction, response: QueryResponse, request_id: str | None) -> Answer:
    pieces = query_response(response, request_id=request_id)
    return Answer(transaction.response_action, response.status, pieces, response.errors)


def _registry_answer(transaction: Transaction, response: RegistryResponse) -> Answer:
    return Answer(transaction.response_action, response.status, [registry_response(response)], response.errors)


def _attached(response: RetrieveResponse) -> Answer:
    content_ids = [f"{uuid4()}@toimik" for _ in response.documents]
    return Answer(
        ITI_43.response_action,
        response.status,
        retrieve_response(response, content_ids),
        response.errors,
        tuple(zip(content_ids, response.documents, strict=True)),
    )


def _inline(response: RetrieveResponse, limits: Limits) -> Answer:
    size = sum(document.size for document in response.documents)
    if size > limits.inline_answer_bytes:
        too_large = RegistryError(
            ITI_43.full_code,
            f"These documents have {size} octets; at most {limits.inline_answer_bytes} are sent inline as base64. "
            "Ask with an MTOM/XOP message (Content-Type multipart/related), or for fewer documents at once.",
        )
        response = RetrieveResponse(ResponseStatus.FAILURE, (), (*response.errors, too_large))
    return Answer(ITI_43.response_action, response.status, retrieve_response(response), response.errors)
