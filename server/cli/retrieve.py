"""`toimik retrieve`: a document consumer for any XDS.b server (ITI-18 to find, ITI-43 to fetch)."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from server.cli.asking import STATUSES, check_reached, objects_in, query_named, request_for
from server.cli.connection import (
    DEFAULT_SERVER,
    Authorities,
    Certificate,
    Connection,
    Key,
    RegistryUrl,
    RepositoryUrl,
    To,
    ending_commands,
)
from server.cli.screen import (
    ExitCode,
    errors_as_json,
    is_wide,
    messages,
    octets,
    output,
    plain,
    print_errors,
    print_json,
    stopped,
    table,
    transfer_bar,
)
from server.cli.submit import patient_id
from server.remote_actors import RemoteRegistry, Retrieval
from xds.actors import Attachment, DocumentRequest
from xds.errors import ResponseStatus, XdsError
from xds.metadata import AvailabilityStatus, DocumentEntry, DocumentEntryType

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 100
_EXTENSIONS = {"text/xml": ".xml", "application/xml": ".xml", "text/plain": ".txt", "application/dicom": ".dcm"}


class NotFound(Exception):
    """No registry entry says where a document is. The text says which, and what helps."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A document to fetch, and what the registry says of it; None where none was asked."""

    request: DocumentRequest
    entry: DocumentEntry | None = None

    @property
    def measured(self) -> DocumentEntry | None:
        """The entry where its hash and size are to be compared: not that of a delayed document.

        ITI TF-2: 3.43.4.2.3.2.
        """
        return None if self.entry is None or self.entry.says_delayed else self.entry


