"""Frames as viewers ask for them: as stored, or decoded to what the metadata tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import imagecodecs
import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests import make, make_video
from tests.web import doors
from tests.web.doors import Archive

JPEG, JLS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80"
OCTETS = "application/octet-stream"
OHIF = "multipart/related; type=application/octet-stream; transfer-syntax=*"
OHIF_QUOTED = 'multipart/related; type="application/octet-stream"; transfer-syntax="*"'
OHIF_REQUESTING = (
    'multipart/related; type="image/jls"; transfer-syntax="1.2.840.10008.1.2.4.80"; transfer-syntax="*"'
)
NATIVE = [bytes([number]) * 32 for number in (1, 2, 3)]
PICTURES = [np.arange(256, dtype=np.uint8).reshape(16, 16) // turn for turn in (1, 2, 3)]
CODED = [bytes(imagecodecs.jpegls_encode(picture)) for picture in PICTURES]
EIGHT: dict[str, Any] = {"Rows": 16, "Columns": 16, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}


@pytest.fixture(scope="module")
def native(archive: Archive) -> str:
    (url,) = doors.stored(archive.root, make.instance(NumberOfFrames=3, PixelData=b"".join(NATIVE)))
    return f"{url}/frames"


@pytest.fixture(scope="module")
def coded(archive: Archive) -> str:
    (url,) = doors.stored(archive.root, make.encapsulated(CODED, JLS, **EIGHT))
    return f"{url}/frames"


def get(url: str, accept: str = "", **headers: str) -> httpx.Response:
    return doors.get(url, headers={"Accept": accept} | {k.replace("_", "-"): v for k, v in headers.items()})


@pytest.mark.parametrize("accept", [OHIF, OHIF_QUOTED, 'multipart/related; type="*/*"', "*/*", ""])
def test_a_native_frame_comes_as_it_is(native: str, accept: str) -> None:
    ((head, body),) = doors.parts(get(f"{native}/2", accept))
    assert body == NATIVE[1]
    assert head["content-type"] == f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}"
    assert head["content-location"] == f"{native}/2"


@pytest.mark.parametrize(
    "accept",
    [
        OHIF,
        OHIF_QUOTED,
        OHIF_REQUESTING,
        'multipart/related; type="image/jls"',
        'multipart/related; type="image/x-jls"; transfer-syntax=1.2.840.10008.1.2.4.80',
        'multipart/related; type="*/*"',
        "*/*",
    ],
)
def test_a_compressed_frame_comes_as_it_is(coded: str, accept: str) -> None:
    answer = get(f"{coded}/2", accept)
    ((head, body),) = doors.parts(answer)
    assert body.rstrip(b"\0") == CODED[1].rstrip(b"\0")
    assert head["content-type"] == f"image/jls; transfer-syntax={JLS}"
    assert 'type="image/jls"' in answer.headers["content-type"]


def test_the_first_line_of_a_part_is_its_type(native: str) -> None:
    """A viewer (cornerstone) reads `Content-Type:` in this very spelling after the boundary's line."""
    boundary, line = get(f"{native}/1", OHIF).content.split(b"\r\n")[:2]
    assert boundary.startswith(b"--")
    assert line.startswith(b"Content-Type: ")


@pytest.mark.parametrize(
    "accept",
    [
        f'multipart/related; type="{OCTETS}"',
        f"multipart/related; type={OCTETS}; transfer-syntax={ExplicitVRLittleEndian}",
    ],
)
def test_who_asks_for_octets_gets_a_decoded_frame(coded: str, accept: str) -> None:
    parts = doors.parts(get(f"{coded}/3,1", accept))
    assert [np.frombuffer(body, np.uint8).reshape(16, 16).tolist() for _head, body in parts] == [
        PICTURES[2].tolist(),
        PICTURES[0].tolist(),
    ]
    assert {head["content-type"] for head, _body in parts} == {
        f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}"
    }
    single = get(f"{coded}/2", OCTETS)
    assert (single.content, single.headers["content-length"]) == (PICTURES[1].tobytes(), "256")


@pytest.mark.parametrize(
    ("numbers", "expected"), [("1", [1]), ("3,1", [3, 1]), ("2,2", [2, 2]), ("1,2,3", [1, 2, 3])]
)
def test_frames_come_in_the_order_of_the_address(native: str, numbers: str, expected: list[int]) -> None:
    parts = doors.parts(get(f"{native}/{numbers}"))
    assert [body for _head, body in parts] == [NATIVE[number - 1] for number in expected]
    assert [head["content-location"] for head, _body in parts] == [f"{native}/{n}" for n in expected]


def test_frames_of_one_bit_begin_inside_a_byte_and_come_whole(archive: Archive) -> None:
    """Three frames of 3 x 3 pixels: each comes from its own first bit."""
    bits = np.random.default_rng(1).integers(0, 2, 27, np.uint8)
    packed = np.packbits(bits, bitorder="little").tobytes()
    data = make.instance(
        Rows=3, Columns=3, BitsAllocated=1, BitsStored=1, HighBit=0, NumberOfFrames=3, PixelData=packed
    )
    (url,) = doors.stored(archive.root, data)
    for accept in (OHIF, f'multipart/related; type="{OCTETS}"', "*/*"):
        parts = doors.parts(get(f"{url}/frames/1,2,3", accept))
        for number, (_head, body) in enumerate(parts):
            frame = np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little")[:9]
            assert frame.tolist() == bits[9 * number : 9 * number + 9].tolist()


