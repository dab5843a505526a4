"""The virtual MP4 of a bare H.264 or HEVC stream: an index of its units, and a header made from it.

Nothing is copied. Read once, the stream tells where its NAL units and pictures lie and in which order they are
shown; the units are served as samples, each behind its length (app/units.py, ISO/IEC 14496-15).
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from struct import pack
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app import units
from app.extent import Span
from app.video import NeedsRemux, avc, faststart, hevc, track
from app.video.boxes import Region, joined
from app.video.faststart import Media
from app.video.nal import Buffer, Coding, Role, Splitter, Unit
from app.video.pace import Pace
from app.video.track import Pictures

_MOST_UNITS: Final = 1 << 22  # five hours of sixty pictures a second in four slices each; 32 MiB of index
_MOST_BYTES: Final = 0xFFFFFFFF  # of a unit, and between two
_MOST_HELD: Final = 16  # pictures that wait for others to be shown before them (H.264 A.3.1, H.265 A.4.2)
_STEP: Final = 32 << 10  # bytes looked at before others have their turn
# What an HEVC stream begins with, on its base layer: parameter sets, a delimiter, SEI (H.265 Table 7-1).
_HEVC: Final = tuple(bytes([kind << 1, 1]) for kind in (32, 33, 34, 35, 39))


@dataclass(frozen=True, slots=True)
class Plan:
    """How the stream of units is served, and the table that tells what it is made of."""

    file: faststart.Plan
    table: tuple[bytes, ...] = field(repr=False)

    @property
    def layout(self) -> tuple[Span, ...]:
        """Where in the rendition's own object the table lies, behind the header, and the layout of the whole."""
        return Span("table", len(self.file.header), sum(map(len, self.table))), *self.file.layout


async def plan(chunks: AsyncIterator[Buffer], pace: Pace, longest: int = faststart.LONG) -> Plan:
    """How the stream is served as MP4, shown at that pace. Raises NeedsRemux where that is not proven safe.

    A header above `longest` bytes is laid out in fragments.
    """
    index = Index()
    async for chunk in chunks:
        for start in range(0, len(chunk), _STEP):
            index.feed(chunk[start : start + _STEP])
            await asyncio.sleep(0)
    return await asyncio.to_thread(planned, index.close(), pace, longest)


@dataclass(frozen=True, slots=True)
class Indexed:
    """Where the units of a stream lie, and its pictures in the order of decoding."""

    coding: Coding
    gaps: array[int]
    lengths: array[int]
    firsts: array[int]
    """Each picture's first unit."""
    orders: array[int]
    syncs: array[int]
    """The pictures, from 0, that a player can begin with."""


class Index:
    """Told a stream in pieces, it finds units, pictures and their order; it keeps 8 bytes of a unit."""

    def __init__(self) -> None:
        self._splitter = Splitter()
        self._coding: Coding | None = None
        self._gaps, self._lengths = array("I"), array("I")
        self._firsts, self._syncs, self._orders = array("I"), array("I"), array("q")
        self._end = 0  # of the last unit that is served
        self._opening: int | None = None  # the unit with which the next picture's access unit begins

    def feed(self, chunk: Buffer) -> None:
        """The next bytes."""
        for unit in self._splitter.feed(chunk):
            self._take(unit)

    def close(self) -> Indexed:
        """What was found."""
        for unit in self._splitter.close():
            self._take(unit)
        if self._coding is None or not self._firsts:
            raise NeedsRemux("The video's stream holds no pictures.")
        self._firsts[0] = 0
        return Indexed(self._coding, self._gaps, self._lengths, self._firsts, self._orders, self._syncs)

    def _take(self, unit: Unit) -> None:
        if self._coding is None:
            self._coding = hevc.Stream() if unit.head.startswith(_HEVC) else avc.Stream()
        role = self._coding.take(unit)
        if role in {Role.LEADS, Role.DESCRIBES} and self._opening is None:
            self._opening = len(self._lengths)
        if role is Role.DESCRIBES:
            return
        if role is Role.BEGINS:
            self._begin()
        if role in {Role.BEGINS, Role.CONTINUES}:
            self._opening = None
        gap = unit.offset - self._end
        if max(gap, unit.length) > _MOST_BYTES or len(self._lengths) == _MOST_UNITS:
            raise NeedsRemux("The video's stream has too many or too large units.")
        self._gaps.append(gap)
        self._lengths.append(unit.length)
        self._end = unit.offset + unit.length

    def _begin(self) -> None:
        assert self._coding is not None
        first = len(self._lengths) if self._opening is None else self._opening
        if self._coding.picture.is_sync:
            self._syncs.append(len(self._firsts))
        self._firsts.append(first)
        self._orders.append(self._coding.picture.order)


def planned(indexed: Indexed, pace: Pace, longest: int = faststart.LONG) -> Plan:
    """The header and the table of what was found."""
    gaps, lengths = np.frombuffer(indexed.gaps, np.uint32), np.frombuffer(indexed.lengths, np.uint32)
    media = units.served_length(lengths)
    if int(gaps.sum(dtype=np.int64)) > media:
        raise NeedsRemux("The video's stream is mostly filled with nothing.")
    opening = _opened(media)
    moov = joined(track.movie(_pictures(indexed, lengths, pace), len(opening)).children)
    region = Region(b"mdat", 0, len(opening), len(opening) + media)
    file = faststart.planned(moov, Media([region]), longest)
    return Plan(file, tuple(units.table(opening, gaps, lengths)))


def _opened(media: int) -> bytes:
    """The header of a box of so many bytes of media."""
    if 8 + media > _MOST_BYTES:
        return pack(">I4sQ", 1, b"mdat", 16 + media)
    return pack(">I4s", 8 + media, b"mdat")


def _pictures(indexed: Indexed, lengths: NDArray[np.uint32], pace: Pace) -> Pictures:
    sizes = np.add.reduceat(lengths.astype(np.int64) + units.PREFIX, np.array(indexed.firsts, np.int64))
    if sizes.max() > _MOST_BYTES:
        raise NeedsRemux("The video's stream has too many or too large units.")
    count = len(sizes)
    ticks_per_s, times = pace.times(count, indexed.coding.rate)
    ranks = np.empty(count, np.int64)
    ranks[np.argsort(np.frombuffer(indexed.orders, np.int64), kind="stable")] = np.arange(count)
    if (np.arange(count) - ranks).max() > _MOST_HELD:
        raise NeedsRemux("The order of the video's pictures makes no sense.")
    syncs = np.array(indexed.syncs or [0], np.int64)  # with none a player would not even begin
    return Pictures(indexed.coding.entry(), sizes, times, times[ranks], ticks_per_s, syncs)
