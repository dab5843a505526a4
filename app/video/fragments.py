"""The virtual MP4 of a long video: a short header, an index, and the samples' tables in pieces (ISO/IEC 14496-12 8.8, 8.16.3).

A movie header names every sample before the first is shown: a kilobyte for each second. Here it names none.
Every few seconds of the stored media data stand behind a fragment of our own that names theirs, and a
segment index says where each fragment is, so that a player jumps there at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from struct import pack, pack_into
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app.extent import Span
from app.video import samples
from app.video.boxes import Box, box, joined, unpack
from app.video.movie import Track
from app.video.samples import Edit, Flags, Integers, Samples, Unfit

_SEGMENT_S: Final = 4  # from one keyframe to another, at least
_ENDLESS: Final = 4  # without a keyframe for so many times that, a segment begins without one
_SEGMENTS: Final = 1 << 14  # 200 kB of index: longer videos have longer segments
_SPANS: Final = 1 << 17
_NARROW: Final = (1 << 31) - 1  # what a segment's size and a sample's place in it must not exceed

_SYNC: Final = 0x02000000  # sample flags (8.8.3.1): needs no other sample
_LATER: Final = 0x01010000  # needs others, and decoding cannot begin there
_OFFSET, _FIRST_FLAGS, _DURATION, _SIZE, _SHIFT = 1, 4, 0x100, 0x200, 0x800  # of a run (8.8.8)
_BASE_IS_MOOF: Final = 0x020000
_TRUN: Final = int.from_bytes(b"trun", "big")

Seconds = NDArray[np.float64]
Run = tuple[Integers, Integers, Integers, Flags]
Segment = tuple[bytes, Sequence[Span]]


class Media(Protocol):
    """Where the media data lie in the stream."""

    size: int

    def holds(self, begins: Integers, ends: Integers) -> bool:
        """Whether each of these ranges lies in one of its boxes."""
        ...


@dataclass(frozen=True, slots=True)
class Fragmented:
    """The bytes of our own, in order, and how they alternate with the stored stream's."""

    content: bytes
    layout: tuple[Span, ...]


def fragmented(brands: Box, moov: Box, tracks: list[Track], media: Media) -> Fragmented:
    """The whole file; raises Unfit where only the stored header says it all."""
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
    segments = [_segment(parts, number) for number in range(len(cuts) - 1)]
    head = joined([brands, _movie(moov, parts, ticks_per_s), _index(lead, segments)])
    layout = tuple(_layout(len(head), segments))
    stream = [span.length for span in layout if span.source == "stream"]
    if len(layout) > _SPANS or sum(stream) > media.size:
        raise Unfit
    return Fragmented(b"".join([head, *(own for own, _ in segments)]), layout)


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
        self.edit = samples.edit(track.box, movie_ticks_per_s, track.ticks_per_s)
        self.samples = _edited(samples.of(track), self.edit, is_video=track.is_video)
        self.duration = int(self.samples.starts[1] if self.samples.count else 0)  # that of most samples
        self.all_sync = bool(self.samples.is_sync.all())

    def seconds(self, cuts: Integers) -> Seconds:
        """When samples are decoded, on the clock of what is shown."""
        ticks = self.samples.starts[cuts] - self.edit.start
        return ticks / self.track.ticks_per_s + float(self.edit.delay_s)

    def at(self, seconds: Seconds) -> Integers:
        """The samples that begin at these times; the first and the last belong to the whole."""
        ticks = (seconds - float(self.edit.delay_s)) * self.track.ticks_per_s + self.edit.start
        found = np.searchsorted(self.samples.starts[:-1], ticks)
        found[0], found[-1] = 0, self.samples.count
        return found

    def cut(self, cuts: Integers) -> None:
        """Find the runs: each lies in one segment, in one piece, and only its first sample may be a keyframe."""
        self.cuts, found = cuts, self.samples
        breaks = np.zeros(found.count + 1, np.bool_)
        breaks[1:-1] = found.offsets[1:] != found.ends[:-1]
        if not self.all_sync:
            breaks[:-1] |= found.is_sync
        breaks[cuts] = True
        breaks[[0, -1]] = True
        edges = np.flatnonzero(breaks)
        self.run_starts, self.run_counts = edges[:-1], np.diff(edges)
        self.run_cuts = np.searchsorted(self.run_starts, cuts)

    def runs(self, number: int) -> Run:
        """Of a segment's runs: where they begin and end in the stream, how many samples, and which need no other."""
        chosen = slice(self.run_cuts[number], self.run_cuts[number + 1])
        first, count = self.run_starts[chosen], self.run_counts[chosen]
        last = first + count - 1
        found = self.samples
        return found.offsets[first], found.ends[last], count, found.is_sync[first]


def _edited(found: Samples, edit: Edit, *, is_video: bool) -> Samples:
    """Without the sound that the edit cuts off its end; pictures are not cut here."""
    if not found.count:
        return found
    shown = found.shown()
    if is_video:
        if int(shown.min()) < edit.start or (edit.stop is not None and int(shown.max()) >= edit.stop):
            raise Unfit
        return found
    return found if edit.stop is None else found.first(int(np.searchsorted(found.starts[:-1], edit.stop)))


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


