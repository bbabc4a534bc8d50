"""The Document Repository actor: the page that lists what it answers.

ITI TF-1: 10.1 (XDS actors and transactions).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from repository import iti41_provide_and_register, iti43_retrieve, iti86_remove_documents
from repository.document_store import DocumentStore, StoreBusy, StoreFull
from repository.on_demand import OnDemandDocuments
from repository.settling import IsRegistered
from xds.actors import (
    Attachment,
    DocumentRegistry,
    DocumentRequest,
    ProvideAndRegisterRequest,
    Provided,
    RegistryResponse,
    RetrieveResponse,
)
from xds.errors import RegistryError, ResponseStatus, XdsError
from xds.metadata_rules import STRICT, Tolerance
from xds.transactions import ITI_41, ITI_43, ITI_86, Transaction

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A Document Repository in this process; a DocumentRepository of xds/actors.py.

    size_limit         octets of one document
    submission_limit   documents of one submission
    retrieval_limit    documents of one answer
    tolerance          what is taken although the standard would not
    on_demand          makes documents that are made when they are retrieved; None: there are none
    A limit of None is none.
    """

    documents: DocumentStore
    registry: DocumentRegistry
    is_registered: IsRegistered
    repository_unique_id: str
    size_limit: int | None = 4 * 1024**3
    submission_limit: int | None = 1000
    retrieval_limit: int | None = 1000
    tolerance: Tolerance = STRICT
    on_demand: OnDemandDocuments | None = None

    async def provide_and_register(self, request: ProvideAndRegisterRequest) -> RegistryResponse:
        """Provide and Register Document Set-b [ITI-41].

        What the request itself raises passes through: whoever reads the message knows how to answer a broken one.
        """
        watched = _Watched(request)
        try:
            return await iti41_provide_and_register.provide_and_register(
                watched,
                documents=self.documents,
                registry=self.registry,
                repository_unique_id=self.repository_unique_id,
                size_limit=self.size_limit,
                documents_limit=self.submission_limit,
                tolerance=self.tolerance,
            )
        except XdsError as refusal:
            return RegistryResponse.of(refusal.errors)
        except Exception as problem:
            if problem is watched.raised:
                raise
            return RegistryResponse.of(_errors_for(problem, ITI_41))

    async def retrieve(self, requests: Sequence[DocumentRequest]) -> RetrieveResponse:
        """Retrieve Document Set [ITI-43]."""
        try:
            return await iti43_retrieve.retrieve(
                requests,
                documents=self.documents,
                is_registered=self.is_registered,
                repository_unique_id=self.repository_unique_id,
                on_demand=self.on_demand,
                documents_limit=self.retrieval_limit,
            )
        except Exception as problem:  # noqa: BLE001  (logged and answered)
            return RetrieveResponse(ResponseStatus.FAILURE, errors=_errors_for(problem, ITI_43))

    async def remove_documents(self, requests: Sequence[DocumentRequest]) -> RegistryResponse:
        """Remove Documents [ITI-86]."""
        try:
            return await iti86_remove_documents.remove_documents(
                requests,
                documents=self.documents,
                is_registered=self.is_registered,
                repository_unique_id=self.repository_unique_id,
            )
        except Exception as problem:  # noqa: BLE001  (logged and answered)
            return RegistryResponse.of(_errors_for(problem, ITI_86))


def _errors_for(problem: Exception, transaction: Transaction) -> tuple[RegistryError, ...]:
    """How a transaction answers what kept it from being done. Faults of ours are told to the log alone."""
    match problem:
        case XdsError():
            return problem.errors
        case StoreFull():
            logger.error("the document store is full", extra={"problem": str(problem)})
            sentence = "The repository has no room left for documents. Send the message again later."
            return (RegistryError(transaction.full_code, sentence),)
        case StoreBusy():
            logger.warning("the document store is busy", extra={"problem": str(problem)})
            sentence = "The repository can not answer now. Send the message again later."
            return (RegistryError(transaction.busy_code, sentence),)
        case _:
            logger.error("a transaction failed", exc_info=problem, extra={"transaction": transaction.name})
            sentence = "The repository has failed. This is no fault of the message; the repository's log tells more."
            return (RegistryError(transaction.fault_code, sentence),)


class _Watched:
    """A request that remembers what it has raised."""

    def __init__(self, request: ProvideAndRegisterRequest) -> None:
        self._request = request
        self.raised: Exception | None = None

    async def attachments(self) -> AsyncIterator[Attachment]:
        async for attachment in _WatchedItems(self, self._request.attachments()):
            yield Attachment(attachment.content_id, _WatchedItems(self, attachment.content))

    def provided(self) -> Provided:
        try:
            return self._request.provided()
        except Exception as problem:
            self.raised = problem
            raise


class _WatchedItems(AsyncIterator[Item]):
    """What an iterator of the request gives."""

    def __init__(self, watched: _Watched, items: AsyncIterator[Item]) -> None:
        self._watched = watched
        self._items = items

    async def __anext__(self) -> Item:
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            raise
        except Exception as problem:
            self._watched.raised = problem
            raise
