"""What every storage promises, tried on the folder in both its ways and on a real S3."""

import asyncio
import os
from hashlib import sha256
from itertools import chain

import pytest

from app.errors import NotFound, Unavailable
from app.storage import keys
from app.storage.protocol import Entry, Storage, put
from tests.storages import left

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 5000, MIB - 1, MIB, MIB + 1, 5 * MIB + 123])
@pytest.mark.parametrize("step", [700, 65536, 3 * MIB])
async def test_an_object_comes_back_as_it_was_written(storage: Storage, size: int, step: int) -> None:
    data, key = os.urandom(size), keys.new()
    async with storage.upload(key) as upload:
        for at in range(0, size, step):
            await upload.write(memoryview(data)[at : at + step])
    assert upload.stored.size == await storage.size(key) == size
    assert upload.stored.dataset_sha256 == sha256(data).digest()
    assert await storage.read(key, 0, size) == data


@pytest.mark.parametrize("offset", [0, 1, 300, 65536, 70000])
async def test_what_is_before_the_data_set_is_hashed_apart(storage: Storage, offset: int) -> None:
    data = os.urandom(3 * MIB)
    async with storage.upload(keys.new()) as upload:
        upload.split(offset, b"1.2.840.10008.1.2.1\0")
        for at in range(0, len(data), 65536):
            await upload.write(data[at : at + 65536])
    assert upload.stored.prefix_sha256 == sha256(data[:offset]).digest()
    assert upload.stored.dataset_sha256 == sha256(b"1.2.840.10008.1.2.1\0" + data[offset:]).digest()


async def test_a_data_set_is_not_split_off_after_bytes_were_hashed(storage: Storage) -> None:
    async with storage.upload(keys.new()) as upload:
        await upload.write(bytes(MIB))
        with pytest.raises(ValueError, match="hashed"):
            upload.split(300, b"")


async def test_digests_are_known_only_when_the_object_is_durable(storage: Storage) -> None:
    async with storage.upload(keys.new()) as upload:
        with pytest.raises(ValueError, match="not ended"):
            _ = upload.stored


@pytest.mark.parametrize("size", [0, 100, 3 * MIB])
async def test_an_upload_that_raises_leaves_nothing(storage: Storage, size: int) -> None:
    key = keys.new()

    async def store() -> None:
        async with storage.upload(key) as upload:
            for _ in range(0, size, 65536):
                await upload.write(bytes(65536))
            raise RuntimeError("refused")

    with pytest.raises(RuntimeError, match="refused"):
        await store()
    assert not await left(storage)
    with pytest.raises(NotFound):
        await storage.size(key)


@pytest.mark.parametrize("ticks", range(12))
async def test_a_cancelled_upload_leaves_nothing(storage: Storage, ticks: int) -> None:
    """Wherever the cancellation comes, in a flush, in the final sync or in between."""

    async def store() -> None:
        async with storage.upload(keys.new()) as upload:
            for _ in range(3):
                await upload.write(bytes(MIB))

    task = asyncio.create_task(store())
    for _ in range(ticks):
        await asyncio.sleep(0.0005)
    task.cancel()
    outcome = await asyncio.gather(task, return_exceptions=True)
    cancelled = isinstance(outcome[0], asyncio.CancelledError)
    assert len(await left(storage)) == (0 if cancelled else 1)


async def test_nobody_sees_an_object_before_its_block_has_ended(storage: Storage) -> None:
    key = keys.new()
    async with storage.upload(key) as upload:
        await upload.write(bytes(2 * MIB))
        await asyncio.sleep(0.01)
        assert [entry async for entry in storage.list("")] == []
        with pytest.raises(NotFound):
            await storage.read(key, 0, 1)
    assert [entry async for entry in storage.list("")] == [Entry(key, 2 * MIB)]


async def test_any_range_is_read(storage: Storage) -> None:
    data, key = os.urandom(300_000), keys.new()
    await put(storage, key, data)
    for offset, length in [(0, 0), (0, 1), (299_999, 1), (1000, 200_000), (0, 300_000)]:
        assert await storage.read(key, offset, length) == data[offset : offset + length]


async def test_a_range_that_is_not_there_is_an_error_never_fewer_bytes(storage: Storage) -> None:
    key = keys.new()
    await put(storage, key, bytes(1000))
    for offset, length in [(0, 1001), (1000, 1), (5000, 10)]:
        with pytest.raises(Unavailable, match="shorter"):
            await storage.read(key, offset, length)


async def test_deleting_is_final_and_may_be_repeated(storage: Storage) -> None:
    key = keys.new()
    await put(storage, key, b"x")
    await storage.read(key, 0, 1)
    await storage.delete(key)
    await storage.delete(key)
    for gone in (storage.read(key, 0, 1), storage.size(key)):
        with pytest.raises(NotFound):
            await gone


async def test_a_listing_tells_every_key_that_starts_so(storage: Storage) -> None:
    stored = {kind: [make() for _ in range(5)] for kind, make in KINDS.items()}
    for made in stored.values():
        for key in made:
            await put(storage, key, key.encode())

    async def listed(prefix: str) -> list[str]:
        return [entry.key async for entry in storage.list(prefix)]

    assert await listed("objects/") == sorted(stored["objects"])
    assert await listed("renditions") == sorted(stored["renditions"])
    assert await listed("") == sorted(chain(*stored.values()))
    assert await listed(stored["objects"][0]) == [stored["objects"][0]]
    assert await listed("tombstones/") == []


KINDS = {"objects": keys.new, "renditions": keys.rendition}
