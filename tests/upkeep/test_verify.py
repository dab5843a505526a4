"""What is not as it should be is found and named; what can be mended is, and nothing is removed in haste."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app import store
from app.index.connection import Connection
from app.index.extents import instances
from app.index.located import Located
from app.storage import keys
from app.storage.protocol import put
from app.tools import Tools
from app.upkeep import reindex, sweep, verify
from app.upkeep.findings import Finding, Report
from app.upkeep.objects import Pace
from app.upkeep.verify import Wishes
from tests import make
from tests.index import rows
from tests.upkeep_tools import send
from tests.upkeep_tools import tools as opened_tools

STUDY = "1.1"


@pytest.fixture
async def tools(database: str, memory: Path) -> AsyncIterator[Tools]:
    """Six instances of one study in two series."""
    async with opened_tools(database, memory) as tools:
        for number in range(6):
            uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"1.2.{number % 2}"}
            await send(tools, make.instance(**uids, SOPInstanceUID=f"1.3.{number}"))
        yield tools


async def found(tools: Tools, **wishes: Any) -> list[Finding]:
    some: list[Finding] = []
    await verify.run(tools, Wishes(**wishes), Report(some.append))
    return some


async def located(tools: Tools) -> list[Located]:
    return [one async for page in instances(tools.index, STUDY) for one in page]


async def test_all_is_well(tools: Tools) -> None:
    """Also while an upload is on its way, after deletes, and after a sweep."""
    assert not await found(tools)
    async with tools.storage.upload(await tools.index.pending.take()) as upload:
        await upload.write(b"on its way")
    await store.remove(tools, STUDY, "1.2.0", "1.3.0")
    assert not await found(tools)
    assert not await found(tools, quick=True)
    await sweep.once(tools, sweep.Knobs())
    assert not await found(tools)


async def test_objects_that_are_missing_short_or_changed_are_named(tools: Tools, memory: Path) -> None:
    """By key and UID; nothing can mend them, and nothing is removed. Quick finds what is not the same length."""
    missing, short, changed, prefix, *_ = await located(tools)
    (memory / missing.key).unlink()
    content = (memory / short.key).read_bytes()
    (memory / short.key).write_bytes(content[:-1])
    for one, at in ((changed, -1), (prefix, 5)):
        damaged = bytearray((memory / one.key).read_bytes())
        damaged[at] ^= 1
        (memory / one.key).write_bytes(damaged)
    expected = {("missing", missing), ("different", short)}
    assert set(await found(tools, quick=True)) == {_finding(*one) for one in expected}
    expected |= {("different", changed), ("different", prefix)}
    for _ in range(2):
        assert set(await found(tools, repair=True)) == {_finding(*one) for one in expected}


def _finding(what: str, one: Located) -> Finding:
    return Finding(what, one.key, one.sop_instance_uid)


async def test_a_lost_row_comes_back(tools: Tools, sql: Connection) -> None:
    """An acknowledged object without a row is told, and given its row again."""
    before = await rows.told(sql)
    lost, *_ = await located(tools)
    await sql.execute("delete from instance where id = $1", lost.instance_id)
    assert ("no row", lost.key, False) in [(one.what, one.key, one.repaired) for one in await found(tools)]
    assert all(one.repaired for one in await found(tools, repair=True))
    assert all(one.repaired for one in await found(tools, repair=True))  # counters: lost by hand above
    assert not await found(tools)
    assert await rows.told(sql) == before


async def test_counters_and_descriptions_are_mended(tools: Tools, sql: Connection) -> None:
    before = await rows.told(sql)
    await sql.execute(
        "update study set number_of_instances = 99, described_by = '1.3.4', patient_id = 'wrong'"
    )
    await sql.execute("update series set number_of_instances = 0, modality = 'wrong', described_by = '1.3.9'")
    assert await found(tools) == [Finding("miscounted", STUDY)]
    assert await found(tools, repair=True) == [Finding("miscounted", STUDY, repaired=True)]
    assert not await found(tools)
    assert await rows.told(sql) == before


async def test_a_row_without_a_record_is_told_to_the_journal(
    tools: Tools, sql: Connection, memory: Path
) -> None:
    """So that it is not lost with the database."""
    await sql.execute("delete from journal")
    await sql.execute("update instance set stored_at = now() - interval '1 hour'")
    for record in (memory / "journal").rglob("*"):
        if record.is_file():
            record.unlink()
    told = await found(tools)
    assert {one.what for one in told} == {"not in the journal", "never acknowledged"} or {
        one.what for one in told
    } == {"not in the journal"}
    assert len(await found(tools, repair=True)) == 6
    assert not await found(tools)


async def test_what_nobody_points_at_is_told(tools: Tools, sql: Connection) -> None:
    """What can be made again or was removed goes, by the sweeper; what was never acknowledged stays."""
    strange, made = keys.new(), keys.rendition()
    for key in (strange, made):
        await put(tools.storage, key, b"strange")
    gone, *_ = await located(tools)
    await store.remove(tools, STUDY, gone.series_instance_uid, gone.sop_instance_uid)
    await sql.execute("delete from removed")
    told = {
        Finding("never acknowledged", strange),
        Finding("left over", made),
        Finding("left over", gone.key),
    }
    assert set(await found(tools)) == told
    assert {one.what for one in await found(tools, repair=True) if one.repaired} == {"left over"}
    await sweep.once(tools, sweep.Knobs(grace_s=0))
    assert await found(tools) == [Finding("never acknowledged", strange)]


async def test_what_was_never_acknowledged_is_adopted_or_dropped_when_it_is_wished(
    tools: Tools, sql: Connection, memory: Path, database: str
) -> None:
    """Told only, first. Adopted it is an instance like others, also for a reindex; another's UID is never taken."""
    held = await located(tools)
    new, rival = make.instance(SOPInstanceUID="1.3.99"), make.instance(SOPInstanceUID="1.3.0")
    strange = {}
    for name, content in {"new": new, "rival": rival, "junk": b"junk"}.items():
        strange[name] = (await put(tools.storage, keys.new(), content)).key
    told = {Finding("never acknowledged", key) for key in strange.values()}
    assert set(await found(tools, repair=True)) == told
    assert set(await found(tools, unacknowledged="adopt")) == {
        Finding("never acknowledged", strange["new"], "1.3.99", repaired=True),
        Finding("never acknowledged", strange["rival"], "1.3.0"),
        Finding("unreadable", strange["junk"]),
    }
    assert (
        await sql.fetchval("select object_key from instance where sop_instance_uid = '1.3.99'")
        == strange["new"]
    )
    assert (
        await sql.fetchval("select object_key from instance where sop_instance_uid = '1.3.0'") == held[0].key
    )
    before = await rows.told(sql)
    await sql.execute(rows.EMPTY)
    async with opened_tools(database, memory, rebuilds=True) as again:
        await reindex.from_storage(again, Report(), Pace())
    assert await rows.told(sql) == before
    dropped = await found(tools, unacknowledged="drop")
    assert {(one.key, one.repaired) for one in dropped} == {(strange["rival"], True), (strange["junk"], True)}
    await sweep.once(tools, sweep.Knobs(grace_s=0))
    assert not await found(tools)


async def test_it_goes_on_where_it_was_cut_short(tools: Tools, sql: Connection) -> None:
    """Instances that were looked at are not read again; the next run begins anew."""
    last = await sql.fetchval("select max(id) from instance")
    await sql.execute("insert into upkeep (name, position) values ('verify', $1)", str(last - 2))
    done: list[int] = []
    for expected in (2, 6):
        done.clear()
        await verify.run(tools, Wishes(quick=True), Report(advance=lambda count, _: done.append(count)))
        assert done == [expected]


async def test_it_reads_no_faster_than_asked(tools: Tools) -> None:
    size = sum(one.size for one in await located(tools))
    began = time.monotonic()
    await verify.run(tools, Wishes(rate=size * 2), Report())
    assert time.monotonic() - began > 0.4


async def test_only_one_at_a_time(tools: Tools, database: str, memory: Path) -> None:
    """A second one says so instead of taking the first one's place."""
    async with opened_tools(database, memory) as other:
        slow = asyncio.create_task(verify.run(tools, Wishes(rate=2000), Report()))
        await asyncio.sleep(0.3)
        with pytest.raises(Exception, match="at work"):
            await verify.run(other, Wishes(), Report())
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
