"""How the MHD actors are joined with a Document Registry and a Document Repository, by the settings."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import aiohttp
import orjson

from mhd.actor import Mhd, MhdAt
from mhd.capability_statement import Capabilities
from mhd.document_recipient import DocumentRecipient
from mhd.document_responder import DocumentResponder
from mhd.iti93_mobile_patient_identity_feed import MobilePatientFeed
from mhd.iti104_patient_identity_feed import PatientFeed
from mhd.mapping.code_systems import CodeSystems, CodeSystemsDiffer, pairs_of_naming_system
from mhd.mapping.domain import MhdDomain
from mhd.patients import PatientResolver
from mhd.searching.cursors import Cursors
from mhd.searching.renderer import Completion, Renderer
from mhd.searching.search import Search
from mhd.searching.search_conditions import SearchConditions
from mhd.searching.search_request import PageSizes
from mhd.submitting.delayed import Delayed
from mhd.submitting.elsewhere import Elsewhere, Nowhere
from mhd.submitting.on_demand import OnDemand
from mhd.submitting.submission_options import Minimal, SubmissionOptions
from server.cda_header import read_cda_header
from server.code_file import ChangingCodes
from server.fhir_xml import to_xml
from server.settings import Actor, Settings, SettingsProblem, repository_unique_id
from server.settings.mhd import CodeOfCode, DefaultCode, ExternalUrl
from server.tls import client_context
from server.trusted_servers import TrustedServers
from xds.actors import DocumentRegistry, DocumentRepository
from xds.cda_header import CdaHeader
from xds.ebxml_writer import codec
from xds.metadata import Code, LocalizedString
from xds.paged_search import PagedRegistry
from xds.patient_feeds import PatientFeeds
from xds.xml import XmlProblem

_BASES: Final = 16
"""How many base URLs are remembered: a server has one, or one for each address that it listens on."""
_KEPT_IN: Final = "fhir-secret"  # a file of the data directory
_PURPOSE: Final = "cursors of FHIR searches"
_REST_OF_A_URL: Final = 1024  # octets that it may have beside a cursor


def fhir_renderer(settings: Settings) -> Renderer:
    """Makes the FHIR resources of what is registered. Raises SettingsProblem."""
    return Renderer(code_systems(settings), settings.mhd.repository_extension)


def mhd_at(
    settings: Settings,
    *,
    registry: DocumentRegistry,
    pages: PagedRegistry,
    repository: DocumentRepository,
    elsewhere: Elsewhere,
    codes: ChangingCodes,
    on_demand: OnDemand | None = None,
    delayed: Delayed | None = None,
    feeds: PatientFeeds | None = None,
) -> MhdAt:
    """The MHD actors, for whatever base URL they are reached at.

    pages        the same registry, as MHD searches it
    on_demand    None: on-demand documents are not taken
    delayed      None: delayed documents are not taken
    codes        of the affinity domain

    Raises SettingsProblem.
    """
    configured = settings.mhd
    renderer = fhir_renderer(settings)
    longest = settings.limits.url_bytes - _REST_OF_A_URL
    cursors = Cursors(pages.secret_for(_PURPOSE), configured.cursor_seconds, longest=longest)
    options = submission_options(settings)
    sizes = PageSizes(configured.page_size, configured.largest_page)

    @lru_cache(maxsize=_BASES)
    def at(base: str) -> Mhd:
        authorities = frozenset(each.oid for each in settings.patients.assigning_authorities)
        domain = MhdDomain(
            base=base,
            code_systems=renderer.code_systems,
            authorities=authorities,
            value_sets=codes.value_sets,
            displays=codes.displays,
        )
        patients = PatientResolver(domain, pages, elsewhere.patient)
        conditions = SearchConditions(
            registry=pages,
            patients=patients,
            code_systems=domain.code_systems,
            authorities=tuple(sorted(domain.authorities)),
            home_community_id=settings.home_community_id,
            base=base,
            zone=UTC if configured.time_zone == "UTC" else ZoneInfo(configured.time_zone),
        )
        search = Search(
            registry=pages,
            conditions=conditions,
            completion=Completion(base, renderer, codec),
            cursors=cursors,
            sizes=sizes,
        )
        responder = DocumentResponder(
            search=search,
            registry=registry,
            repository=repository,
            codec=codec,
            superseded_gone=configured.superseded_gone,
        )
        recipient = DocumentRecipient(
            repository=repository,
            registry=registry,
            codec=codec,
            stored=responder,
            keys=pages,
            domain=domain,
            fhir_xml=to_xml,
            read_cda=read_cda,
            options=options,
            elsewhere=elsewhere,
            on_demand=on_demand,
            delayed=delayed,
        )
        feed = PatientFeed(base, feeds, pages, domain.code_systems) if feeds is not None else None
        mobile_feed = MobilePatientFeed(feeds, domain.code_systems) if feeds is not None else None
        return Mhd(
            base=base,
            recipient=recipient,
            responder=responder,
            can=_capabilities(settings),
            feed=feed,
            mobile_feed=mobile_feed,
        )

    return at


@asynccontextmanager
async def trusted_servers(settings: Settings) -> AsyncIterator[Elsewhere]:
    """The other servers that the settings name."""
    configured = settings.mhd
    documents = () if configured.external_url is ExternalUrl.REFUSE else configured.document_servers
    if not documents and not configured.patient_servers:
        yield Nowhere()
        return
    connector = aiohttp.TCPConnector(ssl=client_context(settings.tls))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield TrustedServers(
            session,
            documents=documents,
            patients=configured.patient_servers,
            seconds=configured.elsewhere_seconds,
        )


def kept_secret(settings: Settings) -> bytes:
    """32 octets that last, for a server without a store that has such: as configured, or made once and kept.

    Raises SettingsProblem.
    """
    configured = settings.mhd.secret
    text = _made_once(settings.data / _KEPT_IN) if configured is None else configured.get_secret_value()
    return hashlib.sha256(text.encode()).digest()


def _made_once(kept: Path) -> str:
    try:
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            made = kept.with_name(f".{kept.name}-{os.getpid()}")
            made.touch(mode=0o600)
            made.write_text(secrets.token_hex(32), encoding="ascii")
            # Of several processes that start at once, the first link decides.
            with contextlib.suppress(FileExistsError):
                kept.hardlink_to(made)
            made.unlink()
        return kept.read_text(encoding="ascii")
    except OSError as problem:
        raise SettingsProblem(f"mhd.secret: {kept} can not be written: {problem}; give the secret itself") from problem


def _capabilities(settings: Settings) -> Capabilities:
    return Capabilities(
        version("toimik"),
        submissions=True,
        patient_feed=Actor.REGISTRY in settings.actors,
        simplified_publish=settings.mhd.simplified_publish,
        generate_metadata=settings.mhd.generate_metadata,
        fhir_documents=settings.mhd.fhir_documents,
        target_communities=settings.home_community_id is not None,
        patients=Actor.REGISTRY in settings.actors,
        access_tokens=bool(settings.mhd.iua.issuers),
        cors=bool(settings.mhd.cors_origins),
        times_of_change=Actor.REGISTRY in settings.actors,
    )


def submission_options(settings: Settings) -> SubmissionOptions:
    """What this deployment takes of submissions by FHIR."""
    configured = settings.mhd
    defaults: dict[str, tuple[Code, ...]] = {}
    for each in configured.defaults:
        defaults[each.attribute] = (*defaults.get(each.attribute, ()), _code(each))
    return SubmissionOptions(
        minimal=Minimal(configured.minimal.value),
        defaults=defaults,
        default_language=configured.default_language,
        fhir_documents=configured.fhir_documents,
        simplified_publish=configured.simplified_publish,
        generate_metadata=configured.generate_metadata,
        source_id=configured.source_id or repository_unique_id(settings),
        content_types={each.of: _code(each) for each in configured.content_types},
        classes={each.of: _code(each) for each in configured.classes},
        entries_limit=settings.limits.fhir_entries,
        document_bytes=settings.limits.document_bytes,
    )


def _code(value: DefaultCode | CodeOfCode) -> Code:
    return Code(value.code, value.scheme, (LocalizedString(value.display or value.code),))


def code_systems(settings: Settings) -> CodeSystems:
    """OIDs and URIs of code systems and assigning authorities, those of the deployment first.

    Raises SettingsProblem.
    """
    path = settings.mhd.code_systems
    try:
        of_file = _pairs(path) if path is not None else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise SettingsProblem(f"mhd.code_systems: {path}: {problem}") from problem
    of_authorities = [(each.oid, each.uri) for each in settings.patients.assigning_authorities if each.uri]
    try:
        return CodeSystems.default([*of_authorities, *of_file])
    except CodeSystemsDiffer as problem:
        named = [
            *(["patients.assigning_authorities"] if of_authorities else []),
            *([f"mhd.code_systems ({path})"] if path is not None else []),
        ]
        raise SettingsProblem(f"{' and '.join(named)}: {problem}") from problem


def _pairs(path: Path) -> list[tuple[str, str]]:
    content = path.read_bytes()
    if path.suffix == ".json":
        return pairs_of_naming_system(orjson.loads(content))
    rows = tomllib.loads(content.decode())["code_system"]
    return [(row["oid"], uri) for row in rows for uri in ([row["uri"]] if isinstance(row["uri"], str) else row["uri"])]


def read_cda(document: bytes) -> CdaHeader | None:
    """The header of a CDA document, for a service that knows no XML. Raises ValueError for what can not be read."""
    try:
        return read_cda_header(document)
    except XmlProblem as problem:
        raise ValueError(str(problem)) from problem
