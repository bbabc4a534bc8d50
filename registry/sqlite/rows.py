"""Many rows with few statements.

Python's sqlite3 lets go of the interpreter for every step of a statement, and another thread that has work to do takes
it: a thread that steps a thousand times waits a thousand times to go on. So a thread that is in a hurry writes the rows
of a table with a handful of statements, and reads what it asks for as one row of JSON.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import orjson

Row: TypeAlias = Sequence[str | bytes | int | None]

_AT_ONCE = (64, 16, 4, 1)
"""Rows of one statement: a few numbers only, so that SQLite compiles few statements."""


def insert_rows(connection: sqlite3.Connection, into: str, rows: Sequence[Row], then: str = "") -> None:
    """Write rows of equal length.

    into   `INSERT INTO table (columns)`
    then   what follows the values: ON CONFLICT ...
    """
    done = 0
    for count in _AT_ONCE:
        while len(rows) - done >= count:
            values = [value for row in rows[done : done + count] for value in row]
            connection.execute(_statement(into, len(rows[done]), count, then), values)
            done += count


@lru_cache(maxsize=256)
def _statement(into: str, columns: int, rows: int, then: str) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"{into} VALUES {', '.join([row] * rows)} {then}"


def selected(connection: sqlite3.Connection, statement: str, values: Collection[str]) -> list[Any]:
    """What `statement` makes one JSON array of.

    statement   selects json_group_array(...) and has `values` as its one parameter, for json_each(?)
    """
    if not values:
        return []
    (found,) = connection.execute(statement, (orjson.dumps(list(values)).decode(),)).fetchone()
    listed: list[Any] = orjson.loads(found)
    return listed
