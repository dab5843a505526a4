"""A picture of 8 bits cut, sized and encoded for browsers (PS3.18 8.3.5.1.3, 8.7.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image as Picture

from app.errors import NotAcceptable

Bytes = npt.NDArray[np.uint8]
DEFAULT_QUALITY = 90
MAX_SIDE = 16384


@dataclass(frozen=True, slots=True)
class Viewport:
    """`viewport=vw,vh[,sx,sy,sw,sh]`: a region of the source, scaled to fit; a negative sw or sh flips."""

    width: int
    height: int
    x: float = 0
    y: float = 0
    source_width: float | None = None
    source_height: float | None = None
    enlarge: bool = True


def thumbnail(size: int = 128) -> Viewport:
    """A viewport that only shrinks."""
    return Viewport(size, size, enlarge=False)


def fit(pixels: Bytes, viewport: Viewport) -> Bytes:
    """The viewport's region, as large as fits in it without distortion."""
    region = _cut(pixels, viewport)
    rows, columns = region.shape[:2]
    if not (1 <= viewport.width <= MAX_SIDE and 1 <= viewport.height <= MAX_SIDE):
        raise NotAcceptable(f"A viewport is from 1 to {MAX_SIDE} pixels wide and high.")
    scale = min(viewport.width / columns, viewport.height / rows)
    if scale == 1 or (scale > 1 and not viewport.enlarge):
        return region
    size = (max(round(columns * scale), 1), max(round(rows * scale), 1))
    picture = Picture.fromarray(np.ascontiguousarray(region))
    made = picture.resize(size, Picture.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(made)


def _cut(pixels: Bytes, viewport: Viewport) -> Bytes:
    rows, columns = pixels.shape[:2]
    left, right = _span(viewport.x, viewport.source_width, columns)
    top, bottom = _span(viewport.y, viewport.source_height, rows)
    region = pixels[top:bottom, left:right]
    if (viewport.source_width or 0) < 0:
        region = region[:, ::-1]
    return region[::-1] if (viewport.source_height or 0) < 0 else region


def _span(start: float, length: float | None, size: int) -> tuple[int, int]:
    """Whole pixels of a side; the part outside the picture is left out."""
    if not math.isfinite(start) or (length is not None and (not math.isfinite(length) or length == 0)):
        raise NotAcceptable("The viewport's source region is empty.")
    first = math.floor(abs(start))
    last = size if length is None else math.ceil(min(abs(start) + abs(length), size))
    if first >= last:
        raise NotAcceptable("The viewport's source region lies outside the picture.")
    return first, last


def jpeg(pixels: Bytes, quality: int = DEFAULT_QUALITY) -> bytes:
    """Baseline JPEG; colour keeps full chroma at high quality."""
    subsampling = "444" if quality >= 90 else "420"
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels), quality, subsampling=subsampling))


def png(pixels: Bytes) -> bytes:
    """PNG; run lengths after the sub filter are as small as deflate's level 3 and three times as fast."""
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels), 1, strategy=3, filter=16))
