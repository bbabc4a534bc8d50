"""What is read of ebRIM, what is kept beyond the standard, and what is reported."""

from __future__ import annotations

import pytest
from lxml.etree import _Element

from tests.builders import document_entry, full_document_entry, has_member, submission, submission_set, text
from xds.ebxml_messages import register_request
from xds.ebxml_names import LCM, RIM
from xds.ebxml_reader import read_object, read_submission
from xds.ebxml_writer import written
from xds.errors import ErrorCode, Severity
from xds.hl7v2 import CX, DTM, XCN
from xds.metadata import (
    AssociationType,
    Classification,
    Code,
    DocumentEntry,
    ExternalIdentifier,
    LocalizedString,
    Slot,
    Submission,
)
from xds.xml import parse

SUBMISSION_SET_NODE = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
FOLDER_NODE = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"
CLASS_CODE = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a"
AUTHOR = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d"
PATIENT_ID = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"
UNIQUE_ID = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"


def request(objects: str) -> _Element:
    return parse(
        f'<lcm:SubmitObjectsRequest xmlns:lcm="{LCM}" xmlns:rim="{RIM}" xmlns="{RIM}">'
        f"<RegistryObjectList>{objects}</RegistryObjectList></lcm:SubmitObjectsRequest>".encode()
    )


def submitted(objects: str) -> Submission:
    return read_submission(request(objects))


def slot(name: str, *values: str) -> str:
    return f'<Slot name="{name}"><ValueList>{"".join(f"<Value>{each}</Value>" for each in values)}</ValueList></Slot>'


def classification(scheme: str, content: str = "", attributes: str = 'nodeRepresentation="1"', of: str = "doc1") -> str:
    return (
        f'<Classification id="c" classificationScheme="{scheme}" classifiedObject="{of}" {attributes}>'
        f"{content}</Classification>"
    )


def identifier(scheme: str, value: str, content: str = "", of: str = "doc1") -> str:
    return (
        f'<ExternalIdentifier id="i" identificationScheme="{scheme}" registryObject="{of}" value="{value}">'
        f"{content}</ExternalIdentifier>"
    )


def entry(content: str = "", attributes: str = "") -> str:
    return f'<ExtrinsicObject id="doc1" {attributes}>{content}</ExtrinsicObject>'


def the_entry(content: str = "", attributes: str = "") -> DocumentEntry:
    """The one DocumentEntry, read without complaint."""
    read = submitted(entry(content, attributes))
    assert read.findings == ()
    return read.document_entries[0]


# -------------------------------------------------------------------------------------------------- what is read


def test_a_submission_is_read_as_it_was_written() -> None:
    sent = submission(full_document_entry(), document_entry())

    assert read_submission(parse(register_request(sent))) == sent


def test_attributes_that_were_not_sent_are_none_or_empty() -> None:
    assert the_entry() == DocumentEntry(entry_uuid="doc1", object_type=None)


def test_uuids_are_read_in_lower_case_and_symbols_as_they_are() -> None:
    read = submitted(
        f"""
        <ExtrinsicObject id="URN:UUID:0A1B2C3D-0000-4000-8000-00000000000F" lid="URN:UUID:0A1B2C3D-0000-4000-8000-000000000001">
          {classification(CLASS_CODE.upper(), of="urn:uuid:0a1b2c3d-0000-4000-8000-00000000000F")}
        </ExtrinsicObject>
        <Association id="Asso1" associationType="urn:ihe:iti:2007:AssociationType:RPLC"
          sourceObject="urn:uuid:0a1B2c3d-0000-4000-8000-00000000000f" targetObject="Doc2"/>"""  # noqa: E501
    )

    assert read.findings == ()
    assert read.document_entries[0].entry_uuid == "urn:uuid:0a1b2c3d-0000-4000-8000-00000000000f"
    assert read.document_entries[0].logical_id == "urn:uuid:0a1b2c3d-0000-4000-8000-000000000001"
    assert read.document_entries[0].class_code == Code("1", None)
    assert read.associations[0].source_object == read.document_entries[0].entry_uuid
    assert (read.associations[0].entry_uuid, read.associations[0].target_object) == ("Asso1", "Doc2")


