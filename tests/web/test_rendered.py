"""Pictures as their objects say they are looked at, and videos that play and seek."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path
from random import Random
from struct import pack
from typing import Any

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from tests import make, make_video
from tests.make_video import Clip
from tests.web import doors
from tests.web.doors import Archive

OCTETS = 'multipart/related; type="application/octet-stream"'
OBJECT = "text/html,application/xhtml+xml,image/avif,*/*;q=0.8"
RAMP = list(range(0, 4096, 16))


@pytest.fixture(scope="module")
def ramp(archive: Archive) -> str:
    """An image of 16 x 16 whose values are 0, 16, … 4080; its own window is all of them."""
    data = make.instance(
        Rows=16,
        Columns=16,
        BitsStored=12,
        HighBit=11,
        WindowCenter=2048,
        WindowWidth=4096,
        PixelData=pack("<256H", *RAMP),
    )
    return doors.stored(archive.root, data)[0]


@pytest.fixture(scope="module")
def report(archive: Archive) -> str:
    data = make.instance(PixelData=None, Rows=None, Columns=None, Modality="SR")
    return doors.stored(archive.root, data)[0]


def get(url: str, accept: str = "", **headers: str) -> httpx.Response:
    return doors.get(
        url, headers={"Accept": accept} | {k.replace("_", "-"): v for k, v in headers.items()}, timeout=30
    )


def ready(url: str, accept: str = "") -> httpx.Response:
    """The answer once the rendition is made, however busy the machine is."""
    deadline = time.monotonic() + 60
    while (answer := get(url, accept)).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer


def pixels(answer: httpx.Response) -> np.ndarray[Any, np.dtype[np.uint8]]:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(BytesIO(answer.content)))


@pytest.mark.parametrize("path", ["rendered", "frames/1/rendered", "thumbnail", "frames/1/thumbnail"])
@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "JPEG"),
        ("*/*", "JPEG"),
        ("image/*", "JPEG"),
        (OBJECT, "JPEG"),
        ("image/jpeg", "JPEG"),
        ("image/jpg", "JPEG"),
        ("image/png", "PNG"),
        ("image/png;q=0.9, image/jpeg;q=0.1", "PNG"),
        ("image/avif,image/webp,image/apng,image/*,*/*;q=0.8", "JPEG"),
    ],
)
def test_a_picture_is_a_jpeg_or_a_png(ramp: str, path: str, accept: str, kind: str) -> None:
    answer = get(f"{ramp}/{path}", accept)
    picture = Image.open(BytesIO(answer.content))
    assert (picture.format, picture.size, picture.mode) == (kind, (16, 16), "L")
    assert answer.headers["content-type"] == f"image/{kind.lower()}"
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["content-length"] == str(len(answer.content))


def test_the_accept_parameter_goes_before_the_header(ramp: str) -> None:
    """As `<img src>` needs it; OHIF escapes the slash."""
    for path in ("rendered", "thumbnail"):
        answer = get(f"{ramp}/{path}?accept=image%2Fpng", "image/jpeg")
        assert answer.headers["content-type"] == "image/png"


def linear(center: float, width: float) -> list[int]:
    """PS3.3 C.11.2.1.2.1, as it is written there."""
    shares = [
        0
        if x <= center - 0.5 - (width - 1) / 2
        else 1
        if x > center - 0.5 + (width - 1) / 2
        else (x - (center - 0.5)) / (width - 1) + 0.5
        for x in RAMP
    ]
    return [int(255 * share + 0.5) for share in shares]


def exact(center: float, width: float) -> list[int]:
    return [int(255 * min(max((x - center) / width + 0.5, 0), 1) + 0.5) for x in RAMP]


def sigmoid(center: float, width: float) -> list[int]:
    return [int(255 / (1 + np.exp(-4 * (x - center) / width)) + 0.5) for x in RAMP]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", linear(2048, 4096)),
        ("window=1000,500", linear(1000, 500)),
        ("window=1000,500,linear", linear(1000, 500)),
        ("window=1000,500,LINEAR", linear(1000, 500)),
        ("window=1000.5,1", linear(1000.5, 1)),
        ("window=-100,300", linear(-100, 300)),
        ("window=2000,1000,linear-exact", exact(2000, 1000)),
        ("window=2000,1000,linear_exact", exact(2000, 1000)),
        ("window=2000,0.000001,linear-exact", [0 if x < 2000 else 128 if x == 2000 else 255 for x in RAMP]),
        ("window=2000,1000,sigmoid", sigmoid(2000, 1000)),
    ],
)
def test_a_window_is_applied_as_its_formula_says(ramp: str, query: str, expected: list[int]) -> None:
    got = pixels(get(f"{ramp}/rendered?{query}", "image/png")).reshape(-1)
    assert np.abs(got.astype(int) - np.array(expected)).max() <= 1


@pytest.mark.parametrize(
    ("viewport", "size"),
    [
        ("8,8", (8, 8)),
        ("32,32", (32, 32)),
        ("32,8", (8, 8)),
        ("100,1", (1, 1)),
        ("8,8,,,,", (8, 8)),
        ("8,8,0,0,8,16", (4, 8)),
        ("4,4,8,8,8,8", (4, 4)),
    ],
)
def test_a_viewport_is_filled_without_distortion(ramp: str, viewport: str, size: tuple[int, int]) -> None:
    answer = get(f"{ramp}/rendered?viewport={viewport}", "image/png")
    assert Image.open(BytesIO(answer.content)).size == size


def test_a_viewport_shows_its_part_of_the_frame(ramp: str) -> None:
    whole = pixels(get(f"{ramp}/rendered", "image/png"))
    part = pixels(get(f"{ramp}/rendered?viewport=4,4,8,4,4,4", "image/png"))
    assert part.tolist() == whole[4:8, 8:12].tolist()
    flipped = pixels(get(f"{ramp}/rendered?viewport=4,4,8,4,-4,4", "image/png"))
    assert flipped.tolist() == whole[4:8, 8:12][:, ::-1].tolist()


def test_quality_is_that_of_the_jpeg(archive: Archive) -> None:
    (url,) = doors.stored(archive.root, make.picture(128))
    sizes = [len(get(f"{url}/rendered?quality={quality}").content) for quality in (1, 50, 100)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3


@pytest.mark.parametrize(
    ("query", "name"),
    [
        *(
            (f"window={text}", "window")
            for text in ("", "1", "1,2,3,4", "1,0", "1,-5", "a,b", "nan,1", "1,inf")
        ),
        *(
            (f"window={text}", "window")
            for text in ("1,0.5", "1,2,", "1,2,cubic", "1e400,1", "1_0,1", "1,0,sigmoid")
        ),
        *(
            (f"viewport={text}", "viewport")
            for text in ("", "1", "0,5", "5,0", "-1,5", "1.5,2", "a,b", "99999,1")
        ),
        *(
            (f"viewport={text}", "viewport")
            for text in ("5,5,nan,0,1,1", "5,5,0,0,0,1", "5,5,0,0,inf,1", "%D9%A1,1")
        ),
        *((f"viewport={text}", "viewport") for text in ("5,5,1,1,1,1,1", "5,5,1e308,0,1e308,1")),
        *((f"quality={text}", "quality") for text in ("", "0", "101", "-1", "1.5", "high", "%C2%B2")),
    ],
)
@pytest.mark.parametrize("path", ["rendered", "frames/1/rendered", "thumbnail"])
def test_a_parameter_that_cannot_be_read_is_told_by_its_name(
    ramp: str, path: str, query: str, name: str
) -> None:
    assert doors.is_problem(get(f"{ramp}/{path}?{query}"), 400).startswith(name)


@pytest.mark.parametrize("level", [1, 3, 5], ids=["study", "series", "instance"])
@pytest.mark.parametrize("accept", [OCTETS, "image/jpeg", "*/*", "application/dicom+json", ""])
def test_a_thumbnail_comes_whatever_is_accepted(archive: Archive, level: int, accept: str) -> None:
    """Viewers fetch thumbnails with the Accept header of bulk data; large pictures are shrunk."""
    (url,) = doors.stored(archive.root, make.picture(300))
    words = url.removeprefix(f"{archive.root}/").split("/")
    answer = get(f"{archive.root}/{'/'.join(words[: level + 1])}/thumbnail", accept)
    picture = Image.open(BytesIO(answer.content))
    assert (answer.headers["content-type"], picture.size) == ("image/jpeg", (256, 256))
    asked = get(f"{archive.root}/{'/'.join(words[: level + 1])}/thumbnail?viewport=64%2C64", accept)
    assert Image.open(BytesIO(asked.content)).size == (64, 64)


def test_a_study_is_shown_by_its_first_image(archive: Archive, tmp_path: Path) -> None:
    """Not by a report nor by a video that come before it."""
    study = make.uid()
    video = make_video.instance(tmp_path / "v.dcm", StudyInstanceUID=study)
    doors.stored(
        archive.root,
        make.instance(StudyInstanceUID=study, PixelData=None, Modality="SR"),
        video.path.read_bytes(),
        make.instance(StudyInstanceUID=study, Rows=4, Columns=4),
    )
    assert pixels(get(f"{archive.root}/studies/{study}/thumbnail")).shape == (4, 4)


def test_what_has_no_picture_says_so(archive: Archive, report: str) -> None:
    """It is there, and cannot be shown: 406 with what it is. What is not there is 404."""
    study = report.partition("/series")[0]
    for url in (f"{report}/rendered", f"{report}/thumbnail", f"{report}/frames/1/rendered"):
        assert "CT Image Storage" in doors.is_problem(get(url), 406)
    assert "picture" in doors.is_problem(get(f"{study}/thumbnail"), 406)
    doors.is_problem(get(f"{archive.root}/studies/1.2/thumbnail"), 404)
    doors.is_problem(get(f"{archive.root}/studies/1.2/series/1/instances/1/rendered"), 404)


PDF, CDA = "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.104.2"


def document(archive: Archive, content: bytes, sop_class: str = PDF, **more: Any) -> str:
    data = make.instance(
        PixelData=None,
        Rows=None,
        Columns=None,
        Modality="DOC",
        SOPClassUID=sop_class,
        MIMETypeOfEncapsulatedDocument="application/pdf",
        EncapsulatedDocument=content + bytes(len(content) % 2),
        **more,
    )
    return doors.stored(archive.root, data)[0]


@pytest.mark.parametrize("size", [20, 501, 5000, 5001, 200_001])
@pytest.mark.parametrize("accept", ["", OBJECT, "application/pdf"])
def test_a_pdf_is_shown_as_it_was_stored(archive: Archive, size: int, accept: str) -> None:
    """Without its pad, in ranges, and as nothing of ours: no script of it runs under our name."""
    content = b"%PDF-1.7 " + bytes(range(1, 256)) * 800
    url = document(archive, content[:size], EncapsulatedDocumentLength=size)
    answer = get(f"{url}/rendered", accept)
    assert (answer.status_code, answer.content) == (200, content[:size])
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")
    uid = url.rpartition("/")[2]
    assert answer.headers["content-disposition"] == f'inline; filename="{uid}.pdf"'
    part = get(f"{url}/rendered", accept, Range="bytes=5-9")
    assert (part.status_code, part.content) == (206, content[5:10])
    assert get(f"{url}/rendered", accept, If_None_Match=answer.headers["etag"]).status_code == 304


def test_a_document_whose_length_is_a_lie_is_whole(archive: Archive) -> None:
    content = b"%PDF-1.7 " + bytes(5001)
    for told in (None, 0, 3, 2**32 - 1):
        url = document(archive, content, EncapsulatedDocumentLength=told)
        assert get(f"{url}/rendered").content == content


def test_other_documents_are_not_shown(archive: Archive) -> None:
    """A CDA is not served as a page, a PDF is no picture, and one without its document says so."""
    page = document(archive, b"<html><script>alert(1)</script></html>", CDA)
    assert "CDA" in doors.is_problem(get(f"{page}/rendered", OBJECT), 406)
    url = document(archive, b"%PDF-1.7")
    doors.is_problem(get(f"{url}/rendered", "image/jpeg"), 406)
    assert "PDF" in doors.is_problem(get(f"{url}/thumbnail"), 406)
    assert "document" in doors.is_problem(get(f"{document(archive, b'')}/rendered"), 406)


def test_what_cannot_be_made_is_406(ramp: str) -> None:
    for accept in ("video/mp4", "image/gif", "application/dicom", OCTETS):
        doors.is_problem(get(f"{ramp}/rendered", accept), 406)


def test_a_frame_is_rendered_by_its_number(archive: Archive) -> None:
    frames = b"".join(pack("<16H", *[value] * 16) for value in (0, 500, 1000))
    data = make.instance(NumberOfFrames=3, PixelData=frames, WindowCenter=500, WindowWidth=1001)
    (url,) = doors.stored(archive.root, data)
    shades = [int(pixels(get(f"{url}/frames/{n}/rendered", "image/png")).mean()) for n in (1, 2, 3)]
    assert shades in ([0, 127, 255], [0, 128, 255])
    assert pixels(get(f"{url}/rendered", "image/png")).tolist() == [[0] * 4] * 4
    doors.is_problem(get(f"{url}/frames/4/rendered"), 404)
    for wrong in ("0", "x", "1,2"):
        doors.is_problem(get(f"{url}/frames/{wrong}/rendered"), 400)


def test_a_picture_is_not_sent_again_to_who_has_it(ramp: str) -> None:
    """A picture made otherwise has another tag."""
    tag = get(f"{ramp}/rendered").headers["etag"]
    assert get(f"{ramp}/rendered", If_None_Match=tag).status_code == 304
    for other in (
        "rendered?window=1,2",
        "rendered?quality=9",
        "rendered?viewport=8,8",
        "rendered?accept=image/png",
    ):
        assert get(f"{ramp}/{other}", If_None_Match=tag).status_code == 200
    head = doors.head(f"{ramp}/rendered")
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)


def test_a_picture_is_not_made_for_a_head(archive: Archive) -> None:
    """All is told but the length, which only making it would tell; what is not there is not there."""
    (broken,) = doors.stored(archive.root, make.encapsulated([b"no picture"], "1.2.840.10008.1.2.4.50"))
    head = doors.head(f"{broken}/rendered")
    assert (head.status_code, head.headers["content-type"]) == (200, "image/jpeg")
    assert not {"content-length", "transfer-encoding"} & set(head.headers)
    assert get(f"{broken}/rendered", If_None_Match=head.headers["etag"]).status_code == 304
    assert get(f"{broken}/rendered").status_code == 406
    assert doors.head(f"{broken}/frames/2/rendered").status_code == 404


# Videos


@pytest.fixture(scope="module")
def video(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, make_video.Made]:
    """A video whose `moov` is last, in many fragments."""
    made = make_video.instance(
        tmp_path_factory.mktemp("video") / "v.dcm", Clip(sound="aac"), times=4, fragment_size=30_000
    )
    return doors.stored(archive.root, made.path.read_bytes())[0], made


@pytest.fixture(scope="module")
def whole(video: tuple[str, make_video.Made]) -> bytes:
    answer = get(f"{video[0]}/rendered")
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.mark.parametrize(
    "accept", ["", "*/*", "video/mp4", "video/*", "video/mp4;q=0.9, image/jpeg;q=0.1", OBJECT]
)
def test_a_video_is_an_mp4_that_plays(video: tuple[str, make_video.Made], whole: bytes, accept: str) -> None:
    answer = get(f"{video[0]}/rendered", accept)
    assert answer.headers["content-type"].startswith("video/mp4")
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.content == whole
    assert whole.index(b"moov") < whole.index(b"mdat")
    with av.open(BytesIO(whole), "r") as played, av.open(video[1].stream, "r") as source:
        assert [f.to_ndarray().tobytes() for f in played.decode(video=0)] == [
            f.to_ndarray().tobytes() for f in source.decode(video=0)
        ]


def test_any_part_of_a_video_can_be_had(video: tuple[str, make_video.Made], whole: bytes) -> None:
    random = Random(7)
    with httpx.Client() as client:
        for _ in range(200):
            start = random.randrange(len(whole))
            stop = min(start + random.choice((1, 100, 50_000)), len(whole))
            answer = client.get(f"{video[0]}/rendered", headers={"Range": f"bytes={start}-{stop - 1}"})
            assert answer.status_code == 206
            assert answer.content == whole[start:stop]
            assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"


@pytest.mark.parametrize(("asked", "start"), [("bytes=0-", 0), ("bytes=5000-", 5000), ("bytes=-77", -77)])
def test_an_open_range_goes_to_the_end(
    video: tuple[str, make_video.Made], whole: bytes, asked: str, start: int
) -> None:
    answer = get(f"{video[0]}/rendered", "*/*", Range=asked)
    assert (answer.status_code, answer.content) == (206, whole[start:])


def test_a_range_beyond_the_end_is_416(video: tuple[str, make_video.Made], whole: bytes) -> None:
    answer = get(f"{video[0]}/rendered", Range=f"bytes={len(whole)}-")
    doors.is_problem(answer, 416)
    assert answer.headers["content-range"] == f"bytes */{len(whole)}"


def test_a_range_of_another_version_is_the_whole(video: tuple[str, make_video.Made], whole: bytes) -> None:
    tag = get(f"{video[0]}/rendered").headers["etag"]
    assert get(f"{video[0]}/rendered", Range="bytes=5-9", If_Range=tag).content == whole[5:10]
    other = get(f"{video[0]}/rendered", Range="bytes=5-9", If_Range='"other"')
    assert (other.status_code, other.content) == (200, whole)
    head = doors.head(f"{video[0]}/rendered", headers={"Range": "bytes=5-9"})
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(whole)), b"")


def test_a_video_shows_its_poster_where_a_picture_is_asked_for(video: tuple[str, make_video.Made]) -> None:
    for path in ("rendered?accept=image/jpeg", "thumbnail", "frames/1/rendered"):
        answer = get(f"{video[0]}/{path}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert "video" in doors.is_problem(get(f"{video[0]}/frames/2/rendered"), 406)


@pytest.mark.parametrize("container", ["fmp4", "ts", "ps"])
def test_a_video_in_another_container_is_an_mp4_as_well(
    archive: Archive, tmp_path: Path, container: make_video.Container
) -> None:
    """With the same pictures, in whatever ranges it is asked for; its stream stays as it came."""
    clip = Clip(sound="" if container == "ps" else "aac")
    made = make_video.instance(tmp_path / "v.dcm", clip, container, times=2, fragment_size=30_000)
    (url,) = doors.stored(archive.root, made.path.read_bytes())
    answer = ready(f"{url}/rendered", "video/mp4")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4"), answer.text
    with av.open(BytesIO(answer.content), "r") as played, av.open(made.stream, "r") as source:
        assert [f.to_ndarray().tobytes() for f in played.decode(video=0)] == [
            f.to_ndarray().tobytes() for f in source.decode(video=0)
        ]
    random = Random(7)
    for _ in range(30):
        start = random.randrange(len(answer.content))
        part = get(f"{url}/rendered", Range=f"bytes={start}-{start + 9999}")
        assert (part.status_code, part.content) == (206, answer.content[start : start + 10_000])
        assert part.headers["etag"] == answer.headers["etag"]
    assert get(f"{url}/bulkdata/7FE00010").content == made.stream.read_bytes()


@pytest.mark.parametrize(
    ("clip", "container", "reason"),
    [
        (Clip(codec="mpeg2video", bframes=0), "ts", "MPEG-2, which no browser plays"),
    ],
)
def test_a_video_that_cannot_be_played_says_why(
    archive: Archive, tmp_path: Path, clip: Clip, container: make_video.Container, reason: str
) -> None:
    """Its stream can be had all the same."""
    made = make_video.instance(tmp_path / "v.dcm", clip, container)
    (url,) = doors.stored(archive.root, made.path.read_bytes())
    assert reason in doors.is_problem(ready(f"{url}/rendered"), 406)
    assert get(f"{url}/bulkdata/7FE00010").content == made.stream.read_bytes()


def test_mpeg2_comes_as_it_is_to_who_asks_for_it(archive: Archive, tmp_path: Path) -> None:
    """A player's `*/*` hears why it cannot be played."""
    made = make_video.instance(tmp_path / "v.dcm", Clip("mpeg2video", bframes=0), "ps", fragment_size=5000)
    (url,) = doors.stored(archive.root, made.path.read_bytes())
    whole = made.stream.read_bytes()
    for accept in ("video/mpeg", "video/mpeg, */*;q=0.1", "video/mpeg2"):
        answer = get(f"{url}/rendered", accept)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mpeg")
        assert answer.content == whole
    part = get(f"{url}/rendered", "video/mpeg", Range="bytes=100-6000")
    assert (part.status_code, part.content) == (206, whole[100:6001])
    for accept in ("*/*", "video/mp4", "video/*"):
        assert "MPEG-2" in doors.is_problem(ready(f"{url}/rendered", accept), 406)
    assert "video" in doors.is_problem(get(f"{url}/frames/1", "*/*"), 406)
    other = make_video.instance(tmp_path / "o.dcm", Clip("mpeg2video", bframes=0))
    (url,) = doors.stored(archive.root, other.path.read_bytes())
    doors.is_problem(get(f"{url}/rendered", "video/mpeg"), 406)


