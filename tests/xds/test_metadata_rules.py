"""Every rule that a submission can break, by the sentence that its sender gets."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import (
    association,
    code,
    document_entry,
    entry_uuid,
    folder,
    full_document_entry,
    has_member,
    oid,
    submission,
    text,
    unmeasured,
)
from tests.xds.broken_submissions import BROKEN_MESSAGES, ILLEGAL_VALUES, Broken, with_changes
from tests.xds.broken_updates import BROKEN_UPDATES, next_version, update_of
from xds.errors import ErrorCode, Finding
from xds.hl7v2 import CX, DTM
from xds.message_rules import ASSOCIATION_RULES, MESSAGE_RULES, AssociationRule, Message, MessageRule
from xds.metadata import AssociationType, DocumentEntryType, Folder, ObjectKind, Slot, SubmissionSet
from xds.metadata_names import term
from xds.metadata_rules import (
    ATTRIBUTE_RULES,
    LEFT_OUT_WHEN_LIMITED,
    OBJECT_RULES,
    AttributeRule,
    ObjectRule,
    Tolerance,
    findings,
)
from xds.transactions import ITI_41, ITI_42, ITI_57, ITI_61, ITI_92, Transaction

EVERY_RULE = [(kind, rule) for kind, rules in ATTRIBUTE_RULES.items() for rule in rules]
REQUIRED = [
    pytest.param(transaction, kind, rule, id=f"{transaction.name} {kind} {rule.attribute}")
    for transaction in (ITI_41, ITI_42)
    for kind, rule in EVERY_RULE
    if transaction.name in rule.required and rule.attribute != "entry_uuid"
]
ILLEGAL = [
    pytest.param(kind, attribute, value, words, id=f"{kind} {attribute} {words}")
    for kind, attributes in ILLEGAL_VALUES.items()
    for attribute, values in attributes.items()
    for value, words in values
]


def sentences(found: list[Finding]) -> str:
    return "\n".join(finding.code_context for finding in found)


@pytest.mark.parametrize(("transaction", "kind", "rule"), REQUIRED)
def test_a_required_attribute_that_is_missing_is_named(
    transaction: Transaction, kind: ObjectKind, rule: AttributeRule
) -> None:
    absent: Any = () if rule.attribute in ("confidentiality_code", "code_list", "title") else None
    broken = with_changes(kind, **{rule.attribute: absent})

    [finding] = findings(broken, transaction)

    assert finding.code_context.startswith(f"{term(rule.attribute)} of {kind} ")
    assert finding.code_context.endswith(f"is missing; send {rule.form.send}.")
    assert finding.location.endswith(f"/{term(rule.attribute)}")
    assert finding.code is None


@pytest.mark.parametrize(("kind", "attribute", "value", "words"), ILLEGAL)
def test_an_attribute_with_an_illegal_value_is_named_with_what_to_send(
    kind: ObjectKind, attribute: str, value: Any, words: str
) -> None:
    found = findings(with_changes(kind, **{attribute: value}), ITI_42)

    told = [each for each in found if each.location.endswith(f"/{term(attribute)}") and words in each.code_context]
    assert len(told) == 1, sentences(found)
    assert f" of {kind} " in told[0].code_context
    assert told[0].code is None


def test_every_attribute_rule_has_a_value_that_breaks_it() -> None:
    assert {(kind, rule.attribute) for kind, rule in EVERY_RULE} == {
        (kind, attribute) for kind, attributes in ILLEGAL_VALUES.items() for attribute in attributes
    }


def test_every_attribute_rule_is_about_an_attribute_that_exists() -> None:
    kinds = {type(item).kind: type(item) for item in with_changes(ObjectKind.FOLDER).objects}

    for kind, rule in EVERY_RULE:
        assert rule.attribute in {each.name for each in fields(kinds[kind])}


@pytest.mark.parametrize("broken", BROKEN_MESSAGES, ids=lambda broken: broken.name)
def test_what_is_wrong_with_a_message_is_told_with_the_code_of_the_standard(broken: Broken) -> None:
    found = findings(broken.submission, ITI_42)

    assert broken.code in {each.code for each in found if broken.words in each.code_context}, sentences(found)


@pytest.mark.parametrize(("transaction", "broken"), BROKEN_UPDATES, ids=lambda each: each.name)
def test_what_is_wrong_with_an_update_is_told_with_the_code_of_the_standard(
    transaction: Transaction, broken: Broken
) -> None:
    found = findings(broken.submission, transaction)

    assert broken.code in {each.code for each in found if broken.words in each.code_context}, sentences(found)


@pytest.mark.parametrize("transaction", [ITI_57, ITI_92], ids=lambda each: each.name)
def test_an_update_without_fault_passes(transaction: Transaction) -> None:
    on_demand = document_entry(
        object_type=DocumentEntryType.ON_DEMAND, creation_time=None, hash=None, size=None, legal_authenticator=None
    )
    unmeasured_version = next_version(unmeasured(document_entry()))

    for item in (next_version(full_document_entry()), next_version(on_demand), unmeasured_version):
        assert findings(update_of(item), transaction) == []


def test_an_on_demand_entry_says_nothing_of_a_document_that_is_not_made_yet() -> None:
    entry = document_entry(object_type=DocumentEntryType.ON_DEMAND)
    right = replace(entry, creation_time=None, hash=None, size=None)

    found = findings(submission(entry), ITI_61)

    assert {each.location.rpartition("/")[2] for each in found} == {"creationTime", "hash", "size"}
    assert findings(submission(right), ITI_61) == []
    assert [each.location.rpartition("/")[2] for each in findings(submission(document_entry()), ITI_61)] == [
        "objectType"
    ]


EVERY_BROKEN = [(ITI_42, each) for each in BROKEN_MESSAGES] + list(BROKEN_UPDATES)


@pytest.mark.parametrize("rule", ASSOCIATION_RULES, ids=lambda rule: rule.problem.__name__)
def test_every_rule_about_associations_is_broken_by_an_example(rule: AssociationRule) -> None:
    assert any(
        rule.broken(link)
        for transaction, each in EVERY_BROKEN
        if rule.transactions is None or transaction.name in rule.transactions
        for link in Message.of(each.submission).links()
    )


@pytest.mark.parametrize("rule", MESSAGE_RULES, ids=lambda rule: rule.__name__)
def test_every_rule_about_messages_is_broken_by_an_example(rule: MessageRule) -> None:
    assert any(list(rule(Message.of(each.submission), transaction)) for transaction, each in EVERY_BROKEN)


@pytest.mark.parametrize("rule", OBJECT_RULES, ids=lambda rule: rule.complaints.__name__)
def test_every_rule_about_objects_is_broken_by_an_example(rule: ObjectRule) -> None:
    assert any(
        list(rule.complaints(item))
        for transaction, each in EVERY_BROKEN
        for item in each.submission.objects
        if item.kind in rule.kinds and transaction.name in rule.transactions
    )


@pytest.mark.parametrize("transaction", [ITI_41, ITI_42], ids=lambda each: each.name)
def test_metadata_with_every_attribute_passes(transaction: Transaction) -> None:
    entry, package = full_document_entry(), folder(last_update_time=DTM("20260314102000"))
    replacement = association(AssociationType.RPLC, entry, entry_uuid(), documentation=code("1", "1.2.3"))
    links = (replacement, has_member(package, entry), association(AssociationType.SIGNS, entry, entry_uuid()))

    assert findings(submission(entry, folders=(package,), associations=links), transaction) == []


def test_a_source_may_use_symbolic_ids() -> None:
    entry, package = document_entry(entry_uuid="Document01"), folder(entry_uuid="Folder01")
    link = has_member(package, entry, entry_uuid="as01")

    assert findings(submission(entry, folders=(package,), associations=(link,)), ITI_42) == []


def test_ids_that_differ_only_in_case_name_one_object() -> None:
    entry = document_entry()
    whole = submission(entry)
    [link] = whole.associations

    shouted = replace(whole, associations=(replace(link, target_object=link.target_object.upper()),))

    assert findings(shouted, ITI_42) == []


def test_a_source_of_iti_41_leaves_hash_size_and_repository_to_the_repository() -> None:
    assert findings(submission(unmeasured(document_entry())), ITI_41) == []


@pytest.mark.parametrize(("attribute", "value"), [("hash", "abc"), ("size", "many"), ("repository_unique_id", "here")])
def test_what_a_source_of_iti_41_says_of_the_document_must_be_well_formed(attribute: str, value: str) -> None:
    [finding] = findings(submission(document_entry(**{attribute: value})), ITI_41)

    assert finding.code_context.startswith(f"{term(attribute)} of DocumentEntry ")


def test_iti_41_has_its_own_code_for_a_uniqueid_that_is_used_twice() -> None:
    unique_id = oid()
    [finding] = findings(submission(document_entry(unique_id=unique_id), document_entry(unique_id=unique_id)), ITI_41)

    assert finding.code is ErrorCode.REPOSITORY_DUPLICATE_UNIQUE_ID_IN_MESSAGE


def test_the_findings_of_the_reader_come_first() -> None:
    unread = Finding("creationTime was sent twice.")
    broken = replace(submission(document_entry(class_code=None)), findings=(unread,))

    found = findings(broken, ITI_42)

    assert found[0] is unread
    assert "classCode" in found[1].code_context


def test_everything_that_is_wrong_is_told_at_once() -> None:
    entry = document_entry(class_code=None, hash="abc", mime_type="pdf", creation_time=DTM("x"))

    found = findings(submission(entry, source_id="here", submission_time=None), ITI_42)

    assert sorted(each.location.rpartition("/")[2] for each in found) == [
        "classCode", "creationTime", "hash", "mimeType", "sourceId", "submissionTime",
    ]  # fmt: skip


def test_slots_of_a_source_may_have_many_values() -> None:
    assert findings(submission(document_entry(extra_slots=(Slot("urn:example:wards", ("7", "8", "9")),))), ITI_42) == []


def test_any_mime_type_passes() -> None:
    assert findings(submission(document_entry(mime_type="text/goofy")), ITI_42) == []


def test_a_uri_longer_than_one_slot_value_passes() -> None:
    assert findings(submission(document_entry(uri="x" * 600)), ITI_42) == []


def test_patient_information_is_not_repeated_in_a_sentence() -> None:
    [finding] = findings(submission(document_entry(source_patient_info=("Saar, Liis",))), ITI_42)

    assert "Saar" not in finding.code_context


def test_a_long_value_is_cut_in_the_sentence() -> None:
    [finding] = findings(submission(document_entry(language_code="e" * 5000)), ITI_42)

    assert len(finding.code_context) < 400


def test_a_document_may_stay_out_of_the_folder_of_its_submission() -> None:
    assert findings(submission(document_entry(), folders=(folder(),)), ITI_42) == []


def test_a_registered_document_is_a_member_by_reference() -> None:
    whole = submission(document_entry())
    link = has_member(whole.submission_set, entry_uuid(), submission_set_status="Reference")

    assert findings(replace(whole, associations=(*whole.associations, link)), ITI_42) == []


ANY_TEXT = st.text(max_size=40) | st.none()


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, st.text(max_size=60))
def test_whatever_is_sent_is_judged_and_never_fails(
    unique_id: str | None, size: str | None, status: str | None, anything: str
) -> None:
    entry = document_entry(
        entry_uuid=anything, unique_id=unique_id, size=size, patient_id=CX(anything), creation_time=DTM(anything),
        service_start_time=DTM(anything), service_stop_time=DTM("2026"), availability_status=status,
        title=text(anything), source_patient_info=(anything,), extra_slots=(Slot(anything), Slot(anything)),
    )  # fmt: skip
    link = association(anything, anything, anything, submission_set_status=status)

    found = findings(submission(entry, folders=(folder(),), associations=(link,)), ITI_42)

    assert found
    assert all(finding.code_context for finding in found)


def test_the_builders_are_valid() -> None:
    whole = submission(document_entry(), folders=(folder(),))

    assert isinstance(whole.submission_sets[0], SubmissionSet)
    assert isinstance(whole.folders[0], Folder)
    assert findings(whole, ITI_42) == []


@pytest.mark.parametrize("transaction", [ITI_41, ITI_42], ids=lambda each: each.name)
def test_limited_metadata_lacks_what_it_may_where_it_is_taken(transaction: Transaction) -> None:
    nothing = {
        name: () if name == "confidentiality_code" else None
        for name in LEFT_OUT_WHEN_LIMITED - {"code_list", "content_type_code", "title"}
    }
    entry = document_entry(limited_metadata=True, **nothing)
    sent = submission(entry, limited_metadata=True, content_type_code=None)

    assert findings(sent, transaction, Tolerance(limited_metadata=True)) == []
    assert len(findings(sent, transaction)) == len(nothing) + 3


def test_limited_metadata_is_not_limited_in_what_everybody_must_say() -> None:
    entry = document_entry(limited_metadata=True, mime_type=None, unique_id=None)

    found = findings(submission(entry, source_id=None), ITI_42, Tolerance(limited_metadata=True))

    assert sorted(each.location.rpartition("/")[2] for each in found) == ["mimeType", "sourceId", "uniqueId"]


def test_metadata_that_does_not_say_that_it_is_limited_is_whole() -> None:
    [finding] = findings(submission(document_entry(class_code=None)), ITI_42, Tolerance(limited_metadata=True))

    assert "classCode" in finding.code_context
