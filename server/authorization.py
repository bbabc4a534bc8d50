"""The header Authorization that a file holds, for servers that this one asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path


async def authorization_in(file: Path | None) -> Mapping[str, str]:
    """The header, read anew each time; nothing where there is no file. Raises OSError, ValueError."""
    if file is None:
        return {}
    return {"Authorization": (await asyncio.to_thread(file.read_text, encoding="utf-8")).strip()}
