"""Who works with whom: the one place that joins the actors of this process.

Each service gets either the actor in this process or a client of one on another host (server/remote_actors.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp

from mhd.actor import MhdAt
from mhd.submitting.delayed import Delayed
from mhd.submitting.elsewhere import Elsewhere
from mhd.submitting.on_demand import OnDemand
from registry.actor import Registry
from registry.kept_dossiers import KeptDossiers
from registry.metadata_store import MetadataStore
from registry.patient_register import FeedsOfOthers, PatientRegister
from repository.actor import Repository
from repository.delayed_documents import Assembly
from repository.document_store import DocumentStore
from repository.on_demand import OnDemandDocuments
from repository.on_demand_snapshots import Snapshots
from repository.settling import IsRegistered
from server.access_control import admission
from server.affinity_domain import known_codes, known_patients, patient_register
from server.audit.asked_elsewhere import NotedRegistry, NotedRepository
from server.audit.audit_trail import AuditTrail
from server.audit.audit_wiring import audit_trail
from server.code_file import ChangingCodes
from server.fhir_wiring import kept_secret, mhd_at, trusted_servers
from server.on_demand_sources import on_demand_documents
from server.registered_entries import RegistryEntries
from server.remote_actors import RemoteRegistry, RemoteRepository
from server.remote_pages import RemotePages
from server.remote_repository import RepositoryElsewhere
from server.requester import Admission
from server.settings import Actor, Settings, repository_unique_id
from server.settings.affinity_domain import Policy
from server.settings.mhd import ExternalUrl, Minimal
from server.store_opening import document_store, metadata_store
from server.tls import client_context
from xds.actors import (
    DocumentRegistry,
    DocumentRepository,
    FullDocumentRegistry,
    FullDocumentRepository,
    UpdatableRegistry,
)
from xds.ebxml_writer import codec
from xds.errors import Severity
from xds.metadata_rules import Tolerance
from xds.paged_search import PagedRegistry

_KEPT_ALIVE_SECONDS = 2.0

Check = Callable[[], Awaitable[None]]
"""Raises where a part of the server can not do its work now."""


@dataclass(frozen=True, slots=True)
class Wired:
    """The actors of this process, ready to work. None: not one of this server's actors.

    patients   takes what patient identity feeds say; None where the registry is elsewhere
    kept       what searches showed lately
    admission  whom FHIR is answered; None: everybody
    audit      None: no audit trail is asked for
    """

    registry: FullDocumentRegistry | None
    repository: FullDocumentRepository | None
    documents: DocumentStore | None
    is_registered: IsRegistered
    checks: Mapping[str, Check]
    mhd_at: MhdAt | None
    patients: PatientRegister | None
    codes: ChangingCodes | None
    kept: KeptDossiers
    admission: Admission | None = None
    audit: AuditTrail | None = None


@asynccontextmanager
async def wired(settings: Settings) -> AsyncIterator[Wired]:
    """Open the stores that the settings name and join the actors. Leaving closes everything."""
    async with AsyncExitStack() as opened:
        checks: dict[str, Check] = {}
        kept = KeptDossiers(settings.mhd.kept_bytes)
        audit = await opened.enter_async_context(audit_trail(settings))
        if audit is not None:
            checks["audit trail"] = audit.check
        registry = await opened.enter_async_context(_registry(settings, checks, kept))
        entries = RegistryEntries(registry)
        trusted = await opened.enter_async_context(trusted_servers(settings))
        repository: FullDocumentRepository | None = None
        documents: DocumentStore | None = None
        made: OnDemandDocuments | None = None
        if Actor.REPOSITORY in settings.actors:
            documents = document_store(settings)
            opened.push_async_callback(documents.close)
            checks["document store"] = documents.check
            own_id = repository_unique_id(settings)
            snapshots = Snapshots(
                documents=documents,
                registry=registry,
                entries=entries,
                is_registered=entries.is_registered,
                repository_unique_id=own_id,
            )
            assembly = Assembly(
                documents=documents,
                registry=registry,
                entries=entries,
                is_registered=entries.is_registered,
                repository_unique_id=own_id,
            )
            making = on_demand_documents(settings, entries, snapshots, assembly, trusted)
            made = await opened.enter_async_context(making)
            repository = Repository(
                documents=documents,
                registry=registry,
                is_registered=entries.is_registered,
                repository_unique_id=own_id,
                on_demand=made,
                size_limit=settings.limits.document_bytes,
                submission_limit=settings.limits.documents_per_submission,
                retrieval_limit=settings.limits.documents_per_retrieve,
                tolerance=_tolerance(settings),
            )
        answering = registry if isinstance(registry, Registry) else None
        patients = patient_register(settings, registry.store) if isinstance(registry, Registry) else None
        codes = registry.code_sets if isinstance(registry, Registry) else None
        followed = codes if isinstance(codes, ChangingCodes) else None
        mhd = await opened.enter_async_context(
            _mhd(settings, registry, repository, made, trusted, patients, followed or known_codes(settings))
        )
        let_in = await opened.enter_async_context(admission(settings)) if mhd is not None else None
        yield Wired(
            answering,
            repository,
            documents,
            entries.is_registered,
            checks,
            mhd,
            patients,
            followed,
            kept,
            let_in,
            audit,
        )


@asynccontextmanager
async def _mhd(
    settings: Settings,
    registry: DocumentRegistry,
    repository: DocumentRepository | None,
    made: OnDemandDocuments | None,
    trusted: Elsewhere,
    patients: PatientRegister | None,
    codes: ChangingCodes,
) -> AsyncIterator[MhdAt | None]:
    """The MHD actors; None: not among this server's actors."""
    if Actor.MHD not in settings.actors:
        yield None
        return
    async with AsyncExitStack() as opened:
        if repository is None:
            repository = await opened.enter_async_context(_repository_elsewhere(settings))
        pages = _pages(settings, registry)
        feeds = None if patients is None else FeedsOfOthers(patients)
        yield mhd_at(
            settings,
            registry=registry,
            pages=pages,
            repository=repository,
            elsewhere=trusted,
            codes=codes,
            on_demand=_on_demand(settings, registry, made),
            delayed=_delayed(settings, made, trusted),
            feeds=feeds,
        )


