"""The table is the queue: one maker at a time, nothing lost when it dies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.dicom.scanner import Pixels
from app.extent import Span
from app.index import Index, extents, renditions
from app.index.connection import Connection
from tests.index import scans

MP4 = Pixels("7FE00010", "OB", 500, 100, 1, 0, b"\0" * 16, b"", 92, "mp4")
LAYOUT = [Span("rendition", 0, 40), Span("stream", 100, 1 << 40)]


@pytest.fixture
async def video(index: Index) -> int:
    await scans.add(index, scans.scan(sop="1.9", syntax=scans.MP4_SYNTAX, pixels=MP4))
    return (await extents.instance(index, "1.2.3", "1.2.3.4", "1.9")).instance_id


async def test_a_rendition_is_made_once(index: Index, video: int, sql: Connection) -> None:
    """Of many who ask one gets the job; ready, it tells what was made, and the series has a new version."""
    before = await sql.fetchval("select version from series")
    jobs = [await renditions.lease(index, ["mp4"], 30) for _ in range(3)]
    job = jobs[0]
    assert job
    assert jobs[1:] == [None, None]
    assert job.located.sop_instance_uid == "1.9"
    assert await renditions.progress(index, job, 0.5, 30)
    found = await renditions.find(index, video, "mp4")
    assert found
    assert (found.state, found.progress) == ("running", 0.5)
    assert await renditions.finish(index, job, "renditions/1", 40, LAYOUT, "video/mp4", b"digest")
    found = await renditions.find(index, video, "mp4")
    assert found
    assert (found.state, found.key, found.size, found.media_type) == (
        "ready",
        "renditions/1",
        40,
        "video/mp4",
    )
    assert found.layout == tuple(LAYOUT)
    assert await sql.fetchval("select version from series") == before + 1
    assert await renditions.lease(index, ["mp4"], 30) is None


@pytest.mark.parametrize("is_made", [True, False])
async def test_a_stream_is_described_after_its_mp4(index: Index, video: int, *, is_made: bool) -> None:
    """What was found on the way to the MP4 need not be looked for again; one that failed is not waited for."""
    assert await renditions.lease(index, ["stream"], 30) is None
    job = await renditions.lease(index, ["mp4"], 30)
    assert job
    assert await renditions.lease(index, ["stream"], 30) is None
    if is_made:
        assert await renditions.finish(index, job, "renditions/1", 40, LAYOUT, "video/mp4", b"digest")
    else:
        assert await renditions.fail(index, job, "It is MPEG-2.", final=True)
    described = await renditions.lease(index, ["stream"], 30)
    assert described
    assert described.located.instance_id == video


async def test_who_lost_the_lease_changes_nothing(index: Index, video: int, sql: Connection) -> None:
    """A maker that fell silent is replaced, and what it says later is refused."""
    late = await renditions.lease(index, ["mp4"], 0)
    await asyncio.sleep(0.01)
    job = await renditions.lease(index, ["mp4"], 30)
    assert late
    assert job
    assert job.attempt == late.attempt + 1
    version = await sql.fetchval("select version from series")
    assert not await renditions.progress(index, late, 1, 30)
    assert not await renditions.finish(index, late, "renditions/late", 1, [], "video/mp4", b"")
    assert not await renditions.fail(index, late, "late", final=True)
    assert await sql.fetchval("select version from series") == version
    assert await renditions.finish(index, job, "renditions/1", 40, LAYOUT, "video/mp4", b"digest")


async def test_a_failure_comes_again_later_or_never(index: Index, video: int, sql: Connection) -> None:
    job = await renditions.lease(index, ["mp4"], 30)
    assert job
    assert await renditions.fail(index, job, "full disk", final=False)
    found = await renditions.find(index, video, "mp4")
    assert found
    assert (found.state, found.error) == ("queued", "full disk")
    assert await renditions.lease(index, ["mp4"], 30) is None
    await sql.execute("update rendition set lease_until = now()")
    job = await renditions.lease(index, ["mp4"], 30)
    assert job
    assert await renditions.fail(index, job, "no moov", final=True)
    found = await renditions.find(index, video, "mp4")
    assert found
    assert (found.state, found.error) == ("failed", "no moov")
    assert await renditions.lease(index, ["mp4"], 30) is None


async def test_only_kinds_that_one_can_make(index: Index, video: int) -> None:
    assert await renditions.lease(index, ["another"], 30) is None


async def test_who_waits_hears_when_it_is_ready(index: Index, video: int) -> None:
    """Soon after; who waits too short is told how far it is; of nothing there is nothing to wait for."""
    found = await renditions.wait(index, video, "mp4", 0.05)
    assert found
    assert found.state == "queued"
    assert await renditions.wait(index, video, "another", 1) is None
    job = await renditions.lease(index, ["mp4"], 30)
    assert job
    waiting = asyncio.create_task(renditions.wait(index, video, "mp4", 10))
    await asyncio.sleep(0.05)
    await renditions.finish(index, job, "renditions/1", 40, LAYOUT, "video/mp4", b"digest")
    async with asyncio.timeout(2):
        found = await waiting
    assert found
    assert found.state == "ready"


async def test_where_somebody_listens_who_waits_is_told_at_once(
    index: Index, video: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renditions, "_SELDOM_S", 60.0)
    job = await renditions.lease(index, ["mp4"], 30)
    assert job
    begun = index.changes.next
    index.changes.start()
    async with asyncio.timeout(20):
        await begun.wait()
        waiting = asyncio.create_task(renditions.wait(index, video, "mp4", 60))
        await asyncio.sleep(0.1)
        await renditions.finish(index, job, "renditions/1", 40, LAYOUT, "video/mp4", b"digest")
        found = await waiting
    await index.changes.close()
    assert found
    assert found.state == "ready"


async def test_an_archive_that_changes_all_the_time_is_looked_at_as_seldom_as_ever(
    index: Index, video: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many may wait, and each change is told to all of them."""
    looks, find = 0, renditions.find

    async def counted(*asked: Any) -> renditions.Rendition | None:
        nonlocal looks
        looks += 1
        return await find(*asked)

    async def change() -> None:
        while True:
            index.changes.happened()
            await asyncio.sleep(0.005)

    monkeypatch.setattr(renditions, "find", counted)
    index.changes.start()
    changing = asyncio.create_task(change())
    found = await renditions.wait(index, video, "mp4", 2)
    changing.cancel()
    await index.changes.close()
    assert found
    assert found.state == "queued"
    assert looks <= 14


