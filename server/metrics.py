"""What a monitoring system asks for: how much is done, how fast, and what fails. No patient data.

Prometheus' text format at /metrics. Several workers count into files of one directory, so that whichever of them is
asked answers for all; server/workers.py makes the directory, and PROMETHEUS_MULTIPROC_DIR names it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from importlib.metadata import version
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from server.audit.audit_outbox import AuditOutbox
from server.audit.audit_sink import NotKept
from server.health import Health
from xds.errors import ErrorCode, RegistryError
from xds.hl7v2 import is_oid

_DIRECTORY_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client when it is imported
_CONTENT_TYPE: Final = "text/plain; version=0.0.4"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_NO_TRANSACTION: Final = "none"
_OTHER_CODE: Final = "other"
_NO_SOURCE: Final = "none"
_OTHER_SOURCE: Final = "other"
_MOST_SOURCES: Final = 100
_CODES: Final = frozenset(code.value for code in ErrorCode)


class Outcome(StrEnum):
    """How a request ended. The first three are the standard's response statuses."""

    SUCCESS = "success"
    PARTIAL_SUCCESS = "partial_success"
    FAILURE = "failure"
    FAULT = "fault"
    """A SOAP fault, because the message could not be read."""
    SERVER_ERROR = "server_error"
    """A SOAP fault, because of us."""
    CLIENT_GONE = "client_gone"
    BUSY = "busy"
    """Not even looked at: limits.requests_at_once."""


class Named(Protocol):
    """A transaction, of SOAP or FHIR."""

    @property
    def name(self) -> str:
        """As in ITI-18."""
        ...


@dataclass(frozen=True, slots=True)
class _Counted:
    """The counters of one transaction and outcome. Looking each up by its labels would cost more than counting."""

    requests: Counter
    seconds: Histogram
    received: Counter
    sent: Counter


