"""The grayscale pipeline against the formulas and examples of PS3.3 C.11."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.pixels import window
from app.pixels.image import Function, Image, Window
from app.pixels.lut import Table
from tests.pixels import frames

LINEAR, EXACT, SIGMOID = Function.LINEAR, Function.LINEAR_EXACT, Function.SIGMOID


def table(first: int, bits: int, *entries: int) -> Table:
    return Table(first, bits, np.array(entries, "<u2").tobytes())


# The notes of C.11.2.1.2.1 and C.11.2.1.3.2: center, width, function, value, share of the display
SHARES = [
    (2048, 4096, LINEAR, 0, 0),
    (2048, 4096, LINEAR, 4095, 1),
    (2048, 4096, LINEAR, 1000, (1000 - 2047.5) / 4095 + 0.5),
    (2048, 1, LINEAR, 2047, 0),
    (2048, 1, LINEAR, 2047.5, 0),
    (2048, 1, LINEAR, 2048, 1),
    (0, 100, LINEAR, -50, 0),
    (0, 100, LINEAR, 49, 1),
    (0, 100, LINEAR, 10, 10.5 / 99 + 0.5),
    (0, 1, LINEAR, -0.5, 0),
    (0, 1, LINEAR, -0.4, 1),
    (2048, 4096, EXACT, 0, 0),
    (2048, 4096, EXACT, 4096, 1),
    (2048, 4096, EXACT, 1024, 0.25),
    (2048, 1, EXACT, 2047.5, 0),
    (2048, 1, EXACT, 2048.5, 1),
    (0, 100, EXACT, -50, 0),
    (0, 100, EXACT, 50, 1),
    (0, 100, EXACT, 25, 0.75),
    (0, 0.5, EXACT, 0.125, 0.75),
    (100, 40, SIGMOID, 100, 0.5),
    (100, 40, SIGMOID, 110, 1 / (1 + math.exp(-1))),
    (100, 40, SIGMOID, 80, 1 / (1 + math.exp(2))),
    (0, 1, SIGMOID, -1e9, 0),
    (0, 1, SIGMOID, 1e9, 1),
]


@pytest.mark.parametrize(("center", "width", "function", "value", "share"), SHARES)
def test_window_functions(
    center: float, width: float, function: Function, value: float, share: float
) -> None:
    """The values that the standard's formulas give."""
    made = window.apply(np.array([float(value)]), Window(center, width, function))
    assert made[0] == pytest.approx(share, abs=1e-12)


def shown(values: list[int], dtype: str = "i2", asked: Window | None = None, **attributes: Any) -> list[int]:
    """One row of stored values as the display shows it."""
    stored = np.array([values], dtype)
    image = frames.image(stored, **attributes)
    return [int(value) for value in window.gray(stored, image, asked)[0]]


def test_without_a_window_the_frame_fills_the_display() -> None:
    assert shown([-100, 0, 100]) == [0, 128, 255]
    assert shown([-100, 0, 100], rescale_slope=-1.0) == [255, 128, 0]
    assert shown([7, 7, 7]) == [0, 0, 0]
    assert shown([1, 1], "u1", bits_allocated=1, bits_stored=1) == [255, 255]


def test_rescale_comes_before_the_window() -> None:
    """C.11.1: the window is in the modality's units."""
    own = (Window(0, 100, EXACT), Window(1000, 1, EXACT))
    assert shown([974, 1024, 1074], rescale_intercept=-1024.0, windows=own) == [0, 128, 255]
    assert shown([487, 512, 537], rescale_slope=2.0, rescale_intercept=-1024.0, windows=own) == [0, 128, 255]


def test_a_window_that_is_asked_for_goes_first() -> None:
    attributes: dict[str, Any] = {"windows": (Window(0, 1),), "voi_lut": table(0, 8, 9, 9)}
    assert shown([0, 50, 100], asked=Window(50, 100, EXACT), **attributes) == [0, 128, 255]


@pytest.mark.parametrize(
    "attributes", [{"photometric": "MONOCHROME1"}, {"presentation_lut_shape": "INVERSE"}]
)
def test_inverse_presentation(attributes: dict[str, Any]) -> None:
    """MONOCHROME1 and INVERSE show the lowest value white; both together are one inversion."""
    assert shown([0, 50, 100], **attributes) == [255, 128, 0]
    both: dict[str, Any] = {"photometric": "MONOCHROME1", "presentation_lut_shape": "INVERSE"}
    assert shown([0, 50, 100], **both) == [255, 128, 0]


def test_padding_is_black_and_does_not_widen_the_range() -> None:
    """C.7.5.1.1.2: padding takes no part in the transformations."""
    assert shown([-2000, 0, 100], padding=(-2000, -2000)) == [0, 0, 255]
    assert shown([-2000, -1990, 0, 100], padding=(-2000, -1990), photometric="MONOCHROME1") == [0, 0, 255, 0]
    assert shown([5, 5], padding=(5, 5)) == [0, 0]


def test_lookup_tables() -> None:
    """Modality LUT, then VOI LUT over its results; beyond the ends the end entries hold (C.11.1.1)."""
    modality = table(10, 16, 0, 1000, 500)
    assert shown([0, 10, 11, 12, 99], modality_lut=modality, asked=Window(500, 1000, EXACT)) == [
        0,
        0,
        255,
        128,
        128,
    ]
    voi = table(0, 12, 4095, 0)
    assert shown([-5, 0, 1, 7], voi_lut=voi) == [255, 255, 0, 0]
    assert shown([0, 1, 2], rescale_intercept=-1.0, voi_lut=voi) == [255, 255, 0]


def test_floating_point_frames() -> None:
    """Not a number and infinities are black or white, never a warning."""
    stored = np.array([[0.0, 0.5, 1.0, np.nan, np.inf]], "<f4")
    image = frames.image(stored, tag="7FE00008")
    assert window.gray(stored, image).tolist() == [[0, 128, 255, 0, 255]]
    huge = np.array([[-1.7e308, 1.7e308]])
    assert window.gray(huge, frames.image(huge, tag="7FE00009", rescale_slope=3.0)).shape == (1, 2)
    assert window.gray(np.full((2, 2), np.nan, "<f4"), image).tolist() == [[0, 0], [0, 0]]


@given(
    seed=st.integers(0, 1 << 30),
    dtype=st.sampled_from(["u1", "i1", "u2", "i2"]),
    center=st.integers(-5000, 5000),
    width=st.integers(1, 9000),
    function=st.sampled_from(Function),
    padded=st.booleans(),
)
def test_the_table_shows_what_the_formula_shows(
    seed: int, dtype: str, center: int, width: int, function: Function, *, padded: bool
) -> None:
    """The fast way over a table equals value by value, for every type and window."""
    stored = frames.gray(64, 64, dtype, seed=seed)
    image: Image = frames.image(stored, rescale_slope=1.5, rescale_intercept=-10.0)
    if padded:
        low = int(stored.min())
        image = replace(image, padding=(low, low + 3))
    asked = Window(center, width, function)
    assert np.array_equal(window.gray(stored, image, asked), window._direct(stored, image, asked))
    assert np.array_equal(window.gray(stored, image), window._direct(stored, image, None))
