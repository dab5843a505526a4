"""Deflated and big endian objects, described by the extents of a little endian form that is made in passing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from random import Random

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from app.dicom.normalise import Normaliser
from app.dicom.prologue import Prologue
from app.dicom.scanner import Limits, Scan
from app.errors import FailureReason, Refused
from tests.dicom.corpus import File, by_name, files, normalised, read, scan, sliced
from tests.dicom.raw import ITEM_END, SEQUENCE_END, UNDEFINED, big, explicit, implicit, item
from tests.make import dataset, instance, part10

LIMITS = Limits(normalise=True)
NESTED = Sequence([Dataset()])
NESTED[0].CodeValue, NESTED[0].BitsAllocated = "A", 8


def made() -> list[File]:
    """Objects that are not served as they lie."""
    more = {"AnatomicRegionSequence": NESTED, "PixelData": bytes(range(256)) * 20, "Rows": 40, "Columns": 64}
    return [
        File("made-deflated", instance(DeflatedExplicitVRLittleEndian, **more)),
        File("made-big-endian", instance(ExplicitVRBigEndian, **more)),
        File("made-big-endian-32", instance(ExplicitVRBigEndian, BitsAllocated=32, Rows=2)),
        File("made-jpip-deflate", referenced("1.2.840.10008.1.2.4.95")),
        File("made-jpip-htj2k-deflate", referenced("1.2.840.10008.1.2.4.205")),
    ]


def referenced(syntax: str) -> bytes:
    """An object whose pixels lie elsewhere, deflated."""
    plain = instance(PixelData=None, PixelDataProviderURL="https://example.org/jpip")
    return deflated(plain, syntax)


def deflated(plain: bytes, syntax: str = DeflatedExplicitVRLittleEndian) -> bytes:
    """The file's data set deflated under another syntax."""
    prologue = Prologue(Limits())
    assert prologue.take(memoryview(plain))
    packer = zlib.compressobj(9, wbits=-15)
    return prologue.written(syntax) + packer.compress(plain[prologue.offset :]) + packer.flush()


