"""Find Document References [ITI-67] over HTTP: each parameter, alone and with others, by GET and by POST."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import aiohttp
import pytest

from tests.builders import (
    CONFIDENTIALITY,
    CONTENT,
    FORMATS,
    LOINC,
    PATIENT_AUTHORITY,
    REPOSITORY,
    SNOMED_CT,
    association,
    author,
    code,
    document_entry,
    submission,
    submission_set,
    text,
    unmeasured,
)
from tests.conformance.fhir_wire import FhirWire
from tests.conformance.wire import Wire, running_server
from xds.hl7v2 import CX, DTM, XCN, CXi
from xds.metadata import AssociationType, DocumentEntry, Submission

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def some_patient() -> CX:
    return CX.of(uuid4().hex[:12], PATIENT_AUTHORITY)


def of(patient: CX) -> str:
    """The patient as a token."""
    return f"urn:oid:{PATIENT_AUTHORITY}|{patient.id_number}"


def ids(*entries: DocumentEntry) -> list[str]:
    return [each.entry_uuid.removeprefix("urn:uuid:") for each in entries]


async def register(wire: Wire, *entries: DocumentEntry, **changes: Any) -> Submission:
    sent = submission(*entries, **changes)
    assert (await wire.register(sent)).registry_response.succeeded
    return sent


def one_of_its_kind(patient: CX) -> DocumentEntry:
    """A document that is found by each parameter; `usual` ones are found by none of the same values."""
    return document_entry(
        patient_id=patient,
        class_code=code("11488-4"),
        type_code=code("34117-2"),
        practice_setting_code=code("394802001", SNOMED_CT),
        healthcare_facility_type_code=code("35971002", "1.2.40.0.34.5.3"),
        format_code=code("urn:ihe:iti:xds-sd:pdf:2008", FORMATS),
        confidentiality_code=(code("R", CONFIDENTIALITY), code("house-only", "Old Clinic & Sons|1997")),
        event_code_list=(code("29303009", SNOMED_CT), code("T-32000", "SRT")),
        creation_time=DTM("2024"),
        service_start_time=DTM("20240301"),
        service_stop_time=DTM("20240305"),
        mime_type="application/pdf",
        language_code="lv",
        comments=text("Überweisung, 100% à la carte"),
        author=(
            author(author_person=XCN("1^van der Berg^Åsa^Maria^^^^^&2.25.7331&ISO")),
            author(author_person=XCN("2^O'Hara^Tom^^^^^^&2.25.7331&ISO")),
        ),
        reference_id_list=(
            CXi("ACC-1^^^&2.25.7331&ISO^urn:ihe:iti:xds:2013:accession"),
            CXi("ENC-1^^^&2.25.7331&ISO^urn:ihe:iti:xds:2015:encounterId"),
            CXi("1.2.840.9.1^^^^urn:ihe:iti:xds:2016:studyInstanceUID"),
        ),
    )


FINDS = [
    ("category", "http://loinc.org|11488-4"),
    ("category", f"urn:oid:{LOINC}|11488-4"),
    ("category", "11488-4"),
    ("type", "34117-2"),
    ("type", "http://loinc.org|34117-2"),
    ("setting", "http://snomed.info/sct|394802001"),
    ("facility", "urn:oid:1.2.40.0.34.5.3|35971002"),
    ("facility", "urn:oid:1.2.40.0.34.5.3|"),
    ("format", "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode|urn:ihe:iti:xds-sd:pdf:2008"),
    ("format", "urn:ihe:iti:xds-sd:pdf:2008"),
    ("security-label", "http://terminology.hl7.org/CodeSystem/v3-Confidentiality|R"),
    ("security-label", "urn:x-xds-scheme:Old%20Clinic%20%26%20Sons%7C1997|house-only"),
    ("security-label", r"Old Clinic & Sons\|1997|house-only"),
    ("event", "http://snomed.info/sct|29303009"),
    ("event", "T-32000"),
    ("contenttype", "application/pdf"),
    ("language", "lv"),
    ("description", "uberweisung"),
    ("description", r"Überweisung\, 100%"),
    ("description:contains", "A LA"),
    ("description:exact", r"Überweisung\, 100% à la carte"),
    ("creation", "2024"),
    ("creation", "lt2024-01-02"),  # 2024 may be any of its days
    ("creation", "lt2024-12-31T23:59:59Z"),
    ("creation", "le2025-01-01"),
    ("creation", "lt2025-01-01T00:00:00+00:00"),
    ("creation", "lt2025-01-01T00:00:00 00:00"),  # a plus sign that was not encoded
    ("period", "2024-03-03"),
    ("period", "ge2024-03-05"),
    ("period", "lt2024-03-02"),
    ("author.family", "van"),
    ("author.family", "BERG"),
    ("author.family", "o'h"),
    ("author.family:contains", "der"),
    ("author.family:exact", "van der Berg"),
    ("author.given", "asa"),
    ("author.given", "Ma"),
    ("author.given:exact", "Tom"),
    ("author:Practitioner.family", "Berg"),
    ("related:identifier", "urn:oid:2.25.7331|ACC-1"),
    ("related.identifier", "urn:oid:2.25.7331|ACC-1"),
    ("related:identifier", "ACC-1"),
    ("related:identifier", "urn:dicom:uid|urn:oid:1.2.840.9.1"),
    ("related", "urn:oid:2.25.7331|ENC-1"),
    ("encounter:identifier", "urn:oid:2.25.7331|ENC-1"),
    ("encounter.identifier", "urn:oid:2.25.7331|ENC-1"),
    ("category:not", "http://loinc.org|18842-5"),
    ("category:not", "18842-5,some-other"),
    ("type:not", "11490-0"),
    ("setting:not", "http://snomed.info/sct|408443003"),
    ("facility:not", "http://snomed.info/sct|"),
    ("format:not", "urn:ihe:iti:xds-sd:text:2008"),
    ("security-label:not", "http://terminology.hl7.org/CodeSystem/v3-Confidentiality|N"),
    ("contenttype:not", "text/plain"),
    ("language:not", "et-EE,fi"),
    ("event:missing", "false"),
    ("period:missing", "false"),
    ("description:missing", "false"),
    ("related:missing", "false"),
    ("author:Practitioner.given:missing", "false"),
]

FINDS_OTHERS = [
    ("category", "http://snomed.info/sct|11488-4"),
    ("category", "http://loinc.org|11488"),
    ("category", "|11488-4"),
    ("format", "urn:ihe:iti:xds-sd:pdf"),
    ("event", "29303008,T-32000x"),
    ("description", "carte"),
    ("description", "_berweisung"),
    ("description:contains", "100 "),
    ("description:exact", "Überweisung"),
    ("relatesto", "DocumentReference/00000000-0000-4000-8000-000000000000"),
    ("relatesto", "Observation/1"),
    ("creation", "lt2024"),
    ("creation", "gt2024"),
    ("period", "lt2024-03-01"),
    ("period", "gt2024-03-05"),
    ("author.family", "erg"),
    ("author.family:exact", "Van der Berg"),
    ("author.given", "Berg"),
    ("related:identifier", "urn:oid:2.25.7332|ACC-1"),
    ("related:identifier", "urn:oid:2.25.7331|ACC"),
    ("related:identifier", "|ACC-1"),
    ("related", "ServiceRequest/1"),
    ("encounter:identifier", "urn:oid:2.25.7331|ACC-1"),
    ("status", "entered-in-error"),
    ("_id", "00000000-0000-4000-8000-000000000000"),
    ("identifier", "urn:oid:1.2.3.4"),
    ("category:not", "http://loinc.org|11488-4"),
    ("type:not", "other,34117-2"),
    ("security-label:not", "R"),
    ("event:not", "T-32000"),
    ("language:not", "et-EE,lv"),
    ("status:not", "current"),
    ("category:missing", "true"),
    ("event:missing", "true"),
    ("security-label:missing", "true"),
    ("creation:missing", "true"),
    ("period:missing", "true"),
    ("description:missing", "true"),
    ("author.family:missing", "true"),
    ("author.given:missing", "true"),
    ("status:missing", "true"),
]

FINDS_ALL = [
    ("category:not", "|11488-4"),
    ("category:not", "11488"),
    ("event:not", "http://loinc.org|T-32000"),
    ("status:not", "superseded,entered-in-error"),
    ("_id:not", "00000000-0000-4000-8000-000000000000"),
    ("identifier:not", "urn:oid:1.2.3.4"),
    ("type:missing", "false"),
    ("contenttype:missing", "false"),
    ("creation:missing", "false"),
    ("author:Practitioner.family:missing", "false"),
    ("status:missing", "false"),
]


@pytest.fixture(scope="module")
def kept() -> dict[str, tuple[CX, DocumentEntry]]:
    """The patient and document of this module, on each server."""
    return {}


async def searched(wire: Wire, kept: dict[str, tuple[CX, DocumentEntry]]) -> tuple[CX, DocumentEntry]:
    if wire.base not in kept:
        patient = some_patient()
        entry = one_of_its_kind(patient)
        await register(
            wire,
            entry,
            document_entry(patient_id=patient),
        )
        kept[wire.base] = (patient, entry)
    return kept[wire.base]


@pytest.mark.parametrize(("name", "value"), FINDS)
async def test_a_parameter_finds_what_has_the_value_whether_it_is_got_or_posted(
    wire: Wire, fhir: FhirWire, kept: dict[str, tuple[CX, DocumentEntry]], name: str, value: str
) -> None:
    patient, entry = await searched(wire, kept)
    parameters = {"patient.identifier": of(patient), "status": "current", name: value}

    got = await fhir.get("DocumentReference", parameters)
    posted = await fhir.send("POST", "DocumentReference/_search", data=parameters, headers=FORM)

    assert got.found == ids(entry)
    assert got.bundle["total"] == 1
    assert posted.found == got.found


@pytest.mark.parametrize(("name", "value"), FINDS_OTHERS)
async def test_a_parameter_does_not_find_what_has_another_value(
    wire: Wire, fhir: FhirWire, kept: dict[str, tuple[CX, DocumentEntry]], name: str, value: str
) -> None:
    patient, entry = await searched(wire, kept)

    reply = await fhir.get("DocumentReference", {"patient.identifier": of(patient), name: value})

    assert ids(entry)[0] not in reply.found


@pytest.mark.parametrize(("name", "value"), FINDS_ALL)
async def test_a_modifier_leaves_in_what_it_does_not_exclude(
    wire: Wire, fhir: FhirWire, kept: dict[str, tuple[CX, DocumentEntry]], name: str, value: str
) -> None:
    patient, entry = await searched(wire, kept)

    reply = await fhir.get("DocumentReference", {"patient.identifier": of(patient), name: value})

    assert (reply.bundle["total"], len(reply.found)) == (2, 2)
    assert ids(entry)[0] in reply.found


async def test_what_has_no_value_has_none_of_those_that_are_not_wanted(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    entries = [
        document_entry(patient_id=patient, event_code_list=tuple(map(code, events)), author=authors)
        for events, authors in (
            ("xy", (author(author_person=XCN("1^Tamm^Mari")),)),
            ("y", (author(author_person=XCN("2^Kask")), author(author_person=XCN("3^^Jaan")))),
            ("", (author(author_person=XCN("4")),)),
            ("z", (author(author_person=None),)),
        )
    ]
    await register(wire, *entries)

    async def found(*parameters: tuple[str, str]) -> list[int]:
        asked = [("patient.identifier", of(patient)), ("_count", "1"), *parameters]
        numbers = await fhir.walked("DocumentReference", asked)
        assert (await fhir.get("DocumentReference", asked)).bundle["total"] == len(numbers)
        return sorted(map(ids(*entries).index, numbers))

    assert await found(("event:not", "x")) == [1, 2, 3]
    assert await found(("event:not", "http://loinc.org|y")) == [2, 3]
    assert await found(("event:not", "x,http://loinc.org|z")) == [1, 2]
    assert await found(("event:not", "x"), ("event:not", "z")) == [1, 2]
    assert await found(("event:not", "x"), ("event", "y")) == [1]
    assert await found(("event:missing", "true")) == [2]
    assert await found(("event:missing", "false"), ("event:not", "y")) == [3]
    assert await found(("author.family:missing", "true")) == [2, 3]
    assert await found(("author.given:missing", "false")) == [0, 1]
    assert await found(("author.given:missing", "false"), ("author.family", "kask")) == [1]
    assert await found(("author:missing", "false")) == [0, 1, 2, 3]
    assert await found(("author:missing", "true")) == []
    assert await found(("_id:not", f"{ids(entries[0])[0]},{ids(entries[1])[0]}")) == [2, 3]
    assert await found(("identifier:not", f"urn:oid:{entries[3].unique_id}")) == [0, 1, 2]


async def test_values_are_alternatives_and_parameters_are_not(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    entries = [
        document_entry(
            patient_id=patient, type_code=code(kind), creation_time=DTM(year), event_code_list=tuple(map(code, events))
        )
        for kind, year, events in (("A", "2026", "xy"), ("B", "2025", "y"), ("C", "2024", "xz"))
    ]
    await register(wire, *entries)

    async def found(*parameters: tuple[str, str]) -> list[str]:
        return (await fhir.get("DocumentReference", [("patient.identifier", of(patient)), *parameters])).found

    assert await found(("type", "A,C")) == ids(entries[0], entries[2])
    assert await found(("type", "A,http://loinc.org|B")) == ids(*entries[:2])
    assert await found(("type", "A"), ("type", "C")) == []
    assert await found(("event", "x"), ("event", "y")) == ids(entries[0])
    assert await found(("event", "x"), ("event", "y,z")) == ids(entries[0], entries[2])
    assert await found(("creation", "ge2025"), ("creation", "lt2026")) == ids(entries[1])
    assert await found(("creation", "2024,2026")) == ids(entries[0], entries[2])
    assert await found(("type", "A,B"), ("creation", "2025")) == ids(entries[1])


async def test_family_and_given_name_are_those_of_one_author(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    entry = one_of_its_kind(patient)
    await register(wire, entry)

    async def found(family: str, given: str, of_family: str = "", of_given: str = "") -> list[str]:
        parameters = {
            "patient.identifier": of(patient),
            f"author.family{of_family}": family,
            f"author.given{of_given}": given,
        }
        return (await fhir.get("DocumentReference", parameters)).found

    assert await found("Berg", "Åsa") == ids(entry)
    assert await found("Berg", "Tom") == []
    assert await found("Hara,O'Hara", "Tom") == ids(entry)
    assert await found("van der Berg", "Åsa", ":exact", ":exact") == ids(entry)
    assert await found("van der Berg", "as", ":exact") == ids(entry)
    assert await found("van der Berg", "Tom", ":exact", ":exact") == []


async def test_a_patient_is_named_in_every_way_that_apps_use(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    entry = document_entry(patient_id=patient)
    await register(wire, entry)
    found = await fhir.get("DocumentReference", {"patient.identifier": of(patient)})
    reference = found.bundle["entry"][0]["resource"]["subject"]["reference"]
    key = reference.rpartition("/")[2]

    ways = {
        "patient": [reference, key, f"Patient/{key}"],
        "subject": [f"Patient/{key}"],
        "patient:Patient": [key],
        "patient:identifier": [of(patient)],
        "subject:identifier": [of(patient)],
        "subject.identifier": [of(patient)],
        "patient:Patient.identifier": [of(patient)],
    }
    for name, values in ways.items():
        for value in values:
            assert (await fhir.get("DocumentReference", {name: value})).found == ids(entry), (name, value)

    assert (await fhir.get(reference)).resource["identifier"] == [
        {"system": f"urn:oid:{PATIENT_AUTHORITY}", "value": patient.id_number}
    ]
    assert patient.id_number not in reference
    for unknown in ("Patient/nobody", "http://elsewhere.example/fhir/Patient/1", "Patient/../List"):
        assert (await fhir.get("DocumentReference", {"patient": unknown})).found == []
    for unknown in ("urn:oid:1.2.3|1", "http://hospital.example|1", patient.id_number, f"|{patient.id_number}"):
        assert (await fhir.get("DocumentReference", {"patient.identifier": unknown})).found == []


async def test_documents_are_found_by_their_identifiers_and_by_nothing_that_contradicts(
    wire: Wire, fhir: FhirWire
) -> None:
    patient, other = some_patient(), some_patient()
    entry = document_entry(patient_id=patient)
    with_root = document_entry(patient_id=patient, unique_id="1.2.3.77^A-1", creation_time=DTM("2020"))
    uuid_named = document_entry(patient_id=patient, unique_id=uuid4().urn, creation_time=DTM("2019"))
    await register(wire, entry, with_root, uuid_named)
    await register(wire, document_entry(patient_id=other))
    uuid = ids(entry)[0]

    for named, found in {
        f"urn:ietf:rfc:3986|urn:oid:{entry.unique_id}": entry,
        f"urn:oid:{entry.unique_id}": entry,
        str(entry.unique_id): entry,
        f"urn:ietf:rfc:3986|{entry.entry_uuid}": entry,
        entry.entry_uuid: entry,
        "urn:oid:1.2.3.77|A-1": with_root,
        str(uuid_named.unique_id): uuid_named,
    }.items():
        assert (await fhir.get("DocumentReference", {"identifier": named})).found == ids(found), named
    assert (await fhir.get("DocumentReference", {"_id": f"{uuid},{ids(with_root)[0]}"})).bundle["total"] == 2
    assert (await fhir.get("DocumentReference", {"_id": uuid, "patient.identifier": of(other)})).found == []
    assert (await fhir.get("DocumentReference", {"identifier": uuid, "status": "superseded"})).found == []


async def test_a_superseded_document_is_found_as_such_with_its_replacement(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    old, new = document_entry(patient_id=patient), document_entry(patient_id=patient)
    await register(wire, old)
    await register(wire, new, associations=(association(AssociationType.RPLC, new, old),))

    async def found(**parameters: str) -> list[str]:
        return (await fhir.get("DocumentReference", {"patient.identifier": of(patient), **parameters})).found

    assert await found(status="current") == ids(new)
    assert await found(status="superseded") == ids(old)
    assert sorted(await found(status="current,superseded")) == sorted(ids(old, new))
    assert sorted(await found()) == sorted(ids(old, new))
    (entry,) = (await fhir.get("DocumentReference", {"_id": ids(new)[0]})).bundle["entry"]
    (relation,) = entry["resource"]["relatesTo"]
    assert relation["code"] == "replaces"
    assert relation["target"]["reference"] == f"DocumentReference/{ids(old)[0]}"
    assert entry["resource"] == (await fhir.get(f"DocumentReference/{ids(new)[0]}")).resource


async def test_what_was_submitted_when_and_changed_when_is_searched_by_date(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    entry = document_entry(patient_id=patient)
    await register(wire, entry, submission_time=DTM("20260314102000"))

    async def found(name: str, value: str) -> bool:
        return bool((await fhir.get("DocumentReference", {"patient.identifier": of(patient), name: value})).found)

    assert await found("date", "2026-03-14")
    assert await found("date", "2026-03-14T11:20:00+01:00")
    assert not await found("date", "gt2026-03-14")
    assert await found("_lastUpdated", "gt2026-03-15")
    assert not await found("_lastUpdated", "lt2026-03-15")


async def test_pages_hold_each_document_once_while_others_are_registered(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    entries = [document_entry(patient_id=patient, creation_time=DTM(f"20{year}")) for year in range(10, 17)]
    await register(wire, *entries)
    parameters = {"patient.identifier": of(patient), "status": "current", "_count": "2"}

    reply = await fhir.get("DocumentReference", parameters)
    found = reply.found
    totals = {reply.bundle["total"]}
    year = 10
    while (following := reply.link("next")) is not None:
        assert patient.id_number not in following
        late = [document_entry(patient_id=patient, creation_time=DTM(time)) for time in (f"20{year}06", "2099", "2001")]
        await register(wire, *late)
        year += 2
        reply = await fhir.get(following)
        found += reply.found
        totals.add(reply.bundle["total"])

    assert found == ids(*reversed(entries))
    assert totals == {7}
    assert (await fhir.get("DocumentReference", parameters)).bundle["total"] > 7
    assert await fhir.walked("DocumentReference", {**parameters, "_sort": "creation"}) == list(
        reversed(await fhir.walked("DocumentReference", parameters))
    )


async def test_pages_come_in_the_order_of_submission_while_others_are_submitted(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    entries = [document_entry(patient_id=patient, creation_time=DTM(f"20{year}")) for year in (16, 10, 14, 12, 18)]
    times = ["20260301", "20260302101112", "2026030210", "20260303", "20260303"]
    for entry, time in zip(entries, times, strict=True):
        owner = submission_set(patient_id=patient, submission_time=DTM(time))
        sent = submission(entry)
        links = tuple(replace(each, source_object=owner.entry_uuid) for each in sent.associations)
        whole = replace(sent, submission_sets=(owner,), associations=links)
        assert (await wire.register(whole)).registry_response.succeeded
    parameters = {"patient.identifier": of(patient), "_count": "2"}

    for sort, expected in (("date", (0, 2, 1, 3, 4)), ("-date", (4, 3, 1, 2, 0))):
        reply = await fhir.get("DocumentReference", {**parameters, "_sort": sort})
        found = reply.found
        assert (reply.bundle["total"], ("_sort", sort) in parse_qsl(urlsplit(reply.link("self") or "").query)) == (
            5,
            True,
        )
        while (following := reply.link("next")) is not None:
            reply = await fhir.get(following)
            found += reply.found
        assert found == ids(*(entries[place] for place in expected))

    first = await fhir.get("DocumentReference", {**parameters, "_sort": "-date"})
    late = document_entry(patient_id=patient)
    await register(wire, late)
    seen = [*first.found, *(await fhir.walked(first.link("next") or "", ()))]
    assert sorted(seen) == sorted(ids(*entries))


async def test_documents_are_found_by_what_they_relate_to(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    old, new, other = (document_entry(patient_id=patient) for _ in range(3))
    await register(wire, old, other)
    await register(wire, new, associations=(association(AssociationType.APND, new, old),))
    [number] = ids(old)

    for reference in (number, f"DocumentReference/{number}", f"{fhir.base}/DocumentReference/{number}"):
        assert (
            await fhir.get("DocumentReference", {"patient.identifier": of(patient), "relatesto": reference})
        ).found == ids(new)
    by_other = {"patient.identifier": of(patient), "relatesto": f"DocumentReference/{ids(other)[0]}"}
    assert (await fhir.get("DocumentReference", by_other)).found == []
    by_several = {**by_other, "relatesto": f"DocumentReference/{ids(other)[0]},DocumentReference/{number}"}
    assert (await fhir.get("DocumentReference", by_several)).found == ids(new)


async def test_a_time_without_a_zone_is_one_of_the_zone_that_the_settings_name(tmp_path: Path) -> None:
    patient = some_patient()
    entry = document_entry(patient_id=patient, creation_time=DTM("20260701070000"))
    winter = document_entry(patient_id=patient, creation_time=DTM("20260115080000"))
    async with (
        running_server(tmp_path / "data", mhd={"time_zone": "Europe/Tallinn"}) as base,
        aiohttp.ClientSession() as session,
    ):
        await register(Wire(base, session), entry, winter)
        fhir = FhirWire(base, session)
        for value, expected in (
            ("2026-07-01T10:00:00", ids(entry)),
            ("2026-07-01T10:00", ids(entry)),
            ("2026-07-01T07:00:00", []),
            ("2026-07-01T07:00:00Z", ids(entry)),
            ("2026-01-15T10:00:00", ids(winter)),
            ("2026-07-01", ids(entry)),
        ):
            found = await fhir.get("DocumentReference", {"patient.identifier": of(patient), "creation": value})
            assert found.found == expected, value


async def test_the_next_page_of_a_posted_search_is_got_in_the_form_that_was_asked_for(
    wire: Wire, fhir: FhirWire
) -> None:
    patient = some_patient()
    await register(wire, *(document_entry(patient_id=patient) for _ in range(3)))
    form = {"patient.identifier": of(patient), "_count": "2", "_format": "xml"}

    reply = await fhir.send("POST", "DocumentReference/_search", data=form, headers=FORM)
    following = reply.link("next") or ""
    second = await fhir.get(following)

    assert reply.headers["Content-Type"].startswith("application/fhir+xml")
    assert second.headers["Content-Type"].startswith("application/fhir+xml")
    assert patient.id_number not in following
    assert len({*reply.found, *second.found}) == 3
    assert second.link("self") == following


async def test_a_search_may_ask_how_many_there_are_and_nothing_else(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    await register(wire, *(document_entry(patient_id=patient) for _ in range(3)))

    for asked in ({"_count": "0"}, {"_summary": "count"}):
        bundle = (await fhir.get("DocumentReference", {"patient.identifier": of(patient), **asked})).bundle
        assert bundle["total"] == 3
        assert "entry" not in bundle
        assert [each["relation"] for each in bundle["link"]] == ["self"]


async def test_the_self_link_is_the_same_search(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    entry = one_of_its_kind(patient)
    await register(wire, entry, document_entry(patient_id=patient))
    asked = [
        ("patient.identifier", of(patient)),
        ("security-label", r"Old Clinic & Sons\|1997|house-only"),
        ("author.family", "van,O'Hara"),
        ("creation", "lt2025-01-01T00:00:00+00:00"),
        ("_count", "9999"),
        ("_pretty", "true"),
        ("unheard-of", "1"),
    ]

    reply = await fhir.get("DocumentReference", asked)
    itself = reply.link("self") or ""
    again = await fhir.get(itself)

    assert again.found == reply.found == ids(entry)
    assert again.link("self") == itself
    assert parse_qsl(urlsplit(itself).query) == [*asked[:4], ("_count", "500")]


WRONG = [
    ({"status": "current"}, "required", "patient", "XDSStoredQueryMissingParam"),
    ({"patient.identifier": ""}, "invalid", "patient.identifier", None),
    ({"patient.identifier": "|"}, "invalid", "patient.identifier", None),
    ({"_id": "|", "identifier": "urn:ietf:rfc:3986|urn:oid:1.2.3"}, "invalid", "_id", None),
    ({"patient": "Patient/1", "type": "a,,b"}, "invalid", "type", None),
    ({"patient": "Patient/1", "type": "a|b|c"}, "invalid", "type", None),
    ({"patient": "Patient/1", "creation": "2026-02-30"}, "invalid", "creation", None),
    ({"patient": "Patient/1", "creation": "2026-13"}, "invalid", "creation", None),
    ({"patient": "Patient/1", "creation": "ge2026-03-01T24:00:00Z"}, "invalid", "creation", None),
    ({"patient": "Patient/1", "creation": "ap2026"}, "not-supported", "creation", None),
    ({"patient": "Patient/1", "date": "ne2026"}, "not-supported", "date", None),
    ({"patient": "Patient/1", "creation": "xx2026"}, "invalid", "creation", None),
    ({"patient": "Patient/1", "creation": "yesterday"}, "invalid", "creation", None),
    ({"patient": "Patient/1", "period": "sa2026"}, "not-supported", "period", None),
    ({"patient": "Patient/1", "type": "a\x00b"}, "invalid", "type", None),
    ({"patient": "Patient/1", "identifier": "a\ufffeb"}, "invalid", "identifier", None),
    ({"patient": "Patient/1", "type": "a" * 2000}, "invalid", "type", None),
    ({"patient": "Patient/1", "_id": ",".join(map(str, range(600)))}, "invalid", "_id", None),
    ({"patient": "Patient/1", "_count": "-1"}, "invalid", "_count", None),
    ({"patient": "Patient/1", "_count": "many"}, "invalid", "_count", None),
    ({"patient": "Patient/1", "type:in": "http://valueset.example"}, "not-supported", "type:in", None),
    ({"patient": "Patient/1", "type:text": "summary"}, "not-supported", "type:text", None),
    ({"patient": "Patient/1", "author.family:above": "x"}, "not-supported", "author.family:above", None),
    ({"patient:Practitioner": "1"}, "not-supported", "patient:Practitioner", None),
    ({"patient": "Patient/1", "type:missing": "yes"}, "invalid", "type:missing", None),
    ({"patient": "Patient/1", "type:missing": "true,false"}, "invalid", "type:missing", None),
    ({"patient": "Patient/1", "type:not": "a|b|c"}, "invalid", "type:not", None),
    ({"patient": "Patient/1", "creation:not": "2026"}, "not-supported", "creation:not", None),
    ({"patient": "Patient/1", "author.family:not": "x"}, "not-supported", "author.family:not", None),
    ({"patient": "Patient/1", "related:identifier:not": "x|y"}, "not-supported", "related:identifier:not", None),
    ({"patient": "Patient/1", "relatesto:missing": "no"}, "invalid", "relatesto:missing", None),
    ({"patient": "Patient/1", "author:missing": "no"}, "invalid", "author:missing", None),
    ({"patient": "Patient/1", "author:not": "Practitioner/1"}, "not-supported", "author:not", None),
    ({"patient.identifier:not": "x|y"}, "not-supported", "patient.identifier:not", None),
    ({"patient:missing": "false"}, "not-supported", "patient:missing", None),
    ({"_id:not": "1"}, "required", "patient", "XDSStoredQueryMissingParam"),
    ({"_page": "gAAAAAnothing"}, "invalid", "_page", None),
]


@pytest.mark.parametrize(("parameters", "kind", "expression", "code"), WRONG)
async def test_a_search_that_can_not_be_answered_is_refused_by_a_sentence(
    fhir: FhirWire, parameters: dict[str, str], kind: str, expression: str, code: str | None
) -> None:
    reply = await fhir.send("POST", "DocumentReference/_search", data=parameters, headers=FORM)

    assert reply.status == 400
    issues = [each for each in reply.resource["issue"] if each["expression"] == [expression]]
    assert [each["code"] for each in issues] == [kind], reply.content
    assert [each["code"] for each in issues[0]["details"].get("coding", ())] == ([code] if code else [])


async def test_everything_that_is_wrong_with_a_search_is_told(fhir: FhirWire) -> None:
    reply = await fhir.get("DocumentReference", {"creation": "2026-02-30", "type:in": "x", "_count": "x"})

    assert reply.status == 400
    assert sorted(each["expression"][0] for each in reply.resource["issue"]) == ["_count", "patient", "type:in"]


async def test_what_is_not_known_is_ignored_unless_the_app_is_strict(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    entry = document_entry(patient_id=patient)
    await register(wire, entry)
    parameters = {"patient.identifier": of(patient), "status": "current", "unheard-of": "1", "_sort": "title"}

    lenient = await fhir.get("DocumentReference", parameters)
    strict = await fhir.get("DocumentReference", parameters, Prefer="handling=strict")
    without_status = await fhir.get("DocumentReference", {"patient.identifier": of(patient)}, Prefer="handling=strict")

    assert lenient.found == ids(entry)
    assert strict.status == without_status.status == 400
    assert [each["expression"] for each in strict.resource["issue"]] == [["unheard-of"], ["_sort"]]
    assert without_status.issue["expression"] == ["status"]


async def test_a_cursor_is_of_use_for_its_own_search_alone_and_can_not_be_changed(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    await register(wire, *(document_entry(patient_id=patient) for _ in range(3)))
    reply = await fhir.get("DocumentReference", {"patient.identifier": of(patient), "_count": "1"})
    following = reply.link("next") or ""

    assert (await fhir.get(following.replace("/DocumentReference?", "/List?"))).status == 400
    changed = following[:-6] + ("a" if following[-6] != "a" else "b") + following[-5:]
    assert (await fhir.get(changed)).issue["expression"] == ["_page"]
    assert (await fhir.get(f"{following}&patient=Patient/1&type=x")).bundle["total"] == 3


async def test_the_community_that_is_asked_for_has_to_be_this_one(fhir: FhirWire) -> None:
    reply = await fhir.get("DocumentReference", {"patient": "1", "targetCommunityIdList": "urn:oid:1.2.3"})

    assert reply.status == 422
    assert reply.issue["details"]["coding"] == [{"code": "XDSUnknownCommunity"}]


async def test_what_was_submitted_by_soap_is_found_and_retrieved_by_fhir(wire: Wire, fhir: FhirWire) -> None:
    patient = some_patient()
    entry = replace(unmeasured(document_entry(patient_id=patient)), mime_type="text/plain")
    assert (await wire.provide(submission(entry), {entry.entry_uuid: CONTENT})).registry_response.succeeded

    found = await fhir.get("DocumentReference", {"patient.identifier": of(patient), "status": "current"})
    (reference,) = found.bundle["entry"]
    attachment = reference["resource"]["content"][0]["attachment"]
    document = await fhir.get(attachment["url"])

    assert reference["resource"]["masterIdentifier"]["value"] == f"urn:oid:{entry.unique_id}"
    assert document.status == 200
    assert document.content == CONTENT
    assert attachment["size"] == len(CONTENT)


@pytest.mark.parametrize("configured", [None, "https://xds.example/fhir/StructureDefinition/repository"])
async def test_the_repository_of_a_document_is_told_in_the_extension_that_the_settings_name(
    tmp_path: Path, configured: str | None
) -> None:
    patient = some_patient()
    entry = unmeasured(document_entry(patient_id=patient))
    told = {"mhd": {"repository_extension": configured}}
    async with (
        running_server(tmp_path / "behind", repository_unique_id=REPOSITORY, **told) as behind,
        running_server(tmp_path / "before", actors=["mhd"], **urls_of(behind), **told) as before,
        aiohttp.ClientSession() as session,
    ):
        await Wire(behind, session).provide(submission(entry), {entry.entry_uuid: CONTENT})
        for server in (behind, before):
            reply = await FhirWire(server, session).get("DocumentReference", {"patient.identifier": of(patient)})
            extensions = reply.bundle["entry"][0]["resource"].get("extension", [])
            assert extensions == ([{"url": configured, "valueOid": f"urn:oid:{REPOSITORY}"}] if configured else [])


def urls_of(behind: str) -> dict[str, str]:
    return {"registry_url": f"{behind}/xds/registry", "repository_url": f"{behind}/xds/repository"}
