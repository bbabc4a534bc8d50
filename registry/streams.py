"""Long streams, cut: into what belongs together, and into as much as is worked on at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable
from typing import TypeVar

T = TypeVar("T")


async def runs(items: AsyncIterator[T], key: Callable[[T], Hashable]) -> AsyncGenerator[list[T], None]:
    """What comes one after the other with the same key, together."""
    run: list[T] = []
    async for item in items:
        if run and key(run[0]) != key(item):
            yield run
            run = []
        run.append(item)
    if run:
        yield run


async def some_at_a_time(
    items: AsyncIterator[T], most: int, *, size: Callable[[T], int], enough: int
) -> AsyncGenerator[list[T], None]:
    """So many items at the most, and none more once their sizes together are enough."""
    some: list[T] = []
    sizes = 0
    async for item in items:
        some.append(item)
        sizes += size(item)
        if len(some) == most or sizes >= enough:
            yield some
            some, sizes = [], 0
    if some:
        yield some
