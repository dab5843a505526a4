"""One frame as a JPEG or PNG: decode, window, cut, encode, in one call that a worker can be given."""

from __future__ import annotations

from dataclasses import dataclass

import imagecodecs

from app.errors import NotAcceptable
from app.pixels import codestream, colour, encode, window
from app.pixels.decode import JPEG_LOSSY, as_coded, decode, rgb_of_jpeg
from app.pixels.encode import DEFAULT_QUALITY, Bytes, Viewport
from app.pixels.image import Image, Window


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of a picture; quality is for JPEG, None leaves it to the server."""

    media_type: str = "image/jpeg"
    quality: int | None = None
    window: Window | None = None
    viewport: Viewport | None = None


def picture(data: bytes, image: Image, options: Options, bit_offset: int = 0) -> bytes:
    """The frame as it is to be seen, encoded."""
    if _is_picture_already(data, image, options):
        return data
    pixels = displayed(data, image, options.window, bit_offset)
    return _encoded(pixels, options)


def again(jpeg: bytes, options: Options) -> bytes:
    """A JPEG of our own, such as a video's poster, as it is asked for; a window means nothing to colours."""
    if options.viewport is None and options.quality is None and options.media_type == "image/jpeg":
        return jpeg
    return _encoded(imagecodecs.jpeg8_decode(jpeg, outcolorspace="RGB"), options)


def _encoded(pixels: Bytes, options: Options) -> bytes:
    if options.viewport is not None:
        pixels = encode.fit(pixels, options.viewport)
    if options.media_type == "image/png":
        return encode.png(pixels)
    if options.media_type != "image/jpeg":
        raise NotAcceptable("A frame is rendered as image/jpeg or image/png.")
    return encode.jpeg(pixels, DEFAULT_QUALITY if options.quality is None else options.quality)


def displayed(data: bytes, image: Image, asked: Window | None = None, bit_offset: int = 0) -> Bytes:
    """What a display shows: (rows, columns) gray or (rows, columns, 3) RGB of 8 bits."""
    if image.needs:
        raise NotAcceptable("A lookup table of this image is not at hand.")
    if image.monochrome:
        image = as_coded(data, image)
        return window.gray(decode(data, image, bit_offset), image, asked)
    direct = rgb_of_jpeg(data, image)
    return colour.rgb(decode(data, image, bit_offset), image) if direct is None else direct


def _is_picture_already(data: bytes, image: Image, options: Options) -> bool:
    """Whether a browser shows the stored JPEG as it should be seen: baseline colour of 8 bits, whole."""
    if options != Options() or image.monochrome or image.transfer_syntax_uid not in JPEG_LOSSY:
        return False
    header = codestream.jpeg(data)
    baseline = (header.process, header.precision, header.colour) == (0xC0, 8, "YBR")
    return baseline and (header.rows, header.columns) == (image.rows, image.columns)
