"""What a video's stream is, and where and when each of its samples lies: nothing is told but numbers and names."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import av

from app.video.inside.index import FIRST, Index
from app.video.inside.stream import VIDEO, Source, conclude, give, opened
from app.video.inside.timing import timed

if TYPE_CHECKING:
    from av.container import InputContainer

_GIVEN: Final = 4096  # samples at a time
_BARE: Final = frozenset({"h264", "hevc", "mpegvideo"})


def make(stored: Source) -> None:
    """The index, then the description."""
    with opened(stored, VIDEO | {"aac"}) as (stream, source, video):
        told = about(source, video)
        index = Index(stream, video)
        for packet in timed(source, video):
            index.add(packet)
            if index.count % _GIVEN == 0:
                give(index.records)
                index.records.clear()
        told |= seen(video, index.first)
    give(index.records)
    conclude(json.dumps(told | index.told()).encode())


def look(stored: Source) -> None:
    """The description alone."""
    with opened(stored, VIDEO | {"aac"}) as (_, source, video):
        told = about(source, video)
        told |= seen(video, islice(source.demux(video), FIRST))
    conclude(json.dumps(told).encode())


def about(source: InputContainer, video: av.VideoStream) -> dict[str, Any]:
    """What the container and its parameters tell; of the video no frame is decoded by more than this thread."""
    sound = source.streams.best("audio", related=video)
    context = video.codec_context
    context.thread_count, context.thread_type = 1, "NONE"
    # FFmpeg guesses the rate of a bare stream: there only the codec's own word counts.
    is_bare = source.format.name in _BARE
    rate = context.framerate if is_bare else video.average_rate or video.guessed_rate
    told: dict[str, Any] = {
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
        told["sound"] = {
            "codec": heard.name,
            "samples_per_s": heard.sample_rate,
            "channels": heard.layout.nb_channels,
        }
    return told


def seen(video: av.VideoStream, packets: Iterable[av.Packet[Any]]) -> dict[str, Any]:
    """What only a picture tells, of the first there is."""
    for packet in packets:
        with suppress(av.error.InvalidDataError):
            for frame in video.codec_context.decode(packet):
                return {"rotation": frame.rotation, "interlaced": bool(frame.interlaced_frame)}
    return {}
