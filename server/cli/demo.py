"""`toimik demo`: what a registry and a repository are for, shown on sample documents and a temporary server.

Everything goes over the wire as it would between strangers: ITI-41, ITI-18 and ITI-43 by HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib.resources import as_file
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import aiohttp
import typer
from rich.console import Console
from rich.table import Table

from schemas.samples import AFFINITY_DOMAIN, SAMPLES, SOURCE_ID, Sample, SampleCode, path
from server.cli.asking import STATUSES, objects_in, query_named, request_for, shortened
from server.cli.document_source import code_of, new_oid, submission_of
from server.cli.screen import ExitCode, moment, octets, output, plain, print_errors, stopped, table
from server.event_loop import run as run_in_event_loop
from server.remote_actors import RemoteRegistry, RemoteRepository, bytes_content
from server.serving import serve
from server.settings import Settings, load_settings
from server.soap_client import NotReachable, Refused, Upload
from server.tls import CannotServe
from xds.actors import Attachment, DocumentRequest, OutcomeUnknown, RegistryResponse
from xds.errors import ErrorCode, RegistryError, ResponseStatus
from xds.hl7v2 import CX, DTM, XCN, XON
from xds.metadata import Author, AvailabilityStatus, Code, DocumentEntry, LocalizedString

_ANSWER_TO_A_WRONG_HASH = ErrorCode.REPOSITORY_METADATA_ERROR
_PARAGRAPH_WIDTH = 100


class Unexpected(Exception):
    """The server did not do what it should. The text says what."""


def run(
    keep: Annotated[bool, typer.Option("--keep", help="Go on serving afterwards, to be tried out.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 for any free one.")] = 0,
) -> None:
    """Start a server on a temporary store, send it sample documents, find them, fetch them, and say what happened.

    Nothing outside of a temporary directory is touched. Patients, people and places in the samples are made up.

    Exit code: 0 everything went as it should, 1 something did not, 2 the port can not be used.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="toimik-demo-") as directory, as_file(path(AFFINITY_DOMAIN)) as domain:
            settings = load_settings(domain, data=Path(directory), host="127.0.0.1", port=port, workers=1)
            run_in_event_loop(_shown(settings, keep=keep))
    except (Unexpected, NotReachable, Refused, OutcomeUnknown) as problem:
        raise stopped(problem, ExitCode.REFUSED) from problem
    except CannotServe as problem:
        raise stopped(problem, ExitCode.USAGE) from problem


@dataclass(frozen=True, slots=True)
class Server:
    """The server of the demonstration, and clients to speak to it. ended: set when it stops."""

    url: str
    registry: RemoteRegistry
    repository: RemoteRepository
    ended: asyncio.Event


@dataclass(frozen=True, slots=True)
class Document:
    """A sample on its way: what is said of it, its octets, and why it is sent (contentTypeCode)."""

    entry: DocumentEntry
    content: bytes
    content_type: Code

    @classmethod
    def of(cls, sample: Sample) -> Document:
        return cls(_entry(sample), path(sample.file_name).read_bytes(), _code(sample.content_type_code))

    @property
    def sha1(self) -> str:
        return hashlib.sha1(self.content, usedforsecurity=False).hexdigest()


@asynccontextmanager
async def _serving(settings: Settings) -> AsyncIterator[Server]:
    stop = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve(settings, stop=stop, announce=listening.set_result))
    try:
        await asyncio.wait((server, listening), return_when=asyncio.FIRST_COMPLETED)
        if server.done():
            await server  # raises what kept it from listening
        url = await listening
        async with aiohttp.ClientSession() as session:
            registry = RemoteRegistry(f"{url}/xds/registry", session)
            yield Server(url, registry, RemoteRepository(f"{url}/xds/repository", session), stop)
    finally:
        stop.set()
        await server