class Metrics:
    """The counters of this process."""

    def __init__(self) -> None:
        _ask_once_which_process_this_is()
        self.registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests that ended, by outcome", "transaction", "outcome")
        self._received = self._counter("received_bytes", "Octets of requests, without HTTP headers", "transaction")
        self._sent = self._counter("sent_bytes", "Octets of answers, without HTTP headers", "transaction")
        self._errors = self._counter("errors", "Errors and warnings in answers, by code", "transaction", "code")
        self._documents_kept = self._counter("documents_kept", "Documents that were stored and registered")
        self._unknown_codes = self._counter(
            "unknown_codes", "Codes in submissions that the affinity domain does not have", "attribute", "source"
        )
        self._inline_documents = self._counter(
            "inline_documents", "Documents that came as base64 in a message without MTOM", "source"
        )
        self._audit_events = self._counter("audit_events", "Audit events, by whether they are kept", "kept")
        shown = self._counter("fhir_resources", "FHIR resources that searches showed, by where they were", "from")
        self._from_memory, self._from_store = shown.labels("memory"), shown.labels("store")
        self._sources: set[str] = set()
        self._seconds = Histogram(
            "toimik_request_seconds",
            "From the first byte of a request to the last of its answer",
            ("transaction",),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.in_flight = Gauge(
            "toimik_requests_in_flight",
            "Requests that are being read or answered",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        Gauge("toimik_workers", "Processes that serve", registry=self.registry, multiprocess_mode="livesum").set(1)
        self._counted: dict[tuple[str, Outcome], _Counted] = {}

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        return Counter(f"toimik_{name}", description, labels, registry=self.registry)

    def ended(self, transaction: Named | None, outcome: Outcome, *, seconds: float, received: int, sent: int) -> None:
        """A request is over. transaction: None where nothing of the message said which."""
        name = transaction.name if transaction else _NO_TRANSACTION
        counted = self._counted.get((name, outcome))
        if counted is None:
            counted = self._counted[name, outcome] = _Counted(
                self._requests.labels(name, outcome.value),
                self._seconds.labels(name),
                self._received.labels(name),
                self._sent.labels(name),
            )
        counted.requests.inc()
        counted.seconds.observe(seconds)
        counted.received.inc(received)
        counted.sent.inc(sent)

    def reported(self, transaction: Named, errors: Sequence[RegistryError]) -> None:
        """Errors and warnings of an answer. Codes that the standard does not know are not told apart."""
        for error in errors:
            code = str(error.code)
            self._errors.labels(transaction.name, code if code in _CODES else _OTHER_CODE).inc()

    def unknown_code(self, attribute: str, source_id: str) -> None:
        """A code that is in no code set."""
        self._unknown_codes.labels(attribute, self._source(source_id)).inc()

    def inline_documents(self, documents: int, source_id: str) -> None:
        """Documents that came as base64 in a message without MTOM."""
        self._inline_documents.labels(self._source(source_id)).inc(documents)

    def _source(self, source_id: str) -> str:
        """The label of a source. The first hundred are told apart: anybody may make one up."""
        source = source_id or _NO_SOURCE
        if source not in self._sources:
            source = source if len(self._sources) < _MOST_SOURCES and is_oid(source) else _OTHER_SOURCE
            self._sources.add(source)
        return source

    def shown(self, from_memory: int, from_store: int) -> None:
        """FHIR resources of a page: those that were kept in memory, and those that were read from the store."""
        if from_memory:
            self._from_memory.inc(from_memory)
        if from_store:
            self._from_store.inc(from_store)

    def audit_events(self, events: int, is_kept: bool) -> None:
        """Audit events that are in the file and the outbox that the settings name, or that are not."""
        self._audit_events.labels("yes" if is_kept else "no").inc(events)

    def kept(self, documents: int) -> None:
        """Documents that were stored and registered."""
        if documents:
            self._documents_kept.inc(documents)

    def text(self) -> bytes:
        """What was counted, by all workers of this server. Reads files where there are several."""
        if _DIRECTORY_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def _ask_once_which_process_this_is() -> None:
    """A worker never forks. Otherwise every value asks the operating system at every change whether it has."""
    if _DIRECTORY_VARIABLE in os.environ:
        process = os.getpid()
        values.ValueClass = values.MultiProcessValue(process_identifier=lambda: process)  # type: ignore[no-untyped-call]


class MetricsPage:
    """/metrics, for those networks that may ask."""

    def __init__(
        self,
        metrics: Metrics,
        health: Health,
        *,
        networks: Sequence[str],
        data: Path,
        outbox: AuditOutbox | None = None,
    ) -> None:
        """data: the directory whose free space is told. outbox: of audit events; None: there is none."""
        self._metrics = metrics
        self._health = health
        self._networks = [ip_network(network) for network in networks]
        self._data = data
        self._outbox = outbox

    async def get(self, request: web.Request) -> web.Response:
        """Everything there is, in Prometheus' text format 0.0.4."""
        if not self._may_ask(request.remote):
            return web.Response(
                status=HTTPStatus.FORBIDDEN,
                text="Not from your address: the setting metrics.networks says who may ask.\n",
            )
        parts = await self._health.parts()
        body = await asyncio.to_thread(self._body, parts)
        return web.Response(body=body, headers={"Content-Type": f"{_CONTENT_TYPE}; charset=utf-8"})

    def _body(self, parts: Mapping[str, bool]) -> bytes:
        return self._metrics.text() + generate_latest(_now(parts, self._data, self._outbox))

    def _may_ask(self, peer: str | None) -> bool:
        if peer is None:  # not by TCP/IP
            return False
        address = ip_address(peer.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


class _Families(Collector):
    """Measurements of this moment."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families


def _now(parts: Mapping[str, bool], data: Path, outbox: AuditOutbox | None) -> CollectorRegistry:
    """What is not counted but looked at when somebody asks."""
    release = GaugeMetricFamily("toimik_info", "The release that runs", labels=["version"])
    release.add_metric([version("toimik")], 1)
    ready = GaugeMetricFamily("toimik_part_ready", "1 where a part can do its work now, else 0", labels=["part"])
    for part, is_ready in parts.items():
        ready.add_metric([part], float(is_ready))
    families: list[Metric] = [release, ready]
    if data.exists():
        free = shutil.disk_usage(data).free
        families.append(
            GaugeMetricFamily("toimik_data_free_bytes", "Free space where the data directory is", value=free)
        )
    if outbox is not None:
        families += _of_outbox(outbox)
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return registry


def _of_outbox(outbox: AuditOutbox) -> list[Metric]:
    """How it stands with the events that wait to be sent; nothing where it can not be read."""
    try:
        state = outbox.state()
    except NotKept:
        return []
    told = (
        ("events", "Audit events that wait to be sent", state.events),
        ("bytes", "Octets of those", state.octets),
        ("set_aside", "Those of them that the audit record repository refused", state.set_aside),
        ("age_seconds", "How long the oldest of them has waited", state.age_seconds),
    )
    return [GaugeMetricFamily(f"toimik_audit_outbox_{name}", words, value=value) for name, words, value in told]


@contextmanager
def counted_together() -> Iterator[dict[str, str]]:
    """For the process that starts workers: what their environment has to say, so that they count into one place."""
    with tempfile.TemporaryDirectory(prefix="toimik-metrics-") as directory:
        yield {_DIRECTORY_VARIABLE: directory}


def ended_worker(pid: int, environment: Mapping[str, str]) -> None:
    """Forget what a worker that is gone was doing; what it has done stays counted."""
    mark_process_dead(pid, environment[_DIRECTORY_VARIABLE])  # type: ignore[no-untyped-call]
