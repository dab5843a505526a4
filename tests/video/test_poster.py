"""A poster shows what a player shows, and no stream harms or reaches anything while it is made."""

from __future__ import annotations

import asyncio
import io
import os
import random
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.errors import NotFound, Unavailable
from app.video import Unplayable, confined, poster
from app.video.confined import Limits
from tests import make_video
from tests.make_video import Clip, Container

Rgb = NDArray[np.int16]
CONTAINERS: tuple[tuple[Container, str], ...] = (
    ("mp4", "mp4"),
    ("faststart", "mp4"),
    ("fmp4", "fmp4"),
    ("mov", "mp4"),
    ("ts", "ts"),
    ("annexb", "annexb"),
)
CODECS = (("h264", make_video.H264), ("hevc", make_video.HEVC), ("mpeg2video", make_video.MPEG2))


def reader(stream: bytes) -> Callable[[int, int], Awaitable[bytes]]:
    async def read(offset: int, length: int) -> bytes:
        return stream[offset : offset + length]

    return read


async def poster_of(stream: bytes, demuxer: str = "mov", limits: Limits | None = None) -> Rgb:
    jpeg = await poster.jpeg(reader(stream), len(stream), demuxer, limits or Limits())
    return np.asarray(Image.open(io.BytesIO(jpeg)), np.int16)


def frames(path: Path, colours: int | None = None) -> list[Rgb]:
    """Every picture, as PyAV decodes it without us."""
    with av.open(path) as container:
        return [
            frame.to_ndarray(format="rgb24", src_colorspace=colours).astype(np.int16)
            for frame in container.decode(video=0)
        ]


def apart(shown: Rgb, expected: Rgb) -> float:
    """How far a poster is from a picture, apart from what a JPEG loses of it."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(expected, np.uint8)).save(buffer, "JPEG", quality=85)
    assert shown.shape == expected.shape
    return float(np.abs(shown - np.asarray(Image.open(buffer), np.int16)).mean())


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "app.video.inside" in " ".join(child.cmdline())]


@pytest.mark.parametrize(("codec", "syntax"), CODECS, ids=[codec for codec, _ in CODECS])
@pytest.mark.parametrize(("container", "scanned"), CONTAINERS, ids=[name for name, _ in CONTAINERS])
async def test_a_poster_is_the_first_picture(
    tmp_path: Path, codec: str, syntax: str, container: Container, scanned: str
) -> None:
    """Whatever the container, what PyAV decodes first, as JPEG."""
    clip = Clip(codec, sound="" if container == "annexb" else "aac")
    if (codec, container) == ("mpeg2video", "annexb"):
        with av.open(make_video.stream(tmp_path / "clip", clip)) as source:
            stream = b"".join(bytes(packet) for packet in source.demux(video=0))
        (tmp_path / "video").write_bytes(stream)
        scanned = "mpeg"
    else:
        stream = make_video.stream(tmp_path / "video", clip, container).read_bytes()
    shown = await poster_of(stream, confined.demuxer(scanned, syntax))
    first, second, *_ = frames(tmp_path / "video")
    assert apart(shown, first) < 1 < apart(shown, second)


async def test_colours_are_those_of_a_player(tmp_path: Path) -> None:
    """Where the stream does not tell, large pictures are BT.709."""
    path = make_video.stream(tmp_path / "video", Clip(width=1280, height=720, kilobits=4000))
    shown = await poster_of(path.read_bytes())
    assert apart(shown, frames(path, colours=1)[0]) < 1 < apart(shown, frames(path)[0])


@pytest.mark.parametrize("container", ["mp4", "ts"])
async def test_a_black_beginning_is_passed_over(tmp_path: Path, container: Container) -> None:
    """The poster is the first keyframe that shows something; of a video that shows nothing, the first."""
    path = make_video.stream(tmp_path / "video", Clip(black=15), container)
    shown = await poster_of(path.read_bytes(), "mov" if container == "mp4" else "mpegts")
    assert apart(shown, frames(path)[24]) < 1
    dark = make_video.stream(tmp_path / "dark", Clip(black=make_video.FRAMES), container)
    assert (await poster_of(dark.read_bytes(), "mov" if container == "mp4" else "mpegts")).max() < 4


async def test_a_turned_video_has_a_turned_poster(tmp_path: Path) -> None:
    """The track's matrix (ISO/IEC 14496-12 8.3.2) is obeyed as players obey it."""
    path = make_video.stream(tmp_path / "video")
    stream = bytearray(path.read_bytes())
    at = stream.index(b"tkhd") + 44
    stream[at : at + 20] = struct.pack(">5i", 0, 1 << 16, 0, -1 << 16, 0)
    assert apart(await poster_of(bytes(stream)), np.rot90(frames(path)[0], -1)) < 1


def playlist(trap: Path) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{trap}\n#EXT-X-ENDLIST\n".encode()


def listing(trap: Path) -> bytes:
    return f"ffconcat version 1.0\nfile {trap}\n".encode()


