"""A track's samples one by one, out of the compact tables of its movie header (ISO/IEC 14496-12 8.6, 8.7)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.video.boxes import Box, Buffer, inside, unpack
from app.video.movie import Track

MOST: Final = (
    1 << 22
)  # samples of a file: sixteen hours of video with sound, and some hundred megabytes of memory

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Tables that say more of a sample than can be said here: whoever needs them gets the header as it is stored.
_SUBTLE: Final = frozenset((b"stps", b"stsh", b"padb", b"subs", b"stz2"))


class Unfit(Exception):
    """The tables say what cannot be said otherwise, or contradict themselves."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Where each sample lies, and when; ticks of the track's own clock, from the start of its media."""

    offsets: Integers
    sizes: Integers
    starts: Integers
    """When each is decoded, and behind them all when the last one ends."""
    shifts: Integers
    """How much later each is shown than decoded."""
    is_sync: Flags

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.sizes)

    @property
    def ends(self) -> Integers:
        """The offset behind each."""
        return self.offsets + self.sizes

    def shown(self) -> Integers:
        """When each is shown."""
        return self.starts[:-1] + self.shifts

    def later(self, ticks: int) -> Samples:
        """The same, shown so much later."""
        return replace(self, shifts=self.shifts + ticks)

    def first(self, count: int) -> Samples:
        """The first ones alone."""
        return Samples(
            self.offsets[:count],
            self.sizes[:count],
            self.starts[: count + 1],
            self.shifts[:count],
            self.is_sync[:count],
        )


@dataclass(frozen=True, slots=True)
class Edit:
    """What of the media is shown (8.6.6): after `delay_s`, from tick `start` until tick `stop`."""

    delay_s: Fraction
    start: int
    stop: int | None

    def later(self, ticks: int) -> Edit:
        """The same of media that are shown so much later."""
        return Edit(self.delay_s, self.start + ticks, None if self.stop is None else self.stop + ticks)


def of(track: Track) -> Samples:
    """The track's samples; raises Unfit."""
    stbl = track.sample_table
    if any(child.type in _SUBTLE for child in stbl.children) or _groups_seek_points(stbl):
        raise Unfit
    sizes = _sizes(stbl.only(b"stsz").payload)
    count = len(sizes)
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(_runs(stbl.only(b"stts").payload, count, ">u4"), out=starts[1:])
    late = stbl.all(b"ctts")
    shifts = _runs(late[0].payload, count, ">i4") if late else np.zeros(count, np.int64)
    return Samples(_offsets(stbl, track.table, sizes), sizes, starts, shifts, _sync(stbl, count))


def edit(trak: Box, movie_ticks_per_s: int, ticks_per_s: int) -> Edit:
    """The track's one edit, perhaps behind an empty one; raises Unfit for more."""
    lists = [child for edts in trak.all(b"edts") for child in inside(edts.payload) if child.type == b"elst"]
    entries = _edits(lists[0].payload) if lists else []
    delay = 0
    if len(entries) == 2 and entries[0][1] == -1:
        delay = entries[0][0]
        entries = entries[1:]
    if len(entries) > 1 or any(start < 0 or not length or rate != 1 << 16 for length, start, rate in entries):
        raise Unfit
    if not entries:
        return Edit(Fraction(0), 0, None)
    length, start, _ = entries[0]
    # The movie's clock is coarse: an edit of so many of its ticks may end anywhere in the last one.
    stop = start + -(-(length + 1) * ticks_per_s // movie_ticks_per_s)
    return Edit(Fraction(delay, movie_ticks_per_s), start, stop)


def _edits(payload: Buffer) -> list[tuple[int, int, int]]:
    """Duration in the movie's ticks, first tick of the media, and rate of each edit."""
    version, count = unpack("B", payload)[0], unpack("I", payload, 4)[0]
    if count > 2:
        raise Unfit
    layout, size = ("Qqi", 20) if version == 1 else ("Iii", 12)
    found = [unpack(layout, payload, 8 + size * number) for number in range(count)]
    return [(length, start, rate) for length, start, rate in found]


def _table(payload: Buffer, kind: str, columns: int = 1, offset: int = 8) -> NDArray[np.int64]:
    """The rows of a table whose count stands before them."""
    count = unpack("I", payload, offset - 4)[0]
    if count > MOST or offset + count * columns * int(kind[-1]) > len(payload):
        raise Unfit
    return np.frombuffer(payload, kind, count * columns, offset).astype(np.int64).reshape(count, columns)


def _sizes(payload: Buffer) -> Integers:
    size, count = unpack("II", payload, 4)
    if size:  # all alike, as pieces of uncompressed sound: there may be a hundred million of them
        if count > MOST:
            raise Unfit
        return np.full(count, size, np.int64)
    return _table(payload, ">u4", offset=12)[:, 0]


def _runs(payload: Buffer, count: int, kind: str) -> Integers:
    """Pairs of how often and what, written out for `count` samples."""
    often = _table(payload, ">u4", 2)[:, 0]
    what = _table(payload, kind, 2)[:, 1]
    if int(often.sum()) != count:
        raise Unfit
    return np.repeat(what, often)


def _sync(stbl: Box, count: int) -> Flags:
    """Where decoding may begin: everywhere without a table."""
    tables = stbl.all(b"stss")
    if not tables:
        return np.ones(count, np.bool_)
    numbers = _table(tables[0].payload, ">u4")[:, 0]
    if len(numbers) and not 1 <= int(numbers.min()) <= int(numbers.max()) <= count:
        raise Unfit
    found = np.zeros(count, np.bool_)
    found[numbers - 1] = True
    return found


def _groups_seek_points(stbl: Box) -> bool:
    """Whether groups of samples tell of more places to begin (8.9: 'rap ', 'sync')."""
    return any(bytes(child.payload[4:8]) in {b"rap ", b"sync"} for child in stbl.all(b"sbgp"))


def _offsets(stbl: Box, chunks: Box, sizes: Integers) -> Integers:
    """Samples lie in chunks, without gaps (8.7.4)."""
    begins = _table(chunks.payload, ">u8" if chunks.type == b"co64" else ">u4")[:, 0]
    runs = _table(stbl.only(b"stsc").payload, ">u4", 3)
    firsts = np.append(runs[:, 0], len(begins) + 1)
    chunks_each = np.diff(firsts)
    if not len(runs) or firsts[0] != 1 or (chunks_each <= 0).any() or (runs[:, 2] != 1).any():
        raise Unfit
    samples_each = np.repeat(runs[:, 1], chunks_each)
    if int(samples_each.sum()) != len(sizes) or not samples_each.all():
        raise Unfit
    before = np.cumsum(sizes) - sizes
    heads = np.cumsum(samples_each) - samples_each
    found: Integers = np.repeat(begins - before[heads], samples_each) + before
    return found
