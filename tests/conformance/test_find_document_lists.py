"""Find Document Lists [ITI-66] over HTTP: SubmissionSets and Folders."""

from __future__ import annotations

import pytest

from tests.builders import (
    SNOMED_CT,
    author,
    code,
    document_entry,
    folder,
    has_member,
    oid,
    submission,
)
from tests.conformance.fhir_wire import FhirWire
from tests.conformance.test_find_document_references import FORM, of, some_patient
from tests.conformance.wire import Wire
from xds.hl7v2 import CX, DTM, XCN
from xds.metadata import Folder, Submission, SubmissionSet

pytestmark = pytest.mark.asyncio(loop_scope="module")


def ids(*items: SubmissionSet | Folder) -> list[str]:
    return [each.entry_uuid.removeprefix("urn:uuid:") for each in items]


async def registered(wire: Wire, patient: CX) -> Submission:
    """A SubmissionSet with a document, in a Folder that it brings as well."""
    entry = document_entry(patient_id=patient)
    held = folder(patient_id=patient, code_list=(code("84114007", SNOMED_CT), code("local", "2.25.7331.4")))
    sent = submission(
        entry,
        folders=(held,),
        associations=(has_member(held, entry),),
        author=(author(author_person=XCN("1^van der Berg^Åsa^^^^^^&2.25.7331&ISO")),),
        submission_time=DTM("20240301100000"),
        source_id="2.25.7331.9",
        content_type_code=code("11488-4"),
    )
    assert (await wire.register(sent)).registry_response.succeeded
    return sent


SETS = [
    ("code", "submissionset"),
    ("code", "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes|submissionset"),
    ("date", "2024-03-01"),
    ("date", "lt2024-04"),
    ("designationType", "http://loinc.org|11488-4"),
    ("designationType", "11488-4"),
]
FOLDERS = [
    ("code", "folder"),
    ("date", "gt2024-03-01"),
    ("designationType", "http://snomed.info/sct|84114007"),
    ("designationType", "urn:oid:2.25.7331.4|local"),
]
SETS_BESIDE_FOLDERS = [
    ("source.family", "Berg"),
    ("source.given", "ås"),
    ("source.given:exact", "Åsa"),
    ("sourceId", "2.25.7331.9"),
    ("sourceId", "urn:oid:2.25.7331.9"),
    ("sourceId", "urn:ietf:rfc:3986|urn:oid:2.25.7331.9"),
]


@pytest.fixture(scope="module")
def kept() -> dict[str, tuple[CX, Submission]]:
    """The patient and submission of this module, on each server."""
    return {}


async def searched(wire: Wire, kept: dict[str, tuple[CX, Submission]]) -> tuple[CX, Submission]:
    if wire.base not in kept:
        patient = some_patient()
        kept[wire.base] = (patient, await registered(wire, patient))
    return kept[wire.base]


@pytest.mark.parametrize(
    ("name", "value", "sets", "folders"),
    [
        *((*each, True, False) for each in SETS),
        *((*each, False, True) for each in FOLDERS),
        *((*each, True, True) for each in SETS_BESIDE_FOLDERS),
        ("code", "working", False, False),
        ("code", "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes|", True, True),
        ("sourceId", "1.2.3", False, True),
        ("sourceId", "urn:ietf:rfc:3986|", False, True),
        ("sourceId", "urn:oid:", False, True),
        ("source.family", "erg", False, True),
        ("status", "current", True, True),
        ("status", "superseded", False, False),
        ("status", "retired", False, False),
        ("code:not", "folder", True, False),
        ("code:not", "submissionset,working", False, True),
        ("code:not", "folder,submissionset", False, False),
        ("status:not", "superseded", True, True),
        ("status:not", "current", False, False),
        ("designationType:not", "http://loinc.org|11488-4", False, True),
        ("designationType:not", "84114007", True, False),
        ("designationType:missing", "false", True, True),
        ("sourceId:not", "urn:oid:2.25.7331.9", False, True),
        ("sourceId:missing", "true", False, True),
        ("sourceId:missing", "false", True, False),
        ("source.family:missing", "true", False, True),
        ("source.given:missing", "false", True, False),
        ("date:missing", "false", True, True),
        ("date:missing", "true", False, False),
    ],
)
async def test_lists_are_found_by_each_parameter(
    wire: Wire,
    fhir: FhirWire,
    kept: dict[str, tuple[CX, Submission]],
    name: str,
    value: str,
    sets: bool,
    folders: bool,
) -> None:
    patient, sent = await searched(wire, kept)
    parameters = {"patient.identifier": of(patient), name: value}
    expected = [*(ids(*sent.folders) if folders else ()), *(ids(*sent.submission_sets) if sets else ())]

    got = await fhir.get("List", parameters)
    posted = await fhir.send("POST", "List/_search", data=parameters, headers=FORM)

    assert got.found == posted.found == expected
    assert got.bundle["total"] == len(expected)