@dataclass(slots=True)
class Arrived:
    """A document in a file of its own, which has no lasting name yet."""

    file: Path
    size: int
    hash: str


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a document.

    problem   why it has no file, in a sentence
    made_as   of an on-demand document, what was made for this retrieval: its uniqueId, and where it can be had again
    """

    wanted: Wanted
    file: Path | None = None
    size: int = 0
    hash: str = ""
    problem: str | None = None
    made_as: tuple[str | None, str | None] = (None, None)

    @property
    def verified(self) -> bool:
        return self.file is not None and self.wanted.measured is not None and self.wanted.measured.hash is not None


@dataclass(slots=True)
class Download:
    """The files of one answer. Leaving it removes those that were not given a name."""

    directory: Path
    arrived: dict[str, Arrived] = field(default_factory=dict)

    async def receive(self, attachment: Attachment) -> None:
        """Write one document as it arrives."""
        file = self.directory / f".toimik-{uuid4().hex}.part"
        arrived = self.arrived[attachment.content_id] = Arrived(file, 0, "")
        digest = hashlib.sha1(usedforsecurity=False)
        handle = await asyncio.to_thread(file.open, "xb")
        try:
            async for chunk in attachment.content:
                digest.update(chunk)
                arrived.size += len(chunk)
                await asyncio.to_thread(handle.write, chunk)
        finally:
            await asyncio.to_thread(handle.close)
        arrived.hash = digest.hexdigest()

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.arrived.values():
            with suppress(FileNotFoundError):
                each.file.unlink()


def run(
    unique_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[UNIQUE_ID]...", help="uniqueIds of the documents.")
    ] = None,
    to: To = DEFAULT_SERVER,
    registry: RegistryUrl = None,
    repository: RepositoryUrl = None,
    ca: Authorities = None,
    certificate: Certificate = None,
    key: Key = None,
    patient: Annotated[
        str | None,
        typer.Option("--patient", "-p", metavar="ID", help="All of a patient's: ID^^^&OID&ISO, or ID and --authority."),
    ] = None,
    authority: Annotated[str | None, typer.Option(metavar="OID", help="Who numbers the patients.")] = None,
    repository_id: Annotated[
        str | None,
        typer.Option(metavar="OID", help="The repository's uniqueId: no registry is asked, nothing can be verified."),
    ] = None,
    directory: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", file_okay=False, help="Where the files go.")
    ] = Path(),
    on_demand: Annotated[
        bool, typer.Option("--on-demand", help="With --patient: also what is made when it is retrieved.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what happened as JSON.")] = False,
) -> None:
    """Fetch documents, check that they are what the registry says they are, and save each as a file.

    A document whose size or SHA-1 is not that of its registry entry is not saved.

    Exit code: 0 all saved, 1 not all, 2 a mistake on the command line, 3 the server can not be reached.
    """
    if (patient is None) == (not unique_ids):
        raise typer.BadParameter("give uniqueIds, or a patient by --patient", param_hint="UNIQUE_ID")
    if patient is not None and repository_id is not None:
        raise typer.BadParameter("only a registry knows the documents of a patient", param_hint="--repository-id")
    connection = Connection.of(to, registry=registry, repository=repository, ca=ca, certificate=certificate, key=key)
    with ending_commands():
        directory.mkdir(parents=True, exist_ok=True)
        try:
            if repository_id is not None:
                wanted = [Wanted(DocumentRequest(repository_id, each)) for each in dict.fromkeys(unique_ids or [])]
            elif patient is not None:
                wanted = asyncio.run(_of_patient(connection, str(patient_id(patient, authority)), on_demand))
            else:
                wanted = asyncio.run(_of_ids(connection, list(dict.fromkeys(unique_ids or []))))
        except NotFound as problem:
            raise stopped(problem, ExitCode.REFUSED) from problem
        except XdsError as refusal:
            print_errors(messages(), refusal.errors)
            raise typer.Exit(ExitCode.REFUSED) from refusal
        with Download(directory) as download:
            answer = asyncio.run(_fetched(connection, wanted, download))
            outcomes = list(saved(wanted, answer, download, force=force))
    if json:
        print_json(_as_json(answer, outcomes))
    else:
        _print(answer, outcomes)
    raise typer.Exit(ExitCode.OK if all(each.file for each in outcomes) else ExitCode.REFUSED)


# ---------------------------------------------------------------------------------------------------- what to fetch


async def _of_patient(connection: Connection, patient: str, on_demand: bool) -> list[Wanted]:
    asked = [("$XDSDocumentEntryPatientId", patient)]
    asked += [("$XDSDocumentEntryStatus", each) for each in STATUSES["approved"]]
    if on_demand:
        asked += [("$XDSDocumentEntryType", each) for each in DocumentEntryType]
    async with connection.registry() as registry:
        entries = await _entries(registry, "FindDocuments", asked)
    if not entries:
        raise NotFound("the registry knows no approved documents of this patient")
    # Several entries may describe one document.
    return list({each.request: each for each in map(_wanted, entries)}.values())


async def _of_ids(connection: Connection, unique_ids: Sequence[str]) -> list[Wanted]:
    """Each is asked for by itself: a registry gives the entries of two patients in no one answer."""
    wanted: list[Wanted] = []
    async with connection.registry() as registry:
        for unique_id in unique_ids:
            entries = await _entries(registry, "GetDocuments", [("$XDSDocumentEntryUniqueId", unique_id)])
            if not entries:
                raise NotFound(f"the registry knows no {unique_id}; --repository-id fetches without asking it")
            # Where several entries describe a document, the one that stands goes before those that it has replaced.
            entries.sort(key=lambda entry: entry.availability_status != AvailabilityStatus.APPROVED)
            wanted.append(_wanted(entries[0]))
    return wanted


async def _entries(registry: RemoteRegistry, query: str, typed: list[tuple[str, str]]) -> list[DocumentEntry]:
    """Raises XdsError where the registry refuses, NotReachable where there is none."""
    response = await registry.stored_query(request_for(query_named(query), typed))
    check_reached(response)
    if response.errors and response.status is ResponseStatus.FAILURE:
        raise XdsError.of(response.errors)
    return [each for each in objects_in(response) if isinstance(each, DocumentEntry)]


def _wanted(entry: DocumentEntry) -> Wanted:
    request = DocumentRequest(entry.repository_unique_id or "", entry.unique_id or "", entry.home_community_id)
    return Wanted(request, entry)


# --------------------------------------------------------------------------------------------------- fetch and save


async def _fetched(connection: Connection, wanted: Sequence[Wanted], download: Download) -> Retrieval:
    sizes = [_size(each) for each in wanted]
    with transfer_bar() as bar:
        task = bar.add_task("Receiving", total=None if None in sizes else sum(filter(None, sizes)))
        async with connection.repository() as repository:
            return await repository.retrieve(
                [each.request for each in wanted], download.receive, progress=lambda passed: bar.advance(task, passed)
            )


def _size(wanted: Wanted) -> int | None:
    size = wanted.measured.size if wanted.measured else None
    return int(size) if size and size.isdecimal() else None


def saved(wanted: Sequence[Wanted], answer: Retrieval, download: Download, *, force: bool) -> Iterator[Saved]:
    """Give each document that is what it should be its name."""
    received = {each.request.document_unique_id: each for each in answer.documents}
    names: set[str] = set()
    for each in wanted:
        found = received.get(each.request.document_unique_id)
        if found is None:
            yield Saved(each, problem="it was not sent; the errors say why")
            continue
        arrived = download.arrived[found.content_id]
        problem = _difference(each, arrived)
        made_as = (found.new_document_unique_id, found.new_repository_unique_id)
        name = _file_name(each.request.document_unique_id, found.mime_type, names)
        if problem is None:
            problem = _named(arrived.file, download.directory / name, force=force)
        file = download.directory / name if problem is None else None
        yield Saved(each, file, arrived.size, arrived.hash, problem, made_as)


def _difference(wanted: Wanted, arrived: Arrived) -> str | None:
    """What is wrong with the octets that came, as the registry has it."""
    size = _size(wanted)
    if size is not None and size != arrived.size:
        return f"it has {arrived.size} octets; the registry says {size}"
    expected = (wanted.measured.hash or "").lower() if wanted.measured else ""
    if expected and expected != arrived.hash:
        return f"its SHA-1 is {arrived.hash}; the registry says {expected}"
    return None


def _named(part: Path, target: Path, *, force: bool) -> str | None:
    """Rename a file, never onto another one unless by force. Returns why it could not be done."""
    if not force:
        try:
            target.open("xb").close()  # the name is ours now, or was somebody's before
        except FileExistsError:
            return f"{target} is there already; --force overwrites it"
    os.replace(part, target)  # noqa: PTH105 - Path.replace does the same and does not say that it overwrites
    return None


def _file_name(unique_id: str, mime_type: str, taken: set[str]) -> str:
    """A name that is safe on every system, and no other document's of this command."""
    stem = _UNSAFE.sub("_", unique_id).strip("._-")[:_LONGEST_NAME] or "document"
    media_type = mime_type.partition(";")[0].strip().lower()
    extension = _EXTENSIONS.get(media_type) or mimetypes.guess_extension(media_type) or ".bin"
    name, number = stem + extension, 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}{extension}"
    taken.add(name.lower())
    return name