def test_an_implicit_instance_has_frames_of_little_endian(archive: Archive) -> None:
    (url,) = doors.stored(archive.root, make.instance(ImplicitVRLittleEndian))
    ((head, body),) = doors.parts(get(f"{url}/frames/1", OHIF))
    assert (body, head["content-type"]) == (
        bytes(range(32)),
        f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}",
    )


def test_one_frame_may_be_the_whole_body_and_a_part_of_it(native: str, coded: str) -> None:
    whole = get(f"{native}/2", f"{OCTETS}; transfer-syntax=*")
    assert (whole.status_code, whole.content) == (200, NATIVE[1])
    part = get(
        f"{native}/2", f"{OCTETS}; transfer-syntax=*", Range="bytes=4-7", If_Range=whole.headers["etag"]
    )
    assert (part.status_code, part.content) == (206, NATIVE[1][4:8])
    assert part.headers["content-range"] == "bytes 4-7/32"
    doors.is_problem(get(f"{native}/2", OCTETS, Range="bytes=32-"), 416)
    assert get(f"{native}/2", OCTETS, If_None_Match=whole.headers["etag"]).status_code == 304
    jls = get(f"{coded}/1", "image/jls")
    assert jls.headers["content-type"] == f"image/jls; transfer-syntax={JLS}"


def test_each_frame_and_form_has_a_tag_of_its_own(coded: str) -> None:
    tags = [get(f"{coded}/{n}", accept).headers["etag"] for n in (1, 2) for accept in (OCTETS, "image/jls")]
    assert len(set(tags)) == 4


@pytest.mark.parametrize("accept", [OHIF, OCTETS, "*/*"])
def test_head_tells_what_get_would(native: str, coded: str, accept: str) -> None:
    for url in (f"{native}/1", f"{coded}/1"):
        head, whole = doors.head(url, headers={"Accept": accept}), get(url, accept)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers.get("content-length") == whole.headers.get("content-length")


@pytest.mark.parametrize(
    ("numbers", "status"),
    [
        ("4", 404),
        ("1,4", 404),
        ("999999999", 404),
        ("0", 400),
        ("1,0", 400),
        ("-1", 400),
        ("x", 400),
        ("1,", 400),
        (",", 400),
        ("1.0", 400),
        ("%D9%A1", 400),
        ("%00", 400),
        (",".join(["1"] * 10_001), 400),
    ],
)
def test_a_frame_that_there_is_not(native: str, numbers: str, status: int) -> None:
    doors.is_problem(get(f"{native}/{numbers}"), status)


@pytest.mark.parametrize(
    "accept",
    [
        "image/jpeg",
        f'multipart/related; type="image/jpeg"; transfer-syntax={JPEG}',
        'multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.81',
        "application/dicom",
        "text/html",
    ],
)
def test_a_form_that_cannot_be_made_is_406(coded: str, native: str, accept: str) -> None:
    doors.is_problem(get(f"{coded}/1", accept), 406)
    doors.is_problem(get(f"{native}/1", accept), 406)


def test_several_frames_do_not_fit_one_part(native: str) -> None:
    doors.is_problem(get(f"{native}/1,2", OCTETS), 406)


def test_an_instance_without_pixels_has_no_frames(archive: Archive) -> None:
    (url,) = doors.stored(archive.root, make.instance(PixelData=None, Rows=None, Columns=None))
    doors.is_problem(get(f"{url}/frames/1"), 404)
    doors.is_problem(get(f"{archive.root}/studies/1.2/series/1.2/instances/1.2/frames/1"), 404)


def test_a_video_has_no_frames_and_says_so(archive: Archive, tmp_path: Path) -> None:
    made = make_video.instance(tmp_path / "v.dcm")
    (url,) = doors.stored(archive.root, made.path.read_bytes())
    assert "/rendered" in doors.is_problem(get(f"{url}/frames/1", OHIF), 406)


def test_a_damaged_frame_is_refused_decoded_and_given_as_it_is(archive: Archive) -> None:
    broken = b"\xff\xd8\xff\xf7" + bytes(50)
    (url,) = doors.stored(archive.root, make.encapsulated([broken], JLS, **EIGHT))
    doors.is_problem(get(f"{url}/frames/1", f'multipart/related; type="{OCTETS}"'), 406)
    assert doors.parts(get(f"{url}/frames/1", OHIF))[0][1].startswith(broken)


def test_the_python_client_retrieves_frames(archive: Archive, native: str, coded: str) -> None:
    client = DICOMwebClient(archive.root)
    for url, frames in ((native, NATIVE), (coded, CODED)):
        study, series, instance = url.split("/")[5::2][:3]
        got = client.retrieve_instance_frames(study, series, instance, [1, 3])
        assert [frame[:9] for frame in got] == [frames[0][:9], frames[2][:9]]
