"""A bare H.264 or HEVC stream as MP4: every picture is the source's, in its place, and every range exact."""

from __future__ import annotations

import random
import struct
from fractions import Fraction
from pathlib import Path

import pytest

from app.video import NeedsRemux, annexb
from app.video.pace import Pace
from tests.conformance import videos
from tests.corpus import SHARED
from tests.video import bare
from tests.video.virtual import boxes

STREAMS = {
    "baseline": ("h264", "bframes=0:cabac=0"),  # picture order count type 2
    "b-frames": ("h264", "bframes=2:b-adapt=0"),
    "pyramid": ("h264", "bframes=7:b-pyramid=normal:b-adapt=0:ref=4"),
    "weighted": ("h264", "bframes=3:weightp=2:weightb=1:ref=5:b-adapt=0"),
    "open-gop": ("h264", "bframes=3:open-gop=1:b-adapt=0"),
    "slices": ("h264", "bframes=2:slices=4"),
    "delimiters": ("h264", "bframes=2:aud=1:repeat-headers=1"),
    "filler": ("h264", "bframes=2:nal-hrd=cbr:vbv-maxrate=3000:vbv-bufsize=3000:bitrate=3000:qpmin=40"),
    "interlaced": ("h264", "bframes=2:tff=1"),
    "fake-interlaced": ("h264", "bframes=2:fake-interlaced=1"),
    "intra-refresh": ("h264", "bframes=0:intra-refresh=1:keyint=10"),
    "4:4:4": ("h264", "bframes=2:output-csp=i444"),
    "matrices": ("h264", "bframes=2:cqm=jvt"),
    "pixels": ("h264", "bframes=2:sar=4/3"),
    "hevc": ("hevc", "bframes=3"),
    "hevc-pyramid": ("hevc", "bframes=7:b-pyramid=1:b-adapt=0:rc-lookahead=20:keyint=16"),
    "hevc-closed": ("hevc", "bframes=2:open-gop=0:keyint=8"),
    "hevc-radl": ("hevc", "bframes=2:open-gop=0:radl=2:b-adapt=0:keyint=12:min-keyint=12"),
    "hevc-open-gop": ("hevc", "bframes=4:open-gop=1:keyint=8:min-keyint=8:b-adapt=0"),
    "hevc-slices": ("hevc", "bframes=2:slices=2:pools=2"),
    "hevc-delimiters": ("hevc", "bframes=2:aud=1:repeat-headers=1:hrd=1:vbv-maxrate=900:vbv-bufsize=900"),
    "hevc-layers": ("hevc", "bframes=4:temporal-layers=1:b-adapt=0"),
    "hevc-lists": ("hevc", "bframes=2:scaling-list=default:sar=2:ref=4"),
}
ZEROS = {"four": (1,), "three": (0,), "both": (1, 0, 0), "any": (0, 5, 1, 2, 1, 0, 70)}


# What a stream must have in it to be what it is called: kinds of NAL units.
HOLDS = {
    "filler": {12},
    "delimiters": {9},
    "hevc-radl": {6, 7},
    "hevc-open-gop": {8, 9, 21},
    "hevc-delimiters": {35},
}


@pytest.mark.parametrize("name", STREAMS)
async def test_every_picture_is_the_source_s_in_its_place(tmp_path: Path, name: str) -> None:
    """Each is decoded as from the stream itself, the n-th is shown n frame times after the first."""
    codec, params = STREAMS[name]
    source = bare.encoded(codec, params)
    assert {bare.kind(codec, unit) for unit in bare.nals(source)} >= HOLDS.get(name, set())
    async with bare.served(tmp_path, source) as served:
        whole = await served.whole()
    found = bare.timed(whole, "mp4")
    assert [digest for _, digest in found] == bare.pictures(source, codec)
    assert [time for time, _ in found] == pytest.approx([number / bare.FPS for number in range(24)])
    assert bare.keyframes(whole, "mp4") == bare.keyframes(source, codec)
    assert whole.endswith(bare.media(codec, source))
    assert [box for box, _ in boxes(whole)] == [b"ftyp", b"moov", b"mdat"]
    media_type = "video/mp4" if codec == "h264" else 'video/mp4; codecs="hvc1.'
    assert served.plan.file.media_type.startswith(media_type)