# ------------------------------------------------------------------------------------------------------- what happened


def _print(answer: Retrieval, outcomes: Sequence[Saved]) -> None:
    there = [each for each in outcomes if each.file is not None]
    if there:
        screen = output()
        hashes = ("SHA-1",) if is_wide(screen) else ()
        rows = table(screen, "File", "Title", "Size", "Verified", *hashes, right=("Size",))
        for each in there:
            title = each.wanted.entry.title[0].value if each.wanted.entry and each.wanted.entry.title else ""
            rows.add_row(
                plain(each.file), plain(title), octets(each.size), _verified(each), *([each.hash] if hashes else [])
            )
        screen.print(rows)
        for each in there:
            unique_id, repository = each.made_as
            if unique_id is not None:
                kept = f"kept in the repository {repository}" if repository else "not kept"
                screen.print(f"{plain(each.file)} was made on demand as {plain(unique_id)}, {plain(kept)}.")
    for each in outcomes:
        if each.problem is not None:
            messages().print(
                f"[red]Not saved:[/] {plain(each.wanted.request.document_unique_id)}: {plain(each.problem)}"
            )
    print_errors(messages(), answer.errors)


def _verified(saved: Saved) -> str:
    if saved.made_as[0] is not None:
        return "made on demand"
    if saved.wanted.entry is not None and saved.wanted.measured is None:
        return "assembled now"
    return "yes" if saved.verified else "no registry asked"


def _as_json(answer: Retrieval, outcomes: Sequence[Saved]) -> object:
    return {
        "status": answer.status.name.lower(),
        "errors": errors_as_json(answer.errors),
        "documents": [
            {
                "unique_id": each.wanted.request.document_unique_id,
                "repository_unique_id": each.wanted.request.repository_unique_id,
                "file": str(each.file) if each.file is not None else None,
                "size": each.size,
                "hash": each.hash,
                "verified": each.verified,
                "problem": each.problem,
                "new_unique_id": each.made_as[0],
                "new_repository_unique_id": each.made_as[1],
            }
            for each in outcomes
        ],
    }
