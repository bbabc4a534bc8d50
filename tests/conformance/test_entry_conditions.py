"""ifMatch, ifNoneMatch and ifModifiedSince in a Bundle [ITI-65]: heeded or refused, and never passed over."""

from __future__ import annotations

import pytest

from mhd.fhir.exact_text import Json
from mhd.mapping.identifiers import resource_id
from tests.builders import document_entry, folder, has_member, submission, text
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.test_conditional_creates import a_document, held, registered, submission_of
from tests.conformance.test_fhir_submissions import JSON, XML, provided
from tests.conformance.test_fhir_versions import updated
from tests.conformance.test_find_document_references import of, some_patient
from tests.conformance.wire import Wire
from tests.mhd.recipients import bundle_of, bundle_with, sent_list
from tests.mhd.test_iti65_provide_document_bundle import PATCH
from tests.xds.broken_updates import next_version
from xds.hl7v2 import CX
from xds.metadata import DocumentEntry, Folder

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def a_folder(wire: Wire, patient: CX) -> Folder:
    """A Folder that is registered, and holds nothing."""
    case = folder(patient_id=patient)
    answer = await wire.register(submission(document_entry(patient_id=patient), folders=(case,)))
    assert answer.registry_response.succeeded, answer.content
    return case


def added_to(case: Folder, new: DocumentEntry, path: str, if_match: str) -> Json:
    """A Bundle that adds a new document to a Folder, if that is as the condition says."""
    bundle = submission_of(new)
    member = {"item": {"reference": bundle["entry"][1]["fullUrl"]}}
    bundle["entry"][0]["resource"]["entry"].append({"item": {"reference": path}})
    changed = sent_list(case) | {"entry": [member]}
    request = {"method": "PUT", "url": path, "ifMatch": if_match}
    bundle["entry"] += bundle_of((changed, request))["entry"]
    del bundle["entry"][-1]["fullUrl"]
    return bundle


def refusal(reply: FhirReply) -> Json:
    """The one error, beside warnings."""
    [error] = [each for each in reply.resource["issue"] if each["severity"] == "error"]
    return dict(error)


def assert_not_as_named(reply: FhirReply, number: int) -> None:
    error = refusal(reply)
    assert (reply.status, error["code"]) == (412, "conflict")
    assert error["expression"] == [f"Bundle.entry[{number}].request.ifMatch"]


@pytest.mark.parametrize("kind", [JSON, XML])
async def test_a_folder_is_added_to_where_it_is_the_version_that_the_sender_knows(
    wire: Wire, app: FhirWire, kind: str
) -> None:
    patient = some_patient()
    case = await a_folder(wire, patient)
    await updated(wire, next_version(case, title=text("Renamed")), submission_set_status=None)
    path = f"List/{resource_id(case.entry_uuid)}"
    conditions = ['W/"2"', '"2"', "", 'W/"1", W/"2"', "*"]  # "": the ETag of a read at that moment

    for number, each in enumerate(conditions, 1):
        condition = each or (await app.get(path)).headers["ETag"]
        reply = await provided(app, added_to(case, a_document(patient), path, condition), kind)
        assert reply.status == 200, (condition, reply.content)
        assert len((await app.get(path)).resource["entry"]) == number


async def test_a_folder_that_is_another_version_stays_as_it_is_and_nothing_is_stored(wire: Wire, app: FhirWire) -> None:
    patient = some_patient()
    case = await a_folder(wire, patient)
    path = f"List/{resource_id(case.entry_uuid)}"
    known = (await app.get(path)).headers["ETag"]
    assert (await provided(app, added_to(case, a_document(patient), path, known))).status == 200
    with_member = (await app.get(path)).headers["ETag"]
    await updated(wire, next_version(case, title=text("Renamed")), submission_set_status=None)
    before = await held(app, patient)

    for outdated in (known, with_member, 'W/"3"', 'W/"1", W/"20"', '""'):
        reply = await provided(app, added_to(case, a_document(patient), path, outdated))
        assert_not_as_named(reply, 3)
        assert 'W/"2.' in refusal(reply)["details"]["text"]

    assert await held(app, patient) == before
    assert len((await app.get(path)).resource["entry"]) == 1


async def test_a_folder_is_not_what_was_read_where_something_was_added_to_it(wire: Wire, app: FhirWire) -> None:
    patient = some_patient()
    case = await a_folder(wire, patient)
    path = f"List/{resource_id(case.entry_uuid)}"
    first = added_to(case, a_document(patient), path, "*")
    assert (await provided(app, first)).status == 200
    known = (await app.get(path)).headers["ETag"]
    assert (await provided(app, added_to(case, a_document(patient), path, known))).status == 200

    assert_not_as_named(await provided(app, added_to(case, a_document(patient), path, known)), 3)


async def test_a_folder_that_is_not_there_is_no_version_at_all(app: FhirWire) -> None:
    patient = some_patient()
    case, new = folder(patient_id=patient), a_document(patient)
    bundle = submission_of(new)
    bundle["entry"][0]["resource"]["entry"].append({"item": {"reference": f"urn:uuid:{resource_id(case.entry_uuid)}"}})
    bundle["entry"] += bundle_of((sent_list(case), {"method": "PUT", "url": "List", "ifMatch": "*"}))["entry"]

    assert_not_as_named(await provided(app, bundle), 3)
    assert await held(app, patient) == (0, 0)


