"""What objects of the field hold beyond plain attributes: private blocks, odd VRs, disorder, pixels of every kind."""

from __future__ import annotations

import struct
from typing import Any

import orjson
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from app.dicom import bulk_path
from app.dicom.scanner import Limits, Scan
from app.errors import Refused
from tests.dicom.corpus import as_documented, comparable, odd_instance, pydicom_json, scan, sliced
from tests.dicom.raw import ITEM_END, SEQUENCE_END, UNDEFINED, explicit, implicit, item
from tests.make import instance

LONG = bytes(2000)


def after(*more: bytes, syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> Scan:
    """An instance without pixels and raw elements after it; the same in single bytes."""
    data = odd_instance(syntax, **{"PixelData": None, **attributes}) + b"".join(more)
    found = scan(data)
    assert scan(data, sliced(data, 1)) == found
    return found


def element(found: Scan, tag: str) -> Any:
    return orjson.loads(found.json)[tag]


# --- private blocks (PS3.5 7.8) ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("creator", "expected"),
    [
        (b"ACME 1.1", "70031001-ACME_1.1"),
        (b"Philips MR Imaging DD 001", "70031001-PHILIPS_MR_IMAGING_DD_001"),
        (b"a/b?c#d%e \xe9&", "70031001-A_B_C_D_E_"),
        (b"\xff", "70031001-_"),
        (b"  ", "70031001"),
        (b"x" * 80, "70031001-" + "X" * 64),
    ],
)
def test_private_paths_carry_their_creator(creator: bytes, expected: str) -> None:
    """A path says whose block it is, in characters that no address has to escape; the JSON's tags stay plain."""
    found = after(explicit("70030010", "LO", creator), explicit("70031001", "OB", LONG))
    assert [bulk.path for bulk in found.bulk] == [expected]
    assert element(found, "70031001") == {"vr": "OB", "BulkDataURI": f"@/{expected}"}
    assert bulk_path.normalised(f"/{expected.lower()}/") == expected
    assert bulk_path.tags(expected) == [("70031001", None)]


def test_creators_count_in_their_data_set_only() -> None:
    """An item reserves its own blocks (PS3.5 7.8.1); a block that nobody reserved has no name."""
    own = item(explicit("70030010", "LO", b"INNER"), explicit("70031001", "OB", LONG))
    none = item(explicit("70031001", "OB", LONG))
    found = after(
        explicit("70030010", "LO", b"OUTER "),
        explicit("70031000", "SQ", own + none),
        explicit("70031001", "OB", LONG),
        explicit("70031101", "OB", LONG),
    )
    paths = [
        "70031000-OUTER/1/70031001-INNER",
        "70031000-OUTER/2/70031001",
        "70031001-OUTER",
        "70031101",
    ]
    assert [bulk.path for bulk in found.bulk] == paths
    assert bulk_path.tags(paths[1]) == [("70031000", 2), ("70031001", None)]


def test_private_vr_is_known_by_its_creator() -> None:
    """In Implicit VR the private dictionary tells the VR; of an unknown creator it is UN."""
    block = implicit("00190010", b"GEMS_ACQU_01"), implicit("00191002", struct.pack("<i", 912))
    assert element(after(*block, syntax=ImplicitVRLittleEndian), "00191002") == {"vr": "SL", "Value": [912]}
    unknown = implicit("00190010", b"NOBODY"), block[1]
    assert element(after(*unknown, syntax=ImplicitVRLittleEndian), "00191002")["vr"] == "UN"


def test_a_private_sequence_of_undefined_length() -> None:
    """UN of undefined length is a sequence even where the dictionary calls the tag otherwise."""
    inside = item(implicit("00100020", b"A1")) + SEQUENCE_END
    raw = explicit("40100001", "UN", b"", UNDEFINED) + inside
    assert element(after(raw), "40100001") == {
        "vr": "SQ",
        "Value": [{"00100020": {"vr": "LO", "Value": ["A1"]}}],
    }
    assert (
        element(after(implicit("40100001", inside, UNDEFINED), syntax=ImplicitVRLittleEndian), "40100001")[
            "vr"
        ]
        == "SQ"
    )


