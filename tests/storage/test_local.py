import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from app.errors import FailureReason, NoRoom, NotFound, Refused, Unavailable
from app.storage import folders, keys, local_files
from app.storage.local import LocalStorage
from app.storage.protocol import put

MIB = 1 << 20


def files(storage: LocalStorage) -> list[Path]:
    """Everything in the folder, finished or not."""
    return [path for path in storage._root.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(errno.ENOSPC, "no room left"), (errno.EDQUOT, "no room left"), (errno.EIO, "EIO")],
)
@pytest.mark.parametrize("call", ["writev", "fdatasync"])
async def test_a_disk_that_fails_refuses_the_instance(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch, error: int, sentence: str, call: str
) -> None:
    """With A700 and a clear sentence; nothing of the object stays."""

    def fail(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(Refused, match=sentence) as refused:
        await put(local, keys.new(), bytes(3 * MIB))
    assert refused.value.reason is FailureReason.OUT_OF_RESOURCES
    assert not files(local)


async def test_an_object_that_could_not_be_made_durable_is_removed(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when it already stood under its key."""
    await put(local, keys.new(), b"neighbour")

    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, "sync")

    monkeypatch.setattr(folders, "sync", fail)
    with pytest.raises(Refused):
        await put(local, keys.new(), b"x")
    assert len(files(local)) == 1


async def test_new_folders_are_synced_up_to_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An acknowledged object survives a power cut; so does every folder on the way to it."""
    synced: list[Path] = []
    sync = folders.sync

    def recorded(folder: str) -> None:
        synced.append(Path(folder))
        sync(folder)

    monkeypatch.setattr(folders, "sync", recorded)
    async with LocalStorage(tmp_path) as storage:
        await put(storage, "objects/ab/cd/one", b"1")
        top, above, leaf = (tmp_path / name for name in ("objects", "objects/ab", "objects/ab/cd"))
        assert synced == [tmp_path, top, above, leaf]
        await put(storage, "objects/ab/cd/two", b"2")
        assert synced[4:] == [leaf]


async def test_a_slow_disk_holds_the_sender_back(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most one mebibyte is being written and one collected."""
    written = 0
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    writev = os.writev

    def slow(descriptor: int, buffers: list[memoryview]) -> int:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)
        return writev(descriptor, buffers)

    monkeypatch.setattr(os, "writev", slow)

    async def store() -> None:
        nonlocal written
        async with local.upload(keys.new()) as upload:
            for _ in range(64):
                await upload.write(bytes(MIB // 4))
                written += MIB // 4

    task = asyncio.create_task(store())
    await asyncio.sleep(0.05)
    assert written < 2 * MIB
    gate.set()
    await task
    assert written == 16 * MIB


async def test_a_write_cut_short_by_the_kernel_is_continued(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(100_000)
    monkeypatch.setattr(os, "writev", lambda descriptor, views: os.write(descriptor, views[0][:777]))
    key = keys.new()
    async with local.upload(key) as upload:
        for at in range(0, len(data), 5000):
            await upload.write(data[at : at + 5000])
    assert await local.read(key, 0, len(data)) == data


async def test_a_read_cut_short_is_continued(local: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Part of a range in memory, the rest on the disk."""
    data, key = os.urandom(50_000), keys.new()
    await put(local, key, data)
    preadv = os.preadv

    def short(descriptor: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        return preadv(descriptor, [memoryview(buffers[0])[:7777]], offset, flags)

    monkeypatch.setattr(os, "preadv", short)
    assert await local.read(key, 3, 40_000) == data[3:40_003]


async def test_what_is_not_in_memory_is_read_in_a_thread(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, key = os.urandom(50_000), keys.new()
    await put(local, key, data)
    preadv = os.preadv

    def cold(descriptor: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        if flags:
            raise BlockingIOError(errno.EAGAIN, "cold")
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", cold)
    assert await local.read(key, 0, 50_000) == data


async def test_a_disk_that_cannot_be_read_is_unavailable(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys.new()
    await put(local, key, bytes(10))

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "disk")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(Unavailable, match="EIO"):
        await local.read(key, 0, 10)


async def test_descriptors_are_bounded_and_closed(local: LocalStorage, tmp_path: Path) -> None:
    def open_objects() -> int:
        links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
        return sum(link.startswith(str(tmp_path)) for link in links)

    stored = [keys.new() for _ in range(20)]
    for key in stored:
        await put(local, key, key.encode())
    for key in [*stored, *stored[-2:], *stored]:
        assert await local.read(key, 0, len(key)) == key.encode()
    assert open_objects() == 4
    await local.delete(stored[-1])
    assert open_objects() == 3


async def test_a_read_that_runs_outlives_the_cache(
    local: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file dropped and deleted while a thread reads it is not closed under the thread's hands."""
    key, data = keys.new(), os.urandom(1000)
    await put(local, key, data)
    await local.read(key, 0, 1)
    started, goes_on = asyncio.Event(), asyncio.Event()
    loop, preadv = asyncio.get_running_loop(), os.preadv
    local._nowait = False

    def slow(descriptor: int, buffers: list[bytearray], offset: int) -> int:
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(goes_on.wait(), loop).result(10)
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", slow)
    reading = asyncio.create_task(local.read(key, 0, 1000))
    await started.wait()
    local._files.clear()
    goes_on.set()
    assert await reading == data


async def test_only_the_owner_sweeps_unfinished_uploads(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "crashed").write_bytes(b"half")
    async with LocalStorage(tmp_path):
        assert (tmp_path / "tmp" / "crashed").exists()
    async with LocalStorage(tmp_path, sweep=True) as storage:
        assert not files(storage)


async def test_what_a_crash_left_is_swept_when_it_is_old(local: LocalStorage) -> None:
    """An upload in flight writes all the time, so it is never old."""
    for name in ("crashed", "young"):
        (local._temporary / name).write_bytes(b"half")
    os.utime(local._temporary / "crashed", (1, 1))
    assert await local.sweep(3600) == 1
    assert [file.name for file in files(local)] == ["young"]


async def test_the_last_room_is_kept_for_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads are refused before the disk is full, so that deleting, the database and readers go on."""
    async with LocalStorage(tmp_path) as local:
        monkeypatch.setattr(local, "_has_room", lambda: False)
        with pytest.raises(NoRoom, match="no room"):
            await put(local, keys.new(), b"abc")
        assert "no room" in await local.check()
        kept = await put(local, keys.record(), b"abc")
        assert bytes(await local.read(kept.key, 0, 3)) == b"abc"
        assert len(files(local)) == 1
    async with LocalStorage(tmp_path, reserve=1 << 62) as local:  # a twentieth of it is free
        await put(local, keys.new(), b"abc")
        assert not await local.check()


async def test_a_folder_that_went_away_is_unavailable(local: LocalStorage) -> None:
    await local.check()
    local._temporary.rmdir()
    with pytest.raises(Unavailable):
        await local.check()


async def test_an_object_is_not_missing_while_the_folder_is_away(local: LocalStorage) -> None:
    """Nobody is told that something does not exist because its disk is not mounted; nor that it was removed."""
    key, other = keys.new(), keys.new()
    await put(local, key, b"x")
    away = local._root.with_name("away")
    local._root.rename(away)
    for work in (local.read(other, 0, 1), local.read(key, 0, 1), local.size(key), local.delete(key)):
        with pytest.raises(Unavailable):
            await work
    local._root.mkdir()  # as an empty mount point
    with pytest.raises(Unavailable):
        await local.read(key, 0, 1)
    local._root.rmdir()
    away.rename(local._root)
    assert bytes(await local.read(key, 0, 1)) == b"x"
    with pytest.raises(NotFound):
        await local.read(other, 0, 1)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system here")
async def test_each_root_is_asked_whether_it_can_answer_from_memory() -> None:
    """On whatever it is, reading works."""
    root = Path("/dev/shm", keys.new().rpartition("/")[2])
    try:
        async with LocalStorage(root) as storage:
            await put(storage, "objects/a", b"abc")
            assert bytes(await storage.read("objects/a", 1, 2)) == b"bc"
            await storage.delete("objects/a")
    finally:
        for folder in (root / "tmp", root / "objects", root):
            folder.rmdir()


@pytest.mark.parametrize(
    ("answer", "can"), [(None, True), (BlockingIOError(), True), (OSError(errno.EOPNOTSUPP, "no"), False)]
)
def test_a_file_system_that_refuses_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: OSError | None, *, can: bool
) -> None:
    (tmp_path / "probe").write_bytes(b"x")

    def preadv(*_: object) -> int:
        if answer:
            raise answer
        return 1

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(local_files, "NOWAIT", 8)
    assert local_files.can_nowait(tmp_path / "probe") is can
    monkeypatch.setattr(local_files, "NOWAIT", 0)
    assert not local_files.can_nowait(tmp_path / "probe")


async def test_what_comes_alone_is_written_while_the_rest_comes(local: LocalStorage) -> None:
    """Not before it is known where the data set begins, and not when others wait for a thread."""
    data, gate = os.urandom(600_000), threading.Event()

    async def store(*, is_split: bool) -> int:
        async with local.upload(keys.new()) as upload:
            if is_split:
                upload.split(400, b"")
            await upload.write(memoryview(data)[:200_000])
            begun = local._writers._unfinished
            await upload.write(memoryview(data)[200_000:])
        assert bytes(await local.read(upload.stored.key, 0, len(data))) == data
        assert upload.stored.size == len(data)
        return begun

    assert await store(is_split=True) == 1
    assert await store(is_split=False) == 0
    busy = local._writers.run(gate.wait)
    assert await store(is_split=True) == 1  # the other one
    gate.set()
    await busy
