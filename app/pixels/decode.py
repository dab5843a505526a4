"""One frame's stored values, whatever its transfer syntax (PS3.5 Annex A, PS3.3 C.7.6.3.1.2)."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import imagecodecs
import numpy as np

from app.errors import NotAcceptable
from app.pixels import codestream, colour, native
from app.pixels.codestream import Codestream
from app.pixels.image import FLOAT_PIXELS, Array, Image

T = TypeVar("T")

_UID = "1.2.840.10008.1.2"
BIG_ENDIAN = f"{_UID}.2"
NATIVE = frozenset({_UID, f"{_UID}.1", BIG_ENDIAN, f"{_UID}.1.99", f"{_UID}.1.98"})
DEFLATED_FRAME = f"{_UID}.8.1"
RLE = f"{_UID}.5"
JPEG_LOSSY = frozenset(f"{_UID}.4.{n}" for n in (50, 51, 53, 55))
JPEG = JPEG_LOSSY | {f"{_UID}.4.57", f"{_UID}.4.70"}
JPEG_LS = frozenset({f"{_UID}.4.80", f"{_UID}.4.81"})
JPEG_2000 = frozenset(f"{_UID}.4.{n}" for n in (90, 91, 92, 93))
HTJ2K = frozenset(f"{_UID}.4.{n}" for n in (201, 202, 203))
JPEG_XL = frozenset(f"{_UID}.4.{n}" for n in (110, 111, 112))
JPEG_XL_OF_JPEG = f"{_UID}.4.111"
DECODABLE = NATIVE | JPEG | JPEG_LS | JPEG_2000 | HTJ2K | JPEG_XL | {DEFLATED_FRAME, RLE}


def decode(data: bytes, image: Image, bit_offset: int = 0) -> Array:
    """The stored values, (rows, columns[, samples]), in the photometric interpretation that is declared.

    Subsampled colour is upsampled; YBR_RCT and YBR_ICT are RGB, since decoding JPEG 2000 undoes them.
    """
    return _significant(_raw(data, image, bit_offset)[0], image)


def stored_frame(data: bytes, image: Image, bit_offset: int = 0) -> bytes:
    """The frame as native little endian bytes in exactly the layout that the attributes tell."""
    values, header = _raw(data, image, bit_offset)
    return native.pack(values, image, interpolated=header is not None and header.subsampled)


def as_coded(data: bytes, image: Image) -> Image:
    """For a display: values that JPEG 2000 codes with a sign have one, whatever Pixel Representation says."""
    if image.pixel_representation or image.transfer_syntax_uid not in JPEG_2000 | HTJ2K:
        return image
    return replace(image, pixel_representation=1) if codestream.jpeg2000(data).signed else image


def rgb_of_jpeg(data: bytes, image: Image) -> Array | None:
    """RGB straight from the JPEG decoder when that is what the frame shows; None for all else."""
    if image.transfer_syntax_uid not in JPEG_LOSSY or image.samples_per_pixel != 3:
        return None
    header = codestream.jpeg(data)
    if header.precision != 8 or _jpeg_colour(header, image) != "YBR":
        return None
    _check(header, image)
    return _rgb_of_ybr(data)


def _raw(data: bytes, image: Image, bit_offset: int) -> tuple[Array, Codestream | None]:
    """The values as they are stored, bits above the stored ones included."""
    syntax = image.transfer_syntax_uid
    if syntax in NATIVE:
        return native.unpack(data, image, bit_offset, big_endian=syntax == BIG_ENDIAN), None
    if syntax not in DECODABLE:
        raise NotAcceptable(f"Frames of the transfer syntax {syntax} are not decoded here.")
    if image.tag in FLOAT_PIXELS:
        raise NotAcceptable("Compressed floating point pixels are not decoded here.")
    if syntax == RLE:
        return native.run_length(data, image), None
    if syntax == DEFLATED_FRAME:
        return native.unpack(_inflate(data, image), image, 0), None
    if syntax == JPEG_XL_OF_JPEG:
        data, syntax = _reconstructed(data), f"{_UID}.4.50"
    values, header = _decoders(syntax)(data, image)
    if values.shape != image.shape:
        raise NotAcceptable(_mismatch(values.shape, image))
    return _widen(values, image, header), header


def _decoders(syntax: str) -> Callable[[bytes, Image], tuple[Array, Codestream]]:
    if syntax in JPEG:
        return _jpeg
    if syntax in JPEG_LS:
        return _jpeg_ls
    if syntax in JPEG_XL:
        return _jpeg_xl
    return _jpeg_2000


def _jpeg(data: bytes, image: Image) -> tuple[Array, Codestream]:
    header = codestream.jpeg(data)
    _check(header, image)
    if header.components != 3:
        return _call(imagecodecs.jpeg8_decode, data), header
    coded, declared = _jpeg_colour(header, image), _declared(image)
    if coded == "YBR" and declared == "RGB":
        return _rgb_of_ybr(data), header
    values = _call(imagecodecs.jpeg8_decode, data, colorspace="RGB", outcolorspace="RGB")  # no conversion
    return (colour.ybr_of_rgb(values) if coded == "RGB" and declared == "YBR" else values), header


def _rgb_of_ybr(data: bytes) -> Array:
    values: Array = _call(imagecodecs.jpeg8_decode, data, colorspace="YCBCR", outcolorspace="RGB")
    return values


def _declared(image: Image) -> str:
    return "YBR" if image.photometric_interpretation.startswith("YBR") and not _undone(image) else "RGB"


def _undone(image: Image) -> bool:
    """Whether the colour transform is the codec's own, so that decoding gives RGB (PS3.5 8.2.4)."""
    return image.photometric_interpretation in {"YBR_RCT", "YBR_ICT"}


