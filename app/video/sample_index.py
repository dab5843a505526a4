"""The index of a plain MP4's samples out of the tables of its movie header: no media data are read (ISO/IEC 14496-12 8.6)."""

from __future__ import annotations

from asyncio import to_thread
from typing import Any, Final

import numpy as np

from app.video import faststart, movie, samples
from app.video.boxes import Buffer, Read
from app.video.inside import KEYFRAME, TICKS_PER_S
from app.video.samples import Integers

_ROW: Final = np.dtype(
    [("offset", "<u8"), ("size", "<u4"), ("shown", "<u4"), ("early", "<u4")]
)  # inside.SAMPLE
_WIDEST: Final = 0xFFFFFFFF


async def of(read: Read, length: int) -> tuple[dict[str, Any], bytes]:
    """What is told of the samples, and a record of each, as app/video/inside/probe.py does; raises Unplayable or Unfit."""
    header = await faststart.movie_header(read, length)
    return await to_thread(_rows, header)


def _rows(movie_header: Buffer) -> tuple[dict[str, Any], bytes]:
    _, tracks = movie.tracks(movie_header)
    track = next(track for track in tracks if track.is_video and track.samples)
    found = samples.of(track)
    clock = min(track.ticks_per_s, TICKS_PER_S)
    shown = found.shown()
    first = int(shown.min())
    rows = np.empty(found.count, _ROW)
    rows["offset"] = found.offsets.astype(np.uint64) | np.where(
        found.is_sync, np.uint64(KEYFRAME), np.uint64(0)
    )
    rows["size"] = found.sizes
    rows["shown"] = _scaled(shown - first, track.ticks_per_s, clock)
    rows["early"] = _scaled(found.shifts, track.ticks_per_s, clock)
    ends = shown + np.diff(found.starts)
    told = {
        "samples": found.count,
        "keyframes": int(found.is_sync.sum()),
        "duration_s": (int(ends.max()) - first) / track.ticks_per_s,
        "ticks_per_s": clock,
    }
    return told, rows.tobytes()


def _scaled(ticks: Integers, ticks_per_s: int, clock: int) -> Integers:
    scaled = ticks if clock == ticks_per_s else np.rint(ticks * (clock / ticks_per_s)).astype(np.int64)
    return np.clip(scaled, 0, _WIDEST)
