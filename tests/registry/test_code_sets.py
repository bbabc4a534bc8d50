"""The codes of the affinity domain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.code_sets import CODED_ATTRIBUTES, CodeSet, CodeSets, Policy
from tests.builders import (
    LOINC,
    association,
    code,
    document_entry,
    entry_uuid,
    folder,
    submission,
)
from xds.errors import Severity
from xds.metadata import AssociationType, Code, Submission
from xds.metadata_names import term

EVERY_ATTRIBUTE = sorted(attribute for attributes in CODED_ATTRIBUTES.values() for attribute in attributes)


def with_every_code() -> Submission:
    entry = document_entry(event_code_list=(code("1"),))
    link = association(AssociationType.RPLC, entry, entry_uuid(), documentation=code("2"))
    return submission(entry, folders=(folder(),), associations=(link,))


def only(attribute: str, *values: str, policy: Policy = Policy.REJECT) -> CodeSets:
    return CodeSets({attribute: CodeSet(frozenset(values), policy)})


@pytest.mark.parametrize("attribute", EVERY_ATTRIBUTE)
def test_a_code_that_the_affinity_domain_does_not_have_is_found(attribute: str) -> None:
    [finding] = only(attribute, "4711^^1.2.3").findings(with_every_code())

    assert finding.code_context.startswith(f"{term(attribute)} of ")
    assert finding.code is None
    assert finding.severity is Severity.ERROR


def test_a_code_that_it_has_passes() -> None:
    entry = document_entry()
    assert entry.class_code is not None

    assert only("class_code", entry.class_code.coded).findings(submission(entry)) == []


def test_each_of_several_codes_is_judged() -> None:
    entry = document_entry(event_code_list=(code("1"), code("2"), code("3")))

    found = only("event_code_list", f"2^^{LOINC}").findings(submission(entry))

    assert [finding.code_context.split("'")[1] for finding in found] == [f"1^^{LOINC}", f"3^^{LOINC}"]


def test_the_same_code_of_another_scheme_is_another_code() -> None:
    assert only("class_code", "18842-5^^1.2.3").findings(submission(document_entry()))


def test_a_warning_is_not_an_error() -> None:
    [finding] = only("mime_type", "application/pdf", policy=Policy.WARN).findings(submission(document_entry()))

    assert finding.severity is Severity.WARNING


def test_what_is_to_be_accepted_is_not_told() -> None:
    assert only("mime_type", "application/pdf", policy=Policy.ACCEPT).findings(submission(document_entry())) == []


def test_an_affinity_domain_without_code_sets_takes_any_code() -> None:
    assert CodeSets().findings(with_every_code()) == []


@pytest.mark.parametrize("incomplete", [None, Code("N", None), Code(None, "1.2.3")])
def test_an_incomplete_code_is_left_to_the_rules(incomplete: Code | None) -> None:
    assert only("class_code", "1^^1.2.3").findings(submission(document_entry(class_code=incomplete))) == []


def test_codes_of_the_same_scheme_are_named() -> None:
    known = (f"18842-5^^{LOINC}", f"57133-1^^{LOINC}", "18842-6^^1.2.3")

    [finding] = only("class_code", *known).findings(submission(document_entry(class_code=code("18842-6"))))

    assert finding.code_context.endswith(f"; send 18842-5^^{LOINC} or 57133-1^^{LOINC}.")


@pytest.mark.parametrize(
    ("sent", "named"),
    [("A", "A00 or A01 or A02 or A03 or A04"), ("c50", "C48 or C49 or C51 or C52 or C53"), ("zz", "E95 or E96")],
)
def test_the_neighbours_of_a_code_are_named_where_there_are_many(sent: str, named: str) -> None:
    known = (f"{letter}{number:02}^^1.2.3" for letter in "ABCDE" for number in range(97) if number != 50)

    [finding] = only("class_code", *known).findings(submission(document_entry(class_code=code(sent, "1.2.3"))))

    assert named in finding.code_context.replace("^^1.2.3", "")
    assert "or one of 475 others" in finding.code_context


def test_a_scheme_that_is_unknown_is_answered_with_known_ones() -> None:
    found = only("class_code", "1^^1.2.3").findings(submission(document_entry(class_code=code("1", "1.2.4"))))

    assert "send 1^^1.2.3" in found[0].code_context


def test_an_empty_code_set_says_so() -> None:
    [finding] = only("class_code").findings(submission(document_entry()))

    assert finding.code_context.endswith("it has none for this attribute.")


def test_the_object_and_the_attribute_are_located() -> None:
    whole = submission(document_entry(entry_uuid="Document01"))

    [finding] = only("language_code", "en").findings(replace(whole, associations=()))

    assert finding.location == "Document01/languageCode"
