"""`toimik settings`: every setting with its value, its bounds and what it means, as TOML that can be loaded again.

Written from the model in server/settings.py, so that it can not tell another story.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from server.cli.screen import ExitCode, stopped
from server.settings import Settings, SettingsProblem, load_settings
from server.settings.affinity_domain import CODED_ATTRIBUTES, CodeSet
from server.settings.on_demand import OnDemandSettings

_HEAD = """\
# Settings of Toimik. Every setting is optional; what stands here is {what}.
# Environment variables override this file: TOIMIK_PORT=9090, TOIMIK_LIMITS__RESULTS=200. So do files with such names
# and a value in each, in the directory that the variable TOIMIK_SECRETS names: the place for secrets.
# Command line options override all of them. Use it with: toimik serve --config toimik.toml
"""

_CODES = """\
# ------------------------------------------------------------------------------------------------ [codes.<attribute>]
# The codes that an attribute may have. Attributes:
#   {attributes}
# policy   {policy}
# values   {values}
# An example:
#   [codes.class_code]
#   policy = "reject"
#   values = [{{ code = "18842-5", scheme = "2.16.840.1.113883.6.1", display = "Discharge summary" }}]
#   [codes.mime_type]
#   policy = "warn"
#   values = ["application/pdf", "text/xml"]
"""

_ON_DEMAND = """\
# {rule}
# {description}
{settings}
# An example:
#   [[on_demand]]
#   name = "summaries"
#   unique_ids = ["1.2.3.4.5"]
#   url = "https://summaries.hospital.example/documents"
"""

_BARE_KEY = re.compile("[A-Za-z0-9_-]+")

_BOUNDS = (("ge", "at least"), ("gt", "more than"), ("le", "at most"))


def run(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Print the settings in effect with this file instead.")
    ] = None,
) -> None:
    """Print every setting with its default, its bounds and what it means, as a TOML file to start from."""
    try:
        settings = load_settings(config) if config else Settings.model_construct()
    except SettingsProblem as problem:
        raise stopped(problem, ExitCode.USAGE) from problem
    sys.stdout.write(documented(settings, "in effect" if config else "the default"))


def documented(settings: Settings, what: str = "the default") -> str:
    """`settings` as a TOML file that explains itself."""
    pieces = [_HEAD.format(what=what)]
    pieces += _table(settings)
    for name, table in _tables(settings):
        pieces.append(f"{_rule(name)}\n[{name}]\n")
        pieces += _table(table)
    pieces.append(_codes(settings))
    pieces.append(_on_demand(settings))
    return "\n".join(pieces)


def _tables(table: BaseModel, of: str = "") -> Iterator[tuple[str, BaseModel]]:
    """The tables in a table, each by its whole name, before those in it."""
    for name, value in _fields(table):
        if isinstance(value, BaseModel):
            yield f"{of}{name}", value
            yield from _tables(value, f"{of}{name}.")


def _rule(name: str) -> str:
    return f"# {'-' * (115 - len(name))} [{name}]"


def _on_demand(settings: Settings) -> str:
    """The sources of on-demand documents, each a table of its own."""
    head = _ON_DEMAND.format(
        rule=_rule("[on_demand]").removeprefix("# "),
        description=Settings.model_fields["on_demand"].description,
        settings="\n".join(f"#   {name:18} {_explained(each)}" for name, each in OnDemandSettings.model_fields.items()),
    )
    sources = (
        "".join(f"{name} = {_toml(value)}\n" for name, value in _fields(source) if value is not None)
        for source in settings.on_demand
    )
    return "".join([head, *(f"\n[[on_demand]]\n{source}" for source in sources)])


def _table(table: BaseModel) -> Iterator[str]:
    """Each plain setting of a table: what it means, then its value."""
    for name, value in _fields(table):
        if isinstance(value, BaseModel | dict) or name == "on_demand":
            continue
        yield f"# {_explained(type(table).model_fields[name])}\n{_assignment(name, value)}\n"


def _assignment(name: str, value: object) -> str:
    if value is None:
        return f"# {name} ="
    if isinstance(value, SecretStr):
        return f"# {name} = (it is set; a secret is not printed)"
    return f"{name} = {_toml(value)}"


def _fields(table: BaseModel) -> Iterator[tuple[str, Any]]:
    return ((name, getattr(table, name)) for name in type(table).model_fields)


def _explained(field: FieldInfo) -> str:
    bounds = [
        f"{words} {getattr(bound, attribute)}"
        for attribute, words in _BOUNDS
        for bound in field.metadata
        if getattr(bound, attribute, None) is not None
    ]
    return f"{field.description} ({', '.join(bounds)})" if bounds else f"{field.description}"


def _codes(settings: Settings) -> str:
    fields = CodeSet.model_fields
    head = _CODES.format(
        attributes="\n#   ".join(wrap(", ".join(sorted(CODED_ATTRIBUTES)), 115)),
        policy=fields["policy"].description,
        values=fields["values"].description,
    )
    sets = [
        f"\n[codes.{attribute}]\npolicy = {_toml(codes.policy)}\nvalues = {_toml(codes.values, each_on_a_line=True)}\n"
        for attribute, codes in settings.codes.items()
    ]
    return "".join([head, *sets])


def _toml(value: object, *, each_on_a_line: bool = False) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Enum | str | Path):
        text = value.value if isinstance(value, Enum) else value
        # A JSON string is a TOML string, but for the one control character that JSON may leave as it is.
        return json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, BaseModel | dict):
        pairs = value.items() if isinstance(value, dict) else (each for each in _fields(value) if each[1] is not None)
        return f"{{ {', '.join(f'{_key(name)} = {_toml(each)}' for name, each in pairs)} }}"
    if isinstance(value, tuple):
        if each_on_a_line and value:
            return "[\n" + "".join(f"    {_toml(each)},\n" for each in value) + "]"
        return f"[{', '.join(_toml(each) for each in value)}]"
    raise TypeError(f"a setting of the type {type(value).__name__} has no form in TOML here")


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name)
