"""The jobs process: a stored video becomes playable and has a poster by itself, or says for good why not."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from app import jobs, makers
from app.errors import Unavailable
from app.extent import Extent, Extents, Span, joined
from app.index import Index, renditions
from app.index.located import Located
from app.storage.stream import read_all, stream
from app.tools import Tools
from app.video import confined
from app.video.inside import SAMPLE
from tests import make_video
from tests.make_video import Clip, Container
from tests.video.test_poster import children
from tests.video.virtual import packets
from tests.working import opened, outcome, stored, working

CLIP = Clip(sound="aac")
LEASE_S = 1.5  # a busy machine may be so late with what renews it


@pytest.fixture
async def tools(index: Index, tmp_path: Path) -> AsyncIterator[Tools]:
    async with opened(index, tmp_path / "store") as tools:
        yield tools


@pytest.mark.parametrize("fragment_size", [0xFFFFFFFE, 4096], ids=["one", "many"])
async def test_a_stored_video_becomes_playable(tmp_path: Path, tools: Tools, fragment_size: int) -> None:
    """Its row tells a layout over its own header and the stored fragments, and that is the video."""
    made = make_video.instance(tmp_path / "video.dcm", CLIP, odd=True, fragment_size=fragment_size)
    located = await stored(tools, made)
    async with working(tools):
        found = await outcome(tools, located)
    assert (found.state, found.media_type) == ("ready", "video/mp4")
    pieces = [Extent(located.key, offset, length) for offset, length in made.fragments]
    sources = {"stream": Extents(pieces), "rendition": Extents([Extent(found.key or "", 0, found.size or 0)])}
    spans = [sources[span.source].slice(span.offset, span.offset + span.length) for span in found.layout]
    served = b"".join([bytes(piece) async for piece in stream(tools.storage, joined(spans))])
    (tmp_path / "served").write_bytes(served)
    assert packets(str(tmp_path / "served")) == packets(str(made.stream))


@pytest.mark.parametrize("container", ["fmp4", "ts", "ps"])
async def test_other_containers_are_copied(tmp_path: Path, tools: Tools, container: Container) -> None:
    """All bytes of such a video are the rendition's own, behind the media data the header, and what nobody plays."""
    clip = Clip(sound="" if container == "ps" else "aac")
    made = make_video.instance(tmp_path / "video.dcm", clip, container, fragment_size=4096)
    located = await stored(tools, made)
    async with working(tools):
        found = await outcome(tools, located)
    assert (found.state, found.media_type) == ("ready", "video/mp4")
    assert found.size
    assert {span.source for span in found.layout} == {"rendition"}
    header, media = found.layout
    assert header.offset + header.length == found.size - made.frames * SAMPLE.size
    own = Extents([Extent(found.key or "", 0, found.size)])
    content = await read_all(tools.storage, own)
    assert hashlib.sha256(content).digest() == found.sha256
    served = b"".join(content[span.offset : span.offset + span.length] for span in (header, media))
    (tmp_path / "served").write_bytes(served)
    shown = packets(str(tmp_path / "served"))
    assert len([one for one in shown if one[0] == 0]) == made.frames


async def test_a_bare_stream_that_changes_is_copied(tmp_path: Path, tools: Tools) -> None:
    """What no header over the stored bytes can be proven right for, a copy plays."""
    parts = [
        make_video.stream(tmp_path / "part", Clip(gop=gop, kilobits=rate), "annexb").read_bytes()
        for gop, rate in ((12, 200), (24, 300))
    ]
    (tmp_path / "both").write_bytes(parts[0] + _another(parts[1]))
    made = make_video.wrap(tmp_path / "video.dcm", tmp_path / "both", make_video.H264, NumberOfFrames=96)
    located = await stored(tools, made)
    async with working(tools):
        found = await outcome(tools, located)
    assert (found.state, found.media_type) == ("ready", "video/mp4")
    assert {span.source for span in found.layout} == {"rendition"}


def _another(stream: bytes) -> bytes:
    """The same stream, whose sequence parameter set names a higher level."""
    at = stream.index(b"\0\0\1\x67") + 6
    return stream[:at] + bytes((stream[at] + 1,)) + stream[at + 1 :]


async def test_a_copy_that_was_cut_short_is_made_again(tmp_path: Path, tools: Tools) -> None:
    """Whoever dies in the middle of it leaves nothing that is served; the next one begins anew."""
    located = await stored(tools, make_video.instance(tmp_path / "video.dcm", CLIP, "ts", times=4))
    job = await renditions.lease(tools.index, ["mp4"], 0.2)
    assert job
    begun = asyncio.Event()

    async def dying(tools: Tools, located: Located, work: makers.Work) -> makers.Made:
        await work.write(b"half a video")
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    working_once = asyncio.create_task(jobs._made(tools, job, dying, jobs.Knobs(lease_s=0.2)))
    await begun.wait()
    working_once.cancel()
    with suppress(asyncio.CancelledError):
        await working_once
    async with working(tools, attempts=3):
        found = await outcome(tools, located)
    assert (found.state, found.attempts) == ("ready", 2)
    assert found.size
    assert found.size > 4 * 40_000


