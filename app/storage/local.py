"""The local folder: objects durable by fdatasync and fsync, read from memory or in a thread."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar, TypeVarTuple, Unpack

import numpy as np
from uuid_utils import uuid7

from app.errors import NoRoom, NotFound, Unavailable
from app.storage import keys, local_files, naming
from app.storage.folders import Folders
from app.storage.local_files import OpenFile, OpenFiles
from app.storage.local_upload import FULL, LocalUpload, Target
from app.storage.protocol import SHORTER, Entry, Pieces, Slice
from app.storage.room import Room
from app.storage.threads import Threads

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_FRESH_S: Final = 1.0
_PAGE: Final = 1000  # objects listed in one visit to a thread


class LocalStorage:
    """`async with LocalStorage(root) as storage`: objects as files below `root`.

    `sweep` removes what crashed uploads left; only who owns the folder alone may ask for it.
    """

    def __init__(
        self,
        root: Path,
        *,
        sweep: bool = False,
        writers: int = 4,
        readers: int = 8,
        open_files: int = 512,
        reserve: int = 0,
    ) -> None:
        self.pieces: Final = Pieces(64 << 10, 512 << 10, together=64 << 20, ahead=False)
        self._root = Path(root).absolute()
        self._temporary = self._root / keys.TEMPORARY
        self._sweep = sweep
        self._folders = Folders(str(self._root))
        self._files = OpenFiles(open_files)
        self._writers = Threads(writers, "storage-write")
        self._readers = Threads(readers, "storage-read")  # never behind a sync of the writers
        self._room = Room(reserve)
        self._left = 0
        self._stale = 0.0  # when to ask again what is left
        self._nowait = False
        self._naming: naming.Naming = naming.Renamed(str(self._temporary))

    async def __aenter__(self) -> Self:
        await self._reading(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.clear()
        await self._writers.close()
        await self._readers.close()

    @property
    def files(self) -> Self | None:
        """Itself, where the file system tells what is in memory: nobody may wait for a disk on the loop."""
        return self if self._nowait else None

    def upload(self, key: str, expected: int | None = None) -> LocalUpload:
        """An upload; small objects take one visit to a thread. The reserve is for records only."""
        final = f"{self._root}/{keys.checked(key)}"
        minds = () if key.startswith("journal/") else (self._mind_room,)
        return LocalUpload(key, Target(self._naming, final, self._folders, *minds), self._writers)

    async def admit(self) -> None:
        """Raise `NoRoom` when only the reserve is left; asked of the disk once a second."""
        now = asyncio.get_running_loop().time()
        if now > self._stale:
            self._left = await self._reading(self._room.left, self._root)
            self._stale = now + _FRESH_S
        if self._left <= 0:
            raise NoRoom("The storage has no room left.")

    async def read(self, key: str, offset: int, length: int) -> memoryview:
        """These bytes: at once when they are in memory, else from a thread."""
        file = self._files.get(key) or await self._open_file(key)
        view = np.empty(length, np.uint8).data  # not cleared before it is filled
        done = file.read_cached(view, offset) if self._nowait else 0
        if done < length:
            done += await self._reading(file.read, view[done:], offset + done)
        if done < length:
            raise Unavailable(SHORTER)
        return view

    def at_hand(self, key: str, offset: int, length: int) -> OpenFile | None:
        """The file, when it is open and these bytes of it are in memory."""
        file = self._files.get(key)
        return file if file and file.has_cached(offset, length) else None

    def fill(self, buffer: memoryview, key: str, offset: int) -> bool:
        """Fill the buffer, when the file is open and all of these bytes are in memory."""
        file = self._files.get(key)
        return file is not None and file.read_cached(buffer, offset) == len(buffer)

    async def slice(self, key: str, offset: int, length: int) -> Slice | None:
        """These bytes of the open file, when they are in memory."""
        file = self._files.get(key) or await self._open_file(key)
        return Slice(file, offset, length) if file.has_cached(offset, length) else None

    async def size(self, key: str) -> int:
        """The object's length."""
        return await self._reading(lambda: self._path(key).stat().st_size)

    async def delete(self, key: str) -> None:
        """Remove the object; reads that run on it end well."""
        self._files.drop(key)
        with suppress(NotFound):
            await self._reading(self._path(key).unlink)

    async def list(self, prefix: str) -> AsyncIterator[Entry]:
        """Every object whose key starts so, folder by folder, ordered by key."""
        entries = self._walk(keys.checked_prefix(prefix))
        while page := await self._reading(lambda: list(islice(entries, _PAGE))):
            for entry in page:
                yield entry

    async def sweep(self, age_s: float) -> int:
        """Remove unfinished uploads that were not written to for so long, by the file system's own clock."""
        return await self._reading(self._swept, age_s)

    async def check(self) -> str:
        """Whether there is room; raises `Unavailable` when the folder does not answer or cannot be written."""
        if not await self._reading(os.access, self._temporary, os.W_OK | os.X_OK):
            raise Unavailable("The storage folder cannot be written.")
        if await self._reading(self._has_room):
            return ""
        return "The storage has no room left: uploads are refused."

    async def _open_file(self, key: str) -> OpenFile:
        file = await self._reading(OpenFile, self._path(key))
        self._files.put(key, file)
        return file

    def _open(self) -> None:
        with _even_if_full():
            self._temporary.mkdir(0o700, parents=True, exist_ok=True)
        if self._sweep:
            for left in self._temporary.iterdir():
                left.unlink()
        probe = self._temporary / str(uuid7())
        with _even_if_full():
            probe.write_bytes(b"probe")
            self._nowait = local_files.can_nowait(probe)
        probe.unlink(missing_ok=True)
        self._naming = naming.probed(str(self._temporary))

    def _has_room(self) -> bool:
        """More than the reserve, or a twentieth where the whole file system is small."""
        return self._room.left(self._root) > 0

    def _mind_room(self) -> None:
        if not self._has_room():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _swept(self, age_s: float) -> int:
        os.utime(self._temporary)  # takes no room
        now = self._temporary.stat().st_mtime
        count = 0
        for left in self._temporary.iterdir():
            with suppress(FileNotFoundError):
                if left.stat().st_mtime < now - age_s:
                    left.unlink()
                    count += 1
        return count

    def _path(self, key: str) -> Path:
        return self._root / keys.checked(key)

    def _walk(self, prefix: str) -> Iterator[Entry]:
        top = self._root / prefix.rpartition("/")[0]
        for folder, inner, names in os.walk(top):
            if folder == str(self._root) and keys.TEMPORARY in inner:
                inner.remove(keys.TEMPORARY)
            inner.sort()
            for name in sorted(names):
                path = Path(folder, name)
                key = path.relative_to(self._root).as_posix()
                with suppress(FileNotFoundError):
                    if key.startswith(prefix):
                        yield Entry(key, path.stat().st_size)

    async def _reading(self, work: Callable[[Unpack[Ts]], T], *arguments: *Ts) -> T:
        with _reasons():
            return await self._readers.run(self._done, work, *arguments)

    def _done(self, work: Callable[[Unpack[Ts]], T], *arguments: *Ts) -> T:
        try:
            return work(*arguments)
        except FileNotFoundError as error:
            if self._temporary.is_dir():
                raise
            raise OSError(errno.ENODEV, "the folder itself is away") from error


@contextmanager
def _even_if_full() -> Iterator[None]:
    """A full disk can still be read."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise


@contextmanager
def _reasons() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("A stored object is gone.") from error
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "unknown error")
        raise Unavailable(f"The storage cannot be read ({name}).") from error
