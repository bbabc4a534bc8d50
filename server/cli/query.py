"""`toimik query`: asks any XDS.b registry (ITI-18)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from server.cli.asking import (
    STATUSES,
    UnknownQuery,
    check_reached,
    objects_in,
    query_named,
    request_for,
    shortened,
)
from server.cli.connection import (
    DEFAULT_SERVER,
    Authorities,
    Certificate,
    Connection,
    Key,
    RegistryUrl,
    To,
    ending_commands,
)
from server.cli.screen import (
    ExitCode,
    errors_as_json,
    messages,
    moment,
    octets,
    output,
    plain,
    print_errors,
    print_json,
    table,
)
from server.cli.submit import patient_id
from xds.actors import QueryRequest, QueryResponse, ReturnType
from xds.errors import ResponseStatus
from xds.hl7v2 import CX, DTM, XCN, XON, XTN, CXi
from xds.metadata import AnyObject, Association, DocumentEntry

_FILTERS = "Which documents (FindDocuments)"
_CODE = "CODE^^SCHEME"
_ENTRY = "$XDSDocumentEntry"


def run(
    to: To = DEFAULT_SERVER,
    registry: RegistryUrl = None,
    ca: Authorities = None,
    certificate: Certificate = None,
    key: Key = None,
    patient: Annotated[
        str | None, typer.Option("--patient", "-p", metavar="ID", help="ID^^^&OID&ISO, or ID and --authority.")
    ] = None,
    authority: Annotated[str | None, typer.Option(metavar="OID", help="Who numbers the patients.")] = None,
    type_: Annotated[list[str] | None, typer.Option("--type", metavar=_CODE, rich_help_panel=_FILTERS)] = None,
    class_: Annotated[list[str] | None, typer.Option("--class", metavar=_CODE, rich_help_panel=_FILTERS)] = None,
    format_: Annotated[list[str] | None, typer.Option("--format", metavar=_CODE, rich_help_panel=_FILTERS)] = None,
    event: Annotated[list[str] | None, typer.Option(metavar=_CODE, rich_help_panel=_FILTERS)] = None,
    author: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", rich_help_panel=_FILTERS, help="%Okafor% for example.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="TIME", rich_help_panel=_FILTERS, help="Created then or later.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", "--to-time", metavar="TIME", rich_help_panel=_FILTERS, help="Created before."),
    ] = None,
    status: Annotated[Literal["approved", "deprecated", "all"], typer.Option(rich_help_panel=_FILTERS)] = "approved",
    query: Annotated[
        str, typer.Option("--query", "-q", metavar="NAME", help="Any other stored query.")
    ] = "FindDocuments",
    param: Annotated[
        list[str] | None, typer.Option(metavar="$NAME=VALUE", help="One of its parameters; may be given again.")
    ] = None,
    object_ref: Annotated[bool, typer.Option("--object-ref", help="Ask for entryUUIDs only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything that was answered as JSON.")] = False,
) -> None:
    """Ask a registry what it knows: the documents of a patient, or any stored query.

    toimik query -p '9990002649^^^&2.16.840.1.113883.2.1.4.1&ISO'

    toimik query -q GetDocuments --param '$XDSDocumentEntryUniqueId=1.2.3'

    Exit code: 0 answered, 1 refused, 2 a mistake on the command line, 3 the server can not be reached.
    """
    typed = [_parameter(text) for text in param or []]
    if query.lower() == "finddocuments":
        if patient is None:
            raise typer.BadParameter("whose documents? Give a patient id", param_hint="--patient")
        typed += [(f"{_ENTRY}PatientId", str(patient_id(patient, authority)))]
        typed += [(f"{_ENTRY}Status", each) for each in STATUSES[status]]
    elif patient is not None:
        raise typer.BadParameter("goes with FindDocuments; name the query's own by --param", param_hint="--patient")
    for name, values in (
        ("TypeCode", type_),
        ("ClassCode", class_),
        ("FormatCode", format_),
        ("EventCodeList", event),
        ("AuthorPerson", author),
        ("CreationTimeFrom", [from_] if from_ else []),
        ("CreationTimeTo", [until] if until else []),
    ):
        typed += [(_ENTRY + name, value) for value in values or []]
    try:
        asked = query_named(query)
    except UnknownQuery as problem:
        raise typer.BadParameter(str(problem), param_hint="--query") from problem
    return_type = ReturnType.OBJECT_REF if object_ref else ReturnType.LEAF_CLASS
    connection = Connection.of(to, registry=registry, ca=ca, certificate=certificate, key=key)
    with ending_commands():
        response = asyncio.run(_answered(connection, request_for(asked, typed, return_type)))
        check_reached(response)
    if json:
        print_json(_as_json(response))
    else:
        _print(response)
    raise typer.Exit(ExitCode.REFUSED if response.status is ResponseStatus.FAILURE else ExitCode.OK)


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise typer.BadParameter(f"{text!r} has no value; give it as '$Name=value'", param_hint="--param")
    return (name if name.startswith("$") else f"${name}"), value


async def _answered(connection: Connection, request: QueryRequest) -> QueryResponse:
    async with connection.registry() as registry:
        return await registry.stored_query(request)


# ------------------------------------------------------------------------------------------------------ for people


def _print(response: QueryResponse) -> None:
    screen = output()
    objects = objects_in(response)
    documents = [each for each in objects if isinstance(each, DocumentEntry)]
    others = [each for each in objects if not isinstance(each, DocumentEntry)]
    if documents:
        screen.print(_documents(screen, documents))
    if others:
        screen.print(_others(screen, others))
    for found in response.found:
        if found.ebrim is None:
            screen.print(plain(found.entry_uuid))
    print_errors(messages(), response.errors)
    if not response.found and response.status is not ResponseStatus.FAILURE:
        messages().print("Nothing matches.")


def _documents(screen: Console, documents: Sequence[DocumentEntry]) -> Table:
    rows = table(screen, "Title", "Type", "Created (UTC)", "Author", "Status", "uniqueId", "Size", right=("Size",))
    for entry in documents:
        display = entry.type_code.display_name if entry.type_code else ()
        rows.add_row(
            plain(_title(entry)),
            plain(display[0].value if display else entry.type_code.coded if entry.type_code else ""),
            plain(moment(entry.creation_time)),
            plain(", ".join(filter(None, (_author(each.author_person) for each in entry.author)))),
            plain(shortened([entry.availability_status])),
            plain(entry.unique_id or ""),
            octets(int(entry.size)) if entry.size and entry.size.isdecimal() else "",
        )
    return rows


def _others(screen: Console, others: Sequence[AnyObject]) -> Table:
    rows = table(screen, "Object", "entryUUID", "What", "Status")
    for each in others:
        what = _title(each)
        if isinstance(each, Association):
            what = f"{shortened([each.association_type])} {each.source_object} -> {each.target_object}"
        rows.add_row(each.kind, plain(each.entry_uuid), plain(what), plain(shortened([each.availability_status])))
    return rows


def _title(item: AnyObject) -> str:
    return item.title[0].value if item.title else ""


def _author(person: XCN | None) -> str:
    if person is None:
        return ""
    names = (person.component(6), person.given_name, person.family_name)
    return " ".join(filter(None, names)) or person.id_number


# ------------------------------------------------------------------------------------------------------ for programs


def _as_json(response: QueryResponse) -> object:
    objects = {each.entry_uuid: each for each in objects_in(response)}
    return {
        "status": response.status.name.lower(),
        "errors": errors_as_json(response.errors),
        "objects": [
            {"kind": found.kind, **_attributes(objects[found.entry_uuid])}
            if found.entry_uuid in objects
            else {"entry_uuid": found.entry_uuid}
            for found in response.found
        ],
    }


def _attributes(value: Any) -> dict[str, Any]:
    """What an object has, under the standard's names; what it has not is left out."""
    pairs = ((field.name, getattr(value, field.name)) for field in fields(value))
    return {name: _plain(each) for name, each in pairs if each not in (None, ())}


def _plain(value: Any) -> Any:
    if isinstance(value, CX | CXi | DTM | XCN | XON | XTN):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return _attributes(value) if is_dataclass(value) else value
