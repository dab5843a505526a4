"""What a stream is and where its samples lie is told as the stream has it, by one that may die of it."""

from __future__ import annotations

import asyncio
import io
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest

from app.video import Unplayable, poster, probe, sample_index
from app.video.confined import Limits
from app.video.inside import MESSAGE, READ, SAMPLE
from tests import make_video
from tests.make_video import Clip, Container
from tests.video.test_remux import pictures, reader

DEMUXERS: dict[Container, str] = {"mp4": "mov", "mov": "mov", "fmp4": "mov", "ts": "mpegts", "ps": "mpeg"}
KEYFRAME = 1 << 63
Told = dict[str, Any]


async def probed(stream: bytes, demuxer: str, limits: Limits | None = None) -> tuple[Told, bytes]:
    """The description and the index."""
    found = probe.Probe(reader(stream), len(stream), demuxer, limits)
    index = b"".join([bytes(piece) async for piece in found.pieces()])
    return found.description, index


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2video"])
@pytest.mark.parametrize("container", list(DEMUXERS))
async def test_a_stream_is_told_as_it_is(tmp_path: Path, codec: str, container: Container) -> None:
    clip = Clip(codec, bframes=0 if codec == "mpeg2video" else 2)
    source = make_video.stream(tmp_path / "video", clip, container, times=2).read_bytes()
    told, _ = await probed(source, DEMUXERS[container])
    assert (told["codec"], told["width"], told["height"], told["rate"]) == (codec, 160, 120, "25")
    assert (told["samples"], told["rotation"], told["interlaced"]) == (96, 0, False)
    assert told["pixel_format"] == "yuv420p"
    assert told["duration_s"] == pytest.approx(3.84, abs=0.1)
    assert told["profile"] == "Main"
    assert told["sound"] is None
    looked = await probe.look(reader(source), len(source), DEMUXERS[container])
    assert looked.items() <= told.items()


@pytest.mark.parametrize("container", ["mp4", "fmp4"])
async def test_the_index_is_where_samples_lie(tmp_path: Path, container: Container) -> None:
    """Byte for byte in an MP4, in the order of decoding, with the times at which they are shown."""
    source = make_video.stream(tmp_path / "video", Clip(sound="aac"), container, times=2).read_bytes()
    told, index = await probed(source, "mov")
    with av.open(io.BytesIO(source), "r") as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
        origin = min(packet.pts for packet in packets if packet.pts is not None)
    rows = list(SAMPLE.iter_unpack(index))
    assert len(rows) == len(packets) == told["samples"]
    for (offset, size, shown, early), packet in zip(rows, packets, strict=True):
        at = offset & ~KEYFRAME
        assert source[at : at + size] == bytes(packet)
        assert bool(offset & KEYFRAME) == packet.is_keyframe
        assert packet.pts is not None
        assert packet.dts is not None
        assert (shown, early) == (packet.pts - origin, packet.pts - packet.dts)
    assert sum(offset >= KEYFRAME for offset, *_ in rows) == told["keyframes"]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("container", ["mp4", "mov", "faststart"])
async def test_the_tables_of_an_mp4_tell_the_same(tmp_path: Path, codec: str, container: Container) -> None:
    """What all of the stream tells, its movie header tells as well, and nothing else is read."""
    source = make_video.stream(tmp_path / "video", Clip(codec, sound="aac"), container, times=4).read_bytes()
    told, index = await probed(source, "mov")
    asked: list[int] = []

    async def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return source[offset : offset + length]

    numbers, rows = await sample_index.of(read, len(source))
    assert rows == index
    assert numbers == {name: told[name] for name in numbers}
    assert len(asked) <= 3


async def test_the_index_of_a_transport_stream_leads_to_packets(tmp_path: Path) -> None:
    """Each sample begins in the packet of the container that is told, which carries a start of a unit."""
    source = make_video.stream(tmp_path / "video", Clip(), "ts", times=2).read_bytes()
    told, index = await probed(source, "mpegts")
    rows = list(SAMPLE.iter_unpack(index))
    for offset, *_ in rows:
        at = offset & ~KEYFRAME
        assert at % 188 == 0
        assert source[at] == 0x47
        assert source[at + 1] & 0x40
    clock = told["ticks_per_s"]
    expected = pictures(source)
    assert sorted(shown / clock for _, _, shown, _ in rows) == [
        float(at - expected[0][0]) for at, _ in expected
    ]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\n",
        b"not JSON\n",
        b"[]\n",
        b'{"samples": 1}\n' + bytes(SAMPLE.size),
        b'{"samples": "1", "keyframes": 1, "duration_s": 1.0, "ticks_per_s": 25}\n' + bytes(SAMPLE.size),
        b'{"samples": 2, "keyframes": 1, "duration_s": 1.0, "ticks_per_s": 25}\n' + bytes(SAMPLE.size),
        b'{"samples": 1, "keyframes": 1, "duration_s": 1.0, "ticks_per_s": 25, "codec": "h264", "width": 1,'
        b'"height": 1, "rate": "1e999999999"}\n' + bytes(SAMPLE.size),
    ],
)
def test_nonsense_of_a_child_is_no_index(said: bytes) -> None:
    """What a hostile child says of the samples is not believed where it contradicts itself."""
    assert probe.samples(memoryview(said)) is None


async def test_damaged_streams_are_told_or_have_a_reason(tmp_path: Path) -> None:
    noise = random.Random(5)
    for container, demuxer in DEMUXERS.items():
        intact = make_video.stream(tmp_path / "video", Clip(), container).read_bytes()
        for _ in range(4):
            stream = bytearray(intact)
            for _ in range(noise.randrange(1, 200)):
                stream[noise.randrange(min(len(stream), noise.choice([600, 4000, 20000])))] = noise.randrange(
                    256
                )
            try:
                told, index = await probed(bytes(stream), demuxer, Limits(cpu_s=10, wall_s=100))
            except Unplayable:
                continue
            assert len(index) == SAMPLE.size * told["samples"]


async def test_who_has_seen_enough_waits_for_nothing_that_was_asked_ahead(tmp_path: Path) -> None:
    """However slow the storage is: what the child has said counts, though it is gone when the answer comes."""
    clip = make_video.stream(tmp_path / "video", Clip(sound=""), "ts").read_bytes()
    stuffing = (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 8000
    stream = stuffing + clip * 60

    async def slow(offset: int, length: int) -> bytes:
        await asyncio.sleep(0.25)
        return stream[offset : offset + length]

    assert (await probe.look(slow, len(stream), "mpegts"))["codec"] == "h264"
    assert (await poster.jpeg(slow, len(stream), "mpegts")).startswith(b"\xff\xd8")


TWO_WALKS = """
from app.video.inside.stream import Stream, conclude
first = Stream(65536, 4096)
for _ in range(3):
    first.read(4096)
first.leave()
second = Stream(65536, 4096)
found = second.read(4096) + second.read(4096)
second.leave()
conclude(found)
"""


def test_a_second_walk_gets_nothing_that_the_first_one_asked_for() -> None:
    """As through a program stream that does not tell what it holds."""
    stream = random.Random(7).randbytes(65536)
    with subprocess.Popen(
        [sys.executable, "-c", TWO_WALKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin
        assert child.stdout
        asked = []
        while (told := MESSAGE.unpack(child.stdout.read(MESSAGE.size)))[0] == READ:
            asked.append(told[1])
            child.stdin.write(stream[told[1] : told[1] + told[2]])
            child.stdin.flush()
        assert asked == [0, 4096, 8192, 12288, 0, 4096, 8192]  # 12288 was not waited for
        assert child.stdout.read(told[2]) == stream[:8192]
