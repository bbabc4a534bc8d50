"""What Generate Metadata [ITI-106] reads off a document, stores and refuses."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import written
from mhd.fhir.operation_outcome import Refused
from mhd.mapping.domain import MhdDomain
from mhd.messages import FhirAnswer, FhirRequest
from schemas.samples import SAMPLES, path
from server.fhir_xml import to_xml
from tests.builders import LOINC, SNOMED_CT, code
from tests.fhir_validity import assert_is_fhir
from tests.mhd.recipients import BASE, Affinity, affinity
from xds.hl7v2 import CX, DTM, XCN
from xds.metadata import Code, DocumentEntry

SAMPLE = next(each for each in SAMPLES if each.mime_type == "text/xml")
DOMAIN = MhdDomain(base=BASE, authorities=frozenset({CX(SAMPLE.patient_id).assigning_authority.universal_id}))
DEFAULTS: dict[str, tuple[Code, ...]] = {
    "class_code": (code("18842-5", LOINC),),
    "format_code": (code("urn:ihe:iti:xds:2017:mimeTypeSufficient", "1.3.6.1.4.1.19376.1.2.3"),),
    "practice_setting_code": (code("394609007", SNOMED_CT),),
    "healthcare_facility_type_code": (code("22232009", SNOMED_CT),),
    "confidentiality_code": (code("N", "2.16.840.1.113883.5.25"),),
}


def parameters(document: bytes, **changes: Any) -> Json:
    binary = {"resourceType": "Binary", "contentType": "text/xml", "data": base64.b64encode(document).decode()}
    return {"resourceType": "Parameters", "parameter": [{"name": "document", "resource": binary | changes}]}


async def generate(place: Affinity, sent: Any) -> FhirAnswer:
    return await place.recipient.generate_metadata(sent, FhirRequest())


async def the_document(place: Affinity) -> DocumentEntry:
    [entry] = [each for each in await place.everything() if isinstance(each, DocumentEntry)]
    return entry


async def test_the_metadata_of_a_cda_document_is_that_of_its_header(tmp_path: Path) -> None:
    document = path(SAMPLE.file_name).read_bytes()

    async with affinity(tmp_path, DOMAIN, generate_metadata=True, defaults=DEFAULTS) as place:
        answer = await generate(place, parameters(document))
        entry = await the_document(place)

        assert await place.content(SAMPLE.unique_id) == document
    assert isinstance(answer.resource, dict)
    assert_is_fhir(answer.resource)
    reference = answer.resource["parameter"][0]["valueReference"]["reference"]
    assert reference == f"DocumentReference/{entry.entry_uuid[9:]}"
    assert entry.type_code is not None
    assert (entry.unique_id, entry.type_code.code, entry.creation_time, entry.language_code) == (
        SAMPLE.unique_id,
        SAMPLE.type_code.code,
        DTM(SAMPLE.creation_time),
        SAMPLE.language_code,
    )
    assert (entry.patient_id, entry.source_patient_id) == (CX(SAMPLE.patient_id), CX(SAMPLE.source_patient_id))
    assert (entry.class_code, entry.mime_type) == (DEFAULTS["class_code"][0], "text/xml")


def fhir_document(**changes: Any) -> Json:
    """A FHIR document, with what it says of itself in its Composition. changes: of the Composition."""
    patient_id = CX(SAMPLE.patient_id)
    domain = f"urn:oid:{patient_id.assigning_authority.universal_id}"
    composition = {
        "resourceType": "Composition",
        "language": "sv-SE",
        "status": "final",
        "type": {"coding": [{"system": "http://loinc.org", "code": "60591-5", "display": "Patient summary"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "11503-0", "display": "Medical records"}]}],
        "subject": {"reference": "urn:uuid:4f3b9b0e-0000-4000-8000-0000000000a1"},
        "date": "2026-03-05T08:30:00+01:00",
        "author": [{"reference": "PractitionerRole/r1"}],
        "title": "Patient summary",
        "confidentiality": "R",
        "attester": [{"mode": "legal", "party": {"reference": "urn:uuid:4f3b9b0e-0000-4000-8000-0000000000a2"}}],
        "event": [{"code": [{"coding": [{"system": "http://snomed.info/sct", "code": "80146002"}]}],
                   "period": {"start": "2026-03-01", "end": "2026-03-04"}}],
    } | changes  # fmt: skip
    sandberg = {"resourceType": "Practitioner", "name": [{"family": "Sandberg", "given": ["Erik"]}]}
    role = {
        "resourceType": "PractitionerRole",
        "id": "r1",
        "practitioner": {"reference": "urn:uuid:4f3b9b0e-0000-4000-8000-0000000000a2"},
        "code": [{"text": "attending"}],
    }
    identifiers = [{"system": domain, "value": patient_id.id_number}, {"system": "urn:oid:2.25.77", "value": "S-1"}]
    patient = {"resourceType": "Patient", "identifier": identifiers, "gender": "female"}
    others = {"a1": patient, "a2": sandberg, "a3": role}
    return {
        "resourceType": "Bundle",
        "type": "document",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:uuid:5b0f5d0b-43c7-4a51-9df3-8c0a0c0e0014"},
        "timestamp": "2026-03-05T08:30:00+01:00",
        "entry": [
            {"fullUrl": "urn:uuid:4f3b9b0e-0000-4000-8000-0000000000a0", "resource": composition},
            *({"fullUrl": f"urn:uuid:4f3b9b0e-0000-4000-8000-0000000000{n}", "resource": r} for n, r in others.items()),
        ],
    }


@pytest.mark.parametrize(("mime_type", "write"), [("application/fhir+json", written), ("application/fhir+xml", to_xml)])
async def test_the_metadata_of_a_fhir_document_is_that_of_its_composition(
    tmp_path: Path, mime_type: str, write: Callable[[Json], bytes]
) -> None:
    document = fhir_document()
    sent = {"resourceType": "Parameters", "parameter": [{"name": "document", "resource": document}]}

    async with affinity(tmp_path, DOMAIN, generate_metadata=True, defaults=DEFAULTS) as place:
        await place.recipient.generate_metadata(sent, FhirRequest(mime_type=mime_type))
        entry = await the_document(place)

        assert await place.content(entry.unique_id or "") == write(document)
    assert entry.unique_id == "urn:uuid:5b0f5d0b-43c7-4a51-9df3-8c0a0c0e0014"
    assert (entry.patient_id, entry.source_patient_id) == (CX(SAMPLE.patient_id), CX("S-1^^^&2.25.77&ISO"))
    assert [each.coded for each in (entry.type_code, entry.class_code, *entry.confidentiality_code) if each] == [
        f"60591-5^^{LOINC}",
        f"11503-0^^{LOINC}",
        "R^^2.16.840.1.113883.5.25",
    ]
    assert (entry.language_code, entry.mime_type, entry.title[0].value) == ("sv-SE", mime_type, "Patient summary")
    assert (entry.creation_time, entry.service_start_time) == (DTM("20260305073000"), DTM("20260301"))
    assert [each.code for each in entry.event_code_list] == ["80146002"]
    assert entry.author[0].author_person == entry.legal_authenticator == XCN("^Sandberg^Erik")
    assert entry.author[0].author_role == ("attending",)


async def test_a_fhir_document_that_does_not_say_whose_it_is_is_refused(tmp_path: Path) -> None:
    document = fhir_document(subject={"display": "somebody"})
    sent = {"resourceType": "Parameters", "parameter": [{"name": "document", "resource": document}]}

    async with affinity(tmp_path, DOMAIN, generate_metadata=True, defaults=DEFAULTS) as place:
        with pytest.raises(Refused) as refused:
            await generate(place, sent)

        assert await place.holds() == (0, 0)
    assert refused.value.outcome.http_status == 422


async def test_a_document_that_is_registered_already_is_answered_as_it_is(tmp_path: Path) -> None:
    document = path(SAMPLE.file_name).read_bytes()

    async with affinity(tmp_path, DOMAIN, generate_metadata=True, defaults=DEFAULTS) as place:
        first = await generate(place, parameters(document))
        again = await generate(place, parameters(document))

        assert again.resource == first.resource
        assert await place.holds() == (1, 1)


async def test_of_one_document_that_is_sent_several_times_at_the_same_moment_all_get_the_same_answer(
    tmp_path: Path,
) -> None:
    document = path(SAMPLE.file_name).read_bytes()

    async with affinity(tmp_path, DOMAIN, generate_metadata=True, defaults=DEFAULTS) as place:
        answers = await asyncio.gather(*(generate(place, parameters(document)) for _ in range(5)))

        assert await place.holds() == (1, 1)
    assert len({written(each.resource) for each in answers}) == 1


async def test_a_class_follows_from_the_type_of_the_document(tmp_path: Path) -> None:
    kind = code("LAB", LOINC, "Laboratory")
    classes = {f"{SAMPLE.type_code.code}^^{SAMPLE.type_code.scheme}": kind}

    async with affinity(tmp_path, DOMAIN, generate_metadata=True, defaults=DEFAULTS, classes=classes) as place:
        await generate(place, parameters(path(SAMPLE.file_name).read_bytes()))

        assert (await the_document(place)).class_code == kind


BINARY = "Parameters.parameter[0].resource"
_ENTITY = b'<!DOCTYPE x [<!ENTITY e "1">]><ClinicalDocument xmlns="urn:hl7-org:v3">&e;</ClinicalDocument>'
BROKEN: tuple[tuple[str, Any, int, str], ...] = (
    ("no Parameters", {"resourceType": "Binary", "contentType": "text/xml"}, 400, "Binary"),
    ("no document", {"resourceType": "Parameters"}, 422, "Parameters.parameter"),
    ("two documents", {"resourceType": "Parameters", "parameter": parameters(b"<x/>")["parameter"] * 2}, 422,
     "Parameters.parameter"),
    ("no data", {"resourceType": "Parameters", "parameter": [
        {"name": "document", "resource": {"resourceType": "Binary", "contentType": "text/xml"}}]}, 422,
     f"{BINARY}.data"),
    ("a Bundle without Composition", {"resourceType": "Parameters", "parameter": [
        {"name": "document", "resource": {"resourceType": "Bundle", "type": "document"}}]}, 422, BINARY),
    ("a Bundle of another kind", {"resourceType": "Parameters", "parameter": [
        {"name": "document", "resource": {"resourceType": "Bundle", "type": "transaction"}}]}, 422, BINARY),
    ("a Patient", {"resourceType": "Parameters", "parameter": [
        {"name": "document", "resource": {"resourceType": "Patient", "active": True}}]}, 422, BINARY),
    ("no XML", parameters(b"%PDF-1.4"), 422, f"{BINARY}.data"),
    ("no CDA", parameters(b"<ClinicalDocument/>"), 422, f"{BINARY}.data"),
    ("an entity", parameters(_ENTITY), 422, f"{BINARY}.data"),
    ("an empty header", parameters(b'<ClinicalDocument xmlns="urn:hl7-org:v3"/>'), 422, BINARY),
)  # fmt: skip


@pytest.mark.parametrize(("sent", "http", "place_of"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
async def test_what_can_not_be_described_is_refused(tmp_path: Path, sent: Any, http: int, place_of: str) -> None:
    async with affinity(tmp_path, DOMAIN, generate_metadata=True, defaults=DEFAULTS) as place:
        with pytest.raises(Refused) as refused:
            await generate(place, sent)

        assert await place.holds() == (0, 0)
    assert refused.value.outcome.http_status == http
    assert place_of in {each.expression for each in refused.value.outcome.issues}


async def test_what_neither_header_nor_settings_say_is_missing(tmp_path: Path) -> None:
    async with affinity(tmp_path, DOMAIN, generate_metadata=True) as place:
        with pytest.raises(Refused) as refused:
            await generate(place, parameters(path(SAMPLE.file_name).read_bytes()))

    assert any("category is missing" in each.text for each in refused.value.outcome.issues)


async def test_metadata_is_not_generated_where_it_is_not_offered(tmp_path: Path) -> None:
    async with affinity(tmp_path, DOMAIN) as place:
        with pytest.raises(Refused) as refused:
            await generate(place, parameters(path(SAMPLE.file_name).read_bytes()))

        assert await place.holds() == (0, 0)
    assert refused.value.outcome.http_status == 404
