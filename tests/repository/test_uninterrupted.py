"""Work that is not left half done (repository/uninterrupted.py)."""

from __future__ import annotations

import asyncio
import threading

import pytest

from repository.uninterrupted import in_thread, uninterrupted


async def test_the_result_and_the_problem_of_work_are_the_callers() -> None:
    async def sound() -> int:
        return 42

    async def unsound() -> int:
        raise LookupError("nothing there")

    assert await uninterrupted(sound()) == 42
    with pytest.raises(LookupError, match="nothing there"):
        await uninterrupted(unsound())


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancellation_arrives_when_the_work_is_done(times: int) -> None:
    may_end, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        ended.set()

    waiting = asyncio.create_task(uninterrupted(work()))
    for _ in range(times):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()


async def test_a_cancellation_tells_what_went_wrong_meanwhile() -> None:
    may_end = asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        raise LookupError("nothing there")

    waiting = asyncio.create_task(uninterrupted(work()))
    await asyncio.sleep(0)
    waiting.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError) as cancellation:
        await waiting
    causes = []
    cause: BaseException | None = cancellation.value
    while cause is not None:
        causes.append(type(cause))
        cause = cause.__cause__ or cause.__context__
    assert LookupError in causes


async def test_a_timeout_is_told_after_the_work() -> None:
    done = threading.Event()
    may_end = threading.Event()

    def work() -> None:
        may_end.wait()
        done.set()

    asyncio.get_running_loop().call_later(0.05, may_end.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await in_thread(work)
    assert done.is_set()


async def test_work_that_is_itself_cancelled_is_cancelled() -> None:
    work = asyncio.create_task(asyncio.Event().wait())
    waiting = asyncio.create_task(uninterrupted(work))
    await asyncio.sleep(0)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
