"""The Document Registry: what it answers.

Register Document Set-b [ITI-42]     iti42_register.py
Registry Stored Query [ITI-18]       iti18_stored_query.py
Multi-Patient Stored Query [ITI-51]  iti51_multi_patient_query.py
Update Document Set [ITI-57]         iti57_update.py
Register On-Demand [ITI-61]          iti61_on_demand.py
Remove Metadata [ITI-62]             iti62_remove_metadata.py
Restricted Update [ITI-92]           iti92_restricted_update.py
Searches in pages, for MHD           PagedRegistry of xds/paged_search.py
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

from registry.changing import Changing
from registry.code_sets import CodeSets, KnownCodes
from registry.iti18_stored_query import stored_query
from registry.iti42_register import register_document_set
from registry.iti51_multi_patient_query import multi_patient_query
from registry.iti57_update import update_document_set
from registry.iti61_on_demand import register_on_demand
from registry.iti62_remove_metadata import remove_metadata
from registry.iti92_restricted_update import restricted_update_document_set
from registry.lifecycle import NewUuid
from registry.merged_patients import PatientsView, survivors
from registry.metadata_store import MetadataStore, OutcomeOpen, Questions, StoreBusy, StoreFull
from registry.page_links import sources_in, sources_of
from registry.patient_identities import OpenPatients, PatientIdentities
from xds.actors import ObjectCodec, OutcomeUnknown, QueryRequest, QueryResponse, RegistryResponse
from xds.errors import RegistryError, ResponseStatus, XdsError
from xds.metadata import ObjectKind, Submission
from xds.metadata_rules import STRICT, Tolerance
from xds.paged_search import Page, PagedSearch
from xds.transactions import ITI_18, ITI_42, ITI_51, ITI_57, ITI_61, ITI_62, ITI_92, Transaction

log = logging.getLogger(__name__)

Response = TypeVar("Response", RegistryResponse, QueryResponse)
_Read = TypeVar("_Read")

_BUSY = "The registry is busy; nothing was done, send it again later."


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """The Document Registry in this process: a DocumentRegistry (xds/actors.py).

    max_results         most objects in one ITI-18 or ITI-51 answer with LeafClass
    home_community_id   of this community, given to every object that is submitted without one
    tolerance           what is taken although the standard would not
    codec               see PatientsView
    """

    store: MetadataStore
    patients: PatientIdentities = field(default_factory=OpenPatients)
    code_sets: KnownCodes = field(default_factory=CodeSets)
    max_results: int = 1000
    home_community_id: str | None = None
    tolerance: Tolerance = STRICT
    codec: ObjectCodec | None = None
    clock: Callable[[], datetime] = utc_now
    new_uuid: NewUuid = uuid4

    async def register_document_set(self, submission: Submission) -> RegistryResponse:
        """Register Document Set-b [ITI-42]."""
        return await self._submitted(register_document_set, submission, ITI_42)

    async def register_on_demand(self, submission: Submission) -> RegistryResponse:
        """Register On-Demand Document Entry [ITI-61]."""
        return await self._submitted(register_on_demand, submission, ITI_61)

    async def update_document_set(self, submission: Submission) -> RegistryResponse:
        """Update Document Set [ITI-57]."""
        return await self._submitted(update_document_set, submission, ITI_57)

    async def restricted_update_document_set(self, submission: Submission) -> RegistryResponse:
        """Restricted Update Document Set [ITI-92]."""
        return await self._submitted(restricted_update_document_set, submission, ITI_92)

    async def remove_metadata(self, entry_uuids: Sequence[str]) -> RegistryResponse:
        """Remove Metadata [ITI-62]."""
        return await _answering_errors(remove_metadata(entry_uuids, self._changing()), ITI_62, RegistryResponse.of)

    async def _submitted(
        self, serve: Callable[..., Awaitable[RegistryResponse]], submission: Submission, transaction: Transaction
    ) -> RegistryResponse:
        return await _answering_errors(serve(submission, self._changing()), transaction, RegistryResponse.of)

    def _changing(self) -> Changing:
        return Changing(
            store=self.store,
            patients=self.patients,
            code_sets=self.code_sets,
            clock=self.clock,
            new_uuid=self.new_uuid,
            home_community_id=self.home_community_id,
            tolerance=self.tolerance,
        )

    async def stored_query(self, request: QueryRequest) -> QueryResponse:
        """Registry Stored Query [ITI-18]."""
        querying = stored_query(request, store=PatientsView(self.store, self.codec), max_results=self.max_results)
        return await _answering_errors(querying, ITI_18, _query_failure)

    async def multi_patient_query(self, request: QueryRequest) -> QueryResponse:
        """Multi-Patient Stored Query [ITI-51]."""
        querying = multi_patient_query(
            request, store=PatientsView(self.store, self.codec), max_results=self.max_results
        )
        return await _answering_errors(querying, ITI_51, _query_failure)

    async def page(self, search: PagedSearch) -> Page:
        """A page of a search, see PagedRegistry."""
        return await _unless_busy(PatientsView(self.store, self.codec).page(search))

    async def patient_of(self, patient_key: str) -> str | None:
        """Whom a key stands for, see PagedRegistry."""
        return await _unless_busy(self.store.patient_of(patient_key))

    async def patient_key(self, patient_id: str) -> str | None:
        """What stands for a patient, see PagedRegistry."""
        return await _unless_busy(self.store.patient_key(patient_id))

    async def survivor_of(self, patient_id: str) -> str:
        """Who answers for a patient now, see PagedRegistry."""
        return (await _unless_busy(survivors([patient_id], self.store)))[patient_id]

    async def related_to(self, entry_uuids: Collection[str]) -> Collection[str]:
        """What is related, see PagedRegistry."""
        return await _unless_busy(sources_of(entry_uuids, self.store))

    async def relating(self, patient_ids: Collection[str]) -> Collection[str]:
        """What relates to anything, see PagedRegistry."""
        return await _unless_busy(sources_in(patient_ids, PatientsView(self.store, self.codec)))

    async def removed(self, entry_uuid: str) -> ObjectKind | None:
        """What was removed, see PagedRegistry."""
        named = frozenset({entry_uuid})
        facts = await _unless_busy(self.store.known(Questions("", identifiers=named, references=named)))
        return None if entry_uuid in facts.objects else facts.taken.get(entry_uuid)

    def secret_for(self, purpose: str) -> bytes:
        """A secret that lasts, see PagedRegistry."""
        return self.store.secret_for(purpose)


def _query_failure(errors: tuple[RegistryError, ...]) -> QueryResponse:
    return QueryResponse(ResponseStatus.FAILURE, errors=errors)


async def _unless_busy(answer: Awaitable[_Read]) -> _Read:
    """What the store reads. Raises XdsError: XDSRegistryBusy."""
    try:
        return await answer
    except StoreBusy as busy:
        log.warning("The metadata store is busy.", exc_info=True)
        raise XdsError(ITI_18.busy_code, _BUSY) from busy


async def _answering_errors(
    answer: Awaitable[Response],
    transaction: Transaction,
    refused: Callable[[tuple[RegistryError, ...]], Response],
) -> Response:
    """The answer, or the failure that says why there is none. A fault of ours is for the log, not for the wire.

    Raises OutcomeUnknown.
    """
    try:
        return await answer
    except OutcomeOpen as problem:
        raise OutcomeUnknown(str(problem)) from problem
    except XdsError as refusal:
        log.info(
            "A request was refused.",
            extra={"transaction": transaction.name, "codes": [str(error.code) for error in refusal.errors]},
        )
        return refused(refusal.errors)
    except StoreBusy:
        log.warning("The metadata store is busy.", exc_info=True, extra={"transaction": transaction.name})
        error = RegistryError(transaction.busy_code, _BUSY)
    except StoreFull:
        log.exception("The metadata store is full.", extra={"transaction": transaction.name})
        error = RegistryError(transaction.full_code, "The registry has no room left; nothing was registered.")
    except Exception:
        log.exception("A request failed.", extra={"transaction": transaction.name})
        error = RegistryError(transaction.fault_code, "The registry failed; its operator finds the cause in the log.")
    return refused((error,))
