"""Times of packets as a player needs them: from zero, without leaps, each decoding time after the one before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

import av
from av.stream import Discard

from app.video.inside.order import ordered

if TYPE_CHECKING:
    from av.container import InputContainer

    Packet = av.Packet[Any]

_LEAP_S: Final = 10  # a gap that is no pause: the clock was set, as where recordings were joined
_BACK_S: Final = 1
_RATE: Final = 25  # where the stream tells none
_FIRST: Final = 64  # packets in which the first picture to be shown is looked for
_BEFORE: Final = 256


def timed(
    source: InputContainer,
    video: av.VideoStream,
    sound: av.AudioStream | None = None,
    pace: Fraction | None = None,
) -> Iterator[Packet]:
    """The packets from the first keyframe on, with times that begin at zero there and never go back.

    `pace` is how many pictures a second a stream shows that keeps no time.
    """
    for other in source.streams:
        if other is not video and other is not sound:
            other.discard = Discard.all
    packets: Iterator[Packet] = _packets(source.demux(video, *filter(None, [sound])), video)
    first = list(islice(packets, _FIRST))
    packets = chain(first, packets)
    if any(packet.pts is None and packet.stream is video for packet in first):
        packets = ordered(packets, video, pace)
        first = list(islice(packets, _FIRST))
        packets = chain(first, packets)
    shown = [
        packet.pts * packet.time_base for packet in first if packet.stream is video and packet.pts is not None
    ]
    timing = Timing(min(shown, default=0), video.average_rate)
    for packet in packets:
        if timing.set(packet):
            yield packet


def _packets(demuxed: Iterator[Packet], video: av.VideoStream) -> Iterator[Packet]:
    """What the demuxer finds; where it stumbles, the video ends."""
    before: deque[Packet] = deque(maxlen=_BEFORE)  # sound may lie before the picture that it belongs to
    begun = False
    with suppress(av.error.InvalidDataError):
        for packet in demuxed:
            if not packet.size:
                continue
            if not begun:
                begun = packet.stream is video and packet.is_keyframe
                if not begun:
                    before.extend([packet] * (packet.stream is not video))
                    continue
                while before:
                    yield before.popleft()
            yield packet


class Timing:
    """Sets packets' times; `origin_s` is when the first picture is shown."""

    def __init__(self, origin_s: Fraction | int, pictures_per_s: Fraction | None) -> None:
        self._shift_s = Fraction(-origin_s)
        self._picture_s = 1 / (pictures_per_s or Fraction(_RATE))
        self._tracks: dict[int, _Track] = {}

    def set(self, packet: Packet) -> bool:
        """Whether the packet has a place in time; sound before the first picture has none."""
        index = packet.stream.index
        track = self._tracks.get(index)
        if track is None:
            track = self._tracks[index] = _Track(packet, self._picture_s, self._shift_s)
        dts, pts = packet.dts, packet.pts
        if dts is None:
            dts = pts if pts is not None and track.next is None else track.told()
        ahead = 0 if pts is None else max(pts - dts, 0)
        at = dts + track.shift
        if track.next is not None and not -track.back < at - track.next < track.leap:
            self._move(at - track.next, track.time_base)
            at = track.next
        if not track.is_video and at + ahead < 0:
            return False
        if track.last is not None:
            at = max(at, track.last + 1)
        packet.dts, packet.pts = at, at + ahead
        track.last, track.next = at, at + (packet.duration or track.step)
        return True

    def _move(self, ticks: int, time_base: Fraction) -> None:
        """The clock was set, for all: so many ticks are no time that has passed."""
        self._shift_s -= ticks * time_base
        for track in self._tracks.values():
            track.move(self._shift_s)


class _Track:
    """A stream's clock and where it stands."""

    def __init__(self, packet: Packet, picture_s: Fraction, shift_s: Fraction) -> None:
        assert packet.time_base is not None
        self.time_base = packet.time_base
        self.is_video = packet.stream.type == "video"
        self.last: int | None = None
        self.next: int | None = None
        self.leap, self.back = int(_LEAP_S / self.time_base), int(_BACK_S / self.time_base)
        self.step = max(int(picture_s / self.time_base), 1) if self.is_video else 1
        self.move(shift_s)

    def move(self, shift_s: Fraction) -> None:
        """From now on times are shifted by so much."""
        self.shift = round(shift_s / self.time_base)

    def told(self) -> int:
        """The time that a packet without one has, by the stream's own clock."""
        return (self.next or 0) - self.shift