def test_codecs_that_are_asked_for_are_those_of_the_stream(
    archive: Archive, video: tuple[str, make_video.Made], tmp_path: Path
) -> None:
    """Whatever the transfer syntax says."""
    assert get(f"{video[0]}/rendered", 'video/mp4; codecs="avc1.64001f"').status_code == 200
    answer = get(f"{video[0]}/rendered", "video/mp4; codecs=hvc1")
    assert "avc1" in doors.is_problem(answer, 406)
    made = make_video.instance(tmp_path / "v.dcm", Clip("hevc"), "ts", transfer_syntax=make_video.H264)
    (url,) = doors.stored(archive.root, made.path.read_bytes())
    assert (
        get(f"{url}/rendered", "video/mp4; codecs=hvc1.1.6.L93")
        .headers["content-type"]
        .startswith('video/mp4; codecs="hvc1.')
    )
    assert "hvc1" in doors.is_problem(get(f"{url}/rendered", "video/mp4; codecs=avc1.42001f"), 406)


def test_where_a_data_set_is_wrong_the_stream_wins_and_says_so(archive: Archive, tmp_path: Path) -> None:
    """In a document of its own, and in a header of what is rendered once that is known."""
    made = make_video.instance(
        tmp_path / "v.dcm", Clip(sound="mp2"), "ts", NumberOfFrames=7, transfer_syntax=make_video.HEVC
    )
    (url,) = doors.stored(archive.root, made.path.read_bytes())
    answer = ready(f"{url}/stream", "application/json")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["container"], told["codec"], told["width"], told["height"]) == ("ts", "h264", 160, 120)
    assert (told["rate"], told["samples"], told["sound"]["codec"]) == ("25", make_video.FRAMES, "mp2")
    frames, sound = f"NumberOfFrames is 7, the stream has {make_video.FRAMES}.", "The sound is mp2"
    assert frames in told["warnings"]
    assert any(text.startswith(sound) for text in told["warnings"])
    assert any("which is H.264" in text for text in told["warnings"])
    played = ready(f"{url}/rendered", "video/mp4")
    assert played.status_code == 200
    assert [f'299 {archive.root} "{text}"' for text in told["warnings"]] == played.headers.get_list("warning")


