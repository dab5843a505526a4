"""What decoding promises: equal values, the declared layout, and one clear sentence about damage."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import NotAcceptable
from app.pixels import colour, native
from app.pixels.codestream import jpegxl_size
from app.pixels.decode import DECODABLE, decode, stored_frame
from app.pixels.image import Image
from tests.pixels import frames
from tests.pixels.frames import encoded

ONE_BIT = replace(frames.image(np.zeros((5, 5), "u1")), bits_allocated=1, bits_stored=1, high_bit=0)
LOSSY = frames.lossy()


@pytest.mark.parametrize("name", frames.LOSSLESS)
@given(
    rows=st.integers(2, 40),
    columns=st.integers(2, 40),
    dtype=st.sampled_from(["u1", "u2", "i2"]),
    seed=st.integers(0, 1 << 30),
)
def test_lossless_frames_come_back_equal(name: str, rows: int, columns: int, dtype: str, seed: int) -> None:
    """Any gray frame, signed or not, is the same after encoding and decoding; so are its native bytes."""
    syntax, encode = frames.LOSSLESS[name]
    values = frames.gray(rows, columns, dtype, seed=seed)
    image = frames.image(values, syntax, vr="OB" if dtype == "u1" else "OW")
    coded = (
        values
        if name in {"native", "big endian", "encapsulated", "deflated", "rle"}
        else values.view(f"u{values.itemsize}")
    )
    data = bytes(encode(coded))
    made = decode(data, image)
    assert made.dtype == values.dtype
    assert np.array_equal(made, values)
    assert stored_frame(data, image) == values.tobytes()


@pytest.mark.parametrize("name", [name for name in frames.LOSSLESS if name != "big endian"])
@given(rows=st.integers(2, 30), columns=st.integers(2, 30))
def test_lossless_colour_comes_back_equal(name: str, rows: int, columns: int) -> None:
    """Colour frames too, planar or interleaved as declared."""
    syntax, encode = frames.LOSSLESS[name]
    values = frames.colour(rows, columns)
    image = frames.image(values, syntax, "YBR_RCT" if "2000" in name or "j2k" in name else "RGB")
    data = bytes(encode(values))
    assert np.array_equal(decode(data, image), values)
    planar = replace(image, planar_configuration=1)
    if name not in {"native", "encapsulated", "deflated"}:
        assert stored_frame(data, planar) == values.transpose(2, 0, 1).tobytes()


@pytest.mark.parametrize("dtype", ["u4", "i4", "u8", "i8"])
def test_wide_integers(dtype: str) -> None:
    """32 and 64 bits, native and run-length coded."""
    values = frames.gray(7, 5, dtype, 31)
    assert np.array_equal(decode(values.tobytes(), frames.image(values)), values)
    coded = frames.packbits(values)
    assert np.array_equal(decode(coded, frames.image(values, frames.RLE)), values)


@pytest.mark.parametrize(("tag", "dtype"), [("7FE00008", "<f4"), ("7FE00009", "<f8")])
def test_floating_point(tag: str, dtype: str) -> None:
    values = np.linspace(-1, 1, 12).reshape(3, 4).astype(dtype)
    image = frames.image(values, tag=tag)
    assert np.array_equal(decode(values.tobytes(), image), values)


@given(frame=st.integers(0, 9))
def test_one_bit_frames_may_start_inside_a_byte(frame: int) -> None:
    """Frame n of 5 x 5 bits starts n * 25 bits in (PS3.5 8.1.1), and goes out shifted."""
    values = np.random.default_rng(3).integers(0, 2, (10, 5, 5), np.uint8)
    data = np.packbits(values.reshape(-1), bitorder="little").tobytes()
    start = frame * 25
    made = decode(data[start // 8 : (start + 25 + 7) // 8], ONE_BIT, start % 8)
    assert np.array_equal(made, values[frame])
    expected = np.packbits(values[frame].reshape(-1), bitorder="little").tobytes()
    assert stored_frame(data, ONE_BIT, start) == expected


def test_big_endian_words_of_bytes_are_swapped() -> None:
    """8-bit pixels of VR OW in Big Endian are pairs in swapped order, of VR OB they are not."""
    values = frames.gray(3, 3, "u1")
    image = frames.image(values, frames.BIG_ENDIAN, vr="OW")
    swapped = np.frombuffer(values.tobytes() + b"\0", "<u2").byteswap().tobytes()
    assert np.array_equal(decode(swapped, image), values)
    assert np.array_equal(decode(values.tobytes(), replace(image, vr="OB")), values)


def test_bits_above_the_high_bit_are_no_pixels() -> None:
    """Overlays in unused bits do not reach the values, but stay in the stored frame."""
    stored = np.array([[0x0FFF, 0xF800]], "<u2")
    image = frames.image(stored, bits_stored=12, high_bit=11)
    assert decode(stored.tobytes(), image).tolist() == [[0xFFF, 0x800]]
    signed = replace(image, pixel_representation=1)
    assert decode(stored.tobytes(), signed).tolist() == [[-1, -2048]]
    assert stored_frame(stored.tobytes(), image) == stored.tobytes()
    left = replace(image, high_bit=15)
    assert decode(stored.tobytes(), left).tolist() == [[0x0FF, 0xF80]]


@pytest.mark.parametrize("columns", [8, 7, 2, 1])
def test_native_subsampled_colour_is_two_bytes_a_pixel(columns: int) -> None:
    """YBR_FULL_422 is Y1 Y2 CB CR; decoding repeats the chroma, packing gives the same bytes again."""
    pairs = (columns + 1) // 2
    data = bytes(range(4 * pairs * 2))
    image = frames.image(np.zeros((2, columns, 3), "u1"), photometric="YBR_FULL_422")
    values = decode(data, image)
    assert values.shape == (2, columns, 3)
    assert values[0, 0].tolist() == [0, 2, 3]
    assert values[0, -1, 1:].tolist() == list(data[4 * pairs - 2 : 4 * pairs])
    if columns % 2 == 0:
        assert stored_frame(data, image) == data
    assert len(stored_frame(data, image)) == image.frame_length


@pytest.mark.parametrize("sampling", ["444", "422", "420"])
@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422", "RGB"])
def test_no_green_ultrasound(sampling: str, photometric: str) -> None:
    """Whoever reads the stored frame by the attributes sees the picture that was encoded."""
    rgb = frames.colour(64, 96)
    data = encoded(imagecodecs.jpeg8_encode, rgb, 95, subsampling=sampling)
    image = frames.image(rgb, frames.jpeg_uid(50), photometric)
    frame = stored_frame(data, image)
    assert len(frame) == 64 * 96 * (2 if photometric == "YBR_FULL_422" else 3)
    as_told = native.unpack(frame, replace(image, transfer_syntax_uid=frames.EXPLICIT), 0)
    shown = colour.rgb(as_told, image)
    assert np.abs(shown.astype(int) - rgb).mean() < 3


def test_coded_chroma_of_422_is_stored_as_it_was_coded() -> None:
    """Subsampled JPEG gives back its own chroma samples, not those that upsampling has blurred."""
    rgb = frames.colour(32, 64)
    image = frames.image(rgb, frames.jpeg_uid(50), "YBR_FULL_422")
    data = encoded(imagecodecs.jpeg8_encode, rgb, 100, subsampling="422")
    full = decode(
        encoded(imagecodecs.jpeg8_encode, rgb, 100, subsampling="444"),
        replace(image, photometric_interpretation="YBR_FULL"),
    )
    coded = np.frombuffer(stored_frame(data, image), "u1").reshape(32, 32, 4)
    means = full.reshape(32, 32, 2, 3).mean(axis=2)[..., 1:]
    assert np.abs(coded[..., 2:] - means).max() <= 3


@pytest.mark.parametrize(
    ("coded", "declared"), [("YCBCR", "RGB"), ("RGB", "YBR_FULL"), ("RGB", "RGB"), ("YCBCR", "YBR_FULL")]
)
def test_a_jpeg_that_contradicts_its_attributes_is_converted(coded: str, declared: str) -> None:
    """The samples have the declared model, whichever the codestream has and says so."""
    rgb = frames.colour(40, 40)
    data = encoded(imagecodecs.jpeg8_encode, rgb, 98, subsampling="444", outcolorspace=coded)
    image = frames.image(rgb, frames.jpeg_uid(50), declared)
    assert np.abs(colour.rgb(decode(data, image), image).astype(int) - rgb).mean() < 3


def test_signs_that_a_codestream_lost_come_back() -> None:
    """JPEG knows no sign: 13 coded bits of signed pixels are spread over the word."""
    values = frames.gray(16, 16, "i2", 13)
    image = frames.image(values, frames.jpeg_uid(70), bits_stored=13, high_bit=12)
    unsigned = values.view("u2") & 0x1FFF
    data = encoded(imagecodecs.jpeg8_encode, unsigned, lossless=True, predictor=1, bitspersample=13)
    assert np.array_equal(decode(data, image), values)
    assert stored_frame(data, image) == values.tobytes()


def test_run_length_of_single_bits() -> None:
    """One-bit frames are run-length coded as packed bytes."""
    bits = np.random.default_rng(5).integers(0, 2, (16, 16), np.uint8)
    packed = np.packbits(bits.reshape(-1), bitorder="little").reshape(1, -1)
    image = replace(ONE_BIT, rows=16, columns=16, transfer_syntax_uid=frames.RLE)
    assert np.array_equal(decode(frames.packbits(packed), image), bits)


def test_a_deflated_frame_inflates_no_further_than_the_frame() -> None:
    """A bomb costs no more than the picture it claims to be."""
    bomb = frames.deflate(np.zeros(50_000_000, "u1"))
    values = np.zeros((16, 16), "u1")
    assert np.array_equal(decode(bomb, frames.image(values, frames.DEFLATED)), values)


def _samples() -> dict[str, tuple[bytes, Image]]:
    values = frames.gray(64, 48, "u2")
    lossless = {
        name: (bytes(encode(values)), frames.image(values, syntax))
        for name, (syntax, encode) in frames.LOSSLESS.items()
    }
    return lossless | {f"lossy {name}": pair for name, pair in LOSSY.items()}


SAMPLES = _samples()


def test_the_samples_cover_every_syntax_but_their_sisters() -> None:
    """Each decoder is tested; 53, 55, 92, 93, 202, implicit and deflated data sets share one that is."""
    covered = {image.transfer_syntax_uid for _, image in SAMPLES.values()}
    sisters = {frames.jpeg_uid(n) for n in (53, 55, 92, 93, 202)} | {frames.UID, f"{frames.UID}.1.99"}
    assert covered | sisters == DECODABLE


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9])
def test_a_truncated_frame_is_refused(name: str, share: float) -> None:
    """Never a picture that is half made up."""
    data, image = SAMPLES[name]
    with pytest.raises(NotAcceptable):
        decode(data[: int(len(data) * share)], image)


@pytest.mark.parametrize(
    "name",
    sorted(SAMPLES.keys() - {"native", "big endian", "encapsulated", "deflated"}),
)
@pytest.mark.parametrize(
    "change",
    [
        {"rows": 65535, "columns": 65535},
        {"rows": 63},
        {"bits_allocated": 8, "bits_stored": 8, "samples_per_pixel": 1, "columns": 31},
    ],
)
def test_a_frame_of_another_size_is_refused(name: str, change: dict[str, Any]) -> None:
    """The codestream must be what the attributes tell, and is asked before memory is."""
    data, image = SAMPLES[name]
    with pytest.raises(NotAcceptable):
        decode(data, replace(image, **change))


@pytest.mark.parametrize("name", SAMPLES)
@given(st.data())
def test_damaged_frames_give_values_or_a_sentence(name: str, drawn: st.DataObject) -> None:
    """Changed bytes never crash a decoder and raise nothing but NotAcceptable."""
    data, image = SAMPLES[name]
    damaged = bytearray(data)
    for _ in range(drawn.draw(st.integers(1, 6))):
        at = drawn.draw(st.integers(0, min(len(data) - 1, drawn.draw(st.sampled_from([100, 1 << 20])))))
        damaged[at] = drawn.draw(st.integers(0, 255))
    with suppress(NotAcceptable):
        assert decode(bytes(damaged), image).shape == image.shape


@given(data=st.binary(max_size=300), syntax=st.sampled_from(sorted(DECODABLE)))
def test_any_bytes_give_values_or_a_sentence(data: bytes, syntax: str) -> None:
    image = frames.image(np.zeros((8, 8), "u2"), syntax)
    with suppress(NotAcceptable):
        assert decode(data, image).shape == (8, 8)


def test_unknown_syntaxes_are_named() -> None:
    with pytest.raises(NotAcceptable, match=r"1\.2\.3"):
        decode(b"", frames.image(np.zeros((8, 8), "u2"), "1.2.3"))


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(8, 16), (40, 40), (30, 40), (300, 700), (1, 3)])
def test_jpeg_xl_tells_its_size(container: bool, rows: int, columns: int) -> None:  # noqa: FBT001 (a parameter of the table)
    """Small, proportional and plain sizes, raw and in boxes (ISO/IEC 18181-1 D.2)."""
    values = frames.gray(rows, columns, "u1")
    data = encoded(imagecodecs.jpegxl_encode, values, lossless=True, usecontainer=container)
    assert jpegxl_size(data) == (rows, columns)
    assert np.array_equal(decode(data, frames.image(values, frames.jpeg_uid(110))), values)


def test_jpeg_xl_declared_ybr_is_ybr() -> None:
    """Decoders of JPEG XL give RGB whatever was coded; the attributes are kept."""
    rgb = frames.colour(16, 24)
    image = frames.image(rgb, frames.jpeg_uid(110), "YBR_FULL")
    values = decode(encoded(imagecodecs.jpegxl_encode, rgb, lossless=True), image)
    assert np.abs(colour.rgb(values, image).astype(int) - rgb).max() <= 3


@pytest.mark.parametrize(
    "header",
    [
        b"\xff\x4f\xff\x51\0\x29" + bytes(50) + b"\xff\xd9",  # no components
        b"\xff\x4f\xff\x51\0\x29" + bytes(34) + b"\xff\xff\xff\xd9",  # 65535 components, cut short
        b"\xff\xd8\xff\xc0\0\x04\x08\0\xff\xd9",  # a frame header of two bytes
        b"\xff\xd8\xff\xff\xff\xd0\xff\0\xff\xe0\0\0\xff\xd9",
        b"\xff\xd8\xff\xc2\0\x0b\x08\0\x08\0\x08\1\1\x11\0" + b"\xff\xda" * 300 + b"\xff\xd9",
        b"\0\0\0\1jxlc\0\0\0\0\0\0\0\x18",
        b"\0\0\0\x08jxlp" * 70,
    ],
)
@pytest.mark.parametrize("number", [50, 90, 110])
def test_hostile_headers_are_refused(header: bytes, number: int) -> None:
    with pytest.raises(NotAcceptable):
        decode(header, frames.image(np.zeros((8, 8), "u1"), frames.jpeg_uid(number)))


def test_colour_of_twelve_bits_is_not_converted_wrongly() -> None:
    """Only 8-bit colour changes its model; the rest is said."""
    rgb = frames.colour(16, 16).astype("u2") * 16
    data = encoded(imagecodecs.jpeg8_encode, rgb, 95, bitspersample=12, outcolorspace="RGB")
    image = frames.image(rgb, frames.jpeg_uid(51), "YBR_FULL", bits_stored=12, high_bit=11)
    with pytest.raises(NotAcceptable, match="8 bits"):
        decode(data, image)


def test_compressed_floating_point_is_refused() -> None:
    image = frames.image(np.zeros((4, 4), "<f4"), frames.RLE, tag="7FE00008")
    with pytest.raises(NotAcceptable, match="floating"):
        decode(bytes(100), image)