async def _shown(settings: Settings, *, keep: bool) -> None:
    screen = output()
    documents = [Document.of(sample) for sample in SAMPLES]
    async with _serving(settings) as server:
        _heading(screen, "Toimik: a document registry and a document repository, shown on samples")
        _paragraph(
            screen,
            f"They serve on {server.url} now, on a temporary store, with the patients' numbering systems and the codes "
            f"of {AFFINITY_DOMAIN}.",
        )
        await _submit(screen, server, documents)
        found = await _find(screen, server, documents)
        await _retrieve(screen, server, documents, found)
        await _be_refused(screen, server, documents[0])
        await _replace(screen, server, documents[-1])
        _heading(screen, "Everything went as it should.")
        if keep:
            _say_how_to_go_on(screen, server.url, documents)
            await server.ended.wait()
        else:
            _say_what_to_do_next(screen)


# -------------------------------------------------------------------------------------------------------- the steps


async def _submit(screen: Console, server: Server, documents: Sequence[Document]) -> None:
    _heading(screen, "1. Sources submit documents (Provide and Register Document Set-b, ITI-41)")
    rows = table(screen, "Patient", "Document", "Kind", "Size", right=("Size",))
    for patient in _patients(documents):
        dossier = [each for each in documents if each.entry.patient_id == patient]
        response = await _provided(server, dossier, dossier[0].content_type)
        if not response.succeeded:
            raise Unexpected(f"The samples of a patient were refused: {_said(response.errors)}")
        for each in dossier:
            rows.add_row(
                *map(plain, (_name(each), _title(each.entry), each.entry.mime_type, octets(len(each.content))))
            )
    _print_table(screen, rows)
    _paragraph(
        screen,
        "The repository keeps the octets of each document and measures their size and hash; the registry learns who "
        "the document is about, what it is, and where it is kept. One patient's documents came as one SubmissionSet: "
        "all of it is registered, or nothing.",
    )


async def _find(screen: Console, server: Server, documents: Sequence[Document]) -> dict[str, DocumentEntry]:
    """The entries that the registry finds, by uniqueId."""
    _heading(screen, "2. Consumers find them (Registry Stored Query FindDocuments, ITI-18)")
    rows = table(screen, "Patient", "Type", "Created (UTC)", "Author", "Size", right=("Size",))
    found: dict[str, DocumentEntry] = {}
    for patient in _patients(documents):
        expected = {each.entry.unique_id for each in documents if each.entry.patient_id == patient}
        entries = await _approved(server, patient)
        if {entry.unique_id for entry in entries} != expected:
            raise Unexpected(f"FindDocuments finds {len(entries)} documents of a patient who has {len(expected)}.")
        for entry in entries:
            found[entry.unique_id or ""] = entry
            author = entry.author[0].author_person if entry.author else None
            name = f"{author.given_name} {author.family_name}" if author else ""
            document = next(each for each in documents if each.entry.unique_id == entry.unique_id)
            cells = (_name(document), _type(entry), moment(entry.creation_time), name, octets(int(entry.size or 0)))
            rows.add_row(*map(plain, cells))
    _print_table(screen, rows)
    _paragraph(screen, "The registry answers with all that the sources said, and with what the repository measured.")
    return found


async def _retrieve(
    screen: Console, server: Server, documents: Sequence[Document], found: dict[str, DocumentEntry]
) -> None:
    _heading(screen, "3. Consumers fetch them (Retrieve Document Set, ITI-43)")
    hashes: dict[str, str] = {}

    async def receive(attachment: Attachment) -> None:
        digest = hashlib.sha1(usedforsecurity=False)
        async for chunk in attachment.content:
            digest.update(chunk)
        hashes[attachment.content_id] = digest.hexdigest()

    requests = [DocumentRequest(entry.repository_unique_id or "", unique_id) for unique_id, entry in found.items()]
    answer = await server.repository.retrieve(requests, receive)
    if answer.status is not ResponseStatus.SUCCESS:
        raise Unexpected(f"The documents were not returned: {_said(answer.errors)}")
    fetched = {each.request.document_unique_id: hashes[each.content_id] for each in answer.documents}
    rows = table(screen, "Document", "SHA-1 of what came back", "")
    for each in documents:
        came_back = fetched.get(each.entry.unique_id or "")
        if not came_back == each.sha1 == found[each.entry.unique_id or ""].hash:
            raise Unexpected(f"{each.entry.unique_id} was sent with SHA-1 {each.sha1} and came back with {came_back}.")
        rows.add_row(plain(_title(each.entry)), f"{each.sha1[:12]}...", "[green]identical[/]")
    _print_table(screen, rows)
    _paragraph(screen, "All documents came in one answer, each octet as it was sent.")