def test_white_space_around_values_is_pretty_printing() -> None:
    pretty = """<Slot name="creationTime">
      <ValueList>
        <Value>
          20260314
        </Value>
      </ValueList>
    </Slot>"""

    assert the_entry(pretty).creation_time == DTM("20260314")


def test_comments_do_not_end_a_value() -> None:
    assert the_entry("<!-- x -->" + slot("languageCode", "et<!-- Estonian -->-EE")).language_code == "et-EE"


def test_values_of_one_slot_may_be_many() -> None:
    info = ("PID-3|7^^^&amp;1.2.3&amp;ISO", "PID-5|Saar^Liis^^^", "PID-8|F")

    assert the_entry(slot("sourcePatientInfo", *info)).source_patient_info == (
        "PID-3|7^^^&1.2.3&ISO",
        "PID-5|Saar^Liis^^^",
        "PID-8|F",
    )


@pytest.mark.parametrize("pieces", [("1|http://a.example/", "2|b.txt"), ("2|b.txt", "1|http://a.example/")])
def test_a_uri_may_come_in_numbered_pieces(pieces: tuple[str, ...]) -> None:
    assert the_entry(slot("URI", *pieces)).uri == "http://a.example/b.txt"


def test_every_language_of_a_text_is_kept_with_its_charset() -> None:
    name = """<Name><LocalizedString xml:lang="et" charset="UTF-8" value="Epikriis &amp;&#10;lisa"/>
      <LocalizedString value="Summary"/></Name><Description/>"""

    read = the_entry(name)

    assert read.title == (LocalizedString("Epikriis &\nlisa", "et", "UTF-8"), LocalizedString("Summary"))
    assert read.comments == ()


def test_home_status_and_version_are_attributes_of_any_object() -> None:
    read = the_entry(
        '<VersionInfo versionName="2" comment="corrected"/>',
        'home="urn:oid:1.2.3" status="urn:oasis:names:tc:ebxml-regrep:StatusType:Approved" mimeType="text/plain"'
        ' isOpaque="false" objectType="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"',
    )

    assert (read.version, read.version_comment, read.home_community_id) == ("2", "corrected", "urn:oid:1.2.3")
    assert read.availability_status == "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
    assert (read.mime_type, read.is_opaque) == ("text/plain", "false")


def test_an_object_type_that_nobody_knows_is_kept() -> None:
    assert the_entry(attributes='objectType="urn:uuid:00000000-0000-0000-0000-000000000000"').object_type == (
        "urn:uuid:00000000-0000-0000-0000-000000000000"
    )


def test_an_author_with_an_empty_node_representation_is_in_order() -> None:
    author = classification(AUTHOR, slot("authorPerson", "^Tamm^Mari"), 'nodeRepresentation=""')

    assert the_entry(author).author[0].author_person == XCN("^Tamm^Mari")


def test_what_the_standard_does_not_know_is_kept() -> None:
    content = (
        slot("urn:example:ward", "7", "7b")
        + '<Slot name="urn:example:empty" slotType="urn:t"><ValueList/></Slot>'
        + classification("urn:example:triage", slot("codingScheme", "t") + '<Name><LocalizedString value="2"/></Name>')
        + '<Classification id="n" classifiedObject="doc1" classificationNode="urn:example:node"/>'
        + identifier("urn:example:case", "C-7", '<Name><LocalizedString value="Case"/></Name>' + slot("a", "b"))
        + classification(CLASS_CODE, slot("codingScheme", "s") + slot("urn:example:version", "3"))
    )

    read = the_entry(content)

    assert read.extra_slots == (Slot("urn:example:ward", ("7", "7b")), Slot("urn:example:empty", (), "urn:t"))
    assert read.extra_classifications == (
        Classification("urn:example:triage", "1", None, (Slot("codingScheme", ("t",)),), text("2")),
        Classification(None, None, "urn:example:node"),
    )
    assert read.extra_identifiers == (
        ExternalIdentifier("urn:example:case", "C-7", text("Case"), (), (Slot("a", ("b",)),)),
    )
    assert read.class_code == Code("1", "s", (), (Slot("urn:example:version", ("3",)),))