async def test_a_document_is_superseded_where_it_is_the_version_that_the_sender_knows(
    wire: Wire, app: FhirWire
) -> None:
    patient = some_patient()
    old = a_document(patient)
    await registered(app, old)
    path = f"DocumentReference/{resource_id(old.entry_uuid)}"
    await updated(wire, next_version(old, title=text("Renamed"), size=None, hash=None))
    bundle = bundle_with(a_document(patient), relates_to=[{"code": "replaces", "target": {"reference": path}}])

    def patching(if_match: str) -> Json:
        patch = {"resource": PATCH, "request": {"method": "PATCH", "url": path, "ifMatch": if_match}}
        return bundle | {"entry": [*bundle["entry"], patch]}

    assert_not_as_named(await provided(app, patching('W/"1"')), 3)
    assert (await app.get(path)).resource["status"] == "current"
    assert await held(app, patient) == (1, 2)  # the update has brought a SubmissionSet of its own
    assert (await provided(app, patching('W/"2"'))).status == 200
    assert (await app.get(path)).resource["status"] == "superseded"


NOT_HEEDED = [
    (0, "ifMatch", 'W/"1"'),
    (1, "ifMatch", 'W/"1"'),
    (1, "ifNoneMatch", 'W/"1"'),
    (2, "ifModifiedSince", "2026-01-01T00:00:00Z"),
    (3, "ifNoneMatch", "*"),
    (3, "ifModifiedSince", "2026-01-01T00:00:00Z"),
    (4, "ifNoneMatch", 'W/"1"'),
    (4, "ifMatch", 'W/"1"'),
]


@pytest.mark.parametrize(("number", "name", "value"), NOT_HEEDED)
async def test_a_condition_that_is_not_heeded_is_refused_at_its_place(
    app: FhirWire, number: int, name: str, value: str
) -> None:
    patient = some_patient()
    reply = await provided(app, _with_condition(patient, number, name, value))

    error = refusal(reply)
    assert (reply.status, error["code"]) == (422, "not-supported")
    assert error["expression"] == [f"Bundle.entry[{number}].request.{name}"]
    assert error["details"]["text"].endswith("leave it out.")
    assert await held(app, patient) == (0, 0)


@pytest.mark.parametrize("value", ["1", 'W/"1', 'W/"1" W/"2"', "W/1", " "])
async def test_a_condition_that_can_not_be_read_is_refused(app: FhirWire, value: str) -> None:
    patient = some_patient()
    reply = await provided(app, _with_condition(patient, 3, "ifMatch", value))

    issues = [each for each in reply.resource["issue"] if each["severity"] == "error"]
    assert reply.status in (400, 422)
    assert {tuple(each["expression"]) for each in issues} == {("Bundle.entry[3].request.ifMatch",)}
    assert await held(app, patient) == (0, 0)


def _with_condition(patient: CX, number: int, name: str, value: str) -> Json:
    """A SubmissionSet, a document, a Folder that is PUT, and the Patient, of which one entry has a condition."""
    case, entry = folder(patient_id=patient), a_document(patient)
    bundle = submission_of(entry)
    bundle["entry"][0]["resource"]["entry"].append({"item": {"reference": f"urn:uuid:{resource_id(case.entry_uuid)}"}})
    bundle["entry"] += bundle_of((sent_list(case, entry), {"method": "PUT", "url": "List"}))["entry"]
    authority, number_of_patient = of(patient).split("|")
    resource = {"resourceType": "Patient", "identifier": [{"system": authority, "value": number_of_patient}]}
    bundle["entry"].append({"resource": resource, "request": {"method": "GET", "url": "Patient/1"}})
    bundle["entry"][number]["request"][name] = value
    return bundle


async def test_what_refers_to_a_version_that_has_a_successor_is_not_registered(wire: Wire) -> None:
    """ifMatch relies on it: another version may come between its comparison and the registration."""
    patient = some_patient()
    case, new = await a_folder(wire, patient), document_entry(patient_id=patient)
    await updated(wire, next_version(case, title=text("Renamed")), submission_set_status=None)

    answer = await wire.register(submission(new, associations=(has_member(case, new),)))

    assert not answer.registry_response.succeeded
    [error] = answer.registry_response.errors
    assert "which is Deprecated" in error.code_context


async def test_the_capability_statement_says_which_conditional_reads_there_are(wire: Wire, app: FhirWire) -> None:
    [rest] = (await app.get("metadata")).resource["rest"]

    reads = {each["type"]: each["conditionalRead"] for each in rest["resource"]}
    # A registry elsewhere does not tell when something was changed, and of a Patient nobody does.
    of_most = "full-support" if app.base == f"{wire.base}/fhir" else "not-match"
    assert reads.pop("Patient", "not-match") == "not-match"
    assert reads == {"Binary": of_most, "DocumentReference": of_most, "List": of_most}
