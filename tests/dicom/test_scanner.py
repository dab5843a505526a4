"""The scanner against pydicom, against every chunking, and against what is broken."""

from __future__ import annotations

import hashlib
import random
from itertools import pairwise
from struct import iter_unpack
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, Sequence
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from app.dicom import bulk_path
from app.dicom.scanner import Limits, Pixels, Scan, Scanner
from app.errors import FailureReason, Refused
from tests.dicom.corpus import (
    File,
    by_name,
    comparable,
    expected_json,
    files,
    generated,
    normalised,
    odd_instance,
    read,
    scan,
    sliced,
)
from tests.make import CT_IMAGE, instance

STORED = [file for file in files() if file.expected == "stored"]
HEAVY = settings.default is not None and settings.default.max_examples > 1000
NORMALISE = Limits(normalise=True)


def described(file: File) -> Scan:
    """What the scanner says of a file that can be stored."""
    return scan(file.data, limits=NORMALISE)


def outcome(data: bytes, chunks: list[bytes | memoryview] | None = None) -> Scan | str:
    """What the scanner says, the sentence of a refusal included; no other exception passes."""
    try:
        return scan(data, chunks, limits=NORMALISE)
    except Refused as refused:
        return str(refused)


@pytest.mark.parametrize(**by_name(STORED))
def test_json_is_what_pydicom_writes(file: File) -> None:
    """The DICOM JSON equals pydicom's but for the documented differences, tags ascending."""
    found = described(file)
    written = comparable(found.json)
    assert list(written) == sorted(written)
    if file.name == "structure/every-vr.dcm":  # pydicom cannot write it: a name of no groups among others
        return
    assert written == expected_json(file.data)


@pytest.mark.parametrize(**by_name(files()))
def test_any_chunking_gives_the_same(file: File) -> None:
    """Whole, in pieces of any size, as bytes or as views: one result, be it a refusal."""
    whole = outcome(file.data)
    sizes = [1, 2, 3, 7, 4095, 32768] if len(file.data) <= (200_000 if HEAVY else 20_000) else [4095, 32768]
    for size in sizes:
        assert outcome(file.data, list(sliced(file.data, size))) == whole, size
    chance = random.Random(len(file.data))
    for _ in range(200 if HEAVY else 3):
        cuts = sorted(chance.randrange(len(file.data) + 1) for _ in range(8))
        pieces = [file.data[a:b] for a, b in pairwise([0, *cuts, len(file.data)])]
        assert outcome(file.data, [*pieces]) == whole, cuts


@pytest.mark.parametrize(**by_name(files()))
def test_identity_is_the_data_set_s(file: File) -> None:
    """Head, size and data set offset are what pydicom reads; what lacks a UID is refused."""
    found = outcome(file.data)
    if isinstance(found, str):
        assert file.expected != "stored"
        return
    assert not file.expected.startswith("refused")
    data = read(file.data)
    raw = [bytes(data.get_item(tag).value or b"") for tag in (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)]
    assert [value.decode().strip(" \0") for value in raw] == [
        found.head.sop_class_uid,
        found.head.sop_instance_uid,
        found.head.study_instance_uid,
        found.head.series_instance_uid,
    ]
    syntax = data.file_meta.get("TransferSyntaxUID") or data.original_encoding
    told: dict[Any, str] = {(True, True): ImplicitVRLittleEndian, (False, True): ExplicitVRLittleEndian}
    told[False, False] = ExplicitVRBigEndian
    assert found.head.transfer_syntax_uid == told.get(syntax, syntax)
    assert found.size == len(file.data)
    assert file.data[found.dataset_offset :][:2] != b"\x02\x00"


@pytest.mark.parametrize(
    **by_name(file for file in STORED if "NumberOfFrames" in read(file.data) or "jpeg" in file.name)
)
def test_frames_are_pydicom_s(file: File) -> None:
    """Every encapsulated frame, put together from the index, is the one that pydicom finds."""
    found = described(file)
    if found.pixels is None or not found.pixels.fragments or found.pixels.container:
        return
    data = read(file.data)
    extended = (
        (data.ExtendedOffsetTable, data.ExtendedOffsetTableLengths) if "ExtendedOffsetTable" in data else None
    )
    expected = generate_frames(
        data.PixelData, number_of_frames=found.pixels.number_of_frames, extended_offsets=extended
    )
    assert frames(file.data, found.pixels) == list(expected)
    assert found.pixels.number_of_frames == int(data.get("NumberOfFrames", 1))


