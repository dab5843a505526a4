"""The jobs process: a stored video becomes playable by itself, or says for good why it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app import jobs
from app.dicom.scanner import Scanner
from app.extent import Extent, Extents, joined
from app.index import Index, extents, renditions
from app.index.extents import Located
from app.index.renditions import Rendition
from app.storage.local import LocalStorage
from app.storage.stream import stream
from tests import make_video
from tests.make_video import Clip, Container, Made
from tests.video.virtual import packets

CLIP = Clip(sound="aac")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[LocalStorage]:
    async with LocalStorage(tmp_path / "store") as opened:
        yield opened


async def stored(index: Index, storage: LocalStorage, made: Made) -> Located:
    """The instance as an upload leaves it: object first, row second."""
    scanner, key = Scanner(), await index.pending.take()
    async with storage.upload(key) as upload:
        content = await asyncio.to_thread(made.path.read_bytes)
        scanner.feed(content)
        await upload.write(content)
    await index.committer.add(scanner.close(), upload.stored)
    return await extents.instance(
        index, made.study_instance_uid, made.series_instance_uid, made.sop_instance_uid
    )


@asynccontextmanager
async def working(index: Index, storage: LocalStorage) -> AsyncIterator[None]:
    stop = asyncio.Event()
    knobs = jobs.Knobs(poll_s=0.05, attempts=1)
    task = asyncio.create_task(jobs.run(index, storage, stop=stop, knobs=knobs))
    yield
    stop.set()
    await asyncio.wait_for(task, 5)


async def outcome(index: Index, located: Located) -> Rendition:
    found = await renditions.wait(index, located.instance_id, "mp4", 5)
    assert found is not None
    return found


@pytest.mark.parametrize("fragment_size", [0xFFFFFFFE, 4096], ids=["one", "many"])
async def test_a_stored_video_becomes_playable(
    tmp_path: Path, index: Index, storage: LocalStorage, fragment_size: int
) -> None:
    """Its row tells a layout over its own header and the stored fragments, and that is the video."""
    made = make_video.instance(tmp_path / "video.dcm", CLIP, odd=True, fragment_size=fragment_size)
    located = await stored(index, storage, made)
    async with working(index, storage):
        found = await outcome(index, located)
    assert (found.state, found.media_type) == ("ready", "video/mp4")
    pieces = [Extent(located.key, offset, length) for offset, length in made.fragments]
    sources = {"stream": Extents(pieces), "rendition": Extents([Extent(found.key or "", 0, found.size or 0)])}
    spans = [sources[span.source].slice(span.offset, span.offset + span.length) for span in found.layout]
    served = b"".join([bytes(piece) async for piece in stream(storage, joined(spans))])
    (tmp_path / "served").write_bytes(served)
    assert packets(str(tmp_path / "served")) == packets(str(made.stream))


@pytest.mark.parametrize(
    ("container", "reason"),
    [("fmp4", "fragmented MP4"), ("ts", "transport stream"), ("annexb", "bare H.264 or HEVC stream")],
)
async def test_what_cannot_be_played_says_why(
    tmp_path: Path, index: Index, storage: LocalStorage, container: Container, reason: str
) -> None:
    """The reason stands in the row, for good, in words that a viewer may read."""
    located = await stored(index, storage, make_video.instance(tmp_path / "video.dcm", Clip(), container))
    async with working(index, storage):
        found = await outcome(index, located)
    assert found.state == "failed"
    assert reason in (found.error or "")


async def test_one_bad_video_stops_no_other(tmp_path: Path, index: Index, storage: LocalStorage) -> None:
    """An object that is gone fails its own rendition; the next is made."""
    lost = await stored(index, storage, make_video.instance(tmp_path / "lost.dcm", CLIP))
    await storage.delete(lost.key)
    kept = await stored(index, storage, make_video.instance(tmp_path / "kept.dcm", CLIP))
    async with working(index, storage):
        assert (await outcome(index, kept)).state == "ready"
        found = await outcome(index, lost)
    assert found.state == "failed"
    assert "could not be prepared" in (found.error or "")