CONVERTED = [
    *made(),
    *(
        file
        for file in files()
        if file.expected == "stored"
        and read(file.data).file_meta.get("TransferSyntaxUID") in {ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
    ),
]  # fmt: skip


def outcome(data: bytes, chunks: Iterator[memoryview] | None = None) -> Scan | str:
    """What the scanner says, be it a refusal; no other exception passes."""
    try:
        return scan(data, chunks, limits=LIMITS)
    except Refused as refused:
        return str(refused)


def as_stored(found: Scan, stored: Scan) -> Scan:
    """A scan of the normalised object, with what only the stored one can tell."""
    head = replace(found.head, transfer_syntax_uid=stored.head.transfer_syntax_uid)
    return replace(
        found, head=head, dataset_offset=stored.dataset_offset, size=stored.size, normalised=stored.normalised
    )


@pytest.mark.parametrize(**by_name(CONVERTED))
def test_extents_are_the_normalised_object_s(file: File) -> None:
    """The ordinary scanner says the same of the normalised object as of the stored one: JSON and all extents."""
    stored = scan(file.data, limits=LIMITS)
    form = normalised(file.data)
    found = scan(form)
    assert stored.normalised
    assert not found.normalised
    assert as_stored(found, stored) == stored
    assert stored.size == len(file.data)
    assert read(form).file_meta.FileMetaInformationGroupLength == found.dataset_offset - 132 - 12


@pytest.mark.parametrize(**by_name(CONVERTED))
def test_any_chunking_gives_the_same_object(file: File) -> None:
    """One normalised object, in pieces of at most 64 KiB, however the stored bytes come."""
    form = normalised(file.data)
    normaliser = Normaliser()
    assert max(len(piece) for piece in normaliser.feed(file.data)) <= 64 << 10
    for size in [1, 2, 3, 7, 4095] if len(file.data) < 20_000 else [4095, 32768]:
        assert normalised(file.data, sliced(file.data, size)) == form
        assert scan(file.data, sliced(file.data, size), limits=LIMITS) == scan(file.data, limits=LIMITS)
    chance = Random(1)
    cuts = sorted(chance.randrange(len(file.data) + 1) for _ in range(8))
    assert normalised(file.data, [file.data[a:b] for a, b in pairwise([0, *cuts, len(file.data)])]) == form


@pytest.mark.parametrize(**by_name(file for file in CONVERTED if "jpip" not in file.name))
def test_values_are_pydicom_s(file: File) -> None:
    """The normalised object has the values of the stored one; pixels are equal as numbers.

    pydicom does not inflate the referenced ones.
    """
    before, after = read(file.data), read(normalised(file.data))
    assert [element.tag for element in before] == [element.tag for element in after]
    for element in before:
        if element.VR not in {"OW", "SQ"}:
            assert after[element.tag].value == element.value, element.tag
    if "PixelData" in before:
        assert (before.pixel_array == after.pixel_array).all()


def test_without_the_setting_they_are_refused() -> None:
    """Until their bytes can be served, such objects are refused as a syntax that is not supported."""
    for file in made():
        with pytest.raises(Refused, match="not supported") as refused:
            scan(file.data)
        assert refused.value.reason == FailureReason.TRANSFER_SYNTAX_NOT_SUPPORTED


@pytest.mark.parametrize(**by_name(made()))
def test_truncation_is_refused(file: File) -> None:
    """Cut anywhere, a stored object has no normalised one that the scanner would take for the whole."""
    whole = scan(file.data, limits=LIMITS)
    for length in range(0, len(file.data), 1 if len(file.data) < 2500 else 61):
        try:
            assert scan(file.data[:length], limits=LIMITS) != whole
        except Refused:
            continue


@given(file=st.sampled_from(made()), data=st.data())
def test_broken_objects_are_refused_or_described(file: File, data: st.DataObject) -> None:
    """Whatever is changed: one outcome for any chunking, the normaliser's and the scanner's the same.

    Of two reasons to refuse a damaged stream, the chunking decides which is met first.
    """
    broken = bytearray(file.data)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(132, len(broken) - 1))] = data.draw(st.integers(0, 255))
    stored = bytes(broken)
    found = outcome(stored)
    again = outcome(stored, sliced(stored, 5))
    assert again == found or (isinstance(found, str) and isinstance(again, str))
    if isinstance(found, Scan) and found.normalised:
        assert as_stored(scan(normalised(stored)), found) == found


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Limits(normalise=True, inflated_bytes=1 << 20), "inflates to too much"),
        (Limits(normalise=True, inflation_ratio=100), "inflates to too much"),
    ],
    ids=["size", "ratio"],
)
def test_bombs_are_refused(limits: Limits, sentence: str) -> None:
    """What inflates beyond a bound is refused while it streams."""
    bomb = deflated(instance(Rows=4096, Columns=4096, PixelData=bytes(32 << 20)))
    assert len(bomb) < 64 << 10
    with pytest.raises(Refused, match=sentence) as refused:
        scan(bomb, limits=limits)
    assert refused.value.reason == FailureReason.OUT_OF_RESOURCES
    assert scan(bomb, limits=Limits(normalise=True, inflation_ratio=2000)).pixels


def test_a_damaged_or_short_stream_is_refused() -> None:
    """A deflated data set ends with its stream; bytes after it are padding."""
    whole = instance(DeflatedExplicitVRLittleEndian)
    with pytest.raises(Refused, match="truncated"):
        scan(whole[:-40], limits=LIMITS)
    with pytest.raises(Refused, match="damaged"):
        scan(whole[:400] + b"\xff" * (len(whole) - 400), limits=LIMITS)
    with pytest.raises(Refused, match="truncated"):
        scan(deflated(instance()[:-1]), limits=LIMITS)
    assert scan(whole + bytes(9), limits=LIMITS).size == len(whole) + 9


def big_endian(*more: bytes) -> bytes:
    """An instance in big endian, and raw elements after it."""
    return instance(ExplicitVRBigEndian, PixelData=None) + b"".join(more)