def frames(data: bytes, pixels: Pixels) -> list[bytes]:
    """The frames as the index tells them."""
    pieces = [data[offset : offset + length] for offset, length in iter_unpack("<QQ", pixels.fragments)]
    starts = [start for (start,) in iter_unpack("<I", pixels.frame_starts)] or list(range(len(pieces)))
    return [b"".join(pieces[a:b]) for a, b in pairwise([*starts, len(pieces)])]


@pytest.mark.parametrize(**by_name(file for file in STORED if file.stream_sha256))
def test_video_is_unpadded(file: File) -> None:
    """The joined fragments of a video, cut to the stream's length, are the stream that was encapsulated."""
    pixels = scan(file.data).pixels
    assert pixels is not None
    joined = b"".join(data for data in frames(file.data, pixels))[: pixels.stream_length]
    if pixels.container:
        assert hashlib.sha256(joined).hexdigest() == file.stream_sha256
        wanted = next((kind for kind in ("fmp4", "mp4", "ts", "ps", "es") if f"-{kind}" in file.name), "ts")
        assert pixels.container in ({"annexb", "mpeg"} if wanted == "es" else {wanted})


@pytest.mark.parametrize(**by_name(STORED))
def test_bulk_lies_where_it_says(file: File) -> None:
    """Each path leads to the value whose bytes lie at the extent, of the normalised object where there is one."""
    found = described(file)
    stored = normalised(file.data) if found.normalised else file.data
    for bulk in found.bulk:
        data = read(stored)
        for tag, item in bulk_path.tags(bulk.path):
            if item is not None:
                data = data[int(tag, 16)].value[item - 1]
        value = stored[bulk.offset : bulk.offset + bulk.length]
        assert value == bytes(data.get_item(int(tag, 16)).value or b"")[: bulk.length]
        assert f'"BulkDataURI":"@/{bulk.path}"'.encode() in found.json
        assert bulk_path.normalised(bulk.path) == bulk.path


def test_pixel_data_are_bulk_however_short() -> None:
    """Pixel Data always have a BulkDataURI, an extent and a frame's length."""
    data = instance(NumberOfFrames=2, Rows=2)
    found = scan(data)
    assert orjson.loads(found.json)["7FE00010"] == {"vr": "OW", "BulkDataURI": "@/7FE00010"}
    assert found.pixels is not None
    assert (found.pixels.number_of_frames, found.pixels.frame_bits) == (2, 2 * 4 * 16)
    assert data[found.pixels.offset :][: found.pixels.length] == bytes(range(32))


def test_an_icon_is_no_pixel_data() -> None:
    """Pixel Data inside a sequence are an ordinary value, and never the instance's pixels."""
    icon = Dataset()
    icon.Rows, icon.PixelData = 2, b"\1\2\3\4"
    icon["PixelData"].VR = "OB"
    found = scan(instance(IconImageSequence=Sequence([icon]), PixelData=None))
    item = orjson.loads(found.json)["00880200"]["Value"][0]
    assert item["7FE00010"] == {"vr": "OB", "InlineBinary": "AQIDBA=="}
    assert found.pixels is None


def test_fields_are_the_wanted_attributes() -> None:
    """Wanted attributes come as they stand in the JSON; those that are not there are not told."""
    wanted = frozenset({"00100010", "00081115", "00080060", "00080050", "00321033"})
    sequence = Sequence([Dataset()])
    found = scan(instance(ReferencedSeriesSequence=sequence, AccessionNumber=""), wanted=wanted)
    json = orjson.loads(found.json)
    assert {tag: orjson.loads(value) for tag, value in found.fields.items()} == {
        tag: json[tag] for tag in wanted if tag in json
    }
    assert found.fields["00080050"] == b'{"vr":"SH"}'