async def test_a_new_video_hurries_the_maker(index: Index) -> None:
    """Whoever listens hears of it, however often it said that it listens, and nothing of a still image."""
    heard = asyncio.Queue[str]()

    def hear(_connection: object, _pid: int, channel: str, _payload: object) -> None:
        heard.put_nowait(channel)

    for _ in range(2):
        await renditions.listen(index, hear)
    await scans.add(index, scans.scan())
    await scans.add(index, scans.scan(syntax=scans.MP4_SYNTAX, pixels=MP4))
    async with asyncio.timeout(5):
        await heard.get()
    await renditions.lease(
        index, ["mp4"], 30
    )  # an answer on the same connection: more would have come before
    assert heard.empty()


async def test_what_ends_its_makers_is_made_no_more(index: Index, video: int) -> None:
    """A rendition whose makers never came back fails at the next lease, and stands in nobody's way."""
    for _ in range(2):
        assert await renditions.lease(index, ["mp4"], 0, attempts=2)
        await asyncio.sleep(0.01)
    await scans.add(index, scans.scan(sop="1.10", syntax=scans.MP4_SYNTAX, pixels=MP4))
    job = await renditions.lease(index, ["mp4"], 30, attempts=2)
    assert job
    assert job.located.sop_instance_uid == "1.10"
    found = await renditions.find(index, video, "mp4")
    assert found
    assert found.state == "failed"
    assert "did not survive" in (found.error or "")


async def test_a_poster_changes_no_metadata(index: Index, video: int, sql: Connection) -> None:
    """Every video wants one beside its MP4; the series' version stays when it is ready."""
    version = await sql.fetchval("select version from series")
    job = await renditions.lease(index, ["poster"], 30)
    assert job
    assert await renditions.finish(index, job, "renditions/2", 40, LAYOUT, "image/jpeg", b"digest")
    found = await renditions.find(index, video, "poster")
    assert found
    assert found.state == "ready"
    assert await sql.fetchval("select version from series") == version


async def test_what_was_not_asked_for_is_queued_once(index: Index, video: int, sql: Connection) -> None:
    """As for an instance that an older version stored."""
    await sql.execute("delete from rendition where kind = 'poster'")
    assert await renditions.find(index, video, "poster") is None
    await asyncio.gather(*(renditions.queue(index, video, "poster") for _ in range(3)))
    assert await sql.fetchval("select count(*) from rendition where kind = 'poster'") == 1


async def test_renditions_go_with_their_instance(index: Index, video: int, sql: Connection) -> None:
    await sql.execute("delete from instance")
    assert await renditions.find(index, video, "mp4") is None
