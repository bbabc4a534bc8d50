"""What Simplified Publish [ITI-105] stores, refuses and answers."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import parsed
from mhd.fhir.operation_outcome import Refused
from mhd.messages import FhirAnswer, FhirRequest, PreferReturn
from tests.builders import CONTENT, SNOMED_CT, code, document_entry
from tests.fhir_validity import assert_is_fhir
from tests.mhd.recipients import BASE, SOURCE_OF_OURS, Affinity, affinity, sent_document
from xds.metadata import AvailabilityStatus, DocumentEntry, SubmissionSet


def published(entry: DocumentEntry, content: bytes = CONTENT, **changes: Any) -> Json:
    """A DocumentReference with its document."""
    resource, _ = sent_document(entry)
    attachment = resource["content"][0]["attachment"]
    del attachment["url"], resource["id"], resource["meta"]
    attachment["data"] = base64.b64encode(content).decode()
    return resource | changes


async def publish(place: Affinity, resource: Any, request: FhirRequest = FhirRequest()) -> FhirAnswer:  # noqa: B008
    return await place.recipient.simplified_publish(resource, request)


async def test_a_document_is_published_with_a_submissionset_of_this_server(tmp_path: Path) -> None:
    entry = document_entry()
    kind = code("x", SNOMED_CT, "Sent by an app")

    async with affinity(
        tmp_path, simplified_publish=True, content_types={entry.class_code.coded: kind} if entry.class_code else {}
    ) as place:
        answer = await publish(place, published(entry))
        [owner] = [each for each in await place.everything() if isinstance(each, SubmissionSet)]

        assert await place.content(entry.unique_id or "") == CONTENT
    assert (owner.content_type_code, owner.source_id, owner.author) == (kind, SOURCE_OF_OURS, entry.author)
    assert (answer.status, answer.location) == (201, f"{BASE}/DocumentReference/{entry.entry_uuid[9:]}")
    assert isinstance(answer.resource, bytes)
    resource = parsed(answer.resource)
    assert_is_fhir(resource)
    attachment = resource["content"][0]["attachment"]
    assert "data" not in attachment
    assert attachment["url"] == f"{BASE}/Binary/{entry.entry_uuid[9:]}"


async def test_a_published_document_may_replace_another(tmp_path: Path) -> None:
    old, new = document_entry(), document_entry()
    relation = {"code": "replaces", "target": {"reference": f"DocumentReference/{old.entry_uuid[9:]}"}}

    async with affinity(tmp_path, simplified_publish=True) as place:
        await publish(place, published(old))
        await publish(place, published(new, relatesTo=[relation]))
        [found] = await place.registered.documents(unique_ids=[old.unique_id or ""])

    assert found.availability_status == AvailabilityStatus.DEPRECATED


@pytest.mark.parametrize(
    ("prefer", "kind"),
    [(PreferReturn.MINIMAL, None), (PreferReturn.OPERATION_OUTCOME, "OperationOutcome")],
)
async def test_the_answer_to_a_publication_is_what_the_sender_prefers(
    tmp_path: Path, prefer: PreferReturn, kind: str | None
) -> None:
    async with affinity(tmp_path, simplified_publish=True) as place:
        answer = await publish(place, published(document_entry()), FhirRequest(prefer_return=prefer))

    found = answer.resource["resourceType"] if isinstance(answer.resource, dict) else None
    assert (found, answer.status) == (kind, 201)


BROKEN: tuple[tuple[str, dict[str, Any], int, str], ...] = (
    ("status", {"status": "superseded"}, 422, "DocumentReference.status"),
    ("masterIdentifier", {"masterIdentifier": None}, 422, "DocumentReference.masterIdentifier"),
    ("type", {"type": None}, 422, "DocumentReference.type"),
    ("subject", {"subject": {"reference": "https://elsewhere.example/Patient/1"}}, 422, "DocumentReference.subject"),
    ("category", {"category": None}, 422, "DocumentReference.category"),
    ("docStatus", {"docStatus": "final"}, 422, "DocumentReference.docStatus"),
    ("form", {"date": "2026-02-30T00:00:00Z"}, 400, "DocumentReference.date"),
)


@pytest.mark.parametrize(("changes", "http", "path"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
async def test_a_broken_publication_is_refused_at_the_broken_place(
    tmp_path: Path, changes: dict[str, Any], http: int, path: str
) -> None:
    sent = {name: each for name, each in (published(document_entry()) | changes).items() if each is not None}

    async with affinity(tmp_path, simplified_publish=True) as place:
        with pytest.raises(Refused) as refused:
            await publish(place, sent)

        assert await place.holds() == (0, 0)
    outcome = refused.value.outcome
    assert outcome.http_status == http
    assert path in {each.expression for each in outcome.issues}
    assert not any("Bundle" in each.text or "Bundle" in each.expression for each in outcome.issues)


async def test_a_publication_whose_size_is_wrong_is_refused(tmp_path: Path) -> None:
    async with affinity(tmp_path, simplified_publish=True) as place:
        with pytest.raises(Refused) as refused:
            await publish(place, published(document_entry(), content=b"other octets"))

        assert await place.holds() == (0, 0)
    assert {each.expression for each in refused.value.outcome.issues} == {
        "DocumentReference.content[0].attachment.hash",
        "DocumentReference.content[0].attachment.size",
    }


async def test_a_publication_is_refused_where_it_is_not_offered(tmp_path: Path) -> None:
    async with affinity(tmp_path) as place:
        with pytest.raises(Refused) as refused:
            await publish(place, published(document_entry()))

        assert await place.holds() == (0, 0)
    assert refused.value.outcome.http_status == 405
