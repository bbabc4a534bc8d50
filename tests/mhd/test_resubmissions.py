"""What is sent again, because the answer to it was lost, is not registered twice [ITI-65, ITI-105, ITI-106]."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable
from copy import deepcopy
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import parsed, written
from mhd.fhir.operation_outcome import Issue, Refused
from mhd.mapping.identifiers import resource_id
from mhd.messages import FhirAnswer, FhirRequest
from mhd.submitting.submission_name import submission_name
from tests.builders import CONTENT, document_entry, folder, oid, submission_set
from tests.mhd.recipients import Affinity, affinity, bundle_of, bundle_with, sent_document, sent_list
from xds.metadata import Association, DocumentEntry, Folder, SubmissionSet

REPEATS = 5


def nameless(bundle: Json) -> Json:
    """The Bundle without identifiers of its Lists."""
    changed = deepcopy(bundle)
    for entry in changed["entry"]:
        if entry["resource"]["resourceType"] == "List":
            entry["resource"].pop("identifier", None)
    return changed


def without_entry_uuids(bundle: Json) -> Json:
    """The Bundle of an app that leaves these to the server."""
    changed = deepcopy(bundle)
    for entry in changed["entry"]:
        if entry["resource"]["resourceType"] == "DocumentReference":
            entry["resource"].pop("identifier", None)
    return changed


def with_a_folder() -> Json:
    case, entry = folder(), document_entry()
    return bundle_of(sent_list(submission_set(), entry, case), sent_list(case, entry), *sent_document(entry))


async def told(asked: Awaitable[FhirAnswer]) -> Issue:
    """The one thing that is wrong."""
    with pytest.raises(Refused) as refused:
        await asked
    [issue] = refused.value.outcome.issues
    return issue


async def locations(place: Affinity) -> set[str]:
    """Of all that is registered."""
    return {
        f"{'DocumentReference' if isinstance(each, DocumentEntry) else 'List'}/{resource_id(each.entry_uuid)}"
        for each in await place.everything()
        if not isinstance(each, Association)
    }


@pytest.mark.parametrize("bundle", [bundle_with(), bundle_with(document_entry(), document_entry()), with_a_folder()])
async def test_a_bundle_without_uniqueids_is_registered_once_and_then_told_where_it_is(
    tmp_path: Path, bundle: Json
) -> None:
    sent = without_entry_uuids(nameless(bundle))

    async with affinity(tmp_path) as place:
        await place.provided(deepcopy(sent))
        before = await place.holds()
        issue = await told(place.provided(sent))

        assert await place.holds() == before
        assert set(issue.diagnostics.split(", ")) == await locations(place)
    assert (issue.http, issue.code, issue.xds_code) == (409, "duplicate", "XDSDuplicateUniqueIdInRegistry")


async def test_of_bundles_that_come_at_the_same_moment_one_is_registered(tmp_path: Path) -> None:
    sent = nameless(bundle_with())

    async with affinity(tmp_path) as place:
        asked = [place.provided(deepcopy(sent)) for _ in range(REPEATS)]
        answers = await asyncio.gather(*asked, return_exceptions=True)

        assert await place.holds() == (1, 1)
        there = await locations(place)
    refused = [each for each in answers if isinstance(each, Refused)]
    assert len(refused) == REPEATS - 1
    assert {each.outcome.issues[0].diagnostics for each in refused} == {", ".join(sorted(there, reverse=True))}


async def test_a_bundle_that_is_made_anew_with_other_fullurls_is_the_same_submission(tmp_path: Path) -> None:
    sent = without_entry_uuids(nameless(bundle_with()))
    text = written(sent)
    for entry in sent["entry"]:
        text = text.replace(entry["fullUrl"].encode(), f"urn:uuid:{uuid4()}".encode())

    async with affinity(tmp_path) as place:
        await place.provided(sent)
        issue = await told(place.provided(parsed(text)))

    assert issue.http == 409


def _another_date(bundle: Json) -> None:
    bundle["entry"][0]["resource"]["date"] = "2026-11-30T12:00:00Z"


def _another_title(bundle: Json) -> None:
    bundle["entry"][1]["resource"]["content"][0]["attachment"]["title"] = "Another title"


@pytest.mark.parametrize("change", [_another_date, _another_title])
async def test_a_bundle_that_says_something_else_is_another_submission(tmp_path: Path, change: Any) -> None:
    sent = without_entry_uuids(nameless(bundle_with()))
    other = deepcopy(sent)
    change(other)

    async with affinity(tmp_path) as place:
        await place.provided(sent)
        await place.provided(other)

        assert await place.holds() == (2, 1)


async def test_other_octets_under_the_same_ids_are_no_repetition(tmp_path: Path) -> None:
    sent = bundle_with()
    other = deepcopy(sent)
    attachment = other["entry"][1]["resource"]["content"][0]["attachment"]
    del attachment["hash"], attachment["size"]
    other["entry"][2]["resource"]["data"] = base64.b64encode(b"other octets").decode()

    async with affinity(tmp_path) as place:
        await place.provided(sent)
        with pytest.raises(Refused) as refused:
            await place.provided(other)

        assert await place.holds() == (1, 1)
    assert "XDSNonIdenticalHash" in {each.xds_code for each in refused.value.outcome.issues}


async def test_a_known_uniqueid_with_other_metadata_is_not_told_to_be_done(tmp_path: Path) -> None:
    unique_id, entry = oid(), document_entry()
    other = bundle_with(entry, unique_id=unique_id)
    _another_title(other)

    async with affinity(tmp_path) as place:
        await place.provided(bundle_with(entry, unique_id=unique_id))
        issue = await told(place.provided(other))

    assert (issue.http, issue.xds_code) == (409, "XDSDuplicateUniqueIdInRegistry")
    assert "DocumentReference/" not in issue.diagnostics


async def test_a_replacement_that_is_sent_again_is_told_where_it_is(tmp_path: Path) -> None:
    old, new = document_entry(), document_entry()
    target = {"reference": f"DocumentReference/{resource_id(old.entry_uuid)}"}
    replacement = nameless(bundle_with(new, relates_to=[{"code": "replaces", "target": target}]))

    async with affinity(tmp_path) as place:
        await place.provided(bundle_with(old))
        await place.provided(deepcopy(replacement))
        issue = await told(place.provided(replacement))

        assert await place.holds() == (2, 2)
    assert f"DocumentReference/{resource_id(new.entry_uuid)}" in issue.diagnostics


async def test_members_that_a_folder_has_by_now_are_told_to_be_there(tmp_path: Path) -> None:
    case, old, new = folder(), document_entry(), document_entry()
    first = bundle_of(sent_list(submission_set(), old, case), sent_list(case, old), *sent_document(old))
    put = (sent_list(case, new), {"method": "PUT", "url": f"List/{resource_id(case.entry_uuid)}"})
    second = bundle_of(sent_list(submission_set(), new, case), put, *sent_document(new))
    del second["entry"][0]["resource"]["identifier"]

    async with affinity(tmp_path) as place:
        await place.provided(first)
        await place.provided(deepcopy(second))
        before = await place.holds()
        issue = await told(place.provided(second))

        assert await place.holds() == before
    assert f"DocumentReference/{resource_id(new.entry_uuid)}" in issue.diagnostics


async def test_what_was_removed_may_be_sent_again(tmp_path: Path) -> None:
    sent = without_entry_uuids(nameless(bundle_with()))

    async with affinity(tmp_path) as place:
        await place.provided(deepcopy(sent))
        removed = await place.registry.remove_metadata([each.entry_uuid for each in await place.everything()])
        await place.provided(sent)

        assert removed.succeeded
        assert {type(each) for each in await place.everything()} == {SubmissionSet, DocumentEntry, Association}


async def test_a_document_that_is_published_again_is_told_where_it_is(tmp_path: Path) -> None:
    resource, _ = sent_document(document_entry())
    attachment = resource["content"][0]["attachment"]
    del attachment["url"], resource["id"], resource["meta"], resource["identifier"]
    attachment["data"] = base64.b64encode(CONTENT).decode()

    async with affinity(tmp_path, simplified_publish=True) as place:
        first = await place.recipient.simplified_publish(deepcopy(resource), FhirRequest())
        asked = [place.recipient.simplified_publish(deepcopy(resource), FhirRequest()) for _ in range(REPEATS)]
        issues = [await told(each) for each in asked]

        assert await place.holds() == (1, 1)
    assert first.location is not None
    assert all(first.location.endswith(location) for each in issues for location in each.diagnostics.split(", ")[1:])
    assert {each.http for each in issues} == {409}


async def test_a_submission_has_one_name_in_every_order_of_its_elements() -> None:
    sent = bundle_with()
    backwards = dict(reversed(sent.items()))

    assert submission_name(sent) == submission_name(backwards)
    assert submission_name(sent) != submission_name(bundle_with())


async def test_a_folder_with_a_uniqueid_and_a_submissionset_without_are_known_again(tmp_path: Path) -> None:
    bundle = with_a_folder()
    del bundle["entry"][0]["resource"]["identifier"]

    async with affinity(tmp_path) as place:
        await place.provided(deepcopy(bundle))
        issue = await told(place.provided(bundle))

        [case] = [each for each in await place.everything() if isinstance(each, Folder)]
    assert f"List/{resource_id(case.entry_uuid)}" in issue.diagnostics
