"""An independent voice: zeep reads our WSDL over HTTP and performs ITI-42, ITI-18 and ITI-43 from what it says."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import zeep
from lxml import etree
from zeep.transports import Transport

from tests.builders import CONTENT, document_entry, submission, unmeasured
from tests.conformance.wire import Wire
from xds.ebxml_messages import register_request
from xds.ebxml_names import RIM
from xds.metadata import AvailabilityStatus

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


async def client(server: str, actor: str, http: requests.Session) -> Any:
    """A zeep client made from what an endpoint says of itself."""
    transport: Any = Transport(session=http)  # type: ignore[no-untyped-call]
    return await asyncio.to_thread(zeep.Client, f"{server}/xds/{actor}?wsdl", transport=transport)


def slot(name: str, *values: str) -> dict[str, Any]:
    return {"name": name, "ValueList": {"Value": list(values)}}


async def find_documents(registry: Any, patient_id: str) -> Any:
    query = {
        "id": FIND_DOCUMENTS,
        "Slot": [
            slot("$XDSDocumentEntryPatientId", f"'{patient_id}'"),
            slot("$XDSDocumentEntryStatus", f"('{AvailabilityStatus.APPROVED}')"),
        ],
    }
    option = {"returnType": "LeafClass", "returnComposedObjects": True}
    call = registry.service.DocumentRegistry_RegistryStoredQuery
    return await asyncio.to_thread(call, ResponseOption=option, AdhocQuery=query)


async def test_zeep_registers_a_document_and_finds_it(server: str, http: requests.Session) -> None:
    registry = await client(server, "registry", http)
    entry = document_entry()
    sent = etree.fromstring(register_request(submission(entry)))
    objects = sent.find(f"{{{RIM}}}RegistryObjectList")
    assert objects is not None
    typed = registry.get_type(f"{{{RIM}}}RegistryObjectListType").parse_xmlelement(objects, registry.wsdl.types)

    registered = await asyncio.to_thread(
        registry.service["DocumentRegistry_RegisterDocumentSet-b"], RegistryObjectList=typed
    )
    answer = await find_documents(registry, str(entry.patient_id))

    assert registered.status == SUCCESS
    assert answer.status == SUCCESS
    assert entry.entry_uuid in [found["ExtrinsicObject"]["id"] for found in found_in(answer)]


def found_in(answer: Any) -> list[Any]:
    return [each for each in answer.RegistryObjectList["_value_1"] if "ExtrinsicObject" in each]


async def test_zeep_retrieves_a_document(server: str, http: requests.Session, wire: Wire) -> None:
    entry = unmeasured(document_entry())
    await wire.provide(submission(entry), {entry.entry_uuid: CONTENT})
    answer = await find_documents(await client(server, "registry", http), str(entry.patient_id))
    (found,) = [
        each["ExtrinsicObject"] for each in found_in(answer) if each["ExtrinsicObject"]["id"] == entry.entry_uuid
    ]
    slots = {each.name: each.ValueList.Value[0] for each in found["Slot"]}
    repository = await client(server, "repository", http)

    retrieved = await asyncio.to_thread(
        repository.service.DocumentRepository_RetrieveDocumentSet,
        DocumentRequest=[{"RepositoryUniqueId": slots["repositoryUniqueId"], "DocumentUniqueId": entry.unique_id}],
    )

    assert retrieved.RegistryResponse.status == SUCCESS
    (document,) = retrieved.DocumentResponse
    content = document.Document
    assert hashlib.sha1(content, usedforsecurity=False).hexdigest() == slots["hash"]
    assert content == CONTENT
