"""Long videos start at once: a short header and an index, and the same packets as the stored file's."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from random import Random

import av
import pytest

from app.extent import Extent, Extents
from app.video import faststart
from app.woven import Woven
from tests import make_video
from tests.make_video import Clip, Container
from tests.video import virtual
from tests.video.virtual import Sparse, Virtual, box, edited, frames, packets, parts

CLIP = Clip(sound="aac")
SILENT = Clip()
MANY = 6  # turns of the clip: 12 seconds
LONG = 400  # turns that take a header above the bound


def same(source: Path) -> Sparse:
    return Sparse([(0, source.read_bytes())])


async def fragmented(source: Path | bytes) -> tuple[faststart.Plan, Virtual]:
    stream = Sparse([(0, source)]) if isinstance(source, bytes) else same(source)
    plan, file = await virtual.virtual(stream, longest=0)
    assert plan.layout[0].source == "spans", "it was not laid out in fragments"
    return plan, file


def kinds(file: Virtual) -> list[bytes]:
    return [kind for kind, _ in virtual.boxes(file.range(0, file.extents.length))]


def in_tracks(found: list[tuple[int | None, str]]) -> list[tuple[int | None, str]]:
    """Pictures and sound take turns in another order."""
    return sorted(found, key=lambda frame: (frame[0] is None, frame))


@pytest.mark.parametrize("container", ["mp4", "faststart", "mov"])
@pytest.mark.parametrize(
    "clip",
    [
        CLIP,
        SILENT,
        Clip(profile="baseline", bframes=0),
        Clip("hevc", sound="aac"),
        replace(CLIP, gop=1),
        replace(CLIP, gop=1000),
    ],
    ids=["b-frames+aac", "silent", "baseline", "hevc", "keyframes", "one-keyframe"],
)
async def test_pictures_and_sound_are_the_stored_ones(
    tmp_path: Path, clip: Clip, container: Container
) -> None:
    """Every packet with its times, and every decoded frame, equals the source's."""
    source = make_video.stream(tmp_path / "clip", clip, container, times=MANY)
    plan, file = await fragmented(source)
    assert packets(file) == packets(str(source))
    file.seek(0)
    assert in_tracks(frames(file)) == in_tracks(frames(str(source)))
    tracks = 2 if clip.sound else 1
    assert kinds(file)[: 2 + tracks] == [b"ftyp", b"moov", *[b"sidx"] * tracks]
    assert [kind for kind, _ in groupby(kinds(file)[2 + tracks :])][:4] == [b"moof", b"mdat"] * 2
    assert plan.length == file.extents.length


async def test_a_long_header_is_laid_out_and_a_short_one_is_not(tmp_path: Path) -> None:
    """Thirteen minutes with sound: of half a megabyte a few kilobytes stand before the first picture."""
    source = make_video.stream(tmp_path / "clip", CLIP, times=LONG)
    assert len(parts(source.read_bytes())[0]) > faststart.LONG
    plan, file = await virtual.virtual(same(source))
    whole = file.range(0, file.extents.length)
    assert whole.index(b"mdat") < 24 << 10
    assert packets(file) == packets(str(source))
    short, _ = await virtual.virtual(same(make_video.stream(tmp_path / "short", CLIP, times=MANY)))
    assert [span.source for span in short.layout] == ["rendition", "stream"]
    random = Random(1)
    for _ in range(1000):
        start = random.randrange(len(whole))
        stop = start + random.choice([1, 100, 5000, 200_000])
        assert file.range(start, stop) == whole[start:stop]
    assert plan.length == len(whole)


