"""`toimik doctor`: is everything as a server needs it, and (--deep) is everything stored as it was?"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from server.access_control import key_diagnoses
from server.audit.audit_outbox import FILE as OUTBOX
from server.audit.audit_outbox import AuditOutbox
from server.audit.audit_sink import NotKept
from server.audit.audit_wiring import outbox_directory
from server.cli.screen import ExitCode, messages, octets, output, plain, plain_lines, print_json, stopped, table
from server.diagnosis import Diagnosis, Tell, Verdict
from server.on_demand_sources import plug_in
from server.settings import Actor, Settings, SettingsProblem, load_settings
from server.settings.on_demand import OnDemandSettings
from server.settings.operation import ClientCertificate
from server.settings.stores import DocumentStoreKind
from server.store_diagnosis import store_diagnoses
from server.tls import CannotServe, server_context

_EXPIRES_SOON_DAYS = 30
_DAY_SECONDS = 24 * 60 * 60
_OF_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")
_PATIENCE_SECONDS = 3.0
_HANDSHAKE_TURNS = 10


_COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "red"}


def run(
    config: Annotated[Path | None, typer.Option("--config", "-c", metavar="FILE", help="Settings.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where everything is kept.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also check everything that is stored, octet by octet.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
) -> None:
    """Check settings, stores and certificates, and say what is wrong. Nothing is changed; a server may be running.

    With --deep the registry's log is verified and compared with its index, and every document with its hash.

    Exit code: 0 healthy, 1 something is wrong, 2 the settings can not be read.
    """
    try:
        settings = load_settings(config, data=data)
    except SettingsProblem as problem:
        raise stopped(problem, ExitCode.USAGE) from problem
    diagnoses = asyncio.run(_examined(settings, deep=deep, tell=None if json else _tell))
    failed = any(diagnosis.verdict is Verdict.FAILED for diagnosis in diagnoses)
    if json:
        print_json({"healthy": not failed, "diagnoses": [asdict(diagnosis) for diagnosis in diagnoses]})
    else:
        _print(diagnoses)
    raise typer.Exit(ExitCode.REFUSED if failed else ExitCode.OK)


def _tell(sentence: str) -> None:
    messages().print(f"[dim]{plain(sentence)}[/]")


def _print(diagnoses: list[Diagnosis]) -> None:
    screen = output()
    rows = table(screen, "", "What", "How it stands")
    for each in diagnoses:
        rows.add_row(f"[{_COLOURS[each.verdict]}]{each.verdict}[/]", plain(each.subject), plain_lines(each.sentence))
    screen.print(rows)


async def _examined(settings: Settings, *, deep: bool, tell: Tell | None) -> list[Diagnosis]:
    diagnoses = [
        Diagnosis("settings", Verdict.OK, f"actors: {', '.join(settings.actors)}"),
        *(_data_directory(settings) if settings.has_embedded_store else ()),
        *_tls(settings),
        _port(settings),
        *_public_url(settings),
    ]
    if Actor.REGISTRY not in settings.actors:
        diagnoses.append(await _elsewhere("registry", settings.registry_url))
    if Actor.MHD in settings.actors and Actor.REPOSITORY not in settings.actors:
        diagnoses.append(await _elsewhere("repository", settings.repository_url))
    diagnoses += [await _on_demand_source(each) for each in settings.on_demand]
    diagnoses += [each async for each in _audit(settings)]
    if Actor.MHD in settings.actors:
        diagnoses += [each async for each in key_diagnoses(settings)]
    diagnoses += [each async for each in store_diagnoses(settings, deep=deep, tell=tell)]
    return diagnoses


# ------------------------------------------------------------------------------------------------------ the machine


def _data_directory(settings: Settings) -> Iterator[Diagnosis]:
    """Whether it can be written to, and how much room there is."""
    subject = f"data directory {settings.data}"
    place = settings.data
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
        free = shutil.disk_usage(place).free
    except OSError as problem:
        yield Diagnosis(subject, Verdict.FAILED, f"it can not be written to: {problem.strerror or problem}")
        return
    there = "can be written to" if place == settings.data else "is not there yet; the server will make it"
    yield Diagnosis(subject, Verdict.OK, there)
    if settings.documents.store is not DocumentStoreKind.FILESYSTEM:
        yield Diagnosis("free space", Verdict.OK, octets(free))
        return
    enough = free > settings.limits.min_free_bytes
    wanted = f"documents are refused below {octets(settings.limits.min_free_bytes)}"
    yield Diagnosis("free space", Verdict.OK if enough else Verdict.FAILED, f"{octets(free)}; {wanted}")


def _port(settings: Settings) -> Diagnosis:
    """Whether the port can be listened on. A server of ours that listens there already is no problem."""
    subject = f"port {settings.host}:{settings.port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as problem:
        with suppress(OSError), socket.create_connection((settings.host, settings.port), _PATIENCE_SECONDS):
            return Diagnosis(subject, Verdict.WARNING, "something listens there already; this server, perhaps")
        return Diagnosis(subject, Verdict.FAILED, f"it can not be listened on: {problem.strerror or problem}")
    return Diagnosis(subject, Verdict.OK, "is free")


def _public_url(settings: Settings) -> Iterator[Diagnosis]:
    """Whether the URLs in FHIR are those that apps can use."""
    if Actor.MHD not in settings.actors or settings.public_url is not None or settings.host in _OF_THIS_MACHINE:
        return
    yield Diagnosis(
        "public_url",
        Verdict.WARNING,
        "is not set, so URLs in FHIR name the address at which a request came in; behind a proxy apps can not use that",
    )


async def _elsewhere(actor: str, address: str | None) -> Diagnosis:
    subject = f"{actor} {address}"
    url = urlsplit(address or "")
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        async with asyncio.timeout(_PATIENCE_SECONDS):
            _, writer = await asyncio.open_connection(url.hostname, port)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    except (OSError, TimeoutError, ValueError) as problem:
        return Diagnosis(subject, Verdict.FAILED, f"it can not be reached: {str(problem) or 'no answer'}")
    return Diagnosis(subject, Verdict.OK, "can be reached")


async def _on_demand_source(source: OnDemandSettings) -> Diagnosis:
    """Whether what makes on-demand documents is there. No document is asked for: only a patient's entry would do."""
    subject = f"on-demand source {source.name}"
    try:
        if source.entry_point is not None:
            plug_in(source)
            return Diagnosis(subject, Verdict.OK, f"the plug-in {source.entry_point} is installed")
        for file in filter(None, (source.authorization_file, source.ca)):
            file.read_bytes()
    except (SettingsProblem, OSError) as problem:
        return Diagnosis(subject, Verdict.FAILED, str(problem))
    return await _elsewhere(subject, source.url)


