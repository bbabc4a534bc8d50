"""What other hosts are asked on behalf of a request is noted; what they are asked otherwise is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from server.audit.asked_elsewhere import NotedRepository, noting_what_is_asked, patients_of
from server.audit.happened import AuditOutcome
from xds.actors import (
    DocumentRequest,
    OutcomeUnknown,
    ProvideAndRegisterRequest,
    QueryRequest,
    RegistryResponse,
    RetrieveResponse,
    ReturnType,
)
from xds.errors import ErrorCode, RegistryError, ResponseStatus
from xds.stored_queries import quoted

URL = "https://repository.example/xds"
ASKED = (DocumentRequest("1.2.3", "4.5.6", "urn:oid:7.8"),)


class Answering:
    """A DocumentRepository that answers always the same, or not at all."""

    def __init__(self, response: RetrieveResponse | None) -> None:
        self._response = response

    async def retrieve(self, _requests: Sequence[DocumentRequest]) -> RetrieveResponse:
        if self._response is None:
            raise OutcomeUnknown("the connection broke")
        return self._response

    async def provide_and_register(self, _request: ProvideAndRegisterRequest) -> RegistryResponse:
        raise NotImplementedError


def some_missing(status: ResponseStatus) -> RetrieveResponse:
    return RetrieveResponse(status, errors=(RegistryError(ErrorCode.DOCUMENT_UNIQUE_ID_ERROR, "not there"),))


@pytest.mark.parametrize(
    ("response", "outcomes"),
    [
        (RetrieveResponse(ResponseStatus.SUCCESS), [(AuditOutcome.SUCCESS, "")]),
        (
            some_missing(ResponseStatus.PARTIAL_SUCCESS),
            [(AuditOutcome.SUCCESS, ""), (AuditOutcome.MINOR_FAILURE, "XDSDocumentUniqueIdError")],
        ),
        (some_missing(ResponseStatus.FAILURE), [(AuditOutcome.MINOR_FAILURE, "XDSDocumentUniqueIdError")]),
    ],
)
async def test_a_success_and_a_failure_are_noted_where_it_was_both(
    response: RetrieveResponse, outcomes: list[tuple[AuditOutcome, str]]
) -> None:
    repository = NotedRepository(Answering(response), URL)

    with noting_what_is_asked() as noted:
        assert await repository.retrieve(ASKED) is response

    assert [(each.outcome, each.description) for each in noted] == outcomes
    assert {each.url for each in noted} == {URL}
    [named] = noted[0].named
    assert named.id == "4.5.6"
    assert named.details == (("Repository Unique ID", "1.2.3"), ("ihe:homeCommunityID", "urn:oid:7.8"))


async def test_whoever_gives_no_answer_is_noted() -> None:
    with noting_what_is_asked() as noted, pytest.raises(OutcomeUnknown):
        await NotedRepository(Answering(None), URL).retrieve(ASKED)

    assert [each.outcome for each in noted] == [AuditOutcome.SERIOUS_FAILURE]


async def test_what_is_asked_for_no_request_is_not_noted() -> None:
    with noting_what_is_asked() as noted:
        pass
    await NotedRepository(Answering(RetrieveResponse(ResponseStatus.SUCCESS)), URL).retrieve(ASKED)

    assert noted == []


def test_the_patient_of_a_stored_query_is_known_whatever_is_in_his_id() -> None:
    patient_id = "O'Brien'^^^&1.2.3&ISO"
    parameters = (("$XDSFolderPatientId", (quoted(patient_id),)), ("$XDSFolderStatus", ("('x')",)))

    assert patients_of(QueryRequest("urn:uuid:1", ReturnType.LEAF_CLASS, parameters)) == (patient_id,)
