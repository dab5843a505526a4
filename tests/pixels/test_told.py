import random
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from app.errors import FailureReason, Refused
from app.pixels import told, transformed

GREY = np.arange(24 * 16, dtype=np.uint8).reshape(24, 16)
COLOUR = np.dstack([GREY, GREY.T.reshape(24, 16), GREY])


def picture(kind: str, pixels: Any, **options: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


PICTURES = {
    "image/jpeg": picture("JPEG", COLOUR),
    "image/jls": bytes(imagecodecs.jpegls_encode(GREY)),
    "image/jp2": bytes(imagecodecs.jpeg2k_encode(COLOUR, codecformat="jp2", reversible=True)),
    "image/jphc": bytes(imagecodecs.htj2k_encode(GREY)),
}
DECODED = {"image/png": picture("PNG", COLOUR), "image/gif": picture("GIF", GREY)}


@pytest.mark.parametrize("media_type", PICTURES)
def test_whatever_is_cut_or_damaged_is_told_or_refused(media_type: str) -> None:
    """At every byte; and with every byte of the header made another."""
    data, chance = PICTURES[media_type], random.Random(5)
    for at in range(min(len(data), 700)):
        damaged = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        for head in (data[:at], damaged):
            try:
                found = told.compressed(media_type, "", head, len(data))
            except Refused:
                continue
            assert 0 <= found.start <= found.start + found.length <= len(data)


@pytest.mark.parametrize("media_type", DECODED)
def test_whatever_cannot_be_decoded_is_refused(media_type: str) -> None:
    data, chance = DECODED[media_type], random.Random(6)
    for at in range(0, len(data), 3):
        damaged = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        for content in (data[:at], damaged):
            try:
                transformed.native(media_type, content)
            except Refused:
                continue


@pytest.mark.parametrize("media_type", DECODED)
def test_a_picture_with_too_many_pixels_is_not_decoded(media_type: str) -> None:
    data = bytearray(DECODED[media_type])
    if media_type == "image/png":
        data[16:24] = (60_000).to_bytes(4, "big") * 2
    else:
        data[6:10] = (60_000).to_bytes(2, "little") * 2
    with pytest.raises(Refused) as refused:
        transformed.native(media_type, bytes(data))
    assert refused.value.reason == FailureReason.OUT_OF_RESOURCES


@pytest.mark.parametrize(
    ("predictor", "syntax"), [(1, "1.2.840.10008.1.2.4.70"), (6, "1.2.840.10008.1.2.4.57")]
)
def test_lossless_jpeg_is_told_apart_by_its_predictor(predictor: int, syntax: str) -> None:
    data = bytes(imagecodecs.ljpeg_encode(GREY))
    scan = data.index(b"\xff\xda")
    at = scan + 5 + 2 * data[scan + 4]
    found = told.compressed("image/jpeg", "", data[:at] + bytes([predictor]) + data[at + 1 :], len(data))
    assert found.transfer_syntax_uid == syntax


@pytest.mark.parametrize("media_type", ["video/mp4", "video/mpeg", "image/jxl", "image/dicom-rle"])
def test_of_some_types_only_the_transfer_syntax_is_known(media_type: str) -> None:
    found = told.compressed(media_type, "", b"", 10)
    assert (found.start, found.length, found.attributes) == (0, 10, {})
