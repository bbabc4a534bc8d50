"""FHIR in front of a registry and repository on another host, which are spoken to by SOAP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio

from tests.builders import (
    CONTENT,
    association,
    document_entry,
    folder,
    full_document_entry,
    has_member,
    submission,
    submission_set,
    unmeasured,
)
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.test_fhir_submissions import JSON, XML, by_soap, provided
from tests.conformance.test_find_document_lists import FOLDERS, SETS, SETS_BESIDE_FOLDERS
from tests.conformance.test_find_document_references import (
    FINDS,
    FINDS_ALL,
    FINDS_OTHERS,
    ids,
    of,
    one_of_its_kind,
    some_patient,
)
from tests.conformance.wire import Wire, running_server
from tests.mhd.expressible import expressible
from tests.mhd.recipients import bundle_of, sent_document, sent_list
from xds.actors import DocumentRequest
from xds.ebxml_messages import retrieve_request
from xds.hl7v2 import CX, DTM
from xds.metadata import AssociationType, DocumentEntry, Submission
from xds.transactions import ITI_43

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(server: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Wire, FhirWire, FhirWire]]:
    """SOAP of a server, its own FHIR, and that of a server in front of it."""
    urls = {"registry_url": f"{server}/xds/registry", "repository_url": f"{server}/xds/repository"}
    data = tmp_path_factory.mktemp("elsewhere")
    async with running_server(data, actors=["mhd"], **urls) as base, aiohttp.ClientSession() as session:
        yield Wire(server, session), FhirWire(server, session), FhirWire(base, session)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kept(both: tuple[Wire, FhirWire, FhirWire]) -> tuple[CX, DocumentEntry, Submission]:
    """A patient with two documents, one in a Folder, one with an addendum that supersedes nothing."""
    wire, _, _ = both
    patient = some_patient()
    entry = unmeasured(one_of_its_kind(patient))
    held = folder(patient_id=patient)
    sent = submission(entry, folders=(held,), associations=(has_member(held, entry),))
    assert (await wire.provide(sent, {entry.entry_uuid: CONTENT})).registry_response.succeeded
    addendum = document_entry(patient_id=patient)
    later = submission(addendum, associations=(association(AssociationType.APND, addendum, entry),))
    assert (await wire.register(later)).registry_response.succeeded
    return patient, entry, sent


@pytest.mark.parametrize(("name", "value"), [*FINDS, *FINDS_ALL, *(each for each in FINDS_OTHERS if each[0] != "_id")])
async def test_a_search_finds_what_it_finds_where_the_registry_is(
    both: tuple[Wire, FhirWire, FhirWire], kept: tuple[CX, DocumentEntry, Submission], name: str, value: str
) -> None:
    _, here, elsewhere = both
    parameters = [("patient.identifier", of(kept[0])), (name, value)]

    assert (await elsewhere.get("DocumentReference", parameters)).found == (
        await here.get("DocumentReference", parameters)
    ).found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *SETS,
        *FOLDERS,
        *SETS_BESIDE_FOLDERS,
        ("code:not", "folder"),
        ("designationType:not", "11488-4,34133-9"),
        ("designationType:missing", "false"),
        ("sourceId:missing", "true"),
        ("sourceId", "urn:ietf:rfc:3986|"),
        ("source.family:missing", "false"),
        ("status:not", "superseded"),
    ],
)
async def test_a_search_finds_the_lists_that_it_finds_where_the_registry_is(
    both: tuple[Wire, FhirWire, FhirWire], kept: tuple[CX, DocumentEntry, Submission], name: str, value: str
) -> None:
    _, here, elsewhere = both
    parameters = [("patient.identifier", of(kept[0])), (name, value)]

    found = (await elsewhere.get("List", parameters)).bundle

    assert found["total"] == (await here.get("List", parameters)).bundle["total"]
    assert sorted((await elsewhere.get("List", parameters)).found) == sorted((await here.get("List", parameters)).found)


def without_what_no_registry_tells(reply: FhirReply, base: str) -> list[Any]:
    """The resources, but for what only a store knows: when it was changed, and keys of patients."""
    found = []
    for entry in reply.bundle["entry"]:
        resource = entry["resource"]
        resource["meta"].pop("lastUpdated", None)
        resource["subject"].pop("reference", None)
        if resource["resourceType"] == "DocumentReference":
            resource["content"][0]["attachment"]["url"] = resource["content"][0]["attachment"]["url"].removeprefix(base)
        found.append(resource)
    return sorted(found, key=lambda each: str(each["id"]))


@pytest.mark.parametrize("path", ["DocumentReference", "List"])
async def test_resources_say_what_they_say_where_the_registry_is(
    both: tuple[Wire, FhirWire, FhirWire], kept: tuple[CX, DocumentEntry, Submission], path: str
) -> None:
    _, here, elsewhere = both
    parameters = {"patient.identifier": of(kept[0]), "status": "current"}

    of_here, of_elsewhere = await here.get(path, parameters), await elsewhere.get(path, parameters)

    assert of_elsewhere.bundle["total"] == of_here.bundle["total"] > 1
    assert without_what_no_registry_tells(of_elsewhere, elsewhere.base) == without_what_no_registry_tells(
        of_here, here.base
    )
    for number in of_elsewhere.found:
        assert (await elsewhere.get(f"{path}/{number}")).resource["id"] == number


async def test_lists_and_documents_are_found_by_name(
    both: tuple[Wire, FhirWire, FhirWire], kept: tuple[CX, DocumentEntry, Submission]
) -> None:
    _, _, elsewhere = both
    _, entry, sent = kept

    for path, item in (
        ("DocumentReference", entry), ("List", sent.submission_sets[0]), ("List", sent.folders[0]),
    ):  # fmt: skip
        for named in (f"urn:oid:{item.unique_id}", item.entry_uuid):
            reply = await elsewhere.get(path, {"identifier": named})
            assert reply.found == [item.entry_uuid.removeprefix("urn:uuid:")], (path, named)
    stranger = {"_id": ids(entry)[0], "patient.identifier": of(some_patient())}
    assert (await elsewhere.get("DocumentReference", stranger)).found == []
    assert (await elsewhere.get("DocumentReference/00000000-0000-4000-8000-000000000000")).status == 404


async def test_a_document_is_retrieved_through_it_whole_and_in_part(
    both: tuple[Wire, FhirWire, FhirWire], kept: tuple[CX, DocumentEntry, Submission]
) -> None:
    _, _, elsewhere = both
    path = f"Binary/{ids(kept[1])[0]}"

    assert (await elsewhere.get(path)).content == CONTENT
    assert (await elsewhere.get(path, Range="bytes=1-2")).content == CONTENT[1:3]


@pytest.mark.parametrize("kind", [JSON, XML])
async def test_what_is_submitted_through_it_is_registered_and_kept_there(
    both: tuple[Wire, FhirWire, FhirWire], kind: str
) -> None:
    wire, here, elsewhere = both
    patient = some_patient()
    entry = full_document_entry(hash=None, size=None, home_community_id=None, patient_id=patient)
    item = submission_set(patient_id=patient)
    bundle = bundle_of(sent_list(item, entry), *sent_document(entry))

    answer = await provided(elsewhere, bundle, kind)

    assert [each["response"]["status"] for each in answer.bundle["entry"]] == ["201 Created"] * 3
    [stored] = [each for each in await by_soap(wire, item.unique_id or "") if isinstance(each, DocumentEntry)]
    assert replace(expressible(stored), hash=None, size=None) == expressible(entry)
    body = retrieve_request([DocumentRequest(stored.repository_unique_id or "", entry.unique_id or "")])
    assert list((await wire.mtom(ITI_43, body)).parts.values()) == [CONTENT]
    for fhir in (here, elsewhere):
        assert (await fhir.get("DocumentReference", {"patient.identifier": of(patient)})).found == ids(stored)


async def test_what_the_registry_refuses_is_refused_by_it_and_not_kept(
    both: tuple[Wire, FhirWire, FhirWire],
) -> None:
    wire, here, elsewhere = both
    patient = some_patient()
    entry = full_document_entry(hash=None, size=None, home_community_id=None, patient_id=patient)
    item = submission_set(patient_id=patient)
    bundle = bundle_of(sent_list(item, entry), *sent_document(entry))
    assert (await provided(elsewhere, bundle)).status == 200
    [stored] = [each for each in await by_soap(wire, item.unique_id or "") if isinstance(each, DocumentEntry)]
    other = full_document_entry(hash=None, size=None, home_community_id=None, patient_id=patient)
    of_same_name = submission_set(patient_id=patient, unique_id=item.unique_id)

    again = await provided(elsewhere, bundle_of(sent_list(of_same_name, other), *sent_document(other)))

    assert again.status == 409
    assert again.issue["details"]["coding"][0]["code"] == "XDSDuplicateUniqueIdInRegistry"
    found = await here.get("DocumentReference", {"patient.identifier": of(patient)})
    assert found.bundle["total"] == 1
    body = retrieve_request([DocumentRequest(stored.repository_unique_id or "", other.unique_id or "")])
    assert (await wire.mtom(ITI_43, body)).parts == {}


async def test_a_request_is_followed_to_the_registry_behind(
    both: tuple[Wire, FhirWire, FhirWire], caplog: pytest.LogCaptureFixture
) -> None:
    _, _, elsewhere = both
    trace_id = uuid4().hex
    parameters = {"patient.identifier": of(some_patient())}

    with caplog.at_level("INFO"):
        await elsewhere.get("DocumentReference", parameters, traceparent=f"00-{trace_id}-00f067aa0ba902b7-01")
        followed = [each for each in caplog.records if getattr(each, "trace_id", "") == trace_id]
        caplog.clear()
        for broken in (f"00-{trace_id}-{'0' * 16}-01", "00-me-you-01", trace_id):
            await elsewhere.get("DocumentReference", parameters, traceparent=broken)

    answered = {getattr(each, "transaction", "") for each in followed if each.getMessage() == "Answered"}
    assert answered == {"ITI-18", "ITI-67"}
    assert not [each for each in caplog.records if hasattr(each, "trace_id")]


async def test_pages_hold_each_document_once(both: tuple[Wire, FhirWire, FhirWire]) -> None:
    wire, _, elsewhere = both
    patient = some_patient()
    entries = [document_entry(patient_id=patient, creation_time=DTM(f"20{year}")) for year in range(10, 17)]
    assert (await wire.register(submission(*entries))).registry_response.succeeded

    walked = await elsewhere.walked("DocumentReference", {"patient.identifier": of(patient), "_count": "3"})

    assert walked == ids(*reversed(entries))


async def test_what_no_registry_tells_is_refused(both: tuple[Wire, FhirWire, FhirWire]) -> None:
    _, _, elsewhere = both

    for name, value in (("_lastUpdated", "ge2026"), ("_lastUpdated:missing", "true")):
        reply = await elsewhere.get("DocumentReference", {"patient.identifier": of(some_patient()), name: value})
        assert reply.status == 400
        assert reply.issue["code"] == "not-supported"
        assert reply.issue["expression"] == [name.partition(":")[0]]
    [rest] = (await elsewhere.get("metadata")).resource["rest"]
    assert "_lastUpdated" not in {each["name"] for kind in rest["resource"] for each in kind.get("searchParam", ())}
    assert "operation" not in rest


async def test_a_registry_that_is_away_is_answered_503(tmp_path: Path) -> None:
    urls = {"registry_url": "http://127.0.0.1:9/xds/registry", "repository_url": "http://127.0.0.1:9/xds/repository"}
    async with (
        running_server(tmp_path, actors=["mhd"], **urls) as base,
        aiohttp.ClientSession() as session,
    ):
        reply = await FhirWire(base, session).get("DocumentReference", {"patient.identifier": of(some_patient())})
        document = await FhirWire(base, session).get("Binary/00000000-0000-4000-8000-000000000000")

    assert reply.status == document.status == 503
    assert reply.headers["Retry-After"] == "1"
    assert reply.issue["code"] == "transient"
    assert (tmp_path / "fhir-secret").stat().st_mode & 0o077 == 0


async def test_what_was_submitted_when_is_searched_and_sorted_by_as_where_the_registry_is(
    both: tuple[Wire, FhirWire, FhirWire],
) -> None:
    wire, here, elsewhere = both
    patient = some_patient()
    entries = [document_entry(patient_id=patient) for _ in range(5)]
    times = ("20260301", "20260302101112", "2026030210", "20260303", "20260304")
    for number, (entry, time) in enumerate(zip(entries, times, strict=True)):
        # Each submission has the document before it as a member by reference, and that does not count.
        owner = submission_set(patient_id=patient, submission_time=DTM(time))
        sent = submission(entry)
        links = tuple(replace(each, source_object=owner.entry_uuid) for each in sent.associations)
        if number:
            links += (has_member(owner, entries[number - 1], submission_set_status="Reference"),)
        whole = replace(sent, submission_sets=(owner,), associations=links)
        assert (await wire.register(whole)).registry_response.succeeded
    of_patient = ("patient.identifier", of(patient))

    for sort, expected in (("date", (0, 2, 1, 3, 4)), ("-date", (4, 3, 1, 2, 0))):
        walked = await elsewhere.walked("DocumentReference", [of_patient, ("_sort", sort), ("_count", "2")])
        assert walked == ids(*(entries[each] for each in expected))
    for asked in ("2026-03-02", "ge2026-03-03", "lt2026-03-02T10:00:00Z", "2026-03-01,2026-03-04", "gt2026-03-04"):
        found = await elsewhere.get("DocumentReference", [of_patient, ("date", asked)])
        of_here = await here.get("DocumentReference", [of_patient, ("date", asked)])
        assert sorted(found.found) == sorted(of_here.found), asked
        assert found.bundle["total"] == of_here.bundle["total"]
    for missing, total in (("true", 0), ("false", 5)):
        found = await elsewhere.get("DocumentReference", [of_patient, ("date:missing", missing)])
        assert found.bundle["total"] == total