@pytest.mark.parametrize(
    ("vr", "stored", "expected"),
    [
        ("US", b"\1\2\3\4", [0x0102, 0x0304]),
        ("SS", b"\xff\xfe", [-2]),
        ("UL", b"\1\2\3\4", [0x01020304]),
        ("SL", b"\xff\xff\xff\xfe", [-2]),
        ("FL", struct.pack(">f", 1.5), [1.5]),
        ("FD", struct.pack(">d", -1.5), [-1.5]),
        ("SV", struct.pack(">q", -9), [-9]),
        ("UV", struct.pack(">Q", 9), [9]),
        ("AT", b"\x00\x10\x00\x20", ["00100020"]),
        ("LO", b"text", ["text"]),
        ("ZZ", b"AB", None),
    ],
)
def test_numbers_are_swapped_by_their_vr(vr: str, stored: bytes, expected: list[object] | None) -> None:
    """Numbers of every size, tags as two; text and what is unknown as it came."""
    element = orjson.loads(scan(big_endian(big("70010010", vr, stored)), limits=LIMITS).json)["70010010"]
    assert element.get("Value") == expected or element == {"vr": "LO", "Value": ["AB"]}


@pytest.mark.parametrize(
    ("vr", "stored", "expected"),
    [("OW", b"ABCD", b"BADC"), ("OB", b"ABCD", b"ABCD"), ("OL", b"ABCD", b"DCBA"), ("OF", b"ABCDE", b"DCBAE"),
     ("OD", b"ABCDEFGH", b"HGFEDCBA"), ("OV", b"ABCDEFGH", b"HGFEDCBA"), ("UN", b"ABCD", b"ABCD")],
)  # fmt: skip
def test_words_are_swapped_by_their_vr(vr: str, stored: bytes, expected: bytes) -> None:
    """Other words are swapped in their unit; an odd end stays."""
    assert normalised(big_endian(big("70010010", vr, stored))).endswith(expected)


def test_sequences_of_every_kind_are_swapped() -> None:
    """Defined and undefined lengths, items of UN in either byte order, fragments as they are."""
    text = big("00100020", "LO", b"A1")
    inside = big("FFFEE000", "", text) + big("FFFEE000", "", text + big("FFFEE00D", "", b""), UNDEFINED)
    little = item(
        implicit("00100010", b""),
        implicit("00100020", b"A1" + bytes(300)),
        implicit("00081140", SEQUENCE_END, UNDEFINED),
    )
    fragments = big("FFFEE000", "", b"") + big("FFFEE000", "", b"\1\2\3\4")
    end = big("FFFEE0DD", "", b"")
    data = big_endian(
        big("70010010", "SQ", inside[: len(text) + 8]),
        big("70030010", "SQ", inside + end, UNDEFINED),
        big("70050010", "UN", little + SEQUENCE_END, UNDEFINED),
        big("70070010", "UN", inside + end, UNDEFINED),
        big("70090010", "OB", fragments + end, UNDEFINED),
        big("700B0010", "US", b"\0\7"),
    )
    json = orjson.loads(scan(data, limits=LIMITS).json)
    assert scan(data, sliced(data, 1), limits=LIMITS) == scan(data, limits=LIMITS)
    inner = {"00100020": {"vr": "LO", "Value": ["A1"]}}
    assert json["70010010"]["Value"] == [inner]
    assert json["70030010"]["Value"] == json["70070010"]["Value"] == [inner, inner]
    assert json["70050010"]["Value"] == [{"00081140": {"vr": "SQ"}, "00100010": {"vr": "PN"}, **inner}]
    assert json["70090010"]["BulkDataURI"] == "@/70090010"
    assert json["700B0010"]["Value"] == [7]
    assert ITEM_END in normalised(data)


