"""Bytes put aside until their turn comes: in memory while they are few, then in a file without a name.

Nothing is left of a spool when its process ends, however it ends.
"""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from app.errors import FailureReason, NoRoom, Refused
from app.storage.room import Room

_IN_MEMORY: Final = 256 << 10
_PIECE: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Spools:
    """Where requests put things aside, and how much each of them may."""

    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    limit: int = 64 << 30
    room: Room = field(default_factory=Room)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Metadata are parsed one at a time: what a hostile text becomes in memory is not multiplied."""

    def new(self) -> Spool:
        """An empty one for what a client sends, which is bounded."""
        return Spool(self, self.limit)

    def unbounded(self) -> Spool:
        """An empty one for what we say of it."""
        return Spool(self, None)


class Spool:
    """Written at its end, read anywhere; a context manager."""

    def __init__(self, spools: Spools, most: int | None) -> None:
        self._spools, self._most = spools, most
        self._descriptor = -1
        self._written = 0  # bytes in the file
        self._held = bytearray()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.clear()
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            await asyncio.to_thread(os.close, descriptor)  # a large file is freed here

    @property
    def size(self) -> int:
        """How much was written."""
        return self._written + len(self._held)

    async def write(self, chunk: bytes | memoryview) -> None:
        """Append; Refused beyond the limit, NoRoom when the disk is full."""
        if self._most is not None and self.size + len(chunk) > self._most:
            raise Refused(
                "The request holds more bulk data than this server puts aside.",
                FailureReason.OUT_OF_RESOURCES,
            )
        self.hold(chunk)
        await self.settle()

    def hold(self, chunk: bytes | memoryview) -> None:
        """Append, in memory until `settle`."""
        self._held += chunk

    async def settle(self) -> None:
        """Bring what is held to the file, if it is more than a little."""
        if len(self._held) < _IN_MEMORY:
            return
        held, self._held = self._held, bytearray()
        written = asyncio.ensure_future(asyncio.to_thread(self._append, held))
        try:
            await asyncio.shield(written)
        except asyncio.CancelledError:
            await asyncio.wait([written])  # before its file is closed
            raise

    async def read(self, offset: int, length: int) -> bytes:
        """These bytes, all of them, in memory: the caller bounds `length`."""
        if offset >= self._written:
            start = offset - self._written
            return bytes(self._held[start : start + length])
        stored = min(length, self._written - offset)
        return await asyncio.to_thread(self._stored, offset, stored) + bytes(self._held[: length - stored])

    async def pieces(self, offset: int, length: int) -> AsyncIterator[bytes]:
        """The same in pieces of bounded size."""
        for at in range(offset, offset + length, _PIECE):
            yield await self.read(at, min(_PIECE, offset + length - at))

    def _append(self, held: bytearray) -> None:
        try:
            if self._descriptor < 0:
                self._descriptor = _unnamed(self._spools.folder)
            self._spools.room.check(self._spools.folder, len(held))
            view = memoryview(held)
            while view:
                count = os.pwrite(self._descriptor, view, self._written)
                self._written += count
                view = view[count:]
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "unknown error")
            raise NoRoom(f"What came cannot be put aside ({name}).") from error

    def _stored(self, offset: int, length: int) -> bytes:
        read = bytearray(length)
        view, done = memoryview(read), 0
        while done < length:
            count = os.preadv(self._descriptor, [view[done:]], offset + done)
            assert count, "a spool is as long as it was written"
            done += count
        return bytes(read)


def _unnamed(folder: Path) -> int:
    folder.mkdir(0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        return os.dup(file.fileno())
