"""When pictures are shown whose stream tells it of some only, as program streams may: by the order that the codec tells."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av
from av.bitstream import BitStreamFilterContext

if TYPE_CHECKING:
    Packet = av.Packet[Any]

_RATE: Final = Fraction(25)


def ordered(packets: Iterable[Packet], video: av.VideoStream) -> Iterator[Packet]:
    """The packets, each picture with both its times; what the stream tells itself is kept."""
    assert video.time_base is not None
    step = max(int(1 / (video.average_rate or _RATE) / video.time_base), 1)
    order = _Order(video)
    after: int | None = None
    for packet in packets:
        if packet.stream is not video:
            yield packet
            continue
        if packet.dts is None:
            packet.dts = after if after is not None else packet.pts or 0
        after = packet.dts + (packet.duration or step)
        yield from order.take(packet)
    yield from order.take(None)


class _Order:
    """FFmpeg's own filter, but for what it mistakes: where pictures count anew it may take one for an earlier one."""

    def __init__(self, video: av.VideoStream) -> None:
        self._video = video
        self._filter = BitStreamFilterContext("dts2pts", video)
        self._told: deque[int | None] = deque()
        self._delay: int | None = None
        """How much later than decoded the first picture is shown, and every other that others do not wait for."""
        self._late = 0

    def take(self, packet: Packet | None) -> Iterator[Packet]:
        """What can be told now; with None, the rest."""
        if packet is not None:
            assert packet.dts is not None
            if self._delay is None:
                self._delay = 0 if packet.pts is None else packet.pts - packet.dts
            self._told.append(packet.pts)
        try:
            found = self._filter.filter(packet)
        except av.error.FFmpegError:  # a damaged one: it is left out
            if packet is not None:
                self._told.pop()
            return
        for one in found:
            told = self._told.popleft() if self._told else None
            one.pts = self._corrected(one) if told is None else told
            one.stream = self._video
            yield one

    def _corrected(self, packet: Packet) -> int:
        """No picture is shown before it is decoded: those of one keyframe are mistaken by the same time."""
        assert packet.dts is not None
        latest = packet.dts + (self._delay or 0)
        if packet.pts is None:
            return latest
        if packet.pts >= packet.dts:
            return packet.pts
        if packet.is_keyframe:
            self._late = latest - packet.pts
        return packet.pts + self._late
