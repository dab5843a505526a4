"""Where bytes lie: extents of immutable objects, joined into one stream that can be sliced."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal


@dataclass(frozen=True, slots=True)
class Extent:
    """`length` bytes from `offset` of the object under `key`."""

    key: str
    offset: int
    length: int

    def part(self, skip: int, length: int) -> Extent:
        """`length` of its bytes, without the first `skip`."""
        return Extent(self.key, self.offset + skip, length)


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a rendition: of its own object, or of the stored instance's unpadded stream.

    Where there are thousands of pieces, `spans` is where in its own object they are written down (app/woven.py).
    A `table` before them is no piece: there in its own object stands of what units the stream is made (app/units.py).
    """

    source: Literal["rendition", "stream", "spans", "table"]
    offset: int
    length: int


class Extents:
    """Extents in order, addressed as one stream of `length` bytes; slicing copies no bytes."""

    __slots__ = ("_ends", "_extents", "length")

    def __init__(self, extents: Iterable[Extent | Prefixed]) -> None:
        self._extents = [extent for extent in extents if extent.length]
        self._ends = list(accumulate(extent.length for extent in self._extents))
        self.length = self._ends[-1] if self._ends else 0

    @property
    def count(self) -> int:
        """How many extents there are."""
        return len(self._extents)

    @property
    def held(self) -> int:
        """How many of them it holds in memory: some 200 bytes each."""
        return len(self._extents)

    def parts(self) -> Iterator[Extent | Prefixed]:
        """What it is made of, in order."""
        return iter(self._extents)

    def __iter__(self) -> Iterator[Extent]:
        """The extents of a stream of which all lies in objects just as it is read."""
        for extent in self.parts():
            assert isinstance(extent, Extent)
            yield extent

    def slice(self, start: int, stop: int) -> Extents:
        """The bytes from `start` up to `stop`, clamped to the stream: O(log n) and what is taken."""
        return Extents(self.between(max(start, 0), min(stop, self.length)))

    def within(self, start: int, stop: int) -> tuple[Extent | Prefixed, int] | None:
        """The one part in which all of these bytes lie, behind how many of its own; None where no part is known to."""
        at = bisect_right(self._ends, start)
        if at == len(self._ends) or self._ends[at] < stop:
            return None
        part = self._extents[at]
        return part, part.length - (self._ends[at] - start)

    def between(self, start: int, stop: int) -> Iterator[Extent | Prefixed]:
        """Its parts from `start` up to `stop`, which lie in it."""
        at = bisect_right(self._ends, start)
        while start < stop:
            extent = self._extents[at]
            skip = extent.length - (self._ends[at] - start)
            length = min(extent.length - skip, stop - start)
            yield extent.part(skip, length)
            start, at = start + length, at + 1


def joined(parts: Iterable[Extents]) -> Extents:
    """One stream after the other."""
    return Extents(extent for stream in parts for extent in stream.parts())


@dataclass(frozen=True, slots=True)
class Units:
    """Where the units of a stream lie, some bytes apart: rows of a table, in pages of equal count (app/units.py)."""

    stream: Extents
    rows: Extent
    served: Sequence[int]
    """Where each page begins when units are served, and behind them all where the last one ends."""
    stored: Sequence[int]
    """The offset in the stream behind the last unit of the page before."""


@dataclass(frozen=True, slots=True)
class Prefixed:
    """`length` bytes from `offset` of units in a row, each behind its own length in four bytes."""

    units: Units
    offset: int
    length: int

    def part(self, skip: int, length: int) -> Prefixed:
        """`length` of its bytes, without the first `skip`."""
        return Prefixed(self.units, self.offset + skip, length)


Part = Extent | Prefixed


@dataclass(frozen=True, slots=True)
class Stored:
    """One durable object: its size and the digests of its two parts, each byte hashed once.

    `prefix_sha256` covers everything before the data set (preamble, file meta), `dataset_sha256` the
    transfer syntax UID, a NUL and the data set: the identity of an instance whoever sent it.
    """

    key: str
    size: int
    prefix_sha256: bytes
    dataset_sha256: bytes
