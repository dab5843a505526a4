"""Units of a stream served each behind its length: their table, and the lengths laid into bytes as read.

NAL units are stored behind start codes (H.264 annex B) and played behind lengths (ISO/IEC 14496-15 5.3.2).
Where the start code has four bytes the length takes its place; elsewhere what lies between is left out.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.extent import Extent, Extents, Prefixed, Units, joined

Buffer = bytes | bytearray | memoryview
Read = Callable[[Extents], Awaitable[Buffer]]

PAGE: Final = 512  # units of a page: a quarter of a minute of a common video in one small read
PREFIX: Final = 4
LONG: Final = 32 << 10  # of a unit: sent as it lies it costs less than read together with others
_ROW: Final = np.dtype([("gap", "<u4"), ("length", "<u4")])
_ENTRY: Final = np.dtype([("served", "<u8"), ("stored", "<u8")])
_HEAD: Final = Struct("<II")
_WORD: Final = Struct(">I")


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
    served, stored = (array("Q", found[name].tobytes()) for name in ("served", "stored"))
    (rows,) = table.slice(last, table.length)  # of one object
    units = Units(stream, rows, served, stored)
    return joined([table.slice(_HEAD.size, first), Extents([Prefixed(units, 0, served[-1])])])


def page_of(part: Prefixed) -> tuple[int, int]:
    """The page that tells of the part's beginning, and how many of its bytes it tells of."""
    served = part.units.served
    number = bisect_right(served, part.offset) - 1
    return number, min(part.length, served[number + 1] - part.offset)


def rows_of(units: Units, number: int) -> Extent:
    """Where the rows of a page lie."""
    size, skip = PAGE * _ROW.itemsize, number * PAGE * _ROW.itemsize
    return units.rows.part(skip, min(size, units.rows.length - skip))


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes of a stream that are read at once for `length` served ones from `offset`, of these units."""

    start: int
    stop: int
    offset: int
    length: int
    first: int
    last: int


class Page:
    """Some units in order: where each begins when served, and how far from there it lies in the stream."""

    __slots__ = ("_breaks", "_lengths", "_long", "_shifts", "_starts")

    def __init__(self, units: Units, number: int, rows: Buffer) -> None:
        found = np.frombuffer(rows, _ROW)
        gaps, lengths = found["gap"].astype(np.int64), found["length"].astype(np.int64)
        starts = np.cumsum(lengths + PREFIX) - lengths - PREFIX + units.served[number]
        shifts = np.cumsum(gaps + lengths) - lengths + units.stored[number] - PREFIX - starts
        # Arrays: a piece has few units, and each is found and laid in quicker than numpy is called.
        self._starts, self._shifts = array("q", starts.tobytes()), array("q", shifts.tobytes())
        self._lengths = array("I", found["length"].tobytes())
        self._long = array("I", np.flatnonzero(lengths >= LONG).astype(np.uint32).tobytes())
        self._breaks = array("q", (np.flatnonzero(np.diff(shifts)) + 1).tobytes())

    def runs(self, offset: int, length: int, most: int) -> Iterator[Run]:
        """What to read for these served bytes, in turn: at most three times `most` with what is left out."""
        starts, shifts, end = self._starts, self._shifts, offset + length
        while offset < end:
            first, stop = bisect_right(starts, offset) - 1, min(end, offset + most)
            last, start = bisect_right(starts, stop - 1) - 1, offset + shifts[first]
            if stop + shifts[last] - start > 2 * most:
                units = range(first + 1, last + 1)
                last = first + bisect_left(
                    units, start + 2 * most, key=lambda unit: starts[unit] + shifts[unit]
                )
                stop = min(stop, starts[last + 1]) if last + 1 < len(starts) else stop
            # A start code of three bytes at the stream's beginning has no fourth one to read.
            yield Run(max(start, 0), stop + shifts[last], offset, stop - offset, first, last)
            offset = stop

    def lie(self, offset: int, length: int) -> tuple[int, int]:
        """From where up to where of the stream these served bytes lie, and with them what is left out between."""
        end = offset + length
        first, last = bisect_right(self._starts, offset) - 1, bisect_right(self._starts, end - 1) - 1
        return max(offset + self._shifts[first], 0), end + self._shifts[last]

    def cut(self, offset: int, length: int, most: int) -> Iterator[Run | bytes | range]:
        """These served bytes in turn: a long unit's length, then where in the stream it lies; runs of all else."""
        end, at = offset + length, bisect_right(self._starts, offset) - 1
        for unit in self._long[bisect_left(self._long, at) :]:
            begin, shift = self._starts[unit] + PREFIX, self._shifts[unit]
            if begin >= end:
                break
            if offset == begin - PREFIX:
                yield _WORD.pack(self._lengths[unit])
            elif offset < begin:
                yield from self.runs(offset, begin - offset, most)
            start, offset = max(offset, begin), min(end, begin + self._lengths[unit])
            yield range(start + shift, offset + shift)
        yield from self.runs(offset, end - offset, most)

    def laid(self, run: Run, buffer: memoryview) -> memoryview:
        """The served bytes of a run, made from its stored ones; in place where nothing moves."""
        breaks = self._breaks
        moved = breaks[bisect_right(breaks, run.first) : bisect_right(breaks, run.last)]
        if moved or len(buffer) < run.length:
            buffer = self._gathered(run, buffer, [run.first, *moved])
        elif buffer.readonly:
            buffer = memoryview(bytearray(buffer))
        starts, lengths = self._starts, self._lengths
        for unit in range(run.first, run.last + 1):
            at = starts[unit] - run.offset
            if 0 <= at <= run.length - PREFIX:
                _WORD.pack_into(buffer, at, lengths[unit])
            else:  # a range may begin or end within a length
                seen = _WORD.pack(lengths[unit])[max(-at, 0) : max(run.length - at, 0)]
                buffer[max(at, 0) : max(at, 0) + len(seen)] = seen
        return buffer

    def _gathered(self, run: Run, buffer: memoryview, firsts: Sequence[int]) -> memoryview:
        """The bytes one after the other that lie apart: `firsts` are the units before which something is left out."""
        bounds = [run.offset, *(self._starts[unit] for unit in firsts[1:]), run.offset + run.length]
        pieces: list[Buffer] = []
        for unit, begin, end in zip(firsts, bounds[:-1], bounds[1:], strict=True):
            start, stop = begin + self._shifts[unit] - run.start, end + self._shifts[unit] - run.start
            pieces += bytes(max(min(-start, stop - start), 0)), buffer[max(start, 0) : max(stop, 0)]
        return memoryview(bytearray().join(pieces))


class Pages:
    """The pages used last, at most so many: 10 KB each, by where their rows lie, which never change."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pages: OrderedDict[Extent, Page] = OrderedDict()

    def get(self, rows: Extent) -> Page | None:
        """The page, now the one used last."""
        page = self._pages.get(rows)
        if page is not None:
            self._pages.move_to_end(rows)
        return page

    def put(self, rows: Extent, page: Page) -> Page:
        """Keep it; the one unused for longest goes."""
        self._pages[rows] = page
        if len(self._pages) > self._limit:
            self._pages.popitem(last=False)
        return page
