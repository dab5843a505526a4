"""What the attributes of one frame become, and what is refused."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import NotAcceptable
from app.pixels.image import SAMPLES, Function, Image, Window, describe

CT: dict[str, Any] = {
    "00280002": {"vr": "US", "Value": [1]},
    "00280004": {"vr": "CS", "Value": ["MONOCHROME2"]},
    "00280010": {"vr": "US", "Value": [512]},
    "00280011": {"vr": "US", "Value": [256]},
    "00280100": {"vr": "US", "Value": [16]},
    "00280101": {"vr": "US", "Value": [12]},
    "00280102": {"vr": "US", "Value": [11]},
    "00280103": {"vr": "US", "Value": [1]},
    "7FE00010": {"vr": "OW", "BulkDataURI": "@/7FE00010"},
}


def made(frame: int = 1, bulk: dict[str, bytes] | None = None, **elements: Any) -> Image:
    """The CT with other elements: keyword arguments of the form x00281050=("DS", ["40"])."""
    metadata = dict(CT)
    for tag, (vr, value) in elements.items():
        if value is None:
            metadata.pop(tag[1:], None)
        else:
            metadata[tag[1:]] = {"vr": vr, "Value": value} if isinstance(value, list) else {"vr": vr} | value
    return describe(metadata, frame, "1.2.840.10008.1.2.1", bulk or {})


def test_the_image_pixel_module() -> None:
    image = made()
    assert (image.rows, image.columns, image.samples_per_pixel) == (512, 256, 1)
    assert (image.bits_allocated, image.bits_stored, image.high_bit) == (16, 12, 11)
    assert image.dtype == np.dtype("<i2")
    assert image.shape == (512, 256)
    assert image.frame_length == 512 * 256 * 2
    assert image.vr == "OW"


@pytest.mark.parametrize(
    ("elements", "sentence"),
    [
        ({"x00280010": ("US", [0])}, "Rows"),
        ({"x00280010": ("US", None)}, "Rows"),
        ({"x00280010": ("LO", ["\x10\x00"])}, "Rows"),
        ({"x00280011": ("US", [70000])}, "Columns"),
        ({"x00280010": ("US", [65535]), "x00280011": ("US", [65535])}, "65535 x 65535"),
        ({"x00280100": ("US", [12])}, "Bits Allocated is 12"),
        ({"x00280100": ("US", None)}, "Bits Allocated is None"),
        ({"x00280004": ("CS", ["YBR_PARTIAL_420"])}, "YBR_PARTIAL_420"),
        ({"x00280004": ("CS", ["RGB"])}, "RGB does not go with 1"),
        ({"x00280002": ("US", [3])}, "MONOCHROME2 does not go with 3"),
    ],
)
def test_what_cannot_be_decoded_is_said(elements: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NotAcceptable, match=sentence):
        made(**elements)


def test_small_mistakes_are_forgiven() -> None:
    """Numbers as strings, more stored than allocated bits, a high bit below the stored ones."""
    image = made(
        x00280010=("US", ["512"]),
        x00280101=("US", [17]),
        x00280102=("US", [3]),
        x00280004=("CS", None),
        x00280002=("US", None),
    )
    assert (image.rows, image.bits_stored, image.high_bit) == (512, 16, 15)
    assert image.photometric_interpretation == "MONOCHROME2"


def test_rescale_and_windows() -> None:
    """DS may be strings; a window without a width, or one that cannot be, is no window."""
    image = made(
        x00281052=("DS", ["-1024"]),
        x00281053=("DS", [2]),
        x00281050=("DS", ["40", "300", 7, 8]),
        x00281051=("DS", ["400", 0, 90]),
        x00281056=("CS", ["SIGMOID"]),
    )
    assert (image.rescale_slope, image.rescale_intercept) == (2, -1024)
    assert image.windows == (Window(40, 400, Function.SIGMOID), Window(7, 90, Function.SIGMOID))
    assert not made(x00281050=("DS", ["NaN"]), x00281051=("DS", ["1"])).windows


def _group(center: int, intercept: int) -> dict[str, Any]:
    return {
        "00289132": {
            "vr": "SQ",
            "Value": [
                {"00281050": {"vr": "DS", "Value": [center]}, "00281051": {"vr": "DS", "Value": [100]}}
            ],
        },
        "00289145": {"vr": "SQ", "Value": [{"00281052": {"vr": "DS", "Value": [intercept]}}]},
    }


def test_functional_groups() -> None:
    """A frame's own group goes before the shared one, that before the top level (C.7.6.16)."""
    elements: dict[str, Any] = {
        "x00281052": ("DS", [-1]),
        "x52009229": ("SQ", [_group(10, -10)]),
        "x52009230": ("SQ", [_group(1, -100), {}]),
    }
    assert [made(frame, **elements).windows[0].center for frame in (1, 2, 3)] == [1, 10, 10]
    assert [made(frame, **elements).rescale_intercept for frame in (1, 2, 3)] == [-100, -10, -10]


def test_padding_follows_the_pixels_sign() -> None:
    """63536 of VR US over signed pixels is -2000; a range has two ends."""
    assert made(x00280120=("US", [63536])).padding == (-2000, -2000)
    assert made(x00280120=("SS", [-5]), x00280121=("SS", [-9])).padding == (-9, -5)
    assert made(x00280120=("SS", [-1]), x00280103=("US", [0])).padding == (65535, 65535)


