"""The virtual faststart MP4: a header of our own, then the stored media data as it lies (ISO/IEC 14496-12).

Nothing is copied. The movie header, wherever the camera wrote it, goes to the front with its chunk
offsets moved; behind it come the `mdat` boxes as ranges of the stored stream. Other boxes stay behind.
A header that would take long to arrive is laid out between the media data instead (fragments.py).
"""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from struct import pack
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.extent import Span
from app.video import Unplayable, fragments, movie
from app.video.boxes import (
    MOVIE_BYTES,
    Box,
    Buffer,
    Read,
    Region,
    Window,
    box,
    damaged,
    joined,
    regions,
    unpack,
)
from app.video.movie import Track
from app.video.samples import Integers, Unfit

LONG: Final = 512 << 10  # half a second at a megabyte a second, and eight minutes with sound
_NARROW: Final = 0xFFFFFFFF  # the last offset that a table of 32 bits can name
_LARGE: Final = 16  # bytes of the header of a box whose size has 64 bits
_BLOCK: Final = 1 << 16  # offsets moved at a time, so that hostile tables cost no more memory than they are

Offsets = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Plan:
    """A rendition: the bytes of its own object, the layout of the whole file, its length and its media type."""

    header: bytes = field(repr=False)  # megabytes: asyncio and logs like to print what a task returns
    layout: tuple[Span, ...]
    length: int
    media_type: str


async def plan(read: Read, length: int, longest: int = LONG) -> Plan:
    """How the unpadded stream of `length` bytes is served as MP4; `read(offset, length)` gives its bytes.

    Reads the headers of the outer boxes and the movie header, nothing else. A header above `longest` bytes
    is laid out in fragments where it can be. Raises Unplayable.
    """
    header, found = await _read(read, length)
    media = Media([region for region in found if region.type == b"mdat"])
    return await to_thread(planned, header, media, longest)


async def movie_header(read: Read, length: int) -> Buffer:
    """What the movie header of the unpadded stream holds; raises Unplayable."""
    return (await _read(read, length))[0]


async def _read(read: Read, length: int) -> tuple[Buffer, list[Region]]:
    """The content of the movie header, and where the outer boxes lie."""
    window = Window(read, length)
    found = await regions(window)
    if any(region.type == b"moov" and region.size > MOVIE_BYTES for region in found):
        raise Unplayable(f"The video's movie header is larger than {MOVIE_BYTES >> 20} MiB.")
    headers = [region for region in found if region.type == b"moov"]
    if len(headers) != 1:
        raise Unplayable(
            "The video's MP4 has no movie header." if not headers else "The video's MP4 has two headers."
        )
    whole = await window.at(headers[0].offset, headers[0].size)
    return whole[headers[0].header :], found


def behind(movie_header: Buffer, start: int, stop: int, longest: int = LONG) -> Plan:
    """How an object is served that holds media data from `start` to `stop`; there the plan's header is to be appended.

    The header of the `mdat` box is ours as well: who wrote the media data need not know their size before.
    """
    moov, tracks = movie.tracks(movie_header)
    media = Media([Region(b"mdat", start - _LARGE, _LARGE, stop - start + _LARGE)])
    widths, length = _widths(moov, tracks, media)
    if length > longest:
        with suppress(Unfit):
            return _fragmented(moov, tracks, media, stop)
    header = _header(moov, tracks, media, widths, length)
    header += pack(">I4sQ", 1, b"mdat", stop - start + _LARGE)
    layout = (Span("rendition", stop, len(header)), Span("rendition", start, stop - start))
    return Plan(header, layout, len(header) + stop - start, _media_type(tracks))


def planned(movie_header: Buffer, media: Media, longest: int = LONG) -> Plan:
    """The header as it is stored; in fragments where it is so long that a viewer would wait for it."""
    moov, tracks = movie.tracks(movie_header)
    widths, length = _widths(moov, tracks, media)
    if length > longest:
        with suppress(Unfit):
            return _fragmented(moov, tracks, media)
    header = _header(moov, tracks, media, widths, length)
    return Plan(
        header, (Span("rendition", 0, length), *media.spans), length + media.size, _media_type(tracks)
    )


def _fragmented(moov: Box, tracks: list[Track], media: Media, behind: int | None = None) -> Plan:
    made = fragments.fragmented(_brands(tracks), moov, tracks, media, behind)
    layout = (Span("spans", (behind or 0) + len(made.content), len(made.rows)),)
    return Plan(made.content + made.rows, layout, made.length, _media_type(tracks))


