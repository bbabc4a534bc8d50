"""How commands speak to a person, and to a program.

What was asked for goes to standard output, all else to standard error. A terminal gets frames, colours and progress
bars; a file or a pipe gets plain lines as wide as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from io import TextIOWrapper
from typing import TextIO

import orjson
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from xds.errors import RegistryError, Severity
from xds.hl7v2 import DTM

_WIDTH_OF_A_FILE = 240
_WIDE = 180


class ExitCode(IntEnum):
    """What a command tells the shell."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    NOT_REACHABLE = 3


def output() -> Console:
    """Where what was asked for goes."""
    return _console(sys.stdout)


def messages() -> Console:
    """Where everything else goes."""
    return _console(sys.stderr)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def table(console: Console, *columns: str, right: Sequence[str] = (), title: str | None = None) -> Table:
    """An empty table. right: the columns that hold numbers."""
    framed = console.is_terminal
    made = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD if framed else None,
        pad_edge=False,
        header_style="bold",
    )
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def is_wide(console: Console) -> bool:
    """Whether several long identifiers fit beside each other."""
    return console.width >= _WIDE


def plain(text: object) -> str:
    """Text that came from elsewhere: brackets in it are brackets, and nothing in it moves the cursor."""
    return escape("".join(character if character.isprintable() else " " for character in str(text)))


def octets(size: int) -> str:
    """A size as a person reads it."""
    if size < 1000:
        return f"{size} B"
    amount = float(size)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.5:
            return f"{amount:.3g} {unit}"
    return f"{amount / 1000:.4g} TB"


def moment(time: DTM | None) -> str:
    """A DTM as people write it: as exact as it is, without seconds."""
    text = time.text if time else ""
    day = "-".join(filter(None, (text[:4], text[4:6], text[6:8])))
    return f"{day} {text[8:10]}:{text[10:12] or '00'}" if len(text) > 8 else day


def print_errors(console: Console, errors: Iterable[RegistryError]) -> None:
    """What a server found wrong, as a table."""
    rows = table(console, "Code", "What to change")
    for error in errors:
        colour, mark = ("red", "") if error.severity is Severity.ERROR else ("yellow", " (warning)")
        where = f"\n[dim]{plain(error.location)}[/]" if error.location else ""
        rows.add_row(f"[{colour}]{plain(error.code)}[/]{mark}", plain(error.code_context) + where)
    if rows.row_count:
        rows.columns[0].no_wrap = True
        console.print(rows)


def errors_as_json(errors: Iterable[RegistryError]) -> list[dict[str, str]]:
    """What a server found wrong, for a program."""
    return [
        {
            "code": str(error.code),
            "code_context": error.code_context,
            "location": error.location,
            "severity": "error" if error.severity is Severity.ERROR else "warning",
        }
        for error in errors
    ]


def stopped(problem: object, code: ExitCode) -> typer.Exit:
    """Say on standard error what is in the way; raise the result."""
    messages().print(f"[red]toimik:[/] {plain_lines(problem)}", highlight=False, soft_wrap=True)
    return typer.Exit(code)


def plain_lines(text: object) -> str:
    """As plain(), for text that has several lines."""
    return "\n".join(plain(line) for line in str(text).splitlines())


def counting_bar() -> Progress:
    """A bar for things that are counted, on a terminal; nothing elsewhere."""
    console = messages()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def transfer_bar() -> Progress:
    """A bar for octets on their way, on a terminal; nothing elsewhere."""
    console = messages()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _console(stream: TextIO) -> Console:
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")  # a name that the terminal has no letters for must not end a command
    interactive = stream.isatty()
    return Console(file=stream, width=None if interactive else _WIDTH_OF_A_FILE, highlight=False)
