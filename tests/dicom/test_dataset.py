"""Random data sets in both little endian encodings, read by pydicom and by us."""

from __future__ import annotations

import math
import struct
import warnings
from io import BytesIO
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, Sequence, config, dcmread, dcmwrite
from pydicom.datadict import dictionary_VR
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from app.dicom import elements, tags
from app.dicom.scanner import Limits, Scan
from app.errors import Refused
from tests.dicom.corpus import as_documented, comparable, normalised, odd_instance, pydicom_json, scan, sliced
from tests.make import instance

# Attributes that the builders set, that decide how others are read, or whose value pydicom amends.
_TAKEN = {
    "00080005",
    "00080016",
    "00080018",
    "0020000D",
    "0020000E",
    "00280103",
    *tags.LUT_DESCRIPTORS,
    *elements.PIXELS,
}
_BY_VR: dict[str, list[int]] = {}
for _tag, _vr in tags.standard_tags():
    if (
        _tag not in _TAKEN
        and _tag >= "00080000"
        and _tag not in tags.SIGNED_OR_NOT
        and not _tag.endswith("0000")
        and " OW" not in dictionary_VR(int(_tag, 16))  # pydicom leaves the choice open in Implicit VR
    ):
        _BY_VR.setdefault(_vr, []).append(int(_tag, 16))

_letters = st.text(
    st.characters(
        codec="utf-8", exclude_characters="\\^=\0\x1b\x7f\x85", exclude_categories=["Cc", "Cs", "Z"]
    ),
    min_size=1,
    max_size=10,
)
_ascii = st.text("ABCxyz019_ -.", min_size=1, max_size=12).map(str.strip).filter(bool)


def _several(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=2, max_size=4)


def _integers(bits: int, *, signed: bool) -> st.SearchStrategy[Any]:
    low = -(1 << bits - 1) if signed else 0
    return _several(st.integers(low, low + (1 << bits) - 1))


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("AE", "AS", "CS", "DA", "DT", "TM", "SH", "LO", "UC"), _several(_ascii)),
    **dict.fromkeys(("LO", "SH", "UC", "PN"), _several(_letters)),
    **dict.fromkeys(("LT", "ST", "UT"), _letters),
    "UR": _ascii,
    "UI": _several(st.text("0123456789.", min_size=1, max_size=20)),
    "DS": _several(st.decimals(-(10**6), 10**6, places=4).map(str) | st.integers(-(10**9), 10**9).map(str)),
    "IS": _several(st.integers(-(2**31), 2**31 - 1).map(str)),
    "AT": _several(st.integers(0, 0xFFFFFFFF)),
    "US": _integers(16, signed=False),
    "SS": _integers(16, signed=True),
    "UL": _integers(32, signed=False),
    "SL": _integers(32, signed=True),
    "UV": _integers(64, signed=False),
    "SV": _integers(64, signed=True),
    "FL": _several(st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "FD": _several(st.floats(allow_nan=False, allow_infinity=False)),
    **{
        vr: st.binary(max_size=1500).map(lambda value: value + bytes(-len(value) % 8))
        for vr in ("OB", "OW", "OF", "OD", "OL", "OV")
    },
}

_element = st.sampled_from(sorted(vr for vr in _VALUES if vr in _BY_VR)).flatmap(
    lambda vr: st.tuples(st.sampled_from(_BY_VR[vr]), st.just(vr), st.none() | _VALUES[vr])
)
_items = st.recursive(
    st.lists(_element, max_size=5),
    lambda inner: st.lists(
        _element | st.tuples(st.sampled_from(_BY_VR["SQ"]), st.just("SQ"), st.lists(inner, max_size=3)),
        max_size=5,
    ),
    max_leaves=8,
)


def _made(described: list[tuple[int, str, Any]], target: Dataset, *, undefined: bool) -> Dataset:
    for tag, vr, value in described:
        if vr == "SQ":
            items = [_made(item, Dataset(), undefined=undefined) for item in value]
            for item in items:
                item.is_undefined_length_sequence_item = undefined
            target.add_new(tag, vr, Sequence(items))
            target[tag].is_undefined_length = undefined
        else:
            target.add_new(tag, vr, value)
    return target