class Media:
    """The boxes of media data: where they lie in the stream and, one after the other, behind the header."""

    def __init__(self, found: list[Region]) -> None:
        if not found:
            raise Unplayable("The video's MP4 holds no pictures.")
        befores = accumulate((region.size for region in found[:-1]), initial=0)
        self.starts = np.array([region.offset + region.header for region in found], np.uint64)
        self.ends = np.array([region.end for region in found], np.uint64)
        self.lost = np.array(
            [region.offset - before for region, before in zip(found, befores, strict=True)], np.uint64
        )
        self.spans = tuple(_touching(found))
        self.size = sum(region.size for region in found)

    def holds(self, begins: Integers, ends: Integers) -> bool:
        """Whether each of these ranges lies in one box."""
        starts = self.starts.astype(np.int64)
        after = np.searchsorted(starts, begins, side="right")
        return bool(after.all() and (ends <= self.ends.astype(np.int64)[after - 1]).all())

    def moved(self, offsets: Offsets) -> Offsets:
        """The same bytes' offsets, counted from the end of the header."""
        after = np.searchsorted(self.starts, offsets, side="right")
        if not after.all() or (offsets > self.ends[after - 1]).any():
            raise damaged("a chunk lies outside the media data")
        return offsets - self.lost[after - 1]


def _touching(found: list[Region]) -> Iterator[Span]:
    """Spans of boxes, those that touch as one."""
    start, end = found[0].offset, found[0].offset
    for region in found:
        if region.offset != end:
            yield Span("stream", start, end - start)
            start = region.offset
        end = region.end
    yield Span("stream", start, end - start)


def _widths(moov: Box, tracks: list[Track], media: Media) -> tuple[list[int], int]:
    """Bytes of the offsets in each track's table, and of the header, whose own length moves what they name."""
    counts = [_count(track.table) for track in tracks]
    lasts = [_last(track.table, media) for track in tracks]
    fixed = _brands(tracks).size + moov.size - sum(track.table.size for track in tracks)
    widths, before = [4] * len(tracks), [0] * len(tracks)
    length = 0
    while widths != before:  # a wider table moves everything, which may widen another
        before = widths
        length = fixed + sum(16 + count * width for count, width in zip(counts, widths, strict=True))
        widths = [8 if last + length > _NARROW else 4 for last in lasts]
    return widths, length


def _header(moov: Box, tracks: list[Track], media: Media, widths: list[int], length: int) -> bytes:
    """The file type and the movie header, its tables moved."""
    if length > MOVIE_BYTES:
        raise Unplayable(f"The video's movie header is larger than {MOVIE_BYTES >> 20} MiB.")
    for track, width in zip(tracks, widths, strict=True):
        _move(track.table, width, media, length)
    return joined([_brands(tracks), moov])


def _brands(tracks: list[Track]) -> Box:
    """ISO brands for all: QuickTime's file type is not MP4, and old files have none."""
    brands = b"isomiso2avc1mp41" if any(track.codec.name == "H.264" for track in tracks) else b"isomiso2mp41"
    return box(b"ftyp", b"isom", pack(">I", 512), brands)


def _count(table: Box) -> int:
    count, width = unpack("I", table.payload, 4)[0], 8 if table.type == b"co64" else 4
    if 8 + count * width > len(table.payload):
        raise damaged("a table is longer than its box")
    return count


def _blocks(table: Box) -> Iterator[tuple[int, Offsets]]:
    kind, width = (">u8", 8) if table.type == b"co64" else (">u4", 4)
    count = _count(table)
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        yield start, np.frombuffer(table.payload, kind, size, 8 + start * width).astype(np.uint64)


def _last(table: Box, media: Media) -> int:
    """The highest offset of the table, counted from the end of the header; every one of them is checked."""
    return max((int(media.moved(block).max()) for _, block in _blocks(table)), default=0)


def _move(table: Box, width: int, media: Media, length: int) -> None:
    """Writes the table anew, for a header of `length` bytes."""
    count = _count(table)
    payload = bytearray(8 + count * width)
    payload[4:8] = pack(">I", count)
    moved = np.frombuffer(payload, f">u{width}", count, 8)
    for start, block in _blocks(table):
        moved[start : start + len(block)] = media.moved(block) + np.uint64(length)
    table.payload = payload
    table.type = b"co64" if width == 8 else b"stco"


def _media_type(tracks: list[Track]) -> str:
    """H.264 plays everywhere and needs no codecs; HEVC says what it is (behaviour: HTTP cannot ask)."""
    video = next(track for track in tracks if track.is_video)
    if video.codec.name == "H.264":
        return "video/mp4"
    sound = [track.codec.parameter for track in tracks if not track.is_video and track.codec.parameter]
    return f'video/mp4; codecs="{", ".join([video.codec.parameter, *sound[:1]])}"'