# --- VRs that other elements decide ------------------------------------------------------------------------


@pytest.mark.parametrize(("sign", "vr", "value"), [(0, "US", 65531), (1, "SS", -5), (None, "US", 65531)])
def test_pixel_representation_may_come_late(sign: int | None, vr: str, value: int) -> None:
    """US or SS before Pixel Representation, in items before it too, is mended when it comes."""
    raw = struct.pack("<h", -5)
    late = [implicit("00280103", struct.pack("<H", sign))] if sign is not None else []
    found = after(
        implicit("00221452", raw + raw),
        implicit("00283000", item(implicit("00283002", struct.pack("<HhH", 40000, -7, 16)))),
        implicit("00280120", b""),
        *late,
        implicit("00280121", raw),
        syntax=ImplicitVRLittleEndian,
        PixelRepresentation=None,
    )
    assert element(found, "00221452") == {"vr": vr, "Value": [value, value]}
    assert element(found, "00280121") == {"vr": vr, "Value": [value]}
    assert element(found, "00280120") == {"vr": vr}
    descriptor = element(found, "00283000")["Value"][0]["00283002"]
    assert descriptor == {"vr": vr, "Value": [40000, -7 if sign else 65529, 16]}


def test_an_item_s_own_pixel_representation_counts() -> None:
    """Pixel Representation holds in its data set and the items below (PS3.5 7.5.3)."""
    raw = struct.pack("<h", -5)
    own = item(implicit("00280120", raw), implicit("00280103", b"\1\0"))
    inherited = item(implicit("00280120", raw))
    found = after(
        implicit("00283000", own + inherited),
        implicit("00280103", b"\0\0"),
        syntax=ImplicitVRLittleEndian,
        PixelRepresentation=None,
    )
    first, second = element(found, "00283000")["Value"]
    assert first["00280120"] == {"vr": "SS", "Value": [-5]}
    assert second["00280120"] == {"vr": "US", "Value": [65531]}


def test_a_value_of_the_wrong_length_is_not_mended() -> None:
    """Bytes that are no numbers are UN, whatever Pixel Representation says later."""
    found = after(
        implicit("00221452", b"\1\2\3"),
        implicit("00280103", b"\1\0"),
        syntax=ImplicitVRLittleEndian,
        PixelRepresentation=None,
    )
    assert element(found, "00221452") == {"vr": "UN", "InlineBinary": "AQID"}


@pytest.mark.parametrize(
    ("entries", "data", "expected"),
    [
        (1, b"\7\0", {"vr": "US", "Value": [7]}),
        (2, b"\7\0\1\0", {"vr": "OW", "InlineBinary": "BwABAA=="}),
        (1000, LONG, {"vr": "OW", "BulkDataURI": "@/00283010/1/00283006"}),
    ],
)
def test_lut_data(entries: int, data: bytes, expected: dict[str, object]) -> None:
    """In Implicit VR, LUT Data of one entry are US, others OW."""
    lut = item(implicit("00283002", struct.pack("<3H", entries, 0, 16)), implicit("00283006", data))
    found = after(implicit("00283010", lut), syntax=ImplicitVRLittleEndian)
    assert element(found, "00283010")["Value"][0]["00283006"] == expected


@pytest.mark.parametrize("vr", [b"\0\0", b"??", b"  ", b"--"])
def test_an_element_without_a_vr(vr: bytes) -> None:
    """In Explicit VR, what has no VR is what the dictionary says, with a short or a long length."""
    short = b"\x10\x40\x01\x00" + vr + b"\4\0LOW "
    found = after(short, explicit("70010010", "LO", b"after "))
    assert element(found, "40100001") == {"vr": "CS", "Value": ["LOW"]}
    assert element(found, "70010010")["Value"] == ["after"]
    if vr != b"\0\0":
        long = b"\x10\x40\x01\x00" + vr + b"\0\0\4\0\0\0LOW "
        assert element(after(long), "40100001") == {"vr": "CS", "Value": ["LOW"]}


