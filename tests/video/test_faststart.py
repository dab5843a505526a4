"""The virtual faststart MP4: the same packets, the header first, every range exact."""

from __future__ import annotations

import csv
import hashlib
import struct
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import generate_fragments

from app.video import faststart
from tests import make_video
from tests.make_video import Clip, Container
from tests.video import virtual
from tests.video.virtual import Fragmented, Sparse, box, edited, frames, packets, parts, shifted

B_FRAMES = Clip(sound="aac")
BASELINE = Clip(profile="baseline", bframes=0)
HEVC = Clip("hevc", sound="aac")

# With the files of an archive beside the repository, those too.
CORPUS = Path(__file__).parents[3] / "shared" / "data"


def corpus() -> list[Path]:
    return [
        path
        for path in sorted((CORPUS / "video").glob("*.dcm"))
        if "mp4" in path.name and "fmp4" not in path.name
    ]


def same(source: Path) -> Sparse:
    return Sparse([(0, source.read_bytes())])


@pytest.mark.parametrize("container", ["mp4", "faststart", "mov"])
@pytest.mark.parametrize(
    "clip",
    [B_FRAMES, BASELINE, replace(BASELINE, sound="ac3"), HEVC, replace(HEVC, tag="hvc1")],
    ids=["b-frames+aac", "baseline", "ac3", "hev1", "hvc1"],
)
async def test_pictures_and_sound_are_the_stored_ones(
    tmp_path: Path, clip: Clip, container: Container
) -> None:
    """Every packet and every decoded frame equals the source's, and the header stands before the media."""
    source = make_video.stream(tmp_path / "clip", clip, container, times=2)
    plan, file = await virtual.virtual(same(source))
    assert packets(file) == packets(str(source))
    file.seek(0)
    assert frames(file) == frames(str(source))
    kinds = [kind for kind, _ in virtual.boxes(file.range(0, file.extents.length))]
    assert kinds == [b"ftyp", b"moov", b"mdat"]
    assert plan.length == file.extents.length


@pytest.mark.parametrize("fragment_size", [0xFFFFFFFE, 65536, 4096, 1022], ids=["one", "64k", "4k", "1022"])
@pytest.mark.parametrize("total_length", [True, False], ids=["7FE0,0003", "no-7FE0,0003"])
async def test_fragments_do_not_show(tmp_path: Path, fragment_size: int, *, total_length: bool) -> None:
    """A stream in one or hundreds of fragments of a DICOM file is the same video; so are its ranges."""
    made = make_video.instance(
        tmp_path / "video.dcm", B_FRAMES, odd=True, fragment_size=fragment_size, total_length=total_length
    )
    padded = sum(length for _, length in made.fragments)
    assert padded == made.length + 1
    stream = Fragmented(made.path, made.fragments, made.length if total_length else padded)
    _, file = await virtual.virtual(stream)
    assert packets(file) == packets(str(made.stream))
    whole, random = file.range(0, file.extents.length), Random(1)
    for _ in range(1000):
        start = random.randrange(len(whole))
        stop = start + random.randrange(1, len(whole) - start + 1)
        assert file.range(start, stop) == whole[start:stop]


async def test_it_is_what_a_muxer_writes(tmp_path: Path) -> None:
    """The virtual file and FFmpeg's own faststart hold the same packets, behind headers of about one size."""
    last = make_video.stream(tmp_path / "last", B_FRAMES, "mp4", times=3)
    first = make_video.stream(tmp_path / "first", B_FRAMES, "faststart", times=3)
    plan, file = await virtual.virtual(same(last))
    assert packets(file) == packets(str(first))
    assert plan.length <= first.stat().st_size


async def test_two_reads_are_enough(tmp_path: Path) -> None:
    """Neither the media nor its length costs a read: the first boxes are one, the movie header another."""
    for container in ("mp4", "faststart"):
        stream = same(
            make_video.stream(tmp_path / container, replace(B_FRAMES, kilobits=2000), container, times=2)
        )
        await faststart.plan(stream.read, stream.length)
        assert stream.reads <= 3


@pytest.mark.parametrize(
    "order",
    [
        ["free", 0, "moov"],
        ["moov", "skip", 0, 1],
        [0, "moov", 1],
        ["wide", 0, "free", 1, "moov", 2],
        [2, "moov", 0, "uuid", 1],
        ["moov", 0, 1, "open"],
        [0, "wide64", 1, 2, "moov", "zeros"],
    ],
    ids=str,
)
async def test_boxes_lie_in_any_order(tmp_path: Path, order: list[str | int]) -> None:
    """The movie header in front, behind or between several boxes of media, of 32 and 64 bits, open at the end."""
    source = make_video.stream(tmp_path / "clip", B_FRAMES, times=2)
    plan, file = await virtual.virtual(Sparse([(0, arranged(source.read_bytes(), order))]))
    assert packets(file) == packets(str(source))
    assert sum(span.source == "stream" for span in plan.layout) <= 3


