"""The code sets of the affinity domain in a file of their own, which may change while the server runs."""

from __future__ import annotations

import json
import logging
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import TypeAdapter, ValidationError

from registry.code_sets import CodeSet, CodeSets, Policy
from server.settings import SettingsProblem
from server.settings.affinity_domain import CODED_ATTRIBUTES
from server.settings.affinity_domain import CodeSet as ConfiguredCodeSet
from xds.errors import Finding
from xds.metadata import Submission

log = logging.getLogger(__name__)

_Told = TypeVar("_Told", covariant=True)

_TABLES = TypeAdapter(dict[str, ConfiguredCodeSet])


def code_sets_of(configured: Mapping[str, ConfiguredCodeSet]) -> dict[str, CodeSet]:
    """Code sets as the registry has them, by attribute."""
    by_attribute = {}
    for attribute, each in configured.items():
        values = (value if isinstance(value, str) else f"{value.code}^^{value.scheme}" for value in each.values)
        coded = (value for value in each.values if not isinstance(value, str) and value.display)
        displays = {f"{value.code}^^{value.scheme}": value.display for value in coded}
        by_attribute[attribute] = CodeSet(frozenset(values), Policy(each.policy.value), displays)
    return by_attribute


def read_code_file(path: Path) -> dict[str, ConfiguredCodeSet]:
    """The code sets of a file, by attribute.

    Raises SettingsProblem, which says what is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        configured = _TABLES.validate_python(content)
    except ValidationError as problem:
        lines = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in problem.errors()]
        raise SettingsProblem("\n".join(f"{path}: {line}" for line in lines[:20])) from problem
    except (OSError, ValueError) as problem:
        raise SettingsProblem(f"{path}: {problem}") from problem
    if unknown := sorted(configured.keys() - CODED_ATTRIBUTES):
        raise SettingsProblem(f"{path}: {', '.join(unknown)}: not among {', '.join(sorted(CODED_ATTRIBUTES))}")
    return configured


def write_code_file(path: Path, configured: Mapping[str, ConfiguredCodeSet]) -> None:
    """Write the code sets, whole or not at all: a server may be reading."""
    content = _TABLES.dump_python(dict(sorted(configured.items())), mode="json")
    text = json.dumps(content, indent=1) if path.suffix == ".json" else tomli_w.dumps(content)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


class ChangingCodes:
    """Code sets that follow their file: KnownCodes.

    counted   is told (attribute, sourceId) of every code that is in no code set, whatever becomes of it
    """

    def __init__(self, fixed: Mapping[str, CodeSet], path: Path | None) -> None:
        """path: None where there are none but the fixed ones. Raises SettingsProblem where it can not be used."""
        self._fixed = CodeSets(dict(fixed))
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._codes = self._fixed
        self.counted: Callable[[str, str], None] = _not_counted
        if path is not None:
            self._seen = _stamp(path)
            self._codes = self._read(path)

    @property
    def value_sets(self) -> Mapping[str, frozenset[str]]:
        """By attribute, its codes as `code^^scheme`; whoever looks again sees what the file says then."""
        return _Following(self, lambda code_set: code_set.values)

    @property
    def displays(self) -> Mapping[str, Mapping[str, str]]:
        """By attribute, what is shown of its codes, where that is said; it is looked at in the same way."""
        return _Following(self, lambda code_set: code_set.displays)

    def findings(self, submission: Submission) -> list[Finding]:
        codes = self.current
        unknown = codes.unknown(submission)
        if unknown:
            sources = [each.source_id for each in submission.submission_sets if each.source_id]
            for each in unknown:
                self.counted(each.attribute, sources[0] if sources else "")
        return codes.findings_of(unknown)

    @property
    def current(self) -> CodeSets:
        """As the file says now; where it can not be used, as it said before."""
        if self._path is None:
            return self._codes
        stamp = _stamp(self._path)
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._codes = self._read(self._path)
            except SettingsProblem as problem:
                log.error("The file of codes can not be used; the codes before go on.", extra={"problem": str(problem)})
            else:
                log.info("The file of codes was read again.")
        return self._codes

    def _read(self, path: Path) -> CodeSets:
        return replace(self._fixed, by_attribute={**self._fixed.by_attribute, **code_sets_of(read_code_file(path))})


@dataclass(frozen=True, slots=True, eq=False)
class _Following(Mapping[str, _Told]):
    """What a code set tells, by attribute, as the file says when it is looked at."""

    codes: ChangingCodes
    told: Callable[[CodeSet], _Told]

    def __getitem__(self, attribute: str) -> _Told:
        return self.told(self.codes.current.by_attribute[attribute])

    def __iter__(self) -> Iterator[str]:
        return iter(self.codes.current.by_attribute)

    def __len__(self) -> int:
        return len(self.codes.current.by_attribute)


def _not_counted(attribute: str, source_id: str) -> None:
    """Nobody counts."""


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