def test_a_vr_of_the_future_has_the_long_form() -> None:
    """A VR that nobody defined is what the dictionary says, else UN (PS3.5 7.1.2)."""
    found = after(
        b"\x10\x40\x01\x00ZZ\0\0\4\0\0\0LOW ",
        b"\x03\x70\x01\x10ZY\0\0\2\0\0\0AB",
        b"\x03\x70\x02\x10ZX\2\0AB",
    )
    assert element(found, "40100001") == {"vr": "CS", "Value": ["LOW"]}
    assert element(found, "70031001") == element(found, "70031002") == {"vr": "UN", "InlineBinary": "QUI="}


# --- order -------------------------------------------------------------------------------------------------


def test_disorder_is_put_in_order_everywhere() -> None:
    """In the data set and in its items tags ascend, and of two that are the same the last counts."""
    inside = item(explicit("00100020", "LO", b"B1"), explicit("00100010", "PN", b"A^B "),
                  explicit("00100020", "LO", b"B2"))  # fmt: skip
    found = after(
        explicit("70030010", "SQ", inside),
        explicit("00104000", "LT", b"late"),
        explicit("00020001", "OB", b""),
    )
    json = orjson.loads(found.json)
    assert list(json) == sorted(json)
    assert json["00104000"]["Value"] == ["late"]
    assert list(json["70030010"]["Value"][0].items()) == [
        ("00100010", {"vr": "PN", "Value": [{"Alphabetic": "A^B"}]}),
        ("00100020", {"vr": "LO", "Value": ["B2"]}),
    ]


def test_very_long_disorder_is_left() -> None:
    """Order is bounded work: beyond it members stay as they came, and the last of two still counts."""
    many = b"".join(explicit(f"7003{number:04X}", "LO", b"") for number in range(0x1100, 0x3500))
    found = after(many, explicit("00100020", "LO", b"last"))
    assert list(orjson.loads(found.json))[-1] != "00100020" or orjson.loads(found.json)["00100020"] == {
        "vr": "LO",
        "Value": ["last"],
    }
    big_item = item(many, explicit("00100020", "LO", b"last"))
    inner = element(after(explicit("7001FF00", "SQ", big_item)), "7001FF00")["Value"][0]
    assert inner["00100020"]["Value"] == ["last"]


# --- pixels and other bulk ---------------------------------------------------------------------------------


def test_signatures_and_padding_after_pixel_data() -> None:
    """Digital signatures and trailing padding follow the pixels and are described."""
    signature = item(explicit("04000005", "US", b"\1\0"), explicit("04000120", "OB", b"\1\2"),
                     explicit("04000110", "CS", b"RIPEMD160 "))  # fmt: skip
    data = instance() + explicit("FFFAFFFA", "SQ", signature) + explicit("FFFCFFFC", "OB", bytes(20))
    found = scan(data)
    assert element(found, "FFFAFFFA")["Value"][0]["04000120"] == {"vr": "OB", "InlineBinary": "AQI="}
    assert element(found, "FFFCFFFC")["vr"] == "OB"
    assert comparable(found.json) == as_documented(pydicom_json(data))


