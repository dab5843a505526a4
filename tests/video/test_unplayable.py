"""What cannot be played says why, and hostile files cost little: fixed memory, bounded time, no odd error."""

from __future__ import annotations

import asyncio
import struct
import time
import tracemalloc
from fractions import Fraction
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.video import Unplayable, faststart, movie
from tests import make_video
from tests.make_video import Clip, Container
from tests.video.virtual import Sparse, Virtual, box, boxes, edited, parts

CLIP = Clip(sound="aac")


@cache
def clip(described: Clip = CLIP, container: Container = "mp4") -> bytes:
    with TemporaryDirectory() as folder:
        return make_video.stream(Path(folder) / "clip", described, container).read_bytes()


def planned(stream: bytes | Sparse, longest: int = faststart.LONG) -> faststart.Plan:
    source = stream if isinstance(stream, Sparse) else Sparse([(0, stream)])
    return asyncio.run(faststart.plan(source.read, source.length, longest))


def refusal(stream: bytes | Sparse) -> str:
    with pytest.raises(Unplayable) as refused:
        planned(stream)
    return str(refused.value)


def changed(find: bytes, put: bytes) -> bytes:
    whole = clip()
    assert find in whole
    return whole.replace(find, put)


def with_moov(edit: dict[bytes, bytes | None], whole: bytes = b"") -> bytes:
    """The clip, some boxes of its movie header replaced, or removed (empty)."""
    whole = whole or clip()
    moov = parts(whole)[0]
    return whole.replace(moov, edited(moov, lambda kind, _: edit.get(kind)))


