"""Whoever sends an identifier that is in use is told since which submission, on every metadata store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from registry.actor import Registry
from registry.metadata_store import MetadataStore
from tests.builders import document_entry, folder, has_member, oid, submission
from tests.registry.memory_store import MemoryStore
from tests.registry.stores import ADAPTERS, opening_of
from xds.ebxml_writer import codec
from xds.hl7v2 import CX, DTM
from xds.metadata import Submission


@pytest.fixture(params=["memory", *ADAPTERS])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Registry]:
    if request.param == "memory":
        yield Registry(store=MemoryStore(codec))
        return
    async with opening_of(request.param, request, tmp_path, codec) as opening:
        store: MetadataStore = await opening()
        yield Registry(store=store)


async def told(registry: Registry, submitted: Submission) -> list[str]:
    return [error.code_context for error in (await registry.register_document_set(submitted)).errors]


async def test_each_identifier_is_told_with_the_submission_that_it_came_with(registry: Registry) -> None:
    entry, case = document_entry(), folder()
    link = has_member(case, entry)
    first = submission(entry, folders=(case,), associations=(link,), submission_time=DTM("20251130101500"))
    assert await told(registry, first) == []
    unique_id = first.submission_set.unique_id
    of_first = f"(it came with the SubmissionSet '{unique_id}', submissionTime 20251130101500)"
    itself = f"(uniqueId '{unique_id}', submissionTime 20251130101500)"

    other = CX.of("another", "2.25.7331")
    again = document_entry(entry_uuid=entry.entry_uuid, patient_id=other)
    [of_entry] = await told(registry, submission(again, patient_id=other))
    [of_folder] = await told(registry, submission(folders=(folder(unique_id=case.unique_id),)))
    [of_set] = await told(registry, submission(document_entry(), unique_id=unique_id))

    assert f"is in use by a registered DocumentEntry {of_first}; send a new UUID" in of_entry
    assert f"is that of a registered Folder {of_first}; send a new uniqueId" in of_folder
    assert f"is that of a registered SubmissionSet {itself}; send a new uniqueId" in of_set


async def test_of_what_was_removed_nothing_is_told_but_that_its_name_is_taken(registry: Registry) -> None:
    entry = document_entry()
    first = submission(entry, unique_id=oid())
    assert await told(registry, first) == []
    everything = [item.entry_uuid for item in first.objects]
    assert (await registry.remove_metadata(everything)).succeeded

    [sentence] = await told(registry, submission(document_entry(entry_uuid=entry.entry_uuid)))

    assert "is in use by a registered DocumentEntry; send a new UUID" in sentence
