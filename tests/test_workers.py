"""CPU work off the loop: bounded, timed, safe when cancelled."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from app.errors import NotAcceptable, Unavailable
from app.workers import Workers


def add(a: int, b: int = 1) -> int:
    return a + b


def refuse() -> None:
    raise NotAcceptable("No.")


def run_out() -> None:
    raise TimeoutError("the function's own")


async def settled(workers: Workers) -> None:
    """Wait until nothing is counted any more."""
    for _ in range(1000):
        if not workers.taken:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("work is still counted")


async def test_results_and_errors_come_back() -> None:
    async with Workers(1) as workers:
        assert await workers.run(add, 1, b=2) == 3
        with pytest.raises(NotAcceptable):
            await workers.run(refuse)
        with pytest.raises(TimeoutError, match="own"):
            await workers.run(run_out)
        await settled(workers)


async def test_the_loop_stays_free() -> None:
    """Work sleeps in its thread while the loop turns."""
    async with Workers(2) as workers:
        work = asyncio.create_task(workers.run(time.sleep, 0.2))
        turns = 0
        while not work.done():
            await asyncio.sleep(0.005)
            turns += 1
        assert turns > 5


async def test_a_full_queue_is_unavailable_at_once() -> None:
    """Size and queue bound what waits; when it is done there is room again."""
    gate = threading.Event()
    async with Workers(size=1, queue=2) as workers:
        tasks = [asyncio.create_task(workers.run(gate.wait, 5)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refusal:
            await workers.run(add, 1)
        assert refusal.value.retry_after_s >= 1
        gate.set()
        assert await asyncio.gather(*tasks) == [True, True, True]
        await settled(workers)
        assert await workers.run(add, 1) == 2


async def test_what_takes_too_long_is_unavailable_and_keeps_its_place() -> None:
    """A thread cannot be stopped: its place is free only when it really ends."""
    gate = threading.Event()
    async with Workers(size=1, queue=0, timeout_s=0.05) as workers:
        with pytest.raises(Unavailable):
            await workers.run(gate.wait, 5)
        assert workers.taken == 1
        with pytest.raises(Unavailable):
            await workers.run(add, 1)
        gate.set()
        await settled(workers)
        assert await workers.run(add, 1) == 2


async def test_cancelled_work_that_only_waited_is_not_done() -> None:
    """Who goes away before the turn came costs nothing."""
    gate = threading.Event()
    done: list[int] = []
    async with Workers(size=1, queue=5) as workers:
        running = asyncio.create_task(workers.run(gate.wait, 5))
        waiting = asyncio.create_task(workers.run(done.append, 1))
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0.02)
        assert workers.taken == 1
        gate.set()
        await running
        await settled(workers)
    assert done == []


async def test_closing_drops_what_waits() -> None:
    """Those who wait are told; nobody takes it for a cancellation of his own."""
    gate = threading.Event()
    async with Workers(size=1, queue=5) as workers:
        running = asyncio.create_task(workers.run(gate.wait, 5))
        waiting = asyncio.create_task(workers.run(add, 1))
        await asyncio.sleep(0.02)
    gate.set()
    assert await running
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await workers.run(add, 1)
