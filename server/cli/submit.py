"""`toimik submit`: a document source for any XDS.b repository (ITI-41)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from server.cli.connection import (
    DEFAULT_SERVER,
    Authorities,
    Certificate,
    Connection,
    Key,
    RepositoryUrl,
    To,
    ending_commands,
)
from server.cli.document_source import CanNotDescribe, Described, Wishes, code_of, described, submission_of, this_source
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
from server.remote_actors import file_content
from server.settings import Settings, SettingsProblem, load_settings
from server.soap_client import Upload
from xds.actors import RegistryResponse
from xds.hl7v2 import CX, DTM, XCN, XON, is_oid
from xds.metadata import Author, Code, Submission

_DOCUMENT = "Metadata (a CDA header says most of it)"
_CODE = "CODE^^SCHEME[ DISPLAY]"


def _code(option: str, text: str) -> Code:
    coded, _, display = text.strip().partition(" ")
    code, _, scheme = coded.partition("^^")
    if not code or not scheme:
        raise typer.BadParameter(f"{text!r} is no code; give it as code^^codingScheme", param_hint=option)
    return code_of(code, scheme, display.strip())


def patient_id(text: str, authority: str | None, option: str = "--patient") -> CX:
    """A patient id as it was typed: a whole CX, or the id alone beside --authority."""
    patient = CX(text) if "^" in text or authority is None else CX.of(text, authority)
    problem = patient.problem()
    if problem:
        hint = "" if "^" in text else ", or give --authority OID"
        raise typer.BadParameter(f"{text!r} is no patient id: {problem}{hint}", param_hint=option)
    return patient


def run(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, help="The documents.")
    ],
    to: To = DEFAULT_SERVER,
    repository: RepositoryUrl = None,
    ca: Authorities = None,
    certificate: Certificate = None,
    key: Key = None,
    patient: Annotated[
        str | None,
        typer.Option("--patient", "-p", metavar="ID", help="Patient id: ID^^^&OID&ISO, or ID and --authority."),
    ] = None,
    authority: Annotated[str | None, typer.Option(metavar="OID", help="Who numbers the patients.")] = None,
    replace: Annotated[
        str | None, typer.Option(metavar="ENTRYUUID", help="The registered document that FILE replaces.")
    ] = None,
    title: Annotated[str | None, typer.Option(rich_help_panel=_DOCUMENT)] = None,
    type_: Annotated[str | None, typer.Option("--type", metavar=_CODE, rich_help_panel=_DOCUMENT)] = None,
    class_: Annotated[str | None, typer.Option("--class", metavar=_CODE, rich_help_panel=_DOCUMENT)] = None,
    format_: Annotated[str | None, typer.Option("--format", metavar=_CODE, rich_help_panel=_DOCUMENT)] = None,
    confidentiality: Annotated[list[str] | None, typer.Option(metavar=_CODE, rich_help_panel=_DOCUMENT)] = None,
    event: Annotated[list[str] | None, typer.Option(metavar=_CODE, rich_help_panel=_DOCUMENT)] = None,
    facility: Annotated[str | None, typer.Option(metavar=_CODE, rich_help_panel=_DOCUMENT)] = None,
    practice: Annotated[str | None, typer.Option(metavar=_CODE, rich_help_panel=_DOCUMENT)] = None,
    content_type: Annotated[
        str | None, typer.Option(metavar=_CODE, rich_help_panel=_DOCUMENT, help="Why they are sent together.")
    ] = None,
    author: Annotated[
        str | None, typer.Option(metavar="XCN", rich_help_panel=_DOCUMENT, help="id^family^given^^^^^^&OID&ISO")
    ] = None,
    institution: Annotated[
        list[str] | None, typer.Option(metavar="XON", rich_help_panel=_DOCUMENT, help="The author's: name, or XON.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="TAG", rich_help_panel=_DOCUMENT, help="For example et.")
    ] = None,
    mime_type: Annotated[str | None, typer.Option(metavar="TYPE/SUBTYPE", rich_help_panel=_DOCUMENT)] = None,
    created: Annotated[
        str | None, typer.Option(metavar="TIME", rich_help_panel=_DOCUMENT, help="YYYYMMDDhhmmss in UTC, or a part.")
    ] = None,
    unique_id: Annotated[str | None, typer.Option(metavar="OID", rich_help_panel=_DOCUMENT)] = None,
    source_patient: Annotated[
        str | None, typer.Option(metavar="CX", rich_help_panel=_DOCUMENT, help="The patient id where it was made.")
    ] = None,
    source_id: Annotated[
        str | None, typer.Option(metavar="OID", rich_help_panel=_DOCUMENT, help="Who sends; by default this machine.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Affinity domain: its codes' names, its authorities."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what happened as JSON.")] = False,
) -> None:
    """Send documents to a repository, all of them or none, and say what was registered.

    Files may be of any kind. CDA documents say by themselves whose and what they are; for others say it here.

    Exit code: 0 registered, 1 refused, 2 a mistake on the command line, 3 the server can not be reached.
    """
    connection = Connection.of(to, repository=repository, ca=ca, certificate=certificate, key=key)
    if len(files) > 1 and (unique_id or replace):
        raise typer.BadParameter("these belong to one document; give one FILE", param_hint="--unique-id, --replace")
    given: dict[str, tuple[str, Sequence[str | None]]] = {
        "type_code": ("--type", [type_]),
        "class_code": ("--class", [class_]),
        "format_code": ("--format", [format_]),
        "confidentiality_code": ("--confidentiality", confidentiality or []),
        "event_code_list": ("--event", event or []),
        "healthcare_facility_type_code": ("--facility", [facility]),
        "practice_setting_code": ("--practice", [practice]),
    }
    wishes = Wishes(
        patient_id=patient_id(patient, authority) if patient else None,
        source_patient_id=patient_id(source_patient, None, "--source-patient") if source_patient else None,
        title=title,
        unique_id=unique_id,
        creation_time=_time(created) if created else None,
        language_code=language,
        mime_type=mime_type,
        author=_author(author, institution or []),
        codes={
            attribute: tuple(_code(option, text) for text in texts if text)
            for attribute, (option, texts) in given.items()
        },
    )
    if source_id is not None and not is_oid(source_id):
        raise typer.BadParameter(f"{source_id!r} is no OID", param_hint="--source-id")
    documents = _described(files, wishes, _affinity_domain(config))
    reason = _code("--content-type", content_type) if content_type else documents[0].entry.type_code
    submission = submission_of(
        [document.entry for document in documents],
        source_id=source_id or this_source(),
        content_type_code=reason,
        replaced=replace,
    )
    with ending_commands():
        response = asyncio.run(_sent(connection, submission, documents))
    if json:
        print_json(_as_json(response, submission, documents))
    else:
        _print(response, documents, connection)
    raise typer.Exit(ExitCode.OK if response.succeeded else ExitCode.REFUSED)


def _time(text: str) -> DTM:
    problem = DTM(text).problem()
    if problem:
        raise typer.BadParameter(problem, param_hint="--created")
    return DTM(text)


def _author(person: str | None, institutions: list[str]) -> Author | None:
    if person is None and not institutions:
        return None
    return Author(XCN(person) if person else None, tuple(map(XON, institutions)))


def _affinity_domain(config: Path | None) -> Settings | None:
    try:
        return load_settings(config) if config else None
    except SettingsProblem as problem:
        raise stopped(problem, ExitCode.USAGE) from problem


def _described(files: list[Path], wishes: Wishes, domain: Settings | None) -> list[Described]:
    try:
        documents = [described(file, wishes, domain) for file in files]
    except (CanNotDescribe, OSError) as problem:
        raise stopped(problem, ExitCode.USAGE) from problem
    if len({document.entry.patient_id for document in documents}) > 1:
        raise stopped("the files are of several patients; send those of one at a time", ExitCode.USAGE)
    for document in documents:
        for assumed in document.assumed:
            messages().print(f"[dim]{plain(document.file.name)}: {plain(assumed)}[/]")
    return documents


async def _sent(connection: Connection, submission: Submission, documents: list[Described]) -> RegistryResponse:
    uploads = [
        Upload(each.entry.entry_uuid, each.entry.mime_type or "", each.size, file_content(each.file))
        for each in documents
    ]
    with transfer_bar() as bar:
        task = bar.add_task("Sending", total=sum(upload.size for upload in uploads))
        async with connection.repository() as repository:
            return await repository.provide_and_register(
                submission, uploads, progress=lambda passed: bar.advance(task, passed)
            )


def _print(response: RegistryResponse, documents: list[Described], connection: Connection) -> None:
    if response.succeeded:
        _print_registered(output(), documents)
    else:
        messages().print(f"[red]Refused[/] by {plain(connection.repository_url)}; nothing was registered.")
    print_errors(messages(), response.errors)


def _print_registered(screen: Console, documents: list[Described]) -> None:
    if is_wide(screen):
        rows = table(screen, "Title", "uniqueId", "entryUUID", "Size", "SHA-1", right=("Size",))
        for each in documents:
            entry = each.entry
            cells = (entry.title[0].value, entry.unique_id, entry.entry_uuid, octets(each.size), entry.hash)
            rows.add_row(*map(plain, cells))
    else:
        rows = table(screen, "Title", "Size", "uniqueId, entryUUID, SHA-1", right=("Size",))
        for each in documents:
            identifiers = (each.entry.unique_id, each.entry.entry_uuid, each.entry.hash)
            rows.add_row(plain(each.entry.title[0].value), octets(each.size), "\n".join(map(plain, identifiers)))
    screen.print(rows)


def _as_json(response: RegistryResponse, submission: Submission, documents: list[Described]) -> object:
    return {
        "status": response.status.name.lower(),
        "errors": errors_as_json(response.errors),
        "submission_set": {
            "entry_uuid": submission.submission_set.entry_uuid,
            "unique_id": submission.submission_set.unique_id,
        },
        "documents": [
            {
                "file": str(each.file),
                "title": each.entry.title[0].value,
                "unique_id": each.entry.unique_id,
                "entry_uuid": each.entry.entry_uuid,
                "patient_id": str(each.entry.patient_id),
                "mime_type": each.entry.mime_type,
                "size": each.size,
                "hash": each.entry.hash,
                "assumed": list(each.assumed),
            }
            for each in documents
        ],
    }
