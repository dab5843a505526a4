"""What a video's stream is, and where and when each of its samples lies: nothing is told but numbers and names."""

from __future__ import annotations

import json
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av
from av.stream import Discard

from app.video.inside import KEYFRAME, MOST_ASKED, SAMPLE, TICKS_PER_S
from app.video.inside.stream import VIDEO, Stream, conclude, give, opened
from app.video.inside.timing import timed

if TYPE_CHECKING:
    from av.container import InputContainer

_GIVEN: Final = 4096  # samples at a time
_LOOKED_AT: Final = 64  # packets in which a picture is decoded
_WIDEST: Final = 0xFFFFFFFF
_UNKNOWN: Final = (1 << 63) - 1


def make(length: int, demuxer: str) -> None:
    """The index, then the description."""
    with opened(length, MOST_ASKED, demuxer, VIDEO | {"aac"}) as (stream, source, video):
        about = _about(source, video)
        index = _Index(stream, video)
        for packet in timed(source, video):
            if packet.stream is video:
                if index.count < _LOOKED_AT and "rotation" not in about:
                    about |= _seen(video, packet)
                index.add(packet)
    conclude(json.dumps(about | index.told()).encode())


def look(length: int, demuxer: str) -> None:
    """The description alone."""
    with opened(length, MOST_ASKED, demuxer, VIDEO | {"aac"}) as (_, source, video):
        about = _about(source, video)
        for number, packet in enumerate(source.demux(video)):
            about |= _seen(video, packet)
            if number == _LOOKED_AT or "rotation" in about:
                break
    conclude(json.dumps(about).encode())


def _about(source: InputContainer, video: av.VideoStream) -> dict[str, Any]:
    sound = source.streams.best("audio", related=video)
    for other in source.streams:
        if other is not video:
            other.discard = Discard.all
    context = video.codec_context
    context.thread_count, context.thread_type = 1, "NONE"
    rate = video.average_rate or video.guessed_rate
    about: dict[str, Any] = {
        "codec": context.name,
        "profile": context.profile,
        "level": context.level if context.level > 0 else None,
        "width": context.width,
        "height": context.height,
        "pixel_format": context.pix_fmt,
        "interlaced": context.field_order > 1,
        "colour": {
            "primaries": context.color_primaries,
            "transfer": context.color_trc,
            "matrix": context.colorspace,
            "range": context.color_range,
        },
        "rate": str(rate) if rate else None,
        "sound": None,
    }
    if isinstance(sound, av.AudioStream):
        heard = sound.codec_context
        about["sound"] = {
            "codec": heard.name,
            "samples_per_s": heard.sample_rate,
            "channels": heard.layout.nb_channels,
        }
    return about


def _seen(video: av.VideoStream, packet: av.Packet[Any]) -> dict[str, Any]:
    """What only a picture tells, once there is one."""
    with suppress(av.error.InvalidDataError):
        for frame in video.codec_context.decode(packet):
            return {"rotation": frame.rotation, "interlaced": bool(frame.interlaced_frame)}
    return {}


class _Index:
    """Records of fixed width (app/video/inside): where a sample lies, its size, when it is shown and how much before decoded."""

    def __init__(self, stream: Stream, video: av.VideoStream) -> None:
        self.count = self._keyframes = 0
        self._before = len(stream.before)
        self._clock = self._ticks_per_s(video.time_base)
        self._records = bytearray()
        self._end = Fraction(0)

    @staticmethod
    def _ticks_per_s(time_base: Fraction | None) -> int:
        ticks = 1 / time_base if time_base else Fraction(TICKS_PER_S)
        return int(ticks) if ticks.denominator == 1 and ticks <= TICKS_PER_S else TICKS_PER_S

    def add(self, packet: av.Packet[Any]) -> None:
        assert packet.pts is not None
        assert packet.dts is not None
        tick = packet.time_base * self._clock
        shown, early = round(packet.pts * tick), round((packet.pts - packet.dts) * tick)
        offset = (
            packet.pos - self._before if packet.pos is not None and packet.pos >= self._before else _UNKNOWN
        )
        key = KEYFRAME if packet.is_keyframe else 0
        self._records += SAMPLE.pack(
            offset | key, packet.size, min(max(shown, 0), _WIDEST), min(max(early, 0), _WIDEST)
        )
        self.count += 1
        self._keyframes += packet.is_keyframe
        self._end = max(self._end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        if self.count % _GIVEN == 0:
            self._give()

    def _give(self) -> None:
        give(self._records)
        self._records.clear()

    def told(self) -> dict[str, Any]:
        self._give()
        return {
            "samples": self.count,
            "keyframes": self._keyframes,
            "duration_s": float(self._end),
            "ticks_per_s": self._clock,
        }