# -------------------------------------------------------------------------------- packages and what stands beside


def test_a_classification_inside_a_package_tells_what_it_is() -> None:
    read = submitted(
        f"""<RegistryPackage id="set"><Classification id="c" classifiedObject="set"
              classificationNode="{SUBMISSION_SET_NODE}"/></RegistryPackage>
            <RegistryPackage id="folder"><Classification id="c" classifiedObject="folder"
              classificationNode="{FOLDER_NODE.upper()}"/></RegistryPackage>"""
    )

    assert read.findings == ()
    assert [each.entry_uuid for each in read.submission_sets] == ["set"]
    assert [each.entry_uuid for each in read.folders] == ["folder"]


def test_a_classification_beside_a_package_tells_what_it_is() -> None:
    read = submitted(
        f"""<Classification id="c2" classifiedObject="folder" classificationNode="{FOLDER_NODE}"/>
            <ObjectRef id="{SUBMISSION_SET_NODE}"/>
            <RegistryPackage id="set"/><RegistryPackage id="folder"/>
            <Classification id="c1" classifiedObject="set" classificationNode="{SUBMISSION_SET_NODE}"/>"""
    )

    assert read.findings == ()
    assert [each.entry_uuid for each in read.submission_sets] == ["set"]
    assert [each.entry_uuid for each in read.folders] == ["folder"]


def test_codes_and_identifiers_beside_an_object_belong_to_it() -> None:
    read = submitted(entry() + classification(CLASS_CODE) + identifier(UNIQUE_ID, "1.2.3"))

    assert read.findings == ()
    assert read.document_entries[0].class_code == Code("1", None)
    assert read.document_entries[0].unique_id == "1.2.3"


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        ("urn:uuid:5003a9db-8d8d-49e6-bf0c-990e34ac7707", "SubmissionSet"),
        ("urn:uuid:2c144a76-29a9-4b7c-af54-b25409fe7d03", "Folder"),
    ],
)
def test_limited_metadata_tells_what_a_package_is(node: str, kind: str) -> None:
    read = submitted(
        f'<RegistryPackage id="p"><Classification id="c" classifiedObject="p" classificationNode="{node}"/>'
        "</RegistryPackage>"
    )

    assert [each.limited_metadata for each in read.submission_sets] == [True] * (kind == "SubmissionSet")
    assert [each.limited_metadata for each in read.folders] == [True] * (kind == "Folder")


def test_limited_metadata_of_an_entry_is_a_flag() -> None:
    node = '<Classification id="c" classifiedObject="doc1" classificationNode="urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85"/>'  # noqa: E501

    assert the_entry(node).limited_metadata
    assert not the_entry().limited_metadata


def test_an_association_is_read_with_its_slots_and_documentation() -> None:
    documentation = "urn:uuid:abd807a3-4432-4053-87b4-fd82c643d1f3"
    read = submitted(
        f"""<Association id="doc1" associationType="{AssociationType.HAS_MEMBER}" sourceObject="s" targetObject="t">
          {slot("SubmissionSetStatus", "Original")}{slot("PreviousVersion", "1")}{slot("OriginalStatus", "a")}
          {slot("NewStatus", "b")}{slot("AssociationPropagation", "no")}
          {classification(documentation, slot("codingScheme", "s"))}</Association>"""
    )

    assert read.findings == ()
    (association,) = read.associations
    assert (association.source_object, association.target_object) == ("s", "t")
    assert (association.submission_set_status, association.previous_version) == ("Original", "1")
    assert (association.original_status, association.new_status) == ("a", "b")
    assert association.association_propagation == "no"
    assert association.documentation == Code("1", "s")


