"""The virtual MP4 of a long video: a short header, an index, and the samples' tables in pieces (ISO/IEC 14496-12 8.8, 8.16.3).

A movie header names every sample before the first is shown: a kilobyte for each second. Here it names none.
Every few seconds of the stored media data stand behind a fragment of our own that names theirs, and a
segment index says where each fragment is, so that a player jumps there at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from struct import pack, pack_into
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app import woven
from app.video import samples
from app.video.boxes import Box, box, joined, unpack
from app.video.movie import Track
from app.video.samples import Edit, Integers, Samples, Unfit

_SEGMENT_S: Final = 2  # from one keyframe to another, at least
_ENDLESS: Final = 5  # without a keyframe for so many times that, a segment begins without one
_SEGMENTS: Final = 1 << 14  # 200 kB of index: longer videos have longer segments
_ROWS: Final = 1 << 20  # twelve megabytes that tell where what lies
_WIDEST: Final = 0xFFFFFFFF
_NARROW: Final = (1 << 31) - 1  # what a segment's size and a sample's place in it must not exceed

_SYNC: Final = 0x02000000  # sample flags (8.8.3.1): needs no other sample
_LATER: Final = 0x01010000  # needs others, and decoding cannot begin there
_OFFSET, _FIRST_FLAGS, _DURATION, _SIZE, _FLAGS, _SHIFT = 1, 4, 0x100, 0x200, 0x400, 0x800  # of a run (8.8.8)
_BASE_IS_MOOF: Final = 0x020000

Seconds = NDArray[np.float64]


class Media(Protocol):
    """Where the media data lie in the stream."""

    size: int

    def holds(self, begins: Integers, ends: Integers) -> bool:
        """Whether each of these ranges lies in one of its boxes."""
        ...


@dataclass(frozen=True, slots=True)
class Fragmented:
    """The bytes of our own, in order, and the rows that weave them with the stored stream's (app/woven.py)."""

    content: bytes
    rows: bytes
    length: int


def fragmented(
    brands: Box, moov: Box, tracks: list[Track], media: Media, behind: int | None = None
) -> Fragmented:
    """The whole file; raises Unfit where only the stored header says it all.

    The media data lie in the stored stream; or in the rendition's own object, where our bytes come `behind` them.
    """
    ticks_per_s = _clock(moov)
    if sum(track.samples for track in tracks) > samples.MOST:
        raise Unfit
    parts = [_Part(track, ticks_per_s) for track in tracks]
    if not all(media.holds(part.samples.offsets, part.samples.ends) for part in parts):
        raise Unfit
    lead = next(part for part in parts if part.track.is_video and part.samples.count)
    cuts = _cuts(lead)
    for part in parts:
        part.cut(cuts if part is lead else part.at(lead.seconds(cuts)))
    # Sound is little and is needed with the first picture: it comes first.
    heard_first = sorted(parts, key=lambda part: part.track.is_video)
    segments = [_segment(heard_first, number) for number in range(len(cuts) - 1)]
    head = joined([brands, _movie(moov, parts, ticks_per_s), *_indexes(parts, segments)])
    data = sum(segment.data for segment in segments)
    if data > media.size:
        raise Unfit
    content = b"".join([head, *(segment.own for segment in segments)])
    return Fragmented(content, _rows(len(head), segments, behind), len(content) + data)


def _clock(moov: Box) -> int:
    payload = moov.only(b"mvhd").payload
    found = unpack("I", payload, 20 if payload[:1] == b"\1" else 12)[0]
    if not found:
        raise Unfit
    return found


