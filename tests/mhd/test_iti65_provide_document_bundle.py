"""What Provide Document Bundle [ITI-65] stores, refuses and answers."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import written
from mhd.fhir.operation_outcome import Refused
from mhd.mapping.identifiers import resource_id
from mhd.messages import FhirRequest, PreferReturn
from mhd.patients import NoPatientKeys
from mhd.submitting.submission_options import Minimal
from registry.code_sets import CodeSet, CodeSets
from server.fhir_xml import to_xml
from tests.builders import (
    CONTENT,
    OTHER_PATIENT,
    PATIENT,
    document_entry,
    folder,
    oid,
    submission_set,
    text,
)
from tests.fhir_validity import assert_is_fhir
from tests.mhd.recipients import (
    BASE,
    Affinity,
    affinity,
    bundle_of,
    bundle_with,
    sent_document,
    sent_list,
)
from xds.metadata import (
    AssociationType,
    AvailabilityStatus,
    Code,
    DocumentEntry,
    Folder,
    LocalizedString,
    SubmissionSet,
)
from xds.metadata_names import term

SET, DOCUMENT, BINARY = "Bundle.entry[0].resource", "Bundle.entry[1].resource", "Bundle.entry[2].resource"


async def refusal(place: Affinity, bundle: Any) -> Refused:
    """Why a Bundle is refused; and nothing was stored of it."""
    before = await place.holds()
    with pytest.raises(Refused) as refused:
        await place.provided(bundle)
    assert await place.holds() == before
    assert_is_fhir(refused.value.outcome.resource())
    return refused.value


def places(refused: Refused) -> set[tuple[str | None, str, str]]:
    return {(each.xds_code, each.code.value, each.expression) for each in refused.outcome.issues if each.is_error}


async def stored(place: Affinity, entry: DocumentEntry) -> DocumentEntry:
    [found] = await place.registered.documents(unique_ids=[entry.unique_id or ""])
    return found


# What is stored ------------------------------------------------------------------------------------------------------


async def test_a_bundle_is_one_submission_with_its_documents(tmp_path: Path) -> None:
    first, second = document_entry(), document_entry(mime_type="application/pdf")
    case = folder()
    parts = [part for each in (first, second) for part in sent_document(each)]
    item = submission_set()

    async with affinity(tmp_path) as place:
        answer = await place.provided(bundle_of(sent_list(item, first, case, second), sent_list(case, second), *parts))
        found = await place.registered.submission(item.unique_id or "")

        kinds = sorted(each.kind for each in found)
        # SubmissionSet: two documents, the Folder, and that the Folder holds one of them; and that it does.
        assert kinds == ["Association"] * 5 + ["DocumentEntry"] * 2 + ["Folder", "SubmissionSet"]
        assert await place.content(first.unique_id or "") == CONTENT
        assert await place.holds() == (1, 2)
    assert isinstance(answer.resource, dict)
    assert_is_fhir(answer.resource)


@pytest.mark.parametrize(("said", "kept"), [("et-EE", "et-EE"), ("no language", None), (None, None)])
async def test_titles_are_in_the_language_of_their_resource(tmp_path: Path, said: str | None, kept: str | None) -> None:
    item, entry = submission_set(title=text("Saatmine")), document_entry(title=text("Kokkuvõte"))
    bundle = bundle_of(sent_list(item, entry), *sent_document(entry))
    for each in bundle["entry"][:2]:
        each["resource"] |= {"language": said} if said else {}

    async with affinity(tmp_path) as place:
        await place.provided(bundle)
        found = await place.registered.submission(item.unique_id or "")

    titles = {each.title for each in found if isinstance(each, DocumentEntry | SubmissionSet)}
    assert titles == {(LocalizedString("Saatmine", kept),), (LocalizedString("Kokkuvõte", kept),)}


async def test_the_answer_has_an_entry_for_each_that_was_sent_in_the_same_order(tmp_path: Path) -> None:
    documents = [document_entry(), document_entry()]
    item = submission_set()
    (one, one_bytes), (two, two_bytes) = (sent_document(each) for each in documents)

    async with affinity(tmp_path) as place:
        answer = await place.provided(bundle_of(two_bytes, one, sent_list(item, *documents), one_bytes, two))

    assert isinstance(answer.resource, dict)
    responses = [each["response"] for each in answer.resource["entry"]]
    first, second = (resource_id(each.entry_uuid) for each in documents)
    assert [each["location"] for each in responses] == [
        f"Binary/{second}",
        f"DocumentReference/{first}",
        f"List/{resource_id(item.entry_uuid)}",
        f"Binary/{first}",
        f"DocumentReference/{second}",
    ]
    assert {each["status"] for each in responses} == {"201 Created"}
    assert answer.documents_kept == 2


async def test_an_entryuuid_that_is_in_use_is_replaced_by_a_new_one(tmp_path: Path) -> None:
    first = document_entry()
    again = document_entry(entry_uuid=first.entry_uuid)

    async with affinity(tmp_path) as place:
        await place.provided(bundle_with(first))
        await place.provided(bundle_with(again))

        assert (await stored(place, first)).entry_uuid == first.entry_uuid
        assert (await stored(place, again)).entry_uuid != first.entry_uuid


async def test_a_submissionset_without_uniqueid_gets_one(tmp_path: Path) -> None:
    bundle = bundle_with()
    del bundle["entry"][0]["resource"]["identifier"]

    async with affinity(tmp_path) as place:
        await place.provided(bundle)

        assert await place.holds() == (1, 1)


@pytest.mark.parametrize(
    ("prefer", "has_resource", "has_outcome"),
    [
        (None, False, False),
        (PreferReturn.MINIMAL, False, False),
        (PreferReturn.REPRESENTATION, True, False),
        (PreferReturn.OPERATION_OUTCOME, False, True),
    ],
)
async def test_the_answer_has_what_the_sender_prefers(
    tmp_path: Path, prefer: PreferReturn | None, has_resource: bool, has_outcome: bool
) -> None:
    async with affinity(tmp_path) as place:
        answer = await place.provided(bundle_with(), FhirRequest(prefer_return=prefer))

    assert isinstance(answer.resource, dict)
    assert_is_fhir(answer.resource)
    entry = answer.resource["entry"][1]
    assert ("resource" in entry) == has_resource
    assert ("outcome" in entry["response"]) == has_outcome
    if has_resource:
        assert entry["resource"]["content"][0]["attachment"]["url"].startswith(f"{BASE}/Binary/")


async def test_what_is_kept_otherwise_than_it_was_sent_is_told_with_its_entry(tmp_path: Path) -> None:
    bundle = bundle_with()
    bundle["entry"][1]["resource"]["type"]["coding"][0]["system"] = "https://example.org/types"

    async with affinity(tmp_path) as place:
        answer = await place.provided(bundle)

    assert isinstance(answer.resource, dict)
    [issue] = answer.resource["entry"][1]["response"]["outcome"]["issue"]
    assert (issue["severity"], issue["expression"]) == ("warning", [f"{DOCUMENT}.type"])


@pytest.mark.parametrize("base", ["https://profiles.ihe.net/ITI/MHD", "http://profiles.ihe.net/ITI/MHD"])
async def test_the_profile_of_a_bundle_is_known_by_each_of_its_names(tmp_path: Path, base: str) -> None:
    bundle = bundle_with(document_entry(type_code=None))
    async with affinity(tmp_path, minimal=Minimal.ACCEPT) as place:
        for name in (
            f"{base}/StructureDefinition/IHE.MHD.Minimal.ProvideBundle",
            "http://ihe.net/fhir/StructureDefinition/IHE_MHD_Provide_Minimal_DocumentBundle",
        ):
            sent = deepcopy(bundle) | {"meta": {"profile": [name]}}
            sent["entry"][0]["resource"].pop("identifier")
            await place.provided(sent)
        unknown = deepcopy(bundle) | {"meta": {"profile": ["https://example.org/of-somebody-else"]}}

        assert places(await refusal(place, unknown)) == {("XDSRegistryMetadataError", "required", f"{DOCUMENT}.type")}


async def test_a_strict_sender_has_to_say_which_profile_a_bundle_meets(tmp_path: Path) -> None:
    bundle = bundle_with()
    del bundle["meta"]

    async with affinity(tmp_path) as place:
        with pytest.raises(Refused) as refused:
            await place.provided(bundle, FhirRequest(strict=True))
        await place.provided(bundle)

    assert places(refused.value) == {(REPOSITORY_ERROR, "required", "Bundle.meta.profile")}


# What is refused -----------------------------------------------------------------------------------------------------

Change = Callable[[Json], None]


def setting(path: str, value: Any) -> Change:
    """Sets what is at a path such as `1.resource.status`; a value of None takes it away."""

    def change(bundle: Json) -> None:
        *parents, last = (int(each) if each.isdigit() else each for each in path.split("."))
        place: Any = bundle["entry"]
        for each in parents:
            place = place[each]
        if value is None:
            del place[last]
        else:
            place[last] = value

    return change


def adding(resource: Json, method: str = "POST", url: str = "") -> Change:
    def change(bundle: Json) -> None:
        request = {"method": method, "url": url or resource["resourceType"]}
        bundle["entry"].append({"fullUrl": uuid4().urn, "resource": resource, "request": request})

    return change


def asking(method: str, url: str) -> Change:
    return lambda bundle: bundle["entry"].append({"request": {"method": method, "url": url}})


def twice(number: int) -> Change:
    def change(bundle: Json) -> None:
        bundle["entry"].append(deepcopy(bundle["entry"][number]) | {"fullUrl": uuid4().urn})

    return change


def of_type(value: str) -> Change:
    return lambda bundle: bundle.update(type=value)


ATTACHMENT = "1.resource.content.0.attachment"
PATCH: Json = {
    "resourceType": "Parameters",
    "parameter": [
        {
            "name": "operation",
            "part": [
                {"name": "type", "valueCode": "replace"},
                {"name": "path", "valueString": "DocumentReference.status"},
                {"name": "value", "valueCode": "superseded"},
            ],
        }
    ],
}
REPOSITORY_ERROR, REGISTRY_ERROR = "XDSRepositoryMetadataError", "XDSRegistryMetadataError"
BROKEN: tuple[tuple[str, Change, int, tuple[str | None, str, str]], ...] = (
    ("type", of_type("batch"), 422, (REPOSITORY_ERROR, "value", "Bundle.type")),
    ("not even a word", of_type("x"), 400, (None, "value", "Bundle.type")),
    ("request", setting("1.request", None), 400, (None, "invariant", "Bundle.entry[1].request")),
    ("resource", setting("1.resource", None), 400, (None, "invariant", DOCUMENT)),
    ("response", setting("1.response", {"status": "200"}), 400, (None, "invariant", "Bundle.entry[1].response")),
    ("fullUrl", setting("1.fullUrl", "Document1"), 400, (None, "invariant", "Bundle.entry[1].fullUrl")),
    ("no resource", setting("1.resource", {"resourceType": "Documentation"}), 400, (None, "structure", DOCUMENT)),
    ("element", setting("1.resource.documentType", "x"), 400, (None, "structure", f"{DOCUMENT}.documentType")),
    ("id", setting("1.resource.id", "../../etc/passwd"), 400, (None, "value", f"{DOCUMENT}.id")),
    ("day", setting(f"{ATTACHMENT}.creation", "2026-02-30"), 400,
     (None, "value", f"{DOCUMENT}.content[0].attachment.creation")),
    ("base64", setting("2.resource.data", "####"), 400, (None, "value", f"{BINARY}.data")),
    ("SubmissionSet", setting("0.resource.code.coding.0.code", "folder"), 422,
     (REPOSITORY_ERROR, "required", "Bundle.entry")),
    ("SubmissionSets", twice(0), 422, (REPOSITORY_ERROR, "structure", "Bundle.entry")),
    ("Observation", adding({"resourceType": "Observation", "status": "final", "code": {"text": "x"}}), 422,
     (REPOSITORY_ERROR, "not-supported", "Bundle.entry[3]")),
    ("DELETE", asking("DELETE", "DocumentReference/4f3b9b0e-0000-4000-8000-000000000009"), 422,
     (REPOSITORY_ERROR, "not-supported", "Bundle.entry[3]")),
    ("search", asking("GET", "DocumentReference?patient=1"), 422,
     (REPOSITORY_ERROR, "not-supported", "Bundle.entry[3]")),
    ("read of a List", asking("GET", "List/1"), 422, (REPOSITORY_ERROR, "not-supported", "Bundle.entry[3]")),
    ("HEAD of a Binary", asking("HEAD", "Binary/1"), 422, (REPOSITORY_ERROR, "not-supported", "Bundle.entry[3]")),
    ("read of a document Bundle", asking("GET", "Bundle/1"), 422,
     (REPOSITORY_ERROR, "not-supported", "Bundle.entry[3]")),
    ("DELETE of a Patient", asking("DELETE", "Patient/1"), 422,
     (REPOSITORY_ERROR, "not-supported", "Bundle.entry[3].request.method")),
    ("method", setting("1.request.method", "PUT"), 422,
     (REPOSITORY_ERROR, "not-supported", "Bundle.entry[1].request.method")),
    ("url", setting("1.request.url", "Binary"), 422, (REPOSITORY_ERROR, "value", "Bundle.entry[1].request.url")),
    ("not listed", setting("0.resource.entry", None), 422, (REPOSITORY_ERROR, "business-rule", DOCUMENT)),
    ("listed elsewhere", setting("0.resource.entry.0.item.reference", "https://elsewhere.example/List/1"), 422,
     ("UnresolvedReferenceException", "not-found", f"{SET}.entry[0].item")),
    ("path trick", setting("0.resource.entry.0.item.reference", "DocumentReference/../Patient/1"), 422,
     ("UnresolvedReferenceException", "not-found", f"{SET}.entry[0].item")),
    ("a Binary as member", lambda bundle: bundle["entry"][0]["resource"]["entry"].append(
        {"item": {"reference": bundle["entry"][2]["fullUrl"]}}), 422,
     (REPOSITORY_ERROR, "business-rule", f"{SET}.entry[1].item")),
    ("Binary", setting("2.fullUrl", "urn:uuid:4f3b9b0e-0000-4000-8000-000000000009"), 422,
     ("XDSMissingDocument", "not-found", f"{DOCUMENT}.content[0].attachment.url")),
    ("document elsewhere", setting(f"{ATTACHMENT}.url", "https://elsewhere.example/1.pdf"), 422,
     ("XDSMissingDocument", "not-found", f"{DOCUMENT}.content[0].attachment.url")),
    ("document file", setting(f"{ATTACHMENT}.url", "file:///etc/passwd"), 422,
     ("XDSMissingDocument", "not-found", f"{DOCUMENT}.content[0].attachment.url")),
    ("unused Binary", twice(2), 422, ("XDSMissingDocumentMetadata", "business-rule", "Bundle.entry[3]")),
    ("data", setting("2.resource.data", None), 422, ("XDSMissingDocument", "required", f"{BINARY}.data")),
    ("contentType", setting("2.resource.contentType", "text/html"), 422,
     (REPOSITORY_ERROR, "value", f"{BINARY}.contentType")),
    ("hash", setting(f"{ATTACHMENT}.hash", base64.b64encode(bytes(20)).decode()), 422,
     (REPOSITORY_ERROR, "value", f"{DOCUMENT}.content[0].attachment.hash")),
    ("size", setting(f"{ATTACHMENT}.size", 7), 422,
     (REPOSITORY_ERROR, "value", f"{DOCUMENT}.content[0].attachment.size")),
    ("inline data", setting(f"{ATTACHMENT}.data", "AAAA"), 422,
     (REPOSITORY_ERROR, "structure", f"{DOCUMENT}.content[0].attachment.data")),
    ("masterIdentifier", setting("1.resource.masterIdentifier", None), 422,
     (REPOSITORY_ERROR, "required", f"{DOCUMENT}.masterIdentifier")),
    ("docStatus", setting("1.resource.docStatus", "final"), 422,
     (REPOSITORY_ERROR, "structure", f"{DOCUMENT}.docStatus")),
    ("superseded", setting("1.resource.status", "superseded"), 422,
     (REPOSITORY_ERROR, "code-invalid", f"{DOCUMENT}.status")),
    ("practiceSetting", setting("1.resource.context.practiceSetting", None), 422,
     (REGISTRY_ERROR, "required", f"{DOCUMENT}.context.practiceSetting")),
    ("code without system", setting("1.resource.type", {"coding": [{"code": "x"}]}), 422,
     (REGISTRY_ERROR, "code-invalid", f"{DOCUMENT}.type")),
    ("author elsewhere", setting("1.resource.author.0.reference", "Practitioner/7"), 422,
     (REPOSITORY_ERROR, "structure", f"{DOCUMENT}.author[0]")),
    ("language too long", setting(f"{ATTACHMENT}.language", "e" * 300), 422,
     (REPOSITORY_ERROR, "code-invalid", f"{DOCUMENT}.content[0].attachment.language")),
    ("sourceId", setting("0.resource.extension", None), 422, (REPOSITORY_ERROR, "required", f"{SET}.extension")),
    ("entryUUID of the set", setting("0.resource.identifier.1.value", "urn:uuid:4f3b9b0e"), 422,
     (REPOSITORY_ERROR, "value", f"{SET}.identifier[1].value")),
    ("uniqueId of the set", setting("0.resource.identifier.0.value", "urn:uuid:4f3b9b0e-0000-4000-8000-000000000009"),
     422, (REPOSITORY_ERROR, "value", f"{SET}.identifier[0].value")),
    ("patient differs", setting("1.resource.subject.identifier.value", "4711"), 422,
     ("XDSPatientIdDoesNotMatch", "business-rule", f"{DOCUMENT}.subject")),
    ("patient of another domain", setting("0.resource.subject.identifier.system", "urn:oid:2.25.7"), 422,
     ("XDSUnknownPatientId", "not-found", f"{SET}.subject")),
    ("relation to nothing", setting("1.resource.relatesTo", [
        {"code": "appends", "target": {"reference": "DocumentReference/4f3b9b0e-0000-4000-8000-000000000009"}}]), 422,
     ("UnresolvedReferenceException", "not-found", f"{DOCUMENT}.relatesTo[0].target")),
    ("relation to no uniqueId", setting("1.resource.relatesTo", [
        {"code": "appends", "target": {"identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:2.25.99"}}}]),
     422, ("UnresolvedReferenceException", "not-found", f"{DOCUMENT}.relatesTo[0].target")),
    ("PATCH of nothing replaced", adding(PATCH, "PATCH", "DocumentReference/4f3b9b0e-0000-4000-8000-000000000009"),
     422, (REPOSITORY_ERROR, "business-rule", "Bundle.entry[3].request.url")),
    ("PATCH that does more", adding(PATCH | {"parameter": PATCH["parameter"] * 2}, "PATCH", "DocumentReference/x"),
     422, (REPOSITORY_ERROR, "not-supported", "Bundle.entry[3].resource")),
    ("Folder that is not there", adding(
        sent_list(folder()) , "PUT", "List/4f3b9b0e-0000-4000-8000-000000000009"), 422,
     ("UnresolvedReferenceException", "not-found", "Bundle.entry[3].request.url")),
    ("FHIR document", adding({"resourceType": "Bundle", "type": "document"}), 422,
     ("XDSMissingDocumentMetadata", "business-rule", "Bundle.entry[3]")),
)  # fmt: skip


@pytest.mark.parametrize(("change", "http", "expected"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
async def test_a_broken_bundle_is_refused_at_the_broken_place_and_leaves_nothing(
    tmp_path: Path, change: Change, http: int, expected: tuple[str | None, str, str]
) -> None:
    bundle = bundle_with()
    change(bundle)

    async with affinity(tmp_path) as place:
        refused = await refusal(place, bundle)

    assert refused.outcome.http_status == http
    assert expected in places(refused)


async def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    bundle = bundle_with()
    for change in (
        setting("1.resource.docStatus", "final"),
        setting("1.resource.type", None),
        setting("2.resource.contentType", "text/html"),
        setting("0.resource.mode", "snapshot"),
        setting("0.resource.subject.identifier.value", "4711"),
    ):
        change(bundle)

    async with affinity(tmp_path) as place:
        refused = await refusal(place, bundle)

    assert {each for _, _, each in places(refused)} == {
        f"{DOCUMENT}.docStatus",
        f"{DOCUMENT}.type",
        f"{BINARY}.contentType",
        f"{SET}.mode",
        f"{DOCUMENT}.subject",
    }


async def test_a_hash_in_hex_is_told_for_what_it_is(tmp_path: Path) -> None:
    bundle = bundle_with()
    bundle["entry"][1]["resource"]["content"][0]["attachment"]["hash"] = "5def7502f927c545618411960264a12dc2d46267"

    async with affinity(tmp_path) as place:
        [issue] = (await refusal(place, bundle)).outcome.issues

    assert "looks like hex" in issue.diagnostics


async def test_a_code_that_the_affinity_domain_has_not_is_told_at_its_element(tmp_path: Path) -> None:
    codes = CodeSets({"type_code": CodeSet(frozenset({"x^^2.25.1"}))})

    async with affinity(tmp_path, registry_settings={"code_sets": codes}) as place:
        refused = await refusal(place, bundle_with())

    assert places(refused) == {(REGISTRY_ERROR, "code-invalid", f"{DOCUMENT}.type")}


async def test_two_documents_with_one_uniqueid_are_refused(tmp_path: Path) -> None:
    unique_id = oid()

    async with affinity(tmp_path) as place:
        refused = await refusal(
            place, bundle_with(document_entry(unique_id=unique_id), document_entry(unique_id=unique_id))
        )

    expected = ("XDSRepositoryDuplicateUniqueIdInMessage", "duplicate", "Bundle.entry[3].resource.masterIdentifier")
    assert expected in places(refused)


async def test_other_octets_under_a_known_uniqueid_are_a_conflict(tmp_path: Path) -> None:
    entry = document_entry()
    other = replace(entry, entry_uuid=uuid4().urn, hash=None, size=None)

    async with affinity(tmp_path) as place:
        await place.provided(bundle_with(entry))
        refused = await refusal(place, bundle_with(other, content=b"other octets"))

        assert refused.outcome.http_status == 409
        assert await place.content(entry.unique_id or "") == CONTENT


@pytest.mark.parametrize("body", [None, [], "Bundle", 1, {}, {"resourceType": "Bundle"}, {"resourceType": "Patient"}])
async def test_what_is_no_bundle_is_refused(tmp_path: Path, body: Any) -> None:
    async with affinity(tmp_path) as place:
        assert (await refusal(place, body)).outcome.http_status == 400


async def test_a_bundle_with_nothing_to_do_is_refused(tmp_path: Path) -> None:
    async with affinity(tmp_path) as place:
        refused = await refusal(place, bundle_of(sent_list(submission_set())))

    assert (REPOSITORY_ERROR, "required", "Bundle.entry") in places(refused)


async def test_a_bundle_over_a_limit_is_too_large(tmp_path: Path) -> None:
    async with affinity(tmp_path, entries_limit=2, document_bytes=4) as place:
        assert (await refusal(place, bundle_with())).outcome.http_status == 413

    async with affinity(tmp_path, document_bytes=4) as place:
        refused = await refusal(place, bundle_with())

    assert refused.outcome.http_status == 413
    assert ("XDSRepositoryOutOfResources", "too-costly", f"{BINARY}.data") in places(refused)


# Sent again ----------------------------------------------------------------------------------------------------------


async def test_a_submission_that_is_sent_again_is_told_where_it_is(tmp_path: Path) -> None:
    entry = document_entry()
    bundle = bundle_with(entry)

    async with affinity(tmp_path) as place:
        await place.provided(deepcopy(bundle))
        refused = await refusal(place, bundle)

    [issue] = refused.outcome.issues
    assert refused.outcome.http_status == 409
    assert f"DocumentReference/{resource_id(entry.entry_uuid)}" in issue.diagnostics


@pytest.mark.parametrize("is_of_the_same_document", [False, True])
async def test_another_submission_with_a_known_uniqueid_is_a_duplicate(
    tmp_path: Path, is_of_the_same_document: bool
) -> None:
    unique_id, entry = oid(), document_entry()
    other = entry if is_of_the_same_document else document_entry()

    async with affinity(tmp_path) as place:
        await place.provided(bundle_with(entry, unique_id=unique_id))
        refused = await refusal(place, bundle_with(other, unique_id=unique_id, source_id="2.25.7"))

    assert refused.outcome.http_status == 409
    assert places(refused) == {("XDSDuplicateUniqueIdInRegistry", "duplicate", f"{SET}.identifier")}


# Relations -----------------------------------------------------------------------------------------------------------


def _reference(entry: DocumentEntry) -> Mapping[str, Json]:
    number = resource_id(entry.entry_uuid)
    return {
        "relative": {"reference": f"DocumentReference/{number}"},
        "absolute": {"reference": f"{BASE}/DocumentReference/{number}"},
        "urn": {"reference": entry.entry_uuid},
        "uniqueId": {"identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{entry.unique_id}"}},
        "entryUUID": {"identifier": {"system": "urn:ietf:rfc:3986", "value": entry.entry_uuid}},
    }


@pytest.mark.parametrize("form", ["relative", "absolute", "urn", "uniqueId", "entryUUID"])
@pytest.mark.parametrize("has_patch", [False, True])
async def test_a_document_replaces_another_with_or_without_a_patch(tmp_path: Path, form: str, has_patch: bool) -> None:
    old, new = document_entry(), document_entry()
    bundle = bundle_with(new, relates_to=[{"code": "replaces", "target": _reference(old)[form]}])
    if has_patch:
        adding(PATCH, "PATCH", f"DocumentReference/{resource_id(old.entry_uuid)}")(bundle)

    async with affinity(tmp_path) as place:
        await place.provided(bundle_with(old))
        answer = await place.provided(bundle)

        assert (await stored(place, old)).availability_status == AvailabilityStatus.DEPRECATED
        assert (await stored(place, new)).availability_status == AvailabilityStatus.APPROVED
    assert isinstance(answer.resource, dict)
    if has_patch:
        response = answer.resource["entry"][-1]["response"]
        assert (response["status"], response["location"]) == (
            "200 OK",
            f"DocumentReference/{resource_id(old.entry_uuid)}",
        )


@pytest.mark.parametrize(
    ("codes", "association_type"),
    [
        (("appends",), AssociationType.APND),
        (("transforms",), AssociationType.XFRM),
        (("transforms", "replaces"), AssociationType.XFRM_RPLC),
        (("signs",), AssociationType.SIGNS),
    ],
)
async def test_each_relation_is_an_association(
    tmp_path: Path, codes: tuple[str, ...], association_type: AssociationType
) -> None:
    old, new = document_entry(), document_entry()
    relates_to = [{"code": code, "target": _reference(old)["relative"]} for code in codes]

    async with affinity(tmp_path) as place:
        await place.provided(bundle_with(old))
        await place.provided(bundle_with(new, relates_to=relates_to))
        relations = await place.associations_from(new.entry_uuid)

    assert [(each.association_type, each.target_object) for each in relations] == [(association_type, old.entry_uuid)]


async def test_what_is_superseded_is_not_replaced_again(tmp_path: Path) -> None:
    old = document_entry()
    relates_to = [{"code": "replaces", "target": _reference(old)["relative"]}]

    async with affinity(tmp_path) as place:
        await place.provided(bundle_with(old))
        await place.provided(bundle_with(document_entry(), relates_to=relates_to))
        refused = await refusal(place, bundle_with(document_entry(), relates_to=relates_to))

    expected = ("XDSRegistryDeprecatedDocumentError", "business-rule", f"{DOCUMENT}.relatesTo[0].target")
    assert expected in places(refused)


async def test_a_document_of_another_patient_is_not_replaced(tmp_path: Path) -> None:
    old = document_entry(patient_id=OTHER_PATIENT)
    relates_to = [{"code": "replaces", "target": _reference(old)["uniqueId"]}]

    async with affinity(tmp_path) as place:
        await place.provided(bundle_with(old))
        refused = await refusal(place, bundle_with(document_entry(), relates_to=relates_to))

    expected = ("XDSPatientIdDoesNotMatch", "business-rule", f"{DOCUMENT}.relatesTo[0].target")
    assert expected in places(refused)


# Folders and members -------------------------------------------------------------------------------------------------


def _put(case: Folder, form: str) -> tuple[Json, Mapping[str, str]]:
    urls = {
        "id": f"List/{resource_id(case.entry_uuid)}",
        "condition": f"List?identifier=urn:ietf:rfc:3986|urn:oid:{case.unique_id}",
        "without system": f"List?identifier=urn:oid:{case.unique_id}",
        "entryUUID": f"List?identifier=urn:ietf:rfc:3986|{case.entry_uuid}",
        "identifiers": "List",
    }
    return {}, {"method": "PUT", "url": urls[form]}


@pytest.mark.parametrize("form", ["id", "condition", "without system", "entryUUID", "identifiers"])
async def test_a_put_adds_members_to_a_folder(tmp_path: Path, form: str) -> None:
    case, old, new = folder(), document_entry(), document_entry()
    first = bundle_of(sent_list(submission_set(), old, case), sent_list(case, old), *sent_document(old))
    _, request = _put(case, form)
    changed = (sent_list(case, old, new), request)
    second = bundle_of(sent_list(submission_set(), new, case), changed, *sent_document(new))
    _refer_to(second, old)

    async with affinity(tmp_path) as place:
        await place.provided(first)
        answer = await place.provided(second)
        members = await place.registered.members_of_folder(case.entry_uuid)

    assert {old.entry_uuid, new.entry_uuid} <= members
    assert isinstance(answer.resource, dict)
    response = answer.resource["entry"][1]["response"]
    assert (response["status"], response["location"]) == ("200 OK", f"List/{resource_id(case.entry_uuid)}")


def _refer_to(bundle: Json, registered: DocumentEntry) -> None:
    """Have what names a document that is not in the Bundle name it as a registered one."""
    for entry in bundle["entry"]:
        for member in entry["resource"].get("entry", ()):
            if member["item"]["reference"] == registered.entry_uuid:
                member["item"]["reference"] = f"DocumentReference/{resource_id(registered.entry_uuid)}"


async def test_a_conditional_put_of_a_folder_that_is_not_there_makes_it(tmp_path: Path) -> None:
    case, entry = folder(), document_entry()
    _, request = _put(case, "condition")

    async with affinity(tmp_path) as place:
        answer = await place.provided(
            bundle_of(
                sent_list(submission_set(), entry, case), (sent_list(case, entry), request), *sent_document(entry)
            )
        )

    assert isinstance(answer.resource, dict)
    assert answer.resource["entry"][1]["response"]["status"] == "201 Created"


async def test_a_submissionset_may_list_a_document_that_is_registered(tmp_path: Path) -> None:
    old, new = document_entry(), document_entry()
    item = submission_set()
    bundle = bundle_of(sent_list(item, new, old), *sent_document(new))
    _refer_to(bundle, old)

    async with affinity(tmp_path) as place:
        await place.provided(bundle_with(old))
        await place.provided(bundle)
        found = await place.associations_from(item.entry_uuid)

    statuses = {each.target_object: each.submission_set_status for each in found if each.submission_set_status}
    assert statuses == {new.entry_uuid: "Original", old.entry_uuid: "Reference"}


# Patients ------------------------------------------------------------------------------------------------------------

_IDENTIFIER = {"system": f"urn:oid:{PATIENT.assigning_authority.universal_id}", "value": PATIENT.id_number}
_IN_THE_BUNDLE = "urn:uuid:4f3b9b0e-0000-4000-8000-00000000000a"


@pytest.mark.parametrize(
    "subject",
    [
        {"identifier": _IDENTIFIER},
        {"reference": f"Patient?identifier={_IDENTIFIER['system']}|{_IDENTIFIER['value']}"},
        {"reference": _IN_THE_BUNDLE},
        {"reference": "Patient/unknown-here", "identifier": _IDENTIFIER},
        {"reference": "https://elsewhere.example/Patient/1", "identifier": _IDENTIFIER},
    ],
    ids=["identifier", "condition", "in the Bundle", "id and identifier", "foreign and identifier"],
)
async def test_a_subject_names_the_patient_in_any_of_these_forms(tmp_path: Path, subject: Json) -> None:
    entry = document_entry()
    bundle = bundle_with(entry)
    patient = {"resourceType": "Patient", "identifier": [{"system": "urn:oid:2.25.8", "value": "7"}, _IDENTIFIER]}
    adding(patient)(bundle)
    bundle["entry"][3]["fullUrl"] = _IN_THE_BUNDLE
    for number in (0, 1):
        bundle["entry"][number]["resource"]["subject"] = subject

    async with affinity(tmp_path) as place:
        answer = await place.provided(bundle)

        assert (await stored(place, entry)).patient_id == PATIENT
    assert isinstance(answer.resource, dict)
    assert answer.resource["entry"][3]["response"]["status"] == "200 OK"


async def test_a_patient_who_is_contained_counts_by_his_identifier_and_is_told_not_to_be_kept(tmp_path: Path) -> None:
    entry = document_entry()
    bundle = bundle_with(entry)
    patient = {"resourceType": "Patient", "id": "whose", "identifier": [_IDENTIFIER]}
    bundle["entry"][1]["resource"].setdefault("contained", []).append(patient)
    bundle["entry"][1]["resource"]["subject"] = {"reference": "#whose"}

    async with affinity(tmp_path) as place:
        answer = await place.provided(bundle)

        assert (await stored(place, entry)).patient_id == PATIENT
    assert isinstance(answer.resource, dict)
    [issue] = answer.resource["entry"][1]["response"]["outcome"]["issue"]
    assert (issue["severity"], issue["expression"]) == ("warning", [f"{DOCUMENT}.subject"])


@pytest.mark.parametrize(
    ("systems", "kept", "is_told"),
    [
        (["https://fhir.nhs.uk/Id/sds-user-id"], "G1^Okafor", True),
        (["https://fhir.nhs.uk/Id/sds-user-id", "urn:oid:1.2.3"], "G2^Okafor^^^^^^^&1.2.3&ISO", False),
        ([None], "G1^Okafor", False),
    ],
)
async def test_a_number_of_an_author_that_is_kept_without_its_system_is_told(
    tmp_path: Path, systems: list[str | None], kept: str, *, is_told: bool
) -> None:
    entry = document_entry(author=())
    bundle = bundle_with(entry)
    numbers = [
        {"value": f"G{number}"} | ({"system": system} if system else {}) for number, system in enumerate(systems, 1)
    ]
    author = {"resourceType": "Practitioner", "id": "who", "identifier": numbers, "name": [{"family": "Okafor"}]}
    bundle["entry"][1]["resource"].setdefault("contained", []).append(author)
    bundle["entry"][1]["resource"]["author"] = [{"reference": "#who"}]

    async with affinity(tmp_path) as place:
        answer = await place.provided(bundle)

        assert [str(each.author_person) for each in (await stored(place, entry)).author] == [kept]
    assert isinstance(answer.resource, dict)
    issues = answer.resource["entry"][1]["response"].get("outcome", {}).get("issue", [])
    told = [each["expression"] for each in issues if "is no OID and is not kept" in each["details"]["text"]]
    assert told == ([[f"{DOCUMENT}.author[0]"]] if is_told else [])


async def test_a_missing_extension_is_told_by_its_name(tmp_path: Path) -> None:
    bundle = bundle_with()
    del bundle["entry"][0]["resource"]["extension"]

    async with affinity(tmp_path) as place:
        refused = await refusal(place, bundle)

    told = [each.text for each in refused.outcome.issues if each.expression == f"{SET}.extension"]
    names = {each.split(" of ")[0] for each in told}
    assert names == {"The extension ihe-sourceId", "The extension ihe-designationType"}


async def test_a_bundle_may_ask_for_the_patient_that_it_is_about(tmp_path: Path) -> None:
    entry = document_entry()
    bundle = bundle_with(entry)
    url = f"Patient?identifier={_IDENTIFIER['system']}|{_IDENTIFIER['value']}"
    bundle["entry"].append({"fullUrl": _IN_THE_BUNDLE, "request": {"method": "GET", "url": url}})
    for number in (0, 1):
        bundle["entry"][number]["resource"]["subject"] = {"reference": _IN_THE_BUNDLE}

    async with affinity(tmp_path) as place:
        await place.provided(bundle)

        assert (await stored(place, entry)).patient_id == PATIENT


@pytest.mark.parametrize(
    "reference", ["https://elsewhere.example/fhir/Patient/1", "Patient/../1", "Patient/unknown", "Group/1", "#nobody"]
)
async def test_a_subject_that_names_nobody_here_is_refused(tmp_path: Path, reference: str) -> None:
    bundle = bundle_with()
    for number in (0, 1):
        bundle["entry"][number]["resource"]["subject"] = {"reference": reference}

    async with affinity(tmp_path) as place:
        refused = await refusal(place, bundle)

    assert ("XDSUnknownPatientId", "not-found", f"{SET}.subject") in places(refused)


async def test_what_a_subject_says_twice_has_to_agree(tmp_path: Path) -> None:
    bundle = bundle_with()
    adding({"resourceType": "Patient", "identifier": [_IDENTIFIER | {"value": "4711"}]})(bundle)
    bundle["entry"][0]["resource"]["subject"]["reference"] = bundle["entry"][3]["fullUrl"]

    async with affinity(tmp_path) as place:
        refused = await refusal(place, bundle)

    assert ("XDSPatientIdDoesNotMatch", "business-rule", f"{SET}.subject") in places(refused)


async def test_nothing_of_a_patient_is_told_that_was_not_sent(tmp_path: Path) -> None:
    class Keys(NoPatientKeys):
        async def patient_of(self, _patient_key: str) -> str | None:
            return OTHER_PATIENT.text

    bundle = bundle_with()
    bundle["entry"][1]["resource"]["subject"] = {"reference": "Patient/k"}

    async with affinity(tmp_path) as place:
        recipient = replace(place.recipient, keys=Keys())
        with pytest.raises(Refused) as refused:
            await recipient.provide_document_bundle(bundle, FhirRequest())

    [issue] = refused.value.outcome.issues
    assert issue.diagnostics == f"entry[0] has {PATIENT.text}, entry[1] has Patient/k"
    assert OTHER_PATIENT.id_number not in str(refused.value.outcome.resource())


# Minimal metadata ----------------------------------------------------------------------------------------------------

_LEFT_OUT: Mapping[str, Any] = {
    "type_code": None, "class_code": None, "format_code": None, "practice_setting_code": None,
    "healthcare_facility_type_code": None, "confidentiality_code": (), "language_code": None, "creation_time": None,
    "source_patient_id": None,
}  # fmt: skip


def _minimal(entry: DocumentEntry) -> Json:
    return bundle_with(entry, content_type_code=None) | {
        "meta": {"profile": ["https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.Minimal.ProvideBundle"]}
    }


async def test_minimal_metadata_is_refused_where_xds_needs_more(tmp_path: Path) -> None:
    async with affinity(tmp_path) as place:
        refused = await refusal(place, _minimal(document_entry(**_LEFT_OUT)))

    assert (REGISTRY_ERROR, "required", f"{DOCUMENT}.type") in places(refused)
    assert any(each.expression == "Bundle.meta.profile" for each in refused.outcome.issues)


async def test_minimal_metadata_is_taken_as_limited_where_the_settings_say_so(tmp_path: Path) -> None:
    entry = document_entry(**_LEFT_OUT)

    async with affinity(tmp_path, minimal=Minimal.ACCEPT) as place:
        await place.provided(_minimal(entry))

        assert (await stored(place, entry)).limited_metadata


async def test_minimal_metadata_is_filled_in_where_the_settings_say_so(tmp_path: Path) -> None:
    entry = document_entry(**_LEFT_OUT)
    item = submission_set(content_type_code=None)
    codes = [name for name in (*_LEFT_OUT, "content_type_code") if name.endswith("code") and name != "language_code"]
    defaults = {name: (Code("d", "2.25.1", text(f"default {name}")),) for name in codes}

    async with affinity(tmp_path, minimal=Minimal.FILL, defaults=defaults, default_language="et") as place:
        answer = await place.provided(_minimal(entry))
        found = await stored(place, entry)

    assert found.type_code == defaults["type_code"][0]
    assert found.confidentiality_code == defaults["confidentiality_code"]
    assert (found.language_code, found.creation_time, found.source_patient_id) == ("et", item.submission_time, PATIENT)
    assert isinstance(answer.resource, dict)
    issues = answer.resource["entry"][1]["response"]["outcome"]["issue"]
    assert len(issues) == len(_LEFT_OUT)
    assert any(issue["details"]["text"].startswith(term("type_code")) for issue in issues)


async def test_what_the_settings_do_not_know_either_is_missing(tmp_path: Path) -> None:
    async with affinity(tmp_path, minimal=Minimal.FILL, default_language="et") as place:
        refused = await refusal(place, _minimal(document_entry(**_LEFT_OUT)))

    assert (REPOSITORY_ERROR, "required", f"{DOCUMENT}.type") in places(refused)
    assert not any(each.expression.endswith("language") for each in refused.outcome.issues)


# Documents -----------------------------------------------------------------------------------------------------------


def _with_fhir_document(entry: DocumentEntry) -> tuple[Json, Json]:
    document = {
        "resourceType": "Bundle",
        "type": "document",
        "entry": [
            {
                "fullUrl": "urn:uuid:4f3b9b0e-0000-4000-8000-00000000000b",
                "resource": {
                    "resourceType": "Composition",
                    "status": "final",
                    "type": {"text": "Patient summary"},
                    "date": "2026-03-05",
                    "author": [{"display": "Tamm"}],
                    "title": "Patient summary",
                },
            }
        ],
    }
    reference, _ = sent_document(replace(entry, hash=None, size=None))
    bundle = bundle_of(sent_list(submission_set(), entry), reference, document | {"id": str(uuid4())})
    reference["content"][0]["attachment"]["url"] = bundle["entry"][2]["fullUrl"]
    return bundle, document


@pytest.mark.parametrize(("mime_type", "write"), [("application/fhir+json", written), ("application/fhir+xml", to_xml)])
async def test_a_fhir_document_is_kept_as_it_is_written_once(
    tmp_path: Path, mime_type: str, write: Callable[[Json], bytes]
) -> None:
    entry = document_entry(mime_type=mime_type)
    bundle, document = _with_fhir_document(entry)

    async with affinity(tmp_path, fhir_documents=True) as place:
        await place.provided(bundle)
        found = await stored(place, entry)

        assert await place.content(entry.unique_id or "") == write(document)
        assert found.size == str(len(write(document)))


async def test_a_fhir_document_is_refused_where_the_settings_do_not_take_it(tmp_path: Path) -> None:
    bundle, _ = _with_fhir_document(document_entry(mime_type="application/fhir+json"))

    async with affinity(tmp_path) as place:
        refused = await refusal(place, bundle)

    assert places(refused) == {("FHIRDocumentNotSupported", "not-supported", "Bundle.entry[2]")}


async def test_an_empty_document_has_no_data(tmp_path: Path) -> None:
    entry = document_entry(size="0", hash="da39a3ee5e6b4b0d3255bfef95601890afd80709")

    async with affinity(tmp_path) as place:
        await place.provided(bundle_with(entry, content=b""))

        assert await place.content(entry.unique_id or "") == b""


async def test_a_mime_type_is_compared_without_case_and_blanks(tmp_path: Path) -> None:
    entry = document_entry(mime_type="text/plain; charset=UTF-8")
    bundle = bundle_with(entry)
    bundle["entry"][2]["resource"]["contentType"] = "Text/Plain;charset=utf-8"

    async with affinity(tmp_path) as place:
        await place.provided(bundle)

        assert (await stored(place, entry)).mime_type == entry.mime_type