class Trap:
    """A pipe that tells whether anybody opened it to read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._opened = threading.Thread(target=lambda: os.close(os.open(path, os.O_WRONLY)))
        self._opened.start()

    def sprung(self) -> bool:
        self._opened.join(0.2)
        return not self._opened.is_alive()

    def close(self) -> None:
        os.close(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK))
        self._opened.join()


@pytest.mark.parametrize(("demuxer", "text"), [("hls", playlist), ("concat", listing)], ids=["hls", "concat"])
async def test_a_stream_that_names_files_has_none_opened(
    tmp_path: Path, demuxer: str, text: Callable[[Path], bytes]
) -> None:
    """Not as the container that it claims to be, and not even if we told FFmpeg the truth; PyAV alone would."""
    trap = Trap(tmp_path / "trap.ts")
    stream = text(trap.path)
    with pytest.raises(Unplayable):
        confined.demuxer("unknown", make_video.H264)
    for named in (*{"mov", "mpegts", "mpeg", "mpegvideo", "h264", "hevc"}, demuxer):
        with pytest.raises(Unplayable):
            await poster_of(stream, named)
    assert not trap.sprung()
    options = {"safe": "0", "protocol_whitelist": "file"}
    with pytest.raises(av.FFmpegError):
        await asyncio.to_thread(av.open, io.BytesIO(stream), "r", format=demuxer, options=options)
    assert trap.sprung()


async def test_damaged_streams_have_a_poster_or_a_reason(tmp_path: Path) -> None:
    """Whatever is wrong with the bytes, nothing else happens."""
    noise = random.Random(4711)
    intact = make_video.stream(tmp_path / "video", Clip(sound="aac"), "faststart").read_bytes()

    async def damaged() -> str:
        stream = bytearray(intact[: noise.randrange(len(intact))] if noise.random() < 0.2 else intact)
        for _ in range(noise.randrange(1, 40)):
            stream[noise.randrange(min(len(stream), noise.choice([600, 4000, 20000])))] = noise.randrange(256)
        try:
            await poster_of(bytes(stream), limits=Limits(cpu_s=5, wall_s=100))
        except Unplayable as reason:
            return str(reason)
        return ""

    outcomes = {reason for _ in range(10) for reason in await asyncio.gather(*(damaged() for _ in range(3)))}
    assert outcomes >= {"", "No picture of the video can be decoded."}
    assert not children()


def bits(*fields: tuple[int, int] | int) -> bytes:
    """(value, width), or a number as Exp-Golomb code; then the stop bit (ITU-T H.264 7.3.2.11)."""
    text = ""
    for field in fields:
        if isinstance(field, tuple):
            text += f"{field[0]:0{field[1]}b}"
        else:
            code = f"{field + 1:b}"
            text += "0" * (len(code) - 1) + code
    text += "1"
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def bomb(side: int, pictures: int) -> bytes:
    """H.264 whose pictures are `side` macroblocks wide and high, of which each brings one."""
    profile = ((66, 8), (0, 8), (62, 8))
    sps = b"\x67" + bits(*profile, 0, 0, 2, 1, (0, 1), side - 1, side - 1, (1, 1), (1, 1), (0, 1), (0, 1))
    pps = b"\x68" + bits(0, 0, (0, 1), (0, 1), 0, 0, 0, (0, 1), (0, 2), 0, 0, 0, (0, 3))
    found: Iterable[bytes] = (
        b"\x65" + bits(0, 7, 0, (0, 4), number % 2, (0, 2), 0, 25) + b"\1" * 384 + b"\x80"
        for number in range(pictures)
    )
    return b"".join(b"\0\0\0\1" + unit for unit in (sps, pps, *found))


async def test_a_picture_too_large_is_not_decoded() -> None:
    """A kilobyte that means 16000 × 16000 pixels ends at the memory limit, long before that of processor time."""
    with pytest.raises(Unplayable, match="too large to be decoded"):
        await poster_of(bomb(1000, 2), "h264", Limits(cpu_s=10, wall_s=100))


async def test_endless_work_is_ended() -> None:
    """At the limit of processor time, for good."""
    with pytest.raises(Unplayable, match="takes too long"):
        await poster_of(bomb(500, 64), "h264", Limits(memory_bytes=2 << 30, cpu_s=1))


async def test_a_stuck_decoder_is_ended() -> None:
    """At the limit of time, and another attempt may succeed."""

    async def never(offset: int, length: int) -> bytes:
        await asyncio.Event().wait()
        return b""

    with pytest.raises(Unavailable):
        await poster.jpeg(never, 1000, "mov", Limits(wall_s=0.5))
    assert not children()


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGSEGV, Unplayable), (signal.SIGKILL, Unavailable)], ids=["crash", "kill"]
)
async def test_a_dead_decoder_is_told_from_a_bad_video(
    number: signal.Signals, error: type[Exception]
) -> None:
    """A crash is the video's fault and final; who is ended by somebody else may try again."""

    async def deadly(offset: int, length: int) -> bytes:
        children()[0].send_signal(number)
        return bytes(length)

    with pytest.raises(error):
        await poster.jpeg(deadly, 1000, "mov")
    assert not children()


async def test_a_storage_that_fails_is_heard() -> None:
    async def away(offset: int, length: int) -> bytes:
        raise NotFound("The object is gone.")

    with pytest.raises(NotFound):
        await poster.jpeg(away, 1000, "mov")
    assert not children()


def test_a_decoder_dies_with_its_starter() -> None:
    """Even a stopped one, and even if the starter has no time to say so."""
    program = """
import asyncio
from app.video import poster
async def never(offset, length):
    print(flush=True)
    await asyncio.Event().wait()
asyncio.run(poster.jpeg(never, 1000, "mov"))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as starter:
        assert starter.stdout
        starter.stdout.readline()
        (child,) = psutil.Process(starter.pid).children()
        child.suspend()
        starter.kill()
    psutil.wait_procs([child], 5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