@pytest.mark.parametrize("zeros", ZEROS.values(), ids=ZEROS)
@pytest.mark.parametrize("codec", ["h264", "hevc"])
async def test_start_codes_do_not_show(tmp_path: Path, codec: str, zeros: tuple[int, ...]) -> None:
    """Of three bytes, of four, behind more zeros: the same media comes out, whatever length that makes."""
    units = bare.nals(
        bare.encoded(
            codec,
            "bframes=2:slices=2:repeat-headers=1:threads=1"
            if codec == "h264"
            else "bframes=2:slices=2:repeat-headers=1:pools=2",
        )
    )
    for end in (0, 1, 9):
        source = bare.stream(units, zeros, end)
        async with bare.served(tmp_path / str(end), source) as served:
            whole = await served.whole()
        assert whole.endswith(bare.media(codec, source))
        assert bare.pictures(whole, "mp4") == bare.pictures(source, codec)


@pytest.mark.parametrize("fragment", [1 << 30, 4096, 1022])
@pytest.mark.parametrize("zeros", [ZEROS["four"], ZEROS["any"]], ids=["four", "any"])
async def test_a_thousand_ranges_are_parts_of_the_whole(
    tmp_path: Path, fragment: int, zeros: tuple[int, ...]
) -> None:
    """Wherever fragments, units and lengths end."""
    source = bare.stream(bare.nals(bare.encoded("h264", "bframes=2:slices=4")) * 4, zeros)
    async with bare.served(tmp_path, source, fragment=fragment) as served:
        whole, chosen = await served.whole(), random.Random(3)
        assert len(whole) == served.extents.length == served.plan.file.length
        for _ in range(250):
            start = chosen.randrange(len(whole))
            stop = min(start + chosen.choice([1, 2, 3, 7, 900, 40_000, len(whole)]), len(whole))
            assert await served.range(start, stop) == whole[start:stop]


async def test_units_that_belong_to_no_slice_stay_with_their_picture(tmp_path: Path) -> None:
    """A delimiter opens what follows; filler and the end of a sequence close what came before."""
    units = bare.nals(bare.encoded("h264", "bframes=0:aud=1"))
    spread = [
        part for unit in units for part in (unit, *([b"\x0c\xff\x80"] if unit[0] & 31 in {1, 5} else []))
    ]
    async with bare.served(tmp_path, bare.stream([*spread, b"\x0a"])) as served:
        whole = await served.whole()
    lengths = sample_sizes(whole)
    assert len(lengths) == 24
    at = whole.index(b"mdat") + 4
    for number, length in enumerate(lengths):
        found = split(whole[at : at + length])
        assert found[0][0] & 31 == 9
        assert found[-1][0] & 31 == (12 if number < 23 else 10)
        at += length


def sample_sizes(whole: bytes) -> list[int]:
    at = whole.index(b"stsz") + 12
    count = struct.unpack_from(">I", whole, at)[0]
    return list(struct.unpack_from(f">{count}I", whole, at + 4))


def split(sample: bytes) -> list[bytes]:
    """The units of a sample, by their lengths."""
    found, at = [], 0
    while at < len(sample):
        length = int.from_bytes(sample[at : at + 4], "big")
        found.append(sample[at + 4 : at + 4 + length])
        at += 4 + length
    return found