def _jpeg_colour(header: Codestream, image: Image) -> str:
    """What the samples are: the codestream's own word, else the attributes'."""
    return header.colour or _declared(image)


def _jpeg_ls(data: bytes, image: Image) -> tuple[Array, Codestream]:
    header = codestream.jpeg(data)
    _check(header, image)
    return _call(imagecodecs.jpegls_decode, data), header


def _jpeg_2000(data: bytes, image: Image) -> tuple[Array, Codestream]:
    # OpenJPEG for HTJ2K too: OpenJPH is twice as fast, but a damaged header ends the process (SIGFPE), and its
    # binding lets overshoots of the irreversible transform wrap around.
    header = codestream.jpeg2000(data)
    _check(header, image)
    return _call(imagecodecs.jpeg2k_decode, data, planar=False), header


def _jpeg_xl(data: bytes, image: Image) -> tuple[Array, Codestream]:
    rows, columns = codestream.jpegxl_size(data)
    _check(Codestream(rows, columns, image.samples_per_pixel, image.bits_stored), image)
    values = _call(imagecodecs.jpegxl_decode, data, index=0, keeporientation=True, numthreads=1)
    if _declared(image) == "YBR" and values.ndim == 3:
        values = colour.ybr_of_rgb(values)  # libjxl always gives RGB
    return values, Codestream(rows, columns, image.samples_per_pixel, values.dtype.itemsize * 8)


def _reconstructed(data: bytes) -> bytes:
    """The very JPEG that was recompressed, so that its samples come as they were coded."""
    return bytes(_call(imagecodecs.jpegxl_decode_jpeg, data))


def _inflate(data: bytes, image: Image) -> bytes:
    """A deflated frame (PS3.5 A.4.13), never more of it than a frame holds."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, image.frame_length)
    except zlib.error as error:
        raise NotAcceptable("The deflated frame is damaged.") from error


def _check(header: Codestream, image: Image) -> None:
    """Before anything is allocated: the codestream must be as large as the attributes tell."""
    shape = (header.rows, header.columns, header.components)
    if shape != (image.rows, image.columns, image.samples_per_pixel):
        raise NotAcceptable(_mismatch(shape, image))
    if header.precision > max(image.bits_allocated, 8):
        raise NotAcceptable(f"The codestream has {header.precision} bits a sample, Bits Allocated is less.")


def _mismatch(shape: tuple[int, ...], image: Image) -> str:
    coded = " x ".join(str(n) for n in shape)
    return f"The codestream is {coded} where the attributes tell {' x '.join(str(n) for n in image.shape)}."


def _call(function: Callable[..., T], data: bytes, *args: Any, **options: Any) -> T:
    """A codec's own complaints become one sentence."""
    try:
        return function(data, *args, **options)
    except (RuntimeError, ValueError, TypeError, IndexError, OverflowError, MemoryError) as error:
        raise NotAcceptable("The compressed frame is damaged or of a kind that cannot be decoded.") from error


def _widen(values: Array, image: Image, header: Codestream | None) -> Array:
    """A decoder's values in the declared type; an unsigned codestream of signed pixels gets its sign back."""
    unsigned = values.dtype.kind == "u"
    values = values.astype(image.dtype, copy=False)
    if unsigned and image.pixel_representation and header is not None:
        return _extend(values, max(header.precision, image.bits_stored))
    return values


def _significant(values: Array, image: Image) -> Array:
    """Only the stored bits: those above the high bit may hold overlays (PS3.5 8.1.1)."""
    if values.dtype.kind == "f" or image.bits_allocated == 1:
        return values
    shift = image.high_bit + 1 - image.bits_stored
    if shift and image.transfer_syntax_uid in NATIVE | {RLE, DEFLATED_FRAME}:
        values = values >> shift
    if image.bits_stored == image.bits_allocated:
        return values
    if image.pixel_representation:
        return _extend(values, image.bits_stored)
    significant: Array = values & np.array((1 << image.bits_stored) - 1, values.dtype)
    return significant


def _extend(values: Array, bits: int) -> Array:
    """Two's complement of so many bits, spread over the whole word."""
    above = values.dtype.itemsize * 8 - bits
    if above <= 0:
        return values
    return np.right_shift(np.left_shift(values, above), above, dtype=values.dtype)
