"""A rendered frame: what is in it, how large it is, how it is encoded."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from app.errors import NotAcceptable
from app.pixels import encode
from app.pixels.encode import Viewport
from app.pixels.image import Function, Image, Window
from app.pixels.lut import Table
from app.pixels.picture import Options, displayed, picture
from tests.pixels import frames
from tests.pixels.frames import encoded

PNG = "image/png"
VALUES = frames.gray(40, 60, "u2")
IMAGE = frames.image(VALUES)


def opened(data: bytes) -> np.ndarray[Any, np.dtype[Any]]:
    return np.asarray(Picture.open(BytesIO(data)))


def test_png_is_exactly_what_is_displayed() -> None:
    asked = Window(30000, 20000, Function.LINEAR_EXACT)
    data = VALUES.tobytes()
    made = opened(picture(data, IMAGE, Options(PNG, window=asked)))
    assert np.array_equal(made, displayed(data, IMAGE, asked))


def test_jpeg_quality() -> None:
    """A lower quality is smaller; both are nearly the picture."""
    data = VALUES.tobytes()
    high, low = (picture(data, IMAGE, Options(quality=quality)) for quality in (95, 20))
    assert len(low) < len(high)
    assert np.abs(opened(high).astype(int) - displayed(data, IMAGE)).mean() < 4


def test_a_media_type_that_is_not_made_is_named() -> None:
    with pytest.raises(NotAcceptable, match="image/png"):
        picture(VALUES.tobytes(), IMAGE, Options("image/gif"))


def _photometrics() -> dict[str, tuple[bytes, Image]]:
    rgb = frames.colour(32, 48)
    ybr = np.asarray(Picture.fromarray(rgb).convert("YCbCr"))
    pairs = np.concatenate([ybr[:, 0::2, :1], ybr[:, 1::2, :1], ybr[:, 0::2, 1:]], axis=2)
    scale = np.array([219 / 255, 224 / 255, 224 / 255, 224 / 255])[[0, 0, 1, 2]]
    offset = np.array([16, 16, 128 - 128 * 224 / 255, 128 - 128 * 224 / 255])
    partial = np.rint(pairs * scale + offset).astype("u1")
    index, entries = rgb.reshape(-1, 3), np.arange(32 * 48, dtype="<u2").reshape(32, 48)
    palette = tuple(Table(0, 16, (index[:, n].astype("<u2") * 257).tobytes()) for n in range(3))
    wide = rgb.astype("u2") * 257
    return {
        "RGB": (rgb.tobytes(), frames.image(rgb)),
        "RGB of 16 bits": (wide.tobytes(), frames.image(wide)),
        "planes": (rgb.transpose(2, 0, 1).tobytes(), frames.image(rgb, planar_configuration=1)),
        "YBR_FULL": (ybr.tobytes(), frames.image(rgb, photometric="YBR_FULL")),
        "YBR_FULL_422": (pairs.tobytes(), frames.image(rgb, photometric="YBR_FULL_422")),
        "YBR_PARTIAL_422": (partial.tobytes(), frames.image(rgb, photometric="YBR_PARTIAL_422")),
        "PALETTE COLOR": (
            entries.tobytes(),
            frames.image(entries, photometric="PALETTE COLOR", palette=palette),
        ),
        "JPEG": (
            encoded(imagecodecs.jpeg8_encode, rgb, 97),
            frames.image(rgb, frames.jpeg_uid(50), "YBR_FULL"),
        ),
        "JPEG 2000": (
            encoded(imagecodecs.jpeg2k_encode, rgb, level=0, reversible=True),
            frames.image(rgb, frames.jpeg_uid(90), "YBR_RCT"),
        ),
    }


PHOTOMETRICS = _photometrics()


@pytest.mark.parametrize("name", PHOTOMETRICS)
def test_every_photometric_interpretation_shows_the_same_colours(name: str) -> None:
    data, image = PHOTOMETRICS[name]
    made = opened(picture(data, image, Options(PNG))).astype(int)
    assert np.abs(made - frames.colour(32, 48)).mean() < 2.5


def test_a_stored_baseline_jpeg_goes_out_as_it_is() -> None:
    """Nothing is lost by encoding twice, when nothing is asked for; a window of colour is no reason to."""
    data, image = PHOTOMETRICS["JPEG"]
    assert picture(data, image, Options()) == data
    assert picture(data, image, Options(quality=50)) != data
    assert opened(picture(data, image, Options(viewport=Viewport(10, 10)))).shape == (7, 10, 3)


def test_signed_jpeg_2000_under_unsigned_attributes_is_shown_with_its_sign() -> None:
    values = frames.gray(32, 32, "i2")
    data = encoded(imagecodecs.jpeg2k_encode, values, level=0, reversible=True, codecformat="j2k")
    image = frames.image(values, frames.jpeg_uid(90))
    wrong = replace(image, pixel_representation=0)
    assert np.array_equal(displayed(data, wrong), displayed(data, image))


@pytest.mark.parametrize(
    "missing", [{"needs": ("00281201",)}, {"photometric_interpretation": "PALETTE COLOR"}]
)
def test_a_picture_without_its_tables_is_refused(missing: dict[str, Any]) -> None:
    with pytest.raises(NotAcceptable):
        picture(VALUES.tobytes(), replace(IMAGE, **missing), Options())


@pytest.mark.parametrize(
    ("viewport", "shape"),
    [
        (Viewport(30, 30), (20, 30)),
        (Viewport(120, 1000), (80, 120)),
        (Viewport(60, 40), (40, 60)),
        (Viewport(100, 100, 10, 10, 20, 20), (100, 100)),
        (Viewport(10, 10, 50, 30), (10, 10)),
        (Viewport(1, 1), (1, 1)),
        (encode.thumbnail(128), (40, 60)),
        (encode.thumbnail(30), (20, 30)),
    ],
)
def test_viewports_keep_the_proportions(viewport: Viewport, shape: tuple[int, int]) -> None:
    """PS3.18 8.3.5.1.3: as large as fits; a thumbnail is never enlarged."""
    assert opened(picture(VALUES.tobytes(), IMAGE, Options(PNG, viewport=viewport))).shape == shape


def test_a_negative_source_size_flips() -> None:
    pixels = np.arange(12, dtype="u1").reshape(3, 4)
    region = Viewport(4, 3, 0, 0, -4, 3)
    assert np.array_equal(encode.fit(pixels, region), pixels[:, ::-1])
    assert np.array_equal(encode.fit(pixels, replace(region, source_width=4, source_height=-3)), pixels[::-1])


@pytest.mark.parametrize(
    "viewport",
    [
        Viewport(0, 10),
        Viewport(10, 1 << 20),
        Viewport(9, 9, 60),
        Viewport(9, 9, 0, 0, 0, 5),
        Viewport(9, 9, float("nan")),
    ],
)
def test_impossible_viewports_are_refused(viewport: Viewport) -> None:
    with pytest.raises(NotAcceptable):
        picture(VALUES.tobytes(), IMAGE, Options(viewport=viewport))


@given(
    st.builds(
        Viewport,
        st.integers(1, 200),
        st.integers(1, 200),
        st.floats(-70, 70),
        st.floats(-50, 50),
        st.none() | st.floats(-99, 99),
        st.none() | st.floats(-99, 99),
        st.booleans(),
    )
)
def test_any_viewport_fits_or_is_refused(viewport: Viewport) -> None:
    pixels = np.zeros((40, 60), "u1")
    try:
        made = encode.fit(pixels, viewport)
    except NotAcceptable:
        return
    rows, columns = made.shape
    assert viewport.enlarge is False or (rows <= viewport.height and columns <= viewport.width)


def test_work_can_be_sent_to_another_process() -> None:
    """The function and all its arguments are picklable, tables included."""
    data, image = PHOTOMETRICS["PALETTE COLOR"]
    work = (picture, data, image, Options(viewport=Viewport(9, 9), window=Window(1, 2)))
    function, *arguments = pickle.loads(pickle.dumps(work))
    assert function(*arguments) == picture(*work[1:])


def test_threads_do_not_disturb_each_other() -> None:
    """All kinds of frames at once give what they give alone."""
    work = [(data, image) for data, image in PHOTOMETRICS.values()] * 10
    alone = [picture(data, image, Options(PNG)) for data, image in work]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda pair: picture(pair[0], pair[1], Options(PNG)), work))
    assert together == alone
