"""A submission by FHIR is the submission by XDS that says the same; and whatever is sent, it is answered."""

from __future__ import annotations

import asyncio
import copy
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import parsed
from mhd.fhir.operation_outcome import Refused
from mhd.mapping.document_reference import entry_of
from mhd.mapping.identifiers import resource_id
from tests import strategies
from tests.builders import PATIENT, document_entry, folder, has_member, submission, submission_set
from tests.fhir_validity import assert_is_fhir
from tests.mhd.expressible import expressible
from tests.mhd.recipients import DOMAIN, Affinity, affinity, bundle_of, sent_document, sent_list
from tests.repository.stand_ins import message_of
from xds.metadata import AnyObject, DocumentEntry, Folder, Submission, SubmissionSet
from xds.metadata_rules import findings
from xds.transactions import ITI_41

_OURS: dict[str, Any] = {
    "patient_id": st.just(PATIENT),
    "home_community_id": st.none(),
    "version": st.none(),
}
_OIDS = st.integers(1, 2**100).map(lambda arc: f"2.25.{arc}")
_ENTRIES = strategies.document_entries(**_OURS, unique_id=_OIDS, hash=st.none(), size=st.none())
_MANY = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def plain(item: AnyObject) -> AnyObject:
    """What a submission says of an object: without what only registry and repository know."""
    if isinstance(item, DocumentEntry):
        return replace(expressible(item), hash=None, size=None, repository_unique_id=None)
    if isinstance(item, Folder):
        return replace(expressible(item), last_update_time=None)
    assert isinstance(item, SubmissionSet)
    return expressible(item)


@given(
    st.lists(_ENTRIES, min_size=1, max_size=3, unique_by=(lambda each: each.unique_id, lambda each: each.entry_uuid)),
    strategies.submission_sets(**_OURS, unique_id=_OIDS),
    strategies.folders(**_OURS, unique_id=_OIDS),
    st.binary(max_size=300),
)
@_MANY
def test_what_is_submitted_by_fhir_is_found_and_retrieved_by_xds(
    entries: list[DocumentEntry], item: SubmissionSet, case: Folder, content: bytes
) -> None:
    contents: tuple[Folder | DocumentEntry, ...] = (case, *entries)
    sent = Submission(
        submission_sets=(expressible(item),),
        document_entries=tuple(expressible(each) for each in entries),
        folders=(expressible(case),),
        associations=tuple(has_member(item, each) for each in contents),
    )
    assume(not findings(sent, ITI_41))

    async def compare(directory: str) -> None:
        bundle = bundle_of(
            sent_list(item, case, *entries),
            sent_list(case, entries[0]),
            *(part for each in entries for part in sent_document(each, content)),
        )
        async with affinity(Path(directory)) as place:
            await place.provided(bundle)
            found = {each.entry_uuid: each for each in await place.everything()}
            for each in (item, *contents):
                assert plain(found[each.entry_uuid]) == plain(each)
            for entry in entries:
                assert await place.content(entry.unique_id or "") == content

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(compare(directory))


@given(_ENTRIES, st.binary(min_size=1, max_size=300))
@_MANY
def test_what_is_submitted_by_xds_is_read_by_fhir(entry: DocumentEntry, content: bytes) -> None:
    sent = submission(entry)
    assume(not findings(sent, ITI_41))

    async def compare(directory: str) -> None:
        async with affinity(Path(directory)) as place:
            metadata = replace(sent, document_entries=(replace(entry, repository_unique_id=None),))
            response = await place.repository.provide_and_register(message_of(metadata, {entry.entry_uuid: content}))
            assert response.succeeded, response.errors
            answer = await place.recipient.stored.document_reference(resource_id(entry.entry_uuid))
            [stored] = await place.registered.documents(entry_uuids=[entry.entry_uuid])
            assert isinstance(answer.resource, bytes)
            resource = parsed(answer.resource)
            assert_is_fhir(resource)
            assert entry_of(resource, domain=DOMAIN) == expressible(stored)

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(compare(directory))


# Whatever is sent ----------------------------------------------------------------------------------------------------


def _valid_bundle() -> Json:
    entry, case = document_entry(), folder()
    parts = sent_document(entry, relates_to=[{"code": "signs", "target": {"reference": "DocumentReference/1"}}])
    del parts[0]["relatesTo"]
    return bundle_of(sent_list(submission_set(), entry, case), sent_list(case, entry), *parts)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a resource."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in items:
        yield from _paths(each, (*path, name))


_WORDS = ("#", "urn:uuid:", "urn:oid:1", "Patient/1", "DocumentReference/", "submissionset", "Binary", "POST", "==")
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=12) | st.sampled_from(_WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["reference", "identifier", "value", "system", "coding", "code", "url", "resourceType", "id"]),
        inner, max_size=3,
    ),
    max_leaves=6,
)  # fmt: skip


@st.composite
def _broken_bundles(draw: st.DrawFn) -> Any:
    bundle = copy.deepcopy(_VALID)
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from([each for each in _paths(bundle) if each]))
        place: Any = bundle
        for each in parents:
            place = place[each]
        match draw(st.sampled_from(["replace", "remove", "repeat", "exchange"])):
            case "replace":
                place[last] = draw(_JSON)
            case "remove":
                del place[last]
            case "repeat" if isinstance(place, list):
                place.append(copy.deepcopy(place[last]))
            case _:
                other = draw(st.sampled_from([each for each in _paths(bundle) if each]))
                value: Any = bundle
                for each in other:
                    value = value[each]
                place[last] = copy.deepcopy(value)
        if not isinstance(bundle.get("entry"), list):
            break
    return bundle


_VALID = _valid_bundle()


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Affinity]]:
    """A deployment for many examples, and what runs them."""
    opened = AsyncExitStack()
    with asyncio.Runner() as runner:
        yield runner, runner.run(opened.enter_async_context(affinity(tmp_path)))
        runner.run(opened.aclose())


@given(bundle=_broken_bundles())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_damaged_bundle_is_taken_whole_or_refused_whole(
    deployment: tuple[asyncio.Runner, Affinity], bundle: Any
) -> None:
    runner, place = deployment

    async def send() -> None:
        before = await place.holds()
        refused = await refusal_of(place, bundle)
        if refused is None:
            assert (await place.holds())[0] == before[0] + 1
            return
        assert refused.outcome.http_status in (400, 409, 413, 422)
        assert_is_fhir(refused.outcome.resource())
        assert await place.holds() == before

    runner.run(send())


async def refusal_of(place: Affinity, bundle: Any) -> Refused | None:
    """Why a Bundle is refused; None: it is taken."""
    try:
        await place.provided(bundle)
    except Refused as refused:
        return refused
    return None