def _segment(parts: list[_Part], number: int) -> Segment:
    """A fragment with the header of its media data, and where in the stream these lie."""
    runs = [part.runs(number) for part in parts]
    begins, ends = (np.concatenate([run[which] for run in runs]) for which in (0, 1))
    spans, places = _gathered(begins, ends)
    sizes = [_traf_size(part, number, run) for part, run in zip(parts, runs, strict=True)]
    size = 8 + 16 + sum(sizes)
    total = sum(span.length for span in spans)
    if size + 8 + total > _NARROW:
        raise Unfit
    places += size + 8
    out = [pack(">I4sI4sII", size, b"moof", 16, b"mfhd", 0, number + 1)]
    for part, run, traf in zip(parts, runs, sizes, strict=True):
        if traf:
            here, places = np.split(places, [len(run[0])])
            out.append(_traf(part, number, run, here, traf))
    return b"".join([*out, pack(">I4s", 8 + total, b"mdat")]), spans


def _gathered(begins: Integers, ends: Integers) -> tuple[list[Span], Integers]:
    """The bytes of these runs in the order of the stream, those that touch as one; where each run comes to lie."""
    order = np.argsort(begins, kind="stable")
    begins_sorted, reach = begins[order], np.maximum.accumulate(ends[order])
    if not len(order):
        raise Unfit
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = begins_sorted[1:] > reach[:-1]
    heads = np.flatnonzero(fresh)
    starts, stops = begins_sorted[heads], reach[np.append(heads[1:], len(order)) - 1]
    lengths = stops - starts
    moves = (np.cumsum(lengths) - lengths) - starts
    places = np.empty(len(order), np.int64)
    places[order] = begins_sorted + moves[np.cumsum(fresh) - 1]
    spans = [
        Span("stream", int(start), int(length))
        for start, length in zip(starts, lengths, strict=True)
        if length
    ]
    return spans, places


def _columns(part: _Part, number: int) -> tuple[list[Integers], int]:
    """What is said of each sample of a segment, and the flags that tell so (8.8.8)."""
    chosen = slice(part.cuts[number], part.cuts[number + 1])
    durations = np.diff(part.samples.starts[chosen.start : chosen.stop + 1])
    shifts = part.samples.shifts[chosen]
    columns, flags = [part.samples.sizes[chosen]], _OFFSET | _SIZE
    if (durations != part.duration).any():
        columns, flags = [durations, *columns], flags | _DURATION
    if shifts.any():
        columns, flags = [*columns, shifts], flags | _SHIFT
    return columns, flags


def _traf_size(part: _Part, number: int, run: Run) -> int:
    count = int(part.cuts[number + 1] - part.cuts[number])
    if not count:
        return 0
    columns = len(_columns(part, number)[0])
    return 8 + 16 + 20 + 4 * (5 * len(run[0]) + (0 if part.all_sync else int(run[3].sum())) + count * columns)


def _traf(part: _Part, number: int, run: Run, places: Integers, size: int) -> bytes:
    """A track's part of a fragment: all numbers have 32 bits, which are laid out at once."""
    columns, flags = _columns(part, number)
    _, _, counts, firsts = run
    firsts = firsts & (not part.all_sync)
    heads = 5 + firsts
    lengths = heads + counts * len(columns)
    at = np.cumsum(lengths) - lengths
    version = 1 << 24 if flags & _SHIFT and (columns[-1] < 0).any() else 0
    words = np.zeros(int(lengths.sum()), ">u4")
    words[at], words[at + 1] = 4 * lengths, _TRUN
    words[at + 2] = version | flags | _FIRST_FLAGS * firsts
    words[at + 3], words[at + 4] = counts, places
    words[at[firsts] + 5] = _SYNC
    begins = np.repeat(at + heads - (np.cumsum(counts) - counts) * len(columns), counts)
    begins += np.arange(len(begins)) * len(columns)
    for number_of, column in enumerate(columns):
        words[begins + number_of] = column & 0xFFFFFFFF
    start = int(part.samples.starts[part.cuts[number]])
    head = pack(">I4sI4sII", size, b"traf", 16, b"tfhd", _BASE_IS_MOOF, part.id)
    return head + pack(">I4sIQ", 20, b"tfdt", 1 << 24, start) + words.tobytes()


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


def _index(lead: _Part, segments: list[Segment]) -> Box:
    """Where each segment begins, and when (8.16.3)."""
    shown = lead.samples.shown()
    firsts = np.minimum.reduceat(shown, lead.cuts[:-1])
    ends = np.append(firsts[1:], int((shown + np.diff(lead.samples.starts)).max()))
    lengths = ends - firsts
    if (lengths <= 0).any() or (lengths > 0xFFFFFFFF).any() or int(firsts[0]) < 0:
        raise Unfit
    kinds = lead.samples.is_sync[lead.cuts[:-1]] * (1 + 2 * (shown[lead.cuts[:-1]] > firsts))
    rows = np.empty((len(segments), 3), ">u4")
    rows[:, 0] = [len(own) + sum(span.length for span in spans) for own, spans in segments]
    rows[:, 1] = lengths
    rows[:, 2] = (kinds > 0) * (1 << 31) + (kinds << 28)
    head = pack(">IIIQQHH", 1 << 24, lead.id, lead.track.ticks_per_s, int(firsts[0]), 0, 0, len(segments))
    return box(b"sidx", head, rows.tobytes())


def _layout(head: int, segments: list[Segment]) -> Iterator[Span]:
    """Our bytes and the stream's in turn; the head stands together with the first fragment."""
    began, end = 0, head
    for own, spans in segments:
        end += len(own)
        yield Span("rendition", began, end - began)
        yield from spans
        began = end
