"""Native frames: bits, words, planes and subsampled colour to an array and back (PS3.5 8.1, 8.2, Annex D, G)."""

from __future__ import annotations

import struct

import imagecodecs
import numpy as np
import numpy.typing as npt

from app.errors import NotAcceptable
from app.pixels.image import SUBSAMPLED, Array, Image

Bytes = npt.NDArray[np.uint8]


def unpack(data: bytes, image: Image, bit_offset: int, *, big_endian: bool = False) -> Array:
    """The values of one native frame that starts so many bits into the data, samples interleaved.

    Big endian data of VR OW must start at a word's first byte: frames may begin in the middle of one.
    """
    need = (bit_offset + image.frame_bits + 7) // 8
    if len(data) < need:
        raise NotAcceptable(f"The frame needs {need} bytes and has {len(data)}.")
    if big_endian and image.bits_allocated <= 8 and image.vr == "OW":
        data = _swap_words(data)
    if image.bits_allocated == 1:
        count = image.rows * image.columns * image.samples_per_pixel
        packed = np.frombuffer(data, np.uint8, need - bit_offset // 8, bit_offset // 8)
        flat: Array = np.unpackbits(packed, bitorder="little")[bit_offset % 8 :][:count]
        return _arrange(flat, image)
    if bit_offset % 8:
        raise NotAcceptable("Only frames of one bit a pixel may start inside a byte.")
    dtype = image.dtype.newbyteorder(">") if big_endian else image.dtype
    count = image.frame_length // dtype.itemsize
    flat = np.frombuffer(data, dtype, count, bit_offset // 8).astype(image.dtype, copy=False)
    return _arrange(flat, image)


def _swap_words(data: bytes) -> bytes:
    even = data if len(data) % 2 == 0 else data + b"\0"
    return np.frombuffer(even, "<u2").byteswap().tobytes()


def _arrange(flat: Array, image: Image) -> Array:
    """A frame's values as (rows, columns[, samples])."""
    rows, columns, samples = image.rows, image.columns, image.samples_per_pixel
    if image.photometric_interpretation in SUBSAMPLED:
        pairs = flat.reshape(rows, (columns + 1) // 2, 4)
        made = np.empty((rows, pairs.shape[1] * 2, 3), flat.dtype)
        made[:, 0::2, 0], made[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
        made[..., 1:] = np.repeat(pairs[..., 2:], 2, axis=1)
        return np.ascontiguousarray(made[:, :columns])
    if samples > 1 and image.planar_configuration:
        return np.ascontiguousarray(flat.reshape(samples, rows, columns).transpose(1, 2, 0))
    return flat.reshape(image.shape)


def pack(values: Array, image: Image, *, interpolated: bool = False) -> bytes:
    """The native frame that the attributes tell; `interpolated` chroma came from a subsampled codestream."""
    if image.photometric_interpretation in SUBSAMPLED:
        return _subsample(values, interpolated=interpolated).tobytes()
    if image.samples_per_pixel > 1 and image.planar_configuration:
        values = values.transpose(2, 0, 1)
    if image.bits_allocated == 1:
        return np.packbits(values.reshape(-1) & 1, bitorder="little").tobytes()
    return values.astype(image.dtype, copy=False).tobytes()


def _subsample(values: Array, *, interpolated: bool) -> Array:
    """Y1 Y2 CB CR of each pair of pixels (PS3.3 C.7.6.3.1.2); an odd last column is paired with itself."""
    if values.shape[1] % 2:
        values = np.concatenate([values, values[:, -1:]], axis=1)
    first, second = values[:, 0::2, 1:].astype(np.int32), values[:, 1::2, 1:].astype(np.int32)
    if interpolated and values.shape[1] > 4:
        # libjpeg's triangle filter gave 3/4 of the nearer and 1/4 of the farther sample: solved for the nearer
        chroma = first.copy()
        chroma[:, 1:] = (3 * first[:, 1:] - second[:, :-1] + 1) >> 1
    else:
        chroma = (first + second + 1) >> 1
    highest = np.iinfo(values.dtype).max
    made = np.empty((values.shape[0], values.shape[1] // 2, 4), values.dtype)
    made[..., 0], made[..., 1] = values[:, 0::2, 0], values[:, 1::2, 0]
    made[..., 2:] = np.clip(chroma, 0, highest)
    return made


def run_length(data: bytes, image: Image) -> Array:
    """An RLE frame (PS3.5 Annex G): a segment for each byte of a sample, the most significant first."""
    if len(data) < 64:
        raise NotAcceptable("The RLE header is cut short.")
    count, *starts = struct.unpack_from("<16I", data)
    width, samples = image.dtype.itemsize, image.samples_per_pixel
    plane = image.rows * image.columns
    if count != width * samples or count > 15:
        raise NotAcceptable(
            f"The RLE frame has {count} segments where the attributes need {width * samples}."
        )
    if image.bits_allocated == 1:
        packed = _segment(data[starts[0] :], (plane + 7) // 8)
        return np.unpackbits(packed, bitorder="little")[:plane].reshape(image.shape)
    ends = [*starts[1:count], len(data)]
    segments = [_segment(data[start:end], plane) for start, end in zip(starts, ends, strict=False)]
    made = np.empty((plane, samples, width), np.uint8)
    for number, segment in enumerate(segments):
        made[:, number // width, width - 1 - number % width] = segment
    return made.reshape(-1).view(image.dtype).reshape(image.shape)


def _segment(data: bytes, length: int) -> Bytes:
    """One PackBits segment; a byte that pads it to even length and a byte or two too many are forgiven."""
    if length > 64 * len(data):  # two bytes make at most 128: refused before memory is taken
        raise NotAcceptable("An RLE segment is too short for its plane.")
    for candidate in (data, data[:-1]):
        try:
            made = imagecodecs.packbits_decode(candidate, out=length + 2)
        except (RuntimeError, ValueError):
            continue
        if len(made) >= length:
            return np.frombuffer(made, np.uint8, length)
    raise NotAcceptable("An RLE segment is damaged or does not fill its plane.")
