"""One serving process: the HTTP application, and its life from the first request to the last."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler

from registry.iti8_patient_identity_feed import PatientIdentityFeed
from repository.sweeper import sweep
from server.affinity_domain import link_changes
from server.cors import CrossOrigin
from server.fhir_endpoint import FhirEndpoint
from server.health import Health
from server.in_flight import InFlight
from server.inline_documents import InlinePolicy
from server.meanwhile import meanwhile
from server.metrics import Metrics, MetricsPage
from server.mllp import MllpServer
from server.settings import Settings
from server.soap_endpoint import SOAP_PATH, SoapEndpoint
from server.soap_transactions import registry_handlers, repository_handlers
from server.tls import CannotServe, server_context
from server.tracing import traced
from server.unreadable_requests import Connection, Endpoints
from server.wiring import Wired, wired
from xds.transactions import ITI_41

log = logging.getLogger(__name__)

_READ_BUFFER_BYTES = 256 * 1024
_LONGEST_HEADER = 8190  # octets, which is the library's own limit
_BACKLOG = 128  # connections that wait to be taken
_LAST_SECONDS = 1.0  # for what was not finished within shutdown_seconds, before it is cancelled


def application(settings: Settings, actors: Wired, in_flight: InFlight) -> web.Application:
    """The HTTP application: one URL per actor, FHIR, health and metrics."""
    app = web.Application(middlewares=[in_flight.middleware(), traced])
    metrics = Metrics()
    endpoints = []
    if actors.codes is not None:
        actors.codes.counted = metrics.unknown_code
    actors.kept.counted = metrics.shown
    if actors.audit is not None:
        actors.audit.counted = metrics.audit_events
    if actors.registry is not None:
        handlers = registry_handlers(actors.registry, actors.patients)
        endpoints.append(
            SoapEndpoint("registry", handlers, limits=settings.limits, metrics=metrics, public_url=settings.public_url)
        )
    if actors.repository is not None:
        inline = InlinePolicy(settings.submissions.inline_documents, counted=metrics.inline_documents)
        handlers = repository_handlers(actors.repository, limits=settings.limits, inline=inline)
        endpoints.append(
            SoapEndpoint(
                "repository",
                handlers,
                limits=settings.limits,
                metrics=metrics,
                documents_first=ITI_41,
                public_url=settings.public_url,
            )
        )
    for endpoint in endpoints:
        app.router.add_get(endpoint.path, endpoint.get)
        app.router.add_post(endpoint.path, endpoint.post)
    fhir = None
    if actors.mhd_at is not None:
        fhir = FhirEndpoint(
            actors.mhd_at,
            limits=settings.limits,
            metrics=metrics,
            public_url=settings.public_url,
            admission=actors.admission,
            audit=actors.audit,
        )
        answer: Handler = fhir.answer
        if settings.mhd.cors_origins:
            cors = CrossOrigin(settings.mhd.cors_origins, below=fhir.path)
            app.on_response_prepare.append(cors.tell)
            answer = cors.answering_preflights(answer)
        app.router.add_route("*", fhir.path, answer)
        app.router.add_route("*", f"{fhir.path}/{{below:(?s:.*)}}", answer)
    app.router.add_get("/", _welcome(endpoints, fhir))
    health = Health(actors.checks)
    app.router.add_get("/health/live", health.live)
    app.router.add_get("/health/ready", health.ready)
    if settings.metrics.enabled:
        outbox = actors.audit.outbox if actors.audit else None
        networks = settings.metrics.networks
        page = MetricsPage(metrics, health, networks=networks, data=settings.data, outbox=outbox)
        app.router.add_get("/metrics", page.get)
    return app


def _longest_header(settings: Settings) -> int:
    """In octets: one with a token that is too long is still read, so that whoever sent it is told."""
    configured = settings.mhd.iua
    return max(_LONGEST_HEADER, 2 * configured.token_bytes) if configured.issuers else _LONGEST_HEADER


def _welcome(endpoints: Sequence[SoapEndpoint], fhir: FhirEndpoint | None) -> Handler:
    """What a person sees who opens the server's address."""

    async def welcome(request: web.Request) -> web.Response:
        lines = ["Toimik, an IHE XDS.b server.", ""]
        for endpoint in endpoints:
            address = endpoint.address(request)
            lines.append(
                f"{endpoint.title}: POST SOAP 1.2 to {address} ({endpoint.served}); described by {address}?wsdl"
            )
        if fhir is not None:
            lines.append(f"FHIR R4 (MHD): {fhir.base(request)}; described by {fhir.base(request)}/metadata")
        lines += ["", "Is it alive: /health/live. Can it work now: /health/ready.", ""]
        return web.Response(text="\n".join(lines))

    return welcome