def test_head_is_known_before_the_pixels() -> None:
    """Transfer syntax and data set offset are told after the file meta, the head before the pixels pass by."""
    data = instance(PixelData=bytes(100_000), Rows=100, Columns=500)
    scanner = Scanner()
    at = 0
    while scanner.dataset_offset is None:
        scanner.feed(data[at : at + 1])
        at += 1
    assert at - scanner.dataset_offset <= 8
    assert (scanner.transfer_syntax_uid, scanner.head) == ("1.2.840.10008.1.2.1", None)
    while not scanner.passing:
        scanner.feed(data[at : at + 100])
        at += 100
    head = scanner.head
    scanner.feed(memoryview(data)[at:])
    assert scanner.close().head == head


@pytest.mark.parametrize(
    "limits",
    [
        Limits(header_bytes=100),
        Limits(elements=5),
        Limits(depth=1),
        Limits(value_bytes=100),
        Limits(meta_bytes=100),
    ],
    ids=["header", "elements", "depth", "value", "meta"],
)
def test_limits_refuse(limits: Limits) -> None:
    """Each limit ends the scan with A700 and a sentence."""
    inner = Dataset()
    inner.RequestAttributesSequence = Sequence([Dataset(), Dataset(), Dataset(), Dataset()])
    data = odd_instance(RequestAttributesSequence=Sequence([inner]), InstitutionName="x" * 200)
    with pytest.raises(Refused) as refused:
        scan(data, limits=limits)
    assert refused.value.reason == FailureReason.OUT_OF_RESOURCES


@pytest.mark.parametrize("uid", ["", "1/2", "1..2", "1" * 65, "1\\2", ".."])
def test_bad_uids_are_refused(uid: str) -> None:
    """A UID that could mislead an address is no identity."""
    with pytest.raises(Refused, match="Study Instance UID"):
        scan(odd_instance(StudyInstanceUID=uid))


def test_uids_that_contradict_are_refused() -> None:
    """A UID that is there twice with two meanings cannot be trusted."""
    data = instance(PixelData=None)
    more = b"\x20\x00\x0d\x00UI\x04\x001.2\0"
    assert "twice" in str(outcome(data + more))


def test_the_last_of_two_counts() -> None:
    """Of an element that is there twice the last one is told, in the order of tags."""
    data = instance(PatientID="one", PixelData=None)
    found = scan(data + b"\x10\x00\x20\x00LO\x04\x00two ")
    json = orjson.loads(found.json)
    assert json["00100020"]["Value"] == ["two"]
    assert list(json) == sorted(json)


@pytest.mark.parametrize(**by_name(generated()))
def test_truncation_is_refused(file: File) -> None:
    """A file cut inside an element is refused; cut between two it is a smaller file, or lacks its identity."""
    full = orjson.loads(scan(file.data).json)
    for length in range(len(file.data)):
        found = outcome(file.data[:length])
        if isinstance(found, Scan):
            assert orjson.loads(found.json).items() < full.items()


@pytest.mark.parametrize(**by_name(file for file in STORED if len(file.data) <= 200_000))
def test_truncation_of_real_files(file: File) -> None:
    """Cut at any place, a file is refused or a smaller one: never the same, never another exception."""
    whole = outcome(file.data)
    chance = random.Random(len(file.data))
    for _ in range(200 if HEAVY else 5):
        found = outcome(file.data[: chance.randrange(len(file.data))])
        assert isinstance(found, str) or found != whole


@given(file=st.sampled_from(generated()), data=st.data())
def test_broken_files_are_refused_or_described(file: File, data: st.DataObject) -> None:
    """Whatever bytes are changed: a scan with valid JSON or a refusal, the same for any chunking."""
    broken = bytearray(file.data)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(132, len(broken) - 1))] = data.draw(st.integers(0, 255))
    found = outcome(bytes(broken))
    assert outcome(bytes(broken), list(sliced(bytes(broken), 5))) == found
    if isinstance(found, Scan):
        orjson.loads(found.json)


def test_refusals_tell_nothing_of_the_patient() -> None:
    """No sentence holds a value of the data set."""
    data = instance(PatientName="Doe^Jane", PatientID="SECRET")
    sentences = {found for length in range(len(data)) if isinstance(found := outcome(data[:length]), str)}
    assert sentences
    assert not any(
        "Doe" in sentence or "SECRET" in sentence or CT_IMAGE in sentence for sentence in sentences
    )
