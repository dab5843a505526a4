"""Where bytes lie: extents of immutable objects, joined into one stream that can be sliced."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal


@dataclass(frozen=True, slots=True)
class Extent:
    """`length` bytes from `offset` of the object under `key`."""

    key: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a rendition: of its own object, or of the stored instance's unpadded stream.

    Where there are thousands of pieces, `spans` is where in its own object they are written down (app/woven.py).
    """

    source: Literal["rendition", "stream", "spans"]
    offset: int
    length: int


class Extents:
    """Extents in order, addressed as one stream of `length` bytes; slicing copies no bytes."""

    __slots__ = ("_ends", "_extents", "length")

    def __init__(self, extents: Iterable[Extent]) -> None:
        self._extents = [extent for extent in extents if extent.length]
        self._ends = list(accumulate(extent.length for extent in self._extents))
        self.length = self._ends[-1] if self._ends else 0

    @property
    def count(self) -> int:
        """How many extents there are."""
        return len(self._extents)

    def __iter__(self) -> Iterator[Extent]:
        return iter(self._extents)

    def slice(self, start: int, stop: int) -> Extents:
        """The bytes from `start` up to `stop`, clamped to the stream: O(log n) and what is taken."""
        return Extents(self._between(max(start, 0), min(stop, self.length)))

    def _between(self, start: int, stop: int) -> Iterator[Extent]:
        at = bisect_right(self._ends, start)
        while start < stop:
            extent = self._extents[at]
            skip = extent.length - (self._ends[at] - start)
            length = min(extent.length - skip, stop - start)
            yield Extent(extent.key, extent.offset + skip, length)
            start, at = start + length, at + 1


def joined(parts: Iterable[Extents]) -> Extents:
    """One stream after the other."""
    return Extents(extent for part in parts for extent in part)


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
