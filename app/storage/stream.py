"""Extents as a stream of buffers: bounded reads at the pace of whoever takes them, at most one of them ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from time import monotonic
from typing import Final

from app import units
from app.extent import Extent, Extents, Prefixed, Units
from app.storage.protocol import Files, Piece, Pieces, Storage
from app.units import Page, Pages

_AT_ONCE_S: Final = 0.005
_IN_A_ROW: Final = 512 << 10
_SHORT: Final = 4 << 20  # a range that a player fetches; it will take it
_TURN: Final = 1 << 20
_GAP: Final = 4096  # reading over so many foreign bytes is cheaper than another read

_LONG: Final = 32 << 10  # copying less costs less than sending it apart
_UNREAD: Final = 2  # pieces in a slice
# By immutable keys, so that it serves every storage and every viewer; 10 MB.
PAGES: Final = Pages(1024)

Run = list[Extent]


async def stream(storage: Storage, extents: Extents) -> AsyncGenerator[memoryview, None]:
    """The bytes in order, in pieces that grow while they are taken at once and are small after a wait.

    Raises what `Storage.read` raises: a piece is whole and right, or it does not come.
    """
    turn = 0
    ahead: asyncio.Task[memoryview] | None = None
    try:
        with storage.pieces.shared():
            runs, pace, reader = _Runs(extents), _Pace(storage.pieces, extents.length), _Reader(storage)
            while True:
                if ahead:
                    buffer, ahead = await ahead, None
                elif run := runs.next(pace.piece):
                    buffer = await reader.read(run)
                else:
                    return
                if pace.prompt and storage.pieces.ahead and (run := runs.next(pace.piece)):
                    ahead = asyncio.create_task(reader.read(run))
                given = monotonic()
                yield buffer
                pace.taken(len(buffer), monotonic() - given)
                turn += len(buffer)
                # Bytes in memory and a fast client: nothing else would make room for the others.
                if turn >= _TURN:
                    turn = 0
                    await asyncio.sleep(0)
    finally:
        if ahead:
            ahead.add_done_callback(_seen)
            ahead.cancel()


def unread(storage: Storage, extents: Extents) -> AsyncGenerator[Piece, None]:
    """As `stream`, but where objects are files, what is in memory of a long extent is not read."""
    files = storage.files
    return _slices(storage, files, extents) if files else stream(storage, extents)


async def _slices(storage: Storage, files: Files, extents: Extents) -> AsyncGenerator[Piece, None]:
    with storage.pieces.shared():
        runs, pace, reader = _Runs(extents), _Pace(storage.pieces, extents.length), _Reader(storage)
        turn, is_short = 0, extents.length <= _SHORT
        while extent := runs.head:
            # Nobody holds it, but what is in memory now is not for ever: who is slow with a long one is asked for again.
            length = min(extent.length, _UNREAD * (storage.pieces.largest if is_short else pace.piece))
            piece: Piece | None = None
            if isinstance(extent, Extent) and length >= _LONG:
                piece = await files.slice(extent.key, extent.offset, length)
            if piece:
                runs.advance(extent, length)
            else:
                piece = await reader.read(runs.next(pace.piece))
            given, length = monotonic(), len(piece)
            yield piece
            pace.taken(length, monotonic() - given)
            turn += length
            if turn >= _TURN:
                turn = 0
                await asyncio.sleep(0)


class _Pace:
    """How much to read at a time: a short range at once, and ever more for who takes half a mebibyte at once.

    What a client does not take is held, mostly by many at a time: who has to be waited for gets small pieces.
    """

    def __init__(self, pieces: Pieces, length: int) -> None:
        self._pieces = pieces
        self.piece = pieces.largest if length <= _SHORT else pieces.smallest
        self.prompt = False
        self._in_a_row = 0

    def taken(self, length: int, after_s: float) -> None:
        """The client took so much in so much time."""
        self.prompt = after_s < _AT_ONCE_S
        self._in_a_row = self._in_a_row + length if self.prompt else 0
        if not self.prompt:
            self.piece = self._pieces.smallest // 2
        elif self._in_a_row >= _IN_A_ROW:
            self.piece = min(2 * self.piece, self._pieces.largest)


def _seen(task: asyncio.Task[memoryview]) -> None:
    """Nobody waits for it any more: its failure is no news."""
    if not task.cancelled():
        task.exception()


class _Runs:
    """Cuts extents into reads: a piece of a long one, or several short ones that lie close together."""

    def __init__(self, extents: Extents) -> None:
        self._extents: Iterator[Extent | Prefixed] = extents.parts()
        self._next = next(self._extents, None)

    @property
    def head(self) -> Extent | Prefixed | None:
        """What is next."""
        return self._next

    def next(self, piece: int) -> Run | Prefixed:
        if isinstance(self._next, Prefixed):
            return self._units(self._next, piece)
        run: Run = []
        start = end = 0
        while isinstance(extent := self._next, Extent) and (not run or self._joins(extent, run[0].key, end)):
            start = start if run else extent.offset
            room = piece - (extent.offset - start)
            if room <= 0:
                break
            length = min(extent.length, room)
            run.append(Extent(extent.key, extent.offset, length))
            end = extent.offset + length
            self.advance(extent, length)
        return run

    def _units(self, extent: Prefixed, piece: int) -> Prefixed:
        length = min(piece, units.page_of(extent)[1])
        self.advance(extent, length)
        return extent.part(0, length)

    @staticmethod
    def _joins(extent: Extent, key: str, end: int) -> bool:
        return extent.key == key and 0 <= extent.offset - end <= _GAP

    def advance(self, extent: Extent | Prefixed, length: int) -> None:
        """The beginning of the next extent was taken."""
        if length < extent.length:
            self._next = extent.part(length, extent.length - length)
        else:
            self._next = next(self._extents, None)


class _Reader:
    """Reads runs, those of units with the page that tells of them."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def read(self, run: Run | Prefixed) -> memoryview:
        if isinstance(run, Prefixed):
            return await self._units(run)
        first, last = run[0], run[-1]
        start = first.offset
        buffer = await self._storage.read(first.key, start, last.offset + last.length - start)
        if len(run) == 1:
            return buffer
        # One copy costs less than as many messages as there are fragments.
        pieces = [buffer[at.offset - start : at.offset - start + at.length] for at in run]
        return memoryview(bytearray().join(pieces))

    async def _units(self, part: Prefixed) -> memoryview:
        page, stream = await self._paged(part.units, units.page_of(part)[0]), part.units.stream
        runs = page.runs(part.offset, part.length, self._storage.pieces.largest)
        laid = [page.laid(run, await self.together(stream.between(run.start, run.stop))) for run in runs]
        return laid[0] if len(laid) == 1 else memoryview(b"".join(laid))

    async def _paged(self, table: Units, number: int) -> Page:
        rows = units.rows_of(table, number)
        if page := PAGES.get(rows):
            return page
        found = await self._storage.read(rows.key, rows.offset, rows.length)
        return PAGES.put(rows, Page(table, number, found))

    async def together(self, parts: Iterator[Extent | Prefixed]) -> memoryview:
        """All of it in one buffer, mostly the one that it was read into."""
        found = list(parts)
        if len(found) == 1 and isinstance(found[0], Extent):
            return await self._storage.read(found[0].key, found[0].offset, found[0].length)
        extents = Extents(found)
        runs, buffers = _Runs(extents), list[memoryview]()
        while run := runs.next(2 * extents.length):  # items' headers may lie between
            buffers.append(await self.read(run))
        return buffers[0] if len(buffers) == 1 else memoryview(bytearray().join(buffers))


async def read_together(storage: Storage, extents: Extents) -> memoryview:
    """As `read_all`, in as few reads as there can be: for a mebibyte."""
    return await _Reader(storage).together(extents.parts())


async def read_all(storage: Storage, extents: Extents) -> bytes:
    """All of it in one buffer: the caller bounds its length."""
    return b"".join([piece async for piece in stream(storage, extents)])
