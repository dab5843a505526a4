"""Encapsulated Pixel Data, noted while its fragments pass by (PS3.5 A.4)."""

from __future__ import annotations

import sys
from array import array
from dataclasses import replace
from typing import Final, Protocol

from app.dicom.scan import Bulk

_LONGEST_TABLE: Final = 16 << 20  # four million frames
_HEAD: Final = 4


class Sink(Protocol):
    """Takes the stream that all fragments make together."""

    def take(self, view: memoryview) -> None:
        """The next bytes."""
        ...


class Encapsulated:
    """Where the fragments lie, how each begins, and the Basic Offset Table."""

    def __init__(self, extent: Bulk) -> None:
        self.table = bytearray()
        self.extents = array("Q")
        self.heads = bytearray()
        self.sink: Sink | None = None
        self._extent = extent
        self._in_table = False
        self._items = 0

    def begin(self, offset: int, length: int) -> None:
        """The next item; the first one is the Basic Offset Table."""
        self._items += 1
        self._in_table = self._items == 1
        if not self._in_table:
            self.heads += bytes(self._missing())
            self.extents.extend((offset, length))

    def _missing(self) -> int:
        """What a fragment of less than four bytes left open."""
        return len(self.extents) // 2 * _HEAD - len(self.heads)

    def take(self, view: memoryview) -> None:
        """Bytes of the item that has begun."""
        if self._in_table:
            if len(self.table) + len(view) <= _LONGEST_TABLE:
                self.table += view
            return
        missing = self._missing()
        if missing:
            self.heads += view[:missing]
        if self.sink is not None:
            self.sink.take(view)

    def finish(self, offset: int) -> Bulk:
        """The sequence delimiter stands at `offset`."""
        self.heads += bytes(self._missing())
        self._extent = replace(self._extent, length=offset - self._extent.offset)
        return self._extent

    @property
    def extent(self) -> Bulk:
        """From the Basic Offset Table's item up to the sequence delimiter."""
        return self._extent

    @property
    def stream_length(self) -> int:
        """The length of all fragments joined, pads included."""
        return sum(self.extents[1::2])

    def packed(self) -> bytes:
        """'<QQ' (offset, length) a fragment."""
        packed = array("Q", self.extents)
        if sys.byteorder == "big":
            packed.byteswap()
        return packed.tobytes()
