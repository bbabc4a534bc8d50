"""What senders of other makers do, as whole messages: what is legal is taken, what is not is answered in words.

Each test is one of the complaints about XDS servers that come again and again; docs/conformance.md lists them all.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from tests.builders import (
    CONTENT,
    OTHER_PATIENT,
    PATIENT,
    association,
    author,
    document_entry,
    folder,
    has_member,
    oid,
    submission,
    unmeasured,
)
from tests.conformance.test_documents_in_and_out import asked, entries_of, entry_of, provided
from tests.conformance.wire import Reply, Wire, envelope
from tests.xds.broken_updates import next_version, update_of
from xds.actors import DocumentRequest, QueryRequest
from xds.ebxml_messages import provide_request, query_request, register_request, retrieve_request
from xds.hl7v2 import CX, DTM, XCN, XON
from xds.metadata import AssociationType, AvailabilityStatus, Submission
from xds.soap import SOAP
from xds.stored_queries import FIND_DOCUMENTS
from xds.transactions import ITI_18, ITI_41, ITI_42, ITI_43, ITI_57

pytestmark = pytest.mark.asyncio(loop_scope="module")

SENT_BY_IPF = Path(__file__).parent / "sent_by_ipf.mime"
RIM = "{urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0}"
APPROVED = AvailabilityStatus.APPROVED


def told(answer: Reply) -> list[str]:
    """The sentences of a refusal, which is no fault."""
    assert answer.status == 200, answer.content
    assert not answer.registry_response.succeeded
    return [error.code_context for error in answer.registry_response.errors]


async def registered(wire: Wire, sent: Submission) -> Submission:
    answer = await wire.register(sent)
    assert answer.registry_response.succeeded, answer.content
    return sent


# The package and the envelope -----------------------------------------------------------------------------------------

LEGAL_CONTENT_TYPES = {
    "start-info names another type": 'multipart/related; boundary=b; type="application/xop+xml"; start-info="text/xml"',
    "there is no action and no start": 'multipart/related; type="application/xop+xml"; boundary="b"',
    "nothing is quoted": "multipart/related; boundary=b; type=application/xop+xml; start=<root>",
    "everything is in capitals": 'MULTIPART/RELATED; BOUNDARY="b"; TYPE="application/xop+xml"; START="<root>"',
    "the type is that of simple SOAP": 'multipart/related; boundary=b; type="application/soap+xml"; start="<root>"',
}


@pytest.mark.parametrize("what", LEGAL_CONTENT_TYPES)
async def test_a_package_is_taken_however_its_content_type_is_written(wire: Wire, what: str) -> None:
    entry = unmeasured(document_entry())
    body = provide_request(submission(entry), [(entry.entry_uuid, "d@example.org")])
    root = b"--b\r\nContent-ID: <root>\r\nContent-Type: application/xop+xml\r\n\r\n" + envelope(ITI_41, body)
    message = root + b"\r\n--b\r\nContent-ID: <d@example.org>\r\n\r\n" + CONTENT + b"\r\n--b--\r\n"

    answer = await wire.post(wire.url(ITI_41), message, {"Content-Type": LEGAL_CONTENT_TYPES[what]})

    assert answer.registry_response.succeeded, answer.content


async def test_a_package_of_ipf_and_apache_cxf_is_taken_as_it_was_recorded(wire: Wire) -> None:
    """ITI-41 as IPF 5.1.0 wrote it, by Apache CXF 4.1.3: XDS clients in Java are mostly made of these."""
    headers = {
        "Connection": "Upgrade, HTTP2-Settings",
        "HTTP2-Settings": "AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA",
        "Upgrade": "h2c",
        "Content-Type": 'multipart/related; type="application/xop+xml"; boundary="uuid:27f37039-0481-4192-aaf1-'
        'f979ec397be6"; start="<root.message@cxf.apache.org>"; start-info="application/soap+xml"',
    }

    answer = await wire.post(wire.url(ITI_41), SENT_BY_IPF.read_bytes(), headers)
    entry = await entry_of(wire, "2.25.50970029167481.2.5")
    fetched = await wire.mtom(ITI_43, retrieve_request([asked(entry)]))

    assert answer.registry_response.succeeded, answer.content
    assert [each.value for each in entry.title] == ["Title & <b>"]
    assert list(fetched.parts.values()) == [b"Hello 2.25.50970029167481.2.5"]


async def test_a_request_needs_no_addressing_and_its_answer_has_all_of_it(wire: Wire) -> None:
    whole = envelope(ITI_42, register_request(submission(document_entry())))
    plain = re.sub(rb"<\w*:?Header>.*</\w*:?Header>", b"", whole, flags=re.DOTALL)
    headers = {"Content-Type": f'application/soap+xml; action="{ITI_42.action}"'}

    answer = await wire.post(wire.url(ITI_42), plain, headers)

    assert b"Header" not in plain
    assert answer.registry_response.succeeded, answer.content
    (action,) = answer.root.iter("{http://www.w3.org/2005/08/addressing}Action")
    assert action.text == ITI_42.response_action
    assert action.get(f"{{{SOAP}}}mustUnderstand") in ("1", "true")


async def test_a_header_that_is_not_understood_is_in_the_fault_and_in_the_log(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    whole = envelope(ITI_42, register_request(submission(document_entry())))
    header = f'<f:Trace xmlns:f="urn:foreign" xmlns:e="{SOAP}" e:mustUnderstand="true"/>'.encode()
    message = re.sub(rb"(</\w*:?Header>)", header + rb"\1", whole)

    with caplog.at_level(logging.INFO, logger="server.soap_endpoint"):
        answer = await wire.post(wire.url(ITI_42), message, {"Content-Type": "application/soap+xml"})

    (block,) = answer.root.iter(f"{{{SOAP}}}NotUnderstood")
    prefix, _, name = str(block.get("qname")).partition(":")
    assert (block.nsmap[prefix], name) == ("urn:foreign", "Trace")
    assert ["{urn:foreign}Trace"] in [getattr(record, "not_understood", None) for record in caplog.records]


PREFIXES = {
    "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0": "ns1",
    "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0": "ns17",
    SOAP: "_x",
    "http://www.w3.org/2005/08/addressing": "rim",  # which others know as something else
}


@pytest.mark.parametrize("how", ["with prefixes of its own", "without prefixes, and with comments"])
async def test_any_prefixes_are_taken(wire: Wire, how: str) -> None:
    entry = document_entry()
    root = etree.fromstring(envelope(ITI_42, register_request(submission(entry))))
    written = etree.tostring(_respelt(root, PREFIXES if how.startswith("with prefixes") else {}))
    if how.startswith("without"):
        written = written.replace(b"><", b"><!-- a comment, as people write it --><")

    answer = await wire.post(wire.url(ITI_42), written, {"Content-Type": "application/soap+xml"})

    assert answer.registry_response.succeeded, answer.content
    assert len(await entries_of(wire, entry.unique_id or "")) == 1


def _respelt(element: etree._Element, prefixes: dict[str, str]) -> etree._Element:
    """The same element with other prefixes; without one where none is given."""
    name = etree.QName(element)
    namespace = name.namespace or ""
    made = etree.Element(element.tag, dict(element.attrib), {prefixes.get(namespace): namespace})
    made.text, made.tail = element.text, element.tail
    made.extend([_respelt(child, prefixes) for child in element])
    return made


# Ids ------------------------------------------------------------------------------------------------------------------


async def test_ids_of_classifications_and_documents_may_be_the_same_in_every_message(wire: Wire) -> None:
    for _ in range(2):
        entry = unmeasured(document_entry(entry_uuid="Document01"))
        whole = submission(entry, folders=(folder(entry_uuid="Folder01"),))
        own = replace(whole.submission_set, entry_uuid="SubmissionSet01")
        links = (has_member(own, entry, entry_uuid="as01"), has_member(own, whole.folders[0], entry_uuid="as02"))
        sent = replace(whole, submission_sets=(own,), associations=links)
        body = provide_request(sent, [("Document01", "d@example.org")])
        # All Classifications have one id, and all ExternalIdentifiers another one.
        body = re.sub(rb'(<rim:Classification id=")[^"]*', rb"\1cl01", body)
        body = re.sub(rb'(<rim:ExternalIdentifier id=")[^"]*', rb"\1ei01", body)

        answer = await wire.mtom(ITI_41, body, [("d@example.org", CONTENT)])

        assert answer.registry_response.succeeded, answer.content
        assert (await entry_of(wire, entry.unique_id or "")).entry_uuid.startswith("urn:uuid:")


async def test_an_id_that_was_taken_from_an_answer_is_told_with_what_has_it_and_since_when(wire: Wire) -> None:
    first = await registered(wire, submission(document_entry(), submission_time=DTM("20251130101500")))
    known = first.document_entries[0]

    (sentence,) = told(await wire.register(submission(document_entry(entry_uuid=known.entry_uuid))))

    assert known.entry_uuid in sentence
    assert f"registered DocumentEntry (it came with the SubmissionSet '{first.submission_set.unique_id}'" in sentence
    assert "submissionTime 20251130101500" in sentence
    assert "symbolic id" in sentence


async def test_other_bytes_by_the_name_of_a_registered_document_are_told_since_when_it_is_there(wire: Wire) -> None:
    first = await registered(wire, submission(document_entry(), submission_time=DTM("20251130101500")))
    other = document_entry(unique_id=first.document_entries[0].unique_id, hash="0" * 40)

    answer = await wire.register(submission(other))

    assert answer.codes == ["XDSNonIdenticalHash"]
    assert f"(it came with the SubmissionSet '{first.submission_set.unique_id}'" in told(answer)[0]


async def test_a_document_that_replaces_itself_is_told_to_be_another_one(wire: Wire) -> None:
    known = await provided(wire)
    again = unmeasured(document_entry(unique_id=known.unique_id))
    by_name = submission(again, associations=(association(AssociationType.RPLC, again, known),))
    itself = unmeasured(document_entry())
    by_id = submission(itself, associations=(association(AssociationType.RPLC, itself, itself),))

    same_bytes = await wire.provide(by_name, {again.entry_uuid: CONTENT})
    to_itself = await wire.provide(by_id, {itself.entry_uuid: CONTENT})

    assert ["a replacement needs a new uniqueId" in each for each in told(same_bytes)] == [True]
    assert any("with itself; send the id of the other document" in each for each in told(to_itself))
    assert (await entry_of(wire, known.unique_id or "")).availability_status == APPROVED


async def test_a_hash_of_another_kind_is_told_with_both_hashes_and_their_lengths(wire: Wire) -> None:
    entry = replace(unmeasured(document_entry()), hash=hashlib.sha256(CONTENT).hexdigest())

    answer = await wire.provide(submission(entry), {entry.entry_uuid: CONTENT})

    assert set(answer.codes) == {"XDSRepositoryMetadataError"}
    sentences = " ".join(told(answer))
    sha_1 = hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
    assert "64 characters" in sentences
    assert f"{sha_1} (40 characters)" in sentences
    assert "SHA-1" in sentences


async def test_a_hash_in_capitals_is_the_same_hash(wire: Wire) -> None:
    sha_1 = hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest().upper()
    entry = replace(unmeasured(document_entry()), hash=sha_1)

    answer = await wire.provide(submission(entry), {entry.entry_uuid: CONTENT})

    assert answer.registry_response.succeeded, answer.content


# Values ---------------------------------------------------------------------------------------------------------------

PATIENT_IDS = {
    "a namespace id": "4711^^^HOSPITAL&1.2.840.7&ISO",
    "a blank before the OID": "4711^^^& 1.2.840.7&ISO",
    "an ampersand that was escaped twice": "4711^^^&amp;1.2.840.7&amp;ISO",
    "no type": "4711^^^&1.2.840.7",
    "an identifier type": "4711^^^&1.2.840.7&ISO^PI",
    "the OID for a name": "4711^^^1.2.840.7",
}


@pytest.mark.parametrize("what", PATIENT_IDS)
async def test_a_patient_id_of_another_form_is_answered_with_the_right_form_of_its_authority(
    wire: Wire, what: str
) -> None:
    patient_id = CX(PATIENT_IDS[what])
    sent = submission(document_entry(patient_id=patient_id), patient_id=patient_id)

    sentences = told(await wire.register(sent))
    query = await wire.query(
        "FindDocuments",
        XDSDocumentEntryPatientId="'" + patient_id.text + "'",
        XDSDocumentEntryStatus=f"('{APPROVED}')",
    )

    assert all("send idNumber^^^&1.2.840.7&ISO" in each for each in sentences), sentences
    assert query.codes == ["XDSRegistryError"]
    assert "send idNumber^^^&1.2.840.7&ISO" in query.query_response.errors[0].code_context


PEOPLE = (
    XCN("^Tamm^Mari"),
    XCN("Mari Tamm"),
    XCN("38001085718^Tamm^Mari^^^dr^^^&1.3.6.1.4.1.28284.6.2.2.1&ISO"),
)
PLACES = (XON("Tartu Kliinikum"), XON("Tartu Kliinikum^^^^^^^^^1.2.840.90001478"), XON("Apteek^^^^^&2.25.7&ISO^^^^42"))
INFOS = (
    ("PID-3|1^^^&1.2.3&ISO", "PID-3|2^^^&1.2.4&ISO", "PID-5|Saar^Liis"),
    ("PID-3|1^^^&1.2.3&ISO~2^^^&1.2.4&ISO", "PID-5|Saar^Liis"),
)


@pytest.mark.parametrize("person", PEOPLE, ids=str)
async def test_people_are_taken_by_name_or_id_and_come_back_as_they_were_sent(wire: Wire, person: XCN) -> None:
    entry = document_entry(author=(author(author_person=person),), legal_authenticator=person)

    await registered(wire, submission(entry))

    stored = await entry_of(wire, entry.unique_id or "")
    assert (stored.author[0].author_person, stored.legal_authenticator) == (person, person)


async def test_organizations_are_taken_with_and_without_an_authority(wire: Wire) -> None:
    entry = document_entry(author=(author(author_institution=PLACES),))

    await registered(wire, submission(entry))

    assert (await entry_of(wire, entry.unique_id or "")).author[0].author_institution == PLACES


@pytest.mark.parametrize("info", INFOS, ids=["in two values", "in one value"])
async def test_several_ids_of_the_source_patient_are_taken_in_either_form(wire: Wire, info: tuple[str, ...]) -> None:
    entry = document_entry(source_patient_info=info)

    await registered(wire, submission(entry))

    assert (await entry_of(wire, entry.unique_id or "")).source_patient_info == info


SPELLINGS: tuple[tuple[Sequence[str], Sequence[str]], ...] = (
    (("'{patient}'",), ("('{approved}')",)),
    (("{patient}",), ("'{approved}'",)),
    ((" ( '{patient}' ) ",), (" ('{approved}' , '{deprecated}') ",)),
    (("('{patient}')",), ("('{approved}')", "('{deprecated}')")),
)


@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
async def test_a_query_is_understood_however_its_values_are_written(
    wire: Wire, spelling: tuple[Sequence[str], Sequence[str]]
) -> None:
    patient = CX.of(oid().rpartition(".")[2], "2.16.840.1.113883.2.1.4.1")
    entry = document_entry(patient_id=patient, service_start_time=DTM("20040101"))
    await registered(wire, submission(entry))
    values = {"patient": patient.text, "approved": APPROVED, "deprecated": AvailabilityStatus.DEPRECATED}
    patients, statuses = ([each.format(**values) for each in one] for one in spelling)

    for since in ("20040101", "'20040101'", "(20040101)"):
        answer = await wire.query(
            "FindDocuments",
            XDSDocumentEntryPatientId=patients,
            XDSDocumentEntryStatus=statuses,
            XDSDocumentEntryServiceStartTimeFrom=since,
        )

        assert [each.entry_uuid for each in answer.query_response.found] == [entry.entry_uuid]


async def test_a_parameter_that_comes_twice_where_it_may_once_is_not_passed_over(wire: Wire) -> None:
    parameters = (
        ("$XDSDocumentEntryPatientId", (f"'{PATIENT.text}'",)),
        ("$XDSDocumentEntryPatientId", (f"'{OTHER_PATIENT.text}'",)),
        ("$XDSDocumentEntryStatus", (f"('{APPROVED}')",)),
    )

    answer = await wire.simple(ITI_18, query_request(QueryRequest(FIND_DOCUMENTS, "LeafClass", parameters)))

    assert answer.codes == ["XDSStoredQueryParamNumber"]


# Answers --------------------------------------------------------------------------------------------------------------


async def test_every_object_comes_with_its_logical_id_and_version_though_none_was_sent(wire: Wire) -> None:
    entry, case = document_entry(), folder()
    sent = await registered(wire, submission(entry, folders=(case,), associations=(has_member(case, entry),)))
    assert b"VersionInfo" not in register_request(sent)
    update = update_of(next_version(entry))
    answer = await wire.simple(ITI_57, register_request(update))
    assert answer.registry_response.succeeded, answer.content

    answer = await wire.query(
        "GetSubmissionSetAndContents", XDSSubmissionSetEntryUUID=f"('{update.submission_set.entry_uuid}')"
    )

    (listed,) = answer.body.iter(f"{RIM}RegistryObjectList")
    objects = list(listed)
    versions = {each.get("id"): each.find(f"{RIM}VersionInfo") for each in objects}
    assert len(objects) == 3
    assert all(str(each.get("lid")).startswith("urn:uuid:") for each in objects)
    assert all(version is not None and version.get("versionName") for version in versions.values())
    (newest,) = (each for each in objects if each.tag == f"{RIM}ExtrinsicObject")
    assert newest.get("lid") == entry.entry_uuid
    assert versions[newest.get("id")].get("versionName") == "2"  # type: ignore[union-attr]


async def test_a_home_without_its_prefix_is_taken_and_answered_with_it(wire: Wire) -> None:
    entry = unmeasured(document_entry(home_community_id="1.2.840.42"))

    answer = await wire.provide(submission(entry), {entry.entry_uuid: CONTENT})
    stored = await entry_of(wire, entry.unique_id or "")
    request = DocumentRequest(stored.repository_unique_id or "", entry.unique_id or "", "1.2.840.42")
    fetched = await wire.mtom(ITI_43, retrieve_request([request]))

    assert answer.registry_response.succeeded, answer.content
    assert stored.home_community_id == "urn:oid:1.2.840.42"
    assert list(fetched.parts.values()) == [CONTENT]


@pytest.mark.parametrize("time", ["2026", "202603", "20260314", "2026031410", "202603141020", "20260314102030"])
async def test_a_time_comes_back_as_exact_as_it_was_sent_and_is_found_by_all_that_it_may_mean(
    wire: Wire, time: str
) -> None:
    patient = CX.of(oid().rpartition(".")[2], "2.16.840.1.113883.2.1.4.1")
    entry = document_entry(patient_id=patient, creation_time=DTM(time))
    await registered(wire, submission(entry))

    async def found(since: str, until: str) -> list[str]:
        answer = await wire.query(
            "FindDocuments",
            XDSDocumentEntryPatientId=f"'{patient.text}'",
            XDSDocumentEntryStatus=f"('{APPROVED}')",
            XDSDocumentEntryCreationTimeFrom=since,
            XDSDocumentEntryCreationTimeTo=until,
        )
        assert answer.codes == []
        return [each.entry_uuid for each in answer.query_response.found]

    assert (await entry_of(wire, entry.unique_id or "")).creation_time == DTM(time)
    assert len(await found("20260314102030", "20260314102031")) == 1
    assert await found("2027", "2028") == []
    assert await found("2024", "2026") == []


async def test_a_symbolic_id_of_one_message_means_nothing_in_the_next(wire: Wire) -> None:
    entry = unmeasured(document_entry(entry_uuid="Document01"))
    answer = await wire.provide(submission(entry), {"Document01": CONTENT})
    assert answer.registry_response.succeeded, answer.content
    later = document_entry()
    link = association(AssociationType.APND, later, "Document01")

    sentences = told(await wire.register(submission(later, associations=(link,))))

    assert any("Document01" in each for each in sentences)
    assert await entries_of(wire, later.unique_id or "") == []