async def _be_refused(screen: Console, server: Server, document: Document) -> None:
    _heading(screen, "4. What is wrong is refused, and leaves no trace")
    before = await _approved(server, document.entry.patient_id)
    wrong = replace(document, entry=replace(document.entry, entry_uuid=uuid4().urn, unique_id=new_oid(), hash="0" * 40))
    response = await _provided(server, [wrong], document.content_type)
    if response.succeeded or _ANSWER_TO_A_WRONG_HASH not in {error.code for error in response.errors}:
        raise Unexpected(f"A document with a wrong hash has to be refused; the answer is {_said(response.errors)}")
    if await _approved(server, document.entry.patient_id) != before:
        raise Unexpected("A refused submission changed what the registry knows.")
    _paragraph(screen, "The same document again, as a new one and with a hash that is not its own:")
    print_errors(screen, response.errors)
    _paragraph(screen, "Every error has the standard's code and a sentence that says what to change.")


async def _replace(screen: Console, server: Server, document: Document) -> None:
    _heading(screen, "5. A document is corrected by another that replaces it")
    entry = replace(document.entry, entry_uuid=uuid4().urn, unique_id=new_oid())
    newer = replace(document, entry=entry, content=document.content + b"\n(corrected)\n")
    response = await _provided(server, [newer], document.content_type, replaced=document.entry.entry_uuid)
    if not response.succeeded:
        raise Unexpected(f"A replacement was refused: {_said(response.errors)}")
    entries = await _entries(server, document.entry.patient_id, "all")
    statuses = {entry.entry_uuid: entry.availability_status for entry in entries}
    expected = {
        document.entry.entry_uuid: AvailabilityStatus.DEPRECATED,
        newer.entry.entry_uuid: AvailabilityStatus.APPROVED,
    }
    if expected.items() - statuses.items():
        raise Unexpected("A replaced document has to be Deprecated, and its replacement Approved.")
    rows = table(screen, "Document", "uniqueId", "Status")
    for entry in entries:
        if entry.entry_uuid in expected:
            status = shortened([entry.availability_status])
            rows.add_row(*map(plain, (_title(entry), entry.unique_id, status)))
    _print_table(screen, rows)
    _paragraph(
        screen,
        "Nothing is overwritten: the older version stays where it was, for whoever wants to know what was known when.",
    )


# ------------------------------------------------------------------------------------------- what is sent and asked


async def _provided(
    server: Server, documents: Sequence[Document], content_type: Code, *, replaced: str | None = None
) -> RegistryResponse:
    submission = submission_of(
        [each.entry for each in documents], source_id=SOURCE_ID, content_type_code=content_type, replaced=replaced
    )
    uploads = [
        Upload(each.entry.entry_uuid, each.entry.mime_type or "", len(each.content), bytes_content(each.content))
        for each in documents
    ]
    return await server.repository.provide_and_register(submission, uploads)


async def _approved(server: Server, patient: CX | None) -> list[DocumentEntry]:
    return await _entries(server, patient, "approved")


async def _entries(server: Server, patient: CX | None, status: str) -> list[DocumentEntry]:
    typed = [("$XDSDocumentEntryPatientId", str(patient))]
    typed += [("$XDSDocumentEntryStatus", each) for each in STATUSES[status]]
    response = await server.registry.stored_query(request_for(query_named("FindDocuments"), typed))
    if response.status is not ResponseStatus.SUCCESS:
        raise Unexpected(f"The registry was asked for documents and answered {_said(response.errors)}")
    return [each for each in objects_in(response) if isinstance(each, DocumentEntry)]