@given(
    described=_items,
    undefined=st.booleans(),
    syntax=st.sampled_from(
        [
            ExplicitVRLittleEndian,
            ImplicitVRLittleEndian,
            ExplicitVRBigEndian,
            DeflatedExplicitVRLittleEndian,
        ]
    ),
    size=st.integers(1, 300),
)
def test_random_data_sets_are_what_pydicom_writes(
    *, described: list[tuple[int, str, Any]], undefined: bool, syntax: str, size: int
) -> None:
    """Any valid data set, in any encoding and chunking, gives pydicom's JSON but for what is documented."""
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        first = instance(syntax, PixelData=None)
        data = _made(described, _parsed(first), undefined=undefined)
        buffer = BytesIO()
        dcmwrite(buffer, data, enforce_file_format=True)
        written = buffer.getvalue()
        # pydicom leaves words in big endian: there its JSON of the normalised object counts
        is_big_endian = syntax == ExplicitVRBigEndian
        expected = as_documented(pydicom_json(normalised(written) if is_big_endian else written))
    limits = Limits(normalise=True)
    found = scan(written, sliced(written, size), limits=limits)
    assert comparable(found.json) == expected
    assert scan(written, limits=limits) == found


def _parsed(data: bytes) -> Dataset:
    return dcmread(BytesIO(data))


def _explicit(tag: str, vr: str, value: bytes) -> bytes:
    if elements.layout_of(vr) == elements.LONG:
        return tags.key_of(tag) + vr.encode() + struct.pack("<HI", 0, len(value)) + value
    return tags.key_of(tag) + vr.encode() + struct.pack("<H", len(value)) + value


def _implicit(tag: str, value: bytes, length: int | None = None) -> bytes:
    return tags.key_of(tag) + struct.pack("<I", len(value) if length is None else length) + value


def _after(*more: bytes, syntax: str = ExplicitVRLittleEndian, **options: Any) -> Scan:
    """An instance without pixels, and raw elements after it."""
    return scan(instance(syntax, PixelData=None) + b"".join(more), **options)


def _element_of(found: Scan, tag: str) -> Any:
    return orjson.loads(found.json)[tag]


UNDEFINED = 0xFFFFFFFF
ITEM_END = _implicit("FFFEE00D", b"")
SEQUENCE_END = _implicit("FFFEE0DD", b"")


def test_unknown_of_undefined_length_is_a_sequence() -> None:
    """UN of undefined length holds items in Implicit VR (PS3.5 6.2.2)."""
    item = _implicit("FFFEE000", b"", UNDEFINED) + _implicit("00100020", b"A1") + ITEM_END
    raw = tags.key_of("00091001") + b"UN\0\0\xff\xff\xff\xff" + item + SEQUENCE_END
    found = _after(raw, _explicit("70010010", "LO", b"after "))
    assert _element_of(found, "00091001") == {
        "vr": "SQ",
        "Value": [{"00100020": {"vr": "LO", "Value": ["A1"]}}],
    }
    assert _element_of(found, "70010010") == {"vr": "LO", "Value": ["after"]}


def test_unknown_of_a_known_tag_is_what_the_dictionary_says() -> None:
    """UN is resolved where the dictionary, or the private one by its creator, knows the tag."""
    found = _after(
        _explicit("40010010", "UN", b"NOBODY"),
        _explicit("40011001", "UN", b"\1\2"),
        _explicit("40089215", "UN", b""),
        _explicit("40100001", "UN", b"LOW "),
    )
    assert _element_of(found, "40010010") == {"vr": "LO", "Value": ["NOBODY"]}
    assert _element_of(found, "40011001") == {"vr": "UN", "InlineBinary": "AQI="}
    assert _element_of(found, "40100001") == {"vr": "CS", "Value": ["LOW"]}


@pytest.mark.parametrize(
    ("vr", "value"),
    [("US", b"\1"), ("FD", bytes(7)), ("AT", bytes(6)), ("SV", bytes(4))],
)
def test_a_number_of_the_wrong_length_is_unknown(vr: str, value: bytes) -> None:
    """Bytes that their VR cannot mean are kept as UN."""
    assert _element_of(_after(_explicit("70010010", vr, value)), "70010010")["vr"] == "UN"


def test_icons_in_fragments_are_passed_by() -> None:
    """Encapsulated pixels inside a sequence are bulk data, and the elements after them are read."""
    fragments = _implicit("FFFEE000", b"") + _implicit("FFFEE000", b"\xff\xd8\xff\xd9") + SEQUENCE_END
    icon = (
        tags.key_of("7FE00010") + b"OB\0\0\xff\xff\xff\xff" + fragments + _explicit("7FE10010", "LO", b"in")
    )
    raw = _explicit("00880200", "SQ", _implicit("FFFEE000", icon))
    found = _after(raw, _explicit("70010010", "LO", b"out "))
    item = _element_of(found, "00880200")["Value"][0]
    assert item["7FE00010"] == {"vr": "OB", "BulkDataURI": "@/00880200/1/7FE00010"}
    assert item["7FE10010"]["Value"] == ["in"]
    assert _element_of(found, "70010010")["Value"] == ["out"]
    assert found.pixels is None


