"""author:missing and relatesto:missing [ITI-67], on every store and in front of another registry."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mhd.mapping.identifiers import resource_id
from tests.builders import association, author, document_entry, submission
from tests.conformance.fhir_wire import FhirWire, Parameters
from tests.conformance.test_fhir_versions import updated
from tests.conformance.test_find_document_references import ids, of, register, some_patient
from tests.conformance.wire import Wire
from tests.xds.broken_updates import next_version
from xds.hl7v2 import CX, XCN, XON
from xds.metadata import AssociationType, Author, DocumentEntry

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def found(
    app: FhirWire, patient: CX, entries: Sequence[DocumentEntry], *parameters: tuple[str, str]
) -> list[int]:
    """The numbers of the documents that a search for the patient finds on all its pages."""
    asked = [("patient.identifier", of(patient)), ("_count", "1"), *parameters]
    numbers = await app.walked("DocumentReference", asked)
    assert (await app.get("DocumentReference", asked)).bundle["total"] == len(numbers)
    return sorted(map(ids(*entries).index, numbers))


async def test_a_document_without_author_is_told_from_one_with_any_author_at_all(wire: Wire, app: FhirWire) -> None:
    patient = some_patient()
    person, hospital = author(author_person=XCN("1^Tamm^Mari")), Author(author_institution=(XON("Lincoln Hospital"),))
    authors = ((), (person,), (hospital,), (hospital, person))
    entries = [document_entry(patient_id=patient, author=each) for each in authors]
    await register(wire, *entries)

    for missing, expected in (("true", [0]), ("false", [1, 2, 3])):
        assert await found(app, patient, entries, ("author:missing", missing)) == expected
    in_resources = (await app.get("DocumentReference", [("patient.identifier", of(patient))])).bundle["entry"]
    without = [each["resource"]["id"] for each in in_resources if "author" not in each["resource"]]
    assert without == [resource_id(entries[0].entry_uuid)]
    assert await found(app, patient, entries, ("author:missing", "false"), ("author.family", "tamm")) == [1, 3]
    assert await found(app, patient, entries, ("author:missing", "true"), ("author:missing", "false")) == []


async def test_what_relates_to_nothing_is_told_from_what_relates_to_something(wire: Wire, app: FhirWire) -> None:
    patient, other = some_patient(), some_patient()
    entries = [document_entry(patient_id=patient) for _ in range(4)]
    of_another = [document_entry(patient_id=other) for _ in range(2)]
    for kind, source, target in (
        (AssociationType.APND, entries[1], entries[0]),
        (AssociationType.RPLC, entries[3], entries[2]),
        (AssociationType.XFRM, of_another[1], of_another[0]),
    ):
        await register(wire, target)
        sent = submission(source, associations=(association(kind, source, target),))
        assert (await wire.register(sent)).registry_response.succeeded

    for missing, expected in (("true", [0, 2]), ("false", [1, 3])):
        assert await found(app, patient, entries, ("relatesto:missing", missing)) == expected
    assert await found(app, patient, entries, ("relatesto:missing", "true"), ("status", "current")) == [0]
    first = f"DocumentReference/{resource_id(entries[0].entry_uuid)}"
    assert await found(app, patient, entries, ("relatesto", first), ("relatesto:missing", "true")) == []
    assert await found(app, other, of_another, ("relatesto:missing", "false")) == [1]


async def test_documents_that_are_named_are_told_apart_without_a_patient(wire: Wire, app: FhirWire) -> None:
    patient = some_patient()
    entries = [document_entry(patient_id=patient) for _ in range(2)]
    addendum = document_entry(patient_id=patient)
    for each in entries:
        await register(wire, each)
    sent = submission(addendum, associations=(association(AssociationType.APND, addendum, entries[0]),))
    assert (await wire.register(sent)).registry_response.succeeded
    everything = ",".join(ids(*entries, addendum))

    async def asked(parameters: Parameters) -> list[str]:
        return sorted((await app.get("DocumentReference", parameters)).found)

    assert await asked({"_id": everything, "relatesto:missing": "false"}) == ids(addendum)
    assert await asked({"_id": everything, "relatesto:missing": "true"}) == sorted(ids(*entries))
    assert await asked({"identifier": f"urn:oid:{addendum.unique_id}", "relatesto:missing": "true"}) == []


async def test_relations_follow_the_newest_version(wire: Wire, app: FhirWire) -> None:
    patient = some_patient()
    entry, addendum = document_entry(patient_id=patient), document_entry(patient_id=patient)
    await register(wire, entry)
    sent = submission(addendum, associations=(association(AssociationType.APND, addendum, entry),))
    assert (await wire.register(sent)).registry_response.succeeded
    for each in (entry, addendum):
        await updated(wire, next_version(each))

    assert await found(app, patient, [entry, addendum], ("relatesto:missing", "false")) == [1]
    assert await found(app, patient, [entry, addendum], ("relatesto:missing", "true")) == [0]


async def test_where_nothing_relates_to_anything_all_is_missing(wire: Wire, app: FhirWire) -> None:
    patient = some_patient()
    entry = document_entry(patient_id=patient)
    await register(wire, entry)

    assert await found(app, patient, [entry], ("relatesto:missing", "true")) == [0]
    assert await found(app, patient, [entry], ("relatesto:missing", "false")) == []
    assert await found(app, some_patient(), [], ("relatesto:missing", "true")) == []