async def test_a_copy_that_is_stopped_leaves_no_child(tmp_path: Path, tools: Tools) -> None:
    """Also when its bytes find no room."""
    located = await stored(tools, make_video.instance(tmp_path / "video.dcm", CLIP, "ts", times=4))

    class Full:
        async def write(self, piece: bytes | memoryview) -> None:
            raise Unavailable("The disk is full.")

        def reached(self, share: float) -> None:
            raise AssertionError

    with pytest.raises(Unavailable):
        await makers.mp4(tools, located, Full())
    assert not children()


async def test_a_stream_is_described(tmp_path: Path, tools: Tools) -> None:
    """Beside the MP4: what it is, where it disagrees with the data set, and a record of each sample."""
    made = make_video.instance(tmp_path / "video.dcm", CLIP, "ts", Rows=121, FrameTime="33.3")
    located = await stored(tools, made)
    async with working(tools):
        found = await outcome(tools, located, "stream")
    assert found.description
    assert (found.description["codec"], found.description["samples"]) == ("h264", made.frames)
    assert found.description["warnings"] == [
        "Rows is 121, the stream's height 120.",
        "FrameTime is 33.3 ms, the stream's 40 ms.",
    ]
    assert found.key
    assert found.size == made.frames * SAMPLE.size
    # They were found while the packets were copied: the stream is not read again.
    mp4 = await renditions.find(tools.index, located.instance_id, "mp4")
    assert mp4
    assert mp4.key
    assert mp4.size
    behind = Extents([Extent(mp4.key, mp4.size - found.size, found.size)])
    own = Extents([Extent(found.key, 0, found.size)])
    assert await read_all(tools.storage, own) == await read_all(tools.storage, behind)


async def test_what_is_made_again_is_the_same(tmp_path: Path, tools: Tools) -> None:
    """Byte for byte, so that a tag outlives the rendition that it was given for."""
    made = make_video.instance(tmp_path / "video.dcm", CLIP, "ts")
    digests = set()
    for number in range(2):
        again = dataclasses.replace(made, path=tmp_path / f"{number}.dcm")
        again.path.write_bytes(_renamed(made.path.read_bytes(), made, number))
        uid = _uid(made, number)
        async with working(tools):
            found = await outcome(
                tools, await stored(tools, dataclasses.replace(again, sop_instance_uid=uid))
            )
        digests.add(found.sha256)
    assert len(digests) == 1


def _uid(made: make_video.Made, number: int) -> str:
    return made.sop_instance_uid[:-1] + str(number)


def _renamed(content: bytes, made: make_video.Made, number: int) -> bytes:
    return content.replace(made.sop_instance_uid.encode(), _uid(made, number).encode())


async def test_a_lost_lease_ends_the_work(tmp_path: Path, tools: Tools) -> None:
    """Who works in vain stops and leaves no object behind."""
    located = await stored(tools, make_video.instance(tmp_path / "video.dcm", CLIP, "ts"))
    job = await renditions.lease(tools.index, ["mp4"], 60)
    assert job
    begun = asyncio.Event()

    async def endless(_tools: Tools, _located: Located, work: makers.Work) -> makers.Made:
        await work.write(b"something")
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    knobs = jobs.Knobs(lease_s=0.4)
    working = asyncio.create_task(jobs._made(tools, job, endless, knobs))
    await begun.wait()
    assert await renditions.fail(tools.index, job, "taken away", final=True)
    assert await asyncio.wait_for(working, 10)
    assert (await outcome(tools, located)).error == "taken away"
    assert not [entry async for entry in tools.storage.list("renditions/")]


async def test_a_lease_is_held_as_long_as_the_work(tmp_path: Path, tools: Tools) -> None:
    """Nobody else gets the job, however long it takes, and the row tells how far it is."""
    await stored(tools, make_video.instance(tmp_path / "video.dcm", CLIP, "ts"))
    job = await renditions.lease(tools.index, ["mp4"], LEASE_S)
    assert job
    enough = asyncio.Event()

    async def slow(_tools: Tools, _located: Located, work: makers.Work) -> makers.Made:
        await work.write(b"something")
        work.reached(0.5)
        await enough.wait()
        return makers.Made((Span("rendition", 0, 9),), "video/mp4")

    working = asyncio.create_task(jobs._made(tools, job, slow, jobs.Knobs(lease_s=LEASE_S)))
    for _ in range(8):
        await asyncio.sleep(LEASE_S / 4)
        assert await renditions.lease(tools.index, ["mp4"], 60) is None
    found = await renditions.find(tools.index, job.located.instance_id, "mp4")
    assert found
    assert (found.state, found.progress) == ("running", 0.5)
    enough.set()
    assert await asyncio.wait_for(working, 10)


