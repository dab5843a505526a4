"""Units of a stream served each behind its length: their table, and the lengths laid into bytes as read.

NAL units are stored behind start codes (H.264 annex B) and played behind lengths (ISO/IEC 14496-15 5.3.2).
Where the start code has four bytes the length takes its place; elsewhere what lies between is left out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.extent import Extents, Prefixed, Units, joined

Buffer = bytes | bytearray | memoryview
Read = Callable[[Extents], Awaitable[Buffer]]
Numbers = NDArray[np.int64]

PAGE: Final = 1024  # units of a page: half a minute of a common video in one small read
PREFIX: Final = 4
_GAP: Final = 4096  # reading over so many foreign bytes is cheaper than another read
_ROW: Final = np.dtype([("gap", "<u4"), ("length", "<u4")])
_ENTRY: Final = np.dtype([("served", "<u8"), ("stored", "<u8")])
_HEAD: Final = Struct("<II")
_WORD: Final = np.arange(PREFIX)


def served_length(lengths: NDArray[np.uint32]) -> int:
    """Bytes of units of these lengths when they are served."""
    return int(lengths.sum(dtype=np.int64)) + PREFIX * len(lengths)


def table(opening: bytes, gaps: NDArray[np.uint32], lengths: NDArray[np.uint32]) -> Iterator[bytes]:
    """The table of units in order, each `gap` bytes behind the one before, and of what is served before them.

    After a count come these bytes, where pages begin and the last one ends, and the rows.
    """
    rows = np.empty(len(lengths), _ROW)
    rows["gap"], rows["length"] = gaps, lengths
    entries = np.zeros(-(-len(rows) // PAGE) + 1, _ENTRY)
    for number in range(len(entries) - 1):
        page = rows[number * PAGE : (number + 1) * PAGE]
        stored = int(page["gap"].sum(dtype=np.int64) + page["length"].sum(dtype=np.int64))
        entries[number + 1]["served"] = entries[number]["served"] + np.uint64(served_length(page["length"]))
        entries[number + 1]["stored"] = entries[number]["stored"] + np.uint64(stored)
    yield _HEAD.pack(len(opening), len(entries)) + opening + entries.tobytes()
    for start in range(0, len(rows), PAGE):
        yield rows[start : start + PAGE].tobytes()


async def opened(read: Read, table: Extents, stream: Extents) -> Extents:
    """The units of `stream` as they are served, by the extents of their table."""
    opening, entries = _HEAD.unpack(await read(table.slice(0, _HEAD.size)))
    first = _HEAD.size + opening
    last = first + entries * _ENTRY.itemsize
    found = np.frombuffer(await read(table.slice(first, last)), _ENTRY)
    served, stored = found["served"].tolist(), found["stored"].tolist()
    units = Units(stream, table.slice(last, table.length), served, stored)
    return joined([table.slice(_HEAD.size, first), Extents([Prefixed(units, 0, served[-1])])])


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of units within one page: `length` of them from `offset`, where all units are served."""

    page: int
    offset: int
    length: int


def first_piece(part: Prefixed, most: int) -> Piece:
    """As much of the part's beginning as one page tells of, at most so many bytes."""
    number = bisect_right(part.units.served, part.offset) - 1
    length = min(part.length, most, part.units.served[number + 1] - part.offset)
    return Piece(number, part.offset, length)


def rows_of(units: Units, number: int) -> Extents:
    """Where the rows of a page lie."""
    size = PAGE * _ROW.itemsize
    return units.rows.slice(number * size, (number + 1) * size)


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes of a stream that are read at once for the `length` served ones from `offset`."""

    start: int
    stop: int
    offset: int
    length: int


class Page:
    """Some units in order: where each begins when served, and how far from there it lies in the stream."""

    __slots__ = ("_breaks", "_lengths", "_places", "_shifts", "_starts", "_wide")

    def __init__(self, units: Units, number: int, rows: Buffer) -> None:
        found = np.frombuffer(rows, _ROW)
        gaps, lengths = found["gap"].astype(np.int64), found["length"].astype(np.int64)
        self._lengths = found["length"].astype(">u4")
        self._starts = np.cumsum(lengths + PREFIX) - lengths - PREFIX + units.served[number]
        payloads = np.cumsum(gaps + lengths) - lengths + units.stored[number]
        self._places = payloads - PREFIX
        self._shifts = self._places - self._starts
        # Within a page only these units need care: those not exactly four bytes behind the one before.
        self._breaks = np.flatnonzero(gaps[1:] != PREFIX) + 1
        self._wide = np.flatnonzero(gaps[1:] > _GAP) + 1

    def runs(self, piece: Piece, most: int) -> Iterator[Run]:
        """What to read for a piece, in turn; `most` bounds a read, but for what it reads over."""
        offset, end = piece.offset, piece.offset + piece.length
        while offset < end:
            unit = self._at(offset)
            start = offset + int(self._shifts[unit])
            stop = min(end, offset + most)
            wide = self._wide[np.searchsorted(self._wide, unit, "right") :][:1]
            far = np.searchsorted(self._places, start + 2 * most)
            for bound in (*wide.tolist(), int(far)):
                if bound < len(self._starts):
                    stop = min(stop, int(self._starts[bound]))
            last = self._at(stop - 1)
            # A start code of three bytes at the stream's beginning has no fourth one to read.
            yield Run(max(start, 0), stop + int(self._shifts[last]), offset, stop - offset)
            offset = stop

    def laid(self, run: Run, buffer: memoryview) -> memoryview:
        """The served bytes of a run, made from its stored ones; in place where nothing moves."""
        first, last = self._at(run.offset), self._at(run.offset + run.length - 1)
        breaks = self._breaks[np.searchsorted(self._breaks, first, "right") :]
        breaks = breaks[: np.searchsorted(breaks, last, "right")]
        if len(breaks) or len(buffer) < run.length:
            buffer = self._gathered(run, buffer, [first, *breaks.tolist()])
        elif buffer.readonly:
            buffer = memoryview(bytearray(buffer))
        places = (self._starts[first : last + 1, None] - run.offset + _WORD).ravel()
        words = self._lengths[first : last + 1].view(np.uint8)
        if places[0] < 0 or places[-1] >= run.length:  # a range may begin or end within a length
            inside = (places >= 0) & (places < run.length)
            places, words = places[inside], words[inside]
        np.frombuffer(buffer, np.uint8)[places] = words
        return buffer

    def _at(self, offset: int) -> int:
        """The unit that has this served byte."""
        return int(np.searchsorted(self._starts, offset, "right")) - 1

    def _gathered(self, run: Run, buffer: memoryview, firsts: Sequence[int]) -> memoryview:
        """The bytes one after the other that lie `firsts`, units with something else before them, apart."""
        end = run.offset + run.length
        bounds = [run.offset, *self._starts[firsts[1:]].tolist(), end]
        shifts = (self._shifts[firsts] - run.start).tolist()
        pieces: list[Buffer] = []
        for number, shift in enumerate(shifts):
            start, stop = bounds[number] + shift, bounds[number + 1] + shift
            if start < 0:
                pieces.append(bytes(min(-start, stop - start)))
            pieces.append(buffer[max(start, 0) : max(stop, 0)])
        return memoryview(bytearray().join(pieces))
