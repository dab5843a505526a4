"""The first picture worth looking at, as a JPEG."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import av
from av.stream import Discard
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from app.video.inside import Reason
from app.video.inside.stream import VIDEO, Impossible, Source, conclude, opened

if TYPE_CHECKING:
    from av.container import InputContainer

Image.preinit()  # would load its parts later, when nothing can be opened any more

QUALITY = 85

# A recording that stays black for so long is shown black: not all of it is read for a poster.
_MOST_BYTES, _MOST_PICTURES = 128 << 20, 64
_DARK, _MOSTLY = (
    26,
    0.98,
)  # as FFmpeg's blackdetect: a tenth of the way from black to white, nearly everywhere
_SIDE = 64
_HD_LINES = 720  # where colours are not told, players take BT.709 from here on
_UNSPECIFIED = 2


def make(stored: Source) -> None:
    """The first picture that is not black, else the first of all."""
    conclude(_jpeg(_first(stored)))


def _first(stored: Source) -> av.VideoFrame:
    found: av.VideoFrame | None = None
    with opened(stored) as (stream, container, video):
        for number, frame in enumerate(_pictures(container, video)):
            if not frame.is_corrupt and not _is_black(frame):
                return frame
            found = found or frame
            if stream.taken >= _MOST_BYTES or number >= _MOST_PICTURES:
                break
    if found is None:
        raise Impossible(Reason.NOTHING)
    return found


def _pictures(container: InputContainer, video: av.VideoStream) -> Iterator[av.VideoFrame]:
    """One picture from the beginning, then one from each keyframe on: the first that the decoder gives out."""
    if video.codec_context.name not in VIDEO:
        raise Impossible(Reason.CODEC)
    for other in container.streams:
        if other is not video:
            other.discard = Discard.all
    context = video.codec_context
    context.thread_count, context.thread_type = 1, "NONE"
    looking = True
    for packet in container.demux(video):
        if not looking and not packet.is_keyframe:
            continue
        if not looking:
            context.flush_buffers()
            looking = True
        with suppress(av.error.InvalidDataError):
            for frame in packet.decode()[:1]:
                looking = False
                yield frame


def _is_black(frame: av.VideoFrame) -> bool:
    small = frame.reformat(_SIDE, _SIDE, "gray", dst_color_range=ColorRange.JPEG).planes[0]
    rows, width = bytes(small), small.line_size
    pixels = b"".join(rows[at : at + _SIDE] for at in range(0, _SIDE * width, width))
    return sum(pixel < _DARK for pixel in pixels) >= _MOSTLY * len(pixels)


def _jpeg(frame: av.VideoFrame) -> bytes:
    """Turned as a player turns it."""
    hd = frame.colorspace == _UNSPECIFIED and frame.height >= _HD_LINES
    colours = Colorspace.ITU709 if hd else None
    image: Image.Image = frame.to_image(src_colorspace=colours)  # type: ignore[no-untyped-call] # av's stub
    turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    if turn := turns.get(frame.rotation % 360):
        image = image.transpose(turn)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
