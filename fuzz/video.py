"""Hostile videos for what plans their MP4: a reason, or a file whose every byte lies where it says, and nothing else.

python fuzz/video.py FOLDER -max_total_time=600     # arguments of libFuzzer; finds are added to FOLDER
python fuzz/video.py --keep FOLDER                  # FOLDER becomes the kept corpus
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["app.video", "app.woven", "app.units"]):
    from app.extent import Extent, Extents
    from app.video import NeedsRemux, Unplayable, annexb, faststart
    from app.video.annexb import Index
    from app.video.faststart import Plan
    from app.video.pace import Pace
    from app.woven import Woven

from fuzz.kept import run

KEPT = Path(__file__).with_name("video.zip")
HELD = "stream"  # what stands for the stored stream
LONGEST = (faststart.LONG, 0)
MP4, BARE = range(2)
LOOP = asyncio.new_event_loop()


def served(plan: Plan, length: int) -> None:
    """What is served lies within the rendition's own object and the stream of `length` bytes, and is as long as told."""
    own = Extents([Extent("rendition", 0, len(plan.header))])
    sources = {"rendition": own, HELD: Extents([Extent(HELD, 0, length)])}
    if plan.layout[0].source == "spans":
        (rows,) = plan.layout
        made = Woven(plan.header[rows.offset : rows.offset + rows.length], sources)
        pieces = [(one.key, one.offset, one.length) for one in made]
    else:
        pieces = [(span.source, span.offset, span.length) for span in plan.layout]
    for key, offset, size in pieces:
        assert 0 <= offset <= offset + size <= sources[key].length, (key, offset, size)
    assert sum(size for _, _, size in pieces) == plan.length
    first = pieces[0]
    assert first[:2] == ("rendition", 0)
    assert plan.header[4:8] == b"ftyp"


def movie(data: bytes, longest: int) -> None:
    """A stream in an MP4 or QuickTime file."""

    async def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    try:
        plan = LOOP.run_until_complete(faststart.plan(read, len(data), longest))
    except Unplayable as reason:
        explained(reason)
        return
    served(plan, len(data))
    assert len(data) + len(plan.header) >= plan.length


def explained(reason: Unplayable | NeedsRemux) -> str:
    """A reason is a sentence."""
    assert str(reason).endswith(".")
    return str(reason)


def bare(data: bytes, longest: int, size: int) -> None:
    """A stream of units behind start codes: the same in whatever pieces it comes."""
    outcomes = [indexed(data, longest, each) for each in (size, len(data) or 1)]
    assert outcomes[0] == outcomes[1]


def indexed(data: bytes, longest: int, size: int) -> object:
    """What is planned of the stream in pieces of one size, or why nothing is."""
    index = Index()
    try:
        for at in range(0, len(data), size):
            index.feed(data[at : at + size])
        plan = annexb.planned(index.close(), Pace(), longest)
    except (NeedsRemux, Unplayable) as reason:
        return explained(reason)
    media = sum(map(len, plan.table)) + 2 * len(data) + (1 << 16)
    assert plan.file.length <= len(plan.file.header) + media
    return plan.layout, plan.file.header, b"".join(plan.table)


def one(data: bytes) -> None:
    """The first byte says what it is and how it is cut, the others are the stream."""
    if not data:
        return
    what, cut = data[0] & 3, (data[0] >> 2) + 1
    longest = LONGEST[what >> 1]
    if what & 1 == MP4:
        movie(data[1:], longest)
    else:
        bare(data[1:], longest, cut)


def seeds() -> Iterator[tuple[str, bytes]]:
    """Clips of the tests, each for a short header and for fragments."""
    from tests import make_video  # noqa: PLC0415 - PyAV is not instrumented
    from tests.make_video import Clip  # noqa: PLC0415

    sounds = ("", "aac")
    clips = [
        Clip(codec, sound=sound, width=32, height=32, kilobits=20)
        for codec in ("h264", "hevc")
        for sound in sounds
    ]
    with TemporaryDirectory() as folder:
        for number, clip in enumerate(clips):
            for container in ("mp4", "faststart", "mov", "annexb"):
                if container == "annexb" and clip.sound:
                    continue
                made = make_video.stream(Path(folder) / "clip", clip, container).read_bytes()
                for longest in (0, 2):
                    kind = BARE if container == "annexb" else MP4
                    yield f"{container}-{number}-{longest}", bytes([kind | longest | 28]) + made


if __name__ == "__main__":
    run(one, KEPT, seeds)
