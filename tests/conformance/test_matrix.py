"""Every combination of codec, container, fragments, offset table, sound and B-frames is served as the table says."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import httpx
import pydicom
import pytest

from app.dicom import transfer_syntax
from tests import browser, corpus, make_video
from tests.conformance import matrix, videos
from tests.conformance.matrix import Case
from tests.make_video import Clip
from tests.serving import Server, command

DOCUMENT = Path(__file__).parents[2] / "docs" / "video.md"
SHARED = sorted((corpus.SHARED / "video").glob("*.dcm"))
HEAVY = [
    pytest.param(case, id=case.name, marks=() if case in matrix.SAMPLE else pytest.mark.heavy)
    for case in matrix.CASES
]
Frames = list[tuple[float, str]]


def pictures(content: bytes) -> Frames:
    """Each decoded picture's digest, and its time behind the first's."""
    found = Frames()
    with av.open(io.BytesIO(content), "r") as container:
        for frame in container.decode(container.streams.video[0]):
            found.append((frame.time or 0, hashlib.md5(frame.to_ndarray().tobytes()).hexdigest()))
    first = found[0][0] if found else 0
    return [(at - first, digest) for at, digest in found]


def sounds(content: bytes) -> int:
    with av.open(io.BytesIO(content), "r") as container:
        return len(container.streams.audio)


@cache
def source(case: Case) -> Frames:
    """The pictures of the stream that is stored, by FFmpeg."""
    with TemporaryDirectory() as folder:
        content = case.make(Path(folder)).stream.read_bytes()
    return pictures(content)


def ranges_are_parts(address: str, whole: httpx.Response, count: int = 20) -> None:
    chosen, length = random.Random(5), len(whole.content)
    with httpx.Client(headers={"Accept": "video/mp4"}) as client:
        for _ in range(count):
            start = chosen.randrange(length)
            stop = min(length, start + chosen.choice([1, 7, 1000, 100_000]))
            part = client.get(f"{address}/rendered", headers={"Range": f"bytes={start}-{stop - 1}"})
            assert (part.status_code, part.content) == (206, whole.content[start:stop])
            assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{length}"
            assert part.headers["etag"] == whole.headers["etag"]


def test_the_matrix_is_large_enough() -> None:
    """Sixty combinations and more, all different."""
    assert len({case.name for case in matrix.CASES}) == len(matrix.CASES) >= 60


def test_the_documented_table_is_this_one() -> None:
    """What docs/video.md promises is what these tests show."""
    assert matrix.table() in DOCUMENT.read_text()


@pytest.mark.parametrize("case", HEAVY)
def test_every_combination_is_served_as_it_should(server: str, tmp_path: Path, case: Case) -> None:
    """The same pictures at the same times, sound where there is some, exact ranges; or a refusal that says why."""
    address = videos.store(server, case.make(tmp_path).path)
    whole = videos.answer(f"{address}/rendered")
    if not case.plays:
        assert whole.status_code == 406
        assert case.expected.removeprefix("406: ") in whole.json()["detail"]
        return
    assert whole.status_code == 200, whole.text
    served, stored = pictures(whole.content), source(case)
    assert [digest for _, digest in served] == [digest for _, digest in stored]
    # Without times of all pictures, or of any: they are known from how it was made.
    if case.container in {"ps", "annexb"}:
        stored = [(number / make_video.FPS, "") for number in range(make_video.FRAMES)]
    tolerance = 0.2 if case.container == "ps" else 0.001
    assert [at for at, _ in served] == pytest.approx([at for at, _ in stored], abs=tolerance)
    assert sounds(whole.content) == bool(case.sound)
    assert whole.content.index(b"moov") < whole.content.index(b"mdat")
    ranges_are_parts(address, whole)


@pytest.mark.parametrize("path", ["made", *SHARED], ids=lambda path: getattr(path, "stem", path))
def test_shared_videos_are_served_as_they_should(server: str, tmp_path: Path, path: str | Path) -> None:
    """Files of every syntax, some of them wrongly labelled: the same pictures, or why there are none."""
    if isinstance(path, str):
        path = make_video.instance(tmp_path / "made-mp4.dcm", Clip(sound="aac")).path
    if not transfer_syntax.is_video(
        pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
    ):
        return  # Motion JPEG is a multi-frame image
    address = videos.store(server, path)
    whole = videos.answer(f"{address}/rendered")
    codec = path.stem.partition("-")[0]
    if whole.status_code == 406:
        assert codec == "mpeg2" or path.stem.startswith("bad"), whole.text
        assert whole.json()["detail"].endswith(".")
        return
    assert whole.status_code == 200, whole.text
    stored = pictures(videos.stream(path))
    assert [digest for _, digest in pictures(whole.content)] == [digest for _, digest in stored]
    ranges_are_parts(address, whole)


SYNTAXES = {
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (100, 101)), ("mpeg2video", "video/mpeg")),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in range(102, 107)), ("h264", "video/mp4")),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (107, 108)), ("hevc", "video/H265")),
}
TWINS = [
    f"{syntax}.1" for syntax in SYNTAXES if not syntax.endswith(("107", "108"))
]  # HEVC's have none (PS3.5 A.4)


@pytest.mark.parametrize("syntax", [*SYNTAXES, *TWINS])
def test_every_syntax_of_video_is_known(server: str, tmp_path: Path, syntax: str) -> None:
    """Its MP4 or a reason, its own stream with ranges under its own media type, and no frames of their own."""
    codec, media_type = SYNTAXES[syntax.removesuffix(".1") if syntax in TWINS else syntax]
    clip = Clip(codec, bframes=0 if codec == "mpeg2video" else 2)
    size = 5000 if syntax in TWINS or codec == "hevc" else 0xFFFFFFFE
    made = make_video.instance(tmp_path / "video.dcm", clip, "ts", transfer_syntax=syntax, fragment_size=size)
    address, whole = videos.store(server, made.path), made.stream.read_bytes()
    assert videos.answer(f"{address}/rendered").status_code == (406 if codec == "mpeg2video" else 200)
    stream = httpx.get(f"{address}/bulkdata/7FE00010")
    assert (stream.status_code, stream.content) == (200, whole)
    assert stream.headers["content-type"] == f"{media_type}; transfer-syntax={syntax}"
    part = httpx.get(f"{address}/bulkdata/7FE00010", headers={"Range": "bytes=4999-10001"})
    assert (part.status_code, part.content) == (206, whole[4999:10002])
    refused = httpx.get(f"{address}/frames/1", headers={"Accept": "*/*"})
    assert refused.status_code == 406
    assert "video" in refused.json()["detail"]


def one_of_each(folder: Path) -> Iterator[make_video.Made]:
    """One of each way of serving, the long way included: there the header lies between the media data."""
    for name in ("mp4", "fmp4", "ts", "annexb"):
        yield next(case for case in matrix.SAMPLE if case.container == name).make(folder)
    yield make_video.instance(folder / "long.dcm", Clip(sound="aac"), times=400, fragment_size=1 << 20)


@pytest.mark.timeout(240)
def test_tags_survive_a_restart_and_a_new_index(tmp_path: Path) -> None:
    """A player that comes back with a range of yesterday's video gets the rest of the same bytes."""
    data = tmp_path / "data"
    tags = {}
    server = Server(data).until_ready()
    try:
        for made in one_of_each(tmp_path):
            address = videos.store(server.url, made.path)
            told = videos.answer(f"{address}/rendered")
            assert told.status_code == 200
            assert (b"moof" in told.content) == (made.path.stem == "long")
            ranges_are_parts(address, told)
            tags[address.partition("/dicom-web")[2]] = (
                told.headers["etag"],
                hashlib.md5(told.content).digest(),
            )
        for has_index in (True, False):
            server.tell(signal.SIGTERM)
            if not has_index:
                shutil.rmtree(data / "pg18")
                assert command(data, "reindex").returncode == 0
            server = Server(data).until_ready()
            for path, expected in tags.items():
                told = videos.answer(f"{server.url}/dicom-web{path}/rendered")
                assert (told.headers["etag"], hashlib.md5(told.content).digest()) == expected
    finally:
        server.close()


@pytest.mark.browser
@pytest.mark.heavy
async def test_chromium_plays_all_h264(server: str, tmp_path: Path) -> None:
    """In one browser, one after the other: pictures move, and move again behind a jump."""
    async with browser.chromium() as chromium:
        for case in matrix.CASES:
            if case.codec == "h264" and case.plays:
                address = videos.store(server, case.make(tmp_path).path)
                assert videos.answer(f"{address}/rendered").status_code == 200
                state, asked = await browser.played(chromium, server, f"{address}/rendered", [0.5])
                assert not state["error"], case.name
                assert state["position"] == pytest.approx(state["duration"] / 2, abs=0.3), case.name
                assert {one.status for one in asked} == {206}, case.name
