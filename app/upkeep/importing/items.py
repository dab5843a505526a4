"""What an import takes up: a file or a member of an archive, read in pieces, and again where that is needed."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import Final, Protocol

from app.errors import ReelwebError

PIECE: Final = 1 << 20
_LONGEST_NAME: Final = 4096
CHANGED: Final = "It changed while it was read."


class Unreadable(ReelwebError):
    """It cannot be read to its end; the text says why and never names it."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that can be told of, and not taken up."""

    name: str
    why: str
    weight: int = 0


class Archive:
    """An archive or DICOMDIR being gone through: how many members are on their way, how many were left out."""

    def __init__(self) -> None:
        self.left_out = 0
        self._open = 0
        self._settled = asyncio.Event()
        self._settled.set()

    def begin(self) -> None:
        """One more member is on its way."""
        self._open += 1
        self._settled.clear()

    def end(self) -> None:
        """It arrived, or not."""
        self._open -= 1
        if not self._open:
            self._settled.set()

    async def settled(self) -> None:
        """Wait until none is on its way."""
        await self._settled.wait()


Pieces = AsyncGenerator[bytes, None]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to import; `pieces` gives its bytes, from the first one at each call."""

    path: str
    """The file that it is, or that it lies in."""
    member: str
    """Its name in an archive."""
    mark: bytes
    size: int
    weight: int
    """How many of the file's bytes it stands for, to tell how far the import is."""
    pieces: Callable[[], Pieces]
    is_named: bool = False
    """Somebody asked for this very file."""
    archive: Archive | None = None
    seen: tuple[int, ...] = ()
    """How the file looked: device, inode, size, time of change."""
    is_live: bool = False
    """It is read where its archive stands, which waits until this is settled."""

    @property
    def name(self) -> str:
        """For the eyes of whoever started the import, and for nobody else: it may hold a patient's name."""
        return shown(f"{self.path}: {self.member}" if self.member else self.path)

    @property
    def last_name(self) -> str:
        """The last component of its name."""
        return (self.member or self.path).rpartition("/")[2]


def shown(name: str) -> str:
    """A file's name as a terminal can show it: no control character of a stranger's reaches it."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in name[:_LONGEST_NAME])


def marked(path: str, found: os.stat_result) -> bytes:
    """Under what an import remembers a file: a digest of path, size and time, which tells nobody the name."""
    return _digest(os.path.abspath(path), str(found.st_size), str(found.st_mtime_ns))


def marked_member(item: Item, offset: int, name: str) -> bytes:
    """The same of a member of an archive."""
    return _digest(item.mark.hex(), str(offset), name)


def _digest(*words: str) -> bytes:
    joined = "\0".join(words).encode("utf-8", "surrogateescape")
    return blake2b(joined, digest_size=16).digest()


def look(found: os.stat_result) -> tuple[int, ...]:
    """What changes when a file changes."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def of_file(path: str, found: os.stat_result, *, is_named: bool = False) -> Item:
    """A file as it was found."""
    size, seen = found.st_size, look(found)

    def pieces() -> Pieces:
        return read(Extent(path, 0, size, seen))

    return Item(path, "", marked(path, found), size, size, pieces, is_named, None, seen)


class Source(Protocol):
    """Bytes that are read by a thread."""

    is_over: bool

    def next(self) -> bytes:
        """The next piece; opens at the first call."""

    def close(self) -> None:
        """Harmless twice."""


class Extent:
    """Bytes of a file that must not change meanwhile."""

    def __init__(self, path: str, offset: int, length: int, seen: tuple[int, ...]) -> None:
        self.is_over = False
        self._path, self._at, self._end, self._seen = path, offset, offset + length, seen
        self._descriptor = -1

    def next(self) -> bytes:
        """One visit to a thread is all that a small file takes."""
        if self._descriptor < 0:
            self._open()
        piece = os.pread(self._descriptor, min(PIECE, self._end - self._at), self._at)
        self._at += len(piece)
        if self._at == self._end or not piece:
            if self._at != self._end or look(os.fstat(self._descriptor)) != self._seen:
                raise Unreadable(CHANGED)
            self.is_over = True
            self.close()
        return piece

    def close(self) -> None:
        """Harmless twice."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode) or look(found) != self._seen:
            raise Unreadable(CHANGED)


async def read(source: Source) -> Pieces:
    """A source's pieces, each from a thread; Unreadable whatever is wrong with it."""
    turn = Lock()  # who is cancelled leaves a thread behind, which must not read what is closed

    def step() -> bytes:
        with turn:
            return source.next()

    def end() -> None:
        with turn:
            source.close()

    try:
        while not source.is_over:
            try:
                piece = await asyncio.to_thread(step)
            except OSError as error:
                raise Unreadable(why(error)) from error
            if piece:
                yield piece
    finally:
        if not source.is_over:
            await asyncio.shield(asyncio.to_thread(end))


def why(error: OSError) -> str:
    """The system's reason, without the name that it was about."""
    if error.errno == errno.ENOENT:
        return "It is not there."
    return f"It cannot be read ({errno.errorcode.get(error.errno or 0, 'unknown error')})."


class Reading:
    """An item whose first piece is known; who reads it once reads nothing twice."""

    def __init__(self, item: Item, first: bytes, rest: Pieces) -> None:
        self.item, self.first = item, first
        self._rest: Pieces | None = rest

    @classmethod
    async def begin(cls, item: Item) -> Reading:
        """Read the first piece."""
        rest = item.pieces()
        try:
            first = await anext(rest, b"")
        except BaseException:
            await rest.aclose()
            raise
        return cls(item, first, rest)

    async def chunks(self) -> Pieces:
        """All of it: the first time from where it stands, later from its beginning."""
        rest, self._rest = self._rest, None
        if rest is None:
            rest = self.item.pieces()
        else:
            first, self.first = self.first, b""
            yield first
        async with aclosing(rest):
            async for piece in rest:
                yield piece

    async def close(self) -> None:
        """Let go of what was not read."""
        if self._rest is not None:
            await self._rest.aclose()