def test_what_comes_after_pixel_data_is_read() -> None:
    """Padding and signatures follow the pixels."""
    padding = tags.key_of("FFFCFFFC") + b"OB\0\0" + struct.pack("<I", 2000) + bytes(2000)
    data = instance()
    found = scan(data + padding)
    assert _element_of(found, "FFFCFFFC") == {"vr": "OB", "BulkDataURI": "@/FFFCFFFC"}
    assert [bulk.path for bulk in found.bulk] == ["7FE00010", "FFFCFFFC"]
    assert scan(data + bytes(7)).size == len(data) + 7


@pytest.mark.parametrize(
    "raw",
    [
        ITEM_END,
        SEQUENCE_END,
        _implicit("FFFEE000", b""),
        _explicit("00091001", "SQ", _explicit("00100020", "LO", b"AB")),
        _explicit("00091001", "SQ", _implicit("FFFEE000", b"", 80)),
        _explicit("00091001", "SQ", _implicit("FFFEE000", _explicit("00100020", "LO", b"AB")[:-1])),
        tags.key_of("7FE00010") + b"OW\0\0\xff\xff\xff\xff" + _implicit("FFFEE000", b"", UNDEFINED),
        tags.key_of("7FE00010") + b"OW\0\0\xff\xff\xff\xff" + ITEM_END,
        tags.key_of("7FE00010") + b"OW\0\0\xff\xff\xff\xff" + _explicit("00100020", "LO", b"AB"),
        tags.key_of("70010010") + b"UT\0\0\xff\xff\xff\xff",
    ],
    ids=[
        "item-end", "sequence-end", "item", "no-item", "item-too-long", "element-too-long", "fragment-undefined",
        "fragment-end", "no-fragment", "text-undefined",
    ],
)  # fmt: skip
def test_broken_structure_is_refused(raw: bytes) -> None:
    """What stands where it must not is refused with a sentence."""
    with pytest.raises(
        Refused, match=r"stands where|no item|reaches past|no valid length|no fragment|undefined"
    ):
        _after(raw)


def test_items_inherit_and_override_characters() -> None:
    """An item's character set holds inside it only; Pixel Representation likewise (PS3.5 7.5.3)."""
    inner = _explicit("00080005", "CS", b"ISO_IR 100") + _explicit(
        "00100010", "PN", "Ä".encode("latin-1") + b" "
    )
    raw = _explicit(
        "00091001",
        "SQ",
        _implicit("FFFEE000", inner) + _implicit("FFFEE000", _explicit("00100010", "PN", "Ä".encode())),
    )
    found = _after(raw, _explicit("70010010", "LO", "Ö".encode()))
    items = _element_of(found, "00091001")["Value"]
    assert [item["00100010"]["Value"][0]["Alphabetic"] for item in items] == ["Ä", "Ä"]
    assert _element_of(found, "70010010")["Value"] == ["Ö"]


@pytest.mark.parametrize(
    ("signed", "expected"), [(0, ("US", 65531)), (1, ("SS", -5))], ids=["unsigned", "signed"]
)
def test_pixel_representation_decides_the_sign(signed: int, expected: tuple[str, int]) -> None:
    """US or SS is decided by Pixel Representation in Implicit VR."""
    value = struct.pack("<h", -5)
    data = odd_instance(ImplicitVRLittleEndian, PixelRepresentation=signed, PixelData=None)
    found = scan(data + _implicit("00280120", value))
    vr, number = expected
    assert _element_of(found, "00280120") == {"vr": vr, "Value": [number]}


def test_a_lut_descriptor_is_signed_in_the_middle_only() -> None:
    """Of a LUT Descriptor only the second value can be negative (PS3.3 C.11.1.1)."""
    found = _after(_explicit("00281101", "SS", struct.pack("<HhH", 40000, -7, 16)))
    assert _element_of(found, "00281101")["Value"] == [40000, -7, 16]


