"""The sweeper removes what is nobody's, after the grace and by the database's clock, and nothing else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app import store
from app.errors import Refused
from app.index import metadata, renditions
from app.index.connection import Connection
from app.storage import keys
from app.storage.protocol import put
from app.tools import Tools
from app.upkeep import sweep
from tests import make
from tests.index import scans
from tests.upkeep_tools import files, send
from tests.upkeep_tools import tools as opened_tools

DAY = sweep.Knobs()


@pytest.fixture
async def tools(database: str, memory: Path) -> AsyncIterator[Tools]:
    async with opened_tools(database, memory) as tools:
        yield tools


async def later(sql: Connection, hours: int, *, uploads: bool = False) -> None:
    """Time passes for the database; keys that are reserved in advance stay young unless `uploads` age too."""
    await sql.execute("update removed set since = since - $1 * interval '1 hour'", hours)
    ages = "made_at = made_at - $1 * interval '1 hour', used_at = used_at - $1 * interval '1 hour'"
    await sql.execute(f"update series_metadata set {ages}", hours)
    if uploads:
        await sql.execute("update pending set started = started - $1 * interval '1 hour'", hours)


async def test_an_upload_that_died_is_swept_after_the_grace(
    tools: Tools, sql: Connection, memory: Path
) -> None:
    """Its object goes, and whoever still comes with it is refused: no row points at nothing."""
    key = await tools.index.pending.take()
    kept = await put(tools.storage, key, make.instance())
    await sweep.once(tools, DAY)
    assert files(memory, "objects") == {key}
    await later(sql, 25, uploads=True)
    done = await sweep.once(tools, DAY)
    assert (done["upload"], done["object"]) == (1, 1)
    assert not files(memory, "objects")
    with pytest.raises(Refused):
        await tools.index.committer.add(scans.scan(), kept)
    assert await sql.fetchval("select count(*) from instance") == 0


async def test_the_object_of_a_deleted_instance_goes_after_the_grace(
    tools: Tools, sql: Connection, memory: Path
) -> None:
    await send(tools, make.instance(StudyInstanceUID="1.1"))
    await send(tools, make.instance(StudyInstanceUID="1.2"))
    await store.remove(tools, "1.1")
    await later(sql, 23)
    await sweep.once(tools, DAY)
    assert len(files(memory, "objects")) == 2
    await later(sql, 2)
    assert (await sweep.once(tools, DAY))["object"] == 1
    assert files(memory, "objects") == {await sql.fetchval("select object_key from instance")}


async def _made(tools: Tools, uid: str, size: int) -> str:
    """A video whose header is made; its key."""
    await scans.add(tools.index, scans.scan(sop=uid, syntax=scans.MP4_SYNTAX, pixels=scans.VIDEO))
    job = await renditions.lease(tools.index, ["mp4"], 60)
    assert job is not None
    key = await tools.index.pending.reserve(keys.rendition())
    kept = await put(tools.storage, key, bytes(size))
    assert await renditions.finish(
        tools.index, job, kept.key, kept.size, (), "video/mp4", kept.dataset_sha256
    )
    return key


async def test_over_quota_what_is_unused_for_longest_goes(
    tools: Tools, sql: Connection, memory: Path
) -> None:
    """It is not found any more at once, its object goes after the grace, and it can be asked for again."""
    made = [await _made(tools, f"1.{number}", 100) for number in range(4)]
    for number, key in enumerate((made[2], made[0], made[3], made[1])):
        await sql.execute(
            "update rendition set used_at = now() - $2 * interval '1 day' where object_key = $1",
            key,
            9 - number,
        )
    done = await sweep.once(tools, sweep.Knobs(quota=250))
    assert done["rendition"] == 2
    ready = {row[0] for row in await sql.fetch("select object_key from rendition where state = 'ready'")}
    assert ready == {made[3], made[1]}
    assert files(memory, "renditions") == set(made)
    await later(sql, 25)
    await sweep.once(tools, sweep.Knobs(quota=250))
    assert files(memory, "renditions") == {made[3], made[1]}
    assert not (await sweep.once(tools, sweep.Knobs(quota=250)))["rendition"]


async def test_what_is_used_stays(tools: Tools, sql: Connection) -> None:
    """Its use is noted once in a while, not with every request."""
    await _made(tools, "1.1", 100)
    await sql.execute("update rendition set used_at = now() - interval '2 hours'")
    instance_id = await sql.fetchval("select id from instance")
    found = await renditions.find(tools.index, instance_id, "mp4")
    assert found is not None
    assert found.is_rested
    await renditions.use(tools.index, found)
    again = await renditions.find(tools.index, instance_id, "mp4")
    assert again is not None
    assert not again.is_rested


async def test_cached_metadata_counts_under_the_quota(tools: Tools, sql: Connection) -> None:
    """Whatever address it is kept for; it is made again when it is asked for."""
    await send(tools, make.instance(StudyInstanceUID="1.1"))
    for root in ("http://here", "http://there"):
        await metadata.study(tools.index, "1.1", root)
    await sql.execute("update series_metadata set used_at = now() - interval '1 hour' where root ~ 'there'")
    size = await sql.fetchval("select max(octet_length(gzip)) from series_metadata")
    await sweep.once(tools, sweep.Knobs(quota=size))
    assert [row[0] for row in await sql.fetch("select root from series_metadata")] == ["http://here"]
    await sweep.once(tools, sweep.Knobs(quota=1))
    assert not await sql.fetchval("select count(*) from series_metadata")
    await metadata.study(tools.index, "1.1", "http://here")


async def test_metadata_of_a_deleted_series_goes(tools: Tools, sql: Connection) -> None:
    """After those who read it have ended."""
    await send(tools, make.instance(StudyInstanceUID="1.1", SeriesInstanceUID="1.2"))
    await metadata.study(tools.index, "1.1", "http://here")
    await store.remove(tools, "1.1")
    assert not (await sweep.once(tools, DAY))["metadata"]
    await later(sql, 1)
    assert (await sweep.once(tools, DAY))["metadata"] == 1
    assert await sql.fetchval("select count(*) from series_metadata") == 0


async def test_unfinished_uploads_of_the_dead_go(tools: Tools, memory: Path) -> None:
    """Not those that are written to, whatever the process's clock says."""
    stale, fresh = memory / "tmp" / "stale", memory / "tmp" / "fresh"
    for path in (stale, fresh):
        path.write_bytes(b"part")
    past = stale.stat().st_mtime - 4000
    os.utime(stale, (past, past))
    assert (await sweep.once(tools, DAY))["temporary file"] == 1
    assert fresh.exists()
    assert not stale.exists()


async def test_two_sweepers_take_turns(database: str, tools: Tools, sql: Connection, memory: Path) -> None:
    """Each object is removed once, and neither waits for the other."""
    for number in range(8):
        await send(tools, make.instance(StudyInstanceUID=f"1.{number}"))
        await store.remove(tools, f"1.{number}")
    await later(sql, 25)
    async with opened_tools(database, memory) as other:
        done = await asyncio.gather(*(sweep.once(one, DAY) for one in (tools, other)))
        done.append(await sweep.once(tools, DAY))
    assert sum(one["object"] for one in done) == 8
    assert not files(memory, "objects")
