"""Extents as a stream of buffers: bounded reads, one at a time, at the pace of whoever takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from time import monotonic
from typing import Final

from app.extent import Extent, Extents
from app.storage.protocol import Storage

SMALLEST: Final = 64 << 10  # what a stalled viewer costs
LARGEST: Final = 256 << 10  # from here on larger pieces are no faster
_AT_ONCE_S: Final = 0.005
_TURN: Final = 1 << 20
_GAP: Final = 4096  # reading over so many foreign bytes is cheaper than another read

Run = list[Extent]


async def stream(storage: Storage, extents: Extents) -> AsyncGenerator[memoryview, None]:
    """The bytes in order. Pieces grow while they are taken at once and are small again after a wait.

    Raises what `Storage.read` raises: a piece is whole and right, or it does not come.
    """
    runs = _Runs(extents)
    piece, turn = SMALLEST, 0
    while run := runs.next(piece):
        buffer = await _read(storage, run)
        given = monotonic()
        yield buffer
        piece = min(2 * piece, LARGEST) if monotonic() - given < _AT_ONCE_S else SMALLEST
        turn += len(buffer)
        if turn >= _TURN:  # bytes in memory and a fast client: nothing else would make room for the others
            turn = 0
            await asyncio.sleep(0)


class _Runs:
    """Cuts extents into reads: a piece of a long one, or several short ones that lie close together."""

    def __init__(self, extents: Extents) -> None:
        self._extents: Iterator[Extent] = iter(extents)
        self._next = next(self._extents, None)

    def next(self, piece: int) -> Run:
        run: Run = []
        start = end = 0
        while (extent := self._next) and (not run or self._joins(extent, run[0].key, end)):
            start = start if run else extent.offset
            room = piece - (extent.offset - start)
            if room <= 0:
                break
            length = min(extent.length, room)
            run.append(Extent(extent.key, extent.offset, length))
            end = extent.offset + length
            self._advance(extent, length)
        return run

    @staticmethod
    def _joins(extent: Extent, key: str, end: int) -> bool:
        return extent.key == key and 0 <= extent.offset - end <= _GAP

    def _advance(self, extent: Extent, length: int) -> None:
        if length < extent.length:
            self._next = Extent(extent.key, extent.offset + length, extent.length - length)
        else:
            self._next = next(self._extents, None)


async def _read(storage: Storage, run: Run) -> memoryview:
    first, last = run[0], run[-1]
    buffer = await storage.read(first.key, first.offset, last.offset + last.length - first.offset)
    if len(run) == 1:
        return buffer
    # One copy costs less than as many messages as there are fragments.
    start = first.offset
    return memoryview(b"".join(buffer[at.offset - start : at.offset - start + at.length] for at in run))


async def read_all(storage: Storage, extents: Extents) -> bytes:
    """All of it in one buffer: the caller bounds its length."""
    return b"".join([piece async for piece in stream(storage, extents)])