def _on_demand(settings: Settings, registry: DocumentRegistry, made: OnDemandDocuments | None) -> OnDemand | None:
    """How MHD has on-demand documents registered; None: it takes none."""
    if made is None or not settings.mhd.on_demand_documents or not isinstance(registry, Registry | NotedRegistry):
        return None
    return OnDemand(
        register=registry.register_on_demand,
        is_made=lambda unique_id: made.makes(unique_id) is not None,
        repository_unique_id=repository_unique_id(settings),
    )


def _delayed(settings: Settings, made: OnDemandDocuments | None, trusted: Elsewhere) -> Delayed | None:
    """Which documents MHD takes that are not there yet; None: none."""
    names = [each.name for each in settings.on_demand if each.delayed]
    fetches = settings.mhd.external_url is ExternalUrl.ASSEMBLE
    links = settings.mhd.external_url is ExternalUrl.LINK
    if made is None or not (names or fetches or links):
        return None

    def is_made(unique_id: str) -> bool:
        makes = made.assembles(unique_id)
        return makes is not None and makes.name in names

    return Delayed(
        is_made=is_made,
        is_fetched=trusted.has_document if fetches else lambda _url: False,
        is_linked=trusted.has_document if links else lambda _url: False,
    )


def _pages(settings: Settings, registry: DocumentRegistry) -> PagedRegistry:
    """The registry as MHD searches it."""
    if isinstance(registry, Registry):
        return registry
    return RemotePages(registry, codec, kept_secret(settings))


@asynccontextmanager
async def _repository_elsewhere(settings: Settings) -> AsyncIterator[DocumentRepository]:
    if settings.repository_url is None:
        raise RuntimeError("the settings name neither a repository here nor one elsewhere")  # Settings refuses this
    connector = aiohttp.TCPConnector(keepalive_timeout=_KEPT_ALIVE_SECONDS)
    async with aiohttp.ClientSession(connector=connector) as session:
        remote = RemoteRepository(settings.repository_url, session, tls=client_context(settings.tls))
        yield NotedRepository(RepositoryElsewhere(remote), settings.repository_url)


@asynccontextmanager
async def _registry(
    settings: Settings, checks: dict[str, Check], kept: KeptDossiers | None = None
) -> AsyncIterator[UpdatableRegistry]:
    """The registry of this process, or a client of the one elsewhere."""
    if Actor.REGISTRY in settings.actors:
        store = await metadata_store(settings, kept=kept)
        try:
            checks["metadata store"] = store.check
            yield local_registry(settings, store)
        finally:
            await store.close()
        return
    # A registry that closes an idle connection at the moment of a request would leave its outcome unknown.
    connector = aiohttp.TCPConnector(keepalive_timeout=_KEPT_ALIVE_SECONDS)
    async with aiohttp.ClientSession(connector=connector) as session:
        url = _registry_url(settings)
        yield NotedRegistry(RemoteRegistry(url, session, tls=client_context(settings.tls)), url)


@asynccontextmanager
async def registry_asked(settings: Settings) -> AsyncIterator[IsRegistered]:
    """How the registry of these settings is asked whether it lists a document."""
    async with _registry(settings, {}) as registry:
        yield RegistryEntries(registry).is_registered


def local_registry(settings: Settings, store: MetadataStore) -> Registry:
    """The registry of this process."""
    return Registry(
        store=store,
        patients=known_patients(settings),
        code_sets=known_codes(settings),
        max_results=settings.limits.results,
        home_community_id=settings.home_community_id,
        tolerance=_tolerance(settings),
        codec=codec,
    )


_TOLD = {Policy.REJECT: Severity.ERROR, Policy.WARN: Severity.WARNING, Policy.ACCEPT: None}


def _tolerance(settings: Settings) -> Tolerance:
    """What is taken although the standard would not. MHD's minimal metadata is limited metadata, whoever sends it."""
    return Tolerance(
        limited_metadata=settings.mhd.minimal is Minimal.ACCEPT,
        source_patient_info=_TOLD[settings.submissions.source_patient_info],
    )


def _registry_url(settings: Settings) -> str:
    if settings.registry_url is None:
        raise RuntimeError("the settings name neither a registry here nor one elsewhere")  # Settings refuses this
    return settings.registry_url