def test_an_empty_submission_is_read() -> None:
    assert read_submission(parse(f'<lcm:SubmitObjectsRequest xmlns:lcm="{LCM}"/>'.encode())) == Submission()


def test_an_element_that_is_no_object_of_xds_can_not_be_read_as_one() -> None:
    with pytest.raises(ValueError, match="a Person is no DocumentEntry"):
        read_object(parse(f'<Person xmlns="{RIM}" id="p"/>'.encode()))


def test_one_object_is_read_by_itself() -> None:
    sent = submission_set()
    element = written(sent).replace(b"<rim:RegistryPackage", f'<rim:RegistryPackage xmlns:rim="{RIM}"'.encode(), 1)

    assert read_object(parse(element)) == sent


# --------------------------------------------------------------------------------------------- what is reported

FINDINGS = {
    "two values where one is meant": (
        entry(slot("hash", "a", "b")),
        "DocumentEntry doc1: the Slot hash has the values 'a', 'b'; send exactly one, or leave the Slot out.",
        "doc1/hash",
    ),
    "two values of the patient's": (
        entry(slot("sourcePatientId", "7^^^&amp;1.2&amp;ISO", "8^^^&amp;1.2&amp;ISO")),
        "DocumentEntry doc1: the Slot sourcePatientId has 2 values; send exactly one, or leave the Slot out.",
        "doc1/sourcePatientId",
    ),
    "no value": (
        entry(slot("size")),
        "DocumentEntry doc1: the Slot size has no value; send exactly one, or leave the Slot out.",
        "doc1/size",
    ),
    "an empty value": (
        entry(slot("serviceStartTime", " ")),
        "DocumentEntry doc1: the Slot serviceStartTime has no value; send exactly one, or leave the Slot out.",
        "doc1/serviceStartTime",
    ),
    "a slot without ValueList": (
        entry('<Slot name="URI"/>'),
        "DocumentEntry doc1: the Slot URI has no value; send exactly one, or leave the Slot out.",
        "doc1/URI",
    ),
    "pieces of a URI with a gap": (
        entry(slot("URI", "1|a", "3|b")),
        "DocumentEntry doc1: the Slot URI has the values '1|a', '3|b'; send exactly one, or leave the Slot out.",
        "doc1/URI",
    ),
    "a slot repeated": (
        entry(slot("languageCode", "et") + slot("languageCode", "en")),
        "DocumentEntry doc1: the Slot languageCode is repeated, with the value 'en'; "
        "send one Slot with all its values.",
        "doc1/languageCode",
    ),
    "a slot of the patient's repeated": (
        entry(slot("sourcePatientInfo", "PID-5|Saar") + slot("sourcePatientInfo", "PID-5|Tamm")),
        "DocumentEntry doc1: the Slot sourcePatientInfo is repeated, with 1 value; send one Slot with all its values.",
        "doc1/sourcePatientInfo",
    ),
    "an unknown slot repeated": (
        entry(slot("urn:x", "1") + slot("urn:x", "1")),
        "DocumentEntry doc1: the Slot urn:x is repeated, with the value '1'; send one Slot with all its values.",
        "doc1/urn:x",
    ),
    "a slot repeated in a classification": (
        entry(classification(CLASS_CODE, slot("codingScheme", "s") + slot("codingScheme", "t"))),
        "DocumentEntry doc1: the Slot codingScheme of its classCode is repeated, with the value 't'; "
        "send one Slot with all its values.",
        "doc1/classCode",
    ),
    "a slot without a name": (
        entry("<Slot><ValueList><Value>7</Value></ValueList></Slot>"),
        "DocumentEntry doc1: a Slot with the value '7' has no name; send its name.",
        "doc1/Slot",
    ),
    "a code with two coding schemes": (
        entry(classification(CLASS_CODE, slot("codingScheme", "s", "t"))),
        "DocumentEntry doc1: the Slot codingScheme of its classCode has the values 's', 't'; "
        "send exactly one, or leave the Slot out.",
        "doc1/classCode",
    ),
    "a single code sent twice": (
        entry(classification(CLASS_CODE) + classification(CLASS_CODE, attributes='nodeRepresentation="2"')),
        "DocumentEntry doc1: classCode is sent 2 times, as '1^^', '2^^'; send one.",
        "doc1/classCode",
    ),
    "a code of another object": (
        entry(classification(CLASS_CODE, of="doc2")),
        "DocumentEntry doc1: the classifiedObject of its classCode is 'doc2'; send doc1.",
        "doc1/classCode",
    ),
    "an unknown classification of another object": (
        entry(classification("urn:x", of="doc2")),
        "DocumentEntry doc1: the classifiedObject of its Classification is 'doc2'; send doc1.",
        "doc1/Classification",
    ),
    "an author with a code": (
        entry(classification(AUTHOR, slot("authorPerson", "^Tamm"))),
        "DocumentEntry doc1: the nodeRepresentation of its author is '1'; send none.",
        "doc1/author",
    ),
    "an author who is two persons": (
        entry(classification(AUTHOR, slot("authorPerson", "^Tamm", "^Kask"), "")),
        "DocumentEntry doc1: the Slot authorPerson of its author has the values '^Tamm', '^Kask'; "
        "send exactly one, or leave the Slot out.",
        "doc1/author",
    ),
    "an identifier sent twice": (
        entry(identifier(UNIQUE_ID, "1.2") + identifier(UNIQUE_ID, "1.3")),
        "DocumentEntry doc1: uniqueId is sent again, as '1.3'; send one ExternalIdentifier for it.",
        "doc1/uniqueId",
    ),
    "a patient id sent twice": (
        entry(identifier(PATIENT_ID, "7^^^&amp;1.2&amp;ISO") + identifier(PATIENT_ID, "8^^^&amp;1.2&amp;ISO")),
        "DocumentEntry doc1: patientId is sent again; send one ExternalIdentifier for it.",
        "doc1/patientId",
    ),
    "an identifier of another object": (
        entry(identifier(UNIQUE_ID, "1.2", of="doc2")),
        "DocumentEntry doc1: the registryObject of its uniqueId is 'doc2'; send doc1.",
        "doc1/uniqueId",
    ),
    "a package that is nothing": (
        '<RegistryPackage id="p"/>',
        "RegistryPackage p: it is neither a SubmissionSet nor a Folder; send one Classification with the "
        f"classificationNode {SUBMISSION_SET_NODE} (SubmissionSet) or {FOLDER_NODE} (Folder).",
        "p/Classification",
    ),
    "a package that is both": (
        f"""<RegistryPackage id="p"><Classification id="a" classifiedObject="p" classificationNode="{FOLDER_NODE}"/>
        <Classification id="b" classifiedObject="p" classificationNode="{SUBMISSION_SET_NODE}"/></RegistryPackage>""",
        "RegistryPackage p: it is both a SubmissionSet and a Folder; send one Classification with the "
        f"classificationNode {SUBMISSION_SET_NODE} (SubmissionSet) or {FOLDER_NODE} (Folder).",
        "p/Classification",
    ),
    "a classification of nobody": (
        entry() + classification(CLASS_CODE, of="doc3"),
        "The classifiedObject of a top-level Classification is 'doc3', the id of no object of the message; "
        "send the id of one.",
        "doc3/Classification",
    ),
    "an identifier of nobody": (
        entry() + identifier(UNIQUE_ID, "1.2", of="doc3"),
        "The registryObject of a top-level ExternalIdentifier is 'doc3', the id of no object of the message; "
        "send the id of one.",
        "doc3/ExternalIdentifier",
    ),
    "an association type of XDS.a": (
        '<Association id="a" associationType="RPLC" sourceObject="s" targetObject="t"/>',
        "Association a: associationType is 'RPLC', as in XDS.a; send urn:ihe:iti:2007:AssociationType:RPLC.",
        "a/associationType",
    ),
}