@pytest.mark.parametrize(
    ("clip", "container", "reason"),
    [
        (Clip("mpeg2video", bframes=0), "ts", "MPEG-2, which no browser plays"),
        (Clip("mpeg2video", bframes=0), "ps", "MPEG-2, which no browser plays"),
    ],
)
async def test_what_cannot_be_played_says_why(
    tmp_path: Path, tools: Tools, clip: Clip, container: Container, reason: str
) -> None:
    """The reason stands in the row, for good, in words that a viewer may read; there is a poster all the same."""
    located = await stored(tools, make_video.instance(tmp_path / "video.dcm", clip, container))
    async with working(tools):
        found = await outcome(tools, located)
        shown = await outcome(tools, located, "poster")
    assert found.state == "failed"
    assert reason in (found.error or "")
    assert shown.state == "ready"


async def test_one_bad_video_stops_no_other(tmp_path: Path, tools: Tools) -> None:
    """An object that is gone fails its own rendition; the next is made."""
    lost = await stored(tools, make_video.instance(tmp_path / "lost.dcm", CLIP))
    await tools.storage.delete(lost.key)
    kept = await stored(tools, make_video.instance(tmp_path / "kept.dcm", CLIP))
    async with working(tools):
        assert (await outcome(tools, kept)).state == "ready"
        found = await outcome(tools, lost)
    assert found.state == "failed"
    assert "could not be made" in (found.error or "")


async def test_a_poster_is_a_rendition_of_its_own(tmp_path: Path, tools: Tools) -> None:
    """One JPEG that is the whole rendition."""
    located = await stored(tools, make_video.instance(tmp_path / "video.dcm", CLIP, fragment_size=4096))
    async with working(tools):
        found = await outcome(tools, located, "poster")
    assert (found.state, found.media_type) == ("ready", "image/jpeg")
    assert found.layout == (Span("rendition", 0, found.size or 0),)
    assert found.key
    own = await read_all(tools.storage, Extents([Extent(found.key, 0, found.size or 0)]))
    assert hashlib.sha256(own).digest() == found.sha256
    assert own.startswith(b"\xff\xd8\xff")


async def test_a_video_without_pictures_has_no_poster(tmp_path: Path, tools: Tools) -> None:
    (tmp_path / "noise").write_bytes(b"\0\0\0\1" + bytes(range(256)) * 100)
    located = await stored(
        tools, make_video.wrap(tmp_path / "video.dcm", tmp_path / "noise", make_video.H264)
    )
    async with working(tools):
        found = await outcome(tools, located, "poster")
    assert (found.state, found.error) == ("failed", "No picture of the video can be decoded.")


async def test_a_killed_decoder_fails_its_poster_alone(
    tmp_path: Path, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ends it (a full memory, an administrator), the row says so in the end, and the next one is made."""
    started, doomed = confined._started, 1

    async def start(
        task: confined.Task, limits: confined.Limits, pipes: confined._Pipes
    ) -> asyncio.subprocess.Process:
        nonlocal doomed
        child = await started(task, limits, pipes)
        if doomed and task.name == "poster":
            child.kill()
            doomed -= 1
        return child

    monkeypatch.setattr(confined, "_started", start)
    first = await stored(tools, make_video.instance(tmp_path / "first.dcm", CLIP))
    second = await stored(tools, make_video.instance(tmp_path / "second.dcm", CLIP))
    async with working(tools):
        assert (await outcome(tools, second, "poster")).state == "ready"
        found = await outcome(tools, first, "poster")
        assert (await outcome(tools, first)).state == "ready"
    assert found.state == "failed"
    assert "could not be made" in (found.error or "")


async def test_new_work_is_taken_up_at_once(tmp_path: Path, tools: Tools) -> None:
    """Whoever has just looked in vain hears of a video that is stored then."""
    made = make_video.instance(tmp_path / "video.dcm", CLIP)
    async with working(tools, poll_s=60):
        await asyncio.sleep(0.3)
        located = await stored(tools, made)
        began = asyncio.get_running_loop().time()
        assert (await outcome(tools, located)).state == "ready"
        assert asyncio.get_running_loop().time() - began < 30  # who hears of nothing looks again after 60


async def test_a_job_that_ends_its_makers_is_given_up(tmp_path: Path, tools: Tools) -> None:
    """A crash loop ends: the row fails when it was leased too often, and the other work goes on."""
    located = await stored(tools, make_video.instance(tmp_path / "video.dcm", CLIP))
    for _ in range(2):
        assert await renditions.lease(tools.index, ["mp4"], 0)
        await asyncio.sleep(0.01)
    async with working(tools, attempts=2):
        found = await outcome(tools, located)
        assert (await outcome(tools, located, "poster")).state == "ready"
    assert found.state == "failed"
    assert "did not survive" in (found.error or "")
