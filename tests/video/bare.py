"""Bare H.264 and HEVC streams as encoders write them, taken apart and put together as none does, and their MP4."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from itertools import cycle
from pathlib import Path

import av

from app import units
from app.extent import Extent, Extents, joined
from app.storage import keys
from app.storage.local import LocalStorage
from app.storage.protocol import Storage, put
from app.storage.stream import read_all
from app.video import annexb
from app.video.faststart import LONG
from app.video.pace import Pace
from app.woven import Woven
from tests.make_video import Clip, _picture

FPS = 25
PACE = Pace(Fraction(FPS))
X264 = "scenecut=0:threads=1:slices=1"
X265 = "pools=none:frame-threads=1:log-level=none:scenecut=0"


@cache
def encoded(codec: str, params: str = "", frames: int = 24, rate: Fraction = Fraction(FPS)) -> bytes:
    """Moving pictures, as libx264 or libx265 writes them behind start codes."""
    h264, buffer = codec == "h264", io.BytesIO()
    clip = Clip(codec, width=192, height=128)
    with av.open(buffer, "w", format=codec) as target:
        name, own, usual = ("libx264", "x264-params", X264) if h264 else ("libx265", "x265-params", X265)
        told = {"preset": "medium" if h264 else "ultrafast", own: f"{usual}:{params}".rstrip(":")}
        video = target.add_stream(name, rate=rate, options=told)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = clip.width, clip.height, "yuv420p"
        video.bit_rate, video.gop_size, video.thread_count = 300_000, 8, 1
        video.time_base = 1 / rate
        for number in range(frames):
            target.mux(video.encode(_picture(clip, number)))
        target.mux(video.encode(None))
    return buffer.getvalue()


def nals(stream: bytes) -> list[bytes]:
    """The NAL units, without the zeros between them."""
    return [unit.rstrip(b"\0") for unit in re.split(b"\0\0\1", stream)[1:]]


def stream(found: Iterable[bytes], zeros: Iterable[int] = (1,), end: int = 0) -> bytes:
    """Units behind start codes with so many zeros before each, in turn, and at the end."""
    return b"".join(bytes(more) + b"\0\0\1" + unit for unit, more in zip(found, cycle(zeros))) + bytes(end)


def kind(codec: str, unit: bytes) -> int:
    return unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63


def is_set(codec: str, unit: bytes) -> bool:
    """Whether it is a parameter set."""
    return kind(codec, unit) in ({7, 8} if codec == "h264" else {32, 33, 34})


def media(codec: str, source: bytes) -> bytes:
    """What has to be served of a stream: all units but the parameter sets, behind their lengths."""
    kept = (unit for unit in nals(source) if unit and not is_set(codec, unit))
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in kept)


@dataclass(frozen=True)
class Served:
    """A plan over a storage, as a server answers it."""

    storage: Storage
    extents: Extents
    plan: annexb.Plan

    async def range(self, start: int, stop: int) -> bytes:
        return await read_all(self.storage, self.extents.slice(start, stop))

    async def whole(self) -> bytes:
        return await self.range(0, self.extents.length)


@asynccontextmanager
async def served(
    folder: Path, source: bytes, pace: Pace = PACE, fragment: int = 1 << 30, longest: int = LONG
) -> AsyncIterator[Served]:
    """The stream as an object of fragments with something between them, indexed, and read through a storage."""
    plan = await annexb.plan(pieces(source), pace, longest)
    async with LocalStorage(folder) as storage:
        yield await laid_out(storage, source, plan, fragment)


async def laid_out(
    storage: Storage, source: bytes, plan: annexb.Plan, fragment: int = 1 << 30, item: int = 8
) -> Served:
    """The plan's file over this storage."""
    parts = [source[start : start + fragment] for start in range(0, len(source), fragment)]
    stored = await put(storage, keys.new(), b"".join(b"\xee" * item + part for part in parts))
    places = (
        Extent(stored.key, number * (fragment + item) + item, len(part)) for number, part in enumerate(parts)
    )
    own = await put(storage, keys.rendition(), b"".join([plan.file.header, *plan.table]))
    made = Extents([Extent(own.key, 0, own.size)])
    table, *layout = plan.layout
    read = partial(read_all, storage)
    opened = await units.opened(read, made.slice(table.offset, table.offset + table.length), Extents(places))
    sources = {"rendition": made, "stream": opened}
    if layout[0].source == "spans":
        rows = await read(made.slice(layout[0].offset, layout[0].offset + layout[0].length))
        return Served(storage, Woven(rows, sources), plan)
    extents = joined(sources[span.source].slice(span.offset, span.offset + span.length) for span in layout)
    return Served(storage, extents, plan)


async def pieces(source: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(source), size):
        yield source[start : start + size]


def pictures(source: bytes, form: str) -> list[str]:
    """A digest of each picture, as it is shown."""
    return [digest for _, digest in timed(source, form)]


def timed(source: bytes, form: str) -> list[tuple[float | None, str]]:
    """When each picture is shown, and its digest."""
    with av.open(io.BytesIO(source), "r", format=form) as file:
        return [
            (frame.time, hashlib.md5(frame.to_ndarray().tobytes()).hexdigest())
            for frame in file.decode(video=0)
        ]


def keyframes(source: bytes, form: str) -> list[bool]:
    """Which packets a player can begin with, by FFmpeg."""
    with av.open(io.BytesIO(source), "r", format=form) as file:
        return [packet.is_keyframe for packet in file.demux(video=0) if packet.size]
