"""What is answered below /fhir: one row for each path and method (mhd: 3.1 to 3.9 of ITI TF-2, FHIR R4: http.html)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias

from aiohttp import web

from mhd.actor import Mhd
from mhd.fhir.operation_outcome import Issue, IssueType, Refused
from mhd.messages import (
    FHIR_CAPABILITIES,
    FHIR_HISTORY,
    FHIR_READ,
    ITI_65,
    ITI_66,
    ITI_67,
    ITI_68,
    ITI_93,
    ITI_104,
    ITI_105,
    ITI_106,
    FhirAnswer,
    FhirTransaction,
)
from server.fhir_documents import retrieved
from server.fhir_exchange import Exchange

Answering: TypeAlias = Callable[[Mhd, Exchange, str], Awaitable[FhirAnswer | web.StreamResponse]]
"""Answers an exchange; the text is the id in its path, with `/_history/version` where that is there, or ""."""

ID: Final = "{id}"
OF_VERSION: Final = "{id}/_history/{version}"
OF_HISTORY: Final = "{id}/_history"
"""What stands in a path in place of an id, of an id with the version of what it names, and of one with all of them."""


class Interaction(NamedTuple):
    """A method on a path. HEAD is answered where GET is.

    scope   what an access token has to be for, where such are asked for (IUA); None: nothing is asked for
    """

    method: str
    path: str
    transaction: FhirTransaction
    answer: Answering
    scope: str | None


async def _capabilities(mhd: Mhd, _exchange: Exchange, _: str) -> FhirAnswer:
    return mhd.capabilities()


async def _provide_document_bundle(mhd: Mhd, exchange: Exchange, _: str) -> FhirAnswer:
    said = exchange.said_of_body()
    return await mhd.recipient.provide_document_bundle(await exchange.resource(), said)


async def _simplified_publish(mhd: Mhd, exchange: Exchange, _: str) -> FhirAnswer:
    said = exchange.said_of_body()
    return await mhd.recipient.simplified_publish(await exchange.resource(), said)


async def _generate_metadata(mhd: Mhd, exchange: Exchange, _: str) -> FhirAnswer:
    said = exchange.said_of_body()
    return await mhd.recipient.generate_metadata(await exchange.resource(), said)


async def _find_document_references(mhd: Mhd, exchange: Exchange, _: str) -> FhirAnswer:
    await exchange.read_form()
    return await mhd.responder.find_document_references(exchange.parameters, exchange.said())


async def _find_document_lists(mhd: Mhd, exchange: Exchange, _: str) -> FhirAnswer:
    await exchange.read_form()
    return await mhd.responder.find_document_lists(exchange.parameters, exchange.said())


async def _document_reference(mhd: Mhd, _exchange: Exchange, resource_id: str) -> FhirAnswer:
    return await mhd.responder.document_reference(resource_id)


async def _list(mhd: Mhd, _exchange: Exchange, resource_id: str) -> FhirAnswer:
    return await mhd.responder.list_resource(resource_id)


async def _document_reference_version(mhd: Mhd, _exchange: Exchange, versioned_id: str) -> FhirAnswer:
    return await mhd.responder.document_reference_version(*_id_and_version(versioned_id))


async def _list_version(mhd: Mhd, _exchange: Exchange, versioned_id: str) -> FhirAnswer:
    return await mhd.responder.list_version(*_id_and_version(versioned_id))


async def _document_reference_history(mhd: Mhd, exchange: Exchange, resource_id: str) -> FhirAnswer:
    return await mhd.responder.document_reference_history(resource_id, exchange.parameters, exchange.said())


async def _list_history(mhd: Mhd, exchange: Exchange, resource_id: str) -> FhirAnswer:
    return await mhd.responder.list_history(resource_id, exchange.parameters, exchange.said())


def _id_and_version(versioned_id: str) -> tuple[str, str]:
    resource_id, _, version = versioned_id.partition("/_history/")
    return resource_id, version


async def _patient(mhd: Mhd, _exchange: Exchange, resource_id: str) -> FhirAnswer:
    return await mhd.responder.patient(resource_id)


async def _patient_feed(mhd: Mhd, exchange: Exchange, _: str) -> FhirAnswer:
    if mhd.feed is None:
        raise _fed_elsewhere()
    return await mhd.feed.put(await exchange.resource(), exchange.parameters)


async def _mobile_patient_feed(mhd: Mhd, exchange: Exchange, _: str) -> FhirAnswer:
    if mhd.mobile_feed is None:
        raise _fed_elsewhere()
    return await mhd.mobile_feed.process(await exchange.resource())


def _fed_elsewhere() -> Refused:
    elsewhere = "The registry is on another host; feed patients to it there."
    return Refused(Issue(IssueType.NOT_SUPPORTED, elsewhere, http=404))


async def _document(mhd: Mhd, exchange: Exchange, resource_id: str) -> web.StreamResponse:
    return await retrieved(await mhd.responder.document(resource_id), exchange)


INTERACTIONS: Final = (
    Interaction("GET", "metadata", FHIR_CAPABILITIES, _capabilities, None),
    Interaction("POST", "", ITI_65, _provide_document_bundle, ITI_65.name),
    Interaction("GET", "DocumentReference", ITI_67, _find_document_references, ITI_67.name),
    Interaction("GET", "DocumentReference/_search", ITI_67, _find_document_references, ITI_67.name),
    Interaction("POST", "DocumentReference/_search", ITI_67, _find_document_references, ITI_67.name),
    Interaction("POST", "DocumentReference", ITI_105, _simplified_publish, ITI_105.name),
    Interaction("POST", "DocumentReference/$generate-metadata", ITI_106, _generate_metadata, ITI_106.name),
    Interaction("GET", f"DocumentReference/{ID}", FHIR_READ, _document_reference, ITI_67.name),
    Interaction("GET", "List", ITI_66, _find_document_lists, ITI_66.name),
    Interaction("GET", "List/_search", ITI_66, _find_document_lists, ITI_66.name),
    Interaction("POST", "List/_search", ITI_66, _find_document_lists, ITI_66.name),
    Interaction("GET", f"List/{ID}", FHIR_READ, _list, ITI_66.name),
    Interaction("GET", f"DocumentReference/{OF_VERSION}", FHIR_READ, _document_reference_version, ITI_67.name),
    Interaction("GET", f"List/{OF_VERSION}", FHIR_READ, _list_version, ITI_66.name),
    Interaction("GET", f"DocumentReference/{OF_HISTORY}", FHIR_HISTORY, _document_reference_history, ITI_67.name),
    Interaction("GET", f"List/{OF_HISTORY}", FHIR_HISTORY, _list_history, ITI_66.name),
    Interaction("GET", f"Patient/{ID}", FHIR_READ, _patient, ITI_67.name),
    Interaction("PUT", "Patient", ITI_104, _patient_feed, ITI_104.name),
    Interaction("POST", "$process-message", ITI_93, _mobile_patient_feed, ITI_93.name),
    Interaction("GET", f"Binary/{ID}", ITI_68, _document, ITI_68.name),
)
