"""Bulk data: the very bytes, in ranges, and never a page of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests import make, make_video
from tests.web import doors
from tests.web.doors import Archive

OCTETS = "application/octet-stream"
ICC, NESTED = bytes(range(256)) * 8, bytes(reversed(range(256))) * 6
PIXELS = bytes(range(32))
JLS = "1.2.840.10008.1.2.4.80"
EIGHT: dict[str, Any] = {"Rows": 4, "Columns": 4, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}


@pytest.fixture(scope="module")
def url(archive: Archive) -> str:
    """An instance with Pixel Data, a large value and one in a sequence's second item."""
    inner = Dataset()
    inner.EncapsulatedDocument = NESTED
    data = make.dataset(ICCProfile=ICC, PixelData=PIXELS)
    data.ReferencedImageSequence = Sequence([Dataset(), inner])
    (url,) = doors.stored(archive.root, make.part10(data))
    return f"{url}/bulkdata"


def get(url: str, accept: str = "*/*", **headers: str) -> httpx.Response:
    return doors.get(url, headers={"Accept": accept} | {k.replace("_", "-"): v for k, v in headers.items()})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("7FE00010", PIXELS),
        ("7fe00010", PIXELS),
        ("7FE00010/", PIXELS),
        ("00282000", ICC),
        ("00081140/2/00420011", NESTED),
    ],
)
def test_a_value_is_its_very_bytes(url: str, path: str, value: bytes) -> None:
    answer = get(f"{url}/{path}")
    assert (answer.status_code, answer.content) == (200, value)
    assert answer.headers["content-type"].startswith(OCTETS)
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("accept", [f'multipart/related; type="{OCTETS}"', 'multipart/related; type="*/*"'])
def test_a_value_may_come_as_one_part(url: str, accept: str) -> None:
    ((head, body),) = doors.parts(get(f"{url}/00282000", accept))
    assert (body, head["content-location"]) == (ICC, f"{url}/00282000")


@pytest.mark.parametrize(
    ("asked", "status", "body", "told"),
    [
        ("bytes=0-", 206, ICC, "bytes 0-2047/2048"),
        ("bytes=10-19", 206, ICC[10:20], "bytes 10-19/2048"),
        ("bytes=-5", 206, ICC[-5:], "bytes 2043-2047/2048"),
        ("bytes=2000-9999", 206, ICC[2000:], "bytes 2000-2047/2048"),
        ("bytes=-9999", 206, ICC, "bytes 0-2047/2048"),
        ("bytes=2048-", 416, None, "bytes */2048"),
        ("bytes=-0", 416, None, "bytes */2048"),
        ("bytes=9-1", 200, ICC, None),
        ("bytes=x", 200, ICC, None),
        ("items=0-1", 200, ICC, None),
        ("bytes=0-1,5-6", 200, ICC, None),
    ],
)
def test_a_part_of_a_value_can_be_had(
    url: str, asked: str, status: int, body: bytes | None, told: str | None
) -> None:
    answer = get(f"{url}/00282000", Range=asked)
    assert (answer.status_code, answer.headers.get("content-range")) == (status, told)
    assert body is None or (answer.content, answer.headers["content-length"]) == (body, str(len(body)))


@pytest.mark.parametrize(
    "path",
    [
        "00282001",
        "00081140/1/00420011",
        "00081140/3/00420011",
        "00081140",
        "7FE00010/1",
        "PixelData",
        "%00",
        "..%2F..%2F..%2Fetc%2Fpasswd",
        "😀",
        "",
    ],
)
def test_a_path_that_leads_nowhere_is_404(url: str, path: str) -> None:
    doors.is_problem(get(f"{url}/{path}"), 404)


def test_what_was_stored_is_inert_in_a_browser(archive: Archive) -> None:
    """A script that a stranger stored does not run under our name."""
    script = b"<html><script>alert(1)</script>" + b" " * 2001
    (instance,) = doors.stored(archive.root, make.instance(EncapsulatedDocument=script, PixelData=None))
    for accept in ("text/html,*/*;q=0.8", "*/*", OCTETS):
        answer = get(f"{instance}/bulkdata/00420011", accept)
        assert answer.content == script
        assert not answer.headers["content-type"].startswith("text/")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox")


