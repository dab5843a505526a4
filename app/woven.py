"""A rendition of many pieces: rows of equal width, in which a range is found without reading them all."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.extent import Extent, Extents, Prefixed

_NUMBER: Final = 6  # bytes: of where a piece is served, and of where it lies, doubled, and odd in the stream
_ROW: Final = 2 * _NUMBER
_KNOWN: Final = 64 << 20  # the rows of thirty hours with sound


def packed(lengths: NDArray[np.int64], offsets: NDArray[np.int64], is_stream: NDArray[np.bool_]) -> bytes:
    """The pieces in order, and behind them where the last one ends."""
    served = np.concatenate([[0], np.cumsum(lengths)])
    places = np.append(offsets * 2 + is_stream, 0)
    words = np.stack([served, places], axis=1).astype("<u8")
    return words.view(np.uint8).reshape(-1, 2, 8)[:, :, :_NUMBER].tobytes()


class Known:
    """Rows that were read lately, by the key of their object, which never changes; together at most `limit` bytes."""

    def __init__(self, limit: int = _KNOWN) -> None:
        self._limit, self._size = limit, 0
        self._rows: OrderedDict[str, bytes] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        """The rows, if they are still known."""
        rows = self._rows.get(key)
        if rows is not None:
            self._rows.move_to_end(key)
        return rows

    def put(self, key: str, rows: bytes) -> None:
        """Keep them; what was not asked for longest goes first."""
        self._size += len(rows) - len(self._rows.pop(key, b""))
        self._rows[key] = rows
        while self._size > self._limit:
            self._size -= len(self._rows.popitem(last=False)[1])


class Woven(Extents):
    """The pieces that `rows` tell, of a rendition's own object and of the stream; a slice shares the rows."""

    __slots__ = ("_rows", "_sources", "_start")

    def __init__(
        self, rows: bytes, sources: Mapping[str, Extents], start: int = 0, stop: int | None = None
    ) -> None:
        super().__init__(())
        self._rows, self._sources, self._start = rows, sources, start
        self.length = (self._served(self.count) if stop is None else stop) - start

    @property
    def count(self) -> int:
        """How many pieces the rows tell."""
        return len(self._rows) // _ROW - 1

    def _number(self, at: int) -> int:
        return int.from_bytes(self._rows[at : at + _NUMBER], "little")

    def _served(self, row: int) -> int:
        return self._number(row * _ROW)

    def slice(self, start: int, stop: int) -> Woven:
        """The bytes from `start` up to `stop`, clamped to the stream."""
        start, stop = max(start, 0), min(stop, self.length)
        begin = self._start + start
        return Woven(self._rows, self._sources, begin, max(begin, self._start + stop))

    def parts(self) -> Iterator[Extent | Prefixed]:
        """The pieces, found while they are taken: O(log n) for the first."""
        return self.between(0, self.length)

    def between(self, start: int, stop: int) -> Iterator[Extent | Prefixed]:
        """Its parts from `start` up to `stop`, which lie in it."""
        at, stop = self._start + start, self._start + stop
        row = bisect_right(range(self.count), at, key=self._served) - 1
        own, stream, served = self._sources["rendition"], self._sources["stream"], self._served(row)
        while at < stop:
            place = self._number(row * _ROW + _NUMBER)
            row += 1
            begin, served = (place >> 1) + at - served, self._served(row)
            end = min(served, stop)
            yield from (stream if place & 1 else own).between(begin, begin + end - at)
            at = end
