"""Reading ahead: the next instance is read while others are kept, within a bound, and told in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest

from app.web.ahead import Ahead, Room

Chunks = AsyncIterator[memoryview]
Work = Callable[[Chunks], Coroutine[None, None, int]]


async def chunks(count: int = 2) -> Chunks:
    for _ in range(count):
        yield memoryview(b"chunk")


def keeping(number: int, kept: asyncio.Event) -> Work:
    """A work that reads all and then waits, as for a disk."""

    async def work(given: Chunks) -> int:
        async for _ in given:
            pass
        await kept.wait()
        return number

    return work


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_next_is_read_while_others_are_kept_and_all_are_told_in_order() -> None:
    told: list[int] = []
    gates = [asyncio.Event() for _ in range(3)]
    async with Ahead(Room(9), told.append) as ahead:
        for number, gate in enumerate(gates):
            await asyncio.wait_for(ahead.add(chunks(), keeping(number, gate)), 10)
        for gate in reversed(gates):
            assert told == []
            gate.set()
            await settled()
    assert told == [0, 1, 2]


@pytest.mark.parametrize("most", [0, 1, 3])
async def test_no_more_is_read_than_there_is_room_for(most: int) -> None:
    """The room is that of all requests, and whatever they do it is given back."""
    room, told, gate = Room(most), list[int](), asyncio.Event()

    async def request() -> None:
        async with Ahead(room, told.append) as ahead:
            for number in range(5):
                await ahead.add(chunks(), keeping(number, gate))
                begun.append(number)

    begun: list[int] = []
    requests = [asyncio.create_task(request()) for _ in range(2)]
    await settled()
    assert len(begun) == most
    gate.set()
    await asyncio.gather(*requests)
    assert sorted(told) == sorted([*range(5)] * 2)
    assert [room.take() for _ in range(most + 1)] == [True] * most + [False]


async def test_a_work_that_refuses_reads_no_more_and_holds_up_nobody() -> None:
    told: list[int] = []

    async def refuse(given: Chunks) -> int:
        await anext(given)
        return 7

    async with Ahead(Room(2), told.append) as ahead:
        await asyncio.wait_for(ahead.add(chunks(1000), refuse), 10)
        await asyncio.wait_for(ahead.add(chunks(), refuse), 10)
    assert told == [7, 7]


@pytest.mark.parametrize("where", ["in a body", "between bodies"])
async def test_what_was_read_before_the_body_broke_is_kept_and_told(where: str) -> None:
    told: list[int] = []
    gate = asyncio.Event()

    async def broken() -> Chunks:
        yield memoryview(b"chunk")
        raise ValueError(where)

    async def request() -> None:
        async with Ahead(Room(9), told.append) as ahead:
            await ahead.add(chunks(), keeping(1, gate))
            if where == "in a body":
                await ahead.add(broken(), keeping(2, gate))
            raise ValueError(where)

    asyncio.get_running_loop().call_later(0.05, gate.set)
    with pytest.raises(ValueError, match=where):
        await asyncio.wait_for(request(), 10)
    assert told == [1]


async def test_a_request_that_is_cancelled_ends_its_works() -> None:
    ended: list[str] = []

    async def work(given: Chunks) -> int:
        async for _ in given:
            pass
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("work")
        return 0

    async def request() -> None:
        told: list[int] = []
        async with Ahead(Room(9), told.append) as ahead:
            for _ in range(3):
                await ahead.add(chunks(), work)
            await asyncio.sleep(60)

    task = asyncio.create_task(request())
    await settled()
    task.cancel()
    await asyncio.wait([task])
    assert ended == ["work"] * 3
