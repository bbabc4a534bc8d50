"""What other hosts are asked on behalf of a FHIR request: its events are kept with the one of the request itself.

Where the registry or the repository is on another host, this server is a Document Source or Consumer there, or the
Document Repository that registers, and audits as such (ITI TF-2: 3.18.5.1.1, 3.41.5.1.1, 3.42.5.1.1, 3.43.6.1.1).
What is asked in one process is no transaction, and leaves no event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from server.audit.happened import AuditOutcome, Named
from server.remote_actors import RemoteRegistry
from xds.actors import (
    DocumentRepository,
    DocumentRequest,
    OutcomeUnknown,
    ProvideAndRegisterRequest,
    QueryRequest,
    QueryResponse,
    RegistryResponse,
    RetrieveResponse,
)
from xds.ebxml_messages import query_request
from xds.errors import ErrorCode, RegistryError, ResponseStatus, Severity
from xds.metadata import Submission
from xds.transactions import ITI_18, ITI_41, ITI_42, ITI_43, ITI_57, ITI_61, Transaction

_PATIENT: Final = "PatientId"
"""How the parameters end that name a patient; their values stand in quotes (ITI TF-2: 3.18.4.1.2.3)."""
_NOT_NOW: Final = frozenset({ErrorCode.REGISTRY_NOT_AVAILABLE, ErrorCode.REGISTRY_BUSY, ErrorCode.REPOSITORY_BUSY})
_QUERY_DETAILS: Final = (("QueryEncoding", "UTF-8"),)

_Response = TypeVar("_Response", RegistryResponse, QueryResponse, RetrieveResponse)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One transaction with another host, and how it ended.

    transaction   its name
    url           that was asked
    patient_ids   CX text; (): the message names none
    named         what was asked for or sent, by its names
    query         the stored query as it was sent, of ITI-18
    """

    transaction: str
    url: str
    patient_ids: tuple[str, ...] = ()
    named: tuple[Named, ...] = ()
    query: bytes = b""
    outcome: AuditOutcome = AuditOutcome.SUCCESS
    description: str = ""


_asked: ContextVar[list[Asked] | None] = ContextVar("asked elsewhere", default=None)


@contextmanager
def noting_what_is_asked() -> Iterator[list[Asked]]:
    """What others are asked within, also by tasks that are begun there, is added to the list."""
    noted: list[Asked] = []
    token = _asked.set(noted)
    try:
        yield noted
    finally:
        _asked.reset(token)


class NotedRegistry:
    """A RemoteRegistry, and what it is asked is noted. See there."""

    def __init__(self, registry: RemoteRegistry, url: str) -> None:
        self._registry = registry
        self._url = url

    async def register_document_set(self, submission: Submission) -> RegistryResponse:
        return await _noted(self._sent(ITI_42, submission), self._registry.register_document_set(submission))

    async def register_on_demand(self, submission: Submission) -> RegistryResponse:
        return await _noted(self._sent(ITI_61, submission), self._registry.register_on_demand(submission))

    async def update_document_set(self, submission: Submission) -> RegistryResponse:
        return await _noted(self._sent(ITI_57, submission), self._registry.update_document_set(submission))

    async def stored_query(self, request: QueryRequest) -> QueryResponse:
        def asked() -> Asked:
            return Asked(
                transaction=ITI_18.name,
                url=self._url,
                patient_ids=patients_of(request),
                named=(Named(request.query_id, _QUERY_DETAILS),),
                query=query_request(request),
            )

        return await _noted(asked, self._registry.stored_query(request))

    def _sent(self, transaction: Transaction, submission: Submission) -> Callable[[], Asked]:
        return lambda: _submitted(transaction, self._url, submission)


class NotedRepository:
    """A DocumentRepository on another host, and what it is asked is noted. See there."""

    def __init__(self, repository: DocumentRepository, url: str) -> None:
        self._repository = repository
        self._url = url

    async def provide_and_register(self, request: ProvideAndRegisterRequest) -> RegistryResponse:
        def asked() -> Asked:
            return _submitted(ITI_41, self._url, request.provided().submission)

        return await _noted(asked, self._repository.provide_and_register(request))

    async def retrieve(self, requests: Sequence[DocumentRequest]) -> RetrieveResponse:
        def asked() -> Asked:
            named = tuple(Named(each.document_unique_id, _details(each)) for each in requests)
            return Asked(transaction=ITI_43.name, url=self._url, named=named)

        return await _noted(asked, self._repository.retrieve(requests))


async def _noted(asked: Callable[[], Asked], asking: Awaitable[_Response]) -> _Response:
    """The answer, which is noted. asked: says what it is an answer to, when it is there."""
    noted = _asked.get()
    if noted is None:
        return await asking
    try:
        response = await asking
    except OutcomeUnknown:
        noted.append(replace(asked(), outcome=AuditOutcome.SERIOUS_FAILURE, description="no answer"))
        raise
    noted += [
        replace(asked(), outcome=outcome, description=_codes(response.errors) if outcome.is_failure else "")
        for outcome in _outcomes(response)
    ]
    return response


def _outcomes(response: RegistryResponse | QueryResponse | RetrieveResponse) -> Sequence[AuditOutcome]:
    """Of a partial success there are two (ITI TF-2: 3.18.5.1, 3.43.6)."""
    codes = {each.code for each in response.errors}
    failure = AuditOutcome.SERIOUS_FAILURE if codes & _NOT_NOW else AuditOutcome.MINOR_FAILURE
    if response.status is ResponseStatus.SUCCESS:
        return (AuditOutcome.SUCCESS,)
    return (failure,) if response.status is ResponseStatus.FAILURE else (AuditOutcome.SUCCESS, failure)


def _codes(errors: Sequence[RegistryError]) -> str:
    return ", ".join(dict.fromkeys(each.code for each in errors if each.severity is Severity.ERROR))


def _submitted(transaction: Transaction, url: str, submission: Submission) -> Asked:
    item = submission.submission_set
    return Asked(
        transaction=transaction.name,
        url=url,
        patient_ids=(item.patient_id.text,) if item.patient_id else (),
        named=(Named(item.unique_id),) if item.unique_id else (),
    )


def patients_of(request: QueryRequest) -> tuple[str, ...]:
    """The patient whom a stored query is for."""
    values = (value for name, sent in request.parameters if name.lower().endswith(_PATIENT.lower()) for value in sent)
    return tuple(dict.fromkeys(each[1:-1].replace("''", "'") for each in values))


def _details(request: DocumentRequest) -> tuple[tuple[str, str], ...]:
    home = (("ihe:homeCommunityID", request.home_community_id),) if request.home_community_id else ()
    return (("Repository Unique ID", request.repository_unique_id), *home)