def arranged(source: bytes, order: list[str | int]) -> bytes:
    """A file with its media cut into pieces (numbers) and laid out in this order."""
    moov, media, began = parts(source)
    cuts = cut(moov, 1 + max(item for item in order if isinstance(item, int)), began, len(media))
    laid, moves = b"", list[tuple[int, int, int]]()
    laid += box(b"ftyp", b"isom", bytes(4), b"isom")
    for item in [*order, "stop"]:
        if isinstance(item, int):
            wide = "wide64" in order
            start, stop = cuts[item], cuts[item + 1]
            piece = box(b"mdat", media[start - began : stop - began], wide=wide)
            moves.append((start, stop, len(laid) + (16 if wide else 8)))
            laid += piece
        elif item == "open":  # the last box has no size: up to the end
            last = moves[-1][2] - 8
            laid = laid[:last] + bytes(4) + laid[last + 4 :]
        else:
            laid += {"moov": moov, "zeros": bytes(5), "stop": b""}.get(
                item, box(item[:4].encode(), b"\1" * 9)
            )

    def move(offset: int) -> int:
        return next(new + offset - start for start, stop, new in moves if start <= offset < stop)

    return laid.replace(moov, shifted(moov, move))


def cut(moov: bytes, pieces: int, began: int, length: int) -> list[int]:
    """Borders of chunks that cut the media into so many pieces."""
    chunks = list[int]()

    def note(offset: int) -> int:
        chunks.append(offset)
        return offset

    shifted(moov, note)
    chunks.sort()
    inner = [chunks[len(chunks) * number // pieces] for number in range(1, pieces)]
    return [began, *inner, began + length]


@pytest.mark.parametrize("gap", [0, 1 << 10, 100 << 10], ids=["at", "just below", "well below"])
async def test_offsets_grow_to_64_bits_where_they_must(tmp_path: Path, gap: int) -> None:
    """A header that pushes chunks across 4 GiB names them in 64 bits, and grows itself by that."""
    source = make_video.stream(tmp_path / "clip", B_FRAMES, times=4)
    moov, media, began = parts(source.read_bytes())
    # The media lies so that its last chunk ends `gap` below 4 GiB, behind another box of media data.
    start = (1 << 32) - gap - len(media)
    filler = struct.pack(">I4sQ", 1, b"mdat", start - 8)
    stream = Sparse(
        [
            (0, filler),
            (start - 8, box(b"mdat", media)),
            (start + len(media), shifted(moov, lambda offset: offset - began + start)),
        ]
    )
    plan, file = await virtual.virtual(stream)
    assert (b"co64" in plan.header) == (gap < 100 << 10)
    assert packets(file) == packets(str(source))


@given(st.integers(0, 8000))
async def test_every_chunk_is_found_again(gap: int) -> None:
    """Wherever 4 GiB cut through the chunks, of one track or of both: each offset leads to its bytes."""
    moov, media, began = parts(encoded())
    start = (1 << 32) - gap - len(media) // (1 + gap % 2)  # 4 GiB behind the media or in their middle
    moved = shifted(moov, lambda offset: offset - began + start, b"co64")
    pieces = [(0, struct.pack(">I4sQ", 1, b"mdat", start - 8)), (start - 8, box(b"mdat", media) + moved)]
    plan, file = await virtual.virtual(Sparse(pieces))
    for before, after in zip(tables(moov), tables(plan.header), strict=True):
        assert [media[at - began :][:16] for at in before[1]] == [file.range(at, at + 16) for at in after[1]]
        assert after[0] == (b"co64" if max(after[1]) > 0xFFFFFFFF else b"stco")


@cache
def encoded() -> bytes:
    with TemporaryDirectory() as folder:
        return make_video.stream(Path(folder) / "clip", B_FRAMES).read_bytes()


def tables(moov: bytes) -> list[tuple[bytes, list[int]]]:
    """The tables of chunk offsets of a movie header, by type."""
    found = list[tuple[bytes, list[int]]]()

    def note(kind: bytes, payload: bytes) -> None:
        if kind in {b"stco", b"co64"}:
            width = "I" if kind == b"stco" else "Q"
            found.append((kind, [at for (at,) in struct.iter_unpack(f">{width}", payload[8:])]))

    edited(moov, note)
    return found


async def test_offsets_shrink_to_32_bits_where_they_can(tmp_path: Path) -> None:
    """What lay behind 5 GiB of nothing is served without the nothing."""
    source = make_video.stream(tmp_path / "clip", B_FRAMES, times=2)
    moov, media, began = parts(source.read_bytes())
    start = 5 << 30
    moov = shifted(moov, lambda offset: offset - began + start, b"co64")
    nothing = struct.pack(">I4sQ", 1, b"free", start - 8)
    stream = Sparse([(0, nothing), (start - 8, box(b"mdat", media)), (start + len(media), moov)])
    plan, file = await virtual.virtual(stream)
    assert b"co64" not in plan.header
    assert packets(file) == packets(str(source))


async def test_boxes_of_64_bits_inside_the_header(tmp_path: Path) -> None:
    """Every box of the movie header may carry a size of 64 bits, ancestors of the tables too."""
    source = make_video.stream(tmp_path / "clip", B_FRAMES)
    moov, media, began = parts(source.read_bytes())
    wide = edited(moov, lambda kind, payload: box(kind, payload, wide=True))
    first = box(b"ftyp", b"isom", bytes(4))
    file = first + box(b"mdat", media) + wide
    moved = file.replace(wide, edited(shifted(moov, lambda at: at - began + len(first) + 8), _widened))
    _, made = await virtual.virtual(Sparse([(0, moved)]))
    assert packets(made) == packets(str(source))


def _widened(kind: bytes, payload: bytes) -> bytes:
    return box(kind, payload, wide=True)


async def test_remarks_stay_behind(tmp_path: Path) -> None:
    """Names, places and telemetry of the camera are not in the served header; stored they stay."""
    source = make_video.stream(tmp_path / "clip", B_FRAMES).read_bytes()
    moov, media, _ = parts(source)
    handler = box(b"hdlr", bytes(8), b"camm", bytes(12), b"Jane's telemetry\0")
    secrets = [
        box(b"udta", box(b"\xa9xyz", b"+52.5+013.4/")),
        box(b"meta", b"Jane Doe"),
        box(b"gps ", b"Jane's track"),
        box(b"free", b"Jane"),
        box(b"trak", box(b"mdia", handler)),
    ]
    payload = moov[8:].replace(b"VideoHandler", b"Jane Doe 123")
    before = source[: -len(moov)]
    assert before.endswith(media)
    plan, file = await virtual.virtual(Sparse([(0, before + box(b"moov", payload, *secrets))]))
    for secret in (b"Jane", b"+52.5", b"udta", b"meta", b"camm"):
        assert secret not in plan.header
    assert packets(file) == packets(str(tmp_path / "clip"))


async def test_only_the_pictures_that_play_are_served(tmp_path: Path) -> None:
    """A cover or a preview that no browser knows does not spoil the video beside it."""
    source = make_video.stream(tmp_path / "clip", B_FRAMES).read_bytes()
    moov = parts(source)[0]
    shown = next(payload for kind, payload in virtual.boxes(moov[8:]) if kind == b"trak")
    cover = box(b"trak", shown.replace(b"avc1", b"jpeg"))
    two = source[: -len(moov)] + box(b"moov", cover, moov[8:], box(b"trak", shown))
    plan, file = await virtual.virtual(Sparse([(0, two)]))
    assert plan.header.count(b"avc1") == 1 + 2  # the brand, and a track twice
    assert b"jpeg" not in plan.header
    assert len(packets(file)) == len(packets(str(tmp_path / "clip"))) + make_video.FRAMES


@pytest.mark.parametrize("source", ["generated", *corpus()], ids=lambda path: getattr(path, "stem", path))
async def test_stored_files_play(tmp_path: Path, source: str | Path) -> None:
    """Each MP4 of the corpus, and a generated one when there is none: the same pictures, the same bytes."""
    if isinstance(source, str):
        made = make_video.instance(tmp_path / "made.dcm", B_FRAMES, fragment_size=2048)
        source, digest = made.path, made.stream_sha256
    else:
        with (CORPUS / "MANIFEST.tsv").open(newline="") as manifest:
            rows = {row["file"]: row for row in csv.DictReader(manifest, delimiter="\t")}
        digest = rows[f"video/{source.name}"]["stream_sha256"]
    _, *fragments = generate_fragments(dcmread(source).PixelData)  # the offset table is the first item
    stream = b"".join(fragments)
    plain = next(stream[:size] for size in (len(stream), len(stream) - 1) if sha256(stream[:size]) == digest)
    (tmp_path / "plain").write_bytes(plain)
    plan, file = await virtual.virtual(Sparse([(0, stream)]))
    assert plan.media_type.startswith("video/mp4")
    assert packets(file) == packets(str(tmp_path / "plain"))
    file.seek(0)
    assert frames(file) == frames(str(tmp_path / "plain"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
