"""Metadata updated, removed and registered on demand over HTTP, and documents removed."""

from __future__ import annotations

import pytest

from tests.builders import CONTENT, document_entry, submission, text, unmeasured
from tests.conformance.test_documents_in_and_out import asked, entries_of, provided
from tests.conformance.wire import Wire
from tests.xds.broken_updates import next_version, update_of
from xds.actors import DocumentRequest
from xds.ebxml_messages import register_request, remove_documents_request, remove_request, retrieve_request
from xds.metadata import AvailabilityStatus, DocumentEntry, DocumentEntryType
from xds.transactions import ITI_43, ITI_57, ITI_61, ITI_62, ITI_86, ITI_92

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("transaction", [ITI_57, ITI_92], ids=lambda each: each.name)
async def test_a_new_version_takes_the_place_of_the_one_before(wire: Wire, transaction: object) -> None:
    chosen = ITI_57 if transaction is ITI_57 else ITI_92
    first = await provided(wire)

    answer = await wire.simple(chosen, register_request(update_of(next_version(first, title=text("Corrected")))))

    assert answer.registry_response.succeeded, answer.content
    [entry] = await entries_of(wire, first.unique_id or "")
    assert (entry.version, entry.logical_id, entry.title) == ("2", first.entry_uuid, text("Corrected"))
    fetched = await wire.mtom(ITI_43, retrieve_request([asked(entry)]))
    assert list(fetched.parts.values()) == [CONTENT]


async def test_an_update_that_was_overtaken_is_refused_by_name(wire: Wire) -> None:
    first = await provided(wire)

    answer = await wire.simple(ITI_57, register_request(update_of(next_version(first), previous="7")))

    assert answer.codes == ["XDSMetadataVersionError"]


async def test_metadata_is_removed(wire: Wire) -> None:
    sent = submission(document_entry())
    assert (await wire.register(sent)).registry_response.succeeded
    ids = [item.entry_uuid for item in sent.objects]

    refused = await wire.simple(ITI_62, remove_request(ids[:1]))
    answer = await wire.simple(ITI_62, remove_request(ids))

    assert refused.codes == ["ReferencesExistException"]
    assert answer.registry_response.succeeded, answer.content
    assert await entries_of(wire, sent.document_entries[0].unique_id or "") == []


async def test_a_document_that_was_removed_is_not_returned_and_its_metadata_stays(wire: Wire) -> None:
    entry = await provided(wire)

    answer = await wire.simple(ITI_86, remove_documents_request([asked(entry)]))
    fetched = await wire.mtom(ITI_43, retrieve_request([asked(entry)]))
    again = await wire.simple(ITI_86, remove_documents_request([asked(entry)]))

    assert answer.registry_response.succeeded, answer.content
    assert fetched.codes == again.codes == ["XDSDocumentUniqueIdError"]
    assert [each.entry_uuid for each in await entries_of(wire, entry.unique_id or "")] == [entry.entry_uuid]


async def test_documents_are_removed_together_or_not_at_all(wire: Wire) -> None:
    entry = await provided(wire)
    elsewhere = DocumentRequest("1.2.3.4", entry.unique_id or "")

    answer = await wire.simple(ITI_86, remove_documents_request([asked(entry), elsewhere]))
    fetched = await wire.mtom(ITI_43, retrieve_request([asked(entry)]))

    assert answer.codes == ["XDSUnknownRepositoryId"]
    assert list(fetched.parts.values()) == [CONTENT]


async def test_the_same_document_may_be_submitted_again_after_it_was_removed(wire: Wire) -> None:
    entry = await provided(wire)
    await wire.simple(ITI_86, remove_documents_request([asked(entry)]))
    again = unmeasured(document_entry(unique_id=entry.unique_id))

    answer = await wire.provide(submission(again), {again.entry_uuid: CONTENT})
    fetched = await wire.mtom(ITI_43, retrieve_request([asked(entry)]))

    assert answer.registry_response.succeeded, answer.content
    assert list(fetched.parts.values()) == [CONTENT]


async def test_an_on_demand_entry_is_registered_by_its_own_transaction(wire: Wire) -> None:
    entry: DocumentEntry = document_entry(
        object_type=DocumentEntryType.ON_DEMAND, creation_time=None, hash=None, size=None
    )

    refused = await wire.register(submission(entry))
    answer = await wire.simple(ITI_61, register_request(submission(entry)))

    assert "XDSRegistryMetadataError" in refused.codes
    assert answer.registry_response.succeeded, answer.content
    [found] = await entries_of(wire, entry.unique_id or "")
    assert (found.object_type, found.availability_status) == (DocumentEntryType.ON_DEMAND, AvailabilityStatus.APPROVED)
