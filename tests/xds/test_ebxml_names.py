"""The tables of xds/ebxml_names.py against the classes of xds/metadata.py."""

from __future__ import annotations

from dataclasses import fields

import pytest

from xds.ebxml_names import AUTHOR_SLOTS, PACKAGE_NODES, SHORT_ASSOCIATION_TYPES, SPELLINGS, Spelling
from xds.metadata import (
    AnyObject,
    Association,
    AssociationType,
    Author,
    DocumentEntry,
    Folder,
    ObjectKind,
    RegistryObject,
    SubmissionSet,
)

# Attributes that are XML attributes or children of their own, and those that the rows are read beside.
_WITHOUT_ROW = {
    ObjectKind.DOCUMENT_ENTRY: {"author", "is_opaque", "limited_metadata", "mime_type", "object_type"},
    ObjectKind.SUBMISSION_SET: {"author", "limited_metadata"},
    ObjectKind.FOLDER: {"limited_metadata"},
    ObjectKind.ASSOCIATION: {"association_type", "source_object", "target_object"},
}


@pytest.mark.parametrize("kind", [DocumentEntry, SubmissionSet, Folder, Association])
def test_every_attribute_of_an_object_is_spelt_once(kind: type[AnyObject]) -> None:
    spelling = SPELLINGS[kind.kind]

    spelt = [row.attribute for row in spelling.slots]
    spelt += [row.attribute for row in spelling.codes]
    spelt += [row.attribute for row in spelling.identifiers]

    own = {each.name for each in fields(kind)} - {each.name for each in fields(RegistryObject)}
    assert sorted(spelt) == sorted(own - _WITHOUT_ROW[kind.kind])


def test_every_attribute_of_an_author_is_spelt_once() -> None:
    assert [row.attribute for row in AUTHOR_SLOTS] == [
        each.name for each in fields(Author) if each.name != "extra_slots"
    ]


def test_no_two_attributes_share_a_scheme_or_node() -> None:
    schemes = [each for spelling in SPELLINGS.values() for each in _schemes(spelling)]

    assert len(schemes) == len(set(schemes)) == 24


def _schemes(spelling: Spelling) -> list[str]:
    own = (spelling.author_scheme, spelling.kind_node, spelling.limited_metadata_node)
    rows = [row.scheme for row in spelling.codes] + [row.scheme for row in spelling.identifiers]
    return rows + [each for each in own if each]


def test_a_package_is_known_by_its_own_node_and_by_that_of_limited_metadata() -> None:
    assert {node: spelling.kind.value for node, spelling in PACKAGE_NODES.items()} == {
        "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd": "SubmissionSet",
        "urn:uuid:5003a9db-8d8d-49e6-bf0c-990e34ac7707": "SubmissionSet",
        "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2": "Folder",
        "urn:uuid:2c144a76-29a9-4b7c-af54-b25409fe7d03": "Folder",
    }


def test_every_association_type_has_a_short_name_of_its_own() -> None:
    assert sorted(SHORT_ASSOCIATION_TYPES.values()) == sorted(AssociationType)
    assert SHORT_ASSOCIATION_TYPES["XFRM_RPLC"] is AssociationType.XFRM_RPLC