async def _audit(settings: Settings) -> AsyncIterator[Diagnosis]:
    """Whether audit events can be written and sent, and how many wait. None is sent."""
    configured = settings.audit
    if configured.file is not None:
        yield _audit_file(configured.file)
    if configured.feed_url is None:
        return
    subject = "audit record repository"
    try:
        if configured.feed_authorization_file is not None:
            configured.feed_authorization_file.read_bytes()
    except OSError as problem:
        yield Diagnosis(subject, Verdict.FAILED, str(problem))
    else:
        yield await _elsewhere(subject, configured.feed_url)
    directory = outbox_directory(settings)
    if (directory / OUTBOX).exists():
        yield _outbox(directory, configured.outbox_bytes)


def _audit_file(file: Path) -> Diagnosis:
    subject = f"audit file {file}"
    place = file if file.exists() else file.parent
    while not place.exists() and place != place.parent:
        place = place.parent
    if file.is_dir() or not os.access(place, os.W_OK):
        return Diagnosis(subject, Verdict.FAILED, "it can not be written to")
    there = "can be written to" if place == file else "is not there yet; the server will make it"
    return Diagnosis(subject, Verdict.OK, there)


def _outbox(directory: Path, most_octets: int) -> Diagnosis:
    subject = f"audit outbox {directory}"
    try:
        with closing(AuditOutbox(directory, most_octets=most_octets)) as outbox:
            state = outbox.state()
    except NotKept as problem:
        return Diagnosis(subject, Verdict.FAILED, str(problem))
    size = f"{octets(state.octets)} of {octets(most_octets)}"
    told = f"{state.events} events wait ({size}), the oldest for {state.age_seconds:.0f} seconds"
    if state.set_aside:
        told += f"; the audit record repository has refused {state.set_aside} of them"
    fine = not state.set_aside and state.octets < most_octets
    return Diagnosis(subject, Verdict.OK if fine else Verdict.WARNING, told)


# -------------------------------------------------------------------------------------------------------------- TLS


def _tls(settings: Settings) -> Iterator[Diagnosis]:
    if settings.tls.certificate is None:
        lonely = settings.host in ("127.0.0.1", "::1", "localhost")
        told = "off; that is safe on this machine alone, or behind a proxy"
        yield Diagnosis("TLS", Verdict.OK if lonely else Verdict.WARNING, told)
        return
    subject = f"certificate {settings.tls.certificate}"
    try:
        context = server_context(settings.tls)
        assert context is not None  # noqa: S101 - there is a certificate
        days = _days_left(context, settings.tls.certificate)
    except (CannotServe, ssl.SSLError, OSError) as problem:
        yield Diagnosis(subject, Verdict.FAILED, _reason(problem))
        return
    verdict = Verdict.OK if days >= _EXPIRES_SOON_DAYS else Verdict.WARNING
    yield Diagnosis(subject, verdict, f"goes with its key, and expires in {days} days")
    if settings.tls.client_certificate is ClientCertificate.NONE:
        return
    authorities = context.get_ca_certs()
    names = ", ".join(_name(authority) for authority in authorities)
    yield Diagnosis(
        f"client authorities {settings.tls.client_ca}",
        Verdict.OK if authorities else Verdict.FAILED,
        f"clients of {names} are accepted" if authorities else "there is no certificate of an authority in it",
    )


def _days_left(server: ssl.SSLContext, certificate: Path) -> int:
    """Days until the server's certificate expires, as a client sees it that trusts exactly this one.

    Python can not read a certificate, but it can shake hands with itself. Raises ssl.SSLError.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_HANDSHAKE_TURNS):
        try:
            ours.do_handshake()
            break
        except ssl.SSLWantReadError:
            with suppress(ssl.SSLWantReadError):
                theirs.do_handshake()
    expires = (ours.getpeercert() or {}).get("notAfter")
    if not isinstance(expires, str):
        raise ssl.SSLError("a handshake with itself does not come to an end")
    return int((ssl.cert_time_to_seconds(expires) - time.time()) // _DAY_SECONDS)


def _reason(problem: Exception) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"it is refused: {problem.verify_message}"
    return str(problem)


def _name(authority: Mapping[str, object]) -> str:
    subject = authority.get("subject", ())
    parts = dict(part for group in subject for part in group) if isinstance(subject, tuple) else {}
    return str(parts.get("commonName") or parts.get("organizationName") or "a nameless authority")
