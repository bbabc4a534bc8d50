"""What stands in compose/, as the tests look at it: anchors merged, variables of the environment put in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose"
EMBEDDED = COMPOSE / "compose.yaml"
CLUSTER = COMPOSE / "compose.cluster.yaml"
FILES = (EMBEDDED, CLUSTER)

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*)|:\?[^}]*)?\}")


def read(path: Path) -> Any:
    """A YAML file as plain dictionaries and lists."""
    return YAML(typ="safe").load(path)


def services(path: Path) -> dict[str, dict[str, Any]]:
    """The services of a compose file by name."""
    found: dict[str, dict[str, Any]] = read(path)["services"]
    return found


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """What Docker makes of ${NAME}, ${NAME:-default} and ${NAME:?why}. Raises KeyError where a variable is missing."""

    def value(match: re.Match[str]) -> str:
        if match["default"] is not None:
            return variables.get(match["name"]) or match["default"]
        return variables[match["name"]]

    return _VARIABLE.sub(value, text)
