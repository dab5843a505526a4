"""A rendition of thousands of pieces: rows of equal width, in which a range is found without reading them all."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from typing import Final

from app.extent import Extent, Extents, Span

_ROW: Final = Struct("<QQ?")  # where it is served, where it lies, and whether that is the stream


def packed(layout: Iterable[Span]) -> bytes:
    """The pieces in order, and behind them where the last one ends."""
    rows, served = list[bytes](), 0
    for span in layout:
        rows.append(_ROW.pack(served, span.offset, span.source == "stream"))
        served += span.length
    return b"".join([*rows, _ROW.pack(served, 0, 0)])


class Woven(Extents):
    """The pieces that `rows` tell, of two sources in turn; a slice shares the rows."""

    __slots__ = ("_rows", "_sources", "_start")

    def __init__(
        self, rows: bytes, sources: Mapping[str, Extents], start: int = 0, stop: int | None = None
    ) -> None:
        super().__init__(())
        self._rows, self._sources, self._start = rows, sources, start
        self.length = (self._at(self.count)[0] if stop is None else stop) - start

    @property
    def count(self) -> int:
        """How many pieces the rows tell."""
        return len(self._rows) // _ROW.size - 1

    def _at(self, number: int) -> tuple[int, int, bool]:
        served, offset, is_stream = _ROW.unpack_from(self._rows, number * _ROW.size)
        return served, offset, is_stream

    def slice(self, start: int, stop: int) -> Woven:
        """The bytes from `start` up to `stop`, clamped to the stream."""
        start, stop = max(start, 0), min(stop, self.length)
        begin = self._start + start
        return Woven(self._rows, self._sources, begin, max(begin, self._start + stop))

    def __iter__(self) -> Iterator[Extent]:
        """The extents, found while they are taken: O(log n) for the first."""
        at, stop = self._start, self._start + self.length
        number = bisect_right(range(self.count), at, key=lambda row: self._at(row)[0]) - 1
        while at < stop:
            served, offset, is_stream = self._at(number)
            number += 1
            end = min(self._at(number)[0], stop)
            yield from self._sources["stream" if is_stream else "rendition"].slice(
                offset + at - served, offset + end - served
            )
            at = end
