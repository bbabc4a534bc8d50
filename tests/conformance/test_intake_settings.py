"""What a deployment may set of how strictly it looks at submissions."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.builders import CONTENT, document_entry, folder, submission, unmeasured
from tests.conformance.test_documents_in_and_out import entries_of, entry_of
from tests.conformance.wire import Reply, Wire, running_server
from xds.ebxml_messages import provide_request
from xds.errors import ResponseStatus, Severity
from xds.metadata import DocumentEntry
from xds.transactions import ITI_41

pytestmark = pytest.mark.asyncio

ISO_DATES = ("PID-3|1^^^&1.2.3&ISO", "PID-5|Saar^Liis^^^", "PID-7|1970-01-31", "PID-7|1970-01-31T08:00:00+02:00")


@asynccontextmanager
async def wire_to(directory: Path, **submissions: Any) -> AsyncIterator[Wire]:
    """A client of a server with these settings of [submissions]."""
    async with (
        running_server(directory / "data", submissions=submissions) as base,
        aiohttp.ClientSession() as session,
    ):
        yield Wire(base, session)


def inline(entry: DocumentEntry, **of_set: Any) -> bytes:
    """ITI-41 of an entry with its document as base64."""
    body = provide_request(submission(entry, **of_set), [(entry.entry_uuid, "d")])
    include = body[body.index(b"<xop:Include") : body.index(b"</xdsb:Document>")]
    return body.replace(include, base64.b64encode(CONTENT))


async def inline_without_mtom(wire: Wire, **of_set: Any) -> Reply:
    return await wire.simple(ITI_41, inline(unmeasured(document_entry()), **of_set))


async def test_a_source_that_sends_documents_without_mtom_is_warned_of_once_and_counted_always(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="server.inline_documents"):
        async with wire_to(tmp_path) as wire:
            for source in ("1.2.840.1", "1.2.840.1", "1.2.840.2"):
                assert (await inline_without_mtom(wire, source_id=source)).registry_response.succeeded
            async with wire.session.get(f"{wire.base}/metrics") as metrics:
                counted = await metrics.text()

    assert [getattr(record, "source_id", None) for record in caplog.records] == ["1.2.840.1", "1.2.840.2"]
    assert 'toimik_inline_documents_total{source="1.2.840.1"} 2.0' in counted
    assert 'toimik_inline_documents_total{source="1.2.840.2"} 1.0' in counted


async def test_a_strict_server_refuses_documents_without_mtom_and_says_how_to_send_them(tmp_path: Path) -> None:
    entry = unmeasured(document_entry())
    async with wire_to(tmp_path, inline_documents="strict") as wire:
        answer = await wire.simple(ITI_41, inline(entry))

        assert answer.status == 400
        assert "Content-Type: multipart/related" in answer.fault
        assert await entries_of(wire, entry.unique_id or "") == []


async def test_a_strict_server_takes_a_document_that_stays_in_the_envelope_of_an_mtom_message(tmp_path: Path) -> None:
    async with wire_to(tmp_path, inline_documents="strict") as wire:
        answer = await wire.mtom(ITI_41, inline(unmeasured(document_entry())))
        without_documents = await wire.simple(ITI_41, provide_request(submission(folders=(folder(),)), []))

    assert answer.registry_response.succeeded, answer.content
    assert without_documents.registry_response.succeeded, without_documents.content


async def test_a_source_patient_info_that_breaks_the_rules_is_refused_without_repeating_it(tmp_path: Path) -> None:
    async with wire_to(tmp_path) as wire:
        entry = unmeasured(document_entry(source_patient_info=ISO_DATES))
        answer = await wire.provide(submission(entry), {entry.entry_uuid: CONTENT})

    response = answer.registry_response
    assert response.status is ResponseStatus.FAILURE
    assert answer.codes == ["XDSRepositoryMetadataError"] * 2
    assert all("PID-7" in error.code_context and "1970" not in error.code_context for error in response.errors)


@pytest.mark.parametrize(("policy", "warnings"), [("warn", 2), ("accept", 0)])
async def test_a_source_patient_info_that_is_let_pass_comes_back_as_it_was_sent(
    tmp_path: Path, policy: str, warnings: int
) -> None:
    async with wire_to(tmp_path, source_patient_info=policy) as wire:
        entry = unmeasured(document_entry(source_patient_info=ISO_DATES))
        answer = await wire.provide(submission(entry), {entry.entry_uuid: CONTENT})

        assert answer.registry_response.succeeded, answer.content
        assert [error.severity for error in answer.registry_response.errors] == [Severity.WARNING] * warnings
        assert (await entry_of(wire, entry.unique_id or "")).source_patient_info == ISO_DATES