@pytest.mark.parametrize(("objects", "sentence", "location"), FINDINGS.values(), ids=FINDINGS.keys())
def test_what_metadata_can_not_express_is_reported(objects: str, sentence: str, location: str) -> None:
    (finding,) = submitted(objects).findings

    assert (finding.code_context, finding.location) == (sentence, location)
    assert (finding.code, finding.severity) == (None, Severity.ERROR)


NOT_KEPT = {
    "a version of the content": (entry('<ContentVersionInfo versionName="2"/>'), "its ContentVersionInfo"),
    "a described code": (
        entry(classification(CLASS_CODE, '<Description><LocalizedString value="x"/></Description>')),
        "the Description of its classCode",
    ),
    "a named author": (
        entry(classification(AUTHOR, '<Name><LocalizedString value="x"/></Name>', "")),
        "the Name or Description of an author's Classification",
    ),
    "a described identifier": (
        entry(identifier(UNIQUE_ID, "1.2", slot("a", "b"))),
        "a Description or Slot of its uniqueId",
    ),
    "a classified classification": (
        entry(classification(CLASS_CODE, classification(AUTHOR))),
        "what is nested in its classCode",
    ),
    "a classified identifier": (
        entry(identifier("urn:x", "1.2", classification(AUTHOR))),
        "what is nested in its ExternalIdentifier",
    ),
}