ELSEWHERE = box(
    b"dinf", box(b"dref", struct.pack(">II", 0, 1), box(b"url ", bytes(4), b"file:///etc/passwd\0"))
)


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"", "no movie header"),
        (b"GIF89a" + bytes(100), "not an MP4"),
        (lambda: clip(container="fmp4"), "fragmented MP4"),
        (lambda: clip(container="ts"), "not an MP4"),
        (lambda: clip(Clip(), "annexb"), "not an MP4"),
        (lambda: clip(Clip("mpeg2video", "")), "MPEG-2, which no browser plays"),
        (lambda: clip(Clip("mpeg2video", ""), "mov"), "MPEG-2, which no browser plays"),
        (lambda: changed(b"avc1", b"apcn"), "ProRes, which no browser plays"),
        (lambda: changed(b"avc1", b"\xff\0zz"), "ff007a7a', which no browser plays"),
        (lambda: clip(Clip("mpeg4", "")), "MPEG-4 Visual, which no browser plays"),
        (lambda: clip()[: -len(parts(clip())[0])], "no movie header"),
        (lambda: clip() + parts(clip())[0], "two headers"),
        (lambda: clip()[:-1], "damaged: its box 'moov' is cut off"),
        (lambda: clip()[:1000], "damaged: its box 'mdat' is cut off"),
        (lambda: parts(clip())[0], "no pictures"),
        (lambda: changed(b"avc1", b"encv"), "encrypted"),
        (lambda: changed(b"vide", b"text"), "no video track"),
        (lambda: changed(b"avcC", b"avcX"), "no 'avcC'"),
        (lambda: with_moov({b"moov": box(b"moov", box(b"cmov", bytes(8)))}), "cmov"),
        (lambda: with_moov({b"dinf": ELSEWHERE}), "another file"),
        (lambda: with_moov({b"stco": b""}), "no single table of chunk offsets"),
        (lambda: with_moov({b"stco": box(b"stco", struct.pack(">III", 0, 1, 1))}), "outside the media"),
        (lambda: with_moov({b"stco": box(b"stco", struct.pack(">II", 0, 1 << 31))}), "longer than its box"),
        (lambda: with_moov({b"stsz": box(b"stsz", bytes(12))}), "no pictures"),
        (lambda: with_moov({b"stbl": b""}), "0 boxes 'stbl'"),
        (lambda: with_moov({b"mdhd": box(b"mdhd", bytes(24))}), "clock"),
    ],
)  # fmt: skip
def test_the_reason_is_a_sentence(stream: object, reason: str) -> None:
    """Each kind of file that is not served as MP4 says which kind it is."""
    said = refusal(stream() if callable(stream) else stream)  # type: ignore[arg-type]  # the table mixes both
    assert reason in said
    assert said.startswith(("The ", "the ")), said
    assert said.endswith(".")


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """The clip with its headers changed: bytes, whole numbers, boxes cut out, copied or cut off."""
    whole = bytearray(clip())
    start = len(whole) - len(parts(clip())[0])
    places = st.one_of(st.integers(0, 47), st.integers(start, len(whole) - 1))
    for _ in range(draw(st.integers(1, 6))):
        at = min(draw(places), len(whole))
        kind = draw(st.sampled_from(["byte", "number", "cut", "copy", "end"]))
        if kind == "byte":
            whole[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "number":
            value = draw(st.sampled_from([0, 1, 7, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(whole)]))
            whole[at : at + 4] = struct.pack(">I", value)
        elif kind == "cut":
            del whole[at : at + draw(st.integers(1, 64))]
        elif kind == "copy":
            whole[at:at] = whole[at : at + draw(st.integers(1, 200))]
        else:
            del whole[at:]
    return bytes(whole)


@given(mutations(), st.sampled_from([0, faststart.LONG]))
def test_a_mutated_file_is_refused_or_stays_inside(whole: bytes, longest: int) -> None:
    """Whatever a header claims: Unplayable, or a plan whose ranges lie inside the stream, in no time."""
    started = time.process_time()
    try:
        plan = planned(whole, longest)
    except Unplayable:
        return
    finally:
        assert time.process_time() - started < 2
    served = Virtual(plan, Sparse([(0, whole)]))
    for one in served.extents:
        room = len(plan.header) if one.key == "rendition" else len(whole)
        assert one.length > 0
        assert 0 <= one.offset <= one.offset + one.length <= room
    assert plan.length == served.extents.length <= len(whole) + len(plan.header)
    assert [kind for kind, _ in boxes(served.range(0, plan.length))][:2] == [b"ftyp", b"moov"]


@given(st.binary(max_size=200), st.sampled_from([b"ftyp", b"moov", b"mdat"]))
def test_arbitrary_bytes_are_refused(content: bytes, kind: bytes) -> None:
    """Bytes that are no movie are refused, whatever box they stand in."""
    assert refusal(content)
    assert refusal(box(kind, content))


def test_a_file_of_nothing_but_boxes_costs_few_reads() -> None:
    """Boxes without end are refused after a bounded number of reads."""
    stream = Sparse([(at << 20, struct.pack(">I4s", 1 << 20, b"free")) for at in range(2000)], 2000 << 20)
    assert "more than 1024 boxes" in refusal(stream)
    assert stream.reads <= 1025


def test_a_giant_header_is_not_read() -> None:
    """A movie header beyond 64 MiB is refused by its size alone."""
    size = (64 << 20) + 1
    stream = Sparse([(0, struct.pack(">I4s", size, b"moov")), (size, box(b"mdat", bytes(8)))])
    assert "larger than 64 MiB" in refusal(stream)
    assert stream.reads <= 2


@pytest.mark.parametrize("kind", [b"free", b"trak"])
def test_a_header_of_tiny_boxes_is_refused(kind: bytes) -> None:
    """Two million empty boxes are given up at once."""
    started = time.process_time()
    assert refusal(box(b"moov", box(kind) * 2_000_000) + box(b"mdat", bytes(8)))
    assert time.process_time() - started < 2


@pytest.mark.parametrize("table", [b"stco", b"stts"])
def test_tables_of_millions_take_bounded_time_and_memory(table: bytes) -> None:
    """A table that fills the largest header is planned in seconds, in three times its size."""
    entries = (60 << 20) // 8 * 2
    whole = clip(Clip())
    moov, _, offset = parts(whole)
    content = struct.pack(">II", 0, entries if table == b"stco" else entries // 2)
    content += struct.pack(">I", offset) * entries
    hostile = whole.replace(
        moov, edited(moov, lambda kind, _: box(table, content) if kind == table else None)
    )

    async def read(offset: int, length: int) -> bytes:
        return hostile[offset : offset + length]

    tracemalloc.start()
    started = time.process_time()
    asyncio.run(faststart.plan(read, len(hostile)))
    taken, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 20
    assert peak < 200 << 20


def test_a_header_that_would_grow_too_large_is_refused() -> None:
    """64 MiB bound what is written as well as what is read."""
    count = 12 << 20
    whole = clip(Clip())
    moov, media, _ = parts(whole)
    start = (1 << 32) - 100
    content = struct.pack(">II", 0, count) + struct.pack(">I", start) * count
    grown = edited(moov, lambda kind, _: box(b"stco", content) if kind == b"stco" else None)
    filler = struct.pack(">I4sQ", 1, b"mdat", start - 8)
    stream = Sparse([(0, filler), (start - 8, box(b"mdat", media)), (start + len(media), grown)])
    assert "larger than 64 MiB" in refusal(stream)


def test_describing_is_as_strict_as_planning() -> None:
    """What a header says of the video is told without reading a picture."""
    found = movie.describe(parts(clip())[0][8:])
    assert (found.codec.name, found.codec.width, found.codec.height) == ("H.264", 160, 120)
    assert (found.samples, found.duration_s, found.samples_per_s) == (48, make_video.SECONDS, Fraction(25))
    assert found.sound is not None
    assert (found.sound.name, found.sound.parameter, found.sound.sample_rate) == ("AAC", "mp4a.40.2", 48000)
    with pytest.raises(Unplayable):
        movie.describe(b"")