def test_what_is_no_video_has_no_stream(ramp: str, video: tuple[str, make_video.Made]) -> None:
    doors.is_problem(get(f"{ramp}/stream"), 404)
    doors.is_problem(get(f"{video[0]}/stream", "text/html"), 406)
    assert ready(f"{video[0]}/stream").json()["warnings"] == []


def test_hevc_is_typed_with_its_codecs(archive: Archive, tmp_path: Path) -> None:
    made = make_video.instance(tmp_path / "v.dcm", Clip(codec="hevc", tag="hvc1"))
    (url,) = doors.stored(archive.root, made.path.read_bytes())
    for accept in ("*/*", "video/mp4", "video/H265", 'video/mp4; codecs="hvc1.1.6.L93.B0"'):
        answer = get(f"{url}/rendered", accept)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith('video/mp4; codecs="hvc1.')


def test_a_video_in_the_making_is_503_with_the_time_to_ask_again(empty: str, tmp_path: Path) -> None:
    """Never 202 nor a part of it: a player takes those for a broken file."""
    made = make_video.instance(tmp_path / "v.dcm")
    with doors.serving(empty, tmp_path / "data", rendition_wait_s=0.2) as archive:
        (url,) = doors.stored(archive.root, made.path.read_bytes())
        until_ready(url)
        away = """update rendition set state = 'running', lease_until = now() + interval '1 hour', progress = 0.25,
            started_at = now() - interval '10 seconds' where kind = 'mp4' returning id"""
        assert len(archive.column(away)) == 1
        answer = get(f"{url}/rendered")
        doors.is_problem(answer, 503)
        assert 30 <= int(answer.headers["retry-after"]) <= 60  # three quarters are left


