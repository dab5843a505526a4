"""How fast a stream that keeps no time is shown, by what its data set tells (PS3.3 C.7.6.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_GUESS: Final = Fraction(25)  # what players take for a stream that tells nothing
_NEAR: Final = Fraction(3, 2000)  # 33.33 ms mean 30 pictures a second, 33.37 ms 30000/1001
_SHORTEST_MS: Final = 1
_LONGEST_MS: Final = 60_000
_EVEN_MS: Final = 1.0  # a vector of whole milliseconds: 33, 33, 34
_TICKS_PER_S: Final = 10_000  # at least
_TICKS_OF_VECTOR: Final = 90_000

_FRAME_TIME, _FRAME_TIME_VECTOR, _CINE_RATE, _DISPLAY_RATE = "00181063", "00181065", "00180040", "00082144"

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pace:
    """What the data set tells: pictures a second, or the milliseconds from each picture to the next."""

    rate: Fraction | None = None
    increments_ms: tuple[float, ...] = ()

    def times(self, count: int, rate_of_stream: Fraction | None) -> tuple[int, Times]:
        """Ticks a second, and when each of `count` pictures is shown and the last one ends, in ticks."""
        if self.rate is None and len(self.increments_ms) == count > 1:
            return _TICKS_OF_VECTOR, self._irregular()
        rate = snapped(self.rate or rate_of_stream or _GUESS)
        more = -(-_TICKS_PER_S // rate.numerator)
        return rate.numerator * more, np.arange(count + 1, dtype=np.int64) * (rate.denominator * more)

    def _irregular(self) -> Times:
        increments = np.array([*self.increments_ms, self.increments_ms[-1]], np.float64)
        increments[0] = 0
        return np.rint(np.cumsum(increments) * (_TICKS_OF_VECTOR / 1000)).astype(np.int64)


def told(dataset: Mapping[str, Any]) -> Pace:
    """By the DICOM JSON of a data set: Frame Time, Frame Time Vector, Cine Rate, Recommended Display Frame Rate."""
    frame_time = _numbers(dataset, _FRAME_TIME)[:1]
    if _possible(frame_time):
        return Pace(1000 / Fraction(frame_time[0]))
    steps = _numbers(dataset, _FRAME_TIME_VECTOR)[1:]  # the first one says nothing (C.7.6.5.1.2)
    if _possible(steps):
        if max(steps) - min(steps) > _EVEN_MS:
            return Pace(None, (0.0, *steps))
        return Pace(1000 * len(steps) / Fraction(sum(steps)))
    for tag in (_CINE_RATE, _DISPLAY_RATE):
        rates = _numbers(dataset, tag)[:1]
        if rates and _possible([1000 / rates[0]] if rates[0] else []):
            return Pace(Fraction(rates[0]))
    return Pace()


def _numbers(dataset: Mapping[str, Any], tag: str) -> list[float]:
    """The finite numbers of an element; what is none ends them."""
    found = list[float]()
    for value in dataset.get(tag, {}).get("Value", ()):
        if not isinstance(value, int | float) or not isfinite(value):
            break
        found.append(float(value))
    return found


def _possible(steps_ms: list[float]) -> bool:
    """Whether pictures can follow each other so."""
    return bool(steps_ms) and all(_SHORTEST_MS <= step <= _LONGEST_MS for step in steps_ms)


def snapped(rate: Fraction) -> Fraction:
    """The rate that was meant: a whole one, or one of television's, which lie a thousandth below."""
    whole = Fraction(round(rate))
    near = min((whole, whole * 1000 / 1001), key=lambda one: abs(one - rate))
    if near and abs(near - rate) <= _NEAR * rate:
        return near
    return max(rate.limit_denominator(1001), Fraction(1, 60))
