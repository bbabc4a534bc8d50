"""A hospital feeds patients, and what the registry answers follows; on every kind of stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.builders import PATIENT_AUTHORITY, document_entry, submission, unmeasured
from tests.conformance.wire import Reply, Wire, running_server
from tests.server.hl7v2_sender import Sender, adt
from tests.server_process import free_port
from xds.ebxml_reader import read_rendering
from xds.errors import ErrorCode, ResponseStatus
from xds.hl7v2 import CX
from xds.metadata import AvailabilityStatus, DocumentEntry

pytestmark = pytest.mark.asyncio(loop_scope="module")

FEED_PORT = free_port()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(stores: Mapping[str, Any]) -> AsyncIterator[str]:
    """A server that knows the patients that are fed to it, and no others."""
    patients = {
        "policy": "known",
        "assigning_authorities": [{"oid": PATIENT_AUTHORITY, "namespace_id": "NHS"}],
        "mllp_port": FEED_PORT,
    }
    async with running_server(**stores, patients=patients) as base:
        yield base


@pytest_asyncio.fixture(loop_scope="module")
async def wire(server: str) -> AsyncIterator[Wire]:
    async with aiohttp.ClientSession() as session:
        yield Wire(server, session)


async def feed(*messages: bytes) -> list[str]:
    """Send HL7 v2 messages, and return how each was acknowledged."""

    def send() -> list[str]:
        with Sender(FEED_PORT) as sender:
            return [sender.send(message)["MSA"][1] for message in messages]

    return await asyncio.to_thread(send)


def new_patients(*names: str) -> list[CX]:
    return [CX.of(f"{name}-{free_port()}", PATIENT_AUTHORITY) for name in names]


async def submit(wire: Wire, patient: CX) -> Reply:
    entry = unmeasured(document_entry(patient_id=patient))
    return await wire.provide(submission(entry), {entry.entry_uuid: b"of " + patient.text.encode()})


async def documents_of(wire: Wire, patient: CX) -> list[DocumentEntry]:
    answer = await wire.query(
        "FindDocuments",
        XDSDocumentEntryPatientId=f"'{patient}'",
        XDSDocumentEntryStatus=f"('{AvailabilityStatus.APPROVED}')",
    )
    assert answer.query_response.status is ResponseStatus.SUCCESS
    found = [read_rendering(each.ebrim or b"") for each in answer.query_response.found]
    return [each for each in found if isinstance(each, DocumentEntry)]


async def test_a_patient_has_to_be_fed_before_documents_come(wire: Wire) -> None:
    (patient,) = new_patients("jane")

    assert (await submit(wire, patient)).codes == [ErrorCode.UNKNOWN_PATIENT_ID]
    assert await feed(adt("A01", f"{patient.id_number}^^^NHS")) == ["AA"]
    assert (await submit(wire, patient)).registry_response.succeeded
    assert len(await documents_of(wire, patient)) == 1


async def test_a_merge_by_a40_gives_the_survivor_all_documents(wire: Wire) -> None:
    jane, john = new_patients("jane", "john")
    await feed(adt("A04", jane.text), adt("A05", john.text))
    for patient in (jane, john):
        assert (await submit(wire, patient)).registry_response.succeeded

    assert await feed(adt("A40", jane.text, john.text)) == ["AA"]

    assert [entry.patient_id for entry in await documents_of(wire, jane)] == [jane, jane]
    assert await documents_of(wire, john) == []
    assert (await submit(wire, john)).codes == [ErrorCode.UNKNOWN_PATIENT_ID]