def _entry(sample: Sample) -> DocumentEntry:
    """The metadata of a sample, as its source sends it."""
    return DocumentEntry(
        entry_uuid=uuid4().urn,
        unique_id=sample.unique_id,
        patient_id=CX(sample.patient_id),
        title=(LocalizedString(sample.title, sample.language_code),),
        author=(
            Author(
                XCN(sample.author_person),
                tuple(map(XON, sample.author_institution)),
                sample.author_role,
                sample.author_specialty,
            ),
        ),
        class_code=_code(sample.class_code),
        type_code=_code(sample.type_code),
        format_code=_code(sample.format_code),
        confidentiality_code=tuple(map(_code, sample.confidentiality_code)),
        healthcare_facility_type_code=_code(sample.healthcare_facility_type_code),
        practice_setting_code=_code(sample.practice_setting_code),
        event_code_list=tuple(map(_code, sample.event_code_list)),
        creation_time=DTM(sample.creation_time),
        service_start_time=DTM(sample.service_start_time),
        service_stop_time=DTM(sample.service_stop_time),
        language_code=sample.language_code,
        legal_authenticator=XCN(sample.legal_authenticator) if sample.legal_authenticator else None,
        mime_type=sample.mime_type,
        source_patient_id=CX(sample.source_patient_id),
        source_patient_info=sample.source_patient_info,
    )


def _code(code: SampleCode) -> Code:
    return code_of(code.code, code.scheme, code.display)


# ----------------------------------------------------------------------------------------------------- what is said


def _patients(documents: Sequence[Document]) -> list[CX]:
    return list(dict.fromkeys(each.entry.patient_id for each in documents if each.entry.patient_id))


def _name(document: Document) -> str:
    """The patient's name, from PID-5."""
    name = next(each for each in document.entry.source_patient_info if each.startswith("PID-5|"))
    family, given = name.removeprefix("PID-5|").split("^")[:2]
    return f"{given} {family}"


def _title(entry: DocumentEntry) -> str:
    return entry.title[0].value


def _type(entry: DocumentEntry) -> str:
    return entry.type_code.display_name[0].value if entry.type_code else ""


def _said(errors: Sequence[RegistryError]) -> str:
    return "; ".join(f"{error.code}: {error.code_context}" for error in errors) or "without an error"


def _heading(screen: Console, text: str) -> None:
    screen.print(f"\n[bold]{plain(text)}[/]\n", soft_wrap=True)


def _print_table(screen: Console, rows: Table) -> None:
    screen.print(rows)
    if not screen.is_terminal:  # a frame has its own space
        screen.print()


def _paragraph(screen: Console, text: str) -> None:
    screen.print(plain(text), width=_PARAGRAPH_WIDTH if screen.width > _PARAGRAPH_WIDTH else None)


def _say_what_to_do_next(screen: Console) -> None:
    _paragraph(screen, "The temporary store is gone. What you may do next:")
    _commands(
        screen,
        ("demo --keep", "the same, and go on serving to be tried out"),
        ("serve", "a server of your own, on ./toimik-data"),
        ("settings > toimik.toml", "every setting, explained"),
        ("--help", "all commands"),
    )


def _say_how_to_go_on(screen: Console, url: str, documents: Sequence[Document]) -> None:
    patient = documents[0].entry.patient_id
    unique_id = documents[0].entry.unique_id
    screen.print(f"Registry    {url}/xds/registry    (description: {url}/xds/registry?wsdl)", soft_wrap=True)
    screen.print(f"Repository  {url}/xds/repository  (description: {url}/xds/repository?wsdl)\n", soft_wrap=True)
    _paragraph(screen, "They go on serving until Ctrl-C. Try, in another terminal:")
    _commands(
        screen,
        (f"query --to {url} --patient '{patient}'", "what is there of a patient"),
        (f"retrieve --to {url} {unique_id}", "fetch a document"),
        (f"submit --to {url} --patient '{patient}' FILE", "add one"),
    )


def _commands(screen: Console, *commands: tuple[str, str]) -> None:
    for command, purpose in commands:
        screen.print(f"\n  [cyan]{plain(f'{_program()} {command}')}[/]\n      {plain(purpose)}", soft_wrap=True)


def _program() -> str:
    """This program as it was started, so that what is printed can be copied: .venv/bin/toimik."""
    started = Path(sys.argv[0])
    if started.name != "toimik":  # python -m server, or a test
        return "toimik"
    return str(started.relative_to(Path.cwd())) if started.is_relative_to(Path.cwd()) else str(started)