def test_big_endian_refusals() -> None:
    """What is no big endian, or nests too deep, is refused with a sentence."""
    with pytest.raises(Refused, match="not in Explicit VR Big Endian"):
        scan(big_endian(big("70010010", "", b"")), limits=LIMITS)
    deep = big("70010010", "SQ", big("FFFEE000", "", b"", UNDEFINED), UNDEFINED) * 70
    with pytest.raises(Refused, match="more than 64 deep"):
        scan(big_endian(deep), limits=LIMITS)
    with pytest.raises(Refused, match="ends inside"):
        scan(big_endian(b"\x70"), limits=LIMITS)
    little = part10(dataset(PixelData=None)).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0")
    with pytest.raises(Refused, match=r"not in Explicit VR Big Endian|truncated"):
        scan(little, limits=LIMITS)


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_data_set_cannot_begin_with_file_meta(size: int) -> None:
    """Its normalised form would begin with file meta that is none: found by fuzzing."""
    whole, prologue = instance(ExplicitVRBigEndian, PixelData=None), Prologue(Limits())
    assert prologue.take(memoryview(whole))
    at, packer = prologue.offset, zlib.compressobj(9, wbits=-15)
    packed = packer.compress(explicit("00020005", "UI", b"1.2\0")) + packer.flush()
    for hostile in (
        whole[:at] + big("00020005", "UI", b"1.2\0") + whole[at:],
        prologue.written(DeflatedExplicitVRLittleEndian) + packed,
    ):
        with pytest.raises(Refused, match="begins with an element of the File Meta"):
            scan(hostile, sliced(hostile, size), limits=LIMITS)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("preamble", [b"", bytes(128) + b"DICM"], ids=["bare", "preamble"])
def test_data_sets_without_file_meta(syntax: str, preamble: bytes) -> None:
    """A data set alone is told apart by its first element, in any chunking."""
    whole = instance(syntax)
    told = scan(whole, limits=LIMITS)
    data = preamble + whole[told.dataset_offset :]
    found = scan(data, limits=LIMITS)
    assert (found.head, found.json, found.normalised) == (told.head, told.json, told.normalised)
    assert found.dataset_offset == len(preamble)
    assert scan(data, sliced(data, 1), limits=LIMITS) == found
    if found.normalised:
        assert as_stored(scan(normalised(data)), found) == found


def test_a_bare_data_set_may_begin_with_a_group_length() -> None:
    """(0008,0000) comes first where group lengths were written."""
    whole = instance(ImplicitVRLittleEndian)
    bare = whole[scan(whole).dataset_offset :]
    found = scan(implicit("00080000", bytes(4)) + bare)
    assert (found.json, found.dataset_offset) == (scan(bare).json, 0)


@pytest.mark.parametrize(
    "data",
    [b"plain text, no DICOM" * 20, b"\x89PNG\r\n" + bytes(200), bytes(300), b"\x08\0\x05\0\xff\xff\0\0" * 30,
     b"\x08\0\xff\xfe\4\0\0\0" * 30, b"\x10\0\x10\0PN\4\0A^B " * 30],
    ids=["text", "png", "nothing", "long", "unknown", "group-0010"],
)  # fmt: skip
def test_what_is_no_data_set_is_refused(data: bytes) -> None:
    """Other files are not taken for data sets without a preamble."""
    with pytest.raises(Refused, match="no DICOM file"):
        scan(data)
    with pytest.raises(Refused, match="no valid Transfer Syntax"):
        scan(bytes(128) + b"DICM" + data)


def test_fragments_need_a_transfer_syntax() -> None:
    """Encapsulated pixels without file meta could be anything."""
    whole = instance(PixelData=None)
    bare = whole[scan(whole).dataset_offset :]
    pixels = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + item() + item(b"\xff\xd8") + SEQUENCE_END
    with pytest.raises(Refused, match="no file meta names one"):
        scan(bare + pixels)


def test_the_normaliser_refuses_what_needs_none() -> None:
    """Objects that are served as they lie have no normalised form; nor has a file that is none."""
    with pytest.raises(Refused, match="needs no normalised"):
        normalised(instance())
    with pytest.raises(Refused, match="shorter than a preamble"):
        normalised(b"DICM")
    with pytest.raises(Refused, match="meta information is truncated"):
        normalised(instance()[:140])
