"""What an AuditEvent says of what happened, also of what no transaction says yet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from server.audit.audited_transactions import AUDITED_TRANSACTIONS
from server.audit.fhir_audit_event import Observer, audit_events
from server.audit.happened import AuditOutcome, Client, Happened, User
from server.fhir_interactions import INTERACTIONS
from server.requester import PurposeOfUse
from tests.audit_profiles import audit_problems
from tests.builders import OTHER_PATIENT, PATIENT
from tests.fhir_validity import assert_is_fhir
from xds.audit import Accessed, AccessedKind, AccessedObject

NOW = datetime(2026, 11, 30, 17, 30, 15, 123456, UTC)
OBSERVER = Observer("urn:oid:1.2.3", "The hospital")
BASE = "https://toimik.example/fhir"
USER = User("mari", "https://id.example", "a b", (PurposeOfUse("urn:of:purposes", "TREAT"),))
KINDS = {
    "ITI-65": AccessedKind.SUBMISSION_SET,
    "ITI-68": AccessedKind.DOCUMENT,
    "ITI-93": AccessedKind.MESSAGE,
    "ITI-104": AccessedKind.PATIENT,
}


def happened(name: str = "ITI-68", **changes: Any) -> Happened:
    row = AUDITED_TRANSACTIONS[name]
    found = AccessedObject(KINDS.get(name, AccessedKind.DOCUMENT_ENTRY), "0e5f7a1c-2222-4333-8444-955556666777")
    valid: dict[str, Any] = {
        "transaction": row,
        "outcome": AuditOutcome.SUCCESS,
        "client": Client("", "192.0.2.10"),
        "url": BASE,
        "base": BASE,
        "accessed": Accessed.of(PATIENT, *([] if row.is_search else [found])),
        "patient_keys": {PATIENT.text: "k1"},
        "query": b"GET /fhir/List?_id=1" if row.is_search else b"",
    }
    return Happened(**{**valid, **changes})


@pytest.mark.parametrize("name", AUDITED_TRANSACTIONS)
def test_the_event_of_every_transaction_is_what_its_profile_asks(name: str) -> None:
    [event] = audit_events(happened(name), OBSERVER, NOW)

    assert_is_fhir(event)
    assert event["meta"]["profile"]
    assert audit_problems(event) == []
    assert event["recorded"] == "2026-11-30T17:30:15.123Z"
    assert event["source"]["site"] == "The hospital"


def test_whatever_needs_a_scope_leaves_events() -> None:
    assert {each.transaction.name for each in INTERACTIONS if each.scope is not None} <= AUDITED_TRANSACTIONS.keys()


@pytest.mark.parametrize("name", AUDITED_TRANSACTIONS)
def test_the_user_and_the_purpose_are_told_where_they_are_known(name: str) -> None:
    [event] = audit_events(happened(name, user=USER), OBSERVER, NOW)

    assert_is_fhir(event)
    assert audit_problems(event) == []
    user = event["agent"][2]
    assert user["who"] == {"identifier": {"system": "https://id.example", "value": "mari"}, "display": "mari"}
    assert user["requestor"] is True
    assert user["policy"] == ["urn:ietf:params:oauth:jti:a%20b"]
    assert user["purposeOfUse"] == [{"coding": [{"system": "urn:of:purposes", "code": "TREAT"}]}]
    assert [each["code"] for each in user["type"]["coding"]] == ["IRCP", "UserOauthAgent"]


def test_an_app_that_a_token_names_is_told_beside_its_certificate() -> None:
    [event] = audit_events(happened("ITI-67", client=Client("CN=Gateway", "10.1.2.3", "app-1")), OBSERVER, NOW)

    assert_is_fhir(event)
    assert event["agent"][0]["who"] == {"identifier": {"value": "app-1"}, "display": "CN=Gateway"}


def test_an_update_of_what_is_not_there_yet_is_a_creation() -> None:
    row = AUDITED_TRANSACTIONS["ITI-104"]
    assert row.where_new is not None
    updated, created = (
        audit_events(happened("ITI-104", transaction=each), OBSERVER, NOW)[0] for each in (row, row.where_new)
    )

    assert audit_problems(updated) == audit_problems(created) == []
    assert (updated["action"], created["action"]) == ("U", "C")
    assert [each["subtype"][0]["code"] for each in (updated, created)] == ["update", "create"]


def test_a_profile_without_room_for_the_request_id_is_not_claimed_beside_it() -> None:
    [event] = audit_events(happened("ITI-93", request_id="r1"), OBSERVER, NOW)

    assert_is_fhir(event)
    assert "meta" not in event
    assert event["entity"][-1]["what"]["identifier"]["value"] == "r1"


def test_events_of_two_patients_name_one_each() -> None:
    both = Accessed((PATIENT.text, OTHER_PATIENT.text))
    events = audit_events(happened("ITI-66", accessed=both), OBSERVER, NOW)

    whats = [[each["what"] for each in event["entity"] if "what" in each] for event in events]
    assert [len(each) for each in whats] == [1, 1]
    assert whats[0][0]["reference"] == f"{BASE}/Patient/k1"
    assert "reference" not in whats[1][0]


def test_a_failure_claims_no_profile_and_says_why() -> None:
    failed = happened(outcome=AuditOutcome.SERIOUS_FAILURE, description="HTTP 503: XDSRegistryBusy")
    [event] = audit_events(failed, OBSERVER, NOW)

    assert_is_fhir(event)
    assert "meta" not in event
    assert (event["outcome"], event["outcomeDesc"]) == ("8", "HTTP 503: XDSRegistryBusy")