async def serve(
    settings: Settings,
    *,
    stop: asyncio.Event,
    share_port: bool = False,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve until `stop` is set or SIGTERM or SIGINT comes; requests in flight are finished first.

    announce   is called with the base URL once requests are answered
    Raises CannotServe.
    """
    with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread: whoever runs us stops us
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tls = server_context(settings.tls)
    async with wired(settings) as actors:
        in_flight = InFlight()
        app = application(settings, actors, in_flight)
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=_LAST_SECONDS)
        await runner.setup()
        try:
            async with _listening(runner, settings, tls, share_port=share_port) as port:
                base = f"{'https' if tls else 'http'}://{_shown(settings.host)}:{port}"
                log.info("Listening", extra={"url": base})
                async with _feeding(settings, actors, tls, share_port=share_port), _sweeping(settings, actors):
                    if announce:
                        announce(base)
                    await stop.wait()
                log.info("Stopping; requests in flight are finished")
            if left := await in_flight.finished(settings.shutdown_seconds):
                log.warning("Stopping in the midst of requests", extra={"requests": left})
        finally:
            await runner.cleanup()


@asynccontextmanager
async def _listening(
    runner: web.AppRunner, settings: Settings, tls: ssl.SSLContext | None, *, share_port: bool
) -> AsyncIterator[int]:
    """Connections are taken, at this port. Raises CannotServe."""
    try:
        server = await asyncio.get_running_loop().create_server(
            _connections(runner, settings),
            settings.host,
            settings.port,
            ssl=tls,
            backlog=_BACKLOG,
            reuse_port=share_port or None,
        )
    except OSError as problem:
        raise CannotServe(f"{settings.host}:{settings.port} can not be listened on: {problem}") from problem
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def _connections(runner: web.AppRunner, settings: Settings) -> Callable[[], Connection]:
    """Makes the connections of a runner that is set up."""
    manager = runner.server
    assert manager is not None  # noqa: S101 - it is set up
    header_bytes = _longest_header(settings)
    paths = {each.canonical for each in runner.app.router.resources()}
    endpoints = Endpoints(
        fhir=FhirEndpoint.path if FhirEndpoint.path in paths else None,
        soap=frozenset(each for each in paths if each.startswith(SOAP_PATH)),
        url_bytes=settings.limits.url_bytes,
        header_bytes=header_bytes,
    )
    return partial(
        Connection,
        manager,
        endpoints=endpoints,
        loop=asyncio.get_running_loop(),
        access_log=None,
        read_bufsize=_READ_BUFFER_BYTES,
        max_line_size=settings.limits.url_bytes,
        max_field_size=header_bytes,
    )


@asynccontextmanager
async def _feeding(
    settings: Settings, actors: Wired, tls: ssl.SSLContext | None, *, share_port: bool
) -> AsyncIterator[None]:
    """HL7 v2 is listened for where the settings name a port.

    Raises CannotServe.
    """
    configured = settings.patients
    if configured.mllp_port is None or actors.patients is None:
        yield
        return
    server = MllpServer(
        PatientIdentityFeed(actors.patients, link_changes(settings, actors.patients)).acknowledged,
        message_bytes=configured.mllp_message_bytes,
        pause_seconds=settings.limits.idle_seconds,
        idle_seconds=configured.mllp_idle_seconds,
        connections=configured.mllp_connections,
    )
    async with server.listening(
        settings.host,
        configured.mllp_port,
        tls=tls,
        share_port=share_port,
        shutdown_seconds=settings.shutdown_seconds,
    ):
        yield


@asynccontextmanager
async def _sweeping(settings: Settings, actors: Wired) -> AsyncIterator[None]:
    """Leftovers of broken uploads are looked after, at start and from time to time."""

    async def from_time_to_time() -> None:
        assert actors.documents is not None  # noqa: S101 - see below
        while True:
            try:
                await sweep(actors.documents, actors.is_registered, older_than_seconds=settings.sweep_seconds)
            except Exception:
                log.exception("Sweeping failed; it is tried again later")
            await asyncio.sleep(settings.sweep_seconds)

    if actors.documents is None:
        yield
        return
    async with meanwhile(from_time_to_time()):
        yield


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
