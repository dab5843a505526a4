"""H.264 and HEVC of any container as MP4: packets copied once by a child (app/video/inside/remux.py), the header last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from fractions import Fraction
from typing import Final

from app.video import Unplayable, confined, faststart, probe
from app.video.boxes import MOVIE_BYTES
from app.video.confined import Ask, Limits, Task
from app.video.faststart import Plan
from app.video.inside import Reason
from app.video.probe import Samples

MPEG2: Final = (
    "The video's codec is MPEG-2, which no browser plays; as video/mpeg its stream can be had as it is."
)
_REASONS: Final = {
    Reason.NOTHING: "No video can be found in the stream.",
    Reason.MEMORY: "The video cannot be copied into an MP4 within bounded memory.",
    Reason.CODEC: "The video's codec is one that no browser plays.",
    Reason.MPEG2: MPEG2,
    Reason.PARAMETERS: "The video's stream does not tell how it is coded, so that no MP4 can be made of it.",
}
_SLOWEST: Final = 4 << 20  # bytes a second; real ones are a hundred times as fast
_BOX_HEADER: Final = 8


class Copy:
    """A stream on its way into an MP4: `pieces` are written one after the other; then `plan` tells the rest."""

    def __init__(
        self,
        read: Ask,
        length: int,
        demuxer: str,
        limits: Limits | None = None,
        pictures_per_s: Fraction | None = None,
    ) -> None:
        self.share = 0.0
        """How much of it was read."""
        self.plan: Plan | None = None
        self.samples: Samples | None = None
        """Where those of the stream lie, and what it is, found in passing."""
        self._read = read
        self._task = Task("remux", demuxer, length, _REASONS, pictures_per_s)
        self._limits = limits or Limits(cpu_s=30 + length // _SLOWEST, given_bytes=2 * length + MOVIE_BYTES)

    async def pieces(self) -> AsyncGenerator[memoryview]:
        """The bytes of the rendition's object, the header last. Raises Unplayable, or Unavailable.

        To be closed by who does not take them all: a child is at work.
        """
        written = 0
        async with confined.child(self._task, self._read, self._limits) as child:
            async for piece in child.pieces():
                written += len(piece)
                self.share = child.position / self._task.length
                yield memoryview(piece)
            if not 2 * _BOX_HEADER <= child.number < written:
                raise Unplayable(_REASONS[Reason.NOTHING])
            moov = memoryview(child.conclusion)[_BOX_HEADER:]
            self.plan = await asyncio.to_thread(faststart.behind, moov, child.number, written)
            yield memoryview(self.plan.header)
            self.samples = probe.samples(await child.index())
