"""On-demand documents in a Bundle of Provide Document Bundle [ITI-65]: registered, or refused in words."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from mhd.fhir.exact_text import Json
from mhd.fhir.operation_outcome import Refused
from mhd.mapping.identifiers import resource_id
from mhd.submitting.on_demand import OnDemand
from tests.builders import REPOSITORY, document_entry, folder, submission_set
from tests.mhd.recipients import Affinity, affinity, bundle_of, bundle_with, sent_document, sent_list
from xds.metadata import Association, AvailabilityStatus, DocumentEntry, DocumentEntryType

MADE_ELSEWHERE = "https://summaries.example.org/documents/1"
NOTHING = "2jmj7l5rSw0yVb/vlWAYkK/YBwk="


def promise(entry: DocumentEntry, **attachment: object) -> Json:
    """The DocumentReference of an on-demand document. attachment: what is added to it."""
    resource, _ = sent_document(entry)
    del resource["content"][0]["attachment"]["hash"], resource["content"][0]["attachment"]["size"]
    resource["content"][0]["attachment"] |= {"url": MADE_ELSEWHERE, **attachment}
    return resource


def promising(*entries: DocumentEntry) -> Json:
    return bundle_of(sent_list(submission_set(), *entries), *map(promise, entries))


def making(place: Affinity, *unique_ids: str | None) -> Affinity:
    """The deployment, with somebody who makes the documents of these entries."""
    on_demand = OnDemand(
        register=place.registry.register_on_demand,
        is_made=lambda each: each in unique_ids,
        repository_unique_id=REPOSITORY,
    )
    return replace(place, recipient=replace(place.recipient, on_demand=on_demand))


async def refusal(place: Affinity, bundle: Json) -> set[tuple[str | None, str]]:
    """The codes and places of a refusal of which nothing stays."""
    before = await place.holds()
    with pytest.raises(Refused) as refused:
        await place.provided(bundle)
    assert await place.holds() == before
    assert refused.value.outcome.http_status == 422
    return {(each.xds_code, each.expression) for each in refused.value.outcome.issues if each.is_error}


async def test_a_document_without_content_hash_and_size_is_registered_as_an_on_demand_entry(tmp_path: Path) -> None:
    entry = document_entry()

    async with affinity(tmp_path) as place:
        answer = await making(place, entry.unique_id).provided(promising(entry))
        [stored] = await place.registered.documents(unique_ids=[entry.unique_id or ""])

    assert stored.object_type == DocumentEntryType.ON_DEMAND
    assert (stored.hash, stored.size, stored.creation_time) == (None, None, None)
    assert (stored.repository_unique_id, stored.availability_status) == (REPOSITORY, AvailabilityStatus.APPROVED)
    assert stored.type_code == entry.type_code
    assert answer.documents_kept == 0
    assert isinstance(answer.resource, dict)
    response = answer.resource["entry"][1]["response"]
    assert (response["status"], response["location"]) == (
        "201 Created",
        f"DocumentReference/{resource_id(stored.entry_uuid)}",
    )
    assert "creation" in str(response["outcome"]), "what is not kept of it is told"


async def test_an_on_demand_entry_replaces_another(tmp_path: Path) -> None:
    old, new = document_entry(), document_entry()
    target = {"reference": f"DocumentReference/{resource_id(old.entry_uuid)}"}
    second = promising(new)
    second["entry"][1]["resource"]["relatesTo"] = [{"code": "replaces", "target": target}]

    async with affinity(tmp_path) as plain:
        place = making(plain, old.unique_id, new.unique_id)
        await place.provided(promising(old))
        await place.provided(second)
        [found] = await place.registered.documents(unique_ids=[old.unique_id or ""])

    assert found.availability_status == AvailabilityStatus.DEPRECATED


async def test_an_on_demand_document_that_a_folder_holds_is_not_put_into_it_again(tmp_path: Path) -> None:
    case, promised, added = folder(), document_entry(), document_entry()
    first = bundle_of(sent_list(submission_set(), promised, case), sent_list(case, promised), promise(promised))
    put = (sent_list(case, promised, added), {"method": "PUT", "url": f"List/{resource_id(case.entry_uuid)}"})
    second = bundle_of(sent_list(submission_set(), added, case), put, *sent_document(added))

    async with affinity(tmp_path) as place:
        await making(place, promised.unique_id).provided(first)
        await place.provided(second)
        everything = await place.everything()

    links = [each for each in everything if isinstance(each, Association) and each.source_object == case.entry_uuid]
    assert {each.target_object for each in links} == {promised.entry_uuid, added.entry_uuid}
    assert len(links) == 2


async def test_a_promise_that_is_sent_again_is_told_where_it_is(tmp_path: Path) -> None:
    entry = document_entry()
    bundle = promising(entry)
    del bundle["entry"][0]["resource"]["identifier"]

    async with affinity(tmp_path) as plain:
        place = making(plain, entry.unique_id)
        await place.provided(deepcopy(bundle))
        with pytest.raises(Refused) as refused:
            await place.provided(bundle)

    [issue] = refused.value.outcome.issues
    assert issue.http == 409
    assert f"DocumentReference/{resource_id(entry.entry_uuid)}" in issue.diagnostics


DOCUMENT = "Bundle.entry[1].resource"


async def test_on_demand_documents_are_refused_where_the_settings_do_not_take_them(tmp_path: Path) -> None:
    async with affinity(tmp_path) as place:
        told = await refusal(place, promising(document_entry()))

    assert told == {("XDSMissingDocument", f"{DOCUMENT}.content[0].attachment.url")}


async def test_a_promise_that_nobody_keeps_is_refused(tmp_path: Path) -> None:
    async with affinity(tmp_path) as place:
        told = await refusal(making(place, "1.2.3"), promising(document_entry()))

    assert told == {("XDSMissingDocument", f"{DOCUMENT}.masterIdentifier")}


async def test_on_demand_documents_and_others_are_not_sent_in_one_bundle(tmp_path: Path) -> None:
    promised, other = document_entry(), document_entry()
    bundle = bundle_of(sent_list(submission_set(), promised, other), promise(promised), *sent_document(other))

    async with affinity(tmp_path) as place:
        told = await refusal(making(place, promised.unique_id), bundle)

    assert told == {("XDSRepositoryMetadataError", f"{DOCUMENT}.content[0].attachment")}


async def test_a_document_that_is_assembled_when_it_is_retrieved_is_refused(tmp_path: Path) -> None:
    entry = document_entry()
    bundle = bundle_of(sent_list(submission_set(), entry), promise(entry, size=0, hash=NOTHING))

    async with affinity(tmp_path) as place:
        told = await refusal(making(place, entry.unique_id), bundle)

    assert told == {("XDSMissingDocument", f"{DOCUMENT}.content[0].attachment.url")}


async def test_a_binary_that_is_missing_is_no_promise(tmp_path: Path) -> None:
    entry = document_entry()
    bundle = bundle_with(entry)
    attachment = bundle["entry"][1]["resource"]["content"][0]["attachment"]
    del attachment["hash"], attachment["size"], bundle["entry"][2]

    async with affinity(tmp_path) as place:
        told = await refusal(making(place, entry.unique_id), bundle)

    assert told == {("XDSMissingDocument", f"{DOCUMENT}.content[0].attachment.url")}
