"""How a stored query is read before the registry looks for anything."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from tests.shared_material import shared
from xds.actors import QueryRequest, ReturnType
from xds.errors import ErrorCode, RegistryError, Severity, XdsError
from xds.metadata import AvailabilityStatus, DocumentEntryType, ObjectKind
from xds.stored_queries import (
    METADATA_LEVEL,
    STORED_QUERIES,
    Answer,
    BoundQuery,
    Condition,
    Operator,
    Parameter,
    StoredQuery,
    bind,
    coded_parameter,
    listed,
    values_of,
)
from xds.transactions import ITI_18, ITI_51

IDS = {
    "FindDocuments": "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d",
    "FindDocumentsByReferenceId": "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492",
    "FindFolders": "urn:uuid:958f3006-baad-4929-a4de-ff1114824431",
    "FindSubmissionSets": "urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9",
    "GetAll": "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3",
    "GetAssociations": "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155",
    "GetDocuments": "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4",
    "GetDocumentsAndAssociations": "urn:uuid:bab9529a-4a10-40b3-a01f-f68a615d247a",
    "GetFolderAndContents": "urn:uuid:b909a503-523d-4517-8acf-8e5834dfc4c7",
    "GetFolders": "urn:uuid:5737b14c-8a1a-4539-b659-e03a34a5e1e4",
    "GetFoldersForDocument": "urn:uuid:10cae35a-c7f9-4cf5-b61e-fc3278ffb578",
    "GetRelatedDocuments": "urn:uuid:d90e5407-b356-4d91-a89f-873917b4b0e6",
    "GetSubmissionSetAndContents": "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83",
    "GetSubmissionSets": "urn:uuid:51224314-5390-4169-9b91-b1980040715a",
    "FindDocumentsExclude": "urn:uuid:4308b1df-36de-4bef-8e2e-ba91f593c435",
    "FindDocumentsForMultiplePatients": "urn:uuid:3d1bdb10-39a2-11de-89c2-2f44d94eaa9f",
    "FindFoldersForMultiplePatients": "urn:uuid:50d3f5ac-39a2-11de-a1ca-b366239e58df",
    "FindDocumentsByReferenceIdForMultiplePatients": "urn:uuid:1191642d-86c4-42d8-b784-f95445f9f0d5",
}
ROWS = {row.name: row for row in STORED_QUERIES.values()}

PATIENT = "9434765919^^^&2.16.840.1.113883.2.1.4.1&ISO"
APPROVED = AvailabilityStatus.APPROVED.value
DEPRECATED = AvailabilityStatus.DEPRECATED.value
STABLE = DocumentEntryType.STABLE.value
ON_DEMAND = DocumentEntryType.ON_DEMAND.value
A_UUID = "urn:uuid:0f1d2c3b-4a59-4687-8796-a5b4c3d2e1f0"

Sent = Sequence[tuple[str, str | tuple[str, ...]]]

OF_A_PATIENT: Sent = (("$XDSDocumentEntryPatientId", f"'{PATIENT}'"), ("$XDSDocumentEntryStatus", f"('{APPROVED}')"))

VALUES = {  # by what ends the name of a parameter: as it is sent, as it is compared
    "PatientId": (f"'{PATIENT}'", PATIENT),
    "patientId": (f"'{PATIENT}'", PATIENT),
    "Status": (f"('{APPROVED}')", APPROVED),
    "UUID": (f"('{A_UUID}')", A_UUID),
    "uuid": (f"('{A_UUID}')", A_UUID),
    "LogicalID": (f"('{A_UUID}')", A_UUID),
    "TimeFrom": ("2026", "20260101000000"),
    "TimeTo": ("202602", "20260201000000"),
    "EntryType": (f"('{ON_DEMAND}')", ON_DEMAND),
    "AuthorPerson": ("('%Tamm%')", "%Tamm%"),
    "UniqueId": ("('1.2.3')", "1.2.3"),
    "SourceId": ("('1.2.3')", "1.2.3"),
    "ReferenceIdList": ("('7^^^&1.2&ISO^urn:x')", "7^^^&1.2&ISO^urn:x"),
    "AssociationTypes": ("('urn:ihe:iti:2007:AssociationType:RPLC')", "urn:ihe:iti:2007:AssociationType:RPLC"),
}


def value_for(parameter: Parameter) -> tuple[str, str]:
    """A sound value of a parameter: as it is sent, as it is compared. What is not in VALUES is a code."""
    name = parameter.name.removesuffix("Exclude")
    fitting = [value for end, value in VALUES.items() if name.endswith(end)]
    return fitting[0] if fitting else ("('18842-5^^2.16.840.1.113883.6.1')", "18842-5^^2.16.840.1.113883.6.1")


def request(query: str, sent: Sent, return_type: str = ReturnType.LEAF_CLASS) -> QueryRequest:
    slots = tuple((name, (texts,) if isinstance(texts, str) else texts) for name, texts in sent)
    return QueryRequest(IDS[query], return_type, slots)


def sound(row: StoredQuery, *further: Parameter) -> list[tuple[str, str]]:
    """What must be sent with a query, and `further` parameters."""
    selecting = [each for each in further if each in row.one_of] or row.one_of[:1]
    narrowing = [each for each in row.parameters if each.name in row.narrowed_by[:1]]
    required = [each for each in (*row.parameters, *narrowing) if each.required or each in narrowing]
    return [(each.name, value_for(each)[0]) for each in dict.fromkeys((*selecting, *required, *further))]


def bound(query: str, sent: Sent) -> BoundQuery:
    return bind(request(query, sent), ROWS[query].transaction)


def find_documents(*sent: tuple[str, str | tuple[str, ...]]) -> Mapping[str, Condition]:
    """The conditions of FindDocuments with these parameters, by attribute."""
    conditions = bound("FindDocuments", (*OF_A_PATIENT, *sent)).filters[ObjectKind.DOCUMENT_ENTRY]
    return {condition.attribute: condition for condition in conditions}


def refused(query: str, sent: Sent, return_type: str = ReturnType.LEAF_CLASS) -> tuple[RegistryError, ...]:
    with pytest.raises(XdsError) as refusal:
        bind(request(query, sent, return_type), ROWS[query].transaction)
    assert all(error.severity is Severity.ERROR and error.code_context.endswith(".") for error in refusal.value.errors)
    return refusal.value.errors


def codes(errors: Sequence[RegistryError]) -> list[str]:
    return [str(error.code) for error in errors]


EVERY_PARAMETER = [(row, parameter) for row in ROWS.values() for parameter in (*row.one_of, *row.parameters)]


def name_of(value: StoredQuery | Parameter) -> str:
    return value.name


# The rows ----------------------------------------------------------------------------------------------------------


def test_the_stored_queries_of_iti_18_and_iti_51_have_their_ids() -> None:
    assert {row.name: row.id for row in STORED_QUERIES.values()} == IDS


def test_an_id_is_found_in_any_case() -> None:
    shouted = replace(request("FindDocuments", OF_A_PATIENT), query_id=IDS["FindDocuments"].upper())

    assert bind(shouted).query.name == "FindDocuments"


@pytest.mark.parametrize(("row", "parameter"), EVERY_PARAMETER, ids=name_of)
def test_every_parameter_restricts_what_its_name_says(row: StoredQuery, parameter: Parameter) -> None:
    _, compared = value_for(parameter)

    query = bound(row.name, sound(row, parameter))

    if parameter.attribute == "patient_id":
        assert query.patient_ids == (compared,)
    elif parameter.of is None:
        assert query.uuids == (compared,)
    else:
        conditions = query.start if parameter in row.one_of else query.filters[parameter.of]
        assert Condition(parameter.attribute, parameter.operator, ((compared,),)) in conditions


@pytest.mark.parametrize("row", ROWS.values(), ids=name_of)
def test_every_query_can_be_asked_with_what_it_requires_alone(row: StoredQuery) -> None:
    query = bound(row.name, sound(row))

    assert query.query is row
    assert query.return_type is ReturnType.LEAF_CLASS
    assert bool(query.start) == bool(row.one_of)


def test_both_return_types_can_be_asked_for() -> None:
    assert bind(request("FindDocuments", OF_A_PATIENT, "ObjectRef")).return_type is ReturnType.OBJECT_REF


def test_only_contents_are_followed() -> None:
    assert {row.name for row in ROWS.values() if row.follows} == {
        row.name for row in ROWS.values() if row.answer is Answer.CONTENTS
    }


@pytest.mark.bench_shared
def test_every_parameter_that_the_nist_test_plans_send_is_known_or_has_nothing_to_restrict() -> None:
    ignored = {"$MetadataLevel", "$homeCommunityId"}
    seen: set[str] = set()
    for plan in shared("nist-testkit/testkit/tests").rglob("*.xml"):
        for query in etree.parse(plan).iter("{*}AdhocQuery"):
            row = STORED_QUERIES.get(query.get("id", ""))
            if row is None:
                continue
            known = {parameter.name for parameter in (*row.one_of, *row.parameters)}
            sent = {slot.get("name", "") for slot in query.iter("{*}Slot")}
            assert sent <= known | ignored, plan
            seen |= {row.name}
    assert len(seen) >= 10


# Defaults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["FindDocuments", "FindDocumentsByReferenceId", "GetAll", "GetFolderAndContents", "GetRelatedDocuments",
     "GetSubmissionSetAndContents"],
)  # fmt: skip
def test_stable_documents_are_meant_where_no_type_is_given(query: str) -> None:
    conditions = bound(query, sound(ROWS[query])).filters[ObjectKind.DOCUMENT_ENTRY]

    assert Condition("object_type", Operator.ANY_OF, ((STABLE,),)) in conditions


def test_a_document_that_is_named_may_be_of_any_type() -> None:
    assert bound("GetDocuments", sound(ROWS["GetDocuments"])).filters == {}


@pytest.mark.parametrize(
    "query",
    ["GetAll", "GetAssociations", "GetDocumentsAndAssociations", "GetFolderAndContents", "GetFoldersForDocument",
     "GetRelatedDocuments"],
)  # fmt: skip
def test_approved_associations_are_followed_where_no_status_is_given(query: str) -> None:
    conditions = bound(query, sound(ROWS[query])).filters[ObjectKind.ASSOCIATION]

    assert Condition("availability_status", Operator.ANY_OF, ((APPROVED,),)) in conditions


def test_associations_of_any_status_can_be_asked_for() -> None:
    sent = [*sound(ROWS["GetAssociations"]), ("$XDSAssociationStatus", f"('{APPROVED}','{DEPRECATED}')")]

    query = bound("GetAssociations", sent)

    assert query.filters[ObjectKind.ASSOCIATION] == [
        Condition("availability_status", Operator.ANY_OF, ((APPROVED, DEPRECATED),))
    ]


@pytest.mark.parametrize("name", ["$homeCommunityId", "$XDSDocumentEntryTitle", "", "urn:x"])
def test_a_parameter_that_the_query_does_not_have_is_ignored(name: str) -> None:
    assert bound("FindDocuments", (*OF_A_PATIENT, (name, "('unbalanced"))) == bound("FindDocuments", OF_A_PATIENT)


def test_the_home_community_of_a_request_is_ignored() -> None:
    asked = request("FindDocuments", OF_A_PATIENT)

    assert bind(replace(asked, home_community_id="urn:oid:1.1.1")) == bind(asked)


# Values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["'a'"], ["a"]),
        (["('a')"], ["a"]),
        (["('a','b')"], ["a", "b"]),
        (["('a', 'b')"], ["a", "b"]),
        ([" ( 'a' ,\n 'b' ) "], ["a", "b"]),
        (["'a','b'"], ["a", "b"]),
        (["('a')", "('b','c')"], ["a", "b", "c"]),
        (["'a'", "b"], ["a", "b"]),
        (["'O''Brien'"], ["O'Brien"]),
        (["('O''Brien','''')"], ["O'Brien", "'"]),
        (["('(a)','b,c')"], ["(a)", "b,c"]),
        (["20040101"], ["20040101"]),
        (["'20040101'"], ["20040101"]),
        (["(20040101)"], ["20040101"]),
        (["(a, 'b',c )"], ["a", "b", "c"]),
        ([A_UUID], [A_UUID]),
        (["Tamm, Mari"], ["Tamm, Mari"]),
        (["' a '"], [" a "]),
        ([], []),
        ([""], []),
        (["()"], []),
        (["( )", "'a'"], ["a"]),
    ],
)
def test_values_may_be_written_in_many_ways(texts: list[str], values: list[str]) -> None:
    assert list(values_of(texts)) == values


@pytest.mark.parametrize(
    "text",
    ["'", "'a", "a'", "('a'", "('a','b", "(", "('a' 'b')", "'a'b", "('a''b)", "('a',)", "(,'a')", "('a',,'b')", "''",
     "('')", "' '", "(' ','a')", "('a')('b')", "O'Brien"],
)  # fmt: skip
def test_a_value_that_can_not_be_read_is_refused_with_a_sentence(text: str) -> None:
    [error] = refused("FindDocuments", (*OF_A_PATIENT, ("$XDSDocumentEntryAuthorPerson", text)))

    assert error.code == ErrorCode.REGISTRY_ERROR
    assert error.location == "$XDSDocumentEntryAuthorPerson"
    assert error.code_context.startswith("$XDSDocumentEntryAuthorPerson holds ")


QUOTABLE = st.text(min_size=1).filter(lambda value: not value.isspace())
BLANKS = st.text(" \t\r\n", max_size=2)


@given(values=st.lists(QUOTABLE, min_size=1), data=st.data())
def test_what_is_quoted_comes_back_as_it_was(values: list[str], data: st.DataObject) -> None:
    texts: list[str] = []
    rest = values
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        quoted = [f"{data.draw(BLANKS)}'" + each.replace("'", "''") + f"'{data.draw(BLANKS)}" for each in rest[:size]]
        bare = size == 1 and data.draw(st.booleans())
        texts.append(quoted[0] if bare else f"{data.draw(BLANKS)}({','.join(quoted)}){data.draw(BLANKS)}")
        rest = rest[size:]

    assert values_of(texts) == tuple(values)


@given(st.lists(QUOTABLE.map(lambda value: value[:300]), min_size=1))
@example([f"urn:uuid:{number}" for number in range(2000)])
@example(["x" * 125, "y" * 124, "z"])
def test_what_is_asked_for_has_room_in_the_values_of_ebrim(values: list[str]) -> None:
    texts = listed(values)

    assert values_of(texts) == tuple(values)
    assert all(len(each) <= 256 or len(values_of([each])) == 1 for each in texts)
    assert all(len(one) + len(other) > 257 for one, other in pairwise(texts))


ASKED_FOR = [
    ("GetFolders", "$XDSFolderEntryUUID", "('urn:uuid:x')"),
    ("GetFolderAndContents", "$XDSFolderEntryUUID", "'urn:uuid:x'"),
    ("GetDocuments", "$XDSDocumentEntryEntryUUID", "('urn:uuid:x')"),
    ("GetSubmissionSetAndContents", "$XDSSubmissionSetEntryUUID", "'urn:uuid:x'"),
    ("FindFolders", "$XDSFolderPatientId", "'urn:uuid:x'"),
]


@pytest.mark.parametrize(("query", "parameter", "value"), ASKED_FOR)
def test_one_value_is_a_list_where_the_query_takes_a_list(query: str, parameter: str, value: str) -> None:
    """IPF refuses a list without parentheses (ITI TF-2: 3.18.4.1.2.3.5)."""
    assert coded_parameter(IDS[query], parameter, ["urn:uuid:x"]) == (parameter, (value,))


@given(texts=st.lists(st.text("'(), ab\n")))
@example([" " * 100_000 + "x'"])
@example(["'" + "a''" * 50_000])
@example(["(" + "'a'," * 50_000])
@example(["('a'" + " " * 100_000 + "b)"])
def test_any_text_is_read_or_refused_at_once(texts: list[str]) -> None:
    problem = ""
    values: tuple[str, ...] = ()
    try:
        values = values_of(texts)
    except ValueError as refusal:
        problem = str(refusal)

    assert all(value.strip() for value in values)
    assert not problem or re.match("holds .*; ", problem, re.DOTALL)
    assert len(problem) < 400


@pytest.mark.parametrize(
    ("sent", "compared"),
    [
        ("2005", "20050101000000"),
        ("200502", "20050201000000"),
        ("20050228", "20050228000000"),
        ("20040229", "20040229000000"),
        ("2005022823", "20050228230000"),
        ("200502282359", "20050228235900"),
        ("20050228235958", "20050228235958"),
        ("'20050228'", "20050228000000"),
    ],
)
def test_a_time_means_its_first_second(sent: str, compared: str) -> None:
    creation_time = find_documents(("$XDSDocumentEntryCreationTimeFrom", sent))["creation_time"]

    assert creation_time.groups == ((compared,),)


@pytest.mark.parametrize(
    "time",
    ["20", "20051", "20051301", "20050229", "20050230", "2005022824", "200502282360", "20050228235960", "2005-02-28",
     "20050228+0100", "now", "0000", "20050228235959.5", "9" * 4000],
)  # fmt: skip
def test_a_time_that_is_none_is_refused(time: str) -> None:
    [error] = refused("FindDocuments", (*OF_A_PATIENT, ("$XDSDocumentEntryServiceStopTimeTo", time)))

    assert error.code == ErrorCode.REGISTRY_ERROR
    assert error.location == "$XDSDocumentEntryServiceStopTimeTo"
    assert len(error.code_context) < 300


@pytest.mark.parametrize("code", ["18842-5", "a^^", "^^2.16", "a^2.16", "a^b^2.16", "a^^2.16^c", "^", "a^^^2.16"])
def test_a_code_without_its_scheme_is_refused(code: str) -> None:
    [error] = refused("FindDocuments", (*OF_A_PATIENT, ("$XDSDocumentEntryClassCode", f"('x^^1.2','{code}')")))

    assert error.code == ErrorCode.REGISTRY_ERROR
    assert repr(code) in error.code_context
    assert "code^^codingScheme" in error.code_context


@pytest.mark.parametrize("status", ["Approved", APPROVED.lower(), "urn:x", APPROVED + " "])
def test_a_status_that_does_not_exist_is_refused(status: str) -> None:
    sent = [("$XDSFolderPatientId", f"'{PATIENT}'"), ("$XDSFolderStatus", f"('{status}')")]

    [error] = refused("FindFolders", sent)

    assert error.code == ErrorCode.REGISTRY_ERROR
    assert APPROVED in error.code_context
    assert DEPRECATED in error.code_context


def test_a_type_of_document_that_does_not_exist_is_refused() -> None:
    [error] = refused("FindDocuments", (*OF_A_PATIENT, ("$XDSDocumentEntryType", f"('{A_UUID}')")))

    assert error.code == ErrorCode.REGISTRY_ERROR
    assert STABLE in error.code_context


@pytest.mark.parametrize("patient", ["9434765919", "9434765919^^^", "^^^&1.2&ISO", "1^^^NHS&1.2&ISO", "1^^^&1..2&ISO"])
def test_a_patient_id_that_no_patient_can_have_is_refused(patient: str) -> None:
    sent = [("$XDSDocumentEntryPatientId", f"'{patient}'"), OF_A_PATIENT[1]]

    [error] = refused("FindDocuments", sent)

    assert error.code == ErrorCode.REGISTRY_ERROR
    assert "send idNumber^^^&" in error.code_context
    assert "9434765919" not in error.code_context


def test_uuids_are_compared_in_lower_case() -> None:
    query = bound("GetAssociations", [("$uuid", f"('{A_UUID.upper()}')")])

    assert query.uuids == (A_UUID,)


def test_types_of_documents_are_compared_in_lower_case() -> None:
    assert find_documents(("$XDSDocumentEntryType", f"'{ON_DEMAND.upper()}'"))["object_type"].groups == ((ON_DEMAND,),)


# How often ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "parameter"), [each for each in EVERY_PARAMETER if each[1].required], ids=name_of)
def test_a_required_parameter_that_is_missing_is_named(row: StoredQuery, parameter: Parameter) -> None:
    [error] = refused(row.name, [(name, text) for name, text in sound(row) if name != parameter.name])

    assert error.code == ErrorCode.STORED_QUERY_MISSING_PARAM
    assert error.location == parameter.name
    assert parameter.name in error.code_context


def test_all_that_is_required_and_missing_is_named() -> None:
    errors = refused("GetAll", [])

    assert {error.location for error in errors} == {
        "$patientId", "$XDSDocumentEntryStatus", "$XDSSubmissionSetStatus", "$XDSFolderStatus",
    }  # fmt: skip
    assert set(codes(errors)) == {ErrorCode.STORED_QUERY_MISSING_PARAM}


@pytest.mark.parametrize("texts", [(), ("",), ("()",)])
def test_a_parameter_without_a_value_is_a_missing_one(texts: tuple[str, ...]) -> None:
    [error] = refused("FindDocuments", (OF_A_PATIENT[0], ("$XDSDocumentEntryStatus", texts)))

    assert error.code == ErrorCode.STORED_QUERY_MISSING_PARAM
    assert error.location == "$XDSDocumentEntryStatus"


@pytest.mark.parametrize("row", [row for row in ROWS.values() if row.one_of], ids=name_of)
def test_exactly_one_of_the_alternatives_must_be_sent(row: StoredQuery) -> None:
    names = {parameter.name for parameter in row.one_of}
    others = [(name, text) for name, text in sound(row) if name not in names]
    all_of_them = [(parameter.name, value_for(parameter)[0]) for parameter in row.one_of]

    [none_sent] = refused(row.name, others)
    [all_sent] = refused(row.name, [*others, *all_of_them])

    assert none_sent.code == ErrorCode.STORED_QUERY_MISSING_PARAM
    assert all_sent.code == ErrorCode.STORED_QUERY_PARAM_NUMBER
    assert all(name in none_sent.code_context and name in all_sent.code_context for name in names)


ONCE = [each for each in EVERY_PARAMETER if not each[1].repeatable]
REPEATABLE = [each for each in EVERY_PARAMETER if each not in ONCE]


@pytest.mark.parametrize(("row", "parameter"), ONCE, ids=name_of)
def test_a_parameter_may_be_sent_once(row: StoredQuery, parameter: Parameter) -> None:
    sent = sound(row, parameter)

    [error] = refused(row.name, [*sent, (parameter.name, value_for(parameter)[0])])

    assert error.code == ErrorCode.STORED_QUERY_PARAM_NUMBER
    assert error.location == parameter.name


@pytest.mark.parametrize(("row", "parameter"), REPEATABLE, ids=name_of)
def test_a_repeated_list_of_codes_means_all_of_them(row: StoredQuery, parameter: Parameter) -> None:
    _, compared = value_for(parameter)
    sent = [*sound(row, parameter), (parameter.name, "('a^^1.2','b^^1.2')")]

    conditions = bound(row.name, sent).filters[parameter.of or ObjectKind.DOCUMENT_ENTRY]

    expected = Condition(parameter.attribute, parameter.operator, ((compared,), ("a^^1.2", "b^^1.2")))
    assert expected in conditions


def test_these_parameters_may_be_repeated() -> None:
    excluding = ("FindDocumentsExclude", *(row.name for row in ROWS.values() if row.transaction is ITI_51))
    assert {(row.name, parameter.name) for row, parameter in REPEATABLE if row.name not in excluding} == {
        ("FindDocuments", "$XDSDocumentEntryEventCodeList"),
        ("FindDocuments", "$XDSDocumentEntryConfidentialityCode"),
        ("FindDocumentsByReferenceId", "$XDSDocumentEntryEventCodeList"),
        ("FindDocumentsByReferenceId", "$XDSDocumentEntryConfidentialityCode"),
        ("FindDocumentsByReferenceId", "$XDSDocumentEntryReferenceIdList"),
        ("FindFolders", "$XDSFolderCodeList"),
        ("GetAll", "$XDSDocumentEntryConfidentialityCode"),
        ("GetFolderAndContents", "$XDSDocumentEntryConfidentialityCode"),
        ("GetSubmissionSetAndContents", "$XDSDocumentEntryConfidentialityCode"),
    }


@pytest.mark.parametrize(
    ("query", "name", "text"),
    [
        ("FindDocuments", "$XDSDocumentEntryPatientId", f"('{PATIENT}','{PATIENT}')"),
        ("FindDocuments", "$XDSDocumentEntryCreationTimeFrom", "(2004,2005)"),
        ("FindDocuments", "$XDSDocumentEntryServiceStartTimeTo", "('2004','2005')"),
        ("FindSubmissionSets", "$XDSSubmissionSetAuthorPerson", "('%a%','%b%')"),
        ("GetSubmissionSetAndContents", "$XDSSubmissionSetUniqueId", "('1.2','1.3')"),
        ("GetFolderAndContents", "$XDSFolderUniqueId", "('1.2','1.3')"),
        ("GetFoldersForDocument", "$XDSDocumentEntryUniqueId", "('1.2','1.3')"),
        ("GetRelatedDocuments", "$XDSDocumentEntryUniqueId", "('1.2','1.3')"),
    ],
)
def test_two_values_are_refused_where_one_is_meant(query: str, name: str, text: str) -> None:
    row = ROWS[query]
    alternatives = {parameter.name for parameter in row.one_of} if name in {p.name for p in row.one_of} else {name}
    sent = [(each, value) for each, value in sound(row) if each not in alternatives]

    [error] = refused(query, [*sent, (name, text)])

    assert error.code == ErrorCode.STORED_QUERY_PARAM_NUMBER
    assert error.location == name


@pytest.mark.parametrize(
    "name", ["$XDSDocumentEntryEntryUUID", "$XDSDocumentEntryUniqueId", "$XDSDocumentEntryLogicalID"]
)
def test_several_documents_can_be_named_in_one_query(name: str) -> None:
    [condition] = bound("GetDocuments", [(name, ("('a')", "('b','c')"))]).start

    assert condition.operator is Operator.ANY_OF
    assert condition.groups == (("a", "b", "c"),)


# Other refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query_id", ["", "FindDocuments", A_UUID, IDS["FindDocuments"].removeprefix("urn:uuid:")])
def test_a_query_that_is_not_known_is_refused(query_id: str) -> None:
    with pytest.raises(XdsError) as refusal:
        bind(QueryRequest(query_id, ReturnType.LEAF_CLASS, ()))

    [error] = refusal.value.errors
    assert error.code == ErrorCode.UNKNOWN_STORED_QUERY
    assert repr(query_id) in error.code_context


@pytest.mark.parametrize("return_type", ["", "leafclass", "LeafClassWithRepositoryItem", "RegistryObject"])
def test_another_return_type_is_refused(return_type: str) -> None:
    [error] = refused("FindDocuments", OF_A_PATIENT, return_type)

    assert error.code == ErrorCode.REGISTRY_ERROR
    assert repr(return_type) in error.code_context


def test_all_that_is_wrong_is_reported_together() -> None:
    sent = [
        ("$XDSDocumentEntryStatus", "('Approved','Deprecated')"),
        ("$XDSDocumentEntryCreationTimeFrom", "yesterday"),
        ("$XDSDocumentEntryClassCode", "('a')"),
        ("$XDSDocumentEntryTypeCode", "('a^^1.2"),
        ("$XDSDocumentEntryFormatCode", "('a^^1.2')"),
        ("$XDSDocumentEntryFormatCode", "('b^^1.2')"),
        ("$XDSDocumentEntryEventCodeList", "('a')"),
        ("$XDSDocumentEntryEventCodeList", "('b')"),
    ]

    errors = refused("FindDocuments", sent, "Everything")

    assert [(str(error.code), error.location.rpartition("Entry")[2]) for error in errors] == [
        ("XDSRegistryError", "ResponseOption.returnType"),
        ("XDSStoredQueryMissingParam", "PatientId"),
        ("XDSRegistryError", "Status"),
        ("XDSRegistryError", "Status"),
        ("XDSRegistryError", "ClassCode"),
        ("XDSRegistryError", "TypeCode"),
        ("XDSRegistryError", "EventCodeList"),
        ("XDSRegistryError", "EventCodeList"),
        ("XDSRegistryError", "CreationTimeFrom"),
        ("XDSStoredQueryParamNumber", "FormatCode"),
    ]


def test_a_wrong_return_type_is_reported_with_an_unknown_query() -> None:
    with pytest.raises(XdsError) as refusal:
        bind(QueryRequest(A_UUID, "x", ()))

    assert codes(refusal.value.errors) == [ErrorCode.REGISTRY_ERROR, ErrorCode.UNKNOWN_STORED_QUERY]


SLOT_NAMES = st.sampled_from(sorted({parameter.name for _, parameter in EVERY_PARAMETER}))


@given(
    query=st.sampled_from(sorted(IDS)),
    return_type=st.sampled_from(["LeafClass", "ObjectRef", "x"]),
    slots=st.lists(st.tuples(SLOT_NAMES, st.lists(st.text() | st.just(f"('{APPROVED}')")).map(tuple))),
)
def test_any_request_is_bound_or_refused(
    query: str, return_type: str, slots: list[tuple[str, tuple[str, ...]]]
) -> None:
    name = ""
    errors: tuple[RegistryError, ...] = ()
    try:
        name = bind(QueryRequest(IDS[query], return_type, tuple(slots))).query.name
    except XdsError as refusal:
        errors = refusal.errors

    assert (name == query) != bool(errors)
    assert all(error.location and error.code_context for error in errors)


def test_what_is_excluded_and_what_is_asked_of_several_patients_may_be_repeated_where_the_same_of_one_may_be() -> None:
    names: dict[str, set[str]] = {row.name: set() for row in ROWS.values()}
    for row, parameter in REPEATABLE:
        names[row.name].add(parameter.name)

    by_reference = names["FindDocumentsByReferenceId"]
    assert names["FindDocumentsExclude"] == by_reference | {f"{each}Exclude" for each in by_reference}
    for name in ("FindDocuments", "FindFolders", "FindDocumentsByReferenceId"):
        assert names[f"{name}ForMultiplePatients"] == names[name]


# Parameters that exclude, several patients, levels of metadata -----------------------------------------------------


EXCLUDING = [each for each in ROWS["FindDocumentsExclude"].parameters if each.instead_of]


def test_what_may_be_excluded_is_what_the_standard_lists() -> None:
    assert sorted(each.name.removeprefix("$XDSDocumentEntry") for each in EXCLUDING) == [
        "AuthorPersonExclude", "ClassCodeExclude", "ConfidentialityCodeExclude", "EventCodeListExclude",
        "FormatCodeExclude", "HealthcareFacilityTypeCodeExclude", "PracticeSettingCodeExclude",
        "ReferenceIdListExclude", "TypeCodeExclude", "TypeExclude",
    ]  # fmt: skip


@pytest.mark.parametrize("parameter", EXCLUDING, ids=name_of)
def test_what_is_asked_for_can_not_be_excluded_beside_it(parameter: Parameter) -> None:
    base = next(each for each in ROWS["FindDocumentsExclude"].parameters if each.name == parameter.instead_of)

    errors = refused("FindDocumentsExclude", sound(ROWS["FindDocumentsExclude"], base, parameter))

    assert codes(errors) == [ErrorCode.STORED_QUERY_PARAM_NUMBER]
    assert parameter.name in errors[0].code_context
    assert base.name in errors[0].code_context


def test_where_a_type_is_excluded_no_other_one_is_asked_for() -> None:
    query = bound("FindDocumentsExclude", (*OF_A_PATIENT, ("$XDSDocumentEntryTypeExclude", f"('{ON_DEMAND}')")))

    conditions = [each for each in query.filters[ObjectKind.DOCUMENT_ENTRY] if each.attribute == "object_type"]
    assert conditions == [Condition("object_type", Operator.NONE_OF, ((ON_DEMAND,),))]


def test_a_query_for_several_patients_takes_a_list_of_them_each_once() -> None:
    patients = f"('{PATIENT}','1^^^&1.2&ISO','{PATIENT}')"

    query = bound("FindDocumentsForMultiplePatients", (("$XDSDocumentEntryPatientId", patients), OF_A_PATIENT[1]))

    assert query.patient_ids == (PATIENT, "1^^^&1.2&ISO")


@pytest.mark.parametrize("row", [row for row in ROWS.values() if row.narrowed_by], ids=name_of)
def test_a_query_for_all_there_is_is_refused(row: StoredQuery) -> None:
    errors = refused(row.name, [each for each in sound(row) if each[0] not in row.narrowed_by])

    assert codes(errors) == [ErrorCode.STORED_QUERY_MISSING_PARAM]
    assert all(name in errors[0].code_context for name in row.narrowed_by)


@pytest.mark.parametrize("row", ROWS.values(), ids=name_of)
def test_a_query_of_another_transaction_is_refused_by_name(row: StoredQuery) -> None:
    other = ITI_51 if row.transaction is ITI_18 else ITI_18

    with pytest.raises(XdsError) as refusal:
        bind(request(row.name, sound(row)), other)

    assert codes(refusal.value.errors) == [ErrorCode.REGISTRY_ERROR]
    assert row.transaction.name in refusal.value.errors[0].code_context


@pytest.mark.parametrize("row", ROWS.values(), ids=name_of)
def test_every_query_takes_a_level_of_metadata(row: StoredQuery) -> None:
    assert not bound(row.name, sound(row)).all_versions
    assert not bound(row.name, (*sound(row), (METADATA_LEVEL, "1"))).all_versions
    assert bound(row.name, (*sound(row), (METADATA_LEVEL, "2"))).all_versions


@pytest.mark.parametrize("level", ["0", "3", "all", "('1','2')"])
def test_a_level_of_metadata_that_does_not_exist_is_refused(level: str) -> None:
    errors = refused("FindDocuments", (*OF_A_PATIENT, (METADATA_LEVEL, level)))

    assert len(errors) == 1
    assert errors[0].location == METADATA_LEVEL