async def test_the_index_is_true(tmp_path: Path) -> None:
    """Each segment begins where and when it says, is as long as it says, and together they are the video."""
    source = make_video.stream(tmp_path / "clip", CLIP, times=MANY)
    _, file = await fragmented(source)
    whole = file.range(0, file.extents.length)
    duration = MANY * float(make_video.SECONDS)
    at, ends = 0, []
    for kind, payload in virtual.boxes(whole):
        at += 8 + len(payload)
        if kind == b"sidx":
            ends.append((at, payload))
    for end, payload in ends:
        clock, begin, first = struct.unpack_from(">IQQ", payload, 8)
        where, length = end + first, 0
        for size, took, sap in struct.iter_unpack(">III", payload[32:]):
            assert whole[where + 4 : where + 8] == b"moof"
            assert sap == 0x90000000
            where, length = where + size, length + took
        assert where == len(whole)
        assert (begin + length) / clock == pytest.approx(duration, abs=0.1)


async def test_seeking_finds_the_picture(tmp_path: Path) -> None:
    """Forth and back, over pieces that were read and pieces that were not: never late, never far, little is read."""
    source = make_video.stream(tmp_path / "clip", CLIP, times=40)
    _, file = await fragmented(source)
    random = Random(3)
    length = 40 * float(make_video.SECONDS)
    with av.open(file, "r") as container:
        sound = container.streams.audio[0]
        assert container.duration is not None
        assert container.duration / 1e6 == pytest.approx(length, abs=0.1)
        assert sound.time_base is not None
        for wanted in [0.5, 60, 70, 10, 40, 10, *(random.random() * (length - 1) for _ in range(60))]:
            container.seek(int(wanted / sound.time_base), stream=sound)  # as Chromium does
            shown = next(packet for packet in container.demux() if packet.stream.type == "video")
            assert shown.pts is not None
            assert shown.time_base is not None
            assert -0.1 < wanted - float(shown.pts * shown.time_base) < 2.5


def unfolded(source: Path, change: Callable[[bytes, bytes], bytes | None]) -> bytes:
    """The file with its movie header (the last box) changed."""
    whole = source.read_bytes()
    moov = parts(whole)[0]
    return whole[: -len(moov)] + edited(moov, change)


def elst(*entries: tuple[int, int]) -> bytes:
    rows = b"".join(struct.pack(">Iii", length, start, 1 << 16) for length, start in entries)
    return box(b"edts", box(b"elst", struct.pack(">II", 0, len(entries)), rows))


@pytest.mark.parametrize(
    "entries",
    [[], [(23040, 1024)], [(1000, -1), (23040, 1024)], [(1, -1), (30000, 1024)]],
    ids=str,
)
async def test_edits_are_kept(tmp_path: Path, entries: list[tuple[int, int]]) -> None:
    """None, one from the first picture on, one that waits: times are those of the stored file."""
    source = make_video.stream(tmp_path / "clip", SILENT, times=MANY)
    again = elst(*entries) if entries else b""
    whole = unfolded(source, lambda kind, _: again if kind == b"edts" else None)
    (tmp_path / "edited").write_bytes(whole)
    _, file = await fragmented(whole)
    assert packets(file) == packets(str(tmp_path / "edited"))


async def test_times_before_decoding_are_kept(tmp_path: Path) -> None:
    """Composition offsets below zero, as cameras write them in place of an edit (8.6.1.3)."""
    source = make_video.stream(tmp_path / "clip", SILENT, times=MANY)

    def moved(kind: bytes, payload: bytes) -> bytes | None:
        if kind == b"edts":
            return b""
        if kind != b"ctts":
            return None
        rows = [(count, late - 1024) for count, late in struct.iter_unpack(">Ii", payload[8:])]
        return box(b"ctts", b"\1\0\0\0", payload[4:8], *(struct.pack(">Ii", *row) for row in rows))

    whole = unfolded(source, moved)
    (tmp_path / "moved").write_bytes(whole)
    _, file = await fragmented(whole)
    found, stored = packets(file), packets(str(tmp_path / "moved"))
    assert list(map(itemgetter(1, 3, 4), found)) == list(map(itemgetter(1, 3, 4), stored))


STPS = box(b"stps", struct.pack(">III", 0, 1, 1))
RAP = box(b"sbgp", bytes(4), b"rap ", bytes(4))


