"""TLS as the settings ask for it: towards clients, and towards servers that this one asks."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from server.settings.operation import ClientCertificate, TlsSettings

log = logging.getLogger(__name__)


class CannotServe(Exception):
    """The server can not start. The text is for the operator."""


class _ToldHandshake(ssl.SSLObject):
    """The TLS side of a client's connection. Event loops close a connection whose handshake fails and say nothing."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise  # it goes on when more has come
        except ssl.SSLError as problem:
            why = getattr(problem, "verify_message", None) or problem.reason or str(problem)
            log.warning("A TLS handshake failed, and the connection was closed", extra={"why": why})
            raise


def server_context(tls: TlsSettings) -> ssl.SSLContext | None:
    """How clients are spoken to; None for plain HTTP. Raises CannotServe, naming the file that can not be used."""
    if tls.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslobject_class = _ToldHandshake
    _show_certificate(context, tls)
    if tls.client_certificate is not ClientCertificate.NONE and tls.client_ca is not None:
        _trust(context, tls.client_ca)
        required = tls.client_certificate is ClientCertificate.REQUIRED
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def client_context(tls: TlsSettings) -> ssl.SSLContext:
    """How other servers are asked. Raises CannotServe, naming the file that can not be used."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.trusted_servers is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody yet
        _trust(context, tls.trusted_servers)
    _show_certificate(context, tls)
    return context


def _show_certificate(context: ssl.SSLContext, tls: TlsSettings) -> None:
    if tls.certificate is None or tls.key is None:
        return
    try:
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as problem:
        raise CannotServe(f"tls: {tls.certificate} and {tls.key} can not be used: {problem}") from problem


def _trust(context: ssl.SSLContext, authorities: Path) -> None:
    try:
        context.load_verify_locations(authorities)
    except (OSError, ssl.SSLError) as problem:
        raise CannotServe(f"tls: {authorities} can not be used: {problem}") from problem
