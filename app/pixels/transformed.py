"""Pictures that no transfer syntax has, PNG and GIF, as native pixels without any loss (PS3.18 Table 10.5.2-1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image as Picture
from PIL import ImageSequence

from app.errors import FailureReason, Refused

MEDIA_TYPES: Final = frozenset({"image/png", "image/gif"})
LONGEST: Final = 64 << 20
"""Bytes of a picture that are decoded at once."""
_MOST_PIXELS: Final = 1 << 24  # of all frames together
_PNG_HEADER: Final = struct.Struct(">8xI4sII")

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Native:
    """Frames in little endian, colour by pixel."""

    rows: int
    columns: int
    samples: int
    bits: int
    number_of_frames: int
    pixels: bytes


def native(media_type: str, data: bytes) -> Native:
    """The decoded picture; transparency is dropped, as the clause says, and indexed colours become RGB."""
    try:
        return _png(data) if media_type == "image/png" else _gif(data)
    except (
        ValueError,
        OSError,
        struct.error,
        imagecodecs.PngError,
        SyntaxError,
        IndexError,
        Picture.DecompressionBombError,
    ) as error:
        raise Refused(f"A part of type {media_type} cannot be decoded.") from error


def _png(data: bytes) -> Native:
    _length, kind, columns, rows = _PNG_HEADER.unpack_from(data)
    if kind != b"IHDR":
        raise ValueError("no header")
    _bound(rows * columns)
    frame: Array = imagecodecs.png_decode(data)
    if frame.ndim == 3:
        frame = frame[..., 0] if frame.shape[2] == 2 else frame[..., :3]
    return _made(frame[np.newaxis])


def _gif(data: bytes) -> Native:
    _bound(int.from_bytes(data[6:8], "little") * int.from_bytes(data[8:10], "little"))
    frames: list[Array] = []
    with Picture.open(BytesIO(data), formats=["GIF"]) as picture:
        for number, frame in enumerate(ImageSequence.Iterator(picture), 1):
            _bound(picture.width * picture.height * number)
            frames.append(np.asarray(frame.convert("RGB")))
    return _made(np.stack(frames))


def _bound(pixels: int) -> None:
    if pixels > _MOST_PIXELS:
        raise Refused("A picture to be decoded has too many pixels.", FailureReason.OUT_OF_RESOURCES)


def _made(frames: Array) -> Native:
    bits = frames.dtype.itemsize * 8
    little = np.ascontiguousarray(frames, frames.dtype.newbyteorder("<"))
    samples = frames.shape[3] if frames.ndim == 4 else 1
    return Native(frames.shape[1], frames.shape[2], samples, bits, frames.shape[0], little.tobytes())
