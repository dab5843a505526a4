"""Packets of other containers become an MP4 that shows the same pictures at the same times, and nothing else happens."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
from collections.abc import Awaitable, Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from app.errors import Unavailable
from app.storage.protocol import Slice
from app.video import Unplayable, confined, probe, remux
from app.video.confined import Limits
from app.video.inside import MOST_ASKED
from tests import make_video
from tests.make_video import Clip, Container
from tests.video.test_poster import Trap, listing, playlist

DEMUXERS: dict[Container, str] = {"ts": "mpegts", "fmp4": "mov", "ps": "mpeg"}


def reader(stream: bytes) -> Callable[[int, int], Awaitable[bytes]]:
    async def read(offset: int, length: int) -> bytes:
        return stream[offset : offset + length]

    return read


async def copied(
    stream: bytes, demuxer: str, limits: Limits | None = None, pictures_per_s: Fraction | None = None
) -> tuple[str, bytes]:
    """The media type, and the file as it is served."""
    copy = remux.Copy(reader(stream), len(stream), demuxer, limits, pictures_per_s)
    content = b"".join([piece async for piece in copy.pieces()])
    plan = copy.plan
    assert plan
    assert plan.layout[0].offset + plan.layout[0].length == len(content)
    return plan.media_type, b"".join(content[s.offset : s.offset + s.length] for s in plan.layout)


def pictures(stream: bytes) -> list[tuple[Fraction, str]]:
    """When each picture is shown, and its digest; a time that is not told is -1."""
    return bare(stream, None)


def bare(stream: bytes, demuxer: str | None) -> list[tuple[Fraction, str]]:
    with av.open(io.BytesIO(stream), "r", format=demuxer) as container:
        return [
            (
                frame.pts * Fraction(frame.time_base or 0) if frame.pts is not None else Fraction(-1),
                hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest(),
            )
            for frame in container.decode(video=0)
        ]


def sounds(stream: bytes) -> list[bytes]:
    """AAC as it is coded, without the header that transport streams give each packet (ISO/IEC 14496-3 1.A.3.2)."""
    with av.open(io.BytesIO(stream), "r") as container:
        found = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
    return [packet[7:] if packet[:2] == b"\xff\xf1" else packet for packet in found]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("container", ["ts", "fmp4"])
@pytest.mark.parametrize("sound", ["", "aac"])
@pytest.mark.parametrize("bframes", [0, 2])
async def test_the_same_pictures_at_the_same_times(
    tmp_path: Path, codec: str, container: Container, sound: str, bframes: int
) -> None:
    """From zero on, whatever the clock of the stream said; and the same sound."""
    clip = Clip(codec, sound=sound, bframes=bframes)
    source = make_video.stream(tmp_path / "video", clip, container, times=2).read_bytes()
    media_type, served = await copied(source, DEMUXERS[container])
    assert media_type.startswith('video/mp4; codecs="hvc1.' if codec == "hevc" else "video/mp4")
    expected, found = pictures(source), pictures(served)
    assert [picture for _, picture in found] == [picture for _, picture in expected]
    assert [at for at, _ in found] == [at - expected[0][0] for at, _ in expected]
    assert served.index(b"moov") < served.index(b"mdat")
    if (
        sound
    ):  # what is heard before the first picture is left out; a decoder's first packet lacks the one before
        heard = sounds(served)
        assert len(heard) > 170
        assert heard[1:] == sounds(source)[1 - len(heard) :]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("sound", ["", "ac3", "mp2"])
@pytest.mark.parametrize("bframes", [0, 2])
async def test_a_program_stream_shows_the_same_pictures(
    tmp_path: Path, codec: str, sound: str, bframes: int
) -> None:
    """Also where it does not tell what it holds, and tells a time for some of its pictures only."""
    clip = Clip(codec, sound=sound, bframes=bframes)
    source = make_video.stream(tmp_path / "video", clip, "ps").read_bytes()
    _, served = await copied(source, "mpeg")
    found = pictures(served)
    assert [picture for _, picture in found] == [picture for _, picture in pictures(source)]
    late = [float(at * make_video.FPS) - number for number, (at, _) in enumerate(found)]
    # The demuxer gives some of the few told times to the picture beside, and what follows the last ones is not known.
    assert sum(abs(frames) > 0.1 for frames in late) <= 4
    assert max(map(abs, late)) <= 2


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("bframes", [0, 2])
async def test_a_bare_stream_is_shown_in_order(tmp_path: Path, codec: str, bframes: int) -> None:
    """Also where it changes on the way, at the pace that the data set tells."""
    clips = (Clip(codec, bframes=bframes), Clip(codec, bframes=bframes, gop=24, kilobits=300))
    streams = [make_video.stream(tmp_path / "video", clip, "annexb").read_bytes() for clip in clips]
    _, served = await copied(b"".join(streams), codec, pictures_per_s=Fraction(50))
    found = pictures(served)
    assert [picture for _, picture in found] == [one for stream in streams for _, one in bare(stream, codec)]
    late = [float(at * 50) - number for number, (at, _) in enumerate(found)]
    assert sum(abs(frames) > 0.1 for frames in late) <= 2


@pytest.mark.parametrize("container", ["ts", "fmp4", "ps"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
async def test_samples_are_found_in_passing(tmp_path: Path, codec: str, container: Container) -> None:
    """The same as by one who reads the stream for nothing else, so that nobody has to."""
    sound = "" if container == "ps" else "aac"
    source = make_video.stream(tmp_path / "video", Clip(codec, sound=sound), container, times=2).read_bytes()
    copy = remux.Copy(reader(source), len(source), DEMUXERS[container])
    _ = [piece async for piece in copy.pieces()]
    looked = probe.Probe(reader(source), len(source), DEMUXERS[container])
    records = b"".join([bytes(piece) async for piece in looked.pieces()])
    assert copy.samples
    assert copy.samples.told == looked.description
    assert copy.samples.told["samples"] == 96
    assert bytes(copy.samples.records) == records


@pytest.mark.parametrize("room", [4096, 1 << 20], ids=["a page", "a mebibyte"])
@pytest.mark.parametrize("before", [0, 4097])
async def test_bytes_of_a_file_reach_the_child_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, before: int
) -> None:
    """Wherever they begin in it, whatever a pipe holds: the kernel hands them on, and the copy is the same."""
    monkeypatch.setattr(confined, "_PIPE", room)
    clip = Clip(sound="aac", width=640, height=480, kilobits=8000)
    source = make_video.stream(tmp_path / "video", clip, "ts", times=3).read_bytes()
    assert len(source) > 5 * MOST_ASKED
    (tmp_path / "object").write_bytes(bytes(before) + source)
    with (tmp_path / "object").open("rb") as file:

        async def ask(offset: int, length: int) -> Slice:
            return Slice(file, before + offset, length)

        copy = remux.Copy(ask, len(source), "mpegts")
        content = b"".join([piece async for piece in copy.pieces()])
    expected = remux.Copy(reader(source), len(source), "mpegts")
    assert content == b"".join([piece async for piece in expected.pieces()])


async def test_sound_that_would_stop_a_player_is_left_out(tmp_path: Path) -> None:
    """Browsers pass over AC-3; MPEG-1 layer 2 in an MP4 is taken for MP3."""
    for sound, expected in (("aac", ["aac"]), ("ac3", ["ac3"]), ("mp2", [])):
        source = make_video.stream(tmp_path / "video", Clip(sound=sound), "ts").read_bytes()
        _, served = await copied(source, "mpegts")
        with av.open(io.BytesIO(served), "r") as container:
            assert [one.codec_context.name for one in container.streams.audio] == expected


async def test_a_clock_that_is_set_anew_leaves_no_gap(tmp_path: Path) -> None:
    """Recordings that were joined begin their times again: a player goes on."""
    source = make_video.stream(tmp_path / "video", Clip(sound="aac"), "ts", times=8).read_bytes()
    _, served = await copied(source * 2, "mpegts")
    found = pictures(served)
    assert [picture for _, picture in found] == [picture for _, picture in pictures(source)] * 2
    steps = [float(after - before) for (before, _), (after, _) in pairwise(found)]
    assert min(steps) > 0
    assert max(steps) < 0.2


async def test_a_stream_cut_anywhere_is_copied_from_its_first_keyframe(tmp_path: Path) -> None:
    source = make_video.stream(tmp_path / "video", Clip(sound="aac"), "ts", times=4).read_bytes()
    middle = len(source) // 376 * 188
    _, served = await copied(source[middle:-1000], "mpegts")
    whole = [picture for _, picture in pictures(source)]
    found = pictures(served)
    assert found[0][0] == 0
    assert [picture for _, picture in found[:40]] == whole[(start := whole.index(found[0][1])) : start + 40]


@pytest.mark.parametrize("container", ["ts", "ps"])
async def test_mpeg2_says_so(tmp_path: Path, container: Container) -> None:
    source = make_video.stream(tmp_path / "video", Clip("mpeg2video", bframes=0), container).read_bytes()
    with pytest.raises(Unplayable, match="MPEG-2, which no browser plays"):
        await copied(source, DEMUXERS[container])


@pytest.mark.parametrize("container", ["ts", "fmp4", "ps"])
async def test_damaged_streams_are_copied_or_have_a_reason(tmp_path: Path, container: Container) -> None:
    """Whatever is wrong with the bytes, nothing else happens."""
    noise = random.Random(container)
    clip = Clip(sound="" if container == "ps" else "aac")
    intact = make_video.stream(tmp_path / "video", clip, container).read_bytes()

    async def damaged() -> None:
        stream = bytearray(intact[: noise.randrange(len(intact))] if noise.random() < 0.2 else intact)
        for _ in range(noise.randrange(1, 200)):
            stream[noise.randrange(min(len(stream), noise.choice([600, 4000, 20000])))] = noise.randrange(256)
        try:
            _, served = await copied(bytes(stream), DEMUXERS[container], Limits(cpu_s=10, wall_s=100))
        except Unplayable:
            return
        assert served[4:8] == b"ftyp"

    for _ in range(8):
        await asyncio.gather(*(damaged() for _ in range(3)))


@pytest.mark.parametrize("text", [playlist, listing], ids=["hls", "concat"])
async def test_a_stream_that_names_files_has_none_opened(
    tmp_path: Path, text: Callable[[Path], bytes]
) -> None:
    """Neither by who copies nor by who describes it, and not even if we told FFmpeg the truth."""
    trap = Trap(tmp_path / "trap.ts")
    stream = text(trap.path)
    for named in ("mov", "mpegts", "mpeg", "h264", "hevc", "hls", "concat"):
        with pytest.raises(Unplayable):
            await copied(stream, named)
        with pytest.raises(Unplayable):
            await probe.look(reader(stream), len(stream), named)
    assert not trap.sprung()
    trap.close()


async def test_noise_is_no_video() -> None:
    noise = random.Random(1).randbytes(1 << 20)
    for demuxer in DEMUXERS.values():
        with pytest.raises(Unplayable):
            await copied(noise, demuxer)


async def test_who_takes_slowly_gets_all_of_it(tmp_path: Path) -> None:
    """Also what the child gave long before, and ended."""
    clip = Clip(width=640, height=480, kilobits=8000)
    source = make_video.stream(tmp_path / "video", clip, "ts", times=5).read_bytes()
    taken = list[bytes]()
    copy = remux.Copy(reader(source), len(source), "mpegts")
    async for piece in copy.pieces():
        taken.append(bytes(piece))
        await asyncio.sleep(0.3)
    assert copy.plan
    again = remux.Copy(reader(source), len(source), "mpegts")
    assert b"".join(taken) == b"".join([piece async for piece in again.pieces()])


async def test_a_storage_that_hangs_ends_the_copy() -> None:
    async def never(offset: int, length: int) -> bytes:
        await asyncio.Event().wait()
        return b""

    with pytest.raises(Unavailable):
        [piece async for piece in remux.Copy(never, 1000, "mpegts", Limits(wall_s=0.5)).pieces()]