@pytest.mark.parametrize(
    "change",
    [
        lambda kind, payload: elst((1000, 512), (1000, 4096)) if kind == b"edts" else None,
        lambda kind, payload: elst((30000, 0)) if kind == b"edts" else None,
        lambda kind, payload: elst((30000, 8192)) if kind == b"edts" else None,
        lambda kind, payload: elst((1000, 1024)) if kind == b"edts" else None,
        lambda kind, payload: elst((0, 1024)) if kind == b"edts" else None,
        lambda kind, payload: box(kind, payload, STPS) if kind == b"stbl" else None,
        lambda kind, payload: box(kind, payload, RAP) if kind == b"stbl" else None,
        lambda kind, payload: box(kind, payload[:-4], b"\0\0\0\2") if kind == b"stsc" else None,
        lambda kind, payload: box(kind, payload[:4], bytes(4), payload[8:]) if kind == b"stts" else None,
    ],
    ids=[
        "two edits",
        "begun late",
        "cut in front",
        "cut behind",
        "endless",
        "partial sync",
        "rap",
        "descriptions",
        "times",
    ],
)
async def test_what_fragments_cannot_say_keeps_its_header(
    tmp_path: Path, change: Callable[[bytes, bytes], bytes | None]
) -> None:
    """Cut pictures, several edits, finer seek points: the stored header says it, however long it is."""
    whole = unfolded(make_video.stream(tmp_path / "clip", SILENT, times=2), change)
    plan, _ = await virtual.virtual(Sparse([(0, whole)]), longest=0)
    assert [span.source for span in plan.layout] == ["rendition", "stream"]


async def test_foreign_bytes_are_not_served(tmp_path: Path) -> None:
    """Between the samples may lie what is nobody's business: telemetry, captions, another track's."""
    source = make_video.stream(tmp_path / "clip", SILENT, times=MANY).read_bytes()
    moov, media, began = parts(source)
    secret = b"Jane Doe" * 100
    first = box(b"ftyp", b"isom", bytes(4))
    laid = first + box(b"mdat", secret, media)
    move = len(first) + 8 + len(secret) - began
    _, file = await fragmented(laid + virtual.shifted(moov, lambda offset: offset + move))
    assert b"Jane" not in file.range(0, file.extents.length)
    assert packets(file) == packets(str(tmp_path / "clip"))


async def test_a_copy_is_laid_out_in_its_own_object(tmp_path: Path) -> None:
    """Where the packets were copied, header, tables and rows lie behind them in the same object."""
    source = make_video.stream(tmp_path / "clip", CLIP, times=MANY)
    moov, media, began = parts(source.read_bytes())
    stop = began + len(media)
    plan = faststart.behind(moov[8:], began, stop, longest=0)
    object_bytes = source.read_bytes()[:stop] + plan.header
    (rows,) = plan.layout
    table = object_bytes[rows.offset : rows.offset + rows.length]
    own = Extents([Extent("own", 0, rows.offset)])
    laid = Woven(table, {"rendition": own, "stream": Extents(())})
    served = b"".join(object_bytes[one.offset : one.offset + one.length] for one in laid)
    assert (len(served), rows.offset + rows.length) == (plan.length, len(object_bytes))
    assert packets(io.BytesIO(served)) == packets(str(source))


@pytest.mark.heavy
async def test_two_hours_start_as_fast_as_a_minute(tmp_path: Path) -> None:
    """Below 200 kB before the first picture's data, and every packet is there."""
    source = make_video.stream(tmp_path / "clip", replace(CLIP, gop=48), times=3750)
    _, file = await virtual.virtual(same(source))
    assert file.range(0, 1 << 20).index(b"mdat") < 200_000
    # As a file on the disk: read from here, each packet would cost a search in the rows and 32 KiB.
    with (tmp_path / "served").open("wb") as served:
        for start in range(0, file.extents.length, 4 << 20):
            served.write(file.range(start, start + (4 << 20)))
    assert packets(str(tmp_path / "served")) == packets(str(source))