class _Part:
    """A track that is cut into segments, and its samples into runs that lie together."""

    def __init__(self, track: Track, movie_ticks_per_s: int) -> None:
        self.track = track
        header = track.box.only(b"tkhd").payload
        self.id = unpack("I", header, 20 if header[:1] == b"\1" else 12)[0]
        found = samples.of(track)
        # Where the stored times have pictures shown before they are decoded, an edit says it more plainly.
        late = max(-int(found.shifts.min(initial=0)), 0)
        self.edit = samples.edit(track.box, movie_ticks_per_s, track.ticks_per_s).later(late)
        self.samples = _edited(found.later(late), self.edit, is_video=track.is_video)
        self.duration = int(self.samples.starts[1] if self.samples.count else 0)  # that of most samples
        self.all_sync = bool(self.samples.is_sync.all())

    def seconds(self, cuts: Integers) -> Seconds:
        """When samples are decoded, on the clock of what is shown."""
        ticks = self.samples.starts[cuts] - self.edit.start
        return ticks / self.track.ticks_per_s + float(self.edit.delay_s)

    def shown(self) -> Integers:
        """When samples are shown, in ticks of what is shown: sound that only warms up a decoder comes before 0."""
        delay = int(self.edit.delay_s * self.track.ticks_per_s)
        return self.samples.shown() - self.edit.start + delay

    def at(self, seconds: Seconds) -> Integers:
        """The samples that begin at these times; the first and the last belong to the whole."""
        ticks = (seconds - float(self.edit.delay_s)) * self.track.ticks_per_s + self.edit.start
        found = np.searchsorted(self.samples.starts[:-1], ticks)
        found[0], found[-1] = 0, self.samples.count
        return found

    def cut(self, cuts: Integers) -> None:
        """Find the runs: each lies in one segment and in one piece."""
        self.cuts, found = cuts, self.samples
        breaks = np.zeros(found.count + 1, np.bool_)
        breaks[1:-1] = found.offsets[1:] != found.ends[:-1]
        breaks[cuts] = True
        self.run_starts = np.flatnonzero(breaks)
        self.run_cuts = np.searchsorted(self.run_starts, cuts)

    def runs(self, number: int) -> tuple[Integers, Integers]:
        """Where in the stream a segment's runs begin, and where they end."""
        first, last = self.run_cuts[number], self.run_cuts[number + 1]
        found = self.samples
        return found.offsets[self.run_starts[first:last]], found.ends[
            self.run_starts[first + 1 : last + 1] - 1
        ]


def _edited(found: Samples, edit: Edit, *, is_video: bool) -> Samples:
    """Without the sound that the edit cuts off its end; pictures are not cut here, nor begun late."""
    if not found.count or edit.stop is None:
        return found
    if is_video:
        shown = found.shown()
        if int(shown.min()) != edit.start or int(shown.max()) >= edit.stop:
            raise Unfit
        return found
    return found.first(int(np.searchsorted(found.starts[:-1], edit.stop)))


