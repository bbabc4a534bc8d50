"""`toimik codes`: the code sets of the affinity domain, from the forms in which others have them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from server.cli.screen import ExitCode, output, stopped
from server.code_file import read_code_file, write_code_file
from server.code_import import ImportProblem, attribute_named, imported
from server.settings import SettingsProblem
from server.settings.affinity_domain import CodeSet, Policy


class Action(StrEnum):
    """What to do."""

    IMPORT = "import"


def run(
    action: Annotated[Action, typer.Argument(help="import: add code sets to a file.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="codes.xml of NIST, or ValueSets of FHIR.")],
    into: Annotated[
        Path, typer.Option(metavar="FILE", help="The file that the setting codes_file names, .toml or .json.")
    ],
    attribute: Annotated[
        str | None, typer.Option(help="What a ValueSet is for: formatCode; of a codes.xml the only one to take.")
    ] = None,
    policy: Annotated[Policy, typer.Option(help="What becomes of a code that is in no code set.")] = Policy.REJECT,
) -> None:
    """Put code sets of an affinity domain into a file that `toimik serve` reads, and reads again when it changes.

    An attribute that is in the file already takes the new codes in place of the old ones; the others stay.

    Exit code: 0 done, 1 a file can not be imported, 2 the file to write can not be used.
    """
    del action  # there is one
    try:
        codes = read_code_file(into) if into.exists() else {}
        for file in files:
            name = None if attribute is None else attribute_named(attribute)
            for each, values in imported(file.read_bytes(), name).items():
                codes[each] = CodeSet(policy=policy, values=values)
                output().print(f"{each}: {len(values)} codes of {file.name}, {policy.value} others")
        write_code_file(into, codes)
    except ImportProblem as problem:
        raise stopped(f"{file}: {problem}", ExitCode.REFUSED) from problem
    except SettingsProblem as problem:
        raise stopped(problem, ExitCode.USAGE) from problem
    except OSError as problem:
        raise stopped(problem, ExitCode.USAGE) from problem
