"""Reads that are answered only if something has changed since (FHIR R4: http.html, 3.1.0.5.1): by ETag, or by time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import pytest
import pytest_asyncio

from mhd.mapping.identifiers import resource_id
from tests.builders import CONTENT, association, document_entry, folder, has_member, submission, text, unmeasured
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.test_find_document_references import FORM, of, some_patient
from tests.conformance.wire import Wire
from tests.xds.broken_updates import APPROVED, DEPRECATED, next_version, status_update, submitted, update_of
from xds.ebxml_messages import register_request, remove_request
from xds.metadata import AssociationType, DocumentEntry, Submission
from xds.transactions import ITI_57, ITI_62, Transaction

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_DATES = ("yesterday", "", "Mon, 99 Nov 2026 10:00:00 GMT", "1", "2026-11-30T10:00:00Z", "Mon, 30 Nov 2026")


async def kept(wire: Wire) -> Submission:
    """A document in a Folder, of a patient of its own."""
    entry = unmeasured(document_entry(patient_id=(patient := some_patient())))
    case = folder(patient_id=patient)
    sent = submission(entry, folders=(case,), associations=(has_member(case, entry),))
    assert (await wire.provide(sent, {entry.entry_uuid: CONTENT})).registry_response.succeeded
    return sent


@pytest_asyncio.fixture(loop_scope="module")
async def document(wire: Wire) -> DocumentEntry:
    return (await kept(wire)).document_entries[0]


def path_of(entry: DocumentEntry, resource: str = "DocumentReference") -> str:
    return f"{resource}/{resource_id(entry.entry_uuid)}"


def last_modified(reply: FhirReply) -> datetime:
    return parsedate_to_datetime(reply.headers["Last-Modified"])


def http_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


async def changed(wire: Wire, transaction: Transaction, request: object) -> None:
    answer = await wire.simple(transaction, request)  # type: ignore[arg-type]
    assert not answer.registry_response.errors, [each.code_context for each in answer.registry_response.errors]


async def test_what_was_not_changed_since_is_not_sent_again(wire: Wire, fhir: FhirWire) -> None:
    sent = await kept(wire)
    [entry], [case] = sent.document_entries, sent.folders
    lists = [f"List/{resource_id(each.entry_uuid)}" for each in (case, sent.submission_set)]
    for path in (path_of(entry), f"{path_of(entry)}/_history/1", *lists, path_of(entry, "Binary")):
        for accept in ("*/*", "application/fhir+xml"):
            reply = await fhir.get(path, Accept=accept)
            since = last_modified(reply)

            for sent_date, status in (
                (since, 304),
                (since + timedelta(days=1), 304),
                (since - timedelta(seconds=1), 200),
            ):
                again = await fhir.get(path, Accept=accept, If_Modified_Since=http_date(sent_date))
                assert (again.status, again.headers["ETag"]) == (status, reply.headers["ETag"])
                assert again.content == (b"" if status == 304 else reply.content)
                assert again.headers["Last-Modified"] == reply.headers["Last-Modified"]
            head = await fhir.send("HEAD", path, headers={"If-Modified-Since": http_date(since), "Accept": accept})
            assert head.status == 304


async def test_a_resource_says_when_it_was_changed_to_the_second(fhir: FhirWire, document: DocumentEntry) -> None:
    reply = await fhir.get(path_of(document))
    binary = await fhir.get(path_of(document, "Binary"))

    told = datetime.fromisoformat(reply.resource["meta"]["lastUpdated"]).replace(microsecond=0)
    assert last_modified(reply) == last_modified(binary) == told


async def test_an_etag_counts_more_than_a_date(fhir: FhirWire, document: DocumentEntry) -> None:
    for path in (path_of(document), path_of(document, "Binary")):
        reply = await fhir.get(path)
        same, date = reply.headers["ETag"], reply.headers["Last-Modified"]
        long_ago = http_date(datetime(2001, 1, 1, tzinfo=UTC))

        assert (await fhir.get(path, If_None_Match='"other"', If_Modified_Since=date)).status == 200
        assert (await fhir.get(path, If_None_Match=same, If_Modified_Since=long_ago)).status == 304
        assert (await fhir.get(path, If_None_Match="", If_Modified_Since=date)).status == 200


@pytest.mark.parametrize("date", NO_DATES)
async def test_what_is_no_date_is_not_heeded(fhir: FhirWire, document: DocumentEntry, date: str) -> None:
    for path in (path_of(document), path_of(document, "Binary")):
        assert (await fhir.get(path, If_Modified_Since=date)).status == 200


async def test_dates_in_the_older_forms_are_read(fhir: FhirWire, document: DocumentEntry) -> None:
    moment = last_modified(await fhir.get(path_of(document)))
    for form in ("%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"):
        reply = await fhir.get(path_of(document), If_Modified_Since=moment.strftime(form))
        assert reply.status == 304


async def test_a_search_is_answered_whatever_date_comes_with_it(fhir: FhirWire, document: DocumentEntry) -> None:
    future = {"If-Modified-Since": http_date(datetime.now(UTC) + timedelta(days=1))}
    whose = {"patient.identifier": of(document.patient_id)} if document.patient_id else {}

    got = await fhir.send("GET", "DocumentReference", whose, headers=future)
    posted = await fhir.send("POST", "DocumentReference/_search", data=whose, headers=FORM | future)

    assert got.found == posted.found == [resource_id(document.entry_uuid)]


async def test_whatever_changes_what_is_told_is_a_later_change(wire: Wire, fhir: FhirWire) -> None:
    entry, other, third = (document_entry() for _ in range(3))
    assert (await wire.register(submission(entry, other, third))).registry_response.succeeded
    related, again = (association(AssociationType.APND, entry, each) for each in (other, third))
    update = update_of(next_version(entry, title=text("Renamed")))
    steps = [
        (ITI_57, register_request(joined := submitted(related))),
        (ITI_57, register_request(submitted(again))),
        (ITI_57, register_request(status_update(again.entry_uuid))),
        (ITI_62, remove_request([each.entry_uuid for each in joined.objects])),
        (ITI_57, register_request(status_update(entry))),
        (ITI_57, register_request(status_update(entry, before=DEPRECATED, after=APPROVED))),
        (ITI_57, register_request(update)),
        (ITI_62, remove_request([each.entry_uuid for each in update.objects])),
    ]
    seen = [await fhir.get(path_of(entry))]

    for transaction, request in steps:
        await changed(wire, transaction, request)
        seen.append(await fhir.get(path_of(entry)))

    told = [datetime.fromisoformat(each.resource["meta"]["lastUpdated"]) for each in seen]
    assert told == sorted(set(told))
    relations = [len(each.resource.get("relatesTo", ())) for each in seen]
    assert relations[:5] == [0, 1, 2, 1, 0]


async def test_a_folder_was_changed_when_it_got_or_lost_a_member(wire: Wire, fhir: FhirWire) -> None:
    sent = await kept(wire)
    [entry], [case] = sent.document_entries, sent.folders
    path = f"List/{resource_id(case.entry_uuid)}"
    new = document_entry(patient_id=entry.patient_id)
    adding = submission(new, associations=(has_member(case, new),))
    seen = [await fhir.get(path)]

    assert (await wire.register(adding)).registry_response.succeeded
    seen.append(await fhir.get(path))
    await changed(wire, ITI_62, remove_request([each.entry_uuid for each in adding.objects]))
    seen.append(await fhir.get(path))

    told = [datetime.fromisoformat(each.resource["meta"]["lastUpdated"]) for each in seen]
    assert told == sorted(set(told))
    assert [len(each.resource["entry"]) for each in seen] == [1, 2, 1]