def _cuts(lead: _Part) -> Integers:
    """Where segments begin, and the end: at keyframes some seconds apart, as far as there are any."""
    found, clock = lead.samples, lead.track.ticks_per_s
    starts = found.starts
    least = max(_SEGMENT_S * clock, int(starts[-1]) // _SEGMENTS)
    keys = np.flatnonzero(found.is_sync)
    times = starts[keys]
    cuts = [0]
    while True:
        wanted = int(starts[cuts[-1]]) + least
        key = int(np.searchsorted(times, wanted))
        cut = int(keys[key]) if key < len(keys) else found.count
        cut = min(cut, int(np.searchsorted(starts[:-1], wanted + (_ENDLESS - 1) * least)))
        if cut >= found.count:
            return np.array([*cuts, found.count])
        cuts.append(cut)


@dataclass(frozen=True, slots=True)
class _Segment:
    """A fragment with the header of its media data, and where these lie: `data` bytes, run after run."""

    own: bytes
    begins: Integers
    lengths: Integers
    data: int


def _segment(parts: list[_Part], number: int) -> _Segment:
    """Each track's samples stand in one run, however they are stored: of more, FFmpeg's seeking makes a mess."""
    columns = [_columns(part, number) for part in parts]
    size = 8 + 16 + sum(_traf_size(column) for column in columns)
    trafs, place = list[bytes](), size + 8
    for part, column in zip(parts, columns, strict=True):
        trafs.append(_traf(part, number, column, place))
        place += int(part.samples.sizes[part.cuts[number] : part.cuts[number + 1]].sum())
    if place > _NARROW:
        raise Unfit
    moof = pack(">I4sI4sII", size, b"moof", 16, b"mfhd", 0, number + 1)
    mdat = pack(">I4s", place - size, b"mdat")
    begins, ends = (np.concatenate(side) for side in zip(*(part.runs(number) for part in parts), strict=True))
    return _Segment(b"".join([moof, *trafs, mdat]), begins, ends - begins, place - size - 8)


@dataclass(frozen=True, slots=True)
class _Columns:
    """What is said of each sample of a segment, and the flags that tell what that is (8.8.8)."""

    rows: NDArray[np.uint32]
    flags: int


def _columns(part: _Part, number: int) -> _Columns:
    chosen = slice(part.cuts[number], part.cuts[number + 1])
    durations, shifts = np.diff(part.samples.starts)[chosen], part.samples.shifts[chosen]
    sync, flags, columns = part.samples.is_sync[chosen], _OFFSET | _SIZE, [part.samples.sizes[chosen]]
    if (durations != part.duration).any():
        columns, flags = [durations, *columns], flags | _DURATION
    if not part.all_sync and sync[1:].any():
        columns, flags = [*columns, np.where(sync, _SYNC, _LATER)], flags | _FLAGS
    elif not part.all_sync and sync[:1].any():
        flags |= _FIRST_FLAGS
    if shifts.any():
        columns, flags = [*columns, shifts], flags | _SHIFT
    return _Columns(np.stack(columns, axis=1).astype(">u4"), flags)


def _traf_size(columns: _Columns) -> int:
    if not len(columns.rows):
        return 0
    return 8 + 16 + 20 + (24 if columns.flags & _FIRST_FLAGS else 20) + columns.rows.nbytes


def _traf(part: _Part, number: int, columns: _Columns, place: int) -> bytes:
    """A track's part of a fragment, whose data begin at this place behind the fragment's beginning."""
    size = _traf_size(columns)
    if not size:
        return b""
    start = int(part.samples.starts[part.cuts[number]])
    head = pack(">I4sI4sII", size, b"traf", 16, b"tfhd", _BASE_IS_MOOF, part.id)
    head += pack(">I4sIQ", 20, b"tfdt", 1 << 24, start)
    head += pack(">I4sIII", size - 44, b"trun", columns.flags, len(columns.rows), place)
    first = pack(">I", _SYNC) if columns.flags & _FIRST_FLAGS else b""
    return b"".join([head, first, columns.rows.tobytes()])


def _movie(moov: Box, parts: list[_Part], ticks_per_s: int) -> Box:
    """The movie header with tables that name no sample; the durations are those of the fragments."""
    length = max(_shown_s(part) for part in parts)
    extends = [box(b"mehd", pack(">IQ", 1 << 24, int(length * ticks_per_s)))]
    for part in parts:
        flags = _SYNC if part.all_sync else _LATER
        extends.append(box(b"trex", pack(">6I", 0, part.id, 1, part.duration, 0, flags)))
    traks = [_trak(part.track.box, _edits(part.edit, ticks_per_s)) for part in parts]
    return Box(b"moov", b"", [_timeless(moov.only(b"mvhd"), 16, 24), *traks, Box(b"mvex", b"", extends)])


def _shown_s(part: _Part) -> Fraction:
    last = int(part.samples.starts[-1]) - part.edit.start
    return part.edit.delay_s + Fraction(max(last, 0), part.track.ticks_per_s)


def _timeless(header: Box, narrow: int, wide: int) -> Box:
    """A header whose duration, at this offset in either version, is that of no sample."""
    payload = bytearray(header.payload)
    is_wide = payload[0] == 1
    unpack("Q" if is_wide else "I", payload, wide if is_wide else narrow)
    pack_into(">Q" if is_wide else ">I", payload, wide if is_wide else narrow, 0)
    return Box(header.type, payload)


def _trak(trak: Box, edits: list[Box]) -> Box:
    mdia = trak.only(b"mdia")
    minf = mdia.only(b"minf")
    stsd = minf.only(b"stbl").only(b"stsd")
    empty = [box(kind, bytes(8)) for kind in (b"stts", b"stsc", b"stco")]
    stbl = Box(b"stbl", b"", [stsd, *empty, box(b"stsz", bytes(12))])
    minf = Box(b"minf", b"", [*(child for child in minf.children if child.type != b"stbl"), stbl])
    media = [child for child in mdia.children if child.type not in {b"mdhd", b"minf"}]
    mdia = Box(b"mdia", b"", [_timeless(mdia.only(b"mdhd"), 16, 24), *media, minf])
    return Box(b"trak", b"", [_timeless(trak.only(b"tkhd"), 20, 28), *edits, mdia])


def _edits(edit: Edit, ticks_per_s: int) -> list[Box]:
    """The edits again; the last one lasts as long as there are fragments."""
    delay = [(int(edit.delay_s * ticks_per_s), -1)] if edit.delay_s else []
    if not delay and not edit.start:
        return []
    rows = [pack(">QqI", length, start, 1 << 16) for length, start in [*delay, (0, edit.start)]]
    return [box(b"edts", joined([box(b"elst", pack(">II", 1 << 24, len(rows)), *rows)]))]


def _indexes(parts: list[_Part], segments: list[_Segment]) -> list[Box]:
    """Where each segment begins, and when (8.16.3): once for each track, or players lose their way (FFmpeg's do)."""
    sizes = [len(segment.own) + segment.data for segment in segments]
    size = 8 + 32 + 12 * len(segments)
    behind = range(size * (len(parts) - 1), -1, -size)
    return [_index(part, sizes, first) for part, first in zip(parts, behind, strict=True)]


def _index(part: _Part, sizes: list[int], first: int) -> Box:
    cuts = part.cuts
    if (np.diff(cuts) <= 0).any():
        raise Unfit
    shown = np.maximum(part.shown(), 0)
    begins = np.minimum.reduceat(shown, cuts[:-1])
    lengths = np.diff(np.append(begins, int((shown + np.diff(part.samples.starts)).max())))
    if (lengths <= 0).any() or (lengths > _WIDEST).any():
        raise Unfit
    kinds = part.samples.is_sync[cuts[:-1]] * (1 + 2 * (shown[cuts[:-1]] > begins))
    rows = np.empty((len(sizes), 3), ">u4")
    rows[:, 0], rows[:, 1] = sizes, lengths
    rows[:, 2] = (kinds > 0) * (1 << 31) + (kinds << 28)
    head = pack(">IIIQQHH", 1 << 24, part.id, part.track.ticks_per_s, int(begins[0]), first, 0, len(sizes))
    return box(b"sidx", head, rows.tobytes())


def _rows(head: int, segments: list[_Segment], behind: int | None) -> bytes:
    """Our bytes and the stream's in turn; the head stands together with the first fragment."""
    owns = np.array([len(segment.own) for segment in segments], np.int64)
    owns[0] += head
    counts = np.array([len(segment.begins) for segment in segments], np.int64)
    at = np.cumsum(1 + counts) - counts - 1
    lengths = np.empty(int(at[-1] + counts[-1] + 1), np.int64)
    offsets, is_stream = np.empty_like(lengths), np.ones(len(lengths), np.bool_)
    lengths[at], offsets[at], is_stream[at] = owns, np.cumsum(owns) - owns + (behind or 0), False
    lengths[is_stream] = np.concatenate([segment.lengths for segment in segments])
    offsets[is_stream] = np.concatenate([segment.begins for segment in segments])
    if len(lengths) > _ROWS:
        raise Unfit
    return woven.packed(lengths, offsets, is_stream & (behind is None))
