"""What was removed (ITI-62, ITI-86) is gone to FHIR apps, 410; what never was is not there, 404."""

from __future__ import annotations

from typing import Any

import pytest

from mhd.mapping.identifiers import resource_id
from tests.builders import CONTENT, document_entry, entry_uuid, folder, submission, text, unmeasured
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.test_documents_in_and_out import asked, entry_of
from tests.conformance.wire import Wire
from tests.xds.broken_updates import APPROVED, DEPRECATED, next_version, status_update, update_of
from xds.ebxml_messages import register_request, remove_documents_request, remove_request
from xds.transactions import ITI_57, ITI_62, ITI_86, Transaction

pytestmark = pytest.mark.asyncio(loop_scope="module")


def assert_gone(reply: FhirReply) -> None:
    assert (reply.status, reply.issue["code"]) == (410, "deleted")


def assert_never_was(reply: FhirReply) -> None:
    assert (reply.status, reply.issue["code"]) == (404, "not-found")


async def simple(wire: Wire, transaction: Transaction, request: Any) -> None:
    answer = await wire.simple(transaction, request)
    assert answer.registry_response.succeeded, answer.content


async def test_what_was_removed_from_the_registry_is_gone(wire: Wire, fhir: FhirWire) -> None:
    entry, case = unmeasured(document_entry()), folder()
    sent = submission(entry, folders=(case,))
    assert (await wire.provide(sent, {entry.entry_uuid: CONTENT})).registry_response.succeeded
    paths = [
        f"DocumentReference/{resource_id(entry.entry_uuid)}",
        f"Binary/{resource_id(entry.entry_uuid)}",
        f"List/{resource_id(case.entry_uuid)}",
        f"List/{resource_id(sent.submission_set.entry_uuid)}",
    ]
    assert {(await fhir.get(each)).status for each in paths} == {200}

    answer = await wire.simple(ITI_62, remove_request([item.entry_uuid for item in sent.objects]))

    assert answer.registry_response.succeeded, answer.content
    for each in paths:
        assert_gone(await fhir.get(each))
        assert (await fhir.send("HEAD", each)).status == 410
    assert_never_was(await fhir.get(f"List/{resource_id(entry.entry_uuid)}"))
    assert_never_was(await fhir.get(f"DocumentReference/{resource_id(case.entry_uuid)}"))


@pytest.mark.parametrize("resource", ["DocumentReference", "List", "Binary"])
@pytest.mark.parametrize("number", [resource_id(entry_uuid()), "1"], ids=["a UUID", "none"])
async def test_what_never_was_is_not_found(fhir: FhirWire, resource: str, number: str) -> None:
    assert_never_was(await fhir.get(f"{resource}/{number}"))


async def test_a_document_that_was_removed_from_the_repository_is_gone_and_its_metadata_is_there(
    wire: Wire, fhir: FhirWire
) -> None:
    entry = unmeasured(document_entry())
    assert (await wire.provide(submission(entry), {entry.entry_uuid: CONTENT})).registry_response.succeeded
    stored = await entry_of(wire, entry.unique_id or "")

    answer = await wire.simple(ITI_86, remove_documents_request([asked(stored)]))

    assert answer.registry_response.succeeded, answer.content
    assert_gone(await fhir.get(f"Binary/{resource_id(entry.entry_uuid)}"))
    assert (await fhir.get(f"DocumentReference/{resource_id(entry.entry_uuid)}")).status == 200


async def test_a_document_is_gone_when_all_of_its_versions_are(wire: Wire, fhir: FhirWire) -> None:
    entry = document_entry()
    sent = submission(entry)
    assert (await wire.register(sent)).registry_response.succeeded
    update = update_of(next_version(entry))
    assert (await wire.simple(ITI_57, register_request(update))).registry_response.succeeded
    path = f"DocumentReference/{resource_id(entry.entry_uuid)}"

    first = await wire.simple(ITI_62, remove_request([item.entry_uuid for item in sent.objects]))
    assert first.registry_response.succeeded, first.content
    assert (await fhir.get(path)).resource["meta"]["versionId"] == "2"
    second = await wire.simple(ITI_62, remove_request([item.entry_uuid for item in update.objects]))
    assert second.registry_response.succeeded, second.content

    assert_gone(await fhir.get(path))


async def test_what_has_the_number_of_a_version_that_was_removed_has_another_etag(wire: Wire, fhir: FhirWire) -> None:
    entry = document_entry()
    assert (await wire.register(submission(entry))).registry_response.succeeded
    path = f"DocumentReference/{resource_id(entry.entry_uuid)}"
    mistaken = update_of(next_version(entry, title=text("Mistaken")))
    await simple(wire, ITI_57, register_request(mistaken))
    seen = (await fhir.get(path)).headers["ETag"]
    await simple(wire, ITI_62, remove_request([item.entry_uuid for item in mistaken.objects]))
    await simple(wire, ITI_57, register_request(status_update(entry, before=DEPRECATED, after=APPROVED)))
    await simple(wire, ITI_57, register_request(update_of(next_version(entry, title=text("Right")))))

    again = await fhir.get(path, If_None_Match=seen)

    assert (again.status, again.resource["meta"]["versionId"]) == (200, "2")
    assert again.resource["content"][0]["attachment"]["title"] == "Right"


async def test_a_version_that_was_removed_is_gone_and_the_others_are_there(wire: Wire, fhir: FhirWire) -> None:
    entry = document_entry()
    sent = submission(entry)
    assert (await wire.register(sent)).registry_response.succeeded
    updates = [update_of(next_version(entry), previous=previous) for previous in ("1", "2")]
    for update in updates:
        await simple(wire, ITI_57, register_request(update))
    path = f"DocumentReference/{resource_id(entry.entry_uuid)}"

    await simple(wire, ITI_62, remove_request([item.entry_uuid for item in updates[0].objects]))

    assert_gone(await fhir.get(f"{path}/_history/2"))
    for version in ("1", "3"):
        assert (await fhir.get(f"{path}/_history/{version}")).resource["meta"]["versionId"] == version
    assert_never_was(await fhir.get(f"{path}/_history/4"))
    await simple(wire, ITI_62, remove_request([item.entry_uuid for item in sent.objects]))
    assert_gone(await fhir.get(f"{path}/_history/1"))
    await simple(wire, ITI_62, remove_request([item.entry_uuid for item in updates[1].objects]))
    for version in ("1", "2", "3"):
        assert_gone(await fhir.get(f"{path}/_history/{version}"))