@pytest.mark.parametrize(("objects", "lost"), NOT_KEPT.values(), ids=NOT_KEPT.keys())
def test_what_has_no_place_in_xds_is_answered_with_a_warning(objects: str, lost: str) -> None:
    (finding,) = submitted(objects).findings

    assert finding.code_context == (
        f"DocumentEntry doc1: {lost} has no place in XDS metadata and was not kept; leave it out."
    )
    assert (finding.code, finding.severity) == (ErrorCode.EXTRA_METADATA_NOT_SAVED, Severity.WARNING)


def test_an_object_that_xds_does_not_know_is_answered_with_a_warning() -> None:
    (finding,) = submitted('<Person id="p"/>').findings

    assert finding.code_context == (
        "Person p is no object of XDS and was not kept; send ExtrinsicObject, RegistryPackage and Association."
    )
    assert (finding.code, finding.severity) == (ErrorCode.EXTRA_METADATA_NOT_SAVED, Severity.WARNING)


def test_after_a_complaint_the_first_value_is_judged_on() -> None:
    read = submitted(
        entry(
            slot("hash", "a", "b")
            + slot("languageCode", "et")
            + slot("languageCode", "en")
            + identifier(PATIENT_ID, "7^^^&amp;1.2&amp;ISO")
            + identifier(PATIENT_ID, "8^^^&amp;1.2&amp;ISO")
        )
    ).document_entries[0]

    assert (read.hash, read.language_code, read.patient_id) == ("a", "et", CX("7^^^&1.2&ISO"))


def test_a_short_association_type_is_read_as_the_one_it_means() -> None:
    read = submitted('<Association id="a" associationType="HasMember" sourceObject="s" targetObject="t"/>')

    assert read.associations[0].association_type == AssociationType.HAS_MEMBER


def test_an_unknown_association_type_is_left_to_the_rules() -> None:
    read = submitted('<Association id="a" associationType="urn:x:APND_TXFM" sourceObject="s" targetObject="t"/>')

    assert read.findings == ()
    assert read.associations[0].association_type == "urn:x:APND_TXFM"


def test_everything_that_is_wrong_is_reported_at_once() -> None:
    read = submitted(entry(slot("hash", "a", "b") + slot("size")) + '<RegistryPackage id="p"/>')

    assert [each.location for each in read.findings] == ["doc1/hash", "doc1/size", "p/Classification"]


def test_associations_keep_the_order_in_which_they_were_sent() -> None:
    owner = submission_set()
    entries = [document_entry() for _ in range(3)]
    sent = Submission(
        submission_sets=(owner,),
        document_entries=tuple(entries),
        associations=tuple(has_member(owner, each) for each in reversed(entries)),
    )

    assert read_submission(parse(register_request(sent))).associations == sent.associations
