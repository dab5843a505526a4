"""What the attributes tell about one frame: Image Pixel module, rescale, window, tables (PS3.3 C.7.6.3, C.11)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from app.errors import NotAcceptable
from app.pixels import lut
from app.pixels.elements import Elements
from app.pixels.lut import Table

Array = npt.NDArray[Any]

MAX_PIXELS = 1 << 26
NO_BULK: Mapping[str, bytes] = MappingProxyType({})
FLOAT_PIXELS = {"7FE00008": 32, "7FE00009": 64}
SUBSAMPLED = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})
# Photometric Interpretation to its Samples per Pixel (C.7.6.3.1.2)
SAMPLES = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_PARTIAL_422": 3,
    "YBR_RCT": 3,
    "YBR_ICT": 3,
}


class Function(StrEnum):
    """VOI LUT Function (0028,1056)."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True, slots=True)
class Window:
    """A window into the modality's values (C.11.2.1.2)."""

    center: float
    width: float
    function: Function = Function.LINEAR

    @property
    def valid(self) -> bool:
        """Whether the width suits the function (C.11.2.1.2.1, C.11.2.1.3)."""
        return self.width >= 1 if self.function is Function.LINEAR else self.width > 0


@dataclass(frozen=True, slots=True)
class Image:
    """One frame as its attributes describe it; a plain value that crosses threads and processes."""

    rows: int
    columns: int
    samples_per_pixel: int
    photometric_interpretation: str
    planar_configuration: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    pixel_representation: int
    transfer_syntax_uid: str
    tag: str = "7FE00010"
    vr: str = "OW"
    rescale_slope: float = 1.0
    rescale_intercept: float = 0.0
    windows: tuple[Window, ...] = ()
    modality_lut: Table | None = None
    voi_lut: Table | None = None
    presentation_lut_shape: str = ""
    padding: tuple[int, int] | None = None
    palette: tuple[Table, Table, Table] | None = None
    needs: tuple[str, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a stored value, little endian; a byte for a value of one bit."""
        integer = "i" if self.pixel_representation else "u"
        kind = "f" if self.tag in FLOAT_PIXELS else integer
        return np.dtype(f"<{kind}{max(self.bits_allocated // 8, 1)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns) or (rows, columns, samples)."""
        if self.samples_per_pixel == 1:
            return (self.rows, self.columns)
        return (self.rows, self.columns, self.samples_per_pixel)

    @property
    def frame_bits(self) -> int:
        """The bits of one native frame (PS3.5 8.1, 8.2); subsampled colour shares one CB and CR a pair."""
        if self.photometric_interpretation in SUBSAMPLED:
            return self.rows * ((self.columns + 1) // 2) * 4 * self.bits_allocated
        return self.rows * self.columns * self.samples_per_pixel * self.bits_allocated

    @property
    def frame_length(self) -> int:
        """The bytes of one native frame on its own."""
        return (self.frame_bits + 7) // 8

    @property
    def monochrome(self) -> bool:
        """Whether a window and the grayscale tables apply."""
        return self.photometric_interpretation in {"MONOCHROME1", "MONOCHROME2"}

    @property
    def inverse(self) -> bool:
        """Whether the lowest value is shown white (C.11.6.1.2)."""
        return self.photometric_interpretation == "MONOCHROME1" or self.presentation_lut_shape == "INVERSE"


def describe(
    metadata: Mapping[str, Any],
    frame: int,
    transfer_syntax_uid: str,
    bulk: Mapping[str, bytes] = NO_BULK,
    max_pixels: int = MAX_PIXELS,
) -> Image:
    """The image of one frame (from 1); bulk values that `needs` names are given in a second call."""
    top = Elements(metadata, bulk)
    groups = list(_groups(top, frame))
    tag = next((tag for tag in ("7FE00010", *FLOAT_PIXELS) if tag in top), "7FE00010")
    rows, columns = _size(top, "00280010", "Rows"), _size(top, "00280011", "Columns")
    if rows * columns > max_pixels:
        raise NotAcceptable(f"A frame of {columns} x {rows} pixels is more than this server decodes.")
    samples, photometric = _colour(top)
    allocated, stored, high = _bits(top, tag)
    signed = top.integer("00280103") == 1
    slope, intercept = _rescale(groups)
    gray = photometric in {"MONOCHROME1", "MONOCHROME2"}
    return Image(
        rows=rows,
        columns=columns,
        samples_per_pixel=samples,
        photometric_interpretation=photometric,
        planar_configuration=int(top.integer("00280006") == 1 and samples > 1),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        pixel_representation=int(signed),
        transfer_syntax_uid=transfer_syntax_uid,
        tag=tag,
        vr=top.vr(tag) or "OW",
        rescale_slope=slope,
        rescale_intercept=intercept,
        windows=_windows(_within(groups, "00289132", "00281050", "00281051")),
        modality_lut=_sequence_lut(top, "00283000", signed=signed) if gray else None,
        voi_lut=_sequence_lut(top, "00283010", signed=False) if gray else None,
        presentation_lut_shape=top.text("20500020"),
        padding=_padding(top, allocated, signed=signed) if gray else None,
        palette=_palette(top, signed=signed) if photometric == "PALETTE COLOR" else None,
        needs=tuple(top.needs),
    )


def _groups(top: Elements, frame: int) -> Iterator[Elements]:
    """Where a frame's macros may stand, the most particular first (C.7.6.16)."""
    for group in (top.item("52009230", frame), top.item("52009229")):
        if group is not None:
            yield group
    yield top


def _within(groups: list[Elements], sequence: str, *tags: str) -> Elements | None:
    """The item of a functional group, or the top level, that holds one of the tags."""
    for group in groups:
        for place in (group.item(sequence), group):
            if place is not None and any(tag in place for tag in tags):
                return place
    return None


def _size(top: Elements, tag: str, name: str) -> int:
    value = top.integer(tag)
    if value is None or not 0 < value <= 0xFFFF:
        raise NotAcceptable(f"There is no picture to decode: {name} is missing, zero or not a number.")
    return value


def _colour(top: Elements) -> tuple[int, str]:
    samples = top.integer("00280002") or 1
    photometric = top.text("00280004") or ("MONOCHROME2" if samples == 1 else "RGB")
    if photometric not in SAMPLES:
        raise NotAcceptable(f"The photometric interpretation {photometric[:16]!r} is not decoded here.")
    if samples != SAMPLES[photometric]:
        raise NotAcceptable(f"{photometric} does not go with {samples} samples per pixel.")
    return samples, photometric


def _bits(top: Elements, tag: str) -> tuple[int, int, int]:
    """Bits allocated, stored and the high bit; absurd ones become the plain case."""
    if tag in FLOAT_PIXELS:
        return FLOAT_PIXELS[tag], FLOAT_PIXELS[tag], FLOAT_PIXELS[tag] - 1
    allocated = top.integer("00280100")
    if allocated not in {1, 8, 16, 32, 64}:
        raise NotAcceptable(f"Bits Allocated is {allocated}; 1, 8, 16, 32 and 64 are decoded.")
    stored = top.integer("00280101")
    if stored is None or not 1 <= stored <= allocated:
        stored = allocated
    high = top.integer("00280102")
    if high is None or not stored - 1 <= high < allocated:
        high = stored - 1
    return allocated, stored, high


def _rescale(groups: list[Elements]) -> tuple[float, float]:
    place = _within(groups, "00289145", "00281053", "00281052")
    return (1.0, 0.0) if place is None else (place.number("00281053", 1.0), place.number("00281052", 0.0))


def _windows(place: Elements | None) -> tuple[Window, ...]:
    if place is None:
        return ()
    centers, widths = place.numbers("00281050"), place.numbers("00281051")
    name = place.text("00281056") or "LINEAR"
    function = Function(name) if name in set(Function) else Function.LINEAR
    windows = (Window(center, width, function) for center, width in zip(centers, widths, strict=False))
    return tuple(window for window in windows if window.valid)


def _sequence_lut(top: Elements, sequence: str, *, signed: bool) -> Table | None:
    item = top.item(sequence)
    return None if item is None else lut.read(item, "00283002", "00283006", signed=signed)


def _padding(top: Elements, allocated: int, *, signed: bool) -> tuple[int, int] | None:
    """The range of values that are no picture (C.7.5.1.1.2), as stored values."""
    value = top.integer("00280120")
    if value is None:
        return None
    limit = top.integer("00280121")
    ends = [_as_stored(end, allocated, signed=signed) for end in (value, value if limit is None else limit)]
    return min(ends), max(ends)


def _as_stored(value: int, allocated: int, *, signed: bool) -> int:
    """A value whose VR (US or SS) did not follow the pixel representation."""
    value &= (1 << allocated) - 1
    return value - (1 << allocated) if signed and value >> (allocated - 1) else value


def _palette(top: Elements, *, signed: bool) -> tuple[Table, Table, Table] | None:
    tables = [lut.read(top, f"0028110{n}", f"0028120{n}", f"0028122{n}", signed=signed) for n in (1, 2, 3)]
    red, green, blue = tables
    if red is None or green is None or blue is None:
        return None
    return red, green, blue
