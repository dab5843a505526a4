"""What uploads to an object store hold, and in which parts they go."""

import asyncio
import os

import pytest

from app.errors import Refused
from app.storage import keys, object_upload
from app.storage.object_store import Bucket, ObjectStorage
from app.storage.object_upload import LARGEST_PART, PARTS, SMALLEST_PART, UNKNOWN_PART, Budget, part_size
from tests.storages import left, object_storage

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


async def store(storage: ObjectStorage, mebibytes: int, expected: int | None = None) -> None:
    async with storage.upload(keys.new(), expected) as upload:
        for _ in range(mebibytes):
            await upload.write(bytes(MIB))


@pytest.mark.parametrize("size", [1, 5 * MIB, 48 * GIB, 100 * GIB, TIB, 5 * TIB])
def test_any_length_fits_into_ten_thousand_parts(size: int) -> None:
    part = part_size(size)
    assert SMALLEST_PART <= part <= LARGEST_PART
    assert part * 10_000 >= size
    assert part == SMALLEST_PART or part * PARTS < size + part


def test_an_unknown_length_is_given_room() -> None:
    assert part_size(None) == UNKNOWN_PART


async def test_an_object_that_outgrows_its_parts_is_refused(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clearly, and before the store does; nothing stays."""
    monkeypatch.setattr(object_upload, "PARTS", 2)
    monkeypatch.setattr(object_upload, "UNKNOWN_PART", SMALLEST_PART)
    async with object_storage(bucket) as storage:
        with pytest.raises(Refused, match="without its length"):
            await store(storage, 20)
        assert not await left(storage)


async def test_the_budget_is_never_exceeded_and_first_come_is_first_served() -> None:
    budget, order, most = Budget(10), [], 0

    async def take(number: int, size: int) -> None:
        nonlocal most
        await budget.take(size)
        order.append(number)
        most = max(most, budget.taken)
        await asyncio.sleep(0.001)
        budget.give(size)

    await asyncio.gather(*(take(number, 3 + number % 3) for number in range(30)))
    assert order == sorted(order)
    assert most <= 10
    assert not budget.taken


async def test_one_that_wants_more_than_there_is_waits_to_be_alone() -> None:
    budget = Budget(10)
    await budget.take(1)
    large = asyncio.create_task(budget.take(50))
    await asyncio.sleep(0)
    assert not large.done()
    budget.give(1)
    await large
    assert budget.taken == 50


async def test_who_is_cancelled_while_waiting_takes_nothing() -> None:
    """Before its turn, and in the very moment of its turn."""
    budget = Budget(10)
    await budget.take(10)
    waiting, next_one = asyncio.create_task(budget.take(10)), asyncio.create_task(budget.take(5))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    budget.give(10)
    next_one.cancel()
    await asyncio.gather(next_one, return_exceptions=True)
    assert not budget.taken
    await budget.take(10)


async def test_large_uploads_wait_for_the_budget_and_small_ones_do_not(bucket: Bucket) -> None:
    async with object_storage(bucket, budget=8 * MIB) as storage:
        async with storage.upload(keys.new(), GIB) as first:
            for _ in range(3):
                await first.write(os.urandom(MIB))
            async with asyncio.timeout(5), storage.upload(keys.new(), GIB) as small:
                await small.write(b"x" * 1000)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store(storage, 3, GIB), 0.2)
        assert not storage._budget.taken
        assert len(await left(storage)) == 2


async def test_sixteen_uploads_at_once_hold_what_the_budget_allows(bucket: Bucket) -> None:
    """All of them end, however small the budget is."""
    most = 0
    async with object_storage(bucket, budget=20 * MIB) as storage:

        async def watched() -> None:
            nonlocal most
            while True:
                most = max(most, storage._budget.taken)
                await asyncio.sleep(0.001)

        watching = asyncio.create_task(watched())
        async with asyncio.timeout(60):
            await asyncio.gather(*(store(storage, 12, 12 * MIB) for _ in range(16)))
        watching.cancel()
        assert most <= 20 * MIB
        assert len(await left(storage)) == 16
