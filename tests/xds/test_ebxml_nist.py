"""The submissions of the NIST XDS Toolkit are read, written, and read again without a difference."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from tests.official_schemas import assert_valid, needs_official_schemas
from tests.shared_material import SHARED
from xds.ebxml_messages import register_request
from xds.ebxml_names import LCM, RIM, SHORT_ASSOCIATION_TYPES
from xds.ebxml_reader import read_submission
from xds.metadata import Submission
from xds.xml import parse

_TESTKIT = SHARED / "nist-testkit" / "testkit"
_RIM_2_1 = "urn:oasis:names:tc:ebxml-regrep:rim:xsd:2.1"
_OBJECTS = ("ExtrinsicObject", "RegistryPackage", "Association")

pytestmark = pytest.mark.skipif(
    not _TESTKIT.is_dir(), reason="the NIST test cases are not in ../shared/nist-testkit/testkit"
)


def submissions() -> dict[str, etree._Element]:
    """Every SubmitObjectsRequest of the test kit, those of ebRIM 2.1 put into the names of 3.0."""
    found = {}
    for path in sorted(_TESTKIT.rglob("*.xml")):
        text = path.read_text()
        if "SubmitObjectsRequest" not in text or path.name == "testplan.xml":
            continue
        for number, request in enumerate(etree.fromstring(text.encode()).iter("{*}SubmitObjectsRequest")):
            found[f"{path.relative_to(_TESTKIT)}-{number}"] = in_version_3(request)
    return found


def in_version_3(request: etree._Element) -> etree._Element:
    """A list of its own with the same objects."""
    submit = etree.Element(f"{{{LCM}}}SubmitObjectsRequest")
    objects = etree.SubElement(submit, f"{{{RIM}}}RegistryObjectList")
    for parent in ("LeafRegistryObjectList", "RegistryObjectList"):
        objects.extend(request.findall(f"{{*}}{parent}/{{*}}*"))
    for element in objects.iter("{*}*"):
        name = etree.QName(element)
        if name.namespace == _RIM_2_1:
            element.tag = f"{{{RIM}}}{name.localname}"
            full = SHORT_ASSOCIATION_TYPES.get(element.get("associationType", ""))
            if full:
                element.set("associationType", full)
    return submit


SUBMISSIONS = submissions() if _TESTKIT.is_dir() else {}


def again(submission: Submission) -> Submission:
    return read_submission(parse(register_request(submission)))


def test_the_test_kit_is_there_as_a_whole() -> None:
    assert len([each for each in SUBMISSIONS if Path(each).name.startswith("metadata.xml")]) == 25
    assert len(SUBMISSIONS) > 100


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_a_submission_survives(name: str) -> None:
    read = read_submission(SUBMISSIONS[name])

    objects = [SUBMISSIONS[name].findall(f".//{{{RIM}}}{kind}") for kind in _OBJECTS]
    assert len(read.objects) == sum(map(len, objects)) > 0
    assert read.findings == ()
    assert again(read) == read
    assert register_request(again(read)) == register_request(read)


@needs_official_schemas
@pytest.mark.parametrize("name", SUBMISSIONS)
def test_a_submission_is_written_validly(name: str) -> None:
    assert_valid(register_request(read_submission(SUBMISSIONS[name])))
