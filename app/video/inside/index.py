"""Where and when each sample of a stream lies, in records of fixed width (app/video/inside)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from app.video.inside import INDEX, KEYFRAME, MOST_GIVEN, SAMPLE, TICKS_PER_S
from app.video.inside.stream import Stream, tell

if TYPE_CHECKING:
    import av

FIRST: Final = 64  # packets in which a picture is decoded
_WIDEST: Final = 0xFFFFFFFF
_UNKNOWN: Final = (1 << 63) - 1


class Index:
    """Records of the video's packets, in the order in which they come, with the times that they are given."""

    def __init__(self, stream: Stream, video: av.VideoStream) -> None:
        self.count = 0
        self.records = bytearray()
        self.first: list[av.Packet[Any]] = []
        """Among which there is a picture that can be decoded, if among any."""
        self._keyframes = self._end = 0
        self._before = len(stream.before)
        self._time_base = video.time_base or Fraction(1, TICKS_PER_S)
        ticks = 1 / self._time_base
        self._clock = int(ticks) if ticks.denominator == 1 and ticks <= TICKS_PER_S else TICKS_PER_S
        self._tick = self._time_base * self._clock

    def add(self, packet: av.Packet[Any]) -> None:
        """The next one, its times set (timing.py)."""
        if self.count < FIRST:
            self.first.append(packet)
        shown, decoded, at = packet.pts, packet.dts, packet.pos
        assert shown is not None
        assert decoded is not None
        self._end = max(self._end, shown + (packet.duration or 0))
        early = shown - decoded
        if self._tick != 1:
            shown, early = round(shown * self._tick), round(early * self._tick)
        offset = at - self._before if at is not None and at >= self._before else _UNKNOWN
        if packet.is_keyframe:
            offset |= KEYFRAME
            self._keyframes += 1
        self.records += SAMPLE.pack(
            offset, packet.size, min(max(shown, 0), _WIDEST), min(max(early, 0), _WIDEST)
        )
        self.count += 1

    def told(self) -> dict[str, Any]:
        """What there is to say of all of them."""
        return {
            "samples": self.count,
            "keyframes": self._keyframes,
            "duration_s": float(self._end * self._time_base),
            "ticks_per_s": self._clock,
        }

    def give(self, about: Mapping[str, Any]) -> None:
        """All at once, behind a product; too many for a message are left out."""
        line = json.dumps({**about, **self.told()}).encode() + b"\n"
        if len(line) + len(self.records) <= MOST_GIVEN:
            tell(INDEX, 0, len(line) + len(self.records), line + self.records)