async def test_a_stream_that_was_cut_begins_with_what_it_has(tmp_path: Path) -> None:
    """Parameter sets that come later, a picture that refers to one that is gone: it plays from the next keyframe."""
    units = bare.nals(bare.encoded("h264", "bframes=2:repeat-headers=1"))
    sets = [unit for unit in units if bare.is_set("h264", unit)][:2]
    source = bare.stream([*sets, *units[len(units) // 3 :]])
    async with bare.served(tmp_path, source) as served:
        whole = await served.whole()
    assert bare.pictures(whole, "mp4")[-8:] == bare.pictures(source, "h264")[-8:]
    with pytest.raises(NeedsRemux, match="parameter sets"):
        await annexb.plan(bare.pieces(bare.stream(units[len(units) // 3 :][:3])), bare.PACE)


async def test_a_stream_without_a_keyframe_begins_at_its_beginning(tmp_path: Path) -> None:
    """What follows a recording that was cut: FFmpeg shows it, so a player is let try."""
    units = bare.nals(bare.encoded("h264", "bframes=0:repeat-headers=1"))
    kept = [unit for unit in units if unit[0] & 31 != 5][:8]
    async with bare.served(tmp_path, bare.stream(kept)) as served:
        whole = await served.whole()
    at = whole.index(b"stss") + 8
    assert struct.unpack_from(">2I", whole, at) == (1, 1)


async def test_pictures_are_shown_when_the_data_set_says(tmp_path: Path) -> None:
    """A vector gives each its own time; the decoder is given them in time."""
    source = bare.encoded("h264", STREAMS["pyramid"][1])
    steps = (0.0, *(20.0 + 10 * (number % 5) for number in range(23)))
    async with bare.served(tmp_path, source, Pace(None, steps)) as served:
        found = bare.timed(await served.whole(), "mp4")
    assert [digest for _, digest in found] == bare.pictures(source, "h264")
    times = [sum(steps[: number + 1]) / 1000 for number in range(24)]
    assert [time for time, _ in found] == pytest.approx(times, abs=1e-4)


async def test_a_stream_that_tells_its_rate_is_believed(tmp_path: Path) -> None:
    """Where the data set tells nothing: by the usability information."""
    for codec in ("h264", "hevc"):
        async with bare.served(
            tmp_path / codec, bare.encoded(codec, rate=Fraction(30000, 1001)), Pace()
        ) as served:
            times = [time for time, _ in bare.timed(await served.whole(), "mp4")]
        assert times == pytest.approx([number * 1001 / 30000 for number in range(24)])


async def test_files_of_the_corpus(tmp_path: Path) -> None:
    """With the files of an archive beside the repository, those too."""
    for path in sorted((SHARED / "video").glob("*-es*.dcm")):
        codec = path.name.partition("-")[0]
        if codec in {"h264", "hevc"}:
            source = videos.stream(path)
            async with bare.served(tmp_path / codec, source) as served:
                whole = await served.whole()
            assert bare.pictures(whole, "mp4") == bare.pictures(source, codec)


async def test_more_pictures_than_a_page_tells_of(tmp_path: Path) -> None:
    """Thousands of units: pages follow each other, and the same plan comes out again."""
    source = bare.stream(bare.nals(bare.encoded("h264", "bframes=2:slices=4")) * 30, (1, 0))
    async with bare.served(tmp_path, source) as served:
        assert len(served.plan.table) > 4
        assert (await served.whole()).endswith(bare.media("h264", source))
    again = await annexb.plan(bare.pieces(source, 777), bare.PACE)
    assert again == served.plan


@pytest.mark.parametrize(
    ("codec", "params"), [STREAMS["b-frames"], STREAMS["hevc-open-gop"]], ids=["h264", "hevc"]
)
async def test_a_long_stream_is_laid_out_in_fragments(tmp_path: Path, codec: str, params: str) -> None:
    """As any long video: a short header, an index, and the same pictures at the same times."""
    source = bare.encoded(codec, params, frames=200)
    async with bare.served(tmp_path, source, fragment=50_000, longest=0) as served:
        whole, chosen = await served.whole(), random.Random(2)
        for _ in range(200):
            start = chosen.randrange(len(whole))
            stop = start + chosen.choice([1, 5, 900, 40_000])
            assert await served.range(start, stop) == whole[start:stop]
    kinds = [kind for kind, _ in boxes(whole)]
    assert kinds[:3] == [b"ftyp", b"moov", b"sidx"]
    assert kinds[3:] == [b"moof", b"mdat"] * (len(kinds) // 2 - 1)
    found = bare.timed(whole, "mp4")
    assert [digest for _, digest in found] == bare.pictures(source, codec)
    assert [time for time, _ in found] == pytest.approx([number / bare.FPS for number in range(200)])


async def test_what_changes_on_the_way_is_left_to_another(tmp_path: Path) -> None:
    """Other parameter sets under the same number: one description does not tell of both."""
    first, second = bare.encoded("h264", "bframes=0"), bare.encoded("h264", "bframes=0:ref=1:8x8dct=0")
    for source in (first + second, bare.encoded("hevc") + bare.encoded("hevc", "ref=1:bframes=0")):
        with pytest.raises(NeedsRemux, match="change on the way"):
            await annexb.plan(bare.pieces(source), bare.PACE)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"\0\0\1", "no pictures"),
        (b"\0\0\1\x67", "cut off or damaged"),
        (b"\0\0\1\x65\x88\x84", "without its parameter sets"),
        (b"\0\0\1\xb3\x16", "cut off or damaged"),
        (b"\0\0\1\x40\x01" + b"\1" * 5000, "too long"),
        (b"\0\0\1\x09\xf0" * 3, "no pictures"),
        (b"\0\0\1\x02\x80", "partitioned"),
    ],
    ids=["empty", "cut", "slice", "mpeg", "long", "delimiters", "partitions"],
)
async def test_what_is_no_video_says_why(source: bytes, reason: str) -> None:
    with pytest.raises(NeedsRemux, match=reason):
        await annexb.plan(bare.pieces(source), bare.PACE)


async def test_a_stream_of_zeros_is_not_served(tmp_path: Path) -> None:
    """What is mostly left out would cost more reads than it is worth."""
    source = bare.stream(bare.nals(bare.encoded("h264", "bframes=0")), (50_000,))
    with pytest.raises(NeedsRemux, match="nothing"):
        await annexb.plan(bare.pieces(source), bare.PACE)