@pytest.mark.parametrize(("tag", "vr", "bits"), [("7FE00008", "OF", 32), ("7FE00009", "OD", 64)])
def test_float_pixels(tag: str, vr: str, bits: int) -> None:
    """Float and double float pixel data are the instance's pixels."""
    found = after(explicit(tag, vr, bytes(16 * bits // 8)), BitsAllocated=bits)
    assert found.pixels is not None
    assert (found.pixels.tag, found.pixels.vr, found.pixels.frame_bits) == (tag, vr, 16 * bits)
    assert element(found, tag) == {"vr": vr, "BulkDataURI": f"@/{tag}"}


def test_of_several_pixel_elements_pixel_data_count() -> None:
    """An object with two kinds of pixels is kept: all are bulk data, Pixel Data have the frames."""
    floats = explicit("7FE00008", "OF", bytes(64))
    found = after(floats, explicit("7FE00010", "OW", bytes(32)), explicit("7FE00009", "OD", bytes(128)))
    assert found.pixels is not None
    assert found.pixels.tag == "7FE00010"
    assert {bulk.path for bulk in found.bulk} == {"7FE00008", "7FE00009", "7FE00010"}


def test_icons_are_values_of_their_item() -> None:
    """Icons, native and in fragments, with and without a bulk length, are never the instance's pixels."""
    fragments = item() + item(b"\xff\xd8\xff\xd9") + SEQUENCE_END
    icons = (
        item(explicit("7FE00010", "OW", LONG)),
        item(explicit("7FE00010", "OB", b"", UNDEFINED) + fragments),
    )
    data = instance() + explicit("7FE20010", "SQ", b"".join(icons))
    found = scan(data)
    assert found.pixels is not None
    assert found.pixels.length == 32
    assert [bulk.path for bulk in found.bulk][1:] == ["7FE20010/1/7FE00010", "7FE20010/2/7FE00010"]


@pytest.mark.parametrize("group", ["6000", "6002", "601E"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_overlays(group: str, syntax: str) -> None:
    """Overlay data of every repeating group are words, inline when short and bulk when long."""

    def write(tag: str, vr: str, value: bytes) -> bytes:
        return explicit(tag, vr, value) if syntax == ExplicitVRLittleEndian else implicit(tag, value)

    raw = [
        write(f"{group}0010", "US", b"\4\0"),
        write(f"{group}0040", "CS", b"G "),
        write(f"{group}0050", "SS", b"\1\0\1\0"),
        write(f"{group}3000", "OW", LONG),
    ]
    found = after(*raw, syntax=syntax)
    assert element(found, f"{group}0050") == {"vr": "SS", "Value": [1, 1]}
    assert element(found, f"{group}3000") == {"vr": "OW", "BulkDataURI": f"@/{group}3000"}


def test_waveforms() -> None:
    """Waveform data are bulk data of their item, of 8 and of 16 bits."""
    eight = item(explicit("5400100A", "OB", b"\0\0"), explicit("54001010", "OB", LONG))
    sixteen = item(explicit("5400100A", "OW", b"\0\0"), explicit("54001010", "OW", b"\1\2"))
    found = after(explicit("54000100", "SQ", eight + sixteen))
    assert [bulk.path for bulk in found.bulk] == ["54000100/1/54001010"]
    assert element(found, "54000100")["Value"][1]["54001010"] == {"vr": "OW", "InlineBinary": "AQI="}


def test_spectroscopy() -> None:
    """Spectroscopy data are numbers: inline up to a bound, bulk beyond."""
    found = after(explicit("56000020", "OF", struct.pack("<4f", 1, 2, 3, 4)))
    assert element(found, "56000020")["vr"] == "OF"
    assert [b.path for b in after(explicit("56000020", "OF", LONG)).bulk] == ["56000020"]
    numbers = struct.pack("<20000f", *range(20_000))
    assert [b.path for b in after(implicit("00720076", numbers), syntax=ImplicitVRLittleEndian).bulk] == [
        "00720076"
    ]


@pytest.mark.parametrize("vr", ["LO", "PN", "UR"])
def test_long_text_that_may_not_be_bulk(vr: str) -> None:
    """A value too long to be written, of a VR without a BulkDataURI, is bulk data of an unknown VR."""
    tag = {"LO": "00081040", "PN": "00081048", "UR": "00081190"}[vr]
    length = 2 << 20 if vr == "UR" else 100_000
    found = after(implicit(tag, b"x" * length), syntax=ImplicitVRLittleEndian)
    assert element(found, tag) == {"vr": "UN", "BulkDataURI": f"@/{tag}"}


def test_very_many_odd_values_are_binary() -> None:
    """What would take long to be written value by value is kept as bytes."""
    for vr, value in (("DS", b"x\\" * 5000), ("IS", b".\\" * 5000), ("PN", b"=\\" * 5000)):
        assert element(after(explicit("70010011", vr, value)), "70010011")["vr"] == "UN"
    assert (
        element(scan(instance(PixelData=None) + explicit("70010011", "UT", b"\1" * 70_000)), "70010011")["vr"]
        == "UN"
    )
    padded = b" 1.5\\+2 \\" * 5000 + b"3 "
    assert element(after(explicit("70010011", "DS", padded)), "70010011")["Value"][:3] == [1.5, 2, 1.5]


def test_command_elements_and_their_like_are_dropped() -> None:
    """Groups 0000 and 0002 and group lengths are no part of a data set's JSON, in items neither."""
    inside = item(explicit("00080000", "UL", bytes(4)), explicit("00020010", "UI", b"1.2 "))
    found = after(explicit("00000100", "US", b"\1\0"), explicit("70030010", "SQ", inside),
                  explicit("00000001", "SQ", item()))  # fmt: skip
    json = orjson.loads(found.json)
    assert json["70030010"] == {"vr": "SQ", "Value": [{}]}
    assert "00000100" not in json


@pytest.mark.parametrize(
    ("limits", "raw"),
    [
        (Limits(bulk_values=3), explicit("70030010", "OB", LONG) + explicit("70030011", "OB", LONG) * 1),
        (Limits(json_bytes=2000), explicit("70030010", "LT", b"x" * 5000)),
    ],
    ids=["bulk", "json"],
)
def test_descriptions_are_bounded(limits: Limits, raw: bytes) -> None:
    """Bulk values and the length of the JSON have limits."""
    more = b"".join(explicit(f"7005{number:04X}", "OB", LONG) for number in range(0x1000, 0x1004))
    with pytest.raises(Refused, match="more than 3 bulk|longer than 2000"):  # noqa: RUF043
        scan(instance(PixelData=None) + raw + more, limits=limits)


def test_items_of_undefined_length_with_everything() -> None:
    """Undefined and defined lengths mix at any depth."""
    inner = implicit("FFFEE000", explicit("00100020", "LO", b"A1"), UNDEFINED) + ITEM_END
    middle = explicit("00081140", "SQ", inner + SEQUENCE_END, UNDEFINED)
    found = after(explicit("00081115", "SQ", item(middle)))
    step = element(found, "00081115")["Value"][0]["00081140"]["Value"][0]
    assert step == {"00100020": {"vr": "LO", "Value": ["A1"]}}


def test_a_long_extended_offset_table_is_read_and_bulk() -> None:
    """A table above the bulk threshold tells the frames, and is bulk data itself."""
    frames = 200
    lengths = struct.pack(f"<{frames}Q", *[7] * frames)
    pieces = b"".join(item(b"\xff\xd8\xff\xe0") + item(b"more") for _ in range(frames))
    raw = instance("1.2.840.10008.1.2.4.50", PixelData=None, NumberOfFrames=frames)
    raw += explicit("7FE00001", "OV", struct.pack(f"<{frames}Q", *range(0, 24 * frames, 24)))
    raw += explicit("7FE00002", "OV", lengths) + explicit("7FE00010", "OB", b"", UNDEFINED)
    found = scan(raw + item() + pieces + SEQUENCE_END)
    assert len(lengths) > Limits().bulk_threshold
    assert found.pixels is not None
    assert found.pixels.number_of_frames == frames
    assert struct.unpack("<3I", found.pixels.frame_starts[:12]) == (0, 2, 4)
    assert [bulk.path for bulk in found.bulk] == ["7FE00001", "7FE00002", "7FE00010"]


def test_unknown_of_a_signed_tag() -> None:
    """UN is resolved by Pixel Representation, too; very many values before it are mended up to a bound."""
    assert element(after(explicit("00280120", "UN", b"\xfb\xff"), PixelRepresentation=1), "00280120") == {
        "vr": "SS",
        "Value": [-5],
    }
    items = b"".join(item(implicit("00280120", b"\xfb\xff")) for _ in range(300))
    each = b"".join(implicit("00280120", b"\xfb\xff") for _ in range(300))
    for raw in (implicit("00283000", items), implicit("00221452", b"\xfb\xff") + each):
        found = after(
            raw, implicit("00280103", b"\1\0"), syntax=ImplicitVRLittleEndian, PixelRepresentation=None
        )
        assert b'"SS"' in found.json


def test_a_lut_descriptor_of_a_wrong_length() -> None:
    """Not three values: written as they are."""
    assert element(after(explicit("00281101", "SS", b"\1\0\xff\xff")), "00281101")["Value"] == [1, -1]