def _palette(descriptor: list[int], **data: Any) -> dict[str, Any]:
    palette: dict[str, Any] = {"x00280004": ("CS", ["PALETTE COLOR"]), "x00280103": ("US", [0])}
    for n in (1, 2, 3):
        palette[f"x0028110{n}"] = ("US", descriptor)
        palette[f"x0028{data.get('at', '120')}{n}"] = ("OW", data["value"])
    return palette


def test_tables_that_lie_in_bulk_are_asked_for_by_path() -> None:
    """The first description names what it lacks; with these bytes the second one is whole."""
    elements = _palette([3, 0, 16], value={"BulkDataURI": "https://server/elsewhere"})
    elements["x00283010"] = (
        "SQ",
        [{"00283002": {"vr": "US", "Value": [2, 0, 8]}, "00283006": {"vr": "OW", "BulkDataURI": "x"}}],
    )
    image = made(**elements)
    assert image.needs == ("00281201", "00281202", "00281203")
    assert image.palette is None
    whole = made(bulk=dict.fromkeys(image.needs, b"\1\0\2\0\xff\xff"), **elements)
    assert whole.needs == ()
    assert whole.palette is not None
    assert whole.palette[2].values.tolist() == [1, 2, 0xFFFF]
    gray = made(x00283010=elements["x00283010"])
    assert gray.needs == ("00283010/1/00283006",)
    table = made(bulk={gray.needs[0]: b"\7\0\x08\0"}, x00283010=elements["x00283010"]).voi_lut
    assert table is not None
    assert table.values.tolist() == [7, 8]


def test_inline_tables_and_packed_bytes() -> None:
    """InlineBinary is read at once; entries of 8 bits may be packed two a word."""
    inline = {"InlineBinary": b64encode(bytes([9, 8, 7, 0])).decode()}
    palette = made(**_palette([3, 5, 8], value=inline)).palette
    assert palette is not None
    assert palette[0].first == 5
    assert palette[0].bytes8().tolist() == [9, 8, 7]


@pytest.mark.parametrize("inline", ["é", "a", 7])
def test_damaged_inline_data_is_no_table(inline: Any) -> None:
    assert made(**_palette([3, 5, 8], value={"InlineBinary": inline})).palette is None


def test_segmented_palettes() -> None:
    """Discrete, linear and indirect segments (C.7.9.2)."""
    words = [0, 2, 100, 200, 1, 2, 400, 2, 2, 0, 0]
    data = {"InlineBinary": b64encode(np.array(words, "<u2").tobytes()).decode()}
    palette = made(**_palette([8, 0, 16], at="122", value=data)).palette
    assert palette is not None
    assert palette[1].values.tolist() == [100, 200, 300, 400, 100, 200, 300, 400]


@pytest.mark.parametrize(
    "words", [[0, 2, 1, 2], [7, 1, 1], [1, 4, 9], [2, 1, 0, 0], [], [0, 0] * 9, [1, 0, 0]]
)
def test_broken_segments_are_refused(words: list[int]) -> None:
    data = {"InlineBinary": b64encode(np.array(words, "<u2").tobytes()).decode()}
    with pytest.raises(NotAcceptable):
        made(**_palette([8, 0, 16], at="122", value=data))


def test_descriptors() -> None:
    """0 entries are 65536, a large first value is negative over signed pixels, VR SS makes counts negative."""
    data = list(range(4096))
    item = {"00283002": {"vr": "US", "Value": [4096, 63488, 16]}, "00283006": {"vr": "US", "Value": data}}
    table = made(x00283000=("SQ", [item])).modality_lut
    assert table is not None
    assert table.first == -2048
    item = {
        "00283002": {"vr": "SS", "Value": [-32768, -5, 16]},
        "00283006": {"vr": "US", "Value": [1] * 40000},
    }
    table = made(x00283000=("SQ", [item])).modality_lut
    assert table is not None
    assert (table.first, len(table.values)) == (-5, 32768)
    item = {"00283002": {"vr": "US", "Value": [0, 0, 16]}, "00283006": {"vr": "US", "Value": data}}
    with pytest.raises(NotAcceptable, match="65536"):
        made(x00283000=("SQ", [item]))


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(sorted(SAMPLES)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Value", "vr", "InlineBinary", "BulkDataURI", *CT]), inner)
    ),
    max_leaves=6,
)
_tags = st.sampled_from(
    [
        *CT,
        *("00280006", "00280120", "00280121", "00281050", "00281051", "00281052", "00281056", "00281101"),
        *("00281201", "00283000", "00283010", "52009229", "52009230", "20500020"),
    ]
)


@given(
    st.dictionaries(
        _tags, _values | st.fixed_dictionaries({"vr": st.just("US"), "Value": st.lists(_values, max_size=3)})
    )
)
def test_absurd_metadata_is_an_image_or_a_sentence(elements: dict[str, Any]) -> None:
    """Whatever JSON a data set became, nothing but NotAcceptable leaves describe."""
    try:
        image = describe(CT | elements, 1, "1.2.840.10008.1.2.1")
    except NotAcceptable:
        return
    assert image.frame_length > 0
