"""A Dockerfile taken apart: its stages, and the instructions of each."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction; its arguments as they stand there, lines joined."""

    name: str
    arguments: str

    @property
    def command(self) -> str:
        """What a RUN runs, without its options (--mount=...)."""
        return re.sub(r"^(--\S+\s+)+", "", self.arguments)

    @property
    def listed(self) -> list[str]:
        """The exec form, such as ["toimik", "serve"]."""
        value: list[str] = json.loads(self.arguments)
        return value


@dataclass(frozen=True)
class Stage:
    """From one FROM to the next."""

    image: str
    name: str | None
    instructions: tuple[Instruction, ...]

    def all(self, name: str) -> list[Instruction]:
        """The instructions of that name, in order."""
        return [instruction for instruction in self.instructions if instruction.name == name]

    @property
    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        words = [word for each in self.all("ENV") for word in shlex.split(each.arguments)]
        return dict(word.split("=", 1) for word in words)


def stages(path: Path) -> list[Stage]:
    """All stages in order."""
    found: list[tuple[Instruction, list[Instruction]]] = []
    for instruction in _instructions(path.read_text(encoding="utf-8")):
        if instruction.name == "FROM":
            found.append((instruction, []))
        else:
            found[-1][1].append(instruction)
    return [_stage(head, tuple(rest)) for head, rest in found]


def _instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


def _stage(head: Instruction, rest: tuple[Instruction, ...]) -> Stage:
    words = head.arguments.split()
    return Stage(words[0], words[2] if len(words) == 3 else None, rest)
