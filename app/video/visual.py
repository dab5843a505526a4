"""How a track's pictures are coded, how large they are, and what shape a pixel has (ISO/IEC 14496-12 12.1.3)."""

from __future__ import annotations

from fractions import Fraction
from struct import pack
from typing import Final

from app.video import NeedsRemux
from app.video.bits import Bits
from app.video.boxes import Box, box

_ASPECTS: Final = (
    (1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11),
    (80, 33), (18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1),
)  # fmt: skip # H.264 Table E-1, H.265 Table E.1
_GIVEN: Final = 255
_WIDEST: Final = 0xFFFF


def sized(width: int, height: int) -> tuple[int, int]:
    """A size that an entry can tell."""
    if not (0 < width <= _WIDEST and 0 < height <= _WIDEST):
        raise NeedsRemux("The video's pictures have no size.")
    return width, height


def visual(kind: bytes, size: tuple[int, int], aspect: tuple[int, int], configuration: Box) -> Box:
    """A VisualSampleEntry with the configuration of its codec, and a pixel's shape where it is no square."""
    resolution = 72 << 16
    fixed = pack(">6xH16xHHII4xH32xHh", 1, *size, resolution, resolution, 1, 24, -1)
    inner = [configuration]
    if aspect[0] != aspect[1] and all(aspect):
        inner.append(box(b"pasp", pack(">II", *aspect)))
    return Box(kind, fixed, inner)


def shape(bits: Bits) -> tuple[int, int]:
    """The shape of a pixel: how video usability information begins in both standards (H.264 E.1.1, H.265 E.2.1)."""
    aspect = (1, 1)
    if bits.flag():
        kind = bits.u(8)
        if kind == _GIVEN:
            aspect = (bits.u(16), bits.u(16))
        elif 0 < kind <= len(_ASPECTS):
            aspect = _ASPECTS[kind - 1]
    if bits.flag():  # overscan
        bits.skip(1)
    if bits.flag():  # kind of signal
        bits.skip(4)
        if bits.flag():  # colours
            bits.skip(24)
    if bits.flag():  # where chroma is sampled
        bits.ue()
        bits.ue()
    return aspect


def timing(bits: Bits) -> Fraction | None:
    """Ticks a second, where they are told."""
    if not bits.flag():
        return None
    ticks, ticks_per_s = bits.u(32), bits.u(32)
    return Fraction(ticks_per_s, ticks) if ticks and ticks_per_s else None
