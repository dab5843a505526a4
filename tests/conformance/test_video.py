"""The video at /rendered for players that are no browser: FFmpeg's over HTTP, and anyone who reads by ranges."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
from collections.abc import Iterator
from pathlib import Path

import av
import httpx
import pytest

from tests import make_video
from tests.conformance import videos
from tests.make_video import Clip

RANGES = 1000


def pictures(source: str | io.BytesIO) -> Iterator[tuple[bytes, object]]:
    """Each decoded picture's digest and time; FFmpeg asks an address by ranges."""
    with av.open(source, "r", timeout=30) as container:
        (stream,) = container.streams.video
        for frame in container.decode(stream):
            yield hashlib.md5(frame.to_ndarray().tobytes()).digest(), frame.time


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.mark.parametrize("name", videos.NAMES)
def test_every_picture_is_the_source_s(server: str, folder: Path, name: str) -> None:
    """FFmpeg plays the address and sees what it sees in the stored stream, at the same times."""
    path = videos.file(name, folder)
    found = list(pictures(f"{videos.playable(server, path)}/rendered"))
    assert len(found) >= 15
    assert found == list(pictures(io.BytesIO(videos.stream(path))))


@pytest.mark.parametrize("name", videos.BARE)
def test_a_stream_without_times_is_given_them(server: str, folder: Path, name: str) -> None:
    """Each picture stands where the data set's frame time puts it."""
    path = videos.file(name, folder)
    found = list(pictures(f"{videos.playable(server, path)}/rendered"))
    digests = [digest for digest, _ in pictures(io.BytesIO(videos.stream(path)))]
    assert [digest for digest, _ in found] == digests
    assert [time for _, time in found] == pytest.approx(
        [number / make_video.FPS for number in range(len(found))]
    )


@pytest.fixture(scope="module")
def long(server: str, folder: Path) -> tuple[str, bytes]:
    """The address of a video of some megabytes in many fragments, and its whole answer."""
    clip = Clip(sound="aac", width=640, height=480, kilobits=6000)
    made = make_video.instance(folder / "long.dcm", clip, times=4, fragment_size=333_332, odd=True)
    assert len(made.fragments) > 10
    address = f"{videos.playable(server, made.path)}/rendered"
    answer = httpx.get(address)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("video/mp4")
    assert answer.headers["accept-ranges"] == "bytes"
    assert int(answer.headers["content-length"]) == len(answer.content)
    return address, answer.content


def requested(length: int) -> Iterator[tuple[str, int, int]]:
    """Ranges of every form and size, and the part that each must give."""
    chosen = random.Random(7)
    for number in range(RANGES):
        start = chosen.randrange(length)
        stop = min(start + chosen.choice([1, 2, 100, 5000, 70_000, 400_000]), length)
        match number % 8:
            case 0:
                yield f"bytes=-{stop - start}", length - stop + start, length
            case 1:
                yield f"bytes={length - stop + start}-", length - stop + start, length
            case 2:
                yield f"bytes={length - stop + start}-{length + number}", length - stop + start, length
            case _:
                yield f"bytes={start}-{stop - 1}", start, stop


def test_a_thousand_ranges_are_parts_of_the_whole(long: tuple[str, bytes]) -> None:
    """Each has its exact bytes, length and Content-Range, wherever fragments end."""
    address, whole = long
    with httpx.Client() as client:
        tag = client.head(address).headers["etag"]
        for asked, start, stop in requested(len(whole)):
            answer = client.get(address, headers={"Range": asked})
            assert answer.status_code == 206, asked
            assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole)}"
            assert int(answer.headers["content-length"]) == stop - start
            assert answer.headers["etag"] == tag
            assert answer.content == whole[start:stop], asked


def test_the_ends_are_told(long: tuple[str, bytes]) -> None:
    """HEAD tells the length; beyond the end is 416 with it; an old version's range is answered with the whole."""
    address, whole = long
    head = httpx.head(address)
    assert (head.status_code, int(head.headers["content-length"])) == (200, len(whole))
    beyond = httpx.get(address, headers={"Range": f"bytes={len(whole)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole)}")
    tag = head.headers["etag"]
    for condition, status in ((tag, 206), ('"another"', 200)):
        answer = httpx.get(address, headers={"Range": "bytes=5-9", "If-Range": condition})
        assert (answer.status_code, answer.content) == (status, whole[5:10] if status == 206 else whole)
    assert httpx.get(address, headers={"If-None-Match": tag}).status_code == 304


async def test_readers_do_not_disturb_each_other(long: tuple[str, bytes]) -> None:
    """Two at once get the same bytes, while others leave half-way."""
    address, whole = long

    async def read(client: httpx.AsyncClient, start: int) -> bytes:
        answer = await client.get(address, headers={"Range": f"bytes={start}-"})
        return answer.content

    async def leave(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", address) as answer:
            async for piece in answer.aiter_raw():
                assert whole.startswith(piece)
                return

    async with httpx.AsyncClient(timeout=30) as client:
        for _ in range(3):
            first, second, *_ = await asyncio.gather(
                read(client, 0), read(client, 4001), *(leave(client) for _ in range(4))
            )
            assert first == whole
            assert second == whole[4001:]
