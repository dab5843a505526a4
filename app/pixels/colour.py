"""Colour models: YBR to RGB and back, palettes (PS3.3 C.7.6.3.1.2, C.7.6.3.1.5)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture

from app.errors import NotAcceptable
from app.pixels.image import Array, Image

Bytes = npt.NDArray[np.uint8]


def rgb(values: Array, image: Image) -> Bytes:
    """The stored values of a colour frame as RGB of 8 bits."""
    photometric = image.photometric_interpretation
    if photometric == "PALETTE COLOR":
        return _palette(values, image)
    if photometric == "YBR_PARTIAL_422":
        return _rgb_of_partial(_eight_bits(values, image))
    if photometric in {"YBR_FULL", "YBR_FULL_422"}:
        return rgb_of_ybr(_eight_bits(values, image))
    return _eight_bits(values, image)


def rgb_of_ybr(values: Bytes) -> Bytes:
    """YBR_FULL to RGB: the matrix of C.7.6.3.1.2 is JFIF's."""
    return _convert(values, "YCbCr", "RGB")


def ybr_of_rgb(values: Bytes) -> Bytes:
    """RGB to YBR_FULL."""
    return _convert(values, "RGB", "YCbCr")


def _convert(values: Bytes, source: str, target: str) -> Bytes:
    if values.dtype != np.uint8:
        raise NotAcceptable("Colour of more than 8 bits a sample is not converted here.")
    rows, columns = values.shape[:2]
    picture = Picture.frombytes(source, (columns, rows), np.ascontiguousarray(values).tobytes())
    return np.asarray(picture.convert(target))


def _rgb_of_partial(values: Bytes) -> Bytes:
    """YBR_PARTIAL_422: black is 16, white 235 (CCIR 601-2)."""
    y, b, r = (values[..., n].astype(np.float32) for n in range(3))
    y, b, r = (y - 16) * (255 / 219), (b - 128) * (255 / 224), (r - 128) * (255 / 224)
    made: Array = np.stack([y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b], axis=-1)
    return np.clip(np.rint(made), 0, 255).astype(np.uint8)


def _eight_bits(values: Array, image: Image) -> Bytes:
    if image.bits_stored == 8:
        return values.astype(np.uint8, copy=False)
    if image.pixel_representation:
        values = values.astype(np.int64) + (1 << (image.bits_stored - 1))
    shares = np.divide(values, (1 << image.bits_stored) - 1, dtype=np.float64)
    return np.asarray(shares * 255 + 0.5).astype(np.uint8)


def _palette(values: Array, image: Image) -> Bytes:
    if image.palette is None:
        raise NotAcceptable("The palette's colours are not in the object.")
    made = np.empty((*values.shape, 3), np.uint8)
    for channel, table in enumerate(image.palette):
        colours = table.bytes8()
        index = np.clip(values.astype(np.int64) - table.first, 0, len(colours) - 1)
        made[..., channel] = colours[index]
    return made
