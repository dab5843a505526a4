"""From stored values to a display of 8 bits: modality, VOI, presentation (PS3.3 C.11, PS3.4 N.2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.pixels.image import Array, Function, Image, Window

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def gray(stored: Array, image: Image, window: Window | None = None) -> Bytes:
    """A monochrome frame as it is to be seen; without any window its own range is spread over the display."""
    if stored.dtype.kind == "f" or stored.dtype.itemsize > 2:
        with np.errstate(over="ignore", invalid="ignore"):
            return _direct(stored, image, window)
    low, high = (int(end) for end in _range(stored, image))
    if high - low >= stored.size:
        return _direct(stored, image, window)
    bits = stored.dtype.itemsize * 8
    values = np.arange(low, high + 1)
    table = np.zeros(1 << bits, np.uint8)  # what is not in the range is padding: black
    table[values & ((1 << bits) - 1)] = _shade(values, image, window or _own(low, high, image))
    if image.padding is not None:
        first, last = (min(max(end, low), high + 1) for end in (image.padding[0], image.padding[1] + 1))
        table[np.arange(first, last) & ((1 << bits) - 1)] = 0
    return np.take(table, stored.view(f"<u{stored.dtype.itemsize}"))


def _direct(stored: Array, image: Image, window: Window | None) -> Bytes:
    """Value by value: floating point, wide integers, and frames smaller than their range."""
    low, high = _range(stored, image)
    shades = _shade(stored, image, window or _own(low, high, image))
    if image.padding is not None:
        shades[_padded(stored, image.padding)] = 0
    return shades


def _padded(stored: Array, padding: tuple[int, int]) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = (stored >= padding[0]) & (stored <= padding[1])
    return inside


def _range(stored: Array, image: Image) -> tuple[int | float, int | float]:
    """The least and greatest value that is picture."""
    kept = stored
    if image.padding is not None:
        kept = stored[~_padded(stored, image.padding)]
    if stored.dtype.kind == "f":
        kept = kept[np.isfinite(kept)]
    if not kept.size:
        return 0, 0
    return kept.min().item(), kept.max().item()


def _own(low: float, high: float, image: Image) -> Window | None:
    """The object's first window; a VOI LUT goes before it, None leaves the frame's own range."""
    if image.voi_lut is not None:
        return None
    if image.windows:
        return image.windows[0]
    if image.bits_stored == 1:
        low, high = 0, 1  # a mask of nothing but ones is white
    if image.modality_lut is not None and high - low < 1 << 16:
        ends = modality(np.arange(low, high + 1), image)
    else:
        ends = modality(np.array([low, high]), image)
    low, high = float(ends.min()), float(ends.max())
    if not high > low:
        return Window(low + 1, 1, Function.LINEAR_EXACT)
    return Window((low + high) / 2, high - low, Function.LINEAR_EXACT)


def _shade(values: Array, image: Image, window: Window | None) -> Bytes:
    """Values through the whole pipeline, 0 for black."""
    shown = modality(values, image)
    if window is not None:
        shares = apply(shown, window)
    else:
        assert image.voi_lut is not None
        shares = image.voi_lut.look_up(shown) / ((1 << image.voi_lut.bits) - 1)
    if image.inverse:
        shares = 1 - shares
    return (np.nan_to_num(shares) * 255 + 0.5).astype(np.uint8)


def modality(values: Array, image: Image) -> Floats:
    """Stored values to the modality's: a table or slope and intercept (C.11.1)."""
    if image.modality_lut is not None:
        return image.modality_lut.look_up(values).astype(np.float64)
    numbers = np.nan_to_num(values.astype(np.float64))
    if image.rescale_slope != 1 or image.rescale_intercept:
        numbers = numbers * image.rescale_slope + image.rescale_intercept
    return numbers


def apply(values: Floats, window: Window) -> Floats:
    """The share of the display, 0 to 1, that a window gives each value (C.11.2.1.2.1, C.11.2.1.3)."""
    center, width = window.center, window.width
    width = max(width, 1e-9)  # a narrower one is a step all the same, and divides beyond all numbers
    if window.function is Function.SIGMOID:
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if window.function is Function.LINEAR_EXACT:
        return np.clip((values - center) / width + 0.5, 0, 1)
    if width <= 1:  # a step: C.11.2.1.2.1 leaves nothing between black and white
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
