"""Where commands find a registry and a repository, and how what goes wrong there ends a command."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import aiohttp
import typer

from server.cli.screen import ExitCode, stopped
from server.remote_actors import RemoteRegistry, RemoteRepository
from server.soap_client import ContentChanged, NotReachable, Refused
from xds.actors import OutcomeUnknown

DEFAULT_SERVER = "http://127.0.0.1:8080"
_REGISTRY = "/xds/registry"
_REPOSITORY = "/xds/repository"
_PANEL = "Server"

To = Annotated[
    str,
    typer.Option(
        "--to", metavar="URL", rich_help_panel=_PANEL, help=f"Toimik's address; {_REGISTRY} or {_REPOSITORY} is added."
    ),
]
RegistryUrl = Annotated[
    str | None, typer.Option("--registry", metavar="URL", rich_help_panel=_PANEL, help="Endpoint of any registry.")
]
RepositoryUrl = Annotated[
    str | None, typer.Option("--repository", metavar="URL", rich_help_panel=_PANEL, help="Endpoint of any repository.")
]
Authorities = Annotated[
    Path | None,
    typer.Option("--ca", metavar="FILE", rich_help_panel=_PANEL, help="PEM file: trust servers of these authorities."),
]
Certificate = Annotated[
    Path | None,
    typer.Option("--certificate", metavar="FILE", rich_help_panel=_PANEL, help="PEM file: show this certificate."),
]
Key = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", rich_help_panel=_PANEL, help="PEM file: the certificate's key.")
]


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the two actors are. tls: None for the authorities that this machine trusts."""

    registry_url: str
    repository_url: str
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(
        cls,
        to: str,
        *,
        registry: str | None = None,
        repository: str | None = None,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> Connection:
        """What the options say. Exits where a file can not be used."""
        base = to.rstrip("/").removesuffix(_REGISTRY).removesuffix(_REPOSITORY)
        tls = _tls(ca, certificate, key)
        return cls(registry or base + _REGISTRY, repository or base + _REPOSITORY, tls)

    @asynccontextmanager
    async def registry(self) -> AsyncIterator[RemoteRegistry]:
        async with aiohttp.ClientSession() as session:
            yield RemoteRegistry(self.registry_url, session, tls=self.tls)

    @asynccontextmanager
    async def repository(self) -> AsyncIterator[RemoteRepository]:
        async with aiohttp.ClientSession() as session:
            yield RemoteRepository(self.repository_url, session, tls=self.tls)


@contextmanager
def ending_commands() -> Iterator[None]:
    """What goes wrong with another host ends the command with a sentence and the exit code that goes with it."""
    try:
        yield
    except (NotReachable, OutcomeUnknown) as problem:
        raise stopped(problem, ExitCode.NOT_REACHABLE) from problem
    except Refused as problem:
        raise stopped(problem, ExitCode.NOT_REACHABLE if problem.try_later else ExitCode.REFUSED) from problem
    except (ContentChanged, OSError) as problem:
        raise stopped(problem, ExitCode.USAGE) from problem


def _tls(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if ca is None and certificate is None and key is None:
        return None
    if certificate is None and key is not None:
        raise stopped("--key is the key of a certificate: give --certificate as well", ExitCode.USAGE)
    try:
        context = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as problem:
        files = ", ".join(str(file) for file in (ca, certificate, key) if file is not None)
        raise stopped(f"{files}: {problem}", ExitCode.USAGE) from problem
    return context
