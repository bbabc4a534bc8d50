"""Metadata survives the way through ebRIM and back, and what is written is what the standard wants to see."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from lxml import etree

from tests.builders import association, document_entry, folder, full_document_entry, registered, submission_set, text
from tests.official_schemas import assert_valid, needs_official_schemas
from tests.strategies import objects, submissions
from xds.ebxml_names import LCM, RIM
from xds.ebxml_reader import read_object, read_rendering
from xds.ebxml_writer import codec, legible, written
from xds.metadata import AnyObject, AssociationType, LocalizedString, Slot, Submission
from xds.metadata_rules import findings
from xds.transactions import ITI_42

EVERY_KIND: list[AnyObject] = [
    full_document_entry(logical_id="urn:uuid:0a1b2c3d-0000-4000-8000-000000000001"),
    registered(submission_set(limited_metadata=True, intended_recipient=("|^Tamm", "Kliinikum"))),
    registered(folder()),
    registered(
        association(
            AssociationType.XFRM_RPLC, document_entry(), document_entry(), previous_version="1", title=text("x")
        )
    ),
]
_KINDS = [each.kind for each in EVERY_KIND]


def element(item: AnyObject) -> etree._Element:
    rendering = written(item)
    end = rendering.index(b" ")
    return etree.fromstring(rendering[:end] + f' xmlns:rim="{RIM}"'.encode() + rendering[end:])


def nested_ids(item: AnyObject) -> list[str]:
    return [each.get("id", "") for each in element(item).iter() if each.get("id")][1:]


@settings(max_examples=200, deadline=None)
@given(objects())
def test_every_object_is_read_as_it_was_written(item: AnyObject) -> None:
    rendering = written(item)

    assert read_rendering(rendering) == item
    assert written(read_rendering(rendering)) == rendering


@settings(max_examples=30, deadline=None)
@given(submissions())
def test_metadata_drawn_for_property_tests_passes_the_rules(submission: Submission) -> None:
    assert findings(submission, ITI_42) == []


@pytest.mark.parametrize("item", EVERY_KIND, ids=_KINDS)
def test_the_codec_of_the_registry_reads_what_it_writes(item: AnyObject) -> None:
    assert codec.read(codec.written(item)) == item


@needs_official_schemas
@pytest.mark.parametrize("item", EVERY_KIND, ids=_KINDS)
def test_every_kind_of_object_is_valid(item: AnyObject) -> None:
    request = etree.fromstring(
        f'<SubmitObjectsRequest xmlns="{LCM}"><RegistryObjectList xmlns="{RIM}"/></SubmitObjectsRequest>'
    )
    request[0].append(element(item))

    assert_valid(request)


@pytest.mark.parametrize("item", EVERY_KIND, ids=_KINDS)
def test_a_rendering_leaves_the_declaration_of_its_prefix_to_what_encloses_it(item: AnyObject) -> None:
    rendering = written(item).decode()

    assert "xmlns" not in rendering
    assert set(re.findall(r"[</ ]([a-z]+):\w+[ =/>]", rendering)) <= {"rim", "xml"}


@pytest.mark.parametrize("item", EVERY_KIND, ids=_KINDS)
def test_nested_ids_are_uuids_that_no_other_object_has(item: AnyObject) -> None:
    other = replace(item, entry_uuid="urn:uuid:0a1b2c3d-0000-4000-8000-000000000002")
    ids = nested_ids(item) + nested_ids(other)

    assert len(set(ids)) == len(ids)
    for each in ids:
        assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", each)


def test_nested_ids_stay_when_the_status_changes() -> None:
    item = full_document_entry()

    assert nested_ids(replace(item, availability_status="urn:x:Deprecated")) == nested_ids(item)


def test_an_object_with_a_symbolic_id_has_symbols_inside() -> None:
    assert nested_ids(submission_set(entry_uuid="set&1"))[:2] == ["set&1.1", "set&1.2"]


def test_children_stand_in_the_order_of_the_schema() -> None:
    names = [etree.QName(child).localname for child in element(full_document_entry())]

    runs = [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]
    assert runs == ["Slot", "Name", "Description", "VersionInfo", "Classification", "ExternalIdentifier"]


def test_classifications_and_identifiers_name_their_object() -> None:
    item = full_document_entry()

    for child in element(item):
        owner = {"Classification": "classifiedObject", "ExternalIdentifier": "registryObject"}
        name = owner.get(etree.QName(child).localname)
        assert name is None or child.get(name) == item.entry_uuid


def test_what_was_not_given_is_not_written() -> None:
    assert written(association("urn:x", "a", "b", entry_uuid="c")) == (
        b'<rim:Association id="c" objectType="urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:Association"'
        b' associationType="urn:x" sourceObject="a" targetObject="b"></rim:Association>'
    )


def test_markup_in_metadata_is_escaped() -> None:
    nasty = "a & b < c > d \" e ' f\tg\nh\ri ]]> &amp;"
    item = document_entry(
        title=(LocalizedString(nasty, "en"),), source_patient_info=(nasty,), extra_slots=(Slot(nasty, (nasty,), "t"),)
    )

    assert read_object(element(item)) == item


@pytest.mark.parametrize("character", ["\x00", "\x0b", "\x1f", "\ud800", "\ufffe", "\uffff"])
def test_characters_that_xml_can_not_carry_are_refused(character: str) -> None:
    with pytest.raises(ValueError, match=rf"U\+{ord(character):04X} can not be written in XML 1\.0"):
        written(document_entry(comments=text(f"a{character}")))


def test_characters_that_xml_can_not_carry_are_replaced_in_sentences() -> None:
    assert legible("a\x00b\ud800<\n") == "a\ufffdb\ufffd<\n"


@pytest.mark.parametrize("length", [250, 251, 256, 1001])
def test_a_uri_longer_than_a_value_is_cut_into_pieces(length: int) -> None:
    item = document_entry(uri="u" * length)

    assert all(len(value.text or "") <= 256 for value in element(item).iter(f"{{{RIM}}}Value"))
    assert read_object(element(item)) == item
