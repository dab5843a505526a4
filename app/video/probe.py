"""What a video's stream is, told by a child (app/video/inside/probe.py): codec, size, rate, sound, and its samples' index."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from fractions import Fraction
from operator import index as as_index
from typing import Any, Final, NamedTuple

import orjson

from app.video import Unplayable, confined
from app.video.confined import Ask, Limits, Task
from app.video.inside import SAMPLE, Reason

_REASONS: Final = {
    Reason.NOTHING: "No video can be found in the stream.",
    Reason.MEMORY: "The video cannot be read within bounded memory.",
}
_SLOWEST: Final = 4 << 20  # bytes a second
_SMALLEST: Final = 8  # bytes of the container that a sample takes at least
_MOST_TOLD: Final = 64 << 10
_RATE: Final = re.compile("-?[0-9]{1,10}(?:/[0-9]{1,10})?")
_NUMBERS: Final = ("width", "height")
_COUNTED: Final = ("samples", "keyframes", "duration_s", "ticks_per_s")


class Samples(NamedTuple):
    """What is told of a stream's samples, and of the stream itself if that is known, and a record of each (inside.SAMPLE)."""

    told: dict[str, Any]
    records: memoryview


class Probe:
    """A stream that is looked at: `pieces` are the index of its samples; then `description` tells the rest."""

    def __init__(self, read: Ask, length: int, demuxer: str, limits: Limits | None = None) -> None:
        self.share = 0.0
        """How much of it was read."""
        self.description: dict[str, Any] = {}
        most = length // _SMALLEST * SAMPLE.size + _MOST_TOLD
        self._read = read
        self._task = Task("probe", demuxer, length, _REASONS)
        self._limits = limits or Limits(cpu_s=30 + length // _SLOWEST, given_bytes=most)

    async def pieces(self) -> AsyncGenerator[memoryview]:
        """The index's records. Raises Unplayable, or Unavailable; to be closed by who does not take them all."""
        async with confined.child(self._task, self._read, self._limits) as child:
            async for piece in child.pieces():
                self.share = child.position / self._task.length
                yield memoryview(piece)
        self.description = _believed(bytes(child.conclusion))


async def look(read: Ask, length: int, demuxer: str, limits: Limits = Limits()) -> dict[str, Any]:  # noqa: B008 - frozen
    """The description without an index, from the stream's beginning."""
    async with confined.child(Task("look", demuxer, length, _REASONS), read, limits) as child:
        async for _ in child.pieces():
            raise Unplayable(_REASONS[Reason.NOTHING])
    return _believed(bytes(child.conclusion))


def samples(index: memoryview) -> Samples | None:
    """What a child says that read the stream for something else; nothing where it says none, or nonsense."""
    line = bytes(index[:_MOST_TOLD]).partition(b"\n")[0]
    try:
        told = orjson.loads(line)
        counted = {name: told[name] + 0 for name in _COUNTED}
        is_described = "codec" in told
        found = Samples(_believed(line) if is_described else counted, index[len(line) + 1 :])
        is_whole = len(found.records) == SAMPLE.size * as_index(counted["samples"])
    except (orjson.JSONDecodeError, LookupError, TypeError, Unplayable):
        return None
    return found if is_whole else None


def rate(description: Mapping[str, Any]) -> Fraction | None:
    """Pictures a second."""
    told = description.get("rate")
    if not told:
        return None
    if not _RATE.fullmatch(told):  # what a fraction may be made of otherwise takes for ever: 1e999999999
        raise ValueError
    return Fraction(told)


def _believed(told: bytes) -> dict[str, Any]:
    """The child's own words, as far as they have the form that is expected of them."""
    try:
        found: dict[str, Any] = orjson.loads(told[:_MOST_TOLD])
        if not all(isinstance(found[name], int) for name in _NUMBERS) or not isinstance(found["codec"], str):
            raise Unplayable(_REASONS[Reason.NOTHING])
        rate(found)
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise Unplayable(_REASONS[Reason.NOTHING]) from error
    return found