def until_ready(url: str) -> None:
    deadline = time.monotonic() + 15
    while get(f"{url}/rendered").status_code != 200:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("container", ["mp4", "annexb"])
def test_a_video_has_the_same_tag_and_bytes_after_a_restart(
    empty: str, tmp_path: Path, container: make_video.Container
) -> None:
    """And when what was made of it is made again."""
    made = make_video.instance(tmp_path / "v.dcm", Clip(), container, fragment_size=30_000)
    answers = []
    with doors.serving(empty, tmp_path / "data") as archive:
        (url,) = doors.stored(archive.root, made.path.read_bytes())
        answers.append(get(f"{url}/rendered"))
        path = url.removeprefix(archive.root)
    with doors.serving(empty, tmp_path / "data") as archive:
        answers.append(get(f"{archive.root}{path}/rendered"))
        assert len(archive.column("delete from rendition where kind = 'mp4' returning id")) == 1
        answers.append(get(f"{archive.root}{path}/rendered"))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["etag"] for answer in answers}) == 1
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_bare_stream_plays_and_seeks(archive: Archive, tmp_path: Path, codec: str) -> None:
    """As MP4, every picture the source's, each range a part of the whole."""
    made = make_video.instance(tmp_path / "v.dcm", Clip(codec), "annexb", fragment_size=7000, times=2)
    (url,) = doors.stored(archive.root, made.path.read_bytes())
    whole = get(f"{url}/rendered", "video/mp4")
    assert whole.headers["content-type"].startswith("video/mp4")
    assert pictures(whole.content, "mp4") == pictures(made.stream.read_bytes(), codec)
    chosen = Random(5)
    for _ in range(50):
        start = chosen.randrange(len(whole.content))
        part = get(f"{url}/rendered", Range=f"bytes={start}-{start + chosen.randrange(20_000)}")
        assert part.status_code == 206
        assert part.content == whole.content[start : start + len(part.content)]
    assert get(f"{url}/bulkdata/7FE00010").content == made.stream.read_bytes()


def pictures(source: bytes, form: str) -> list[bytes]:
    with av.open(BytesIO(source), "r", format=form) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]