@pytest.fixture(scope="module")
def frames(archive: Archive) -> tuple[str, str]:
    """The Pixel Data of an image of one compressed frame, and of one of three."""
    one = make.encapsulated([b"\xff\xd8one!"], JLS, **EIGHT)
    three = make.encapsulated([b"\xff\xd8first!", b"\xff\xd8second", b"\xff\xd8third!"], JLS, **EIGHT)
    first, second = doors.stored(archive.root, one, three)
    return f"{first}/bulkdata/7FE00010", f"{second}/bulkdata/7FE00010"


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        'multipart/related; type="*/*"',
        f'multipart/related; type="{OCTETS}"',
        f"multipart/related; type={OCTETS}; transfer-syntax=*",
        'multipart/related; type="image/jls"',
    ],
)
def test_an_encapsulated_image_of_several_frames_is_a_part_for_each(
    frames: tuple[str, str], accept: str
) -> None:
    answer = get(frames[1], accept)
    assert [body for _head, body in doors.parts(answer)] == [
        b"\xff\xd8first!",
        b"\xff\xd8second",
        b"\xff\xd8third!",
    ]
    assert all(f"transfer-syntax={JLS}" in head["content-type"] for head, _body in doors.parts(answer))
    doors.is_problem(get(frames[1], "image/jls"), 406)


@pytest.mark.parametrize("accept", ["*/*", "image/jls", OCTETS, f"{OCTETS}; transfer-syntax=*"])
def test_one_compressed_frame_is_a_body_with_its_syntax(frames: tuple[str, str], accept: str) -> None:
    answer = get(frames[0], accept)
    assert answer.content == b"\xff\xd8one!"
    assert answer.headers["content-type"].endswith(f"transfer-syntax={JLS}")


def test_what_cannot_be_made_is_406(url: str, frames: tuple[str, str]) -> None:
    doors.is_problem(get(f"{url}/00282000", "image/jpeg"), 406)
    doors.is_problem(get(frames[0], "image/jp2"), 406)
    doors.is_problem(get(frames[0], f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.1"), 406)


@pytest.mark.parametrize("fragment_size", [1 << 20, 5000], ids=["one fragment", "many"])
def test_the_stream_of_a_video_is_joined_and_unpadded(
    archive: Archive, tmp_path: Path, fragment_size: int
) -> None:
    made = make_video.instance(tmp_path / "v.dcm", odd=True, fragment_size=fragment_size)
    (instance,) = doors.stored(archive.root, made.path.read_bytes())
    stream = made.stream.read_bytes()
    answer = get(f"{instance}/bulkdata/7FE00010")
    assert (answer.content, answer.headers["content-length"]) == (stream, str(made.length))
    assert answer.headers["content-type"].startswith("video/mp4")
    part = get(f"{instance}/bulkdata/7FE00010?accept=video/mp4", Range="bytes=4990-5010")
    assert (part.status_code, part.content) == (206, stream[4990:5011])
    assert get(f"{instance}/bulkdata/7FE00010", f'multipart/related; type="{OCTETS}"').status_code == 200


def test_a_value_is_not_sent_again_to_who_has_it(url: str) -> None:
    etag = get(f"{url}/00282000").headers["etag"]
    assert etag != get(f"{url}/7FE00010").headers["etag"]
    assert get(f"{url}/00282000", If_None_Match=etag).status_code == 304
    head = doors.head(f"{url}/00282000")
    assert (head.headers["etag"], head.headers["content-length"], head.content) == (etag, "2048", b"")


def test_the_python_client_retrieves_bulk_data(url: str, frames: tuple[str, str]) -> None:
    client: Any = DICOMwebClient(url.partition("/studies")[0])
    assert client.retrieve_bulkdata(f"{url}/00282000") == [ICC]
    assert len(client.retrieve_bulkdata(frames[1])) == 3
