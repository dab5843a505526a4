import asyncio
import os
from pathlib import Path

import pytest

from app.errors import FailureReason, NoRoom, Refused
from app.storage.room import Room
from app.storage.spool import Spools


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_what_is_put_aside_comes_back_from_anywhere(tmp_path: Path) -> None:
    """From memory, from the file and across both; no name in the folder."""
    data = os.urandom(1_000_003)
    async with Spools(tmp_path / "spool").new() as spool:
        for at in range(0, len(data), 70_001):
            await spool.write(memoryview(data)[at : at + 70_001])
        assert spool.size == len(data)
        assert not files(tmp_path)
        for offset, length in [
            (0, len(data)),
            (0, 1),
            (5, 900_000),
            (990_000, 10_003),
            (900_000, 100_000),
            (7, 0),
        ]:
            assert await spool.read(offset, length) == data[offset : offset + length]
            assert (
                b"".join([piece async for piece in spool.pieces(offset, length)])
                == data[offset : offset + length]
            )


async def test_little_needs_no_file(tmp_path: Path) -> None:
    async with Spools(tmp_path / "spool").new() as spool:
        await spool.write(bytes(1000))
        assert await spool.read(0, 1000) == bytes(1000)
    assert not (tmp_path / "spool").exists()


async def test_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    """But not of what we say ourselves."""
    spools = Spools(tmp_path, limit=1000)
    async with spools.new() as spool:
        await spool.write(bytes(1000))
        with pytest.raises(Refused) as refused:
            await spool.write(b"x")
        assert refused.value.reason == FailureReason.OUT_OF_RESOURCES
    async with spools.unbounded() as spool:
        await spool.write(bytes(600_000))
        assert spool.size == 600_000


async def test_a_folder_that_cannot_be_written_has_no_room(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with Spools(tmp_path / "file" / "spool").new() as spool:
        with pytest.raises(NoRoom):
            await spool.write(bytes(600_000))


async def test_an_almost_full_disk_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Room, "left", lambda *_: 0)
    async with Spools(tmp_path).new() as spool:
        with pytest.raises(NoRoom, match="no room"):
            await spool.write(bytes(600_000))


async def test_a_cancelled_write_ends_before_its_file_is_closed(tmp_path: Path) -> None:
    for _ in range(20):
        async with Spools(tmp_path).new() as spool:
            task = asyncio.create_task(spool.write(bytes(2 << 20)))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])


def test_of_a_small_disk_a_twentieth_stays_free(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    assert abs(Room().left(tmp_path) - free) < 1 << 30
    assert abs(Room(1 << 62).left(tmp_path) - (free - total // 20)) < 1 << 30
    with pytest.raises(NoRoom):
        Room().check(tmp_path, 1 << 62)
