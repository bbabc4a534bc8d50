"""The Document Registry answers, whatever happens."""

# ruff: noqa: ARG002 - a store for tests takes what the port gives it

from __future__ import annotations

import logging

import pytest

from registry.actor import Registry
from registry.dossier_log import LogRecord
from registry.metadata_store import Criteria, Facts, Questions, RegistryChange, StoreBusy, StoredObject, StoreFull
from tests.builders import PATIENT, document_entry, submission
from tests.registry.memory_store import MemoryStore
from xds.actors import DocumentRegistry, QueryRequest, ReturnType
from xds.errors import ErrorCode, ResponseStatus

GET_ALL_OF_A_PATIENT = QueryRequest(
    "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d",
    ReturnType.OBJECT_REF,
    (
        ("$XDSDocumentEntryPatientId", (f"'{PATIENT}'",)),
        ("$XDSDocumentEntryStatus", ("('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')",)),
    ),
)


class FailingStore(MemoryStore):
    """A store that raises this, whatever it is asked."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self.failure = failure

    async def known(self, questions: Questions) -> Facts:
        raise self.failure

    async def find(
        self, criteria: Criteria, *, rendering: bool = True, limit: int | None = None, unmerged: bool = False
    ) -> tuple[StoredObject, ...]:
        raise self.failure

    async def count(self, criteria: Criteria, *, unmerged: bool = False) -> int:
        raise self.failure


class FullStore(MemoryStore):
    async def apply(self, change: RegistryChange, facts: Facts) -> LogRecord:
        raise StoreFull("no space left on device")


FAILURES = [
    (StoreBusy("locked"), ErrorCode.REGISTRY_BUSY),
    (StoreFull("no space left on device"), ErrorCode.REGISTRY_OUT_OF_RESOURCES),
    (ZeroDivisionError("secret internals"), ErrorCode.REGISTRY_ERROR),
]


async def test_a_document_that_was_registered_is_found() -> None:
    registry: DocumentRegistry = Registry(store=MemoryStore())
    entry = document_entry()

    registered = await registry.register_document_set(submission(entry))
    answer = await registry.stored_query(GET_ALL_OF_A_PATIENT)

    assert registered.succeeded
    assert [found.entry_uuid for found in answer.found] == [entry.entry_uuid]


async def test_a_refusal_is_a_failure_with_every_error() -> None:
    response = await Registry(store=MemoryStore()).register_document_set(
        submission(document_entry(class_code=None, hash=None))
    )

    assert response.status is ResponseStatus.FAILURE
    assert len(response.errors) == 2


async def test_a_query_that_is_refused_is_a_failure() -> None:
    answer = await Registry(store=MemoryStore()).stored_query(QueryRequest("urn:uuid:unknown", "LeafClass", ()))

    assert answer.status is ResponseStatus.FAILURE
    assert [error.code for error in answer.errors] == [ErrorCode.UNKNOWN_STORED_QUERY]


@pytest.mark.parametrize(("failure", "code"), FAILURES, ids=lambda each: type(each).__name__)
async def test_a_submission_that_meets_a_failing_store_is_answered(
    failure: Exception, code: ErrorCode, caplog: pytest.LogCaptureFixture
) -> None:
    response = await Registry(store=FailingStore(failure)).register_document_set(submission(document_entry()))

    [error] = response.errors
    assert (response.status, error.code) == (ResponseStatus.FAILURE, code)
    assert str(failure) not in error.code_context
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [failure]


@pytest.mark.parametrize(("failure", "code"), FAILURES, ids=lambda each: type(each).__name__)
async def test_a_query_that_meets_a_failing_store_is_answered(failure: Exception, code: ErrorCode) -> None:
    answer = await Registry(store=FailingStore(failure)).stored_query(GET_ALL_OF_A_PATIENT)

    [error] = answer.errors
    assert (answer.status, error.code) == (ResponseStatus.FAILURE, code)
    assert str(failure) not in error.code_context


async def test_a_full_store_registers_nothing() -> None:
    store = FullStore()

    response = await Registry(store=store).register_document_set(submission(document_entry()))

    assert [error.code for error in response.errors] == [ErrorCode.REGISTRY_OUT_OF_RESOURCES]
    assert store.objects == {}


async def test_the_log_does_not_name_the_patient(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    registry = Registry(store=MemoryStore())

    await registry.register_document_set(submission(document_entry(class_code=None)))
    await registry.register_document_set(submission(document_entry()))

    assert caplog.records
    assert not any(PATIENT.id_number in str(record.__dict__) for record in caplog.records)
