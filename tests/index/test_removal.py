"""What is deleted or replaced is gone everywhere, and what is left is told as if nothing else had ever come."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import index as index_tool
from app.errors import NotFound
from app.index import Index, Knobs, Outcome, extents, journal, metadata, removal, renditions
from app.index.connection import Connection
from app.storage import keys
from tests.index import rows, scans
from tests.index.scans import element, name

STUDIES = ("1.1", "1.2")
CHOICES = st.lists(
    st.tuples(
        st.sampled_from(["store", "store", "store", "delete", "delete series", "delete study"]),
        st.integers(0, 5),  # which SOP Instance UID
        st.integers(0, 3),  # in which series of which study
        st.integers(0, 2),  # what it says
    ),
    max_size=14,
)


def _scan(sop: int, place: int, says: int) -> Any:
    elements = {
        "PatientName": name(f"Name{says}"),
        "StudyDate": element("DA", f"2026010{1 + says}"),
        "Modality": element("CS", ("CT", "MR", "SR")[says]),
        "SeriesNumber": element("IS", says),
        "InstanceNumber": element("IS", sop),
        "StudyDescription": element("LO", f'Ä "quoted" {says}'),
    }
    return scans.scan(elements, study=STUDIES[place // 2], series=f"2.{place % 2}", sop=f"3.{sop}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choices=CHOICES)
async def test_rows_are_a_function_of_what_is_left(
    database: str, sql: Connection, choices: list[tuple[str, int, int, int]]
) -> None:
    """After any stores, replaces and deletes the index equals one that only ever saw what is left."""
    await sql.execute(rows.EMPTY)
    left: dict[int, tuple[int, int]] = {}
    async with index_tool.opened(database, keys.new, Knobs(readers=2, replaces=True)) as index:
        for act, sop, place, says in choices:
            if act == "store":
                one = _scan(sop, place, says)
                content = f"{sop} {place} {says}".encode()
                expected = Outcome.SAME if left.get(sop) == (place, says) else Outcome.STORED
                assert await scans.add(index, one, content) is expected
                left[sop] = place, says
            else:
                await _delete(index, act, sop, place, left)
        after = await rows.told(sql, "object_key", "stored_at")
        await sql.execute("delete from study")
        for sop, (place, says) in sorted(left.items(), reverse=True):
            await scans.add(index, _scan(sop, place, says), f"{sop} {place} {says}".encode())
    assert after == await rows.told(sql, "object_key", "stored_at")


async def _delete(index: Index, act: str, sop: int, place: int, left: dict[int, tuple[int, int]]) -> None:
    """Delete at some address, there or not, and expect what a dictionary does."""
    study, series = STUDIES[place // 2], f"2.{place % 2}"
    if act == "delete study":
        address: tuple[str, ...] = (study,)
        gone = [one for one, (at, _) in left.items() if at // 2 == place // 2]
    elif act == "delete series":
        address = study, series
        gone = [one for one, (at, _) in left.items() if at == place]
    else:
        address = study, series, f"3.{sop}"
        gone = [one for one, (at, _) in left.items() if at == place and one == sop]
    if gone:
        assert await removal.remove(index, *address) == len(gone)
    else:
        with pytest.raises(NotFound):
            await removal.remove(index, *address)
    for one in gone:
        del left[one]


async def test_each_level_is_described_by_its_own_first(index: Index, sql: Connection) -> None:
    """The next of the study need not be the next of the series."""
    for sop in range(12):
        await scans.add(index, _scan(sop, sop % 2, sop % 3))
    for sop in range(0, 10, 2):
        await removal.remove(index, STUDIES[0], "2.0", f"3.{sop}")
        expected = await sql.fetchval("select min(sop_instance_uid) from instance")
        assert await sql.fetchval("select described_by from study") == expected
        wrong = """select count(*) from series r where described_by <> (
            select min(sop_instance_uid) from instance i where i.series_id = r.id)"""
        assert await sql.fetchval(wrong) == 0


async def test_all_that_hangs_on_an_instance_goes_with_it(index: Index, sql: Connection) -> None:
    """Rows and metadata at once; the objects of instance and rendition are marked to be removed."""
    await scans.add(index, scans.scan(sop="1.9", syntax=scans.MP4_SYNTAX, pixels=scans.VIDEO))
    job = await renditions.lease(index, ["mp4"], 60)
    assert job is not None
    made = keys.rendition()
    assert await renditions.finish(index, job, made, 5, (), "video/mp4", b"")
    document = await metadata.series(index, "1.2.3", "1.2.3.4", "http://here")
    before = await extents.instance(index, "1.2.3", "1.2.3.4", "1.9")
    await removal.remove(index, "1.2.3", "1.2.3.4", "1.9")
    with pytest.raises(NotFound):
        await metadata.series(index, "1.2.3", "1.2.3.4", "http://here")
    assert b"".join([piece async for piece in document.identity()])  # who began before ends well
    assert all(not table for table in (await rows.told(sql)).values())
    assert {row[0] for row in await sql.fetch("select key from removed")} == {before.key, made}
    assert await sql.fetchval("select count(*) from rendition") == 0


async def test_a_rendition_that_comes_too_late_is_refused(index: Index) -> None:
    """Its instance was deleted while it was made."""
    await scans.add(index, scans.scan(sop="1.9", syntax=scans.MP4_SYNTAX, pixels=scans.VIDEO))
    job = await renditions.lease(index, ["mp4"], 60)
    assert job is not None
    await removal.remove(index, "1.2.3")
    assert not await renditions.finish(index, job, keys.rendition(), 5, (), "video/mp4", b"")


async def test_a_series_of_which_one_is_left_has_other_metadata(index: Index) -> None:
    for number in range(3):
        await scans.add(index, scans.scan(sop=f"1.{number}"))
    before = await metadata.series(index, "1.2.3", "1.2.3.4", "http://here")
    await removal.remove(index, "1.2.3", "1.2.3.4", "1.1")
    after = await metadata.series(index, "1.2.3", "1.2.3.4", "http://here")
    assert before.etag != after.etag
    assert b'"1.1"' not in b"".join([piece async for piece in after.identity()])


async def test_two_servers_store_replace_and_delete_in_one_study(database: str, sql: Connection) -> None:
    """From 16 tasks on two servers: no deadlock, and every counter is exact."""
    knobs = Knobs(readers=2, replaces=True)
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    before = await sql.fetchval(deadlocks)
    async with (
        index_tool.opened(database, keys.new, knobs) as one,
        index_tool.opened(database, keys.new, knobs) as two,
    ):

        async def work(index: Index, seed: int) -> None:
            chance = random.Random(seed)
            for step in range(25):
                sop, place = chance.randrange(40), chance.randrange(2)
                if chance.random() < 0.7:
                    await scans.add(index, _scan(sop, place, step % 3), chance.randbytes(4))
                    continue
                address = [STUDIES[0], f"2.{place}", f"3.{sop}"][: chance.choice([1, 2, 3, 3, 3, 3])]
                try:
                    await removal.remove(index, *address)
                except NotFound:
                    continue

        await asyncio.gather(*(work((one, two)[seed % 2], seed) for seed in range(16)))
    await asyncio.sleep(0.6)  # the statistics' pace
    assert await sql.fetchval(deadlocks) == before
    wrong = """select count(*) from study s where number_of_instances <> (
        select count(*) from instance i where i.study_id = s.id) or number_of_series <> (
        select count(*) from series r where r.study_id = s.id) or described_by <> (
        select min(sop_instance_uid) from instance i where i.study_id = s.id)"""
    assert await sql.fetchval(wrong) == 0
    wrong = """select count(*) from series r where number_of_instances <> (
        select count(*) from instance i where i.series_id = r.id) or described_by <> (
        select min(sop_instance_uid) from instance i where i.series_id = r.id)"""
    assert await sql.fetchval(wrong) == 0
    live = {row[0] for row in await sql.fetch("select object_key from instance")}
    assert await _acknowledged(sql) == live


async def _acknowledged(sql: Connection) -> set[str]:
    """What the journal says is stored."""
    stored, removed = set[str](), set[str]()
    for row in await sql.fetch("select key, at, content from journal"):
        for some, gone in journal.parse(journal.Record(*row).line()):
            stored |= {one.stored.key for one in some}
            removed |= set(gone)
    return stored - removed


async def test_nobody_is_told_before_the_record_is_kept(database: str, sql: Connection) -> None:
    """Neither the one who stores nor the one who sends the same again, nor the one who deletes."""
    kept: list[str] = []
    gate = asyncio.Event()

    async def keep(key: str, line: bytes) -> None:
        await gate.wait()
        kept.append(key)

    async with index_tool.opened(database, keys.new, Knobs(), index_tool.Journal(keys.record, keep)) as index:
        first = asyncio.create_task(scans.add(index, scans.scan(sop="1.9"), b"a"))
        await _count(sql, 1)
        again = asyncio.create_task(scans.add(index, scans.scan(sop="1.9"), b"a"))
        await asyncio.sleep(0.2)
        assert not first.done()
        assert not again.done()
        gate.set()
        assert [await first, await again] == [Outcome.STORED, Outcome.SAME]
        gate.clear()
        other = asyncio.create_task(scans.add(index, scans.scan(sop="1.8"), b"b"))
        await _count(sql, 2)
        gone = asyncio.create_task(removal.remove(index, "1.2.3"))
        await _count(sql, 0)
        await asyncio.sleep(0.2)
        assert not other.done()
        assert not gone.done()
        gate.set()
        assert await other == Outcome.STORED
        assert await gone == 2
    assert set(kept) == {row[0] for row in await sql.fetch("select key from journal")}


async def _count(sql: Connection, expected: int) -> None:
    async with asyncio.timeout(10):
        while await sql.fetchval("select count(*) from instance") != expected:  # noqa: ASYNC110 - another session's
            await asyncio.sleep(0.02)


async def test_a_damaged_record_is_told(sql: Connection) -> None:
    """A record that is not what was written is never believed."""
    line = journal.Record("journal/1", await sql.fetchval("select now()"), journal.content((), ["a"])).line()
    assert [gone for _, gone in journal.parse(line)] == [["a"]]
    for damaged in (line[:-3] + b"\n", line.replace(b'"a"', b'"b"')):
        with pytest.raises(journal.Damaged):
            list(journal.parse(damaged))