def test_not_finite_numbers_are_strings() -> None:
    """JSON has no NaN and no infinity."""
    value = struct.pack("<4d", math.nan, math.inf, -math.inf, 1.5)
    assert _element_of(_after(_explicit("70010010", "FD", value)), "70010010")["Value"] == [
        "NaN",
        "inf",
        "-inf",
        1.5,
    ]


def test_group_lengths_and_commands_are_dropped() -> None:
    """(gggg,0000) and the groups 0000 and 0002 are no part of the JSON."""
    found = _after(
        _explicit("70010000", "UL", bytes(4)),
        _explicit("00020010", "UI", b"1.2 "),
        _explicit("00000002", "UI", b"1."),
    )
    assert not {"70010000", "00020010", "00000002"} & set(orjson.loads(found.json))


def test_long_values_become_bulk_or_are_refused() -> None:
    """Numbers and prose beyond their bound are bulk data, what may not be bulk is refused."""
    limits = Limits(value_bytes=2000)
    found = _after(_explicit("70010010", "UT", b"x" * 2002), limits=limits)
    assert _element_of(found, "70010010") == {"vr": "UT", "BulkDataURI": "@/70010010"}
    with pytest.raises(Refused, match=r"\(7001,0010\) is too long"):
        _after(_explicit("70010010", "LO", b"x" * 2002), limits=limits)


def test_a_flood_of_elements_is_refused() -> None:
    """The number of elements is bounded, however they come."""
    flood = _explicit("70010010", "LO", b"") * 2000
    with pytest.raises(Refused, match="more than 1000 elements"):
        _after(flood, limits=Limits(elements=1000))
    items = _implicit("FFFEE000", b"") * 2000
    with pytest.raises(Refused, match="more than 1000 elements"):
        _after(_explicit("00091001", "SQ", items), limits=Limits(elements=1000))


def test_a_choice_of_the_dictionary_is_decided() -> None:
    """Where the dictionary leaves a choice, Implicit VR has OW (PS3.5 A.1)."""
    found = _after(
        _implicit("54000110", b"\1\0"), _implicit("60003000", b"\1\0"), syntax=ImplicitVRLittleEndian
    )
    assert [_element_of(found, tag)["vr"] for tag in ("54000110", "60003000")] == ["OW", "OW"]


def test_a_vr_that_nobody_knows() -> None:
    """An undefined VR is resolved by the dictionary or unknown; its length is four bytes, or two where it fits."""
    long = tags.key_of("70010010") + b"ZZ\0\0\2\0\0\0ab"
    short = tags.key_of("70011001") + b"ZZ\2\0ab"
    found = _after(long, short)
    assert _element_of(found, "70010010") == {"vr": "LO", "Value": ["ab"]}
    assert _element_of(found, "70011001") == {"vr": "UN", "InlineBinary": "YWI="}


def test_tables_are_bulk_data_and_yet_read() -> None:
    """A long Extended Offset Table is bulk data for others, and read here."""
    count = 200
    offsets, lengths = struct.pack(f"<{count}Q", *range(0, 16 * count, 16)), struct.pack("<Q", 7) * count
    fragments = (
        _implicit("FFFEE000", b"") + _implicit("FFFEE000", b"\xff\xd8\xff_____") * count + SEQUENCE_END
    )
    data = instance("1.2.840.10008.1.2.4.50", NumberOfFrames=count, PixelData=None)
    pixels = tags.key_of("7FE00010") + b"OB\0\0\xff\xff\xff\xff" + fragments
    found = scan(data + _explicit("7FE00001", "OV", offsets) + _explicit("7FE00002", "OV", lengths) + pixels)
    assert [bulk.path for bulk in found.bulk] == ["7FE00001", "7FE00002", "7FE00010"]
    assert found.pixels is not None
    assert (found.pixels.number_of_frames, found.pixels.stream_length) == (count, 7 * count)


def test_fragments_end_within_their_sequence() -> None:
    """An item that ends inside its icon's fragments is refused."""
    icon = tags.key_of("7FE00010") + b"OB\0\0\xff\xff\xff\xff" + _implicit("FFFEE000", b"")
    with pytest.raises(Refused, match="past the end of their sequence"):
        _after(_explicit("00880200", "SQ", _implicit("FFFEE000", icon)))


def test_one_byte_at_a_time_is_linear() -> None:
    """A long value that comes in single bytes is not read again and again."""
    data = instance(PixelData=None) + _explicit("70010010", "UT", b"x" * 60_000)
    found = scan(data, sliced(data, 1))
    assert _element_of(found, "70010010")["Value"] == ["x" * 60_000]
