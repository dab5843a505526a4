"""Every public test object beside the repository, against other decoders' results; generated ones where there is none."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Picture

from app.errors import NotAcceptable
from app.pixels import colour, native
from app.pixels.decode import BIG_ENDIAN, NATIVE, decode, stored_frame
from app.pixels.image import Image, describe
from app.pixels.picture import Options, displayed, picture
from tests.pixels import frames
from tests.pixels.frames import Case

# Frames whose stored values are not those of the oracle, and why.
DIFFERENT = {
    "multiframe/CT0012.fragmented_no_bot_jpeg_baseline.51.dcm": "12 bit lossy: the oracle's decoder rounds otherwise, by 1",
    "transfer-syntaxes/CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm": "the same",
    "transfer-syntaxes/JPGExtended.dcm": "the same",
    "transfer-syntaxes/jxl-recompressed-jpeg.dcm": "declared YBR_FULL_422 and decoded so; the oracle is libjxl's RGB",
}
# Another object of the corpus that holds the same picture, for those that no oracle could decode.
SAME = {
    "multiframe/liver_rle.dcm": "depth/liver.dcm",
    "transfer-syntaxes/CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": "transfer-syntaxes/CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm",
    "transfer-syntaxes/CTImage.dcm_JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55.dcm": "transfer-syntaxes/CTImage.dcm_JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51.dcm",
}
# pydicom warns of what the corpus is for
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
CASES = {case.name: case for case in frames.cases()}


def _opened(case: Case) -> tuple[bytes, Image]:
    metadata, data = case.open()
    return data, describe(metadata, 1, case.transfer_syntax)


def _generated() -> dict[str, tuple[bytes, Image, str]]:
    made = {}
    for name, (syntax, encode) in frames.LOSSLESS.items():
        values = frames.gray(64, 48, "u2")
        sha = hashlib.sha256(values.tobytes()).hexdigest()
        made[name] = bytes(encode(values)), frames.image(values, syntax), sha
    return made


GENERATED = _generated()
SOUND = [
    name
    for name, case in CASES.items()
    if not case.malformed and (case.sha256 or name in SAME or "mjpeg" in name)
]


def _frame(name: str) -> tuple[bytes, Image, str]:
    if name in GENERATED:
        return GENERATED[name]
    return *_opened(CASES[name]), CASES[name].sha256


@pytest.mark.parametrize("name", [*GENERATED, *SOUND])
def test_frames_equal_the_oracle(name: str) -> None:
    """Stored values are those of the manifest, but for the table above; the native frame has its exact length."""
    data, image, sha = _frame(name)
    values = decode(data, image)
    assert values.shape == image.shape
    assert values.dtype == image.dtype
    made = hashlib.sha256(values.tobytes()).hexdigest()
    if name in SAME:
        twin = _frame(SAME[name])
        assert np.array_equal(values, decode(twin[0], twin[1]))
    elif name in DIFFERENT:
        assert made != sha
    elif sha:
        assert made == sha
    assert len(stored_frame(data, image)) == image.frame_length


@pytest.mark.parametrize("name", [*GENERATED, *SOUND])
def test_stored_frames_read_by_their_attributes_show_the_picture(name: str) -> None:
    """A viewer that knows nothing but the metadata sees what we render; native frames are not touched."""
    data, image, _ = _frame(name)
    frame = stored_frame(data, image)
    little = image.transfer_syntax_uid in NATIVE - {BIG_ENDIAN}
    if little and image.frame_bits % 8 == 0:
        assert frame == data[: image.frame_length]
    values = native.unpack(frame, replace(image, transfer_syntax_uid=frames.EXPLICIT), 0)
    if image.samples_per_pixel == 3:
        seen, shown = colour.rgb(values, image).astype(int), displayed(data, image).astype(int)
        assert np.abs(seen - shown).mean() < 2.5
    elif image.bits_stored == image.bits_allocated:
        assert np.array_equal(values, decode(data, image))


@pytest.mark.parametrize("name", [*GENERATED, *SOUND])
def test_every_frame_becomes_a_picture(name: str) -> None:
    """JPEG and PNG of the frame's size."""
    data, image, _ = _frame(name)
    for media_type in ("image/jpeg", "image/png"):
        made = Picture.open(BytesIO(picture(data, image, Options(media_type))))
        assert made.size == (image.columns, image.rows)
        assert made.get_format_mimetype() == media_type


def _opened_by_pydicom(case: Case) -> tuple[dict[str, Any], bytes] | None:
    """Nothing when pydicom cannot open it: then it is the scanner's matter."""
    with suppress(Exception):
        return case.open()
    return None


@pytest.mark.parametrize("name", [*GENERATED, *(name for name in CASES if name not in SOUND)])
def test_malformed_objects_give_a_picture_or_a_sentence(name: str) -> None:
    """What is wrong on purpose, cut short or a video is refused by NotAcceptable and by nothing else."""
    if name in GENERATED:
        data, image, _ = GENERATED[name]
        with pytest.raises(NotAcceptable):
            picture(data[: len(data) // 2], image, Options())
    elif (opened := _opened_by_pydicom(CASES[name])) is not None:
        metadata, data = opened
        with suppress(NotAcceptable):
            assert picture(data, describe(metadata, 1, CASES[name].transfer_syntax), Options())


def test_recompressed_jpeg_shows_what_libjxl_shows() -> None:
    """The frame of JPEG XL that holds a JPEG is its YBR, and looks like the decoder's own RGB."""
    data, image = frames.lossy()["jpeg xl of jpeg"]
    values = decode(data, image)
    own = imagecodecs.jpegxl_decode(data)
    assert np.abs(colour.rgb(values, image).astype(int) - own).mean() < 2
