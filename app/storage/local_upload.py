"""One object on its way into the local folder: collected, hashed, written, synced, then renamed."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Final, Self, TypeVarTuple, Unpack

from app.errors import NoRoom
from app.extent import Stored
from app.storage import folders
from app.storage.digest import Digests
from app.storage.folders import Folders

FLUSH: Final = 1 << 20
_SMALL: Final = (
    4096  # a smaller chunk is copied to its neighbour: a flush has 512 buffers at most (IOV_MAX: 1024)
)

Ts = TypeVarTuple("Ts")
Buffers = list[bytes | bytearray | memoryview]


class Target:
    """The file behind an upload; its methods run in threads, one at a time."""

    def __init__(self, temporary: Path, final: Path, made: Folders) -> None:
        self.digests = Digests()
        self.size = 0
        self.may_remain = True  # until it is discarded
        self._path, self._final, self._folders = temporary, final, made
        self._descriptor = -1
        self._over = False
        self._lock = Lock()  # a cancelled upload is discarded while its last flush may still run

    def append(self, buffers: Buffers) -> None:
        """Write and hash; the first call makes the temporary file."""
        with self._lock, _refusals():
            self._append(buffers)

    def commit(self, buffers: Buffers) -> None:
        """Write the rest and make the object durable under its key."""
        with self._lock, _refusals():
            self._append(buffers)
            os.fdatasync(self._descriptor)
            self._folders.make(self._final.parent)
            self._path = self._path.rename(self._final)
            folders.sync(self._final.parent)
            self._close()

    def discard(self) -> None:
        """Leave nothing, whatever was reached; calls that come later do nothing."""
        with self._lock:
            try:
                self._close()
                self._path.unlink(missing_ok=True)
            except OSError:  # a temporary file is swept at the next start
                self.may_remain = self._path == self._final
            else:
                self.may_remain = False

    def _append(self, buffers: Buffers) -> None:
        if self._over:
            return
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        _write_all(self._descriptor, buffers)
        for buffer in buffers:
            self.digests.update(buffer)
            self.size += len(buffer)

    def _close(self) -> None:
        self._over = True
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class LocalUpload:
    """Collects a mebibyte while the one before is being hashed and written: no upload holds more than that."""

    def __init__(self, key: str, target: Target, pool: Executor) -> None:
        self._key, self._target, self._pool = key, target, pool
        self._held: Buffers = []
        self._size = 0
        self._flight: asyncio.Future[None] | None = None
        self._stored: Stored | None = None

    async def write(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes; waits while the flush before is not done."""
        self._hold(chunk)
        if self._size >= FLUSH:
            await self._landed()
            held, self._held, self._size = self._held, [], 0
            self._flight = self._start(self._target.append, held)

    def split(self, offset: int, seed: bytes) -> None:
        """Hash the data set apart, from `offset`."""
        if self._flight:
            raise ValueError("the data set's offset is told after bytes were hashed")
        self._target.digests.split(offset, seed)

    @property
    def may_remain(self) -> bool:
        """It got its name, and could not be removed when its folder could not be synced."""
        return self._target.may_remain

    @property
    def stored(self) -> Stored:
        """Size and digests, once the block has ended."""
        if not self._stored:
            raise ValueError("the upload has not ended")
        return self._stored

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self._commit()
        finally:
            if not self._stored:
                self._held.clear()
                await asyncio.shield(self._start(self._target.discard))

    async def _commit(self) -> None:
        await self._landed()
        await self._start(self._target.commit, self._held)
        target = self._target
        prefix, dataset = target.digests.prefix_sha256(), target.digests.dataset_sha256()
        self._stored = Stored(self._key, target.size, prefix, dataset)

    def _hold(self, chunk: bytes | memoryview) -> None:
        self._size += len(chunk)
        if len(chunk) >= _SMALL:
            self._held.append(chunk)
        elif self._held and isinstance(self._held[-1], bytearray):
            self._held[-1] += chunk
        else:
            self._held.append(bytearray(chunk))

    async def _landed(self) -> None:
        if self._flight:
            await self._flight

    def _start(self, work: Callable[[Unpack[Ts]], None], *arguments: *Ts) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        future.add_done_callback(_seen)
        return future


def _seen(future: asyncio.Future[None]) -> None:
    """An abandoned flush may fail too; that is no news to anybody."""
    if not future.cancelled():
        future.exception()


def _write_all(descriptor: int, buffers: Buffers) -> None:
    views = [memoryview(buffer) for buffer in buffers]
    while views:
        written = os.writev(descriptor, views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "unknown error")
        why = (
            "has no room left"
            if error.errno in {errno.ENOSPC, errno.EDQUOT}
            else f"cannot be written ({name})"
        )
        raise NoRoom(f"The storage {why}.") from error
