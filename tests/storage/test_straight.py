"""The greater part of a large object passes the page cache by, and every byte of it is where it belongs."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import mmap
import os
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from app.errors import NoRoom
from app.extent import Stored
from app.storage import keys
from app.storage.local import LocalStorage
from app.storage.straight import AFTER, BLOCK, Straight

MIB = 1 << 20


def written(path: Path, begin: bytes, *pieces: list[bytes]) -> bytes:
    """What a file holds that began so and went on straight."""
    with path.open("wb", buffering=0) as file:
        file.write(begin)
        rest = Straight(file.fileno(), MIB)
        for piece in pieces:
            rest.write(piece)
        rest.finish()
    return path.read_bytes()


@pytest.mark.parametrize("begin", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7])
def test_every_byte_is_where_it_belongs(tmp_path: Path, begin: int) -> None:
    """However little comes at a time, also less than a block."""
    random = Random(begin)
    for seed in range(20):
        first = os.urandom(begin)
        pieces = [
            [os.urandom(random.randrange(random.choice([3, 700, 2 * BLOCK, 100_000]))) for _ in range(3)]
            for _ in range(random.randrange(9))
        ]
        told = b"".join([first, *(part for piece in pieces for part in piece)])
        assert written(tmp_path / f"{seed}", first, *pieces) == told


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """O_DIRECT or nothing, for each write."""
    seen, write = list[int](), os.write

    def told(descriptor: int, data: memoryview) -> int:
        seen.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", told)
    return seen


def test_only_what_is_no_whole_block_goes_through_the_cache(tmp_path: Path, flags: list[int]) -> None:
    written(tmp_path / "file", b"begin", [bytes(100_000)], [bytes(100_000)])
    assert flags == [0, os.O_DIRECT, os.O_DIRECT, 0]


@pytest.mark.parametrize("refused", ["flag", "write"])
def test_a_file_system_that_cannot_is_written_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """Some refuse the flag, some the write."""
    write, control = os.write, fcntl.fcntl

    def no_write(descriptor: int, data: memoryview) -> int:
        if control(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "not here")
        return write(descriptor, data)

    def no_flag(descriptor: int, what: int, value: int = 0) -> int:
        if value & os.O_DIRECT:
            raise OSError(errno.EINVAL, "not here")
        return control(descriptor, what, value)

    if refused == "write":
        monkeypatch.setattr(os, "write", no_write)
    else:
        monkeypatch.setattr(fcntl, "fcntl", no_flag)
    pieces = [os.urandom(50_001) for _ in range(4)]
    assert written(tmp_path / "file", b"begin", *([piece] for piece in pieces)) == b"begin" + b"".join(pieces)


def test_a_disk_that_takes_less_is_given_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it stops within a block."""
    write = os.write
    monkeypatch.setattr(
        os, "write", lambda descriptor, data: write(descriptor, data[: max(1, len(data) // 3)])
    )
    pieces = [os.urandom(90_000) for _ in range(3)]
    assert written(tmp_path / "file", b"begin", *([piece] for piece in pieces)) == b"begin" + b"".join(pieces)


def in_memory(path: Path, start: int, stop: int) -> float:
    """Which part of these bytes the page cache has; all of it where there is nothing else."""
    found = 0
    with path.open("rb") as file:
        os.posix_fadvise(
            file.fileno(), 0, 0, os.POSIX_FADV_RANDOM
        )  # a look at one page shall not fetch the next
        for at in range(start, stop, mmap.PAGESIZE):
            try:
                found += os.preadv(file.fileno(), [bytearray(1)], at, os.RWF_NOWAIT)
            except OSError as error:
                found += error.errno != errno.EAGAIN
    return found * mmap.PAGESIZE / (stop - start)


def passed_by(folder: Path) -> bool:
    """Whether a block can be written past the page cache on this file system at all."""
    probe = folder / "probe"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        os.write(descriptor, mmap.mmap(-1, BLOCK))
        os.close(descriptor)
    except OSError:
        return False
    return not in_memory(probe, 0, BLOCK)


def left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def stored(storage: LocalStorage, data: bytes, step: int) -> tuple[Stored, Path]:
    key = keys.new()
    async with storage.upload(key) as upload:
        upload.split(1000, b"seed")
        for at in range(0, len(data), step):
            await upload.write(data[at : at + step])
    return upload.stored, storage._root / key


@pytest.mark.parametrize("step", [100_001, 255_000, 30 * MIB])
async def test_a_large_object_leaves_its_beginning_in_memory(tmp_path: Path, step: int) -> None:
    """It is whole, and its digests are those of its bytes."""
    data = os.urandom(AFTER + 8 * MIB + 77)
    async with LocalStorage(tmp_path) as storage:
        told, path = await stored(storage, data, step)
        assert path.read_bytes() == data
        assert (told.size, told.prefix_sha256) == (len(data), sha256(data[:1000]).digest())
        assert told.dataset_sha256 == sha256(b"seed" + data[1000:]).digest()
        assert await storage.read(told.key, AFTER - 5, MIB) == data[AFTER - 5 : AFTER - 5 + MIB]


async def test_what_is_large_passes_the_page_cache_by(tmp_path: Path) -> None:
    data = os.urandom(AFTER + 8 * MIB)
    async with LocalStorage(tmp_path) as storage:
        _, path = await stored(storage, data, 255_000)
    assert in_memory(path, 0, AFTER) == 1
    assert in_memory(path, AFTER + 2 * MIB, AFTER + 6 * MIB) == (not passed_by(tmp_path))


async def test_a_disk_that_fails_late_refuses_a_large_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the other thread still hashes; nothing of the object stays."""
    write = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if len(data) >= BLOCK:
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, data)

    async with LocalStorage(tmp_path) as storage:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(NoRoom, match="no room left"):
            await stored(storage, bytes(AFTER + 8 * MIB), 255_000)
        monkeypatch.undo()
        assert not left(tmp_path)


@pytest.mark.parametrize("ticks", [0, 1, 2, 3, 5, 8, 13])
async def test_a_large_upload_cancelled_in_the_midst_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ticks: int
) -> None:
    began, write, loop = asyncio.Event(), Straight.write, asyncio.get_running_loop()

    def told(self: Straight, pieces: list[bytes]) -> None:
        loop.call_soon_threadsafe(began.set)
        write(self, pieces)

    monkeypatch.setattr(Straight, "write", told)
    async with LocalStorage(tmp_path) as storage:
        upload = asyncio.create_task(stored(storage, bytes(AFTER + 32 * MIB), 255_000))
        await began.wait()
        for _ in range(ticks):
            await asyncio.sleep(0)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
    assert not left(tmp_path)
