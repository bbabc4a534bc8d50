"""The command `toimik`.

A command is one file of server/cli with a function `run`, and one row of COMMANDS. Its module is imported only when it
is asked for: `toimik --help` does not wait for an HTTP library.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection
from typing import Annotated, Any, NamedTuple

import typer


class Command(NamedTuple):
    """A row of `toimik --help`; its function is `run` of server/cli/<name>.py."""

    name: str
    help: str


COMMANDS = (
    Command("serve", "Answer requests until told to stop."),
    Command("demo", "See it work: submit, find and retrieve sample documents on a temporary server."),
    Command("submit", "Send documents to a repository (ITI-41)."),
    Command("query", "Ask a registry what it knows (ITI-18)."),
    Command("retrieve", "Fetch documents from a repository (ITI-43)."),
    Command("settings", "Print every setting with its default and what it means, as a file to start from."),
    Command("doctor", "Check settings, stores and certificates, and say what is wrong."),
    Command("reindex", "Write the registry's index again from its log."),
    Command("codes", "Import the code sets of an affinity domain from codes.xml or FHIR ValueSets."),
    Command("patients", "Import the patients that the registry knows from a CSV file."),
    Command("migrate", "Prepare the configured stores, or copy a registry and its documents to other ones."),
    Command("bench", "Measure this machine: rates, and ratios to a bare HTTP server."),
)


def main() -> None:
    """Run the command that the command line names."""
    command_line(sys.argv[1:])()


def command_line(arguments: Collection[str]) -> typer.Typer:
    """The command line, with those commands ready to run whose names are among `arguments`."""
    application = typer.Typer(
        name="toimik",
        help="Toimik, an IHE XDS.b Document Registry and Document Repository.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    application.callback()(_options)
    for name, summary in COMMANDS:
        function = _function(name) if name in arguments else _not_asked_for
        application.command(name, help=None if name in arguments else summary, short_help=summary)(function)
    return application


def _function(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = importlib.import_module(f"server.cli.{name}").run
    return function


def _not_asked_for() -> None:
    raise AssertionError("a command whose name is not on the command line can not be run by it")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # only here: --help need not wait for it

        sys.stdout.write(f"toimik {version('toimik')}\n")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
