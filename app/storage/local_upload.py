"""One object on its way into the local folder: collected, hashed, written, named, synced."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, Final

from app.errors import NoRoom
from app.storage import folders, naming
from app.storage.collecting import FLUSH, Buffers, Collecting
from app.storage.digest import Digests
from app.storage.folders import Folders
from app.storage.naming import Naming
from app.storage.straight import AFTER, Straight
from app.storage.threads import Threads

_ALONE: Final = 128 << 10
_LARGE: Final = 2 * FLUSH  # of a large object at a time: less often does one thread wait for the others
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def _always() -> None:
    """There is room."""


class Target:
    """The file behind an upload; its methods run in threads, one at a time, but `hash` beside `write`."""

    def __init__(self, naming: Naming, final: str, made: Folders, room: Callable[[], None] = _always) -> None:
        self.digests = Digests()
        self.may_remain = True  # until it is discarded
        self._naming, self._final, self._folders = naming, final, made
        self._room = room
        self._descriptor, self._path = -1, ""
        self._straight: Straight | None = None
        self._over = False
        self._lock = Lock()  # a cancelled upload is discarded while its last flush may still run

    def append(self, buffers: Buffers) -> None:
        """Write and hash; the first call makes the file."""
        with self._lock, _refusals():
            self._append(buffers)

    @property
    def is_large(self) -> bool:
        """More of it goes straight to the disk: hashed and written at once, by two threads."""
        return self.digests.size >= AFTER and self._naming.is_local

    def write(self, buffers: Buffers) -> None:
        """Write what is hashed elsewhere."""
        with self._lock, _refusals():
            if self._over:
                return
            self._room()
            if self._straight is None:
                self._straight = Straight(self._descriptor, _LARGE + FLUSH)
            self._straight.write(buffers)
            naming.write_out(self._descriptor)  # what a file system took into its cache after all

    def hash(self, buffers: Buffers) -> None:
        """Hash what is written elsewhere."""
        for buffer in buffers:
            self.digests.update(buffer)

    def commit(self, buffers: Buffers) -> None:
        """Write the rest and make the object durable under its key."""
        with self._lock, _refusals():
            if self._straight and not self._over:
                self._straight.finish()
            self._append(buffers)
            folder = os.path.dirname(self._final)
            self._folders.make(folder)
            self._naming.name(self._descriptor, self._path, self._final)
            self._path = self._final
            os.fdatasync(self._descriptor)
            folders.sync(folder)
            self._close()

    def discard(self) -> None:
        """Leave nothing, whatever was reached; calls that come later do nothing."""
        with self._lock:
            try:
                self._close()
                if self._path:
                    with suppress(FileNotFoundError):
                        os.unlink(self._path)
            except OSError:  # a temporary file is swept at the next start
                self.may_remain = self._path == self._final
            else:
                self.may_remain = False

    def _append(self, buffers: Buffers) -> None:
        if self._over:
            return
        self._room()
        if self._descriptor < 0:
            self._descriptor, self._path = self._naming.create()
        _write_all(self._descriptor, buffers)
        if sum(map(len, buffers)) >= _ALONE:
            naming.write_out(self._descriptor)  # while we hash
        self.hash(buffers)

    def _close(self) -> None:
        self._over = True
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


class LocalUpload(Collecting):
    """An upload whose work is done in `threads`."""

    def __init__(self, key: str, target: Target, threads: Threads) -> None:
        super().__init__(key, target.digests)
        self._target, self._threads = target, threads

    @property
    def may_remain(self) -> bool:
        """It got its name, and could not be removed when its folder could not be synced."""
        return self._target.may_remain

    def _enough(self) -> int:
        return _LARGE if self._target.is_large else FLUSH

    def _may_begin(self) -> bool:
        """What comes alone is hashed and written while the rest of it comes; among others that costs a hop more."""
        return self._collected >= _ALONE and self._threads.is_idle

    def _flush(self, held: Buffers) -> asyncio.Future[Any]:
        target, run = self._target, self._threads.run
        if not target.is_large:
            return run(target.append, held)
        return asyncio.gather(run(target.write, held), run(target.hash, held))

    def _finish(self, held: Buffers) -> asyncio.Future[None]:
        return self._threads.run(self._target.commit, held)

    def _abort(self) -> asyncio.Future[None]:
        return self._threads.run(self._target.discard)


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
        why = "has no room left" if error.errno in FULL else f"cannot be written ({name})"
        raise NoRoom(f"The storage {why}.") from error