async def test_a_list_tells_what_it_holds(wire: Wire, fhir: FhirWire, kept: dict[str, tuple[CX, Submission]]) -> None:
    patient, sent = await searched(wire, kept)

    entries = (await fhir.get("List", {"patient.identifier": of(patient)})).bundle["entry"]

    document = f"DocumentReference/{sent.document_entries[0].entry_uuid.removeprefix('urn:uuid:')}"
    held, owner = (each["resource"] for each in entries)
    assert [each["item"]["reference"] for each in held["entry"]] == [document]
    assert [each["item"]["reference"] for each in owner["entry"]] == [document, f"List/{ids(*sent.folders)[0]}"]
    for each in (held, owner):
        assert (await fhir.get(f"List/{each['id']}")).resource == each
        assert (await fhir.get(f"List/{each['id']}", Accept="application/fhir+xml")).resource == each


async def test_lists_are_found_by_their_identifiers(
    wire: Wire, fhir: FhirWire, kept: dict[str, tuple[CX, Submission]]
) -> None:
    _, sent = await searched(wire, kept)

    lists: tuple[SubmissionSet | Folder, ...] = (*sent.submission_sets, *sent.folders)
    for item in lists:
        for named in (f"urn:oid:{item.unique_id}", item.entry_uuid, f"urn:ietf:rfc:3986|urn:oid:{item.unique_id}"):
            assert (await fhir.get("List", {"identifier": named})).found == ids(item)
        assert (await fhir.get("List", {"_id": ids(item)[0]})).found == ids(item)
    assert (await fhir.get("List", {"identifier": f"urn:oid:{oid()}"})).found == []


async def test_submission_sets_and_folders_are_in_one_order_on_all_pages(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    for year in range(2019, 2024):
        entry = document_entry(patient_id=patient)
        sent = submission(
            entry,
            folders=(folder(patient_id=patient),) if year % 2 else (),
            submission_time=DTM(str(year)),
        )
        assert (await wire.register(sent)).registry_response.succeeded
    parameters = {"patient.identifier": of(patient)}
    at_once = await fhir.get("List", parameters)

    page = await fhir.get("List", {**parameters, "_count": "3"})
    found = page.found
    late = submission(document_entry(patient_id=patient), submission_time=DTM("2021"))
    assert (await wire.register(late)).registry_response.succeeded
    while (following := page.link("next")) is not None:
        page = await fhir.get(following)
        found += page.found
        assert page.bundle["total"] == 8

    assert len(at_once.found) == 8
    assert found == at_once.found
    dates = [each["resource"]["date"] for each in at_once.bundle["entry"]]
    assert dates == sorted(dates, reverse=True)


@pytest.mark.parametrize("name", ["code", "code:not", "status", "designationType", "sourceId"])
async def test_a_token_of_nothing_is_refused_at_its_parameter(fhir: FhirWire, name: str) -> None:
    for value in ("|", "||"):
        reply = await fhir.get("List", {"patient": "nobody", name: value})

        assert reply.status == 400
        assert (reply.issue["code"], reply.issue["expression"]) == ("invalid", [name])
